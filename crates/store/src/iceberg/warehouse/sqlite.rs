//! The rows of a catalog in SQLite.

use super::catalog::{CatalogRows, Swapped, TABLES, TableKey};
use crate::sqlite::file::SqliteFile;
use evt_core::error::{Error, Result};
use evt_run::storage::access;
use evt_run::storage::disk::Disk;
use rusqlite::{OpenFlags, OptionalExtension, params};

/// A catalog in a file.
pub struct SqliteCatalog {
    /// The file.
    pub file: SqliteFile,
    /// How it is made.
    pub disk: Disk,
}

impl CatalogRows for SqliteCatalog {
    fn check(&self) -> Result<()> {
        if self.file.path().exists() {
            return self.file.check_room();
        }
        let directory = access::parent(self.file.path());
        let room = access::check_directory(directory);
        room.map_err(|error| Error::io(format!("iceberg:{}: cannot make the directory", directory.display()), &error))
    }

    fn exists(&self) -> Result<bool> {
        Ok(self.file.path().exists())
    }

    fn create(&self, key: &TableKey) -> Result<()> {
        let directory = access::parent(self.file.path());
        let made = self.disk.create_directories(directory);
        made.map_err(crate::lake::disk::failed(directory, "cannot make the directory"))?;
        self.file.create(&self.disk)?;
        let db = self.file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        let cannot = self.file.failed("cannot make the catalog");
        db.execute_batch(TABLES).map_err(&cannot)?;
        let namespace = "INSERT OR IGNORE INTO iceberg_namespace_properties VALUES (?, ?, 'exists', 'true')";
        db.execute(namespace, params![key.catalog, key.namespace]).map(|_| ()).map_err(&cannot)
    }

    fn location(&self, key: &TableKey) -> Result<Option<String>> {
        if !self.exists()? {
            return Ok(None);
        }
        let db = self.file.connect_to_read()?;
        let cannot = self.file.failed("cannot read the catalog");
        let query = "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? AND \
                     table_name = ?";
        let has_tables = "SELECT count(*) > 0 FROM sqlite_master WHERE name = 'iceberg_tables'";
        if !db.query_row(has_tables, [], |row| row.get::<_, bool>(0)).map_err(&cannot)? {
            return Ok(None);
        }
        let values = params![key.catalog, key.namespace, key.table];
        let found = db.query_row(query, values, |row| row.get::<_, Option<String>>(0)).optional();
        Ok(found.map_err(&cannot)?.flatten())
    }

    fn insert(&self, key: &TableKey, location: &str) -> Result<bool> {
        let db = self.file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let row = "INSERT OR IGNORE INTO iceberg_tables VALUES (?, ?, ?, ?, NULL, 'TABLE')";
        let made = db.execute(row, params![key.catalog, key.namespace, key.table, location]);
        Ok(made.map_err(self.file.failed("cannot make the table"))? == 1)
    }

    fn swap(&self, key: &TableKey, base: &str, next: &str) -> Result<Swapped> {
        let db = self.file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let query = "UPDATE iceberg_tables SET metadata_location = ?1, previous_metadata_location = ?2 WHERE \
                     catalog_name = ?3 AND table_namespace = ?4 AND table_name = ?5 AND metadata_location = ?2";
        let changed = db.execute(query, params![next, base, key.catalog, key.namespace, key.table]);
        let is_done = changed.map_err(self.file.failed("cannot commit"))? == 1;
        Ok(if is_done { Swapped::Done } else { Swapped::Late })
    }
}
