//! Time limits of one connection: how long it may be idle, send a head, or leave an answer unread.
//!
//! Hyper has one limit for the first two. But an idle keep-alive connection of a minute is normal, and a head that takes ten
//! seconds is an attack.

use super::meter::Meter;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Maximum bytes of a head, and of one read.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
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

/// The byte stream of a connection, with time limits.
pub struct Watched<S> {
    stream: S,
    phase: Phase,
    patience: Patience,
    meter: Meter,
    /// The state that the read timer was set for; it is set again when the state changes.
    timed: Option<u8>,
    reading: Pin<Box<Sleep>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// Wraps a stream.
    pub fn new(stream: S, phase: Phase, patience: Patience, meter: Meter) -> Self {
        let reading = Box::pin(sleep_until(Instant::now() + patience.idle));
        Self { stream, phase, patience, meter, timed: None, reading, writing: None }
    }

    fn late(&self, reason: &str) -> io::Error {
        self.meter.refused_connection(reason);
        io::ErrorKind::TimedOut.into()
    }

    /// Handles a read without data: fails if its time is over.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let phase = self.phase.get();
        let (wait, reason) = match phase {
            // The deadline of the request applies.
            BUSY => {
                self.timed = None;
                return Poll::Pending;
            }
            HEAD => (self.patience.head, "slow_head"),
            _ => (self.patience.idle, "idle"),
        };
        if self.timed != Some(phase) {
            self.timed = Some(phase);
            self.reading.as_mut().reset(Instant::now() + wait);
        }
        self.reading.as_mut().poll(cx).map(|()| self.late(reason))
    }

    fn poll_written<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.writing = None;
            return done;
        }
        let wait = self.patience.head;
        let timer = self.writing.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + wait)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(self.late("slow_reader"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            return self.poll_patience(cx).map(Err);
        }
        if buffer.filled().len() > before {
            // These bytes begin a head; during a request they belong to its body.
            let _ = self.phase.0.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
