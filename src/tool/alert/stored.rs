//! The rows of a store that an earlier run has evaluated. A store is read whole by each run, in no order of its own.
//!
//! - An event is known if its offset is before the position of its partition, and its stream time is not after that of the position.
//!   Both count because standard input has the same offsets every day.
//! - A metric or a letter is known by its time, because its key says nothing of when it was written. If more rows than before are at or
//!   before the time that the earlier run reached, the others were added since, and are late.
//!
//! Of a store that no earlier run has read, rows that are not after the alert clock of that run are late: the run may have evaluated them
//! under another name.

use super::state::{Positions, TopicPosition, WHOLE};
use crate::alert::clock::PartitionKey;
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::event::column;
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use std::collections::BTreeMap;

/// The rows of a store, and where the earlier run has ended.
pub struct StoredRows {
    /// The name of the store in the state.
    name: String,
    earlier: Positions,
    /// The last instant (s) that the earlier run has evaluated.
    evaluated: Option<i64>,
    reached: Positions,
    /// Rows of this run at or before the time of the position of a table without partitions.
    passed: u64,
    has_begun: bool,
}

impl StoredRows {
    /// Begins after the positions of an earlier run; `name` is that of the store, `evaluated` the last instant (s) of that run.
    pub fn new(name: String, earlier: Positions, evaluated: Option<i64>) -> Self {
        Self { name, earlier, evaluated, reached: Positions::new(), passed: 0, has_begun: false }
    }

    /// Whether rows were read. Until the store is read whole, its rows have no position that the state could have.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Returns the key of the table, which says that a run has read it.
    fn table(&self, kind: Kind) -> (String, String) {
        (format!("{}?table={}", self.name, kind.table()), WHOLE.to_owned())
    }

    /// Returns the last instant (s) whose rows an earlier run may have evaluated although they have no position.
    pub fn after(&self, kind: Kind) -> Option<i64> {
        self.evaluated.filter(|_| !self.earlier.contains_key(&self.table(kind)))
    }

    /// Returns whether each event is new.
    pub fn new_events(&mut self, batch: &RecordBatch) -> Result<Vec<bool>> {
        self.has_begun = true;
        let table = self.table(Kind::Event);
        self.reached.entry(table).or_insert(TopicPosition { next: 0, stream_time: None });
        let offsets = batch.column(column::OFFSET).as_primitive::<Int64Type>().values();
        let times = instants(batch.column(column::STREAM_TIME))?;
        let [origins, names] = [column::ORIGIN, column::PARTITION].map(|at| batch.column(at));
        let codes: Vec<_> = codes(origins).into_iter().zip(codes(names)).collect();
        let mut partitions: BTreeMap<(usize, usize), (Option<TopicPosition>, TopicPosition)> = BTreeMap::new();
        let mut is_new = Vec::with_capacity(batch.num_rows());
        for (code, (offset, time)) in codes.iter().zip(offsets.iter().zip(times)) {
            let (earlier, reached) = partitions.entry(*code).or_insert_with(|| {
                let key = (text(origins, code.0), text(names, code.1));
                let earlier = self.earlier.get(&key).copied();
                let reached = self.reached.get(&key).copied().or(earlier);
                (earlier, reached.unwrap_or(TopicPosition { next: 0, stream_time: None }))
            });
            let is_known =
                |known: TopicPosition| *offset < known.next && known.stream_time.is_none_or(|at| *time <= at);
            is_new.push(!earlier.is_some_and(is_known));
            reached.next = reached.next.max(offset + 1);
            reached.stream_time = reached.stream_time.max(Some(*time));
        }
        for (code, (_, reached)) in partitions {
            self.reached.insert((text(origins, code.0), text(names, code.1)), reached);
        }
        Ok(is_new)
    }

    /// Returns whether each row without stamps is new; `times` are its instants (µs).
    pub fn new_others(&mut self, kind: Kind, times: &[i64]) -> Vec<bool> {
        self.has_begun = true;
        let table = self.table(kind);
        let until = self.earlier.get(&table).and_then(|earlier| earlier.stream_time);
        let reached = self.reached.entry(table).or_insert(TopicPosition { next: 0, stream_time: until });
        reached.next += times.len() as i64;
        reached.stream_time = reached.stream_time.max(times.iter().max().copied());
        let is_new: Vec<bool> = times.iter().map(|at| until.is_none_or(|until| *at > until)).collect();
        self.passed += is_new.iter().filter(|is_new| !**is_new).count() as u64;
        is_new
    }

    /// Ends the store: its positions are those of all rows. Rows that were added behind the position were counted as known, and are
    /// late.
    pub fn end(
        self,
        kind: Kind,
        number: u32,
        counts: &mut Counts,
        positions: &mut BTreeMap<PartitionKey, TopicPosition>,
    ) {
        let earlier = self.earlier.get(&self.table(kind)).filter(|_| kind != Kind::Event);
        let added = earlier.map_or(0, |earlier| self.passed.saturating_sub(earlier.next.unsigned_abs()));
        counts.duplicate -= added;
        counts.late += added;
        let reached = self.reached.into_iter().map(|((topic, partition), at)| ((number, topic, partition), at));
        positions.extend(reached);
    }
}

/// Returns the instants (µs) of a column.
pub fn instants(column: &ArrayRef) -> Result<&[i64]> {
    let instants = column.as_primitive_opt::<TimestampMicrosecondType>();
    let instants = instants.ok_or_else(|| Error::broken("a column of instants has another type"))?;
    Ok(instants.values())
}

/// Returns the code of each text of a dictionary.
pub fn codes(column: &ArrayRef) -> Vec<usize> {
    column.as_any_dictionary().normalized_keys()
}

/// Returns the text of a code.
pub fn text(column: &ArrayRef, code: usize) -> String {
    column.as_any_dictionary().values().as_string::<i32>().value(code).to_owned()
}
