//! The kind "dead": a dead letter is a record that failed, byte for byte, with the cause and its position.

use super::field::{dictionary_type, id, instant, optional, text};
use super::headers::{self, Headers};
use super::values::truth;
use crate::error::{Error, Result};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field};

/// Columns of a dead letter, in order.
pub const COLUMNS: [&str; 17] = [
    "original_payload",
    "original_key",
    "headers",
    "arrived_at",
    "error_type",
    "error_message",
    "stage",
    "source_topic",
    "partition",
    "offset",
    "failed_at",
    "producer_host",
    "attempts",
    "original_length",
    "letter_id",
    "metrics",
    "partial",
];

/// Columns of a dead letter before evt kept the length of a truncated payload.
pub const BEFORE_LENGTHS: &[&str] = COLUMNS.split_at(column::ORIGINAL_LENGTH).0;
/// Columns of a dead letter before it had an id.
pub const BEFORE_IDS: &[&str] = COLUMNS.split_at(column::LETTER_ID).0;
/// Columns of a dead letter when an event that failed for one metric was counted by none.
pub const BEFORE_METRICS: &[&str] = COLUMNS.split_at(column::METRICS).0;

/// Index of each column in [`COLUMNS`].
#[allow(missing_docs, reason = "each is the index of the column of its name")]
pub mod column {
    pub const ORIGINAL_PAYLOAD: usize = 0;
    pub const ORIGINAL_KEY: usize = 1;
    pub const HEADERS: usize = 2;
    pub const ARRIVED_AT: usize = 3;
    pub const ERROR_TYPE: usize = 4;
    pub const ERROR_MESSAGE: usize = 5;
    pub const STAGE: usize = 6;
    pub const SOURCE_TOPIC: usize = 7;
    pub const PARTITION: usize = 8;
    pub const OFFSET: usize = 9;
    pub const FAILED_AT: usize = 10;
    pub const PRODUCER_HOST: usize = 11;
    pub const ATTEMPTS: usize = 12;
    pub const ORIGINAL_LENGTH: usize = 13;
    pub const LETTER_ID: usize = 14;
    pub const METRICS: usize = 15;
    pub const PARTIAL: usize = 16;
}

/// The type of a record's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorType {
    /// Not in its declared format.
    ParseError,
    /// A valid record of its format that is not an event: a required field is missing or has the wrong type.
    EnvelopeError,
    /// A time that cannot be read, or is too early.
    TimestampError,
    /// A time too far ahead of its arrival.
    FutureTimestampError,
    /// No schema is known for it.
    UnknownSchemaError,
    /// It violates its schema.
    SchemaValidationError,
    /// Longer than `--max-record`, or than any output accepts.
    TooLargeError,
    /// An expression of a metric requires a value of another type.
    AggregationError,
    /// The store rejected it.
    SinkError,
}

impl ErrorType {
    /// Every type, in the order of the manual. The index of a type is its code in entries of the spool: append only.
    pub const ALL: [Self; 9] = [
        Self::ParseError,
        Self::EnvelopeError,
        Self::TimestampError,
        Self::FutureTimestampError,
        Self::UnknownSchemaError,
        Self::SchemaValidationError,
        Self::TooLargeError,
        Self::AggregationError,
        Self::SinkError,
    ];

    /// Returns the type that a word names.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error_type| error_type.name() == name)
    }

    /// Returns the word in the column `error_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ParseError => "ParseError",
            Self::EnvelopeError => "EnvelopeError",
            Self::TimestampError => "TimestampError",
            Self::FutureTimestampError => "FutureTimestampError",
            Self::UnknownSchemaError => "UnknownSchemaError",
            Self::SchemaValidationError => "SchemaValidationError",
            Self::TooLargeError => "TooLargeError",
            Self::AggregationError => "AggregationError",
            Self::SinkError => "SinkError",
        }
    }
}

/// The fault of one record, for the columns that explain it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The type of the fault.
    pub error_type: ErrorType,
    /// One line: where in the record (path or byte) and why.
    pub message: String,
    /// Bytes of the record, if only its beginning was kept.
    pub original_length: Option<u64>,
    /// The proposal at the end of the message, if the fault is that of the event time.
    pub proposal: Option<TimeProposal>,
    /// The probable cause, if all records of the input have the fault.
    pub suspect: Option<Suspect>,
    /// The metrics for which the event failed, if the fault is one of metrics.
    pub metrics: Option<FailedMetrics>,
}

/// The metrics for which an event failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedMetrics {
    /// Their names, with commas between them.
    pub names: String,
    /// Whether the event has another outcome: another metric counted it, or found it late. Its letter is partial then.
    pub is_partial: bool,
}

/// The probable cause of a fault that all records of an input have. The message of the fault does not name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspect {
    /// The encoding of the input, which is not UTF-8.
    Encoding,
    /// The first line of the input, which is not a header.
    Header,
}

/// The end of a message about an event time: the flag that reads it. A message about several records proposes the flags
/// that read most of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeProposal {
    /// Whether the record has no event time; else it has one that cannot be read.
    pub is_missing: bool,
    /// Byte of the message at which it begins; the message's length if there is none.
    pub at: usize,
}

impl Fault {
    /// Creates a fault with a message.
    #[cold]
    pub fn new(error_type: ErrorType, message: impl Into<String>) -> Self {
        Self {
            error_type,
            message: message.into(),
            original_length: None,
            proposal: None,
            suspect: None,
            metrics: None,
        }
    }

    /// Creates the fault of a row that an output cannot hold.
    #[cold]
    pub fn of_sink(message: impl Into<String>) -> Self {
        Self::new(ErrorType::SinkError, message)
    }

    /// Returns the fault of an event time, whose message ends with a proposal.
    #[must_use]
    pub fn with_proposal(self, proposal: TimeProposal) -> Self {
        Self { proposal: Some(proposal), ..self }
    }

    /// Returns the fault with its probable cause, if all records of the input have it.
    #[must_use]
    pub fn of_input(self, suspect: Suspect) -> Self {
        Self { suspect: Some(suspect), ..self }
    }

    /// Returns the fault of an event that failed for metrics.
    #[must_use]
    pub fn of_metrics(self, metrics: FailedMetrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Whether the event has another outcome, because it failed for some metrics only.
    pub fn is_partial(&self) -> bool {
        self.metrics.as_ref().is_some_and(|metrics| metrics.is_partial)
    }

    /// Returns the fault of a record of `length` bytes of which only the beginning was kept.
    #[must_use]
    pub fn of_cut(self, length: u64) -> Self {
        Self { original_length: Some(length), ..self }
    }
}

/// A row that a check or an output rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Index of the row in its batch.
    pub row: usize,
    /// Why.
    pub fault: Fault,
}

impl Rejected {
    /// Rejects a row that an output cannot hold.
    pub fn by_sink(row: usize, message: impl Into<String>) -> Self {
        Self { row, fault: Fault::of_sink(message) }
    }
}

/// The rows of a batch that were kept, and those that a check or an output rejected.
#[derive(Clone, Debug)]
pub struct KeptRows {
    /// The rows that were kept.
    pub batch: RecordBatch,
    /// For each of them its index in the batch as received.
    pub places: Vec<usize>,
    /// The rejected rows, by their index in the batch as received.
    pub rejected: Vec<Rejected>,
}

impl KeptRows {
    /// Keeps all rows of a batch.
    pub fn all(batch: RecordBatch) -> Self {
        Self { places: (0..batch.num_rows()).collect(), batch, rejected: Vec::new() }
    }

    /// Rejects rows of `batch` and removes them from it. Of several faults of a row the first counts.
    pub fn remove(&mut self, mut rejected: Vec<Rejected>) -> Result<()> {
        if rejected.is_empty() {
            return Ok(());
        }
        rejected.sort_by_key(|rejected| rejected.row);
        rejected.dedup_by_key(|rejected| rejected.row);
        self.batch = without(&self.batch, &rejected)?;
        let mut rejected = rejected.into_iter().peekable();
        for (row, place) in std::mem::take(&mut self.places).into_iter().enumerate() {
            match rejected.next_if(|rejected| rejected.row == row) {
                Some(Rejected { fault, .. }) => self.rejected.push(Rejected { row: place, fault }),
                None => self.places.push(place),
            }
        }
        Ok(())
    }

    /// Marks a row as rejected; the row stays in `batch`.
    pub fn reject(&mut self, Rejected { row, fault }: Rejected) -> Result<()> {
        let row = *self.places.get(row).ok_or_else(|| Error::broken("a row without a place"))?;
        self.rejected.push(Rejected { row, fault });
        Ok(())
    }
}

/// Returns for each letter of a batch whether it is partial: its event has another outcome, so it is no outcome itself.
pub fn is_partial(letters: &RecordBatch) -> BooleanBuffer {
    match letters.column_by_name(COLUMNS[column::PARTIAL]).and_then(|partial| partial.as_boolean_opt()) {
        Some(partial) => truth(partial),
        None => BooleanBuffer::new_unset(letters.num_rows()),
    }
}

/// Returns the rows of `batch` without the rejected ones.
pub fn without(batch: &RecordBatch, rejected: &[Rejected]) -> Result<RecordBatch> {
    if rejected.is_empty() {
        return Ok(batch.clone());
    }
    let mut keep = vec![true; batch.num_rows()];
    for rejected in rejected {
        keep[rejected.row] = false;
    }
    Ok(filter_record_batch(batch, &BooleanArray::from(keep))?)
}

/// One dead letter, borrowed from the owner of the record.
#[derive(Clone, Copy)]
pub struct Letter<'a> {
    /// The record's exact bytes; only the first if [`Fault::original_length`] is set.
    pub payload: &'a [u8],
    /// Its key, if the source has keys.
    pub key: Option<&'a [u8]>,
    /// Its headers, if the source has headers.
    pub headers: Option<&'a dyn Headers>,
    /// When the record arrived (µs), if known.
    pub arrived_at: Option<i64>,
    /// Its fault.
    pub fault: &'a Fault,
    /// The file or topic it came from.
    pub origin: &'a str,
    /// Its partition there.
    pub partition: &'a str,
    /// Its offset there; a file's line.
    pub offset: i64,
}

pub(super) fn fields() -> Vec<Field> {
    vec![
        Field::new("original_payload", DataType::Binary, false),
        Field::new("original_key", DataType::Binary, true),
        Field::new("headers", headers::data_type(), true),
        optional(instant("arrived_at")),
        Field::new("error_type", dictionary_type(), false),
        text("error_message"),
        Field::new("stage", dictionary_type(), false),
        Field::new("source_topic", dictionary_type(), false),
        Field::new("partition", dictionary_type(), false),
        Field::new("offset", DataType::Int64, false),
        instant("failed_at"),
        Field::new("producer_host", dictionary_type(), false),
        Field::new("attempts", DataType::Int32, false),
        optional(Field::new("original_length", DataType::Int64, false)),
        optional(id("letter_id")),
        optional(text("metrics")),
        Field::new("partial", DataType::Boolean, true),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int32Array};
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    #[test]
    fn rejected_rows_have_their_indexes_in_the_batch_as_received() {
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..6));
        let mut rows = KeptRows::all(RecordBatch::try_from_iter([("n", numbers)]).unwrap());
        let rejected = |row: usize, why: &str| Rejected::by_sink(row, why);
        rows.remove(vec![rejected(4, "a"), rejected(1, "b"), rejected(4, "c")]).unwrap();
        rows.remove(vec![]).unwrap();
        rows.remove(vec![rejected(2, "d")]).unwrap();
        rows.reject(rejected(2, "e")).unwrap();
        assert!(rows.reject(rejected(3, "f")).is_err());
        assert_eq!(rows.batch.column(0).as_primitive::<Int32Type>().values().to_vec(), [0, 2, 5]);
        assert_eq!(rows.places, [0, 2, 5]);
        let found: Vec<_> = rows.rejected.iter().map(|one| (one.row, one.fault.message.as_str())).collect();
        assert_eq!(found, [(1, "b"), (4, "a"), (3, "d"), (5, "e")]);
    }
}
