//! A lake as an output with a checkpoint: locked for commits only, and `?roll=` joins epochs before they show.

use crate::broker::Bench;
use crate::checkpoint::{Job, cut, generated, ordered, run_with_kills, shown};
use crate::checkpoint_old_runs::topic_with_events;
use crate::harness::{Dir, Draws, Run, ended, eventually, suspend};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::process::Child;

const FLAGS: [&str; 4] = ["--late", "null:", "--dlq", "null:"];

/// Stops a process at a moment at which it holds no lock of the lake.
fn stop_between_commits(dir: &Dir, child: &Child) {
    let is_free = |name: &str| {
        File::open(dir.path(name)).is_ok_and(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok())
    };
    eventually("it is stopped while it holds no lock", || {
        suspend(child);
        let is_free = is_free("lake/.evt/lock") && is_free("lake/.evt");
        if !is_free {
            kill_process(Pid::from_child(child), Signal::CONT).expect("continued");
        }
        is_free
    });
}

fn files(dir: &Dir) -> usize {
    let days = std::fs::read_dir(dir.path("lake")).expect("a lake").map(|day| day.expect("a day").path());
    let days = days.filter(|day| !day.ends_with(".evt"));
    days.map(|day| std::fs::read_dir(day).expect("a day").count()).sum()
}

/// The names of files whose rows wait.
fn waiting(dir: &Dir) -> usize {
    let hidden = std::fs::read_dir(dir.path("lake/.evt")).expect("a lake").map(|entry| entry.expect("a file").path());
    hidden.filter(|path| path.extension().is_some_and(|extension| extension == "rows")).count()
}

/// The old run held the lock from its start to its end, and each new one ended with 75.
/// It reads a topic without an end, so that it has not ended before it is stopped.
#[test]
fn a_run_that_hangs_is_replaced_by_a_new_one_and_writes_nothing_when_it_wakes_up() {
    let Some(bench) = Bench::new("lake-hangs") else { return };
    let topic = topic_with_events(&bench, 40_000);
    let (endless, whole) = (bench.uri(&topic, ""), bench.uri(&topic, "?end=latest"));
    let to_the_end = ["-q", "--emit", "final", "--at-end", "fire", &whole];
    for to in ["parquet:lake", "parquet:lake?roll=1h"] {
        let job = Job::new("lake-hangs", &[&FLAGS[..], &["--to", to]].concat());
        let calm = Job::new("lake-hangs-calm", &[&FLAGS[..], &["--to", "parquet:lake"]].concat());
        calm.run(&to_the_end).succeeds();
        let mut old = job.start(&["-q", "--emit", "final", "--checkpoint-every", "1ms", &endless]);
        eventually("an epoch is complete", || job.place.entries() >= 4);
        stop_between_commits(&job.dir, &old);
        job.run(&to_the_end).succeeds();
        let (after, files_after) = (shown(&job.dir, "parquet:lake"), files(&job.dir));
        kill_process(Pid::from_child(&old), Signal::CONT).expect("continued");
        assert_eq!(ended("the old run", &mut old), 75, "{to}");
        assert_eq!(files(&job.dir), files_after, "{to}");
        let found = shown(&job.dir, "parquet:lake");
        assert!(found == after && found == shown(&calm.dir, "parquet:lake"), "{to}: {} rows", found.len());
    }
}

/// Two checkpoints take turns: neither is refused, and each has its rows.
#[test]
fn two_jobs_write_one_lake_at_the_same_time() {
    let dir = Dir::new("lake-shared");
    dir.write("a.jsonl", generated(&dir, 20_000));
    dir.write("b.jsonl", ordered(0..400));
    let start = |file: &str| {
        let args = ["-q", "--checkpoint", &format!("state-{file}"), "--checkpoint-every", "1ms", "--dlq", "null:"];
        let mut command = dir.command("evt-ingest", &[&args[..], &["--to", "parquet:lake", file]].concat());
        command.spawn().expect("it starts")
    };
    let mut both = [start("a.jsonl"), start("b.jsonl")];
    both.iter_mut().for_each(|job| assert_eq!(ended("a job", job), 0));
    for file in ["a.jsonl", "b.jsonl"] {
        let alone = format!("parquet:lake-{file}");
        dir.run("evt-ingest", &["-q", "--dlq", "null:", "--to", &alone, file]).succeeds();
        let ids = |lake: &str| {
            let origin = format!("origin = '{file}'");
            let args = [lake, "-q", "-o", "jsonl", "--columns", "event_id,offset", "--where", &origin];
            let text = dir.run("evt-view", &args).succeeds().text();
            let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
            rows.sort();
            rows
        };
        let expected = ids(&alone);
        assert!(expected.len() > 5000, "{file}: {}", expected.len());
        assert!(ids("parquet:lake") == expected, "{file}");
    }
}

/// A run that began while another one committed ended with 75 at once, and one that needed the lock of a file waited
/// for a stopped process without a limit.
#[test]
fn a_run_waits_for_locks_that_others_keep_for_a_moment() {
    let dir = Dir::new("locks");
    dir.write("a.jsonl", ordered(0..400));
    std::fs::create_dir_all(dir.path("lake/.evt")).expect("a directory");
    let hold = |name: &str| {
        let file = File::options().create(true).append(true).open(dir.path(name)).expect("a file");
        flock(&file, FlockOperation::NonBlockingLockExclusive).expect("nobody has it");
        file
    };
    let (lake, rows) = (hold("lake/.evt/lock"), hold("rows.jsonl"));
    let refused = dir.run("evt-ingest", &["-q", "--dlq", "null:", "--to", "parquet:lake", "a.jsonl"]).ends_with(75);
    assert!(refused.stderr().contains("parquet:lake: another run is writing here"), "{refused}");
    let args =
        ["-q", "--checkpoint", "state", "--dlq", "null:", "--to", "parquet:lake", "--to", "rows.jsonl", "a.jsonl"];
    let mut run = dir.command("evt-ingest", &args).spawn().expect("it starts");
    let files = format!("/proc/{}/fd", run.id());
    let mut waits_for = |name: &str| {
        let path = dir.path(name).canonicalize().expect("a file");
        eventually("it has opened the file", || {
            assert_eq!(run.try_wait().expect("a child"), None, "it waits for {name}");
            let open = std::fs::read_dir(&files).expect("files of a process").filter_map(Result::ok);
            open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|target| target == path)
        });
    };
    waits_for("lake/.evt/lock");
    drop(lake);
    waits_for("rows.jsonl");
    drop(rows);
    assert_eq!(ended("the run", &mut run), 0);
    let count = |name: &str| dir.run("evt-view", &[name, "-q", "-o", "jsonl"]).succeeds().text().lines().count();
    assert_eq!([count("parquet:lake"), count("rows.jsonl")], [6000, 6000]);
}

/// Each epoch was a file of its own, whatever `?roll=` said.
#[test]
fn epochs_join_in_files_of_the_size_that_roll_names() {
    let events = |dir: &Dir| generated(dir, 200_000);
    let rows =
        |dir: &Dir| dir.run("evt-view", &["parquet:lake", "-q", "-o", "jsonl"]).succeeds().text().lines().count();
    let mut counted = vec![];
    // Each run ends an epoch with rows: without `?roll=` there are six files or more, however few epochs a slow disk
    // allows.
    for (roll, pieces) in [("", 6), ("?roll=1GiB", 1), ("?roll=8MiB", 1)] {
        let dir = Dir::new("lake-roll");
        let names: Vec<String> = (0..pieces).map(|piece| format!("{piece}.jsonl")).collect();
        let cuts: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 200_000 / pieces + 1)).collect();
        cut(&dir, &events(&dir), &cuts);
        let to = format!("parquet:lake{roll}");
        let flags = ["-q", "--dlq", "null:", "--checkpoint", "state", "--checkpoint-every", "1ms", "--to", &to];
        let command = |name: &str| dir.command("evt-ingest", &[&flags[..], &[name]].concat());
        let mut run = command(&names[0]).spawn().expect("it starts");
        let entries = || std::fs::read_dir(dir.path("state/log")).map_or(0, |log| log.count());
        eventually("some epochs are complete", || entries() >= 6 || run.try_wait().expect("a child").is_some());
        // It may have ended before.
        let _ = run.kill();
        let is_killed = ended("the run", &mut run) == 137;
        if is_killed && roll == "?roll=1GiB" {
            let (waiting, files) = (waiting(&dir), files(&dir));
            // A run that is killed at its very end has shown its rows.
            assert!(waiting >= 1 && files == 0 || files == 1, "{waiting} wait, {files} files");
        }
        for name in &names {
            Run::of(&mut command(name)).succeeds();
        }
        assert_eq!(waiting(&dir), 0, "{roll}: rows that do not show at the end");
        counted.push((files(&dir), rows(&dir)));
    }
    let [(alone, expected), (joined, rows), (rolled, rows_rolled)] = counted[..] else { panic!("{counted:?}") };
    assert!(expected > 175_000 && rows == expected && rows_rolled == expected, "{counted:?}");
    assert!(joined <= rolled && rolled < alone, "{counted:?}");
}

#[test]
fn joined_epochs_hold_each_row_once_although_runs_are_killed() {
    let mut draws = Draws::new();
    let to = ["--to", "parquet:lake?roll=4KiB"];
    let calm = Job::new("lake-joined-calm", &[&FLAGS[..], &["--to", "parquet:lake"]].concat());
    let wild = Job::new("lake-joined-wild", &[&FLAGS[..], &to].concat());
    let events = generated(&calm.dir, 24_000);
    let mut kills = 0;
    [&calm, &wild].into_iter().for_each(|job| cut(&job.dir, &events, &[("a.jsonl", 12_000), ("b.jsonl", 13_000)]));
    for (file, at_end) in [("a.jsonl", "hold"), ("b.jsonl", "fire")] {
        let args = ["-q", "--at-end", at_end, file];
        calm.run(&args).succeeds();
        kills += run_with_kills(&wild, &args, &mut draws, 8);
    }
    assert!(kills >= 3, "{draws}: {kills} kills");
    let expected = shown(&calm.dir, "parquet:lake");
    assert!(expected.len() > 500, "{}", expected.len());
    assert!(shown(&wild.dir, "parquet:lake") == expected, "{draws}");
    assert_eq!(waiting(&wild.dir), 0, "{draws}");
}

/// The rows of its epochs wait in the lake, and only a run with this output shows them.
#[test]
fn a_lake_is_not_replaced_while_rows_of_a_killed_run_wait_in_it() {
    let dir = Dir::new("lake-replaced");
    dir.write("a.jsonl", ordered(0..10));
    let ingest = ["-q", "--checkpoint", "state", "--checkpoint-every", "10ms", "--dlq", "null:"];
    let line = |to| [&ingest[..], &["-f", "jsonl", "--follow", "a.jsonl", "--to", to]].concat();
    let start = |to| dir.command("evt-ingest", &line(to)).spawn().expect("it starts");
    let mut killed = start("parquet:lake?roll=128MiB,1h");
    eventually("rows wait", || dir.path("lake/.evt").exists() && waiting(&dir) > 0);
    eventually("it is stopped between two epochs", || {
        suspend(&killed);
        // The first entry is that of the run.
        let complete = std::fs::read_dir(dir.path("state/log")).expect("a log").count() - 1;
        let is_between = dir.path(&format!("state/epochs/1-{complete}/1-evt-ingest.committed")).exists();
        if !is_between {
            kill_process(Pid::from_child(&killed), Signal::CONT).expect("it runs");
        }
        is_between
    });
    killed.kill().expect("killed");
    ended("the killed run", &mut killed);
    assert_eq!(files(&dir), 0);
    for args in [line("sqlite:m.db"), line("rows.jsonl"), [&["--check"], &line("sqlite:m.db")[..]].concat()] {
        let said = dir.run("evt-ingest", &args).ends_with(78).stderr();
        let expected = "parquet:lake (output to-0) has rows that are not visible yet; start once with this output, then without it";
        assert!(said.contains(expected), "{said}");
        assert!(waiting(&dir) > 0 && !dir.path("m.db").exists());
    }
    // Another way to write its name names no other output.
    let mut next = start("parquet:./lake");
    eventually("the rows show", || files(&dir) > 0 && waiting(&dir) == 0);
    kill_process(Pid::from_child(&next), Signal::TERM).expect("it runs");
    assert_eq!(ended("the next run", &mut next), 143);
    assert_eq!((shown(&dir, "parquet:lake").len(), waiting(&dir)), (150, 0));
    let mut last = start("sqlite:m.db");
    eventually("the database is made", || dir.path("m.db").exists());
    kill_process(Pid::from_child(&last), Signal::TERM).expect("it runs");
    assert_eq!(ended("the last run", &mut last), 143);
}
