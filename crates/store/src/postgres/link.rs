//! The connection to a server: an async client behind blocking calls, with a limit for every wait; errors are
//! classified by whether a retry helps.

use crate::postgres::cell::CopyText;
use crate::repeat::UNIQUE_EVENTS;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::kind::Kind;
use evt_core::time::rounded;
use evt_run::client::Location;
use evt_run::client::outage::{RetryError, Timeouts};
use evt_run::stop::{STOP_CHECK_INTERVAL, Stop};
use futures_util::SinkExt;
use futures_util::future::{Either, select};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Maximum number of prepared statements per connection.
const STATEMENTS_MAX: usize = 64;

/// Why a statement failed.
pub enum Failure {
    /// The rows hold a value that cannot be stored; another batch may succeed.
    Data(String),
    /// Another row has the value of a unique index that evt has not made. [`Failure::Data`], unless the row itself is
    /// stored already.
    Taken(String),
    /// An unexpected key is stored: look up the keys and retry.
    Raced(String),
    /// Another transaction conflicts, in a deadlock for instance: repeat the whole transaction.
    Conflict(String),
    /// Any other failure.
    RetryError(RetryError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::RetryError(RetryError::Permanent(error))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        classify(&error)
    }
}

/// Converts the failure of a statement that does not concern rows.
impl From<Failure> for RetryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Data(cause) | Failure::Taken(cause) | Failure::Raced(cause) | Failure::Conflict(cause) => {
                Self::Permanent(Error::failed("refused").because(cause))
            }
            Failure::RetryError(trouble) => trouble,
        }
    }
}

/// Classifies an error by the classes of SQLSTATE (manual of PostgreSQL, appendix A).
fn classify(error: &tokio_postgres::Error) -> Failure {
    let Some(refused) = error.as_db_error() else { return Failure::RetryError(classify_connection(error)) };
    let code = refused.code();
    let detail = refused.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let cause = format!("{}{detail}", refused.message());
    if *code == SqlState::UNIQUE_VIOLATION {
        return if is_of_key(refused) { Failure::Raced(cause) } else { Failure::Taken(cause) };
    }
    let lasting = |kind: ErrorKind, message: &str| {
        Failure::RetryError(RetryError::Permanent(Error::new(kind, message.to_owned()).because(&cause)))
    };
    match code.code().get(..2).unwrap_or_default() {
        // P0 are the errors of PL/pgSQL, by which triggers reject rows.
        "22" | "23" | "54" | "P0" => Failure::Data(cause),
        "40" => Failure::Conflict(cause),
        "08" | "53" | "57" => Failure::RetryError(RetryError::Transient(cause)),
        _ if matches!(*code, SqlState::LOCK_NOT_AVAILABLE | SqlState::READ_ONLY_SQL_TRANSACTION) => {
            Failure::RetryError(RetryError::Transient(cause))
        }
        "28" | "3D" => lasting(ErrorKind::Config, "access denied"),
        "3F" | "42" => lasting(ErrorKind::Config, "rejected"),
        _ => lasting(ErrorKind::Io, "rejected"),
    }
}

/// Whether the violated unique index is a key by which evt finds stored rows. A trigger may also violate the key of a
/// table of the user.
fn is_of_key(refused: &DbError) -> bool {
    let (Some(table), Some(index)) = (refused.table(), refused.constraint()) else { return true };
    Kind::ALL.iter().any(|kind| kind.table() == table)
        && (index.strip_suffix("_pkey") == Some(table) || ["aggregated_metrics_key", UNIQUE_EVENTS].contains(&index))
}

/// Classifies an error that is not an answer of the server.
fn classify_connection(error: &tokio_postgres::Error) -> RetryError {
    let source = std::error::Error::source(error);
    let io = source.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match io {
        // An untrusted certificate is reported so by the TLS handshake.
        Some(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            RetryError::Permanent(Error::config("TLS").because(io))
        }
        Some(io) => RetryError::Transient(io.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()),
        None if error.is_closed() => RetryError::Transient("connection closed".to_owned()),
        None => {
            let cause = source.map_or_else(|| error.to_string(), ToString::to_string);
            // The library's errors of connecting to several addresses, and its timeouts, have no source.
            match error.to_string().starts_with("error connecting") || error.to_string().starts_with("timeout") {
                true => RetryError::Transient(cause),
                false => RetryError::Permanent(Error::config(error.to_string()).because(cause)),
            }
        }
    }
}

/// The options of its URIs.
pub const OPTIONS: [&str; 9] =
    ["table", "key", "schema", "visible", "sslmode", "sslrootcert", "connect", "timeout", "retry"];

/// A server, its connection settings and its timeouts.
pub struct PostgresServer {
    /// The URI without secrets.
    pub shown: String,
    config: Config,
    tls: Option<MakeRustlsConnect>,
    /// Its timeouts.
    pub timeouts: Timeouts,
    schema: Option<String>,
}

impl PostgresServer {
    /// Parses a location. Errors: exit status 2 if it names no server, 78 if certificates cannot be read.
    pub fn try_new(location: &Location) -> Result<Self> {
        location.check_options(&location.scheme, &OPTIONS)?;
        let timeouts = location.timeouts()?;
        let mut config: Config = format!("postgres://{}", location.path).parse().map_err(|_| {
            Error::usage(format!("{location}: expected postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE"))
        })?;
        config.application_name("evt").connect_timeout(timeouts.connect);
        if config.get_user().is_none() {
            config.user(std::env::var("USER").unwrap_or_else(|_| "postgres".to_owned()));
        }
        let near = config.get_hosts().iter().all(is_near);
        let tls = match location.option("sslmode") {
            Some("disable") => false,
            Some("require" | "verify-ca" | "verify-full") => true,
            None => !near,
            Some(_) => {
                let message = format!("{location}: sslmode: expected disable or require (which verifies)");
                return Err(Error::usage(message));
            }
        };
        config.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
        let tls = tls.then(|| location.tls_config("sslrootcert")).transpose()?.map(MakeRustlsConnect::new);
        let (shown, schema) = (location.to_string(), location.options.get("schema").cloned());
        Ok(Self { shown, config, tls, timeouts, schema })
    }

    /// Connects and authenticates.
    pub fn connect(&self) -> Result<Link, RetryError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::io("cannot start a connection", &error))?;
        let waited = self.timeouts.connect;
        let client = runtime.block_on(async {
            let connect = async {
                match &self.tls {
                    Some(tls) => self.config.connect(tls.clone()).await.map(|(client, connection)| {
                        // The next statement reports the end of the connection.
                        tokio::spawn(async move { _ = connection.await });
                        client
                    }),
                    None => self.config.connect(NoTls).await.map(|(client, connection)| {
                        tokio::spawn(async move { _ = connection.await });
                        client
                    }),
                }
            };
            bounded(waited, &self.timeouts.stop, async { Ok(connect.await?) }).await
        });
        let link = Link { client: client?, statements: RefCell::default(), runtime, timeouts: self.timeouts.clone() };
        link.batch(&self.settings())?;
        Ok(link)
    }

    /// Converts the failure of a single attempt.
    pub fn failed<E: Into<RetryError>>(&self) -> impl Fn(E) -> Error {
        |failure| failure.into().at(|| self.shown.clone()).into_error(&self.shown)
    }

    /// Returns the settings of a session. The server must end a statement that this process no longer waits for, so
    /// that its locks are released. A transaction that waited for a lock must see what the others have committed, so
    /// each of its statements has a snapshot of its own, whatever the database's default is.
    fn settings(&self) -> String {
        let millis = self.timeouts.timeout.as_millis();
        let mut settings = format!(
            "SET client_min_messages = warning; SET timezone = 'UTC'; SET statement_timeout = {millis}; \
             SET idle_in_transaction_session_timeout = {millis}; SET default_transaction_isolation = 'read committed';"
        );
        if let Some(schema) = &self.schema {
            settings.push_str(&format!("SET search_path = {};", quoted(schema)));
        }
        settings
    }

    /// Returns the schema of the URI, quoted.
    pub fn schema(&self) -> Option<String> {
        self.schema.as_deref().map(quoted)
    }
}

/// Quotes an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether a host is on this machine.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
    }
}

/// An open connection. After a failure it must be dropped, because the outcome of its transaction is unknown.
pub struct Link {
    /// The client; its calls wait inside [`Link::wait`].
    pub client: Client,
    statements: RefCell<HashMap<String, Statement>>,
    runtime: Runtime,
    timeouts: Timeouts,
}

impl Link {
    /// Waits for an answer within `?timeout=`.
    pub fn wait<T>(&self, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.runtime.block_on(bounded(self.timeouts.timeout, &self.timeouts.stop, answer))
    }

    /// Executes statements without parameters.
    pub fn batch(&self, statements: &str) -> Result<(), Failure> {
        self.wait(async { Ok(self.client.batch_execute(statements).await?) })
    }

    /// Returns the rows of a statement.
    pub fn select(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failure> {
        self.wait(async { Ok(self.client.query(&self.prepare(sql).await?, values).await?) })
    }

    /// Returns the only row of a statement.
    pub fn one(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Row, Failure> {
        self.wait(async { Ok(self.client.query_one(&self.prepare(sql).await?, values).await?) })
    }

    /// Whether there is a table or an index of this name.
    pub fn has_relation(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.one("SELECT to_regclass($1) IS NOT NULL", &[&name])?.get(0))
    }

    /// Executes a statement; returns the number of rows that it changed.
    pub fn change(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Failure> {
        self.wait(async { Ok(self.client.execute(&self.prepare(sql).await?, values).await?) })
    }

    /// Runs the COPY statement `sql` with `text`; returns the number of rows that the table has taken.
    pub fn copy_in(&self, sql: &str, text: CopyText) -> Result<u64, Failure> {
        self.wait(async {
            let mut sink = pin!(self.client.copy_in(&self.prepare(sql).await?).await?);
            sink.send(text.finish()).await?;
            Ok(sink.finish().await?)
        })
    }

    /// Runs `work` in a transaction, which is rolled back if it fails.
    pub fn transact<T>(&self, work: impl FnOnce(&Link) -> Result<T, Failure>) -> Result<T, Failure> {
        self.batch("BEGIN")?;
        let done = work(self).inspect_err(|failure| {
            // After other failures the connection is dropped, and the server rolls back.
            if !matches!(failure, Failure::RetryError(_)) {
                _ = self.batch("ROLLBACK");
            }
        })?;
        self.batch("COMMIT").map(|()| done)
    }

    /// Prepares the statement `sql`, once per connection.
    async fn prepare(&self, sql: &str) -> Result<Statement, Failure> {
        if let Some(ready) = self.statements.borrow().get(sql) {
            return Ok(ready.clone());
        }
        let ready = self.client.prepare(sql).await?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(sql.to_owned(), ready.clone());
        Ok(ready)
    }
}

/// Runs `work` within `limit` and the stop timeout; a server that takes longer counts as unreachable.
async fn bounded<T>(
    limit: Duration,
    stop: &Stop,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let away = |cause: String| Err(Failure::RetryError(RetryError::Transient(cause)));
    match select(pin!(tokio::time::timeout(limit, work)), pin!(stop_timeout(stop))).await {
        Either::Left((Ok(done), _)) => done,
        Either::Left((Err(_), _)) => away(format!("no response for {}", rounded(limit))),
        Either::Right(_) => away("no response".to_owned()),
    }
}

/// Completes when the stop timeout expires.
async fn stop_timeout(stop: &Stop) {
    let wait = stop.server_wait();
    while !wait.is_over() {
        tokio::time::sleep(STOP_CHECK_INTERVAL).await;
    }
}
