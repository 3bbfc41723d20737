//! The error of writing a row.

use evt_core::error::Error;
use evt_core::kind::dead::Rejected;
use rusqlite::{Connection, ErrorCode};

/// Why a row was not written.
#[derive(Debug)]
pub enum Failure {
    /// An error of evt.
    Ours(Error),
    /// An error of SQLite.
    Sqlite(rusqlite::Error),
    /// An index, a constraint or a trigger of the user rejects the row.
    Rejected(String),
}

impl Failure {
    /// Makes the failure of a row that a trigger has left out.
    pub fn left_out(table: &str) -> Self {
        Self::Rejected(format!("a trigger of {table} did not store the row"))
    }

    /// Returns the rejected `row` if an index, a constraint or a trigger of the user is the reason; else the failure.
    pub fn of_row(self, db: &Connection, row: usize) -> Result<Rejected, Self> {
        let cause = match self {
            // RAISE(ROLLBACK) also removes the rows before it.
            Self::Sqlite(error)
                if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) && !db.is_autocommit() =>
            {
                error.to_string()
            }
            Self::Rejected(cause) => cause,
            other => return Err(other),
        };
        Ok(Rejected::by_sink(row, format!("SQLite: {cause}")))
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
