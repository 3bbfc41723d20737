//! Output files: appending, the remains of a killed writer, existing files, and files that cannot be written.

use crate::harness::{Dir, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;

const EVENT: &str = r#"{"event_type":"a","server_timestamp":"2024-01-01T00:00:00Z"}"#;

#[test]
fn a_torn_last_line_is_cut_and_reported_before_anything_is_appended() {
    let dir = Dir::new("files_torn");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    dir.write("out.jsonl", "{\"a\":1}\n{\"torn\":");
    let run = dir.shell("evt-ingest in.jsonl -q --append --to out.jsonl").ends_with(0);
    assert!(run.stderr().contains("removed 8 bytes of a torn last line"), "{}", run.stderr());
    let text = String::from_utf8(dir.bytes("out.jsonl")).expect("it is text");
    assert_eq!((text.lines().count(), text.lines().next()), (2, Some("{\"a\":1}")));
}

/// A field may hold line breaks: a writer that was killed within one leaves a quote open.
#[test]
fn a_csv_file_torn_anywhere_is_cut_at_its_last_whole_record() {
    let dir = Dir::new("files_torn_csv");
    let event = |n: usize| {
        format!(r#"{{"event_type":"t","user_id":"a\n\"{n}\"\nb","n":{n},"server_timestamp":"2024-01-15T10:00:00Z"}}"#)
    };
    dir.write("in.jsonl", (0..3).map(|n| event(n) + "\n").collect::<String>());
    dir.write("one.jsonl", event(9) + "\n");
    let whole = dir.shell("evt-ingest in.jsonl -q -o csv").succeeds().stdout().to_vec();
    for cut in (1..whole.len()).step_by(13).chain([whole.len()]) {
        dir.write("out.csv", &whole[..cut]);
        let run = dir.run("evt-ingest", &["one.jsonl", "-q", "--append", "--to", "out.csv"]).succeeds();
        let rows = dir.run("evt-view", &["out.csv", "-q", "-o", "jsonl"]).succeeds().rows();
        let numbers: Vec<u64> = rows.iter().filter_map(|row| row["properties"]["n"].as_u64()).collect();
        let kept = numbers.len() - 1;
        assert!(
            kept <= 3 && numbers[..kept].iter().copied().eq(0..kept as u64) && numbers[kept] == 9,
            "{cut}: {numbers:?}"
        );
        // The run has removed only the incomplete line, and reports that.
        let added = dir.bytes("out.csv").len() - (cut - said_to_be_cut(&run.stderr()));
        assert!(
            dir.bytes("out.csv")[..dir.bytes("out.csv").len() - added] == whole[..cut - said_to_be_cut(&run.stderr())],
            "{cut}"
        );
        assert!(kept > 0 || cut < whole.len() / 2, "{cut}");
    }
}

/// A power failure may leave zeros in place of bytes that were not synced, also within the header.
#[test]
fn a_csv_file_that_ends_with_zeros_continues_after_its_last_whole_record() {
    let dir = Dir::new("files_zeros_csv");
    let event = |n: usize| format!(r#"{{"event_type":"t","n":{n},"server_timestamp":"2024-01-15T10:00:00Z"}}"#) + "\n";
    dir.write("in.jsonl", (0..3).map(event).collect::<String>());
    dir.write("one.jsonl", event(9));
    let whole = dir.shell("evt-ingest in.jsonl -q -o csv").succeeds().stdout().to_vec();
    for cut in (0..whole.len()).step_by(29) {
        dir.write("out.csv", [&whole[..cut], &[0; 70_000]].concat());
        let run = dir.run("evt-ingest", &["one.jsonl", "-q", "--append", "--to", "out.csv"]).succeeds();
        assert!(run.stderr().contains(" of a torn last line"), "{cut}: {run}");
        let found = dir.bytes("out.csv");
        let kept = whole[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        assert!(found.starts_with(&whole[..kept]) && !found.contains(&0), "{cut}");
        let rows = dir.run("evt-view", &["out.csv", "-q", "-o", "jsonl"]).succeeds().rows();
        assert_eq!(rows.last().map(|row| row["properties"]["n"].clone()), Some(9.into()), "{cut}");
    }
    // No crash puts zeros before other bytes of a file.
    dir.write("out.csv", [&[0; 70_000], &whole[..]].concat());
    let run = dir.run("evt-ingest", &["one.jsonl", "-q", "--append", "--to", "out.csv"]).ends_with(2);
    assert!(run.stderr().contains("the header has other columns"), "{run}");
    assert_eq!(dir.bytes("out.csv").len(), 70_000 + whole.len());
}

/// The number of bytes that a run reports as removed.
fn said_to_be_cut(stderr: &str) -> usize {
    let said = stderr.split_once(" of a torn last line").and_then(|(before, _)| before.rsplit(' ').nth(1));
    said.map_or(0, |count| count.parse().expect("a number"))
}

#[test]
fn rows_are_not_put_below_a_header_of_other_columns() {
    let dir = Dir::new("files_header");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    dir.write("foreign.csv", "a,b\n1,\"2\n");
    dir.shell("evt-ingest in.jsonl -q --to events.csv").succeeds();
    for (args, file) in [("--keep-raw", "events.csv"), ("", "foreign.csv")] {
        let before = dir.bytes(file);
        let run = dir.shell(&format!("evt-ingest in.jsonl -q {args} --append --to {file}")).ends_with(2);
        assert!(run.stderr().contains("the header has other columns"), "{run}");
        assert!(dir.bytes(file) == before, "{file}");
    }
}

/// evt reads what it writes, also CSV, where properties are a JSON object.
#[test]
fn events_come_back_from_csv_as_they_were() {
    let dir = Dir::new("files_csv_back");
    dir.shell("evt-gen --events 300 --seed 5 -q | evt-ingest -q > in.arrows").succeeds();
    let shown = |line: &str| {
        dir.shell(&format!("{line} | evt-view -q -o jsonl --columns event_id,source,user_id,event_time,properties"))
            .succeeds()
            .text()
    };
    let there = shown("cat in.arrows");
    assert!(there.lines().count() > 290);
    for format in ["csv", "tsv"] {
        dir.shell(&format!("evt-sink in.arrows -q --to back.{format}")).succeeds();
        assert!(shown(&format!("evt-sink back.{format} -q -o frames")) == there, "{format}");
    }
}

#[test]
fn a_last_line_that_is_whole_but_for_its_end_is_kept() {
    let dir = Dir::new("files_unended");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    dir.write("out.jsonl", "{\"a\":1}");
    dir.shell("evt-ingest in.jsonl -q --append --to out.jsonl").ends_with(0);
    assert!(dir.bytes("out.jsonl").starts_with(b"{\"a\":1}\n{\"event_id\":"));
}

#[test]
fn a_file_that_exists_is_not_replaced_unless_asked() {
    let dir = Dir::new("files_exists");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    dir.write("out.parquet", "mine");
    let run = dir.shell("evt-ingest in.jsonl -q --to out.parquet").ends_with(2);
    assert!(run.stderr().contains("--overwrite replaces it"), "{}", run.stderr());
    assert_eq!(dir.bytes("out.parquet"), b"mine");
    dir.shell("evt-ingest in.jsonl -q --to out.parquet --overwrite").ends_with(0);
    assert!(!dir.path("out.parquet.part").exists());
}

#[test]
fn a_run_over_a_whole_input_does_not_add_its_rows_to_those_of_the_run_before() {
    let dir = Dir::new("files_twice");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    dir.write("empty.csv", "");
    let refused = "out.csv: not empty; --append adds the rows of this run to it, --overwrite replaces it";
    for line in [
        "evt-window in.jsonl --size 1h -q --to out.csv",
        "evt-window --size 1h -q --to out.csv < in.jsonl",
        "cat in.jsonl | evt-window --size 1h -q --to out.csv",
        "evt-ingest in.jsonl -q | evt-window --size 1h -q --to out.csv",
        "evt-window <(cat in.jsonl) --size 1h -q --to out.csv",
        "evt-ingest in.jsonl -q --to lake.db; evt-sink 'sqlite:lake.db?table=raw_events' -q --to out.csv",
    ] {
        dir.write("out.csv", "");
        dir.shell(line).succeeds();
        let first = dir.bytes("out.csv");
        let again = dir.shell(line).ends_with(2);
        assert!(again.stderr().contains(refused), "{line}: {again}");
        assert!(dir.bytes("out.csv") == first, "{line}");
        dir.shell(&format!("{line} --overwrite")).succeeds();
        assert!(dir.bytes("out.csv") == first, "{line}");
        dir.shell(&format!("{line} --append")).succeeds();
        let header = first.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
        assert_eq!(dir.bytes("out.csv").len(), 2 * first.len() - header, "{line}");
    }
}

#[test]
fn check_says_what_a_run_would_say_of_a_file_with_rows() {
    let dir = Dir::new("files_twice_check");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    dir.write("out.csv", "mine\n");
    let check = |flags: &str| dir.shell(&format!("evt-window in.jsonl --size 1h --check {flags}"));
    let refused = check("--to out.csv").ends_with(2);
    assert!(refused.stderr().contains("out.csv: not empty; --append adds"), "{refused}");
    assert!(!refused.text().contains("out.csv: ready"), "{refused}");
    check("--to out.csv --append").succeeds();
    check("--to out.csv --overwrite").succeeds();
    let whole = check("--to out.parquet --append").ends_with(2);
    let why =
        "out.parquet: --append: expected JSON lines, CSV or another text, found a file that is written as a whole";
    assert!(whole.stderr().contains(why), "{whole}");
    check("--to out.csv --append --overwrite").ends_with(2);
    assert_eq!(dir.bytes("out.csv"), b"mine\n");
}

#[test]
fn runs_that_continue_earlier_ones_and_side_outputs_add_rows() {
    let dir = Dir::new("files_continued");
    dir.write("in.jsonl", format!("{EVENT}\nno record\n"));
    for round in 1..=2 {
        dir.shell("evt-ingest in.jsonl -q --dlq dead.jsonl --to new.jsonl --overwrite").succeeds();
        assert_eq!(dir.rows("dead.jsonl").len(), round, "dead letters");
        // The first stage has a checkpoint, so its rows come once, and the second one continues.
        let pipe = "evt-ingest in.jsonl -q --dlq null: --checkpoint state | evt-sink -q --to rows.jsonl";
        dir.shell(pipe).succeeds();
        assert_eq!(dir.rows("rows.jsonl").len(), 1);
        dir.shell("(cat in.jsonl; sleep 0) | evt-ingest -q --dlq null: | evt-sink -q --to pipe.jsonl").succeeds();
        assert_eq!(dir.rows("pipe.jsonl").len(), round, "frames of a pipe that may continue");
    }
}

#[test]
fn a_stream_cut_within_its_first_bytes_is_torn_not_text() {
    let dir = Dir::new("files_cut");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    dir.shell("evt-ingest in.jsonl -q -o frames > x.frames").ends_with(0);
    for bytes in 0..9 {
        dir.shell(&format!("head -c {bytes} x.frames | evt-sink --to null:")).ends_with(65);
    }
}

#[test]
fn rows_of_another_kind_are_refused_by_a_stage_that_wants_events() {
    let dir = Dir::new("files_kind");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    dir.shell("evt-ingest in.jsonl -q | evt-window --size 1m -q -o jsonl > metrics.jsonl").ends_with(0);
    for line in ["evt-window metrics.jsonl --size 1m", "evt-validate metrics.jsonl --to null:"] {
        let run = dir.shell(line).ends_with(2).stays_calm();
        assert!(run.stderr().contains("of kind metric"), "{}", run.stderr());
    }
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_written() {
    let dir = Dir::new("files_link");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    for name in ["out.jsonl", "out.csv", "out.parquet", "out.frames"] {
        dir.shell(&format!("mkdir -p there; ln -s there/{name} {name}; ln -s {name} again-{name}")).succeeds();
        for flags in ["", "--overwrite"] {
            dir.shell(&format!("evt-ingest in.jsonl -q --to again-{name} {flags}")).succeeds();
            dir.shell(&format!("test -L {name} && test -L again-{name} && test -f there/{name}")).succeeds();
            assert!(!dir.bytes(&format!("there/{name}")).is_empty(), "{name} {flags}");
        }
    }
    dir.run("evt-ingest", &["in.jsonl", "--to", "out.parquet"]).ends_with(2);
    dir.shell("ln -s loop loop; evt-ingest in.jsonl --to loop").ends_with(74);
    assert!(dir.shell("find . -name '*.part'").succeeds().text().is_empty());
}

#[test]
fn a_name_tells_what_first_bytes_only_hint_at() {
    let dir = Dir::new("files_hint");
    dir.write("o.csv", "ObjectId,server_timestamp\n7,2024-01-01T00:00:00Z\n");
    dir.write("p.tsv", "PARENT\tserver_timestamp\n7\t2024-01-01T00:00:00Z\n");
    dir.write("o.dat", dir.bytes("o.csv"));
    for name in ["o.csv", "p.tsv"] {
        let run = dir.run("evt-ingest", &[name, "-q", "-o", "jsonl"]).succeeds();
        assert_eq!(run.rows().len(), 1, "{run}");
    }
    for line in ["evt-ingest o.dat", "evt-ingest < o.csv", "evt-view < o.csv"] {
        let run = dir.shell(line).ends_with(65).stays_calm();
        assert!(run.stderr().contains("resemble avro") && run.stderr().contains("-f FORMAT"), "{run}");
    }
    dir.shell("evt-ingest -q -f csv -o jsonl < o.csv").succeeds();
}

#[test]
fn a_writer_that_goes_on_with_a_renamed_file_is_read_until_it_is_told() {
    let dir = Dir::new("renamed");
    let line = |n: u32| format!("{{\"server_timestamp\":\"2024-01-15T10:00:0{n}Z\",\"n\":{n}}}\n");
    dir.write("log", line(1));
    let mut writer = std::fs::OpenOptions::new().append(true).open(dir.path("log")).expect("it is there");
    let mut command = dir.command("evt-ingest", &["--follow", "log", "--to", "out.jsonl"]);
    let mut run =
        command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let numbers = || -> Vec<u64> {
        let text = std::fs::read_to_string(dir.path("out.jsonl")).unwrap_or_default();
        let whole = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        whole.filter_map(|row| row["properties"]["n"].as_u64()).collect()
    };
    eventually("the first line is read", || numbers() == [1]);
    std::fs::rename(dir.path("log"), dir.path("log.1")).expect("writable");
    dir.write("log", line(4));
    eventually("the file that took the name is read at once", || numbers() == [1, 4]);
    // The test writes each line after evt has read the one before: long after another file got the name.
    for n in 2..4 {
        writer.write_all(line(n).as_bytes()).expect("writable");
        eventually("what comes to the renamed file is read", || numbers().last() == Some(&u64::from(n)));
    }
    assert_eq!(numbers(), [1, 4, 2, 3]);
    kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
    run.wait().expect("it is ours");
}

/// `--kind event` says what the rows are found to be.
#[test]
fn rows_with_raw_records_are_the_same_with_their_kind_named() {
    let dir = Dir::new("files_raw_kind");
    dir.write("in.jsonl", format!("{EVENT}\n").repeat(3));
    for format in ["jsonl", "csv", "tsv", "avro", "parquet"] {
        dir.shell(&format!("evt-ingest -q in.jsonl --keep-raw --to kept.{format}")).succeeds();
        let rows = |flag: &str| dir.shell(&format!("evt-sink -q kept.{format} {flag} -o jsonl")).succeeds().rows();
        let found = rows("");
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|row| row["raw"] == EVENT && row["properties"]["raw"].is_null()), "{format}");
        assert_eq!(rows("--kind event"), found, "{format}");
    }
}
