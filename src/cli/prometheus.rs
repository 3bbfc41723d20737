//! `--prometheus`: serves the metrics of a run over HTTP, or writes them to a file for node_exporter's textfile
//! collector.
//!
//! Both run in a thread of their own and only read values: a slow reader cannot delay the run.

use evt_core::error::{Error, Result};
use evt_http::address::Address;
use evt_http::server::limits::descriptors::ConnectionLimit;
use evt_http::server::limits::timeouts::ConnectionTimeouts;
use evt_http::server::{Application, Logged, Reply, Route, Server, ServerOptions};
use evt_run::metrics::Metrics;
use evt_run::run::{Run, report_file};
use hyper::StatusCode;
use std::future::ready;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

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
pub enum Exporter {
    /// Nothing is exported.
    None,
    /// Serves them over HTTP, until it is dropped.
    Server(Server<Scraped>),
    /// Writes them to a file.
    File(FileWriter),
}

/// The metrics of a run as an application of the HTTP server.
pub struct Scraped(Metrics);

impl Application for Scraped {
    const ROUTES: &'static [Route<Self>] = &[Route {
        path: "/metrics",
        method: "GET",
        serve: |state, _| Box::pin(ready(Reply::metrics(state.app.0.render()).closing())),
    }];

    fn refusal(status: StatusCode, why: &str) -> Reply {
        Reply { status, ..Reply::text(format!("{why}\n")) }.closing()
    }
}

/// Writes the metrics to a file, in a thread of its own.
pub struct FileWriter {
    path: PathBuf,
    metrics: Metrics,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Exporter {
    /// Starts to serve, which a line reports, or to write.
    ///
    /// Errors: exit status 74 if that is not possible.
    pub fn start(target: &MetricsTarget, run: &Run) -> Result<Self> {
        match target {
            MetricsTarget::Address(address) => {
                let server = serve(address, run)?;
                run.console.notice(format!("metrics: {}/metrics", server.name));
                Ok(Self::Server(server))
            }
            MetricsTarget::File(path) => Ok(Self::File(FileWriter::start(path, &run.metrics)?)),
        }
    }

    /// Writes the final metrics to the file.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::None | Self::Server(_) => Ok(()),
            Self::File(writer) => writer.finish(),
        }
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

/// Serves the metrics of a run at `HOST:PORT` with one thread. Silent clients keep no scraper out: their connections
/// make room.
fn serve(address: &str, run: &Run) -> Result<Server<Scraped>> {
    let listener = TcpListener::bind(address).map_err(|error| Error::io(format!("--prometheus {address}"), &error))?;
    let options = ServerOptions {
        address: Address { tls: false, host: address.to_owned() },
        tls: None,
        tokens: None,
        anonymous: true,
        takes_basic: false,
        hosts: None,
        connections: ConnectionLimit::beside_run(CONNECTIONS_MAX, FILES_SHARE),
        threads: 1,
        timeouts: ConnectionTimeouts { idle: CONNECTION_MAX, head: CONNECTION_MAX, whole: CONNECTION_MAX },
        request_time: CONNECTION_MAX,
        log: Logged::Nothing,
    };
    Server::start(listener, options, run, |_| Ok(Scraped(run.metrics.clone())))
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
