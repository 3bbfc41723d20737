//! Encodes rows for a file whose header an older version of evt wrote, with fewer columns.

use crate::error::Result;
use crate::format;
use arrow::array::RecordBatch;

/// Encodes only the first `columns` columns, for a file whose header has no others.
pub(super) struct NarrowEncoder {
    pub(super) encoder: Box<dyn format::Encoder>,
    pub(super) columns: usize,
}

impl format::Encoder for NarrowEncoder {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        self.encoder.encode(&batch.project(&Vec::from_iter(0..self.columns))?, out)
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        self.encoder.flush(out);
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.encoder.finish(out)
    }
}
