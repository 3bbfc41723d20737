//! The HTTP server of events: receives, validates and stores them, and only then acknowledges them.
//!
//! The server runs on its own threads. It passes requests to a [`RequestLog`], which stores them. The stage loop reads
//! the stored requests and calls [`Server::drain_beside`] after a signal. The bytes of all bodies in progress and the
//! records of a request are limited.
//!
//! ```text
//! server: connection → limits → route ─► events: token → body → split → rate → validate → log → answer
//! ```
//!
//! - [`address`] parses its URI.
//! - [`server`] is the server without events: connections, TLS, tokens, routes.
//! - `events` is `POST /v1/events`, and decides by `content-type` how a body is split: `body` reads and decompresses,
//!   `cloud` converts CloudEvents; `state` is what its requests share.
//! - [`validate`] cuts the body into records and validates them; `registry_requests` asks a schema registry.
//! - [`form`] reads the parameters of the requests of other tools.
//! - `answer` is the answer to a stored request.
#![deny(missing_docs)]

pub mod address;
mod answer;
mod body;
mod cloud;
mod events;
pub mod form;
mod registry_requests;
pub mod server;
mod state;
pub mod validate;

pub use body::BodyLimits;
pub use state::{Intake, IntakeOptions, Options};

use self::server::Server;
use evt_core::error::Result;
use evt_run::run::Run;
use evt_run::spool::request::RequestLog;
use std::sync::Arc;

/// Starts a server that passes events on to `log`. Errors: those of [`Server::open`], and faults of the schemas.
pub fn open(options: Options, log: Arc<dyn RequestLog>, run: &Run) -> Result<Server<Intake>> {
    let Options { server, events } = options;
    Server::open(server, run, |registry| Intake::new(events, log, &run.clock, registry))
}
