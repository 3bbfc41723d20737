//! `--stats`: evt(7) names every member that a tool writes.

use crate::harness::{Dir, ROOT};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const EVENTS: &str = r#"{"event_time":"2026-07-01T00:00:01Z","source":"s","event_type":"a","properties":{"v":1}}
{"event_time":"2026-07-01T00:05:00Z","source":"s","event_type":"b","properties":{"v":2}}
{"event_time":"2026-07-01T00:00:02Z","source":"s","event_type":"a","properties":{"v":3}}
{"event_time":"soon"}
"#;
const METRICS: &str = "[[metric]]\nname = 'n'\naggregate = 'count(*)'\nsize = '1m'\n";
const RULES: &str =
    r#"{"rule":[{"name":"r","aggregate":"count(*)","condition":"gt","threshold":0,"window_seconds":60}]}"#;

/// Commands in their order, each of which writes `stats.json`. One run may fill what the next one reads.
const RUNS: &[&str] = &[
    "evt-ingest in.jsonl --dlq dead.jsonl --to events.jsonl",
    "evt-ingest in.jsonl --to null:",
    "evt-validate events.jsonl --dedup 1h --to null:",
    "evt-sink events.jsonl --to sqlite:m.db",
    "evt-window in.jsonl -m metrics.toml --checkpoint state --late late.jsonl --to sqlite:m.db",
    "evt-window in.jsonl --size 1m --by event_type --top 1 --late null: --to null:",
    "evt-view events.jsonl -o csv --to null:",
    "evt-backfill events.jsonl -m metrics.toml --to sqlite:m.db --all-closed",
    "evt-backfill events.jsonl -m metrics.toml --to sqlite:m.db --late-events late.jsonl",
    "evt-replay dead.jsonl --ledger sqlite:ledger.db --to replayed.jsonl",
    "evt-alert events.jsonl --rules rules.json --once --to null:",
    "evt-reconcile events.jsonl events.jsonl",
];

/// The members of the summary that evt(7) names, and the words of its paragraphs.
struct Manual {
    members: BTreeSet<String>,
    words: BTreeSet<String>,
}

fn manual() -> Manual {
    let page = std::fs::read_to_string(Path::new(ROOT).join("man/evt.7")).expect("the page");
    let section = page.split(".SH SUMMARY\n").nth(1).and_then(|rest| rest.split(".SH ").next()).expect("the section");
    let names = |line: &str| -> Vec<String> {
        line.split([' ', ',', '"', '.', ':', ';', '(', ')'])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let heads = section.split(".TP\n").skip(1).filter_map(|entry| entry.lines().next());
    let heads = heads.filter_map(|head| head.strip_prefix(".BR ").or(head.strip_prefix(".B ")));
    Manual { members: heads.flat_map(names).collect(), words: section.lines().flat_map(names).collect() }
}

#[test]
fn evt_7_names_every_member_of_stats() {
    let (dir, manual) = (Dir::new("stats"), manual());
    dir.write("in.jsonl", EVENTS);
    dir.write("metrics.toml", METRICS);
    dir.write("rules.json", RULES);
    let mut seen = BTreeSet::new();
    for line in RUNS {
        let run = dir.shell(&format!("{line} --stats stats.json --now 2026-07-02T00:00:00Z"));
        assert!(run.status() < 2, "{line}: {}", run.stderr());
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("an object");
        for (name, value) in stats.as_object().expect("an object") {
            assert!(manual.members.contains(name), "{line}: evt(7) does not name {name} ({value})");
            let inner = match (name.as_str(), value) {
                ("counts" | "left_out", Value::Object(members)) => members.keys().cloned().collect(),
                ("metrics", Value::Object(metrics)) => {
                    metrics.values().filter_map(Value::as_object).flat_map(|one| one.keys().cloned()).collect()
                }
                ("outputs", Value::Array(outputs)) => outputs.iter().flat_map(output_members).collect(),
                _ => vec![],
            };
            for member in inner {
                assert!(manual.words.contains(&member), "{line}: evt(7) does not name {member} of {name}");
            }
            seen.insert(name.clone());
        }
    }
    // These need topics, and late events that the input does not hold.
    seen.extend(["lag", "late_pending"].map(str::to_owned));
    assert_eq!(manual.members, seen, "evt(7) names a member that no run wrote");
}

/// The members of an output, and those of its counts.
fn output_members(output: &Value) -> Vec<String> {
    let counts = output["counts"].as_object().into_iter().flat_map(|counts| counts.keys());
    output.as_object().into_iter().flat_map(|output| output.keys()).chain(counts).cloned().collect()
}

#[test]
fn the_summary_of_evt_alert_has_the_dead_letters_by_type_and_the_outputs() {
    let dir = Dir::new("stats-alert");
    dir.write("in.jsonl", EVENTS);
    dir.write("rules.json", RULES);
    let run = dir.shell(
        "evt-alert in.jsonl --rules rules.json --once --dlq dead.jsonl --to sqlite:a.db --stats stats.json --now 2026-07-02T00:00:00Z",
    );
    assert!(run.status() < 2, "{}", run.stderr());
    let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("an object");
    assert_eq!(stats["dead_by_type"]["TimestampError"], 1, "{stats}");
    assert_eq!(stats["outputs"][0]["name"], "sqlite:a.db", "{stats}");
    assert!(run.stderr().contains(" (TimestampError 1); fired "), "{}", run.stderr());
}
