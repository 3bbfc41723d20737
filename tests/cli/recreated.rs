//! Topics that are deleted and created again, or get partitions, under a run on a real broker.

use crate::alert::{rule, rules};
use crate::broker::{Bench, lines, stopped};
use crate::groups::{add_partition, make_anew};
use crate::harness::{eventually, status};
use crate::kafka::{event, record};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::process::{Child, ChildStdout, Stdio};

/// A run over a topic that is deleted and created again under it.
struct Case {
    name: &'static str,
    /// Options of the URI: this one selects librdkafka's fetcher, which reads by name.
    fetcher: &'static str,
    has_checkpoint: bool,
    /// The number of records of the new topic; the first one has 100.
    new: usize,
}

const NAMES: &str = "&rdkafka.fetch.min.bytes=1";

/// How often each number of an event occurs in the files.
fn counts(bench: &Bench, files: &[&str]) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for file in files.iter().filter(|file| bench.dir.path(file).exists()) {
        for row in bench.dir.rows(file) {
            *counts.entry(row["properties"]["n"].as_u64().expect("a number")).or_default() += 1;
        }
    }
    counts
}

/// Waits until a run has ended or `is_done`; returns its exit status and its messages. It is stopped then.
fn ended_or(mut child: Child, is_done: impl Fn() -> bool) -> (i32, String) {
    let mut ended = None;
    eventually("it ends, or has all records", || {
        ended = child.try_wait().expect("it is ours");
        ended.is_some() || is_done()
    });
    let Some(code) = ended else { return stopped(child) };
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    (status(code), said)
}

/// Each record of the new topic is read, or the run ends with an error that names the topic; another run reads the
/// rest.
fn nothing_is_lost(case: &Case, on_gap: &str) {
    let Some(bench) = Bench::new(&format!("{}-{on_gap}", case.name)) else { return };
    let topic = bench.topic("t", 1, &[]);
    let events: Vec<String> = (0..100).map(|n| event(n, "s")).collect();
    bench.produce(events.iter().map(|value| record(&topic, 0, value)));
    let uri = |options: &str| bench.uri(&topic, &format!("?group={}{}{options}", bench.prefix, case.fetcher));
    let flags: &[&str] = if case.has_checkpoint { &["--checkpoint", "ck", "--checkpoint-every", "50ms"] } else { &[] };
    let args = |uri: &str, to: &str| {
        [flags, &[uri, "--to", to]].concat().iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()
    };
    let first = args(&uri(&format!("&on_gap={on_gap}")), "a.jsonl");
    let child = bench.start("evt-ingest", &first.iter().map(String::as_str).collect::<Vec<_>>());
    eventually("the old ones are written", || lines(&bench.dir, "a.jsonl") == 100);
    make_anew(&bench, &topic, 1000..1000 + case.new);
    let all = 100 + case.new;
    let (code, said) = ended_or(child, || lines(&bench.dir, "a.jsonl") == all);
    let is_by_id = case.fetcher.is_empty();
    match code {
        143 => assert!(on_gap == "continue", "{}: {said}", case.name),
        _ => {
            assert_eq!(code, 65, "{}: {said}", case.name);
            assert!(on_gap == "fail" || !is_by_id, "{}: {said}", case.name);
            assert!(said.contains("recreated"), "{}: {said}", case.name);
        }
    }
    let to = if case.has_checkpoint { "a.jsonl" } else { "b.jsonl" };
    let rest = args(&uri("&on_gap=continue&end=latest"), to);
    let said = bench.dir.run("evt-ingest", &rest).succeeds().stderr() + &said;
    let counts = counts(&bench, &["a.jsonl", "b.jsonl"]);
    let expected: Vec<u64> = (0..100).chain(1000..1000 + case.new as u64).collect();
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), expected, "{} {on_gap}: {said}", case.name);
    // A group alone writes again what was read by name before the run ended.
    if is_by_id || case.has_checkpoint || code == 143 {
        assert!(counts.values().all(|count| *count == 1), "{} {on_gap}: {counts:?} {said}", case.name);
    }
}

#[test]
fn a_topic_made_anew_under_a_run_that_reads_by_id_is_read_from_its_start() {
    for (name, has_checkpoint, new) in
        [("idmore", false, 150), ("idfew", false, 20), ("idckmore", true, 150), ("idckfew", true, 20)]
    {
        for on_gap in ["continue", "fail"] {
            nothing_is_lost(&Case { name, fetcher: "", has_checkpoint, new }, on_gap);
        }
    }
}

#[test]
fn a_topic_made_anew_under_a_run_that_reads_by_name_is_read_or_an_error() {
    for (name, has_checkpoint, new) in
        [("nmmore", false, 150), ("nmfew", false, 20), ("nmckmore", true, 150), ("nmckfew", true, 20)]
    {
        for on_gap in ["continue", "fail"] {
            nothing_is_lost(&Case { name, fetcher: NAMES, has_checkpoint, new }, on_gap);
        }
    }
}

/// A read up to the present end has no positions to keep, but it must not mix the records of two topics.
#[test]
fn a_topic_made_anew_under_a_bounded_read_is_an_error() {
    for (name, fetcher) in [("idbounded", ""), ("nmbounded", "?rdkafka.fetch.min.bytes=1")] {
        let Some(bench) = Bench::new(name) else { return };
        let topic = bench.topic("t", 1, &[]);
        let events: Vec<String> = (0..60_000).map(|n| event(n, "s")).collect();
        bench.produce(events.iter().map(|value| record(&topic, 0, value)));
        let mut child = begun(&bench, &bench.uri(&topic, fetcher));
        let mut rows = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        rows.next().expect("a row").expect("it is text");
        // The run waits for its reader meanwhile.
        make_anew(&bench, &topic, 100_000..160_000);
        let new = new_rows(rows);
        // By name, some of the new ones are read before the ids are compared.
        assert!(new == 0 || !fetcher.is_empty(), "{new} rows of the new topic");
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(status(output.status) == 65 && said.contains("recreated"), "{fetcher}: {said}");
    }
}

/// A read up to the present end reads one topic after the other. One that is created again before its turn has lost the
/// records that it had when the run began, and its new ones have nothing to do with the old end.
#[test]
fn a_topic_made_anew_before_a_bounded_read_comes_to_it_is_a_gap() {
    for (name, fetcher) in [("idunread", ""), ("nmunread", "&rdkafka.fetch.min.bytes=1")] {
        let Some(bench) = Bench::new(name) else { return };
        let [first, second] = ["first", "t"].map(|name| bench.topic(name, 1, &[]));
        let events: Vec<String> = (0..60_000).map(|n| event(n, "s")).collect();
        bench.produce(events.iter().map(|value| record(&first, 0, value)));
        bench.produce(events[..3000].iter().map(|value| record(&second, 0, value)));
        for (on_gap, new) in [("fail", 5000), ("continue", 5000), ("fail", 100), ("continue", 100)] {
            let uri = bench.uri(&format!("{first},{second}"), &format!("?on_gap={on_gap}{fetcher}"));
            let mut child = begun(&bench, &uri);
            let mut rows = BufReader::new(child.stdout.take().expect("it is piped")).lines();
            rows.next().expect("a row").expect("it is text");
            make_anew(&bench, &second, 100_000..100_000 + new);
            assert_eq!((new_rows(rows), on_gap), (if on_gap == "fail" { 0 } else { new }, on_gap), "{fetcher}");
            let output = child.wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(status(output.status), if on_gap == "fail" { 65 } else { 0 }, "{fetcher} {new}: {said}");
            assert_eq!(said.matches("the topic was recreated").count(), 1, "{fetcher} {on_gap} {new}: {said}");
            assert!(said.contains(&format!("{second}/0@0: expected the topic with the id ")), "{said}");
        }
    }
}

/// Reading on after the gap, a run with an end reads all that the new topic has when the gap is found.
#[test]
fn a_topic_made_anew_in_the_middle_of_a_bounded_read_is_read_to_its_own_end() {
    let Some(bench) = Bench::new("idmiddle") else { return };
    let topic = bench.topic("t", 1, &[]);
    let events: Vec<String> = (0..60_000).map(|n| event(n, "s")).collect();
    bench.produce(events.iter().map(|value| record(&topic, 0, value)));
    let mut child = begun(&bench, &bench.uri(&topic, "?on_gap=continue"));
    let mut rows = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    rows.next().expect("a row").expect("it is text");
    make_anew(&bench, &topic, 100_000..170_000);
    assert_eq!(new_rows(rows), 70_000);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(status(output.status) == 0 && said.contains("the topic was recreated; reading on at 0"), "{said}");
}

/// Starts evt-view, whose outputs are piped.
fn begun(bench: &Bench, uri: &str) -> Child {
    let mut command = bench.dir.command("evt-view", &[uri, "-o", "jsonl"]);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

/// The number of the rest of the rows that are of a new topic.
fn new_rows(rows: Lines<BufReader<ChildStdout>>) -> usize {
    let rows = rows.map(|row| serde_json::from_str::<Value>(&row.expect("it is text")).expect("JSON"));
    rows.filter(|row| row["properties"]["n"].as_u64().is_some_and(|n| n >= 100_000)).count()
}

/// librdkafka ends the reading of a topic that it has known for some time, once brokers do not know it any more.
#[test]
fn a_topic_that_librdkafka_has_given_up_is_read_once_it_is_there_again() {
    let Some(bench) = Bench::new("anew-given-up") else { return };
    let topic = bench.topic("t", 1, &[]);
    bench.produce([record(&topic, 0, &event(0, "s"))]);
    let options = "?on_gap=continue&rdkafka.fetch.min.bytes=1&rdkafka.topic.metadata.propagation.max.ms=1";
    let child = bench.start("evt-ingest", &[&bench.uri(&topic, options), "--to", "a.jsonl"]);
    eventually("the old one is written", || lines(&bench.dir, "a.jsonl") == 1);
    make_anew(&bench, &topic, 100..120);
    let (code, said) = ended_or(child, || lines(&bench.dir, "a.jsonl") == 21);
    // Records of the new topic may be read before the ids are compared.
    assert!([65, 143].contains(&code) && said.contains("recreated"), "{code}: {said}");
}

/// A group assigns nothing of a topic that is away, and librdkafka does not notice that it comes back.
#[test]
fn a_member_of_a_group_whose_topic_is_away_when_it_joins_reads_it_later() {
    for (name, fetcher) in [("idjoin", ""), ("nmjoin", NAMES)] {
        let Some(bench) = Bench::new(name) else { return };
        let topic = bench.topic("t", 1, &[]);
        bench.dir.shell("mkfifo fifo").succeeds();
        let uri = bench.uri(&topic, &format!("?group={}&on_gap=continue{fetcher}", bench.prefix));
        let fifo = File::options().read(true).write(true).open(bench.dir.path("fifo")).expect("it exists");
        let child = bench.start("evt-ingest", &["-f", "jsonl", "fifo", &uri, "--to", "a.jsonl"]);
        eventually("it reads the pipe", || bench.dir.path("a.jsonl").exists() || is_opened(&child, "fifo"));
        bench.delete(&topic);
        drop(fifo);
        assert_eq!(bench.topic("t", 1, &[]), topic);
        let events: Vec<String> = (0..20).map(|n| event(n, "s")).collect();
        bench.produce(events.iter().map(|value| record(&topic, 0, value)));
        let (code, said) = ended_or(child, || lines(&bench.dir, "a.jsonl") == 20);
        assert_eq!(code, 143, "{said}");
    }
}

/// Whether a process has opened a file with this name.
fn is_opened(child: &Child, name: &str) -> bool {
    let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
    open.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|path| path.ends_with(name))
}

/// A group whose brokers have kept its offsets, or one whose commit came after the new topic: the commit has the id.
#[test]
fn the_commit_of_a_group_in_an_earlier_topic_is_a_gap() {
    let Some(bench) = Bench::new("idcommit") else { return };
    let (topic, group) = (bench.topic("t", 1, &[]), format!("{}-g", bench.prefix));
    let events: Vec<String> = (0..100).map(|n| event(n, "s")).collect();
    bench.produce(events.iter().map(|value| record(&topic, 0, value)));
    let from = |options: &str| bench.uri(&topic, &format!("?group={group}&end=latest{options}"));
    bench.dir.run("evt-ingest", &[&from(""), "--to", "null:"]).succeeds();
    let (offset, metadata) = bench.committed(&group, &topic, 1)[0].clone();
    assert!(offset == Some(100) && metadata.contains(" topic_id="), "{metadata}");
    make_anew(&bench, &topic, 1000..1150);
    bench.commit(&group, &topic, 100, &metadata);
    let said = bench.dir.run("evt-ingest", &[&from(""), "--to", "null:"]).ends_with(65).stderr();
    assert!(said.contains(&format!("{topic}/0@100: expected the topic with the id ")), "{said}");
    let said = bench.dir.run("evt-ingest", &[&from("&on_gap=continue"), "--to", "out.jsonl"]).succeeds().stderr();
    assert!(said.contains("the topic was recreated; reading on at 0"), "{said}");
    assert_eq!(lines(&bench.dir, "out.jsonl"), 150);
    bench.dir.run("evt-ingest", &[&from(""), "--to", "more.jsonl"]).succeeds();
    assert_eq!(lines(&bench.dir, "more.jsonl"), 0);
}

/// The state of evt-alert has the position in the new topic.
#[test]
fn a_topic_made_anew_under_evt_alert_is_evaluated_from_its_start() {
    let Some(bench) = Bench::new("idalert") else { return };
    let topic = bench.topic("t", 1, &[]);
    let events: Vec<String> = (0..100).map(|n| event(n, "s")).collect();
    bench.produce(events.iter().map(|value| record(&topic, 0, value)));
    bench.dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let flags = ["--rules", "rules.json", "--state", "alerts.db", "--stats", "stats.json", "--to", "null:"];
    let uri = |options: &str| bench.uri(&topic, &format!("?on_gap=continue{options}"));
    let run = |uri: &str| flags.iter().map(|flag| (*flag).to_owned()).chain([uri.to_owned()]).collect::<Vec<_>>();
    let position = || {
        let db = rusqlite::Connection::open(bench.dir.path("alerts.db")).ok()?;
        db.query_row("SELECT next_offset FROM positions", [], |row| row.get::<_, i64>(0)).ok()
    };
    let args = run(&uri(""));
    let child = bench.start("evt-alert", &args.iter().map(String::as_str).collect::<Vec<_>>());
    eventually("the old ones are evaluated", || position() == Some(100));
    make_anew(&bench, &topic, 1000..1150);
    let (code, said) = ended_or(child, || position() == Some(150));
    assert_eq!(code, 143, "{said}");
    let taken =
        || serde_json::from_slice::<Value>(&bench.dir.bytes("stats.json")).expect("JSON")["counts"]["in"].as_u64();
    assert_eq!(taken(), Some(250), "{said}");
    bench.dir.run("evt-alert", &[&run(&uri("&end=latest"))[..], &["--once".to_owned()]].concat()).succeeds();
    assert_eq!(taken(), Some(0));
}

/// A run of a checkpoint takes partitions that are added to its topic as the next run would.
#[test]
fn partitions_that_are_added_under_a_checkpoint_are_counted() {
    let Some(bench) = Bench::new("ckpt-more") else { return };
    let topic = bench.topic("t", 1, &[]);
    let soon = "rdkafka.topic.metadata.refresh.interval.ms=500&rdkafka.statistics.interval.ms=200";
    let time = ["--size", "1s", "--time", "server_timestamp", "--out-of-orderness", "1m"];
    let checkpoint = ["--checkpoint", "ck", "--checkpoint-every", "50ms"];
    let window = [&time[..], &checkpoint, &["--agg", "count(*)", "--emit", "final", "--to", "sqlite:m.db"]].concat();
    let counted = || {
        let db = rusqlite::Connection::open(bench.dir.path("m.db")).ok()?;
        db.query_row("SELECT sum(value) FROM aggregated_metrics", [], |row| row.get::<_, f64>(0)).ok()
    };
    let produce = |number: i32, range: std::ops::Range<usize>| {
        let events: Vec<String> = range.map(|n| event(n, "s")).collect();
        bench.produce(events.iter().map(|value| record(&topic, number, value)));
    };
    produce(0, 0..200);
    let from = bench.uri(&topic, &format!("?{soon}"));
    let child = bench.start("evt-window", &[&window[..], &[&from]].concat());
    eventually("windows are closed", || counted().is_some_and(|sum| sum > 0.0));
    add_partition(&bench, &topic);
    produce(1, 150..170);
    let is_read = format!("{topic}/1: read up to offset 20,");
    let (code, said) = ended_or(child, || bench.dir.run("evt-view", &["ck"]).text().contains(&is_read));
    assert_eq!(code, 143, "{said}");
    assert!(said.contains(&format!("{topic}/1: new partition, reading from its start")), "{said}");
    let whole = bench.uri(&topic, "?end=latest");
    bench.dir.run("evt-window", &[&window[..], &["--at-end", "fire", &whole]].concat()).succeeds();
    assert_eq!(counted(), Some(220.0));
}
