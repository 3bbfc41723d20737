//! Flags for when a request is acknowledged and where it is stored until then.

use clap::{Args, ValueEnum};
use evt_core::parse::size;
use evt_core::time::parse_duration;
use evt_run::spool::ack::{Ack, AckFlags};
use std::path::PathBuf;

/// `--ack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AckArg {
    /// When the outputs have stored it
    Output,
    /// When it is in memory; a crash loses it
    Memory,
}

/// The flags that set where requests are stored until the outputs have their events, and when they are acknowledged.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Acknowledgement")]
pub struct AckArgs {
    /// Store requests in DIR and acknowledge them once they are on disk
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Limit the size of the spool [default: 4GiB]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    spool_max: Option<u64>,
    /// Treat an event whose event_id arrives again within this time as a duplicate
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    dedup: Option<i64>,
    /// Choose when to acknowledge events without a spool [default: output]
    #[arg(long, value_name = "WHEN")]
    ack: Option<AckArg>,
}

impl AckArgs {
    /// Returns the flags for the source.
    pub fn flags(&self) -> AckFlags {
        let ack = self.ack.map(|ack| match ack {
            AckArg::Output => Ack::Output,
            AckArg::Memory => Ack::Memory,
        });
        AckFlags { spool: self.spool.clone(), spool_max: self.spool_max, dedup: self.dedup, ack }
    }
}
