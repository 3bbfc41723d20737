//! The requests in the spool of the HTTP server as an input, in the order of their offsets.

use super::{EndProof, Input, InputEnd, InputPosition, Step};
use crate::emit::{ByteProgress, MessageText, RecordEmitter};
use crate::run::Run;
use crate::spool::dir::Position;
use crate::spool::reader::Pace;
use crate::spool::request::{self, RecordOutcome, Request};
use crate::spool::{CheckpointPosition, SpoolReader};
use evt_core::counts::{DoneRecords, counted};
use evt_core::error::Result;
use evt_core::frame::EndReason;
use evt_core::kind::headers::Headers;
use evt_core::mapping::{Arrival, RecordMeta};
use std::rc::Rc;
use std::time::Duration;

/// Maximum number of entries per step.
const ENTRIES: usize = 1024;
/// Time from the first uncommitted record to a commit if requests are acknowledged once they are on disk.
const RELAXED: Duration = Duration::from_secs(1);
/// Maximum time from the first uncommitted record to a commit if clients wait for it.
const EAGER: Duration = Duration::from_millis(50);
/// How long a run reads on from a closed spool on disk; the next run reads the rest.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a failed run waits until requests in progress are stored, so that it can count them.
const LAST_STORED: Duration = Duration::from_secs(1);

/// The origin of records without `--origin`.
pub const ORIGIN: &str = "http";

/// Shuts the HTTP server down, once, at a signal: the server accepts no more requests, answers those in progress, and
/// closes its end of the spool.
pub type Shutdown = Box<dyn FnOnce()>;

/// An input that reads a spool.
pub struct SpoolInput {
    run: Rc<Run>,
    reader: SpoolReader,
    shutdown: Option<Shutdown>,
    name: String,
    /// The index of its only partition in the run's partition table.
    partition_index: u32,
    /// The offset read next.
    next: i64,
    /// Records before this offset are committed.
    settled: i64,
    /// A position that waits for its commit.
    noted: Option<Position>,
    /// When the first record after the last noted position was read, on the monotonic clock.
    since: Option<Duration>,
    /// Whether the last step found no further entry.
    idle: bool,
    /// When this input first saw that the spool is closed, on the same clock.
    closed: Option<Duration>,
    /// Whether the last commit failed.
    is_failing: bool,
    /// Payload bytes read.
    bytes: u64,
}

impl SpoolInput {
    /// Makes an input of `reader`, as the only partition of `origin`; calls `shutdown` at a signal.
    pub fn new(
        run: Rc<Run>,
        reader: SpoolReader,
        shutdown: Shutdown,
        origin: &str,
        emitter: &mut RecordEmitter,
    ) -> Self {
        let partition_index = emitter.stamp_mut().announce(origin, "0");
        let Position { offset, stream_time } = reader.start;
        emitter.stamp_mut().resume(partition_index, stream_time);
        // Decide the schema now: the kind of the rows is known, and requests are acknowledged before the first record
        // is read.
        emitter.set_schema(emitter.schema());
        // Requests are small and wait for their commits: copying records for other threads would cost more.
        emitter.use_one_thread();
        Self {
            run,
            reader,
            shutdown: Some(shutdown),
            name: origin.to_owned(),
            partition_index,
            next: offset,
            settled: offset,
            noted: None,
            since: None,
            idle: true,
            closed: None,
            is_failing: false,
            bytes: 0,
        }
    }

    /// Whether reading must stop before `end`, because the outputs are too slow to drain the closed spool within
    /// [`DRAIN_TIMEOUT`]. If so, reports how many records the next run must read.
    fn gives_up(&mut self, end: i64, now: Duration) -> bool {
        let closed = self.closed.get_or_insert(now);
        let gives_up = now.saturating_sub(*closed) >= DRAIN_TIMEOUT && self.next < end && self.is_left_behind();
        if gives_up {
            let left = counted((end - self.next).cast_unsigned(), ["record remains", "records remain"]);
            self.run.console.say(format!("{left} in the spool for the next run: the outputs are slow"));
        }
        gives_up
    }

    /// Whether the spool is on disk, so that the next run can read the rest.
    fn is_left_behind(&self) -> bool {
        matches!(self.reader.pace, Pace::Relaxed | Pace::WithEpochs)
    }

    /// Passes the records of the next entry to `emitter`, from offset `next` on; returns whether there was an entry.
    fn take(&mut self, emitter: &mut RecordEmitter, now: Duration) -> Result<bool> {
        let Some(entry) = self.reader.entries.next()? else { return Ok(false) };
        let request = &entry.request;
        let arrival = Some(Arrival { at: request.arrived_at, is_fact: true });
        let meta =
            RecordMeta { headers: Some(request), arrival, ..RecordMeta::of_file(&self.name, self.partition_index) };
        for (record, offset) in request.records.iter().zip(entry.offset..).filter(|(_, offset)| *offset >= self.next) {
            self.bytes += record.payload.len() as u64;
            match &record.outcome {
                RecordOutcome::New => emitter.message(&record.payload, MessageText::Payload, meta.at(offset))?,
                RecordOutcome::Duplicate => emitter.stamp_mut().duplicate(),
                RecordOutcome::Rejected(fault) => {
                    emitter.message(&record.payload, MessageText::Fault(fault), meta.at(offset))?
                }
            }
            self.since.get_or_insert(now);
        }
        self.next = self.next.max(entry.end());
        Ok(true)
    }

    /// Whether a commit is due.
    fn is_due(&self) -> bool {
        let Some(since) = self.since.filter(|_| self.noted.is_none()) else { return false };
        let waited = self.run.clock.monotonic().saturating_sub(since);
        match self.reader.pace {
            Pace::Never | Pace::WithEpochs => false,
            Pace::Relaxed => waited >= RELAXED,
            Pace::Eager => self.idle || waited >= EAGER,
        }
    }

    /// Returns how many records before `end` were acknowledged and are not `done`; if `done` is `None`, how many were
    /// never read. Takes the unread entries.
    fn unconfirmed(&mut self, end: i64, done: Option<DoneRecords>) -> i64 {
        let mut rejected = 0;
        while let Ok(Some(entry)) = self.reader.entries.next() {
            // A rejected record does not count: its client knows about the rejection.
            let is_rejected = |record: &&request::Record| matches!(record.outcome, RecordOutcome::Rejected(_));
            rejected += entry.request.records.iter().filter(is_rejected).count() as i64;
        }
        let read = done.map_or(self.next - self.reader.start.offset, |done| done.count.cast_signed());
        end - self.reader.start.offset - rejected - read
    }

    /// Returns the position before which `emitter` has passed on every record.
    fn position(&self, emitter: &mut RecordEmitter) -> Position {
        let offset = emitter.stamp().first_held(self.partition_index).unwrap_or(self.next);
        Position { offset, stream_time: emitter.stamp().stream_time(self.partition_index) }
    }
}

impl Input for SpoolInput {
    fn step(&mut self, emitter: &mut RecordEmitter) -> Result<Step> {
        if self.run.stop.signal().is_some()
            && let Some(shutdown) = self.shutdown.take()
        {
            shutdown();
        }
        self.reader.clear();
        // Get the end before reading: if the spool is closed now, the loop finds every entry before that end.
        let end = self.reader.entries.end();
        let start = self.run.clock.monotonic();
        if end.is_final && self.gives_up(end.offset, start) {
            return Ok(Step::Stopped);
        }
        emitter.update_time();
        for taken in 0..ENTRIES {
            self.idle = !self.take(emitter, start)?;
            if self.idle {
                return Ok(match (taken, end.is_final) {
                    (0, true) if self.run.stop.signal().is_some() => Step::Stopped,
                    (0, true) => Step::End,
                    (0, false) => Step::Idle,
                    _ => Step::More,
                });
            }
            if taken % 64 == 0 && self.run.clock.monotonic().saturating_sub(start) >= Run::LINGER {
                break;
            }
        }
        Ok(Step::More)
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        let ends_at_signal = self.shutdown.is_some();
        self.run.stop.wait(&self.reader.wakeups, ends_at_signal, Some(timeout)).map(|_| ())
    }

    fn progress(&self) -> ByteProgress {
        ByteProgress { done: self.bytes, total: None }
    }

    fn end(&self) -> InputEnd {
        let how = if self.run.stop.signal().is_some() { EndReason::Stopped } else { EndReason::Exhausted };
        InputEnd { how, proof: EndProof::Proven, verdict: 0 }
    }

    fn commits(&self) -> bool {
        true
    }

    fn note(&mut self, emitter: &mut RecordEmitter) -> Result<bool> {
        if !self.is_due() {
            return Ok(false);
        }
        emitter.flush()?;
        self.since = None;
        self.noted = Some(self.position(emitter));
        Ok(true)
    }

    /// Every record before the position has been passed on. The stage has emptied the queue of `emitter`.
    fn note_epoch(&mut self, emitter: &mut RecordEmitter) {
        self.noted = Some(self.position(emitter));
    }

    fn checkpoint_position(&mut self) -> Result<Option<InputPosition>> {
        let (origin, id) = (self.name.clone(), self.reader.id.clone());
        let of_spool = |position| InputPosition::Spool { origin, position: CheckpointPosition { id, position } };
        Ok(self.noted.map(of_spool))
    }

    fn ends_partitions(&self) -> bool {
        self.reader.pace != Pace::WithEpochs
    }

    fn has_noted(&self) -> bool {
        self.noted.is_some()
    }

    fn commit(&mut self, _emitter: &mut RecordEmitter) -> Result<()> {
        let Some(position) = self.noted.take() else { return Ok(()) };
        match self.reader.entries.settle(position) {
            Ok(()) => {
                self.settled = position.offset;
                self.is_failing = false;
            }
            Err(error) => {
                // The next commit has these records too. Only the last commit of a run must succeed.
                if !std::mem::replace(&mut self.is_failing, true) {
                    self.run.console.say(format!("{error}; retrying"));
                }
                self.since.get_or_insert(self.run.clock.monotonic());
            }
        }
        Ok(())
    }

    fn commit_end(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        let position = self.position(emitter);
        match self.reader.pace {
            Pace::Never => Ok(()),
            _ if position.offset == self.settled => Ok(()),
            _ => self.reader.entries.settle(position),
        }
    }

    fn report_lost(&mut self, done: Option<DoneRecords>) {
        if let Some(shutdown) = self.shutdown.take() {
            shutdown();
        }
        let start = self.run.clock.monotonic();
        // Clients that wait for the outputs get no more answers.
        while self.reader.pace != Pace::Eager
            && !self.reader.entries.end().is_final
            && self.run.clock.monotonic().saturating_sub(start) < LAST_STORED
        {
            self.reader.clear();
            if self.run.stop.wait(&self.reader.wakeups, false, Some(EAGER)).is_err() {
                break;
            }
        }
        let end = self.reader.entries.end().offset;
        let (left, records, what) = match self.reader.pace {
            Pace::Relaxed | Pace::WithEpochs => {
                (end - self.settled, ["record remains", "records remain"], "in the spool for the next run")
            }
            Pace::Eager => (
                end - self.settled,
                ["record was not acknowledged; its client", "records were not acknowledged; their clients"],
                "must send again",
            ),
            Pace::Never => (
                self.unconfirmed(end, done),
                [
                    "acknowledged record was not confirmed by every output and is",
                    "acknowledged records were not confirmed by every output and are",
                ],
                "lost (--ack memory)",
            ),
        };
        let at_least =
            if self.reader.pace == Pace::Never && done.is_none_or(|done| done.is_at_most) { "at least " } else { "" };
        if left > 0 {
            self.run.console.warn(format!("{at_least}{} {what}", counted(left.cast_unsigned(), records)));
        }
    }
}

impl Headers for Request {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        self.headers.iter().for_each(|(name, value)| show(name, Some(value.as_bytes())));
    }
}
