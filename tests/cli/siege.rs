//! Any sequence of requests up to the limits of the front door, while its outputs come and go: it answers afterwards, and every
//! acknowledged event has arrived. `EVT_SIEGE=10000` says how many requests; `EVT_SEED` which.

use crate::broker::{Bench, Broker, Record};
use crate::door::{Door, Response};
use crate::harness::{Draws, eventually};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const RECORD_MAX: usize = 64 << 10;
const BODY_MAX: usize = 256 << 10;
const TOPIC_MAX: usize = 48_000;
/// Sizes around which requests are drawn, and how far around.
const AROUND: [usize; 5] = [1_500, 20_000, TOPIC_MAX, RECORD_MAX, BODY_MAX];
const SPREAD: u64 = 3_000;
/// How long outputs that are back may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(180);

type Ids = BTreeSet<String>;

/// Makes requests.
struct Client {
    draws: Draws,
    made: usize,
    acknowledged: Ids,
    answers: BTreeMap<u16, usize>,
}

impl Client {
    fn size(&mut self) -> usize {
        let around = AROUND[self.draws.below(AROUND.len() as u64) as usize];
        (around + self.draws.below(SPREAD) as usize).saturating_sub(SPREAD as usize / 2)
    }

    /// An event of about so many bytes; some have text that is longer where it is written.
    fn event(&mut self, bytes: usize) -> String {
        self.made += 1;
        let id = format!("00000000-0000-4000-8000-{:012}", self.made);
        let filler = ["x", "ü", "\\\"", "\\u00e9"][self.draws.below(4) as usize];
        let head = format!(r#"{{"event_id":"{id}","source":"s","event_type":"t","filler":""#);
        format!("{head}{}\"}}", filler.repeat(bytes.saturating_sub(head.len() + 2) / filler.len()))
    }

    /// A body and its type.
    fn body(&mut self) -> (&'static str, String) {
        let bytes = self.size();
        match self.draws.below(10) {
            0 => ("application/json", "x".repeat(bytes)),
            1 => ("application/json", format!("{{\"source\":\"s\",\"filler\":\"{}\"}}", "x".repeat(bytes))),
            2..4 => {
                let count = 1 + self.draws.below(12) as usize;
                let events: Vec<String> = (0..count).map(|_| self.event(bytes / count)).collect();
                ("application/x-ndjson", events.join("\n"))
            }
            4..6 => {
                let (small, large) = (self.event(300), self.event(bytes));
                ("application/json", format!("{{\"events\":[{small},{large}]}}"))
            }
            _ => ("application/json", self.event(bytes)),
        }
    }

    fn send(&mut self, door: &Door) -> Response {
        let (kind, body) = self.body();
        let answer = door.post(&[("content-type", kind)], body.as_bytes());
        *self.answers.entry(answer.status).or_default() += 1;
        assert!([200, 400, 413, 422, 503].contains(&answer.status), "{}: {answer:?}", self.draws);
        if answer.status == 200 {
            let ids = answer.json()["event_ids"].as_array().expect("ids").clone();
            self.acknowledged.extend(ids.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        answer
    }
}

/// The ids of events in a topic.
fn ids(records: &[Record]) -> Ids {
    let id = |record: &Record| {
        let value: Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
        Some(value["event_id"].as_str()?.to_owned())
    };
    records.iter().filter_map(id).collect()
}

/// The ids of events that an output refused after they were acknowledged: letters begin with the row.
fn refused(letters: &[Record]) -> Ids {
    let is_refused = |letter: &&Record| {
        letter.headers.iter().any(|(name, value)| name == "evt.error_type" && value.as_deref() == Some(b"SinkError"))
    };
    let id = |letter: &Record| {
        let text = String::from_utf8_lossy(letter.value.as_deref()?).into_owned();
        Some(text.strip_prefix("{\"event_id\":\"")?.get(..36)?.to_owned())
    };
    letters.iter().filter(is_refused).map(|letter| id(letter).expect("an id")).collect()
}

/// The siege of a door with these outputs besides a topic, which is all that is sure to hold any event.
fn siege((bench, broker): (&Bench, &Broker), name: &str, besides: &[&str], requests: usize) {
    let limit = [("max.message.bytes", TOPIC_MAX.to_string())];
    let limit = limit.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (events, dead) = (bench.topic(name, 2, &limit), bench.topic(&format!("{name}-dead"), 1, &limit));
    let (to, dlq, spool) = (bench.uri(&events, "?wait=10m"), bench.uri(&dead, "?wait=10m"), format!("{name}-spool"));
    let mut args = vec!["-q", "--max-record", "64KiB", "--max-body", "256KiB", "--spool", &spool, "--to", &to];
    args.extend(["--dlq", &dlq]);
    args.extend(besides.iter().flat_map(|output| ["--to", output]));
    let door = Door::open(&bench.dir, &args);
    // From then on the door knows what the topic takes.
    let ends = [format!("/{events}\""), format!("/{events}?")];
    let is_up = |line: &str| line.starts_with("evt_output_up{") && line.ends_with(" 1.0");
    let is_open = |line: &str| is_up(line) && ends.iter().any(|end| line.contains(end));
    eventually("the topic is open", || door.get("/metrics").body.lines().any(is_open));
    let mut client = Client { draws: Draws::new(), made: 0, acknowledged: Ids::new(), answers: BTreeMap::new() };
    let (mut left, mut outages) = (0, 0);
    for request in 0..requests {
        if left == 0 && client.draws.below(150) == 0 {
            outages += 1;
            left = 10 + client.draws.below(40);
            broker.services(&["pause", "kafka"]);
        }
        client.send(&door);
        if left > 0 && (left == 1 || request + 1 == requests) {
            broker.services(&["resume", "kafka"]);
        }
        left = left.saturating_sub(1);
    }
    assert_eq!(door.get("/healthz").status, 200);
    let start = Instant::now();
    loop {
        let (arrived, refused) = (ids(&bench.records(&events)), refused(&bench.records(&dead)));
        let missing = client.acknowledged.iter().filter(|id| !arrived.contains(*id) && !refused.contains(*id)).count();
        if missing == 0 {
            // Where there is no other output the door itself refuses what the topic cannot hold.
            assert!(!besides.is_empty() || refused.is_empty(), "{name}: acknowledged and refused: {refused:?}");
            break;
        }
        assert!(start.elapsed() < CATCH_UP, "{name}: {missing} acknowledged events are missing: {}", client.draws);
        std::thread::park_timeout(Duration::from_millis(500));
    }
    let said = door.stop();
    eprintln!("{name}: {requests} requests, {outages} outages, answers {:?}, {said}", client.answers);
    for output in besides {
        let line = format!("evt-view '{output}' -q -o jsonl --columns event_id");
        let held: Ids =
            bench.dir.shell(&line).succeeds().rows().iter().map(|row| row["event_id"].to_string()).collect();
        let missing = client.acknowledged.iter().filter(|id| !held.contains(&format!("\"{id}\""))).count();
        assert_eq!(missing, 0, "{output}");
    }
    assert!(client.acknowledged.len() > requests / 4 && client.answers.len() >= 3, "{:?}", client.answers);
}

#[test]
fn the_front_door_survives_any_sequence_of_requests_while_its_outputs_come_and_go() {
    let Some(mut bench) = Bench::new("siege") else { return };
    let requests = std::env::var("EVT_SIEGE").ok().and_then(|count| count.parse().ok()).unwrap_or(400);
    let broker = Broker { state: bench.dir.path("services"), name: "kafka" };
    bench.brokers = broker.start();
    siege((&bench, &broker), "topic", &[], requests / 2);
    let mut all = vec!["all.jsonl", "all.csv", "sqlite:all.db?table=raw_events"];
    let postgres =
        std::env::var("EVT_POSTGRES").map(|at| format!("{at}?schema=siege_{}&table=raw_events", std::process::id()));
    all.extend(postgres.as_deref());
    siege((&bench, &broker), "all", &all, requests - requests / 2);
}
