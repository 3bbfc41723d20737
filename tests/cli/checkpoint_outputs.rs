//! `--checkpoint` with topics as outputs: each row is one committed record, whatever kills or replaces a run.

use crate::broker::{ANSWER, Bench, Broker, stopped};
use crate::checkpoint::{Job, cut, generated, ordered, stored};
use crate::checkpoint_old_runs::topic_with_events;
use crate::harness::{Draws, ended, eventually, suspend};
use crate::kafka::record;
use crate::registry::registry;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::process::Child;

/// What differs between two runs over the same events.
const CHANGING: [&str; 5] = ["run", "ingested_at", "failed_at", "evt.failed_at", "evt.host"];

/// The committed records of a topic, sorted, without what differs between runs.
fn committed(bench: &Bench, topic: &str) -> Vec<String> {
    let text = |bytes: Option<&Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut found = vec![];
    for record in bench.records(topic) {
        let value = text(record.value.as_ref());
        let mut value = value.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or(json!(text)));
        if let Some(members) = value.as_object_mut() {
            members.retain(|name, _| !CHANGING.contains(&name.as_str()));
        }
        let kept = record.headers.iter().filter(|(name, _)| !CHANGING.contains(&name.as_str()));
        let headers: BTreeMap<&str, Option<String>> =
            kept.map(|(name, value)| (name.as_str(), text(value.as_ref()))).collect();
        found.push(json!({ "key": text(record.key.as_ref()), "value": value, "headers": headers }).to_string());
    }
    found.sort();
    found
}

/// The rows of a topic as evt-view shows them, without what differs between runs.
fn shown(bench: &Bench, uri: &str) -> Vec<String> {
    let mut rows = bench.dir.run("evt-view", &["-q", "-o", "jsonl", uri]).succeeds().rows();
    for row in &mut rows {
        row.as_object_mut().expect("a row").retain(|name, _| !CHANGING.contains(&name.as_str()));
    }
    let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
    rows.sort();
    rows
}

/// The topics of a job: rows, late events, dead letters, and rows in Avro if there is a registry.
pub struct Topics {
    rows: String,
    late: String,
    dead: String,
    avro: Option<(String, String)>,
}

impl Topics {
    pub fn new(bench: &Bench, name: &str) -> Self {
        let topic = |kind: &str| bench.topic(&format!("{name}-{kind}"), 3, &[]);
        let avro = registry().map(|base| (topic("avro"), format!("?format=avro&schemas={base}?subject=topic-record")));
        Self { rows: topic("rows"), late: topic("late"), dead: topic("dead"), avro }
    }

    pub fn job(&self, bench: &Bench, name: &str) -> Job {
        let flags = [("--to", &self.rows), ("--late", &self.late), ("--dlq", &self.dead)];
        let mut flags: Vec<String> =
            flags.iter().flat_map(|(flag, topic)| [(*flag).to_owned(), bench.uri(topic, "")]).collect();
        if let Some((topic, options)) = &self.avro {
            flags.extend(["--to".to_owned(), bench.uri(topic, options)]);
        }
        Job::new(name, &flags.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The committed records of each topic.
    pub fn results(&self, bench: &Bench) -> BTreeMap<&'static str, Vec<String>> {
        let topics = [("rows", &self.rows), ("late", &self.late), ("dead", &self.dead)];
        let mut found: BTreeMap<_, _> =
            topics.into_iter().map(|(name, topic)| (name, committed(bench, topic))).collect();
        found.insert("rows of evt-view", shown(bench, &bench.uri(&self.rows, "?end=latest")));
        if let Some((topic, options)) = &self.avro {
            // Waits for the end of its last transaction.
            bench.records(topic);
            found.insert("avro", shown(bench, &bench.uri(topic, &format!("{options}&end=latest"))));
        }
        found
    }

    pub fn delete(&self, bench: &Bench) {
        [&self.rows, &self.late, &self.dead].into_iter().for_each(|topic| bench.delete(topic));
        self.avro.iter().for_each(|(topic, _)| bench.delete(topic));
    }
}

#[track_caller]
fn assert_same(
    found: &BTreeMap<&'static str, Vec<String>>,
    expected: &BTreeMap<&'static str, Vec<String>>,
    context: &str,
) {
    for (name, rows) in expected {
        let (count, wanted) = (found[name].len(), rows.len());
        let differs = found[name].iter().zip(rows).find(|(found, row)| found != row);
        assert!(
            found[name] == *rows,
            "{context}: {name}: expected {wanted}, found {count}; first difference {differs:?}"
        );
    }
}

/// Kills a run up to `times` times, most of them while an epoch is committed, then lets it end. Returns the number of
/// runs that were killed before every output had the rows of a complete epoch.
fn run_with_kills_in_commits(job: &Job, args: &[&str], draws: &mut Draws, times: u64) -> u32 {
    let mut torn = 0;
    for _ in 0..times {
        let mut run = job.start(&[&["--checkpoint-every", "1ms"], args].concat());
        // The first new entry begins the run, and each later one completes an epoch.
        let wanted = job.place.entries() + [1, 2, 2, 3][draws.below(4) as usize];
        eventually("an epoch is complete, or the run has ended", || {
            job.place.entries() >= wanted || run.try_wait().expect("a child").is_some()
        });
        // Half of the runs are killed as soon as an epoch is complete, when its commit has begun.
        let mut polls = draws.below(80) * draws.below(2);
        eventually("the run is killed or has ended", || {
            polls = polls.saturating_sub(1);
            polls == 0 || run.try_wait().expect("a child").is_some()
        });
        run.kill().expect("killed");
        ended("the killed run", &mut run);
        torn += u32::from(job.dir.run("evt-view", &["state"]).succeeds().text().contains("not marked as committed"));
    }
    job.run(args).succeeds();
    torn
}

fn said(child: &mut Child) -> String {
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("text");
    said
}

#[test]
fn a_topic_gets_each_row_once_although_runs_are_killed() {
    let Some(bench) = Bench::new("epochs-kills") else { return };
    let mut draws = Draws::new();
    let (calm, wild) = (Topics::new(&bench, "calm"), Topics::new(&bench, "wild"));
    let (calm_job, wild_job) = (calm.job(&bench, "topics-calm"), wild.job(&bench, "topics-wild"));
    let events = generated(&bench.dir, 24_000);
    for job in [&calm_job, &wild_job] {
        cut(&job.dir, &events, &[("a.jsonl", 9_000), ("b.jsonl", 9_000), ("c.jsonl", 9_000)]);
    }
    let mut torn = 0;
    for (file, at_end) in [("a.jsonl", "hold"), ("b.jsonl", "hold"), ("c.jsonl", "fire")] {
        let args = ["-q", "--at-end", at_end, file];
        calm_job.run(&args).succeeds();
        torn += run_with_kills_in_commits(&wild_job, &args, &mut draws, 6);
    }
    assert!(torn >= 3, "{draws}: only {torn} runs were killed in a commit");
    let expected = calm.results(&bench);
    for (name, rows) in &expected {
        assert!(rows.len() > 50, "{name}: {}", rows.len());
    }
    assert_same(&wild.results(&bench), &expected, &draws.to_string());
}

/// A run that was stopped (SIGSTOP) while a newer one took over commits nothing after it wakes up.
/// It reads a topic without an end, so that it has not ended before it is stopped.
#[test]
fn an_old_run_that_wakes_up_writes_nothing_to_a_topic() {
    let Some(bench) = Bench::new("epochs-zombie") else { return };
    let (calm, wild) = (Topics::new(&bench, "calm"), Topics::new(&bench, "wild"));
    let (calm_job, job) = (calm.job(&bench, "topics-zombie-calm"), wild.job(&bench, "topics-zombie"));
    let topic = topic_with_events(&bench, 60_000);
    let (endless, whole) = (bench.uri(&topic, ""), bench.uri(&topic, "?end=latest"));
    let args = ["-q", "--emit", "final", "--at-end", "fire", &whole];
    calm_job.run(&args).succeeds();
    let mut old = job.start(&["-q", "--emit", "final", "--checkpoint-every", "1ms", &endless]);
    eventually("an epoch is complete", || job.place.entries() >= 3);
    suspend(&old);
    job.run(&args).succeeds();
    let after = wild.results(&bench);
    kill_process(Pid::from_child(&old), Signal::CONT).expect("continued");
    assert_eq!(ended("the old run", &mut old), 75, "{}", said(&mut old));
    assert_same(&wild.results(&bench), &after, "after the old run");
    assert_same(&after, &calm.results(&bench), "after the new run");
}

#[test]
fn the_epochs_of_two_checkpoints_in_one_topic_are_their_own() {
    let Some(bench) = Bench::new("epochs-two") else { return };
    let (alone, both) = (Topics::new(&bench, "alone"), Topics::new(&bench, "both"));
    let alone_job = alone.job(&bench, "topics-alone");
    let jobs = [both.job(&bench, "topics-one"), both.job(&bench, "topics-other")];
    for job in jobs.iter().chain([&alone_job]) {
        job.dir.write("a.jsonl", ordered(0..10));
        job.dir.write("b.jsonl", ordered(10..20));
    }
    for (file, at_end) in [("a.jsonl", "hold"), ("b.jsonl", "fire")] {
        let args = ["-q", "--at-end", at_end, file];
        alone_job.run(&args).succeeds();
        jobs.iter().for_each(|job| _ = job.run(&args).succeeds());
    }
    let twice = |(name, rows): (&'static str, Vec<String>)| {
        (name, rows.iter().flat_map(|row| [row.clone(), row.clone()]).collect())
    };
    assert_same(&both.results(&bench), &alone.results(&bench).into_iter().map(twice).collect(), "both");
}

/// The letter of a row that is too large for its topic is written once; whether the topic's limit is known or not.
#[test]
fn a_row_that_is_too_large_for_a_topic_is_one_dead_letter() {
    let Some(bench) = Bench::new("epochs-large") else { return };
    for (name, options) in [("known", ""), ("raised", "?rdkafka.message.max.bytes=500000")] {
        let mut draws = Draws::new();
        let rows = bench.topic(&format!("{name}-rows"), 1, &[("max.message.bytes", "2000")]);
        let dead = bench.topic(&format!("{name}-dead"), 1, &[]);
        let (to, dlq) = (bench.uri(&rows, options), bench.uri(&dead, ""));
        let job = Job::new(&format!("topics-large-{name}"), &["--late", "null:", "--dlq", &dlq, "--to", &to]);
        job.dir.write("m.toml", "[[metric]]\nname = \"n\"\nby = [\"user_id\"]\nsize = \"1m\"\n");
        let long = |name: char| format!("\"{}\"", name.to_string().repeat(5000));
        let text = ordered(0..3).replacen("\"u0\"", &long('x'), 1).replacen("\"u3\"", &long('y'), 1);
        job.dir.write("a.jsonl", text);
        job.dir.write("b.jsonl", ordered(3..6));
        run_with_kills_in_commits(&job, &["-q", "a.jsonl"], &mut draws, 4);
        run_with_kills_in_commits(&job, &["-q", "--at-end", "fire", "b.jsonl"], &mut draws, 2);
        let letters = bench.records(&dead);
        let of = |name: &str| {
            let has = |value: &Option<Vec<u8>>| {
                value.as_ref().is_some_and(|value| memchr::memmem::find(value, name.as_bytes()).is_some())
            };
            letters.iter().filter(|letter| has(&letter.value)).count()
        };
        assert_eq!((of("xxxxxxxx"), of("yyyyyyyy"), letters.len()), (1, 1, 2), "{draws} {name}");
        let events = |row: &Value| row["rows"].as_u64().expect("a number");
        let total: u64 = bench.committed_records(&rows).iter().map(events).sum();
        assert_eq!(total, 88, "{draws} {name}: all but two of 90 events");
    }
}

/// Brokers that are away hold the epoch; a run that is stopped meanwhile leaves its rows to the next one.
#[test]
fn brokers_that_are_away_hold_the_epoch() {
    let Some(mut bench) = Bench::new("epochs-away") else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka" };
    bench.brokers = broker.start();
    let rows = bench.topic("rows", 2, &[]);
    // The broker is away for as long as its start takes on this machine.
    let to = bench.uri(&rows, "?wait=10m");
    let job = Job::new("topics-away", &["--late", "null:", "--to", &to]);
    job.dir.write("a.jsonl", ordered(0..600));
    job.dir.write("b.jsonl", ordered(600..610));
    bench.produce([BaseRecord::to(&rows).key(&b"k"[..]).payload(&b"{}"[..])]);
    let begin = |args: &[&str]| {
        let before = job.place.entries();
        let run = job.start(&[&["--checkpoint-every", "1ms"], args].concat());
        eventually("an epoch is complete", || job.place.entries() > before + 1);
        run
    };
    let mut held = begin(&["a.jsonl"]);
    broker.services(&["kill", "kafka"]);
    broker.start();
    let status = ended("the run", &mut held);
    assert_eq!(status, 0, "{}", said(&mut held));
    let stops = begin(&["--at-end", "fire", "b.jsonl"]);
    broker.services(&["kill", "kafka"]);
    let (status, words) = stopped(stops);
    assert!(matches!(status, 0 | 69 | 143), "{status}: {words}");
    broker.start();
    job.run(&["-q", "--at-end", "fire", "b.jsonl"]).succeeds();
    let found = committed(&bench, &rows);
    let calm = Job::new("topics-away-calm", &["--late", "null:", "--to", "rows.jsonl"]);
    calm.dir.write("a.jsonl", ordered(0..610));
    calm.run(&["-q", "--at-end", "fire", "a.jsonl"]).succeeds();
    assert_eq!(found.len(), calm.dir.rows("rows.jsonl").len() + 1);
}

/// While a transaction holds the offset of an output's group, brokers do not return it. A run that has committed an
/// epoch knows it and continues; a new run waits.
#[test]
fn only_a_new_run_waits_for_a_transaction_that_holds_the_offset_of_its_group() {
    let Some(bench) = Bench::new("epochs-held") else { return };
    let (events, rows) = (topic_with_events(&bench, 2_000), bench.topic("rows", 1, &[]));
    let job = Job::new("topics-held", &["--late", "null:", "--dlq", "null:"]);
    let to = bench.uri(&rows, "");
    let mut run = job.start(&["-q", "--checkpoint-every", "1ms", &bench.uri(&events, "?start=earliest"), "--to", &to]);
    let shown = || job.view().text();
    eventually("the rows of all events are committed", || {
        let text = shown();
        text.contains("/0: read up to offset 2000,") && !text.contains("not marked as committed")
    });
    let text = shown();
    let id = text.strip_prefix("checkpoint ").and_then(|rest| rest.split_once(':')).expect("it has an id").0;
    let group = format!("evt.{id}.1-evt-window.to-0");
    // Brokers must not end the transaction before the test does.
    let other = bench.producer(&[("transactional.id", &group), ("transaction.timeout.ms", "600000")]);
    other.init_transactions(ANSWER).expect("a coordinator");
    other.begin_transaction().expect("begun");
    let member: BaseConsumer = bench.config().set("group.id", &group).create().expect("a client");
    let mut offset = TopicPartitionList::new();
    offset.add_partition_offset(&rows, 0, Offset::Offset(99)).expect("an offset");
    let member = member.group_metadata().expect("a group");
    other.send_offsets_to_transaction(&offset, &member, ANSWER).expect("the offset is held");
    let before = bench.records(&rows).len();
    let text = String::from_utf8_lossy(&generated(&bench.dir, 4_000)).into_owned();
    bench.produce(text.lines().skip(2_000).map(|line| record(&events, 0, line)));
    eventually("a further epoch is committed", || bench.records(&rows).len() > before);
    kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
    assert_eq!(ended("the run", &mut run), 143, "{}", said(&mut run));
    let from = bench.uri(&events, "?start=earliest&end=latest");
    // Brokers under load may take some seconds for the other requests.
    let waits = job.run(&["-q", &from, "--to", &bench.uri(&rows, "?wait=15s")]).ends_with(69).stderr();
    assert!(waits.contains(&format!("an open transaction may hold the offset of group {group}")), "{waits}");
    other.abort_transaction(ANSWER).expect("aborted");
    job.run(&["-q", &from, "--to", &to]).succeeds();
}

#[test]
fn outputs_keep_their_places_and_may_be_replaced() {
    for job in Job::in_all_places("places", &[]) {
        for (name, minutes) in [("a.jsonl", 0..5), ("b.jsonl", 5..10), ("c.jsonl", 10..15)] {
            job.dir.write(name, ordered(minutes));
        }
        job.run(&["-q", "a.jsonl", "--late", "null:", "--to", "one.jsonl", "--to", "sqlite:m.db"]).succeeds();
        let swapped =
            job.run(&["-q", "b.jsonl", "--late", "null:", "--to", "sqlite:m.db", "--to", "one.jsonl"]).ends_with(78);
        let said = swapped.stderr();
        assert!(said.contains("sqlite:m.db: expected output to-1, as in the checkpoint, found output to-0"), "{said}");
        let first = job.dir.rows("one.jsonl").len();
        job.run(&["-q", "b.jsonl", "--late", "null:", "--to", "two.jsonl", "--to", "sqlite:m.db"]).succeeds();
        job.run(&["-q", "--at-end", "fire", "c.jsonl", "--late", "null:", "--to", "one.jsonl", "--to", "sqlite:m.db"])
            .succeeds();
        let (one, two) = (job.dir.rows("one.jsonl").len(), job.dir.rows("two.jsonl").len());
        assert!(first > 0 && two > 0 && one > first);
        assert_eq!(one + two, stored(&job.dir).len(), "each row is in one of the files");
    }
}
