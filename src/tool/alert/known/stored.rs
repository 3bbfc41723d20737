//! The rows of a store that an earlier run has evaluated. A store is read whole by each run, in no order of its own.
//!
//! - An event is known if its offset is before the position of its partition, and its stream time is not after that of
//!   the position. Both count because standard input has the same offsets every day. The position is that of this
//!   table; another table may have other events of the same partition. Events that were evaluated from their topic are
//!   known as well. Events of standard input with older times cannot be told from known ones, and neither can they be
//!   counted: a lake has events twice if they were appended twice.
//! - A metric or a letter is known by its time, because its key says nothing of when it was written. If more rows of a
//!   day than before are at or before the time that the earlier run reached, the others were added since, and are late.
//!   Retention removes rows of other days.
//!
//! Of a store that no earlier run has read, rows that are not after the alert clock and the last row of that run are
//! late: the run may have read them under another name.

use crate::source::SortColumns;
use crate::tool::alert::positions::{Positions, RowPosition, WHOLE, parse_partition, partition_in_store};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use evt_core::alert::clock::PartitionKey;
use evt_core::kind::event::{column, instants};
use evt_core::kind::{Kind, PartitionColumns, PartitionName};
use evt_core::time::{DAY, format_instant};
use std::collections::BTreeMap;

/// Returns the columns that order rows without stamps: the one with their time.
pub fn time_columns(kind: Kind) -> Option<SortColumns> {
    match kind {
        Kind::Dead => Some(&["failed_at"]),
        Kind::Metric => Some(&["window_end"]),
        Kind::Event | Kind::Late | Kind::Alert => None,
    }
}

/// A partition of events in a batch.
struct StoredPartition {
    /// Its positions in the earlier run: that of the table, and that of the topic with its origin.
    earlier: [Option<RowPosition>; 2],
    reached: RowPosition,
}

/// The rows of a day.
#[derive(Default)]
struct DayRows {
    all: i64,
    passed: i64,
}

/// The rows of a store, and where the earlier run has ended.
pub struct ReadStore {
    /// The name of the store in the state.
    name: String,
    earlier: Positions,
    /// The last instant (µs) of which the earlier run may have read rows.
    known_to: Option<i64>,
    reached: Positions,
    /// Rows of a table without partitions by day: all of them, and those at or before the time of the position.
    days: BTreeMap<i64, DayRows>,
    /// Whether it was begun to be read and has not ended.
    has_begun: bool,
    /// The number of rows that were counted as duplicates and are late.
    late: u64,
}

impl ReadStore {
    /// Begins after the positions of an earlier run; `name` is that of the store, `known_to` the last instant (µs) of
    /// which that run may have read rows.
    pub fn new(name: String, earlier: Positions, known_to: Option<i64>) -> Self {
        Self { name, earlier, known_to, reached: Positions::new(), days: BTreeMap::new(), has_begun: false, late: 0 }
    }

    /// Whether a part of the rows was read. Until the store is read whole, its rows have no position that the state
    /// could have.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Returns the number of rows that were counted as duplicates and that are late, as the end of the store has shown.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Returns the key of the table, which says that a run has read it.
    fn table(&self, kind: Kind) -> (String, String) {
        (format!("{}?table={}", self.name, kind.table()), WHOLE.to_owned())
    }

    /// Returns the last instant (µs) whose rows an earlier run may have read although they have no position.
    pub fn after(&self, kind: Kind) -> Option<i64> {
        self.known_to.filter(|_| !self.earlier.contains_key(&self.table(kind)))
    }

    /// Returns whether each event is new.
    pub fn new_events(&mut self, batch: &RecordBatch) -> Vec<bool> {
        self.has_begun = true;
        let table = self.table(Kind::Event);
        self.reached.entry(table).or_default();
        let offsets = batch.column(column::OFFSET).as_primitive::<Int64Type>().values();
        let times = instants(batch, column::STREAM_TIME);
        let names = PartitionColumns::new(batch);
        let (table, _) = self.table(Kind::Event);
        let of_store = |name: &PartitionName| (table.clone(), partition_in_store(name));
        let mut partitions: BTreeMap<(usize, usize), StoredPartition> = BTreeMap::new();
        let mut is_new = Vec::with_capacity(batch.num_rows());
        for (code, (offset, time)) in names.codes().zip(offsets.iter().zip(times)) {
            let StoredPartition { earlier, reached } = partitions.entry(code).or_insert_with(|| {
                let name = names.name(code);
                let key = of_store(&name);
                let of_topic = self.earlier.get(&(name.origin, name.partition)).copied();
                let earlier = self.earlier.get(&key).copied();
                let reached = self.reached.get(&key).copied().or(earlier).unwrap_or_default();
                StoredPartition { earlier: [earlier, of_topic], reached }
            });
            let is_known = |known: &RowPosition| *offset < known.next && known.stream_time.is_none_or(|at| *time <= at);
            is_new.push(!earlier.iter().flatten().any(is_known));
            reached.next = reached.next.max(offset + 1);
            reached.stream_time = reached.stream_time.max(Some(*time));
        }
        for (code, StoredPartition { reached, .. }) in partitions {
            self.reached.insert(of_store(&names.name(code)), reached);
        }
        is_new
    }

    /// Returns whether each row without stamps is new; `times` are their instants (µs). Rows after `latest` are not
    /// rows of this run.
    pub fn new_others(&mut self, kind: Kind, times: &[i64], latest: i64) -> Vec<bool> {
        self.has_begun = true;
        let table = self.table(kind);
        let until = self.earlier.get(&table).and_then(|earlier| earlier.stream_time);
        let reached = self.reached.entry(table).or_insert(RowPosition { stream_time: until, ..RowPosition::default() });
        let is_new = |at: i64| until.is_none_or(|until| at > until);
        for at in times.iter().filter(|at| **at <= latest) {
            reached.next += 1;
            reached.stream_time = reached.stream_time.max(Some(*at));
            let day = self.days.entry(at.div_euclid(DAY)).or_default();
            day.all += 1;
            day.passed += i64::from(!is_new(*at));
        }
        times.iter().map(|at| is_new(*at)).collect()
    }

    /// Returns the key of the rows of a day.
    fn day(&self, kind: Kind, day: i64) -> (String, String) {
        let date = format_instant(day.saturating_mul(DAY));
        (self.table(kind).0, date.split('T').next().unwrap_or_default().to_owned())
    }

    /// Ends the store: its positions are those of all rows. Rows that were added behind the position were counted as
    /// known, and are late.
    pub fn end(&mut self, kind: Kind, number: u32, positions: &mut BTreeMap<PartitionKey, RowPosition>) {
        let table = self.table(kind);
        // A table without rows was read, too.
        let until = self.earlier.get(&table).and_then(|earlier| earlier.stream_time);
        self.reached.entry(table.clone()).or_insert(RowPosition { stream_time: until, ..RowPosition::default() });
        // Days that are gone have no rows.
        let is_day = |name: &str| name != WHOLE && parse_partition(name).is_none();
        let of_table = self.earlier.keys().filter(|(name, day)| *name == table.0 && is_day(day));
        let former: Vec<(String, String)> = of_table.cloned().collect();
        for key in former {
            self.reached.insert(key, RowPosition::default());
        }
        let has_position = self.earlier.contains_key(&table);
        for (day, DayRows { all, passed }) in std::mem::take(&mut self.days) {
            let key = self.day(kind, day);
            let known = self.earlier.get(&key).map_or(0, |earlier| earlier.next);
            // Rows that were removed on other days hide none that were added.
            let added = if has_position { (passed - known).max(0).unsigned_abs() } else { 0 };
            self.late += added;
            self.reached.insert(key, RowPosition { next: all, ..RowPosition::default() });
        }
        self.has_begun = false;
        let reached = std::mem::take(&mut self.reached)
            .into_iter()
            .map(|((topic, partition), at)| (PartitionKey::new(number, topic, partition), at));
        positions.extend(reached);
    }
}
