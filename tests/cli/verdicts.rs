//! evt-validate returns the same verdict on a record from any input, and for a fault at any place in the record.

use crate::harness::Dir;
use serde_json::Value;

/// Of `kind`, `n` and `label`, the last may be missing.
const SCHEMA: &str = r#"{"type":"record","name":"tick","fields":[
    {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["a","b"]}},
    {"name":"n","type":"int"},
    {"name":"label","type":["null","string"],"default":null}]}"#;

/// A member as a producer may write it, the field it is, and whether its value is right.
const MEMBERS: [(&str, &str, bool); 14] = [
    (r#""kind":"a""#, "kind", true),
    (r#""kind":"c""#, "kind", false),
    (r#""k\u0069nd":"b""#, "kind", true),
    (r#""k\u0069nd":7"#, "kind", false),
    (r#""n":12"#, "n", true),
    (r#""n":1.5"#, "n", false),
    (r#""n" : 3"#, "n", true),
    (r#""n" : "3""#, "n", false),
    (r#""label":"x""#, "label", true),
    (r#""label":[1]"#, "label", false),
    (r#""other":"no \"n\":1.5 field""#, "", true),
    (r#""other":{"n":"text"}"#, "", true),
    (r#""a_name_that_no_field_of_the_schema_has":null"#, "", true),
    (r#""x":"no field""#, "", true),
];

/// Records of up to seven members in any order, and whether each is valid: every member that is a field is valid, and
/// both required fields exist.
fn records(count: u64) -> (String, Vec<bool>) {
    let (mut text, mut verdicts, mut state) = (String::new(), vec![], 7u64);
    let mut random = |below: usize| {
        // Knuth's MMIX generator; its high bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for line in 1..=count {
        let picked: Vec<_> = (0..random(8)).map(|_| MEMBERS[random(MEMBERS.len())]).collect();
        let is_there = |name: &str| picked.iter().any(|(_, field, _)| *field == name);
        verdicts.push(is_there("kind") && is_there("n") && picked.iter().all(|(_, _, right)| *right));
        let members = picked.iter().map(|(member, _, _)| *member).collect::<Vec<_>>().join(",");
        let envelope = r#""event_type":"tick","server_timestamp":"2024-01-15T10:00:00Z""#;
        text.push_str(&match (line % 3, members.is_empty()) {
            (0, false) => format!("{{{envelope},{members}}}\n"),
            _ => format!("{{{envelope},\"properties\":{{{members}}}}}\n"),
        });
    }
    (text, verdicts)
}

/// The lines that passed, and each dead letter's line and reason.
fn outcome(dir: &Dir, out: &str, dead: &str) -> (Vec<Value>, Vec<(Value, Value)>) {
    let passed = dir.rows(out).iter().map(|row| row["offset"].clone()).collect();
    let refused =
        dir.rows(dead).iter().map(|row| (row["source_offset"].clone(), row["error_message"].clone())).collect();
    (passed, refused)
}

#[test]
fn a_name_that_comes_twice_is_judged_each_time_from_a_file_and_from_frames() {
    let dir = Dir::new("verdicts");
    let (text, verdicts) = records(30_000);
    dir.write("schemas/tick/1.avsc", SCHEMA);
    dir.write("in.jsonl", &text);
    let flags = "--schemas schemas -q --report 0";
    dir.shell(&format!("evt-validate in.jsonl {flags} --to out.jsonl --dlq dead.jsonl")).succeeds();
    dir.shell(&format!("evt-ingest in.jsonl -q | evt-validate {flags} --to framed.jsonl --dlq framed-dead.jsonl"))
        .succeeds();
    let read = outcome(&dir, "out.jsonl", "dead.jsonl");
    assert_eq!(read, outcome(&dir, "framed.jsonl", "framed-dead.jsonl"));
    let (passed, refused) = read;
    let right = (1..).zip(&verdicts).filter(|(_, right)| **right).map(|(line, _)| Value::from(line));
    assert_eq!(passed, right.collect::<Vec<_>>());
    assert_eq!(passed.len() + refused.len(), verdicts.len());
    // A stage that reads records itself keeps them unchanged, with any output format.
    let wrong = text.lines().zip(&verdicts).filter(|(_, right)| !**right).map(|(line, _)| Value::from(line));
    let kept = dir.rows("dead.jsonl").into_iter().map(|mut letter| letter["original_payload"].take());
    assert!(kept.eq(wrong), "records are kept byte for byte");
    assert!(passed.len() > 1_000, "only {} rows pass", passed.len());
}

#[test]
fn a_partition_that_nobody_named_is_a_dead_letter_whenever_it_comes() {
    let dir = Dir::live("promised");
    let row = |partition: &str, second: u32| {
        format!("{{\"server_timestamp\":\"2024-01-15T10:{:02}:{:02}Z\"{partition}}}\n", second / 60, second % 60)
    };
    let mut text: String = (0..600).map(|n| row(&format!(",\"p\":\"{}\"", n % 2), n)).collect();
    text.push_str(&row(",\"p\":\"9\"", 1));
    text.push_str(&row("", 2));
    dir.write("in.jsonl", text);
    let flags = "--field partition=p --partitions 0,1 -q --dlq dead.jsonl";
    let line = format!("evt-ingest in.jsonl {flags} | evt-window --size 1m --late null: -q -o jsonl");
    let windows = dir.shell(&line).succeeds().rows();
    assert_eq!(
        windows.iter().map(|row| row["value"].as_f64().unwrap()).sum::<f64>(),
        600.0,
        "one more is of partition 0, and late"
    );
    let messages: Vec<_> = dir.rows("dead.jsonl").iter().map(|row| row["error_message"].clone()).collect();
    assert_eq!(messages, ["partition: expected one of --partitions, found \"9\""]);
    let run = dir.feed("evt-ingest", &["--time", "nosuch"], row("", 3).as_bytes()).ends_with(2);
    assert!(run.stderr().contains("no readable time: nosuch: missing or null; "), "{run}");
}

#[test]
fn a_run_that_finds_no_event_time_writes_no_dead_letter() {
    let dir = Dir::new("no-time-no-letter");
    dir.write("in.jsonl", "broken\n{\"t\":1}\n");
    dir.write("old.jsonl", "");
    for dlq in ["dead.jsonl", "dead.parquet", "sqlite:dead.db", "parquet:dead"] {
        dir.run("evt-ingest", &["in.jsonl", "-q", "--to", "out.jsonl", "--dlq", dlq]).ends_with(2);
    }
    dir.run("evt-ingest", &["in.jsonl", "-q", "--to", "out.jsonl", "--dlq", "old.jsonl"]).ends_with(2);
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path("")).expect("it is there").flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names, ["in.jsonl", "old.jsonl"]);
    assert!(dir.bytes("old.jsonl").is_empty());
    dir.run("evt-ingest", &["in.jsonl", "-q", "--time", "arrival", "--to", "null:", "--dlq", "dead.jsonl"]).succeeds();
    assert_eq!(dir.rows("dead.jsonl").len(), 1);
}

#[test]
fn a_name_in_a_rule_that_no_row_has_is_told() {
    let dir = Dir::new("unknown-name");
    dir.write("in.jsonl", "{\"server_timestamp\":\"2026-01-01T00:00:00Z\",\"status\":500}\n");
    for tool in ["evt-view", "evt-ingest"] {
        let run = dir.run(tool, &["in.jsonl", "-q", "-o", "jsonl", "--where", "statuss = 500"]).succeeds();
        assert!(run.stderr().contains("--where: statuss was NULL in every row; check the name"), "{run}");
        let run = dir.run(tool, &["in.jsonl", "-q", "-o", "jsonl", "--where", "status = 500"]).succeeds();
        assert_eq!(run.stderr(), "", "{run}");
    }
    let window = ["in.jsonl", "-q", "--size", "1m", "-o", "jsonl", "--where"];
    let run = dir.run("evt-window", &[&window[..], &["statuss = 500"]].concat()).succeeds();
    assert!(run.stderr().contains("statuss was NULL in every event; check the name"), "{run}");
    let run = dir.run("evt-window", &[&window[..], &["status = 501"]].concat()).succeeds();
    assert_eq!(run.stderr(), "", "{run}");
}

#[test]
fn an_argument_that_was_always_null_is_told_by_its_name() {
    let dir = Dir::new("null-argument");
    dir.write("in.jsonl", "{\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n");
    let run = dir.run("evt-window", &["in.jsonl", "-q", "--size", "1m", "--agg", "sum(x)", "-o", "jsonl"]);
    assert!(run.stderr().contains("sum(x): x was NULL in every event; check the name"), "{run}");
}

#[test]
fn help_into_a_pipe_that_is_closed_says_nothing_more() {
    let dir = Dir::new("help");
    let run = dir.shell("set +o pipefail; for n in 1 2 3 4 5; do evt-ingest -h | head -1; done").succeeds();
    assert_eq!(run.stderr(), "", "{run}");
}

#[test]
fn a_faulty_record_is_told_in_json_without_saying_anything_twice() {
    let dir = Dir::new("json-fault");
    dir.write("in.jsonl", "broken\n");
    let run = dir.run("evt-ingest", &["in.jsonl", "--log-format", "json", "--to", "null:"]).ends_with(1);
    let stderr = run.stderr();
    let line: serde_json::Value = serde_json::from_str(stderr.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&line["position"], &line["error_type"]), (&"in.jsonl:1".into(), &"ParseError".into()), "{run}");
    let message = line["message"].as_str().expect("text");
    assert!(!message.contains("in.jsonl") && !message.contains("ParseError"), "{run}");
}

#[test]
fn a_job_of_github_shows_a_faulty_record_at_its_line() {
    let dir = Dir::new("github");
    dir.write("100%, a.jsonl", "{\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\nbro%ken\n");
    let flags = ["--log-format", "github", "--to", "null:"];
    let run = dir.run("evt-ingest", &[&["100%, a.jsonl"][..], &flags].concat()).ends_with(1);
    let stderr = run.stderr();
    let first = stderr.lines().next().expect("a line");
    let place = "::error file=100%25%2C a.jsonl,line=2::evt-ingest: 100%2525, a.jsonl:2: ParseError: ";
    assert!(first.starts_with(place), "{run}");
    // What has no file belongs to the job; notices are text.
    let run = dir.feed("evt-ingest", &flags, b"{broken\n").ends_with(1);
    assert!(run.stderr().starts_with("::error::evt-ingest: -:1: ParseError: "), "{run}");
    assert!(run.stderr().lines().any(|line| line.starts_with("evt-ingest: ")), "{run}");
    let run = dir.run("evt-ingest", &["--no-such-flag", "--log-format", "github"]).ends_with(2);
    assert!(run.stderr().starts_with("::error::evt-ingest: "), "{run}");
    // A later stage names the line of the first.
    let line = "evt-ingest -q '100%, a.jsonl' --dlq null: | evt-validate --log-format github --schemas none --to null:";
    dir.shell("mkdir none").succeeds();
    let run = dir.shell(line).ends_with(1);
    assert!(run.stderr().contains("::error file=100%25%2C a.jsonl,line=1::evt-validate: "), "{run}");
}

#[test]
fn flags_of_every_tool_stand_on_either_side_of_what_evt_schema_does() {
    let dir = Dir::new("schema-flags");
    dir.write("old.avsc", r#"{"type":"record","name":"a","fields":[]}"#);
    dir.write("new.avsc", r#"{"type":"record","name":"a","fields":[{"name":"x","type":"int"}]}"#);
    for line in [
        "evt-schema --stats s.json --log-format json check new.avsc --against old.avsc",
        "evt-schema check new.avsc --against old.avsc -q --stats s.json --log-format json",
    ] {
        let run = dir.shell(line).ends_with(1);
        let said: serde_json::Value = serde_json::from_str(run.stderr().lines().next().expect("a line")).expect("JSON");
        assert_eq!(said["level"], "error", "{run}");
        assert_eq!(dir.rows("s.json")[0]["verdict"], 1, "{run}");
        std::fs::remove_file(dir.path("s.json")).expect("it was written");
    }
    dir.shell("mkdir schemas && evt-schema register old.avsc --subject a --schemas schemas").succeeds();
    let run = dir.run("evt-schema", &["show", "orders", "--schemas", "schemas"]).ends_with(78);
    assert!(run.stderr().contains("unknown subject orders"), "{run}");
}

#[test]
fn a_database_of_letters_is_summed_up() {
    let dir = Dir::new("sum-up");
    dir.write("in.jsonl", "broken\n");
    dir.shell("evt-ingest in.jsonl -q --to null: --dlq sqlite:d.db").succeeds();
    let run = dir.run("evt-view", &["sqlite:d.db", "--summary", "-q", "-o", "jsonl"]).succeeds();
    assert_eq!((run.rows().len(), &run.rows()[0]["error_type"]), (1, &"ParseError".into()), "{run}");
}
