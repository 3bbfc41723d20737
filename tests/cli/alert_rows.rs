//! Rows of kind alert: every format and store holds them, and evt-view shows them.

use crate::alert::{lines, once, rule, rules, series};
use crate::broker::Bench;
use crate::harness::{Dir, ROOT};
use crate::servers::{postgres, redis};
use evt_core::kind::alert::{alert_id, rule_id};
use evt_core::time::parse_instant;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The rows of two alerts: one that is resolved, one that fires.
fn rows() -> Vec<Value> {
    let row = |country: &str, state: &str, more: Value| {
        let (since, dimensions) = ("2026-01-05T10:05:00.000000Z", json!({ "country": country }));
        let rule = rule_id("errors é \"1\"");
        let micros = parse_instant(since).expect("an instant");
        let mut row = json!({
            "alert_id": alert_id(rule, &dimensions.to_string(), micros).to_string(), "rule_id": rule.to_string(),
            "rule": "errors é \"1\"", "dimensions": dimensions, "severity": "critical", "state": state,
            "window_start": "2026-01-05T10:00:00.000000Z", "window_end": "2026-01-05T10:05:00.000000Z", "since": since,
            "labels": {"team": "shop, \"2\"", "é": ""}, "summary": "a,b\n\"c\"", "caught_up": country == "DE",
        });
        let members = row.as_object_mut().expect("an object");
        members.extend(more.as_object().expect("an object").clone());
        row
    };
    let at = |minute: u32| format!("2026-01-05T10:{minute:02}:00.000000Z");
    vec![
        row("DE", "firing", json!({"reason": "condition", "value": 0.25, "threshold": 0.01, "at": at(6)})),
        row("DE", "resolved", json!({"reason": "group gone", "threshold": 0.01, "at": at(16)})),
        row("FR", "firing", json!({"reason": "no_data", "value": "Infinity", "at": at(7)})),
    ]
}

/// A directory with the rows in `alerts.jsonl`.
fn alerts(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write("alerts.jsonl", rows().iter().map(|row| format!("{row}\n")).collect::<String>());
    dir
}

fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(|row| (row["alert_id"].to_string(), row["state"].to_string()));
    rows
}

/// Writes the rows twice, and compares what is read back.
fn check(dir: &Dir, to: &str, from: &str) {
    let sink = ["alerts.jsonl", "-q", "--stats", "stats.json", "--to", to];
    dir.run("evt-sink", &sink).succeeds();
    let read = || sorted(dir.run("evt-view", &[from, "-q", "-o", "jsonl"]).succeeds().rows());
    assert_eq!(read(), sorted(rows()), "{to}");
    if to.contains(':') {
        dir.run("evt-sink", &sink).succeeds();
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        assert_eq!(stats["outputs"][0]["counts"]["unchanged"], 3, "{to}: {stats}");
        assert_eq!(read(), sorted(rows()), "{to}");
    }
}

#[test]
fn every_format_and_local_store_holds_alerts() {
    let dir = alerts("alerts");
    for file in ["out.jsonl", "out.csv", "out.tsv", "out.avro", "out.parquet", "out.frames"] {
        check(&dir, file, file);
    }
    check(&dir, "sqlite:alerts.db", "sqlite:alerts.db?table=alerts");
    check(&dir, "parquet:lake", "parquet:lake");
    let db = Connection::open(dir.path("alerts.db")).expect("it opens");
    let sql = "SELECT group_concat(dimensions ->> 'country' || ' ' || (labels ->> 'team') || ' ' || caught_up, ';')
               FROM (SELECT * FROM alerts ORDER BY at)";
    let found: String = db.query_row(sql, [], |row| row.get(0)).expect("a row");
    assert_eq!(found, "DE shop, \"2\" 1;FR shop, \"2\" 0;DE shop, \"2\" 1");
}

#[test]
fn every_server_holds_alerts() {
    let dir = alerts("alerts-servers");
    for (to, _, _) in [postgres(), redis()].into_iter().flatten() {
        check(&dir, &to, &format!("{to}&table=alerts"));
    }
    let Some(bench) = Bench::new("alerts") else { return };
    bench.dir.write("alerts.jsonl", dir.bytes("alerts.jsonl"));
    let frames = bench.topic("frames", 2, &[]);
    let to = bench.uri(&frames, "?format=frames");
    bench.dir.run("evt-sink", &["alerts.jsonl", "-q", "--to", &to]).succeeds();
    let from = bench.uri(&frames, "?format=frames&end=latest");
    let read = bench.dir.run("evt-view", &[&from, "-q", "-o", "jsonl"]).succeeds();
    assert_eq!(sorted(read.rows()), sorted(rows()));
    let topic = bench.topic("json", 2, &[]);
    bench.dir.run("evt-sink", &["alerts.jsonl", "-q", "--to", &bench.uri(&topic, "")]).succeeds();
    let records = bench.records(&topic);
    let value = |value: &Option<Vec<u8>>| -> Value {
        serde_json::from_slice(value.as_deref().expect("a value")).expect("JSON")
    };
    let values = Vec::from_iter(records.iter().map(|record| value(&record.value)));
    let ids = values.iter().map(|row| row["alert_id"].as_str().map(str::as_bytes));
    assert!(
        ids.eq(records.iter().map(|record| record.key.as_deref())),
        "the firing and the end of an alert stay in order"
    );
    assert_eq!(sorted(values), sorted(rows()));
}

#[test]
fn evt_view_shows_what_a_person_asks_of_an_alert() {
    let dir = alerts("alerts-view");
    let table = dir.run("evt-view", &["alerts.jsonl", "-q"]).succeeds().text();
    for shown in ["severity", "summary", "group gone", "critical"] {
        assert!(table.contains(shown), "{shown}: {table}");
    }
    let chosen = ["alerts.jsonl", "-q", "-o", "jsonl", "--columns", "state,country,labels.team"];
    let found = dir.run("evt-view", &chosen).succeeds().rows();
    assert_eq!(found[1], json!({"state": "resolved", "country": "DE", "labels.team": "shop, \"2\""}));
    let firing = ["alerts.jsonl", "-q", "-o", "jsonl", "--where", "state = 'firing' and value > 1"];
    let found = dir.run("evt-view", &firing).succeeds().rows();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["dimensions"], json!({"country": "FR"}));
}

/// A stream of an older version has six columns.
#[test]
fn alerts_of_an_older_version_are_shown_as_before_and_completed_in_a_store() {
    let dir = Dir::new("alerts-older");
    let older = format!("{ROOT}/testdata/frame/valid/alert.frames");
    dir.run("evt-sink", &[&older, "-q", "--to", "old.jsonl", "--to", "sqlite:old.db", "--to", "parquet:lake"])
        .succeeds();
    let before = json!({
        "rule": "errors", "state": "firing", "value": 0.25, "window_start": "2026-01-05T10:00:00.000000Z",
        "window_end": "2026-01-05T10:05:00.000000Z", "since": "2026-01-05T10:05:00.000000Z",
    });
    assert_eq!(dir.rows("old.jsonl"), std::slice::from_ref(&before));
    let rule = rule_id("errors");
    let since = parse_instant("2026-01-05T10:05:00Z").expect("an instant");
    let mut completed = before.as_object().expect("an object").clone();
    let added = json!({
        "alert_id": alert_id(rule, "{}", since).to_string(), "rule_id": rule.to_string(), "dimensions": {},
        "severity": "unknown", "reason": "condition", "at": "2026-01-05T10:05:00.000000Z", "labels": {}, "summary": "",
        "caught_up": false,
    });
    completed.extend(added.as_object().expect("an object").clone());
    for place in ["sqlite:old.db?table=alerts", "parquet:lake"] {
        let read = dir.run("evt-view", &[place, "-q", "-o", "jsonl"]).succeeds().rows();
        assert_eq!(read, [Value::Object(completed.clone())], "{place}");
    }
    dir.run("evt-sink", &["old.jsonl", "-q", "--to", "sqlite:old.db"]).succeeds();
    let count: i64 = Connection::open(dir.path("old.db"))
        .and_then(|db| db.query_row("SELECT count(*) FROM alerts", [], |row| row.get(0)))
        .expect("a row");
    assert_eq!(count, 1, "the same row, read as JSON, has the same key");
}

/// A run that is killed between the write of a row and its confirmation: the state still has the row.
#[test]
fn a_row_that_a_killed_run_had_written_comes_again_with_the_same_alert_id_and_state() {
    let dir = Dir::new("alert-repeated");
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 5, "window_seconds": 10, "keep_firing_for": 0}))]));
    dir.write("in.jsonl", lines(&[series(0.0, 30.0, 1.0, &json!({})), series(90.0, 91.0, 1.0, &json!({}))]));
    let flags = ["-q", "--state", "alerts.db", "--to", "out.jsonl", "--to", "sqlite:out.db", "in.jsonl"];
    once(&dir, &flags).ends_with(1);
    let written = dir.rows("out.jsonl");
    assert_eq!(written.len(), 2, "{written:?}");
    // A run that was not killed leaves nothing to repeat.
    once(&dir, &flags).succeeds();
    assert_eq!(dir.rows("out.jsonl"), written);
    let state = Connection::open(dir.path("alerts.db")).expect("it opens");
    for row in String::from_utf8(dir.bytes("out.jsonl")).expect("text").lines() {
        state.execute("INSERT INTO unconfirmed (alert) VALUES (?1)", [row]).expect("a table");
    }
    drop(state);
    let again = ["-q", "--state", "alerts.db", "--to", "-", "--to", "out.jsonl", "--to", "sqlite:out.db", "in.jsonl"];
    let to_stdout = once(&dir, &again).succeeds();
    assert_eq!(to_stdout.rows(), written);
    assert_eq!(dir.rows("out.jsonl"), [&written[..], &written].concat(), "a repeated row is equal to the first one");
    let key = |row: &Value| (row["alert_id"].to_string(), row["state"].to_string());
    let kept: BTreeMap<_, _> = dir.rows("out.jsonl").iter().map(|row| (key(row), row.clone())).collect();
    assert_eq!(kept.len(), written.len());
    let stored = dir.run("evt-view", &["sqlite:out.db?table=alerts", "-q", "-o", "jsonl"]).succeeds().rows();
    assert_eq!(sorted(stored), sorted(written));
}
