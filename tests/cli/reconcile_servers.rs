//! evt-reconcile with real servers: topics with transactions and compaction, PostgreSQL, Redis, the lag of a group.

use crate::broker::{ANSWER, Bench, wait};
use crate::harness::{Dir, Run, eventually};
use crate::kafka::{event, record};
use crate::servers;
use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

fn reconcile(dir: &Dir, args: &[&str]) -> Run {
    dir.run("evt-reconcile", args).stays_calm()
}

#[track_caller]
fn is_right(dir: &Dir, args: &[&str]) {
    let quiet = reconcile(dir, &[args, &["-q"]].concat()).succeeds();
    assert!(quiet.stdout().is_empty() && quiet.stderr().is_empty(), "{quiet}");
}

fn sum(run: &Run, name: &str) -> u64 {
    run.rows().iter().filter_map(|row| row[name].as_u64()).sum()
}

/// Markers of transactions and aborted records are not a loss; rows that are missing in one partition are named.
#[test]
fn a_topic_is_compared_by_its_records_and_not_by_its_offsets() {
    let Some(bench) = Bench::new("reconcile-topic") else { return };
    let topic = bench.topic("t", 3, &[]);
    let producer: BaseProducer = bench.config().set("transactional.id", &bench.prefix).create().expect("a client");
    producer.init_transactions(ANSWER).expect("a coordinator");
    for turn in 0..20 {
        producer.begin_transaction().expect("begun");
        for n in turn * 30..(turn + 1) * 30 {
            let value = if n % 97 == 5 { format!("no event {n}") } else { event(n, "s") };
            producer.send(record(&topic, (n % 3) as i32, &value)).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(ANSWER).expect("delivered");
        match turn % 5 {
            3 => producer.abort_transaction(ANSWER).expect("aborted"),
            _ => producer.commit_transaction(ANSWER).expect("committed"),
        }
    }
    // The broker shows the records of a transaction some time after it has acknowledged the commit.
    eventually("all transactions are visible", || bench.records(&topic).len() == 480);
    let (dir, letters) = (&bench.dir, bench.topic("dlq", 1, &[]));
    let (a, dlq) = (bench.uri(&topic, ""), bench.uri(&letters, ""));
    let from = bench.uri(&topic, "?end=latest");
    dir.run("evt-sink", &[&from, "--to", "sqlite:events.db", "--to", "parquet:lake", "--dlq", &dlq, "-q"]).succeeds();
    for b in ["sqlite:events.db?table=raw_events", "parquet:lake"] {
        is_right(dir, &[&a, b, "--plus", &dlq]);
        is_right(dir, &[&a, b, "--plus", &dlq, "--ids"]);
    }
    let run = reconcile(dir, &[&a, "parquet:lake"]).ends_with(1);
    assert_eq!([sum(&run, "a"), sum(&run, "missing")], [480, 5], "{run}");
    let db = rusqlite::Connection::open(dir.path("events.db")).expect("a database");
    let sql = "DELETE FROM raw_events WHERE \"partition\" = '1' AND \"offset\" BETWEEN 40 AND 60";
    let gone = db.execute(sql, []).expect("a change") as u64;
    let run = reconcile(dir, &[&a, "sqlite:events.db?table=raw_events", "--plus", &dlq]).ends_with(1);
    assert_eq!(sum(&run, "missing"), gone, "{run}");
    assert!(run.rows().iter().all(|row| row["missing"] == 0 || row["partition"] == "1"), "{run}");
    assert!(run.stderr().contains(&format!("{topic}/1@")) && run.stderr().contains(" since 2024-01-15T10:"), "{run}");
    // Rows of records behind the end of A are not judged; those before its start neither.
    let part = bench.uri(&topic, "?start=0:50,1:50,2:50&end=0:90,1:90,2:90");
    reconcile(dir, &[&part, "parquet:lake", "--plus", &dlq, "-q"]).succeeds();
    // LogAppendTime or the server_timestamp is the arrival: nothing of 2024 is in flight.
    let run = reconcile(dir, &[&a, "parquet:lake", "--settle", "10m"]).succeeds();
    assert_eq!(sum(&run, "in_flight"), 5, "records that cannot be read arrived just now: {run}");
}

/// Retention has removed the first records of A: rows of B before its first record are not judged, by position or
/// event_id.
#[test]
fn rows_before_the_first_retained_record_are_not_judged() {
    let Some(bench) = Bench::new("reconcile-retained") else { return };
    let topic = bench.topic("t", 1, &[]);
    let events: Vec<String> = (0..100).map(|n| event(99 - n, "s")).collect();
    bench.produce(events.iter().map(|value| record(&topic, 0, value)));
    let (dir, a) = (&bench.dir, bench.uri(&topic, ""));
    dir.run("evt-sink", &[&bench.uri(&topic, "?end=latest"), "--to", "sqlite:events.db", "-q"]).succeeds();
    let admin: AdminClient<DefaultClientContext> = bench.config().create().expect("a client");
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 0, Offset::Offset(50)).expect("an offset");
    wait(admin.delete_records(&before, &AdminOptions::new())).expect("an answer");
    // A late event whose time lies between those of the records that are left, so that only its position tells.
    let db = rusqlite::Connection::open(dir.path("events.db")).expect("a database");
    let late = "UPDATE raw_events SET event_time = '2024-01-15T10:00:20.000000Z' WHERE \"offset\" = 7";
    assert_eq!(db.execute(late, []).expect("a change"), 1);
    for by in ["position", "id"] {
        let run = reconcile(dir, &[&a, "sqlite:events.db?table=raw_events", "--by", by]).succeeds();
        assert!(run.stderr().contains("50 rows of B outside of A's range were not judged"), "{by}: {run}");
    }
}

/// The broker's time of arrival decides what is in flight, whatever the record says.
#[test]
fn what_a_broker_has_just_appended_is_in_flight() {
    let Some(bench) = Bench::new("reconcile-settle") else { return };
    let topic = bench.topic("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let events: Vec<String> = (0..3).map(|n| event(n, "s")).collect();
    bench.produce(events.iter().map(|value| record(&topic, 0, value)));
    let from = bench.uri(&topic, "?end=0:1");
    bench.dir.run("evt-sink", &[&from, "--to", "rows.jsonl", "-q"]).succeeds();
    let a = bench.uri(&topic, "");
    let run = reconcile(&bench.dir, &[&a, "rows.jsonl", "--settle", "10m"]).succeeds();
    assert_eq!([sum(&run, "b"), sum(&run, "in_flight"), sum(&run, "missing")], [1, 2, 0], "{run}");
    let run = reconcile(&bench.dir, &[&a, "rows.jsonl"]).ends_with(1);
    assert_eq!(sum(&run, "missing"), 2, "{run}");
}

/// What compaction has removed from A is not an extra row of B.
#[test]
fn what_compaction_has_removed_is_no_extra_row() {
    let Some(bench) = Bench::new("reconcile-compacted") else { return };
    let settings = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.ms", "50"),
        ("max.compaction.lag.ms", "1"),
    ];
    let topic = bench.topic("t", 1, &settings);
    let keyed = |n: usize, key: &str| {
        let value = event(n, "s");
        bench.produce([BaseRecord::to(topic.as_str()).partition(0).key(key.as_bytes()).payload(value.as_bytes())]);
    };
    (0..12).for_each(|n| keyed(n, &format!("k{}", n % 3)));
    let (a, from) = (bench.uri(&topic, ""), bench.uri(&topic, "?end=latest"));
    bench.dir.run("evt-sink", &[&from, "--to", "rows.jsonl", "-q"]).succeeds();
    let mut written = 12;
    eventually("the older records are gone", || {
        keyed(written, "last");
        written += 1;
        bench.records(&topic).iter().filter(|record| record.key.as_deref() != Some(b"last")).count() == 3
    });
    let end = bench.uri(&topic, "?end=0:12");
    let run = reconcile(&bench.dir, &[&end, "rows.jsonl"]).succeeds();
    assert_eq!([sum(&run, "a"), sum(&run, "missing"), sum(&run, "extra")], [3, 0, 0], "{run}");
    reconcile(&bench.dir, &[&a, "rows.jsonl", "-q"]).ends_with(1);
}

#[test]
fn the_lag_of_a_group_is_the_age_of_its_first_record() {
    let Some(bench) = Bench::new("reconcile-lag") else { return };
    let topic = bench.topic("t", 3, &[]);
    let events: Vec<String> = (0..30).map(|n| event(n, "s")).collect();
    // Retention removes records of last year.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let base = now - 600_000;
    bench.produce(
        events
            .iter()
            .enumerate()
            .map(|(n, value)| record(&topic, (n % 2) as i32, value).timestamp(base + 1000 * n as i64)),
    );
    let group = format!("{}-g", bench.prefix);
    let lag = bench.uri(&topic, &format!("?group={group}"));
    let now = evt_core::time::format_instant((base + 120_000) * 1000);
    let now = ["--now", now.as_str()];
    let run = reconcile(&bench.dir, &["--lag", &lag]).ends_with(1);
    assert!(run.stderr().contains("committed no offset"), "{run}");
    let from = bench.uri(&topic, &format!("?group={group}&end=0:5,1:15,2:0"));
    bench.dir.run("evt-sink", &[&from, "--to", "sqlite:events.db", "-q"]).succeeds();
    // Record 10 is the first one of partition 0 that is not committed.
    let run = reconcile(&bench.dir, &[&["--lag", &lag][..], &now].concat()).succeeds();
    let rows: Vec<[Value; 3]> = run
        .rows()
        .iter()
        .map(|row| [row["partition"].clone(), row["records"].clone(), row["seconds"].clone()])
        .collect();
    let expected: [[Value; 3]; 3] =
        [[0.into(), 10.into(), 110.0.into()], [1.into(), 0.into(), 0.0.into()], [2.into(), 0.into(), 0.0.into()]];
    assert_eq!(rows, expected, "{run}");
    let run = reconcile(&bench.dir, &[&["--lag", &lag, "--max-lag", "109s", "-q"][..], &now].concat()).ends_with(1);
    assert!(run.stderr().contains(&format!("{topic}/0: 10 records, 1m50s")), "{run}");
    let run = reconcile(&bench.dir, &[&["--lag", &lag, "--max-lag", "110s", "-q"][..], &now].concat()).succeeds();
    assert!(run.stdout().is_empty() && run.stderr().is_empty(), "{run}");
    reconcile(&bench.dir, &["--lag", &bench.uri(&topic, "")]).ends_with(2);
    reconcile(&bench.dir, &["--lag", "kafka://127.0.0.1:9/t?group=g&wait=1s"]).ends_with(69);
}

#[test]
fn a_table_of_postgres_and_the_hashes_of_redis_are_compared() {
    let (Some((postgres, ..)), Some((redis, ..))) = (servers::postgres(), servers::redis()) else { return };
    let dir = Dir::new("reconcile-servers");
    let table = |name: &str| format!("{postgres}&table={name}");
    dir.shell(&format!(
        "evt-gen --events 3k --seed 4 --malformed 0.01 --rate 10 -q > events.jsonl \
         && evt-ingest -q events.jsonl --dlq '{postgres}' | evt-sink -q --to rows.frames --to '{postgres}' \
         && evt-window -q rows.frames --size 1m --by event_type --late null: | evt-sink -q --to '{postgres}' --to '{redis}' --to m.jsonl"
    ))
    .succeeds();
    let (events, letters, metrics) = (table("raw_events"), table("dead_letters"), table("aggregated_metrics"));
    is_right(&dir, &["events.jsonl", &events, "--plus", &letters, "--ids"]);
    is_right(&dir, &[&metrics, &redis]);
    is_right(&dir, &[&redis, "m.jsonl", "--ids"]);
    let lost = dir.run("evt-reconcile", &["events.jsonl", &events, "-q"]).ends_with(1);
    assert!(sum(&lost, "missing") > 10, "{lost}");
    let away = reconcile(&dir, &["events.jsonl", "postgres://127.0.0.1:9/evt?table=raw_events&connect=1s&retry=1s"]);
    away.ends_with(69);
}
