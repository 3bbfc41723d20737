//! Detects repeated events by their id, and repeated requests by their `Idempotency-Key`, within a time window.

use super::entry::Entry;
use super::request::{Record, RecordFate, Request};
use super::segment::SegmentOffset;
use crate::kind::dead::{ErrorType, Fault};
use ahash::AHashMap;
use std::collections::VecDeque;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// Maximum number of remembered events. Further events are refused until the window moves on.
pub const IDS_MAX: usize = 8 << 20;
/// Maximum number of remembered keys; the oldest is dropped for a new one.
pub const KEYS_MAX: usize = 1 << 20;

/// The events of a window by (token, source, event_id), with a hash of their payload.
pub struct Ids {
    window: i64,
    /// Random, so that clients cannot construct ids that collide.
    seed: u64,
    known: AHashMap<u128, u64>,
    order: VecDeque<(i64, u128)>,
    /// The number of durable elements of `order`; the others belong to the group that is being written.
    durable: usize,
    scratch: Vec<u8>,
}

impl Ids {
    /// Remembers ids for a window of this many µs.
    pub fn new(window: i64, seed: u64) -> Self {
        Self { window, seed, known: AHashMap::new(), order: VecDeque::new(), durable: 0, scratch: vec![] }
    }

    /// Drops ids older than the window.
    pub fn expire(&mut self, now: i64) {
        while self.durable > 0 && self.order.front().is_some_and(|(at, _)| at.saturating_add(self.window) <= now) {
            if let Some((_, key)) = self.order.pop_front() {
                self.known.remove(&key);
            }
            self.durable -= 1;
        }
    }

    /// Whether this many more ids fit.
    pub fn has_room(&self, count: usize) -> bool {
        self.known.len() + count <= IDS_MAX
    }

    /// Judges a record that arrived at `now`, and remembers its id.
    pub fn judge(&mut self, token: &str, record: &Record, now: i64) -> RecordFate {
        let Some(id) = record.event_id else { return RecordFate::New };
        let payload = xxh3_64_with_seed(&record.payload, self.seed);
        match self.enter(token, &record.source, id, payload, now) {
            None => RecordFate::New,
            Some(same) if same == payload => RecordFate::Duplicate,
            Some(_) => {
                let id = uuid::Uuid::from_bytes(id);
                let message = format!("id_reused: event_id {id} was sent before with another payload");
                RecordFate::Rejected(Fault::new(ErrorType::EnvelopeError, message))
            }
        }
    }

    /// Returns the payload hash of a known id; remembers an unknown one.
    fn enter(&mut self, token: &str, source: &str, id: [u8; 16], payload: u64, now: i64) -> Option<u64> {
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

    /// Marks all ids as durable.
    pub fn settle(&mut self) {
        self.durable = self.order.len();
    }

    /// Drops the ids that are not durable, because their write failed.
    pub fn forget(&mut self) {
        for (_, key) in self.order.drain(self.durable..) {
            self.known.remove(&key);
        }
    }

    /// Remembers the ids of an entry that was read back.
    pub fn learn(&mut self, entry: &Entry<'_>) {
        for seen in entry.records().filter(|seen| seen.fate == RecordFate::New) {
            if let Some(id) = seen.event_id {
                let payload = xxh3_64_with_seed(seen.payload, self.seed);
                self.enter(entry.token, seen.source, id, payload, entry.arrived_at);
            }
        }
        self.settle();
        self.expire(entry.arrived_at);
    }
}

/// The request that a key was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// The hash of the body it came with.
    pub body: u128,
    /// The position of the request's entry.
    pub place: SegmentOffset,
}

/// The requests of a window by (token, `Idempotency-Key`).
pub struct IdempotencyKeys {
    window: i64,
    seed: u64,
    known: AHashMap<u128, Used>,
    order: VecDeque<(i64, u128)>,
}

impl IdempotencyKeys {
    /// Remembers keys for a window of this many µs.
    pub fn new(window: i64, seed: u64) -> Self {
        Self { window, seed, known: AHashMap::new(), order: VecDeque::new() }
    }

    fn key(&self, token: &str, key: &str) -> u128 {
        let token = xxh3_64_with_seed(token.as_bytes(), self.seed);
        xxh3_128_with_seed(key.as_bytes(), token)
    }

    /// Returns the earlier request with the key of this request.
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

    /// Remembers the key of a request.
    pub fn enter(&mut self, token: &str, once: (&str, u128), now: i64, place: SegmentOffset) {
        let key = self.key(token, once.0);
        if self.order.len() >= KEYS_MAX {
            self.pop();
        }
        if self.known.insert(key, Used { body: once.1, place }).is_none() {
            self.order.push_back((now, key));
        }
    }

    /// Drops a key whose request could not be written or has been removed.
    pub fn forget(&mut self, token: &str, key: &str) {
        // Its old element in `order` stays, so a key that is used again may expire early.
        self.known.remove(&self.key(token, key));
    }
}
