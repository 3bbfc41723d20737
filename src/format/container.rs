//! What the containers that Arrow's libraries read have in common: batches become rows, panics become errors.

use super::jsonl::{is_proved, rows_to_json};
use super::{Records, Rows};
use crate::error::{Error, Result, guarded};
use crate::kind::Kind;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;

/// The rows of a reader of batches.
pub(super) struct Batches<I> {
    /// None after the end or an error.
    inner: Option<I>,
    kind: Option<Kind>,
    rows: u64,
}

impl<I: Iterator<Item = Result<RecordBatch, ArrowError>>> Batches<I> {
    /// Rows that the file says are of `kind`.
    pub(super) fn new(inner: I, kind: Option<Kind>) -> Self {
        Self { inner: Some(inner), kind, rows: 0 }
    }

    fn step(&mut self) -> Result<Option<Rows>> {
        let Some(inner) = &mut self.inner else { return Ok(None) };
        let (kind, first) = (self.kind, self.rows + 1);
        let rows = guarded(|| match inner.next() {
            None => Ok(None),
            Some(Err(error)) => Err(Error::corrupt("rows cannot be read").because(error)),
            Some(Ok(batch)) => Ok(Some((batch.num_rows() as u64, rows_of(kind, batch, first)?))),
        })??;
        let Some((count, rows)) = rows else { return Ok(None) };
        self.rows += count;
        Ok(Some(rows))
    }
}

impl<I: Iterator<Item = Result<RecordBatch, ArrowError>>> Iterator for Batches<I> {
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
