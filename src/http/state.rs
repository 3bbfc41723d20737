//! The state that all requests share.

use super::asking::Questions;
use super::body::{BodyLimits, Room};
use super::limits::meter::Meter;
use super::limits::notice::Notices;
use super::limits::watch::Patience;
use super::tls::{Tls, acceptor};
use super::token::{Rate, Token, Tokens};
use super::trace::Ids;
use crate::clock::Clock;
use crate::console::Console;
use crate::error::{Error, Result};
use crate::http::edge::{Edge, EdgeOptions};
use crate::run::Run;
use crate::spool::request::Keeper;
use crate::uri::http::Address;
use prometheus_client::registry::Registry;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio_rustls::TlsAcceptor;

/// The configuration of the server.
pub struct Options {
    /// Where it listens.
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
    pub room: usize,
    /// Maximum number of connections.
    pub connections: usize,
    /// Time limits of a connection.
    pub patience: Patience,
    /// How long a body may take to arrive, and then to be kept.
    pub request_time: Duration,
    /// Whether each request is logged.
    pub log: bool,
    /// The options of the validation.
    pub edge: EdgeOptions,
}

/// How long the server is not ready after its keeper refused a request as unavailable (µs).
const UNREADY: i64 = 5_000_000;
/// Maximum number of idle edges.
const EDGES_MAX: usize = 64;

/// The state that all requests share.
pub struct Front {
    pub options: Options,
    /// `None` once the server is closed: the spool ends when the last reference is dropped.
    pub keeper: RwLock<Option<Arc<dyn Keeper>>>,
    pub meter: Meter,
    pub registry: Registry,
    pub tokens: RwLock<Arc<Tokens>>,
    /// The certificate, if it serves TLS.
    pub tls: RwLock<Option<TlsAcceptor>>,
    pub anonymous: Option<Arc<Token>>,
    pub rate: Rate,
    pub room: Room,
    pub edges: Mutex<Vec<Edge>>,
    /// The registry's queries, if it has the schemas.
    pub questions: Option<Questions>,
    pub ids: Ids,
    pub clock: Clock,
    pub console: Console,
    pub notices: Notices,
    pub draining: AtomicBool,
    /// Until when the keeper counts as unavailable (µs).
    pub unready_until: AtomicI64,
}

impl Front {
    pub fn new(options: Options, tls: Option<TlsAcceptor>, keeper: Arc<dyn Keeper>, run: &Run) -> Result<Self> {
        let (clock, console) = (run.clock.clone(), run.console.clone());
        let tokens = options.tokens.as_deref().map(Tokens::read).transpose()?.unwrap_or_default();
        let meter = Meter::default();
        let mut registry = Registry::default();
        meter.register(&mut registry);
        // The metrics of the stages are exposed here too.
        registry.register_collector(Box::new(run.metrics.clone()));
        // This reports faulty schemas or flags before the first request.
        let first = Edge::new(&options.edge)?;
        Ok(Self {
            rate: Rate::new(options.rate),
            room: Room::new(options.room),
            anonymous: (options.anonymous || options.tokens.is_none()).then(|| Arc::new(Token::anonymous())),
            tokens: RwLock::new(Arc::new(tokens)),
            tls: RwLock::new(tls),
            edges: Mutex::new(vec![first]),
            questions: options.edge.registry.clone().map(Questions::new),
            notices: Notices::new(console.clone()),
            ids: Ids::new(),
            draining: AtomicBool::new(false),
            unready_until: AtomicI64::new(i64::MIN),
            options,
            keeper: RwLock::new(Some(keeper)),
            meter,
            registry,
            clock,
            console,
        })
    }

    pub fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        self.keeper.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops the keeper: nothing more will be kept.
    pub fn let_go(&self) {
        self.keeper.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub fn tokens(&self) -> Arc<Tokens> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads tokens and certificate again; if a file is invalid the old ones stay.
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
            Err(error) => self.console.say(format!("reload failed, the certificate is unchanged: {error}")),
        }
    }

    fn reload_tokens(&self) {
        let Some(path) = &self.options.tokens else { return };
        match Tokens::read(path) {
            Ok(tokens) => {
                let count = tokens.len();
                *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
                self.console.say(format!("{}: tokens reloaded: {count}", path.display()));
            }
            Err(error) => self.console.say(format!("reload failed, the tokens are unchanged: {error}")),
        }
    }

    /// Takes an idle edge for one request, or makes one.
    pub fn edge(&self) -> Result<Edge> {
        let waiting = self.edges.lock().unwrap_or_else(PoisonError::into_inner).pop();
        waiting.map_or_else(|| Edge::new(&self.options.edge), Ok)
    }

    /// Returns an edge that finished its request.
    pub fn put_back(&self, edge: Edge) {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        if edges.len() < EDGES_MAX {
            edges.push(edge);
        }
    }

    /// Notes whether the keeper accepted the last request.
    pub fn note_keeper(&self, took: bool) {
        let until = if took { i64::MIN } else { self.clock.now().saturating_add(UNREADY) };
        self.unready_until.store(until, Ordering::Relaxed);
    }

    /// Whether the server is ready, or why not.
    pub fn is_ready(&self) -> Result<(), &'static str> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("draining");
        }
        if self.questions.as_ref().is_some_and(|questions| !questions.is_answered()) {
            return Err("the schema registry is unavailable");
        }
        let has_room = self.keeper().is_none_or(|keeper| keeper.has_room());
        match has_room && self.clock.now() >= self.unready_until.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("requests cannot be stored at the moment"),
        }
    }
}

/// Refuses an address that others can reach, without `--tokens` or `--anonymous`. Errors: exit status 2.
pub fn check_reach(options: &Options, reach: std::net::SocketAddr) -> Result<()> {
    if reach.ip().is_loopback() || options.tokens.is_some() || options.anonymous {
        return Ok(());
    }
    Err(Error::usage(format!("{}: a non-loopback listener needs --tokens FILE or --anonymous", options.address)))
}
