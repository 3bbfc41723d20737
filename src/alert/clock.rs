//! The alert clock C: the least stream time of the partitions that are not read to their end.
//!
//! A partition that is read to its end holds C for [`HOLD`]. While no partition holds it, C advances with the wall clock. A partition that has
//! ended does not hold C. C never goes back, and does not exist before every partition has begun, has ended or was quiet for
//! [`HOLD`].
//!
//! After a restart without new rows C continues from its last value, as if the process had not stopped.

use std::collections::BTreeMap;
use std::time::Duration;

/// How long a partition that is read to its end holds the clock.
pub const HOLD: Duration = Duration::from_secs(2);

/// A partition: the number of its input, its origin and its name.
pub type PartitionKey = (u32, String, String);

/// How far a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// More rows may be there.
    Behind,
    /// Everything that is there has been read.
    AtEnd,
    /// No row will follow.
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct ClockPartition {
    /// Its stream time (µs).
    stream_time: Option<i64>,
    /// The stream time of its first row, and whether earlier rows were not read.
    first: Option<(i64, bool)>,
    /// The monotonic time since which everything has been read.
    quiet_since: Option<Duration>,
    is_ended: bool,
}

/// The partitions, and the clock that they make.
#[derive(Debug, Default)]
pub struct AlertClock {
    partitions: BTreeMap<PartitionKey, ClockPartition>,
    clock: Option<i64>,
    /// The last value of C in the earlier run, until the first row arrives.
    stood: Option<StoodAt>,
    /// Since when the clock runs on, and from where.
    runs_since: Option<(Duration, i64)>,
}

/// The last value of C in an earlier run, and how long before the start of this run that was.
#[derive(Clone, Copy, Debug)]
pub struct StoodAt {
    /// The clock (µs).
    pub clock: i64,
    /// The wall time (µs) that had passed since then when the run started.
    pub passed: i64,
    /// The monotonic time at the start of the run.
    pub start: Duration,
}

impl AlertClock {
    /// Makes a clock that begins where an earlier run stopped.
    pub fn new(stood: Option<StoodAt>) -> Self {
        Self { clock: stood.map(|stood| stood.clock), stood, ..Self::default() }
    }

    fn partition(&mut self, key: PartitionKey) -> &mut ClockPartition {
        let new = ClockPartition { stream_time: None, first: None, quiet_since: None, is_ended: false };
        self.partitions.entry(key).or_insert(new)
    }

    /// Announces a partition, with the stream time (µs) that an earlier run reached.
    pub fn announce(&mut self, key: PartitionKey, stream_time: Option<i64>) {
        let partition = self.partition(key);
        partition.stream_time = partition.stream_time.max(stream_time);
    }

    /// Withdraws a partition that was announced and has no rows.
    pub fn withdraw(&mut self, key: &PartitionKey) {
        if self.partitions.get(key).is_some_and(|partition| partition.stream_time.is_none()) {
            self.partitions.remove(key);
        }
    }

    /// Notes rows of a partition, up to this stream time (µs). `is_cut`: rows before the first one were not read. Returns the
    /// stream time of the partition.
    pub fn rows(&mut self, key: PartitionKey, first: i64, last: i64, is_cut: bool) -> i64 {
        self.stood = None;
        let partition = self.partition(key);
        partition.first.get_or_insert((first, is_cut));
        partition.quiet_since = None;
        *partition.stream_time.insert(partition.stream_time.map_or(last, |known| known.max(last)))
    }

    /// Returns the stream time of a partition.
    pub fn stream_time(&self, key: &PartitionKey) -> Option<i64> {
        self.partitions.get(key).and_then(|partition| partition.stream_time)
    }

    /// Notes how far a partition is read, at monotonic time `now`.
    pub fn read(&mut self, key: PartitionKey, state: ReadState, now: Duration) {
        let partition = self.partition(key);
        match state {
            ReadState::Behind => partition.quiet_since = None,
            ReadState::AtEnd => _ = partition.quiet_since.get_or_insert(now),
            ReadState::Ended => partition.is_ended = true,
        }
    }

    /// Returns the keys of the partitions of an input.
    pub fn of_input(&self, input: u32) -> Vec<PartitionKey> {
        self.partitions.keys().filter(|(number, ..)| *number == input).cloned().collect()
    }

    /// Returns C (µs) at monotonic time `now`.
    pub fn get(&mut self, now: Duration) -> Option<i64> {
        let mut least: Option<i64> = None;
        let mut released: Option<Duration> = None;
        let mut is_unknown = self.partitions.is_empty();
        let mut are_all_ended = true;
        for partition in self.partitions.values().filter(|partition| !partition.is_ended) {
            are_all_ended = false;
            match partition.quiet_since.map(|since| since + HOLD) {
                Some(until) if until <= now => released = released.max(Some(until)),
                _ => match partition.stream_time {
                    None => is_unknown = true,
                    Some(stream_time) => least = Some(least.map_or(stream_time, |least| least.min(stream_time))),
                },
            }
        }
        let greatest = self.partitions.values().filter_map(|partition| partition.stream_time).max();
        let clock = match (is_unknown, least) {
            (true, _) => None,
            (false, Some(least)) => Some(least),
            (false, None) if are_all_ended => greatest,
            (false, None) => self.run_on(greatest, released.unwrap_or(now), now),
        };
        if least.is_some() || is_unknown {
            self.runs_since = None;
        }
        self.clock = self.clock.max(clock);
        self.clock
    }

    /// Returns the clock while every partition is quiet, since `released`.
    fn run_on(&mut self, greatest: Option<i64>, released: Duration, now: Duration) -> Option<i64> {
        let micros = |since: Duration| i64::try_from(now.saturating_sub(since).as_micros()).unwrap_or(i64::MAX);
        if let Some(StoodAt { clock, passed, start }) = self.stood {
            return Some(clock.saturating_add(passed.max(0)).saturating_add(micros(start)));
        }
        let (since, from) = match self.runs_since {
            Some(running) => running,
            None => (released, self.clock.max(greatest)?),
        };
        self.runs_since = Some((since, from));
        Some(from.saturating_add(micros(since)))
    }

    /// Returns the instant (µs) from which on all rows are known. That is the earliest of the first rows of the partitions,
    /// but not before the first row of a partition that was not read from its beginning.
    pub fn start(&self) -> Option<i64> {
        let firsts = || self.partitions.values().filter_map(|partition| partition.first);
        let cut = firsts().filter(|(_, is_cut)| *is_cut).map(|(first, _)| first).max();
        firsts().map(|(first, _)| first).min().max(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> PartitionKey {
        (0, "t".to_owned(), name.to_owned())
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_slowest_partition_holds_the_clock_until_it_was_quiet_for_two_seconds() {
        let mut clock = AlertClock::default();
        clock.announce(key("0"), None);
        clock.announce(key("1"), None);
        clock.rows(key("0"), 10, 50, false);
        assert_eq!(clock.get(at(0)), None, "partition 1 has not begun");
        clock.rows(key("1"), 20, 30, true);
        assert_eq!((clock.get(at(0)), clock.start()), (Some(30), Some(20)));
        clock.read(key("1"), ReadState::AtEnd, at(1));
        assert_eq!(clock.get(at(2)), Some(30));
        assert_eq!(clock.get(at(3)), Some(50));
        clock.read(key("0"), ReadState::AtEnd, at(4));
        assert_eq!(clock.get(at(5)), Some(50));
        assert_eq!(clock.get(at(9)), Some(50 + 3_000_000), "all are quiet since second 6");
        clock.rows(key("1"), 40, 40, true);
        assert_eq!(clock.get(at(9)), Some(50 + 3_000_000), "the clock never goes back");
    }

    #[test]
    fn a_clock_that_ran_on_goes_on_after_a_restart() {
        let stood = StoodAt { clock: 7_000_000, passed: 60_000_000, start: at(1) };
        let mut clock = AlertClock::new(Some(stood));
        clock.announce(key("0"), Some(2));
        clock.read(key("0"), ReadState::AtEnd, at(2));
        assert_eq!(clock.get(at(3)), Some(7_000_000));
        assert_eq!(clock.get(at(4)), Some(70_000_000));
        clock.rows(key("0"), 60_000_000, 60_000_000, false);
        assert_eq!(clock.get(at(5)), Some(70_000_000), "a row behind the clock does not set it back");
        clock.read(key("0"), ReadState::AtEnd, at(6));
        assert_eq!(clock.get(at(9)), Some(71_000_000), "it runs on from where it stood");
    }

    #[test]
    fn a_partition_that_has_ended_does_not_hold_the_clock() {
        let mut clock = AlertClock::new(Some(StoodAt { clock: 5, passed: 0, start: at(0) }));
        clock.rows(key("0"), 10, 50, false);
        clock.rows(key("1"), 10, 20, false);
        clock.read(key("1"), ReadState::Ended, at(0));
        assert_eq!(clock.get(at(0)), Some(50));
        clock.read(key("0"), ReadState::Ended, at(0));
        assert_eq!(clock.get(at(100)), Some(50), "the clock does not run on after the end of all");
    }
}
