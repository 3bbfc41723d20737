//! A file that is rotated while a run with `--checkpoint` reads it: the next run reads each line that no run has read,
//! and no other one.

use crate::follow::position;
use crate::harness::{Dir, ended, eventually};
use std::fs::File;
use std::process::{Child, Stdio};

/// Lines that are more than the stages and the pipe between them hold.
const LINES: usize = 200_000;

/// A log, and a run that has read a part of it and waits for the reader of its output.
struct Waiting {
    dir: Dir,
    ingest: Child,
}

fn lines(name: &str, count: usize) -> String {
    (0..count).map(|line| format!("{{\"t\":\"2026-01-01T00:00:00Z\",\"{name}\":{line}}}\n")).collect()
}

impl Waiting {
    fn new(name: &str) -> Self {
        let dir = Dir::new(name);
        dir.write("app.log", lines("old", LINES));
        let flags = ["app.log", "-f", "jsonl", "--time", "t", "--checkpoint", "state", "-q"];
        let mut ingest = dir.command("evt-ingest", &flags);
        let said = File::create(dir.path("said")).expect("writable");
        let ingest = ingest.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said).spawn().expect("it starts");
        eventually("it has read a part", || position(&ingest, &dir.path("app.log")).is_some_and(|read| read > 100_000));
        Self { dir, ingest }
    }

    /// Reads its output with a further stage, once the file was rotated. Returns the exit statuses of both stages and
    /// the number of rows.
    fn read_on(&mut self) -> ([i32; 2], usize) {
        let sink = ["-q", "--dlq", "null:", "--to", "out.jsonl"];
        let mut sink = self.dir.command("evt-sink", &sink).stdin(Stdio::piped()).spawn().expect("it starts");
        let mut copying = {
            let [from, to] = [self.ingest.stdout.take().map(Stdio::from), sink.stdin.take().map(Stdio::from)];
            let mut cat = self.dir.command("cat", &[""; 0]);
            cat.stdin(from.expect("a pipe")).stdout(to.expect("a pipe")).spawn().expect("it starts")
        };
        let statuses = [ended("the run", &mut self.ingest), ended("the sink", &mut sink)];
        ended("the copying", &mut copying);
        (statuses, self.rows())
    }

    /// Starts the next run; returns the number of its rows.
    fn run(&self, files: &str) -> usize {
        let before = self.rows();
        let ingest = format!("evt-ingest -q {files} -f jsonl --time t --checkpoint state");
        self.dir.shell(&format!("{ingest} | evt-sink -q --dlq null: --to out.jsonl")).succeeds();
        self.rows() - before
    }

    fn rows(&self) -> usize {
        self.dir.bytes("out.jsonl").iter().filter(|byte| **byte == b'\n').count()
    }

    fn said(&self) -> String {
        String::from_utf8(self.dir.bytes("said")).expect("it is text")
    }
}

#[test]
fn the_first_lines_of_a_file_are_read_although_it_took_the_name_while_a_run_read_the_last_one() {
    let mut waiting = Waiting::new("rotation-renamed");
    waiting.dir.shell("mv app.log app.log.1").succeeds();
    waiting.dir.write("app.log", lines("new", 500));
    assert_eq!(waiting.read_on(), ([0, 0], LINES), "{}", waiting.said());
    assert_eq!(waiting.run("app.log app.log.1"), 500);
    assert_eq!(waiting.run("app.log.1 app.log"), 0);
}

#[test]
fn a_run_ends_well_although_its_file_was_compressed_meanwhile() {
    let mut waiting = Waiting::new("rotation-compressed");
    waiting.dir.shell("gzip app.log").succeeds();
    assert_eq!(waiting.read_on(), ([0, 0], LINES), "{}", waiting.said());
    assert_eq!(waiting.run("app.log.gz"), 0);
}

#[test]
fn a_file_that_is_copied_and_truncated_while_a_run_reads_it_loses_no_line() {
    let mut waiting = Waiting::new("rotation-truncated");
    waiting.dir.shell("cp app.log app.log.1; : > app.log").succeeds();
    waiting.dir.write("app.log", lines("new", 500));
    let (statuses, read) = waiting.read_on();
    let said = waiting.said();
    assert!(statuses == [1, 1] && read < LINES, "{statuses:?}, {read}: {said}");
    assert!(said.contains("app.log: truncated while it was read; lines may be lost"), "{said}");
    assert_eq!(waiting.run("app.log"), 500);
    assert_eq!(waiting.run("app.log.1"), LINES - read);
}
