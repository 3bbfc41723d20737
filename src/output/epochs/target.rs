//! What gets the rows of complete epochs, in the thread of its output.

use super::plan::{CompleteEpoch, EpochPlan, KeptFault, RejectedRow};
use crate::counts::SinkCounts;
use crate::error::{Error, Result};
use crate::format::{Encoder, Format};
use crate::frame::How;
use crate::kafka::produce::epochs::EpochTopic;
use crate::kind::Kind;
use crate::kind::dead::Rejected;
use crate::output::file::Plain;
use crate::output::file::once::{BatchId, OnceFile};
use crate::output::report::OutputReport;
use crate::store::disk::Disk;
use crate::store::{Batches, Epoch, EpochRows, PartitionPosition, Sink};
use arrow::array::RecordBatch;
use xxhash_rust::xxh3::xxh3_64;

/// Encoded bytes that are appended at once. A reader of the file sees whole pieces.
const PIECE_BYTES: usize = 4 << 20;

/// What gets the rows of complete epochs.
pub(in crate::output) enum EpochTarget {
    /// A store, which gets rows when their epoch is complete, or at once.
    Store { kind: Kind, sink: Box<dyn Sink>, is_at_once: bool },
    /// A file to which lines are appended once, or a stream.
    Text { format: &'static Format, encoder: Box<dyn Encoder>, file: Plain, lines: Option<LineFile> },
    /// A topic.
    Topic(Box<EpochTopic>),
}

/// A file to which the lines of an epoch are appended once.
pub(in crate::output) struct LineFile {
    file: OnceFile,
    /// What an empty file begins with.
    header: Vec<u8>,
}

impl EpochTarget {
    /// Makes the target of text in an open file or stream.
    pub fn text(format: &'static Format, encoder: Box<dyn Encoder>, file: Plain, plan: &EpochPlan, disk: Disk) -> Self {
        let lines = match &file {
            Plain::Appended { path, header, .. } if Plain::is_regular(path) => {
                let ledger = format!("{:016x}", xxh3_64(plan.key().as_bytes()));
                Some(LineFile { file: OnceFile::new(path.clone(), &ledger, disk), header: header.clone() })
            }
            _ => None,
        };
        Self::Text { format, encoder, file, lines }
    }

    /// Whether it is a store that gets rows before their epoch is complete.
    pub fn is_at_once(&self) -> bool {
        matches!(self, Self::Store { is_at_once: true, .. })
    }

    /// Returns the counts of a store's rows by outcome.
    pub fn counts(&self) -> Option<SinkCounts> {
        if let Self::Store { sink, .. } = self { Some(sink.counts()) } else { None }
    }

    /// Writes rows before their epoch is complete. Returns those that the store could not hold.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        if let Self::Store { kind, sink, .. } = self { sink.write(*kind, batch) } else { Ok(vec![]) }
    }

    /// Makes the rows durable that a store got at once.
    pub fn settle(&mut self) -> Result<()> {
        if let Self::Store { sink, .. } = self { sink.settle() } else { Ok(()) }
    }

    /// Does time-driven work.
    pub fn tick(&mut self) -> Result<()> {
        match self {
            Self::Topic(topic) => topic.tick(),
            Self::Store { sink, is_at_once: true, .. } => sink.tick(),
            Self::Store { .. } | Self::Text { .. } => Ok(()),
        }
    }

    /// Ends the target; every epoch is committed.
    pub fn finish(self, how: How, report: &mut OutputReport) -> Result<()> {
        match self {
            Self::Store { sink, .. } => report.end_store(sink, how),
            Self::Text { file, .. } => {
                report.end_file(file.finish(how)?);
                Ok(())
            }
            Self::Topic(topic) => {
                report.counts = Some(topic.finish()?);
                Ok(())
            }
        }
    }

    /// Writes the rows of a complete epoch; a second call changes nothing. Returns the rows that it could not hold.
    pub fn commit(&mut self, plan: &EpochPlan, complete: &CompleteEpoch) -> Result<Vec<RejectedRow>> {
        let CompleteEpoch { epoch, parts, positions } = complete;
        let (epoch, part) = (*epoch, plan.part());
        let has_rows = parts.iter().any(|other| other.name == part);
        // A store records the epochs whose rows it got at once, so that an older run is fenced.
        let is_recorded = match &*self {
            Self::Store { sink, is_at_once, .. } => *is_at_once || sink.keeps_positions() && !positions.is_empty(),
            _ => false,
        };
        if !has_rows && !is_recorded {
            return Ok(vec![]);
        }
        let mut rows = OutboxRows { plan, epoch, kind: Kind::Event, has_rows, positions };
        match self {
            Self::Store { kind, sink, .. } => {
                rows.kind = *kind;
                sink.commit(epoch, &mut rows)?;
                return plan.rejected(epoch);
            }
            Self::Topic(topic) => {
                topic.commit(epoch, &mut rows)?;
                return plan.rejected(epoch);
            }
            Self::Text { encoder, lines: Some(lines), .. } => lines.append(epoch, encoder.as_mut(), &rows)?,
            Self::Text { encoder, file, lines: None, .. } => {
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
    epoch: Epoch,
    kind: Kind,
    has_rows: bool,
    positions: &'a [PartitionPosition],
}

impl EpochRows for OutboxRows<'_> {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn positions(&self) -> &[PartitionPosition] {
        self.positions
    }

    fn batches(&self) -> Result<Batches> {
        if self.has_rows { self.plan.rows(self.epoch) } else { Ok(Box::new(std::iter::empty())) }
    }

    fn keep_rejected(&mut self, rejected: Vec<Rejected>) -> Result<()> {
        // An earlier attempt at this commit may have left a note.
        if rejected.is_empty() && self.plan.store.own_note(self.epoch, &self.plan.note())?.is_none() {
            return Ok(());
        }
        let kept = rejected.into_iter().map(|Rejected { row, fault }| KeptFault {
            row,
            error_type: fault.error_type.name().to_owned(),
            message: fault.message,
        });
        let kept: Vec<KeptFault> = kept.collect();
        let bytes = serde_json::to_vec(&kept).map_err(|error| Error::broken(format!("rejected rows: {error}")))?;
        self.plan.store.put_note(self.epoch, &self.plan.note(), &bytes)
    }
}
