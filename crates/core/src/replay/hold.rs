//! Letters that wait until every assignment of the patch has had a value: a replay with a wrong name in the patch must
//! not be recorded in the ledger. Beyond the limits of what can wait, each batch is examined before it is replayed.

use super::repair::{LetterRows, Repair};
use crate::counts::counted;
use crate::error::{Error, ErrorKind, Result};
use arrow::array::RecordBatch;

/// Maximum number of letters that wait, and maximum of their bytes.
const LETTERS_MAX: usize = 10_000;
const BYTES_MAX: usize = 64 << 20;

/// The first letters, until every assignment of the patch has had a value.
#[derive(Debug, Default)]
pub struct HeldLetters {
    batches: Vec<RecordBatch>,
    bytes: usize,
    /// The number of letters that [`HeldLetters::release`] has returned.
    replayed: usize,
    is_released: bool,
}

impl HeldLetters {
    /// Takes a batch of letters that are due; returns the batches that wait no longer, in their order. Errors: exit
    /// status 1 if the patch loses a value.
    pub fn push(&mut self, batch: RecordBatch, repair: &mut Repair) -> Result<Vec<RecordBatch>> {
        if self.is_released && !repair.may_lose() {
            return Ok(vec![batch]);
        }
        repair.examine(&LetterRows::new(&batch))?;
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        match !self.is_released && repair.may_lose() && self.waiting() < LETTERS_MAX && self.bytes < BYTES_MAX {
            true => Ok(vec![]),
            false => self.release(repair),
        }
    }

    /// Returns all batches that wait. Errors: as for [`HeldLetters::push`].
    pub fn release(&mut self, repair: &Repair) -> Result<Vec<RecordBatch>> {
        if let Some(why) = repair.loss() {
            let replayed = match self.is_released {
                true => format!(
                    "{} before them",
                    counted(self.replayed as u64, ["letter was replayed", "letters were replayed"])
                ),
                false => "nothing was replayed".to_owned(),
            };
            return Err(Error::new(ErrorKind::Verdict, format!("{why}; {replayed}")));
        }
        self.is_released = true;
        self.replayed += self.waiting();
        Ok(std::mem::take(&mut self.batches))
    }

    fn waiting(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}
