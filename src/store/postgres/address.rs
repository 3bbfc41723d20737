//! What a URI of a Postgres store says.

use crate::error::{Error, Result};
use crate::store::location::Location;
use crate::store::postgres::link::Server;
use crate::store::remote::Trouble;

/// The options that its URIs take.
pub const OPTIONS: [&str; 7] = ["table", "schema", "sslmode", "sslrootcert", "connect", "timeout", "retry"];

/// A server, and how it is shown.
pub struct PostgresAddress {
    /// The server, and how it is reached.
    pub server: Server,
    /// The URI without secrets.
    pub shown: String,
}

impl PostgresAddress {
    /// What a URI says.
    pub fn try_new(location: &Location) -> Result<Self> {
        location.check_options(&location.scheme, &OPTIONS)?;
        Ok(Self { server: Server::try_new(location)?, shown: location.to_string() })
    }

    /// The error of one attempt.
    pub fn failed(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Lasting(error) => error.at(self.shown.clone()),
            passing @ Trouble::Passing(_) => passing.into_error(&self.shown),
        }
    }
}
