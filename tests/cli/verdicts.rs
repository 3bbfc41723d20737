//! The verdict on a record is the same however it came to evt-validate, and wherever in the record the fault stands.

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

/// Records of up to seven members in any order, and whether each is right by the schema: every member that is a field, and
/// the two that must be there.
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
fn outcome(dir: &Dir, (out, dead): (&str, &str)) -> (Vec<Value>, Vec<(Value, Value)>) {
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
    let read = outcome(&dir, ("out.jsonl", "dead.jsonl"));
    assert_eq!(read, outcome(&dir, ("framed.jsonl", "framed-dead.jsonl")));
    let (passed, refused) = read;
    let right = (1..).zip(&verdicts).filter(|(_, right)| **right).map(|(line, _)| Value::from(line));
    assert_eq!(passed, right.collect::<Vec<_>>());
    assert_eq!(passed.len() + refused.len(), verdicts.len());
    // A stage that reads records itself keeps them as they were, whatever it writes.
    let wrong = text.lines().zip(&verdicts).filter(|(_, right)| !**right).map(|(line, _)| Value::from(line));
    let kept = dir.rows("dead.jsonl").into_iter().map(|mut letter| letter["original_payload"].take());
    assert!(kept.eq(wrong), "records are kept byte for byte");
    assert!(passed.len() > 1_000, "only {} rows pass", passed.len());
}

#[test]
fn a_partition_that_nobody_named_is_a_dead_letter_whenever_it_comes() {
    let dir = Dir::new("promised");
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
    assert_eq!(messages, ["partition: 9 is none of those that --partitions names"]);
    let run = dir.feed("evt-ingest", &["--time", "nosuch"], row("", 3).as_bytes()).ends_with(2);
    assert!(run.stderr().contains("no event time (nosuch)"), "{run}");
}
