//! Standard input and output as files. One that is closed is an error: `src/bin/before_main.c` has seen to it that the
//! descriptor is there and of no use, so that nothing read or written is lost on the way.

use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{OFlags, fcntl_getfl};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// What a pipe is enlarged to, where that is allowed: worth 3× the throughput.
const PIPE_BYTES: usize = 1 << 20;

/// Standard input; exit 74 where it is closed.
pub fn input() -> Result<File> {
    open("stdin", std::io::stdin().as_fd(), OFlags::WRONLY, "it is closed: name an input")
}

/// Standard output, unbuffered; exit 74 where it is closed.
pub fn output() -> Result<File> {
    open("stdout", std::io::stdout().as_fd(), OFlags::RDONLY, "it is closed: > FILE or > /dev/null")
}

/// Writes text to standard output, at once.
pub fn print(text: &str) -> Result<()> {
    output()?.write_all(text.as_bytes()).map_err(|error| Error::io("stdout", &error))
}

fn open(name: &str, fd: BorrowedFd<'_>, useless: OFlags, closed: &str) -> Result<File> {
    let failed = |error: std::io::Error| Error::io(name, &error);
    let mode = fcntl_getfl(fd).map_err(|errno| failed(errno.into()))? & OFlags::RWMODE;
    if mode == useless {
        return Err(Error::new(ErrorKind::Io, name).because(closed));
    }
    // Where a larger pipe is not allowed the default stays.
    let _ = rustix::pipe::fcntl_setpipe_size(fd, PIPE_BYTES);
    Ok(fd.try_clone_to_owned().map_err(failed)?.into())
}
