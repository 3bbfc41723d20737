//! The windows of an answer.

use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// A window of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ServedWindow {
    /// Its start (µs).
    pub start: i64,
    /// Its end (µs).
    pub end: i64,
    /// Its dimensions, the JSON of their names and values in the order of the names.
    pub dimensions: Arc<str>,
    /// Its value; `None`: NULL.
    pub value: Option<f64>,
    /// The number of events that it counts.
    pub rows: i64,
    /// How often it was corrected.
    pub revision: i32,
    /// How often its result was emitted before.
    pub pane: i32,
    /// Whether it is final; `None` if nobody knows.
    pub is_final: Option<bool>,
}

/// The windows that came from one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePart {
    /// The store.
    pub store: String,
    /// The start of the first window that it was asked for (µs).
    pub since: i64,
    /// The end of the last one (µs).
    pub until: i64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricAnswer {
    /// The name of the metric, as it was asked for.
    pub metric: String,
    /// The windows, by start, end and dimensions.
    pub windows: Vec<ServedWindow>,
    /// Every window that ends at or before this instant (µs) has fired; `None` if it is not known.
    pub watermark: Option<i64>,
    /// Which store answered for which time.
    pub stores: Vec<StorePart>,
    /// The number of corrections in flight.
    pub corrections: usize,
    /// The stores that were asked and did not answer; windows may be missing.
    pub missing: Vec<String>,
}

impl MetricAnswer {
    /// Orders the windows by start, end and dimensions.
    pub fn sort(&mut self) {
        self.windows.sort_by(|one, other| {
            let key = |window: &ServedWindow| (window.start, window.end);
            key(one).cmp(&key(other)).then_with(|| one.dimensions.cmp(&other.dimensions))
        });
    }

    /// Returns a digest of the windows and of what was asked: two answers with one digest have the same bytes, but for
    /// the watermark.
    pub fn digest(&self, asked: &str) -> u128 {
        let mut digest = Xxh3::new();
        let mut text = |text: &str| {
            digest.update(&(text.len() as u64).to_le_bytes());
            digest.update(text.as_bytes());
        };
        text(&self.metric);
        text(asked);
        for window in &self.windows {
            text(&window.dimensions);
            let ServedWindow { start, end, rows, revision, pane, is_final, value, .. } = window;
            text(&format!("{start} {end} {rows} {revision} {pane} {is_final:?} {:?}", value.map(f64::to_bits)));
        }
        digest.digest128()
    }
}
