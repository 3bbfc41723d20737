//! What replaces a file or the days of a lake: at a proven end, whole, or not at all.

use crate::harness::{Dir, ROOT, Run, bin_dir, eventually, listens, python, status};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Lines of events, a second apart, from 2026-01-01 on.
fn lines(count: usize) -> String {
    let line = |at: usize| format!("{{\"t\":\"2026-01-01T00:{:02}:{:02}Z\",\"n\":{at}}}\n", at / 60, at % 60);
    (0..count).map(line).collect()
}

/// A run that reads a pipe whose writer stays.
struct Waiting {
    run: Child,
    input: ChildStdin,
}

impl Waiting {
    /// Starts `evt-ingest -` with these outputs, and returns when `count` rows have gone through all of them.
    fn after(dir: &Dir, outputs: &[&str], count: usize) -> Self {
        let mut args = vec!["-q", "-", "-f", "jsonl", "--time", "t"];
        args.extend(outputs);
        // Outputs are written in the order of the command line: what the last one has, all have.
        args.extend(["--to", "seen.jsonl"]);
        let mut command = dir.command("evt-ingest", &args);
        let mut run =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut input = run.stdin.take().expect("it is piped");
        input.write_all(lines(count).as_bytes()).expect("it reads");
        let name = if outputs.contains(&"--overwrite") { "seen.jsonl.part" } else { "seen.jsonl" };
        let seen = || std::fs::read(dir.path(name)).unwrap_or_default();
        eventually("the rows are written", || memchr::memchr_iter(b'\n', &seen()).count() == count);
        Self { run, input }
    }

    /// Ends it by a signal; what it said on stderr.
    fn stopped(self, signal: Signal) -> String {
        eventually("it listens", || listens(&self.run));
        kill_process(Pid::from_child(&self.run), signal).expect("it is our child");
        let output = self.run.wait_with_output().expect("it ends");
        drop(self.input);
        assert_eq!(status(output.status), 128 + signal.as_raw());
        String::from_utf8(output.stderr).expect("our messages are UTF-8")
    }
}

#[test]
fn a_stopped_run_replaces_no_file_and_leaves_what_it_read_in_a_whole_part() {
    for (name, signal) in ["x.parquet", "x.avro", "x.arrows", "x.csv", "x.jsonl"]
        .into_iter()
        .zip([Signal::TERM, Signal::INT].into_iter().cycle())
    {
        let dir = Dir::new("stopped");
        dir.write("old.jsonl", lines(60));
        let overwrite = ["--overwrite", "--to", name];
        dir.run("evt-ingest", &[&["-q", "old.jsonl", "--time", "t"], &overwrite[..]].concat()).succeeds();
        let old = dir.bytes(name);
        let said = Waiting::after(&dir, &overwrite, 40).stopped(signal);
        assert!(dir.bytes(name) == old, "{name}: the file is another");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(&format!("{name}: stopped before the end of the input: not replaced")), "{said}");
        assert!(said.trim_end().ends_with(&format!("{name}.part")), "{said}");
        let part = dir.run("evt-view", &["-q", &format!("{name}.part"), "-o", "jsonl"]).succeeds();
        assert_eq!(part.rows().len(), 40, "{name}: {part}");
        // The next whole run begins the part anew, and nothing of the stopped one is left.
        dir.write("new.jsonl", lines(70));
        dir.run("evt-ingest", &[&["-q", "new.jsonl", "--time", "t"], &overwrite[..]].concat()).succeeds();
        assert_eq!(dir.run("evt-view", &["-q", name, "-o", "jsonl"]).succeeds().rows().len(), 70, "{name}");
        assert!(!dir.path(&format!("{name}.part")).exists(), "{name}");
    }
}

#[test]
fn a_stopped_run_gives_a_new_file_its_name() {
    let dir = Dir::new("stopped");
    let said = Waiting::after(&dir, &["--overwrite", "--to", "x.parquet"], 40).stopped(Signal::TERM);
    assert_eq!(said, "");
    assert_eq!(dir.run("evt-view", &["-q", "x.parquet", "-o", "jsonl"]).succeeds().rows().len(), 40);
    assert!(!dir.path("x.parquet.part").exists());
}

#[test]
fn a_sink_behind_a_stopped_stage_replaces_nothing_and_its_verdict_is_no() {
    for (to, flags) in [("x.parquet", vec!["--overwrite"]), ("parquet:lake?mode=replace", vec![])] {
        let dir = Dir::new("behind");
        dir.write("old.jsonl", lines(30));
        dir.run("evt-ingest", &[&["-q", "old.jsonl", "--time", "t", "--to", to], &flags[..]].concat()).succeeds();
        let shown = to.split('?').next().expect("a name");
        let view = || dir.run("evt-view", &["-q", shown, "-o", "jsonl"]).succeeds().text();
        let old = view();
        let mut first = Waiting::after(&dir, &["--to", "-"], 40);
        let frames = first.run.stdout.take().expect("it is piped");
        let args = [&["-q", "--to", to], &flags[..]].concat();
        let sink = dir.command("evt-sink", &args).stdin(frames).stderr(Stdio::piped()).spawn().expect("it starts");
        assert_eq!(first.stopped(Signal::TERM), "");
        let ended = sink.wait_with_output().expect("it ends");
        let said = String::from_utf8(ended.stderr).expect("our messages are UTF-8");
        assert_eq!((status(ended.status), said.lines().count()), (1, 1), "{said}");
        assert!(said.contains(&format!("{shown}: stopped before the end of the input: ")), "{said}");
        assert!(view() == old, "{to}: what was there is replaced");
    }
}

#[test]
fn days_are_not_replaced_from_an_input_without_an_end() {
    let dir = Dir::new("endless");
    dir.write("in.jsonl", lines(3));
    let lake = "parquet:lake?mode=replace";
    let cases: [(&str, &[&str]); 6] = [
        ("evt-ingest", &["http://127.0.0.1:0", "--to", lake]),
        ("evt-ingest", &["http://127.0.0.1:0", "--spool", "spool", "--dlq", lake]),
        ("evt-ingest", &["in.jsonl", "--follow", "--time", "t", "--to", lake]),
        ("evt-sink", &["kafka://127.0.0.1:1/events", "--to", lake]),
        ("evt-window", &["kafka://127.0.0.1:1/events", "--size", "1m", "--late", lake]),
        ("evt-view", &["kafka://127.0.0.1:1/events", "--follow", "--to", lake]),
    ];
    for (tool, args) in cases {
        for check in [&[][..], &["--check"]] {
            if check.is_empty() || !args.contains(&"--follow") {
                let run = dir.run(tool, &[args, check].concat()).ends_with(2);
                assert!(run.stderr().contains("it is replaced at the end of the input, and "), "{run}");
                assert!(!dir.path("lake").exists() && !dir.path("spool").exists(), "{run}");
            }
        }
    }
    // It has an end, but no server.
    dir.run("evt-sink", &["kafka://127.0.0.1:1/events?end=latest&wait=1s", "--to", lake]).ends_with(69);
}

/// Runs a tool whose calls of one sort fail. None, said once, where there is no Python.
fn refusing(dir: &Dir, sort: &str, tool: &str, args: &[&str]) -> Option<Run> {
    let script = format!("{ROOT}/tests/oracle/refuse.py");
    let tool = bin_dir().join(tool).display().to_string();
    let mut command: Command = dir.command(&python()?, &[&[script.as_str(), sort, &tool], args].concat());
    Some(Run::of(command.stdin(Stdio::null())))
}

#[test]
fn a_new_file_is_not_done_before_its_name_is_on_disk() {
    let dir = Dir::new("names");
    dir.write("in.jsonl", lines(3) + "no event\n");
    // Rows are synced by fdatasync, names by fsync.
    for output in [["--to", "new.jsonl"], ["--dlq", "dead.jsonl"]] {
        let args = [&["-q", "in.jsonl", "--time", "t"], &output[..]].concat();
        let Some(run) = refusing(&dir, "fsync", "evt-ingest", &args) else { return };
        let run = run.ends_with(74);
        assert!(run.stderr().contains(output[1]), "{run}");
        // With a name on disk already nothing needs fsync.
        dir.write(output[1], "");
        dir.run("evt-ingest", &args);
        let again = refusing(&dir, "fsync", "evt-ingest", &args).expect("it is there");
        assert!(again.status() <= 1, "{again}");
    }
}
