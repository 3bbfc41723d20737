//! The address in the URI of a Redis store.

use crate::redis::key::RedisKeys;
use crate::redis::wire::RedisServer;
use evt_core::error::{Error, Result};
use evt_core::time::{HOUR, MILLISECOND, parse_duration};
use evt_run::client::Location;

/// The options of its URIs.
pub const OPTIONS: [&str; 8] = ["ttl", "prefix", "visible", "ca", "connect", "timeout", "retry", "table"];
/// Time to live of a row without `?ttl=`.
const TTL: i64 = 48 * HOUR;

/// A server, and the keys used there.
pub struct RedisAddress {
    /// The server and its connection settings.
    pub server: RedisServer,
    /// The names of the keys.
    pub keys: RedisKeys,
    /// Time to live of a row (ms).
    pub ttl: i64,
}

impl RedisAddress {
    /// Parses a location. Errors: exit status 2.
    pub fn try_new(location: &Location) -> Result<Self> {
        location.check_options(&location.scheme, &OPTIONS)?;
        let ttl = location.option("ttl").map_or(Ok(TTL), parse_duration)? / MILLISECOND;
        if ttl <= 0 {
            return Err(Error::usage(format!("{location}: ttl: expected a duration longer than 0")));
        }
        let prefix = location.options.get("prefix").cloned().unwrap_or_default();
        if prefix.contains(['{', '}']) {
            let message = format!("{location}: prefix: expected no braces; they would be the hash tag of every key");
            return Err(Error::usage(message));
        }
        Ok(Self { server: RedisServer::try_new(location)?, keys: RedisKeys { prefix }, ttl })
    }
}
