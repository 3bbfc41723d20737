//! The outputs of evt-alert, in a thread of their own: an output that does not answer stops neither evaluation nor
//! notifications.
//!
//! Rows that are not durable yet are in the state file, and the next run writes them.

use super::feed::FaultyRow;
use crate::output::dead_letters::DeadLetters;
use crate::output::{OutputPlan, StageRows, stamped};
use crate::stage::operator::{Collector, OutputsEnded};
use crate::stage::outputs::Outputs;
use arrow::array::RecordBatch;
use evt_core::counts::Counts;
use evt_core::error::{Error, Result};
use evt_core::frame::End;
use evt_core::kind::Kind;
use evt_core::time::whole_seconds;
use evt_run::emit::Dead;
use evt_run::run::Run;
use evt_run::run::io::Io;
use evt_run::run::worker::{JobAnswer, Worker};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Maximum number of jobs that wait for the thread.
const JOBS: usize = 1024;
/// The time without a finished job after which the run reports that the outputs do not answer.
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

/// The result of a job.
struct Done {
    result: Result<()>,
    /// The number of the last row that the job has made durable.
    confirmed: i64,
    letters: WrittenLetters,
}

/// The letters so far.
#[derive(Clone, Copy, Debug, Default)]
struct WrittenLetters {
    /// Letters of faulty rows that could not be written.
    lost: u64,
    /// Whether there is an output of letters.
    has_output: bool,
}

/// The outputs, as the run sees them.
pub struct Writer {
    run: Rc<Run>,
    outputs: Worker<ThreadOutputs>,
    /// The jobs that are not done, or whose results were not seen.
    jobs: VecDeque<JobAnswer<Done>>,
    /// The time-driven work in progress, and the monotonic time at which it began last.
    tick: Option<JobAnswer<Done>>,
    ticked: Duration,
    confirmed: i64,
    letters: WrittenLetters,
    /// The last look at which a job was done since the one before, or none was waiting.
    seen_at: Duration,
    /// Since when the outputs have not answered, if that was reported.
    waiting_since: Option<Duration>,
    has_reported_bound: bool,
}

impl Writer {
    /// Opens the outputs. Errors: those of opening, 74 if no thread can start.
    pub fn open(plan: WriterPlan, run: &Rc<Run>) -> Result<Self> {
        let letters = WrittenLetters { lost: 0, has_output: plan.dlq.is_some() };
        Ok(Self {
            run: run.clone(),
            outputs: Worker::start(run, |run| ThreadOutputs::open(plan, run))?,
            jobs: VecDeque::new(),
            tick: None,
            ticked: run.clock.monotonic(),
            confirmed: 0,
            letters,
            seen_at: Duration::ZERO,
            waiting_since: None,
            has_reported_bound: false,
        })
    }

    /// Takes the result of a job. Errors: that of the job.
    fn take(&mut self, done: Done) -> Result<()> {
        (self.confirmed, self.letters) = (self.confirmed.max(done.confirmed), done.letters);
        done.result
    }

    /// Takes the results of jobs that are done; returns whether there were any.
    fn take_done(&mut self) -> Result<bool> {
        let mut has_done = false;
        while let Some(first) = self.jobs.front() {
            let Some(done) = self.outputs.poll(first)? else { break };
            self.jobs.pop_front();
            self.take(done)?;
            has_done = true;
        }
        Ok(has_done)
    }

    /// Begins a job that makes the rows up to number `last` durable; waits while [`JOBS`] jobs wait, and reports that
    /// once.
    fn begin(&mut self, last: i64, job: impl FnOnce(&mut ThreadOutputs) -> Result<()> + Send + 'static) -> Result<()> {
        while self.jobs.len() >= JOBS && !self.take_done()? {
            if !std::mem::replace(&mut self.has_reported_bound, true) {
                let line = format!("evaluation waits: {JOBS} batches of rows and letters wait for the outputs");
                self.run.console.warn(line);
            }
            std::thread::sleep(POLL);
        }
        self.jobs.push_back(self.outputs.begin(move |outputs| outputs.run(last, job))?);
        Ok(())
    }

    /// Waits until every job is done.
    fn wait(&mut self) -> Result<()> {
        while let Some(first) = self.jobs.front() {
            if let Some(done) = self.outputs.wait(first, POLL)? {
                self.jobs.pop_front();
                self.take(done)?;
            }
        }
        Ok(())
    }

    /// Writes rows; `last` is the number of the last one in the state file.
    pub fn rows(&mut self, rows: RecordBatch, last: Option<i64>) -> Result<()> {
        self.begin(last.unwrap_or(0), move |thread| thread.rows(&rows))
    }

    /// Writes letters of records.
    pub fn letters(&mut self, letters: Dead) -> Result<()> {
        self.begin(0, move |thread| thread.outputs.dead.take(&letters))
    }

    /// Writes the letter of a row that the rules could not evaluate.
    pub fn letter_of(&mut self, FaultyRow { batch, row, fault }: FaultyRow) -> Result<()> {
        self.begin(0, move |thread| thread.outputs.dead(&batch, row, &fault))
    }

    /// Waits until all letters are durable.
    pub fn settle_letters(&mut self) -> Result<()> {
        self.begin(0, |thread| thread.outputs.dead.settle())?;
        self.wait()
    }

    /// Waits until every row is accepted or rejected.
    pub fn conclude(&mut self) -> Result<()> {
        self.begin(0, |thread| thread.outputs.conclude())?;
        self.wait()
    }

    /// Ends the outputs. Returns their results, and the end, whose exit status notices of outputs may have changed.
    pub fn finish(&mut self, mut end: End) -> Result<(End, OutputsEnded)> {
        self.wait()?;
        self.outputs.call(move |thread| {
            let outputs = thread.outputs.finish(&mut end)?;
            let dead = thread.outputs.dead.by_type.clone();
            Ok((end, OutputsEnded { outputs, dead }))
        })?
    }

    /// Returns the number of the last row that is durable in every output; 0 if none is.
    pub fn confirmed(&self) -> i64 {
        self.confirmed
    }

    /// Counts records as dropped whose letters were not written.
    pub fn count_lost(&self, counts: &mut Counts) {
        let WrittenLetters { lost, has_output } = self.letters;
        let lost = if has_output { lost.min(counts.dead) } else { counts.dead };
        counts.dead -= lost;
        counts.dropped += lost;
    }

    /// Takes what the thread has done, and lets it do its time-driven work. Reports once that the outputs do not
    /// answer, and once that they do again; the process did not run before `resumed`. Errors: those of the outputs.
    pub fn tick(&mut self, now: Duration, resumed: Duration) -> Result<()> {
        let has_done = self.take_done()?;
        if has_done || self.jobs.is_empty() {
            self.seen_at = now;
            if let Some(since) = self.waiting_since.take() {
                let duration = whole_seconds(now.saturating_sub(since));
                self.run.console.say(format!("the outputs confirm rows again after {duration}"));
            }
        }
        let since = self.seen_at.max(resumed);
        if self.waiting_since.is_none() && now.saturating_sub(since) >= REPORT_AFTER {
            self.waiting_since = Some(since);
            let line = "the outputs have not confirmed rows for 5s; evaluation and notifications continue";
            self.run.console.warn(line);
        }
        if let Some(tick) = &self.tick {
            let Some(done) = self.outputs.poll(tick)? else { return Ok(()) };
            self.tick = None;
            self.take(done)?;
        }
        if now.saturating_sub(self.ticked) >= Run::LINGER {
            self.ticked = now;
            self.tick = Some(self.outputs.begin(|thread| thread.run(0, |thread| thread.outputs.tick()))?);
        }
        Ok(())
    }
}

/// A run that fails lets the thread write what it has, for a moment.
impl Drop for Writer {
    fn drop(&mut self) {
        // A simulated run that is dropped is one that was killed.
        if matches!(self.run.io, Io::Simulated { .. }) {
            return;
        }
        let start = Instant::now();
        while let Some(job) = self.jobs.pop_front() {
            let rest = ABANDON.saturating_sub(start.elapsed());
            // The error of the run is reported.
            if !matches!(self.outputs.wait(&job, rest), Ok(Some(Done { result: Ok(()), .. }))) {
                return;
            }
        }
    }
}

/// The outputs in their thread.
struct ThreadOutputs {
    run: Rc<Run>,
    outputs: Outputs,
    settles: bool,
    /// Whether a job has failed: no further one is done.
    has_failed: bool,
    /// When the metrics were set last.
    shown: Duration,
}

impl ThreadOutputs {
    fn open(plan: WriterPlan, run: &Rc<Run>) -> Result<Self> {
        let WriterPlan { plans, dlq, is_quiet, settles } = plan;
        let letters = DeadLetters::new(run.clone(), dlq);
        let mut outputs = Outputs::new(run.clone(), plans, None, letters, is_quiet);
        outputs.open(stamped(&Kind::Alert.schema(), StageRows::default(), run), None, 0)?;
        outputs.dead.open()?;
        Ok(Self { run: run.clone(), outputs, settles, has_failed: false, shown: Duration::ZERO })
    }

    /// Does a job that makes the rows up to number `last` durable, unless one has failed, and sets the metrics.
    fn run(&mut self, last: i64, job: impl FnOnce(&mut Self) -> Result<()>) -> Done {
        let result = match self.has_failed {
            true => Err(Error::broken("an output has failed")),
            false => job(self),
        };
        self.has_failed = result.is_err();
        let now = self.run.clock.monotonic();
        if self.run.metrics.is_on() && now.saturating_sub(self.shown) >= Run::TICK {
            self.shown = now;
            self.outputs.set_metrics();
        }
        let letters =
            WrittenLetters { lost: self.outputs.dead.lost.of_stage, has_output: self.outputs.dead.is_written() };
        Done { confirmed: if result.is_ok() { last } else { 0 }, result, letters }
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = RecordBatch::try_new(self.outputs.schema(), rows.columns().to_vec())?;
        self.outputs.rows(&rows)?;
        self.outputs.flush()?;
        if self.settles { self.outputs.settle() } else { Ok(()) }
    }
}
