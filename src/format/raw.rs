//! Records as they were received, byte for byte, one a line: what a filter or a validator let pass, not rewritten.

use super::{Encoder, Format, Input};
use crate::error::{Error, Result};
use crate::kind::event::RAW;
use arrow::array::{Array, AsArray, RecordBatch};

/// Raw records. The rows must bring them: `evt-ingest --keep-raw`, or a stage that reads the records itself.
pub const FORMAT: Format = Format {
    name: "raw",
    extensions: &[],
    magic: b"",
    input: Input::None,
    output: Some(|schema, _| match schema.index_of(RAW) {
        Ok(column) => Ok(Box::new(Writer { column })),
        Err(_) => Err(Error::usage("-o raw: the rows bring no raw record: evt-ingest --keep-raw passes it on")),
    }),
    appendable: true,
};

struct Writer {
    column: usize,
}

impl Encoder for Writer {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let records = batch.column(self.column).as_binary::<i32>();
        out.reserve(records.value_data().len() + records.len());
        for record in records.iter().flatten() {
            out.extend_from_slice(record);
            out.push(b'\n');
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}
