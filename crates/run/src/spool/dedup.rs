//! Detects repeated events by their id, and repeated requests by their `Idempotency-Key`, within a time window.

use super::request::{Record, RecordOutcome, Request};
use ahash::AHashMap;
use evt_core::kind::dead::{ErrorType, Fault};
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// Maximum number of remembered events for `--dedup`.
const IDS_MAX: usize = 8 << 20;
/// How long an `Idempotency-Key` is remembered without `--dedup` (µs).
pub const KEYS_WINDOW: i64 = 24 * 3600 * 1_000_000;

/// How many events are remembered, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupLimits {
    /// The window (µs).
    pub window: i64,
    /// Maximum number of events. Further ones are refused until the window moves on.
    pub events: usize,
}

impl DedupLimits {
    /// Returns the limits of `--dedup` with this window (µs).
    pub fn of_window(window: i64) -> Self {
        Self { window, events: IDS_MAX }
    }
}

/// The events of a window by (token, source, event_id), with a hash of their payload.
pub struct DedupWindow {
    limits: DedupLimits,
    /// Random, so that clients cannot construct ids that collide.
    seed: u64,
    known: AHashMap<u128, KnownId>,
    order: VecDeque<ArrivedId>,
    /// The number of durable elements of `order`; the others belong to the group that is being written.
    durable: usize,
    scratch: Vec<u8>,
}

/// An id that is remembered.
struct KnownId {
    /// The hash of its payload.
    payload: u64,
    /// When it arrived (µs). An older element of `order` with the same id has no effect.
    at: i64,
}

/// An id in the order of arrival.
struct ArrivedId {
    /// When it arrived (µs).
    at: i64,
    /// Its key in `known`.
    key: u128,
}

impl DedupWindow {
    /// Remembers ids within these limits.
    pub fn new(limits: DedupLimits, seed: u64) -> Self {
        Self { limits, seed, known: AHashMap::new(), order: VecDeque::new(), durable: 0, scratch: vec![] }
    }

    /// Drops durable ids older than the window.
    pub fn expire(&mut self, now: i64) {
        let window = self.limits.window;
        while self.durable > 0 && self.order.front().is_some_and(|id| id.at.saturating_add(window) <= now) {
            if let Some(id) = self.order.pop_front() {
                self.remove(&id);
            }
            self.durable -= 1;
        }
    }

    /// Removes an id that is no longer in `order` from `known`, unless the id has arrived again since.
    fn remove(&mut self, id: &ArrivedId) {
        if let Entry::Occupied(known) = self.known.entry(id.key)
            && known.get().at == id.at
        {
            known.remove();
        }
    }

    /// Whether `count` more ids fit within the limit.
    pub fn has_space(&self, count: usize) -> bool {
        self.known.len() + count <= self.limits.events
    }

    /// Returns the outcome of a record that arrived at `now` (µs): new, repeated, or an id that was sent before with
    /// another payload. Remembers the id of a new record.
    pub fn outcome_of(&mut self, token: &str, record: &Record, now: i64) -> RecordOutcome {
        let Some(id) = record.event_id else { return RecordOutcome::New };
        let (key, payload) = self.hashes(token, id, record);
        match self.known.get(&key) {
            None => {
                self.enter(key, KnownId { payload, at: now });
                RecordOutcome::New
            }
            Some(known) if known.payload == payload => RecordOutcome::Duplicate,
            Some(_) => {
                let id = uuid::Uuid::from_bytes(id);
                let message = format!("id_reused: event_id {id} was sent before with another payload");
                RecordOutcome::Rejected(Fault::new(ErrorType::EnvelopeError, message))
            }
        }
    }

    /// Returns the key of a record with this id, and the hash of its payload.
    fn hashes(&mut self, token: &str, id: [u8; 16], record: &Record) -> (u128, u64) {
        self.scratch.clear();
        self.scratch.extend_from_slice(&id);
        self.scratch.extend_from_slice(&token.len().to_le_bytes());
        self.scratch.extend_from_slice(token.as_bytes());
        self.scratch.extend_from_slice(&record.source);
        (xxh3_128_with_seed(&self.scratch, self.seed), xxh3_64_with_seed(&record.payload, self.seed))
    }

    fn enter(&mut self, key: u128, id: KnownId) {
        self.order.push_back(ArrivedId { at: id.at, key });
        self.known.insert(key, id);
    }

    /// Marks all ids as durable.
    pub fn settle(&mut self) {
        self.durable = self.order.len();
    }

    /// Drops the ids that are not durable, because their write failed.
    pub fn forget(&mut self) {
        while self.order.len() > self.durable {
            if let Some(id) = self.order.pop_back() {
                self.remove(&id);
            }
        }
    }

    /// Remembers the ids of a request that was read back. An id that was stored as new counts as new again, even if
    /// requests that are not in the spool had moved the window on.
    pub fn learn(&mut self, request: &Request) {
        self.expire(request.arrived_at);
        for record in request.records.iter().filter(|record| record.outcome == RecordOutcome::New) {
            if let Some(id) = record.event_id {
                let (key, payload) = self.hashes(&request.token, id, record);
                self.enter(key, KnownId { payload, at: request.arrived_at });
            }
        }
        self.settle();
    }
}

/// An earlier request with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier<T> {
    /// Whether it had the same body.
    pub is_same: bool,
    /// The position of the request in the spool, or the request itself in a spool in memory.
    pub place: T,
}

/// The requests of a window by (token, `Idempotency-Key`); `T` is where a request is stored.
pub struct IdempotencyKeys<T> {
    window: i64,
    /// Maximum weight of all requests; the oldest is dropped for a new one.
    weight_max: usize,
    weight: usize,
    seed: u64,
    /// The last use of each key.
    known: AHashMap<u128, LastUse<T>>,
    /// All uses, including uses that a later use of the same key has replaced.
    order: VecDeque<Used>,
    /// The number of the next use.
    next: u64,
}

/// The last use of a key.
struct LastUse<T> {
    /// Its number.
    number: u64,
    /// The hash of the body.
    body: u128,
    /// Where the request is stored.
    place: T,
}

/// A use of a key, by its hash.
struct Used {
    number: u64,
    at: i64,
    key: u128,
    weight: usize,
}

impl<T: Clone> IdempotencyKeys<T> {
    /// Remembers keys for a window of this many µs, and requests up to this weight.
    pub fn new(window: i64, weight_max: usize, seed: u64) -> Self {
        Self { window, weight_max, weight: 0, seed, known: AHashMap::new(), order: VecDeque::new(), next: 0 }
    }

    /// Returns the hash of a request's key, if it has one, and that of its body.
    fn key(&self, request: &Request) -> Option<(u128, u128)> {
        let key = request.key.as_ref()?;
        let token = xxh3_64_with_seed(request.token.as_bytes(), self.seed);
        Some((xxh3_128_with_seed(key.text.as_bytes(), token), key.body))
    }

    /// Returns the earlier request with the key of this request.
    pub fn find(&mut self, request: &Request) -> Option<Earlier<T>> {
        let (key, body) = self.key(request)?;
        while self.order.front().is_some_and(|used| used.at.saturating_add(self.window) <= request.arrived_at) {
            self.pop();
        }
        let known = self.known.get(&key)?;
        Some(Earlier { is_same: known.body == body, place: known.place.clone() })
    }

    /// Removes the oldest use.
    fn pop(&mut self) {
        let Some(used) = self.order.pop_front() else { return };
        self.weight -= used.weight;
        if let Entry::Occupied(known) = self.known.entry(used.key)
            && known.get().number == used.number
        {
            known.remove();
        }
    }

    /// Remembers the key of a request, if it has one. The caller has checked that an earlier use of the key has
    /// expired, or that its request was removed.
    pub fn enter(&mut self, request: &Request, weight: usize, place: T) {
        let Some((key, body)) = self.key(request) else { return };
        let number = self.next;
        self.next += 1;
        self.known.insert(key, LastUse { number, body, place });
        self.order.push_back(Used { number, at: request.arrived_at, key, weight });
        self.weight += weight;
        while self.weight > self.weight_max {
            self.pop();
        }
    }

    /// Drops the key of a request that could not be written. Call it for the requests of a group in reverse order.
    pub fn forget(&mut self, request: &Request) {
        let Some(used) = self.key(request).and_then(|(key, _)| self.known.remove(&key)) else { return };
        if let Some(last) = self.order.pop_back_if(|last| last.number == used.number) {
            self.weight -= last.weight;
        }
    }
}

#[cfg(test)]
#[path = "dedup_tests.rs"]
mod tests;
