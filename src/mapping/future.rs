//! `--max-future`: keeps one wrong clock from advancing stream time.
//!
//! An event too far ahead of its arrival becomes a dead letter. Arrival is a property of the record, not of the reader. A record
//! without an arrival is compared with the median event time of [`LOOKAHEAD`] rows of its partition: its own and the next
//! ones. These rows wait here as text, at most [`LOOKAHEAD`] per partition. A reader that must not wait for them compares
//! the record with the time at which it was read ([`Lookahead::pop_waited`]).

use super::record::{Arrival, Record, RecordMeta};
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::headers::{Headers, OwnedHeaders};
use crate::time::{format_duration, format_instant};
use ahash::AHashMap;
use std::collections::VecDeque;

/// Number of rows whose median event time replaces the arrival of the first of them.
pub const LOOKAHEAD: usize = 101;

/// A record that waits for its verdict.
#[derive(Clone, Debug)]
pub struct PendingRecord {
    /// Its JSON text.
    pub text: String,
    /// Its exact bytes; `None` if the text is the record itself.
    pub raw: Option<Vec<u8>>,
    /// Its number (line or offset) in its input.
    pub offset: i64,
    /// The partition of its input.
    pub partition: u32,
    /// When it was read (µs).
    pub now: i64,
    /// What the verdict needs, as the mapper found it.
    pub check: FutureCheck,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Option<OwnedHeaders>,
    /// When it arrived.
    pub arrival: Option<Arrival>,
}

impl PendingRecord {
    /// Copies a record that waits for its verdict.
    pub fn new(record: Record<'_>, check: FutureCheck) -> Self {
        let Record { text, raw, meta, now, .. } = record;
        Self {
            text: text.to_owned(),
            raw: (raw != text.as_bytes()).then(|| raw.to_vec()),
            offset: meta.offset,
            partition: meta.partition,
            now,
            check,
            key: meta.key.map(<[u8]>::to_vec),
            headers: meta.headers.map(OwnedHeaders::new),
            arrival: meta.arrival,
        }
    }

    /// Returns the record, which has its verdict.
    pub fn record(&self) -> Record<'_> {
        let meta = RecordMeta {
            input: "",
            partition: self.partition,
            offset: self.offset,
            key: self.key.as_deref(),
            headers: self.headers.as_ref().map(|headers| headers as &dyn Headers),
            arrival: self.arrival,
        };
        let raw = self.raw.as_deref().unwrap_or(self.text.as_bytes());
        Record { text: &self.text, raw, meta, now: self.now, is_judged: true }
    }
}

/// The values of a record that decide its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutureCheck {
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
    queues: AHashMap<u32, VecDeque<PendingRecord>>,
}

impl Lookahead {
    /// Creates an empty look-ahead; events more than `limit` µs after their arrival become dead letters.
    pub fn new(limit: i64) -> Self {
        Self { limit, queues: AHashMap::new() }
    }

    /// Returns the verdict on a record if it need not wait: its arrival is known, and no record of its partition waits
    /// before it.
    pub(super) fn at_once(&self, check: FutureCheck) -> Option<Result<(), Fault>> {
        let waiting = self.queues.get(&check.partition).is_some_and(|queue| !queue.is_empty());
        let arrival = check.arrival.filter(|_| !waiting)?;
        Some(self.verdict(check, arrival, "its arrival"))
    }

    /// Appends a record to its partition's queue. Returns the first record of the queue with its verdict once
    /// [`LOOKAHEAD`] records wait.
    pub fn push(&mut self, held: PendingRecord) -> Option<(PendingRecord, Result<(), Fault>)> {
        let partition = held.check.partition;
        let queue = self.queues.entry(partition).or_default();
        queue.push_back(held);
        if queue.len() < LOOKAHEAD { None } else { self.pop(partition) }
    }

    /// Removes the next record of a partition that gets no more rows, with its verdict.
    pub fn pop(&mut self, partition: u32) -> Option<(PendingRecord, Result<(), Fault>)> {
        let queue = self.queues.get_mut(&partition)?;
        let mut times: Vec<i64> = queue.iter().take(LOOKAHEAD).map(|held| held.check.event_time).collect();
        let held = queue.pop_front()?;
        let verdict = match held.check.arrival {
            Some(arrival) => self.verdict(held.check, arrival, "its arrival"),
            None => {
                let middle = (times.len() - 1) / 2;
                let (_, median, _) = times.select_nth_unstable(middle);
                self.verdict(held.check, *median, "the median of the rows that follow")
            }
        };
        Some((held, verdict))
    }

    /// Removes a record that was read before `before` (µs) and is the next one of its partition, with its verdict: without an
    /// arrival it is compared with the time at which it was read.
    pub fn pop_waited(&mut self, before: i64) -> Option<(PendingRecord, Result<(), Fault>)> {
        let held = self.queues.values_mut().find_map(|queue| queue.pop_front_if(|held| held.now < before))?;
        let (arrival, of) = match held.check.arrival {
            Some(arrival) => (arrival, "its arrival"),
            None => (held.now, "the time at which it was read"),
        };
        let verdict = self.verdict(held.check, arrival, of);
        Some((held, verdict))
    }

    /// Drops the records of a partition; returns their number.
    pub fn forget(&mut self, partition: u32) -> usize {
        self.queues.remove(&partition).map_or(0, |queue| queue.len())
    }

    /// Returns the record of a partition that has waited longest.
    pub fn first(&self, partition: u32) -> Option<&PendingRecord> {
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

    fn verdict(&self, check: FutureCheck, arrival: i64, of: &str) -> Result<(), Fault> {
        if check.event_time.saturating_sub(arrival) <= self.limit {
            return Ok(());
        }
        let message = format!(
            "{} is more than {} after {of}, {}",
            format_instant(check.event_time),
            format_duration(self.limit),
            format_instant(arrival)
        );
        Err(Fault::new(ErrorType::FutureTimestampError, message))
    }
}
