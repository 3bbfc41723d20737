//! `--checkpoint` with SQLite files that are locked: by another program, by another output of the run.

use crate::checkpoint_pipes::{Pipe, said};
use crate::harness::Dir;
use rusqlite::Connection;
use std::time::Duration;

/// Dead letters that are visible at once. `?wait=` is longer than the time after which a stage no longer waits for the
/// answer of a store.
const DEAD: &str = "sqlite:dead.db?visible=now&wait=7s";

/// A valid event, as a line.
fn event(number: usize) -> String {
    format!(
        "{{\"event_id\":\"00000000-0000-4000-8000-{number:012}\",\"source\":\"s\",\"event_type\":\"e\",\"user_id\":\"u{number}\",\
         \"server_timestamp\":\"2026-01-01T00:{:02}:{:02}Z\"}}\n",
        number / 60 % 60,
        number % 60
    )
}

/// The number of rows in a table.
fn count(dir: &Dir, name: &str, table: &str) -> i64 {
    let db = Connection::open(dir.path(name)).expect("a database");
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap_or(0)
}

/// Takes the lock of a database until the result is dropped.
fn locked(dir: &Dir, name: &str) -> Connection {
    let db = Connection::open(dir.path(name)).expect("a database");
    db.busy_timeout(Duration::from_secs(60)).expect("a setting");
    db.execute_batch("BEGIN IMMEDIATE").expect("locked");
    db
}

/// The epoch was complete without letters that the database had not got.
#[test]
fn letters_of_the_last_epoch_are_not_lost_although_their_database_is_locked() {
    let dir = Dir::new("locked-last");
    dir.write("a.jsonl", event(1) + "{bad0\n");
    dir.write("b.jsonl", event(2) + "{bad1\n{bad2\n");
    let run = |file: &str| {
        dir.run("evt-ingest", &["-q", "--checkpoint", "state", "--to", "out.jsonl", "--dlq", DEAD, "-f", "jsonl", file])
    };
    run("a.jsonl").succeeds();
    let lock = locked(&dir, "dead.db");
    let said = run("b.jsonl").ends_with(75).stderr();
    let expected = "sqlite:dead.db: cannot write: another run, or another output of this run, has held the lock for 7s";
    assert!(said.contains(expected), "{said}");
    drop(lock);
    assert_eq!(count(&dir, "dead.db", "dead_letters"), 1);
    run("b.jsonl").succeeds();
    assert_eq!((count(&dir, "dead.db", "dead_letters"), dir.rows("out.jsonl").len()), (3, 2));
}

/// The transaction of one output ended the other one, which waited for the lock only as long as ?wait= says; so did
/// those of the next run.
#[test]
fn outputs_of_one_stage_in_one_sqlite_file_commit_one_after_another() {
    let dir = Dir::new("locked-outputs");
    dir.write("m.toml", "[[metric]]\nname = \"n\"\naggregate = \"count(*)\"\nby = [\"user_id\"]\nsize = \"1m\"\n");
    let (rows, late) = (2_000, 1_500);
    let last = event(0).replace("2026-01-01T00", "2026-01-01T05");
    let events = (0..rows).map(event).chain([last]).chain((rows..rows + late).map(event));
    dir.write("a.jsonl", events.collect::<String>());
    let to = "sqlite:m.db?wait=1ms";
    let args = ["-q", "-m", "m.toml", "--checkpoint", "state", "--to", to, "--late", to, "--dlq", to, "a.jsonl"];
    dir.run("evt-window", &args).succeeds();
    assert_eq!(count(&dir, "m.db", "late_events"), late as i64);
    assert_eq!(count(&dir, "m.db", "aggregated_metrics"), rows as i64);
}

#[test]
fn stages_of_one_pipe_in_one_sqlite_file_commit_one_after_another() {
    let dir = Dir::new("locked-stages");
    // One process makes the tables. A connection stays open: the first one to open a file has it alone while SQLite
    // reads the write-ahead log, and a stage that opens it at that moment waits only as long as ?wait= says.
    dir.run("evt-ingest", &["-q", "--dlq", "sqlite:m.db", "--to", "null:", "-f", "jsonl", "/dev/null"]).succeeds();
    let open = Connection::open(dir.path("m.db")).expect("a database");
    let letters: i64 = open.query_row("SELECT count(*) FROM dead_letters", [], |row| row.get(0)).expect("a table");
    assert_eq!(letters, 0);
    let lines: String = (0..3_000).map(|number| event(number) + "{bad\n").collect();
    dir.write("a.jsonl", lines);
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let stages = [
        ("evt-ingest", "-q --checkpoint state --checkpoint-every 20ms --dlq sqlite:m.db?wait=1ms -f jsonl a.jsonl"),
        ("evt-validate", "-q --dedup 1h --duplicates null: --dlq sqlite:m.db?wait=1ms"),
        ("evt-sink", "-q --dlq sqlite:m.db?wait=1ms --to sqlite:m.db?wait=1ms"),
    ];
    let stages = stages.map(|(tool, line)| (tool, words(line)));
    let statuses = Pipe::start(&dir, &stages).wait();
    assert_eq!(statuses, [0; 3], "{}", said(&dir));
    drop(open);
    assert_eq!((count(&dir, "m.db", "raw_events"), count(&dir, "m.db", "dead_letters")), (3_000, 3_000));
}

/// The late rows of the last epoch were not stored, and the last stage of the pipe, whose status the shell takes, ended
/// with 0.
#[test]
fn no_stage_ends_with_0_if_an_output_of_another_one_does_not_get_the_last_epoch() {
    let dir = Dir::new("locked-pipe");
    let last = event(0).replace("2026-01-01T00", "2026-01-01T05");
    let events = (0..500).map(event).chain([last]).chain((500..600).map(event));
    dir.write("a.jsonl", events.collect::<String>());
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let window = "-q --size 10s --at-end fire --out-of-orderness 1s --late sqlite:late.db?wait=1s";
    let stages = [
        ("evt-ingest", words("-q --checkpoint state --dlq null: a.jsonl")),
        ("evt-window", words(window)),
        ("evt-sink", words("-q --to out.jsonl")),
    ];
    dir.shell("evt-window -q --size 10s a.jsonl --late sqlite:late.db --to null:").succeeds();
    Connection::open(dir.path("late.db")).expect("a database").execute_batch("DELETE FROM late_events").expect("empty");
    let lock = locked(&dir, "late.db");
    let statuses = Pipe::start(&dir, &stages).wait();
    assert!(statuses.iter().all(|status| *status != 0), "{statuses:?}: {}", said(&dir));
    assert_eq!((statuses[1], statuses[2]), (75, 75), "{}", said(&dir));
    assert!(said(&dir).contains("the next run commits it"), "{}", said(&dir));
    drop(lock);
    assert_eq!(count(&dir, "late.db", "late_events"), 0);
    assert_eq!(Pipe::start(&dir, &stages).wait(), [0; 3], "{}", said(&dir));
    assert_eq!(count(&dir, "late.db", "late_events"), 100);
}
