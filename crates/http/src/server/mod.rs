//! A server of HTTP/1.1: connections, TLS, tokens, limits, metrics, a graceful stop, and the routes of one tool.
//!
//! ```text
//! connection ─► limits ─► service: head, trace ids ─► route ─► Application ─► Reply ─► response
//! ```
//!
//! A tool implements [`Application`]: a table of routes, and the state that their requests share. Three routes that
//! most servers have are constants of [`Route`]. The server runs on its own threads, and limits the number of
//! connections, the size of heads, and the time of each step. [`Server::open`] is an input of a run, which signals
//! close; [`Server::start`] serves beside a run, as `--prometheus` does.
//!
//! - `listener.rs` accepts connections; `tls.rs` is its certificate; `limits/` holds limits of number and time, metrics
//!   and repeated notices.
//! - `application.rs` is what a tool implements; `state.rs` is what all requests share: options, tokens, certificate,
//!   metrics.
//! - `service.rs` routes one request; `trace.rs` holds its ids; `token.rs` authorizes it; `reply.rs` is its response.

mod application;
pub mod limits;
mod listener;
mod reply;
mod service;
mod state;
mod tls;
pub mod token;
pub mod trace;

pub use application::{Application, Call, Route, Served};
pub use listener::{Server, check, check_address};
pub use reply::Reply;
pub use state::{Logged, ServerOptions, ServerState};
pub use tls::Tls;
