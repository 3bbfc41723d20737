//! The error of writing a row.

use crate::error::Error;
use crate::store::sqlite::file::SqliteFile;

/// The error of writing a row: of evt, or of SQLite.
pub enum Failure {
    /// An error of evt.
    Ours(Error),
    /// An error of SQLite.
    Sqlite(rusqlite::Error),
}

impl Failure {
    /// Converts it to the error that ends the run.
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
