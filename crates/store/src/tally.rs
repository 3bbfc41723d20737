//! The outcomes of the rows of a run.

use crate::SinkOutcome;
use crate::guard::{ConflictReport, RowOutcome};
use crate::repeat::Conflicts;
use evt_core::counts::SinkCounts;
use evt_core::error::Result;
use evt_core::kind::metric::MetricColumns;

/// The outcomes of the rows of a run, for the summary and the lines at its end.
#[derive(Clone, Default)]
pub struct Tally {
    /// The counts of its rows.
    pub counts: SinkCounts,
    /// Stored metrics with other event counts.
    pub overlap: ConflictReport,
    /// Stored events with other content.
    pub conflicts: Conflicts,
    /// Whether a row was a retraction; only then rows look for retractions.
    pub retracts: bool,
}

impl Tally {
    /// Counts a row of metrics.
    pub fn judged(&mut self, columns: &MetricColumns<'_>, row: usize, outcome: RowOutcome) -> Result<()> {
        outcome.count_in(&mut self.counts);
        self.overlap.judged(columns.id(row)?, outcome, || columns.key(row));
        Ok(())
    }

    /// Notes that a row of metrics has replaced one of another run with `before` events.
    pub fn replaced(&mut self, columns: &MetricColumns<'_>, row: usize, before: i64) {
        self.overlap.replaced(|| columns.key(row), before, columns.rows.value(row));
    }

    /// Returns the result of the sink at its end.
    pub fn outcome(&self) -> SinkOutcome {
        let notices = self.overlap.notices().into_iter().chain(self.conflicts.notice()).collect();
        SinkOutcome { counts: self.counts, notices, ..SinkOutcome::default() }
    }
}
