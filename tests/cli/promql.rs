//! evt-serve answers queries as Prometheus answers them, whose samples are stamped one millisecond before the end of
//! their window: it takes ranges as closed on the left, so that with such stamps `[5m]` sees the windows that end in
//! (t − 5m, t].

use crate::harness::{Dir, eventually, promtool};
use crate::listener::Listener;
use evt_core::kind::metric::metric_id;
use evt_core::time::format_instant;
use evt_promql::evaluate::answer::{AnswerSeries, InstantValue};
use evt_promql::labels::LabelSet;
use evt_promql::series::{WindowSeries, WindowValue};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use uuid::Uuid;

/// The end of the first window (ms), a whole hour.
const START: i64 = 1_704_067_200_000;
const MINUTE: i64 = 60_000;
/// The number of windows of a series without gaps.
const WINDOWS: i64 = 130;

/// Series of two metrics with gaps, NaN, infinite and negative values. The seed is fixed.
fn series() -> Vec<WindowSeries> {
    let mut all = vec![];
    let mut state = 7u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for metric in ["requests", "errors"] {
        for country in ["DE", "US", "FR"] {
            for device in ["ios", "web", ""] {
                let labels = LabelSet::new([("__name__", metric), ("country", country), ("device", device)]);
                let mut windows = vec![];
                let hole = i64::try_from(random() % 90).unwrap_or(0);
                for number in 0..WINDOWS {
                    let (gap, kind, digits) = (random() % 10 == 0, random() % 40, random());
                    if gap || (hole..hole + 12).contains(&number) {
                        continue;
                    }
                    let value = match kind {
                        0 => f64::NAN,
                        // Of equal values it is open which one is among the greatest.
                        1 if metric == "errors" => f64::INFINITY,
                        2 if metric == "errors" => 0.0,
                        _ => (digits % 2_000_001) as f64 / 1_000.0 - 500.0,
                    };
                    windows.push(WindowValue { end: START + number * MINUTE, value });
                }
                // A metric without errors in a country has no series.
                if metric == "requests" || country != "FR" {
                    all.push(WindowSeries { labels, windows, lookback: MINUTE, not_additive: None });
                }
            }
        }
    }
    all
}

fn open_metrics(series: &[WindowSeries]) -> String {
    let mut text = String::new();
    for metric in ["errors", "requests"] {
        writeln!(text, "# TYPE {metric} gauge").expect("written");
        for one in series.iter().filter(|one| one.labels.value("__name__") == metric) {
            let labels = one.labels.iter().filter(|label| label.name != "__name__");
            let labels: Vec<String> = labels.map(|label| format!("{}=\"{}\"", label.name, label.value)).collect();
            for WindowValue { end, value } in &one.windows {
                let value = if value.is_infinite() { "+Inf".to_owned() } else { value.to_string() };
                let at = end - 1;
                writeln!(text, "{metric}{{{}}} {value} {}.{:03}", labels.join(","), at / 1_000, at % 1_000)
                    .expect("written");
            }
        }
    }
    text + "# EOF\n"
}

/// A running Prometheus, which ends with the test.
struct Prometheus {
    process: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    fn start(promtool: &Path, series: &[WindowSeries]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("series.om"), open_metrics(series)).expect("written");
        std::fs::write(path("prometheus.yml"), "global: {}\n").expect("written");
        let blocks = Command::new(promtool)
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([path("series.om"), path("data")])
            .output()
            .expect("promtool runs");
        assert!(blocks.status.success(), "{}", String::from_utf8_lossy(&blocks.stderr));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let process = Command::new(promtool.with_file_name("prometheus"))
            .arg(flag("config.file", &path("prometheus.yml").display().to_string()))
            .arg(flag("storage.tsdb.path", &path("data").display().to_string()))
            .arg(flag("web.listen-address", &address))
            .arg(flag("storage.tsdb.retention.time", "20y"))
            .arg(flag("query.lookback-delta", "1m"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path("log")).expect("a file"))
            .spawn()
            .expect("the server of Prometheus stands beside promtool");
        let server = Self { process, address, _dir: dir };
        eventually("Prometheus is ready", || server.get("/-/ready").is_some_and(|answer| answer.contains("200 OK")));
        server
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

/// Returns the answer to a query, or its error, from a server whose answers `get` reads.
fn ask(get: impl Fn(&str) -> String, query: &str, range: &str) -> Result<Value, String> {
    let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let body = get(&format!("/api/v1/{range}&query={query}"));
    let mut answer: Value = serde_json::from_str(&body).expect("it is JSON");
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["data"].take()),
    }
}

/// An answer as text: a line for each series. `is_ordered`: in their order.
fn shown(series: &[AnswerSeries], is_ordered: bool) -> Vec<String> {
    let number = |value: f64| format!("{value:.9e}");
    let values = |values: &[InstantValue]| -> Vec<String> {
        values.iter().map(|value| format!("{}={}", value.at, number(value.value))).collect()
    };
    let mut lines: Vec<String> =
        series.iter().map(|series| format!("{} {}", series.labels, values(&series.values).join(" "))).collect();
    if !is_ordered {
        lines.sort();
    }
    lines
}

fn values_of(value: &Value) -> Vec<InstantValue> {
    let one = |pair: &Value| InstantValue {
        at: (pair[0].as_f64().expect("an instant") * 1_000.0).round() as i64,
        value: pair[1].as_str().expect("a text").parse().expect("a number"),
    };
    match value["values"].as_array() {
        Some(all) => all.iter().map(one).collect(),
        None => vec![one(&value["value"])],
    }
}

/// The series of an answer of Prometheus.
fn series_of(data: &Value) -> Vec<AnswerSeries> {
    if data["resultType"] == "scalar" {
        let value = serde_json::json!({ "value": data["result"] });
        return vec![AnswerSeries { labels: LabelSet::default(), values: values_of(&value) }];
    }
    let one = |series: &Value| {
        let labels = series["metric"].as_object().expect("labels").iter();
        let labels = LabelSet::new(labels.map(|(name, value)| (name.clone(), value.as_str().expect("a text"))));
        AnswerSeries { labels, values: values_of(series) }
    };
    data["result"].as_array().expect("series").iter().map(one).collect()
}

/// Writes the series as rows of evt-window to a database.
fn write_rows(dir: &Dir, series: &[WindowSeries]) {
    let mut rows = String::new();
    for WindowSeries { labels, windows, .. } in series {
        let label = |name: &str| Some(labels.value(name)).filter(|value| !value.is_empty());
        let dimensions = json!({ "country": label("country"), "device": label("device") });
        for WindowValue { end, value } in windows {
            let value = match *value {
                value if value.is_nan() => json!("NaN"),
                value if value.is_infinite() => json!("Infinity"),
                value => json!(value),
            };
            let text = dimensions.to_string();
            let id = metric_id(labels.value("__name__"), (end - MINUTE) * 1_000, end * 1_000, &text);
            let row = json!({
                "metric_id": Uuid::from_bytes(id), "metric_name": labels.value("__name__"), "window_start": format_instant((end - MINUTE) * 1_000),
                "window_end": format_instant(end * 1_000), "dimensions": dimensions, "value": value, "rows": 1,
                "revision": 0, "pane": 0, "retracted": false,
            });
            writeln!(rows, "{row}").expect("written");
        }
    }
    dir.write("rows.jsonl", rows);
    dir.shell("evt-sink -q rows.jsonl --kind metric --to sqlite:m.db").succeeds();
}

const QUERIES: [&str; 72] = [
    "requests",
    "requests{country=\"DE\"}",
    "requests{country!=\"DE\",device=\"\"}",
    "requests{device=~\"i.*|web\"}",
    "requests{country!~\"D.|FR\"}",
    "{__name__=~\"requests|errors\",country=\"US\"}",
    "{__name__=\"errors\"}",
    "nothing",
    "1+1",
    "-2 ^ 2",
    "2 ^ 3 ^ 2",
    "7 % 3 - 1 / 0",
    "1 > bool 2",
    "NaN == bool NaN",
    "time()",
    "time() / 60 % 60",
    "vector(7)",
    "vector(time())",
    "scalar(requests)",
    "scalar(requests{country=\"DE\",device=\"ios\"})",
    "sum(requests)",
    "sum by (country) (requests)",
    "sum without (device) (requests)",
    "avg by (device) (requests)",
    "min(requests)",
    "max by (country) (errors)",
    "count by (country, device) (requests)",
    "count(requests) by (nothing)",
    "topk(3, requests)",
    "bottomk(2, requests)",
    "topk by (country) (1, requests)",
    "topk(0, requests)",
    "topk(2.7, requests)",
    "sum_over_time(requests[5m])",
    "avg_over_time(requests[10m])",
    "min_over_time(requests[3m])",
    "max_over_time(requests[3m])",
    "count_over_time(requests[7m])",
    "last_over_time(requests[30m])",
    "present_over_time(errors[2m])",
    "sum_over_time(requests[1m])",
    "sum_over_time(requests[90s])",
    "sum by (country) (sum_over_time(requests[5m])) / 300",
    "requests offset 10m",
    "requests offset -3m",
    "sum_over_time(requests[5m] offset 90s)",
    "requests @ 1704070800",
    "sum(requests @ start())",
    "sum(requests @ end())",
    "requests + 1",
    "1 - requests",
    "-requests",
    "requests > 100",
    "100 < requests",
    "requests > bool 100",
    "requests == requests",
    "errors / requests",
    "errors / ignoring (device) requests{device=\"web\"}",
    "errors{device=\"web\"} / on (country) requests{device=\"web\"}",
    "errors{device=\"web\"} > on (country) requests{device=\"ios\"}",
    "errors{device=\"web\"} < bool ignoring (device) requests{device=\"ios\"}",
    "sum by (country) (errors) / sum by (country) (requests)",
    "errors / on (country) requests",
    "abs(requests)",
    "round(requests)",
    "round(requests, 0.5)",
    "clamp(requests, -10, 200)",
    "clamp_min(requests, 0)",
    "clamp_max(requests, 10)",
    "clamp(requests, 10, -10)",
    "absent(nothing{country=\"DE\",device=~\"x\"})",
    "absent(requests)",
];

/// Queries whose answer at one instant is in an order.
const ORDERED: [&str; 4] =
    ["sort(requests)", "sort_desc(requests)", "topk(4, requests)", "sort_desc(sum by (country) (requests))"];

#[test]
fn answers_are_those_of_prometheus() {
    let Some(promtool) = promtool().map(PathBuf::from) else { return };
    let all = series();
    let server = Prometheus::start(&promtool, &all);
    let dir = Dir::new("promql");
    write_rows(&dir, &all);
    let own = Listener::of(&mut dir.command("evt-serve", &["http://127.0.0.1:0", "--from", "sqlite:m.db"])).listening();
    let theirs = |path: &str| {
        let answer = server.get(path).expect("an answer");
        answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
    };
    let ours = |path: &str| own.get(path).body;
    let mut compared = 0;
    let mut compare = |query: &str, asked: &str, is_ordered: bool| {
        let theirs = ask(theirs, query, asked).map(|data| shown(&series_of(&data), is_ordered));
        let ours = ask(ours, query, asked).map(|data| shown(&series_of(&data), is_ordered));
        let told = format!("{query} {asked}");
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{told}"),
            (Err(ours), Err(theirs)) => assert_eq!(ours.split('{').next(), theirs.split('{').next(), "{told}"),
            (ours, theirs) => panic!("{told}: {ours:?}, Prometheus: {theirs:?}"),
        }
        compared += 1;
    };
    let millis = |at: i64| format!("{}.{:03}", at / 1_000, at % 1_000);
    // On and off the ends of windows, before the first and after the last one.
    let instants =
        [0, 1, 30_000, 59_998, 13 * MINUTE, 47 * MINUTE + 1, 77 * MINUTE - 2, 129 * MINUTE, 131 * MINUTE, -2, -MINUTE];
    for query in QUERIES {
        for at in instants.map(|at| START + at) {
            compare(query, &format!("query?time={}", millis(at)), false);
        }
        for (start, end, step) in [(0, 125, 60_000), (-3, 140, 47_000), (10, 50, 300_000), (20, 20, 1_000)] {
            let (start, end) = (START + start * MINUTE, START + end * MINUTE + 17);
            let asked = format!("query_range?start={}&end={}&step={}", millis(start), millis(end), millis(step));
            compare(query, &asked, false);
        }
    }
    for query in ORDERED {
        for at in instants.map(|at| START + at) {
            compare(query, &format!("query?time={}", millis(at)), true);
        }
    }
    assert_eq!(compared, QUERIES.len() * 15 + ORDERED.len() * 11);
    own.stop();
}
