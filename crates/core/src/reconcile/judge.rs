//! The outcome of each unit and of each row of B, from entries in the order of their keys.

use super::entry::{IN_FLIGHT, IN_PLUS, NOT_IN_B, RowEntry, RowKey, RowPosition, Side};
use crate::error::Result;
use crate::kind::span::Span;
use std::ops::RangeInclusive;

/// Maximum number of entries of one side and key in memory. The contents of further rows of B are not compared.
const HELD_MAX: usize = 1024;

/// The key that rows of A and B are matched by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatchBy {
    /// Origin, partition and offset.
    #[default]
    Position,
    /// The event_id, or the natural key of metrics.
    Id,
}

/// The outcome of a unit of A, or of a row of B that matches no unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnitOutcome {
    /// A unit that is in B.
    InB,
    /// A unit that is in B with other content.
    Different,
    /// A unit that is in plus.
    InPlus,
    /// A unit that is nowhere yet, and arrived too recently to be judged.
    InFlight,
    /// A unit that is nowhere, of a time whose rows have been removed from B.
    Expired,
    /// A unit whose event_id is in B from another position of A.
    Duplicate,
    /// A unit that is nowhere.
    Missing,
    /// A further row of B for a unit that is in B already, or for one whose record was rejected or left out.
    Double,
    /// A row of B without a unit.
    Extra,
}

impl UnitOutcome {
    const ALL: [Self; 9] = [
        Self::InB,
        Self::Different,
        Self::InPlus,
        Self::InFlight,
        Self::Expired,
        Self::Duplicate,
        Self::Missing,
        Self::Double,
        Self::Extra,
    ];

    /// Returns the word in rows of `--ids`, if it is a fault.
    pub fn verdict(self) -> Option<&'static str> {
        match self {
            Self::InB | Self::InPlus | Self::InFlight | Self::Expired | Self::Duplicate => None,
            Self::Different => Some("different"),
            Self::Missing => Some("missing"),
            Self::Double => Some("double"),
            Self::Extra => Some("extra"),
        }
    }
}

/// A unit, or a row of B without a unit, and its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The outcome.
    pub outcome: UnitOutcome,
    /// The position of the unit, or of the row.
    pub position: RowPosition,
    /// Its event_id.
    pub id: RowKey,
    /// Its event time (µs), if it has one.
    pub time: Option<i64>,
}

impl Finding {
    /// Returns the finding as an entry whose key is the position, so that findings can be sorted.
    pub fn entry(&self) -> RowEntry {
        let time = self.time.unwrap_or(RowEntry::NO_TIME);
        RowEntry {
            key: self.position.key(),
            side: Side::A,
            flags: self.outcome as u8,
            other: self.id,
            time,
            content: 0,
        }
    }

    /// Returns the finding of such an entry.
    pub fn of_entry(entry: &RowEntry) -> Self {
        let outcome = UnitOutcome::ALL.get(usize::from(entry.flags)).copied().unwrap_or(UnitOutcome::InB);
        Self { outcome, position: RowPosition::of_key(entry.key), id: entry.other, time: entry.time() }
    }
}

/// The extent of A: rows of B outside it are not judged.
#[derive(Clone, Debug, Default)]
pub struct UnitExtent {
    /// The first and the last offset of each partition, by its index.
    offsets: Vec<Option<RangeInclusive<i64>>>,
    /// The first and the last event time.
    times: Option<RangeInclusive<i64>>,
    /// Whether A may have lost any record to compaction, so that a row without a unit is not a fault.
    pub is_compacted: bool,
    /// The event time since which A has all of its rows (µs); earlier ones were removed from it.
    pub kept_since: Option<i64>,
}

impl UnitExtent {
    /// Includes a unit whose position is in a partition.
    pub fn add(&mut self, position: RowPosition, time: Option<i64>) {
        let index = position.partition as usize;
        if self.offsets.len() <= index {
            self.offsets.resize(index + 1, None);
        }
        widen(&mut self.offsets[index], position.offset);
        if let Some(time) = time {
            self.add_time(time);
        }
    }

    /// Includes the time of a unit.
    pub fn add_time(&mut self, time: i64) {
        widen(&mut self.times, time);
    }

    fn offsets(&self, partition: u32) -> Option<&RangeInclusive<i64>> {
        self.offsets.get(partition as usize)?.as_ref()
    }

    /// Whether A has units of a partition.
    pub fn has_partition(&self, partition: u32) -> bool {
        self.offsets(partition).is_some()
    }

    /// Whether A would contain the row of B if the row came from A.
    fn contains(&self, by: MatchBy, position: RowPosition, time: Option<i64>) -> bool {
        if is_removed(time, self.kept_since) {
            return false;
        }
        let offsets = self.offsets(position.partition);
        match by {
            MatchBy::Position => offsets.is_some_and(|offsets| offsets.contains(&position.offset)),
            // A has lost the records before the first one of the partition.
            MatchBy::Id if offsets.is_some_and(|offsets| position.offset < *offsets.start()) => false,
            MatchBy::Id => self.times.as_ref().is_some_and(|times| time.is_none_or(|time| times.contains(&time))),
        }
    }
}

/// Whether a row with this event time (µs) may have been removed.
fn is_removed(time: Option<i64>, kept_since: Option<i64>) -> bool {
    time.zip(kept_since).is_some_and(|(time, kept_since)| time < kept_since)
}

fn widen(range: &mut Option<RangeInclusive<i64>>, value: i64) {
    *range = Some(match range.take() {
        None => value..=value,
        Some(range) => *range.start().min(&value)..=*range.end().max(&value),
    });
}

/// The rules by which a [`Judge`] judges rows.
#[derive(Clone, Debug, Default)]
pub struct JudgeRules {
    /// The key that rows are matched by.
    pub by: MatchBy,
    /// The event times of units, and of rows of B without a unit, that are judged.
    pub range: Span,
    /// Whether further units of an event_id that is in B are duplicates, not missing (only by event_id).
    pub dedup: bool,
    /// Whether contents are compared.
    pub compares: bool,
    /// The event time since which B and plus have all of their rows (µs); earlier ones were removed.
    pub kept_since: Option<i64>,
}

impl JudgeRules {
    /// Whether a row with this event time (µs) is judged. A record without a time always is.
    pub fn judges(&self, time: Option<i64>) -> bool {
        time.is_none_or(|time| self.range.contains(time))
    }
}

/// Rows of B of one key that are not in memory.
#[derive(Default)]
struct FurtherRows {
    count: u64,
    /// The last of them; it represents all.
    last: Option<RowEntry>,
}

/// Receives findings.
pub type EachFound<'a> = dyn FnMut(Finding) -> Result<()> + 'a;

/// Judges entries that come in their order.
pub struct Judge {
    rules: JudgeRules,
    extent: UnitExtent,
    key: Option<RowKey>,
    /// Records of plus with this key that have matched no unit yet: those that may be in B too, and those that may not.
    plus: [u64; 2],
    /// Rows of B with this key that have matched no unit yet.
    rows: Vec<RowEntry>,
    /// The rows of B with this key beyond [`HELD_MAX`].
    further: FurtherRows,
    /// Units with this key that are not judged yet.
    units: Vec<RowEntry>,
    /// The last unit with this key.
    unit: Option<RowEntry>,
    /// Whether there was a row of B with this key.
    has_row: bool,
    /// Rows of B that are not judged, because they are outside of A's extent.
    pub not_judged: u64,
    /// Units that are in B, inside the range of time or not.
    pub matched: u64,
}

impl Judge {
    /// Makes a judge.
    pub fn new(rules: JudgeRules, extent: UnitExtent) -> Self {
        Self {
            rules,
            extent,
            key: None,
            plus: [0, 0],
            rows: vec![],
            further: FurtherRows::default(),
            units: vec![],
            unit: None,
            has_row: false,
            not_judged: 0,
            matched: 0,
        }
    }

    /// Takes the next entry. Findings come in the order of keys.
    pub fn push(&mut self, entry: RowEntry, out: &mut EachFound<'_>) -> Result<()> {
        if self.key != Some(entry.key) {
            self.finish(out)?;
            self.key = Some(entry.key);
        }
        match entry.side {
            Side::Plus => self.plus[usize::from(entry.flags & NOT_IN_B != 0)] += 1,
            Side::B => {
                self.has_row = true;
                if self.rows.len() < HELD_MAX {
                    self.rows.push(entry);
                } else {
                    self.further = FurtherRows { count: self.further.count + 1, last: Some(entry) };
                }
            }
            Side::A => {
                self.unit = Some(entry);
                self.units.push(entry);
                if self.units.len() >= HELD_MAX {
                    self.judge_units(out)?;
                }
            }
        }
        Ok(())
    }

    /// Judges the units and rows that are held of the last key.
    pub fn finish(&mut self, out: &mut EachFound<'_>) -> Result<()> {
        self.judge_units(out)?;
        let outcome = if self.unit.is_some() { UnitOutcome::Double } else { UnitOutcome::Extra };
        let mut rows = std::mem::take(&mut self.rows);
        for row in &rows {
            self.judge_row(row, outcome, out)?;
        }
        rows.clear();
        self.rows = rows;
        if let FurtherRows { count, last: Some(row) } = std::mem::take(&mut self.further) {
            for _ in 0..count {
                self.judge_row(&row, outcome, out)?;
            }
        }
        (self.plus, self.unit, self.has_row) = ([0, 0], None, false);
        Ok(())
    }

    /// Judges the units that are held. They are matched first with records of plus that are not in B ([`NOT_IN_B`]), so
    /// that a row of B for such a unit is double; then with rows of B of equal content.
    fn judge_units(&mut self, out: &mut EachFound<'_>) -> Result<()> {
        let mut units = std::mem::take(&mut self.units);
        while self.plus[1] > 0
            && let Some(unit) = units.pop()
        {
            self.plus[1] -= 1;
            self.judged(&unit, UnitOutcome::InPlus, out)?;
        }
        if self.rules.compares && (units.len() > 1 || self.rows.len() > 1) {
            self.match_equal(&mut units, out)?;
        }
        for unit in &units {
            let outcome = self.outcome(unit);
            self.judged(unit, outcome, out)?;
        }
        units.clear();
        self.units = units;
        Ok(())
    }

    /// Matches units with rows of B of equal content, and removes both.
    fn match_equal(&mut self, units: &mut Vec<RowEntry>, out: &mut EachFound<'_>) -> Result<()> {
        let mut done = Ok(());
        units.retain(|unit| {
            let equal = self.rows.iter().position(|row| row.content == unit.content);
            let Some(row) = equal.filter(|_| done.is_ok()) else { return true };
            self.rows.remove(row);
            done = self.judged(unit, UnitOutcome::InB, out);
            false
        });
        done
    }

    /// Passes on the outcome of a unit.
    fn judged(&mut self, unit: &RowEntry, outcome: UnitOutcome, out: &mut EachFound<'_>) -> Result<()> {
        self.matched += u64::from(matches!(outcome, UnitOutcome::InB | UnitOutcome::Different));
        if self.rules.judges(unit.time()) { out(self.found(unit, outcome)) } else { Ok(()) }
    }

    fn outcome(&mut self, unit: &RowEntry) -> UnitOutcome {
        if !self.rows.is_empty() {
            let row = self.rows.remove(0);
            let differs = self.rules.compares && row.content != unit.content;
            return if differs { UnitOutcome::Different } else { UnitOutcome::InB };
        }
        if self.further.count > 0 {
            self.further.count -= 1;
            return UnitOutcome::InB;
        }
        if self.plus[0] > 0 {
            self.plus[0] -= 1;
            return UnitOutcome::InPlus;
        }
        match unit.flags {
            flags if flags & IN_PLUS != 0 => UnitOutcome::InPlus,
            _ if self.rules.dedup && self.has_row && self.rules.by == MatchBy::Id => UnitOutcome::Duplicate,
            flags if flags & IN_FLIGHT != 0 => UnitOutcome::InFlight,
            _ if is_removed(unit.time(), self.rules.kept_since) => UnitOutcome::Expired,
            _ => UnitOutcome::Missing,
        }
    }

    fn judge_row(&mut self, row: &RowEntry, outcome: UnitOutcome, out: &mut EachFound<'_>) -> Result<()> {
        let found = self.found(row, outcome);
        // A row without a unit is extra only if A would still have its record.
        let is_known = !self.extent.is_compacted && self.extent.contains(self.rules.by, found.position, found.time);
        if outcome == UnitOutcome::Extra && !is_known {
            self.not_judged += 1;
            return Ok(());
        }
        // A double is in the range if its unit is.
        let time = self.unit.map_or(found.time, |unit| unit.time());
        if self.rules.judges(time) { out(Finding { time, ..found }) } else { Ok(()) }
    }

    fn found(&self, entry: &RowEntry, outcome: UnitOutcome) -> Finding {
        let (position, id) = match self.rules.by {
            MatchBy::Position => (entry.key, entry.other),
            MatchBy::Id => (entry.other, entry.key),
        };
        Finding { outcome, position: RowPosition::of_key(position), id, time: entry.time() }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
