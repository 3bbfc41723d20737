//! The replay of dead letters: which are due, how they are repaired, and the records that replace them.
//!
//! ```text
//! letters ─► Ledger::settled ─► Patch ─► Repair (the mapping) ─► schemas ─► Ledger::claim ─► target ─► Ledger::close
//! ```
//!
//! - `patch.rs`: `--patch`, assignments to the fields of records; `hold.rs`: letters that wait until it has shown that
//!   it loses no value.
//! - `repair.rs`: letters to events with the ids and times that their records had.
//! - `record.rs`: the columns of a replayed record.
//! - `ledger.rs`: the interface of the ledger, which knows the letters that were replayed.

pub mod hold;
pub mod ledger;
pub mod patch;
pub mod record;
pub mod repair;
