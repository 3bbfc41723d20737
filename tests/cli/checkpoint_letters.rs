//! Dead letters of rows that a store refuses when it commits an epoch: they are part of the same commit.

use crate::bucket::CheckpointLocation;
use crate::checkpoint::ordered;
use crate::checkpoint_pipes::Pipe;
use crate::harness::{Dir, Draws, ended, eventually};
use crate::servers::{postgres, psql};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::File;
use std::io::Write;

/// Writes two minutes of events and one that is 10 minutes late and holds a character that PostgreSQL refuses; returns
/// them.
fn with_refused(dir: &Dir, name: &str) -> String {
    let last = ordered(2..3).lines().next().expect("an event").replace("T00:02:00Z", "T00:00:01Z");
    let refused = last.replace("\"u3\"", "\"u\\u0000\"");
    assert_ne!(refused, last);
    let text = format!("{}{refused}\n", ordered(11..13));
    dir.write(name, &text);
    text
}

fn texts(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

/// A pipe whose last stage writes events to PostgreSQL.
fn to_store(place: &CheckpointLocation, to: &str) -> Vec<(&'static str, Vec<String>)> {
    vec![
        ("evt-ingest", texts(&["-q", "--dlq", "null:", "--checkpoint", &place.name, "a.jsonl"])),
        ("evt-sink", texts(&["-q", "--to", to, "--dlq", "dead.jsonl"])),
    ]
}

/// A pipe whose middle stage writes its late rows to PostgreSQL.
fn late_to_store(place: &CheckpointLocation, to: &str) -> Vec<(&'static str, Vec<String>)> {
    let window = ["-q", "-m", "m.toml", "--at-end", "fire", "--late", to, "--dlq", "dead.jsonl"];
    vec![
        ("evt-ingest", texts(&["-q", "--dlq", "null:", "--checkpoint", &place.name, "a.jsonl"])),
        ("evt-window", texts(&window)),
        ("evt-sink", texts(&["-q", "--to", "rows.jsonl"])),
    ]
}

/// Checks that there is the letter of the refused event, once.
#[track_caller]
fn assert_one_letter(dir: &Dir, context: &str) {
    let letters = dir.rows("dead.jsonl");
    assert_eq!(letters.len(), 1, "{context}: {letters:?}");
    assert_eq!(letters[0]["error_type"], Value::from("SinkError"), "{context}");
    assert!(letters[0]["original_payload"].as_str().is_some_and(|text| text.contains("00:00:01")), "{context}");
}

/// The last epoch of a run has no later one of this run that could hold its letters.
#[test]
fn the_letter_of_a_row_that_the_last_commit_refuses_is_written_by_the_same_run() {
    for (at, pipe) in [to_store, late_to_store].into_iter().enumerate() {
        let Some((to, server, schema)) = postgres() else { return };
        let dir = Dir::new(&format!("last-letters-{at}"));
        dir.write("m.toml", "[[metric]]\nname = \"n\"\nsize = \"1m\"\n");
        with_refused(&dir, "a.jsonl");
        let stages = pipe(&CheckpointLocation::directory(&dir), &to);
        for run in ["first", "repeated"] {
            let statuses = Pipe::start(&dir, &stages).wait();
            assert!(statuses.iter().all(|status| *status == 0), "{run}: {statuses:?}");
            assert_one_letter(&dir, run);
        }
        let sql = "SELECT count(*) FROM raw_events";
        let expected = if at == 0 { "30" } else { "0" };
        assert_eq!(psql(&dir, &server, &schema, sql).trim(), expected, "the other events");
    }
}

/// The store has committed the epoch, and the file of letters has not; no further commit finds the refused row in the
/// store.
#[test]
fn a_run_that_is_killed_between_the_commits_of_a_store_and_of_its_letters_leaves_one_letter() {
    let Some((to, server, schema)) = postgres() else { return };
    let dir = Dir::new("torn-letters");
    let all = with_refused(&dir, "b.jsonl");
    let lines: Vec<&str> = all.split_inclusive('\n').collect();
    dir.write("a.jsonl", lines[..15].concat());
    let place = CheckpointLocation::directory(&dir);
    let mut stages = to_store(&place, &to);
    stages[0].1.extend(texts(&["--follow", "--checkpoint-every", "20ms"]));
    let number = |sql: &str| psql(&dir, &server, &schema, sql).trim().parse::<u64>().expect("a number");
    let has_table = || number("SELECT count(to_regclass('raw_events'))") == 1;
    let stored = || number("SELECT count(*) FROM raw_events");
    let mut pipe = Pipe::start(&dir, &stages);
    eventually("the store has the first events", || has_table() && stored() == 15);
    let lock = File::open(dir.path("dead.jsonl")).expect("a file");
    flock(&lock, FlockOperation::LockExclusive).expect("locked");
    // The last line is the refused event.
    let appended = [&lines[15..22], &lines[30..], &lines[22..30]].concat().concat();
    let mut file = File::options().append(true).open(dir.path("a.jsonl")).expect("a file");
    file.write_all(appended.as_bytes()).expect("written");
    eventually("the store has committed further events", || stored() > 15);
    pipe.0.iter_mut().for_each(|stage| stage.kill().expect("killed"));
    pipe.wait();
    assert_eq!(dir.rows("dead.jsonl").len(), 0);
    drop(lock);
    for run in ["restarted", "repeated"] {
        let mut pipe = Pipe::start(&dir, &stages);
        eventually("the store has all events, and the file the letter", || {
            stored() == 30 && dir.rows("dead.jsonl").len() == 1
        });
        pipe.signal(0, Signal::TERM);
        pipe.wait();
        assert_one_letter(&dir, run);
    }
}

#[test]
fn refused_rows_are_one_letter_each_although_runs_are_killed() {
    let Some((to, server, schema)) = postgres() else { return };
    let (dir, mut draws) = (Dir::new("killed-letters"), Draws::new());
    let lines: Vec<String> = ordered(0..400).lines().map(str::to_owned).collect();
    let refused = |at: usize| at % 50 == 49;
    let line =
        |(at, line): (usize, &String)| if refused(at) { line.replacen("\"u", "\"\\u0000", 1) } else { line.clone() };
    let text: Vec<String> = lines.iter().enumerate().map(line).collect();
    dir.write("a.jsonl", text.join("\n") + "\n");
    let place = CheckpointLocation::directory(&dir);
    let mut stages = to_store(&place, &to);
    stages[0].1.extend(texts(&["--checkpoint-every", "1ms"]));
    let mut kills = 0;
    for _ in 0..12 {
        let wanted = place.entries() + 1 + draws.below(4) as usize;
        let mut pipe = Pipe::start(&dir, &stages);
        let mut polls = draws.below(30);
        eventually("a stage is killed or has ended", || {
            polls = if place.entries() >= wanted { polls.saturating_sub(1) } else { polls };
            place.entries() >= wanted && polls == 0 || pipe.has_ended()
        });
        let killed = draws.below(3) as usize;
        (0..2).filter(|stage| killed == 2 || *stage == killed).for_each(|stage| _ = pipe.0[stage].kill());
        kills += pipe.0.iter_mut().map(|stage| u32::from(ended("a stage", stage) == 137)).sum::<u32>();
    }
    assert_eq!(Pipe::start(&dir, &stages).wait(), [0, 0], "{draws}");
    assert!(kills >= 3, "{draws}: {kills} kills");
    let mut ids: Vec<String> = dir.rows("dead.jsonl").iter().map(|row| row["letter_id"].to_string()).collect();
    ids.sort();
    let count = ids.len();
    ids.dedup();
    let expected = (0..lines.len()).filter(|at| refused(*at)).count();
    assert_eq!((count, ids.len()), (expected, expected), "{draws}");
    let rows = psql(&dir, &server, &schema, "SELECT count(*), count(DISTINCT event_id) FROM raw_events");
    let others = lines.len() - expected;
    assert_eq!(rows.trim(), format!("{others}|{others}"), "{draws}");
}
