//! An open output: rows and control messages to a file, a store or a topic, or into the outbox of an epoch.

use super::epochs::{CompleteEpoch, EpochOutput, RejectedByCommit, RejectedRow};
use super::file::Plain;
use super::frames::FrameOutput;
use super::report::OutputReport;
use arrow::array::RecordBatch;
use evt_core::counts::{DoneRecords, SinkCounts, counted};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::format::{self, Format};
use evt_core::frame::{Control, End, MetricProgress};
use evt_core::kind::Kind;
use evt_core::kind::dead::Rejected;
use evt_core::kind::headers::HeaderRows;
use evt_core::kind::record_parts::OutputParts;
use evt_kafka::produce::{KafkaOutput, RejectedRecord};
use evt_run::checkpoint::epoch::Epoch;
use evt_run::checkpoint::log::EpochPart;
use evt_run::clock::Clock;
use evt_run::metrics::Metrics;
use evt_run::run::Run;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// Adds to the error of an unavailable server how many rows it did not acknowledge.
#[cold]
fn unwritten(error: Error, name: &str, rows: u64) -> Error {
    let rows = counted(rows, ["row was not acknowledged and is", "rows were not acknowledged and are"]);
    given_up(error, name, &format!("{rows} not counted as written"))
}

/// Adds to the error of standard output whose reader reads nothing which rows the reader has not got.
#[cold]
fn unread(error: Error, name: &str, batch: &RecordBatch) -> Error {
    let rows = batch.num_rows();
    given_up(error.at(name), name, &format!("{rows} rows, and those after them, are not written"))
}

/// Returns how many rows of a batch a store has not counted.
fn unacknowledged(batch: &RecordBatch, before: SinkCounts, after: SinkCounts) -> u64 {
    (batch.num_rows() as u64).saturating_sub(after.taken - before.taken)
}

/// Adds `outcome`, the consequence for the output `name`, to the error of an unavailable server. Returns other errors
/// unchanged.
#[cold]
pub fn given_up(error: Error, name: &str, outcome: &str) -> Error {
    if error.kind() != ErrorKind::Unavailable {
        return error;
    }
    let cause = error.to_string();
    let cause = cause.strip_prefix(name).map_or(cause.as_str(), |rest| rest.trim_start_matches(": "));
    Error::unavailable(format!("{name}: {outcome}")).because(cause)
}

/// One output of a run.
pub struct Output {
    /// Its URI as the user gave it, without secrets.
    pub name: String,
    target: OpenTarget,
    rows: u64,
    /// Rows of the batches that were written without an error.
    written: u64,
    /// Whether rows stay in the target if the run fails.
    keeps_rows: bool,
    /// Rows that the output rejected, at once or later.
    rejected: u64,
    /// Whether the output writes or omits the columns that hold parts of records.
    parts: OutputParts,
    /// Rows that the target could not hold when it committed an epoch, until they are taken.
    rejected_by_commit: Option<RejectedByCommit>,
    /// Rows that the target got before their epoch was complete, and rejected late, until they are taken.
    late: Vec<RejectedRow>,
    /// Bytes of frames in the epoch in progress.
    sent: u64,
    metrics: Metrics,
    clock: Clock,
}

/// The target of an open output.
pub(super) enum OpenTarget {
    Null,
    Frames(FrameOutput),
    Encoded { format: &'static Format, encoder: Box<dyn format::Encoder>, file: Plain, buffer: Vec<u8>, control: bool },
    Store { kind: Kind, sink: Box<dyn evt_store::Sink> },
    Kafka(Box<KafkaOutput>),
    Epochs(Box<EpochOutput>),
}

impl Output {
    /// Makes an output of an open target; `keeps_rows` whether rows stay in it if the run fails.
    pub(super) fn new(name: String, target: OpenTarget, parts: OutputParts, keeps_rows: bool, run: &Run) -> Self {
        Self {
            name,
            target,
            rows: 0,
            written: 0,
            keeps_rows,
            rejected: 0,
            parts,
            rejected_by_commit: None,
            late: vec![],
            sent: 0,
            metrics: run.metrics.clone(),
            clock: run.clock.clone(),
        }
    }

    /// Writes a batch; returns the rows that the output rejected.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        self.rows += batch.num_rows() as u64;
        let start = self.clock.monotonic();
        let fitting = self.parts.fit(batch)?;
        let rejected = self.write_rows(fitting.as_ref().unwrap_or(batch), HeaderRows::of(batch))?;
        self.metrics.blocked("output", self.clock.monotonic().saturating_sub(start));
        self.written += batch.num_rows() as u64;
        self.rejected += rejected.len() as u64;
        Ok(rejected)
    }

    /// Returns how many of its rows the target has confirmed or rejected, in case the run fails now.
    pub fn confirmed(&self) -> DoneRecords {
        let exactly = |count| DoneRecords { count, is_at_most: false };
        match &self.target {
            _ if !self.keeps_rows => exactly(0),
            OpenTarget::Store { sink, .. } => exactly(sink.counts().taken),
            OpenTarget::Null | OpenTarget::Frames(_) => exactly(self.written),
            // Other encoders may hold rows back.
            OpenTarget::Encoded { format, .. } if format.appendable => exactly(self.written),
            OpenTarget::Encoded { .. } => DoneRecords { count: self.written, is_at_most: true },
            // A record in flight may be one row or several.
            OpenTarget::Kafka(_) | OpenTarget::Epochs(_) => DoneRecords { count: self.rows, is_at_most: self.rows > 0 },
        }
    }

    /// Returns the rows that brokers have rejected since the last call, after [`Output::write`] accepted them.
    pub fn take_rejected(&mut self) -> Vec<RejectedRecord> {
        let OpenTarget::Kafka(topic) = &mut self.target else { return vec![] };
        let rejected = topic.take_rejected();
        self.rejected += rejected.len() as u64;
        rejected
    }

    /// Waits until the brokers, or a store that gets rows before their epoch is complete, have accepted or rejected
    /// every row.
    pub fn conclude(&mut self) -> Result<()> {
        self.finish_writing()?;
        if let OpenTarget::Kafka(topic) = &mut self.target { topic.settle() } else { Ok(()) }
    }

    /// Waits until a store that gets rows before their epoch is complete has accepted or rejected every row.
    fn finish_writing(&mut self) -> Result<()> {
        while self.is_writing() {
            self.poll_written(Run::TICK)?;
        }
        Ok(())
    }

    /// Whether a store has not answered rows that it gets before their epoch is complete.
    pub fn is_writing(&self) -> bool {
        matches!(&self.target, OpenTarget::Epochs(output) if output.is_writing())
    }

    /// Waits for the answer of such a store, for at most `limit`.
    fn poll_written(&mut self, limit: Duration) -> Result<()> {
        let OpenTarget::Epochs(output) = &mut self.target else { return Ok(()) };
        let rejected = output.poll_written(limit).map_err(|error| error.at(&self.name))?;
        self.rejected += rejected.len() as u64;
        self.late.extend(rejected);
        Ok(())
    }

    /// Returns the number of rows passed to [`Output::write`] so far, without those that the output rejected.
    pub fn accepted_rows(&self) -> u64 {
        // A restored epoch adds to `rejected` but not to `rows`, so `rejected` may be greater.
        self.rows.saturating_sub(self.rejected)
    }

    /// Returns the counts of a store's rows by outcome; `None` for other outputs.
    pub fn row_counts(&self) -> Option<SinkCounts> {
        match &self.target {
            OpenTarget::Store { sink, .. } => Some(sink.counts()),
            OpenTarget::Epochs(output) => output.row_counts(),
            _ => None,
        }
    }

    /// Ends the epoch in progress and begins `next`; returns the part with its rows. `None` without rows or without a
    /// checkpoint. Waits until a store has answered all rows that it got at once, because a restart does not repeat the
    /// rows of the epoch.
    pub fn seal_epoch(&mut self, next: Epoch) -> Result<Option<EpochPart>> {
        self.sent = 0;
        self.finish_writing()?;
        let OpenTarget::Epochs(output) = &mut self.target else { return Ok(None) };
        output.seal(next).map_err(|error| error.at(&self.name))
    }

    /// Begins to write the rows of a complete epoch.
    pub fn begin_commit(&mut self, complete: &Arc<CompleteEpoch>) -> Result<()> {
        let OpenTarget::Epochs(output) = &mut self.target else { return Ok(()) };
        self.rows += complete.letters.len() as u64;
        output.begin_commit(complete.clone())
    }

    /// Waits for the commit that has begun, for at most `limit`. Returns true if it has ended or none has begun.
    pub fn poll_commit(&mut self, limit: Duration) -> Result<bool> {
        let OpenTarget::Epochs(output) = &mut self.target else { return Ok(true) };
        if !output.is_committing() {
            return Ok(true);
        }
        let polled = output.poll_commit(limit).map_err(|error| error.at(&self.name))?;
        let Poll::Ready(rejected) = polled else { return Ok(false) };
        self.rejected += rejected.as_ref().map_or(0, |rejected| rejected.faults.len() as u64);
        self.rejected_by_commit = rejected;
        Ok(true)
    }

    /// Whether a commit has begun and not ended.
    pub fn is_committing(&self) -> bool {
        matches!(&self.target, OpenTarget::Epochs(output) if output.is_committing())
    }

    /// Takes the rows that the target could not hold when it committed an epoch.
    pub fn take_rejected_by_commit(&mut self) -> Option<RejectedByCommit> {
        self.rejected_by_commit.take()
    }

    /// Takes the rows that the target got before their epoch was complete, and rejected late.
    pub fn take_late(&mut self) -> Vec<RejectedRow> {
        std::mem::take(&mut self.late)
    }

    /// Returns the bytes of rows in the epoch in progress: rows in the outbox, or rows that a later stage got.
    pub fn epoch_bytes(&self) -> u64 {
        match &self.target {
            OpenTarget::Epochs(output) => output.staged_bytes(),
            _ => self.sent,
        }
    }

    fn write_rows(&mut self, batch: &RecordBatch, headers: Option<HeaderRows<'_>>) -> Result<Vec<Rejected>> {
        let name = &self.name;
        match &mut self.target {
            OpenTarget::Null => {}
            OpenTarget::Frames(frames) => {
                self.sent += frames.batch(batch).map_err(|error| unread(error, name, batch))?;
            }
            OpenTarget::Encoded { encoder, file, buffer, .. } => {
                let written = match encoder.slices(batch) {
                    Some(slices) => file.write_pieces(slices),
                    None => {
                        encoder.encode(batch, buffer)?;
                        file.write(&[buffer])
                    }
                };
                buffer.clear();
                written.map_err(|error| unread(error, name, batch))?;
            }
            OpenTarget::Kafka(topic) => {
                return topic.write(batch, headers);
            }
            OpenTarget::Epochs(output) => {
                let before = output.row_counts().unwrap_or_default();
                let written = output.write(batch, headers).map_err(|error| error.at(name));
                return written.map_err(|error| {
                    let after = output.row_counts().unwrap_or_default();
                    unwritten(error, name, unacknowledged(batch, before, after))
                });
            }
            OpenTarget::Store { kind, sink } => {
                let before = sink.counts();
                let written = sink.write(*kind, batch).map_err(|error| error.at(name));
                return written.map_err(|error| unwritten(error, name, unacknowledged(batch, before, sink.counts())));
            }
        }
        Ok(vec![])
    }

    /// Writes a control message if the output can carry it: frames, topics, and watermarks as lines of text with
    /// `--control`.
    pub fn control(&mut self, message: &Control) -> Result<()> {
        match &mut self.target {
            OpenTarget::Frames(frames) => frames.control(message),
            OpenTarget::Kafka(topic) => topic.control(message),
            OpenTarget::Encoded { file, control: true, .. } => match message {
                Control::Watermark(instant) => {
                    let instant = evt_core::time::format_instant(*instant);
                    file.write(&[format!("{{\"$evt\":{{\"watermark\":\"{instant}\"}}}}\n").as_bytes()])
                }
                Control::Progress(_) | Control::Barrier(_) | Control::Metrics(_) | Control::End(_) => Ok(()),
            },
            OpenTarget::Encoded { .. } | OpenTarget::Null => Ok(()),
            OpenTarget::Store { .. } | OpenTarget::Epochs(_) => {
                if let Control::Metrics(metrics) = message {
                    self.note_metrics(metrics);
                }
                Ok(())
            }
        }
    }

    /// Gives a store how far the metrics of its rows are.
    fn note_metrics(&mut self, metrics: &[MetricProgress]) {
        match &mut self.target {
            OpenTarget::Store { sink, .. } => sink.note_metrics(metrics),
            OpenTarget::Epochs(output) => output.note_metrics(metrics),
            _ => {}
        }
    }

    /// Does time-driven work of a store or a topic.
    pub fn tick(&mut self) -> Result<()> {
        match &mut self.target {
            OpenTarget::Store { sink, .. } => sink.tick().map_err(|error| error.at(&self.name)),
            OpenTarget::Kafka(topic) => topic.tick(),
            OpenTarget::Epochs(output) => {
                output.tick(self.clock.monotonic())?;
                self.poll_written(Duration::ZERO)
            }
            _ => Ok(()),
        }
    }

    /// Lets bytes be written that wait for more.
    pub fn idle(&mut self) -> Result<()> {
        let OpenTarget::Encoded { file, .. } = &mut self.target else { return Ok(()) };
        file.flush().map_err(|error| error.at(&self.name))
    }

    /// Writes the rows that the encoder holds back, so that a waiting reader gets them.
    pub fn flush(&mut self) -> Result<()> {
        let OpenTarget::Encoded { encoder, file, buffer, .. } = &mut self.target else { return Ok(()) };
        encoder.flush(buffer);
        let written = file.write(&[buffer]).and_then(|()| file.flush()).map_err(|error| error.at(&self.name));
        buffer.clear();
        written
    }

    /// Makes every row so far durable, if the output can ([`super::OutputPlan::acknowledges`]).
    pub fn settle(&mut self) -> Result<()> {
        self.flush()?;
        match &mut self.target {
            OpenTarget::Encoded { file, .. } => file.settle(),
            OpenTarget::Store { sink, .. } => sink.settle().map_err(|error| error.at(&self.name)),
            OpenTarget::Kafka(topic) => topic.settle(),
            OpenTarget::Null | OpenTarget::Frames(_) | OpenTarget::Epochs(_) => Ok(()),
        }
    }

    /// Returns the format of a file or of standard output; `None` for a store, a topic or no output.
    pub fn format(&self) -> Option<&'static Format> {
        match &self.target {
            OpenTarget::Null | OpenTarget::Store { .. } | OpenTarget::Kafka(_) => None,
            OpenTarget::Epochs(output) => output.format(),
            OpenTarget::Frames(_) => Some(&format::frames::FORMAT),
            OpenTarget::Encoded { format, .. } => Some(format),
        }
    }

    /// Writes the tool's own text after the rows so far; frames, stores, topics and the outputs of epochs ignore it.
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.flush()?;
        let OpenTarget::Encoded { file, .. } = &mut self.target else { return Ok(()) };
        file.write(&[text.as_bytes()]).map_err(|error| error.at(&self.name))
    }

    /// Sends the end of a stream of frames, and keeps the stream open.
    pub fn send_end(&mut self, end: &End) -> Result<()> {
        if let OpenTarget::Frames(frames) = &mut self.target { frames.send_end(end) } else { Ok(()) }
    }

    /// Ends the output at `end`: writes the last bytes or control message, and renames a part to its file's name.
    pub fn finish(mut self, end: &End) -> Result<OutputReport> {
        self.send_end(end)?;
        let mut report = OutputReport { name: self.name, rows: self.rows, ..OutputReport::default() };
        match self.target {
            OpenTarget::Null => {}
            OpenTarget::Epochs(output) => output.finish(end, &mut report)?,
            OpenTarget::Frames(frames) => report.end_file(frames.finish(end.how)?),
            OpenTarget::Encoded { mut encoder, mut file, mut buffer, .. } => {
                encoder.finish(&mut buffer)?;
                file.write(&[&buffer])?;
                report.end_file(file.finish(end.how)?);
            }
            OpenTarget::Kafka(mut topic) => {
                topic.control(&Control::End(End { rows: report.rows, ..*end }))?;
                report.counts = Some(topic.finish()?);
            }
            OpenTarget::Store { sink, .. } => report.end_store(sink, end.how)?,
        }
        Ok(report)
    }
}
