//! Raw input: records of a text format, mapped onto rows.

use super::buffer_pool::BufferPool;
use super::bytes::{Bytes, Chunk};
use super::{Input, InputEnd, Step};
use crate::error::{Error, Result};
use crate::format::{Records, Splitter, jsonl};
use crate::frame::How;
use crate::ingest::{ByteProgress, Ingest, Spot};
use crate::kind::dead::{ErrorType, Fault};
use std::time::Duration;

/// Bytes read at once: a buffer of this size stays in the cache.
const READ_BYTES: usize = 256 << 10;

/// What some editors put before UTF-8 text.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// One text input being read.
pub struct TextInput {
    bytes: Bytes,
    splitter: Box<dyn Splitter>,
    records: Records,
    chunk: BufferPool,
    start: usize,
    end: usize,
    /// Bytes of a record that is too long, found so far; none while records fit.
    oversized: Option<Oversized>,
    /// Whether records are JSON lines, so that an array is worth a word.
    json: bool,
    started: bool,
    /// The number of the last record's line in this file.
    line: i64,
    /// Lines of other files of the partition before this one's: an offset is the line and this.
    lines_before: i64,
    partition: u32,
}

struct Oversized {
    payload: Vec<u8>,
    length: u64,
    line: i64,
}

impl TextInput {
    /// Reads `bytes` as records of `splitter` (`json`: JSON lines), all of partition number `partition`.
    pub fn new(bytes: Bytes, (splitter, json): (Box<dyn Splitter>, bool), partition: u32) -> Self {
        Self {
            bytes,
            splitter,
            json,
            records: Records::default(),
            chunk: BufferPool::new(READ_BYTES),
            start: 0,
            end: 0,
            oversized: None,
            started: false,
            line: 0,
            lines_before: 0,
            partition,
        }
    }

    /// The bytes behind it.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Lines of the partition, this file's records so far included.
    pub fn lines(&self) -> i64 {
        self.lines_before + self.line
    }

    /// The next record is one that comes after `lines` lines of the partition.
    pub fn count_from(&mut self, lines: i64) {
        self.lines_before = lines - self.line;
    }

    /// Reads once, without waiting, and maps the whole records; an unfinished line waits for its rest.
    pub fn read(&mut self, ingest: &mut Ingest) -> Result<Chunk> {
        self.make_room(ingest.line_max());
        let chunk = self.bytes.read(&mut self.chunk.buffer[self.end..], Some(Duration::ZERO))?;
        if let Chunk::Bytes(count) = chunk {
            self.end += count;
            self.check_start()?;
            self.take(false, ingest)?;
        }
        Ok(chunk)
    }

    /// Nothing more comes: an unfinished last line is a record.
    pub fn close(&mut self, ingest: &mut Ingest) -> Result<()> {
        self.take(true, ingest)
    }

    /// Begins the file again.
    pub fn restart(&mut self, splitter: Box<dyn Splitter>) -> Result<()> {
        self.bytes.restart()?;
        self.splitter = splitter;
        self.lines_before = self.lines();
        (self.start, self.end, self.line, self.started) = (0, 0, 0, false);
        Ok(())
    }

    /// Moves what is left to the front, and grows the buffer to hold the longest record allowed.
    fn make_room(&mut self, line_max: usize) {
        let buffer = &mut self.chunk.buffer;
        if self.start > 0 {
            buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == buffer.len() && buffer.len() < line_max + READ_BYTES {
            let length = (buffer.len() * 2).min(line_max + READ_BYTES);
            buffer.resize(length, 0);
        }
    }

    /// A byte order mark is no part of the first record. A JSON array is the one wrong format worth a word of its own.
    fn check_start(&mut self) -> Result<()> {
        let head = &self.chunk.buffer[self.start..self.end];
        if self.started || head.len() < BOM.len() && BOM.starts_with(head) {
            return Ok(());
        }
        self.started = true;
        if head.starts_with(BOM) {
            self.start += BOM.len();
        }
        if self.json && jsonl::is_array(&self.chunk.buffer[self.start..self.end]) {
            return Err(Error::corrupt(jsonl::ARRAY_HINT).at(self.bytes.name()));
        }
        Ok(())
    }

    /// Maps the whole records in the buffer.
    fn take(&mut self, last: bool, ingest: &mut Ingest) -> Result<()> {
        let chunk = self.chunk.lend();
        // A row that keeps a little of it keeps all of it.
        ingest.lend((self.end - self.start >= chunk.len() / 2).then(|| chunk.clone()));
        let taken = self.take_from(&chunk, last, ingest);
        ingest.lend(None);
        let start = self.chunk.take_back(chunk, self.start..self.end);
        (self.start, self.end) = (start, start + self.end - self.start);
        taken
    }

    fn take_from(&mut self, chunk: &[u8], last: bool, ingest: &mut Ingest) -> Result<()> {
        loop {
            if self.oversized.is_some() && !self.skip(chunk, last, ingest)? {
                return Ok(());
            }
            let input = &chunk[self.start..self.end];
            if input.is_empty() && !last {
                return Ok(());
            }
            self.records.clear();
            let done = self.splitter.split(input, last, &mut self.records).map_err(|e| e.at(self.bytes.name()))?;
            let whole = simdutf8::basic::from_utf8(&input[..done]).ok();
            let spot = Spot { name: self.bytes.name(), partition: self.partition, wrapper: None };
            let last_line = self.records.rows.last().map(|record| record.line as i64);
            if self.lines_before > 0 {
                let before = self.lines_before.cast_unsigned();
                self.records.rows.iter_mut().for_each(|record| record.line += before);
            }
            ingest.records(&self.records, (input, whole), spot)?;
            self.line = last_line.unwrap_or(self.line);
            self.start += done;
            let rest = self.end - self.start;
            if rest <= ingest.line_max() || last {
                return Ok(());
            }
            self.oversized = Some(Oversized {
                payload: chunk[self.start..self.start + ingest.record_max()].to_vec(),
                length: 0,
                line: self.line + 1,
            });
        }
    }

    /// Passes over the rest of a record that is too long; true once its end is found.
    fn skip(&mut self, chunk: &[u8], last: bool, ingest: &mut Ingest) -> Result<bool> {
        let (count, found) = self.splitter.skip(&chunk[self.start..self.end]);
        self.start += count;
        let Some(mut oversized) = self.oversized.take() else { return Ok(true) };
        oversized.length += count as u64;
        if !found && !last {
            self.oversized = Some(oversized);
            return Ok(false);
        }
        let length = oversized.length - u64::from(found);
        let message =
            format!("the record has {length} bytes (--max-record {}); the payload is truncated", ingest.record_max());
        let fault = Fault::new(ErrorType::TooLargeError, message).of_cut(length);
        self.line = oversized.line;
        let spot = Spot { name: self.bytes.name(), partition: self.partition, wrapper: None };
        ingest.refuse((&oversized.payload, self.lines()), &fault, spot)?;
        Ok(true)
    }
}

impl Input for TextInput {
    fn step(&mut self, ingest: &mut Ingest) -> Result<Step> {
        match self.read(ingest)? {
            Chunk::Bytes(_) => Ok(Step::More),
            Chunk::Idle => Ok(Step::Idle),
            Chunk::Stopped => Ok(Step::Stopped),
            Chunk::End => self.close(ingest).map(|()| Step::End),
        }
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        self.bytes.wait(timeout)
    }

    fn progress(&self) -> ByteProgress {
        self.bytes.progress()
    }

    fn is_live(&self) -> bool {
        self.bytes.progress().total.is_none()
    }

    fn end(&self) -> InputEnd {
        // Text does not say whether its last line was the last one.
        InputEnd { how: How::Exhausted, is_proven: false, verdict: 0 }
    }
}
