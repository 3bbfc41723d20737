//! What can go wrong while a row is written.

use crate::error::Error;
use crate::store::sqlite::file::SqliteFile;

/// What can go wrong while a row is written: ours, or SQLite's.
pub enum Failure {
    /// Of evt.
    Ours(Error),
    /// Of the file.
    Sqlite(rusqlite::Error),
}

impl Failure {
    /// The error that ends the run.
    pub fn into_error(self, file: &SqliteFile) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::Sqlite(error) => file.failed("cannot write", &error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
