//! The contract of stores whose tables need upkeep: files of snapshots that nobody reads, and small files.

use evt_core::error::Result;
use evt_core::parallel::Parallelism;
use evt_run::client::Location;
use evt_run::storage::disk::Disk;
use serde::Serialize;
use std::collections::BTreeMap;

/// The functions for the upkeep of a store. Each is safe beside runs that write and correct, and may be killed.
#[derive(Clone, Copy)]
pub struct Upkeep {
    /// Describes its tables; changes nothing.
    pub describe: fn(&Location) -> Result<Vec<TableDescription>>,
    /// Removes old rows, old snapshots, and files that nothing names.
    pub expire: fn(&Location, &Expiry, &Keeper) -> Result<Vec<Expired>>,
    /// Joins small files of closed days.
    pub compact: fn(&Location, &Compaction, &Keeper) -> Result<Vec<Compacted>>,
}

/// The run that does it.
#[derive(Clone)]
pub struct Keeper {
    /// Only says what would be done.
    pub is_dry: bool,
    /// The time of its commits (µs).
    pub time: i64,
    /// The time from which ages are counted (µs).
    pub now: i64,
    /// The disk.
    pub disk: Disk,
    /// How files are encoded.
    pub parallelism: Parallelism,
}

/// What expires.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// The age from which snapshots go (µs), but for the present one.
    pub snapshots: i64,
    /// The age from which files go that nothing names (µs).
    pub orphans: i64,
    /// How long a day must have ended for its rows to go (µs); `None`: all stay.
    pub keep: Option<i64>,
}

/// What is compacted.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    /// How long a day must have ended (µs).
    pub closed_after: i64,
}

/// A table.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableDescription {
    /// Its name.
    pub table: String,
    /// The number of its rows.
    pub rows: u64,
    /// Of its files of rows.
    pub files: u64,
    /// Of those that compaction joins once their days are closed.
    pub small_files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of the days that have rows.
    pub days: u64,
    /// The first day.
    pub first_day: Option<String>,
    /// The last day.
    pub last_day: Option<String>,
    /// The number of snapshots that can be read.
    pub snapshots: u64,
    /// The time of the oldest one.
    pub oldest_snapshot: Option<String>,
    /// The last epoch by output.
    pub epochs: BTreeMap<String, String>,
    /// The instant since which it keeps its rows; `None` if none were removed for their age.
    pub kept_since: Option<String>,
    /// The bytes of the file that describes the table.
    pub metadata_bytes: u64,
}

/// What has expired of a table.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Expired {
    /// Its name.
    pub table: String,
    /// The number of days whose rows were removed.
    pub days: u64,
    /// Of these rows.
    pub rows: u64,
    /// Of snapshots.
    pub snapshots: u64,
    /// Of files that only they named.
    pub files: u64,
    /// Of other files that nothing names.
    pub orphans: u64,
    /// The bytes of all of them.
    pub bytes: u64,
}

/// What was compacted of a table.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Its name.
    pub table: String,
    /// The number of days.
    pub days: u64,
    /// Of files before.
    pub files_before: u64,
    /// Of files that took their place.
    pub files_after: u64,
    /// Of rows in them.
    pub rows: u64,
}
