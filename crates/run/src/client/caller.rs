//! The run that a client works for.

use crate::clock::Clock;
use crate::console::{Colour, Console};
use crate::stop::Stop;
use std::fmt;

/// What clients of servers and the URIs that name these servers have of their run. Clones share it.
#[derive(Clone)]
pub struct Caller {
    /// Reports outages, and has the secrets that output hides.
    pub console: Console,
    /// Ends waits.
    pub stop: Stop,
}

/// A caller that nothing stops and that knows no secrets, for tests and library callers.
impl Default for Caller {
    fn default() -> Self {
        Self { console: Console::new("evt", Colour::Off), stop: Stop::never(&Clock::default()) }
    }
}

/// Writes no secrets.
impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.console.tool())
    }
}
