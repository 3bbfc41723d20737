//! `--follow` with `--checkpoint`: runs that are killed before their first epoch is complete, and rotations meanwhile.

use crate::follow_checkpoint::{Follower, Log};
use crate::harness::{Dir, Draws, ended, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::Path;
use std::process::Stdio;

/// Flags of a run that is killed before an epoch ends.
pub(crate) const LONG: [&str; 2] = ["--checkpoint-every", "1h"];

/// Whether a process has read a file to its end.
fn has_read(process: u32, path: &Path) -> bool {
    let (length, own) = (path.metadata().expect("a file").len(), path.canonicalize().expect("a file"));
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).expect("it runs");
    let positions = files.flatten().filter(|file| std::fs::read_link(file.path()).is_ok_and(|link| link == own));
    positions.into_iter().any(|file| {
        let info = format!("/proc/{process}/fdinfo/{}", file.file_name().to_string_lossy());
        let info = std::fs::read_to_string(info).unwrap_or_default();
        info.lines().any(|line| line.split_whitespace().eq(["pos:", &length.to_string()]))
    })
}

/// Kills a run that has read its files, and has completed no epoch since it began.
pub(crate) fn killed_early(log: &Log, run: Follower, names: &[&str]) {
    for name in names {
        eventually("the file is read", || has_read(run.run.id(), &log.dir.path(name)));
    }
    run.killed();
}

/// What happens to the log after the first run was killed: `name`, what is done, and what the next run says.
fn rotated(name: &str, work: impl FnOnce(&mut Log), said: &[&str]) {
    let mut log = Log::new(name, Draws::new());
    log.write("app.log", 300);
    killed_early(&log, log.start(&LONG), &["app.log"]);
    work(&mut log);
    let run = log.follow();
    log.is_read();
    log.write("app.log", 5);
    log.is_read();
    log.stops(run);
    log.is_whole();
    let found = log.said();
    said.iter().for_each(|said| assert!(found.contains(said), "{said}: {found}"));
    assert!(!found.contains("lost"), "{found}");
}

#[test]
fn a_file_is_read_that_was_rotated_after_a_kill_before_the_first_epoch() {
    rotated("begun-same-file", |log| log.write("app.log", 20), &[]);
    let rename = |log: &mut Log| {
        log.rename("app.log", "app.log.1");
        log.write("app.log.1", 3);
        log.write("app.log", 20);
    };
    rotated("begun-renamed", rename, &["app.log: reading ./app.log.1, of which no line was read"]);
    let odd_name = |log: &mut Log| {
        log.rename("app.log", "archived");
        log.write("app.log", 20);
    };
    rotated("begun-odd-name", odd_name, &["app.log: reading ./archived, of which no line was read"]);
    let packed = |log: &mut Log| {
        log.rename("app.log", "app.log.2");
        log.write("app.log.1", 20);
        log.write("app.log", 20);
        log.dir.shell("gzip app.log.2 app.log.1").succeeds();
    };
    let said = ["./app.log.2.gz, of which no line was read", "./app.log.1.gz, which had the name meanwhile"];
    rotated("begun-packed", packed, &said);
    let copied = |log: &mut Log| {
        log.dir.shell("cp app.log app.log.1; : > app.log").succeeds();
        log.write("app.log", 400);
    };
    rotated("begun-copied", copied, &["app.log: reading ./app.log.1, of which no line was read"]);
}

/// The lines of a file that is gone cannot be read.
#[test]
fn a_file_that_is_gone_after_a_kill_before_the_first_epoch_is_told() {
    for (name, work) in
        [("begun-gone", "rm app.log"), ("begun-cut", ": > app.log"), ("begun-moved", "mkdir old; mv app.log old/")]
    {
        let mut log = Log::new(name, Draws::new());
        log.write("app.log", 300);
        killed_early(&log, log.start(&LONG), &["app.log"]);
        log.dir.shell(work).succeeds();
        log.written = 0;
        log.write("app.log", 20);
        let run = log.follow();
        log.is_read();
        run.stopped();
        log.is_whole();
        let gone = "app.log: a file of which no line was read is gone; records may be lost";
        assert_eq!(log.said().matches(gone).count(), 1, "{}", log.said());
        // The next run knows where it is.
        log.write("app.log", 5);
        let run = log.follow();
        log.is_read();
        run.stopped();
        log.is_whole();
        assert_eq!(log.said().matches(gone).count(), 1, "{}", log.said());
    }
}

/// Each run takes over what the runs before it have begun.
#[test]
fn rotations_between_several_kills_before_the_first_epoch_lose_nothing() {
    let mut log = Log::new("begun-often", Draws::new());
    for generation in ["app.log.4", "app.log.3", "app.log.2", "app.log.1"] {
        log.write("app.log", 200);
        killed_early(&log, log.start(&LONG), &["app.log"]);
        log.rename("app.log", generation);
    }
    log.write("app.log", 200);
    let run = log.follow();
    log.is_read();
    run.stopped();
    log.is_whole();
    assert!(!log.said().contains("lost"), "{}", log.said());
}

/// The epoch that the next run continues does not have the name.
#[test]
fn a_name_that_is_new_after_an_epoch_is_read_although_it_is_rotated_after_a_kill() {
    let mut log = Log::new("begun-later", Draws::new());
    log.write("app.log", 30);
    let run = log.start(&["--checkpoint-every", "5ms"]);
    log.is_read();
    run.killed();
    log.write("b.log", 200);
    killed_early(&log, log.start(&[&LONG[..], &["b.log"]].concat()), &["app.log", "b.log"]);
    log.rename("b.log", "b.log.1");
    // A run without the name takes it over, too, and completes epochs.
    log.write("app.log", 5);
    let run = log.follow();
    eventually("the other name is read", || log.rows() == 35);
    run.stopped();
    log.write("b.log", 20);
    let run = log.start(&["--checkpoint-every", "5ms", "b.log"]);
    log.is_read();
    run.stopped();
    let rows = log.dir.rows("out.jsonl");
    let own = rows.iter().filter(|row| row["origin"] == "b.log").filter_map(|row| row["offset"].as_u64());
    assert!(own.eq(1..=220), "{}", log.said());
    assert!(log.said().contains("b.log: reading ./b.log.1, of which no line was read"), "{}", log.said());
}

/// Lines that came and were rotated away while nothing ran, behind a run that had read no line of the file.
#[test]
fn a_file_that_had_no_line_when_the_run_stopped_is_read_where_a_rotation_put_it() {
    let line = |n: u32| {
        format!("{{\"event_type\":\"v\",\"source\":\"s\",\"server_timestamp\":\"2026-01-01T00:00:00Z\",\"n\":{n}}}")
    };
    let copied = "cp app.log app.log.1; : > app.log";
    for (before, rotation, first) in [
        (": > app.log", copied, 101),
        // Lines that were there before the first run are not read.
        (
            &format!("echo '{}' > app.log.1; : > app.log", line(7)),
            "mv app.log.1 app.log.2; cp app.log app.log.1; : > app.log",
            101,
        ),
        (&format!("echo '{}' > app.log", line(5)), "cp app.log app.log.1; : > app.log", 5),
    ] {
        let dir = Dir::new("begun-empty");
        let run = |numbers: &[u32]| {
            let args = [
                "--follow",
                "--checkpoint",
                "ck",
                "--checkpoint-every",
                "50ms",
                "-f",
                "jsonl",
                "app.log",
                "other.log",
                "--to",
                "o.jsonl",
            ];
            let mut command = dir.command("evt-ingest", &args);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::options().append(true).create(true).open(dir.path("said")).expect("writable"));
            let mut run = command.spawn().expect("it starts");
            let found = || {
                let text = std::fs::read_to_string(dir.path("o.jsonl")).unwrap_or_default();
                let number = |line: &str| line.split("\"n\":").nth(1)?.split(['}', ',']).next()?.parse().ok();
                text.lines().filter_map(number).collect::<Vec<u32>>()
            };
            eventually("the lines are read", || found().len() >= numbers.len());
            kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
            ended("evt-ingest", &mut run);
            let mut found = found();
            found[..numbers.len().min(2)].sort_unstable();
            assert_eq!(found, numbers, "{before} {rotation}: {}", String::from_utf8_lossy(&dir.bytes("said")));
        };
        dir.shell(before).succeeds();
        // A run that has read a line has opened all that it follows.
        dir.write("other.log", line(1) + "\n");
        run(if first == 5 { &[1, 5] } else { &[1] });
        dir.shell(&format!("echo '{}' >> app.log; {rotation}; echo '{}' >> app.log", line(101), line(201))).succeeds();
        run(if first == 5 { &[1, 5, 101, 201] } else { &[1, 101, 201] });
    }
}

/// The writer of a compressed file keeps a member open, or is within the next one, whenever a run starts.
#[test]
fn a_compressed_file_that_is_not_complete_is_read_on_by_the_next_run() {
    for pack in ["gzip", "zstd -q"] {
        let dir = Dir::new("begun-packed-torn");
        let lines = |numbers: std::ops::Range<u32>| -> String {
            let line = |n| {
                format!(
                    "{{\"event_type\":\"v\",\"source\":\"s\",\"server_timestamp\":\"2026-01-01T00:00:00Z\",\"n\":{n}}}\n"
                )
            };
            numbers.map(line).collect()
        };
        dir.write("one", lines(1..65));
        dir.write("two", lines(65..70));
        dir.shell(&format!("{pack} -c one > app.packed; {pack} -c two > next; head -c 5 next >> app.packed"))
            .succeeds();
        let run = |count: usize| {
            let args = [
                "-q",
                "--follow",
                "--checkpoint",
                "ck",
                "--checkpoint-every",
                "50ms",
                "-f",
                "jsonl",
                "app.packed",
                "--to",
                "o.jsonl",
            ];
            let mut run = dir
                .command("evt-ingest", &args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it starts");
            let found = || std::fs::read_to_string(dir.path("o.jsonl")).map_or(0, |text| text.lines().count());
            eventually("the lines are read", || found() >= count);
            kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
            assert_eq!(ended("evt-ingest", &mut run), 143, "{pack}");
            assert_eq!(found(), count, "{pack}");
        };
        run(64);
        run(64);
        dir.shell("tail -c +6 next >> app.packed").succeeds();
        run(69);
    }
}
