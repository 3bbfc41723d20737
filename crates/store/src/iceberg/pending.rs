//! The note of a commit that is being made, so that the next run of its output removes what a killed one leaves.

use crate::iceberg::commit::{TableChange, TableCommit};
use crate::iceberg::files::{entries_of, manifests_of};
use crate::iceberg::warehouse::Warehouse;
use crate::iceberg::warehouse::catalog::TableVersion;
use crate::iceberg::warehouse::names::random_uuid;
use evt_core::error::{Error, Result};
use evt_core::iceberg::manifest::Status;
use evt_core::kind::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How the names of notes end.
const EXTENSION: &str = ".pending";
/// The properties by which a run makes that no killed run of its output can commit any more.
const FENCE: &str = "evt.fence.";

/// The files of a commit. They are removed only if nothing that can be read names one of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct PendingCommit {
    /// The version that it is based on.
    pub base: String,
    /// The URIs of its files of rows.
    pub data: BTreeSet<String>,
    /// What the names of its files of metadata contain.
    pub uuid: String,
}

/// Returns the URI of the note of an output.
fn note(version: &TableVersion, output: &str) -> String {
    format!("{}/.evt/{output}{EXTENSION}", version.data_uri())
}

impl PendingCommit {
    /// Whether an output has a note in a table.
    pub fn is_left(version: &TableVersion, output: &str) -> Result<bool> {
        Ok(version.storage.find(&note(version, output))?.is_some())
    }

    fn read(version: &TableVersion, uri: &str) -> Result<Option<Self>> {
        let Some(bytes) = version.storage.find(uri)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::corrupt(uri.to_owned()).because(error))
    }

    /// Reads the notes of all outputs of a table.
    pub fn all(version: &TableVersion) -> Result<Vec<Self>> {
        let mut all = vec![];
        for file in version.storage.list(&format!("{}/.evt", version.data_uri()))? {
            if file.uri.ends_with(EXTENSION) {
                // Its commit may be done meanwhile.
                all.extend(Self::read(version, &file.uri)?);
            }
        }
        Ok(all)
    }

    /// Writes the note, before the first of the files has its name.
    pub fn write(&self, version: &TableVersion, output: &str) -> Result<()> {
        let json = serde_json::to_vec(self).map_err(|error| Error::broken("a note").because(error))?;
        version.storage.write(&note(version, output), &json)
    }

    /// Removes the note of a commit that is done, or that left nothing.
    pub fn forget(version: &TableVersion, output: &str) -> Result<()> {
        version.storage.remove(&note(version, output))
    }

    /// Removes what a killed run of an output has left, now (µs). A table of this machine is locked.
    pub fn clean(warehouse: &Warehouse, kind: Kind, output: &str, now: i64) -> Result<()> {
        let Some(mut version) = warehouse.find(kind)? else { return Ok(()) };
        let Some(pending) = Self::read(&version, &note(&version, output))? else { return Ok(()) };
        let mut is_named = pending.is_named_by(&version)?;
        if !is_named && version.directory().is_none() {
            // Nothing locks a bucket: the other run may still be there. After this commit its own one fails.
            version = fenced(warehouse, kind, output, now)?;
            is_named = pending.is_named_by(&version)?;
        }
        if !is_named {
            pending.data.iter().try_for_each(|file| version.storage.remove(file))?;
            for file in version.storage.list(&format!("{}/metadata", version.metadata.location))? {
                if file.uri.contains(&pending.uuid) {
                    version.storage.remove(&file.uri)?;
                }
            }
        }
        Self::forget(&version, output)
    }

    /// Whether a version, or a snapshot that it has, names a file of the commit.
    fn is_named_by(&self, version: &TableVersion) -> Result<bool> {
        let TableVersion { metadata, location, storage } = version;
        if *location == self.base {
            return Ok(false);
        }
        let log = metadata.metadata_log.iter().map(|version| &version.metadata_file);
        let lists = metadata.snapshots.iter().map(|snapshot| &snapshot.manifest_list);
        if log.chain(lists).chain([location]).any(|file| file.contains(&self.uuid)) {
            return Ok(true);
        }
        let mut seen = BTreeSet::new();
        for snapshot in metadata.snapshots.iter().rev() {
            for manifest in manifests_of(storage, snapshot)? {
                if !seen.insert(manifest.path.clone()) {
                    continue;
                }
                let entries = entries_of(storage, &manifest)?;
                let mut present = entries.iter().filter(|entry| entry.status != Status::Deleted);
                if present.any(|entry| self.data.contains(&entry.file.path)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Commits nothing, so that no commit which is based on an earlier version can be done; returns the version after it.
fn fenced(warehouse: &Warehouse, kind: Kind, output: &str, now: i64) -> Result<TableVersion> {
    loop {
        let gone = || Error::failed(format!("{}: {}: the table was removed", warehouse.shown, kind.table()));
        let version = warehouse.find(kind)?.ok_or_else(gone)?;
        let properties = [(format!("{FENCE}{output}"), random_uuid().to_string())].into();
        let change = TableChange { properties, ..TableChange::default() };
        // Each attempt that fails is the commit of another run.
        if TableCommit::new(warehouse, kind, &version, &[])?.run(&change, now)? {
            return warehouse.find(kind)?.ok_or_else(gone);
        }
    }
}
