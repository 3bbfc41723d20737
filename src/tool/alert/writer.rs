//! The outputs of evt-alert, in a thread of their own: an output that does not answer stops neither evaluation nor
//! notifications.
//!
//! Rows and letters that are not durable yet are in the state file, and the next run writes them.

use super::feed::FaultyRow;
use super::state::letters::StoredLetters;
use crate::output::dead_letters::DeadLetters;
use crate::output::{OutputPlan, StageRows, stamped};
use crate::stage::operator::{Collector, OutputsEnded};
use crate::stage::outputs::Outputs;
use arrow::array::RecordBatch;
use evt_core::counts::Counts;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::frame::End;
use evt_core::kind::{Kind, letters};
use evt_core::op::row_letter::with_letter;
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
    /// What the job has made durable.
    confirmed: Confirmed,
    letters: WrittenLetters,
}

/// What is durable in the outputs: the numbers of the last row and of the last letters; 0 if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// The row.
    pub row: i64,
    /// The letters.
    pub letters: i64,
}

/// Letters that are not durable yet.
pub struct PendingLetters {
    /// Their number.
    pub number: i64,
    /// The feed of their records; `None` if an earlier run has read these.
    pub feed: Option<usize>,
    /// Rows of kind dead.
    pub letters: RecordBatch,
    /// Whether the state has all of them.
    pub is_stored: bool,
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
    confirmed: Confirmed,
    letters: WrittenLetters,
    /// Letters for the state.
    pending: VecDeque<PendingLetters>,
    /// The number of the last letters.
    last_letters: i64,
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
            confirmed: Confirmed::default(),
            letters,
            pending: VecDeque::new(),
            last_letters: 0,
            seen_at: Duration::ZERO,
            waiting_since: None,
            has_reported_bound: false,
        })
    }

    /// Takes the result of a job. Errors: that of the job.
    fn take(&mut self, done: Done) -> Result<()> {
        self.letters = done.letters;
        let Confirmed { row, letters } = &mut self.confirmed;
        (*row, *letters) = ((*row).max(done.confirmed.row), (*letters).max(done.confirmed.letters));
        while self.pending.pop_front_if(|first| first.number <= *letters).is_some() {}
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

    /// Begins a job that makes rows or letters durable up to `last`; waits while [`JOBS`] jobs wait, and reports that
    /// once.
    fn begin(
        &mut self,
        last: Confirmed,
        job: impl FnOnce(&mut ThreadOutputs) -> Result<()> + Send + 'static,
    ) -> Result<()> {
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
        self.begin(Confirmed { row: last.unwrap_or(0), letters: 0 }, move |thread| thread.rows(&rows))
    }

    /// Writes letters that an earlier run has stored.
    pub fn stored_letters(&mut self, StoredLetters { number, letters }: StoredLetters) -> Result<()> {
        self.last_letters = number;
        self.pending.push_back(PendingLetters { number, feed: None, letters: letters.clone(), is_stored: true });
        self.begin(Confirmed { row: 0, letters: number }, move |thread| {
            thread.outputs.dead.take_again(&letters)?;
            thread.settle_letters()
        })
    }

    /// Writes letters of records of a feed.
    pub fn letters(&mut self, feed: usize, letters: Dead) -> Result<()> {
        let last = self.keep(feed, letters.letters.clone());
        self.begin(last, move |thread| {
            thread.outputs.dead.take(&letters)?;
            thread.settle_letters()
        })
    }

    /// Writes the letter of a row of a feed that the rules could not evaluate.
    pub fn letter_of(&mut self, feed: usize, FaultyRow { batch, row, fault }: FaultyRow) -> Result<()> {
        let mut letter = letters::Builder::new(self.run.console.tool(), &Run::host());
        let now = self.run.clock.now();
        with_letter(&batch, row, &fault, None, |found, _| letter.push(found, now))?;
        let last = self.keep(feed, letter.finish()?);
        self.begin(last, move |thread| {
            thread.outputs.dead(&batch, row, &fault)?;
            thread.settle_letters()
        })
    }

    /// Keeps letters for the state until they are durable; returns their number.
    fn keep(&mut self, feed: usize, letters: RecordBatch) -> Confirmed {
        self.last_letters += 1;
        let number = self.last_letters;
        self.pending.push_back(PendingLetters { number, feed: Some(feed), letters, is_stored: false });
        Confirmed { row: 0, letters: number }
    }

    /// Returns the letters that are not durable yet.
    pub fn pending(&mut self) -> impl Iterator<Item = &mut PendingLetters> {
        self.pending.iter_mut()
    }

    /// Waits until all letters are durable.
    pub fn settle_letters(&mut self) -> Result<()> {
        self.begin(Confirmed::default(), |thread| thread.outputs.dead.settle())?;
        self.wait()
    }

    /// Waits until every row is accepted or rejected.
    pub fn conclude(&mut self) -> Result<()> {
        self.begin(Confirmed::default(), |thread| thread.outputs.conclude())?;
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

    /// Returns what is durable in every output.
    pub fn confirmed(&self) -> Confirmed {
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
            self.tick =
                Some(self.outputs.begin(|thread| thread.run(Confirmed::default(), |thread| thread.outputs.tick()))?);
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
    /// Why a job has failed: no further one is done.
    failure: Option<(ErrorKind, String)>,
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
        Ok(Self { run: run.clone(), outputs, settles, failure: None, shown: Duration::ZERO })
    }

    /// Does a job that makes rows or letters durable up to `last`, unless one has failed, and sets the metrics.
    fn run(&mut self, last: Confirmed, job: impl FnOnce(&mut Self) -> Result<()>) -> Done {
        let result = match &self.failure {
            Some((kind, message)) => Err(Error::new(*kind, message.clone())),
            None => job(self),
        };
        if let (None, Err(error)) = (&self.failure, &result) {
            self.failure = Some((error.kind(), error.to_string()));
        }
        let now = self.run.clock.monotonic();
        if self.run.metrics.is_on() && now.saturating_sub(self.shown) >= Run::TICK {
            self.shown = now;
            self.outputs.set_metrics();
        }
        let letters =
            WrittenLetters { lost: self.outputs.dead.lost.of_stage, has_output: self.outputs.dead.is_written() };
        Done { confirmed: if result.is_ok() { last } else { Confirmed::default() }, result, letters }
    }

    /// Makes the letters durable if a state keeps them until then.
    fn settle_letters(&mut self) -> Result<()> {
        if self.settles { self.outputs.dead.settle() } else { Ok(()) }
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = RecordBatch::try_new(self.outputs.schema(), rows.columns().to_vec())?;
        self.outputs.rows(&rows)?;
        self.outputs.flush()?;
        if self.settles { self.outputs.settle() } else { Ok(()) }
    }
}
