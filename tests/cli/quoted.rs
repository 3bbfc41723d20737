//! What messages show of the command line: no password of a mistyped URI, a part of a long expression; and what `-q`
//! suppresses.

use crate::harness::{Dir, ended, eventually};
use crate::services::EVENT;
use evt::tool;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::process::Stdio;

/// A password with a part that no message may show.
const PASSWORD: &str = "s3cret-7";

/// Asserts that no password of a URI is shown where no URI is expected: in a variable of any flag, or in a file.
#[track_caller]
fn is_hidden_elsewhere(dir: &Dir, uri: &str) {
    for flag in ["STATS", "PROMETHEUS", "MAX_RECORD", "CONFIG"] {
        let mut command = dir.command("evt-sink", &["e.jsonl", "--to", "null:"]);
        let run = crate::harness::Run::of(command.env(format!("EVT_{flag}"), uri).stdin(Stdio::null()));
        assert!(!run.stderr().contains(PASSWORD), "{flag}: {run}");
    }
    for line in [format!("stats = '{uri}'"), format!("max-record = '{uri}'"), format!("\"{uri}\" = 1")] {
        dir.write("evt.toml", &line);
        let run = dir.shell("evt-sink e.jsonl --to null: --config evt.toml");
        assert!(run.status() != 0 && !run.stderr().contains(PASSWORD), "{run}");
    }
}

#[test]
fn no_message_shows_the_password_of_a_uri_that_is_mistyped() {
    let dir = Dir::new("mistyped");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    dir.write("m.toml", "[[metric]]\nname = \"n\"\nsize = \"1m\"\n");
    dir.write(
        "rules.toml",
        "[[rule]]\nname = \"a\"\naggregate = \"count(*)\"\ncondition = \"gt\"\nthreshold = 1\nwindow_seconds = 60\n",
    );
    let uris = [
        format!("postgrez://u:{PASSWORD}@127.0.0.1:1/evt"),
        format!("Postgres://u:{PASSWORD}@127.0.0.1:1/evt"),
        format!("htttp://u:{PASSWORD}@127.0.0.1:1"),
        format!("postgres:/u:{PASSWORD}@127.0.0.1:1/evt?retry=1ms"),
        format!("kafka://u:{PASSWORD}@127.0.0.1:1/t"),
        format!("http://u:{PASSWORD}@127.0.0.1:1?retry=1ms"),
        format!("s4://u:{PASSWORD}@127.0.0.1:1/b"),
        format!("redis://u:a?{PASSWORD}@127.0.0.1:1/0"),
        format!("postgres://u:a?b&{PASSWORD}=1@127.0.0.1:1/evt"),
        format!("postgres://u:1?{PASSWORD}@127.0.0.1:1/evt"),
        format!("http://u:a?{PASSWORD}@127.0.0.1:1"),
        format!("kafka://u:a/b?{PASSWORD}@127.0.0.1:1/t"),
        format!("rediss://u:a?timeout={PASSWORD}@127.0.0.1:1/0"),
        format!("kafk://h/t?wait=1s,rdkafka.sasl.password={PASSWORD}"),
        format!("htp://127.0.0.1:1/x?retry=1s,token={PASSWORD},other"),
    ];
    let flags = [
        "evt-ingest e.jsonl --dlq null: --to URI",
        "evt-ingest e.jsonl --dlq null: --to=URI",
        "evt-ingest e.jsonl --to null: --dlq URI",
        "evt-ingest URI --to null: --ack memory --check",
        "evt-view URI",
        "evt-sink e.jsonl --check --to URI",
        "evt-window e.jsonl --size 1m --late URI --to null:",
        "evt-window e.jsonl --size 1m --late null: --to null: --checkpoint URI --check",
        "evt-validate e.jsonl --check --to null: --schemas URI",
        "evt-validate e.jsonl --to null: --dedup 1h --duplicates URI",
        "evt-alert e.jsonl --rules URI --state a.db --once",
        "evt-alert e.jsonl --rules rules.toml --state URI --once --check",
        "evt-backfill e.jsonl -m m.toml --all-closed --to URI --check",
        "evt-replay e.jsonl --ledger URI --to null: --check",
        "evt-reconcile e.jsonl URI --plus URI",
        "evt-schema list --check --schemas URI",
        "evt-gen URI",
        "evt-sink e.jsonl --no-such URI",
        "evt-sink e.jsonl --stats URI --to null:",
        "evt-sink e.jsonl --prometheus URI --to null:",
    ];
    for uri in &uris {
        for line in flags {
            let run = dir.shell(&line.replace("URI", &format!("'{uri}'")));
            let said = format!("{}{}", run.stderr(), run.text());
            assert!(!said.contains(PASSWORD), "{run}");
        }
        // With JSON, and from the environment.
        let mut command = dir.command("evt-sink", &["e.jsonl", "--log-format", "json", "--check"]);
        let run = crate::harness::Run::of(command.env("EVT_TO", uri).stdin(Stdio::null()));
        assert!(run.status() != 0 && !run.stderr().contains(PASSWORD), "{run}");
        is_hidden_elsewhere(&dir, uri);
    }
    let told = "postgrez://u:***@127.0.0.1:1/evt: postgrez: is an unknown scheme";
    let run = dir.shell(&format!("evt-sink e.jsonl --to '{}'", uris[0])).ends_with(2);
    assert!(run.stderr().contains(told), "{run}");
    let run = dir.shell(&format!("evt-sink e.jsonl --to '{}'", uris[7])).ends_with(2);
    assert!(run.stderr().contains("redis: expected %3F for ? in a password, or {file:PATH}, found ?"), "{run}");
}

#[test]
fn a_message_shows_a_part_of_a_long_expression_and_the_place_of_its_fault() {
    let dir = Dir::new("long-expressions");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    let many = "abc + ".repeat(400);
    let faults = [
        format!("{many} ) = here"),
        format!("{many} here here"),
        format!("{}1{} = 2", "(".repeat(30_000), ")".repeat(30_000)),
        format!("'{}' here", "long ".repeat(5_000)),
        format!("nosuch('{}')", "long ".repeat(5_000)),
        format!("\"{}\"(1) = 2", "n".repeat(9_000)),
        format!("x = '{}", "open ".repeat(5_000)),
        format!("x in ({}", "1, ".repeat(3_000)),
        format!("x::{} = 2", "t".repeat(9_000)),
        format!("cast(x as {}) = 2", "t".repeat(9_000)),
        format!("a[{}] = 2", "b".repeat(9_000)),
        format!("{} and 'x'", many.replace("abc + ", "abc and ") + "abc"),
    ];
    for fault in &faults {
        dir.write("m.toml", format!("[[metric]]\nname = \"n\"\nsize = \"1m\"\nwhere = '''{fault}'''\n"));
        dir.write(
            "r.toml",
            format!("[[rule]]\nname = \"a\"\naggregate = \"count(*)\"\ncondition = \"gt\"\nthreshold = 1\nwindow_seconds = 60\nwhere = '''{fault}'''\n"),
        );
        let runs = [
            dir.run("evt-ingest", &["e.jsonl", "--to", "null:", "--where", fault]),
            dir.run("evt-ingest", &["e.jsonl", "--to", "null:", "--let", &format!("x={fault}")]),
            dir.run("evt-view", &["e.jsonl", "--where", fault]),
            dir.run("evt-window", &["e.jsonl", "--size", "1m", "--late", "null:", "--agg", &format!("sum({fault})")]),
            dir.run("evt-window", &["e.jsonl", "--size", "1m", "--late", "null:", "--by", fault]),
            dir.run("evt-window", &["e.jsonl", "-m", "m.toml", "--late", "null:"]),
            dir.run("evt-alert", &["e.jsonl", "--rules", "r.toml", "--state", "a.db", "--once"]),
            dir.run("evt-replay", &["e.jsonl", "--ledger", "sqlite:l.db", "--to", "o.jsonl", "--patch", fault]),
        ];
        for run in runs {
            assert!(run.status() != 0, "{run}");
            let longest = run.stderr().lines().map(str::len).max().unwrap_or(0);
            assert!(longest < 1200, "{longest}: {run}");
        }
    }
    // The part that is shown has the fault.
    let run = dir.run("evt-ingest", &["e.jsonl", "--to", "null:", "--where", &faults[0]]).ends_with(78);
    assert!(run.stderr().contains("expression `…") && run.stderr().contains(") = here`: "), "{run}");
    assert!(run.stderr().contains("at column 2402"), "{run}");
    let run = dir.run("evt-ingest", &["e.jsonl", "--to", "null:", "--where", "1 +"]).ends_with(78);
    assert!(run.stderr().contains("expression `1 +`: "), "{run}");
}

#[test]
fn a_switch_may_be_given_twice_in_every_tool() {
    let dir = Dir::new("twice");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    for tool in tool::ALL {
        let command = (tool.command)();
        let switches = command.get_arguments().filter(|arg| matches!(arg.get_action(), clap::ArgAction::SetTrue));
        for switch in switches.filter_map(|arg| arg.get_long()) {
            let flag = format!("--{switch}");
            let run = dir.run(tool.name, &[&flag, &flag, "--no-such-flag"]).ends_with(2);
            assert!(!run.stderr().contains("multiple times"), "{run}");
        }
    }
    let run = dir.shell("evt-ingest -q -q --quiet e.jsonl --to null: --dlq null:").succeeds();
    assert_eq!(run.stderr(), "");
    dir.shell("evt-schema -q list -q --schemas .").succeeds();
    // Two values may differ.
    dir.shell("evt-window e.jsonl --size 1m --size 2m").ends_with(2);
}

#[test]
fn quiet_suppresses_what_follow_says_about_files_that_were_rotated() {
    let dir = Dir::new("quiet-follow");
    let line = |number: u32| EVENT.replace("000000000001", &format!("{number:012}"));
    for (flags, says) in [("-q", false), ("", true)] {
        dir.shell("rm -rf ck *.jsonl* a.log*").succeeds();
        dir.write("a.log", format!("{}\n", line(1)));
        let run = |log: &str, wanted: usize| {
            let line = format!(
                "--follow a.log -f jsonl --dlq null: --checkpoint ck --checkpoint-every 20ms --to o.jsonl {flags}"
            );
            let mut command = dir.command("evt-ingest", &line.split_whitespace().collect::<Vec<_>>());
            let stderr = File::create(dir.path(log)).expect("writable");
            let mut run = command.stdin(Stdio::null()).stderr(stderr).spawn().expect("it starts");
            let rows =
                || dir.path("o.jsonl").exists().then(|| dir.bytes("o.jsonl").split(|byte| *byte == b'\n').count());
            eventually("the rows are written", || rows() == Some(wanted + 1));
            kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
            assert_eq!(ended("the run", &mut run), 143);
            String::from_utf8_lossy(&dir.bytes(log)).into_owned()
        };
        run("1.log", 1);
        // Rotated while no run reads, and the old file has grown.
        std::fs::rename(dir.path("a.log"), dir.path("a.log.1")).expect("renamed");
        dir.write("a.log.1", format!("{}\n{}\n", line(1), line(2)));
        dir.write("a.log", format!("{}\n", line(3)));
        let said = run("2.log", 3);
        assert_eq!(said.contains("a.log.1 on from line 2"), says, "{said}");
        assert_eq!(said.is_empty(), !says, "{said}");
        // A loss is said anyway: the file that was read is gone.
        std::fs::rename(dir.path("a.log"), dir.path("gone")).expect("renamed");
        dir.shell("mkdir -p elsewhere; mv gone elsewhere").succeeds();
        dir.write("a.log", format!("{}\n", line(4)));
        let said = run("3.log", 4);
        assert!(said.contains("is gone; records may be lost"), "{said}");
    }
}
