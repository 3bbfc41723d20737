//! An output of a run with a checkpoint: its rows wait in an outbox until their epoch is complete.
//!
//! ```text
//! rows ─► OutboxWriter ─seal─► part of the epoch ─(complete)─► commit: a transaction, or lines appended once
//! rows ─► Sink::write at once (Redis, `?visible=now`) ─seal─► Sink::settle ─(complete)─► the epoch is recorded
//! ```
//!
//! Rows of sessions wait in the outbox even if the store gets other rows at once: a process that is killed may leave a
//! row of a session that is longer in the next process, which would not retract it.
//!
//! The target is in a thread of its own, so that one that is slow or absent delays neither the others nor the stage,
//! which writes rows of the next epoch into the outbox meanwhile. If a store that gets rows at once does not answer,
//! the further rows of the epoch wait in its outbox, too.
//!
//! `plan.rs`: what an output gets of a complete epoch; `target.rs`: the store, topic or file behind it; `object.rs`:
//! the object that an epoch becomes; `rejected.rs`: rows that the target could not hold.

mod object;
mod plan;
mod rejected;
mod target;

pub(super) use self::object::ObjectFile;
pub use self::plan::{CompleteEpoch, EpochPlan};
pub use self::rejected::{RejectedByCommit, RejectedLetters};
pub(super) use self::target::EpochTarget;
use super::report::OutputReport;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use evt_core::counts::SinkCounts;
use evt_core::error::Result;
use evt_core::format::Format;
use evt_core::frame::{End, MetricProgress};
use evt_core::kind::Kind;
use evt_core::kind::dead::{Fault, Rejected};
use evt_core::kind::headers::{self, HeaderRows};
use evt_core::kind::metric::MetricColumns;
use evt_run::checkpoint::epoch::Epoch;
use evt_run::checkpoint::log::EpochPart;
use evt_run::checkpoint::part::OutboxWriter;
use evt_run::run::Run;
use evt_run::run::worker::{JobAnswer, Worker};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How long a store may take for rows that it gets at once, before further rows of the epoch wait in its outbox.
const PROMPT: Duration = Duration::from_secs(5);

/// The properties of a target, for the thread of the stage; the target itself is in another thread.
struct TargetTraits {
    /// Whether it is a store that gets rows at once.
    is_at_once: bool,
    is_topic: bool,
    /// The format of text.
    format: Option<&'static Format>,
    /// The metrics whose windows are sessions.
    sessions: BTreeSet<String>,
}

/// The answer of a target to a job.
struct JobResult<R> {
    result: Result<R>,
    /// The counts of a store's rows after it.
    counts: Option<SinkCounts>,
}

/// A row that a store could not hold when it got it, before the epoch was complete.
pub struct RejectedRow {
    /// The row.
    pub row: RecordBatch,
    /// The reason.
    pub fault: Fault,
}

/// Rows that a store is to write at once.
struct Written {
    rows: RecordBatch,
    answer: JobAnswer<JobResult<Vec<Rejected>>>,
}

/// The rows of an output in the epoch in progress, and the target that gets them.
pub struct EpochOutput {
    plan: EpochPlan,
    outbox: Option<OutboxWriter>,
    /// Whether rows that the store gets at once wait in the outbox, because it did not answer earlier ones.
    is_behind: bool,
    target: Worker<EpochTarget>,
    traits: TargetTraits,
    counts: Option<SinkCounts>,
    /// The rows that were written at once and that the store has not answered yet.
    written: Option<Written>,
    /// How far the metrics of a store's rows are, at the end of the epochs that are not committed yet.
    metrics: Vec<(Epoch, Vec<MetricProgress>)>,
    /// The commit of a complete epoch.
    commit: Option<JobAnswer<JobResult<Option<RejectedByCommit>>>>,
    /// The time-driven work in progress.
    tick: Option<JobAnswer<JobResult<()>>>,
    /// The monotonic time at which the last time-driven work began.
    ticked: Duration,
}

/// Does a job with a target.
fn with_counts<R>(target: &mut EpochTarget, job: impl FnOnce(&mut EpochTarget) -> Result<R>) -> JobResult<R> {
    let result = job(target);
    JobResult { result, counts: target.counts() }
}

impl EpochOutput {
    /// Makes the output of the target that `open` makes in its thread. Rows of the metrics `sessions` wait for their
    /// epoch.
    pub(super) fn open(
        plan: EpochPlan,
        sessions: BTreeSet<String>,
        run: &Rc<Run>,
        open: impl FnOnce(&Rc<Run>, &EpochPlan) -> Result<EpochTarget> + Send + 'static,
    ) -> Result<Self> {
        let of_target = plan.clone();
        let mut target = Worker::start(run, move |run| open(run, &of_target))?;
        let (traits, counts) = target.call(|target| {
            let format = target.format();
            let is_topic = matches!(target, EpochTarget::Topic(_));
            (TargetTraits { is_at_once: target.is_at_once(), is_topic, format, sessions }, target.counts())
        })?;
        let (outbox, is_behind, ticked) = (None, false, run.clock.monotonic());
        Ok(Self {
            plan,
            outbox,
            is_behind,
            target,
            traits,
            counts,
            written: None,
            metrics: vec![],
            commit: None,
            tick: None,
            ticked,
        })
    }

    /// Does a job with the target, and waits for it.
    fn call<R: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut EpochTarget) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let done = self.target.call(move |target| with_counts(target, job))?;
        self.counts = done.counts;
        done.result
    }

    /// Returns the counts of a store's rows by outcome, as they were after its last job.
    pub fn row_counts(&self) -> Option<SinkCounts> {
        self.counts
    }

    /// Returns the format of text.
    pub fn format(&self) -> Option<&'static Format> {
        self.traits.format
    }

    /// Returns the bytes of the rows in the epoch in progress.
    pub fn staged_bytes(&self) -> u64 {
        self.outbox.as_ref().map_or(0, OutboxWriter::bytes)
    }

    /// Ends the output; every epoch is committed.
    pub(super) fn finish(self, end: &End, report: &mut OutputReport) -> Result<()> {
        let (how, mut ended) = (end.how, std::mem::take(report));
        let (ended, result) = self.target.end(move |target| {
            let result = target.finish(how, &mut ended);
            (ended, result)
        })?;
        *report = ended;
        result
    }

    /// Adds rows to the outbox of the epoch in progress (for a topic, with the headers of their records), or writes
    /// them to the store at once. Returns the rows that the store could not hold.
    pub fn write(&mut self, batch: &RecordBatch, headers: Option<HeaderRows<'_>>) -> Result<Vec<Rejected>> {
        // While earlier rows wait, later rows wait too, so that the store gets the rows of a key in their order.
        self.is_behind |= self.written.is_some();
        if !self.traits.is_at_once || self.is_behind {
            return self.append_to_outbox(batch, headers).map(|()| vec![]);
        }
        if self.traits.sessions.is_empty() {
            return self.write_at_once(batch.clone());
        }
        let names = MetricColumns::try_new(batch)?.names;
        let rows = 0..batch.num_rows() as u32;
        let (waiting, rest): (Vec<_>, Vec<_>) =
            rows.partition(|row| self.traits.sessions.contains(names.value(*row as usize)));
        if !waiting.is_empty() {
            self.append_to_outbox(&take_record_batch(batch, &UInt32Array::from(waiting))?, None)?;
        }
        if rest.is_empty() {
            return Ok(vec![]);
        }
        let mut rejected = self.write_at_once(take_record_batch(batch, &UInt32Array::from(rest.clone()))?)?;
        rejected.iter_mut().for_each(|rejected| rejected.row = rest[rejected.row] as usize);
        Ok(rejected)
    }

    /// Writes rows at once. Returns the rows that the store could not hold; if the store does not answer within
    /// [`PROMPT`], [`EpochOutput::poll_written`] returns them.
    fn write_at_once(&mut self, rows: RecordBatch) -> Result<Vec<Rejected>> {
        let batch = rows.clone();
        let answer = self.target.begin(move |target| with_counts(target, |target| target.write(&batch)))?;
        let Some(done) = self.target.wait(&answer, PROMPT)? else {
            self.written = Some(Written { rows, answer });
            return Ok(vec![]);
        };
        self.counts = done.counts;
        done.result
    }

    /// Waits for rows that were written at once, for at most `limit`. Returns those that the store could not hold.
    pub fn poll_written(&mut self, limit: Duration) -> Result<Vec<RejectedRow>> {
        let Some(Written { rows, answer }) = &self.written else { return Ok(vec![]) };
        let done = if limit.is_zero() { self.target.poll(answer) } else { self.target.wait(answer, limit) };
        let Some(done) = done? else { return Ok(vec![]) };
        let rejected = done.result?;
        let of_row = |Rejected { row, fault }| RejectedRow { row: rows.slice(row, 1), fault };
        let rejected = rejected.into_iter().map(of_row).collect();
        (self.written, self.counts) = (None, done.counts);
        Ok(rejected)
    }

    /// Whether a store has not answered rows that it gets at once.
    pub fn is_writing(&self) -> bool {
        self.written.is_some()
    }

    /// Adds rows to the outbox of the epoch in progress.
    fn append_to_outbox(&mut self, batch: &RecordBatch, headers: Option<HeaderRows<'_>>) -> Result<()> {
        let is_headed = self.traits.is_topic && Kind::of(batch.schema_ref()) == Some(Kind::Event);
        let headed = is_headed.then(|| headers::with(batch, headers)).transpose()?;
        let batch = headed.as_ref().unwrap_or(batch);
        match &mut self.outbox {
            Some(outbox) => outbox.write(batch)?,
            None => {
                let part = self.plan.place.local().create_part(self.plan.epoch, &self.plan.part())?;
                self.outbox = Some(OutboxWriter::begin(part, batch)?);
            }
        }
        Ok(())
    }

    /// Lets a topic or a store do its time-driven work; `now` is the monotonic time.
    pub fn tick(&mut self, now: Duration) -> Result<()> {
        if self.traits.format.is_some() {
            return Ok(());
        }
        if let Some(tick) = &self.tick {
            let Some(done) = self.target.poll(tick)? else { return Ok(()) };
            (self.tick, self.counts) = (None, done.counts);
            done.result?;
        }
        if now.saturating_sub(self.ticked) >= Run::LINGER {
            self.ticked = now;
            self.tick = Some(self.target.begin(|target| with_counts(target, EpochTarget::tick))?);
        }
        Ok(())
    }

    /// Makes the rows of the epoch in progress durable, and begins the epoch `next`. Returns the part with the rows of
    /// its outbox, if there are any. A restart does not repeat the rows that the store got at once, so the store makes
    /// them durable now.
    pub fn seal(&mut self, next: Epoch) -> Result<Option<EpochPart>> {
        if self.traits.is_at_once {
            self.call(EpochTarget::settle)?;
        }
        (self.plan.epoch, self.is_behind) = (next, false);
        self.outbox.take().map(OutboxWriter::finish).transpose()
    }

    /// Takes how far the metrics of the rows are that are in this epoch or an earlier one.
    pub fn note_metrics(&mut self, metrics: &[MetricProgress]) {
        self.metrics.push((self.plan.epoch, metrics.to_vec()));
    }

    /// Begins to write the rows of a complete epoch to the target; a repeated commit changes nothing.
    pub fn begin_commit(&mut self, complete: Arc<CompleteEpoch>) -> Result<()> {
        let plan = self.plan.clone();
        let (due, later) =
            std::mem::take(&mut self.metrics).into_iter().partition(|(epoch, _)| *epoch <= complete.epoch);
        self.metrics = later;
        let commit = move |target: &mut EpochTarget| {
            let due: Vec<(Epoch, Vec<MetricProgress>)> = due;
            due.iter().for_each(|(_, metrics)| target.note_metrics(metrics));
            with_counts(target, |target| target.commit(&plan, &complete))
        };
        self.commit = Some(self.target.begin(commit)?);
        Ok(())
    }

    /// Waits for the commit that has begun, for at most `limit`; returns whether it has ended, and the rows that the
    /// target could not hold.
    pub fn poll_commit(&mut self, limit: Duration) -> Result<Poll<Option<RejectedByCommit>>> {
        let Some(commit) = &self.commit else { return Ok(Poll::Ready(None)) };
        let done = if limit.is_zero() { self.target.poll(commit) } else { self.target.wait(commit, limit) };
        let Some(done) = done? else { return Ok(Poll::Pending) };
        (self.commit, self.counts) = (None, done.counts);
        done.result.map(Poll::Ready)
    }

    /// Whether a commit has begun and not ended.
    pub fn is_committing(&self) -> bool {
        self.commit.is_some()
    }
}

#[cfg(test)]
mod tests;
