//! The HTTP server ("front door" in the manuals): takes events over HTTP/1.1, validates and keeps them, and only then
//! acknowledges them.
//!
//! It runs on threads of its own and talks to two neighbours: a [`Keeper`](crate::spool::request::Keeper) that keeps requests,
//! and the stage loop, which reads the kept requests and calls [`Server::drain`] after a signal. Everything is bounded:
//! connections, the bytes of all bodies in progress, the records of a request, heads, and the time of each.
//!
//! ```text
//! connection → watch (time limits) → service (path, trace ids) → events: token → body → cut → rate → edge → keeper → answer
//! ```
//!
//! - `listener` accepts connections; `tls` is its certificate; `limits` holds time limits, metrics and repeated notices.
//! - `service` routes one request; `trace` holds its ids; `state` is what all requests share.
//! - `events` is `POST /v1/events`: `token` authorizes, `body` reads and decompresses, `cloud` converts CloudEvents.
//! - [`edge`] splits the body and validates its records; `asking` queries a schema registry for it.
//! - `answer` builds the response.

mod answer;
mod asking;
mod body;
mod cloud;
pub mod edge;
mod events;
pub mod limits;
mod listener;
mod service;
mod state;
mod tls;
mod token;
mod trace;

pub use body::BodyLimits;
pub use limits::watch::Patience;
pub use listener::{Server, check_address};
pub use state::Options;
pub use tls::Tls;
