//! The rows of an epoch that a target could not hold, and their dead letters.
//!
//! Their numbers and reasons are in a note and in memory. The rows themselves are in the outbox, from which they are
//! read again, one batch after another: an epoch may have millions of them.

use arrow::array::RecordBatch;
use evt_core::error::Result;
use evt_core::kind::Kind;
use evt_core::kind::dead::{ErrorType, Fault, Rejected};
use evt_core::kind::letters;
use evt_core::op::row_letter::with_letter;
use evt_run::checkpoint::epoch::{Batches, Epoch, EpochFault, EpochFaults};
use evt_run::checkpoint::part::read_outbox;
use evt_run::checkpoint::place::CheckpointPlace;
use evt_store::or_error;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

/// Maximum number of letters in a batch. A repeated commit must make the same batches, because a file of lines records
/// the number of pieces that it has.
const LETTERS_MAX: usize = 1024;
/// Maximum size of the letters in a batch (bytes of payloads, headers and messages).
const LETTER_BYTES_MAX: usize = 256 << 10;

/// When and where a store could not hold rows. Both are kept, so that a repeated commit makes the same letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstAttempt {
    /// The time (µs).
    pub failed_at: i64,
    /// The host of the run.
    pub host: Arc<str>,
}

/// The rows that a store could not hold, as they are kept.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptRejected {
    #[serde(flatten)]
    pub(super) attempt: FirstAttempt,
    #[serde(serialize_with = "write_faults", deserialize_with = "read_faults")]
    pub(super) rows: EpochFaults,
}

/// The reason for a rejected row, as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptFault<'a> {
    row: usize,
    #[serde(borrow)]
    error_type: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

fn write_faults<S: Serializer>(faults: &EpochFaults, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_seq(faults.rows.iter().map(|EpochFault { row, error_type, message }| KeptFault {
        row: *row,
        error_type: error_type.name().into(),
        message: Cow::Borrowed(message),
    }))
}

fn read_faults<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<EpochFaults, D::Error> {
    struct Faults;

    impl<'de> Visitor<'de> for Faults {
        type Value = EpochFaults;

        fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            out.write_str("a list of rows")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> std::result::Result<EpochFaults, A::Error> {
            let mut faults = EpochFaults::default();
            while let Some(KeptFault { row, error_type, message }) = rows.next_element()? {
                let error_type = ErrorType::from_name(&error_type).unwrap_or(ErrorType::SinkError);
                faults.push(row, error_type, &message);
            }
            Ok(faults)
        }
    }

    from.deserialize_seq(Faults)
}

/// The rows of an output in a complete epoch.
#[derive(Clone, Debug)]
pub(super) struct EpochSource {
    pub(super) place: Arc<CheckpointPlace>,
    pub(super) epoch: Epoch,
    /// The part with the rows of its outbox, if it has any.
    pub(super) outbox: Option<String>,
    /// The letters that follow the rows of the outbox.
    pub(super) letters: RejectedLetters,
}

impl EpochSource {
    pub(super) fn batches(&self) -> Result<Batches> {
        let letters = self.letters.batches();
        let Some(name) = &self.outbox else { return Ok(letters) };
        let outbox = read_outbox(self.place.local().open_part(self.epoch, name)?, name)?;
        Ok(Box::new(outbox.chain(letters)))
    }
}

/// The rows of an epoch that a target could not hold when the epoch was committed.
#[derive(Clone, Debug)]
pub struct RejectedByCommit {
    /// When and where the commit was tried first.
    pub attempt: FirstAttempt,
    /// The numbers and faults of the rows, in their order in the epoch.
    pub faults: Arc<[EpochFault]>,
    source: EpochSource,
}

/// A batch of an epoch, and the rows of it that a target could not hold.
struct FaultyBatch {
    batch: RecordBatch,
    rejected: Vec<Rejected>,
}

impl RejectedByCommit {
    pub(super) fn new(attempt: FirstAttempt, faults: EpochFaults, source: EpochSource) -> Self {
        Self { attempt, faults: faults.rows.into(), source }
    }

    /// Calls `take` with each row, its batch and its fault.
    pub fn each(&self, mut take: impl FnMut(&RecordBatch, usize, &Fault) -> Result<()>) -> Result<()> {
        for faulty in self.batches()? {
            let FaultyBatch { batch, rejected } = faulty?;
            rejected.iter().try_for_each(|Rejected { row, fault }| take(&batch, *row, fault))?;
        }
        Ok(())
    }

    fn batches(&self) -> Result<impl Iterator<Item = Result<FaultyBatch>> + use<>> {
        let (faults, mut next, mut before) = (self.faults.clone(), 0, 0);
        Ok(self.source.batches()?.map(move |batch| {
            let batch = batch?;
            let first = before;
            before += batch.num_rows();
            let of_batch = faults[next..].iter().take_while(|fault| fault.row < before);
            let rejected: Vec<Rejected> = of_batch
                .map(|fault| Rejected { row: fault.row - first, fault: Fault::new(fault.error_type, &*fault.message) })
                .collect();
            next += rejected.len();
            Ok(FaultyBatch { batch, rejected })
        }))
    }
}

/// The dead letters of rows that outputs could not hold at a commit. A repeated commit makes the same letters.
#[derive(Clone, Debug, Default)]
pub struct RejectedLetters {
    /// The tool that writes them.
    tool: String,
    rejected: Vec<RejectedByCommit>,
}

impl RejectedLetters {
    /// Makes the letters of `rejected`, without reading the rows yet.
    pub fn new(tool: &str, rejected: Vec<RejectedByCommit>) -> Self {
        Self { tool: tool.to_owned(), rejected }
    }

    /// Returns their number.
    pub fn len(&self) -> usize {
        self.rejected.iter().map(|rejected| rejected.faults.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the rows and makes their letters, batch by batch.
    fn batches(&self) -> Batches {
        let Self { tool, rejected } = self.clone();
        let letters = move |rejected| LetterBatches::open(&tool, &rejected).map(|letters| Box::new(letters) as Batches);
        Box::new(rejected.into_iter().flat_map(move |rejected| or_error(letters(rejected))))
    }
}

/// The letters of the rows that one output could not hold.
struct LetterBatches<B> {
    batches: B,
    builder: letters::Builder,
    failed_at: i64,
    ready: VecDeque<RecordBatch>,
}

impl LetterBatches<()> {
    fn open(
        tool: &str,
        rejected: &RejectedByCommit,
    ) -> Result<LetterBatches<impl Iterator<Item = Result<FaultyBatch>> + use<>>> {
        let FirstAttempt { failed_at, host } = &rejected.attempt;
        let builder = letters::Builder::new(tool, host);
        Ok(LetterBatches { batches: rejected.batches()?, builder, failed_at: *failed_at, ready: VecDeque::new() })
    }
}

impl<B> LetterBatches<B> {
    /// Adds the letter of a row. A row that is a dead letter itself becomes a batch of one letter.
    fn add(&mut self, batch: &RecordBatch, row: usize, fault: &Fault) -> Result<()> {
        if Kind::of(batch.schema_ref()) == Some(Kind::Dead) {
            self.ready.push_back(self.builder.failed_again(batch, row, fault, self.failed_at)?);
            return Ok(());
        }
        if self.builder.len() >= LETTERS_MAX || self.builder.bytes() >= LETTER_BYTES_MAX {
            self.ready.push_back(self.builder.finish()?);
        }
        with_letter(batch, row, fault, None, |letter, _| self.builder.push(letter, self.failed_at))
    }
}

impl<B: Iterator<Item = Result<FaultyBatch>>> Iterator for LetterBatches<B> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some(letters) = self.ready.pop_front() {
                return Some(Ok(letters));
            }
            let Some(faulty) = self.batches.next() else {
                return (!self.builder.is_empty()).then(|| self.builder.finish());
            };
            let added = faulty.and_then(|FaultyBatch { batch, rejected }| {
                rejected.iter().try_for_each(|Rejected { row, fault }| self.add(&batch, *row, fault))
            });
            if let Err(error) = added {
                return Some(Err(error));
            }
        }
    }
}
