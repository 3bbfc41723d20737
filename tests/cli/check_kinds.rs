//! What needs no row and no server: `--check` and the run refuse outputs for rows of another kind, inputs that the tool
//! does not read and targets of metrics alike.

use crate::harness::Dir;
use crate::services::EVENT;
use std::net::TcpListener;

const RULES: &str =
    "[[rule]]\nname = \"a\"\naggregate = \"count(*)\"\ncondition = \"gt\"\nthreshold = 1\nwindow_seconds = 60\n";

/// Redis holds metrics and alerts. No server is needed to refuse other kinds: nothing listens at the address.
#[test]
fn a_check_refuses_an_output_for_rows_of_another_kind_as_the_run_does() {
    let redis = "'redis://127.0.0.1:1/0?retry=100ms'";
    let dir = Dir::new("check-kinds");
    dir.write("e.jsonl", format!("{EVENT}\nno JSON\n"));
    dir.write("rules.toml", RULES);
    dir.shell("evt-ingest -q e.jsonl --dlq dead.jsonl --to sqlite:e.db").succeeds();
    let known = [
        ("evt-ingest http://127.0.0.1:0 --spool spool --dlq null: --to REDIS", "event"),
        ("evt-ingest http://127.0.0.1:0 --ack memory --dlq null: --to REDIS", "event"),
        ("evt-ingest e.jsonl --kind event --dlq null: --to REDIS", "event"),
        ("evt-ingest e.jsonl --to null: --dlq REDIS", "dead"),
        ("evt-sink e.jsonl --kind event --dlq null: --to REDIS", "event"),
        ("evt-sink 'sqlite:e.db?table=raw_events' --dlq null: --to REDIS", "event"),
        ("evt-view 'sqlite:e.db?table=raw_events' --to REDIS", "event"),
        ("evt-view dead.jsonl --kind dead --to REDIS", "dead"),
        ("evt-validate e.jsonl --dlq null: --to REDIS", "event"),
        ("evt-validate e.jsonl --dlq null: --to null: --dedup 1h --duplicates REDIS", "event"),
        ("evt-window e.jsonl --size 1m --dlq null: --to null: --late REDIS", "late"),
        ("evt-alert e.jsonl --rules rules.toml --state a.db --once --to null: --dlq REDIS", "dead"),
        ("evt-replay dead.jsonl --ledger sqlite:l.db --to REDIS", "event"),
    ];
    for (line, kind) in known {
        let line = line.replace("REDIS", redis);
        for line in [format!("{line} --check"), line] {
            let run = dir.shell(&line).ends_with(2);
            assert!(run.stderr().contains(&format!("expected rows of kind metric, alert, found {kind}")), "{run}");
        }
    }
    assert!(!dir.path("spool").exists() && !dir.path("l.db").exists());
    // Rows of these kinds, and of kinds that the first row decides, need the server, which is away.
    let right = [
        "evt-window e.jsonl --size 1m --dlq null: --late null: --to REDIS",
        "evt-alert e.jsonl --rules rules.toml --state a.db --once --dlq null: --to REDIS",
        "evt-sink e.jsonl --dlq null: --to REDIS",
        "evt-sink e.jsonl --kind metric --dlq null: --to REDIS",
    ];
    for line in right {
        let run = dir.shell(&format!("{} --check", line.replace("REDIS", redis))).ends_with(69);
        assert!(!run.stderr().contains("expected rows"), "{run}");
    }
}

#[test]
fn a_check_finds_that_a_lake_holds_rows_of_another_kind_as_the_run_does() {
    let dir = Dir::new("check-lakes");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    dir.shell("evt-sink -q e.jsonl --to parquet:events").succeeds();
    for line in [
        "evt-window -q e.jsonl --size 1m --late null: --to parquet:events",
        "evt-window -q e.jsonl --size 1m --to null: --late parquet:events",
        "evt-sink -q e.jsonl --to null: --dlq parquet:events",
    ] {
        let run = dir.shell(&format!("{line} --check")).ends_with(2);
        assert!(run.stderr().contains("found raw_events; use another directory"), "{run}");
    }
    dir.shell("evt-window -q e.jsonl --size 1m --late null: --to parquet:events").ends_with(2);
    dir.shell("evt-sink -q e.jsonl --to parquet:events --check").succeeds();
}

/// A chart holds metrics. A chart of other rows is refused whether or not there is a row for it.
#[test]
fn a_check_refuses_a_chart_of_rows_of_another_kind_as_the_run_does() {
    let dir = Dir::new("check-charts");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    dir.write("rules.toml", RULES);
    for (line, kind) in [
        ("evt-window e.jsonl --size 1m --to null: --late c.svg", "late"),
        ("evt-validate e.jsonl --to c.svg", "event"),
        ("evt-validate e.jsonl --to null: --dlq c.svg", "dead"),
        ("evt-sink e.jsonl --kind event --to c.svg", "event"),
        ("evt-sink e.jsonl --kind event -o svg", "event"),
        ("evt-alert e.jsonl --rules rules.toml --to c.svg", "alert"),
    ] {
        for line in [format!("{line} --check"), line.to_owned()] {
            let run = dir.shell(&line).ends_with(2);
            assert!(run.stderr().contains(&format!("svg draws rows of kind metric over time, found {kind}")), "{run}");
        }
    }
    assert!(!dir.path("c.svg").exists());
    dir.shell("evt-window e.jsonl --size 1m --late null: --to c.svg --check").succeeds();
    dir.shell("evt-sink e.jsonl --to c.svg --check").succeeds();
}

#[test]
fn a_check_refuses_inputs_that_the_tool_does_not_read_as_the_run_does() {
    let dir = Dir::new("check-inputs");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    dir.write("empty.toml", "");
    dir.shell("evt-ingest -q e.jsonl --to sqlite:s.db").succeeds();
    dir.shell("evt-window -q e.jsonl --size 1m --late null: --to sqlite:s.db").succeeds();
    dir.shell("evt-window -q e.jsonl --size 1m --late null: --to parquet:lake").succeeds();
    for (line, status, cause) in [
        ("evt-alert e.jsonl --rules empty.toml", 78, "empty.toml: expected at least one rule that can be used"),
        ("evt-view http://127.0.0.1:0", 2, "a listener requires evt-ingest"),
        ("evt-sink http://127.0.0.1:0 --to null:", 2, "a listener requires evt-ingest"),
        ("evt-window http://127.0.0.1:0 --size 1m --to null:", 2, "a listener requires evt-ingest"),
        ("evt-validate http://127.0.0.1:0 --to null:", 2, "a listener requires evt-ingest"),
        ("evt-view 'sqlite:s.db?table=nosuch'", 2, "unknown table; expected raw_events"),
        ("evt-view 'sqlite:s.db?table=checkpoint_epochs'", 2, "evt keeps table checkpoint_epochs for itself"),
        ("evt-sink sqlite:s.db --to null:", 2, "choose a table with ?table=NAME"),
        ("evt-view 'parquet:lake?table=raw_events'", 2, "expected raw_events, found aggregated_metrics"),
        ("evt-window 'sqlite:s.db?table=aggregated_metrics' --size 1m --to s.jsonl", 2, "expected events, found rows"),
        ("evt-window parquet:lake --size 1m --to s.jsonl", 2, "expected events, found rows of kind metric"),
        ("evt-window e.jsonl --kind metric --size 1m --to s.jsonl", 2, "expected events, found rows of kind metric"),
        ("evt-validate 'sqlite:s.db?table=aggregated_metrics' --to null:", 2, "expected events, found rows of kind"),
    ] {
        for line in [format!("{line} --check"), line.to_owned()] {
            let run = dir.shell(&line).ends_with(status);
            assert!(run.stderr().contains(cause), "{run}");
        }
    }
    for line in [
        "evt-view sqlite:s.db",
        "evt-view 'sqlite:s.db?table=raw_events'",
        "evt-view parquet:lake",
        "evt-window 'sqlite:s.db?table=raw_events' --size 1m --to s.jsonl",
        "evt-reconcile e.jsonl 'sqlite:s.db?table=raw_events'",
    ] {
        dir.shell(&format!("{line} --check")).succeeds();
    }
}

#[test]
fn a_check_finds_that_metrics_cannot_be_served_as_the_run_does() {
    let dir = Dir::new("check-metrics");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    // Nobody has an address of a network for documentation (RFC 5737).
    for address in [format!(":{port}"), "192.0.2.1:0".to_owned()] {
        for check in [&["--check"][..], &[]] {
            let args = [&["e.jsonl", "--to", "null:", "--prometheus", &address], check].concat();
            let run = dir.run("evt-sink", &args).ends_with(74);
            assert!(run.stderr().contains("--prometheus "), "{run}");
        }
    }
    drop(taken);
    let input = format!("http://127.0.0.1:{port}");
    for check in [&["--check"][..], &[]] {
        let flags = ["--ack", "memory", "--dlq", "null:", "--to", "null:", "--prometheus", &format!(":{port}")];
        let run = dir.run("evt-ingest", &[&[input.as_str()], &flags[..], check].concat()).ends_with(74);
        assert!(run.stderr().contains(&format!("{input}: ")), "{run}");
    }
    dir.run("evt-sink", &["e.jsonl", "--to", "null:", "--prometheus", ":0", "--check"]).succeeds();
}

#[test]
fn an_impossible_port_for_metrics_is_not_the_name_of_a_file() {
    let dir = Dir::new("metrics-port");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    for target in [":99999", "127.0.0.1:65536", "localhost:184467440737095516160"] {
        let run = dir.run("evt-sink", &["e.jsonl", "--to", "null:", "--prometheus", target]).ends_with(2);
        assert!(run.stderr().contains("expected a port of at most 65535"), "{run}");
        assert!(!dir.path(target).exists());
    }
    dir.run("evt-sink", &["-q", "e.jsonl", "--to", "null:", "--prometheus", "./:99999"]).succeeds();
    assert!(dir.path(":99999").exists());
}
