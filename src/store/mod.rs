//! What outlives the process: an audit log, the rooms that were made by request, and the usage of
//! meetings, in one SQLite file.
//!
//! One thread writes ([`writer`]). What was asked for by a caller is durable before the caller is
//! answered; what a meeting tells waits in a bounded queue, and is counted as lost rather than
//! slowing the meeting. A full disk stops nothing: the next entry that can be written says how many
//! could not.

pub mod audit;
mod error;
pub mod meetings;
pub mod rooms;
mod schema;
pub mod usage;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use audit::Entry;
pub use error::StoreError;
use rooms::KeptRoom;
use usage::Attendance;
use writer::{Task, Work};

/// Tasks that wait for the thread. A room tells few a second.
const QUEUE: usize = 4_096;
/// How long a statement waits for another process that has the file locked.
const BUSY: Duration = Duration::from_secs(5);
/// How often old entries are looked for.
const DAY: Duration = Duration::from_secs(86_400);

/// The store of a server. A copy is the same one.
#[derive(Debug, Clone)]
pub struct Store {
    tasks: mpsc::Sender<Task>,
    lost: Arc<AtomicU64>,
}

/// Opens the file of a server, makes it when there is none, and brings it to this version's form.
///
/// # Errors
/// When it cannot be read or written, or is of a newer version.
pub fn open_file(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    prepare(&connection)?;
    schema::migrate(&connection)?;
    usage::close_open(&connection)?;
    Ok(connection)
}

/// Opens a file that exists, to read it while a server may be writing.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn read_file(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    schema::check(&connection)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // A commit is on the disk before it counts, after a loss of power too.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(())
}

/// Writes a copy of the store as it is at this moment, while a server may be writing.
///
/// # Errors
/// When there is no store, the copy exists already, or it cannot be written.
pub fn backup(from: &Path, to: &Path) -> Result<(), StoreError> {
    // A file that is there is never written over: it may be the only good copy.
    std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(to)?;
    let source = read_file(from)?;
    let mut copy = Connection::open(to)?;
    let pages = 1_024;
    rusqlite::backup::Backup::new(&source, &mut copy)?.run_to_completion(
        pages,
        Duration::ZERO,
        None,
    )?;
    Ok(())
}

impl Store {
    /// Starts the thread that writes to a file.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn start(path: &Path) -> Result<Store, StoreError> {
        let connection = open_file(path)?;
        let (tasks, waiting) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = writer::Writer::new(connection, waiting, lost.clone());
        std::thread::Builder::new()
            .name("moim-store".into())
            .spawn(move || writer.run())?;
        Ok(Store { tasks, lost })
    }

    /// Writes an entry of the audit log. It is durable when this returns.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn audit(&self, entry: Entry) -> Result<(), StoreError> {
        self.done(Work::Audit(entry)).await
    }

    /// Writes an entry of the audit log soon; the caller does not wait.
    pub fn audit_soon(&self, entry: Entry) {
        self.soon(Work::Audit(entry));
    }

    /// Keeps a room for the next start. It is durable when this returns.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn keep_room(&self, room: KeptRoom) -> Result<(), StoreError> {
        self.done(Work::KeepRoom(room)).await
    }

    /// Keeps a room no longer.
    pub fn forget_room(&self, name: &str) {
        self.soon(Work::ForgetRoom(name.to_owned()));
    }

    /// Notes an attendance fact.
    pub(crate) fn attend(&self, attendance: Attendance) {
        self.soon(Work::Attendance(attendance));
    }

    /// Deletes the usage of meetings once it is older than this, now and each day.
    pub fn keep_usage_for(&self, time: Duration) {
        let store = self.clone();
        tokio::spawn(async move {
            let mut days = tokio::time::interval(DAY);
            loop {
                days.tick().await;
                let _ = store.done(Work::ForgetUsage(time)).await;
            }
        });
    }

    /// Entries that could not be kept since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until all that was given to the store before is written.
    pub async fn flush(&self) {
        let _ = self.done(Work::Nothing).await;
    }

    #[cfg(test)]
    async fn limit_pages(&self, pages: Option<u32>) {
        let _ = self.done(Work::LimitPages(pages)).await;
    }

    async fn done(&self, work: Work) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        let task = Task {
            work,
            done: Some(done),
        };
        if self.tasks.send(task).await.is_err() {
            return Err(StoreError::Unavailable);
        }
        written.await.unwrap_or(Err(StoreError::Unavailable))
    }

    fn soon(&self, work: Work) {
        if self.tasks.try_send(Task { work, done: None }).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
