//! Metrics of a table that evt-serve answers with: of one version, which each request finds in the catalog.

use crate::ReadRequest;
use crate::correct::state::CorrectionState;
use crate::iceberg::correct::state_of;
use crate::iceberg::files::SnapshotFiles;
use crate::iceberg::read::{Wanted, kept_since_in, of_input};
use crate::iceberg::warehouse::catalog::TableVersion;
use crate::iceberg::warehouse::metrics_of;
use crate::lake::serving::{FilesServing, ServedFiles};
use crate::progress::{KeptProgress, from_json};
use crate::serving::{MetricStanding, ServedMetrics, StoredCorrection};
use evt_core::error::{Error, Result};
use evt_core::iceberg::metadata::Snapshot;
use evt_core::kind::Kind;
use evt_run::checkpoint::epoch::Batches;
use evt_run::client::Location;

/// How often the present version is found anew because others replaced what it names.
const ATTEMPTS: usize = 5;

/// The metrics of a version of a table.
struct TableMetrics {
    version: TableVersion,
    wanted: Wanted,
    /// The state of its corrections, which the next correction removes.
    corrections: CorrectionState,
}

/// Opens the metrics of a warehouse to answer with.
pub fn open(location: &Location) -> Result<Box<dyn ServedMetrics>> {
    FilesServing::open(location, open_table)
}

/// Opens the present version of the table of metrics; `None` if there is none.
fn open_table(location: &Location) -> Result<Option<Box<dyn ServedFiles>>> {
    let (warehouse, wanted) = (of_input(location)?, Wanted::of(location)?);
    if !warehouse.exists()? {
        return Ok(None);
    }
    let mut failed: Option<(String, Error)> = None;
    for _ in 0..ATTEMPTS {
        let Some(version) = warehouse.find(Kind::Metric)? else { return Ok(None) };
        // A version that is the present one still has its state.
        match (state_of(&version), failed.take()) {
            (Ok(corrections), _) => return Ok(Some(Box::new(TableMetrics { version, wanted, corrections }))),
            (Err(error), Some((before, _))) if before == version.location => return Err(error),
            (Err(error), _) => failed = Some((version.location, error)),
        }
    }
    failed.map_or(Ok(None), |(_, error)| Err(error))
}

impl TableMetrics {
    /// Whether the snapshot that is read is the present one.
    fn is_present(&self) -> Result<bool> {
        let id = |snapshot: Option<&Snapshot>| snapshot.map(|snapshot| snapshot.snapshot_id);
        Ok(id(self.wanted.choose(&self.version)?) == id(self.version.metadata.snapshot()))
    }
}

impl ServedFiles for TableMetrics {
    /// The properties change in the same commit as the rows.
    fn standing(&self, metric: &str) -> Result<MetricStanding> {
        let (mut progress, version) = (vec![], &self.version);
        // They say nothing of an earlier snapshot.
        if self.is_present()? {
            for file in metrics_of(version)? {
                let found = file.metrics.get(metric).and_then(from_json);
                progress.extend(found.map(|metric| KeptProgress { pipeline: file.pipeline.clone(), metric }));
            }
        }
        if progress.is_empty() && version.may_have_rows() {
            progress.push(KeptProgress::of_rows(metric));
        }
        let corrections = self.corrections.ranges_of(metric)?;
        Ok(MetricStanding { progress, corrections, kept_since: kept_since_in(version, self.wanted)? })
    }

    fn corrections(&self) -> Result<Vec<StoredCorrection>> {
        self.corrections.all()
    }

    fn rows(&self, request: ReadRequest) -> Result<Batches> {
        match self.wanted.choose(&self.version)? {
            None => Ok(Box::new(std::iter::empty())),
            Some(snapshot) => {
                Ok(SnapshotFiles::find(Kind::Metric, &self.version, snapshot, request.span)?.batches(request))
            }
        }
    }
}
