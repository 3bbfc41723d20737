//! The rows of an input that are not evaluated: those that an earlier run has evaluated, those that are ahead of the
//! wall time, and those of windows that fired again.
//!
//! The result of a window is its last row, and no row says that it is the last one. The engine cannot take a row back
//! (maxima and percentiles have no inverse), so it gets one row of each window. For windows that may fire again this is
//! the first row, whose value depends on when the window fired. Frames of a pipe or a file mark such metrics, so they
//! are rejected. Other inputs do not, so their first row counts.
//!
//! `files.rs`: files that are known by their content; `older.rs`: those in the state of an older version; `stored.rs`:
//! rows of stores that are known.

pub mod files;
pub mod older;
pub mod stored;

use self::files::FileMark;
use self::stored::ReadStore;
use super::positions::{ANY, PartitionTimes, partition_of_pipe};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, Schema};
use evt_core::alert::clock::PartitionKey;
use evt_core::alert::engine::TimedRows;
use evt_core::error::{Error, Result};
use evt_core::kind::event::column;
use evt_core::kind::metric::MetricColumns;
use evt_core::kind::{Kind, PartitionColumns, REFIRING_KEY, metrics_of};
use evt_core::time::{LATEST, format_instant};
use evt_run::console::Console;
use std::collections::BTreeMap;

/// The way in which a run recognises the rows of an input that an earlier run has evaluated.
pub enum KnownRows {
    /// Rows are not recognised: a topic is read from after such rows, and rows of a pipe may be among them.
    Unmarked(UnmarkedRows),
    /// By their positions in a file.
    File(FileRows),
    /// By their positions in a store.
    Store(ReadStore),
}

/// Rows of an input that tells nothing of them.
#[derive(Debug, Default)]
pub struct UnmarkedRows {
    /// Rows of these partitions up to these instants (µs) may be those of an earlier run.
    pub read: PartitionTimes,
    /// The origin that the input gives to rows without stamps.
    pub origin: String,
    /// Whether the input is a process substitution.
    pub is_substitution: bool,
    /// Whether the input is a pipe, which has its rows no longer once they are read.
    pub is_pipe: bool,
    /// The number of its rows whose effect the state has.
    pub stored: u64,
}

/// The rows of a file that an earlier run has evaluated. A row is known by its offset. If the rows name partitions,
/// those of each are compared alone, because `--max-future` may hold some partitions longer than others. If any row of
/// the file has stamps of its own, a row is known by its number: offsets of several runs that wrote one file cannot be
/// compared.
pub struct FileRows {
    mark: FileMark,
    /// The mark at the start of the run.
    to: FileMark,
    /// The number of the next row.
    next: i64,
    /// Whether rows are known by their numbers.
    is_numbered: bool,
    /// Whether the rows name partitions.
    names_partitions: bool,
    /// The origin of rows that name none. It is not part of the names of partitions in the mark, because the same
    /// content may have another name.
    origin: String,
    /// Rows up to this instant (µs) may be those of an earlier run, because the file was written anew.
    after: Option<i64>,
}

impl KnownRows {
    /// Returns whether each event is new; `None` if all are.
    pub fn new_events(&mut self, batch: &RecordBatch) -> Option<Vec<bool>> {
        match self {
            Self::Unmarked(_) => None,
            Self::File(file) => {
                let offsets = batch.column(column::OFFSET).as_primitive::<Int64Type>().values();
                match file.names_partitions && !file.is_numbered {
                    true => file.new_of_partitions(PartitionColumns::new(batch), offsets),
                    false => file.new_rows(batch.num_rows(), Some(offsets)),
                }
            }
            Self::Store(stored) => Some(stored.new_events(batch)),
        }
    }

    /// Returns whether each row without stamps is new; `None` if all are. `times` are their instants (µs); those after
    /// `latest` have no position in a store, so that a later run evaluates them.
    pub fn new_others(&mut self, kind: Kind, times: &[i64], latest: i64) -> Option<Vec<bool>> {
        match self {
            Self::Unmarked(_) => None,
            Self::File(file) => file.new_rows(times.len(), None),
            Self::Store(stored) => Some(stored.new_others(kind, times, latest)),
        }
    }

    /// Returns the last instant (µs) of which an earlier run may have evaluated some rows of a partition; which ones is
    /// unknown. Rows without stamps have no partition.
    pub fn after(&self, kind: Kind, partition: Option<&PartitionKey>) -> Option<i64> {
        match self {
            Self::Unmarked(rows) if rows.read.is_empty() => None,
            Self::Unmarked(rows) => {
                [rows.partition(partition), ANY].iter().filter_map(|key| rows.read.get(key)).max().copied()
            }
            Self::File(file) => file.after,
            Self::Store(stored) => stored.after(kind),
        }
    }

    /// Returns the partition whose rows the next run finds in a pipe; those of another input have a position, or none
    /// that depends on their partition.
    pub fn partition(&self, key: Option<&PartitionKey>) -> (String, String) {
        match self {
            Self::Unmarked(rows) => rows.partition(key),
            Self::File(_) | Self::Store(_) => ANY,
        }
    }

    /// Whether the input is a process substitution.
    pub fn is_substitution(&self) -> bool {
        matches!(self, Self::Unmarked(UnmarkedRows { is_substitution: true, .. }))
    }

    /// Returns the number of rows that were counted as duplicates and that are late, as the end of a store has shown.
    pub fn late(&self) -> u64 {
        if let Self::Store(stored) = self { stored.late() } else { 0 }
    }

    /// Notes that the state has the effect of all rows that were taken.
    pub fn set_stored(&mut self, taken: u64) {
        if let Self::Unmarked(unmarked) = self {
            unmarked.stored = taken;
        }
    }

    /// Returns the number of rows that no later run can read again and whose effect the state does not have.
    pub fn lost(&self, taken: u64) -> u64 {
        match self {
            Self::Unmarked(UnmarkedRows { is_pipe: true, stored, .. }) => taken - stored,
            _ => 0,
        }
    }

    /// Notes that some row has the stamps with which it was read.
    pub fn keeps_stamps(&mut self) {
        if let Self::File(file) = self {
            file.is_numbered = true;
        }
    }

    /// Notes that the rows name partitions.
    pub fn names_partitions(&mut self) {
        if let Self::File(file) = self {
            file.names_partitions = true;
        }
    }

    /// Returns the mark of a file.
    pub fn mark(&self) -> Option<&FileMark> {
        match self {
            Self::File(file) => Some(&file.mark),
            _ => None,
        }
    }

    /// Returns the mark of a file, to change it.
    pub fn mark_mut(&mut self) -> Option<&mut FileMark> {
        match self {
            Self::File(file) => Some(&mut file.mark),
            _ => None,
        }
    }
}

impl UnmarkedRows {
    /// Returns the key of a partition in the state.
    fn partition(&self, key: Option<&PartitionKey>) -> (String, String) {
        let key = key.filter(|_| self.is_pipe);
        key.map_or(ANY, |key| partition_of_pipe(&self.origin, &key.origin, &key.partition))
    }
}

impl FileRows {
    /// Begins after the rows of a mark. Rows up to `after` (µs) may be those of an earlier run; `origin` is that of
    /// rows that name none.
    pub fn new(mark: FileMark, after: Option<i64>, origin: String) -> Self {
        let is_numbered = mark.last_offset < 0 && mark.last_row >= 0;
        Self { to: mark.clone(), mark, next: 0, is_numbered, names_partitions: false, origin, after }
    }

    /// Returns whether each of the next rows is new, and notes the last of each partition.
    fn new_of_partitions(&mut self, names: PartitionColumns<'_>, offsets: &[i64]) -> Option<Vec<bool>> {
        // A mark of a run whose rows named no partition is that of all.
        let of_all = if self.to.last_of_partitions.is_empty() { self.to.last_offset } else { -1 };
        let mut last_of_codes: BTreeMap<(usize, usize), i64> = BTreeMap::new();
        for (code, offset) in names.codes().zip(offsets) {
            last_of_codes.entry(code).and_modify(|last| *last = (*last).max(*offset)).or_insert(*offset);
        }
        let mut known_of_codes = BTreeMap::new();
        for (code, last) in last_of_codes {
            let mut name = names.name(code);
            if name.origin == self.origin {
                name.origin.clear();
            }
            known_of_codes.insert(code, self.to.last_of_partitions.get(&name).copied().unwrap_or(of_all));
            let noted = self.mark.last_of_partitions.entry(name).or_insert(last);
            *noted = (*noted).max(last);
        }
        self.new_rows(offsets.len(), Some(offsets));
        Some(names.codes().zip(offsets).map(|(code, offset)| *offset > known_of_codes[&code]).collect())
    }

    /// Returns whether each of the next rows is new, and notes the last of them; `offsets` are those of events.
    fn new_rows(&mut self, count: usize, offsets: Option<&[i64]>) -> Option<Vec<bool>> {
        let first = self.next;
        self.next += count as i64;
        self.mark.last_row = self.mark.last_row.max(self.next - 1);
        match offsets.filter(|_| !self.is_numbered) {
            Some(offsets) => {
                self.mark.last_offset = self.mark.last_offset.max(offsets.iter().max().copied().unwrap_or(-1));
                let to = self.to.last_offset;
                (to >= 0).then(|| offsets.iter().map(|offset| *offset > to).collect())
            }
            None => {
                self.mark.last_offset = -1;
                let to = self.to.last_row;
                (to >= 0).then(|| (first..self.next).map(|row| row > to).collect())
            }
        }
    }
}

/// Rows of an input without stamps.
pub struct UnstampedRows<'a> {
    /// The name of the input.
    pub name: &'a str,
    /// The kind of the rows.
    pub kind: Kind,
    /// Whether they are those of a store, which has one row of each window: its result.
    pub is_stored: bool,
    /// The rows.
    pub batch: &'a RecordBatch,
    /// The column of their times.
    pub column: &'a str,
    /// Their times (µs).
    pub times: &'a [i64],
}

/// The lines about rows that are left out, each said once.
#[derive(Debug, Default)]
pub struct LeftOut {
    has_told_ahead: bool,
    has_told_panes: bool,
}

/// Some rows of a batch, with their times (µs).
pub struct SelectedRows {
    /// The rows.
    pub batch: RecordBatch,
    /// The event time of each row.
    pub event_times: Vec<i64>,
    /// The stream time of each row.
    pub stream_times: Vec<i64>,
}

impl SelectedRows {
    /// Selects rows of a batch.
    pub fn new(rows: &TimedRows<'_>, keep: Vec<bool>) -> Result<Self> {
        let [event_times, stream_times] = [rows.event_times, rows.stream_times]
            .map(|times| times.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(time, _)| *time).collect::<Vec<_>>());
        Ok(Self { batch: filter_record_batch(rows.batch, &keep.into())?, event_times, stream_times })
    }

    /// Returns them for the engine: none of them was read by an earlier run, because with a range there is none.
    pub fn timed(&self, kind: Kind) -> TimedRows<'_> {
        let Self { batch, event_times, stream_times } = self;
        TimedRows { kind, batch, event_times, stream_times, repeats: &[] }
    }
}

/// Refuses metrics whose windows may fire again. Errors: exit status 2.
pub fn check_final(schema: &Schema, name: &str) -> Result<()> {
    let Some(metric) = metrics_of(schema, REFIRING_KEY).into_iter().next() else { return Ok(()) };
    Err(Error::usage(format!(
        "{name}: metric {metric} has a lateness: its windows may fire again, and rules would count each row; give evt-window \
         --emit final"
    )))
}

impl LeftOut {
    /// Returns for each row whether it is left out. `latest` is the wall time (µs) and what `--max-future` permits.
    pub fn rows(&mut self, rows: &UnstampedRows<'_>, latest: i64, console: &Console) -> Result<Vec<bool>> {
        let mut left_out = self.ahead(rows, latest, console);
        if rows.kind == Kind::Metric {
            let again = self.fired_again(rows, console)?;
            left_out.iter_mut().zip(again).for_each(|(is_left_out, again)| *is_left_out |= again);
        }
        Ok(left_out)
    }

    /// Marks rows that are later than the wall time plus `--max-future`: the alert clock must not follow such a row.
    /// The first one is reported. A row at the end of all time, at which windows of size all end, is marked, too, but
    /// not reported.
    fn ahead(&mut self, rows: &UnstampedRows<'_>, latest: i64, console: &Console) -> Vec<bool> {
        let UnstampedRows { name, column, times, .. } = rows;
        let first = times.iter().find(|at| **at > latest && **at < LATEST);
        if let Some(first) = first.filter(|_| !self.has_told_ahead) {
            self.has_told_ahead = true;
            let first = format_instant(*first);
            console.warn(format!(
                "{name}: rows that are ahead of the wall time (--max-future) are not evaluated, first {column} {first}"
            ));
        }
        times.iter().map(|at| *at > latest || *at >= LATEST).collect()
    }

    /// Marks rows of windows that fired before, and retractions. The first one is reported.
    fn fired_again(&mut self, rows: &UnstampedRows<'_>, console: &Console) -> Result<Vec<bool>> {
        let UnstampedRows { name, is_stored, batch, .. } = rows;
        let columns = MetricColumns::try_new(batch)?;
        // A store replaces the rows of a window, so that the only one may have any pane.
        let again = |row: usize| columns.retracted.value(row) || !is_stored && columns.panes.value(row) > 0;
        let again: Vec<bool> = (0..batch.num_rows()).map(again).collect();
        if let Some(row) = again.iter().position(|again| *again).filter(|_| !self.has_told_panes) {
            self.has_told_panes = true;
            let key = columns.key(row);
            console.warn(format!(
                "{name}: only the first row of a window is evaluated; later panes and retractions are left out, first of \
                 {key}; evt-window --emit final writes one row of each window"
            ));
        }
        Ok(again)
    }
}

#[cfg(test)]
mod tests {
    use super::files::FileMark;
    use super::*;
    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, new_null_array};
    use arrow::datatypes::Int32Type;
    use evt_run::input::content::digest::FileContent;
    use std::sync::Arc;

    /// A batch of events of these partitions, with these offsets.
    fn batch(rows: &[(&str, i64)]) -> RecordBatch {
        let schema = Kind::Event.schema();
        let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
        let mut columns: Vec<ArrayRef> =
            schema.fields().iter().map(|field| new_null_array(field.data_type(), rows.len())).collect();
        let names = |name: &mut dyn FnMut(&str) -> String| -> ArrayRef {
            let names: Vec<String> = rows.iter().map(|(partition, _)| name(partition)).collect();
            Arc::new(names.iter().map(String::as_str).collect::<DictionaryArray<Int32Type>>())
        };
        columns[column::ORIGIN] = names(&mut |_| "f".to_owned());
        columns[column::PARTITION] = names(&mut str::to_owned);
        columns[column::OFFSET] = Arc::new(rows.iter().map(|(_, offset)| *offset).collect::<Int64Array>());
        RecordBatch::try_new(schema, columns).unwrap()
    }

    /// Begins a run over a file with this mark, whose rows name partitions.
    fn run(mark: FileMark) -> KnownRows {
        let mut known = KnownRows::File(FileRows::new(mark, None, "f".to_owned()));
        known.names_partitions();
        known
    }

    /// `--max-future` holds the rows of one partition while those of another one are evaluated.
    #[test]
    fn a_row_of_a_partition_that_was_held_is_new_although_later_rows_of_others_are_known() {
        let mark = FileMark {
            id: None,
            name: "f".to_owned(),
            content: FileContent::default(),
            last_offset: -1,
            last_row: -1,
            last_letter: -1,
            last_of_partitions: BTreeMap::new(),
        };
        let mut first = run(mark);
        assert_eq!(first.new_events(&batch(&[("a", 3), ("a", 5), ("b", 1)])), Some(vec![true; 3]));
        let mut second = run(first.mark().unwrap().clone());
        let rows = batch(&[("b", 1), ("b", 2), ("a", 3), ("c", 4), ("a", 5), ("b", 6), ("a", 7)]);
        let expected = vec![false, true, false, true, false, true, true];
        assert_eq!(second.new_events(&rows), Some(expected));
        let mark = second.mark().unwrap().clone();
        assert_eq!(run(mark.clone()).new_events(&rows), Some(vec![false; 7]));
        // The mark of a version that knew one offset of a file.
        let mut older = run(FileMark { last_of_partitions: BTreeMap::new(), last_offset: 4, ..mark });
        assert_eq!(older.new_events(&batch(&[("a", 4), ("b", 5)])), Some(vec![false, true]));
    }
}
