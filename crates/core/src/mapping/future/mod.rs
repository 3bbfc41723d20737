//! `--max-future`: keeps one wrong clock from advancing stream time.
//!
//! An event too far ahead of its arrival becomes a dead letter. Arrival is a property of the record, not of the reader.
//! A record without an arrival is judged by the rows around it, which `judge.rs` does. It waits here as text until
//! [`Reach::rows`] rows are read, itself included. A reader that must not wait for them compares the record with the
//! time at which it was read ([`Lookahead::judge_waited`]). A faulty record needs no verdict, but waits for the records
//! before it, so that a position never has letters behind it.
//!
//! The waiting records of all partitions have at most [`HELD_BYTES`]. Beyond that the partition with most bytes decides
//! about its first record with the rows that it has, which depends on the records alone.

mod judge;

pub use judge::{Reach, Rest};

use super::record::{Arrival, FutureVerdict, Record, RecordMeta};
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::headers::{Headers, copied};
use crate::kind::values::HeaderList;
use crate::time::{format_duration, format_instant};
use ahash::AHashMap;
use judge::{Neighbours, TimeBound};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Most bytes of waiting records, over all partitions.
const HELD_BYTES: usize = 64 << 20;

/// Bytes beside a waiting record: its places in two queues, and what the allocator adds to its text and its box.
const BESIDE: usize = 64;

/// A record that waits no longer.
pub enum Judged {
    /// It has its verdict.
    Record(Box<PendingRecord>, Result<(), Fault>),
    /// It is faulty, and no record waits before it.
    Letter(PendingLetter),
}

/// What is kept of a record beside its text and its bytes.
#[derive(Clone, Debug)]
pub struct PendingMeta {
    /// Its number (line or offset) in its input.
    pub offset: i64,
    /// The partition of its input.
    pub partition: u32,
    /// When it was read (µs).
    pub now: i64,
    key: Option<Vec<u8>>,
    headers: Option<HeaderList>,
    arrival: Option<Arrival>,
}

impl PendingMeta {
    fn new(meta: &RecordMeta<'_>, now: i64) -> Self {
        let &RecordMeta { offset, partition, key, headers, arrival, .. } = meta;
        Self { offset, partition, now, key: key.map(<[u8]>::to_vec), headers: headers.map(copied), arrival }
    }

    /// Returns the memory that key and headers take, in bytes.
    fn bytes(&self) -> usize {
        let of_header = |(name, value): &(String, Option<Vec<u8>>)| {
            2 * size_of::<String>() + name.len() + value.as_ref().map_or(0, Vec::len)
        };
        let headers: usize = self.headers.iter().flatten().map(of_header).sum();
        headers + self.key.as_ref().map_or(0, Vec::len)
    }

    /// Returns the record with this text and these bytes, which need not wait any more.
    fn record<'a>(&'a self, text: &'a str, raw: &'a [u8]) -> Record<'a> {
        let meta = RecordMeta {
            input: "",
            partition: self.partition,
            offset: self.offset,
            key: self.key.as_deref(),
            headers: self.headers.as_ref().map(|headers| headers as &dyn Headers),
            arrival: self.arrival,
        };
        Record { text, raw, meta, now: self.now, verdict: FutureVerdict::Passed }
    }
}

/// A record that waits for its verdict.
#[derive(Clone, Debug)]
pub struct PendingRecord {
    /// Its JSON text.
    pub text: String,
    /// Its exact bytes; `None` if the text is the record itself.
    pub raw: Option<Vec<u8>>,
    /// Its place, key, headers and times.
    pub meta: PendingMeta,
    /// The values that decide its verdict, as the mapper found them.
    pub check: FutureCheck,
    /// The faulty records between it and the next record that waits.
    pub letters: Vec<PendingLetter>,
}

/// A faulty record that waits only because one before it in its partition waits: who reads that one again after a
/// restart reads this one again, too.
#[derive(Clone, Debug)]
pub struct PendingLetter {
    /// The bytes of its dead letter.
    pub payload: Vec<u8>,
    /// Why it is no row.
    pub fault: Fault,
    /// Its place, key, headers and times.
    pub meta: PendingMeta,
}

impl PendingLetter {
    /// Copies a record, of which `raw` are the bytes of its letter.
    pub fn new(record: Record<'_>, fault: Fault) -> Self {
        let Record { raw, meta, now, .. } = record;
        Self { payload: raw.to_vec(), fault, meta: PendingMeta::new(&meta, now) }
    }

    /// Returns the memory that it takes, in bytes.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.payload.len() + self.fault.message.len() + self.meta.bytes()
    }

    /// Returns the record.
    pub fn record(&self) -> Record<'_> {
        self.meta.record("", &self.payload)
    }
}

impl PendingRecord {
    /// Copies a record that waits for its verdict.
    pub fn new(record: Record<'_>, check: FutureCheck) -> Self {
        let Record { text, raw, meta, now, .. } = record;
        Self {
            text: text.to_owned(),
            raw: (raw != text.as_bytes()).then(|| raw.to_vec()),
            meta: PendingMeta::new(&meta, now),
            check,
            letters: vec![],
        }
    }

    /// Returns the memory that it and its letters take, in bytes.
    fn bytes(&self) -> usize {
        let letters: usize = self.letters.iter().map(PendingLetter::bytes).sum();
        let of_parts = self.text.len() + self.raw.as_ref().map_or(0, Vec::len) + self.meta.bytes();
        size_of::<Self>() + BESIDE + of_parts + letters
    }

    /// Returns its number in its input.
    pub fn offset(&self) -> i64 {
        self.meta.offset
    }

    /// Returns the record, which has its verdict.
    pub fn record(&self) -> Record<'_> {
        self.meta.record(&self.text, self.raw.as_deref().unwrap_or(self.text.as_bytes()))
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
        self.arrival.map(|arrival| verdict(self, &[Some(of_arrival(arrival, limit))]))
    }
}

/// Records that wait, by partition.
pub struct Lookahead {
    limit: i64,
    /// Most bytes of the waiting records.
    bytes_max: usize,
    partitions: AHashMap<u32, Waiting>,
    /// The number of waiting records, and their bytes.
    held: usize,
    bytes: usize,
    /// Records that wait no longer, in the order in which they are released.
    judged: VecDeque<Judged>,
    /// Whether [`Lookahead::unreported`] has returned a number.
    has_reported: bool,
}

/// A record that has waited, with its verdict.
type WithVerdict = (Box<PendingRecord>, Result<(), Fault>);

/// The records of a partition that wait.
#[derive(Default)]
struct Waiting {
    /// In boxes, so that the room of a queue for further ones is small.
    records: VecDeque<Box<PendingRecord>>,
    bytes: usize,
    /// What the last record was read from.
    reach: Reach,
    neighbours: Neighbours,
}

impl Waiting {
    fn push(&mut self, held: PendingRecord, reach: Reach) {
        self.reach = reach;
        self.bytes += held.bytes();
        self.neighbours.read(held.check.event_time);
        self.records.push_back(Box::new(held));
    }

    /// Removes the first record, with its verdict after the rows that were read ahead.
    fn pop(&mut self, limit: i64, rest: Rest) -> Option<WithVerdict> {
        let first = self.records.front()?;
        let FutureCheck { event_time, arrival, .. } = first.check;
        let by_reading = of_reading(first.meta.now, limit);
        // It arrived before it was read. Where few rows follow, it may be the median itself.
        let is_short = self.reach == Reach::Live && self.records.len() < self.reach.rows();
        match arrival {
            Some(arrival) => self.release(&[Some(of_arrival(arrival, limit))]),
            None if is_short && event_time > by_reading.latest() => self.release(&[Some(by_reading)]),
            None => self.release(&self.neighbours.bounds(event_time, limit, self.reach, rest)),
        }
    }

    /// Removes the first record if it was read before `before` (µs), with its verdict: without an arrival it is
    /// compared with the time at which it was read.
    fn pop_waited(&mut self, before: i64, limit: i64) -> Option<WithVerdict> {
        let first = self.records.front().filter(|held| held.meta.now < before)?;
        let bound = match first.check.arrival {
            Some(arrival) => of_arrival(arrival, limit),
            None => of_reading(first.meta.now, limit),
        };
        self.release(&[Some(bound)])
    }

    /// Removes the first record, with its verdict.
    fn release(&mut self, bounds: &[Option<TimeBound>]) -> Option<WithVerdict> {
        let held = self.records.pop_front()?;
        let verdict = verdict(held.check, bounds);
        self.bytes -= held.bytes();
        self.neighbours.judged(held.check.event_time, verdict.is_ok());
        if self.records.is_empty() {
            // A partition that has ended keeps no memory.
            self.records = VecDeque::new();
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
        let waits = |waiting: &Waiting| waiting.records.front().is_some_and(|held| held.meta.now < before);
        let held = self.partitions.values().any(waits).then_some(self.held);
        self.has_reported |= held.is_some();
        held
    }

    /// Creates an empty look-ahead; events more than `limit` µs after their arrival become dead letters.
    pub fn new(limit: i64) -> Self {
        Self::bounded(limit, HELD_BYTES)
    }

    /// The same, for records of at most `bytes_max` bytes.
    fn bounded(limit: i64, bytes_max: usize) -> Self {
        let (partitions, judged) = (AHashMap::new(), VecDeque::new());
        Self { limit, bytes_max, partitions, held: 0, bytes: 0, judged, has_reported: false }
    }

    /// Returns the verdict on a record if it need not wait: its arrival is known, and no record of its partition waits
    /// before it.
    pub fn at_once(&self, check: FutureCheck) -> Option<Result<(), Fault>> {
        let must_wait = self.partitions.get(&check.partition).is_some_and(|waiting| !waiting.records.is_empty());
        check.by_arrival(self.limit).filter(|_| !must_wait)
    }

    /// Appends a record, read from an input of `reach`, to its partition's queue. Judges records that have enough rows
    /// behind them now, and some if too many wait.
    pub fn push(&mut self, held: PendingRecord, reach: Reach) {
        let partition = held.check.partition;
        let waiting = self.partitions.entry(partition).or_default();
        self.held += 1;
        self.bytes += held.bytes();
        waiting.push(held, reach);
        if waiting.records.len() >= reach.rows() {
            self.judge_first(partition, Rest::Unknown);
        }
        if self.bytes > self.bytes_max {
            self.shed();
        }
    }

    /// Appends a faulty record to the records of its partition that wait. It is released at once if there are none.
    pub fn push_letter(&mut self, letter: PendingLetter) {
        let waiting = self.partitions.get_mut(&letter.meta.partition);
        let Some((last, bytes)) = waiting.and_then(|waiting| Some((waiting.records.back_mut()?, &mut waiting.bytes)))
        else {
            return self.judged.push_back(Judged::Letter(letter));
        };
        *bytes += letter.bytes();
        self.bytes += letter.bytes();
        last.letters.push(letter);
        if self.bytes > self.bytes_max {
            self.shed();
        }
    }

    /// Judges records of the partitions with most bytes until an eighth of the memory is free.
    #[cold]
    fn shed(&mut self) {
        let held = self.partitions.iter().filter(|(_, waiting)| !waiting.records.is_empty());
        let mut largest: BinaryHeap<_> =
            held.map(|(partition, waiting)| (waiting.bytes, Reverse(*partition))).collect();
        while self.bytes > self.bytes_max - self.bytes_max / 8
            && let Some((_, Reverse(partition))) = largest.pop()
        {
            let left = self.judge_first(partition, Rest::Unknown);
            if left > 0 {
                largest.push((left, Reverse(partition)));
            }
        }
    }

    /// Judges the next record of a partition after the rows that were read ahead. Returns the bytes of its records that
    /// are left.
    fn judge_first(&mut self, partition: u32, rest: Rest) -> usize {
        let limit = self.limit;
        let Some(waiting) = self.partitions.get_mut(&partition) else { return 0 };
        let (judged, left) = (waiting.pop(limit, rest), waiting.bytes);
        self.take(judged);
        left
    }

    /// Takes a record that waits no longer, and the letters behind it.
    fn take(&mut self, judged: Option<WithVerdict>) {
        let Some((mut held, verdict)) = judged else { return };
        self.held -= 1;
        self.bytes -= held.bytes();
        let letters = std::mem::take(&mut held.letters);
        self.judged.push_back(Judged::Record(held, verdict));
        self.judged.extend(letters.into_iter().map(Judged::Letter));
    }

    /// Judges all records of a partition that gets no more rows for now.
    pub fn judge(&mut self, partition: u32, rest: Rest) {
        while self.judge_first(partition, rest) > 0 {}
    }

    /// Judges all records, in the order of their partitions.
    pub fn judge_all(&mut self, rest: Rest) {
        self.waiting().into_iter().for_each(|partition| self.judge(partition, rest));
    }

    /// Judges the records that were read before `before` (µs) and have none before them in their partitions that was
    /// read later: without an arrival they are compared with the time at which they were read.
    pub fn judge_waited(&mut self, before: i64) {
        for partition in self.waiting() {
            while let Some(judged) =
                self.partitions.get_mut(&partition).and_then(|one| one.pop_waited(before, self.limit))
            {
                self.take(Some(judged));
            }
        }
    }

    /// Removes the next record that waits no longer.
    pub fn pop_judged(&mut self) -> Option<Judged> {
        self.judged.pop_front()
    }

    /// Notes that earlier runs have accepted rows of a partition up to this time (µs).
    pub fn resume(&mut self, partition: u32, stream_time: i64) {
        self.partitions.entry(partition).or_default().neighbours.resume(stream_time);
    }

    /// Drops the records and the letters of a partition; returns their number.
    pub fn forget(&mut self, partition: u32) -> usize {
        let Some(waiting) = self.partitions.remove(&partition) else { return 0 };
        self.held -= waiting.records.len();
        self.bytes -= waiting.bytes;
        waiting.records.iter().map(|record| 1 + record.letters.len()).sum()
    }

    /// Returns the record of a partition that has waited longest.
    pub fn first(&self, partition: u32) -> Option<&PendingRecord> {
        self.partitions.get(&partition)?.records.front().map(AsRef::as_ref)
    }

    /// Returns the number of waiting records.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Returns the partitions with waiting records, in ascending order.
    fn waiting(&self) -> Vec<u32> {
        let held = self.partitions.iter().filter(|(_, waiting)| !waiting.records.is_empty());
        let mut partitions: Vec<u32> = held.map(|(partition, _)| *partition).collect();
        partitions.sort_unstable();
        partitions
    }
}

fn of_arrival(at: i64, limit: i64) -> TimeBound {
    TimeBound { at, name: "its arrival", ahead: limit }
}

fn of_reading(at: i64, limit: i64) -> TimeBound {
    TimeBound { at, name: "the time at which it was read", ahead: limit }
}

/// Returns whether an event is within one of the bounds, or there are none.
fn verdict(check: FutureCheck, bounds: &[Option<TimeBound>]) -> Result<(), Fault> {
    let Some(bound) = bounds.iter().flatten().max_by_key(|bound| bound.latest()) else { return Ok(()) };
    if check.event_time <= bound.latest() {
        return Ok(());
    }
    let message = format!(
        "{} is more than {} after {}, {}",
        format_instant(check.event_time),
        format_duration(bound.ahead),
        bound.name,
        format_instant(bound.at)
    );
    Err(Fault::new(ErrorType::FutureTimestampError, message))
}

#[cfg(test)]
mod tests;
