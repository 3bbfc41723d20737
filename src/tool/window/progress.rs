//! How far the metrics are: stated in the stream after the rows of each firing, so that a store keeps it beside them.

use crate::stage::operator::Collector;
use arrow::array::RecordBatch;
use evt_core::error::Result;
use evt_core::frame::{Control, MetricProgress};
use evt_core::kind::event::{column, instants};
use evt_core::op::window::metric::{Metric, Shape};
use evt_core::op::window::watermark;
use evt_core::time::{CalendarUnit, EARLIEST, LATEST, format_duration};

/// What a run states of its metrics.
pub(super) struct StatedProgress {
    metrics: Vec<MetricProgress>,
    /// The out-of-orderness (µs), if the run may have begun within its inputs: then windows that had begun before its
    /// first rows lack events.
    begins_within: Option<i64>,
}

impl StatedProgress {
    /// Makes the statements about metrics; `is_whole` tells that the inputs are read from their beginning.
    pub fn new(metrics: &[Metric], options: watermark::Options, is_whole: bool) -> Self {
        let bound = options.out_of_orderness;
        let text = bound.map_or_else(|| "all".to_owned(), format_duration);
        let stated = |metric: &Metric| {
            let (size, slide, gap) = match metric.shape {
                shape if shape == Shape::ALL => (Some("all".to_owned()), None, None),
                Shape::Sliding { size, slide, .. } => {
                    (Some(format_duration(size)), (slide != size).then(|| format_duration(slide)), None)
                }
                Shape::Calendar(calendar) => (Some(unit_text(calendar.unit).to_owned()), None, None),
                Shape::Session { gap } => (None, None, Some(format_duration(gap))),
            };
            MetricProgress {
                metric: metric.name.clone(),
                size,
                slide,
                gap,
                lateness: format_duration(metric.lateness),
                out_of_orderness: (!options.explicit).then(|| text.clone()),
                watermark: None,
                complete_since: None,
            }
        };
        let begins_within = if is_whole { None } else { Some(bound.unwrap_or(0)) };
        Self { metrics: metrics.iter().map(stated).collect(), begins_within }
    }

    /// Notes that the run continues another one.
    pub fn continues(&mut self) {
        self.begins_within = None;
    }

    /// Takes the first rows.
    pub fn begin(&mut self, batch: &RecordBatch) {
        let Some(bound) = self.begins_within.filter(|_| batch.num_rows() > 0) else { return };
        let last = instants(batch, column::STREAM_TIME).iter().max();
        let since = last.map(|last| last.saturating_add(bound));
        self.metrics.iter_mut().for_each(|metric| metric.complete_since = since);
        self.begins_within = None;
    }

    /// States how far the metrics are, after the rows that fired at this watermark (µs).
    pub fn state(&mut self, watermark: Option<i64>, out: &mut dyn Collector) -> Result<()> {
        let watermark = watermark.map(|watermark| watermark.clamp(EARLIEST, LATEST));
        self.metrics.iter_mut().for_each(|metric| metric.watermark = watermark);
        Control::of_metrics(&self.metrics).try_for_each(|message| out.control(&message))
    }
}

/// Returns a calendar unit as the size of windows.
fn unit_text(unit: CalendarUnit) -> &'static str {
    match unit {
        CalendarUnit::Day => "1d",
        CalendarUnit::Week => "1w",
        CalendarUnit::Month => "1mo",
        CalendarUnit::Quarter => "1q",
        CalendarUnit::Year => "1y",
    }
}
