//! Corrects the metrics of a lake: a step replaces each day with a wrong cell by a version that holds one row per key.
//!
//! The state of corrections is `.evt/correct/corrections.json`. A correction locks that directory for its whole run,
//! and `.evt`, which live runs also lock for their renames, for each step: it lists and merges the days and exchanges
//! them before any other run adds a file. The state is written after the exchange. If the run is killed between both,
//! the next one finds the cells right.

use crate::correct::state::{CorrectionRun, CorrectionState, span_of, stored};
use crate::correct::{Claim, Claimed, CorrectionStep, Corrections, LatePosition};
use crate::lake::directory::{CORRECTION, Lake, LakePart, kept_metrics, root};
use crate::lake::disk::{self, read_json};
use crate::lake::exchange;
use crate::lake::metric::Results;
use crate::lake::read as lake_read;
use crate::lake::read::file::check_kind;
use crate::progress::KeptProgress;
use crate::{OpenOptions, ReadRequest};
use evt_core::backfill::{Difference, LateCell};
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result};
use evt_core::kind::{self, Kind};
use evt_core::time::{DAY, format_instant};
use evt_run::client::Location;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The state of the corrections of a lake.
const STATE: &str = "correct/corrections.json";

/// Opens the metrics of a lake for a correction.
pub fn open(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    let root = root(location)?;
    exchange::check(&root)?;
    if let Some(found) = lake_read::kind_of(&root)? {
        check_kind(&root, found, Kind::Metric)?;
    }
    let lake = Lake::open_beside(&root, CORRECTION, options.disk.clone())?;
    LakeCorrections::open(root, Some(lake), options)
}

/// Opens the metrics of a lake for a comparison.
pub fn open_to_compare(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    LakeCorrections::open(root(location)?, None, options)
}

/// Reads the state of the corrections of a lake.
pub fn state_of(root: &Path) -> Result<CorrectionState> {
    Ok(read_json(&root.join(".evt").join(STATE))?.unwrap_or_default())
}

/// The metrics of a lake.
struct LakeCorrections {
    root: PathBuf,
    /// The lake, open to be written; `None` if it is only compared.
    lake: Option<Lake>,
    state: CorrectionState,
    options: OpenOptions,
    /// The id of the correction.
    id: String,
}

impl LakeCorrections {
    fn open(root: PathBuf, lake: Option<Lake>, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
        let state = state_of(&root)?;
        Ok(Box::new(Self { root, lake, state, options: options.clone(), id: String::new() }))
    }

    fn lake(&mut self) -> Result<&mut Lake> {
        self.lake.as_mut().ok_or_else(|| Error::broken("a lake that is only compared"))
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
                for batch in lake_read::Day::open(&path)?.batches(Kind::Metric, ReadRequest::default())? {
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
        let (now, shown) = (self.now(), format!("parquet:{}", self.root.display()));
        let (claimed, id) = self.state.claim(claim, &self.options.run, &now, &shown)?;
        self.id = id;
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
        self.state.late_cells(metrics)
    }

    fn late_position(&mut self, source: &str) -> Result<Option<LatePosition>> {
        Ok(self.state.position(source))
    }

    fn compare(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        let request = ReadRequest { span: span_of(step), ..ReadRequest::default() };
        let rows = lake_read::read_if_any(&self.root, Kind::Metric, request)?;
        Ok(step.compare(&stored(rows, step)?))
    }

    fn apply(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        let names = self.lake()?.lock_names()?;
        let difference = self.compare(step)?;
        self.exchange(&difference)?;
        drop(names);
        let now = self.now();
        let by = CorrectionRun { id: &self.id, run: &self.options.run, now: &now };
        self.state.applied(by, step, &difference)?;
        self.write()?;
        Ok(difference)
    }

    fn finish(&mut self, positions: &[(String, LatePosition)]) -> Result<()> {
        let now = self.now();
        let by = CorrectionRun { id: &self.id, run: &self.options.run, now: &now };
        self.state.finished(by, positions)?;
        self.write()
    }
}
