//! Flags for when a request is acknowledged and where it is stored until then.

use super::args::{duration, parse_room};
use crate::spool::promise::{Ack, Keeping};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// `--ack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AckArg {
    /// When the outputs have it
    Output,
    /// When it is in memory: a crash loses it
    Memory,
}

/// How requests are kept until the outputs have their events.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Keeping of requests")]
pub struct KeepArgs {
    /// Acknowledge events once they are on disk here
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// The most that the spool takes up, 4GiB by default
    #[arg(long, value_name = "SIZE", value_parser = parse_room)]
    spool_max: Option<u64>,
    /// Count an event that comes again within this as duplicate
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    dedup: Option<i64>,
    /// Without a spool: when events are acknowledged
    #[arg(long, value_name = "WHEN")]
    ack: Option<AckArg>,
}

impl KeepArgs {
    /// Returns the options of the source.
    pub fn keeping(&self) -> Keeping {
        let ack = self.ack.map(|ack| match ack {
            AckArg::Output => Ack::Output,
            AckArg::Memory => Ack::Memory,
        });
        Keeping { spool: self.spool.clone(), spool_max: self.spool_max, dedup: self.dedup, ack }
    }
}
