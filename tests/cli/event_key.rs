//! `?key=event_id`: a database that stores each event once, whatever the position of its copies is.

use crate::harness::Dir;
use std::fmt::Write;

/// Events with the given ids, one a second.
fn write_events(dir: &Dir, name: &str, ids: impl Iterator<Item = u32>) {
    let mut lines = String::new();
    for id in ids {
        let (id, second) = (format!("00000000-0000-4000-8000-{id:012}"), id % 60);
        let _ =
            writeln!(lines, "{{\"event_id\":\"{id}\",\"t\":\"2026-01-01T00:00:{second:02}Z\",\"from\":\"{name}\"}}");
    }
    dir.write(name, lines);
}

/// The number of rows by the file that they are from.
fn stored(dir: &Dir) -> String {
    dir.shell("evt-view -q 'sqlite:e.db?table=raw_events' -o csv --columns from | sort | uniq -c")
        .text()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| line.ends_with(".jsonl"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn an_event_that_two_files_hold_is_stored_once_and_counted_as_unchanged() {
    let dir = Dir::new("event-key");
    write_events(&dir, "b.jsonl", 0..40);
    write_events(&dir, "a.jsonl", 20..60);
    let line = "evt-ingest b.jsonl a.jsonl --time t --to";
    // Without the key, copies at other positions are other events.
    let run = dir.shell(&format!("{line} sqlite:copies.db")).succeeds();
    assert!(run.stderr().contains("in 80 inserted 80"), "{run}");
    let run = dir.shell(&format!("{line} 'sqlite:e.db?key=event_id'")).succeeds();
    assert!(run.stderr().contains("in 80 inserted 60 unchanged 20"), "{run}");
    assert_eq!(stored(&dir), "20 a.jsonl, 40 b.jsonl");
    // Later copies change nothing, and the key belongs to the table.
    write_events(&dir, "0.jsonl", 50..70);
    let run = dir.shell("evt-ingest 0.jsonl --time t --to sqlite:e.db").succeeds();
    assert!(run.stderr().contains("in 20 inserted 10 unchanged 10"), "{run}");
    assert_eq!(stored(&dir), "10 0.jsonl, 20 a.jsonl, 40 b.jsonl");
    let run = dir.shell(&format!("{line} 'sqlite:copies.db?key=event_id'")).ends_with(78);
    assert!(run.stderr().contains("key=event_id: expected each event_id once in raw_events, found 00000000-"), "{run}");
    let run = dir.shell(&format!("{line} 'sqlite:e.db?key=offset'")).ends_with(2);
    assert!(run.stderr().contains("key: expected event_id, found 'offset'"), "{run}");
}

#[test]
fn the_least_copy_of_an_epoch_is_stored_whatever_order_its_files_are_read_in() {
    let dir = Dir::new("event-key-epoch");
    write_events(&dir, "b.jsonl", 0..40);
    write_events(&dir, "a.jsonl", 20..60);
    let line = "evt-ingest b.jsonl a.jsonl --time t --checkpoint state --to 'sqlite:e.db?key=event_id'";
    let run = dir.shell(line).succeeds();
    assert!(run.stderr().contains("in 80 inserted 60 unchanged 20"), "{run}");
    assert_eq!(stored(&dir), "40 a.jsonl, 20 b.jsonl");
    dir.shell(line).succeeds();
    assert_eq!(stored(&dir), "40 a.jsonl, 20 b.jsonl");
}
