//! Frames from a file or a pipe.

use super::bytes::{Bytes, Chunk};
use crate::error::Result;
use crate::frame::{Decoder, Finish, Frame};
use std::time::Duration;

/// One framed input being read.
pub struct FrameInput {
    bytes: Bytes,
    decoder: Decoder,
}

/// What a framed input gives.
pub enum Framed {
    /// A frame.
    Frame(Frame),
    /// The end, proven or Arrow's.
    End(Finish),
    /// Nothing for a while.
    Idle,
    /// A signal stopped the reading before the end.
    Stopped,
}

impl FrameInput {
    /// Reads `bytes` as frames; of packed columns at most `ratio_max` bytes come out of one.
    pub fn new(bytes: Bytes, ratio_max: u64) -> Self {
        Self { bytes, decoder: Decoder::new(ratio_max) }
    }

    /// Whether a control message has come: rows before the first may have passed through another program.
    pub fn is_controlled(&self) -> bool {
        self.decoder.is_controlled()
    }

    /// The bytes behind it.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The next frame, waited for at most `timeout` (for ever where there is none); exit 65 where the stream is torn.
    pub fn read(&mut self, timeout: Option<Duration>) -> Result<Framed> {
        loop {
            let read = self.bytes.read(self.decoder.space(), timeout)?;
            let at = |error: crate::Error| error.at(self.bytes.name());
            match read {
                Chunk::Bytes(count) => {
                    if let Some(frame) = self.decoder.filled(count).map_err(at)? {
                        return Ok(Framed::Frame(frame));
                    }
                }
                Chunk::Idle => return Ok(Framed::Idle),
                Chunk::End => return self.decoder.finish().map(Framed::End).map_err(at),
                Chunk::Stopped => return Ok(Framed::Stopped),
            }
        }
    }
}
