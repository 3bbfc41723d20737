//! The bounded queue of requests between the HTTP server and the writer of the spool.

use super::entry::size_max;
use super::request::{Answer, Keeper, Request};
use crate::store::room;
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Maximum bytes of queued requests.
const QUEUE_BYTES: usize = 64 << 20;
/// Maximum bytes of requests that are written and synced together.
const GROUP_BYTES: usize = 8 << 20;

/// The callback of a request. If it is dropped without an answer, the answer is `shutting down`.
pub struct Done(Option<Box<dyn FnOnce(Answer) + Send>>);

impl Done {
    /// Wraps a callback.
    pub fn new(done: Box<dyn FnOnce(Answer) + Send>) -> Self {
        Self(Some(done))
    }

    /// Sends the answer.
    pub fn answer(mut self, answer: Answer) {
        if let Some(done) = self.0.take() {
            done(answer);
        }
    }

    /// Answers that the request cannot be made durable now.
    pub fn refuse(self, why: impl Into<String>) {
        self.answer(Answer::Unavailable(why.into()));
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Answer::Unavailable("shutting down".into()));
        }
    }
}

/// A queued request.
pub struct Asked {
    /// The request.
    pub request: Request,
    /// An upper bound of its size in bytes.
    pub size: usize,
    /// Receives the answer.
    pub done: Done,
}

/// The queued requests; the bytes of all unanswered requests, queued or being written; and whether the queue is closed.
#[derive(Default)]
struct State {
    asked: VecDeque<Asked>,
    bytes: usize,
    closed: bool,
}

/// The queue of requests. It has no thread; a condition variable wakes the writer.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the next requests into `group`, at most [`GROUP_BYTES`] of them, and waits for the first. Returns false once the
    /// queue is closed and empty.
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

    /// Notes that requests of this many bytes have been answered.
    pub fn answered(&self, bytes: usize) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Closes the queue: it accepts no more requests.
    pub fn close(&self) {
        self.state().closed = true;
        self.filled.notify_all();
    }

    /// Closes the queue and answers the waiting requests with `shutting down`.
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
            let why = if full { "too many requests are waiting to be written" } else { "shutting down" };
            return asked.done.refuse(why);
        }
        state.bytes += asked.size;
        state.asked.push_back(asked);
        drop(state);
        self.filled.notify_one();
    }
}

/// The HTTP server's end of the queue, which is closed when this is dropped.
pub struct Entrance {
    /// The queue.
    pub queue: Arc<Queue>,
    /// The directory of the spool.
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

/// The writer's end of the queue. If the writer ends for any reason, waiting requests are answered.
pub struct Exit(pub Arc<Queue>);

impl Drop for Exit {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// The waker of the reading end: a socket, so that one `poll` can wait for it and for signals.
pub struct Bell(UnixStream);

impl Bell {
    /// Makes a bell and the socket that it wakes.
    pub fn new() -> std::io::Result<(Self, UnixStream)> {
        let (write, read) = UnixStream::pair()?;
        write.set_nonblocking(true)?;
        read.set_nonblocking(true)?;
        Ok((Self(write), read))
    }

    /// Makes the socket readable. If its buffer is full it is readable already.
    pub fn ring(&self) {
        let _ = (&self.0).write(&[1]);
    }
}
