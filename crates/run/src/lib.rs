//! What every run of evt needs, whatever it reads and writes: clock, console, stop signal, disk, objects, spool and
//! checkpoint; and the inputs that need no server, with the emitter into which all inputs put their records.
//!
//! Imports point down: [`input`] → [`emit`], [`spool`] → [`checkpoint`] → [`run`] → [`ahead`], [`bucket`], [`client`],
//! [`clock`], [`console`], [`metrics`], [`registry`], [`secret`], [`service`], [`stop`], [`storage`], [`task_pool`],
//! [`thread`].
#![deny(missing_docs)]

mod ahead;
pub mod bucket;
pub mod checkpoint;
pub mod client;
pub mod clock;
pub mod console;
pub mod emit;
pub mod input;
pub mod metrics;
pub mod registry;
pub mod run;
pub mod secret;
pub mod service;
pub mod spool;
pub mod stop;
pub mod storage;
pub mod task_pool;
#[cfg(test)]
#[path = "../../../tests/support/cases.rs"]
mod test_cases;
#[cfg(test)]
#[path = "../../../tests/support/events.rs"]
mod test_events;
#[cfg(test)]
#[path = "../../../tests/support/gzip.rs"]
mod test_gzip;
pub mod thread;
