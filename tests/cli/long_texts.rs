//! Records whose long text is in a column: a run needs as much memory as if it were a property.

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
            let run = dir.shell(&format!("ulimit -v 300000; {tool} in.jsonl -q --to null:"));
            assert_eq!((run.status(), run.stderr().as_str()), (0, ""), "{tool}, {column}");
        }
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
