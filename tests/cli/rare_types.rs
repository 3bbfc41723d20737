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
