//! Sorts the result rows of one firing whose windows are in files: sorted runs in files, merged at the end.
//!
//! The ranges of a state fire one after another. The sorter brings their rows, and those of windows in memory, into the
//! order of a firing in memory.

use crate::error::{Error, Result};
use crate::kind::metric;
use crate::op::snapshot::{Reader, Writer};
use crate::op::state_storage::{NewStateFile, StateFile, StateStorage};
use crate::op::window::firing::{Emitter, FiringOrder};
use crate::op::window::metric::Metric;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::rc::Rc;

/// Maximum runs that are merged together.
const RUNS_MAX: usize = if cfg!(test) { 3 } else { 256 };
/// Bytes of a run that are read together, at least and at most.
const READ_BYTES: [usize; 2] = if cfg!(test) { [16, 64] } else { [4 << 10, 64 << 10] };
/// Bytes that are written together.
const WRITE_BYTES: usize = 64 << 10;

/// Takes result rows in any order.
pub(crate) struct RowSorter {
    rows: Vec<OrderedRow>,
    /// Approximate bytes of `rows`, and their maximum.
    bytes: usize,
    limit: usize,
    /// Files of rows in order.
    runs: Vec<Rc<dyn StateFile>>,
}

/// A result row; its metric has the place of its order.
struct OrderedRow {
    order: FiringOrder,
    start: i64,
    end: i64,
    dimensions: Box<str>,
    value: Option<f64>,
    rows: u64,
    pane: u32,
    retracted: bool,
}

impl OrderedRow {
    fn compare(&self, other: &Self) -> Ordering {
        let key = |row: &Self| (row.order, row.start, !row.retracted);
        let windows = self.order.cmp(&other.order);
        windows.then_with(|| self.dimensions.cmp(&other.dimensions)).then_with(|| key(self).cmp(&key(other)))
    }

    fn save(&self, out: &mut Writer) {
        let Self { order: FiringOrder { due, end: order_end, place }, start, end, dimensions, value, rows, .. } = self;
        [*due, *order_end, *place as i64, *start, *end].into_iter().for_each(|number| out.number(number));
        out.text(dimensions);
        out.optional(value.map(|value| value.to_bits() as i64));
        out.count(*rows as usize);
        out.count(self.pane as usize);
        out.flag(self.retracted);
    }

    fn load(saved: &mut Reader<'_>) -> Result<Self> {
        let order = FiringOrder { due: saved.le()?, end: saved.le()?, place: saved.le::<u64>()? as usize };
        let (start, end) = (saved.le()?, saved.le()?);
        let dimensions = saved.text()?.into();
        let value = saved.optional()?.map(|bits| f64::from_bits(bits as u64));
        let (rows, pane, retracted) = (saved.rows()?, saved.le::<u64>()? as u32, saved.flag()?);
        Ok(Self { order, start, end, dimensions, value, rows, pane, retracted })
    }
}

impl RowSorter {
    /// Makes a sorter that has about `limit` bytes of rows in memory.
    pub(crate) fn new(limit: usize) -> Self {
        Self { rows: vec![], bytes: 0, limit, runs: vec![] }
    }

    /// Takes a row. Errors: exit status 74.
    pub(crate) fn push(
        &mut self,
        order: FiringOrder,
        row: &metric::Row<'_>,
        storage: &mut dyn StateStorage,
    ) -> Result<()> {
        let metric::Row { name: _, start, end, dimensions, value, rows, revision: _, pane, retracted } = *row;
        self.bytes += size_of::<OrderedRow>() + dimensions.len();
        self.rows.push(OrderedRow { order, start, end, dimensions: dimensions.into(), value, rows, pane, retracted });
        if self.bytes >= self.limit { self.write(storage) } else { Ok(()) }
    }

    /// Writes the rows in memory as a run.
    fn write(&mut self, storage: &mut dyn StateStorage) -> Result<()> {
        self.rows.sort_by(OrderedRow::compare);
        let mut run = RunWriter::begin(storage)?;
        self.rows.drain(..).try_for_each(|row| run.push(&row))?;
        self.bytes = 0;
        self.runs.push(run.finish()?);
        Ok(())
    }

    /// Emits all rows in order. `places` has the place of each metric in the order of names. Errors: exit status 74.
    pub(crate) fn finish(
        mut self,
        metrics: &[Metric],
        places: &[usize],
        storage: &mut dyn StateStorage,
        emit: &mut Emitter<'_>,
    ) -> Result<()> {
        let mut names = vec![""; metrics.len()];
        metrics.iter().zip(places).for_each(|(metric, place)| names[*place] = &metric.name);
        let mut emit = |row: &OrderedRow| {
            let OrderedRow { order, start, end, ref dimensions, value, rows, pane, retracted } = *row;
            let name = names[order.place];
            emit(&metric::Row { name, start, end, dimensions, value, rows, revision: 0, pane, retracted })
        };
        if self.runs.is_empty() {
            self.rows.sort_by(OrderedRow::compare);
            return self.rows.iter().try_for_each(emit);
        }
        self.write(storage)?;
        self.rows = vec![];
        while self.runs.len() > RUNS_MAX {
            let mut run = RunWriter::begin(storage)?;
            let first = self.runs.drain(..RUNS_MAX).collect();
            merge(first, self.limit, &mut |row| run.push(row))?;
            self.runs.push(run.finish()?);
        }
        merge(self.runs, self.limit, &mut emit)
    }
}

/// Passes the rows of runs to `each`, in order.
fn merge(runs: Vec<Rc<dyn StateFile>>, limit: usize, each: &mut dyn FnMut(&OrderedRow) -> Result<()>) -> Result<()> {
    let [least, most] = READ_BYTES;
    let size = (limit / runs.len().max(1)).clamp(least, most);
    let mut next = BinaryHeap::new();
    for file in runs {
        let mut run = RunReader { file, read: 0, buffer: vec![], at: 0, size };
        next.extend(run.next()?.map(|row| NextRow { row, run }));
    }
    while let Some(mut least) = next.peek_mut() {
        each(&least.row)?;
        match least.run.next()? {
            Some(row) => least.row = row,
            None => drop(PeekMut::pop(least)),
        }
    }
    Ok(())
}

/// The next row of a run; the greatest one has the least row.
struct NextRow {
    row: OrderedRow,
    run: RunReader,
}

impl Ord for NextRow {
    fn cmp(&self, other: &Self) -> Ordering {
        other.row.compare(&self.row)
    }
}

impl PartialOrd for NextRow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for NextRow {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for NextRow {}

/// Writes a run: for each row its length, then the row.
struct RunWriter {
    file: Box<dyn NewStateFile>,
    buffer: Vec<u8>,
}

impl RunWriter {
    fn begin(storage: &mut dyn StateStorage) -> Result<Self> {
        Ok(Self { file: storage.create()?, buffer: vec![] })
    }

    fn push(&mut self, row: &OrderedRow) -> Result<()> {
        let mut out = Writer::default();
        row.save(&mut out);
        let row = out.finish();
        self.buffer.extend_from_slice(&(row.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&row);
        if self.buffer.len() >= WRITE_BYTES {
            self.file.write(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Rc<dyn StateFile>> {
        self.file.write(&self.buffer)?;
        self.file.finish()
    }
}

/// Reads a run.
struct RunReader {
    file: Rc<dyn StateFile>,
    /// Bytes of the file that were read.
    read: u64,
    /// Bytes that were read, and the place of the next row in them.
    buffer: Vec<u8>,
    at: usize,
    /// Bytes that are read together, unless a row is longer.
    size: usize,
}

impl RunReader {
    fn next(&mut self) -> Result<Option<OrderedRow>> {
        if !self.has(4)? {
            return Ok(None);
        }
        let length = self.buffer[self.at..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        if !self.has(4 + length)? {
            return Err(Error::corrupt("a run of result rows that ends in a row"));
        }
        let start = self.at + 4;
        self.at = start + length;
        OrderedRow::load(&mut Reader::new(&self.buffer[start..self.at])).map(Some)
    }

    /// Whether the run has as many bytes more; reads them.
    fn has(&mut self, bytes: usize) -> Result<bool> {
        let (rest, left) = (self.buffer.len() - self.at, self.file.length() - self.read);
        if rest < bytes && left > 0 {
            let more = (self.size.max(bytes - rest) as u64).min(left);
            self.buffer.drain(..std::mem::take(&mut self.at));
            self.buffer.extend(self.file.read(self.read..self.read + more)?);
            self.read += more;
        }
        Ok(self.buffer.len() - self.at >= bytes)
    }
}
