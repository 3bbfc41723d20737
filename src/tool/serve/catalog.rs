//! The metrics that the stores have, as they were seen last.

use super::stores::{NoStore, ServedStores};
use evt_run::clock::Clock;
use evt_store::serving::StoredMetric;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;

/// Metrics that take long to read, as those of a large lake, are read again after this many times as long.
const TIMES_TO_READ: u32 = 20;

/// The metrics by their names.
pub type KnownMetrics = BTreeMap<String, StoredMetric>;

/// The metrics, read again when they are older than `--refresh` and somebody asks.
pub struct Catalog {
    /// How long they count as fresh; longer if it takes long to read them.
    refresh: Duration,
    clock: Clock,
    seen: Mutex<Option<Seen>>,
    /// Held by the request that reads them.
    reading: AsyncMutex<()>,
}

#[derive(Clone)]
struct Seen {
    at: Duration,
    /// How long it took to read them.
    took: Duration,
    metrics: Arc<KnownMetrics>,
}

impl Catalog {
    /// Makes one that has seen nothing yet.
    pub fn new(refresh: Duration, clock: Clock) -> Self {
        Self { refresh, clock, seen: Mutex::default(), reading: AsyncMutex::default() }
    }

    fn last(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fresh(&self) -> Option<Arc<KnownMetrics>> {
        let seen = self.last()?;
        let time = self.refresh.max(seen.took * TIMES_TO_READ);
        (self.clock.monotonic() < seen.at + time).then_some(seen.metrics)
    }

    /// Returns the metrics, at most `--refresh` old. Errors: no store answers.
    pub async fn metrics(&self, stores: &ServedStores) -> Result<Arc<KnownMetrics>, NoStore> {
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let _reading = self.reading.lock().await;
        // Another request may have read them meanwhile.
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let at = self.clock.monotonic();
        let mut metrics = KnownMetrics::new();
        for metric in stores.metrics().await? {
            match metrics.get_mut(&metric.name) {
                None => {
                    metrics.insert(metric.name.clone(), metric);
                }
                Some(known) => join(known, metric),
            }
        }
        let metrics = Arc::new(metrics);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Seen { at, took: self.clock.monotonic() - at, metrics: metrics.clone() });
        Ok(metrics)
    }

    /// Returns a metric as it was seen last, however old that is; reads all of them if it was not. Errors: no store
    /// answers.
    pub async fn metric(&self, stores: &ServedStores, name: &str) -> Result<Option<StoredMetric>, NoStore> {
        if let Some(known) = self.last().and_then(|seen| seen.metrics.get(name).cloned()) {
            return Ok(Some(known));
        }
        Ok(self.metrics(stores).await?.get(name).cloned())
    }
}

/// Adds what a later store has of a metric.
fn join(known: &mut StoredMetric, other: StoredMetric) {
    known.first_start = known.first_start.min(other.first_start);
    known.last_end = known.last_end.max(other.last_end);
    known.sizes.extend(other.sizes);
    for (name, values) in other.dimensions {
        let of_known = known.dimensions.entry(name).or_default();
        let new: Vec<String> = values.into_iter().filter(|value| !of_known.contains(value)).collect();
        of_known.extend(new);
    }
}
