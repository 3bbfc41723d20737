//! What the front door counts, as Prometheus reads it.

use crate::metrics::{self, Definition};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

type Labels<const N: usize> = [(&'static str, String); N];

/// Seconds that requests take, as the bounds of buckets.
const SECONDS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Counters of the front door. Cloning shares them.
#[derive(Clone)]
pub struct Meter {
    requests: Family<Labels<1>, Counter>,
    events: Family<Labels<1>, Counter>,
    refused_connections: Family<Labels<1>, Counter>,
    /// Bytes of bodies as they came.
    pub body_bytes: Counter,
    connections: Gauge,
    /// Seconds from a request's head to its answer.
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

/// A connection that is open as long as this lives, however it ends.
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What becomes of events at the front door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, and new.
    Accepted,
    /// Acknowledged, but kept before.
    Duplicate,
    /// Refused by itself.
    Rejected,
}

impl Meter {
    /// Enters everything into a registry.
    pub fn register(&self, registry: &mut Registry) {
        let Self { requests, events, refused_connections, body_bytes, connections, seconds } = self;
        enter(registry, &metrics::HTTP_EVENTS, events.clone());
        enter(registry, &metrics::HTTP_REQUESTS, requests.clone());
        enter(registry, &metrics::HTTP_BODY, body_bytes.clone());
        enter(registry, &metrics::HTTP_CONNECTIONS, connections.clone());
        enter(registry, &metrics::HTTP_REFUSED, refused_connections.clone());
        enter(registry, &metrics::HTTP_SECONDS, seconds.clone());
    }

    /// Counts a connection for as long as it is open.
    pub fn open(&self) -> Open {
        self.connections.inc();
        Open(self.connections.clone())
    }

    /// Counts a request that is answered.
    pub fn request(&self, status: u16) {
        self.requests.get_or_create(&[("status", status.to_string())]).inc();
    }

    /// Counts events.
    pub fn events(&self, outcome: Outcome, count: usize) {
        if count > 0 {
            let outcome = match outcome {
                Outcome::Accepted => "accepted",
                Outcome::Duplicate => "duplicate",
                Outcome::Rejected => "rejected",
            };
            self.events.get_or_create(&[("outcome", outcome.to_owned())]).inc_by(count as u64);
        }
    }

    /// Counts a connection that is ended for a reason.
    pub fn refused_connection(&self, reason: &str) {
        self.refused_connections.get_or_create(&[("reason", reason.to_owned())]).inc();
    }
}

/// Enters a metric as the table has it; the registry adds the full stop of its sentence.
fn enter(registry: &mut Registry, definition: &Definition, metric: impl Metric) {
    registry.register(definition.family(), definition.about.trim_end_matches('.'), metric);
}
