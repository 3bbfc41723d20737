//! evt-view through its binary.

use crate::harness::{Dir, Run};
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Runs evt-view with nothing on standard input.
fn view(dir: &Dir, args: &[&str]) -> Run {
    dir.run("evt-view", args)
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
    dir.write("events.jsonl", events(3));
    let run = view(&dir, &["events.jsonl", "--columns", "country,n,event_time"]).succeeds();
    let first = "{\"country\":\"DE\",\"n\":0,\"event_time\":\"2024-01-15T10:00:00.000000Z\"}";
    assert_eq!(run.text().lines().next(), Some(first));
    assert!(run.stderr().contains("in 3 out 3"), "{run}");
}

#[test]
fn rows_are_chosen_by_rule_and_by_time_and_the_rest_counts_as_filtered() {
    let dir = Dir::new("choice");
    dir.write("events.jsonl", events(60));
    let args = ["events.jsonl", "--where", "country = 'DE'", "--since", "2024-01-15T10:00:10Z"];
    let run = view(&dir, &[&args[..], &["--until", "2024-01-15T10:00:20Z", "--columns", "n"]].concat()).succeeds();
    assert_eq!(run.text(), "{\"n\":10}\n{\"n\":12}\n{\"n\":14}\n{\"n\":16}\n{\"n\":18}\n", "{run}");
    assert!(run.stderr().contains("in 60 out 5 filtered 55"), "{run}");
    let now = ["--now", "2024-01-15T12:00:00Z", "--last", "1h59m2s"];
    let run = view(&dir, &[&["events.jsonl", "--columns", "n"], &now[..]].concat()).succeeds();
    assert_eq!(run.text(), "{\"n\":58}\n{\"n\":59}\n");
}

#[test]
fn a_value_of_the_wrong_type_is_a_faulty_row() {
    let dir = Dir::new("wrong");
    dir.write("events.jsonl", events(2).replace("\"n\":1", "\"n\":\"x\""));
    let run = view(&dir, &["events.jsonl", "--where", "n >= 0", "--columns", "n"]).ends_with(1);
    assert_eq!(run.text(), "{\"n\":0}\n");
    assert!(run.stderr().contains("events.jsonl:2: AggregationError: n: expected a number, found \"x\""), "{run}");
    view(&dir, &["events.jsonl", "--where", "n >= 0", "--dlq", "dead.jsonl"]).succeeds();
    assert_eq!(view(&dir, &["dead.jsonl"]).succeeds().rows()[0]["stage"], "evt-view");
}

#[test]
fn an_integer_that_no_double_tells_from_its_neighbours_is_refused_and_its_text_is_not() {
    let dir = Dir::new("beyond-doubles");
    let row = |id: u64| format!("{{\"server_timestamp\":\"2024-01-15T10:00:00Z\",\"id\":{id}}}\n");
    let ids = [1_234_567_890_123_456_789, 1_234_567_890_123_456_788, 9_007_199_254_740_991];
    dir.write("ids.jsonl", ids.map(row).concat());
    for condition in ["id = 1234567890123456788", "id in (1, 1234567890123456788)", "id > -9007199254740992"] {
        let said = view(&dir, &["ids.jsonl", "--where", condition]).ends_with(78).stderr();
        assert!(said.contains("not exact beyond 9007199254740991") && said.contains("' compares texts"), "{said}");
    }
    for (condition, count) in [
        ("id = '1234567890123456788'", 1),
        ("id = 9007199254740991", 1),
        ("id > 1234567890123456000.0", 2),
        ("id > 1.2e18", 2),
    ] {
        let run = view(&dir, &["ids.jsonl", "--where", condition]).succeeds();
        assert_eq!(run.rows().len(), count, "{condition}: {run}");
    }
}

#[test]
fn only_a_keyword_at_the_fault_is_named() {
    let dir = Dir::new("keyword");
    dir.write("events.jsonl", events(1));
    for (condition, keyword) in [
        ("id > 5 and", None),
        ("a = interval", Some("interval")),
        ("id = 1 and interval > 5", Some("interval")),
        ("a b", None),
    ] {
        let said = view(&dir, &["events.jsonl", "--where", condition]).ends_with(78).stderr();
        let named = keyword.map(|word| format!("{word} is an SQL keyword"));
        assert_eq!(said.contains("is an SQL keyword"), named.is_some(), "{condition}: {said}");
        assert!(named.is_none_or(|named| said.contains(&named)), "{condition}: {said}");
    }
}

#[test]
fn times_that_none_of_the_first_records_can_read_are_a_usage_error_and_missing_ones_are_not() {
    let dir = Dir::new("view-times");
    dir.write("sys.log", "Dec 10 06:55:46 LabSZ sshd[24200]: Invalid user x\n".repeat(3));
    let said = dir.run("evt-view", &["sys.log", "-f", "syslog"]).ends_with(2).stderr();
    assert!(said.contains("none of the 3 records has a readable time") && said.contains("--time-year"), "{said}");
    dir.write("plain.jsonl", "{\"n\":1}\n");
    assert_eq!(dir.run("evt-view", &["plain.jsonl", "-o", "jsonl", "-q"]).succeeds().rows()[0]["properties"]["n"], 1);
}

#[test]
fn head_stops_reading_without_an_error_and_tail_is_of_the_head() {
    let dir = Dir::new("head");
    let many = events(60).repeat(2_000);
    let args = ["-f", "jsonl", "--head", "3", "--columns", "n"];
    let run = dir.feed("evt-view", &args, many.as_bytes()).succeeds();
    assert_eq!(run.text(), "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n", "{run}");
    dir.write("events.jsonl", events(60));
    let run = view(&dir, &["events.jsonl", "--head", "3", "--tail", "2", "--columns", "n"]);
    assert_eq!(run.text(), "{\"n\":1}\n{\"n\":2}\n", "{run}");
    let run = view(&dir, &["events.jsonl", "--tail", "1", "--columns", "n"]);
    assert_eq!(run.text(), "{\"n\":59}\n", "{run}");
}

#[test]
fn a_row_behind_the_head_is_not_judged() {
    let dir = Dir::new("behind");
    dir.write("events.jsonl", events(3).replace("\"n\":2", "\"n\":\"x\""));
    view(&dir, &["events.jsonl", "--where", "n >= 0", "--head", "2"]).succeeds();
}

#[test]
fn records_without_a_time_are_shown_and_said_to_have_none() {
    let dir = Dir::new("untimed");
    dir.write("cities.csv", "city,people\nBerlin,3700000\nBonn,330000\n");
    let run = view(&dir, &["cities.csv", "--columns", "city,people", "-o", "table"]).succeeds();
    assert_eq!(run.text(), "city    people\nBerlin  3700000\nBonn    330000\n", "{run}");
    assert!(run.stderr().contains("no time"), "{run}");
    let run = view(&dir, &["cities.csv", "--describe"]);
    assert!(run.text().contains("\"rows\":2,\"time\":null,\"disorder\":null"), "{run}");
}

#[test]
fn a_table_holds_no_escape_of_the_data() {
    let dir = Dir::new("escape");
    dir.write("events.jsonl", "{\"server_timestamp\":\"2024-01-15T10:00:00Z\",\"x\":\"\\u001b[2Jred\"}\n");
    for args in [&["--columns", "x"][..], &["--describe"], &[]] {
        let run = view(&dir, &[&["events.jsonl", "-o", "table"], args].concat()).succeeds();
        assert!(!run.text().contains('\u{1b}'), "{args:?}: {run}");
    }
}

#[test]
fn dead_letters_are_summed_up_and_faults_of_all_kinds_are_refused_elsewhere() {
    let dir = Dir::new("dead");
    dir.write("events.jsonl", format!("{}x\ny\n[1]\n", events(1)));
    dir.run("evt-ingest", &["events.jsonl", "--dlq", "dead.jsonl"]).succeeds();
    let out = view(&dir, &["dead.jsonl", "--summary", "-o", "csv", "-q"]).succeeds().text();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].starts_with("ParseError,events.jsonl,evt-ingest,2,"), "{out}");
    assert!(lines[2].starts_with("EnvelopeError,events.jsonl,evt-ingest,1,"), "{out}");
    let run = view(&dir, &["dead.jsonl", "--where", "error_type = 'ParseError'", "--columns", "original_payload"]);
    assert_eq!(run.text(), "{\"original_payload\":\"x\"}\n{\"original_payload\":\"y\"}\n");
    view(&dir, &["events.jsonl", "--summary"]).ends_with(2);
}

#[test]
fn ten_kinds_of_fault_are_ten_rows_of_the_summary_with_their_first_offsets() {
    let dir = Dir::new("kinds");
    let time = "\"server_timestamp\":\"2026-01-01T00:00:00Z\"";
    let mut lines = String::new();
    for round in 0..50 {
        for fault in [
            format!("x{round}"),
            format!("{{{time},"),
            format!("[{round}]"),
            format!("\"text {round}\""),
            format!("{{\"server_timestamp\":\"day {round}\"}}"),
            format!("{{\"server_timestamp\":\"2026-02-{:02}T00:00:00Z\"}}", 30 + round % 2),
            format!("{{{time},\"event_id\":\"id {round}\"}}"),
            format!("{{{time},\"source\":{}}}", round % 2 == 0),
            format!("{{{time},\"properties\":\"p{round}\"}}"),
            format!("{{{time},\"n\":{round},\"source\":\"a\",\"source\":\"b\"}}"),
        ] {
            lines.push_str(&fault);
            lines.push('\n');
        }
    }
    dir.write("in.jsonl", format!("{{{time}}}\n{lines}"));
    let table = "sqlite:dead.db?table=dead_letters";
    for (output, letters) in [("dead.jsonl", "dead.jsonl"), ("sqlite:dead.db", table)] {
        dir.shell(&format!("evt-ingest in.jsonl -q --to null: --dlq {output}")).succeeds();
        let run = view(&dir, &[letters, "--summary", "-o", "jsonl", "-q"]).succeeds();
        let mut offsets: Vec<i64> =
            run.rows().iter().map(|row| row["first_offset"].as_i64().expect("an offset")).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, (2..12).collect::<Vec<_>>(), "{run}");
        assert!(run.rows().iter().all(|row| row["letters"] == 50), "{run}");
    }
}

#[test]
fn a_database_shows_its_tables_and_a_lake_its_rows() {
    let dir = Dir::new("store");
    dir.write("events.jsonl", events(5));
    let window = ["events.jsonl", "--size", "1m", "-o", "frames", "--to", "m.frames"];
    dir.run("evt-window", &window).succeeds();
    let sink = ["m.frames", "--to", "sqlite:metrics.db", "--to", "parquet:lake"];
    dir.run("evt-sink", &sink).succeeds();
    let run = view(&dir, &["sqlite:metrics.db"]).succeeds();
    assert!(run.text().contains("{\"table\":\"aggregated_metrics\",\"rows\":1}"), "{run}");
    for store in ["sqlite:metrics.db?table=aggregated_metrics", "parquet:lake"] {
        let run = view(&dir, &[store, "--columns", "metric_name,rows"]).succeeds();
        assert_eq!(run.text(), "{\"metric_name\":\"count(*)\",\"rows\":5}\n", "{store}: {run}");
    }
}

#[test]
fn a_torn_stream_shows_what_came_then_the_error() {
    let dir = Dir::new("torn");
    dir.write("events.jsonl", events(5_000 % 3600));
    let frames = frames(&dir);
    for args in [&["-o", "table"][..], &["--tail", "2"], &["--describe"]] {
        let run = dir.feed("evt-view", args, &frames[..frames.len() - 30]).ends_with(65);
        assert!(run.stderr().contains("torn stream") && !run.stdout().is_empty(), "{args:?}: {run}");
    }
    assert_eq!(dir.feed("evt-view", &["-q"], &frames).text().lines().count(), 1_400);
}

/// The events of `events.jsonl` as frames.
fn frames(dir: &Dir) -> Vec<u8> {
    dir.run("evt-ingest", &["events.jsonl", "-o", "frames", "-q"]).succeeds().stdout().to_vec()
}

#[test]
fn frames_go_on_as_frames_with_a_proven_end() {
    let dir = Dir::new("frames");
    dir.write("events.jsonl", events(10));
    let frames = frames(&dir);
    let passed = dir.feed("evt-view", &["-o", "frames", "--where", "n < 4"], &frames).succeeds();
    let run = dir.feed("evt-view", &["--columns", "n"], passed.stdout()).succeeds();
    assert_eq!(run.text().lines().count(), 4, "{run}");
    assert!(!run.stderr().contains("not proven"), "{run}");
    let selected = dir.feed("evt-view", &["-o", "frames", "--columns", "source,n"], &frames).succeeds();
    let run = dir.feed("evt-view", &["--columns", "n"], selected.stdout()).succeeds();
    assert_eq!(run.text().lines().count(), 10, "{run}");
}

#[test]
fn control_messages_are_shown_and_read_back() {
    let dir = Dir::new("control");
    dir.write("events.jsonl", events(3));
    let frames = frames(&dir);
    let shown = dir.feed("evt-view", &["--control"], &frames).succeeds();
    let text = shown.text();
    assert!(text.ends_with("{\"$evt\":{\"end\":{\"how\":\"exhausted\",\"rows\":3,\"verdict\":0}}}\n"), "{shown}");
    assert!(text.contains("{\"$evt\":{\"progress\":"), "{shown}");
    let read = dir.feed("evt-view", &["-f", "jsonl", "--control", "--columns", "n"], shown.stdout()).succeeds();
    assert_eq!(read.text().lines().filter(|line| !line.contains("$evt")).count(), 3, "{read}");
    let run = dir.feed("evt-view", &["--control", "-o", "table"], &frames);
    assert!(run.text().contains("── end: exhausted, 3 rows, verdict 0"), "{run}");
}

#[test]
fn faults_behind_the_rows_of_head_are_neither_reported_nor_counted() {
    let dir = Dir::new("behind");
    let good = |n: u32| format!("{{\"server_timestamp\":\"2026-01-01T00:00:00Z\",\"n\":{n}}}\n");
    let mut text = "broken\n".to_owned();
    (0..12).for_each(|n| text += &good(n));
    text.insert_str(text.len() - good(11).len(), "[1]\n");
    text += &"broken too\n".repeat(30);
    text += &good(12).repeat(20);
    dir.write("in.jsonl", &text);
    let run = dir.run("evt-view", &["in.jsonl", "--head", "12", "-o", "jsonl"]).ends_with(1);
    let said = run.stderr();
    assert_eq!(run.rows().len(), 12, "{run}");
    assert!(said.contains("in 14 out 12 dropped 2 (ParseError 1, EnvelopeError 1)"), "{run}");
    assert!(said.contains("in.jsonl:1: ParseError") && said.contains("in.jsonl:13: EnvelopeError"), "{run}");
    assert_eq!(said.lines().count(), 3, "{run}");
    let run = dir.run("evt-view", &["in.jsonl", "--head", "12", "-o", "jsonl", "--dlq", "dead.jsonl"]).succeeds();
    assert!(run.stderr().contains("in 14 out 12 dead 2"), "{run}");
    assert_eq!(dir.rows("dead.jsonl").len(), 2, "{run}");
    let run = dir.run("evt-view", &["in.jsonl", "--head", "100", "-o", "jsonl"]).ends_with(1);
    assert!(run.stderr().contains("in 64 out 32 dropped 32"), "{run}");
    let run = dir.shell("tail -n +15 in.jsonl | evt-view -f jsonl --head 3 --where 'n = 12' -o jsonl").ends_with(1);
    assert!(run.stderr().contains("in 33 out 3 dropped 30"), "{run}");
}

#[test]
fn raw_gives_back_the_records_of_dead_letters_from_every_place() {
    let dir = Dir::new("replay");
    let bytes = b"not json\n{\"server_timestamp\":\"never\"}\n\xff\xfe\n{\"server_timestamp\":7,\"a\":\"b\"}\n";
    dir.write("in.txt", bytes);
    dir.write("good.jsonl", "{\"server_timestamp\":\"2026-01-01\"}\n");
    let dlqs = ["dead.jsonl", "dead.csv", "sqlite:dead.db", "dead.parquet", "dead.avro"];
    for dlq in dlqs {
        dir.run("evt-ingest", &["good.jsonl", "in.txt", "-f", "jsonl", "-q", "--to", "null:", "--dlq", dlq]).succeeds();
    }
    dir.shell("evt-view dead.jsonl --rows -o frames > dead.arrows").succeeds();
    for place in dlqs.iter().chain(&["dead.arrows"]) {
        let run = dir.run("evt-view", &[place, "-q", "-o", "raw"]).succeeds();
        assert_eq!(run.stdout(), bytes, "{place}: {run}");
    }
    let some =
        dir.run("evt-view", &["dead.jsonl", "-q", "--where", "error_type = 'ParseError'", "-o", "raw"]).succeeds();
    assert_eq!(some.stdout(), b"not json\n\xff\xfe\n", "{some}");
}

#[test]
fn letters_that_are_no_line_are_left_out_of_raw_and_counted() {
    let dir = Dir::new("no-line");
    dir.write("in.csv", "server_timestamp,a\n2026-01-01,0\nnever,\"two\nlines\"\nnever,one\n");
    dir.run("evt-ingest", &["in.csv", "-q", "--to", "null:", "--dlq", "dead.jsonl"]).succeeds();
    dir.write("long", format!("{}\n", "x".repeat(3000)));
    let long = ["long", "-f", "jsonl", "-q", "--max-record", "1000B", "--to", "null:", "--dlq", "dead.jsonl"];
    dir.run("evt-ingest", &long).succeeds();
    let run = dir.run("evt-view", &["dead.jsonl", "-o", "raw"]).ends_with(1);
    assert_eq!(run.text(), "never,one\n", "{run}");
    let said = run.stderr();
    assert!(said.contains("in 3 out 1 dropped 2"), "{run}");
    assert!(said.contains("has a line break") && said.contains("has only 1000 of the record's 3000 bytes"), "{run}");
    dir.run("evt-view", &["dead.jsonl", "-o", "raw", "--dlq", "left.jsonl"]).succeeds();
    let (left, dead) = (dir.rows("left.jsonl"), dir.rows("dead.jsonl"));
    assert_eq!(left.len(), 2);
    for letter in left {
        let same = dead.iter().find(|dead| dead["letter_id"] == letter["letter_id"]).expect("the same letter");
        assert_eq!(letter["original_payload"], same["original_payload"]);
        assert_eq!(
            (&letter["error_type"], &letter["original_length"]),
            (&"SinkError".into(), &same["original_length"])
        );
    }
}

#[test]
fn an_expression_that_is_nested_too_deeply_is_refused_at_once() {
    let dir = Dir::new("nested");
    let deep = format!("{}x{} = 1", "cast(".repeat(50), " as double)".repeat(50));
    dir.write(
        "metrics.toml",
        format!("[defaults]\nsize = '1m'\n[[metric]]\nname = 'n'\naggregate = 'count(*)'\nwhere = '{deep}'\n"),
    );
    for args in [
        vec!["evt-view", "-f", "jsonl", "--where", &deep],
        vec!["evt-view", "-f", "jsonl", "--where", &"not (".repeat(38)],
        vec!["evt-view", "-f", "jsonl", "--where", &"not ".repeat(40)],
        vec!["evt-ingest", "-f", "jsonl", "--check", "--where", &deep],
        vec!["evt-window", "-f", "jsonl", "-m", "metrics.toml"],
        vec!["evt-window", "-f", "jsonl", "-m", "metrics.toml", "--check"],
    ] {
        let run = dir.feed(args[0], &args[1..], b"{\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n").ends_with(78);
        assert!(run.stderr().contains("nested deeper than 30 at column"), "{args:?} {run}");
    }
}

#[test]
fn a_text_file_whose_name_ends_in_txt_is_read_by_its_content() {
    let dir = Dir::new("txt");
    dir.shell("evt-gen --events 20 -q > in.txt; evt-ingest -q in.txt --origin in --to frames.txt -o frames").succeeds();
    for input in ["in.txt", "frames.txt"] {
        let run = dir.run("evt-view", &[input, "-q", "-o", "jsonl"]).succeeds();
        assert_eq!(run.rows().len(), 20, "{input}: {run}");
    }
}

#[test]
fn no_progress_line_stands_between_rows_on_a_terminal() {
    let dir = Dir::new("progress");
    dir.shell("evt-gen --events 1k -q > in.jsonl; mkfifo slow").succeeds();
    // `script` gives the tool a terminal for both its outputs.
    let mut command = dir.command("script", &["-qefc", "evt-ingest slow -f jsonl -o jsonl; echo ended", "typescript"]);
    let mut terminal = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("script is there");
    let mut slow = std::fs::OpenOptions::new().write(true).open(dir.path("slow")).expect("the tool reads it");
    let lines = dir.bytes("in.jsonl");
    let start = Instant::now();
    // evt would draw a progress line after a fifth of a second.
    let mut lines = lines.split_inclusive(|byte| *byte == b'\n').cycle();
    loop {
        slow.write_all(lines.next().expect("there are lines")).expect("the tool reads it");
        if start.elapsed() >= Duration::from_secs(1) {
            break;
        }
    }
    drop(slow);
    terminal.wait().expect("it is ours");
    let seen = String::from_utf8_lossy(&dir.bytes("typescript")).into_owned();
    assert!(seen.contains("ended") && seen.contains("\"event_id\""), "{seen:.400}");
    assert!(!seen.contains(" rows, "), "a progress line was drawn");
}

#[test]
fn a_name_is_reported_as_never_set_only_where_no_row_has_it() {
    let dir = Dir::new("never-set");
    dir.write("in.jsonl", "{\"server_timestamp\":\"2026-01-01T00:00:00Z\",\"v\":1}\n");
    let run = dir.run("evt-view", &["in.jsonl", "--where", "properties.v = 1 and v = 1", "-o", "jsonl"]).succeeds();
    assert!(run.rows().len() == 1 && !run.stderr().contains("NULL"), "{run}");
    let sum = "fl=sum(v) filter (where v > 50)";
    let run = dir.run("evt-window", &["in.jsonl", "--size", "1h", "--agg", sum, "-o", "jsonl"]).succeeds();
    assert!(!run.stderr().contains("NULL"), "{run}");
    let run = dir.run("evt-window", &["in.jsonl", "--size", "1h", "--agg", "sum(w)", "-o", "jsonl"]).succeeds();
    assert!(run.stderr().contains("sum(w): w was NULL in every event"), "{run}");
}
