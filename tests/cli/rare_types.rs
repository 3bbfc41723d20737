//! Types of columns that few programs write: evt reads the values that other programs read.

use crate::harness::{Dir, ask, python};
use serde_json::{Value, json};

/// The properties of the events of a file, without the time `t`.
fn properties(dir: &Dir, file: &str, time: &str) -> Vec<Value> {
    let run = dir.run("evt-ingest", &[file, "--time", time, "-q", "-o", "jsonl"]).succeeds();
    let mut rows: Vec<Value> = run.rows().into_iter().map(|mut row| row["properties"].take()).collect();
    for row in rows.iter_mut().filter(|_| time == "t") {
        row.as_object_mut().expect("an object").remove("t");
    }
    rows
}

#[test]
fn uuids_in_lists_and_maps_are_hyphenated() {
    let Some(python) = python() else { return };
    let dir = Dir::new("uuids");
    let id = ask(&dir, &python, "rare_types.py", &["uuids"]).rows()[0]["id"].take();
    let name = id.as_str().expect("a uuid");
    let row = json!({"id": id, "ids": [id], "s": {"x": id}, "m": {"k": id}, "n": {name: [id]}});
    for file in ["uuids.parquet", "uuids.arrow"] {
        assert_eq!(properties(&dir, file, "t"), [row.clone()], "{file}");
    }
}

#[test]
fn a_local_time_is_the_same_instant_in_csv_parquet_and_avro() {
    let Some(python) = python() else { return };
    let dir = Dir::new("local");
    let known = ask(&dir, &python, "rare_types.py", &["local"]).rows()[0]["t"].take();
    let known = known.as_str().expect("a time").replace("+00:00", "Z");
    for file in ["local.csv", "local.parquet", "millis.avro", "micros.avro"] {
        let of = |zone: &[&str]| {
            let args = [&[file, "--time", "t", "-q", "-o", "jsonl"], zone].concat();
            dir.run("evt-ingest", &args).succeeds().rows()[0]["event_time"].take()
        };
        assert_eq!(of(&["--time-zone", "America/New_York"]), known, "{file}");
        assert_eq!(of(&[]), "2026-01-15T10:00:00.123000Z", "{file}");
    }
}
