//! What was fetched, for many threads: of those that ask for the same at the same time one fetches, the others wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A bounded number of values, each with the time it was fetched.
pub struct Cache<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
    max: usize,
}

/// Held while its value is fetched: whoever wants the same waits here.
type Slot<V> = Arc<Mutex<Option<(V, Instant)>>>;

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// Room for `max` values; when there are more all are forgotten.
    pub fn new(max: usize) -> Self {
        Self { slots: Mutex::default(), max }
    }

    /// The value of `key`: the one that is there if it is good for longer than its age, else what `fetch` makes of it.
    /// A fetch that fails leaves everything as it was.
    pub fn get<E>(
        &self,
        key: &K,
        good_for: impl Fn(&V) -> Duration,
        fetch: impl FnOnce(Option<&V>) -> Result<V, E>,
    ) -> Result<V, E> {
        let slot = self.slot(key);
        let mut entry = held(&slot);
        if let Some((value, since)) = entry.as_ref().filter(|(value, since)| since.elapsed() < good_for(value)) {
            let _ = since;
            return Ok(value.clone());
        }
        let value = fetch(entry.as_ref().map(|(value, _)| value))?;
        *entry = Some((value.clone(), Instant::now()));
        Ok(value)
    }

    /// Forgets what is known of `key`.
    pub fn forget(&self, key: &K) {
        held(&self.slots).remove(key);
    }

    fn slot(&self, key: &K) -> Slot<V> {
        let mut slots = held(&self.slots);
        if let Some(slot) = slots.get(key) {
            return slot.clone();
        }
        if slots.len() >= self.max {
            slots.clear();
        }
        slots.entry(key.clone()).or_default().clone()
    }
}

/// The lock, also after a thread that held it panicked: a value is there whole or not at all.
pub fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    const EVER: Duration = Duration::MAX;

    #[test]
    fn many_that_ask_for_the_same_make_one_fetch() {
        let (cache, fetched, start) = (Cache::<u32, u32>::new(8), AtomicU32::new(0), Barrier::new(16));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    start.wait();
                    let value = cache.get(&7, |_| EVER, |_| Ok::<_, ()>(70 + fetched.fetch_add(1, Ordering::SeqCst)));
                    assert_eq!(value, Ok(70));
                });
            }
        });
        assert_eq!(fetched.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_is_too_old_is_fetched_again_and_a_failure_changes_nothing() {
        let cache = Cache::<&str, u32>::new(8);
        assert_eq!(cache.get(&"a", |_| EVER, |old| old.map_or(Ok(1), |_| Err(()))), Ok(1));
        assert_eq!(cache.get(&"a", |_| Duration::ZERO, |old| old.map_or(Ok(9), |_| Err("away"))), Err("away"));
        assert_eq!(cache.get(&"a", |_| EVER, |_| Err(())), Ok(1), "it is there still");
        cache.forget(&"a");
        assert_eq!(cache.get(&"a", |_| EVER, |_| Err(())), Err(()));
    }

    #[test]
    fn it_never_holds_more_than_its_room() {
        let cache = Cache::<u32, u32>::new(4);
        for key in 0..100 {
            assert_eq!(cache.get(&key, |_| EVER, |_| Ok::<_, ()>(key)), Ok(key));
            assert!(held(&cache.slots).len() <= 4);
        }
    }
}
