//! Stores: outside systems that a sink writes rows to and a view reads back: SQLite, PostgreSQL, Redis, and lakes of
//! Parquet files.
//!
//! ```text
//! rows ─► Sink::write ─► Sink::finish ─► SinkOutcome
//! rows of an epoch (evt_run::checkpoint) ─► Sink::commit
//! Store::rows ─► batches ─► view
//! ```
//!
//! All stores have one contract, made for exactly-once: [`Sink::commit`] applies the rows of an epoch and may be
//! repeated. Rows are guarded by their keys, so a replay converges in a run without a checkpoint, too. To add a store:
//! one module, one row in [`ALL`].
//!
//! - `sqlite`, `postgres`, `redis` and `lake` are the stores.
//! - `definition` is the row of a store in [`ALL`], `sink` the interface of an open output.
//! - [`rows`] prepares batches (columns, keys, days), [`cells`] and [`nested`] convert their values.
//! - [`correct`] is the interface of stores whose metrics are corrected.
//! - `sql` has what SQLite and PostgreSQL share: corrections, the ledger of replays, epochs.
//! - [`progress`] is how far metrics are, as stores keep it beside their rows.
//! - [`guard`] decides which metric row stays, [`repeat`] finds events stored with other content, `tally` counts the
//!   outcomes.
//! - Files are changed and synced through [`disk`](evt_run::storage::disk). Retries of servers are in
//!   [`outage`](evt_run::client::outage).
//! - [`serving`] is the interface of stores that evt-serve answers from.
//! - [`upkeep`] is the interface of stores with snapshots and small files.
//! - [`serving`] is the interface of stores whose metrics evt-serve answers with.
//! - `conformance` tests all stores with the rows of `sample`, `serving_conformance` what they answer with, and
//!   `ledger_conformance` the ledgers of replays.
#![deny(missing_docs)]

pub mod cells;
pub mod correct;
mod definition;
pub mod guard;
mod iceberg;
mod lake;
pub mod nested;
mod postgres;
pub mod progress;
mod redis;
pub mod repeat;
pub mod rows;
pub mod serving;
mod sink;
mod sql;
mod sqlite;
mod tally;
pub mod upkeep;

pub use definition::{
    CheckScope, CorrectionStore, LedgerStore, Medium, ReadRequest, RowsToWrite, Store, StoreReader, StreamExtent,
    Tables, Visibility, batches, or_error,
};
use evt_core::error::{Error, Result};
use evt_run::checkpoint::restore::KnownStore;
use evt_run::client::Location;
pub use sink::{Notice, OpenOptions, Sink, SinkOutcome};
use std::path::Path;

/// Returns the store with this scheme.
pub fn by_scheme(scheme: &str) -> Option<&'static Store> {
    ALL.iter().copied().find(|store| store.scheme == scheme || store.also.contains(&scheme))
}

/// Returns what a checkpoint needs to know of the store with this scheme.
pub fn known(scheme: &str) -> Option<KnownStore> {
    by_scheme(scheme).map(|store| KnownStore { waits: store.reader.waits })
}

/// Returns the store that the extension of a file names, if it names one.
pub fn by_extension(path: &Path) -> Option<&'static Store> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    ALL.iter().copied().find(|store| store.extensions.contains(&extension.as_str()))
}

/// Reads the rules of evt-alert from the table that `?table=` names; each row has a field for each column.
///
/// Errors: exit status 2 for a store without such tables, 69, 74, 75 or 78 if the table cannot be read.
pub fn rules(store: &Store, location: &Location) -> Result<Vec<serde_json::Map<String, serde_json::Value>>> {
    let read = store.rules.ok_or_else(|| {
        Error::usage(format!("{location}: expected rules in a file, sqlite: or postgres:, found {}", store.scheme))
    })?;
    read(location)
}

/// Returns the functions that open the ledger of replays at a location. Errors: exit status 2 for a store that holds no
/// ledger.
pub fn ledger(store: &Store, location: &Location) -> Result<LedgerStore> {
    store.ledger.ok_or_else(|| {
        Error::usage(format!("{location}: expected a ledger in sqlite:PATH or postgres://HOST/DATABASE"))
    })
}

/// Every store: a new one is a directory and a row here (CONTRIBUTING.md has all steps).
pub const ALL: &[&Store] = &[&sqlite::STORE, &postgres::STORE, &redis::STORE, &lake::STORE, &iceberg::STORE];

#[cfg(test)]
mod at_once_tests;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod hash_tests;
#[cfg(test)]
#[path = "../../../tests/support/in_ci.rs"]
mod in_ci;
#[cfg(test)]
mod ledger_conformance;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod serving_conformance;
#[cfg(test)]
mod unique_tests;
