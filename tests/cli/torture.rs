//! Pipelines whose processes are killed at random moments, again and again: at the end every store has the rows of an undisturbed
//! run, and the results that the generator expects, as independent readers see them.
//!
//! `scripts/torture N [SEED]` sets `EVT_TORTURE_KILLS` and `EVT_SEED`; the default is a short form. The kills are
//! divided into jobs. A job has its own events, topics and stores, so the first difference names few kills; the
//! directory of that job is kept.

use crate::broker::Bench;
use crate::bucket::CheckpointLocation;
use crate::checkpoint::METRICS;
use crate::checkpoint_pipes::Pipe;
use crate::harness::{Dir, Draws, ROOT, ask, python};
use crate::servers::{psql, server};
use crate::torture_kills::{HttpServer, Kills};
use evt::time::parse_instant;
use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
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
/// Partitions of a topic of events, unless a server writes it in the order of the generator.
const PARTITIONS: i32 = 3;
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
}

/// One of the two runs of a job: its directory, and its topics.
struct Side<'a> {
    job: &'a Job<'a>,
    dir: Dir,
    name: &'static str,
    place: CheckpointLocation,
    /// The topic of rows, then those of late rows and of dead letters unless they are files.
    topics: Vec<String>,
}

impl<'a> Job<'a> {
    fn new(servers: &'a Servers, origin: Origin, number: u32, draws: &mut Draws) -> Self {
        let dir = &servers.bench.dir;
        let (seed, events) = (draws.below(1 << 32).to_string(), (PIECES * EVENTS_OF_PIECE).to_string());
        let mut args = vec!["--events", &events, "--seed", &seed, "-q", "--truth", "truth.json"];
        args.extend(["--rate", "20", "--users", "300", "--late", "0.02", "--late-by", "2m"]);
        // A record without a time has that of the broker or of the server, and is valid.
        let malformed = if origin == Origin::File { "0.01" } else { "0" };
        args.extend(["--malformed", malformed, "--invalid", "0.02", "--duplicates", "0.01", "--schema-versions", "2"]);
        args.extend(["--by", "event_type", "--lateness", "20s", "--out-of-orderness", "3s", "--dedup", "10m"]);
        args.push("--validated");
        let topic = match origin {
            Origin::File => String::new(),
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
        let lines = generated.stdout().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        Self { servers, origin, number, lines, topic }
    }

    /// Makes the stores of a run.
    fn side(&'a self, name: &'static str) -> Side<'a> {
        let dir = Dir::new(&format!("torture-{}-{name}", self.number));
        // Events without a user are in several partitions, and sessions of such a key depend on how the partitions are interleaved.
        dir.write("m.toml", format!("{METRICS}where = \"user_id is not null\"\n"));
        let kinds = if self.origin == Origin::File { &["rows"][..] } else { &["rows", "late", "dead"] };
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
        Side { job: self, dir, name, place, topics: kinds.iter().map(topic).collect() }
    }

    /// Returns the events of a piece.
    fn piece(&self, piece: u64) -> &[Vec<u8>] {
        let (start, end) = (piece * EVENTS_OF_PIECE, (piece + 1) * EVENTS_OF_PIECE);
        &self.lines[start as usize..end as usize]
    }

    /// Puts events into the topic, each into the partition of the generator and with its time. A record that has none takes that of
    /// the one before in the partition: it does not lift the stream time.
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

    /// Returns how the two runs and the truth differ, and the number of rows in each store.
    fn compare(&self, wild: &Side, calm: &Side) -> (Vec<String>, Value) {
        let dir = &self.servers.bench.dir;
        let is_repeated = self.origin == Origin::Http;
        let truth = dir.path("truth.json");
        let job = json!({ "wild": wild.places(), "calm": calm.places(), "truth": truth, "is_repeated": is_repeated });
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

    /// Returns the command lines of the four stages. All write dead letters to one place.
    fn stages(&self, at_end: &str) -> Vec<(&'static str, Vec<String>)> {
        let Servers { bench, postgres, redis, .. } = self.job.servers;
        let group = format!("{}-{}-{}", bench.prefix, self.job.number, self.name);
        let end = if at_end == "fire" { "&end=latest" } else { "" };
        let input = match self.job.origin {
            Origin::File => "events.jsonl".to_owned(),
            Origin::Topic | Origin::Http => bench.uri(&self.job.topic, &format!("?group={group}{end}")),
        };
        let place = |at: usize, file: &str| self.topics.get(at).map_or(file.to_owned(), |topic| bench.uri(topic, ""));
        let (rows, late, dead) = (place(0, ""), place(1, "late.jsonl"), place(2, "dead.jsonl"));
        let (postgres, redis) =
            (format!("{postgres}?schema={}", self.schema()), format!("{redis}?prefix={}", self.prefix()));
        let schemas = format!("{ROOT}/examples/schemas");
        let time: &[&str] = if self.job.origin == Origin::Http { &["--time", "client_timestamp"] } else { &[] };
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
            &postgres,
            "--to",
            &rows,
            "--to",
            &redis,
        ];
        vec![
            stage("evt-ingest", &[time, &["--checkpoint", &self.place.name, "--checkpoint-every", "10ms", &input]]),
            stage("evt-validate", &[&["--schemas", &schemas, "--dedup", "10m"]]),
            stage("evt-window", &[&windows, &["--at-end", at_end]]),
            stage("evt-sink", &[&stores]),
        ]
    }

    /// Runs all stages to their end.
    fn finish(&self, context: &str) {
        let statuses = Pipe::start(&self.dir, &self.stages("fire")).wait();
        assert_eq!(statuses, [0; 4], "{context}: {}", self.said());
    }

    /// What the stages have said last, for messages.
    fn said(&self) -> String {
        let last = |stage| {
            let text = std::fs::read_to_string(self.dir.path(&format!("stderr-{stage}"))).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(4).collect();
            format!("\n{}", lines.join("\n"))
        };
        (0..4).map(last).collect()
    }

    /// Returns where its stores are, for the readers.
    fn places(&self) -> Value {
        let Servers { bench, postgres, redis, .. } = self.job.servers;
        let topic = |topic: &String| json!({ "brokers": bench.brokers, "topic": topic });
        let mut places = json!({
            "sqlite": self.dir.path("m.db"), "lines": self.dir.path("rows.jsonl"), "csv": self.dir.path("rows.csv"),
            "lake": self.dir.path("lake"), "topic": topic(&self.topics[0]),
            "postgres": { "uri": postgres, "schema": self.schema() }, "redis": { "uri": redis, "prefix": self.prefix() },
        });
        let sides = [("late topic", "late", "late.jsonl"), ("dead topic", "dead", "dead.jsonl")];
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
        psql(&self.dir, postgres, &self.schema(), &format!("DROP SCHEMA {} CASCADE", self.schema()));
        self.topics.iter().for_each(|topic| bench.delete(topic));
    }
}

/// Kills the stages of a pipe while its events arrive piece by piece, and while it fires the last windows.
fn kill(job: &Job, wild: &Side, kills: &mut Kills, wanted: u32) {
    let events = job.servers.bench.dir.path("events.jsonl").display().to_string();
    let (to, python) = (job.servers.bench.uri(&job.topic, ""), &job.servers.python);
    let mut server = (job.origin == Origin::Http).then(|| HttpServer::open(&wild.dir, &to, python, &events));
    let target = kills.count + wanted;
    for piece in 0..PIECES {
        match job.origin {
            Origin::File => {
                let file = File::options().create(true).append(true).open(wild.dir.path("events.jsonl"));
                file.expect("a file").write_all(&job.piece(piece).concat()).expect("written");
            }
            Origin::Topic => job.produce(job.piece(piece)),
            Origin::Http => {}
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
}

#[test]
fn stores_hold_the_truth_although_processes_are_killed() {
    let wanted = std::env::var("EVT_TORTURE_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number of kills"));
    let has_bucket = std::env::var("EVT_TORTURE_CHECKPOINT").is_ok_and(|kind| kind == "s3");
    if let Some(servers) = Servers::new(has_bucket) {
        torture(&servers, wanted);
    }
}

#[test]
fn stores_hold_the_truth_although_processes_with_a_checkpoint_in_a_bucket_are_killed() {
    // The long form has one kind of checkpoint.
    if std::env::var_os("EVT_TORTURE_KILLS").is_none()
        && let Some(servers) = Servers::new(true)
    {
        torture(&servers, KILLS_IN_BUCKET);
    }
}

/// Kills processes of jobs, and compares what their stores have at the end.
fn torture(servers: &Servers, wanted: u32) {
    let of_job = KILLS_OF_JOB.min(wanted.div_ceil(3));
    let only = std::env::var("EVT_TORTURE_ORIGIN").ok();
    let origins = [Origin::File, Origin::Topic, Origin::Http];
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
        if job.origin == Origin::File {
            std::fs::copy(wild.dir.path("events.jsonl"), calm.dir.path("events.jsonl")).expect("copied");
        }
        calm.finish("undisturbed");
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
