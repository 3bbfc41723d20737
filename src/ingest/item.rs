//! What inputs hand to a stage.

use super::Dead;
use crate::frame::{Control, End};
use arrow::array::RecordBatch;

/// What a source gives to a stage.
#[derive(Debug)]
pub enum Item {
    /// Rows of the source's kind.
    Batch(RecordBatch),
    /// Records that could not become rows.
    Dead(Dead),
    /// A control message, never an end.
    Control(Control),
    /// Nothing has come for a while.
    Idle,
    /// The proven end; nothing follows.
    End(End),
}

/// An item, and the number of the input argument that it came from.
#[derive(Debug)]
pub struct Sent {
    /// The input's number, from 0.
    pub input: u32,
    /// What came.
    pub item: Item,
}

/// How many bytes of an input have been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteProgress {
    /// Bytes read, as they are stored: compressed ones count as such.
    pub done: u64,
    /// The size of the input; `None` if it is not known.
    pub total: Option<u64>,
}
