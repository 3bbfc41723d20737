//! A spool in memory: requests are acknowledged at once, or when the outputs have them.

use super::dedup::{Earlier, IdempotencyKeys, KEYS_WINDOW};
use super::dir::{Position, StoredEnd};
use super::entry::{BODY_MAX, size_max};
use super::queue::{QUEUE_BYTES, Waker};
use super::reader::{EntrySource, Pace, SpoolReader};
use super::request::{Answer, Entry, Request, RequestLog, Responder};
use evt_core::error::{Error, Result};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum bytes of requests remembered by `Idempotency-Key`; the oldest is dropped for a new one.
const KEYS_BYTES: usize = 16 << 20;

/// A client whose answer waits for the outputs.
struct WaitingClient {
    /// The offset after the last record that it waits for.
    end: i64,
    /// Bytes of its request.
    size: usize,
    responder: Responder,
    answer: Answer,
}

/// The state under the lock.
struct State {
    next: i64,
    /// Requests not read yet.
    queue: VecDeque<Arc<Entry>>,
    waiting: Vec<WaitingClient>,
    /// The offset before which all records are durable in the outputs; used only if answers wait for the outputs.
    settled: i64,
    /// Bytes of requests that are not read yet, or whose clients wait for the outputs.
    bytes: usize,
    keys: IdempotencyKeys<Arc<Entry>>,
    is_closed: bool,
}

/// The state that both ends share.
struct Shared {
    state: Mutex<State>,
    waker: Waker,
    /// Whether answers wait for the outputs.
    waits: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing end.
pub struct MemoryLog(Arc<Shared>);

/// The entries for the reading end.
struct MemoryEntries(Arc<Shared>);

/// Makes both ends of a spool in memory. The first record has offset `start`, the current time: ids are derived from
/// offsets, so offsets must not repeat those of earlier runs, which are stored nowhere. With `waits`, clients get their
/// answers once the outputs have their requests, otherwise at once.
pub fn open(start: i64, waits: bool) -> Result<(MemoryLog, SpoolReader)> {
    let (waker, wakeups) = Waker::new().map_err(|error| Error::io("a pair of sockets", &error))?;
    let state = State {
        next: start,
        queue: VecDeque::new(),
        waiting: vec![],
        settled: start,
        bytes: 0,
        keys: IdempotencyKeys::new(KEYS_WINDOW, KEYS_BYTES, RandomState::new().hash_one(0)),
        is_closed: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), waker, waits });
    let pace = if waits { Pace::Eager } else { Pace::Never };
    let start = Position { offset: start, stream_time: None };
    let entries = Box::new(MemoryEntries(shared.clone()));
    Ok((MemoryLog(shared), SpoolReader { wakeups, id: None, start, pace, entries }))
}

impl RequestLog for MemoryLog {
    fn append(&self, request: Request, responder: Responder) {
        let Self(shared) = self;
        let mut state = shared.state();
        let (size, was_empty) = (size_max(&request), state.queue.is_empty());
        let (answer, end, size) = match state.keys.find(&request) {
            Some(Earlier { is_same, place }) => {
                let end = place.end();
                (if is_same { Answer::Repeated(place) } else { Answer::Conflict }, end, 0)
            }
            None if state.is_closed || size > BODY_MAX || state.bytes > 0 && state.bytes + size > QUEUE_BYTES => {
                let why = if state.is_closed { "shutting down" } else { "too many requests wait for the outputs" };
                drop(state);
                return responder.refuse(why);
            }
            None => {
                let entry = state.store(request, size);
                let end = entry.end();
                (Answer::Stored(entry), end, size)
            }
        };
        if shared.waits && end > state.settled {
            state.waiting.push(WaitingClient { end, size, responder, answer });
            drop(state);
        } else {
            drop(state);
            responder.answer(answer);
        }
        if was_empty {
            shared.waker.wake();
        }
    }
}

impl Drop for MemoryLog {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.waker.wake();
    }
}

impl State {
    fn store(&mut self, request: Request, size: usize) -> Arc<Entry> {
        let entry = Arc::new(Entry { safe: 0, offset: self.next, request });
        self.next = entry.end();
        self.bytes += size;
        self.keys.enter(&entry.request, size, entry.clone());
        self.queue.push_back(entry.clone());
        entry
    }
}

impl EntrySource for MemoryEntries {
    fn next(&mut self) -> Result<Option<Arc<Entry>>> {
        let mut state = self.0.state();
        let entry = state.queue.pop_front();
        if let Some(entry) = entry.as_ref().filter(|_| !self.0.waits) {
            state.bytes -= size_max(&entry.request);
        }
        Ok(entry)
    }

    fn end(&self) -> StoredEnd {
        let state = self.0.state();
        StoredEnd { offset: state.next, is_final: state.is_closed }
    }

    fn settle(&mut self, position: Position) -> Result<()> {
        let mut state = self.0.state();
        state.settled = position.offset;
        let safe: Vec<WaitingClient> = state.waiting.extract_if(.., |waiting| waiting.end <= position.offset).collect();
        state.bytes -= safe.iter().map(|waiting| waiting.size).sum::<usize>();
        drop(state);
        safe.into_iter().for_each(|waiting| waiting.responder.answer(waiting.answer));
        Ok(())
    }
}

/// Dropping the reading end answers waiting clients with `shutting down` and refuses further requests.
impl Drop for MemoryEntries {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_closed = true;
        state.queue.clear();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }
}
