//! The HTTP server: receives events over HTTP/1.1, validates and stores them, and only then acknowledges them.
//!
//! The server runs on its own threads. It passes requests to a [`RequestLog`](crate::spool::request::RequestLog), which
//! stores them. The stage loop reads the stored requests and calls [`Server::drain`] after a signal. The server limits
//! the number of connections, the bytes of all bodies in progress, the records of a request, the size of heads, and the
//! time for each of them.
//!
//! ```text
//! connection → timeouts → service (path, trace ids) → events: token → body → split → rate → validate → log → answer
//! ```
//!
//! - `listener` accepts connections; `tls` is its certificate; `limits` holds time limits, metrics and repeated
//!   notices.
//! - `service` routes one request; `trace` holds its ids; `state` is the state that all requests share.
//! - `events` is `POST /v1/events`: `token` authorizes, `body` reads and decompresses, `cloud` converts CloudEvents.
//! - [`validate`] splits the body and validates its records; `queries` sends queries to a schema registry.
//! - `answer` builds the response.

mod answer;
mod body;
mod cloud;
mod events;
pub mod limits;
mod listener;
mod queries;
mod service;
mod state;
mod tls;
mod token;
mod trace;
pub mod validate;

pub use body::BodyLimits;
pub use limits::timeouts::ConnectionTimeouts;
pub use listener::{Server, check_address};
pub use state::Options;
pub use tls::Tls;
