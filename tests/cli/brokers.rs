//! Brokers that are killed or require authentication, and readers that are slower than brokers.

use crate::broker::{ANSWER, Bench, Broker, lines, stopped};
use crate::harness::{LONG_WAIT, ended_within, eventually, eventually_within, in_ci, status};
use crate::kafka::{event, record};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

/// One of three brokers is killed while a run writes, another while a run reads: no record is lost or repeated.
#[test]
fn one_of_three_brokers_may_die_under_load() {
    let Some(mut bench) = Bench::new("three") else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka3" };
    bench.brokers = broker.start();
    let topic = bench.topic("t", 3, &[]);
    bench.dir.shell("mkfifo in.fifo && evt-gen --events 60k --seed 5 > events.jsonl").succeeds();
    let mut child = bench.start("evt-ingest", &["in.fifo", "--to", &bench.uri(&topic, "?key=user_id")]);
    let bytes = bench.dir.bytes("events.jsonl");
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    let mut fifo = std::fs::OpenOptions::new().write(true).open(bench.dir.path("in.fifo")).expect("it is read");
    fifo.write_all(half).expect("it is read");
    broker.services(&["kill", "kafka3.2"]);
    fifo.write_all(rest).expect("it is read");
    drop(fifo);
    let ended = status(child.wait().expect("it ends"));
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    assert_eq!(ended, 0, "{said}");
    assert!(said.contains("in 60000 inserted 60000") && said.lines().count() <= 3, "{said}");
    let place = |row: Value| format!("{}{}", row["origin"], row["offset"]);
    let records = bench.records(&topic);
    let value = |record: &crate::broker::Record| serde_json::from_slice(record.value.as_deref().expect("a value"));
    let mut places: Vec<String> = records.iter().map(|record| place(value(record).expect("JSON"))).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!((places.len(), records.len()), (60_000, 60_000));

    broker.services(&["start", "kafka3.2"]);
    let from = bench.uri(&topic, "?group=g&rdkafka.auto.commit.interval.ms=100");
    let child = bench.start("evt-ingest", &[&from, "--to", "out.jsonl"]);
    eventually("it reads", || lines(&bench.dir, "out.jsonl") > 0);
    bench.dir.shell(&format!("evt-ingest events.jsonl -q --to '{}'", bench.uri(&topic, "?key=user_id"))).succeeds();
    broker.services(&["kill", "kafka3.1"]);
    eventually("it reads on", || lines(&bench.dir, "out.jsonl") >= 120_000);
    // A run that is stopped before the group has another coordinator commits nothing and says so.
    let committed = || bench.committed("g", &topic, 3).iter().filter_map(|(offset, _)| *offset).sum::<i64>();
    eventually("the offsets are committed", || committed() == 120_000);
    let (ended, said) = stopped(child);
    assert_eq!(ended, 143, "{said}");
    assert_eq!((lines(&bench.dir, "out.jsonl"), committed()), (120_000, 120_000), "{said}");
}

/// Each answer of the other broker began the time anew, so the run hung without a line.
#[test]
fn a_partition_whose_brokers_are_killed_is_named_and_ends_the_run_after_the_wait() {
    let Some(mut bench) = Bench::new("unled") else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka3" };
    bench.brokers = broker.start();
    let topic = bench.topic("t", 3, &[]);
    let event = event(1, "s");
    bench.produce((0..3).map(|number| record(&topic, number, &event)));
    let mut child = bench.start("evt-ingest", &[&bench.uri(&topic, "?wait=20s"), "--to", "out.jsonl"]);
    eventually("it has read", || lines(&bench.dir, "out.jsonl") == 3);
    // Without a majority nobody elects new leaders, and the third broker serves its partition.
    broker.services(&["kill", "kafka3.1", "kafka3.2"]);
    let ended = ended_within(LONG_WAIT, "the run", &mut child);
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    assert_eq!(ended, 69, "{said}");
    let name = format!("{topic}/");
    let reported = said.lines().find(|line| line.contains(" is unavailable: ")).unwrap_or_default();
    assert!(reported.contains(&name) && reported.ends_with("retrying for up to 20s (?wait=)"), "{said}");
    assert!(said.contains(&format!("no response for {name}")), "{said}");
}

/// Returns the broker that coordinates a group: the leader of its partition of the offsets topic.
fn coordinator(client: &BaseConsumer, group: &str) -> i32 {
    // The hash of Java's String.
    let hash = group.bytes().fold(0i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let mut leader = None;
    // Some broker may not have the metadata of the topic yet.
    eventually("a broker knows the coordinator", || {
        let metadata = client.fetch_metadata(Some("__consumer_offsets"), ANSWER).ok();
        let topic = metadata.as_ref().and_then(|metadata| metadata.topics().first());
        let partitions = topic.map_or(&[][..], |topic| topic.partitions());
        let number = (hash & i32::MAX).checked_rem(i32::try_from(partitions.len()).expect("there are a few"));
        let found = partitions.iter().find(|partition| Some(partition.id()) == number);
        leader = found.map(|partition| partition.leader()).filter(|leader| *leader >= 0);
        leader.is_some()
    });
    leader.expect("it was found")
}

/// A coordinator that does not answer stops commits, and not the reading.
#[test]
fn a_group_whose_coordinator_hangs_reads_on() {
    let Some(mut bench) = Bench::new("coordinator") else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka3" };
    bench.brokers = broker.start();
    let topic = bench.topic("t", 1, &[]);
    let record = event(1, "s");
    // It gets its id from a broker before one is paused.
    let producer = bench.producer(&[]);
    let produce = || {
        let record = BaseRecord::<(), _>::to(topic.as_str()).payload(record.as_bytes());
        producer.send(record).map_err(|(error, _)| error).expect("it is queued");
        producer.flush(LONG_WAIT).expect("it is delivered");
    };
    let run = |group: &str| {
        let from = bench.uri(&topic, &format!("?group={group}&rdkafka.auto.commit.interval.ms=100"));
        bench.start("evt-ingest", &[&from, "--to", "out.jsonl"])
    };
    // The first group makes the offsets topic.
    produce();
    let first = run("first");
    eventually("it has read", || lines(&bench.dir, "out.jsonl") == 1);
    assert_eq!(stopped(first).0, 143);
    let client: BaseConsumer = bench.config().create().expect("a client");
    let leader = client.fetch_metadata(Some(&topic), ANSWER).expect("an answer").topics()[0].partitions()[0].leader();
    let other = |group: &String| coordinator(&client, group) != leader;
    let group = (0..100).map(|n| format!("g{n}")).find(other).expect("there are three brokers");
    let child = run(&group);
    eventually("it has read", || lines(&bench.dir, "out.jsonl") == 2);
    let node = format!("kafka3.{}", coordinator(&client, &group));
    broker.services(&["pause", &node]);
    for count in 3..=30 {
        produce();
        eventually("the next record is read", || lines(&bench.dir, "out.jsonl") == count);
    }
    broker.services(&["resume", &node]);
    assert_eq!(stopped(child).0, 143);
}

/// A topic that was there may be there again for the next run, so a service starts it again.
#[test]
fn a_topic_that_disappears_does_not_keep_the_unit_down() {
    let Some(bench) = Bench::new("disappears") else { return };
    let topic = bench.topic("t", 1, &[]);
    let record = event(1, "s");
    bench.produce([BaseRecord::to(topic.as_str()).payload(record.as_bytes())]);
    let group = format!("?group={}-g", bench.prefix);
    let options = ["", &group, "?rdkafka.fetch.min.bytes=1"];
    let mut runs: Vec<_> = options
        .iter()
        .enumerate()
        .map(|(number, options)| {
            let out = format!("{number}.jsonl");
            let child = bench.start("evt-ingest", &[&bench.uri(&topic, options), "--to", &out]);
            eventually("it has read", || lines(&bench.dir, &out) == 1);
            (options, child)
        })
        .collect();
    bench.delete(&topic);
    for (options, child) in &mut runs {
        let ended = ended_within(LONG_WAIT, "the run", child);
        let mut said = String::new();
        child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
        assert_eq!(ended, 69, "{options}: {said}");
        let told = ["reading failed: the topic does not exist any more", "reading failed: unknown "];
        assert!(told.iter().any(|told| said.contains(told)), "{options}: {said}");
    }
}

/// A broker that requires a password over TLS: a file has the settings, and evt reports a wrong password at once.
#[test]
fn passwords_and_certificates_stand_in_a_file() {
    let Some(mut bench) = Bench::new("secure") else { return };
    let (Ok(brokers), Ok(password), Ok(authority)) =
        (std::env::var("EVT_KAFKA_SECURE"), std::env::var("EVT_KAFKA_PASSWORD"), std::env::var("EVT_KAFKA_CA"))
    else {
        assert!(!in_ci(), "EVT_KAFKA_SECURE must name a broker in CI (scripts/services)");
        return;
    };
    let topic = bench.topic("t", 1, &[]);
    bench.brokers = brokers;
    let settings = |password: &str| {
        format!(
            "security.protocol=sasl_ssl\nsasl.mechanism=SCRAM-SHA-512\nsasl.username=evt\nsasl.password={password}\n\
             ssl.ca.location={authority}\n"
        )
    };
    bench.dir.write("good", settings(&password));
    bench.dir.write("bad", settings("no such password"));
    bench.dir.write("in.jsonl", event(1, "s") + "\n");
    let uri = bench.uri(&topic, "");
    bench.dir.run("evt-ingest", &["in.jsonl", "--kafka-config", "good", "--to", &uri]).succeeds();
    let seen = bench.dir.run("evt-view", &["--kafka-config", "good", &uri, "-o", "jsonl"]).succeeds();
    assert_eq!(seen.rows().len(), 1);
    let bounded = bench.uri(&topic, "?end=latest");
    let kept = ["--kafka-config", "good", "--checkpoint", "state", &bounded, "--to", "rows.jsonl"];
    bench.dir.run("evt-ingest", &kept).succeeds();
    let positions = bench.dir.bytes("state/epochs/1-1/1-evt-ingest.positions");
    assert!(String::from_utf8_lossy(&positions).contains("topic_id"), "the second client has the same settings");
    for args in [["in.jsonl", "--kafka-config", "bad", "--to", &uri], [&uri, "--kafka-config", "bad", "--to", "null:"]]
    {
        let refused = bench.dir.run("evt-ingest", &args).ends_with(78);
        assert!(refused.stderr().to_lowercase().contains("authentication"), "{refused}");
        assert!(!refused.stderr().contains("no such password"), "{refused}");
    }
}

/// A stage whose reader has stalled buffers no more than its limits, however long the topic is.
#[test]
fn memory_does_not_grow_where_nobody_takes_what_is_read() {
    let Some(bench) = Bench::new("stalled") else { return };
    let topic = bench.topic("t", 3, &[]);
    let filler = "x".repeat(10_000);
    let value = event(1, "s").replace(r#""n":1"#, &format!(r#""n":"{filler}""#));
    (0..10).for_each(|_| {
        bench.produce((0..3000).map(|n| BaseRecord::to(topic.as_str()).partition(n % 3).payload(value.as_bytes())));
    });
    let mut command = bench.dir.command("evt-ingest", &[bench.uri(&topic, "?end=latest")]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut out = child.stdout.take().expect("it is piped");
    let mut first = [0; 4096];
    out.read_exact(&mut first).expect("it writes");
    let resident = || {
        let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    };
    let (mut most, mut still) = (0, 0);
    eventually("it holds no more than it did", || {
        std::thread::park_timeout(std::time::Duration::from_millis(100));
        let now = resident();
        still = if now > most { 0 } else { still + 1 };
        most = most.max(now);
        still == 20
    });
    assert!(most < 160, "{most} MiB of 300 MiB are held");
    let mut rest = vec![];
    out.read_to_end(&mut rest).expect("it continues");
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    assert_eq!(status(child.wait().expect("it ends")), 0, "{said}");
    assert!(said.contains("in 30000 out 30000"), "{said}");
}

#[test]
fn an_empty_partition_is_named_with_the_flag_that_lets_windows_fire_without_it() {
    let Some(bench) = Bench::new("empty-partition") else { return };
    let topic = bench.topic("events", 2, &[]);
    bench.produce([0, 10].map(event_at).iter().map(|event| record(&topic, 0, event)));
    let (uri, log) = (bench.uri(&topic, ""), bench.dir.path("said"));
    let mut command = bench.dir.command("evt-window", &[&*uri, "--size", "1m", "--to", "null:"]);
    let mut child = command.stderr(std::fs::File::create(&log).expect("a file")).spawn().expect("it starts");
    let expected =
        "empty; evt-window fires no window before each has a record (--idle-after DURATION or end=latest avoids this)";
    eventually(expected, || std::fs::read_to_string(&log).expect("text").contains(expected));
    child.kill().and_then(|()| child.wait()).expect("it is ours");
    // With the flag, the windows of the other partition are written.
    let args = ["--size", "1m", "--idle-after", "1s", "--late", "null:", "--to", "rows.jsonl"];
    let child = bench.start("evt-window", &[&[&*uri], &args[..]].concat());
    eventually("a window fires", || lines(&bench.dir, "rows.jsonl") > 0);
    let (status, _) = stopped(child);
    assert_eq!(status, 143);
}

/// An event so many minutes after an instant.
fn event_at(minute: usize) -> String {
    format!("{{\"event_type\":\"t\",\"server_timestamp\":\"2026-01-05T10:{minute:02}:00Z\"}}")
}

/// librdkafka may wait for ever for the coordinator of a group that was killed while offsets were committed in a
/// transaction. Such a run ends with 69 after `wait=`, and the next one continues.
#[test]
fn epochs_are_in_a_topic_once_although_each_broker_is_killed_in_turn() {
    let Some(mut bench) = Bench::new("moved") else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka3" };
    bench.brokers = broker.start();
    let topic = bench.topic("out", 1, &[]);
    let to = bench.uri(&topic, "?wait=20s");
    let every = ["--checkpoint", "state", "--checkpoint-every", "100ms"];
    let files = ["-q", "--dlq", "null:", "-f", "jsonl", "--follow", "in.jsonl", "--to", &to];
    let start = || bench.start("evt-ingest", &[&every[..], &files].concat());
    let mut written = 0;
    let mut append = || {
        let events: String = (written..written + 20).map(|number| event(number, "s") + "\n").collect();
        written += 20;
        let mut file = File::options().create(true).append(true).open(bench.dir.path("in.jsonl")).expect("a file");
        file.write_all(events.as_bytes()).expect("written");
        written
    };
    append();
    let mut run = start();
    let mut ended = 0;
    for node in ["kafka3.1", "kafka3.2", "kafka3.3", "kafka3.1", "kafka3.2"] {
        broker.services(&["kill", node]);
        for _ in 0..30 {
            append();
            std::thread::park_timeout(Duration::from_millis(100));
        }
        broker.services(&["start", node]);
        let expected = append();
        let has_all = || bench.records(&topic).len() >= expected;
        // A broker that starts on a busy machine may be away for longer than `wait=` once more.
        eventually_within(LONG_WAIT, "the rows are committed by this run or a later one", || {
            if let Some(over) = run.try_wait().expect("a child") {
                let mut said = String::new();
                run.stderr.take().expect("it is piped").read_to_string(&mut said).expect("text");
                assert_eq!(status(over), 69, "{said}");
                ended += 1;
                run = start();
            }
            has_all()
        });
    }
    println!("{ended} runs ended");
    stopped(run);
    let number = |record: &crate::broker::Record| {
        let row: Value = serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON");
        row["properties"]["n"].as_u64().expect("a number")
    };
    let mut numbers: Vec<u64> = bench.records(&topic).iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..append() as u64 - 20).collect::<Vec<_>>());
}
