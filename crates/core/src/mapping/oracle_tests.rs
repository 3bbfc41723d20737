//! Compares the verdict on a record with serde_json's over mutated lines: zero differences.

use super::*;
use crate::json::DEPTH_MAX;
use crate::kind::dead::ErrorType;
use serde_json::value::RawValue;

/// Lines to mutate: every construct of JSON, every envelope field.
const LINES: [&str; 8] = [
    r#"{"event_id":"58aedb27-dcc1-534a-ba59-63b291b9768e","source":"web","event_type":"click","user_id":null,"properties":{"page":"/a/b","n":-1.5e+3,"ok":true,"l":[1,[],{}],"u":"caf\u00e9 \ud83d\ude00"},"client_timestamp":"2026-03-01T12:00:00.123Z"}"#,
    r#" { "a" : [ 1 , 2 , { "b" : null } ] , "event_type" : "x" } "#,
    r#"{"properties":{},"source":"s\\\"q","x":"0123456789abcdef0123456789abcdef"}"#,
    r#"{"event\u005ftype":"a","deep":[[[[[[[[[[]]]]]]]]]]}"#,
    r#"{"n":0,"m":-0.0,"e":1e400,"f":123456789012345678901234567890}"#,
    r#"{"k":"\ud800","source":"\u0041"}"#,
    "{}",
    r#"{"":"","\u0000":"\u001f","t":false}"#,
];

/// Bytes that a mutation may insert.
const TOKENS: [&str; 24] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "0",
    "1e",
    ".",
    "-",
    "true",
    "nul",
    "\\u12",
    "\\ud800",
    "\n",
    "\t",
    "\u{1}",
    " ",
    "é",
    "\"source\":",
    "\"properties\":{",
    "[[[[[[[[[[[[[[[[",
];

/// A small deterministic generator: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

fn mutate(line: &str, random: &mut Random) -> String {
    let mut text: Vec<char> = line.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        match random.below(4) {
            0 => text.truncate(at),
            1 if at < text.len() => drop(text.remove(at)),
            2 if at < text.len() => {
                let from = random.below(text.len());
                text[at] = text[from];
            }
            _ => {
                let token = TOKENS[random.below(TOKENS.len())];
                text.splice(at..at, token.chars());
            }
        }
    }
    text.into_iter().collect()
}

/// Returns the nesting depth of containers, strings skipped. Only for valid JSON.
fn depth(text: &str) -> u32 {
    let (mut open, mut deepest, mut inside, mut escaped) = (0u32, 0, false, false);
    for c in text.chars() {
        match (inside, c) {
            (true, _) if escaped => escaped = false,
            (true, '\\') => escaped = true,
            (_, '"') => inside = !inside,
            (false, '{' | '[') => {
                open += 1;
                deepest = deepest.max(open);
            }
            (false, '}' | ']') => open -= 1,
            _ => {}
        }
    }
    deepest
}

#[test]
fn its_verdict_on_a_record_is_that_of_serde_json() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut partition_table = PartitionTable::default();
    let partition = partition_table.partition("f", "0");
    let reads = ReadColumns { properties: vec!["page".into()], ..ReadColumns::default() };
    let options = Options { time: TimeFrom::Arrival, reads, ..Options::default() };
    let mut mapper = Mapper::new(options).unwrap();
    mapper.turn_to(partition, ("f", "0"));
    let (mut good, mut bad) = (0, 0);
    for round in 0..200_000 {
        let line = mutate(LINES[round % LINES.len()], &mut random);
        let meta = RecordMeta::of_file("f", partition).at(1);
        let record = Record { text: &line, raw: line.as_bytes(), meta, now: 0, verdict: FutureVerdict::ByArrival };
        let outcome = mapper.record(record).unwrap();
        let refused = matches!(&outcome, Mapped::Dead(fault) if fault.error_type == ErrorType::ParseError);
        let oracle = serde_json::from_str::<&RawValue>(&line).is_ok() && depth(&line) <= DEPTH_MAX;
        assert_eq!(refused, !oracle, "{line:?}: {outcome:?}");
        if matches!(outcome, Mapped::Row) {
            good += 1;
        } else {
            bad += 1;
        }
        if mapper.is_full() {
            mapper.finish().unwrap().stamp(&mut partition_table, None).unwrap();
        }
    }
    assert!(good > 20_000 && bad > 20_000, "{good} rows and {bad} refusals show little");
}
