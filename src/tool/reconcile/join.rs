//! Joins sorted entries by position or by event_id, and collects the findings by position.

use super::report::{ComparisonReport, END};
use super::sort::{EntrySorter, Sorted};
use crate::output::Output;
use evt_core::error::{Error, Result};
use evt_core::kind::span::Span;
use evt_core::reconcile::entry::{IN_PLUS, RowEntry, RowKey, Side};
use evt_core::reconcile::judge::{Finding, Judge, JudgeRules, MatchBy, UnitExtent, UnitOutcome};
use evt_core::reconcile::metrics;
use evt_core::reconcile::output;
use evt_core::reconcile::ranges::{RangeSummary, Ranges};

/// Rows of `--ids` in a batch.
const BATCH_ROWS: usize = 2048;

/// The results of a join.
pub struct Matches {
    /// The ranges, and the faults.
    pub summary: RangeSummary,
    /// Rows of B that were not judged.
    pub not_judged: u64,
    /// Why units may be missing: rows of B have none of their origins, and no unit is there by its event_id.
    pub hint: Option<String>,
}

/// A join of A and B.
pub struct Join {
    /// The rules by which rows are judged.
    pub rules: JudgeRules,
    /// The extent of A.
    pub extent: UnitExtent,
    /// `--ids`: each fault is written.
    pub ids: bool,
    /// Why the comparison is refused if not one unit is in B by its event_id.
    pub refusal: Option<String>,
}

impl Join {
    /// Joins entries whose key is the position.
    pub fn by_position(self, sorter: EntrySorter, report: &ComparisonReport<'_>) -> Result<Matches> {
        let mut results = JoinFindings::new(&self, report)?;
        if self.rules.dedup {
            return self.positions_with_duplicates(sorter, results);
        }
        let mut judge = Judge::new(self.rules, self.extent);
        judge_all(&mut judge, sorter.finish()?, &mut |found| results.add(&found))?;
        results.finish(&judge)
    }

    /// Joins entries whose key is the event_id. Errors: exit status 2 if the comparison is refused.
    pub fn by_id(self, sorter: EntrySorter, report: &ComparisonReport<'_>) -> Result<Matches> {
        self.ids(sorter, report, false)
    }

    /// Joins entries whose key is the event_id; `has_plus` if units are in plus, which shows that their origin is
    /// right.
    fn ids(self, sorter: EntrySorter, report: &ComparisonReport<'_>, has_plus: bool) -> Result<Matches> {
        let mut results = JoinFindings::new(&self, report)?;
        let is_whole = !self.ids;
        let mut judge = Judge::new(self.rules, self.extent);
        let mut by_position = EntrySorter::default();
        judge_all(&mut judge, sorter.finish()?, &mut |found| {
            // Only faults are written with `--ids`, so only they must be sorted.
            if is_whole || found.outcome.verdict().is_some() {
                by_position.push(found.entry())
            } else {
                results.ranges.count(found.outcome);
                Ok(())
            }
        })?;
        let hint = match self.refusal.filter(|_| judge.matched == 0) {
            Some(refusal) if !has_plus => return Err(Error::usage(refusal)),
            // No unit has got to B, whose rows are of other origins.
            Some(refusal) => {
                let others = results.add_units(by_position)?;
                judge.not_judged += others;
                Some(refusal).filter(|_| others > 0)
            }
            None => {
                results.add_all(by_position)?;
                None
            }
        };
        let matches = results.finish(&judge)?;
        let is_missing = matches.summary.faults.total.missing > 0;
        Ok(Matches { hint: hint.filter(|_| is_missing), ..matches })
    }

    /// Joins metrics: the last row of a key is its result.
    pub fn metrics(self, sorter: EntrySorter, report: &ComparisonReport<'_>) -> Result<Matches> {
        let (mut last, mut results) = (metrics::MetricResults::default(), EntrySorter::default());
        let mut sorted = sorter.finish()?;
        while let Some(entry) = sorted.next_entry()? {
            last.push(entry).map_or(Ok(()), |result| results.push(result))?;
        }
        last.finish().map_or(Ok(()), |result| results.push(result))?;
        self.by_id(results, report)
    }

    /// Marks the units whose position is in plus, then joins all units with rows of B by event_id.
    pub fn positions_then_ids(
        self,
        units: EntrySorter,
        mut by_id: EntrySorter,
        report: &ComparisonReport<'_>,
    ) -> Result<Matches> {
        let mut sorted = units.finish()?;
        let (mut plus, mut has_plus): (Option<(RowKey, u64)>, bool) = (None, false);
        while let Some(mut entry) = sorted.next_entry()? {
            match &mut plus {
                Some((key, count)) if *key == entry.key && entry.side == Side::Plus => *count += 1,
                Some((key, count)) if *key == entry.key && *count > 0 => {
                    *count -= 1;
                    entry.flags |= IN_PLUS;
                    has_plus = true;
                    by_id.push(entry.turned())?;
                }
                plus if entry.side == Side::Plus => *plus = Some((entry.key, 1)),
                _ => by_id.push(entry.turned())?,
            }
        }
        self.ids(by_id, report, has_plus)
    }

    /// Joins by position; searches the event_ids of the units that are nowhere among those of the rows of B. A row of B
    /// outside the range of time makes a unit inside it a duplicate, so the range applies only after the search.
    fn positions_with_duplicates(self, sorter: EntrySorter, mut results: JoinFindings<'_>) -> Result<Matches> {
        let mut judge = Judge::new(JudgeRules { range: Span::default(), ..self.rules }, self.extent);
        let (mut by_position, mut by_id) = (EntrySorter::default(), EntrySorter::default());
        judge_all(&mut judge, sorter.finish()?, &mut |found| {
            let (entry, is_judged) = (found.entry(), self.rules.judges(found.time));
            match found.outcome {
                UnitOutcome::Missing | UnitOutcome::InFlight | UnitOutcome::Expired if is_judged => {
                    return by_id.push(entry.turned());
                }
                UnitOutcome::InB | UnitOutcome::Different | UnitOutcome::Double => {
                    by_id.push(RowEntry { side: Side::B, ..entry.turned() })?;
                }
                _ => {}
            }
            if is_judged { by_position.push(entry) } else { Ok(()) }
        })?;
        let mut sorted = by_id.finish()?;
        let mut in_b = None;
        while let Some(entry) = sorted.next_entry()? {
            if entry.side == Side::B {
                in_b = Some(entry.key);
                continue;
            }
            let found = Finding::of_entry(&entry.turned());
            let outcome = if in_b == Some(entry.key) { UnitOutcome::Duplicate } else { found.outcome };
            by_position.push(Finding { outcome, ..found }.entry())?;
        }
        results.add_all(by_position)?;
        results.finish(&judge)
    }
}

/// Judges all entries.
fn judge_all(judge: &mut Judge, mut sorted: Sorted, out: &mut dyn FnMut(Finding) -> Result<()>) -> Result<()> {
    while let Some(entry) = sorted.next_entry()? {
        judge.push(entry, out)?;
    }
    judge.finish(out)
}

/// The findings of a join, by position: their ranges, and with `--ids` the rows of the faults.
struct JoinFindings<'a> {
    ranges: Ranges,
    report: &'a ComparisonReport<'a>,
    /// The output of the faults; `None` without `--ids`.
    output: Option<Output>,
    /// The faults that are not written yet, fewer than [`BATCH_ROWS`].
    faults: Vec<Finding>,
}

impl<'a> JoinFindings<'a> {
    fn new(join: &Join, report: &'a ComparisonReport<'a>) -> Result<Self> {
        let is_partial = join.ids && join.rules.by == MatchBy::Id;
        let output = if join.ids { Some(report.open(&output::fault_schema(report.subject)?)?) } else { None };
        Ok(Self { ranges: Ranges::new(report.bucket(), is_partial), report, output, faults: vec![] })
    }

    /// Adds a finding; positions never go back.
    fn add(&mut self, found: &Finding) -> Result<()> {
        self.ranges.add(found)?;
        if self.output.is_some() && found.outcome.verdict().is_some() {
            self.faults.push(*found);
            if self.faults.len() >= BATCH_ROWS {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Adds findings in any order.
    fn add_all(&mut self, sorter: EntrySorter) -> Result<()> {
        let mut sorted = sorter.finish()?;
        while let Some(entry) = sorted.next_entry()? {
            self.add(&Finding::of_entry(&entry))?;
        }
        Ok(())
    }

    /// Adds the findings of units in any order; returns the number of the others, rows of B.
    fn add_units(&mut self, sorter: EntrySorter) -> Result<u64> {
        let (mut sorted, mut others) = (sorter.finish()?, 0);
        while let Some(entry) = sorted.next_entry()? {
            let found = Finding::of_entry(&entry);
            match found.outcome {
                UnitOutcome::Extra => others += 1,
                _ => self.add(&found)?,
            }
        }
        Ok(others)
    }

    fn write(&mut self) -> Result<()> {
        if let Some(output) = &mut self.output {
            output.write(&output::faults(&self.faults, &self.report.names, self.report.subject)?)?;
        }
        self.faults.clear();
        Ok(())
    }

    fn finish(mut self, judge: &Judge) -> Result<Matches> {
        self.write()?;
        if let Some(output) = self.output.take() {
            output.finish(&END)?;
        }
        Ok(Matches { summary: self.ranges.finish(), not_judged: judge.not_judged, hint: None })
    }
}
