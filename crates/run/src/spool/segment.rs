//! A segment: one file of the spool, a header and entries.
//!
//! ```text
//! NNNNNNNNNNNNNNNNNNNN.log:  "evtspool" | seed u64 | first i64 | check u64 | entry…
//! ```
//!
//! Its name is the offset of its first record. It ends where the next segment begins: bytes after the last entry before
//! that offset are the remains of a failed write.

use super::entry::{self, EntrySpan};
use super::request::Entry;
use crate::storage::disk::failed;
use bytes::{Buf, Bytes};
use evt_core::error::{Error, Result};
use evt_core::parse::bytes::Cursor;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the header.
pub const HEADER: u64 = 32;
const MAGIC: [u8; 8] = *b"evtspool";
/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

/// The position of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentOffset {
    /// The first offset of its segment.
    pub segment: i64,
    /// The byte in it at which the entry begins.
    pub byte: u64,
}

/// Returns the path of the segment whose first record has this offset.
pub fn path(dir: &Path, first: i64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// Returns the first offset of a segment from its file name; `None` of another file.
pub fn first_of(path: &Path) -> Option<i64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
    (name.len() == 20).then(|| name.parse().ok()).flatten()
}

/// Returns the first offsets of the segments of a directory, in order.
pub fn found(dir: &Path) -> Result<Vec<i64>> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        found.extend(first_of(&entry.map_err(failed(dir))?.path()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes the error of a damaged segment.
#[cold]
pub fn damage(path: &Path, byte: u64, what: impl Into<String>) -> Error {
    Error::corrupt(what).at(format!("{}: byte {byte}", path.display()))
}

/// An append-only file; tests replace it by faulty ones.
pub trait SegmentFile: Send {
    /// Appends all of `bytes`.
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()>;
    /// Makes all written bytes durable.
    fn sync(&mut self) -> std::io::Result<()>;
    /// Truncates the file to this many bytes.
    fn truncate(&mut self, length: u64) -> std::io::Result<()>;
}

impl SegmentFile for File {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, length: u64) -> std::io::Result<()> {
        self.set_len(length)?;
        self.seek(SeekFrom::Start(length)).map(|_| ())
    }
}

/// Makes the header of a new segment, with a random seed that clients cannot predict.
pub fn header(first: i64) -> ([u8; HEADER as usize], u64) {
    let seed = RandomState::new().hash_one(0);
    let mut header = [0; HEADER as usize];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&seed.to_le_bytes());
    header[16..24].copy_from_slice(&first.to_le_bytes());
    let check = xxh3_64(&header[..24]);
    header[24..].copy_from_slice(&check.to_le_bytes());
    (header, seed)
}

/// Returns the seed and the first offset in a header; `None` if it is damaged.
fn read_header(header: &[u8; HEADER as usize]) -> Option<(u64, i64)> {
    let mut fields = Cursor::new(header);
    let (magic, seed, first, check) = (fields.array::<8>()?, fields.le()?, fields.le()?, fields.le::<u64>()?);
    (magic == MAGIC && check == xxh3_64(&header[..24])).then_some((seed, first))
}

/// A segment being read.
pub struct SegmentReader {
    file: File,
    path: PathBuf,
    /// The seed of its entries.
    pub seed: u64,
    /// The offset of its first record.
    pub first: i64,
    /// Bytes of the file that were read and belong to no entry yet. Entries share their memory.
    buffer: Bytes,
    /// The byte in the file at which `buffer` begins.
    at: u64,
}

/// The next item of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// An entry.
    Entry(Entry),
    /// Nothing up to the limit.
    Nothing,
    /// Bytes that are not an entry; they are not consumed.
    Damaged,
}

impl SegmentReader {
    /// Opens a segment; `None` if its header is damaged.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let mut file = File::open(path).map_err(failed(path))?;
        let mut header = [0; HEADER as usize];
        match file.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(failed(path)(error)),
        }
        let Some((seed, first)) = read_header(&header) else { return Ok(None) };
        Ok(Some(Self { file, path: path.to_owned(), seed, first, buffer: Bytes::new(), at: HEADER }))
    }

    /// Moves the position of the next read to `byte`.
    pub fn seek(&mut self, byte: u64) -> Result<()> {
        (self.buffer, self.at) = (Bytes::new(), byte);
        self.file.seek(SeekFrom::Start(byte)).map_err(failed(&self.path)).map(|_| ())
    }

    /// Returns the byte that is read next.
    pub fn byte(&self) -> u64 {
        self.at
    }

    /// Reads the next entry, which must end at or before byte `limit`.
    pub fn next(&mut self, limit: u64) -> Result<Next> {
        loop {
            let have = self.buffer.len();
            let left = usize::try_from(limit.saturating_sub(self.at)).unwrap_or(usize::MAX);
            match entry::span(&self.buffer) {
                _ if left == 0 => return Ok(Next::Nothing),
                EntrySpan::Damaged => return Ok(Next::Damaged),
                EntrySpan::Entry(length) if length > left => return Ok(Next::Damaged),
                EntrySpan::Entry(length) if length <= have => {
                    let Some(entry) = entry::read(&self.buffer, self.seed) else { return Ok(Next::Damaged) };
                    self.buffer.advance(length);
                    self.at += length as u64;
                    return Ok(Next::Entry(entry));
                }
                EntrySpan::Short if have >= left => return Ok(Next::Damaged),
                EntrySpan::Entry(length) => self.fill(length.max(READ_BYTES).min(left))?,
                EntrySpan::Short => self.fill(READ_BYTES.min(left))?,
            }
            if self.buffer.len() == have {
                // The file is shorter than `limit`.
                return Ok(Next::Damaged);
            }
        }
    }

    /// Reads until `wanted` bytes are in the buffer, or the file ends; no more, because bytes after the limit may be
    /// truncated and written again.
    fn fill(&mut self, wanted: usize) -> Result<()> {
        // The memory is used again unless an entry still shares it.
        let mut bytes = Vec::from(std::mem::take(&mut self.buffer));
        let missing = wanted.saturating_sub(bytes.len());
        bytes.reserve(missing);
        let read = (&self.file).take(missing as u64).read_to_end(&mut bytes);
        self.buffer = Bytes::from(bytes);
        read.map(|_| ()).map_err(failed(&self.path))
    }

    /// Whether damage at byte `damaged` is more than a torn write: a whole entry follows that was written when the byte
    /// `damaged` was already durable. Also true if the search gives up, because too many bytes look like such entries.
    pub fn is_damage(&mut self, damaged: u64) -> Result<bool> {
        self.seek(damaged)?;
        let mut rest = vec![];
        self.file.read_to_end(&mut rest).map_err(failed(&self.path))?;
        Ok(LaterEntry { damaged, seed: self.seed, hashed: 0 }.is_in(&Bytes::from(rest)))
    }
}

/// Maximum number of bytes that the search for a later entry hashes, for each byte after the damage. Entries do not
/// overlap, so one is enough for a file without forged marks. Clients choose the bytes of records, and marks in these
/// bytes would otherwise make the time quadratic.
const HASHED_MAX: usize = 4;

/// The search for an entry that was written when the bytes up to some damage were already durable.
struct LaterEntry {
    /// The byte at which the damage begins.
    damaged: u64,
    /// The seed of the segment.
    seed: u64,
    /// Bytes hashed so far.
    hashed: usize,
}

impl LaterEntry {
    /// Whether such an entry is in `rest`, the bytes of the file from the damage on. Also true after [`HASHED_MAX`]
    /// bytes hashed for each byte of `rest`.
    fn is_in(&mut self, rest: &Bytes) -> bool {
        memchr::memmem::find_iter(rest, &entry::MARK).any(|at| {
            let bytes = rest.slice(at..);
            let EntrySpan::Entry(length) = entry::span(&bytes) else { return false };
            // `safe` of a real entry is after the damage and at most the byte at which the entry begins.
            let durable = self.damaged + 1..=self.damaged + at as u64;
            if length > bytes.len() || entry::safe(&bytes).is_none_or(|safe| !durable.contains(&safe)) {
                return false;
            }
            self.hashed += length;
            self.hashed > rest.len().saturating_mul(HASHED_MAX) || entry::read(&bytes, self.seed).is_some()
        })
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
