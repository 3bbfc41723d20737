//! The rows of a log: the key, the instants and the arguments of each row that counts for state in files.
//!
//! ```text
//! key: Binary | event time: Int64 | bound: Int64 | masks: a Boolean for each metric with a where or arguments
//!     | arguments, each leaf once
//! ```
//!
//! A row is compared with its bound before it is written to a log, so no row of a log is late. [`RowLayout::replay`]
//! also takes rows that are in no log yet; some of these may be late.

use super::ranges::{KeyPlace, hash};
use crate::error::{Error, Result};
use crate::expr::decimal_texts;
use crate::kind::values::truth;
use crate::op::snapshot::{Reader, Writer};
use crate::op::window::firing::Shard;
use crate::op::window::metric::Metric;
use crate::op::window::outcome::BatchOutcome;
use crate::op::window::running::{Bounds, MetricView, TimeBounds};
use crate::op::window::shape::ends::EndRange;
use crate::op::window::shape::window_spec::WindowSpec;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use std::sync::Arc;

const KEY: usize = 0;
const TIME: usize = 1;
const BOUND: usize = 2;
const FIRST_MASK: usize = 3;
/// Maximum number of columns of a saved layout.
const COLUMNS_MAX: u64 = 1 << 20;

/// The columns of a log.
#[derive(Debug)]
pub(crate) struct RowLayout {
    /// The columns of each metric; `None` if the log is older than the metric.
    metrics: Vec<Option<MetricColumnIndexes>>,
    /// The argument in each column of arguments.
    sources: Vec<ArgSource>,
    columns: usize,
}

/// An argument of a metric of the group.
#[derive(Clone, Copy, Debug)]
struct ArgSource {
    member: usize,
    arg: usize,
}

/// The columns of a metric.
#[derive(Clone, Debug)]
struct MetricColumnIndexes {
    /// The column that says which rows count: they pass its `where`, and its arguments have values.
    mask: Option<usize>,
    /// The columns of its arguments.
    args: Vec<usize>,
}

impl RowLayout {
    /// Makes the layout of a group of metrics.
    pub(crate) fn new(metrics: &[&Metric]) -> Self {
        let mut next = FIRST_MASK;
        let mut column = || {
            next += 1;
            next - 1
        };
        // An argument that fails excludes a row from its metric, and the row may be there for another one.
        let has_mask = |metric: &&Metric| metric.filter.is_some() || !metric.call.args().is_empty();
        let masks: Vec<Option<usize>> = metrics.iter().map(|metric| has_mask(metric).then(&mut column)).collect();
        let (first_arg, mut sources): (usize, Vec<ArgSource>) = (next, vec![]);
        let source = |ArgSource { member, arg }: &ArgSource| &metrics[*member].call.args()[*arg];
        let mut laid_out = vec![];
        for (member, (metric, mask)) in metrics.iter().zip(masks).enumerate() {
            let mut args = vec![];
            for (at, arg) in metric.call.args().iter().enumerate() {
                let known = sources.iter().position(|known| source(known).is_same_leaf(arg));
                args.push(first_arg + known.unwrap_or(sources.len()));
                if known.is_none() {
                    sources.push(ArgSource { member, arg: at });
                }
            }
            laid_out.push(Some(MetricColumnIndexes { mask, args }));
        }
        let columns = first_arg + sources.len();
        Self { metrics: laid_out, sources, columns }
    }

    /// Saves the layout.
    pub(crate) fn snapshot(&self, out: &mut Writer) {
        out.count(self.columns);
        for MetricColumnIndexes { mask, args } in self.metrics.iter().flatten() {
            out.optional(mask.map(|mask| mask as i64));
            out.count(args.len());
            args.iter().for_each(|arg| out.number(*arg as i64));
        }
    }

    /// Restores a layout for these metrics, to read logs. `places` has, for each saved metric, its index among
    /// `metrics`, or none.
    pub(crate) fn restore(metrics: &[&Metric], places: &[Option<usize>], saved: &mut Reader<'_>) -> Result<Self> {
        let columns = saved.at_most(COLUMNS_MAX)?;
        let last = (columns as u64).saturating_sub(1);
        let mut laid_out = vec![None; metrics.len()];
        for place in places {
            let mask = saved.flag()?.then(|| saved.at_most(last)).transpose()?;
            let args = (0..saved.count()?).map(|_| saved.at_most(last)).collect::<Result<Vec<_>>>()?;
            let Some(place) = place else { continue };
            let metric = metrics[*place];
            if mask.is_none() && metric.filter.is_some() || args.len() != metric.call.args().len() {
                return Err(Error::corrupt("snapshot: expected the columns of a metric, found those of another one"));
            }
            laid_out[*place] = Some(MetricColumnIndexes { mask, args });
        }
        Ok(Self { metrics: laid_out, sources: vec![], columns })
    }

    /// Returns the rows of a batch at which `kept` is true. `views` and `masks` are those of the metrics, in their
    /// order.
    pub(crate) fn log(
        &self,
        keys: &BinaryArray,
        kept: &BooleanBuffer,
        views: &[&MetricView],
        masks: &[BooleanBuffer],
        bounds: &Bounds,
    ) -> Result<RecordBatch> {
        let Some(first) = views.first() else { return Err(Error::broken("a group without metrics")) };
        let rows = UInt32Array::from_iter_values(kept.set_indices().map(|row| row as u32));
        let bound = |row: usize| bounds.of_row(first.stream_times[row]);
        let mut columns: Vec<ArrayRef> = vec![
            take(keys, &rows, None)?,
            Arc::new(Int64Array::from_iter_values(kept.set_indices().map(|row| first.event_times[row]))),
            Arc::new(Int64Array::from_iter_values(kept.set_indices().map(bound))),
        ];
        let has_mask =
            |columns: &Option<MetricColumnIndexes>| columns.as_ref().is_some_and(|columns| columns.mask.is_some());
        for (mask, _) in masks.iter().zip(&self.metrics).filter(|(_, columns)| has_mask(columns)) {
            columns.push(take(&BooleanArray::new(mask.clone(), None), &rows, None)?);
        }
        for ArgSource { member, arg } in &self.sources {
            columns.push(take(&views[*member].args[*arg], &rows, None)?);
        }
        batch(columns)
    }

    /// Adds rows to the state of their keys in windows that end within `ends`; returns the outcome of each row. `fired`
    /// is as in [`Bounds`].
    pub(crate) fn replay(
        &self,
        rows: &RecordBatch,
        fired: Option<i64>,
        ends: EndRange,
        shard: &mut Shard,
    ) -> Result<BatchOutcome> {
        let Shard { group, running } = shard;
        group.ids.clear();
        for key in rows.column(KEY).as_binary::<i32>() {
            group.ids.push(group.keys.restore(key.unwrap_or_default())?);
        }
        let instants = |column: usize| rows.column(column).as_primitive::<Int64Type>().values();
        let (event_times, stream_times) = (instants(TIME), instants(BOUND));
        let extent = TimeBounds::new(event_times, stream_times);
        let bounds = Bounds { out_of_orderness: 0, closed: None, fired, extent, ends };
        let mut outcome = BatchOutcome { is_counted: vec![false; rows.num_rows()], ..BatchOutcome::default() };
        for (member, running) in running.iter_mut().enumerate() {
            let Some(MetricColumnIndexes { mask, args }) = &self.metrics[member] else { continue };
            let passed = mask.map(|column| truth(rows.column(column).as_boolean()));
            let args = args.iter().map(|column| rows.column(*column).clone()).collect();
            let view = MetricView {
                metric: member as u32,
                event_times: event_times.clone(),
                stream_times: stream_times.clone(),
                passed,
                living: None,
                args,
            };
            running.add(&view, &bounds, group, &mut outcome);
        }
        group.keys.sweep();
        Ok(outcome)
    }

    /// Returns the number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }
}

fn batch(columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let field = |(at, column): (usize, &ArrayRef)| Field::new(at.to_string(), column.data_type().clone(), true);
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

/// Joins batches of one layout. An argument of decimals that is text in one of them becomes text in all.
pub(crate) fn joined(batches: Vec<RecordBatch>) -> Result<RecordBatch> {
    let Some(columns) = batches.first().map(RecordBatch::num_columns) else { return Err(Error::broken("no rows")) };
    let joined = |column: usize| -> Result<ArrayRef> {
        let arrays = || batches.iter().map(move |rows| rows.column(column));
        let has_texts = arrays().any(|array| *array.data_type() == DataType::Utf8);
        let arrays = arrays().map(|array| if has_texts { decimal_texts(array) } else { Ok(array.clone()) });
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        Ok(concat(&arrays.iter().map(ArrayRef::as_ref).collect::<Vec<_>>())?)
    };
    batch((0..columns).map(joined).collect::<Result<_>>()?)
}

/// Returns the place of each row. `spec` has the windows, unless they are sessions.
pub(crate) fn places(rows: &RecordBatch, spec: Option<WindowSpec>) -> Vec<KeyPlace> {
    let instants = |column: usize| rows.column(column).as_primitive::<Int64Type>().values();
    let (keys, times, bounds) = (rows.column(KEY).as_binary::<i32>(), instants(TIME), instants(BOUND));
    let place = |row: usize| {
        let span = spec.map(|spec| spec.ends_of(times[row], bounds[row]).unwrap_or(EndRange::EMPTY));
        KeyPlace { ends: span.unwrap_or(EndRange::ALL), hash: hash(keys.value(row)) }
    };
    (0..rows.num_rows()).map(place).collect()
}

/// Returns these rows of a batch.
pub(crate) fn take_rows(rows: &RecordBatch, indices: &[u32]) -> Result<RecordBatch> {
    let indices = UInt32Array::from(indices.to_vec());
    let columns =
        rows.columns().iter().map(|column| take(column, &indices, None)).collect::<std::result::Result<_, _>>();
    Ok(RecordBatch::try_new(rows.schema(), columns?)?)
}

/// Returns the bytes of the buffers of a batch, which no other batch must share.
pub(crate) fn size(rows: &RecordBatch) -> usize {
    rows.get_array_memory_size()
}

/// Encodes rows as a block of a log.
pub(crate) fn encode(rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    let mut stream = StreamWriter::try_new(out, rows.schema_ref())?;
    stream.write(rows)?;
    Ok(stream.finish()?)
}

/// Decodes a block of a log. Errors: exit status 65 if it is damaged.
pub(crate) fn decode(bytes: &[u8], columns: usize) -> Result<Vec<RecordBatch>> {
    let damaged = |error| Error::corrupt("a block of rows of a state file").because(error);
    let stream = StreamReader::try_new(bytes, None).map_err(damaged)?;
    let batches = stream.collect::<std::result::Result<Vec<_>, _>>().map_err(damaged)?;
    let is_known = |batch: &RecordBatch| batch.num_columns() == columns;
    if batches.iter().all(is_known) {
        Ok(batches)
    } else {
        Err(Error::corrupt("rows of a state file with other columns"))
    }
}
