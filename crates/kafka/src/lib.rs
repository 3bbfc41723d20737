//! Kafka: topics as input and as output.
//!
//! ```text
//! brokers ─► fetch, or librdkafka's own fetching ─► input ─► records ─► emitter ─► rows
//! rows ─► produce ─► librdkafka's queue ─► brokers
//! ```
//!
//! Both directions share these files:
//! - [`address`] parses URIs.
//! - [`client`] makes clients of librdkafka, stores the events that their callbacks report, and retries requests until
//!   brokers answer.
//! - [`health`] tracks whether the brokers of one client are reachable.
//! - [`letter`] and [`framing`] map dead letters and frames to messages and back.
//!
//! Input:
//! - [`input`] is the input itself: it opens topics and reads them step by step.
//! - [`source`] has the two traits that it reads through; [`library`] implements them by librdkafka, [`fetch`] fetches
//!   records without it. `conformance` tests both.
//! - [`range`] decides where each partition begins and ends; [`position`] has the computations of it that need no
//!   broker; [`topic_check`] notices topics that are deleted and created again.
//! - [`group`] commits offsets and keeps revoked partitions until their rows are safe.
//! - [`records`] decodes each payload by its format and passes it to the emitter.
//!
//! Failures: while no broker responds, input and output wait (`wait=`) and report the outage once. A committed offset
//! that no longer exists ends the run, or is reported with `on_gap=continue`. A record that cannot be decoded becomes a
//! dead letter, and so does a row that the topic cannot hold. Offsets are committed only after the outputs have made
//! the rows before them safe.
//!
//! Output: [`produce`]. librdkafka's callbacks only record events
//! ([`client::Context`]); the thread of the run handles them later.
#![deny(missing_docs)]

pub mod address;
pub mod client;
#[cfg(test)]
mod conformance;
pub mod fetch;
pub mod framing;
pub mod group;
pub mod health;
#[cfg(test)]
#[path = "../../../tests/support/in_ci.rs"]
mod in_ci;
pub mod input;
pub mod letter;
pub mod library;
pub mod position;
pub mod produce;
pub mod range;
pub mod records;
pub mod source;
#[cfg(test)]
mod test_data;
#[cfg(test)]
#[path = "../../../tests/support/gzip.rs"]
mod test_gzip;
pub mod topic_check;
