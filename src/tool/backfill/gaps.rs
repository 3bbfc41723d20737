//! The records that the live run read and that the input may no longer hold: the first ones of partitions.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use evt_core::backfill::{MissingEvents, Scope};
use evt_core::kind::event::{column, instants};
use evt_core::kind::{PartitionColumns, PartitionName};
use evt_store::StreamExtent;
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
        let partitions = PartitionColumns::new(batch);
        let offsets = batch.column(column::OFFSET).as_primitive::<Int64Type>().values();
        let times = instants(batch, column::STREAM_TIME);
        let (mut seen, mut shown) = (BTreeSet::new(), vec![]);
        for (code, (offset, time)) in partitions.codes().zip(offsets.iter().zip(times)) {
            if seen.insert(code) {
                shown.extend(self.begin(partitions.name(code), *offset, *time));
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
