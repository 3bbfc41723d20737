//! Records with a long text: a run needs as much memory for one in a column as if it were a property, and evt reads the
//! rows that it wrote of them.

use crate::harness::Dir;
use crate::listener::Listener;
use std::fmt::Write;

const LONG: usize = 1_000_000;

#[test]
fn long_texts_in_any_column_need_little_memory() {
    let dir = Dir::new("long-texts");
    for column in ["user_id", "source", "event_type"] {
        let mut text = String::new();
        for number in 0..200 {
            let long = "x".repeat(LONG);
            writeln!(text, r#"{{"server_timestamp":"2026-01-01T00:00:00Z","{column}":"{number}{long}"}}"#)
                .expect("it fits");
        }
        dir.write("in.jsonl", text);
        // A column of all these texts would take 256 MiB, and half as much more while it grows. In evt-validate, source
        // and event_type are dictionaries.
        for tool in ["evt-ingest", "evt-validate"] {
            let run = dir.shell(&format!("ulimit -d 200000; {tool} in.jsonl -q --to null:"));
            assert_eq!((run.status(), run.stderr().as_str()), (0, ""), "{tool}, {column}");
        }
    }
}

#[test]
fn a_row_of_evt_is_read_if_the_record_was_as_long_as_a_record_may_be() {
    let dir = Dir::new("long-rows");
    dir.write("in.csv", format!("t,note\n2026-01-01T00:00:00Z,\"{}\"\n", "\"\"".repeat((1 << 20) / 2 - 100)));
    dir.shell("sed 's/\"\"/\\t\\t/g' in.csv > tabs.csv").succeeds();
    for input in ["in.csv", "tabs.csv"] {
        let line = format!("evt-ingest {input} --time t --now 2026-01-02T00:00:00Z -q --overwrite --to rows.jsonl");
        dir.shell(&line).succeeds();
        assert!(dir.bytes("rows.jsonl").len() > 1 << 20);
        dir.shell("evt-view rows.jsonl -o jsonl -q | cmp - rows.jsonl").succeeds();
        dir.shell(&format!("evt-reconcile {input} rows.jsonl --time t --now 2026-01-02T00:00:00Z")).succeeds();
        // A row of another tool has no stamps.
        dir.shell("sed 's/\"stream_time\":/\"time\":/' rows.jsonl > foreign.jsonl").succeeds();
        let foreign = dir.shell("evt-ingest foreign.jsonl -q --to null: --dlq - -o jsonl");
        assert!(foreign.text().contains("TooLargeError"), "{foreign}");
    }
}

#[test]
fn a_server_keeps_nothing_of_the_texts_of_requests_that_it_has_answered() {
    let dir = Dir::new("long-texts-http");
    dir.write("tokens.toml", "[[token]]\nname = 'ios'\nsecret = '12345678'\nsources = ['ios']\n");
    let listener = Listener::open(&dir, &["--tokens", "tokens.toml", "--ack", "memory", "--to", "null:"]);
    let headers = [("content-type", "application/json"), ("authorization", "Bearer 12345678")];
    let post = |number: usize| {
        let event = format!(r#"{{"event_type":"t","source":"{number}{}"}}"#, "x".repeat(LONG));
        let body = format!(r#"{{"events":[{}]}}"#, vec![event; 9].join(","));
        assert_eq!(listener.post(&headers, body.as_bytes()).status, 403);
    };
    (0..3).for_each(post);
    let before = listener.memory("VmRSS");
    (3..23).for_each(post);
    let grown = listener.memory("VmRSS").saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB more");
    listener.stop();
}
