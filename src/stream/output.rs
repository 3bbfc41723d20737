//! Outputs: frames to a pipe, a format to a file, rows to a store.
//!
//! Text files are appended to, one locked write a batch, a torn last line cut first; any other file appears under its
//! name at the proven end and stands as `NAME.part` until then. Dropping an output without [`Output::finish`] leaves
//! nothing that looks whole.

use super::run::Run;
use super::uri::Uri;
use crate::console::Console;
use crate::counts::SinkCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, EncodeOptions, Format};
use crate::frame::{Control, Encoder as FrameEncoder, End};
use crate::kind::Kind;
use crate::kind::dead::Fault;
use crate::store::{OpenOptions, Sink};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions as FileOptions};
use std::io::{IoSlice, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// What an output is told when it is opened.
#[derive(Clone)]
pub struct OutputSpec {
    /// The schema of what will be written.
    pub schema: SchemaRef,
    /// `-o`, if given.
    pub format: Option<&'static Format>,
    /// What a terminal gets where no format is named.
    pub terminal_format: &'static str,
    /// What a pipe or a file without a telling name gets.
    pub pipe_format: &'static str,
    /// `--overwrite`.
    pub overwrite: bool,
    /// `--control`: control messages are written as lines in text.
    pub control: bool,
    /// How tables look.
    pub encode: EncodeOptions,
}

/// A row an output could not hold.
pub struct Refusal {
    /// Index of the row in the batch.
    pub row: usize,
    /// Why.
    pub fault: Fault,
}

/// One output of a run.
pub struct Output {
    name: String,
    sink: Target,
    rows: u64,
}

enum Target {
    Null,
    Frames { encoder: FrameEncoder, file: Plain },
    Encoded { format: &'static str, encoder: Box<dyn format::Encoder>, file: Plain, buffer: Vec<u8>, control: bool },
    Store { kind: Kind, sink: Box<dyn Sink> },
}

/// What became of an output, for the summary.
#[derive(Clone, Debug, Default)]
pub struct OutputReport {
    /// Its name.
    pub name: String,
    /// Rows written.
    pub rows: u64,
    /// Fates of the rows in a store.
    pub counts: Option<SinkCounts>,
    /// `appended`, `new`, `replaced`, and what a store has to say.
    pub remark: Option<String>,
}

impl Output {
    /// Opens `uri`; nothing is written to a file's own name before its end.
    pub fn open(uri: &Uri, spec: &OutputSpec, run: &Run) -> Result<Self> {
        let name = uri.to_string();
        let sink = match uri {
            Uri::Null => Target::Null,
            Uri::Store(store, location) => {
                let kind =
                    Kind::of(&spec.schema).ok_or_else(|| Error::usage(format!("{name}: rows of no kind of evt")))?;
                let clock = run.clock;
                let options = OpenOptions {
                    pipeline: run.pipeline.clone(),
                    run: run.id.clone(),
                    epochs: false,
                    clock: std::sync::Arc::new(move || clock.now()),
                };
                Target::Store { kind, sink: (store.open)(location, &options)? }
            }
            Uri::Standard => {
                let terminal = std::io::stdout().is_terminal();
                let fallback = if terminal { spec.terminal_format } else { spec.pipe_format };
                let format = spec.format.map_or_else(|| format::by_name(fallback), Ok)?;
                if terminal && format.name == "frames" {
                    return Err(Error::usage("frames never go to a terminal: -o jsonl, or | evt-view"));
                }
                Self::encoded(Plain::standard()?, format, spec)?
            }
            Uri::File(path) => {
                let named = format::by_extension(&name);
                let format = spec.format.or(named).map_or_else(|| format::by_name(spec.pipe_format), Ok)?;
                Self::encoded(Plain::create(path.clone(), format, spec.overwrite, &run.console)?, format, spec)?
            }
        };
        Ok(Self { name, sink, rows: 0 })
    }

    fn encoded(mut file: Plain, format: &'static Format, spec: &OutputSpec) -> Result<Target> {
        if format.name == "frames" {
            let (encoder, head) = FrameEncoder::new(spec.schema.clone());
            file.write(&[&head])?;
            return Ok(Target::Frames { encoder, file });
        }
        let open = format
            .output
            .ok_or_else(|| Error::usage(format!("-o {}: evt reads it but does not write it", format.name)))?;
        let mut encode = spec.encode.clone();
        encode.append = file.appends_to_rows();
        let encoder = open(&spec.schema, &encode)?;
        let control = spec.control && format.name == "jsonl";
        Ok(Target::Encoded { format: format.name, encoder, file, buffer: vec![], control })
    }

    /// Its name, as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a batch; rows a store cannot hold come back.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Vec<Refusal>> {
        self.rows += batch.num_rows() as u64;
        let name = &self.name;
        match &mut self.sink {
            Target::Null => {}
            Target::Frames { encoder, file } => {
                let pieces = encoder.batch(batch)?;
                file.write_pieces(&pieces).map_err(|error| error.at(name.clone()))?;
            }
            Target::Encoded { encoder, file, buffer, .. } => {
                encoder.encode(batch, buffer)?;
                file.write(&[buffer]).map_err(|error| error.at(name.clone()))?;
                buffer.clear();
            }
            Target::Store { kind, sink } => {
                let refused = sink.write(*kind, batch).map_err(|error| error.at(name.clone()))?;
                return Ok(refused.into_iter().map(|r| Refusal { row: r.row, fault: r.fault }).collect());
            }
        }
        Ok(vec![])
    }

    /// Passes a control message on, where the format can carry it.
    pub fn control(&mut self, message: &Control) -> Result<()> {
        match &mut self.sink {
            Target::Frames { encoder, file } => {
                let pieces = encoder.control(message)?;
                file.write_pieces(&pieces)
            }
            Target::Encoded { file, control: true, .. } => match message {
                Control::Watermark(instant) => {
                    let instant = crate::time::format_instant(*instant);
                    file.write(&[format!("{{\"$evt\":{{\"watermark\":\"{instant}\"}}}}\n").as_bytes()])
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Makes what was written visible to a reader that waits.
    pub fn flush(&mut self) -> Result<()> {
        let Target::Encoded { encoder, file, buffer, .. } = &mut self.sink else { return Ok(()) };
        encoder.flush(buffer);
        let written = file.write(&[buffer]).map_err(|error| error.at(self.name.clone()));
        buffer.clear();
        written
    }

    /// The format that is written; none where nothing is, or into a store.
    pub fn format(&self) -> Option<&'static str> {
        match &self.sink {
            Target::Null | Target::Store { .. } => None,
            Target::Frames { .. } => Some("frames"),
            Target::Encoded { format, .. } => Some(format),
        }
    }

    /// Writes text of the tool's own after the rows so far; frames and stores hold none.
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.flush()?;
        let Target::Encoded { file, .. } = &mut self.sink else { return Ok(()) };
        file.write(&[text.as_bytes()]).map_err(|error| error.at(self.name.clone()))
    }

    /// Ends the output: the end is proven, a file gets its name.
    pub fn finish(self, end: &End) -> Result<OutputReport> {
        let mut report = OutputReport { name: self.name, rows: self.rows, ..OutputReport::default() };
        match self.sink {
            Target::Null => {}
            Target::Frames { mut encoder, mut file } => {
                let end = Control::End(End { rows: encoder.rows(), ..*end });
                let mut pieces = encoder.control(&end)?;
                pieces.push(encoder.finish());
                file.write_pieces(&pieces)?;
                report.remark = file.finish()?;
            }
            Target::Encoded { mut encoder, mut file, mut buffer, .. } => {
                encoder.finish(&mut buffer)?;
                file.write(&[&buffer])?;
                report.remark = file.finish()?;
            }
            Target::Store { sink, .. } => {
                let outcome = sink.finish()?;
                report.counts = Some(outcome.counts);
                report.remark = outcome.remark;
            }
        }
        Ok(report)
    }
}

/// Plain bytes: standard output, a file that is appended to, or a file that appears at the end.
enum Plain {
    Standard(File),
    Appended { file: File, path: PathBuf, length: u64 },
    Part { file: File, path: PathBuf, existed: bool },
}

impl Plain {
    fn standard() -> Result<Self> {
        use std::os::fd::AsFd;
        let stdout = std::io::stdout();
        // A larger pipe is worth 3× the throughput; where it is not allowed the default stays.
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, 1 << 20);
        let fd = stdout.as_fd().try_clone_to_owned().map_err(|error| Error::io("stdout", &error))?;
        Ok(Plain::Standard(fd.into()))
    }

    fn create(path: PathBuf, format: &Format, overwrite: bool, console: &Console) -> Result<Self> {
        let shown = path.display().to_string();
        if format.appendable && !overwrite || !is_regular(&path) {
            return Self::append(path, format.name == "jsonl", console);
        }
        let existed = path.exists();
        if existed && !overwrite {
            return Err(Error::usage(format!("{shown}: exists already; --overwrite replaces it")));
        }
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let file = File::create(&part).map_err(|error| Error::io(shown, &error))?;
        Ok(Plain::Part { file, path, existed })
    }

    fn append(path: PathBuf, is_json: bool, console: &Console) -> Result<Self> {
        let shown = path.display().to_string();
        let failed = |error: std::io::Error| Error::io(shown.clone(), &error);
        if !is_regular(&path) {
            let file = FileOptions::new().write(true).open(&path).map_err(failed)?;
            return Ok(Plain::Appended { file, path, length: 0 });
        }
        let options = || FileOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = options().map_err(failed)?;
        lock(&file, &shown)?;
        let (tail, length) = mend_last_line(&mut file, is_json).map_err(failed)?;
        unlock(&file);
        match tail {
            Tail::Whole => {}
            Tail::Ended => console.say(format!("{shown}: its last line had no end and now has one")),
            Tail::Cut(bytes) => console.say(format!("{shown}: {bytes} bytes of a torn last line were cut")),
        }
        Ok(Plain::Appended { file, path, length })
    }

    /// Whether the file had rows already, so that a header would stand in the middle.
    fn appends_to_rows(&self) -> bool {
        matches!(self, Plain::Appended { length, .. } if *length > 0)
    }

    fn write_pieces(&mut self, pieces: &[Vec<u8>]) -> Result<()> {
        let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        self.write(&slices)
    }

    fn write(&mut self, pieces: &[&[u8]]) -> Result<()> {
        match self {
            Plain::Standard(file) => write_all(file, pieces).map_err(|error| Error::io("stdout", &error)),
            Plain::Part { file, path, .. } => {
                write_all(file, pieces).map_err(|error| Error::io(path.display().to_string(), &error))
            }
            Plain::Appended { file, path, .. } => append_locked(file, &path.display().to_string(), pieces),
        }
    }

    /// Gives the file its name; says what became of it.
    fn finish(self) -> Result<Option<String>> {
        match self {
            Plain::Standard(_) => Ok(None),
            Plain::Appended { file, path, length } => {
                if is_regular(&path) {
                    file.sync_data().map_err(|error| Error::io(path.display().to_string(), &error))?;
                }
                Ok(Some(if length > 0 { "appended" } else { "new" }.to_owned()))
            }
            Plain::Part { file, path, existed } => {
                let shown = path.display().to_string();
                let failed = |error: std::io::Error| Error::io(shown.clone(), &error);
                file.sync_all().map_err(failed)?;
                let mut part = path.clone().into_os_string();
                part.push(".part");
                std::fs::rename(&part, &path).map_err(failed)?;
                Ok(Some(if existed { "replaced" } else { "new" }.to_owned()))
            }
        }
    }
}

/// Devices, FIFOs and sockets are written to, not replaced.
fn is_regular(path: &std::path::Path) -> bool {
    std::fs::metadata(path).map_or(true, |metadata| metadata.is_file() || metadata.is_dir())
}

/// One write for all pieces where the system takes them at once.
fn write_all(file: &mut File, pieces: &[&[u8]]) -> std::io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut rest = &mut slices[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One locked write; what a full disk took of it is cut off again, so that no half line stays.
fn append_locked(file: &mut File, shown: &str, pieces: &[&[u8]]) -> Result<()> {
    if pieces.iter().all(|piece| piece.is_empty()) {
        return Ok(());
    }
    lock(file, shown)?;
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    let written = write_all(file, pieces);
    if let (Err(_), Some(length)) = (&written, length) {
        // The write's own error is the one to report.
        let _ = file.set_len(length);
    }
    unlock(file);
    written.map_err(|error| Error::io(shown, &error))
}

fn lock(file: &File, shown: &str) -> Result<()> {
    match flock(file, FlockOperation::LockExclusive) {
        Ok(()) | Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::INVAL) => Ok(()),
        Err(rustix::io::Errno::INTR) => lock(file, shown),
        Err(errno) => Err(Error::new(ErrorKind::Io, format!("{shown}: cannot be locked")).because(errno)),
    }
}

fn unlock(file: &File) {
    // Closing the file would do it as well.
    let _ = flock(file, FlockOperation::Unlock);
}

/// What a file that is appended to had after its last newline.
enum Tail {
    /// Nothing: it ends with a whole line, or is empty.
    Whole,
    /// A line that is whole but for its end, which it now has.
    Ended,
    /// This many bytes of a line that a killed writer left: they are cut.
    Cut(u64),
}

/// Looks at what stands after the last newline; returns it with the length that is left.
fn mend_last_line(file: &mut File, is_json: bool) -> std::io::Result<(Tail, u64)> {
    let length = file.metadata()?.len();
    let whole = whole_lines(file, length)?;
    if whole == length {
        return Ok((Tail::Whole, length));
    }
    if is_json && length - whole <= LINE_MAX && is_object(file, whole, length)? {
        file.seek(SeekFrom::End(0))?;
        file.write_all(b"\n")?;
        return Ok((Tail::Ended, length + 1));
    }
    file.set_len(whole)?;
    Ok((Tail::Cut(length - whole), whole))
}

/// The longest last line that is looked at before it is cut.
const LINE_MAX: u64 = 64 << 20;

fn is_object(file: &mut File, start: u64, end: u64) -> std::io::Result<bool> {
    let mut line = vec![0; (end - start) as usize];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut line)?;
    Ok(std::str::from_utf8(&line).is_ok_and(|line| line.starts_with('{') && crate::json::scan::is_json(line)))
}

/// The length of the file up to and including its last newline.
fn whole_lines(file: &mut File, length: u64) -> std::io::Result<u64> {
    let mut end = length;
    let mut buffer = vec![0; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let piece = &mut buffer[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(piece)?;
        if let Some(at) = memchr::memrchr(b'\n', piece) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
