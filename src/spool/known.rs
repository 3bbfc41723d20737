//! What was kept before: events by their id, requests by their `Idempotency-Key`; both for as long as a window reaches.

use super::entry::Entry;
use super::request::{Fate, Record, Request};
use super::segment::Place;
use crate::kind::dead::{ErrorType, Fault};
use ahash::AHashMap;
use std::collections::VecDeque;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// Events that are remembered at most; who would be one more is refused until the window has moved on.
pub const IDS_MAX: usize = 8 << 20;
/// Requests that are remembered by their key; the oldest is forgotten for one more.
pub const KEYS_MAX: usize = 1 << 20;

/// Events of a window by (token, source, event_id), with a hash of their payload.
pub struct Ids {
    window: i64,
    /// A client that knows no seed cannot make two ids look alike.
    seed: u64,
    known: AHashMap<u128, u64>,
    order: VecDeque<(i64, u128)>,
    /// How many of `order` are durable; those behind are of the group that is being written.
    durable: usize,
    scratch: Vec<u8>,
}

impl Ids {
    /// The ids of a window of this many µs.
    pub fn new(window: i64, seed: u64) -> Self {
        Self { window, seed, known: AHashMap::new(), order: VecDeque::new(), durable: 0, scratch: vec![] }
    }

    /// Forgets what is older than the window.
    pub fn expire(&mut self, now: i64) {
        while self.durable > 0 && self.order.front().is_some_and(|(at, _)| at.saturating_add(self.window) <= now) {
            if let Some((_, key)) = self.order.pop_front() {
                self.known.remove(&key);
            }
            self.durable -= 1;
        }
    }

    /// Whether this many more have a place.
    pub fn has_room(&self, count: usize) -> bool {
        self.known.len() + count <= IDS_MAX
    }

    /// What becomes of a record that arrived at `now`.
    pub fn judge(&mut self, token: &str, record: &Record, now: i64) -> Fate {
        let Some(id) = record.event_id else { return Fate::New };
        let payload = xxh3_64_with_seed(&record.payload, self.seed);
        match self.enter(token, (&record.source, id), payload, now) {
            None => Fate::New,
            Some(same) if same == payload => Fate::Duplicate,
            Some(_) => {
                let id = uuid::Uuid::from_bytes(id);
                let message = format!("id_reused: event_id {id} was sent before with another payload");
                Fate::Rejected(Fault::new(ErrorType::EnvelopeError, message))
            }
        }
    }

    /// The hash of the payload that the key stands for already; else it stands for this one from now on.
    fn enter(&mut self, token: &str, (source, id): (&str, [u8; 16]), payload: u64, now: i64) -> Option<u64> {
        self.scratch.clear();
        self.scratch.extend_from_slice(&id);
        self.scratch.extend_from_slice(&token.len().to_le_bytes());
        self.scratch.extend_from_slice(token.as_bytes());
        self.scratch.extend_from_slice(source.as_bytes());
        let key = xxh3_128_with_seed(&self.scratch, self.seed);
        if let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        self.known.insert(key, payload);
        self.order.push_back((now, key));
        None
    }

    /// All so far are durable.
    pub fn settle(&mut self) {
        self.durable = self.order.len();
    }

    /// Forgets those that are not durable: they could not be written.
    pub fn forget(&mut self) {
        for (_, key) in self.order.drain(self.durable..) {
            self.known.remove(&key);
        }
    }

    /// Learns an entry that was read back.
    pub fn learn(&mut self, entry: &Entry<'_>) {
        for seen in entry.records().filter(|seen| seen.fate == Fate::New) {
            if let Some(id) = seen.event_id {
                let payload = xxh3_64_with_seed(seen.payload, self.seed);
                self.enter(entry.token, (seen.source, id), payload, entry.arrived_at);
            }
        }
        self.settle();
        self.expire(entry.arrived_at);
    }
}

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// The hash of the body it came with.
    pub body: u128,
    /// Where the request stands.
    pub place: Place,
}

/// Requests of a window by (token, `Idempotency-Key`).
pub struct Keys {
    window: i64,
    seed: u64,
    known: AHashMap<u128, Used>,
    order: VecDeque<(i64, u128)>,
}

impl Keys {
    /// The keys of a window of this many µs.
    pub fn new(window: i64, seed: u64) -> Self {
        Self { window, seed, known: AHashMap::new(), order: VecDeque::new() }
    }

    fn key(&self, token: &str, key: &str) -> u128 {
        let token = xxh3_64_with_seed(token.as_bytes(), self.seed);
        xxh3_128_with_seed(key.as_bytes(), token)
    }

    /// What the key of a request stands for already.
    pub fn find(&mut self, request: &Request) -> Option<Used> {
        let (key, _) = request.once.as_ref()?;
        let now = request.arrived_at;
        while self.order.front().is_some_and(|(at, _)| at.saturating_add(self.window) <= now) {
            self.pop();
        }
        self.known.get(&self.key(&request.token, key)).copied()
    }

    fn pop(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.known.remove(&key);
        }
    }

    /// The key of this request stands for it from now on.
    pub fn enter(&mut self, token: &str, once: (&str, u128), now: i64, place: Place) {
        let key = self.key(token, once.0);
        if self.order.len() >= KEYS_MAX {
            self.pop();
        }
        if self.known.insert(key, Used { body: once.1, place }).is_none() {
            self.order.push_back((now, key));
        }
    }

    /// The key of this request stands for nothing: it could not be written, or is no more.
    pub fn forget(&mut self, token: &str, key: &str) {
        // Its turn in the order stays: there it may be forgotten a little too early, if it is used again.
        self.known.remove(&self.key(token, key));
    }
}
