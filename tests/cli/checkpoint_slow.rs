//! `--checkpoint` and an output that hangs: it holds its epoch, and neither the reading nor the other outputs; which
//! one is said.

use crate::backfill::cells;
use crate::harness::{Dir, ended, eventually};
use crate::servers::{postgres, psql, redis};
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{Write, copy};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Outputs of raw events: one that hangs, one of the same epochs, and one that gets rows at once.
const OUTPUTS: [&str; 6] = ["--to", "held.jsonl", "--to", "rows.jsonl", "--to", "sqlite:now.db?visible=now"];

/// The number of events in a database.
fn stored(dir: &Dir, name: &str) -> usize {
    let db = Connection::open(dir.path(name)).expect("a database");
    db.query_row("SELECT count(*) FROM raw_events", [], |row| row.get::<_, i64>(0)).unwrap_or(0) as usize
}

/// The run of a test, which reads `a.jsonl` as it grows.
struct Run {
    dir: Dir,
    stages: Vec<Child>,
    written: usize,
}

impl Run {
    fn new(name: &str) -> Self {
        let dir = Dir::new(name);
        dir.write("a.jsonl", "");
        Self { dir, stages: vec![], written: 0 }
    }

    /// Starts the stages; each but the last one writes into the next one.
    fn start(&mut self, lines: &[&[&str]]) {
        self.stages.clear();
        for (at, line) in lines.iter().enumerate() {
            let before = self.stages.last_mut().and_then(|stage: &mut Child| stage.stdout.take());
            let log = File::options().create(true).append(true).open(self.dir.path("stderr")).expect("a file");
            let mut command = self.dir.command(line[0], &line[1..]);
            command.stdin(before.map_or(Stdio::null(), Stdio::from)).stderr(log);
            command.stdout(if at + 1 < lines.len() { Stdio::piped() } else { Stdio::null() });
            self.stages.push(command.spawn().expect("it starts"));
        }
    }

    /// Starts one process with all outputs.
    fn start_one(&mut self) {
        let ingest = ["evt-ingest", "-q", "--checkpoint", "state", "--checkpoint-every", "50ms", "--dlq", "null:"];
        self.start(&[&[&ingest[..], &["-f", "jsonl", "--follow", "a.jsonl"], &OUTPUTS[..]].concat()]);
    }

    /// Starts a pipe whose last stage has the outputs.
    fn start_pipe(&mut self) {
        let ingest = ["evt-ingest", "-q", "--checkpoint", "state", "--checkpoint-every", "50ms", "--dlq", "null:"];
        let first = [&ingest, &["-f", "jsonl", "--follow", "a.jsonl"][..]].concat();
        self.start(&[&first, &[&["evt-sink", "-q", "--dlq", "null:"], &OUTPUTS[..]].concat()]);
    }

    /// Adds events to the input, all at once: a run reads them as one batch.
    fn add(&mut self, events: usize) {
        let mut file = File::options().append(true).open(self.dir.path("a.jsonl")).expect("the input");
        let event = |number: usize| {
            let (minute, second) = (number / 60 % 60, number % 60);
            format!(
                "{{\"event_type\":\"t\",\"source\":\"s\",\"server_timestamp\":\"2026-01-01T{:02}:{minute:02}:{second:02}Z\"}}\n",
                number / 3600
            )
        };
        let text: String = (self.written..self.written + events).map(event).collect();
        file.write_all(text.as_bytes()).expect("written");
        self.written += events;
    }

    fn signal(&self, signal: Signal) {
        self.stages.iter().for_each(|stage| kill_process(Pid::from_child(stage), signal).expect("it runs"));
    }

    fn wait(&mut self) -> Vec<i32> {
        self.stages.iter_mut().map(|stage| ended("a stage", stage)).collect()
    }

    /// Stops the run with SIGTERM, which all of its stages follow.
    fn stop(&mut self) {
        self.signal(Signal::TERM);
        let statuses = self.wait();
        assert!(statuses.iter().all(|status| *status == 143), "{statuses:?}: {}", self.said());
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.dir.bytes("stderr")).into_owned()
    }

    fn wait_for_message(&self, words: &[&str]) {
        let is_said = || self.said().lines().any(|line| words.iter().all(|word| line.contains(word)));
        eventually(&format!("it says {words:?}"), is_said);
    }

    /// The events that a file has.
    fn lines(&self, name: &str) -> usize {
        if self.dir.path(name).exists() {
            self.dir.bytes(name).iter().filter(|byte| **byte == b'\n').count()
        } else {
            0
        }
    }

    /// The events that were visible at once.
    fn at_once(&self) -> usize {
        stored(&self.dir, "now.db")
    }

    /// Takes the lock for which the output `held.jsonl` waits then.
    fn hold(&self) -> File {
        let file = File::open(self.dir.path("held.jsonl")).expect("the output");
        flock(&file, FlockOperation::LockExclusive).expect("locked");
        file
    }

    /// Lets the output hang in a commit: the others have more rows than it has, and all rows are read.
    fn hangs(&mut self) -> File {
        self.add(100);
        self.catches_up();
        let (lock, before) = (self.hold(), self.written);
        self.add(100);
        eventually("the file beside has rows of the same epoch", || self.lines("rows.jsonl") > before);
        for _ in 0..3 {
            self.add(100);
            eventually("the stage reads on", || self.at_once() == self.written);
        }
        assert_eq!(self.lines("held.jsonl"), before);
        lock
    }

    /// Checks that every output has each event once.
    fn assert_complete(&self) {
        let mut rows = ["held.jsonl", "rows.jsonl"].map(|name| {
            let numbers = self.dir.rows(name);
            numbers.iter().map(|row| row["offset"].as_u64().expect("an offset") as usize).collect::<Vec<usize>>()
        });
        rows.iter_mut().for_each(|rows| rows.sort_unstable());
        assert_eq!(rows[0], Vec::from_iter(1..=self.written));
        assert_eq!(rows[1], rows[0]);
        assert_eq!(self.at_once(), self.written);
    }

    /// Waits until every output has all events.
    fn catches_up(&self) {
        let has_all = || ["held.jsonl", "rows.jsonl"].iter().all(|name| self.lines(name) == self.written);
        eventually("every output has all events", || has_all() && self.at_once() == self.written);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A failed test leaves nothing running.
        self.stages.iter_mut().for_each(|stage| _ = stage.kill());
    }
}

#[test]
fn an_output_that_hangs_holds_neither_the_reading_nor_other_outputs_and_is_named() {
    for (name, start) in [("slow-one", Run::start_one as fn(&mut Run)), ("slow-pipe", Run::start_pipe)] {
        let mut run = Run::new(name);
        start(&mut run);
        let lock = run.hangs();
        run.wait_for_message(&[
            "held.jsonl: epoch 1-",
            "is not committed after ",
            "s; the stage reads on; its rows wait for the next epoch",
        ]);
        drop(lock);
        run.wait_for_message(&["held.jsonl: epoch 1-", "is committed after "]);
        run.catches_up();
        run.add(50);
        run.catches_up();
        run.stop();
        run.assert_complete();
    }
}

#[test]
fn a_run_that_is_killed_while_an_output_hangs_is_continued_once_and_whole() {
    for (name, start) in [("slow-kill", Run::start_one as fn(&mut Run)), ("slow-kill-pipe", Run::start_pipe)] {
        let mut run = Run::new(name);
        start(&mut run);
        for _ in 0..2 {
            let lock = run.hangs();
            run.signal(Signal::KILL);
            run.wait();
            drop(lock);
            start(&mut run);
            run.catches_up();
        }
        run.stop();
        run.assert_complete();
    }
}

/// The wait for a lock has no end of its own.
#[test]
fn a_signal_ends_the_wait_for_an_output_and_the_next_run_commits_its_epoch() {
    let mut run = Run::new("slow-signal");
    run.start_one();
    let lock = run.hangs();
    run.signal(Signal::TERM);
    assert_eq!(run.wait(), [143], "{}", run.said());
    run.wait_for_message(&["held.jsonl: epoch 1-", "is not committed after", "the next run commits it"]);
    drop(lock);
    run.start_one();
    run.catches_up();
    run.stop();
    run.assert_complete();
}

/// Rows that such a store does not take wait for the end of their epoch.
#[test]
fn a_store_that_gets_rows_at_once_and_hangs_holds_neither_the_reading_nor_other_stores() {
    let is_seen = (0..6).any(|attempt| reads_on(&format!("slow-at-once-{attempt}")));
    assert!(is_seen, "in six attempts the other store did not get the rows that were read");
}

/// Returns false if the other store does not get the rows that are read. On a slow disk it may need more than the five
/// seconds after which further rows of the epoch wait for its end, too.
fn reads_on(name: &str) -> bool {
    let mut run = Run::new(name);
    let outputs =
        ["--to", "sqlite:now.db?visible=now&wait=10m", "--to", "sqlite:also.db?visible=now", "--to", "rows.jsonl"];
    let ingest = ["evt-ingest", "-q", "--checkpoint", "state", "--checkpoint-every", "50ms", "--dlq", "null:"];
    let line = [&ingest[..], &["-f", "jsonl", "--follow", "a.jsonl"], &outputs[..]].concat();
    let has_all = |run: &Run| {
        eventually("all have all events", || {
            let stores = ["now.db", "also.db"].map(|name| stored(&run.dir, name));
            stores == [run.written; 2] && run.lines("rows.jsonl") == run.written
        });
    };
    run.start(&[&line]);
    for is_killed in [false, true] {
        run.add(100);
        has_all(&run);
        let before = run.written;
        let locker = Connection::open(run.dir.path("now.db")).expect("a database");
        locker.busy_timeout(Duration::from_secs(60)).expect("set");
        locker.execute_batch("BEGIN IMMEDIATE").expect("locked");
        for _ in 0..3 {
            run.add(100);
            let begun = Instant::now();
            while stored(&run.dir, "also.db") != run.written {
                if begun.elapsed() > Duration::from_secs(60) {
                    return false;
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
        assert_eq!(stored(&run.dir, "now.db"), before);
        match is_killed {
            false => run.wait_for_message(&["sqlite:now.db: ", " after ", "reads on"]),
            true => {
                run.signal(Signal::KILL);
                run.wait();
            }
        }
        locker.execute_batch("ROLLBACK").expect("free");
        if is_killed {
            run.start(&[&line]);
        }
        has_all(&run);
    }
    run.add(10);
    has_all(&run);
    run.stop();
    true
}

/// A way to a server that can be closed: connections stay, and no byte passes.
struct Gate {
    port: u16,
    is_closed: Arc<AtomicBool>,
}

impl Gate {
    /// Opens a way to the server of this URI. It ends with the process.
    fn new(server: &str) -> Self {
        let address =
            server.split('@').next_back().and_then(|rest| rest.split('/').next()).expect("an address").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let gate = Self { port: listener.local_addr().expect("an address").port(), is_closed: Arc::default() };
        let is_closed = gate.is_closed.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&address) else { continue };
                let ends = [(&client, &server), (&server, &client)];
                for (from, to) in ends.map(|(from, to)| (from.try_clone(), to.try_clone())) {
                    let is_closed = is_closed.clone();
                    let (Ok(mut from), Ok(to)) = (from, to) else { continue };
                    std::thread::spawn(move || copy(&mut from, &mut Gated { to, is_closed }));
                }
            }
        });
        gate
    }

    /// Returns the URI of the server behind it.
    fn uri(&self, server: &str) -> String {
        let (before, rest) = server.rsplit_once('@').unwrap_or_else(|| server.split_once("//").expect("a URI"));
        let separator = if server.contains('@') { "@" } else { "//" };
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        format!("{before}{separator}127.0.0.1:{}/{path}", self.port)
    }

    fn close(&self, is_closed: bool) {
        self.is_closed.store(is_closed, Ordering::Release);
    }
}

/// The end of a way behind the gate.
struct Gated {
    to: TcpStream,
    is_closed: Arc<AtomicBool>,
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        while self.is_closed.load(Ordering::Acquire) {
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        self.to.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Windows that fire are in Redis at once, whether PostgreSQL answers or not.
#[test]
fn redis_gets_rows_while_postgresql_does_not_answer_and_both_are_equal_in_the_end() {
    let Some((redis, ..)) = redis() else { return };
    let Some((_, server, schema)) = postgres() else { return };
    let gate = Gate::new(&server);
    let postgres = format!("{}?schema={schema}", gate.uri(&server));
    let mut run = Run::new("slow-servers");
    let window = ["evt-window", "-q", "--size", "10s", "--by", "source", "--out-of-orderness", "0s", "--late", "null:"];
    let outputs = ["--dlq", "null:", "--to", &redis, "--to", &postgres];
    let first = [
        &["evt-ingest", "-q", "--checkpoint", "state", "--checkpoint-every", "50ms", "--dlq", "null:"],
        &["-f", "jsonl", "--follow", "a.jsonl"][..],
    ]
    .concat();
    let lines: [&[&str]; 2] = [&first, &[&window[..], &outputs].concat()];
    run.start(&lines);
    run.add(200);
    let rows = |run: &Run, uri: &str| cells(&run.dir, uri).len();
    let direct = format!("{server}?schema={schema}");
    eventually("both have the first windows", || rows(&run, &redis) == 19 && rows(&run, &direct) == 19);
    gate.close(true);
    for expected in [29, 39, 49] {
        run.add(100);
        eventually("Redis has later windows", || rows(&run, &redis) == expected);
    }
    assert!(rows(&run, &direct) < 49);
    run.wait_for_message(&["is not committed after ", "s; the stage reads on; its rows wait for the next epoch"]);
    gate.close(false);
    run.wait_for_message(&["postgres", "is committed after "]);
    eventually("both have all windows", || rows(&run, &direct) == 49);
    assert_eq!(cells(&run.dir, &redis), cells(&run.dir, &direct));
    // Killed while PostgreSQL does not answer: the next run writes what is missing, once.
    gate.close(true);
    run.add(100);
    eventually("Redis has later windows", || rows(&run, &redis) == 59);
    run.signal(Signal::KILL);
    run.wait();
    gate.close(false);
    run.start(&lines);
    eventually("both have all windows", || rows(&run, &direct) == 59);
    run.stop();
    assert_eq!(cells(&run.dir, &redis), cells(&run.dir, &direct));
    psql(&run.dir, &server, "public", &format!("DROP SCHEMA {schema} CASCADE"));
}
