//! evt-backfill keeps its position in late events that are in a topic, by partition.

use crate::backfill::stores;
use crate::broker::{ANSWER, Bench, wait};
use crate::harness::{Dir, Run, eventually};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use std::collections::BTreeMap;

const PARTITIONS: i32 = 3;
const METRICS: &str = r#"
[defaults]
size = "1m"
[[metric]]
name = "events"
by = ["source"]
[[metric]]
name = "total"
aggregate = "sum(latency_ms)"
size = "2m"
slide = "1m"
"#;

/// A topic of late events, and the raw events that hold them.
struct Rig {
    bench: Bench,
    topic: String,
    late: Vec<String>,
}

/// Value and number of rows by the id of the metric row.
type Results = BTreeMap<String, (Value, Value)>;

impl Rig {
    fn new(name: &str) -> Option<Self> {
        let bench = Bench::live(name)?;
        let (dir, topic) = (&bench.dir, bench.topic("late", PARTITIONS, &[]));
        dir.write("metrics.toml", METRICS);
        let make = "evt-gen --events 12k --seed 11 --rate 10 --late 0.02 -q > events.jsonl; \
                    evt-ingest -q events.jsonl --to parquet:raw --to events.frames; \
                    evt-window -q -m metrics.toml --late late.jsonl --late-partial events.frames --to sqlite:m.db";
        dir.shell(make).succeeds();
        let late = String::from_utf8(dir.bytes("late.jsonl")).expect("text");
        let late: Vec<String> = late.lines().map(str::to_owned).collect();
        assert!(late.len() > 60, "{}", late.len());
        Some(Self { bench, topic, late })
    }

    fn dir(&self) -> &Dir {
        &self.bench.dir
    }

    /// Puts late events into the partitions in turn.
    fn put(&self, events: &[String]) {
        let partitions = (0..PARTITIONS).cycle();
        self.bench.produce(events.iter().zip(partitions).map(|(event, partition)| {
            BaseRecord::<[u8], [u8]>::to(&self.topic).partition(partition).payload(event.as_bytes())
        }));
    }

    fn correct(&self, input: &str, store: &str) -> Run {
        let late = self.bench.uri(&self.topic, "");
        let flags = "--stats stats.json -m metrics.toml";
        self.dir().shell(&format!("evt-backfill {input} {flags} --late-events '{late}' --to '{store}'"))
    }

    /// Corrects a store from the lake; returns the number of late events that were read, and what was said.
    fn corrects(&self, store: &str) -> (u64, String) {
        let run = self.correct("parquet:raw --all-closed", store).succeeds();
        (self.read(), run.stderr())
    }

    /// Returns the number of late events that the last run has read.
    fn read(&self) -> u64 {
        let stats: Value = serde_json::from_slice(&self.dir().bytes("stats.json")).expect("JSON");
        stats["late_events"].as_u64().unwrap_or_else(|| panic!("{stats}"))
    }

    fn results(&self, store: &str) -> Results {
        let sign = if store.contains('?') { '&' } else { '?' };
        let table =
            if store.starts_with("parquet:") { String::new() } else { format!("{sign}table=aggregated_metrics") };
        let mut rows = self.dir().shell(&format!("evt-view -q -o jsonl '{store}{table}'")).succeeds().rows();
        rows.sort_by_key(|row| (row["revision"].as_i64(), row["rows"].as_i64()));
        let result = |row: &Value| (row["metric_id"].to_string(), (row["value"].clone(), row["rows"].clone()));
        rows.iter().map(result).collect()
    }

    /// Returns the results of one run over all late events.
    fn right(&self) -> Results {
        let line = "cp m.db right.db; evt-backfill parquet:raw --all-closed -m metrics.toml --late-events late.jsonl \
                    --to sqlite:right.db";
        self.dir().shell(line).succeeds();
        let right = self.results("sqlite:right.db");
        assert_ne!(self.results("sqlite:m.db"), right, "late events change some windows");
        right
    }

    /// Deletes the topic and creates it again.
    fn make_anew(&self) {
        let admin: AdminClient<DefaultClientContext> = self.bench.config().create().expect("a client");
        let deleted = wait(admin.delete_topics(&[&self.topic], &AdminOptions::new())).expect("an answer");
        deleted.into_iter().for_each(|deleted| {
            deleted.expect("the topic is deleted");
        });
        eventually("the topic is gone", || {
            let metadata = admin.inner().fetch_metadata(None, ANSWER).expect("an answer");
            metadata.topics().iter().all(|one| one.name() != self.topic)
        });
        assert_eq!(self.bench.topic("late", PARTITIONS, &[]), self.topic);
    }

    /// Deletes the records of partition 0 before an offset.
    fn retain_from(&self, offset: i64) {
        let admin: AdminClient<DefaultClientContext> = self.bench.config().create().expect("a client");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(offset)).expect("an offset");
        wait(admin.delete_records(&list, &AdminOptions::new())).expect("records are deleted");
    }
}

#[test]
fn only_new_late_events_of_a_topic_are_read_by_the_next_run() {
    let Some(mut rig) = Rig::new("late_topic") else { return };
    let right = rig.right();
    let (half, all) = (rig.late.len() / 2, rig.late.len());
    for (number, store) in stores("store").into_iter().enumerate() {
        rig.topic = rig.bench.topic(&format!("late{number}"), PARTITIONS, &[]);
        rig.dir().shell(&format!("evt-window -q -m metrics.toml --late null: events.frames --to '{store}'")).succeeds();
        rig.put(&rig.late[..half]);
        assert_eq!(rig.corrects(&store).0, half as u64, "{store}");
        let (read, said) = rig.corrects(&store);
        assert!(read == 0 && said.contains("cells: 0 corrected, 0 inserted, 0 retracted"), "{store} {read} {said}");
        rig.put(&rig.late[half..]);
        let (read, said) = rig.corrects(&store);
        assert_eq!(read, (all - half) as u64, "{store} {said}");
        assert_eq!(rig.results(&store), right, "{store}");
    }
}

#[test]
fn late_events_that_evt_window_wrote_to_a_topic_are_read_once_in_each_format() {
    let Some(mut rig) = Rig::new("late_formats") else { return };
    let right = rig.right();
    for format in ["json", "frames"] {
        rig.topic = rig.bench.topic(format, PARTITIONS, &[]) + "?format=" + format;
        let late = rig.bench.uri(&rig.topic, "");
        let store = format!("sqlite:{format}.db");
        let live = format!("evt-window -q -m metrics.toml --late '{late}' --late-partial events.frames --to {store}");
        rig.dir().shell(&live).succeeds();
        assert_eq!(rig.corrects(&store).0, rig.late.len() as u64, "{format}");
        assert_eq!(rig.results(&store), right, "{format}");
        assert_eq!(rig.corrects(&store).0, 0, "{format}");
    }
}

#[test]
fn the_next_run_reads_a_topic_from_the_first_pending_late_event_of_each_partition() {
    let Some(rig) = Rig::new("late_pending") else { return };
    let right = rig.right();
    // The last event of partition 0, and the third last one of partition 1.
    let (all, last) = (rig.late.len(), rig.late.len().div_ceil(3) * 3 - 3);
    let third = (all - 2) / 3 * 3 + 1 - 6;
    let id = |at: usize| {
        let event: Value = serde_json::from_str(&rig.late[at]).expect("JSON");
        event["event_id"].as_str().expect("an id").to_owned()
    };
    assert_eq!((last % 3, third % 3), (0, 1), "{all}");
    let pending = [id(last), id(third)];
    let filter = format!("event_id <> '{}' and event_id <> '{}'", pending[0], pending[1]);
    rig.dir().shell(&format!("evt-view -q events.frames --where \"{filter}\" -o frames --to some.frames")).succeeds();
    rig.put(&rig.late);
    for read in [all, 1 + (third..all).step_by(3).count()] {
        let said = rig.correct("some.frames", "sqlite:m.db").ends_with(1);
        assert!(said.stderr().contains("late events pending: 2;"), "{said}");
        assert_eq!(rig.read(), read as u64, "{said}");
    }
    let said = rig.correct("events.frames", "sqlite:m.db").succeeds();
    assert!(!said.stderr().contains("cells: 0 corrected, 0 inserted"), "{said}");
    assert_eq!(rig.results("sqlite:m.db"), right);
    rig.correct("events.frames", "sqlite:m.db").succeeds();
    assert_eq!(rig.read(), 0);
}

#[test]
fn a_topic_of_late_events_that_was_made_anew_is_read_from_its_first_record() {
    let Some(rig) = Rig::new("late_anew") else { return };
    let (right, all) = (rig.right(), rig.late.len());
    let (first, rest) = rig.late.split_at(all / 2);
    rig.put(first);
    assert_eq!(rig.corrects("sqlite:m.db").0, first.len() as u64);
    // The new topic is shorter than the position, then longer.
    rig.make_anew();
    rig.put(&rest[..6]);
    let (read, said) = rig.corrects("sqlite:m.db");
    assert_eq!(read, 6, "{said}");
    assert_eq!(
        said.matches("it lost records or was recreated; late events are read from offset 0").count(),
        3,
        "{said}"
    );
    rig.make_anew();
    let other: Vec<String> = rest.iter().rev().cloned().collect();
    rig.put(&other);
    let (read, said) = rig.corrects("sqlite:m.db");
    assert_eq!(read, rest.len() as u64, "{said}");
    let line = "other late events than before; read from the beginning";
    assert_eq!(said.matches(line).count(), 3, "{said}");
    let (read, said) = rig.corrects("sqlite:m.db");
    assert!(read == 0 && !said.contains("late events"), "{said}");
    assert_eq!(rig.results("sqlite:m.db"), right);
}

#[test]
fn late_events_that_a_topic_no_longer_holds_are_named_and_the_others_are_read() {
    let Some(rig) = Rig::new("late_retention") else { return };
    rig.put(&rig.late[..30]);
    assert_eq!(rig.corrects("sqlite:m.db").0, 30);
    // The event before the position is gone, and no other one.
    rig.retain_from(10);
    let (read, said) = rig.corrects("sqlite:m.db");
    assert!(read == 0 && !said.contains("late events"), "{said}");
    rig.put(&rig.late[30..60]);
    rig.retain_from(14);
    let (read, said) = rig.corrects("sqlite:m.db");
    assert_eq!(read, 26, "{said}");
    let line =
        format!("{}/0: 4 offsets were removed by retention: 10 to 13; late events are read from offset 14", rig.topic);
    assert!(said.contains(&line), "{said}");
    let (read, said) = rig.corrects("sqlite:m.db");
    assert!(read == 0 && !said.contains("retention"), "{said}");
}
