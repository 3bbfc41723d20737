//! Random requests up to the limits of the HTTP server, while its outputs fail and return and it is killed itself. It
//! answers afterwards, and every acknowledged event is in the outputs. `EVT_SIEGE=10000` sets the number of requests,
//! `EVT_SEED` the seed.

use crate::broker::{Bench, Broker};
use crate::harness::{Dir, eventually};
use crate::listener::{Listener, Response, read};
use crate::siege_requests::{Content, ExpectedOutcome, Generator, Request, TOPIC_MAX};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::{Duration, Instant};

/// Maximum time that outputs need to catch up after their return.
const CATCH_UP: Duration = Duration::from_secs(180);
/// Minimum and maximum number of requests during one outage.
const OUTAGE: (usize, usize) = (5, 300);
/// Size of a spool that an outage fills: with the default seed, the requests during one outage store 1.3 MB.
const SPOOL_MAX: &str = "1MiB";
/// Maximum number of requests with a key that may be repeated.
const KEYS_HELD: usize = 50;
/// Maximum number of runs that empty the spool after the last request.
const REOPENED_MAX: usize = 5;

/// The ids of events by their source; every event has its own source.
type Events = BTreeMap<String, Vec<String>>;

/// A request with a key, and its answer.
struct Keyed {
    content: Content,
    key: String,
    answer: (u16, String),
}

/// Sends requests and checks the answers.
struct Client {
    generator: Generator,
    /// Whether the spool is so small that it may be full, and drops keys first.
    is_small: bool,
    /// The ids in answers.
    acknowledged: BTreeMap<String, BTreeSet<String>>,
    /// How often each event has been stored, at most.
    kept: BTreeMap<String, usize>,
    rejected: usize,
    /// The ids of events that the topic rejected before the server knew the topic's limit.
    oversized: BTreeSet<String>,
    keyed: Vec<Keyed>,
    answers: BTreeMap<String, usize>,
}

impl Client {
    fn new(row_max: Option<usize>, is_small: bool) -> Self {
        Self {
            generator: Generator::new(row_max),
            is_small,
            acknowledged: BTreeMap::new(),
            kept: BTreeMap::new(),
            rejected: 0,
            oversized: BTreeSet::new(),
            keyed: vec![],
            answers: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &str) {
        *self.answers.entry(what.to_owned()).or_default() += 1;
    }

    /// Sends a new or a repeated request; returns the status.
    fn step(&mut self, listener: &Listener) -> u16 {
        if !self.keyed.is_empty() && self.generator.once_in(6) {
            return self.repeat(listener);
        }
        let request = self.generator.request();
        self.send(&request, listener)
    }

    fn send(&mut self, request: &Request, listener: &Listener) -> u16 {
        let answer = self.answer(request, listener);
        self.judge(request, &answer);
        answer.status
    }

    fn answer(&self, request: &Request, listener: &Listener) -> Response {
        listener.raw(&request.wire()).unwrap_or_else(|| panic!("{}: no answer", self.generator.draws))
    }

    /// Sends small requests until one is accepted.
    fn wait_for_room(&mut self, listener: &Listener) {
        eventually("it takes requests", || {
            let request = self.generator.small();
            self.send(&request, listener) == 200
        });
    }

    /// Sends a request again with its key, or another request with that key.
    fn repeat(&mut self, listener: &Listener) -> u16 {
        let at = self.generator.below(self.keyed.len());
        let Keyed { content, key, answer: stored } = &self.keyed[at];
        let (content, key, stored) = (content.clone(), Some(key.clone()), stored.clone());
        let is_other = self.generator.once_in(3);
        let content = if is_other { self.generator.content() } else { content };
        let request = self.generator.dress(content, key);
        let answer = self.answer(&request, listener);
        let is_conflict = answer.status == 422 && answer.body.contains("used before with another body");
        match is_other {
            _ if request.is_refused => self.judge(&request, &answer),
            false if (answer.status, &answer.body) == (stored.0, &stored.1) => {
                self.count("repeated");
                if self.is_small {
                    // The ids in the answer are the same, whether the server remembered the key or not.
                    self.keep(&request.content);
                }
            }
            true if is_conflict => self.count("conflict"),
            _ if self.is_small || request.refusals.contains(&answer.status) => self.judge(&request, &answer),
            _ => panic!("{}: {stored:?} was answered, then {answer:?}", self.generator.draws),
        }
        answer.status
    }

    /// Compares an answer with the expected outcome of the request, and records the acknowledged events.
    fn judge(&mut self, request: &Request, answer: &Response) {
        let told = answer.json();
        let draws = &self.generator.draws;
        let Some(ids) = told["event_ids"].as_array() else {
            let is_full = answer.body.contains("the spool is full") && answer.header("retry-after").is_some();
            let is_put_off = self.is_small && answer.status == 503 && is_full;
            assert!(request.refusals.contains(&answer.status) || is_put_off, "{draws}: {answer:?}");
            return self.count(&answer.status.to_string());
        };
        let records = &request.content.records;
        assert!(!request.is_refused && ids.len() == records.len(), "{draws}: {answer:?}");
        let errors = told["errors"].as_array().expect("errors");
        let error =
            |index| Some(errors.iter().find(|error| error["index"] == index)?["error_type"].as_str()?.to_owned());
        let (mut accepted, mut unread) = (0, true);
        for (index, (record, id)) in records.iter().zip(ids).enumerate() {
            let (id, error) = (id.as_str(), error(index));
            match (record.outcome, id, error.as_deref()) {
                (ExpectedOutcome::Accepted | ExpectedOutcome::Unsure, Some(_), None)
                | (ExpectedOutcome::Unsure, None, Some("TooLargeError")) => {}
                (ExpectedOutcome::Rejected(wanted), None, Some(error)) if error == wanted => {}
                _ => panic!("{draws}: {record:?}: {answer:?}"),
            }
            unread &= error.as_deref() == Some("ParseError");
            let (Some(id), Some(source)) = (id, &record.source) else {
                self.rejected += 1;
                continue;
            };
            accepted += 1;
            assert!(record.id.as_deref().is_none_or(|named| named == id), "{draws}: {record:?}: {answer:?}");
            self.acknowledged.entry(source.clone()).or_default().insert(id.to_owned());
            *self.kept.entry(source.clone()).or_default() += 1;
        }
        let status = if accepted > 0 { 200 } else { [422, 400][usize::from(unread)] };
        assert_eq!((answer.status, &told["accepted"]), (status, &accepted.into()), "{draws}: {answer:?}");
        self.count(&answer.status.to_string());
        if let Some(key) = &request.key {
            let (content, key) = (request.content.clone(), key.clone());
            self.keyed.retain(|keyed| keyed.key != key);
            self.keyed.push(Keyed { content, key, answer: (answer.status, answer.body.clone()) });
            let more = self.keyed.len().saturating_sub(KEYS_HELD);
            self.keyed.drain(..more);
        }
    }

    /// The server may store all of its events once more.
    fn keep(&mut self, content: &Content) {
        for source in content.records.iter().filter_map(|record| record.source.as_ref()) {
            *self.kept.entry(source.clone()).or_default() += 1;
        }
    }

    /// Repeats a request without an answer, which the server may have stored, as `again`.
    fn send_again(&mut self, request: &Request, again: &Request, listener: &Listener) {
        self.keep(&request.content);
        self.send(again, listener);
    }
}

/// Whether the URI of an output names a database.
fn is_store(output: &str) -> bool {
    ["sqlite:", "postgres"].iter().any(|scheme| output.starts_with(scheme))
}

/// An HTTP server, its outputs, and the servers behind them, which stop and restart.
struct Siege<'a> {
    name: &'a str,
    dir: &'a Dir,
    bench: Option<&'a Bench>,
    outputs: Vec<String>,
    /// Topics of events and of dead letters.
    topics: Option<[String; 2]>,
    servers: Vec<&'a Broker>,
    spool_max: Option<&'a str>,
    requests: usize,
    /// The approximate number of kills of the HTTP server.
    kills: usize,
}

/// A stopped server.
struct Outage<'a> {
    server: &'a Broker,
    way_back: &'static str,
    /// The number of requests until it restarts.
    left: usize,
    until_full: bool,
}

/// The numbers of kills and outages so far.
#[derive(Default, Debug)]
struct Blows {
    outages: usize,
    kills: usize,
}

impl Siege<'_> {
    fn open(&self) -> Listener {
        let spool = format!("{}-spool", self.name);
        let dead = format!("{}-dead.jsonl", self.name);
        let dlq = self.topics.as_ref().zip(self.bench).map_or(dead, |([_, dead], bench)| bench.uri(dead, ""));
        let mut args = vec!["--max-record", "64KiB", "--max-body", "256KiB", "--spool", &spool, "--dlq", &dlq];
        args.extend(self.spool_max.iter().flat_map(|max| ["--spool-max", max]));
        args.extend(self.outputs.iter().flat_map(|output| ["--to", output]));
        Listener::open(self.dir, &args)
    }

    /// Waits until the server has opened the topic.
    fn wait_for_topic(&self, listener: &Listener) {
        let Some([events, _]) = &self.topics else { return };
        let is_open = |line: &str| {
            line.starts_with("evt_output_up{") && line.contains(&format!("/{events}\"")) && line.ends_with(" 1.0")
        };
        eventually("the topic is open", || listener.get("/metrics").body.lines().any(is_open));
    }

    /// Waits until the server rejects events that are too large for the topic. Brokers may answer its query of the
    /// limit too late; it sends another query when the topic has rejected an event.
    fn wait_for_limit(&self, client: &mut Client, listener: &Listener) {
        if client.generator.row_max.is_none() {
            return;
        }
        eventually("the server knows the limit of the topic", || {
            let request = client.generator.oversized();
            if client.send(&request, listener) != 200 {
                return true;
            }
            let known = client.oversized.len();
            eventually("the topic rejects the event", || {
                client.oversized = self.refused();
                client.oversized.len() > known
            });
            false
        });
        // The random requests must have each of the expected answers themselves.
        client.answers.clear();
    }

    /// Number of requests from the beginning of one outage to that of the next.
    fn gap(&self) -> usize {
        (self.requests / (2 * self.servers.len() + self.requests / 250).max(1)).max(2)
    }

    /// Stops the next server.
    fn begin(&self, blows: &mut Blows, client: &mut Client) -> Outage<'_> {
        let server = self.servers[blows.outages % self.servers.len()];
        // Each server in both ways.
        let is_kill = (blows.outages / self.servers.len() + blows.outages % self.servers.len()) % 2 == 1;
        let (down, way_back) = if is_kill { ("kill", "start") } else { ("pause", "resume") };
        server.services(&[down, server.name]);
        let until_full = self.spool_max.is_some() && !blows.outages.is_multiple_of(3);
        blows.outages += 1;
        let left = if until_full { OUTAGE.1 } else { OUTAGE.0 + client.generator.below(50) };
        Outage { server, way_back, left: left.min(self.gap() - 1), until_full }
    }

    /// Kills the HTTP server during a request, or right after its answer, and restarts it.
    fn kill(&self, client: &mut Client, listener: Listener) -> Listener {
        let request = client.generator.request();
        // Drawn in any case: the draws must not depend on when the server is killed.
        let again = client.generator.dress(request.content.clone(), request.key.clone());
        let mut stream = listener.connect();
        // A server that rejects the request may have closed the connection already.
        let _ = stream.write_all(&request.wire());
        let before = client.generator.once_in(2).then(|| read(&mut stream)).flatten();
        listener.signal(Signal::KILL);
        let answer = before.or_else(|| read(&mut stream));
        let (ended, said) = listener.wait();
        assert_eq!(ended, 128 + 9, "{said}");
        let listener = self.open();
        match answer {
            Some(answer) => client.judge(&request, &answer),
            None => client.send_again(&request, &again, &listener),
        }
        listener
    }

    /// Sends all requests; returns the HTTP server, with all servers available.
    fn run(&self, client: &mut Client) -> (Listener, Blows) {
        let (mut listener, mut blows, mut outage) = (self.open(), Blows::default(), None);
        self.wait_for_topic(&listener);
        self.wait_for_limit(client, &listener);
        let gap = self.gap();
        for request in 0..self.requests {
            if outage.is_none() && !self.servers.is_empty() && request % gap == gap / 4 {
                outage = Some(self.begin(&mut blows, client));
            }
            if self.kills > 0 && request % (self.requests / self.kills) == 0 && request > 0 {
                blows.kills += 1;
                listener = self.kill(client, listener);
            }
            let status = client.step(&listener);
            let Some(current) = &mut outage else {
                if status == 503 {
                    client.wait_for_room(&listener);
                }
                continue;
            };
            current.left -= 1;
            if current.left == 0 || current.until_full && status == 503 || request + 1 == self.requests {
                current.server.services(&[current.way_back, current.server.name]);
                outage = None;
            }
        }
        assert_eq!(listener.get("/healthz").status, 200);
        client.wait_for_room(&listener);
        (listener, blows)
    }

    /// The rows of an output.
    fn rows(&self, output: &str) -> Events {
        let mut events = Events::new();
        let mut add = |row: &Value| {
            let text = |name: &str| row[name].as_str().expect("text").to_owned();
            events.entry(text("source")).or_default().push(text("event_id"));
        };
        match (&self.topics, self.bench) {
            (Some([topic, _]), Some(bench)) if output.starts_with("kafka:") => {
                let values = bench.records(topic).into_iter().map(|record| record.value.expect("a value"));
                values.for_each(|value| add(&serde_json::from_slice(&value).expect("JSON")));
            }
            _ => {
                let input = if is_store(output) { format!("{output}?table=raw_events") } else { output.to_owned() };
                let args = [input.as_str(), "-q", "-o", "jsonl", "--columns", "source,event_id"];
                self.dir.run("evt-view", &args).succeeds().rows().iter().for_each(add);
            }
        }
        events
    }

    /// Error types and payload starts of dead letters. The letter of a row that an output rejected begins with the row.
    fn letters(&self) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Some(([_, dead], bench)) = self.topics.as_ref().zip(self.bench) else {
            let rows = self.dir.rows(&format!("{}-dead.jsonl", self.name));
            let both = |row: &Value| {
                ["error_type", "original_payload"].map(|name| row[name].as_str().unwrap_or("").to_owned())
            };
            return rows.iter().map(both).map(|[error, payload]| (error, payload)).collect();
        };
        let error = |headers: Vec<(String, Option<Vec<u8>>)>| {
            let found = headers.into_iter().find(|(name, _)| name == "evt.error_type");
            text(&found.and_then(|(_, value)| value).expect("a type"))
        };
        let letter = |record: crate::broker::Record| (error(record.headers), text(&record.value.unwrap_or_default()));
        bench.records(dead).into_iter().map(letter).collect()
    }

    /// The ids of acknowledged events that the topic rejected.
    fn refused(&self) -> BTreeSet<String> {
        let letters = self.letters().into_iter().filter(|(error, _)| error == "SinkError");
        let id = |row: &str| Some(row.strip_prefix("{\"event_id\":\"")?.get(..36)?.to_owned());
        letters.map(|(_, row)| id(&row).expect("an id")).collect()
    }

    /// Waits until the topic has all acknowledged events.
    fn wait_for_events(&self, client: &Client) {
        let Some(topic) = self.outputs.iter().find(|output| output.starts_with("kafka:")) else { return };
        let start = Instant::now();
        loop {
            let (rows, refused) = (self.rows(topic), self.refused());
            let is_there = |(source, ids): &(&String, &BTreeSet<String>)| {
                rows.contains_key(*source) || ids.iter().any(|id| refused.contains(id))
            };
            let missing = client.acknowledged.iter().filter(|event| !is_there(event)).count();
            if missing == 0 {
                return;
            }
            let draws = &client.generator.draws;
            assert!(start.elapsed() < CATCH_UP, "{}: {missing} acknowledged events are missing: {draws}", self.name);
            std::thread::park_timeout(Duration::from_millis(500));
        }
    }

    /// Asserts that every acknowledged event is in every output with its id, that no rejected event is, and that only
    /// kills, and stops that left records in the spool, cause repetitions.
    fn check(&self, client: &Client, kills: usize) {
        let refused = self.refused();
        let is_expected = self.outputs.len() > 1 || refused.is_subset(&client.oversized);
        assert!(is_expected, "{}: acknowledged and refused: {refused:?}", self.name);
        for output in &self.outputs {
            let rows = self.rows(output);
            let is_topic = output.starts_with("kafka:");
            let is_store = is_store(output);
            for (source, ids) in &client.acknowledged {
                let is_refused = is_topic && ids.iter().any(|id| refused.contains(id));
                assert!(
                    is_refused || rows.contains_key(source),
                    "{output}: {source} {ids:?} was acknowledged and is lost"
                );
            }
            for (source, ids) in &rows {
                let kept = client.kept.get(source).copied().unwrap_or(0);
                let most = if is_store { kept } else { kept + kills * kept.min(1) };
                assert!((1..=most).contains(&ids.len()), "{output}: {source} {ids:?} was kept {kept} times");
                let answered = client.acknowledged.get(source).filter(|_| kept == 1);
                assert!(
                    answered.is_none_or(|told| ids.iter().all(|id| told.contains(id))),
                    "{output}: {source} {ids:?}"
                );
            }
        }
        let dead = self.letters().iter().filter(|(error, _)| error != "SinkError").count();
        let most = if kills == 0 { client.rejected } else { usize::MAX };
        assert!((client.rejected..=most).contains(&dead), "{}: {dead} letters of {}", self.name, client.rejected);
    }

    /// Sends all requests under faults, and checks the outputs.
    fn lay(&self, row_max: Option<usize>) {
        let (start, mut client) = (Instant::now(), Client::new(row_max, self.spool_max.is_some()));
        let (listener, blows) = self.run(&mut client);
        self.wait_for_events(&client);
        let (mut said, mut reopened) = (listener.stop(), 0);
        while said.contains("in the spool for the next run") {
            assert!(reopened < REOPENED_MAX, "{}: records remain after {reopened} more runs: {said}", self.name);
            said = self.open().stop();
            reopened += 1;
        }
        let (name, requests, answers) = (self.name, self.requests, &client.answers);
        let events = client.acknowledged.len();
        eprintln!(
            "{name}: {requests} requests, {events} events acknowledged, {blows:?}, answers {answers:?}, {:?}",
            start.elapsed()
        );
        self.check(&client, blows.kills + reopened);
        // The answer of a small spool to a repeated key depends on whether it has dropped the key.
        let last = if self.spool_max.is_some() { "503" } else { "conflict" };
        let wanted = ["200", "400", "413", "422", "431", "repeated", last];
        assert!(wanted.iter().all(|answer| answers.contains_key(*answer)), "{answers:?}");
        assert!(events > requests / 4 && (blows.kills > 0) == (self.kills > 0), "{events} {blows:?}");
        assert!(blows.outages >= self.servers.len() * 2, "{blows:?}");
    }
}

fn requests() -> usize {
    std::env::var("EVT_SIEGE").ok().and_then(|count| count.parse().ok()).unwrap_or(400)
}

/// Returns the number of kills for this many requests.
fn kills(requests: usize) -> usize {
    5 + requests / 500
}

/// These outputs accept every event, and the spool has no small limit: the server remembers each key across kills.
#[test]
fn the_listener_survives_any_sequence_of_requests_while_it_is_killed() {
    let dir = Dir::new("siege-kills");
    let outputs = ["kills.jsonl", "kills.csv", "sqlite:kills.db"].map(str::to_owned).to_vec();
    let requests = requests() / 4;
    let kills = kills(requests);
    Siege {
        name: "kills",
        dir: &dir,
        bench: None,
        outputs,
        topics: None,
        servers: vec![],
        spool_max: None,
        requests,
        kills,
    }
    .lay(None);
}

#[test]
fn the_listener_survives_any_sequence_of_requests_while_its_outputs_come_and_go() {
    let Some(mut bench) = Bench::new("siege") else { return };
    // A directory that PostgreSQL's own user may enter: root cannot run PostgreSQL.
    let state = std::env::temp_dir().join(format!("evt-{}", bench.prefix));
    let [kafka, postgres] = ["kafka", "postgres"].map(|name| Broker { state: state.clone(), name });
    kafka.services(&["start", "kafka", "postgres"]);
    bench.brokers = kafka.start();
    let limit = TOPIC_MAX.to_string();
    let topics = |name: &str| {
        let topic = |name: &str, partitions| bench.topic(name, partitions, &[("max.message.bytes", &limit)]);
        [topic(name, 2), topic(&format!("{name}-dead"), 1)]
    };
    let (bench, dir, requests) = (&bench, &bench.dir, requests());
    let alone = topics("topic");
    let outputs = vec![bench.uri(&alone[0], "")];
    let (topics_alone, servers) = (Some(alone), vec![&kafka]);
    Siege {
        name: "topic",
        dir,
        bench: Some(bench),
        outputs,
        topics: topics_alone,
        servers,
        spool_max: None,
        requests: requests / 4,
        kills: 0,
    }
    .lay(Some(TOPIC_MAX));
    let among = topics("all");
    let mut outputs = vec![bench.uri(&among[0], "")];
    outputs.extend(["all.jsonl", "all.csv", "sqlite:all.db"].map(str::to_owned));
    outputs.push(postgres.start());
    let servers = vec![&kafka, &postgres];
    Siege {
        name: "all",
        dir,
        bench: Some(bench),
        outputs,
        topics: Some(among),
        servers,
        spool_max: Some(SPOOL_MAX),
        requests: requests / 2,
        kills: kills(requests / 2),
    }
    .lay(None);
}
