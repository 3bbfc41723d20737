//! `exactly_once=true`: rows, dead letters and the offsets of the input in one transaction, without a checkpoint.

use crate::broker::{ANSWER, Bench, STOP_TIMEOUT, judged, killed, stopped, stopped_in_time};
use crate::harness::{Dir, Draws, ROOT, ended, eventually, suspend};
use crate::kafka::{event, record};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::time::{Duration, Instant};

/// A member that does not run leaves its group soon.
const SESSION: &str = "rdkafka.session.timeout.ms=15000";
/// No transaction is committed because of its age before [`AGE_MAX`].
const NEVER: &str = "rdkafka.auto.commit.interval.ms=3600000";
/// evt commits a transaction of this age.
const AGE_MAX: Duration = Duration::from_secs(30);
/// Brokers abort a transaction of this age.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// A job from one topic to two others: rows and dead letters.
struct Job {
    bench: Bench,
    input: String,
    rows: String,
    dead: String,
    /// The number of records in the input.
    sent: usize,
    producer: BaseProducer,
    /// Tell the ends of the outputs.
    client_of_all: BaseConsumer,
    client_of_visible: BaseConsumer,
}

impl Job {
    fn new(name: &str) -> Option<Self> {
        let bench = Bench::new(name)?;
        let (input, rows, dead) = (bench.topic("in", 3, &[]), bench.topic("out", 2, &[]), bench.topic("dead", 1, &[]));
        let client = |isolation: &str| {
            let mut config = bench.config();
            config.set("isolation.level", isolation).set("group.id", "test").create().expect("a client")
        };
        let (client_of_all, client_of_visible) = (client("read_uncommitted"), client("read_committed"));
        let producer = bench.producer(&[]);
        Some(Self { bench, input, rows, dead, sent: 0, producer, client_of_all, client_of_visible })
    }

    /// Repeats a round, each time with a job of its own, until brokers were fast enough for it to be judged. Returns
    /// that job; `None` if there is no broker.
    fn judged(name: &str, mut round: impl FnMut(&mut Self) -> Option<()>) -> Option<Self> {
        judged(|number| {
            let Some(mut job) = Self::new(&format!("{name}-{number}")) else { return Some(None) };
            round(&mut job).map(|()| Some(job))
        })
    }

    /// Adds records to the input; every tenth one is not JSON.
    fn send(&mut self, count: usize) {
        let values: Vec<String> = (self.sent..self.sent + count)
            .map(|number| if number % 10 == 9 { format!("broken {number}") } else { event(number, "s") })
            .collect();
        for value in &values {
            let record = record(&self.input, (self.sent % 3) as i32, value);
            self.producer.send(record).map_err(|(error, _)| error).expect("it is queued");
            self.sent += 1;
        }
        self.producer.flush(ANSWER).expect("they are delivered");
    }

    fn start(&self, options: &str) -> Child {
        let from = self.bench.uri(&self.input, &format!("?group={}-g&{options}", self.bench.prefix));
        let to = self.bench.uri(&self.rows, "?exactly_once=true");
        self.bench.start("evt-validate", &[&from, "--dlq", &self.bench.uri(&self.dead, ""), "--to", &to])
    }

    /// Returns how often each record of the input is in the outputs, by its number.
    fn found(&self) -> BTreeMap<usize, usize> {
        let mut found = BTreeMap::new();
        let mut note = |text: &str| *found.entry(text.parse().expect("a number")).or_default() += 1;
        for row in self.bench.committed_records(&self.rows) {
            note(&row["properties"]["n"].to_string());
        }
        for letter in self.bench.records(&self.dead) {
            let text = String::from_utf8(letter.value.expect("a payload")).expect("text");
            note(text.strip_prefix("broken ").expect("a broken record"));
        }
        found
    }

    /// Brokers confirm the end of a transaction before readers see its records, so a record that is missing is awaited.
    #[track_caller]
    fn has_each_record_once(&self, context: &str) {
        let (mut found, start) = (self.found(), Instant::now());
        while found.len() < self.sent && start.elapsed() < TRANSACTION_TIMEOUT {
            found = self.found();
        }
        let other: Vec<_> = (0..self.sent).filter(|number| found.get(number) != Some(&1)).collect();
        assert!(other.is_empty(), "{context}: of {} records {} are not there once: {other:?}", self.sent, other.len());
        assert_eq!(found.len(), self.sent, "{context}");
    }

    /// Returns the end offset of each partition of the outputs.
    fn ends(&self, client: &BaseConsumer) -> [i64; 3] {
        let end = |topic: &str, number| client.fetch_watermarks(topic, number, ANSWER).expect("an answer").1;
        [end(&self.rows, 0), end(&self.rows, 1), end(&self.dead, 0)]
    }

    /// Returns the number of records of the outputs, visible or not, and of markers of transactions.
    fn written(&self) -> i64 {
        self.ends(&self.client_of_all).iter().sum()
    }

    /// Returns the number of records of the input that are in the outputs, visible or not. End offsets do not tell: a
    /// transaction that is committed meanwhile adds markers.
    fn written_records(&self) -> usize {
        let outputs = [&self.rows, &self.dead].map(|topic| self.bench.records_of_all(topic));
        let values: BTreeSet<_> = outputs.into_iter().flatten().map(|record| record.value).collect();
        values.len()
    }

    /// Returns how many records of each partition of the outputs are in open transactions.
    fn open_records(&self) -> [i64; 3] {
        let (all, visible) = (self.ends(&self.client_of_all), self.ends(&self.client_of_visible));
        // A transaction may end between the two requests.
        std::array::from_fn(|at| (all[at] - visible[at]).max(0))
    }

    /// Waits until all records of the input are in the outputs, visible or not.
    fn await_written(&self, before: i64) {
        let all = before + self.sent as i64;
        eventually("all records are in the open transaction", || self.written() >= all);
    }
}

fn pause(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}

#[test]
fn rows_and_letters_are_there_once_although_runs_are_killed() {
    let Some(mut job) = Job::new("once-kills") else { return };
    let mut draws = Draws::new();
    let options = "rdkafka.group.instance.id=one&rdkafka.auto.commit.interval.ms=600";
    let (mut rounds, mut torn) = (0, 0);
    while rounds < 8 || torn < 2 {
        assert!(rounds < 40, "{draws}: only {torn} of {rounds} runs were killed in a transaction");
        rounds += 1;
        let before = job.written();
        let mut run = job.start(options);
        eventually("it works", || {
            job.send(10);
            job.written() > before
        });
        for _ in 0..draws.below(150) {
            job.send(10);
            // These requests take time, so that the runs are killed at various times after a commit.
            job.written();
        }
        run.kill().expect("killed");
        assert_eq!(ended("the killed run", &mut run), 137);
        torn += u32::from(job.open_records() != [0; 3]);
    }
    let last = job.start(options);
    eventually("the last one has read all", || job.found().len() == job.sent);
    let (status, said) = stopped(last);
    assert_eq!(status, 143, "{said}");
    job.has_each_record_once(&draws.to_string());
    let group = format!("{}-g", job.bench.prefix);
    let committed = job.bench.committed(&group, &job.input, 3);
    assert_eq!(committed.iter().filter_map(|(offset, _)| *offset).sum::<i64>(), job.sent as i64);
    assert!(committed.iter().all(|(_, metadata)| metadata.starts_with("evt stream_time=")), "{committed:?}");
}

/// What was read is visible after the stop and not before. The stream time is that of a run without a restart: the
/// times of the records go back after an hour.
#[test]
fn a_stopped_run_commits_what_it_has_read_and_the_next_one_goes_on() {
    let Some(job) = Job::judged("once-stops", commits_when_stopped) else { return };
    let times = |rows: Vec<Value>| -> BTreeMap<u64, String> {
        rows.iter()
            .map(|row| (row["properties"]["n"].as_u64().expect("a number"), row["stream_time"].to_string()))
            .collect()
    };
    let whole = job.bench.uri(&job.input, "?end=latest");
    let args = [whole.as_str(), "-q", "--dlq", "null:", "--to", "whole.jsonl"];
    job.bench.dir.run("evt-ingest", &args).succeeds();
    let expected = times(job.bench.dir.rows("whole.jsonl"));
    let parts = times(job.bench.committed_records(&job.rows));
    assert!(parts[&3_600].contains("T10:59:5"), "the times go back: {}", parts[&3_600]);
    assert!(parts == expected, "some row has another stream time");
}

fn commits_when_stopped(job: &mut Job) -> Option<()> {
    for part in 0..2 {
        let (before, read, begun) = (job.written(), job.sent, Instant::now());
        let run = job.start(NEVER);
        job.send(3_000);
        job.await_written(before - read as i64);
        let found = job.found().len();
        if begun.elapsed() >= AGE_MAX {
            stopped(run);
            return None;
        }
        assert_eq!(found, read, "part {part} is not committed yet");
        let said = stopped_in_time(run)?;
        job.has_each_record_once(&format!("part {part}: {said}"));
    }
    Some(())
}

#[test]
fn a_killed_run_leaves_nothing_to_readers() {
    let options = format!("{NEVER}&rdkafka.group.instance.id=one");
    Job::judged("once-killed", |job| {
        job.send(500);
        let begun = Instant::now();
        let mut run = job.start(&options);
        job.await_written(0);
        run.kill().expect("killed");
        ended("the killed run", &mut run);
        if begun.elapsed() >= AGE_MAX {
            return None;
        }
        // The next run aborts the open transaction, which adds a marker to each of its partitions.
        let markers = job.open_records().iter().filter(|records| **records > 0).count();
        let (before, begun) = (job.written() + markers as i64, Instant::now());
        let next = job.start(&options);
        job.await_written(before);
        let found = job.found().len();
        if begun.elapsed() >= AGE_MAX {
            stopped(next);
            return None;
        }
        assert_eq!(found, 0);
        let said = stopped_in_time(next)?;
        job.has_each_record_once(&said);
        Some(())
    });
}

/// A revoked partition is released after the transaction is committed.
#[test]
fn members_of_a_group_share_the_input() {
    Job::judged("once-shared", |job| {
        let first = job.start(NEVER);
        job.send(600);
        job.await_written(0);
        let second = job.start(NEVER);
        eventually("the first one has committed before the rebalance continues", || job.found().len() == job.sent);
        job.send(600);
        eventually("all records are written", || job.written_records() >= job.sent);
        let said = [first, second].map(stopped_in_time);
        if said.iter().any(Option::is_none) {
            return None;
        }
        let group = format!("{}-g", job.bench.prefix);
        let committed = job.bench.committed(&group, &job.input, 3);
        let rest = job.sent as i64 - committed.iter().filter_map(|(offset, _)| *offset).sum::<i64>();
        if rest > 0 {
            // The end of the first member is a rebalance. A member that is stopped meanwhile may abort its transaction;
            // the next one reads its records.
            eventually("the former transactions have ended", || job.open_records().iter().all(|records| *records == 0));
            let third = job.start(NEVER);
            eventually("the rest is written", || {
                job.open_records().iter().sum::<i64>() >= rest || job.found().len() == job.sent
            });
            stopped_in_time(third)?;
        }
        job.has_each_record_once(&format!("{rest} records are behind the offsets: {said:?}"));
        Some(())
    });
}

/// A member that was stopped (SIGSTOP) until the group gave its partitions to another one commits nothing after it
/// wakes up; nor does it if a signal, which it gets before it has joined the group, lets it commit what it has read.
#[test]
fn an_old_member_that_wakes_up_commits_nothing() {
    for (name, signal, expected) in [("once-wakes", None, 75), ("once-ends", Some(Signal::TERM), 143)] {
        Job::judged(name, |job| wakes_up(job, signal, expected));
    }
}

/// The old member gets `signal` when it wakes up, and ends with `expected`.
fn wakes_up(job: &mut Job, signal: Option<Signal>, expected: i32) -> Option<()> {
    job.send(600);
    let (options, begun) = (format!("{NEVER}&{SESSION}"), Instant::now());
    let mut old = job.start(&options);
    job.await_written(0);
    suspend(&old);
    if begun.elapsed() >= AGE_MAX {
        // It may have committed its transaction, which leaves nothing to the new member.
        killed(old);
        return None;
    }
    let before = job.written();
    let new = job.start(&options);
    job.await_written(before);
    // The markers of an old transaction that brokers have aborted count as written, too.
    let is_aborted = begun.elapsed() >= TRANSACTION_TIMEOUT;
    let said = stopped_in_time(new);
    if is_aborted || said.is_none() {
        killed(old);
        return None;
    }
    if let Some(signal) = signal {
        pause(&old, signal);
    }
    let woken = Instant::now();
    pause(&old, Signal::CONT);
    let status = ended("the old run", &mut old);
    let is_in_time = signal.is_none() || woken.elapsed() < STOP_TIMEOUT;
    let said = words(&mut old);
    assert_eq!(status, expected, "{said}");
    if !is_in_time {
        return None;
    }
    let reasons = [
        "the group has removed this member",
        "partitions were reassigned",
        "the transaction failed: ",
        "another member of the group has taken over",
    ];
    assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
    job.has_each_record_once(&said);
    Some(())
}

fn words(child: &mut Child) -> String {
    let mut words = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("it is piped"), &mut words).expect("text");
    words
}

const FROM: &str = "kafka://127.0.0.1:1/in?group=g";
const TO: &str = "kafka://127.0.0.1:1/out?exactly_once=true";

/// Runs a tool, and its `--check`; both must refuse the arguments with these words.
#[track_caller]
fn is_refused(dir: &Dir, tool: &str, args: &[&str], expected: &str) {
    for args in [args.to_vec(), [args, &["--check"]].concat()] {
        let said = dir.run(tool, &args).ends_with(2).stderr();
        assert!(said.contains(expected), "{tool} {args:?}: {said}");
    }
}

#[test]
fn inputs_and_outputs_that_cannot_be_in_one_transaction_are_refused() {
    let dir = Dir::new("once-refused");
    dir.write("a.jsonl", event(1, "s"));
    let assigned = "expected an input whose partitions the group assigns, found ";
    let topics = "expected every output and --dlq to be a topic of kafka://127.0.0.1:1, found ";
    let brokers = "expected the brokers of the input, kafka://127.0.0.1:1, for every output and --dlq, found ";
    let inputs: [(&[&str], String); 7] = [
        (&["a.jsonl"], "expected topics as the input, found a.jsonl".to_owned()),
        (&["-"], "expected topics as the input, found -".to_owned()),
        (&[FROM, FROM], "expected one input, found 2".to_owned()),
        (&["kafka://127.0.0.1:1/in"], "kafka://127.0.0.1:1/in: expected group=NAME, found none".to_owned()),
        (&["kafka://127.0.0.1:1/in?group=g&end=latest"], format!("{assigned}end=")),
        (&["kafka://127.0.0.1:1/in?group=g&partitions=0"], format!("{assigned}partitions=")),
        (&["kafka://127.0.0.1:1/in?group=g&format=frames"], format!("{assigned}format=frames")),
    ];
    for (input, expected) in inputs {
        is_refused(&dir, "evt-sink", &[input, &["--to", TO]].concat(), &expected);
    }
    let outputs: [(&[&str], String); 5] = [
        (&["--dlq", "dead.jsonl"], format!("{topics}dead.jsonl")),
        (&["--to", "sqlite:a.db"], format!("{topics}sqlite:a.db")),
        (&["--dlq", "kafka://127.0.0.1:2/dead"], format!("{brokers}kafka://127.0.0.1:2/dead")),
        (
            &["--dlq", "kafka://127.0.0.1:1/dead?rdkafka.linger.ms=1"],
            "dead: expected rdkafka.NAME= only in this URI".into(),
        ),
        (
            &["--to", "kafka://127.0.0.1:1/x?format=frames"],
            "x: expected format=json or format=avro, found format=frames".into(),
        ),
    ];
    for (output, expected) in outputs {
        is_refused(&dir, "evt-sink", &[&[FROM, "--to", TO], output].concat(), &expected);
    }
    for name in ["dead.jsonl", "a.db"] {
        assert!(!dir.path(name).exists(), "nothing is made: {name}");
    }
}

#[test]
fn stages_whose_state_no_transaction_holds_are_refused() {
    let dir = Dir::new("once-state");
    let rules = format!("{ROOT}/examples/alerts/rules.toml");
    let stateless = "expected a stage without state, found ";
    let cases: [(&str, &[&str], String); 6] = [
        ("evt-ingest", &["--checkpoint", "state"], "--checkpoint cannot be used with it".to_owned()),
        (
            "evt-validate",
            &["--dedup", "1m"],
            format!("{stateless}--dedup; remove it, or begin the pipe with evt-ingest --checkpoint"),
        ),
        ("evt-window", &["--size", "1m"], format!("{stateless}windows; use evt-window --checkpoint")),
        ("evt-view", &[], evt::output::NO_TRANSACTIONS.to_owned()),
        ("evt-alert", &["--rules", &rules, "--state", "alerts.db"], evt::output::NO_TRANSACTIONS.to_owned()),
        ("evt-alert", &["--rules", &rules], evt::output::NO_TRANSACTIONS.to_owned()),
    ];
    for (tool, args, expected) in cases {
        is_refused(&dir, tool, &[&[FROM, "--to", TO], args].concat(), &expected);
    }
    let input = format!("{FROM}&exactly_once=true");
    is_refused(&dir, "evt-ingest", &[&input], "exactly_once= is an option of outputs only");
    let to = "kafka://127.0.0.1:1/out?exactly_once=1";
    is_refused(&dir, "evt-ingest", &[FROM, "--to", to], "exactly_once=1: expected true or false");
    assert!(!dir.path("state").exists() && !dir.path("alerts.db").exists(), "nothing is made");
}
