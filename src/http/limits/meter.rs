//! The metrics of the HTTP server.

use crate::metrics::{self, Definition};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

type Labels<const N: usize> = [(&'static str, String); N];

/// Upper bounds of the histogram of request times, in seconds.
const SECONDS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// The metrics of the HTTP server. Clones share them.
#[derive(Clone)]
pub struct Meter {
    requests: Family<Labels<1>, Counter>,
    events: Family<Labels<1>, Counter>,
    refused_connections: Family<Labels<1>, Counter>,
    /// Bytes of bodies as received.
    pub body_bytes: Counter,
    connections: Gauge,
    /// Seconds from the end of a request's head to its answer.
    pub seconds: Histogram,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            events: Family::default(),
            refused_connections: Family::default(),
            body_bytes: Counter::default(),
            connections: Gauge::default(),
            seconds: Histogram::new(SECONDS),
        }
    }
}

/// An open connection: counted until it is dropped.
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateOutcome {
    /// Acknowledged, and new.
    Accepted,
    /// Acknowledged, and kept before.
    Duplicate,
    /// Refused.
    Rejected,
}

impl Meter {
    /// Registers all metrics.
    pub fn register(&self, registry: &mut Registry) {
        let Self { requests, events, refused_connections, body_bytes, connections, seconds } = self;
        enter(registry, &metrics::HTTP_EVENTS, events.clone());
        enter(registry, &metrics::HTTP_REQUESTS, requests.clone());
        enter(registry, &metrics::HTTP_BODY, body_bytes.clone());
        enter(registry, &metrics::HTTP_CONNECTIONS, connections.clone());
        enter(registry, &metrics::HTTP_REFUSED, refused_connections.clone());
        enter(registry, &metrics::HTTP_SECONDS, seconds.clone());
    }

    /// Counts a connection as open until the result is dropped.
    pub fn open(&self) -> Open {
        self.connections.inc();
        Open(self.connections.clone())
    }

    /// Counts an answered request.
    pub fn request(&self, status: u16) {
        self.requests.get_or_create(&[("status", status.to_string())]).inc();
    }

    /// Counts events.
    pub fn events(&self, outcome: RateOutcome, count: usize) {
        if count > 0 {
            let outcome = match outcome {
                RateOutcome::Accepted => "accepted",
                RateOutcome::Duplicate => "duplicate",
                RateOutcome::Rejected => "rejected",
            };
            self.events.get_or_create(&[("outcome", outcome.to_owned())]).inc_by(count as u64);
        }
    }

    /// Counts a connection that was refused or aborted.
    pub fn refused_connection(&self, reason: &str) {
        self.refused_connections.get_or_create(&[("reason", reason.to_owned())]).inc();
    }
}

/// Registers a metric by its definition. The registry appends the full stop of its help text.
fn enter(registry: &mut Registry, definition: &Definition, metric: impl Metric) {
    registry.register(definition.family(), definition.about.trim_end_matches('.'), metric);
}
