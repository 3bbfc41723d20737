//! The JSON parsing suite, document by document, as the value of a property.

use crate::broker::Bench;
use crate::harness::{Dir, data};
use crate::kafka::record;
use rdkafka::producer::BaseRecord;
use std::path::PathBuf;

const HEAD: &[u8] = br#"{"event_type":"t","server_timestamp":"2024-01-15T10:00:00Z","properties":{"x":"#;

/// The documents that fit on a line, by name.
fn lines(folder: &str) -> Vec<(String, Vec<u8>)> {
    documents(folder).into_iter().filter(|(_, bytes)| !bytes.contains(&b'\n')).collect()
}

/// The documents of the suite, by name.
fn documents(folder: &str) -> Vec<(String, Vec<u8>)> {
    let Some(dir) = data(&format!("json/JSONTestSuite/{folder}")) else { return vec![] };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).expect("the suite").map(|entry| entry.expect("it").path()).collect();
    paths.sort();
    let document = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read(path).expect("readable"))
    };
    paths.into_iter().map(document).collect()
}

fn line(document: &[u8]) -> Vec<u8> {
    [HEAD, document, b"}}"].concat()
}

/// The result of each document: the event's properties, or the dead letter's payload.
enum Outcome {
    Event(Vec<u8>),
    Dead(String, Vec<u8>),
}

fn outcome(dir: &Dir, document: &[u8]) -> Outcome {
    // The first line is valid, because a first record without a time ends the run.
    dir.write("in.jsonl", [&line(b"1")[..], b"\n", &line(document), b"\n"].concat());
    for name in ["dead.jsonl", "out.jsonl"] {
        // From the previous document.
        let _ = std::fs::remove_file(dir.path(name));
    }
    let args = ["in.jsonl", "-q", "-o", "jsonl", "--to", "out.jsonl", "--dlq", "dead.jsonl"];
    dir.run("evt-ingest", &args).succeeds().stays_calm();
    let lines = dir.bytes("out.jsonl");
    let lines: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').collect();
    if let Some(row) = lines.get(1).filter(|row| !row.is_empty()) {
        return Outcome::Event(properties(row));
    }
    let dead = dir.rows("dead.jsonl");
    assert_eq!(dead.len(), 1, "one letter for one record");
    let payload = match dead[0]["original_payload"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => base64(dead[0]["original_payload_base64"].as_str().expect("a payload")),
    };
    Outcome::Dead(dead[0]["error_type"].as_str().expect("a type").to_owned(), payload)
}

/// Returns the text of `properties` in a line of evt: the text between the two names around it.
fn properties(row: &[u8]) -> Vec<u8> {
    let find = |needle: &[u8]| memchr::memmem::find(row, needle).expect("an event has it");
    row[find(b"\"properties\":") + 13..memchr::memmem::rfind(row, b",\"server_timestamp\":").expect("it has")].to_vec()
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter(|byte| *byte != b'=');
    let digits: Vec<u32> =
        digits.map(|byte| DIGITS.iter().position(|digit| *digit == byte).expect("a digit") as u32).collect();
    let three = |group: &[u32]| {
        let bits = group.iter().enumerate().fold(0, |bits, (place, digit)| bits | digit << (18 - 6 * place));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(three).collect()
}

fn check(name: &str, document: &[u8], outcome: &Outcome) -> Result<(), String> {
    let wanted = [br#"{"x":"#, document, b"}"].concat();
    match (name.as_bytes()[0], outcome) {
        (b'n', Outcome::Event(_)) => Err("accepted".to_owned()),
        (b'y', Outcome::Dead(kind, _)) => Err(format!("refused: {kind}")),
        (_, Outcome::Event(got)) if *got != wanted => Err(format!("became {}", String::from_utf8_lossy(got))),
        (_, Outcome::Dead(_, payload)) if *payload != line(document) => Err("its payload is not the line".to_owned()),
        (b'n', Outcome::Dead(kind, _)) if kind != "ParseError" => Err(format!("is a {kind}")),
        _ => Ok(()),
    }
}

#[test]
fn what_must_be_accepted_is_kept_byte_for_byte_and_what_must_not_is_a_dead_letter_byte_for_byte() {
    let dir = Dir::new("json");
    let mut failed = vec![];
    for (name, document) in lines("test_parsing").into_iter().chain(lines("test_transform")) {
        if let Err(why) = check(&name, &document, &outcome(&dir, &document)) {
            failed.push(format!("{name}: {why}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Records of a topic may hold line breaks: evt reads them as blanks between tokens; in a string they are invalid JSON.
#[test]
fn a_topic_takes_what_is_json_and_nothing_else() {
    let Some(bench) = Bench::new("topic-json") else { return };
    let topic = bench.topic("t", 1, &[]);
    let documents = documents("test_parsing");
    if documents.is_empty() {
        return;
    }
    let values: Vec<Vec<u8>> = documents.iter().map(|(_, document)| line(document)).collect();
    let records = values.iter().map(|value| BaseRecord::to(&topic).partition(0).payload(&value[..]));
    bench.produce([record(&topic, 0, std::str::from_utf8(&line(b"1")).expect("text"))].into_iter().chain(records));
    let from = bench.uri(&topic, "?end=latest");
    let outputs = ["-q", "--to", "out.jsonl", "--dlq", "dead.jsonl"];
    bench.dir.run("evt-ingest", &[&[from.as_str()][..], &outputs].concat()).succeeds();
    // The parser of this test does not accept every number of the suite.
    let offsets = |name: &str| -> Vec<usize> {
        let text = String::from_utf8(bench.dir.bytes(name)).expect("text");
        let offset = |line: &str| {
            let (_, rest) = line.rsplit_once("\"offset\":").expect("a row has it");
            rest.split([',', '}']).next().and_then(|digits| digits.parse().ok()).expect("a number")
        };
        text.lines().map(offset).collect()
    };
    let (taken, refused) = (offsets("out.jsonl"), offsets("dead.jsonl"));
    assert_eq!(taken.len() + refused.len(), documents.len() + 1);
    for (number, (name, _)) in documents.iter().enumerate() {
        match name.as_bytes()[0] {
            b'y' => assert!(taken.contains(&(number + 1)), "{name} is refused"),
            b'n' => assert!(refused.contains(&(number + 1)), "{name} is taken"),
            _ => {}
        }
    }
    assert!(documents.iter().any(|(name, _)| name == "n_string_unescaped_newline.json"));
}
