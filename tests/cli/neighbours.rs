//! A metric gives the rows that it gives alone, whatever stands beside it, also for events for which others fail.

use crate::harness::{Dir, Draws};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Events of an hour, some of them late; some values are of the wrong type.
fn events(draws: &mut Draws) -> String {
    let mut text = String::new();
    let mut clock = 0;
    for _ in 0..draws.below(120) {
        clock += draws.below(60);
        let second = if draws.below(5) == 0 { clock.saturating_sub(draws.below(900)) } else { clock };
        let number = |draws: &mut Draws| match draws.below(9) {
            0 => json!("many"),
            1 => Value::Null,
            _ => json!(draws.below(50)),
        };
        let (a, b, key, partition) = (number(draws), number(draws), draws.below(3), draws.below(2));
        let event = json!({"t": 1_772_323_200 + second, "a": a, "b": b, "k": format!("k{key}"), "p": partition});
        writeln!(text, "{event}").expect("a string");
    }
    text
}

/// One to six random metrics, by name.
fn metrics(draws: &mut Draws) -> BTreeMap<String, String> {
    let pick = |draws: &mut Draws, of: &[&str]| of[draws.below(of.len() as u64) as usize].to_owned();
    let one = |at: u64, draws: &mut Draws| {
        let mut text = format!("[[metric]]\nname = 'm{at}'\n");
        let aggregates =
            ["count(*)", "sum(a)", "avg(b)", "max(a)", "count(distinct k)", "ratio(a > 10)", "first(b)", "stddev(a)"];
        writeln!(text, "aggregate = '{}'", pick(draws, &aggregates)).expect("a string");
        let windows = ["size = '1m'", "size = '5m'\nslide = '1m'", "gap = '2m'", "size = '10m'\nlateness = '5m'"];
        writeln!(text, "{}", pick(draws, &windows)).expect("a string");
        let by = ["", "by = ['k']", "by = ['k', 'p']", "by = ['big=a > 20']"];
        writeln!(text, "{}", pick(draws, &by)).expect("a string");
        let filters = ["", "where = \"k = 'k1'\"", "where = 'b > 10'", "where = 'a + b < 60'"];
        writeln!(text, "{}", pick(draws, &filters)).expect("a string");
        (format!("m{at}"), text)
    };
    (0..1 + draws.below(6)).map(|at| one(at, draws)).collect()
}

/// Runs the metrics of a file; returns the rows by metric, the letters, and the counts of `--stats`.
fn outcome(dir: &Dir, spec: &str, flags: &str) -> (BTreeMap<String, Vec<String>>, Vec<Value>, Value) {
    dir.write("m.toml", spec);
    dir.write("dead.jsonl", "");
    let line = format!(
        "evt-window e.jsonl -m m.toml --time t --time-unit s --min-time 1970-01-01 --field partition=p -q --emit final -o jsonl --dlq dead.jsonl --late null: \
         --stats stats.json {flags}"
    );
    let run = dir.shell(&line).succeeds();
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in run.rows() {
        let name = row["metric_name"].as_str().expect("a name").to_owned();
        rows.entry(name).or_default().push(row.to_string());
    }
    rows.values_mut().for_each(|rows| rows.sort());
    (rows, dir.rows("dead.jsonl"), serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON"))
}

#[test]
fn each_metric_of_a_file_gives_the_rows_that_it_gives_alone() {
    let dir = Dir::new("neighbours");
    let mut draws = Draws::new();
    let mut partial = 0;
    for case in 0..60 {
        dir.write("e.jsonl", events(&mut draws));
        let metrics = metrics(&mut draws);
        let bound = ["all", "0s", "1m"][draws.below(3) as usize];
        let memory = ["", " --memory 8MiB"][draws.below(2) as usize];
        let flags = format!("--out-of-orderness {bound}{memory}");
        let (mut together, letters, stats) = outcome(&dir, &Vec::from_iter(metrics.values().cloned()).concat(), &flags);
        partial += letters.iter().filter(|letter| letter["partial"] == true).count();
        let whole = letters.iter().filter(|letter| letter["partial"] == false).count();
        assert_eq!(stats["counts"]["dead"].as_u64(), Some(whole as u64), "case {case}: {stats}");
        for (name, text) in &metrics {
            let (mut alone, own, of_one) = outcome(&dir, text, &flags);
            assert_eq!(together.remove(name), alone.remove(name), "case {case}: {name} of {metrics:?}");
            let failed = of_one["metrics"][name]["failed"].as_u64().expect("a count");
            assert_eq!(stats["metrics"][name], of_one["metrics"][name], "case {case}: {name}");
            assert!(own.len() as u64 == failed && own.iter().all(|letter| letter["partial"] == false), "case {case}");
            let names = |letter: &Value| letter["metrics"].as_str().expect("names").split(',').any(|of| of == name);
            assert_eq!(letters.iter().filter(|letter| names(letter)).count() as u64, failed, "case {case}: {name}");
        }
    }
    assert!(partial > 100, "{partial} partial letters");
}

/// The events of the README's case: one of two durations is no number.
fn two(dir: &Dir) {
    dir.write(
        "two.jsonl",
        "{\"t\":\"2026-03-01T00:00:00Z\",\"ms\":1}\n{\"t\":\"2026-03-01T00:00:01Z\",\"ms\":\"12ms\"}\n",
    );
}

const BOTH: &str = "evt-window two.jsonl --time t --size 1d --agg 'n=count(*)' --agg 'a=avg(ms)' -q";

#[test]
fn a_bad_value_of_one_metric_does_not_lower_another() {
    let dir = Dir::new("neighbours-two");
    two(&dir);
    let run = dir.shell(&format!("{BOTH} --wide -o csv --dlq dead.jsonl")).succeeds();
    assert!(run.text().ends_with(",2,1\n"), "{run}");
    let [letter] = &dir.rows("dead.jsonl")[..] else { panic!("one letter") };
    assert_eq!((&letter["metrics"], &letter["partial"], &letter["offset"]), (&json!("a"), &json!(true), &json!(2)));
    // Without --dlq the fault is reported, as for a record that is dropped.
    let without = dir.shell(&format!("{BOTH} --wide -o csv")).ends_with(1);
    assert!(
        without.text().ends_with(",2,1\n") && without.stderr().contains("two.jsonl:2: AggregationError"),
        "{without}"
    );
}

#[test]
fn a_partial_letter_keeps_its_columns_in_every_store_and_format_and_is_not_replayed() {
    let dir = Dir::new("neighbours-letters");
    two(&dir);
    for name in ["dead.jsonl", "dead.csv", "dead.db", "dead.parquet", "parquet:lake", "dead.frames"] {
        dir.shell(&format!("{BOTH} --to null: --dlq {name}")).succeeds();
        let read = if name == "dead.db" { "sqlite:dead.db?table=dead_letters" } else { name };
        let read = if name == "parquet:lake" { "parquet:lake?table=dead_letters" } else { read };
        let kind = if name == "dead.csv" { "--kind dead" } else { "" };
        let shown = dir.shell(&format!("evt-view '{read}' {kind} -q -o jsonl --columns metrics,partial")).succeeds();
        assert_eq!(shown.rows(), [json!({"metrics": "a", "partial": true})], "{name}: {shown}");
    }
    let replay = "evt-replay dead.jsonl --patch 'set ms = 12' --ledger sqlite:l.db --to again.jsonl --dlq faulty.jsonl";
    let refused = dir.shell(replay).ends_with(1);
    let why = "1 letter was passed over: other metrics have the event, and would count it twice; evt-backfill with --only and the \
               metrics that failed (column metrics) corrects these";
    assert!(refused.stderr().contains(why), "{refused}");
    assert!(!dir.path("again.jsonl").exists() || dir.rows("again.jsonl").is_empty());
}

#[test]
fn a_partial_letter_explains_no_missing_record() {
    let dir = Dir::new("neighbours-reconcile");
    two(&dir);
    dir.shell(&format!("{BOTH} --to null: --dlq partial.jsonl")).succeeds();
    dir.shell("evt-window two.jsonl --time t --size 1d --agg 'a=avg(ms)' -q --to null: --dlq whole.jsonl").succeeds();
    dir.shell("head -1 two.jsonl | evt-ingest -f jsonl -q --time t --origin two.jsonl --to sqlite:e.db").succeeds();
    let compare = |accepted: &str| {
        dir.shell(&format!("evt-reconcile two.jsonl 'sqlite:e.db?table=raw_events' --time t --plus {accepted}"))
    };
    compare("whole.jsonl").succeeds();
    compare("partial.jsonl").ends_with(1);
}

/// Events of an hour and of many keys; each has its values as numbers, as a text or as none.
fn many_keys(draws: &mut Draws) -> String {
    let mut text = String::new();
    for at in 0..60_000_u64 {
        let value = |draws: &mut Draws| ["\"bad\"", "7", "11", "null", "8"][draws.below(5) as usize];
        let (a, b, key) = (value(draws), value(draws), draws.below(25_000));
        let time = 1_772_323_200 + at * 3600 / 60_000;
        writeln!(text, "{{\"t\":{time},\"a\":{a},\"b\":{b},\"k\":\"key-{key}\"}}").expect("a string");
    }
    text
}

#[test]
fn events_that_fail_for_one_metric_fail_for_it_also_with_state_in_files() {
    let dir = Dir::new("neighbours-files");
    dir.write("e.jsonl", many_keys(&mut Draws::new()));
    let mut spec = String::new();
    for (name, window) in [("hours", "size = '1h'"), ("visits", "gap = '20m'")] {
        for (at, aggregate) in
            ["count(*)", "sum(a)", "avg(b)\"\nwhere = \"b > 7", "count(distinct a + b)"].iter().enumerate()
        {
            writeln!(spec, "[[metric]]\nname = \"{name}{at}\"\naggregate = \"{aggregate}\"\nby = ['k']\n{window}")
                .expect("a string");
        }
    }
    dir.write("m.toml", spec);
    let run = |memory: &str, to: &str| {
        let line = format!(
            "evt-window e.jsonl -m m.toml --time t -q --emit final --out-of-orderness 30s --memory {memory} \
             --dlq null: --late null: --stats stats.json --overwrite --to {to}"
        );
        dir.shell(&line).succeeds();
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        let mut rows: Vec<String> = dir.rows(to).iter().map(Value::to_string).collect();
        rows.sort();
        (rows, stats["metrics"].clone(), stats["state_written"].as_u64() > Some(0))
    };
    let (whole, in_files) = (run("1GiB", "whole.jsonl"), run("8MiB", "files.jsonl"));
    assert!(in_files.2 && !whole.2, "state in files: {} {}", in_files.2, whole.2);
    assert_eq!(whole.1, in_files.1);
    let difference = whole.0.iter().zip(&in_files.0).find(|(whole, files)| whole != files);
    assert!(whole.0 == in_files.0, "{} rows, {} with state in files: {difference:?}", whole.0.len(), in_files.0.len());

    // A correction of what is right changes nothing.
    let found = dir.shell(
        "evt-view whole.jsonl -q -o frames | evt-sink -q --to sqlite:whole.db; \
         evt-backfill e.jsonl -m m.toml --time t --out-of-orderness 30s --memory 8MiB --dlq null: --to sqlite:whole.db --dry-run",
    );
    assert_eq!(found.succeeds().text(), "");
}
