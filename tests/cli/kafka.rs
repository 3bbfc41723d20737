//! Kafka with a real broker: `EVT_KAFKA` names it (`scripts/services`). Each test has its own topics.

use crate::broker::{ANSWER, Bench, Broker, judged, lines, stopped, stopped_in_time, wait};
use crate::harness::{Run, ended, eventually};
use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::Read;

/// evt fetches records itself, or through librdkafka if a setting concerns fetching.
pub const WAYS: [&str; 2] = ["", "?rdkafka.fetch.min.bytes=1"];

pub fn event(number: usize, source: &str) -> String {
    let (minute, second) = (number / 60 % 60, number % 60);
    format!(
        r#"{{"event_id":"00000000-0000-4000-8000-{number:012}","source":"{source}","event_type":"t","n":{number},"server_timestamp":"2024-01-15T10:{minute:02}:{second:02}Z"}}"#
    )
}

pub fn record<'a>(topic: &'a str, partition: i32, value: &'a str) -> BaseRecord<'a, [u8], [u8]> {
    BaseRecord::to(topic).partition(partition).payload(value.as_bytes())
}

pub fn numbers(run: &Run) -> Vec<u64> {
    let mut numbers: Vec<u64> = run.rows().iter().filter_map(|row| row["properties"]["n"].as_u64()).collect();
    numbers.sort_unstable();
    numbers
}

/// Generated events, some late, dead or duplicate, give the same windows with and without a topic in between.
#[test]
fn a_topic_between_two_stages_changes_no_result() {
    let Some(bench) = Bench::new("between") else { return };
    let dir = &bench.dir;
    let window = "evt-window --size 10s --by event_type,source --late null: -q -o jsonl";
    dir.shell("evt-gen --events 200k --late 0.01 --malformed 0.001 --duplicates 0.01 --seed 7 > events.jsonl")
        .succeeds();
    for (form, partitions) in [("json", 1), ("frames", 3)] {
        let topic = bench.topic(form, partitions, &[]);
        let (to, from) =
            (bench.uri(&topic, &format!("?format={form}")), bench.uri(&topic, &format!("?format={form}&end=latest")));
        let written = dir
            .run("evt-ingest", &["events.jsonl", "--dlq", "dead.jsonl", "--to", &to, "--stats", "stats.json"])
            .succeeds();
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        assert_eq!(stats["counts"]["out"], stats["outputs"][0]["counts"]["inserted"], "{written}");
        assert!(stats["counts"]["dead"].as_u64() > Some(100), "{stats}");
        dir.shell(&format!("evt-ingest events.jsonl -q --dlq /dev/null | {window} > file.jsonl")).succeeds();
        dir.shell(&format!("{window} '{from}' > topic.jsonl")).succeeds();
        assert!(dir.bytes("file.jsonl") == dir.bytes("topic.jsonl"), "{form}: the results differ");
        assert!(dir.rows("file.jsonl").len() > 100);
    }
}

/// Several partitions, one of them empty: the windows are those of the rows, however partitions are interleaved.
#[test]
fn partitions_are_read_together_and_an_empty_one_ends_at_once() {
    let Some(bench) = Bench::new("several") else { return };
    let topic = bench.topic("t", 4, &[]);
    let events: Vec<String> = (0..900).map(|n| event(n, "s")).collect();
    bench.produce(events.iter().enumerate().map(|(n, value)| record(&topic, [0, 1, 3][n / 300], value)));
    let from = bench.uri(&topic, "?end=latest");
    let windows = bench.dir.run("evt-window", &[from.as_str(), "--size", "1m", "-o", "jsonl"]).succeeds();
    assert_eq!(windows.rows().len(), 15, "{windows}");
    assert!(windows.rows().iter().all(|row| row["value"] == 60.0), "{windows}");
    let seen = bench.dir.run("evt-view", &[bench.uri(&topic, "").as_str(), "-o", "jsonl"]).succeeds();
    assert_eq!(seen.rows().len(), 900);
    let three = seen.rows().iter().filter(|row| row["partition"] == "3").count();
    assert_eq!(three, 300);
    assert!(seen.rows().iter().all(|row| row["origin"] == topic.as_str()), "{seen}");
    let part = bench.dir.run("evt-view", &[bench.uri(&topic, "?partitions=1,2").as_str(), "-o", "jsonl"]).succeeds();
    assert_eq!(numbers(&part), (300..600).collect::<Vec<_>>());
}

#[test]
fn a_range_begins_and_ends_where_the_options_say() {
    let Some(bench) = Bench::new("range") else { return };
    let topic = bench.topic("t", 2, &[]);
    let events: Vec<String> = (0..20).map(|n| event(n, "s")).collect();
    // The broker rejects timestamps in the future, and accepts those a few minutes old.
    let base = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis()
        as i64
        - 600_000;
    bench.produce(
        events
            .iter()
            .enumerate()
            .map(|(n, value)| record(&topic, (n % 2) as i32, value).timestamp(base + 1000 * n as i64)),
    );
    let instant = |n: i64| evt_core::time::format_instant((base + 1000 * n) * 1000);
    for (options, expected) in [
        (String::new(), 0..20),
        (format!("?start={}", instant(10)), 10..20),
        (format!("?end={}", instant(10)), 0..10),
        (format!("?start={}&end={}", instant(4), instant(6)), 4..6),
        ("?start=0:5,1:5".to_owned(), 10..20),
        ("?end=0:5,1:5".to_owned(), 0..10),
        ("?end=0:1000,1:1000".to_owned(), 0..20),
        ("?end=now+1d".to_owned(), 0..20),
        ("?start=latest".to_owned(), 0..0),
        ("?start=now-1h&end=now-1s".to_owned(), 0..20),
    ] {
        let seen = bench.dir.run("evt-view", &[bench.uri(&topic, &options).as_str(), "-o", "jsonl"]).succeeds();
        assert_eq!(numbers(&seen), expected.collect::<Vec<_>>(), "{options}: {seen}");
    }
    let half = bench.dir.run("evt-view", &[bench.uri(&topic, "?start=0:5").as_str()]).ends_with(2);
    assert!(half.stderr().contains("no offset for partition 1"), "{half}");
}

#[test]
fn offsets_lost_to_retention_end_the_run_unless_told_otherwise() {
    let Some(bench) = Bench::new("gap") else { return };
    let topic = bench.topic("t", 1, &[]);
    let events: Vec<String> = (0..10).map(|n| event(n, "s")).collect();
    bench.produce(events.iter().map(|value| record(&topic, 0, value)));
    let admin: AdminClient<DefaultClientContext> = bench.config().create().expect("a client");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(6)).expect("an offset");
    eventually("records are deleted", || {
        let deleted = wait(admin.delete_records(&list, &AdminOptions::new()));
        deleted.is_ok_and(|list| list.elements().iter().all(|one| one.error().is_ok()))
    });
    let lost = bench
        .dir
        .run("evt-ingest", &[bench.uri(&topic, "?start=0:2&end=latest").as_str(), "-o", "jsonl"])
        .ends_with(65);
    assert!(lost.stderr().contains(&format!("{topic}/0@2: 4 offsets were removed by retention: 2 to 5")), "{lost}");
    let read = bench.uri(&topic, "?start=0:2&end=latest&on_gap=continue");
    let read = bench.dir.run("evt-ingest", &[read.as_str(), "-o", "jsonl"]).succeeds();
    assert_eq!(numbers(&read), [6, 7, 8, 9]);
    assert!(read.stderr().contains("reading on at 6"), "{read}");
    let beyond = bench.dir.run("evt-ingest", &[bench.uri(&topic, "?start=0:99&end=latest").as_str()]).ends_with(65);
    assert!(beyond.stderr().contains("the partition ends at offset 10, before 99"), "{beyond}");
}

/// Offsets that transactions and compaction skip are not gaps; evt does not read aborted records.
#[test]
fn offsets_that_transactions_take_are_no_gap() {
    let Some(bench) = Bench::new("transactions") else { return };
    let topic = bench.topic("t", 1, &[]);
    let producer: BaseProducer = bench.config().set("transactional.id", &bench.prefix).create().expect("a client");
    producer.init_transactions(ANSWER).expect("a coordinator");
    for (n, commits) in [(0, true), (1, false), (2, true)] {
        producer.begin_transaction().expect("begun");
        let value = event(n, "s");
        producer.send(record(&topic, 0, &value)).map_err(|(error, _)| error).expect("queued");
        match commits {
            true => producer.commit_transaction(ANSWER).expect("committed"),
            false => {
                producer.flush(ANSWER).expect("delivered");
                producer.abort_transaction(ANSWER).expect("aborted");
            }
        }
    }
    // A broker confirms a commit before readers see its records.
    eventually("the committed records are visible", || bench.records(&topic).len() == 2);
    for way in WAYS {
        let seen = bench.dir.run("evt-view", &[bench.uri(&topic, way).as_str(), "-o", "jsonl"]).succeeds();
        assert_eq!(numbers(&seen), [0, 2], "{seen}");
        let offsets: Vec<i64> = seen.rows().iter().filter_map(|row| row["offset"].as_i64()).collect();
        assert_eq!(offsets, [0, 4], "{way}");
    }
}

/// Batches in each compression of producers, with keys and headers: both ways of fetching return the same records.
#[test]
fn records_that_are_packed_in_any_way_are_read() {
    let Some(bench) = Bench::new("packed") else { return };
    let topic = bench.topic("t", 5, &[]);
    for (partition, packing) in (0..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        let producer = bench.producer(&[("compression.codec", packing)]);
        for n in 0..400 {
            let value = if n % 100 == 7 { "{".to_owned() } else { event(n, packing) };
            let headers = OwnedHeaders::new().insert(Header { key: "n", value: Some(&n.to_string()) });
            let record = record(&topic, partition, &value).key(packing.as_bytes()).headers(headers);
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(ANSWER).expect("delivered");
    }
    for (at, way) in WAYS.iter().enumerate() {
        let (from, dead) =
            (bench.uri(&topic, &format!("?end=latest{}", way.replace('?', "&"))), format!("dead{at}.jsonl"));
        let run = bench.dir.run("evt-ingest", &[from.as_str(), "-o", "jsonl", "--dlq", &dead]).succeeds();
        for packing in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let rows = run.rows();
            let numbers: Vec<u64> = rows
                .iter()
                .filter(|row| row["source"] == packing)
                .filter_map(|row| row["properties"]["n"].as_u64())
                .collect();
            assert_eq!(numbers, (0..400).filter(|n| n % 100 != 7).collect::<Vec<_>>(), "{packing} {way}");
        }
        let letters = bench.dir.rows(&dead);
        assert_eq!(letters.len(), 20);
        assert_eq!(letters.iter().filter(|letter| letter["headers"]["n"] == "107").count(), 5, "{letters:?}");
    }
}

/// A dead letter on a topic has the record's bytes, key and headers, and the error headers of Kafka Connect. evt reads
/// it back unchanged.
#[test]
fn dead_letters_keep_payload_key_headers_and_arrival() {
    let Some(bench) = Bench::new("letters") else { return };
    let (topic, dlq) = (bench.topic("t", 1, &[]), bench.topic("dlq", 1, &[]));
    let headers = OwnedHeaders::new()
        .insert(Header { key: "trace", value: Some("abc") })
        .insert(Header { key: "bytes", value: Some(&b"\xff\x00"[..]) })
        .insert(Header::<&str> { key: "none", value: None });
    let good = event(1, "s");
    bench.produce([
        record(&topic, 0, "not json").key(&b"\xfe\x01"[..]).headers(headers).timestamp(1_700_000_000_123),
        record(&topic, 0, "").key(&b"k"[..]),
        BaseRecord::to(&topic).partition(0).key(&b"gone"[..]),
        record(&topic, 0, &good),
    ]);
    let from = bench.uri(&topic, "?end=latest");
    let run = bench
        .dir
        .run("evt-ingest", &[from.as_str(), "--to", "null:", "--dlq", &bench.uri(&dlq, ""), "--stats", "s.json"])
        .succeeds();
    let stats: Value = serde_json::from_slice(&bench.dir.bytes("s.json")).expect("JSON");
    let counts = &stats["counts"];
    assert_eq!(
        (&counts["in"], &counts["out"], &counts["dead"], &counts["filtered"]),
        (&4.into(), &1.into(), &2.into(), &1.into()),
        "{run}"
    );
    let letters = bench.records(&dlq);
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0].value.as_deref(), Some(&b"not json"[..]));
    assert_eq!(letters[0].key.as_deref(), Some(&b"\xfe\x01"[..]));
    let header = |name: &str| {
        let found = letters[0].headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned()))
    };
    assert_eq!(header("trace"), Some(Some("abc".into())));
    assert_eq!(header("none"), Some(None));
    assert_eq!(header("evt.error_type"), Some(Some("ParseError".into())));
    assert_eq!(header("__connect.errors.topic"), Some(Some(topic.clone())));
    assert_eq!(header("__connect.errors.offset"), Some(Some("0".into())));
    let seen = bench.dir.run("evt-view", &[bench.uri(&dlq, "").as_str(), "-o", "jsonl"]).succeeds();
    let rows = seen.rows();
    assert_eq!(rows.len(), 2, "{seen}");
    assert_eq!(rows[0]["original_payload"], "not json");
    assert_eq!(rows[0]["original_key_base64"], "/gE=");
    assert_eq!(rows[0]["headers"]["trace"], "abc");
    assert_eq!(rows[0]["headers"]["bytes"]["base64"], "/wA=");
    assert_eq!(rows[0]["headers"]["none"], Value::Null);
    assert_eq!(rows[0]["arrived_at"], "2023-11-14T22:13:20.123000Z");
    assert_eq!((&rows[1]["offset"], &rows[1]["original_payload"]), (&1.into(), &"".into()));
    let direct = bench.dir.run("evt-ingest", &[from.as_str(), "--to", "null:", "--dlq", "dead.jsonl", "-q"]).succeeds();
    let (mut file, mut topic_rows) = (bench.dir.rows("dead.jsonl"), rows);
    file.iter_mut().chain(&mut topic_rows).for_each(|row| row["failed_at"] = Value::Null);
    assert_eq!(file, topic_rows, "{direct}");
}

/// A record without a time field gets Kafka's timestamp.
#[test]
fn a_record_without_a_time_has_that_of_kafka() {
    let Some(bench) = Bench::new("time") else { return };
    let topic = bench.topic("t", 1, &[]);
    bench.produce([record(&topic, 0, "{\n \"a\": 1\r\n}").timestamp(1_700_000_000_000)]);
    let seen = bench.dir.run("evt-ingest", &[bench.uri(&topic, "?end=latest").as_str(), "-o", "jsonl"]).succeeds();
    let rows = seen.rows();
    assert_eq!(rows[0]["event_time"], "2023-11-14T22:13:20.000000Z", "{seen}");
    assert_eq!(rows[0]["server_timestamp"], rows[0]["event_time"]);
    assert_eq!((&rows[0]["source"], &rows[0]["properties"]["a"]), (&topic.as_str().into(), &1.into()));
}

/// A stopped run commits the position of its outputs; the next run continues there, with the same stream time.
#[test]
fn a_restart_goes_on_where_the_group_stands_and_calls_the_same_events_late() {
    let Some(bench) = Bench::live("restart") else { return };
    let first: Vec<String> = (100..300).map(|n| event(n, "s")).collect();
    let (topic, group, said) = judged(|round| {
        let (topic, group) = (bench.topic(&format!("t{round}"), 2, &[]), format!("{}-g{round}", bench.prefix));
        let (from, out) = (bench.uri(&topic, &format!("?group={group}")), format!("out{round}.jsonl"));
        bench.produce(first.iter().enumerate().map(|(n, value)| record(&topic, (n % 2) as i32, value)));
        let child = bench.start("evt-ingest", &[&from, "--to", &out]);
        eventually("all are written", || lines(&bench.dir, &out) == 200);
        stopped_in_time(child).map(|said| (topic, group, said))
    });
    let committed = bench.committed(&group, &topic, 2);
    let (offset, metadata) = &committed[0];
    assert_eq!(*offset, Some(100), "{said}");
    assert!(metadata.starts_with("evt stream_time=2024-01-15T10:04:58.000000Z topic_id="), "{metadata}");
    let late = event(5, "s");
    bench.produce([record(&topic, 0, &late)]);
    let again = bench.uri(&topic, &format!("?group={group}&end=latest"));
    let read = bench.dir.run("evt-ingest", &[again.as_str(), "-o", "jsonl"]).succeeds();
    assert_eq!(read.rows().len(), 1, "{read}");
    assert_eq!(read.rows()[0]["stream_time"], "2024-01-15T10:04:58.000000Z");
    assert!(read.stderr().contains("commits nothing"), "{read}");
    let window = bench.dir.run("evt-window", &[again.as_str(), "--size", "10s", "-o", "jsonl"]).ends_with(1);
    assert!(window.stderr().contains("late 1"), "{window}");
    assert_eq!(bench.committed(&group, &topic, 2)[0].0, Some(100), "into a pipe nothing is committed");
}

/// Two members share the partitions. One that leaves commits its positions first: no record is lost or repeated.
#[test]
fn members_of_a_group_hand_partitions_over() {
    let Some(bench) = Bench::new("members") else { return };
    judged(|round| hand_over(&bench, round));
}

fn hand_over(bench: &Bench, round: usize) -> Option<()> {
    let (topic, group) = (bench.topic(&format!("t{round}"), 4, &[]), format!("{}-g{round}", bench.prefix));
    let from = bench.uri(&topic, &format!("?group={group}"));
    let outs = ["a", "b"].map(|name| format!("{name}{round}.jsonl"));
    let produce = |range: std::ops::Range<usize>| {
        let events: Vec<String> = range.map(|n| event(n, "s")).collect();
        bench.produce(events.iter().enumerate().map(|(n, value)| record(&topic, (n % 4) as i32, value)));
    };
    produce(0..400);
    let first = bench.start("evt-ingest", &[&from, "--to", &outs[0]]);
    eventually("the first member reads all", || lines(&bench.dir, &outs[0]) == 400);
    let second = bench.start("evt-ingest", &[&from, "--to", &outs[1]]);
    let mut sent = 400;
    eventually("the second has a share", || {
        produce(sent..sent + 40);
        sent += 40;
        lines(&bench.dir, &outs[1]) > 0
    });
    let Some(said) = stopped_in_time(second) else {
        stopped(first);
        return None;
    };
    produce(sent..sent + 400);
    sent += 400;
    let count = || outs.iter().map(|out| lines(&bench.dir, out)).sum::<usize>();
    eventually("the first has all again", || count() >= sent);
    let told = stopped_in_time(first)?;
    assert!(told.contains("revoked") && said.contains("assigned"), "{told}{said}");
    let mut seen: Vec<u64> =
        outs.iter().flat_map(|name| bench.dir.rows(name)).filter_map(|row| row["properties"]["n"].as_u64()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..sent as u64).collect::<Vec<_>>());
    let total: i64 = bench.committed(&group, &topic, 4).iter().filter_map(|(offset, _)| *offset).sum();
    assert_eq!(total, sent as i64);
    Some(())
}

#[test]
fn keys_are_those_of_a_column() {
    let Some(bench) = Bench::new("keys") else { return };
    let events: String = (0..40).map(|n| event(n, ["ios", "web"][n % 2]) + "\n").collect();
    bench.dir.write("in.jsonl", &events);
    for (option, key) in
        [("", Some("ios")), ("?key=event_type", Some("t")), ("?key=none", None), ("?key=user_id", None)]
    {
        let topic = bench.topic(&format!("k{}", option.len()), 3, &[]);
        bench.dir.run("evt-ingest", &["in.jsonl", "--to", &bench.uri(&topic, option)]).succeeds();
        let records = bench.records(&topic);
        assert_eq!(records.len(), 40);
        let first = records.iter().find(|record| {
            record
                .value
                .as_deref()
                .is_some_and(|value| value.starts_with(br#"{"event_id":"00000000-0000-4000-8000-000000000000""#))
        });
        assert_eq!(first.and_then(|record| record.key.as_deref()), key.map(str::as_bytes), "{option}");
        if option.is_empty() {
            let ios: Vec<_> = records.iter().filter(|record| record.key.as_deref() == Some(b"ios")).collect();
            assert!(ios.iter().all(|record| record.partition == ios[0].partition), "a key lies in one partition");
        }
    }
    let topic = bench.topic("wrong", 1, &[]);
    let wrong = bench.dir.run("evt-ingest", &["in.jsonl", "--to", &bench.uri(&topic, "?key=bogus")]).ends_with(2);
    assert!(wrong.stderr().contains("key=bogus"), "{wrong}");
}

#[test]
fn what_is_not_there_is_said_before_anything_is_read() {
    let Some(bench) = Bench::new("absent") else { return };
    let topic = bench.topic("t", 1, &[]);
    for (args, status, word) in [
        (vec![bench.uri("evt-no-such-topic", "")], 2, "topic evt-no-such-topic does not exist"),
        (vec![bench.uri(&topic, "?partitions=7")], 2, "no partition 7"),
        (vec![bench.uri(&topic, "?end=7:100")], 2, "end=7: "),
        (vec![bench.uri(&topic, "?start=0:0,7:100")], 2, "no partition 7; it has 1 partition"),
        (vec![bench.uri(&topic, "?format=avro")], 2, "registry"),
        (vec![bench.uri(&topic, "?bogus=1")], 2, "unknown option 'bogus'"),
        (vec![bench.uri(&topic, "?rdkafka.bogus=1")], 2, "bogus"),
        (vec![bench.uri(&topic, "?rdkafka.fetch.max.bytes=2000")], 2, "`fetch.max.bytes` must be >="),
        (vec!["--check".into(), bench.uri(&topic, "?rdkafka.fetch.max.bytes=2000")], 2, "`fetch.max.bytes` must be >="),
        (vec!["in.jsonl".into(), "--to".into(), bench.uri("evt-no-such-topic", "")], 2, "does not exist"),
        (
            vec!["in.jsonl".into(), "--to".into(), bench.uri(&topic, "?group=g")],
            2,
            "group= is an option of inputs only",
        ),
        (vec![bench.uri(&topic, ""), bench.uri(&topic, "")], 2, "it has no end"),
    ] {
        bench.dir.write("in.jsonl", event(1, "s"));
        let run = bench.dir.run("evt-ingest", &args).ends_with(status);
        let said = run.stderr();
        // A request that a broker does not answer in four seconds is repeated, and reported.
        let said: Vec<&str> = said.lines().filter(|line| !line.contains("retrying for up to")).collect();
        assert!(said.len() == 1 && said[0].contains(word), "{run}");
    }
    let part = bench.uri(&topic, "?partitions=0&end=latest");
    let refused = bench.dir.run("evt-window", &[part.as_str(), "--size", "1m"]).ends_with(2);
    assert!(refused.stderr().contains("--allow-partition-subset"), "{refused}");
    bench
        .dir
        .run("evt-window", &[part.as_str(), "--size", "1m", "--allow-partition-subset", "--to", "null:"])
        .succeeds();
}

/// A broker is killed and restarted while a run writes, then paused while a run reads: no record is lost or repeated,
/// and evt reports each outage in a line.
#[test]
fn a_broker_that_dies_or_stands_still_loses_nothing() {
    let Some(mut bench) = Bench::new("outage") else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka" };
    bench.brokers = broker.start();
    let topic = bench.topic("t", 3, &[]);
    bench.dir.shell("mkfifo in.fifo && evt-gen --events 60k --seed 5 > events.jsonl").succeeds();
    let mut child = bench.start("evt-ingest", &["in.fifo", "--to", &bench.uri(&topic, "")]);
    let bytes = bench.dir.bytes("events.jsonl");
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    let mut fifo = std::fs::OpenOptions::new().write(true).open(bench.dir.path("in.fifo")).expect("it is read");
    std::io::Write::write_all(&mut fifo, half).expect("it is read");
    broker.services(&["kill", "kafka"]);
    std::io::Write::write_all(&mut fifo, rest).expect("it is read");
    drop(fifo);
    broker.start();
    let status = crate::harness::status(child.wait().expect("it ends"));
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    assert_eq!(status, 0, "{said}");
    // Requests before the outage may time out, too.
    let others = said.lines().filter(|line| !line.contains("operation timed out: retrying")).count();
    assert!(said.contains("in 60000 inserted 60000") && others <= 3, "{said}");
    let mut ids: Vec<String> = bench
        .records(&topic)
        .iter()
        .map(|record| serde_json::from_slice::<Value>(record.value.as_deref().expect("a value")).expect("JSON"))
        .map(|row| row["offset"].to_string())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), bench.records(&topic).len()), (60_000, 60_000));

    let from = bench.uri(&topic, "?group=g");
    let child = bench.start("evt-ingest", &[&from, "--to", "out.jsonl"]);
    eventually("it reads", || lines(&bench.dir, "out.jsonl") > 0);
    broker.services(&["pause", "kafka"]);
    broker.services(&["resume", "kafka"]);
    eventually("it reads on", || lines(&bench.dir, "out.jsonl") == 60_000);
    broker.services(&["kill", "kafka"]);
    broker.start();
    bench.produce([record(&topic, 0, &event(1, "s"))]);
    eventually("it finds the broker again", || lines(&bench.dir, "out.jsonl") == 60_001);
    // The coordinator of a broker that was just started may answer later than a run that is stopped waits for it.
    let committed = || bench.committed("g", &topic, 3).iter().filter_map(|(offset, _)| *offset).sum::<i64>();
    eventually("the offsets are committed", || committed() == 60_001);
    let (status, said) = stopped(child);
    assert_eq!((status, committed()), (143, 60_001), "{said}");
}

/// Brokers that remain unreachable end a run, and messages without acknowledgement do not count as written.
#[test]
fn a_broker_that_stays_away_is_an_error_in_the_end() {
    let Some(mut bench) = Bench::new("away") else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka" };
    bench.brokers = broker.start();
    let topic = bench.topic("t", 1, &[]);
    bench.dir.shell("mkfifo in.fifo").succeeds();
    let mut child =
        bench.start("evt-ingest", &["in.fifo", "--to", &bench.uri(&topic, "?wait=20s"), "--stats", "s.json"]);
    let mut fifo = std::fs::OpenOptions::new().write(true).open(bench.dir.path("in.fifo")).expect("it is read");
    std::io::Write::write_all(&mut fifo, (event(1, "s") + "\n").as_bytes()).expect("it is read");
    eventually("the first is there", || bench.records(&topic).len() == 1);
    let reads = |wait: &str, out: &str| {
        let mut command = bench.dir.command("evt-ingest", &[&bench.uri(&topic, wait), "--to", out]);
        let said = std::fs::File::create(bench.dir.path(&format!("{out}.said"))).expect("writable");
        command.stdin(std::process::Stdio::null()).stderr(said).spawn().expect("it starts")
    };
    let (mut hasty, mut patient) =
        (reads("?wait=15s", "hasty.jsonl"), reads("?rdkafka.statistics.interval.ms=200", "patient.jsonl"));
    eventually("both read", || lines(&bench.dir, "hasty.jsonl") + lines(&bench.dir, "patient.jsonl") == 2);
    // Two members share a topic of one partition: the one that reads nothing must detect the outage, too.
    let mut members = ["one.jsonl", "other.jsonl"].map(|out| reads("?group=g&wait=15s", out));
    let client: BaseConsumer = bench.config().set("group.id", "test").create().expect("a client");
    eventually("both are members", || {
        // The broker refuses to answer while it loads the offsets topic.
        let Ok(groups) = client.fetch_group_list(Some("g"), ANSWER) else { return false };
        let group = groups.groups().first();
        group.is_some_and(|group| group.members().len() == 2 && group.state() == "Stable")
    });
    broker.services(&["kill", "kafka"]);
    std::io::Write::write_all(&mut fifo, (event(2, "s") + "\n").as_bytes()).expect("it is read");
    drop(fifo);
    let status = ended("the writer ends", &mut child);
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    assert_eq!(status, 69, "{said}");
    assert!(said.contains("1 message was not acknowledged and is not counted as written"), "{said}");
    assert_eq!(ended("the reader ends", &mut hasty), 69);
    for member in &mut members {
        assert_eq!(ended("a member ends", member), 69);
    }
    let told = |name: &str| String::from_utf8_lossy(&bench.dir.bytes(name)).into_owned();
    assert!(told("hasty.jsonl.said").contains("no broker for"), "{}", told("hasty.jsonl.said"));
    let mut late = reads("?wait=10m", "late.jsonl");
    eventually("it waits for its broker", || told("late.jsonl.said").contains("retrying for up to 10m"));
    kill_process(Pid::from_child(&late), Signal::TERM).expect("it runs");
    assert_eq!(ended("a run that waits for its broker can be stopped", &mut late), 143);
    eventually("the outage is reported", || told("patient.jsonl.said").contains("all broker connections are down"));
    broker.start();
    eventually("it is noticed though nothing comes", || {
        let said = told("patient.jsonl.said");
        assert_eq!(patient.try_wait().expect("a status"), None, "{said}");
        said.contains("brokers are available again")
    });
    patient.kill().and_then(|()| patient.wait()).expect("it runs");
}

/// Two independent clients read what evt wrote, and evt reads what they write.
#[test]
fn other_clients_read_and_write_the_same_topics() {
    let Some(bench) = Bench::new("clients") else { return };
    let (topic, back) = (bench.topic("t", 2, &[]), bench.topic("back", 2, &[]));
    let events: String = (0..50).map(|n| event(n, ["ios", "web"][n % 2]) + "\n").collect();
    bench.dir.write("in.jsonl", &events);
    bench.dir.run("evt-ingest", &["in.jsonl", "--to", &bench.uri(&topic, "")]).succeeds();
    let kcat = format!("kcat -b {} -m 60 -t {topic} -C -e -q -f '%k %s\\n'", bench.brokers);
    let seen = bench.dir.shell(&kcat).succeeds();
    assert_eq!(seen.text().lines().filter(|line| line.starts_with("ios {\"event_id\"")).count(), 25, "{seen}");
    bench
        .dir
        .shell(&format!("kcat -b {} -m 60 -t {back} -P -K '|' -H trace=x <<< 'ios|{}'", bench.brokers, event(7, "ios")))
        .succeeds();
    let read = bench.dir.run("evt-view", &[bench.uri(&back, "").as_str(), "-o", "jsonl"]).succeeds();
    assert_eq!(numbers(&read), [7]);
    let Some(python) = crate::harness::python() else { return };
    let told = crate::harness::ask(&bench.dir, &python, "kafka.py", &[&bench.brokers, &topic, &back]);
    assert_eq!(told.text(), "50 25 ios\n");
    let read = bench.dir.run("evt-view", &[bench.uri(&back, "").as_str(), "-o", "jsonl"]).succeeds();
    assert_eq!(numbers(&read), [7, 8]);
}

/// A run that is stopped in the middle commits the position of its outputs: the next run continues there, and no record
/// is repeated. After a kill the next run repeats uncommitted records, and no record is lost.
#[test]
fn a_run_that_is_stopped_or_killed_in_the_middle_loses_nothing() {
    let Some(bench) = Bench::new("middle") else { return };
    let (first, second) = (bench.topic("one", 3, &[]), bench.topic("two", 2, &[]));
    bench.dir.shell("evt-gen --events 100k --seed 3 > events.jsonl").succeeds();
    bench.dir.run("evt-ingest", &["events.jsonl", "--to", &bench.uri(&first, "")]).succeeds();
    bench.dir.run("evt-ingest", &["events.jsonl", "--to", &bench.uri(&second, "")]).succeeds();
    let both = format!("{first},{second}");
    for (name, kills) in [("stopped", false), ("killed", true)] {
        let mut places = judged(|round| read_in_two_runs(&bench, &both, &format!("{name}{round}"), kills));
        let all = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 200_000, "{name}");
        assert!(kills || all == 200_000, "{name}: {all} rows, some of them twice");
    }
}

/// Interrupts a run in the middle, and reads the rest in another one; returns the positions of all rows. `None` if the
/// stop took too long.
fn read_in_two_runs(bench: &Bench, topics: &str, name: &str, kills: bool) -> Option<Vec<String>> {
    let (out, group) = (format!("{name}.jsonl"), format!("{}-{name}", bench.prefix));
    // A run that is stopped leaves the group; one that is killed leaves it when its session expires.
    let session = if kills { "&rdkafka.session.timeout.ms=6000" } else { "" };
    let from = bench.uri(topics, &format!("?group={group}{session}"));
    let mut child = bench.start("evt-ingest", &[&from, "--to", &out]);
    eventually("it has begun", || lines(&bench.dir, &out) > 0);
    match kills {
        true => _ = child.kill().and_then(|()| child.wait()).expect("it runs"),
        false => _ = stopped_in_time(child)?,
    }
    let rest = bench.uri(topics, &format!("?group={group}&end=latest"));
    bench.dir.run("evt-ingest", &[rest.as_str(), "--to", &out]).succeeds();
    let place = |row: &Value| format!("{}/{}@{}", row["origin"], row["partition"], row["offset"]);
    Some(bench.dir.rows(&out).iter().map(place).collect())
}
