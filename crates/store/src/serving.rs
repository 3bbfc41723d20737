//! The contract of stores whose metrics evt-serve answers with: the metrics that there are, their windows, and how far
//! they are.

use crate::progress::KeptProgress;
use evt_core::error::Result;
use evt_core::kind::span::Span;
use evt_core::serve::answer::ServedWindow;
use evt_core::serve::request::{WantedValue, dimensions_of};
use evt_run::client::Location;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

/// Opens the metrics of a store to answer with. Errors: exit status 2, 69, 74 or 78 as when it is read.
pub type OpenServing = fn(&Location) -> Result<Box<dyn ServedMetrics>>;

/// The metrics of a store, on a connection of their own. After an error it is opened again.
pub trait ServedMetrics: Send {
    /// Returns the metrics that it has rows of, in the order of their names.
    fn metrics(&mut self) -> Result<Vec<StoredMetric>>;

    /// Returns the windows of a request, in any order, with the standing of their metric; both are of one state of the
    /// store, or the standing is of an earlier one. A row that was retracted is none.
    fn windows(&mut self, request: &WindowsRequest<'_>) -> Result<FoundWindows>;

    /// Returns the last corrections of its metrics, finished ones and those in flight.
    fn corrections(&mut self) -> Result<Vec<StoredCorrection>> {
        Ok(vec![])
    }

    /// Returns how long after their end it keeps windows (µs); `None`: for ever.
    fn keeps(&self) -> Option<i64> {
        None
    }
}

/// A request for windows.
#[derive(Clone, Copy, Debug)]
pub struct WindowsRequest<'a> {
    /// The name of the metric.
    pub metric: &'a str,
    /// Their starts.
    pub starts: Span,
    /// The last instant at which they end (µs).
    pub last_end: i64,
    /// What their dimensions must have.
    pub dimensions: &'a BTreeMap<String, WantedValue>,
    /// The maximum number of windows.
    pub limit: usize,
}

/// The windows that a store has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundWindows {
    /// The windows.
    pub windows: Vec<ServedWindow>,
    /// Whether there may be more than were asked for.
    pub is_more: bool,
    /// How far the metric is.
    pub standing: MetricStanding,
}

/// A metric that a store has rows of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredMetric {
    /// Its name.
    pub name: String,
    /// The start of its first window (µs).
    pub first_start: i64,
    /// The end of its last one (µs).
    pub last_end: i64,
    /// The lengths of its last windows (µs).
    pub sizes: BTreeSet<i64>,
    /// The names of the dimensions of its last windows, with their most frequent values there.
    pub dimensions: BTreeMap<String, Vec<String>>,
}

/// A correction of metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCorrection {
    /// The metric.
    pub metric: String,
    /// The range of its windows.
    pub range: Span,
    /// When it last changed one (µs), or the watermark of the metric if that is earlier: it has changed no window that
    /// ended later.
    pub last_end: i64,
}

impl StoredCorrection {
    /// Takes the watermark of the metric into account: windows that end after it are still to be written by a run, and
    /// an earlier store may have them before.
    pub fn until_watermark(mut self, progress: &[KeptProgress]) -> Self {
        let of_metric = progress.iter().filter(|kept| kept.metric.metric == self.metric);
        let watermark = of_metric.filter_map(|kept| kept.metric.watermark).min();
        self.last_end = watermark.map_or(self.last_end, |watermark| watermark.min(self.last_end));
        self
    }
}

/// How far a metric is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricStanding {
    /// What the store keeps of it, by pipeline; none, or one of no pipeline, if it keeps nothing.
    pub progress: Vec<KeptProgress>,
    /// The ranges of its corrections in flight.
    pub corrections: Vec<Span>,
    /// The instant since which the store keeps its rows (µs), if earlier ones were removed.
    pub kept_since: Option<i64>,
}

/// The last windows of a metric whose dimensions are counted.
pub const SAMPLE_ROWS: usize = 10_000;
/// The most frequent values of a dimension that are named.
const VALUES_MAX: usize = 20;

/// What the last windows of a metric have: their lengths, and the values of their dimensions.
#[derive(Default)]
pub struct MetricSample {
    sizes: BTreeSet<i64>,
    values: BTreeMap<String, HashMap<String, u64>>,
}

impl MetricSample {
    /// Adds a window.
    pub fn add(&mut self, start: i64, end: i64, dimensions: &str) {
        self.sizes.insert(end.saturating_sub(start));
        for (name, value) in dimensions_of(dimensions) {
            let values = self.values.entry(name).or_default();
            if let Some(value) = value {
                *values.entry(value).or_default() += 1;
            }
        }
    }

    /// Returns the metric, whose windows lie from `first_start` to `last_end` (µs).
    pub fn finish(self, name: &str, first_start: i64, last_end: i64) -> StoredMetric {
        let frequent = |values: HashMap<String, u64>| {
            let mut values: Vec<(String, u64)> = values.into_iter().collect();
            values.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
            values.into_iter().take(VALUES_MAX).map(|(value, _)| value).collect()
        };
        let dimensions = self.values.into_iter().map(|(name, values)| (name, frequent(values))).collect();
        StoredMetric { name: name.to_owned(), first_start, last_end, sizes: self.sizes, dimensions }
    }
}

/// The last windows of a metric, at most [`SAMPLE_ROWS`], and the extent of all, in a store that yields them in any
/// order.
#[derive(Default)]
pub struct LastWindows {
    /// The start, end and dimensions of each; that with the earliest start is replaced first.
    windows: BinaryHeap<Reverse<(i64, i64, Arc<str>)>>,
    extent: Option<[i64; 2]>,
}

impl LastWindows {
    /// Adds a window; its dimensions are made only if it is one of the last.
    pub fn add(&mut self, start: i64, end: i64, dimensions: impl FnOnce() -> Arc<str>) {
        let [first_start, last_end] = self.extent.unwrap_or([start, end]);
        self.extent = Some([first_start.min(start), last_end.max(end)]);
        if self.windows.len() >= SAMPLE_ROWS {
            if self.windows.peek().is_some_and(|Reverse(first)| start <= first.0) {
                return;
            }
            self.windows.pop();
        }
        self.windows.push(Reverse((start, end, dimensions())));
    }

    /// Returns the metric; `None` if it has no windows.
    pub fn finish(self, name: &str) -> Option<StoredMetric> {
        let [first_start, last_end] = self.extent?;
        let mut sample = MetricSample::default();
        for Reverse((start, end, dimensions)) in self.windows {
            sample.add(start, end, &dimensions);
        }
        Some(sample.finish(name, first_start, last_end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_windows_are_those_that_start_last_whatever_their_order() {
        let count = SAMPLE_ROWS as i64 * 2;
        let dimensions = |start: i64| Arc::from(format!(r#"{{"half":"{}"}}"#, start * 2 / count));
        for starts in [(0..count).collect::<Vec<i64>>(), (0..count).rev().collect()] {
            let mut last = LastWindows::default();
            for start in starts {
                last.add(start, start + 1 + i64::from(start == 0) * count * 2, || dimensions(start));
            }
            let found = last.finish("m").unwrap();
            assert_eq!((found.first_start, found.last_end), (0, count * 2 + 1));
            assert_eq!((found.sizes, &*found.dimensions["half"]), ([1].into(), &["1".to_owned()][..]));
        }
        assert_eq!(LastWindows::default().finish("m"), None);
    }
}
