//! A warehouse in a directory: its catalog and the files that describe its tables.
//!
//! ```text
//! DIR/catalog.db                                     the catalog: which metadata.json each table has, in the layout of
//!                                                    PyIceberg's SqlCatalog (catalog `evt`)
//! DIR/NAMESPACE/TABLE/metadata/N-UUID.metadata.json  a version of a table
//! DIR/NAMESPACE/TABLE/metadata/*.avro                lists of manifests, and manifests
//! DIR/NAMESPACE/TABLE/data/                          files of rows, with the directory `.evt` of a lake
//! ```
//!
//! Iceberg names files by absolute paths: a warehouse cannot be moved.

use crate::lake::disk::{LakeDir, entries, failed};
use crate::progress::PipelineMetrics;
use crate::sqlite::file::SqliteFile;
use arrow::datatypes::SchemaRef;
use evt_core::error::{Error, Result};
use evt_core::iceberg::metadata::{NewTable, PartitionField, PartitionSpec, SortField, TableMetadata};
use evt_core::iceberg::schema::TableSchema;
use evt_core::kind::Kind;
use evt_run::client::Location;
use evt_run::storage::disk::Disk;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::Serialize;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The scheme of its URIs.
pub const SCHEME: &str = "iceberg";
/// The options of its URIs.
pub const OPTIONS: [&str; 4] = ["as-of", "namespace", "snapshot", "table"];
/// The name of the catalog in its tables.
const CATALOG: &str = "evt";
/// The namespace without `?namespace=`.
const NAMESPACE: &str = "evt";
/// The property of a table with the kind of its rows.
pub const KIND: &str = "evt.kind";

/// The tables of the catalog, as PyIceberg makes them.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS iceberg_tables (
        catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL,
        metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5),
        PRIMARY KEY (catalog_name, table_namespace, table_name));
    CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
        catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL, property_key VARCHAR(255) NOT NULL,
        property_value VARCHAR(1000) NOT NULL, PRIMARY KEY (catalog_name, namespace, property_key));";

/// Returns a number, never 0, that no other process has, with high probability.
pub fn random() -> u64 {
    // The standard library's only source of randomness: each new state has other keys.
    RandomState::new().hash_one(0).max(1)
}

/// Returns a UUID for the name of a file.
pub fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes((u128::from(random()) << 64 | u128::from(random())).to_be_bytes()).into_uuid()
}

/// Returns the columns by which the rows of a file are ordered; none for rows in the order of their streams.
pub fn order(kind: Kind) -> &'static [&'static str] {
    if kind == Kind::Metric { &["metric_name", "dimensions", "window_start"] } else { &[] }
}

/// The properties that say how far the metrics of a pipeline are begin with it.
pub const METRICS: &str = "evt.metrics.";

/// Returns what a version says of the metrics of each pipeline. Errors: exit status 65 if it is damaged.
pub fn metrics_of(version: &TableVersion) -> Result<Vec<PipelineMetrics>> {
    let metadata = &version.metadata;
    let records = metadata.properties.iter().filter(|(name, _)| name.starts_with(METRICS));
    let read = |(name, text): (&String, &String)| {
        let damaged = || Error::corrupt(format!("{}: property {name} is damaged", metadata.location));
        serde_json::from_str(text).map_err(|error| damaged().because(error))
    };
    records.map(read).collect()
}

/// Returns the schema of files of a version with rows of a kind. Errors: exit status 78 if it has not the columns of
/// the kind, or other partitions.
pub fn fit(version: &TableVersion, kind: Kind) -> Result<SchemaRef> {
    let metadata = &version.metadata;
    let wrong = |why: String| Error::config(format!("{}: {why}", metadata.location));
    let (schema, partitions) = (metadata.schema()?, metadata.partitions()?);
    let time = schema.column(kind.time_column()).map(|column| column.id);
    match &partitions.fields[..] {
        [only] if only.transform == "day" && Some(only.source_id) == time => {}
        _ => return Err(wrong(format!("expected partitions by day of {}", kind.time_column()))),
    }
    schema.numbered(&kind.schema()).map_err(wrong)
}

/// A directory of tables.
#[derive(Clone)]
pub struct Warehouse {
    /// Its absolute path.
    pub root: PathBuf,
    namespace: String,
    catalog: SqliteFile,
    disk: Disk,
}

/// A version of a table.
#[derive(Clone)]
pub struct TableVersion {
    /// What it says.
    pub metadata: TableMetadata,
    /// The URI of its file, as the catalog has it.
    pub location: String,
}

impl Warehouse {
    /// Returns the warehouse of a URI. Errors: exit status 2 if it is not a directory, and for an unknown option.
    pub fn of(location: &Location, disk: &Disk) -> Result<Self> {
        location.check_options(SCHEME, &OPTIONS)?;
        let path = &location.path;
        if !path.ends_with('/') {
            return Err(Error::usage(format!(
                "{location}: expected iceberg:DIR/, a directory with a slash at the end; catalogs that are servers are \
                 not supported yet"
            )));
        }
        if path.contains(['?', '#', '%']) {
            return Err(Error::usage(format!("{location}: readers of Iceberg take no path with ?, # or %")));
        }
        let given = Path::new(path);
        let root = match fs::canonicalize(given) {
            Ok(root) => root,
            Err(_) => std::path::absolute(given).map_err(failed(given, "cannot find"))?,
        };
        let catalog = root.join("catalog.db").display().to_string();
        let catalog =
            SqliteFile::try_new(&Location { scheme: "sqlite".to_owned(), path: catalog, ..Location::default() })?;
        let namespace = location.option("namespace").unwrap_or(NAMESPACE).to_owned();
        if namespace.is_empty() || namespace.contains(['/', '.']) {
            return Err(Error::usage(format!("{location}: namespace: expected one name, found '{namespace}'")));
        }
        Ok(Self { root, namespace, catalog, disk: disk.clone() })
    }

    /// Returns the warehouse of the URI of an output. Errors: also exit status 2 for an option that chooses a snapshot.
    pub fn of_output(location: &Location, disk: &Disk) -> Result<Self> {
        match ["as-of", "snapshot"].into_iter().find(|name| location.option(name).is_some()) {
            Some(name) => Err(Error::usage(format!("{location}: {name}= is an option of inputs only"))),
            None => Self::of(location, disk),
        }
    }

    /// Checks that tables could be made or changed; creates nothing.
    pub fn check(&self) -> Result<()> {
        if self.catalog.path().exists() {
            self.catalog.check_room()?;
            return Kind::ALL.into_iter().try_for_each(|kind| self.find(kind).map(|_| ()));
        }
        let room = evt_run::storage::access::check_directory(&self.root);
        room.map_err(|error| Error::io(format!("iceberg:{}: cannot make the directory", self.root.display()), &error))
    }

    /// Whether it has a catalog.
    pub fn exists(&self) -> bool {
        self.catalog.path().exists()
    }

    /// Makes the directory and the catalog, if there are none.
    pub fn create(&self) -> Result<()> {
        self.disk.create_directories(&self.root).map_err(failed(&self.root, "cannot make the directory"))?;
        self.catalog.create(&self.disk)?;
        let db = self.catalog.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        let cannot = self.catalog.failed("cannot make the catalog");
        db.execute_batch(TABLES).map_err(&cannot)?;
        let namespace = "INSERT OR IGNORE INTO iceberg_namespace_properties VALUES (?, ?, 'exists', 'true')";
        db.execute(namespace, params![CATALOG, self.namespace]).map(|_| ()).map_err(&cannot)
    }

    /// Returns the directory of a table.
    pub fn directory(&self, kind: Kind) -> PathBuf {
        self.root.join(&self.namespace).join(kind.table())
    }

    /// Returns the directory of its metadata, whose files are written by [`LakeDir::disk`].
    fn metadata_dir(&self, kind: Kind) -> LakeDir {
        LakeDir { root: self.directory(kind).join("metadata"), disk: self.disk.clone() }
    }

    /// Returns the present version of a table; `None` if there is none. Errors: exit status 65 if it is damaged, 78 if
    /// the warehouse was moved.
    pub fn find(&self, kind: Kind) -> Result<Option<TableVersion>> {
        if !self.exists() {
            return Ok(None);
        }
        let db = self.catalog.connect_to_read()?;
        let Some(location) = self.location(&db, kind)? else { return Ok(None) };
        let path = local_path(&location)?;
        if !path.starts_with(&self.root) {
            let message = format!(
                "iceberg:{}: the catalog names {}; a warehouse cannot be moved or copied, because tables of Iceberg name \
                 their files by absolute paths",
                self.root.display(),
                path.display()
            );
            return Err(Error::config(message));
        }
        let bytes = read(&location)?;
        let metadata = TableMetadata::parse(&bytes, &path.display().to_string())?;
        Ok(Some(TableVersion { metadata, location }))
    }

    fn location(&self, db: &Connection, kind: Kind) -> Result<Option<String>> {
        let cannot = self.catalog.failed("cannot read the catalog");
        let query = "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? AND \
                     table_name = ?";
        let key = params![CATALOG, self.namespace, kind.table()];
        let has_tables = "SELECT count(*) > 0 FROM sqlite_master WHERE name = 'iceberg_tables'";
        if !db.query_row(has_tables, [], |row| row.get::<_, bool>(0)).map_err(&cannot)? {
            return Ok(None);
        }
        let found = db.query_row(query, key, |row| row.get::<_, Option<String>>(0)).optional();
        Ok(found.map_err(&cannot)?.flatten())
    }

    /// Returns the present version of a table; makes the table if there is none.
    pub fn find_or_create(&self, kind: Kind, micros: i64) -> Result<TableVersion> {
        if let Some(found) = self.find(kind)? {
            return Ok(found);
        }
        self.create()?;
        let (schema, last_column) = TableSchema::of(&kind.schema())?;
        let source_id = schema.column(kind.time_column()).map_or(0, |column| column.id);
        let name = format!("{}_day", kind.time_column());
        let day = PartitionField { source_id, field_id: 1000, name, transform: "day".to_owned() };
        let order = order(kind).iter().filter_map(|name| schema.column(name)).map(|column| SortField {
            transform: "identity".to_owned(),
            source_id: column.id,
            direction: "asc".to_owned(),
            null_order: "nulls-first".to_owned(),
        });
        let metadata = TableMetadata::new(NewTable {
            order: order.collect(),
            uuid: random_uuid().to_string(),
            location: uri(&self.directory(kind)),
            schema,
            last_column,
            partitions: PartitionSpec { spec_id: 0, fields: vec![day] },
            millis: micros.div_euclid(1000),
            properties: [(KIND.to_owned(), kind.name().to_owned())].into(),
        });
        let name = format!("00000-{}.metadata.json", random_uuid());
        let location = self.write(kind, &name, &metadata.to_bytes())?;
        let db = self.catalog.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let row = "INSERT OR IGNORE INTO iceberg_tables VALUES (?, ?, ?, ?, NULL, 'TABLE')";
        let made = db.execute(row, params![CATALOG, self.namespace, kind.table(), location]);
        if made.map_err(self.catalog.failed("cannot make the table"))? == 1 {
            // Runs that were killed before their row left others, and a run that is slower does not need its own.
            self.remove_metadata(kind, |name| name.starts_with("00000-") && !location.ends_with(name))?;
            return Ok(TableVersion { metadata, location });
        }
        // Another run was faster.
        self.remove(&location)?;
        self.find(kind)?
            .ok_or_else(|| Error::failed(format!("{}: the table was removed", self.directory(kind).display())))
    }

    /// Removes the files of metadata with these names.
    pub fn remove_metadata(&self, kind: Kind, is_removed: impl Fn(&str) -> bool) -> Result<()> {
        let dir = self.metadata_dir(kind);
        for path in entries(&dir.root)? {
            if path.file_name().and_then(|name| name.to_str()).is_some_and(&is_removed) {
                dir.remove(&path, fs::remove_file)?;
            }
        }
        Ok(())
    }

    /// Writes a file of metadata; returns its URI.
    pub fn write(&self, kind: Kind, name: &str, bytes: &[u8]) -> Result<String> {
        let dir = self.metadata_dir(kind);
        dir.disk.create_directories(&dir.root).map_err(failed(&dir.root, "cannot make the directory"))?;
        let path = dir.root.join(name);
        let written = dir.disk.write_whole(&path, &path.with_added_extension("new"), bytes);
        written.map_err(failed(&path, "cannot write"))?;
        Ok(uri(&path))
    }

    /// Returns the directory of what evt keeps beside the tables, and how the names of its files begin.
    fn beside(&self) -> (LakeDir, String) {
        (LakeDir { root: self.root.join(".evt"), disk: self.disk.clone() }, format!("corrections-{}-", self.namespace))
    }

    /// Writes a state of corrections beside the tables; returns its URI.
    pub fn write_beside(&self, state: &impl Serialize) -> Result<String> {
        let (dir, prefix) = self.beside();
        dir.disk.create_directories(&dir.root).map_err(failed(&dir.root, "cannot make the directory"))?;
        let path = dir.root.join(format!("{prefix}{}.json", random_uuid()));
        dir.write_json(&path, state)?;
        Ok(uri(&path))
    }

    /// Removes the states but this one.
    pub fn keep_beside(&self, present: &Path) -> Result<()> {
        let (dir, prefix) = self.beside();
        for path in entries(&dir.root)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path != present && name.starts_with(&prefix) {
                dir.remove(&path, fs::remove_file)?;
            }
        }
        Ok(())
    }

    /// Removes a file that nothing names; it need not exist.
    pub fn remove(&self, location: &str) -> Result<()> {
        let dir = LakeDir { root: self.root.clone(), disk: self.disk.clone() };
        dir.remove(&local_path(location)?, fs::remove_file)
    }

    /// Makes a version the present one, if the present one is still `base`; returns whether it was.
    pub fn swap(&self, kind: Kind, base: &str, next: &str) -> Result<bool> {
        let db = self.catalog.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let query = "UPDATE iceberg_tables SET metadata_location = ?1, previous_metadata_location = ?2 WHERE \
                     catalog_name = ?3 AND table_namespace = ?4 AND table_name = ?5 AND metadata_location = ?2";
        let changed = db.execute(query, params![next, base, CATALOG, self.namespace, kind.table()]);
        Ok(changed.map_err(self.catalog.failed("cannot commit"))? == 1)
    }
}

/// Returns the URI of a file.
pub fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Returns the path of a file. Errors: exit status 65 for a file in a bucket.
pub fn local_path(uri: &str) -> Result<PathBuf> {
    let path = uri.strip_prefix("file://").or_else(|| uri.strip_prefix("file:")).unwrap_or(uri);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(Error::corrupt(format!("{uri}: expected a file of this machine")))
}

/// Reads a file of metadata.
pub fn read(uri: &str) -> Result<Vec<u8>> {
    let path = local_path(uri)?;
    fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::corrupt(format!("{}: missing", path.display())),
        _ => failed(&path, "cannot read")(error),
    })
}
