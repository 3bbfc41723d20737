//! Streams of frames: other programs read what evt wrote, and a truncated stream is never a clean end.

use crate::harness::{Dir, ROOT, THREADS, ask, python};
use std::ffi::OsStr;
use std::path::PathBuf;

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
    let dir = Dir::live("readers");
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

/// The files of a directory of `testdata/frame`, without what is shown of them.
fn kept(which: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(format!("{ROOT}/testdata/frame/{which}")).expect("it is committed");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension != "jsonl"));
    files.sort_by_key(|file| file.file_stem().map(OsStr::to_owned));
    files
}

/// Runs a check of the files of a directory with each number of threads, in a directory of its own.
fn check_kept(which: &str, check: impl Fn(&Dir, &[PathBuf])) {
    let files = kept(which);
    THREADS.into_iter().for_each(|threads| check(&Dir::new(which).with_threads(threads), &files));
}

#[test]
fn every_stream_that_was_kept_shows_the_rows_it_always_showed() {
    check_kept("valid", |dir, files| {
        for file in files {
            let path = file.display().to_string();
            // The end of the stream with every control message holds a failing verdict of an earlier stage.
            let status = i32::from(path.ends_with("control.frames"));
            let args = ["-q", "--control", "-o", "jsonl", "--origin", "in", "--now", "2026-02-01T00:00:00Z"];
            let run = dir.run("evt-view", &[&[path.as_str()], &args[..]].concat()).ends_with(status);
            let shown = std::fs::read(file.with_extension("jsonl")).expect("it is committed");
            assert!(run.stdout() == shown, "{run}");
            dir.run("evt-sink", &[&path, "-q", "--to", "null:"]).ends_with(status);
        }
    });
}

#[test]
fn every_torn_stream_that_was_kept_is_torn() {
    check_kept("torn", |dir, files| {
        for file in files {
            let path = file.display().to_string();
            for (tool, args) in [("evt-view", &[][..]), ("evt-sink", &["--to", "out.parquet"]), ("evt-validate", &[])] {
                let run = dir.run(tool, &[&[path.as_str(), "-q"], args].concat()).ends_with(65).stays_calm();
                assert!(run.stderr().contains("torn stream") && run.stderr().lines().count() == 1, "{run}");
            }
            assert!(!dir.path("out.parquet").exists());
        }
    });
}

/// The message for each corrupt stream. A wrong count is a violated invariant, not invalid input.
const CORRUPT: [(&str, i32, &str); 12] = [
    ("body", 65, "frame 7 (byte 3712): message cannot be decoded"),
    ("bytes-after-the-end", 65, "frame 9 (byte 9280): bytes after the end of the stream"),
    ("control", 65, "frame 4 (byte 1712): control frame evt.progress cannot be read"),
    ("end-of-no-kind", 65, "frame 5 (byte 4152): control frame evt.end cannot be read"),
    ("header", 65, "frame 7 (byte 3712): header cannot be decoded"),
    ("header-length", 65, "frame 0 (byte 0): not a frame: a header of 2147483647 bytes"),
    ("header-negative", 65, "frame 0 (byte 0): not a frame: a header of -5 bytes"),
    ("kind", 65, "expected the columns of kind metric, found others"),
    ("mark", 65, "frame 1 (byte 1280): not a frame: expected the continuation marker FF FF FF FF"),
    ("rows-after-the-end", 65, "frame 6 (byte 4520): rows after the end of the stream"),
    ("rows-missing", 70, "frame 5 (byte 4520): evt.end states 12 rows, found 5"),
    ("two-streams", 65, "frame 9 (byte 9280): bytes after the end of the stream"),
];

#[test]
fn every_corrupt_stream_that_was_kept_is_refused_with_its_place_and_cause() {
    check_kept("corrupt", |dir, files| {
        assert_eq!(files.len(), CORRUPT.len());
        for (file, (name, status, told)) in files.iter().zip(CORRUPT) {
            assert_eq!(file.file_stem().expect("a name"), name);
            let path = file.display().to_string();
            for args in [&[][..], &["--describe"]] {
                let run = dir.run("evt-view", &[&[path.as_str(), "-q"], args].concat()).ends_with(status);
                assert!(run.stderr().contains(told) && run.stderr().lines().count() == 1, "{run}");
            }
            let run = dir.run("evt-sink", &[&path, "-q", "--to", "out.parquet"]).ends_with(status);
            assert!(run.stderr().contains(told), "{run}");
            assert!(!dir.path("out.parquet").exists());
        }
    });
}

#[test]
fn a_stream_of_a_newer_evt_is_refused() {
    let dir = Dir::new("newer");
    dir.shell("evt-gen --events 10 --seed 5 -q | evt-ingest --origin in -q > in.frames").succeeds();
    let mut bytes = dir.bytes("in.frames");
    // The version is the only text of one character in the schema.
    let version = memchr::memmem::find(&bytes, b"\x01\0\0\x001\0").expect("it says its version");
    bytes[version + 4] = b'2';
    let run = dir.feed("evt-sink", &["--to", "null:"], &bytes).ends_with(78).stays_calm();
    let told = "written by a newer evt: expected frames of version 1, found 2";
    assert!(run.stderr().contains(told) && run.stderr().lines().count() == 1, "{run}");
}

#[test]
fn what_is_said_of_damaged_bytes_is_a_sentence_and_no_dump() {
    let dir = Dir::new("damaged");
    dir.shell("evt-gen --events 20 --seed 5 -q | evt-ingest --origin in -q --to in.frames --to in.parquet").succeeds();
    for name in ["in.frames", "in.parquet"] {
        let whole = dir.bytes(name);
        for at in (0..whole.len()).step_by(whole.len() / 60) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            dir.write(name, bytes);
            let run = dir.run("evt-sink", &[name, "-q", "--report", "0", "--to", "null:"]).stays_calm();
            let said = run.stderr();
            assert!(!said.contains(" {") && !said.contains("Trace") && said.lines().count() <= 1, "byte {at}: {run}");
        }
    }
}

#[test]
fn inputs_of_two_kinds_are_refused_in_every_order_and_form() {
    let dir = Dir::new("frames-kinds");
    dir.write("e.jsonl", "{\"event_type\":\"a\",\"source\":\"s\",\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n");
    dir.shell(
        "evt-window -q --size 1m e.jsonl -o frames --to m.frames; evt-sink -q m.frames --to m.arrow --to m.parquet",
    )
    .succeeds();
    for metrics in ["m.frames", "m.arrow", "m.parquet"] {
        for inputs in [format!("e.jsonl {metrics}"), format!("{metrics} e.jsonl")] {
            for tool in ["evt-sink", "evt-view"] {
                let run = dir.shell(&format!("{tool} -q {inputs} -o csv > out.csv")).ends_with(2);
                assert!(run.stderr().contains("kind") || run.stderr().contains("expected"), "{inputs}: {run}");
                // The rows of the first input are written.
                let written = String::from_utf8_lossy(&dir.bytes("out.csv")).into_owned();
                assert_eq!(written.contains("count(*)"), inputs.starts_with('m'), "{tool} {inputs}");
            }
        }
        dir.shell(&format!("evt-sink -q {metrics} {metrics} -o csv > out.csv")).succeeds();
    }
}

/// Rows that declare their kind are of that kind, whatever `--kind` says of text.
#[test]
fn a_kind_that_contradicts_the_one_that_an_input_declares_is_refused() {
    let dir = Dir::new("frames-named-kind");
    dir.write("e.jsonl", "{\"event_type\":\"a\",\"source\":\"s\",\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n");
    dir.shell(
        "evt-window -q --size 1m e.jsonl -o frames --to m.frames;
         evt-sink -q m.frames --to m.arrow --to m.parquet --to sqlite:m.db; evt-sink -q e.jsonl --to e.frames",
    )
    .succeeds();
    let metrics = ["m.frames", "- < m.frames", "m.arrow", "m.parquet", "'sqlite:m.db?table=aggregated_metrics'"]
        .map(|input| (input, "metric"));
    for (input, kind) in metrics.into_iter().chain([("e.frames", "event")]) {
        let other = if kind == "metric" { "event" } else { "metric" };
        for tool in ["evt-validate", "evt-window --size 1m"] {
            let run = dir.shell(&format!("{tool} -q --kind {other} {input} > rows")).ends_with(2);
            assert!(run.stderr().contains(&format!("kind {kind}")), "{tool} {input}: {run}");
        }
        for tool in ["evt-view", "evt-sink --to out.jsonl --overwrite"] {
            let run = dir.shell(&format!("{tool} -q --kind {other} {input} > rows")).ends_with(2);
            let message = format!("expected rows of kind {other} (--kind), found kind {kind}");
            assert!(run.stderr().contains(&message), "{tool} {input}: {run}");
            assert!(dir.bytes("rows").is_empty() && !dir.path("out.jsonl").exists(), "{tool} {input}: {run}");
        }
        dir.shell(&format!("evt-view -q --kind {kind} {input}")).succeeds();
    }
    let piped = "evt-window -q --size 1m e.jsonl | evt-sink -q --kind event --to out.jsonl";
    assert!(dir.shell(piped).ends_with(2).stderr().contains("(--kind), found kind metric"));
}
