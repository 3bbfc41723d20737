//! Outages of brokers: decides which of a run's clients reports the beginning of an outage and which its end.
//!
//! Times are those of the run's monotonic clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// librdkafka may still deliver errors queued during an outage, and brokers that start may fail again. Errors that
/// arrive within this time after its end do not begin a new outage at once.
const LATE_ERRORS: Duration = Duration::from_secs(15);
/// Errors begin an outage after they have persisted this long: longer than an idle client needs to get its next
/// statistics.
const CONFIRMED_AFTER: Duration = Duration::from_secs(7);

/// The outages of a run, by broker list. The first client that notices one reports it, and the first that gets an
/// answer reports its end. Clones share their state.
#[derive(Clone, Default)]
pub struct Outages(Arc<Mutex<BTreeMap<String, Outage>>>);

/// The last outage of a broker list.
#[derive(Clone, Copy)]
struct Outage {
    number: u64,
    state: State,
}

/// Whether an outage is in progress, and since when.
#[derive(Clone, Copy)]
enum State {
    Since(Duration),
    Over(Duration),
}

impl Outages {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Outage>> {
        // Each change is one insertion, so the data is valid after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a client has had no answer from these brokers since `since`. Returns the number of the outage, and
    /// whether the client must report it as new. Within `LATE_ERRORS` of the end of the last outage, a new outage is
    /// reported only after it has lasted for `CONFIRMED_AFTER`.
    pub fn begin(&self, brokers: &str, since: Duration, now: Duration) -> (u64, bool) {
        let mut known = self.known();
        let (number, since) = match known.get(brokers) {
            None => (1, since),
            Some(Outage { number, state: State::Since(_) }) => return (*number, false),
            Some(Outage { number, state: State::Over(at) }) => {
                let since = since.max(*at);
                let may_be_late_error = since.saturating_sub(*at) <= LATE_ERRORS;
                if may_be_late_error && now.saturating_sub(since) < CONFIRMED_AFTER {
                    return (*number, false);
                }
                (number + 1, since)
            }
        };
        known.insert(brokers.to_owned(), Outage { number, state: State::Since(since) });
        (number, true)
    }

    /// Whether an outage of any brokers is in progress.
    pub fn is_any(&self) -> bool {
        self.known().values().any(|outage| matches!(outage.state, State::Since(_)))
    }

    /// Notes that a client in outage `number` has an answer. Returns the length of the outage if the client must report
    /// its end.
    pub fn end(&self, brokers: &str, number: u64, now: Duration) -> Option<Duration> {
        let mut known = self.known();
        let outage = known.get_mut(brokers).filter(|outage| outage.number == number)?;
        let State::Since(since) = outage.state else { return None };
        outage.state = State::Over(now);
        Some(now.saturating_sub(since))
    }
}
