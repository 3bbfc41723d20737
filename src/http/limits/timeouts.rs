//! Timeouts of one connection: how long it may be idle, send a head, or leave an answer unread.
//!
//! Hyper has one timeout for an idle connection and for a head together, and none for an unread answer. But a
//! keep-alive connection may be idle for a minute, while a head that takes ten seconds is an attack.

use super::metrics::HttpMetrics;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Maximum bytes of a head, and of one read.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// Timeouts of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTimeouts {
    /// Between two requests.
    pub idle: Duration,
    /// From the first byte of a head to its last, and for the client to read each part of an answer.
    pub head: Duration,
}

/// The states of a connection: between requests, receiving a head, serving a request.
const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// The state of a connection, shared by its service and its byte stream.
#[derive(Clone, Default)]
pub struct Phase(Arc<AtomicU8>);

impl Phase {
    /// Marks the head as complete.
    pub fn begin(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    /// Marks the request as answered.
    pub fn end(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
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
        let reading = Box::pin(sleep(timeouts.idle));
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
            // These bytes begin a head; during a request they belong to its body.
            let _ = self.phase.0.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed);
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
