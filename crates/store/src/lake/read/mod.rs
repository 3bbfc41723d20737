//! Reads a lake back: files in order of day and name, rows in the order they were written. `file.rs` reads one file,
//! whose bytes `source.rs` gets.
//!
//! The reader lists a day when it gets to it, and reads the files from the directory that it listed: a run that
//! replaces the day puts another directory in its place.

pub mod file;
pub mod source;

use self::file::{Reading, bits_of, check_kind, foreign, kind_in, whole_rows};
use crate::lake::directory::{Lake, LakePart, root};
use crate::lake::disk;
use crate::lake::read::source::RowsBytes;
use crate::{ReadRequest, StreamExtent, Tables, or_error, rows};
use arrow::array::{AnyDictionaryArray, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use evt_core::error::{Error, Result};
use evt_core::kind::event::{COLUMNS, column};
use evt_core::kind::span::Span;
use evt_core::kind::{Kind, PartitionName};
use evt_core::time::{DAY, parse_date};
use evt_run::checkpoint::epoch::Batches;
use evt_run::client::Location;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The columns of the extent of a partition.
const ORIGIN: &str = COLUMNS[column::ORIGIN];
const PARTITION: &str = COLUMNS[column::PARTITION];
const OFFSET: &str = COLUMNS[column::OFFSET];
const STREAM_TIME: &str = COLUMNS[column::STREAM_TIME];

/// Returns the table of a lake and the number of rows in its files.
pub fn tables(location: &Location) -> Result<Tables> {
    let root = root(location)?;
    let Some(kind) = kind_of(&root)? else { return empty(&root).map(|()| vec![(Kind::Event.table().to_owned(), 0)]) };
    let mut count = 0;
    for day in disk::days(&root)? {
        count += Day::open(&day)?.rows()?;
    }
    Ok(vec![(kind.table().to_owned(), count)])
}

/// Reads the rows of the files of all days that the span touches. Errors: exit status 2 if they are of another kind.
pub fn read(location: &Location, kind: Kind, request: ReadRequest) -> Result<Batches> {
    let root = root(location)?;
    match kind_of(&root)? {
        Some(found) => check_kind(&root, found, kind)?,
        None => empty(&root)?,
    }
    batches_of_days(&root, kind, request)
}

/// Reads the rows like [`read`]; none if the lake has no files.
pub fn read_if_any(root: &Path, kind: Kind, request: ReadRequest) -> Result<Batches> {
    match kind_of(root)? {
        None => Ok(Box::new(std::iter::empty())),
        Some(found) => {
            check_kind(root, found, kind)?;
            batches_of_days(root, kind, request)
        }
    }
}

fn batches_of_days(root: &Path, kind: Kind, request: ReadRequest) -> Result<Batches> {
    let mut days = disk::day_entries(root)?;
    days.retain(|path| is_in(path, request.span));
    let days = disk::directories(days)?.into_iter();
    Ok(Box::new(days.flat_map(move |path| or_error(Day::open(&path).and_then(|day| day.batches(kind, request))))))
}

/// Returns the start of the day of a directory, if its name has a date.
fn day_start(path: &Path) -> Option<i64> {
    let name = path.file_name().and_then(OsStr::to_str).and_then(|name| name.strip_prefix("date="));
    name.and_then(parse_date).map(|day| day.saturating_mul(DAY))
}

/// Whether the day of a directory touches a span.
fn is_in(path: &Path, span: Span) -> bool {
    // A directory that is not a day is left to the reader of its files.
    let Some(start) = day_start(path) else { return true };
    span.overlaps(Span { since: Some(start), until: Some(start.saturating_add(DAY)) })
}

/// Returns the days from the first to the last directory; `None` if a directory is not a day, or if there is none.
pub fn extent(location: &Location) -> Result<Option<Span>> {
    let mut days = disk::day_entries(&root(location)?)?;
    // The reader of a day that cannot be reached reports it.
    days.retain(|path| !matches!(disk::is_directory(path), Ok(false)));
    let starts: Option<Vec<i64>> = days.iter().map(|path| day_start(path)).collect();
    let ends = starts.as_deref().and_then(|starts| Some((starts.iter().min()?, starts.iter().max()?)));
    Ok(ends.map(|(first, last)| Span { since: Some(*first), until: Some(last.saturating_add(DAY)) }))
}

/// Returns the extent of each partition of the events.
pub fn stream_extents(location: &Location) -> Result<Vec<StreamExtent>> {
    let root = root(location)?;
    let mut extents = StreamExtents::default();
    for path in disk::days(&root)? {
        Day::open(&path)?.columns(Kind::Event, &StreamExtents::COLUMNS)?.try_for_each(|batch| extents.add(&batch?))?;
    }
    Ok(extents.finish())
}

/// The extents of the partitions of events.
#[derive(Default)]
pub struct StreamExtents(BTreeMap<PartitionName, StreamExtent>);

impl StreamExtents {
    /// The columns that they are known by.
    pub const COLUMNS: [&str; 4] = [ORIGIN, PARTITION, OFFSET, STREAM_TIME];

    /// Adds events.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        for extent in extents_of(batch)? {
            let name = PartitionName::new(&extent.origin, &extent.partition);
            let known = self.0.entry(name).or_insert_with(|| StreamExtent { rows: 0, ..extent.clone() });
            widen(known, &extent);
        }
        Ok(())
    }

    /// Returns them.
    pub fn finish(self) -> Vec<StreamExtent> {
        self.0.into_values().collect()
    }
}

/// Returns the extents of the partitions of a batch, which is not empty.
fn extents_of(batch: &RecordBatch) -> Result<Vec<StreamExtent>> {
    let (origins, names) =
        (rows::column(batch, ORIGIN)?.as_any_dictionary(), rows::column(batch, PARTITION)?.as_any_dictionary());
    let offsets = rows::column(batch, OFFSET)?.as_primitive::<Int64Type>().values().iter();
    let times = rows::column(batch, STREAM_TIME)?.as_primitive::<TimestampMicrosecondType>().values().iter();
    let text = |column: &dyn AnyDictionaryArray, code: usize| column.values().as_string::<i32>().value(code).to_owned();
    let mut extents: BTreeMap<(usize, usize), StreamExtent> = BTreeMap::new();
    let codes = origins.normalized_keys().into_iter().zip(names.normalized_keys());
    for (code, (offset, time)) in codes.zip(offsets.zip(times)) {
        let row = |origin, partition| StreamExtent {
            origin,
            partition,
            first_offset: *offset,
            first_time: *time,
            last_time: *time,
            rows: 1,
        };
        let new = || StreamExtent { rows: 0, ..row(text(origins, code.0), text(names, code.1)) };
        let known = extents.entry(code).or_insert_with(new);
        widen(known, &row(String::new(), String::new()));
    }
    Ok(extents.into_values().collect())
}

fn widen(extent: &mut StreamExtent, other: &StreamExtent) {
    extent.first_offset = extent.first_offset.min(other.first_offset);
    extent.first_time = extent.first_time.min(other.first_time);
    extent.last_time = extent.last_time.max(other.last_time);
    extent.rows += other.rows;
}

/// Checks that a directory without files is a lake: a run has made it and has written no row. Errors: exit status 2.
fn empty(root: &Path) -> Result<()> {
    match disk::is_directory(&root.join(".evt"))? {
        true => Ok(()),
        false => {
            let root = root.display();
            Err(Error::usage(format!("parquet:{root}: expected files date=YYYY-MM-DD/*.parquet, found none")))
        }
    }
}

/// Returns the kind of the files in a lake, if there are any with rows of evt. Errors: exit status 74 if no file that
/// can be read shows the kind, and a day cannot be reached.
pub fn kind_of(root: &Path) -> Result<Option<Kind>> {
    let mut unreachable = None;
    for path in disk::day_entries(root)? {
        match disk::is_directory(&path) {
            Ok(true) => {}
            Ok(false) => continue,
            // A run that writes other days does not need it.
            Err(error) => {
                unreachable.get_or_insert(error);
                continue;
            }
        }
        let day = Day::open(&path)?;
        for name in &day.files {
            if let Some((kind, _)) = day.own_file(name)? {
                return Ok(Some(kind));
            }
        }
    }
    unreachable.map_or(Ok(None), Err)
}

/// One version of a day. The directory is kept open, so that its files belong to the version that was listed even if it
/// is replaced meanwhile.
pub struct Day {
    path: PathBuf,
    directory: File,
    files: Vec<OsString>,
}

impl Day {
    /// Lists the directory of a day.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = disk::failed(path, "cannot list");
        let directory = File::open(path).map_err(&cannot)?;
        let mut files = vec![];
        for entry in Dir::read_from(&directory).map_err(|errno| cannot(errno.into()))? {
            let entry = entry.map_err(|errno| cannot(errno.into()))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if disk::is_whole(Path::new(name)) {
                files.push(name.to_owned());
            }
        }
        files.sort();
        Ok(Self { path: path.to_owned(), directory, files })
    }

    /// Lists a new version of a day: parts without their final names.
    pub fn of_parts(lake: &Lake, parts: &[LakePart]) -> Result<Self> {
        let path = lake.dir.root.join(".evt");
        let directory = File::open(&path).map_err(disk::failed(&path, "cannot list"))?;
        let files = parts.iter().map(|part| part.part.clone().into()).collect();
        Ok(Self { path, directory, files })
    }

    /// Returns its date, `2024-01-15`.
    pub fn name(&self) -> &str {
        let name = self.path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.strip_prefix("date=").unwrap_or(name)
    }

    /// Returns the number of rows in its files.
    pub fn rows(&self) -> Result<u64> {
        let count =
            |name: &OsString| Ok(u64::try_from(self.file(name)?.1.metadata().file_metadata().num_rows()).unwrap_or(0));
        self.files.iter().map(count).sum()
    }

    /// Reads its rows, file after file.
    pub fn batches(self, kind: Kind, request: ReadRequest) -> Result<Batches> {
        let files = (0..self.files.len()).map(move |at| (self.file(&self.files[at]), self.path.join(&self.files[at])));
        Ok(Box::new(files.flat_map(move |(file, path)| {
            or_error(file.and_then(|(found, builder)| {
                check_kind(&path, found, kind)?;
                whole_rows(&path, kind, builder, request)
            }))
        })))
    }

    /// Reads some columns of its rows; the other columns are blank.
    pub fn columns(self, kind: Kind, names: &[&str]) -> Result<Batches> {
        let columns = Some(bits_of(kind, names.iter().copied())?);
        self.batches(kind, ReadRequest { columns, ..ReadRequest::default() })
    }

    fn file(&self, name: &OsStr) -> Result<(Kind, Reading)> {
        self.own_file(name)?.ok_or_else(|| foreign(&self.path.join(name)))
    }

    /// Whether it has a link of this name.
    fn has_link(&self, name: &OsStr) -> bool {
        statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_symlink())
    }

    /// Opens a file; `None` if its rows are not of evt.
    fn own_file(&self, name: &OsStr) -> Result<Option<(Kind, Reading)>> {
        let path = self.path.join(name);
        let opened = openat(&self.directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        match opened {
            Ok(file) => kind_in(&path, RowsBytes::Disk(File::from(file))),
            Err(Errno::NOENT) if self.has_link(name) => {
                Err(disk::failed(&path, "cannot follow the link")(Errno::NOENT.into()))
            }
            Err(Errno::NOENT) => {
                let message = format!("parquet:{}: the day was replaced while it was read; run again", path.display());
                Err(Error::busy(message))
            }
            Err(errno) => Err(disk::failed(&path, "cannot open")(errno.into())),
        }
    }
}
