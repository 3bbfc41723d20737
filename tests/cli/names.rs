//! Names: of fields that are stamps elsewhere, and of columns that are properties too.

use crate::harness::{Dir, Run};
use serde_json::{Value, json};

/// Records with some of the six names, and one that carries stamps.
const RECORDS: &str = r#"{"t":"2026-01-01T00:00:00Z","offset":100,"partition":"a"}
{"t":"2026-01-01T00:00:01Z","topic":"x","partition":3,"offset":7,"ts":5}
{"t":"2026-01-01T00:00:02Z","origin":"web","ingested_at":"now","schema_id":"s"}
"#;

fn run(dir: &Dir, line: &str) -> Run {
    dir.shell(line).succeeds().stays_calm()
}

/// The properties of each row.
fn properties(run: &Run) -> Vec<Value> {
    run.rows().iter().map(|row| row["properties"].clone()).collect()
}

#[test]
fn a_record_with_the_name_of_a_stamp_is_the_same_event_in_every_tool() {
    let dir = Dir::new("stamp-names");
    dir.write("p.jsonl", RECORDS);
    let ingested = run(&dir, "evt-ingest p.jsonl --time t -q --now 2026-01-02T00:00:00Z -o jsonl");
    let wanted: Vec<Value> = RECORDS.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(properties(&ingested), wanted);
    for tool in ["evt-view", "evt-validate", "evt-sink"] {
        let same = run(&dir, &format!("{tool} p.jsonl --time t -q --now 2026-01-02T00:00:00Z -o jsonl"));
        assert_eq!(same.text(), ingested.text(), "{tool}");
    }
    for (by, argument, value, warned) in [
        ("partition", "offset", r#"{"partition":"0"}"#, true),
        ("properties.partition", "properties.offset", r#"{"properties.partition":"a"}"#, false),
    ] {
        let window = format!("--size 1d --by {by} --agg 'v=sum({argument})' -q -o jsonl");
        let one = run(&dir, &format!("evt-window p.jsonl --time t {window}"));
        let two = run(&dir, &format!("evt-ingest p.jsonl --time t -q | evt-window {window}"));
        assert_eq!(one.text(), two.text());
        assert!(one.text().contains(value), "{one}");
        for run in [&one, &two] {
            let said = run.stderr();
            let both =
                ["partition", "offset"].map(|name| said.matches(&format!("{name} is the event's column")).count());
            assert_eq!(both, [usize::from(warned); 2], "{run}");
            assert_eq!(said.contains("too: properties.offset"), warned, "{run}");
        }
    }
}

#[test]
fn a_row_that_carries_stamps_keeps_them_without_those_that_may_be_absent() {
    let dir = Dir::new("stamps");
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z");
    let row = |offset: usize| json!({"event_time": early, "origin": "o", "partition": "p", "offset": offset, "stream_time": late});
    let whole = [1, 2].map(|offset| row(offset).to_string() + "\n").concat();
    dir.write("s.jsonl", &whole);
    dir.write(
        "s.csv",
        format!("event_time,origin,partition,offset,stream_time\n{early},o,p,1,{late}\n{early},o,p,2,{late}\n"),
    );
    for file in ["s.jsonl", "s.csv"] {
        let seen = run(&dir, &format!("evt-view {file} -q -o jsonl"));
        let stamps: Vec<_> = seen.rows().iter().map(|row| [row["origin"].clone(), row["offset"].clone()]).collect();
        assert_eq!(stamps, [[json!("o"), json!(1)], [json!("o"), json!(2)]], "{seen}");
        // The stream was an hour further on: a window of a minute counts neither.
        let late = run(&dir, &format!("evt-window {file} --size 1m -q -o jsonl --late late.jsonl"));
        assert_eq!((late.rows().len(), dir.rows("late.jsonl").len()), (0, 2), "{late}");
        std::fs::remove_file(dir.path("late.jsonl")).expect("it was written");
    }
    // A partition that a flag maps is not carried: the rows are stamped by their own event times.
    let mapped = run(&dir, "evt-window s.jsonl --size 1m --set partition=x -q -o jsonl");
    assert_eq!(mapped.rows()[0]["value"], 2.0, "{mapped}");
}

#[test]
fn a_value_that_hash_ids_or_set_replaces_stays_a_property_through_every_stage() {
    let dir = Dir::new("replaced");
    dir.write("r.jsonl", r#"{"t":"2026-01-01T00:00:00Z","event_id":"order-17","source":{"ip":"1.1.1.1"}}"#);
    let flags = "--time t --hash-ids --set source=web -q";
    let row =
        run(&dir, &format!("evt-ingest r.jsonl {flags} -o jsonl | evt-view -f jsonl -q -o jsonl")).rows().remove(0);
    let wanted = json!({"t": "2026-01-01T00:00:00Z", "source": {"ip": "1.1.1.1"}, "event_id": "order-17"});
    assert_eq!((&row["properties"], &row["source"]), (&wanted, &json!("web")));
    let by = "--size 1d --by properties.event_id,properties.source.ip -o jsonl";
    let one = run(&dir, &format!("evt-window r.jsonl {flags} {by}"));
    let two = run(&dir, &format!("evt-ingest r.jsonl {flags} | evt-window {by} -q"));
    assert_eq!(one.text(), two.text());
    assert_eq!(one.rows()[0]["dimensions"]["properties.event_id"], "order-17", "{one}");
}

#[test]
fn a_bare_name_that_is_a_column_and_a_property_is_warned_of_once_wherever_the_rows_come_from() {
    let dir = Dir::new("shadows");
    let lines: String = (0..3000)
        .map(|n| {
            let beside = if n >= 2500 { json!({"user_id": n, "n": n}) } else { json!({"n": n, "m": "user_id"}) };
            json!({"server_timestamp": "2026-01-01T00:00:00Z", "user_id": "u", "properties": beside}).to_string() + "\n"
        })
        .collect();
    dir.write("e.jsonl", lines);
    run(&dir, "evt-ingest e.jsonl -q --to e.parquet --to e.avro --to e.csv --to - > e.arrows");
    run(&dir, "evt-sink e.jsonl -q --to sqlite:e.db");
    let inputs = ["e.jsonl", "e.csv", "e.arrows", "e.parquet", "e.avro", "'sqlite:e.db?table=raw_events'"];
    for input in inputs {
        for tool in [
            "evt-ingest {} --where \"EXPR\"",
            "evt-view {} --where \"EXPR\"",
            "evt-window {} --size 1d --where \"EXPR\"",
        ] {
            if tool.starts_with("evt-ingest") && input.contains("sqlite") {
                continue;
            }
            for (expr, warnings) in [("user_id = 'u'", 1), ("properties.user_id is null", 0), ("source = 'x'", 0)] {
                let line = tool.replace("{}", input).replace("EXPR", expr) + " -q -o jsonl";
                let said = dir.shell(&line).succeeds().stderr();
                assert_eq!(said.matches("too: properties.user_id").count(), warnings, "{line}: {said}");
                assert_eq!(said.lines().count(), warnings, "{line}: {said}");
            }
        }
    }
}
