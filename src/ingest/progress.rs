//! When a run tells how far it is and which partitions there are.

use super::ByteProgress;
use crate::frame::Progress;
use crate::mapping::Stamper;

/// How many bytes of input lie between two progress messages at most.
const PROGRESS_BYTES: u64 = 16 << 20;
/// How many progress messages an input of known size gets at least.
const PROGRESS_STEPS: u64 = 64;

/// What the inputs of a run that were not read yet may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Whether inputs follow that were not opened yet.
    pub pending: bool,
    /// Whether every partition there will be is known, as far as raw inputs can tell.
    pub complete: bool,
}

/// The progress that was reported last.
pub(super) struct Reported {
    pub(super) rest: Rest,
    bytes: ByteProgress,
}

impl Reported {
    pub(super) fn new() -> Self {
        Self { rest: Rest { pending: true, complete: false }, bytes: ByteProgress::default() }
    }

    /// Whether a progress message is due: partitions are new, or many bytes have been read since the last one.
    pub(super) fn is_due(&self, bytes: ByteProgress, has_news: bool) -> bool {
        let step = bytes.total.map_or(PROGRESS_BYTES, |total| PROGRESS_BYTES.min(total / PROGRESS_STEPS).max(1));
        has_news || bytes.done < self.bytes.done || bytes.done.saturating_sub(self.bytes.done) >= step
    }

    /// Sets how many bytes of the present input have been read.
    pub(super) fn set_bytes(&mut self, bytes: ByteProgress) {
        self.bytes = bytes;
    }

    /// Returns a progress message with the partitions that are new or have ended.
    pub(super) fn message(&self, stamper: &mut Stamper, complete: bool) -> Progress {
        let ByteProgress { done, total } = self.bytes;
        Progress { partitions: stamper.news(), complete, bytes_done: done, bytes_total: total }
    }
}
