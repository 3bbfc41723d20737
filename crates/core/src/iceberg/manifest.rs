//! Manifests, which list files, and the lists of manifests. Both are container files of Avro.

use super::metadata::{PartitionSpec, Snapshot};
use super::schema::TableSchema;
use crate::avro::binary::{write_bytes, write_long};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What became of a file in the snapshot of its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was there before.
    Existing = 0,
    /// It was added.
    Added = 1,
    /// It was removed.
    Deleted = 2,
}

/// What the rows of a file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileContent {
    /// Rows of the table.
    #[default]
    Rows = 0,
    /// The positions of rows in other files, which are deleted.
    PositionDeletes = 1,
}

/// A file of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataFile {
    /// What its rows are.
    pub content: FileContent,
    /// Its URI.
    pub path: String,
    /// Its day (days since 1970), if that is its partition.
    pub day: Option<i32>,
    /// The number of its rows.
    pub rows: i64,
    /// Its size.
    pub bytes: i64,
    /// The bytes of each column, by its number.
    pub column_bytes: BTreeMap<i32, i64>,
    /// The values of each column, NULLs included.
    pub values: BTreeMap<i32, i64>,
    /// The NULLs of each column.
    pub nulls: BTreeMap<i32, i64>,
    /// A bound that no value of a column is below.
    pub least: BTreeMap<i32, Vec<u8>>,
    /// A bound that no value of a column is above.
    pub greatest: BTreeMap<i32, Vec<u8>>,
    /// Where its row groups begin (bytes).
    pub groups: Vec<i64>,
    /// The order of its rows; 0 is none.
    pub sort_order: i32,
}

/// A file in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// What became of it.
    pub status: Status,
    /// The snapshot that added or removed it.
    pub snapshot: i64,
    /// The sequence number of its rows; `None` is that of the snapshot which the manifest is made for.
    pub sequence: Option<i64>,
    /// That of the snapshot that added it.
    pub file_sequence: Option<i64>,
    /// The file.
    pub file: DataFile,
}

/// A manifest, as a list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// Its URI.
    pub path: String,
    /// Its size (bytes).
    pub bytes: i64,
    /// The rule of partitions of its files.
    pub spec: i32,
    /// Whether its files are deletes.
    pub has_deletes: bool,
    /// The sequence number of the snapshot that added it.
    pub sequence: i64,
    /// The least sequence number of its files that are there.
    pub least_sequence: i64,
    /// The snapshot that added it.
    pub snapshot: i64,
    /// The number of files that were added, were there and were removed.
    pub files: [i32; 3],
    /// The number of their rows.
    pub rows: [i64; 3],
    /// The first and the last day of its files.
    pub days: Option<[i32; 2]>,
}

/// Returns the bytes of a manifest of files with one content.
pub fn manifest(entries: &[ManifestEntry], schema: &TableSchema, spec: &PartitionSpec) -> Vec<u8> {
    let field = spec.fields.first();
    let (id, name) = field.map_or((1000, "day"), |field| (field.field_id, &*field.name));
    let text = |value: Value| value.to_string();
    let is_rows = entries.first().is_none_or(|entry| entry.file.content == FileContent::Rows);
    let header = [
        ("schema", text(json!(schema))),
        ("schema-id", schema.id.to_string()),
        ("partition-spec", text(json!(spec.fields))),
        ("partition-spec-id", spec.spec_id.to_string()),
        ("format-version", "2".to_owned()),
        ("content", if is_rows { "data" } else { "deletes" }.to_owned()),
    ];
    container(&entry_schema(id, name), &header, entries.len(), |out| {
        entries.iter().for_each(|entry| write_entry(out, entry));
    })
}

/// Returns the bytes of the list of a snapshot's manifests.
pub fn manifest_list(manifests: &[ManifestFile], snapshot: &Snapshot) -> Vec<u8> {
    let parent = snapshot.parent_snapshot_id.map_or_else(|| "null".to_owned(), |parent| parent.to_string());
    let header = [
        ("snapshot-id", snapshot.snapshot_id.to_string()),
        ("parent-snapshot-id", parent),
        ("sequence-number", snapshot.sequence_number.to_string()),
        ("format-version", "2".to_owned()),
    ];
    container(&list_schema(), &header, manifests.len(), |out| {
        manifests.iter().for_each(|manifest| write_manifest_file(out, manifest));
    })
}

/// Returns a container file with one block, not compressed.
fn container(schema: &Value, header: &[(&str, String)], records: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let schema = schema.to_string();
    let sync = xxhash_rust::xxh3::xxh3_128(schema.as_bytes()).to_be_bytes();
    let mut out = b"Obj\x01".to_vec();
    write_long(&mut out, header.len() as i64 + 2);
    let own = [("avro.schema", schema), ("avro.codec", "null".to_owned())];
    for (name, value) in own.iter().chain(header) {
        write_bytes(&mut out, name.as_bytes());
        write_bytes(&mut out, value.as_bytes());
    }
    write_long(&mut out, 0);
    out.extend_from_slice(&sync);
    let mut block = vec![];
    write(&mut block);
    if records > 0 {
        write_long(&mut out, records as i64);
        write_bytes(&mut out, &block);
        out.extend_from_slice(&sync);
    }
    out
}

fn write_entry(out: &mut Vec<u8>, entry: &ManifestEntry) {
    let ManifestEntry { status, snapshot, sequence, file_sequence, file } = entry;
    write_long(out, *status as i64);
    write_some(out, |out| write_long(out, *snapshot));
    for number in [sequence, file_sequence] {
        match number {
            None => write_long(out, 0),
            Some(number) => write_some(out, |out| write_long(out, *number)),
        }
    }
    write_long(out, file.content as i64);
    write_bytes(out, file.path.as_bytes());
    write_bytes(out, b"PARQUET");
    match file.day {
        None => write_long(out, 0),
        Some(day) => write_some(out, |out| write_long(out, i64::from(day))),
    }
    write_long(out, file.rows);
    write_long(out, file.bytes);
    for counts in [&file.column_bytes, &file.values, &file.nulls] {
        write_map(out, counts, |out, count| write_long(out, *count));
    }
    // Of NaN nothing is said.
    write_long(out, 0);
    for bounds in [&file.least, &file.greatest] {
        write_map(out, bounds, |out, bound| write_bytes(out, bound));
    }
    // No key.
    write_long(out, 0);
    write_some(out, |out| write_items(out, &file.groups, |out, at| write_long(out, *at)));
    // No equality deletes.
    write_long(out, 0);
    write_some(out, |out| write_long(out, i64::from(file.sort_order)));
}

fn write_manifest_file(out: &mut Vec<u8>, manifest: &ManifestFile) {
    write_bytes(out, manifest.path.as_bytes());
    for number in [
        manifest.bytes,
        i64::from(manifest.spec),
        i64::from(manifest.has_deletes),
        manifest.sequence,
        manifest.least_sequence,
        manifest.snapshot,
    ] {
        write_long(out, number);
    }
    manifest.files.iter().for_each(|count| write_long(out, i64::from(*count)));
    manifest.rows.iter().for_each(|count| write_long(out, *count));
    match manifest.days {
        None => write_long(out, 0),
        Some(days) => write_some(out, |out| {
            write_items(out, &[days], |out, [first, last]| {
                // Neither NULL nor NaN.
                out.push(0);
                write_some(out, |out| out.push(0));
                for day in [first, last] {
                    write_some(out, |out| write_bytes(out, &day.to_le_bytes()));
                }
            });
        }),
    }
    // No key.
    write_long(out, 0);
}

/// Writes the second branch of a union with null.
fn write_some(out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    write_long(out, 1);
    value(out);
}

fn write_items<T>(out: &mut Vec<u8>, items: &[T], mut item: impl FnMut(&mut Vec<u8>, &T)) {
    if !items.is_empty() {
        write_long(out, items.len() as i64);
        items.iter().for_each(|one| item(out, one));
    }
    write_long(out, 0);
}

/// Writes a map with integers as keys: an array of records, in a union with null.
fn write_map<T>(out: &mut Vec<u8>, map: &BTreeMap<i32, T>, mut value: impl FnMut(&mut Vec<u8>, &T)) {
    let pairs: Vec<_> = map.iter().collect();
    write_some(out, |out| {
        write_items(out, &pairs, |out, (key, one)| {
            write_long(out, i64::from(**key));
            value(out, one);
        });
    });
}

fn field(id: i32, name: &str, kind: Value) -> Value {
    json!({"name": name, "type": kind, "field-id": id})
}

/// A field that may be NULL.
fn optional(id: i32, name: &str, kind: Value) -> Value {
    json!({"name": name, "type": ["null", kind], "default": null, "field-id": id})
}

/// A map with integers as keys, and the numbers of its key and its value.
fn map(id: i32, name: &str, [key, value]: [i32; 2], kind: &str) -> Value {
    let pair = json!({
        "type": "record",
        "name": format!("k{key}_v{value}"),
        "fields": [field(key, "key", json!("int")), field(value, "value", json!(kind))],
    });
    optional(id, name, json!({"type": "array", "items": pair, "logicalType": "map"}))
}

/// Returns the Avro schema of an entry of a manifest whose files have a day.
fn entry_schema(day: i32, name: &str) -> Value {
    let date = json!({"type": "int", "logicalType": "date"});
    let partition = json!({"type": "record", "name": "r102", "fields": [optional(day, name, date)]});
    let file = json!({"type": "record", "name": "r2", "fields": [
        field(134, "content", json!("int")),
        field(100, "file_path", json!("string")),
        field(101, "file_format", json!("string")),
        field(102, "partition", partition),
        field(103, "record_count", json!("long")),
        field(104, "file_size_in_bytes", json!("long")),
        map(108, "column_sizes", [117, 118], "long"),
        map(109, "value_counts", [119, 120], "long"),
        map(110, "null_value_counts", [121, 122], "long"),
        map(137, "nan_value_counts", [138, 139], "long"),
        map(125, "lower_bounds", [126, 127], "bytes"),
        map(128, "upper_bounds", [129, 130], "bytes"),
        optional(131, "key_metadata", json!("bytes")),
        optional(132, "split_offsets", json!({"type": "array", "items": "long", "element-id": 133})),
        optional(135, "equality_ids", json!({"type": "array", "items": "int", "element-id": 136})),
        optional(140, "sort_order_id", json!("int")),
    ]});
    json!({"type": "record", "name": "manifest_entry", "fields": [
        field(0, "status", json!("int")),
        optional(1, "snapshot_id", json!("long")),
        optional(3, "sequence_number", json!("long")),
        optional(4, "file_sequence_number", json!("long")),
        field(2, "data_file", file),
    ]})
}

/// Returns the Avro schema of a manifest in a list.
fn list_schema() -> Value {
    let summary = json!({"type": "record", "name": "r508", "fields": [
        field(509, "contains_null", json!("boolean")),
        optional(518, "contains_nan", json!("boolean")),
        optional(510, "lower_bound", json!("bytes")),
        optional(511, "upper_bound", json!("bytes")),
    ]});
    json!({"type": "record", "name": "manifest_file", "fields": [
        field(500, "manifest_path", json!("string")),
        field(501, "manifest_length", json!("long")),
        field(502, "partition_spec_id", json!("int")),
        field(517, "content", json!("int")),
        field(515, "sequence_number", json!("long")),
        field(516, "min_sequence_number", json!("long")),
        field(503, "added_snapshot_id", json!("long")),
        field(504, "added_files_count", json!("int")),
        field(505, "existing_files_count", json!("int")),
        field(506, "deleted_files_count", json!("int")),
        field(512, "added_rows_count", json!("long")),
        field(513, "existing_rows_count", json!("long")),
        field(514, "deleted_rows_count", json!("long")),
        optional(507, "partitions", json!({"type": "array", "items": summary, "element-id": 508})),
        optional(519, "key_metadata", json!("bytes")),
    ]})
}
