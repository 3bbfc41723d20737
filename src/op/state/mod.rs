//! State of windows that may exceed memory.
//!
//! ```text
//! rows ─► Shard (all keys of a group of metrics, in memory)          as long as the state is within the bound
//! rows ─► SpilledWindows (judges them) ─► pending ─► log in a file ┐
//!                                         saved Shards in files ───┴─► Shard of a range of keys ─► fires, is saved
//! ```
//!
//! A key belongs to a range of hashes. The state of a range is a [`shard::Shard`]: the same windows as in memory, for
//! fewer keys. So whatever windows can do in memory they do here too. Rows wait in a log until a window of theirs fires
//! or closes; then all ranges are read one after another.
//!
//! - `shard.rs`: the state of some keys, and how it fires. `spilled_windows.rs`: what is known of windows whose state
//!   is in files.
//! - `group.rs`: the state of a group of metrics, in memory or in files.
//! - `spilled.rs`: ranges, logs and saved shards. `rows.rs`: the rows of a log. `storage.rs`: the interface of the
//!   files.

pub(crate) mod group;
pub(crate) mod rows;
pub(crate) mod shard;
pub(crate) mod spilled;
pub(crate) mod spilled_windows;
pub mod storage;

/// The size of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Keys in memory, and keys in files when these were last read.
    pub keys: u64,
    /// Approximate bytes in memory.
    pub memory: u64,
    /// Bytes in files.
    pub disk: u64,
    /// Bytes written to files so far.
    pub written: u64,
}
