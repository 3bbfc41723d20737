//! The acknowledgement policy: when the server acknowledges a request, and what that requires of the outputs.

use super::dedup::DedupLimits;
use super::dir::SpoolLimits;
use evt_core::error::{Error, Result};
use std::path::PathBuf;

/// When requests are acknowledged without a spool (`--ack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// When the outputs have stored their records.
    Output,
    /// When they are in the memory of this process. A crash loses them.
    Memory,
}

/// The flags that choose an acknowledgement policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckFlags {
    /// `--spool`.
    pub spool: Option<PathBuf>,
    /// `--spool-max`, in bytes.
    pub spool_max: Option<u64>,
    /// `--dedup` (µs).
    pub dedup: Option<i64>,
    /// `--ack`.
    pub ack: Option<Ack>,
}

/// The place that must hold a request before the server acknowledges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckPolicy {
    /// The spool, on disk.
    Spool {
        /// The directory.
        dir: PathBuf,
        /// Its limits.
        limits: SpoolLimits,
    },
    /// The outputs.
    Output,
    /// The memory of this process.
    Memory,
}

/// Maximum size of a spool without `--spool-max`.
pub const SPOOL_MAX: u64 = 4 << 30;
/// The advice in errors about outputs that cannot acknowledge rows.
const ADVICE: &str =
    "write to Kafka, to a file of JSON lines or CSV, or to a database, or use --ack memory (a crash then loses events)";

impl AckFlags {
    /// Whether any flag was given.
    pub fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// Returns the policy of the flags. `pipe` names an output, if there is one, that cannot acknowledge its rows.
    /// Errors: exit status 2 if flags and outputs contradict each other.
    pub fn policy(&self, pipe: Option<&str>) -> Result<AckPolicy> {
        let wrong = match (&self.spool, self.ack, pipe) {
            (None, ..) if self.spool_max.is_some() => "--spool-max requires --spool DIR".to_owned(),
            (None, ..) if self.dedup.is_some() => "--dedup requires --spool DIR".to_owned(),
            (None, Some(Ack::Memory), _) => return Ok(AckPolicy::Memory),
            (None, _, None) => return Ok(AckPolicy::Output),
            (None, Some(Ack::Output), Some(pipe)) => format!("--ack output: {pipe} cannot acknowledge rows; {ADVICE}"),
            (None, None, Some(pipe)) => {
                format!("{pipe} cannot acknowledge rows, so no event could be acknowledged; {ADVICE}")
            }
            (Some(_), Some(_), _) => "--ack cannot be used with --spool, which acknowledges events on disk".to_owned(),
            (Some(_), None, Some(pipe)) => format!(
                "--spool: {pipe} cannot acknowledge rows, so the spool could never be emptied; write to Kafka, to a \
                 file of JSON lines or CSV, or to a database"
            ),
            (Some(dir), None, None) => {
                let dedup = self.dedup.map(DedupLimits::of_window);
                let limits = SpoolLimits { bytes: self.spool_max.unwrap_or(SPOOL_MAX), dedup };
                return Ok(AckPolicy::Spool { dir: dir.clone(), limits });
            }
        };
        Err(Error::usage(wrong))
    }
}
