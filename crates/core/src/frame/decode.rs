//! Decodes bytes to frames: push-style; every length is checked before use.

use super::control::{Control, End};
use super::message::{BODY_MAX, HEADER_MAX, MARK};
use super::schema::read_schema;
use crate::counts::counted;
use crate::decompression::{RATIO_MAX, Ratio};
use crate::error::{Error, Result};
use crate::kind::{VERSION, VERSION_KEY};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::SchemaRef;
use arrow_ipc::convert::MessageBuffer;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::{Message, MessageHeader};
use std::collections::HashMap;

/// A decoded frame.
#[derive(Debug)]
pub enum Frame {
    /// The first frame: the schema and its metadata.
    Schema(SchemaRef),
    /// Rows, at least one.
    Batch(RecordBatch),
    /// A control message.
    Control(Control),
    /// Arrow's end-of-stream marker; after control messages only if a matching `evt.end` precedes it.
    Eos,
}

/// A message from a stage of the same process, which needs no encoding.
#[derive(Debug)]
pub enum Passed {
    /// Rows.
    Batch(RecordBatch),
    /// A control message, progress of any number of partitions included.
    Control(Control),
    /// The end of the stream.
    Eos,
}

/// The kind of end that the decoder has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// At `evt.end` and the marker: the end is proven.
    Ended(End),
    /// At Arrow's marker: a stream of another program, or one that another program passed on without its control
    /// messages.
    Foreign,
}

enum NextPart {
    /// Mark and length of the next header.
    Prefix,
    /// A header of this length.
    Header,
    /// The body that belongs to a header.
    Body(MessageBuffer),
    /// Nothing may follow.
    Done,
}

/// Decodes one stream. Fill [`Decoder::space`], then report the number of bytes with [`Decoder::filled`].
pub struct Decoder {
    part: NextPart,
    small: Vec<u8>,
    body: MutableBuffer,
    /// The body of the last rows, whose memory is used again once nothing refers to it. It keeps the length of the
    /// longest body so far, so that the next body needs no zeroing.
    spent: Option<Buffer>,
    wanted: usize,
    have: usize,
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
    /// Whether a control message has been read: then only `evt.end` is a valid end.
    controlled: bool,
    end: Option<End>,
    rows: u64,
    frames: u64,
    byte: u64,
    frame_byte: u64,
    ratio: Ratio,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            part: NextPart::Prefix,
            small: vec![0; 8],
            body: MutableBuffer::new(0),
            spent: None,
            wanted: 8,
            have: 0,
            schema: None,
            dictionaries: HashMap::new(),
            controlled: false,
            end: None,
            rows: 0,
            frames: 0,
            byte: 0,
            frame_byte: 0,
            ratio: Ratio::new(RATIO_MAX),
        }
    }
}

/// Maximum number of rows that a batch may claim without bytes.
const EMPTY_ROWS_MAX: u64 = 1_000_000;

/// Memory for a body is allocated in steps, so that a corrupt length costs no more than the bytes that arrive.
const BODY_STEP: usize = 8 << 20;

impl Decoder {
    /// Creates a decoder; `ratio_max` bounds the decompressed bytes per compressed byte.
    pub fn new(ratio_max: u64) -> Self {
        Self { ratio: Ratio::new(ratio_max), ..Self::default() }
    }

    /// Returns the space for the next bytes; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        match self.part {
            NextPart::Body(_) => {
                let end = self.wanted.min(self.body.len().max(self.have + BODY_STEP));
                if self.body.len() < end {
                    self.body.resize(end, 0);
                }
                &mut self.body.as_slice_mut()[self.have..end]
            }
            _ => &mut self.small[self.have..self.wanted],
        }
    }

    /// Takes the first `count` bytes of [`Decoder::space`] as read; returns a frame if they complete one.
    pub fn filled(&mut self, count: usize) -> Result<Option<Frame>> {
        self.have += count;
        self.byte += count as u64;
        if self.have < self.wanted {
            return Ok(None);
        }
        self.complete().map_err(|error| error.at(self.frame_position()))
    }

    /// Takes a message between two frames as if its bytes had been read; returns its frame.
    pub fn pass(&mut self, message: Passed) -> Result<Option<Frame>> {
        self.frames += 1;
        self.frame_byte = self.byte;
        let frame = match message {
            Passed::Batch(_) | Passed::Control(_) if self.end.is_some() => Err(after_end()),
            Passed::Batch(batch) if batch.num_rows() == 0 => Ok(None),
            Passed::Batch(batch) => self.rows_of(batch).map(Some),
            Passed::Control(control) => Ok(Some(self.control(control))),
            Passed::Eos => self.marker(),
        };
        frame.map_err(|error| error.at(self.frame_position()))
    }

    /// Returns passed rows with the schema of the stream, which has metadata that the batches of a stage may not have.
    fn rows_of(&mut self, batch: RecordBatch) -> Result<Frame> {
        let schema = self.schema.clone().ok_or_else(|| Error::broken("rows are passed on before their schema"))?;
        self.rows += batch.num_rows() as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(Frame::Batch(RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options)?))
    }

    fn control(&mut self, control: Control) -> Frame {
        self.controlled = true;
        if let Control::End(end) = control {
            self.end = Some(end);
        }
        Frame::Control(control)
    }

    /// Returns the number of the frame in progress and its first byte, for messages.
    fn frame_position(&self) -> String {
        format!("frame {} (byte {})", self.frames, self.frame_byte)
    }

    /// Whether a control message has been read: rows before the first may have passed through another program.
    pub fn is_controlled(&self) -> bool {
        self.controlled
    }

    /// Whether all bytes so far are whole frames.
    pub fn is_between(&self) -> bool {
        matches!(self.part, NextPart::Prefix) && self.have == 0
    }

    /// Returns the number of frames and bytes so far, for messages.
    pub fn position(&self) -> String {
        format!("frame {} (byte {})", self.frames, self.byte)
    }

    /// Returns the kind of end of the input.
    ///
    /// Errors: exit status 65 if it is torn.
    pub fn finish(&self) -> Result<Finish> {
        match (&self.part, self.end) {
            (NextPart::Done, Some(end)) => Ok(Finish::Ended(end)),
            (NextPart::Done, None) => Ok(Finish::Foreign),
            // A tool that failed before its first frame and text without a line look alike.
            _ if self.byte == 0 => Err(Error::corrupt(
                "torn stream: expected a schema, found no data; if its writer did not fail, -f jsonl reads it as empty text",
            )),
            _ => Err(Error::corrupt(format!("torn stream: it stops at {} without evt.end", self.position()))),
        }
    }

    fn complete(&mut self) -> Result<Option<Frame>> {
        match std::mem::replace(&mut self.part, NextPart::Prefix) {
            NextPart::Prefix => self.prefix(),
            NextPart::Header => self.header(),
            NextPart::Body(message) => self.body(&message),
            NextPart::Done => Err(Error::corrupt("bytes after the end of the stream")),
        }
    }

    fn want(&mut self, part: NextPart, count: usize) {
        self.part = part;
        self.wanted = count;
        self.have = 0;
        if !matches!(self.part, NextPart::Body(_)) && self.small.len() < count {
            self.small.resize(count, 0);
        }
    }

    fn prefix(&mut self) -> Result<Option<Frame>> {
        self.frame_byte = self.byte - 8;
        let (mark, length) =
            (&self.small[..4], i32::from_le_bytes([self.small[4], self.small[5], self.small[6], self.small[7]]));
        if mark != MARK {
            return Err(Error::corrupt("not a frame: expected the continuation marker FF FF FF FF"));
        }
        match usize::try_from(length) {
            Ok(0) => self.marker(),
            Ok(length) if length <= HEADER_MAX => {
                self.want(NextPart::Header, length);
                Ok(None)
            }
            _ => Err(Error::corrupt(format!("not a frame: a header of {length} bytes"))),
        }
    }

    /// Takes Arrow's end-of-stream marker: after a control message only after `evt.end`, with the rows it states.
    fn marker(&mut self) -> Result<Option<Frame>> {
        if self.schema.is_none() {
            return Err(Error::corrupt("the stream ends before its schema"));
        }
        match self.end {
            None if self.controlled => return Err(Error::corrupt("torn stream: Arrow's end without evt.end")),
            Some(end) if end.rows != self.rows => {
                let stated = counted(end.rows, ["row", "rows"]);
                return Err(Error::broken(format!("evt.end states {stated}, found {}", self.rows)));
            }
            _ => {}
        }
        self.want(NextPart::Done, 1);
        Ok(Some(Frame::Eos))
    }

    fn header(&mut self) -> Result<Option<Frame>> {
        self.frames += 1;
        let bytes = Buffer::from(&self.small[..self.wanted]);
        let message = MessageBuffer::try_new(bytes).map_err(|error| corrupt("header", error))?;
        let length = message.as_ref().bodyLength();
        let length = usize::try_from(length).ok().filter(|length| *length <= BODY_MAX);
        let length = length.ok_or_else(|| Error::corrupt("not a frame: the length of its body is out of bounds"))?;
        // A dictionary persists, and so does the memory of its body.
        let stays = message.as_ref().header_type() == MessageHeader::DictionaryBatch;
        let spent = if stays { None } else { self.spent.take() };
        let spent = spent.and_then(|spent| spent.into_mutable().ok());
        self.body = spent.unwrap_or_else(|| MutableBuffer::new(length.min(BODY_STEP)));
        self.want(NextPart::Body(message), length);
        if length == 0 { self.complete() } else { Ok(None) }
    }

    fn body(&mut self, message: &MessageBuffer) -> Result<Option<Frame>> {
        let whole: Buffer = std::mem::replace(&mut self.body, MutableBuffer::new(0)).into();
        let frame = self.frame(message.as_ref(), &whole.slice_with_length(0, self.wanted));
        if message.as_ref().header_type() != MessageHeader::DictionaryBatch {
            self.spent = Some(whole);
        }
        self.want(NextPart::Prefix, 8);
        frame
    }

    fn frame(&mut self, message: Message<'_>, body: &Buffer) -> Result<Option<Frame>> {
        match (message.header_type(), self.schema.clone()) {
            (MessageHeader::Schema, None) => self.schema_frame(message),
            (MessageHeader::DictionaryBatch, Some(schema)) => self.dictionary(message, body, &schema),
            (MessageHeader::RecordBatch, Some(schema)) => self.batch(message, body, schema),
            (other, _) => Err(Error::corrupt(format!("unexpected message: {}", other.variant_name().unwrap_or("?")))),
        }
    }

    fn schema_frame(&mut self, message: Message<'_>) -> Result<Option<Frame>> {
        let schema = message.header_as_schema().ok_or_else(|| Error::corrupt("a message has no schema"))?;
        if !schema.endianness().equals_to_target_endianness() {
            return Err(Error::corrupt("expected little-endian data, found big-endian"));
        }
        let schema = read_schema(schema)?;
        let version = schema.metadata().get(VERSION_KEY);
        if let Some(version) = version.filter(|version| *version != VERSION) {
            let why = format!("expected frames of version {VERSION}, found {version}");
            return Err(Error::config("written by a newer evt").because(why));
        }
        let schema = SchemaRef::new(schema);
        self.schema = Some(schema.clone());
        Ok(Some(Frame::Schema(schema)))
    }

    fn dictionary(&mut self, message: Message<'_>, body: &Buffer, schema: &SchemaRef) -> Result<Option<Frame>> {
        let header =
            message.header_as_dictionary_batch().ok_or_else(|| Error::corrupt("a message has no dictionary"))?;
        let data = header.data().ok_or_else(|| Error::corrupt("a dictionary has no data"))?;
        check_batch(&data, body, &mut self.ratio)?;
        guarded(|| read_dictionary(body, header, schema, &mut self.dictionaries, &message.version()))?;
        Ok(None)
    }

    fn batch(&mut self, message: Message<'_>, body: &Buffer, schema: SchemaRef) -> Result<Option<Frame>> {
        let header = message.header_as_record_batch().ok_or_else(|| Error::corrupt("a message has no record batch"))?;
        if self.end.is_some() {
            return Err(after_end());
        }
        for pair in message.custom_metadata().into_iter().flatten() {
            let control = Control::from_metadata(pair.key().unwrap_or(""), pair.value().unwrap_or(""))?;
            if let Some(control) = control {
                return Ok(Some(self.control(control)));
            }
        }
        if header.length() == 0 {
            return Ok(None);
        }
        check_batch(&header, body, &mut self.ratio)?;
        let dictionaries = &self.dictionaries;
        let batch = guarded(|| read_record_batch(body, header, schema, dictionaries, None, &message.version()))?;
        self.rows += batch.num_rows() as u64;
        Ok(Some(Frame::Batch(batch)))
    }
}

/// Makes the checks of a batch that arrow omits: every buffer is inside the body, lengths are valid, and neither the
/// decompressed bytes nor the rows exceed the number that the bytes can contain. Arrow panics on a wrong buffer or
/// length. For a wrong size it allocates memory, and a failed allocation cannot be caught.
pub(crate) fn check_batch(batch: &arrow_ipc::RecordBatch<'_>, body: &[u8], ratio: &mut Ratio) -> Result<()> {
    let (mut packed, mut unpacked) = (0u64, 0u64);
    for buffer in batch.buffers().into_iter().flatten() {
        let bytes = part(body, buffer.offset(), buffer.length());
        let bytes = bytes.ok_or_else(|| Error::corrupt("a buffer extends beyond its body"))?;
        // A compressed buffer starts with its decompressed length; -1 means that it is not compressed.
        let claimed =
            bytes.first_chunk().filter(|_| batch.compression().is_some()).map(|bytes| i64::from_le_bytes(*bytes));
        let claimed = claimed.and_then(|claimed| u64::try_from(claimed).ok());
        unpacked = unpacked.saturating_add(claimed.unwrap_or(0));
        packed += claimed.map_or(0, |_| bytes.len() as u64);
    }
    if unpacked > BODY_MAX as u64 {
        return Err(Error::corrupt(format!("a batch decompresses to more than {} MiB", BODY_MAX >> 20)));
    }
    ratio.take("a batch", packed, unpacked)?;
    let lengths = batch.nodes().into_iter().flatten().all(|node| node.length() >= 0 && node.null_count() >= 0);
    let rows = u64::try_from(batch.length())
        .ok()
        .filter(|_| lengths)
        .ok_or_else(|| Error::corrupt("expected a length, found a negative number"))?;
    let bits = unpacked.max(body.len() as u64).saturating_mul(8);
    if rows > bits.saturating_add(EMPTY_ROWS_MAX) {
        return Err(Error::corrupt(format!("a batch of {} bytes states {rows} rows", bits / 8)));
    }
    Ok(())
}

/// Returns the bytes of a buffer.
fn part(body: &[u8], offset: i64, length: i64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    body.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}

/// Decodes outside bytes with arrow; a panic becomes an error.
fn guarded<T>(decode: impl FnOnce() -> Result<T, arrow::error::ArrowError>) -> Result<T> {
    crate::error::guarded(decode)?.map_err(|error| corrupt("message", error))
}

#[cold]
fn after_end() -> Error {
    Error::corrupt("rows after the end of the stream")
}

fn corrupt(what: &str, error: arrow::error::ArrowError) -> Error {
    Error::corrupt(format!("{what} cannot be decoded")).because_library(error)
}
