//! Pipes of several stages: a reader that closes its end, and a verdict that passes from stage to stage.

use crate::harness::Dir;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Rows wait only a short time for a full batch, even if further rows arrive steadily at longer intervals.
#[test]
fn rows_are_handed_on_though_others_keep_coming() {
    let dir = Dir::new("steadily");
    let mut child = dir
        .command("evt-ingest", &["-", "-q", "-o", "jsonl"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let (sender, receiver) = channel();
    let reader = std::thread::spawn(move || {
        stdout.read_exact(&mut [0]).expect("a row");
        sender.send(()).expect("somebody waits");
        std::io::copy(&mut stdout, &mut std::io::sink()).expect("the other rows");
    });
    // A batch has 1,024 rows.
    let written = (0..1000).take_while(|n| {
        let event = format!(r#"{{"source":"s","event_type":"t","n":{n},"server_timestamp":"2024-01-15T10:00:00Z"}}"#);
        writeln!(stdin, "{event}").expect("it reads");
        // Less than the 100 ms that a row waits, so each row comes while another one waits; in all long enough for a
        // busy machine.
        receiver.recv_timeout(Duration::from_millis(50)).is_err()
    });
    assert!(written.count() < 1000);
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
    reader.join().expect("it has read");
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

/// A unit whose last stage has ended must end, too, however long no row comes.
#[test]
fn a_stage_that_has_nothing_to_write_notices_that_its_reader_has_gone() {
    let dir = Dir::new("idle-pipe");
    dir.write("in.jsonl", "{\"server_timestamp\":\"2024-01-15T10:00:00Z\"}\n");
    let window = "evt-window -q --size 1h";
    let line = format!("evt-ingest -q --follow in.jsonl | evt-validate -q | {window} | true; echo ${{PIPESTATUS[@]}}");
    assert_eq!(dir.shell(&line).text(), "141 141 141 0\n");
}

#[test]
fn the_worst_verdict_of_the_stages_reaches_the_last_one() {
    let dir = Dir::new("verdict");
    dir.shell("evt-gen --events 1k --malformed 0.1 --seed 1 -q > in.jsonl").succeeds();
    // Without pipefail, sh returns only the status of the last stage.
    let run = dir.shell(
        "set +o pipefail; evt-ingest in.jsonl -q --report 0 | evt-validate -q | evt-window --size 1m -q --to null:",
    );
    run.ends_with(1);
    dir.shell("evt-ingest in.jsonl -q --dlq dead.jsonl | evt-window --size 1m -q --to null:").succeeds();
}
