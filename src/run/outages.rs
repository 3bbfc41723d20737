//! Outages of brokers: which of a run's clients says that one begins, and which that it is over.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long after brokers were back a client may still speak of the time before: its words lie in its queue until it is heard,
/// and brokers that start may fall once more.
const ECHO: Duration = Duration::from_secs(15);
/// How long it must have stood by what it says then to be believed: longer than a client that is idle takes to tell of itself.
const STANDS: Duration = Duration::from_secs(7);

/// Brokers that were away in this run: whoever of its clients notices it first says so, and whoever has an answer first.
#[derive(Default)]
pub struct Outages(RefCell<BTreeMap<String, Outage>>);

/// The last one of some brokers.
#[derive(Clone, Copy)]
struct Outage {
    number: u64,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Since(Instant),
    Over(Instant),
}

impl Outages {
    /// A client has found these brokers away since then, and has had no answer since. The number of the outage that it speaks
    /// of, and whether it is news: soon after the end of one it is believed once it has stood for a while.
    pub fn begin(&self, brokers: &str, (since, now): (Instant, Instant)) -> (u64, bool) {
        let mut known = self.0.borrow_mut();
        let (number, since) = match known.get(brokers) {
            None => (1, since),
            Some(Outage { number, state: State::Since(_) }) => return (*number, false),
            Some(Outage { number, state: State::Over(at) }) => {
                let since = since.max(*at);
                let is_late_word = since.saturating_duration_since(*at) <= ECHO;
                if is_late_word && now.saturating_duration_since(since) < STANDS {
                    return (*number, false);
                }
                (number + 1, since)
            }
        };
        known.insert(brokers.to_owned(), Outage { number, state: State::Since(since) });
        (number, true)
    }

    /// A client that found these brokers away in outage `number` has an answer; for how long they were, where nobody has said
    /// so.
    pub fn end(&self, brokers: &str, number: u64, now: Instant) -> Option<Duration> {
        let mut known = self.0.borrow_mut();
        let outage = known.get_mut(brokers).filter(|outage| outage.number == number)?;
        let State::Since(since) = outage.state else { return None };
        outage.state = State::Over(now);
        Some(now.saturating_duration_since(since))
    }
}
