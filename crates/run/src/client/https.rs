//! TLS, failures and bounded waits of all clients that speak HTTP. TLS trusts the certificates of a file or those of
//! the machine.

use crate::client::Location;
use crate::client::outage::{RetryError, Timeouts};
use crate::client::tls::use_ring;
use crate::stop::Stop;
use crate::thread;
use evt_core::error::{Error, Result};
use evt_core::time::rounded;
use std::io::{ErrorKind, Read};
use std::sync::mpsc::channel;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Request, Response};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Configures TLS with the certificates of the PEM file `ca`, else with the machine's. Plain HTTP reads no certificates
/// of the machine.
///
/// Errors: exit status 78 if the file cannot be read or has no certificate.
pub fn tls(ca: Option<&str>, is_https: bool) -> Result<TlsConfig> {
    if ca.is_none() && !is_https {
        return Ok(TlsConfig::default());
    }
    use_ring();
    let certificates = match ca {
        None => {
            let native = rustls_native_certs::load_native_certs().certs;
            native.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
        }
        Some(path) => {
            let wrong = || Error::config(format!("ca={path}"));
            let bytes = std::fs::read(path).map_err(|error| wrong().because(error))?;
            let items = parse_pem(&bytes).collect::<Result<Vec<_>, _>>().map_err(|error| wrong().because(error))?;
            let certificate = |item| if let PemItem::Certificate(one) = item { Some(one) } else { None };
            let found: Vec<_> = items.into_iter().filter_map(certificate).collect();
            match found.is_empty() {
                true => return Err(wrong().because("expected a PEM certificate")),
                false => found,
            }
        }
    };
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build())
}

/// A client of servers whose answers fit in memory. Clones share connections.
#[derive(Clone, Debug)]
pub struct HttpsClient {
    agent: Agent,
    timeouts: Timeouts,
}

impl HttpsClient {
    /// Makes a client of the server at a location, whose options are timeouts and `ca`; sends nothing.
    ///
    /// Errors: exit status 2 for wrong timeouts, 78 if its certificates cannot be read.
    pub fn try_new(location: &Location, is_https: bool) -> Result<Self> {
        let timeouts = location.timeouts()?;
        let tls = tls(location.option("ca"), is_https);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(timeouts.connect))
            .timeout_recv_response(Some(timeouts.timeout))
            .timeout_global(Some(timeouts.connect + timeouts.timeout))
            .user_agent("evt")
            .tls_config(tls.map_err(|error| error.at(location.to_string()))?)
            .build();
        Ok(Self { agent: config.into(), timeouts })
    }

    /// Sends a request once, and returns the raw answer, with at most one byte more than `most`. A signal bounds the
    /// wait.
    pub fn exchange(&self, request: Request<String>, most: u64) -> Result<Response<Vec<u8>>, RetryError> {
        let agent = self.agent.clone();
        let ask = move || {
            let has_body = !request.body().is_empty();
            let response = if has_body { agent.run(request) } else { agent.run(request.map(|_| ())) }?;
            let ((head, body), mut bytes) = (response.into_parts(), vec![]);
            body.into_reader().take(most + 1).read_to_end(&mut bytes)?;
            Ok(Response::from_parts(head, bytes))
        };
        // The agent's own timeouts expire first.
        let limit = 2 * (self.timeouts.connect + self.timeouts.timeout);
        interruptible(limit, &self.timeouts.stop, ask)?.map_err(|error| trouble(error, &self.timeouts))
    }
}

/// Classifies a failure without an answer of a request with these timeouts.
pub fn trouble(error: ureq::Error, timeouts: &Timeouts) -> RetryError {
    match error {
        // A TLS handshake reports an untrusted certificate this way.
        ureq::Error::Io(io) if io.kind() == ErrorKind::InvalidData => Error::config("TLS").because(io).into(),
        ureq::Error::Io(io) => {
            RetryError::Transient(io.to_string().split(" (os error").next().unwrap_or_default().to_lowercase())
        }
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            RetryError::Transient(format!("no connection for {}", rounded(timeouts.connect)))
        }
        ureq::Error::Timeout(_) => RetryError::Transient(format!("no response for {}", rounded(timeouts.timeout))),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => {
            RetryError::Transient(error.to_string())
        }
        error => Error::config("request failed").because(error).into(),
    }
}

/// Makes a request in a thread that can be abandoned, so that `stop` bounds the wait. The timeouts of the request
/// should expire before `limit`.
pub fn interruptible<T: Send + 'static>(
    limit: Duration,
    stop: &Stop,
    request: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RetryError> {
    let (sender, receiver) = channel();
    // The receiver is gone if the run has ended.
    let call = move || _ = sender.send(request());
    thread::spawn("http", call)?;
    let received = stop.server_wait().receive(&receiver, limit);
    received.map_err(|_| RetryError::Transient("no response".to_owned()))
}
