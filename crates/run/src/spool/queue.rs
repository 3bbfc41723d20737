//! The bounded queue of requests between the HTTP server and the writer of the spool.

use super::entry::size_max;
use super::request::{Request, RequestLog, Responder};
use crate::storage::access;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Maximum bytes of unanswered requests.
pub const QUEUE_BYTES: usize = 64 << 20;
/// The writer ends a group of requests, which it syncs together, at this many bytes.
const GROUP_BYTES: usize = 8 << 20;

/// A request in the queue. If the writer ends first, it drops the request, which answers the client.
pub struct QueuedRequest {
    /// The request.
    pub request: Request,
    /// An upper bound of the size of its entry in bytes.
    pub size: usize,
    /// Sends its answer.
    pub responder: Responder,
}

/// The writing end of a spool on disk: passes requests to its writer, which ends when this is dropped.
pub struct SpoolLog {
    sender: Sender<QueuedRequest>,
    /// Bytes of all unanswered requests, queued or being written.
    bytes: Arc<AtomicUsize>,
    dir: PathBuf,
}

impl SpoolLog {
    /// Makes the writing end of the spool in `dir`, and the queue that its writer takes requests from.
    pub fn new(dir: PathBuf) -> (Self, Receiver<QueuedRequest>) {
        let (sender, receiver) = channel();
        (Self { sender, bytes: Arc::default(), dir }, receiver)
    }
}

impl RequestLog for SpoolLog {
    fn append(&self, request: Request, responder: Responder) {
        let size = size_max(&request);
        let reserved = |bytes: usize| (bytes == 0 || bytes + size <= QUEUE_BYTES).then_some(bytes + size);
        if self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserved).is_err() {
            return responder.refuse("too many requests are waiting to be written");
        }
        let bytes = self.bytes.clone();
        let responder = Responder::new(move |answer| {
            bytes.fetch_sub(size, Ordering::Relaxed);
            responder.answer(answer);
        });
        // If the writer has ended, the request is dropped here, and its responder answers `shutting down`.
        let _ = self.sender.send(QueuedRequest { request, size, responder });
    }

    fn has_space(&self) -> bool {
        access::has_free_space(&self.dir)
    }
}

/// Waits for the next requests and takes a group of them, which is empty after `timeout`; `None` once the other end is
/// dropped and the queue is empty.
pub fn take_group(queue: &Receiver<QueuedRequest>, timeout: Option<Duration>) -> Option<Vec<QueuedRequest>> {
    let first = match timeout {
        None => queue.recv().ok()?,
        Some(timeout) => match queue.recv_timeout(timeout) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return Some(vec![]),
            Err(RecvTimeoutError::Disconnected) => return None,
        },
    };
    let mut group = vec![first];
    let mut bytes = group[0].size;
    while bytes < GROUP_BYTES
        && let Ok(next) = queue.try_recv()
    {
        bytes += next.size;
        group.push(next);
    }
    Some(group)
}

/// Wakes the reading end by a socket, so that one `poll` can wait for entries and for signals.
pub struct Waker(UnixStream);

impl Waker {
    /// Makes a waker, and the socket that becomes readable.
    pub fn new() -> std::io::Result<(Self, UnixStream)> {
        let (write, read) = UnixStream::pair()?;
        write.set_nonblocking(true)?;
        read.set_nonblocking(true)?;
        Ok((Self(write), read))
    }

    /// Makes the socket readable. If its buffer is full it is readable already.
    pub fn wake(&self) {
        let _ = (&self.0).write(&[1]);
    }
}
