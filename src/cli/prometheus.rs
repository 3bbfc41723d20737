//! `--prometheus`: serves the metrics of a run over HTTP, or writes them to a file for node_exporter's textfile
//! collector.
//!
//! Both run in a thread of their own and only read values: a slow reader cannot delay the run.

use crate::error::{Error, Result};
use crate::metrics::{MEDIA_TYPE, Metrics};
use crate::run::report_file;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, getrlimit};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// Interval of writes to the file.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// Maximum number of open connections.
const CONNECTIONS_MAX: usize = 64;
/// Connections take at most this fraction of the limit of open files: the run needs the others.
const FILES_SHARE: u64 = 8;
/// Maximum lifetime of a connection, its request included.
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// The target of metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsTarget {
    /// `HOST:PORT`; `:PORT` is the loopback.
    Address(String),
    /// A file.
    File(PathBuf),
}

impl MetricsTarget {
    /// Parses a target. An address ends in a colon and a port; everything else is a file.
    pub fn parse(text: &str) -> Self {
        match text.rsplit_once(':') {
            Some((host, port)) if !text.contains('/') && port.parse::<u16>().is_ok() => {
                Self::Address(if host.is_empty() { format!("127.0.0.1:{port}") } else { text.to_owned() })
            }
            _ => Self::File(text.into()),
        }
    }
}

/// Exports the metrics during the run.
#[derive(Default)]
pub struct Exporter {
    /// The address they are served at, with the actual port.
    pub address: Option<SocketAddr>,
    file: Option<FileWriter>,
}

struct FileWriter {
    path: PathBuf,
    metrics: Metrics,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Exporter {
    /// Starts to serve or to write.
    ///
    /// Errors: exit status 74 if that is not possible.
    pub fn start(target: &MetricsTarget, metrics: &Metrics) -> Result<Self> {
        match target {
            MetricsTarget::Address(address) => Ok(Self { address: Some(serve(address, metrics.clone())?), file: None }),
            MetricsTarget::File(path) => Ok(Self { address: None, file: Some(FileWriter::start(path, metrics)?) }),
        }
    }

    /// Writes the final metrics to the file.
    pub fn finish(self) -> Result<()> {
        self.file.map_or(Ok(()), FileWriter::finish)
    }
}

impl FileWriter {
    fn start(path: &Path, metrics: &Metrics) -> Result<Self> {
        report_file::write(path, &metrics.render())?;
        let (stop, stopped) = channel();
        let (of_thread, values) = (path.to_owned(), metrics.clone());
        let thread = std::thread::Builder::new().name("prometheus".to_owned());
        let thread = thread.spawn(move || {
            while stopped.recv_timeout(WRITE_EVERY) == Err(RecvTimeoutError::Timeout) {
                // The final write repeats this and reports an error.
                let _ = report_file::write(&of_thread, &values.render());
            }
        });
        let thread = thread.map_err(|error| Error::io("cannot start a thread", &error))?;
        Ok(Self { path: path.to_owned(), metrics: metrics.clone(), stop, thread })
    }

    fn finish(self) -> Result<()> {
        drop(self.stop);
        // The thread does not panic; the final write follows here.
        let _ = self.thread.join();
        report_file::write(&self.path, &self.metrics.render())
    }
}

fn serve(address: &str, metrics: Metrics) -> Result<SocketAddr> {
    let failed = |error: std::io::Error| Error::io(format!("--prometheus {address}"), &error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let thread = std::thread::Builder::new().name("prometheus".to_owned());
    // It ends with the process.
    thread.spawn(move || runtime.block_on(accept(listener, metrics))).map_err(failed)?;
    Ok(bound)
}

async fn accept(listener: TcpListener, metrics: Metrics) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / FILES_SHARE;
    let most = usize::try_from(files).unwrap_or(CONNECTIONS_MAX).clamp(1, CONNECTIONS_MAX);
    let mut open = VecDeque::with_capacity(most);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Probably out of file descriptors: retry later.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        make_room(&mut open, most);
        open.push_back(Connection::serve(stream, metrics.clone()));
        // A request that has arrived is read before the next connection can close this one.
        tokio::task::yield_now().await;
    }
}

/// An open connection.
struct Connection {
    task: AbortHandle,
    /// Whether the head of its request is complete.
    has_asked: Arc<AtomicBool>,
}

impl Connection {
    fn serve(stream: TcpStream, metrics: Metrics) -> Self {
        let has_asked = Arc::new(AtomicBool::new(false));
        let asked = has_asked.clone();
        let task = tokio::spawn(async move {
            let service = service_fn(async |request| {
                asked.store(true, Ordering::Relaxed);
                Ok::<_, Infallible>(answer(&request, &metrics))
            });
            let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
            // Clients that are too slow or do not speak HTTP get no answer.
            let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
        });
        Self { task: task.abort_handle(), has_asked }
    }
}

/// Makes room for one more connection. If there is none, this closes the oldest connection without a request, so that
/// clients that send nothing keep no scraper out; and the oldest of all if each has a request.
fn make_room(open: &mut VecDeque<Connection>, most: usize) {
    open.retain(|connection| !connection.task.is_finished());
    if open.len() >= most {
        let silent = open.iter().position(|connection| !connection.has_asked.load(Ordering::Relaxed));
        if let Some(closed) = open.remove(silent.unwrap_or(0)) {
            closed.task.abort();
        }
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => (StatusCode::OK, MEDIA_TYPE, metrics.render()),
        ("/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET, HEAD\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "expected /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_from_a_file() {
        let address = |text: &str| MetricsTarget::Address(text.to_owned());
        assert_eq!(MetricsTarget::parse(":9100"), address("127.0.0.1:9100"));
        assert_eq!(MetricsTarget::parse("0.0.0.0:9100"), address("0.0.0.0:9100"));
        assert_eq!(MetricsTarget::parse("localhost:0"), address("localhost:0"));
        assert_eq!(MetricsTarget::parse("[::1]:9100"), address("[::1]:9100"));
        for file in ["evt.prom", "/var/lib/evt:1/x.prom", "./a:1", "a:b"] {
            assert_eq!(MetricsTarget::parse(file), MetricsTarget::File(file.into()));
        }
    }
}
