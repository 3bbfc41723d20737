//! Standard input and output as files: those of the process, or pipes between stages of one process. If one of the
//! process was closed, `src/bin/before_main.c` has opened its descriptor for the other direction (standard input for
//! writing), so that no other file gets the descriptor. Opening it here is an error.

use evt_core::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl};
use std::fs::{File, Metadata};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Size that a pipe is enlarged to, if permitted: triples the throughput.
const PIPE_BYTES: usize = 1 << 20;

/// Opens standard input. Errors: exit status 74 if it is closed.
pub fn input(stdin: BorrowedFd<'_>) -> Result<File> {
    open("stdin", stdin, OFlags::WRONLY, "closed; name an input")
}

/// Opens standard output, unbuffered. Errors: exit status 74 if it is closed.
pub fn output(stdout: BorrowedFd<'_>) -> Result<File> {
    open("stdout", stdout, OFlags::RDONLY, "closed; redirect it to FILE or /dev/null")
}

/// Whether standard output is a pipe or a socket.
pub fn has_pipe(stdout: BorrowedFd<'_>) -> bool {
    let kind = rustix::fs::fstat(stdout).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

/// Waits until the reader of standard output, a pipe, has gone, or `timeout` has passed; returns whether the reader has
/// gone.
pub fn has_lost_reader(stdout: BorrowedFd<'_>, timeout: Duration) -> bool {
    // Without requested events only errors are reported.
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let timeout = Timespec::try_from(timeout).ok();
    poll(&mut watched, timeout.as_ref()).is_ok_and(|_| watched[0].revents().contains(PollFlags::ERR))
}

/// Whether the writer of standard input, a pipe, has gone.
pub fn has_lost_writer(stdin: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::new(&stdin, PollFlags::empty())];
    poll(&mut watched, Some(&Timespec::default())).is_ok_and(|_| watched[0].revents().contains(PollFlags::HUP))
}

/// Returns the metadata of the file that a standard stream is connected to; `None` if it is closed.
pub fn metadata(stream: BorrowedFd<'_>) -> Option<Metadata> {
    File::from(stream.try_clone_to_owned().ok()?).metadata().ok()
}

fn open(name: &str, fd: BorrowedFd<'_>, useless: OFlags, closed: &str) -> Result<File> {
    let failed = |error: std::io::Error| Error::io(name, &error);
    let mode = fcntl_getfl(fd).map_err(|errno| failed(errno.into()))? & OFlags::RWMODE;
    if mode == useless {
        return Err(Error::failed(name).because(closed));
    }
    // If a larger pipe is not permitted the default size stays.
    let _ = rustix::pipe::fcntl_setpipe_size(fd, PIPE_BYTES);
    Ok(fd.try_clone_to_owned().map_err(failed)?.into())
}
