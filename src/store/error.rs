//! What can go wrong.

/// Why something was not kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("the store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file was written by a newer version.
    #[error("the store has version {0}, which is newer than this program")]
    Newer(i64),
    /// A file cannot be written or read.
    #[error("the store: {0}")]
    Io(#[from] std::io::Error),
    /// The thread that writes has ended, or more waits than it can write.
    #[error("the store takes nothing at the moment")]
    Unavailable,
}
