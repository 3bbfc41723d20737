//! evt-alert: which rows of files and topics an earlier run of the same state has evaluated.

use crate::alert::{event, lines, once, rule, rules, series};
use crate::harness::{Dir, Run, eventually};
use serde_json::{Value, json};

/// Runs with a state; returns the run, and its rows in, out, duplicate and late.
fn counted(dir: &Dir, args: &[&str]) -> (Run, [u64; 4]) {
    let mut all = vec!["--state", "alerts.db", "--stats", "stats.json"];
    all.extend(args);
    let run = once(dir, &all);
    let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
    let counts = ["in", "out", "duplicate", "late"].map(|name| stats["counts"][name].as_u64().unwrap_or(9));
    (run, counts)
}

/// Adds an event to the end of a file.
fn append(dir: &Dir, name: &str, seconds: f64, fields: &Value) {
    let text = String::from_utf8(dir.bytes(name)).expect("text") + &event(seconds, fields);
    dir.write(name, text);
}

#[test]
fn files_that_once_had_the_same_content_keep_marks_of_their_own() {
    let dir = Dir::new("alert-marks");
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let first = lines(&[series(0.0, 100.0, 1.0, &json!({}))]);
    dir.write("a.jsonl", &first);
    dir.write("b.jsonl", &first);
    let (run, counts) = counted(&dir, &["a.jsonl", "b.jsonl"]);
    assert!(run.stderr().contains("read once"), "{run}");
    assert_eq!(counts, [100, 100, 0, 0]);
    for (round, known) in [(1, 200), (2, 204)] {
        let at = 100.0 + 10.0 * f64::from(round);
        for (name, n) in [("a.jsonl", 1), ("b.jsonl", 2)] {
            append(&dir, name, at, &json!({"file": n}));
            append(&dir, name, at + 1.0, &json!({"file": n}));
        }
        let (run, counts) = counted(&dir, &["a.jsonl", "b.jsonl"]);
        assert_eq!(counts, [known + 4, 4, known, 0], "{run}");
    }
}

#[test]
fn a_file_of_one_line_without_a_header_is_known() {
    for flags in [&["--header", "event_time,source,event_type"][..], &["--no-header", "--time", "c1"]] {
        let dir = Dir::new("alert-one-line");
        dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
        let args: Vec<&str> = flags.iter().copied().chain(["a.csv"]).collect();
        dir.write("a.csv", "2026-01-01T00:00:00Z,s,v\n");
        assert_eq!(counted(&dir, &args).1, [1, 1, 0, 0]);
        dir.write("a.csv", "2026-01-01T00:00:00Z,s,v\n2026-01-01T00:00:01Z,s,v\n2026-01-01T00:00:20Z,s,v\n");
        assert_eq!(counted(&dir, &args).1, [3, 2, 1, 0]);
    }
    // A file that has nothing but its header yet has no position, whatever its name.
    let dir = Dir::new("alert-header");
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let header = "event_time,source,event_type\n";
    dir.write("a.txt", format!("{header}2026-01-01T00:00:00Z,s,v\n"));
    assert_eq!(counted(&dir, &["-f", "csv", "a.txt"]).1, [1, 1, 0, 0]);
    dir.write("a.txt", header);
    assert_eq!(counted(&dir, &["-f", "csv", "a.txt"]).1, [0, 0, 0, 0]);
}

#[test]
fn rows_with_stamps_of_their_own_are_known_by_their_numbers() {
    let dir = Dir::new("alert-stamped");
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let add = |seconds: f64, origin: &str| {
        dir.write("new.jsonl", lines(&[series(seconds, seconds + 6.0, 1.0, &json!({}))]));
        let read = format!("evt-ingest -q -f jsonl --origin {origin} --to - -o jsonl < new.jsonl >> events.jsonl");
        dir.shell(&read).succeeds();
    };
    // Each run of evt-ingest begins with the same offset.
    for round in 0..3u32 {
        add(f64::from(round) * 10.0, "app");
        let known = u64::from(round) * 6;
        let (run, counts) = counted(&dir, &["--origin", "app", "events.jsonl"]);
        assert_eq!(counts, [known + 6, 6, known, 0], "{run}");
    }
    add(40.0, "other");
    let (run, counts) = counted(&dir, &["--origin", "app", "events.jsonl"]);
    assert_eq!(counts, [24, 6, 18, 0], "{run}");
}

#[test]
fn inputs_whose_positions_the_state_could_not_tell_apart_are_refused() {
    let dir = Dir::new("alert-same-origin");
    dir.write("rules.json", rules(&[rule(&json!({}))]));
    let [one, other] = ["kafka://127.0.0.1:1/t?end=latest", "kafka://127.0.0.1:2/t?end=latest"];
    let second = "kafka://127.0.0.1:1/u?end=latest";
    for inputs in [&[one, other][..], &["--origin", "app", one, second]] {
        let args: Vec<&str> = ["--state", "alerts.db"].into_iter().chain(inputs.iter().copied()).collect();
        let run = once(&dir, &args).ends_with(2);
        assert!(
            run.stderr()
                .contains("the state could not tell them apart, so give the other one a run and a --state of its own"),
            "{run}"
        );
        assert!(!dir.path("alerts.db").exists(), "{run}");
    }
}

#[test]
fn rows_of_a_file_that_name_partitions_are_known_by_these() {
    let dir = Dir::new("alert-named-rows");
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let named = ["--field", "partition=p", "--partitions", "a,b", "in.jsonl"];
    for (step, p) in (0..).zip(["a", "b", "a"]) {
        let text = std::fs::read_to_string(dir.path("in.jsonl")).unwrap_or_default();
        let from = 100.0 * f64::from(step);
        dir.write("in.jsonl", text + &lines(&[series(from, from + 10.0, 1.0, &json!({"p": p}))]));
        let known = 10 * step as u64;
        assert_eq!(counted(&dir, &named).1, [known + 10, 10, known, 0]);
    }
    assert_eq!(counted(&dir, &named).1, [30, 0, 30, 0]);
}

#[test]
fn partitions_that_rows_name_are_those_of_the_content_whatever_its_name() {
    let dir = Dir::new("alert-partitions-renamed");
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    dir.write("a.jsonl", lines(&[series(0.0, 30.0, 1.0, &json!({"p": "x"}))]));
    let flags = ["--field", "partition=p"];
    assert_eq!(counted(&dir, &[&flags[..], &["a.jsonl"]].concat()).1, [30, 30, 0, 0]);
    // Another spelling of the same name, then the name that log rotation gives it.
    append(&dir, "a.jsonl", 31.0, &json!({"p": "x"}));
    let (run, counts) = counted(&dir, &[&flags[..], &["./a.jsonl"]].concat());
    assert_eq!(counts, [31, 1, 30, 0], "{run}");
    std::fs::rename(dir.path("a.jsonl"), dir.path("a.jsonl.1")).expect("it is there");
    append(&dir, "a.jsonl.1", 32.0, &json!({"p": "y"}));
    let (run, counts) = counted(&dir, &[&flags[..], &["-f", "jsonl", "a.jsonl.1"]].concat());
    assert_eq!(counts, [32, 1, 31, 0], "{run}");
}

#[test]
fn the_numbers_of_rows_are_those_of_their_inputs() {
    let dir = Dir::new("alert-offset");
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    dir.write("in.jsonl", lines(&[series(0.0, 10.0, 1.0, &json!({"n": 7}))]));
    let mapped = ["--field", "offset=n", "in.jsonl"];
    once(&dir, &mapped).succeeds();
    for more in [&["--state", "alerts.db"][..], &["--state", "alerts.db", "--check"]] {
        let run = once(&dir, &[more, &mapped[..]].concat()).ends_with(2);
        let message = "--field offset=… cannot be used with --state, which knows rows by their lines and offsets";
        assert!(run.stderr().contains(message), "{run}");
    }
}

/// The run has compared the file with those that the state knows before it waits for the reader of its output.
#[test]
fn rows_that_come_into_an_empty_file_while_a_run_starts_are_evaluated_once() {
    let dir = Dir::new("alert-empty-file");
    let rule = rule(&json!({"threshold": 6, "window_seconds": 60}));
    dir.write("rules.json", rules(&[rule]));
    for (name, header) in [("in.jsonl", ""), ("in.csv", "event_time,source,event_type\n")] {
        let row = |second: u32| match header {
            "" => event(f64::from(second), &json!({})),
            _ => format!("2024-01-01T00:00:{second:02}Z,s,v\n"),
        };
        dir.write(name, header);
        dir.shell("rm -f alerts.db* fifo; mkfifo fifo").succeeds();
        let flags = ["--once", "-q", "--rules", "rules.json", "--state", "alerts.db", name];
        let mut run = dir.command("evt-alert", &[&flags[..], &["-o", "jsonl", "--to", "fifo"]].concat());
        let mut run = run.spawn().expect("it starts");
        eventually("the state is open", || dir.path("alerts.db-wal").exists());
        let four: String = (0..4).map(row).collect();
        dir.write(name, header.to_owned() + &four);
        assert_eq!(dir.shell("cat fifo").succeeds().stdout(), b"");
        assert!(run.wait().expect("it is ours").success(), "{name}");
        dir.write(name, header.to_owned() + &four + &row(4));
        dir.run("evt-alert", &[&flags[..], &["-o", "jsonl"]].concat()).succeeds();
    }
}
