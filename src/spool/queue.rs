//! Requests that wait to be made safe: a bounded queue between the front door and the one who writes.

use super::entry::size_max;
use super::request::{Answer, Keeper, Request};
use crate::store::room;
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of requests that wait at most.
const QUEUE_BYTES: usize = 64 << 20;
/// Bytes of requests that are made safe together.
const GROUP_BYTES: usize = 8 << 20;

/// Whoever waits for an answer; one that is dropped has been told that there is none.
pub struct Done(Option<Box<dyn FnOnce(Answer) + Send>>);

impl Done {
    /// Whoever `done` answers.
    pub fn new(done: Box<dyn FnOnce(Answer) + Send>) -> Self {
        Self(Some(done))
    }

    /// Answers.
    pub fn answer(mut self, answer: Answer) {
        if let Some(done) = self.0.take() {
            done(answer);
        }
    }

    /// Answers that there is no way to make it safe.
    pub fn refuse(self, why: impl Into<String>) {
        self.answer(Answer::Unavailable(why.into()));
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Answer::Unavailable("the run is ending".into()));
        }
    }
}

/// A request that asks to be kept.
pub struct Asked {
    /// The request.
    pub request: Request,
    /// Bytes it takes at most.
    pub size: usize,
    /// Who waits for the answer.
    pub done: Done,
}

#[derive(Default)]
struct State {
    asked: VecDeque<Asked>,
    bytes: usize,
    closed: bool,
}

/// The queue.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next requests, at most [`GROUP_BYTES`] of them; waits for the first. None once the queue is closed and empty.
    pub fn take(&self, group: &mut Vec<Asked>) -> bool {
        let mut state = self.state();
        while state.asked.is_empty() {
            if state.closed {
                return false;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut bytes = 0;
        while let Some(asked) = state.asked.pop_front_if(|asked| bytes == 0 || bytes + asked.size <= GROUP_BYTES) {
            bytes += asked.size;
            group.push(asked);
        }
        true
    }

    /// Requests of this many bytes have been answered.
    pub fn answered(&self, bytes: usize) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Nothing more is taken.
    pub fn close(&self) {
        self.state().closed = true;
        self.filled.notify_all();
    }

    /// Nobody takes any more: who waits is told.
    pub fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.state().asked);
        drop(waiting);
    }

    fn push(&self, asked: Asked) {
        let mut state = self.state();
        let full = state.bytes > 0 && state.bytes + asked.size > QUEUE_BYTES;
        if state.closed || full {
            drop(state);
            let why = if full { "too many requests wait to be written" } else { "the run is ending" };
            return asked.done.refuse(why);
        }
        state.bytes += asked.size;
        state.asked.push_back(asked);
        drop(state);
        self.filled.notify_one();
    }
}

/// The door's end of the queue: the queue is closed when the last one who holds it lets go.
pub struct Entrance {
    /// The queue.
    pub queue: Arc<Queue>,
    /// The directory that the requests are written to.
    pub dir: PathBuf,
}

impl Keeper for Entrance {
    fn keep(&self, request: Request, done: Box<dyn FnOnce(Answer) + Send>) {
        self.queue.push(Asked { size: size_max(&request), request, done: Done::new(done) });
    }

    fn has_room(&self) -> bool {
        room::is_left(&self.dir)
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The writer's end: whatever ends the writer, nobody waits for it any more.
pub struct Exit(pub Arc<Queue>);

impl Drop for Exit {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Wakes who reads: a byte in a pipe, so that a wait for it can be a wait for signals too.
pub struct Bell(UnixStream);

impl Bell {
    /// A bell, and the end to listen at.
    pub fn new() -> std::io::Result<(Self, UnixStream)> {
        let (write, read) = UnixStream::pair()?;
        write.set_nonblocking(true)?;
        read.set_nonblocking(true)?;
        Ok((Self(write), read))
    }

    /// Rings: a bell that was not heard yet need not ring again.
    pub fn ring(&self) {
        let _ = (&self.0).write(&[1]);
    }
}
