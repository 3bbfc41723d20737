//! The alert clock C: the least stream time of the partitions that are not read to their end.
//!
//! A partition that is read to its end holds C for [`HOLD`]. While no partition holds it, C advances with the monotonic
//! clock, but only as far as the ends are confirmed. The response to a request confirms the end as of the time of the
//! request. C does not advance beyond the oldest confirmation. After a stall of the process, and while a broker does
//! not answer, every partition holds C until a new answer confirms its end. A partition that has ended does not hold C.
//! C never goes back, and does not exist before every partition has begun, has ended or was quiet for [`HOLD`].
//!
//! A partition that keeps getting rows whose stream time stays behind that of others (a stuck clock, a batch of an hour
//! ago) holds C for [`HOLD`] as well: C is at least the greatest stream time that partitions read to their ends had
//! [`HOLD`] ago, but not ahead of the wall time. Rows that are behind C then count from the next instant on.
//!
//! After a restart without new rows C continues from its last value, as if the process had not stopped. The first
//! instant that is evaluated ([`AlertClock::start`]) is that of an undisturbed run, too: it is that of the first rows
//! of all runs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Interval at which the stream time of partitions that are read to their ends is remembered.
const SAMPLED: Duration = Duration::from_millis(100);
/// How long a partition that is read to its end holds the clock.
pub const HOLD: Duration = Duration::from_secs(1);
/// Maximum age of the confirmation of an end while rows of other partitions advance the clock.
pub const CONFIRMED_MAX: Duration = Duration::from_secs(3);
/// A longer time between two times at which the process runs is a stall: what was confirmed before it does not count
/// after it.
pub const STALL: Duration = Duration::from_secs(1);

/// A partition of an input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionKey {
    /// The number of the input.
    pub input: u32,
    /// The origin.
    pub origin: String,
    /// Its name.
    pub partition: String,
}

impl PartitionKey {
    /// Makes the key of a partition.
    pub fn new(input: u32, origin: impl Into<String>, partition: impl Into<String>) -> Self {
        Self { input, origin: origin.into(), partition: partition.into() }
    }
}

/// How far a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// More rows may be there.
    Behind,
    /// Everything that is there has been read.
    AtEnd,
    /// A pipe has no bytes now. Its writer may send more.
    Waiting,
    /// No row will follow.
    Ended,
}

/// The stream time (µs) that [`AlertClock::caught_up`] returned at a monotonic time.
#[derive(Clone, Copy, Debug)]
struct CaughtUp {
    at: Duration,
    stream_time: i64,
}

#[derive(Clone, Copy, Debug)]
struct ClockPartition {
    /// Its stream time (µs).
    stream_time: Option<i64>,
    first: Option<BegunPartition>,
    /// The time during which the partition has been read to its end.
    quiet: Option<Quiet>,
    /// When its end was confirmed last; `None` if more rows were there.
    at_end: Option<Duration>,
    is_ended: bool,
}

/// The first rows of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BegunPartition {
    /// The least stream time (µs) of its rows.
    pub least: i64,
    /// The stream time (µs) of the first row, if rows before it were not read.
    pub cut: Option<i64>,
}

/// The first rows of partitions, by origin and name of the partition.
pub type BegunPartitions = BTreeMap<(String, String), BegunPartition>;

/// From the first to the last time (monotonic) at which the end of a partition was confirmed, without rows between
/// them.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    since: Duration,
    confirmed: Duration,
}

impl ClockPartition {
    /// Returns the monotonic times at which the partition released the clock and at which its end was confirmed last;
    /// `None` if the partition holds the clock.
    fn released(&self) -> Option<(Duration, Duration)> {
        let Quiet { since, confirmed } = self.quiet?;
        (confirmed >= since + HOLD).then_some((since + HOLD, confirmed))
    }
}

/// The partitions, and the clock that they make.
#[derive(Debug, Default)]
pub struct AlertClock {
    partitions: BTreeMap<PartitionKey, ClockPartition>,
    clock: Option<i64>,
    /// The last value of C in the earlier run, until the first row arrives.
    earlier: Option<EarlierClock>,
    /// The first rows in earlier runs.
    earlier_first: BegunPartitions,
    /// The greatest stream time (µs) in earlier runs.
    earlier_to: Option<i64>,
    /// The start of the advance with wall time; `None` while some partition holds the clock.
    running: Option<RunningClock>,
    /// The monotonic time at which the process ran last.
    noted: Option<Duration>,
    /// The end of the last stall.
    resumed: Duration,
    /// Samples of [`AlertClock::caught_up`], at most about [`HOLD`] old.
    caught_up: VecDeque<CaughtUp>,
    /// The wall time (µs). A stream time ahead of it does not advance the clock for other partitions.
    wall: Option<i64>,
}

/// A clock that advances with wall time.
#[derive(Clone, Copy, Debug)]
struct RunningClock {
    /// When it began to advance (monotonic).
    since: Duration,
    /// Its value then (µs).
    from: i64,
}

/// The last value of C in an earlier run, and the time from then to the start of this run.
#[derive(Clone, Copy, Debug)]
pub struct EarlierClock {
    /// The clock (µs).
    pub clock: i64,
    /// The wall time (µs) from that value to the start of this run.
    pub passed: i64,
    /// The monotonic time at the start of the run.
    pub start: Duration,
}

impl AlertClock {
    /// Makes a clock that begins where an earlier run stopped.
    pub fn new(earlier: Option<EarlierClock>) -> Self {
        Self { clock: earlier.map(|earlier| earlier.clock), earlier, ..Self::default() }
    }

    /// Continues after rows of earlier runs: `first` are those that were first if no instant has been evaluated yet,
    /// `to` is the greatest stream time (µs). A partition of them is read from where the earlier run stopped, which
    /// cuts off nothing.
    pub fn resume(&mut self, first: BegunPartitions, to: Option<i64>) {
        (self.earlier_first, self.earlier_to) = (first, to);
    }

    /// Gives the first rows of earlier runs another origin.
    pub fn rename(&mut self, former: &str, present: &str) {
        let rename = |((origin, partition), first)| match origin == former {
            true => ((present.to_owned(), partition), first),
            false => ((origin, partition), first),
        };
        self.earlier_first = std::mem::take(&mut self.earlier_first).into_iter().map(rename).collect();
    }

    fn partition(&mut self, key: PartitionKey) -> &mut ClockPartition {
        let first = self.earlier_first.get(&(key.origin.clone(), key.partition.clone())).copied();
        let new = ClockPartition { stream_time: None, first, quiet: None, at_end: None, is_ended: false };
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

    /// Notes rows of a partition with stream times (µs) from `first` to `last`. Later rows may have smaller ones: a
    /// lake has several files. `is_cut`: rows before the first one were not read. Returns the stream time of the
    /// partition.
    pub fn rows(&mut self, key: PartitionKey, first: i64, last: i64, is_cut: bool) -> i64 {
        self.earlier = None;
        let partition = self.partition(key);
        let known = partition.first.get_or_insert(BegunPartition { least: first, cut: is_cut.then_some(first) });
        known.least = first.min(known.least);
        partition.quiet = None;
        // A topic of frames may have the rows of a later run of its writer.
        partition.is_ended = false;
        *partition.stream_time.insert(partition.stream_time.map_or(last, |known| known.max(last)))
    }

    /// Returns the stream time of a partition.
    pub fn stream_time(&self, key: &PartitionKey) -> Option<i64> {
        self.partitions.get(key).and_then(|partition| partition.stream_time)
    }

    /// Notes how far a partition was read at monotonic time `at`, which may be some time ago.
    pub fn read(&mut self, key: PartitionKey, state: ReadState, at: Duration) {
        let partition = self.partition(key);
        match state {
            ReadState::Behind => (partition.quiet, partition.at_end) = (None, None),
            ReadState::AtEnd | ReadState::Waiting => {
                if state == ReadState::AtEnd {
                    partition.at_end = partition.at_end.max(Some(at));
                }
                let quiet = partition.quiet.get_or_insert(Quiet { since: at, confirmed: at });
                quiet.confirmed = quiet.confirmed.max(at);
            }
            ReadState::Ended => partition.is_ended = true,
        }
    }

    /// Returns the end of the last stall. Observations before it are outdated.
    pub fn resumed(&self) -> Duration {
        self.resumed
    }

    /// Returns the keys of the partitions of an input.
    pub fn of_input(&self, input: u32) -> Vec<PartitionKey> {
        self.partitions.keys().filter(|key| key.input == input).cloned().collect()
    }

    /// Returns the partitions of an input that have not ended, with their stream times (µs).
    pub fn open_of_input(&self, input: u32) -> impl Iterator<Item = (&PartitionKey, Option<i64>)> {
        let open = self.partitions.iter().filter(move |(key, one)| key.input == input && !one.is_ended);
        open.map(|(key, one)| (key, one.stream_time))
    }

    /// Notes that the process runs at monotonic time `now`.
    pub fn note_time(&mut self, now: Duration) {
        if self.noted.replace(now).is_some_and(|noted| now.saturating_sub(noted) > STALL) {
            self.resumed = now;
            // The rows that wait at the end of a stall are a backlog, so the samples before it do not count.
            self.caught_up.clear();
        }
    }

    /// Sets the wall time (µs).
    pub fn set_wall_time(&mut self, wall: i64) {
        self.wall = Some(wall);
    }

    /// Returns C (µs) at monotonic time `now`.
    pub fn get(&mut self, now: Duration) -> Option<i64> {
        self.note_time(now);
        let open = || self.partitions.values().filter(|partition| !partition.is_ended);
        let stream_times = self.partitions.values().filter_map(|partition| partition.stream_time);
        let greatest = stream_times.chain(self.earlier_to).max();
        let quiet: Option<Vec<(Duration, Duration)>> = open().map(ClockPartition::released).collect();
        let clock = match quiet {
            _ if self.partitions.is_empty() => None,
            Some(quiet) if quiet.is_empty() => greatest,
            Some(quiet) => {
                let released = quiet.iter().map(|(released, _)| *released).max();
                // The clock advances only to the oldest of the confirmations.
                let confirmed = quiet.iter().map(|(_, confirmed)| *confirmed).min();
                self.run_on(greatest, released.zip(confirmed))
            }
            None => {
                let oldest = self.oldest_confirmation(now);
                let is_free = |one: &ClockPartition| one.released().is_some_and(|(_, confirmed)| confirmed >= oldest);
                let holding: Option<Vec<i64>> =
                    open().filter(|partition| !is_free(partition)).map(|partition| partition.stream_time).collect();
                self.running = None;
                holding.and_then(|stream_times| stream_times.into_iter().min())
            }
        };
        self.clock = self.clock.max(clock).max(self.overdue(now));
        self.clock
    }

    /// Returns the time at which a confirmation of an end must have been made to count now.
    fn oldest_confirmation(&self, now: Duration) -> Duration {
        self.resumed.max(now.saturating_sub(CONFIRMED_MAX))
    }

    /// Returns the greatest stream time that partitions read to their ends had at least [`HOLD`] ago, but at most that
    /// of partitions with a backlog and the wall time.
    fn overdue(&mut self, now: Duration) -> Option<i64> {
        if self.caught_up.back().is_none_or(|last| now.saturating_sub(last.at) >= SAMPLED) {
            self.caught_up.extend(self.caught_up(now).map(|stream_time| CaughtUp { at: now, stream_time }));
        }
        let mut overdue = None;
        while let Some(first) = self.caught_up.pop_front_if(|first| now.saturating_sub(first.at) >= HOLD) {
            overdue = overdue.max(Some(first.stream_time));
        }
        // A partition may have got a backlog since.
        overdue.and_then(|overdue| self.bounded(overdue, now))
    }

    /// Returns the greatest stream time of the partitions that are read to their ends, but at most that of the others.
    /// `None` if no partition is read to its end, or if one of the others has not begun.
    fn caught_up(&self, now: Duration) -> Option<i64> {
        let oldest = self.oldest_confirmation(now);
        let caught_up =
            self.partitions.values().filter(|one| !one.is_ended && one.at_end.is_some_and(|at| at >= oldest));
        let greatest = caught_up.filter_map(|partition| partition.stream_time).max()?;
        self.bounded(greatest.min(self.wall.unwrap_or(greatest)), now)
    }

    /// Returns a stream time (µs), but at most that of partitions that are not read to their ends; `None` if one has
    /// not begun.
    fn bounded(&self, stream_time: i64, now: Duration) -> Option<i64> {
        let oldest = self.oldest_confirmation(now);
        let behind = self.partitions.values().filter(|one| !one.is_ended && one.at_end.is_none_or(|at| at < oldest));
        behind.into_iter().try_fold(stream_time, |least, one| Some(least.min(one.stream_time?)))
    }

    /// Returns the clock while every partition is quiet; `known` are the release of the last partition and the least of
    /// their last confirmations.
    fn run_on(&mut self, greatest: Option<i64>, known: Option<(Duration, Duration)>) -> Option<i64> {
        let (released, confirmed) = known?;
        let micros = |since: Duration| i64::try_from(confirmed.saturating_sub(since).as_micros()).unwrap_or(i64::MAX);
        if let Some(EarlierClock { clock, passed, start }) = self.earlier {
            // The earlier run may have read rows that its clock had not reached.
            return Some(clock.saturating_add(passed.max(0)).saturating_add(micros(start))).max(greatest);
        }
        let RunningClock { since, from } = match self.running {
            Some(running) => running,
            None => RunningClock { since: released, from: self.clock.max(greatest)? },
        };
        self.running = Some(RunningClock { since, from });
        Some(from.saturating_add(micros(since)))
    }

    /// Returns the first rows of all runs by partition. Several inputs may have one partition.
    pub fn first_rows(&self) -> BegunPartitions {
        let mut all = self.earlier_first.clone();
        for (key, first) in self.partitions.iter().filter_map(|(key, one)| Some((key, one.first?))) {
            let known = all.entry((key.origin.clone(), key.partition.clone())).or_insert(first);
            *known = BegunPartition { least: known.least.min(first.least), cut: known.cut.max(first.cut) };
        }
        all
    }

    /// Returns the instant (µs) from which on all rows are known. That is the earliest of the first rows of the
    /// partitions, but not before the first row of a partition that was not read from its beginning.
    pub fn start(&self) -> Option<i64> {
        let firsts =
            || self.partitions.values().filter_map(|one| one.first).chain(self.earlier_first.values().copied());
        firsts().map(|first| first.least).min().max(firsts().filter_map(|first| first.cut).max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> PartitionKey {
        PartitionKey::new(0, "t", name)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Confirms the end of partitions at these seconds.
    fn confirm(clock: &mut AlertClock, names: &[&str], seconds: &[u64]) {
        for name in names {
            seconds.iter().for_each(|second| clock.read(key(name), ReadState::AtEnd, at(*second)));
        }
    }

    #[test]
    fn the_slowest_partition_holds_the_clock_until_it_was_quiet_for_a_second() {
        let mut clock = AlertClock::default();
        clock.announce(key("0"), None);
        clock.announce(key("1"), None);
        clock.rows(key("0"), 10, 50, false);
        assert_eq!(clock.get(at(0)), None, "partition 1 has not begun");
        clock.rows(key("1"), 20, 30, true);
        assert_eq!((clock.get(at(0)), clock.start()), (Some(30), Some(20)));
        confirm(&mut clock, &["1"], &[1]);
        assert_eq!((clock.get(at(0)), clock.get(at(1))), (Some(30), Some(30)));
        confirm(&mut clock, &["1"], &[2]);
        assert_eq!(clock.get(at(2)), Some(50));
        confirm(&mut clock, &["0", "1"], &[3]);
        assert_eq!((clock.get(at(2)), clock.get(at(3))), (Some(50), Some(50)));
        confirm(&mut clock, &["0", "1"], &[4, 5, 6, 7]);
        assert_eq!(clock.get(at(7)), Some(50 + 3_000_000), "all were released at second 4");
        clock.rows(key("1"), 40, 40, true);
        assert_eq!(clock.get(at(7)), Some(50 + 3_000_000), "the clock never goes back");
    }

    #[test]
    fn a_partition_with_a_stuck_clock_or_a_constant_lag_holds_the_clock_for_a_second() {
        for lag in [0, 600_000_000] {
            let mut clock = AlertClock::default();
            clock.rows(key("0"), 0, 0, false);
            clock.rows(key("1"), -lag, -lag, false);
            let millis = |tick: u64| Duration::from_millis(100 * tick);
            for tick in 1..100 {
                let time = i64::try_from(tick).unwrap() * 100_000;
                clock.rows(key("0"), time, time, false);
                // Its clock is paused, or it is ten minutes behind; both partitions are read to their ends.
                let stuck = if lag == 0 { 1_000_000.min(time) } else { time - lag };
                clock.rows(key("1"), stuck, stuck, false);
                for name in ["0", "1"] {
                    clock.read(key(name), ReadState::AtEnd, millis(tick));
                }
                let behind = time - clock.get(millis(tick)).unwrap();
                assert!(tick < 20 || (900_000..=1_200_000).contains(&behind), "{behind} µs at {tick}");
            }
        }
    }

    #[test]
    fn a_partition_whose_clock_is_ahead_of_the_wall_time_does_not_advance_the_clock_beyond_it() {
        let mut clock = AlertClock::default();
        for tick in 1..100 {
            let (now, time) = (Duration::from_millis(100 * tick), i64::try_from(tick).unwrap() * 100_000);
            clock.set_wall_time(time);
            clock.rows(key("0"), time - 50_000, time - 50_000, false);
            clock.rows(key("1"), time + 240_000_000, time + 240_000_000, false);
            for name in ["0", "1"] {
                clock.read(key(name), ReadState::AtEnd, now);
            }
            assert_eq!(clock.get(now), Some(time - 50_000));
        }
    }

    #[test]
    fn a_partition_with_a_backlog_holds_the_clock_and_a_small_difference_does_not_advance_it() {
        let mut clock = AlertClock::default();
        clock.rows(key("0"), 0, 50_000_000, false);
        clock.rows(key("1"), 0, 1_000_000, false);
        for tick in 1..100 {
            let (now, time) = (Duration::from_millis(100 * tick), i64::try_from(tick).unwrap() * 10_000);
            clock.rows(key("0"), 50_000_000 + time, 50_000_000 + time, false);
            clock.rows(key("1"), 1_000_000 + time, 1_000_000 + time, false);
            clock.read(key("0"), ReadState::AtEnd, now);
            clock.read(key("1"), ReadState::Behind, now);
            assert_eq!(clock.get(now), Some(1_000_000 + time), "more rows of partition 1 are there");
        }
        // A pipe that is empty for a moment is not at its end.
        let mut clock = AlertClock::default();
        for tick in 1..100 {
            let (now, time) = (Duration::from_millis(100 * tick), i64::try_from(tick).unwrap() * 10_000);
            clock.rows(key("0"), 50_000_000 + time, 50_000_000 + time, false);
            clock.rows(key("1"), 1_000_000 + time, 1_000_000 + time, false);
            for name in ["0", "1"] {
                clock.read(key(name), ReadState::Waiting, now);
            }
            assert_eq!(clock.get(now), Some(1_000_000 + time));
        }
        let mut clock = AlertClock::default();
        for tick in 1..100 {
            let (now, time) = (Duration::from_millis(100 * tick), i64::try_from(tick).unwrap() * 100_000);
            clock.rows(key("0"), time, time, false);
            clock.rows(key("1"), time - 900_000, time - 900_000, false);
            for name in ["0", "1"] {
                clock.read(key(name), ReadState::AtEnd, now);
            }
            assert_eq!(clock.get(now), Some(time - 900_000));
        }
    }

    #[test]
    fn after_a_stall_the_clock_waits_for_answers_to_new_questions() {
        let mut clock = AlertClock::default();
        clock.rows(key("0"), 1, 100_000_000, false);
        confirm(&mut clock, &["0"], &[10]);
        assert_eq!(clock.get(at(10)), Some(100_000_000));
        // The process is stopped for twenty seconds; the answers that it reads first are to requests from before.
        confirm(&mut clock, &["0"], &[11]);
        assert_eq!(clock.get(at(30)), Some(100_000_000), "rows of the stall may follow");
        clock.rows(key("0"), 101_000_000, 119_000_000, false);
        assert_eq!(clock.get(at(30)), Some(119_000_000));
        confirm(&mut clock, &["0"], &[30, 31, 32]);
        assert_eq!(clock.get(at(32)), Some(120_000_000));
    }

    #[test]
    fn a_quiet_partition_holds_the_clock_from_a_stall_until_its_end_is_confirmed_again() {
        for (stall, is_held) in [(1, false), (2, true), (20, true)] {
            let mut clock = AlertClock::default();
            clock.rows(key("0"), 1, 5, false);
            clock.rows(key("1"), 1, 2, false);
            confirm(&mut clock, &["1"], &[1]);
            assert_eq!(clock.get(at(1)), Some(2));
            confirm(&mut clock, &["1"], &[2]);
            assert_eq!(clock.get(at(2)), Some(5));
            clock.rows(key("0"), 6, 60, false);
            let now = 2 + stall;
            assert_eq!(clock.get(at(now)), Some(if is_held { 5 } else { 60 }), "a stall of {stall} s");
            confirm(&mut clock, &["1"], &[now]);
            assert_eq!(clock.get(at(now)), Some(60));
        }
    }

    #[test]
    fn the_clock_stands_still_while_a_broker_does_not_answer() {
        let mut clock = AlertClock::default();
        clock.rows(key("0"), 1, 1_000_000, false);
        confirm(&mut clock, &["0"], &[0, 1, 2, 3]);
        let mut values: Vec<_> = (0..40).filter_map(|second| clock.get(at(second))).collect();
        values.dedup();
        assert_eq!(values, [3_000_000], "two seconds after the release, and no further");
        confirm(&mut clock, &["0"], &[40]);
        assert_eq!(clock.get(at(40)), Some(40_000_000), "nothing came in all that time");
        // With rows of another partition it is paused as well.
        let mut clock = AlertClock::default();
        clock.rows(key("0"), 1, 1, false);
        clock.rows(key("1"), 1, 1, false);
        confirm(&mut clock, &["1"], &[0, 2]);
        for second in 0..10 {
            clock.rows(key("0"), 1, 1 + second, false);
            clock.get(at(second.unsigned_abs()));
        }
        assert_eq!(clock.get(at(10)), Some(6), "the end was confirmed at second 2, which counts until second 5");
    }

    #[test]
    fn a_clock_that_ran_on_goes_on_after_a_restart() {
        let earlier = EarlierClock { clock: 7_000_000, passed: 60_000_000, start: at(1) };
        let mut clock = AlertClock::new(Some(earlier));
        clock.announce(key("0"), Some(2));
        confirm(&mut clock, &["0"], &[2]);
        assert_eq!(clock.get(at(2)), Some(7_000_000));
        confirm(&mut clock, &["0"], &[3]);
        assert_eq!(clock.get(at(3)), Some(69_000_000));
        clock.rows(key("0"), 60_000_000, 60_000_000, false);
        assert_eq!(clock.get(at(4)), Some(69_000_000), "a row behind the clock does not set it back");
        confirm(&mut clock, &["0"], &[5, 6, 7]);
        assert_eq!(clock.get(at(7)), Some(70_000_000), "it advances from its earlier value");
    }

    #[test]
    fn the_first_rows_of_all_runs_and_the_greatest_of_them_count() {
        let mut first_run = AlertClock::default();
        first_run.announce(key("2"), None);
        first_run.rows(key("0"), 10, 90, false);
        first_run.rows(key("1"), 20, 40, true);
        assert_eq!((first_run.get(at(9)), first_run.start()), (None, Some(20)), "partition 2 has not begun");
        // The next run continues partitions 0 and 1; partition 2 begins, and is read from the middle or its beginning.
        for (is_cut, start) in [(false, 20), (true, 30)] {
            let mut clock = AlertClock::default();
            clock.resume(first_run.first_rows(), Some(90));
            assert_eq!(clock.start(), Some(20), "without a row of this run");
            clock.rows(key("1"), 50, 60, true);
            clock.rows(key("2"), 30, 70, is_cut);
            assert_eq!((clock.get(at(0)), clock.start()), (Some(60), Some(start)));
            ["1", "2"].into_iter().for_each(|name| clock.read(key(name), ReadState::Ended, at(0)));
            assert_eq!(clock.get(at(0)), Some(90), "as far as the rows of the earlier run");
        }
        // A row of partition 2 that is earlier than all others.
        let mut clock = AlertClock::default();
        clock.resume([(("t".to_owned(), "0".to_owned()), BegunPartition { least: 10, cut: None })].into(), None);
        clock.rows(key("2"), 5, 7, false);
        assert_eq!(clock.start(), Some(5));
        assert_eq!(clock.first_rows().len(), 2);
    }

    #[test]
    fn a_clock_that_was_behind_the_rows_of_an_earlier_run_advances_to_them_once_all_is_quiet() {
        let mut clock = AlertClock::new(Some(EarlierClock { clock: 7_000_000, passed: 1_000_000, start: at(1) }));
        clock.resume(BegunPartitions::new(), Some(60_000_000));
        clock.announce(key("0"), Some(7_000_000));
        confirm(&mut clock, &["0"], &[2]);
        assert_eq!(clock.get(at(2)), Some(7_000_000));
        confirm(&mut clock, &["0"], &[3]);
        assert_eq!(clock.get(at(3)), Some(60_000_000));
    }

    #[test]
    fn a_partition_that_has_ended_does_not_hold_the_clock() {
        let mut clock = AlertClock::new(Some(EarlierClock { clock: 5, passed: 0, start: at(0) }));
        clock.rows(key("0"), 10, 50, false);
        clock.rows(key("1"), 10, 20, false);
        clock.read(key("1"), ReadState::Ended, at(0));
        assert_eq!(clock.get(at(0)), Some(50));
        clock.read(key("0"), ReadState::Ended, at(0));
        assert_eq!(clock.get(at(100)), Some(50), "the clock does not run on after the end of all");
    }
}
