//! An output of a run with a checkpoint: its rows wait in an outbox until their epoch is complete.
//!
//! ```text
//! rows ─► OutboxWriter ─seal─► part of the epoch ─(the epoch is complete)─► commit: a transaction, or lines appended once
//! rows ─► Sink::write at once (Redis, `?visible=now`) ─seal─► Sink::settle ─(the epoch is complete)─► the epoch is recorded
//! ```

use super::file::Plain;
use super::file::once::{BatchId, OnceFile};
use super::report::OutputReport;
use crate::checkpoint::log::{EpochPart, outbox_name};
use crate::checkpoint::part::{OutboxWriter, read_outbox};
use crate::checkpoint::part_name;
use crate::checkpoint::store::CheckpointStore;
use crate::counts::SinkCounts;
use crate::error::{Error, Result};
use crate::format::{Encoder, Format};
use crate::frame::End;
use crate::kafka::produce::epochs::EpochTopic;
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault, Rejected};
use crate::kind::headers::{self, HeaderRows};
use crate::run::Run;
use crate::store::disk::Disk;
use crate::store::{Batches, Epoch, EpochRows, PartitionPosition, Sink};
use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Encoded bytes that are appended at once. A reader of the file sees whole pieces.
const PIECE_BYTES: usize = 4 << 20;

/// What an output in a checkpoint is opened with.
#[derive(Clone, Debug)]
pub struct EpochPlan {
    /// Where the checkpoint is kept.
    pub store: Arc<dyn CheckpointStore>,
    /// The id of the checkpoint.
    pub checkpoint: String,
    /// The name of the stage.
    pub stage: String,
    /// The name of the output in it: `to-0`, `late`, `dlq`.
    pub key: String,
    /// The epoch in progress.
    pub epoch: Epoch,
}

impl EpochPlan {
    /// Returns the key of the epochs that a target has committed.
    pub fn key(&self) -> String {
        format!("{}/{}", self.run(), self.key)
    }

    /// Returns what rows name as their run: the same in all runs of the checkpoint.
    pub fn run(&self) -> String {
        format!("{}/{}", self.checkpoint, self.stage)
    }

    /// Returns the name of the part with the rows of this output.
    fn part(&self) -> String {
        outbox_name(&self.stage, &self.key)
    }

    /// Returns the name of the note with the rows that the store could not hold.
    fn note(&self) -> String {
        part_name(&self.stage, &format!("rejected-{}", self.key))
    }
}

/// The rows of an output in the epoch in progress, and the target that gets them.
pub struct EpochOutput {
    plan: EpochPlan,
    outbox: Option<OutboxWriter>,
    target: EpochTarget,
}

/// A complete epoch, whose rows outputs get.
#[derive(Clone, Copy, Debug)]
pub struct CompleteEpoch<'a> {
    /// The epoch.
    pub epoch: Epoch,
    /// Its files.
    pub parts: &'a [EpochPart],
    /// The positions of the input at its end.
    pub positions: &'a [PartitionPosition],
    /// The time (µs).
    pub now: i64,
    /// For the output of dead letters: those of the rows that other outputs could not hold at this commit.
    pub refused: &'a [RecordBatch],
}

/// What gets the rows of complete epochs.
pub(super) enum EpochTarget {
    /// A store, which gets rows when their epoch is complete, or at once.
    Store { kind: Kind, sink: Box<dyn Sink>, is_at_once: bool },
    /// A file to which lines are appended once, or a stream.
    Text { format: &'static Format, encoder: Box<dyn Encoder>, file: Plain, lines: Option<LineFile> },
    /// A topic.
    Topic(Box<EpochTopic>),
}

/// A row that a store could not hold when its epoch was committed.
pub struct RejectedRow {
    /// The row.
    pub row: RecordBatch,
    /// The reason.
    pub fault: Fault,
    /// When and where the commit was tried.
    pub refusal: Refusal,
}

/// When and where a store could not hold rows. A repeated commit has the same letters, so both are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The time (µs).
    pub failed_at: i64,
    /// The host of the run.
    pub host: Arc<str>,
}

/// A file to which the lines of an epoch are appended once.
pub(super) struct LineFile {
    file: OnceFile,
    /// What an empty file begins with.
    header: Vec<u8>,
}

/// The rows that a store could not hold, as they are kept.
#[derive(Serialize, Deserialize)]
struct KeptRejected {
    #[serde(flatten)]
    refusal: Refusal,
    rows: Vec<KeptFault>,
}

/// The reason for a rejected row, as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptFault {
    row: usize,
    error_type: String,
    message: String,
}

impl EpochOutput {
    /// Makes the output of `target`, which is open.
    pub(super) fn new(plan: EpochPlan, mut target: EpochTarget, disk: Disk) -> Self {
        if let EpochTarget::Text { file: Plain::Appended { path, header, .. }, lines, .. } = &mut target
            && Plain::is_regular(path)
        {
            let ledger = format!("{:016x}", xxh3_64(plan.key().as_bytes()));
            let file = OnceFile::new(path.clone(), &ledger, disk);
            *lines = Some(LineFile { file, header: header.clone() });
        }
        Self { plan, outbox: None, target }
    }

    /// Returns the counts of a store's rows by outcome.
    pub fn row_counts(&self) -> Option<SinkCounts> {
        if let EpochTarget::Store { sink, .. } = &self.target { Some(sink.counts()) } else { None }
    }

    /// Returns the format of text.
    pub fn format(&self) -> Option<&'static Format> {
        if let EpochTarget::Text { format, .. } = &self.target { Some(format) } else { None }
    }

    /// Ends the output; every epoch is committed.
    pub(super) fn finish(self, end: &End, report: &mut OutputReport) -> Result<()> {
        match self.target {
            EpochTarget::Store { sink, .. } => report.end_store(sink, end.how),
            EpochTarget::Text { file, .. } => {
                report.end_file(file.finish(end.how)?);
                Ok(())
            }
            EpochTarget::Topic(topic) => {
                report.counts = Some(topic.finish()?);
                Ok(())
            }
        }
    }

    /// Adds rows to the epoch in progress, for a topic with the headers of their records, or writes them at once.
    /// Returns the rows that the store could not hold.
    pub fn write(&mut self, batch: &RecordBatch, headers: Option<HeaderRows<'_>>) -> Result<Vec<Rejected>> {
        if let EpochTarget::Store { kind, sink, is_at_once: true } = &mut self.target {
            return sink.write(*kind, batch);
        }
        let is_headed =
            matches!(self.target, EpochTarget::Topic(_)) && Kind::of(batch.schema_ref()) == Some(Kind::Event);
        let headed = is_headed.then(|| headers::with(batch, headers)).transpose()?;
        let batch = headed.as_ref().unwrap_or(batch);
        match &mut self.outbox {
            Some(outbox) => outbox.write(batch)?,
            None => {
                let part = self.plan.store.create_part(self.plan.epoch, &self.plan.part())?;
                self.outbox = Some(OutboxWriter::begin(part, batch)?);
            }
        }
        Ok(vec![])
    }

    /// Does time-driven work of a topic or of a store.
    pub fn tick(&mut self) -> Result<()> {
        match &mut self.target {
            EpochTarget::Topic(topic) => topic.tick(),
            EpochTarget::Store { sink, .. } => sink.tick(),
            EpochTarget::Text { .. } => Ok(()),
        }
    }

    /// Makes the rows of the epoch in progress durable, and begins the epoch `next`. Returns the part that holds them, if there
    /// are any. A restart does not repeat rows that were written at once before, so the store makes them durable now.
    pub fn seal(&mut self, next: Epoch) -> Result<Option<EpochPart>> {
        if let EpochTarget::Store { sink, is_at_once: true, .. } = &mut self.target {
            sink.settle()?;
        }
        self.plan.epoch = next;
        self.outbox.take().map(OutboxWriter::finish).transpose()
    }

    /// Writes the rows of a complete epoch to the target; a second call changes nothing. Returns the rows that it could not hold.
    pub fn commit(&mut self, complete: CompleteEpoch<'_>) -> Result<Vec<RejectedRow>> {
        let part = self.plan.part();
        let has_outbox = complete.parts.iter().any(|other| other.name == part);
        let epoch = complete.epoch;
        // A store records the epochs whose rows it got at once, so that an older run is fenced.
        let is_recorded = match &self.target {
            EpochTarget::Store { sink, is_at_once, .. } => {
                *is_at_once || sink.keeps_positions() && !complete.positions.is_empty()
            }
            _ => false,
        };
        if !has_outbox && complete.refused.is_empty() && !is_recorded {
            return Ok(vec![]);
        }
        let mut rows = OutboxRows { plan: &self.plan, complete, kind: Kind::Event, has_outbox };
        match &mut self.target {
            EpochTarget::Store { kind, sink, .. } => {
                rows.kind = *kind;
                sink.commit(epoch, &mut rows)?;
                return rows.rejected();
            }
            EpochTarget::Topic(topic) => {
                topic.commit(epoch, &mut rows)?;
                return rows.rejected();
            }
            EpochTarget::Text { encoder, lines: Some(lines), .. } => lines.append(epoch, encoder.as_mut(), &rows)?,
            EpochTarget::Text { encoder, file, lines: None, .. } => {
                let mut bytes = vec![];
                for batch in rows.batches()? {
                    encode(encoder.as_mut(), &batch?, &mut bytes)?;
                    file.write(&[&bytes])?;
                    bytes.clear();
                }
                encoder.flush(&mut bytes);
                file.write(&[&bytes])?;
            }
        }
        Ok(vec![])
    }
}

impl LineFile {
    /// Appends the lines of an epoch, but for those that a former commit has appended. Errors: exit status 75 if the
    /// file has a later epoch.
    fn append(&mut self, epoch: Epoch, encoder: &mut dyn Encoder, rows: &OutboxRows<'_>) -> Result<()> {
        self.file.lock()?;
        let last = self.file.last_batch()?;
        let (Epoch { run, number }, shown) = (epoch, self.file.name());
        let last_epoch = last.map(|last| Epoch { run: last.run, number: last.number });
        let skipped = match last {
            Some(last) if !epoch.is_due(last_epoch, shown)? => last.piece + 1,
            _ => 0,
        };
        let (mut piece, mut bytes) = (0, vec![]);
        let mut batches = rows.batches()?;
        loop {
            let batch = batches.next().transpose()?;
            match &batch {
                Some(batch) => encode(encoder, batch, &mut bytes)?,
                None => encoder.flush(&mut bytes),
            }
            if bytes.len() < PIECE_BYTES && batch.is_some() {
                continue;
            }
            if piece >= skipped && !bytes.is_empty() {
                self.file.append_piece(BatchId { run, number, piece }, &self.header, &bytes)?;
            }
            piece += 1;
            bytes.clear();
            if batch.is_none() {
                self.file.unlock();
                return Ok(());
            }
        }
    }
}

/// Appends the lines of a batch to `bytes`.
fn encode(encoder: &mut dyn Encoder, batch: &RecordBatch, bytes: &mut Vec<u8>) -> Result<()> {
    match encoder.slices(batch) {
        Some(slices) => slices.iter().for_each(|slice| bytes.extend_from_slice(slice)),
        None => encoder.encode(batch, bytes)?,
    }
    Ok(())
}

/// The rows of an output in a complete epoch.
struct OutboxRows<'a> {
    plan: &'a EpochPlan,
    complete: CompleteEpoch<'a>,
    kind: Kind,
    has_outbox: bool,
}

impl OutboxRows<'_> {
    /// Returns the rows that the store could not hold when the epoch was committed.
    fn rejected(&self) -> Result<Vec<RejectedRow>> {
        let note = self.plan.note();
        let Some(kept) = self.plan.store.own_note(self.complete.epoch, &note)? else { return Ok(vec![]) };
        let kept: KeptRejected = serde_json::from_slice(&kept).map_err(|error| Error::corrupt(note).because(error))?;
        let refusal = kept.refusal;
        let mut kept = kept.rows.into_iter().peekable();
        let (mut rejected, mut before) = (vec![], 0);
        for batch in self.batches()? {
            let batch = batch?;
            let end = before + batch.num_rows();
            while let Some(KeptFault { row, error_type, message }) = kept.next_if(|kept| kept.row < end) {
                let error_type = ErrorType::from_name(&error_type).unwrap_or(ErrorType::SinkError);
                let (row, fault) = (batch.slice(row - before, 1), Fault::new(error_type, message));
                rejected.push(RejectedRow { row, fault, refusal: refusal.clone() });
            }
            before = end;
        }
        Ok(rejected)
    }
}

impl EpochRows for OutboxRows<'_> {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn positions(&self) -> &[PartitionPosition] {
        self.complete.positions
    }

    fn batches(&self) -> Result<Batches> {
        let refused = Vec::from(self.complete.refused).into_iter().map(Ok);
        if !self.has_outbox {
            return Ok(Box::new(refused));
        }
        let name = self.plan.part();
        let outbox = read_outbox(self.plan.store.open_part(self.complete.epoch, &name)?, &name)?;
        Ok(Box::new(outbox.chain(refused)))
    }

    fn keep_rejected(&mut self, rejected: Vec<Rejected>) -> Result<()> {
        // An earlier attempt at this commit may have left a note.
        let epoch = self.complete.epoch;
        if rejected.is_empty() && self.plan.store.own_note(epoch, &self.plan.note())?.is_none() {
            return Ok(());
        }
        let rows = rejected.into_iter().map(|Rejected { row, fault }| KeptFault {
            row,
            error_type: fault.error_type.name().to_owned(),
            message: fault.message,
        });
        let refusal = Refusal { failed_at: self.complete.now, host: Run::host().into() };
        let kept = KeptRejected { refusal, rows: rows.collect() };
        let bytes = serde_json::to_vec(&kept).map_err(|error| Error::broken(format!("rejected rows: {error}")))?;
        self.plan.store.put_note(epoch, &self.plan.note(), &bytes)
    }
}
