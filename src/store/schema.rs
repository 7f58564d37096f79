//! The tables, and how a file of an older version comes to have them.

use rusqlite::Connection;

use super::error::StoreError;

/// What brings a file from each version to the next. `PRAGMA user_version` counts them.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY,
        -- Unix time, milliseconds.
        at INTEGER NOT NULL,
        action TEXT NOT NULL,
        room TEXT NOT NULL,
        outcome TEXT NOT NULL,
        -- Who, to whom and from where, as JSON; null once it was deleted.
        person TEXT,
        -- Drawn for each entry, so that its hash tells nothing of a person that was deleted.
        salt BLOB,
        person_hash BLOB NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    CREATE TABLE room (
        name TEXT PRIMARY KEY,
        empty_timeout INTEGER,
        departure_timeout INTEGER,
        max_participants INTEGER,
        metadata TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE meeting (
        sid TEXT PRIMARY KEY,
        room TEXT NOT NULL,
        started INTEGER NOT NULL,
        ended INTEGER,
        present INTEGER NOT NULL DEFAULT 0,
        peak INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX meeting_started ON meeting (started);
    CREATE TABLE attendance (
        participant TEXT PRIMARY KEY,
        meeting TEXT NOT NULL REFERENCES meeting (sid) ON DELETE CASCADE,
        -- Null once the person's data was deleted.
        identity TEXT,
        joined INTEGER NOT NULL,
        left INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX attendance_meeting ON attendance (meeting);
"];

/// Brings a file to this version.
pub(super) fn migrate(connection: &Connection) -> Result<(), StoreError> {
    let version = check(connection)?;
    for (index, step) in MIGRATIONS.iter().enumerate().skip(version) {
        let next = index + 1;
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {step} PRAGMA user_version = {next}; COMMIT;"
        ))?;
    }
    Ok(())
}

/// The version of a file.
pub(super) fn check(connection: &Connection) -> Result<usize, StoreError> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    usize::try_from(version)
        .ok()
        .filter(|&version| version <= MIGRATIONS.len())
        .ok_or(StoreError::Newer(version))
}
