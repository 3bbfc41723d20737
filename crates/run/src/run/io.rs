//! Standard input, standard output and the disk of a run: those of the process, pipes between stages of one process, or
//! simulated ones.

use super::byte_stream::ByteStream;
use super::link::{PassingOutput, StageEnds};
use super::pipe_output::PipeOutput;
use super::standard;
use crate::stop::{Stop, Woken};
use crate::storage::disk::Disk;
use arrow::datatypes::SchemaRef;
use evt_core::error::{Error, Result};
use rustix::termios::{isatty, tcgetwinsize};
use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Standard input and output.
#[derive(Default)]
pub enum Io {
    /// Those of the process.
    #[default]
    Process,
    /// Those of a stage in a process with several.
    Stage(StageEnds),
    /// Pipes in memory, and a disk that fails.
    Simulated {
        /// Standard input.
        stdin: Pipe,
        /// Standard output.
        stdout: Pipe,
        /// The disk, which may fail.
        disk: Disk,
        /// Number of polls before the answer of a worker is available.
        lag: u32,
    },
}

impl Io {
    /// Returns the descriptor of standard input, unless it is simulated.
    fn input(&self) -> BorrowedFd<'_> {
        if let Io::Stage(ends) = self { ends.input() } else { rustix::stdio::stdin() }
    }

    /// Returns the descriptor of standard output, unless it is simulated.
    fn output(&self) -> BorrowedFd<'_> {
        if let Io::Stage(ends) = self { ends.output() } else { rustix::stdio::stdout() }
    }

    fn is_simulated(&self) -> bool {
        matches!(self, Io::Simulated { .. })
    }

    /// Opens standard input. Errors: exit status 74 if it is closed.
    pub fn stdin(&self) -> Result<Box<dyn ByteStream>> {
        match self {
            Io::Simulated { stdin, .. } => Ok(Box::new(stdin.clone())),
            Io::Stage(StageEnds { stdin: Some(link), .. }) => Ok(Box::new(link.open()?)),
            Io::Process | Io::Stage(_) => Ok(Box::new(standard::input(self.input())?)),
        }
    }

    /// Opens standard output for frames of `schema` that the next stage gets without their bytes; `None` if standard
    /// output goes to another process.
    pub fn passing(&self, schema: &SchemaRef, stop: &Stop) -> Result<Option<PassingOutput>> {
        match self {
            Io::Stage(StageEnds { stdout: Some(link), .. }) => link.pass(schema, stop),
            _ => Ok(None),
        }
    }

    /// Opens standard output; `stop` bounds the wait for the reader of a pipe. Errors: exit status 74 if it is closed.
    pub fn stdout(&self, stop: &Stop) -> Result<Box<dyn Write>> {
        match self {
            Io::Simulated { stdout, .. } => Ok(Box::new(stdout.clone())),
            Io::Process | Io::Stage(_) => {
                let stdout = self.output();
                let output = standard::output(stdout)?;
                let pipe = if standard::has_pipe(stdout) { PipeOutput::open(stdout, stop) } else { None };
                Ok(pipe.map_or_else(|| Box::new(output) as Box<dyn Write>, |pipe| Box::new(pipe)))
            }
        }
    }

    /// Whether standard output is a pipe.
    pub fn has_pipe(&self) -> bool {
        self.is_simulated() || standard::has_pipe(self.output())
    }

    /// Waits until the reader of standard output, a pipe, has gone, or `timeout` has passed; returns whether the reader
    /// has gone.
    pub fn has_lost_reader(&self, timeout: Duration) -> bool {
        match self {
            Io::Simulated { stdout, .. } => stdout.has_lost_reader(),
            Io::Process | Io::Stage(_) => standard::has_lost_reader(self.output(), timeout),
        }
    }

    /// Whether the writer of standard input, a pipe, has gone.
    pub fn has_lost_writer(&self) -> bool {
        match self {
            Io::Simulated { stdin, .. } => stdin.is_closed(),
            Io::Process | Io::Stage(_) => standard::has_lost_writer(self.input()),
        }
    }

    /// Waits for other stages until the reader of standard output has gone, or `timeout` has passed. If the reader had
    /// gone before, sleeps for half of `timeout`, so that a loop does not use all CPU time.
    pub fn wait_for_others(&self, timeout: Duration) {
        let start = std::time::Instant::now();
        if self.has_lost_reader(timeout) && start.elapsed() < timeout / 2 {
            std::thread::sleep(timeout / 2);
        }
    }

    /// Whether standard output is a terminal.
    pub fn has_terminal(&self) -> bool {
        !self.is_simulated() && isatty(self.output())
    }

    /// Whether standard input is a terminal, where a person would have to type.
    pub fn has_terminal_for_input(&self) -> bool {
        !self.is_simulated() && isatty(self.input())
    }

    /// Returns the width of the terminal on standard output, in columns; `None` if it is no terminal.
    pub fn terminal_width(&self) -> Option<usize> {
        let size = if self.is_simulated() { None } else { tcgetwinsize(self.output()).ok() };
        size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0)
    }

    /// Whether standard error is a terminal, so that a person may read messages and progress.
    pub fn has_terminal_for_messages(&self) -> bool {
        !self.is_simulated() && std::io::stderr().is_terminal()
    }

    /// Returns the metadata of the file that standard input is connected to; `None` for a simulated one.
    pub fn stdin_metadata(&self) -> Option<Metadata> {
        if self.is_simulated() { None } else { standard::metadata(self.input()) }
    }

    /// Returns the metadata of the file that standard output is connected to; `None` for a simulated one.
    pub fn stdout_metadata(&self) -> Option<Metadata> {
        if self.is_simulated() { None } else { standard::metadata(self.output()) }
    }

    /// Writes text to standard output, unbuffered.
    pub fn print(&self, text: &str) -> Result<()> {
        let written = match self {
            Io::Simulated { stdout, .. } => stdout.clone().write_all(text.as_bytes()),
            Io::Process | Io::Stage(_) => standard::output(self.output())?.write_all(text.as_bytes()),
        };
        written.map_err(|error| Error::io("stdout", &error))
    }

    /// Returns the path of the regular file that standard output is redirected to, if it has one.
    pub fn stdout_file(&self) -> Option<PathBuf> {
        let stdout = format!("/proc/self/fd/{}", self.output().as_raw_fd());
        let is_file = !self.is_simulated() && std::fs::metadata(&stdout).is_ok_and(|found| found.is_file());
        std::fs::read_link(&stdout).ok().filter(|path| is_file && path.exists())
    }

    /// Returns the disk.
    pub fn disk(&self) -> Disk {
        match self {
            Io::Simulated { disk, .. } => disk.clone(),
            Io::Process | Io::Stage(_) => Disk::default(),
        }
    }
}

/// A pipe in memory. Clones are its ends; it is closed explicitly.
#[derive(Clone, Debug, Default)]
pub struct Pipe(Arc<Mutex<PipeState>>);

#[derive(Debug, Default)]
struct PipeState {
    bytes: VecDeque<u8>,
    is_closed: bool,
    has_lost_reader: bool,
}

impl Pipe {
    /// Returns the number of bytes that were written and not read.
    pub fn len(&self) -> usize {
        lock(&self.0).bytes.len()
    }

    /// Whether no bytes wait to be read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes the writing end.
    pub fn close(&self) {
        lock(&self.0).is_closed = true;
    }

    /// Closes the reading end: writes fail from now on.
    pub fn close_reader(&self) {
        lock(&self.0).has_lost_reader = true;
    }

    /// Whether the reading end is closed.
    pub fn has_lost_reader(&self) -> bool {
        lock(&self.0).has_lost_reader
    }

    /// Whether the writing end is closed.
    pub fn is_closed(&self) -> bool {
        lock(&self.0).is_closed
    }

    /// Moves the first `count` bytes to another pipe.
    pub fn transfer(&self, to: &Pipe, count: usize) {
        let mut from = lock(&self.0);
        let count = count.min(from.bytes.len());
        lock(&to.0).bytes.extend(from.bytes.drain(..count));
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut state = lock(&self.0);
        match state.bytes.is_empty() && !state.is_closed {
            true => Err(ErrorKind::WouldBlock.into()),
            false => state.bytes.read(buffer),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut state = lock(&self.0);
        if state.has_lost_reader {
            return Err(ErrorKind::BrokenPipe.into());
        }
        state.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl ByteStream for Pipe {
    fn wait(&self, stop: &Stop, stops_at_signals: bool, _timeout: Option<Duration>) -> Result<Woken> {
        let state = lock(&self.0);
        Ok(match (stops_at_signals && stop.signal().is_some(), state.is_closed || !state.bytes.is_empty()) {
            (true, _) => Woken::Stopped,
            (false, true) => Woken::Ready,
            (false, false) => Woken::Timeout,
        })
    }

    fn file(&self) -> Option<&File> {
        None
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
