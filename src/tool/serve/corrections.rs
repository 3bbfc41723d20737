//! The corrections that the stores have seen lately: a store before them still has the windows as they were.

use evt_core::serve::plan::CorrectedRange;
use evt_run::clock::Clock;
use evt_store::serving::StoredCorrection;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};

/// The corrections of each store, in the order of the stores.
pub type OfStores = Vec<Vec<StoredCorrection>>;

/// The corrections, read again when they are older than `--refresh`.
pub struct SeenCorrections {
    refresh: Duration,
    clock: Clock,
    seen: Mutex<Option<Seen>>,
    /// Held by the request that reads them.
    reading: AsyncMutex<()>,
}

#[derive(Clone)]
struct Seen {
    at: Duration,
    stores: Arc<OfStores>,
}

/// The turn to read them.
pub struct Turn<'a> {
    _turn: MutexGuard<'a, ()>,
    /// When they are read.
    at: Duration,
    /// What was seen last.
    pub last: Arc<OfStores>,
}

impl SeenCorrections {
    /// Makes it without any.
    pub fn new(refresh: Duration, clock: Clock) -> Self {
        Self { refresh, clock, seen: Mutex::default(), reading: AsyncMutex::default() }
    }

    fn last(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fresh(&self) -> Option<Arc<OfStores>> {
        let seen = self.last()?;
        (self.clock.monotonic() < seen.at + self.refresh).then_some(seen.stores)
    }

    /// Returns them if they are fresh, else the turn to read them.
    pub async fn fresh_or_turn(&self) -> Result<Arc<OfStores>, Turn<'_>> {
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let turn = self.reading.lock().await;
        // Another request may have read them meanwhile.
        match self.fresh() {
            Some(fresh) => Ok(fresh),
            None => {
                let last = self.last().map(|seen| seen.stores).unwrap_or_default();
                Err(Turn { _turn: turn, at: self.clock.monotonic(), last })
            }
        }
    }

    /// Keeps what was read in a turn.
    pub fn keep(&self, turn: Turn<'_>, stores: Arc<OfStores>) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { at: turn.at, stores });
    }
}

/// Returns the corrections of a metric in the stores behind one.
pub fn behind(stores: &OfStores, index: usize, metric: &str) -> Vec<CorrectedRange> {
    let behind = stores.iter().skip(index + 1).flatten().filter(|correction| correction.metric == metric);
    behind.map(|correction| CorrectedRange { range: correction.range, last_end: correction.last_end }).collect()
}
