//! Batches that several threads map. The records of a batch are a task; a thread with a mapper of its own maps it, and
//! the emitter stamps the mapped batches in the order of the tasks.
//!
//! A task holds the bytes of its records, about [`BATCH_BYTES`](evt_core::mapping::BATCH_BYTES), and a read buffer or
//! two that it shares with its neighbours.

use super::chunk::{BatchFill, Chunk, ChunkMapper, MappedChunk};
use super::queue::InputStep;
use crate::task_pool::{OrderedResults, TaskPool};
use evt_core::error::Result;
use evt_core::mapping::FutureVerdict;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// A partition, its input and its names.
#[derive(Clone)]
pub(super) struct TaskPartition {
    pub(super) number: u32,
    pub(super) input: u32,
    origin: Arc<str>,
    name: Arc<str>,
}

impl TaskPartition {
    pub(super) fn new(number: u32, input: u32, (origin, name): (&str, &str)) -> Self {
        Self { number, input, origin: origin.into(), name: name.into() }
    }
}

/// Consecutive records of a chunk.
struct Piece {
    chunk: Arc<Chunk>,
    records: Range<usize>,
    partition: TaskPartition,
}

/// The records of a batch.
#[derive(Default)]
struct Task {
    pieces: Vec<Piece>,
    fill: BatchFill,
    last: LastRecord,
}

/// The last record of a batch.
#[derive(Clone, Copy, Default)]
pub(super) struct LastRecord {
    pub(super) input: u32,
    /// Its number in the input.
    pub(super) number: i64,
}

/// The mapped records of a batch.
pub(super) struct MappedTask {
    pub(super) chunk: MappedChunk,
    /// The last record, if the thread of the run has not noted it.
    pub(super) last: Option<LastRecord>,
}

/// What is done in the order of the records.
enum Step {
    /// The next task ends.
    Task,
    /// Something that an input does.
    Input(InputStep),
}

/// What is next in the order of the records.
pub(super) enum Done {
    Batch(MappedTask),
    Input(InputStep),
}

/// The tasks of a run.
pub(super) struct Tasks {
    mappers: Arc<Mappers>,
    results: OrderedResults<Result<MappedTask>>,
    /// The records of the incomplete batch.
    open: Task,
    /// Maximum number of records of a batch.
    batch_max: usize,
    order: VecDeque<Step>,
}

impl Tasks {
    /// Begins without tasks. They are mapped as `mapper` does it.
    pub(super) fn new(mapper: &ChunkMapper, pool: &Arc<TaskPool>) -> Result<Self> {
        Ok(Self {
            mappers: Arc::new(Mappers { first: Mutex::new(mapper.another()?), spare: Mutex::default() }),
            results: OrderedResults::new(pool),
            open: Task::default(),
            batch_max: mapper.limits().batch_max,
            order: VecDeque::new(),
        })
    }

    /// Whether no record waits to be mapped or stamped.
    pub(super) fn are_done(&self) -> bool {
        self.order.is_empty() && !self.has_open()
    }

    /// Whether the incomplete batch has records.
    pub(super) fn has_open(&self) -> bool {
        !self.open.fill.is_empty()
    }

    /// Whether results should be taken before more records are added.
    pub(super) fn are_full(&self) -> bool {
        self.results.is_full()
    }

    /// Adds records of a range of a chunk, up to the end of a batch, and removes them from the range. Returns whether
    /// the batch is complete.
    pub(super) fn add(&mut self, chunk: &Arc<Chunk>, range: &mut Range<usize>, partition: &TaskPartition) -> bool {
        let (start, mut is_complete) = (range.start, false);
        for record in &chunk.records.rows[range.clone()] {
            range.start += 1;
            if chunk.passes_over(record) {
                continue;
            }
            self.open.last = LastRecord { input: partition.input, number: record.line as i64 };
            is_complete = self.open.fill.add(chunk.length(record), self.batch_max);
            if is_complete {
                break;
            }
        }
        let records = start..range.start;
        self.open.pieces.push(Piece { chunk: chunk.clone(), records, partition: partition.clone() });
        is_complete
    }

    /// Begins to map the batch, which is complete.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.order.push_back(Step::Task);
        let (task, mappers) = (std::mem::take(&mut self.open), self.mappers.clone());
        self.results.begin(move || mappers.map(task))
    }

    /// Maps the incomplete batch.
    pub(super) fn map_open(&mut self) -> Result<MappedTask> {
        self.mappers.map(std::mem::take(&mut self.open))
    }

    /// Keeps what an input does behind the records that are begun.
    pub(super) fn keep(&mut self, step: InputStep) {
        self.order.push_back(Step::Input(step));
    }

    /// Returns what is next in the order of the records, if it is done; `waits` for it if it is not. `None` if nothing
    /// is left. Behind an error nothing is left, because the rows behind it would follow a gap.
    pub(super) fn next(&mut self, waits: bool) -> Result<Option<Done>> {
        let next = self.take(waits);
        if next.is_err() {
            (self.order, self.open) = (VecDeque::new(), Task::default());
        }
        next
    }

    fn take(&mut self, waits: bool) -> Result<Option<Done>> {
        let done = match self.order.front() {
            None => return Ok(None),
            Some(Step::Input(step)) => Some(Done::Input(*step)),
            Some(Step::Task) if waits => self.results.wait()?.transpose()?.map(Done::Batch),
            Some(Step::Task) => self.results.take()?.transpose()?.map(Done::Batch),
        };
        if done.is_some() {
            self.order.pop_front();
        }
        Ok(done)
    }
}

/// The mappers of the threads.
struct Mappers {
    /// The one of which others are made.
    first: Mutex<ChunkMapper>,
    /// Those that no thread uses now.
    spare: Mutex<Vec<ChunkMapper>>,
}

impl Mappers {
    /// Maps a task with a mapper that no other thread uses.
    fn map(&self, task: Task) -> Result<MappedTask> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let another = || self.first.lock().unwrap_or_else(PoisonError::into_inner).another();
        let mut mapper = spare.map_or_else(another, Ok)?;
        let mapped = task.map(&mut mapper)?;
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(mapper);
        Ok(mapped)
    }
}

impl Task {
    /// Maps the records. None waits for `--max-future`, which decides about records in their order.
    fn map(self, mapper: &mut ChunkMapper) -> Result<MappedTask> {
        for Piece { chunk, mut records, partition } in self.pieces {
            mapper.events_mut().turn_to(partition.number, (&partition.origin, &partition.name));
            while !records.is_empty() {
                mapper.map(&chunk, &mut records, FutureVerdict::ByArrival)?;
            }
        }
        Ok(MappedTask { chunk: mapper.finish(true)?, last: Some(self.last) })
    }
}
