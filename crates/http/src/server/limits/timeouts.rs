//! Timeouts of one connection: how long it may be idle, send a head, or leave an answer unread.
//!
//! Hyper has one timeout for an idle connection and for a head together, and none for an unread answer. But a
//! keep-alive connection may be idle for a minute, while a head that takes ten seconds is an attack, and so is a new
//! connection without one.

use super::chunks::ChunkWatch;
use super::metrics::HttpMetrics;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

/// Maximum bytes of a head, and of one read.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// Timeouts of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTimeouts {
    /// Between two requests.
    pub idle: Duration,
    /// For the first head of a connection; from the first byte of a later head to its last; and for the client to read
    /// each part of an answer.
    pub head: Duration,
    /// From its first byte to its last; [`Duration::MAX`] is unlimited.
    pub whole: Duration,
}

/// The states of a connection: between requests, receiving a head, serving a request.
const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// The state of a connection, shared by its service and its byte stream.
#[derive(Clone)]
pub struct Phase(Arc<SharedPhase>);

struct SharedPhase {
    state: AtomicU8,
    /// Whether the head of a request was ever complete.
    has_asked: AtomicBool,
    chunks: Mutex<ChunkWatch>,
    /// Notified when the chunks of a body exceed the limit.
    exceeded: Notify,
}

impl Phase {
    /// Makes the state of a new connection, whose bodies may have `limit` bytes.
    pub fn new(limit: usize) -> Self {
        // A new connection owes its first head: a client that sends nothing holds its place no longer than others.
        let (state, chunks) = (AtomicU8::new(HEAD), Mutex::new(ChunkWatch::new(limit)));
        Self(Arc::new(SharedPhase { state, has_asked: AtomicBool::new(false), chunks, exceeded: Notify::new() }))
    }

    /// Marks the head as complete; `is_chunked` says whether its body has chunks.
    pub fn begin(&self, is_chunked: bool) {
        self.0.has_asked.store(true, Ordering::Relaxed);
        let before = self.0.state.swap(BUSY, Ordering::Relaxed);
        // A head that was read together with the request before it was not watched.
        self.chunks().begin(is_chunked && before == HEAD);
    }

    /// Whether the connection has had a request.
    pub fn has_asked(&self) -> bool {
        self.0.has_asked.load(Ordering::Relaxed)
    }

    /// Marks the request as answered.
    pub fn end(&self) {
        self.0.state.store(IDLE, Ordering::Relaxed);
    }

    /// Waits until the chunks of the present body exceed the limit, whether their bytes have arrived or not.
    pub async fn exceeded(&self) {
        while !self.chunks().is_exceeded() {
            self.0.exceeded.notified().await;
        }
    }

    /// Notes bytes that have arrived. They begin a head; during a request they belong to its body.
    fn received(&self, bytes: &[u8]) {
        let begins = self.0.state.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let mut chunks = self.chunks();
        if begins {
            chunks.restart();
        }
        chunks.read(bytes);
        if chunks.is_exceeded() {
            self.0.exceeded.notify_one();
        }
    }

    fn chunks(&self) -> MutexGuard<'_, ChunkWatch> {
        self.0.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> u8 {
        self.0.state.load(Ordering::Relaxed)
    }
}

/// The byte stream of a connection, with timeouts.
pub struct TimedStream<S> {
    stream: S,
    phase: Phase,
    timeouts: ConnectionTimeouts,
    metrics: HttpMetrics,
    /// The state for which the read timer was set. A new state sets the timer again.
    timed: Option<u8>,
    reading: Pin<Box<Sleep>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedStream<S> {
    /// Wraps a stream.
    pub fn new(stream: S, phase: Phase, timeouts: ConnectionTimeouts, metrics: HttpMetrics) -> Self {
        let reading = Box::pin(sleep(timeouts.head));
        Self { stream, phase, timeouts, metrics, timed: None, reading, writing: None }
    }

    fn timed_out(&self, reason: &str) -> io::Error {
        self.metrics.refused_connection(reason);
        io::ErrorKind::TimedOut.into()
    }

    /// Handles a read without data: fails once the timeout of the present state has passed.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let phase = self.phase.get();
        let (wait, reason) = match phase {
            // The deadline of the request applies.
            BUSY => {
                self.timed = None;
                return Poll::Pending;
            }
            HEAD => (self.timeouts.head, "slow_head"),
            _ => (self.timeouts.idle, "idle"),
        };
        if self.timed != Some(phase) {
            self.timed = Some(phase);
            self.reading.as_mut().reset(Instant::now() + wait);
        }
        self.reading.as_mut().poll(cx).map(|()| self.timed_out(reason))
    }

    fn poll_written<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.writing = None;
            return done;
        }
        let timer = self.writing.get_or_insert_with(|| Box::pin(sleep(self.timeouts.head)));
        timer.as_mut().poll(cx).map(|()| Err(self.timed_out("slow_reader")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            return self.poll_timeout(cx).map(Err);
        }
        if buffer.filled().len() > before {
            self.phase.received(&buffer.filled()[before..]);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.poll_written(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.poll_written(cx, shut)
    }
}
