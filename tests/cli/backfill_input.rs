//! The inputs of evt-backfill: records that are gone, late events that one run does not correct, rows of another kind,
//! and days that are read at the same time.

use crate::backfill::reads_all;
use crate::broker::Bench;
use crate::harness::{Dir, eventually};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

const METRICS: &str = r#"
[defaults]
size = "1h"
[[metric]]
name = "events"
by = ["source"]
[[metric]]
name = "total"
aggregate = "sum(amount)"
size = "2h"
slide = "1h"
[[metric]]
name = "visits"
by = ["source"]
gap = "3h"
"#;
const ALL: &str = "-m metrics.toml --out-of-orderness 30s";

/// Writes three days of events: one every ten minutes, from two sources in turn, the second with a pause of six hours
/// each day.
fn write_events(dir: &Dir) {
    let mut text = String::new();
    for at in 0..3 * 144 {
        let (day, hour, minute) = (at / 144 + 1, at % 144 / 6, at % 6 * 10);
        if at % 2 == 1 && (6..12).contains(&hour) {
            continue;
        }
        let event = json!({
            "event_id": format!("00000000-0000-4000-8000-{at:012}"), "source": if at % 2 == 0 { "web" } else { "app" }, "event_type": "sale",
            "event_time": format!("2026-01-{day:02}T{hour:02}:{minute:02}:00Z"), "amount": at,
        });
        writeln!(text, "{event}").expect("a string");
    }
    dir.write("events.jsonl", text);
    dir.write("metrics.toml", METRICS);
}

/// The stored rows in the order of their keys.
fn stored(dir: &Dir, store: &str) -> Vec<Value> {
    let sign = if store.contains('?') { '&' } else { '?' };
    let table = format!("{store}{sign}table=aggregated_metrics");
    let mut rows = dir.run("evt-view", &["-q", "-o", "jsonl", &table]).succeeds().rows();
    rows.sort_by_key(|row| row["metric_id"].to_string());
    rows
}

fn sql(dir: &Dir, statement: &str) {
    let database = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
    assert!(database.execute(statement, []).expect("it runs") > 0, "{statement}");
}

#[test]
fn results_of_days_that_a_lake_no_longer_holds_stay_and_the_others_are_corrected() {
    let dir = Dir::live("old_days");
    write_events(&dir);
    dir.shell(&format!(
        "evt-ingest -q events.jsonl --to parquet:raw; evt-window -q events.jsonl {ALL} --to sqlite:m.db"
    ))
    .succeeds();
    let right = stored(&dir, "sqlite:m.db");
    dir.shell("rm -r raw/date=2026-01-01").succeeds();
    let line = format!("evt-backfill parquet:raw --all-closed {ALL} --to sqlite:m.db");
    let said = dir.shell(&format!("{line} --dry-run")).succeeds();
    assert_eq!(said.text(), "", "{said}");
    assert!(
        said.stderr()
            .contains("stored windows count events that the input does not hold; not corrected, first total {} from"),
        "{said}"
    );
    assert!(said.stderr().contains("the input begins at events.jsonl/0@"), "{said}");
    assert!(said.stderr().contains("(if it holds all records that the live run read, use --all-records)"), "{said}");
    sql(&dir, "DELETE FROM aggregated_metrics WHERE window_start >= '2026-01-03T02' AND window_end <= '2026-01-03T09'");
    sql(
        &dir,
        "UPDATE aggregated_metrics SET value = 1 WHERE window_start >= '2026-01-02T04' AND window_end < '2026-01-02T07'",
    );
    dir.shell(&line).succeeds();
    let values = |rows: &[Value]| -> Vec<Value> {
        rows.iter().map(|row| json!([row["metric_id"], row["value"], row["rows"]])).collect()
    };
    assert_eq!(values(&stored(&dir, "sqlite:m.db")), values(&right));
}

#[test]
fn results_of_records_that_a_topic_no_longer_holds_stay_and_a_late_event_for_them_is_reported() {
    let Some(bench) = Bench::live("old_records") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 1, &[]));
    write_events(dir);
    let late = r#"{"event_id":"10000000-0000-4000-8000-000000000000","source":"web","event_type":"sale","event_time":"2026-01-01T00:05:00Z","amount":1}"#;
    dir.write("late_event.jsonl", format!("{late}\n"));
    dir.shell(&format!("evt-ingest -q events.jsonl late_event.jsonl --to '{}'", bench.uri(&topic, ""))).succeeds();
    let live = format!(
        "evt-window -q '{}' --time event_time {ALL} --late late.jsonl --to sqlite:m.db",
        bench.uri(&topic, "?end=latest")
    );
    dir.shell(&live).succeeds();
    assert_eq!(dir.rows("late.jsonl").len(), 1);
    let before = stored(dir, "sqlite:m.db");
    let line = format!(
        "evt-backfill '{}' --time event_time {ALL} --late-events late.jsonl --only events --only total --to sqlite:m.db",
        bench.uri(&format!("{topic}?start=0:200"), "")
    );
    let said = dir.shell(&format!("cp m.db whole.db; {line}")).ends_with(1);
    assert!(said.stderr().contains("stored windows count events that the input does not hold"), "{said}");
    assert_eq!(stored(dir, "sqlite:m.db"), before, "{said}");
    let whole = dir.shell(&line.replace("?start=0:200", "").replace("m.db", "whole.db")).succeeds();
    assert!(whole.stderr().contains("cells: 3 corrected"), "{whole}");
}

/// Writes events of which some are late, with the results of the live run and the late events.
fn run_with_late_events(dir: &Dir) {
    dir.write(
        "metrics.toml",
        METRICS.replace("gap = \"3h\"", "").replace("h\"", "m\"").replace("amount", "latency_ms"),
    );
    let flags = "--events 12k --seed 11 --rate 10 --late 0.02 -q";
    dir.shell(&format!("evt-gen {flags} > events.jsonl")).succeeds();
    let live = "evt-ingest -q events.jsonl --to parquet:raw --to events.frames; \
                evt-window -q -m metrics.toml --late late.jsonl --late-partial events.frames | evt-sink -q --to sqlite:live.db";
    dir.shell(live).succeeds();
    assert!(dir.rows("late.jsonl").len() > 50);
}

#[test]
fn late_events_that_a_run_does_not_correct_are_corrected_by_the_next_one() {
    let dir = Dir::live("late_scope");
    run_with_late_events(&dir);
    let line = "evt-backfill parquet:raw --all-closed -m metrics.toml --late-events late.jsonl";
    dir.shell(&format!("cp live.db right.db; {line} -q --to sqlite:right.db")).succeeds();
    let right = stored(&dir, "sqlite:right.db");
    assert_ne!(stored(&dir, "sqlite:live.db"), right, "late events change some windows");
    for part in ["--only events", "--closed-before 2026-01-01T00:10:00Z"] {
        let line = if part.starts_with("--closed") { line.replace("--all-closed ", "") } else { line.to_owned() };
        let first = dir.shell(&format!("cp live.db m.db; {line} {part} --to sqlite:m.db"));
        assert!(matches!(first.status(), 0 | 1), "{first}");
        assert_ne!(stored(&dir, "sqlite:m.db"), right, "{part} corrects some windows only");
        dir.shell("evt-backfill parquet:raw --all-closed -q -m metrics.toml --late-events late.jsonl --to sqlite:m.db")
            .succeeds();
        assert_eq!(stored(&dir, "sqlite:m.db"), right, "{part}: {first}");
    }
}

#[test]
fn a_killed_correction_of_late_events_is_resumed_when_more_late_events_have_come() {
    let dir = Dir::live("late_grown");
    run_with_late_events(&dir);
    let all = dir.rows("late.jsonl").len();
    dir.shell(&format!("head -{} late.jsonl > some.jsonl", all / 2)).succeeds();
    let args = [
        "-q",
        "-",
        "-f",
        "jsonl",
        "--origin",
        "events.jsonl",
        "-m",
        "metrics.toml",
        "--late-events",
        "some.jsonl",
        "--to",
        "sqlite:live.db",
    ];
    let mut waiting =
        dir.command("evt-backfill", &args).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let events = dir.bytes("events.jsonl");
    waiting.stdin.as_mut().expect("it is piped").write_all(&events[..events.len() / 2]).expect("it reads");
    reads_all(&waiting);
    eventually("it is in flight", || {
        let other = "evt-backfill -q events.jsonl -m metrics.toml --only events --since 2026-01-01T00:00:00Z --until 2026-01-01T03:00:00Z --to sqlite:live.db";
        dir.shell(other).status() == 75
    });
    waiting.kill().expect("it runs");
    waiting.wait().expect("it ends");
    dir.shell("cp late.jsonl some.jsonl").succeeds();
    let stdin = "evt-backfill - -f jsonl --origin events.jsonl -m metrics.toml --late-events some.jsonl --to sqlite:live.db < events.jsonl";
    let said = dir.shell(stdin).succeeds();
    assert!(said.stderr().contains("ended correction"), "{said}");
    assert!(!said.stderr().contains("cells: 0 corrected"), "{said}");
}

/// Writes events of which one is late in a store, with the late event.
fn run_with_one_late_event(store: &str) -> Dir {
    let dir = Dir::live("late_end");
    dir.write("n.toml", "[[metric]]\nname = \"n\"\nsize = \"10s\"\n");
    let event = |time: &str| format!("{{\"event_time\":\"2024-01-01T00:{time}Z\"}}\n");
    dir.write("n.jsonl", ["00:00", "00:05", "00:30", "00:01", "01:00"].map(event).concat());
    let live = "evt-window -q -m n.toml n.jsonl --out-of-orderness 5s --late late.jsonl";
    dir.shell(&format!("{live} --to {store}")).succeeds();
    dir
}

/// The positions of late events are kept in the transaction that ends a correction: behind them, the same command would
/// find no late event of it.
#[test]
fn a_correction_of_late_events_that_fails_as_it_ends_is_resumed_by_the_same_command() {
    let dir = run_with_one_late_event("sqlite:m.db");
    let line = "evt-backfill -m n.toml n.jsonl --out-of-orderness 5s --to sqlite:m.db --late-events late.jsonl";
    // This creates the tables of corrections.
    dir.shell(&line.replace("--late-events late.jsonl", "--until 2023-01-01")).succeeds();
    let run = |statement: &str| {
        let database = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
        database.execute_batch(statement).expect("it runs");
    };
    let fails = "CREATE TRIGGER fails BEFORE UPDATE ON corrections WHEN new.state = 'done'
        BEGIN SELECT RAISE(ABORT, 'it fails as it ends'); END";
    run(fails);
    assert_ne!(dir.shell(line).status(), 0);
    run("DROP TRIGGER fails");
    let said = dir.shell(line).succeeds();
    assert!(said.stderr().contains("resuming correction"), "{said}");
    let said = dir.shell(line).succeeds();
    assert!(said.stderr().contains("0 corrected, 0 inserted, 0 retracted, 0 right"), "{said}");
}

/// Older versions could leave a correction in flight whose late events were behind the positions.
#[test]
fn a_correction_in_flight_whose_late_events_no_run_finds_is_ended_by_the_same_command() {
    for store in ["sqlite:m.db", "parquet:lake"] {
        let dir = run_with_one_late_event(store);
        let kill_last = || match store {
            "sqlite:m.db" => {
                let last = "started_at = (SELECT max(started_at) FROM corrections)";
                sql(&dir, &format!("UPDATE corrections SET state = 'running' WHERE {last}"));
            }
            _ => {
                let file = "lake/.evt/correct/corrections.json";
                let text = String::from_utf8(dir.bytes(file)).expect("text");
                let (before, after) = text.rsplit_once("\"done\"").expect("one is done");
                dir.write(file, format!("{before}\"running\"{after}"));
            }
        };
        let other = format!("evt-backfill -q -m n.toml n.jsonl --out-of-orderness 5s --to {store}");
        let line = format!("{other} --late-events late.jsonl");
        dir.shell(&line).succeeds();
        kill_last();
        let said = dir.shell(&line.replace("-q ", "")).succeeds();
        assert!(said.stderr().contains("ended correction"), "{store}: {said}");
        dir.shell(&other).succeeds();
        // A correction of late events in a range is another one.
        let ranged = format!("{line} --until 2024-01-01T00:00:10Z");
        dir.shell(&ranged).succeeds();
        kill_last();
        dir.shell(&format!("{other} --until 2024-01-01T00:00:10Z")).ends_with(75);
        dir.shell(&line).succeeds();
        dir.shell(&format!("{other} --until 2024-01-01T00:00:10Z")).ends_with(75);
        dir.shell(&ranged).succeeds();
    }
}

/// A wrong row that waits for the end of the input is known to the killed run alone.
#[test]
fn a_resumed_correction_retracts_what_a_killed_one_has_found() {
    let event = |day: usize, source: &str| {
        let time = format!("2026-01-{day:02}T00:00:30Z");
        format!("{{\"source\":\"{source}\",\"event_type\":\"x\",\"server_timestamp\":\"{time}\"}}\n")
    };
    let right: Vec<String> = (1..=31).map(|day| event(day, "a")).collect();
    for (store, claimed, stepped) in [
        ("sqlite:m.db", "state = 'running'", "progress IS NOT NULL"),
        ("parquet:lake", "running", "progress\": *-*[0-9]"),
    ] {
        let dir = Dir::live("resumed");
        dir.write("m.toml", "[[metric]]\nname = \"n\"\nsize = \"1m\"\nby = [\"source\"]\n");
        dir.write("wrong.jsonl", event(1, "b") + &right.concat());
        dir.shell(&format!("evt-window -q -m m.toml --late null: wrong.jsonl --to {store}")).succeeds();
        let args = ["-", "-f", "jsonl", "-m", "m.toml", "--to", store];
        let mut killed =
            dir.command("evt-backfill", &args).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        for (part, is_done) in [(&right[..2], claimed), (&right[2..20], stepped)] {
            killed.stdin.as_mut().expect("it is piped").write_all(part.concat().as_bytes()).expect("it reads");
            eventually(is_done, || match store {
                "parquet:lake" => dir.run("grep", &["-rqs", is_done, "lake"]).status() == 0,
                _ => {
                    let db = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
                    let sql = format!("SELECT count(*) FROM corrections WHERE {is_done}");
                    db.query_row(&sql, [], |row| row.get::<_, i64>(0)).is_ok_and(|count| count == 1)
                }
            });
        }
        killed.kill().expect("it runs");
        killed.wait().expect("it ends");
        dir.write("right.jsonl", right.concat());
        let line = format!("evt-backfill - -f jsonl -m m.toml --to {store} < right.jsonl");
        let resumed = dir.shell(&line).succeeds();
        let said = resumed.stderr();
        assert!(said.contains("resuming correction") && said.contains("1 retracted"), "{store}: {said}");
        dir.shell(&format!("{line} --dry-run")).succeeds();
    }
}

#[test]
fn rows_that_are_no_events_are_refused_with_their_kind() {
    let dir = Dir::live("other_kind");
    write_events(&dir);
    dir.shell(&format!("evt-window -q events.jsonl {ALL} --to sqlite:m.db")).succeeds();
    let line = format!("evt-backfill 'sqlite:m.db?table=aggregated_metrics' {ALL} --to sqlite:n.db --dry-run");
    let said = dir.shell(&line).ends_with(2);
    assert!(said.stderr().contains("expected events, found rows of kind metric"), "{said}");
}

#[test]
fn days_that_are_read_at_the_same_time_give_the_same_rows() {
    let dir = Dir::live("days-at-once");
    write_events(&dir);
    dir.shell("evt-ingest -q events.jsonl --to parquet:raw --to sqlite:raw.db").succeeds();
    let without_sessions = METRICS.split("[[metric]]\nname = \"visits\"").next().expect("a metric");
    dir.write("windows.toml", without_sessions);
    let range = "--since 2026-01-01T12:00:00Z --until 2026-01-03T05:00:00Z";
    for (number, input) in ["parquet:raw", "'sqlite:raw.db?table=raw_events'"].into_iter().enumerate() {
        for (at, flags) in
            ["-m metrics.toml", "-m windows.toml", &format!("-m windows.toml {range}")].into_iter().enumerate()
        {
            let rows = [1, 2, 7].map(|threads| {
                let store = format!("sqlite:m{number}{at}{threads}.db");
                let line = format!("evt-backfill -q {input} --all-closed {flags} --threads {threads} --to {store}");
                dir.shell(&line).succeeds();
                let mut rows = stored(&dir, &store);
                rows.iter_mut().for_each(|row| row["updated_at"] = Value::Null);
                rows
            });
            assert!(rows[0].len() > 40 && rows[0] == rows[1] && rows[0] == rows[2], "{input} {flags}");
        }
    }
    let refused = dir.shell("evt-backfill parquet:raw -m metrics.toml --threads 0 --to sqlite:m.db").ends_with(2);
    assert!(refused.stderr().contains("--threads"), "{refused}");
}

#[test]
fn a_lake_of_file_records_begins_with_the_first_line() {
    let dir = Dir::live("backfill-first-line");
    let event = |second: usize, kind: &str| {
        format!(
            "{{\"source\":\"a\",\"event_type\":\"{kind}\",\"server_timestamp\":\"2026-01-01T00:00:{second:02}Z\"}}\n"
        )
    };
    dir.write("e.jsonl", (1..9).map(|n| event(n, if n % 2 == 0 { "view" } else { "click" })).collect::<String>());
    let metric = "[[metric]]\nname = \"n\"\nsize = \"1m\"\nby = [\"event_type\"]\n";
    dir.write("wrong.toml", metric);
    dir.write("right.toml", format!("{metric}where = \"event_type <> 'click'\"\n"));
    dir.shell("evt-ingest -q e.jsonl --to parquet:lake").succeeds();
    dir.shell("evt-window -q parquet:lake -m wrong.toml --to sqlite:m.db").succeeds();
    assert_eq!(stored(&dir, "sqlite:m.db").len(), 2);
    let run = dir.shell("evt-backfill parquet:lake -m right.toml --to sqlite:m.db --all-closed").succeeds();
    assert!(run.stderr().contains("1 retracted, 1 right"), "{run}");
    assert_eq!(stored(&dir, "sqlite:m.db").len(), 1);
}

#[test]
fn late_events_that_were_removed_can_be_counted_again_and_kept_cells_still_count_them() {
    let dir = Dir::live("backfill-without-late");
    let event = |second: usize| {
        format!("{{\"source\":\"a\",\"server_timestamp\":\"2026-01-01T00:{:02}:{:02}Z\"}}\n", second / 60, second % 60)
    };
    // The third line is late for the first window.
    dir.write("e.jsonl", [1, 200, 30, 300].map(event).concat());
    dir.write("m.toml", "[[metric]]\nname = \"n\"\nsize = \"1m\"\n");
    let mut stores = vec!["sqlite:m.db".to_owned()];
    stores.extend(crate::servers::postgres().map(|(uri, ..)| uri));
    for store in stores {
        let window = "evt-window -q e.jsonl -m m.toml --late late.jsonl";
        dir.shell(&format!("rm -f late.jsonl; {window} --to '{store}'")).succeeds();
        let values = |store: &str| {
            let mut rows = stored(&dir, store);
            rows.sort_by_key(|row| row["window_start"].to_string());
            rows[0]["value"].clone()
        };
        let late = format!("evt-backfill e.jsonl -m m.toml --late-events late.jsonl --to '{store}'");
        let without = format!("evt-backfill e.jsonl -m m.toml --without-late --to '{store}'");
        for _ in 0..2 {
            dir.shell(&late).succeeds();
            assert_eq!(values(&store), 2.0, "{store}");
            let run = dir.shell(&without).succeeds();
            assert!(run.stderr().contains("1 cell no longer counts late events"), "{run}");
            assert_eq!(values(&store), 1.0, "{store}");
        }
        dir.shell(&late).succeeds();
        // The first records are gone: the cell stays as it is, and so does the record of its late event.
        dir.shell("rm -rf rest; evt-ingest -q e.jsonl --where 'offset > 1' --to parquet:rest").succeeds();
        let run = dir.shell(&without.replace("e.jsonl", "parquet:rest --all-closed")).succeeds();
        assert!(run.stderr().contains("1 stored window counts events that the input does not hold"), "{run}");
        assert!(!run.stderr().contains("no longer"), "{run}");
        assert_eq!(values(&store), 2.0, "{store}");
        let run = dir.shell(&without).succeeds();
        assert!(run.stderr().contains("1 cell no longer counts late events"), "{run}");
    }
}

/// The input of a correction from cron may be the file of one day, or nothing at all: `/dev/null`, or a file that is
/// still empty.
#[test]
fn an_input_without_the_events_of_other_days_does_not_retract_their_results() {
    let dir = Dir::live("part_of_days");
    write_events(&dir);
    dir.shell(&format!("evt-window -q events.jsonl {ALL} --to sqlite:m.db")).succeeds();
    let right = stored(&dir, "sqlite:m.db");
    dir.write("empty.jsonl", "");
    let range = "--since 2026-01-01 --until 2026-01-03";
    for line in ["-f jsonl < /dev/null", "empty.jsonl", &format!("{range} -f jsonl < /dev/null")] {
        let run = dir.shell(&format!("evt-backfill -q {ALL} --to sqlite:m.db {line}")).ends_with(1);
        assert!(run.stderr().contains("the input has no events; nothing was compared"), "{run}");
        assert_eq!(stored(&dir, "sqlite:m.db"), right, "{line}");
    }
    dir.shell("grep 2026-01-02 events.jsonl > day2.jsonl").succeeds();
    let metrics = METRICS.split("[[metric]]\nname = \"visits\"").next().expect("metrics");
    dir.write("windows.toml", metrics);
    sql(
        &dir,
        "UPDATE aggregated_metrics SET value = 1 WHERE window_start LIKE '2026-01-02T05%' AND metric_name = 'events'",
    );
    let day = "evt-backfill day2.jsonl -m windows.toml --out-of-orderness 30s --to sqlite:m.db";
    let run = dir.shell(day).succeeds();
    for expected in [
        "stored rows before 2026-01-02T00:00:00.000000Z, the first event of the input, stay as they are; --since includes them",
        "stored rows after 2026-01-02T23:50:00.000000Z, the last event of the input, stay as they are; --until includes them",
    ] {
        assert!(run.stderr().contains(expected), "{run}");
    }
    let values = |rows: &[Value]| -> Vec<Value> {
        rows.iter().filter(|row| row["metric_name"] == "events").map(|row| row["value"].clone()).collect()
    };
    assert_eq!(values(&stored(&dir, "sqlite:m.db")), values(&right));
    // A range that the command names, or an input that holds everything, takes rows out.
    let of_days = |rows: &[Value]| -> Vec<usize> {
        let starts = |day: &str| {
            rows.iter().filter(|row| row["window_start"].as_str().is_some_and(|at| at.starts_with(day))).count()
        };
        ["2026-01-01", "2026-01-02", "2026-01-03"].map(starts).to_vec()
    };
    let before = of_days(&stored(&dir, "sqlite:m.db"));
    dir.shell(&format!("{day} --since 2026-01-02 --until 2026-01-05")).succeeds();
    let third_gone = of_days(&stored(&dir, "sqlite:m.db"));
    assert!(third_gone[0] == before[0] && third_gone[2] < before[2], "{before:?} {third_gone:?}");
    dir.shell(&format!("{day} --all-records")).succeeds();
    let others_gone = of_days(&stored(&dir, "sqlite:m.db"));
    assert!(others_gone[0] < third_gone[0], "{third_gone:?} {others_gone:?}");
}
