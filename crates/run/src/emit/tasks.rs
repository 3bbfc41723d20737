//! Batches that several threads map. The records of a batch are a task; a thread with a mapper of its own maps it, and
//! the emitter stamps the mapped batches in the order of the tasks.
//!
//! A task holds the bytes of its records, about [`BATCH_BYTES`](evt_core::mapping::BATCH_BYTES), and a read buffer or
//! two that it shares with its neighbours.

use super::chunk::{BatchFill, Chunk, ChunkMapper, ChunkRecord, MappedChunk};
use super::queue::InputStep;
use crate::task_pool::{OrderedResults, TaskPool};
use arrow::buffer::Buffer;
use evt_core::error::Result;
use evt_core::format::{not_utf8, one_line};
use evt_core::kind::dead::Fault;
use evt_core::kind::headers::Headers;
use evt_core::mapping::{Arrival, FutureVerdict, RecordMeta};
use std::borrow::Cow;
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

    /// Turns a mapper to the records of the partition.
    fn turn(&self, mapper: &mut ChunkMapper) {
        mapper.events_mut().turn_to(self.number, (&self.origin, &self.name));
    }
}

/// Consecutive records of a chunk.
struct Piece {
    chunk: Arc<Chunk>,
    records: Range<usize>,
    partition: TaskPartition,
}

/// A record that came alone and is read at `now` (µs).
pub(super) struct LoneRecord<'a> {
    pub(super) payload: &'a [u8],
    pub(super) text: MessageText<'a>,
    pub(super) meta: RecordMeta<'a>,
    pub(super) now: i64,
}

/// The text of a record that came alone.
#[derive(Clone, Copy)]
pub enum MessageText<'a> {
    /// Its payload, which is one JSON object.
    Payload,
    /// What its input has made of the payload.
    Text(&'a str),
    /// None, for this reason: it becomes a dead letter.
    Fault(&'a Fault),
}

/// Copies of consecutive records of a partition that came alone.
struct LoneRecords {
    /// The name of the input.
    input: String,
    partition: TaskPartition,
    /// The payloads, texts, keys and headers.
    bytes: Vec<u8>,
    records: Vec<KeptRecord>,
}

struct KeptRecord {
    offset: i64,
    arrival: Option<Arrival>,
    /// When it was read (µs).
    now: i64,
    payload: Range<usize>,
    text: KeptText,
    key: Option<Range<usize>>,
    headers: Option<Range<usize>>,
}

enum KeptText {
    Payload,
    Text(Range<usize>),
    Fault(Box<Fault>),
}

/// Headers as [`LoneRecords`] keeps them: name and value one after another, each behind its length; a missing value has
/// the length [`u32::MAX`].
struct KeptHeaders<'a>(&'a [u8]);

impl Headers for KeptHeaders<'_> {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let mut rest = self.0;
        let mut next = || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let length = u32::from_le_bytes(*length);
            let (part, behind) = behind.split_at_checked(if length == u32::MAX { 0 } else { length as usize })?;
            rest = behind;
            Some(Some(part).filter(|_| length != u32::MAX))
        };
        while let Some(name) = next() {
            let name = name.and_then(|name| str::from_utf8(name).ok()).unwrap_or_default();
            show(name, next().flatten());
        }
    }
}

impl LoneRecords {
    /// Adds a record; returns its bytes.
    fn add(&mut self, LoneRecord { payload, text, meta, now }: LoneRecord<'_>) -> usize {
        let before = self.bytes.len();
        let payload = self.keep(payload);
        let text = match text {
            MessageText::Payload => KeptText::Payload,
            MessageText::Text(text) => KeptText::Text(self.keep(text.as_bytes())),
            MessageText::Fault(fault) => KeptText::Fault(Box::new(fault.clone())),
        };
        let key = meta.key.map(|key| self.keep(key));
        let headers = meta.headers.map(|headers| {
            let start = self.bytes.len();
            headers.each(&mut |name, value| {
                self.keep_part(Some(name.as_bytes()));
                self.keep_part(value);
            });
            start..self.bytes.len()
        });
        let RecordMeta { offset, arrival, .. } = meta;
        self.records.push(KeptRecord { offset, arrival, now, payload, text, key, headers });
        self.bytes.len() - before
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn keep_part(&mut self, part: Option<&[u8]>) {
        let length = part.map_or(u32::MAX, |part| part.len() as u32);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(part.unwrap_or_default());
    }

    /// Maps the records.
    fn map(self, mapper: &mut ChunkMapper) -> Result<()> {
        self.partition.turn(mapper);
        let bytes = Buffer::from_vec(self.bytes);
        mapper.events_mut().share_buffer(Some(bytes.clone()));
        for record in self.records {
            let raw = &bytes[record.payload];
            let text = match &record.text {
                KeptText::Payload => one_line(raw),
                KeptText::Text(text) => {
                    str::from_utf8(&bytes[text.clone()]).map(Cow::Borrowed).map_err(|e| not_utf8(&e))
                }
                KeptText::Fault(fault) => Err(Fault::clone(fault)),
            };
            let headers = record.headers.map(|range| KeptHeaders(&bytes[range]));
            let meta = RecordMeta {
                input: &self.input,
                partition: self.partition.number,
                offset: record.offset,
                key: record.key.map(|range| &bytes[range]),
                headers: headers.as_ref().map(|headers| headers as &dyn Headers),
                arrival: record.arrival,
            };
            let text = text.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
            mapper.record(ChunkRecord { text, raw, meta }, record.now, FutureVerdict::ByArrival)?;
        }
        mapper.events_mut().share_buffer(None);
        Ok(())
    }
}

/// The records of a batch: of chunks, or such as came alone.
#[derive(Default)]
struct Task {
    pieces: Vec<Piece>,
    messages: Vec<LoneRecords>,
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

    /// Adds a record that came alone. Returns whether the batch is complete.
    pub(super) fn add_message(&mut self, message: LoneRecord<'_>, partition: &TaskPartition) -> bool {
        self.open.last = LastRecord { input: partition.input, number: message.meta.offset };
        let messages = &mut self.open.messages;
        if messages.last().is_none_or(|last| last.partition.number != partition.number) {
            let (input, partition) = (message.meta.input.to_owned(), partition.clone());
            messages.push(LoneRecords { input, partition, bytes: vec![], records: vec![] });
        }
        let bytes = messages.last_mut().map_or(0, |last| last.add(message));
        self.open.fill.add(bytes, self.batch_max)
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
            partition.turn(mapper);
            while !records.is_empty() {
                mapper.map(&chunk, &mut records, FutureVerdict::ByArrival)?;
            }
        }
        self.messages.into_iter().try_for_each(|messages| messages.map(mapper))?;
        Ok(MappedTask { chunk: mapper.finish(true)?, last: Some(self.last) })
    }
}
