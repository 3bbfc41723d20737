//! Runs of evt-alert with a state that are killed or stopped before every input has begun: the alerts of all runs are
//! those of one undisturbed run.

use crate::alert::{lines, rule, rules, series};
use crate::broker::Bench;
use crate::harness::{Dir, Draws, ended, eventually, is_killed_within};
use crate::kafka::record;
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::process::{Child, Stdio};

/// Flags of every run.
const FLAGS: [&str; 8] = ["--once", "-q", "--rules", "rules.json", "--state", "alerts.db", "--to", "out.jsonl"];

/// Events every half second, with a burst of errors of 30 seconds at each of these seconds.
fn stream(from: f64, to: f64, bursts: &[f64]) -> String {
    let mut all = vec![series(from, to, 0.5, &json!({}))];
    all.extend(bursts.iter().map(|at| series(*at, at + 30.0, 1.0, &json!({"event_type": "error"}))));
    lines(&all)
}

/// A rule of bursts, and one that shows from which instant on rules were evaluated: each window is more than nothing.
fn write_rules(dir: &Dir, threshold: u32) {
    let errors =
        json!({"name": "errors", "where": "event_type = 'error'", "threshold": threshold, "window_seconds": 20});
    let any = json!({"name": "any", "window_seconds": 20});
    dir.write("rules.json", rules(&[rule(&errors), rule(&any)]));
}

/// The input that is silent in the first runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silent {
    /// Standard input.
    Pipe,
    /// A FIFO with a name.
    Fifo,
}

impl Silent {
    fn name(self) -> &'static str {
        if self == Self::Pipe { "-" } else { "fifo" }
    }

    /// Starts a run over these inputs and the silent one; returns what keeps the latter open.
    fn start(self, dir: &Dir, inputs: &[&str]) -> (Child, Option<File>) {
        let args = [&FLAGS[..], &["-f", "jsonl"], inputs, &[self.name()]].concat();
        let writer = (self == Self::Fifo).then(|| {
            // With a reader of its own the open does not wait for that of the run.
            File::options().read(true).write(true).open(dir.path("fifo")).expect("it exists")
        });
        let child = dir.command("evt-alert", &args).stdin(Stdio::piped()).spawn().expect("it starts");
        (child, writer)
    }

    /// Runs over these inputs and the rows of `rest`, to the end.
    fn finish(self, dir: &Dir, inputs: &[&str], rest: &str) {
        let args = [&FLAGS[..], inputs].concat().join(" ");
        let run = match self {
            Self::Pipe => dir.shell(&format!("evt-alert {args} - < <(cat {rest})")),
            Self::Fifo => dir.shell(&format!("cat {rest} > fifo & evt-alert {args} fifo -f jsonl")),
        };
        run.ends_with(1);
    }
}

/// Returns the rows of a file, each once: a row that a killed run had not confirmed is written again.
fn alerts(dir: &Dir, name: &str) -> BTreeSet<String> {
    let rows = std::fs::read_to_string(dir.path(name)).unwrap_or_default();
    rows.lines().filter_map(|row| serde_json::from_str::<Value>(row).ok()).map(|row| row.to_string()).collect()
}

/// Returns the rows of one run without a state over these files.
fn undisturbed(dir: &Dir, files: &[&str]) -> BTreeSet<String> {
    let args = [&["--once", "-q", "--append", "--rules", "rules.json", "--to", "whole.jsonl"][..], files].concat();
    dir.run("evt-alert", &args).ends_with(1);
    alerts(dir, "whole.jsonl")
}

fn state<T: rusqlite::types::FromSql>(dir: &Dir, sql: &str) -> Option<T> {
    let db = Connection::open(dir.path("alerts.db")).ok()?;
    db.query_row(sql, [], |row| row.get(0)).ok()
}

/// Waits until the state has every row of the files, and checks that no instant was evaluated.
fn is_stored(dir: &Dir, files: &[&str]) {
    for file in files {
        let rows = dir.rows(file).len() as i64;
        let sql = format!("SELECT last_offset FROM files WHERE name = '{file}'");
        eventually("the rows of a file are stored", || state::<i64>(dir, &sql) == Some(rows));
    }
    assert_eq!(state::<i64>(dir, "SELECT count(*) FROM engine WHERE clock IS NULL"), Some(1));
}

fn end_by(mut child: Child, signal: Signal) {
    kill_process(Pid::from_child(&child), signal).expect("it runs");
    assert_eq!(ended("it ends by the signal", &mut child), 128 + signal.as_raw());
}

#[test]
fn runs_that_end_while_an_input_is_silent_lose_no_alert() {
    for (silent, signal) in [
        (Silent::Pipe, Signal::KILL),
        (Silent::Pipe, Signal::TERM),
        (Silent::Fifo, Signal::KILL),
        (Silent::Fifo, Signal::TERM),
    ] {
        let dir = Dir::new("alert-silent");
        dir.shell("mkfifo fifo").succeeds();
        write_rules(&dir, 10);
        let a = stream(0.25, 600.0, &[5.0, 300.0, 500.0]);
        // The silent input has the earliest row, bursts beside those of the other one, and later rows.
        dir.write("rest.jsonl", stream(-40.0, 900.0, &[-30.0, 120.0, 290.0, 700.0]));
        let (child, writer) = {
            dir.write("a.jsonl", &a[..a[..a.len() / 2].rfind('\n').expect("lines") + 1]);
            silent.start(&dir, &["a.jsonl"])
        };
        is_stored(&dir, &["a.jsonl"]);
        end_by(child, signal);
        drop(writer);
        // The file has grown, and the next run ends as the first one.
        dir.write("a.jsonl", &a);
        let (child, writer) = silent.start(&dir, &["a.jsonl"]);
        is_stored(&dir, &["a.jsonl"]);
        end_by(child, signal);
        drop(writer);
        assert_eq!(alerts(&dir, "out.jsonl").len(), 0, "nothing was evaluated");
        silent.finish(&dir, &["a.jsonl"], "rest.jsonl");
        let whole = undisturbed(&dir, &["a.jsonl", "rest.jsonl"]);
        assert!(whole.len() > 10, "{whole:?}");
        assert_eq!(alerts(&dir, "out.jsonl"), whole, "{silent:?} {signal:?}");
        let left = state::<i64>(&dir, "SELECT count(*) FROM first_rows");
        assert_eq!(left, Some(0), "a state whose clock has begun needs no first rows");
    }
}

#[test]
fn an_input_that_is_added_and_a_threshold_that_is_edited_after_an_early_kill_count_from_the_first_row() {
    let dir = Dir::new("alert-silent-edited");
    write_rules(&dir, 15);
    dir.write("a.jsonl", stream(0.0, 400.0, &[100.0]));
    dir.write("b.jsonl", stream(-100.0, 500.0, &[-60.0, 100.0, 300.0]));
    dir.write("rest.jsonl", stream(50.0, 600.0, &[200.0]));
    let (child, _) = Silent::Pipe.start(&dir, &["a.jsonl"]);
    is_stored(&dir, &["a.jsonl"]);
    end_by(child, Signal::KILL);
    write_rules(&dir, 10);
    Silent::Pipe.finish(&dir, &["a.jsonl", "b.jsonl"], "rest.jsonl");
    assert_eq!(alerts(&dir, "out.jsonl"), undisturbed(&dir, &["a.jsonl", "b.jsonl", "rest.jsonl"]));
}

#[test]
fn a_store_and_a_fifo_that_are_added_after_an_early_kill_count_from_the_first_row() {
    let dir = Dir::new("alert-silent-added");
    write_rules(&dir, 10);
    dir.write("a.jsonl", stream(0.0, 400.0, &[100.0]));
    dir.write("b.jsonl", stream(0.0, 400.0, &[150.0, 300.0]));
    dir.write("c.jsonl", stream(20.0, 300.0, &[200.0]));
    dir.write("rest.jsonl", stream(50.0, 600.0, &[250.0]));
    dir.shell("mkfifo fifo && evt-ingest -q b.jsonl --to sqlite:b.db").succeeds();
    let (child, _) = Silent::Pipe.start(&dir, &["a.jsonl"]);
    is_stored(&dir, &["a.jsonl"]);
    end_by(child, Signal::KILL);
    let args = FLAGS.join(" ");
    let inputs = "a.jsonl 'sqlite:b.db?table=raw_events' fifo - -f jsonl";
    dir.shell(&format!("cat c.jsonl > fifo & cat rest.jsonl | evt-alert {args} {inputs}")).ends_with(1);
    let whole = undisturbed(&dir, &["a.jsonl", "b.jsonl", "c.jsonl", "rest.jsonl"]);
    assert_eq!(alerts(&dir, "out.jsonl"), whole);
}

/// A file was read to its end while a pipe was silent, so the clock waits for the pipe. Rows of the pipe that no run
/// has taken out of it are not those of an earlier run.
#[test]
fn rows_of_a_pipe_that_a_killed_run_has_not_read_count_after_the_clock_has_begun() {
    let dir = Dir::new("alert-silent-begun");
    write_rules(&dir, 10);
    dir.write("a.jsonl", stream(0.0, 600.0, &[100.0]));
    let (first, rest) = (stream(0.0, 60.0, &[]), stream(60.0, 500.0, &[200.0, 400.0]));
    let (mut child, _) = Silent::Pipe.start(&dir, &["a.jsonl"]);
    let mut stdin = child.stdin.take().expect("it is piped");
    std::io::Write::write_all(&mut stdin, first.as_bytes()).expect("it reads");
    let last = evt_core::time::parse_instant(&crate::alert::at(59.5)).expect("an instant");
    let read_to = || state::<i64>(&dir, "SELECT read_to FROM inputs WHERE name = '-'");
    eventually("the rows of the pipe are stored", || read_to() == Some(last));
    let clock = || state::<i64>(&dir, "SELECT count(*) FROM engine WHERE clock IS NOT NULL");
    eventually("the clock has begun", || clock() == Some(1));
    end_by(child, Signal::KILL);
    drop(stdin);
    dir.write("rest.jsonl", &rest);
    Silent::Pipe.finish(&dir, &["a.jsonl"], "rest.jsonl");
    dir.write("whole-pipe.jsonl", first + &rest);
    assert_eq!(alerts(&dir, "out.jsonl"), undisturbed(&dir, &["a.jsonl", "whole-pipe.jsonl"]));
}

/// The input may be a pipe that the next run gets from its start again: rows that were stored count once.
#[test]
fn rows_of_a_pipe_that_an_early_killed_run_has_stored_count_once_and_its_others_count() {
    let dir = Dir::new("alert-silent-again");
    dir.shell("mkfifo fifo").succeeds();
    write_rules(&dir, 10);
    let (first, rest) = (stream(0.0, 200.0, &[50.0, 150.0]), stream(200.0, 400.0, &[300.0]));
    // The FIFO is silent, and its rows are earlier than the last ones of the pipe.
    dir.write("rest.jsonl", stream(20.0, 350.0, &[90.0]));
    let (mut child, writer) = Silent::Fifo.start(&dir, &["-"]);
    let mut stdin = child.stdin.take().expect("it is piped");
    std::io::Write::write_all(&mut stdin, first.as_bytes()).expect("it reads");
    let read_to = || state::<i64>(&dir, "SELECT read_to FROM inputs WHERE name = '-'");
    let last = evt_core::time::parse_instant(&crate::alert::at(199.5)).expect("an instant");
    eventually("the rows of the pipe are stored", || read_to() == Some(last));
    end_by(child, Signal::KILL);
    drop((stdin, writer));
    dir.write("all.jsonl", first + &rest);
    let args = [&FLAGS[..], &["-f", "jsonl", "-", "fifo"][..]].concat().join(" ");
    dir.shell(&format!("cat rest.jsonl > fifo & cat all.jsonl | evt-alert {args}")).ends_with(1);
    assert_eq!(alerts(&dir, "out.jsonl"), undisturbed(&dir, &["all.jsonl", "rest.jsonl"]));
}

/// The numbers of process substitutions are those of others if one is added, or if they are swapped.
#[test]
fn rows_of_process_substitutions_count_at_most_once_and_a_line_states_those_that_do_not() {
    let burst =
        |from: f64, every: f64, name: &str| lines(&[series(from, from + 30.0, every, &json!({"event_type": name}))]);
    // 20 rows of p.jsonl are in a window, or 40 if they count twice.
    for (threshold, first, second) in [
        (25, "<(cat p.jsonl)", "<(cat q.jsonl) <(cat p.jsonl more.jsonl)"),
        (15, "<(cat q.jsonl)", "<(cat p.jsonl more.jsonl) <(cat q.jsonl)"),
    ] {
        let dir = Dir::new("alert-substitutions");
        dir.write("p.jsonl", burst(0.0, 1.0, "error"));
        dir.write("q.jsonl", burst(0.0, 1.0, "view"));
        dir.write("more.jsonl", burst(100.0, 0.5, "error"));
        dir.write("last.jsonl", burst(200.0, 0.5, "error"));
        let errors =
            json!({"name": "errors", "where": "event_type = 'error'", "threshold": threshold, "window_seconds": 20});
        dir.write("rules.json", rules(&[rule(&errors)]));
        let args = FLAGS.join(" ");
        let line = format!("exec evt-alert {args} -f jsonl {first} -");
        let child = dir.command("bash", &["-c", &line]).stdin(Stdio::piped()).spawn().expect("it starts");
        let end = evt_core::time::parse_instant(&crate::alert::at(29.0)).expect("an instant");
        let read_to = || state::<Option<i64>>(&dir, "SELECT max(read_to) FROM inputs").flatten();
        eventually("the rows of the substitution are stored", || read_to() == Some(end));
        assert_eq!(state::<i64>(&dir, "SELECT count(*) FROM engine WHERE clock IS NULL"), Some(1));
        end_by(child, Signal::KILL);
        let left_out = format!(
            "30 rows of process substitutions were not evaluated: earlier runs have read rows of process substitutions up to \
             {}, and",
            crate::alert::at(29.0)
        );
        let run = dir.shell(&format!(": | evt-alert {args} -f jsonl {second} -")).ends_with(1);
        assert!(run.stderr().contains(&left_out) && !run.stderr().contains("behind"), "{run}");
        let wanted = undisturbed(&dir, &["q.jsonl", "more.jsonl"]);
        assert_eq!((alerts(&dir, "out.jsonl").len(), alerts(&dir, "out.jsonl")), (1, wanted), "{second}");
        // The rule is the same after the clock has begun.
        let run = dir.shell(&format!("evt-alert {args} -f jsonl <(cat more.jsonl last.jsonl)")).ends_with(1);
        assert!(run.stderr().contains("60 rows of process substitutions were not evaluated"), "{run}");
        assert_eq!(alerts(&dir, "out.jsonl"), undisturbed(&dir, &["q.jsonl", "more.jsonl", "last.jsonl"]), "{second}");
    }
}

/// Events to second 60, and errors from second 40 to 70, of which a rule needs more than 25.
fn add_errors(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.shell("mkfifo fifo other").succeeds();
    let errors = json!({"name": "errors", "where": "event_type = 'error'", "threshold": 25, "window_seconds": 30});
    dir.write("rules.json", rules(&[rule(&errors)]));
    dir.write("a.jsonl", lines(&[series(0.0, 60.0, 1.0, &json!({}))]));
    dir.write("p.jsonl", lines(&[series(40.0, 70.0, 1.0, &json!({"event_type": "error"}))]));
    dir.run("evt-alert", &[&FLAGS[..], &["a.jsonl"]].concat()).succeeds();
    assert_eq!(state::<i64>(&dir, "SELECT count(*) FROM engine WHERE clock IS NOT NULL"), Some(1));
    dir
}

#[test]
fn rows_of_a_pipe_that_is_added_after_the_clock_has_begun_count_once() {
    for (before, input) in [("cat p.jsonl |", "-"), ("cat p.jsonl > fifo &", "fifo"), ("", "<(cat p.jsonl)")] {
        let dir = add_errors("alert-pipe-added");
        let line = format!("{before} evt-alert {} -f jsonl a.jsonl {input}", FLAGS.join(" "));
        let run = dir.shell(&line).ends_with(1);
        assert!(!run.stderr().contains("not evaluated"), "{run}");
        let wanted = undisturbed(&dir, &["a.jsonl", "p.jsonl"]);
        assert_eq!(alerts(&dir, "out.jsonl"), wanted, "{input}");
        let run = dir.shell(&line);
        assert!(run.stderr().contains("30 rows") && run.stderr().contains("not evaluated"), "{run}");
        assert_eq!(alerts(&dir, "out.jsonl"), wanted, "{input}");
    }
}

/// A path, and a link to it.
#[test]
fn a_fifo_is_one_input_by_every_name() {
    let dir = add_errors("alert-fifo-names");
    dir.shell("ln -s fifo link").succeeds();
    let run = |input: &str| {
        dir.shell(&format!("cat p.jsonl > fifo & evt-alert {} -f jsonl a.jsonl {input}", FLAGS.join(" ")))
    };
    run("fifo").ends_with(1);
    let wanted = undisturbed(&dir, &["a.jsonl", "p.jsonl"]);
    assert_eq!(alerts(&dir, "out.jsonl"), wanted);
    for input in ["./fifo", "link", "$PWD/fifo"] {
        let again = run(input);
        let left_out = "fifo: 30 rows were not evaluated: earlier runs have read rows up to";
        assert!(again.stderr().contains(if input == "link" { &left_out[4..] } else { left_out }), "{input}: {again}");
        assert_eq!(alerts(&dir, "out.jsonl"), wanted, "{input}");
    }
}

/// Rows that are not evaluated must not begin the time of a rule that looks for their absence.
#[test]
fn rows_that_an_earlier_run_has_read_do_not_begin_the_clock() {
    let dir = Dir::new("alert-read-before");
    dir.shell("mkfifo fifo").succeeds();
    let few = json!({"name": "few", "condition": "lt", "threshold": 1, "window_seconds": 10});
    dir.write("rules.json", rules(&[rule(&few)]));
    dir.write("late.jsonl", lines(&[series(200.0, 400.0, 1.0, &json!({}))]));
    dir.write("all.jsonl", lines(&[series(0.0, 400.0, 1.0, &json!({}))]));
    let args = FLAGS.join(" ");
    let writer = File::options().read(true).write(true).open(dir.path("fifo")).expect("it exists");
    let line = format!("cat late.jsonl > fifo & exec evt-alert {args} -f jsonl fifo -");
    let child = dir.command("bash", &["-c", &line]).stdin(Stdio::piped()).spawn().expect("it starts");
    let end = evt_core::time::parse_instant(&crate::alert::at(399.0)).expect("an instant");
    let read_to = || state::<Option<i64>>(&dir, "SELECT max(read_to) FROM inputs").flatten();
    eventually("the rows of the FIFO are stored", || read_to() == Some(end));
    assert_eq!(state::<i64>(&dir, "SELECT count(*) FROM engine WHERE clock IS NULL"), Some(1));
    end_by(child, Signal::KILL);
    drop(writer);
    dir.shell(&format!("cat all.jsonl > fifo & : | evt-alert {args} -f jsonl fifo -")).succeeds();
    assert_eq!(alerts(&dir, "out.jsonl"), BTreeSet::new());
}

/// One partition of a pipe of frames is far behind another one, which therefore waits for it. The next run gets the
/// rest of both, and the rows of the former are not those of the latter.
#[test]
fn rows_of_a_partition_of_a_pipe_that_no_run_has_read_count_although_those_of_another_one_are_ahead() {
    let dir = Dir::new("alert-partitions-of-a-pipe");
    write_rules(&dir, 10);
    let of = |name: &str, from: f64, to: f64, burst: f64| {
        let errors = series(burst, burst + 30.0, 1.0, &json!({"event_type": "error", "p": name}));
        lines(&[series(from, to, 0.5, &json!({"p": name})), errors])
    };
    let first = of("a", 0.0, 600.0, 500.0) + &of("b", 0.0, 60.0, 20.0);
    let rest = of("a", 600.0, 900.0, 700.0) + &of("b", 60.0, 900.0, 300.0);
    let ingest = ["-q", "-f", "jsonl", "--field", "partition=p", "--partitions", "a,b"];
    let mut source = dir.command("evt-ingest", &ingest);
    let mut source = source.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let frames = source.stdout.take().expect("it is piped");
    let child = dir.command("evt-alert", &FLAGS).stdin(frames).spawn().expect("it starts");
    source.stdin.as_mut().expect("it is piped").write_all(first.as_bytes()).expect("it reads");
    let read_to = || state::<i64>(&dir, "SELECT min(read_to) FROM input_partitions WHERE name = '-'");
    let last = evt_core::time::parse_instant(&crate::alert::at(59.5)).expect("an instant");
    eventually("the rows of both partitions are stored", || read_to() == Some(last));
    let clock = || state::<i64>(&dir, "SELECT count(*) FROM engine WHERE clock IS NOT NULL");
    eventually("the clock has begun", || clock() == Some(1));
    kill_process(Pid::from_child(&source), Signal::TERM).expect("it runs");
    end_by(child, Signal::TERM);
    assert_eq!(ended("the stage before it ends", &mut source), 143);
    dir.write("rest.jsonl", &rest);
    dir.write("all.jsonl", first + &rest);
    let run = |input: &str, flags: &str| {
        dir.shell(&format!("evt-ingest {} < {input} | evt-alert {flags}", ingest.join(" "))).ends_with(1)
    };
    let second = run("rest.jsonl", &FLAGS.join(" "));
    assert!(!second.stderr().contains("not evaluated"), "{second}");
    run("all.jsonl", "--once -q --rules rules.json --to whole.jsonl");
    let whole = alerts(&dir, "whole.jsonl");
    assert!(whole.len() > 8, "{whole:?}");
    assert_eq!(alerts(&dir, "out.jsonl"), whole);
    // The writer sends the same rows once more.
    let third = run("rest.jsonl", &FLAGS.join(" "));
    let left_out = format!(
        "evt-alert: -: 2340 rows were not evaluated: earlier runs have read rows up to {}, maybe also these",
        crate::alert::at(899.5)
    );
    assert!(third.stderr().contains(&left_out) && !third.stderr().contains("behind"), "{third}");
    assert_eq!(alerts(&dir, "out.jsonl"), whole);
}

/// The state has no rows of a store that was not read to its end, and so none that were read beside them.
#[test]
fn a_run_that_is_stopped_within_a_store_states_the_rows_of_a_pipe_that_are_lost() {
    let dir = Dir::new("alert-within-store");
    write_rules(&dir, 10);
    dir.write("big.jsonl", lines(&[series(0.0, 30_000.0, 0.5, &json!({}))]));
    dir.shell("evt-ingest big.jsonl -q --to sqlite:big.db").succeeds();
    let args = [&FLAGS[..], &["-f", "jsonl", "sqlite:big.db", "-"]].concat();
    let mut command = dir.command("evt-alert", &args);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // More than a pipe holds: once it is written, the run has read some of it.
    let rows = lines(&[series(0.0, 10_000.0, 0.25, &json!({"event_type": "error"}))]);
    child.stdin.as_mut().expect("it is piped").write_all(rows.as_bytes()).expect("it is read");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(" rows were read and not stored, because the run was stopped within a store"), "{said}");
    assert!(!output.status.success(), "{said}");
}

/// A writer with a buffer cuts lines; the next run would read the rest of the line as a record.
#[test]
fn a_run_that_is_stopped_within_a_line_of_a_pipe_says_so() {
    let dir = Dir::new("alert-torn-line");
    write_rules(&dir, 10);
    dir.shell("mkfifo fifo").succeeds();
    let whole = lines(&[series(0.0, 60.0, 1.0, &json!({}))]);
    let torn =
        "fifo: stopped within a line, whose beginning was read; a pipe does not have it again, so the line is lost";
    for (tail, is_torn) in [("{\"server_timesta", true), ("", false)] {
        let args = [&FLAGS[..], &["-f", "jsonl", "fifo"]].concat();
        let mut writer = File::options().read(true).write(true).open(dir.path("fifo")).expect("it exists");
        let child = dir.command("evt-alert", &args).stderr(Stdio::piped()).spawn().expect("it starts");
        writer.write_all(format!("{whole}{tail}").as_bytes()).expect("it is read");
        eventually("the rows are stored", || state::<i64>(&dir, "SELECT count(*) FROM inputs") == Some(1));
        eventually("all is read", || rustix::io::ioctl_fionread(&writer).expect("it is a pipe") == 0);
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stderr).contains(torn), is_torn, "{output:?}");
        dir.shell("rm -f alerts.db*").succeeds();
    }
}

#[test]
fn a_run_that_fails_states_the_rows_of_a_pipe_that_are_lost_and_a_link_leads_to_the_same_lock() {
    let dir = Dir::new("alert-locked");
    write_rules(&dir, 10);
    // The link leads to no file when the first run begins.
    dir.shell("mkfifo fifo; ln -s alerts.db link.db; ln -s alerts.db first.db").succeeds();
    let args = ["--once", "-q", "--rules", "rules.json", "--state", "first.db", "-f", "jsonl", "fifo"];
    let mut writer = File::options().read(true).write(true).open(dir.path("fifo")).expect("it exists");
    let mut command = dir.command("evt-alert", &args);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    // A run that waits for the lock before its first row reads nothing.
    eventually("it has stored its state", || state::<i64>(&dir, "SELECT count(*) FROM engine") == Some(1));
    let second = "evt-alert --once --rules rules.json --state link.db -f jsonl /dev/null";
    let refused = dir.shell(second).ends_with(75);
    assert!(refused.stderr().contains("link.db: another evt-alert uses this state"), "{refused}");
    let db = Connection::open(dir.path("alerts.db")).expect("it opens");
    db.execute_batch("BEGIN IMMEDIATE").expect("it is free");
    writer.write_all(lines(&[series(0.0, 60.0, 1.0, &json!({}))]).as_bytes()).expect("it is read");
    eventually("all is read", || rustix::io::ioctl_fionread(&writer).expect("it is a pipe") == 0);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("fifo: 60 rows were read and not stored, because the run failed before"), "{said}");
    dir.write("no.db", "no database\n");
    let check = dir.shell("evt-alert --check --rules rules.json --state no.db -f jsonl rules.json").ends_with(65);
    assert!(check.stderr().contains("no.db: expected a state of evt-alert, found another file"), "{check}");
}

#[test]
fn a_state_of_an_earlier_version_does_not_say_which_pipes_its_rows_are_of() {
    let dir = add_errors("alert-pipe-old");
    let db = Connection::open(dir.path("alerts.db")).expect("it opens");
    db.execute_batch("DROP TABLE inputs").expect("it exists");
    drop(db);
    // A run that reads nothing of a pipe does not say that its rows are new.
    let args = FLAGS.join(" ");
    dir.shell(&format!(": > fifo & evt-alert {args} -f jsonl a.jsonl fifo")).succeeds();
    for input in ["fifo", "other"] {
        let run = dir.shell(&format!("cat p.jsonl > {input} & evt-alert {args} -f jsonl a.jsonl {input}")).succeeds();
        let left_out = format!("{input}: 20 rows were not evaluated: earlier runs have read rows up to");
        assert!(run.stderr().contains(&left_out), "{input}: {run}");
    }
}

#[test]
fn a_state_of_an_earlier_version_that_has_no_first_rows_begins_with_the_rows_that_wait() {
    let dir = Dir::new("alert-silent-old");
    write_rules(&dir, 10);
    dir.write("a.jsonl", stream(0.0, 400.0, &[100.0]));
    dir.write("rest.jsonl", stream(500.0, 900.0, &[600.0]));
    let (child, _) = Silent::Pipe.start(&dir, &["a.jsonl"]);
    is_stored(&dir, &["a.jsonl"]);
    end_by(child, Signal::KILL);
    let db = Connection::open(dir.path("alerts.db")).expect("it opens");
    db.execute_batch("DROP TABLE inputs; DROP TABLE first_rows").expect("they exist");
    drop(db);
    Silent::Pipe.finish(&dir, &["a.jsonl"], "rest.jsonl");
    assert_eq!(alerts(&dir, "out.jsonl"), undisturbed(&dir, &["a.jsonl", "rest.jsonl"]));
}

#[test]
fn kills_at_random_in_the_first_seconds_lose_and_repeat_no_alert() {
    let mut draws = Draws::new();
    for round in 0..4 {
        let dir = Dir::new("alert-first-seconds");
        dir.shell("mkfifo fifo").succeeds();
        write_rules(&dir, 10);
        let streams = [
            ("a.jsonl", stream(draws.below(300) as f64, 900.0, &[400.0, 700.0])),
            ("b.jsonl", stream(0.75, 500.0, &[draws.below(400) as f64])),
            ("c.jsonl", stream(draws.below(900) as f64 - 100.0, 1200.0, &[1000.0])),
        ];
        dir.write("rest.jsonl", stream(draws.below(1000) as f64 - 500.0, 1300.0, &[200.0, 1100.0]));
        let mut ends = [0; 3];
        for kill in 0..4 {
            for ((name, text), end) in streams.iter().zip(&mut ends) {
                // Each file grows by whole lines, or not at all.
                let to = *end + draws.below((text.len() - *end) as u64 / 2) as usize;
                *end = text[..to].rfind('\n').map_or(*end, |at| (at + 1).max(*end));
                dir.write(name, &text[..*end]);
            }
            let writer = File::options().read(true).write(true).open(dir.path("fifo")).expect("it exists");
            let args = [&FLAGS[..], &["-f", "jsonl", "a.jsonl", "b.jsonl", "c.jsonl", "fifo"][..]].concat();
            let is_killed = is_killed_within(&mut dir.command("evt-alert", &args), draws.below(2000));
            assert!(is_killed, "{draws}: round {round}, kill {kill}: the FIFO has not ended");
            drop(writer);
        }
        streams.iter().for_each(|(name, text)| dir.write(name, text));
        Silent::Fifo.finish(&dir, &["a.jsonl", "b.jsonl", "c.jsonl"], "rest.jsonl");
        let whole = undisturbed(&dir, &["a.jsonl", "b.jsonl", "c.jsonl", "rest.jsonl"]);
        assert_eq!(alerts(&dir, "out.jsonl"), whole, "{draws}: round {round}");
    }
}

/// A topic that is continued is read from the middle, which cuts off no row: an earlier run has read those before.
#[test]
fn a_run_over_topics_that_is_killed_while_an_input_is_silent_loses_no_alert() {
    let Some(bench) = Bench::new("alert-silent-topics") else { return };
    let (dir, first, second) = (&bench.dir, bench.topic("a", 2, &[]), bench.topic("b", 1, &[]));
    dir.shell("mkfifo fifo").succeeds();
    write_rules(dir, 10);
    let (begin, later) = (stream(0.0, 300.0, &[100.0]), stream(300.0, 600.0, &[400.0]));
    let send = |topic: &str, text: &str, partitions: usize| {
        let values: Vec<&str> = text.lines().collect();
        bench.produce(values.iter().enumerate().map(|(n, value)| record(topic, (n % partitions) as i32, value)));
    };
    send(&first, &begin, 2);
    dir.write("rest.jsonl", stream(-50.0, 700.0, &[-20.0, 500.0]));
    let uris = [&first, &second].map(|topic| bench.uri(topic, "?end=latest"));
    let inputs = uris.each_ref().map(String::as_str);
    let (child, writer) = Silent::Fifo.start(dir, &inputs);
    let count = begin.lines().count() as i64;
    let sql = format!("SELECT sum(next_offset) FROM positions WHERE topic = '{first}'");
    eventually("the rows of the topic are stored", || state::<i64>(dir, &sql) == Some(count));
    end_by(child, Signal::KILL);
    drop(writer);
    send(&first, &later, 2);
    let other = stream(150.0, 650.0, &[200.0]);
    send(&second, &other, 1);
    let quoted = inputs.map(|uri| format!("'{uri}'"));
    Silent::Fifo.finish(dir, &quoted.each_ref().map(String::as_str), "rest.jsonl");
    dir.write("first.jsonl", begin + &later);
    dir.write("second.jsonl", other);
    assert_eq!(alerts(dir, "out.jsonl"), undisturbed(dir, &["first.jsonl", "second.jsonl", "rest.jsonl"]));
}
