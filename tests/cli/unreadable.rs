//! Files of which no record can be read: the run ends before it writes anything, and names the flag that is missing. A
//! few broken records of a known format are dead letters.

use crate::harness::{Dir, Run};

const GOOD: &str = "{\"t\":\"2026-01-01\",\"n\":1}\n";

/// Runs a line that must end with 2 and write nothing.
fn refused(dir: &Dir, line: &str) -> Run {
    let run = dir.shell(&format!("rm -f dead.jsonl; {line} --to out.jsonl --dlq dead.jsonl")).ends_with(2);
    assert!(!dir.path("out.jsonl").exists() && !dir.path("dead.jsonl").exists(), "{run}");
    assert_eq!(run.stderr().lines().count(), 1, "{run}");
    run
}

/// Runs a line that must make so many dead letters.
fn letters(dir: &Dir, line: &str, dead: usize) {
    dir.shell(&format!("rm -f dead.jsonl; {line} -q --to null: --dlq dead.jsonl")).succeeds();
    assert_eq!(dir.rows("dead.jsonl").len(), dead, "{line}");
}

#[test]
fn json_lines_in_another_encoding_name_the_flag_that_reads_them() {
    let dir = Dir::new("unreadable-encoding");
    for (name, count) in [("many.jsonl", 1000), ("few.jsonl", 2)] {
        dir.write(name, b"{\"t\":\"2026-01-01\",\"city\":\"Z\xfcrich\"}\n".repeat(count));
        let run = refused(&dir, &format!("evt-ingest {name} --time t"));
        let which = if count == 2 { "none of the 2 records" } else { "none of the first 100 records" };
        let told = format!(
            "evt-ingest: {name}:1: {which} can be read: byte 28: invalid UTF-8; --encoding windows-1252 reads text"
        );
        assert!(run.stderr().starts_with(&told), "{run}");
        let line = format!("evt-ingest {name} --time t -q --strict --encoding windows-1252 -o jsonl");
        assert_eq!(dir.shell(&line).succeeds().rows()[1]["properties"]["city"], "Zürich");
        refused(&dir, &format!("evt-view {name}"));
    }
    // One of two is a record with a wrong byte.
    dir.write("one.jsonl", [b"{\"t\":\"2026-01-01\",\"city\":\"Z\xfcrich\"}\n", GOOD.as_bytes()].concat());
    letters(&dir, "evt-ingest one.jsonl --time t", 1);
}

#[test]
fn csv_below_a_comment_shows_the_comment_and_the_program_that_leaves_it_out() {
    let dir = Dir::new("unreadable-header");
    for rows in [2, 1000] {
        dir.write("c.csv", format!("# export\nt,n\n{}", "2026-01-01,1\n".repeat(rows)));
        let run = refused(&dir, "evt-ingest c.csv --time t");
        let said = run.stderr();
        assert!(
            said.contains("can be read: expected 1 fields (# export), found 2; the first line does not fit"),
            "{run}"
        );
        assert!(said.contains("tail -n +2 leaves out a comment above the header"), "{run}");
        let line = "tail -n +2 c.csv | evt-ingest -f csv --time t -q --strict -o jsonl";
        assert_eq!(dir.shell(line).succeeds().rows().len(), rows);
    }
    dir.write("h.csv", "1,2\n2026-01-01,1,x\n2026-01-02,2,y\n");
    assert!(refused(&dir, "evt-ingest h.csv --time t").stderr().contains("--header NAMES names the fields"));
    dir.shell("evt-ingest h.csv --time t --header t,n,x -q --dlq null: --to null:").succeeds();
    // One row with other fields is a broken row.
    dir.write("r.csv", "t,n\n2026-01-01\n");
    letters(&dir, "evt-ingest r.csv --time t", 1);
    dir.write("r.csv", "t,n\n2026-01-01\n2026-01-01,2\n2026-01-01\n");
    letters(&dir, "evt-ingest r.csv --time t", 2);
}

#[test]
fn text_of_no_known_format_is_no_pile_of_dead_letters() {
    let dir = Dir::new("unreadable-text");
    let page = "<!DOCTYPE html>\n<html>\n<body class=\"x\">hello</body>\n</html>\n";
    let bytes: Vec<u8> = (0..4000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x7f).collect();
    for (name, text) in [
        ("words.txt", b"one\ntwo words\nand three more\n".to_vec()),
        ("word.txt", b"one\n".to_vec()),
        ("page.html", page.into()),
        ("noise.bin", bytes),
    ] {
        dir.write(name, text);
        for line in
            [format!("evt-ingest {name} --time t"), format!("evt-view {name}"), format!("cat {name} | evt-view")]
        {
            let run = refused(&dir, &line);
            assert!(run.stderr().contains("; the format is none that evt recognises: -f FORMAT names it"), "{run}");
        }
    }
    let line = "evt-view words.txt -f 'regex:(?<text>.*)' --columns text -o csv";
    assert_eq!(dir.shell(line).succeeds().text(), "text\none\ntwo words\nand three more\n");
}

#[test]
fn a_hundred_broken_records_end_the_run_and_fewer_of_a_known_format_are_dead_letters() {
    let dir = Dir::new("unreadable-many");
    for (count, flags) in [(1, "-f jsonl"), (99, "-f jsonl"), (3, "--explode .")] {
        dir.write("broken.txt", "nope\n".repeat(count));
        let line = format!("evt-ingest broken.txt {flags} --time t");
        let dead = if flags == "-f jsonl" { count } else { 1 };
        letters(&dir, &line, dead);
    }
    dir.write("broken.jsonl", "{\"a\":\n".repeat(99));
    letters(&dir, "evt-ingest broken.jsonl --time t", 99);
    letters(&dir, "cat broken.jsonl | evt-ingest --time t", 99);
    dir.write("broken.jsonl", "{\"a\":\n".repeat(100));
    let run = refused(&dir, "evt-ingest broken.jsonl --time t");
    assert!(run.stderr().contains("broken.jsonl:1: none of the first 100 records can be read: "), "{run}");
    refused(&dir, "evt-ingest broken.jsonl --time arrival");
    dir.write("broken.jsonl", "{\"a\":\n".repeat(99) + GOOD);
    letters(&dir, "evt-ingest broken.jsonl --time t", 99);
    // Once a record was read the flags are known to be right.
    dir.write("good.jsonl", GOOD);
    dir.write("broken.jsonl", "{\"a\":\n".repeat(200));
    letters(&dir, "evt-ingest good.jsonl broken.jsonl --time t", 200);
    let run = refused(&dir, "evt-ingest broken.jsonl good.jsonl --time t");
    assert!(run.stderr().contains("broken.jsonl:1: none of the first 100"), "{run}");
    // Records without a time that is read are told as before, whatever else is wrong.
    dir.write("mixed.jsonl", "{\"a\":\n{\"t\":\"soon\"}\n");
    let run = refused(&dir, "evt-ingest mixed.jsonl --time t");
    assert!(run.stderr().contains("mixed.jsonl:2: none of the 2 records has a readable time"), "{run}");
}

#[test]
fn records_that_are_all_too_large_name_the_limit() {
    let dir = Dir::new("unreadable-large");
    dir.write("in.jsonl", format!("{{\"t\":\"2026-01-01\",\"x\":\"{}\"}}\n", "x".repeat(3000)).repeat(100));
    let run = refused(&dir, "evt-ingest in.jsonl --time t --max-record 1KiB");
    assert!(
        run.stderr().contains("none of the first 100 records can be read") && run.stderr().contains("--max-record"),
        "{run}"
    );
    dir.shell("evt-ingest in.jsonl --time t -q --strict --max-record 4KiB --to null:").succeeds();
}

#[test]
fn a_comparison_accounts_for_a_file_of_which_no_record_can_be_read() {
    let dir = Dir::new("unreadable-compared");
    dir.write("a.jsonl", "{\"a\":\n".repeat(150));
    dir.shell("cat a.jsonl > b.jsonl; (printf '%s\\n' '{\"t\":\"2026-01-01\"}'; cat a.jsonl) > a1.jsonl").succeeds();
    dir.shell("evt-ingest -q a1.jsonl --time t --origin a.jsonl --dlq dead.jsonl --to out.jsonl").succeeds();
    let run = dir.shell("evt-reconcile a.jsonl out.jsonl --plus dead.jsonl --time t");
    assert_ne!(run.status(), 2, "{run}");
}
