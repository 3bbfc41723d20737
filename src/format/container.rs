//! What the containers that Arrow's libraries read have in common: batches become rows, panics become errors.

use super::jsonl::{is_proved, rows_to_json};
use super::{Records, Rows};
use crate::error::{Error, Result, guarded};
use crate::kind::Kind;
use arrow::array::RecordBatch;
use std::fmt::Display;

/// Rows handed on at once: another program's batch may be its whole table, and its text would be several times that.
const ROWS: usize = 2_048;

/// The rows of a reader of batches.
pub(super) struct Batches<I> {
    /// None after the end or an error.
    inner: Option<I>,
    kind: Option<Kind>,
    /// What is left of the last batch read.
    rest: Option<RecordBatch>,
    rows: u64,
}

impl<E: Display, I: Iterator<Item = Result<RecordBatch, E>>> Batches<I> {
    /// Rows that the file says are of `kind`.
    pub(super) fn new(inner: I, kind: Option<Kind>) -> Self {
        Self { inner: Some(inner), kind, rest: None, rows: 0 }
    }

    fn step(&mut self) -> Result<Option<Rows>> {
        let Some(inner) = &mut self.inner else { return Ok(None) };
        let (kind, first, rest) = (self.kind, self.rows + 1, self.rest.take());
        let rows = guarded(|| match rest.map(Ok).or_else(|| inner.next()) {
            None => Ok(None),
            Some(Err(error)) => Err(Error::corrupt("rows cannot be read").because_library(error)),
            Some(Ok(batch)) => {
                let count = batch.num_rows().min(ROWS);
                let rest = (count < batch.num_rows()).then(|| batch.slice(count, batch.num_rows() - count));
                Ok(Some((rest, count as u64, rows_of(kind, batch.slice(0, count), first)?)))
            }
        })??;
        let Some((rest, count, rows)) = rows else { return Ok(None) };
        self.rest = rest;
        self.rows += count;
        Ok(Some(rows))
    }
}

impl<E: Display, I: Iterator<Item = Result<RecordBatch, E>>> Iterator for Batches<I> {
    type Item = Result<Rows>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.step().map_err(|error| error.at(format!("after row {}", self.rows)));
        if !matches!(rows, Ok(Some(_))) {
            self.inner = None;
        }
        rows.transpose()
    }
}

/// A batch as it is where it is exactly of its kind, else as JSON text.
fn rows_of(kind: Option<Kind>, batch: RecordBatch, first: u64) -> Result<Rows> {
    if let Some(kind) = kind {
        if !is_proved(&batch) {
            let claim = kind.name();
            return Err(Error::corrupt(format!("the file claims rows of kind {claim}, but a JSON column holds none")));
        }
        let schema = kind.schema();
        if schema.fields() == batch.schema_ref().fields() {
            return Ok(Rows::Batch(RecordBatch::try_new(schema, batch.columns().to_vec())?));
        }
    }
    let mut records = Records::default();
    rows_to_json(&batch, first, &mut records)?;
    Ok(Rows::Text(records))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_corrupt_file_and_the_next_call_works() {
        let error = guarded(|| -> u8 { panic!("index out of bounds") }).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
        assert!(error.to_string().contains("index out of bounds"), "{error}");
        assert_eq!(guarded(|| 1).unwrap(), 1);
    }
}
