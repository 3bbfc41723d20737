//! Shared by the tests of inputs: a stream of bytes that follows a script.

use crate::run::byte_stream::ByteStream;
use crate::stop::{Stop, Woken};
use evt_core::error::Result;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Error, Read};
use std::time::Duration;

/// A step of a script: the result of a wait or a read.
#[derive(Clone, Debug)]
pub enum Part {
    /// It has these bytes.
    Bytes(Vec<u8>),
    /// It has nothing for now.
    Idle,
    /// A read fails.
    Fails,
}

/// A pipe that does what its script says, then ends.
pub struct Script(RefCell<VecDeque<Part>>);

impl Script {
    /// Makes a pipe.
    pub fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        Self(RefCell::new(parts.into_iter().collect()))
    }

    /// Makes a pipe that has `content` in pieces of these lengths, over and over; it is idle after each.
    pub fn pieces(content: &[u8], lengths: &[usize]) -> Self {
        let (mut rest, mut parts) = (content, vec![]);
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at((*length).clamp(1, rest.len()));
            parts.extend([Part::Bytes(piece.to_vec()), Part::Idle]);
            rest = later;
        }
        Self::new(parts)
    }
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let parts = self.0.get_mut();
        match parts.pop_front() {
            None => Ok(0),
            Some(Part::Idle) => panic!("read without a wait"),
            Some(Part::Fails) => Err(Error::other("the line is cut")),
            Some(Part::Bytes(mut bytes)) => {
                let count = bytes.len().min(buffer.len());
                buffer[..count].copy_from_slice(&bytes[..count]);
                bytes.drain(..count);
                if !bytes.is_empty() {
                    parts.push_front(Part::Bytes(bytes));
                }
                Ok(count)
            }
        }
    }
}

impl ByteStream for Script {
    fn wait(&self, stop: &Stop, stops_at_signals: bool, timeout: Option<Duration>) -> Result<Woken> {
        if stops_at_signals && stop.signal().is_some() {
            return Ok(Woken::Stopped);
        }
        let mut parts = self.0.borrow_mut();
        while let Some(Part::Idle) = parts.front() {
            parts.pop_front();
            if timeout.is_some() {
                return Ok(Woken::Timeout);
            }
        }
        Ok(Woken::Ready)
    }

    fn file(&self) -> Option<&File> {
        None
    }
}
