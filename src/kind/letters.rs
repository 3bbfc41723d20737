//! Batches of dead letters: builds them, and truncates them to a size.

use super::Kind;
use super::dead::{Letter, column};
use super::headers::{self, Headers as _};
use crate::error::Result;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int32Builder, Int64Array, Int64Builder, RecordBatch,
    StringBuilder, StringDictionaryBuilder, TimestampMicrosecondBuilder, new_null_array,
};
use arrow::datatypes::Int32Type;
use std::sync::Arc;

/// Removes `excess` bytes from a dead letter, the one row of a batch: from its payload, then its headers, then its key.
/// `None` if it does not have that many.
pub fn cut(letter: &RecordBatch, excess: usize) -> Result<Option<RecordBatch>> {
    let payload = letter.column(column::ORIGINAL_PAYLOAD).as_binary::<i32>().value(0);
    let keys = letter.column(column::ORIGINAL_KEY).as_binary::<i32>();
    let (mut columns, mut excess) = (letter.columns().to_vec(), excess);
    let kept = match std::str::from_utf8(payload) {
        Ok(text) => text.floor_char_boundary(payload.len().saturating_sub(excess)),
        Err(_) => payload.len().saturating_sub(excess),
    };
    columns[column::ORIGINAL_PAYLOAD] = Arc::new(BinaryArray::from_vec(vec![&payload[..kept]]));
    excess = excess.saturating_sub(payload.len());
    if excess > 0 {
        let mut bytes = 0;
        let own = headers::Stored::new(letter.column(column::HEADERS).as_map(), 0);
        own.each(&mut |name, value| bytes += name.len() + value.map_or(0, <[u8]>::len));
        columns[column::HEADERS] = new_null_array(&headers::data_type(), 1);
        excess = excess.saturating_sub(bytes);
    }
    if excess > 0 {
        if keys.is_null(0) || keys.value(0).len() < excess {
            return Ok(None);
        }
        let key = keys.value(0);
        columns[column::ORIGINAL_KEY] = Arc::new(BinaryArray::from_opt_vec(vec![Some(&key[..key.len() - excess])]));
    }
    if letter.column(column::ORIGINAL_LENGTH).is_null(0) {
        let length = i64::try_from(payload.len()).unwrap_or(i64::MAX);
        columns[column::ORIGINAL_LENGTH] = Arc::new(Int64Array::from(vec![length]));
    }
    Ok(Some(RecordBatch::try_new(letter.schema(), columns)?))
}

/// Builds batches of dead letters of one stage.
pub struct Builder {
    stage: String,
    host: String,
    payload: BinaryBuilder,
    key: BinaryBuilder,
    headers: headers::Builder,
    arrived_at: TimestampMicrosecondBuilder,
    error_type: StringDictionaryBuilder<Int32Type>,
    error_message: StringBuilder,
    stages: StringDictionaryBuilder<Int32Type>,
    source_topic: StringDictionaryBuilder<Int32Type>,
    partition: StringDictionaryBuilder<Int32Type>,
    offset: Int64Builder,
    failed_at: TimestampMicrosecondBuilder,
    producer_host: StringDictionaryBuilder<Int32Type>,
    attempts: Int32Builder,
    original_length: Int64Builder,
    bytes: usize,
}

impl Builder {
    /// Creates a builder for dead letters of `stage` (the tool's name) on `host`.
    pub fn new(stage: &str, host: &str) -> Self {
        Self {
            stage: stage.to_owned(),
            host: host.to_owned(),
            payload: BinaryBuilder::new(),
            key: BinaryBuilder::new(),
            headers: headers::Builder::default(),
            arrived_at: TimestampMicrosecondBuilder::new(),
            error_type: StringDictionaryBuilder::new(),
            error_message: StringBuilder::new(),
            stages: StringDictionaryBuilder::new(),
            source_topic: StringDictionaryBuilder::new(),
            partition: StringDictionaryBuilder::new(),
            offset: Int64Builder::new(),
            failed_at: TimestampMicrosecondBuilder::new(),
            producer_host: StringDictionaryBuilder::new(),
            attempts: Int32Builder::new(),
            original_length: Int64Builder::new(),
            bytes: 0,
        }
    }

    /// Adds a dead letter that failed at `failed_at` (µs).
    pub fn push(&mut self, letter: &Letter<'_>, failed_at: i64) -> Result<()> {
        self.bytes += letter.payload.len() + letter.fault.message.len();
        self.payload.append_value(letter.payload);
        self.key.append_option(letter.key);
        self.bytes += self.headers.push(letter.headers)?;
        self.arrived_at.append_option(letter.arrived_at);
        self.error_type.append(letter.fault.error_type.name())?;
        self.error_message.append_value(&letter.fault.message);
        self.stages.append(&self.stage)?;
        self.source_topic.append(letter.origin)?;
        self.partition.append(letter.partition)?;
        self.offset.append_value(letter.offset);
        self.failed_at.append_value(failed_at);
        self.producer_host.append(&self.host)?;
        self.attempts.append_value(1);
        let length = letter.fault.original_length.map(|length| i64::try_from(length).unwrap_or(i64::MAX));
        self.original_length.append_option(length);
        Ok(())
    }

    /// Returns the number of dead letters in the batch under construction.
    pub fn len(&self) -> usize {
        use arrow::array::ArrayBuilder;
        self.payload.len()
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of payloads, headers and messages, which bound a batch.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the batch and empties the builder.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        self.bytes = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.payload.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.headers.finish()),
            Arc::new(self.arrived_at.finish().with_timezone("UTC")),
            Arc::new(self.error_type.finish()),
            Arc::new(self.error_message.finish()),
            Arc::new(self.stages.finish()),
            Arc::new(self.source_topic.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.failed_at.finish().with_timezone("UTC")),
            Arc::new(self.producer_host.finish()),
            Arc::new(self.attempts.finish()),
            Arc::new(self.original_length.finish()),
        ];
        Ok(RecordBatch::try_new(Kind::Dead.schema(), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::dead::{ErrorType, Fault};
    use super::super::headers::Headers;
    use super::*;

    struct One;

    impl Headers for One {
        fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
            show("name", Some(b"value"));
        }
    }

    /// What remains of payload, headers and key, and the length.
    type Left = (usize, bool, Option<usize>, i64);

    fn left(payload: &[u8], excess: usize) -> Option<Left> {
        let fault = Fault::new(ErrorType::ParseError, "why");
        let (key, headers) = (Some(b"key".as_slice()), Some(&One as &dyn Headers));
        let letter =
            Letter { payload, key, headers, arrived_at: None, fault: &fault, origin: "o", partition: "0", offset: 1 };
        let mut builder = Builder::new("evt-test", "host");
        builder.push(&letter, 7).unwrap();
        let cut = cut(&builder.finish().unwrap(), excess).unwrap()?;
        let bytes = |at: usize| cut.column(at).as_binary::<i32>();
        let keys = bytes(column::ORIGINAL_KEY);
        let lengths = cut.column(column::ORIGINAL_LENGTH).as_primitive::<arrow::datatypes::Int64Type>();
        let has_headers = cut.column(column::HEADERS).is_valid(0);
        let key = keys.is_valid(0).then(|| keys.value(0).len());
        Some((bytes(column::ORIGINAL_PAYLOAD).value(0).len(), has_headers, key, lengths.value(0)))
    }

    #[test]
    fn a_letter_loses_its_payload_first_then_its_headers_then_its_key() {
        assert_eq!(left(b"0123456789", 3), Some((7, true, Some(3), 10)));
        assert_eq!(left(b"0123456789", 10), Some((0, true, Some(3), 10)));
        assert_eq!(left(b"0123456789", 12), Some((0, false, Some(3), 10)));
        assert_eq!(left(b"0123456789", 21), Some((0, false, Some(1), 10)));
        assert_eq!(left(b"0123456789", 23), None);
        assert_eq!(left("aäö".as_bytes(), 1), Some((3, true, Some(3), 5)), "a character is not cut");
        assert_eq!(left(b"a\xff\xff", 1), Some((2, true, Some(3), 3)));
    }
}
