//! Accepts connections at `http://HOST:PORT` or `https://HOST:PORT`, serves and closes them.

use super::body::SOON;
use super::limits::watch::{HEAD_BYTES_MAX, Phase, Watched};
use super::service::serve;
use super::state::{Front, Options, check_reach};
use super::tls::acceptor;
use super::token::Tokens;
use crate::error::{Error, Result};
use crate::run::Run;
use crate::spool::request::Keeper;
use crate::stop::Stop;
use crate::uri::http::Address;
use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use signal_hook::consts::SIGHUP;
use std::io::Read;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Maximum number of threads: the stage loop and the spool need CPUs too.
const THREADS_MAX: usize = 8;
/// Maximum number of headers in a request.
const HEADERS_MAX: usize = 100;
/// File descriptors that are needed besides connections: files, the spool, pipes.
const DESCRIPTORS: u64 = 256;

/// Resolves the socket address to bind.
pub fn resolve(address: &Address) -> Result<SocketAddr> {
    let found = address.host.to_socket_addrs().map_err(|error| Error::io(address.to_string(), &error))?.next();
    found.ok_or_else(|| Error::usage(format!("{address}: the host name has no address")))
}

/// Checks that the address can be bound now.
pub fn check_address(address: &Address) -> Result<()> {
    std::net::TcpListener::bind(resolve(address)?).map(drop).map_err(|error| Error::io(address.to_string(), &error))
}

/// A running server. Dropping it closes it at once.
pub struct Server {
    front: Arc<Front>,
    address: SocketAddr,
    closing: Arc<watch::Sender<bool>>,
    connections: Arc<Semaphore>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Checks that the server could start: who could reach it, its tokens, its certificate. Returns the files that each needs.
    pub fn check(options: &Options) -> [Result<Vec<&Path>>; 3] {
        let tokens = options.tokens.as_deref();
        let pem = options.tls.iter().flat_map(|tls| [&*tls.certificate, &*tls.key]).collect();
        [
            resolve(&options.address).and_then(|reach| check_reach(options, reach)).map(|()| vec![]),
            tokens.map_or(Ok(vec![]), |path| Tokens::read(path).map(|_| vec![path])),
            acceptor(&options.address, options.tls.as_ref()).map(|_| pem),
        ]
    }

    /// Starts the server and reports its address. Errors: exit status 2 if it would be open to everybody without `--anonymous`,
    /// 74 if it cannot bind the address.
    pub fn open(options: Options, keeper: Arc<dyn Keeper>, run: &Run) -> Result<Self> {
        let console = &run.console;
        let reach = resolve(&options.address)?;
        check_reach(&options, reach)?;
        let tls = acceptor(&options.address, options.tls.as_ref())?;
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
        let front = Arc::new(Front::new(options, tls, keeper, run)?);
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

    /// Returns the bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting connections; returns at once. A thread lets requests in progress finish, for as long as one may take,
    /// and then drops the keeper.
    pub fn drain(mut self) {
        close(&self.front, &self.closing);
        let Some(runtime) = self.runtime.take() else { return };
        let finish = move || {
            // The body and its keeping have this time each, one after the other.
            let wait = 2 * self.front.options.request_time;
            let all = u32::try_from(self.front.options.connections).unwrap_or(u32::MAX);
            let gone = async { tokio::time::timeout(wait, self.connections.acquire_many(all)).await.is_ok() };
            if !runtime.block_on(gone) {
                self.front.console.say("connections are closed: their requests took too long");
            }
            self.front.let_go();
            runtime.shutdown_background();
        };
        // If no thread can be started, connections are closed at once.
        let _ = std::thread::Builder::new().name("drain".to_owned()).spawn(finish);
    }
}

/// Closes the listener and idle connections; the server is no longer ready.
fn close(front: &Front, closing: &watch::Sender<bool>) {
    front.draining.store(true, Ordering::Relaxed);
    closing.send_replace(true);
}

/// Closes the server at the first signal, whatever the stage loop is waiting for.
fn close_on_signal(front: Arc<Front>, closing: Arc<watch::Sender<bool>>, stop: Stop) -> Result<()> {
    let wait = move || {
        // This thread ends with the process.
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

/// Raises the limit of file descriptors to what the connections need, as far as permitted.
fn raise_descriptors(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = DESCRIPTORS.saturating_add(connections as u64);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let current = Some(maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        // With fewer descriptors accepting fails, which is reported.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
}

/// Reads tokens and certificate again at every SIGHUP; without them the signal is ignored.
fn reload_on_hangup(front: Arc<Front>) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("signal handlers", &error);
    let (mut read, write) = UnixStream::pair().map_err(failed)?;
    signal_hook::low_level::pipe::register(SIGHUP, write).map_err(failed)?;
    let wait = move || {
        // This thread ends with the process.
        while read.read(&mut [0; 16]).is_ok_and(|count| count > 0) {
            front.reload();
        }
    };
    std::thread::Builder::new().name("tokens".to_owned()).spawn(wait).map_err(failed)?;
    Ok(())
}

/// Accepts connections until the server closes.
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
                front.notices.say("accept", || format!("accepting a connection failed: {error}"));
                // Usually descriptors have run out: wait for some to be closed.
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

/// Refuses a connection beyond `--max-connections`.
fn refuse(front: &Front, stream: TcpStream) {
    let most = front.options.connections;
    front.meter.refused_connection("too_many");
    front.notices.say("too_many", || format!("connections are rejected: {most} are open (--max-connections)"));
    if !front.options.address.tls {
        // The answer is best effort: the server does not wait for the client.
        let _ = stream.try_write(
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        );
    }
}

/// Serves a connection, after a TLS handshake if there is a certificate.
async fn connection(front: &Arc<Front>, stream: TcpStream, permit: OwnedSemaphorePermit, stop: watch::Receiver<bool>) {
    let open = front.meter.open();
    // Answers are small and written at once, so Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    match front.acceptor() {
        None => converse(front, stream, stop).await,
        Some(tls) => match tokio::time::timeout(front.options.patience.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => converse(front, stream, stop).await,
            _ => {
                front.meter.refused_connection("tls");
                front.notices.say("tls", || "a connection is rejected: the TLS handshake failed".to_owned());
            }
        },
    }
    drop((open, permit));
}

/// Serves the requests of a connection.
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
            front.notices.say(reason, || format!("a connection is rejected: {error}"));
        }
    }
}
