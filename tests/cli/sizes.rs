//! Records around the largest size that a topic takes: none of them ends a run.

use crate::broker::{Bench, Record, lines};
use crate::harness::{LONG_WAIT, eventually, eventually_within};
use crate::listener::{Listener, event};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// An event with a number; its record has about this many bytes.
fn sized(number: usize, bytes: usize) -> String {
    let event = event(number, "web");
    format!("{},\"filler\":\"{}\"}}", &event[..event.len() - 1], "x".repeat(bytes.saturating_sub(event.len() + 13)))
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let found = record.headers.iter().find(|(found, _)| found == name)?;
    std::str::from_utf8(found.1.as_deref()?).ok()
}

/// The numbers of the events in a topic.
fn numbers(records: &[Record]) -> Vec<i64> {
    let number = |record: &Record| {
        let value: Value = serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON");
        value["properties"]["n"].as_i64().expect("a number")
    };
    let mut numbers: Vec<i64> = records.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_letter_that_does_not_fit_its_topic_is_cut_and_the_listener_goes_on() {
    let Some(bench) = Bench::new("sizes_cut") else { return };
    let (events, dead) = (bench.topic("events", 1, &[]), bench.topic("dead", 1, &[]));
    let (to, dlq) = (bench.uri(&events, ""), bench.uri(&dead, ""));
    let args = ["-q", "--spool", "spool", "--to", &to, "--dlq", &dlq];
    let junk = "x".repeat(1_400_000);
    for round in 1..=2 {
        // The second run appends to the letters of the first one.
        let listener = Listener::open(&bench.dir, &args);
        assert_eq!(listener.json(&junk).status, 422);
        assert_eq!(listener.json(&event(round, "web")).status, 200);
        eventually_within(LONG_WAIT, "both are there", || {
            [&events, &dead].iter().all(|topic| bench.records(topic).len() == round)
        });
        listener.stop();
    }
    let letters = bench.records(&dead);
    assert_eq!(letters.len(), 2);
    for letter in &letters {
        let length = letter.value.as_ref().map_or(0, Vec::len);
        assert!((1_040_000..1_048_588).contains(&length), "{length}");
        assert_eq!(header(letter, "evt.original_length"), Some("1400000"));
    }
    assert_eq!(numbers(&bench.records(&events)), [1, 2]);
    let shown = bench.dir.run("evt-view", &[&dlq, "-q", "--rows", "-o", "jsonl", "--columns", "original_length"]);
    assert_eq!(shown.succeeds().rows(), vec![json!({"original_length": 1_400_000}); 2]);
}

/// The record is not an event, but the part that is left of it is one.
#[test]
fn a_letter_that_was_cut_is_not_read_again_as_a_whole_record() {
    let Some(bench) = Bench::new("sizes_again") else { return };
    let (dir, dead) = (&bench.dir, bench.topic("dead", 1, &[("max.message.bytes", "20000")]));
    let letters = bench.uri(&dead, "");
    dir.write("in.jsonl", format!("{}{}x\n{}}}\n", event(1, "web"), " ".repeat(30_000), event(2, "web")));
    dir.run("evt-ingest", &["in.jsonl", "-q", "--to", "null:", "--dlq", &letters]).succeeds();
    let again = format!("{letters}?end=latest");
    let run = dir.run("evt-ingest", &[&again, "-o", "jsonl"]).ends_with(1);
    assert!(run.rows().is_empty() && run.stderr().contains("of the record's 30"), "{run}");
    let run = dir.run("evt-ingest", &[&again, "-o", "jsonl", "--dlq", "again.jsonl"]).succeeds();
    assert!(run.rows().is_empty(), "{run}");
    let types: Vec<Value> = dir.rows("again.jsonl").iter().map(|letter| letter["error_type"].clone()).collect();
    assert_eq!(types, ["TooLargeError", "ParseError"]);
    assert!(dir.rows("again.jsonl")[0]["original_length"].as_u64() > Some(30_000));
    let run = dir.run("evt-view", &[&again, "-q", "-o", "raw"]).ends_with(1);
    assert_eq!(run.text(), format!("{}}}\n", event(2, "web")));
}

#[test]
fn an_event_that_no_output_can_hold_is_refused_by_itself_at_the_listener() {
    let Some(bench) = Bench::new("sizes_listener") else { return };
    let topic = bench.topic("small", 1, &[("max.message.bytes", "20000")]);
    let (small, begun) = (bench.uri(&topic, ""), Instant::now());
    let listener = Listener::open(&bench.dir, &["-q", "--spool", "spool", "--to", &small, "--dlq", "dead.jsonl"]);
    assert_eq!(listener.json(&sized(1, 100)).status, 200);
    // The output knows the limit of the topic once it is open, which the first event shows.
    eventually("the first event is there", || !bench.records(&topic).is_empty());
    // It waits for the limit for five seconds, and requests it again when the broker refuses a record.
    let is_late = begun.elapsed() >= Duration::from_secs(5);
    let mut refused = listener.json(&sized(2, 30_000));
    if is_late && refused.status == 200 {
        eventually("the output knows the limit", || {
            refused = listener.json(&sized(2, 30_000));
            refused.status == 422
        });
    }
    assert_eq!(
        (refused.status, &refused.json()["errors"][0]["error_type"]),
        (422, &json!("TooLargeError")),
        "{refused:?}"
    );
    let mixed = listener.json(&format!("{{\"events\":[{},{}]}}", sized(3, 30_000), sized(4, 15_000)));
    assert_eq!((mixed.status, &mixed.json()["rejected"]), (200, &json!(1)));
    eventually("the fourth event is there", || bench.records(&topic).len() == 2);
    listener.stop();
    assert_eq!(numbers(&bench.records(&topic)), [1, 4]);
    let letters = bench.dir.rows("dead.jsonl");
    // The broker refuses what the server accepts before the output knows the limit.
    let at_server: Vec<&Value> = letters.iter().filter(|letter| letter["error_type"] == "TooLargeError").collect();
    assert!(at_server.len() == 2 && (is_late || letters.len() == 2), "{letters:?}");
    assert!(at_server.iter().all(|letter| letter["original_length"].is_null()), "{letters:?}");

    // One output accepts the event; the other one rejects its row.
    let both = ["-q", "--spool", "both", "--to", &small, "--to", "all.jsonl", "--dlq", "refused.jsonl"];
    let listener = Listener::open(&bench.dir, &both);
    assert_eq!(listener.json(&sized(5, 30_000)).status, 200);
    assert_eq!(listener.json(&sized(6, 100)).status, 200);
    eventually("the sixth event is there", || bench.records(&topic).len() == 3);
    listener.stop();
    assert_eq!(bench.dir.rows("all.jsonl").len(), 2);
    let letters = bench.dir.rows("refused.jsonl");
    assert!(letters.len() == 1 && letters[0]["error_type"] == "SinkError", "{letters:?}");
    assert_eq!(numbers(&bench.records(&topic)), [1, 4, 6]);
}

/// With the user's `message.max.bytes`, only the broker checks the size.
#[test]
fn records_of_a_batch_that_brokers_find_too_large_are_judged_one_by_one() {
    let Some(bench) = Bench::new("sizes_broker") else { return };
    let dir = &bench.dir;
    let large = [7, 40, 41, 99];
    let lines = (0..100).map(|n| sized(n, if large.contains(&n) { 40_000 } else { 900 }) + "\n");
    dir.write("in.jsonl", lines.collect::<String>());
    let rest: Vec<i64> = (0..100).filter(|n| !large.contains(&(*n as usize))).collect();
    let unsure = "?rdkafka.message.max.bytes=1000000";
    for (name, options) in [("known", ""), ("unsure", unsure)] {
        let topic = bench.topic(name, 1, &[("max.message.bytes", "20000")]);
        let letters = bench.topic(&format!("{name}-dead"), 1, &[("max.message.bytes", "20000")]);
        let (to, dlq) = (bench.uri(&topic, options), bench.uri(&letters, options));
        dir.run("evt-ingest", &["in.jsonl", "-q", "--time", "arrival", "--to", &to, "--dlq", &dlq]).succeeds();
        assert_eq!(numbers(&bench.records(&topic)), rest, "{name}");
        let letters = bench.records(&letters);
        assert_eq!(letters.len(), large.len(), "{name}");
        for (letter, n) in letters.iter().zip(large) {
            assert_eq!(header(letter, "evt.error_type"), Some("SinkError"));
            assert_eq!(header(letter, "evt.offset"), Some((n + 1).to_string().as_str()), "{name}");
            let length: usize = header(letter, "evt.original_length").expect("cut").parse().expect("a number");
            assert!(length > 40_000 && letter.value.as_ref().is_some_and(|value| value.len() < 20_000), "{length}");
        }
        let framed = bench.topic(&format!("{name}-frames"), 1, &[("max.message.bytes", "20000")]);
        let to = bench.uri(&framed, &format!("?format=frames{}", options.replace('?', "&")));
        let run = dir.run("evt-ingest", &["in.jsonl", "-q", "--time", "arrival", "--to", &to, "--dlq", "dead.jsonl"]);
        run.succeeds();
        assert_eq!(dir.rows("dead.jsonl").len(), large.len(), "{name}");
        std::fs::remove_file(dir.path("dead.jsonl")).expect("it is there");
        let from = format!("{to}&end=latest");
        let back = dir.run("evt-view", &[&from, "-q", "-o", "jsonl", "--columns", "properties.n"]).succeeds().rows();
        assert_eq!(back.len(), rest.len(), "{name}");
    }
    let to = bench.uri(&bench.topic("nowhere", 1, &[("max.message.bytes", "20000")]), unsure);
    dir.run("evt-ingest", &["in.jsonl", "-q", "--time", "arrival", "--to", &to]).ends_with(1);
}

/// Brokers reject a record within the limit that evt queried before: evt makes the letter of the returned message.
#[test]
fn a_letter_of_what_brokers_refused_has_the_headers_of_its_record() {
    let Some(bench) = Bench::new("sizes_headers") else { return };
    let topic = bench.topic("t", 1, &[("max.message.bytes", "20000")]);
    for (name, form) in [("json", ""), ("avro", "&format=avro")] {
        let schemas = match (form, crate::registry::registry()) {
            ("", _) => String::new(),
            (_, Some(registry)) => format!("&schemas={registry}"),
            (_, None) => continue,
        };
        let to = bench.uri(&topic, &format!("?rdkafka.message.max.bytes=1000000{form}{schemas}"));
        let file = format!("{name}.jsonl");
        let listener = Listener::open(&bench.dir, &["-q", "--ack", "memory", "--to", &to, "--dlq", &file]);
        let headers = [("content-type", "application/json"), ("x-request-id", name)];
        assert_eq!(listener.post(&headers, sized(1, 40_000).as_bytes()).status, 200);
        eventually("the letter is there", || lines(&bench.dir, &file) >= 1);
        listener.stop();
        let letters = bench.dir.rows(&file);
        assert_eq!((letters.len(), &letters[0]["error_type"]), (1, &json!("SinkError")), "{name}");
        let found = &letters[0]["headers"];
        assert_eq!(found["x-request-id"], json!(name), "{found}");
        assert!(found["traceparent"].is_string(), "{found}");
    }
}

#[test]
fn rows_whose_letters_no_topic_can_hold_are_dropped_in_every_count() {
    let Some(bench) = Bench::new("sizes_lost") else { return };
    let dir = &bench.dir;
    let small = bench.uri(&bench.topic("small", 1, &[("max.message.bytes", "20000")]), "");
    let nothing = bench.uri(&bench.topic("nothing", 1, &[("max.message.bytes", "300")]), "");
    dir.write("in.jsonl", format!("{}\n{}\nno JSON\n", sized(1, 100), sized(2, 40_000)));
    let unsure = format!("{nothing}?rdkafka.message.max.bytes=1000000");
    for (dlq, status, [dead, dropped]) in [("dead.jsonl", 0, [1, 0]), (&nothing, 1, [0, 1]), (&unsure, 1, [0, 1])] {
        let args = ["in.jsonl", "--time", "arrival", "--to", &small, "--dlq", dlq, "--stats", "stats"];
        let run = dir.run("evt-ingest", &args).ends_with(status);
        let stats: Value = serde_json::from_slice(&dir.bytes("stats")).expect("JSON");
        let told = |counts: &Value| ["in", "dead", "dropped"].map(|name| counts[name].as_u64());
        assert_eq!(told(&stats["counts"]), [Some(3), Some(dead), Some(dropped)], "{dlq}: {run}");
        let counts = &stats["outputs"][0]["counts"];
        assert_eq!(told(counts), [Some(2), Some(dead), Some(dropped)], "{dlq}: {run}");
        assert_eq!(counts["inserted"], 1, "{dlq}: {run}");
    }
}

#[test]
fn a_topic_that_can_hold_no_frame_ends_no_run() {
    let Some(bench) = Bench::new("sizes_frames") else { return };
    let dir = &bench.dir;
    dir.write("in.jsonl", (0..50).map(|n| sized(n, 100) + "\n").collect::<String>());
    for (name, options) in [("known", ""), ("unsure", "&rdkafka.message.max.bytes=1000000")] {
        let topic = bench.topic(name, 2, &[("max.message.bytes", "300")]);
        let to = bench.uri(&topic, &format!("?format=frames{options}"));
        let file = format!("{name}.jsonl");
        let args = ["in.jsonl", "--time", "arrival", "--to", &to, "--dlq", &file, "--stats", "stats"];
        let run = dir.run("evt-ingest", &args).succeeds();
        assert_eq!(run.stderr().matches("a control message is omitted").count(), 1, "{run}");
        let letters = dir.rows(&file);
        assert_eq!(letters.len(), 50, "{run}");
        assert!(letters.iter().all(|letter| letter["error_type"] == "SinkError"), "{}", letters[0]);
        let stats: Value = serde_json::from_slice(&dir.bytes("stats")).expect("JSON");
        let counts = &stats["outputs"][0]["counts"];
        assert_eq!((&counts["in"], &counts["dead"]), (&json!(50), &json!(50)), "{run}");
        assert!(bench.records(&topic).is_empty());
    }
}
