//! Reads a source without a stage: for tools that compare rows or collect them.

use super::{Polled, Source};
use crate::emit::Item;
use crate::error::Result;

/// Returns the next item; `None` if the inputs have progressed without one. Waits if none has anything to read.
pub fn next_item(source: &mut Source) -> Result<Option<Item>> {
    loop {
        match source.poll()? {
            Polled::Item(sent) => return Ok(Some(sent.item)),
            Polled::Progress => return Ok(None),
            Polled::Waiting(timeout) => source.wait(timeout)?,
        }
    }
}
