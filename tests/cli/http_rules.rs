//! The HTTP server and the rules of HTTP/1.1: hosts, heads, expected bodies, clients that stop writing; and SIGHUP.

use crate::broker::{Bench, Broker};
use crate::harness::{Dir, eventually};
use crate::listener::{Listener, Response, event, read, request};
use crate::spool::position;
use rdkafka::producer::BaseRecord;
use rustix::process::Signal;
use std::io::Write;
use std::net::Shutdown;

fn open(dir: &Dir) -> Listener {
    Listener::open(dir, &["-q", "--to", "out.jsonl", "--ack", "memory"])
}

#[test]
fn a_client_that_stops_writing_behind_its_request_is_answered() {
    let dir = Dir::new("rules_half_closed");
    let listener = open(&dir);
    for number in 0..20 {
        let mut stream = listener.connect();
        stream
            .write_all(&request(&[("content-type", "application/json")], event(number, "a").as_bytes()))
            .expect("sent");
        stream.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(read(&mut stream).map(|answer| answer.status), Some(200), "{number}");
    }
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 20);
}

#[test]
fn a_request_says_its_host_once() {
    let dir = Dir::new("rules_host");
    let listener = open(&dir);
    let status = |version: &str, hosts: &str| {
        let head = format!("GET /healthz HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        listener.raw(head.as_bytes()).map(|answer: Response| answer.status)
    };
    for hosts in ["host: h\r\n", "host: h:80\r\n", "host: [::1]:80\r\n", "host:\r\n"] {
        assert_eq!(status("1.1", hosts), Some(200), "{hosts}");
    }
    for hosts in ["", "host: a\r\nhost: b\r\n", "host: a b\r\n", "host: a/b\r\n"] {
        assert_eq!(status("1.1", hosts), Some(400), "{hosts}");
    }
    for host in ["h:x", "h:99999", "user@h", "a,b", "[::1", "[h]:80"] {
        assert_eq!(status("1.1", &format!("host: {host}\r\n")), Some(400), "{host}");
    }
    assert_eq!(status("1.0", ""), Some(200));
    assert_eq!(status("1.0", "host: a\r\nhost: b\r\n"), Some(400));
    listener.stop();
}

#[test]
fn a_head_of_more_than_64_kib_is_refused() {
    let dir = Dir::new("rules_head");
    let listener = open(&dir);
    let status = |bytes: usize| {
        let filler = "x".repeat(bytes / 50 - 20);
        let headers: String = (0..50).map(|n| format!("x-filler-{n:03}: {filler}\r\n")).collect();
        let head = format!("GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}\r\n");
        listener.raw(head.as_bytes()).map(|answer| answer.status)
    };
    assert_eq!([status(60_000), status(70_000), status(100_000)], [Some(200), Some(431), Some(431)]);
    listener.stop();
}

#[test]
fn a_head_of_more_than_100_headers_is_refused_and_the_line_names_the_limit() {
    let dir = Dir::new("rules_headers");
    let mut listener = Listener::open(&dir, &["--to", "out.jsonl", "--ack", "memory"]);
    let status = |count: usize| {
        let headers: String = (2..count).map(|n| format!("x{n}: 1\r\n")).collect();
        let head = format!("GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}\r\n");
        listener.raw(head.as_bytes()).map(|answer| answer.status)
    };
    assert_eq!([status(100), status(101)], [Some(200), Some(431)]);
    listener.wait_for_message("a connection is rejected: the request head has more than 100 headers or 64 KiB (431)\n");
    listener.stop();
}

/// RFC 8259 lets a reader of JSON ignore it, and some clients write one. In a file it is ignored, too.
#[test]
fn a_byte_order_mark_before_a_body_or_a_record_of_a_topic_is_ignored() {
    let dir = Dir::new("rules_mark");
    let listener = open(&dir);
    let event = |n: usize| format!(r#"{{"source":"s","event_type":"t{n}"}}"#);
    let cloud = r#"{"specversion":"1.0","id":"1","source":"s","type":"t5"}"#;
    let bodies = [
        ("application/json", event(0)),
        ("application/json", format!(r#"{{"events":[{},{}]}}"#, event(1), event(2))),
        ("application/x-ndjson", format!("{}\n{}\n", event(3), event(4))),
        ("application/cloudevents+json", cloud.to_owned()),
        ("application/cloudevents-batch+json", format!("[{cloud}]")),
    ];
    for (media, body) in &bodies {
        let answer = listener.post(&[("content-type", *media)], format!("\u{feff}{body}").as_bytes());
        assert!(answer.status == 200 && answer.json()["rejected"] == 0, "{media}: {answer:?}");
    }
    let answer = listener.json("\u{feff}[]");
    assert!(answer.body.contains("; send {\\\"events\\\":["), "{answer:?}");
    let answer = listener.json("\u{feff}{\"a\":}");
    assert!(answer.body.contains("byte 6: "), "{answer:?}");
    listener.stop();
    let types: Vec<_> = dir.rows("out.jsonl").into_iter().map(|row| row["event_type"].clone()).collect();
    assert_eq!(types, ["t0", "t1", "t2", "t3", "t4", "t5", "t5"]);

    let Some(bench) = Bench::new("mark") else { return };
    let topic = bench.topic("mark", 1, &[]);
    let value = format!("\u{feff}{}", event(6));
    bench.produce([BaseRecord::<[u8], [u8]>::to(&topic).payload(value.as_bytes())]);
    let run = bench.dir.run("evt-ingest", &[&bench.uri(&topic, "?end=latest"), "-q", "-o", "jsonl"]).succeeds();
    assert_eq!(run.rows()[0]["event_type"], "t6", "{run}");
}

#[test]
fn a_body_that_is_announced_and_too_large_is_not_asked_for() {
    let dir = Dir::new("rules_expect");
    let listener = open(&dir);
    let head = "POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
                content-length: 99999999\r\n\r\n";
    assert_eq!(listener.raw(head.as_bytes()).map(|answer| answer.status), Some(413), "and no 100 before it");
    listener.stop();
}

/// Without the chunk framing the body is still compressed.
#[test]
fn a_coding_of_the_transfer_other_than_chunked_is_not_implemented() {
    let dir = Dir::new("rules_transfer");
    let listener = open(&dir);
    let body = event(1, "a");
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let post = |codings: &str| {
        let head = format!("POST /v1/events HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{codings}\r\n\r\n");
        listener.raw((head + &chunks).as_bytes()).expect("an answer")
    };
    for codings in ["gzip, chunked", "gzip,chunked", "deflate\r\ntransfer-encoding: chunked"] {
        let answer = post(&format!("transfer-encoding: {codings}"));
        assert!(answer.status == 501 && answer.body.contains("expected chunked"), "{codings}: {answer:?}");
    }
    for codings in ["identity", "gzip", "foo", "chunked, gzip"] {
        let answer = post(&format!("transfer-encoding: {codings}"));
        assert!(answer.status == 400 && answer.body.is_empty(), "{codings}: {answer:?}");
    }
    for codings in ["transfer-encoding: chunked", "Transfer-Encoding: Chunked "] {
        assert_eq!(post(codings).status, 200, "{codings}");
    }
    let empty = listener.json("{\"events\":[]}");
    assert!(empty.status == 200 && empty.body.contains("\"accepted\":0"), "{empty:?}");
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 2);
}

#[test]
fn the_first_record_over_http_is_named_by_its_position_like_any_other() {
    let dir = Dir::new("rules_position");
    let listener = Listener::open(&dir, &["-q", "--to", "out.jsonl", "--spool", "spool"]);
    let first = position(&dir);
    for _ in 0..2 {
        assert_eq!(listener.json("no JSON").status, 400);
    }
    listener.signal(Signal::TERM);
    let (status, said) = listener.wait();
    assert_eq!(status, 128 + 15, "{said}");
    for place in [first, first + 1].map(|offset| format!("http/0@{offset}: ParseError: ")) {
        assert_eq!(said.matches(&place).count(), 1, "{place}: {said}");
    }
}

#[test]
fn a_hangup_ends_no_listener() {
    let dir = Dir::new("rules_hangup");
    let listener = open(&dir);
    for _ in 0..3 {
        listener.signal(Signal::HUP);
        assert_eq!(listener.get("/healthz").status, 200);
    }
    assert_eq!(listener.json(&event(1, "a")).status, 200);
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 1);
}

#[test]
fn an_output_that_is_away_is_seen_in_the_first_scrape() {
    let dir = Dir::new("rules_scrape");
    let away = "kafka://127.0.0.1:1/t";
    let listener = Listener::open(&dir, &["-q", "--spool", "spool", "--to", away, "--dlq", "dead.jsonl"]);
    let metrics = listener.get("/metrics").body;
    for sample in [
        "evt_events_total{stage=\"evt-ingest\",outcome=\"in\"} 0".to_owned(),
        format!("evt_sink_rows_total{{output=\"{away}\",outcome=\"written\"}} 0"),
        format!("evt_output_up{{output=\"{away}\"}} 0"),
    ] {
        assert!(metrics.lines().any(|line| line.trim_end_matches(".0") == sample), "{sample}: {metrics}");
    }
}

/// A server whose output is a PostgreSQL of this test, which the test kills and starts again.
fn watch_outage(dir: &Dir, server: &Broker, to: &str) {
    let spool = format!("{}-spool", server.name);
    let listener = Listener::open(dir, &["-q", "--spool", &spool, "--to", to, "--dlq", "null:"]);
    let is_up = |value: &str| {
        let ends = format!("}} {value}");
        let metrics = listener.get("/metrics").body;
        metrics.lines().any(|line| line.starts_with("evt_output_up{") && line.trim_end_matches(".0").ends_with(&ends))
    };
    eventually("the output is there", || is_up("1"));
    server.services(&["kill", server.name]);
    let mut number = 0;
    eventually("the output is away", || {
        // evt sends no request to a store before the first row.
        number += 1;
        assert_eq!(listener.json(&event(number, "a")).status, 200);
        is_up("0")
    });
    server.start();
    eventually("the output is back", || is_up("1"));
    listener.stop();
}

#[test]
fn an_output_that_goes_and_comes_back_is_seen_in_the_metrics() {
    let Some(mut bench) = Bench::new("rules_up") else { return };
    // A directory that PostgreSQL's own user may enter: root cannot run PostgreSQL.
    let state = std::env::temp_dir().join(format!("evt-rules-up-{}", std::process::id()));
    let [kafka, postgres] = ["kafka", "postgres"].map(|name| Broker { state: state.clone(), name });
    bench.brokers = kafka.start();
    watch_outage(&bench.dir, &kafka, &bench.uri(&bench.topic("t", 1, &[]), ""));
    watch_outage(&bench.dir, &postgres, &postgres.start());
}
