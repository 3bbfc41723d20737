//! `--check` reports all faults at once, and ends soon if servers are unavailable.

use crate::broker::Bench;
use crate::harness::Dir;
use crate::kafka::record;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Returns the faults on stderr, without the lines about servers that are still retried.
fn faults(said: &str) -> Vec<&str> {
    said.lines().filter(|line| !line.contains("retrying")).collect()
}

/// Checked one after another, the servers would take more than a minute.
#[test]
fn every_fault_has_a_line_and_servers_that_are_away_are_asked_at_the_same_time() {
    let dir = Dir::new("check-all");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("it is bound");
    dir.write("in.jsonl", "{}\n");
    let outputs = [
        "kafka://127.0.0.1:1/a?wait=10m".to_owned(),
        "kafka://127.0.0.1:1/b".to_owned(),
        format!("kafka://{at}/c"),
        format!("redis://{at}/0?timeout=10m&retry=10m"),
        format!("postgres://u@{at}/d?timeout=10m"),
    ];
    let local = ["none/d.jsonl", "none.jsonl"];
    let mut args = vec!["--check", "in.jsonl", "none.jsonl", "--to", "out.jsonl", "--dlq", "none/d.jsonl"];
    outputs.iter().for_each(|to| args.extend(["--to", to]));
    let start = Instant::now();
    let run = dir.run("evt-sink", &args).ends_with(74);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}: {run}", start.elapsed());
    assert_eq!(run.text(), "in.jsonl: ready\nout.jsonl: ready\n");
    let said = run.stderr();
    let faults = faults(&said);
    assert_eq!(faults.len(), outputs.len() + local.len(), "{run}");
    let named = outputs.iter().map(|to| to.split_once('?').map_or(to.as_str(), |(place, _)| place)).chain(local);
    for name in named {
        let begin = format!("evt-sink: {name}: ");
        assert_eq!(faults.iter().filter(|fault| fault.starts_with(&begin)).count(), 1, "{name}: {run}");
    }
}

/// The order of the faults does not matter.
#[test]
fn faults_of_flags_files_and_servers_are_listed_together_and_the_worst_is_the_exit_status() {
    let dir = Dir::new("check-worst");
    dir.write("in.jsonl", "{}\n");
    let away = "postgres://u@127.0.0.1:1/d";
    let registry = "http://127.0.0.1:1";
    let cases: [(&str, &[&str], i32, &[&str]); 6] = [
        (
            "evt-window",
            &["--size", "1m", "--agg", "sum(", "--late", "none/l.jsonl", "--to", away],
            78,
            &["sum(", "none/l.jsonl", away],
        ),
        (
            "evt-validate",
            &["--schemas", registry, "--time-zone", "Mars", "--to", "mysql:x"],
            2,
            &["--time-zone", "mysql:x", registry],
        ),
        ("evt-ingest", &["--where", "1 +", "--to", "none/x"], 78, &["`1 +`", "none/x"]),
        ("evt-sink", &["--ttl", "1h", "--stats", "none/s", "--to", away], 2, &["--ttl", "none/s", away]),
        ("evt-sink", &["none.jsonl", "--to", away], 74, &["none.jsonl", away]),
        ("evt-view", &["--to", "in.jsonl", "--dlq", away], 2, &["in.jsonl: also an input", away]),
    ];
    for (tool, args, exit, wanted) in cases {
        let run = dir.run(tool, &[&["--check", "in.jsonl"], args].concat()).ends_with(exit);
        let said = run.stderr();
        let faults = faults(&said);
        assert_eq!(faults.len(), wanted.len(), "{run}");
        assert!(wanted.iter().all(|want| faults.iter().any(|fault| fault.contains(want))), "{wanted:?}: {run}");
    }
    let listener = ["http://127.0.0.1:0", "--check", "--ack", "memory", "--tokens", "in.jsonl", "--schemas", registry];
    let run = dir.run("evt-ingest", &listener).ends_with(78);
    assert_eq!(run.text(), "http://127.0.0.1:0: ready\n");
    assert_eq!(faults(&run.stderr()).len(), 2, "{run}");
    let schemas = ["register", "in.jsonl", "--subject", "s", "--schemas", registry, "--check"];
    assert_eq!(faults(&dir.run("evt-schema", &schemas).ends_with(78).stderr()).len(), 2);
}

#[test]
fn every_topic_that_is_missing_is_named() {
    let Some(bench) = Bench::new("check_topics") else { return };
    let there = bench.topic("there", 1, &[]);
    let uri = |name: &str| bench.uri(&format!("{}_{name}", bench.prefix), "");
    let (input, output, letters) = (uri("in"), uri("out"), uri("dead"));
    let (kept, args) = (bench.uri(&there, ""), ["--to", &output, "--dlq", &letters, "--check"]);
    let run = bench.dir.run("evt-ingest", &[&[input.as_str(), "--to", &kept], &args[..]].concat()).ends_with(2);
    let said = run.stderr();
    let faults = faults(&said);
    for uri in [&input, &output, &letters] {
        assert_eq!(faults.iter().filter(|line| line.contains(&format!("{uri}: "))).count(), 1, "{uri}: {run}");
    }
    assert_eq!((faults.len(), run.text()), (3, format!("{kept}: ready\n")), "{run}");
}

#[test]
fn each_missing_topic_of_one_address_is_named() {
    let Some(bench) = Bench::new("check_several") else { return };
    let there = bench.topic("there", 1, &[]);
    let [first, last] = ["first", "last"].map(|name| format!("{}-{name}", bench.prefix));
    let uri = bench.uri(&format!("{first},{there},{last}"), "");
    let run = bench.dir.run("evt-ingest", &[uri.as_str(), "--to", "null:", "--check"]).ends_with(2);
    let said = run.stderr();
    for topic in [&first, &last] {
        let wanted = format!("evt-ingest: {uri}: topic {topic} does not exist or may not be read");
        assert_eq!(said.lines().filter(|line| **line == wanted).count(), 1, "{topic}: {run}");
    }
    assert_eq!(faults(&said).len(), 2, "{run}");
    let several = bench.uri(&format!("{there},{}", bench.topic("too", 1, &[])), "");
    let run = bench.dir.run("evt-ingest", &[several.as_str(), "--to", "null:", "--check"]).succeeds();
    assert!(run.text().starts_with(&format!("{several}: ready\n")), "{run}");
}

/// Root may write to every directory, but this file system does not permit new files.
#[test]
fn a_spool_that_cannot_be_made_is_not_ready() {
    let dir = Dir::new("check-spool");
    let listener =
        |spool: &str| dir.run("evt-ingest", &["http://127.0.0.1:0", "--spool", spool, "--to", "o.jsonl", "--check"]);
    let run = listener("/proc/evt-spool").ends_with(74);
    assert!(!run.text().contains("spool") && run.stderr().contains("/proc/evt-spool: "), "{run}");
    std::fs::create_dir_all(dir.path("there")).expect("writable");
    for spool in ["there", "there/a/spool"] {
        assert!(listener(spool).succeeds().text().starts_with(&format!("{spool}: ready\n")));
    }
    assert_eq!(std::fs::read_dir(dir.path("there")).expect("it is there").count(), 0, "nothing is left behind");
}

#[test]
fn a_check_finds_an_output_that_its_file_system_cannot_hold() {
    let dir = Dir::new("check-proc");
    dir.write("in.jsonl", "{\"t\":\"2026-01-01T00:00:00Z\"}\n");
    for output in ["sqlite:/proc/x.db", "/proc/x.jsonl", "/proc/x.parquet", "parquet:/proc/lake", "parquet:/proc/a/b"] {
        for check in [&["--check"][..], &[]] {
            let args = [&["-q", "in.jsonl", "--time", "t", "--to", output], check].concat();
            dir.run("evt-ingest", &args).ends_with(74);
        }
    }
    // Outputs of which several are in one new place are ready, and nothing is left.
    let outputs = ["sqlite:x.db", "x.jsonl", "x.parquet", "parquet:new/a", "parquet:new/b", "parquet:new/c/d"];
    let to = outputs.iter().flat_map(|output| ["--to", output]);
    let args: Vec<&str> = ["--check", "in.jsonl", "--time", "t"].into_iter().chain(to).collect();
    for _ in 0..20 {
        dir.run("evt-ingest", &args).succeeds();
    }
    let left = std::fs::read_dir(dir.path(".")).expect("it is there").flatten().map(|entry| entry.file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["in.jsonl"]);
}

#[test]
fn days_that_would_be_replaced_with_a_checkpoint_are_refused_before_the_checkpoint_is_made() {
    let dir = Dir::new("check-replace");
    dir.write("in.jsonl", "{\"t\":\"2026-01-01T00:00:00Z\"}\n");
    let lake = "parquet:lake?mode=replace";
    let told = "parquet:lake: --checkpoint: expected mode=append, found mode=replace";
    for outputs in [&["--to", lake][..], &["--to", "null:", "--dlq", lake]] {
        for check in [&[][..], &["--check"]] {
            let args = [&["in.jsonl", "--time", "t", "--checkpoint", "cp"], outputs, check].concat();
            let run = dir.run("evt-ingest", &args).ends_with(2);
            assert!(run.stderr().contains(told), "{run}");
            assert!(!dir.path("cp").exists() && !dir.path("lake").exists(), "{run}");
        }
    }
    // A later stage learns of the checkpoint from the frames.
    let line = format!("evt-ingest -q in.jsonl --time t --checkpoint cp | evt-sink -q --to '{lake}'");
    let run = dir.shell(&line);
    assert!(run.stderr().contains(told) && run.status() == 2, "{run}");
}

#[test]
fn the_name_of_a_file_to_which_the_shell_redirects_a_check_does_not_matter() {
    let dir = Dir::new("check-redirected");
    dir.write("in.jsonl", "{\"t\":\"2026-01-01\"}\n");
    for name in ["x.parquet", "x.db", "o.txt", "o.csv"] {
        let run = dir.shell(&format!("evt-window --time t --size 1h in.jsonl --check > {name}")).succeeds();
        assert!(run.stderr().is_empty() && dir.bytes(name).ends_with(b"\nin.jsonl: ready\n"), "{name}: {run}");
    }
    // A run would write rows there.
    let run = dir.shell("evt-window --time t --size 1h in.jsonl > y.parquet").ends_with(2);
    assert!(run.stderr().contains("use --to y.parquet"), "{run}");
}

/// A run began, which ended the live one with 75, before it read these flags.
#[test]
fn an_instant_that_is_none_ends_a_run_before_it_begins_in_its_checkpoint() {
    let dir = Dir::new("check-range");
    dir.write("in.jsonl", "{\"t\":\"2026-01-01T00:00:00Z\"}\n");
    for (tool, flags) in [
        ("evt-ingest", &["--checkpoint", "cp"][..]),
        ("evt-window", &["--size", "1m", "--late", "null:", "--checkpoint", "cp"]),
        ("evt-validate", &["--dedup", "1h"]),
        ("evt-sink", &[]),
        ("evt-view", &[]),
    ] {
        for check in [&["--check"][..], &[]] {
            let args =
                [&["-q", "in.jsonl", "--time", "t", "--to", "o.jsonl", "--since", "soon"], flags, check].concat();
            let run = dir.run(tool, &args).ends_with(2);
            assert!(run.stderr().contains("--since: expected"), "{tool}: {run}");
            assert!(!dir.path("cp").exists() && !dir.path("o.jsonl").exists(), "{tool}: {run}");
        }
    }
}

#[test]
fn a_check_waits_for_a_followed_file_as_a_run_does() {
    let dir = Dir::new("check-follow");
    let check = |flags: &[&str]| dir.run("evt-ingest", &[&["--check", "app.log", "--to", "o.jsonl"], flags].concat());
    check(&["--follow"]).succeeds();
    check(&["--follow", "--checkpoint", "cp"]).succeeds();
    check(&[]).ends_with(74);
}

#[test]
fn a_check_finds_a_directory_that_cannot_be_the_checkpoint_of_the_run() {
    let dir = Dir::new("check-checkpoint");
    dir.write("in.jsonl", "{\"t\":\"2026-01-01T00:00:00Z\"}\n");
    fn args<'a>(checkpoint: &'a str, to: &'a str) -> [&'a str; 10] {
        ["-q", "in.jsonl", "--time", "t", "--dlq", "null:", "--checkpoint", checkpoint, "--to", to]
    }
    let check = |checkpoint: &str, to: &str| dir.run("evt-ingest", &[&args(checkpoint, to)[..], &["--check"]].concat());
    let ready = |checkpoint: &str| assert!(check(checkpoint, "o.jsonl").succeeds().text().contains(": ready\n"));
    ready("new");
    ready("new/a/b");
    assert!(!dir.path("new").exists(), "nothing is left");
    assert!(check("in.jsonl", "o.jsonl").ends_with(74).stderr().contains("in.jsonl: "));
    assert!(check("/proc/cp", "o.jsonl").ends_with(74).stderr().contains("/proc/cp"));
    dir.write("used/x", "");
    let said = check("used", "o.jsonl").ends_with(78).stderr();
    assert!(said.contains("used: expected an empty directory or a checkpoint, found used/x"), "{said}");

    dir.run("evt-ingest", &args("cp", "o.jsonl")).succeeds();
    let log = |dir: &Dir| std::fs::read_dir(dir.path("cp/log")).expect("a log").count();
    let before = log(&dir);
    ready("cp");
    // Only the last epoch, whose rows all outputs have, may be continued with another output.
    check("cp", "other.jsonl").succeeds();
    let two = [&args("cp", "x.jsonl")[..], &["--to", "o.jsonl", "--check"]].concat();
    let said = dir.run("evt-ingest", &two).ends_with(78).stderr();
    assert!(said.contains("expected output to-0, as in the checkpoint, found output to-1"), "{said}");
    let said = dir.run("evt-ingest", &[&args("cp", "o.jsonl")[..], &["--ends", "2", "--check"]].concat()).stderr();
    assert!(said.contains("expected --ends 1, as in the checkpoint, found --ends 2"), "{said}");
    let window = ["in.jsonl", "--time", "t", "--size", "1m", "--late", "null:", "--checkpoint", "cp", "--check"];
    let said = dir.run("evt-window", &window).ends_with(78).stderr();
    assert!(said.contains("expected the stages 1-evt-ingest, as in the checkpoint, found 1-evt-window"), "{said}");
    assert_eq!(dir.run("evt-view", &["--check", "cp"]).succeeds().text(), "cp: ready\n");

    let entry = std::fs::read_dir(dir.path("cp/epochs")).expect("epochs").flatten().next().expect("an epoch").path();
    let part = std::fs::read_dir(entry).expect("parts").flatten().map(|part| part.path());
    let positions = part.into_iter().find(|path| path.extension().is_some_and(|name| name == "positions"));
    std::fs::write(positions.expect("positions"), "x").expect("writable");
    assert!(
        dir.run("evt-view", &["--check", "cp"])
            .ends_with(65)
            .stderr()
            .contains("cp: a part of a kept epoch is damaged; evt-view without --check names it")
    );
    std::fs::write(dir.path("cp/log/1"), "x").expect("writable");
    assert!(check("cp", "o.jsonl").ends_with(65).stderr().contains("expected an entry in JSON"));
    assert_eq!(log(&dir), before, "the checks began no run");
}

/// Offsets of `start=` count for partitions of which neither the group nor a checkpoint has a position.
#[test]
fn a_start_that_a_run_refuses_is_refused_by_the_check_and_no_other() {
    let Some(bench) = Bench::new("check_start") else { return };
    let topic = bench.topic("in", 2, &[]);
    bench.produce((0..10).map(|_| record(&topic, 0, "{}")));
    bench.commit(&bench.prefix, &topic, 4, "");
    let (dir, group) = (&bench.dir, format!("&group={}", bench.prefix));
    for (start, options, status, cause) in [
        ("0:10,1:0", "", 0, ""),
        ("0:11,1:0", "", 65, "/0@11: the partition ends at offset 10, before 11"),
        ("0:11,1:0", "&on_gap=continue", 0, ""),
        ("0:0", "", 2, "start= has no offset for partition 1"),
        ("0:0", "&partitions=0", 0, ""),
        ("0:0,2:0", "", 2, "has no partition 2"),
        // The group has an offset of partition 0.
        ("0:11,1:1", group.as_str(), 65, "/1@1: the partition ends at offset 0, before 1"),
        ("0:11,1:0", group.as_str(), 0, ""),
    ] {
        let uri = bench.uri(&topic, &format!("?start={start}&end=latest{options}"));
        for flags in [&["--check"][..], &[]] {
            let args = [&[uri.as_str(), "-q", "--to", "null:"], flags].concat();
            let run = dir.run("evt-ingest", &args).ends_with(status);
            assert!(run.stderr().contains(cause), "{uri}: {run}");
        }
    }
    let args = |start: &str| {
        let uri = bench.uri(&topic, &format!("?end=latest&start={start}"));
        ["-q".to_owned(), uri, "--checkpoint".to_owned(), "state".to_owned(), "--to".to_owned(), "out.jsonl".to_owned()]
    };
    let run = |start: &str, check: &[&str]| {
        let args = args(start);
        dir.run("evt-ingest", &[&args.iter().map(String::as_str).collect::<Vec<_>>(), check].concat())
    };
    run("0:11,1:0", &["--check"]).ends_with(65);
    run("0:9,1:0", &[]).succeeds();
    run("0:11,1:0", &["--check"]).succeeds();
    run("0:11,1:0", &[]).succeeds();
}

/// Brokers reject these settings in every run, so a unit need not start again.
#[test]
fn settings_that_brokers_reject_are_refused_by_the_check_and_end_a_run_with_the_same_status() {
    let Some(bench) = Bench::new("check_settings") else { return };
    let (input, output) = (bench.topic("in", 1, &[]), bench.topic("out", 1, &[]));
    bench.produce([record(&input, 0, "{\"source\":\"s\",\"event_type\":\"t\"}")]);
    let uri = |options: &str| bench.uri(&input, &format!("?group={}{options}", bench.prefix));
    let short = uri("&rdkafka.session.timeout.ms=5");
    let transactions = bench.uri(&output, "?exactly_once=true&rdkafka.transaction.timeout.ms=2147483647");
    for (input, output, setting) in [
        (&short, "out.jsonl", "session.timeout.ms=5: expected at least 6000, group.min.session.timeout.ms"),
        (&uri(""), &transactions, "transaction.timeout.ms=2147483647: expected at most 900000, transaction.max"),
    ] {
        let args = ["-q", input, "--to", output];
        let check = bench.dir.run("evt-ingest", &[&args[..], &["--check"]].concat()).ends_with(78);
        assert!(check.stderr().contains(setting), "{check}");
        bench.dir.run("evt-ingest", &args).ends_with(78);
    }
    // A run that reads all partitions itself is no member.
    let alone = uri("&rdkafka.session.timeout.ms=5&end=latest");
    for flags in [&["--check"][..], &[]] {
        bench.dir.run("evt-ingest", &[&["-q", &alone, "--to", "alone.jsonl"], flags].concat()).succeeds();
    }
    let timeout = bench.uri(&output, "?rdkafka.delivery.timeout.ms=5");
    bench.dir.run("evt-ingest", &["-q", &alone, "--to", &timeout, "--check"]).ends_with(2);
}

#[test]
fn an_origin_for_several_topics_is_refused_by_the_check_as_by_the_run() {
    let dir = Dir::new("check-origin");
    let topics = "kafka://127.0.0.1:1/a,b?end=latest";
    for (tool, flags) in [("evt-ingest", &["--check"][..]), ("evt-view", &["--check"]), ("evt-ingest", &[])] {
        let args = ["-q", "--origin", "x", topics, "--to", "null:"];
        let args = if tool == "evt-view" { &args[..4] } else { &args };
        let run = dir.run(tool, &[args, flags].concat()).ends_with(2);
        assert!(run.stderr().contains("--origin requires one topic"), "{tool}: {run}");
    }
}
