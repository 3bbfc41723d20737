//! The state of corrections as one document, for stores of files: claims, progress, cells that count late events,
//! positions in streams of late events.

use super::{Claim, Claimed, CorrectionCounts, CorrectionStep, InFlight, LatePosition, taken_over};
use crate::guard::{RowOutcome, Stored, judge_row};
use crate::serving::StoredCorrection;
use arrow::array::RecordBatch;
use evt_core::backfill::{CellContent, CellKey, Difference, LateCell, StoredCell, StoredCells};
use evt_core::error::{Error, Result};
use evt_core::kind::metric::MetricColumns;
use evt_core::kind::span::Span;
use evt_core::time::{format_instant, parse_instant};
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// The state of a correction that is not done.
const RUNNING: &str = "running";

/// The run that has a correction.
#[derive(Clone, Copy)]
pub struct CorrectionRun<'a> {
    /// The id of the correction.
    pub id: &'a str,
    /// The name of the run.
    pub run: &'a str,
    /// The time (RFC 3339).
    pub now: &'a str,
}

/// The state of all corrections of a store.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct CorrectionState {
    corrections: Vec<Correction>,
    /// The cells that count late events.
    cells: BTreeSet<LateEntry>,
    /// By stream of late events.
    positions: BTreeMap<String, LatePosition>,
}

/// A correction, also one that is done.
#[derive(Clone, Serialize, Deserialize)]
struct Correction {
    id: String,
    /// The run that has it.
    #[serde(default)]
    run: String,
    metrics: Vec<String>,
    since: Option<String>,
    until: Option<String>,
    state: String,
    #[serde(flatten)]
    by: Claimant,
    spec: String,
    started_at: String,
    updated_at: String,
    #[serde(flatten)]
    done: CorrectionProgress,
}

/// Who began a correction.
#[derive(Clone, Serialize, Deserialize)]
struct Claimant {
    who: String,
    host: String,
    reason: Option<String>,
}

/// How far a correction is.
#[derive(Clone, Default, Serialize, Deserialize)]
struct CorrectionProgress {
    progress: Option<i64>,
    inserted: u64,
    corrected: u64,
    retracted: u64,
    unchanged: u64,
}

/// A cell that counts late events.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct LateEntry {
    metric_name: String,
    window_start: String,
    window_end: String,
    dimensions: String,
    late_until: String,
}

impl LateEntry {
    fn of(cell: &LateCell) -> Self {
        let LateCell { key, late_until } = cell;
        Self {
            metric_name: key.metric.to_string(),
            window_start: format_instant(key.start),
            window_end: format_instant(key.end),
            dimensions: key.dimensions.clone(),
            late_until: format_instant(*late_until),
        }
    }

    fn cell(&self) -> Result<LateCell> {
        let key = CellKey {
            end: instant(&self.window_end)?,
            start: instant(&self.window_start)?,
            metric: self.metric_name.as_str().into(),
            dimensions: self.dimensions.clone(),
        };
        Ok(LateCell { key, late_until: instant(&self.late_until)? })
    }
}

impl CorrectionState {
    fn in_flight(&self) -> Result<Vec<InFlight>> {
        let running = self.corrections.iter().filter(|correction| correction.state == RUNNING);
        let in_flight = |one: &Correction| {
            let bound = |text: &Option<String>| text.as_deref().map(instant).transpose();
            Ok(InFlight {
                id: one.id.clone(),
                metrics: one.metrics.clone(),
                range: Span { since: bound(&one.since)?, until: bound(&one.until)? },
                spec: one.spec.clone(),
                by: format!("{} on {} since {}", one.by.who, one.by.host, one.started_at),
                progress: one.done.progress,
            })
        };
        running.map(in_flight).collect()
    }

    /// Returns all corrections that are known, each metric by itself.
    pub fn all(&self) -> Result<Vec<StoredCorrection>> {
        let bound = |text: &Option<String>| text.as_deref().map(instant).transpose();
        let mut all = vec![];
        for one in &self.corrections {
            let range = Span { since: bound(&one.since)?, until: bound(&one.until)? };
            let last_end = instant(&one.updated_at)?;
            all.extend(one.metrics.iter().map(|metric| StoredCorrection { metric: metric.clone(), range, last_end }));
        }
        Ok(all)
    }

    /// Returns the ranges of the corrections of a metric in flight.
    pub fn ranges_of(&self, metric: &str) -> Result<Vec<Span>> {
        let of_metric = |one: &InFlight| one.metrics.iter().any(|name| name == metric);
        Ok(self.in_flight()?.into_iter().filter(of_metric).map(|one| one.range).collect())
    }

    /// Claims a correction for a run, now (RFC 3339); returns its id, too. `shown` names the store.
    ///
    /// Errors: exit status 75 if another one in flight overlaps.
    pub fn claim(&mut self, claim: &Claim, run: &str, now: &str, shown: &str) -> Result<(Claimed, String)> {
        let claimed = claim.judge(self.in_flight()?, shown)?;
        for one in self.corrections.iter_mut().filter(|one| claimed.ended.contains(&one.id)) {
            "ended".clone_into(&mut one.state);
            now.clone_into(&mut one.updated_at);
        }
        if let Some(resumed) = &claimed.resumed {
            let id = resumed.id.clone();
            if let Some(own) = self.corrections.iter_mut().find(|one| one.id == id) {
                run.clone_into(&mut own.run);
            }
            return Ok((claimed, id));
        }
        let Claim { metrics, range, spec, who, host, reason, .. } = claim.clone();
        self.corrections.push(Correction {
            id: run.to_owned(),
            run: run.to_owned(),
            metrics,
            since: range.since.map(format_instant),
            until: range.until.map(format_instant),
            state: RUNNING.to_owned(),
            by: Claimant { who, host, reason },
            spec,
            started_at: now.to_owned(),
            updated_at: now.to_owned(),
            done: CorrectionProgress::default(),
        });
        Ok((claimed, run.to_owned()))
    }

    /// Returns the correction of a run. Errors: exit status 75 if another run has resumed or ended it.
    fn own(&mut self, id: &str, run: &str) -> Result<&mut Correction> {
        let own = self.corrections.iter_mut().find(|one| one.id == id && one.run == run && one.state == RUNNING);
        own.ok_or_else(|| taken_over(id))
    }

    /// Notes that a run has applied a step of its correction. Errors: those of a correction that it has no longer.
    pub fn applied(&mut self, by: CorrectionRun<'_>, step: &CorrectionStep<'_>, difference: &Difference) -> Result<()> {
        let mut counts = CorrectionCounts::default();
        counts.add(difference);
        let own = self.own(by.id, by.run)?;
        by.now.clone_into(&mut own.updated_at);
        let done = &mut own.done;
        done.progress = Some(step.progress_after(difference));
        done.inserted += counts.inserted;
        done.corrected += counts.corrected;
        done.retracted += counts.retracted;
        done.unchanged += counts.unchanged;
        self.keep_late(step, difference);
        Ok(())
    }

    /// Ends the correction of a run, and keeps its positions in streams of late events.
    ///
    /// Errors: those of a correction that it has no longer.
    pub fn finished(&mut self, by: CorrectionRun<'_>, positions: &[(String, LatePosition)]) -> Result<()> {
        let own = self.own(by.id, by.run)?;
        "done".clone_into(&mut own.state);
        by.now.clone_into(&mut own.updated_at);
        self.positions.extend(positions.iter().cloned());
        Ok(())
    }

    /// Returns the cells of these metrics that count late events.
    pub fn late_cells(&self, metrics: &[String]) -> Result<Vec<LateCell>> {
        let of_metrics = self.cells.iter().filter(|cell| metrics.contains(&cell.metric_name));
        of_metrics.map(LateEntry::cell).collect()
    }

    /// Returns the position in a stream of late events.
    pub fn position(&self, source: &str) -> Option<LatePosition> {
        self.positions.get(source).cloned()
    }

    /// Replaces the late cells of a step and removes the released ones. A later run reads the late events of the
    /// released ones again.
    fn keep_late(&mut self, step: &CorrectionStep<'_>, difference: &Difference) {
        if step.released(difference).next().is_some() {
            self.positions.clear();
        }
        let gone = step.late.iter().map(|cell| &cell.key).chain(step.released(difference));
        let gone: BTreeSet<(&str, String, String, &str)> = gone
            .map(|key| (&*key.metric, format_instant(key.start), format_instant(key.end), key.dimensions.as_str()))
            .collect();
        self.cells.retain(|cell| {
            let LateEntry { metric_name, window_start, window_end, dimensions, .. } = cell;
            !gone.contains(&(metric_name.as_str(), window_start.clone(), window_end.clone(), dimensions.as_str()))
        });
        self.cells.extend(step.late.iter().map(LateEntry::of));
    }
}

/// Returns the span of the windows that a step compares.
pub fn span_of(step: &CorrectionStep<'_>) -> Span {
    let since = step.parts.iter().map(|part| part.since).min().unwrap_or(i64::MAX);
    let until = step.parts.iter().map(|part| part.to).max().unwrap_or(i64::MIN).saturating_add(1);
    Span { since: Some(since), until: Some(until) }
}

/// Returns the stored cells of a step among the rows of its [span](span_of). Of several rows of one key the one that
/// the guard keeps is valid.
pub fn stored(rows: impl Iterator<Item = Result<RecordBatch>>, step: &CorrectionStep<'_>) -> Result<StoredCells> {
    let (mut cells, mut found): (BTreeMap<CellKey, Stored>, _) = (BTreeMap::new(), StoredCells::default());
    for batch in rows {
        let batch = batch?;
        let columns = MetricColumns::try_new(&batch)?;
        for row in 0..batch.num_rows() {
            let (metric, start, end) = (columns.names.value(row), columns.starts.value(row), columns.ends.value(row));
            let of_step = step
                .parts
                .iter()
                .any(|part| part.metric == metric && start >= part.since && end > part.after && end <= part.to);
            if !of_step {
                continue;
            }
            let dimensions = columns.dimensions.value(row).to_owned();
            let key = CellKey { end, start, metric: metric.into(), dimensions };
            if !found.takes((step.covers)(&key)) {
                continue;
            }
            let stored = Stored::of(&columns, row);
            match cells.entry(key) {
                Entry::Vacant(entry) => _ = entry.insert(stored),
                Entry::Occupied(mut entry) => {
                    if judge_row(Some(*entry.get()), None, stored) == RowOutcome::Updated {
                        entry.insert(stored);
                    }
                }
            }
        }
    }
    let cell = |Stored { version, value }: Stored| StoredCell {
        content: CellContent { value, rows: version.rows },
        revision: version.revision,
    };
    found.cells = cells.into_iter().map(|(key, stored)| (key, cell(stored))).collect();
    Ok(found)
}

fn instant(text: &str) -> Result<i64> {
    parse_instant(text).ok_or_else(|| Error::corrupt(format!("corrections: expected an instant, found '{text}'")))
}
