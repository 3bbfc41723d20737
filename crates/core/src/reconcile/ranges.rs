//! Counts of findings by partition and offset range, or by partition and bucket of event time.
//!
//! Findings come in the order of positions. Neighbouring offsets with the same faults are one range, so a range of
//! offsets that is missing is a row of its own.

use super::judge::{Finding, UnitOutcome};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Maximum number of ranges of one partition; the last one holds the rest.
const RANGES_MAX: usize = 100;
/// Maximum number of rows of a run with buckets.
const BUCKETS_MAX: usize = 1_000_000;

/// Counts of units and rows by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeCounts {
    /// Units of A.
    pub a: u64,
    /// Rows of B: of units, double and extra.
    pub b: u64,
    /// Units in plus.
    pub plus: u64,
    /// Units that are nowhere.
    pub missing: u64,
    /// Rows of B without a unit.
    pub extra: u64,
    /// Further rows of B of one unit.
    pub double: u64,
    /// Units in B with other content.
    pub different: u64,
    /// Units whose event_id is in B from another position.
    pub duplicate: u64,
    /// Units that arrived too recently to be judged.
    pub in_flight: u64,
    /// Units that are nowhere, of a time whose rows have been removed from B.
    pub expired: u64,
}

impl RangeCounts {
    /// Counts a finding.
    pub fn count(&mut self, outcome: UnitOutcome) {
        match outcome {
            UnitOutcome::Extra => self.extra += 1,
            UnitOutcome::Double => self.double += 1,
            _ => self.a += 1,
        }
        match outcome {
            UnitOutcome::InB => self.b += 1,
            UnitOutcome::Different => (self.b, self.different) = (self.b + 1, self.different + 1),
            UnitOutcome::InPlus => self.plus += 1,
            UnitOutcome::InFlight => self.in_flight += 1,
            UnitOutcome::Expired => self.expired += 1,
            UnitOutcome::Duplicate => self.duplicate += 1,
            UnitOutcome::Missing => self.missing += 1,
            UnitOutcome::Double | UnitOutcome::Extra => self.b += 1,
        }
    }

    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        let Self { a, b, plus, missing, extra, double, different, duplicate, in_flight, expired } = other;
        self.a += a;
        self.b += b;
        self.plus += plus;
        self.missing += missing;
        self.extra += extra;
        self.double += double;
        self.different += different;
        self.duplicate += duplicate;
        self.in_flight += in_flight;
        self.expired += expired;
    }

    /// Returns the number of units and rows that are wrong.
    pub fn faults(&self) -> u64 {
        self.missing + self.extra + self.double + self.different
    }

    /// Returns whether there are faults of each type: missing, extra, double, different.
    fn class(&self) -> [bool; 4] {
        [self.missing > 0, self.extra > 0, self.double > 0, self.different > 0]
    }
}

/// A range of offsets of one partition, or a bucket of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// The index of the partition.
    pub partition: u32,
    /// The start of the bucket (µs).
    pub bucket: Option<i64>,
    /// The first offset.
    pub from: i64,
    /// The last offset.
    pub to: i64,
    /// The first event time (µs).
    pub since: Option<i64>,
    /// The last event time (µs).
    pub until: Option<i64>,
    /// The counts.
    pub counts: RangeCounts,
}

impl OffsetRange {
    /// Makes the range of one finding.
    fn of(found: &Finding) -> Self {
        let mut counts = RangeCounts::default();
        counts.count(found.outcome);
        let (partition, offset) = (found.position.partition, found.position.offset);
        Self { partition, bucket: None, from: offset, to: offset, since: found.time, until: found.time, counts }
    }

    /// Includes another range of the partition.
    fn add(&mut self, other: &Self) {
        (self.from, self.to) = (self.from.min(other.from), self.to.max(other.to));
        self.since = [self.since, other.since].into_iter().flatten().min();
        self.until = self.until.max(other.until);
        self.counts.add(&other.counts);
    }
}

/// Faulty ranges that the verdict names.
const NAMED_MAX: usize = 3;

/// The faults of a comparison: the counts of everything, and the first faulty ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultSummary {
    /// The counts of all partitions.
    pub total: RangeCounts,
    /// The first faulty ranges.
    pub first: Vec<OffsetRange>,
    /// The number of faulty ranges.
    pub ranges: u64,
}

impl FaultSummary {
    /// Adds a range.
    pub fn add(&mut self, range: &OffsetRange) {
        self.total.add(&range.counts);
        if range.counts.faults() > 0 {
            self.ranges += 1;
            if self.first.len() < NAMED_MAX {
                self.first.push(*range);
            }
        }
    }
}

/// The ranges of a comparison, and its faults.
#[derive(Debug, Default)]
pub struct RangeSummary {
    /// The ranges by partition and offset or bucket.
    pub ranges: Vec<OffsetRange>,
    /// The counts of everything, and the first faults.
    pub faults: FaultSummary,
}

/// Collects the ranges of findings.
pub struct Ranges {
    /// The length of a bucket (µs).
    bucket: Option<i64>,
    /// Whether only faults are added, so that only adjacent offsets are one range.
    is_partial: bool,
    /// Everything found at the last offset.
    offset: Option<OffsetRange>,
    /// The range of the last offsets with the same faults.
    range: Option<OffsetRange>,
    done: Vec<OffsetRange>,
    /// The number of ranges in `done` that are of the partition of the last range.
    of_partition: usize,
    buckets: BTreeMap<(u32, Option<i64>), OffsetRange>,
    /// The faults for the verdict.
    faults: FaultSummary,
}

impl Ranges {
    /// Makes an empty collection. `bucket` is the length of a bucket of event time (µs); `is_partial`: findings that
    /// are not faults are only counted.
    pub fn new(bucket: Option<i64>, is_partial: bool) -> Self {
        Self {
            bucket,
            is_partial,
            offset: None,
            range: None,
            done: vec![],
            of_partition: 0,
            buckets: BTreeMap::new(),
            faults: FaultSummary::default(),
        }
    }

    /// Counts a finding that is not a fault.
    pub fn count(&mut self, outcome: UnitOutcome) {
        self.faults.total.count(outcome);
    }

    /// Adds a finding; its position is at or after that of the one before. Errors: exit status 2 if there are too many
    /// buckets.
    pub fn add(&mut self, found: &Finding) -> Result<()> {
        let one = OffsetRange::of(found);
        if let Some(length) = self.bucket {
            let bucket = found.time.map(|time| time - time.rem_euclid(length));
            let range = self.buckets.entry((one.partition, bucket)).or_insert(OffsetRange {
                bucket,
                counts: RangeCounts::default(),
                ..one
            });
            range.add(&one);
            if self.buckets.len() > BUCKETS_MAX {
                return Err(Error::usage(format!("--bucket: more than {BUCKETS_MAX} rows; use longer buckets")));
            }
        }
        match &mut self.offset {
            Some(offset) if (offset.partition, offset.to) == (one.partition, one.from) => offset.add(&one),
            offset => {
                if let Some(whole) = offset.replace(one) {
                    self.end_offset(whole);
                }
            }
        }
        Ok(())
    }

    /// Returns the ranges and the faults.
    pub fn finish(mut self) -> RangeSummary {
        if let Some(offset) = self.offset.take() {
            self.end_offset(offset);
        }
        self.end_range();
        let ranges = if self.bucket.is_some() { self.buckets.into_values().collect() } else { self.done };
        RangeSummary { ranges, faults: self.faults }
    }

    /// Adds everything that was found at one offset.
    fn end_offset(&mut self, offset: OffsetRange) {
        match &mut self.range {
            Some(range)
                if range.partition == offset.partition
                    && range.counts.class() == offset.counts.class()
                    && (!self.is_partial || range.to.checked_add(1) == Some(offset.from)) =>
            {
                range.add(&offset);
            }
            _ => {
                self.end_range();
                self.range = Some(offset);
            }
        }
    }

    fn end_range(&mut self) {
        let Some(range) = self.range.take() else { return };
        self.faults.add(&range);
        if self.bucket.is_some() {
            return;
        }
        match self.done.last_mut() {
            Some(last) if last.partition == range.partition && self.of_partition >= RANGES_MAX => last.add(&range),
            last => {
                self.of_partition =
                    if last.is_some_and(|last| last.partition == range.partition) { self.of_partition + 1 } else { 1 };
                self.done.push(range);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::entry::RowPosition;
    use UnitOutcome::{Double, Extra, InB, InFlight, InPlus, Missing};

    fn ranges(bucket: Option<i64>, found: &[(u32, i64, UnitOutcome)]) -> RangeSummary {
        let mut ranges = Ranges::new(bucket, false);
        for (partition, offset, outcome) in found {
            let position = RowPosition { partition: *partition, offset: *offset };
            let time = (*outcome != InFlight).then_some(offset * 10);
            ranges.add(&Finding { outcome: *outcome, position, id: [0, 0], time }).unwrap();
        }
        ranges.finish()
    }

    fn shown(ranges: &[OffsetRange]) -> Vec<(u32, i64, i64, [u64; 6])> {
        let counts = |c: &RangeCounts| [c.a, c.b, c.plus, c.missing, c.extra, c.double];
        ranges.iter().map(|range| (range.partition, range.from, range.to, counts(&range.counts))).collect()
    }

    #[test]
    fn neighbouring_offsets_with_the_same_faults_are_one_range() {
        let found = [
            (0, 0, InB),
            (0, 1, InPlus),
            (0, 5, Missing),
            (0, 6, Missing),
            (0, 7, InB),
            (0, 8, InB),
            (0, 8, Double),
            (0, 9, Extra),
            (1, 2, InB),
        ];
        let RangeSummary { ranges: found, faults } = ranges(None, &found);
        let expected = [
            (0, 0, 1, [2, 1, 1, 0, 0, 0]),
            (0, 5, 6, [2, 0, 0, 2, 0, 0]),
            (0, 7, 7, [1, 1, 0, 0, 0, 0]),
            (0, 8, 8, [1, 2, 0, 0, 0, 1]),
            (0, 9, 9, [0, 1, 0, 0, 1, 0]),
            (1, 2, 2, [1, 1, 0, 0, 0, 0]),
        ];
        assert_eq!(shown(&found), expected);
        assert_eq!((found[1].since, found[1].until), (Some(50), Some(60)));
        assert_eq!((faults.total.a, faults.total.faults()), (7, 4));
    }

    #[test]
    fn buckets_are_those_of_event_time_and_records_without_a_time_have_their_own() {
        let found = [(0, 3, InB), (0, 4, InFlight), (0, 12, Missing), (0, 13, InB), (1, 3, InB)];
        let RangeSummary { ranges: found, faults } = ranges(Some(100), &found);
        let rows: Vec<_> = found.iter().map(|range| (range.partition, range.bucket, range.counts.a)).collect();
        assert_eq!(rows, [(0, None, 1), (0, Some(0), 1), (0, Some(100), 2), (1, Some(0), 1)]);
        assert_eq!(faults.total.missing, 1);
    }

    #[test]
    fn more_buckets_than_memory_should_hold_are_refused() {
        let mut ranges = Ranges::new(Some(1), false);
        let mut add = |offset: i64| {
            let position = RowPosition { partition: 0, offset };
            ranges.add(&Finding { outcome: InB, position, id: [0, 0], time: Some(offset) })
        };
        (0..BUCKETS_MAX as i64).for_each(|offset| add(offset).unwrap());
        let error = add(BUCKETS_MAX as i64).unwrap_err().to_string();
        assert_eq!(error, format!("--bucket: more than {BUCKETS_MAX} rows; use longer buckets"));
    }

    #[test]
    fn a_partition_has_a_bounded_number_of_ranges() {
        let every_second: Vec<_> = (0..1000).map(|at| (0, at, if at % 2 == 0 { InB } else { Missing })).collect();
        let RangeSummary { ranges: found, faults } = ranges(None, &every_second);
        assert_eq!((found.len(), found[RANGES_MAX - 1].to), (RANGES_MAX, 999));
        assert_eq!(found.iter().map(|range| range.counts.a).sum::<u64>(), 1000);
        assert_eq!(faults.total.missing, 500);
    }
}
