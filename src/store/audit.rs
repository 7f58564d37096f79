//! The audit log: who did what to whom, when, and from where.
//!
//! Each entry carries a hash over the one before it and over itself (a hash chain), so that an entry
//! that was changed, taken out or put in is found. The persons are covered by a salted hash of their
//! own: their names can be deleted, and the chain still verifies.

use std::io::Write;

use aws_lc_rs::digest::{Context, SHA256};
use rand::Rng;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::error::StoreError;

/// Bytes of a hash.
const HASH: usize = 32;
/// The first entry's predecessor hash.
const START: [u8; HASH] = [0; HASH];
/// Longest text of an entry that is kept, bytes; longer ones are cut.
const MAX_TEXT: usize = 1_024;

/// One thing that somebody did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Unix time, milliseconds.
    pub at: i64,
    /// What was done, such as `RoomService.DeleteRoom`.
    pub action: String,
    /// The room it was done in.
    pub room: String,
    /// `ok`, or why it was not done.
    pub outcome: String,
    /// Who did it, to whom, from where.
    pub person: Person,
}

/// The part of an entry that tells persons.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Who did it: an API key, or an identity.
    pub actor: String,
    /// To whom: an identity; empty for a room as a whole.
    pub subject: String,
    /// The address that it came from.
    pub origin: String,
}

/// A log that verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Entries in it.
    pub entries: u64,
    /// The last entry's hash. A copy of it that is kept elsewhere shows later that no entry was
    /// cut off.
    pub head: [u8; HASH],
}

/// Where a log is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// An entry was changed, or the one before it was taken out or put in.
    #[error("the audit log is broken at entry {0}")]
    Broken(i64),
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for AuditError {
    fn from(error: rusqlite::Error) -> Self {
        AuditError::Store(error.into())
    }
}

/// Adds an entry. It counts when the transaction around it is committed.
pub(super) fn append(
    connection: &Connection,
    entry: &Entry,
    random: &mut impl Rng,
) -> Result<(), rusqlite::Error> {
    let last: Option<(i64, Vec<u8>)> = connection
        .prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (last, previous) = last.unwrap_or((0, START.to_vec()));
    let cut = |text: &str| text[..text.floor_char_boundary(MAX_TEXT)].to_owned();
    let person = Person {
        actor: cut(&entry.person.actor),
        subject: cut(&entry.person.subject),
        origin: cut(&entry.person.origin),
    };
    let person = serde_json::to_string(&person).unwrap_or_default();
    let mut salt = [0; 16];
    random.fill_bytes(&mut salt);
    let row = Row {
        seq: last + 1,
        at: entry.at,
        action: cut(&entry.action),
        room: cut(&entry.room),
        outcome: cut(&entry.outcome),
        person_hash: person_hash(&salt, &person).to_vec(),
    };
    connection
        .prepare_cached("INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
        .execute(params![
            row.seq,
            row.at,
            row.action,
            row.room,
            row.outcome,
            person,
            salt,
            row.person_hash,
            row.hash(&previous),
        ])?;
    Ok(())
}

/// What the chain covers of an entry.
struct Row {
    seq: i64,
    at: i64,
    action: String,
    room: String,
    outcome: String,
    person_hash: Vec<u8>,
}

impl Row {
    /// Every field behind its length, so that no two entries have the same bytes.
    fn hash(&self, previous: &[u8]) -> [u8; HASH] {
        let (seq, at) = (self.seq.to_be_bytes(), self.at.to_be_bytes());
        hash(&[
            previous,
            &seq,
            &at,
            self.action.as_bytes(),
            self.room.as_bytes(),
            self.outcome.as_bytes(),
            &self.person_hash,
        ])
    }
}

fn person_hash(salt: &[u8], person: &str) -> [u8; HASH] {
    hash(&[salt, person.as_bytes()])
}

fn hash(fields: &[&[u8]]) -> [u8; HASH] {
    let mut context = Context::new(&SHA256);
    for field in fields {
        context.update(&(field.len() as u64).to_be_bytes());
        context.update(field);
    }
    let mut hash = START;
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Reads the whole log and checks the chain.
///
/// # Errors
/// When it is broken, and where.
pub fn verify(connection: &Connection) -> Result<Verified, AuditError> {
    let mut statement = connection.prepare(
        "SELECT seq, at, action, room, outcome, person_hash, hash, person, salt \
         FROM audit ORDER BY seq",
    )?;
    let mut rows = statement.query([])?;
    let mut verified = Verified {
        entries: 0,
        head: START,
    };
    while let Some(row) = rows.next()? {
        let expected = verified.entries as i64 + 1;
        let broken = |_| AuditError::Broken(expected);
        let read = Row {
            seq: row.get(0).map_err(broken)?,
            at: row.get(1).map_err(broken)?,
            action: row.get(2).map_err(broken)?,
            room: row.get(3).map_err(broken)?,
            outcome: row.get(4).map_err(broken)?,
            person_hash: row.get(5).map_err(broken)?,
        };
        let stored: Vec<u8> = row.get(6).map_err(broken)?;
        let person: Option<String> = row.get(7).map_err(broken)?;
        let salt: Option<Vec<u8>> = row.get(8).map_err(broken)?;
        let person_is_whole = match (person, salt) {
            (Some(person), Some(salt)) => person_hash(&salt, &person)[..] == read.person_hash,
            (None, None) => true,
            _ => false,
        };
        let hash = read.hash(&verified.head);
        if read.seq != expected || stored != hash || !person_is_whole {
            return Err(AuditError::Broken(expected));
        }
        verified.entries += 1;
        verified.head = hash;
    }
    Ok(verified)
}

/// Writes the log as a JSON object a line.
///
/// # Errors
/// When it cannot be read, or `out` does not take it.
pub fn export(connection: &Connection, out: &mut impl Write) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare("SELECT seq, at, action, room, outcome, person FROM audit ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let person: Option<String> = row.get(5)?;
        let person = person.and_then(|person| serde_json::from_str::<Person>(&person).ok());
        let line = serde_json::json!({
            "seq": row.get::<_, i64>(0)?,
            "at": row.get::<_, i64>(1)?,
            "action": row.get::<_, String>(2)?,
            "room": row.get::<_, String>(3)?,
            "outcome": row.get::<_, String>(4)?,
            "person": person,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Deletes the names of a person from all entries. Gives how many there were.
///
/// # Errors
/// When the store refuses.
pub(super) fn forget(connection: &Connection, identity: &str) -> Result<usize, StoreError> {
    let count = connection.execute(
        "UPDATE audit SET person = NULL, salt = NULL \
         WHERE person ->> 'actor' = ?1 OR person ->> 'subject' = ?1",
        [identity],
    )?;
    Ok(count)
}
