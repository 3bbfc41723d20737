//! A cache for many threads: if several request the same key at once, one fetches and the others wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A bounded number of values, each with the time of its fetch.
pub struct Cache<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
    max: usize,
}

type Slot<V> = Arc<CacheEntry<V>>;

/// The value of one key.
struct CacheEntry<V> {
    value: Mutex<Option<(V, Instant)>>,
    /// Locked during a fetch: threads that request the value wait here, threads that only look do not.
    fetching: Mutex<()>,
}

impl<V> Default for CacheEntry<V> {
    fn default() -> Self {
        Self { value: Mutex::new(None), fetching: Mutex::new(()) }
    }
}

impl<V: Clone> CacheEntry<V> {
    fn peek(&self) -> Option<(V, Instant)> {
        locked(&self.value).clone()
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// Creates a cache of `max` values; beyond that all are dropped.
    pub fn new(max: usize) -> Self {
        Self { slots: Mutex::default(), max }
    }

    /// Returns the value of `key`: the cached one if it is still good, else the result of `fetch`. A failed fetch
    /// changes nothing.
    pub fn get<E>(
        &self,
        key: &K,
        good_for: impl Fn(&V) -> Duration,
        fetch: impl FnOnce(Option<&V>) -> Result<V, E>,
    ) -> Result<V, E> {
        let slot = self.slot(key);
        let good = || slot.peek().filter(|(value, since)| since.elapsed() < good_for(value));
        if let Some((value, _)) = good() {
            return Ok(value);
        }
        let fetching = locked(&slot.fetching);
        // Another thread may have fetched it meanwhile.
        if let Some((value, _)) = good() {
            return Ok(value);
        }
        let value = fetch(slot.peek().as_ref().map(|(value, _)| value))?;
        *locked(&slot.value) = Some((value.clone(), Instant::now()));
        drop(fetching);
        Ok(value)
    }

    /// Returns the cached value of `key`, however old, and its age. Never waits for a fetch.
    pub fn peek(&self, key: &K) -> Option<(V, Duration)> {
        let slot = locked(&self.slots).get(key)?.clone();
        slot.peek().map(|(value, since)| (value, since.elapsed()))
    }

    /// Drops the value of `key`.
    pub fn forget(&self, key: &K) {
        locked(&self.slots).remove(key);
    }

    fn slot(&self, key: &K) -> Slot<V> {
        let mut slots = locked(&self.slots);
        if let Some(slot) = slots.get(key) {
            return slot.clone();
        }
        if slots.len() >= self.max {
            slots.clear();
        }
        slots.entry(key.clone()).or_default().clone()
    }
}

/// Locks, even if a thread panicked while it held the lock: a value is complete or absent.
pub fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
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
    fn a_value_can_be_looked_at_while_another_thread_fetches_it_again() {
        let cache = Cache::<u32, u32>::new(8);
        assert!(cache.peek(&7).is_none());
        assert_eq!(cache.get(&7, |_| EVER, |_| Ok::<_, ()>(70)), Ok(70));
        let fetched = cache.get(
            &7,
            |_| Duration::ZERO,
            |_| {
                assert_eq!(cache.peek(&7).map(|(value, _)| value), Some(70));
                Ok::<_, ()>(71)
            },
        );
        assert_eq!((fetched, cache.peek(&7).map(|(value, _)| value)), (Ok(71), Some(71)));
    }

    #[test]
    fn it_never_holds_more_than_its_room() {
        let cache = Cache::<u32, u32>::new(4);
        for key in 0..100 {
            assert_eq!(cache.get(&key, |_| EVER, |_| Ok::<_, ()>(key)), Ok(key));
            assert!(locked(&cache.slots).len() <= 4);
        }
    }
}
