//! Inputs that end: no event is late by default, also through a pipe; others keep a bound.

use crate::harness::{Dir, Draws, Run};
use std::fmt::Write as _;

/// A hour that is read before the hour before it.
fn hours(dir: &Dir) {
    dir.write("first.jsonl", "{\"t\":\"2026-03-01T00:00:00Z\",\"v\":1}\n{\"t\":\"2026-03-01T00:20:00Z\",\"v\":2}\n");
    dir.write("second.jsonl", "{\"t\":\"2026-03-01T01:00:00Z\",\"v\":3}\n{\"t\":\"2026-03-01T01:20:00Z\",\"v\":4}\n");
    dir.shell("cat second.jsonl first.jsonl > both.jsonl").succeeds();
    dir.shell("evt-ingest -q --time t both.jsonl -o frames > both.frames").succeeds();
    dir.shell("evt-ingest -q --time t both.jsonl --to both.parquet").succeeds();
    dir.write("by-hour.toml", "[defaults]\nsize = '1h'\nout_of_orderness = '10m'\n[[metric]]\nname = 'n'\n");
}

const WINDOW: &str = "evt-window -q --size 1h --stats stats.json";

/// Runs a line of shell; returns its exit status, how many events are counted, and the out-of-orderness.
fn outcome(dir: &Dir, line: &str) -> (i32, u64, String) {
    let run = dir.shell(line);
    let stats: serde_json::Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
    let bound = stats["out_of_orderness"].as_str().expect("text").to_owned();
    (run.status(), stats["counts"]["out"].as_u64().expect("a count"), bound)
}

#[test]
fn inputs_that_end_lose_nothing() {
    let dir = Dir::new("bounded-ends");
    hours(&dir);
    for line in [
        format!("{WINDOW} both.jsonl --time t"),
        format!("{WINDOW} second.jsonl first.jsonl --time t"),
        format!("{WINDOW} --time t < both.jsonl"),
        format!("{WINDOW} both.parquet"),
        format!("{WINDOW} both.frames"),
        format!("{WINDOW} < both.frames"),
        format!("evt-ingest -q both.jsonl --time t | {WINDOW}"),
        format!(
            "evt-ingest -q second.jsonl first.jsonl --time t | evt-view -q -o frames | evt-sink -q -o frames | {WINDOW}"
        ),
        format!("cat both.frames | {WINDOW}"),
        format!("{WINDOW} <(evt-ingest -q both.jsonl --time t)"),
        format!("evt-ingest -q both.jsonl --time t --to sqlite:e.db && {WINDOW} 'sqlite:e.db?table=raw_events'"),
    ] {
        assert_eq!(outcome(&dir, &line), (0, 4, "all".to_owned()), "{line}");
    }
}

#[test]
fn inputs_that_may_go_on_and_runs_that_continue_keep_a_bound() {
    let dir = Dir::new("bounded-not");
    hours(&dir);
    dir.shell("mkfifo pipe").succeeds();
    for line in [
        format!("cat both.jsonl | {WINDOW} --time t"),
        format!("cat both.jsonl | evt-ingest -q --time t | {WINDOW}"),
        format!("(cat both.jsonl > pipe &) ; {WINDOW} --time t pipe"),
        format!("evt-ingest -q both.jsonl --time t -o jsonl | {WINDOW}"),
        format!("{WINDOW} both.jsonl --time t --new-partitions late"),
        format!("{WINDOW} both.jsonl --time t --idle-after 1h"),
        format!("{WINDOW} both.jsonl --time t --at-end hold"),
        format!("{WINDOW} both.jsonl first.jsonl <(cat second.jsonl) --time t"),
    ] {
        let (status, counted, bound) = outcome(&dir, &line);
        assert!((status, counted >= 1, bound.as_str()) == (1, true, "30s"), "{line}: {status} {counted} {bound}");
    }
    let checkpoint = format!("{WINDOW} both.jsonl --time t --checkpoint state --late null: --to rows.jsonl");
    assert_eq!(outcome(&dir, &checkpoint), (0, 2, "30s".to_owned()));
}

#[test]
fn the_flag_precedes_the_key_of_the_metrics_and_the_key_the_default() {
    let dir = Dir::new("bounded-key");
    hours(&dir);
    let by_file = "evt-window -q --stats stats.json -m by-hour.toml both.jsonl --time t";
    assert_eq!(outcome(&dir, by_file), (1, 2, "10m".to_owned()));
    assert_eq!(outcome(&dir, &format!("{by_file} --out-of-orderness all")), (0, 4, "all".to_owned()));
    let checked = dir.shell("evt-window -m by-hour.toml both.jsonl --time t --check").succeeds();
    assert!(checked.text().contains("all metrics: out-of-orderness 10m"), "{checked}");
    dir.write("wait.toml", "[defaults]\nsize = '1h'\nout_of_orderness = 'all'\n[[metric]]\nname = 'n'\n");
    let refused = dir.shell("evt-window -q -m wait.toml both.jsonl --time t --checkpoint state").ends_with(2);
    assert!(refused.stderr().contains("cannot be used with --checkpoint"), "{refused}");
}

#[test]
fn the_hint_of_late_events_begins_with_all_where_windows_can_wait() {
    let dir = Dir::new("bounded-hint");
    hours(&dir);
    let hint = |line: &str| dir.shell(line).ends_with(1).stderr();
    let said = hint("cat both.jsonl | evt-window -q --time t --size 1h -o csv");
    assert!(said.contains("(--out-of-orderness all counts every event of an input that ends, and 20m"), "{said}");
    let followed = "cat both.jsonl | evt-window -q --time t --size 1h -o csv --out-of-orderness all";
    assert_eq!(dir.shell(followed).succeeds().text().lines().count(), 3);
    let said = hint("evt-window -q both.jsonl --time t --size 1h -o csv --new-partitions late");
    assert!(said.contains("(--out-of-orderness 20m"), "{said}");
}

/// Events of a day in random order, as a table: time and value.
fn shuffled(draws: &mut Draws) -> String {
    let mut lines = String::new();
    for _ in 0..400 {
        let (minute, value) = (draws.below(1440), draws.below(9));
        let (hour, minute) = (minute / 60, minute % 60);
        writeln!(lines, "{{\"t\":\"2026-03-01T{hour:02}:{minute:02}:00Z\",\"v\":{value}}}").expect("a string");
    }
    lines
}

#[test]
fn a_correction_of_a_run_that_waited_for_its_end_changes_nothing() {
    let dir = Dir::new("bounded-correction");
    let mut draws = Draws::new();
    dir.write(
        "m.toml",
        "[[metric]]\nname = 'n'\nsize = '1h'\n[[metric]]\nname = 's'\naggregate = 'sum(v)'\ngap = '3m'\n",
    );
    for round in 0..4 {
        dir.write("e.jsonl", shuffled(&mut draws));
        let store = format!("sqlite:{round}.db");
        dir.shell(&format!("evt-window -q e.jsonl --time t -m m.toml --to {store}")).succeeds();
        let shown = || dir.shell(&format!("evt-view -q '{store}?table=aggregated_metrics' -o jsonl")).succeeds().text();
        let before = shown();
        let correct = |more: &str| -> Run {
            dir.shell(&format!(
                "evt-backfill e.jsonl --time t -m m.toml --to {store} --since 2026-03-01 --until 2026-03-02 {more}"
            ))
        };
        // The store keeps the bound.
        let kept = correct("").succeeds();
        assert!(kept.stderr().contains("0 corrected, 0 inserted, 0 retracted"), "{kept}");
        assert!(shown() == before, "round {round}: {kept}");
        let database = rusqlite::Connection::open(dir.path(&format!("{round}.db"))).expect("a database");
        assert_eq!(database.execute("DELETE FROM metric_progress", []).expect("it runs"), 2);
        drop(database);
        let without = correct("").ends_with(1);
        assert!(without.stderr().contains("give its --out-of-orderness (all if its inputs ended)"), "{without}");
        assert!(shown() == before, "round {round}: {without}");
        let with = correct("--out-of-orderness all").succeeds();
        assert!(with.stderr().contains("0 corrected, 0 inserted, 0 retracted"), "{with}");
        assert!(shown() == before, "round {round}: {with}");
    }
}

#[test]
fn late_events_of_an_unknown_bound_are_counted_where_they_begin_a_session_and_told_where_they_are_not() {
    let dir = Dir::new("bounded-late");
    let event = |key: &str, minute: u32| format!("{{\"t\":\"2026-03-01T00:{minute:02}:00Z\",\"k\":\"{key}\"}}\n");
    // The second event of y is late for 30 s, and alone.
    dir.write("e.jsonl", event("x", 1) + &event("y", 2) + &event("x", 50) + &event("y", 20) + &event("x", 59));
    dir.write("m.toml", "[[metric]]\nname = 's'\nby = ['k']\ngap = '3m'\n");
    let live = "evt-window -q e.jsonl --time t -m m.toml --out-of-orderness 30s --late late.jsonl --to sqlite:m.db";
    dir.shell(live).succeeds();
    assert_eq!(dir.rows("late.jsonl").len(), 1);
    let sessions = || {
        let shown = dir.shell("evt-view -q 'sqlite:m.db?table=aggregated_metrics' -o jsonl").succeeds().rows();
        shown
            .iter()
            .filter(|row| row["retracted"] == false)
            .map(|row| row["rows"].as_i64().expect("a count"))
            .sum::<i64>()
    };
    assert_eq!(sessions(), 4);
    let correct = "evt-backfill e.jsonl --time t --late-events late.jsonl -m m.toml --to sqlite:m.db";
    dir.shell(correct).succeeds();
    assert_eq!(sessions(), 5);
    let again = dir.shell(correct).succeeds();
    assert!(again.stderr().contains("0 corrected, 0 inserted, 0 retracted"), "{again}");
}
