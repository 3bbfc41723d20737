//! Keeps requests in memory: a bounded queue of entries, acknowledged at once or when the outputs have them.

use super::entry::{self, BODY_MAX, Entry, Spot, size_max};
use super::inlet::{Inlet, Pace};
use super::queue::{Bell, Done};
use super::request::{Answer, Keeper, RecordFate, Request};
use super::shelf::{KEYS_WINDOW, Position};
use crate::error::{Error, Result};
use ahash::AHashMap;
use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum bytes of entries that wait for the outputs.
const QUEUE_BYTES: usize = 64 << 20;
/// Maximum bytes of requests remembered by `Idempotency-Key`; the oldest is dropped for a new one.
const KEYS_BYTES: usize = 16 << 20;
/// The seed of all entries. It need not be random: the entries never leave the process.
const SEED: u64 = 0;

/// A request that is kept.
struct Held {
    /// The offset after its last record.
    end: i64,
    bytes: Arc<Vec<u8>>,
}

/// A client whose answer waits for the outputs.
struct Waiting {
    end: i64,
    size: usize,
    done: Done,
    answer: Answer,
}

/// A key and the size of its request.
struct Used {
    at: i64,
    key: (String, String),
    size: usize,
}

/// The state under the lock.
#[derive(Default)]
struct State {
    next: i64,
    /// Requests not read yet.
    held: VecDeque<Held>,
    waiting: Vec<Waiting>,
    /// Everything before this offset is safe in the outputs.
    settled: i64,
    /// Bytes of requests that are not read yet, or whose client waits.
    bytes: usize,
    keys: AHashMap<(String, String), Arc<Vec<u8>>>,
    order: VecDeque<Used>,
    keys_bytes: usize,
    closed: bool,
}

/// The state that both ends share.
struct Store {
    state: Mutex<State>,
    bell: Bell,
    /// Whether answers wait for the outputs.
    waits: bool,
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The HTTP server's end.
pub struct Memory(Arc<Store>);

/// The reading end.
pub struct MemoryInlet {
    store: Arc<Store>,
    bell: UnixStream,
    start: i64,
    current: Arc<Vec<u8>>,
}

/// Makes both ends of a queue. The first record has offset `start`, which is the clock: no disk remembers the offsets of
/// earlier runs, and none may repeat because ids are derived from them. `waits` says whether requests are acknowledged once the
/// outputs have them, or at once.
pub fn open(start: i64, waits: bool) -> Result<(Memory, MemoryInlet)> {
    let (bell, listen) = Bell::new().map_err(|error| Error::io("a pair of sockets", &error))?;
    let state = State { next: start, settled: start, ..State::default() };
    let store = Arc::new(Store { state: Mutex::new(state), bell, waits });
    Ok((Memory(store.clone()), MemoryInlet { store, bell: listen, start, current: Arc::default() }))
}

impl Keeper for Memory {
    fn keep(&self, request: Request, done: Box<dyn FnOnce(Answer) + Send>) {
        let (store, done) = (&self.0, Done::new(done));
        let mut state = store.state();
        if let Some((answer, end)) = state.repeated(&request) {
            if end > state.settled && store.waits {
                return state.waiting.push(Waiting { end, size: 0, done, answer });
            }
            drop(state);
            return done.answer(answer);
        }
        let size = size_max(&request);
        if state.closed || size > BODY_MAX || state.bytes > 0 && state.bytes + size > QUEUE_BYTES {
            let why = if state.closed { "shutting down" } else { "too many requests wait for the outputs" };
            drop(state);
            return done.refuse(why);
        }
        let was_empty = state.held.is_empty();
        let (answer, end, size) = state.hold(&request);
        if store.waits {
            state.waiting.push(Waiting { end, size, done, answer });
            drop(state);
        } else {
            drop(state);
            done.answer(answer);
        }
        if was_empty {
            store.bell.ring();
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.bell.ring();
    }
}

impl State {
    /// Returns the answer to a request whose key was used before, and the end offset of the earlier request.
    fn repeated(&mut self, request: &Request) -> Option<(Answer, i64)> {
        let (key, body) = request.once.as_ref()?;
        while self.order.front().is_some_and(|used| used.at.saturating_add(KEYS_WINDOW) <= request.arrived_at) {
            self.forget();
        }
        let bytes = self.keys.get(&(request.token.clone(), key.clone()))?;
        let entry = entry::read(bytes, SEED)?;
        let answer = match entry.once {
            Some((_, known)) if known == *body => Answer::Repeated(Box::new(entry.request()), entry.kept()),
            _ => Answer::Conflict,
        };
        Some((answer, entry.end()))
    }

    fn forget(&mut self) {
        if let Some(used) = self.order.pop_front() {
            self.keys.remove(&used.key);
            self.keys_bytes -= used.size;
        }
    }

    /// Keeps a request; returns its answer, its end offset and its size.
    fn hold(&mut self, request: &Request) -> (Answer, i64, usize) {
        let fate = |record: &super::request::Record| record.fault.clone().map_or(RecordFate::New, RecordFate::Rejected);
        let fates: Vec<RecordFate> = request.records.iter().map(fate).collect();
        let mut bytes = Vec::with_capacity(size_max(request));
        let size = entry::encode(&mut bytes, Spot { seed: SEED, safe: 0, offset: self.next }, request, &fates);
        bytes.shrink_to_fit();
        let (bytes, offset) = (Arc::new(bytes), self.next);
        self.next += fates.len() as i64;
        if let Some((key, _)) = &request.once {
            let key = (request.token.clone(), key.clone());
            self.keys.insert(key.clone(), bytes.clone());
            self.order.push_back(Used { at: request.arrived_at, key, size });
            self.keys_bytes += size;
            while self.keys_bytes > KEYS_BYTES {
                self.forget();
            }
        }
        self.bytes += size;
        self.held.push_back(Held { end: self.next, bytes });
        (Answer::Kept(super::request::Kept { offset, fates }), self.next, size)
    }
}

impl Inlet for MemoryInlet {
    fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let mut state = self.store.state();
        let Some(held) = state.held.pop_front() else { return Ok(None) };
        if !self.store.waits {
            state.bytes -= held.bytes.len();
            state.settled = held.end;
        }
        drop(state);
        self.current = held.bytes;
        entry::read(&self.current, SEED).map(Some).ok_or_else(|| Error::broken("an entry in memory cannot be read"))
    }

    fn end(&self) -> Option<i64> {
        let state = self.store.state();
        state.closed.then_some(state.next)
    }

    fn kept(&self) -> i64 {
        self.store.state().next
    }

    fn bell(&self) -> &UnixStream {
        &self.bell
    }

    fn start(&self) -> Position {
        Position { offset: self.start, stream_time: None }
    }

    fn pace(&self) -> Pace {
        if self.store.waits { Pace::Eager } else { Pace::Never }
    }

    fn settle(&mut self, position: Position) -> Result<()> {
        let mut state = self.store.state();
        state.settled = position.offset;
        let (safe, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.waiting).into_iter().partition(|waiting| waiting.end <= position.offset);
        state.waiting = waiting;
        state.bytes -= safe.iter().map(|waiting| waiting.size).sum::<usize>();
        drop(state);
        safe.into_iter().for_each(|waiting| waiting.done.answer(waiting.answer));
        Ok(())
    }
}

/// Dropping the reading end answers waiting clients with `shutting down` and refuses further requests.
impl Drop for MemoryInlet {
    fn drop(&mut self) {
        let mut state = self.store.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        state.held.clear();
        drop(state);
        drop(waiting);
    }
}
