//! evt-view through its binary.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A directory of its own for one test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("view-{name}"));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &str) {
        std::fs::write(self.0.join(name), content).unwrap();
    }

    fn run(&self, bin: &str, args: &[&str], input: Option<&[u8]>) -> Output {
        let mut command = Command::new(bin);
        command.args(args).current_dir(&self.0).env("EVT_NOW", "2024-01-15T12:00:00Z");
        let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let writer = input.map(|input| {
            let (mut pipe, input) = (child.stdin.take().unwrap(), input.to_vec());
            // A tool that stops reading early closes the pipe: that is what --head is for.
            std::thread::spawn(move || pipe.write_all(&input))
        });
        let output = child.wait_with_output().unwrap();
        writer.map(|writer| writer.join().unwrap());
        output
    }

    fn view(&self, args: &[&str]) -> (i32, String, String) {
        told(&self.run(env!("CARGO_BIN_EXE_evt-view"), args, None))
    }
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn events(count: usize) -> String {
    let line = |at: usize| {
        let (minute, second) = (at / 60, at % 60);
        format!(
            "{{\"source\":\"web\",\"event_type\":\"click\",\"server_timestamp\":\"2024-01-15T10:{minute:02}:{second:02}Z\",\
             \"n\":{at},\"country\":\"{}\"}}\n",
            ["DE", "FR"][at % 2]
        )
    };
    (0..count).map(line).collect()
}

#[test]
fn a_pipe_gets_json_lines_and_columns_come_in_the_order_asked_for() {
    let dir = Dir::new("columns");
    dir.file("events.jsonl", &events(3));
    let (status, out, err) = dir.view(&["events.jsonl", "--columns", "country,n,event_time"]);
    assert_eq!(status, 0, "{err}");
    assert_eq!(out.lines().next(), Some("{\"country\":\"DE\",\"n\":0,\"event_time\":\"2024-01-15T10:00:00.000000Z\"}"));
    assert!(err.contains("in 3 out 3"), "{err}");
}

#[test]
fn rows_are_chosen_by_rule_and_by_time_and_the_rest_counts_as_filtered() {
    let dir = Dir::new("choice");
    dir.file("events.jsonl", &events(60));
    let args = ["events.jsonl", "--where", "country = 'DE'", "--since", "2024-01-15T10:00:10Z"];
    let (status, out, err) = dir.view(&[&args[..], &["--until", "2024-01-15T10:00:20Z", "--columns", "n"]].concat());
    assert_eq!((status, out.as_str()), (0, "{\"n\":10}\n{\"n\":12}\n{\"n\":14}\n{\"n\":16}\n{\"n\":18}\n"), "{err}");
    assert!(err.contains("in 60 out 5 filtered 55"), "{err}");
    let (_, out, _) = dir.view(&["events.jsonl", "--last", "1h59m2s", "--columns", "n"]);
    assert_eq!(out, "{\"n\":58}\n{\"n\":59}\n");
}

#[test]
fn a_value_of_the_wrong_type_is_a_faulty_row() {
    let dir = Dir::new("wrong");
    dir.file("events.jsonl", &events(2).replace("\"n\":1", "\"n\":\"x\""));
    let (status, out, err) = dir.view(&["events.jsonl", "--where", "n >= 0", "--columns", "n"]);
    assert_eq!((status, out.as_str()), (1, "{\"n\":0}\n"));
    assert!(err.contains("events.jsonl:2: EnvelopeError: n: \"x\" is no number"), "{err}");
    let (status, _, err) = dir.view(&["events.jsonl", "--where", "n >= 0", "--dlq", "dead.jsonl"]);
    assert_eq!(status, 0, "{err}");
    let (_, out, _) = dir.view(&["dead.jsonl"]);
    assert!(out.contains("\"stage\":\"evt-view\""), "{out}");
}

#[test]
fn head_stops_reading_without_an_error_and_tail_is_of_the_head() {
    let dir = Dir::new("head");
    let many = events(60).repeat(2_000);
    let args = ["-f", "jsonl", "--head", "3", "--columns", "n"];
    let (status, out, err) = told(&dir.run(env!("CARGO_BIN_EXE_evt-view"), &args, Some(many.as_bytes())));
    assert_eq!((status, out.as_str()), (0, "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n"), "{err}");
    dir.file("events.jsonl", &events(60));
    let (_, out, _) = dir.view(&["events.jsonl", "--head", "3", "--tail", "2", "--columns", "n"]);
    assert_eq!(out, "{\"n\":1}\n{\"n\":2}\n");
    let (_, out, _) = dir.view(&["events.jsonl", "--tail", "1", "--columns", "n"]);
    assert_eq!(out, "{\"n\":59}\n");
}

#[test]
fn a_row_behind_the_head_is_not_judged() {
    let dir = Dir::new("behind");
    dir.file("events.jsonl", &events(3).replace("\"n\":2", "\"n\":\"x\""));
    let (status, _, err) = dir.view(&["events.jsonl", "--where", "n >= 0", "--head", "2"]);
    assert_eq!(status, 0, "{err}");
}

#[test]
fn records_without_a_time_are_shown_and_said_to_have_none() {
    let dir = Dir::new("untimed");
    dir.file("cities.csv", "city,people\nBerlin,3700000\nBonn,330000\n");
    let (status, out, err) = dir.view(&["cities.csv", "--columns", "city,people", "-o", "table"]);
    assert_eq!((status, out.as_str()), (0, "city    people\nBerlin  3700000\nBonn    330000\n"), "{err}");
    assert!(err.contains("no time"), "{err}");
    let (_, out, _) = dir.view(&["cities.csv", "--describe"]);
    assert!(out.contains("\"rows\":2,\"time\":null,\"disorder\":null"), "{out}");
}

#[test]
fn a_table_holds_no_escape_of_the_data() {
    let dir = Dir::new("escape");
    dir.file("events.jsonl", "{\"server_timestamp\":\"2024-01-15T10:00:00Z\",\"x\":\"\\u001b[2Jred\"}\n");
    for args in [&["--columns", "x"][..], &["--describe"], &[]] {
        let (_, out, _) = dir.view(&[&["events.jsonl", "-o", "table"], args].concat());
        assert!(!out.contains('\u{1b}'), "{args:?}: {out:?}");
    }
}

#[test]
fn dead_letters_are_summed_up_and_faults_of_all_kinds_are_refused_elsewhere() {
    let dir = Dir::new("dead");
    dir.file("events.jsonl", &format!("{}x\ny\n[1]\n", events(1)));
    let ingest = dir.run(env!("CARGO_BIN_EXE_evt-ingest"), &["events.jsonl", "--dlq", "dead.jsonl"], None);
    assert_eq!(ingest.status.code(), Some(0), "{ingest:?}");
    let (status, out, err) = dir.view(&["dead.jsonl", "--summary", "-o", "csv", "-q"]);
    assert_eq!(status, 0, "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].starts_with("ParseError,events.jsonl,evt-ingest,2,"), "{out}");
    assert!(lines[2].starts_with("EnvelopeError,events.jsonl,evt-ingest,1,"), "{out}");
    let (_, rows, _) =
        dir.view(&["dead.jsonl", "--where", "error_type = 'ParseError'", "--columns", "original_payload"]);
    assert_eq!(rows, "{\"original_payload\":\"x\"}\n{\"original_payload\":\"y\"}\n");
    let (status, _, err) = dir.view(&["events.jsonl", "--summary"]);
    assert_eq!(status, 2, "{err}");
}

#[test]
fn a_database_shows_its_tables_and_a_lake_its_rows() {
    let dir = Dir::new("store");
    dir.file("events.jsonl", &events(5));
    let window = ["events.jsonl", "--size", "1m", "-o", "frames", "--to", "m.frames"];
    assert!(dir.run(env!("CARGO_BIN_EXE_evt-window"), &window, None).status.success());
    let sink = ["m.frames", "--to", "sqlite:metrics.db", "--to", "parquet:lake"];
    assert!(dir.run(env!("CARGO_BIN_EXE_evt-sink"), &sink, None).status.success());
    let (status, out, err) = dir.view(&["sqlite:metrics.db"]);
    assert_eq!(status, 0, "{err}");
    assert!(out.contains("{\"table\":\"aggregated_metrics\",\"rows\":1}"), "{out}");
    for store in ["sqlite:metrics.db?table=aggregated_metrics", "parquet:lake"] {
        let (status, out, err) = dir.view(&[store, "--columns", "metric_name,rows"]);
        assert_eq!((status, out.as_str()), (0, "{\"metric_name\":\"count(*)\",\"rows\":5}\n"), "{store}: {err}");
    }
}

#[test]
fn a_torn_stream_shows_what_came_then_the_error() {
    let dir = Dir::new("torn");
    dir.file("events.jsonl", &events(5_000 % 3600));
    let frames = dir.run(env!("CARGO_BIN_EXE_evt-ingest"), &["events.jsonl", "-o", "frames", "-q"], None).stdout;
    for args in [&["-o", "table"][..], &["--tail", "2"], &["--describe"]] {
        let cut = &frames[..frames.len() - 30];
        let (status, out, err) = told(&dir.run(env!("CARGO_BIN_EXE_evt-view"), args, Some(cut)));
        assert_eq!(status, 65, "{err}");
        assert!(err.contains("torn stream") && !out.is_empty(), "{args:?}: {err}");
    }
    let whole = dir.run(env!("CARGO_BIN_EXE_evt-view"), &["-q"], Some(&frames));
    assert_eq!(String::from_utf8_lossy(&whole.stdout).lines().count(), 1_400);
}

#[test]
fn frames_go_on_as_frames_with_a_proven_end() {
    let dir = Dir::new("frames");
    dir.file("events.jsonl", &events(10));
    let bin = env!("CARGO_BIN_EXE_evt-view");
    let frames = dir.run(env!("CARGO_BIN_EXE_evt-ingest"), &["events.jsonl", "-o", "frames"], None).stdout;
    let passed = dir.run(bin, &["-o", "frames", "--where", "n < 4"], Some(&frames)).stdout;
    let (status, out, err) = told(&dir.run(bin, &["--columns", "n"], Some(&passed)));
    assert_eq!((status, out.lines().count()), (0, 4), "{err}");
    assert!(!err.contains("not proven"), "{err}");
    let selected = dir.run(bin, &["-o", "frames", "--columns", "source,n"], Some(&frames)).stdout;
    let (status, out, err) = told(&dir.run(bin, &["--columns", "n"], Some(&selected)));
    assert_eq!((status, out.lines().count()), (0, 10), "{err}");
}

#[test]
fn control_messages_are_shown_and_read_back() {
    let dir = Dir::new("control");
    dir.file("events.jsonl", &events(3));
    let bin = env!("CARGO_BIN_EXE_evt-view");
    let frames = dir.run(env!("CARGO_BIN_EXE_evt-ingest"), &["events.jsonl", "-o", "frames"], None).stdout;
    let shown = dir.run(bin, &["--control"], Some(&frames)).stdout;
    let text = String::from_utf8_lossy(&shown);
    assert!(text.ends_with("{\"$evt\":{\"end\":{\"how\":\"exhausted\",\"rows\":3,\"verdict\":0}}}\n"), "{text}");
    assert!(text.contains("{\"$evt\":{\"progress\":"), "{text}");
    let (status, out, err) = told(&dir.run(bin, &["-f", "jsonl", "--control", "--columns", "n"], Some(&shown)));
    assert_eq!((status, out.lines().filter(|line| !line.contains("$evt")).count()), (0, 3), "{err}");
    let (_, out, _) = told(&dir.run(bin, &["--control", "-o", "table"], Some(&frames)));
    assert!(out.contains("── end: exhausted, 3 rows, verdict 0"), "{out}");
}
