//! The bytes of a file or of standard input, decompressed if necessary. Reading can wait for a pipe, with a timeout.

use super::content::digest::{ContentDigest, FileContent};
use crate::ahead::unpack::UnpackAhead;
use crate::emit::ByteProgress;
use crate::run::Run;
use crate::run::byte_stream::ByteStream;
use crate::stop::Woken;
use crate::thread::Threads;
use encoding_rs::Encoding;
use evt_core::error::{Error, Result};
use evt_core::format::TextDecoder;
use evt_core::format::refusal::{LOOK, begins_with_object};
use evt_core::format::unpack::{FileFrom, Unpacked};
use evt_core::frame::Passed;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::cell::{Cell, RefCell};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// This many bytes were read.
    Bytes(usize),
    /// Nothing arrived within the timeout.
    Idle,
    /// The input has ended.
    End,
    /// A signal stopped the reading.
    Stopped,
}

/// The result of reading a message that is not encoded.
pub enum ReadMessage {
    /// A message.
    Message(Passed),
    /// There is none: nothing has arrived, or the input has ended.
    None(ReadOutcome),
}

/// The decompressed bytes of one input.
pub struct Bytes {
    name: String,
    wire: Wire,
    reader: Unpacked<Wire>,
    /// The same bytes of a compressed file, if a thread reads them ahead.
    ahead: Option<UnpackAhead>,
    /// Decompressed bytes that [`Bytes::read_head`] has read and [`Bytes::read`] has not returned yet.
    front: Vec<u8>,
    /// Converts text in another encoding to UTF-8.
    decoder: Option<TextDecoder>,
    encoding: Option<&'static Encoding>,
    /// Whether more bytes may follow the present end.
    grows: bool,
    /// The content so far, if a checkpoint needs it.
    digest: Option<ContentDigest>,
    /// Whether the file was truncated before its end was read.
    is_truncated: bool,
}

/// Maximum number of bytes that one call converts to UTF-8.
const DECODED: usize = 64 << 10;
/// Number of decompressed bytes that determine a format.
const HEAD: usize = 8;
/// How long after a signal the stage before a pipe may take to begin its stream. Such a stage stops, too, and may have
/// rows that it has not sent; a longer wait would be for a writer that gets no signal.
const BEGINNING: Duration = Duration::from_secs(2);

/// The bytes before decompression. Reading from anything but a regular file first waits until bytes arrive.
#[derive(Clone)]
struct Wire(Rc<RefCell<WireState>>);

struct WireState {
    stream: Box<dyn ByteStream>,
    regular: bool,
    run: Rc<Run>,
    progress: ByteProgress,
    /// Whether a signal stops the reading.
    stops_at_signals: bool,
    /// Maximum wait of one read; `None` without a limit.
    timeout: Option<Duration>,
    /// The outcome of the last read's wait; [`Woken::Ready`] if the read did not wait.
    woken: Cell<Woken>,
}

/// Opens a file for reading. It does not wait for the writer of a FIFO, because a signal could not interrupt that wait;
/// the first read waits instead.
pub fn open(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

impl Bytes {
    /// Reads an open file; a signal stops the reading.
    pub fn of_file(name: String, file: File, run: Rc<Run>) -> Result<Self> {
        Self::of(name, Box::new(file), run, true)
    }

    /// Reads a stream.
    pub fn of(name: String, stream: Box<dyn ByteStream>, run: Rc<Run>, stops_at_signals: bool) -> Result<Self> {
        let metadata =
            stream.file().map(File::metadata).transpose().map_err(|error| Error::io(name.clone(), &error))?;
        if metadata.as_ref().is_some_and(Metadata::is_dir) {
            return Err(Error::io(name, &std::io::ErrorKind::IsADirectory.into()));
        }
        let total = metadata.filter(Metadata::is_file).map(|metadata| metadata.len()).or_else(|| stream.size());
        let regular = total.is_some();
        let progress = ByteProgress { done: 0, total };
        let wire = Wire(Rc::new(RefCell::new(WireState {
            stream,
            regular,
            run: run.clone(),
            progress,
            stops_at_signals,
            timeout: None,
            woken: Cell::new(Woken::Ready),
        })));
        let reader = Unpacked::new(wire.clone(), run.ratio_max);
        Ok(Self {
            name,
            reader,
            ahead: None,
            wire,
            front: vec![],
            decoder: None,
            encoding: None,
            grows: false,
            digest: None,
            is_truncated: false,
        })
    }

    /// Converts the bytes from this encoding to UTF-8; `None` leaves the bytes as they are.
    pub fn in_encoding(mut self, encoding: Option<&'static Encoding>) -> Self {
        self.encoding = encoding;
        self.decoder = encoding.map(TextDecoder::new);
        self
    }

    /// Reads a file that may grow behind its present end.
    pub fn growing(self) -> Self {
        Self { grows: true, reader: self.reader.growing(), ..self }
    }

    /// Checks that the file does not end within a part of its compressed data. Errors: exit status 65.
    pub fn check_whole(&self) -> Result<()> {
        match self.reader.is_torn() {
            true => Err(Error::corrupt("truncated compressed data").at(self.name.clone())),
            false => Ok(()),
        }
    }

    /// Determines the content of the file while the bytes are read. The file begins with `former`, which an earlier run
    /// has read.
    pub fn with_content(mut self, former: FileContent) -> Self {
        self.digest = Some(ContentDigest::after(former));
        self
    }

    /// Returns the content of what has been read; an empty content without [`Bytes::with_content`].
    pub fn content(&self) -> FileContent {
        self.digest.as_ref().map_or_else(FileContent::default, ContentDigest::content)
    }

    /// Returns the name that the user gave.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the input is a regular file without compression.
    pub fn is_plain_file(&self) -> bool {
        !self.reader.is_packed() && self.is_regular()
    }

    /// Whether the input is a regular file or an object, which can be read again, and not a pipe or terminal.
    pub fn is_regular(&self) -> bool {
        self.wire.0.borrow().regular
    }

    /// Whether the bytes are in a file of this machine.
    fn has_file(&self) -> bool {
        self.wire.0.borrow().stream.file().is_some()
    }

    /// Whether the file has the extension of a compressed format, but is shorter than a magic number.
    fn is_cut_short(&self) -> bool {
        let packed_name = [".gz", ".zst"].iter().any(|extension| self.name.ends_with(extension));
        packed_name && self.is_plain_file() && self.progress().done < 4
    }

    /// Sets whether a signal stops the reading from now on.
    pub fn set_stops_at_signals(&self, stops_at_signals: bool) {
        self.wire.0.borrow_mut().stops_at_signals = stops_at_signals;
    }

    /// Returns the number of bytes read before decompression, and the size of a regular file when it was opened.
    pub fn progress(&self) -> ByteProgress {
        self.wire.0.borrow().progress
    }

    /// Returns the number of bytes of an uncompressed file that [`Bytes::read`] has returned; `None` if it has not
    /// returned all that were read, or if the file is compressed.
    pub fn returned(&self) -> Option<u64> {
        let is_drained = self.front.is_empty() && self.decoder.as_ref().is_none_or(TextDecoder::is_drained);
        (is_drained && !self.reader.is_packed()).then(|| self.progress().done)
    }

    /// Waits until bytes can be read, a signal arrives, or `timeout` has passed. Returns at once for a regular file.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        let state = self.wire.0.borrow();
        match state.regular {
            true => Ok(()),
            false => state.wait(Some(timeout)).map(|_| ()),
        }
    }

    /// Returns the present size of the file.
    pub fn length(&self) -> Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    /// Notes at the end of a file whether the file was truncated, and returns the result: the file is shorter than it
    /// was when it was opened, or than what was read of it. System files whose size is always 0 never count as
    /// truncated.
    pub fn note_truncation(&mut self) -> Result<bool> {
        let ByteProgress { done, total } = self.progress();
        if let Some(total) = total.filter(|total| *total > 0 && self.has_file()) {
            self.is_truncated = self.length()? < total.max(done);
        }
        Ok(self.is_truncated)
    }

    /// Whether the file was truncated before its end was read.
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// Returns the present metadata of the file.
    pub fn metadata(&self) -> Result<Metadata> {
        self.file()?.metadata().map_err(|error| Error::io(self.name.clone(), &error))
    }

    /// Rewinds the file to its start.
    pub fn restart(&mut self) -> Result<()> {
        self.file()?.rewind().map_err(|error| Error::io(self.name.clone(), &error))?;
        self.wire.0.borrow_mut().progress.done = 0;
        let ratio_max = self.wire.0.borrow().run.ratio_max;
        let reader = Unpacked::new(self.wire.clone(), ratio_max);
        self.reader = if self.grows { reader.growing() } else { reader };
        self.ahead = None;
        self.decoder = self.encoding.map(TextDecoder::new);
        self.front.clear();
        self.digest = self.digest.is_some().then(ContentDigest::default);
        Ok(())
    }

    /// Duplicates the handle of the file; both handles share one position.
    pub fn file(&self) -> Result<File> {
        let file = self.wire.0.borrow().stream.file().map(File::try_clone);
        let file = file.unwrap_or_else(|| Err(std::io::ErrorKind::Unsupported.into()));
        file.map_err(|error| Error::io(self.name.clone(), &error))
    }

    /// Reads the first decompressed bytes, which determine the format; [`Bytes::read`] returns them again. Returns
    /// `Bytes` once all 8 have been read, or `End` if the input is shorter.
    pub fn read_head(&mut self, timeout: Option<Duration>) -> Result<ReadOutcome> {
        while self.front.len() < HEAD {
            let mut rest = [0; HEAD];
            match self.read_on(&mut rest[..HEAD - self.front.len()], timeout)? {
                ReadOutcome::Bytes(count) => self.front.extend(&rest[..count]),
                other => return Ok(other),
            }
        }
        Ok(ReadOutcome::Bytes(HEAD))
    }

    /// Reads on until the bytes read so far are enough to recognise text: [`LOOK`] bytes, or a first line that is an
    /// object. [`Bytes::read`] returns them again. Returns `End` if the input is shorter.
    pub fn read_start(&mut self, timeout: Option<Duration>) -> Result<ReadOutcome> {
        let mut rest = vec![0; LOOK];
        while self.front.len() < LOOK && !begins_with_object(&self.front) {
            match self.read_on(&mut rest[self.front.len()..], timeout)? {
                ReadOutcome::Bytes(count) => {
                    let start = self.front.len();
                    self.front.extend(&rest[start..start + count]);
                }
                other => return Ok(other),
            }
        }
        Ok(ReadOutcome::Bytes(self.front.len()))
    }

    /// Returns the bytes that [`Bytes::read_head`] has read.
    pub fn head(&self) -> &[u8] {
        &self.front
    }

    /// Returns the whole input as a file, at its start: the file itself, or a temporary copy of a pipe or a compressed
    /// file. Errors: exit status 65 if a signal stops the copying.
    pub fn whole_file(&mut self) -> Result<File> {
        let failed = |error: std::io::Error| Error::io("spooling to disk", &error);
        if self.is_plain_file() && self.has_file() {
            let mut file = self.file()?;
            file.rewind().map_err(failed)?;
            return Ok(file);
        }
        let mut spool = tempfile::tempfile().map_err(failed)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match self.read(&mut buffer, None)? {
                ReadOutcome::Bytes(count) => spool.write_all(&buffer[..count]).map_err(failed)?,
                ReadOutcome::Idle => {}
                ReadOutcome::End => break,
                ReadOutcome::Stopped => {
                    return Err(Error::corrupt("stopped before the input was complete").at(self.name.clone()));
                }
            }
        }
        spool.rewind().map_err(failed)?;
        Ok(spool)
    }

    /// Reads a message of a stage of this process; `None` if the input has bytes. Waits at most `timeout`, without
    /// limit if it is `None`.
    pub fn read_message(&mut self, timeout: Option<Duration>) -> Result<Option<ReadMessage>> {
        let state = &mut *self.wire.0.borrow_mut();
        if !self.front.is_empty() || !state.stream.passes_messages() {
            return Ok(None);
        }
        state.timeout = timeout;
        let read = match state.ready()? {
            Woken::Stopped => ReadMessage::None(ReadOutcome::Stopped),
            Woken::Timeout => ReadMessage::None(ReadOutcome::Idle),
            Woken::Ready => match state.stream.take_message()? {
                Some(message) => ReadMessage::Message(message),
                None => ReadMessage::None(ReadOutcome::End),
            },
        };
        Ok(Some(read))
    }

    /// Reads into `buffer`; waits at most `timeout`, without limit if it is `None` or the input is compressed.
    pub fn read(&mut self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<ReadOutcome> {
        if !self.front.is_empty() {
            let count = self.front.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.front[..count]);
            self.front.drain(..count);
            return Ok(ReadOutcome::Bytes(count));
        }
        self.read_on(buffer, timeout)
    }

    /// Lets threads read the rest of a compressed file ahead if there are several and the file is worth it.
    fn begin_ahead(&mut self) -> Result<()> {
        let (run, ByteProgress { done, total }) = match &*self.wire.0.borrow() {
            WireState { regular: true, run, progress, .. } => (run.clone(), *progress),
            _ => return Ok(()),
        };
        let Threads { count, from_bytes } = run.pool.threads();
        // Text has several times the bytes of its file.
        if count > 1 && total.unwrap_or(0).saturating_mul(4) >= from_bytes {
            let mut file = self.file()?;
            let now = file.stream_position().map_err(|error| Error::io(self.name.clone(), &error))?;
            let packed = FileFrom::new(file, now.saturating_sub(done));
            self.ahead = Some(UnpackAhead::new(packed, self.reader.bytes(), &run));
        }
        Ok(())
    }

    fn read_on(&mut self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<ReadOutcome> {
        let Some(mut decoder) = self.decoder.take() else { return self.read_unpacked(buffer, timeout) };
        let read = self.read_decoded(&mut decoder, buffer, timeout);
        self.decoder = Some(decoder);
        read
    }

    fn read_decoded(
        &mut self,
        decoder: &mut TextDecoder,
        out: &mut [u8],
        timeout: Option<Duration>,
    ) -> Result<ReadOutcome> {
        let mut bytes = vec![0; DECODED.min(out.len().max(HEAD))];
        loop {
            let count = decoder.pull(out);
            if count > 0 {
                return Ok(ReadOutcome::Bytes(count));
            }
            if decoder.has_ended() {
                return Ok(ReadOutcome::End);
            }
            match self.read_unpacked(&mut bytes, timeout)? {
                ReadOutcome::Bytes(count) => decoder.push(&bytes[..count]),
                ReadOutcome::End if !self.grows => decoder.push(&[]),
                other => return Ok(other),
            }
        }
    }

    /// Writes what is left of a character that breaks off at the end of a growing file to `out`; returns the number of
    /// bytes.
    pub fn end_text(&mut self, out: &mut [u8]) -> usize {
        let Some(decoder) = self.decoder.as_mut().filter(|decoder| self.grows && !decoder.has_ended()) else {
            return 0;
        };
        decoder.push(&[]);
        decoder.pull(out)
    }

    fn read_unpacked(&mut self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<ReadOutcome> {
        if self.reader.is_packed() && self.digest.is_none() && !self.grows && self.ahead.is_none() && self.has_file() {
            self.begin_ahead()?;
        }
        if let Some(ahead) = &mut self.ahead {
            let mut state = self.wire.0.borrow_mut();
            if state.ready()? == Woken::Stopped {
                return Ok(ReadOutcome::Stopped);
            }
            let count = ahead.read(buffer).map_err(|error| error.at(self.name.clone()))?;
            state.progress.done = ahead.packed();
            drop(state);
            if count > 0 {
                return Ok(ReadOutcome::Bytes(count));
            }
            // The position in standard input is for other processes, too.
            self.file()?.seek(SeekFrom::End(0)).map_err(|error| Error::io(self.name.clone(), &error))?;
            return Ok(ReadOutcome::End);
        }
        {
            let mut state = self.wire.0.borrow_mut();
            // A decompressor cannot continue after a read that fails inside a block.
            state.timeout = if self.reader.is_packed() { None } else { timeout };
            state.woken.set(Woken::Ready);
        }
        let result = self.reader.read(buffer);
        if let (Some(digest), Ok(count)) = (&mut self.digest, &result) {
            digest.push(&buffer[..*count]);
        }
        let woken = self.wire.0.borrow().woken.get();
        match (woken, result) {
            (Woken::Stopped, _) => Ok(ReadOutcome::Stopped),
            (Woken::Timeout, Err(_)) => Ok(ReadOutcome::Idle),
            (_, Ok(0)) if !self.grows && self.is_cut_short() => {
                Err(Error::corrupt("truncated compressed data").at(self.name.clone()))
            }
            (_, Ok(0)) => Ok(ReadOutcome::End),
            (_, Ok(count)) => Ok(ReadOutcome::Bytes(count)),
            (_, Err(error)) => {
                let fault = self.wire.0.borrow_mut().stream.take_fault();
                Err(fault.unwrap_or_else(|| error.at(self.name.clone())))
            }
        }
    }
}

impl WireState {
    /// Waits until bytes can be read, a signal stops the reading, or `timeout` has passed. A signal also stops the
    /// reading of a pipe that has not begun [`BEGINNING`] after it.
    fn wait(&self, timeout: Option<Duration>) -> Result<Woken> {
        let Self { stream, run, stops_at_signals, progress, .. } = self;
        let stop = &run.stop;
        if *stops_at_signals || progress.done >= HEAD as u64 {
            return stream.wait(stop, *stops_at_signals, timeout);
        }
        loop {
            let now = run.clock.monotonic();
            let left = stop.since().map(|since| (since + BEGINNING).saturating_sub(now));
            let is_over = left.is_some_and(|left| left.is_zero());
            match stream.wait(stop, left.is_none(), timeout.into_iter().chain(left).min())? {
                Woken::Stopped => {}
                Woken::Timeout if is_over => return Ok(Woken::Stopped),
                // The clock of a simulation does not advance meanwhile.
                Woken::Timeout if timeout.is_none() && left.is_some() && run.clock.monotonic() > now => {}
                woken => return Ok(woken),
            }
        }
    }

    /// Waits for the stream, if it is none of a regular file, and no signal stops the reading.
    fn ready(&self) -> Result<Woken> {
        match (self.regular, self.stops_at_signals && self.run.stop.signal().is_some()) {
            (_, true) => Ok(Woken::Stopped),
            (true, false) => Ok(Woken::Ready),
            (false, false) => self.wait(self.timeout),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        let woken = state.ready().map_err(std::io::Error::other)?;
        state.woken.set(woken);
        match woken {
            Woken::Ready => {
                let count = state.stream.read(buffer)?;
                state.progress.done += count as u64;
                Ok(count)
            }
            Woken::Timeout | Woken::Stopped => Err(std::io::ErrorKind::WouldBlock.into()),
        }
    }
}
