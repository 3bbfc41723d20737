//! `--follow` with `--checkpoint`: which files a run finds again, and which it takes for those that had the name
//! meanwhile.

use crate::faults::unprivileged;
use crate::follow_checkpoint::Log;
use crate::harness::{Dir, Draws, eventually};
use std::io::Write;
use std::time::{Duration, SystemTime};

/// Flags of runs whose epochs are short.
const FLAGS: [&str; 6] = ["-f", "jsonl", "--time", "t", "--checkpoint-every", "5ms"];

#[test]
fn names_in_directories_that_are_missing_at_a_restart_keep_their_own_positions() {
    let mut log = Log::new("followed-no-directories", Draws::new());
    let names = ["one/app.log", "two/app.log"];
    log.dir.shell("mkdir one two").succeeds();
    log.write(names[0], 30);
    log.write(names[1], 7);
    let run = log.follow_names(&names, &FLAGS);
    log.is_read();
    run.killed();
    log.dir.shell("mv one one.away; mv two two.away").succeeds();
    let run = log.follow_names(&names, &FLAGS);
    for (name, lines) in [(names[0], 30), (names[1], 7)] {
        let gone = format!("{name}: the file that was read up to line {lines} is gone; records may be lost");
        eventually("each name is told", || log.said().contains(&gone));
    }
    log.dir.shell("mkdir two").succeeds();
    log.write(names[1], 3);
    log.is_read();
    run.killed();
    let rows = log.dir.rows("out.jsonl");
    let own = rows.iter().filter(|row| row["origin"] == names[1]).filter_map(|row| row["offset"].as_u64());
    assert!(own.eq(1..=10), "{}", log.said());
}

/// The offsets of the rows of a name.
fn offsets(log: &Log, name: &str) -> Vec<u64> {
    let rows = log.dir.rows("out.jsonl");
    rows.iter().filter(|row| row["origin"] == name).filter_map(|row| row["offset"].as_u64()).collect()
}

/// A compressed file is read to its end before the next one, however few bytes it has.
#[test]
fn a_large_rotation_that_was_compressed_while_no_run_reads_comes_before_the_next_file() {
    let mut log = Log::new("followed-large-packed", Draws::new());
    log.write("app.log", 300);
    log.read_all();
    log.rename("app.log", "app.log.1");
    let pad = "x".repeat(500);
    let line = |n: u64| format!("{{\"t\":\"2026-01-01T00:00:00Z\",\"n\":{n},\"pad\":\"{pad}\"}}\n");
    let lines: String = (301..=10_300).map(line).collect();
    log.open("app.log.1").write_all(lines.as_bytes()).expect("writable");
    log.written += 10_000;
    log.write("app.log", 20);
    log.dir.shell("gzip app.log.1").succeeds();
    log.read_rest();
    log.is_whole();
}

#[test]
fn a_followed_name_is_not_taken_for_a_rotation_of_another_one() {
    let mut log = Log::new("followed-worker", Draws::new());
    let names = ["worker.log", "worker-1.log"];
    let run = log.follow_names(&names, &FLAGS);
    names.iter().for_each(|name| log.write(name, 30));
    log.is_read();
    run.killed();
    for name in names {
        log.rename(name, &format!("{name}.1"));
        log.write(name, 5);
    }
    let run = log.follow_names(&names, &FLAGS);
    names.iter().for_each(|name| log.write(name, 1));
    log.is_read();
    log.stops(run);
    assert_eq!(log.rows(), 72, "{}", log.said());
    names.iter().for_each(|name| assert!(offsets(&log, name).into_iter().eq(1..=36), "{name}: {}", log.said()));
}

/// When a file was created, in a new file.
fn created(dir: &Dir, name: &str) -> Option<SystemTime> {
    dir.write(name, "");
    std::fs::metadata(dir.path(name)).expect("it is there").created().ok()
}

/// A rotation is created after the file that had the name before it.
#[test]
fn an_older_log_with_the_name_of_a_rotation_is_not_read() {
    let mut log = Log::new("followed-older", Draws::new());
    let Some(first) = created(&log.dir, "app-1.log") else { return };
    eventually("the clock of the files has gone on", || {
        std::fs::remove_file(log.dir.path("app.log")).ok();
        created(&log.dir, "app.log").is_some_and(|later| later > first)
    });
    log.write("app.log", 300);
    log.read_all();
    log.dir.write("app-1.log", "{\"t\":\"2026-01-01T00:00:00Z\",\"n\":0}\n");
    log.rename("app.log", "app.log.1");
    log.write("app.log", 20);
    log.read_on();
    log.is_whole();
}

/// Another file of the position, or a wrong clock, may have a later time than all lines of a rotation.
#[test]
fn a_rotation_that_was_written_before_the_time_of_the_position_is_read_or_named() {
    let mut log = Log::new("followed-early", Draws::new());
    log.write("app.log", 300);
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    log.open("app.log").set_modified(tomorrow).expect("writable");
    log.read_all();
    log.rename("app.log", "app.log.2");
    log.write("app.log.1", 20);
    log.dir.write("app.log.7", "{\"t\":\"2026-01-01T00:00:00Z\",\"n\":0}\n");
    log.open("app.log.7").set_modified(SystemTime::UNIX_EPOCH).expect("writable");
    log.write("app.log", 20);
    log.read_rest();
    log.is_whole();
    assert!(
        log.said().contains("./app.log.7 is not read: its times do not show whether it had the name"),
        "{}",
        log.said()
    );
}

#[test]
fn files_to_which_a_link_pointed_while_no_run_reads_are_read() {
    let mut log = Log::new("followed-link", Draws::new());
    let dated = |day: u32| format!("app-2026-11-{day}.log");
    let link = |log: &Log, day: u32| _ = log.dir.shell(&format!("ln -sfn {} current.log", dated(day))).succeeds();
    log.dir.write("db-2026-11-24.log", "{\"t\":\"2026-01-01T00:00:00Z\",\"n\":0}\n");
    link(&log, 24);
    log.write(&dated(24), 300);
    let run = log.follow_names(&["current.log"], &FLAGS);
    log.is_read();
    run.killed();
    log.write(&dated(24), 10);
    for day in 25..=27 {
        log.write(&dated(day), 10);
        link(&log, day);
    }
    log.dir.shell("gzip app-2026-11-25.log").succeeds();
    log.dir.write("db-2026-11-25.log", "{\"t\":\"2026-01-01T00:00:00Z\",\"n\":0}\n");
    let run = log.follow_names(&["current.log"], &FLAGS);
    log.is_read();
    run.stopped();
    log.is_whole();
}

#[test]
fn a_directory_that_cannot_be_listed_at_a_restart_ends_the_run() {
    let mut log = Log::new("followed-unlisted", Draws::new());
    log.dir.shell("mkdir logs").succeeds();
    log.write("logs/app.log", 300);
    let run = log.follow_names(&["logs/app.log"], &FLAGS);
    log.is_read();
    run.killed();
    let Some(before) = unprivileged(&log.dir) else { return };
    log.dir.shell("mv logs/app.log logs/app.log.1; echo > logs/app.log; chmod 311 logs").succeeds();
    let line = "evt-ingest -q --follow logs/app.log -f jsonl --time t --checkpoint state --to out.jsonl";
    let run = log.dir.shell(&format!("timeout 60 {before}{line}"));
    log.dir.shell("chmod 755 logs").succeeds();
    let said = run.ends_with(74).stderr();
    assert!(said.contains("logs/app.log: logs: cannot list the directory"), "{said}");
}

/// An unfinished last line of a renamed file was not read. If the file is gone, it is lost.
#[test]
fn a_renamed_file_with_an_unfinished_line_that_is_gone_is_told() {
    let mut log = Log::new("followed-unread-end", Draws::new());
    log.write("app.log", 300);
    let run = log.follow();
    log.is_read();
    log.rename("app.log", "app.log.1");
    log.open("app.log.1").write_all(b"{\"t\":\"2026-01-01T00:00:00Z\",").expect("writable");
    log.write("app.log", 20);
    log.is_read();
    run.killed();
    std::fs::remove_file(log.dir.path("app.log.1")).expect("it is there");
    let run = log.follow();
    log.write("app.log", 5);
    log.is_read();
    run.stopped();
    log.is_whole();
    assert!(log.said().contains("up to line 300 is gone; records may be lost"), "{}", log.said());
}

/// Lines of syslog have no year: each gets one by those before it in its file.
#[test]
fn lines_of_syslog_have_the_same_years_after_a_restart() {
    for (name, flags) in [("years-followed", &["--follow", "--checkpoint-every", "5ms"][..]), ("years-file", &[])] {
        let log = Log::new(name, Draws::new());
        let append = |time: &str| {
            let line = format!("<34>{time} 00:00:00 host su[17]: text\n");
            log.open("messages").write_all(line.as_bytes()).expect("writable");
        };
        let fixed = ["messages", "-f", "syslog", "--time-year", "2026", "--checkpoint", "state", "--to", "out.jsonl"];
        let read = |rows: u64| match flags.is_empty() {
            true => _ = log.dir.run("evt-ingest", &fixed).succeeds(),
            false => {
                let run = log.follow_names(&["messages"], &[&fixed[1..5], &flags[1..]].concat());
                eventually("the lines are read", || log.rows() >= rows);
                run.killed();
            }
        };
        ["Mar 15", "Dec 30", "Jan  2"].iter().for_each(|time| append(time));
        read(3);
        append("Jan  3");
        read(4);
        append("Jan  4");
        read(5);
        let rows = log.dir.rows("out.jsonl");
        let days: Vec<_> =
            rows.iter().map(|row| row["server_timestamp"].as_str().expect("a time")[..10].to_owned()).collect();
        assert_eq!(days, ["2026-03-15", "2026-12-30", "2027-01-02", "2027-01-03", "2027-01-04"], "{name}");
    }
}

#[test]
fn a_followed_log_whose_first_line_is_an_array_is_read_on_behind_it() {
    let mut log = Log::new("followed-array", Draws::new());
    log.dir.write("app.log", "[1,2]\n");
    log.write("app.log", 3);
    for flags in [&FLAGS[..], &FLAGS[2..]] {
        let run = log.follow_names(&["app.log"], &[flags, &["--dlq", "dead.jsonl"]].concat());
        log.is_read();
        eventually("the array is refused", || log.dir.path("dead.jsonl").metadata().is_ok_and(|file| file.len() > 0));
        log.stops(run);
        assert_eq!(log.dir.rows("dead.jsonl").len(), 1, "{}", log.said());
        log.dir.shell("rm -r state out.jsonl* dead.jsonl*").succeeds();
    }
}
