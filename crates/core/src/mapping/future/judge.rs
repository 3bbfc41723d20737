//! Judges the event time of a record without an arrival by the rows around it.
//!
//! Rows follow one another in about the order of their times, so the median of the rows from the record on is not long
//! before the time at which it was written, and a few wrong clocks do not move it. A record passes if it is at most
//! the limit after that median, or after the rows accepted before it: it does not advance stream time by more.
//!
//! Near the end of a partition few rows follow. There a gap of the rows and a wrong clock look alike, and the rows
//! before decide: they show how large gaps are ([`Accepted`]). The median counts only if it is that of many rows
//! ([`Neighbours::is_many`]).

use std::collections::VecDeque;

/// Number of accepted rows whose gaps count.
const GAPS: u64 = 1_000;
/// How many times the largest gap a record may be ahead near the end of its partition.
const GAP_FACTOR: i64 = 10;
/// More rows than these have a median that counts, whatever came before them.
const MANY: usize = 100;
/// More rows than these have a median that counts if it shows no longer gap than the rows before span.
const SOME: usize = 10;
/// This part of the rows before is as good as many.
const PART: u64 = 4;

/// What a record is read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// A file that is read to its end.
    File,
    /// A pipe: it ends, but a reader may wait for its rows until then.
    Pipe,
    /// An input that may grow after its present end: a topic, a followed file.
    #[default]
    Live,
}

impl Reach {
    /// Returns the number of rows whose median counts, the record included.
    pub const fn rows(self) -> usize {
        match self {
            Self::File => 2_001,
            Self::Pipe | Self::Live => 101,
        }
    }

    /// Returns the number of rows that must follow a record so that the end of its partition is far away.
    fn far(self) -> usize {
        match self {
            Self::File => 1_000,
            Self::Pipe | Self::Live => self.rows() - 1,
        }
    }
}

/// What is known about the rows behind those that were read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The partition has no more rows.
    None,
    /// Further rows may follow, now or in a later run.
    Unknown,
}

/// An instant, and how far a record may be ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeBound {
    /// The instant (µs).
    pub at: i64,
    /// Its name in messages.
    pub name: &'static str,
    /// How far a record may be ahead of it (µs).
    pub ahead: i64,
}

impl TimeBound {
    /// Returns the latest event time that passes (µs).
    pub(super) fn latest(&self) -> i64 {
        self.at.saturating_add(self.ahead)
    }
}

/// The rows that were accepted.
#[derive(Default)]
struct Accepted {
    count: u64,
    /// Their least and their greatest event time (µs).
    least: i64,
    greatest: i64,
    /// How far rows were ahead of all rows before them (µs), each with its number: of the last [`GAPS`] rows those with
    /// no later one that is as large, so the first is the largest.
    gaps: VecDeque<(u64, i64)>,
}

impl Accepted {
    fn note(&mut self, event_time: i64) {
        self.count += 1;
        if self.count == 1 {
            (self.least, self.greatest) = (event_time, event_time);
            return;
        }
        let gap = event_time.saturating_sub(self.greatest);
        self.least = self.least.min(event_time);
        self.greatest = self.greatest.max(event_time);
        while self.gaps.front().is_some_and(|(number, _)| number + GAPS <= self.count) {
            self.gaps.pop_front();
        }
        if gap > 0 {
            while self.gaps.back().is_some_and(|(_, smaller)| *smaller <= gap) {
                self.gaps.pop_back();
            }
            self.gaps.push_back((self.count, gap));
        }
    }

    /// Returns how far a record may be ahead of these rows near the end of a partition.
    fn ahead(&self, limit: i64) -> i64 {
        let largest = self.gaps.front().map_or(0, |(_, gap)| *gap);
        limit.max(largest.saturating_mul(GAP_FACTOR))
    }
}

/// The event times of the rows of a partition: those that were read ahead, and those accepted before.
#[derive(Default)]
pub(super) struct Neighbours {
    /// The times that were read ahead (µs), ascending.
    ahead: VecDeque<i64>,
    accepted: Accepted,
}

impl Neighbours {
    /// Notes a row that was read.
    pub(super) fn read(&mut self, event_time: i64) {
        let at = self.ahead.partition_point(|time| *time <= event_time);
        self.ahead.insert(at, event_time);
    }

    /// Takes a row out that was read and has its verdict.
    pub(super) fn judged(&mut self, event_time: i64, is_accepted: bool) {
        if let Ok(at) = self.ahead.binary_search(&event_time) {
            self.ahead.remove(at);
        }
        if self.ahead.is_empty() {
            // A partition that has ended keeps no memory.
            self.ahead = VecDeque::new();
        }
        if is_accepted {
            self.accepted.note(event_time);
        }
    }

    /// Notes that earlier runs have accepted rows up to this time (µs).
    pub(super) fn resume(&mut self, stream_time: i64) {
        self.accepted.note(stream_time);
    }

    /// Returns the bounds of the record that comes first of the rows read ahead. It passes if it is within one of them,
    /// or if there is none.
    pub(super) fn bounds(&self, event_time: i64, limit: i64, reach: Reach, rest: Rest) -> [Option<TimeBound>; 2] {
        let is_near = rest == Rest::None && reach != Reach::Live && self.ahead.len() <= reach.far();
        // Of two middle times the later one counts: one late row after the record is no reason to reject it.
        let median = self.ahead.get(self.ahead.len() / 2).copied();
        let of_median = |ahead| median.map(|at| TimeBound { at, name: "the median of the rows that follow", ahead });
        let of_accepted = |ahead| TimeBound { at: self.accepted.greatest, name: "the rows before it", ahead };
        let has_accepted = self.accepted.count > 0;
        if is_near {
            let ahead = if has_accepted { limit } else { self.first_ahead(limit) };
            let median = of_median(ahead).filter(|_| self.is_many(event_time));
            return [median, has_accepted.then(|| of_accepted(self.accepted.ahead(limit)))];
        }
        // Where a live input began is no reason for another verdict, as long as enough rows follow.
        let counts = has_accepted && (reach != Reach::Live || self.ahead.len() < reach.rows());
        [of_median(limit), counts.then(|| of_accepted(limit))]
    }

    /// Returns how far a record before which none is accepted may be ahead of the median near the end of its partition.
    fn first_ahead(&self, limit: i64) -> i64 {
        let middle = self.ahead.get(self.ahead.len() / 2);
        match (middle, self.ahead.front()) {
            (Some(middle), Some(least)) if self.ahead.len() <= MANY => {
                limit.max(middle.saturating_sub(*least).saturating_mul(GAP_FACTOR))
            }
            _ => limit,
        }
    }

    /// Whether the rows from a record on are so many, near the end of a partition, that a gap is more likely before
    /// them than a wrong clock in most of them.
    fn is_many(&self, event_time: i64) -> bool {
        let Accepted { count, least, greatest, .. } = self.accepted;
        let follow = self.ahead.len();
        let gap = event_time.saturating_sub(greatest);
        follow > MANY
            || count > 0 && follow as u64 * PART >= count
            || follow > SOME && (count == 0 || gap <= greatest.saturating_sub(least))
    }

    /// Returns the number of times for which there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.ahead.capacity() + self.accepted.gaps.capacity()
    }
}
