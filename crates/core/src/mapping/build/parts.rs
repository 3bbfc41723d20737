//! The columns of the parts of records under construction: headers, and key and timestamp if letters show them.

use super::text::taken;
use crate::error::Result;
use crate::kind::headers::{self, CodedHeaders};
use crate::kind::record_parts;
use crate::mapping::options::RecordParts;
use crate::mapping::record::RecordMeta;
use arrow::array::{ArrayRef, BinaryBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::Field;
use std::sync::Arc;

/// The columns of the parts of records.
pub(super) struct Parts {
    /// The columns of keys and of timestamps; `None` if batches have only headers.
    others: Option<(BinaryBuilder, TimestampMicrosecondBuilder)>,
    headers: CodedHeaders,
}

impl Parts {
    /// Creates empty columns; `None` if batches have none of them.
    pub(super) fn new(parts: RecordParts) -> Option<Self> {
        let others = (parts == RecordParts::All).then(Default::default);
        (parts != RecordParts::None).then(|| Self { others, headers: CodedHeaders::default() })
    }

    /// Returns the fields of the columns, the headers last.
    pub(super) fn fields(parts: RecordParts) -> Vec<Field> {
        match parts {
            RecordParts::None => vec![],
            RecordParts::Headers => vec![headers::field()],
            RecordParts::All => record_parts::fields().into_iter().chain([headers::field()]).collect(),
        }
    }

    /// Adds the parts of a record; returns the number of bytes by which the batch grew.
    pub(super) fn push(&mut self, meta: &RecordMeta<'_>) -> Result<usize> {
        let mut bytes = self.headers.push(meta.headers)?;
        if let Some((keys, timestamps)) = &mut self.others {
            keys.append_option(meta.key);
            timestamps.append_option(meta.arrival.map(|arrival| arrival.at));
            bytes += meta.key.map_or(0, <[u8]>::len);
        }
        Ok(bytes)
    }

    /// Takes the columns so far.
    pub(super) fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let mut columns: Vec<ArrayRef> = vec![];
        if let Some((keys, timestamps)) = &mut self.others {
            columns.push(Arc::new(taken(keys)));
            columns.push(Arc::new(timestamps.finish().with_timezone("UTC")));
        }
        columns.push(self.headers.finish()?);
        Ok(columns)
    }
}
