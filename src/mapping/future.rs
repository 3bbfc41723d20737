//! `--max-future`: keeps one wrong clock from advancing stream time.
//!
//! An event too far ahead of its arrival is dead. Arrival is a property of the record, never the reader's clock. A
//! record without an arrival is compared with the median event time of the next [`LOOKAHEAD`] rows of its partition,
//! itself included. Those rows wait here as text: at most [`LOOKAHEAD`] records per partition.

use crate::kind::dead::{ErrorType, Fault};
use crate::time::{format_duration, format_instant};
use ahash::AHashMap;
use std::collections::VecDeque;

/// Number of rows whose median event time replaces the arrival of the first of them.
pub const LOOKAHEAD: usize = 101;

/// A record that waits for its verdict.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its JSON text.
    pub text: String,
    /// Its exact bytes; `None` if the text is the record itself.
    pub raw: Option<Vec<u8>>,
    /// Its number (line or offset) in its input.
    pub offset: i64,
    /// The partition of its input.
    pub input: u32,
    /// When it was read (µs).
    pub now: i64,
    /// What the verdict needs, as the mapper found it.
    pub judged: Judged,
    /// Its key, headers and arrival, if it came from a topic or over HTTP.
    pub wrapping: Option<Box<Wrapping>>,
}

/// When a record arrived where it is read from (a topic, the HTTP server). It replaces a missing time of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The instant (µs).
    pub at: i64,
    /// Whether a server set it (Kafka's log append time, for one); else the sender's clock did.
    pub is_fact: bool,
}

/// An owned copy of a record's key, headers and arrival, which outlives the read buffer.
#[derive(Clone, Debug)]
pub struct Wrapping {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// When it arrived.
    pub arrival: Option<Arrival>,
}

impl Held {
    /// Returns the record's exact bytes.
    pub fn raw(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.text.as_bytes())
    }
}

/// The values of a record that decide its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its partition.
    pub partition: u32,
    /// Its event time (µs).
    pub event_time: i64,
    /// Its arrival (µs), if known.
    pub arrival: Option<i64>,
}

/// Records that wait, by partition.
pub struct Lookahead {
    limit: i64,
    queues: AHashMap<u32, VecDeque<Held>>,
}

impl Lookahead {
    /// Creates an empty look-ahead; events more than `limit` µs after their arrival are dead.
    pub fn new(limit: i64) -> Self {
        Self { limit, queues: AHashMap::new() }
    }

    /// Returns the verdict on a record if it need not wait: its arrival is known, and no record of its partition waits
    /// before it.
    pub(super) fn at_once(&self, judged: Judged) -> Option<Result<(), Fault>> {
        let waiting = self.queues.get(&judged.partition).is_some_and(|queue| !queue.is_empty());
        let arrival = judged.arrival.filter(|_| !waiting)?;
        Some(self.verdict(judged, arrival, "its arrival"))
    }

    /// Appends a record to its partition's queue. Returns the first record of the queue with its verdict once
    /// [`LOOKAHEAD`] records wait.
    pub fn push(&mut self, held: Held) -> Option<(Held, Result<(), Fault>)> {
        let partition = held.judged.partition;
        let queue = self.queues.entry(partition).or_default();
        queue.push_back(held);
        if queue.len() < LOOKAHEAD { None } else { self.pop(partition) }
    }

    /// Removes the next record of a partition that gets no more rows, with its verdict.
    pub fn pop(&mut self, partition: u32) -> Option<(Held, Result<(), Fault>)> {
        let queue = self.queues.get_mut(&partition)?;
        let mut times: Vec<i64> = queue.iter().take(LOOKAHEAD).map(|held| held.judged.event_time).collect();
        let held = queue.pop_front()?;
        let verdict = match held.judged.arrival {
            Some(arrival) => self.verdict(held.judged, arrival, "its arrival"),
            None => {
                let middle = (times.len() - 1) / 2;
                let (_, median, _) = times.select_nth_unstable(middle);
                self.verdict(held.judged, *median, "the median of the rows that follow")
            }
        };
        Some((held, verdict))
    }

    /// Drops the records of a partition; returns their number.
    pub fn forget(&mut self, partition: u32) -> usize {
        self.queues.remove(&partition).map_or(0, |queue| queue.len())
    }

    /// Returns the record of a partition that has waited longest.
    pub fn first(&self, partition: u32) -> Option<&Held> {
        self.queues.get(&partition)?.front()
    }

    /// Returns the number of waiting records.
    pub fn held(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    /// Returns the partitions with waiting records, in ascending order.
    pub fn waiting(&self) -> Vec<u32> {
        let mut waiting: Vec<u32> =
            self.queues.iter().filter(|(_, queue)| !queue.is_empty()).map(|(partition, _)| *partition).collect();
        waiting.sort_unstable();
        waiting
    }

    fn verdict(&self, judged: Judged, arrival: i64, of: &str) -> Result<(), Fault> {
        if judged.event_time.saturating_sub(arrival) <= self.limit {
            return Ok(());
        }
        let message = format!(
            "{} is more than {} after {of}, {}",
            format_instant(judged.event_time),
            format_duration(self.limit),
            format_instant(arrival)
        );
        Err(Fault::new(ErrorType::FutureTimestampError, message))
    }
}
