//! Rows whose keys a lake has already: no row is stored twice, and none is left out without a line.

use crate::harness::{Dir, Run, python};
use std::fmt::Write;

/// Lines of events, one a second from the minute of `hour`.
fn lines(hour: u32, count: u32) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        let (minute, second) = (n / 60, n % 60);
        writeln!(text, "{{\"t\":\"2026-01-01T{hour:02}:{minute:02}:{second:02}Z\",\"n\":{n}}}").expect("it fits");
        text
    })
}

fn ingest(dir: &Dir, input: &str, to: &str) -> Run {
    dir.run("evt-ingest", &["-q", input, "--time", "t", "--to", to])
}

fn rows(dir: &Dir, lake: &str) -> usize {
    dir.run("evt-view", &["-q", lake, "-o", "jsonl"]).succeeds().rows().len()
}

#[test]
fn a_grown_file_that_is_appended_again_is_not_stored_twice() {
    let dir = Dir::new("grown");
    for (lake, options) in [("a", ""), ("b", "?roll=2KiB"), ("c", "?columns=auto")] {
        let to = format!("parquet:{lake}{options}");
        for count in [11, 16, 16, 400, 16] {
            dir.write("in.jsonl", lines(3, count));
            assert_eq!(ingest(&dir, "in.jsonl", &to).succeeds().stderr(), "", "{to} {count}");
        }
        assert_eq!(rows(&dir, &format!("parquet:{lake}")), 400, "{to}");
        // Other files of the day are other rows.
        dir.write("other.jsonl", lines(3, 20));
        ingest(&dir, "other.jsonl", &to).succeeds();
        assert_eq!(rows(&dir, &format!("parquet:{lake}")), 420, "{to}");
    }
}

#[test]
fn rows_of_a_grown_file_are_counted_as_inserted_or_unchanged() {
    let dir = Dir::new("grown-counts");
    dir.write("in.jsonl", lines(3, 11));
    ingest(&dir, "in.jsonl", "parquet:lake").succeeds();
    dir.write("in.jsonl", lines(3, 16));
    let told = dir.run("evt-ingest", &["in.jsonl", "--time", "t", "--to", "parquet:lake"]).succeeds();
    assert!(told.stderr().contains("inserted 5 unchanged 11"), "{told}");
    let told = dir.run("evt-ingest", &["in.jsonl", "--time", "t", "--to", "parquet:lake"]).succeeds();
    assert!(told.stderr().contains("unchanged 16, files: 1 already present"), "{told}");
}

#[test]
fn an_event_that_a_lake_has_with_other_content_is_a_conflict() {
    let dir = Dir::new("lake-conflict");
    let line = |v: &str, n: u32| format!("{{\"event_id\":\"{n}\",\"t\":\"2026-01-01T00:00:00Z\",\"v\":{v}}}\n");
    let text = |v: &str| line("0", 1) + &line(v, 2);
    let run = |v: &str, more: &str, to: &str| {
        dir.write("in.jsonl", text(v) + more);
        let args = ["-q", "in.jsonl", "--hash-ids", "--origin", "o", "--time", "t", "--to", to];
        dir.run("evt-ingest", &args)
    };
    for to in ["parquet:lake", "sqlite:lake.db"] {
        assert_eq!(run("1", "", to).succeeds().stderr(), "");
        assert_eq!(run("1.0", "", to).succeeds().stderr(), "", "the same value in another spelling");
        for more in ["", line("0", 3).as_str()] {
            let refused = run("2", more, to).ends_with(1);
            let told = refused.stderr();
            assert!(
                told.contains("conflict: 1 row differs from the stored row") && told.ends_with(" at o/0@2\n"),
                "{refused}"
            );
            assert_eq!(told.lines().count(), 1, "{refused}");
        }
        let table = format!("{to}?table=raw_events");
        let stored = dir.run("evt-view", &["-q", &table, "-o", "jsonl"]).succeeds().rows();
        let mut values: Vec<_> = stored.iter().map(|row| row["properties"]["v"].as_f64()).collect();
        values.sort_by_key(|value| value.map(f64::to_bits));
        assert_eq!(values, [Some(0.0), Some(0.0), Some(1.0)], "{to}");
    }
    dir.write("in.jsonl", text("2"));
    let args = ["in.jsonl", "--hash-ids", "--origin", "o", "--time", "t", "--to", "parquet:lake"];
    let told = dir.run("evt-ingest", &args).ends_with(1);
    assert!(told.stderr().contains("unchanged 1 conflict 1, files: 1 already present"), "{told}");
}

#[test]
fn rows_that_were_divided_into_other_files_are_not_stored_twice() {
    let dir = Dir::new("other-rolling");
    dir.write("in.jsonl", lines(1, 1500) + &lines(2, 1500));
    for options in ["?roll=20KiB", "", "?roll=10KiB"] {
        assert_eq!(ingest(&dir, "in.jsonl", &format!("parquet:lake{options}")).succeeds().stderr(), "");
        assert_eq!(rows(&dir, "parquet:lake"), 3000, "{options}");
    }
}

#[test]
fn standard_inputs_with_the_same_positions_are_all_stored() {
    let dir = Dir::new("lake-stdin");
    for hour in [1, 2, 1] {
        dir.write("in.jsonl", lines(hour, 100));
        dir.shell("evt-ingest -q - --time t --to parquet:lake < in.jsonl").succeeds();
    }
    assert_eq!(rows(&dir, "parquet:lake"), 200);
}

#[test]
fn letters_late_events_and_events_of_several_files_are_stored_once() {
    let dir = Dir::new("lake-sides");
    dir.write("a.jsonl", lines(1, 50) + "no event\n");
    dir.write("b.jsonl", lines(1, 50));
    let line = "evt-ingest -q a.jsonl b.jsonl --time t --dlq parquet:dead | evt-sink -q --to parquet:lake";
    dir.shell(line).succeeds();
    dir.write("b.jsonl", lines(1, 60) + "no event\n");
    dir.shell(line).succeeds();
    assert_eq!((rows(&dir, "parquet:lake"), rows(&dir, "parquet:dead")), (110, 2));
}

/// Ends a run of windows over the events of these hours.
fn window(dir: &Dir, parts: &[(u32, u32)]) -> Run {
    dir.write("part.jsonl", parts.iter().map(|(hour, count)| lines(*hour, *count)).collect::<String>());
    dir.shell("evt-window -q part.jsonl --time t --size 1h --to parquet:m")
}

#[test]
fn a_metric_that_a_lake_has_from_a_run_with_other_windows_is_judged_as_in_a_database() {
    let dir = Dir::new("lake-windows");
    let stored = || {
        let rows = dir.run("evt-view", &["-q", "parquet:m", "-o", "jsonl"]).succeeds().rows();
        let mut rows: Vec<_> = rows.iter().map(|row| (row["window_start"].to_string(), row["rows"].as_i64())).collect();
        rows.sort();
        rows.into_iter().map(|(_, rows)| rows.unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!(window(&dir, &[(1, 10), (2, 20)]).succeeds().stderr(), "");
    // The same window with other ones beside it.
    assert_eq!(window(&dir, &[(2, 20), (3, 30)]).succeeds().stderr(), "");
    assert_eq!(stored(), [10, 20, 30]);
    let refused = window(&dir, &[(2, 5), (4, 40)]).ends_with(1);
    let told = refused.stderr();
    assert!(
        told.contains("conflict: 1 key keeps a stored row with more events") && told.lines().count() == 1,
        "{refused}"
    );
    assert_eq!(stored(), [10, 20, 30, 40], "the other window is stored");
    let grown = window(&dir, &[(1, 11), (4, 41)]).succeeds();
    let told = grown.stderr();
    assert!(told.contains("replaced 2 rows of other runs") && told.lines().count() == 1, "{grown}");
    assert_eq!(stored(), [11, 20, 30, 41]);
}

#[test]
fn a_file_whose_footer_tells_other_rows_is_compared_row_by_row() {
    let dir = Dir::new("lake-compacted");
    let Some(python) = python() else { return };
    for hour in [1, 2] {
        dir.write("in.jsonl", lines(hour, 100));
        dir.run(
            "evt-ingest",
            &["-q", "in.jsonl", "--origin", &format!("h{hour}"), "--time", "t", "--to", "parquet:lake"],
        );
    }
    // The footer of the first file is copied to the file of both.
    let compact = "import glob, os, pyarrow as pa, pyarrow.parquet as pq\n\
                   names = sorted(glob.glob('lake/date=*/*.parquet'))\n\
                   pq.write_table(pa.concat_tables([pq.read_table(n, partitioning=None) for n in names]), 'one')\n\
                   [os.remove(n) for n in names]\n\
                   os.rename('one', names[0])\n";
    dir.write("compact.py", compact);
    dir.run(&python, &["compact.py"]).succeeds();
    for hour in [1, 2] {
        dir.write("in.jsonl", lines(hour, 100));
        let args = ["-q", "in.jsonl", "--origin", &format!("h{hour}"), "--time", "t", "--to", "parquet:lake"];
        assert_eq!(dir.run("evt-ingest", &args).succeeds().stderr(), "");
    }
    assert_eq!(rows(&dir, "parquet:lake"), 200);
}

/// Another program's file has no keys of the lake, so an append need not read its rows.
#[test]
fn a_file_of_another_program_in_a_day_does_not_end_a_run_that_appends() {
    let Some(python) = python() else { return };
    let dir = Dir::new("lake-foreign");
    let write = "import pyarrow as pa, pyarrow.parquet as pq, sys\n\
                 [pq.write_table(pa.table({'x': [1, 2]}), name) for name in sys.argv[1:]]\n";
    dir.write("write.py", write);
    let day = "lake/date=2026-01-01";
    dir.write("in.jsonl", lines(1, 10));
    ingest(&dir, "in.jsonl", "parquet:lake").succeeds();
    // One is before the files of the lake in the order of names, and one behind them.
    let foreign = [format!("{day}/+notes.parquet"), format!("{day}/notes.parquet")];
    dir.run(&python, &["write.py", &foreign[0], &foreign[1]]).succeeds();
    let before = dir.bytes(&foreign[0]);
    dir.write("in.jsonl", lines(1, 20));
    for new in [10, 0] {
        let run = dir.run("evt-ingest", &["in.jsonl", "--time", "t", "--to", "parquet:lake"]).succeeds();
        let counts = if new > 0 { "inserted 10 unchanged 10" } else { "unchanged 20" };
        assert!(run.stderr().contains(counts), "{run}");
    }
    assert_eq!(dir.bytes(&foreign[0]), before);
    // A reader does not leave it out silently, and a day with it is not replaced.
    for (tool, args) in [
        ("evt-view", &["-q", "parquet:lake"][..]),
        ("evt-ingest", &["-q", "in.jsonl", "--time", "t", "--to", "parquet:lake?mode=replace"]),
    ] {
        let said = dir.run(tool, args).ends_with(2).stderr();
        let expected = "+notes.parquet: not a file written by evt; move it out of the directory of the day";
        assert!(said.contains(expected), "{said}");
    }
    foreign.iter().for_each(|name| std::fs::remove_file(dir.path(name)).expect("removed"));
    assert_eq!(rows(&dir, "parquet:lake"), 20);
    // It may have been a file of the lake.
    dir.write(&foreign[1], "no Parquet");
    let said = dir.run("evt-ingest", &["-q", "in.jsonl", "--time", "t", "--to", "parquet:lake"]).ends_with(65).stderr();
    let expected = "notes.parquet: expected a Parquet file; move it away if no run of evt wrote it";
    assert!(said.contains(expected), "{said}");
}
