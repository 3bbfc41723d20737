//! What a stage shows while it runs: metrics, and the status of the service manager.

use super::feeds::Feeds;
use super::outputs::Outputs;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use evt_core::counts::Counts;
use evt_core::time::SECOND;
use evt_run::metrics;
use evt_run::run::Run;
use std::rc::Rc;

/// The metrics of a stage.
pub(super) struct Gauges {
    run: Rc<Run>,
    /// The largest stream time so far (µs).
    stream_time: Option<i64>,
}

impl Gauges {
    /// Makes the metrics of a run.
    pub fn new(run: Rc<Run>) -> Self {
        Self { run, stream_time: None }
    }

    /// Whether anything shows the metrics or the status.
    pub fn are_watched(&self) -> bool {
        self.run.metrics.is_on() || self.run.service.listens()
    }

    /// Sets all metrics, and the status of the service manager: the counts, and figures of the operator.
    pub fn set(&self, counts: &Counts, figures: &str, feeds: &Feeds, outputs: &Outputs) {
        let run = &self.run;
        if run.stop.signal().is_some() {
            run.service.stopping();
        }
        run.service.status(|| format!("{counts}{figures}"));
        if run.metrics.is_on() {
            self.set_counts(counts);
            outputs.set_metrics();
            run.metrics.set_consumer_lag(feeds.lag().iter().map(Into::into));
        }
    }

    /// Sets the metric of records by outcome.
    pub fn set_counts(&self, counts: &Counts) {
        let metrics = &self.run.metrics;
        for (outcome, records) in counts.outcomes() {
            metrics.set(&metrics::EVENTS, &[self.run.console.tool(), outcome], records as f64);
        }
    }

    /// Sets the metric of stream time from a batch's last row, which has the largest stream time of its partition so
    /// far.
    pub fn see_time(&mut self, batch: &RecordBatch) {
        let Some(times) = batch.column_by_name("stream_time").filter(|_| self.run.metrics.is_on()) else { return };
        let times = times.as_primitive_opt::<TimestampMicrosecondType>();
        let last = times.and_then(|times| Some(times.value(times.len().checked_sub(1)?)));
        self.stream_time = self.stream_time.max(last);
        if let Some(stream_time) = self.stream_time {
            self.run.metrics.set(&metrics::STREAM_TIME, &[], stream_time as f64 / SECOND as f64);
        }
    }
}
