//! Types of columns that few programs write: evt reads the values that other programs read.

use crate::harness::{Dir, ask, data, python};
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
fn a_timestamp_of_96_bits_is_its_own_date_in_every_year() {
    let dir = Dir::new("int96");
    if let Some(root) = data("parquet") {
        let spark = root.join("int96_from_spark.parquet").display().to_string();
        let times: Vec<Value> =
            properties(&dir, &spark, "arrival").into_iter().map(|mut row| row["a"].take()).collect();
        assert_eq!(times[0], "2024-01-01T20:34:56.123456");
        assert_eq!(times[2], "9999-12-31T03:00:00.000000");
        assert_eq!(times[4], Value::Null);
    }
    let Some(python) = python() else { return };
    let known = ask(&dir, &python, "rare_types.py", &["int96"]).rows();
    for (row, known) in properties(&dir, "int96.parquet", "arrival").iter().zip(&known) {
        assert_eq!([&row["t"], &row["l"], &row["s"]], [&known["t"], &known["l"], &known["s"]]);
    }
    let events = dir.run("evt-ingest", &["int96.parquet", "--time", "t", "-q", "-o", "jsonl"]).succeeds().rows();
    assert_eq!(events.len(), known.len());
    for (event, known) in events.iter().zip(&known) {
        assert_eq!(event["event_time"].as_str(), known["t"].as_str().map(|at| format!("{at}Z")).as_deref());
    }
    let zoned = properties(&dir, "zoned.parquet", "arrival");
    assert_eq!(zoned[0]["t"], "2026-01-01T00:00:00.123456789Z");
    assert_eq!(zoned[1]["t"], "1969-12-31T23:59:59.999999999Z");
}

#[test]
fn an_interval_of_parquet_keeps_its_months() {
    let Some(python) = python() else { return };
    let dir = Dir::new("interval");
    ask(&dir, &python, "rare_types.py", &["interval"]);
    let texts = [json!("P14M3DT4.500S"), json!("P0M41DT57600S"), Value::Null, json!("P0M0DT0S")];
    for (row, text) in properties(&dir, "interval.parquet", "t").iter().zip(texts) {
        assert_eq!(row["i"], text);
        assert_eq!(row["l"], json!([text, null]));
    }
}

#[test]
fn values_of_an_enum_of_parquet_are_text() {
    let Some(python) = python() else { return };
    let dir = Dir::new("enum");
    let known = ask(&dir, &python, "rare_types.py", &["enum"]).rows();
    for name in ["enum", "enums"] {
        let rows = properties(&dir, &format!("{name}.parquet"), "t");
        assert_eq!(rows.len(), known.len());
        for (row, known) in rows.iter().zip(&known) {
            assert_eq!([&row["level"], &row["list"]], [&known["level"], &known["list"]]);
        }
        let rows = properties(&dir, &format!("bad_{name}.parquet"), "t");
        assert_eq!(rows[1], json!({"level": "ERROR", "list": ["ERROR"]}));
        assert_eq!(rows[2], json!({"level": "Y2Fmw/8=", "list": ["Y2Fmw/8="]}), "what is not UTF-8 is base64");
    }
}

#[test]
fn uuids_in_lists_and_maps_are_hyphenated() {
    let Some(python) = python() else { return };
    let dir = Dir::new("uuids");
    let id = ask(&dir, &python, "rare_types.py", &["uuids"]).rows()[0]["id"].take();
    let name = id.as_str().expect("a uuid");
    let row = json!({"id": id, "ids": [id], "s": {"x": id}, "m": {"k": id}, "n": {name: [id]}});
    for file in ["uuids.parquet", "uuids.arrow"] {
        assert_eq!(properties(&dir, file, "t"), std::slice::from_ref(&row), "{file}");
    }
}

#[test]
fn json_of_parquet_that_is_not_utf_8_is_a_corrupt_file() {
    let Some(python) = python() else { return };
    let dir = Dir::new("bad-json");
    ask(&dir, &python, "rare_types.py", &["texts"]);
    assert_eq!(properties(&dir, "json.parquet", "t"), [json!({"j": {"abcde": 1}})]);
    let run = dir.run("evt-ingest", &["bad_json.parquet", "--time", "t", "-o", "jsonl"]).ends_with(65).stays_calm();
    assert!(run.stderr().contains("rows cannot be read: encountered non UTF-8 data"), "{run}");
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

/// polars has integers of 128 bits, which Arrow has not: the message names the column, at any depth.
#[test]
fn a_type_that_cannot_be_read_names_its_column() {
    let Some(python) = python() else { return };
    let dir = Dir::new("int128");
    ask(&dir, &python, "rare_types.py", &["int128"]);
    for (name, column) in [("plain", "big n"), ("list", "l"), ("struct", "s")] {
        for format in ["parquet", "arrow", "arrows"] {
            let run = dir.shell(&format!("evt-ingest {name}.{format} --time t --to out.jsonl")).ends_with(65);
            let told = format!("{name}.{format}: ");
            assert!(run.stderr().contains(&told) && run.stderr().contains(&format!("column {column}: ")), "{run}");
            assert!(run.stderr().contains("128"), "{run}");
        }
    }
}
