//! Partitions: `index.rs` numbers them, `table.rs` has their stream times, with which rows are stamped.

mod index;
mod table;

pub(super) use index::{NAMED, PartitionIndex};
pub(super) use table::UNSTAMPED;
pub use table::{PartitionStreamTime, PartitionTable};
