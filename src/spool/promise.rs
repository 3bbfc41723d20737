//! What an acknowledgement promises, and what it requires of the outputs.

use super::shelf::Bounds;
use crate::error::{Error, Result};
use std::path::PathBuf;

/// The place that a request must have reached before it is acknowledged (`--ack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The outputs.
    Output,
    /// The memory of this process: a crash loses it.
    Memory,
}

/// The flags that choose a promise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// `--spool`.
    pub spool: Option<PathBuf>,
    /// `--spool-max`, in bytes.
    pub spool_max: Option<u64>,
    /// `--dedup` (µs).
    pub dedup: Option<i64>,
    /// `--ack`.
    pub ack: Option<Ack>,
}

/// The place that holds a request when it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The spool, on disk.
    Spool {
        /// The directory.
        dir: PathBuf,
        /// Its limits.
        bounds: Bounds,
    },
    /// The outputs.
    Output,
    /// The memory of this process.
    Memory,
}

/// Maximum size of a spool without `--spool-max`.
pub const SPOOL_MAX: u64 = 4 << 30;

impl Keeping {
    /// Whether any flag was given.
    pub fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// Returns the promise that the flags make. `pipe` names an output, if there is one, that cannot confirm its rows. Errors:
    /// exit status 2 if flags and outputs contradict each other.
    pub fn promise(&self, pipe: Option<&str>) -> Result<Promise> {
        let Self { spool, spool_max, dedup, ack } = self;
        let Some(dir) = spool else {
            return match (spool_max, dedup, ack, pipe) {
                (Some(_), ..) => Err(Error::usage("--spool-max requires --spool DIR")),
                (_, Some(_), ..) => Err(Error::usage("--dedup requires --spool DIR")),
                (_, _, Some(Ack::Memory), _) => Ok(Promise::Memory),
                (_, _, _, None) => Ok(Promise::Output),
                (_, _, Some(Ack::Output), Some(pipe)) => {
                    Err(Error::usage(format!("--ack output: {pipe} cannot acknowledge rows; {WAY_OUT}")))
                }
                (_, _, None, Some(pipe)) => Err(Error::usage(format!(
                    "{pipe} cannot acknowledge rows, so no event could be acknowledged; {WAY_OUT}"
                ))),
            };
        };
        match (ack, pipe) {
            (Some(_), _) => Err(Error::usage("--ack excludes --spool, which acknowledges events on disk")),
            (None, Some(pipe)) => Err(Error::usage(format!(
                "--spool: {pipe} cannot acknowledge rows, so the spool could never be emptied; write to Kafka, to a \
                 file of JSON lines or CSV, or to a database"
            ))),
            (None, None) => {
                let bounds = Bounds { bytes: spool_max.unwrap_or(SPOOL_MAX), dedup: *dedup };
                Ok(Promise::Spool { dir: dir.clone(), bounds })
            }
        }
    }
}

/// The advice in errors about outputs that cannot confirm rows.
const WAY_OUT: &str =
    "write to Kafka, to a file of JSON lines or CSV, or to a database, or use --ack memory (a crash then loses events)";
