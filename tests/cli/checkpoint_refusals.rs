//! Refusals of a checkpoint: streams that a program has changed between two stages, other inputs beside the pipe, and
//! another `--explode`. A FIFO in TMPDIR must not delay the start of a run.

use crate::checkpoint::{generated, ordered};
use crate::harness::{Dir, ended};
use arrow::datatypes::Schema;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Read;
use std::process::{Child, Stdio};

/// Starts the first stage of a pipe with a checkpoint, whose reader is the test.
fn first_stage(dir: &Dir, every: &str) -> Child {
    let args = ["-q", "--dlq", "null:", "--checkpoint", "state", "--checkpoint-every", every, "a.jsonl"];
    let mut command = dir.command("evt-ingest", &args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// A program between two stages that drops what it does not know keeps rows and schema. No later stage may complete an
/// epoch then.
#[test]
fn a_stage_behind_a_program_that_drops_barriers_says_so_and_completes_nothing() {
    let dir = Dir::new("dropped-barriers");
    dir.write("a.jsonl", ordered(0..5));
    let mut first = first_stage(&dir, "1h");
    let reader = StreamReader::try_new(first.stdout.take().expect("a pipe"), None).expect("a stream");
    let mut copy = StreamWriter::try_new(vec![], &reader.schema()).expect("a stream");
    let batches: Vec<_> = reader.map(|batch| batch.expect("a batch")).collect();
    batches.iter().for_each(|batch| copy.write(batch).expect("a row"));
    let copy = copy.into_inner().expect("a stream");
    let said = dir.feed("evt-sink", &["-q", "--to", "sqlite:m.db"], &copy).ends_with(65).stderr();
    assert!(said.contains("expected the control messages of a pipe with a checkpoint, found none"), "{said}");
    assert!(said.contains("let the stage read the one before it directly"), "{said}");
    // It has lost its reader.
    assert_eq!(ended("the first stage", &mut first), 75);
    let shown = dir.run("evt-view", &["state"]).text();
    assert!(shown.contains("0 complete epochs"), "{shown}");
}

/// The stage would pass barriers on, and the first one would wait for its epoch without an end.
#[test]
fn a_barrier_without_a_checkpoint_in_the_schema_is_an_error() {
    let dir = Dir::new("stray-barrier");
    dir.write("a.jsonl", generated(&dir, 60_000));
    let mut first = first_stage(&dir, "1ms");
    let mut stream = first.stdout.take().expect("a pipe");
    let mut prefix = [0; 8];
    stream.read_exact(&mut prefix).expect("a message");
    let length = u32::from_le_bytes(prefix[4..].try_into().expect("4 bytes")) as usize;
    let mut header = vec![0; length];
    stream.read_exact(&mut header).expect("a schema");
    let whole = [&prefix[..], &header, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]].concat();
    let schema = StreamReader::try_new(&whole[..], None).expect("a schema").schema();
    let mut metadata = schema.metadata().clone();
    assert!(metadata.remove("evt.checkpoint").is_some());
    let mut copy = vec![];
    let changed = Schema::new_with_metadata(schema.fields().clone(), metadata);
    drop(StreamWriter::try_new(&mut copy, &changed).expect("a stream"));
    // The end has the same length as the beginning of a message.
    copy.truncate(copy.len() - if copy.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]) { 8 } else { 0 });
    let barrier = b"evt.barrier";
    let mut block = vec![0; 64 << 10];
    while memchr::memmem::find(&copy, barrier).is_none() {
        let count = stream.read(&mut block).expect("a pipe");
        assert!(count > 0, "no barrier");
        copy.extend_from_slice(&block[..count]);
    }
    drop(stream);
    let said = dir.feed("evt-sink", &["-q", "--to", "sqlite:m.db"], &copy).ends_with(65).stderr();
    assert!(said.contains("found a barrier, but no evt.checkpoint in the schema"), "{said}");
    assert_ne!(ended("the first stage", &mut first), 0);
}

/// A later stage that neither completes the epoch nor ends holds the first one, until a signal.
#[test]
fn a_signal_ends_a_stage_whose_later_stage_never_completes_an_epoch() {
    let dir = Dir::new("held-end");
    dir.write("a.jsonl", generated(&dir, 60_000));
    let mut first = first_stage(&dir, "1ms");
    let mut stream = first.stdout.take().expect("a pipe");
    let (mut seen, mut block) = (vec![], vec![0; 64 << 10]);
    while memchr::memmem::find(&seen, b"evt.barrier").is_none() {
        let count = stream.read(&mut block).expect("a pipe");
        assert!(count > 0, "no barrier");
        seen.extend_from_slice(&block[..count]);
    }
    kill_process(Pid::from_child(&first), Signal::TERM).expect("it runs");
    let reader = std::thread::spawn(move || stream.read_to_end(&mut vec![]).map(drop));
    assert_eq!(ended("the first stage", &mut first), 143);
    reader.join().expect("a thread").expect("a pipe");
}

/// The rows of the other input would be in no epoch.
#[test]
fn a_pipe_with_a_checkpoint_beside_another_input_is_exit_2() {
    let dir = Dir::new("beside");
    dir.write("a.jsonl", ordered(0..5));
    dir.write("b.jsonl", ordered(5..6));
    let first = "evt-ingest -q --dlq null: --checkpoint state a.jsonl";
    for inputs in ["b.jsonl -", "- b.jsonl"] {
        let window = format!("evt-window -q --size 1m --late null: {inputs} --to sqlite:m.db");
        let said = dir.shell(&format!("{first} | {window}")).ends_with(2).stderr();
        assert!(said.contains("or one as the only input of a tool that writes each row"), "{inputs}: {said}");
        let own = format!("{window} --checkpoint own");
        let said = dir.shell(&format!("{first} | {own}")).ends_with(2).stderr();
        assert!(said.contains("--checkpoint: expected topics, regular files, followed files, objects or an HTTP server with --spool, found standard input"), "{said}");
        assert!(!dir.path("own").exists(), "{inputs}");
    }
}

/// The positions of a file count the elements of one array.
#[test]
fn another_explode_path_on_a_checkpoint_is_78_and_skips_nothing() {
    let dir = Dir::new("explode-checkpoint");
    let element = |second: u32| {
        format!(r#"{{"server_timestamp":"2026-01-01T00:00:{second:02}Z","event_type":"t","source":"s"}}"#)
    };
    dir.write("a.json", format!("{{\"A\":[{},{}],\"B\":[{}]}}\n", element(1), element(2), element(3)));
    let run = |flags: &[&str]| {
        let fixed = ["--size", "1m", "--late", "null:", "--checkpoint", "state", "--to", "sqlite:m.db", "a.json"];
        dir.run("evt-window", &[&fixed[..], flags].concat())
    };
    let said = run(&["--explode", "A"]).succeeds().stderr();
    assert!(said.contains("evt-window: in 2 "), "{said}");
    for (flags, found) in [(&["--explode", "B"][..], "--explode B"), (&[], "no --explode")] {
        let said = run(flags).ends_with(78).stderr();
        let expected = format!("a.json: expected --explode A, as in the checkpoint, found {found}");
        assert!(said.contains(&expected), "{said}");
    }
    let said = run(&["--explode", "A"]).succeeds().stderr();
    assert!(said.contains("evt-window: in 0 "), "{said}");
    let close =
        ["-q", "--size", "1m", "--late", "null:", "--checkpoint", "state", "--to", "sqlite:m.db", "--at-end", "fire"];
    dir.run("evt-window", &[&close[..], &["/dev/null"]].concat()).succeeds();
}

/// Other users may put a FIFO into TMPDIR, under the name of a directory of evt.
#[test]
fn a_fifo_in_tmpdir_does_not_hold_the_start_of_a_run() {
    let dir = Dir::new("tmpdir-fifo");
    dir.write("a.jsonl", ordered(0..1));
    dir.shell("mkdir tmp && mkfifo tmp/evt-checkpoint-x").succeeds();
    let uri = "s3://bucket/a?endpoint=http://127.0.0.1:1&access_key=id&secret_key={env:SECRET}&retry=1ms";
    let args = ["-q", "--size", "1m", "--late", "null:", "--checkpoint", uri, "--to", "sqlite:m.db", "a.jsonl"];
    let mut command = dir.command("evt-window", &args);
    command.env("TMPDIR", dir.path("tmp")).env("SECRET", "x").stdin(Stdio::null()).stderr(Stdio::null());
    let mut run = command.spawn().expect("it starts");
    // Nothing listens at the port.
    assert_eq!(ended("the run", &mut run), 69);
}

/// A directory of that name would be made, with the password in its name.
#[test]
fn a_uri_in_the_place_of_a_path_is_refused_before_anything_is_made() {
    let dir = Dir::new("paths");
    dir.write("a.jsonl", ordered(0..5));
    dir.write("s.json", "{\"type\":\"record\",\"name\":\"r\",\"fields\":[]}");
    dir.write(
        "r.toml",
        "[[rule]]\nname = 'r'\naggregate = 'count(*)'\ncondition = 'gt'\nthreshold = 1\nwindow = '1m'\n",
    );
    let window = "evt-window -q a.jsonl --size 1m --to m.db --checkpoint";
    let listener = "evt-ingest http://127.0.0.1:0 --anonymous --to out.jsonl --spool";
    let (bucket, place) = ("s3: objects are inputs and outputs of rows", "expected one of PATH s3:// gs:// az://");
    for (line, uri, why) in [
        (
            window,
            "gcs://bucket/p",
            "gcs: is an unknown scheme; expected one of PATH s3:// gs:// az:// (for a path write ./gcs://bucket/p)",
        ),
        (window, "S3://bucket/p", "S3: is written s3://"),
        (window, "s3a://bucket/p", "s3a: is an unknown scheme"),
        (window, "s3:/bucket/p", "s3: is written s3://"),
        (window, "postgres://u:PASSW@h/d", "postgres: names no path; expected one of PATH s3:// gs:// az://"),
        (window, "file:ck", place),
        ("evt-ingest -q a.jsonl --to b.jsonl --dlq", "GCS://bucket/p", "GCS: is an unknown scheme"),
        (
            "evt-ingest -q a.jsonl --to b.jsonl --dlq",
            "Kafka://h/t",
            "Kafka: is an unknown scheme; expected one of - PATH file: null: kafka:",
        ),
        (listener, "s3://bucket/p", bucket),
        (listener, "mysql://u:PASSW@h/d", "mysql: is an unknown scheme; expected a path (for a path write ./mysql://"),
        ("evt-alert a.jsonl --rules r.toml --once --state", "redis://u:PASSW@h/0", "redis: names no path"),
        ("evt-schema register s.json --subject s --schemas", "gs://b/p", "expected one of PATH http:// https://"),
        ("evt-validate -q a.jsonl --schemas", "s3://b/p", bucket),
        ("evt-gen -q --events 1 --truth", "gs://b/p", "gs: objects are inputs and outputs of rows"),
        ("evt-ingest -q a.jsonl --to b.jsonl --stats", "s3://b/p", bucket),
    ] {
        let before = dir.shell("ls").text();
        let said = dir.shell(&format!("{line} '{uri}'")).ends_with(2).stderr();
        assert!(said.contains(why) && !said.contains("PASSW"), "{line} {uri}: {said}");
        assert_eq!(dir.shell("ls").text(), before, "{line} {uri}");
    }
    let run = dir.shell("EVT_CHECKPOINT=postgres://u:PASSW@h/d evt-window -q a.jsonl --size 1m --to m.db").ends_with(2);
    assert!(run.stderr().contains("names no path") && !run.stderr().contains("PASSW"), "{run}");
    // A directory that is there, and a path with a colon.
    dir.shell("mkdir old:ck").succeeds();
    for path in ["old:ck", "./new:ck"] {
        dir.shell(&format!("rm -f m.db; {window} {path}; test -d {path}/log")).succeeds();
    }
}
