use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rusqlite::params;

use super::audit::{AuditError, Person};
use super::*;

/// A folder that is gone at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("moim-store-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.join("moim.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn entry(random: &mut StdRng) -> Entry {
    let mut text = |names: &[&str]| names[random.random_range(0..names.len())].to_owned();
    Entry {
        action: text(&[
            "RoomService.DeleteRoom",
            "RoomService.MutePublishedTrack",
            "한국",
        ]),
        room: text(&["", "weekly", "a\u{0}b", "\"quoted\""]),
        outcome: text(&["ok", "not_found"]),
        person: Person {
            actor: text(&["APIa", "ada"]),
            subject: text(&["", "bob", "ada"]),
            origin: text(&["192.0.2.1", "2001:db8::1"]),
        },
        at: random.random_range(0..i64::MAX),
    }
}

#[tokio::test]
async fn what_is_acknowledged_is_there_again_and_the_chain_verifies() {
    let folder = Folder::new();
    for round in 1..=3 {
        let store = Store::start(&folder.file()).unwrap();
        let mut random = StdRng::seed_from_u64(round);
        for _ in 0..20 {
            store.audit(entry(&mut random)).await.unwrap();
            store.audit_soon(entry(&mut random));
        }
        store.flush().await;
        // Another process may read while this one writes.
        let reader = read_file(&folder.file()).unwrap();
        assert_eq!(audit::verify(&reader).unwrap().entries, 40 * round);
        let mut lines = Vec::new();
        audit::export(&reader, &mut lines).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        assert_eq!(lines.lines().count() as u64, 40 * round);
    }
}

#[test]
fn every_change_of_the_log_is_found() {
    let folder = Folder::new();
    let connection = open_file(&folder.file()).unwrap();
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..9 {
        audit::append(&connection, &entry(&mut random), &mut random).unwrap();
    }
    assert_eq!(audit::verify(&connection).unwrap().entries, 9);
    for change in [
        "UPDATE audit SET at = at + 1 WHERE seq = 4",
        "UPDATE audit SET action = action || ' ' WHERE seq = 4",
        "UPDATE audit SET room = 'x' || room WHERE seq = 4",
        "UPDATE audit SET outcome = 'kO' WHERE seq = 4",
        "UPDATE audit SET person = replace(person, '192', '193') || ' ' WHERE seq = 4",
        "UPDATE audit SET person = NULL WHERE seq = 4",
        "UPDATE audit SET salt = randomblob(16) WHERE seq = 4",
        "UPDATE audit SET person_hash = randomblob(32) WHERE seq = 4",
        "UPDATE audit SET hash = randomblob(32) WHERE seq = 4",
        "DELETE FROM audit WHERE seq = 4",
        "DELETE FROM audit WHERE seq = 4; UPDATE audit SET seq = seq - 1 WHERE seq > 4",
        "INSERT INTO audit SELECT 10, at, action, room, outcome, person, salt, person_hash, hash \
         FROM audit WHERE seq = 4",
    ] {
        connection
            .execute_batch(&format!("BEGIN; {change};"))
            .unwrap();
        let found = audit::verify(&connection);
        let place = if change.starts_with("INSERT") { 10 } else { 4 };
        assert!(
            matches!(found, Err(AuditError::Broken(at)) if at == place),
            "{change}: {found:?}"
        );
        connection.execute_batch("ROLLBACK").unwrap();
    }
    assert_eq!(audit::verify(&connection).unwrap().entries, 9);
}

#[test]
fn a_person_can_be_deleted_and_the_chain_still_verifies() {
    let folder = Folder::new();
    let mut connection = open_file(&folder.file()).unwrap();
    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..60 {
        audit::append(&connection, &entry(&mut random), &mut random).unwrap();
    }
    let before = audit::verify(&connection).unwrap();
    assert!(usage::forget_person(&mut connection, "ada").unwrap() > 10);
    assert_eq!(usage::forget_person(&mut connection, "ada").unwrap(), 0);
    assert_eq!(audit::verify(&connection).unwrap(), before);
    let mut lines = Vec::new();
    audit::export(&connection, &mut lines).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    assert!(!lines.contains("\"ada\"") && lines.contains("\"bob\""));
}

#[tokio::test]
async fn a_full_disk_loses_entries_and_says_so_afterwards() {
    let folder = Folder::new();
    let store = Store::start(&folder.file()).unwrap();
    let mut random = StdRng::seed_from_u64(5);
    store.audit(entry(&mut random)).await.unwrap();
    // The file may not grow: SQLite says what it says when the disk is full.
    store.limit_pages(Some(1)).await;
    let mut failed = 0;
    for _ in 0..200 {
        let mut big = entry(&mut random);
        big.outcome = "x".repeat(1_000);
        failed += u64::from(store.audit(big).await.is_err());
    }
    assert!(
        failed > 100 && store.lost() == failed,
        "{failed} {}",
        store.lost()
    );
    store.limit_pages(None).await;
    store.audit(entry(&mut random)).await.unwrap();
    let reader = read_file(&folder.file()).unwrap();
    let entries = audit::verify(&reader).unwrap().entries;
    // All that were acknowledged, and the one that tells of the others.
    assert_eq!(entries, 1 + (200 - failed) + 1 + 1);
    let told: String = reader
        .query_row(
            "SELECT outcome FROM audit WHERE action = 'audit.lost'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(told, format!("{failed} entries could not be kept"));
}

#[tokio::test]
async fn rooms_are_kept_with_what_was_said_of_them_last() {
    let folder = Folder::new();
    let room = |name: &str| KeptRoom {
        name: name.into(),
        ..KeptRoom::default()
    };
    let store = Store::start(&folder.file()).unwrap();
    let first = KeptRoom {
        max_participants: Some(7),
        metadata: Some("m".into()),
        ..room("a")
    };
    let second = KeptRoom {
        max_participants: Some(9),
        empty_timeout: Some(60),
        ..room("a")
    };
    for kept in [first, room("b"), second, room("c")] {
        store.keep_room(kept).await.unwrap();
    }
    store.forget_room("b");
    store.flush().await;
    let kept = rooms::all(&read_file(&folder.file()).unwrap()).unwrap();
    let whole = KeptRoom {
        max_participants: Some(9),
        empty_timeout: Some(60),
        metadata: Some("m".into()),
        ..room("a")
    };
    assert_eq!(kept, [whole, room("c")]);
}

/// Days since 1970-01-01 of the first of November and of December 2026.
const NOVEMBER: i64 = 20_758;
const DECEMBER: i64 = 20_788;
const DAY: i64 = 86_400_000;

fn meet(connection: &Connection, sid: &str, room: &str, at: i64, stays: &[(i64, Option<i64>)]) {
    let note = |attendance| usage::note(connection, &attendance).unwrap();
    let sid = sid.to_owned();
    note(Attendance::Started {
        sid: sid.clone(),
        room: room.into(),
        at,
    });
    let mut events = Vec::new();
    for (index, &(from, to)) in stays.iter().enumerate() {
        let participant = format!("PA_{sid}{index}");
        let joined = Attendance::Joined {
            meeting: sid.clone(),
            participant: participant.clone(),
            identity: format!("person {index}"),
            at: at + from * 60_000,
        };
        events.push((from, joined));
        if let Some(to) = to {
            let left = Attendance::Left {
                meeting: sid.clone(),
                participant,
                at: at + to * 60_000,
            };
            events.push((to, left));
        }
    }
    events.sort_by_key(|(at, _)| *at);
    for (_, event) in events {
        note(event);
    }
}

#[test]
fn months_tell_minutes_peaks_and_growth() {
    let folder = Folder::new();
    let connection = open_file(&folder.file()).unwrap();
    meet(
        &connection,
        "RM_1",
        "a",
        NOVEMBER * DAY,
        &[(0, Some(30)), (10, Some(20))],
    );
    meet(
        &connection,
        "RM_2",
        "b",
        NOVEMBER * DAY + 1,
        &[(0, Some(20))],
    );
    meet(
        &connection,
        "RM_3",
        "=a",
        DECEMBER * DAY,
        &[(0, Some(60)), (1, None), (2, Some(32))],
    );
    // Nobody came.
    meet(&connection, "RM_4", "c", DECEMBER * DAY, &[]);
    let now = DECEMBER * DAY + 31 * 60_000;
    let months = usage::months(&connection, false, now).unwrap();
    let numbers: Vec<_> = months
        .iter()
        .map(|usage| {
            (
                usage.month.as_str(),
                usage.meetings,
                usage.participants,
                usage.participant_minutes,
                usage.peak,
            )
        })
        .collect();
    assert_eq!(
        numbers,
        [("2026-12", 1, 3, 120.0, 3), ("2026-11", 2, 3, 60.0, 2)]
    );
    assert_eq!((months[0].growth, months[1].growth), (Some(100.0), None));
    let rooms = usage::months(&connection, true, now).unwrap();
    assert_eq!(
        rooms
            .iter()
            .map(|usage| usage.room.as_str())
            .collect::<Vec<_>>(),
        ["=a", "a", "b"]
    );
    let mut csv = Vec::new();
    usage::write_csv(&rooms, &mut csv).unwrap();
    let csv = String::from_utf8(csv).unwrap();
    assert!(csv.contains("2026-12,\"'=a\",1,3,120.0,3,\r\n"), "{csv}");
    // A crash has left one open.
    usage::close_open(&connection).unwrap();
    let open: i64 = connection
        .query_row(
            "SELECT count(*) FROM attendance WHERE left IS NULL",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(open, 0);
    assert_eq!(
        usage::forget_before(&connection, DECEMBER * DAY).unwrap(),
        2
    );
    let left: i64 = connection
        .query_row("SELECT count(*) FROM attendance", params![], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(left, 3);
}

#[tokio::test]
async fn a_copy_is_made_while_the_store_is_written() {
    let folder = Folder::new();
    let store = Store::start(&folder.file()).unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let copy = folder.0.join("copy.db");
    for index in 0..200 {
        store.audit_soon(entry(&mut random));
        if index == 100 {
            backup(&folder.file(), &copy).unwrap();
        }
    }
    store.flush().await;
    let verified = audit::verify(&read_file(&copy).unwrap()).unwrap();
    assert!(verified.entries <= 200);
    assert!(
        backup(&folder.file(), &copy).is_err(),
        "nothing is written over"
    );
    assert!(read_file(&folder.0.join("none.db")).is_err());
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let folder = Folder::new();
    open_file(&folder.file())
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert!(matches!(
        open_file(&folder.file()),
        Err(StoreError::Newer(99))
    ));
    assert!(matches!(
        read_file(&folder.file()),
        Err(StoreError::Newer(99))
    ));
}
