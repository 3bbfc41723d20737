//! The metadata that an input has about a record, besides its text.

use crate::kind::headers::Headers;

/// The time at which a record arrived in its topic or at the HTTP server. It is used if the record has no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The instant (µs).
    pub at: i64,
    /// Whether the clock of a server set it (such as Kafka's log append time); otherwise the sender's clock did.
    pub is_fact: bool,
}

/// The position of a record, and the metadata around its payload.
#[derive(Clone, Copy)]
pub struct RecordMeta<'a> {
    /// The input's name, for messages.
    pub input: &'a str,
    /// Its partition if the record does not name one: a number of the [`PartitionTable`](super::PartitionTable).
    pub partition: u32,
    /// Its number in its partition; a file's line.
    pub offset: i64,
    /// The key of its Kafka record.
    pub key: Option<&'a [u8]>,
    /// The headers of its Kafka record or HTTP request; `None` for a file.
    pub headers: Option<&'a dyn Headers>,
    /// When it arrived where it is read from, if that place records it.
    pub arrival: Option<Arrival>,
}

impl<'a> RecordMeta<'a> {
    /// Returns the metadata of the records of a file or pipe; the offset is that of the first one.
    pub fn of_file(input: &'a str, partition: u32) -> Self {
        Self { input, partition, offset: 0, key: None, headers: None, arrival: None }
    }

    /// Returns the metadata with another offset.
    pub fn at(self, offset: i64) -> Self {
        Self { offset, ..self }
    }
}

/// How `--max-future` judges a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FutureVerdict {
    /// It has passed already.
    Passed,
    /// By its arrival; without a known arrival it waits.
    ByArrival,
    /// It waits, because records of its partition may wait before it.
    Waits,
}

/// A record to map.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Its JSON text.
    pub text: &'a str,
    /// Its exact bytes.
    pub raw: &'a [u8],
    /// Its position and metadata.
    pub meta: RecordMeta<'a>,
    /// When it is read (µs).
    pub now: i64,
    /// How `--max-future` judges it.
    pub verdict: FutureVerdict,
}
