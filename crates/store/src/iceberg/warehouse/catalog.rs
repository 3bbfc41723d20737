//! The contract of catalogs: which version a table has.

use super::names::random_uuid;
use super::storage::{TableStorage, local_path, shown};
use evt_core::error::{Error, Result};
use evt_core::iceberg::metadata::{MetadataLogEntry, NewTable, Snapshot, TableMetadata};
use evt_core::iceberg::schema::TableSchema;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The versions before that a table names; older files are removed.
pub const VERSIONS_BEFORE: usize = 100;

/// A version of a table.
#[derive(Clone)]
pub struct TableVersion {
    /// What it says.
    pub metadata: TableMetadata,
    /// The URI of its file, as the catalog has it.
    pub location: String,
    /// Access to its files.
    pub storage: TableStorage,
}

impl TableVersion {
    /// Whether it may have rows. A snapshot may have none: the fence of a killed run, the claim of a correction.
    pub fn may_have_rows(&self) -> bool {
        let has_rows = |snapshot: &Snapshot| snapshot.summary.get("total-records").is_none_or(|rows| rows != "0");
        self.metadata.snapshot().is_some_and(has_rows)
    }

    /// Returns the URI of a file of its metadata.
    pub fn metadata_uri(&self, name: &str) -> String {
        format!("{}/metadata/{name}", self.metadata.location)
    }

    /// Returns the URI of the directory of its files of rows.
    pub fn data_uri(&self) -> String {
        format!("{}/data", self.metadata.location)
    }

    /// Whether it is the version at a URI, or was made after it.
    pub fn follows(&self, location: &str) -> bool {
        self.location == location || self.metadata.metadata_log.iter().any(|version| version.metadata_file == location)
    }

    /// Returns the directory of the table, if it is on this machine.
    pub fn directory(&self) -> Option<PathBuf> {
        local_path(&self.metadata.location)
    }
}

/// The version after another one.
pub struct NextVersion<'a> {
    /// That one.
    pub base: &'a TableVersion,
    /// What it says, but for the log of the versions before.
    pub metadata: TableMetadata,
    /// What the names of its files contain.
    pub uuid: &'a str,
    /// Its schema, if that is another one than before.
    pub schema: Option<&'a TableSchema>,
    /// The snapshot that it adds.
    pub snapshot: Option<&'a Snapshot>,
    /// Those that it forgets.
    pub expired: &'a BTreeSet<i64>,
    /// Its new properties.
    pub properties: &'a BTreeMap<String, String>,
}

/// A catalog of the tables of one namespace.
pub trait Catalog {
    /// Checks that tables could be made or changed; changes nothing.
    fn check(&self) -> Result<()>;

    /// Whether there is one.
    fn exists(&self) -> Result<bool>;

    /// Makes it, or what it needs for its namespace, if that is missing.
    fn create(&self) -> Result<()>;

    /// Whether a commit that only sets properties needs a snapshot to be judged on the version that it is based on.
    fn needs_snapshots(&self) -> bool;

    /// Returns the present version of a table; `None` if there is none. Errors: exit status 65 if it is damaged.
    fn find(&self, table: &str) -> Result<Option<TableVersion>>;

    /// Makes a table where the catalog chooses; returns the present version if another run was faster.
    fn create_table(&self, table: &str, new: NewTable) -> Result<TableVersion>;

    /// Makes a version the present one, if the present one is still its base; returns whether it is. After an error it
    /// may be the present one or not.
    fn commit(&self, table: &str, next: NextVersion<'_>) -> Result<bool>;
}

/// The row of a table in a catalog in a database.
#[derive(Clone, Debug)]
pub struct TableKey {
    /// The name of the catalog.
    pub catalog: String,
    /// The namespace.
    pub namespace: String,
    /// The table; empty for what concerns the namespace.
    pub table: String,
}

/// The tables of a catalog, as PyIceberg makes them.
pub const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS iceberg_tables (
        catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL,
        metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5),
        PRIMARY KEY (catalog_name, table_namespace, table_name));
    CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
        catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL, property_key VARCHAR(255) NOT NULL,
        property_value VARCHAR(1000) NOT NULL, PRIMARY KEY (catalog_name, namespace, property_key));";

/// The rows of a catalog in a database, in the layout of PyIceberg's SqlCatalog.
pub trait CatalogRows {
    /// See [`Catalog::check`].
    fn check(&self) -> Result<()>;

    /// See [`Catalog::exists`].
    fn exists(&self) -> Result<bool>;

    /// See [`Catalog::create`].
    fn create(&self, key: &TableKey) -> Result<()>;

    /// Returns the URI of the present version of a table; `None` if there is none.
    fn location(&self, key: &TableKey) -> Result<Option<String>>;

    /// Adds a table; returns whether there was none.
    fn insert(&self, key: &TableKey, location: &str) -> Result<bool>;

    /// Replaces the URI of the present version, if it is still `base`.
    fn swap(&self, key: &TableKey, base: &str, next: &str) -> Result<Swapped>;
}

/// What became of the URI of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// It is replaced.
    Done,
    /// It was another one.
    Late,
    /// It was another one; an earlier attempt, whose answer was lost, may have replaced it.
    Unknown,
}

/// A catalog in a database.
pub struct SqlCatalog<R> {
    /// Its rows.
    pub rows: R,
    /// The files of its tables.
    pub storage: TableStorage,
    /// Its name, and the namespace.
    pub key: TableKey,
    /// The URI of the directory of new tables.
    pub root: String,
    /// The directory, if it has the catalog, too.
    pub directory: Option<PathBuf>,
}

impl<R> SqlCatalog<R> {
    fn key(&self, table: &str) -> TableKey {
        TableKey { table: table.to_owned(), ..self.key.clone() }
    }

    /// Reads a version. Errors: exit status 78 if the warehouse was moved.
    fn read(&self, location: String) -> Result<TableVersion> {
        if let Some(root) = &self.directory
            && !local_path(&location).is_some_and(|path| path.starts_with(root))
        {
            let message = format!(
                "iceberg:{}: the catalog names {}; a warehouse cannot be moved or copied, because tables of Iceberg name \
                 their files by absolute paths",
                root.display(),
                shown(&location)
            );
            return Err(Error::config(message));
        }
        let metadata = TableMetadata::parse(&self.storage.read(&location)?, &shown(&location))?;
        Ok(TableVersion { metadata, location, storage: self.storage.clone() })
    }
}

impl<R: CatalogRows> Catalog for SqlCatalog<R> {
    fn check(&self) -> Result<()> {
        self.rows.check()
    }

    fn exists(&self) -> Result<bool> {
        self.rows.exists()
    }

    fn create(&self) -> Result<()> {
        self.rows.create(&self.key)
    }

    fn needs_snapshots(&self) -> bool {
        false
    }

    fn find(&self, table: &str) -> Result<Option<TableVersion>> {
        let location = self.rows.location(&self.key(table))?;
        location.map(|location| self.read(location)).transpose()
    }

    fn create_table(&self, table: &str, new: NewTable) -> Result<TableVersion> {
        self.create()?;
        let location = format!("{}/{}/{table}", self.root, self.key.namespace);
        let metadata = TableMetadata::new(NewTable { location, ..new });
        let mut made = TableVersion { metadata, location: String::new(), storage: self.storage.clone() };
        made.location = made.metadata_uri(&format!("00000-{}.metadata.json", random_uuid()));
        self.storage.write(&made.location, &made.metadata.to_bytes())?;
        if self.rows.insert(&self.key(table), &made.location)? {
            // Runs that were killed before their row left others, and a run that is slower does not need its own.
            for file in self.storage.list(&format!("{}/metadata", made.metadata.location))? {
                let name = file.uri.rsplit('/').next().unwrap_or_default();
                if name.starts_with("00000-") && file.uri != made.location {
                    self.storage.remove(&file.uri)?;
                }
            }
            return Ok(made);
        }
        // Another run was faster.
        self.storage.remove(&made.location)?;
        self.find(table)?.ok_or_else(|| Error::failed(format!("{table}: the table was removed")))
    }

    fn commit(&self, table: &str, next: NextVersion<'_>) -> Result<bool> {
        let NextVersion { base, mut metadata, uuid, .. } = next;
        let before = base.metadata.last_updated_ms;
        metadata.metadata_log.push(MetadataLogEntry { timestamp_ms: before, metadata_file: base.location.clone() });
        let forgotten = metadata.metadata_log.len().saturating_sub(VERSIONS_BEFORE);
        let forgotten: Vec<_> = metadata.metadata_log.drain(..forgotten).collect();
        let name = format!("{:05}-{uuid}.metadata.json", number_of(&base.location) + 1);
        let location = base.metadata_uri(&name);
        self.storage.write(&location, &metadata.to_bytes())?;
        let is_done = match self.rows.swap(&self.key(table), &base.location, &location)? {
            Swapped::Done => true,
            Swapped::Late => false,
            Swapped::Unknown => self.find(table)?.is_some_and(|version| version.follows(&location)),
        };
        match is_done {
            true => forgotten.iter().try_for_each(|version| self.storage.remove(&version.metadata_file))?,
            false => self.storage.remove(&location)?,
        }
        Ok(is_done)
    }
}

/// Returns the number in the name of a version, as other writers count, too.
fn number_of(location: &str) -> u64 {
    let name = location.rsplit('/').next().unwrap_or_default();
    name.split('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
