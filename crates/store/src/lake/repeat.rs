//! Finds rows of a run whose keys the lake has already: a repeated, grown or stopped input, a topic that was read
//! again.
//!
//! Only files of the same day are compared, and of these only those whose footers tell positions of the same streams
//! ([`Extents`]). A run that appends new positions reads no rows; in a long run not even footers, because the extents
//! of a day are kept. Otherwise the keys of the new file are looked up in the row groups with these positions,
//! [`CHUNK`] rows at a time, and contents are compared where a key is stored.

use crate::lake::directory::{Lake, LakePart};
use crate::lake::disk;
use crate::lake::extents::{Extents, PositionSpan, position_column};
use crate::lake::file::Writing;
use crate::lake::read::file::LakeFile;
use crate::repeat::{Conflicts, Content, Contents, event_name, has_content};
use crate::rows;
use ahash::AHashMap;
use arrow::array::{BooleanArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use evt_core::error::Result;
use evt_core::kind::Kind;
use parquet::file::metadata::RowGroupMetaData;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Number of keys that are looked up together, about 40 MB. A row group has fewer rows.
const CHUNK: usize = 1 << 19;
/// Maximum number of streams of all days whose extents are kept, about 40 MB.
const STREAMS_MAX: usize = 1 << 18;

/// What is stored, by day.
pub trait StoredFiles {
    /// Returns the files of a day that may have keys of rows with these extents.
    fn overlapping(&mut self, lake: &Lake, day: i64, kind: Kind, extents: &Extents) -> Result<Vec<LakeFile>>;
}

/// The extents of the days that a run has written.
#[derive(Default)]
pub struct KnownDays(BTreeMap<i64, KnownDay>);

struct KnownDay {
    version: Option<DirectoryVersion>,
    extents: Extents,
}

/// The rows of the lake as far as a run knows them: the extents of its days, and the conflicts with rows of the run.
#[derive(Default)]
pub struct KnownRows {
    /// The extents of its days.
    pub days: KnownDays,
    /// Rows of the run that differ from them.
    pub conflicts: Conflicts,
}

/// A version of the directory of a day. A correction puts another directory in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct DirectoryVersion {
    inode: u64,
    changed_seconds: i64,
    changed_nanoseconds: i64,
}

impl DirectoryVersion {
    fn of(directory: &Path) -> Result<Option<Self>> {
        let found = disk::found(directory)?;
        Ok(found.map(|found| Self {
            inode: found.ino(),
            changed_seconds: found.mtime(),
            changed_nanoseconds: found.mtime_nsec(),
        }))
    }
}

/// The caller holds the lock of names.
impl StoredFiles for KnownDays {
    fn overlapping(&mut self, lake: &Lake, day: i64, kind: Kind, extents: &Extents) -> Result<Vec<LakeFile>> {
        let path = lake.day(day);
        let version = DirectoryVersion::of(&path)?;
        if self.0.get(&day).is_some_and(|known| known.version == version && !known.extents.overlaps(extents)) {
            return Ok(vec![]);
        }
        let (mut all, mut found) = (Extents::default(), vec![]);
        if version.is_some() {
            for path in disk::entries(&path)?.into_iter().filter(|path| disk::is_whole(path)) {
                let Some(file) = LakeFile::open_own(&path, kind)? else { continue };
                let known = Extents::of_file(file.footer().file_metadata());
                all.add(&known);
                if known.overlaps(extents) {
                    found.push(file);
                }
            }
        }
        if self.0.values().map(|known| known.extents.streams()).sum::<usize>() > STREAMS_MAX {
            self.0.clear();
        }
        self.0.insert(day, KnownDay { version, extents: all });
        Ok(found)
    }
}

impl KnownDays {
    /// Notes parts that were published since their days were looked up, under the same lock of names.
    pub fn published(&mut self, lake: &Lake, parts: &[LakePart]) -> Result<()> {
        for part in parts {
            if let Some(known) = self.0.get_mut(&part.day) {
                known.extents.add(&part.extents);
                known.version = DirectoryVersion::of(&lake.day(part.day))?;
            }
        }
        Ok(())
    }
}

/// The result of a search for the key of a new row among the stored rows.
#[derive(Clone, Copy)]
enum Found {
    Nothing,
    Row,
    Content(Content),
}

/// The rows of a part whose keys are stored.
struct Repeats {
    /// For each row of the part, whether its key is not stored.
    new: BooleanBuffer,
    /// Number of rows of the part whose stored row has other content.
    pub conflicts: u64,
    /// The name of the first of them.
    pub first_conflict: Option<String>,
}

impl Repeats {
    /// Returns the number of rows that are not stored.
    pub fn new_rows(&self) -> u64 {
        self.new.count_set_bits() as u64
    }

    /// Returns the number of stored rows with the same content.
    pub fn unchanged(&self) -> u64 {
        (self.new.len() - self.new.count_set_bits()) as u64 - self.conflicts
    }
}

/// A part that is compared with stored files.
struct RepeatSearch<'a> {
    kind: Kind,
    part: LakeFile,
    stored: &'a [LakeFile],
    new: BooleanBufferBuilder,
    conflicts: u64,
    first_conflict: Option<String>,
}

impl<'a> RepeatSearch<'a> {
    /// Begins the comparison of a part.
    pub fn new(kind: Kind, part: LakeFile, stored: &'a [LakeFile]) -> Self {
        Self { kind, part, stored, new: BooleanBufferBuilder::new(0), conflicts: 0, first_conflict: None }
    }

    /// Compares all of its rows.
    pub fn finish(mut self) -> Result<Repeats> {
        let (mut chunks, mut chunk, mut rows) = (vec![], vec![], 0);
        for (index, group) in self.part.footer().row_groups().iter().enumerate() {
            chunk.push(index);
            rows += usize::try_from(group.num_rows()).unwrap_or(0);
            if rows >= CHUNK || index + 1 == self.part.footer().num_row_groups() {
                chunks.push(std::mem::take(&mut chunk));
                rows = 0;
            }
        }
        for chunk in chunks {
            self.compare(&chunk)?;
        }
        let Self { mut new, conflicts, first_conflict, .. } = self;
        Ok(Repeats { new: new.finish(), conflicts, first_conflict })
    }

    /// Compares the rows of some row groups of the part.
    fn compare(&mut self, groups: &[usize]) -> Result<()> {
        let position = position_column(self.kind);
        let (mut keys, mut positions) = (vec![], None::<PositionSpan>);
        for batch in
            self.part.columns(rows::key_columns(self.kind).iter().copied().chain([position]), groups.to_vec())?
        {
            let batch = batch?;
            keys.extend(rows::each_key(self.kind, &batch)?);
            let here = PositionSpan::of_rows(self.kind, &batch)?;
            positions = positions.into_iter().chain(here).reduce(PositionSpan::with);
        }
        let mut known: AHashMap<u128, Found> = keys.iter().map(|key| (*key, Found::Nothing)).collect();
        let is_any = self.look_up(&mut known, positions)?;
        let is_new = |key: &u128| matches!(known.get(key), None | Some(Found::Nothing));
        keys.iter().for_each(|key| self.new.append(is_new(key)));
        if is_any && has_content(self.kind) { self.compare_contents(&known, groups) } else { Ok(()) }
    }

    /// Sets for each key whether a stored row has it, with the content of that row if the kind has content; returns
    /// whether one has.
    fn look_up(&self, known: &mut AHashMap<u128, Found>, positions: Option<PositionSpan>) -> Result<bool> {
        let mut is_any = false;
        for file in self.stored {
            let groups = groups_with(file, position_column(self.kind), positions);
            for batch in file.columns(rows::key_columns(self.kind).iter().copied(), groups.clone())? {
                for key in rows::each_key(self.kind, &batch?)? {
                    if let Some(found) = known.get_mut(&key) {
                        *found = Found::Row;
                        is_any = true;
                    }
                }
            }
            if is_any && has_content(self.kind) {
                for batch in file.columns(compared_columns(self.kind), groups)? {
                    let batch = batch?;
                    let mut contents = Contents::try_new(&batch)?;
                    for (row, key) in rows::each_key(self.kind, &batch)?.into_iter().enumerate() {
                        if let Some(found @ Found::Row) = known.get_mut(&key) {
                            *found = Found::Content(contents.get(row)?);
                        }
                    }
                }
            }
        }
        Ok(is_any)
    }

    /// Counts the rows of the part whose content differs from the stored one.
    fn compare_contents(&mut self, known: &AHashMap<u128, Found>, groups: &[usize]) -> Result<()> {
        for batch in self.part.columns(compared_columns(self.kind), groups.to_vec())? {
            let batch = batch?;
            let mut contents = Contents::try_new(&batch)?;
            for (row, key) in rows::each_key(self.kind, &batch)?.into_iter().enumerate() {
                if let Some(Found::Content(stored)) = known.get(&key)
                    && !stored.is_same(&contents.get(row)?)
                {
                    self.conflicts += 1;
                    self.first_conflict.get_or_insert_with(|| event_name(&batch, row));
                }
            }
        }
        Ok(())
    }
}

fn compared_columns(kind: Kind) -> impl Iterator<Item = &'static str> {
    rows::key_columns(kind).iter().copied().chain(Contents::columns())
}

/// Returns the row groups of a file that may have rows with these positions.
fn groups_with(file: &LakeFile, column: &str, positions: Option<PositionSpan>) -> Vec<usize> {
    let may_have = |group: &RowGroupMetaData| match (PositionSpan::of_group(group, column), positions) {
        (Some(there), Some(here)) => there.overlaps(here),
        (_, None) => false,
        (None, _) => true,
    };
    let groups = file.footer().row_groups().iter().enumerate();
    groups.filter(|(_, group)| may_have(group)).map(|(index, _)| index).collect()
}

/// A part of which the rows that are stored were left out.
pub struct NewRows {
    /// The part itself, if none of its rows is stored; a part with the others; or `None`, if all are.
    pub part: Option<LakePart>,
    /// The stored rows with the same content.
    pub unchanged: u64,
    /// The stored rows with other content.
    pub conflicts: u64,
    /// The name of the first of them.
    pub first_conflict: Option<String>,
}

impl NewRows {
    /// Compares a part, which stays, with the files that may have its keys. Properties of rows that are written again
    /// may get columns.
    pub fn of(lake: &mut Lake, part: &LakePart, stored: &[LakeFile], form: PartForm) -> Result<Self> {
        if stored.is_empty() {
            return Ok(Self { part: Some(part.clone()), unchanged: 0, conflicts: 0, first_conflict: None });
        }
        let PartForm { kind, property_columns } = form;
        let file = LakeFile::of_part(lake, part, kind)?;
        let mut repeats = RepeatSearch::new(kind, file, stored).finish()?;
        let kept = match repeats.new_rows() {
            0 => None,
            rows if rows == part.inserted => Some(part.clone()),
            _ => {
                let rest = Writing::create(lake, kind, part.day, property_columns)?;
                Some(keep_new(lake, part, &repeats, rest)?)
            }
        };
        let first_conflict = repeats.first_conflict.take();
        Ok(Self { part: kept, unchanged: repeats.unchanged(), conflicts: repeats.conflicts, first_conflict })
    }
}

/// The form of a part.
#[derive(Clone, Copy)]
pub struct PartForm {
    /// The kind of its rows.
    pub kind: Kind,
    /// Whether their properties get columns.
    pub property_columns: bool,
}

/// Writes the rows of a part that are not stored to a part of their own.
fn keep_new(lake: &Lake, part: &LakePart, repeats: &Repeats, mut new: Writing) -> Result<LakePart> {
    let mut start = 0;
    for batch in LakeFile::of_part(lake, part, new.kind)?.rows()? {
        let batch = batch?;
        let is_new = BooleanArray::new(repeats.new.slice(start, batch.num_rows()), None);
        start += batch.num_rows();
        if is_new.true_count() > 0 {
            new.write(lake, &filter_record_batch(&batch, &is_new)?)?;
        }
    }
    new.finish(lake)
}
