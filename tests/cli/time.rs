//! Instants of RFC 3339, valid and invalid, through evt-ingest.

use crate::harness::{Dir, cases, data};
use serde_json::{Value, json};

/// The event times of texts, in µs text form; none where a text was refused with a TimestampError.
fn times(texts: &[&str]) -> Vec<Option<String>> {
    let dir = Dir::new("time");
    let line = |at: &&str| json!({"event_type": "t", "at": at, "server_timestamp": "2024-01-15T10:00:00Z"}).to_string();
    // A clean first line: a first record without a time ends the run.
    let lines: String = std::iter::once(&"2024-01-15T10:00:00Z").chain(texts).map(|at| line(at) + "\n").collect();
    dir.write("in.jsonl", lines);
    let args = ["in.jsonl", "--time", "at", "-q", "-o", "jsonl", "--dlq", "dead.jsonl"];
    let run = dir.run("evt-ingest", &args).succeeds().stays_calm();
    let mut times = vec![None; texts.len()];
    for row in run.rows().iter().skip(1) {
        times[row["offset"].as_u64().expect("a line") as usize - 2] = row["event_time"].as_str().map(str::to_owned);
    }
    for letter in dir.rows("dead.jsonl") {
        assert_eq!(letter["error_type"], "TimestampError", "{letter}");
    }
    times
}

#[test]
fn every_text_of_the_standard_is_the_instant_it_says_or_a_dead_letter() {
    let cases = cases("time/rfc3339.jsonl");
    if cases.is_empty() {
        return;
    }
    let texts: Vec<&str> = cases.iter().map(|case| case["s"].as_str().expect("a text")).collect();
    let mut failed = vec![];
    for (case, time) in cases.iter().zip(times(&texts)) {
        let right = match (&time, case["valid"] == true) {
            (None, valid) => !valid,
            (Some(_), false) => false,
            (Some(time), true) if case["leap_second"] == true => time.ends_with(":59.999999Z"),
            (Some(time), true) => Some(micros(time).div_euclid(1000)) == case["epoch_ms"].as_i64(),
        };
        if !right {
            failed.push(format!("{case}: {time:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Texts on which the suite and evt differ: it demands that a leap second is 23:59 UTC, evt reads every `:60`.
fn differs(text: &str) -> bool {
    text.contains(":60")
}

#[test]
fn the_json_schema_suite_agrees_but_for_leap_seconds() {
    let Some(path) = data("time/json-schema-date-time.json") else { return };
    let suite: Value = serde_json::from_slice(&std::fs::read(path).expect("the data is complete")).expect("JSON");
    let tests = suite[0]["tests"].as_array().expect("tests");
    let tests: Vec<(&str, bool)> = tests
        .iter()
        .filter_map(|test| Some((test["data"].as_str()?, test["valid"] == true)))
        .filter(|(text, _)| !differs(text))
        .collect();
    let texts: Vec<&str> = tests.iter().map(|(text, _)| *text).collect();
    let wrong: Vec<_> = tests.iter().zip(times(&texts)).filter(|((_, valid), time)| time.is_some() != *valid).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn micros(text: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text).expect("an instant").timestamp_micros()
}
