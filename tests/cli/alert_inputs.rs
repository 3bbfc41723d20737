//! evt-alert: where rows and rules come from, and what a killed run leaves.

use crate::alert::{at, event, lines, once, rule, rules, series, transitions};
use crate::broker::Bench;
use crate::harness::{Dir, ROOT, eventually};
use crate::kafka::record;
use crate::servers::postgres;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;

/// One dead letter as a line.
fn letter(seconds: f64, offset: usize) -> (f64, String) {
    let letter = json!({
        "original_payload": "{", "error_type": "ParseError", "error_message": "test", "stage": "evt-ingest",
        "source_topic": "events", "partition": "0", "offset": offset, "failed_at": at(seconds), "producer_host": "h",
        "attempts": 1,
    });
    (seconds, format!("{letter}\n"))
}

#[test]
fn dead_letters_are_a_share_of_the_events_of_another_input() {
    let dir = Dir::new("alert-letters");
    dir.write("events.jsonl", lines(&[series(0.0, 900.0, 0.1, &json!({}))]));
    dir.write("dead.jsonl", lines(&[(0..300).map(|n| letter(400.0 + n as f64, n)).collect()]));
    let fields = json!({"input": "dead", "share_of": "event", "threshold": 0.01, "window_seconds": 300, "for": "1m"});
    dir.write("rules.json", rules(&[rule(&fields)]));
    for inputs in [["events.jsonl", "dead.jsonl"], ["dead.jsonl", "events.jsonl"]] {
        let run = once(&dir, &inputs).ends_with(1);
        let wanted = ["r firing condition at 490 since 430"];
        assert_eq!(transitions(&run.rows())[..1], wanted, "{run}");
    }
    // Metrics are an input too; their time is the end of the window.
    dir.shell("evt-ingest events.jsonl -q | evt-window --size 1m --late null: -q -o jsonl > metrics.jsonl").succeeds();
    let value = rule(&json!({"input": "metric", "aggregate": "max(value)", "threshold": 599, "window_seconds": 60}));
    dir.write("rules.json", rules(&[value]));
    let run = once(&dir, &["metrics.jsonl"]).ends_with(1);
    assert_eq!(run.rows()[0]["value"], json!(600.0), "{run}");
}

#[test]
fn a_file_is_known_by_its_content() {
    let dir = Dir::new("alert-known");
    let all = lines(&[series(0.0, 2000.0, 1.0, &json!({}))]);
    let half = all.match_indices('\n').nth(999).expect("many lines").0 + 1;
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let stats = |args: &[&str]| -> Value {
        let mut all = vec!["--state", "alerts.db", "--stats", "stats.json"];
        all.extend(args);
        let run = once(&dir, &all).succeeds();
        let mut stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        stats["stderr"] = run.stderr().into();
        stats
    };
    let counts =
        |stats: &Value| ["in", "out", "duplicate", "late"].map(|name| stats["counts"][name].as_u64().unwrap_or(9));
    dir.write("a.jsonl", &all[..half]);
    assert_eq!(counts(&stats(&["a.jsonl"])), [1000, 1000, 0, 0]);
    // It grew: only the new lines are evaluated.
    dir.write("a.jsonl", &all);
    assert_eq!(counts(&stats(&["a.jsonl"])), [2000, 1000, 1000, 0]);
    // Renamed and compressed it is the same file.
    dir.shell("gzip -c a.jsonl > b.jsonl.gz").succeeds();
    let found = stats(&["b.jsonl.gz"]);
    assert_eq!(counts(&found), [2000, 0, 2000, 0]);
    assert!(found["stderr"].as_str().is_some_and(|text| text.contains("the same content as a.jsonl")), "{found}");
    // Rows of other kinds have no offsets, and are known by their number.
    dir.shell("evt-ingest a.jsonl -q | evt-window --size 1m --late null: -q -o jsonl > all.jsonl").succeeds();
    let metrics = String::from_utf8(dir.bytes("all.jsonl")).expect("text");
    let part: String = metrics.lines().take(20).map(|line| format!("{line}\n")).collect();
    let metric = rule(&json!({"input": "metric", "aggregate": "max(value)", "threshold": 1000, "window_seconds": 60}));
    dir.write("metric.json", rules(&[metric]));
    let read_metrics = |text: &str| {
        dir.write("m.jsonl", text);
        let args = ["--once", "--rules", "metric.json", "--state", "m.db", "--stats", "stats.json", "m.jsonl"];
        dir.run("evt-alert", &args).succeeds();
        counts(&serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON"))
    };
    assert_eq!(read_metrics(&part), [20, 20, 0, 0]);
    assert_eq!(read_metrics(&metrics), [34, 14, 20, 0]);
    // Another content under the same name is a new file; its rows are behind the clock.
    dir.write("a.jsonl", lines(&[series(0.5, 1500.5, 1.0, &json!({"n": 1}))]));
    let found = stats(&["a.jsonl"]);
    assert_eq!(counts(&found), [1500, 0, 0, 1500]);
    assert!(found["stderr"].as_str().is_some_and(|text| text.contains("1500 rows behind the alert clock")), "{found}");
    // A file that was cut has lost rows.
    let cut: String = lines(&[series(0.5, 500.5, 1.0, &json!({"n": 1}))]);
    dir.write("a.jsonl", cut);
    let run = once(&dir, &["--state", "alerts.db", "a.jsonl"]).ends_with(65);
    assert!(run.stderr().contains("which an earlier run has read"), "{run}");
}

#[test]
fn rules_of_a_table_are_read_again_while_events_arrive() {
    let dir = Dir::new("alert-table");
    let db = Connection::open(dir.path("rules.db")).expect("it opens");
    db.execute_batch(
        "CREATE TABLE alert_rules (rule_id TEXT PRIMARY KEY, name TEXT, metric_name TEXT, condition TEXT, threshold REAL,
             window_seconds INTEGER, notification_channel TEXT, enabled INTEGER, created_at TEXT, updated_at TEXT, definition TEXT);
         INSERT INTO alert_rules VALUES ('5a04d119-aec2-5255-979e-7c1ab7bc2ec7', 'views', 'views', 'GREATER_THAN', 5, 10, NULL, 1,
             '2026-01-01', '2026-01-01', '{\"severity\": \"critical\", \"keep_firing_for\": 600}')",
    )
    .expect("a table");
    dir.write("metrics.toml", "[[metric]]\nname = 'views'\nsize = '1h'\n");
    let args = [
        "-f",
        "jsonl",
        "-q",
        "--rules",
        "sqlite:rules.db?table=alert_rules",
        "-m",
        "metrics.toml",
        "--refresh",
        "1s",
        "--state",
        "alerts.db",
        "--to",
        "out.jsonl",
    ];
    let mut child = dir.command("evt-alert", &args).stdin(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut now = 0;
    let mut give = |count: i32| {
        let text: String = (now..now + count).map(|second| event(f64::from(second), &json!({}))).collect();
        now += count;
        stdin.write_all(text.as_bytes()).expect("it reads");
    };
    let written = |text: &str| std::fs::read_to_string(dir.path("out.jsonl")).is_ok_and(|rows| rows.contains(text));
    give(60);
    eventually("the rule fires", || written("\"firing\""));
    db.execute_batch("UPDATE alert_rules SET enabled = 0").expect("it is updated");
    eventually("the disabled rule is resolved", || written("\"disabled\""));
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
    let rows = dir.rows("out.jsonl");
    assert_eq!(transitions(&rows)[0], "views firing condition at 10 since 10");
    assert_eq!(
        (&rows[0]["severity"], &rows[0]["rule_id"]),
        (&json!("critical"), &json!("5a04d119-aec2-5255-979e-7c1ab7bc2ec7"))
    );
    assert_eq!((rows.len(), &rows[1]["alert_id"]), (2, &rows[0]["alert_id"]));
    let state = Connection::open(dir.path("alerts.db")).expect("it is a database");
    let edits: Vec<String> = state
        .prepare("SELECT change FROM rule_edits ORDER BY id")
        .and_then(|mut rows| rows.query_map([], |row| row.get(0))?.collect())
        .expect("it has edits");
    assert_eq!(edits, ["added", "changed"]);
    // The first instant that each edit decides: that of the first row makes groups known.
    let from: Vec<Option<String>> = state
        .prepare("SELECT effective_from FROM rule_edits ORDER BY id")
        .and_then(|mut rows| rows.query_map([], |row| row.get(0))?.collect())
        .expect("it has edits");
    let from: Vec<Option<&str>> = from.iter().map(Option::as_deref).collect();
    assert_eq!(from, [Some(at(0.0).as_str()), rows[1]["at"].as_str()]);
}

#[test]
fn rules_of_postgres_are_those_of_its_table() {
    let Some((_, uri, schema)) = postgres() else { return };
    let dir = Dir::new("alert-postgres");
    let psql =
        |sql: &str| dir.run("psql", &["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql, &uri]).succeeds();
    dir.write("in.jsonl", lines(&[series(0.0, 100.0, 1.0, &json!({}))]));
    dir.shell(&format!("evt-ingest in.jsonl -q --to '{uri}?schema={schema}'")).succeeds();
    psql(&format!(
        "INSERT INTO {schema}.alert_rules (name, condition, threshold, window_seconds, definition)
         VALUES ('views', 'GREATER_THAN', 5, 10, '{{\"aggregate\": \"count(*)\"}}')"
    ));
    // The table is found by the search path of the connection.
    psql(&format!("CREATE VIEW public.{schema}_rules AS SELECT * FROM {schema}.alert_rules"));
    let table = format!("{uri}?table={schema}_rules");
    let run = dir.run("evt-alert", &["--once", "--rules", &table, "in.jsonl"]).ends_with(1);
    assert_eq!(transitions(&run.rows()), ["views firing condition at 10 since 10"]);
    psql(&format!("DROP VIEW public.{schema}_rules"));
}

#[test]
fn a_run_that_is_killed_anywhere_loses_and_repeats_no_alert() {
    let dir = Dir::new("alert-killed");
    let errors = (0..40).map(|n| 100.0 + 100.0 * f64::from(n));
    let errors: Vec<_> = errors.map(|from| series(from, from + 20.0, 1.0, &json!({"event_type": "error"}))).collect();
    let mut all = vec![series(0.0, 5000.0, 0.5, &json!({}))];
    all.extend(errors);
    let text = lines(&all);
    dir.write(
        "rules.json",
        rules(&[rule(&json!({"where": "event_type = 'error'", "threshold": 10, "window_seconds": 20}))]),
    );
    dir.write("in.jsonl", &text);
    let whole = transitions(&once(&dir, &["in.jsonl"]).ends_with(1).rows());
    assert_eq!(whole.len(), 80);
    let args = ["-q", "--rules", "rules.json", "--state", "alerts.db", "--to", "out.jsonl", "in.jsonl"];
    let count = || std::fs::read_to_string(dir.path("out.jsonl")).map_or(0, |rows| rows.lines().count());
    for kill in 1..10 {
        let mut child = dir.command("evt-alert", &args).spawn().expect("it starts");
        let before = count();
        // Killed once it has written some more, or at its end.
        eventually("it writes or ends", || {
            count() > before + kill % 3 || child.try_wait().expect("it is ours").is_some()
        });
        child.kill().and_then(|()| child.wait()).expect("it is ours");
    }
    dir.run("evt-alert", &args).succeeds();
    let rows = dir.rows("out.jsonl");
    let keys: BTreeSet<(String, String)> =
        rows.iter().map(|row| (row["alert_id"].to_string(), row["state"].to_string())).collect();
    assert_eq!(keys.len(), 80, "{} rows", rows.len());
    let found: BTreeSet<String> = transitions(&rows).into_iter().collect();
    assert_eq!(found, whole.into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn a_topic_is_continued_where_the_state_says() {
    let Some(bench) = Bench::new("alert-topic") else { return };
    let (dir, topic, group) = (&bench.dir, bench.topic("t", 2, &[]), format!("{}-g", bench.prefix));
    let mut all = vec![series(0.0, 2000.0, 0.5, &json!({}))];
    all.extend((0..10).map(|n| {
        let from = 100.0 + 150.0 * f64::from(n);
        series(from, from + 30.0, 1.0, &json!({"event_type": "error"}))
    }));
    let text = lines(&all);
    let values: Vec<&str> = text.lines().collect();
    bench.produce(values.iter().enumerate().map(|(n, value)| record(&topic, (n % 2) as i32, value)));
    dir.write(
        "rules.json",
        rules(&[rule(&json!({"where": "event_type = 'error'", "threshold": 10, "window_seconds": 20}))]),
    );
    let bounded = bench.uri(&topic, "?end=latest");
    let run = once(dir, &[&bounded]).ends_with(1);
    let whole = transitions(&run.rows());
    assert_eq!(whole.len(), 20, "{run}");
    let from = bench.uri(&topic, &format!("?group={group}&rdkafka.auto.commit.interval.ms=100"));
    let args = ["-q", "--rules", "rules.json", "--state", "alerts.db", "--to", "out.jsonl", &from];
    let count = || std::fs::read_to_string(dir.path("out.jsonl")).map_or(0, |rows| rows.lines().count());
    let mut first = dir.command("evt-alert", &args).spawn().expect("it starts");
    eventually("it fires", || count() > 3);
    first.kill().and_then(|()| first.wait()).expect("it runs");
    let second = bench.start("evt-alert", &args);
    eventually("everything is evaluated", || {
        let rows = std::fs::read_to_string(dir.path("out.jsonl")).unwrap_or_default();
        rows.matches("\"resolved\"").count() >= 10
    });
    // The group shows how far the run is.
    let committed = || bench.committed(&group, &topic, 2).iter().filter_map(|(offset, _)| *offset).sum::<i64>();
    eventually("the offsets are committed", || committed() == values.len() as i64);
    crate::broker::stopped(second);
    let found: BTreeSet<String> = transitions(&dir.rows("out.jsonl")).into_iter().collect();
    assert_eq!(found, whole.into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn an_event_in_a_partition_with_few_records_fires_without_waiting_for_more() {
    let Some(bench) = Bench::new("alert-few") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 1, &[]));
    // Without server_timestamp there is no arrival that --max-future could compare the event time with.
    let value = |second: u32| {
        let kind = if second == 20 { "error" } else { "view" };
        json!({"source": "web", "event_type": kind, "client_timestamp": at(f64::from(second))}).to_string()
    };
    let values: Vec<String> = (0..=20).map(value).collect();
    bench.produce(values.iter().map(|value| record(&topic, 0, value)));
    let fields = json!({"where": "event_type = 'error'", "condition": "gt", "threshold": 0, "window_seconds": 5});
    dir.write("rules.json", rules(&[rule(&fields)]));
    let from = bench.uri(&topic, "");
    let args = ["-q", "--rules", "rules.json", "--time", "client_timestamp", "--to", "out.jsonl", &from];
    let mut run = dir.command("evt-alert", &args).spawn().expect("it starts");
    eventually("it fires", || std::fs::read_to_string(dir.path("out.jsonl")).is_ok_and(|rows| rows.contains("firing")));
    run.kill().and_then(|()| run.wait()).expect("it runs");
}

/// The last records of a pipe wait for others that `--max-future` compares them with; the clock must not pass them.
#[test]
fn the_last_rows_of_a_pipe_that_falls_quiet_are_evaluated() {
    let dir = Dir::new("alert-quiet");
    let value = |second: u32| {
        let kind = if second >= 150 { "error" } else { "view" };
        json!({"event_type": kind, "client_timestamp": at(f64::from(second))}).to_string() + "\n"
    };
    let many = json!({"name": "many", "where": "event_type = 'error'", "threshold": 5, "window_seconds": 10});
    let few = json!({"name": "few", "condition": "lt", "threshold": 5, "window_seconds": 5, "keep_firing_for": "1s"});
    dir.write("rules.json", rules(&[rule(&many), rule(&few)]));
    let args = ["--rules", "rules.json", "--time", "client_timestamp", "--to", "out.jsonl"];
    let mut command = dir.command("evt-alert", &args);
    command.stdin(Stdio::piped()).stderr(std::fs::File::create(dir.path("said")).expect("writable"));
    let mut run = command.spawn().expect("it starts");
    let mut input = run.stdin.take().expect("it is piped");
    input.write_all((0..200).map(value).collect::<String>().as_bytes()).expect("it reads");
    let fired = || if dir.path("out.jsonl").exists() { dir.rows("out.jsonl") } else { vec![] };
    eventually("both fire", || fired().len() >= 2);
    let first: Vec<[Value; 3]> =
        fired().iter().map(|row| ["rule", "at", "value"].map(|name| row[name].clone())).collect();
    // The second rule fires when the pipe has been quiet for long enough, not before its last row.
    assert_eq!(first[0], ["many".into(), at(155.0).into(), json!(6.0)], "{first:?}");
    assert!(first[1][0] == "few" && first[1][1].as_str() > Some(at(199.0).as_str()), "{first:?}");
    drop(input);
    run.wait().expect("it ends");
    let said = String::from_utf8(dir.bytes("said")).expect("it is text");
    assert!(!said.contains("held until") && !said.contains("behind the alert clock"), "{said}");
}

#[test]
fn groups_beyond_the_limit_are_left_out_and_counted() {
    let dir = Dir::new("alert-limit");
    let all: Vec<_> = (0..20).map(|n| series(0.0, 100.0, 1.0, &json!({"user_id": format!("u{n:02}")}))).collect();
    dir.write("in.jsonl", lines(&all));
    dir.write("rules.json", rules(&[rule(&json!({"by": ["user_id"], "threshold": 5, "window_seconds": 10}))]));
    let run = once(&dir, &["--max-groups", "5", "in.jsonl"]).ends_with(1);
    assert_eq!(run.rows().len(), 5);
    assert!(run.stderr().contains("rule r: 1500 rows of groups beyond --max-groups were left out"), "{run}");
    assert_eq!(once(&dir, &["in.jsonl"]).ends_with(1).rows().len(), 20);
}

/// Twelve hosts, one per minute: three at most are known at once, but all are read at once.
#[test]
fn groups_that_are_not_there_at_once_are_not_beyond_the_limit_in_a_backlog_either() {
    let dir = Dir::new("alert-limit-backlog");
    let host = |n: usize| {
        let from = n as f64 * 60.0;
        series(from, from + 3.0, 1.0, &json!({"user_id": format!("h{n:02}")}))
    };
    let all = lines(&(0..12).map(host).collect::<Vec<_>>());
    let fields =
        json!({"by": ["user_id"], "condition": "ge", "threshold": 1, "window_seconds": 1, "keep_firing_for": 0});
    dir.write("rules.json", rules(&[rule(&fields)]));
    dir.write("in.jsonl", &all);
    let run = once(&dir, &["--max-groups", "3", "-f", "jsonl", "in.jsonl"]);
    assert!(!run.stderr().contains("left out"), "{run}");
    let whole = transitions(&run.rows());
    assert_eq!(whole.iter().filter(|line| line.contains("firing")).count(), 12, "{run}");
    let run = dir.shell("cat in.jsonl | evt-alert --once --rules rules.json --max-groups 3 -f jsonl");
    assert!(!run.stderr().contains("left out"), "{run}");
    assert_eq!(transitions(&run.rows()), whole, "{run}");
    // A run for each host.
    let mut parts = vec![];
    for n in 1..=12 {
        dir.write("in.jsonl", all.lines().take(3 * n).map(|line| format!("{line}\n")).collect::<String>());
        let run = once(&dir, &["--max-groups", "3", "--state", "alerts.db", "-f", "jsonl", "in.jsonl"]);
        assert!(!run.stderr().contains("left out"), "{run}");
        parts.extend(transitions(&run.rows()));
    }
    assert_eq!(parts, whole);
}

#[test]
fn a_check_names_every_rule_and_every_fault() {
    let dir = Dir::new("alert-check");
    dir.write("in.jsonl", event(0.0, &json!({})));
    let check = |rules: &str| dir.run("evt-alert", &["--check", "--rules", rules, "in.jsonl"]);
    let run = check(&format!("{ROOT}/examples/alerts/rules.toml")).succeeds();
    assert!(run.text().contains("rule silence: ready\n") && run.text().contains("in.jsonl: ready\n"), "{run}");
    dir.write("rules.json", rules(&[rule(&json!({"condition": "over"})), rule(&json!({"name": "b"}))]));
    let run = check("rules.json").ends_with(78);
    assert!(run.stderr().contains("rule r: condition: expected gt lt ge le eq ne"), "{run}");
    dir.run("evt-alert", &["in.jsonl"]).ends_with(2);
    dir.run("evt-alert", &["--rules", "redis://h", "in.jsonl"]).ends_with(2);
}

#[test]
fn half_of_a_last_line_is_not_evaluated_before_its_end() {
    let dir = Dir::new("alert-half");
    let big = r#"[{"name": "big", "aggregate": "max(n)", "condition": "ge", "threshold": 100, "window_seconds": 1}]"#;
    dir.write("rules.json", format!("{{\"rule\": {big}}}"));
    let csv = ["-f", "csv", "--header", "t,m,n", "--time", "t"];
    let logfmt = ["-f", "logfmt", "--time", "t"];
    let clf = ["-f", "clf", "--let", "n=bytes"];
    let line = |format: &str, second: u32, n: &str| match format {
        "csv" => format!("2026-11-22T00:00:{second:02}Z,\"a\nb\",{n}"),
        "logfmt" => format!("t=2026-11-22T00:00:{second:02}Z m=a n={n}"),
        _ => format!("h - - [22/Nov/2026:00:00:{second:02} +0000] \"GET / HTTP/1.1\" 200 {n}"),
    };
    for (format, flags) in [("csv", &csv[..]), ("logfmt", &logfmt[..]), ("clf", &clf[..2])] {
        if format == "clf" {
            let rule =
                rule(&json!({"aggregate": "max(bytes)", "condition": "ge", "threshold": 100, "window_seconds": 1}));
            dir.write("rules.json", rules(&[rule]));
        }
        let state = format!("{format}.db");
        let run = |text: &str| {
            dir.write("g.log", text);
            let run = once(&dir, &[flags, &["--state", &state, "--dlq", "dead.jsonl", "g.log"]].concat());
            (run.status(), run.rows().len(), run.stderr().lines().count())
        };
        let first = line(format, 1, "1") + "\n";
        let end = format!("\n{}\n{}\n", line(format, 9, "3"), line(format, 19, "4"));
        // The program that writes the log is in the middle of a text in quotes, then of 123.
        let cut = line(format, 5, "");
        let cut = &cut[..=cut.find(['\n', 'm', '[']).expect("a middle")];
        assert_eq!(run(&(first.clone() + cut)), (0, 0, 0), "{format}");
        assert_eq!(run(&(first.clone() + &line(format, 5, "1"))), (0, 0, 0), "{format}");
        let (status, rows, _) = run(&(first.clone() + &line(format, 5, "123") + &end));
        assert!(status == 1 || rows == 2, "{format}: {status}, {rows} rows");
        assert!(dir.rows("dead.jsonl").is_empty(), "{format}");
        dir.write("whole.log", first + &line(format, 5, "123"));
        once(&dir, &[flags, &["--stats", "stats.json", "whole.log"]].concat()).ends_with(1);
        assert_eq!(dir.rows("stats.json")[0]["counts"]["out"], json!(2), "without a state the last line is a record");
    }
}

#[test]
fn a_torn_last_line_is_no_dead_letter_if_its_time_is_that_of_a_flag() {
    let dir = Dir::new("alert-torn");
    dir.write("rules.json", rules(&[rule(&json!({"condition": "ge", "threshold": 1, "window_seconds": 1}))]));
    let args = ["--time", "t", "--state", "q.db", "--dlq", "dead.jsonl", "q.jsonl"];
    let start = "{\"t\":\"2026-11-22T00:00:01Z\",\"n\":1}\n{\"t\":\"2026-11-22T00:00:05Z\",\"n\":";
    dir.write("q.jsonl", start);
    once(&dir, &args);
    let rest = "2}\n{\"t\":\"2026-11-22T00:00:09Z\",\"n\":3}\n{\"t\":\"2026-11-22T00:00:19Z\",\"n\":3}\n";
    dir.write("q.jsonl", format!("{start}{rest}"));
    let run = once(&dir, &[&args[..], &["--stats", "stats.json"]].concat()).ends_with(1);
    assert!(run.text().contains("2026-11-22T00:00:05"), "{run}");
    assert!(dir.rows("dead.jsonl").is_empty());
    assert_eq!(dir.rows("stats.json")[0]["counts"]["duplicate"], json!(1));
}

#[test]
fn a_misspelled_name_of_a_rule_is_reported_once() {
    let dir = Dir::new("alert-name");
    let find = json!({"name": "b", "where": "Status >= 500", "by": ["hosst"], "condition": "ge", "threshold": 1});
    let most = json!({"name": "m", "aggregate": "max(duration)", "condition": "ge", "threshold": 1});
    dir.write("rules.json", rules(&[rule(&find), rule(&most)]));
    dir.write("m.jsonl", lines(&[series(0.0, 3.0, 1.0, &json!({"status": 500, "host": "a"}))]));
    let run = once(&dir, &["m.jsonl"]).succeeds();
    let lines = ["b: Status was", "b: hosst was", "m: duration was"]
        .map(|name| format!("rule {name} NULL in every row; check the name"));
    assert!(lines.iter().all(|line| run.stderr().contains(line)), "{run}");
    let spans = "was not evaluated: the rows read so far span less than its window of 1m";
    assert_eq!((run.stderr().matches(spans).count(), run.stderr().lines().count()), (2, 5), "{run}");
    // A later run of the same state may lack a rare field; a changed rule is looked at again.
    for count in [3, 0] {
        let run = once(&dir, &["--state", "alerts.db", "m.jsonl"]).succeeds();
        assert_eq!(run.stderr().lines().count(), count, "{run}");
    }
    let most = json!({"name": "m", "aggregate": "max(Duration)", "condition": "ge", "threshold": 1});
    dir.write("rules.json", rules(&[rule(&find), rule(&most)]));
    let text = dir.bytes("m.jsonl");
    dir.write("m.jsonl", [text, event(5.0, &json!({"status": 500})).into_bytes()].concat());
    let run = once(&dir, &["--state", "alerts.db", "m.jsonl"]).succeeds();
    assert!(run.stderr().contains("rule m: Duration was NULL") && !run.stderr().contains("rule b"), "{run}");
}

#[test]
fn rows_of_a_rotated_log_count_although_another_log_is_ahead_and_those_of_a_report_written_anew_do_not() {
    let dir = Dir::new("alert-rotated");
    dir.write("rules.json", rules(&[rule(&json!({"where": "event_type = 'error'", "window_seconds": 600}))]));
    let error = event(740.0, &json!({"event_type": "error"}));
    let new = error + &lines(&[series(750.0, 800.0, 10.0, &json!({}))]);
    let begin = |state: &str| {
        dir.write("a.log", lines(&[series(0.0, 730.0, 10.0, &json!({}))]));
        dir.write("b.log", lines(&[series(5.0, 770.0, 10.0, &json!({}))]));
        once(&dir, &["--state", state, "-f", "jsonl", "a.log", "b.log"]).succeeds();
    };
    begin("rotated.db");
    dir.shell("mv a.log a.log.1").succeeds();
    dir.write("a.log", &new);
    let run = once(&dir, &["--state", "rotated.db", "-f", "jsonl", "a.log", "a.log.1", "b.log"]).ends_with(1);
    assert_eq!(transitions(&run.rows()), ["r firing condition at 766 since 766"]);
    assert!(!run.stderr().contains("behind the alert clock"), "{run}");
    // Without the former file nothing says that its rows are others.
    begin("written.db");
    dir.write("a.log", &new);
    let run = once(&dir, &["--state", "written.db", "-f", "jsonl", "a.log", "b.log"]).succeeds();
    assert!(run.stderr().contains("1 row was not evaluated"), "{run}");
    // Nor does a pipe.
    let pipe = "cat a.log.1 a.log | evt-alert -q --once --rules rules.json --state pipe.db -f jsonl";
    dir.shell(pipe).ends_with(1);
    let run = dir.shell(pipe).ends_with(1);
    assert!(run.rows().is_empty() && run.stderr().contains("1 row was"), "{run}");
}

#[test]
fn a_row_of_the_last_second_of_a_pipe_or_a_rewritten_file_counts_once() {
    let dir = Dir::new("alert-last-second");
    let fields = json!({"where": "event_type = 'error'", "aggregate": "count(*)", "condition": "ge", "threshold": 2});
    dir.write("rules.json", rules(&[rule(&fields)]));
    let error = event(300.4, &json!({"event_type": "error"}));
    let text = lines(&[series(0.0, 300.0, 10.0, &json!({}))]) + &error;
    dir.write("in.jsonl", &text);
    let table = "sqlite:e.db?table=raw_events";
    dir.run("evt-ingest", &["-q", "in.jsonl", "--to", "sqlite:e.db"]).succeeds();
    // The first run leaves the second of the error to the next one, because it has just passed.
    let first = |state: &str, input: &str| {
        let run =
            format!("evt-alert -q --once --rules rules.json --now {} --state {state} -f jsonl {input}", at(300.7));
        dir.shell(&run).succeeds();
    };
    let second = |state: &str, input: &str| {
        dir.shell(&format!("evt-alert -q --once --rules rules.json --now {} --state {state} {input}", at(400.0)))
    };
    first("pipe.db", "< in.jsonl");
    let run = second("pipe.db", "-f jsonl < in.jsonl").succeeds();
    assert!(run.stderr().contains("1 row was not evaluated"), "{run}");
    first("file.db", "in.jsonl");
    // A report of the last rows, written anew.
    dir.write("in.jsonl", event(299.0, &json!({})) + &error + &event(302.0, &json!({})));
    let run = second("file.db", "in.jsonl").succeeds();
    assert!(run.stderr().contains("1 row was not evaluated"), "{run}");
    // The rows of a store were read from its pipe.
    first("table.db", "< in.jsonl");
    second("table.db", table).succeeds();
}
