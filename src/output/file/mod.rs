//! Bytes to standard output, to a file that is appended to, or to `NAME.part`, which is renamed at the end.
//!
//! ```text
//! bytes ─┬─► standard output
//!        ├─► text file: truncate an incomplete last line ─► append each batch under one lock
//!        ├─► object: temporary file ─► written as a whole at the proven end
//!        └─► other file: NAME.part ─► sync ─► rename to NAME at the proven end
//! ```
//!
//! A run that fails removes its part. A run that is stopped never replaces a file.
//!
//! Writers lock a file with `flock`: for one batch if they append, for the whole run if they write a part. `once.rs`
//! appends the batches of a ledger, each exactly once, with intents (`intent.rs`). `records.rs` finds the ends of
//! records, and `pack.rs` compresses files by their names, `behind.rs` writes parts in tasks, and `pieces.rs` writes
//! pieces of bytes in calls. `replace.rs`: whether a file is replaced, and what became of it; `object.rs`: an object of
//! a bucket. `in_use.rs` finds files that other stages of a pipe write.

use arrow::buffer::Buffer;
use evt_core::counts::counted;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::format::Format;
use evt_core::frame::EndReason;
use evt_run::console::Console;
use evt_run::run::Run;
use evt_run::stop::Woken;
use evt_run::storage::access;
use evt_run::storage::disk::{Disk, DiskFile, LOCK_WAIT, failed, lock_within};
use evt_store::Notice;
use rustix::fs::{FlockOperation, OFlags, fcntl_getfl, fcntl_setfl, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod behind;
mod in_use;
mod intent;
pub mod object;
pub mod once;
mod pack;
mod pieces;
pub mod records;
mod replace;

use behind::WriteBehind;
use object::ObjectPart;
use pack::{Packer, is_packed};
use pieces::{CALL_BYTES, write_all};
pub use replace::{Ended, Overwrite};

/// Interval between two attempts to open a FIFO that has no reader.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// The destination of an output's bytes.
pub enum Plain {
    /// Standard output.
    Standard(Box<dyn Write>),
    /// A file that is appended to, a batch under one lock; or a device or FIFO.
    Appended {
        /// The open file.
        file: DiskFile,
        /// Its path.
        path: PathBuf,
        /// Bytes it had after [`Plain::begin`] repaired its end; 0 before.
        length: u64,
        /// The header; the first write puts it before its rows if the file is empty. Empty after that write.
        header: Vec<u8>,
        /// Whether the user may replace it.
        overwrite: Overwrite,
    },
    /// A file that is written as `NAME.part` until the end.
    Part {
        /// The open part.
        part: PartFile,
        /// Whether an existing file `NAME` will be replaced.
        existed: bool,
        /// Writes it.
        writer: Box<WriteBehind>,
    },
    /// An object that is written at the end.
    Object(ObjectPart),
}

/// An open `NAME.part`. It is locked, so that a second run cannot write it too, and deleted on drop unless it is kept.
pub struct PartFile {
    file: DiskFile,
    /// The final path, `NAME`.
    path: PathBuf,
    /// Whether the file remains on drop, renamed or as `NAME.part`.
    kept: bool,
}

impl Drop for PartFile {
    fn drop(&mut self) {
        let part = part_of(&self.path);
        if !self.kept && is_same(&self.file.file, &part) {
            // The run reports the error that ended it. The next run overwrites a part that remains.
            let _ = self.file.disk.free(|| std::fs::remove_file(part));
        }
    }
}

impl PartFile {
    /// Returns another handle of the file, with the same position.
    fn another_handle(&self) -> Result<DiskFile> {
        let file = self.file.file.try_clone().map_err(failed(&self.path))?;
        Ok(self.file.disk.file(file))
    }

    /// Syncs the part and renames it to its final path.
    fn name(mut self) -> Result<()> {
        let disk = &self.file.disk;
        let renamed = self.file.sync().and_then(|()| disk.change(|| std::fs::rename(part_of(&self.path), &self.path)));
        renamed.and_then(|()| disk.sync_name(&self.path)).map_err(failed(&self.path))?;
        self.kept = true;
        Ok(())
    }

    /// Syncs the part and leaves it as `NAME.part`; the existing file is not replaced.
    fn keep(mut self) -> Result<Ended> {
        let part = part_of(&self.path);
        self.file.sync().and_then(|()| self.file.disk.sync_name(&part)).map_err(failed(&part))?;
        self.kept = true;
        let text = format!("stopped before the end of the input: not replaced, rows so far in {}", part.display());
        Ok(Ended { remark: Some("not replaced".to_owned()), notice: Some(Notice { text, fails: true }) })
    }
}

impl Plain {
    /// Checks that a file of `format` could be written at `path`; changes nothing. Errors: exit status 2 if the file
    /// exists and must not be replaced.
    pub fn check(path: &Path, format: &Format, overwrite: Overwrite) -> Result<()> {
        access::check_file(path).map_err(failed(path))?;
        if is_appended(path, format, overwrite.is_on()) {
            return Ok(());
        }
        // A rename replaces the file, so its directory must be writable.
        access::check_existing_directory(access::parent(path)).map_err(failed(path))?;
        is_replaced(path, overwrite).map(|_| ())
    }

    /// Opens a file of `format` at `path`. Errors: exit status 2 if it exists and must not be replaced, 75 if another
    /// run is writing its part.
    pub fn create(path: PathBuf, format: &Format, overwrite: Overwrite, disk: &Disk, run: &Run) -> Result<Self> {
        if !is_regular(&path) {
            let file = disk.file(open_special(&path, run)?);
            return Ok(Plain::Appended { file, path, length: 0, header: vec![], overwrite });
        }
        if is_appended(&path, format, overwrite.is_on()) {
            let file =
                disk.open(&path, OpenOptions::new().read(true).append(true).create(true)).map_err(failed(&path))?;
            if file.file.metadata().map_err(failed(&path))?.len() == 0 {
                // Before any row is written. Another run may have created the file and not synced its name yet.
                disk.sync_name(&path).map_err(failed(&path))?;
            }
            return Ok(Plain::Appended { file, path, length: 0, header: vec![], overwrite });
        }
        let part = create_part(path, disk)?;
        // Checked again: another run may have created the file since `Plain::check`.
        let existed = is_replaced(&part.path, overwrite)?;
        let packer = Packer::of(&part.path).map_err(failed(&part.path))?;
        let writer = Box::new(WriteBehind::new(part.another_handle()?, part.path.clone(), packer, &run.pool));
        Ok(Plain::Part { part, existed, writer })
    }

    /// Repairs the end of a file that is appended to, and stores the header that `bytes` returns. The first write
    /// writes the header if it finds the file empty under the lock, because other runs may append to it too. Returns
    /// false if the encoder has to write the header: no other run writes this output. Errors: exit status 2 if the file
    /// has another header.
    pub fn begin(&mut self, bytes: impl FnOnce() -> Result<Vec<u8>>, is_json: bool, console: &Console) -> Result<bool> {
        let Plain::Appended { file, path, length, header, overwrite } = self else { return Ok(false) };
        if !is_regular(path) {
            return Ok(false);
        }
        *header = bytes()?;
        lock(&file.file, path)?;
        let mended = if header.is_empty() { mend_last_line(file, is_json) } else { mend_last_record(file, header) };
        unlock(&file.file);
        let (tail, whole) = mended.map_err(failed(path))?;
        *length = whole;
        let shown = path.display();
        match tail {
            FileTail::Whole => {}
            FileTail::Ended => console.say(format!("{shown}: the last line had no line end and now has one")),
            FileTail::Cut(bytes) => {
                let bytes = counted(bytes, ["byte", "bytes"]);
                console.say(format!("{shown}: removed {bytes} of a torn last line"));
            }
            FileTail::Foreign => return Err(other_columns(path, *overwrite)),
        }
        Ok(true)
    }

    /// Returns its name for messages.
    pub fn name(&self) -> String {
        match self {
            Plain::Standard(_) => "stdout".to_owned(),
            Plain::Appended { path, .. } => path.display().to_string(),
            Plain::Part { part, .. } => part.path.display().to_string(),
            Plain::Object(part) => part.name(),
        }
    }

    /// Writes the pieces under one lock.
    pub fn write_pieces(&mut self, pieces: Vec<Buffer>) -> Result<()> {
        match self {
            Plain::Part { writer, .. } | Plain::Object(ObjectPart { writer, .. }) => writer.write_buffers(pieces),
            _ => self.write(&pieces.iter().map(Buffer::as_slice).collect::<Vec<_>>()),
        }
    }

    /// Writes the pieces under one lock.
    pub fn write(&mut self, pieces: &[&[u8]]) -> Result<()> {
        match self {
            // One call: another process that appends to the same file must not write between the pieces.
            Plain::Standard(out) => write_all(out, pieces, usize::MAX).map_err(unread),
            Plain::Part { writer, .. } | Plain::Object(ObjectPart { writer, .. }) => writer.write(pieces),
            Plain::Appended { file, path, header, overwrite, .. } => match append_locked(file, path, header, pieces)? {
                true => Ok(()),
                false => Err(other_columns(path, *overwrite)),
            },
        }
    }

    /// Lets the bytes so far be written, because none come for now.
    pub fn flush(&mut self) -> Result<()> {
        match self {
            Plain::Part { writer, .. } | Plain::Object(ObjectPart { writer, .. }) => writer.flush(),
            _ => Ok(()),
        }
    }

    /// Syncs a file that is appended to; does nothing for other outputs.
    pub fn settle(&mut self) -> Result<()> {
        match self {
            Plain::Appended { file, path, .. } if is_regular(path) => file.sync_data().map_err(failed(path)),
            _ => Ok(()),
        }
    }

    /// Syncs the file and renames a part to its final path. Keeps the part if the source was stopped and the file
    /// exists.
    pub fn finish(mut self, how: EndReason) -> Result<Ended> {
        // If no rows were written, a file that is appended to gets its header now.
        self.write(&[])?;
        self.settle()?;
        let remark = match self {
            Plain::Standard(_) => return Ok(Ended::default()),
            Plain::Object(part) => return part.finish(how),
            Plain::Appended { length, .. } => {
                if length > 0 {
                    "appended"
                } else {
                    "new"
                }
            }
            Plain::Part { part, existed, writer } => {
                writer.finish()?;
                if how == EndReason::Stopped && part.path.exists() {
                    return part.keep();
                }
                part.name()?;
                if existed { "replaced" } else { "new" }
            }
        };
        Ok(Ended { remark: Some(remark.to_owned()), notice: None })
    }
}

/// Whether an output writes to the file itself instead of a part: it appends, or the file is a device or FIFO. A
/// compressed file is never appended to.
pub fn is_appended(path: &Path, format: &Format, overwrite: bool) -> bool {
    format.appendable && !overwrite && !is_packed(path) || !is_regular(path)
}

/// Checks that a run which would write all rows again finds no rows in the file, unless another stage is writing it.
/// Errors: exit status 2 if it does.
pub fn check_empty(path: &Path) -> Result<()> {
    let has_rows = std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0);
    match has_rows && !in_use::is_written_beside(path) {
        true => Err(Error::usage(format!(
            "{}: not empty; --append adds the rows of this run to it, --overwrite replaces it",
            path.display()
        ))),
        false => Ok(()),
    }
}

/// Whether the file exists and will be replaced. Errors: exit status 2 if it exists and must not be replaced.
fn is_replaced(path: &Path, overwrite: Overwrite) -> Result<bool> {
    let advice = match overwrite {
        Overwrite::Off | Overwrite::Undecided => "--overwrite replaces it",
        Overwrite::Append => "--append adds rows to text only, such as JSON lines and CSV; --overwrite replaces it",
        Overwrite::Unsupported => "use another file",
        Overwrite::On => return Ok(path.exists()),
    };
    match path.exists() {
        true => Err(Error::usage(format!("{}: already exists; {advice}", path.display()))),
        false => Ok(false),
    }
}

/// Makes the error of standard output. The error of a reader that reads nothing has exit status 69, as that of an
/// unavailable server.
pub(super) fn unread(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::TimedOut => Error::unavailable("stdout: the reader has read nothing for 30 s"),
        _ => Error::io("stdout", &error),
    }
}

fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

/// Creates `NAME.part`, or empties one that a killed run left. Errors: exit status 75 if another run is writing it.
fn create_part(path: PathBuf, disk: &Disk) -> Result<PartFile> {
    let part = part_of(&path);
    loop {
        let file =
            disk.open(&part, OpenOptions::new().write(true).create(true).truncate(false)).map_err(failed(&path))?;
        match flock(&file.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) | Err(Errno::NOTSUP | Errno::INVAL) => {}
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => {
                let message = format!("{}: another run is writing it ({})", path.display(), part.display());
                return Err(Error::new(ErrorKind::InUse, message));
            }
            Err(errno) => return Err(failed(&path)(errno.into())),
        }
        // Between open and lock, another run may have renamed or deleted this file.
        if is_same(&file.file, &part) {
            file.truncate(0).map_err(failed(&path))?;
            return Ok(PartFile { file, path, kept: false });
        }
    }
}

/// Whether `path` still names the open `file`.
pub(super) fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(mine), Ok(now)) => (mine.dev(), mine.ino()) == (now.dev(), now.ino()),
        _ => false,
    }
}

/// Whether `path` is not a device, FIFO or socket, which are written to and never replaced. True if nothing exists
/// there.
pub fn is_regular(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |metadata| metadata.is_file() || metadata.is_dir())
}

/// Opens a device or a FIFO for writing. Polls until a FIFO has a reader, because a blocking `open` would ignore the
/// stop signal.
fn open_special(path: &Path, run: &Run) -> Result<File> {
    let failed = failed(path);
    let is_fifo = std::fs::metadata(path).map_err(&failed)?.file_type().is_fifo();
    loop {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        match OpenOptions::new().write(true).custom_flags(if is_fifo { flags } else { 0 }).open(path) {
            Err(error) if is_fifo && Errno::from_io_error(&error) == Some(Errno::NXIO) => {
                if run.stop.sleep(TRY_EVERY)? == Woken::Stopped {
                    let message = format!("{}: stopped before a reader opened it", path.display());
                    return Err(Error::unavailable(message));
                }
            }
            opened => {
                let file = opened.map_err(&failed)?;
                let flags = fcntl_getfl(&file).map_err(|errno| failed(errno.into()))?;
                fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(|errno| failed(errno.into()))?;
                return Ok(file);
            }
        }
    }
}

/// Appends the pieces under one lock. Writes `header` before them if the file is empty, and empties `header`. If the
/// write fails, truncates the file to its length before, so that no incomplete line remains. Returns false if the file
/// has another header.
fn append_locked(file: &mut DiskFile, path: &Path, header: &mut Vec<u8>, pieces: &[&[u8]]) -> Result<bool> {
    if header.is_empty() && pieces.iter().all(|piece| piece.is_empty()) {
        return Ok(true);
    }
    lock(&file.file, path)?;
    let length = file.file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    let header = std::mem::take(header);
    let is_first = length == Some(0);
    if !is_first && length.is_some() && !begins_with(&file.file, &header).map_err(failed(path))? {
        // Another run has written its header since `Plain::begin`.
        unlock(&file.file);
        return Ok(false);
    }
    let header = if is_first { &header[..] } else { &[] };
    let written = write_all(file, &[&[header], pieces].concat(), CALL_BYTES);
    if let (Err(_), Some(length)) = (&written, length) {
        // Report the error of the write, not that of the truncation.
        let _ = file.truncate(length);
    }
    unlock(&file.file);
    written.map(|()| true).map_err(failed(path))
}

/// Waits for the lock of a file that several processes append to. A file system without locks has one writer. Errors:
/// exit status 75 if another process keeps the lock for a minute: it is stopped, or hangs.
fn lock(file: &File, path: &Path) -> Result<()> {
    match lock_within(file, LOCK_WAIT) {
        Err(Errno::NOTSUP | Errno::INVAL) => Ok(()),
        locked => check_locked(locked, path),
    }
}

/// Checks that the lock of a file was obtained. Errors: exit status 75 if another process keeps it, 74 if it cannot be
/// locked.
fn check_locked(locked: Result<bool, Errno>, path: &Path) -> Result<()> {
    let path = path.display();
    match locked {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::busy(format!("{path}: another process has kept the lock for a minute"))),
        Err(errno) => Err(Error::failed(format!("{path}: cannot be locked")).because(errno)),
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
fn other_columns(path: &Path, overwrite: Overwrite) -> Error {
    let flag = if overwrite == Overwrite::Unsupported { "" } else { " or --overwrite" };
    let why = format!("the header has other columns than these rows; use another file{flag}");
    Error::usage(format!("{}: {why}", path.display()))
}

/// The bytes after the last complete line of a file that is appended to, before they were repaired.
enum FileTail {
    /// Not examined: the file has another header and was not changed.
    Foreign,
    /// Nothing: it ends with a newline, or is empty.
    Whole,
    /// A complete JSON object without a newline, which was added.
    Ended,
    /// This many bytes of an incomplete line, which were removed: its writer was killed, or the power failed.
    Cut(u64),
}

/// Repairs the end of a file whose records are lines. Returns what followed the last newline, and the file's new
/// length.
fn mend_last_line(file: &mut DiskFile, is_json: bool) -> std::io::Result<(FileTail, u64)> {
    let length = file.file.metadata()?.len();
    let whole = whole_lines(&file.file, length)?;
    if whole == length {
        return Ok((FileTail::Whole, length));
    }
    if is_json && length - whole <= LINE_MAX && is_object(&file.file, whole, length)? {
        file.write_all(b"\n")?;
        return Ok((FileTail::Ended, length + 1));
    }
    file.truncate(whole)?;
    Ok((FileTail::Cut(length - whole), whole))
}

/// Repairs the end of a file whose records may hold line breaks within quotes (CSV). A newline ends a record if the
/// number of quotes before it is even, because evt writes quotes only in pairs. Returns what followed the last record,
/// and the file's new length.
fn mend_last_record(file: &DiskFile, header: &[u8]) -> std::io::Result<(FileTail, u64)> {
    let length = file.file.metadata()?.len();
    let mut head = vec![0; header.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
    file.file.read_exact_at(&mut head, 0)?;
    // After a power failure a file that grew may end with zeros.
    let text = head.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    if !header.starts_with(&head[..text]) || text < head.len() && !is_zero(&file.file, text as u64, length)? {
        return Ok((FileTail::Foreign, length));
    }
    let (mut whole, mut is_quoted, mut start) = (0, false, 0);
    let mut buffer = vec![0; 64 << 10];
    while start < length {
        let count = file.file.read_at(&mut buffer, start)?;
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
        return Ok((FileTail::Whole, length));
    }
    file.truncate(whole)?;
    Ok((FileTail::Cut(length - whole), whole))
}

/// Whether the bytes from `start` to `end` are zeros.
fn is_zero(file: &File, mut start: u64, end: u64) -> std::io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    while start < end {
        let piece = &mut buffer[..(end - start).min(64 << 10) as usize];
        file.read_exact_at(piece, start)?;
        if piece.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        start += piece.len() as u64;
    }
    Ok(true)
}

/// The longest incomplete last line that is parsed; a longer one is removed unparsed.
const LINE_MAX: u64 = 64 << 20;

/// Whether the bytes from `start` to `end` are one JSON object.
fn is_object(file: &File, start: u64, end: u64) -> std::io::Result<bool> {
    let mut line = vec![0; (end - start) as usize];
    file.read_exact_at(&mut line, start)?;
    Ok(std::str::from_utf8(&line).is_ok_and(|line| line.starts_with('{') && evt_core::json::scan::is_json(line)))
}

/// Returns the length of the file up to and including its last newline.
pub(super) fn whole_lines(file: &File, length: u64) -> std::io::Result<u64> {
    let mut end = length;
    let mut buffer = vec![0; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let piece = &mut buffer[..(end - start) as usize];
        file.read_exact_at(piece, start)?;
        if let Some(at) = memchr::memrchr(b'\n', piece) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
