//! How far metrics are, as stores keep it beside their rows in `metric_progress`: evt-window states it in the stream,
//! and evt-backfill takes the out-of-orderness of the run that wrote the rows from it.

use arrow::array::RecordBatch;
use evt_core::error::Result;
use evt_core::frame::MetricProgress;
use evt_core::kind::metric::MetricColumns;
use evt_core::time::{format_instant, parse_instant};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What a sink has still to keep, by metric; only the last of each counts.
#[derive(Default)]
pub struct NotedMetrics {
    by_name: BTreeMap<String, MetricProgress>,
    /// Whether the store had rows of metrics before this run.
    pub had_rows: bool,
    /// The metrics of the rows that are written.
    pub written: BTreeSet<String>,
}

impl NotedMetrics {
    /// Begins in a store that `had_rows` of metrics before this run.
    pub fn after(had_rows: bool) -> Self {
        Self { had_rows, ..Self::default() }
    }

    /// Adds messages of a stream.
    pub fn add(&mut self, metrics: &[MetricProgress]) {
        self.by_name.extend(metrics.iter().map(|metric| (metric.metric.clone(), metric.clone())));
    }

    /// Returns what is to be kept.
    pub fn all(&self) -> Vec<MetricProgress> {
        self.by_name.values().cloned().collect()
    }

    /// Whether something is to be kept of a metric.
    pub fn has(&self, metric: &str) -> bool {
        self.by_name.contains_key(metric)
    }

    /// Whether nothing is to be kept.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Notes the metrics of rows that are written. Errors: exit status 70 if they are not rows of metrics.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for name in MetricColumns::try_new(batch)?.names.iter().flatten() {
            if !self.written.contains(name) {
                self.written.insert(name.to_owned());
            }
        }
        Ok(())
    }

    /// Forgets what was kept.
    pub fn clear(&mut self) {
        self.by_name.clear();
        self.written.clear();
    }
}

/// How far the metrics of a pipeline are, as a store without `metric_progress` keeps it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PipelineMetrics {
    /// The pipeline.
    pub pipeline: String,
    /// Its metrics, as [`to_json`] has them.
    pub metrics: BTreeMap<String, Value>,
    /// Whether the store has had such records since before its first row, so that rows of metrics without a record are
    /// none.
    #[serde(default)]
    pub since_first_row: bool,
}

impl PipelineMetrics {
    /// Returns the records that change when what was noted for a pipeline is kept beside `all`. Before the rows are
    /// visible the watermarks stay: a killed run leaves no row without the bound that it was written with, and no
    /// watermark ahead of its rows.
    pub fn changed(all: &[Self], pipeline: &str, noted: &NotedMetrics, are_visible: bool) -> Vec<Self> {
        let (mut all, mut changed) = (all.to_vec(), vec![]);
        let is_recorded = |name: &str| all.iter().any(|other| other.metrics.contains_key(name));
        if !noted.written.iter().all(|name| noted.has(name) || is_recorded(name)) {
            // Metrics without a record have rows, of which the stream has stated nothing.
            for file in all.iter_mut().filter(|file| file.since_first_row) {
                file.since_first_row = false;
                changed.push(file.clone());
            }
        }
        if noted.is_empty() {
            return changed;
        }
        let mut own = all.iter().find(|file| file.pipeline == pipeline).cloned().unwrap_or_default();
        pipeline.clone_into(&mut own.pipeline);
        own.since_first_row |= !noted.had_rows || all.iter().any(|other| other.since_first_row);
        for metric in noted.all() {
            let before = own.metrics.get(&metric.metric).and_then(from_json);
            let is_recorded = all.iter().any(|other| other.metrics.contains_key(&metric.metric));
            let watermark =
                if are_visible { metric.watermark } else { before.as_ref().and_then(|kept| kept.watermark) };
            let metric = after(metric, before, is_recorded || own.since_first_row);
            let metric = MetricProgress { watermark, ..metric };
            own.metrics.insert(metric.metric.clone(), to_json(&metric));
        }
        changed.retain(|file| file.pipeline != pipeline);
        changed.push(own);
        changed
    }
}

/// What a store has kept of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptProgress {
    /// The pipeline that wrote the rows, or its checkpoint and output; empty if nothing is kept about the rows.
    pub pipeline: String,
    /// How far the metric is.
    pub metric: MetricProgress,
}

impl KeptProgress {
    /// Makes what is known of a metric that has rows and no record.
    pub fn of_rows(metric: &str) -> Self {
        let metric = MetricProgress {
            metric: metric.to_owned(),
            size: None,
            slide: None,
            gap: None,
            lateness: String::new(),
            out_of_orderness: None,
            watermark: None,
            complete_since: None,
        };
        Self { pipeline: String::new(), metric }
    }
}

/// Returns a record after another one of the same metric and pipeline, in a store that cannot compute it itself. The
/// out-of-orderness is none once the rows are of several.
pub fn after(mut metric: MetricProgress, before: Option<MetricProgress>, is_new: bool) -> MetricProgress {
    match before {
        Some(before) => {
            metric.complete_since = metric.complete_since.or(before.complete_since);
            if !metric.has_windows_of(&before) || metric.out_of_orderness != before.out_of_orderness {
                metric.out_of_orderness = None;
            }
        }
        None if is_new => {}
        None => metric.out_of_orderness = None,
    }
    metric
}

/// Returns the JSON of a metric; its instants are texts.
pub fn to_json(metric: &MetricProgress) -> Value {
    let mut json = json!(metric);
    json["watermark"] = json!(metric.watermark.map(format_instant));
    json["complete_since"] = json!(metric.complete_since.map(format_instant));
    json
}

/// Returns a metric from its JSON; `None` for other JSON.
pub fn from_json(json: &Value) -> Option<MetricProgress> {
    let mut numbers = json.clone();
    for name in ["watermark", "complete_since"] {
        numbers[name] = json!(json[name].as_str().map(parse_instant));
    }
    serde_json::from_value(numbers).ok()
}
