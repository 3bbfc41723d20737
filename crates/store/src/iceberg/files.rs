//! The data files of a version of a table.

use crate::iceberg::deletes::Deletes;
use crate::iceberg::warehouse::catalog::TableVersion;
use crate::iceberg::warehouse::property_fields;
use crate::iceberg::warehouse::storage::TableStorage;
use crate::lake::directory::Lake;
use crate::lake::extents::{Extents, PositionSpan, position_column};
use crate::lake::read::file::LakeFile;
use crate::lake::repeat::StoredFiles;
use crate::{ReadRequest, or_error};
use arrow::datatypes::Field;
use evt_core::error::{Error, Result};
use evt_core::iceberg::bounds::read_long;
use evt_core::iceberg::manifest::{DataFile, ManifestEntry, ManifestFile, Status};
use evt_core::iceberg::manifest_reader::{entries, manifests};
use evt_core::iceberg::metadata::Snapshot;
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::time::DAY;
use evt_run::checkpoint::epoch::Batches;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Maximum number of manifests whose entries are kept, and of streams whose extents are.
const MANIFESTS_MAX: usize = 1 << 10;
const STREAMS_MAX: usize = 1 << 18;

/// A data file, as a manifest describes it.
#[derive(Clone)]
pub struct StoredFile {
    /// Its URI, as the manifest has it.
    pub uri: String,
    /// Its day (since 1970), if that is its partition.
    pub day: Option<i64>,
    /// Its size.
    pub bytes: u64,
    /// The number of its rows, deleted ones included.
    rows: u64,
    /// The instants of its rows, as far as its partition or the bounds of their column say.
    span: Span,
    /// The positions of its rows, if the bounds of their column say.
    positions: Option<PositionSpan>,
    /// The number of the commit that wrote its rows.
    sequence: i64,
}

impl StoredFile {
    fn new(kind: Kind, version: &TableVersion, entry: &ManifestEntry) -> Self {
        let (file, metadata) = (&entry.file, &version.metadata);
        let bounds = |name: &str| {
            let id = metadata.schema().ok()?.column(name)?.id;
            let [first, last] = [&file.least, &file.greatest].map(|bounds| read_long(bounds.get(&id)?));
            Some([first?, last?])
        };
        let of_day = |day: i32| [i64::from(day).saturating_mul(DAY), (i64::from(day) + 1).saturating_mul(DAY) - 1];
        let instants = file.day.map(of_day).or_else(|| bounds(kind.time_column()));
        let span = instants
            .map_or_else(Span::default, |[first, last]| Span { since: Some(first), until: last.checked_add(1) });
        let positions = bounds(position_column(kind)).map(PositionSpan::of);
        Self {
            uri: file.path.clone(),
            day: file.day.map(i64::from),
            bytes: u64::try_from(file.bytes).unwrap_or(0),
            rows: u64::try_from(file.rows).unwrap_or(0),
            span,
            positions,
            sequence: entry.sequence.unwrap_or_default(),
        }
    }

    /// Whether all of its rows are from before an instant (µs).
    pub fn is_before(&self, instant: i64) -> bool {
        self.span.until.is_some_and(|until| until <= instant)
    }

    /// Opens it without its deleted rows.
    fn open(&self, kind: Kind, table: &TableFiles) -> Result<LakeFile> {
        let TableFiles { storage, deletes, properties } = table;
        let file = LakeFile::of_table(storage.rows(&self.uri, self.bytes)?, kind)?.with_properties(properties.clone());
        if deletes.is_empty() { Ok(file) } else { Ok(file.without(deletes.of(&self.uri, self.sequence)?)) }
    }
}

/// What the files of a version have in common.
#[derive(Default)]
struct TableFiles {
    storage: TableStorage,
    deletes: Deletes,
    /// The columns that are properties.
    properties: Arc<[Field]>,
}

/// Returns the manifests of a snapshot.
pub fn manifests_of(storage: &TableStorage, snapshot: &Snapshot) -> Result<Vec<ManifestFile>> {
    let at = |error: Error| error.at(snapshot.manifest_list.clone());
    manifests(storage.read(&snapshot.manifest_list)?).map_err(at)
}

/// Returns the position deletes of some manifests, and the others. Errors: exit status 65 for equality deletes.
fn deletes_of(storage: &TableStorage, manifests: Vec<ManifestFile>) -> Result<(Deletes, Vec<ManifestFile>)> {
    let (of_deletes, of_rows): (Vec<_>, Vec<_>) = manifests.into_iter().partition(|manifest| manifest.has_deletes);
    let mut deletes = Deletes::default();
    of_deletes.iter().try_for_each(|manifest| deletes.add(storage, &entries_of(storage, manifest)?))?;
    Ok((deletes, of_rows))
}

/// Returns the entries of a manifest.
pub fn entries_of(storage: &TableStorage, manifest: &ManifestFile) -> Result<Vec<ManifestEntry>> {
    entries(storage.read(&manifest.path)?, manifest).map_err(|error| error.at(manifest.path.clone()))
}

/// Whether rows of a manifest may lie in a span.
fn is_in(manifest: &ManifestFile, span: Span) -> bool {
    let Some([first, last]) = manifest.days else { return true };
    let start = |day: i32| i64::from(day).saturating_mul(DAY);
    span.overlaps(Span { since: Some(start(first)), until: Some(start(last).saturating_add(DAY)) })
}

/// Files of a snapshot.
pub struct SnapshotFiles {
    kind: Kind,
    /// In the order of their days, and of their commits.
    pub files: Vec<StoredFile>,
    table: TableFiles,
}

impl SnapshotFiles {
    /// Finds the files of a snapshot that may have rows in a span.
    pub fn find(kind: Kind, version: &TableVersion, snapshot: &Snapshot, span: Span) -> Result<Self> {
        let storage = &version.storage;
        let (deletes, manifests) = deletes_of(storage, manifests_of(storage, snapshot)?)?;
        let mut files = vec![];
        for manifest in manifests.iter().filter(|manifest| is_in(manifest, span)) {
            let entries = entries_of(storage, manifest)?;
            let present = entries.iter().filter(|entry| entry.status != Status::Deleted);
            files.extend(present.map(|entry| StoredFile::new(kind, version, entry)));
        }
        files.retain(|file| span.overlaps(file.span));
        files.sort_by(|left, right| {
            let key = |file: &StoredFile| (file.span.since, file.sequence);
            key(left).cmp(&key(right)).then_with(|| left.uri.cmp(&right.uri))
        });
        let table = TableFiles { storage: storage.clone(), deletes, properties: property_fields(version, kind)? };
        Ok(Self { kind, files, table })
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> Result<u64> {
        let rows = |file: &StoredFile| Ok(file.rows - self.table.deletes.of(&file.uri, file.sequence)?.len() as u64);
        self.files.iter().map(rows).sum()
    }

    /// Reads the rows.
    pub fn batches(self, request: ReadRequest) -> Batches {
        let (Self { kind, files, table }, ReadRequest { span, columns, .. }) = (self, request);
        let open = move |file: StoredFile| file.open(kind, &table)?.batches(columns, span);
        Box::new(files.into_iter().flat_map(move |file| or_error(open(file))))
    }
}

/// The files of a version that may have rows of a run. What was read for one version is kept for the next.
#[derive(Default)]
pub struct KnownFiles {
    manifests: HashMap<String, Rc<Vec<StoredFile>>>,
    extents: HashMap<String, Extents>,
    /// The manifests of the version.
    present: Vec<(ManifestFile, Option<Rc<Vec<StoredFile>>>)>,
    version: Option<TableVersion>,
    table: TableFiles,
}

impl KnownFiles {
    /// Begins to look for rows of a kind in a version.
    pub fn look_in(&mut self, version: &TableVersion, kind: Kind) -> Result<()> {
        let storage = &version.storage;
        let manifests = version.metadata.snapshot().map_or(Ok(vec![]), |snapshot| manifests_of(storage, snapshot))?;
        let (deletes, manifests) = deletes_of(storage, manifests)?;
        self.table = TableFiles { storage: storage.clone(), deletes, properties: property_fields(version, kind)? };
        let names: BTreeSet<&str> = manifests.iter().map(|manifest| &*manifest.path).collect();
        self.manifests.retain(|path, _| names.contains(&**path));
        if self.manifests.len() > MANIFESTS_MAX {
            self.manifests.clear();
        }
        if self.extents.values().map(Extents::streams).sum::<usize>() > STREAMS_MAX {
            self.extents.clear();
        }
        self.present = manifests.into_iter().map(|manifest| (manifest, None)).collect();
        self.version = Some(version.clone());
        Ok(())
    }

    /// Returns the URI of the file whose name, without its extension, is `stem`. Errors: exit status 70 for others.
    pub fn uri_of(&self, stem: &str) -> Result<String> {
        let files = self.present.iter().filter_map(|(_, files)| files.as_deref()).flatten();
        let named = |file: &&StoredFile| Path::new(&file.uri).file_stem().is_some_and(|found| found == stem);
        let found = files.into_iter().find(named);
        found.map(|file| file.uri.clone()).ok_or_else(|| Error::broken(format!("no file {stem}")))
    }

    /// Returns the files of a manifest.
    fn files(&mut self, at: usize, kind: Kind) -> Result<Rc<Vec<StoredFile>>> {
        let (manifest, found) = &mut self.present[at];
        if let Some(found) = found {
            return Ok(found.clone());
        }
        let files = match (self.manifests.get(&manifest.path), &self.version) {
            (Some(files), _) => files.clone(),
            (None, Some(version)) => {
                let present = entries_of(&version.storage, manifest)?;
                let present = present.iter().filter(|entry| entry.status != Status::Deleted);
                let files = Rc::new(present.map(|entry| StoredFile::new(kind, version, entry)).collect());
                self.manifests.insert(manifest.path.clone(), Rc::clone(&files));
                files
            }
            (None, None) => Rc::default(),
        };
        *found = Some(files.clone());
        Ok(files)
    }
}

impl StoredFiles for KnownFiles {
    fn overlapping(&mut self, _lake: &Lake, day: i64, kind: Kind, extents: &Extents) -> Result<Vec<LakeFile>> {
        let start = day.saturating_mul(DAY);
        let span = Span { since: Some(start), until: Some(start.saturating_add(DAY)) };
        let mut found = vec![];
        for at in 0..self.present.len() {
            if !is_in(&self.present[at].0, span) {
                continue;
            }
            for file in self.files(at, kind)?.iter() {
                let is_apart = file.positions.is_some_and(|positions| !extents.touches(positions));
                if is_apart || !span.overlaps(file.span) {
                    continue;
                }
                if let Some(known) = self.extents.get(&file.uri)
                    && !known.overlaps(extents)
                {
                    continue;
                }
                let opened = file.open(kind, &self.table)?;
                let known = Extents::of_file(opened.footer().file_metadata());
                if known.overlaps(extents) {
                    found.push(opened);
                }
                self.extents.insert(file.uri.clone(), known);
            }
        }
        Ok(found)
    }
}

/// Sums of data files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSums {
    /// Their number.
    pub files: i64,
    /// Their rows.
    pub rows: i64,
    /// Their bytes.
    pub bytes: i64,
}

impl FileSums {
    /// Sums files.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a DataFile>) -> Self {
        files.into_iter().fold(Self::default(), |sum, file| Self {
            files: sum.files + 1,
            rows: sum.rows + file.rows,
            bytes: sum.bytes + file.bytes,
        })
    }

    /// Adds the sums to a summary, by the names that Iceberg has for them.
    pub fn write(self, names: [&str; 3], summary: &mut BTreeMap<String, String>) {
        for (name, value) in names.iter().zip([self.files, self.rows, self.bytes]) {
            summary.insert((*name).to_owned(), value.to_string());
        }
    }
}
