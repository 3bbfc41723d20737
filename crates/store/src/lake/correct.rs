//! Corrects the metrics of a lake: a step replaces each day with a wrong cell by a version that holds one row per key.
//!
//! The state of corrections is `.evt/correct/corrections.json`. A correction locks that directory for its whole run,
//! and `.evt`, which live runs also lock for their renames, for each step: it lists and merges the days and exchanges
//! them before any other run adds a file. The state is written after the exchange. If the run is killed between both,
//! the next one finds the cells right.

use crate::OpenOptions;
use crate::correct::{
    Claim, Claimed, CorrectionCounts, CorrectionStep, Corrections, InFlight, LatePosition, taken_over,
};
use crate::guard::{RowOutcome, Stored, judge_row};
use crate::lake::directory::{Lake, LakePart, kept_metrics, root};
use crate::lake::disk::{self, read_json};
use crate::lake::exchange;
use crate::lake::metric::Results;
use crate::lake::read as lake_read;
use crate::progress::KeptProgress;
use evt_core::backfill::{CellContent, CellKey, Difference, LateCell, StoredCell, StoredCells};
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result};
use evt_core::kind::metric::MetricColumns;
use evt_core::kind::span::Span;
use evt_core::kind::{self, Kind};
use evt_core::time::{DAY, format_instant, parse_instant};
use evt_run::client::Location;
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The state of the corrections of a lake.
const STATE: &str = "correct/corrections.json";

/// Opens the metrics of a lake for a correction.
pub fn open(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    let root = root(location)?;
    exchange::check(&root)?;
    if let Some(found) = lake_read::kind_of(&root)? {
        lake_read::check_kind(&root, found, Kind::Metric)?;
    }
    let lake = Lake::open_to_correct(&root, options.disk.clone())?;
    LakeCorrections::open(root, Some(lake), options)
}

/// Opens the metrics of a lake for a comparison.
pub fn open_to_compare(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    LakeCorrections::open(root(location)?, None, options)
}

/// The state of all corrections of a lake.
#[derive(Default, Serialize, Deserialize)]
struct State {
    corrections: Vec<Correction>,
    /// The cells that count late events.
    cells: BTreeSet<LateEntry>,
    /// By stream of late events.
    positions: BTreeMap<String, LatePosition>,
}

#[derive(Serialize, Deserialize)]
struct Correction {
    id: String,
    metrics: Vec<String>,
    since: Option<String>,
    until: Option<String>,
    state: String,
    who: String,
    host: String,
    reason: Option<String>,
    spec: String,
    started_at: String,
    updated_at: String,
    #[serde(flatten)]
    done: CorrectionProgress,
}

/// How far a correction is.
#[derive(Default, Serialize, Deserialize)]
struct CorrectionProgress {
    progress: Option<i64>,
    inserted: u64,
    corrected: u64,
    retracted: u64,
    unchanged: u64,
}

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

impl State {
    fn in_flight(&self) -> Result<Vec<InFlight>> {
        let running = self.corrections.iter().filter(|correction| correction.state == "running");
        let in_flight = |one: &Correction| {
            let bound = |text: &Option<String>| text.as_deref().map(instant).transpose();
            Ok(InFlight {
                id: one.id.clone(),
                metrics: one.metrics.clone(),
                range: Span { since: bound(&one.since)?, until: bound(&one.until)? },
                spec: one.spec.clone(),
                by: format!("{} on {} since {}", one.who, one.host, one.started_at),
                progress: one.done.progress,
            })
        };
        running.map(in_flight).collect()
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

/// The metrics of a lake.
struct LakeCorrections {
    root: PathBuf,
    /// The lake, open to be written; `None` if it is only compared.
    lake: Option<Lake>,
    state: State,
    options: OpenOptions,
    /// The id of the correction.
    id: String,
}

impl LakeCorrections {
    fn open(root: PathBuf, lake: Option<Lake>, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
        let state = read_json(&root.join(".evt").join(STATE))?.unwrap_or_default();
        Ok(Box::new(Self { root, lake, state, options: options.clone(), id: String::new() }))
    }

    fn lake(&mut self) -> Result<&mut Lake> {
        self.lake.as_mut().ok_or_else(|| Error::broken("a lake that is only compared"))
    }

    /// Changes the entry of this correction and writes the state.
    fn update(&mut self, change: impl FnOnce(&mut Correction)) -> Result<()> {
        let now = self.now();
        let own = self.state.corrections.iter_mut().find(|one| one.id == self.id);
        let own = own.ok_or_else(|| taken_over(&self.id))?;
        change(own);
        own.updated_at = now;
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        let lake = self.lake.as_ref().ok_or_else(|| Error::broken("a lake that is only compared"))?;
        lake.dir.write_json(&lake.dir.hidden(STATE), &self.state)
    }

    fn now(&self) -> String {
        format_instant((self.options.clock)())
    }

    /// Replaces the days with a wrong cell.
    fn exchange(&mut self, difference: &Difference) -> Result<()> {
        let mut changes: BTreeMap<i64, kind::metric::Builder> = BTreeMap::new();
        for change in &difference.changes {
            changes.entry(change.key.start.div_euclid(DAY)).or_default().push(&change.row())?;
        }
        let (lake, mut days) = (self.lake()?, BTreeMap::new());
        for (day, mut rows) in changes {
            let (mut results, mut counts) = (Results::default(), SinkCounts::default());
            let path = lake.day(day);
            if disk::found(&path)?.is_some() {
                for batch in lake_read::Day::open(&path)?.batches(Kind::Metric, None)? {
                    results.apply(&batch?, &mut counts)?;
                }
            }
            results.apply(&rows.finish(Kind::Metric.schema())?, &mut counts)?;
            let parts = results.finish(lake, None, &mut counts)?;
            let parts: Vec<LakePart> = parts.into_iter().map(|part| LakePart { replace: true, ..part }).collect();
            lake.sync_parts(&parts)?;
            days.insert(day, parts);
        }
        if days.is_empty() { Ok(()) } else { lake.replace(&days) }
    }
}

impl Corrections for LakeCorrections {
    fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        let (now, run) = (self.now(), self.options.run.clone());
        let shown = format!("parquet:{}", self.root.display());
        let claimed = claim.judge(self.state.in_flight()?, &shown)?;
        for one in self.state.corrections.iter_mut().filter(|one| claimed.ended.contains(&one.id)) {
            one.state = "ended".to_owned();
            one.updated_at.clone_from(&now);
        }
        match &claimed.resumed {
            Some(resumed) => self.id.clone_from(&resumed.id),
            None => {
                let Claim { metrics, range, spec, who, host, reason, .. } = claim.clone();
                self.id.clone_from(&run);
                self.state.corrections.push(Correction {
                    id: run,
                    metrics,
                    since: range.since.map(format_instant),
                    until: range.until.map(format_instant),
                    state: "running".to_owned(),
                    who,
                    host,
                    reason,
                    spec,
                    started_at: now.clone(),
                    updated_at: now,
                    done: CorrectionProgress::default(),
                });
            }
        }
        self.write()?;
        Ok(claimed)
    }

    fn metric_progress(&mut self, metrics: &[String]) -> Result<Vec<KeptProgress>> {
        let mut kept = kept_metrics(&self.root, metrics)?;
        // Which metrics a lake has only its rows say.
        if lake_read::kind_of(&self.root)?.is_some() {
            let is_recorded = |name: &&String| kept.iter().any(|kept| kept.metric.metric == **name);
            let rest: Vec<_> = metrics.iter().filter(|name| !is_recorded(name)).collect();
            kept.extend(rest.into_iter().map(|name| KeptProgress::of_rows(name)));
        }
        Ok(kept)
    }

    fn late_cells(&mut self, metrics: &[String]) -> Result<Vec<LateCell>> {
        let of_metrics = self.state.cells.iter().filter(|cell| metrics.contains(&cell.metric_name));
        of_metrics.map(LateEntry::cell).collect()
    }

    fn late_position(&mut self, source: &str) -> Result<Option<LatePosition>> {
        Ok(self.state.positions.get(source).cloned())
    }

    fn compare(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        Ok(step.compare(&stored(&self.root, step)?))
    }

    fn apply(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        let names = self.lake()?.lock_names()?;
        let difference = self.compare(step)?;
        self.exchange(&difference)?;
        drop(names);
        self.state.keep_late(step, &difference);
        let mut counts = CorrectionCounts::default();
        counts.add(&difference);
        let progress = step.progress_after(&difference);
        self.update(|own| {
            let done = &mut own.done;
            done.progress = Some(progress);
            done.inserted += counts.inserted;
            done.corrected += counts.corrected;
            done.retracted += counts.retracted;
            done.unchanged += counts.unchanged;
        })?;
        Ok(difference)
    }

    fn finish(&mut self, positions: &[(String, LatePosition)]) -> Result<()> {
        self.state.positions.extend(positions.iter().cloned());
        self.update(|own| own.state = "done".to_owned())
    }
}

/// Returns the stored cells of a step. Of several rows of one key the one that the guard keeps is valid.
fn stored(root: &Path, step: &CorrectionStep<'_>) -> Result<StoredCells> {
    let (mut cells, mut found): (BTreeMap<CellKey, Stored>, _) = (BTreeMap::new(), StoredCells::default());
    let since = step.parts.iter().map(|part| part.since).min().unwrap_or(i64::MAX);
    let until = step.parts.iter().map(|part| part.to).max().unwrap_or(i64::MIN).saturating_add(1);
    let span = Span { since: Some(since), until: Some(until) };
    for batch in lake_read::read_if_any(root, Kind::Metric, span)? {
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
    parse_instant(text).ok_or_else(|| Error::corrupt(format!("{STATE}: expected an instant, found '{text}'")))
}
