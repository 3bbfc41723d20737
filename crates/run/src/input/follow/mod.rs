//! `--follow`: reads a file like `tail -F`, across rotation and truncation.
//!
//! ```text
//! directory ─► watch (thread): opens each file that takes the name ─► queue of name ─► FollowedInput ─► RecordEmitter
//!                                                                                      turns: which file is next
//! ```
//!
//! A followed name is one partition. The input reads the files in the order in which they took the name, and line
//! numbers continue from one file to the next. A file that has lost the name stays open as long as writers append to
//! it.
//!
//! - `watch.rs`, `name.rs`, `turns.rs`: the files that take a name, and which of them is read next.
//! - `resume.rs`: finds the files of the last run again, also under the names of `rotated.rs`.

#[cfg(test)]
mod input_tests;
mod name;
pub mod resume;
mod rotated;
#[cfg(test)]
mod tests;
mod turns;
pub mod watch;

use crate::emit::{ByteProgress, RecordEmitter};
use crate::input::bytes::{Bytes, ReadOutcome};
use crate::input::content::digest::FileContent;
use crate::input::content::first_lines;
use crate::input::position::{ClosedFiles, FileId, FollowPosition, InputPosition, ReadFile};
use crate::input::text::{OpenRecord, TextInput};
use crate::input::{EndProof, Input, InputEnd, Step};
use crate::run::Run;
use evt_core::error::Result;
use evt_core::format::jsonl::Lines;
use evt_core::format::{Format, InputForm, Splitter, TextOptions};
use evt_core::frame::EndReason;
use resume::{ResumedFile, Resumption, born, modified};
use std::fs::{File, Metadata};
use std::rc::Rc;
use std::time::Duration;
use turns::{ReadBytes, Turns};
use watch::{POLL_INTERVAL, Watch};

pub use name::Opened;

/// Time after which the input reports that a name has no file. During a rotation a name has no file for a moment.
const GONE: Duration = Duration::from_secs(1);

/// The settings for reading text from one file, or from the files of a followed name.
pub struct TextReading {
    /// The format.
    pub format: &'static Format,
    /// Its options.
    pub options: Rc<TextOptions>,
    /// The index of the partition in the run's partition table.
    pub partition: u32,
    /// Whether a later run continues the files of a followed name (`--checkpoint`).
    pub is_continued: bool,
}

impl TextReading {
    /// Whether each line is a JSON record.
    pub fn is_json_lines(&self) -> bool {
        self.format.is_json && self.options.explode.is_none()
    }

    /// Makes the splitter that finds the records of one file.
    pub fn splitter(&self) -> Box<dyn Splitter> {
        match &self.format.input {
            InputForm::Text(splitter) => splitter(&self.options),
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
    /// The position to which an earlier run has read it; `None` if no earlier run is known to have read it.
    pub former: Option<ReadFile>,
}

/// Opens the bytes of a file that has or had a followed name. `former`: what an earlier run has read of it, if a later
/// run continues this one. Errors: exit status 74.
pub fn bytes_of(
    name: &str,
    file: File,
    run: &Rc<Run>,
    options: &TextOptions,
    former: Option<FileContent>,
) -> Result<Bytes> {
    let bytes = Bytes::of_file(name.to_owned(), file, run.clone())?.in_encoding(options.encoding).growing();
    Ok(match former {
        Some(former) => bytes.with_content(former),
        None => bytes,
    })
}

/// Returns the content that an earlier run has read of a file.
pub fn content_of(former: Option<&ReadFile>) -> FileContent {
    former.map_or_else(FileContent::default, |former| former.content.clone())
}

/// Returns the message about files that lost a name before they could be opened.
pub fn missed_files(name: &str, missed: u64) -> String {
    let files = if missed == 1 { "a file was" } else { "files were" };
    format!("{name}: {files} renamed or deleted before being opened ({missed}); records are lost")
}

/// Whether a followed name has no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    /// It has one.
    None,
    /// It has had no file since this time (since following began); nothing is reported yet.
    Since(Duration),
    /// It has no file, and the absence was reported.
    Reported,
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
    absence: Absence,
    /// Whether it has been reported that too many files are open.
    has_reported_full: bool,
    /// The number of files that lost the name before they could be opened.
    missed: u64,
    /// The files that were closed or truncated, each with the content that was read.
    closed: ClosedFiles,
}

impl FollowedInput {
    /// Makes an input that follows a name, beginning with its first file and the others of `resumption`.
    pub fn new(run: Rc<Run>, watched: WatchedFile, reading: TextReading, resumption: Resumption) -> Result<Self> {
        let WatchedFile { watch, id, bytes, former } = watched;
        let Resumption { files, lines, closed, missed } = resumption;
        let began = run.clock.monotonic();
        let mut follow = Self {
            run,
            watch,
            reading,
            files: vec![],
            turns: Turns::default(),
            last: 0,
            lines,
            began,
            absence: Absence::None,
            has_reported_full: false,
            missed,
            closed,
        };
        follow.push(id, bytes, former)?;
        for ResumedFile { id, file, former } in files {
            let bytes = follow.open(file, former.as_ref())?;
            follow.push(id, bytes, former)?;
        }
        Ok(follow)
    }

    fn open(&self, file: File, former: Option<&ReadFile>) -> Result<Bytes> {
        let content = self.reading.is_continued.then(|| content_of(former));
        bytes_of(self.bytes().name(), file, &self.run, &self.reading.options, content)
    }

    /// Adds a file that took the name; an earlier run has read `former` of it.
    fn push(&mut self, id: FileId, bytes: Bytes, former: Option<ReadFile>) -> Result<()> {
        let (before, partition) = (self.read_bytes()?, self.reading.partition);
        let mut input = TextInput::new(bytes, self.reading.splitter(), self.reading.is_json_lines(), partition);
        if let Some(former) = former.filter(ReadFile::has_begun) {
            input.begin(former.began);
            input = input.passing_over(former.line);
        }
        self.files.push(input);
        self.turns.push(id, before);
        Ok(())
    }

    /// Returns the length of the newest file, and how many of its bytes were read.
    fn read_bytes(&self) -> Result<ReadBytes> {
        let Some(newest) = self.files.last() else { return Ok(ReadBytes::default()) };
        let (bytes, length) = (newest.bytes(), newest.bytes().length()?);
        // What has not been read of a compressed file has not been returned either.
        let unread = Some(bytes.progress().done).filter(|done| *done < length);
        Ok(ReadBytes { done: bytes.returned().or(unread), length })
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
        let (opened, missed, refusal, is_gone) = self.watch.with(|watched| {
            let opened: Vec<_> = std::iter::from_fn(|| watched.name.pop()).collect();
            (opened, watched.name.take_missed(), watched.refusal.take(), watched.name.is_gone())
        });
        for opened in opened {
            self.run.console.notice(format!("{name}: replaced by another file; following the new file"));
            let bytes = self.open(opened.file, None)?;
            self.push(opened.id, bytes, None)?;
        }
        if missed > 0 {
            self.missed += missed;
            self.run.console.say(missed_files(&name, missed));
        }
        if let Some(refusal) = refusal {
            self.run.console.say(format!("{name}: the new file cannot be opened yet: {refusal}"));
        }
        let now = self.elapsed();
        self.absence = match self.absence {
            _ if !is_gone => Absence::None,
            Absence::None => Absence::Since(now),
            Absence::Since(since) if now.saturating_sub(since) >= GONE => {
                self.run.console.notice(format!("{name}: deleted; waiting for a new file"));
                Absence::Reported
            }
            known => known,
        };
        Ok(())
    }

    /// Whether a file was truncated, which means that it has fewer bytes than were read from it. Prints a message if
    /// so.
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
    fn restart(&mut self, at: usize, emitter: &mut RecordEmitter) -> Result<()> {
        self.close(at, emitter)?;
        self.files[at].restart(self.reading.splitter())
    }

    /// Reads the rest of a file in the buffer, and notes the position in the file, which is not read further.
    fn close(&mut self, at: usize, emitter: &mut RecordEmitter) -> Result<()> {
        self.close_buffer(at, emitter)?;
        let read = self.read_file(at, &self.files[at].bytes().metadata()?)?;
        self.closed.push(read);
        Ok(())
    }

    /// Reads the rest of a file in the buffer.
    fn close_buffer(&mut self, at: usize, emitter: &mut RecordEmitter) -> Result<()> {
        let file = &mut self.files[at];
        file.count_from(self.lines);
        file.close(emitter)?;
        self.lines = self.lines.max(file.lines());
        Ok(())
    }

    /// Returns the position in a file: its identity, the content and the number of lines that were read, and whether it
    /// is done.
    fn read_file(&self, at: usize, metadata: &Metadata) -> Result<ReadFile> {
        let file = &self.files[at];
        let (content, line) = (file.bytes().content(), file.line_reached());
        let is_done = !self.is_named(at) && self.is_at_end(at)? && !file.has_rest();
        Ok(ReadFile { id: self.turns.id(at), born: born(metadata), content, line, began: file.began(), is_done })
    }

    /// Closes files that have lost the name and have been quiet for [`turns::QUIET`]; earlier if too many files are
    /// open.
    fn close_quiet(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        // One file stays open: the thread may have found the next file, which the next step takes over.
        while self.files.len() > 1 {
            let (owner, is_full) = self.watch.with(|watched| (watched.name.owner(), watched.name.is_full()));
            let Some(at) = self.turns.to_close(owner, self.elapsed(), is_full) else { return Ok(()) };
            if is_full && !std::mem::replace(&mut self.has_reported_full, true) {
                let (name, files) = (self.bytes().name(), self.files.len());
                self.run
                    .console
                    .notice(format!("{name}: {files} renamed files are open; closing the oldest ones early"));
            }
            self.files[at].bytes().check_whole()?;
            self.close(at, emitter)?;
            self.files.remove(at);
            let id = self.turns.remove(at);
            self.last = self.files.len().saturating_sub(1);
            self.watch.with(|watched| watched.name.close(id));
        }
        Ok(())
    }

    /// Whether a file was read to its end.
    fn is_at_end(&self, at: usize) -> Result<bool> {
        let bytes = self.files[at].bytes();
        Ok(match bytes.returned() {
            Some(returned) => returned >= bytes.length()?,
            // The number of bytes does not tell whether a compressed file, or one with unconverted bytes, is at its
            // end.
            None => self.turns.is_at_end(at),
        })
    }

    /// Whether a file has the name.
    fn is_named(&self, at: usize) -> bool {
        let (owner, is_gone) = self.watch.with(|watched| (watched.name.owner(), watched.name.is_gone()));
        !is_gone && owner == Some(self.turns.id(at))
    }
}

impl Input for FollowedInput {
    fn step(&mut self, emitter: &mut RecordEmitter) -> Result<Step> {
        self.take_arrivals()?;
        while let Some(at) = self.turns.next() {
            let file = &mut self.files[at];
            file.count_from(self.lines);
            file.begin(emitter.stamp().stream_time(self.reading.partition));
            let chunk = file.read(emitter)?;
            self.lines = self.lines.max(file.lines());
            match chunk {
                ReadOutcome::Bytes(_) => {
                    self.last = at;
                    self.turns.found_bytes(at, file.bytes().returned());
                    return Ok(Step::More);
                }
                ReadOutcome::Stopped => return Ok(Step::Stopped),
                ReadOutcome::Idle | ReadOutcome::End if self.is_cut(at)? => self.restart(at, emitter)?,
                ReadOutcome::Idle | ReadOutcome::End => self.turns.ended(at, self.elapsed()),
            }
        }
        self.close_quiet(emitter)?;
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

    fn commits(&self) -> bool {
        self.reading.is_continued
    }

    fn stop(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        for at in 0..self.files.len() {
            if !self.is_at_end(at)? {
                // The buffer may end in the middle of a line.
                if !self.reading.is_continued {
                    let name = self.files[at].bytes().name();
                    self.run.console.warn(format!("{name}: stopped before the end of a file; the rest is not read"));
                }
                continue;
            }
            // Without a later run, the incomplete last line of a renamed file is read as a record: its writer has had
            // time to complete it.
            let open_record = match (self.reading.is_continued, self.is_named(at)) {
                (true, _) => OpenRecord::Leave,
                (false, true) => OpenRecord::Drop,
                (false, false) => OpenRecord::Read,
            };
            self.files[at].set_open_record(open_record);
            self.close_buffer(at, emitter)?;
        }
        Ok(())
    }

    fn checkpoint_position(&mut self) -> Result<Option<InputPosition>> {
        // The files that are known but not read yet belong to the position.
        self.take_arrivals()?;
        let mut position =
            FollowPosition { lines: self.lines, closed: self.closed.clone(), ..FollowPosition::default() };
        for (at, file) in self.files.iter().enumerate() {
            let metadata = file.bytes().metadata()?;
            let mut read = self.read_file(at, &metadata)?;
            if read.line == 0 {
                // By the first lines, the next run detects a truncation and recognises a copy.
                let first = first_lines(&file.bytes().file()?, self.run.ratio_max)?;
                read.content = if first.length > read.content.length { first } else { read.content };
            }
            position.open.push(read);
            position.modified = position.modified.max(modified(&metadata));
        }
        Ok(Some(InputPosition::Followed(position)))
    }

    fn end(&self) -> InputEnd {
        // The records of a file that was gone before it could be opened are lost.
        InputEnd { how: EndReason::Stopped, proof: EndProof::Proven, verdict: u8::from(self.missed > 0) }
    }
}
