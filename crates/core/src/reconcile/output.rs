//! The results of a comparison as rows.

use super::entry::{ComparedRows, PartitionNames, id_of_key};
use super::judge::Finding;
use super::ranges::{OffsetRange, RangeCounts};
use super::rows::id_of_unreadable;
use crate::error::Result;
use crate::kind::instant_type;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;
use uuid::Uuid;

/// The columns of the rows of ranges: their names, and the optional ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeColumns {
    /// The kind of rows that are compared.
    pub subject: ComparedRows,
    /// `bucket`: the start of the bucket.
    pub bucket: bool,
    /// `duplicate`: units whose event_id is in B from another position.
    pub duplicate: bool,
    /// `in_flight`: units that arrived too recently.
    pub in_flight: bool,
    /// `expired`: units that are nowhere, of a time whose rows have been removed from B.
    pub expired: bool,
}

/// Returns the column of a count.
fn count(name: &'static str, ranges: &[OffsetRange], of: fn(&RangeCounts) -> u64) -> (Field, ArrayRef) {
    let values = ranges.iter().map(|range| i64::try_from(of(&range.counts)).ok());
    (Field::new(name, DataType::Int64, false), Arc::new(values.collect::<Int64Array>()))
}

/// Returns the column of an instant.
fn instant(name: &str, values: impl Iterator<Item = Option<i64>>) -> (Field, ArrayRef) {
    let values = values.collect::<TimestampMicrosecondArray>().with_timezone("UTC");
    (Field::new(name, instant_type(), true), Arc::new(values))
}

/// Returns the column of a text.
fn text<'a>(name: &str, values: impl Iterator<Item = Option<&'a str>>) -> (Field, ArrayRef) {
    (Field::new(name, DataType::Utf8, true), Arc::new(values.collect::<StringArray>()))
}

/// Makes a batch of columns.
pub(super) fn batch(columns: Vec<(Field, ArrayRef)>) -> Result<RecordBatch> {
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Returns the columns that identify the partition of each row, of which `indexes` are the numbers.
fn partitions<'a>(
    subject: ComparedRows,
    names: &'a PartitionNames,
    indexes: impl Iterator<Item = u32> + Clone + 'a,
) -> [(Field, ArrayRef); 2] {
    let [origin, partition] = subject.names();
    let names = indexes.map(|index| names.name(index));
    [
        text(origin, names.clone().map(|name| Some(name?.origin.as_str()))),
        text(partition, names.map(|name| Some(name?.partition.as_str()))),
    ]
}

/// Returns the column of an offset, which is the start of a window for metrics.
fn offset(name: &str, subject: ComparedRows, values: impl Iterator<Item = i64>) -> (Field, ArrayRef) {
    match subject {
        ComparedRows::Events => {
            let values = values.map(Some).collect::<Int64Array>();
            (Field::new(name, DataType::Int64, false), Arc::new(values))
        }
        ComparedRows::Metrics => instant(name, values.map(Some)),
    }
}

/// Returns one row for each range.
pub fn ranges(ranges: &[OffsetRange], names: &PartitionNames, columns: RangeColumns) -> Result<RecordBatch> {
    let subject = columns.subject;
    let mut all = partitions(subject, names, ranges.iter().map(|range| range.partition)).to_vec();
    if columns.bucket {
        all.push(instant("bucket", ranges.iter().map(|range| range.bucket)));
    }
    all.push(offset("from", subject, ranges.iter().map(|range| range.from)));
    all.push(offset("to", subject, ranges.iter().map(|range| range.to)));
    if subject == ComparedRows::Events {
        all.push(instant("since", ranges.iter().map(|range| range.since)));
        all.push(instant("until", ranges.iter().map(|range| range.until)));
    }
    all.extend([
        count("a", ranges, |counts| counts.a),
        count("b", ranges, |counts| counts.b),
        count("plus", ranges, |counts| counts.plus),
    ]);
    if columns.in_flight {
        all.push(count("in_flight", ranges, |counts| counts.in_flight));
    }
    if columns.expired {
        all.push(count("expired", ranges, |counts| counts.expired));
    }
    if columns.duplicate {
        all.push(count("duplicate", ranges, |counts| counts.duplicate));
    }
    all.extend([
        count("missing", ranges, |counts| counts.missing),
        count("extra", ranges, |counts| counts.extra),
        count("double", ranges, |counts| counts.double),
    ]);
    if subject == ComparedRows::Metrics {
        all.push(count("different", ranges, |counts| counts.different));
    }
    batch(all)
}

/// Returns the schema of [`faults`].
pub fn fault_schema(subject: ComparedRows) -> Result<SchemaRef> {
    Ok(faults(&[], &PartitionNames::default(), subject)?.schema())
}

/// Returns one row for each finding that is a fault. The event_id of a record that cannot be read is NULL.
pub fn faults(found: &[Finding], names: &PartitionNames, subject: ComparedRows) -> Result<RecordBatch> {
    let id = |found: &Finding| Uuid::from_bytes(id_of_key(found.id)).to_string();
    let ids: Vec<_> = found.iter().map(|one| (id_of_unreadable(one.position) != one.id).then(|| id(one))).collect();
    let offsets = found.iter().map(|found| found.position.offset);
    let (id, at) = match subject {
        ComparedRows::Events => ("event_id", "offset"),
        ComparedRows::Metrics => ("metric_id", "window_start"),
    };
    let mut all = vec![
        text(id, ids.iter().map(Option::as_deref)),
        text("verdict", found.iter().map(|found| found.outcome.verdict())),
    ];
    all.extend(partitions(subject, names, found.iter().map(|found| found.position.partition)));
    all.push(offset(at, subject, offsets));
    if subject == ComparedRows::Events {
        all.push(instant("event_time", found.iter().map(|found| found.time)));
    }
    batch(all)
}
