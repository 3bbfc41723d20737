//! `evt-alert test`: unit tests of rules. A test has series of rows in event time, and the alerts that fire at
//! instants.

use super::load::RuleLoader;
use evt_core::alert::engine::{AlertEngine, EngineOptions, FiringAlert, TimedRows};
use evt_core::alert::rule::RuleDefinition;
use evt_core::error::{Error, Result};
use evt_core::format::row;
use evt_core::kind::Kind;
use evt_core::kind::dead::ErrorType;
use evt_core::parse::nearest;
use evt_core::time::{DAY, SECOND, format_instant, parse_duration};
use evt_run::run::Run;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The instant at which a test begins (µs): 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600 * SECOND;
/// The most rows of a test.
const ROWS_MAX: usize = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFile {
    #[serde(default, rename = "test")]
    tests: Vec<RuleTest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTest {
    name: String,
    #[serde(default)]
    series: Vec<RowSeries>,
    #[serde(default, rename = "expect")]
    expected: Vec<Expected>,
}

/// Rows at equal distances.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowSeries {
    #[serde(default = "zero")]
    from: String,
    #[serde(default = "second")]
    every: String,
    count: usize,
    #[serde(default = "event")]
    input: String,
    #[serde(default)]
    set: Map<String, Value>,
}

/// The alerts that fire at an instant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    at: String,
    #[serde(default)]
    firing: Vec<ExpectedAlert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedAlert {
    rule: String,
    #[serde(default)]
    dimensions: Map<String, Value>,
    /// Since when its condition has held.
    since: Option<String>,
}

fn zero() -> String {
    "0s".to_owned()
}

fn second() -> String {
    "1s".to_owned()
}

fn event() -> String {
    Kind::Event.name().to_owned()
}

/// One row and its time (µs).
struct TestRow {
    time: i64,
    kind: Kind,
    json: String,
}

/// Runs the tests of files; prints the differences. Returns whether all passed.
///
/// Errors: exit status 78 if a file is wrong, 74 if it cannot be read.
pub fn run(loader: &RuleLoader, tests: &[impl AsRef<Path>], is_quiet: bool, context: &Run) -> Result<bool> {
    let set = loader.load_at_start()?;
    if let Some(bad) = set.bad.into_iter().next() {
        return Err(Error::new(bad.error.kind(), bad.message()));
    }
    let (mut failed, mut passed, mut report) = (0, 0, String::new());
    for path in tests {
        let name = path.as_ref().display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(&name, &error))?;
        let file: TestFile = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            Error::config(format!("{name}:{line}: {}", error.message()))
        })?;
        if file.tests.is_empty() {
            return Err(Error::config(format!("{name}: expected at least one [[test]], found none")));
        }
        for test in file.tests {
            test.check(&set.rules).map_err(|error| error.at(format!("{name}: test '{}'", test.name)))?;
            let differences =
                test.run(&set.rules).map_err(|error| error.at(format!("{name}: test '{}'", test.name)))?;
            match differences.is_empty() {
                true => passed += 1,
                false => {
                    failed += 1;
                    report.push_str(&format!("{name}: {}: failed\n{differences}", test.name));
                }
            }
        }
    }
    if !is_quiet || failed > 0 {
        report.push_str(&format!("{passed} passed, {failed} failed\n"));
    }
    context.io.print(&report)?;
    Ok(failed == 0)
}

impl RuleTest {
    /// Checks that the test expects something, and only alerts of rules that exist.
    fn check(&self, rules: &[RuleDefinition]) -> Result<()> {
        if self.expected.is_empty() {
            return Err(Error::config("expected at least one [[test.expect]], found none"));
        }
        for alert in self.expected.iter().flat_map(|expected| &expected.firing) {
            if !rules.iter().any(|rule| rule.rule.name == alert.rule) {
                let known: Vec<&str> = rules.iter().map(|rule| rule.rule.name.as_str()).collect();
                let hint = nearest::hint(&alert.rule, &known, ", ");
                return Err(Error::config(format!("expect: no rule has the name '{}'; {hint}", alert.rule)));
            }
        }
        Ok(())
    }

    /// Returns the differences, one line each; empty if there are none.
    fn run(&self, rules: &[RuleDefinition]) -> Result<String> {
        let mut rows = vec![];
        for series in &self.series {
            series.rows(&mut rows)?;
        }
        if rows.len() > ROWS_MAX {
            return Err(Error::config(format!("expected at most {ROWS_MAX} rows, found {}", rows.len())));
        }
        rows.sort_by_key(|row| row.time);
        let mut engine = AlertEngine::new(EngineOptions { max_groups: 10_000, since: None });
        engine.set_rules(rules.to_vec(), START)?;
        engine.begin(START);
        let mut instants: BTreeMap<i64, Vec<&ExpectedAlert>> = BTreeMap::new();
        for expected in &self.expected {
            let at = START + duration(&expected.at)?;
            instants.entry(at).or_default().extend(&expected.firing);
        }
        let (mut differences, mut rows) = (String::new(), rows.into_iter().peekable());
        for (at, expected) in instants {
            let due: Vec<TestRow> = std::iter::from_fn(|| rows.next_if(|row| row.time <= at)).collect();
            add(&mut engine, &due)?;
            engine.advance(at + 1, at);
            differences.push_str(&compare(at, &expected, &engine.firing_alerts())?);
        }
        Ok(differences)
    }
}

/// Returns the differences at an instant: `-` before an alert that is expected and does not fire, `+` before one that
/// fires and is not expected.
fn compare(at: i64, expected: &[&ExpectedAlert], found: &[FiringAlert]) -> Result<String> {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut differences = String::new();
    let when = format_instant(at);
    let line =
        |rule: &str, dimensions: &str, since: i64| format!("{rule} {dimensions} since {}s", (since - START) / SECOND);
    let mut left: Vec<&FiringAlert> = found.iter().collect();
    for alert in expected {
        let dimensions = canonical(&alert.dimensions)?;
        let since = alert.since.as_deref().map(duration).transpose()?.map(|since| START + since);
        let is_it = |found: &&FiringAlert| {
            found.rule == alert.rule && found.dimensions == dimensions && since.is_none_or(|since| found.since == since)
        };
        match left.iter().position(is_it) {
            Some(at) => _ = left.swap_remove(at),
            None => {
                let since = since.map_or(String::new(), |since| format!(" since {}s", (since - START) / SECOND));
                wanted.insert(format!("{} {dimensions}{since}", alert.rule));
            }
        }
    }
    let found: BTreeSet<String> = left.iter().map(|alert| line(&alert.rule, &alert.dimensions, alert.since)).collect();
    if !wanted.is_empty() || !found.is_empty() {
        let seconds = (at - START) / SECOND;
        differences.push_str(&format!("  at {seconds}s ({when})\n"));
        wanted.iter().for_each(|alert| differences.push_str(&format!("  - {alert}\n")));
        found.iter().for_each(|alert| differences.push_str(&format!("  + {alert}\n")));
    }
    Ok(differences)
}

/// Returns dimensions as an alert has them.
fn canonical(dimensions: &Map<String, Value>) -> Result<String> {
    let text = Value::Object(dimensions.clone()).to_string();
    evt_core::expr::canonical_dimensions(&text)
        .ok_or_else(|| Error::config(format!("dimensions: expected names with text, found {text}")))
}

fn duration(text: &str) -> Result<i64> {
    let micros = parse_duration(text).map_err(|error| Error::config(error.to_string()))?;
    match (0..=31 * DAY).contains(&micros) && micros % SECOND == 0 {
        true => Ok(micros),
        false => Err(Error::config(format!("expected whole seconds from 0s to 31d, found {text}"))),
    }
}

impl RowSeries {
    fn rows(&self, rows: &mut Vec<TestRow>) -> Result<()> {
        let known = |kind: &Kind| matches!(kind, Kind::Event | Kind::Dead | Kind::Metric);
        let kind = Kind::from_name(&self.input).filter(known);
        let kind = kind.ok_or_else(|| Error::config("input: expected event, dead or metric"))?;
        let (from, every) = (duration(&self.from)?, parse_duration(&self.every)?);
        if self.count > ROWS_MAX {
            return Err(Error::config(format!("count: expected at most {ROWS_MAX}, found {}", self.count)));
        }
        for number in 0..self.count {
            let time = START + from + i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(every);
            let offset = rows.len();
            let json = match kind {
                Kind::Event => self.event(time, offset),
                Kind::Dead => self.letter(time, offset),
                _ => self.metric(time),
            };
            rows.push(TestRow { time, kind, json: json.to_string() });
        }
        Ok(())
    }

    /// Returns the values of the columns in `names`, and the others.
    fn split(&self, names: &[&str]) -> [Map<String, Value>; 2] {
        let mut parts = [Map::new(), Map::new()];
        for (name, value) in &self.set {
            let part = usize::from(!names.contains(&name.as_str()));
            parts[part].insert(name.clone(), value.clone());
        }
        parts
    }

    fn event(&self, time: i64, offset: usize) -> Value {
        let [columns, properties] = self.split(&["source", "event_type", "user_id"]);
        let now = format_instant(time);
        let id = uuid::Uuid::from_u128(offset as u128).to_string();
        let mut row = json!({
            "event_id": id, "source": "test", "event_type": "test", "properties": properties, "ingested_at": now,
            "event_time": now, "origin": "test", "partition": "0", "offset": offset, "stream_time": now,
        });
        columns.into_iter().for_each(|(name, value)| row[name] = value);
        row
    }

    fn letter(&self, time: i64, offset: usize) -> Value {
        let mut row = json!({
            "original_payload": "{}", "error_type": ErrorType::ParseError.name(), "error_message": "test", "stage": "test",
            "source_topic": "test", "partition": "0", "offset": offset, "failed_at": format_instant(time),
            "producer_host": "test", "attempts": 1,
        });
        self.set.iter().for_each(|(name, value)| row[name] = value.clone());
        row
    }

    fn metric(&self, time: i64) -> Value {
        let [columns, dimensions] = self.split(&evt_core::kind::metric::COLUMNS);
        let (start, end) = (format_instant(time - evt_core::time::MINUTE), format_instant(time));
        let mut row = json!({
            "metric_name": "test", "window_start": start, "window_end": end, "dimensions": dimensions, "value": 0.0,
            "rows": 1, "revision": 0, "pane": 0, "retracted": false,
        });
        columns.into_iter().for_each(|(name, value)| row[name] = value);
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let micros = |name: &str| evt_core::time::parse_instant(&text(name)).unwrap_or_default();
        let dimensions = row["dimensions"].to_string();
        let dimensions = evt_core::expr::canonical_dimensions(&dimensions).unwrap_or(dimensions);
        let (start, end) = (micros("window_start"), micros("window_end"));
        let id = evt_core::kind::metric::metric_id(&text("metric_name"), start, end, &dimensions);
        row["metric_id"] = json!(uuid::Uuid::from_bytes(id).to_string());
        row
    }
}

/// Gives rows to the engine, in order of time.
fn add(engine: &mut AlertEngine, rows: &[TestRow]) -> Result<()> {
    for kind in [Kind::Event, Kind::Dead, Kind::Metric] {
        let mut builder = row::Builder::with_schema(kind.schema());
        let mut times = vec![];
        for row in rows.iter().filter(|row| row.kind == kind) {
            builder.push(&row.json).map_err(|fault| Error::config(fault.message))?;
            times.push(row.time);
        }
        if !times.is_empty() {
            let batch = builder.finish()?;
            let rows = TimedRows { kind, batch: &batch, event_times: &times, stream_times: &times, repeats: &[] };
            if let Some((_, message)) = engine.add(&rows)?.wrong.pop_first() {
                return Err(Error::config(message));
            }
        }
    }
    Ok(())
}
