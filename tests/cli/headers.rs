//! Headers of a request or record: evt passes them to the records and dead letters made of it, and to no others.

use crate::broker::{Bench, Record, stopped};
use crate::harness::{eventually, in_ci};
use crate::kafka::record;
use crate::listener::{Listener, Response, event};
use rdkafka::message::{Header, OwnedHeaders};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

const PARENTS: [&str; 2] = [
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
];

/// The two ids of a request, as in headers.
type Names = Vec<(String, String)>;

fn names(parent: &str, id: &str) -> Names {
    vec![("traceparent".to_owned(), parent.to_owned()), ("x-request-id".to_owned(), id.to_owned())]
}

/// The ids in the response.
fn answered(response: &Response) -> Names {
    assert_eq!(response.status, 200, "{response:?}");
    let header = |name| response.header(name).expect("it is answered");
    names(header("traceparent"), header("x-request-id"))
}

/// All headers of a record; their values are text.
fn carried(record: &Record) -> Names {
    let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().expect("a value")).expect("text");
    record.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn row(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON")
}

fn number(row: &Value) -> usize {
    row["properties"]["n"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or_else(|| panic!("{row}"))
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|number| event(number, "s") + "\n").collect()
}

/// Posts lines of events with these ids.
fn post(listener: &Listener, parent: &str, id: &str, body: &str) -> Names {
    let headers = [("content-type", "application/x-ndjson"), ("traceparent", parent), ("x-request-id", id)];
    answered(&listener.post(&headers, body.as_bytes()))
}

#[test]
fn names_of_a_request_are_headers_of_its_records_in_json_and_avro_and_stand_nowhere_else() {
    let Some(bench) = Bench::new("headers") else { return };
    let Ok(registry) = std::env::var("EVT_REGISTRY") else {
        assert!(!in_ci(), "EVT_REGISTRY is not set (scripts/services)");
        return eprintln!("skipped: EVT_REGISTRY is not set (scripts/services)");
    };
    let [json, avro, frames] = ["json", "avro", "frames"].map(|name| bench.topic(name, 1, &[]));
    let in_avro = bench.uri(&avro, &format!("?format=avro&schemas={registry}"));
    let to = [bench.uri(&json, ""), in_avro.clone(), bench.uri(&frames, "?format=frames"), "out.jsonl".to_owned()];
    let mut flags = vec!["--spool", "spool", "--dedup", "1h", "--dlq", "dead.jsonl"];
    to.iter().for_each(|to| flags.extend(["--to", to.as_str()]));
    let listener = Listener::open(&bench.dir, &flags);
    let first = post(&listener, PARENTS[0], "abc-1", &lines(0..1));
    let many = format!("{}no JSON\n", lines(1..1500));
    let [kind, parent, id] =
        [("content-type", "application/x-ndjson"), ("traceparent", PARENTS[1]), ("x-request-id", "abc-2")];
    let many =
        answered(&listener.post(&[kind, parent, ("tracestate", "a=1"), id, ("tracestate", "b=2")], many.as_bytes()));
    let made = answered(&listener.json(&event(1500, "s")));
    let again = post(&listener, PARENTS[0], "abc-3", &lines(0..2));
    // A run that is stopped leaves what slow brokers do not take to the next one.
    let in_file = || crate::broker::lines(&bench.dir, "out.jsonl");
    let has_all = |topic: &&String| bench.records(topic).len() == 1501;
    let seen = |uri: &str| bench.dir.run("evt-view", &["-q", "-o", "jsonl", uri]).succeeds().rows();
    let of_frames = bench.uri(&frames, "?format=frames");
    eventually("all are there", || {
        in_file() == 1501 && [&json, &avro].iter().all(has_all) && seen(&of_frames).len() == 1501
    });
    listener.stop();
    assert_eq!(
        [&first, &many, &again],
        [&names(PARENTS[0], "abc-1"), &names(PARENTS[1], "abc-2"), &names(PARENTS[0], "abc-3")]
    );

    let carries = [&many[..1], &[("tracestate".to_owned(), "a=1,b=2".to_owned())], &many[1..]].concat();
    let wanted = |number: usize| match number {
        0 => &first,
        1..1500 => &carries,
        _ => &made,
    };
    let (of_json, of_avro) = (bench.records(&json), bench.records(&avro));
    assert_eq!((of_json.len(), of_avro.len()), (1501, 1501));
    for (at, (json, avro)) in of_json.iter().zip(&of_avro).enumerate() {
        assert_eq!((number(&row(json)), &carried(json), &carried(avro)), (at, wanted(at), wanted(at)));
    }
    assert!(bench.records(&frames).iter().all(|record| record.headers.is_empty()));
    let written = bench.dir.rows("out.jsonl");
    let all = [of_json.iter().map(row).collect(), seen(&in_avro), seen(&of_frames), written];
    for rows in all {
        assert_eq!(rows.len(), 1501);
        assert!(rows.iter().all(|row| row.get("headers").is_none() && row.get("properties").is_some()), "{}", rows[0]);
    }
    let letters = bench.dir.rows("dead.jsonl");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["headers"], serde_json::json!(BTreeMap::from_iter(carries)));
}

#[test]
fn what_comes_again_after_a_kill_has_the_headers_it_had() {
    let Some(bench) = Bench::new("headers-killed") else { return };
    let topic = bench.topic("t", 1, &[]);
    let flags = ["--spool", "spool", "--to", &bench.uri(&topic, "")];
    let listener = Listener::open(&bench.dir, &flags);
    let mut wanted: BTreeMap<usize, Names> = BTreeMap::new();
    for request in 0..20 {
        let id = format!("r-{request}");
        let sent = post(&listener, PARENTS[request % 2], &id, &lines(request * 5..request * 5 + 5));
        wanted.extend((request * 5..request * 5 + 5).map(|number| (number, sent.clone())));
    }
    eventually("all are there", || bench.records(&topic).len() == 100);
    listener.signal(Signal::KILL);
    assert_eq!(listener.wait().0, 128 + 9);
    // As after a kill before the run has saved the position.
    let noted = bench.dir.path("spool/position");
    assert!(std::fs::remove_file(&noted).is_ok() || !noted.exists());
    let listener = Listener::open(&bench.dir, &flags);
    eventually("all are there again", || bench.records(&topic).len() == 200);
    listener.stop();
    for record in bench.records(&topic) {
        assert_eq!(carried(&record), wanted[&number(&row(&record))]);
    }
}

/// Headers as a record has them.
type Pairs = Vec<(String, Option<Vec<u8>>)>;

/// Headers of a record that a stage forwards, and headers that describe the input value and are wrong for the output
/// value.
fn given() -> (OwnedHeaders, Pairs) {
    let pass: [(&str, Option<&[u8]>); 5] = [
        ("traceparent", Some(PARENTS[0].as_bytes())),
        ("tenant", Some(b"\xff\x00")),
        ("none", None),
        ("tenant", Some(b"")),
        ("_x", Some(b"1")),
    ];
    let tell = ["Content-Type", "ce_type", "__value_schema_id", "__connect.errors.topic", "evt.error_type"];
    let mut headers = OwnedHeaders::new();
    for (key, value) in pass {
        headers = headers.insert(Header { key, value });
    }
    for key in tell {
        headers = headers.insert(Header { key, value: Some("x") });
    }
    let pass = pass.iter().map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)));
    (headers, pass.collect())
}

#[test]
fn headers_of_a_record_go_with_it_from_topic_to_topic() {
    let Some(bench) = Bench::new("headers-topics") else { return };
    let [from, ingested, validated, sunk] = ["from", "a", "b", "c"].map(|name| bench.topic(name, 1, &[]));
    let (headers, pass) = given();
    // Without an arrival time from the broker, evt holds each record until a hundred more have followed.
    let event = |number| crate::kafka::event(number, "s").replace("server_timestamp", "client_timestamp");
    let events: Vec<String> = (0..300).map(event).collect();
    bench.produce(events.iter().enumerate().map(|(number, event)| {
        let record = record(&from, 0, event);
        if number % 100 == 1 { record.headers(headers.clone()) } else { record }
    }));
    let steps = [
        ("evt-ingest --time client_timestamp --max-future 1h", &from, &ingested),
        ("evt-validate --dedup 1h", &ingested, &validated),
        ("evt-sink", &validated, &sunk),
    ];
    for (tool, from, to) in steps {
        let (from, to) = (bench.uri(from, "?end=latest"), bench.uri(to, ""));
        bench.dir.shell(&format!("{tool} '{from}' --to '{to}'")).succeeds();
    }
    for topic in [&ingested, &validated, &sunk] {
        let records = bench.records(topic);
        assert_eq!(records.len(), 300, "{topic}");
        for (at, record) in records.iter().enumerate() {
            let wanted = if at % 100 == 1 { pass.as_slice() } else { &[] };
            assert_eq!(record.headers, wanted, "{topic}: {at}");
        }
    }
}

#[test]
fn a_row_that_becomes_a_dead_letter_shows_the_headers_of_its_record() {
    let Some(bench) = Bench::new("headers-letters") else { return };
    let topic = bench.topic("t", 1, &[]);
    let to = bench.uri(&topic, "?rdkafka.message.max.bytes=1500");
    // Another output takes events of any size, so the server accepts events that are too large for the topic.
    let wrong = r#"{"source":"s","event_type":"t","n":"seven"}"#;
    let large = format!(r#"{{"source":"s","event_type":"t","n":7,"x":"{}"}}"#, "x".repeat(3000));
    // It is too large with its headers, and fits without them.
    let heavy = format!(r#"{{"source":"s","event_type":"t","n":7,"x":"{}"}}"#, "x".repeat(900));
    let state = format!("a={}", "x".repeat(510));
    for (name, to) in [("topic.jsonl", to.as_str()), ("file.jsonl", "out.jsonl")] {
        let flags = ["--ack", "memory", "--where", "n > 5", "--to", to, "--to", "null:", "--dlq", name];
        let listener = Listener::open(&bench.dir, &flags);
        post(&listener, PARENTS[0], "wrong", wrong);
        post(&listener, PARENTS[1], "large", &large);
        let [kind, parent, id] =
            [("content-type", "application/json"), ("traceparent", PARENTS[1]), ("x-request-id", "heavy")];
        answered(&listener.post(&[kind, parent, id, ("tracestate", &state)], heavy.as_bytes()));
        let count = if to == "out.jsonl" { 1 } else { 3 };
        eventually("the letters are there", || crate::broker::lines(&bench.dir, name) >= count);
        listener.stop();
        let letters = bench.dir.rows(name);
        let told: BTreeSet<String> = letters
            .iter()
            .map(|letter| format!("{} {}", letter["error_type"], letter["headers"]["x-request-id"]))
            .collect();
        let [wrong, large, heavy] =
            [r#""AggregationError" "wrong""#, r#""SinkError" "large""#, r#""SinkError" "heavy""#].map(str::to_owned);
        assert_eq!(
            told,
            if to == "out.jsonl" { [wrong].into() } else { BTreeSet::from([wrong, large, heavy]) },
            "{letters:?}"
        );
        // Names and values: 11 + 55, 10 + 512, 12 + 5, and 10 for the lengths of each.
        let sized = |letter: &&Value| letter["error_message"].to_string().contains(", headers 635) exceeds");
        assert_eq!(letters.iter().filter(sized).count(), usize::from(to != "out.jsonl"), "{letters:?}");
    }
    assert!(bench.dir.rows("out.jsonl").iter().all(|row| row.get("headers").is_none()));
}

/// Brokers take any bytes for the name of a header.
#[test]
fn a_header_whose_name_is_no_text_is_passed_over() {
    let Some(bench) = Bench::new("headers-bytes") else { return };
    let (from, to) = (bench.topic("from", 1, &[]), bench.topic("to", 1, &[]));
    let mut args: Vec<OsString> =
        ["-P", "-b", &bench.brokers, "-t", &from, "-H", "a=1", "-H"].map(OsString::from).into();
    args.extend([OsString::from_vec(b"\xff\xfe=2".to_vec()), "-H".into(), "b=3".into()]);
    bench.dir.feed("kcat", &args, format!("{}\nno JSON\n", crate::kafka::event(1, "s")).as_bytes()).succeeds();
    let (input, output) = (bench.uri(&from, ""), bench.uri(&to, ""));
    let child = bench.start("evt-ingest", &[&input, "--to", &output, "--dlq", "dead.jsonl"]);
    eventually("it is there", || bench.records(&to).len() == 1);
    eventually("the letter too", || crate::broker::lines(&bench.dir, "dead.jsonl") == 1);
    let (status, said) = stopped(child);
    assert_eq!(status, 143, "{said}");
    let wanted = [("a", "1"), ("b", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(carried(&bench.records(&to)[0]), wanted);
    assert_eq!(bench.dir.rows("dead.jsonl")[0]["headers"].to_string(), r#"{"a":"1","b":"3"}"#);
    assert!(!said.contains("panic"), "{said}");
}
