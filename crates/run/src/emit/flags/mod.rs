//! Checks the mapping flags against the records: `first_times.rs` finds that a flag is missing, `unused.rs` that a flag
//! has no effect, because rows have stamps. `usual_time.rs` finds the time of files whose field no flag names.

mod first_times;
mod unused;
pub(super) mod usual_time;

use evt_core::mapping;
use first_times::FirstTimes;
use unused::UnusedFlags;

/// The checks of the mapping flags of a run.
pub(super) struct FlagChecks {
    /// Whether a record of a file had a readable time.
    pub(super) first_times: FirstTimes,
    pub(super) unused: UnusedFlags,
    /// Whether the first record may show which field is its time.
    pub(super) seeks_time: bool,
}

impl FlagChecks {
    /// Whether the next record is looked at alone.
    pub(super) fn are_looking(&self) -> bool {
        self.seeks_time || self.first_times.is_looking()
    }

    pub(super) fn new(options: &mapping::Options) -> Self {
        Self { first_times: FirstTimes::new(options), unused: UnusedFlags::new(options), seeks_time: false }
    }
}
