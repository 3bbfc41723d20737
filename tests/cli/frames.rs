//! Streams: other readers see what evt wrote, and a cut stream is never a clean end.

use crate::harness::{Dir, ask, python};

const FORMATS: [&str; 5] = ["frames", "parquet", "avro", "csv", "jsonl"];

/// Events with faults and late ones in `in.jsonl`.
fn sample(dir: &Dir) {
    let line = "evt-gen --events 5k --seed 11 --late 0.02 --malformed 0.01 --rate 20 -q > in.jsonl";
    dir.shell(line).succeeds();
}

fn lines(dir: &Dir, name: &str) -> usize {
    dir.bytes(name).iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn other_programs_read_what_every_tool_writes() {
    let Some(python) = python() else { return };
    let dir = Dir::new("readers");
    sample(&dir);
    for format in FORMATS {
        let line = format!(
            "evt-ingest in.jsonl --dlq dead.{format} -q | evt-validate --to all.frames --to event.{format} --overwrite -q; \
             evt-window all.frames --size 1m --by event_type --late late.{format} --to metric.{format} -q"
        );
        dir.shell(&line).succeeds();
    }
    for kind in ["event", "metric", "dead", "late"] {
        let files = FORMATS.map(|format| format!("{kind}.{format}"));
        let rows = lines(&dir, &files[4]).to_string();
        assert_ne!(rows, "0", "{kind}");
        let mut args = vec![rows.as_str()];
        args.extend(files.iter().map(String::as_str));
        ask(&dir, &python, "frames.py", &args);
    }
}

#[test]
fn a_stream_that_is_cut_anywhere_is_torn_and_leaves_nothing_that_looks_whole() {
    let dir = Dir::new("cut");
    dir.shell("evt-gen --events 3k --seed 5 -q | evt-ingest --origin in -q > whole.frames").succeeds();
    let whole = dir.bytes("whole.frames");
    let every = whole.len() / 40;
    let ends = [4, 7, 8, whole.len() - 1, whole.len() - 4, whole.len() - 8, whole.len() - 9];
    for end in (0..whole.len()).step_by(every).chain(ends) {
        let run = dir.feed("evt-sink", &["--to", "out.parquet", "-q"], &whole[..end]).ends_with(65).stays_calm();
        assert!(run.stderr().contains("torn"), "cut at {end}: {run}");
        assert!(!dir.path("out.parquet").exists(), "cut at {end}: {run}");
    }
    dir.feed("evt-sink", &["--to", "out.parquet", "-q"], &whole).succeeds();
}

#[test]
fn bytes_after_the_end_are_no_stream() {
    let dir = Dir::new("after");
    dir.shell("evt-gen --events 100 --seed 5 -q | evt-ingest --origin in -q > whole.frames").succeeds();
    let twice = [dir.bytes("whole.frames"), dir.bytes("whole.frames")].concat();
    dir.feed("evt-sink", &["--to", "null:"], &twice).ends_with(65).stays_calm();
    dir.run("evt-sink", &["whole.frames", "whole.frames", "--to", "null:"]).succeeds();
}

#[test]
fn a_window_stage_fires_nothing_more_when_its_stream_is_torn() {
    let dir = Dir::new("early");
    dir.shell("evt-gen --events 20k --rate 50 --seed 9 -q | evt-ingest --origin in -q > whole.frames").succeeds();
    let window = ["--size", "1m", "--by", "event_type", "-o", "jsonl", "-q"];
    let whole = dir.bytes("whole.frames");
    let all = dir.feed("evt-window", &window, &whole).succeeds().text();
    for tenths in 1..10 {
        let run = dir.feed("evt-window", &window, &whole[..whole.len() * tenths / 10]).ends_with(65);
        assert!(all.starts_with(&run.text()), "what fired is what would have fired: {run}");
    }
}
