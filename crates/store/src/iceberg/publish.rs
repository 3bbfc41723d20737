//! Parts become files of a table: they get names that are never used again, and a commit adds them.

use crate::iceberg::commit::{TableChange, TableCommit};
use crate::iceberg::describe::describe;
use crate::iceberg::pending::PendingCommit;
use crate::iceberg::warehouse::{TableVersion, Warehouse, order, random, uri};
use crate::lake::directory::{Lake, LakePart};
use crate::lake::read::LakeFile;
use evt_core::error::Result;
use evt_core::iceberg::manifest::DataFile;
use evt_core::kind::Kind;

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
}

impl Publication<'_> {
    /// Names finished parts, and returns what manifests say of them.
    pub fn describe(&self, lake: &Lake, parts: &mut [LakePart]) -> Result<Vec<DataFile>> {
        let (schema, sort_order) = (self.base.metadata.schema()?, self.base.metadata.order_by(order(self.kind)));
        let mut files = vec![];
        for (number, part) in parts.iter_mut().enumerate() {
            part.name = format!("{:016x}-{number}-{}", random(), part.name);
            part.replace = false;
            let file = LakeFile::of_part(lake, part, self.kind)?;
            let described = describe(&file, uri(&lake.file(part.day, &part.name)), part.day, schema)?;
            files.push(DataFile { sort_order, ..described });
        }
        Ok(files)
    }

    /// Gives parts their names and commits them, now (µs); returns whether no other commit came first. If one did, the
    /// parts are parts again.
    pub fn commit(&self, lake: &mut Lake, parts: &[LakePart], change: &TableChange, now: i64) -> Result<bool> {
        let commit = TableCommit::new(self.warehouse, self.kind, self.base);
        let data = change.added.iter().map(|file| file.path.clone()).collect();
        let pending = PendingCommit { base: self.base.location.clone(), data, uuid: commit.uuid.clone() };
        pending.write(&lake.dir, self.output)?;
        let names = lake.lock_names()?;
        lake.sync_parts(parts)?;
        for part in parts {
            lake.publish(part)?;
        }
        lake.sync_names()?;
        drop(names);
        let is_done = commit.run(change, now)?;
        if !is_done {
            parts.iter().try_for_each(|part| lake.withdraw(part))?;
        }
        Ok(is_done)
    }
}
