//! Truncated dead letters, and the column that shows the original length.

use crate::harness::{Dir, ROOT};
use rusqlite::Connection;
use serde_json::{Value, json};

/// A truncated dead letter and a complete one, in `dead.jsonl`.
fn letters(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write("in.jsonl", format!("{{\"a\":\"{}\"}}\nbroken\n", "x".repeat(1992)));
    dir.shell("evt-ingest in.jsonl -q --time arrival --max-record 1KiB --to null: --dlq dead.jsonl").succeeds();
    dir
}

fn lengths(dir: &Dir, place: &str) -> Vec<Value> {
    let line = format!("evt-view '{place}' --rows -q -o jsonl --columns offset,original_length");
    let mut rows = dir.shell(&line).succeeds().rows();
    rows.sort_by_key(|row| row["offset"].as_i64());
    rows.iter().map(|row| row["original_length"].clone()).collect()
}

#[test]
fn a_cut_letter_has_the_length_of_its_record_in_every_format_and_store() {
    let dir = letters("letters_length");
    assert_eq!(lengths(&dir, "dead.jsonl"), [json!(2000), Value::Null]);
    for place in ["dead.csv", "dead.avro", "dead.parquet", "dead.frames", "sqlite:dead.db", "parquet:lake"] {
        dir.shell(&format!("evt-sink dead.jsonl -q --to {place}")).succeeds();
        let read = if place.starts_with("sqlite") { "sqlite:dead.db?table=dead_letters" } else { place };
        assert_eq!(lengths(&dir, read), [json!(2000), Value::Null], "{place}");
    }
    if let Ok(postgres) = std::env::var("EVT_POSTGRES") {
        let place = format!("{postgres}?schema=letters_length_{}", std::process::id());
        dir.shell(&format!("evt-sink dead.jsonl -q --to '{place}'")).succeeds();
        assert_eq!(lengths(&dir, &format!("{place}&table=dead_letters")), [json!(2000), Value::Null]);
    }
}

/// evt reads dead letters of an older version without this column, and appends to its files and tables.
#[test]
fn letters_without_the_column_stand_beside_those_that_have_it() {
    let dir = letters("letters_older");
    let older = format!("{ROOT}/testdata/frame/valid/dead.frames");
    let count = lengths(&dir, &older).len();
    assert!(count > 0 && lengths(&dir, &older).iter().all(Value::is_null));
    dir.shell(&format!("evt-sink {older} -q --to both.jsonl --to parquet:lake --to sqlite:both.db")).succeeds();

    let db = Connection::open(dir.path("both.db")).expect("it opens");
    let back = "ALTER TABLE dead_letters DROP COLUMN original_length; ALTER TABLE dead_letters DROP COLUMN letter_id;
        ALTER TABLE dead_letters DROP COLUMN metrics; ALTER TABLE dead_letters DROP COLUMN partial;
        DROP TABLE corrections; DROP TABLE corrected_cells; DROP TABLE late_positions; DROP INDEX alerts_at;
        DROP TABLE pipeline_checkpoints; DROP TABLE checkpoint_epochs; DROP TABLE metric_progress;
        CREATE TABLE pipeline_checkpoints (pipeline TEXT PRIMARY KEY, run INTEGER, epoch INTEGER, committed_at TEXT);
        UPDATE evt_schema SET version = 1";
    db.execute_batch(back).expect("as an older evt made it");
    drop(db);
    assert_eq!(lengths(&dir, "sqlite:both.db?table=dead_letters"), vec![Value::Null; count]);

    let table = dir.shell("evt-view dead.jsonl --rows -q -o csv").succeeds().text();
    let header = table
        .lines()
        .next()
        .and_then(|line| line.strip_suffix(",original_length,letter_id,metrics,partial"))
        .expect("the last columns");
    dir.write("both.csv", format!("{header}\n"));
    let line = "evt-sink dead.jsonl -q --append --to both.jsonl --to parquet:lake --to sqlite:both.db --to both.csv";
    let run = dir.shell(line).succeeds();
    assert_eq!(
        run.stderr(),
        "evt-sink: both.csv: the header has no original_length, letter_id, metrics, partial; dead letters are appended without it\n"
    );
    for place in ["both.jsonl", "parquet:lake", "sqlite:both.db?table=dead_letters"] {
        let found = lengths(&dir, place);
        assert_eq!(found.len(), count + 2, "{place}");
        assert_eq!(found.iter().filter(|length| !length.is_null()).collect::<Vec<_>>(), [&json!(2000)], "{place}");
    }
    assert_eq!(lengths(&dir, "both.csv"), [Value::Null, Value::Null]);
}

#[test]
fn a_dead_letter_of_a_window_is_the_record_byte_for_byte() {
    let dir = Dir::new("window-letter");
    let record = r#"{ "server_timestamp" : "2026-01-01T00:00:00Z", "v":"x" , "n":1.50}"#;
    dir.write("in.jsonl", format!("{record}\n"));
    for window in [
        "evt-window in.jsonl --size 1m --agg 'sum(v)' --dlq d.jsonl --to null: -q",
        "evt-ingest in.jsonl --keep-raw -q | evt-window --size 1m --agg 'sum(v)' --dlq d.jsonl --to null: -q",
        "evt-ingest in.jsonl --keep-raw -q -o csv | evt-window -f csv --size 1m --agg 'sum(v)' --dlq d.jsonl --to null: -q",
    ] {
        dir.shell(window).succeeds();
        let run = dir.shell("evt-view -q d.jsonl -o raw").succeeds();
        assert_eq!(run.text(), format!("{record}\n"), "{window}");
        std::fs::remove_file(dir.path("d.jsonl")).expect("it is there");
    }
}

/// A read buffer (256 KiB) does not hold all of such a line, so the line is refused before its end is known.
#[test]
fn a_line_longer_than_a_read_buffer_has_its_line_number_and_its_length() {
    let dir = Dir::new("letters-long");
    let long = format!("{{\"t\":\"{}\"}}", "x".repeat(300_000));
    dir.write("in.jsonl", format!("{{\"t\":1}}\n\n\n{long}\r\n{{\"t\":2}}\n"));
    dir.shell("evt-ingest in.jsonl -q --time arrival --max-record 1KiB --to out.jsonl --dlq dead.jsonl").succeeds();
    let letters = dir.rows("dead.jsonl");
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((&letters[0]["offset"], &letters[0]["original_length"]), (&json!(4), &json!(long.len())));
    let offsets: Vec<_> = dir.rows("out.jsonl").into_iter().map(|row| row["offset"].clone()).collect();
    assert_eq!(offsets, [1, 5]);
}

#[test]
fn a_json_array_behind_much_white_space_is_recognised() {
    let dir = Dir::new("letters-array");
    dir.write("in.jsonl", format!("{}[{{\"t\":1}}]\n", "\n".repeat(300_000)));
    let run = dir.shell("evt-ingest in.jsonl -q --time arrival --to null:").ends_with(65);
    assert!(run.stderr().contains("found a JSON array; --explode . reads its elements"), "{run}");
}

/// Two events without a readable time, as letters in `dead.jsonl`, and one with a time.
fn untimed(name: &str) -> Dir {
    let dir = Dir::new(name);
    let event = |n: u32, time: &str| format!("{{\"server_timestamp\":\"{time}\",\"n\":{n}}}\n");
    dir.write("in.jsonl", event(0, "2026-01-01T00:00:00Z") + &event(1, "bad") + &event(2, "worse"));
    dir.shell("evt-ingest in.jsonl -q --to null: --dlq dead.jsonl").succeeds();
    dir
}

/// The format of the letters is detected, whatever the format of the records in them.
#[test]
fn records_of_json_lines_in_letters_of_any_format_are_replayed() {
    let dir = untimed("letters_json");
    for name in ["dead.csv", "dead.parquet", "dead.jsonl"] {
        if name != "dead.jsonl" {
            dir.shell(&format!("evt-sink dead.jsonl -q --to {name}")).succeeds();
        }
        let patch = "set server_timestamp = '2026-01-02T00:00:00Z'";
        let line = format!("evt-replay -f jsonl {name} --patch \"{patch}\" --ledger sqlite:{name}.db");
        dir.shell(&format!("{line} --to {name}.replayed.jsonl --dlq null:")).succeeds();
        let rows = dir.rows(&format!("{name}.replayed.jsonl"));
        let numbers: Vec<_> = rows.iter().map(|row| row["properties"]["n"].clone()).collect();
        assert_eq!(numbers, [json!(1), json!(2)], "{name}");
    }
}

#[test]
fn a_quiet_replay_says_why_it_does_not_end_with_0() {
    let dir = untimed("letters_quiet");
    let run = dir.shell("evt-replay -q dead.jsonl --ledger sqlite:l.db --to r.jsonl --dlq null:").ends_with(1);
    assert!(run.stderr().trim_end().ends_with("exit status 1, because 2 letters are still faulty"), "{run}");
}

#[test]
fn letters_of_several_files_are_replayed_once() {
    let dir = Dir::new("replay-several");
    for name in ["a", "b"] {
        let good = r#"{"source":"s","server_timestamp":"2026-01-01T00:00:00Z"}"#;
        let bad = format!(r#"{{"event_type":"{name}","source":"s","server_timestamp":"yesterday"}}"#);
        dir.write(&format!("{name}.jsonl"), format!("{good}\n{bad}\n"));
        dir.shell(&format!("evt-ingest -q {name}.jsonl --dlq {name}.dead.jsonl --to null:")).succeeds();
    }
    let line = "evt-replay -q a.dead.jsonl b.dead.jsonl --patch \"set server_timestamp = '2026-01-01T00:00:00Z'\"";
    dir.shell(&format!("{line} --dry-run")).ends_with(1);
    for _ in 0..2 {
        dir.shell(&format!("{line} --ledger sqlite:l.db --to out.jsonl")).succeeds();
        let replayed = dir.rows("out.jsonl");
        assert_eq!(replayed.iter().map(|row| &row["event_type"]).collect::<Vec<_>>(), ["a", "b"]);
    }
}
