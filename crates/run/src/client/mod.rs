//! What the clients of all servers share: PostgreSQL, Redis, buckets, registries, receivers of notifications, Kafka.
//!
//! - `caller`: the run that a client works for. `location`: the address of a server or a file in a URI.
//! - [`outage`]: how long a run waits for a server that is unavailable, retries and their messages.
//! - [`tls`]: trusted certificates.
//! - [`https`]: requests over HTTP that end with the run.

mod caller;
pub mod https;
mod location;
pub mod outage;
pub mod tls;

pub use caller::{Caller, CatalogSections};
pub use location::Location;
