//! Groups and positions on a real broker: restarts, rebalances, kills and new partitions do not change results.

use crate::broker::{ANSWER, Bench, is_done, killed, lines, stopped, wait};
use crate::harness::{Dir, LONG_WAIT, eventually, eventually_within};
use crate::kafka::{event, numbers, record};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The rows of a file by position. If a position occurs twice, both rows are equal but for the time of reading.
fn by_place(rows: Vec<Value>) -> BTreeMap<(String, i64), Value> {
    let mut places = BTreeMap::new();
    for mut row in rows {
        row["ingested_at"] = "2024-01-15T12:00:00Z".into();
        let place = (row["partition"].to_string(), row["offset"].as_i64().expect("a number"));
        let known = places.entry(place).or_insert_with(|| row.clone());
        assert_eq!(*known, row, "read again, a row is the same");
    }
    places
}

/// The rows of a file whose lines are complete. A run may be writing the last line, or a kill has truncated it.
fn complete_rows(dir: &Dir, name: &str) -> Vec<Value> {
    let bytes = dir.bytes(name);
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&bytes[..end]).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// One run reads a topic, and so do members that join, leave and are killed. Each row has the same stream time both
/// times, so late rows and metrics are the same to the byte.
#[test]
fn a_run_that_is_interrupted_anywhere_calls_the_same_events_late() {
    let Some(bench) = Bench::new("interrupted") else { return };
    let (dir, topic, group) = (&bench.dir, bench.topic("t", 3, &[]), format!("{}-g", bench.prefix));
    dir.shell("evt-gen --events 40k --late 0.05 --seed 11 > events.jsonl && split -l 8000 events.jsonl part.")
        .succeeds();
    let to = bench.uri(&topic, "?key=user_id");
    let produce = |part: &str| dir.run("evt-ingest", &[&format!("part.{part}"), "-q", "--to", &to]).succeeds();
    let settings = "rdkafka.auto.commit.interval.ms=100&rdkafka.session.timeout.ms=6000";
    let from = bench.uri(&topic, &format!("?group={group}&{settings}"));
    let committed = || bench.committed(&group, &topic, 3).iter().filter_map(|(offset, _)| *offset).sum::<i64>();
    let start = |out: &str| bench.start("evt-ingest", &[&from, "-q", "--to", out]);

    produce("aa");
    let first = start("a.jsonl");
    eventually("the first reads and commits", || committed() >= 8_000);
    produce("ab");
    eventually("some of it is written", || lines(dir, "a.jsonl") > 8_000);
    killed(first);
    let second = start("b.jsonl");
    // The first member may have committed all records: the second one must have rows of its own before it is killed.
    produce("ac");
    eventually("the second takes over and commits", || lines(dir, "b.jsonl") > 0 && committed() >= 24_000);
    let third = start("c.jsonl");
    let before = lines(dir, "b.jsonl") + lines(dir, "c.jsonl");
    produce("ad");
    eventually("some of it is written", || lines(dir, "b.jsonl") + lines(dir, "c.jsonl") > before);
    killed(second);
    produce("ae");
    eventually("the other one continues alone", || committed() >= 40_000);
    assert_eq!(stopped(third).0, 143);
    let times = bench.committed(&group, &topic, 3);
    assert!(times.iter().all(|(_, metadata)| metadata.starts_with("evt stream_time=")), "{times:?}");

    let whole = bench.uri(&topic, "?end=latest");
    dir.run("evt-ingest", &[whole.as_str(), "-q", "--to", "whole.jsonl"]).succeeds();
    // A line that a kill has truncated belongs to a record that was not committed: another member has read it again.
    let read = ["a.jsonl", "b.jsonl", "c.jsonl"].iter().flat_map(|name| complete_rows(dir, name)).collect();
    let (undisturbed, disturbed) = (by_place(dir.rows("whole.jsonl")), by_place(read));
    assert_eq!(undisturbed.len(), 40_000);
    assert!(undisturbed == disturbed, "some row has another stream time");
    for (name, rows) in [("one", undisturbed), ("many", disturbed)] {
        let text: String = rows.values().map(|row| format!("{row}\n")).collect();
        dir.write(&format!("{name}.jsonl"), text);
        let window = format!("evt-window {name}.jsonl -q --size 10s --out-of-orderness 2s --late {name}.late.jsonl");
        dir.shell(&format!("{window} -o jsonl > {name}.metrics")).succeeds();
    }
    assert!(lines(dir, "one.late.jsonl") > 100, "the generator makes late events");
    assert!(dir.bytes("one.late.jsonl") == dir.bytes("many.late.jsonl"), "other events are late");
    assert!(dir.bytes("one.metrics") == dir.bytes("many.metrics"), "the metrics differ");
}

/// None fired, because the range had ended before its rows were looked at.
#[test]
fn windows_that_are_closed_at_the_end_of_a_range_are_fired_although_the_rest_is_held() {
    let Some(bench) = Bench::new("held") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 2, &[]));
    dir.shell("evt-gen --events 200 --rate 1 --users 20 --seed 3 > events.jsonl").succeeds();
    let to = bench.uri(&topic, "?key=user_id");
    dir.run("evt-ingest", &["events.jsonl", "-q", "--time", "client_timestamp", "--to", &to]).succeeds();
    let window =
        "evt-window --time client_timestamp --out-of-orderness 1m --size 1s --at-end hold -q --late null: -o jsonl";
    let of_range = dir.shell(&format!("{window} '{}'", bench.uri(&topic, "?end=latest"))).ends_with(1).rows();
    let of_file = dir.shell(&format!("{window} events.jsonl")).ends_with(1).rows();
    let ids = |rows: &[Value]| rows.iter().map(|row| row["metric_id"].to_string()).collect::<BTreeSet<_>>();
    assert!(ids(&of_file).len() > 10);
    assert_eq!(ids(&of_range), ids(&of_file));
}

/// It was ready before it had joined the group, and did not read what was written before it had.
#[test]
fn a_member_that_begins_at_the_end_is_ready_when_it_knows_the_end() {
    let Some(bench) = Bench::new("ready") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 2, &[]));
    bench.produce([record(&topic, 0, &event(0, "s")), record(&topic, 1, &event(1, "s"))]);
    let manager = UnixDatagram::bind(dir.path("notify")).expect("a socket");
    let from = bench.uri(&topic, &format!("?start=latest&group={}-g", bench.prefix));
    let mut command = dir.command("evt-ingest", &[&from, "-q", "--to", "out.jsonl"]);
    let child = command.env("NOTIFY_SOCKET", dir.path("notify")).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut told = [0; 4096];
    while !manager.recv(&mut told).is_ok_and(|count| told[..count].starts_with(b"READY=1")) {}
    bench.produce([record(&topic, 0, &event(2, "s")), record(&topic, 1, &event(3, "s"))]);
    eventually("it reads what is new", || lines(dir, "out.jsonl") == 2);
    stopped(child);
}

/// A member that has read no record releases revoked partitions at once.
#[test]
fn members_of_a_group_share_a_topic_in_which_nothing_is_yet() {
    let Some(bench) = Bench::new("idle") else { return };
    let (topic, group) = (bench.topic("t", 2, &[]), format!("{}-g", bench.prefix));
    let from = bench.uri(&topic, &format!("?group={group}"));
    let first = bench.start("evt-ingest", &[&from, "--to", "a.jsonl"]);
    let client: BaseConsumer = bench.config().set("group.id", "test").create().expect("a client");
    let sharing = || {
        // The broker refuses to answer while it loads groups.
        let Ok(groups) = client.fetch_group_list(Some(&group), ANSWER) else { return 0 };
        let members = groups.groups().first().map_or(&[][..], |group| group.members());
        let has = |assigned: Option<&[u8]>| String::from_utf8_lossy(assigned.unwrap_or_default()).contains(&topic);
        members.iter().filter(|member| has(member.assignment())).count()
    };
    eventually("the first has all", || sharing() == 1);
    let second = bench.start("evt-ingest", &[&from, "--to", "b.jsonl"]);
    eventually("both have a share", || sharing() == 2);
    bench.produce([record(&topic, 0, &event(0, "s")), record(&topic, 1, &event(1, "s"))]);
    eventually("each reads its own", || lines(&bench.dir, "a.jsonl") == 1 && lines(&bench.dir, "b.jsonl") == 1);
    let said = stopped(first).1 + &stopped(second).1;
    assert!(!said.contains("took too long"), "{said}");
}

/// A run reads partitions that a topic gets meanwhile from their start, even if it reads the others from
/// `start=latest`.
#[test]
fn partitions_that_a_topic_gets_are_read_from_their_start() {
    let Some(bench) = Bench::new("growing") else { return };
    for (name, options) in [("alone", String::new()), ("group", format!("&group={}-g", bench.prefix))] {
        let topic = bench.topic(name, 1, &[]);
        bench.produce([record(&topic, 0, &event(0, "s"))]);
        let soon = "rdkafka.topic.metadata.refresh.interval.ms=500&rdkafka.metadata.max.age.ms=900000&rdkafka.statistics.interval.ms=200";
        let from = bench.uri(&topic, &format!("?start=latest&{soon}{options}"));
        let out = format!("{name}.jsonl");
        let child = bench.start("evt-ingest", &[&from, "--to", &out]);
        eventually("it reads", || {
            bench.produce([record(&topic, 0, &event(1, "s"))]);
            std::thread::park_timeout(ANSWER / 100);
            lines(&bench.dir, &out) > 0
        });
        add_partition(&bench, &topic);
        bench.produce([record(&topic, 1, &event(7, "s")), record(&topic, 1, &event(8, "s"))]);
        let is_new = |row: &Value| row["partition"] == "1";
        let new = || complete_rows(&bench.dir, &out).iter().filter(|row| is_new(row)).count();
        eventually("the new one is read", || new() == 2);
        let (status, said) = stopped(child);
        assert_eq!(status, 143, "{said}");
        assert!(said.contains(&format!("{topic}/1: new partition, reading from its start")), "{said}");
        // The client that asks for the end of the partition has old metadata, and must not wait until they expire.
        assert!(!said.contains("unknown partition"), "{said}");
        let rows = bench.dir.rows(&out);
        // Event 0 was there before the run.
        assert!(rows.iter().all(|row| is_new(row) || row["properties"]["n"] == 1), "{rows:?}");
    }
}

/// Adds the second partition to a topic.
pub fn add_partition(bench: &Bench, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = bench.config().create().expect("a client");
    let (more, options) = (NewPartitions::new(topic, 2), AdminOptions::new().operation_timeout(Some(ANSWER)));
    eventually("the partition is made", || {
        is_done(&wait(admin.create_partitions([&more], &options)).expect("an answer"))
    });
    // The controller confirms the partition, but the broker may receive its metadata later. Until then a record for the
    // partition cannot be produced.
    eventually("the broker knows the partition", || {
        let metadata = admin.inner().fetch_metadata(Some(topic), ANSWER).ok();
        let found = metadata.as_ref().and_then(|metadata| metadata.topics().first());
        let partitions = found.map_or(&[][..], |topic| topic.partitions());
        partitions.len() == 2 && partitions.iter().all(|one| one.error().is_none() && one.leader() >= 0)
    });
}

/// A range may end at offsets without a record: markers of transactions, aborted records, open transactions.
#[test]
fn a_range_ends_where_its_last_offsets_are_no_records() {
    let Some(bench) = Bench::new("markers") else { return };
    let topic = bench.topic("t", 1, &[]);
    let producer: BaseProducer = bench.config().set("transactional.id", &bench.prefix).create().expect("a client");
    producer.init_transactions(ANSWER).expect("a coordinator");
    let transaction = |range: std::ops::Range<usize>| {
        producer.begin_transaction().expect("begun");
        for n in range {
            let value = event(n, "s");
            producer.send(record(&topic, 0, &value)).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(ANSWER).expect("delivered");
    };
    transaction(0..3);
    producer.commit_transaction(ANSWER).expect("committed");
    transaction(3..5);
    producer.abort_transaction(ANSWER).expect("aborted");
    let view = |options: &str| bench.dir.run("evt-view", &[&bench.uri(&topic, options), "-o", "jsonl"]).succeeds();
    assert_eq!(numbers(&view("")), [0, 1, 2], "the last offsets are of an aborted transaction");
    transaction(5..7);
    assert_eq!(numbers(&view("")), [0, 1, 2], "what is open is not there yet");
    producer.commit_transaction(ANSWER).expect("committed");
    // A broker confirms a commit before readers see its records.
    eventually("the committed records are visible", || bench.records(&topic).len() == 5);
    for (end, expected) in [(3, 3), (4, 3), (5, 3), (7, 3), (8, 4), (9, 5), (10, 5)] {
        let seen = numbers(&view(&format!("?end=0:{end}")));
        assert_eq!(seen, [0, 1, 2, 5, 6][..expected], "end at {end}");
    }
}

/// Compacted offsets are not a gap: a run may begin, continue and end at such offsets. Tombstones are not events.
#[test]
fn offsets_that_compaction_took_are_no_gap() {
    let Some(bench) = Bench::new("compacted") else { return };
    let settings = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.ms", "50"),
        ("max.compaction.lag.ms", "1"),
        ("delete.retention.ms", "86400000"),
    ];
    let topic = bench.topic("t", 1, &settings);
    let keyed = |n: usize| {
        let (key, value) = (format!("k{}", n % 3), event(n, "s"));
        let record = BaseRecord::to(topic.as_str()).partition(0).key(key.as_bytes());
        // The last record of k1 is a tombstone.
        if n == 10 { bench.produce([record]) } else { bench.produce([record.payload(value.as_bytes())]) }
    };
    (0..12).for_each(keyed);
    // Records of the last segment are never compacted: each of these may begin another one. One thread of the broker
    // compacts all topics.
    let mut written = 12;
    eventually_within(LONG_WAIT, "the older records are gone", || {
        bench.produce([BaseRecord::to(topic.as_str())
            .partition(0)
            .key(b"last".as_slice())
            .payload(event(99, "s").as_bytes())]);
        written += 1;
        bench.records(&topic).iter().filter(|record| record.key.as_deref() != Some(b"last")).count() == 3
    });
    for start in ["", "&start=0:0", "&start=0:5"] {
        let from = bench.uri(&topic, &format!("?end=0:{written}{start}"));
        let run = bench.dir.run("evt-ingest", &[&from, "-o", "jsonl", "--stats", "stats.json"]).succeeds();
        let mut seen = numbers(&run);
        seen.retain(|n| *n != 99);
        assert_eq!(seen, [9, 11], "{run}");
        let stats: Value = serde_json::from_slice(&bench.dir.bytes("stats.json")).expect("JSON");
        assert_eq!(stats["counts"]["filtered"], 1, "{stats}");
        assert!(!run.stderr().contains("retention"), "{run}");
    }
}

/// Deletes a topic and creates it again, with other records.
pub fn make_anew(bench: &Bench, topic: &str, records: std::ops::Range<usize>) {
    assert_eq!(bench.recreate("t"), topic);
    let events: Vec<String> = records.map(|n| event(n, "s")).collect();
    bench.produce(events.iter().map(|value| record(topic, 0, value)));
}

/// The position of a group is after the end of a topic that was created again: the run ends, or reads all of the new
/// topic.
#[test]
fn a_topic_made_anew_is_read_from_its_start_where_gaps_are_no_end() {
    let Some(bench) = Bench::new("anew") else { return };
    let (topic, group) = (bench.topic("t", 1, &[]), format!("{}-g", bench.prefix));
    let events: Vec<String> = (400..450).map(|n| event(n, "s")).collect();
    bench.produce(events.iter().map(|value| record(&topic, 0, value)));
    let from = |options: &str| bench.uri(&topic, &format!("?group={group}&end=latest{options}"));
    bench.dir.run("evt-ingest", &[&from(""), "--to", "null:"]).succeeds();
    let stands = bench.committed(&group, &topic, 1)[0].clone();
    assert_eq!(stands.0, Some(50));
    make_anew(&bench, &topic, 0..20);
    // A broker drops the commits of groups with a deleted topic; a program that mirrors offsets does not.
    // An earlier version of evt did not commit the id of the topic.
    let metadata = stands.1.split(" topic_id=").next().expect("text");
    bench.commit(&group, &topic, 50, metadata);

    let failed = bench.dir.run("evt-ingest", &[&from(""), "--to", "null:"]).ends_with(65);
    assert!(failed.stderr().contains(&format!("{topic}/0@50: the partition ends at offset 20, before 50")), "{failed}");
    assert_eq!(bench.committed(&group, &topic, 1)[0].0, Some(50));
    let read = bench.dir.run("evt-ingest", &[&from("&on_gap=continue"), "--to", "out.jsonl"]).succeeds();
    assert!(read.stderr().contains("before 50: it lost records or was recreated; reading on at 0"), "{read}");
    let rows = bench.dir.rows("out.jsonl");
    assert_eq!(rows.len(), 20, "{read}");
    assert_eq!(rows[0]["stream_time"], rows[0]["event_time"], "{read}");
    assert_eq!(bench.committed(&group, &topic, 1)[0].0, Some(20));
}

/// The same during a run.
#[test]
fn what_goes_while_a_run_waits_is_a_gap_that_it_reads_over() {
    // With this option librdkafka reports a missing topic at once, as it does in a run of more than 30 seconds.
    for (name, option) in [("under", ""), ("under_old", "&rdkafka.topic.metadata.propagation.max.ms=1")] {
        let Some(bench) = Bench::new(name) else { return };
        let topic = bench.topic("t", 1, &[]);
        let events: Vec<String> = (400..450).map(|n| event(n, "s")).collect();
        bench.produce(events.iter().map(|value| record(&topic, 0, value)));
        let from = bench.uri(&topic, &format!("?on_gap=continue{option}"));
        let child = bench.start("evt-ingest", &[&from, "--to", "out.jsonl"]);
        eventually("the old ones are written", || lines(&bench.dir, "out.jsonl") == 50);
        make_anew(&bench, &topic, 0..20);
        eventually("the new ones are written", || lines(&bench.dir, "out.jsonl") == 70);
        let (status, said) = stopped(child);
        assert_eq!(status, 143, "{said}");
        assert_eq!(said.matches("was recreated; reading on at 0").count(), 1, "{said}");
        let rows = bench.dir.rows("out.jsonl");
        assert_eq!(rows[50]["stream_time"], rows[50]["event_time"], "{said}");
    }
}

/// A run reports its lag by partition, in records and in seconds.
#[test]
fn the_lag_is_told_by_partition() {
    let Some(bench) = Bench::new("lag") else { return };
    let topic = bench.topic("t", 2, &[]);
    let events: Vec<String> = (0..20).map(|n| event(n, "s")).collect();
    bench.produce(events.iter().enumerate().map(|(n, value)| record(&topic, (n % 2) as i32, value)));
    let from = bench.uri(&topic, "?end=0:4,1:10");
    bench.dir.run("evt-ingest", &[from.as_str(), "--to", "null:", "--stats", "s.json"]).succeeds();
    let stats: Value = serde_json::from_slice(&bench.dir.bytes("s.json")).expect("JSON");
    let lag = &stats["lag"];
    assert_eq!((&lag[0]["topic"], &lag[0]["partition"]), (&topic.as_str().into(), &0.into()), "{stats}");
    assert_eq!((&lag[0]["records"], &lag[1]["records"]), (&6.into(), &0.into()), "{stats}");
    assert!(lag[0]["seconds"].as_f64().is_some_and(|seconds| seconds < 600.0), "{stats}");
    assert_eq!(lag[1]["seconds"], 0.0, "{stats}");
}

/// If a flag maps rows to other partitions, the stream time of an offset is not that of these partitions.
#[test]
fn a_group_keeps_no_stream_time_of_mapped_partitions() {
    let Some(bench) = Bench::new("mapped") else { return };
    let topic = bench.topic("t", 1, &[]);
    let from = bench.uri(&topic, "?group=g");
    let refused = bench.dir.run("evt-ingest", &[&from, "--field", "partition=user_id", "--to", "null:"]).ends_with(2);
    assert!(refused.stderr().contains("stream time"), "{refused}");
}

/// A run does not commit records held by `--max-future`: the next run reads and checks them. Faulty records behind them
/// wait, too, so that nothing comes twice.
#[test]
fn records_that_wait_for_others_are_left_to_the_run_that_goes_on() {
    let Some(bench) = Bench::new("waiting") else { return };
    let (topic, group) = (bench.topic("t", 1, &[]), format!("{}-g", bench.prefix));
    // Without a server_timestamp their arrival is unknown.
    let event = |n| event(n, "s").replace("server_timestamp", "event_time");
    let events: Vec<String> = (0..100).map(|n| if n % 10 == 0 { format!("not json {n}") } else { event(n) }).collect();
    bench.produce(events.iter().map(|value| record(&topic, 0, value)));
    let outputs = ["--max-future", "1h", "--dlq", "dead.jsonl", "--to", "out.jsonl"];
    let from = bench.uri(&topic, &format!("?group={group}&rdkafka.auto.commit.interval.ms=100"));
    let mut child = bench.start("evt-ingest", &[&[from.as_str()][..], &outputs].concat());
    let mut said = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("90 records without an arrival time are held") {
        line.clear();
        assert_ne!(said.read_line(&mut line).expect("text"), 0, "it ended");
    }
    let committed = || bench.committed(&group, &topic, 1)[0].0;
    child.stderr = Some(said.into_inner());
    eventually("the record before them is committed", || committed() == Some(1));
    let (status, _) = stopped(child);
    assert_eq!(status, 143);
    assert_eq!((lines(&bench.dir, "out.jsonl"), lines(&bench.dir, "dead.jsonl"), committed()), (0, 1, Some(1)));
    let rest = bench.uri(&topic, &format!("?group={group}&end=latest"));
    bench.dir.run("evt-ingest", &[&[rest.as_str()][..], &outputs].concat()).succeeds();
    assert_eq!((lines(&bench.dir, "out.jsonl"), lines(&bench.dir, "dead.jsonl"), committed()), (90, 10, Some(100)));
}

/// The group would wait for a member that is gone until its session expires, after 45 seconds.
#[test]
fn a_member_whose_topic_is_deleted_before_its_first_commit_says_so_and_leaves_the_group() {
    let Some(bench) = Bench::new("left") else { return };
    let topic = bench.topic("t", 1, &[]);
    bench.produce([record(&topic, 0, &event(1, "s"))]);
    let from = bench.uri(&topic, &format!("?group={}", bench.prefix));
    let mut command = bench.dir.command("evt-ingest", &[&from, "--to", "out.jsonl"]);
    let child = command.stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    eventually("the first record is read", || lines(&bench.dir, "out.jsonl") == 1);
    bench.delete(&topic);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    let gone = "the topic does not exist any more";
    assert!(said.contains(&format!("/0 is unavailable: {gone}: retrying for up to 30s\n")), "{said}");
    assert!(
        said.contains(&format!("{from_shown}: reading failed: {gone}\n", from_shown = bench.uri(&topic, ""))),
        "{said}"
    );
    bench.topic("t", 1, &[]);
    bench.produce([record(&topic, 0, &event(2, "s"))]);
    let start = Instant::now();
    let second = bench.start("evt-ingest", &[&from, "-q", "--to", "out.jsonl"]);
    eventually("the next member reads", || lines(&bench.dir, "out.jsonl") == 2);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(stopped(second).0, 143);
}
