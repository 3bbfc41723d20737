//! evt-alert through its binary: ten stories, the state file, rules that are edited, and a model in Python.

use crate::harness::{Dir, ROOT, Run, ask, eventually, python};
use crate::notify::webhook;
use crate::receivers::{Receiver, Reply};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Returns the instant so many seconds after 2026-01-05T10:00:00Z.
pub fn at(seconds: f64) -> String {
    let micros = (seconds * 1e6).round() as i64;
    evt_core::time::format_instant(1_767_607_200_000_000 + micros)
}

/// One event as a line.
pub fn event(seconds: f64, fields: &Value) -> String {
    let mut event = json!({"source": "web", "event_type": "view", "server_timestamp": at(seconds)});
    for (name, value) in fields.as_object().expect("an object") {
        event[name] = value.clone();
    }
    format!("{event}\n")
}

/// Events every `every` seconds from `from` to before `to`.
pub fn series(from: f64, to: f64, every: f64, fields: &Value) -> Vec<(f64, String)> {
    let count = ((to - from) / every).round() as usize;
    (0..count).map(|n| from + n as f64 * every).map(|time| (time, event(time, fields))).collect()
}

/// The lines of several series in the order of their times.
pub fn lines(series: &[Vec<(f64, String)>]) -> String {
    let mut all: Vec<&(f64, String)> = series.iter().flatten().collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().map(|(_, line)| line.as_str()).collect()
}

/// Rules as a file.
pub fn rules(rules: &[Value]) -> String {
    json!({ "rule": rules }).to_string()
}

/// A rule with defaults.
pub fn rule(fields: &Value) -> Value {
    let mut rule =
        json!({"name": "r", "aggregate": "count(*)", "condition": "gt", "threshold": 0, "window_seconds": 60});
    for (name, value) in fields.as_object().expect("an object") {
        rule[name] = value.clone();
    }
    rule
}

/// Runs evt-alert once; returns the run and its rows as (rule, dimensions, state, reason, seconds, since).
pub fn once(dir: &Dir, args: &[&str]) -> Run {
    let mut all = vec!["--once", "--rules", "rules.json"];
    all.extend(args);
    dir.run("evt-alert", &all).stays_calm()
}

/// The transitions in rows: `rule state reason at since`, with seconds of the story.
pub fn transitions(rows: &[Value]) -> Vec<String> {
    let seconds = |row: &Value, name: &str| {
        let instant = evt_core::time::parse_instant(row[name].as_str().expect("an instant")).expect("an instant");
        (instant - 1_767_607_200_000_000) / 1_000_000
    };
    let line = |row: &Value| {
        let [rule, state, reason] =
            ["rule", "state", "reason"].map(|name| row[name].as_str().expect("text").to_owned());
        format!("{rule} {state} {reason} at {} since {}", seconds(row, "at"), seconds(row, "since"))
    };
    rows.iter().map(line).collect()
}

#[test]
fn an_error_burst_fires_and_resolves() {
    let dir = Dir::new("alert-burst");
    let (views, errors) =
        (series(0.0, 400.0, 1.0, &json!({})), series(120.1, 130.1, 0.2, &json!({"event_type": "error"})));
    dir.write("in.jsonl", lines(&[views, errors]));
    dir.write("rules.json", rules(&[rule(&json!({"where": "event_type = 'error'", "threshold": 20}))]));
    let run = once(&dir, &["in.jsonl"]).ends_with(1);
    assert_eq!(
        transitions(&run.rows()),
        ["r firing condition at 125 since 125", "r resolved condition at 216 since 125"]
    );
    let row = &run.rows()[0];
    assert_eq!((row["value"].as_f64(), row["threshold"].as_f64()), (Some(25.0), Some(20.0)));
    assert_eq!((&row["window_start"], &row["window_end"]), (&json!(at(65.0)), &json!(at(125.0))));
    // The same file without the burst: nothing fires, and nothing is printed.
    dir.write("in.jsonl", lines(&[series(0.0, 400.0, 1.0, &json!({}))]));
    let run = once(&dir, &["in.jsonl"]).succeeds();
    assert_eq!((run.text(), run.stderr()), (String::new(), String::new()));
}

#[test]
fn silence_fires_when_the_window_is_empty() {
    let dir = Dir::new("alert-silence");
    dir.write("in.jsonl", lines(&[series(0.0, 101.0, 1.0, &json!({})), series(300.0, 330.0, 1.0, &json!({}))]));
    let silence = rule(&json!({"condition": "lt", "threshold": 1, "keep_firing_for": 0}));
    dir.write("rules.json", rules(&[silence]));
    let run = once(&dir, &["in.jsonl"]).ends_with(1);
    assert_eq!(
        transitions(&run.rows()),
        ["r firing condition at 160 since 160", "r resolved condition at 300 since 160"]
    );
}

#[test]
fn silence_is_noticed_while_nothing_arrives() {
    let dir = Dir::new("alert-live");
    dir.write("rules.json", rules(&[rule(&json!({"condition": "lt", "threshold": 1, "window_seconds": 2}))]));
    let args = ["-f", "jsonl", "--rules", "rules.json", "--to", "out.jsonl", "--time", "server_timestamp", "-q"];
    let mut child = dir.command("evt-alert", &args).stdin(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut text = String::new();
    for number in 0..300 {
        let time = 0.05 * f64::from(number);
        _ = write!(text, "{}", event(time, &json!({})));
    }
    let start = Instant::now();
    stdin.write_all(text.as_bytes()).expect("it reads");
    eventually("silence fires", || {
        std::fs::read_to_string(dir.path("out.jsonl")).is_ok_and(|rows| rows.contains("firing"))
    });
    // The partition is held for a second, then the window must become empty at wall speed.
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(transitions(&dir.rows("out.jsonl")), ["r firing condition at 17 since 17"]);
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_slow_leak_fires_once_it_was_too_high_for_long_enough() {
    let dir = Dir::new("alert-leak");
    let leak: Vec<(f64, String)> =
        (0..1000).map(|t| (f64::from(t), event(f64::from(t), &json!({"heap": f64::from(t) / 10.0})))).collect();
    dir.write("in.jsonl", lines(&[leak]));
    let fields = json!({"aggregate": "max(heap)", "threshold": 90, "window_seconds": 10, "for": "30s"});
    dir.write("rules.json", rules(&[rule(&fields)]));
    let run = once(&dir, &["in.jsonl"]).ends_with(1);
    assert_eq!(transitions(&run.rows()), ["r firing condition at 931 since 901"]);
}

#[test]
fn a_flapping_value_is_one_alert() {
    let dir = Dir::new("alert-flap");
    // Ten seconds with errors, ten without, for five minutes.
    let bursts = (0..15).map(|n| {
        series(100.0 + 20.0 * f64::from(n), 110.0 + 20.0 * f64::from(n), 1.0, &json!({"event_type": "error"}))
    });
    let mut all: Vec<_> = bursts.collect();
    all.push(series(0.0, 500.0, 1.0, &json!({})));
    dir.write("in.jsonl", lines(&all));
    let fields = json!({"where": "event_type = 'error'", "threshold": 3, "window_seconds": 5});
    dir.write("rules.json", rules(&[rule(&fields)]));
    let run = once(&dir, &["in.jsonl"]).ends_with(1);
    // The last burst ends at 389; at 391 three errors are in the window.
    assert_eq!(
        transitions(&run.rows()),
        ["r firing condition at 103 since 103", "r resolved condition at 421 since 103"]
    );
    let eager =
        rule(&json!({"where": "event_type = 'error'", "threshold": 3, "window_seconds": 5, "keep_firing_for": 0}));
    dir.write("rules.json", rules(&[eager]));
    assert_eq!(once(&dir, &["in.jsonl"]).ends_with(1).rows().len(), 30, "without it each burst is an alert");
}

#[test]
fn a_restart_in_the_middle_of_for_changes_nothing() {
    let dir = Dir::new("alert-restart");
    let all = lines(&[series(0.0, 300.0, 0.5, &json!({}))]);
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 10, "window_seconds": 10, "for": "60s"}))]));
    dir.write("in.jsonl", &all);
    let whole = transitions(&once(&dir, &["in.jsonl"]).ends_with(1).rows());
    assert_eq!(whole, ["r firing condition at 70 since 10"]);
    let (mut found, mut end) = (vec![], 0);
    // Five runs: the condition begins to hold in the first one, and the alert fires in a later one.
    for part in [40, 90, 130, 300, 600] {
        end = all.match_indices('\n').nth(part - 1).map_or(end, |(at, _)| at + 1);
        dir.write("in.jsonl", &all[..end]);
        let run = once(&dir, &["--state", "alerts.db", "in.jsonl"]);
        let firing = part >= 141;
        assert_eq!(run.status(), i32::from(firing || !found.is_empty()), "{part}: {run}");
        found.extend(transitions(&run.rows()));
    }
    assert_eq!(found, whole);
    // Once more without new lines: nothing is evaluated again, but the alert still fires.
    let run = once(&dir, &["--state", "alerts.db", "in.jsonl"]).ends_with(1);
    assert_eq!(run.rows().len(), 0, "{run}");
}

#[test]
fn the_last_second_is_evaluated() {
    let dir = Dir::new("alert-last");
    dir.write("rules.json", rules(&[rule(&json!({"where": "event_type = 'error'"}))]));
    let error = |time: f64| event(time, &json!({"event_type": "error"}));
    let all = lines(&[series(0.0, 241.0, 60.0, &json!({}))]) + &error(300.0);
    dir.write("in.jsonl", &all);
    let wanted = ["r firing condition at 300 since 300"];
    assert_eq!(transitions(&once(&dir, &["in.jsonl"]).ends_with(1).rows()), wanted);
    let run = dir.run("evt-alert", &["-q", "--rules", "rules.json", "in.jsonl"]);
    assert_eq!(transitions(&run.succeeds().rows()), wanted, "also without --once");
    assert_eq!(transitions(&once(&dir, &["--state", "alerts.db", "in.jsonl"]).ends_with(1).rows()), wanted);
    // With a state the second must be over, because the next run may read more rows of it.
    for (now, count) in [(300.0, 0), (300.5, 0), (301.0, 1), (302.0, 0)] {
        let run = once(&dir, &["--now", &at(now), "--state", "live.db", "in.jsonl"]);
        assert_eq!(run.rows().len(), count, "{now}: {run}");
    }
    // Rows of a second that was evaluated count from the next one on.
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 2, "window_seconds": 10}))]));
    let all = lines(&[series(0.0, 20.0, 5.0, &json!({}))]) + &event(30.2, &json!({}));
    dir.write("in.jsonl", &all);
    assert!(once(&dir, &["--state", "split.db", "in.jsonl"]).succeeds().rows().is_empty());
    dir.write("in.jsonl", all + &event(30.4, &json!({})) + &event(30.6, &json!({})) + &event(35.0, &json!({})));
    let run = once(&dir, &["--state", "split.db", "in.jsonl"]).ends_with(1);
    assert_eq!(transitions(&run.rows()), ["r firing condition at 32 since 32"]);
}

#[test]
fn a_row_that_is_in_order_in_its_own_file_counts_although_another_file_is_ahead() {
    let dir = Dir::new("alert-two-files");
    dir.write("rules.json", rules(&[rule(&json!({"where": "event_type = 'error'", "window_seconds": 600}))]));
    let [a, b] = [0.0, 30.0].map(|from| lines(&[series(from, from + 840.0, 120.0, &json!({}))]));
    let error = event(740.0, &json!({"event_type": "error"}));
    let (more_a, more_b) = (error + &event(840.0, &json!({})), event(870.0, &json!({})));
    let one_file = |more: &str| lines(&[series(0.0, 780.0, 30.0, &json!({}))]) + more;
    let wanted = ["r firing condition at 751 since 751"];
    // Two files, and two partitions of one file.
    dir.write("a.jsonl", &a);
    dir.write("b.jsonl", &b);
    once(&dir, &["--state", "two.db", "a.jsonl", "b.jsonl"]).succeeds();
    dir.write("a.jsonl", a + &more_a);
    dir.write("b.jsonl", b + &more_b);
    let run = once(&dir, &["--state", "two.db", "a.jsonl", "b.jsonl"]).ends_with(1);
    assert_eq!(
        (transitions(&run.rows()), run.stderr().contains("behind")),
        (wanted.map(str::to_owned).to_vec(), false)
    );
    let field = |text: String| {
        let mapped: Vec<String> = text.lines().map(str::to_owned).collect();
        let host =
            |(n, line): (usize, &String)| line.replacen('{', &format!("{{\"host\":\"{}\",", ["a", "b"][n % 2]), 1);
        mapped.iter().enumerate().map(|at| host(at) + "\n").collect::<String>()
    };
    let args = ["--state", "one.db", "--field", "partition=host", "c.jsonl"];
    dir.write("c.jsonl", field(one_file("")));
    once(&dir, &args).succeeds();
    dir.write("c.jsonl", field(one_file(&(more_a + &more_b))));
    let run = once(&dir, &args).ends_with(1);
    assert_eq!(
        (transitions(&run.rows()), run.stderr().contains("behind")),
        (wanted.map(str::to_owned).to_vec(), false)
    );
}

#[test]
fn a_jump_of_a_clock_is_a_dead_letter_and_moves_no_window() {
    let dir = Dir::new("alert-jump");
    let steady: String =
        (0..300).map(|t| event(f64::from(t), &json!({"client_timestamp": at(f64::from(t))}))).collect();
    let jump = event(150.5, &json!({"client_timestamp": at(3750.5)}));
    let middle = steady.match_indices('\n').nth(150).expect("many lines").0 + 1;
    let jumped = format!("{}{jump}{}", &steady[..middle], &steady[middle..]);
    dir.write("rules.json", rules(&[rule(&json!({"condition": "lt", "threshold": 50}))]));
    let args = ["--time", "client_timestamp", "--dlq", "dead.jsonl"];
    for (name, text) in [("steady.jsonl", &steady), ("jumped.jsonl", &jumped)] {
        dir.write(name, text);
        let run = once(&dir, &[&args[..], &[name]].concat()).succeeds();
        assert_eq!(run.rows().len(), 0, "{name}: {run}");
    }
    assert_eq!(dir.rows("dead.jsonl").len(), 1);
    // Without the limit the clock jumps, and the silence of an hour fires.
    let run = once(&dir, &[&args[..], &["--max-future", "100d", "jumped.jsonl"]].concat()).ends_with(1);
    assert!(!run.rows().is_empty());
}

#[test]
fn a_backlog_of_an_hour_takes_less_than_a_minute_and_pages_nobody() {
    let dir = Dir::new("alert-backlog");
    let errors = series(1000.0, 1100.0, 0.5, &json!({"event_type": "error"}));
    dir.write("in.jsonl", lines(&[series(0.0, 3600.0, 0.1, &json!({})), errors]));
    let fields = json!({"where": "event_type = 'error'", "threshold": 20, "notification_channel": "ops"});
    dir.write("rules.json", rules(&[rule(&fields)]));
    dir.write("channels.toml", "[[channel]]\nname = \"ops\"\ntype = \"exec\"\ncommand = [\"cat\"]\n");
    let start = Instant::now();
    let run = once(&dir, &["--state", "alerts.db", "--notify", "channels.toml", "in.jsonl"]).ends_with(1);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert_eq!(
        transitions(&run.rows()),
        ["r firing condition at 1010 since 1010", "r resolved condition at 1180 since 1010"]
    );
    assert!(run.rows().iter().all(|row| row["caught_up"] == json!(true)), "{run}");
    let count = |sql: &str| {
        let db = Connection::open(dir.path("alerts.db")).expect("it is a database");
        db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("it answers")
    };
    assert_eq!(count("SELECT count(*) FROM outbox"), 0, "an alert of the past pages nobody");
    // The same alert while it happens is a page, and so is its end.
    let run =
        once(&dir, &["--now", &at(1012.0), "--state", "new.db", "--notify", "channels.toml", "in.jsonl"]).ends_with(1);
    assert!(run.rows().iter().all(|row| row["caught_up"] == json!(false)), "{run}");
    let db = Connection::open(dir.path("new.db")).expect("it is a database");
    let paged: i64 = db.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).expect("it answers");
    assert_eq!(paged, 2);
}

#[test]
fn a_notification_that_is_refused_is_a_negative_verdict() {
    let dir = Dir::new("alert-refused");
    dir.write("in.jsonl", lines(&[series(0.0, 100.0, 0.5, &json!({"event_type": "error"}))]));
    let fields = json!({"threshold": 20, "window_seconds": 60, "notification_channel": "hook"});
    dir.write("rules.json", rules(&[rule(&fields)]));
    for (status, verdict) in [(200, 0), (400, 1)] {
        let receiver = Receiver::new(move |_, _| Reply::Status(status));
        dir.write("channels.toml", webhook(&receiver, ""));
        let (now, state) = (at(100.0), format!("{status}.db"));
        let args = ["--rules", "rules.json", "--now", &now, "--state", &state, "--notify", "channels.toml", "in.jsonl"];
        let run = dir.run("evt-alert", &args).ends_with(verdict);
        assert_eq!(
            run.stderr().contains("channel 'hook': notifications refused: 1, given up: 0"),
            verdict == 1,
            "{run}"
        );
        assert_eq!(receiver.count(), 1);
    }
}

#[test]
fn of_two_groups_only_one_fires() {
    let dir = Dir::new("alert-groups");
    let of = |source: &str, every: f64| series(0.0, 200.0, every, &json!({"source": source}));
    dir.write("in.jsonl", lines(&[of("web", 1.0), of("ios", 0.25)]));
    dir.write(
        "rules.json",
        rules(&[rule(&json!({"by": ["source"], "threshold": 100, "summary": "{source}: {value}"}))]),
    );
    let run = once(&dir, &["in.jsonl"]).ends_with(1);
    let rows = run.rows();
    assert_eq!(rows.len(), 1, "{run}");
    let dimensions: Value = serde_json::from_str(rows[0]["dimensions"].as_str().unwrap_or("null")).unwrap_or_default();
    let dimensions = if dimensions.is_null() { rows[0]["dimensions"].clone() } else { dimensions };
    assert_eq!((dimensions, &rows[0]["summary"]), (json!({"source": "ios"}), &json!("ios: 240")));
}

#[test]
fn a_rule_that_is_deleted_disabled_or_changed_while_it_fires_is_resolved() {
    for (edit, reason) in [
        (None, "rule gone"),
        (Some(json!({"enabled": false})), "disabled"),
        (Some(json!({"window_seconds": 30})), "rule changed"),
        (Some(json!({"threshold": 2, "severity": "critical"})), ""),
    ] {
        let dir = Dir::new("alert-deleted");
        let all = lines(&[series(0.0, 200.0, 1.0, &json!({}))]);
        let other = rule(&json!({"name": "other", "threshold": 1000}));
        dir.write("rules.json", rules(&[other.clone(), rule(&json!({"threshold": 10}))]));
        dir.write("in.jsonl", &all);
        let run = once(&dir, &["--state", "alerts.db", "in.jsonl"]).ends_with(1);
        assert_eq!(transitions(&run.rows()), ["r firing condition at 60 since 60"]);
        let edited = edit.map(|edit| {
            let mut fields = rule(&json!({"threshold": 10}));
            edit.as_object().expect("an object").iter().for_each(|(name, value)| fields[name] = value.clone());
            fields
        });
        dir.write("rules.json", rules(&[vec![other], edited.into_iter().collect()].concat()));
        let run = once(&dir, &["--state", "alerts.db", "in.jsonl"]);
        let wanted: Vec<String> = match reason {
            "" => vec![],
            reason => vec![format!("r resolved {reason} at 200 since 60")],
        };
        assert_eq!(transitions(&run.rows()), wanted, "{run}");
        assert_eq!(run.status(), i32::from(reason.is_empty()), "{run}");
    }
}

#[test]
fn a_correction_that_arrives_late_resolves() {
    let dir = Dir::new("alert-correction");
    // Payments stop at 100; a correction of 50 arrives at 150 with the time 120.
    let payments = series(0.0, 100.0, 1.0, &json!({"amount": 1}));
    let views = series(100.0, 300.0, 1.0, &json!({}));
    let correction = vec![(150.5, event(120.0, &json!({"amount": 50})))];
    dir.write("in.jsonl", lines(&[payments, views, correction]));
    let fields = json!({"aggregate": "sum(amount)", "condition": "lt", "threshold": 20, "keep_firing_for": 0});
    dir.write("rules.json", rules(&[rule(&fields)]));
    let run = once(&dir, &["in.jsonl"]).ends_with(1);
    // At 140 the payments of (80, 140] are 19. The correction comes after the event of second 150, so it counts from
    // there on.
    let wanted = ["r firing condition at 140 since 140", "r resolved condition at 150 since 140"];
    assert_eq!(transitions(&run.rows()), wanted);
}

#[test]
fn a_second_run_on_the_same_state_is_refused() {
    let dir = Dir::new("alert-busy");
    dir.write("rules.json", rules(&[rule(&json!({}))]));
    let args = ["-f", "jsonl", "--rules", "rules.json", "--state", "alerts.db", "-q"];
    let mut child =
        dir.command("evt-alert", &args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    eventually("the state is there", || dir.path("alerts.db").exists());
    eventually("it is locked", || dir.run("evt-alert", &[&args[..], &["/dev/null"]].concat()).status() == 75);
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
    dir.run("evt-alert", &[&args[..], &["/dev/null"]].concat()).succeeds();
}

#[test]
fn a_bad_rule_is_named_and_the_others_go_on() {
    let dir = Dir::new("alert-bad");
    dir.write("in.jsonl", lines(&[series(0.0, 100.0, 1.0, &json!({}))]));
    dir.write(
        "metrics.toml",
        "[[metric]]\nname = 'sessions'\ngap = '1m'\n[[metric]]\nname = 'views'\nsize = '1h'\nby = ['source']\n",
    );
    let named = |name: &str, metric: &str| json!({"name": name, "metric_name": metric, "condition": "gt", "threshold": 5, "window_seconds": 10});
    dir.write("rules.json", rules(&[named("a", "sessions"), named("b", "nothing"), named("c", "views")]));
    let run = once(&dir, &["-m", "metrics.toml", "in.jsonl"]).ends_with(1);
    assert_eq!(transitions(&run.rows()), ["c firing condition at 10 since 10"]);
    assert!(run.stderr().contains("rule a: metric_name: sessions has session windows"), "{run}");
    assert!(run.stderr().contains("rule b: metric_name: the metrics file has no metric 'nothing'"), "{run}");
    once(&dir, &["in.jsonl"]).ends_with(78);
}

#[test]
fn the_tests_of_the_example_rules_pass() {
    let dir = Dir::new("alert-examples");
    let files = ["rules.toml", "rules_test.toml"].map(|name| format!("{ROOT}/examples/alerts/{name}"));
    let run = dir.run("evt-alert", &["test", &files[0], &files[1]]).succeeds();
    assert!(run.text().contains(" 0 failed"), "{run}");
    // A test that expects something else fails with the difference.
    let wrong = std::fs::read_to_string(&files[1]).expect("it is committed").replace("since = \"", "since = \"1m");
    dir.write("wrong.toml", wrong);
    let run = dir.run("evt-alert", &["test", &files[0], "wrong.toml"]).ends_with(1);
    assert!(run.text().contains("\n  - ") && run.text().contains("\n  + "), "{run}");
}

#[test]
fn alerts_equal_a_naive_model_on_random_streams_rules_edits_and_restarts() {
    let Some(python) = python() else { return };
    let dir = Dir::new("alert-model");
    let first: u64 = std::env::var("EVT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::var("EVT_ALERT_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    for seed in first..first + count {
        let name = format!("s{seed}");
        ask(&dir, &python, "alert.py", &["generate", &name, &seed.to_string()]);
        let runs: Vec<Value> = serde_json::from_slice(&dir.bytes(&format!("{name}/runs.json"))).expect("JSON");
        for (number, run) in runs.iter().enumerate() {
            let files = run["files"].as_object().expect("an object");
            for (file, count) in files {
                let all = String::from_utf8(dir.bytes(&format!("{name}/{file}.all"))).expect("text");
                let lines = all.split_inclusive('\n').take(count.as_u64().expect("a number") as usize);
                dir.write(&format!("{name}/{file}"), lines.collect::<String>());
            }
            let rules = format!("{name}/rules{number}.json");
            let state = format!("{name}/alerts.db");
            let stats = format!("{name}/stats{number}.json");
            let mut args = vec!["--once", "-q", "--rules", &rules, "--state", &state, "--max-future", "1000d"];
            args.extend(["--stats", &stats]);
            let paths: Vec<String> = files.keys().map(|file| format!("{name}/{file}")).collect();
            args.extend(paths.iter().map(String::as_str));
            if paths.is_empty() {
                args.extend(["-f", "jsonl", "/dev/null"]);
            }
            let run = dir.run("evt-alert", &args).stays_calm();
            assert!(run.status() <= 1, "seed {seed}: {run}");
            dir.write(&format!("{name}/out{number}.jsonl"), run.stdout());
            dir.write(&format!("{name}/status{number}"), run.status().to_string());
        }
        let found = ask(&dir, &python, "alert.py", &["check", &name]);
        let found: BTreeMap<String, u64> = serde_json::from_str(&found.text()).expect("numbers");
        found.into_iter().for_each(|(name, number)| *totals.entry(name).or_default() += number);
    }
    assert!(totals["compared"] > 10, "only few rows in {count} scenarios: {totals:?}");
    assert!(
        count < 12 || ["interrupted", "silent", "group gone", "no_data"].iter().all(|name| totals[*name] > 0),
        "{totals:?}"
    );
}

/// Events of host `a` every second to 260 s; those of host `b` come ten a second to 100 s, and once a second from
/// `back`.
fn silent_host(back: f64) -> String {
    let of = |host: &str, from: f64, to: f64, every: f64| series(from, to, every, &json!({"k": host}));
    lines(&[of("a", 0.0, 260.0, 1.0), of("b", 0.0, 100.0, 0.1), of("b", back, 260.0, 1.0)])
}

#[test]
fn a_group_that_was_silent_for_more_than_ten_windows_is_compared_with_the_windows_before() {
    let dir = Dir::new("alert-silent-group");
    let mut fields = json!({"by": ["k"], "compare": "120s", "condition": "lt", "threshold": 0.5, "window_seconds": 5});
    fields["forget_after"] = json!(50);
    dir.write("rules.json", rules(&[rule(&fields)]));
    // The group is gone ten windows after its last row. What comes back is a tenth of what was there two minutes
    // before.
    dir.write("in.jsonl", silent_host(160.0));
    let wanted = [
        "r firing condition at 125 since 125",
        "r resolved group gone at 150 since 125",
        "r firing condition at 160 since 160",
        "r resolved condition at 254 since 160",
    ];
    assert_eq!(transitions(&once(&dir, &["in.jsonl"]).ends_with(1).rows()), wanted);
    // The state has the history of a group that is gone.
    let all = silent_host(160.0);
    let mut found = vec![];
    for end in [155.0, 300.0] {
        let is_before = |line: &&str| line.split('"').any(|text| text.starts_with("2026") && text < at(end).as_str());
        dir.write("in.jsonl", all.lines().filter(is_before).map(|line| format!("{line}\n")).collect::<String>());
        found.extend(transitions(&once(&dir, &["--state", "alerts.db", "in.jsonl"]).ends_with(1).rows()));
    }
    assert_eq!(found, wanted);
    // Without forget_after the alert fires until the values are right again, and the windows of the silence have no
    // value to compare with all the same.
    fields["forget_after"] = Value::Null;
    dir.write("rules.json", rules(&[rule(&fields)]));
    let wanted = ["r firing condition at 125 since 125", "r resolved condition at 254 since 125"];
    assert_eq!(transitions(&once(&dir, &["in.jsonl"]).ends_with(1).rows()), wanted);
}

#[test]
fn a_group_with_rows_in_the_first_second_only_is_evaluated() {
    let dir = Dir::new("alert-first-second");
    let all = |a: f64| {
        let of = |host: &str, to: f64| series(0.0, to, 1.0, &json!({"k": host}));
        lines(&[of("a", a), of("b", 60.0)])
    };
    for window in [1, 10] {
        let fields = json!({"by": ["k"], "condition": "lt", "threshold": 1, "window_seconds": window, "no_data": true});
        dir.write("rules.json", rules(&[rule(&fields)]));
        dir.write("in.jsonl", all(1.0));
        let whole = transitions(&once(&dir, &["in.jsonl"]).rows());
        assert_eq!(whole.first(), Some(&format!("r firing condition at {window} since {window}")), "{whole:?}");
        // The first second comes in two runs.
        dir.write("part.jsonl", all(1.0).lines().take(1).map(|line| format!("{line}\n")).collect::<String>());
        let state = format!("{window}.db");
        let mut parts = transitions(&once(&dir, &["--now", &at(0.0), "--state", &state, "part.jsonl"]).rows());
        dir.write("part.jsonl", all(1.0));
        parts.extend(transitions(&once(&dir, &["--state", &state, "part.jsonl"]).rows()));
        assert_eq!(parts, whole);
    }
}
