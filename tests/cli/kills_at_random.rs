//! Pipelines whose processes are killed at random moments, again and again: at the end every store has the rows of an
//! undisturbed run, and the results that the generator expects, as independent readers see them.
//!
//! `scripts/torture N [SEED]` sets `EVT_TORTURE_KILLS` and `EVT_SEED`; the default is a short form. The kills are
//! divided into jobs. A job has its own events, topics and stores, so the first difference names few kills; the
//! directory of that job is kept.

use crate::broker::Bench;
use crate::bucket::CheckpointLocation;
use crate::checkpoint::METRICS;
use crate::checkpoint_pipes::Pipe;
use crate::harness::{Dir, Draws, LONG_WAIT, ROOT, ask, ended_within, eventually_within, python};
use crate::kills_of_pipes::{HttpServer, Kills, StageLines, client, entries, has_epoch};
use crate::servers::{psql, server};
use evt_core::time::parse_instant;
use rdkafka::producer::BaseRecord;
use rustix::process::Signal;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::time::Instant;

/// Kills of the short form.
const KILLS: u32 = 40;
/// Kills of the short form with a checkpoint in a bucket.
const KILLS_IN_BUCKET: u32 = 12;
/// Kills of one job.
const KILLS_OF_JOB: u32 = 36;
/// Pieces in which the events of a job arrive.
const PIECES: u64 = 9;
/// Events of a piece.
const EVENTS_OF_PIECE: u64 = 1_500;
/// Events of a piece of a job with a small `--memory`: more ids than stay in memory at the end of an epoch.
const EVENTS_BEYOND_MEMORY: u64 = 2_000;
/// Metrics of a job with a small `--memory`, in one group: sessions of all users that are open until the end.
const METRICS_BEYOND_MEMORY: &str = r#"
[[metric]]
name = "events"
by = ["event_type"]
size = "1m"
lateness = "20s"
[[metric]]
name = "spread"
by = ["user_id"]
gap = "1h"
aggregate = "stddev(properties.latency_ms)"
where = "user_id is not null"
[[metric]]
name = "doubled"
by = ["user_id"]
gap = "1h"
aggregate = "stddev(2 * properties.latency_ms)"
where = "user_id is not null"
"#;
/// Partitions of a topic of events, unless a server writes it in the order of the generator.
const PARTITIONS: i32 = 3;
/// Longer than the events of a job.
const DEDUP: &str = "20m";
/// Brokers keep records of the generator's times.
const KEPT: [(&str, &str); 1] = [("retention.ms", "-1")];

/// Where the events of a job come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A file that grows.
    File,
    /// A topic of several partitions.
    Topic,
    /// A topic that an HTTP server with a spool writes. It is killed as well.
    Http,
    /// An HTTP server with a spool as the first stage.
    Spool,
    /// A file that grows and is rotated, followed by name.
    Follow,
}

impl Origin {
    /// Whether an HTTP server takes the events. A client repeats requests whose response is lost.
    fn is_posted(self) -> bool {
        matches!(self, Self::Http | Self::Spool)
    }

    /// Whether the input has no end, so that an event of a later hour must close the windows.
    fn is_endless(self) -> bool {
        matches!(self, Self::Spool | Self::Follow)
    }

    /// Whether the events come from a topic.
    fn has_topic(self) -> bool {
        matches!(self, Self::Topic | Self::Http)
    }
}

/// The servers that all jobs use, and the Python of the independent readers.
struct Servers {
    bench: Bench,
    postgres: String,
    redis: String,
    python: String,
    /// Whether checkpoints are in a bucket.
    has_bucket: bool,
}

impl Servers {
    /// Returns `None`, with one message, if one of them is missing. CI requires all. Both tests run at once, with
    /// topics of their own.
    fn new(has_bucket: bool) -> Option<Self> {
        let bench = Bench::new(if has_bucket { "torture-bucket" } else { "torture" })?;
        let (postgres, redis, python) = (server("EVT_POSTGRES")?, server("EVT_REDIS")?, python()?);
        if has_bucket {
            server("EVT_S3")?;
        }
        Some(Self { bench, postgres, redis, python, has_bucket })
    }
}

/// A job: its events, and where they come from.
struct Job<'a> {
    servers: &'a Servers,
    origin: Origin,
    number: u32,
    /// The events, each with its line break. Some are not UTF-8.
    lines: Vec<Vec<u8>>,
    /// The topic of the events; empty for a file.
    topic: String,
    /// Whether tee(1) behind the first stage gives the events to another stage, too. A store of that one refuses some.
    has_branch: bool,
    /// Whether state is in files: more ids and sessions than the stages keep in memory.
    is_beyond_memory: bool,
}

/// Gives an event, if its id is one of a few, a value that no store but PostgreSQL refuses: a text that evt-sink finds,
/// or a number that the server finds. A repeat of the event has it too.
fn refuse(line: &mut Vec<u8>) {
    let of_id: [(&[u8], &[u8]); 2] =
        [(b"{\"event_id\":\"00", b"\"refused\":\"\\u0000\","), (b"{\"event_id\":\"01", b"\"refused\":1e200000,")];
    let refused = of_id.iter().find(|(id, _)| line.starts_with(id));
    if let Some((_, refused)) = refused
        && serde_json::from_slice::<&RawValue>(line).is_ok()
    {
        line.splice(1..1, refused.iter().copied());
    }
}

/// One of the two runs of a job: its directory, and its topics.
struct Side<'a> {
    job: &'a Job<'a>,
    dir: Dir,
    name: &'static str,
    place: CheckpointLocation,
    /// The address of the first stage, if it is a server.
    host: String,
    /// The topic of rows, then those of late rows and of dead letters unless they are files.
    topics: Vec<String>,
}

impl<'a> Job<'a> {
    fn new(servers: &'a Servers, origin: Origin, number: u32, draws: &mut Draws) -> Self {
        let dir = &servers.bench.dir;
        let (has_branch, is_beyond_memory) = (number.is_multiple_of(2), number % 3 == 1);
        let of_piece = if is_beyond_memory { EVENTS_BEYOND_MEMORY } else { EVENTS_OF_PIECE };
        let (seed, events) = (draws.below(1 << 32).to_string(), (PIECES * of_piece).to_string());
        let mut args = vec!["--events", &events, "--seed", &seed, "-q", "--truth", "truth.json"];
        args.extend(["--rate", "20", "--late", "0.02", "--late-by", "2m"]);
        args.extend(if is_beyond_memory { &["--users", "40000", "--skew", "0"][..] } else { &["--users", "300"] });
        // A record without a time has that of the broker or of the server, and is valid.
        let malformed = if matches!(origin, Origin::File | Origin::Follow) { "0.01" } else { "0" };
        args.extend(["--malformed", malformed, "--invalid", "0.02", "--duplicates", "0.01", "--schema-versions", "2"]);
        args.extend(["--by", "event_type", "--lateness", "20s", "--out-of-orderness", "3s", "--dedup", DEDUP]);
        args.push("--validated");
        let topic = match origin {
            Origin::File | Origin::Follow => String::new(),
            Origin::Spool => {
                args.extend(["--truth-as", "http", "--time", "client_timestamp"]);
                String::new()
            }
            Origin::Topic => {
                args.extend(["--partitions", "3", "--sharded"]);
                servers.bench.topic(&format!("{number}-events"), PARTITIONS, &KEPT)
            }
            Origin::Http => {
                args.extend(["--truth-as", "http", "--time", "client_timestamp"]);
                servers.bench.topic(&format!("{number}-events"), 1, &KEPT)
            }
        };
        let generated = dir.run("evt-gen", &args).succeeds();
        dir.write("events.jsonl", generated.stdout());
        let mut lines: Vec<Vec<u8>> =
            generated.stdout().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        if has_branch {
            lines.iter_mut().for_each(refuse);
            dir.write("events.jsonl", lines.concat());
        }
        Self { servers, origin, number, lines, topic, has_branch, is_beyond_memory }
    }

    /// Makes the stores of a run.
    fn side(&'a self, name: &'static str) -> Side<'a> {
        let dir = Dir::new(&format!("torture-{}-{name}", self.number));
        // Events without a user are in several partitions, and sessions of such a key depend on how the partitions are
        // interleaved.
        match self.is_beyond_memory {
            true => dir.write("m.toml", METRICS_BEYOND_MEMORY),
            false => dir.write("m.toml", format!("{METRICS}where = \"user_id is not null\"\n")),
        }
        let kinds = if self.origin.has_topic() { &["rows", "late", "dead", "refused"][..] } else { &["rows"] };
        let topic = |kind: &&str| self.servers.bench.topic(&format!("{}-{name}-{kind}", self.number), 2, &KEPT);
        let place = match self.servers.has_bucket {
            false => CheckpointLocation::directory(&dir),
            true => {
                let place = CheckpointLocation::bucket(&dir).expect("a server");
                // The server keeps objects as files.
                symlink(&place.files, dir.path("state")).expect("linked");
                place
            }
        };
        // The port is free while no server runs. Other tests use 127.0.0.1, so none of them takes it.
        let free = TcpListener::bind("127.0.0.2:0").and_then(|listener| listener.local_addr()).expect("a port");
        Side { job: self, dir, name, place, host: free.to_string(), topics: kinds.iter().map(topic).collect() }
    }

    /// Returns the events of a piece.
    fn piece(&self, piece: u64) -> &[Vec<u8>] {
        let of_piece = self.lines.len() / PIECES as usize;
        &self.lines[piece as usize * of_piece..][..of_piece]
    }

    /// Puts events into the topic, each into the partition of the generator and with its time. A record that has none
    /// takes that of the one before in the partition: it does not lift the stream time.
    fn produce(&self, lines: &[Vec<u8>]) {
        let mut times = [0; PARTITIONS as usize];
        let records = lines.iter().map(|line| {
            let event: Value = serde_json::from_slice(line).unwrap_or_default();
            let partition = event["shard"].as_str().map_or(0, |shard| shard.parse().expect("a number"));
            let time = &mut times[partition];
            *time = event["server_timestamp"].as_str().and_then(parse_instant).map_or(*time, |time| time / 1_000);
            BaseRecord::to(&self.topic).partition(partition as i32).timestamp(*time).payload(line.trim_ascii_end())
        });
        self.servers.bench.produce(records);
    }

    /// Returns an event of a later hour, which closes all windows before it.
    fn closing_event(&self) -> Vec<u8> {
        let valid =
            |line: &&Vec<u8>| serde_json::from_slice::<Value>(line).is_ok_and(|event| event["event_type"] == "signup");
        let mut event: Value = serde_json::from_slice(self.lines.iter().find(valid).expect("an event")).expect("JSON");
        event["event_id"] = json!("00000000-0000-4000-8000-000000000000");
        ["client_timestamp", "server_timestamp"].iter().for_each(|name| event[*name] = json!("2026-01-01T12:00:00Z"));
        format!("{event}\n").into_bytes()
    }

    /// Returns how the two runs and the truth differ, and the number of rows in each store.
    fn compare(&self, wild: &Side, calm: &Side) -> (Vec<String>, Value) {
        let dir = &self.servers.bench.dir;
        let is_repeated = self.origin.is_posted();
        let truth = dir.path("truth.json");
        // The two runs have inputs of their own.
        let is_moved = self.origin.is_endless();
        let job = json!({
            "wild": wild.places(), "calm": calm.places(), "truth": truth, "is_repeated": is_repeated, "is_moved": is_moved
        });
        dir.write("job.json", job.to_string());
        let mut told: Value = ask(dir, &self.servers.python, "torture.py", &["job.json"]).rows().remove(0);
        (serde_json::from_value(told["differences"].take()).expect("texts"), told["rows"].take())
    }
}

impl Side<'_> {
    fn schema(&self) -> String {
        format!("evt_{}_{}_{}", self.job.servers.bench.prefix.replace('-', "_"), self.job.number, self.name)
    }

    fn prefix(&self) -> String {
        format!("{}-{}-{}:", self.job.servers.bench.prefix, self.job.number, self.name)
    }

    /// Returns the command lines of the stages. All write dead letters to one place.
    fn stages(&self, at_end: &str) -> StageLines {
        let Servers { bench, postgres, redis, .. } = self.job.servers;
        let group = format!("{}-{}-{}", bench.prefix, self.job.number, self.name);
        let end = if at_end == "fire" { "&end=latest" } else { "" };
        let input = match self.job.origin {
            Origin::File | Origin::Follow => "events.jsonl".to_owned(),
            Origin::Spool => format!("http://{}", self.host),
            Origin::Topic | Origin::Http => bench.uri(&self.job.topic, &format!("?group={group}{end}")),
        };
        let place = |at: usize, file: &str| self.topics.get(at).map_or(file.to_owned(), |topic| bench.uri(topic, ""));
        let (rows, late, dead) = (place(0, ""), place(1, "late.jsonl"), place(2, "dead.jsonl"));
        let refused = place(3, "refused.jsonl");
        let redis = format!("{redis}?prefix={}", self.prefix());
        let at_once = format!("{postgres}?schema={}_now&visible=now", self.schema());
        let raw = format!("{postgres}?schema={}_raw&key=event_id", self.schema());
        let postgres = format!("{postgres}?schema={}", self.schema());
        let schemas = format!("{ROOT}/examples/schemas");
        let time: &[&str] = if self.job.origin.is_posted() { &["--time", "client_timestamp"] } else { &[] };
        let first: &[&str] = match self.job.origin {
            Origin::Spool => &["--spool", "spool"],
            Origin::Follow => &["--follow", "-f", "jsonl"],
            _ => &[],
        };
        let memory: &[&str] = if self.job.is_beyond_memory { &["--memory", "8MiB"] } else { &[] };
        let ends: &[&str] = if self.job.has_branch { &["--ends", "2"] } else { &[] };
        let stage = |tool: &'static str, args: &[&[&str]]| {
            let args = [&["-q", "--dlq", &dead], args.concat().as_slice()].concat();
            (tool, args.iter().map(|&arg| arg.to_owned()).collect::<Vec<String>>())
        };
        let windows = ["-m", "m.toml", "--out-of-orderness", "3s", "--emit", "final", "--late", &late];
        let stores = [
            "--to",
            "sqlite:m.db",
            "--to",
            "rows.jsonl",
            "--to",
            "rows.csv",
            "--to",
            "parquet:lake",
            "--to",
            "iceberg:tables/",
            "--to",
            &postgres,
            "--to",
            &rows,
            "--to",
            &redis,
            "--to",
            "sqlite:now.db?visible=now",
            "--to",
            &at_once,
        ];
        let checkpoint = ["--checkpoint", &self.place.name, "--checkpoint-every", "10ms", &input];
        let mut line = vec![
            stage("evt-ingest", &[time, first, ends, &checkpoint]),
            stage("evt-validate", &[&["--schemas", &schemas, "--dedup", DEDUP], memory]),
            stage("evt-window", &[&windows, &["--at-end", at_end], memory]),
            stage("evt-sink", &[&stores]),
        ];
        let branch = self.job.has_branch.then(|| {
            line.insert(1, ("tee", vec!["/dev/stderr".to_owned()]));
            let mut branch =
                stage("evt-sink", &[&["--to", "sqlite:raw.db?key=event_id", "--to", &raw, "--to", "raw.jsonl"]]);
            branch.1[2] = refused;
            branch
        });
        StageLines { line, branch }
    }

    /// Runs all stages undisturbed.
    fn run_calmly(&self) {
        if self.job.origin == Origin::Spool {
            let mut pipe = self.stages("hold").start(&self.dir);
            let events = self.dir.path("events.jsonl").display().to_string();
            let mut client = client(&self.dir, &self.job.servers.python, &self.host, &events);
            assert_eq!(ended_within(LONG_WAIT, "the client", &mut client), 0, "the client");
            pipe.signal(0, Signal::TERM);
            pipe.wait();
        }
        self.finish("undisturbed");
    }

    /// Runs all stages to their end.
    fn finish(&self, context: &str) {
        let mut pipe = self.stages("fire").start(&self.dir);
        if self.job.origin.is_endless() {
            return self.stop(pipe, context);
        }
        let statuses = pipe.wait();
        assert!(statuses.iter().all(|status| *status == 0), "{context}: {statuses:?} {}", self.said());
    }

    /// Posts or appends the last events, waits for the last windows, and stops the first stage.
    fn stop(&self, mut pipe: Pipe, context: &str) {
        let closing = self.job.closing_event();
        if self.job.origin == Origin::Spool {
            self.dir.write("closing.jsonl", closing);
            let closing = self.dir.path("closing.jsonl").display().to_string();
            let mut client = client(&self.dir, &self.job.servers.python, &self.host, &closing);
            assert_eq!(ended_within(LONG_WAIT, "the client", &mut client), 0, "{context}");
        } else {
            self.append(&closing);
        }
        let truth: Value = serde_json::from_slice(&self.job.servers.bench.dir.bytes("truth.json")).expect("JSON");
        let expected = truth["windows"].as_array().expect("windows").len();
        eventually_within(LONG_WAIT, "all windows have fired", || {
            let text = std::fs::read_to_string(self.dir.path("rows.jsonl")).unwrap_or_default();
            text.matches("\"metric_name\":\"events\"").count() >= expected
        });
        for _ in 0..10 {
            pipe.signal(0, Signal::TERM);
            let statuses = pipe.wait();
            if statuses.iter().all(|status| [0, 143].contains(status)) {
                return;
            }
            // On a slow machine the wait for the last epoch or its commit may expire; the next run repeats it.
            assert!(statuses.iter().all(|status| [0, 65, 69, 75, 143].contains(status)), "{context}: {statuses:?}");
            pipe = self.stages("hold").start(&self.dir);
            let before = entries(&self.dir);
            eventually_within(LONG_WAIT, "an epoch is complete", || entries(&self.dir) > before + 1);
        }
        panic!("{context}: no run stops: {}", self.said());
    }

    /// Appends lines to the file of events.
    fn append(&self, lines: &[u8]) {
        let file = File::options().create(true).append(true).open(self.dir.path("events.jsonl"));
        file.expect("a file").write_all(lines).expect("written");
    }

    /// What the stages have said last, for messages.
    fn said(&self) -> String {
        let last = |stage| {
            let text = std::fs::read_to_string(self.dir.path(&format!("stderr-{stage}"))).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(4).collect();
            format!("\n{}", lines.join("\n"))
        };
        (0..self.stages("hold").line.len()).map(last).collect()
    }

    /// Returns where its stores are, for the readers.
    fn places(&self) -> Value {
        let Servers { bench, postgres, redis, .. } = self.job.servers;
        let topic = |topic: &String| json!({ "brokers": bench.brokers, "topic": topic });
        let mut places = json!({
            "sqlite": self.dir.path("m.db"), "lines": self.dir.path("rows.jsonl"), "csv": self.dir.path("rows.csv"),
            "lake": self.dir.path("lake"), "iceberg": self.dir.path("tables"), "topic": topic(&self.topics[0]),
            "postgres": { "uri": postgres, "schema": self.schema() }, "redis": { "uri": redis, "prefix": self.prefix() },
            "sqlite at once": self.dir.path("now.db"),
            "postgres at once": { "uri": postgres, "schema": format!("{}_now", self.schema()) },
        });
        if self.job.has_branch {
            places["raw sqlite"] = json!(self.dir.path("raw.db"));
            places["raw postgres"] = json!({ "uri": postgres, "schema": format!("{}_raw", self.schema()) });
            places["raw lines"] = json!(self.dir.path("raw.jsonl"));
        }
        let mut sides = vec![("late topic", "late", "late.jsonl"), ("dead topic", "dead", "dead.jsonl")];
        if self.job.has_branch {
            sides.push(("refused topic", "refused", "refused.jsonl"));
        }
        for (at, (of_topic, of_file, file)) in sides.into_iter().enumerate() {
            match self.topics.get(at + 1) {
                Some(name) => places[of_topic] = topic(name),
                None => places[of_file] = json!(self.dir.path(file)),
            }
        }
        places
    }

    /// Removes what a server keeps of it.
    fn remove(&self) {
        let Servers { bench, postgres, .. } = self.job.servers;
        for suffix in ["", "_now", "_raw"] {
            let drop = format!("DROP SCHEMA IF EXISTS {}{suffix} CASCADE", self.schema());
            psql(&self.dir, postgres, &self.schema(), &drop);
        }
        self.topics.iter().for_each(|topic| bench.delete(topic));
    }
}

/// Kills the stages of a pipe while its events arrive piece by piece, and while it fires the last windows.
fn kill(job: &Job, wild: &Side, kills: &mut Kills, wanted: u32) {
    let events = job.servers.bench.dir.path("events.jsonl").display().to_string();
    let (to, python) = (job.servers.bench.uri(&job.topic, ""), &job.servers.python);
    let mut server = (job.origin == Origin::Http).then(|| HttpServer::open(&wild.dir, &to, python, &events));
    let mut posting = (job.origin == Origin::Spool).then(|| client(&wild.dir, python, &wild.host, &events));
    let target = kills.count + wanted;
    for piece in 0..PIECES {
        match job.origin {
            Origin::File => wild.append(&job.piece(piece).concat()),
            // Before its first epoch a checkpoint knows no file of the name, so none of those that had it may be
            // rotated.
            Origin::Follow if !has_epoch(&wild.dir) => wild.append(&job.piece(piece).concat()),
            Origin::Follow => {
                // A file that begins with an array is refused as a whole.
                let (lines, drawn) = (job.piece(piece), kills.draws.below(EVENTS_OF_PIECE - 100) as usize);
                let cut = (drawn..).find(|cut| lines[*cut].starts_with(b"{")).expect("a line");
                let (first, rest) = lines.split_at(cut);
                wild.append(&first.concat());
                let rotated = wild.dir.path(&format!("events.jsonl.{piece}"));
                std::fs::rename(wild.dir.path("events.jsonl"), rotated).expect("renamed");
                wild.append(&rest.concat());
            }
            Origin::Topic => job.produce(job.piece(piece)),
            Origin::Http | Origin::Spool => {}
        }
        let is_last = piece + 1 == PIECES;
        if is_last && let Some(server) = server.take() {
            server.finish();
        }
        let stages = wild.stages(if is_last { "fire" } else { "hold" });
        // The kills are divided evenly among the pieces that are left.
        let left = target.saturating_sub(kills.count);
        let end = kills.count + left.div_ceil((PIECES - piece) as u32);
        while kills.count < end && kills.turn(&wild.dir, &stages, server.as_mut()) {}
    }
    kills.end_sleepers(&wild.dir);
    if let Some(client) = &mut posting {
        // The server takes what is left.
        let mut pipe = wild.stages("hold").start(&wild.dir);
        assert_eq!(ended_within(LONG_WAIT, "the client", client), 0, "the client");
        pipe.signal(0, Signal::TERM);
        pipe.wait();
    }
}

#[test]
fn stores_hold_the_truth_although_processes_are_killed() {
    let wanted = std::env::var("EVT_TORTURE_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number of kills"));
    let has_bucket = std::env::var("EVT_TORTURE_CHECKPOINT").is_ok_and(|kind| kind == "s3");
    if let Some(servers) = Servers::new(has_bucket) {
        kill_at_random(&servers, wanted);
    }
}

#[test]
fn stores_hold_the_truth_although_processes_with_a_checkpoint_in_a_bucket_are_killed() {
    // The long form has one kind of checkpoint.
    if std::env::var_os("EVT_TORTURE_KILLS").is_none()
        && let Some(servers) = Servers::new(true)
    {
        kill_at_random(&servers, KILLS_IN_BUCKET);
    }
}

/// Kills processes of jobs, and compares what their stores have at the end.
fn kill_at_random(servers: &Servers, wanted: u32) {
    let of_job = KILLS_OF_JOB.min(wanted.div_ceil(5));
    let only = std::env::var("EVT_TORTURE_ORIGIN").ok();
    let origins = [Origin::File, Origin::Topic, Origin::Http, Origin::Spool, Origin::Follow];
    let is_wanted = |origin: &Origin| only.as_ref().is_none_or(|only| format!("{origin:?}").eq_ignore_ascii_case(only));
    let mut origins = origins.into_iter().filter(is_wanted).cycle();
    let (mut kills, start) = (Kills::new(Draws::new()), Instant::now());
    let mut number = 0;
    while kills.count < wanted {
        number += 1;
        let job = Job::new(servers, origins.next().expect("an origin"), number, &mut kills.draws);
        let (calm, wild) = (job.side("calm"), job.side("wild"));
        let before = kills.count;
        kill(&job, &wild, &mut kills, of_job.min(wanted - before));
        wild.finish(&kills.to_string());
        kills.add_epochs(&wild.dir);
        // The closing event of an endless origin ends all sessions, and is later than all ids.
        if job.is_beyond_memory && !servers.has_bucket && !job.origin.is_endless() {
            wild.dir.shell("test -n \"$(find state/epochs -name 'state-*')\"").succeeds();
        }
        if !job.origin.has_topic() {
            calm.append(&job.lines.concat());
        }
        calm.run_calmly();
        let (differences, rows) = job.compare(&wild, &calm);
        let (count, seconds) = (kills.count - before, start.elapsed().as_secs());
        println!(
            "job {number} ({:?}): {count} kills, {} of {wanted} after {seconds} s; rows {rows}",
            job.origin, kills.count
        );
        assert!(
            differences.is_empty(),
            "{kills}: job {number} ({:?}) in {}\n{}",
            job.origin,
            wild.dir.path("").display(),
            differences.join("\n")
        );
        [&calm, &wild].into_iter().for_each(Side::remove);
    }
    println!("{kills}\n{} seconds, no difference", start.elapsed().as_secs());
}
