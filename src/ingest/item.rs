//! The items that a source gives to a stage: batches, dead letters, control messages, idle, end.

use super::Dead;
use crate::frame::{Control, End};
use arrow::array::RecordBatch;

/// An item of a source.
#[derive(Debug)]
pub enum Item {
    /// Rows of the source's kind.
    Batch(RecordBatch),
    /// Records that could not become rows.
    Dead(Dead),
    /// A control message other than an end.
    Control(Control),
    /// No input has had a record for some time, or a commit of the items before this one is due.
    Idle,
    /// The end of all inputs; nothing follows.
    End(End),
}

/// An item, and the number of the input argument that it came from.
#[derive(Debug)]
pub struct QueuedItem {
    /// The input's number, from 0.
    pub input: u32,
    /// The item.
    pub item: Item,
}

/// How many bytes of an input have been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteProgress {
    /// Bytes read from the file or pipe, before decompression.
    pub done: u64,
    /// The size of the input before decompression; `None` if it is not known.
    pub total: Option<u64>,
}
