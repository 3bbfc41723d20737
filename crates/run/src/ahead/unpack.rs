//! Reads a compressed file ahead on the threads of a run: one unpacks while others map.

use super::{InputPart, PartsAhead};
use crate::run::Run;
use evt_core::error::{Error, Result};
use evt_core::format::unpack::{FileFrom, Unpacked};
use std::fs::File;
use std::io::Read;
use std::iter::Once;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The pieces of a file.
type Piecewise = InputPart<Vec<u8>>;

/// Bytes of a piece.
const PIECE: usize = 256 << 10;

/// A compressed file that the threads of a run read ahead.
pub struct UnpackAhead {
    pieces: PartsAhead<Once<Result<Piecewise>>, Vec<u8>>,
    /// The piece that is being read, and how much of it was.
    piece: Vec<u8>,
    at: usize,
    /// The compressed bytes that were read.
    packed: Arc<AtomicU64>,
}

impl UnpackAhead {
    /// Reads compressed bytes, but passes over the first `passed` decompressed ones.
    pub fn new(file: FileFrom<File>, passed: u64, run: &Run) -> Self {
        let packed = Arc::new(AtomicU64::new(0));
        let reader = CountedFile { file, read: packed.clone() };
        let part = Box::new(Unpacking { reader: Unpacked::new(reader, run.ratio_max), passed, fault: None });
        let pieces = PartsAhead::new(std::iter::once(Ok(part as Piecewise)), &run.pool);
        Self { pieces, piece: vec![], at: 0, packed }
    }

    /// Reads into `buffer`; 0 is the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.at == self.piece.len() {
            match self.pieces.next() {
                Some(piece) => (self.piece, self.at) = (piece?, 0),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }

    /// Returns the number of compressed bytes that were read.
    pub fn packed(&self) -> u64 {
        self.packed.load(Ordering::Relaxed)
    }
}

struct CountedFile {
    file: FileFrom<File>,
    read: Arc<AtomicU64>,
}

impl Read for CountedFile {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The pieces of a compressed file.
struct Unpacking {
    reader: Unpacked<CountedFile>,
    /// Decompressed bytes that are to be passed over.
    passed: u64,
    /// The error behind the last piece.
    fault: Option<Error>,
}

impl Iterator for Unpacking {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(fault) = self.fault.take() {
            return Some(Err(fault));
        }
        let (mut piece, mut count) = (vec![0; PIECE], 0);
        while count < PIECE {
            let most = if self.passed > 0 { self.passed.min(PIECE as u64) as usize } else { PIECE - count };
            match self.reader.read(&mut piece[count..][..most]) {
                Ok(0) => break,
                Ok(read) if self.passed > 0 => self.passed -= read as u64,
                Ok(read) => count += read,
                Err(error) if count == 0 => return Some(Err(error)),
                Err(error) => {
                    self.fault = Some(error);
                    break;
                }
            }
        }
        piece.truncate(count);
        (count > 0).then_some(Ok(piece))
    }
}
