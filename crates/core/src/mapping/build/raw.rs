//! The column of raw records under construction: copies, or views into the read buffers.

use super::text::{clear, taken};
use crate::error::Result;
use crate::kind::event;
use crate::mapping::options::KeepRaw;
use arrow::array::{ArrayBuilder, ArrayRef, BinaryBuilder, BinaryViewBuilder, StringBuilder};
use arrow::buffer::Buffer;
use arrow::datatypes::Field;
use std::sync::Arc;

/// The column, if the batch has one.
pub(super) enum Raw {
    /// A copy of each record.
    Copied(BinaryBuilder),
    /// A view of each record.
    SharedRecords(SharedRecords),
}

/// Records as ranges of shared read buffers; a record outside the current one is copied.
#[derive(Default)]
pub(super) struct SharedRecords {
    views: BinaryViewBuilder,
    /// The buffer that is shared now.
    block: Option<Buffer>,
    /// Its number in the batch, once the batch holds one of its records.
    number: Option<u32>,
}

impl Raw {
    pub(super) fn new(keep: KeepRaw) -> Option<Self> {
        match keep {
            KeepRaw::No => None,
            KeepRaw::Within => Some(Raw::SharedRecords(SharedRecords::default())),
            KeepRaw::Column | KeepRaw::FromInput => Some(Raw::Copied(BinaryBuilder::new())),
        }
    }

    /// Returns the field of the column.
    pub(super) fn field(keep: KeepRaw) -> Option<Field> {
        match keep {
            KeepRaw::No => None,
            KeepRaw::Within => Some(event::shared_raw_field()),
            KeepRaw::Column | KeepRaw::FromInput => Some(event::raw_field()),
        }
    }

    /// Adds a record or NULL; returns the number of bytes by which the batch grew.
    #[inline]
    pub(super) fn push(&mut self, raw: Option<&[u8]>) -> Result<usize> {
        match (self, raw) {
            (Raw::Copied(column), _) => {
                column.append_option(raw);
                Ok(raw.map_or(0, <[u8]>::len))
            }
            (Raw::SharedRecords(shared), Some(raw)) => shared.push(raw),
            (Raw::SharedRecords(shared), None) => {
                shared.views.append_null();
                Ok(0)
            }
        }
    }

    /// Sets the buffer that the next records are ranges of; with `None` they are copied.
    pub(super) fn share_buffer(&mut self, block: Option<Buffer>) {
        if let Raw::SharedRecords(shared) = self {
            (shared.block, shared.number) = (block, None);
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Raw::Copied(column) => Arc::new(taken(column)),
            Raw::SharedRecords(shared) => {
                shared.number = None;
                Arc::new(shared.views.finish())
            }
        }
    }
}

impl SharedRecords {
    #[inline]
    fn push(&mut self, raw: &[u8]) -> Result<usize> {
        let Some((block, start)) = self.block.as_ref().and_then(|block| Some((block, place(block, raw)?))) else {
            self.views.append_value(raw);
            return Ok(raw.len());
        };
        let (number, held) = match self.number {
            Some(number) => (number, 0),
            // The whole buffer stays in memory while the batch holds one of its records, so all of it is counted.
            None => (self.views.append_block(block.clone()), block.len()),
        };
        self.number = Some(number);
        // A buffer is shorter than 4 GiB because `--max-record` is.
        self.views.try_append_view(number, start as u32, raw.len() as u32)?;
        Ok(held)
    }
}

/// The JSON texts of the records of a batch. Those that are the raw record itself, as every line of JSON is, are NULL
/// and cost nothing.
#[derive(Default)]
pub(super) struct RecordTexts(StringBuilder);

impl RecordTexts {
    /// Adds the text of a row; returns the number of bytes by which the batch grew.
    #[inline(always)]
    pub(super) fn push(&mut self, row: usize, text: &str, raw: Option<&[u8]>) -> usize {
        if raw.is_some_and(|raw| std::ptr::eq(raw, text.as_bytes())) { 0 } else { self.push_own(row, text) }
    }

    #[inline(never)]
    fn push_own(&mut self, row: usize, text: &str) -> usize {
        self.0.append_nulls(row - self.0.len());
        self.0.append_value(text);
        text.len()
    }

    /// Takes the texts of `rows` rows.
    pub(super) fn finish(&mut self, rows: usize) -> ArrayRef {
        self.0.append_nulls(rows - self.0.len());
        Arc::new(taken(&mut self.0))
    }

    /// Drops the texts.
    pub(super) fn clear(&mut self) {
        clear(&mut self.0);
    }
}

/// Returns the position of `raw` in `block`; `None` if it is not inside.
#[inline]
fn place(block: &[u8], raw: &[u8]) -> Option<usize> {
    let start = raw.as_ptr().addr().checked_sub(block.as_ptr().addr())?;
    (start + raw.len() <= block.len()).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    #[test]
    fn a_record_is_a_range_of_what_is_lent_and_a_copy_of_anything_else() {
        let block = Buffer::from_vec(b"the first record\nthe second record\n".to_vec());
        let mut raw = Raw::new(KeepRaw::Within).unwrap();
        assert_eq!(raw.push(Some(&block[..16])).unwrap(), 16);
        raw.share_buffer(Some(block.clone()));
        assert_eq!(raw.push(Some(&block[..16])).unwrap(), block.len());
        assert_eq!(raw.push(Some(b"from somewhere else")).unwrap(), 19);
        assert_eq!(raw.push(Some(&block[17..34])).unwrap(), 0);
        let array = raw.finish();
        let values: Vec<_> = array.as_binary_view().iter().flatten().collect();
        let wanted: [&[u8]; 4] =
            [b"the first record", b"the first record", b"from somewhere else", b"the second record"];
        assert_eq!(values, wanted);
        assert_eq!(values[3].as_ptr(), block[17..].as_ptr());
        // The next batch holds the block again, and none that was taken back.
        assert_eq!(raw.push(Some(&block[17..34])).unwrap(), block.len());
        raw.share_buffer(None);
        assert_eq!(raw.push(Some(&block[17..34])).unwrap(), 17);
        assert_eq!(raw.finish().as_binary_view().data_buffers().len(), 2);
    }
}
