//! `metadata.json`: a table with its schemas, snapshots and properties.

use super::schema::TableSchema;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The members with files of statistics.
const STATISTICS: [&str; 2] = ["statistics", "partition-statistics"];
/// The branch that readers read.
pub const MAIN: &str = "main";
/// The snapshot of a table without one, as some writers have it.
const NO_SNAPSHOT: i64 = -1;

/// What `metadata.json` says. Members that evt does not know stay as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TableMetadata {
    /// 2.
    pub format_version: u8,
    /// The identity of the table.
    pub table_uuid: String,
    /// Where its files are.
    pub location: String,
    /// The greatest sequence number of a snapshot.
    pub last_sequence_number: i64,
    /// When it was written (ms since 1970).
    pub last_updated_ms: i64,
    /// The greatest number of a column.
    pub last_column_id: i32,
    /// All schemas that it had.
    pub schemas: Vec<TableSchema>,
    /// The number of the present one.
    pub current_schema_id: i32,
    /// All rules that divide its rows into partitions.
    pub partition_specs: Vec<PartitionSpec>,
    /// The number of the present one.
    pub default_spec_id: i32,
    /// The greatest number of a field of a partition.
    pub last_partition_id: i32,
    /// All orders of rows within files.
    pub sort_orders: Vec<SortOrder>,
    /// The number of the present one; 0 is none.
    pub default_sort_order_id: i32,
    /// Properties.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// The present snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_snapshot_id: Option<i64>,
    /// The snapshots that can be read.
    #[serde(default)]
    pub snapshots: Vec<Snapshot>,
    /// When each became the present one.
    #[serde(default)]
    pub snapshot_log: Vec<SnapshotLogEntry>,
    /// The files of this kind before.
    #[serde(default)]
    pub metadata_log: Vec<MetadataLogEntry>,
    /// Branches and tags.
    #[serde(default)]
    pub refs: BTreeMap<String, SnapshotRef>,
    /// What evt does not know, such as statistics.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A rule that divides rows into partitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionSpec {
    /// Its number.
    pub spec_id: i32,
    /// Its fields.
    pub fields: Vec<PartitionField>,
}

/// A field of a partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionField {
    /// The number of the column.
    pub source_id: i32,
    /// Its number, from 1000.
    pub field_id: i32,
    /// Its name.
    pub name: String,
    /// The function, such as `day`.
    pub transform: String,
}

/// An order of rows within files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SortOrder {
    /// Its number.
    pub order_id: i32,
    /// Its fields.
    pub fields: Vec<SortField>,
}

/// A field of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SortField {
    /// The function, such as `identity`.
    pub transform: String,
    /// The number of the column.
    pub source_id: i32,
    /// `asc` or `desc`.
    pub direction: String,
    /// `nulls-first` or `nulls-last`.
    pub null_order: String,
}

/// The table at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    /// Its number.
    pub snapshot_id: i64,
    /// That of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_snapshot_id: Option<i64>,
    /// Its place in the order of commits.
    #[serde(default)]
    pub sequence_number: i64,
    /// When it was made (ms since 1970).
    pub timestamp_ms: i64,
    /// The file that lists its manifests.
    pub manifest_list: String,
    /// What was done (`operation`), and counts.
    #[serde(default)]
    pub summary: BTreeMap<String, String>,
    /// The number of the schema then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_id: Option<i32>,
    /// What evt does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// When a snapshot became the present one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotLogEntry {
    /// ms since 1970.
    pub timestamp_ms: i64,
    /// The snapshot.
    pub snapshot_id: i64,
}

/// An earlier `metadata.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MetadataLogEntry {
    /// ms since 1970.
    pub timestamp_ms: i64,
    /// The file.
    pub metadata_file: String,
}

/// A branch or a tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotRef {
    /// Its snapshot.
    pub snapshot_id: i64,
    /// `branch` or `tag`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How long it is kept.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a new table is.
#[derive(Clone, Debug)]
pub struct NewTable {
    /// Its identity, a UUID.
    pub uuid: String,
    /// Where its files are.
    pub location: String,
    /// Its columns, and the greatest number of them and of their parts.
    pub schema: TableSchema,
    /// See there.
    pub last_column: i32,
    /// The rule that divides its rows into partitions.
    pub partitions: PartitionSpec,
    /// The order of rows within its files; empty for none.
    pub order: Vec<SortField>,
    /// When it is made (ms since 1970).
    pub millis: i64,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
}

impl TableMetadata {
    /// Makes a table without rows.
    pub fn new(table: NewTable) -> Self {
        let last_partition_id = table.partitions.fields.iter().map(|field| field.field_id).max().unwrap_or(999);
        Self {
            format_version: 2,
            table_uuid: table.uuid,
            location: table.location,
            last_sequence_number: 0,
            last_updated_ms: table.millis,
            last_column_id: table.last_column,
            current_schema_id: table.schema.id,
            schemas: vec![table.schema],
            default_spec_id: table.partitions.spec_id,
            partition_specs: vec![table.partitions],
            last_partition_id,
            default_sort_order_id: i32::from(!table.order.is_empty()),
            // 0 is always no order.
            sort_orders: vec![match table.order.is_empty() {
                true => SortOrder { order_id: 0, fields: vec![] },
                false => SortOrder { order_id: 1, fields: table.order },
            }],
            properties: table.properties,
            current_snapshot_id: None,
            snapshots: vec![],
            snapshot_log: vec![],
            metadata_log: vec![],
            refs: BTreeMap::new(),
            rest: Map::new(),
        }
    }

    /// Reads `metadata.json`; messages call it `shown`.
    ///
    /// Errors: exit status 65 if it is damaged, or of another version than 2 or 1.
    pub fn parse(bytes: &[u8], shown: &str) -> Result<Self> {
        let damaged = |why: String| Error::corrupt(format!("{shown}: {why}"));
        let value: Value = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        match value.get("format-version").and_then(Value::as_u64) {
            Some(2) => {}
            other => {
                let found = other.map_or_else(|| "none".to_owned(), |version| version.to_string());
                return Err(damaged(format!("expected Iceberg format-version 2, found {found}")));
            }
        }
        serde_json::from_value(value).map_err(|error| damaged(error.to_string()))
    }

    /// Returns the bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A value of these types always serializes.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Returns the present schema. Errors: exit status 65 if it is missing.
    pub fn schema(&self) -> Result<&TableSchema> {
        let present = self.schemas.iter().find(|schema| schema.id == self.current_schema_id);
        present.ok_or_else(|| Error::corrupt(format!("{}: no schema {}", self.location, self.current_schema_id)))
    }

    /// Makes a schema the present one.
    pub fn evolve(&mut self, schema: TableSchema) {
        let last = schema.fields.iter().map(|column| column.id).max().unwrap_or(0);
        self.last_column_id = self.last_column_id.max(last);
        self.current_schema_id = schema.id;
        self.schemas.push(schema);
    }

    /// Returns the present rule of partitions. Errors: exit status 65 if it is missing.
    pub fn partitions(&self) -> Result<&PartitionSpec> {
        let present = self.partition_specs.iter().find(|spec| spec.spec_id == self.default_spec_id);
        present.ok_or_else(|| Error::corrupt(format!("{}: no partition spec {}", self.location, self.default_spec_id)))
    }

    /// Returns the number of an order of rows by these columns, ascending; 0 if the table has none.
    pub fn order_by(&self, columns: &[&str]) -> i32 {
        let Ok(schema) = self.schema() else { return 0 };
        let is_same = |(name, field): (&&str, &SortField)| {
            let column = schema.column(name).map(|column| column.id);
            column == Some(field.source_id) && field.transform == "identity" && field.direction == "asc"
        };
        let is_this = |order: &&SortOrder| {
            !columns.is_empty() && order.fields.len() == columns.len() && columns.iter().zip(&order.fields).all(is_same)
        };
        self.sort_orders.iter().find(is_this).map_or(0, |order| order.order_id)
    }

    /// Returns the present snapshot: that of the branch `main`; `None` if there is none.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        let id = self.refs.get(MAIN).map(|main| main.snapshot_id).or(self.current_snapshot_id)?;
        self.snapshots.iter().find(|snapshot| snapshot.snapshot_id == id && id != NO_SNAPSHOT)
    }

    /// Returns the last snapshot of `main` that was made at an instant (ms) or before; `None` if it is gone, or if
    /// there was none.
    pub fn snapshot_at(&self, millis: i64) -> Option<&Snapshot> {
        let entry = self.snapshot_log.iter().rev().find(|entry| entry.timestamp_ms <= millis)?;
        self.snapshots.iter().find(|snapshot| snapshot.snapshot_id == entry.snapshot_id)
    }

    /// Returns the snapshots from before an instant (ms) that may go: neither the present one, nor one that a branch or
    /// a tag names.
    pub fn older(&self, millis: i64) -> impl Iterator<Item = &Snapshot> {
        let named: BTreeSet<i64> = self.refs.values().map(|named| named.snapshot_id).collect();
        let present = self.snapshot().map(|snapshot| snapshot.snapshot_id);
        self.snapshots.iter().filter(move |snapshot| {
            let id = snapshot.snapshot_id;
            snapshot.timestamp_ms < millis && Some(id) != present && !named.contains(&id)
        })
    }

    /// Forgets snapshots. The log keeps what is after the last of them, so that no instant finds a later snapshot than
    /// it had.
    pub fn forget(&mut self, gone: &BTreeSet<i64>) {
        self.snapshots.retain(|snapshot| !gone.contains(&snapshot.snapshot_id));
        let last = self.snapshot_log.iter().rposition(|entry| gone.contains(&entry.snapshot_id));
        self.snapshot_log.drain(..last.map_or(0, |last| last + 1));
        for name in STATISTICS {
            if let Some(Value::Array(all)) = self.rest.get_mut(name) {
                all.retain(|one| one["snapshot-id"].as_i64().is_none_or(|id| !gone.contains(&id)));
            }
        }
    }

    /// Returns the URIs of the files with statistics, which other writers make.
    pub fn statistics_files(&self) -> Vec<&str> {
        let all = STATISTICS.iter().filter_map(|name| self.rest.get(*name)?.as_array()).flatten();
        all.filter_map(|one| one["statistics-path"].as_str()).collect()
    }

    /// Adds a snapshot, which becomes that of `main`.
    pub fn add(&mut self, snapshot: Snapshot) {
        let (snapshot_id, timestamp_ms) = (snapshot.snapshot_id, snapshot.timestamp_ms.max(self.last_updated_ms));
        self.last_sequence_number = snapshot.sequence_number;
        self.last_updated_ms = timestamp_ms;
        self.current_snapshot_id = Some(snapshot_id);
        self.snapshot_log.push(SnapshotLogEntry { timestamp_ms, snapshot_id });
        let main = self.refs.entry(MAIN.to_owned());
        main.and_modify(|main| main.snapshot_id = snapshot_id).or_insert_with(|| SnapshotRef {
            snapshot_id,
            kind: "branch".to_owned(),
            rest: Map::new(),
        });
        self.snapshots.push(snapshot);
    }
}
