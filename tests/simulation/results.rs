//! The results of a pipe in its files.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The number of stages of the longest pipe.
const STAGES_MAX: usize = 4;

/// The results of a run, without what may differ between two right runs (panes, times of processing).
#[derive(Debug, Default)]
pub struct Results {
    /// The last row of each natural key of a metric, and all its values so far.
    metrics: BTreeMap<String, Metric>,
    /// Events by their position, for pipes without windows.
    events: BTreeSet<String>,
    /// Dead letters by their fault and position, with what the first stage refused.
    dead: BTreeMap<String, String>,
    late: BTreeSet<String>,
    /// The counts of each stage that has ended, by its number and tool.
    counts: BTreeMap<String, StageCounts>,
}

/// What `--stats` reports of the records of a stage.
#[derive(Debug, PartialEq)]
struct StageCounts {
    /// By outcome.
    rows: Value,
    /// Dead letters by type.
    dead: Value,
}

#[derive(Debug, PartialEq)]
struct Metric {
    value: String,
    rows: u64,
    end: i64,
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{}: a torn line: {text:?}", path.display());
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", path.display()));
    text.lines().map(parse).collect()
}

fn position(row: &Value) -> String {
    format!("{}/{}@{}", row["origin"], row["partition"], row["offset"])
}

/// Returns the summary of a stage, if it has written one.
fn stats(dir: &Path, stage: usize) -> Option<Value> {
    let text = std::fs::read_to_string(dir.join(format!("stats{stage}.json"))).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("the summary of stage {stage}: {e}: {text}")))
}

impl Results {
    /// Reads the files of a run in `dir`.
    pub fn read(dir: &Path) -> Self {
        let mut results = Self::default();
        for row in lines(&dir.join("out.jsonl")) {
            if row["metric_name"].is_null() {
                let is_new = results.events.insert(position(&row) + &row["event_id"].to_string());
                assert!(is_new, "an event is written twice: {row}");
                continue;
            }
            let key = format!("{} {} {}", row["metric_name"], row["window_start"], row["dimensions"]);
            let instant = row["window_end"].as_str().and_then(evt_core::time::parse_instant).expect("an instant");
            let (value, rows) = (row["value"].to_string(), row["rows"].as_u64().expect("a count"));
            let before = results.metrics.insert(key, Metric { value, rows, end: instant });
            assert!(before.is_none_or(|before| before.rows <= rows), "a later row counts fewer events: {row}");
        }
        let mut has_windows = false;
        for stage in 0..STAGES_MAX {
            // The number of panes depends on when windows fire, so the stage behind windows counts other rows.
            if let Some(stats) = stats(dir, stage).filter(|_| !has_windows) {
                let tool = stats["tool"].as_str().expect("a tool");
                has_windows = tool == "evt-window";
                let counts = StageCounts { rows: stats["counts"].clone(), dead: stats["dead_by_type"].clone() };
                results.counts.insert(format!("{stage} {tool}"), counts);
            }
            for row in lines(&dir.join(format!("dead{stage}.jsonl"))) {
                let key =
                    format!("{} {}/{}@{}", row["error_type"], row["source_topic"], row["partition"], row["offset"]);
                let payload = row["original_payload"].as_str().expect("a letter has what was refused");
                // What later stages refuse contains the time at which it was ingested.
                let payload = if stage == 0 { payload } else { "" };
                let before = results.dead.insert(key, payload.to_owned());
                assert!(before.is_none(), "a dead letter is written twice: {row}");
            }
        }
        for row in lines(&dir.join("late.jsonl")) {
            assert!(
                results.late.insert(position(&row) + &row["event_id"].to_string()),
                "a late event is written twice: {row}"
            );
        }
        results
    }

    pub fn is_empty(&self) -> bool {
        self.metrics.is_empty() && self.events.is_empty()
    }

    /// Asserts that the results are those of `expected`.
    pub fn assert_same(&self, expected: &Self, context: &str) {
        assert_eq!(self.metrics, expected.metrics, "{context}: metrics");
        assert_eq!(self.events, expected.events, "{context}: events");
        assert_eq!(self.dead, expected.dead, "{context}: dead letters");
        assert_eq!(self.late, expected.late, "{context}: late events");
        assert_eq!(self.counts, expected.counts, "{context}: counts");
    }

    /// Asserts that each of `stages` stages has counts that can be compared, except one behind windows.
    pub fn assert_counts_of(&self, stages: usize, context: &str) {
        let has_windows = self.counts.keys().any(|stage| stage.ends_with("evt-window"));
        let is_complete = self.counts.len() == stages || has_windows && self.counts.len() + 1 == stages;
        assert!(is_complete, "{context}: counts of {:?}", self.counts.keys());
    }

    /// Asserts that every result is among the results of the whole input.
    pub fn assert_part_of(&self, expected: &Self, context: &str) {
        for (key, metric) in &self.metrics {
            let whole = expected.metrics.get(key);
            assert!(whole.is_some_and(|whole| metric.rows <= whole.rows), "{context}: {key}: {metric:?} of {whole:?}");
        }
        assert!(self.events.is_subset(&expected.events), "{context}: events");
        assert!(self.late.is_subset(&expected.late), "{context}: late events");
        // The last line of a torn input may be truncated: it is then a dead letter that the whole input does not have.
        let is_own = |(key, payload): &(&String, &String)| expected.dead.get(*key) != Some(*payload);
        let own: Vec<_> = self.dead.iter().filter(is_own).collect();
        assert!(own.len() <= 1, "{context}: dead letters {own:?}");
    }

    /// Asserts that no window has fired that ends after `horizon`.
    pub fn assert_not_early(&self, horizon: i64, context: &str) {
        let early = self.metrics.iter().find(|(_, metric)| metric.end > horizon);
        assert!(early.is_none(), "{context}: fired before {horizon}: {early:?}");
    }
}
