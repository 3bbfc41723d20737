//! Describes a file of rows, as a manifest has it: its footer says the counts and bounds of its columns.

use crate::lake::read::file::LakeFile;
use evt_core::error::Result;
use evt_core::iceberg::bounds;
use evt_core::iceberg::manifest::DataFile;
use evt_core::iceberg::schema::TableSchema;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use std::collections::BTreeMap;

/// The least and the greatest value of a column.
#[derive(Clone, Debug, PartialEq)]
enum ValueRange {
    Bool(bool, bool),
    Int(i32, i32),
    Long(i64, i64),
    Double(f64, f64),
    Text(Vec<u8>, Vec<u8>),
}

impl ValueRange {
    /// Returns the range of a chunk; `None` if it is unknown.
    fn of(statistics: &Statistics) -> Option<Self> {
        Some(match statistics {
            Statistics::Boolean(known) => Self::Bool(*known.min_opt()?, *known.max_opt()?),
            Statistics::Int32(known) => Self::Int(*known.min_opt()?, *known.max_opt()?),
            Statistics::Int64(known) => Self::Long(*known.min_opt()?, *known.max_opt()?),
            Statistics::Double(known) => Self::Double(*known.min_opt()?, *known.max_opt()?),
            Statistics::ByteArray(known) => Self::Text(known.min_opt()?.data().into(), known.max_opt()?.data().into()),
            _ => return None,
        })
    }

    /// Returns the least range with both; `None` for columns of two types.
    fn with(self, other: Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Bool(least, most), Self::Bool(low, high)) => Self::Bool(least & low, most | high),
            (Self::Int(least, most), Self::Int(low, high)) => Self::Int(least.min(low), most.max(high)),
            (Self::Long(least, most), Self::Long(low, high)) => Self::Long(least.min(low), most.max(high)),
            (Self::Double(least, most), Self::Double(low, high)) => Self::Double(least.min(low), most.max(high)),
            (Self::Text(least, most), Self::Text(low, high)) => Self::Text(least.min(low), most.max(high)),
            _ => return None,
        })
    }

    /// Returns the bounds of a manifest; each may be unknown.
    fn bounds(&self) -> [Option<Vec<u8>>; 2] {
        match self {
            Self::Bool(least, most) => [least, most].map(|value| Some(vec![u8::from(*value)])),
            Self::Int(least, most) => [least, most].map(|value| Some(bounds::int(*value))),
            Self::Long(least, most) => [least, most].map(|value| Some(bounds::long(*value))),
            Self::Double(least, most) => [least, most].map(|value| Some(bounds::double(*value))),
            Self::Text(least, most) => {
                let [least, most] = [least, most].map(|text| str::from_utf8(text).ok());
                [least.map(bounds::least_text), most.and_then(bounds::greatest_text)]
            }
        }
    }
}

/// What the chunks of a column say.
#[derive(Default)]
struct ColumnFacts {
    values: i64,
    /// `None` if a chunk does not say them.
    nulls: Option<i64>,
    /// `None` if no chunk has a value yet.
    range: Option<ValueRange>,
    is_range_unknown: bool,
    chunks: usize,
}

impl ColumnFacts {
    fn add(&mut self, chunk: &ColumnChunkMetaData) {
        let statistics = chunk.statistics();
        let nulls = statistics.and_then(Statistics::null_count_opt).and_then(|nulls| i64::try_from(nulls).ok());
        self.nulls = match (self.chunks, self.nulls) {
            (0, _) => nulls,
            (_, before) => before.zip(nulls).map(|(before, nulls)| before + nulls),
        };
        self.values += chunk.num_values();
        self.chunks += 1;
        if nulls == Some(chunk.num_values()) {
            return;
        }
        let range = statistics.and_then(ValueRange::of);
        self.range = match (self.range.take(), range) {
            (None, range) => range,
            (Some(before), Some(range)) => before.with(range),
            (Some(_), None) => None,
        };
        self.is_range_unknown |= self.range.is_none();
    }
}

/// Describes a file of rows of one day that will have a URI.
pub fn describe(file: &LakeFile, uri: String, day: i64, schema: &TableSchema) -> Result<DataFile> {
    let footer = file.footer();
    let size = file.file.size()?;
    let mut described = DataFile {
        path: uri,
        day: i32::try_from(day).ok(),
        rows: footer.file_metadata().num_rows(),
        bytes: i64::try_from(size).unwrap_or(i64::MAX),
        ..DataFile::default()
    };
    let mut columns: BTreeMap<i32, ColumnFacts> = BTreeMap::new();
    for group in footer.row_groups() {
        let first = group.columns().first().map(|chunk| chunk.byte_range().0);
        described.groups.extend(first.and_then(|start| i64::try_from(start).ok()));
        for chunk in group.columns() {
            let path = chunk.column_path().parts();
            let Some(column) = path.first().and_then(|name| schema.column(name)) else { continue };
            *described.column_bytes.entry(column.id).or_default() += chunk.compressed_size();
            // The counts of items are none of rows.
            if path.len() == 1 {
                columns.entry(column.id).or_default().add(chunk);
            }
        }
    }
    for (id, facts) in columns {
        described.values.insert(id, facts.values);
        described.nulls.extend(facts.nulls.map(|nulls| (id, nulls)));
        if let (Some(range), false) = (facts.range, facts.is_range_unknown) {
            let [least, most] = range.bounds();
            described.least.extend(least.map(|bound| (id, bound)));
            described.greatest.extend(most.map(|bound| (id, bound)));
        }
    }
    Ok(described)
}
