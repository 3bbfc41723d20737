//! The result of polling a source: an item, or the time until the next poll.

use evt_run::emit::QueuedItem;
use std::time::Duration;

/// The result of polling a source.
pub enum Polled {
    /// An item, and the number of the input argument that it came from.
    Item(QueuedItem),
    /// No item yet; poll again at once.
    Progress,
    /// Nothing can be read now. Wait for input, and poll again after this time at the latest.
    Waiting(Duration),
}
