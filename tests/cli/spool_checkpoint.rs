//! An HTTP server with a spool and a checkpoint: every record of the spool is in every output once, whatever is killed.

use crate::broker::{Bench, lines};
use crate::harness::{Dir, Draws, eventually};
use crate::listener::{Listener, event};
use crate::spool::{BATCH, Told, kill_again_and_again, position};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Stdio;

const EPOCHS: [&str; 4] = ["--checkpoint", "state", "--checkpoint-every", "20ms"];

/// Asserts that the rows are the records of the spool, each once, and hold every acknowledged event.
fn assert_once(told: &Told, rows: &[Value], draws: &Draws) {
    let mut offsets: Vec<i64> = rows.iter().map(|row| row["offset"].as_i64().expect("an offset")).collect();
    offsets.sort_unstable();
    let expected: Vec<i64> = (told.start..).take(offsets.len()).collect();
    assert_eq!(offsets, expected, "{draws}: a record is missing or repeated");
    let numbers: BTreeSet<usize> =
        rows.iter().filter_map(|row| usize::try_from(row["properties"]["n"].as_u64()?).ok()).collect();
    for number in told.kept.iter().flat_map(|first| *first..first + BATCH) {
        assert!(numbers.contains(&number), "{draws}: event {number} was acknowledged and is lost");
    }
}

#[test]
fn a_spool_is_in_files_and_databases_once_although_the_server_is_killed_fifty_times() {
    let (dir, mut draws) = (Dir::new("spool-once"), Draws::new());
    let outputs = ["--to", "out.jsonl", "--to", "sqlite:e.db", "--dlq", "dead.jsonl"];
    let told = kill_again_and_again(&dir, &[&EPOCHS[..], &outputs].concat(), &mut draws);
    assert_once(&told, &dir.rows("out.jsonl"), &draws);
    assert_once(
        &told,
        &dir.run("evt-view", &["-q", "sqlite:e.db?table=raw_events", "-o", "jsonl"]).succeeds().rows(),
        &draws,
    );
    let positions = dir.run("evt-view", &["state"]).succeeds().text();
    assert!(positions.contains("http: spool, read up to offset "), "{positions}");
}

#[test]
fn a_spool_is_in_a_topic_once_although_the_server_is_killed_fifty_times() {
    let (Some(bench), mut draws) = (Bench::new("spool-once"), Draws::new()) else { return };
    let topic = bench.topic("events", 2, &[]);
    let to = bench.uri(&topic, "");
    let told = kill_again_and_again(&bench.dir, &[&EPOCHS[..], &["--to", &to]].concat(), &mut draws);
    let mut rows = vec![];
    // A broker shows the records of a transaction some time after its commit.
    eventually("all transactions are visible", || {
        rows = bench.committed_records(&topic);
        rows.len() as i64 >= position(&bench.dir) - told.start
    });
    assert_once(&told, &rows, &draws);
}

#[test]
fn a_pipe_behind_the_server_continues_its_windows_after_kills() {
    let dir = Dir::new("spool-pipe");
    let first = [&["http://127.0.0.1:0", "--spool", "spool", "--time", "t"], &EPOCHS[..]].concat();
    let second = ["-q", "--size", "1h", "--agg", "n=count(*)", "--late", "null:", "--to", "sqlite:m.db"];
    let (mut posted, mut start) = (0, 0);
    for signal in [Signal::KILL, Signal::KILL, Signal::TERM] {
        let mut listener = Listener::of(dir.command("evt-ingest", &first).stdout(Stdio::piped()));
        let mut window = dir.command("evt-window", &second);
        let mut window = window.stdin(listener.stdout()).stderr(Stdio::null()).spawn().expect("it starts");
        let listener = listener.listening();
        if posted == 0 {
            start = position(&dir);
        }
        let times = (posted..posted + 20).map(|minute| format!("2026-01-01T00:{minute:02}:00Z"));
        // An event of a later hour closes the window.
        let later = (signal == Signal::TERM).then(|| "2026-01-01T02:00:00Z".to_owned());
        for time in times.chain(later) {
            assert_eq!(
                listener.json(&format!("{{\"source\":\"s\",\"event_type\":\"e\",\"t\":\"{time}\"}}")).status,
                200
            );
            posted += 1;
        }
        eventually("an epoch has the events", || {
            let read = dir.run("evt-view", &["state"]).text();
            read.contains(&format!("http: spool, read up to offset {},", start + posted))
        });
        listener.signal(signal);
        listener.wait();
        window.wait().expect("it ends");
    }
    let rows = dir.run("evt-view", &["-q", "sqlite:m.db?table=aggregated_metrics", "-o", "jsonl"]).succeeds().rows();
    let found: Vec<_> = rows.iter().map(|row| (&row["window_start"], &row["value"])).collect();
    assert_eq!(found, [(&json!("2026-01-01T00:00:00.000000Z"), &json!(60.0))]);
}

#[test]
fn a_server_with_a_checkpoint_needs_the_spool_that_the_checkpoint_has_read() {
    let dir = Dir::new("spool-other");
    let run = dir.shell("evt-ingest http://127.0.0.1:0 --checkpoint state --to out.jsonl").ends_with(2);
    assert!(run.stderr().contains("--checkpoint requires --spool DIR"), "{run}");
    assert!(!dir.path("state").exists(), "{run}");
    let flags = [&["--spool", "spool"], &EPOCHS[..], &["--to", "out.jsonl"]].concat();
    let listener = Listener::open(&dir, &flags);
    let start = position(&dir);
    let end = start + 6;
    (0..5).for_each(|number| assert_eq!(listener.json(&event(number, "s")).status, 200));
    eventually("the events are written", || lines(&dir, "out.jsonl") == 5);
    listener.stop();
    // The same spool continues, and nothing is written twice.
    let listener = Listener::open(&dir, &flags);
    assert_eq!(listener.json(&event(5, "s")).status, 200);
    eventually("the event is written", || lines(&dir, "out.jsonl") == 6);
    listener.signal(Signal::KILL);
    listener.wait();
    dir.shell("mv spool other && mkdir spool && cp other/id spool").succeeds();
    dir.write("spool/position", json!({"offset": start, "stream_time": null}).to_string());
    let run = dir.run("evt-ingest", &[&["http://127.0.0.1:0"], &flags[..]].concat()).ends_with(78);
    let told = format!("the checkpoint has read up to offset {end}, found one that ends at offset {start}");
    assert!(run.stderr().contains(&told), "{run}");
    dir.shell("rm spool/position").succeeds();
    // Without a position it is a new one, whose first record is after those that the checkpoint has not read.
    let run = dir.run("evt-ingest", &[&["http://127.0.0.1:0"], &flags[..]].concat()).ends_with(65);
    assert!(run.stderr().contains(&format!("records {end} to ")), "{run}");
    dir.shell("rm -r spool").succeeds();
    // A new spool that has grown beyond the position is another one, too.
    let other = Listener::open(&dir, &["--spool", "spool", "--to", "other.jsonl"]);
    (10..18).for_each(|number| assert_eq!(other.json(&event(number, "s")).status, 200));
    other.stop();
    let run = dir.run("evt-ingest", &[&["http://127.0.0.1:0"], &flags[..]].concat()).ends_with(78);
    assert!(run.stderr().contains("expected the spool that the checkpoint has read, found another one"), "{run}");
    dir.shell("rm -r spool && mv other spool").succeeds();
    Listener::open(&dir, &flags).stop();
    assert_eq!(dir.rows("out.jsonl").len(), 6);
}

#[test]
fn a_second_start_of_a_server_with_a_checkpoint_does_not_end_the_first_one() {
    let dir = Dir::new("spool-second");
    let flags = [&["--spool", "spool"], &EPOCHS[..], &["--to", "out.jsonl"]].concat();
    let listener = Listener::open(&dir, &flags);
    assert_eq!(listener.json(&event(0, "s")).status, 200);
    let run = dir.run("evt-ingest", &[&["http://127.0.0.1:0"], &flags[..]].concat()).ends_with(75);
    assert!(run.stderr().contains("another run has locked this spool"), "{run}");
    assert_eq!(listener.json(&event(1, "s")).status, 200);
    eventually("both are written", || lines(&dir, "out.jsonl") == 2);
    listener.stop();
}

#[test]
fn records_that_a_run_without_the_checkpoint_has_read_are_named() {
    let dir = Dir::new("spool-between");
    let flags = [&["--spool", "spool"], &EPOCHS[..], &["--to", "out.jsonl"]].concat();
    let plain = ["--spool", "spool", "--to", "plain.jsonl"];
    for (flags, number) in [(&flags[..], 0), (&plain[..], 1)] {
        let listener = Listener::open(&dir, flags);
        assert_eq!(listener.json(&event(number, "s")).status, 200);
        listener.stop();
    }
    let last = position(&dir) - 1;
    let listener = Listener::open(&dir, &flags);
    eventually("the record is read again", || lines(&dir, "out.jsonl") == 2);
    let said = listener.stop();
    let told = format!("spool: records {last} to {last} are read again: a run without this checkpoint has read them");
    assert!(said.contains(&told), "{said}");
}
