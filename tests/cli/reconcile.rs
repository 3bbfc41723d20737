//! evt-reconcile on files and local stores: planted faults are found exactly and named, and the healthy twin is silent.

use crate::harness::{Dir, Draws, ROOT, Run, ask, data, eventually, listens, python, status};
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

/// A file of 5,000 events, some malformed or duplicate, its rows in several stores, and its dead letters.
fn pipeline(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.shell(
        "evt-gen --events 5k --malformed 0.01 --duplicates 0.01 --seed 11 --rate 10 -q > events.jsonl \
         && evt-ingest -q events.jsonl --dlq dead.jsonl --to rows.frames \
         && evt-sink -q rows.frames --to sqlite:events.db --to parquet:lake --to rows.jsonl --to rows.parquet",
    )
    .succeeds();
    dir
}

pub fn reconcile(dir: &Dir, args: &[&str]) -> Run {
    dir.run("evt-reconcile", args).stays_calm()
}

/// Asserts that nothing is wrong, and that `-q` is silent.
#[track_caller]
pub fn is_right(dir: &Dir, args: &[&str]) {
    let quiet = reconcile(dir, &[args, &["-q"]].concat()).succeeds();
    assert!(quiet.stdout().is_empty() && quiet.stderr().is_empty(), "{quiet}");
    let said = reconcile(dir, args).succeeds();
    assert!(said.stderr().contains("are accounted for"), "{said}");
}

/// Writes the lines of `from` that `keep` keeps or changes to `to`.
fn edit(dir: &Dir, from: &str, to: &str, mut change: impl FnMut(Value) -> Vec<Value>) {
    let mut out = String::new();
    for row in dir.rows(from) {
        change(row).iter().for_each(|row| writeln!(out, "{row}").expect("text"));
    }
    dir.write(to, out);
}

fn offset(row: &Value) -> i64 {
    row["offset"].as_i64().expect("an offset")
}

/// The rows that have a fault.
fn faulty(run: &Run) -> Vec<Value> {
    let is_faulty = |row: &Value| ["missing", "extra", "double"].iter().any(|name| row[*name] != 0);
    run.rows().into_iter().filter(is_faulty).collect()
}

pub fn verdicts(run: &Run) -> Vec<(String, i64)> {
    run.rows().iter().map(|row| (row["verdict"].as_str().expect("text").to_owned(), offset(row))).collect()
}

#[test]
fn every_record_is_in_each_store_or_among_the_dead() {
    let dir = pipeline("reconcile-right");
    for b in ["sqlite:events.db?table=raw_events", "parquet:lake", "rows.jsonl", "rows.parquet", "rows.frames"] {
        is_right(&dir, &["events.jsonl", b, "--plus", "dead.jsonl"]);
        is_right(&dir, &["events.jsonl", b, "--plus", "dead.jsonl", "--ids"]);
        is_right(&dir, &["events.jsonl", b, "--plus", "dead.jsonl", "--bucket", "1m", "--by", "position"]);
        // Stamped rows keep their positions, so any two of the stores can be compared.
        is_right(&dir, &["parquet:lake", b, "--ids"]);
    }
    let rows = reconcile(&dir, &["events.jsonl", "rows.jsonl", "--plus", "dead.jsonl"]).succeeds().rows();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    let units = dir.bytes("events.jsonl").iter().filter(|byte| **byte == b'\n').count();
    let (b, plus) = (dir.rows("rows.jsonl").len(), dir.rows("dead.jsonl").len());
    assert!(plus > 10 && row["a"] == units && row["b"] == b && row["plus"] == plus && units == b + plus, "{row}");
    assert!(row["origin"] == "events.jsonl" && row["partition"] == "0", "{row}");
    let table = reconcile(&dir, &["events.jsonl", "rows.jsonl", "--plus", "dead.jsonl", "-o", "table"]).succeeds();
    assert!(table.text().contains("origin") && table.text().contains("missing"), "{table}");
}

#[test]
fn what_is_missing_is_named_by_partition_offsets_and_time() {
    let dir = pipeline("reconcile-missing");
    // Letters among the dropped lines would be in plus: no fault, but not in the range either.
    let dropped: Vec<Value> =
        dir.rows("rows.jsonl").into_iter().filter(|row| (1200..1700).contains(&offset(row))).collect();
    edit(&dir, "rows.jsonl", "less.jsonl", |row| if dropped.contains(&row) { vec![] } else { vec![row] });
    let run = reconcile(&dir, &["events.jsonl", "less.jsonl", "--plus", "dead.jsonl"]).ends_with(1);
    let found = faulty(&run);
    let missing: u64 = found.iter().filter_map(|row| row["missing"].as_u64()).sum();
    assert_eq!(missing, dropped.len() as u64, "{run}");
    let (first, last) = (offset(&dropped[0]), offset(&dropped[dropped.len() - 1]));
    assert_eq!((found[0]["from"].as_i64(), found[found.len() - 1]["to"].as_i64()), (Some(first), Some(last)), "{run}");
    let since = dropped.iter().take_while(|row| offset(row) <= found[0]["to"].as_i64().expect("an offset"));
    let since = since.map(|row| row["event_time"].as_str().expect("a time")).min().expect("rows");
    assert_eq!(found[0]["since"].as_str(), Some(since), "{run}");
    let line = run.stderr();
    let place = format!("events.jsonl/0@{first} to ");
    assert!(line.contains(&format!("{missing} missing of ")) && line.contains(&place), "{run}");
    assert!(line.contains(&format!(" since {since}")), "{run}");
    // The letters are needed, too.
    let letters = dir.rows("dead.jsonl").len() as u64;
    let run = reconcile(&dir, &["events.jsonl", "rows.jsonl", "-q"]).ends_with(1);
    assert_eq!(faulty(&run).iter().filter_map(|row| row["missing"].as_u64()).sum::<u64>(), letters, "{run}");
    // A tolerance accepts a share.
    let args = ["events.jsonl", "less.jsonl", "--plus", "dead.jsonl", "-q", "--tolerance"];
    assert!(reconcile(&dir, &[&args[..], &["11%"]].concat()).succeeds().stdout().is_empty());
    reconcile(&dir, &[&args[..], &["0.01"]].concat()).ends_with(1);
}

#[test]
fn ids_name_each_event_that_is_missing_extra_double_or_different() {
    let dir = pipeline("reconcile-ids");
    let other: Value = "00000000-0000-4000-8000-00000000000f".into();
    // The first rows that exist at or after these offsets: letters leave gaps.
    let at: Vec<i64> = dir.rows("rows.jsonl").iter().map(offset).filter(|offset| offset % 700 == 5).collect();
    let [missing, double, changed, extra, ..] = at[..] else { panic!("{at:?}") };
    edit(&dir, "rows.jsonl", "b.jsonl", |mut row| match offset(&row) {
        at if at == missing => vec![],
        at if at == double => vec![row.clone(), row],
        at if at == changed => {
            row["properties"]["planted"] = 1.into();
            vec![row]
        }
        at if at == extra => {
            // By event_id, a row whose id A does not have.
            let mut added = row.clone();
            added["event_id"] = other.clone();
            added["offset"] = 999_999.into();
            vec![row, added]
        }
        _ => vec![row],
    });
    let args = ["events.jsonl", "b.jsonl", "--plus", "dead.jsonl", "--ids", "-q"];
    let run = reconcile(&dir, &args).ends_with(1);
    let expected = [("missing", missing), ("double", double), ("different", changed)];
    assert_eq!(verdicts(&run), expected.map(|(verdict, offset)| (verdict.to_owned(), offset)), "{run}");
    let ids: Vec<Value> = dir.rows("rows.jsonl");
    for row in run.rows() {
        let original = ids.iter().find(|one| offset(one) == offset(&row)).expect("its row");
        assert_eq!([&row["event_id"], &row["event_time"]], [&original["event_id"], &original["event_time"]]);
        assert!(row["origin"] == "events.jsonl" && row["partition"] == "0", "{row}");
    }
    let by_id = reconcile(&dir, &[&args[..], &["--by", "id"]].concat()).ends_with(1);
    let found = verdicts(&by_id);
    assert!(found.contains(&("extra".to_owned(), 999_999)), "{by_id}");
    for one in [("missing", missing), ("different", changed)] {
        assert!(found.contains(&(one.0.to_owned(), one.1)), "{by_id}");
    }
}

#[test]
fn bytes_changed_in_the_store_are_different() {
    let dir = pipeline("reconcile-changed");
    let b = "sqlite:events.db?table=raw_events";
    let row = &dir.rows("rows.jsonl")[1234];
    let db = rusqlite::Connection::open(dir.path("events.db")).expect("a database");
    let change = |sql: &str| db.execute(sql, [offset(row)]).expect("a change");
    let args = ["events.jsonl", b, "--plus", "dead.jsonl", "--ids", "-q"];
    assert_eq!(change("UPDATE raw_events SET properties = ' ' || properties WHERE \"offset\" = ?1"), 1);
    reconcile(&dir, &args).succeeds();
    assert_eq!(change("UPDATE raw_events SET source = source || '?' WHERE \"offset\" = ?1"), 1);
    let run = reconcile(&dir, &args).ends_with(1);
    assert_eq!(verdicts(&run), [("different".to_owned(), offset(row))], "{run}");
    // Without --ids contents are not compared.
    reconcile(&dir, &["events.jsonl", b, "--plus", "dead.jsonl"]).succeeds();
    assert_eq!(change("DELETE FROM raw_events WHERE \"offset\" = ?1"), 1);
    let run = reconcile(&dir, &args).ends_with(1);
    assert_eq!(verdicts(&run), [("missing".to_owned(), offset(row))], "{run}");
}

#[test]
fn rows_of_another_origin_match_by_id_and_repeats_are_duplicates() {
    let dir = pipeline("reconcile-by-id");
    // The same records under another name: the position in the store is not the one in A.
    dir.shell("cat events.jsonl > copy.jsonl && evt-ingest -q events.jsonl --dlq null: | evt-validate -q --dedup 1d --dlq null: --duplicates again.jsonl --to kept.jsonl").succeeds();
    let again = dir.rows("again.jsonl").len() as u64;
    assert!(again > 10, "{again} duplicates");
    // Letters match by position, so they are read under the name of the copy.
    let letters = dir.rows("dead.jsonl").len() as u64;
    edit(&dir, "dead.jsonl", "copy-dead.jsonl", |mut letter| {
        letter["source_topic"] = "copy.jsonl".into();
        vec![letter]
    });
    is_right(&dir, &["copy.jsonl", "rows.jsonl", "--plus", "copy-dead.jsonl"]);
    is_right(&dir, &["copy.jsonl", "kept.jsonl", "--plus", "copy-dead.jsonl", "--dedup"]);
    let run = reconcile(&dir, &["copy.jsonl", "kept.jsonl", "--plus", "copy-dead.jsonl", "--dedup"]).succeeds();
    let sum = |run: &Run, name: &str| run.rows().iter().filter_map(|row| row[name].as_u64()).sum::<u64>();
    assert_eq!([sum(&run, "duplicate"), sum(&run, "plus"), sum(&run, "missing")], [again, letters, 0], "{run}");
    let run = reconcile(&dir, &["copy.jsonl", "kept.jsonl", "--plus", "copy-dead.jsonl"]).ends_with(1);
    assert_eq!(sum(&run, "missing"), again, "{run}");
    // By position, duplicates are found by the event_ids of the rows in B, or in the file of duplicates.
    is_right(&dir, &["events.jsonl", "kept.jsonl", "--plus", "dead.jsonl", "--dedup", "--by", "position"]);
    is_right(&dir, &["events.jsonl", "kept.jsonl", "--plus", "dead.jsonl", "--plus", "again.jsonl"]);
    let run = reconcile(&dir, &["events.jsonl", "kept.jsonl", "--plus", "dead.jsonl"]).ends_with(1);
    assert_eq!(sum(&run, "missing"), again, "{run}");
}

#[test]
fn a_comparison_without_a_common_origin_or_id_is_a_usage_error() {
    let dir = pipeline("reconcile-neither");
    dir.shell("evt-gen --events 100 --seed 12 -q | evt-ingest -q --origin other --to other.jsonl").succeeds();
    let run = reconcile(&dir, &["events.jsonl", "other.jsonl"]).ends_with(2);
    assert!(run.stderr().contains("--origin") && run.stderr().contains("--by"), "{run}");
    reconcile(&dir, &["events.jsonl", "other.jsonl", "--by", "id"]).ends_with(1);
    // With the origin of B, A's records are those of B by position.
    dir.shell("cp events.jsonl named.jsonl").succeeds();
    is_right(&dir, &["named.jsonl", "rows.jsonl", "--plus", "dead.jsonl", "--origin", "events.jsonl"]);
    for args in [&["events.jsonl"][..], &[], &["null:", "rows.jsonl"], &["events.jsonl", "dead.jsonl"]] {
        reconcile(&dir, args).ends_with(2);
    }
    reconcile(&dir, &["events.jsonl", "none.jsonl"]).ends_with(74);
    dir.write("empty.jsonl", "");
    let run = reconcile(&dir, &["events.jsonl", "empty.jsonl"]).ends_with(1);
    assert!(run.stderr().contains("missing"), "{run}");
}

#[test]
fn times_select_what_is_judged() {
    let dir = pipeline("reconcile-times");
    let mut times: Vec<String> =
        dir.rows("rows.jsonl").iter().map(|row| row["event_time"].as_str().expect("a time").to_owned()).collect();
    times.sort_unstable();
    let [since, until] = [&times[1000], &times[2000]];
    edit(&dir, "rows.jsonl", "b.jsonl", |row| {
        let time = row["event_time"].as_str().expect("a time");
        if (since.as_str()..until.as_str()).contains(&time) { vec![] } else { vec![row] }
    });
    let dropped = (dir.rows("rows.jsonl").len() - dir.rows("b.jsonl").len()) as u64;
    let args =
        |rest: &[&str]| reconcile(&dir, &[&["events.jsonl", "b.jsonl", "--plus", "dead.jsonl"][..], rest].concat());
    let sum = |run: &Run, name: &str| run.rows().iter().filter_map(|row| row[name].as_u64()).sum::<u64>();
    let run = args(&["--since", since, "--until", until]).ends_with(1);
    assert_eq!([sum(&run, "missing"), sum(&run, "b")], [dropped, 0], "{run}");
    args(&["--until", since, "-q"]).succeeds();
    args(&["--since", until, "-q"]).succeeds();
    args(&["--now", until, "--last", "1s", "-q"]).ends_with(1);
    args(&["--now", "2030-01-01T00:00:00Z", "--last", "1h", "-q"]).succeeds();
    // Buckets are event time: those outside of the gap are whole.
    let run = args(&["--bucket", "1m"]).ends_with(1);
    assert_eq!(sum(&run, "missing"), dropped);
    for row in run.rows().iter().filter(|row| !row["bucket"].is_null() && row["missing"] != 0) {
        let bucket = row["bucket"].as_str().expect("a time");
        assert!(bucket[..16] >= since[..16] && bucket[..16] <= until[..16], "{row}");
    }
    // What has arrived since a short time ago is in flight.
    let now = ["--now", until, "--settle"];
    let run = args(&[&now[..], &["1000d"]].concat()).succeeds();
    assert_eq!([sum(&run, "in_flight"), sum(&run, "missing")], [dropped, 0], "{run}");
    let run = args(&[&now[..], &["1ms"]].concat()).ends_with(1);
    assert!(sum(&run, "missing") > 0, "{run}");
}

#[test]
fn missing_records_name_origin_if_no_row_of_b_has_theirs_although_some_are_in_plus() {
    let dir = pipeline("reconcile-other-origin");
    edit(&dir, "rows.jsonl", "b.jsonl", |mut row| {
        row["origin"] = "other".into();
        row["event_id"] = format!("ffffffff{}", &row["event_id"].as_str().expect("an id")[8..]).into();
        vec![row]
    });
    let hint = "no row of B has an origin of A (events.jsonl), and no event_id is in both; set --origin";
    let run = reconcile(&dir, &["events.jsonl", "b.jsonl"]).ends_with(2);
    assert!(run.stderr().contains(hint), "{run}");
    let run = reconcile(&dir, &["events.jsonl", "b.jsonl", "--plus", "dead.jsonl"]).ends_with(1);
    assert!(run.stderr().contains(hint), "{run}");
}

#[test]
fn rows_behind_the_end_of_a_are_not_judged() {
    let dir = pipeline("reconcile-behind");
    dir.shell("head -n 3000 events.jsonl > head && mv head events.jsonl").succeeds();
    let run = reconcile(&dir, &["events.jsonl", "rows.jsonl", "--plus", "dead.jsonl"]).succeeds();
    assert!(run.stderr().contains("not judged"), "{run}");
    let rows = run.rows();
    let [row] = rows.as_slice() else { panic!("{run}") };
    let range = row["from"].as_i64().expect("an offset")..=row["to"].as_i64().expect("an offset");
    let letters = dir.rows("dead.jsonl").iter().filter(|letter| range.contains(&offset(letter))).count();
    assert!(row["plus"] == letters && row["a"] == 3000, "{run}");
}

#[test]
fn results_of_metrics_are_compared_by_their_natural_key() {
    let dir = pipeline("reconcile-metrics");
    dir.shell(
        "evt-window -q rows.frames --size 1m --by event_type --late null: --to panes.jsonl \
         && evt-sink -q panes.jsonl --to sqlite:m.db --to parquet:metrics",
    )
    .succeeds();
    let table = "sqlite:m.db?table=aggregated_metrics";
    for [a, b] in [["panes.jsonl", table], [table, "parquet:metrics"], ["parquet:metrics", "panes.jsonl"]] {
        is_right(&dir, &[a, b]);
        is_right(&dir, &[a, b, "--ids"]);
    }
    let db = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
    let rows = dir.rows("panes.jsonl");
    let (wrong, gone) = (&rows[3], &rows[7]);
    // The id may be stored as text or as bytes.
    let by_id = |sql: &str, row: &Value| {
        let text = row["metric_id"].as_str().expect("an id");
        db.execute(sql, [text]).expect("a change") + db.execute(sql, [uuid_bytes(text)]).expect("a change")
    };
    assert_eq!(by_id("UPDATE aggregated_metrics SET value = value + 1 WHERE metric_id = ?1", wrong), 1);
    assert_eq!(by_id("DELETE FROM aggregated_metrics WHERE metric_id = ?1", gone), 1);
    let run = reconcile(&dir, &["panes.jsonl", table, "--ids", "-q"]).ends_with(1);
    let mut found: Vec<_> = run
        .rows()
        .iter()
        .map(|row| {
            (row["verdict"].clone(), row["metric_id"].clone(), row["window_start"].clone(), row["metric_name"].clone())
        })
        .collect();
    found.sort_by_key(|row| row.0.to_string());
    let of = |verdict: &str, row: &Value| {
        (Value::from(verdict), row["metric_id"].clone(), row["window_start"].clone(), row["metric_name"].clone())
    };
    assert_eq!(found, [of("different", wrong), of("missing", gone)], "{run}");
    let run = reconcile(&dir, &["panes.jsonl", table]).ends_with(1);
    assert!(run.stderr().contains("1 missing, 1 different of"), "{run}");
    reconcile(&dir, &["panes.jsonl", "rows.jsonl"]).ends_with(2);
    reconcile(&dir, &["panes.jsonl", table, "--plus", "dead.jsonl"]).ends_with(2);
}

fn uuid_bytes(text: &str) -> Vec<u8> {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    (0..16).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex")).collect()
}

#[test]
fn freshness_is_the_age_of_the_newest_window() {
    let dir = pipeline("reconcile-fresh");
    dir.shell("evt-window -q rows.frames --size 1m --by event_type --late null: --to sqlite:m.db").succeeds();
    let table = "sqlite:m.db?table=aggregated_metrics";
    let ends = dir.shell(&format!("evt-view -q '{table}' -o jsonl")).succeeds().rows();
    let newest = ends.iter().filter_map(|row| row["window_end"].as_str()).max().expect("windows");
    let args = |rest: &[&str]| reconcile(&dir, &[&["--freshness", table, "--now", newest][..], rest].concat());
    let run = args(&["--max-age", "3m"]).succeeds();
    assert!(run.rows()[0]["newest"] == newest && run.rows()[0]["seconds"] == 0.0, "{run}");
    assert!(args(&["--max-age", "3m", "-q"]).succeeds().stdout().is_empty());
    let late =
        reconcile(&dir, &["--freshness", table, "--now", "2040-01-01T00:00:00Z", "--max-age", "3m", "-q"]).ends_with(1);
    assert!(late.stderr().contains(" old, newest "), "{late}");
    let none = args(&["--only", "revenue"]).ends_with(1);
    assert!(none.stderr().contains("revenue: no row"), "{none}");
    // A window of a clock that is ahead does not hide that the others are old.
    let ahead = "UPDATE aggregated_metrics SET window_start = '2031-01-01T00:00:00.000000Z',
        window_end = '2031-01-01T00:01:00.000000Z' WHERE metric_id = (SELECT min(metric_id) FROM aggregated_metrics)";
    let changed = Connection::open(dir.path("m.db")).expect("a database").execute(ahead, []).expect("changed");
    let (rest, line) =
        (["--max-age", "3m", "-q"], "1 row is more than 5 minutes ahead of the wall clock and not counted");
    assert_eq!(changed, 1);
    assert!(args(&rest).succeeds().stderr().contains(line));
    let old = reconcile(&dir, &[&["--freshness", table, "--now", "2030-01-01T00:00:00Z"][..], &rest].concat());
    assert!(old.ends_with(1).stderr().contains(line));
    let text = args(&["-o", "prometheus", "--to", "age.prom"]).succeeds();
    assert!(text.stdout().is_empty(), "{text}");
    let written = String::from_utf8(dir.bytes("age.prom")).expect("text");
    assert!(written.contains("evt_reconcile_age_seconds{metric="), "{written}");
    let events = reconcile(&dir, &["--freshness", "sqlite:events.db?table=raw_events", "--max-age", "1h"]).succeeds();
    assert_eq!(events.rows()[0]["metric"], "events");
}

#[test]
fn a_table_of_letters_has_no_freshness_even_if_it_is_empty() {
    let dir = pipeline("reconcile-fresh-letters");
    let args = ["--freshness", "sqlite:dead.db?table=dead_letters", "--max-age", "1h"];
    let mut said = vec![];
    for statement in ["SELECT 1", "DELETE FROM dead_letters"] {
        dir.shell("rm -f dead.db; evt-sink -q dead.jsonl --to sqlite:dead.db").succeeds();
        let database = rusqlite::Connection::open(dir.path("dead.db")).expect("a database");
        database.execute_batch(statement).expect("it runs");
        said.push(reconcile(&dir, &args).ends_with(2).stderr());
    }
    assert!(said[0].contains("expected metrics or events, found rows of kind dead"), "{}", said[0]);
    assert_eq!(said[0], said[1]);
    // A table of metrics without rows is stale.
    dir.shell("evt-window -q rows.frames --size 1m --late null: --to sqlite:dead.db").succeeds();
    let database = rusqlite::Connection::open(dir.path("dead.db")).expect("a database");
    database.execute_batch("DELETE FROM aggregated_metrics").expect("it runs");
    reconcile(&dir, &["--freshness", "sqlite:dead.db?table=aggregated_metrics"]).ends_with(1);
}

#[test]
fn counts_are_written_for_prometheus_too() {
    let dir = pipeline("reconcile-prometheus");
    let args = ["events.jsonl", "rows.jsonl", "--plus", "dead.jsonl", "-q", "-o", "prometheus"];
    let text = reconcile(&dir, &args).succeeds().text();
    let value = |text: &str, name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.rsplit(' ').next().expect("a value").parse().expect("a number")
    };
    assert_eq!(value(&text, "evt_reconcile_missing_records{origin=\"events.jsonl\",partition=\"0\"}"), 0.0);
    assert_eq!(value(&text, "evt_reconcile_plus_records{"), dir.rows("dead.jsonl").len() as f64);
    assert_eq!(value(&text, "evt_reconcile_right"), 1.0);
    dir.write("r.prom", "old");
    let run = reconcile(&dir, &["events.jsonl", "rows.jsonl", "-q", "-o", "prometheus", "--to", "r.prom"]).ends_with(1);
    assert!(run.stdout().is_empty(), "{run}");
    let text = String::from_utf8(dir.bytes("r.prom")).expect("text");
    assert_eq!(value(&text, "evt_reconcile_right"), 0.0);
    reconcile(&dir, &["events.jsonl", "rows.jsonl", "--ids", "-o", "prometheus"]).ends_with(2);
}

#[test]
fn a_rejected_record_that_is_in_the_store_too_is_double() {
    let dir = Dir::new("reconcile-rejected");
    dir.write(
        "schemas/order/1.avsc",
        r#"{"type":"record","name":"order","fields":[{"name":"amount","type":"double"}]}"#,
    );
    let order = |n: usize| {
        let amount = if n % 10 == 3 { "\"n/a\"" } else { "1.5" };
        format!(
            r#"{{"event_id":"00000000-0000-4000-8000-{n:012}","source":"shop","server_timestamp":"2026-01-01T02:00:00Z","amount":{amount}}}"#
        )
    };
    dir.write("in.jsonl", (0..100).map(|n| order(n) + "\n").collect::<String>());
    dir.shell(
        "evt-validate in.jsonl --schemas schemas --subject =order --dlq dead.jsonl --to good.jsonl -q \
         && evt-sink good.jsonl --to sqlite:good.db -q && evt-sink in.jsonl --to sqlite:all.db -q",
    )
    .succeeds();
    let [good, all] = ["good", "all"].map(|name| format!("sqlite:{name}.db?table=raw_events"));
    is_right(&dir, &["in.jsonl", &good, "--plus", "dead.jsonl"]);
    // The store was filled past the validation: a replay of the letters would count these records twice.
    let run = reconcile(&dir, &["in.jsonl", &all, "--plus", "dead.jsonl"]).ends_with(1);
    assert!(run.stderr().contains("10 double of 100 records (90 in B, 10 in plus)"), "{run}");
    let run = reconcile(&dir, &["in.jsonl", &all, "--plus", "dead.jsonl", "--ids", "-q"]).ends_with(1);
    let letters = Vec::from_iter(dir.rows("dead.jsonl").iter().map(|row| ("double".to_owned(), offset(row))));
    assert_eq!(verdicts(&run), letters, "{run}");
    // By event_id the row may be that of the replay.
    is_right(&dir, &["in.jsonl", &all, "--plus", "dead.jsonl", "--by", "id"]);

    // A row that a metric cannot read is in the store as well; its letter tells nothing about the store.
    dir.shell("evt-window in.jsonl --size 1h --agg 'sum(amount)' --dlq window.jsonl --to null: -q").succeeds();
    assert_eq!(dir.rows("window.jsonl").len(), 10);
    is_right(&dir, &["in.jsonl", &all, "--plus", "window.jsonl"]);
}

#[test]
fn late_rows_have_left_on_the_way() {
    let dir = Dir::live("reconcile-late");
    dir.shell(
        "evt-gen --events 5k --late 0.05 --late-by 10m --seed 3 --rate 10 -q > events.jsonl \
         && evt-ingest -q events.jsonl --to rows.jsonl \
         && evt-window -q rows.jsonl --size 10s --late late.jsonl --to null:",
    )
    .succeeds();
    let late: Vec<i64> = dir.rows("late.jsonl").iter().map(offset).collect();
    assert!(late.len() > 50, "{} late rows", late.len());
    edit(&dir, "rows.jsonl", "counted.jsonl", |row| if late.contains(&offset(&row)) { vec![] } else { vec![row] });
    is_right(&dir, &["events.jsonl", "counted.jsonl", "--plus", "late.jsonl"]);
    let run = reconcile(&dir, &["events.jsonl", "counted.jsonl", "--ids", "-q"]).ends_with(1);
    let found: Vec<i64> = run.rows().iter().map(offset).collect();
    assert_eq!(found, late, "{run}");
}

/// A signal ends a comparison without a verdict.
#[test]
fn a_signal_ends_it_without_results() {
    let dir = pipeline("reconcile-signal");
    dir.shell("mkfifo a.fifo").succeeds();
    let mut command = dir.command("evt-reconcile", &["a.fifo", "rows.jsonl"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("it starts");
    let mut fifo = std::fs::OpenOptions::new().write(true).open(dir.path("a.fifo")).expect("it is read");
    fifo.write_all(&dir.bytes("events.jsonl")).expect("it is read");
    eventually("it handles signals", || listens(&child));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((status(output.status), output.stdout.len()), (143, 0), "{}", String::from_utf8_lossy(&output.stderr));
    drop(fifo);
}

/// The lines of the manual's crontab, with local files instead of servers: cron passes them to a shell without the
/// backslashes before %.
#[test]
fn the_lines_of_the_crontab_run_as_cron_runs_them() {
    let dir = pipeline("reconcile-cron");
    let metrics = "[[metric]]\nname = \"events_per_minute\"\nsize = \"1m\"\n";
    dir.write("m.toml", metrics);
    dir.shell("evt-window -q rows.frames -m m.toml --late null: --to metrics.db").succeeds();
    let newest = "SELECT max(window_end) FROM aggregated_metrics";
    let newest: String = Connection::open(dir.path("metrics.db"))
        .and_then(|db| db.query_row(newest, [], |row| row.get(0)))
        .expect("the end of the newest window");
    let page = std::fs::read_to_string(format!("{ROOT}/man/about/evt-reconcile")).expect("it is there");
    let (_, section) = page.split_once(".SH CRON\n").expect("the section");
    let block = section.split(".nf\n").nth(1).and_then(|rest| rest.split(".fi").next()).expect("a block");
    let lines: Vec<String> = block.lines().map(|line| line.replace("\\e", "\\").replace("\\-", "-")).collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    let example = std::fs::read_to_string(format!("{ROOT}/examples/alerts/alerts.cron")).expect("it is there");
    let example = example.lines().filter(|line| !line.starts_with('#') && line.contains("evt-reconcile"));
    let example: Vec<String> = example.map(str::to_owned).collect();
    assert_eq!(example.len(), 5, "{example:?}");
    for line in lines.into_iter().chain(example) {
        let fields: Vec<&str> = line.splitn(6, ' ').collect();
        let command = fields[5];
        assert!(!command.replace("\\%", "").contains('%'), "cron ends a command at a bare %: {line}");
        let command = command.replace("\\%", "%");
        if command.contains("--lag") {
            assert!(command.starts_with("evt-reconcile -q --lag 'kafka://"), "{line}");
            continue;
        }
        let local = command
            .replace("kafka://localhost:9092/events.dlq", "dead.jsonl")
            .replace("kafka://localhost:9092/events", "events.jsonl")
            .replace("parquet:lake/raw", "parquet:lake")
            .replace("'postgres://evt@localhost/evt?table=raw_events'", "'sqlite:events.db?table=raw_events'")
            .replace(
                "'postgres://evt@localhost/evt?table=aggregated_metrics' --only",
                &format!("metrics.db --now {newest} --only"),
            )
            .replace("'postgres://evt@localhost/evt?table=aggregated_metrics'", "parquet:lake")
            .replace("/var/lib/node_exporter/", "");
        let run = dir.shell(&local).stays_calm().succeeds();
        assert!(run.stdout().is_empty() && run.stderr().is_empty(), "{run}");
    }
}

/// Real data: an hour of GitHub, whose records are mapped, against its lake.
#[test]
fn real_records_are_read_as_evt_ingest_reads_them() {
    let Some(archive) = data("events/gharchive-2015-01-01-0.json.gz") else { return };
    let dir = Dir::new("reconcile-real");
    let map = "--time created_at --field event_id=id --field event_type=type --hash-ids --origin github";
    dir.shell(&format!("evt-ingest -q {} {map} --to parquet:lake --to rows.jsonl", archive.display())).succeeds();
    let path = archive.display().to_string();
    let mapped: Vec<&str> = map.split(' ').collect();
    is_right(&dir, &[&[path.as_str(), "parquet:lake", "--ids"][..], &mapped].concat());
    edit(&dir, "rows.jsonl", "b.jsonl", |row| if (4000..4100).contains(&offset(&row)) { vec![] } else { vec![row] });
    let run = reconcile(&dir, &[&[path.as_str(), "b.jsonl"][..], &mapped].concat()).ends_with(1);
    let found = faulty(&run);
    let [gap] = found.as_slice() else { panic!("{run}") };
    assert_eq!([&gap["from"], &gap["to"], &gap["missing"]], [4000, 4099, 100], "{run}");
    assert!(run.stderr().contains("github/0@4000 to 4099: 100 missing since 2015-01-01T00:"), "{run}");
}

/// A FULL JOIN of DuckDB finds the same events, with more rows than the sorter holds in memory.
#[test]
fn ids_equal_a_full_join() {
    let Some(python) = python() else { return };
    let dir = Dir::new("reconcile-join");
    let mut draws = Draws::new();
    let (mut a, mut b) = (String::new(), String::new());
    let mut ids: Vec<u64> = (0..4000).collect();
    for at in (1..ids.len()).rev() {
        ids.swap(at, draws.below(at as u64 + 1) as usize);
    }
    for id in ids {
        let event = |n: u64| {
            format!(
                "{{\"event_id\":\"{:08x}-0000-4000-8000-{id:012x}\",\"source\":\"s\",\"event_type\":\"t\",\
                 \"server_timestamp\":\"2024-01-15T10:{:02}:{:02}Z\",\"n\":{n}}}\n",
                (id * 2_654_435_761) % (1 << 32),
                id / 60 % 60,
                id % 60
            )
        };
        match draws.below(20) {
            0 => a.push_str(&event(1)),
            1 => b.push_str(&event(1)),
            2 => {
                a.push_str(&event(1));
                b.push_str(&event(2));
            }
            3 => {
                a.push_str(&event(1));
                b.push_str(&event(1).repeat(1 + draws.below(3) as usize));
            }
            _ => [&mut a, &mut b].into_iter().for_each(|side| side.push_str(&event(1))),
        }
    }
    dir.write("a.jsonl", a);
    dir.write("b-raw.jsonl", b);
    dir.shell("evt-ingest -q b-raw.jsonl --to b.parquet").succeeds();
    let run = reconcile(&dir, &["a.jsonl", "b.parquet", "--ids", "-q"]).ends_with(1);
    dir.write("found.jsonl", run.stdout());
    assert!(run.rows().len() > 300, "{draws}: {}", run.rows().len());
    ask(&dir, &python, "join.py", &["a.jsonl", "b.parquet", "found.jsonl"]);
}
