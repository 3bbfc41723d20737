//! Accepts connections at `http://HOST:PORT` or `https://HOST:PORT`, serves and closes them.

use super::application::Application;
use super::limits::descriptors::ConnectionLimit;
use super::limits::silent::OpenConnections;
use super::limits::timeouts::{HEAD_BYTES_MAX, Phase, TimedStream};
use super::service::serve;
use super::state::{ServerOptions, ServerState};
use super::tls::acceptor;
use super::token::Tokens;
use crate::address::Address;
use evt_core::error::{Error, Result};
use evt_run::run::Run;
use evt_run::stop::Stop;
use evt_run::thread;
use futures_util::future::{Either, select};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::TRANSFER_ENCODING;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use signal_hook::consts::SIGHUP;
use std::io::Read;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Maximum number of headers in a request.
const HEADERS_MAX: usize = 100;
/// Pause after a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Resolves the socket address to bind.
fn resolve(address: &Address) -> Result<SocketAddr> {
    let found = address.host.to_socket_addrs().map_err(|error| Error::io(address.to_string(), &error))?.next();
    found.ok_or_else(|| Error::usage(format!("{address}: the host name has no address")))
}

/// Checks that the address can be bound now.
pub fn check_address(address: &Address) -> Result<()> {
    std::net::TcpListener::bind(resolve(address)?).map(drop).map_err(|error| Error::io(address.to_string(), &error))
}

/// Resolves the socket address to bind. Errors: exit status 2 for an address that other hosts can reach, without
/// `--tokens` or `--anonymous`.
fn bindable(options: &ServerOptions) -> Result<SocketAddr> {
    let resolved = resolve(&options.address)?;
    if resolved.ip().is_loopback() || options.tokens.is_some() || options.anonymous {
        return Ok(resolved);
    }
    Err(Error::usage(format!("{}: a non-loopback listener needs --tokens FILE or --anonymous", options.address)))
}

/// Checks that a server could start: its address and connections, its tokens and its certificate. Returns the files
/// that each of the three needs.
pub fn check(options: &ServerOptions) -> [Result<Vec<&Path>>; 3] {
    let tokens = options.tokens.as_deref();
    let pem = options.tls.iter().flat_map(|tls| [&*tls.certificate, &*tls.key]).collect();
    [
        bindable(options).and_then(|_| options.connections.of_process()).map(|_| vec![]),
        tokens.map_or(Ok(vec![]), |path| Tokens::read(path).map(|_| vec![path])),
        acceptor(&options.address, options.tls.as_ref()).map(|_| pem),
    ]
}

/// A running server. Dropping it closes it at once.
pub struct Server<A: Application> {
    /// Its URI with the bound address.
    pub name: String,
    state: Arc<ServerState<A>>,
    runtime: Option<Runtime>,
}

impl<A: Application> Server<A> {
    /// Starts a server that is an input of a run, and reports its address: it closes at the first signal and reads its
    /// files again at SIGHUP. `make` makes the state of the tool and registers its metrics. Errors: exit status 2 if
    /// other hosts could send without a token and `--anonymous` is not given, 74 if it cannot bind the address, 78 if
    /// the process may open too few files.
    pub fn open(mut options: ServerOptions, run: &Run, make: impl FnOnce(&mut Registry) -> Result<A>) -> Result<Self> {
        let address = bindable(&options)?;
        let wanted = options.connections.most;
        options.connections = options.connections.of_process()?;
        let listener = std::net::TcpListener::bind(address);
        let listener = listener.map_err(|error| Error::io(options.address.to_string(), &error))?;
        let server = Self::start(listener, options, run, make)?;
        reload_on_hangup(server.state.clone())?;
        close_on_signal(server.state.clone(), run.stop.clone())?;
        if let Some(notice) = server.state.options.connections.notice(wanted) {
            run.console.say(notice);
        }
        run.console.say(format!("listening on {}", server.name));
        Ok(server)
    }

    /// Starts to serve at a bound listener, without a word and whatever the signals. Errors: those of `make`, and exit
    /// status 74 if it cannot serve there.
    pub fn start(
        listener: std::net::TcpListener,
        options: ServerOptions,
        run: &Run,
        make: impl FnOnce(&mut Registry) -> Result<A>,
    ) -> Result<Self> {
        let failed = |error: std::io::Error| Error::io(options.address.to_string(), &error);
        listener.set_nonblocking(true).map_err(failed)?;
        let name = options.address.at(listener.local_addr().map_err(failed)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(failed)?;
        let state = Arc::new(ServerState::new(options, run, make)?);
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(|error| Error::io(name.clone(), &error))?
        };
        runtime.spawn(accept(state.clone(), listener));
        Ok(Self { name, state, runtime: Some(runtime) })
    }

    /// Stops accepting connections, waits for the requests in progress, for at most the time that one request may take,
    /// and then ends the application.
    pub fn drain(mut self) {
        self.state.close();
        let Some(runtime) = self.runtime.take() else { return };
        let (request_time, connections) = (self.state.options.request_time, self.state.options.connections.most);
        // Receiving the body and storing it may take this time each, one after the other.
        let wait = 2 * request_time;
        let all = self.state.connections.acquire_many(u32::try_from(connections).unwrap_or(u32::MAX));
        if !runtime.block_on(async { tokio::time::timeout(wait, all).await.is_ok() }) {
            self.state.console.say("connections are closed: their requests took too long");
        }
        self.state.app.end();
        runtime.shutdown_background();
    }

    /// Stops accepting connections; returns at once, while a thread drains the server.
    pub fn drain_beside(self) {
        self.state.close();
        // If no thread can be started, connections are closed at once.
        let _ = thread::spawn("drain", move || self.drain());
    }
}

/// Closes the server at the first signal, even while the stage loop waits for something else.
fn close_on_signal<A: Application>(state: Arc<ServerState<A>>, stop: Stop) -> Result<()> {
    let wait = move || {
        // This thread ends with the process.
        if stop.wait_for_signal() {
            state.close();
        }
    };
    thread::spawn("signal", wait).map(drop)
}

impl<A: Application> Drop for Server<A> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            self.state.app.end();
            runtime.shutdown_background();
        }
    }
}

/// Reads tokens and certificate again at every SIGHUP; without them the signal is ignored.
fn reload_on_hangup<A: Application>(state: Arc<ServerState<A>>) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("signal handlers", &error);
    let (mut read, write) = UnixStream::pair().map_err(failed)?;
    signal_hook::low_level::pipe::register(SIGHUP, write).map_err(failed)?;
    let wait = move || {
        // This thread ends with the process.
        while read.read(&mut [0; 16]).is_ok_and(|count| count > 0) {
            state.reload();
        }
    };
    std::thread::Builder::new().name("tokens".to_owned()).spawn(wait).map_err(failed)?;
    Ok(())
}

/// Accepts connections until the server closes.
async fn accept<A: Application>(state: Arc<ServerState<A>>, listener: TcpListener) {
    let ConnectionLimit { makes_room, .. } = state.options.connections;
    let mut open = OpenConnections::default();
    loop {
        let accepted = match select(pin!(listener.accept()), pin!(state.closed())).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(_) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                state.metrics.refused_connection("accept");
                state.notices.say("accept", || format!("accepting a connection failed: {error}"));
                // Descriptors may have run out in spite of the reserve: wait for some to be closed.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let permit = match state.connections.clone().try_acquire_owned() {
            Ok(permit) => permit,
            // A connection that comes while the server drains is closed, as one that is not accepted yet.
            Err(_) if state.is_closed() => return,
            Err(_) if !makes_room => {
                refuse(&state, stream);
                continue;
            }
            Err(_) => {
                open.close_one();
                // The permits are never closed.
                let Ok(permit) = state.connections.clone().acquire_owned().await else { return };
                permit
            }
        };
        let phase = Phase::new(state.app.body_max());
        let (served, of_connection) = (state.clone(), phase.clone());
        let task = tokio::spawn(async move {
            let whole = served.options.timeouts.whole;
            // A connection whose time is over is closed.
            let _ = tokio::time::timeout(whole, connection(&served, of_connection, stream)).await;
            drop(permit);
        });
        if makes_room {
            open.add(task.abort_handle(), phase);
            // A request that has arrived is read before the next connection can close this one.
            tokio::task::yield_now().await;
        }
    }
}

/// Refuses a connection beyond the limit.
fn refuse<A: Application>(state: &ServerState<A>, stream: TcpStream) {
    let ConnectionLimit { most, set_by, .. } = state.options.connections;
    state.metrics.refused_connection("too_many");
    state.notices.say("too_many", || format!("connections are rejected: {most} are open ({set_by})"));
    if !state.options.address.tls {
        // The answer is best effort: the server does not wait for the client.
        let _ = stream.try_write(
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        );
    }
}

/// Serves a connection, after a TLS handshake if there is a certificate.
async fn connection<A: Application>(state: &Arc<ServerState<A>>, phase: Phase, stream: TcpStream) {
    let _open = state.metrics.open();
    // Answers are small and written at once, so Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    match state.acceptor() {
        None => converse(state, phase, stream).await,
        Some(tls) => match tokio::time::timeout(state.options.timeouts.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => converse(state, phase, stream).await,
            _ => {
                state.metrics.refused_connection("tls");
                state.notices.say("tls", || "a connection is rejected: the TLS handshake failed".to_owned());
            }
        },
    }
}

/// Serves the requests of a connection.
async fn converse<A: Application>(
    state: &Arc<ServerState<A>>,
    phase: Phase,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
) {
    let stream = TimedStream::new(stream, phase.clone(), state.options.timeouts, state.metrics.clone());
    let service = service_fn(|request: Request<Incoming>| {
        // Not within the future: hyper may read the body before it polls that.
        phase.begin(request.headers().contains_key(TRANSFER_ENCODING));
        serve(state, &phase, request)
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX).header_read_timeout(None).half_close(true);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = match select(served.as_mut(), pin!(state.closed())).await {
        Either::Left((ended, _)) => ended,
        Either::Right(((), mut served)) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        let reason = if error.is_parse() { "malformed" } else { "broken" };
        state.metrics.refused_connection(reason);
        if error.is_parse() {
            state.notices.say(reason, || {
                // The error does not say which of the two limits it was.
                let kib = HEAD_BYTES_MAX >> 10;
                let limits = format!("the request head has more than {HEADERS_MAX} headers or {kib} KiB (431)");
                let cause = if error.is_parse_too_large() { limits } else { error.to_string() };
                format!("a connection is rejected: {cause}")
            });
        }
    }
}
