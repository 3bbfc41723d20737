//! `--checkpoint`: runs that other runs have replaced commit nothing.

use crate::broker::Bench;
use crate::bucket::CheckpointLocation;
use crate::checkpoint::{Job, OUTPUTS, assert_same, cut, generated, holds_a_lock, lines};
use crate::harness::{Dir, ended, eventually, is_stopped};
use crate::kafka::record;
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;

/// Makes a topic of one partition with events of the generator. Old runs read it without an end, so that none has ended
/// before it is stopped.
pub fn topic_with_events(bench: &Bench, count: u64) -> String {
    let topic = bench.topic("in", 1, &[]);
    let text = String::from_utf8_lossy(&generated(&bench.dir, count)).into_owned();
    bench.produce(text.lines().map(|line| record(&topic, 0, line)));
    topic
}

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

/// A run that was stopped (SIGSTOP) while a newer one took over commits nothing after it wakes up.
#[test]
fn an_old_run_that_wakes_up_is_fenced() {
    let Some(bench) = Bench::new("zombie") else { return };
    let topic = topic_with_events(&bench, 60_000);
    let (endless, whole) = (bench.uri(&topic, ""), bench.uri(&topic, "?end=latest"));
    let to_the_end = ["-q", "--emit", "final", "--at-end", "fire", &whole];
    let calm = Job::new("zombie-calm", &OUTPUTS);
    calm.run(&to_the_end).succeeds();
    for job in Job::in_all_places("zombie", &OUTPUTS) {
        let mut old = job.start(&["-q", "--emit", "final", "--checkpoint-every", "1ms", &endless]);
        eventually("an epoch is complete", || job.place.entries() >= 4);
        eventually("it is stopped while it holds no lock", || {
            kill_process(Pid::from_child(&old), Signal::STOP).expect("stopped");
            eventually("no thread runs", || is_stopped(&old));
            let is_free = !holds_a_lock(&job.dir);
            if !is_free {
                kill_process(Pid::from_child(&old), Signal::CONT).expect("continued");
            }
            is_free
        });
        job.run(&to_the_end).succeeds();
        let after = job.results();
        kill_process(Pid::from_child(&old), Signal::CONT).expect("continued");
        assert_eq!(ended("the old run", &mut old), 75);
        assert_same(&job.results(), &after, "after the old run");
        assert_same(&after, &calm.results(), "after the new run");
    }
}
