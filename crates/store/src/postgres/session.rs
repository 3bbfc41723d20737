//! A session with a server, over as many connections as it takes.

use crate::postgres::link::{Failure, Link, PostgresServer};
use crate::postgres::schema;
use evt_core::error::{ErrorKind, Result};
use evt_run::client::Location;
use evt_run::client::outage::{RetryError, RetryPolicy};
use evt_run::metrics::ServerStatus;

/// Maximum number of retries of a batch because another run wrote the same keys.
pub const RACES_MAX: u32 = 10;

/// A session.
pub struct PostgresSession {
    /// The server.
    pub server: PostgresServer,
    retries: RetryPolicy,
    migrates: bool,
    /// The open connection, if there is one.
    pub link: Option<Link>,
}

impl PostgresSession {
    /// Makes a session without a connection; `migrates` says whether it brings the tables of rows up to date.
    pub fn new(location: &Location, up: ServerStatus, migrates: bool) -> Result<Self> {
        let server = PostgresServer::try_new(location)?;
        Ok(Self { server, retries: location.retries()?.with_metrics(up), migrates, link: None })
    }

    /// Uses the limit for a server that has never answered.
    pub fn at_start(self) -> Self {
        Self { retries: self.retries.at_start(), ..self }
    }

    /// Runs `work` with a connection, and again with a new one if the connection is lost.
    pub fn with_link<T>(&mut self, mut work: impl FnMut(&Link) -> Result<T, RetryError>) -> Result<T> {
        let Self { server, retries, migrates, link } = self;
        let done = retries.run(|| {
            let open = match link.take() {
                Some(open) => open,
                None => {
                    let open = server.connect()?;
                    if *migrates {
                        schema::migrate(&open, server)?;
                    }
                    open
                }
            };
            let done = work(&open)?;
            *link = Some(open);
            Ok(done)
        });
        done.map_err(|error| if error.kind() == ErrorKind::Unavailable { error } else { error.at(&server.shown) })
    }
}

/// Runs `work` in a transaction, again after a conflict with another run's transaction.
pub fn persist<T>(link: &Link, work: impl Fn(&Link) -> Result<T, Failure>) -> Result<Result<T, String>, RetryError> {
    for _ in 0..RACES_MAX {
        match link.transact(&work) {
            Err(Failure::Raced(_) | Failure::Conflict(_)) => {}
            other => return split_failure(other),
        }
    }
    split_failure(link.transact(work))
}

/// Separates the causes of failures that only these rows have (the inner result) from failures of the connection or the
/// server.
pub fn split_failure<T>(done: Result<T, Failure>) -> Result<Result<T, String>, RetryError> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(Failure::RetryError(trouble)) => Err(trouble),
        Err(Failure::Data(cause) | Failure::Taken(cause) | Failure::Raced(cause) | Failure::Conflict(cause)) => {
            Ok(Err(cause))
        }
    }
}
