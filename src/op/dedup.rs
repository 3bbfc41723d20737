//! Finds duplicates: an `event_id` seen within a span of stream time in its own partition.
//!
//! A row is a duplicate iff an earlier row of its partition with the same id, duplicate or not, had a stream time of at
//! least the row's own stream time less the span. So all repeats of a sender that repeats an event again and again are
//! duplicates. The verdict is a function of the partition's contents alone, whatever the batches and the interleaving.
//! A name that two inputs share is one partition here, so the rows of a copy of a file are duplicates (windows keep them apart:
//! decision 068). If the column holds a watermark (`--control`) that is behind the rows, the stream time is the largest
//! event time of the partition so far, as elsewhere.
//!
//! Memory: the ids seen within the span, 60 to 110 bytes each. [`Options::max_ids`] bounds it: at that many ids the
//! eighth that was seen longest ago (over all partitions) is dropped and counted in [`Dedup::forgotten`]. Only after
//! that can a duplicate pass, and does the interleaving of partitions matter.

use crate::error::{Error, Result};
use crate::kind::event::{COLUMNS, column};
use crate::parse::bytes::Cursor;
use arrow::array::{
    Array, ArrayAccessor, AsArray, BooleanArray, BooleanBuilder, RecordBatch, StringArray, TimestampMicrosecondArray,
    TypedDictionaryArray,
};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use std::collections::{HashMap, VecDeque};
use xxhash_rust::xxh3::xxh3_64;

/// Default maximum of ids: at most 100 MB.
pub const MAX_IDS: usize = 900_000;
/// First byte of a snapshot: the layout that follows.
const VERSION: u8 = 1;

type Id = [u8; 16];
type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// How duplicates are found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How far back in stream time (µs) an id counts as seen.
    pub span: i64,
    /// Maximum number of ids over all partitions; at least 1.
    pub max_ids: usize,
}

impl Options {
    /// Creates options for a span in µs, with [`MAX_IDS`].
    pub fn new(span: i64) -> Self {
        Self { span, max_ids: MAX_IDS }
    }

    /// Returns a hash of the options, which a snapshot must share.
    fn digest(&self) -> u64 {
        let Self { span, max_ids } = self;
        xxh3_64(format!("dedup {span} {max_ids}").as_bytes())
    }
}

/// Finds duplicates in batches of events.
pub struct Dedup {
    options: Options,
    state: State,
    /// Index of each partition in the state.
    index: Map<(String, String), usize>,
}

/// The state that a snapshot saves.
#[derive(Default)]
struct State {
    partitions: Vec<Partition>,
    /// Number of the next sighting, over all partitions.
    next: u64,
    forgotten: u64,
}

#[derive(Default)]
struct Partition {
    origin: String,
    partition: String,
    /// The last sighting of each id.
    last: Map<Id, Sighting>,
    /// Sightings in order; a sighting that is not the last of its id is skipped.
    order: VecDeque<(Id, u64)>,
    /// Stream time of the last row; `None` before the first.
    stream_time: Option<i64>,
}

#[derive(Clone, Copy)]
struct Sighting {
    number: u64,
    stream_time: i64,
}

impl Dedup {
    /// Creates an empty state.
    pub fn new(options: Options) -> Self {
        Self { options, state: State::default(), index: Map::default() }
    }

    /// Returns the number of ids that were dropped early because of [`Options::max_ids`].
    pub fn forgotten(&self) -> u64 {
        self.state.forgotten
    }

    /// Returns the number of ids in memory.
    pub fn ids(&self) -> usize {
        self.state.partitions.iter().map(|partition| partition.last.len()).sum()
    }

    /// Returns one value per row of a batch of events: false for a duplicate.
    pub fn on_batch(&mut self, batch: &RecordBatch) -> Result<BooleanArray> {
        let rows = Rows::new(batch)?;
        let mut keep = BooleanBuilder::with_capacity(batch.num_rows());
        let mut held = self.ids();
        let mut places: Map<(i32, i32), usize> = Map::default();
        for row in 0..batch.num_rows() {
            let key = (rows.origin.keys().value(row), rows.partition.keys().value(row));
            let place = match places.get(&key) {
                Some(place) => *place,
                None => {
                    let place = self.place(rows.origin.value(row), rows.partition.value(row));
                    places.insert(key, place);
                    place
                }
            };
            let partition = &mut self.state.partitions[place];
            let stream_time = rows.stream_time.value(row).max(rows.event_time.value(row));
            let stream_time = partition.stream_time.map_or(stream_time, |before| before.max(stream_time));
            partition.stream_time = Some(stream_time);
            held -= partition.expire(stream_time.saturating_sub(self.options.span));
            let is_new = partition.see(rows.id(row)?, stream_time, &mut self.state.next);
            keep.append_value(is_new);
            held += usize::from(is_new);
            if held > self.options.max_ids {
                held -= self.forget(held);
                places.clear();
            }
        }
        Ok(keep.finish())
    }

    /// Returns the index of a partition in the state; adds a new one.
    fn place(&mut self, origin: &str, partition: &str) -> usize {
        let name = (origin.to_owned(), partition.to_owned());
        let partitions = &mut self.state.partitions;
        *self.index.entry(name).or_insert_with_key(|(origin, partition)| {
            let (origin, partition) = (origin.clone(), partition.clone());
            partitions.push(Partition { origin, partition, ..Partition::default() });
            partitions.len() - 1
        })
    }

    /// Drops the eighth of the ids that was seen longest ago, at least one, and partitions without ids; returns the
    /// number of ids.
    fn forget(&mut self, held: usize) -> usize {
        let sightings = self.state.partitions.iter().flat_map(|partition| partition.last.values());
        let mut numbers: Vec<u64> = sightings.map(|sighting| sighting.number).collect();
        let (_, first_kept, _) = numbers.select_nth_unstable((held / 8).max(1).min(held - 1));
        let mut dropped = 0;
        for partition in &mut self.state.partitions {
            dropped += partition.drop_while(|sighting| sighting.number < *first_kept);
        }
        self.state.forgotten += dropped as u64;
        self.state.partitions.retain(|partition| !partition.last.is_empty());
        self.index = index_of(&self.state.partitions);
        dropped
    }

    /// Returns the options.
    pub fn into_options(self) -> Options {
        self.options
    }

    /// Returns the state as bytes; changes nothing.
    pub fn snapshot(&self) -> Vec<u8> {
        let State { partitions, next, forgotten } = &self.state;
        let mut out = vec![VERSION];
        out.extend(self.options.digest().to_le_bytes());
        out.extend(next.to_le_bytes());
        out.extend(forgotten.to_le_bytes());
        out.extend((partitions.len() as u64).to_le_bytes());
        // The stream time is the one of the last sighting.
        for Partition { origin, partition, last, order, stream_time: _ } in partitions {
            for name in [origin, partition] {
                out.extend((name.len() as u64).to_le_bytes());
                out.extend(name.as_bytes());
            }
            out.extend((last.len() as u64).to_le_bytes());
            for (id, number) in order {
                let Some(Sighting { number: live, stream_time }) = last.get(id) else { continue };
                if number == live {
                    out.extend(id);
                    out.extend(number.to_le_bytes());
                    out.extend(stream_time.to_le_bytes());
                }
            }
        }
        out
    }

    /// Restores the state that [`Dedup::snapshot`] saved.
    ///
    /// Errors: exit status 78 if it was saved with other options, 65 if it is damaged.
    pub fn restore(options: Options, snapshot: &[u8]) -> Result<Self> {
        let mut saved = Cursor::new(snapshot);
        match (saved.le(), saved.le::<u64>()) {
            (Some(VERSION), Some(digest)) if digest == options.digest() => {}
            (Some(VERSION), Some(_)) => return Err(Error::config("snapshot of dedup: saved with another --dedup")),
            (Some(version), _) if version != VERSION => {
                return Err(Error::config(format!("snapshot of dedup: unknown version {version}")));
            }
            _ => return Err(damaged()),
        }
        let state = restored(&mut saved).filter(|_| saved.rest().is_empty()).ok_or_else(damaged)?;
        let index = index_of(&state.partitions);
        Ok(Self { options, state, index })
    }
}

fn damaged() -> Error {
    Error::corrupt("snapshot of dedup: damaged")
}

fn index_of(partitions: &[Partition]) -> Map<(String, String), usize> {
    let name = |partition: &Partition| (partition.origin.clone(), partition.partition.clone());
    partitions.iter().enumerate().map(|(place, partition)| (name(partition), place)).collect()
}

impl Partition {
    /// Drops ids last seen before `horizon` (µs); returns their number.
    fn expire(&mut self, horizon: i64) -> usize {
        self.drop_while(|sighting| sighting.stream_time < horizon)
    }

    /// Drops ids, starting with the one seen longest ago, while `old` is true; returns their number.
    fn drop_while(&mut self, old: impl Fn(Sighting) -> bool) -> usize {
        let held = self.last.len();
        while let Some((id, number)) = self.order.front() {
            match self.last.get(id) {
                Some(sighting) if sighting.number == *number && !old(*sighting) => break,
                Some(sighting) if sighting.number == *number => {
                    self.last.remove(id);
                }
                _ => {}
            }
            self.order.pop_front();
        }
        held - self.last.len()
    }

    /// Records a sighting; returns whether the id was new.
    fn see(&mut self, id: Id, stream_time: i64, next: &mut u64) -> bool {
        let known = self.last.get(&id).copied();
        if known.is_none_or(|known| known.stream_time < stream_time) {
            self.last.insert(id, Sighting { number: *next, stream_time });
            self.order.push_back((id, *next));
            *next += 1;
            // An id that repeats often leaves old sightings, which must not outgrow the ids.
            if self.order.len() > 2 * self.last.len() + 64 {
                let last = &self.last;
                self.order.retain(|(id, number)| last.get(id).is_some_and(|sighting| sighting.number == *number));
            }
        }
        known.is_none()
    }
}

/// The columns that dedup reads.
struct Rows<'a> {
    ids: &'a arrow::array::FixedSizeBinaryArray,
    origin: TypedDictionaryArray<'a, Int32Type, StringArray>,
    partition: TypedDictionaryArray<'a, Int32Type, StringArray>,
    event_time: &'a TimestampMicrosecondArray,
    stream_time: &'a TimestampMicrosecondArray,
}

impl<'a> Rows<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self> {
        let bad = |at: usize| Error::corrupt(format!("column '{}': missing or of another type", COLUMNS[at]));
        let column = |at: usize| batch.column_by_name(COLUMNS[at]).filter(|column| column.null_count() == 0);
        let dictionary = |at: usize| {
            let column = column(at)?.as_dictionary_opt::<Int32Type>()?;
            column.downcast_dict::<StringArray>()
        };
        let ids = column(column::EVENT_ID).and_then(|ids| ids.as_fixed_size_binary_opt());
        let instants = |at: usize| column(at)?.as_primitive_opt::<TimestampMicrosecondType>();
        Ok(Self {
            ids: ids.ok_or_else(|| bad(column::EVENT_ID))?,
            origin: dictionary(column::ORIGIN).ok_or_else(|| bad(column::ORIGIN))?,
            partition: dictionary(column::PARTITION).ok_or_else(|| bad(column::PARTITION))?,
            event_time: instants(column::EVENT_TIME).ok_or_else(|| bad(column::EVENT_TIME))?,
            stream_time: instants(column::STREAM_TIME).ok_or_else(|| bad(column::STREAM_TIME))?,
        })
    }

    fn id(&self, row: usize) -> Result<Id> {
        Id::try_from(self.ids.value(row)).map_err(|_| Error::corrupt("expected an event_id of 16 bytes"))
    }
}

/// Reads a saved state; `None` if it is damaged.
fn restored(saved: &mut Cursor<'_>) -> Option<State> {
    let mut state = State { next: saved.le()?, forgotten: saved.le()?, partitions: vec![] };
    // Numbers increase by one per row, so none comes near the maximum.
    if state.next > u64::MAX / 2 || state.forgotten > u64::MAX / 2 {
        return None;
    }
    for _ in 0..saved.le::<u64>()? {
        let (origin, partition) = (restored_name(saved)?, restored_name(saved)?);
        let mut restored = Partition { origin, partition, ..Partition::default() };
        for _ in 0..saved.le::<u64>()? {
            let (id, number, stream_time) = (saved.array()?, saved.le()?, saved.le()?);
            // Each id is saved once, with a number below `next`.
            if number >= state.next || restored.last.insert(id, Sighting { number, stream_time }).is_some() {
                return None;
            }
            restored.order.push_back((id, number));
            restored.stream_time = restored.stream_time.max(Some(stream_time));
        }
        state.partitions.push(restored);
    }
    Some(state)
}

fn restored_name(saved: &mut Cursor<'_>) -> Option<String> {
    let length = usize::try_from(saved.le::<u64>()?).ok()?;
    String::from_utf8(saved.take(length)?.to_vec()).ok()
}

#[cfg(test)]
#[path = "dedup_tests.rs"]
mod tests;
