//! How far the metrics are: stated in the stream before the first rows and after those of each firing, so that a store
//! keeps it beside them.

use crate::stage::operator::Collector;
use arrow::array::RecordBatch;
use evt_core::error::Result;
use evt_core::frame::{Control, MetricProgress, RANGED_KEY};
use evt_core::kind::event::{column, instants};
use evt_core::op::window::metric::Metric;
use evt_core::op::window::watermark::{self, OutOfOrderness};
use evt_core::time::{EARLIEST, LATEST};

/// What a run leaves out of its results.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftOut {
    /// Events before its first one: it may have begun within its inputs.
    pub earlier: bool,
    /// Events outside a range of time, or rows of other keys than the first ones.
    pub some: bool,
}

/// What a run states of its metrics.
pub(super) struct StatedProgress {
    metrics: Vec<MetricProgress>,
    /// The out-of-orderness (µs), if the run may have begun within its inputs: then windows that had begun before its
    /// first rows lack events.
    begins_within: Option<i64>,
    /// Whether results are left out, so that no watermark says that all are there.
    is_partial: bool,
    /// Whether there has been a row. A run without rows says nothing about those of other runs.
    has_rows: bool,
    /// Whether the run has stated anything.
    is_stated: bool,
}

impl StatedProgress {
    /// Makes the statements about metrics.
    pub fn new(metrics: &[Metric], options: watermark::Options, left_out: LeftOut) -> Self {
        let bound = options.out_of_orderness;
        let text = (!options.explicit).then(|| OutOfOrderness(bound).to_string());
        Self {
            metrics: metrics.iter().map(|metric| metric.progress(text.clone())).collect(),
            begins_within: left_out.earlier.then_some(bound.unwrap_or(0)),
            is_partial: left_out.some,
            has_rows: false,
            is_stated: false,
        }
    }

    /// Notes that the run continues another one, which has emitted the windows of each metric up to these instants
    /// (µs). If that one `had_rows`, it has stated where the metrics begin.
    pub fn continues(&mut self, emitted: Vec<Option<i64>>, had_rows: bool) {
        self.begins_within = self.begins_within.filter(|_| !had_rows);
        self.has_rows = had_rows;
        self.set(emitted);
    }

    /// Takes rows before the windows do.
    pub fn see(&mut self, batch: &RecordBatch) {
        self.has_rows |= batch.num_rows() > 0;
        self.is_partial |= batch.schema_ref().metadata().contains_key(RANGED_KEY);
        let Some(bound) = self.begins_within.filter(|_| batch.num_rows() > 0) else { return };
        let last = instants(batch, column::STREAM_TIME).iter().max();
        let since = last.map(|last| last.saturating_add(bound));
        self.metrics.iter_mut().for_each(|metric| metric.complete_since = since);
        self.begins_within = None;
    }

    fn set(&mut self, emitted: Vec<Option<i64>>) {
        for (metric, emitted) in self.metrics.iter_mut().zip(emitted) {
            metric.watermark = emitted.filter(|_| !self.is_partial).map(|emitted| emitted.clamp(EARLIEST, LATEST));
        }
    }

    /// States how the metrics are computed, before the first rows of the run: if it is killed before it states more,
    /// the store knows with which bound they were written.
    pub fn state_first(&mut self, out: &mut dyn Collector) -> Result<()> {
        if std::mem::replace(&mut self.is_stated, true) { Ok(()) } else { self.send(out) }
    }

    /// States up to which instant (µs) the windows of each metric have been emitted.
    pub fn state(&mut self, emitted: Vec<Option<i64>>, out: &mut dyn Collector) -> Result<()> {
        if !self.has_rows {
            return Ok(());
        }
        self.set(emitted);
        self.is_stated = true;
        self.send(out)
    }

    fn send(&self, out: &mut dyn Collector) -> Result<()> {
        Control::of_metrics(&self.metrics).try_for_each(|message| out.control(&message))
    }

    /// States that all windows have fired.
    pub fn state_all(&mut self, out: &mut dyn Collector) -> Result<()> {
        self.state(vec![Some(LATEST); self.metrics.len()], out)
    }
}
