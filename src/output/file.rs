//! Bytes to standard output, to a file that is appended to, or to `NAME.part`, which is renamed at the end.
//!
//! Writers lock a file with `flock`: for one batch if they append, for the whole run if they write a part.

use crate::console::Console;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Format;
use crate::frame::How;
use crate::run::Run;
use crate::run::io::Disk;
use crate::stop::Woken;
use crate::store::{Notice, durable, room};
use arrow::buffer::Buffer;
use rustix::fs::{FlockOperation, OFlags, fcntl_getfl, fcntl_setfl, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Interval between two attempts to open a FIFO that has no reader.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// Where the bytes of an output go.
pub enum Plain {
    /// Standard output.
    Standard(Box<dyn Write>),
    /// A file that is appended to, a batch under one lock; or a device or FIFO.
    Appended {
        /// The open file.
        file: File,
        /// The disk it is on.
        disk: Disk,
        /// Its path.
        path: PathBuf,
        /// Bytes it had after [`Plain::begin`] repaired its end; 0 before.
        length: u64,
        /// The header; the first write puts it before its rows if the file is empty. Empty after that write.
        header: Vec<u8>,
    },
    /// A file that is written as `NAME.part` until the end.
    Part {
        /// The open part.
        part: PartFile,
        /// Whether an existing file `NAME` will be replaced.
        existed: bool,
    },
}

/// An open `NAME.part`. It is locked, so that a second run cannot write it too, and deleted on drop unless it is kept.
pub struct PartFile {
    file: File,
    disk: Disk,
    /// The final path, `NAME`.
    path: PathBuf,
    /// Whether the file remains on drop: renamed, or as `NAME.part`.
    kept: bool,
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.kept && is_same(&self.file, &part_of(&self.path)) {
            // The error that ended the run is the one to report; the next run overwrites a part that remains.
            let _ = std::fs::remove_file(part_of(&self.path));
        }
    }
}

impl PartFile {
    /// Syncs the part and renames it to its final path.
    fn name(mut self) -> Result<()> {
        let failed = |error: std::io::Error| Error::io(self.path.display().to_string(), &error);
        self.disk.check().and_then(|()| self.file.sync_all()).map_err(failed)?;
        std::fs::rename(part_of(&self.path), &self.path).map_err(failed)?;
        durable::sync_name(&self.path).map_err(failed)?;
        self.kept = true;
        Ok(())
    }

    /// Syncs the part and leaves it as `NAME.part`; the existing file is not replaced.
    fn keep(mut self) -> Result<Ended> {
        let part = part_of(&self.path);
        let failed = |error: std::io::Error| Error::io(part.display().to_string(), &error);
        self.file.sync_all().and_then(|()| durable::sync_name(&part)).map_err(failed)?;
        self.kept = true;
        let text = format!("stopped before the end of the input: not replaced, rows so far in {}", part.display());
        Ok(Ended { remark: Some("not replaced".to_owned()), notice: Some(Notice { text, fails: true }) })
    }
}

impl Plain {
    /// Checks that a file of `format` could be written at `path`; changes nothing. Errors: exit status 2 if the file exists and must
    /// not be replaced.
    pub fn check(path: &Path, format: &Format, overwrite: bool) -> Result<()> {
        let failed = |error: std::io::Error| Error::io(path.display().to_string(), &error);
        room::for_file(path).map_err(failed)?;
        if is_appended(path, format, overwrite) {
            return Ok(());
        }
        // A rename replaces the file, so its directory must be writable.
        room::in_directory(room::parent(path)).map_err(failed)?;
        is_replaced(path, overwrite).map(|_| ())
    }

    /// Opens a file of `format` at `path`. Errors: exit status 2 if it exists and must not be replaced, 75 if another run is writing
    /// its part.
    pub fn create(path: PathBuf, format: &Format, overwrite: bool, run: &Run) -> Result<Self> {
        let disk = run.io.disk();
        if !is_regular(&path) {
            let file = open_special(&path, run)?;
            return Ok(Plain::Appended { file, disk, path, length: 0, header: vec![] });
        }
        if is_appended(&path, format, overwrite) {
            let options = OpenOptions::new().read(true).append(true).create(true).open(&path);
            let failed = |error: std::io::Error| Error::io(path.display().to_string(), &error);
            let file = options.map_err(failed)?;
            if file.metadata().map_err(failed)?.len() == 0 {
                // Before any row is written. Another run may have created the file and not synced its name yet.
                durable::sync_name(&path).map_err(failed)?;
            }
            return Ok(Plain::Appended { file, disk, path, length: 0, header: vec![] });
        }
        let part = create_part(path, disk)?;
        // Checked again: another run may have created the file since `Plain::check`.
        let existed = is_replaced(&part.path, overwrite)?;
        Ok(Plain::Part { part, existed })
    }

    /// Repairs the end of a file that is appended to, and stores the header that `bytes` returns. The first write writes the header
    /// if it finds the file empty under the lock, because other runs may append to it too. Returns false if the encoder has to
    /// write the header: no other run writes this output. Errors: exit status 2 if the file has another header.
    pub fn begin(
        &mut self,
        bytes: impl FnOnce() -> Result<Vec<u8>>,
        (is_json, console): (bool, &Console),
    ) -> Result<bool> {
        let Plain::Appended { file, path, length, header, .. } = self else { return Ok(false) };
        if !is_regular(path) {
            return Ok(false);
        }
        *header = bytes()?;
        let shown = path.display().to_string();
        lock(file, &shown)?;
        let mended = if header.is_empty() { mend_last_line(file, is_json) } else { mend_last_record(file, header) };
        unlock(file);
        let (tail, whole) = mended.map_err(|error| Error::io(shown.clone(), &error))?;
        *length = whole;
        match tail {
            Tail::Whole => {}
            Tail::Ended => console.say(format!("{shown}: the last line had no line end and now has one")),
            Tail::Cut(bytes) => console.say(format!("{shown}: removed {bytes} bytes of a torn last line")),
            Tail::Foreign => return Err(other_columns(&shown)),
        }
        Ok(true)
    }

    /// Returns its name for messages.
    pub fn name(&self) -> String {
        match self {
            Plain::Standard(_) => "stdout".to_owned(),
            Plain::Appended { path, .. } => path.display().to_string(),
            Plain::Part { part, .. } => part.path.display().to_string(),
        }
    }

    /// Writes the pieces under one lock.
    pub fn write_pieces(&mut self, pieces: &[Buffer]) -> Result<()> {
        let slices: Vec<&[u8]> = pieces.iter().map(Buffer::as_slice).collect();
        self.write(&slices)
    }

    /// Writes the pieces under one lock.
    pub fn write(&mut self, pieces: &[&[u8]]) -> Result<()> {
        match self {
            // One call: another process that appends to the same file must not write between the pieces.
            Plain::Standard(out) => {
                write_all(out, &Disk::default(), pieces, usize::MAX).map_err(|error| Error::io("stdout", &error))
            }
            Plain::Part { part, .. } => {
                let written = write_all(&mut part.file, &part.disk, pieces, CALL_BYTES);
                written.map_err(|error| Error::io(part.path.display().to_string(), &error))
            }
            Plain::Appended { file, disk, path, header, .. } => {
                append_locked(file, disk, &path.display().to_string(), header, pieces)
            }
        }
    }

    /// Syncs a file that is appended to; does nothing for other outputs.
    pub fn settle(&mut self) -> Result<()> {
        match self {
            Plain::Appended { file, disk, path, .. } if is_regular(path) => disk
                .check()
                .and_then(|()| file.sync_data())
                .map_err(|error| Error::io(path.display().to_string(), &error)),
            _ => Ok(()),
        }
    }

    /// Syncs the file and renames a part to its final path. Keeps the part if the source was stopped and the file exists.
    pub fn finish(self, how: How) -> Result<Ended> {
        let remark = match self {
            Plain::Standard(_) => return Ok(Ended::default()),
            Plain::Appended { mut file, disk, path, length, mut header } => {
                if is_regular(&path) {
                    // If no rows were written, the file gets its header now.
                    append_locked(&mut file, &disk, &path.display().to_string(), &mut header, &[])?;
                    disk.check()
                        .and_then(|()| file.sync_data())
                        .map_err(|error| Error::io(path.display().to_string(), &error))?;
                }
                if length > 0 { "appended" } else { "new" }
            }
            Plain::Part { part, .. } if how == How::Stopped && part.path.exists() => return part.keep(),
            Plain::Part { part, existed } => {
                part.name()?;
                if existed { "replaced" } else { "new" }
            }
        };
        Ok(Ended { remark: Some(remark.to_owned()), notice: None })
    }
}

/// The result of a file.
#[derive(Default)]
pub struct Ended {
    /// A remark for the summary: `appended`, `new`, `replaced` or `not replaced`.
    pub remark: Option<String>,
    /// A message that is printed even without a summary.
    pub notice: Option<Notice>,
}

/// Whether an output writes to the file itself instead of a part: it appends, or the file is a device or FIFO.
pub fn is_appended(path: &Path, format: &Format, overwrite: bool) -> bool {
    format.appendable && !overwrite || !is_regular(path)
}

/// Whether the file exists and will be replaced. Errors: exit status 2 if it exists and must not be replaced.
fn is_replaced(path: &Path, overwrite: bool) -> Result<bool> {
    match (path.exists(), overwrite) {
        (true, false) => Err(Error::usage(format!("{}: already exists; --overwrite replaces it", path.display()))),
        (existed, _) => Ok(existed),
    }
}

fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

/// Creates `NAME.part`, or empties one that a killed run left. Errors: exit status 75 if another run is writing it.
fn create_part(path: PathBuf, disk: Disk) -> Result<PartFile> {
    let part = part_of(&path);
    let shown = path.display();
    let failed = |error: std::io::Error| Error::io(shown.to_string(), &error);
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&part).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) | Err(Errno::NOTSUP | Errno::INVAL) => {}
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => {
                let message = format!("{shown}: another run is writing it ({})", part.display());
                return Err(Error::new(ErrorKind::Fenced, message));
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        // Between open and lock, another run may have renamed or deleted this file.
        if is_same(&file, &part) {
            file.set_len(0).map_err(failed)?;
            return Ok(PartFile { file, disk, path, kept: false });
        }
    }
}

/// Whether `path` still names the open `file`.
fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(mine), Ok(now)) => (mine.dev(), mine.ino()) == (now.dev(), now.ino()),
        _ => false,
    }
}

/// Whether `path` is no device, FIFO or socket, which are written to and never replaced. True if nothing exists there.
fn is_regular(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |metadata| metadata.is_file() || metadata.is_dir())
}

/// Opens a device or a FIFO for writing. Polls until a FIFO has a reader, because a blocking `open` would ignore the stop signal.
fn open_special(path: &Path, run: &Run) -> Result<File> {
    let failed = |error: std::io::Error| Error::io(path.display().to_string(), &error);
    let is_fifo = std::fs::metadata(path).map_err(failed)?.file_type().is_fifo();
    loop {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        match OpenOptions::new().write(true).custom_flags(if is_fifo { flags } else { 0 }).open(path) {
            Err(error) if is_fifo && Errno::from_io_error(&error) == Some(Errno::NXIO) => {
                if run.stop.sleep(TRY_EVERY)? == Woken::Stopped {
                    let message = format!("{}: stopped before a reader opened it", path.display());
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            }
            opened => {
                let file = opened.map_err(failed)?;
                let flags = fcntl_getfl(&file).map_err(|errno| failed(errno.into()))?;
                fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(|errno| failed(errno.into()))?;
                return Ok(file);
            }
        }
    }
}

/// Maximum bytes of one write call to a part or a locked file. The page cache allocates pages of the size of the call, and large
/// pages are expensive to allocate. System CPU seconds per million records of evt-validate: 0.63 with calls of 128 KiB and 0.72 with
/// 1 MiB; in another measurement 0.41 with 64 KiB and 0.46 with 128 KiB; 0.79 with 8 KiB.
const CALL_BYTES: usize = 64 << 10;

/// Writes all pieces, in calls of at most `call_bytes` bytes.
fn write_all(out: &mut impl Write, disk: &Disk, pieces: &[&[u8]], call_bytes: usize) -> std::io::Result<()> {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    if let Some(torn) = disk.begin(length) {
        out.write_all(&pieces.concat()[..torn])?;
        return Err(std::io::ErrorKind::StorageFull.into());
    }
    let mut slices: Vec<IoSlice<'_>> =
        pieces.iter().flat_map(|piece| piece.chunks(call_bytes)).map(IoSlice::new).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let mut bytes = 0usize;
        let fits = |slice: &&IoSlice<'_>| {
            bytes = bytes.saturating_add(slice.len());
            bytes <= call_bytes
        };
        let count = rest.iter().take_while(fits).count();
        match out.write_vectored(&rest[..count]) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends the pieces under one lock. Writes `header` before them if the file is empty, and empties `header`. If the write fails,
/// truncates the file to its length before, so that no incomplete line remains. Errors: exit status 2 if the file has another
/// header.
fn append_locked(file: &mut File, disk: &Disk, shown: &str, header: &mut Vec<u8>, pieces: &[&[u8]]) -> Result<()> {
    if header.is_empty() && pieces.iter().all(|piece| piece.is_empty()) {
        return Ok(());
    }
    lock(file, shown)?;
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    let header = std::mem::take(header);
    let is_first = length == Some(0);
    if !is_first && length.is_some() && !begins_with(file, &header).map_err(|error| Error::io(shown, &error))? {
        // Another run has written its header since `Plain::begin`.
        unlock(file);
        return Err(other_columns(shown));
    }
    let header = if is_first { &header[..] } else { &[] };
    let written = write_all(file, disk, &[&[header], pieces].concat(), CALL_BYTES);
    if let (Err(_), Some(length)) = (&written, length) {
        // The write's own error is the one to report.
        let _ = file.set_len(length);
    }
    unlock(file);
    written.map_err(|error| Error::io(shown, &error))
}

fn lock(file: &File, shown: &str) -> Result<()> {
    match flock(file, FlockOperation::LockExclusive) {
        Ok(()) | Err(Errno::NOTSUP | Errno::INVAL) => Ok(()),
        Err(Errno::INTR) => lock(file, shown),
        Err(errno) => Err(Error::new(ErrorKind::Io, format!("{shown}: cannot be locked")).because(errno)),
    }
}

fn unlock(file: &File) {
    // Closing the file would release the lock as well.
    let _ = flock(file, FlockOperation::Unlock);
}

/// Whether a file begins with `header`.
fn begins_with(file: &File, header: &[u8]) -> std::io::Result<bool> {
    let mut found = vec![0; header.len()];
    match file.read_exact_at(&mut found, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| found == header),
    }
}

#[cold]
fn other_columns(shown: &str) -> Error {
    Error::usage(format!("{shown}: the header has other columns than these rows; use another file or --overwrite"))
}

/// What a file that is appended to had after its last complete line.
enum Tail {
    /// Not examined: the file has another header and was not changed.
    Foreign,
    /// Nothing: it ends with a newline, or is empty.
    Whole,
    /// A complete JSON object without a newline, which was added.
    Ended,
    /// This many bytes of an incomplete line of a killed writer, which were removed.
    Cut(u64),
}

/// Repairs the end of a file whose records are lines. Returns what followed the last newline, and the file's new length.
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

/// Repairs the end of a file whose records may hold line breaks within quotes (CSV). A newline ends a record if the number of quotes
/// before it is even, because evt writes quotes only in pairs. Returns what followed the last record, and the file's new length.
fn mend_last_record(file: &mut File, header: &[u8]) -> std::io::Result<(Tail, u64)> {
    let length = file.metadata()?.len();
    let mut head = vec![0; header.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut head, 0)?;
    if !header.starts_with(&head) {
        return Ok((Tail::Foreign, length));
    }
    let (mut whole, mut is_quoted, mut start) = (0, false, 0);
    let mut buffer = vec![0; 64 << 10];
    while start < length {
        let count = file.read_at(&mut buffer, start)?;
        if count == 0 {
            break;
        }
        for at in memchr::memchr2_iter(b'"', b'\n', &buffer[..count]) {
            match buffer[at] {
                b'"' => is_quoted = !is_quoted,
                _ if !is_quoted => whole = start + at as u64 + 1,
                _ => {}
            }
        }
        start += count as u64;
    }
    if whole == length {
        return Ok((Tail::Whole, length));
    }
    file.set_len(whole)?;
    Ok((Tail::Cut(length - whole), whole))
}

/// The longest incomplete last line that is parsed; a longer one is removed unparsed.
const LINE_MAX: u64 = 64 << 20;

/// Whether the bytes from `start` to `end` are one JSON object.
fn is_object(file: &mut File, start: u64, end: u64) -> std::io::Result<bool> {
    let mut line = vec![0; (end - start) as usize];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut line)?;
    Ok(std::str::from_utf8(&line).is_ok_and(|line| line.starts_with('{') && crate::json::scan::is_json(line)))
}

/// Returns the length of the file up to and including its last newline.
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
