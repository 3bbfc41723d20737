//! `--field COLUMN=PATH` where PATH is a column that another flag fills: a path means what the record itself has.

use crate::harness::Dir;
use crate::listener::Listener;
use serde_json::{Value, json};

const RECORD: &str = r#"{"server_timestamp":"2026-01-01T00:00:00Z","source":"s","event_type":"t","user_id":"u","uid":"real",
    "offset":7,"schema_id":8}"#;

/// Every order of these.
fn orders<'a>(flags: &[&'a str]) -> Vec<Vec<&'a str>> {
    if flags.is_empty() {
        return vec![vec![]];
    }
    let begin = |at: usize| {
        let rest = [&flags[..at], &flags[at + 1..]].concat();
        orders(&rest).into_iter().map(move |rest| [&[flags[at]], &rest[..]].concat())
    };
    (0..flags.len()).flat_map(begin).collect()
}

#[test]
fn the_order_of_flags_changes_no_row_and_columns_may_be_swapped() {
    let dir = Dir::new("field-paths");
    dir.write("in.jsonl", RECORD.replace('\n', " ") + "\n");
    for (flags, columns) in [
        (&["--field source=user_id", "--field user_id=uid"][..], json!({"source": "u", "user_id": "real"})),
        (&["--field user_id=source", "--field source=user_id"], json!({"source": "u", "user_id": "s"})),
        (
            &["--field user_id=source", "--field source=event_type", "--field event_type=user_id"],
            json!({"source": "t", "user_id": "s", "event_type": "u"}),
        ),
        (
            &["--set source=web", "--field user_id=source", "--require user_id,source"],
            json!({"source": "web", "user_id": "s"}),
        ),
        (
            &["--set server_timestamp=2026-02-01T00:00:00Z", "--field client_timestamp=server_timestamp"],
            json!({"client_timestamp": "2026-01-01T00:00:00.000000Z", "server_timestamp": "2026-02-01T00:00:00.000000Z"}),
        ),
        (&["--field offset=schema_id", "--field schema_id=offset"], json!({"offset": 8, "schema_id": 7})),
        (&["--field source=source", "--field user_id=source"], json!({"source": "s", "user_id": "s"})),
        (
            &["--set source=web", "--field source=uid", "--field user_id=source"],
            json!({"source": "web", "user_id": "s"}),
        ),
    ] {
        for order in orders(flags) {
            let line = format!("evt-ingest in.jsonl -q -o jsonl {}", order.join(" "));
            let rows = dir.shell(&line).succeeds().rows();
            let found: Value = columns
                .as_object()
                .expect("columns")
                .keys()
                .map(|name| (name.clone(), rows[0][name].clone()))
                .collect();
            assert_eq!(found, columns, "{line}");
        }
    }
}

/// Whether another flag fills a column decides nothing about the fields that are no value of a column.
#[test]
fn an_object_with_the_name_of_a_column_that_a_flag_fills_is_no_value_of_another_column() {
    let dir = Dir::new("field-paths-objects");
    dir.write("in.jsonl", "{\"server_timestamp\":\"2026-01-01T00:00:00Z\",\"source\":{\"a\":1}}\n");
    for set in ["", "--set source=web"] {
        let line = format!("evt-ingest in.jsonl -q -o jsonl --field user_id=source {set}");
        let rows = dir.shell(&line).succeeds().rows();
        assert_eq!((&rows[0]["user_id"], &rows[0]["properties"]["source"]), (&Value::Null, &json!({"a": 1})), "{line}");
    }
}

#[test]
fn a_time_of_the_client_that_the_arrival_replaces_can_be_kept_in_a_column() {
    let dir = Dir::new("field-paths-http");
    let listener =
        Listener::open(&dir, &["--field", "client_timestamp=server_timestamp", "--ack", "memory", "--to", "out.jsonl"]);
    assert_eq!(listener.json(&RECORD.replace('\n', " ")).status, 200);
    listener.stop();
    let rows = dir.rows("out.jsonl");
    assert_eq!(rows[0]["client_timestamp"], "2026-01-01T00:00:00.000000Z");
    assert_ne!(rows[0]["server_timestamp"], rows[0]["client_timestamp"]);
}
