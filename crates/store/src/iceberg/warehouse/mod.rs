//! A warehouse: its catalog, and the files that describe its tables.
//!
//! ```text
//! DIR/catalog.db                                     the catalog: which metadata.json each table has, in the layout of
//!                                                    PyIceberg's SqlCatalog (catalog `evt`)
//! DIR/NAMESPACE/TABLE/metadata/N-UUID.metadata.json  a version of a table
//! DIR/NAMESPACE/TABLE/metadata/*.avro                lists of manifests, and manifests
//! DIR/NAMESPACE/TABLE/data/                          files of rows, with the directory `.evt` of a lake
//! DIR/NAMESPACE/.evt/                                what evt keeps beside the tables
//! ```
//!
//! Iceberg names files by absolute paths: a warehouse cannot be moved. The catalog may be in a database or a server
//! instead (`settings.rs`), and the tables in a bucket (`storage.rs`). `catalog.rs` is the contract of catalogs, which
//! `sqlite.rs`, `postgres.rs` and `rest.rs` keep. `names.rs` makes names that are never used again.

pub mod catalog;
pub mod names;
mod postgres;
mod rest;
mod settings;
mod sqlite;
pub mod storage;

use self::catalog::{Catalog, NextVersion, TableVersion};
use self::names::random_uuid;
use self::settings::NamedCatalog;
use crate::progress::PipelineMetrics;
use crate::repeat::has_content;
use arrow::datatypes::{Field, SchemaRef};
use evt_core::error::{Error, Result};
use evt_core::format::parquet::TableColumns;
use evt_core::iceberg::metadata::{NewTable, PartitionField, PartitionSpec, SortField};
use evt_core::iceberg::schema::TableSchema;
use evt_core::kind::Kind;
use evt_run::client::Location;
use evt_run::storage::disk::Disk;
use serde::Serialize;
use std::rc::Rc;
use std::sync::Arc;

/// The scheme of its URIs.
pub const SCHEME: &str = "iceberg";
/// The options of its URIs.
pub const OPTIONS: [&str; 6] = ["as-of", "columns", "create", "namespace", "snapshot", "table"];
/// The property of a table with the kind of its rows.
pub const KIND: &str = "evt.kind";

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

/// Returns the columns of properties of a version, if rows of a kind have properties and there are columns, or files
/// may add some.
pub fn property_columns(version: &TableVersion, kind: Kind, may_add: bool) -> Result<Option<TableColumns>> {
    let schema = version.metadata.schema()?;
    let columns = if has_content(kind) { schema.properties() } else { vec![] };
    if columns.is_empty() && !may_add {
        return Ok(None);
    }
    let names = schema.fields.iter().map(|column| &*column.name);
    Ok(Some(TableColumns::new(columns, names, version.metadata.last_column_id, may_add)))
}

/// Returns the columns of files of a version that are properties.
pub fn property_fields(version: &TableVersion, kind: Kind) -> Result<Arc<[Field]>> {
    let columns = property_columns(version, kind, false)?;
    Ok(columns.iter().flat_map(TableColumns::all).map(|column| column.field()).collect())
}

/// The tables of a namespace of a catalog.
#[derive(Clone)]
pub struct Warehouse {
    catalog: Rc<dyn Catalog>,
    /// The only table, if the URI names one.
    table: Option<String>,
    /// Whether it may get tables (`create=no`).
    may_create: bool,
    /// What messages call it.
    pub shown: String,
}

impl Warehouse {
    /// Returns the warehouse of a URI. Errors: exit status 2 for a wrong URI or an unknown option, 78 for a wrong
    /// section of the `--config` file.
    pub fn of(location: &Location, disk: &Disk) -> Result<Self> {
        location.check_options(SCHEME, &OPTIONS)?;
        let may_create = match location.option("create") {
            None => true,
            Some("no") => false,
            Some(other) => return Err(Error::usage(format!("{location}: create: expected no, found '{other}'"))),
        };
        let NamedCatalog { catalog, table, shown } = settings::catalog(location, disk)?;
        Ok(Self { catalog, table, may_create, shown })
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
        self.catalog.check()?;
        match self.exists()? {
            true => Kind::ALL.into_iter().try_for_each(|kind| self.find(kind).map(|_| ())),
            false if self.may_create => Ok(()),
            false => Err(Error::usage(format!("{}: there are no tables, and create=no allows none", self.shown))),
        }
    }

    /// Whether it has a catalog.
    pub fn exists(&self) -> Result<bool> {
        self.catalog.exists()
    }

    /// Makes the catalog, if there is none and it may have tables.
    pub fn create(&self) -> Result<()> {
        if self.may_create { self.catalog.create() } else { Ok(()) }
    }

    /// Returns the name of the table of a kind.
    fn name(&self, kind: Kind) -> &str {
        self.table.as_deref().unwrap_or(kind.table())
    }

    /// Returns the present version of a table; `None` if there is none. Errors: exit status 65 if it is damaged, 78 if
    /// the warehouse was moved.
    pub fn find(&self, kind: Kind) -> Result<Option<TableVersion>> {
        let found = self.catalog.find(self.name(kind))?;
        // A URI that names one table does not say its kind.
        let is_other = |version: &TableVersion| {
            let of = version.metadata.properties.get(KIND);
            self.table.is_some() && of.is_some_and(|of| of != kind.name())
        };
        Ok(found.filter(|version| !is_other(version)))
    }

    /// Returns the present version of a table; makes the table if there is none. Errors: also exit status 2 if there
    /// may be none.
    pub fn find_or_create(&self, kind: Kind, micros: i64) -> Result<TableVersion> {
        if let Some(found) = self.find(kind)? {
            return Ok(found);
        }
        if !self.may_create {
            let message = format!("{}: there is no table {}, and create=no allows none", self.shown, self.name(kind));
            return Err(Error::usage(message));
        }
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
        let new = NewTable {
            order: order.collect(),
            uuid: random_uuid().to_string(),
            location: String::new(),
            schema,
            last_column,
            partitions: PartitionSpec { spec_id: 0, fields: vec![day] },
            millis: micros.div_euclid(1000),
            properties: [(KIND.to_owned(), kind.name().to_owned())].into(),
        };
        self.catalog.create_table(self.name(kind), new)?;
        let other = || Error::usage(format!("{}: expected a table of rows of kind {kind}", self.shown));
        self.find(kind)?.ok_or_else(other)
    }

    /// Whether a commit that only sets properties needs a snapshot to be judged on the version that it is based on.
    pub fn needs_snapshots(&self) -> bool {
        self.catalog.needs_snapshots()
    }

    /// Makes a version the present one, if the present one is still its base; returns whether it is. After an error it
    /// may be the present one or not.
    pub fn commit(&self, kind: Kind, next: NextVersion<'_>) -> Result<bool> {
        self.catalog.commit(self.name(kind), next)
    }
}

/// Returns the directory of what evt keeps beside a table, outside of its location, and how the names of its files
/// begin.
fn beside(version: &TableVersion) -> (String, String) {
    let location = &version.metadata.location;
    let (parent, table) = location.rsplit_once('/').unwrap_or(("", location));
    let directory = format!("{parent}/.evt");
    let prefix = format!("{directory}/corrections-{table}-");
    (directory, prefix)
}

/// Writes a state of corrections beside a table; returns its URI.
pub fn write_beside(version: &TableVersion, state: &impl Serialize) -> Result<String> {
    let (_, prefix) = beside(version);
    let uri = format!("{prefix}{}.json", random_uuid());
    let json = serde_json::to_vec(state).map_err(|error| Error::broken("a state of corrections").because(error))?;
    version.storage.write(&uri, &json).map(|()| uri)
}

/// Removes the states of a table but this one.
pub fn keep_beside(version: &TableVersion, present: &str) -> Result<()> {
    let (directory, prefix) = beside(version);
    for file in version.storage.list(&directory)? {
        if file.uri != present && file.uri.starts_with(&prefix) {
            version.storage.remove(&file.uri)?;
        }
    }
    Ok(())
}
