//! Delivers the outbox: one thread per channel, each on a connection of its own.

use crate::clock::Clock;
use crate::console::Console;
use crate::error::Result;
use crate::notify::channels::Channels;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The outcomes of a channel's notifications since the sender started: the sum of all but `retries` leaves the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCounts {
    /// Notifications that the receiver accepted.
    pub sent: u64,
    /// Those that it refused for good.
    pub refused: u64,
    /// Those that were retried for as long as the channel allows.
    pub expired: u64,
    /// Resolves whose firing never arrived.
    pub skipped: u64,
    /// Attempts that failed and are, or were, repeated.
    pub retries: u64,
    /// Notifications that are still due in the outbox.
    pub due: u64,
}
