//! The state that all requests share.

use super::limits::descriptors::ConnectionLimit;
use super::limits::metrics::HttpMetrics;
use super::limits::notice::Notices;
use super::limits::timeouts::ConnectionTimeouts;
use super::reply::Reply;
use super::tls::{Tls, acceptor};
use super::token::{Token, Tokens};
use crate::address::Address;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use evt_core::error::Result;
use evt_run::clock::Clock;
use evt_run::console::Console;
use evt_run::run::Run;
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, StatusCode};
use prometheus_client::registry::Registry;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// The configuration of a server.
pub struct ServerOptions {
    /// The address on which it listens.
    pub address: Address,
    /// Certificate and key, if it serves TLS.
    pub tls: Option<Tls>,
    /// `--tokens`.
    pub tokens: Option<PathBuf>,
    /// Whether requests without a token are accepted.
    pub anonymous: bool,
    /// Whether a token may also be the password of `Basic`, as clients send it that know users only.
    pub takes_basic: bool,
    /// The names that requests may be for, beside addresses and localhost; `None`: any.
    pub hosts: Option<Vec<String>>,
    /// Maximum number of connections.
    pub connections: ConnectionLimit,
    /// Threads that serve requests.
    pub threads: usize,
    /// Time limits of a connection.
    pub timeouts: ConnectionTimeouts,
    /// How long a body may take to arrive, and then a request to be served.
    pub request_time: Duration,
    /// What the server writes to the console about its requests.
    pub log: Logged,
}

/// What a server writes to the console about connections and requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    /// Nothing.
    Nothing,
    /// Recurring problems, at most one line a minute of each.
    Problems,
    /// These, and a line for each request.
    Requests,
}

/// The state that all requests share.
pub struct ServerState<A> {
    /// The configuration.
    pub options: ServerOptions,
    /// The state of the tool.
    pub app: A,
    /// The metrics of connections and requests.
    pub metrics: HttpMetrics,
    /// All metrics.
    pub(super) registry: Registry,
    tokens: RwLock<Arc<Tokens>>,
    /// The certificate, if it serves TLS.
    tls: RwLock<Option<TlsAcceptor>>,
    /// The token of requests without one, if they are accepted.
    anonymous: Option<Arc<Token>>,
    /// A permit for each further connection.
    pub(super) connections: Arc<Semaphore>,
    /// The clock of the run.
    pub clock: Clock,
    /// Where requests are logged.
    pub(super) console: Console,
    /// Messages about recurring problems.
    pub notices: Notices,
    is_closed: watch::Sender<bool>,
}

impl<A> ServerState<A> {
    pub(super) fn new(
        options: ServerOptions,
        run: &Run,
        make: impl FnOnce(&mut Registry) -> Result<A>,
    ) -> Result<Self> {
        let (clock, console) = (run.clock.clone(), run.console.clone());
        let tokens = options.tokens.as_deref().map(Tokens::read).transpose()?.unwrap_or_default();
        let mut registry = Registry::default();
        let metrics = HttpMetrics::new(&mut registry);
        let app = make(&mut registry)?;
        // The metrics of the stages are exposed here too.
        registry.register_collector(Box::new(run.metrics.clone()));
        Ok(Self {
            connections: Arc::new(Semaphore::new(options.connections.most)),
            anonymous: (options.anonymous || options.tokens.is_none()).then(|| Arc::new(Token::anonymous())),
            tokens: RwLock::new(Arc::new(tokens)),
            tls: RwLock::new(acceptor(&options.address, options.tls.as_ref())?),
            notices: Notices::new((options.log != Logged::Nothing).then(|| console.clone())),
            is_closed: watch::Sender::new(false),
            options,
            app,
            metrics,
            registry,
            clock,
            console,
        })
    }

    /// Closes the listener and idle connections; the server is no longer ready.
    pub(super) fn close(&self) {
        self.is_closed.send_replace(true);
    }

    /// Waits until the server closes.
    pub(super) async fn closed(&self) {
        // The wait cannot fail, because the sender is in `self`.
        let _ = self.is_closed.subscribe().wait_for(|is_closed| *is_closed).await;
    }

    /// Finds the token of a request; 401 if there must be one and it is missing or unknown.
    pub fn authorize(&self, headers: &HeaderMap) -> Result<Arc<Token>, Reply> {
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let unauthorized = |why| Reply::refusal(StatusCode::UNAUTHORIZED, why).closing();
        let expected = || unauthorized("expected authorization: Bearer TOKEN");
        let Some(value) = all.next() else {
            return self.anonymous.clone().ok_or_else(expected);
        };
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone();
        if tokens.0.is_empty() {
            // No tokens are configured: the header is ignored.
            return self.anonymous.clone().ok_or_else(|| unauthorized("no tokens are configured"));
        }
        if all.next().is_some() {
            return Err(expected());
        }
        let found = match value.as_bytes().split_at_checked(7) {
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"bearer ") => tokens.find(secret.trim_ascii()),
            _ => match password(value.as_bytes()).filter(|_| self.options.takes_basic) {
                Some(secret) => tokens.find(&secret),
                None => return Err(expected()),
            },
        };
        found.cloned().ok_or_else(|| unauthorized("unknown token"))
    }

    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads tokens and certificate again. If a file is invalid, its former content stays in use.
    pub(super) fn reload(&self) {
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

    /// Whether the listener is closed.
    pub(super) fn is_closed(&self) -> bool {
        *self.is_closed.borrow()
    }
}

/// Returns the password of `Basic`.
fn password(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let decoded = STANDARD.decode(rest.trim_ascii()).ok().filter(|_| scheme.eq_ignore_ascii_case(b"basic "))?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_basic_may_have_colons() {
        assert_eq!(password(b"Basic Z3JhZmFuYTpzZWM6cmV0").as_deref(), Some(&b"sec:ret"[..]));
        for wrong in ["", "Basic", "Basic !", "Basic Z3JhZmFuYQ==", "Bearer Z3JhZmFuYTpzZWM6cmV0"] {
            assert_eq!(password(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
