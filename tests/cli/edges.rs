//! The whole pipeline over real servers (HTTP, Kafka, a registry, Redis and Postgres), checked by the clients of each
//! server.

use crate::broker::{Bench, Broker};
use crate::harness::{Dir, LONG_WAIT, ROOT, ask, eventually, eventually_within, in_ci, python};
use crate::listener::{Listener, event};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A metric with two dimensions.
const METRICS: &str = "[[metric]]\nname = \"events\"\nby = [\"event_type\", \"source\"]\nsize = \"1m\"\n";

/// All servers and clients, and topics for one test only.
pub struct Edges {
    pub bench: Bench,
    pub registry: String,
    pub redis: String,
    pub postgres: String,
    pub python: String,
}

impl Edges {
    /// Returns `None`, with one message, if one of them is missing. CI requires all.
    pub fn new(name: &str) -> Option<Self> {
        let server = |variable: &str| {
            let found = std::env::var(variable).ok();
            assert!(found.is_some() || !in_ci(), "{variable} is not set (scripts/services)");
            found
        };
        let bench = Bench::live(name)?;
        let (registry, redis, postgres) = (server("EVT_REGISTRY"), server("EVT_REDIS"), server("EVT_POSTGRES"));
        let (Some(registry), Some(redis), Some(postgres)) = (registry, redis, postgres) else {
            eprintln!("skipped: a registry, Redis or Postgres is missing (scripts/services)");
            return None;
        };
        Some(Self { bench, registry, redis, postgres, python: python()? })
    }

    /// Subjects for one test only: an event type has its schemas under PREFIX-TYPE.
    pub fn register(&self) -> String {
        for number in ["1", "2"] {
            for entry in std::fs::read_dir(format!("{ROOT}/examples/schemas")).expect("it is there") {
                let path = entry.expect("readable").path();
                let file = path.join(format!("{number}.avsc"));
                if file.exists() {
                    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                    let subject = format!("{}-{name}", self.bench.prefix);
                    let file = file.to_string_lossy();
                    let args = ["register", &file, "--subject", &subject, "--schemas", &self.registry];
                    self.bench.dir.run("evt-schema", &args).succeeds();
                }
            }
        }
        format!("{}?subject=topic-record&topic={}", self.registry, self.bench.prefix)
    }

    /// How many records kcat finds in a topic.
    pub fn kcat(&self, topic: &str) -> u64 {
        let args =
            ["-b", &self.bench.brokers, "-m", "60", "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%o\n"];
        self.bench.dir.run("kcat", &args).succeeds().text().lines().count() as u64
    }

    /// The metrics in Postgres, by psql.
    pub fn psql(&self, schema: &str) -> Metrics {
        let sql = format!(
            "SELECT json_build_object('window_end', to_char(window_end AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
             'dimensions', dimensions, 'value', value) FROM {schema}.aggregated_metrics"
        );
        let args = ["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", &sql, &self.postgres];
        metrics(self.bench.dir.run("psql", &args).succeeds().rows())
    }

    /// The metrics in Redis, by redis-cli: each key of a window below the prefix.
    pub fn redis_cli(&self, prefix: &str) -> Metrics {
        let script = r#"redis-cli -u "$0" --scan --pattern "$1*/*" | sed 's/.*/HMGET & window_end dimensions value/' \
            | redis-cli -u "$0""#;
        let run = self.bench.dir.run("bash", &["-o", "pipefail", "-c", script, &self.redis, prefix]).succeeds();
        let (text, mut found) = (run.text(), vec![]);
        let mut lines = text.lines();
        while let (Some(end), Some(dimensions), Some(value)) = (lines.next(), lines.next(), lines.next()) {
            let parsed =
                |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            found.push(json!({"window_end": end, "dimensions": parsed(dimensions), "value": parsed(value)}));
        }
        metrics(found)
    }
}

/// The result of each window and set of dimensions.
pub type Metrics = BTreeMap<String, u64>;

pub fn metrics(rows: Vec<Value>) -> Metrics {
    let count = rows.len();
    let one = |row: Value| {
        let (end, dimensions) = (&row["window_end"], &row["dimensions"]);
        let key = format!("{} {} {}", end, dimensions["event_type"], dimensions["source"]);
        (key, row["value"].as_f64().expect("a number") as u64)
    };
    let found: Metrics = rows.into_iter().map(one).collect();
    assert_eq!(found.len(), count, "a window occurs twice");
    found
}

pub fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

/// The counts that a stage wrote by `--stats`, in the requested order.
pub fn counts<const N: usize>(dir: &Dir, file: &str, names: [&str; N]) -> [u64; N] {
    let stats = parsed(&dir.bytes(file));
    names.map(|name| stats["counts"][name].as_u64().unwrap_or_else(|| panic!("{name}: {stats}")))
}

/// Posts a file to the HTTP server in batches over one connection; returns the answers.
pub fn post(edges: &Edges, listener: &Listener, file: &str) -> Value {
    let url = format!("http://{}", listener.host);
    parsed(ask(&edges.bench.dir, &edges.python, "post.py", &[&url, file, "1000"]).stdout())
}

/// The topics of a pipeline: its events, those that are invalid, and late ones.
struct Topics<'a> {
    events: &'a str,
    invalid: &'a str,
    late: &'a str,
}

/// From the topic through validation and windows into both stores; pyarrow reads the frames in between.
fn downstream(edges: &Edges, topics: &Topics<'_>, schemas: &str) -> Metrics {
    let Topics { events, invalid, late } = *topics;
    let (bench, prefix) = (&edges.bench, &edges.bench.prefix);
    let from = bench.uri(events, &format!("?format=avro&end=latest&schemas={}", edges.registry));
    let line = format!(
        "evt-validate '{from}' --time client_timestamp --schemas '{schemas}' --dedup 10m --dlq '{}' --stats validate.json \
         | evt-window -m metrics.toml --late '{}' --stats window.json | tee metrics.arrows \
         | evt-sink --to '{}?prefix={prefix}:' --to '{}?schema={}' --stats sink.json",
        bench.uri(invalid, ""),
        bench.uri(late, ""),
        edges.redis,
        edges.postgres,
        prefix.replace('-', "_"),
    );
    bench.dir.shell(&line).succeeds();
    metrics(ask(&bench.dir, &edges.python, "metrics.py", &["metrics.arrows"]).rows())
}

#[test]
fn events_over_http_and_kafka_come_to_the_truth_in_every_store_and_for_every_client() {
    let Some(edges) = Edges::new("edges") else { return };
    let (bench, dir) = (&edges.bench, &edges.bench.dir);
    dir.write("metrics.toml", METRICS);
    dir.shell(
        "evt-gen --events 200k --rate 500 --seed 42 --start 2024-01-15T00:00:00Z --schema-versions 2 --late 0.4% \
         --duplicates 0.3% --malformed 0.2% --invalid 0.2% --truth truth.json --time client_timestamp --dedup 10m \
         --validated --by event_type,source > events.jsonl",
    )
    .succeeds();
    let [events, dead, invalid, late] = ["events", "dead", "invalid", "late"].map(|name| bench.topic(name, 1, &[]));
    let schemas = edges.register();
    let to = bench.uri(&events, &format!("?format=avro&schemas={}", edges.registry));
    let dlq = bench.uri(&dead, "");
    let flags =
        ["--spool", "spool", "--time", "client_timestamp", "--to", &to, "--dlq", &dlq, "--stats", "ingest.json"];
    let listener = Listener::open(dir, &flags);
    let answered = post(&edges, &listener, "events.jsonl");
    // A run that is stopped leaves what a slow broker does not take to the next one.
    eventually_within(LONG_WAIT, "Kafka has all of it", || {
        answered["accepted"] == edges.kcat(&events) && answered["rejected"] == edges.kcat(&dead)
    });
    listener.stop();

    let arguments = [&bench.brokers, &edges.registry, &events, "events.jsonl"];
    let seen = std::thread::scope(|scope| {
        let seen = scope.spawn(|| parsed(ask(dir, &edges.python, "edges.py", &arguments).stdout()));
        let frames = downstream(&edges, &Topics { events: &events, invalid: &invalid, late: &late }, &schemas);
        let truth = parsed(&dir.bytes("truth.json"));
        let wanted = metrics(truth["windows"].as_array().expect("windows").clone());
        assert!(wanted.len() > 200, "{}", wanted.len());
        assert!(frames == wanted, "pyarrow sees other metrics in the frames");
        assert!(edges.psql(&bench.prefix.replace('-', "_")) == wanted, "psql sees other metrics");
        assert!(edges.redis_cli(&format!("{}:", bench.prefix)) == wanted, "redis-cli sees other metrics");
        seen.join().expect("the oracle agrees")
    });
    assert_law(&edges, [&events, &dead, &invalid, &late], &answered, &seen);
}

/// No event is lost or added between any two places: the numbers sent, answered, stored in each topic and counted by
/// each stage agree.
fn assert_law(edges: &Edges, [events, dead, invalid, late]: [&str; 4], answered: &Value, seen: &Value) {
    let dir = &edges.bench.dir;
    let truth = parsed(&dir.bytes("truth.json"));
    let made =
        |pointer: &str| truth.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {truth}"));
    let answered = |name: &str| answered[name].as_u64().expect("a count");
    let (schema, repeated, tardy) =
        (made("/dead/SchemaValidationError"), made("/counts/duplicate"), made("/counts/late"));
    assert!(schema > 100 && repeated > 100 && tardy > 100, "{}", truth["counts"]);
    assert_eq!(answered("left_out"), made("/defects/time_unreadable"));
    assert_eq!(answered("sent") + answered("left_out"), 200_000);
    assert_eq!(answered("sent"), answered("accepted") + answered("rejected"));
    assert_eq!(answered("rejected"), made("/counts/dead") - schema - answered("left_out"));
    assert_eq!(answered("ids"), answered("accepted"));

    let accepted = answered("accepted");
    let [taken, out, died, dropped] = counts(dir, "ingest.json", ["in", "out", "dead", "dropped"]);
    assert_eq!([taken, out, died, dropped], [answered("sent"), accepted, answered("rejected"), 0]);
    assert_eq!([edges.kcat(events), edges.kcat(dead)], [accepted, died]);
    assert_eq!([&seen["records"], &seen["ids"]], [&json!(accepted), &json!(accepted - repeated)]);

    let [taken, out, died, duplicate] = counts(dir, "validate.json", ["in", "out", "dead", "duplicate"]);
    assert_eq!([taken, died, duplicate], [accepted, schema, repeated]);
    assert_eq!(edges.kcat(invalid), died);
    let [into_windows, counted, behind] = counts(dir, "window.json", ["in", "out", "late"]);
    assert_eq!([into_windows, counted, behind], [out, made("/counts/out"), tardy]);
    assert_eq!(edges.kcat(late), behind);

    let windows = truth["windows"].as_array().expect("windows").len() as u64;
    let stats = parsed(&dir.bytes("sink.json"));
    assert_eq!(counts(dir, "sink.json", ["in", "out"]), [windows, windows]);
    for output in stats["outputs"].as_array().expect("outputs") {
        assert_eq!(output["counts"]["inserted"], windows, "{output}");
    }
}

/// Both topics are of the same broker: one of their clients reports the outage and its end. If the other one reconnects
/// more than seven seconds later, it reports the rest of the outage.
fn assert_one_outage(said: &str) {
    let words = ["all broker connections are down: retrying without a limit", "brokers are available again after"];
    let told: Vec<&str> = said.lines().filter_map(|line| words.into_iter().find(|word| line.contains(word))).collect();
    assert!(told == words || told == [words, words].concat(), "{said}");
    assert!(said.lines().count() < 12, "{said}");
}

/// Clients continue to post while no broker is available: the spool stores the events, and Kafka has all of them soon
/// after its return.
#[test]
fn a_broker_that_is_killed_under_load_costs_no_acknowledged_event_and_no_client_an_answer() {
    let (Some(mut bench), Some(python)) = (Bench::new("outage"), python()) else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka" };
    bench.brokers = broker.start();
    let [events, dead] = ["events", "dead"].map(|name| bench.topic(name, 1, &[]));
    bench.dir.shell("evt-gen --events 30k --seed 3 --malformed 0.2% | split -l 10000 -d - part.").succeeds();
    let (to, dlq) = (bench.uri(&events, ""), bench.uri(&dead, ""));
    let listener =
        Listener::open(&bench.dir, &["--spool", "spool", "--to", &to, "--dlq", &dlq, "--stats", "stats.json"]);
    let (mut accepted, mut rejected) = (0, 0);
    for (part, before) in [("part.00", None), ("part.01", Some("kill")), ("part.02", Some("start"))] {
        if let Some(command) = before {
            broker.services(&[command, "kafka"]);
        }
        let url = format!("http://{}", listener.host);
        let told = parsed(ask(&bench.dir, &python, "post.py", &[&url, part, "500"]).stdout());
        assert_eq!([&told["refused"], &told["broken"]], [0, 0], "{told}");
        accepted += told["accepted"].as_u64().expect("a count");
        rejected += told["rejected"].as_u64().expect("a count");
    }
    assert!(rejected > 20, "{rejected}");
    eventually("Kafka has all of it", || {
        [bench.records(&events).len() as u64, bench.records(&dead).len() as u64] == [accepted, rejected]
    });
    let said = listener.stop();
    assert_eq!(
        counts(&bench.dir, "stats.json", ["in", "out", "dead"]),
        [accepted + rejected, accepted, rejected],
        "{said}"
    );
    assert_one_outage(&said);

    // A server starts while Kafka is unavailable, spools events, and leaves them to the next run.
    broker.services(&["kill", "kafka"]);
    let flags = ["--spool", "spool", "--to", &to, "--dlq", &dlq];
    for number in [1, 2] {
        let mut listener = Listener::open(&bench.dir, &flags);
        assert_eq!(listener.get("/readyz").status, 200);
        let answer = listener.json(&format!("{{\"events\":[{},{{}}]}}", event(number, "s")));
        let told = answer.json();
        assert_eq!([&told["accepted"], &told["rejected"]], [1, 1], "{told}");
        listener.wait_for_message("retrying without a limit");
        if number == 2 {
            broker.start();
            eventually("Kafka has what either listener kept", || {
                [bench.records(&events).len() as u64, bench.records(&dead).len() as u64] == [accepted + 2, rejected + 2]
            });
        }
        listener.stop();
    }
    let values = bench.records(&events).into_iter().filter_map(|record| record.value);
    let ids: BTreeSet<String> = values.map(|value| parsed(&value)["event_id"].to_string()).collect();
    assert_eq!(ids.len() as u64, accepted + 2);
}
