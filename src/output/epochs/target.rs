//! The target of an output of a checkpoint. In the thread of the output, it gets the rows of complete epochs.

use super::object::{ObjectFile, encode};
use super::plan::{CompleteEpoch, EpochPlan};
use super::rejected::{EpochSource, FirstAttempt, KeptRejected, RejectedByCommit};
use crate::output::file::once::{BatchId, OnceFile};
use crate::output::file::records::RecordForm;
use crate::output::file::{Plain, is_regular};
use crate::output::report::OutputReport;
use arrow::array::RecordBatch;
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result};
use evt_core::format::Format;
use evt_core::frame::{EndReason, MetricProgress};
use evt_core::kind::Kind;
use evt_core::kind::dead::Rejected;
use evt_kafka::produce::epochs::EpochTopic;
use evt_run::checkpoint::epoch::{Batches, Epoch, EpochFaults, EpochRows, PartitionPosition};
use evt_run::checkpoint::part::{of_json, to_json};
use evt_run::run::Run;
use evt_run::storage::disk::Disk;
use xxhash_rust::xxh3::xxh3_64;

/// Encoded bytes that are appended at once.
const PIECE_BYTES: usize = 4 << 20;

/// The target of an output of a checkpoint: it gets the rows of complete epochs.
pub(in crate::output) enum EpochTarget {
    /// A store, which gets rows when their epoch is complete, or at once.
    Store { kind: Kind, sink: Box<dyn evt_store::Sink>, is_at_once: bool },
    /// A file to which lines are appended once, or a stream.
    Text {
        format: &'static Format,
        encoder: Box<dyn evt_core::format::Encoder>,
        file: Plain,
        lines: Option<Box<LineFile>>,
    },
    /// A topic.
    Topic(Box<EpochTopic>),
    /// An object of a bucket for each epoch.
    Objects(Box<ObjectFile>),
}

/// A file to which the lines of an epoch are appended once.
pub(in crate::output) struct LineFile {
    file: OnceFile,
    /// The bytes that are written first to an empty file; empty if the format has no header.
    header: Vec<u8>,
}

impl EpochTarget {
    /// Makes the target of text in an open file or stream.
    pub fn text(
        format: &'static Format,
        encoder: Box<dyn evt_core::format::Encoder>,
        file: Plain,
        plan: &EpochPlan,
        disk: Disk,
    ) -> Self {
        let lines = match &file {
            Plain::Appended { path, header, .. } if is_regular(path) => {
                let ledger = format!("{:016x}", xxh3_64(plan.key().as_bytes()));
                let file = OnceFile::new(path.clone(), &ledger, disk).with_form(RecordForm::of(format, header));
                Some(Box::new(LineFile { file, header: header.clone() }))
            }
            _ => None,
        };
        Self::Text { format, encoder, file, lines }
    }

    /// Returns the format of text.
    pub fn format(&self) -> Option<&'static Format> {
        match self {
            Self::Text { format, .. } => Some(format),
            Self::Objects(objects) => Some(objects.format),
            Self::Store { .. } | Self::Topic(_) => None,
        }
    }

    /// Whether it is a store that gets rows before their epoch is complete.
    pub fn is_at_once(&self) -> bool {
        matches!(self, Self::Store { is_at_once: true, .. })
    }

    /// Checks that the target has no later epoch than the last one in the log; messages call the target `name`. Errors:
    /// exit status 75 if the target has a later epoch: a newer run has begun, the checkpoint is older than the target,
    /// or a run of another copy of the checkpoint has written the target.
    pub fn check_committed(&mut self, plan: &EpochPlan, name: &str) -> Result<()> {
        let committed = match self {
            Self::Store { sink, .. } => sink.committed()?,
            Self::Topic(topic) => topic.committed()?,
            Self::Text { lines: Some(lines), .. } => {
                lines.file.begun_batch()?.map(|BatchId { run, number, .. }| Epoch { run, number })
            }
            Self::Text { lines: None, .. } => None,
            Self::Objects(objects) => objects.committed(plan)?.max(plan.last_recorded),
        };
        if committed <= plan.last_recorded {
            return Ok(());
        }
        // If this process was suspended since it read the log, a newer run may have committed that epoch: nothing is
        // wrong then.
        plan.place.check_newest(plan.epoch.run)?;
        let place = &plan.place.name;
        let found = committed.map_or_else(|| "none".to_owned(), |epoch| format!("epoch {epoch}"));
        let expected = match plan.last_recorded {
            None => format!("no epoch, because {place} has none"),
            Some(last) => format!("epoch {last}, the last one of {place}, or an earlier one"),
        };
        let message = format!(
            "{name}: expected {expected}, found {found}: {place} is older than this output, or another copy of it has \
             written here; restore both from one backup"
        );
        Err(Error::fenced(message))
    }

    /// Returns the counts of a store's rows by outcome.
    pub fn counts(&self) -> Option<SinkCounts> {
        if let Self::Store { sink, .. } = self { Some(sink.counts()) } else { None }
    }

    /// Writes rows before their epoch is complete. Returns those that the store could not hold.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        if let Self::Store { kind, sink, .. } = self { sink.write(*kind, batch) } else { Ok(vec![]) }
    }

    /// Takes how far the metrics of a store's rows are at the end of the epoch that is committed next.
    pub fn note_metrics(&mut self, metrics: &[MetricProgress]) {
        if let Self::Store { sink, .. } = self {
            sink.note_metrics(metrics);
        }
    }

    /// Makes the rows durable that a store got before their epoch was complete.
    pub fn settle(&mut self) -> Result<()> {
        if let Self::Store { sink, .. } = self { sink.settle() } else { Ok(()) }
    }

    /// Does time-driven work.
    pub fn tick(&mut self) -> Result<()> {
        match self {
            Self::Topic(topic) => topic.tick(),
            Self::Store { sink, .. } => sink.tick(),
            Self::Text { .. } | Self::Objects(_) => Ok(()),
        }
    }

    /// Ends the target; every epoch is committed.
    pub fn finish(self, how: EndReason, report: &mut OutputReport) -> Result<()> {
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
            Self::Objects(_) => Ok(()),
        }
    }

    /// Writes the rows of a complete epoch; a second call changes nothing. Returns the rows that the target could not
    /// hold, if there are any.
    pub fn commit(&mut self, plan: &EpochPlan, complete: &CompleteEpoch) -> Result<Option<RejectedByCommit>> {
        let epoch = complete.recorded;
        let outbox = Some(plan.part()).filter(|part| complete.parts.iter().any(|other| other.name == *part));
        // A store records the epochs whose rows it got at once, so that an older run is fenced.
        let is_recorded = match &*self {
            Self::Store { sink, is_at_once, .. } => {
                *is_at_once || sink.keeps_positions() && !complete.positions.is_empty()
            }
            _ => false,
        };
        if outbox.is_none() && complete.letters.is_empty() && !is_recorded {
            return Ok(None);
        }
        let (place, letters) = (plan.place.clone(), complete.letters.clone());
        let source = EpochSource { place, epoch: complete.epoch, outbox, letters };
        let mut rows = OutboxRows { plan, complete, kind: Kind::Event, source };
        match self {
            Self::Store { kind, sink, .. } => {
                rows.kind = *kind;
                sink.commit(epoch, &mut rows)?;
                return rows.rejected();
            }
            Self::Topic(topic) => {
                topic.commit(epoch, &mut rows)?;
                return rows.rejected();
            }
            Self::Objects(objects) => objects.write(epoch, plan, rows.batches()?)?,
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
        Ok(None)
    }
}

impl LineFile {
    /// Appends the lines of an epoch, without the pieces that an earlier attempt of the commit has appended. Errors:
    /// exit status 75 if the file has a later epoch.
    fn append(
        &mut self,
        epoch: Epoch,
        encoder: &mut dyn evt_core::format::Encoder,
        rows: &OutboxRows<'_>,
    ) -> Result<()> {
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

/// The rows of an output in a complete epoch.
struct OutboxRows<'a> {
    plan: &'a EpochPlan,
    complete: &'a CompleteEpoch,
    kind: Kind,
    source: EpochSource,
}

impl OutboxRows<'_> {
    /// Returns the rows that the store could not hold when the epoch was committed.
    fn rejected(&self) -> Result<Option<RejectedByCommit>> {
        let note = self.plan.note();
        let Some(kept) = self.plan.place.own_note(self.complete.epoch, &note)? else { return Ok(None) };
        let kept: KeptRejected = of_json(&note, &kept)?;
        Ok(Some(RejectedByCommit::new(kept.attempt, kept.rows, self.source.clone())))
    }
}

impl EpochRows for OutboxRows<'_> {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn positions(&self) -> &[PartitionPosition] {
        &self.complete.positions
    }

    fn batches(&self) -> Result<Batches> {
        self.source.batches()
    }

    fn keep_rejected(&mut self, rejected: EpochFaults) -> Result<()> {
        // An earlier attempt at this commit may have left a note.
        let epoch = self.complete.epoch;
        if rejected.rows.is_empty() && self.plan.place.own_note(epoch, &self.plan.note())?.is_none() {
            return Ok(());
        }
        let attempt = FirstAttempt { failed_at: self.complete.now, host: Run::host().into() };
        let kept = KeptRejected { attempt, rows: rejected };
        let bytes = to_json("rejected rows", &kept)?;
        self.plan.place.put_note(epoch, &self.plan.note(), &bytes)
    }
}
