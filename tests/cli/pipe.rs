//! Pipes that break: a stage that is killed, a reader that leaves, a signal to all, a disk that is full.

use crate::harness::{Dir, Run, status};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, Stdio};

const WINDOW: [&str; 5] = ["--size", "10s", "--by", "event_type", "-q"];
const SINK: [&str; 5] = ["--to", "sqlite:metrics.db", "--to", "parquet:lake", "-q"];
const EVENTS: usize = 60_000;

/// Three stages that the test started one by one, so that it can kill any of them.
struct Pipe {
    stages: Vec<Child>,
}

impl Pipe {
    fn start(dir: &Dir) -> Self {
        let (ingest, window) = (["-f", "jsonl", "--origin", "in", "-q"], WINDOW);
        let mut stages: Vec<Child> = vec![];
        for (tool, args) in [("evt-ingest", &ingest[..]), ("evt-window", &window), ("evt-sink", &SINK)] {
            let stdin = match stages.last_mut().and_then(|stage| stage.stdout.take()) {
                Some(stdout) => Stdio::from(stdout),
                None => Stdio::piped(),
            };
            let mut command = dir.command(tool, args);
            stages.push(command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"));
        }
        Self { stages }
    }

    /// Feeds `input` to the first stage, then kills stage `victim`; how all of them ended, and what they said.
    fn kill(mut self, victim: usize, input: &[u8]) -> (Vec<i32>, String) {
        let mut stdin = self.stages[0].stdin.take().expect("it is piped");
        // Where a later stage is dead already the first one's reader has gone.
        let _ = stdin.write_all(input);
        let pid = Pid::from_child(&self.stages[victim]);
        kill_process(pid, Signal::KILL).expect("it is our child, and has not been waited for");
        // Only now: the end of the input must not look like an end to the victim.
        if victim != 0 {
            // A first stage that waits for input does not know that its reader is dead.
            let _ = stdin.write_all(input);
        }
        drop(stdin);
        let said = self.stages.iter_mut().map(|stage| text(stage.stderr.take().expect("it is piped"))).collect();
        (self.stages.iter_mut().map(|stage| status(stage.wait().expect("it ends"))).collect(), said)
    }
}

/// About so many tenths of the input, up to the end of a line.
fn whole_lines(input: &[u8], tenths: usize) -> &[u8] {
    let part = &input[..input.len() * tenths / 10];
    &part[..memchr::memrchr(b'\n', part).map_or(0, |end| end + 1)]
}

fn text(mut stderr: ChildStderr) -> String {
    let mut text = String::new();
    stderr.read_to_string(&mut text).expect("our messages are UTF-8");
    text
}

fn events(dir: &Dir) -> Vec<u8> {
    let line = format!("evt-gen --events {EVENTS} --rate 100 --seed 3 -q");
    dir.shell(&line).succeeds().stdout().to_vec()
}

#[test]
fn a_killed_stage_leaves_torn_streams_behind_it_and_a_second_run_repairs_everything() {
    let calm = Dir::new("calm");
    let input = events(&calm);
    calm.write("in.jsonl", &input);
    let pipe = |dir: &Dir| {
        dir.shell(&format!(
            "evt-ingest in.jsonl --origin in -q | evt-window {} | evt-sink {}",
            WINDOW.join(" "),
            SINK.join(" ")
        ))
        .succeeds()
    };
    pipe(&calm);
    for (victim, tenths) in [(0, 2), (0, 9), (1, 4), (1, 8), (2, 5)] {
        let dir = Dir::new("killed");
        let (ends, said) = Pipe::start(&dir).kill(victim, whole_lines(&input, tenths));
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(ends[victim], 137, "{ends:?} {said}");
        assert!(ends[victim + 1..].iter().all(|end| *end == 65), "killed {victim}: {ends:?} {said}");
        // The one before has lost its reader; one further up may have been done by then.
        assert!(victim == 0 || ends[victim - 1] == 141, "killed {victim}: {ends:?} {said}");
        assert!(ends[..victim].iter().all(|end| [0, 141].contains(end)), "killed {victim}: {ends:?} {said}");
        assert!(lake_files(&dir).is_empty(), "a lake shows files only at a proven end");
        dir.write("in.jsonl", &input);
        pipe(&dir);
        assert_eq!(database(&dir), database(&calm), "killed {victim} after {tenths} tenths");
        assert_eq!(lake_files(&dir), lake_files(&calm), "killed {victim} after {tenths} tenths");
    }
}

/// The metrics of a database by the shell of SQLite's own library, without which run wrote them.
fn database(dir: &Dir) -> Vec<String> {
    let connection = rusqlite::Connection::open(dir.path("metrics.db")).expect("it opens clean");
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it answers");
    assert_eq!(check, "ok");
    let query =
        "SELECT metric_id || window_start || dimensions || value || \"rows\" FROM aggregated_metrics ORDER BY 1";
    let mut statement = connection.prepare(query).expect("the table is there");
    let rows = statement.query_map([], |row| row.get(0)).expect("it answers");
    rows.map(|row| row.expect("a row")).collect()
}

/// The files of a lake: a name is a digest of the rows' keys.
fn lake_files(dir: &Dir) -> BTreeSet<String> {
    let run = dir.shell("if [ -d lake ]; then find lake -name '*.parquet'; fi").succeeds();
    run.text().lines().map(str::to_owned).collect()
}

#[test]
fn no_window_fires_early_when_the_source_is_killed() {
    let dir = Dir::new("early");
    let input = events(&dir);
    dir.write("in.jsonl", &input);
    let all = dir.shell("evt-ingest in.jsonl --origin in -q | evt-window --size 10s -o jsonl -q").succeeds().text();
    for tenths in [1, 5, 9] {
        let mut ingest = dir.command("evt-ingest", &["-f", "jsonl", "--origin", "in", "-q"]);
        let mut ingest = ingest.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut window = dir.command("evt-window", &["--size", "10s", "-o", "jsonl", "-q"]);
        let stdin = Stdio::from(ingest.stdout.take().expect("it is piped"));
        let window = window.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut feed = ingest.stdin.take().expect("it is piped");
        feed.write_all(&input[..input.len() * tenths / 10]).expect("it reads");
        ingest.kill().expect("it is our child");
        ingest.wait().expect("it ends");
        let output = window.wait_with_output().expect("it ends");
        assert_eq!(status(output.status), 65);
        let fired = String::from_utf8(output.stdout).expect("JSON lines are UTF-8");
        assert!(all.starts_with(&fired), "what fired is what would have fired: {fired}");
    }
}

#[test]
fn a_stage_whose_reader_leaves_dies_of_sigpipe_whatever_its_parent_ignores() {
    let dir = Dir::new("epipe");
    for line in ["", "trap '' PIPE; "] {
        let line =
            format!("{line}evt-gen -q | evt-ingest -q | evt-validate -q | head -c 9 > head; echo ${{PIPESTATUS[@]}}");
        assert_eq!(dir.shell(&line).text(), "141 141 141 0\n");
    }
}

#[test]
fn a_signal_to_the_whole_pipe_stops_it_without_a_torn_stream_or_an_early_window() {
    let dir = Dir::new("signal");
    let input = events(&dir);
    dir.write("all.jsonl", &input);
    let window = "evt-window --size 10s -o jsonl --stats window.json";
    let all = dir.shell(&format!("evt-ingest all.jsonl --origin in -q | {window} -q")).succeeds().text();
    for (signal, number) in [(Signal::INT, 2), (Signal::TERM, 15)] {
        dir.write("in.jsonl", &input);
        let mut pipe = dir.start(&format!("evt-ingest --follow in.jsonl --origin in --stats ingest.json | {window}"));
        let mut stdout = BufReader::new(pipe.stdout.take().expect("it is piped"));
        let mut fired = String::new();
        stdout.read_line(&mut fired).expect("a first window fires");
        kill_process_group(Pid::from_child(&pipe), signal).expect("the group is ours");
        stdout.read_to_string(&mut fired).expect("JSON lines are UTF-8");
        let said = text(pipe.stderr.take().expect("it is piped"));
        let end = status(pipe.wait().expect("it ends"));
        assert_eq!(end, 128 + number, "{said}");
        assert!(!said.contains("torn") && !said.contains("panicked"), "{said}");
        assert!(all.starts_with(&fired), "what fired is what would have fired: {said}");
        let count = |file: &str, name: &str| dir.rows(file)[0]["counts"][name].as_u64().expect("a count");
        assert_eq!(count("window.json", "in"), count("ingest.json", "out"), "{said}");
        assert_eq!(dir.rows("window.json")[0]["end"], "stopped");
    }
}

#[test]
fn a_full_disk_a_directory_and_a_missing_file_are_one_clear_line() {
    let dir = Dir::new("disk");
    dir.shell("evt-gen --events 5k -q > in.jsonl; evt-ingest in.jsonl -q > in.frames").succeeds();
    let lines = [
        ("evt-ingest in.jsonl -q > /dev/full", "no space left"),
        ("evt-ingest in.jsonl -q -o jsonl > /dev/full", "no space left"),
        ("evt-sink in.frames -q --to /dev/full", "no space left"),
        ("evt-ingest .", "is a directory"),
        ("evt-ingest nothing.jsonl", "nothing.jsonl: no such file"),
        ("evt-sink in.frames --to missing/out.parquet", "missing/out.parquet"),
    ];
    for (line, told) in lines {
        let run: Run = dir.shell(line).ends_with(74).stays_calm();
        assert!(run.stderr().contains(told) && run.stderr().lines().count() == 1, "{run}");
    }
}

#[test]
fn the_worst_verdict_of_the_stages_reaches_the_last_one() {
    let dir = Dir::new("verdict");
    dir.shell("evt-gen --events 1k --malformed 0.1 --seed 1 -q > in.jsonl").succeeds();
    // Without pipefail: sh sees the last stage alone.
    let run = dir.shell(
        "set +o pipefail; evt-ingest in.jsonl -q --report 0 | evt-validate -q | evt-window --size 1m -q --to null:",
    );
    run.ends_with(1);
    dir.shell("evt-ingest in.jsonl -q --dlq dead.jsonl | evt-window --size 1m -q --to null:").succeeds();
}

#[test]
fn the_same_file_twice_changes_nothing_and_two_days_of_standard_input_do_not_meet() {
    let dir = Dir::new("twice");
    dir.shell("evt-gen --events 1k --seed 1 -q > monday; evt-gen --events 1k --seed 2 -q > tuesday").succeeds();
    let count = || {
        let connection = rusqlite::Connection::open(dir.path("raw.db")).expect("it opens");
        connection.query_row("SELECT count(*) FROM raw_events", [], |row| row.get::<_, i64>(0)).expect("it answers")
    };
    let load = |day: &str| dir.shell(&format!("evt-ingest -q < {day} | evt-sink --to sqlite:raw.db --to parquet:raw"));
    load("monday").succeeds();
    load("tuesday").succeeds();
    assert_eq!(count(), 2000);
    let run = load("monday").succeeds();
    assert!(run.stderr().contains("sqlite:raw.db: in 1000 unchanged 1000"), "{run}");
    assert_eq!(count(), 2000);
}
