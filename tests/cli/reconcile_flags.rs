//! The flags of evt-reconcile: outputs that are inputs, modes that exclude each other, ranges without an instant, and
//! results that replace those of an earlier run; duplicates in a range of time.

use crate::harness::{Dir, Draws};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const EVENT: &str =
    r#"{"event_id":"00000000-0000-4000-8000-000000000001","source":"a","server_timestamp":"2026-01-01T00:00:01Z"}"#;

/// A record and the row that evt-ingest makes of it.
fn one(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write("a.jsonl", format!("{EVENT}\n"));
    dir.shell("evt-ingest -q a.jsonl --to b.jsonl").succeeds();
    dir
}

/// The range is that of a unit, and its double is in it or not with the unit.
#[test]
fn a_double_row_with_another_time_has_the_same_verdict_with_ids() {
    let dir = Dir::new("reconcile-double-times");
    let event = |minute: u32| format!("{{\"server_timestamp\":\"2024-01-01T00:{minute:02}:00Z\"}}\n");
    dir.write("a.jsonl", (0..3).map(event).collect::<String>());
    dir.shell("evt-ingest -q a.jsonl --to b.jsonl").succeeds();
    let mut rows = dir.rows("b.jsonl");
    let mut double = rows[1].clone();
    double["event_time"] = "2024-01-01T00:30:00Z".into();
    double["event_id"] = "aac03190-f47b-48b3-837d-6a8ccf2bbd8f".into();
    rows.insert(2, double);
    dir.write("b.jsonl", rows.iter().map(|row| format!("{row}\n")).collect::<String>());
    for (range, status) in
        [("--since 2024-01-01T00:00:30Z --until 2024-01-01T00:10:00Z", 1), ("--since 2024-01-01T00:20:00Z", 0)]
    {
        for ids in ["", "--ids"] {
            dir.shell(&format!("evt-reconcile a.jsonl b.jsonl {range} {ids}")).ends_with(status);
        }
    }
}

#[test]
fn an_output_that_is_an_input_is_refused_and_the_input_stays() {
    let dir = one("reconcile-overwrite");
    let (a, b) = (dir.bytes("a.jsonl"), dir.bytes("b.jsonl"));
    dir.write("dead.jsonl", "");
    std::os::unix::fs::symlink("a.jsonl", dir.path("link.jsonl")).expect("a link");
    let outputs = ["--to a.jsonl", "--to ./b.jsonl", "--to dead.jsonl", "--to link.jsonl", "--stats a.jsonl"];
    for output in outputs {
        let run = dir.shell(&format!("evt-reconcile a.jsonl b.jsonl --plus dead.jsonl {output}")).ends_with(2);
        assert!(run.stderr().contains("also an input"), "{output}: {run}");
        let run = dir.shell(&format!("evt-reconcile --check a.jsonl b.jsonl --plus dead.jsonl {output}")).ends_with(2);
        assert!(run.stderr().contains("also an input"), "{output}: {run}");
    }
    dir.shell("evt-reconcile a.jsonl b.jsonl >> a.jsonl").ends_with(2);
    dir.shell("evt-reconcile --freshness b.jsonl --to b.jsonl").ends_with(2);
    let run = dir.shell("evt-reconcile a.jsonl b.jsonl --to sqlite:out.db").ends_with(2);
    assert!(run.stderr().contains("--to: expected a file, found sqlite:out.db"), "{run}");
    assert_eq!((dir.bytes("a.jsonl"), dir.bytes("b.jsonl"), dir.bytes("dead.jsonl")), (a, b, vec![]));
}

#[test]
fn a_flag_of_another_mode_is_refused() {
    let dir = one("reconcile-modes");
    let lag = "--lag 'kafka://127.0.0.1:9/t?group=g'";
    for line in [
        "a.jsonl b.jsonl --max-lag 5m",
        "a.jsonl b.jsonl --max-age 5m",
        "a.jsonl b.jsonl --only events",
        &format!("{lag} --max-age 3m"),
        &format!("{lag} --only events"),
        &format!("{lag} --plus b.jsonl"),
        &format!("{lag} --freshness b.jsonl"),
        "--freshness b.jsonl --max-lag 3m",
        "--freshness b.jsonl --bucket 1h",
        "--freshness b.jsonl --settle 5m",
        "--freshness b.jsonl --ids",
        "--max-lag 5m",
        "--only events",
    ] {
        dir.shell(&format!("evt-reconcile {line}")).ends_with(2);
    }
    dir.shell("evt-reconcile --freshness b.jsonl").succeeds();
}

/// The file of a spreadsheet, whose messages name these flags.
#[test]
fn text_is_read_by_the_flags_that_read_it_elsewhere() {
    let dir = Dir::new("reconcile-text");
    dir.write("orders.csv", b"Tag;Stadt;Preis\n2026-01-01;Z\xfcrich;1,50\n2026-01-02;Bern;2,00\n");
    dir.write("rows.txt", "2026-01-01|1\n2026-01-02|2\n");
    dir.write("sys.log", "Dec 10 06:55:46 LabSZ sshd[24200]: Invalid user x\n");
    for (file, flags) in [
        ("orders.csv", "--encoding windows-1252 --delimiter ';' --time Tag"),
        ("rows.txt", "--header day,n --delimiter '|' --time day"),
        ("rows.txt", "--no-header --delimiter '|' --time c1"),
        ("sys.log", "-f syslog --time-year 2016"),
    ] {
        dir.shell(&format!("rm -f b.db && evt-sink -q {file} {flags} --to sqlite:b.db")).succeeds();
        dir.shell(&format!("evt-reconcile -q {file} 'sqlite:b.db?table=raw_events' {flags}")).succeeds();
        let database = rusqlite::Connection::open(dir.path("b.db")).expect("a database");
        let deleted =
            database.execute("DELETE FROM raw_events WHERE event_time = (SELECT max(event_time) FROM raw_events)", ());
        assert_eq!(deleted, Ok(1));
        let run = dir.shell(&format!("evt-reconcile -q {file} 'sqlite:b.db?table=raw_events' {flags}")).ends_with(1);
        assert!(run.stderr().contains("1 missing"), "{run}");
    }
    let said = dir.shell("evt-reconcile orders.csv 'sqlite:b.db?table=raw_events' --time Tag").ends_with(2).stderr();
    assert!(said.contains("--encoding windows-1252 reads it"), "{said}");
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused() {
    let dir = one("reconcile-range");
    let range = "--since 2026-01-02T00:00:00Z --until 2026-01-01T00:00:00Z";
    let run = dir.shell(&format!("evt-reconcile a.jsonl b.jsonl {range}")).ends_with(2);
    assert!(run.stderr().contains("2026-01-02T00:00:00.000000Z"), "{run}");
    dir.shell("evt-reconcile a.jsonl b.jsonl --since 2026-01-01T00:00:00Z --until 2026-01-01T00:00:00Z").ends_with(2);
    dir.shell("evt-reconcile a.jsonl b.jsonl --since 2026-01-01T00:00:00Z --until 2026-01-02T00:00:00Z").succeeds();
}

#[test]
fn a_lake_that_got_no_row_is_an_empty_input() {
    let dir = one("reconcile-empty-lake");
    dir.shell("evt-ingest -q a.jsonl --to parquet:lake --dlq parquet:dead").succeeds();
    let run = dir.shell("evt-reconcile a.jsonl parquet:lake --plus parquet:dead -q").succeeds();
    assert!(run.stderr().is_empty(), "{run}");
    // The other way round: nothing has arrived.
    let run = dir.shell("evt-reconcile a.jsonl parquet:dead -q").ends_with(1);
    assert!(run.stderr().contains("1 missing of 1 record"), "{run}");
    assert!(dir.shell("evt-view -q parquet:dead").succeeds().stdout().is_empty());
    std::fs::create_dir(dir.path("other")).expect("a directory");
    let run = dir.shell("evt-reconcile a.jsonl parquet:other").ends_with(2);
    assert!(run.stderr().contains("expected files date=YYYY-MM-DD/*.parquet, found none"), "{run}");
}

#[test]
fn a_right_result_replaces_the_file_of_a_wrong_one() {
    let dir = one("reconcile-replaced");
    dir.write("none.jsonl", "");
    dir.shell("evt-reconcile -q a.jsonl none.jsonl -o jsonl --to result.jsonl").ends_with(1);
    assert_eq!(dir.rows("result.jsonl")[0]["missing"], 1);
    dir.shell("evt-reconcile -q a.jsonl b.jsonl -o jsonl --to result.jsonl").succeeds();
    assert_eq!(dir.rows("result.jsonl")[0]["missing"], 0);
    dir.shell("evt-reconcile -q --freshness b.jsonl --to age.jsonl").succeeds();
    assert_eq!(dir.rows("age.jsonl")[0]["metric"], "events");
}

#[test]
fn a_changed_event_id_is_a_difference() {
    let dir = one("reconcile-id");
    dir.shell("sed 's/000000000001/000000000002/' b.jsonl > c.jsonl").succeeds();
    let run = dir.shell("evt-reconcile a.jsonl c.jsonl --ids -o jsonl").ends_with(1);
    let rows = run.rows();
    assert_eq!((rows.len(), &rows[0]["verdict"], &rows[0]["offset"]), (1, &"different".into(), &1.into()), "{run}");
    dir.shell("evt-reconcile a.jsonl b.jsonl --ids").succeeds();
}

#[test]
fn a_side_output_that_cannot_be_read_is_named() {
    let dir = one("reconcile-unreadable");
    dir.write("bad.jsonl", "no JSON\n");
    let run = dir.shell("evt-reconcile a.jsonl b.jsonl --plus bad.jsonl").ends_with(65);
    assert!(run.stderr().contains("bad.jsonl"), "{run}");
}

#[test]
fn the_event_time_of_units_that_take_their_arrival_is_not_compared() {
    let dir = Dir::new("reconcile-arrival");
    let other = EVENT.replace("0001\",", "0002\",");
    dir.write("a.jsonl", format!("{EVENT}\n{other}\n"));
    dir.shell("evt-ingest -q a.jsonl --time arrival --to b.jsonl").succeeds();
    let compare = "evt-reconcile --ids --time arrival";
    let run = dir.shell(&format!("{compare} a.jsonl b.jsonl -o jsonl")).succeeds();
    assert!(run.rows().is_empty(), "{run}");
    dir.shell("evt-reconcile --ids --time arrival --by id a.jsonl b.jsonl").succeeds();
    // Everything else is still compared.
    dir.shell(r#"sed '2s/"source":"a"/"source":"b"/' b.jsonl > c.jsonl"#).succeeds();
    let run = dir.shell(&format!("{compare} a.jsonl c.jsonl -o jsonl")).ends_with(1);
    assert_eq!(run.rows().iter().map(|row| row["verdict"].clone()).collect::<Vec<_>>(), ["different"], "{run}");
    // Rows that carry stamps have their own event time.
    dir.shell(r#"sed '1s/"event_time":"20../"event_time":"1999/' b.jsonl > d.jsonl"#).succeeds();
    let run = dir.shell(&format!("{compare} b.jsonl d.jsonl -o jsonl")).ends_with(1);
    assert_eq!(run.rows().iter().map(|row| row["verdict"].clone()).collect::<Vec<_>>(), ["different"], "{run}");
    dir.shell(&format!("{compare} b.jsonl b.jsonl")).succeeds();
}

/// A day of which every record was rejected, beside other days in the same table.
#[test]
fn records_that_are_all_among_the_dead_are_accounted_for() {
    let dir = Dir::new("reconcile-all-dead");
    dir.write("a.jsonl", "{\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n");
    dir.write("b.jsonl", "kaputt\nkaputt\n");
    dir.shell("evt-ingest -q a.jsonl --to m.db; evt-ingest -q -f jsonl b.jsonl --dlq d.jsonl --to m.db").succeeds();
    let line = "evt-reconcile -f jsonl b.jsonl 'sqlite:m.db?table=raw_events'";
    let run = dir.shell(&format!("{line} --plus d.jsonl")).succeeds();
    let expected = "all 2 records are accounted for (2 in plus); 1 row of B outside of A's range was not judged";
    assert!(run.stderr().contains(expected), "{run}");
    dir.shell("head -1 d.jsonl > one.jsonl").succeeds();
    let run = dir.shell(&format!("{line} --plus one.jsonl")).ends_with(1);
    assert!(run.stderr().contains("1 missing of 2 records (1 in plus); b.jsonl/0@2: 1 missing"), "{run}");
    let run = dir.shell(line).ends_with(2);
    assert!(run.stderr().contains("no row of B has an origin of A (b.jsonl)"), "{run}");
}

#[test]
fn an_input_without_records_proves_nothing_and_says_so() {
    let dir = one("reconcile-nothing");
    dir.shell("evt-ingest -q a.jsonl --to m.db").succeeds();
    dir.write("empty.jsonl", "");
    let run = dir.shell("evt-reconcile -q empty.jsonl m.db").succeeds();
    let expected = "A has no records, so nothing is proven; 1 row of B outside of A's range was not judged";
    assert!(run.stderr().contains(expected), "{run}");
    // Nothing arrived, and nothing was sent.
    dir.shell("evt-ingest -q empty.jsonl --to none.db").succeeds();
    let run = dir.shell("evt-reconcile -q empty.jsonl 'sqlite:none.db?table=raw_events'").succeeds();
    assert_eq!(run.stderr(), "", "{run}");
}

#[test]
fn a_database_and_its_only_table_with_rows_need_no_name() {
    let dir = one("reconcile-database");
    dir.shell("evt-ingest -q a.jsonl --to m.db").succeeds();
    for b in ["m.db", "sqlite:m.db", "'sqlite:m.db?table=raw_events'"] {
        dir.shell(&format!("evt-reconcile -q a.jsonl {b}")).succeeds();
        let counted = dir.shell(&format!("evt-window -q {b} --size all -o csv --wide")).succeeds();
        assert_eq!(counted.text().lines().count(), 2, "{b}: {counted}");
    }
    dir.shell("evt-window -q m.db --size 1h --out-of-orderness all --late null: --to m.db").succeeds();
    for tool in ["evt-reconcile a.jsonl m.db", "evt-window m.db --size 1h"] {
        let run = dir.shell(tool).ends_with(2);
        assert!(run.stderr().contains("choose a table with ?table=NAME"), "{run}");
    }
}

#[test]
fn standard_input_is_one_input_only() {
    let dir = Dir::new("reconcile-twice");
    for args in [&["-", "-"][..], &["-", "b.jsonl", "--plus", "-"]] {
        for more in [&[][..], &["--check"]] {
            let said = dir.run("evt-reconcile", &[args, more].concat()).ends_with(2).stderr();
            assert!(said.contains("-: expected standard input as one input, found it as 2"), "{said}");
        }
    }
}

/// With `--dedup` a record whose event_id B has from another position of A is a duplicate, wherever in time the row of
/// B and its record are: random records and rows of B, every range of time, against this rule.
#[test]
fn a_duplicate_of_a_record_outside_the_range_is_a_duplicate() {
    let mut draws = Draws::new();
    let dir = Dir::new("reconcile-duplicates-range");
    let mut outside = 0;
    for case in 0..6 {
        let (mut a, mut seconds) = (String::new(), vec![]);
        for _ in 0..14 {
            let (id, second) = (draws.below(7), draws.below(10));
            seconds.push(second);
            let id = format!("00000000-0000-4000-8000-{id:012}");
            writeln!(a, r#"{{"event_time":"2024-01-01T10:00:0{second}Z","event_id":"{id}"}}"#).expect("text");
        }
        dir.write("a.jsonl", a);
        dir.shell("rm -f all.jsonl; evt-ingest -q a.jsonl --to all.jsonl").succeeds();
        let rows = dir.rows("all.jsonl");
        let is_kept: Vec<bool> = rows.iter().map(|_| draws.below(3) == 0).collect();
        let kept: Vec<&Value> = rows.iter().zip(&is_kept).filter(|(_, kept)| **kept).map(|(row, _)| row).collect();
        dir.write("b.jsonl", kept.iter().map(|row| format!("{row}\n")).collect::<String>());
        let ids: BTreeSet<&str> = kept.iter().filter_map(|row| row["event_id"].as_str()).collect();
        for (since, until) in [(0, 5), (5, 9), (4, 6)] {
            let judged = (0..rows.len()).filter(|at| (since..until).contains(&seconds[*at]));
            let missing: Vec<usize> =
                judged.clone().filter(|at| !ids.contains(rows[*at]["event_id"].as_str().expect("an id"))).collect();
            outside += judged
                .clone()
                .filter(|at| {
                    let copies =
                        (0..rows.len()).filter(|b| is_kept[*b] && rows[*b]["event_id"] == rows[*at]["event_id"]);
                    let mut copies = copies.map(|copy| seconds[copy]).peekable();
                    copies.peek().is_some() && copies.all(|second| !(since..until).contains(&second))
                })
                .count();
            let range = format!("--since 2024-01-01T10:00:0{since}Z --until 2024-01-01T10:00:0{until}Z");
            for by in ["position", "id"] {
                let line = format!("evt-reconcile -q a.jsonl b.jsonl --dedup --by {by} {range}");
                let status = i32::from(!missing.is_empty());
                let named = dir.shell(&format!("{line} --ids")).ends_with(status);
                let offsets: Vec<usize> = named
                    .rows()
                    .iter()
                    .filter_map(|row| row["offset"].as_u64())
                    .map(|line| line as usize - 1)
                    .collect();
                assert_eq!(offsets, missing, "{draws} case {case}: {line}: {named}");
                let counts = dir.shell(&line).ends_with(status);
                let sum = |name: &str| counts.rows().iter().filter_map(|row| row[name].as_u64()).sum::<u64>() as usize;
                let found = [sum("b") + sum("duplicate"), sum("missing"), sum("a")];
                let all = judged.clone().count();
                // Without a fault -q writes no rows.
                let expected = if missing.is_empty() { [0; 3] } else { [all - missing.len(), missing.len(), all] };
                assert_eq!(found, expected, "{draws} case {case}: {line}: {counts}");
            }
        }
    }
    assert!(outside > 5, "{draws}: {outside} records whose copies in B are all outside the range");
}
