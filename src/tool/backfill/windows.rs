//! The correction of windows: computes the windows of a range again, compares them with the rows of a store, and writes the
//! differences.

use super::BothArgs;
use crate::cli::check::CheckReport;
use crate::error::{Error, Result};
use crate::run::Run;
use std::rc::Rc;

/// Flags of the correction of windows.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Correction")]
pub(super) struct WindowsArgs {
    /// Read the metrics to compute from FILE (evt-metrics(5))
    #[arg(short, long, value_name = "FILE")]
    pub metrics: Option<String>,
}

/// Corrects the windows; returns the exit status.
pub(super) fn run(args: WindowsArgs, _both: BothArgs, _run: &Rc<Run>) -> Result<u8> {
    match args.metrics {
        None => Err(Error::usage("--metrics FILE is required")),
        Some(path) => Err(Error::usage(format!("{path}: the correction of windows is not supported yet"))),
    }
}

/// `--check`: adds the faults of the flags to `findings`.
pub(super) fn check(args: WindowsArgs, both: BothArgs, run: &Rc<Run>, findings: &mut CheckReport) {
    findings.take(self::run(args, both, run));
}
