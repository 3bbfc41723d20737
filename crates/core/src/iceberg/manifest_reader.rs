//! Reads manifests and their lists, whoever wrote them.

use super::manifest::{DataFile, FileContent, ManifestEntry, ManifestFile, Status};
use crate::error::{Error, Result};
use crate::format::avro::read_records;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A map with integers as keys, as Avro has it.
type Pairs<T> = Option<Vec<Pair<T>>>;

#[derive(Deserialize)]
struct Pair<T> {
    key: i32,
    value: T,
}

#[derive(Deserialize)]
struct EntryRecord {
    status: i32,
    snapshot_id: Option<i64>,
    sequence_number: Option<i64>,
    file_sequence_number: Option<i64>,
    data_file: FileRecord,
}

#[derive(Deserialize)]
struct FileRecord {
    #[serde(default)]
    content: i32,
    file_path: String,
    file_format: String,
    record_count: i64,
    file_size_in_bytes: i64,
    column_sizes: Pairs<i64>,
    value_counts: Pairs<i64>,
    null_value_counts: Pairs<i64>,
    lower_bounds: Pairs<String>,
    upper_bounds: Pairs<String>,
    split_offsets: Option<Vec<i64>>,
    sort_order_id: Option<i32>,
    #[serde(default)]
    partition: serde_json::Value,
}

#[derive(Deserialize)]
struct ManifestRecord {
    manifest_path: String,
    manifest_length: i64,
    partition_spec_id: i32,
    #[serde(default)]
    content: i32,
    #[serde(default)]
    sequence_number: i64,
    #[serde(default)]
    min_sequence_number: i64,
    added_snapshot_id: Option<i64>,
    #[serde(alias = "added_data_files_count")]
    added_files_count: Option<i32>,
    #[serde(alias = "existing_data_files_count")]
    existing_files_count: Option<i32>,
    #[serde(alias = "deleted_data_files_count")]
    deleted_files_count: Option<i32>,
    added_rows_count: Option<i64>,
    existing_rows_count: Option<i64>,
    deleted_rows_count: Option<i64>,
    partitions: Option<Vec<PartitionRecord>>,
}

#[derive(Deserialize)]
struct PartitionRecord {
    lower_bound: Option<String>,
    upper_bound: Option<String>,
}

/// Reads the manifests of a list. Errors: exit status 65 if it is damaged.
pub fn manifests(bytes: Vec<u8>) -> Result<Vec<ManifestFile>> {
    let of = |text: String| {
        let record: ManifestRecord = serde_json::from_str(&text).map_err(foreign)?;
        Ok(ManifestFile {
            path: record.manifest_path,
            bytes: record.manifest_length,
            spec: record.partition_spec_id,
            has_deletes: record.content != 0,
            sequence: record.sequence_number,
            least_sequence: record.min_sequence_number,
            snapshot: record.added_snapshot_id.unwrap_or_default(),
            files: [record.added_files_count, record.existing_files_count, record.deleted_files_count]
                .map(Option::unwrap_or_default),
            rows: [record.added_rows_count, record.existing_rows_count, record.deleted_rows_count]
                .map(Option::unwrap_or_default),
            days: record.partitions.as_deref().and_then(days),
        })
    };
    read_records(bytes)?.into_iter().map(of).collect()
}

/// Returns the first and the last day of a manifest whose only partition is a day.
fn days(partitions: &[PartitionRecord]) -> Option<[i32; 2]> {
    let [only] = partitions else { return None };
    let day = |bound: &Option<String>| {
        let bytes = STANDARD.decode(bound.as_deref()?).ok()?;
        Some(i32::from_le_bytes(bytes.try_into().ok()?))
    };
    Some([day(&only.lower_bound)?, day(&only.upper_bound)?])
}

/// Reads the entries of a manifest; what they inherit from its place in the list is set.
///
/// Errors: exit status 65 if it is damaged, or has a file that is not Parquet, or equality deletes.
pub fn entries(bytes: Vec<u8>, manifest: &ManifestFile) -> Result<Vec<ManifestEntry>> {
    let of = |text: String| {
        let record: EntryRecord = serde_json::from_str(&text).map_err(foreign)?;
        let status = match record.status {
            0 => Status::Existing,
            1 => Status::Added,
            2 => Status::Deleted,
            other => return Err(Error::corrupt(format!("a manifest has an entry of status {other}"))),
        };
        let inherited = |number: Option<i64>| number.or((status == Status::Added).then_some(manifest.sequence));
        Ok(ManifestEntry {
            status,
            snapshot: record.snapshot_id.unwrap_or(manifest.snapshot),
            sequence: inherited(record.sequence_number),
            file_sequence: inherited(record.file_sequence_number),
            file: data_file(record.data_file)?,
        })
    };
    read_records(bytes)?.into_iter().map(of).collect()
}

fn data_file(record: FileRecord) -> Result<DataFile> {
    let content = match record.content {
        0 => FileContent::Rows,
        1 => FileContent::PositionDeletes,
        _ => {
            let why = "equality deletes, which evt does not read; rewrite the data files of the table";
            return Err(Error::corrupt(format!("{}: {why}", record.file_path)));
        }
    };
    if !record.file_format.eq_ignore_ascii_case("parquet") {
        let (path, format) = (record.file_path, record.file_format);
        return Err(Error::corrupt(format!("{path}: expected a file of Parquet, found {format}")));
    }
    Ok(DataFile {
        content,
        path: record.file_path,
        day: day(&record.partition),
        rows: record.record_count,
        bytes: record.file_size_in_bytes,
        column_bytes: numbers(record.column_sizes),
        values: numbers(record.value_counts),
        nulls: numbers(record.null_value_counts),
        least: bounds(record.lower_bounds)?,
        greatest: bounds(record.upper_bounds)?,
        groups: record.split_offsets.unwrap_or_default(),
        sort_order: record.sort_order_id.unwrap_or_default(),
    })
}

/// Returns the day that is the only partition of a file.
fn day(partition: &serde_json::Value) -> Option<i32> {
    let mut fields = partition.as_object()?.values();
    let (only, None) = (fields.next()?, fields.next()) else { return None };
    match only {
        serde_json::Value::String(date) => i32::try_from(crate::time::parse_date(date)?).ok(),
        other => i32::try_from(other.as_i64()?).ok(),
    }
}

fn numbers(pairs: Pairs<i64>) -> BTreeMap<i32, i64> {
    pairs.into_iter().flatten().map(|pair| (pair.key, pair.value)).collect()
}

fn bounds(pairs: Pairs<String>) -> Result<BTreeMap<i32, Vec<u8>>> {
    let bound = |pair: Pair<String>| Ok((pair.key, STANDARD.decode(pair.value).map_err(foreign)?));
    pairs.into_iter().flatten().map(bound).collect()
}

fn foreign(error: impl std::fmt::Display) -> Error {
    Error::corrupt("expected a manifest of Iceberg version 2").because_library(error)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{manifest, manifest_list};
    use super::super::metadata::{PartitionField, PartitionSpec, Snapshot};
    use super::super::schema::TableSchema;
    use super::*;
    use crate::kind::Kind;

    fn file(day: i32) -> DataFile {
        DataFile {
            content: FileContent::Rows,
            path: format!("file:///lake/date={day}/a.parquet"),
            day: Some(day),
            rows: 7,
            bytes: 1 << 20,
            column_bytes: [(1, 16), (2, 99)].into(),
            values: [(1, 7), (2, 7)].into(),
            nulls: [(2, 3)].into(),
            least: [(2, b"a".to_vec()), (9, (-5_i64).to_le_bytes().to_vec())].into(),
            greatest: [(2, vec![0xff, 0, 1]), (9, 5_i64.to_le_bytes().to_vec())].into(),
            groups: vec![4, 1 << 19],
            sort_order: 0,
        }
    }

    fn spec() -> PartitionSpec {
        let transform = "day".to_owned();
        let field = PartitionField { source_id: 9, field_id: 1000, name: "event_time_day".to_owned(), transform };
        PartitionSpec { spec_id: 0, fields: vec![field] }
    }

    #[test]
    fn entries_are_read_as_they_were_written_and_inherit_sequence_numbers() {
        let (schema, _) = TableSchema::of(&Kind::Event.schema()).unwrap();
        let entry = |status, sequence, day| ManifestEntry {
            status,
            snapshot: 44,
            sequence,
            file_sequence: sequence,
            file: file(day),
        };
        let written = [
            entry(Status::Added, None, -3),
            entry(Status::Existing, Some(2), 19_737),
            entry(Status::Deleted, Some(1), 0),
        ];
        let place = ManifestFile { sequence: 5, ..listed("m.avro", None) };
        let read = entries(manifest(&written, &schema, &spec()), &place).unwrap();
        assert_eq!(read, [entry(Status::Added, Some(5), -3), written[1].clone(), written[2].clone()]);
        assert_eq!(entries(manifest(&[], &schema, &spec()), &place).unwrap(), []);
    }

    fn listed(path: &str, days: Option<[i32; 2]>) -> ManifestFile {
        ManifestFile {
            path: path.to_owned(),
            bytes: 1234,
            spec: 0,
            has_deletes: false,
            sequence: 3,
            least_sequence: 2,
            snapshot: 1 << 60,
            files: [1, 2, 3],
            rows: [10, 20, 30],
            days,
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let written = [listed("a.avro", Some([-1, 19_737])), listed("b.avro", None)];
        let snapshot = Snapshot {
            snapshot_id: 1 << 60,
            parent_snapshot_id: None,
            sequence_number: 3,
            timestamp_ms: 0,
            manifest_list: String::new(),
            summary: BTreeMap::new(),
            schema_id: Some(0),
            rest: serde_json::Map::new(),
        };
        assert_eq!(manifests(manifest_list(&written, &snapshot)).unwrap(), written);
    }
}
