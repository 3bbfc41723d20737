//! Windows with explicit watermarks (`--control`): test cases of other engines.

use crate::harness::{Dir, Draws, Run, cases};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// (key, start, end) → value: the final rows of a store that upserts.
type Results = BTreeMap<(String, i64, i64), f64>;

#[test]
fn every_case_of_other_engines_has_its_results_and_its_late_events() {
    let mut failed = vec![];
    let cases = cases("windows/cases.jsonl");
    for case in &cases {
        let id = case["id"].as_str().expect("a case has an id");
        if let Err(why) = check(case) {
            failed.push(format!("{id} {}: {why}", case["name"]));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn check(case: &Value) -> Result<(), String> {
    let dir = Dir::new("windows");
    dir.write("case.jsonl", lines(case));
    let run = dir.run("evt-window", &flags(&case["window"]));
    if !matches!(run.status(), 0 | 1) {
        return Err(format!("{run}"));
    }
    let (got, wanted) = (results(&run), wanted(case));
    if got != wanted {
        return Err(format!("results {got:?}, wanted {wanted:?}\n{run}"));
    }
    let (got, wanted) = (late(&dir.rows("late.jsonl")), late_wanted(case));
    if got != wanted {
        return Err(format!("late {got:?}, wanted {wanted:?}\n{run}"));
    }
    Ok(())
}

/// The case as JSON lines. Its watermark w is "nothing ≤ w follows", ours "nothing < W": W is a millisecond later.
/// Other engines close a session when W reaches its end, and evt-window when W has passed it: there it is a
/// microsecond more.
fn lines(case: &Value) -> String {
    let steps = case["steps"].as_array().expect("a case has steps");
    let line = |step: &Value| match step["watermark"].as_i64() {
        Some(watermark) => json!({"$evt": {"watermark": after(watermark, &case["window"])}}).to_string(),
        None => {
            let event = &step["event"];
            let time = instant(event["ts"].as_i64().expect("a time"));
            let properties = json!({"key": event["key"], "value": event["value"]});
            json!({"event_type": "t", "source": "s", "server_timestamp": time, "properties": properties}).to_string()
        }
    };
    steps.iter().map(|step| line(step) + "\n").collect()
}

fn flags(window: &Value) -> Vec<String> {
    let fixed = "case.jsonl -f jsonl --control --at-end hold --by key -o jsonl --late late.jsonl -q";
    let mut flags: Vec<String> = fixed.split(' ').map(str::to_owned).collect();
    flags.extend(["--agg".to_owned(), "v=sum(value)".to_owned()]);
    for (name, flag) in
        [("size", "--size"), ("slide", "--slide"), ("gap", "--gap"), ("lateness", "--lateness"), ("offset", "--align")]
    {
        if let Some(millis) = window[name].as_i64().filter(|millis| *millis != 0) {
            flags.push(format!("{flag}={millis}ms"));
        }
    }
    flags
}

/// The rows of a store that upserts and applies retractions.
fn results(run: &Run) -> Results {
    let mut results = Results::new();
    for row in run.rows() {
        let key = (text(&row["dimensions"]["key"]), millis(&row["window_start"]), millis(&row["window_end"]));
        if row["retracted"] == true {
            results.remove(&key);
        } else {
            results.insert(key, row["value"].as_f64().expect("a sum"));
        }
    }
    results
}

fn wanted(case: &Value) -> Results {
    let rows = case["final"].as_array().expect("a case has final rows");
    let number = |row: &Value, name: &str| row[name].as_i64().expect("a number");
    let row =
        |row: &Value| ((text(&row["key"]), number(row, "start"), number(row, "end")), number(row, "value") as f64);
    rows.iter().map(row).collect()
}

fn late(rows: &[Value]) -> Vec<(String, i64, String)> {
    let row = |row: &Value| {
        let properties = &row["properties"];
        (text(&properties["key"]), millis(&row["event_time"]), properties["value"].to_string())
    };
    sorted(rows.iter().map(row).collect())
}

fn late_wanted(case: &Value) -> Vec<(String, i64, String)> {
    let rows = case["late"].as_array().expect("a case has late rows");
    let row = |row: &Value| (text(&row["key"]), row["ts"].as_i64().expect("a time"), row["value"].to_string());
    sorted(rows.iter().map(row).collect())
}

fn sorted<T: Ord>(mut rows: Vec<T>) -> Vec<T> {
    rows.sort();
    rows
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn instant(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis).expect("a date").to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn after(watermark: i64, window: &Value) -> String {
    let micros = (watermark + 1) * 1_000 + i64::from(window["gap"].is_i64());
    DateTime::from_timestamp_micros(micros).expect("a date").to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn millis(value: &Value) -> i64 {
    DateTime::parse_from_rfc3339(value.as_str().expect("an instant")).expect("an instant").timestamp_millis()
}

#[test]
fn windows_fire_before_the_end_once_every_partition_that_was_named_has_begun() {
    let dir = Dir::live("named");
    let line = |minute: u32| {
        let shard = ["a", "b"][minute as usize % 2];
        format!("{{\"shard\":\"{shard}\",\"server_timestamp\":\"2026-01-05T10:{minute:02}:00Z\"}}\n")
    };
    dir.write("in.jsonl", (0..60).map(line).collect::<String>());
    dir.shell("evt-ingest in.jsonl --field partition=shard --partitions a,b -q > in.frames").succeeds();
    // Without the end of the input, only the windows that the watermark has passed fire.
    let frames = dir.bytes("in.frames");
    let cut = memchr::memmem::rfind(&frames, b"evt.progress").expect("the partitions end");
    let run = dir.feed("evt-window", &["--size", "1m", "-o", "jsonl", "-q"], &frames[..cut]).ends_with(65);
    // The slower of both is at 10:58. With an out-of-orderness of half a minute, the watermark has passed 57 minutes.
    assert_eq!(run.rows().len(), 57, "{run}");
}

#[test]
fn a_value_that_is_no_number_is_shown_though_only_it_was_read() {
    let dir = Dir::new("no-number");
    let event = r#"{"source":"s","event_type":"e","server_timestamp":"2026-01-01T00:00:00Z","properties":{"g":"abc","k":{"a":[1]}}}"#;
    dir.write("in.jsonl", event);
    for (aggregate, shown) in
        [("max(g)", r#"g: expected a number, found "abc""#), ("max(k.a)", "k.a: expected a number, found [1]")]
    {
        let run =
            dir.run("evt-window", &["--size", "1h", "--agg", aggregate, "--to", "null:", "in.jsonl"]).ends_with(1);
        assert!(run.stderr().contains(shown), "{run}");
    }
}

#[test]
fn a_bound_is_named_only_where_it_would_have_helped() {
    let dir = Dir::new("late-note");
    let event = |second: u32| {
        format!("{{\"source\":\"s\",\"event_type\":\"e\",\"server_timestamp\":\"2026-01-01T00:{second:02}:00Z\"}}\n")
    };
    let promise = "{\"$evt\":{\"watermark\":\"2026-01-01T00:30:00Z\"}}\n";
    dir.write("promised.jsonl", event(40) + promise + &event(5));
    dir.write("bound.jsonl", event(40) + &event(5));
    let said = |args: &[&str]| {
        let flags = ["--size", "1m", "--out-of-orderness", "1s", "--to", "null:"];
        dir.run("evt-window", &[&flags, args].concat()).ends_with(1).stderr()
    };
    let told = said(&["--control", "promised.jsonl"]);
    assert!(told.contains("1 event was late") && !told.contains("would have"), "{told}");
    assert!(
        said(&["bound.jsonl"]).contains(
            "1 event was late (--out-of-orderness all counts every event of an input that ends, and 34m1us would"
        ),
        "{told}"
    );
}

#[test]
fn the_generator_and_the_validator_mean_the_same_by_seen() {
    let dir = Dir::new("seen");
    let made = "evt-gen -q --events 300 --seed 2 --rate 100 --duplicates 0.5 --dedup 1s --truth t.json > g.jsonl";
    dir.shell(made).succeeds();
    dir.run("evt-validate", &["--dedup", "1s", "--stats", "s.json", "--to", "null:", "g.jsonl"]).succeeds();
    let read = |name: &str| -> Value { serde_json::from_slice(&dir.bytes(name)).expect("JSON") };
    assert_eq!(read("t.json")["counts"]["duplicate"], read("s.json")["counts"]["duplicate"]);
    assert!(read("s.json")["counts"]["duplicate"].as_u64() > Some(100));
}

#[test]
fn a_repeat_behind_a_watermark_is_one_all_the_same() {
    let dir = Dir::new("promised-repeat");
    let event = "{\"event_id\":\"00000000-0000-4000-8000-000000000001\",\"source\":\"s\",\"event_type\":\"e\",\
                 \"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n";
    dir.write("in.jsonl", format!("{event}{{\"$evt\":{{\"watermark\":\"2026-01-01T00:00:30Z\"}}}}\n{event}"));
    let run = dir.run("evt-validate", &["--control", "--dedup", "1h", "--to", "null:", "in.jsonl"]).succeeds();
    assert!(run.stderr().contains("in 2 out 1 duplicate 1"), "{run}");
}

/// Streams of the same origin and partition, the later day and the earlier one, in each form a stage reads.
fn two_days(dir: &Dir) {
    for (day, seed) in [(1, 5), (2, 6)] {
        let start = format!("2026-01-{day:02}T00:00:00Z");
        let made = format!("evt-gen -q --events 400 --seed {seed} --rate 10 --start {start}");
        dir.shell(&format!("{made} | evt-ingest -q > {day}.frames")).succeeds();
        for (form, ending) in [("jsonl", "jsonl"), ("parquet", "parquet")] {
            dir.shell(&format!("evt-view -q {day}.frames --to {day}.{ending} -o {form}")).succeeds();
        }
    }
}

const COUNTED: &str = "--size 10s --by event_type -o jsonl";

#[test]
fn streams_that_share_a_partition_give_the_same_rows_in_either_order() {
    let dir = Dir::new("same-partition");
    two_days(&dir);
    let rows = |line: String| {
        let run = dir.shell(&line).succeeds();
        assert!(!run.stderr().contains("late"), "{run}");
        (run.text(), run)
    };
    let (wanted, run) = rows(format!("evt-window 1.frames 2.frames {COUNTED}"));
    let counted: u64 = run.rows().iter().map(|row| row["rows"].as_u64().expect("a number")).sum();
    assert_eq!(counted, 800, "{run}");
    for later in ["2.frames", "2.jsonl", "2.parquet"] {
        for earlier in ["1.frames", "1.jsonl", "1.parquet"] {
            for inputs in [[later, earlier], [earlier, later]].map(|pair| pair.join(" ")) {
                assert_eq!(rows(format!("evt-window {inputs} {COUNTED}")).0, wanted, "{inputs}");
                let piped = format!("evt-validate {inputs} | evt-window {COUNTED}");
                assert_eq!(rows(piped.clone()).0, wanted, "{piped}");
            }
        }
        for form in ["frames", "jsonl"] {
            let fed = format!("evt-window {later} - {COUNTED} < 1.{form}");
            assert_eq!(rows(fed.clone()).0, wanted, "{fed}");
        }
    }
    let (_, twice) = rows(format!("evt-window 2.frames 2.frames {COUNTED}"));
    assert!(twice.rows().iter().all(|row| row["rows"].as_u64().is_some_and(|rows| rows % 2 == 0)), "{twice}");
}

#[test]
fn windows_fire_during_the_last_input_though_an_earlier_one_had_its_partition() {
    let dir = Dir::new("last-input");
    two_days(&dir);
    for first in ["1.frames", "1.jsonl"] {
        // Without the end of the input, only the windows that the watermark has passed fire.
        let frames = dir.bytes("2.frames");
        let cut = memchr::memmem::rfind(&frames, b"evt.progress").expect("the partitions end");
        let flags = [first, "-", "--size", "10s", "-o", "jsonl", "-q"];
        let run = dir.feed("evt-window", &flags, &frames[..cut]).ends_with(65);
        assert!(run.rows().len() > 4, "{run}");
    }
}

#[test]
fn a_promise_of_one_input_does_not_hold_for_another() {
    let dir = Dir::new("promises");
    let day = |day: u32| {
        let event =
            format!("{{\"source\":\"s\",\"event_type\":\"e\",\"server_timestamp\":\"2026-01-{day:02}T00:00:00Z\"}}\n");
        event.clone() + &format!("{{\"$evt\":{{\"watermark\":\"2026-01-{day:02}T12:00:00Z\"}}}}\n")
    };
    dir.write("1.jsonl", day(1));
    dir.write("2.jsonl", day(2));
    for inputs in [["1.jsonl", "2.jsonl"], ["2.jsonl", "1.jsonl"]] {
        let run = dir.run("evt-window", &[&inputs[..], &["--control", "--size", "1m", "-o", "jsonl"]].concat());
        assert_eq!(run.rows().len(), 2, "{run}");
    }
}

#[test]
fn rows_whose_partition_went_back_in_time_are_not_called_idle_or_new() {
    let dir = Dir::new("went-back");
    for (day, seed) in [(1, 5), (2, 6)] {
        let made = format!("evt-gen -q --events 20k --seed {seed} --rate 1000 --start 2026-01-{day:02}T00:00:00Z");
        dir.shell(&format!("{made} | evt-ingest -q -o jsonl > {day}.jsonl")).succeeds();
    }
    let run = dir.shell("cat 2.jsonl 1.jsonl | evt-window --size 10s -f jsonl --to null: -");
    assert!(run.stderr().contains("because the stream time of their partition went back"), "{run}");
    assert!(!run.stderr().contains("idle or new"), "{run}");
}

#[test]
fn the_99th_percentile_of_two_values_is_the_greater_one() {
    let dir = Dir::new("percentile");
    let lines = |values: &[u32]| -> String {
        values.iter().map(|v| format!("{{\"t\":\"2026-01-01T00:00:00Z\",\"v\":{v}}}\n")).collect()
    };
    dir.write("two.jsonl", lines(&[1, 1000]));
    dir.write("hundred.jsonl", lines(&(1..=100).map(|n| n * n).collect::<Vec<_>>()));
    for (file, share, wanted) in
        [("two.jsonl", "0.99", 1000.0), ("two.jsonl", "0.5", 1.0), ("hundred.jsonl", "0.29", 29.0 * 29.0)]
    {
        let call = format!("approx_percentile(v, {share})");
        let args = [file, "--time", "t", "--size", "1h", "-q", "-o", "jsonl", "--agg", &call];
        let run = dir.run("evt-window", &args).succeeds();
        let value = run.rows()[0]["value"].as_f64().expect("a number");
        assert!((value / wanted - 1.0).abs() < 0.01, "{run}");
    }
}

/// One event per second of one key, in order or shuffled within the out-of-orderness.
fn seconds(count: usize, scrambled: bool) -> String {
    let mut seconds: Vec<usize> = (0..count).collect();
    if scrambled {
        seconds.chunks_mut(30).for_each(<[usize]>::reverse);
    }
    let line = |second: usize| {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{{\"t\":\"2026-01-01T{hour:02}:{minute:02}:{second:02}Z\",\"v\":1}}\n")
    };
    seconds.into_iter().map(line).collect()
}

#[test]
fn a_window_of_thousands_of_slices_counts_each_event_once() {
    let dir = Dir::new("many-slices");
    let (count, size) = (3000, 1800);
    for scrambled in [false, true] {
        dir.write("in.jsonl", seconds(count, scrambled));
        let flags =
            ["in.jsonl", "--time", "t", "--size", "30m", "--slide", "1s", "--agg", "sum(v)", "-q", "-o", "jsonl"];
        let rows = dir.run("evt-window", &flags).succeeds().rows();
        let found: Vec<f64> = rows.iter().map(|row| row["value"].as_f64().expect("a sum")).collect();
        // The window that ends after second n holds the seconds from n − size + 1 on.
        let wanted = (0..count + size - 1).map(|n| ((n + 1).min(count) - (n + 1).saturating_sub(size)) as f64);
        assert!(found.iter().copied().eq(wanted), "scrambled: {scrambled}");
    }
}

#[test]
fn thousands_of_open_sessions_of_one_key_are_told_apart() {
    let dir = Dir::new("many-sessions");
    let count = 20_000;
    dir.write("in.jsonl", seconds(count, true));
    let flags = ["in.jsonl", "--time", "t", "--gap", "10ms", "--out-of-orderness", "1d", "-q", "-o", "jsonl"];
    let rows = dir.run("evt-window", &flags).succeeds().rows();
    assert_eq!(rows.len(), count);
    assert!(rows.iter().all(|row| row["rows"] == 1 && row["retracted"] == false));
}

#[test]
fn rows_of_a_window_that_fired_again_are_announced_where_they_are_read_as_they_are() {
    let dir = Dir::new("later-panes");
    let at = |minute: u32| format!("{{\"server_timestamp\":\"2024-01-15T10:{minute:02}:00Z\"}}\n");
    // Rows of many batches lie between the first event of the window and the one that comes after it has fired.
    let lines = [at(0), at(10).repeat(30_000), at(1), at(20)].concat();
    dir.write("in.jsonl", lines);
    let window = "evt-window in.jsonl --size 5m --out-of-orderness 0s --lateness 1h";
    let run = dir.shell(&format!("{window} -o csv --emit panes")).succeeds();
    assert!(
        run.stderr()
            .contains("1 row is a later pane; the last row of a window is its result (--emit final writes only that)"),
        "{run}"
    );
    let run = dir.shell(&format!("{window} -o csv")).succeeds();
    assert!(!run.stderr().contains("later panes") && run.text().lines().count() == 4, "{run}");
    let run = dir.shell(&format!("{window} --to sqlite:m.db")).succeeds();
    assert!(!run.stderr().contains("later panes"), "{run}");
}

/// Requests with a status, a path and tags.
const REQUESTS: &str = r#"{"t":"2026-01-01T00:00:01Z","status":404,"path":"/api/Users/1","tags":["a","b"],"user.id":"u1"}
{"t":"2026-01-01T00:00:02Z","status":200,"path":"/api/users/2","tags":[],"user.id":"u1"}
{"t":"2026-01-01T00:00:03Z","status":405,"path":"/img/1.png","user.id":"u2"}
"#;

fn dimensions(run: &Run) -> Vec<(String, f64)> {
    let row = |row: &Value| (row["dimensions"].to_string(), row["value"].as_f64().expect("a number"));
    run.rows().iter().map(row).collect()
}

#[test]
fn windows_are_grouped_by_named_expressions() {
    let dir = Dir::new("expressions");
    dir.write("r.jsonl", REQUESTS);
    let flags = ["r.jsonl", "--time", "t", "--size", "1h", "-q", "-o", "jsonl"];
    let by = |by: &[&str]| dimensions(&dir.run("evt-window", &[&flags[..], by].concat()).succeeds());
    let pair = |dimensions: &str, value: f64| (dimensions.to_owned(), value);
    let class = by(&["--by", "class=floor(status / 100)"]);
    assert_eq!(class, [pair(r#"{"class":"2"}"#, 1.0), pair(r#"{"class":"4"}"#, 2.0)]);
    let two = by(&["--by", "root=split_part(lower(path), '/', 2),bad=status >= 400", "--by", "\"user.id\""]);
    assert_eq!(
        two,
        [
            pair(r#"{"bad":"false","root":"api","user.id":"u1"}"#, 1.0),
            pair(r#"{"bad":"true","root":"api","user.id":"u1"}"#, 1.0),
            pair(r#"{"bad":"true","root":"img","user.id":"u2"}"#, 1.0),
        ]
    );
    let first = by(&["--by", "tags[1]"]);
    assert_eq!(first, [pair(r#"{"tags[1]":"a"}"#, 1.0), pair(r#"{"tags[1]":null}"#, 2.0)]);
    dir.write(
        "m.toml",
        "[[metric]]\nname = 'n'\nsize = '1h'\nby = [\"class=floor(status / 100), second=date_trunc('hour', t)\"]",
    );
    let file = dir.run("evt-window", &["r.jsonl", "--time", "t", "-m", "m.toml", "-q", "-o", "jsonl"]).succeeds();
    let wanted = |class| format!(r#"{{"class":"{class}","second":"2026-01-01T00:00:00.000000Z"}}"#);
    assert_eq!(dimensions(&file), [(wanted(2), 1.0), (wanted(4), 2.0)]);
}

#[test]
fn an_expression_without_a_name_is_no_dimension() {
    let dir = Dir::new("unnamed");
    dir.write("r.jsonl", REQUESTS);
    let flags = ["r.jsonl", "--time", "t", "--size", "1h", "--by"];
    let run = dir.run("evt-window", &[&flags[..], &["lower(path)"]].concat()).ends_with(78);
    assert!(run.stderr().contains("a dimension that is an expression needs a name, like class=lower(path)"), "{run}");
    dir.write("m.toml", "[[metric]]\nsize = '1h'\nby = ['lower(path)']");
    let run = dir.run("evt-window", &["-m", "m.toml", "r.jsonl"]).ends_with(78);
    assert!(run.stderr().contains("metric 1: ") && run.stderr().contains("needs a name"), "{run}");
    let run = dir.run("evt-window", &[&flags[..], &["path,x=lower(path),x=path"]].concat()).ends_with(78);
    assert!(run.stderr().contains("by: duplicate dimension x"), "{run}");
}

#[test]
fn metrics_with_one_name_for_two_expressions_keep_their_own_keys() {
    let dir = Dir::new("same-name");
    dir.write("r.jsonl", REQUESTS);
    dir.write(
        "m.toml",
        "[defaults]\nsize = '1h'\n[[metric]]\nname = 'a'\nby = ['k=status > 400']\n[[metric]]\nname = 'b'\nby = ['k=status > 404']\n",
    );
    for memory in [&[][..], &["--memory", "8MiB"]] {
        let args = [&["r.jsonl", "--time", "t", "-m", "m.toml", "-q", "-o", "jsonl"], memory].concat();
        let run = dir.run("evt-window", &args).succeeds();
        let found: Vec<String> = run
            .rows()
            .iter()
            .map(|row| format!("{}{}{}", row["metric_name"], row["dimensions"], row["rows"]))
            .collect();
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(
            sorted,
            [r#""a"{"k":"false"}1"#, r#""a"{"k":"true"}2"#, r#""b"{"k":"false"}2"#, r#""b"{"k":"true"}1"#]
        );
    }
}

#[test]
fn one_window_over_all_time_has_every_event_in_any_order() {
    let dir = Dir::new("size-all");
    let lines = ["2026-05-01T00:00:00Z", "1969-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"];
    let lines: String = lines.iter().map(|time| format!("{{\"t\":\"{time}\",\"v\":2}}\n")).collect();
    dir.write("r.jsonl", lines);
    let flags = ["r.jsonl", "--time", "t", "--now", "9999-12-31T23:59:59Z", "-q", "-o", "jsonl"];
    let with = |more: &[&str]| dir.run("evt-window", &[&flags[..], more].concat());
    for more in [&[][..], &["--emit", "final"], &["--memory", "8MiB"], &["--lateness", "1h"]] {
        let rows = with(&[&["--size", "all", "--agg", "sum(v)"], more].concat()).succeeds().rows();
        assert_eq!(rows.len(), 1, "{more:?}");
        assert_eq!((&rows[0]["value"], &rows[0]["rows"]), (&Value::from(8.0), &Value::from(4)));
        assert_eq!(rows[0]["window_start"], "0001-01-01T00:00:00.000000Z");
        assert_eq!(rows[0]["window_end"], "9999-12-31T23:59:59.999999Z");
    }
    let run = with(&["--size", "all", "--at-end", "hold"]).ends_with(1);
    assert!(run.rows().is_empty(), "{run}");
    let run = with(&["--size", "all", "--slide", "1h"]).ends_with(78);
    assert!(run.stderr().contains("size = all is one window"), "{run}");
    let run = with(&["--size", "all", "--agg", "rate(*)"]).ends_with(78);
    assert!(run.stderr().contains("use count"), "{run}");
    let run = dir.run("evt-window", &["kafka://localhost:1/t", "--size", "all"]).ends_with(2);
    assert!(run.stderr().contains("waits for the end of the input; set end= for kafka://localhost:1/t"), "{run}");
    dir.write("m.toml", "[[metric]]\nname = 'total'\nsize = 'all'\n");
    let run = dir.run("evt-window", &["kafka://localhost:1/t", "-m", "m.toml"]).ends_with(2);
    assert!(run.stderr().contains("waits for the end of the input"), "{run}");
    let args = ["r.jsonl", "--time", "t", "-m", "m.toml", "--to", "sqlite:m.db"];
    let run = dir.run("evt-backfill", &args).ends_with(2);
    assert!(run.stderr().contains("metric 'total': expected windows that close, found size = all"), "{run}");
}

#[test]
fn one_window_over_all_time_goes_on_in_a_checkpoint() {
    let dir = Dir::new("size-all-checkpoint");
    dir.write("a.jsonl", "{\"t\":\"2026-05-01T00:00:00Z\"}\n{\"t\":\"2026-05-02T00:00:00Z\"}\n");
    dir.write("b.jsonl", "{\"t\":\"2026-04-01T00:00:00Z\"}\n");
    let args = |file, end| {
        let last = ["--checkpoint", "state", "--to", "rows.jsonl", "--at-end", end];
        [&[file, "--time", "t", "--size", "all", "-q"][..], &last].concat()
    };
    dir.run("evt-window", &args("a.jsonl", "hold")).succeeds();
    dir.run("evt-window", &args("b.jsonl", "fire")).succeeds();
    let rows = dir.rows("rows.jsonl");
    assert_eq!((rows.len(), &rows[0]["rows"]), (1, &Value::from(3)));
}

#[test]
fn only_the_first_keys_of_a_window_leave() {
    let dir = Dir::new("top");
    dir.write("r.jsonl", REQUESTS);
    dir.write(
        "m.toml",
        "[defaults]\nsize = '1h'\nby = ['status']\n[[metric]]\nname = 'n'\n[[metric]]\nname = 'worst'\naggregate = 'max(status)'\n\
         [[metric]]\nname = 'total'\nby = []\n",
    );
    let flags = ["r.jsonl", "--time", "t", "-m", "m.toml", "--top", "1", "-o", "jsonl", "--stats", "stats.json"];
    let with = |more: &[&str]| dir.run("evt-window", &[&flags[..], more].concat());
    let found = |run: &Run| {
        let row = |row: &Value| format!("{}{}", row["metric_name"], row["dimensions"]).replace('"', "");
        run.rows().iter().map(row).collect::<Vec<_>>()
    };
    let run = with(&[]).succeeds();
    assert_eq!(found(&run), ["n{status:200}", "worst{status:200}", "total{}"], "{run}");
    assert!(run.stderr().contains("--top left out 2 keys of windows, with 2 events"), "{run}");
    let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
    assert!(stats.to_string().contains(r#""left_out":{"events":2,"keys":2}"#), "{stats}");
    let run = with(&["--of", "worst", "--emit", "final", "-q"]).succeeds();
    assert_eq!(found(&run), ["n{status:405}", "worst{status:405}", "total{}"], "{run}");
    let run = with(&["--emit", "panes"]).ends_with(2);
    assert!(run.stderr().contains("--top cannot be used with --emit panes"), "{run}");
    let run = with(&["--of", "best"]).ends_with(2);
    assert!(run.stderr().contains("--of: expected one of n, worst, total, found best"), "{run}");
    let run = dir.run("evt-window", &["r.jsonl", "--time", "t", "--gap", "1h", "--top", "1"]).ends_with(2);
    assert!(run.stderr().contains("each key has sessions of its own"), "{run}");
}

#[test]
fn first_last_and_distinct_go_on_in_a_checkpoint_and_in_files() {
    let dir = Dir::new("first-last");
    let line = |minute: u64, key: u64, v: u64| {
        format!("{{\"t\":\"2026-01-01T00:{minute:02}:00Z\",\"k\":\"{key:0300}\",\"m\":{minute},\"v\":{v}}}\n")
    };
    let mut random = Draws::new();
    let events: Vec<(u64, u64, u64)> =
        (0..30_000).map(|at| (at / 500, random.below(20_000), random.below(9))).collect();
    let text =
        |part: &[(u64, u64, u64)]| part.iter().map(|(minute, key, v)| line(*minute, *key, *v)).collect::<String>();
    dir.write("all.jsonl", text(&events));
    dir.write("a.jsonl", text(&events[..17_000]));
    dir.write("b.jsonl", text(&events[17_000..]));
    let mut wanted: BTreeMap<String, [f64; 3]> = BTreeMap::new();
    let mut values: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for (minute, key, v) in &events {
        let values = values.entry(*key).or_default();
        values.insert(*v);
        let found = wanted.entry(format!("{key:0300}")).or_insert([*minute as f64; 3]);
        (found[1], found[2]) = (*minute as f64, values.len() as f64);
    }
    let flags = ["--time", "t", "--size", "2h", "--by", "k", "-q", "--out-of-orderness", "1h"];
    let aggregates = ["--agg", "a=first(m)", "--agg", "b=last(m)", "--agg", "c=count(distinct v)"];
    let check = |rows: Vec<Value>, what: &str| {
        let mut found: BTreeMap<String, [f64; 3]> = BTreeMap::new();
        for row in &rows {
            let key = row["dimensions"]["k"].as_str().expect("a key").to_owned();
            let at = ["a", "b", "c"].iter().position(|name| row["metric_name"] == *name).expect("a metric");
            found.entry(key).or_default()[at] = row["value"].as_f64().expect("a number");
        }
        assert_eq!(rows.len(), 3 * wanted.len(), "{what}");
        assert!(found == wanted, "{what}");
    };
    for memory in [&[][..], &["--memory", "8MiB"]] {
        let with = |more: &[&str]| -> Vec<String> {
            [&flags[..], &aggregates, memory, more].concat().into_iter().map(str::to_owned).collect()
        };
        let run = dir.run("evt-window", &with(&["all.jsonl", "-o", "jsonl"])).succeeds();
        check(run.rows(), &format!("{memory:?}"));
        let (state, rows) = (format!("state{}", memory.len()), format!("rows{}.jsonl", memory.len()));
        let more = ["--checkpoint", &state, "--to", &rows, "--at-end"];
        dir.run("evt-window", &with(&[&more[..], &["hold", "a.jsonl"]].concat())).succeeds();
        dir.run("evt-window", &with(&[&more[..], &["fire", "b.jsonl"]].concat())).succeeds();
        check(dir.rows(&rows), &format!("in a checkpoint, {memory:?}"));
    }
}

#[test]
fn too_many_distinct_texts_are_null_and_told() {
    let dir = Dir::new("distinct");
    let lines = (0..100_001).map(|v| format!("{{\"t\":\"2026-01-01T00:00:00Z\",\"v\":{v}}}\n"));
    dir.write("r.jsonl", lines.collect::<String>());
    let args = ["r.jsonl", "--time", "t", "--size", "1h", "-o", "jsonl", "--agg", "n=count(distinct v)"];
    let run = dir.run("evt-window", &[&args[..], &["-q"]].concat()).succeeds();
    assert_eq!((&run.rows()[0]["value"], &run.rows()[0]["rows"]), (&Value::Null, &Value::from(100_001)));
    assert!(run.stderr().contains("n: 1 row is NULL, because it has more than 100000 distinct texts"), "{run}");
    let run = dir.run("evt-window", &[&args[..], &["--where", "v < 100000"]].concat()).succeeds();
    assert_eq!(run.rows()[0]["value"], 100_000.0);
}
