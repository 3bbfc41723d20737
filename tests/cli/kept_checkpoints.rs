//! Every later version restores what earlier ones left on disk: `testdata/checkpoint/vN` has a checkpoint with its log,
//! its parts and its outboxes, state in files, an intent of a file, positions of each kind of input, and a state file
//! of evt-alert.
//!
//! A form of an earlier version may never become unreadable; a form that has changed gets a new directory.

use crate::alert::{event, once, rule, rules, series, transitions};
use crate::broker::Bench;
use crate::checkpoint::generated;
use crate::checkpoint_pipes::Pipe;
use crate::harness::{Dir, ROOT, THREADS, eventually};
use crate::kafka::record;
use crate::listener::Listener;
use crate::state::{BATCH_ROWS, Version, kept, results};
use evt::output::file::once::{BatchId, OnceFile};
use evt::source::positions::{Positions, partition_positions};
use evt_core::op::dedup::{self, Dedup};
use evt_core::op::state_storage::{MemoryBound, StateStorage};
use evt_core::op::window::{Options, Window};
use evt_core::time::SECOND;
use evt_run::checkpoint::epoch::Epoch;
use evt_run::checkpoint::place::CheckpointPlace;
use evt_run::checkpoint::state_files::CheckpointFiles;
use evt_run::storage::disk::{Disk, DiskFault};
use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The command that adds a version. It needs a broker.
const BLESS: &str = "EVT_BLESS=1 scripts/services run kafka -- cargo test --test cli -- kept_checkpoints::";
/// Memory of the operators whose state is in files (bytes).
const MEMORY: usize = 2_000;
/// The epoch of the files of state.
const EPOCH: Epoch = Epoch { run: 1, number: 1 };
/// Lines of the input of the pipe in each file.
const LINES: [usize; 3] = [400, 300, 300];

/// A directory of `testdata/checkpoint`, or one that is made like it.
struct Kept(PathBuf);

impl Kept {
    /// All that are kept, the oldest first.
    fn all() -> Vec<Self> {
        let numbered = (1..).map(|number| Path::new(ROOT).join(format!("testdata/checkpoint/v{number}")));
        numbered.take_while(|path| path.exists()).map(Self).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{}/{name}: {error}", self.0.display()))
    }

    /// Copies a part of it into a directory of a test.
    fn copied(&self, name: &str) -> Dir {
        let dir = Dir::new(&format!("kept-{name}"));
        copy(&self.path(name), &dir.path(""));
        dir
    }

    fn keep(&self, name: &str, dir: &Dir) {
        fs::create_dir_all(self.path(name)).expect("a directory");
        copy(&dir.path(""), &self.path(name));
    }
}

pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.metadata().expect("an entry").is_dir() {
            true => {
                fs::create_dir_all(&target).expect("a directory");
                copy(&entry.path(), &target);
            }
            false => drop(fs::copy(entry.path(), target).expect("a file")),
        }
    }
}

/// The names and types in JSON, without the values. Of a list it is that of each different element.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(items) => {
            let shapes: BTreeMap<String, Value> = items.iter().map(shape).map(|one| (one.to_string(), one)).collect();
            Value::Array(shapes.into_values().collect())
        }
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
    }
}

/// The files in a directory.
fn files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.is_file())
}

/// The directory of the last complete epoch.
fn last_epoch(dir: &Dir) -> PathBuf {
    let last = dir.rows_of_log().into_iter().rev().find_map(|entry| entry.get("complete").cloned());
    let epoch = &last.expect("an epoch")["epoch"];
    dir.path(&format!("state/epochs/{}-{}", epoch["run"], epoch["number"]))
}

/// The pipe: its stages, and what it leaves.
mod pipe {
    use super::*;

    fn stages(inputs: &[&str], at_end: &str) -> Vec<(&'static str, Vec<String>)> {
        let stage = |tool, args: &[&[&str]]| {
            let args = [&["-q", "--dlq", "dead.jsonl"], args.concat().as_slice()].concat();
            (tool, args.iter().map(|&arg| arg.to_owned()).collect())
        };
        let windows = ["--by", "event_type", "--agg", "count(*)", "--size", "5s", "--out-of-orderness", "3s"];
        vec![
            stage("evt-ingest", &[&["--checkpoint", "state", "-f", "jsonl"], inputs]),
            stage("evt-validate", &[&["--dedup", "10m"]]),
            stage("evt-window", &[&windows, &["--at-end", at_end, "--late", "late.jsonl"]]),
            stage("evt-sink", &[&["--to", "rows.jsonl", "--to", "rows.csv"]]),
        ]
    }

    /// Runs the pipe over the first file, then over the second one, whose epoch is complete and committed to no output.
    pub fn left() -> Dir {
        let dir = Dir::new("kept-pipe");
        let events = generated(&dir, LINES.iter().sum::<usize>() as u64);
        let mut lines = events.split_inclusive(|byte| *byte == b'\n');
        for (name, count) in ["a.jsonl", "b.jsonl", "c.jsonl"].iter().zip(LINES) {
            dir.write(name, lines.by_ref().take(count).collect::<Vec<_>>().concat());
        }
        assert_eq!(Pipe::start(&dir, &stages(&["a.jsonl"], "hold")).wait(), [0; 4]);
        let outputs: Vec<(PathBuf, Vec<u8>)> =
            files(&dir.path("")).map(|path| (path.clone(), fs::read(path).expect("a file"))).collect();
        assert_eq!(Pipe::start(&dir, &stages(&["a.jsonl", "b.jsonl"], "hold")).wait(), [0; 4]);
        // As if all stages had been killed once the entry of the epoch was written.
        outputs.iter().for_each(|(path, bytes)| fs::write(path, bytes).expect("writable"));
        let is_mark = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "committed");
        files(&last_epoch(&dir)).filter(is_mark).for_each(|path| fs::remove_file(path).expect("a mark"));
        (0..4).for_each(|stage| fs::remove_file(dir.path(&format!("stderr-{stage}"))).expect("a log"));
        dir
    }

    /// Runs the pipe to the end of all files; returns the sorted rows of its outputs.
    pub fn finish(dir: &Dir) -> Value {
        let statuses = Pipe::start(dir, &stages(&["a.jsonl", "b.jsonl", "c.jsonl"], "fire")).wait();
        let said = |stage: usize| String::from_utf8_lossy(&dir.bytes(&format!("stderr-{stage}"))).into_owned();
        assert_eq!(statuses, [0; 4], "{}", (0..4).map(said).collect::<String>());
        let rows = |name: &str| {
            let mut rows: Vec<String> = dir.rows(name).into_iter().map(without_changing).collect();
            rows.sort();
            rows
        };
        let csv = crate::checkpoint::lines(dir, "rows.csv");
        json!({ "rows": rows("rows.jsonl"), "csv": csv, "late": rows("late.jsonl"), "dead": rows("dead.jsonl") })
    }

    fn without_changing(mut row: Value) -> String {
        let fields = row.as_object_mut().expect("a row");
        ["failed_at", "ingested_at", "producer_host", "run"].iter().for_each(|name| drop(fields.remove(*name)));
        row.to_string()
    }

    /// The forms of the files in JSON: entries, notes, positions.
    pub fn forms(dir: &Dir) -> BTreeMap<String, Value> {
        let mut forms = BTreeMap::new();
        for entry in dir.rows_of_log() {
            let kind = if entry.get("start").is_some() { "start" } else { "complete" };
            // The last entries have all that an entry may have.
            forms.insert(kind.to_owned(), shape(&entry));
        }
        let epoch = last_epoch(dir);
        for name in ["1-evt-ingest.json", "1-evt-ingest.positions", "3-evt-window.json"] {
            let bytes = fs::read(epoch.join(name)).expect("a file");
            forms.insert(name.to_owned(), shape(&serde_json::from_slice(&bytes).expect("JSON")));
        }
        forms
    }
}

trait Log {
    /// The entries of the log of its checkpoint, in order.
    fn rows_of_log(&self) -> Vec<Value>;
}

impl Log for Dir {
    fn rows_of_log(&self) -> Vec<Value> {
        let numbers = fs::read_dir(self.path("state/log")).map_or(vec![], |log| {
            let names = log.map(|entry| entry.expect("an entry").file_name());
            names.filter_map(|name| name.to_str()?.parse::<u64>().ok()).collect()
        });
        let mut numbers: Vec<u64> = numbers;
        numbers.sort_unstable();
        numbers.iter().map(|number| self.rows(&format!("state/log/{number}")).remove(0)).collect()
    }
}

/// State of operators in files.
mod spilled {
    use super::*;

    fn storage(dir: &Path, restored: Option<Epoch>, stage: &str) -> (Arc<CheckpointPlace>, Box<dyn StateStorage>) {
        let place = Arc::new(CheckpointPlace::directory(dir.join("state"), &Disk::default()));
        if restored.is_none() {
            place.files.create().expect("a checkpoint");
        }
        let run = restored.map_or(1, |epoch| epoch.run + 1);
        let files = CheckpointFiles::new(place.clone(), run, stage, restored);
        (place, Box::new(files))
    }

    fn window_options(events: &Version, storage: Box<dyn StateStorage>) -> Options {
        Options { memory: Some(MemoryBound { bytes: MEMORY, storage }), ..events.options() }
    }

    fn dedup_options(storage: Box<dyn StateStorage>) -> dedup::Options {
        dedup::Options { span: 20 * SECOND, memory: MemoryBound { bytes: MEMORY, storage } }
    }

    /// Events before the state is saved.
    const FIRST: usize = 400;
    const METRICS: &str = "[[metric]]\nname = \"n\"\nby = [\"user_id\"]\nsize = \"1m\"\nlateness = \"10m\"\n\n\
        [[metric]]\nname = \"visits\"\nby = [\"user_id\"]\ngap = \"20s\"\n";

    /// Runs both operators over the first events; keeps all events, and the state.
    pub fn left() -> Dir {
        let dir = Dir::new("kept-spilled");
        let line = |n: usize| {
            // Every seventh event repeats one of ten seconds before.
            let id = if n.is_multiple_of(7) { n.saturating_sub(100) } else { n };
            let fields =
                json!({"user_id": format!("u{}", n % 450), "event_id": format!("00000000-0000-4000-8000-{id:012}")});
            event(n as f64 / 10.0, &fields)
        };
        dir.write("a.jsonl", (0..600).map(line).collect::<String>());
        let flags = ["-q", "--dlq", "null:", "-f", "jsonl", "-o", "frames", "a.jsonl"];
        dir.write("events.frames", dir.run("evt-ingest", &flags).succeeds().stdout());
        fs::remove_file(dir.path("a.jsonl")).expect("a file");
        dir.write("metrics.toml", METRICS);
        let events = &Version(dir.path(""));
        let (batches, told) = events.events();
        let (first, rest) = batches.split_at(FIRST / BATCH_ROWS);
        let (begin, end) = told.split_at(told.len() - 1);
        let (place, files) = storage(&dir.path(""), None, "1-evt-window");
        let mut window = Window::new(window_options(events, files));
        begin.iter().for_each(|progress| window.on_progress(progress).expect("partitions"));
        for batch in first {
            window.on_batch(batch, 0).expect("events");
            window.fire(&mut |_| Ok(())).expect("it fires");
        }
        let names = window.files().expect("files");
        assert!(!names.is_empty(), "no state is in files");
        dir.write("window.state", window.snapshot());
        let mut ids = Dedup::new(dedup_options(storage(&dir.path(""), None, "2-evt-validate").1));
        first.iter().for_each(|batch| drop(ids.on_batch(batch).expect("events")));
        let of_ids = ids.files().expect("files");
        assert!(!of_ids.is_empty(), "no ids are in files");
        dir.write("dedup.state", ids.snapshot());
        for name in names.iter().chain(&of_ids) {
            place.local().link_part(EPOCH, name, None).expect("a link");
        }
        dir.write("window.rows", results(window, rest, end));
        dir.write("dedup.kept", kept(ids, rest));
        fs::remove_dir_all(dir.path("state/state")).expect("files of the run");
        dir
    }

    /// Restores both operators, and compares what they do with the other events.
    pub fn restore(dir: &Dir) {
        let text = |name: &str| String::from_utf8(dir.bytes(name)).expect("text");
        let events = Version(dir.path(""));
        let (batches, told) = events.events();
        let rest = &batches[FIRST / BATCH_ROWS..];
        let files = storage(&dir.path(""), Some(EPOCH), "1-evt-window").1;
        let window = Window::restore(window_options(&events, files), &dir.bytes("window.state"));
        let found = results(window.expect("it restores"), rest, &told[told.len() - 1..]);
        // Older versions wrote the rows of a firing in the order of the files.
        let sorted = |rows: &str| {
            let mut rows: Vec<String> = rows.lines().map(str::to_owned).collect();
            rows.sort();
            rows
        };
        assert_eq!(sorted(&found), sorted(&text("window.rows")));
        let files = storage(&dir.path(""), Some(EPOCH), "2-evt-validate").1;
        let ids = Dedup::restore(dedup_options(files), &dir.bytes("dedup.state")).expect("it restores");
        assert_eq!(kept(ids, rest), text("dedup.kept"));
    }
}

/// A file of lines with an intent that a killed process left.
pub mod intent {
    use super::*;

    pub const LEDGER: &str = "0123456789abcdef";
    const BATCH: BatchId = BatchId { run: 3, number: 7, piece: 1 };
    /// What the file has at the end.
    pub const LINES: &str = "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n";

    pub fn left() -> Dir {
        let dir = Dir::new("kept-intent");
        dir.write("lines.jsonl", &LINES[..8]);
        // The lock, the intent (open, write, sync, rename, sync of the name); the bytes are torn.
        let fault = DiskFault { after: 6, torn: 11, errno: Errno::IO, is_lasting: true };
        let mut file = OnceFile::new(dir.path("lines.jsonl"), LEDGER, Disk::failing(fault));
        file.lock().expect("locked");
        file.append_piece(BATCH, b"", &LINES.as_bytes()[8..]).expect_err("a fault");
        assert_eq!(dir.bytes("lines.jsonl"), &LINES.as_bytes()[..19]);
        dir
    }

    /// The form of the intent.
    pub fn form(dir: &Dir) -> Value {
        let intent = dir.bytes(&format!("lines.jsonl.evt.{}", &LEDGER[..8]));
        let head = intent.split(|byte| *byte == b'\n').next().expect("a line");
        shape(&serde_json::from_slice(head).expect("JSON"))
    }

    pub fn restore(dir: &Dir) {
        let mut file = OnceFile::new(dir.path("lines.jsonl"), LEDGER, Disk::default());
        file.lock().expect("locked");
        assert_eq!(file.last_batch().expect("an intent"), Some(BATCH));
        assert_eq!(String::from_utf8(dir.bytes("lines.jsonl")).expect("text"), LINES);
    }
}

/// Positions of each kind of input.
mod positions {
    use super::*;

    const KINDS: [&str; 4] = ["files", "followed", "topics", "spool"];

    /// Returns the positions that databases would show for a part of a checkpoint, one a line.
    fn shown(part: &[u8]) -> String {
        Positions::restore(part).expect("positions");
        let found = partition_positions(part, "evt", Some(0)).expect("positions");
        assert!(!found.is_empty(), "no positions");
        found.iter().map(|position| format!("{position:?}\n")).collect()
    }

    /// The positions of the last epoch of a checkpoint in `dir`.
    fn last(dir: &Dir) -> Vec<u8> {
        fs::read(last_epoch(dir).join("1-evt-ingest.positions")).expect("positions")
    }

    /// Lets runs read each kind of input; `None` without a broker.
    pub fn left() -> Option<Dir> {
        let bench = Bench::new("kept-positions")?;
        let kept = Dir::new("kept-positions");
        let topic = bench.topic("events", 1, &[]);
        let events = [0.0, 1.0, 2.0].map(|seconds| event(seconds, &json!({})));
        bench.produce(events.iter().map(|event| record(&topic, 0, event)));
        let group = format!("?group={}&end=latest", bench.prefix);
        let input = bench.uri(&topic, &group);
        for kind in KINDS {
            let dir = Dir::new(&format!("kept-{kind}"));
            dir.write("a.jsonl", events.concat());
            let ingest = |inputs: &[&str]| {
                let flags = ["-q", "--checkpoint", "state", "--checkpoint-every", "5ms", "--to", "out.jsonl"];
                [&flags[..], inputs].concat().iter().map(|&arg| arg.to_owned()).collect::<Vec<String>>()
            };
            let stop = |mut running: Pipe| {
                eventually("three rows", || {
                    fs::read_to_string(dir.path("out.jsonl")).is_ok_and(|text| text.lines().count() == 3)
                });
                running.signal(0, Signal::TERM);
                running.wait();
            };
            match kind {
                "files" => drop(dir.run("evt-ingest", &ingest(&["a.jsonl"])).succeeds()),
                "followed" => {
                    stop(Pipe::start(&dir, &[("evt-ingest", ingest(&["--follow", "-f", "jsonl", "a.jsonl"]))]))
                }
                "topics" => drop(dir.run("evt-ingest", &ingest(&[&input])).succeeds()),
                _ => {
                    let flags = ["--spool", "spool", "--checkpoint", "state", "--to", "out.jsonl"];
                    let listener = Listener::start(&dir, "http://127.0.0.1:0", &flags).listening();
                    events.iter().for_each(|event| assert_eq!(listener.json(event).status, 200));
                    listener.signal(Signal::TERM);
                    listener.wait();
                }
            }
            kept.write(kind, last(&dir));
            kept.write(&format!("{kind}.shown"), shown(&last(&dir)));
        }
        Some(kept)
    }

    pub fn restore(dir: &Dir) {
        for kind in KINDS {
            assert_eq!(shown(&dir.bytes(kind)).as_bytes(), dir.bytes(&format!("{kind}.shown")), "{kind}");
        }
    }
}

/// The state file of evt-alert between two files of events, with an alert that is pending, and one that is firing.
mod alerts {
    use super::*;

    pub fn left() -> Dir {
        let dir = Dir::new("kept-alerts");
        let many = |from: f64, to: f64| crate::alert::lines(&[series(from, to, 1.0, &json!({"user_id": "u"}))]);
        dir.write("a.jsonl", many(0.0, 100.0));
        dir.write("b.jsonl", many(100.0, 200.0) + &many(500.0, 900.0));
        let pending = json!({"name": "pending", "threshold": 40, "for": "2m"});
        let firing =
            json!({"name": "firing", "aggregate": "count(distinct user_id)", "threshold": 0, "group_by": ["user_id"]});
        let silent = json!({"name": "silent", "condition": "lt", "threshold": 1});
        dir.write("rules.json", rules(&[pending, firing, silent].map(|fields| rule(&fields))));
        run(&dir, "a.jsonl");
        dir
    }

    fn run(dir: &Dir, input: &str) -> String {
        let run = once(dir, &["--state", "alerts.db", input]);
        assert!([0, 1].contains(&run.status()), "{run}");
        transitions(&run.rows()).iter().map(|line| format!("{line}\n")).collect()
    }

    /// Reads the second file.
    pub fn finish(dir: &Dir) -> String {
        run(dir, "b.jsonl")
    }
}

/// Makes all of a version in `path`; `None` without a broker.
fn bless(path: &Path) -> Option<()> {
    let positions = positions::left()?;
    let made = Kept(path.to_owned());
    made.keep("positions", &positions);
    made.keep("pipe", &pipe::left());
    let results = pipe::finish(&made.copied("pipe"));
    assert!(results["rows"].as_array().is_some_and(|rows| rows.len() > 5), "{results}");
    fs::write(made.path("pipe.json"), serde_json::to_string_pretty(&results).expect("JSON")).expect("writable");
    made.keep("spilled", &spilled::left());
    made.keep("intent", &intent::left());
    made.keep("alerts", &alerts::left());
    let found = alerts::finish(&made.copied("alerts"));
    assert!(found.lines().count() > 3, "{found}");
    fs::write(made.path("alerts.transitions"), found).expect("writable");
    Some(())
}

#[test]
fn every_checkpoint_ever_kept_is_restored_and_goes_on_to_the_same_rows() {
    for version in Kept::all() {
        let shown = version.0.display();
        let expected: Value = serde_json::from_str(&version.text("pipe.json")).expect("JSON");
        for threads in THREADS {
            let copied = |name: &str| version.copied(name).with_threads(threads);
            assert_eq!(pipe::finish(&copied("pipe")), expected, "{shown}, {threads} threads");
            let found = alerts::finish(&copied("alerts"));
            assert_eq!(found, version.text("alerts.transitions"), "{shown}, {threads} threads");
        }
        spilled::restore(&version.copied("spilled"));
        intent::restore(&version.copied("intent"));
        positions::restore(&version.copied("positions"));
    }
}

#[test]
fn a_form_on_disk_that_has_changed_is_kept_in_a_new_version() {
    let last = Kept::all().pop();
    let is_same = last.as_ref().is_some_and(|last| {
        pipe::forms(&last.copied("pipe")) == pipe::forms(&pipe::left())
            && intent::form(&last.copied("intent")) == intent::form(&intent::left())
    });
    if is_same {
        return;
    }
    assert!(
        std::env::var_os("EVT_BLESS").is_some(),
        "the form of a file of a checkpoint has changed: {BLESS} keeps it"
    );
    let (all, number) = (Path::new(ROOT).join("testdata/checkpoint"), Kept::all().len() + 1);
    bless(&all.join("new")).expect("a broker");
    // At once: the other test reads all versions.
    fs::rename(all.join("new"), all.join(format!("v{number}"))).expect("renamed");
}
