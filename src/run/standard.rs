//! Standard input and output as files. If one was closed, `src/bin/before_main.c` has opened its descriptor for the
//! other direction (standard input for writing), so that no other file gets the descriptor. Opening it here is an error.

use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{OFlags, fcntl_getfl};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// Size that a pipe is enlarged to, if permitted: triples the throughput.
const PIPE_BYTES: usize = 1 << 20;

/// Opens standard input. Errors: exit status 74 if it is closed.
pub fn input() -> Result<File> {
    open("stdin", std::io::stdin().as_fd(), OFlags::WRONLY, "closed; name an input")
}

/// Opens standard output, unbuffered. Errors: exit status 74 if it is closed.
pub fn output() -> Result<File> {
    open("stdout", std::io::stdout().as_fd(), OFlags::RDONLY, "closed; redirect it to FILE or /dev/null")
}

/// Writes text to standard output, unbuffered.
pub fn print(text: &str) -> Result<()> {
    output()?.write_all(text.as_bytes()).map_err(|error| Error::io("stdout", &error))
}

fn open(name: &str, fd: BorrowedFd<'_>, useless: OFlags, closed: &str) -> Result<File> {
    let failed = |error: std::io::Error| Error::io(name, &error);
    let mode = fcntl_getfl(fd).map_err(|errno| failed(errno.into()))? & OFlags::RWMODE;
    if mode == useless {
        return Err(Error::new(ErrorKind::Io, name).because(closed));
    }
    // If a larger pipe is not permitted the default size stays.
    let _ = rustix::pipe::fcntl_setpipe_size(fd, PIPE_BYTES);
    Ok(fd.try_clone_to_owned().map_err(failed)?.into())
}
