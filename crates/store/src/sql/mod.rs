//! What the stores of SQL share: values and rows of statements, and the tables that evt keeps for itself there.
//!
//! A statement is written once, for all databases. Its parameters are `$1`, `$2`, …; a database says in the constants
//! of [`SqlConnection`] where its SQL differs. Lists are parameters in JSON ([`SqlConnection::EACH`]), so one statement
//! serves many rows.
//!
//! - `correct` corrects metrics, `ledger` is the ledger of replays, `epochs` records the epochs of checkpoints,
//!   `progress` how far metrics are, `read` counts rows and reads extents, and `serving` answers evt-serve.

pub mod correct;
pub mod epochs;
pub mod ledger;
pub mod progress;
pub mod read;
pub mod serving;

use crate::OpenOptions;
use arrow::array::RecordBatch;
use evt_core::error::{Error, Result};
use evt_core::time::parse_instant;

/// A value of a statement: a parameter, or a cell of a result. Instants are parameters in RFC 3339, ids are hyphenated
/// text, dimensions canonical JSON; a boolean is 0 or 1.
#[derive(Clone, Debug, PartialEq)]
pub enum SqlValue {
    /// NULL.
    Null,
    /// A whole number, or an instant (µs).
    Long(i64),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
}

impl From<i64> for SqlValue {
    fn from(number: i64) -> Self {
        Self::Long(number)
    }
}

impl<T: AsRef<str> + ?Sized> From<&T> for SqlValue {
    fn from(text: &T) -> Self {
        Self::Text(text.as_ref().to_owned())
    }
}

impl<T: AsRef<str>> From<Option<T>> for SqlValue {
    fn from(text: Option<T>) -> Self {
        text.map_or(Self::Null, |text| Self::from(&text))
    }
}

/// A row of a result. Each method returns `None` for a value that evt does not write there.
pub struct SqlRow(pub Vec<SqlValue>);

impl SqlRow {
    /// Returns a text.
    pub fn text(&self, column: usize) -> Option<&str> {
        if let Some(SqlValue::Text(text)) = self.0.get(column) { Some(text) } else { None }
    }

    /// Returns a whole number.
    pub fn long(&self, column: usize) -> Option<i64> {
        if let Some(SqlValue::Long(number)) = self.0.get(column) { Some(*number) } else { None }
    }

    /// Returns a number.
    pub fn real(&self, column: usize) -> Option<f64> {
        match self.0.get(column)? {
            SqlValue::Real(number) => Some(*number),
            SqlValue::Long(number) => Some(*number as f64),
            SqlValue::Text(text) if text == "NaN" => Some(f64::NAN),
            _ => None,
        }
    }

    /// Returns an instant (µs).
    pub fn instant(&self, column: usize) -> Option<i64> {
        self.long(column).or_else(|| parse_instant(self.text(column)?))
    }
}

/// A connection to a database.
pub trait SqlConnection {
    /// Why a statement failed.
    type Failure: From<Error>;

    /// The end of a SELECT that locks its rows until the end of the transaction, if that needs words.
    const LOCK_ROWS: &'static str;
    /// The current time as tables store it.
    const NOW: &'static str;
    /// The type of an id in CAST.
    const ID: &'static str;
    /// The type of an instant in CAST.
    const INSTANT: &'static str;
    /// The function that returns the elements of an array in JSON as rows of one column, `value`.
    const EACH: &'static str;

    /// Executes a statement; returns the number of rows that it changed.
    fn execute(&self, sql: &str, values: &[SqlValue]) -> Result<u64, Self::Failure>;

    /// Returns the rows of a statement.
    fn query(&self, sql: &str, values: &[SqlValue]) -> Result<Vec<SqlRow>, Self::Failure>;

    /// Whether there is a table of this name.
    fn has_table(&self, name: &str) -> Result<bool, Self::Failure>;

    /// Whether the user may read a table.
    fn may_select(&self, _table: &str) -> Result<bool, Self::Failure> {
        Ok(true)
    }

    /// Writes rows of metrics by the rules of [`crate::guard`]; all, or none if the database rejects one.
    fn write_metrics(&self, batch: &RecordBatch, options: &OpenOptions) -> Result<(), Self::Failure>;

    /// Keeps other runs from claiming a correction until the end of the transaction.
    fn lock_corrections(&self) -> Result<(), Self::Failure> {
        Ok(())
    }

    /// Forgets the retractions of a run that has ended.
    fn forget_retractions(&self, _run: &str) -> Result<(), Self::Failure> {
        Ok(())
    }
}

/// A database, over as many connections as it takes.
pub trait SqlDatabase {
    /// A connection to it.
    type Connection: SqlConnection;

    /// Returns its name for messages.
    fn shown(&self) -> String;

    /// Runs `work`, which only reads.
    fn read<T>(&mut self, work: impl Fn(&Self::Connection) -> SqlResult<T, Self>) -> Result<T>;

    /// Runs `work` in a transaction, again if the connection is lost or other transactions conflict.
    fn write<T>(&mut self, work: impl Fn(&Self::Connection) -> SqlResult<T, Self>) -> Result<T>;

    /// Makes durable what was written.
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The result of work in a database.
pub type SqlResult<T, D> = Result<T, <<D as SqlDatabase>::Connection as SqlConnection>::Failure>;

/// Returns a list as a parameter in JSON.
pub fn list<T: serde::Serialize>(rows: &[T]) -> SqlValue {
    SqlValue::Text(serde_json::json!(rows).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_type_is_none_and_instants_are_numbers_or_text() {
        let row = SqlRow(vec![SqlValue::Null, 7.into(), SqlValue::from("NaN"), "1970-01-01T00:00:01.000000Z".into()]);
        assert_eq!((row.text(1), row.long(2), row.real(0), row.instant(2)), (None, None, None, None));
        assert_eq!((row.long(1), row.real(1)), (Some(7), Some(7.0)));
        assert_eq!((row.instant(1), row.instant(3)), (Some(7), Some(1_000_000)));
        assert!(row.real(2).is_some_and(f64::is_nan) && row.text(9).is_none());
    }

    #[test]
    fn options_are_text_or_null_and_lists_are_json() {
        assert_eq!([Some("a"), None].map(SqlValue::from), [SqlValue::from("a"), SqlValue::Null]);
        assert_eq!(list(&[("a", 1, None::<i64>)]), SqlValue::from(r#"[["a",1,null]]"#));
    }
}
