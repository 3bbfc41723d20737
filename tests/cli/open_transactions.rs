//! Topics in which a producer has a transaction open: its records, and all after them, cannot be read before it ends.

use crate::broker::{ANSWER, Bench};
use crate::harness::{ended, eventually};
use crate::kafka::{WAYS, event, record};
use rdkafka::producer::{BaseProducer, Producer};
use std::io::{BufRead, BufReader};

#[test]
fn records_behind_an_open_transaction_are_neither_lost_nor_taken_for_a_gap() {
    let Some(bench) = Bench::new("open-transaction") else { return };
    for (at, way) in WAYS.iter().enumerate() {
        let (topic, group) = (bench.topic(&format!("t{at}"), 1, &[]), format!("{}-g{at}", bench.prefix));
        let uri = |options: &str| bench.uri(&topic, &format!("?{options}{}", way.replace('?', "&")));
        let events: Vec<String> = (0..5).map(|n| event(n, "s")).collect();
        let send = |producer: &BaseProducer, n: usize| {
            let record = record(&topic, 0, &events[n]).timestamp(1_700_000_000_000 + n as i64);
            producer.send(record).map_err(|(error, _)| error).expect("queued");
            producer.flush(ANSWER).expect("delivered");
        };
        let (plain, other) = (bench.producer(&[]), bench.config().set("transactional.id", &topic).create());
        let other: BaseProducer = other.expect("a client");
        other.init_transactions(ANSWER).expect("a coordinator");
        (0..3).for_each(|n| send(&plain, n));
        other.begin_transaction().expect("begun");
        send(&other, 3);
        send(&plain, 4);

        // Another program has read all of them.
        bench.commit(&group, &topic, 4, "");
        let read = bench.dir.run("evt-ingest", &[&uri(&format!("group={group}&end=latest")), "-o", "jsonl"]).succeeds();
        let told = format!(
            "{topic}/0: a transaction is open at offset 3; its records and those after it are not read (up to offset 4)"
        );
        assert!(read.rows().is_empty() && read.stderr().contains(&told), "{way}: {read}");
        let read = bench.dir.run("evt-view", &[&uri("start=earliest"), "-q", "-o", "jsonl"]).succeeds();
        assert!(read.rows().len() == 3 && read.stderr().contains(&told), "{way}: {read}");
        let lag = bench.dir.run("evt-reconcile", &["--lag", &uri(&format!("group={group}"))]).succeeds();
        assert_eq!((&lag.rows()[0]["end"], &lag.rows()[0]["records"]), (&5.into(), &1.into()), "{way}: {lag}");
        let lag = ["--lag", &uri(&format!("group={group}")), "--max-lag", "1h"];
        let lag = bench.dir.run("evt-reconcile", &lag).ends_with(1);
        assert!(lag.stderr().contains(&format!("{topic}/0: 1 record")), "{way}: {lag}");

        // A range that ends behind the beginning of the transaction waits for its end.
        let late = bench.dir.run("evt-ingest", &[&uri("end=0:4&wait=1s"), "-o", "jsonl"]).ends_with(69);
        assert!(
            late.stderr().contains("a transaction before the end of the range did not end in time"),
            "{way}: {late}"
        );
        let ends = ["end=0:4", "end=2023-11-14T22:13:20.004Z"];
        let mut runs = ends.map(|end| {
            let out = format!("{at}-{}.jsonl", &end[4..5]);
            (bench.start("evt-ingest", &[&uri(end), "--to", &out]), out)
        });
        for (run, _) in &mut runs {
            let lines = BufReader::new(run.stderr.take().expect("piped")).lines();
            let told = format!("{topic}/0@3: waiting for the end of a transaction");
            assert!(lines.map_while(Result::ok).any(|line| line.contains(&told)), "{way}: it waits");
        }
        other.commit_transaction(ANSWER).expect("committed");
        for (mut run, out) in runs {
            assert_eq!(ended("a range that waits", &mut run), 0);
            let numbers: Vec<u64> =
                bench.dir.rows(&out).iter().filter_map(|row| row["properties"]["n"].as_u64()).collect();
            assert_eq!(numbers, [0, 1, 2, 3], "{way}: {out}");
        }
        eventually("all are visible", || bench.records(&topic).len() == 5);
    }
}
