//! A file or a pipe whose format is not known yet: reads its first bytes, and opens the input of their format.

use super::bytes::{Bytes, ReadOutcome};
use super::container::{RowInput, rows_of, take_schema};
use super::follow::resume::{ResumedFile, Resumption, resume};
use super::follow::watch::{POLL_INTERVAL, Watch};
use super::follow::{FollowedInput, Opened, TextReading, WatchedFile, bytes_of, content_of, missed_files};
use super::frames::FrameInput;
use super::position::FollowPosition;
use super::text::{OpenRecord, TextInput};
use super::{EndProof, Input, InputEnd, Step};
use crate::emit::RecordEmitter;
use crate::run::Run;
use evt_core::counts::counted;
use evt_core::error::{Error, Result};
use evt_core::format::refusal::{Head, has_json_lines};
use evt_core::format::{self, Format, InputForm, Limits, TextOptions, jsonl};
use evt_core::frame::EndReason;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The options for reading files and pipes.
#[derive(Clone, Default)]
pub struct FileOptions {
    /// `-f`.
    pub format: Option<&'static Format>,
    /// The options of text formats.
    pub text: Rc<TextOptions>,
    /// `--follow`.
    pub follow: bool,
    /// Whether every input is raw (evt-ingest). A signal then stops the reading at once, even from a pipe.
    pub raw_only: bool,
    /// The treatment of an incomplete last record, unless a later run continues the file.
    pub open_record: OpenRecord,
}

/// The relation of a run to the runs before and after it, and to the checkpoint of its pipe.
#[derive(Clone, Copy, Default)]
pub struct Continuation {
    /// Whether runs continue each other (`--checkpoint`): an input may be empty.
    pub is_continued: bool,
    /// Whether no run continues the inputs after this one (`--at-end fire`).
    pub is_last: bool,
    /// Whether the stage may join the checkpoint of the pipe that it reads.
    pub joins: bool,
}

/// The options with which a run reads files and pipes.
#[derive(Clone)]
pub struct ReadOptions {
    /// The options from the flags and from the tool.
    pub files: FileOptions,
    /// The relation to earlier and later runs.
    pub continuation: Continuation,
}

impl ReadOptions {
    /// Returns the format of an input whose head has been read. The order is: `-f`, a magic at its start, the extension
    /// of its name, the part of a magic; frames for an empty pipe or file without an extension that needs them and does
    /// not grow; else JSON lines. Errors: exit status 65 if only the last byte of a magic differs.
    pub fn format_of(&self, bytes: &Bytes, grows: bool) -> Result<&'static Format> {
        if let Some(format) = self.files.format {
            return Ok(format);
        }
        let head = bytes.head();
        if let Some(format) = format::by_magic(head) {
            return Ok(format);
        }
        // An extension of an output-only format does not determine an input.
        let named = format::by_extension(bytes.name());
        if let Some(format) = named.filter(|format| !matches!(format.input, InputForm::None)) {
            return Ok(format);
        }
        if let Some(format) = format::by_part_of_magic(head).map_err(|error| error.at(bytes.name()))? {
            return Ok(format);
        }
        // Frames have an extension of their own, so a log of which nothing is written yet, as after a rotation, is not
        // a torn stream.
        let is_text = bytes.is_regular() && Path::new(bytes.name()).extension().is_some();
        if head.is_empty() && !self.files.raw_only && !self.continuation.is_continued && !grows && !is_text {
            return Ok(&format::frames::FORMAT);
        }
        Ok(&format::jsonl::FORMAT)
    }

    /// Returns the treatment of an incomplete last record.
    fn open_record(&self) -> OpenRecord {
        let Continuation { is_continued, is_last, .. } = self.continuation;
        if is_continued && !is_last { OpenRecord::Leave } else { self.files.open_record }
    }
}

/// Returns the limits for reading a container.
pub fn limits(run: &Run) -> Limits {
    Limits { ratio: run.ratio_max, text: run.line_max() }
}

/// The source of the bytes.
enum ByteSource {
    Bytes(Bytes),
    /// A followed name without a file so far.
    Awaited(Watch),
    /// The first file of a followed name.
    Watched(WatchedFile),
    /// The input has been opened.
    Taken,
}

/// An input that another one replaces as soon as its first bytes have determined the format.
pub struct UnopenedInput {
    run: Rc<Run>,
    options: ReadOptions,
    name: String,
    origin: String,
    from: ByteSource,
    /// Whether the wait for the first file of a followed name has been reported.
    has_reported: bool,
    /// The position of a followed name, until its files are found again.
    position: Option<(PathBuf, FollowPosition)>,
    /// The files with which a followed name continues after the first one.
    resumption: Resumption,
}

/// A name that is followed.
pub struct FollowedName {
    /// The name as typed.
    pub name: String,
    /// Its path.
    pub path: PathBuf,
    /// Its watch.
    pub watch: Watch,
    /// How far earlier runs have read it, if one has.
    pub position: Option<FollowPosition>,
}

impl UnopenedInput {
    /// Makes an input of `bytes`; its records get `origin`.
    pub fn new(run: Rc<Run>, options: ReadOptions, origin: String, bytes: Bytes) -> Self {
        let name = bytes.name().to_owned();
        Self::from(ByteSource::Bytes(bytes), run, options, origin, name)
    }

    /// Makes an input of a followed name.
    pub fn of_name(run: Rc<Run>, options: ReadOptions, origin: String, followed: FollowedName) -> Self {
        let FollowedName { name, path, watch, position } = followed;
        let input = Self::from(ByteSource::Awaited(watch), run, options, origin, name);
        Self { position: position.map(|position| (path, position)), ..input }
    }

    fn from(from: ByteSource, run: Rc<Run>, options: ReadOptions, origin: String, name: String) -> Self {
        let resumption = Resumption::default();
        Self { run, options, name, origin, from, has_reported: false, position: None, resumption }
    }

    /// Takes the first file of a followed name from the watching thread; returns false if there has been none yet.
    /// Errors: exit status 74 if the file cannot be opened.
    fn find(&mut self) -> Result<bool> {
        let ByteSource::Awaited(watch) = &self.from else { return Ok(true) };
        if let Some(refusal) = watch.with(|watched| watched.refusal.take()) {
            return Err(Error::io(self.name.clone(), &refusal));
        }
        if let Some((path, position)) = self.position.take() {
            self.resumption = resume(&self.name, &path, position, watch, &self.run)?;
        }
        let missed = watch.with(|watched| watched.name.take_missed());
        if missed > 0 {
            self.run.console.say(missed_files(&self.name, missed));
            self.resumption.missed += missed;
        }
        let arrived = || watch.with(|watched| watched.name.pop());
        let arrived = || arrived().map(|Opened { id, file }| ResumedFile { id, file, former: None });
        let Some(ResumedFile { id, file, former }) = self.resumption.files.pop_front().or_else(arrived) else {
            if !std::mem::replace(&mut self.has_reported, true) {
                self.run.console.notice(format!("{}: waiting for the file to be created", self.name));
            }
            return Ok(false);
        };
        let content = self.options.continuation.is_continued.then(|| content_of(former.as_ref()));
        let bytes = bytes_of(&self.name, file, &self.run, &self.options.files.text, content)?;
        self.from = ByteSource::Watched(WatchedFile { watch: watch.clone(), id, bytes, former });
        Ok(true)
    }

    fn bytes(&mut self) -> Option<&mut Bytes> {
        match &mut self.from {
            ByteSource::Bytes(bytes) => Some(bytes),
            ByteSource::Watched(file) => Some(&mut file.bytes),
            ByteSource::Awaited(_) | ByteSource::Taken => None,
        }
    }

    /// Reads the first lines of text whose format no flag names. Does nothing for a followed file, whose name
    /// determines the format. Errors: exit status 2 if the text needs another format or another command.
    fn refuse_unreadable(&mut self, format: &Format) -> Result<ReadOutcome> {
        let ByteSource::Bytes(bytes) = &mut self.from else { return Ok(ReadOutcome::End) };
        let read = bytes.read_start(Some(Duration::ZERO))?;
        if matches!(read, ReadOutcome::Bytes(_) | ReadOutcome::End) {
            let file = Some(self.name.as_str()).filter(|name| *name != "-");
            let head = Head { bytes: bytes.head(), file, tool: self.run.console.tool() };
            if let Some(refusal) = head.refusal(format.is_json) {
                return Err(Error::usage(refusal).at(self.name.clone()));
            }
        }
        Ok(read)
    }

    /// Makes the input that reads `format`. Only text in regular files is followed. Errors: exit status 2 for an
    /// output-only format.
    fn open(&mut self, format: &'static Format, emitter: &mut RecordEmitter) -> Result<Box<dyn Input>> {
        let (mut bytes, watched) = match std::mem::replace(&mut self.from, ByteSource::Taken) {
            ByteSource::Bytes(bytes) => (bytes, None),
            ByteSource::Watched(WatchedFile { watch, id, bytes, former }) => (bytes, Some((watch, id, former))),
            ByteSource::Awaited(_) | ByteSource::Taken => return Err(Error::broken("an input is opened twice")),
        };
        if !matches!(format.input, InputForm::Text(_)) {
            // Its schema and its partitions follow the rows before.
            emitter.finish_tasks()?;
        }
        let is_watched = watched.is_some();
        let is_followed = matches!(format.input, InputForm::Text(_)) && bytes.is_regular();
        if let Some((watch, ..)) = watched.as_ref().filter(|_| !is_followed) {
            watch.end();
        }
        match (&format.input, watched.filter(|_| is_followed)) {
            (found, None)
                if is_watched
                    && self.options.continuation.is_continued
                    && !matches!(found, InputForm::Container(_)) =>
            {
                let found = if bytes.is_regular() { format.name } else { "something else" };
                let expected = "--follow with --checkpoint: expected text in regular files";
                Err(Error::usage(format!("{expected}, found {found}")).at(self.name.clone()))
            }
            (InputForm::Container(_), None) if is_watched => Err(Error::usage(format!(
                "expected text with --follow, found {}; evt-view --tail N shows the last rows",
                format.name
            ))
            .at(self.name.clone())),
            (InputForm::None, _) => Err(Error::usage(format!("-f {}: output format only", format.name))),
            (InputForm::Text(_), Some((watch, id, former))) => {
                let reading = self.reading(format, emitter);
                let (watched, rest) = (WatchedFile { watch, id, bytes, former }, std::mem::take(&mut self.resumption));
                Ok(Box::new(FollowedInput::new(self.run.clone(), watched, reading, rest)?))
            }
            (InputForm::Text(_), None) => {
                let named = format::by_extension(bytes.name()).is_some_and(|named| named == format);
                let is_named = self.options.files.format.is_some() || named;
                emitter.stamp_mut().set_has_format(is_named || has_json_lines(bytes.head()));
                // Text that begins within the examined bytes has been recognised.
                let rejects_array = self.options.files.format.is_none() && jsonl::is_blank(bytes.head());
                let reading = self.reading(format, emitter);
                let mut input = TextInput::new(bytes, reading.splitter(), reading.is_json_lines(), reading.partition);
                input.begin(emitter.stamp_mut().begin_records(reading.partition));
                Ok(Box::new(input.with_open_record(self.options.open_record()).rejecting_array(rejects_array)))
            }
            (InputForm::Frames, _) => Ok(Box::new(FrameInput::new(
                bytes,
                self.run.clone(),
                &self.origin,
                self.options.files.raw_only,
                self.options.continuation.joins,
            ))),
            (InputForm::Container(open), _) => {
                let is_regular = bytes.is_regular();
                let file = bytes.whole_file()?;
                let length = file.metadata().map_or(0, |metadata| metadata.len());
                let opened = open(file, limits(&self.run)).map_err(|error| error.at(bytes.name()))?;
                emitter.declare(|| opened.names);
                take_schema(opened.schema, opened.is_text && self.options.files.raw_only, bytes.name(), emitter)?;
                let (name, partition) = (bytes.name().to_owned(), emitter.stamp_mut().unnamed(&self.origin));
                let rows = rows_of(opened.parts, length, &self.run.pool);
                let proof = if opened.has_end { EndProof::Proven } else { EndProof::of_unmarked(is_regular) };
                Ok(Box::new(RowInput::new(rows, name, partition, self.run.clone()).with_proof(proof)))
            }
        }
    }

    /// Returns the settings for reading text of this format.
    fn reading(&self, format: &'static Format, emitter: &mut RecordEmitter) -> TextReading {
        let (options, is_continued) = (self.options.files.text.clone(), self.options.continuation.is_continued);
        TextReading { format, options, partition: emitter.stamp_mut().unnamed(&self.origin), is_continued }
    }
}

impl Input for UnopenedInput {
    fn step(&mut self, emitter: &mut RecordEmitter) -> Result<Step> {
        if !self.find()? {
            return Ok(if self.run.stop.signal().is_some() { Step::Stopped } else { Step::Idle });
        }
        let (options, grows) = (self.options.clone(), matches!(self.from, ByteSource::Watched(_)));
        let Some(bytes) = self.bytes() else { return Ok(Step::End) };
        let head =
            if options.files.format.is_some() { ReadOutcome::End } else { bytes.read_head(Some(Duration::ZERO))? };
        match head {
            ReadOutcome::Idle => Ok(Step::Idle),
            ReadOutcome::Stopped => Ok(Step::Stopped),
            ReadOutcome::Bytes(_) | ReadOutcome::End => {
                let format = options.format_of(bytes, grows)?;
                if matches!(format.input, InputForm::Text(_)) {
                    // No stage wrote these bytes, so a signal stops the reading at once.
                    bytes.set_stops_at_signals(true);
                    self.run.stop.set_behind_pipe(false);
                }
                if options.files.format.is_none() && matches!(format.input, InputForm::Text(_)) {
                    match self.refuse_unreadable(format)? {
                        ReadOutcome::Idle => return Ok(Step::Idle),
                        ReadOutcome::Stopped => return Ok(Step::Stopped),
                        ReadOutcome::Bytes(_) | ReadOutcome::End => {}
                    }
                }
                self.open(format, emitter).map(Step::Opened)
            }
        }
    }

    /// Reports what was read of a pipe, which does not have it again, to find its format.
    fn stop(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        if let Some(bytes) = self.bytes().filter(|bytes| !bytes.is_regular() && !bytes.head().trim_ascii().is_empty()) {
            let read = counted(bytes.head().len() as u64, ["byte", "bytes"]);
            let why = "stopped before its format was known";
            emitter
                .run()
                .console
                .warn(format!("{}: {why}; {read}, which a pipe does not have again, are lost", bytes.name()));
        }
        Ok(())
    }

    fn end(&self) -> InputEnd {
        // The records of a file that was gone before it could be opened are lost, also if none has the name.
        InputEnd { how: EndReason::Exhausted, proof: EndProof::Proven, verdict: u8::from(self.resumption.missed > 0) }
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        match self.bytes() {
            Some(bytes) => bytes.wait(timeout),
            None => self.run.stop.sleep(timeout.min(POLL_INTERVAL)).map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use evt_core::error::ErrorKind;

    /// Returns the name of the format of a file with this name and content.
    fn format_of(options: &ReadOptions, name: &str, content: &[u8], grows: bool) -> Result<&'static str> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let run = Rc::new(Run::unwatched("evt-test", Clock::Fixed(0)));
        let mut bytes =
            Bytes::of_file(path.to_string_lossy().into_owned(), std::fs::File::open(&path).unwrap(), run).unwrap();
        bytes.read_head(None).unwrap();
        options.format_of(&bytes, grows).map(|format| format.name)
    }

    fn options(format: Option<&'static Format>) -> ReadOptions {
        let files = FileOptions { format, ..FileOptions::default() };
        ReadOptions { files, continuation: Continuation::default() }
    }

    #[test]
    fn a_flag_decides_the_format_then_a_magic_then_the_extension() {
        let (plain, csv) = (options(None), options(format::by_extension("a.csv")));
        for (options, name, content, expected) in [
            (&csv, "a.jsonl", &b"PAR1"[..], "csv"),
            (&plain, "a.csv", b"PAR1", "parquet"),
            (&plain, "a.csv", b"a,b", "csv"),
            (&plain, "a.unknown", b"a,b", "jsonl"),
        ] {
            assert_eq!(format_of(options, name, content, false).ok(), Some(expected), "{name}");
        }
        let damaged = format_of(&plain, "a", b"PARx", false);
        assert!(damaged.is_err_and(|error| error.kind() == ErrorKind::Corrupt));
    }

    #[test]
    fn an_empty_input_is_a_torn_stream_of_frames_unless_text_may_follow() {
        let plain = options(None);
        let of = |options: &ReadOptions, name: &str, grows: bool| format_of(options, name, b"", grows).unwrap();
        assert_eq!(of(&plain, "a", false), format::frames::FORMAT.name);
        for (name, grows) in [("a", true), ("a.log", false)] {
            assert_eq!(of(&plain, name, grows), "jsonl", "{name}");
        }
        let mut raw = options(None);
        raw.files.raw_only = true;
        let mut continued = options(None);
        continued.continuation.is_continued = true;
        for options in [raw, continued] {
            assert_eq!(of(&options, "a", false), "jsonl");
        }
    }

    #[test]
    fn an_open_record_waits_for_a_later_run_if_one_continues_the_file() {
        for (is_continued, is_last, expected) in [
            (false, false, OpenRecord::Drop),
            (false, true, OpenRecord::Drop),
            (true, false, OpenRecord::Leave),
            (true, true, OpenRecord::Drop),
        ] {
            let files = FileOptions { open_record: OpenRecord::Drop, ..FileOptions::default() };
            let options = ReadOptions { files, continuation: Continuation { is_continued, is_last, joins: false } };
            assert_eq!(options.open_record(), expected);
        }
    }
}
