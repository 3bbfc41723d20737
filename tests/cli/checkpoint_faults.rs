//! `--checkpoint` and faults from outside: a store that loses its rows, processes that are stopped for a while, and a
//! reader that takes no part.

use crate::backfill::cells;
use crate::checkpoint::{METRICS, cut, generated, ordered, stored};
use crate::harness::{Dir, ended, eventually};
use crate::servers::redis;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Starts evt-ingest over followed names, and evt-window behind it.
fn follow(dir: &Dir, ingest: &str, window: &str) -> [Child; 2] {
    let arguments = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut first = dir.command("evt-ingest", &arguments(ingest));
    let mut first = first.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut second = dir.command("evt-window", &arguments(window));
    let second = second.stdin(first.stdout.take().expect("a pipe")).stdout(Stdio::null()).spawn().expect("it starts");
    [first, second]
}

fn signal(stages: &[Child], signal: Signal) {
    stages.iter().for_each(|stage| kill_process(Pid::from_child(stage), signal).expect("it runs"));
}

fn end(mut stages: [Child; 2]) {
    signal(&stages[..1], Signal::TERM);
    stages.iter_mut().for_each(|stage| assert!([0, 1, 143].contains(&ended("a stage", stage))));
}

/// The keys that lead to rows are renewed rarely. After FLUSHALL they are missing, and the run must notice.
#[test]
fn rows_behind_the_loss_of_all_keys_of_redis_are_found_by_readers() {
    let Some((output, server, prefix)) = redis() else { return };
    for checkpoint in ["--dlq null: --checkpoint state --checkpoint-every 50ms", "--dlq null:"] {
        let dir = Dir::new("redis-flushed");
        let events = generated(&dir, 6_000);
        cut(&dir, &events, &[("a.jsonl", 2_000)]);
        let starts = || -> BTreeSet<String> {
            let shown = dir.run("evt-view", &["-q", "-o", "jsonl", &output]);
            shown.rows().iter().map(|row| format!("{}{}", row["window_start"], row["dimensions"])).collect()
        };
        let stages = follow(
            &dir,
            &format!("-q {checkpoint} -f jsonl --follow a.jsonl"),
            &format!("-q --by event_type --size 10s --out-of-orderness 3s --late null: --to {output}"),
        );
        eventually("the first rows are there", || starts().len() > 20);
        let before = starts();
        // The keys of this test only: others use the server, too.
        let delete =
            format!("redis-cli -u '{server}' --scan --pattern '{prefix}*' | xargs -r redis-cli -u '{server}' del");
        // The run may still write rows of the first lines.
        eventually("all keys are gone", || {
            dir.shell(&delete).succeeds();
            starts().is_empty()
        });
        dir.write("a.jsonl", &events);
        eventually("later rows are found", || starts().len() > 60);
        assert!(starts().iter().filter(|start| before.contains(*start)).count() < before.len());
        end(stages);
        dir.shell(&delete).succeeds();
    }
}

/// The rows of one partition come after those of another one, once both processes continue.
#[test]
fn partitions_of_stages_that_were_stopped_are_not_idle() {
    let dir = Dir::new("idle-stopped");
    let event = |file: usize, second: usize| {
        format!(
            "{{\"event_type\":\"t\",\"source\":\"{file}\",\"server_timestamp\":\"2026-01-01T{:02}:{:02}:{:02}Z\"}}\n",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    };
    let events = |file, seconds: std::ops::Range<usize>| seconds.map(|second| event(file, second)).collect::<String>();
    let write = |until| [1, 2].map(|file| dir.write(&format!("{file}.jsonl"), events(file, 0..until)));
    write(60);
    let stages = follow(
        &dir,
        "-q --dlq null: -f jsonl --follow 1.jsonl 2.jsonl",
        "-q --size 10s --out-of-orderness 0s --idle-after 20s --late late.jsonl --to rows.jsonl",
    );
    eventually("windows fire", || dir.path("rows.jsonl").exists() && !dir.bytes("rows.jsonl").is_empty());
    signal(&stages, Signal::STOP);
    write(20_000);
    let start = Instant::now();
    eventually("they are stopped for longer than --idle-after", || start.elapsed() > Duration::from_secs(21));
    signal(&stages, Signal::CONT);
    eventually("the last windows fire", || String::from_utf8_lossy(&dir.bytes("rows.jsonl")).contains("05:33:00"));
    end(stages);
    assert!(!dir.path("late.jsonl").exists() || dir.bytes("late.jsonl").is_empty(), "rows are late");
}

/// What such a program has read and not written is in no epoch, and would be missing after a crash.
#[test]
fn a_source_with_a_checkpoint_writes_no_text_to_another_program() {
    let dir = Dir::new("text-source");
    dir.write("a.jsonl", ordered(0..5));
    let first = "evt-ingest -q --dlq null: --checkpoint state a.jsonl";
    for format in ["jsonl", "csv"] {
        let said = dir.shell(&format!("{first} -o {format} | cat")).ends_with(2).stderr();
        assert!(said.contains("expected frames into a pipe (without -o), found text; name a file with --to"), "{said}");
        assert!(!dir.path("state").exists());
    }
    dir.shell(&format!("{first} -o jsonl > rows.jsonl")).succeeds();
    assert_eq!(dir.rows("rows.jsonl").len(), 75);
}

/// Ingest, validate, window and sink append their dead letters to one file.
#[test]
fn four_stages_share_the_dead_letters_of_evt_dlq() {
    let dir = Dir::new("shared-dlq");
    dir.write("a.jsonl", generated(&dir, 4_000));
    dir.write("m.toml", METRICS);
    let ids = |name: &str| {
        let mut ids: Vec<String> = dir.rows(name).iter().map(|row| row["letter_id"].to_string()).collect();
        ids.sort();
        ids
    };
    let pipe = |dlq: &str, checkpoint: &str| {
        dir.shell(&format!(
            "export EVT_DLQ={dlq}; evt-ingest -q {checkpoint} a.jsonl | evt-validate -q --dedup 10m \
             | evt-window -q -m m.toml --late null: --at-end fire | evt-sink -q --to {dlq}.out.jsonl"
        ))
        .succeeds();
    };
    pipe("calm.jsonl", "");
    pipe("dead.jsonl", "--checkpoint state --checkpoint-every 20ms");
    pipe("dead.jsonl", "--checkpoint state --checkpoint-every 20ms");
    assert!(ids("dead.jsonl").len() > 20 && ids("dead.jsonl") == ids("calm.jsonl"));
}

/// Their checkpoints have ids of their own, so the epochs and the rows of one do not stand for those of the other.
#[test]
fn two_pipelines_of_the_default_name_share_a_database() {
    let dir = Dir::new("shared-database");
    let events = generated(&dir, 4_000);
    dir.write("m.toml", "[[metric]]\nname = \"one\"\nby = [\"event_type\"]\nsize = \"10s\"");
    dir.write("other.toml", "[[metric]]\nname = \"two\"\nby = [\"user_id\"]\nsize = \"30s\"");
    cut(&dir, &events, &[("a.jsonl", 2_000), ("b.jsonl", 2_000)]);
    let run = |state: &str, metrics: &str, file: &str, store: &str| {
        let flags = ["-q", "--checkpoint", state, "-m", metrics, "--dlq", "null:", "--late", "null:", "--to", store];
        dir.run("evt-window", &[&flags[..], &["--out-of-orderness", "3s", file]].concat()).succeeds();
    };
    let mut expected = vec![];
    for (state, metrics, store) in [("state-1", "m.toml", "sqlite:m.db"), ("state-2", "other.toml", "sqlite:m.db")] {
        let _ = std::fs::remove_file(dir.path("m.db"));
        ["a.jsonl", "b.jsonl"].iter().for_each(|file| run(&format!("calm-{state}"), metrics, file, store));
        expected.extend(stored(&dir));
    }
    expected.sort();
    std::fs::remove_file(dir.path("m.db")).expect("removed");
    for file in ["a.jsonl", "b.jsonl"] {
        run("state-1", "m.toml", file, "sqlite:m.db");
        run("state-2", "other.toml", file, "sqlite:m.db");
    }
    assert!(expected.len() > 50 && stored(&dir) == expected);
    let db = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
    let outputs: i64 =
        db.query_row("SELECT count(DISTINCT output) FROM checkpoint_epochs", [], |row| row.get(0)).expect("a row");
    assert_eq!(outputs, 2);
}

/// The second file holds what the first one lacks, so most of its events are late for the job.
#[test]
fn a_job_of_cron_equals_one_run_once_evt_backfill_has_its_late_events() {
    let dir = Dir::new("cron-backfill");
    let events = dir.run("evt-gen", &["--events", "4000", "--rate", "20", "--seed", "5", "-q"]).succeeds().text();
    dir.write(
        "m.toml",
        "[[metric]]\nname = \"events\"\nby = [\"event_type\"]\nsize = \"10s\"\n[[metric]]\nname = \"amount\"\n\
         aggregate = \"sum(amount)\"\nsize = \"1m\"\nslide = \"20s\"",
    );
    for (at, name) in ["a.jsonl", "b.jsonl"].into_iter().enumerate() {
        let half: String = events.lines().skip(at).step_by(2).map(|line| format!("{line}\n")).collect();
        dir.write(name, half);
    }
    let fixed = "evt-window -q -m m.toml --dlq null: --out-of-orderness";
    // No event is late for the one run.
    dir.shell(&format!("{fixed} 1h --late null: --at-end fire --to sqlite:one.db a.jsonl b.jsonl")).succeeds();
    // evt-backfill takes these 3s from the store, so events that are late for some windows only must be in the stream.
    let job = format!("{fixed} 3s --checkpoint state --late late.jsonl --late-partial --to sqlite:m.db");
    dir.shell(&format!("{job} a.jsonl && {job} b.jsonl && {job} --at-end fire /dev/null")).succeeds();
    let expected = cells(&dir, "sqlite:one.db");
    assert!(dir.rows("late.jsonl").len() > 1_000 && expected.len() > 50);
    assert!(cells(&dir, "sqlite:m.db") != expected);
    dir.shell("evt-backfill -q a.jsonl b.jsonl -m m.toml --late-events late.jsonl --to sqlite:m.db").succeeds();
    assert!(cells(&dir, "sqlite:m.db") == expected);
}
