//! The thread that writes. What waits at one time becomes one transaction: the disk is waited for
//! once for all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::audit::{self, Entry};
use super::error::StoreError;
use super::rooms::{self, KeptRoom};
use super::usage::{self, Attendance};
use crate::room::Now;

/// Tasks of one transaction.
const BATCH: usize = 256;
/// The action of an entry that says that others are missing.
const LOST: &str = "audit.lost";

/// Something to be written.
#[derive(Debug)]
pub(super) enum Work {
    Audit(Entry),
    KeepRoom(KeptRoom),
    ForgetRoom(String),
    Attendance(Attendance),
    /// Deletes the usage of meetings that are older than this.
    ForgetUsage(Duration),
    /// Only to know that all before it was written.
    Nothing,
    /// Bounds the file, in pages; none for the most that SQLite takes.
    #[cfg(test)]
    LimitPages(Option<u32>),
}

/// Work, and the caller that waits for it, if one does.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) work: Work,
    pub(super) done: Option<oneshot::Sender<Result<(), StoreError>>>,
}

pub(super) struct Writer {
    connection: Connection,
    tasks: mpsc::Receiver<Task>,
    lost: Arc<AtomicU64>,
    /// Lost entries of which the log tells already.
    told: u64,
    failing: bool,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        tasks: mpsc::Receiver<Task>,
        lost: Arc<AtomicU64>,
    ) -> Writer {
        Writer {
            connection,
            tasks,
            lost,
            told: 0,
            failing: false,
        }
    }

    /// Writes until nobody has anything more to write.
    pub(super) fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.tasks.blocking_recv_many(&mut batch, BATCH) > 0 {
            match self.write(&batch) {
                Ok(()) => {
                    self.failing = false;
                    for task in batch.drain(..) {
                        if let Some(done) = task.done {
                            let _ = done.send(Ok(()));
                        }
                    }
                }
                // One that cannot be written takes none of the others with it.
                Err(_) => {
                    for task in batch.drain(..) {
                        self.write_alone(task);
                    }
                }
            }
        }
    }

    fn write_alone(&mut self, task: Task) {
        let task = [task];
        let written = self.write(&task);
        if let Err(error) = &written {
            self.lost.fetch_add(1, Ordering::Relaxed);
            // Once, and not for each entry while the disk is full.
            if !self.failing {
                tracing::error!(%error, "the store cannot keep what happens");
            }
        }
        self.failing = written.is_err();
        let [task] = task;
        if let Some(done) = task.done {
            let _ = done.send(written.map_err(StoreError::from));
        }
    }

    fn write(&mut self, tasks: &[Task]) -> Result<(), rusqlite::Error> {
        let lost = self.lost.load(Ordering::Relaxed);
        let transaction = self.connection.transaction()?;
        let random = &mut rand::rng();
        if lost > self.told {
            let entry = Entry {
                at: Now::read().unix_ms(),
                action: LOST.into(),
                outcome: format!("{} entries could not be kept", lost - self.told),
                ..Entry::default()
            };
            audit::append(&transaction, &entry, random)?;
        }
        for task in tasks {
            match &task.work {
                Work::Audit(entry) => audit::append(&transaction, entry, random)?,
                Work::KeepRoom(room) => rooms::keep(&transaction, room)?,
                Work::ForgetRoom(name) => rooms::forget(&transaction, name)?,
                Work::Attendance(attendance) => usage::note(&transaction, attendance)?,
                Work::ForgetUsage(age) => {
                    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                    usage::forget_before(&transaction, Now::read().unix_ms().saturating_sub(age))?;
                }
                Work::Nothing => {}
                #[cfg(test)]
                Work::LimitPages(pages) => {
                    let pages = pages.unwrap_or(u32::MAX - 1);
                    transaction.query_row(
                        &format!("PRAGMA max_page_count = {pages}"),
                        [],
                        |_| Ok(()),
                    )?;
                }
            }
        }
        transaction.commit()?;
        self.told = lost;
        Ok(())
    }
}
