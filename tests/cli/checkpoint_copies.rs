//! `--checkpoint`: directories that were restored from an older copy, and copies that run beside the original.

use crate::broker::Bench;
use crate::checkpoint::{Job, lines, ordered, stored};
use crate::checkpoint_pipes::Pipe;
use crate::harness::{Dir, eventually, suspend};
use crate::kept_checkpoints::copy;
use crate::servers::{postgres, redis};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, Stdio};

/// A line of input.
fn event(n: u64) -> String {
    format!("{{\"server_timestamp\":\"2026-01-01T{:02}:{:02}:{:02}Z\",\"n\":{n}}}\n", n / 3600, n / 60 % 60, n % 60)
}

/// Replaces a directory of the test by another one.
fn replace(dir: &Dir, name: &str, from: &str) {
    let _ = fs::remove_dir_all(dir.path(name));
    fs::create_dir(dir.path(name)).expect("a directory");
    copy(&dir.path(from), &dir.path(name));
}

/// The numbers of the events in the whole lines of a file. While a run appends to the file, its last line may not be
/// whole.
fn numbers(dir: &Dir, name: &str) -> Vec<u64> {
    let bytes = dir.bytes(name);
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let number = |line: &[u8]| {
        let row: Value = serde_json::from_slice(line).expect("JSON");
        row["properties"]["n"].as_u64().expect("a number")
    };
    lines.map(number).collect()
}

/// Runs a job three times, between the last two of which its checkpoint becomes that of the first run. The third run
/// must write nothing, and after the newest copy is back, a run continues.
fn refuses_an_older_copy(job: &Job, uri: &str) {
    for (name, minutes) in [("a.jsonl", 0..5), ("b.jsonl", 5..10), ("c.jsonl", 10..15)] {
        job.dir.write(name, ordered(minutes));
    }
    job.run(&["-q", "a.jsonl"]).succeeds();
    replace(&job.dir, "older", "state");
    job.run(&["-q", "b.jsonl"]).succeeds();
    replace(&job.dir, "newer", "state");
    replace(&job.dir, "state", "older");
    let said = job.run(&["-q", "c.jsonl"]).ends_with(75).stderr();
    assert!(said.contains("expected epoch ") && said.contains("state is older than this output"), "{uri}: {said}");
    let shown = job.view().text();
    assert!(!shown.contains("2 complete epochs"), "{uri}: {shown}");
    job.run(&["-q", "c.jsonl"]).ends_with(75);
    replace(&job.dir, "state", "newer");
    job.run(&["-q", "--at-end", "fire", "c.jsonl"]).succeeds();
}

/// The rows of the output, sorted, without the name of the run.
fn rows(job: &Job, uri: &str) -> Vec<String> {
    let found = match uri.split(':').next() {
        Some("rows.csv") => return lines(&job.dir, "rows.csv"),
        Some("sqlite") => return stored(&job.dir),
        Some("parquet") => job.dir.run("evt-view", &["-q", "-o", "jsonl", "parquet:lake"]).succeeds().rows(),
        _ => job.dir.rows("rows.jsonl"),
    };
    let without_run = |mut row: Value| {
        row.as_object_mut().expect("a row").remove("run");
        row.to_string()
    };
    let mut rows: Vec<String> = found.into_iter().map(without_run).collect();
    rows.sort();
    rows
}

fn windows(name: &str, uri: &str) -> Job {
    Job::new(name, &["--dlq", "null:", "--late", "null:", "--checkpoint-every", "1h", "--to", uri])
}

/// Its run gets the number of the lost one, and outputs took its epoch for that of the lost run: the rows were dropped.
#[test]
fn a_checkpoint_that_is_older_than_its_outputs_by_one_run_is_75_and_loses_no_rows() {
    let files =
        ["rows.jsonl", "rows.csv", "sqlite:m.db", "sqlite:m.db?visible=now", "parquet:lake", "parquet:lake?roll=1h"];
    for (at, uri) in files.into_iter().enumerate() {
        let (job, whole) = (windows(&format!("older-{at}"), uri), windows(&format!("older-whole-{at}"), uri));
        refuses_an_older_copy(&job, uri);
        for file in ["a.jsonl", "b.jsonl", "c.jsonl"] {
            whole.dir.write(file, job.dir.bytes(file));
            let end = if file == "c.jsonl" { "fire" } else { "hold" };
            whole.run(&["-q", "--at-end", end, file]).succeeds();
        }
        assert!(rows(&job, uri) == rows(&whole, uri), "{uri}");
    }
}

#[test]
fn a_checkpoint_that_is_older_than_a_server_by_one_run_is_75() {
    let bench = Bench::new("older");
    let topic = bench.as_ref().map(|bench| bench.uri(&bench.topic("rows", 1, &[]), ""));
    let servers = [topic, postgres().map(|(uri, ..)| uri), redis().map(|(uri, ..)| uri)];
    for (at, uri) in servers.into_iter().flatten().enumerate() {
        refuses_an_older_copy(&windows(&format!("older-server-{at}"), &uri), &uri);
    }
}

/// Appends lines to the followed file.
fn append(dir: &Dir, lines: String) {
    let mut file = File::options().append(true).open(dir.path("a.jsonl")).expect("a file");
    file.write_all(lines.as_bytes()).expect("writable");
}

/// Starts a run that follows a file.
fn follow(dir: &Dir, checkpoint: &str) -> Child {
    let flags = format!(
        "-q --dlq null: --checkpoint {checkpoint} --checkpoint-every 20ms -f jsonl --follow a.jsonl --to o.jsonl"
    );
    let mut command = dir.command("evt-ingest", &flags.split(' ').collect::<Vec<_>>());
    command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("a child");
}

/// The copy has the same run as the lost one, and fewer epochs of it. The rows after it were written twice.
#[test]
fn a_copy_of_a_checkpoint_that_was_made_during_a_run_is_75_once_outputs_have_later_epochs() {
    let dir = Dir::new("copied-while-running");
    dir.write("a.jsonl", (1..=3).map(event).collect::<String>());
    let mut run = follow(&dir, "state");
    let has = |count: usize| {
        dir.path("o.jsonl").exists() && dir.bytes("o.jsonl").split(|byte| *byte == b'\n').count() == count + 1
    };
    eventually("three rows", || has(3));
    suspend(&run);
    replace(&dir, "copy", "state");
    append(&dir, (4..=6).map(event).collect());
    signal(&run, Signal::CONT);
    eventually("six rows", || has(6));
    run.kill().expect("a child");
    run.wait().expect("a child");
    replace(&dir, "state", "copy");
    let said = dir
        .run(
            "evt-ingest",
            &["-q", "--dlq", "null:", "--checkpoint", "state", "-f", "jsonl", "--follow", "a.jsonl", "--to", "o.jsonl"],
        )
        .ends_with(75)
        .stderr();
    assert!(said.contains("state is older than this output"), "{said}");
    assert_eq!(numbers(&dir, "o.jsonl"), [1, 2, 3, 4, 5, 6]);
}

/// The runs of both have one number in the logs. One took the epoch of the other for its own.
#[test]
fn two_copies_of_a_checkpoint_that_run_at_the_same_time_lose_no_row_and_one_ends_with_75() {
    let dir = Dir::new("two-copies");
    dir.write("a.jsonl", event(1));
    let ingest =
        ["-q", "--dlq", "null:", "--checkpoint", "state", "-f", "jsonl", "--to", "o.jsonl", "--follow", "a.jsonl"];
    let mut first = dir.command("evt-ingest", &ingest).stdin(Stdio::null()).spawn().expect("it starts");
    eventually("a row", || dir.path("o.jsonl").exists() && numbers(&dir, "o.jsonl") == [1]);
    signal(&first, Signal::TERM);
    first.wait().expect("a child");
    replace(&dir, "copy", "state");
    let entries = |name: &str| fs::read_dir(dir.path(name)).expect("a log").count();
    let before = entries("state/log");
    let mut runs = [follow(&dir, "state"), follow(&dir, "copy")];
    eventually("both have begun", || entries("state/log") > before && entries("copy/log") > before);
    let mut next = 2;
    let mut ended = None;
    eventually("one of them ends", || {
        append(&dir, event(next));
        next += 1;
        ended = runs.iter_mut().find_map(|run| run.try_wait().expect("a child"));
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(75));
    eventually("all rows", || {
        let found = numbers(&dir, "o.jsonl");
        (1..next).all(|n| found.contains(&n))
    });
    runs.iter_mut().for_each(|run| {
        let _ = run.kill();
        run.wait().expect("a child");
    });
}

/// Only the last stage has an output. The stage before it began the run.
#[test]
fn a_pipe_with_a_checkpoint_that_is_older_than_the_output_of_its_last_stage_is_75() {
    let dir = Dir::new("older-pipe");
    let text = |flags: &str| flags.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let pipe = |inputs: &str| {
        let stages = [
            ("evt-ingest", text(&format!("-q --dlq null: --checkpoint state --checkpoint-every 1h {inputs}"))),
            ("evt-sink", text("-q --to rows.jsonl")),
        ];
        Pipe::start(&dir, &stages).wait()
    };
    for n in 1..=3 {
        dir.write(&format!("{n}.jsonl"), event(n));
    }
    assert_eq!(pipe("1.jsonl"), [0, 0]);
    replace(&dir, "older", "state");
    assert_eq!(pipe("2.jsonl"), [0, 0]);
    replace(&dir, "state", "older");
    let statuses = pipe("3.jsonl");
    // The first stage learns it from the checkpoint, or from its pipe, whose reader has ended (141).
    assert!(matches!(statuses[..], [75 | 141, 75]), "{statuses:?}");
    assert_eq!(numbers(&dir, "rows.jsonl"), [1, 2]);
}
