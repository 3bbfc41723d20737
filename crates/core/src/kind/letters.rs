//! Batches of dead letters: builds them, and truncates them to a size.

use super::Kind;
use super::dead::{Fault, Letter, column};
use super::headers::{self, Headers as _};
use super::older;
use super::record_id::made_id;
use crate::error::Result;
use arrow::array::{
    Array, ArrayAccessor, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanBuilder, DictionaryArray,
    FixedSizeBinaryArray, FixedSizeBinaryBuilder, Int32Builder, Int64Array, Int64Builder, RecordBatch, StringArray,
    StringBuilder, StringDictionaryBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder, new_null_array,
};
use arrow::datatypes::{Int32Type, Int64Type};
use std::sync::Arc;

/// Removes `excess` bytes from a dead letter, the one row of a batch: from its payload, then its headers, then its key.
/// `None` if the three have fewer bytes together.
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

/// Completes dead letters of an older version of evt or of another program: adds the columns that they do not have, and
/// derives missing ids.
pub fn completed(letters: RecordBatch) -> Result<RecordBatch> {
    let letters = older::widened(letters)?;
    let has_ids = letters.columns().get(column::LETTER_ID).is_none_or(|ids| ids.null_count() == 0);
    if has_ids {
        return Ok(letters);
    }
    let mut columns = letters.columns().to_vec();
    columns[column::LETTER_ID] = Arc::new(derived_ids(&columns));
    Ok(RecordBatch::try_new(letters.schema(), columns)?)
}

/// Returns the ids of letters; derives those that are NULL.
fn derived_ids(columns: &[ArrayRef]) -> FixedSizeBinaryArray {
    let text = |at: usize| columns[at].as_dictionary::<Int32Type>().downcast_dict::<StringArray>();
    let (origins, partitions) = (text(column::SOURCE_TOPIC), text(column::PARTITION));
    let (origins, partitions) = (origins.expect("texts"), partitions.expect("texts"));
    let offsets = columns[column::OFFSET].as_primitive::<Int64Type>();
    let payloads = columns[column::ORIGINAL_PAYLOAD].as_binary::<i32>();
    let ids = columns[column::LETTER_ID].as_fixed_size_binary();
    let mut all = FixedSizeBinaryBuilder::with_capacity(ids.len(), 16);
    for row in 0..ids.len() {
        let id = match ids.is_valid(row).then(|| <[u8; 16]>::try_from(ids.value(row)).ok()).flatten() {
            Some(id) => id,
            None => {
                let (origin, partition, offset) = (origins.value(row), partitions.value(row), offsets.value(row));
                made_id(origin, partition, offset, payloads.value(row))
            }
        };
        all.append_value(id).expect("16 bytes");
    }
    all.finish()
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
    letter_id: FixedSizeBinaryBuilder,
    metrics: StringBuilder,
    partial: BooleanBuilder,
    bytes: usize,
}

/// Makes a dictionary without capacity: most batches of letters are small, and a builder clears the memory of all
/// values that it has room for.
fn dictionary() -> StringDictionaryBuilder<Int32Type> {
    StringDictionaryBuilder::with_capacity(0, 0, 0)
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
            error_type: dictionary(),
            error_message: StringBuilder::new(),
            stages: dictionary(),
            source_topic: dictionary(),
            partition: dictionary(),
            offset: Int64Builder::new(),
            failed_at: TimestampMicrosecondBuilder::new(),
            producer_host: dictionary(),
            attempts: Int32Builder::new(),
            original_length: Int64Builder::new(),
            letter_id: FixedSizeBinaryBuilder::new(16),
            metrics: StringBuilder::new(),
            partial: BooleanBuilder::new(),
            bytes: 0,
        }
    }

    /// Creates a builder for dead letters of the same stage and host.
    pub fn another(&self) -> Self {
        Self::new(&self.stage, &self.host)
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
        let metrics = letter.fault.metrics.as_ref();
        self.metrics.append_option(metrics.map(|metrics| metrics.names.as_str()));
        self.partial.append_option(metrics.map(|metrics| metrics.is_partial));
        let Letter { origin, partition, offset, payload, .. } = *letter;
        self.letter_id.append_value(made_id(origin, partition, offset, payload))?;
        Ok(())
    }

    /// Returns the letter in `row` of a batch with the fault of a stage that could not repair it: its record, position,
    /// id and attempts stay. The stage and the host are those of this builder.
    pub fn failed_again(
        &self,
        letters: &RecordBatch,
        row: usize,
        fault: &Fault,
        failed_at: i64,
    ) -> Result<RecordBatch> {
        let letter = letters.slice(row, 1);
        let word = |text: &str| -> ArrayRef { Arc::new(DictionaryArray::<Int32Type>::from_iter([text])) };
        let mut columns = letter.columns().to_vec();
        columns[column::ERROR_TYPE] = word(fault.error_type.name());
        columns[column::ERROR_MESSAGE] = Arc::new(StringArray::from(vec![fault.message.as_str()]));
        columns[column::STAGE] = word(&self.stage);
        columns[column::FAILED_AT] = Arc::new(TimestampMicrosecondArray::from(vec![failed_at]).with_timezone("UTC"));
        columns[column::PRODUCER_HOST] = word(&self.host);
        Ok(RecordBatch::try_new(Kind::Dead.schema(), columns)?)
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
            Arc::new(self.letter_id.finish()),
            Arc::new(self.metrics.finish()),
            Arc::new(self.partial.finish()),
        ];
        Ok(RecordBatch::try_new(Kind::Dead.schema(), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::dead::ErrorType;
    use super::super::headers::Headers;
    use super::*;

    struct One;

    impl Headers for One {
        fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
            show("name", Some(b"value"));
        }
    }

    /// The bytes left of the payload, whether headers are left, the bytes left of the key, and the original length.
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
        let lengths = cut.column(column::ORIGINAL_LENGTH).as_primitive::<Int64Type>();
        let has_headers = cut.column(column::HEADERS).is_valid(0);
        let key = keys.is_valid(0).then(|| keys.value(0).len());
        Some((bytes(column::ORIGINAL_PAYLOAD).value(0).len(), has_headers, key, lengths.value(0)))
    }

    #[test]
    fn a_letter_keeps_the_id_of_its_whole_payload_and_an_older_one_gets_it_when_read() {
        let fault = Fault::new(ErrorType::ParseError, "why");
        let mut builder = Builder::new("evt-test", "host");
        for (payload, offset) in [(b"x".as_slice(), 1), (b"x".as_slice(), 2), (b"yy".as_slice(), 1)] {
            let (key, headers, arrived_at) = (None, None, None);
            let letter =
                Letter { payload, key, headers, arrived_at, fault: &fault, origin: "o", partition: "0", offset };
            builder.push(&letter, 7).unwrap();
        }
        let written = builder.finish().unwrap();
        let ids = |letters: &RecordBatch| letters.column(column::LETTER_ID).as_fixed_size_binary().clone();
        assert_eq!(ids(&written).value(2), made_id("o", "0", 1, b"yy"));
        assert_ne!(ids(&written).value(0), ids(&written).value(1));
        for known in [column::ORIGINAL_LENGTH, column::LETTER_ID, column::METRICS] {
            let older = written.project(&Vec::from_iter(0..known)).unwrap();
            assert_eq!(completed(older).unwrap(), written);
        }
        let short = cut(&written.slice(2, 1), 1).unwrap().unwrap();
        let again = completed(short.clone()).unwrap();
        assert_eq!((ids(&again).value(0), &again), (ids(&written).value(2), &short));
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
