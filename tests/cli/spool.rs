//! Who has an acknowledged event: what cannot be promised is refused before anything is read, and what was promised
//! survives any kill.

use crate::door::{Door, event, read, request};
use crate::harness::{Dir, Draws, eventually};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_promise_that_no_output_can_keep_is_refused_before_anything_is_made() {
    let dir = Dir::new("promise");
    dir.write("x.jsonl", "{}\n");
    for (args, why) in [
        ("--spool spool", "a spool into a pipe waits for checkpoints"),
        ("--spool spool --to rows.parquet", "rows.parquet cannot say that it has what was written"),
        ("--spool spool --to null: --dlq dead.parquet", "dead.parquet cannot say that it has what was written"),
        ("--ack output", "--ack memory"),
        ("--spool spool --ack memory --to null:", "when the spool has it"),
        ("--dedup 1h --to null:", "it needs --spool DIR"),
        ("--dedup 1h --ack memory", "it needs --spool DIR"),
        ("--spool-max 1GiB --to null:", "it needs --spool DIR"),
        ("--spool spool --to null:", "evt-ingest http://"),
        ("--ack memory", "evt-ingest http://"),
    ] {
        let args: Vec<&str> = args.split(' ').chain(["x.jsonl"]).collect();
        let run = dir.run("evt-ingest", &args).ends_with(2);
        assert!(run.stderr().contains(why), "{run}");
        assert!(run.stdout().is_empty() && !dir.path("spool").exists(), "{run}");
    }
}

const KILLS: usize = 50;
const CLIENTS: usize = 3;
/// Events of a request.
const BATCH: usize = 7;
const FLAGS: [&str; 8] = ["--spool", "spool", "--spool-max", "4MiB", "--to", "out.jsonl", "--dlq", "dead.jsonl"];

/// What was asked of all doors together; events and requests go by their first event's number.
#[derive(Default)]
struct Load {
    next: AtomicUsize,
    acknowledged: AtomicUsize,
}

impl Load {
    fn number(&self) -> usize {
        self.next.fetch_add(BATCH, Ordering::Relaxed)
    }

    /// Posts until nobody answers, beginning with what nobody has answered yet; the requests that were acknowledged,
    /// and the one that was under way.
    fn post(&self, door: &Door, mut first: usize) -> (Vec<usize>, usize) {
        let mut kept = vec![];
        loop {
            let events: Vec<String> = (first..first + BATCH).map(|number| event(number, "s")).collect();
            let body = format!("{{\"events\":[{}]}}", events.join(","));
            let answer = TcpStream::connect(&door.host).ok().and_then(|mut stream| {
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
                // The spool is full: nothing of it is kept.
                Some(status) => assert_eq!(status, 503),
            }
        }
    }
}

/// What a kill found: the outputs are known to have everything before `position`, and had `rows` rows.
struct Kill {
    position: i64,
    rows: usize,
}

fn position(dir: &Dir) -> i64 {
    let text = std::fs::read_to_string(dir.path("spool/position")).unwrap_or_else(|_| r#"{"offset":0}"#.into());
    let saved: Value = serde_json::from_str(&text).expect("it is whole at any time");
    saved["offset"].as_i64().expect("an offset")
}

fn rows(dir: &Dir) -> usize {
    std::fs::read(dir.path("out.jsonl")).map_or(0, |bytes| memchr::memchr_iter(b'\n', &bytes).count())
}

#[test]
fn an_acknowledged_event_survives_fifty_kills_and_only_what_was_in_flight_comes_again() {
    let dir = Dir::new("killed-door");
    let (load, mut draws) = (Load::default(), Draws::new());
    let (mut kept, mut tried_again, mut kills) = (BTreeSet::new(), BTreeSet::new(), vec![]);
    let mut under_way: Vec<usize> = (0..CLIENTS).map(|_| load.number()).collect();
    for kill in 1..=KILLS {
        let door = Door::open(&dir, &FLAGS);
        let enough = load.acknowledged.load(Ordering::Relaxed) + usize::try_from(draws.below(15)).expect("few");
        let before = position(&dir);
        let ended: Vec<_> = std::thread::scope(|scope| {
            let (load, door) = (&load, &door);
            let clients: Vec<_> = under_way.iter().map(|first| scope.spawn(move || load.post(door, *first))).collect();
            eventually("enough is acknowledged", || load.acknowledged.load(Ordering::Relaxed) >= enough);
            if kill % 10 == 0 {
                eventually("the outputs have more", || position(&dir) > before);
            }
            door.signal(Signal::KILL);
            clients.into_iter().map(|client| client.join().expect("no panic")).collect()
        });
        let (status, said) = door.wait();
        assert_eq!(status, 128 + 9, "{draws}: {said}");
        under_way = ended.iter().map(|(_, first)| *first).collect();
        tried_again.extend(under_way.iter().copied());
        kept.extend(ended.into_iter().flat_map(|(kept, _)| kept));
        kills.push(Kill { position: position(&dir), rows: rows(&dir) });
    }
    let said = Door::open(&dir, &FLAGS).stop();
    assert!(said.contains("stopped") && !said.contains("left in the spool"), "{draws}: {said}");
    assert!(kills.iter().any(|kill| kill.position > 0), "the outputs were never ahead of a kill");
    let copies = copies(&dir);
    for number in kept.iter().flat_map(|first| *first..first + BATCH) {
        assert!(copies.contains_key(&number), "{draws}: event {number} was acknowledged and is lost");
    }
    for (number, copies) in &copies {
        for pair in copies.windows(2) {
            let ((first, offset), (again, other)) = (pair[0], pair[1]);
            let replayed = |kill: &Kill| first < kill.rows && kill.rows <= again && kill.position <= other;
            let asked_twice = offset != other && tried_again.contains(&(number - number % BATCH));
            let in_flight = asked_twice || kills.iter().any(replayed);
            assert!(in_flight, "{draws}: event {number} came in row {first} and again in row {again}");
        }
    }
}

/// The rows of each event, in order, with the offset each has.
fn copies(dir: &Dir) -> BTreeMap<usize, Vec<(usize, i64)>> {
    let mut copies: BTreeMap<usize, Vec<(usize, i64)>> = BTreeMap::new();
    for (index, row) in dir.rows("out.jsonl").iter().enumerate() {
        let number = row["properties"]["n"].as_u64().and_then(|n| usize::try_from(n).ok()).expect("a number");
        assert!(event(number, "s").contains(row["event_id"].as_str().expect("an id")), "{row}");
        copies.entry(number).or_default().push((index, row["offset"].as_i64().expect("an offset")));
    }
    copies
}
