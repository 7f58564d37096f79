//! The usage of meetings: who was in which for how long, and what that makes in a month.

use std::io::Write;

use rusqlite::{Connection, params};
use serde::Serialize;

use super::audit;
use super::error::StoreError;

/// Attendance facts of a meeting. Times are unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attendance {
    /// A room exists.
    Started { sid: String, room: String, at: i64 },
    /// A room is over.
    Ended { sid: String, at: i64 },
    /// A participant's media is up.
    Joined {
        meeting: String,
        participant: String,
        identity: String,
        at: i64,
    },
    /// A participant is gone.
    Left {
        meeting: String,
        participant: String,
        at: i64,
    },
}

/// The usage of one month, or of one room in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Usage {
    /// Such as `2026-11` (UTC).
    pub month: String,
    /// The room; empty for all rooms together.
    pub room: String,
    /// Meetings that began in it and that somebody attended.
    pub meetings: i64,
    /// Attendances: somebody who came twice counts twice.
    pub participants: i64,
    /// Sum of the minutes of all participants.
    pub participant_minutes: f64,
    /// Most participants of one meeting at a time.
    pub peak: i64,
    /// Minutes against the month before, per cent; none when that had none.
    pub growth: Option<f64>,
}

pub(super) fn note(
    connection: &Connection,
    attendance: &Attendance,
) -> Result<(), rusqlite::Error> {
    match attendance {
        Attendance::Started { sid, room, at } => {
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO meeting (sid, room, started) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![sid, room, at])?;
        }
        Attendance::Ended { sid, at } => {
            connection
                .prepare_cached("UPDATE meeting SET ended = ?2, present = 0 WHERE sid = ?1")?
                .execute(params![sid, at])?;
            connection
                .prepare_cached(
                    "UPDATE attendance SET left = ?2 WHERE meeting = ?1 AND left IS NULL",
                )?
                .execute(params![sid, at])?;
        }
        Attendance::Joined {
            meeting,
            participant,
            identity,
            at,
        } => {
            let is_new = connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO attendance (participant, meeting, identity, joined) \
                     SELECT ?1, sid, ?3, ?4 FROM meeting WHERE sid = ?2",
                )?
                .execute(params![participant, meeting, identity, at])?;
            connection
                .prepare_cached(
                    "UPDATE meeting SET present = present + ?2, \
                     peak = max(peak, present + ?2) WHERE sid = ?1",
                )?
                .execute(params![meeting, is_new as i64])?;
        }
        Attendance::Left {
            meeting,
            participant,
            at,
        } => {
            let was_there = connection
                .prepare_cached(
                    "UPDATE attendance SET left = ?2 WHERE participant = ?1 AND left IS NULL",
                )?
                .execute(params![participant, at])?;
            connection
                .prepare_cached("UPDATE meeting SET present = max(0, present - ?2) WHERE sid = ?1")?
                .execute(params![meeting, was_there as i64])?;
        }
    }
    Ok(())
}

/// Closes what a crash has left open: a meeting ended when it was last heard of.
pub(super) fn close_open(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch(
        "UPDATE attendance SET left = coalesce(\
             (SELECT max(max(a.joined), max(coalesce(a.left, 0))) FROM attendance a \
              WHERE a.meeting = attendance.meeting), joined) \
         WHERE left IS NULL; \
         UPDATE meeting SET present = 0, ended = coalesce(\
             (SELECT max(left) FROM attendance WHERE meeting = sid), started) \
         WHERE ended IS NULL;",
    )
}

/// The usage of all months, the latest first: of all rooms together, or of each room.
///
/// # Errors
/// When the store cannot be read. `now` (unix milliseconds) is when those that go on end.
pub fn months(connection: &Connection, by_room: bool, now: i64) -> Result<Vec<Usage>, StoreError> {
    let room = if by_room { "m.room" } else { "''" };
    let mut statement = connection.prepare(&format!(
        "SELECT strftime('%Y-%m', m.started / 1000, 'unixepoch') AS month, {room} AS room, \
         count(DISTINCT m.sid), count(a.participant), \
         sum(max(coalesce(a.left, ?1) - a.joined, 0)) / 60000.0, max(m.peak) \
         FROM meeting m JOIN attendance a ON a.meeting = m.sid \
         GROUP BY 1, 2 ORDER BY 1 DESC, 2",
    ))?;
    let usages = statement.query_map([now], |row| {
        Ok(Usage {
            month: row.get(0)?,
            room: row.get(1)?,
            meetings: row.get(2)?,
            participants: row.get(3)?,
            participant_minutes: row.get(4)?,
            peak: row.get(5)?,
            growth: None,
        })
    })?;
    let mut usages: Vec<Usage> = usages.collect::<Result<_, _>>()?;
    let minutes: std::collections::HashMap<(String, String), f64> = usages
        .iter()
        .map(|usage| {
            (
                (usage.month.clone(), usage.room.clone()),
                usage.participant_minutes,
            )
        })
        .collect();
    for usage in &mut usages {
        let before = minutes.get(&(month_before(&usage.month), usage.room.clone()));
        usage.growth = before
            .filter(|&&before| before > 0.0)
            .map(|before| 100.0 * (usage.participant_minutes / before - 1.0));
    }
    Ok(usages)
}

fn month_before(month: &str) -> String {
    let (year, month) = month.split_once('-').unwrap_or(("0", "1"));
    match (year.parse::<u32>(), month.parse::<u32>()) {
        (Ok(year), Ok(1)) => format!("{:04}-12", year.saturating_sub(1)),
        (Ok(year), Ok(month)) => format!("{year:04}-{:02}", month.saturating_sub(1)),
        _ => String::new(),
    }
}

/// Writes usages as comma-separated values (RFC 4180).
///
/// # Errors
/// When `out` does not take them.
pub fn write_csv(usages: &[Usage], out: &mut impl Write) -> std::io::Result<()> {
    out.write_all(b"month,room,meetings,participants,participant_minutes,peak,growth_percent\r\n")?;
    for usage in usages {
        let growth = usage
            .growth
            .map_or(String::new(), |growth| format!("{growth:.1}"));
        write!(
            out,
            "{},{},{},{},{:.1},{},{growth}\r\n",
            usage.month,
            csv_field(&usage.room),
            usage.meetings,
            usage.participants,
            usage.participant_minutes,
            usage.peak,
        )?;
    }
    Ok(())
}

/// A text as a field. A table that is opened in a spreadsheet must not run a name of a room as a
/// formula.
fn csv_field(text: &str) -> String {
    let escape = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        "'"
    } else {
        ""
    };
    format!("\"{escape}{}\"", text.replace('"', "\"\""))
}

/// Deletes a person's names from the usage and the audit log. Gives how many entries there were.
///
/// # Errors
/// When the store refuses.
pub fn forget_person(connection: &mut Connection, identity: &str) -> Result<usize, StoreError> {
    let transaction = connection.transaction()?;
    let attendances = transaction.execute(
        "UPDATE attendance SET identity = NULL WHERE identity = ?1",
        [identity],
    )?;
    let entries = audit::forget(&transaction, identity)?;
    transaction.commit()?;
    Ok(attendances + entries)
}

/// Deletes meetings that began before a time (unix milliseconds). Gives how many there were.
///
pub(super) fn forget_before(connection: &Connection, time: i64) -> Result<usize, rusqlite::Error> {
    connection.execute("DELETE FROM meeting WHERE started < ?1", [time])
}
