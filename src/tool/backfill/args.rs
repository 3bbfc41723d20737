//! Flags of both modes.

use crate::cli::args::{StageArgs, parse_positive};
use crate::tool::validation::SchemaArgs;

/// Flags of both modes.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct BothArgs {
    /// Show what would change and write nothing; exit status 1 if anything would
    #[arg(long, help_heading = "Correction")]
    pub dry_run: bool,
    /// Read at most N events (--dead: letters) per second
    #[arg(long, value_name = "N", help_heading = "Input", value_parser = parse_positive::<u64>)]
    pub rate: Option<u64>,
    #[command(flatten)]
    pub schema: SchemaArgs,
    #[command(flatten)]
    pub stage: StageArgs,
}
