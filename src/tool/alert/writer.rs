//! The thread that writes rows and dead letters: an output that does not answer stops neither evaluation nor
//! notifications.
//!
//! ```text
//! AlertRun ─► commands (at most [`COMMANDS`]) ─► thread: Outputs ─► the number of the last row that is durable
//! ```
//!
//! Rows that are not durable yet are in the state file, and the next run writes them.

use crate::counts::Counts;
use crate::emit::Dead;
use crate::error::{Error, Result};
use crate::frame::End;
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault};
use crate::output::dead_letters::DeadLetters;
use crate::output::stamped;
use crate::output::{OutputPlan, OutputReport};
use crate::run::Run;
use crate::stage::operator::Collector;
use crate::stage::outputs::Outputs;
use crate::time::rounded;
use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Maximum number of commands that wait for the thread.
const COMMANDS: usize = 1024;
/// The time without a finished command after which the run reports that the outputs do not answer.
const REPORT_AFTER: Duration = Duration::from_secs(5);
/// Interval at which a waiting run checks the thread.
const POLL: Duration = Duration::from_millis(10);
/// How long a run that fails waits for the thread to write what it has.
const ABANDON: Duration = Duration::from_secs(5);

/// The outputs of a run, before they are open.
pub struct WriterPlan {
    /// The outputs of rows.
    pub plans: Vec<OutputPlan>,
    /// The output of dead letters.
    pub dlq: Option<OutputPlan>,
    /// `-q`.
    pub is_quiet: bool,
    /// Whether rows are made durable at once, because a state file keeps them until then.
    pub settles: bool,
}

/// Letters that are not written yet.
pub enum NewLetters {
    /// Letters of the records of an input.
    OfRecords(Dead),
    /// The letter of a row that the rules could not evaluate.
    OfRow { batch: RecordBatch, row: usize, fault: Fault },
}

/// The letters of a step of a feed.
#[derive(Default)]
pub struct FeedLetters {
    /// The letters, in the order of their records and rows.
    pub new: Vec<NewLetters>,
    /// Whether these and all earlier letters must be durable before the positions of the feed are stored.
    pub settles: bool,
}

impl FeedLetters {
    /// Adds the letters of a later step.
    pub fn append(&mut self, later: Self) {
        self.new.extend(later.new);
        self.settles |= later.settles;
    }
}

/// A command to the thread.
enum WriterCommand {
    /// Writes rows; the last one has this number in the state file.
    Rows(RecordBatch, Option<i64>),
    /// Writes letters.
    Letters(NewLetters),
    /// Makes letters durable, then answers.
    Settle(Sender<()>),
    /// Waits until every row is accepted or rejected, then answers.
    Conclude(Sender<()>),
    /// Ends the outputs.
    Finish(End),
}

/// The progress of the thread, which its owner reads too.
#[derive(Clone, Copy, Debug, Default)]
struct WriterProgress {
    /// The number of commands that are done.
    commands: u64,
    /// The number of the last row that is durable.
    confirmed: i64,
    /// Letters of faulty rows that could not be written.
    lost_letters: u64,
    writes_letters: bool,
}

/// The results of the outputs at the end of a run.
pub struct WriterReport {
    /// The end; notices of outputs may have changed its verdict.
    pub end: End,
    /// The report of each output.
    pub outputs: Vec<OutputReport>,
    /// The number of dead letters by type.
    pub dead: BTreeMap<ErrorType, u64>,
}

/// The owner's side of the thread.
pub struct Writer {
    run: Rc<Run>,
    /// The outputs before [`Writer::open`].
    plan: Option<WriterPlan>,
    commands: Option<SyncSender<WriterCommand>>,
    thread: Option<JoinHandle<Result<Option<WriterReport>>>>,
    done: Arc<Mutex<WriterProgress>>,
    /// The number of commands sent so far.
    sent: u64,
    /// The number of commands that were done at `seen_at`.
    seen: u64,
    /// The last check at which more commands were done than before, or none was waiting.
    seen_at: Duration,
    /// Since when the outputs have not answered, if that was reported.
    waiting_since: Option<Duration>,
    has_reported_bound: bool,
}

fn lock(done: &Mutex<WriterProgress>) -> MutexGuard<'_, WriterProgress> {
    // Each change is one assignment, so the data is valid after a panic.
    done.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Makes a writer whose thread does not run yet.
    pub fn new(plan: WriterPlan, run: &Rc<Run>) -> Self {
        Self {
            run: run.clone(),
            plan: Some(plan),
            commands: None,
            thread: None,
            done: Arc::default(),
            sent: 0,
            seen: 0,
            seen_at: Duration::ZERO,
            waiting_since: None,
            has_reported_bound: false,
        }
    }

    /// Starts the thread, and waits until it has opened the outputs. Errors: those of opening, 74 if no thread can
    /// start.
    pub fn open(&mut self) -> Result<()> {
        let Some(plan) = self.plan.take() else { return Ok(()) };
        let (commands, received) = sync_channel(COMMANDS);
        let (opened, is_open) = channel();
        let (done, run) = (self.done.clone(), self.run.for_thread());
        let write = move || WriterThread::open(plan, run, done, &opened)?.map_or(Ok(None), |one| one.run(&received));
        let thread = std::thread::Builder::new().name("outputs".to_owned()).spawn(write);
        self.thread = Some(thread.map_err(|error| Error::io("a thread", &error))?);
        self.commands = Some(commands);
        if is_open.recv().is_err() {
            self.join()?;
        }
        Ok(())
    }

    /// Waits for the thread. Errors: those that ended it.
    fn join(&mut self) -> Result<Option<WriterReport>> {
        self.commands = None;
        let Some(thread) = self.thread.take() else { return Ok(None) };
        thread.join().unwrap_or_else(|_| Err(Error::broken("the thread of the outputs panicked")))
    }

    /// Returns the error of a thread that has ended.
    fn check(&mut self) -> Result<()> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join()?;
            return Err(Error::broken("the thread of the outputs has ended"));
        }
        Ok(())
    }

    /// Sends the thread a command; waits while [`COMMANDS`] commands wait, and reports that once.
    fn send(&mut self, mut command: WriterCommand) -> Result<()> {
        loop {
            let Some(commands) = &self.commands else { return Err(Error::broken("the outputs have ended")) };
            command = match commands.try_send(command) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => command,
            };
            self.check()?;
            if !std::mem::replace(&mut self.has_reported_bound, true) {
                let line = format!("evaluation waits: {COMMANDS} batches of rows and letters wait for the outputs");
                self.run.console.warn(line);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Writes rows; `last` is the number of the last one in the state file.
    pub fn rows(&mut self, rows: RecordBatch, last: Option<i64>) -> Result<()> {
        self.send(WriterCommand::Rows(rows, last))
    }

    /// Writes the letters of a feed, and waits until all letters are durable if its positions need that.
    pub fn letters(&mut self, letters: FeedLetters) -> Result<()> {
        letters.new.into_iter().try_for_each(|new| self.send(WriterCommand::Letters(new)))?;
        if letters.settles { self.send_and_wait(WriterCommand::Settle) } else { Ok(()) }
    }

    fn send_and_wait(&mut self, command: impl FnOnce(Sender<()>) -> WriterCommand) -> Result<()> {
        let (answer, answered) = channel();
        self.send(command(answer))?;
        while let Err(error) = answered.recv_timeout(POLL) {
            self.check()?;
            if error == RecvTimeoutError::Disconnected {
                self.join()?;
                return Err(Error::broken("the thread of the outputs has ended"));
            }
        }
        Ok(())
    }

    /// Waits until every row is accepted or rejected.
    pub fn conclude(&mut self) -> Result<()> {
        self.send_and_wait(WriterCommand::Conclude)
    }

    /// Ends the outputs.
    pub fn finish(&mut self, end: End) -> Result<WriterReport> {
        self.send(WriterCommand::Finish(end))?;
        self.join()?.ok_or_else(|| Error::broken("the outputs did not end"))
    }

    /// Returns the number of the last row that is durable in every output; 0 if none is.
    pub fn confirmed(&self) -> i64 {
        lock(&self.done).confirmed
    }

    /// Counts records as dropped whose letters were not written.
    pub fn count_lost(&self, counts: &mut Counts) {
        let WriterProgress { lost_letters, writes_letters, .. } = *lock(&self.done);
        let lost = if writes_letters { lost_letters.min(counts.dead) } else { counts.dead };
        counts.dead -= lost;
        counts.dropped += lost;
    }

    /// Reports once that the outputs do not answer, and once that they do again. The process did not run before
    /// `resumed`. Errors: those that ended the thread.
    pub fn tick(&mut self, now: Duration, resumed: Duration) -> Result<()> {
        self.check()?;
        let done = lock(&self.done).commands;
        if done != self.seen || done == self.sent {
            (self.seen, self.seen_at) = (done, now);
            if let Some(since) = self.waiting_since.take() {
                let duration = rounded(Duration::from_secs(now.saturating_sub(since).as_secs()));
                self.run.console.say(format!("the outputs confirm rows again after {duration}"));
            }
        }
        let since = self.seen_at.max(resumed);
        if self.waiting_since.is_none() && now.saturating_sub(since) >= REPORT_AFTER {
            self.waiting_since = Some(since);
            let line = "the outputs have not confirmed rows for 5s; evaluation and notifications continue";
            self.run.console.warn(line);
        }
        Ok(())
    }
}

/// A run that fails lets the thread write what it has, for a moment.
impl Drop for Writer {
    fn drop(&mut self) {
        self.commands = None;
        let start = Instant::now();
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && start.elapsed() < ABANDON {
            std::thread::sleep(POLL);
        }
    }
}

/// The thread's side.
struct WriterThread {
    run: Rc<Run>,
    outputs: Outputs,
    settles: bool,
    done: Arc<Mutex<WriterProgress>>,
    /// When the metrics were set last.
    shown: Duration,
}

impl WriterThread {
    /// Opens the outputs. Returns `None` if the owner is gone.
    fn open(plan: WriterPlan, run: Run, done: Arc<Mutex<WriterProgress>>, opened: &Sender<()>) -> Result<Option<Self>> {
        let run = Rc::new(run);
        let WriterPlan { plans, dlq, is_quiet, settles } = plan;
        let letters = DeadLetters::new(run.clone(), dlq);
        let mut outputs = Outputs::new(run.clone(), plans, None, letters, is_quiet);
        outputs.open(stamped(&Kind::Alert.schema(), &run), None, 0)?;
        outputs.dead.open()?;
        let mut thread = Self { run, outputs, settles, done, shown: Duration::ZERO };
        thread.publish();
        Ok(opened.send(()).is_ok().then_some(thread))
    }

    /// Executes commands until the owner ends the outputs or is gone.
    fn run(mut self, commands: &Receiver<WriterCommand>) -> Result<Option<WriterReport>> {
        loop {
            match commands.recv_timeout(Run::LINGER) {
                Ok(WriterCommand::Finish(mut end)) => {
                    let outputs = self.outputs.finish(&mut end)?;
                    let dead = self.outputs.dead.by_type().clone();
                    return Ok(Some(WriterReport { end, outputs, dead }));
                }
                Ok(command) => {
                    self.execute(command)?;
                    lock(&self.done).commands += 1;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
            self.outputs.tick()?;
            self.publish();
        }
    }

    fn execute(&mut self, command: WriterCommand) -> Result<()> {
        let answer = match command {
            WriterCommand::Rows(rows, last) => {
                let rows = RecordBatch::try_new(self.outputs.schema(), rows.columns().to_vec())?;
                self.outputs.rows(&rows)?;
                self.outputs.flush()?;
                if self.settles {
                    self.outputs.settle()?;
                }
                let mut done = lock(&self.done);
                done.confirmed = done.confirmed.max(last.unwrap_or(0));
                return Ok(());
            }
            WriterCommand::Letters(NewLetters::OfRecords(letters)) => return self.outputs.dead.take(&letters),
            WriterCommand::Letters(NewLetters::OfRow { batch, row, fault }) => {
                return self.outputs.dead(&batch, row, &fault);
            }
            WriterCommand::Settle(answer) => {
                self.outputs.dead.settle()?;
                answer
            }
            WriterCommand::Conclude(answer) => {
                self.outputs.conclude()?;
                answer
            }
            WriterCommand::Finish(_) => return Ok(()),
        };
        self.publish();
        // The owner is gone if it does not wait.
        _ = answer.send(());
        Ok(())
    }

    /// Shows the owner what is done, and sets the metrics.
    fn publish(&mut self) {
        {
            let mut done = lock(&self.done);
            done.lost_letters = self.outputs.dead.lost().of_stage;
            done.writes_letters = self.outputs.dead.is_written();
        }
        let now = self.run.clock.monotonic();
        if self.run.metrics.is_on() && now.saturating_sub(self.shown) >= Run::TICK {
            self.shown = now;
            self.outputs.set_metrics();
        }
    }
}
