//! The spool: evt refuses an acknowledgement policy that its outputs cannot meet before it reads, and acknowledged
//! events survive any kill.

use crate::broker::Bench;
use crate::harness::{Dir, Draws, eventually};
use crate::listener::{Listener, event, read, request};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_promise_that_no_output_can_keep_is_refused_before_anything_is_made() {
    let dir = Dir::new("promise");
    dir.write("x.jsonl", "{}\n");
    for (args, why) in [
        (
            "--spool spool",
            "the spool could never be emptied; write to Kafka, to a file of JSON lines or CSV, or to a database",
        ),
        ("--spool spool --to rows.parquet", "--spool: rows.parquet cannot acknowledge rows"),
        ("--spool spool --to null: --dlq dead.parquet", "dead.parquet cannot acknowledge rows"),
        ("--ack output", "or to a database, or use --ack memory (a crash then loses events)"),
        ("--ack output --to rows.parquet", "--ack output: rows.parquet cannot acknowledge rows; write to Kafka"),
        ("--spool spool --ack memory --to null:", "--ack cannot be used with --spool"),
        ("--dedup 1h --to null:", "--dedup requires --spool DIR"),
        ("--dedup 1h --ack memory", "requires --spool DIR"),
        ("--spool-max 1GiB --to null:", "--spool-max requires --spool DIR"),
        ("--spool spool --to null:", "require an input http://"),
        ("--ack memory", "require an input http://"),
    ] {
        let args: Vec<&str> = args.split(' ').chain(["x.jsonl"]).collect();
        let run = dir.run("evt-ingest", &args).ends_with(2);
        assert!(run.stderr().contains(why), "{run}");
        assert!(run.stdout().is_empty() && !dir.path("spool").exists(), "{run}");
    }
}

const KILLS: usize = 50;
/// Maximum number of runs after the last kill. A run leaves records in the spool if its outputs answer too late.
const STOPS: usize = 10;
const CLIENTS: usize = 3;
/// Events of a request.
pub const BATCH: usize = 7;

/// The requests to all runs of the server; the number of a request is that of its first event.
#[derive(Default)]
struct Load {
    next: AtomicUsize,
    acknowledged: AtomicUsize,
}

impl Load {
    fn number(&self) -> usize {
        self.next.fetch_add(BATCH, Ordering::Relaxed)
    }

    /// Posts until the server is gone, beginning with the unanswered requests. Returns the acknowledged requests, and
    /// the one in progress.
    fn post(&self, listener: &Listener, mut first: usize) -> (Vec<usize>, usize) {
        let mut kept = vec![];
        loop {
            let events: Vec<String> = (first..first + BATCH).map(|number| event(number, "s")).collect();
            let body = format!("{{\"events\":[{}]}}", events.join(","));
            let answer = TcpStream::connect(&listener.host).ok().and_then(|mut stream| {
                stream.write_all(&request(&[], body.as_bytes())).ok()?;
                read(&mut stream)
            });
            match answer.map(|answer| answer.status) {
                None => return (kept, first),
                Some(200) => {
                    kept.push(first);
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    first = self.number();
                }
                // The spool is full: it stores no part of the request.
                Some(status) => assert_eq!(status, 503),
            }
        }
    }
}

/// The saved position: the outputs have everything before this offset of the spool.
pub fn position(dir: &Dir) -> i64 {
    let text = std::fs::read_to_string(dir.path("spool/position")).expect("a new spool saves its first position");
    let saved: Value = serde_json::from_str(&text).expect("it is whole at any time");
    saved["offset"].as_i64().expect("an offset")
}

/// The results of all runs.
#[derive(Default)]
pub struct Told {
    /// The [`position`] of the new spool.
    pub start: i64,
    /// Requests that were acknowledged.
    pub kept: BTreeSet<usize>,
    /// The runs of the server to which each request was sent.
    asked: BTreeMap<usize, Vec<usize>>,
    /// The [`position`] after each kill, and after each stop that left records in the spool.
    positions: Vec<i64>,
}

/// Kills a server when it is dropped, also by a test that fails: its clients post until the server is gone.
struct KillAtEnd<'a>(&'a Listener);

impl Drop for KillAtEnd<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::KILL);
    }
}

/// Starts the server, kills it under load, and repeats this; then starts and stops it until its spool is empty.
pub fn kill_again_and_again(dir: &Dir, outputs: &[&str], draws: &mut Draws) -> Told {
    let flags = [&["--spool", "spool", "--spool-max", "4MiB"], outputs].concat();
    let (load, mut told) = (Load::default(), Told::default());
    let mut under_way: Vec<usize> = (0..CLIENTS).map(|_| load.number()).collect();
    for kill in 0..KILLS {
        let listener = Listener::open(dir, &flags);
        let enough = load.acknowledged.load(Ordering::Relaxed) + usize::try_from(draws.below(15)).expect("few");
        let before = position(dir);
        if kill == 0 {
            told.start = before;
        }
        let ended: Vec<_> = std::thread::scope(|scope| {
            let (load, listener) = (&load, &listener);
            let server = KillAtEnd(listener);
            let clients: Vec<_> =
                under_way.iter().map(|first| scope.spawn(move || load.post(listener, *first))).collect();
            eventually("enough is acknowledged", || load.acknowledged.load(Ordering::Relaxed) >= enough);
            if kill % 10 == 9 {
                eventually("the outputs have more", || position(dir) > before);
            }
            drop(server);
            clients.into_iter().map(|client| client.join().expect("no panic")).collect()
        });
        let (status, said) = listener.wait();
        assert_eq!(status, 128 + 9, "{draws}: {said}");
        under_way = ended.iter().map(|(_, first)| *first).collect();
        for (kept, first) in ended {
            kept.iter().chain([&first]).for_each(|request| told.asked.entry(*request).or_default().push(kill));
            told.kept.extend(kept);
        }
        told.positions.push(position(dir));
    }
    let is_empty = (0..STOPS).any(|_| {
        let said = Listener::open(dir, &flags).stop();
        let leaves_records = said.contains("in the spool for the next run");
        assert!(leaves_records || said.contains("stopped"), "{draws}: {said}");
        if leaves_records {
            // The next run may repeat some of them, as after a kill.
            told.positions.push(position(dir));
        }
        !leaves_records
    });
    assert!(is_empty, "{draws}: each of {STOPS} runs left records in the spool");
    told
}

/// Asserts that every acknowledged event is among the rows. Only an event in flight at a kill is repeated: a client
/// without an answer has sent it again, or the run had not saved the position after it.
pub fn assert_kept(told: &Told, rows: &[Value], draws: &Draws) {
    let mut copies: BTreeMap<usize, BTreeMap<i64, usize>> = BTreeMap::new();
    for row in rows {
        let number = row["properties"]["n"].as_u64().and_then(|n| usize::try_from(n).ok()).expect("a number");
        assert!(event(number, "s").contains(row["event_id"].as_str().expect("an id")), "{row}");
        *copies.entry(number).or_default().entry(row["offset"].as_i64().expect("an offset")).or_default() += 1;
    }
    for number in told.kept.iter().flat_map(|first| *first..first + BATCH) {
        assert!(copies.contains_key(&number), "{draws}: event {number} was acknowledged and is lost");
    }
    for (number, places) in copies {
        let asked = &told.asked[&(number - number % BATCH)];
        assert!(places.len() <= asked.len(), "{draws}: event {number} was kept more often than it was sent");
        for (offset, found) in places {
            let kills = told.positions.iter().skip(asked[0]).filter(|position| **position <= offset).count();
            assert!(found <= 1 + kills, "{draws}: event {number} at {offset}: {found} times after {kills} kills");
        }
    }
}

#[test]
fn an_acknowledged_event_survives_fifty_kills_and_only_what_was_in_flight_comes_again() {
    let (dir, mut draws) = (Dir::new("killed-listener"), Draws::new());
    let told = kill_again_and_again(&dir, &["--to", "out.jsonl", "--dlq", "dead.jsonl"], &mut draws);
    assert_kept(&told, &dir.rows("out.jsonl"), &draws);
}

#[test]
fn an_acknowledged_event_is_in_kafka_after_fifty_kills_and_only_what_was_in_flight_comes_again() {
    let (Some(bench), mut draws) = (Bench::new("killed"), Draws::new()) else { return };
    let [events, dead] = ["events", "dead"].map(|name| bench.topic(name, 2, &[]));
    let [to, dlq] = [&events, &dead].map(|topic| bench.uri(topic, ""));
    let told = kill_again_and_again(&bench.dir, &["--to", &to, "--dlq", &dlq], &mut draws);
    let value = |record: crate::broker::Record| record.value.expect("a value");
    let values = bench.records(&events).into_iter().map(value);
    let rows: Vec<Value> = values.map(|value| serde_json::from_slice(&value).expect("JSON")).collect();
    assert_kept(&told, &rows, &draws);
    assert_eq!(bench.records(&dead), []);
}

#[test]
fn a_run_waits_a_moment_for_the_one_that_has_its_spool_and_no_longer() {
    let dir = Dir::new("spool-lock");
    let flags = ["--spool", "spool", "--to", "out.jsonl", "--dlq", "dead.jsonl"];
    let start = || Listener::start(&dir, "http://127.0.0.1:0", &flags);
    let waiting = ": another run has locked this spool; waiting for the lock";
    let first = Listener::open(&dir, &flags);
    // A run that a loaded machine stops for the whole wait has no time for its first message.
    let said = (0..10).find_map(|_| {
        let (status, said) = start().wait();
        assert_eq!(status, 75, "{said}");
        said.contains(waiting).then_some(said)
    });
    let said = said.expect("one of ten runs reports that it waits");
    assert_eq!(said.matches("another run has locked this spool").count(), 2, "{said}");
    first.stop();
    // A run waits for five seconds. If this test takes most of them, the next round decides.
    let said = (0..10).find_map(|_| {
        let (first, begun) = (Listener::open(&dir, &flags), Instant::now());
        let second = start();
        let is_late = || begun.elapsed() > Duration::from_secs(4);
        eventually("the second run waits", || second.said().contains(waiting) || is_late());
        first.signal(Signal::KILL);
        assert_eq!(first.wait().0, 128 + 9);
        if is_late() { None } else { Some(second.listening().stop()) }
    });
    let said = said.expect("in one of ten rounds the first run is killed within four seconds");
    assert_eq!(said.matches("another run has locked this spool").count(), 1, "{said}");
}

#[test]
fn equal_events_of_a_spool_that_was_made_anew_are_different_events() {
    let dir = Dir::new("spool-anew");
    let flags = ["--spool", "spool", "--to", "out.jsonl", "--dlq", "dead.jsonl"];
    for _ in 0..2 {
        let listener = Listener::open(&dir, &flags);
        for _ in 0..3 {
            assert_eq!(listener.json(r#"{"source":"s","event_type":"started"}"#).status, 200);
            assert_eq!(listener.json(r#"{"source":1}"#).status, 422);
        }
        listener.stop();
        dir.shell("rm -r spool").succeeds();
    }
    let kept = dir.run("evt-validate", &["-q", "--dedup", "10m", "out.jsonl", "-o", "jsonl"]).succeeds().rows();
    assert_eq!(kept.len(), 6, "{kept:?}");
    let stored = dir.run("evt-sink", &["dead.jsonl", "--to", "sqlite:letters.db"]).succeeds();
    assert!(stored.stderr().contains("inserted 6"), "{stored}");
}

/// `--dedup` keeps segments long after the outputs have their records: damage there loses no record, and the message
/// states that.
#[test]
fn damage_in_a_segment_that_is_delivered_names_a_way_on() {
    let dir = Dir::new("delivered");
    let flags = ["--spool", "spool", "--spool-max", "64KiB", "--dedup", "1h", "--to", "out.jsonl"];
    let listener = Listener::open(&dir, &flags);
    (0..60).for_each(|number| assert_eq!(listener.json(&event(number, "s")).status, 200));
    listener.stop();
    let segments = || {
        let names = std::fs::read_dir(dir.path("spool")).expect("it is there").map(|one| one.expect("readable").path());
        let mut logs: Vec<_> = names.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
        logs.sort_unstable();
        logs
    };
    let first = segments().swap_remove(0);
    assert!(segments().len() > 1, "{first:?}");
    let mut bytes = std::fs::read(&first).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&first, bytes).expect("writable");
    let advice = "move it and the files with smaller numbers away; --dedup and Idempotency-Key then no longer know";
    for check in [&["--check"][..], &[]] {
        let run = dir.run("evt-ingest", &[&["http://127.0.0.1:0"][..], &flags, check].concat()).ends_with(65);
        assert!(run.stderr().contains(advice), "{run}");
    }
    std::fs::remove_file(first).expect("it is there");
    let check = dir.run("evt-ingest", &[&["http://127.0.0.1:0", "--check"][..], &flags].concat()).succeeds();
    assert!(format!("{check}").contains("spool: ready"), "{check}");
    let listener = Listener::open(&dir, &flags);
    assert_eq!(listener.json(&event(60, "s")).status, 200);
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 61);
}

/// Opens a server with a spool whose clock shows this time of a day, and posts an event; returns the answer.
fn posted_at(dir: &Dir, time: &str, headers: &[(&str, &str)], body: &str) -> Value {
    let flags = ["http://127.0.0.1:0", "--spool", "spool", "--dedup", "1h", "--to", "out.jsonl"];
    let mut command = dir.command("evt-ingest", &flags);
    let listener = Listener::of(command.env("EVT_NOW", format!("2026-01-01T{time}Z"))).listening();
    let headers = [&[("content-type", "application/json")], headers].concat();
    let response = listener.post(&headers, body.as_bytes());
    assert_eq!(response.status, 200, "{response:?}");
    listener.stop();
    response.json()
}

#[test]
fn an_event_that_was_stored_again_after_its_window_is_a_duplicate_after_a_restart() {
    let dir = Dir::new("spool-again");
    for (time, rows) in
        [("00:00:00", 1), ("00:59:59", 1), ("01:00:00", 2), ("01:00:01", 2), ("01:59:59", 2), ("02:00:00", 3)]
    {
        posted_at(&dir, time, &[], &event(1, "s"));
        assert_eq!(dir.rows("out.jsonl").len(), rows, "{time}");
    }
}

#[test]
fn a_key_that_was_used_again_after_its_window_gives_the_stored_answer_after_a_restart() {
    let dir = Dir::new("spool-key-again");
    // Without ids, a retry is found by its key only.
    let post = |time: &str, number: usize| {
        let body = format!(r#"{{"source":"s","event_type":"t","n":{number}}}"#);
        posted_at(&dir, time, &[("idempotency-key", "k")], &body)["event_ids"].clone()
    };
    let first = post("00:00:00", 1);
    let second = post("01:00:00", 2);
    assert_ne!(first, second);
    for time in ["01:00:01", "01:59:59"] {
        assert_eq!(post(time, 2), second, "{time}");
        assert_eq!(dir.rows("out.jsonl").len(), 2, "{time}");
    }
}

/// Requests to a full spool make the writer remove segments while the stage removes segments, too.
#[test]
fn a_spool_that_is_full_again_and_again_loses_nothing_and_opens_again() {
    let dir = Dir::new("spool-full");
    let flags = ["-q", "--spool", "spool", "--spool-max", "256KiB", "--to", "out.jsonl", "--dlq", "dead.jsonl"];
    // The run settles its outputs once a second. Twelve of these events fill the spool, and even a slow disk stores
    // them in that time.
    let filler = "x".repeat(20_000);
    let (next, kept, refused) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let listener = Listener::open(&dir, &flags);
    let post = || {
        while kept.load(Ordering::Relaxed) < 60
            || refused.load(Ordering::Relaxed) == 0 && kept.load(Ordering::Relaxed) < 1_000
        {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let body = event(number, "s").replace("\"n\":", &format!("\"filler\":\"{filler}\",\"n\":"));
            let answer = listener.json(&body);
            assert!([200, 503].contains(&answer.status), "{answer:?}");
            [&refused, &kept][usize::from(answer.status == 200)].fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| (0..CLIENTS).for_each(|_| drop(scope.spawn(post))));
    assert!(refused.into_inner() > 0, "it was never full");
    listener.stop();
    let files = std::fs::read_dir(dir.path("spool")).expect("it is there").map(|one| one.expect("readable"));
    let bytes: u64 = files.map(|one| one.metadata().expect("readable").len()).sum();
    assert!(bytes <= 257 << 10, "{bytes}");
    Listener::open(&dir, &flags).stop();
    assert_eq!(dir.rows("out.jsonl").len(), kept.into_inner());
}
