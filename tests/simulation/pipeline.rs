//! A pipe of stages in one process, and the faults of a run.

use crate::events::Input;
use clap::Parser;
use evt::stage::{Stage, StepResult};
use evt::tool::{ingest, sink, validate, window};
use evt_core::ErrorKind;
use evt_core::error::{Error, Result};
use evt_core::generate::random::Random;
use evt_run::clock::{Clock, SimulatedClock};
use evt_run::console::{Colour, Console};
use evt_run::run::Run;
use evt_run::run::io::{Io, Pipe};
use evt_run::stop::Stop;
use evt_run::storage::disk::{Disk, DiskFault};
use evt_run::task_pool::TaskPool;
use rustix::io::Errno;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: i64 = 1_000_000;
/// The wall time is set forward or back by at most this (µs): 30 days. It begins three years after the events.
const JUMP_MAX: u64 = 30 * 86_400 * 1_000_000;
/// A file of frames whose records come from the same origin and partition as those of the pipe.
const ARCHIVE: &str = "archive.frames";
/// Steps after which a run hangs.
const STEPS_MAX: u64 = 100_000;

/// The tools of a pipe, and a flag.
#[derive(Clone, Debug)]
pub struct Shape {
    tools: Vec<Tool>,
    /// `--out-of-orderness`, in seconds.
    bound: i64,
    session: bool,
    /// Whether the second stage reads [`ARCHIVE`] before its pipe.
    reads_archive: bool,
    /// Whether the windows exclude idle partitions.
    excludes_idle: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// evt-ingest into [`ARCHIVE`].
    Archive,
    Ingest,
    Validate,
    Window,
    Sink,
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Tool::Archive | Tool::Ingest => "evt-ingest",
            Tool::Validate => "evt-validate",
            Tool::Window => "evt-window",
            Tool::Sink => "evt-sink",
        }
    }
}

/// The command line of a stage.
#[derive(Clone, Debug)]
pub struct StageLine {
    pub tool: Tool,
    /// Its flags, behind the name of the program.
    pub args: Vec<String>,
}

impl StageLine {
    fn open(&self, run: &Rc<Run>) -> Result<Stage> {
        let args = self.args.clone();
        match self.tool {
            Tool::Archive | Tool::Ingest => ingest::Args::try_parse_from(args).expect("flags").stage(run),
            Tool::Validate => validate::Args::try_parse_from(args).expect("flags").stage(run),
            Tool::Window => window::Args::try_parse_from(args).expect("flags").stage(run),
            Tool::Sink => sink::Args::try_parse_from(args).expect("flags").stage(run),
        }
    }
}

impl Shape {
    /// `later` has the numbers of what was added later, so that each seed keeps its input and its tools.
    pub fn random(random: &mut Random, later: &mut Random) -> Self {
        use Tool::{Ingest, Sink, Validate, Window};
        let tools = match random.below(6) {
            0 => vec![Ingest, Sink],
            1 => vec![Ingest, Window],
            2 => vec![Ingest, Validate, Sink],
            3 => vec![Ingest, Validate, Window],
            _ => vec![Ingest, Validate, Window, Sink],
        };
        let (bound, session) = (10 + random.below(40) as i64, random.below(4) == 0);
        let reads_archive = random.below(4) == 0;
        // With two partitions, results would depend on timing. The only one determines the watermark idle or not.
        let excludes_idle = later.below(3) == 0 && !reads_archive;
        Self { tools, bound, session, reads_archive, excludes_idle }
    }

    /// One stage that writes [`ARCHIVE`].
    pub fn of_archive() -> Self {
        let tools = vec![Tool::Archive];
        Self { tools, bound: 0, session: false, reads_archive: false, excludes_idle: false }
    }

    pub fn reads_archive(&self) -> bool {
        self.reads_archive
    }

    /// How far windows fire behind stream time (µs).
    pub fn out_of_orderness(&self) -> i64 {
        self.bound * SECOND
    }

    fn args(&self, at: usize, dir: &Path) -> Vec<String> {
        let file = |name: &str| dir.join(name).display().to_string();
        let (letters, stats) = (file(&format!("dead{at}.jsonl")), file(&format!("stats{at}.json")));
        let mut args = ["evt", "--dlq", &letters, "--stats", &stats].map(str::to_owned).to_vec();
        let mut add = |more: &[&str]| args.extend(more.iter().map(|&arg| arg.to_owned()));
        match self.tools[at] {
            Tool::Archive => {
                let (letters, archive) = (file("archive.dead"), file(ARCHIVE));
                return ["evt", "-f", "jsonl", "--origin", "in", "--dlq", &letters, "--to", &archive]
                    .map(Into::into)
                    .into();
            }
            Tool::Ingest => add(&["-f", "jsonl", "--origin", "in"]),
            Tool::Validate => add(&["--dedup", "1h"]),
            Tool::Window => {
                let bound = format!("{}s", self.bound);
                add(&["--by", "event_type", "--agg", "sum(amount)", "--agg", "count(*)", "--out-of-orderness", &bound]);
                add(if self.session { &["--gap", "20s"] } else { &["--size", "1m", "--lateness", "30s"] });
                add(&["--late", &file("late.jsonl")]);
                add(if self.excludes_idle { &["--idle-after", "500ms"] } else { &[] });
            }
            Tool::Sink => {}
        }
        if at == 1 && self.reads_archive {
            add(&[&file(ARCHIVE), "-"]);
        }
        if at + 1 == self.tools.len() {
            add(&["--to", &file("out.jsonl"), "--to", &file("whole.parquet")]);
        } else {
            add(&["-o", "frames"]);
        }
        args
    }

    fn stages(&self, dir: &Path) -> Vec<StageLine> {
        let line = |at: usize| StageLine { tool: self.tools[at], args: self.args(at, dir) };
        (0..self.tools.len()).map(line).collect()
    }
}

/// The faults of a run, besides delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    None,
    /// All stages get a signal after this many steps.
    Signal {
        after: u64,
    },
    /// A stage is killed after this many steps.
    Kill {
        stage: usize,
        after: u64,
    },
    /// The disk of a stage fails after this many operations.
    Disk {
        stage: usize,
        after: u64,
        torn: usize,
    },
}

impl Disturbance {
    /// `later` has the numbers of what was added later.
    pub fn random(random: &mut Random, later: &mut Random, shape: &Shape) -> Self {
        let stages = shape.tools.len();
        let after = random.mostly_small(400);
        match random.below(20) {
            0..11 => Disturbance::None,
            11..14 => Disturbance::Signal { after },
            14..17 => Disturbance::Kill { stage: random.below(stages as u64) as usize, after },
            _ => {
                let stage = if later.below(2) == 0 { later.below(stages as u64) as usize } else { stages - 1 };
                Disturbance::Disk { stage, after: 1 + random.below(12), torn: random.below(200) as usize }
            }
        }
    }

    /// The disk of each stage.
    fn disks(self, stages: usize) -> Vec<Disk> {
        let mut disks = vec![Disk::default(); stages];
        if let Disturbance::Disk { stage, after, torn } = self {
            disks[stage] = Disk::failing(DiskFault { after, torn, errno: Errno::NOSPC, is_lasting: true });
        }
        disks
    }

    pub fn index(self) -> usize {
        match self {
            Disturbance::None => 0,
            Disturbance::Signal { .. } => 1,
            Disturbance::Kill { .. } => 2,
            Disturbance::Disk { .. } => 3,
        }
    }
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ended(u8),
    Failed(ErrorKind),
    Killed,
}

struct Node {
    stage: Option<Stage>,
    status: Option<Status>,
    /// The bytes that the stage before this one has written, and those that this one can read.
    inlet: Pipe,
    stdin: Pipe,
    stdout: Pipe,
    console: Arc<Mutex<String>>,
}

/// A pipe of stages.
pub struct Pipeline {
    nodes: Vec<Node>,
    clock: SimulatedClock,
    stop: Stop,
    dir: PathBuf,
    fed: usize,
    steps: u64,
    /// Whether the signal was raised or a stage was killed.
    is_disturbed: bool,
}

/// Records of a batch, so few that most runs have several batches.
pub const BATCH_MAX: usize = 5;

/// The length of the commits of outputs, the rows that outputs may have meanwhile, and the threads.
#[derive(Clone, Copy)]
pub struct Course {
    /// The steps that each commit of an output takes.
    pub lag: u32,
    /// The bytes of rows that outputs may have while they commit the epoch before; then nothing is read.
    pub ahead_max: u64,
    /// `--threads`. They change nothing, so the runs of a seed may have different ones.
    pub threads: usize,
}

impl Default for Course {
    fn default() -> Self {
        Self { lag: 0, ahead_max: u64::MAX, threads: 1 }
    }
}

impl Course {
    pub fn random(random: &mut Random) -> Self {
        Self {
            lag: random.below(8) as u32,
            ahead_max: [0, u64::MAX, u64::MAX, u64::MAX][random.below(4) as usize],
            threads: [1, 1, 2, 3][random.below(4) as usize],
        }
    }
}

impl Pipeline {
    /// Opens the stages, with the disks of `disturbance`; their files are in `dir`.
    pub fn new(shape: &Shape, dir: &Path, disturbance: Disturbance) -> Pipeline {
        std::fs::create_dir_all(dir).expect("a directory");
        let stages = shape.stages(dir);
        Self::open(&stages, dir, &disturbance.disks(stages.len()), Course::default(), Self::clock())
    }

    /// A clock at the beginning of a run.
    pub fn clock() -> SimulatedClock {
        SimulatedClock::at(1_800_000_000 * SECOND)
    }

    /// Opens the stages, each with its disk.
    pub fn open(stages: &[StageLine], dir: &Path, disks: &[Disk], course: Course, clock: SimulatedClock) -> Pipeline {
        let stop = Stop::never(&Clock::Simulated(clock.clone()));
        let dir = dir.to_owned();
        let mut pipeline = Self { nodes: vec![], clock, stop, dir, fed: 0, steps: 0, is_disturbed: false };
        for (at, (line, disk)) in stages.iter().zip(disks).enumerate() {
            let inlet = pipeline.nodes.last().map_or_else(Pipe::default, |before| before.stdout.clone());
            let (stdin, stdout, console) = (Pipe::default(), Pipe::default(), Arc::default());
            let name = line.tool.name();
            let run = Rc::new(Run {
                io: Io::Simulated { stdin: stdin.clone(), stdout: stdout.clone(), disk: disk.clone(), lag: course.lag },
                ahead_max: course.ahead_max,
                pool: TaskPool::simulated(course.threads),
                batch_max: BATCH_MAX,
                console: Console::new(name, Colour::Off).captured(&console),
                stop: pipeline.stop.clone(),
                ..Run::unwatched(name, Clock::Simulated(pipeline.clock.clone()))
            });
            pipeline.nodes.push(Node { stage: None, status: None, inlet, stdin, stdout, console });
            match line.open(&run) {
                Ok(stage) => pipeline.nodes[at].stage = Some(stage),
                Err(error) => pipeline.fail(at, &error),
            }
        }
        pipeline
    }

    /// Feeds everything, then steps one stage after another to its end.
    pub fn run_calmly(mut self, input: &Input) -> Ended {
        self.feed(input, input.bytes.len());
        for at in 0..self.nodes.len() {
            self.transfer(at, usize::MAX);
            while self.nodes[at].status.is_none() {
                self.step(at);
                self.clock.advance(Duration::from_millis(1));
            }
        }
        Ended(self)
    }

    /// Feeds, transfers, steps and sets the wall time in an order of `random`.
    pub fn run_wildly(mut self, input: &Input, disturbance: Disturbance, random: &mut Random) -> Ended {
        // Slower than this, a run takes most of its steps waiting for bytes.
        let pace = 200 + random.mostly_small(20_000);
        while self.nodes.iter().any(|node| node.status.is_none()) {
            self.disturb(disturbance);
            let at = random.below(self.nodes.len() as u64) as usize;
            match random.below(10) {
                0..2 => self.feed(input, 1 + random.below(pace) as usize),
                2..4 => self.transfer(at, 1 + random.below(pace) as usize),
                4 if random.below(10) == 0 => self.clock.jump(random.below(2 * JUMP_MAX) as i64 - JUMP_MAX as i64),
                4 => self.clock.advance(Duration::from_millis(random.mostly_small(400))),
                _ => self.step(at),
            }
        }
        Ended(self)
    }

    /// Writes the next bytes of the input; at its end its writer closes the pipe.
    fn feed(&mut self, input: &Input, count: usize) {
        let rest = &input.bytes[self.fed..];
        let count = count.min(rest.len());
        let mut to = self.nodes[0].inlet.clone();
        if !to.has_lost_reader() {
            to.write_all(&rest[..count]).expect("a pipe in memory");
        }
        self.fed += count;
        if self.fed == input.bytes.len() {
            to.close();
        }
    }

    /// Lets a stage read bytes that the one before it has written.
    fn transfer(&self, at: usize, count: usize) {
        let Node { inlet, stdin, .. } = &self.nodes[at];
        inlet.transfer(stdin, count);
        if inlet.is_empty() && inlet.is_closed() {
            stdin.close();
        }
    }

    fn step(&mut self, at: usize) {
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "the pipe hangs: {:?}", Ended::statuses_of(&self.nodes));
        let Some(stage) = &mut self.nodes[at].stage else { return };
        match stage.step() {
            Ok(StepResult::Ready | StepResult::Waiting(_)) => {}
            Ok(StepResult::Ended(status)) => self.end(at, Status::Ended(status)),
            Err(error) => self.fail(at, &error),
        }
    }

    /// Ends a process with an error, or by SIGPIPE.
    fn fail(&mut self, at: usize, error: &Error) {
        let node = &self.nodes[at];
        node.console.lock().expect("a console").push_str(&format!("{error}\n"));
        let is_signal = error.kind() == ErrorKind::ReaderGone;
        self.end(at, if is_signal { Status::Killed } else { Status::Failed(error.kind()) });
    }

    /// Ends a process: closes its pipes, so that a stage that writes to it ends at its next write.
    fn end(&mut self, at: usize, status: Status) {
        let node = &mut self.nodes[at];
        node.stage = None;
        node.status = Some(status);
        node.stdout.close();
        if !matches!(status, Status::Ended(_)) {
            node.inlet.close_reader();
        }
    }

    fn disturb(&mut self, disturbance: Disturbance) {
        match disturbance {
            Disturbance::Signal { after } if self.steps == after => {
                self.stop.raise(15);
                self.is_disturbed = true;
            }
            Disturbance::Kill { stage, after } if self.steps >= after && self.nodes[stage].status.is_none() => {
                self.end(stage, Status::Killed);
                self.is_disturbed = true;
            }
            _ => {}
        }
    }
}

/// A run that has ended.
pub struct Ended(Pipeline);

impl Ended {
    /// Whether the disturbance happened before the pipe had ended; a disk may have more operations than a stage uses.
    pub fn was_disturbed(&self) -> bool {
        self.0.is_disturbed || self.errors().contains(&ErrorKind::Io)
    }

    fn statuses_of(nodes: &[Node]) -> Vec<Option<Status>> {
        nodes.iter().map(|node| node.status).collect()
    }

    pub fn statuses(&self) -> Vec<Status> {
        self.0.nodes.iter().filter_map(|node| node.status).collect()
    }

    /// The messages of the stages.
    pub fn messages(&self) -> String {
        self.0.nodes.iter().map(|node| node.console.lock().expect("a console").clone()).collect()
    }

    pub fn errors(&self) -> Vec<ErrorKind> {
        let error = |status: Status| if let Status::Failed(kind) = status { Some(kind) } else { None };
        self.statuses().into_iter().filter_map(error).collect()
    }

    /// Whether every stage ended by itself, and nothing stopped the reading.
    pub fn is_whole(&self) -> bool {
        self.0.stop.signal().is_none() && self.statuses().iter().all(|status| matches!(status, Status::Ended(_)))
    }

    /// Whether all stages before the windows have ended at the end of the whole input.
    pub fn proves_end(&self, shape: &Shape) -> bool {
        let before = shape.tools.iter().take_while(|tool| **tool != Tool::Window).count();
        let has_ended = |status: &Status| matches!(status, Status::Ended(_));
        // A signal after the source has read its end changes nothing; the summary shows that the end was read.
        let is_stopped = self.0.nodes[0].console.lock().expect("a console").contains("; stopped");
        !is_stopped && self.statuses()[..before].iter().all(has_ended)
    }

    /// Bytes of the input that were written into the pipe.
    pub fn fed(&self) -> usize {
        self.0.fed
    }

    pub fn last_stage_has_ended(&self) -> bool {
        matches!(self.statuses().last(), Some(Status::Ended(_)))
    }

    /// Whether the last stage got the whole input and failed with an I/O error.
    pub fn last_stage_alone_failed(&self) -> bool {
        let statuses = self.statuses();
        let before = &statuses[..statuses.len() - 1];
        before.iter().all(|status| matches!(status, Status::Ended(_)))
            && statuses.last() == Some(&Status::Failed(ErrorKind::Io))
    }

    /// Whether the file that appears at a proven end is there.
    pub fn has_whole_file(&self) -> bool {
        self.0.dir.join("whole.parquet").exists()
    }

    /// Asserts that the stages behind the one that `cause` ended saw that the stream is torn, unless it had ended
    /// before.
    pub fn assert_torn_behind(&self, stage: usize, cause: Status, context: &str) {
        let statuses = self.statuses();
        if statuses[stage] != cause {
            return assert!(self.errors().is_empty(), "{context}: {}", self.messages());
        }
        for status in &statuses[stage + 1..] {
            assert_eq!(*status, Status::Failed(ErrorKind::Corrupt), "{context}: {}", self.messages());
        }
    }
}
