//! Rooms that were made by request: they are there again after a restart.

use rusqlite::{Connection, params};

use super::error::StoreError;

/// A room and what was asked of it; what was not said is left to the server's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptRoom {
    /// Its name.
    pub name: String,
    /// Seconds after which it ends when nobody has joined.
    pub empty_timeout: Option<u32>,
    /// Seconds after which it ends when everybody has left.
    pub departure_timeout: Option<u32>,
    /// Participants that it takes.
    pub max_participants: Option<u32>,
    /// Its metadata.
    pub metadata: Option<String>,
}

/// All rooms, in the order of their names.
///
/// # Errors
/// When the store cannot be read.
pub fn all(connection: &Connection) -> Result<Vec<KeptRoom>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT name, empty_timeout, departure_timeout, max_participants, metadata \
         FROM room ORDER BY name",
    )?;
    let rooms = statement.query_map([], |row| {
        Ok(KeptRoom {
            name: row.get(0)?,
            empty_timeout: row.get(1)?,
            departure_timeout: row.get(2)?,
            max_participants: row.get(3)?,
            metadata: row.get(4)?,
        })
    })?;
    Ok(rooms.collect::<Result<_, _>>()?)
}

/// Keeps a room. What is not said of one that is kept already stays.
pub(super) fn keep(connection: &Connection, room: &KeptRoom) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT INTO room VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO UPDATE SET \
             empty_timeout = coalesce(excluded.empty_timeout, empty_timeout), \
             departure_timeout = coalesce(excluded.departure_timeout, departure_timeout), \
             max_participants = coalesce(excluded.max_participants, max_participants), \
             metadata = coalesce(excluded.metadata, metadata)",
        )?
        .execute(params![
            room.name,
            room.empty_timeout,
            room.departure_timeout,
            room.max_participants,
            room.metadata,
        ])?;
    Ok(())
}

pub(super) fn forget(connection: &Connection, name: &str) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached("DELETE FROM room WHERE name = ?1")?
        .execute([name])?;
    Ok(())
}
