//! Connections: accepted at `http://HOST:PORT` or `https://HOST:PORT`, counted, served, and let go.

use super::body::SOON;
use super::service::serve;
use super::token::Tokens;
use super::watch::{Phase, Watched};
use super::{Front, Options, check_reach};
use crate::console::Console;
use crate::error::{Error, Result};
use crate::stop::Stop;
use crate::stream::run::Run;
use crate::stream::spool::request::Keeper;
use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use signal_hook::consts::SIGHUP;
use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// How long the same notice is not said again.
const NOTICE_EVERY: Duration = Duration::from_secs(60);
/// Threads at the most: the stage loop and the spool want some, too.
const THREADS_MAX: usize = 8;
/// The largest head, and what is read at once.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of a request at the most.
const HEADERS_MAX: usize = 100;
/// Descriptors beside those of connections: files, the spool, the other side of pipes.
const DESCRIPTORS: u64 = 256;

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// `HOST:PORT`.
    pub host: String,
}

impl Address {
    /// Reads what follows `http:` or `https:`; exit 2 where it names no host and port, or a path.
    pub fn parse(scheme: &str, rest: &str) -> Result<Self> {
        let tls = scheme == "https";
        let host = rest.strip_prefix("//").map(|host| host.strip_suffix('/').unwrap_or(host));
        let wanted = || Error::usage(format!("{scheme}:{rest}: a listener is {scheme}://HOST:PORT"));
        let host = host.filter(|host| !host.contains(['/', '?', '#', '@'])).ok_or_else(wanted)?;
        match host.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self { tls, host: host.to_owned() })
            }
            _ => Err(wanted()),
        }
    }

    /// The socket address to bind.
    pub fn resolve(&self) -> Result<SocketAddr> {
        let found = self.host.to_socket_addrs().map_err(|error| Error::io(self.to_string(), &error))?.next();
        found.ok_or_else(|| Error::usage(format!("{self}: the name has no address")))
    }

    /// Whether it could be listened at now.
    pub fn check(&self) -> Result<()> {
        std::net::TcpListener::bind(self.resolve()?).map(drop).map_err(|error| Error::io(self.to_string(), &error))
    }

    /// What it is called once its port is known.
    pub fn at(&self, bound: SocketAddr) -> String {
        format!("{}://{bound}", self.scheme())
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.host)
    }
}

/// Certificate and key, in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// `--tls-cert`: the chain, its own first.
    pub certificate: PathBuf,
    /// `--tls-key`.
    pub key: PathBuf,
}

/// Says what happens again and again once a minute.
pub struct Notices {
    console: Console,
    said: Mutex<HashMap<&'static str, Instant>>,
}

impl Notices {
    /// Notices on this console.
    pub fn new(console: Console) -> Self {
        Self { console, said: Mutex::default() }
    }

    /// Says it unless something about `reason` was said within the last minute.
    pub fn say(&self, reason: &'static str, message: impl Fn() -> String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if said.get(reason).is_none_or(|last| now.duration_since(*last) >= NOTICE_EVERY) {
            said.insert(reason, now);
            drop(said);
            self.console.say(message());
        }
    }
}

/// The open door. It closes at once when dropped.
pub struct Server {
    front: Arc<Front>,
    address: SocketAddr,
    closing: Arc<watch::Sender<bool>>,
    connections: Arc<Semaphore>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Looks whether it could listen: who may reach it, its tokens, its certificate. The files that each would read.
    pub fn check(options: &Options) -> [Result<Vec<&Path>>; 3] {
        let tokens = options.tokens.as_deref();
        let pem = options.tls.iter().flat_map(|tls| [&*tls.certificate, &*tls.key]).collect();
        [
            options.address.resolve().and_then(|reach| check_reach(options, reach)).map(|()| vec![]),
            tokens.map_or(Ok(vec![]), |path| Tokens::read(path).map(|_| vec![path])),
            acceptor(options).map(|_| pem),
        ]
    }

    /// Listens from here on and says where. Fails where it may not, or cannot.
    pub fn open(options: Options, keeper: Arc<dyn Keeper>, run: &Run) -> Result<Self> {
        let console = &run.console;
        let reach = options.address.resolve()?;
        check_reach(&options, reach)?;
        let tls = acceptor(&options)?;
        let failed = |error: std::io::Error| Error::io(options.address.to_string(), &error);
        raise_descriptors(options.connections);
        let listener = std::net::TcpListener::bind(reach).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(failed)?;
        let connections = Arc::new(Semaphore::new(options.connections));
        let name = options.address.at(address);
        let front = Arc::new(Front::new((options, tls), keeper, run)?);
        reload_on_hangup(front.clone())?;
        let (closing, stopped) = watch::channel(false);
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(|error| Error::io(name.clone(), &error))?
        };
        runtime.spawn(accept(front.clone(), listener, connections.clone(), stopped));
        let closing = Arc::new(closing);
        close_on_signal(front.clone(), closing.clone(), run.stop.clone())?;
        console.say(format!("listening on {name}"));
        Ok(Self { front, address, closing, connections, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nobody in any more; returns at once. Requests under way are finished, as long as one may take; then the
    /// keeper is let go of.
    pub fn drain(mut self) {
        close(&self.front, &self.closing);
        let Some(runtime) = self.runtime.take() else { return };
        let finish = move || {
            // A body and its keeping have their time each, one after the other.
            let wait = 2 * self.front.options.request_time;
            let all = u32::try_from(self.front.options.connections).unwrap_or(u32::MAX);
            let gone = async { tokio::time::timeout(wait, self.connections.acquire_many(all)).await.is_ok() };
            if !runtime.block_on(gone) {
                self.front.console.say("connections are ended: their requests took too long");
            }
            self.front.let_go();
            runtime.shutdown_background();
        };
        // Where no thread can be had the connections are ended at once.
        let _ = std::thread::Builder::new().name("drain".to_owned()).spawn(finish);
    }
}

/// Closes the listener and idle connections, and is no longer ready.
fn close(front: &Front, closing: &watch::Sender<bool>) {
    front.draining.store(true, Ordering::Relaxed);
    closing.send_replace(true);
}

/// Closes at the first signal, whatever the stage loop is waiting for then.
fn close_on_signal(front: Arc<Front>, closing: Arc<watch::Sender<bool>>, stop: Stop) -> Result<()> {
    let wait = move || {
        // It ends with the process.
        if stop.wait_for_signal() {
            close(&front, &closing);
        }
    };
    let spawned = std::thread::Builder::new().name("signal".to_owned()).spawn(wait);
    spawned.map(|_| ()).map_err(|error| Error::io("a thread", &error))
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            self.front.let_go();
            runtime.shutdown_background();
        }
    }
}

/// As many descriptors as connections need, as far as that is allowed.
fn raise_descriptors(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = DESCRIPTORS.saturating_add(connections as u64);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let current = Some(maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        // With fewer, accepting fails and says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
}

/// What speaks TLS with the certificate of the options, where they name one.
pub fn acceptor(options: &Options) -> Result<Option<TlsAcceptor>> {
    let tls = match (&options.tls, options.address.tls) {
        (Some(tls), true) => tls,
        (None, false) => return Ok(None),
        (Some(_), false) => {
            let host = &options.address.host;
            return Err(Error::usage(format!("{}: with --tls-cert it is https://{host}", options.address)));
        }
        (None, true) => {
            return Err(Error::usage(format!("{}: TLS needs --tls-cert and --tls-key", options.address)));
        }
    };
    let unread = |path: &PathBuf| Error::config(format!("{}: no PEM of the kind asked for", path.display()));
    let chain: Vec<_> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unread(&tls.certificate).because(error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| unread(&tls.key).because(error))?;
    let wrong = |error: rustls::Error| {
        Error::config(format!("{}: it does not serve", tls.certificate.display())).because(error)
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(wrong)?.with_no_client_auth().with_single_cert(chain, key).map_err(wrong)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Reads tokens and certificate again whenever SIGHUP comes; where there are none, it is ignored.
fn reload_on_hangup(front: Arc<Front>) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("signal handlers", &error);
    let (mut read, write) = UnixStream::pair().map_err(failed)?;
    signal_hook::low_level::pipe::register(SIGHUP, write).map_err(failed)?;
    let wait = move || {
        // It ends with the process.
        while read.read(&mut [0; 16]).is_ok_and(|count| count > 0) {
            front.reload();
        }
    };
    std::thread::Builder::new().name("tokens".to_owned()).spawn(wait).map_err(failed)?;
    Ok(())
}

/// Lets connections in until it is told to stop.
async fn accept(
    front: Arc<Front>,
    listener: TcpListener,
    connections: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    let stop = stopped.clone();
    loop {
        let accepted = match select(pin!(listener.accept()), pin!(stopped.changed())).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(_) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                front.meter.refused_connection("accept");
                front.notices.say("accept", || format!("a connection cannot be accepted: {error}"));
                // Mostly descriptors: some come back.
                tokio::time::sleep(SOON / 20).await;
                continue;
            }
        };
        match connections.clone().try_acquire_owned() {
            Ok(permit) => {
                let (front, stop) = (front.clone(), stop.clone());
                tokio::spawn(async move { connection(&front, stream, permit, stop).await });
            }
            Err(_) => refuse(&front, stream),
        }
    }
}

/// Sends a connection away that is one too many.
fn refuse(front: &Front, stream: TcpStream) {
    let most = front.options.connections;
    front.meter.refused_connection("too_many");
    front.notices.say("too_many", || format!("connections are refused: {most} are open (--max-connections)"));
    if !front.options.address.tls {
        // Whether it fits or not, nobody waits for it.
        let _ = stream.try_write(
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        );
    }
}

async fn connection(front: &Arc<Front>, stream: TcpStream, permit: OwnedSemaphorePermit, stop: watch::Receiver<bool>) {
    let open = front.meter.open();
    // Answers are small and written at once.
    let _ = stream.set_nodelay(true);
    match front.acceptor() {
        None => converse(front, stream, stop).await,
        Some(tls) => match tokio::time::timeout(front.options.patience.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => converse(front, stream, stop).await,
            _ => {
                front.meter.refused_connection("tls");
                front.notices.say("tls", || "a connection is refused: it does not speak TLS as asked for".to_owned());
            }
        },
    }
    drop((open, permit));
}

/// Serves one request after another.
async fn converse(
    front: &Arc<Front>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    mut stop: watch::Receiver<bool>,
) {
    let phase = Phase::default();
    let watched = Watched::new(stream, phase.clone(), front.options.patience, front.meter.clone());
    let service = service_fn(|request| serve(front, phase.clone(), request));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX).header_read_timeout(None).half_close(true);
    let mut served = pin!(builder.serve_connection(TokioIo::new(watched), service));
    let ended = {
        let stopped = pin!(stop.wait_for(|stop| *stop));
        match select(served.as_mut(), stopped).await {
            Either::Left((ended, _)) => Some(ended),
            Either::Right(_) => None,
        }
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        let reason = if error.is_parse() { "malformed" } else { "broken" };
        front.meter.refused_connection(reason);
        if error.is_parse() {
            front.notices.say(reason, || format!("a connection is refused: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_has_a_host_and_a_port_and_no_path() {
        let told = |text: &str| {
            let (scheme, rest) = text.split_once(':').unwrap();
            Address::parse(scheme, rest).map(|address| address.to_string())
        };
        assert_eq!(told("http://127.0.0.1:8080/").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(told("https://[::1]:0").unwrap(), "https://[::1]:0");
        for text in
            ["http:", "http://", "http://host", "http://:80", "http://h:x", "http://h:1/v1", "http://u@h:1", "http:h:1"]
        {
            assert!(told(text).is_err(), "{text}");
        }
    }
}
