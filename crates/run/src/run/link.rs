//! What is between two stages of one process: a pipe of the system, and beside it a queue of messages.
//!
//! ```text
//! bytes:    writer ─► pipe ─► reader                     as between two processes
//! frames:   writer ─► queue: schema, batches, control ─► reader
//!                └──► pipe: a token for each message ──┘
//! ```
//!
//! A token is as long as a fraction of its message. So the pipe bounds the bytes of the queue, wakes both sides, and
//! tells each that the other has gone, as it does with bytes. A writer that ends without the end of the stream leaves a
//! torn one. A reader that wants bytes, such as one of text, encodes the messages itself.

use super::byte_stream::ByteStream;
use super::pipe_output::PipeOutput;
use crate::stop::{Stop, Woken};
use arrow::datatypes::SchemaRef;
use evt_core::error::{Error, Result};
use evt_core::frame::{self, Passed};
use std::cell::Cell;
use std::fs::File;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Bytes of a pipe with tokens.
const PIPE_BYTES: usize = 64 << 10;
/// Bytes of a message for each byte of its token: 4 MiB of messages fill the pipe.
const SCALE: usize = 64;
/// The shortest token and the longest one, which fits into an empty pipe; 16 bits have its length.
const TOKEN_LENGTHS: (usize, usize) = (16, 60_000);

/// The standard streams of a stage in a process with several; `None` is that of the process.
#[derive(Default)]
pub struct StageEnds {
    /// The link from the stage before.
    pub stdin: Option<LinkReader>,
    /// The link to the next stage.
    pub stdout: Option<LinkWriter>,
}

impl StageEnds {
    /// Returns the descriptor of standard input.
    pub fn input(&self) -> BorrowedFd<'_> {
        self.stdin.as_ref().map_or(rustix::stdio::stdin(), |link| link.pipe.as_fd())
    }

    /// Returns the descriptor of standard output.
    pub fn output(&self) -> BorrowedFd<'_> {
        self.stdout.as_ref().map_or(rustix::stdio::stdout(), |link| link.pipe.as_fd())
    }
}

/// Makes a link between two stages. Errors: exit status 74 if the system has no pipe left.
pub fn link() -> Result<(LinkReader, LinkWriter)> {
    let (reader, writer) = std::io::pipe().map_err(|error| Error::io("a pipe", &error))?;
    let (sender, receiver) = channel();
    let passes = Arc::new(AtomicBool::new(false));
    let reader = LinkReader { pipe: reader, queue: Cell::new(Some(receiver)), passes: passes.clone() };
    Ok((reader, LinkWriter { pipe: writer, queue: sender, passes }))
}

/// What a queue has.
enum LinkMessage {
    /// The first one: the encoder of the stream for a reader that wants bytes, and the bytes of the schema.
    Begin(Box<frame::Encoder>, Vec<u8>),
    Passed(Passed),
}

/// The end of the writer.
pub struct LinkWriter {
    pipe: PipeWriter,
    queue: Sender<LinkMessage>,
    /// Whether the pipe has tokens and not bytes; set before the first of them.
    passes: Arc<AtomicBool>,
}

impl LinkWriter {
    /// Begins a stream of `schema` that passes messages on; `None` if this process may not open the pipe again.
    pub(super) fn pass(&self, schema: &SchemaRef, stop: &Stop) -> Result<Option<PassingOutput>> {
        let failed = |error: std::io::Error| Error::io("stdout", &error);
        let Some(tokens) = PipeOutput::open(self.pipe.as_fd(), stop) else { return Ok(None) };
        rustix::pipe::fcntl_setpipe_size(&self.pipe, PIPE_BYTES).map_err(|errno| failed(errno.into()))?;
        self.passes.store(true, Ordering::Release);
        let mut output = PassingOutput { tokens, queue: self.queue.clone(), token: vec![], rows: 0 };
        let (encoder, bytes) = frame::Encoder::new(schema.clone());
        output.push(LinkMessage::Begin(Box::new(encoder), bytes), 0).map_err(failed)?;
        Ok(Some(output))
    }
}

/// An output of frames to a stage of the same process.
pub struct PassingOutput {
    tokens: PipeOutput,
    queue: Sender<LinkMessage>,
    /// The memory of tokens.
    token: Vec<u8>,
    rows: u64,
}

impl PassingOutput {
    /// Returns the number of rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Sends a message; waits while the pipe is full.
    pub fn send(&mut self, message: Passed) -> std::io::Result<()> {
        let mut bytes = 0;
        if let Passed::Batch(batch) = &message {
            self.rows += batch.num_rows() as u64;
            bytes = batch.get_array_memory_size();
        }
        self.push(LinkMessage::Passed(message), bytes)
    }

    /// Sends a message of about this many bytes.
    fn push(&mut self, message: LinkMessage, bytes: usize) -> std::io::Result<()> {
        // Before its token: a reader with a token finds its message.
        self.queue.send(message).map_err(|_| ErrorKind::BrokenPipe)?;
        let (least, most) = TOKEN_LENGTHS;
        let length = (bytes / SCALE).clamp(least, most);
        self.token.clear();
        self.token.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
        self.token.resize(length, 0);
        self.tokens.write_all(&self.token)
    }
}

/// The end of the reader.
pub struct LinkReader {
    pipe: PipeReader,
    /// The messages, until the stream is opened.
    queue: Cell<Option<Receiver<LinkMessage>>>,
    passes: Arc<AtomicBool>,
}

impl LinkReader {
    /// Opens the stream, which can be opened once. Errors: exit status 74.
    pub fn open(&self) -> Result<LinkInput> {
        let failed = |error: std::io::Error| Error::io("stdin", &error);
        let pipe = File::from(self.pipe.as_fd().try_clone_to_owned().map_err(failed)?);
        let queue = self.queue.take().ok_or_else(|| Error::broken("standard input is opened twice"))?;
        Ok(LinkInput {
            pipe,
            queue,
            passes: self.passes.clone(),
            encoder: None,
            encoded: vec![],
            taken: 0,
            token: vec![],
            has_bytes: false,
        })
    }
}

/// The stream of a stage of the same process.
pub struct LinkInput {
    pipe: File,
    queue: Receiver<LinkMessage>,
    passes: Arc<AtomicBool>,
    /// Encodes messages for a reader that wants bytes, once the stream has begun.
    encoder: Option<Box<frame::Encoder>>,
    /// The bytes of messages that are encoded, and how many of them are read.
    encoded: Vec<u8>,
    taken: usize,
    /// The memory of tokens.
    token: Vec<u8>,
    /// Whether the pipe is known to have bytes.
    has_bytes: bool,
}

impl LinkInput {
    fn has_encoded(&self) -> bool {
        self.taken < self.encoded.len()
    }

    /// Takes the message of a token whose first byte has been read; `None` if the writer has left within the token.
    fn next(&mut self, first: u8) -> std::io::Result<Option<LinkMessage>> {
        let mut second = [0];
        let mut read = self.pipe.read_exact(&mut second);
        if read.is_ok() {
            let length = usize::from(u16::from_le_bytes([first, second[0]]));
            self.token.resize(length.saturating_sub(2), 0);
            read = self.pipe.read_exact(&mut self.token);
        }
        match read {
            Ok(()) => Ok(self.queue.recv().ok()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Encodes a message.
    fn encode(&mut self, message: LinkMessage) -> std::io::Result<()> {
        self.encoded.clear();
        self.taken = 0;
        match (message, &mut self.encoder) {
            (LinkMessage::Begin(encoder, bytes), _) => {
                self.encoder = Some(encoder);
                self.encoded = bytes;
            }
            (LinkMessage::Passed(message), Some(encoder)) => {
                let pieces = encoder.passed(&message).map_err(std::io::Error::other)?;
                pieces.iter().for_each(|piece| self.encoded.extend_from_slice(piece));
            }
            (LinkMessage::Passed(_), None) => return Err(ErrorKind::InvalidData.into()),
        }
        Ok(())
    }
}

impl Read for LinkInput {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while !self.has_encoded() {
            if self.has_bytes || buffer.is_empty() {
                return self.pipe.read(buffer);
            }
            // The first byte tells: the writer has decided before it.
            if self.pipe.read(&mut buffer[..1])? == 0 {
                return Ok(0);
            }
            if !self.passes.load(Ordering::Acquire) {
                self.has_bytes = true;
                return Ok(1);
            }
            let Some(message) = self.next(buffer[0])? else { return Ok(0) };
            self.encode(message)?;
        }
        let count = (&self.encoded[self.taken..]).read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

impl ByteStream for LinkInput {
    fn wait(&self, stop: &Stop, stops_at_signals: bool, timeout: Option<Duration>) -> Result<Woken> {
        let timeout = if self.has_encoded() { Some(Duration::ZERO) } else { timeout };
        match stop.wait(&self.pipe, stops_at_signals, timeout)? {
            Woken::Timeout if self.has_encoded() => Ok(Woken::Ready),
            woken => Ok(woken),
        }
    }

    fn file(&self) -> Option<&File> {
        Some(&self.pipe)
    }

    fn passes_messages(&self) -> bool {
        self.encoder.is_some() && !self.has_encoded()
    }

    fn take_message(&mut self) -> Result<Option<Passed>> {
        let failed = |error: std::io::Error| Error::io("stdin", &error);
        let mut first = [0];
        if self.pipe.read(&mut first).map_err(failed)? == 0 {
            return Ok(None);
        }
        match self.next(first[0]).map_err(failed)? {
            None => Ok(None),
            Some(LinkMessage::Passed(message)) => Ok(Some(message)),
            Some(LinkMessage::Begin(..)) => Err(Error::broken("a stream begins twice")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::test_events::events;
    use arrow::array::RecordBatch;
    use evt_core::frame::{Control, End, EndReason};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::sync::atomic::AtomicUsize;
    use std::thread::spawn;

    fn batch() -> RecordBatch {
        events(&["{}", r#"{"a":1}"#])
    }

    /// A link whose writer passes messages on.
    fn passing() -> (LinkReader, LinkWriter, PassingOutput) {
        let (reader, writer) = link().unwrap();
        let output = writer.pass(&batch().schema(), &Stop::never(&Clock::System)).unwrap().expect("a pipe");
        (reader, writer, output)
    }

    fn read(input: &mut LinkInput, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        input.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_reader_of_bytes_gets_those_of_the_frames() {
        let (mut encoder, mut expected) = frame::Encoder::new(batch().schema());
        let end = End { how: EndReason::Exhausted, rows: 4, verdict: 0 };
        let messages =
            move || [Passed::Batch(batch()), Passed::Batch(batch()), Passed::Control(Control::End(end)), Passed::Eos];
        for message in messages() {
            encoder.passed(&message).unwrap().iter().for_each(|piece| expected.extend_from_slice(piece));
        }
        for size in [1, 15, 16, 17, 1000, 1 << 20] {
            let (reader, writer, mut output) = passing();
            let mut input = reader.open().unwrap();
            let write = spawn(move || {
                messages().into_iter().for_each(|message| output.send(message).unwrap());
                drop(writer);
            });
            let (mut bytes, mut buffer) = (vec![], vec![0; size]);
            loop {
                match input.read(&mut buffer).unwrap() {
                    0 => break,
                    count => bytes.extend_from_slice(&buffer[..count]),
                }
            }
            write.join().unwrap();
            assert!(bytes == expected, "{size}: {} bytes, expected {}", bytes.len(), expected.len());
        }
    }

    #[test]
    fn the_schema_comes_as_bytes_and_messages_pass_as_they_are() {
        let (reader, writer, mut output) = passing();
        let mut input = reader.open().unwrap();
        let schema = frame::Encoder::new(batch().schema()).1;
        assert!(!input.passes_messages());
        assert_eq!(read(&mut input, schema.len() - 1), schema[..schema.len() - 1]);
        assert!(!input.passes_messages());
        read(&mut input, 1);
        let sent = batch();
        output.send(Passed::Batch(sent.clone())).unwrap();
        assert!(input.passes_messages());
        let Some(Passed::Batch(got)) = input.take_message().unwrap() else { panic!("expected the batch") };
        assert!(got.column(0).to_data().ptr_eq(&sent.column(0).to_data()), "it is not copied");
        drop((output, writer));
        assert!(input.take_message().unwrap().is_none(), "the stream is torn");
    }

    #[test]
    fn a_full_pipe_holds_the_writer_until_messages_are_taken() {
        let (reader, writer, mut output) = passing();
        let mut input = reader.open().unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let large = events(&[&"x".repeat(1 << 20)]);
        let write = spawn(move || {
            for _ in 0..20 {
                output.send(Passed::Batch(large.clone())).unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let has_room = || {
            let mut fds = [PollFd::new(&writer.pipe, PollFlags::OUT)];
            poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
        };
        while has_room() {
            std::thread::yield_now();
        }
        // Batches of 1 MiB.
        let sent = sent.load(Ordering::Relaxed);
        assert!((1..=4).contains(&sent), "{sent}");
        read(&mut input, frame::Encoder::new(batch().schema()).1.len());
        for _ in 0..20 {
            assert!(matches!(input.take_message(), Ok(Some(Passed::Batch(_)))));
        }
        write.join().unwrap();
        drop(writer);
        assert!(input.take_message().unwrap().is_none());
    }

    #[test]
    fn thousands_of_control_messages_wait_for_a_reader() {
        let (reader, _writer, mut output) = passing();
        (0..4000).for_each(|at| output.send(Passed::Control(Control::Watermark(at))).unwrap());
        let mut input = reader.open().unwrap();
        read(&mut input, frame::Encoder::new(batch().schema()).1.len());
        for at in 0..4000 {
            assert!(matches!(input.take_message(), Ok(Some(Passed::Control(Control::Watermark(got)))) if got == at));
        }
    }

    #[test]
    fn a_token_that_breaks_off_is_the_end_of_the_stream() {
        for length in [1, 2, 15] {
            let (reader, writer, output) = passing();
            let mut input = reader.open().unwrap();
            read(&mut input, frame::Encoder::new(batch().schema()).1.len());
            (&writer.pipe).write_all(&[16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..length]).unwrap();
            drop((writer, output));
            assert!(input.take_message().unwrap().is_none());
        }
    }

    #[test]
    fn a_writer_notices_that_its_reader_has_gone() {
        let (reader, _writer, mut output) = passing();
        drop(reader);
        let error = output.send(Passed::Batch(batch())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        let (reader, _writer, mut output) = passing();
        let input = reader.open().unwrap();
        // It waits, and wakes when the reader goes.
        let write = spawn(move || (0..10_000).find_map(|_| output.send(Passed::Batch(batch())).err()));
        drop((input, reader));
        assert_eq!(write.join().unwrap().map(|error| error.kind()), Some(ErrorKind::BrokenPipe));
    }

    #[test]
    fn bytes_are_those_of_a_pipe() {
        let (reader, writer) = link().unwrap();
        let mut input = reader.open().unwrap();
        (&writer.pipe).write_all(b"text").unwrap();
        assert_eq!(read(&mut input, 4), b"text");
        drop(writer);
        assert_eq!(input.read(&mut [0; 9]).unwrap(), 0);
        assert!(!input.passes_messages());
    }
}
