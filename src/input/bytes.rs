//! Inputs: bytes of a file or of standard input, packed or not, that can be waited for.

use crate::error::{Error, Result};
use crate::format::unpack::Unpacked;
use crate::ingest::ByteProgress;
use crate::run::Run;
use crate::run::io::ByteStream;
use crate::stop::Woken;
use crate::uri::Uri;
use rustix::fs::{Access, OFlags, access, fcntl_getfl, fcntl_setfl};
use std::cell::{Cell, RefCell};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// What a read ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// This many bytes.
    Bytes(usize),
    /// Nothing for a while.
    Idle,
    /// The input is at its end.
    End,
    /// A signal asks to stop.
    Stopped,
}

/// One input, unpacked on the way.
pub struct Bytes {
    name: String,
    wire: Wire,
    reader: Unpacked<Wire>,
    /// Unpacked bytes that were looked at and not yet read.
    front: Vec<u8>,
}

/// How many unpacked bytes tell a format.
const HEAD: usize = 8;

/// The bytes as they come, waited for where they come through a pipe.
#[derive(Clone)]
struct Wire(Rc<RefCell<WireState>>);

struct WireState {
    stream: Box<dyn ByteStream>,
    regular: bool,
    run: Rc<Run>,
    progress: ByteProgress,
    heed: bool,
    timeout: Option<Duration>,
    woken: Cell<Woken>,
}

/// Looks whether a file that is named can be read: a later one shall not be found missing after hours. One that is
/// followed may come later.
pub fn check(uri: &Uri, follow: bool) -> Result<()> {
    let Uri::File(path) = uri else { return Ok(()) };
    let looked_at = std::fs::metadata(path).and_then(|found| match found.is_dir() {
        true => Err(std::io::ErrorKind::IsADirectory.into()),
        false => Ok(access(path, Access::READ_OK)?),
    });
    match looked_at {
        Err(error) if follow && error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| Error::io(uri.to_string(), &error)),
    }
}

/// Opens a file for reading. A FIFO without a writer is waited for later, by whoever reads: a wait in here would not
/// heed the signal that asks to stop.
pub fn open(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

impl Bytes {
    /// Opens a path or standard input. `heed` says whether a signal stops the reading.
    pub fn open(uri: &Uri, run: Rc<Run>, heed: bool) -> Result<Self> {
        let name = uri.to_string();
        let failed = |error: std::io::Error| Error::io(name.clone(), &error);
        let stream: Box<dyn ByteStream> = match uri {
            Uri::Standard => run.io.stdin()?,
            Uri::File(path) => Box::new(open(path).map_err(failed)?),
            Uri::Http(_) => return Err(Error::usage(format!("{name}: a listener requires evt-ingest"))),
            _ => return Err(Error::usage(format!("{name}: this tool cannot read rows from here"))),
        };
        Self::of(name, stream, run, heed)
    }

    /// Reads a file that is open; a signal stops the reading.
    pub fn of_file(name: String, file: File, run: Rc<Run>) -> Result<Self> {
        Self::of(name, Box::new(file), run, true)
    }

    fn of(name: String, stream: Box<dyn ByteStream>, run: Rc<Run>, heed: bool) -> Result<Self> {
        let metadata =
            stream.file().map(File::metadata).transpose().map_err(|error| Error::io(name.clone(), &error))?;
        if metadata.as_ref().is_some_and(Metadata::is_dir) {
            return Err(Error::io(name, &std::io::ErrorKind::IsADirectory.into()));
        }
        let total = metadata.filter(Metadata::is_file).map(|metadata| metadata.len());
        let regular = total.is_some();
        let progress = ByteProgress { done: 0, total };
        let wire = Wire(Rc::new(RefCell::new(WireState {
            stream,
            regular,
            run: run.clone(),
            progress,
            heed,
            timeout: None,
            woken: Cell::new(Woken::Ready),
        })));
        let reader = Unpacked::new(wire.clone(), run.ratio_max);
        Ok(Self { name, reader, wire, front: vec![] })
    }

    /// Its name, as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the bytes come as they stand in a regular file.
    pub fn is_plain_file(&self) -> bool {
        !self.reader.is_packed() && self.is_regular()
    }

    /// Whether it is a file that can be read again: no pipe, no terminal.
    pub fn is_regular(&self) -> bool {
        self.wire.0.borrow().regular
    }

    /// Whether a file that is packed by its name has ended before its first bytes could tell how.
    fn is_cut_short(&self) -> bool {
        let packed_name = [".gz", ".zst"].iter().any(|extension| self.name.ends_with(extension));
        packed_name && self.is_plain_file() && self.progress().done < 4
    }

    /// Whether a signal stops the reading, from here on.
    pub fn set_heed(&self, heed: bool) {
        self.wire.0.borrow_mut().heed = heed;
    }

    /// Returns how much has been read.
    pub fn progress(&self) -> ByteProgress {
        self.wire.0.borrow().progress
    }

    /// Waits until bytes can be read, a signal arrives, or `timeout` has passed.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        let state = self.wire.0.borrow();
        match state.regular {
            true => Ok(()),
            false => state.stream.wait(&state.run.stop, state.heed, Some(timeout)).map(|_| ()),
        }
    }

    /// Returns the size of the file.
    pub fn length(&self) -> Result<u64> {
        self.file()?.metadata().map(|metadata| metadata.len()).map_err(|error| Error::io(self.name.clone(), &error))
    }

    /// Reads the file from its start again.
    pub fn restart(&mut self) -> Result<()> {
        self.file()?.rewind().map_err(|error| Error::io(self.name.clone(), &error))?;
        self.wire.0.borrow_mut().progress.done = 0;
        let ratio_max = self.wire.0.borrow().run.ratio_max;
        self.reader = Unpacked::new(self.wire.clone(), ratio_max);
        self.front.clear();
        Ok(())
    }

    /// Returns another handle of the file, which shares its position.
    fn file(&self) -> Result<File> {
        let file = self.wire.0.borrow().stream.file().map(File::try_clone);
        let file = file.unwrap_or_else(|| Err(std::io::ErrorKind::Unsupported.into()));
        file.map_err(|error| Error::io(self.name.clone(), &error))
    }

    /// Reads the first decompressed bytes, which will be read again: they tell the format. Ends with `Bytes` or `End` once they
    /// are there, as far as the input has so many.
    pub fn read_head(&mut self, timeout: Option<Duration>) -> Result<Chunk> {
        while self.front.len() < HEAD {
            let mut rest = [0; HEAD];
            match self.read_on(&mut rest[..HEAD - self.front.len()], timeout)? {
                Chunk::Bytes(count) => self.front.extend(&rest[..count]),
                other => return Ok(other),
            }
        }
        Ok(Chunk::Bytes(HEAD))
    }

    /// Returns what [`Bytes::read_head`] has read.
    pub fn head(&self) -> &[u8] {
        &self.front
    }

    /// All of the input as a file of its own: itself, or spooled to disk where it is packed or a pipe.
    pub fn whole_file(&mut self) -> Result<File> {
        let failed = |error: std::io::Error| Error::io("spooling to disk", &error);
        if self.is_plain_file() {
            let mut file = self.file()?;
            file.rewind().map_err(failed)?;
            return Ok(file);
        }
        let mut spool = tempfile::tempfile().map_err(failed)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match self.read(&mut buffer, None)? {
                Chunk::Bytes(count) => spool.write_all(&buffer[..count]).map_err(failed)?,
                Chunk::Idle => {}
                Chunk::End => break,
                Chunk::Stopped => {
                    return Err(Error::corrupt("stopped before the input was complete").at(self.name.clone()));
                }
            }
        }
        spool.rewind().map_err(failed)?;
        Ok(spool)
    }

    /// Reads into `buffer`, waiting at most `timeout` (for ever where there is none).
    pub fn read(&mut self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<Chunk> {
        if !self.front.is_empty() {
            let count = self.front.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.front[..count]);
            self.front.drain(..count);
            return Ok(Chunk::Bytes(count));
        }
        self.read_on(buffer, timeout)
    }

    fn read_on(&mut self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<Chunk> {
        {
            let mut state = self.wire.0.borrow_mut();
            // A decompressor may not be interrupted in the middle of a block.
            state.timeout = if self.reader.is_packed() { None } else { timeout };
            state.woken.set(Woken::Ready);
        }
        let result = self.reader.read(buffer);
        match (self.wire.0.borrow().woken.get(), result) {
            (Woken::Stopped, _) => Ok(Chunk::Stopped),
            (Woken::Timeout, Err(_)) => Ok(Chunk::Idle),
            (_, Ok(0)) if self.is_cut_short() => Err(Error::corrupt("truncated compressed data").at(self.name.clone())),
            (_, Ok(0)) => Ok(Chunk::End),
            (_, Ok(count)) => Ok(Chunk::Bytes(count)),
            (_, Err(error)) => Err(error.at(self.name.clone())),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        let woken = match (state.regular, state.heed && state.run.stop.signal().is_some()) {
            (_, true) => Woken::Stopped,
            (true, false) => Woken::Ready,
            (false, false) => {
                state.stream.wait(&state.run.stop, state.heed, state.timeout).map_err(std::io::Error::other)?
            }
        };
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
