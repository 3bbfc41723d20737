//! `--checkpoint` with a file that several runs append to.

use crate::harness::{Dir, Run};

/// Makes events, whose records begin with the same text, as the letters of one stage do.
fn events(numbers: std::ops::Range<u32>) -> String {
    let line = |number: u32| {
        format!(
            "{{\"event_id\":\"00000000-0000-4000-8000-{number:012}\",\"source\":\"s\",\"event_type\":\"e\",\"user_id\":\"u\",\
             \"server_timestamp\":\"2026-01-01T00:00:00Z\",\"text\":\"one\\nof \\\"two\\\"\"}}\n"
        )
    };
    numbers.map(line).collect()
}

/// Makes a run that was killed after it had recorded what it would append, and before a byte of it was in the file:
/// the file may not grow further. Returns the run that is to continue it.
fn killed_before_its_first_byte(dir: &Dir) -> impl Fn() -> Run {
    dir.write("a.jsonl", events(0..2_000));
    dir.write("a2.jsonl", events(3_000..3_003));
    let ingest = "evt-ingest -q --dlq null: --checkpoint state-a --to shared.csv -f jsonl";
    dir.shell(&format!("{ingest} a.jsonl")).succeeds();
    let blocks = dir.bytes("shared.csv").len() / 1024;
    assert!(blocks > 200, "{blocks}");
    let before = dir.bytes("shared.csv");
    // Its write fails; other files of the run are smaller.
    let status = dir.shell(&format!("ulimit -f {blocks}; exec {ingest} a2.jsonl")).status();
    assert_eq!(status, 74);
    assert!(dir.bytes("shared.csv") == before, "nothing of the epoch is in the file");
    move || dir.shell(&format!("{ingest} a2.jsonl"))
}

/// Checks that each of these events is in the file once.
fn assert_once(dir: &Dir, numbers: impl Iterator<Item = u32>) {
    let rows = dir.run("evt-view", &["-q", "-o", "jsonl", "shared.csv"]).succeeds().rows();
    let mut found: Vec<String> = rows.iter().map(|row| row["event_id"].as_str().expect("an id").to_owned()).collect();
    found.sort();
    assert_eq!(found, Vec::from_iter(numbers.map(|number| format!("00000000-0000-4000-8000-{number:012}"))));
}

/// The owner compared its bytes with the record of the other run, which begins like its own, and took it for torn.
#[test]
fn a_run_that_was_killed_before_it_appended_to_a_shared_csv_file_starts_again() {
    for (at, other) in ["--checkpoint state-b", "--append"].into_iter().enumerate() {
        let dir = Dir::new(&format!("shared-csv-{at}"));
        let next = killed_before_its_first_byte(&dir);
        dir.write("b.jsonl", events(5_000..5_002));
        dir.shell(&format!("evt-ingest -q --dlq null: {other} --to shared.csv -f jsonl b.jsonl")).succeeds();
        next().succeeds();
        assert_once(&dir, (0..2_000).chain(3_000..3_003).chain(5_000..5_002));
        next().succeeds();
        assert_once(&dir, (0..2_000).chain(3_000..3_003).chain(5_000..5_002));
    }
}
