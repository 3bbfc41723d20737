//! The note of a commit that is being made, so that the next run of its output removes what a killed one leaves.

use crate::iceberg::files::{entries_of, manifests_of};
use crate::iceberg::warehouse::{TableVersion, Warehouse};
use crate::lake::disk::{LakeDir, directories, entries, read_json};
use evt_core::error::Result;
use evt_core::iceberg::manifest::Status;
use evt_core::kind::Kind;
use evt_run::storage::disk::Disk;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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

impl PendingCommit {
    /// Returns the path of the note of an output.
    fn path(dir: &LakeDir, output: &str) -> PathBuf {
        dir.hidden(&format!("{output}.pending"))
    }

    /// Whether an output has a note in the directory of a table's files of rows.
    pub fn is_left(data: &Path, output: &str) -> bool {
        let dir = LakeDir { root: data.to_owned(), disk: Disk::default() };
        Self::path(&dir, output).exists()
    }

    /// Reads the notes of all outputs of a table.
    pub fn all(data: &Path) -> Result<Vec<Self>> {
        let (mut all, hidden) = (vec![], data.join(".evt"));
        let mut paths = entries(&hidden)?;
        for directory in directories(paths.clone())? {
            paths.extend(entries(&directory)?);
        }
        for path in paths {
            if path.extension().is_some_and(|extension| extension == "pending") {
                // Its commit may be done meanwhile.
                all.extend(read_json::<Self>(&path)?);
            }
        }
        Ok(all)
    }

    /// Writes the note, before the first of the files has its name.
    pub fn write(&self, dir: &LakeDir, output: &str) -> Result<()> {
        dir.write_json(&Self::path(dir, output), self)
    }

    /// Removes the note of a commit that is done, or that left nothing.
    pub fn forget(dir: &LakeDir, output: &str) -> Result<()> {
        dir.remove(&Self::path(dir, output), fs::remove_file)
    }

    /// Removes what a killed run of an output has left. The table is locked.
    pub fn clean(warehouse: &Warehouse, kind: Kind, dir: &LakeDir, output: &str) -> Result<()> {
        let Some(pending) = read_json::<Self>(&Self::path(dir, output))? else { return Ok(()) };
        let is_named = match warehouse.find(kind)? {
            Some(version) if version.location != pending.base => pending.is_named_by(&version)?,
            _ => false,
        };
        if !is_named {
            pending.data.iter().try_for_each(|file| warehouse.remove(file))?;
            warehouse.remove_metadata(kind, |name| name.contains(&pending.uuid))?;
        }
        Self::forget(dir, output)
    }

    /// Whether a version, or a snapshot that it has, names a file of the commit.
    fn is_named_by(&self, version: &TableVersion) -> Result<bool> {
        let TableVersion { metadata, location } = version;
        let log = metadata.metadata_log.iter().map(|version| &version.metadata_file);
        let lists = metadata.snapshots.iter().map(|snapshot| &snapshot.manifest_list);
        if log.chain(lists).chain([location]).any(|file| file.contains(&self.uuid)) {
            return Ok(true);
        }
        let mut seen = BTreeSet::new();
        for snapshot in metadata.snapshots.iter().rev() {
            for manifest in manifests_of(snapshot)? {
                if !seen.insert(manifest.path.clone()) {
                    continue;
                }
                let entries = entries_of(&manifest)?;
                let mut present = entries.iter().filter(|entry| entry.status != Status::Deleted);
                if present.any(|entry| self.data.contains(&entry.file.path)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
