//! Stages that are killed and pipes that are stopped, at positions that a seed determines; `EVT_SEED` sets another one.

use crate::harness::{Dir, Draws, ROOT, ask, eventually, listens, python, status};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

/// Two stages write dead letters into one database: each waits for the other's lock, on a machine that may be under
/// load.
const DEAD: &str = "sqlite:dead.db?wait=2m";
/// The clock of every run, so that two runs store equal rows in all columns.
const NOW: &str = "2026-02-01T00:00:00Z";
const GEN: &str = "--seed 5 --rate 10 --late 0.01 --duplicates 0.01 --malformed 0.005 --invalid 0.003 -q";
/// Only `latency` waits for late rows: a window of any other metric fires once, complete.
const METRICS: &str = r#"
[defaults]
size = "1m"
[[metric]]
name = "events"
by = ["event_type"]
[[metric]]
name = "latency"
aggregate = "sum(latency_ms)"
by = ["country"]
lateness = "10m"
[[metric]]
name = "visitors"
aggregate = "approx_distinct(user_id)"
size = "10m"
slide = "1m"
"#;

/// The stages of a pipe, each with its flags.
type Stages = Vec<(&'static str, Vec<String>)>;

/// The whole pipe into two stores, with dead letters and late rows in two more.
fn spine() -> Stages {
    let schemas = format!("{ROOT}/examples/schemas");
    let stages: [(&str, &[&str]); 4] = [
        ("evt-ingest", &["-f", "jsonl", "--origin", "in", "--dlq", DEAD]),
        ("evt-validate", &["--schemas", &schemas, "--dedup", "10m", "--dlq", DEAD]),
        ("evt-window", &["-m", "metrics.toml", "--late", "sqlite:late.db"]),
        ("evt-sink", &["--to", "sqlite:metrics.db", "--to", "parquet:lake"]),
    ];
    owned(&stages)
}

/// Every event into a database and a lake whose files appear while the run continues; dead letters into a lake.
fn load() -> Stages {
    let stages: [(&str, &[&str]); 2] = [
        ("evt-ingest", &["-f", "jsonl", "--origin", "in", "--dlq", "parquet:dead"]),
        ("evt-sink", &["--to", "sqlite:raw.db", "--to", "parquet:raw?roll=1MiB"]),
    ];
    owned(&stages)
}

fn owned(stages: &[(&'static str, &[&str])]) -> Stages {
    stages.iter().map(|(tool, args)| (*tool, args.iter().map(|arg| (*arg).to_owned()).collect())).collect()
}

/// A running pipe; the link into stage `cut` goes through the test.
struct Pipe {
    stages: Vec<Child>,
    cut: usize,
    from: Box<dyn Read>,
    to: Option<ChildStdin>,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // If a test has failed, the processes are still running.
        self.stages.iter_mut().for_each(|stage| drop(stage.kill().and_then(|()| stage.wait())));
    }
}

impl Pipe {
    /// Starts the stages in a process group of their own, `input` on standard input of the first.
    fn start(dir: &Dir, stages: &Stages, input: &Path, cut: usize) -> Self {
        dir.write("metrics.toml", METRICS);
        let mut running: Vec<Child> = vec![];
        let mut from: Option<Box<dyn Read>> = None;
        for (index, (tool, args)) in stages.iter().enumerate() {
            let input = || File::open(input).expect("the input is there");
            let before = running.last_mut().and_then(|stage| stage.stdout.take());
            let stdin = match (before, index == cut) {
                (before, true) => {
                    from = Some(before.map_or_else(|| Box::new(input()) as Box<dyn Read>, |before| Box::new(before)));
                    Stdio::piped()
                }
                (Some(before), false) => before.into(),
                (None, false) => input().into(),
            };
            let said = File::create(dir.path(&format!("{tool}.said"))).expect("writable");
            let mut command = dir.command(tool, args);
            command.args(["--stats", &format!("{tool}.json")]).env("EVT_NOW", NOW);
            command.process_group(running.first().map_or(0, |first| Pid::from_child(first).as_raw_nonzero().get()));
            command.stdin(stdin).stderr(said);
            let is_last = index + 1 == stages.len();
            command.stdout(if is_last { Stdio::null() } else { Stdio::piped() });
            running.push(command.spawn().expect("it starts"));
        }
        let to = running[cut].stdin.take();
        Self { stages: running, cut, from: from.expect("a link is cut"), to }
    }

    /// Forwards `bytes` bytes of the cut link, or all of them.
    fn pass(&mut self, mut bytes: u64) {
        let mut buffer = vec![0; 64 << 10];
        while bytes > 0 {
            let most = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
            let count = self.from.read(&mut buffer[..most]).expect("the stage before writes");
            if count == 0 {
                return;
            }
            self.to.as_mut().expect("it is open").write_all(&buffer[..count]).expect("the stage reads");
            bytes -= count as u64;
        }
    }

    /// Kills the stage after the cut link, then closes both ends of the link; returns how all stages ended.
    fn kill(mut self) -> Vec<i32> {
        kill_process(Pid::from_child(&self.stages[self.cut]), Signal::KILL).expect("it is our child");
        // Close the link only after the stage is dead: it must not take the closed link for an end of input.
        self.stages[self.cut].wait().expect("it ends");
        self.ends()
    }

    /// Closes both ends of the cut link; returns how all stages ended.
    fn ends(mut self) -> Vec<i32> {
        self.to = None;
        self.from = Box::new(std::io::empty());
        self.stages
            .iter_mut()
            .map(|stage| {
                eventually("a stage ends", || stage.try_wait().expect("it is our child").is_some());
                status(stage.wait().expect("it has ended"))
            })
            .collect()
    }

    /// Returns the messages of all stages so far.
    fn said(dir: &Dir, stages: &Stages) -> String {
        stages
            .iter()
            .map(|(tool, _)| String::from_utf8_lossy(&dir.bytes(&format!("{tool}.said"))).into_owned())
            .collect()
    }
}

/// A pipe and its input: the results of an undisturbed run, and the number of bytes through each link.
struct Scene {
    calm: Dir,
    stages: Stages,
    links: Vec<u64>,
}

impl Scene {
    fn new(name: &str, stages: Stages, events: &str) -> Self {
        let calm = Dir::live(name);
        calm.shell(&format!("evt-gen --events {events} {GEN} > in.jsonl")).succeeds();
        let input = calm.path("in.jsonl");
        let bytes = std::fs::metadata(&input).expect("it is there").len();
        let links = (1..stages.len()).map(|cut| Self::run(&calm, &stages, &input, cut));
        let links = std::iter::once(bytes).chain(links).collect();
        Self { calm, stages, links }
    }

    /// Runs the pipe to its end, again and again into the same stores; the bytes that went through link `cut`. The
    /// first stage reads the file itself, so that its batches, and with them the bytes of a lake, do not depend on when
    /// bytes arrive.
    fn run(dir: &Dir, stages: &Stages, input: &Path, cut: usize) -> u64 {
        let mut pipe = Pipe::start(dir, stages, input, cut);
        let mut from = std::mem::replace(&mut pipe.from, Box::new(std::io::empty()));
        let bytes = std::io::copy(&mut from, pipe.to.as_mut().expect("it is open")).expect("all stages run");
        let ends = pipe.ends();
        assert!(ends.iter().all(|end| *end == 0), "{ends:?} {}", Pipe::said(dir, stages));
        bytes
    }

    fn run_again(&self, dir: &Dir) {
        Self::run(dir, &self.stages, &self.calm.path("in.jsonl"), 1);
    }

    /// Runs the pipe and kills stage `victim` after it has received `bytes` bytes.
    fn killed(&self, victim: usize, bytes: u64) -> Dir {
        let dir = Dir::live("killed");
        let mut pipe = Pipe::start(&dir, &self.stages, &self.calm.path("in.jsonl"), victim);
        pipe.pass(bytes);
        let ends = pipe.kill();
        let told = format!("stage {victim} at {bytes}: {ends:?} {}", Pipe::said(&dir, &self.stages));
        assert!(!told.contains("panicked"), "{told}");
        assert_eq!(ends[victim], 137, "{told}");
        assert!(ends[victim + 1..].iter().all(|end| *end == 65), "{told}");
        // A stage that writes to a dead reader ends by SIGPIPE; a stage that had written everything before ends
        // normally.
        assert!(ends[..victim].iter().all(|end| [0, 141].contains(end)), "{told}");
        for (tool, _) in &self.stages[victim + 1..] {
            let said = String::from_utf8(dir.bytes(&format!("{tool}.said"))).expect("our messages are UTF-8");
            assert!(said.lines().filter(|line| line.contains("torn stream")).count() == 1, "{told}");
        }
        dir
    }
}

/// Returns every row of a table without its run id, read by SQLite itself. The file must be intact.
fn table(dir: &Dir, file: &str, table: &str) -> BTreeSet<String> {
    if !dir.path(file).exists() {
        return BTreeSet::new();
    }
    let db = Connection::open(dir.path(file)).expect("it opens");
    // A run may be writing it.
    db.busy_timeout(Duration::from_secs(60)).expect("set");
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it answers");
    assert_eq!(check, "ok");
    strings(&db, "SELECT name FROM sqlite_schema WHERE name = ?1", table).first().map_or_else(BTreeSet::new, |_| {
        // A pane is a firing: how many there are depends on when the rows of a pipe arrive.
        let names = strings(&db, "SELECT name FROM pragma_table_info(?1) WHERE name NOT IN ('run', 'pane')", table);
        let columns: Vec<String> = names.iter().map(|name| format!("quote(\"{name}\")")).collect();
        strings(&db, &format!("SELECT {} FROM {table} WHERE ?1 = ?1", columns.join(" || ' ' || ")), "")
            .into_iter()
            .collect()
    })
}

fn strings(db: &Connection, query: &str, argument: &str) -> Vec<String> {
    let mut statement = db.prepare(query).expect("SQL");
    let rows = statement.query_map([argument], |row| row.get(0)).expect("it answers");
    rows.map(|row| row.expect("text")).collect()
}

/// The complete files of a lake with their bytes.
fn lake(dir: &Dir, name: &str) -> BTreeSet<(String, Vec<u8>)> {
    let run = dir.shell(&format!("if [ -d {name} ]; then find {name} -name '*.parquet'; fi")).succeeds();
    run.text().lines().map(|file| (file.to_owned(), dir.bytes(file))).collect()
}

/// Checks the metrics that an aborted run has stored: all metrics of each window, without those that late rows may
/// still correct.
fn assert_none_early(seen: &BTreeSet<String>, all: &BTreeSet<String>, told: &str) {
    let early: Vec<_> = seen.difference(all).filter(|row| !row.contains(" 'latency' ")).collect();
    assert!(early.is_empty(), "{told}: {early:?}");
    let key = |row: &String| row.split(' ').take(5).collect::<Vec<_>>().join(" ");
    let keys: BTreeSet<String> = all.iter().map(key).collect();
    assert!(seen.iter().map(key).all(|row| keys.contains(&row)), "{told}: a window that never was");
}

#[test]
fn a_pipe_killed_at_any_stage_fires_no_window_early_and_a_second_run_repairs_it() {
    let scene = Scene::new("spine", spine(), "60k");
    let stores = [("metrics.db", "aggregated_metrics"), ("late.db", "late_events"), ("dead.db", "dead_letters")];
    let calm = stores.map(|(file, name)| table(&scene.calm, file, name));
    assert!(calm.iter().all(|rows| !rows.is_empty()));
    let files = lake(&scene.calm, "lake");
    let (mut draws, mut halfway) = (Draws::new(), 0);
    for victim in [0, 1, 2, 3, 0, 1, 2, 3] {
        let bytes = draws.below(scene.links[victim]);
        let dir = scene.killed(victim, bytes);
        let told = format!("{draws}: stage {victim} at {bytes}");
        let seen = stores.map(|(file, name)| table(&dir, file, name));
        assert_none_early(&seen[0], &calm[0], &told);
        halfway += usize::from(!seen[0].is_empty() && seen[0].len() < calm[0].len());
        assert!(seen[1].is_subset(&calm[1]) && seen[2].is_subset(&calm[2]), "{told}");
        assert!(lake(&dir, "lake").is_empty(), "{told}: a lake shows files only at a proven end");
        scene.run_again(&dir);
        for ((file, name), calm) in stores.iter().zip(&calm) {
            assert!(table(&dir, file, name) == *calm, "{told}: {file} differs");
        }
        assert!(lake(&dir, "lake") == files, "{told}: the lake differs");
    }
    assert!(halfway > 2, "{draws}: too few were killed on their way");
}

#[test]
fn raw_events_and_dead_letters_survive_a_kill_and_a_lake_never_shows_a_torn_file() {
    let scene = Scene::new("load", load(), "40k");
    let raw = table(&scene.calm, "raw.db", "raw_events");
    let lakes = ["raw", "dead"].map(|name| lake(&scene.calm, name));
    assert!(raw.len() > 39_000 && lakes[0].len() > 3 && !lakes[1].is_empty());
    let torn = Dir::new("torn");
    let mut draws = Draws::new();
    for at in 0..6 {
        let victim = at % 2;
        let bytes = draws.below(scene.links[victim]);
        let dir = scene.killed(victim, bytes);
        let told = format!("{draws}: stage {victim} at {bytes}");
        assert!(table(&dir, "raw.db", "raw_events").is_subset(&raw), "{told}");
        for (name, files) in ["raw", "dead"].iter().zip(&lakes) {
            let seen = lake(&dir, name);
            seen.iter().for_each(|(file, bytes)| torn.write(&format!("{at}/{file}"), bytes));
            assert!(seen.is_subset(files), "{told}: {name} shows a file that an undisturbed run does not");
        }
        scene.run_again(&dir);
        assert!(table(&dir, "raw.db", "raw_events") == raw, "{told}: the database differs");
        for (name, files) in ["raw", "dead"].iter().zip(&lakes) {
            assert!(lake(&dir, name) == *files, "{told}: {name} differs");
        }
    }
    let Some(python) = python() else { return };
    ask(&torn, &python, "whole.py", &["."]);
}

/// The number of complete files in a lake while a run writes it.
fn shown(dir: &Dir, name: &str) -> usize {
    let days = std::fs::read_dir(dir.path(name)).into_iter().flatten().flatten();
    let files = days.flat_map(|day| std::fs::read_dir(day.path()).into_iter().flatten().flatten());
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "parquet")).count()
}

#[test]
fn a_sink_killed_while_its_files_appear_leaves_whole_ones_and_the_next_run_adds_the_rest() {
    const DAYS: u64 = 200;
    let line = |at: u64| {
        let (month, day) = (at % 12 + 1, at / 12 % 28 + 1);
        format!("{{\"event_type\":\"a\",\"server_timestamp\":\"2025-{month:02}-{day:02}T10:00:00Z\",\"n\":{at}}}\n")
    };
    let calm = Dir::new("days");
    calm.write("in.jsonl", (0..DAYS).map(line).collect::<String>());
    let input = calm.path("in.jsonl");
    let stages = owned(&[("evt-ingest", &["-f", "jsonl", "--origin", "in"]), ("evt-sink", &["--to", "parquet:raw"])]);
    Scene::run(&calm, &stages, &input, 1);
    let files = lake(&calm, "raw");
    assert_eq!(files.len() as u64, DAYS);
    let (mut draws, torn) = (Draws::new(), Dir::new("torn"));
    let (mut at, mut killed) = (0, 0);
    // On a loaded machine the sink may often end before the test sees its files.
    while at < 6 || killed < 2 {
        assert!(at < 60, "{draws}: only {killed} of {at} runs were killed");
        let files_min = draws.below(DAYS / 2) as usize + 1;
        let dir = Dir::new("publish");
        let mut pipe = Pipe::start(&dir, &stages, &input, 1);
        pipe.pass(u64::MAX);
        pipe.to = None;
        eventually("files appear", || shown(&dir, "raw") >= files_min);
        let ends = pipe.kill();
        let told = format!("{draws}: at {files_min} files: {ends:?} {}", Pipe::said(&dir, &stages));
        // The stage may have ended before the kill.
        assert!([0, 137].contains(&ends[1]), "{told}");
        killed += usize::from(ends[1] == 137);
        let seen = lake(&dir, "raw");
        assert!(seen.len() >= files_min && seen.is_subset(&files), "{told}");
        seen.iter().for_each(|(file, bytes)| torn.write(&format!("{at}/{file}"), bytes));
        Scene::run(&dir, &stages, &input, 1);
        assert!(lake(&dir, "raw") == files, "{told}: the lake differs");
        let left = std::fs::read_dir(dir.path("raw/.evt")).expect("it is there").flatten();
        assert!(left.filter(|entry| entry.file_name() != "lock").count() == 0, "{told}: parts are left");
        at += 1;
    }
    let Some(python) = python() else { return };
    ask(&torn, &python, "whole.py", &["."]);
}

/// Returns a number of the `--stats` of a stage.
fn stat(dir: &Dir, tool: &str, path: &str) -> u64 {
    let stats = dir.rows(&format!("{tool}.json")).remove(0);
    stats.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{tool}: no {path} in {stats}"))
}

/// Checks the law of counts, within each stage and from one stage to the next.
fn assert_counts_add_up(dir: &Dir, stages: &Stages, told: &str) {
    let mut sent = None;
    for (tool, _) in stages {
        let count = |name: &str| stat(dir, tool, &format!("/counts/{name}"));
        let outcomes: u64 = ["out", "dead", "dropped", "duplicate", "late", "filtered"].map(count).iter().sum();
        assert_eq!(count("in"), outcomes, "{told}: {tool}");
        let rows = stat(dir, tool, "/outputs/0/rows");
        assert!(sent.is_none_or(|sent| sent == count("in")), "{told}: {tool} was sent {sent:?}");
        sent = Some(rows);
    }
}

#[test]
fn a_signal_to_the_whole_group_while_a_file_is_followed_tears_nothing_and_fires_nothing_early() {
    let mut stages = spine();
    let scene = Scene::new("follow", stages.clone(), "40k");
    let calm = table(&scene.calm, "metrics.db", "aggregated_metrics");
    let input = scene.calm.bytes("in.jsonl");
    stages[0].1.extend(["--follow", "grows.jsonl"].map(str::to_owned));
    let mut draws = Draws::new();
    let mut fired = 0;
    for (at, (signal, number)) in [(Signal::INT, 2), (Signal::TERM, 15)].repeat(4).into_iter().enumerate() {
        let dir = Dir::live("stopped");
        dir.write("grows.jsonl", "");
        let pipe = Pipe::start(&dir, &stages, Path::new("/dev/null"), 0);
        eventually("all stages listen", || pipe.stages.iter().all(listens));
        // In pieces that end anywhere, also within a line.
        let total = match at {
            0 | 1 => 0,
            2..=4 => draws.below(input.len() as u64) as usize,
            _ => input.len() / 2 + draws.below(input.len() as u64 / 2) as usize,
        };
        let mut file = File::options().append(true).open(dir.path("grows.jsonl")).expect("it is ours");
        let mut written = 0;
        while written < total {
            let end = total.min(written + draws.below(1 << 20) as usize + 1);
            file.write_all(&input[written..end]).expect("writable");
            written = end;
        }
        if at > 4 {
            eventually("windows fire", || !table(&dir, "metrics.db", "aggregated_metrics").is_empty());
        }
        kill_process_group(Pid::from_child(&pipe.stages[0]), signal).expect("the group is ours");
        let ends = pipe.ends();
        let told = format!("{draws}: {signal:?} after {total} bytes: {ends:?} {}", Pipe::said(&dir, &stages));
        assert!(!told.contains("torn") && !told.contains("panicked"), "{told}");
        assert!(ends.iter().all(|end| *end == 128 + number), "{told}");
        assert_counts_add_up(&dir, &stages, &told);
        let lines = memchr::memchr_iter(b'\n', &input[..total]).count() as u64;
        assert!(stat(&dir, "evt-ingest", "/counts/in") <= lines, "{told}: half a line was read");
        let seen = table(&dir, "metrics.db", "aggregated_metrics");
        assert_none_early(&seen, &calm, &told);
        fired += seen.len();
    }
    assert!(fired > 0, "{draws}: nothing has fired at all");
}
