//! The state that all requests share.

use super::body::{BodyLimits, MemoryBudget};
use super::limits::descriptors::ConnectionLimit;
use super::limits::metrics::HttpMetrics;
use super::limits::notice::Notices;
use super::limits::timeouts::ConnectionTimeouts;
use super::queries::RegistryQueries;
use super::tls::{Tls, acceptor};
use super::token::{Rate, Token, Tokens};
use super::validate::{RequestValidator, ValidationOptions};
use crate::clock::Clock;
use crate::console::Console;
use crate::error::Result;
use crate::run::Run;
use crate::spool::request::RequestLog;
use crate::uri::http::Address;
use prometheus_client::registry::Registry;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// The configuration of the server.
pub struct Options {
    /// The address on which it listens.
    pub address: Address,
    /// Certificate and key, if it serves TLS.
    pub tls: Option<Tls>,
    /// `--tokens`.
    pub tokens: Option<PathBuf>,
    /// Whether requests without a token are accepted.
    pub anonymous: bool,
    /// Events a second over all tokens.
    pub rate: Option<NonZeroU32>,
    /// Limits of each body.
    pub limits: BodyLimits,
    /// Maximum bytes of all bodies in progress.
    pub memory: usize,
    /// Maximum number of connections.
    pub connections: ConnectionLimit,
    /// Time limits of a connection.
    pub timeouts: ConnectionTimeouts,
    /// How long a body may take to arrive, and then to be stored.
    pub request_time: Duration,
    /// Whether each request is logged.
    pub log: bool,
    /// The options of the validation.
    pub validation: ValidationOptions,
}

/// How long the server is not ready after the log refused a request as unavailable.
const UNREADY: Duration = Duration::from_secs(5);
/// Maximum number of idle validators.
const VALIDATORS_MAX: usize = 64;

/// The state that all requests share.
pub struct ServerState {
    pub options: Options,
    /// `None` once the server is closed: the spool ends when the last reference is dropped.
    log: RwLock<Option<Arc<dyn RequestLog>>>,
    pub metrics: HttpMetrics,
    pub registry: Registry,
    tokens: RwLock<Arc<Tokens>>,
    /// The certificate, if it serves TLS.
    tls: RwLock<Option<TlsAcceptor>>,
    pub anonymous: Option<Arc<Token>>,
    pub rate: Rate,
    pub memory: MemoryBudget,
    /// A permit for each further connection.
    pub connections: Arc<Semaphore>,
    validators: Mutex<Vec<RequestValidator>>,
    /// The registry's queries, if it has the schemas.
    pub queries: Option<RegistryQueries>,
    pub clock: Clock,
    pub console: Console,
    pub notices: Notices,
    is_closed: watch::Sender<bool>,
    /// Until when the log counts as unavailable (monotonic time, µs).
    unready_until: AtomicU64,
}

impl ServerState {
    pub fn new(options: Options, tls: Option<TlsAcceptor>, log: Arc<dyn RequestLog>, run: &Run) -> Result<Self> {
        let (clock, console) = (run.clock.clone(), run.console.clone());
        let tokens = options.tokens.as_deref().map(Tokens::read).transpose()?.unwrap_or_default();
        let mut registry = Registry::default();
        let metrics = HttpMetrics::new(&mut registry);
        // The metrics of the stages are exposed here too.
        registry.register_collector(Box::new(run.metrics.clone()));
        // Making a validator now reports faulty schemas or flags before the first request.
        let first = RequestValidator::new(&options.validation)?;
        Ok(Self {
            rate: Rate::new(options.rate),
            memory: MemoryBudget::new(options.memory),
            connections: Arc::new(Semaphore::new(options.connections.most)),
            anonymous: (options.anonymous || options.tokens.is_none()).then(|| Arc::new(Token::anonymous())),
            tokens: RwLock::new(Arc::new(tokens)),
            tls: RwLock::new(tls),
            validators: Mutex::new(vec![first]),
            queries: options.validation.registry.clone().map(RegistryQueries::new),
            notices: Notices::new(console.clone()),
            is_closed: watch::Sender::new(false),
            unready_until: AtomicU64::new(0),
            options,
            log: RwLock::new(Some(log)),
            metrics,
            registry,
            clock,
            console,
        })
    }

    pub fn log(&self) -> Option<Arc<dyn RequestLog>> {
        self.log.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops the log, so that the server stores no further requests.
    pub fn close_log(&self) {
        self.log.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Closes the listener and idle connections; the server is no longer ready.
    pub fn close(&self) {
        self.is_closed.send_replace(true);
    }

    /// Waits until the server closes.
    pub async fn closed(&self) {
        // The wait cannot fail, because the sender is in `self`.
        let _ = self.is_closed.subscribe().wait_for(|is_closed| *is_closed).await;
    }

    pub fn tokens(&self) -> Arc<Tokens> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads tokens and certificate again. If a file is invalid, its former content stays in use.
    pub fn reload(&self) {
        self.reload_certificate();
        self.reload_tokens();
    }

    fn reload_certificate(&self) {
        let Some(tls) = &self.options.tls else { return };
        match acceptor(&self.options.address, Some(tls)) {
            Ok(new) => {
                *self.tls.write().unwrap_or_else(PoisonError::into_inner) = new;
                self.console.say(format!("{}: certificate reloaded", tls.certificate.display()));
            }
            Err(error) => self.console.warn(format!("reload failed, the certificate is unchanged: {error}")),
        }
    }

    fn reload_tokens(&self) {
        let Some(path) = &self.options.tokens else { return };
        match Tokens::read(path) {
            Ok(tokens) => {
                let count = tokens.0.len();
                *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
                self.console.say(format!("{}: tokens reloaded: {count}", path.display()));
            }
            Err(error) => self.console.warn(format!("reload failed, the tokens are unchanged: {error}")),
        }
    }

    /// Takes an idle validator for one request, or makes one.
    pub fn validator(&self) -> Result<RequestValidator> {
        let idle = self.validators.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| RequestValidator::new(&self.options.validation), Ok)
    }

    /// Puts back a validator after its request, for the next request.
    pub fn put_back(&self, validator: RequestValidator) {
        let mut idle = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < VALIDATORS_MAX {
            idle.push(validator);
        }
    }

    /// Notes whether the log was available for the last request.
    pub fn note_log(&self, is_available: bool) {
        let until = if is_available { Duration::ZERO } else { self.clock.monotonic() + UNREADY };
        self.unready_until.store(micros(until), Ordering::Relaxed);
    }

    /// Whether the server is ready, or why not.
    pub fn is_ready(&self) -> Result<(), &'static str> {
        if *self.is_closed.borrow() {
            return Err("draining");
        }
        if self.queries.as_ref().is_some_and(|queries| !queries.is_answered()) {
            return Err("the schema registry is unavailable");
        }
        let has_space = self.log().is_none_or(|log| log.has_space());
        match has_space && micros(self.clock.monotonic()) >= self.unready_until.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("requests cannot be stored at the moment"),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
