//! The front door: events over HTTP/1.1, judged, kept, and only then acknowledged.
//!
//! It lives in threads of its own and knows two neighbours: a [`Keeper`](crate::spool::request::Keeper) that makes requests safe, and the stage loop,
//! which reads what was kept and asks it to [`Server::drain`] when a signal has come. Everything is bounded:
//! connections, bytes of bodies under way over all of them, records of a request, heads, and the time for each.
//!
//! ```text
//! connection → watch (time) → service (path, names) → events: token → body → cut → rate → edge → keeper → answer
//! ```

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

pub use body::Limits;
pub use limits::watch::Patience;
pub use listener::{Server, check_address};
pub use state::Options;
pub use tls::Tls;
