//! What an input reads: bytes that can be waited for, or messages of a stage of the same process.

use crate::stop::{Stop, Woken};
use evt_core::error::{Error, Result};
use evt_core::frame::Passed;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

/// A stream of bytes that can be waited for.
pub trait ByteStream: Read {
    /// Waits until bytes can be read or the end has come, a signal arrives (if `stops_at_signals`), or `timeout` has
    /// passed.
    fn wait(&self, stop: &Stop, stops_at_signals: bool, timeout: Option<Duration>) -> Result<Woken>;

    /// Returns the file of the stream, if it is a file.
    fn file(&self) -> Option<&File>;

    /// Returns the number of its bytes, if that is known and no read waits for a writer: that of a regular file or an
    /// object.
    fn size(&self) -> Option<u64> {
        None
    }

    /// Returns why the last read failed, if that says more than its error.
    fn take_fault(&mut self) -> Option<Error> {
        None
    }

    /// Whether the next part of the stream is a message that a stage of this process passes on without encoding it.
    fn passes_messages(&self) -> bool {
        false
    }

    /// Takes such a message, once the stream can be read; `None` at its end.
    fn take_message(&mut self) -> Result<Option<Passed>> {
        Ok(None)
    }
}

impl ByteStream for File {
    fn wait(&self, stop: &Stop, stops_at_signals: bool, timeout: Option<Duration>) -> Result<Woken> {
        stop.wait(self, stops_at_signals, timeout)
    }

    fn file(&self) -> Option<&File> {
        Some(self)
    }
}
