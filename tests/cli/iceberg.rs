//! Tables of Iceberg: PyIceberg reads what is written, and what it writes is read; each row is there once although runs
//! are killed and others commit meanwhile.

use crate::docs_files::of_cron;
use crate::documents::blocks;
use crate::harness::{Dir, ask, ended, python};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Events over three days, one in a hundred broken and one in a thousand late.
pub fn lines(count: i64) -> String {
    let mut text = String::new();
    for number in 0..count {
        let at = 1_704_067_200 + number * 3 * 86_400 / count - if number % 1_000 == 999 { 7_200 } else { 0 };
        let line =
            json!({"at": at, "user_id": number % 17, "n": number, "text": "é\u{1F600}".repeat((number % 3) as usize)});
        writeln!(text, "{}", if number % 100 == 50 { "broken".to_owned() } else { line.to_string() }).expect("written");
    }
    text
}

const INGEST: &str = "evt-ingest a.jsonl --time at";

fn table(dir: &Dir, python: &str, command: &str, args: &[&str]) -> crate::harness::Run {
    let root = dir.path("lake").display().to_string();
    ask(dir, python, "iceberg_table.py", &[&[command, &root], args].concat())
}

/// What PyIceberg says of a table whose rows are those of evt-view.
fn compared(dir: &Dir, python: &str, name: &str, span: [&str; 2]) -> Value {
    let [flags, filter] = span;
    dir.shell(&format!("evt-view 'iceberg:lake/?table={name}' {flags} -q -o arrow --to rows.arrow --overwrite"))
        .succeeds();
    let rows = dir.path("rows.arrow").display().to_string();
    let args = [name, &*rows, filter];
    let args = if filter.is_empty() { &args[..2] } else { &args[..] };
    serde_json::from_str(&table(dir, python, "compare", args).succeeds().text()).expect("it is JSON")
}

#[test]
fn pyiceberg_reads_every_kind_of_row_and_skips_files_of_other_days() {
    let Some(python) = python() else { return };
    let dir = Dir::new("iceberg_kinds");
    dir.write("a.jsonl", lines(6_000));
    dir.write("m.toml", "[[metric]]\nname = \"events\"\nsize = \"1h\"\nby = [\"user_id\"]\n");
    dir.write(
        "r.toml",
        "[[rule]]\nname = \"busy\"\naggregate = \"count(*)\"\ncondition = \"gt\"\nthreshold = 10\nwindow_seconds = 3600\n",
    );
    let out = "--out-of-orderness 1m";
    dir.shell(&format!("{INGEST} -q --dlq iceberg:lake/ --to iceberg:lake/")).ends_with(0);
    dir.shell(&format!(
        "{INGEST} -q --dlq null: | evt-window -m m.toml {out} -q --late iceberg:lake/ --to iceberg:lake/"
    ))
    .succeeds();
    // Late rows are not evaluated, which is exit status 1.
    dir.shell(&format!("{INGEST} -q --dlq null: | evt-alert --once --rules r.toml -q --to iceberg:lake/")).ends_with(1);
    let rows = |name: &str| compared(&dir, &python, name, ["", ""])["rows"].as_i64().expect("a number");
    assert_eq!((rows("raw_events"), rows("dead_letters"), rows("late_events")), (5_940, 60, 6));
    assert!(rows("aggregated_metrics") > 1_000 && rows("alerts") > 0);
    let one = compared(
        &dir,
        &python,
        "raw_events",
        [
            "--since 2024-01-02T06:00:00Z --until 2024-01-02T12:00:00Z",
            "event_time >= '2024-01-02T06:00:00+00:00' and event_time < '2024-01-02T12:00:00+00:00'",
        ],
    );
    assert_eq!((&one["rows"], &one["planned"]), (&json!(495), &json!(1)), "{one}");
    let progress: Vec<_> = {
        let metrics = compared(&dir, &python, "aggregated_metrics", ["", ""]);
        let properties = metrics["properties"].as_object().expect("properties").clone();
        properties.into_iter().filter(|(name, _)| name.starts_with("evt.metrics.")).collect()
    };
    let [(_, said)] = &progress[..] else { panic!("{progress:?}") };
    assert!(said.as_str().is_some_and(|said| said.contains("\"out_of_orderness\":")), "{said}");
}

#[test]
fn rows_that_pyiceberg_appends_and_removes_are_read_and_repeated_runs_store_what_is_missing() {
    let Some(python) = python() else { return };
    let dir = Dir::new("iceberg_writers");
    dir.write("a.jsonl", lines(3_000));
    let ingest = || dir.shell(&format!("{INGEST} --dlq null: --to iceberg:lake/")).succeeds().stderr();
    assert!(ingest().contains("iceberg:lake/: in 2970 inserted 2970"));
    let rows = || compared(&dir, &python, "raw_events", ["", ""])["rows"].as_i64().expect("a number");
    dir.shell("evt-view iceberg:lake/ --until 2024-01-02T00:00:00Z -q -o arrow --to day.arrow").succeeds();
    let of_day = dir.shell("evt-view day.arrow -q").rows().len() as i64;
    table(&dir, &python, "delete", &["raw_events", "event_time < '2024-01-02T06:00:00+00:00'"]).succeeds();
    let left = rows();
    assert!(of_day > 900 && left < 2_970 - of_day - 200, "{left} rows are left, {of_day} are of the day");
    let day = dir.path("day.arrow").display().to_string();
    table(&dir, &python, "append", &["raw_events", &day]).succeeds();
    assert_eq!(rows(), left + of_day);
    let said = ingest();
    let there = left + of_day;
    assert!(said.contains(&format!("inserted {} unchanged {there}", 2_970 - there)), "{said}");
    assert_eq!(rows(), 2_970);
    let before = "2024-01-01T00:00:00Z";
    let run = dir.shell(&format!("evt-view 'iceberg:lake/?as-of={before}' -q")).succeeds();
    assert_eq!(run.text(), "", "there was no row then");
}

#[test]
fn each_row_is_in_the_table_once_although_runs_are_killed_and_others_commit() {
    let Some(python) = python() else { return };
    let dir = Dir::new("iceberg_killed");
    dir.write("a.jsonl", lines(40_000));
    dir.write("m.toml", "[[metric]]\nname = \"events\"\nsize = \"1h\"\nby = [\"user_id\"]\n");
    let line = "evt-window a.jsonl --time at -m m.toml --out-of-orderness 3h -q --checkpoint state \
                --checkpoint-every 20ms --to iceberg:lake/ --to sqlite:m.db --dlq iceberg:lake/";
    let root = dir.path("lake").display().to_string();
    let oracle = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/iceberg_table.py");
    let mut other =
        dir.command(&python, &[oracle, "disturb", &root, "aggregated_metrics", "40"]).spawn().expect("Python starts");
    for seconds in ["0.3", "0.7", "0.5", "0.9", "0.6"] {
        dir.shell(&format!("timeout -s KILL {seconds} {line}; true")).succeeds();
    }
    dir.shell(line).ends_with(0);
    assert_eq!(ended("the other writer", &mut other), 0);
    let view = |uri: &str| {
        let columns = "metric_name,window_start,dimensions,value,rows,revision";
        dir.shell(&format!("evt-view '{uri}?table=aggregated_metrics' --columns {columns} -q -o csv | sort"))
            .succeeds()
            .text()
    };
    let (tables, database) = (view("iceberg:lake/"), view("sqlite:m.db"));
    assert!(tables.lines().count() > 1_000 && tables == database);
    let found = compared(&dir, &python, "aggregated_metrics", ["", ""]);
    assert_eq!(found["properties"]["disturbed"], "40");
    assert_eq!(compared(&dir, &python, "dead_letters", ["", ""])["rows"], 400);
    let left = dir.shell("find lake -name '*.new' -o -name '*.part' -o -name '*.pending'").text();
    assert_eq!(left, "");
}

#[test]
fn a_snapshot_that_is_gone_and_a_table_that_is_missing_are_named() {
    let dir = Dir::new("iceberg_gone");
    dir.write("a.jsonl", lines(200));
    dir.shell(&format!("{INGEST} -q --dlq null: --to iceberg:lake/")).succeeds();
    let said = |line: &str, status: i32| dir.shell(line).ends_with(status).stderr();
    let text = said("evt-view 'iceberg:lake/?snapshot=12'", 65);
    assert!(text.contains("no snapshot 12; the oldest one is "), "{text}");
    let text = said("evt-view 'iceberg:lake/?table=alerts'", 2);
    assert!(text.contains("there is no table alerts"), "{text}");
    let text = said("evt-view iceberg:nothing/", 2);
    assert!(text.contains("expected a warehouse with catalog.db, found none"), "{text}");
    let text = said(&format!("{INGEST} --to iceberg:lake"), 2);
    let expected =
        "expected a section [catalog.lake]; give --config a file that has it (a directory is written iceberg:lake/)";
    assert!(text.contains(expected), "{text}");
    for option in ["snapshot=1", "as-of=2024-01-01T00:00:00Z"] {
        let text = said(&format!("{INGEST} --to 'iceberg:lake/?{option}'"), 2);
        assert!(text.contains("= is an option of inputs only"), "{text}");
    }
    let text = said(&format!("{INGEST} --to 'iceberg:other/?create=no'"), 2);
    assert!(text.contains("there are no tables, and create=no allows none"), "{text}");
    assert!(!dir.path("other").exists());
    dir.shell(&format!("{INGEST} -q --dlq null: --to 'iceberg:lake/?create=no'")).succeeds();
    dir.shell("mv lake moved").succeeds();
    let text = said("evt-view iceberg:moved/", 78);
    assert!(text.contains("a warehouse cannot be moved or copied"), "{text}");
}

#[test]
fn the_lines_of_the_page_make_tables_that_pyiceberg_opens() {
    let Some(python) = python() else { return };
    let dir = Dir::new("iceberg_page");
    let [shell, script] = &blocks("man/evt.7", "ICEBERG")[..] else { panic!("two blocks") };
    dir.shell("evt-gen -q --events 2k --rate 20 --seed 7 --malformed 1% > events.jsonl").succeeds();
    dir.write("metrics.toml", "[[metric]]\nname = \"events\"\nsize = \"1m\"\n");
    let rows = dir.shell(shell).succeeds().rows();
    let counted: i64 = rows.iter().map(|row| row["rows"].as_i64().expect("a count")).sum();
    let root = dir.path("lake").display().to_string();
    let script = script.replace("/data/lake", &root).replace(">= '2026-01-05T", "< '2100-01-01T");
    let script =
        script.replace("catalog.load_table", "print(len(catalog.load_table").replace(".to_arrow()", ".to_arrow()))");
    let run = dir.run(&python, &["-c", &script]).succeeds();
    assert_eq!(run.text().trim().parse(), Ok(counted), "{run}");
    assert!(counted > 1_900);
}

/// What a correction changes is a snapshot; the one before is read as it was.
#[test]
fn a_correction_beside_commits_of_others_is_one_snapshot_and_earlier_ones_stay() {
    let Some(python) = python() else { return };
    let dir = Dir::new("iceberg_corrected");
    dir.write("a.jsonl", lines(20_000));
    let metric =
        |of: &str| format!("[[metric]]\nname = \"n\"\naggregate = \"{of}\"\nsize = \"1h\"\nby = [\"user_id\"]\n");
    dir.write("wrong.toml", metric("count(*)"));
    dir.write("right.toml", metric("sum(n)"));
    dir.shell(&format!("{INGEST} -q --dlq null: --to parquet:raw")).ends_with(0);
    let window = |file: &str, to: &str| format!("evt-window -q parquet:raw -m {file} --out-of-orderness all --to {to}");
    dir.shell(&window("wrong.toml", "iceberg:lake/")).succeeds();
    dir.shell(&window("right.toml", "sqlite:right.db")).succeeds();
    let view = |uri: &str| {
        let columns = "window_start,dimensions,value,rows";
        dir.shell(&format!("evt-view '{uri}table=aggregated_metrics' --columns {columns} -q -o csv | sort"))
            .succeeds()
            .text()
    };
    let wrong = view("iceberg:lake/?");
    let root = dir.path("lake").display().to_string();
    let oracle = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/iceberg_table.py");
    let mut other =
        dir.command(&python, &[oracle, "disturb", &root, "aggregated_metrics", "20"]).spawn().expect("Python starts");
    let correct = "evt-backfill parquet:raw -m right.toml --all-closed --to iceberg:lake/";
    for _ in 0..3 {
        dir.shell(&format!("timeout -s KILL 0.4 {correct}; true")).succeeds();
    }
    dir.shell(correct).succeeds();
    assert_eq!(ended("the other writer", &mut other), 0);
    assert!(view("iceberg:lake/?") == view("sqlite:right.db?"));
    let found = compared(&dir, &python, "aggregated_metrics", ["", ""]);
    let operations = found["operations"].as_array().expect("operations");
    assert!(operations.len() > 1 && operations[0] == "append", "{operations:?}");
    assert!(operations[1..].iter().all(|operation| operation == "overwrite"), "{operations:?}");
    let first = found["ids"][0].as_i64().expect("an id");
    assert_eq!(view(&format!("iceberg:lake/?snapshot={first}&")), wrong);
    let again = dir.shell(&format!("{correct} --dry-run")).succeeds().stderr();
    assert!(again.contains("0 would be corrected, 0 would be inserted, 0 would be retracted"), "{again}");
}

/// Upkeep beside a run that commits, both killed again and again.
#[test]
fn upkeep_beside_a_run_that_commits_loses_nothing_although_both_are_killed() {
    let Some(python) = python() else { return };
    let dir = Dir::new("iceberg_upkeep");
    dir.write("a.jsonl", lines(60_000));
    dir.write("m.toml", "[[metric]]\nname = \"events\"\nsize = \"10m\"\nby = [\"user_id\"]\n");
    let line = "evt-window a.jsonl --time at -m m.toml --out-of-orderness 3h -q --checkpoint state \
                --checkpoint-every 5ms --to iceberg:lake/ --to sqlite:m.db --dlq iceberg:lake/";
    let upkeep = "for n in $(seq 40); do for action in 'compact iceberg:lake/ --now 2100-01-01' \
                  'expire iceberg:lake/ --snapshots 0s --orphans-older-than 0s --now 2100-01-02'; do \
                  timeout -s KILL 0.$((n % 5 + 1)) evt-lake $action >/dev/null 2>>said; done; done";
    let mut other = dir.command("bash", &["-c", upkeep]).spawn().expect("it starts");
    for seconds in ["0.7", "1.1", "0.9", "1.3"] {
        dir.shell(&format!("timeout -s KILL {seconds} {line}; true")).succeeds();
    }
    // A run may miss a file of the snapshot that it compares with, which expires at once here; the next one continues.
    assert!(matches!(ended("the upkeep", &mut other), 0 | 2 | 75 | 137));
    dir.shell(line).ends_with(0);
    let view = |uri: &str| {
        let columns = "metric_name,window_start,dimensions,value,rows,revision";
        let line = format!("evt-view '{uri}?table=aggregated_metrics' --columns {columns} -q -o csv | sort");
        dir.shell(&line).succeeds().text()
    };
    let (tables, database) = (view("iceberg:lake/"), view("sqlite:m.db"));
    assert!(tables.lines().count() > 5_000 && tables == database);
    let described = |line: &str| dir.shell(line).succeeds().rows();
    described("evt-lake compact iceberg:lake/ --now 2100-01-01");
    described("evt-lake expire iceberg:lake/ --snapshots 0s --orphans-older-than 0s --now 2100-01-03");
    for table in described("evt-lake describe iceberg:lake/") {
        assert_eq!((&table["snapshots"], &table["files"]), (&json!(1), &table["days"]), "{table}");
    }
    assert!(view("iceberg:lake/") == database);
    compared(&dir, &python, "aggregated_metrics", ["", ""]);
    assert_eq!(compared(&dir, &python, "dead_letters", ["", ""])["rows"], 600);
    let again =
        described("evt-lake expire iceberg:lake/ --snapshots 0s --orphans-older-than 0s --now 2100-01-03 --dry-run");
    assert!(again.iter().all(|table| table["orphans"] == 0 && table["files"] == 0), "{again:?}");
    let said = std::fs::read_to_string(dir.path("said")).unwrap_or_default();
    // The warehouse is not there at once, and another upkeep may have its lock.
    let is_known = |line: &str| line.contains("expected a warehouse") || line.contains("another run is writing");
    assert!(said.lines().all(is_known), "{said}");
}

/// Compares events with the table of events, with dead letters beside it; returns the counts, too.
fn proven(dir: &Dir, events: &str) -> (crate::harness::Run, Value) {
    let flags = "--plus 'iceberg:lake/?table=dead_letters' --time at --stats s.json -o jsonl";
    let run = dir.shell(&format!("evt-reconcile {events} 'iceberg:lake/?table=raw_events' {flags}"));
    let stats = std::fs::read(dir.path("s.json")).expect("statistics");
    let stats: Value = serde_json::from_slice(&stats).expect("it is JSON");
    (run, stats["counts"].clone())
}

/// Rows of the first of three days are removed; what is left is proven and corrected.
#[test]
fn removed_days_are_expired_for_a_comparison_and_their_windows_stay_as_they_are() {
    let Some(python) = python() else { return };
    let dir = Dir::new("iceberg_keep");
    dir.write("a.jsonl", lines(6_000));
    dir.write("m.toml", "[[metric]]\nname = \"events\"\nsize = \"1h\"\nby = [\"user_id\"]\n");
    let out = "--out-of-orderness 1m";
    dir.shell(&format!("{INGEST} -q --dlq iceberg:lake/ --to iceberg:lake/")).ends_with(0);
    let windows = format!("{INGEST} -q --dlq null: | evt-window -m m.toml {out} -q --late late.frames");
    dir.shell(&format!("{windows} --to iceberg:lake/ --to iceberg:whole/")).succeeds();
    dir.shell("evt-lake expire iceberg:lake/ --keep 1d12h --now 2024-01-03T23:00:00Z").succeeds();
    let described = dir.shell("evt-lake describe iceberg:lake/").succeeds().rows();
    let since = |table: &str| &described.iter().find(|one| one["table"] == table).expect("a table")["kept_since"];
    let kept = "2024-01-02T00:00:00.000000Z";
    assert_eq!([since("raw_events"), since("aggregated_metrics")], [kept; 2]);
    assert_eq!(since("dead_letters"), &Value::Null, "they have failed just now");
    assert_eq!(compared(&dir, &python, "raw_events", ["", ""])["rows"], 3_960);

    let events = "'iceberg:lake/?table=raw_events'";
    let (run, counts) = proven(&dir, "a.jsonl");
    run.ends_with(0);
    assert_eq!(
        [&counts["expired"], &counts["missing"], &counts["plus"]],
        [1_980, 0, 60].map(|count| json!(count)).each_ref()
    );
    // A row that is nowhere on a day that is kept is missing still.
    dir.write("a.jsonl", lines(6_000) + "{\"at\": 1704320000, \"n\": 6000}\n");
    let (run, counts) = proven(&dir, "a.jsonl");
    run.ends_with(1);
    assert_eq!([&counts["expired"], &counts["missing"]], [1_980, 1].map(|count| json!(count)).each_ref());
    dir.write("a.jsonl", lines(6_000));

    let correct = format!("evt-backfill {events} -m m.toml {out} --to iceberg:lake/");
    let run = dir.shell(&format!("{correct} --since 2024-01-01"));
    assert!(run.stderr().contains(&*format!("keeps rows since {kept}, earlier ones have expired")), "{}", run.stderr());
    run.ends_with(2);
    dir.shell(&format!("{correct} --since 2024-01-01 --check")).ends_with(2);
    let run = dir.shell(&format!("{correct} --all-closed"));
    assert!(
        run.stderr().contains(&*format!("keeps rows since {kept}; windows that begin earlier are not corrected")),
        "{}",
        run.stderr()
    );
    assert!(run.stderr().contains("0 corrected, 0 inserted, 0 retracted"), "{}", run.stderr());
    run.ends_with(0);
    // The events of the store of metrics are there; its rows are not, and are not made again.
    let run = dir.shell(&format!("evt-backfill a.jsonl --time at -m m.toml {out} --dlq null: --to iceberg:lake/"));
    assert!(run.stderr().contains("0 corrected, 0 inserted, 0 retracted"), "{}", run.stderr());
    let late = format!("evt-backfill a.jsonl --time at -m m.toml {out} --late-events late.frames --to iceberg:lake/");
    let run = dir.shell(&late);
    assert!(
        run.stderr().contains("late events of removed days: 2; windows of events that they are in are not corrected"),
        "{}",
        run.stderr()
    );
    assert!(run.stderr().contains("4 corrected"), "{}", run.stderr());
    run.ends_with(1);
    dir.shell(&late).ends_with(0);
    let rows = |lake: &str| {
        let view = format!("evt-view 'iceberg:{lake}/?table=aggregated_metrics' --since 2024-01-02 -q -o csv");
        dir.shell(&format!("{view} --columns window_start,dimensions,rows | sort")).succeeds().text()
    };
    dir.shell(&late.replace("lake/", "whole/")).ends_with(0);
    assert!(rows("lake") == rows("whole") && rows("lake").lines().count() > 500);
    assert_eq!(
        dir.shell("evt-view 'iceberg:lake/?table=aggregated_metrics' --until 2024-01-02 -q").succeeds().text(),
        ""
    );
}

#[test]
fn the_lines_of_cron_keep_a_warehouse_in_order() {
    let dir = Dir::new("iceberg_cron");
    dir.write("a.jsonl", lines(400));
    for _ in 0..2 {
        dir.shell("head -n 200 a.jsonl > part.jsonl; tail -n 200 a.jsonl > a.new; mv a.new a.jsonl").succeeds();
        dir.shell("evt-ingest part.jsonl --time at -q --dlq null: --origin - --to iceberg:lake/").succeeds();
    }
    let described = || dir.shell("evt-lake describe iceberg:lake/").succeeds().rows().swap_remove(0);
    let before = described();
    let [block] = &blocks("man/about/evt-lake", "")[..] else { panic!("one block") };
    for line in block.lines() {
        let line = of_cron(line).replace("/var/lib/evt/lake/", "lake/");
        dir.shell(&format!("{line} > report")).succeeds();
    }
    let after = described();
    assert_eq!((&after["files"], &after["rows"]), (&after["days"], &before["rows"]), "{before} {after}");
    assert!(before["files"].as_u64() > after["files"].as_u64(), "{before} {after}");
}

#[test]
fn the_three_steps_of_the_page_are_a_lake() {
    let dir = Dir::new("iceberg_steps");
    dir.shell(&format!("ln -s {}/examples/schemas schemas", env!("CARGO_MANIFEST_DIR"))).succeeds();
    dir.write("metrics.toml", "[[metric]]\nname = \"events\"\nsize = \"1h\"\n");
    dir.shell(
        "evt-gen -q --events 4k --rate 0.05 --seed 7 --malformed 1% --invalid 1% --duplicates 1% \
         --start 2026-01-01T00:00:00Z > all.jsonl; sed 1001,1200d all.jsonl > events.jsonl",
    )
    .succeeds();
    let line = |section: &str| {
        let [block] = &blocks("man/evt-lake.7", section)[..] else { panic!("{section}: one block") };
        dir.shell(block).succeeds()
    };
    let rows = |uri: &str| {
        let mut rows: Vec<String> = dir
            .shell(&format!("evt-view 'iceberg:lake/?{uri}' -q -o jsonl"))
            .succeeds()
            .rows()
            .iter()
            .map(|row| json!([row["event_id"], row["window_start"], row["value"], row["rows"]]).to_string())
            .collect();
        rows.sort();
        rows
    };
    ["BRONZE", "SILVER", "GOLD"].into_iter().for_each(|section| drop(line(section)));
    let (bronze, silver) = (rows("namespace=bronze&table=raw_events"), rows("namespace=silver&table=raw_events"));
    assert!(silver.len() < bronze.len() - 20 && silver.len() > 3_000, "{} {}", bronze.len(), silver.len());
    let wrong = rows("namespace=gold");
    let oldest = dir.shell("evt-lake describe 'iceberg:lake/?namespace=gold'").succeeds().rows().swap_remove(0);
    // The events that were missing.
    dir.shell("sed -n 1001,1200p all.jsonl > events.jsonl").succeeds();
    let said = ["BRONZE", "SILVER", "CORRECTIONS"].map(|section| line(section).stderr());
    assert!(said[1].contains(&format!("unchanged {}", silver.len())), "{}", said[1]);
    let fresh = &blocks("man/evt-lake.7", "GOLD")[0];
    dir.shell(&fresh.replace("namespace=gold", "namespace=fresh")).succeeds();
    let right = rows("namespace=gold");
    assert!(right == rows("namespace=fresh") && right != wrong, "{}", said[2]);
    let travel = &blocks("man/evt-lake.7", "TIME TRAVEL")[0];
    let travel = travel.replace("2026-01-02T00:00:00Z", oldest["oldest_snapshot"].as_str().expect("an instant"));
    assert_eq!(dir.shell(&format!("{} -q -o jsonl", travel.trim_end())).succeeds().rows().len(), wrong.len());
    line("RETENTION");
    assert!(rows("namespace=gold") == right);
}

/// The properties of all events of a store, by their ids.
fn properties_of(dir: &Dir, uri: &str) -> BTreeMap<String, Value> {
    let rows = dir.shell(&format!("evt-view '{uri}table=raw_events' -q -o jsonl")).succeeds().rows();
    let pair = |row: &Value| (row["event_id"].as_str().expect("an id").to_owned(), row["properties"].clone());
    rows.iter().map(pair).collect()
}

/// Whether two JSON values are equal; 4 equals 4.0.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| right.get(name).is_some_and(|right| is_same(left, right)))
        }
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (left, right) => left == right,
    }
}

#[test]
fn properties_get_columns_that_other_programs_read_and_no_value_is_lost() {
    let Some(python) = python() else { return };
    let dir = Dir::new("iceberg_columns");
    dir.write("a.jsonl", lines(3_000));
    let mut later = String::new();
    for number in 0..2_000 {
        let n = if number % 7 == 0 { json!("seven") } else { json!(number) };
        let ratio = if number % 2 == 0 { json!(4) } else { json!(0.25) };
        let event = json!({"at": 1_704_067_200 + number * 60, "n": n, "ratio": ratio, "flag": number % 3 == 0, "N": 1,
                           "a.b": 2, "list": [number], "none": null, "big": "12345678901234567890"});
        writeln!(later, "{event}").expect("written");
    }
    dir.write("b.jsonl", later.replace("\"12345678901234567890\"", "12345678901234567890"));
    dir.write("c.jsonl", lines(5_000).replace("{\"", "{\"more\":1,\""));
    let ingest = |file: &str, options: &str| {
        let line =
            format!("evt-ingest {file} --time at -q --dlq null: --to sqlite:all.db --to 'iceberg:lake/{options}'");
        dir.shell(&line).succeeds();
        let again = dir.shell(&format!("evt-ingest {file} --time at --dlq null: --to 'iceberg:lake/{options}'"));
        let said = again.succeeds().stderr();
        assert!(said.contains(" unchanged ") && !said.contains("inserted") && !said.contains("conflict"), "{said}");
    };
    ingest("a.jsonl", "?columns=auto");
    let columns =
        || -> Value { serde_json::from_str(&table(&dir, &python, "columns", &["raw_events"]).text()).expect("JSON") };
    let of_n = json!(["long", 2_970, 0, 2_999]);
    assert_eq!(columns()["columns"]["n"], of_n);
    ingest("b.jsonl", "?columns=auto");
    // A table with columns keeps them; no option adds none.
    ingest("c.jsonl", "");
    dir.shell("evt-lake compact iceberg:lake/").succeeds();
    let found = columns();
    assert_eq!(found["rows"], 2_970 + 2_000 + 4_950);
    let expected = json!({"n": ["long", 2_970 + 1_714 + 4_950, 0, 4_999], "text": found["columns"]["text"], "flag": ["boolean", 2_000, false, true],
                          "ratio": ["double", 2_000, 0.25, 4.0]});
    let mut own = found["columns"].clone();
    own.as_object_mut().expect("columns").retain(|name, _| expected.get(name).is_some());
    assert_eq!(own, expected);
    assert!(["N", "a.b", "more", "list", "none"].iter().all(|name| found["columns"].get(name).is_none()), "{found}");
    let (stored, tables) = (properties_of(&dir, "sqlite:all.db?"), properties_of(&dir, "iceberg:lake/?"));
    assert_eq!(stored.len(), tables.len());
    for (id, properties) in &stored {
        assert!(is_same(properties, &tables[id]), "{properties} {}", tables[id]);
    }
    let text =
        dir.shell("evt-window a.jsonl --time at --size 1h -q --to 'iceberg:lake/?columns=auto'").ends_with(2).stderr();
    assert!(text.contains("columns=auto: expected events"), "{text}");
    let text = dir.shell("evt-view 'iceberg:lake/?columns=auto&table=raw_events'").ends_with(2).stderr();
    assert!(text.contains("columns= is an option of outputs only"), "{text}");
}

#[test]
fn columns_that_another_program_adds_meanwhile_do_not_get_the_numbers_of_those_of_a_run() {
    let Some(python) = python() else { return };
    let dir = Dir::new("iceberg_evolved");
    let mut text = String::new();
    for number in 0..20_000i64 {
        // Each thousand events have a property of their own.
        let name = format!("p{}", number / 1_000);
        writeln!(text, "{}", json!({"at": 1_704_067_200 + number, "n": number, name: number})).expect("written");
    }
    dir.write("a.jsonl", text);
    let root = dir.path("lake").display().to_string();
    let oracle = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/iceberg_table.py");
    let mut other =
        dir.command(&python, &[oracle, "evolve", &root, "raw_events", "15"]).spawn().expect("Python starts");
    let line =
        "evt-ingest a.jsonl --time at -q --checkpoint state --checkpoint-every 20ms --to 'iceberg:lake/?columns=auto'";
    for seconds in ["0.6", "0.9"] {
        dir.shell(&format!("timeout -s KILL {seconds} {line}; true")).succeeds();
    }
    dir.shell(line).succeeds();
    assert_eq!(ended("the other writer", &mut other), 0);
    let found: Value = serde_json::from_str(&table(&dir, &python, "columns", &["raw_events"]).text()).expect("JSON");
    assert_eq!(found["rows"], 20_000);
    assert_eq!(found["columns"]["n"], json!(["long", 20_000, 0, 19_999]));
    let columns = found["columns"].as_object().expect("columns");
    let of = |start: &str| columns.iter().filter(|(name, _)| name.starts_with(start)).collect::<Vec<_>>();
    assert!(of("other_").len() == 15 && of("other_").iter().all(|(_, column)| column[1] == 0), "{found}");
    for (name, column) in of("p") {
        let first = 1_000 * name[1..].parse::<i64>().expect("a number");
        assert!(column[2].as_i64() >= Some(first) && column[3].as_i64() < Some(first + 1_000), "{name} {column}");
    }
    let rows = properties_of(&dir, "iceberg:lake/?");
    assert_eq!(rows.len(), 20_000);
    for properties in rows.values() {
        let n = properties["n"].as_i64().expect("a number");
        assert_eq!(properties, &json!({"at": 1_704_067_200 + n, "n": n, format!("p{}", n / 1_000): n}));
    }
}

#[test]
fn duckdb_reads_rows_columns_of_properties_and_what_a_correction_left() {
    let Some(python) = python() else { return };
    let dir = Dir::new("iceberg_duckdb");
    dir.write("a.jsonl", lines(3_000));
    dir.write("b.jsonl", lines(4_000).replace("{\"", "{\"more\":0.5,\""));
    let metric =
        |of: &str| format!("[[metric]]\nname = \"n\"\naggregate = \"{of}\"\nsize = \"1h\"\nby = [\"user_id\"]\n");
    dir.write("wrong.toml", metric("count(*)"));
    dir.write("right.toml", metric("sum(n)"));
    for file in ["a.jsonl", "b.jsonl"] {
        let line = format!("evt-ingest {file} --time at -q --dlq iceberg:lake/ --to 'iceberg:lake/?columns=auto'");
        dir.shell(&line).succeeds();
    }
    let window =
        "evt-window -q 'iceberg:lake/?table=raw_events' -m wrong.toml --out-of-orderness all --to iceberg:lake/";
    dir.shell(window).succeeds();
    let correct = "evt-backfill -q 'iceberg:lake/?table=raw_events' -m right.toml --all-closed --to iceberg:lake/";
    dir.shell(correct).succeeds();
    let asked = |name: &str, query: &str| -> Value {
        let root = dir.path("lake").display().to_string();
        let run = ask(&dir, &python, "iceberg_duckdb.py", &[&root, name, query]).succeeds();
        serde_json::from_str(&run.text()).expect("it is JSON")
    };
    let events = asked(
        "raw_events",
        "SELECT count(*), count(DISTINCT event_id), sum(\"offset\"), sum(n), count(more), min(epoch_us(event_time)) FROM t",
    );
    let rows = dir.shell("evt-view 'iceberg:lake/?table=raw_events' -q -o jsonl").succeeds().rows();
    let sum = |value: fn(&Value) -> &Value| rows.iter().filter_map(|row| value(row).as_i64()).sum::<i64>();
    let (offsets, numbers) = (sum(|row| &row["offset"]), sum(|row| &row["properties"]["n"]));
    let more = rows.iter().filter(|row| !row["properties"]["more"].is_null()).count();
    let first = 1_704_067_200_000_000i64;
    assert_eq!(events, json!([[rows.len(), rows.len(), offsets, numbers, more, first]]));
    assert!(rows.len() == 6_930 && more == 3_960);
    assert_eq!(asked("dead_letters", "SELECT count(*), min(octet_length(original_payload)) FROM t"), json!([[70, 6]]));
    let of_view = |columns: &str| {
        let line = format!("evt-view 'iceberg:lake/?table=aggregated_metrics' --columns {columns} -q -o jsonl");
        dir.shell(&line).succeeds().rows()
    };
    let metrics = of_view("value,rows,revision");
    let total = |name: &str| metrics.iter().filter_map(|row| row[name].as_f64()).sum::<f64>();
    let found = asked("aggregated_metrics", "SELECT count(*), sum(value), sum(\"rows\"), sum(revision) FROM t");
    let found = found[0].as_array().expect("a row").clone();
    let number = |at: usize| found[at].as_f64().or_else(|| found[at].as_str()?.parse().ok());
    assert_eq!(number(0), Some(metrics.len() as f64));
    for (at, name) in [(1, "value"), (2, "rows"), (3, "revision")] {
        assert!(number(at) == Some(total(name)) && total(name) > 0.0, "{name}: {found:?} {}", total(name));
    }
}
