//! How far metrics are, as stores keep it beside their rows in `metric_progress`: evt-window states it in the stream,
//! and evt-backfill takes the out-of-orderness of the run that wrote the rows from it.

use evt_core::frame::MetricProgress;
use evt_core::time::{format_instant, parse_instant};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a sink has still to keep, by metric; only the last of each counts.
#[derive(Default)]
pub struct NotedMetrics(BTreeMap<String, MetricProgress>);

impl NotedMetrics {
    /// Adds messages of a stream.
    pub fn add(&mut self, metrics: &[MetricProgress]) {
        self.0.extend(metrics.iter().map(|metric| (metric.metric.clone(), metric.clone())));
    }

    /// Returns what is to be kept.
    pub fn all(&self) -> Vec<MetricProgress> {
        self.0.values().cloned().collect()
    }

    /// Whether nothing is to be kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what was kept.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// What a store has kept of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptProgress {
    /// The pipeline that wrote the rows, or its checkpoint and output.
    pub pipeline: String,
    /// How far the metric is.
    pub metric: MetricProgress,
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
