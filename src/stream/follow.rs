//! `--follow`: like `tail -F`, through rotation and truncation.

use super::input::Bytes;
use super::run::Run;
use super::uri::Uri;
use crate::error::Result;
use crate::stop::Woken;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often a file at its end is looked at again.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long nothing must have come to a file whose name another one has: its writer goes on with it until it is told.
const QUIET: Duration = Duration::from_secs(5);

/// What became of a file at its end.
pub enum Waited {
    /// It has grown.
    More,
    /// Nothing has changed.
    Nothing,
    /// Another file has its name, or it was cut: read this one from its start.
    Replaced(Box<Bytes>),
    /// A signal asks to stop.
    Stopped,
}

/// A file that is followed by its name.
pub struct Follow {
    path: PathBuf,
    device: u64,
    inode: u64,
    read: u64,
    missing: bool,
    /// Since when another file has its name and nothing has come.
    quiet: Option<Instant>,
}

impl Follow {
    /// Follows the file that `bytes` reads.
    pub fn new(path: PathBuf, bytes: &Bytes) -> Result<Self> {
        let mut follow = Self { path, device: 0, inode: 0, read: 0, missing: false, quiet: None };
        follow.identify(bytes)?;
        Ok(follow)
    }

    fn identify(&mut self, bytes: &Bytes) -> Result<()> {
        let metadata = bytes.file()?.metadata().map_err(|error| crate::Error::io(bytes.name(), &error))?;
        (self.device, self.inode) = (metadata.dev(), metadata.ino());
        Ok(())
    }

    /// Called at the end of the file: waits a moment, then says what has become of it. `files` are followed in turn.
    pub fn wait(&mut self, bytes: &mut Bytes, files: u32, run: &Rc<Run>) -> Result<Waited> {
        self.read = bytes.extent().done;
        if run.stop.sleep(LOOK_EVERY / files.max(1))? == Woken::Stopped {
            return Ok(Waited::Stopped);
        }
        let named = std::fs::metadata(&self.path);
        // Looked at last: what came before another file had the name is there.
        let length = bytes.file()?.metadata().map_or(0, |metadata| metadata.len());
        if length > self.read {
            self.quiet = None;
            return Ok(Waited::More);
        }
        match named {
            Ok(now) if (now.dev(), now.ino()) != (self.device, self.inode) => {
                if self.quiet.get_or_insert_with(Instant::now).elapsed() < QUIET {
                    return Ok(Waited::Nothing);
                }
                run.console.say(format!("{}: another file has its name: following that", bytes.name()));
                self.replace(run)
            }
            Ok(_) if length < self.read => {
                run.console.say(format!("{}: it was cut to {length} bytes: reading it from its start", bytes.name()));
                self.replace(run)
            }
            Ok(_) => Ok(Waited::Nothing),
            Err(_) => {
                if !std::mem::replace(&mut self.missing, true) {
                    run.console.say(format!("{}: it is gone: waiting for another one", bytes.name()));
                }
                Ok(Waited::Nothing)
            }
        }
    }

    /// Whether a file that is to be followed is not there yet.
    pub fn is_awaited(path: &Path) -> bool {
        matches!(std::fs::metadata(path), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
    }

    fn replace(&mut self, run: &Rc<Run>) -> Result<Waited> {
        let bytes = Bytes::open(&Uri::File(self.path.clone()), run.clone(), true)?;
        (self.missing, self.quiet) = (false, None);
        self.identify(&bytes)?;
        Ok(Waited::Replaced(Box::new(bytes)))
    }
}
