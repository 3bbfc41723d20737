//! The address in the URI of a Postgres store.

use crate::error::{Error, Result};
use crate::store::location::Location;
use crate::store::postgres::link::PostgresServer;
use crate::store::remote::Trouble;

/// The options of its URIs.
pub const OPTIONS: [&str; 7] = ["table", "schema", "sslmode", "sslrootcert", "connect", "timeout", "retry"];

/// A server, and its URI for messages.
pub struct PostgresAddress {
    /// The server and its connection settings.
    pub server: PostgresServer,
    /// The URI without secrets.
    pub shown: String,
}

impl PostgresAddress {
    /// Parses a location.
    pub fn try_new(location: &Location) -> Result<Self> {
        location.check_options(&location.scheme, &OPTIONS)?;
        Ok(Self { server: PostgresServer::try_new(location)?, shown: location.to_string() })
    }

    /// Converts the failure of a single attempt.
    pub fn failed(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Lasting(error) => error.at(self.shown.clone()),
            passing @ Trouble::Passing(_) => passing.into_error(&self.shown),
        }
    }
}
