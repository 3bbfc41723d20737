//! Objects as outputs of a run with a checkpoint: each epoch becomes one, once.

use crate::bucket::{Fault, Proxy};
use crate::objects::{Prefix, events};

/// The objects below a prefix, in the order of their names.
fn objects(prefix: &Prefix, name: &str) -> Vec<String> {
    let entries = std::fs::read_dir(prefix.place.files.join(name)).into_iter().flatten();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The same rows reach a prefix, a pattern, and a database, and broken records another prefix.
#[test]
fn each_row_is_in_one_object_although_runs_are_killed() {
    let Some(prefix) = Prefix::new("epochs-killed") else { return };
    let dir = &prefix.dir;
    let lines = events(0..60_000);
    let broken: String = lines.lines().enumerate().fold(String::new(), |mut text, (at, line)| {
        text.push_str(if at % 1_000 == 999 { "broken" } else { line });
        text.push('\n');
        text
    });
    dir.write("a.jsonl", broken);
    let line = format!(
        "evt-ingest -q --checkpoint state --checkpoint-every 1ms a.jsonl --to '{}' --to '{}' --to sqlite:e.db --dlq '{}'",
        prefix.uri("rows/"),
        prefix.uri("packed/day-*.csv.gz"),
        prefix.uri("dead/"),
    );
    for millis in ["0.3", "0.5", "0.7", "0.9"] {
        dir.shell(&format!("timeout -s KILL {millis} {line}; true")).succeeds();
    }
    dir.shell(&line).succeeds();
    let expected: Vec<i64> = (0..60_000).filter(|number| number % 1_000 != 999).collect();
    for input in [prefix.uri("rows/"), prefix.uri("packed/*"), "sqlite:e.db?table=raw_events".to_owned()] {
        prefix.run("evt-view", &["-q", &input, "-o", "jsonl", "--to", "back.jsonl", "--overwrite"]).succeeds();
        let mut numbers = prefix.numbers("back.jsonl");
        numbers.sort_unstable();
        assert!(numbers == expected, "{input}: {} rows", numbers.len());
    }
    let letters = prefix.run("evt-view", &["-q", &prefix.uri("dead/"), "-o", "jsonl"]).succeeds().rows();
    assert_eq!(letters.len(), 60);
    let names = objects(&prefix, "rows");
    assert!(names.len() > 1 && names.iter().all(|name| name.ends_with(".jsonl")), "{names:?}");
    assert!(objects(&prefix, "packed").iter().all(|name| name.starts_with("day-") && name.ends_with(".csv.gz")));
}

#[test]
fn an_object_whose_answer_was_lost_is_written_once_and_an_old_checkpoint_writes_none() {
    let Some(prefix) = Prefix::new("epochs-lost") else { return };
    let dir = &prefix.dir;
    dir.write("a.jsonl", events(0..5_000));
    dir.write("b.jsonl", events(5_000..9_000));
    let proxy = Proxy::new(|_, number| match number % 5 {
        1 => Some(Fault::Fails),
        2 => Some(Fault::Cuts),
        _ => None,
    });
    let behind = prefix.place.behind(&proxy);
    let (path, options) = behind.name.split_once('?').expect("options");
    let to = format!("{path}/rows/?{options}&timeout=1s");
    let run = |input: &str| {
        let args = ["-q", "--checkpoint", "state", "--checkpoint-every", "1ms", input, "--to", &to];
        prefix.run("evt-ingest", &args)
    };
    run("a.jsonl").succeeds();
    dir.shell("cp -r state older").succeeds();
    run("b.jsonl").succeeds();
    let before = objects(&prefix, "rows");
    let numbers = || {
        let view = ["-q", &prefix.uri("rows/"), "-o", "jsonl", "--to", "back.jsonl", "--overwrite"];
        prefix.run("evt-view", &view).succeeds();
        let mut numbers = prefix.numbers("back.jsonl");
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers(), Vec::from_iter(0..9_000));
    dir.shell("rm -r state && mv older state").succeeds();
    let said = run("b.jsonl").ends_with(75).stderr();
    assert!(said.contains("is older than this output, or another copy of it has written here"), "{said}");
    assert_eq!(objects(&prefix, "rows"), before);
    assert_eq!(numbers(), Vec::from_iter(0..9_000));
}

#[test]
fn a_prefix_is_refused_where_no_epoch_becomes_an_object() {
    let Some(prefix) = Prefix::new("epochs-refused") else { return };
    prefix.dir.write("a.jsonl", events(0..10));
    let checkpoint = ["--checkpoint", "state"];
    for (to, more, words) in [
        (prefix.uri("w/"), &[][..], "expected the key of one object, or --checkpoint"),
        (prefix.uri("w/*/x.jsonl"), &checkpoint[..], "expected one * in the last part"),
        (prefix.uri("w/*-*.jsonl"), &checkpoint[..], "expected one * in the last part"),
        (prefix.uri("w/*.rows"), &checkpoint[..], "unknown extension"),
        (prefix.uri("w/"), &["--checkpoint", "state", "-o", "frames"], "expected -o jsonl, csv, parquet or avro"),
    ] {
        let said = prefix.run("evt-ingest", &[&["-q", "a.jsonl", "--to", &to], more].concat()).ends_with(2).stderr();
        assert!(said.contains(words) && !said.contains("secret"), "{said}");
    }
    let piped = format!("evt-ingest -q a.jsonl | evt-sink -q --to '{}'", prefix.uri("w/"));
    let said = prefix.dir.shell(&piped).stderr();
    assert!(said.contains("--checkpoint in the first stage of the pipe"), "{said}");
    assert!(objects(&prefix, "w").is_empty());
    let piped = format!("evt-ingest -q --checkpoint s a.jsonl | evt-sink -q -o parquet --to '{}'", prefix.uri("w/"));
    prefix.dir.shell(&piped).succeeds();
    assert_eq!(prefix.run("evt-view", &["-q", &prefix.uri("w/"), "-o", "jsonl"]).succeeds().rows().len(), 10);
}
