//! What the clients of all servers share: PostgreSQL, Redis, buckets, registries, receivers of notifications, Kafka.
//!
//! - [`outage`]: how long a run waits for a server that is unavailable, retries and their messages.
//! - [`tls`]: trusted certificates.
//! - [`https`]: requests over HTTP that end with the run.

pub mod https;
pub mod outage;
pub mod tls;
