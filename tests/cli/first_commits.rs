//! Topics that are read from where they end (`start=latest`): runs that are killed before their first commit or epoch,
//! and partitions that are added while nothing reads them.

use crate::broker::{Bench, killed, lines, stopped};
use crate::follow_begun::LONG;
use crate::groups::add_partition;
use crate::harness::eventually;
use crate::kafka::{event, record};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Child;

/// A member that was killed leaves its group soon. Nothing is committed but the beginning and the end of a run.
const SETTINGS: &str = "rdkafka.session.timeout.ms=6000&rdkafka.auto.commit.interval.ms=3600000";
/// The options of both fetchers: evt's own and that of librdkafka.
const FETCHERS: [&str; 2] = ["", "&rdkafka.fetch.min.bytes=1"];

/// Puts the events with these numbers into a partition.
fn produce(bench: &Bench, topic: &str, partition: i32, numbers: std::ops::Range<usize>) {
    let events: Vec<String> = numbers.map(|number| event(number, "s")).collect();
    bench.produce(events.iter().map(|value| record(topic, partition, value)));
}

/// Returns the numbers of events.
fn numbers(rows: &[Value]) -> BTreeSet<u64> {
    rows.iter().map(|row| row["properties"]["n"].as_u64().expect("a number")).collect()
}

/// A group that reads a topic from its end, and writes to a file or in transactions.
struct Group<'a> {
    bench: &'a Bench,
    topic: String,
    name: String,
    from: String,
    to: String,
    /// The topic of the output; `None` for a file.
    out: Option<String>,
}

impl<'a> Group<'a> {
    fn new(bench: &'a Bench, name: &str, options: &str, in_transactions: bool) -> Self {
        let (topic, group) = (bench.topic(name, 1, &[]), format!("{}-{name}", bench.prefix));
        let from = bench.uri(&topic, &format!("?group={group}&start=latest&{SETTINGS}{options}"));
        let out = in_transactions.then(|| bench.topic(&format!("{name}-out"), 1, &[]));
        let to = match &out {
            Some(out) => bench.uri(out, "?exactly_once=true"),
            None => format!("{name}.jsonl"),
        };
        Self { bench, topic, name: group, from, to, out }
    }

    /// All jobs: each fetcher, and transactions.
    fn all(bench: &'a Bench) -> Vec<Self> {
        let [own, of_library] = FETCHERS;
        let of = |name, options, in_transactions| Self::new(bench, name, options, in_transactions);
        vec![of("own", own, false), of("library", of_library, false), of("once", own, true)]
    }

    /// Starts a member, and waits until it has begun the first partition.
    fn start(&self) -> Child {
        let run = self.bench.start("evt-ingest", &[&self.from, "--to", &self.to]);
        eventually("the beginning is committed", || self.committed().is_some());
        run
    }

    fn committed(&self) -> Option<i64> {
        self.bench.committed(&self.name, &self.topic, 1)[0].0
    }

    fn rows(&self) -> Vec<Value> {
        match &self.out {
            Some(out) => self.bench.committed_records(out),
            None if lines(&self.bench.dir, &self.to) == 0 => vec![],
            None => self.bench.dir.rows(&self.to),
        }
    }

    /// Continues the group until it has this number of rows, and stops it. Returns the events of all rows.
    fn continued(&self, count: usize) -> BTreeSet<u64> {
        let run = self.start();
        if self.out.is_none() {
            eventually("the rows are there", || lines(&self.bench.dir, &self.to) >= count);
        } else {
            eventually("the rows are there", || self.rows().len() >= count);
        }
        let (status, said) = stopped(run);
        assert_eq!(status, 143, "{said}");
        numbers(&self.rows())
    }
}

#[test]
fn a_group_continues_where_a_member_began_that_was_killed_before_its_first_commit() {
    let Some(bench) = Bench::new("first-commit") else { return };
    for group in Group::all(&bench) {
        produce(&bench, &group.topic, 0, 0..3);
        killed(group.start());
        assert_eq!((group.committed(), group.rows().len()), (Some(3), 0));
        produce(&bench, &group.topic, 0, 3..8);
        assert_eq!(group.continued(5), (3..8).collect(), "{}", group.name);
    }
}

#[test]
fn a_partition_that_is_added_while_no_member_reads_is_read_from_its_start() {
    let Some(bench) = Bench::new("added") else { return };
    for group in Group::all(&bench) {
        produce(&bench, &group.topic, 0, 0..3);
        let (status, said) = stopped(group.start());
        assert_eq!(status, 143, "{said}");
        add_partition(&bench, &group.topic);
        produce(&bench, &group.topic, 1, 3..8);
        assert_eq!(group.continued(5), (3..8).collect(), "{}", group.name);
    }
}

#[test]
fn a_checkpoint_continues_where_a_run_began_that_was_killed_before_its_first_epoch() {
    let Some(bench) = Bench::new("first-epoch") else { return };
    for (number, options) in FETCHERS.iter().enumerate() {
        let topic = bench.topic(&format!("t{number}"), 1, &[]);
        let from = bench.uri(&topic, &format!("?start=latest{options}"));
        let (state, out) = (format!("state{number}"), format!("out{number}.jsonl"));
        let start = |more: &[&str]| {
            bench.start("evt-ingest", &[&["--checkpoint", &state, &from, "--to", &out][..], more].concat())
        };
        produce(&bench, &topic, 0, 0..3);
        // The second run takes over what the first one left, and the third one what the second one left.
        for (run, records) in [(1, 3..8), (2, 8..11)] {
            let child = start(&LONG);
            let note = format!("{state}/epochs/1-0/1-evt-ingest.followed");
            let has_begun = || match run {
                1 => bench.dir.path(&note).exists(),
                _ => bench.dir.path(&format!("{state}/log/2")).exists(),
            };
            eventually("the beginning is kept", has_begun);
            killed(child);
            produce(&bench, &topic, 0, records);
        }
        let child = start(&["--checkpoint-every", "100ms"]);
        eventually("the rows are there", || lines(&bench.dir, &out) >= 8);
        produce(&bench, &topic, 0, 11..12);
        eventually("the run continues", || lines(&bench.dir, &out) >= 9);
        let (status, said) = stopped(child);
        assert_eq!(status, 143, "{said}");
        assert_eq!(numbers(&bench.dir.rows(&out)), (3..12).collect(), "{options}");
        assert_eq!(lines(&bench.dir, &out), 9, "each once");
    }
}
