//! Every server of the whole pipe stops and restarts while events flow: the stores have the expected results
//! nevertheless.

use crate::broker::{Bench, Broker};
use crate::edges::{Edges, Metrics, counts, metrics, parsed, post};
use crate::harness::{Dir, LONG_WAIT, eventually, eventually_within, python, status};
use crate::listener::Listener;
use std::fs::File;
use std::io::{Read, Write, copy};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Many windows, so that the run writes to the stores all the time.
const METRICS: &str = "[[metric]]\nname = \"events\"\nby = [\"event_type\", \"source\"]\nsize = \"5s\"\n";
/// Size of a portion from the validation to the windows: 90 seconds of event time, a seventh of all. The first portion
/// ends among events whose schemas are cached by then, the second after the first event of another type.
const PORTION: u64 = 2560 * 1024;
/// Maximum growth of a tool's memory during outages (KiB).
const MEMORY: u64 = 32 * 1024;

/// A tool in the middle of a pipe, which writes its diagnostics to a file.
struct Stage<'a> {
    dir: &'a Dir,
    name: &'static str,
    child: Child,
}

impl<'a> Stage<'a> {
    fn start(dir: &'a Dir, name: &'static str, command: &mut Command) -> Self {
        let log = File::create(dir.path(&format!("{name}.log"))).expect("writable");
        let child = command.stderr(log).spawn().expect("it starts");
        Self { dir, name, child }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.dir.bytes(&format!("{}.log", self.name))).into_owned()
    }

    /// Returns the number of lines that contain all of these words.
    fn lines(&self, words: &[&str]) -> usize {
        self.said().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    #[track_caller]
    fn wait_for_message(&self, words: &[&str]) {
        eventually(&format!("{} says {words:?}", self.name), || self.lines(words) > 0);
    }

    /// Its memory (KiB).
    fn resident(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[track_caller]
    fn succeeds(&mut self) {
        assert_eq!(status(self.child.wait().expect("it ends")), 0, "{}: {}", self.name, self.said());
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // Otherwise a failed test would leave it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gate between two stages that passes portions, so that the test can stop a server in the middle of the stream.
struct Gate {
    portions: Sender<u64>,
    /// Comes to what was left when the gate was opened for good.
    pump: JoinHandle<u64>,
}

impl Gate {
    fn new(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static) -> Self {
        let (portions, wanted): (_, Receiver<u64>) = channel();
        let pump = std::thread::spawn(move || {
            for portion in wanted {
                copy(&mut (&mut from).take(portion), &mut to).expect("both continue");
            }
            copy(&mut from, &mut to).expect("both continue")
        });
        Self { portions, pump }
    }

    fn pass(&self) {
        self.portions.send(PORTION).expect("it pumps");
    }

    fn open(self) -> u64 {
        drop(self.portions);
        self.pump.join().expect("it pumps")
    }
}

/// Stops a server, waits until `stage` reports the outage with the next portion, restarts it, and waits until the stage
/// reports that.
fn outage(server: &Broker, gate: &Gate, stage: &Stage, address: &str) {
    server.services(&["kill", server.name]);
    gate.pass();
    stage.wait_for_message(&[address, "retrying"]);
    server.services(&["start", server.name]);
    stage.wait_for_message(&[address, "available again after"]);
}

/// Posts all events into a topic: first those of four types, then those of eight. Returns the generator's expected
/// results.
fn fill(edges: &Edges, events: &str, dead: &str) -> Metrics {
    let (bench, mut wanted) = (&edges.bench, Metrics::new());
    let to = bench.uri(events, &format!("?format=avro&schemas={}", edges.registry));
    let dlq = bench.uri(dead, "");
    let listener =
        Listener::open(&bench.dir, &["--spool", "spool", "--time", "client_timestamp", "--to", &to, "--dlq", &dlq]);
    let (mut accepted, mut rejected) = (0, 0);
    for (types, count, minute) in [(4, 7_500, 0), (8, 22_500, 5)] {
        let line = format!(
            "evt-gen --events {count} --rate 50 --seed {types} --start 2024-01-15T00:{minute:02}:00Z --event-types {types} \
             --schema-versions 2 --late 0.4% --duplicates 0.3% --malformed 0.2% --invalid 0.2% --truth truth.json \
             --time client_timestamp --dedup 10m --validated --by event_type,source --size 5s > events.jsonl"
        );
        bench.dir.shell(&line).succeeds();
        let answered = post(edges, &listener, "events.jsonl");
        accepted += answered["accepted"].as_u64().expect("a count");
        rejected += answered["rejected"].as_u64().expect("a count");
        let truth = parsed(&bench.dir.bytes("truth.json"));
        wanted.extend(metrics(truth["windows"].as_array().expect("windows").clone()));
    }
    // A run that is stopped leaves what a slow broker does not take to the next one.
    eventually_within(LONG_WAIT, "Kafka has all of it", || {
        edges.kcat(events) == accepted && edges.kcat(dead) == rejected
    });
    listener.stop();
    wanted
}

#[test]
fn servers_that_go_and_come_back_under_the_whole_pipe_leave_the_truth_in_every_store() {
    let (Some(bench), Some(python)) = (Bench::live("restarts"), python()) else { return };
    // A directory that PostgreSQL's own user may enter: root cannot run PostgreSQL.
    let state = std::env::temp_dir().join(format!("evt-{}", bench.prefix));
    let [registry, redis, postgres] =
        ["registry", "redis", "postgres"].map(|name| Broker { state: state.clone(), name });
    registry.services(&["start", "registry", "redis", "postgres"]);
    let [at_registry, at_redis, at_postgres] = [&registry, &redis, &postgres].map(Broker::start);
    let edges = Edges { bench, registry: at_registry, redis: at_redis, postgres: at_postgres, python };
    let (bench, dir, prefix) = (&edges.bench, &edges.bench.dir, edges.bench.prefix.as_str());
    let schema = prefix.replace('-', "_");
    dir.write("metrics.toml", METRICS);
    let [events, dead, invalid, late] = ["events", "dead", "invalid", "late"].map(|name| bench.topic(name, 1, &[]));
    let wanted = fill(&edges, &events, &dead);

    let from = bench.uri(&events, &format!("?format=avro&end=latest&schemas={}", edges.registry));
    let schemas = edges.register();
    let (invalid, late) = (bench.uri(&invalid, ""), bench.uri(&late, ""));
    let [to_redis, to_postgres] =
        [format!("{}?prefix={prefix}:", edges.redis), format!("{}?schema={schema}", edges.postgres)];
    let validate = [&from, "--time", "client_timestamp", "--schemas", &schemas, "--dedup", "10m", "--dlq", &invalid];
    let window = ["-m", "metrics.toml", "--late", &late];
    let sink = ["--to", &to_redis, "--to", &to_postgres, "--stats", "sink.json"];
    let mut validate = dir.command("evt-validate", &validate);
    let mut validate = Stage::start(dir, "validate", validate.stdin(Stdio::null()).stdout(Stdio::piped()));
    let mut window = dir.command("evt-window", &window);
    let mut window = Stage::start(dir, "window", window.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut sink = dir.command("evt-sink", &sink);
    let between = window.child.stdout.take().expect("it is piped");
    let mut sink = Stage::start(dir, "sink", sink.stdin(between).stdout(Stdio::null()));
    let ends = (validate.child.stdout.take().expect("it is piped"), window.child.stdin.take().expect("it is piped"));
    let gate = Gate::new(ends.0, ends.1);

    gate.pass();
    let count = || {
        bench
            .dir
            .run("psql", &["-qAt", "-c", &format!("SELECT count(*) FROM {schema}.aggregated_metrics"), &edges.postgres])
            .text()
    };
    eventually("the first windows are there", || count().trim().parse().is_ok_and(|count: u64| count > 0));
    let before = validate.resident();
    outage(&registry, &gate, &validate, "http://");
    let most = validate.resident();
    assert!(most < before + MEMORY, "{before} KiB, then {most}");
    outage(&redis, &gate, &sink, "redis://");
    outage(&postgres, &gate, &sink, "postgres://");
    let left = gate.open();
    [&mut validate, &mut window, &mut sink].into_iter().for_each(Stage::succeeds);

    assert!(left > 0, "the last server came back to nothing");
    assert!(edges.psql(&schema) == wanted, "psql sees other metrics");
    assert!(edges.redis_cli(&format!("{prefix}:")) == wanted, "redis-cli sees other metrics");
    let windows = wanted.len() as u64;
    assert_eq!(counts(dir, "sink.json", ["in", "out"]), [windows, windows]);
    for output in parsed(&dir.bytes("sink.json"))["outputs"].as_array().expect("outputs") {
        // A row whose answer an outage lost is sent again, and is then unchanged.
        let count = |name: &str| output["counts"][name].as_u64().expect("a count");
        assert_eq!(count("inserted") + count("unchanged"), windows, "{output}");
    }
    for (stage, address) in [(&validate, "http://"), (&sink, "redis://"), (&sink, "postgres://")] {
        for word in ["retrying", "available again after"] {
            assert_eq!(stage.lines(&[address, word]), 1, "{word}: {}", stage.said());
        }
    }
    for (stage, lines) in [(&validate, 3), (&window, 1), (&sink, 5)] {
        assert!(stage.said().lines().count() <= lines + 1, "{}: {}", stage.name, stage.said());
    }
}
