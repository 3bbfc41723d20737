//! `--checkpoint`: runs that other runs have replaced commit nothing.

use crate::bucket::CheckpointLocation;
use crate::checkpoint::{cut, generated, lines};
use crate::harness::{Dir, ended, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;

/// The number of an old run's next entry is free again once later runs have removed older entries. The entry `start` of
/// the newest run is all that the old run can see of them.
#[test]
fn an_old_run_whose_next_entry_was_removed_commits_nothing() {
    let dir = Dir::new("old-run-entries");
    let place = CheckpointLocation::directory(&dir);
    let events = generated(&dir, 2_000);
    cut(&dir, &events, &[("a.jsonl", 1_000)]);
    let flags = "-q --dlq null: --checkpoint state --checkpoint-every 20ms -f jsonl --follow a.jsonl --to rows.jsonl";
    let mut old = dir.command("evt-ingest", &flags.split(' ').collect::<Vec<_>>());
    let mut old = old.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    eventually("the first rows are there", || {
        dir.path("rows.jsonl").exists() && lines(&dir, "rows.jsonl").len() > 900 && place.entries() >= 2
    });
    kill_process(Pid::from_child(&old), Signal::STOP).expect("stopped");
    let before = dir.bytes("rows.jsonl");
    dir.write(
        "state/log/950",
        String::from_utf8_lossy(&dir.bytes("state/log/1")).replace("null", r#"{"run":1,"number":1}"#),
    );
    dir.write("a.jsonl", &events);
    kill_process(Pid::from_child(&old), Signal::CONT).expect("continued");
    assert_eq!(ended("the old run", &mut old), 75);
    assert!(dir.bytes("rows.jsonl") == before, "the old run has written rows");
}
