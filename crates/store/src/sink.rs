//! The interface of a store while a run writes to it.

use arrow::array::RecordBatch;
use evt_core::counts::SinkCounts;
use evt_core::error::Result;
use evt_core::frame::MetricProgress;
use evt_core::kind::Kind;
use evt_core::kind::dead::Rejected;
use evt_core::parallel::Parallelism;
use evt_run::checkpoint::epoch::{Epoch, EpochFaults, EpochRows};
use evt_run::metrics::ServerStatus;
use evt_run::storage::disk::Disk;
use std::sync::Arc;

/// An open output of one run. If it is dropped without [`Sink::finish`] it leaves nothing that looks complete. Rows
/// that a store with guarded keys has already applied stay: they are correct, and a replay converges.
pub trait Sink {
    /// Writes rows of `kind`; returns the rows that the store cannot hold, which become dead letters. They are counted
    /// as `dead`; a tool without a dead-letter output counts them as `dropped`.
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>>;

    /// Takes how far the metrics of the rows are that were written or, before a commit, of those of its epoch. A store
    /// with `metric_progress` keeps it: with the next rows or at the end.
    fn note_metrics(&mut self, _metrics: &[MetricProgress]) {}

    /// Makes every row written so far durable, if the store [acknowledges](super::Store::acknowledges) rows.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Does the work that is due by time without new rows, such as ending files that are old enough. Called regularly.
    fn tick(&mut self) -> Result<()> {
        Ok(())
    }

    /// Applies the rows of `epoch` and records it, in one transaction where the store has any; a second call changes
    /// nothing.
    ///
    /// Errors: exit status 75 if a later epoch is committed.
    fn commit(&mut self, epoch: Epoch, rows: &mut dyn EpochRows) -> Result<()>;

    /// Whether it stores the positions of epochs, so that it must commit epochs without rows, too.
    fn keeps_positions(&self) -> bool {
        false
    }

    /// Returns the last epoch that was committed here under the key of this sink.
    fn committed(&mut self) -> Result<Option<Epoch>>;

    /// Returns the counts so far; the law of counts holds after every call.
    fn counts(&self) -> SinkCounts;

    /// Ends the output after a proven end of the input: makes durable and visible what no epoch has committed.
    fn finish(self: Box<Self>) -> Result<SinkOutcome>;

    /// Ends the output of a source that was stopped before its own end. A store that replaces rows of other runs
    /// ([`Store::replaces`](super::Store::replaces)) replaces none.
    fn finish_stopped(self: Box<Self>) -> Result<SinkOutcome> {
        self.finish()
    }
}

/// Writes the rows of an epoch with [`Sink::write`], for a store without transactions.
pub fn write_rows(sink: &mut dyn Sink, rows: &mut dyn EpochRows) -> Result<()> {
    let mut rejected = EpochFaults::default();
    for batch in rows.batches()? {
        let batch = batch?;
        rejected.add_batch(sink.write(rows.kind(), &batch)?, batch.num_rows());
    }
    rows.keep_rejected(rejected)
}

/// The result of a finished sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkOutcome {
    /// The counts of its rows.
    pub counts: SinkCounts,
    /// A line for the summary besides the counts (files new or replaced, rows of another run replaced), if any.
    pub remark: Option<String>,
    /// Lines that are printed even if `-q` suppresses the summary.
    pub notices: Vec<Notice>,
}

/// A line about rows that a store replaced or rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The line, without the name of the output.
    pub text: String,
    /// Whether it makes the exit verdict 1.
    pub fails: bool,
}

/// The options with which a sink is opened.
#[derive(Clone)]
pub struct OpenOptions {
    /// Exposes whether the store's server is reachable.
    pub up: ServerStatus,
    /// The key of its epochs: checkpoint and output, or the name of the pipeline in a run without a checkpoint.
    pub pipeline: String,
    /// Name of this run, which distinguishes its rows from those of other runs. All runs of a checkpoint are one.
    pub run: String,
    /// Whether this run commits epochs. A store then publishes nothing before a commit, unless `is_at_once` is set.
    pub epochs: bool,
    /// Whether rows are written before their epoch is complete. After a restart such a run writes the rows since its
    /// last epoch again, so an earlier pane of a window may follow a later one.
    pub is_at_once: bool,
    /// The run's clock (µs), for timestamps of rows and the age of files.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// The disk of a store that is a directory of files.
    pub disk: Disk,
    /// How its files are encoded.
    pub parallelism: Parallelism,
}
