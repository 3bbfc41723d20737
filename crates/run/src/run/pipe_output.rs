//! Standard output into a pipe whose reader may stop reading.
//!
//! A write to a full pipe waits until the reader reads, and no signal ends that wait: a stage whose reader was stopped
//! would never end. So the pipe is opened a second time in non-blocking mode, and the wait is a poll, which the stop
//! signal bounds. The descriptor of standard output itself stays as it is, because other processes may share it.

use crate::stop::Stop;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, IoSlice, Result, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// A pipe to the next stage.
pub struct PipeOutput {
    pipe: File,
    stop: Stop,
    /// Whether the reader has read nothing for so long that later writes fail at once instead of waiting.
    is_abandoned: bool,
}

impl PipeOutput {
    /// Opens the pipe that is standard output (`stdout`) again; `None` if standard output is a socket, or a pipe that
    /// this process may not open.
    pub fn open(stdout: BorrowedFd<'_>, stop: &Stop) -> Option<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let name = format!("/proc/self/fd/{}", stdout.as_raw_fd());
        let pipe = OpenOptions::new().write(true).custom_flags(flags).open(name).ok()?;
        Some(Self { pipe, stop: stop.clone(), is_abandoned: false })
    }

    /// Writes by `write`, and waits while the pipe is full.
    fn write_by(&mut self, write: impl Fn(&mut File) -> Result<usize>) -> Result<usize> {
        while !self.is_abandoned {
            match write(&mut self.pipe) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_abandoned = !self.stop.wait_for_reader(&self.pipe)?;
                }
                written => return written,
            }
        }
        Err(Error::from(ErrorKind::TimedOut))
    }
}

impl Write for PipeOutput {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.write_by(|pipe| pipe.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> Result<usize> {
        self.write_by(|pipe| pipe.write_vectored(slices))
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
