//! The metrics of the HTTP server.

use evt_run::metrics::{self, Definition};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// Upper bounds of the histogram of request times, in seconds.
const SECONDS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Counters by the value of one label.
pub type Counters = Family<[(&'static str, String); 1], Counter>;

/// The metrics of the HTTP server. Clones share them.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Counters,
    /// Bytes of bodies as received.
    pub body_bytes: Counter,
    connections: Gauge,
    refused_connections: Counters,
    /// Seconds from the end of a request's head to its answer.
    pub seconds: Histogram,
}

/// An open connection: counted until it is dropped.
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl HttpMetrics {
    /// Registers all metrics.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            requests: register(registry, &metrics::HTTP_REQUESTS, Family::default()),
            body_bytes: register(registry, &metrics::HTTP_BODY, Counter::default()),
            connections: register(registry, &metrics::HTTP_CONNECTIONS, Gauge::default()),
            refused_connections: register(registry, &metrics::HTTP_REFUSED, Family::default()),
            seconds: register(registry, &metrics::HTTP_SECONDS, Histogram::new(SECONDS)),
        }
    }

    /// Counts a connection as open until the result is dropped.
    pub fn open(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// Counts an answered request.
    pub fn request(&self, status: u16) {
        self.requests.get_or_create(&[("status", status.to_string())]).inc();
    }

    /// Counts a connection that was refused or aborted.
    pub fn refused_connection(&self, reason: &str) {
        self.refused_connections.get_or_create(&[("reason", reason.to_owned())]).inc();
    }
}

/// Registers a metric by its definition, without the full stop of the help text, which the registry appends.
pub fn register<M: Metric + Clone>(registry: &mut Registry, definition: &Definition, metric: M) -> M {
    registry.register(definition.family(), definition.about.trim_end_matches('.'), metric.clone());
    metric
}
