//! The extents of a file: the range of positions that its rows have in each stream. Two files without a common position
//! have no common key, so a comparison of footers suffices and their rows are not read.
//!
//! ```text
//! evt.extents in the footer    {"rows":11,"streams":[{"stream":["in.jsonl","0"],"first":0,"last":10}]}
//! ```

use crate::cells::Cells;
use crate::rows;
use ahash::AHashMap;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use parquet::file::metadata::{FileMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// The key of the extents in the footer.
pub const KEY: &str = "evt.extents";
/// Maximum number of streams in a footer. The streams of a file with more are unknown.
const STREAMS_MAX: usize = 1024;

/// Returns the columns that name the stream of a row: rows of two streams have different keys.
fn stream_columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Event | Kind::Late => &["origin", "partition"],
        Kind::Dead => &["source_topic", "partition"],
        Kind::Metric => &["metric_name"],
        Kind::Alert => &[],
    }
}

/// Returns the column with the position of a row in its stream: rows of two positions have different keys.
pub fn position_column(kind: Kind) -> &'static str {
    match kind {
        Kind::Event | Kind::Late | Kind::Dead => "offset",
        Kind::Metric | Kind::Alert => kind.time_column(),
    }
}

/// Positions from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionSpan {
    first: i64,
    last: i64,
}

impl PositionSpan {
    /// Returns the least range with the positions of all rows of a batch; `None` if there are none.
    pub fn of_rows(kind: Kind, batch: &RecordBatch) -> Result<Option<Self>> {
        let at = |position: &i64| Self { first: *position, last: *position };
        Ok(positions(kind, batch)?.iter().map(at).reduce(Self::with))
    }

    /// Returns the positions of a row group; `None` if its statistics do not tell them.
    pub fn of_group(group: &RowGroupMetaData, column: &str) -> Option<Self> {
        let column = group.columns().iter().find(|found| found.column_path().string() == column)?;
        match column.statistics()? {
            Statistics::Int64(known) => Some(Self { first: *known.min_opt()?, last: *known.max_opt()? }),
            _ => None,
        }
    }

    /// Returns the range from a first to a last position.
    pub fn of([first, last]: [i64; 2]) -> Self {
        Self { first, last }
    }

    /// Whether both have a position.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Returns the least range with both.
    pub fn with(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// The positions of rows by stream; `None` if they are unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extents(Option<BTreeMap<Vec<String>, PositionSpan>>);

impl Default for Extents {
    /// Without rows.
    fn default() -> Self {
        Self(Some(BTreeMap::new()))
    }
}

/// The extents as a footer has them.
#[derive(Serialize, Deserialize)]
struct Footer {
    /// The rows of the file. Another program may copy the text to a file with other rows.
    rows: u64,
    streams: Vec<StreamPositions>,
}

#[derive(Serialize, Deserialize)]
struct StreamPositions {
    stream: Vec<String>,
    first: i64,
    last: i64,
}

impl Extents {
    /// Returns the extents that the footer of a file tells.
    pub fn of_file(file: &FileMetaData) -> Self {
        let pairs = file.key_value_metadata().into_iter().flatten();
        let text = pairs.filter(|pair| pair.key == KEY).find_map(|pair| pair.value.as_deref());
        let footer: Option<Footer> = text.and_then(|text| serde_json::from_str(text).ok());
        let own = footer.filter(|footer| i64::try_from(footer.rows) == Ok(file.num_rows()));
        Self(own.map(|footer| {
            let streams = footer.streams.into_iter();
            streams.map(|StreamPositions { stream, first, last }| (stream, PositionSpan { first, last })).collect()
        }))
    }

    /// Returns the text for the footer of a file with this many rows; `None` if the extents are unknown.
    pub fn footer(&self, rows: u64) -> Result<Option<String>> {
        let Some(streams) = &self.0 else { return Ok(None) };
        let stream = |(stream, &PositionSpan { first, last }): (&Vec<String>, &PositionSpan)| StreamPositions {
            stream: stream.clone(),
            first,
            last,
        };
        let footer = Footer { rows, streams: streams.iter().map(stream).collect() };
        serde_json::to_string(&footer).map(Some).map_err(|error| Error::broken("a footer").because(error))
    }

    /// Returns the number of streams.
    pub fn streams(&self) -> usize {
        self.0.as_ref().map_or(0, BTreeMap::len)
    }

    /// Whether rows with these extents and rows with the others may have a common key.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (Some(left), Some(right)) = (&self.0, &other.0) else { return true };
        let (few, many) = if left.len() <= right.len() { (left, right) } else { (right, left) };
        few.iter().any(|(stream, positions)| many.get(stream).is_some_and(|other| positions.overlaps(*other)))
    }

    /// Whether a stream may have a position in a range.
    pub fn touches(&self, positions: PositionSpan) -> bool {
        self.0.as_ref().is_none_or(|streams| streams.values().any(|known| known.overlaps(positions)))
    }

    /// Adds the extents of other rows.
    pub fn add(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Some(streams), Some(others)) => others.iter().for_each(|(stream, positions)| {
                streams.entry(stream.clone()).and_modify(|known| *known = known.with(*positions)).or_insert(*positions);
            }),
            (_, None) => self.0 = None,
            (None, _) => {}
        }
    }

    /// Adds rows of a file. With too many streams the extents become unknown.
    pub fn add_rows(&mut self, kind: Kind, batch: &RecordBatch) -> Result<()> {
        let Some(streams) = &mut self.0 else { return Ok(()) };
        let names = stream_columns(kind).iter().map(|name| Cells::try_new(rows::column(batch, name)?));
        let names = names.collect::<Result<Vec<_>>>()?;
        for (row, found) in runs(&names, positions(kind, batch)?) {
            let stream = names.iter().map(|cells| cells.text(row).map(str::to_owned)).collect::<Result<Vec<_>>>()?;
            streams.entry(stream).and_modify(|known| *known = known.with(found)).or_insert(found);
        }
        if streams.len() > STREAMS_MAX {
            self.0 = None;
        }
        Ok(())
    }
}

fn positions(kind: Kind, batch: &RecordBatch) -> Result<&[i64]> {
    let column = rows::column(batch, position_column(kind))?;
    Ok(match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().values(),
        _ => column.as_primitive::<TimestampMicrosecondType>().values(),
    })
}

/// A run of rows of one stream.
struct RowRun {
    code: [u64; 2],
    first_row: usize,
    positions: PositionSpan,
}

/// Returns a row and the positions of each stream of a batch.
fn runs(names: &[Cells<'_>], positions: &[i64]) -> Vec<(usize, PositionSpan)> {
    let mut found: AHashMap<[u64; 2], (usize, PositionSpan)> = AHashMap::new();
    let mut close = |RowRun { code, first_row, positions }: RowRun| {
        let known = found.entry(code).or_insert((first_row, positions));
        known.1 = known.1.with(positions);
    };
    let mut open: Option<RowRun> = None;
    for (row, position) in positions.iter().enumerate() {
        let (code, here) = (code(names, row), PositionSpan { first: *position, last: *position });
        match &mut open {
            Some(run) if run.code == code => run.positions = run.positions.with(here),
            _ => open.replace(RowRun { code, first_row: row, positions: here }).into_iter().for_each(&mut close),
        }
    }
    open.into_iter().for_each(&mut close);
    found.into_values().collect()
}

/// Returns a code of the stream of a row: rows of one stream have the same.
fn code(names: &[Cells<'_>], row: usize) -> [u64; 2] {
    let mut code = [0; 2];
    for (place, cells) in code.iter_mut().zip(names) {
        *place = match cells {
            Cells::Word(keys, _) => u64::from(keys.value(row).cast_unsigned()),
            Cells::Text(texts) => xxh3_64(texts.value(row).as_bytes()),
            _ => 0,
        };
    }
    code
}
