//! A commit: files that are added to a table and removed from it, as one snapshot.

use crate::iceberg::files::{FileSums, entries_of, manifests_of};
use crate::iceberg::warehouse::Warehouse;
use crate::iceberg::warehouse::catalog::{NextVersion, TableVersion};
use crate::iceberg::warehouse::names::{random, random_uuid};
use evt_core::error::{Error, Result};
use evt_core::format::parquet::TableColumn;
use evt_core::iceberg::manifest::{DataFile, ManifestEntry, ManifestFile, Status, manifest, manifest_list};
use evt_core::iceberg::metadata::Snapshot;
use evt_core::iceberg::schema::TableSchema;
use evt_core::kind::Kind;
use std::collections::{BTreeMap, BTreeSet};

/// From so many small manifests on, one takes their place.
const SMALL_MANIFESTS: usize = 100;
/// The size (bytes) up to which a manifest is small, and beyond which none is merged into it.
const MANIFEST_BYTES: i64 = 8 << 20;

/// What a commit changes.
#[derive(Clone, Debug, Default)]
pub struct TableChange {
    /// The files with new rows.
    pub added: Vec<DataFile>,
    /// The URIs of the files whose rows go.
    pub removed: BTreeSet<String>,
    /// The snapshots that go.
    pub expired: BTreeSet<i64>,
    /// Whether the added files have the rows of the removed ones.
    pub keeps_rows: bool,
    /// Properties of the table.
    pub properties: BTreeMap<String, String>,
    /// What the summary of the snapshot says besides its counts.
    pub summary: BTreeMap<String, String>,
}

/// A commit that is being made.
pub struct TableCommit<'a> {
    warehouse: &'a Warehouse,
    kind: Kind,
    base: &'a TableVersion,
    /// The schema of the next version.
    schema: TableSchema,
    snapshot_id: i64,
    /// In the names of its files.
    pub uuid: String,
    /// The files of metadata that were written.
    written: Vec<String>,
}

impl<'a> TableCommit<'a> {
    /// Begins a commit after a version, to which the table gets columns.
    pub fn new(warehouse: &'a Warehouse, kind: Kind, base: &'a TableVersion, columns: &[TableColumn]) -> Result<Self> {
        let snapshot_id = (random() >> 1).max(1).cast_signed();
        let (schema, uuid) = (extended(base, columns)?, random_uuid().to_string());
        Ok(Self { warehouse, kind, base, schema, snapshot_id, uuid, written: vec![] })
    }

    /// Writes the next version and makes it the present one; returns whether it is. If another commit came first,
    /// nothing is left. After an error it may be the present one or not.
    pub fn run(mut self, change: &TableChange, micros: i64) -> Result<bool> {
        let mut next = self.base.metadata.clone();
        let is_extended = self.schema.id != next.current_schema_id;
        if is_extended {
            next.evolve(self.schema.clone());
        }
        let millis = micros.div_euclid(1000).max(next.last_updated_ms);
        let is_judged = self.warehouse.needs_snapshots() && !change.properties.is_empty();
        let snapshot = match is_judged || !change.added.is_empty() || !change.removed.is_empty() {
            true => Some(self.snapshot(change, millis)?),
            false => None,
        };
        if let Some(snapshot) = &snapshot {
            next.add(snapshot.clone());
        }
        next.forget(&change.expired);
        next.last_updated_ms = millis;
        next.properties.extend(change.properties.clone());
        let next = NextVersion {
            base: self.base,
            metadata: next,
            uuid: &self.uuid,
            schema: is_extended.then_some(&self.schema),
            snapshot: snapshot.as_ref(),
            expired: &change.expired,
            properties: &change.properties,
        };
        let is_done = self.warehouse.commit(self.kind, next)?;
        if !is_done {
            self.written.iter().try_for_each(|file| self.base.storage.remove(file))?;
        }
        Ok(is_done)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<String> {
        let uri = self.base.metadata_uri(name);
        self.base.storage.write(&uri, bytes)?;
        self.written.push(uri.clone());
        Ok(uri)
    }

    /// Writes the manifests of a snapshot and their list.
    fn snapshot(&mut self, change: &TableChange, timestamp_ms: i64) -> Result<Snapshot> {
        let metadata = &self.base.metadata;
        let parent = metadata.snapshot();
        let sequence = metadata.last_sequence_number + 1;
        let (mut manifests, mut removed) = (vec![], vec![]);
        for before in parent.map_or(Ok(vec![]), |parent| manifests_of(&self.base.storage, parent))? {
            manifests.extend(self.without(before, &change.removed, &mut removed)?);
        }
        if let Some(missing) = change.removed.len().checked_sub(removed.len()).filter(|missing| *missing > 0) {
            return Err(Error::broken(format!("{missing} files to remove are not in the table")));
        }
        let mut manifests = self.merged(manifests)?;
        if !change.added.is_empty() {
            let entries: Vec<_> = change.added.iter().map(|file| self.added(file)).collect();
            manifests.push(self.manifest(&entries, metadata.default_spec_id)?);
        }
        let mut snapshot = Snapshot {
            snapshot_id: self.snapshot_id,
            parent_snapshot_id: parent.map(|parent| parent.snapshot_id),
            sequence_number: sequence,
            timestamp_ms,
            manifest_list: String::new(),
            summary: summary(change, parent, &removed),
            schema_id: Some(self.schema.id),
            rest: serde_json::Map::new(),
        };
        let name = format!("snap-{}-0-{}.avro", self.snapshot_id, self.uuid);
        snapshot.manifest_list = self.write(&name, &manifest_list(&manifests, &snapshot))?;
        Ok(snapshot)
    }

    fn added(&self, file: &DataFile) -> ManifestEntry {
        let snapshot = self.snapshot_id;
        ManifestEntry { status: Status::Added, snapshot, sequence: None, file_sequence: None, file: file.clone() }
    }

    /// Returns a manifest of the version before; a new one if it has files that are removed, which `removed` gets.
    fn without(
        &mut self,
        before: ManifestFile,
        gone: &BTreeSet<String>,
        removed: &mut Vec<DataFile>,
    ) -> Result<Option<ManifestFile>> {
        if before.has_deletes {
            return Ok(Some(before));
        }
        if before.files[0] + before.files[1] == 0 {
            // All of its files were removed by the version before.
            return Ok(None);
        }
        if gone.len() == removed.len() {
            return Ok(Some(before));
        }
        let mut entries = entries_of(&self.base.storage, &before)?;
        entries.retain(|entry| entry.status != Status::Deleted);
        if !entries.iter().any(|entry| gone.contains(&entry.file.path)) {
            return Ok(Some(before));
        }
        for entry in &mut entries {
            entry.status = Status::Existing;
            if gone.contains(&entry.file.path) {
                (entry.status, entry.snapshot) = (Status::Deleted, self.snapshot_id);
                removed.push(entry.file.clone());
            }
        }
        self.manifest(&entries, before.spec).map(Some)
    }

    /// Merges the small manifests among those of the version before, once there are many.
    fn merged(&mut self, manifests: Vec<ManifestFile>) -> Result<Vec<ManifestFile>> {
        let spec = self.base.metadata.default_spec_id;
        let is_small = |manifest: &ManifestFile| {
            let is_other = manifest.snapshot != self.snapshot_id && !manifest.has_deletes;
            manifest.bytes < MANIFEST_BYTES && manifest.spec == spec && is_other
        };
        let (small, mut kept): (Vec<_>, Vec<_>) = manifests.into_iter().partition(is_small);
        if small.len() < SMALL_MANIFESTS {
            kept.extend(small);
            return Ok(kept);
        }
        let (mut entries, mut bytes) = (vec![], 0);
        for manifest in small {
            if bytes + manifest.bytes > MANIFEST_BYTES {
                kept.push(self.manifest(&std::mem::take(&mut entries), spec)?);
                bytes = 0;
            }
            bytes += manifest.bytes;
            let present =
                entries_of(&self.base.storage, &manifest)?.into_iter().filter(|entry| entry.status != Status::Deleted);
            entries.extend(present.map(|entry| ManifestEntry { status: Status::Existing, ..entry }));
        }
        if !entries.is_empty() {
            kept.push(self.manifest(&entries, spec)?);
        }
        Ok(kept)
    }

    /// Writes a manifest.
    fn manifest(&mut self, entries: &[ManifestEntry], spec_id: i32) -> Result<ManifestFile> {
        let metadata = &self.base.metadata;
        let spec = metadata.partition_specs.iter().find(|spec| spec.spec_id == spec_id);
        let spec = spec.ok_or_else(|| Error::corrupt(format!("{}: no partition spec {spec_id}", metadata.location)))?;
        let bytes = manifest(entries, &self.schema, spec);
        let path = self.write(&format!("{}-m{}.avro", self.uuid, self.written.len()), &bytes)?;
        let sequence = metadata.last_sequence_number + 1;
        let of = |status| entries.iter().filter(move |entry: &&ManifestEntry| entry.status == status);
        let statuses = [Status::Added, Status::Existing, Status::Deleted];
        let present = entries.iter().filter(|entry| entry.status != Status::Deleted);
        let days: Option<BTreeSet<i32>> = entries.iter().map(|entry| entry.file.day).collect();
        Ok(ManifestFile {
            path,
            bytes: bytes.len().cast_signed() as i64,
            spec: spec_id,
            has_deletes: false,
            sequence,
            least_sequence: present.map(|entry| entry.sequence.unwrap_or(sequence)).min().unwrap_or(sequence),
            snapshot: self.snapshot_id,
            files: statuses.map(|status| i32::try_from(of(status).count()).unwrap_or(i32::MAX)),
            rows: statuses.map(|status| of(status).map(|entry| entry.file.rows).sum()),
            days: days.and_then(|days| Some([*days.first()?, *days.last()?])),
        })
    }
}

/// Returns the schema of a version with more columns.
pub fn extended(version: &TableVersion, columns: &[TableColumn]) -> Result<TableSchema> {
    let metadata = &version.metadata;
    let next = metadata.schemas.iter().map(|schema| schema.id).max().unwrap_or(0) + 1;
    let schema = metadata.schema()?;
    Ok(if columns.is_empty() { schema.clone() } else { schema.with_properties(columns, next) })
}

fn summary(change: &TableChange, parent: Option<&Snapshot>, removed: &[DataFile]) -> BTreeMap<String, String> {
    let mut summary = change.summary.clone();
    let operation = match (change.added.is_empty(), removed.is_empty()) {
        (_, true) => "append",
        (true, false) => "delete",
        (false, false) if change.keeps_rows => "replace",
        (false, false) => "overwrite",
    };
    summary.insert("operation".to_owned(), operation.to_owned());
    let (added, gone) = (FileSums::of(&change.added), FileSums::of(removed));
    if added.files > 0 {
        added.write(["added-data-files", "added-records", "added-files-size"], &mut summary);
    }
    if gone.files > 0 {
        gone.write(["deleted-data-files", "deleted-records", "removed-files-size"], &mut summary);
    }
    let names = ["total-data-files", "total-records", "total-files-size"];
    let before = |name: &str| match parent {
        None => Some(0),
        Some(parent) => parent.summary.get(name)?.parse::<i64>().ok(),
    };
    let changes = [added.files - gone.files, added.rows - gone.rows, added.bytes - gone.bytes];
    for (name, change) in names.into_iter().zip(changes) {
        // A writer that says no totals ends them.
        if let Some(before) = before(name) {
            summary.insert(name.to_owned(), (before + change).to_string());
        }
    }
    for name in ["total-delete-files", "total-position-deletes", "total-equality-deletes"] {
        let before = parent.and_then(|parent| parent.summary.get(name));
        summary.insert(name.to_owned(), before.map_or("0", String::as_str).to_owned());
    }
    summary
}
