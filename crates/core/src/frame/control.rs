//! Control messages: information beside a stream's rows, as JSON under one metadata key each.

use crate::error::{Error, Result};
use crate::kind::PartitionName;
use crate::kind::event::{column, instants};
use arrow::array::{AnyDictionaryArray, AsArray, RecordBatch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The state of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// More rows may come.
    Live,
    /// No row for a while: excluded from the minimum that makes the watermark, until the next row.
    Idle,
    /// No more rows will come.
    Ended,
}

/// One partition, (origin, partition), as a progress frame reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The input argument of this run that reported the partition; a number of the run, never written.
    #[serde(skip)]
    pub input: u32,
    /// The file or topic.
    pub origin: String,
    /// The partition there.
    pub partition: String,
    /// Its stream time (µs); `None` before its first row.
    pub stream_time: Option<i64>,
    /// Its state.
    pub state: State,
}

impl PartitionState {
    /// Returns the partitions of stamped rows of input number `input`, live, each with the greatest stream time.
    pub fn of_rows(batch: &RecordBatch, input: u32) -> Vec<Self> {
        let [origins, names] =
            [column::ORIGIN, column::PARTITION].map(|column| batch.column(column).as_any_dictionary());
        let text =
            |names: &dyn AnyDictionaryArray, code: usize| names.values().as_string::<i32>().value(code).to_owned();
        let codes = origins.normalized_keys().into_iter().zip(names.normalized_keys());
        let mut greatest: BTreeMap<(usize, usize), i64> = BTreeMap::new();
        for (code, stream_time) in codes.zip(instants(batch, column::STREAM_TIME)) {
            let known = greatest.entry(code).or_insert(*stream_time);
            *known = (*known).max(*stream_time);
        }
        let state = |((origin, name), stream_time)| Self {
            input,
            origin: text(origins, origin),
            partition: text(names, name),
            stream_time: Some(stream_time),
            state: State::Live,
        };
        greatest.into_iter().map(state).collect()
    }

    /// Returns its name.
    pub fn name(&self) -> PartitionName {
        PartitionName::new(&self.origin, &self.partition)
    }
}

/// The progress of a source: partitions that changed since the last such frame, and the bytes read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Partitions that are new or have changed.
    pub partitions: Vec<PartitionState>,
    /// Whether every partition that will appear is known.
    pub complete: bool,
    /// Bytes of the input read so far.
    pub bytes_done: u64,
    /// Total bytes of the input, if known.
    pub bytes_total: Option<u64>,
}

/// Approximate maximum bytes of partition names in one message: a header has a bound (`HEADER_MAX` in `message.rs`),
/// and so has a record of a topic. JSON escapes a byte by up to six.
const PART_BYTES: usize = 128 << 10;
/// Approximate bytes of a partition beside its names.
const STATE_BYTES: usize = 100;

impl Progress {
    /// Splits it into messages of bounded size; only the last one may say that all partitions are known.
    pub fn parts(&self) -> Vec<Progress> {
        let (mut parts, mut left) = (vec![], PART_BYTES);
        let mut part = self.without_partitions();
        for partition in &self.partitions {
            let bytes = partition.origin.len() + partition.partition.len() + STATE_BYTES;
            if bytes > left && !part.partitions.is_empty() {
                parts.push(std::mem::replace(&mut part, self.without_partitions()));
                left = PART_BYTES;
            }
            left = left.saturating_sub(bytes);
            part.partitions.push(partition.clone());
        }
        parts.push(Progress { complete: self.complete, ..part });
        parts
    }

    fn without_partitions(&self) -> Progress {
        Progress { bytes_done: self.bytes_done, bytes_total: self.bytes_total, ..Progress::default() }
    }
}

/// A checkpoint barrier: all rows before it belong to this epoch or an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// The run that made it.
    pub run: u64,
    /// The epoch's number in that run, from 1.
    pub number: u64,
}

/// The reason for the end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndReason {
    /// The input was read to its end: every window may fire.
    Exhausted,
    /// A signal stopped the reading: open windows stay open.
    Stopped,
}

/// The proof that the stream is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Whether it was read to the end, or stopped before.
    pub how: EndReason,
    /// Rows in the stream.
    pub rows: u64,
    /// The worst exit status of the stages so far.
    pub verdict: u8,
}

/// How a metric of a run is computed, and how far it is: what a store keeps beside its rows, in `metric_progress`.
/// Durations are texts as in a metrics file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricProgress {
    /// Its name.
    pub metric: String,
    /// The size of its windows; `None` for sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// The slide of its windows, if they overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slide: Option<String>,
    /// The gap of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// How long its windows stay open after their end.
    pub lateness: String,
    /// The out-of-orderness of the run, or `all`; `None` if explicit watermarks decided which rows were late, and in a
    /// store if runs with different ones wrote the rows.
    pub out_of_orderness: Option<String>,
    /// Every window that ends at or before this instant (µs) has fired; [`LATEST`](crate::time::LATEST) after a proven
    /// end that has fired all, `None` before the first watermark, and if the run leaves out events or rows.
    pub watermark: Option<i64>,
    /// The windows that begin at or after this instant (µs) have all their events; `None` if the run read its inputs
    /// from their beginning, or continues another one.
    pub complete_since: Option<i64>,
}

impl MetricProgress {
    /// Whether two runs compute the metric alike: the same windows and lateness.
    pub fn has_windows_of(&self, other: &Self) -> bool {
        let windows = |one: &Self| [one.size.clone(), one.slide.clone(), one.gap.clone(), Some(one.lateness.clone())];
        windows(self) == windows(other)
    }
}

/// One control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The progress of the source.
    Progress(Progress),
    /// An explicit watermark: no event with an event time (µs) below this follows.
    Watermark(i64),
    /// A cut through the stream.
    Barrier(Barrier),
    /// How far the metrics of the rows are, after the rows that have fired.
    Metrics(Vec<MetricProgress>),
    /// The proven end.
    End(End),
}

/// Maximum metrics in one message: their names have at most some hundred bytes.
const METRICS_MAX: usize = 64;

impl Control {
    /// Makes the messages about how far metrics are, each of bounded size.
    pub fn of_metrics(metrics: &[MetricProgress]) -> impl Iterator<Item = Control> {
        metrics.chunks(METRICS_MAX).map(|part| Control::Metrics(part.to_vec()))
    }

    /// Returns the metadata key and value of this message.
    pub(super) fn to_metadata(&self) -> Result<(&'static str, String)> {
        let pair = match self {
            Control::Progress(progress) => ("evt.progress", serde_json::to_string(progress)),
            Control::Watermark(instant) => ("evt.watermark", serde_json::to_string(instant)),
            Control::Barrier(barrier) => ("evt.barrier", serde_json::to_string(barrier)),
            Control::Metrics(metrics) => ("evt.metrics", serde_json::to_string(metrics)),
            Control::End(end) => ("evt.end", serde_json::to_string(end)),
        };
        Ok((pair.0, pair.1.map_err(|error| Error::broken("control frame").because(error))?))
    }

    /// Parses the message in a metadata pair; `None` for an unknown key, so that newer writers can add some.
    pub(super) fn from_metadata(key: &str, value: &str) -> Result<Option<Control>> {
        let control = match key {
            "evt.progress" => serde_json::from_str(value).map(Control::Progress),
            "evt.watermark" => serde_json::from_str(value).map(Control::Watermark),
            "evt.barrier" => serde_json::from_str(value).map(Control::Barrier),
            "evt.metrics" => serde_json::from_str(value).map(Control::Metrics),
            "evt.end" => serde_json::from_str(value).map(Control::End),
            _ => return Ok(None),
        };
        control.map(Some).map_err(|error| Error::corrupt(format!("control frame {key} cannot be read")).because(error))
    }
}
