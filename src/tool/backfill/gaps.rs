//! The records that the live run read and that the input may no longer hold: the first ones of partitions.

use crate::backfill::{MissingEvents, Scope};
use crate::kind::PartitionName;
use crate::kind::event::column;
use crate::store::StreamExtent;
use arrow::array::{AnyDictionaryArray, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use std::collections::BTreeSet;

/// The greatest offset of a partition's first record: offsets of topics begin with 0, line numbers of files with 1.
const FIRST_MAX: i64 = 1;

/// The partitions that have begun, and the events that are missing before their first records.
pub(super) struct Gaps {
    begun: BTreeSet<PartitionName>,
    /// How much later than the stream time of the first record a missing event can be (µs): the stream time of a topic
    /// is not known, because this run computes it from the first record.
    margin: i64,
    /// Whether the input holds every record that the live run read (`--all-records`, raw files), so that no event is
    /// missing.
    is_whole: bool,
    /// The missing events.
    pub missing: MissingEvents,
    /// The first partition with missing events, and its first record.
    pub first: Option<String>,
}

impl Gaps {
    /// Begins without partitions; `margin` is the out-of-orderness of topics, 0 for other inputs (µs).
    pub fn new(scope: &Scope, margin: i64, is_whole: bool) -> Self {
        let sessions = scope.metrics.iter().filter(|metric| metric.is_session()).map(|metric| metric.name.clone());
        let missing = MissingEvents::new(sessions.collect());
        Self { begun: BTreeSet::new(), margin, is_whole, missing, first: None }
    }

    /// Adds the partitions of a store.
    pub fn add_store(&mut self, extents: Vec<StreamExtent>) {
        for StreamExtent { origin, partition, first_offset, first_time, .. } in extents {
            self.begin(PartitionName { origin, partition }, first_offset, first_time);
        }
    }

    /// Adds the partitions that begin in a batch of a stream. For each one whose first records are missing, returns the
    /// name of the first record that it has.
    pub fn add_batch(&mut self, batch: &RecordBatch) -> Vec<String> {
        let (origins, names) = (batch.column(column::ORIGIN), batch.column(column::PARTITION));
        let (origins, names) = (origins.as_any_dictionary(), names.as_any_dictionary());
        let offsets = batch.column(column::OFFSET).as_primitive::<Int64Type>().values();
        let times = batch.column(column::STREAM_TIME).as_primitive::<TimestampMicrosecondType>().values();
        let (mut seen, mut shown) = (BTreeSet::new(), vec![]);
        let codes = origins.normalized_keys().into_iter().zip(names.normalized_keys());
        for (code, (offset, time)) in codes.zip(offsets.iter().zip(times)) {
            if seen.insert(code) {
                let text = |column: &dyn AnyDictionaryArray, code: usize| {
                    column.values().as_string::<i32>().value(code).to_owned()
                };
                let name = PartitionName::new(text(origins, code.0), text(names, code.1));
                shown.extend(self.begin(name, *offset, *time));
            }
        }
        shown
    }

    /// Adds a partition, unless it is known. Returns the name of its first record if records before it are missing.
    fn begin(&mut self, name: PartitionName, offset: i64, stream_time: i64) -> Option<String> {
        let shown = format!("{}/{}@{offset}", name.origin, name.partition);
        if !self.begun.insert(name) || offset <= FIRST_MAX || self.is_whole {
            return None;
        }
        self.missing.add(stream_time.saturating_add(self.margin));
        self.first.get_or_insert_with(|| shown.clone());
        Some(shown)
    }
}
