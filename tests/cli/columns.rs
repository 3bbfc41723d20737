//! `?columns=auto`: properties as columns of Parquet files, which come back as properties.

use crate::harness::{Dir, ask, data, python};
use serde_json::json;

/// Records whose values fit columns, do not fit them, or have the name of a column.
const RECORDS: &str = r#"{"event_id":"0190c1f0-0000-7000-8000-000000000001","t":"2024-01-15T10:00:00Z","status":200,"ms":1.5,"path":"/a","ok":true,"tags":["x"],"note":null}
{"t":"2024-01-15T10:00:01Z","status":"none","ms":2,"path":"/b\n\"q\"","ok":false,"tags":[],"big":123456789012345678901234567890}
{"t":"2024-01-16T10:00:02Z","status":404,"ms":0.1000000000000000055,"path":7,"ok":"no","date":"x","Offset":1,"nested":{"a":{"b":1}}}
{"t":"2024-01-16T10:00:03Z","status":500,"ms":3.25,"path":"/c","ok":true,"x.y":1,"emoji":"😀"}
"#;

#[test]
fn properties_are_typed_columns_for_other_programs_and_properties_for_evt() {
    let dir = Dir::new("columns");
    dir.write("in.jsonl", RECORDS);
    let ingest = "evt-ingest in.jsonl --time t --now 2024-02-01T00:00:00Z -q";
    dir.shell(&format!("{ingest} --to rows.jsonl --to 'file.parquet?columns=auto' --to 'parquet:lake?columns=auto'"))
        .succeeds();
    assert!(dir.path("file.parquet").exists());
    dir.shell("evt-view file.parquet -q -o jsonl > file.jsonl; evt-view parquet:lake -q -o jsonl > lake.jsonl")
        .succeeds();
    let Some(python) = python() else { return };
    let columns = ask(&dir, &python, "columns.py", &["rows.jsonl", "file.parquet", "file.jsonl"]).rows();
    let expected = json!({"emoji": "string", "ms": "double", "ok": "bool", "path": "string", "status": "int64", "t": "string", "x.y": "int64"});
    assert_eq!(columns[0], expected);
    ask(&dir, &python, "columns.py", &["rows.jsonl", "lake", "lake.jsonl"]);
}

#[test]
fn a_tool_that_needs_some_columns_of_a_lake_sees_its_properties() {
    let dir = Dir::new("columns-selected");
    dir.write("in.jsonl", RECORDS);
    dir.shell("evt-ingest in.jsonl --time t -q --to 'parquet:lake?columns=auto' --to 'parquet:plain'").succeeds();
    let window = |lake: &str| {
        let line =
            format!("evt-window parquet:{lake} --size 1d --by path --agg 'count(status)' --agg 'avg(ms)' -q -o csv");
        dir.shell(&line).succeeds().text()
    };
    assert_eq!(window("lake"), window("plain"));
    let selected = dir
        .shell("evt-view parquet:lake -q -o csv --columns status,path --where \"status in ('404', '500')\"")
        .succeeds();
    assert_eq!(selected.text(), "status,path\n404,7\n500,/c\n");
}

#[test]
fn columns_have_one_value_and_rows_need_properties() {
    let dir = Dir::new("columns-usage");
    dir.write("in.jsonl", RECORDS);
    let metrics = "evt-ingest in.jsonl --time t -q | evt-window --size 1d -q";
    for (line, message) in [
        ("evt-ingest in.jsonl --time t --to 'x.parquet?columns=all'".to_owned(), "columns: expected auto, found 'all'"),
        ("evt-ingest in.jsonl --time t --to 'x.parquet?rows=1'".to_owned(), "unknown option 'rows'"),
        ("evt-ingest in.jsonl --time t --to 'parquet:x?columns=all'".to_owned(), "columns: expected auto, found 'all'"),
        (format!("{metrics} --to 'x.parquet?columns=auto'"), "columns=auto: expected events"),
        (format!("{metrics} --to 'parquet:x?columns=auto'"), "columns=auto: expected events"),
    ] {
        let run = dir.shell(&format!("set -o pipefail; {line}")).ends_with(2);
        assert!(run.stderr().contains(message), "{run}");
    }
}

/// Real records with other columns each: the values are equal, and the file is not larger than DuckDB's and 24 bytes a
/// row.
fn compared(name: &str, archive: &str, time: &str) {
    let (Some(archive), Some(python)) = (data(archive), python()) else { return };
    let dir = Dir::new(name);
    let archive = archive.display().to_string();
    dir.shell(&format!("evt-ingest {archive} {time} -q --to rows.jsonl --to 'out.parquet?columns=auto'")).succeeds();
    dir.shell("evt-view out.parquet -q -o jsonl > back.jsonl").succeeds();
    let seen = ask(&dir, &python, "columns.py", &["rows.jsonl", "out.parquet", "back.jsonl", &archive]);
    println!("{}", seen.stderr());
}

#[test]
fn edits_of_a_wiki_have_equal_values_and_the_size_of_a_file_of_duckdb() {
    compared("columns-edits", "events/wikiticker-2015-09-12-sampled.json.gz", "--time time");
}

#[test]
fn nested_events_of_an_archive_have_equal_values_and_the_size_of_a_file_of_duckdb() {
    compared("columns-archive", "events/gharchive-2015-01-01-0.json.gz", "--time created_at");
}
