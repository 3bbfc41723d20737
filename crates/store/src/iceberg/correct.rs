//! Corrects the metrics of a table: a step is one commit, which replaces the files of each day with a wrong cell by
//! files that hold one row per key.
//!
//! The state of corrections is a file beside the tables, which a property names; each commit of a correction writes
//! another one, so that cells and state change together. It is outside of the table's location: no upkeep of a table
//! removes it.

use crate::OpenOptions;
use crate::correct::state::{CorrectionRun, CorrectionState, span_of, stored};
use crate::correct::{Claim, Claimed, CorrectionStep, Corrections, LatePosition};
use crate::iceberg::commit::TableChange;
use crate::iceberg::files::SnapshotFiles;
use crate::iceberg::pending::PendingCommit;
use crate::iceberg::publish::{DataDir, Publication};
use crate::iceberg::read::existing;
use crate::iceberg::warehouse::catalog::TableVersion;
use crate::iceberg::warehouse::{Warehouse, fit, keep_beside, metrics_of, write_beside};
use crate::lake::directory::{CORRECTION, Lake, LakePart};
use crate::lake::metric::Results;
use crate::progress::{KeptProgress, from_json};
use evt_core::backfill::{Difference, LateCell};
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result};
use evt_core::kind::span::Span;
use evt_core::kind::{Kind, metric};
use evt_core::time::{DAY, format_instant};
use evt_run::client::Location;
use std::collections::{BTreeMap, BTreeSet};

/// The property that names the state.
const STATE: &str = "evt.corrections";
/// The name of corrections where that of an output is needed: in a directory whose files no other run removes.
const OUTPUT: &str = "correct/corrections";
/// How often a commit is repeated after those of other writers.
const ATTEMPTS: usize = 100;

/// Opens the metrics of a warehouse for a correction.
pub fn open(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    let warehouse = Warehouse::of_output(location, &options.disk)?;
    warehouse.create()?;
    let warehouse = Warehouse::of(location, &options.disk)?;
    let version = warehouse.find_or_create(Kind::Metric, (options.clock)())?;
    let data = DataDir::of(&version)?;
    let mut lake = Lake::open_beside(data.path(), CORRECTION, options.disk.clone())?;
    lake.parallelism = options.parallelism.clone();
    PendingCommit::clean(&warehouse, Kind::Metric, OUTPUT, (options.clock)())?;
    let (options, id) = (options.clone(), String::new());
    Ok(Box::new(TableCorrections { warehouse, lake: Some(lake), _data: Some(data), options, id }))
}

/// Opens the metrics of a warehouse for a comparison.
pub fn open_to_compare(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    let warehouse = existing(location)?;
    let (options, id) = (options.clone(), String::new());
    Ok(Box::new(TableCorrections { warehouse, lake: None, _data: None, options, id }))
}

/// The metrics of a warehouse.
struct TableCorrections {
    warehouse: Warehouse,
    /// The files of its rows, open to be written; `None` if they are only compared.
    lake: Option<Lake>,
    /// Keeps the directory of the lake.
    _data: Option<DataDir>,
    options: OpenOptions,
    /// The id of the correction.
    id: String,
}

/// The files that a commit exchanges.
#[derive(Default)]
struct Exchange {
    parts: Vec<LakePart>,
    removed: BTreeSet<String>,
}

/// Returns the files of a version that may have rows of a span.
fn files(version: &TableVersion, span: Span) -> Result<Option<SnapshotFiles>> {
    let snapshot = version.metadata.snapshot();
    snapshot.map(|snapshot| SnapshotFiles::find(Kind::Metric, version, snapshot, span)).transpose()
}

/// Compares the right cells of a step with those of a version.
fn compared(version: &TableVersion, step: &CorrectionStep<'_>) -> Result<Difference> {
    let rows = files(version, span_of(step))?.into_iter().flat_map(|files| files.batches(Default::default()));
    Ok(step.compare(&stored(rows, step)?))
}

/// Reads the state that a version names.
pub fn state_of(version: &TableVersion) -> Result<CorrectionState> {
    let Some(uri) = version.metadata.properties.get(STATE) else { return Ok(CorrectionState::default()) };
    serde_json::from_slice(&version.storage.read(uri)?).map_err(|error| Error::corrupt(uri.clone()).because(error))
}

/// Writes the files of the days with a wrong cell anew.
fn exchanged(lake: &mut Lake, version: &TableVersion, difference: &Difference) -> Result<Exchange> {
    let mut changes: BTreeMap<i64, metric::Builder> = BTreeMap::new();
    for change in &difference.changes {
        changes.entry(change.key.start.div_euclid(DAY)).or_default().push(&change.row())?;
    }
    let mut exchange = Exchange::default();
    for (day, mut rows) in changes {
        let (mut results, mut counts) = (Results::default().of_table(), SinkCounts::default());
        let start = day.saturating_mul(DAY);
        let of_day = files(version, Span { since: Some(start), until: Some(start.saturating_add(DAY)) })?;
        if let Some(of_day) = of_day {
            exchange.removed.extend(of_day.files.iter().map(|file| file.uri.clone()));
            of_day.batches(Default::default()).try_for_each(|batch| results.apply(&batch?, &mut counts))?;
        }
        results.apply(&rows.finish(Kind::Metric.schema())?, &mut counts)?;
        exchange.parts.extend(results.finish(lake, None, &mut counts)?);
    }
    Ok(exchange)
}

impl TableCorrections {
    fn now(&self) -> String {
        format_instant((self.options.clock)())
    }

    /// Returns the present version; `None` if there is none.
    fn version(&self) -> Result<Option<TableVersion>> {
        self.warehouse.find(Kind::Metric)
    }

    /// Commits what `decide` makes of a version and its state, again if other commits come first.
    fn commit<T>(
        &mut self,
        decide: impl Fn(&Self, &mut Lake, &TableVersion, &mut CorrectionState) -> Result<(T, Exchange)>,
    ) -> Result<T> {
        let mut lake = self.lake.take().ok_or_else(|| Error::broken("a warehouse that is only compared"))?;
        let done = self.commit_with(&mut lake, decide);
        self.lake = Some(lake);
        done
    }

    fn commit_with<T>(
        &self,
        lake: &mut Lake,
        decide: impl Fn(&Self, &mut Lake, &TableVersion, &mut CorrectionState) -> Result<(T, Exchange)>,
    ) -> Result<T> {
        for _ in 0..ATTEMPTS {
            let now = (self.options.clock)();
            let base = self.warehouse.find_or_create(Kind::Metric, now)?;
            lake.columns = Some(fit(&base, Kind::Metric)?);
            let mut state = state_of(&base)?;
            let (result, mut exchange) = decide(self, lake, &base, &mut state)?;
            let publication = Publication {
                warehouse: &self.warehouse,
                kind: Kind::Metric,
                base: &base,
                output: OUTPUT,
                columns: &[],
            };
            let added = publication.describe(lake, &mut exchange.parts)?;
            let uri = write_beside(&base, &state)?;
            let change = TableChange {
                added,
                removed: exchange.removed,
                properties: [(STATE.to_owned(), uri.clone())].into(),
                summary: [("evt.correction".to_owned(), self.id.clone())].into(),
                ..TableChange::default()
            };
            let is_done = publication.commit(lake, &exchange.parts, &change, now)?;
            if is_done {
                PendingCommit::forget(&base, OUTPUT)?;
                keep_beside(&base, &uri)?;
                return Ok(result);
            }
            base.storage.remove(&uri)?;
            exchange.parts.iter().try_for_each(|part| lake.remove_hidden(&part.part))?;
        }
        Err(Error::busy(format!("{}: other writers committed first", self.warehouse.shown)))
    }
}

impl Corrections for TableCorrections {
    fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        let (now, shown) = (self.now(), self.warehouse.shown.clone());
        let (claimed, id) = self.commit(|this, _, _, state| {
            Ok((state.claim(claim, &this.options.run, &now, &shown)?, Exchange::default()))
        })?;
        self.id = id;
        Ok(claimed)
    }

    fn late_cells(&mut self, metrics: &[String]) -> Result<Vec<LateCell>> {
        self.version()?.map_or(Ok(vec![]), |version| state_of(&version)?.late_cells(metrics))
    }

    fn metric_progress(&mut self, metrics: &[String]) -> Result<Vec<KeptProgress>> {
        let Some(version) = self.version()? else { return Ok(vec![]) };
        let mut kept = vec![];
        for file in metrics_of(&version)? {
            let of_metrics = metrics.iter().filter_map(|name| file.metrics.get(name).and_then(from_json));
            kept.extend(of_metrics.map(|metric| KeptProgress { pipeline: file.pipeline.clone(), metric }));
        }
        if version.may_have_rows() {
            // Which metrics a table has only its rows say.
            let is_recorded = |name: &&String| kept.iter().any(|kept| kept.metric.metric == **name);
            let rest: Vec<_> = metrics.iter().filter(|name| !is_recorded(name)).collect();
            kept.extend(rest.into_iter().map(|name| KeptProgress::of_rows(name)));
        }
        Ok(kept)
    }

    fn late_position(&mut self, source: &str) -> Result<Option<LatePosition>> {
        self.version()?.map_or(Ok(None), |version| Ok(state_of(&version)?.position(source)))
    }

    fn compare(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        match self.version()? {
            Some(version) => compared(&version, step),
            None => Ok(step.compare(&Default::default())),
        }
    }

    fn apply(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        let now = self.now();
        self.commit(|this, lake, version, state| {
            let difference = compared(version, step)?;
            let by = CorrectionRun { id: &this.id, run: &this.options.run, now: &now };
            state.applied(by, step, &difference)?;
            let exchange = exchanged(lake, version, &difference)?;
            Ok((difference, exchange))
        })
    }

    fn finish(&mut self, positions: &[(String, LatePosition)]) -> Result<()> {
        let now = self.now();
        self.commit(|this, _, _, state| {
            let by = CorrectionRun { id: &this.id, run: &this.options.run, now: &now };
            Ok((state.finished(by, positions)?, Exchange::default()))
        })
    }
}
