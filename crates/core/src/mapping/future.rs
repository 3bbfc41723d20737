//! `--max-future`: keeps one wrong clock from advancing stream time.
//!
//! An event too far ahead of its arrival becomes a dead letter. Arrival is a property of the record, not of the reader.
//! A record without an arrival is compared with the median event time of [`LOOKAHEAD`] rows of its partition: its own
//! and the next ones. These rows wait here as text, at most [`LOOKAHEAD`] per partition. A reader that must not wait
//! for them compares the record with the time at which it was read ([`Lookahead::pop_waited`]).
//!
//! Fewer rows follow a record near the end of its partition, and the median of two or three rows may be the time of a
//! late one. Such a record passes, too, if it is not too far ahead of the records accepted before it.

use super::record::{Arrival, FutureVerdict, Record, RecordMeta};
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::headers::{Headers, copied};
use crate::kind::values::HeaderList;
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
    /// The values that decide its verdict, as the mapper found them.
    pub check: FutureCheck,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Option<HeaderList>,
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
            headers: meta.headers.map(copied),
            arrival: meta.arrival,
        }
    }

    /// Returns its number in its input.
    pub fn offset(&self) -> i64 {
        self.offset
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
        Record { text: &self.text, raw, meta, now: self.now, verdict: FutureVerdict::Passed }
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

impl FutureCheck {
    /// Returns the verdict on an event of which the arrival is known: it may be at most `limit` µs after it.
    pub(super) fn by_arrival(self, limit: i64) -> Option<Result<(), Fault>> {
        self.arrival.map(|arrival| verdict(self, Reference::arrival(arrival), limit))
    }
}

/// Records that wait, by partition.
pub struct Lookahead {
    limit: i64,
    partitions: AHashMap<u32, Waiting>,
    /// The number of waiting records.
    held: usize,
    /// Whether [`Lookahead::unreported`] has returned a number.
    has_reported: bool,
}

/// The records of a partition that wait.
#[derive(Default)]
struct Waiting {
    records: VecDeque<PendingRecord>,
    /// Greatest event time of the records that waited and were accepted (µs).
    accepted: Option<i64>,
}

/// The instant that the event time of a record is compared with.
#[derive(Clone, Copy)]
struct Reference {
    /// An instant (µs).
    at: i64,
    /// Its name in messages.
    name: &'static str,
}

impl Reference {
    fn arrival(at: i64) -> Self {
        Self { at, name: "its arrival" }
    }
}

impl Waiting {
    /// Returns the instant that the event time of the first record is compared with.
    fn reference(&self) -> Option<Reference> {
        let first = self.records.front()?;
        if let Some(arrival) = first.check.arrival {
            return Some(Reference::arrival(arrival));
        }
        let mut times: Vec<i64> = self.records.iter().take(LOOKAHEAD).map(|held| held.check.event_time).collect();
        let count = times.len();
        // Of two middle times the later one counts: one late row after the record is not a reason to reject it.
        let (_, median, _) = times.select_nth_unstable(count / 2);
        let accepted = self.accepted.filter(|accepted| count < LOOKAHEAD && accepted > median);
        Some(match accepted {
            Some(at) => Reference { at, name: "the rows before it" },
            None => Reference { at: *median, name: "the median of the rows that follow" },
        })
    }

    /// Removes the first record, with its verdict.
    fn release(&mut self, reference: Reference, limit: i64) -> Option<(PendingRecord, Result<(), Fault>)> {
        let held = self.records.pop_front()?;
        let verdict = verdict(held.check, reference, limit);
        if verdict.is_ok() {
            self.accepted = self.accepted.max(Some(held.check.event_time));
        }
        Some((held, verdict))
    }
}

impl Lookahead {
    /// Returns the number of waiting records if one was read before `before` (µs); later calls return `None`.
    pub fn unreported(&mut self, before: i64) -> Option<usize> {
        if self.has_reported || self.held == 0 {
            return None;
        }
        let waits = |waiting: &Waiting| waiting.records.front().is_some_and(|held| held.now < before);
        let held = self.partitions.values().any(waits).then_some(self.held);
        self.has_reported |= held.is_some();
        held
    }

    /// Creates an empty look-ahead; events more than `limit` µs after their arrival become dead letters.
    pub fn new(limit: i64) -> Self {
        Self { limit, partitions: AHashMap::new(), held: 0, has_reported: false }
    }

    /// Returns the verdict on a record if it need not wait: its arrival is known, and no record of its partition waits
    /// before it.
    pub fn at_once(&self, check: FutureCheck) -> Option<Result<(), Fault>> {
        let must_wait = self.partitions.get(&check.partition).is_some_and(|waiting| !waiting.records.is_empty());
        check.by_arrival(self.limit).filter(|_| !must_wait)
    }

    /// Appends a record to its partition's queue. Returns the first record of the queue with its verdict once
    /// [`LOOKAHEAD`] records wait.
    pub fn push(&mut self, held: PendingRecord) -> Option<(PendingRecord, Result<(), Fault>)> {
        let partition = held.check.partition;
        let records = &mut self.partitions.entry(partition).or_default().records;
        records.push_back(held);
        self.held += 1;
        if records.len() < LOOKAHEAD { None } else { self.pop(partition) }
    }

    /// Removes the next record of a partition that gets no more rows, with its verdict.
    pub fn pop(&mut self, partition: u32) -> Option<(PendingRecord, Result<(), Fault>)> {
        let waiting = self.partitions.get_mut(&partition)?;
        let reference = waiting.reference()?;
        self.held -= 1;
        waiting.release(reference, self.limit)
    }

    /// Removes a record that was read before `before` (µs) and is the next one of its partition, with its verdict:
    /// without an arrival it is compared with the time at which it was read.
    pub fn pop_waited(&mut self, before: i64) -> Option<(PendingRecord, Result<(), Fault>)> {
        let released = self.partitions.values_mut().find_map(|waiting| {
            let first = waiting.records.front().filter(|held| held.now < before)?;
            let reference = match first.check.arrival {
                Some(arrival) => Reference::arrival(arrival),
                None => Reference { at: first.now, name: "the time at which it was read" },
            };
            waiting.release(reference, self.limit)
        });
        self.held -= usize::from(released.is_some());
        released
    }

    /// Drops the records of a partition; returns their number.
    pub fn forget(&mut self, partition: u32) -> usize {
        let forgotten = self.partitions.remove(&partition).map_or(0, |waiting| waiting.records.len());
        self.held -= forgotten;
        forgotten
    }

    /// Returns the record of a partition that has waited longest.
    pub fn first(&self, partition: u32) -> Option<&PendingRecord> {
        self.partitions.get(&partition)?.records.front()
    }

    /// Returns the number of waiting records.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Returns the partitions with waiting records, in ascending order.
    pub fn waiting(&self) -> Vec<u32> {
        let held = self.partitions.iter().filter(|(_, waiting)| !waiting.records.is_empty());
        let mut partitions: Vec<u32> = held.map(|(partition, _)| *partition).collect();
        partitions.sort_unstable();
        partitions
    }
}

/// Returns whether an event is at most `limit` µs after its reference.
fn verdict(check: FutureCheck, reference: Reference, limit: i64) -> Result<(), Fault> {
    if check.event_time.saturating_sub(reference.at) <= limit {
        return Ok(());
    }
    let message = format!(
        "{} is more than {} after {}, {}",
        format_instant(check.event_time),
        format_duration(limit),
        reference.name,
        format_instant(reference.at)
    );
    Err(Fault::new(ErrorType::FutureTimestampError, message))
}
