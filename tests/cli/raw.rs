//! Raw records in the rows' column `raw`: through files, windows and other programs.

use crate::harness::{Dir, ROOT, ask, python};
use std::fmt::Write;

/// Files that evt writes and reads back.
const FORMATS: [&str; 6] = ["jsonl", "csv", "tsv", "avro", "parquet", "frames"];

/// Writes records whose spelling a mapping does not keep to `in.jsonl`, and their events with raw records to
/// `in.frames`.
fn sample(name: &str) -> (Dir, String) {
    let dir = Dir::new(name);
    let mut records = String::new();
    for second in 0..300 {
        let time = format!("2024-01-01T00:{:02}:{:02}Z", second / 60, second % 60);
        let (space, value) = (" ".repeat(second % 3), if second % 2 == 0 { "1.50" } else { r#""\u00e9 \\\"\t,é""# });
        let _ = writeln!(records, r#"{{{space}"server_timestamp" :"{time}","n":{value}, "raw_n":{second}}}"#);
    }
    dir.write("in.jsonl", &records);
    dir.shell("evt-ingest in.jsonl --keep-raw -q > in.frames").succeeds();
    (dir, records)
}

/// All columns of the rows of a file.
fn shown(dir: &Dir, file: &str) -> String {
    let rows = dir.run("evt-view", &[file, "--rows", "-q", "-o", "jsonl"]).succeeds().text();
    assert!(!rows.is_empty(), "{file}");
    rows
}

#[test]
fn a_raw_record_survives_every_format_that_evt_reads_back() {
    let (dir, records) = sample("raw_formats");
    let wanted = shown(&dir, "in.frames");
    assert!(wanted.lines().all(|row| row.contains(r#","raw":"{"#)), "{wanted}");
    dir.shell("evt-sink in.frames -q --to sqlite:events.db").succeeds();
    for format in FORMATS {
        let file = format!("out.{format}");
        dir.run("evt-ingest", &["in.jsonl", "--keep-raw", "-q", "--to", &file]).succeeds();
        assert_eq!(dir.run("evt-view", &[&file, "-q", "-o", "raw"]).succeeds().text(), records, "{format}");
        dir.shell(&format!("evt-sink in.frames -q --to same.{format}")).succeeds();
        assert_eq!(shown(&dir, &format!("same.{format}")), wanted, "{format}");
        let run = dir.run("evt-sink", &[&file, "--to", "sqlite:events.db"]).succeeds();
        assert!(run.stderr().contains("300 unchanged"), "{format}: {run}");
    }
}

#[test]
fn a_raw_record_that_is_no_text_survives_every_format() {
    let (dir, _) = sample("raw_bytes");
    let rows = shown(&dir, "in.frames");
    let (row, _) = rows.lines().next().and_then(|row| row.split_once(r#","raw":"#)).expect("a row with its record");
    dir.write("in.jsonl", format!("{row},\"raw_base64\":\"/wAK\"}}\n{row},\"raw\":\"\"}}\n{row}}}\n"));
    let wanted = shown(&dir, "in.jsonl");
    assert_eq!(wanted.as_bytes(), dir.bytes("in.jsonl"));
    for format in FORMATS {
        dir.shell(&format!("evt-sink in.jsonl -q --to out.{format}")).succeeds();
        assert_eq!(shown(&dir, &format!("out.{format}")), wanted, "{format}");
    }
}

#[test]
fn a_raw_record_survives_another_program() {
    let Some(python) = python() else { return };
    let (dir, records) = sample("raw_rewritten");
    dir.shell("evt-sink in.frames -q --to in.parquet").succeeds();
    for tool in ["pyarrow", "bare", "duckdb", "polars"] {
        let file = format!("{tool}.parquet");
        ask(&dir, &python, "rewrite.py", &[tool, "in.parquet", &file]);
        assert_eq!(dir.run("evt-view", &[&file, "-q", "-o", "raw"]).succeeds().text(), records, "{file}");
        let pass = format!("{python} {ROOT}/tests/oracle/rewrite.py {tool} < in.frames | evt-view -q -o raw");
        assert_eq!(dir.shell(&pass).succeeds().text(), records, "{tool}");
    }
}

#[test]
fn a_field_raw_of_a_record_without_stamps_is_a_property() {
    let dir = Dir::new("raw_property");
    dir.write("in.jsonl", "{\"server_timestamp\":\"2024-01-01T00:00:00Z\",\"offset\":1,\"raw\":\"x\"}\n");
    let rows = dir.run("evt-view", &["in.jsonl", "--rows", "-q", "-o", "jsonl"]).succeeds().rows();
    assert!(rows[0]["properties"]["raw"] == "x" && rows[0]["raw"].is_null(), "{rows:?}");
}

#[test]
fn an_output_that_has_no_place_for_raw_records_says_so() {
    let (dir, _) = sample("raw_stores");
    let run = dir.shell("evt-sink in.frames -q --to sqlite:a.db --to parquet:lake").succeeds();
    let told = |name: &str| format!("evt-sink: {name}: no column raw; the raw records are not stored\n");
    assert_eq!(run.stderr(), told("sqlite:a.db") + &told("parquet:lake"));
    let run = dir.shell("evt-ingest in.jsonl -q --to sqlite:a.db --to parquet:lake").succeeds();
    assert_eq!(run.stderr(), "");
}

#[test]
fn inputs_with_and_without_raw_records_are_rows_of_one_schema() {
    let (dir, records) = sample("raw_mixed");
    dir.shell("evt-ingest in.jsonl -q --origin bare > bare.frames").succeeds();
    dir.shell("evt-sink in.frames -q --to in.parquet; evt-sink bare.frames -q --to bare.jsonl").succeeds();
    for [first, second] in [["in.frames", "bare.frames"], ["in.parquet", "bare.frames"], ["in.frames", "bare.jsonl"]] {
        let run = dir.run("evt-sink", &[first, second, "-o", "parquet", "--to", "both.parquet", "--overwrite", "-q"]);
        assert_eq!(run.succeeds().stderr(), "");
        assert_eq!(shown(&dir, "both.parquet").lines().count(), 600, "{first} {second}");
        assert_eq!(dir.run("evt-view", &["both.parquet", "-q", "-o", "raw"]).succeeds().text(), records);
    }
    let run = dir.run("evt-sink", &["bare.frames", "in.frames", "-o", "jsonl", "-q"]).succeeds();
    assert_eq!(run.rows().len(), 600);
    assert_eq!(run.stderr(), "evt-sink: in.frames: raw records are dropped, because the first input has none\n");
}

#[test]
fn an_event_as_long_as_a_record_may_be_comes_back_with_its_record() {
    let dir = Dir::new("raw_long");
    let record = format!("{{\"server_timestamp\":\"2024-01-01T00:00:00Z\",\"x\":\"{}\"}}\n", "\\\"".repeat(500_000));
    dir.write("in.jsonl", &record);
    for format in FORMATS {
        let file = format!("out.{format}");
        dir.run("evt-ingest", &["in.jsonl", "--keep-raw", "-q", "--to", &file]).succeeds();
        assert!(dir.run("evt-view", &[&file, "-q", "-o", "raw"]).succeeds().stdout() == record.as_bytes(), "{format}");
    }
}

#[test]
fn evt_ingest_keeps_the_record_that_it_reads_and_only_where_it_is_told_to() {
    let (dir, _) = sample("raw_again");
    for format in ["jsonl", "csv", "avro"] {
        let line = format!("evt-sink in.frames -q --to copy.{format} && evt-ingest copy.{format} -q -o jsonl");
        let rows = dir.shell(&line).succeeds().rows();
        assert!(rows.len() == 300 && rows.iter().all(|row| row["raw"].is_null()), "{format}");
        assert!(rows[0]["properties"]["raw"].is_string(), "{format}: {}", rows[0]);
    }
}

/// The commands of evt(7), "Repair and replay".
#[test]
fn late_rows_bring_their_records_and_are_replayed() {
    let (dir, records) = sample("raw_late");
    let lines: Vec<&str> = records.lines().collect();
    let (late, timely) = lines.split_at(60);
    dir.write("in.jsonl", [timely, late].concat().join("\n") + "\n");
    let wanted: String = late.iter().map(|line| format!("{line}\n")).collect();
    for format in FORMATS {
        let window = format!("evt-window --size 10s --out-of-orderness 30s --to null: -q --late late.{format}");
        dir.shell(&format!("evt-ingest in.jsonl --keep-raw -q | {window}")).succeeds();
        let file = format!("late.{format}");
        assert_eq!(dir.run("evt-view", &[&file, "-q", "-o", "raw"]).succeeds().text(), wanted, "{format}");
    }
    let told = dir.run("evt-view", &["late.jsonl", "--kind", "late", "-q", "-o", "raw"]).succeeds();
    assert_eq!(told.text(), wanted, "of a kind that is given");
    let replay = "evt-view late.parquet -q -o raw | evt-ingest -f jsonl --origin repaired -q -o jsonl";
    let replayed = dir.shell(replay).succeeds().rows();
    assert_eq!(replayed.len(), 60);
    assert!(replayed.iter().all(|row| row["origin"] == "repaired"));
    // Rows without raw records have none to write.
    dir.shell("evt-ingest in.jsonl -q | evt-window --size 10s --out-of-orderness 30s --to null: -q --late bare.jsonl")
        .succeeds();
    let run = dir.run("evt-view", &["bare.jsonl", "-q", "-o", "raw"]).ends_with(2);
    assert!(run.stderr().contains("--keep-raw"), "{run}");
}
