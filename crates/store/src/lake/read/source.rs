//! Where the bytes of a file of rows are: on this machine, or in a bucket.
//!
//! Of an object the end is read, which has the footer of most files and all of a small one, then of each row group the
//! columns that are read, by a few requests at once. Memory has one row group of them.

use crate::lake::disk;
use bytes::Bytes;
use evt_core::error::{Error, Result};
use evt_run::bucket::client::{Bucket, ObjectEntry};
use evt_run::storage::Objects;
use parquet::arrow::ProjectionMask;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Bytes at the end of an object that are read first.
const TAIL: u64 = 128 << 10;
/// Maximum bytes between two columns that one request reads, too.
const GAP: u64 = 256 << 10;
/// Bytes of a request, unless one column has more.
const PIECE: u64 = 8 << 20;

/// A file of rows.
#[derive(Clone, Debug)]
pub enum RowsFile {
    /// On this machine.
    Disk(PathBuf),
    /// In a bucket.
    Object {
        /// The bucket.
        bucket: Arc<Bucket>,
        /// Its key and size.
        entry: ObjectEntry,
        /// Its name in messages.
        shown: PathBuf,
        /// Its end, once it was read.
        tail: Arc<OnceLock<Bytes>>,
    },
}

impl RowsFile {
    /// Makes the file of an object.
    pub fn object(bucket: Arc<Bucket>, entry: ObjectEntry) -> Self {
        let shown = bucket.name(&entry.key).into();
        Self::Object { bucket, entry, shown, tail: Arc::default() }
    }

    /// Returns its name in messages, which is its path on this machine.
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk(path) | Self::Object { shown: path, .. } => path,
        }
    }

    /// Returns its size. Errors: exit status 74 if it cannot be read.
    pub fn size(&self) -> Result<u64> {
        match self {
            Self::Disk(path) => Ok(std::fs::metadata(path).map_err(disk::failed(path, "cannot read"))?.len()),
            Self::Object { entry, .. } => Ok(entry.size),
        }
    }

    /// Opens it.
    pub fn open(&self) -> Result<RowsBytes> {
        match self {
            Self::Disk(path) => Ok(RowsBytes::Disk(File::open(path).map_err(disk::failed(path, "cannot open"))?)),
            Self::Object { bucket, entry, tail, .. } => Ok(RowsBytes::Object(Arc::new(ObjectBytes {
                bucket: bucket.clone(),
                entry: entry.clone(),
                tail: tail.clone(),
                groups: vec![],
                kept: Mutex::default(),
                fault: Mutex::default(),
            }))),
        }
    }
}

/// The bytes of a file of rows.
pub enum RowsBytes {
    /// On this machine.
    Disk(File),
    /// In a bucket.
    Object(Arc<ObjectBytes>),
}

impl RowsBytes {
    /// Says which columns of which row groups will be read; all without a list.
    pub fn with_plan(
        self,
        footer: &ParquetMetaData,
        groups: Option<&[usize]>,
        columns: Option<&ProjectionMask>,
    ) -> Self {
        let Self::Object(object) = self else { return self };
        let is_read = |at: usize| groups.is_none_or(|groups| groups.contains(&at));
        let plan = footer.row_groups().iter().enumerate().filter(|(at, _)| is_read(*at)).map(|(_, group)| {
            let chunks = group.columns().iter().enumerate();
            let chunks = chunks.filter(|(leaf, _)| columns.is_none_or(|columns| columns.leaf_included(*leaf)));
            let ranges = chunks.map(|(_, chunk)| {
                let (start, length) = chunk.byte_range();
                start..start + length
            });
            joined(ranges.collect())
        });
        let (bucket, entry, tail) = (object.bucket.clone(), object.entry.clone(), object.tail.clone());
        let (kept, fault) = Default::default();
        Self::Object(Arc::new(ObjectBytes { bucket, entry, tail, groups: plan.collect(), kept, fault }))
    }

    /// Returns what knows why reading has failed.
    pub fn faults(&self) -> RowsFaults {
        match self {
            Self::Disk(_) => RowsFaults(None),
            Self::Object(object) => RowsFaults(Some(object.clone())),
        }
    }
}

/// Why reading has failed, which errors of Parquet and Arrow do not say.
#[derive(Default)]
pub struct RowsFaults(Option<Arc<ObjectBytes>>);

impl RowsFaults {
    /// Returns the error of the bucket, if it was one.
    pub fn take(&self) -> Option<Error> {
        self.0.as_ref()?.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Returns ranges, of which near ones are joined, in order.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = vec![];
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + GAP && range.end - last.start <= PIECE => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// The bytes of an object, as far as they were requested.
pub struct ObjectBytes {
    bucket: Arc<Bucket>,
    entry: ObjectEntry,
    tail: Arc<OnceLock<Bytes>>,
    /// The ranges of each row group that is read.
    groups: Vec<Vec<Range<u64>>>,
    /// Ranges by their start.
    kept: Mutex<BTreeMap<u64, Bytes>>,
    fault: Mutex<Option<Error>>,
}

impl ObjectBytes {
    /// Returns at least `least` bytes from `start` on. The error is that of [`RowsFaults::take`].
    fn from(&self, start: u64, least: u64) -> parquet::errors::Result<Bytes> {
        self.requested(start, least).map_err(|error| {
            let shown = ParquetError::General(error.to_string());
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            shown
        })
    }

    fn requested(&self, start: u64, least: u64) -> Result<Bytes> {
        let size = self.entry.size;
        let first = size.saturating_sub(TAIL);
        if start >= first && start + least <= size {
            let tail = match self.tail.get() {
                Some(tail) => tail,
                None => {
                    let read = self.bucket.read(&self.entry, first..size)?;
                    self.tail.get_or_init(|| read.into())
                }
            };
            return Ok(tail.slice(usize::try_from(start - first).unwrap_or(usize::MAX)..));
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = |kept: &BTreeMap<u64, Bytes>| {
            let (first, bytes) = kept.range(..=start).next_back()?;
            let skipped = usize::try_from(start - first).ok()?;
            (skipped as u64 + least <= bytes.len() as u64).then(|| bytes.slice(skipped..))
        };
        if let Some(bytes) = found(&kept) {
            return Ok(bytes);
        }
        let has = |range: &Range<u64>| range.start <= start && start + least <= range.end;
        let group = self.groups.iter().find(|group| group.iter().any(has));
        // Nothing but a footer is read without a plan; this one is long.
        let footer = start..size.max(start + least);
        let wanted = group.map_or(std::slice::from_ref(&footer), Vec::as_slice);
        // What was read before belongs to an earlier row group.
        kept.clear();
        let read = self.bucket.read_ranges(&self.entry, wanted)?;
        kept.extend(wanted.iter().map(|range| range.start).zip(read.into_iter().map(Bytes::from)));
        found(&kept).ok_or_else(|| Error::corrupt("ends early").at(self.bucket.name(&self.entry.key)))
    }
}

impl Length for RowsBytes {
    fn len(&self) -> u64 {
        match self {
            Self::Disk(file) => file.len(),
            Self::Object(object) => object.entry.size,
        }
    }
}

impl ChunkReader for RowsBytes {
    type T = RowsRead;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        match self {
            Self::Disk(file) => file.get_read(start).map(RowsRead::Disk),
            Self::Object(object) => object.from(start, 1).map(|bytes| RowsRead::Object(Cursor::new(bytes))),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        match self {
            Self::Disk(file) => file.get_bytes(start, length),
            Self::Object(object) => object.from(start, length as u64).map(|bytes| bytes.slice(..length)),
        }
    }
}

/// A reader of a file of rows.
pub enum RowsRead {
    /// On this machine.
    Disk(BufReader<File>),
    /// In a bucket.
    Object(Cursor<Bytes>),
}

impl Read for RowsRead {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Disk(file) => file.read(buffer),
            Self::Object(bytes) => bytes.read(buffer),
        }
    }
}
