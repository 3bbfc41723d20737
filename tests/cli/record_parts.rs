//! The key, the headers and the timestamp of a Kafka record stay with it when its row becomes a dead letter and is
//! replayed.

use crate::broker::{Bench, Record};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use std::collections::BTreeMap;

const SCHEMA: &str = r#"{"type":"record","name":"order","fields":[{"name":"amount","type":"double"}]}"#;
const CHECK: &str = "--schemas schemas --subject =order";
/// The timestamp of the first record.
const FIRST: i64 = 1_767_232_800_123;
const COUNT: usize = 40;

/// Produces records with keys, headers and timestamps of their own. Of those with an even number the amount and the
/// unit are text.
fn produce(bench: &Bench, topic: &str) {
    bench.dir.write("schemas/order/1.avsc", SCHEMA);
    let amount = |n: usize| if n.is_multiple_of(2) { format!("\"{n}.5\"") } else { n.to_string() };
    let unit = |n: usize| if n.is_multiple_of(2) { "\"EUR\"" } else { "1" };
    let value = |n: usize| format!(r#"{{"source":"shop","n":{n},"unit":{},"amount":{}}}"#, unit(n), amount(n));
    let values = Vec::from_iter((0..COUNT).map(value));
    let keys = Vec::from_iter((0..COUNT).map(|n| format!("k{n}")));
    // As producers in Java do, and evt.
    let producer = bench.producer(&[("partitioner", "murmur2_random")]);
    for (n, (key, value)) in keys.iter().zip(&values).enumerate() {
        let headers = OwnedHeaders::new().insert(Header { key: "h", value: Some(key) });
        let headers = if n == 4 { OwnedHeaders::new() } else { headers };
        let record = BaseRecord::to(topic).key(key.as_bytes()).payload(value.as_bytes());
        let record = record.headers(headers).timestamp(FIRST + 1000 * n as i64);
        producer.send(record).map_err(|(error, _)| error).expect("it is queued");
    }
    producer.flush(crate::broker::ANSWER).expect("they are delivered");
}

/// Partition, headers and timestamp of a record.
type Parts = (i32, Vec<(String, String)>, Option<i64>);

/// Returns what records have beside their values, by key.
fn parts(records: &[Record]) -> BTreeMap<String, Parts> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let of = |record: &Record| {
        let headers = record.headers.iter().filter(|(name, _)| !name.starts_with("evt."));
        let headers = headers.map(|(name, value)| (name.clone(), text(value.as_deref().expect("a value"))));
        let key = record.key.as_deref().map_or("no key".to_owned(), text);
        (key, (record.partition, headers.collect(), record.timestamp))
    };
    records.iter().map(of).collect()
}

/// Replays letters into a topic; asserts that the records have what those that failed had, in the same partitions.
#[track_caller]
fn are_replayed(bench: &Bench, letters: &str, name: &str, originals: &[Record]) {
    let topic = bench.topic(name, 4, &[]);
    let to = bench.uri(&topic, "");
    let line = format!(
        "evt-replay '{letters}' --patch 'set amount = try_cast(amount as double)' {CHECK} \
         --ledger sqlite:{name}.db --to '{to}' -q"
    );
    bench.dir.shell(&line).succeeds();
    let invalid = |record: &Record| record.value.as_ref().is_some_and(|value| value.ends_with(b"\"}"));
    let mut expected = parts(originals);
    let kept = BTreeMap::from_iter(originals.iter().filter(|record| invalid(record)).map(|record| {
        let key = String::from_utf8(record.key.clone().expect("a key")).expect("text");
        (key.clone(), expected.remove(&key).expect("it is there"))
    }));
    assert_eq!(kept.len(), COUNT / 2);
    assert_eq!(parts(&bench.records(&topic)), kept, "{name}");
}

#[test]
fn letters_of_evt_validate_and_their_replays_have_the_key_headers_and_time_of_their_records() {
    let Some(bench) = Bench::new("record-parts") else { return };
    let (raw, dlq) = (bench.topic("raw", 4, &[]), bench.topic("dlq", 1, &[]));
    produce(&bench, &raw);
    let originals = bench.records(&raw);
    let (dir, from, to_dlq) = (&bench.dir, bench.uri(&raw, "?end=latest"), bench.uri(&dlq, ""));
    dir.shell(&format!("evt-validate '{from}' {CHECK} --dlq file.jsonl --to out.jsonl -q")).succeeds();
    dir.shell(&format!("evt-validate '{from}' {CHECK} --dlq '{to_dlq}' --to null: -q")).succeeds();
    // The raw record travels through frames, also through a file and a topic of frames, and the rest of the record with
    // it.
    let frames = bench.topic("frames", 2, &[]);
    let [write, read] = ["?format=frames", "?format=frames&end=latest"].map(|rest| bench.uri(&frames, rest));
    let ingest = format!("evt-ingest '{from}' --keep-raw -q");
    dir.shell(&format!("{ingest} | evt-validate {CHECK} --dlq pipe.jsonl --to piped.frames -q")).succeeds();
    dir.shell(&format!(
        "{ingest} --to rows.frames && evt-validate rows.frames {CHECK} --dlq frames.jsonl --to null: -q"
    ))
    .succeeds();
    dir.shell(&format!("{ingest} --to '{write}' && evt-validate '{read}' {CHECK} --dlq topic.jsonl --to null: -q"))
        .succeeds();
    let letters = ["file.jsonl", "pipe.jsonl", "frames.jsonl", "topic.jsonl"];
    for (name, letters) in ["a", "b", "c", "d"].into_iter().zip(letters) {
        for letter in dir.rows(letters) {
            let n: usize = letter["original_key"].as_str().and_then(|key| key[1..].parse().ok()).expect("a key");
            let arrived = evt_core::time::format_instant((FIRST + 1000 * n as i64) * 1000);
            assert_eq!(letter["arrived_at"].as_str(), Some(arrived.as_str()), "{letters}");
            assert_eq!(letter["headers"]["h"].as_str().is_none(), n == 4, "{letters}: {letter}");
        }
        are_replayed(&bench, letters, name, &originals);
    }
    are_replayed(&bench, &to_dlq, "e", &originals);
    // Only frames have these columns, and other readers of the rows see none of them.
    let valid = dir.shell("evt-view piped.frames -q -o jsonl").succeeds().rows();
    assert_eq!(valid.len(), COUNT / 2);
    for row in dir.rows("out.jsonl").iter().chain(&valid) {
        let names = Vec::from_iter(row.as_object().expect("an object").keys().filter(|name| name.starts_with("raw_")));
        assert!(names.is_empty() && row.get("headers").is_none(), "{row}");
    }
}

#[test]
fn rows_and_letters_of_a_topic_are_the_same_for_every_number_of_threads() {
    let Some(bench) = Bench::new("record-threads") else { return };
    let raw = bench.topic("raw", 4, &[]);
    (0..20).for_each(|_| produce(&bench, &raw));
    let from = bench.uri(&raw, "?end=latest");
    let found = |threads: &str| {
        let line = format!("EVT_THREADS={threads} evt-validate '{from}' {CHECK} --dlq dead.jsonl -q -o jsonl");
        let run = bench.dir.shell(&format!("rm -f dead.jsonl; {line}"));
        let rows = [run.succeeds().stdout().to_vec(), bench.dir.bytes("dead.jsonl")].map(|bytes| {
            let mut rows: Vec<String> = String::from_utf8(bytes).expect("text").lines().map(unclocked).collect();
            rows.sort_unstable();
            rows
        });
        assert!(rows.iter().all(|rows| rows.len() == 10 * COUNT), "{rows:?}");
        rows
    };
    let expected = found("1");
    assert!(expected[1][0].contains("\"headers\"") && expected[1][0].contains("_key\":\"k"), "{}", expected[1][0]);
    for threads in ["2", "3", "8"] {
        assert!(found(threads) == expected, "{threads} threads");
    }
}

/// A row without what the clock decides.
fn unclocked(row: &str) -> String {
    let mut row = crate::edges::parsed(row.as_bytes());
    ["ingested_at", "failed_at"].iter().for_each(|name| _ = row.as_object_mut().expect("an object").remove(*name));
    row.to_string()
}

#[test]
fn letters_of_other_stages_have_the_key_of_their_record() {
    let Some(bench) = Bench::new("record-parts-others") else { return };
    let raw = bench.topic("raw", 4, &[]);
    produce(&bench, &raw);
    let (dir, from) = (&bench.dir, bench.uri(&raw, "?end=latest"));
    let keys = |name: &str| {
        let rows = dir.rows(name);
        let keys = rows.iter().map(|row| row["original_key"].as_str().map(str::to_owned).expect("a key"));
        let mut keys = Vec::from_iter(keys);
        keys.sort_unstable();
        keys
    };
    let mut invalid = Vec::from_iter((0..COUNT).step_by(2).map(|n| format!("k{n}")));
    invalid.sort_unstable();
    dir.shell(&format!("evt-ingest '{from}' --where 'unit > 0' --dlq where.jsonl --to null: -q")).succeeds();
    assert_eq!(keys("where.jsonl"), invalid);
    let window = "--size 1h --agg 'sum(unit)' --dlq window.jsonl --to null: -q";
    dir.shell(&format!("evt-window '{from}' {window}")).succeeds();
    assert_eq!(keys("window.jsonl"), invalid);
    // Without the raw record, frames have nothing of the record but its row.
    let line = format!("evt-ingest '{from}' -q | evt-validate {CHECK} --dlq bare.jsonl --to null: -q");
    dir.shell(&line).succeeds();
    assert!(dir.rows("bare.jsonl").iter().all(|row| row["original_key"].is_null() && row["headers"].is_null()));
}
