//! `--checkpoint`: runs that other runs have replaced commit nothing.

use crate::broker::Bench;
use crate::bucket::CheckpointLocation;
use crate::checkpoint::{Job, OUTPUTS, assert_same, cut, generated, holds_a_lock, lines};
use crate::checkpoint_pipes::Pipe;
use crate::harness::{Dir, ended, eventually, suspend};
use crate::kafka::record;
use crate::memory::{self, METRICS};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::io::Write;
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
    let rows = dir.run("evt-ingest", &["-q", "--dlq", "null:", "a.jsonl", "-o", "jsonl"]).text().lines().count();
    // An epoch whose rows are all written is complete: the old run may write none of it again.
    eventually("the first rows are there", || {
        dir.path("rows.jsonl").exists() && lines(&dir, "rows.jsonl").len() == rows && place.entries() >= 2
    });
    suspend(&old);
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

/// An old run that ends removes its files of state. The newest run has restored the same ones.
#[test]
fn an_old_run_that_wakes_up_leaves_the_newest_one_its_files_of_state() {
    let dir = Dir::new("old-run-state");
    let place = CheckpointLocation::directory(&dir);
    let events = memory::generated(&dir, "60000");
    let first = memchr::memchr_iter(b'\n', &events).nth(40_000).expect("a line") + 1;
    // Windows that do not fire keep the files.
    dir.write("m.toml", METRICS.replace("\"1h\"", "\"1d\""));
    dir.write("a.jsonl", &events[..first]);
    let stage = |tool: &'static str, flags: &str| (tool, flags.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let read = "-q --dlq null: --checkpoint state --checkpoint-every 20ms -f jsonl --follow a.jsonl";
    let window = "-q -m m.toml --out-of-orderness 30s --memory 8MiB --late null: --to null:";
    let stages = [stage("evt-ingest", read), stage("evt-window", window)];
    // Whether an epoch of a run has a file of state of run `of`.
    let has_file = |run: usize, of: usize| {
        let log = dir.shell("cat state/log/* 2>&1 || true").text();
        let (epoch, file) = (format!("\"epoch\":{{\"run\":{run},"), format!("\"state-{of}-"));
        log.lines().any(|entry| entry.contains(&epoch) && entry.contains(&file))
    };
    // Whether the last epoch has a file of state of the first run. It starts no process: the run needs the CPU.
    let last_has_file = || {
        let entries = std::fs::read_dir(dir.path("state/log")).into_iter().flatten().flatten();
        let last = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok()).max();
        let entry = last.and_then(|number| std::fs::read_to_string(dir.path(&format!("state/log/{number}"))).ok());
        entry.is_some_and(|entry| entry.contains("\"state-1-"))
    };
    let said = || String::from_utf8_lossy(&[dir.bytes("stderr-0"), dir.bytes("stderr-1")].concat()).into_owned();
    let mut old = Pipe::start(&dir, &stages);
    eventually("it is stopped when its last epoch has a file of state", || {
        if !last_has_file() {
            return false;
        }
        (0..2).for_each(|stage| old.signal(stage, Signal::STOP));
        eventually("its stages have stopped", || old.is_stopped());
        let has_file = last_has_file();
        if !has_file {
            (0..2).for_each(|stage| old.signal(stage, Signal::CONT));
        }
        has_file
    });
    let newest = place.entries() + 1;
    let mut new = Pipe::start(&dir, &stages);
    eventually("the new run needs a file of the old one", || has_file(newest, 1));
    (0..2).for_each(|stage| old.signal(stage, Signal::CONT));
    let of_old = old.wait();
    assert!(of_old.contains(&75), "{of_old:?}: {}", said());
    let before = place.entries();
    let mut file = OpenOptions::new().append(true).open(dir.path("a.jsonl")).expect("writable");
    file.write_all(&events[first..]).expect("writable");
    eventually("the new run continues", || place.entries() > before + 1 || new.has_ended());
    // The last stage first: none ends before it gets its signal.
    (0..2).rev().for_each(|stage| new.signal(stage, Signal::TERM));
    assert_eq!(new.wait(), [143; 2], "{}", said());
    let before = place.entries();
    let mut next = Pipe::start(&dir, &stages);
    eventually("a later run restores the state", || place.entries() > before + 1 || next.has_ended());
    (0..2).rev().for_each(|stage| next.signal(stage, Signal::TERM));
    assert_eq!(next.wait(), [143; 2], "{}", said());
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
            suspend(&old);
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
