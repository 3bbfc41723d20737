//! Limits, metrics and repeated notices of connections.
//!
//! ```text
//! TCP or TLS stream ─► timeouts: limits idle connections, slow requests and clients that do not read ─► hyper
//!                         │ timed out or refused
//!                         ├─► metrics: open connections, requests by status, refused connections by reason
//!                         └─► notice: one line on stderr, then none of this reason for a while
//! ```
//!
//! [`timeouts`] limits the times of a connection, [`chunks`] finds chunks that are too large before they arrive,
//! [`descriptors`] limits the number of connections, [`silent`] closes silent ones where they make room, [`metrics`]
//! counts connections, requests and events, and [`notice`] limits how often the same message is written.

pub mod chunks;
pub mod descriptors;
pub mod metrics;
pub mod notice;
pub mod silent;
pub mod timeouts;
