//! The runbooks of evt-runbook(7): each symptom is made on real servers, and its commands run as the page has them.

use crate::broker::{ANSWER, Bench};
use crate::documents::blocks;
use crate::harness::{Dir, Run, eventually, in_ci};
use crate::kafka;
use crate::receivers::{Receiver, Reply};
use crate::servers::{postgres, redis};
use rdkafka::producer::{BaseRecord, Producer};
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::process::{Child, Stdio};

/// The commands of a section of the page, in order.
fn commands(section: &str) -> Vec<String> {
    blocks("man/evt-runbook.7", section).iter().map(|block| block.trim_end().to_owned()).collect()
}

/// The topics of the page on a real broker.
struct Topics {
    bench: Bench,
    events: String,
    dlq: String,
}

impl Topics {
    fn new(name: &str, partitions: i32) -> Option<Self> {
        let bench = Bench::new(name)?;
        let (events, dlq) = (bench.topic("events", partitions, &[]), bench.topic("dlq", 1, &[]));
        bench.dir.write("schemas/order/1.avsc", ORDER);
        Some(Self { bench, events, dlq })
    }

    /// Runs a command of the page with these topics.
    fn run(&self, command: &str) -> Run {
        self.bench.dir.shell(&self.named(command))
    }

    fn named(&self, command: &str) -> String {
        let brokers = &self.bench.brokers;
        let command = command.replace("localhost:9092/events.dlq", &format!("{brokers}/{}", self.dlq));
        command.replace("localhost:9092/events", &format!("{brokers}/{}", self.events))
    }

    /// Validates orders, some with their amounts as text and one that nothing repairs, so that they are in events.dlq.
    fn fail(&self, schemas: &str) {
        let amount = |n: usize| if n == 7 { "\"n/a\"".to_owned() } else { format!("\"{n}.5\"") };
        let order = |n: usize| {
            let (id, amount) = (format!("00000000-0000-4000-8000-{n:012}"), amount(n));
            let time = "\"server_timestamp\":\"2026-01-01T02:00:00Z\"";
            format!(
                "{{\"event_id\":\"{id}\",\"event_type\":\"order\",\"source\":\"shop\",{time},\"amount\":{amount}}}\n"
            )
        };
        self.bench.dir.write("in.jsonl", (0..20).map(order).collect::<String>());
        let dlq = self.bench.uri(&self.dlq, "");
        let line = format!("evt-validate in.jsonl --schemas '{schemas}' --to null: --dlq '{dlq}' -q");
        self.bench.dir.shell(&line).succeeds();
    }

    /// Puts records with these keys and values into events, in the partitions that evt and Java choose.
    fn produce<'a>(&self, records: impl Iterator<Item = (&'a str, &'a str)>) {
        let producer = self.bench.producer(&[("partitioner", "murmur2_random")]);
        for (key, value) in records {
            let record = BaseRecord::to(&self.events).key(key.as_bytes()).payload(value.as_bytes());
            producer.send(record).map_err(|(error, _)| error).expect("it is queued");
        }
        producer.flush(ANSWER).expect("they are delivered");
    }

    /// Asserts that events has so many records. The broker shows those of a transaction some time after its commit.
    #[track_caller]
    fn have(&self, expected: usize) {
        let mut found = 0;
        eventually("all transactions are visible", || {
            found = self.bench.committed_records(&self.events).len();
            found >= expected
        });
        assert_eq!(found, expected);
    }

    /// Starts a stage that reads events, with metrics; returns the process and the address of its metrics.
    fn stage(&self, tool: &str, args: &str) -> (Child, String) {
        let dir = &self.bench.dir;
        let input = self.bench.uri(&self.events, &format!("?group={}&start=earliest", self.bench.prefix));
        // The system chooses the port, so no other program has it.
        let line = format!("exec {tool} '{input}' {args} --prometheus 127.0.0.1:0 2> said");
        let mut command = dir.command("bash", &["-c", &line]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
        let mut address = String::new();
        eventually("it says where its metrics are", || {
            let said = std::fs::read_to_string(dir.path("said")).unwrap_or_default();
            let found = said.split_once("metrics: http://").and_then(|(_, rest)| rest.split_once("/metrics"));
            address = found.map(|(address, _)| address.to_owned()).unwrap_or_default();
            !address.is_empty()
        });
        (child, address)
    }
}

const ORDER: &str = r#"{"type":"record","name":"order","fields":[{"name":"amount","type":"double"}]}"#;

fn end(mut child: Child) {
    child.kill().and_then(|()| child.wait()).expect("it is our child");
}

#[test]
fn dead_letters_spike() {
    let Some(topics) = Topics::new("runbook-spike", 2) else { return };
    topics.fail("schemas");
    let [summary, dry, replay] = commands("DEAD LETTERS SPIKE").try_into().expect("three");
    let run = topics.run(&summary).succeeds();
    assert!(run.text().contains("SchemaValidationError") && run.text().contains("20"), "{run}");
    let run = topics.run(&dry).ends_with(1);
    assert_eq!(run.text().lines().filter(|line| line.contains(" replay ")).count(), 19, "{run}");
    assert_eq!(run.text().lines().filter(|line| line.contains(" faulty ")).count(), 1, "{run}");
    for _ in 0..2 {
        topics.run(&replay).ends_with(1);
        topics.have(19);
    }
}

#[test]
fn a_schema_changed_without_registration() {
    let Ok(registry) = std::env::var("EVT_REGISTRY") else {
        assert!(!in_ci(), "EVT_REGISTRY is not set (scripts/services)");
        eprintln!("skipped: EVT_REGISTRY is not set (scripts/services)");
        return;
    };
    let Some(topics) = Topics::new("runbook-schema", 4) else { return };
    let subject = format!("runbook-{}", std::process::id());
    let with = |line: &str| {
        let line = line
            .replace("http://localhost:8081", &registry)
            .replace("--subject order", &format!("--subject {subject}"));
        let flag = format!("--subject ={subject} --schemas");
        if line.contains("evt-schema") { line } else { line.replace("--schemas", &flag) }
    };
    let dir = &topics.bench.dir;
    dir.write("old.avsc", ORDER);
    dir.write("new.avsc", ORDER.replace("\"double\"", "[\"double\",\"string\"]"));
    dir.shell(&format!("evt-schema register old.avsc --subject {subject} --schemas '{registry}'")).succeeds();
    topics.fail("schemas");
    // The records that failed are on the topic, with keys.
    let values: Vec<String> = dir.rows("in.jsonl").iter().map(ToString::to_string).collect();
    let keys: Vec<String> = (0..values.len()).map(|n| format!("k{n}")).collect();
    topics.produce(keys.iter().zip(&values).map(|(key, value)| (key.as_str(), value.as_str())));
    let (from, dlq) = (topics.bench.uri(&topics.events, "?end=latest"), topics.bench.topic("failed", 1, &[]));
    let topics = Topics { dlq, ..topics };
    let dlq = topics.bench.uri(&topics.dlq, "");
    let dir = &topics.bench.dir;
    dir.shell(&format!("evt-validate '{from}' --schemas schemas --dlq '{dlq}' --to null: -q")).succeeds();
    let [summary, check, register, replay, once] =
        commands("A SCHEMA CHANGED WITHOUT REGISTRATION").try_into().expect("five");
    let run = topics.run(&summary).succeeds();
    assert!(run.text().contains("SchemaValidationError"), "{run}");
    topics.run(&with(&check)).succeeds();
    topics.run(&with(&register)).succeeds();
    topics.run(&with(&replay)).succeeds();
    topics.have(40);
    let run = topics.run(&with(&once)).succeeds();
    assert_eq!(stored(&topics, "again.db"), [20, 20], "{run}");
    // Both are valid, so without --dedup both are stored.
    topics.run(&with(&once).replace("--dedup 1d", "").replace("again.db", "both.db")).succeeds();
    assert_eq!(stored(&topics, "both.db"), [40, 20]);
}

/// The number of stored events, and of their ids.
fn stored(topics: &Topics, db: &str) -> [i64; 2] {
    let db = rusqlite::Connection::open(topics.bench.dir.path(db)).expect("it opens");
    let sql = "SELECT count(*), count(DISTINCT event_id) FROM raw_events";
    db.query_row(sql, [], |row| Ok([row.get(0)?, row.get(1)?])).expect("one row")
}

#[test]
fn a_poison_record() {
    let Some(topics) = Topics::new("runbook-poison", 1) else { return };
    topics.fail("schemas");
    let [list, record, repair] = commands("A POISON RECORD").try_into().expect("three");
    let dir = &topics.bench.dir;
    let input = topics.bench.uri(&topics.events, "");
    dir.shell(&format!("evt-ingest in.jsonl -q --to '{input}'")).succeeds();
    let dlq = topics.bench.uri(&topics.dlq, "");
    // The letter that no patch repairs fails again and again.
    let line = "evt-replay --patch 'set amount = try_cast(amount as double)' --schemas schemas --ledger sqlite:replay.db -q \
                --to replayed.jsonl";
    dir.shell(&format!("{line} '{dlq}' --dlq first.jsonl")).ends_with(1);
    dir.shell(&format!("{line} first.jsonl --dlq faulty.jsonl")).ends_with(1);
    let run = topics.run(&list).succeeds();
    assert!(run.text().contains("letter_id") && run.text().contains("in.jsonl"), "{run}");
    let run = topics.run(&record).succeeds();
    assert!(run.text().starts_with('{') && run.text().lines().count() == 1, "{run}");
    topics.run(&repair).succeeds();
    topics.have(21);
}

#[test]
fn the_watermark_stands_still() {
    let Some(topics) = Topics::new("runbook-watermark", 2) else { return };
    let dir = &topics.bench.dir;
    // All events have one source, which is their key, so that one partition stays empty.
    dir.shell(&format!(
        "evt-gen --events 500 --rate 1 --seed 3 -q | sed 's/\"source\":\"[^\"]*\"/\"source\":\"one\"/' | evt-ingest -q --to '{}'",
        topics.bench.uri(&topics.events, "")
    ))
    .succeeds();
    let (child, address) = topics.stage("evt-window", "--size 1m --late null: --to null:");
    let [metrics, events] = commands("THE WATERMARK DOES NOT ADVANCE").try_into().expect("two");
    let metrics = metrics.replace("localhost:9100", &address);
    let mut seen = String::new();
    eventually("the records are read", || {
        seen = dir.shell(&metrics).text();
        let lags: Vec<&str> = seen.lines().filter(|line| line.starts_with("evt_consumer_lag_records")).collect();
        lags.len() == 2 && lags.iter().all(|line| line.ends_with(" 0") || line.ends_with(" 0.0"))
    });
    let run = topics.run(&events).succeeds();
    let partitions: std::collections::BTreeSet<String> =
        run.rows().iter().map(|row| row["partition"].to_string()).collect();
    assert_eq!(partitions.len(), 1, "{run}\n{seen}");
    end(child);
}

#[test]
fn lag_grows() {
    let Some(topics) = Topics::new("runbook-lag", 1) else { return };
    let dir = &topics.bench.dir;
    dir.shell(&format!("evt-gen --events 500 -q | evt-ingest -q --to '{}'", topics.bench.uri(&topics.events, "")))
        .succeeds();
    let (child, address) = topics.stage("evt-sink", "--to sqlite:archive.db");
    let [metrics] = commands("LAG GROWS").try_into().expect("one");
    let metrics = metrics.replace("localhost:9100", &address);
    let names = ["evt_consumer_lag_seconds{", "evt_backpressure_seconds_total{side=\"output\""];
    let mut text = String::new();
    eventually("the metrics are there", || {
        text = dir.shell(&metrics).text();
        names.iter().all(|name| text.contains(name))
    });
    // A file is not a server, so only outputs on servers have this metric.
    assert!(!text.contains("evt_output_up{"), "{text}");
    end(child);
}

/// Creates events.jsonl with events between 2:00 and 5:00, and writes it to the topic.
fn three_hours(topics: &Topics) {
    let line = format!(
        "evt-gen --events 3k --rate 1 --seed 9 --start 2026-01-01T03:00:00Z -q | evt-ingest -q --to '{}'",
        topics.bench.uri(&topics.events, "")
    );
    topics.bench.dir.shell(&line).succeeds();
}

#[test]
fn counts_differ() {
    let Some(topics) = Topics::new("runbook-counts", 2) else { return };
    let [ranges, ids, record, again] = commands("COUNTS DIFFER").try_into().expect("four");
    // Orders of which some are dead letters.
    let order = |n: usize| {
        let amount = if [1, 2].contains(&(n % 10)) { "\"1.5\"" } else { "1.5" };
        let time = format!("2026-01-01T03:00:{:02}Z", n % 60);
        format!(
            r#"{{"event_id":"00000000-0000-4000-8000-{n:012}","event_type":"order","source":"shop","server_timestamp":"{time}","amount":{amount}}}"#
        )
    };
    let orders: Vec<String> = (0..60).map(order).collect();
    topics
        .bench
        .produce(orders.iter().enumerate().map(|(n, value)| kafka::record(&topics.events, (n % 2) as i32, value)));
    let dlq = format!("--dlq '{}'", topics.bench.uri(&topics.dlq, ""));
    topics.run(&again.replace("--dlq null:", &dlq)).succeeds();
    topics.run(&ranges).succeeds();
    let db = rusqlite::Connection::open(topics.bench.dir.path("metrics.db")).expect("it opens");
    let sql = "DELETE FROM raw_events WHERE \"partition\" = '0' AND \"offset\" BETWEEN 17 AND 19";
    assert_eq!(db.execute(sql, []).expect("it is ours"), 3);
    drop(db);
    let run = topics.run(&ranges).ends_with(1);
    let faulty: Vec<String> =
        run.text().lines().filter(|line| line.split_whitespace().nth(2) == Some("17")).map(str::to_owned).collect();
    assert!(faulty.len() == 1 && faulty[0].contains(" 19 ") && run.stderr().contains('3'), "{run}");
    let run = topics.run(&ids).ends_with(1);
    let found: Vec<String> = run.rows().iter().map(|row| format!("{} {}", row["partition"], row["offset"])).collect();
    assert_eq!(found, [r#""0" 17"#, r#""0" 18"#, r#""0" 19"#], "{run}");
    let id = run.rows()[0]["event_id"].as_str().expect("an id").to_owned();
    let run = topics.run(&record).succeeds();
    assert!(run.text().contains(&id), "{run}");
    topics.run(&again).succeeds();
    topics.run(&ranges).succeeds();
    // The letters are replayed; the repair keeps the records that failed out of the store.
    let replay = commands("DEAD LETTERS SPIKE").pop().expect("the last one");
    topics.run(&replay.replace("?start=now-1h", "")).succeeds();
    topics.have(72);
    topics.run(&again).succeeds();
    topics.run(&ranges).succeeds();
    assert_eq!(stored(&topics, "metrics.db"), [60, 60]);
    // Past the validation they are double.
    let from = topics.bench.uri(&topics.events, "?start=earliest&end=latest");
    topics.bench.dir.shell(&format!("evt-sink '{from}' --to sqlite:metrics.db -q")).succeeds();
    assert_eq!(stored(&topics, "metrics.db"), [72, 60]);
    let run = topics.run(&ranges).ends_with(1);
    assert!(run.stderr().contains("12 double of 72 records (60 in B, 12 in plus)"), "{run}");
}

#[test]
fn data_are_stale() {
    let Some(topics) = Topics::new("runbook-stale", 1) else { return };
    let [age, lag, events] = commands("DATA ARE STALE").try_into().expect("three");
    three_hours(&topics);
    let input = topics.bench.uri(&topics.events, "?end=latest");
    let dir = &topics.bench.dir;
    dir.shell(&format!("evt-window '{input}' -q --size 10m --to sqlite:metrics.db")).succeeds();
    let run = topics.run(&age).ends_with(1);
    assert!(run.text().contains("count(*)"), "{run}");
    // Nothing is committed yet.
    topics.run(&lag).ends_with(1);
    let archive = topics.bench.uri(&topics.events, "?group=archive&start=earliest&end=latest");
    dir.shell(&format!("evt-sink '{archive}' -q --to sqlite:archive.db")).succeeds();
    topics.run(&lag).succeeds();
    assert_eq!(topics.run(&events).succeeds().rows().len(), 1);
}

#[test]
fn a_metric_was_wrong_for_three_hours() {
    let dir = Dir::new("runbook-metric");
    let spec = |aggregate: &str| {
        let sized = "size = \"10m\"\nby = [\"country\"]";
        format!(
            "[[metric]]\nname = \"revenue\"\naggregate = \"{aggregate}\"\n{sized}\n[[metric]]\nname = \"events\"\nsize = \"10m\"\n"
        )
    };
    dir.shell("evt-gen --events 20k --rate 1 --seed 4 --start 2026-01-01T01:00:00Z -q | evt-ingest -q --origin in --to parquet:raw")
        .succeeds();
    dir.write("metrics.toml", spec("sum(latency_ms * 1000)"));
    dir.shell("evt-window parquet:raw -q -m metrics.toml --to sqlite:metrics.db").succeeds();
    dir.write("metrics.toml", spec("sum(latency_ms)"));
    let [dry, correct] = commands("A METRIC WAS WRONG FOR THREE HOURS").try_into().expect("two");
    let run = dir.shell(&dry).ends_with(1);
    assert!(run.text().contains("revenue") && !run.text().contains("events"), "{run}");
    dir.shell(&correct).succeeds();
    dir.shell(&dry).succeeds();
    dir.shell("evt-window parquet:raw -q -m metrics.toml --to sqlite:right.db").succeeds();
    let rows = |db: &str| {
        let sql = "SELECT metric_name, window_start, dimensions, value FROM aggregated_metrics \
                   WHERE window_start >= '2026-01-01T02:00' AND window_end <= '2026-01-01T05:00:00.000000Z' ORDER BY 1, 2, 3";
        let db = rusqlite::Connection::open(dir.path(db)).expect("it opens");
        let mut found = db.prepare(sql).expect("a statement");
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, f64>(3)?))
        };
        found.query_map([], row).expect("rows").collect::<Result<Vec<_>, _>>().expect("rows")
    };
    assert!(rows("right.db").len() > 18);
    assert_eq!(rows("metrics.db"), rows("right.db"));
}

#[test]
fn the_disk_is_full() {
    let Some(topics) = Topics::new("runbook-disk", 1) else { return };
    let dir = &topics.bench.dir;
    dir.shell(&format!("evt-gen --events 500 -q | evt-ingest -q --to '{}'", topics.bench.uri(&topics.events, "")))
        .succeeds();
    let input = topics.bench.uri(&topics.events, "?group=archive&end=latest");
    let run = dir.shell(&format!("evt-sink '{input}' -q --to /dev/full -o jsonl")).ends_with(74);
    assert!(run.stderr().contains("no space left on device"), "{run}");
    let [room, check] = commands("THE DISK IS FULL").try_into().expect("two");
    assert!(dir.shell(&room).succeeds().text().contains('%'));
    let run = topics.run(&check).succeeds();
    assert!(run.text().contains("sqlite:metrics.db: ready"), "{run}");
    dir.shell(&format!("evt-sink '{input}' -q --to sqlite:metrics.db")).succeeds();
    let db = rusqlite::Connection::open(dir.path("metrics.db")).expect("it opens");
    let rows: i64 = db.query_row("SELECT count(*) FROM raw_events", [], |row| row.get(0)).expect("a row");
    assert_eq!(rows, 500, "nothing is lost");
}

#[test]
fn a_server_is_away() {
    let Some(topics) = Topics::new("runbook-away", 1) else { return };
    let (Some((postgres, _, _)), Some((redis, _, _))) = (postgres(), redis()) else { return };
    let [check] = commands("A SERVER IS AWAY").try_into().expect("one");
    let there = topics.named(&check).replace("postgres://localhost/evt", &format!("'{postgres}'"));
    let there = there.replace("redis://localhost/0", &format!("'{redis}'"));
    // Metrics alone go to Redis, but the check contacts every server.
    let run = topics.bench.dir.shell(&there).succeeds();
    assert_eq!(run.text().matches(": ready").count(), 3, "{run}");
    let away = topics.named(&check).replace("redis://localhost/0", "redis://127.0.0.1:1/0");
    let away = away.replace("postgres://localhost/evt", "postgres://127.0.0.1:1/evt");
    let run = topics.bench.dir.shell(&away).ends_with(69);
    assert_eq!(run.text().matches(": ready").count(), 1, "{run}");
    assert_eq!(run.stderr().lines().count(), 2, "{run}");
}

/// The state of an evt-alert whose rule has fired for ten users, each twice; its receiver accepts or refuses what it is
/// sent.
fn paged(topics: &Topics, status: u16) -> Receiver {
    let dir = &topics.bench.dir;
    let receiver = Receiver::new(move |_, _| Reply::Status(status));
    let channel = "[[channel]]\nname = \"oncall\"\ntype = \"webhook\"\nrate = \"100/s\"\ntimeout = \"2m\"";
    dir.write("channels.toml", format!("{channel}\nurl = \"{}/hook\"\n", receiver.base));
    let rule = "aggregate = 'count(*)'\nwhere = \"event_type = 'error'\"\nthreshold = 5\ncondition = 'gt'\nwindow_seconds = 10";
    let rule = format!("[[rule]]\nname = 'errors'\n{rule}\nnotification_channel = 'oncall'\nkeep_firing_for = ");
    dir.write("rules.toml", format!("{rule}0\nby = ['user_id']\n"));
    dir.write("changed.toml", format!("{rule}60\n"));
    let second = |second: usize| {
        let is_burst = second % 50 >= 20 && second % 50 < 40;
        let kind = if is_burst && second < 100 { "error" } else { "view" };
        let event = |user: usize| {
            format!(
                "{{\"source\":\"web\",\"event_type\":\"{kind}\",\"user_id\":\"u{user}\",\"server_timestamp\":\"2026-01-05T10:{:02}:{:02}Z\"}}\n",
                second / 60,
                second % 60
            )
        };
        (0..10).map(event).collect::<String>()
    };
    dir.write("in.jsonl", (0..150).map(second).collect::<String>());
    let (events, input) = (topics.bench.uri(&topics.events, ""), topics.bench.uri(&topics.events, "?end=latest"));
    dir.shell(&format!("evt-ingest in.jsonl -q --to '{events}'")).succeeds();
    let line = "evt-alert --once -q --rules rules.toml --state alerts.db --notify channels.toml --to null:";
    let alert = || dir.shell(&format!("{line} --now 2026-01-05T10:02:30Z '{input}'")).stays_calm();
    alert().ends_with(1);
    // At its end a run sends for ten seconds; on a slow disk the next runs send the rest.
    eventually("nothing is due", || {
        let db = Connection::open(dir.path("alerts.db")).expect("it opens");
        let due: u64 =
            db.query_row("SELECT count(*) FROM outbox WHERE outcome IS NULL", [], |row| row.get(0)).expect("a number");
        drop(db);
        if due > 0 {
            alert();
        }
        due == 0
    });
    receiver
}

/// The number of pages that a receiver got. An attempt that the end of a run interrupts is repeated with its key.
fn pages(receiver: &Receiver) -> usize {
    receiver.posted().iter().map(|posted| posted.key().to_owned()).collect::<BTreeSet<_>>().len()
}

#[test]
fn no_page_arrives() {
    let Some(topics) = Topics::new("runbook-no-page", 1) else { return };
    let receiver = paged(&topics, 403);
    assert_eq!(pages(&receiver), 20);
    let [check, clock, outcomes, again] = commands("NO PAGE ARRIVES").try_into().expect("four");
    let run = topics.run(&check).succeeds();
    assert!(run.text().contains("rule errors: ready\n") && run.text().contains("channel 'oncall': ready\n"), "{run}");
    let run = topics.run(&clock).succeeds();
    assert!(run.text().starts_with("clock|saved_at\n2026-01-05T10:02:2"), "{run}");
    let run = topics.run(&outcomes).succeeds();
    assert!(run.text().contains("\noncall|firing|refused|20|") && run.text().contains("403"), "{run}");
    let run = topics.run(&again).ends_with(1);
    assert_eq!(run.rows().iter().filter(|row| row["state"] == "firing").count(), 20, "{run}");
    assert_eq!(pages(&receiver), 20);
}

#[test]
fn too_many_pages() {
    let Some(topics) = Topics::new("runbook-pages", 1) else { return };
    let receiver = paged(&topics, 200);
    assert_eq!(pages(&receiver), 40);
    let [rules, changed] = commands("TOO MANY PAGES").try_into().expect("two");
    let run = topics.run(&rules).succeeds();
    assert_eq!(run.text(), "rule|channel|pages|groups\nerrors|oncall|20|10\n");
    let run = topics.run(&changed).ends_with(1);
    assert_eq!(run.text().trim(), "1 errors");
    assert_eq!(pages(&receiver), 40);
}
