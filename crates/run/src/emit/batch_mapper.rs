//! Maps the batch under construction: in the thread of the run, or on several threads once there are enough records and
//! the first ones have decided what they decide for all.

use super::chunk::{Chunk, ChunkMapper, ChunkRows};
use super::queue::InputStep;
use super::tasks::{Done, LoneRecord, MappedTask, TaskPartition, Tasks};
use crate::run::Run;
use crate::task_pool::TaskPool;
use evt_core::error::Result;
use std::ops::Range;
use std::sync::Arc;

/// Maps the records of a batch.
pub(super) struct BatchMapper {
    /// Maps records in the thread of the run. Its text columns have the dictionaries of the run.
    pub(super) alone: ChunkMapper,
    /// The threads that map records, and what they map; `None` while the thread of the run maps them alone.
    tasks: Option<Tasks>,
    pool: Arc<TaskPool>,
    /// Whether the thread of the run maps all records.
    is_alone: bool,
    /// The bytes of all chunks so far.
    chunk_bytes: u64,
    /// The partition of the records; `None` before the first record.
    partition: Option<TaskPartition>,
}

impl BatchMapper {
    pub(super) fn new(alone: ChunkMapper, run: &Run) -> Self {
        let (pool, is_alone) = (run.pool.clone(), run.pool.threads().count == 1);
        Self { alone, tasks: None, pool, is_alone, chunk_bytes: 0, partition: None }
    }

    /// Lets the thread of the run map all records alone.
    pub(super) fn use_one_thread(&mut self) {
        self.is_alone = true;
    }

    /// Whether the records are of this partition.
    #[inline(always)]
    pub(super) fn is_at(&self, partition: u32) -> bool {
        self.partition.as_ref().is_some_and(|current| current.number == partition)
    }

    /// Returns the input of the records.
    pub(super) fn input(&self) -> u32 {
        self.partition.as_ref().map_or(0, |partition| partition.input)
    }

    /// Turns to the records of a partition of an input, with these names.
    pub(super) fn turn_to(&mut self, partition: u32, input: u32, names: (&str, &str)) {
        self.alone.events_mut().turn_to(partition, names);
        self.partition = Some(TaskPartition::new(partition, input, names));
    }

    /// Whether there are rows or letters that were not taken.
    pub(super) fn has_rows(&self) -> bool {
        self.alone.rows() > 0 || self.has_letters()
    }

    /// Whether there may be letters that were not taken.
    pub(super) fn has_letters(&self) -> bool {
        self.alone.has_letters() || self.tasks.as_ref().is_some_and(|tasks| !tasks.are_done())
    }

    /// Counts the bytes of a chunk.
    pub(super) fn count(&mut self, chunk: &Chunk) {
        self.chunk_bytes += chunk.bytes() as u64;
    }

    /// Whether several threads map the records from here on: `is_free` if nothing but the records so far is against it.
    /// The thread of the run ends the batch that it has begun.
    pub(super) fn shares(&mut self, is_free: bool) -> Result<bool> {
        if self.is_alone {
            return Ok(false);
        }
        if self.tasks.is_some() {
            // The first records of a later input may be mapped alone: their batch ends so.
            return Ok(self.alone.is_empty());
        }
        let is_worth = self.chunk_bytes >= self.pool.threads().from_bytes;
        if is_free && is_worth && self.alone.is_decided() && self.alone.is_empty() {
            self.tasks = Some(Tasks::new(&self.alone, &self.pool)?);
        }
        Ok(self.tasks.is_some())
    }

    /// Lets the threads map records of a range of a chunk, up to the end of a batch, and removes them from the range.
    /// Returns whether the batch is complete.
    pub(super) fn begin(&mut self, chunk: &Arc<Chunk>, range: &mut Range<usize>) -> Result<bool> {
        let (Some(tasks), Some(partition)) = (&mut self.tasks, &self.partition) else { return Ok(false) };
        let is_complete = tasks.add(chunk, range, partition);
        if is_complete {
            tasks.begin()?;
        }
        Ok(is_complete)
    }

    /// Whether the threads map a record of `bytes` bytes that came alone: `is_free` as in [`BatchMapper::shares`].
    #[inline(always)]
    pub(super) fn shares_message(&mut self, bytes: usize, is_free: bool) -> Result<bool> {
        if self.is_alone {
            return Ok(false);
        }
        self.chunk_bytes += bytes as u64;
        self.shares(is_free)
    }

    /// Lets the threads map a record that came alone. Returns whether the batch is complete.
    pub(super) fn begin_message(&mut self, message: LoneRecord<'_>) -> Result<bool> {
        let (Some(tasks), Some(partition)) = (&mut self.tasks, &self.partition) else { return Ok(false) };
        let is_complete = tasks.add_message(message, partition);
        if is_complete {
            tasks.begin()?;
        }
        Ok(is_complete)
    }

    /// Whether mapped batches should be taken before others are begun.
    pub(super) fn is_full(&self) -> bool {
        self.tasks.as_ref().is_some_and(Tasks::are_full)
    }

    /// Returns what the threads have done next, in the order of the records; `waits` for it if it is not done. `None`
    /// if nothing is left.
    pub(super) fn next(&mut self, waits: bool) -> Result<Option<Done>> {
        Ok(match self.tasks.as_mut().map_or(Ok(None), |tasks| tasks.next(waits))? {
            Some(Done::Batch(mapped)) => Some(Done::Batch(self.adopt(mapped)?)),
            other => other,
        })
    }

    /// Keeps what an input does behind batches that are not taken; returns whether there are any.
    pub(super) fn keeps(&mut self, step: InputStep) -> bool {
        let tasks = self.tasks.as_mut().filter(|tasks| !tasks.are_done());
        tasks.map(|tasks| tasks.keep(step)).is_some()
    }

    /// The same for a step that ends the batch.
    pub(super) fn keeps_behind_batch(&mut self, step: InputStep) -> Result<bool> {
        if let Some(tasks) = self.tasks.as_mut().filter(|tasks| tasks.has_open()) {
            tasks.begin()?;
        }
        Ok(self.keeps(step))
    }

    /// Takes the incomplete batch; the complete ones are taken. Its letters are left if not `with_letters`.
    pub(super) fn finish(&mut self, with_letters: bool) -> Result<MappedTask> {
        match &mut self.tasks {
            Some(tasks) if tasks.has_open() => {
                let mapped = tasks.map_open()?;
                self.adopt(mapped)
            }
            _ => Ok(MappedTask { chunk: self.alone.finish(with_letters)?, last: None }),
        }
    }

    /// Gives rows that a thread has mapped the dictionaries of the run.
    fn adopt(&mut self, mut mapped: MappedTask) -> Result<MappedTask> {
        if let ChunkRows::Events(rows) = &mut mapped.chunk.rows {
            self.alone.events_mut().adopt(rows)?;
        }
        Ok(mapped)
    }
}
