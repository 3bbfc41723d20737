//! evt-alert continues several topics of one URI, and topics of frames, where its state says.

use crate::alert::{lines, once, rule, rules, series, transitions};
use crate::broker::{Bench, stopped};
use crate::harness::{Dir, LONG_WAIT, eventually, eventually_within};
use crate::kafka::record;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Stdio;

/// Number of error bursts.
const STEPS: u32 = 6;

/// Each step has a hundred seconds of events in three partitions, with a burst of errors in the middle.
fn steps() -> Vec<Vec<String>> {
    let step = |number: u32| {
        let from = 100.0 * f64::from(number);
        let partition = |p: f64| {
            let views = series(from + p / 10.0, from + 100.0, 0.5, &json!({"p": p.to_string()}));
            let errors =
                series(from + 30.0 + p / 10.0, from + 50.0, 1.0, &json!({"event_type": "error", "p": p.to_string()}));
            [views, errors].concat()
        };
        lines(&[partition(0.0), partition(1.0), partition(2.0)]).lines().map(str::to_owned).collect()
    };
    (0..STEPS).map(step).collect()
}

fn partition_of(event: &str) -> i32 {
    let event: Value = serde_json::from_str(event).expect("JSON");
    event["p"].as_str().expect("text").parse().expect("a number")
}

fn write_rules(dir: &Dir) {
    let errors = json!({"where": "event_type = 'error'", "threshold": 30, "window_seconds": 20, "keep_firing_for": 0});
    dir.write("rules.json", rules(&[rule(&errors)]));
}

/// Returns the sum of a column of the state file.
fn sum(dir: &Dir, expression: &str, table: &str) -> i64 {
    let db = Connection::open(dir.path("alerts.db")).expect("it opens");
    db.query_row(&format!("SELECT {expression} FROM {table}"), [], |row| row.get(0)).expect("a number")
}

/// Sends each step to a run, which is killed when the alert of the step fires or is resolved, and compares the rows of
/// all runs with those of one run over the whole topics.
fn check(bench: &Bench, topics: &str, format: &str, mut send: impl FnMut(&[String])) {
    let dir = &bench.dir;
    let from = bench.uri(topics, &format!("?group={}&rdkafka.auto.commit.interval.ms=100&{format}", bench.prefix));
    write_rules(dir);
    let args = ["-q", "--rules", "rules.json", "--state", "alerts.db", "--to", "out.jsonl", &from];
    // A row that a killed run had not confirmed is written again.
    let count = |state: &str| {
        let rows = std::fs::read_to_string(dir.path("out.jsonl")).unwrap_or_default();
        let rows = rows.lines().filter_map(|row| serde_json::from_str::<Value>(row).ok());
        rows.filter(|row| row["state"] == state).map(|row| row["alert_id"].to_string()).collect::<BTreeSet<_>>().len()
    };
    for (number, step) in (0..).zip(steps()) {
        // The run finds the step as a backlog. If all partitions were quiet for a second, the rows of the first one
        // would advance the clock beyond those of the others.
        send(&step);
        let mut run = bench.start("evt-alert", &args);
        let state = if number % 2 == 0 { "firing" } else { "resolved" };
        eventually_within(LONG_WAIT, "the burst is noticed", || count(state) > number);
        run.kill().and_then(|()| run.wait()).expect("it is ours");
    }
    let last = bench.start("evt-alert", &args);
    eventually("every alert is resolved", || count("resolved") >= STEPS as usize);
    let (status, said) = stopped(last);
    assert_eq!(status, 143, "{said}");
    let bounded = bench.uri(topics, &format!("?end=latest&{format}"));
    let whole = transitions(&once(dir, &[&bounded]).ends_with(1).rows());
    assert_eq!(whole.len(), 2 * STEPS as usize, "{whole:?}");
    let found: BTreeSet<String> = transitions(&dir.rows("out.jsonl")).into_iter().collect();
    assert_eq!(found, whole.into_iter().collect::<BTreeSet<_>>());
    // A further run reads nothing again.
    let again = once(dir, &["--state", "alerts.db", "--stats", "stats.json", &bounded]);
    let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
    assert_eq!((&stats["counts"]["in"], again.status()), (&json!(0), 0), "{again}");
}

#[test]
fn several_topics_of_one_uri_are_continued_after_a_kill() {
    let Some(bench) = Bench::new("alert-topics") else { return };
    let topics = ["a", "b"].map(|name| bench.topic(name, 2, &[]));
    let total = steps().concat().len() as i64;
    // The partitions are a/0, b/0 and b/1; a/1 is empty.
    check(&bench, &topics.join(","), "format=json", |events| {
        bench.produce(events.iter().map(|event| match partition_of(event) {
            0 => record(&topics[0], 0, event),
            other => record(&topics[1], other - 1, event),
        }));
    });
    assert_eq!(sum(&bench.dir, "sum(next_offset)", "positions"), total);
    // The group shows how far the runs were.
    let committed = topics.iter().flat_map(|topic| bench.committed(&bench.prefix, topic, 2));
    assert!(committed.filter_map(|(offset, _)| offset).sum::<i64>() > total / 2);
    // One of the topics alone continues, too.
    let bounded = bench.uri(&topics[1], "?end=latest");
    once(&bench.dir, &["--state", "alerts.db", "--stats", "stats.json", &bounded]).succeeds();
    let stats: Value = serde_json::from_slice(&bench.dir.bytes("stats.json")).expect("JSON");
    assert_eq!(stats["counts"]["in"], json!(0), "{stats}");
}

/// An empty partition holds windows back, but not alerts: evt-alert has a clock of its own.
#[test]
fn an_empty_partition_is_no_subject_of_alerts() {
    let Some(bench) = Bench::new("alert-empty") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 2, &[]));
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 5, "window_seconds": 10}))]));
    let events = lines(&[series(0.0, 60.0, 0.5, &json!({}))]);
    bench.produce(events.lines().map(|event| record(&topic, 0, event)));
    let uri = bench.uri(&topic, "");
    // The commands are not quiet, so all notices are there.
    let said = |tool: &str, args: &[&str], name: &str| {
        let run = bench.start(tool, args);
        eventually("rows are written", || std::fs::metadata(dir.path(name)).is_ok_and(|file| file.len() > 0));
        stopped(run).1
    };
    let notice = "evt-window fires no window before each has a record";
    let ingested = said("evt-ingest", &[&uri, "--to", "rows.jsonl"], "rows.jsonl");
    assert!(ingested.contains(notice), "{ingested}");
    let alerted = said("evt-alert", &["--rules", "rules.json", "--to", "out.jsonl", &uri], "out.jsonl");
    assert!(!alerted.contains(notice) && !alerted.contains("--idle-after"), "{alerted}");
}

#[test]
fn a_lake_of_a_topic_that_is_read_beside_it_does_not_set_the_topic_back() {
    let Some(bench) = Bench::new("alert-lake-topic") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 1, &[]));
    dir.write("rules.json", rules(&[rule(&json!({"where": "event_type = 'error'", "threshold": 1000}))]));
    let produce = |from: f64, to: f64| {
        let events = series(from, to, 1.0, &json!({"event_type": "error"}));
        bench.produce(events.iter().map(|(_, event)| record(&topic, 0, event.trim_end())));
    };
    let bounded = bench.uri(&topic, "?end=latest");
    let read = |inputs: &[&str]| {
        once(dir, &[&["-q", "--state", "alerts.db", "--stats", "stats.json"], inputs].concat()).succeeds();
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        ["out", "duplicate"].map(|name| stats["counts"][name].as_u64().unwrap_or(9999))
    };
    produce(0.0, 50.0);
    dir.run("evt-ingest", &["-q", &bounded, "--to", "parquet:lake"]).succeeds();
    produce(50.0, 100.0);
    assert_eq!(read(&[&bounded]), [100, 0]);
    assert_eq!(read(&[&bounded, "parquet:lake"]), [0, 50], "what was evaluated from the topic is known in its lake");
    produce(100.0, 130.0);
    assert_eq!(read(&[&bounded, "parquet:lake"]), [30, 50]);
    assert_eq!(read(&[&bounded]), [0, 0]);
}

#[test]
fn topics_of_frames_are_continued_after_a_kill() {
    let Some(bench) = Bench::new("alert-frames") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 2, &[]));
    let to = bench.uri(&topic, "?format=frames");
    let flags =
        ["-q", "-", "-f", "jsonl", "--origin", "in", "--field", "partition=p", "--partitions", "0,1,2", "--to", &to];
    let mut writer = dir.command("evt-ingest", &flags).stdin(Stdio::piped()).spawn().expect("it starts");
    let mut input = writer.stdin.take().expect("a pipe");
    check(&bench, &topic, "format=frames", |events| {
        input.write_all(events.join("\n").as_bytes()).expect("it reads");
        input.write_all(b"\n").and_then(|()| input.flush()).expect("it reads");
    });
    drop(input);
    assert!(writer.wait().expect("it is ours").success());
    let times = sum(dir, "count(DISTINCT stream_time)", "frame_partitions");
    assert!(times <= 3, "{times}");
    assert!(
        bench.committed(&bench.prefix, &topic, 2).iter().any(|(offset, _)| offset.is_some_and(|offset| offset > 0))
    );
    assert_eq!(sum(dir, "count(*)", "positions"), 2, "one position for each partition of the topic");
}

/// The partition of the topic says how far it was read. That which a row names may have the name of another one.
#[test]
fn topics_whose_rows_name_partitions_are_continued_by_their_own() {
    let Some(bench) = Bench::new("alert-named") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 2, &[]));
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let produce = |partition: i32, named: &str, from: f64, to: f64| {
        let events = series(from, to, 1.0, &json!({"p": named}));
        bench.produce(events.iter().map(|(_, event)| record(&topic, partition, event.trim_end())));
    };
    let from = bench.uri(&topic, "?end=latest");
    let named = ["--field", "partition=p", "--partitions", "0,1", from.as_str()];
    let taken = || {
        once(dir, &[&["--state", "alerts.db", "--stats", "stats.json"], &named[..]].concat()).succeeds();
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        ["in", "out", "duplicate"].map(|name| stats["counts"][name].as_u64())
    };
    produce(0, "1", 0.0, 50.0);
    produce(1, "0", 0.0, 10.0);
    assert_eq!(taken(), [Some(60), Some(60), Some(0)]);
    produce(1, "0", 900.0, 960.0);
    assert_eq!(taken(), [Some(60), Some(60), Some(0)]);
    assert_eq!(taken(), [Some(0); 3]);
    assert_eq!(sum(dir, "sum(next_offset)", "positions"), 120);
}

/// The id of a topic differs from that of an earlier one of its name, although its records reach beyond the position.
#[test]
fn a_recreated_topic_that_has_grown_beyond_the_position_of_the_state_is_not_read_from_the_middle() {
    let Some(bench) = Bench::new("alert-recreated") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 1, &[]));
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let produce = |from: f64, to: f64| {
        let events = series(from, to, 1.0, &json!({}));
        bench.produce(events.iter().map(|(_, event)| record(&topic, 0, event.trim_end())));
    };
    let from = bench.uri(&topic, "?end=latest");
    let flags = ["--once", "--rules", "rules.json", "--stats", "stats.json"];
    let plain = [&flags[..], &["--state", "alerts.db"]].concat();
    let named = [&flags[..], &["--state", "named.db", "--origin", "shop"]].concat();
    let read = |flags: &[&str], uri: &str| dir.run("evt-alert", &[flags, &[uri][..]].concat());
    let taken = || {
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        stats["counts"]["in"].as_u64()
    };
    produce(0.0, 100.0);
    for flags in [&plain, &named] {
        read(flags, &from).succeeds();
        assert_eq!(taken(), Some(100));
    }
    assert_eq!(bench.recreate("t"), topic);
    produce(0.0, 110.0);
    for flags in [&plain, &named] {
        let said = read(flags, &from).ends_with(65).stderr();
        assert!(said.contains(&format!("{topic}/0@100: expected the topic with the id ")), "{said}");
        let said = read(flags, &format!("{from}&on_gap=continue")).succeeds().stderr();
        assert!(said.contains("the topic was recreated; reading on at 0"), "{said}");
        assert_eq!(taken(), Some(110), "{said}");
        read(flags, &from).succeeds();
        assert_eq!(taken(), Some(0), "the next run continues the new topic");
    }
}

/// The state had no position of a topic without rows, so the next run began it anew at `start=`.
#[test]
fn what_arrives_in_a_topic_without_rows_while_evt_alert_is_down_is_evaluated() {
    let Some(bench) = Bench::new("alert-quiet") else { return };
    let (dir, topics) = (&bench.dir, ["t", "u"].map(|name| bench.topic(name, 1, &[])));
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let produce = |topic: &str, from: f64, to: f64| {
        let events = series(from, to, 1.0, &json!({}));
        bench.produce(events.iter().map(|(_, event)| record(topic, 0, event.trim_end())));
    };
    let args = |topics: &str, end: &str| {
        let flags = ["--rules", "rules.json", "--state", "alerts.db", "--stats", "stats.json", "--to", "null:"];
        let uri = bench.uri(topics, &format!("?start=latest{end}"));
        flags.iter().map(|flag| (*flag).to_owned()).chain([uri]).collect::<Vec<_>>()
    };
    let stats = || serde_json::from_slice::<Value>(&dir.bytes("stats.json")).expect("JSON")["counts"]["in"].as_u64();
    let positions = |topic: &str| {
        let db = Connection::open(dir.path("alerts.db")).ok()?;
        let sum = "SELECT next_offset FROM positions WHERE topic = ?1";
        db.query_row(sum, [topic], |row| row.get::<_, i64>(0)).ok()
    };
    produce(&topics[1], 0.0, 20.0);
    let both = topics.join(",");
    let run = bench.start("evt-alert", &args(&both, "").iter().map(String::as_str).collect::<Vec<_>>());
    eventually("the state has the positions of both", || {
        topics.iter().map(|topic| positions(topic)).collect::<Vec<_>>() == [Some(0), Some(20)]
    });
    assert_eq!(stopped(run).0, 143);
    produce(&topics[1], 20.0, 25.0);
    let once = |topics: &str| {
        let args = args(topics, "&end=latest");
        dir.run("evt-alert", &args.iter().map(String::as_str).chain(["--once"]).collect::<Vec<_>>()).succeeds();
        stats()
    };
    assert_eq!(once(&both), Some(5));
    // A topic that is added starts where the URI says.
    let added = bench.topic("v", 1, &[]);
    produce(&added, 0.0, 20.0);
    assert_eq!(once(&format!("{both},{added}")), Some(0));
    produce(&added, 25.0, 28.0);
    assert_eq!(once(&format!("{both},{added}")), Some(3));
}

/// Makes the state one of a version that knew topics by the origins of their rows.
fn make_older(dir: &Dir, topic: &str, origin: &str) {
    let db = Connection::open(dir.path("alerts.db")).expect("it opens");
    db.execute("UPDATE positions SET topic = ?2 WHERE topic = ?1", [topic, origin]).expect("a table");
    db.execute_batch("DROP TABLE topics").expect("a table");
}

/// The origin of rows is whatever a user calls it; a position belongs to the topic.
#[test]
fn another_origin_neither_counts_rows_twice_nor_makes_another_topic_the_same() {
    let Some(bench) = Bench::new("alert-origins") else { return };
    let (dir, topics) = (&bench.dir, ["t", "u"].map(|name| bench.topic(name, 1, &[])));
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let produce = |topic: &str, from: f64, to: f64| {
        let events = series(from, to, 1.0, &json!({}));
        bench.produce(events.iter().map(|(_, event)| record(topic, 0, event.trim_end())));
    };
    let read = |flags: &[&str], topic: &str| {
        let uri = bench.uri(topic, "?end=latest");
        once(dir, &[&["--state", "alerts.db", "--stats", "stats.json"], flags, &[&uri]].concat())
    };
    let taken = |flags: &[&str], topic: &str| {
        read(flags, topic).succeeds();
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        stats["counts"]["in"].as_u64()
    };
    let [t, u] = &topics;
    produce(t, 0.0, 50.0);
    assert_eq!(taken(&["--origin", "a"], t), Some(50));
    produce(t, 50.0, 60.0);
    for (flags, new) in [(&["--origin", "b"][..], 10), (&[], 0), (&["--origin", "a"], 0)] {
        assert_eq!(taken(flags, t), Some(new), "{flags:?}");
    }
    produce(u, 0.0, 30.0);
    assert_eq!(taken(&["--origin", "a"], u), Some(30), "another topic is no recreated one");
    assert_eq!(taken(&["--origin", "a"], t), Some(0));
    // A state of an earlier version does not say which topic an origin was.
    dir.shell("rm alerts.db*").succeeds();
    assert_eq!(taken(&["--origin", "a"], t), Some(60));
    make_older(dir, t, "a");
    let said = read(&["--origin", "b"], t).ends_with(78).stderr();
    let message = format!("knows topics by their origins: a may be topic {t}, read with another --origin");
    assert!(said.contains(&message), "{said}");
    produce(t, 60.0, 65.0);
    for (flags, new) in [(&["--origin", "a"][..], 5), (&["--origin", "b"], 0), (&[], 0)] {
        assert_eq!(taken(flags, t), Some(new), "{flags:?}");
    }
    make_older(dir, t, t);
    assert_eq!(taken(&["--origin", "b"], t), Some(0), "the origin was the name of the topic");
}

/// A record that has few others behind it arrived before it was read, whatever its clock says.
#[test]
fn a_wrong_clock_at_the_end_of_a_topic_silences_no_alert() {
    let Some(bench) = Bench::new("wrong-clock") else { return };
    bench.dir.write("rules.json", rules(&[rule(&json!({"threshold": 50, "keep_firing_for": 0}))]));
    let event = |day: &str, second: u32| {
        format!("{{\"event_time\":\"{day}T10:{:02}:{:02}Z\",\"event_type\":\"e\"}}", second / 60, second % 60)
    };
    for behind in 0..2 {
        let topic = bench.topic(&format!("t{behind}"), 1, &[]);
        let (state, from) = (format!("{topic}.db"), bench.uri(&topic, "?end=latest"));
        let run = |events: Vec<String>| {
            bench.produce(events.iter().map(|value| record(&topic, 0, value)));
            once(&bench.dir, &["-q", "--state", &state, &from, "-o", "jsonl", "--dlq", "dead.jsonl"])
        };
        let wrong = [event("2226-01-05", 30)].into_iter().chain((0..behind).map(|n| event("2026-01-05", 31 + n)));
        run((0..30).map(|n| event("2026-01-05", n)).chain(wrong).collect()).ends_with(0);
        let types: Vec<_> = bench.dir.rows("dead.jsonl").iter().map(|row| row["error_type"].to_string()).collect();
        assert_eq!(types, vec!["\"FutureTimestampError\""; behind as usize + 1]);
        let second = run((40..140).map(|n| event("2026-01-05", n)).collect()).ends_with(1);
        assert_eq!(transitions(&second.rows()).len(), 1, "{second}");
    }
}
