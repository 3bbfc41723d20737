//! Dead letters that the outputs may not have: the state has passed their records, so no later run reads these again.

use arrow::array::RecordBatch;
use evt_core::error::{Error, Result};
use evt_core::format::{EncodeOptions, jsonl, row};
use evt_core::kind::Kind;
use rusqlite::{Transaction, params};

/// The table. The letters of a batch are lines of JSON.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS unwritten_letters (
    id INTEGER PRIMARY KEY,
    letters TEXT NOT NULL
);";

/// Letters, and their number in the order of the outputs.
pub struct StoredLetters {
    /// The number.
    pub number: i64,
    /// Rows of kind dead.
    pub letters: RecordBatch,
}

/// Stores letters, and forgets those that are durable, up to number `confirmed`.
pub fn store(tx: &Transaction<'_>, letters: &[(i64, String)], confirmed: i64) -> rusqlite::Result<()> {
    confirm(tx, confirmed)?;
    for (number, text) in letters {
        let mut insert = tx.prepare_cached("INSERT OR REPLACE INTO unwritten_letters VALUES (?1, ?2)")?;
        insert.execute(params![number, text])?;
    }
    Ok(())
}

/// Forgets letters that are durable, up to number `confirmed`.
pub fn confirm(tx: &Transaction<'_>, confirmed: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM unwritten_letters WHERE id <= ?1")?.execute([confirmed]).map(|_| ())
}

/// Returns letters as lines of JSON.
pub fn to_text(letters: &RecordBatch) -> Result<String> {
    let encoder = jsonl::FORMAT.output.ok_or_else(|| Error::broken("JSON lines are not written"))?;
    let (mut encoder, mut out) = (encoder(&letters.schema(), &EncodeOptions::default())?, vec![]);
    encoder.encode(letters, &mut out)?;
    encoder.finish(&mut out)?;
    String::from_utf8(out).map_err(|error| Error::broken("JSON").because(error))
}

/// Returns the letters of a text.
pub fn from_text(number: i64, text: &str) -> Result<StoredLetters> {
    let mut builder = row::Builder::with_schema(Kind::Dead.schema());
    for line in text.lines() {
        let unreadable = || Error::corrupt("the state has a row that is not a dead letter");
        builder.push(line).map_err(|fault| unreadable().because(fault.message))?;
    }
    Ok(StoredLetters { number, letters: builder.finish()? })
}
