//! `--follow`: like `tail -F`, through rotation and truncation.
//!
//! A followed name is one partition. A thread opens files as they take the name ([`watch`]); they are read in that order
//! ([`turns`]), and the lines of all of them are counted on. A file that lost the name stays open while writers append to
//! it.

mod name;
#[cfg(test)]
mod tests;
mod turns;
pub mod watch;

use crate::error::Result;
use crate::format::Splitter;
use crate::frame::How;
use crate::ingest::{ByteProgress, Ingest};
use crate::input::bytes::{Bytes, Chunk};
use crate::input::text::TextInput;
use crate::input::{Input, InputEnd, Step};
use crate::run::Run;
use std::rc::Rc;
use std::time::Duration;
use turns::Turns;
use watch::{LOOK_EVERY, Watch};

pub use name::FileId;

/// How long no file must have the name before it is said: a rotation takes it away for a moment.
const GONE: Duration = Duration::from_secs(1);

/// How the files of a name are read.
pub struct Reading {
    /// Cuts records.
    pub splitter: fn() -> Box<dyn Splitter>,
    /// Whether they are JSON lines.
    pub json: bool,
    /// The number of the partition.
    pub partition: u32,
}

/// A followed name and the file that has it.
pub struct WatchedFile {
    /// The name.
    pub watch: Watch,
    /// What tells the file from others.
    pub id: FileId,
    /// The file itself.
    pub bytes: Bytes,
}

/// A followed name and its files, as an input.
pub struct FollowedInput {
    run: Rc<Run>,
    watch: Watch,
    reading: Reading,
    files: Vec<TextInput>,
    turns: Turns,
    /// The file that was read last.
    last: usize,
    /// Lines of the partition so far.
    lines: i64,
    began: Duration,
    told_gone: bool,
    told_full: bool,
    /// Files that were gone before they could be opened.
    missed: u64,
}

impl FollowedInput {
    /// Follows a name from its first file on.
    pub fn new(run: Rc<Run>, watched: WatchedFile, reading: Reading) -> Self {
        let WatchedFile { watch, id, bytes } = watched;
        let began = run.clock.monotonic();
        let mut follow = Self {
            run,
            watch,
            reading,
            files: vec![],
            turns: Turns::default(),
            last: 0,
            lines: 0,
            began,
            told_gone: false,
            told_full: false,
            missed: 0,
        };
        follow.push(id, bytes);
        follow
    }

    fn push(&mut self, id: FileId, bytes: Bytes) {
        let splitter = ((self.reading.splitter)(), self.reading.json);
        self.files.push(TextInput::new(bytes, splitter, self.reading.partition));
        self.turns.push(id);
    }

    /// Returns the time since the name is followed.
    fn elapsed(&self) -> Duration {
        self.run.clock.monotonic().saturating_sub(self.began)
    }

    /// The file that was read last.
    fn bytes(&self) -> &Bytes {
        self.files[self.last].bytes()
    }

    /// Takes over what the thread has opened and found.
    fn take_arrivals(&mut self) -> Result<()> {
        let name = self.bytes().name().to_owned();
        let (opened, missed, refusal, gone) = self.watch.with(|watched| {
            let opened: Vec<_> = std::iter::from_fn(|| watched.name.pop()).collect();
            (opened, watched.name.take_missed(), watched.refusal.take(), watched.gone)
        });
        for opened in opened {
            self.run.console.say(format!("{name}: replaced by another file; following the new file"));
            self.push(opened.id, Bytes::of_file(name.clone(), opened.file, self.run.clone())?);
        }
        if missed > 0 {
            self.missed += missed;
            let files = if missed == 1 { "a file was" } else { "files were" };
            self.run
                .console
                .say(format!("{name}: {files} renamed or deleted before being opened ({missed}); records are lost"));
        }
        if let Some(refusal) = refusal {
            self.run.console.say(format!("{name}: the new file cannot be opened yet: {refusal}"));
        }
        let is_gone = gone.is_some_and(|since| since.elapsed() >= GONE);
        if is_gone && !std::mem::replace(&mut self.told_gone, is_gone) {
            self.run.console.say(format!("{name}: deleted; waiting for a new file"));
        }
        self.told_gone &= gone.is_some();
        Ok(())
    }

    /// Whether a file is shorter than what was read of it.
    fn is_cut(&self, at: usize) -> Result<bool> {
        let bytes = self.files[at].bytes();
        let length = bytes.length()?;
        let is_cut = length < bytes.progress().done;
        if is_cut {
            self.run.console.say(format!("{}: truncated to {length} bytes; reading from its start", bytes.name()));
        }
        Ok(is_cut)
    }

    fn restart(&mut self, at: usize, ingest: &mut Ingest) -> Result<()> {
        let file = &mut self.files[at];
        file.close(ingest)?;
        self.lines = self.lines.max(file.lines());
        file.restart((self.reading.splitter)())
    }

    /// Closes files that lost the name and to which nothing has come for long enough.
    fn close_quiet(&mut self, ingest: &mut Ingest) -> Result<()> {
        loop {
            let (owner, is_full) = self.watch.with(|watched| (watched.name.owner(), watched.name.is_full()));
            let Some(at) = self.turns.to_close(owner, self.elapsed(), is_full) else { return Ok(()) };
            if is_full && !std::mem::replace(&mut self.told_full, true) {
                let (name, files) = (self.bytes().name(), self.files.len());
                self.run.console.say(format!("{name}: {files} renamed files are open; closing the oldest ones early"));
            }
            let mut file = self.files.remove(at);
            file.count_from(self.lines);
            file.close(ingest)?;
            self.lines = self.lines.max(file.lines());
            let id = self.turns.remove(at);
            self.last = self.files.len().saturating_sub(1);
            self.watch.with(|watched| watched.name.close(id));
        }
    }
}

impl Input for FollowedInput {
    fn step(&mut self, ingest: &mut Ingest) -> Result<Step> {
        self.take_arrivals()?;
        while let Some(at) = self.turns.next() {
            let file = &mut self.files[at];
            file.count_from(self.lines);
            let chunk = file.read(ingest)?;
            self.lines = self.lines.max(file.lines());
            match chunk {
                Chunk::Bytes(_) => {
                    self.last = at;
                    self.turns.came(at);
                    return Ok(Step::More);
                }
                Chunk::Stopped => return Ok(Step::Stopped),
                Chunk::Idle | Chunk::End if self.is_cut(at)? => self.restart(at, ingest)?,
                Chunk::Idle | Chunk::End => self.turns.ended(at, self.elapsed()),
            }
        }
        self.close_quiet(ingest)?;
        Ok(Step::Idle)
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        self.run.stop.sleep(timeout.min(LOOK_EVERY)).map(|_| ())
    }

    fn progress(&self) -> ByteProgress {
        self.bytes().progress()
    }

    fn takes_turns(&self) -> bool {
        true
    }

    fn end(&self) -> InputEnd {
        // A file that was gone before it could be opened is lost.
        InputEnd { how: How::Stopped, is_proven: true, verdict: u8::from(self.missed > 0) }
    }
}
