//! What the HTTP server of evt-ingest says about its limits, with the flag of each.

use crate::harness::{Dir, eventually};
use crate::listener::{Listener, Response, event};

/// The error of a request that the server refuses as a whole.
#[track_caller]
fn refused(answer: &Response, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    answer.json()["error"].as_str().expect("a reason").to_owned()
}

#[test]
fn a_request_that_is_too_large_names_the_flag_of_the_limit() {
    let dir = Dir::new("http-large");
    let long = format!(r#"{{"source":"s","event_type":"t","x":"{}"}}"#, "x".repeat(100 << 10));
    let listener = Listener::open(&dir, &["--max-body", "64KiB", "--to", "null:"]);
    assert_eq!(refused(&listener.json(&long), 413), "the body exceeds 65536 bytes (--max-body)");
    dir.write("body", &long);
    let body = dir.shell("gzip -c body").succeeds();
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let why = refused(&listener.post(&headers, body.stdout()), 413);
    assert!(why.ends_with("bytes (--max-body, --max-decompression-ratio)"), "{why}");
    assert!(why.starts_with("the decompressed body exceeds "), "{why}");
    listener.stop();
    // With the flag it is accepted.
    let listener = Listener::open(&dir, &["--max-body", "1MiB", "--max-decompression-ratio", "10000", "--to", "null:"]);
    assert_eq!([listener.json(&long).status, listener.post(&headers, body.stdout()).status], [200, 200]);
    listener.stop();
    let listener = Listener::open(&dir, &["--spool", "spool", "--spool-max", "64KiB", "--to", "out.jsonl"]);
    let why = refused(&listener.json(&long), 413);
    assert!(why.contains(" bytes in the spool, more than 65536 (--spool-max)"), "{why}");
    listener.stop();
    let listener = Listener::open(&dir, &["--spool", "spool", "--spool-max", "1MiB", "--to", "out.jsonl"]);
    assert_eq!(listener.json(&long).status, 200);
    listener.stop();
}

#[test]
fn a_spool_that_is_full_of_ids_names_the_flag_that_keeps_them() {
    let dir = Dir::new("http-full-of-ids");
    let flags = ["--spool", "spool", "--spool-max", "64KiB", "--dedup", "1h", "--to", "out.jsonl"];
    let listener = Listener::open(&dir, &flags);
    let body =
        |number: usize| event(number, "s").replace("\"n\":", &format!("\"x\":\"{}\",\"n\":", "x".repeat(9 << 10)));
    let mut number = 0;
    eventually("the spool has records that the outputs have", || {
        number += 1;
        let answer = listener.json(&body(number));
        answer.status == 503
            && answer.json()["error"] == "the spool is full (--spool-max), mostly with records kept for --dedup"
    });
    listener.stop();
}

#[test]
fn what_a_server_without_a_flag_cannot_do_names_the_flag() {
    let dir = Dir::new("http-flags");
    let listener = Listener::open(&dir, &["--time", "when", "--to", "null:"]);
    let avro = listener.post(&[("content-type", "application/vnd.confluent.avro")], b"\0\0\0\0\x01");
    assert_eq!(refused(&avro, 415), "content-type: Avro requires a registry (--schemas http://HOST:PORT)");
    let answer = listener.json(&event(1, "s"));
    assert_eq!(answer.json()["errors"][0]["reason"], "missing event time (--time)", "{answer:?}");
    let with_time = event(1, "s").replace("\"n\":", "\"when\":\"2026-01-01T00:00:00Z\",\"n\":");
    assert_eq!(listener.json(&with_time).status, 200);
    listener.stop();
    let listener = Listener::open(&dir, &["--rate", "1", "--to", "null:"]);
    // A pause of a second between two requests gives back the whole rate.
    let mut answers = (0..100).map(|number| listener.json(&event(number, "s")));
    let late = answers.find(|answer| answer.status != 200).expect("one of 100 requests exceeds the rate");
    assert_eq!(refused(&late, 429), "rate limit of all tokens (--rate) exceeded");
    listener.stop();
}
