//! Generates events from a seed with a given rate, skew, disorder, lateness and faults. The same options yield the same
//! bytes in every version.
//!
//! Record n arrives at `start` + `disorder` + n / `rate`; its event time (`server_timestamp`) is up to `disorder`
//! earlier. Record n depends on the seed and n alone, so a duplicate is an earlier record generated again, byte for
//! byte. Only how far a late record is behind depends on the stream so far. With [`Options::default`] every record is
//! clean: it has an id of its own, all its fields, and is at most `disorder` behind its stream time.
//!
//! ```text
//! seed, n ─► random (outcome of record n) ─► record (text) ─► defect (if faulty) ─► line
//! the same options ─► truth: counts and windows, computed without the tools
//! ```
//!
//! [`Generator`] draws the outcome of each record (`random.rs`), writes it (`record.rs`) and, for a faulty one, damages
//! it (`defect.rs`). All but defective events are valid under the Avro schemas in `examples/schemas`. [`truth`]
//! computes the expected results independently.

pub mod defect;
mod options;
pub mod random;
pub mod record;
pub mod truth;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod truth_tests;

pub use defect::Defect;
pub use options::Options;
pub use record::Event;

use crate::error::{Error, Result};
use crate::time::stamp::Stamp;
use crate::time::{DAY, EARLIEST, HOUR, LATEST, MINUTE, SECOND, format_duration};
use random::Random;
use record::Vocabulary;

impl Default for Options {
    fn default() -> Self {
        Self {
            events: 1_000_000,
            seed: 0,
            rate: 1000.0,
            start: 1_767_225_600 * SECOND,
            partitions: 1,
            users: 100_000,
            pages: 500,
            countries: record::COUNTRIES.len() as u32,
            event_types: record::EVENT_TYPES.len() as u32,
            skew: 1.0,
            schema_versions: 1,
            disorder: 5 * SECOND,
            late: 0.0,
            late_by: 2 * MINUTE,
            duplicates: 0.0,
            future: 0.0,
            future_by: HOUR,
            malformed: 0.0,
            invalid: 0.0,
            too_large: 0.0,
        }
    }
}

/// The outcome of a generated record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExpectedOutcome {
    /// An event, at most `disorder` behind.
    Clean,
    /// An event at least `late_by` behind the stream time of its partition.
    Late,
    /// The same bytes as a recent record.
    Duplicate,
    /// An event whose client's clock is ahead.
    Future,
    /// A faulty record.
    Defective(Defect),
}

/// One generated record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Its outcome.
    pub outcome: ExpectedOutcome,
    /// Its values; for a faulty record the values before the defect.
    pub event: Event,
}

/// Generates records one after another.
pub struct Generator {
    options: Options,
    vocabulary: Vocabulary,
    limits: Limits,
    interval_us: f64,
    repeat_distance_max: u64,
    // State: everything besides the seed that the next record depends on.
    made: u64,
    stream_time: Vec<Option<i64>>,
    stamp: Stamp,
}

/// Maximum distance of a duplicate from its original, in records.
const REPEAT_DISTANCE_MAX: f64 = 64.0;
const TABLE_MAX: u32 = 10_000_000;
const PARTITIONS_MAX: u32 = 65_536;
const FAR: i64 = 36_500 * DAY;

impl Generator {
    /// Creates a generator.
    ///
    /// Errors: exit status 2 if an option is out of range.
    pub fn new(options: Options) -> Result<Self> {
        check(&options)?;
        Ok(Self {
            vocabulary: Vocabulary::new(&options),
            limits: Limits::new(&options),
            interval_us: 1e6 / options.rate,
            repeat_distance_max: options.rate.clamp(1.0, REPEAT_DISTANCE_MAX) as u64,
            made: 0,
            stream_time: vec![None; options.partitions as usize],
            stamp: Stamp::default(),
            options,
        })
    }

    /// Appends the next record to `out`, one line of JSON without its newline; `None` after the last.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Option<Generated> {
        if self.made == self.options.events {
            return None;
        }
        let index = self.made;
        self.made += 1;
        let mut random = Random::at(self.options.seed, index);
        let mut outcome = self.limits.outcome(random.bits(), index);
        let mut event = self.vocabulary.draw(&mut random, self.arrival(index));
        match outcome {
            ExpectedOutcome::Duplicate => match self.original(index, &mut random) {
                Some(original) => {
                    random = Random::at(self.options.seed, original);
                    let outcome = self.limits.outcome(random.bits(), original);
                    event = self.vocabulary.draw(&mut random, self.arrival(original));
                    self.shift(&mut event, outcome, &mut random);
                }
                None => outcome = ExpectedOutcome::Clean,
            },
            ExpectedOutcome::Late if self.stream_time[event.shard as usize].is_none() => {
                outcome = ExpectedOutcome::Clean
            }
            _ => self.shift(&mut event, outcome, &mut random),
        }
        self.write(outcome, &event, &mut random, out);
        Some(Generated { outcome, event })
    }

    /// Returns when record `index` arrives (µs).
    fn arrival(&self, index: u64) -> i64 {
        self.options.start + self.options.disorder + (index as f64 * self.interval_us) as i64
    }

    /// Shifts the clocks of an event that is late or ahead.
    #[inline]
    fn shift(&self, event: &mut Event, outcome: ExpectedOutcome, random: &mut Random) {
        let beyond = |least: i64, random: &mut Random| least + random.below(least.unsigned_abs() + 1) as i64;
        match (outcome, self.stream_time[event.shard as usize]) {
            (ExpectedOutcome::Late, Some(stream_time)) => {
                let lag = event.server_timestamp - event.client_timestamp;
                event.server_timestamp = stream_time - beyond(self.options.late_by, random);
                event.client_timestamp = event.server_timestamp - lag;
            }
            (ExpectedOutcome::Future, _) => {
                event.client_timestamp = event.server_timestamp + beyond(self.options.future_by, random);
            }
            _ => {}
        }
    }

    /// Returns the record that a duplicate at `index` repeats: one of the last second, or else the last that advanced
    /// stream time. In both cases the repeat is at most a second further behind than the original.
    #[cold]
    fn original(&self, index: u64, random: &mut Random) -> Option<u64> {
        let from = index.saturating_sub(1 + random.below(self.repeat_distance_max));
        let outcome = |n: u64| self.limits.outcome(Random::at(self.options.seed, n).bits(), n);
        let repeatable = |n: &u64| matches!(outcome(*n), ExpectedOutcome::Clean | ExpectedOutcome::Future);
        let moved = |n: &u64| match outcome(*n) {
            ExpectedOutcome::Clean | ExpectedOutcome::Future => true,
            ExpectedOutcome::Late | ExpectedOutcome::Duplicate => false,
            ExpectedOutcome::Defective(defect) => defect.is_event(),
        };
        let before = index.saturating_sub(REPEAT_DISTANCE_MAX as u64)..index;
        (from..index).find(repeatable).or_else(|| before.rev().find(moved).filter(repeatable))
    }

    fn write(&mut self, outcome: ExpectedOutcome, event: &Event, random: &mut Random, out: &mut Vec<u8>) {
        let start = out.len();
        self.vocabulary.write(event, random, &mut self.stamp, out);
        if let ExpectedOutcome::Defective(defect) = outcome {
            defect.apply(out, start, random);
            if !defect.is_event() {
                return;
            }
        }
        let stream_time = &mut self.stream_time[event.shard as usize];
        *stream_time = Some(stream_time.map_or(event.server_timestamp, |time| time.max(event.server_timestamp)));
    }
}

/// The thresholds that divide a 64-bit draw into outcomes.
struct Limits {
    late: u64,
    duplicates: u64,
    future: u64,
    malformed: u64,
    invalid: u64,
    too_large: u64,
}

impl Limits {
    fn new(options: &Options) -> Self {
        let mut sum = 0.0;
        let mut limit = |share: f64| {
            sum += share;
            (sum * (1u64 << 53) as f64) as u64
        };
        Self {
            late: limit(options.late),
            duplicates: limit(options.duplicates),
            future: limit(options.future),
            malformed: limit(options.malformed),
            invalid: limit(options.invalid),
            too_large: limit(options.too_large),
        }
    }

    /// Returns the outcome for `bits`. The first record is clean, because a reader learns format and fields from it.
    #[inline]
    fn outcome(&self, bits: u64, index: u64) -> ExpectedOutcome {
        let draw = bits >> 11;
        if draw >= self.too_large || index == 0 {
            return ExpectedOutcome::Clean;
        }
        let one_of = |defects: &[Defect]| ExpectedOutcome::Defective(defects[(bits % defects.len() as u64) as usize]);
        match draw {
            _ if draw < self.late => ExpectedOutcome::Late,
            _ if draw < self.duplicates => ExpectedOutcome::Duplicate,
            _ if draw < self.future => ExpectedOutcome::Future,
            _ if draw < self.malformed => one_of(&defect::MALFORMED),
            _ if draw < self.invalid => one_of(&defect::INVALID),
            _ => ExpectedOutcome::Defective(Defect::TooLarge),
        }
    }
}

fn check(options: &Options) -> Result<()> {
    let shares = [
        ("late", options.late),
        ("duplicates", options.duplicates),
        ("future", options.future),
        ("malformed", options.malformed),
        ("invalid", options.invalid),
        ("too-large", options.too_large),
    ];
    for (name, share) in shares {
        within(name, share, 0.0..=1.0)?;
    }
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    if sum > 1.0 + 1e-9 {
        return Err(Error::usage(format!("shares add up to {sum}; the maximum is 1 (100%)")));
    }
    within("rate", options.rate, 1e-6..=1e9)?;
    within("skew", options.skew, 0.0..=10.0)?;
    for (name, count, most) in [
        ("partitions", options.partitions, PARTITIONS_MAX),
        ("users", options.users, TABLE_MAX),
        ("pages", options.pages, TABLE_MAX),
        ("countries", options.countries, record::COUNTRIES.len() as u32),
        ("event-types", options.event_types, record::EVENT_TYPES.len() as u32),
        ("schema-versions", options.schema_versions, record::SCHEMA_VERSION_MAX),
    ] {
        within(name, count, 1..=most)?;
    }
    check_times(options)
}

fn check_times(options: &Options) -> Result<()> {
    for (name, duration) in
        [("disorder", options.disorder), ("late-by", options.late_by), ("future-by", options.future_by)]
    {
        if !(0..=FAR).contains(&duration) {
            return Err(Error::usage(format!(
                "{name}: expected a duration between 0s and {}, found {}",
                format_duration(FAR),
                format_duration(duration)
            )));
        }
    }
    let before = options.disorder.max(2 * options.late_by) + DAY;
    let last = options.start as f64
        + options.events as f64 / options.rate * 1e6
        + (2 * options.future_by + options.disorder) as f64;
    if options.start < EARLIEST + before || options.events > 1 << 53 || last > (LATEST - DAY) as f64 {
        return Err(Error::usage("start, events and rate: expected all times within the years 1 to 9999"));
    }
    Ok(())
}

fn within<T: PartialOrd + std::fmt::Display>(name: &str, value: T, range: std::ops::RangeInclusive<T>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, greatest) = (range.start(), range.end());
    Err(Error::usage(format!("{name}: expected a value between {least} and {greatest}, found {value}")))
}
