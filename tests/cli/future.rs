//! `--max-future` for records without an arrival: gaps of a file lose nothing, and wrong clocks are dead letters.

use crate::harness::{Dir, ended, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write;
use std::io::Write as _;
use std::process::Stdio;

const SECOND: i64 = 1;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

const INGEST: &str = "evt-ingest -q --time t --time-unit s --max-future 5m --dlq dead.jsonl --to out.jsonl";

/// Times of rows that are `apart` seconds apart.
fn apart(count: i64, apart: i64) -> Vec<i64> {
    (0..count).map(|row| 1_772_323_200 + row * apart).collect()
}

/// The same rows, of which those of a range are `ahead` seconds ahead.
fn ahead(mut times: Vec<i64>, range: std::ops::Range<usize>, ahead: i64) -> Vec<i64> {
    times[range].iter_mut().for_each(|time| *time += ahead);
    times
}

fn lines(times: &[i64]) -> String {
    times.iter().enumerate().fold(String::new(), |mut text, (row, time)| {
        writeln!(text, "{{\"t\":{time},\"event_type\":\"e\",\"device\":\"{}\"}}", row % 7).expect("memory");
        text
    })
}

/// Returns the lines that are lost. All others leave the stage, in their order.
fn lost(dir: &Dir, count: usize, line: &str) -> Vec<u64> {
    let run = dir.shell(&format!("rm -f dead.jsonl out.jsonl; {INGEST} {line}")).succeeds();
    let lines =
        |name: &str| dir.rows(name).iter().map(|row| row["offset"].as_u64().expect("a line")).collect::<Vec<_>>();
    let (lost, left) = (lines("dead.jsonl"), lines("out.jsonl"));
    let wanted = (1..=count as u64).filter(|line| !lost.contains(line));
    assert!(left.iter().copied().eq(wanted), "{line}: {run}");
    let is_future = |letter: &serde_json::Value| letter["error_type"] == "FutureTimestampError";
    assert!(dir.rows("dead.jsonl").iter().all(is_future), "{line}: {run}");
    lost
}

fn lost_of(times: &[i64]) -> Vec<u64> {
    let dir = Dir::new("future");
    dir.write("in.jsonl", lines(times));
    lost(&dir, times.len(), "in.jsonl")
}

#[test]
fn gaps_lose_nothing() {
    assert_eq!(lost_of(&apart(2_500, HOUR)), [0; 0], "one row an hour");
    assert_eq!(lost_of(&apart(80, HOUR)), [0; 0], "one row an hour for three days");
    for (before, after) in [(840, 840), (2_000, 60), (2_000, 2_000), (20, 15)] {
        let night = ahead(apart(before + after, MINUTE), before as usize..(before + after) as usize, 10 * HOUR);
        assert_eq!(lost_of(&night), [0; 0], "{before} minutes, a night, {after} minutes");
    }
    let [first, second, third] = [0, 1, 40].map(|days| 1_772_323_200 + days * DAY);
    for times in [[first, second, third], [second, third, first], [third, first, second]] {
        assert_eq!(lost_of(&times), [0; 0], "three rows");
    }
}

#[test]
fn a_wrong_clock_is_lost_wherever_it_stands() {
    for wrong in [0, 5_000, 9_999] {
        assert_eq!(lost_of(&ahead(apart(10_000, SECOND), wrong..wrong + 1, YEAR)), [wrong as u64 + 1]);
    }
    let burst = ahead(apart(10_000, SECOND), 5_000..5_050, YEAR);
    assert_eq!(lost_of(&burst), Vec::from_iter(5_001..=5_050));
    assert_eq!(lost_of(&ahead(apart(121, SECOND), 0..1, YEAR)), [1]);
    // A burst in a file of 460 rows, and at its end.
    assert_eq!(lost_of(&ahead(apart(460, SECOND), 200..260, DAY)), Vec::from_iter(201..=260));
    assert_eq!(lost_of(&ahead(apart(460, SECOND), 400..460, DAY)), Vec::from_iter(401..=460));
}

#[test]
fn a_verdict_depends_on_the_rows_alone() {
    let dir = Dir::new("future-cuts");
    let times = ahead(ahead(apart(4_000, SECOND), 2_000..2_050, DAY), 3_990..3_991, HOUR);
    let wanted: Vec<u64> = (2_001..=2_050).chain([3_991]).collect();
    dir.write("in.jsonl", lines(&times));
    dir.write("in.csv", times.iter().fold("t\n".to_owned(), |text, time| text + &format!("{time}\n")));
    dir.shell("gzip -k in.jsonl").succeeds();
    let dribble = "(head -c 1234 in.jsonl; tail -c +1235 in.jsonl | dd bs=777 status=none) | cat";
    for input in ["in.jsonl", "in.jsonl.gz", "- --origin here < in.jsonl"] {
        assert_eq!(lost(&dir, times.len(), input), wanted, "{input}");
    }
    // The first line of CSV is its header.
    dir.shell(&format!("rm dead.jsonl out.jsonl; {INGEST} in.csv")).succeeds();
    assert_eq!(dir.rows("dead.jsonl").len(), wanted.len());
    // A pipe waits for 100 rows only, and its end is judged like that of a file.
    dir.shell(&format!("rm dead.jsonl out.jsonl; {dribble} | {INGEST} -")).succeeds();
    assert_eq!(dir.rows("dead.jsonl").len(), wanted.len());
}

#[test]
fn each_partition_of_each_file_is_judged_by_its_own_rows() {
    let dir = Dir::new("future-partitions");
    // Seven devices, and a year between the files.
    dir.write("a.jsonl", lines(&ahead(apart(3_000, SECOND), 0..1, DAY)));
    dir.write("b.jsonl", lines(&ahead(apart(3_000, SECOND), 0..3_000, YEAR)));
    dir.write("c.jsonl", lines(&ahead(apart(3_000, SECOND), 2_999..3_000, DAY)));
    let flags = "--field partition=device --partitions 0,1,2,3,4,5,6";
    dir.shell(&format!("{INGEST} a.jsonl b.jsonl c.jsonl {flags}")).succeeds();
    let letters = dir.rows("dead.jsonl");
    let found: Vec<_> = letters.iter().map(|row| (row["source_topic"].as_str(), row["offset"].as_u64())).collect();
    assert_eq!(found, [(Some("a.jsonl"), Some(1)), (Some("c.jsonl"), Some(3_000))]);
    assert_eq!(dir.rows("out.jsonl").len(), 8_998);
}

/// The rows before a watermark that a line of the input states are rows before it, although others would have followed.
#[test]
fn a_watermark_makes_no_row_late_that_waits() {
    let dir = Dir::new("future-control");
    let first = lines(&apart(50, SECOND));
    let (watermark, last) = (r#"{"$evt":{"watermark":"2026-03-01T00:02:00Z"}}"#, r#"{"t":1772323500}"#);
    dir.write("in.jsonl", format!("{first}{watermark}\n{last}\n"));
    let flags = "--control --time t --time-unit s --max-future 10m -o jsonl";
    let run = dir.shell(&format!("evt-window in.jsonl {flags} --size 1m --late late.jsonl")).succeeds();
    assert!(!dir.path("late.jsonl").exists() || dir.rows("late.jsonl").is_empty(), "{run}");
    let counts: Vec<_> = run.rows().iter().map(|row| row["rows"].as_u64()).collect();
    assert_eq!(counts, [Some(50), Some(1)], "{run}");

    // A row after it that names no partition is not of that of a letter before it.
    let wrong = r#"{"t":1803859200,"server_timestamp":1772323200,"device":"6"}"#;
    let last = r#"{"t":1772323500,"server_timestamp":1772323500}"#;
    dir.write("in.jsonl", format!("{first}{wrong}\n{watermark}\n{last}\n"));
    let flags = format!("{flags} --field partition=device --partitions 0,1,2,3,4,5,6 --dlq dead.jsonl");
    let rows = dir.shell(&format!("evt-ingest -q in.jsonl {flags}")).succeeds().rows();
    let rows: Vec<_> = rows.iter().filter(|row| row["$evt"].is_null()).collect();
    assert_eq!((dir.rows("dead.jsonl").len(), rows.len()), (1, 51));
    assert_eq!(rows[50]["partition"], "0");
}

/// What follows the last rows of a pipe is as unknown after a signal as at its end.
#[test]
fn a_signal_judges_the_last_rows_of_a_pipe_as_its_end_does() {
    for ends in [true, false] {
        let dir = Dir::new("future-stopped");
        let args: Vec<&str> = INGEST.split(' ').skip(1).chain(["-f", "jsonl"]).collect();
        let mut run = dir.command("evt-ingest", &args).stdin(Stdio::piped()).spawn().expect("it starts");
        let mut pipe = run.stdin.take().expect("a pipe");
        pipe.write_all(lines(&ahead(apart(151, SECOND), 150..151, YEAR)).as_bytes()).expect("it reads");
        let written = || std::fs::read_to_string(dir.path("out.jsonl")).map_or(0, |text| text.lines().count());
        // The last 100 rows wait for others.
        eventually("the wrong clock is read", || written() == 51);
        if ends {
            drop(pipe);
        } else {
            kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
        }
        assert_eq!(ended("evt-ingest", &mut run), if ends { 0 } else { 143 });
        assert_eq!((written(), dir.rows("dead.jsonl").len()), (150, 1), "the pipe ends: {ends}");
    }
}
