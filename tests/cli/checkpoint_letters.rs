//! Dead letters of rows that a store refuses when it commits an epoch: they are part of the same commit.

use crate::broker::Bench;
use crate::bucket::CheckpointLocation;
use crate::checkpoint::ordered;
use crate::checkpoint_pipes::Pipe;
use crate::containers::{Cost, cost};
use crate::harness::{Dir, Draws, LONG_WAIT, ended, eventually, eventually_within, python};
use crate::servers::{postgres, psql};
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
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

/// The place of the letters of a test.
enum LetterPlace {
    File,
    /// A topic of a broker.
    Topic(Bench, String),
}

impl LetterPlace {
    /// Makes a place in a topic; `None` if there is no broker.
    fn topic(name: &str) -> Option<Self> {
        let bench = Bench::new(name)?;
        let topic = bench.topic("dead", 2, &[]);
        Some(Self::Topic(bench, topic))
    }

    fn uri(&self) -> String {
        match self {
            Self::File => "dead.jsonl".to_owned(),
            Self::Topic(bench, topic) => bench.uri(topic, ""),
        }
    }

    /// Returns the sorted ids of the letters.
    fn ids(&self, dir: &Dir) -> Vec<String> {
        let mut ids: Vec<String> = match self {
            Self::File => dir.rows("dead.jsonl").iter().map(|row| row["letter_id"].to_string()).collect(),
            Self::Topic(bench, topic) => bench
                .records(topic)
                .into_iter()
                .map(|record| {
                    let id = record.headers.into_iter().find(|(name, _)| name == "evt.letter_id");
                    String::from_utf8(id.and_then(|(_, value)| value).expect("an id")).expect("text")
                })
                .collect(),
        };
        ids.sort();
        ids
    }
}

/// Events of which PostgreSQL refuses each fiftieth, line by line.
fn lines_with_refused(minutes: std::ops::Range<i64>) -> Vec<String> {
    let line = |(at, line): (usize, &str)| match at % 50 {
        49 => line.replacen("\"u", "\"\\u0000", 1) + "\n",
        _ => format!("{line}\n"),
    };
    ordered(minutes).lines().enumerate().map(line).collect()
}

/// Checks that each event is in the store or is a letter, once.
#[track_caller]
fn assert_each_once(dir: &Dir, (server, schema): (&str, &str), place: &LetterPlace, events: usize) {
    let (mut ids, refused) = (vec![], events / 50);
    // A broker shows the records of a transaction some time after its commit.
    eventually("the letters are visible", || {
        ids = place.ids(dir);
        ids.len() >= refused
    });
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (refused, refused), "letters");
    let rows = psql(dir, server, schema, "SELECT count(*), count(DISTINCT event_id) FROM raw_events");
    let others = events - refused;
    assert_eq!(rows.trim(), format!("{others}|{others}"), "rows");
}

fn refused_rows_are_one_letter_each_after_kills(dir: &Dir, place: &LetterPlace) {
    let Some((to, server, schema)) = postgres() else { return };
    let mut draws = Draws::new();
    let lines = lines_with_refused(0..400);
    dir.write("a.jsonl", lines.concat());
    let checkpoint = CheckpointLocation::directory(dir);
    let mut stages = to_store(&checkpoint, &to);
    stages[0].1.extend(texts(&["--checkpoint-every", "1ms"]));
    *stages[1].1.last_mut().expect("a place") = place.uri();
    let mut kills = 0;
    for _ in 0..12 {
        let wanted = checkpoint.entries() + 1 + draws.below(4) as usize;
        let mut pipe = Pipe::start(dir, &stages);
        let mut polls = draws.below(30);
        eventually_within(LONG_WAIT, "a stage is killed or has ended", || {
            polls = if checkpoint.entries() >= wanted { polls.saturating_sub(1) } else { polls };
            checkpoint.entries() >= wanted && polls == 0 || pipe.has_ended()
        });
        let killed = draws.below(3) as usize;
        (0..2).filter(|stage| killed == 2 || *stage == killed).for_each(|stage| _ = pipe.0[stage].kill());
        kills += pipe.0.iter_mut().map(|stage| u32::from(ended("a stage", stage) == 137)).sum::<u32>();
    }
    assert_eq!(Pipe::start(dir, &stages).wait(), [0, 0], "{draws}");
    assert!(kills >= 3, "{draws}: {kills} kills");
    println!("{draws}");
    assert_each_once(dir, (&server, &schema), place, lines.len());
}

/// PostgreSQL finds them one after another, by halving, within the transaction of the epoch. The time of a halving must
/// not grow with those before it: then this commit takes minutes.
#[test]
fn an_epoch_with_hundreds_of_refused_rows_is_committed() {
    let Some((to, server, schema)) = postgres() else { return };
    let dir = Dir::new("many-refused");
    let events: Vec<String> = ordered(0..240).lines().map(str::to_owned).collect();
    // A number that JSONB cannot hold and JSON text can, and a text that evt-sink knows to be refused.
    let number = |line: &str| line.replacen('{', "{\"refused\":1e200000,", 1);
    let text = |line: &str| line.replacen('{', "{\"refused\":\"\\u0000\",", 1);
    let lines = events.iter().enumerate().map(|(at, line)| match at % 10 {
        3 => number(line),
        7 if at % 100 == 7 => text(line),
        _ => line.clone(),
    });
    dir.write("a.jsonl", lines.map(|line| line + "\n").collect::<String>());
    let stages = to_store(&CheckpointLocation::directory(&dir), &to);
    assert_eq!(Pipe::start(&dir, &stages).wait(), [0, 0]);
    let messages = dir.rows("dead.jsonl").into_iter().map(|letter| letter["error_message"].as_str().map(str::to_owned));
    let (of_text, of_number): (Vec<_>, Vec<_>) =
        messages.partition(|message| message.as_deref() == Some("properties: Postgres text cannot contain U+0000"));
    assert_eq!((of_number.len(), of_text.len()), (360, 36));
    let overflows = |message: &Option<String>| message.as_deref().is_some_and(|text| text.contains("overflows"));
    assert!(of_number.iter().all(overflows), "{of_number:?}");
    assert_eq!(psql(&dir, &server, &schema, "SELECT count(*) FROM raw_events").trim(), "3204");
}

/// Their letters are made and written batch by batch.
#[test]
fn rows_that_a_commit_refuses_need_little_memory_however_many_they_are() {
    let Some(python) = python() else { return };
    let dir = Dir::new("refused-memory");
    const ROWS: usize = 100_000;
    let event = |n| {
        let time = "\"event_time\":\"2026-01-01T00:00:00Z\",\"source\":\"s\",\"event_type\":\"t\"";
        format!("{{\"event_id\":\"00000000-0000-4000-8000-{n:012}\",{time},\"user_id\":\"u{n}\"}}\n")
    };
    dir.write("a.jsonl", (0..ROWS).map(event).collect::<String>());
    dir.write("none.jsonl", "");
    dir.run("evt-ingest", &["-q", "none.jsonl", "-f", "jsonl", "--to", "sqlite:m.db"]).stays_calm();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON raw_events BEGIN SELECT RAISE(ABORT, 'refused'); END";
    Connection::open(dir.path("m.db")).and_then(|db| db.execute_batch(refuse)).expect("SQL");
    let peak = |letters: &str, flags: &[&str]| {
        let job = ["-q", "a.jsonl", "--to", "sqlite:m.db", "--dlq", letters];
        let (Cost { status, peak_kib, .. }, said) = cost(&dir, &python, &[&job[..], flags].concat());
        assert_eq!(status, 0, "{said}");
        let count = memchr::memchr_iter(b'\n', &dir.bytes(letters)).count();
        assert_eq!(count, ROWS, "{letters}");
        peak_kib >> 10
    };
    let (plain, epoch) = (peak("plain.jsonl", &[]), peak("epoch.jsonl", &["--checkpoint", "state"]));
    assert!(epoch < plain + 64, "{epoch} MiB with a checkpoint, {plain} MiB without");
}

#[test]
fn refused_rows_are_one_letter_each_although_runs_are_killed() {
    refused_rows_are_one_letter_each_after_kills(&Dir::new("killed-letters"), &LetterPlace::File);
}

#[test]
fn refused_rows_are_one_record_each_of_a_topic_although_runs_are_killed() {
    let Some(place) = LetterPlace::topic("killed-letters-topic") else { return };
    refused_rows_are_one_letter_each_after_kills(&Dir::new("killed-letters-of-topic"), &place);
}

/// The epoch that a signal ends is the only one of its run, so its commit refuses the rows, and the run ends with it.
fn refused_rows_are_one_letter_each_after_signals(dir: &Dir, place: &LetterPlace) {
    let Some((to, server, schema)) = postgres() else { return };
    let checkpoint = CheckpointLocation::directory(dir);
    let mut stages = to_store(&checkpoint, &to);
    stages[0].1.extend(texts(&["--follow", "--checkpoint-every", "1h"]));
    *stages[1].1.last_mut().expect("a place") = place.uri();
    // Rows of this store show at once, so they tell what the stage has taken.
    stages[1].1.extend(texts(&["--to", "sqlite:now.db?visible=now"]));
    let lines = lines_with_refused(0..50);
    dir.write("a.jsonl", "");
    let count = || {
        let sql = "SELECT count(*) FROM raw_events";
        let found =
            Connection::open(dir.path("now.db")).and_then(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0)));
        found.map_or(0, |count| count as usize)
    };
    for (at, piece) in lines.chunks(150).enumerate() {
        let mut pipe = Pipe::start(dir, &stages);
        let mut file = File::options().append(true).open(dir.path("a.jsonl")).expect("a file");
        file.write_all(piece.concat().as_bytes()).expect("written");
        let taken = at * 150 + piece.len();
        eventually("the stage has the events", || count() == taken);
        let before = place.ids(dir).len();
        assert_eq!(before, at * 3, "no epoch has ended");
        pipe.signal(0, Signal::TERM);
        let statuses = pipe.wait();
        assert!(statuses[0] == 143 && [0, 143].contains(&statuses[1]), "{statuses:?}");
        assert_each_once(dir, (&server, &schema), place, taken);
    }
}

#[test]
fn refused_rows_are_one_letter_each_although_runs_are_stopped_and_resumed() {
    refused_rows_are_one_letter_each_after_signals(&Dir::new("stopped-letters"), &LetterPlace::File);
}

#[test]
fn refused_rows_are_one_record_each_of_a_topic_although_runs_are_stopped_and_resumed() {
    let Some(place) = LetterPlace::topic("stopped-letters-topic") else { return };
    refused_rows_are_one_letter_each_after_signals(&Dir::new("stopped-letters-of-topic"), &place);
}
