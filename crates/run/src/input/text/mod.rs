//! Raw input: records of a text format, which the emitter maps to rows.
//!
//! ```text
//! Bytes::read ─► buffer ─► check_start ─► Splitter::split ─┬─► records ─► RecordEmitter::records
//!                  ▲                                       ├─► too long: Splitter::skip ─► one faulty record
//!                  └────────── incomplete record ◄─────────┘
//! end of the file ─► incomplete record: read, left for the next run, or dropped (OpenRecord)
//! ```
//!
//! `check_start` skips a byte order mark; with `rejects_array` it rejects a file that is one JSON array. The offset of
//! a record is the number of its line in the partition, which may have several files.

use crate::emit::{ByteProgress, Chunk, RecordEmitter, too_large};
use crate::input::buffer_pool::BufferPool;
use crate::input::bytes::{Bytes, ReadOutcome};
use crate::input::{EndProof, Input, InputEnd, Step};
use arrow::buffer::Buffer;
use evt_core::counts::counted;
use evt_core::error::{Error, Result};
use evt_core::format::{self, BOM, Body, Records, Skipped, Splitter, jsonl};
use evt_core::frame::EndReason;
use evt_core::json::scan::is_json;
use evt_core::kind::dead::{ErrorType, Fault};
use evt_core::mapping::Reach;
use std::time::Duration;

/// Size of the read buffer in bytes: it fits into the CPU's cache.
const READ_BYTES: usize = 256 << 10;

/// A text input being read.
pub struct TextInput {
    bytes: Bytes,
    splitter: Box<dyn Splitter>,
    records: Records,
    buffers: BufferPool,
    /// The range of `buffers` that is read and not yet mapped: `start..end`.
    start: usize,
    end: usize,
    /// The record being skipped because it is too long.
    oversized: Option<Oversized>,
    rules: TextRules,
    beginning: Beginning,
    lines: LineNumbers,
    /// The stream time (µs) of the partition before the first record of the file; `None` while the file has not begun.
    began: Option<Option<i64>>,
    partition: u32,
}

/// The progress of the checks at the beginning of the file: for a byte order mark, then for one JSON array.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// Nothing was read; a byte order mark may follow.
    Unread,
    /// A byte order mark was skipped if there was one. The file may still be one JSON array.
    Blank,
    /// The file is not one JSON array.
    Known,
}

/// Line numbers of one file, and their offsets in its partition, which may have several files.
#[derive(Default)]
struct LineNumbers {
    /// The line number of the last record in this file, from 1.
    last: i64,
    /// Lines of this file up to this number were read by an earlier run, and are passed over.
    passed: i64,
    /// The lines of the partition from other files, and from this file before a restart. The offset of a record is the
    /// sum of this and its line.
    before: i64,
    /// Whether a signal has stopped the run within a line of a pipe, which is lost.
    is_torn: bool,
}

impl LineNumbers {
    /// Returns the number of lines of this file that this run or an earlier one has read.
    fn reached(&self) -> i64 {
        self.last.max(self.passed)
    }
}

/// The treatment of an incomplete last record: a line without a line break, or a document without its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenRecord {
    /// It is a record.
    #[default]
    Read,
    /// It is left for a later run, which reads it whole; a line says so.
    Leave,
    /// It is left without a line.
    LeaveSilently,
    /// It is not read, and no later run continues the input; a line says so.
    Drop,
}

/// The rules by which a text input reads.
#[derive(Clone, Copy)]
struct TextRules {
    /// Whether the format is JSON lines.
    json: bool,
    /// Whether an input that is one JSON array gets its own message, because no flag names the format.
    rejects_array: bool,
    /// The treatment of an incomplete last record.
    open_record: OpenRecord,
}

/// A record that is too long.
struct Oversized {
    /// Its first bytes (`--max-record`).
    payload: Vec<u8>,
    /// Its bytes so far.
    length: u64,
    /// Whether the last of them is a carriage return, which may belong to the end of the line.
    ends_with_cr: bool,
    line: i64,
}

impl TextInput {
    /// Makes an input that reads `bytes` as records of `splitter` (`json`: JSON lines), all of partition `partition`.
    pub fn new(bytes: Bytes, splitter: Box<dyn Splitter>, json: bool, partition: u32) -> Self {
        Self {
            bytes,
            splitter,
            rules: TextRules { json, rejects_array: false, open_record: OpenRecord::Read },
            records: Records::default(),
            buffers: BufferPool::new(READ_BYTES),
            start: 0,
            end: 0,
            oversized: None,
            beginning: Beginning::Unread,
            lines: LineNumbers::default(),
            began: None,
            partition,
        }
    }

    /// Sets the treatment of an incomplete last record.
    pub fn with_open_record(mut self, open_record: OpenRecord) -> Self {
        self.set_open_record(open_record);
        self
    }

    /// Sets the treatment of an incomplete last record.
    pub fn set_open_record(&mut self, open_record: OpenRecord) {
        self.rules.open_record = open_record;
    }

    /// Rejects an input of JSON lines that begins with an array. Otherwise such a line is a record that is not an
    /// object.
    pub fn rejecting_array(mut self, rejects_array: bool) -> Self {
        self.rules.rejects_array = rejects_array;
        self
    }

    /// Skips the first `lines` lines of the file, which an earlier run has read and has counted as lines of the
    /// partition.
    pub fn passing_over(mut self, lines: i64) -> Self {
        self.lines.passed = lines;
        self
    }

    /// Sets the stream time (µs) of the partition before the first record of the file, unless it has begun. Formats
    /// without years begin with it, so a run that reads the file again sets the one of the first run.
    pub fn begin(&mut self, stream_time: Option<i64>) {
        self.began.get_or_insert(stream_time);
    }

    /// Returns the stream time (µs) of the partition before the first record of the file, if there was one.
    pub fn began(&self) -> Option<i64> {
        self.began.flatten()
    }

    /// Returns the bytes that it reads.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the number of lines of the partition, including those of this file so far.
    pub fn lines(&self) -> i64 {
        self.lines.before + self.lines.reached()
    }

    /// Returns the number of lines of this file that this run or an earlier one has read.
    pub fn line_reached(&self) -> i64 {
        self.lines.reached()
    }

    /// Whether bytes were read that belong to no mapped record yet.
    pub fn has_rest(&self) -> bool {
        self.start < self.end || self.oversized.is_some() || self.splitter.is_open()
    }

    /// Sets the number of lines of the partition before the next record of this file.
    pub fn count_from(&mut self, lines: i64) {
        self.lines.before = lines - self.lines.reached();
    }

    /// Reads once, without waiting, and maps the complete records. An incomplete line stays in the buffer.
    pub fn read(&mut self, emitter: &mut RecordEmitter) -> Result<ReadOutcome> {
        self.make_room(emitter.run().line_max());
        let read = self.bytes.read(&mut self.buffers.buffer[self.end..], Some(Duration::ZERO))?;
        if let ReadOutcome::Bytes(count) = read {
            self.end += count;
            if let Some(after) = self.began().filter(|_| self.beginning == Beginning::Unread) {
                self.splitter.resume(after);
            }
            if self.check_start()? {
                self.take(false, emitter)?;
            }
        }
        Ok(read)
    }

    /// Maps the rest of the buffer after the end of the file. The [`OpenRecord`] of the input decides about an
    /// incomplete last record; JSON that is complete without a line break is always mapped. Errors: exit status 65 if a
    /// document around the records breaks off, because its end is known.
    pub fn close(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        if self.rules.open_record == OpenRecord::Read {
            self.make_room(emitter.run().line_max());
            self.end += self.bytes.end_text(&mut self.buffers.buffer[self.end..]);
        }
        let rest = &self.buffers.buffer[self.start..self.end];
        // JSON has an end of its own; a line of another format may be incomplete.
        let is_whole = || self.rules.json && str::from_utf8(rest).is_ok_and(is_json);
        let (is_open, skipped) = (self.splitter.is_open(), self.oversized.as_ref().map_or(0, |record| record.length));
        let has_rest = skipped > 0 || !rest.is_empty() && !is_whole();
        if self.rules.open_record != OpenRecord::Read && (is_open || has_rest) {
            let why = match () {
                () if is_open => "the last document is not complete",
                // Its line breaks are in quotes.
                () if rest.contains(&b'\n') => "the last record is not complete",
                () => "the last line has no line break",
            };
            let bytes = skipped + rest.len() as u64;
            let outcome = match self.rules.open_record {
                OpenRecord::Read | OpenRecord::LeaveSilently => return Ok(()),
                OpenRecord::Leave => "it is left for the next run".to_owned(),
                OpenRecord::Drop => format!("its {} are not read", counted(bytes, ["byte", "bytes"])),
            };
            emitter.run().console.warn(format!("{}: {why}; {outcome}", self.bytes.name()));
            return Ok(());
        }
        self.take(true, emitter)?;
        if self.splitter.is_open() {
            let torn = format!("torn document: it breaks off after record {}", self.lines());
            return Err(Error::corrupt(torn).at(self.bytes.name()));
        }
        Ok(())
    }

    /// Rewinds the file to its start, with a new splitter. Line numbers of the partition continue.
    pub fn restart(&mut self, splitter: Box<dyn Splitter>) -> Result<()> {
        self.bytes.restart()?;
        self.splitter = splitter;
        self.lines = LineNumbers { before: self.lines(), ..LineNumbers::default() };
        (self.start, self.end, self.beginning, self.began) = (0, 0, Beginning::Unread, None);
        Ok(())
    }

    /// Moves the unmapped bytes to the front of the buffer, and grows a full buffer, up to the longest line allowed and
    /// one read.
    fn make_room(&mut self, line_max: usize) {
        let buffer = &mut self.buffers.buffer;
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

    /// Skips a byte order mark at the start of the file. Returns false if more bytes decide whether there is one.
    /// Errors: exit status 65 if the file is one JSON array and that is rejected.
    fn check_start(&mut self) -> Result<bool> {
        let head = &self.buffers.buffer[self.start..self.end];
        if self.beginning == Beginning::Unread {
            if head.len() < BOM.len() && BOM.starts_with(head) {
                return Ok(false);
            }
            self.beginning = Beginning::Blank;
            if head.starts_with(BOM) {
                self.start += BOM.len();
            }
        }
        if self.beginning == Beginning::Blank && self.rules.json && self.rules.rejects_array {
            let head = &self.buffers.buffer[self.start..self.end];
            if jsonl::is_array(head) {
                return Err(Error::corrupt(jsonl::ARRAY_HINT).at(self.bytes.name()));
            }
            if !jsonl::is_blank(head) {
                self.beginning = Beginning::Known;
            }
        }
        Ok(true)
    }

    /// Maps the complete records in the buffer; all of them if this is the `last` call.
    fn take(&mut self, last: bool, emitter: &mut RecordEmitter) -> Result<()> {
        let chunk = self.buffers.share();
        // A row that refers to a few bytes keeps the whole buffer in memory, so a buffer that is less than half full is
        // not shared.
        let is_shared = self.end - self.start >= chunk.len() / 2;
        let taken = self.take_from(&chunk, is_shared, last, emitter);
        let start = self.buffers.reclaim(chunk, self.start..self.end);
        (self.start, self.end) = (start, start + self.end - self.start);
        taken
    }

    fn take_from(&mut self, chunk: &Buffer, is_shared: bool, last: bool, emitter: &mut RecordEmitter) -> Result<()> {
        loop {
            if self.oversized.is_some() && !self.skip(chunk, last, emitter)? {
                return Ok(());
            }
            // However the bytes arrive, no record is found that is longer than a line may be: one of CSV then ends at
            // its next line, not behind its quotes.
            let line_max = emitter.run().line_max();
            let input = &chunk[self.start..self.end.min(self.start + line_max + 1)];
            let is_all = self.start + input.len() == self.end;
            if input.is_empty() && !last {
                return Ok(());
            }
            self.records.clear();
            let done =
                self.splitter.split(input, last && is_all, &mut self.records).map_err(|e| e.at(self.bytes.name()))?;
            emitter.declare(|| self.splitter.names());
            let last_line = self.records.rows.last().map(|record| record.line as i64);
            if self.lines.last < self.lines.passed {
                self.records.rows.retain(|record| record.line as i64 > self.lines.passed);
            }
            if self.lines.before > 0 {
                let before = self.lines.before.cast_unsigned();
                self.records.rows.iter_mut().for_each(|record| record.line += before);
            }
            let bytes = chunk.slice_with_length(self.start, done);
            let records = Chunk::new(std::mem::take(&mut self.records), self.bytes.name().into(), self.partition);
            self.records = emitter.records(records.of(bytes, is_shared))?;
            self.lines.last = last_line.unwrap_or(self.lines.last);
            self.start += done;
            if is_all && (last || self.end - self.start <= line_max) {
                return Ok(());
            }
            if done > 0 {
                continue;
            }
            self.oversized = Some(Oversized {
                payload: chunk[self.start..self.start + emitter.run().record_max].to_vec(),
                length: 0,
                ends_with_cr: false,
                line: self.splitter.lines().cast_signed() + 1,
            });
        }
    }

    /// Skips the rest of a record that is too long, and makes it a dead letter at its end; returns whether the end was
    /// found.
    fn skip(&mut self, chunk: &[u8], last: bool, emitter: &mut RecordEmitter) -> Result<bool> {
        let input = &chunk[self.start..self.end];
        let Skipped { bytes, is_complete } = self.splitter.skip(input);
        self.start += bytes;
        let Some(mut oversized) = self.oversized.take() else { return Ok(true) };
        let terminator = self.splitter.terminator();
        let content = &input[..bytes - if is_complete { terminator as usize } else { 0 }];
        oversized.length += content.len() as u64;
        oversized.ends_with_cr = content.last().map_or(oversized.ends_with_cr, |last| *last == b'\r');
        if !is_complete && !last {
            self.oversized = Some(oversized);
            return Ok(false);
        }
        // Elements of a document have no ends of lines.
        let length = oversized.length - u64::from(oversized.ends_with_cr && terminator > 0);
        self.lines.last = oversized.line;
        if self.lines.last <= self.lines.passed {
            return Ok(true);
        }
        let record_max = emitter.run().record_max;
        let fault = match usize::try_from(length) {
            // A record of CSV: what follows its first line is read on its own.
            Ok(length) if length <= record_max => {
                oversized.payload.truncate(length);
                let message = format!("a quoted field does not end within {} bytes", emitter.run().line_max());
                Fault::new(ErrorType::ParseError, format!("{message}; reading on at the next line"))
            }
            _ => too_large(&length.to_string(), length, record_max),
        };
        let raw = 0..oversized.payload.len();
        let record = format::Record { raw, line: self.lines().cast_unsigned(), body: Body::Fault(fault) };
        let records = Records { rows: vec![record], ..Records::default() };
        let records = Chunk::new(records, self.bytes.name().into(), self.partition);
        emitter.records(records.of(Buffer::from_vec(oversized.payload), false))?;
        Ok(true)
    }
}

impl Input for TextInput {
    fn step(&mut self, emitter: &mut RecordEmitter) -> Result<Step> {
        match self.read(emitter)? {
            ReadOutcome::Bytes(_) => Ok(Step::More),
            ReadOutcome::Idle => Ok(Step::Idle),
            ReadOutcome::Stopped => Ok(Step::Stopped),
            ReadOutcome::End => {
                if self.bytes.note_truncation()? {
                    let name = self.bytes.name();
                    emitter.run().console.warn(format!("{name}: truncated while it was read; lines may be lost"));
                }
                self.close(emitter).map(|()| Step::End)
            }
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

    fn reach(&self) -> Reach {
        if self.is_live() { Reach::Pipe } else { Reach::File }
    }

    /// Reports the beginning of a line that a pipe does not have again; a file has the line for the next run.
    fn stop(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        if self.bytes.is_regular() {
            return Ok(());
        }
        let rest = &self.buffers.buffer[self.start..self.end];
        if self.rules.json && str::from_utf8(rest).is_ok_and(is_json) {
            return self.take(true, emitter);
        }
        self.lines.is_torn = !rest.trim_ascii().is_empty() || self.oversized.is_some();
        if self.lines.is_torn {
            let line =
                "stopped within a line, whose beginning was read; a pipe does not have it again, so the line is lost";
            emitter.run().console.warn(format!("{}: {line}", self.bytes.name()));
        }
        Ok(())
    }

    fn end(&self) -> InputEnd {
        // A text format has no mark at its end, so a truncated file cannot be detected.
        let proof = EndProof::of_unmarked(self.bytes.is_regular());
        InputEnd {
            how: EndReason::Exhausted,
            proof,
            verdict: u8::from(self.lines.is_torn || self.bytes.is_truncated()),
        }
    }
}

#[cfg(test)]
mod tests;
