//! `-o arrow`: Arrow files, for evt and for other programs.

use crate::harness::{Dir, ask, python};

fn events(count: usize) -> String {
    let event =
        |n: usize| format!("{{\"t\":{n},\"event_type\":\"k{}\",\"n\":{n},\"host\":\"h{}\"}}\n", n % 7, n % 3000);
    (0..count).map(event).collect()
}

#[test]
fn an_arrow_file_is_read_by_other_programs_and_gives_evt_the_same_rows() {
    let dir = Dir::new("arrow");
    dir.write("in.jsonl", events(40_000));
    let ingest = "evt-ingest in.jsonl --time t --time-unit s --min-time 1970-01-01 --field partition=host --now 2024-01-01T00:00:00Z -q";
    dir.shell(&format!("{ingest} --to rows.jsonl --to out.arrow && {ingest} -o arrow | cat > piped.bin")).succeeds();
    assert!(dir.bytes("out.arrow") == dir.bytes("piped.bin") && dir.bytes("out.arrow").starts_with(b"ARROW1"));
    for line in [
        "evt-view out.arrow -q -o jsonl",
        "evt-view -q -o jsonl < piped.bin",
        "evt-view out.arrow -q -f arrow -o jsonl",
    ] {
        assert!(dir.shell(line).succeeds().stdout() == dir.bytes("rows.jsonl"), "{line}");
    }
    let Some(python) = python() else { return };
    let seen = ask(&dir, &python, "arrow_file.py", &["rows.jsonl", "out.arrow"]).rows();
    assert_eq!(seen[0], serde_json::json!({"rows": 40_000, "batches": 3}));
}

#[test]
fn an_arrow_file_holds_rows_of_every_kind_and_selections() {
    let dir = Dir::new("arrow-kinds");
    dir.write("in.jsonl", events(300));
    let ingest = "evt-ingest in.jsonl --time t --time-unit s --min-time 1970-01-01 -q";
    let window = "evt-window --size 1m --by event_type --late late.jsonl -q";
    dir.shell(&format!("{ingest} | {window} --to metrics.jsonl --to metrics.arrow")).succeeds();
    assert_eq!(dir.shell("evt-view metrics.arrow -q -o jsonl").succeeds().stdout(), dir.bytes("metrics.jsonl"));
    dir.shell(&format!("{ingest} | evt-view -q --columns event_type,n --to some.feather")).succeeds();
    let some = dir.shell("evt-view some.feather -q -o csv --columns event_type,n --head 2").succeeds();
    assert_eq!(some.text(), "event_type,n\nk0,0\nk1,1\n");
    dir.shell(&format!("{ingest} --where false --to empty.arrow && evt-view empty.arrow -q -o jsonl")).succeeds();
}

#[test]
fn an_arrow_file_is_whole_or_not_there() {
    let dir = Dir::new("arrow-whole");
    dir.write("in.jsonl", events(10));
    let ingest = "evt-ingest in.jsonl --time t --time-unit s --min-time 1970-01-01 -q";
    dir.shell(&format!("{ingest} --to out.arrow")).succeeds();
    let run = dir.shell(&format!("{ingest} --to out.arrow")).ends_with(2);
    assert!(run.stderr().contains("already exists; --overwrite replaces it"), "{run}");
    let run = dir.shell(&format!("{ingest} > other.arrow")).ends_with(2);
    assert!(run.stderr().contains("use --to other.arrow instead of > other.arrow"), "{run}");
    dir.shell("head -c 900 out.arrow > cut.arrow").succeeds();
    let run = dir.shell("evt-view cut.arrow -o jsonl").ends_with(65);
    assert!(run.stderr().contains("torn: the footer is missing"), "{run}");
}
