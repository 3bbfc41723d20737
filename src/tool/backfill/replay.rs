//! `--dead`: repairs dead letters, validates them again and replays them.

use super::args::BothArgs;
use crate::cli::check::CheckReport;
use crate::error::{Error, Result};
use crate::run::Run;
use std::ffi::OsString;
use std::rc::Rc;

/// Flags of the replay of dead letters.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Replay")]
pub(super) struct ReplayArgs {
    /// Replay the dead letters of URI instead of correcting windows
    #[arg(long, value_name = "URI")]
    pub dead: Option<OsString>,
}

/// Replays the letters; returns the exit status.
pub(super) fn run(_args: ReplayArgs, _both: BothArgs, _run: &Rc<Run>) -> Result<u8> {
    Err(Error::usage("--dead is not supported yet"))
}

/// `--check`: adds the faults of the flags to `findings`.
pub(super) fn check(args: ReplayArgs, both: BothArgs, run: &Rc<Run>, findings: &mut CheckReport) {
    findings.take(self::run(args, both, run));
}
