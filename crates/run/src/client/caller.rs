//! The run that a client works for.

use crate::clock::Clock;
use crate::console::{Colour, Console};
use crate::stop::Stop;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The catalogs of tables that a `--config` file has: its sections `[catalog.NAME]`, as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogSections {
    /// The file; empty if none was given.
    pub path: String,
    /// The keys and values of each catalog.
    pub sections: BTreeMap<String, BTreeMap<String, String>>,
}

/// What clients of servers and the URIs that name these servers have of their run. Clones share it.
#[derive(Clone)]
pub struct Caller {
    /// Reports outages, and has the secrets that output hides.
    pub console: Console,
    /// Ends waits.
    pub stop: Stop,
    /// Catalogs that its URIs may name.
    pub catalogs: Arc<CatalogSections>,
}

/// A caller that nothing stops and that knows no secrets, for tests and library callers.
impl Default for Caller {
    fn default() -> Self {
        let (console, stop) = (Console::new("evt", Colour::Off), Stop::never(&Clock::default()));
        Self { console, stop, catalogs: Arc::default() }
    }
}

/// Writes no secrets.
impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.console.tool())
    }
}
