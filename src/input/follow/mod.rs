//! `--follow`: reads a file like `tail -F`, across rotation and truncation.
//!
//! ```text
//! directory ─► watch (thread): opens each file that takes the name ─► queue of name ─► FollowedInput ─► Ingest
//!                                                                                      turns: which file is next
//! ```
//!
//! A followed name is one partition. The input reads the files in the order in which they took the name, and line numbers
//! continue from one file to the next. A file that has lost the name stays open as long as writers append to it.

#[cfg(test)]
mod input_tests;
mod name;
#[cfg(test)]
mod tests;
mod turns;
pub mod watch;

use crate::error::Result;
use crate::format::jsonl::Lines;
use crate::format::{Format, Input as Decoder, Splitter, TextOptions};
use crate::frame::How;
use crate::ingest::{ByteProgress, Ingest};
use crate::input::bytes::{Bytes, Chunk};
use crate::input::text::TextInput;
use crate::input::{EndProof, Input, InputEnd, Step};
use crate::run::Run;
use std::rc::Rc;
use std::time::Duration;
use turns::Turns;
use watch::{POLL_INTERVAL, Watch};

pub use name::FileId;

/// The input reports that a name has no file only after this time: during a rotation it has none for a moment.
const GONE: Duration = Duration::from_secs(1);

/// How text is read: one file, or the files of a followed name.
pub struct TextReading {
    /// The format.
    pub format: &'static Format,
    /// Its options.
    pub options: Rc<TextOptions>,
    /// The index of the partition in the run's stamper.
    pub partition: u32,
}

impl TextReading {
    /// Whether each line is a record with JSON.
    pub fn is_json_lines(&self) -> bool {
        self.format.is_json && self.options.explode.is_none()
    }

    /// Makes the splitter that finds the records of one file.
    pub fn splitter(&self) -> Box<dyn Splitter> {
        match &self.format.input {
            Decoder::Text(splitter) => splitter(&self.options),
            _ => Box::new(Lines::default()),
        }
    }
}

/// A followed name and its first file.
pub struct WatchedFile {
    /// The name.
    pub watch: Watch,
    /// The identity of the file.
    pub id: FileId,
    /// The bytes of the file.
    pub bytes: Bytes,
}

/// An input that reads the files of a followed name.
pub struct FollowedInput {
    run: Rc<Run>,
    watch: Watch,
    reading: TextReading,
    /// The open files, at the same indices as in `turns`.
    files: Vec<TextInput>,
    turns: Turns,
    /// The index of the file that was read last.
    last: usize,
    /// The number of lines of the partition so far.
    lines: i64,
    /// When following began, on the run's monotonic clock.
    began: Duration,
    /// Whether it has been reported that no file has the name.
    has_reported_gone: bool,
    /// Whether it has been reported that too many files are open.
    has_reported_full: bool,
    /// The number of files that lost the name before they could be opened.
    missed: u64,
}

impl FollowedInput {
    /// Makes an input that follows a name, beginning with its first file.
    pub fn new(run: Rc<Run>, watched: WatchedFile, reading: TextReading) -> Self {
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
            has_reported_gone: false,
            has_reported_full: false,
            missed: 0,
        };
        follow.push(id, bytes);
        follow
    }

    fn push(&mut self, id: FileId, bytes: Bytes) {
        let partition = self.reading.partition;
        self.files.push(TextInput::new(bytes, self.reading.splitter(), self.reading.is_json_lines(), partition));
        self.turns.push(id);
    }

    /// Returns the time since following began.
    fn elapsed(&self) -> Duration {
        self.run.clock.monotonic().saturating_sub(self.began)
    }

    /// Returns the file that was read last.
    fn bytes(&self) -> &Bytes {
        self.files[self.last].bytes()
    }

    /// Takes the files that the thread has opened, and reports what it has found.
    fn take_arrivals(&mut self) -> Result<()> {
        let name = self.bytes().name().to_owned();
        let (opened, missed, refusal, gone) = self.watch.with(|watched| {
            let opened: Vec<_> = std::iter::from_fn(|| watched.name.pop()).collect();
            (opened, watched.name.take_missed(), watched.refusal.take(), watched.gone)
        });
        for opened in opened {
            self.run.console.say(format!("{name}: replaced by another file; following the new file"));
            self.push(
                opened.id,
                Bytes::of_file(name.clone(), opened.file, self.run.clone())?.in_encoding(self.reading.options.encoding),
            );
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
        if is_gone && !std::mem::replace(&mut self.has_reported_gone, is_gone) {
            self.run.console.say(format!("{name}: deleted; waiting for a new file"));
        }
        self.has_reported_gone &= gone.is_some();
        Ok(())
    }

    /// Whether a file was truncated: it is shorter than the bytes read from it. Reports it.
    fn is_cut(&self, at: usize) -> Result<bool> {
        let bytes = self.files[at].bytes();
        let length = bytes.length()?;
        let is_cut = length < bytes.progress().done;
        if is_cut {
            self.run.console.say(format!("{}: truncated to {length} bytes; reading from its start", bytes.name()));
        }
        Ok(is_cut)
    }

    /// Reads a truncated file from its start, after the incomplete last line in the buffer.
    fn restart(&mut self, at: usize, ingest: &mut Ingest) -> Result<()> {
        let file = &mut self.files[at];
        file.close(ingest)?;
        self.lines = self.lines.max(file.lines());
        file.restart(self.reading.splitter())
    }

    /// Closes files that have lost the name and have been quiet for [`turns::QUIET`]; earlier if too many files are open.
    fn close_quiet(&mut self, ingest: &mut Ingest) -> Result<()> {
        // One stays open: the thread may have found the next file, which is taken over in the next step.
        while self.files.len() > 1 {
            let (owner, is_full) = self.watch.with(|watched| (watched.name.owner(), watched.name.is_full()));
            let Some(at) = self.turns.to_close(owner, self.elapsed(), is_full) else { return Ok(()) };
            if is_full && !std::mem::replace(&mut self.has_reported_full, true) {
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
        Ok(())
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
                    self.turns.found_bytes(at);
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
        self.run.stop.sleep(timeout.min(POLL_INTERVAL)).map(|_| ())
    }

    fn progress(&self) -> ByteProgress {
        self.bytes().progress()
    }

    fn takes_turns(&self) -> bool {
        true
    }

    fn end(&self) -> InputEnd {
        // The records of a file that was gone before it could be opened are lost.
        InputEnd { how: How::Stopped, proof: EndProof::Proven, verdict: u8::from(self.missed > 0) }
    }
}
