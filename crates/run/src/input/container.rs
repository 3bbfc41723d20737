//! Rows of a container (Parquet, Avro, …) or of a store, read batch by batch.

use super::{EndProof, Input, InputEnd, Step};
use crate::ahead::PartsAhead;
use crate::emit::{Chunk, RecordEmitter};
use crate::run::Run;
use crate::task_pool::TaskPool;
use crate::thread::Threads;
use ahash::AHashSet;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use evt_core::error::Result;
use evt_core::format::{RowPart, Rows, rows_of_parts};
use evt_core::frame::{self, Control, EndReason, PartitionState, Progress};
use evt_core::kind::event::has_raw;
use evt_core::kind::{Kind, PartitionColumns, PartitionName};
use evt_core::mapping::{Reach, Rest};
use std::rc::Rc;
use std::sync::Arc;

/// The batches of a container or a store.
pub type RowIterator = Box<dyn Iterator<Item = Result<Rows>>>;

/// The parts of a container.
type RowParts = Box<dyn Iterator<Item = Result<RowPart>>>;

/// An input of rows that can be read without waiting.
pub struct RowInput {
    rows: RowIterator,
    name: Arc<str>,
    /// The partition of rows that are text.
    partition: u32,
    run: Rc<Run>,
    carried: CarriedPartitions,
    proof: EndProof,
}

impl RowInput {
    /// Makes an input of `rows`; those that are text belong to `partition`.
    pub fn new(rows: RowIterator, name: String, partition: u32, run: Rc<Run>) -> Self {
        let proof = EndProof::Proven;
        Self { rows, name: name.into(), partition, run, carried: CarriedPartitions::default(), proof }
    }

    /// Sets what the end of the rows proves.
    pub fn with_proof(self, proof: EndProof) -> Self {
        Self { proof, ..self }
    }
}

impl Input for RowInput {
    fn step(&mut self, emitter: &mut RecordEmitter) -> Result<Step> {
        if self.run.stop.signal().is_some() {
            return Ok(Step::Stopped);
        }
        let Some(rows) = self.rows.next() else {
            emitter.release(|held| held.judge_all(Rest::None))?;
            emitter.flush()?;
            self.carried.report_ended(emitter);
            return Ok(Step::End);
        };
        match rows.map_err(|error| error.at(&*self.name))? {
            Rows::Text(records) => {
                emitter.records(Chunk::new(records, self.name.clone(), self.partition))?;
            }
            // The dictionaries of a batch that a filter has emptied have no values.
            Rows::Batch(batch) if batch.num_rows() == 0 => {}
            Rows::Batch(batch) => {
                self.carried.learn(&batch);
                emitter.batch(batch, &self.name)?;
            }
        }
        Ok(Step::More)
    }

    fn is_live(&self) -> bool {
        false
    }

    fn end(&self) -> InputEnd {
        InputEnd { how: EndReason::Exhausted, proof: self.proof, verdict: 0 }
    }

    fn reach(&self) -> Reach {
        Reach::File
    }
}

/// Returns the rows of a container of `bytes` bytes. The threads of `pool` read them ahead if there are several and the
/// container is worth it.
pub fn rows_of(parts: RowParts, bytes: u64, pool: &Arc<TaskPool>) -> RowIterator {
    let Threads { count, from_bytes } = pool.threads();
    if count > 1 && bytes >= from_bytes {
        return Box::new(PartsAhead::new(parts, pool));
    }
    Box::new(rows_of_parts(parts))
}

/// Passes the schema of a container or a store to `emitter` if it declares one of evt's kinds. `is_mapped_anew`: the
/// rows are text that the mapper makes new events of, so that `emitter` ignores their raw column.
pub fn take_schema(
    schema: Option<SchemaRef>,
    is_mapped_anew: bool,
    name: &str,
    emitter: &mut RecordEmitter,
) -> Result<()> {
    let Some((kind, schema)) = schema.and_then(|schema| Some((Kind::of(&schema)?, schema))) else { return Ok(()) };
    emitter.take_schema(kind.schema_of_file(&schema, has_raw(&schema) && !is_mapped_anew), name)
}

/// The partitions found in the rows of an input without progress messages.
#[derive(Default)]
struct CarriedPartitions(AHashSet<PartitionName>);

impl CarriedPartitions {
    /// Adds the partitions of a batch of events; ignores batches of other kinds.
    fn learn(&mut self, batch: &RecordBatch) {
        if Kind::of(batch.schema_ref()) != Some(Kind::Event) {
            return;
        }
        let partitions = PartitionColumns::new(batch);
        let mut known = AHashSet::new();
        let mut last = None;
        for code in partitions.codes() {
            if last.replace(code) != Some(code) && known.insert(code) {
                self.0.insert(partitions.name(code));
            }
        }
    }

    /// Reports all partitions as ended, ordered by origin and name.
    fn report_ended(&mut self, emitter: &mut RecordEmitter) {
        let mut names: Vec<PartitionName> = self.0.drain().collect();
        names.sort_unstable();
        let ended = |PartitionName { origin, partition }| {
            let (stream_time, state) = (None, frame::State::Ended);
            PartitionState { input: 0, origin, partition, stream_time, state }
        };
        let partitions: Vec<_> = names.into_iter().map(ended).collect();
        if !partitions.is_empty() {
            emitter.stamp_mut().control(Control::Progress(Progress { partitions, ..Progress::default() }));
        }
    }
}
