//! Kills processes of a pipe with a checkpoint at random moments, and counts where.

use crate::checkpoint_pipes::Pipe;
use crate::harness::{Dir, Draws, LONG_WAIT, ROOT, ended, ended_within};
use crate::listener::Listener;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Exit statuses of a stage when another one is killed. 1, 2, 70 and 78 would be faults.
const KNOWN: [i32; 7] = [0, 65, 74, 75, 137, 141, 143];
/// Maximum time until the moment of a kill. A phase for which a kill waits may not come.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How long the stages of a pipe with branches may run on after one of them was killed.
const BRANCHES: Duration = Duration::from_secs(3);

/// The stages of a pipe: a line of them, and one that reads a branch behind tee(1).
pub struct StageLines {
    pub line: Vec<(&'static str, Vec<String>)>,
    pub branch: Option<(&'static str, Vec<String>)>,
}

impl StageLines {
    pub fn start(&self, dir: &Dir) -> Pipe {
        match &self.branch {
            Some(branch) => Pipe::with_branch(dir, &self.line, branch),
            None => Pipe::start(dir, &self.line),
        }
    }

    /// The number of processes.
    pub fn count(&self) -> usize {
        self.line.len() + usize::from(self.branch.is_some())
    }

    /// The tool of a process.
    fn tool(&self, stage: usize) -> &'static str {
        self.line.get(stage).or(self.branch.as_ref()).map_or("", |(tool, _)| tool)
    }
}

/// Starts a client that posts the lines of the file `events` until each is acknowledged.
pub fn client(dir: &Dir, python: &str, host: &str, events: &str) -> Child {
    let post = format!("{ROOT}/tests/oracle/post.py");
    let mut client = dir.command(python, &[&post, &format!("http://{host}"), events, "50"]);
    client.stdout(Stdio::null()).spawn().expect("it starts")
}

/// An HTTP server with a spool, and a client that posts events until each is acknowledged. The server is started again
/// at its address when it was killed.
pub struct HttpServer<'a> {
    dir: &'a Dir,
    to: String,
    host: String,
    listener: Option<Listener>,
    client: Child,
}

impl<'a> HttpServer<'a> {
    /// Starts a server that writes to the topic `to`, and a client that posts the lines of the file `events`.
    pub fn open(dir: &'a Dir, to: &str, python: &str, events: &str) -> Self {
        // The port is free between two runs of the server. Other tests use 127.0.0.1, so none of them takes it.
        let listener = Self::start(dir, "127.0.0.2:0", to).listening();
        let host = listener.host.clone();
        let client = client(dir, python, &host, events);
        Self { dir, to: to.to_owned(), host, listener: Some(listener), client }
    }

    fn start(dir: &Dir, host: &str, to: &str) -> Listener {
        let flags = ["--spool", "spool", "--time", "client_timestamp", "--to", to, "--dlq", "refused.jsonl"];
        Listener::start(dir, &format!("http://{host}"), &flags)
    }

    /// Kills the server and starts it again. Returns whether it ran.
    fn kill(&mut self) -> bool {
        let Some(listener) = self.listener.take() else { return false };
        listener.signal(Signal::KILL);
        let (status, said) = listener.wait();
        assert!(KNOWN.contains(&status), "the server: {status}: {said}");
        self.listener = Some(Self::start(self.dir, &self.host, &self.to));
        status == 137
    }

    /// Ends both when all events are acknowledged.
    pub fn finish(mut self) {
        assert_eq!(ended_within(LONG_WAIT, "the client", &mut self.client), 0, "the client");
        for _ in 0..10 {
            let listener = self.listener.take().expect("it runs").listening();
            listener.signal(Signal::TERM);
            let (status, said) = listener.wait();
            // On a slow machine the waits for brokers may expire; the next run sends what the spool has.
            let has_sent_all = status == 143 && !said.contains("in the spool for the next run");
            if has_sent_all {
                return;
            }
            assert!([69, 143].contains(&status), "the server: {status}: {said}");
            self.listener = Some(Self::start(self.dir, &self.host, &self.to));
        }
        panic!("no run of the server sends all that its spool has");
    }
}

impl Drop for HttpServer<'_> {
    fn drop(&mut self) {
        // Otherwise a failed test would leave it running.
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// Kills so far, and what the seed draws.
pub struct Kills {
    pub draws: Draws,
    pub count: u32,
    processes: u32,
    starts: u32,
    epochs: u64,
    /// Kills by what was killed and what the log said of the run.
    places: BTreeMap<(&'static str, &'static str), u32>,
    /// Stages of a run that were stopped when another one was killed. They wake up beside the next run.
    sleepers: Option<Pipe>,
    /// Runs in a row that ended with an error of their own.
    failures: u32,
}

impl Kills {
    pub fn new(draws: Draws) -> Self {
        let places = BTreeMap::new();
        Self { draws, count: 0, processes: 0, starts: 0, epochs: 0, places, sleepers: None, failures: 0 }
    }

    /// Starts the stages and kills one of them, or all, at a random moment. Returns false if they have ended well
    /// before.
    pub fn turn(&mut self, dir: &Dir, stages: &StageLines, mut server: Option<&mut HttpServer>) -> bool {
        let (before, count) = (entries(dir), stages.count());
        let mut pipe = stages.start(dir);
        self.starts += 1;
        loop {
            self.await_moment(dir, before, &mut pipe);
            (0..count).for_each(|stage| pipe.signal(stage, Signal::STOP));
            if pipe.has_ended() {
                (0..count).for_each(|stage| pipe.signal(stage, Signal::CONT));
                return self.end_alone(dir, &mut pipe);
            }
            let phase = phase(dir, before);
            let victims = count as u64 + if server.is_some() { 2 } else { 1 };
            let victim = self.draws.below(victims) as usize;
            let is_all = victim == count;
            let server_is_hit = match &mut server {
                Some(server) if victim >= count => server.kill(),
                _ => false,
            };
            if victim > count {
                (0..count).for_each(|stage| pipe.signal(stage, Signal::CONT));
                self.add("the HTTP server", phase, u32::from(server_is_hit));
                continue;
            }
            let killed: Vec<usize> = (0..count).filter(|stage| is_all || *stage == victim).collect();
            killed.iter().for_each(|stage| pipe.signal(*stage, Signal::KILL));
            let statuses: Vec<i32> =
                killed.iter().map(|stage| ended("the killed stage", &mut pipe.0[*stage])).collect();
            let hits = statuses.iter().filter(|status| **status == 137).count() as u32 + u32::from(server_is_hit);
            self.add(if is_all { "all" } else { stages.tool(victim) }, phase, hits);
            // Others that are stopped would never be continued.
            if !is_all && self.sleepers.is_none() && self.draws.below(8) == 0 {
                self.sleepers = Some(pipe);
                return true;
            }
            (0..count).for_each(|stage| pipe.signal(stage, Signal::CONT));
            if stages.branch.is_some() {
                end_branches(&mut pipe);
            }
            self.wake_sleepers();
            check(&pipe.wait(), dir, &self.draws);
            self.end_sleepers(dir);
            return true;
        }
    }

    /// Waits for the end of a run that no signal has hit. Returns whether it is to be started again.
    fn end_alone(&mut self, dir: &Dir, pipe: &mut Pipe) -> bool {
        self.wake_sleepers();
        let statuses = pipe.wait();
        check(&statuses, dir, &self.draws);
        self.end_sleepers(dir);
        let has_failed = statuses.iter().any(|status| *status != 0);
        self.failures = if has_failed { self.failures + 1 } else { 0 };
        assert!(self.failures < 10, "{}: no run begins: {statuses:?} in {}", self.draws, dir.path("").display());
        has_failed
    }

    fn add(&mut self, victim: &'static str, phase: &'static str, processes: u32) {
        if processes > 0 {
            self.failures = 0;
            self.count += 1;
            self.processes += processes;
            *self.places.entry((victim, phase)).or_default() += 1;
        }
    }

    /// Waits for a random time, or for a phase of the run and a random time, while stages of the run before wake up.
    fn await_moment(&mut self, dir: &Dir, before: u64, pipe: &mut Pipe) {
        let start = Instant::now();
        let wanted =
            [None, None, None, Some("recovery"), Some("prepare"), Some("commit")][self.draws.below(6) as usize];
        let longest =
            if wanted.is_some() { 12_000 } else { [50_000, 400_000, 1_000_000][self.draws.below(3) as usize] };
        let rest = Duration::from_micros(self.draws.below(longest));
        let wakes = Duration::from_millis(self.draws.below(300));
        let mut since = wanted.is_none().then_some(start);
        loop {
            if start.elapsed() >= wakes {
                self.wake_sleepers();
            }
            if since.is_none() && wanted == Some(phase(dir, before)) {
                since = Some(Instant::now());
            }
            if since.is_some_and(|since| since.elapsed() >= rest) || start.elapsed() > PATIENCE || pipe.has_ended() {
                return;
            }
            std::thread::park_timeout(Duration::from_micros(300));
        }
    }

    /// Continues the stages of the run before, which were stopped. They may have locks for which the next run waits.
    fn wake_sleepers(&mut self) {
        if let Some(sleepers) = &mut self.sleepers {
            (0..sleepers.0.len()).for_each(|stage| sleepers.signal(stage, Signal::CONT));
        }
    }

    /// Lets the stages of the run before, which were stopped, end.
    pub fn end_sleepers(&mut self, dir: &Dir) {
        self.wake_sleepers();
        if let Some(mut sleepers) = self.sleepers.take() {
            if sleepers.0.len() > 4 {
                end_branches(&mut sleepers);
            }
            check(&sleepers.wait(), dir, &self.draws);
        }
    }

    /// Adds the epochs of a job.
    pub fn add_epochs(&mut self, dir: &Dir) {
        let log = dir.path("state/log");
        let all = (1..=entries(dir)).filter(|number| complete(&log, *number).is_some());
        self.epochs += all.count() as u64;
    }
}

/// Kills what is left of a pipe with branches after a while: at the end of its input it would wait ten minutes for a
/// branch that has gone.
fn end_branches(pipe: &mut Pipe) {
    let start = Instant::now();
    let has_ended = |pipe: &mut Pipe| pipe.0.iter_mut().all(|stage| stage.try_wait().expect("a child").is_some());
    while !has_ended(pipe) && start.elapsed() < BRANCHES {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    (0..pipe.0.len()).for_each(|stage| pipe.signal(stage, Signal::KILL));
}

#[track_caller]
fn check(statuses: &[i32], dir: &Dir, draws: &Draws) {
    let unknown = statuses.iter().find(|status| !KNOWN.contains(status));
    assert_eq!(unknown, None, "{draws}: {statuses:?} in {}", dir.path("").display());
}

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { draws, count, processes, starts, epochs, places, .. } = self;
        write!(f, "{draws}: {count} kills of {processes} processes, {starts} starts, {epochs} epochs")?;
        for ((victim, phase), kills) in places {
            write!(f, "\n{kills:6}  {victim}, {phase}")?;
        }
        Ok(())
    }
}

/// Returns the number of the last entry of the log; 0 if there is none.
pub fn entries(dir: &Dir) -> u64 {
    let Ok(log) = std::fs::read_dir(dir.path("state/log")) else { return 0 };
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    log.filter_map(Result::ok).filter_map(number).max().unwrap_or(0)
}

/// Whether the log has a complete epoch.
pub fn has_epoch(dir: &Dir) -> bool {
    let log = dir.path("state/log");
    (1..=entries(dir)).any(|number| complete(&log, number).is_some())
}

/// Returns the epoch and the stages that an entry completes.
fn complete(log: &Path, number: u64) -> Option<(u64, u64, Vec<String>)> {
    let entry: Value = serde_json::from_slice(&std::fs::read(log.join(number.to_string())).ok()?).ok()?;
    let complete = entry.get("complete")?;
    let stages = complete["stages"].as_array()?.iter().filter_map(|stage| stage["stage"].as_str());
    let epoch = &complete["epoch"];
    Some((epoch["run"].as_u64()?, epoch["number"].as_u64()?, stages.map(str::to_owned).collect()))
}

/// Returns what the newest run of a checkpoint does; entry `before` was the last one when it was started.
fn phase(dir: &Dir, before: u64) -> &'static str {
    let (log, last) = (dir.path("state/log"), entries(dir));
    if last <= before {
        return "start";
    }
    let of_run = (before + 1..=last).rev().find_map(|number| complete(&log, number));
    let is_own = of_run.is_some();
    let Some((run, number, stages)) =
        of_run.or_else(|| (1..=before).rev().take(50).find_map(|number| complete(&log, number)))
    else {
        return "first epoch";
    };
    let epochs = dir.path("state/epochs");
    let is_committed =
        |stage: &String| epochs.join(format!("{run}-{number}")).join(format!("{stage}.committed")).exists();
    match (stages.iter().all(is_committed), is_own) {
        (false, false) => return "recovery",
        (false, true) => return "commit",
        (true, _) => {}
    }
    // The first entry of a run has its number.
    let next = if run > before { (run, number + 1) } else { (before + 1, 1) };
    let Ok(parts) = std::fs::read_dir(epochs.join(format!("{}-{}", next.0, next.1))) else { return "reading" };
    let names: Vec<String> =
        parts.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let is_sealed = |name: &String| name.ends_with(".json") || name.ends_with(".state") || name.ends_with(".positions");
    if names.iter().any(is_sealed) { "prepare" } else { "reading" }
}
