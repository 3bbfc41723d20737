//! Measures disorder: how far each event is behind the stream time of its partition.
//!
//! A row's lateness is its `stream_time` minus its `event_time`, both as stamped; it is 0 for a row that advanced the
//! stream time. Percentiles are over all rows, within 1 %. The first [`PARTITIONS_MAX`] partitions are measured by
//! name; the others count in the total only.

use crate::error::{Error, Result};
use crate::expr::Leaves;
use crate::kind::{PartitionColumns, PartitionName, array};
use crate::op::aggregate::{self, Aggregate};
use ahash::AHashMap;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde::Serialize;
use std::sync::Arc;

/// Maximum number of partitions measured by name.
const PARTITIONS_MAX: usize = 1_000;
/// Number of partitions described, those with the most rows out of order first.
const SHOWN_MAX: usize = 10;

/// The lateness of a set of rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Lateness {
    /// The number of rows.
    pub rows: u64,
    /// The number of rows behind the stream time of their partition.
    pub out_of_order: u64,
    /// Their share of all rows.
    pub out_of_order_share: f64,
    /// Median lateness of all rows, in milliseconds.
    pub lateness_ms_p50: f64,
    /// The lateness that 99 % of all rows do not exceed, in milliseconds.
    pub lateness_ms_p99: f64,
    /// The greatest lateness, in milliseconds.
    pub lateness_ms_max: f64,
}

/// Lateness of the rows of one partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionLateness {
    /// The file or topic.
    pub origin: String,
    /// The name of the partition.
    pub partition: String,
    /// The lateness of its rows.
    #[serde(flatten)]
    pub lateness: Lateness,
}

/// The disorder of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Described {
    /// The lateness of all rows.
    #[serde(flatten)]
    pub total: Lateness,
    /// Number of partitions measured by name.
    pub partitions: usize,
    /// The ten with the most rows out of order.
    pub most_out_of_order: Vec<PartitionLateness>,
}

/// Counts of one slot.
#[derive(Clone, Copy, Debug, Default)]
struct LatenessCounts {
    rows: u64,
    out_of_order: u64,
    lateness_max: i64,
}

/// Measures disorder, batch by batch. Slot 0 has the rows of partitions without a slot; at the end it has all rows.
pub struct LatenessReport {
    slots: AHashMap<PartitionName, u32>,
    counts: Vec<LatenessCounts>,
    median: Box<dyn Aggregate>,
    high: Box<dyn Aggregate>,
}

impl LatenessReport {
    /// Creates an empty measurement.
    pub fn try_new() -> Result<Self> {
        Ok(Self {
            slots: AHashMap::new(),
            counts: vec![LatenessCounts::default()],
            median: aggregate_of("approx_percentile(x, 0.5)", DataType::Float64)?,
            high: aggregate_of("approx_percentile(x, 0.99)", DataType::Float64)?,
        })
    }

    /// Measures the rows of a batch of events.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let instants = |name: &str| {
            let instants = array::<TimestampMicrosecondArray>(batch, name);
            instants.ok_or_else(|| Error::broken(format!("events without {name}")))
        };
        let event_times = instants("event_time")?.values();
        let stream_times = instants("stream_time")?.values();
        let slots = self.slots_of(batch);
        let mut lateness = Vec::with_capacity(slots.len());
        for ((slot, event_time), stream_time) in slots.iter().zip(event_times).zip(stream_times) {
            let late = stream_time.saturating_sub(*event_time).max(0);
            let tally = &mut self.counts[*slot as usize];
            tally.rows += 1;
            tally.out_of_order += u64::from(late > 0);
            tally.lateness_max = tally.lateness_max.max(late);
            lateness.push(late as f64);
        }
        let rows: Vec<u32> = (0..).take(slots.len()).collect();
        let args: [ArrayRef; 1] = [Arc::new(Float64Array::from(lateness))];
        for sketch in [&mut self.median, &mut self.high] {
            sketch.ensure(self.counts.len());
            sketch.add(&slots, &rows, &args);
        }
        Ok(())
    }

    /// Returns the slot of each row.
    fn slots_of(&mut self, batch: &RecordBatch) -> Vec<u32> {
        let partitions = PartitionColumns::new(batch);
        let mut known = AHashMap::new();
        let slot = |code| *known.entry(code).or_insert_with(|| self.slot(partitions.name(code)));
        partitions.codes().map(slot).collect()
    }

    fn slot(&mut self, name: PartitionName) -> u32 {
        if let Some(slot) = self.slots.get(&name) {
            return *slot;
        }
        if self.slots.len() == PARTITIONS_MAX {
            return 0;
        }
        let slot = self.counts.len() as u32;
        self.slots.insert(name, slot);
        self.counts.push(LatenessCounts::default());
        slot
    }

    /// Returns the measurements.
    pub fn finish(mut self) -> Described {
        let mut partitions: Vec<PartitionLateness> = vec![];
        for (PartitionName { origin, partition }, slot) in std::mem::take(&mut self.slots) {
            partitions.push(PartitionLateness { origin, partition, lateness: self.lateness(slot) });
            let tally = self.counts[slot as usize];
            let total = &mut self.counts[0];
            total.rows += tally.rows;
            total.out_of_order += tally.out_of_order;
            total.lateness_max = total.lateness_max.max(tally.lateness_max);
            self.median.merge(0, slot);
            self.high.merge(0, slot);
        }
        let count = partitions.len();
        partitions.sort_by(|a, b| {
            let key = |p: &PartitionLateness| (p.lateness.out_of_order, p.lateness.rows);
            key(b).cmp(&key(a)).then_with(|| (&a.origin, &a.partition).cmp(&(&b.origin, &b.partition)))
        });
        partitions.truncate(SHOWN_MAX);
        Described { total: self.lateness(0), partitions: count, most_out_of_order: partitions }
    }

    fn lateness(&self, slot: u32) -> Lateness {
        let tally = self.counts[slot as usize];
        // A sketch errs by up to 1 %, so its result is limited to the maximum that occurred.
        let max = tally.lateness_max as f64;
        let ms = |sketch: &dyn Aggregate| sketch.result(slot, 1).unwrap_or(0.0).min(max) / 1e3;
        Lateness {
            rows: tally.rows,
            out_of_order: tally.out_of_order,
            out_of_order_share: share(tally.out_of_order, tally.rows),
            lateness_ms_p50: ms(self.median.as_ref()),
            lateness_ms_p99: ms(self.high.as_ref()),
            lateness_ms_max: max / 1e3,
        }
    }
}

/// Makes an aggregate of a column `x` of this type, with one slot.
pub fn aggregate_of(text: &str, data_type: DataType) -> Result<Box<dyn Aggregate>> {
    let schema = Arc::new(Schema::new(vec![Field::new("x", data_type, true)]));
    let mut aggregate = aggregate::parse(text, &mut Leaves::new(&schema))?.create();
    aggregate.ensure(1);
    Ok(aggregate)
}

/// Returns `part` as a share of `whole`; 0 if `whole` is 0.
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
