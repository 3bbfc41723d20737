//! One signal ends a tool whose standard input has not begun.

use crate::harness::{Dir, ended, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Whether the process handles SIGTERM.
fn handles_signals(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
    u64::from_str_radix(caught.trim(), 16).expect("a number") & 1 << (Signal::TERM.as_raw() - 1) != 0
}

#[test]
fn a_signal_ends_every_tool_whose_standard_input_is_silent() {
    let dir = Dir::new("silent-input");
    dir.write("in.jsonl", "{\"source\":\"s\",\"event_type\":\"t\",\"event_time\":\"2026-01-01T00:00:00Z\"}\n");
    dir.write("m.toml", "[[metric]]\nname = \"m\"\naggregate = \"count(*)\"\nsize = \"1m\"\n");
    let rule = "{\"rule\":[{\"name\":\"r\",\"aggregate\":\"count(*)\",\"condition\":\"gt\",\"threshold\":0,";
    dir.write("rules.json", format!("{rule}\"window_seconds\":60}}]}}"));
    dir.shell("mkdir schemas && evt-window -q -m m.toml in.jsonl --to sqlite:m.db").succeeds();
    let cases: [(&str, &[&str]); 15] = [
        ("evt-ingest", &["--to", "null:"]),
        ("evt-validate", &["--schemas", "schemas", "--to", "null:"]),
        ("evt-window", &["-m", "m.toml", "--to", "null:"]),
        ("evt-sink", &["--to", "sqlite:s.db"]),
        ("evt-sink", &["--to", "parquet:lake"]),
        ("evt-alert", &["--rules", "rules.json"]),
        ("evt-alert", &["--once", "--rules", "rules.json", "--state", "alerts.db"]),
        ("evt-backfill", &["-m", "m.toml", "--to", "sqlite:m.db"]),
        ("evt-replay", &["-", "--to", "again.jsonl", "--ledger", "ledger.db"]),
        ("evt-reconcile", &["-", "in.jsonl"]),
        ("evt-reconcile", &["in.jsonl", "-"]),
        ("evt-schema", &["check", "-", "--against", "in.jsonl"]),
        ("evt-view", &[]),
        ("evt-view", &["-f", "frames", "--tail", "3"]),
        ("evt-view", &["-f", "parquet"]),
    ];
    let mut runs = vec![];
    for (tool, args) in cases {
        let mut command = dir.command(tool, args);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        runs.push((tool, args, child.expect("it starts")));
    }
    eventually("all have begun", || runs.iter().all(|(.., child)| handles_signals(child)));
    let start = Instant::now();
    for (.., child) in &runs {
        kill_process(Pid::from_child(child), Signal::TERM).expect("it runs");
    }
    for (tool, args, child) in &mut runs {
        // Waiting for it would close its input.
        assert_eq!(ended(&format!("{tool} {args:?} ends"), child), 143, "{tool} {args:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
