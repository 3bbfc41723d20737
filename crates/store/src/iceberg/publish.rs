//! Parts become files of a table: they get names that are never used again, and a commit adds them.

use crate::iceberg::commit::{TableChange, TableCommit, extended};
use crate::iceberg::describe::describe;
use crate::iceberg::pending::PendingCommit;
use crate::iceberg::warehouse::catalog::TableVersion;
use crate::iceberg::warehouse::names::random;
use crate::iceberg::warehouse::{Warehouse, order};
use crate::lake::directory::{Lake, LakePart};
use crate::lake::disk::{EXTENSION, day_name};
use crate::lake::read::file::LakeFile;
use evt_core::error::{Error, Result};
use evt_core::format::parquet::TableColumn;
use evt_core::iceberg::manifest::DataFile;
use evt_core::kind::Kind;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where a run writes files of rows before a commit names them.
pub enum DataDir {
    /// The directory of the table.
    OfTable(PathBuf),
    /// A directory of its own, if the table is in a bucket.
    Temporary(TempDir),
}

impl DataDir {
    /// Chooses it for a table. Errors: exit status 74 if it cannot be made.
    pub fn of(version: &TableVersion) -> Result<Self> {
        match version.directory() {
            Some(directory) => Ok(Self::OfTable(directory.join("data"))),
            None => {
                let made = tempfile::Builder::new().prefix("evt-iceberg-").tempdir();
                made.map(Self::Temporary).map_err(|error| Error::io("cannot make a temporary directory", &error))
            }
        }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        match self {
            Self::OfTable(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

/// A commit of a table that is based on a version.
#[derive(Clone, Copy)]
pub struct Publication<'a> {
    /// The warehouse.
    pub warehouse: &'a Warehouse,
    /// The kind of the rows of the table.
    pub kind: Kind,
    /// The version.
    pub base: &'a TableVersion,
    /// The output that commits, by which the next run finds what this one leaves if it is killed.
    pub output: &'a str,
    /// The columns that the table gets.
    pub columns: &'a [TableColumn],
}

impl Publication<'_> {
    /// Returns the URI of the file that a part becomes.
    fn uri(&self, part: &LakePart) -> String {
        format!("{}/{}/{}.{EXTENSION}", self.base.data_uri(), day_name(part.day), part.name)
    }

    /// Names finished parts, and returns what manifests say of them.
    pub fn describe(&self, lake: &Lake, parts: &mut [LakePart]) -> Result<Vec<DataFile>> {
        let (schema, sort_order) = (extended(self.base, self.columns)?, self.base.metadata.order_by(order(self.kind)));
        let mut files = vec![];
        for (number, part) in parts.iter_mut().enumerate() {
            part.name = format!("{:016x}-{number}-{}", random(), part.name);
            part.replace = false;
            let file = LakeFile::of_part(lake, part, self.kind)?;
            let described = describe(&file, self.uri(part), part.day, &schema)?;
            files.push(DataFile { sort_order, ..described });
        }
        Ok(files)
    }

    /// Gives parts their names and commits them, now (µs); returns whether no other commit came first. If one did, the
    /// parts are parts again.
    pub fn commit(&self, lake: &mut Lake, parts: &[LakePart], change: &TableChange, now: i64) -> Result<bool> {
        let commit = TableCommit::new(self.warehouse, self.kind, self.base, self.columns)?;
        let data = change.added.iter().map(|file| file.path.clone()).collect();
        let pending = PendingCommit { base: self.base.location.clone(), data, uuid: commit.uuid.clone() };
        pending.write(self.base, self.output)?;
        let is_here = self.base.directory().is_some();
        match is_here {
            true => publish(lake, parts)?,
            false => {
                let upload = |part: &LakePart| (lake.dir.hidden(&part.part), self.uri(part));
                self.base.storage.upload(&Vec::from_iter(parts.iter().map(upload)))?;
            }
        }
        let is_done = commit.run(change, now)?;
        parts.iter().try_for_each(|part| match (is_done, is_here) {
            (true, true) => Ok(()),
            (true, false) => lake.remove_hidden(&part.part),
            (false, true) => lake.withdraw(part),
            (false, false) => self.base.storage.remove(&self.uri(part)),
        })?;
        Ok(is_done)
    }
}

/// Gives parts their names in the directory of the table.
fn publish(lake: &mut Lake, parts: &[LakePart]) -> Result<()> {
    let _names = lake.lock_names()?;
    lake.sync_parts(parts)?;
    for part in parts {
        lake.publish(part)?;
    }
    lake.sync_names()
}
