//! Finds duplicates: an `event_id` seen within a span of stream time in its own partition.
//!
//! A row is a duplicate iff an earlier row of its partition with the same id, duplicate or not, had a stream time of at
//! least the row's own stream time less the span. So all repeats of a sender that repeats an event again and again are
//! duplicates. The verdict is a function of the partition's contents alone, whatever the batches and the interleaving.
//! A name that two inputs share is one partition here, so the rows of a copy of a file are duplicates (windows keep
//! them apart: decision 068). If the column holds a watermark (`--control`) that is behind the rows, the stream time is
//! the largest event time of the partition so far, as elsewhere.
//!
//! A run that continues a state drops the partitions that it does not read, once the stream time of all that it reads
//! is more than the span later (decision 236).
//!
//! ```text
//! rows ─► the last sightings, in memory ─► full, or an epoch ends ─► sorted file ─► merged files ─► dropped when over
//! ```
//!
//! A sighting in memory is newer than one in a file. An id that is not in memory is looked for in the files: a filter
//! in memory tells which of them may have it, and a block of such a file is read.
//!
//! - `sighting.rs`: an id in a partition, and its time. `spilled_ids.rs`: the files. `sorted_file.rs`: one of them.
//!   `filter.rs`: what is in memory of a file.

mod filter;
mod sighting;
mod sorted_file;
mod spilled_ids;

use self::sighting::{PartitionId, SIGHTING_BYTES, Sighting};
use self::spilled_ids::{IdStorage, SpilledIds};
use crate::error::{Error, Result};
use crate::frame::{self, Progress};
use crate::kind::PartitionName;
use crate::kind::event::{COLUMNS, column};
use crate::op::snapshot::{Reader, Writer};
use crate::op::state_storage::{MemoryBound, StateSize, StateStorage};
use crate::time::format_duration;
use arrow::array::{
    Array, ArrayAccessor, AsArray, BooleanArray, BooleanBuilder, RecordBatch, StringArray, TimestampMicrosecondArray,
    TypedDictionaryArray,
};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use std::collections::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

/// The state in memory unless a flag sets it.
pub const MEMORY: usize = 128 << 20;
/// Bytes of the bound for each place of the table of sightings. A place has 33 bytes. While the table is full and a
/// file is written, a copy of its sightings is in memory too; a quarter of the bound is for filters.
const PLACE_BYTES: usize = 128;
/// Sightings that stay in memory when an epoch ends: fewer are written again with each epoch.
const UNSAVED_MAX: usize = if cfg!(test) { 4 } else { 1 << 14 };
/// The table is searched for expired sightings when it has twice as many as the last search left, but not before it has
/// this many.
const SWEEP_MIN: usize = if cfg!(test) { 8 } else { 1 << 12 };

/// First byte of a snapshot: the layout that follows.
const VERSION: u8 = 2;
/// The version that kept all ids in memory; its snapshots have a hash of the options.
const WITHOUT_FILES: u8 = 1;
/// The maximum number of ids of [`WITHOUT_FILES`], which is part of its hash of the options.
const IDS_WITHOUT_FILES: usize = 900_000;

type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// The options of [`Dedup`].
#[derive(Debug)]
pub struct Options {
    /// How far back in stream time (µs) an id counts as seen.
    pub span: i64,
    /// How much state is in memory, and where the rest is.
    pub memory: MemoryBound,
}

/// Finds duplicates in batches of events.
pub struct Dedup {
    options: Options,
    partitions: Vec<DedupPartition>,
    /// Index of each partition.
    index: Map<PartitionName, usize>,
    /// The last sightings that no file has: stream times.
    recent: Map<PartitionId, i64>,
    /// The number of recent sightings at which expired ones are removed. If too many remain, all are written to a file.
    full: usize,
    spilled: SpilledIds,
    /// Numbers of dropped partitions of which no file has ids: new partitions take them.
    free: Vec<usize>,
    /// Whether every partition that the run will read is known.
    is_complete: bool,
    /// Known partitions that have had no row in any run, and may get some.
    without_rows: HashSet<PartitionName>,
}

struct DedupPartition {
    origin: String,
    name: String,
    /// Stream time of the last row; `None` before the first.
    stream_time: Option<i64>,
    /// Whether this run reads it.
    is_read: bool,
}

impl DedupPartition {
    fn new(origin: String, name: String, stream_time: Option<i64>) -> Self {
        Self { origin, name, stream_time, is_read: true }
    }

    /// Returns the placeholder for a dropped partition. Sightings in files may still have the number of the partition.
    fn dropped() -> Self {
        Self { is_read: false, ..Self::new(String::new(), String::new(), Some(i64::MAX)) }
    }

    fn is_dropped(&self) -> bool {
        self.origin.is_empty() && self.name.is_empty() && self.stream_time == Some(i64::MAX)
    }
}

impl Options {
    /// Returns the maximum number of sightings in memory: seven eighths of the places, because the table grows beyond
    /// that.
    fn recent_max(&self) -> usize {
        (self.memory.bytes / PLACE_BYTES / 8 * 7).max(1)
    }

    fn filters(&self) -> usize {
        self.memory.bytes / 4
    }

    /// Returns the stream time (µs) before which sightings of a partition do not matter.
    fn horizon(&self, partition: &DedupPartition) -> i64 {
        if partition.is_dropped() {
            return i64::MAX;
        }
        partition.stream_time.map_or(i64::MIN, |time| time.saturating_sub(self.span))
    }
}

impl Dedup {
    /// Creates an empty state.
    pub fn new(options: Options) -> Self {
        let full = SWEEP_MIN.min(options.recent_max());
        Self {
            options,
            partitions: vec![],
            index: Map::default(),
            recent: Map::default(),
            full,
            spilled: SpilledIds::default(),
            free: vec![],
            is_complete: false,
            without_rows: HashSet::new(),
        }
    }

    /// Sets the storage for state beyond the bound of memory. Must be called before any state is in files.
    pub fn set_storage(&mut self, storage: Box<dyn StateStorage>) {
        self.options.memory.storage = storage;
    }

    /// Returns the size of the state. An id counts once for each file that has it, and sightings in files may have
    /// expired.
    pub fn size(&self) -> StateSize {
        StateSize {
            keys: self.recent.len() as u64 + self.spilled.len(),
            memory: (self.recent.capacity() / 7 * 8 * 33 + self.spilled.memory()) as u64,
            disk: self.spilled.disk(),
            written: self.options.memory.storage.written(),
        }
    }

    /// Returns one value per row of a batch of events: false for a duplicate. Errors: exit status 74 if files fail.
    pub fn on_batch(&mut self, batch: &RecordBatch) -> Result<BooleanArray> {
        let rows = DedupColumns::new(batch)?;
        let mut keep = BooleanBuilder::with_capacity(batch.num_rows());
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
            let partition = &mut self.partitions[place];
            let stream_time = rows.stream_time.value(row).max(rows.event_time.value(row));
            let stream_time = partition.stream_time.map_or(stream_time, |before| before.max(stream_time));
            partition.stream_time = Some(stream_time);
            partition.is_read = true;
            let key = PartitionId { partition: place as u32, id: rows.id(row)? };
            keep.append_value(self.see(Sighting { key, time: stream_time })?);
            if self.recent.len() >= self.full {
                self.make_room()?;
            }
        }
        if !self.spilled.is_empty() {
            self.spilled.drop_old(&horizons(&self.options, &self.partitions));
        }
        Ok(keep.finish())
    }

    /// Returns the index of a partition; adds a new one.
    fn place(&mut self, origin: &str, name: &str) -> usize {
        let name = PartitionName::new(origin, name);
        if let Some(place) = self.index.get(&name) {
            return *place;
        }
        self.without_rows.remove(&name);
        let partition = DedupPartition::new(name.origin.clone(), name.partition.clone(), None);
        let place = self.free.pop().unwrap_or(self.partitions.len());
        match self.partitions.get_mut(place) {
            Some(free) => *free = partition,
            None => self.partitions.push(partition),
        }
        self.index.insert(name, place);
        place
    }

    /// Begins another run over a restored state. The run reads the partitions that the source reports and those that
    /// its rows name.
    pub fn begin_run(&mut self) {
        self.partitions.iter_mut().for_each(|partition| partition.is_read = false);
        self.is_complete = false;
        self.without_rows.clear();
        self.find_free();
    }

    /// Applies the progress that the source reports of its partitions.
    pub fn on_progress(&mut self, progress: &Progress) {
        for announced in &progress.partitions {
            let name = announced.name();
            match self.index.get(&name) {
                Some(place) => self.partitions[*place].is_read = true,
                None if announced.state == frame::State::Ended => _ = self.without_rows.remove(&name),
                None => _ = self.without_rows.insert(name),
            }
        }
        self.is_complete = progress.complete;
    }

    /// Returns the least stream time of the partitions that the run reads; `None` while a partition is unknown or has
    /// had no row.
    fn watermark(&self) -> Option<i64> {
        if !self.is_complete || !self.without_rows.is_empty() {
            return None;
        }
        self.partitions.iter().filter(|partition| partition.is_read).map(|partition| partition.stream_time).min()?
    }

    /// Drops the partitions that this run does not read and whose last row is more than the span behind the watermark.
    fn drop_unread(&mut self) {
        let Some(watermark) = self.watermark() else { return };
        let horizon = Some(watermark.saturating_sub(self.options.span));
        let is_over = |partition: &DedupPartition| !partition.is_read && partition.stream_time < horizon;
        if !self.partitions.iter().any(is_over) {
            return;
        }
        for partition in self.partitions.iter_mut().filter(|partition| is_over(partition)) {
            *partition = DedupPartition::dropped();
        }
        self.index = index_of(&self.partitions);
        self.recent.retain(|key, _| !self.partitions[key.partition as usize].is_dropped());
        self.spilled.drop_old(&horizons(&self.options, &self.partitions));
        self.find_free();
    }

    fn find_free(&mut self) {
        let used = self.spilled.partitions();
        let numbered = self.partitions.iter().enumerate();
        let free = numbered.filter(|(place, partition)| partition.is_dropped() && !used.contains(&(*place as u32)));
        self.free = free.map(|(place, _)| place).collect();
    }

    /// Records a sighting, the newest of its partition; returns whether the id is new.
    fn see(&mut self, Sighting { key, time }: Sighting) -> Result<bool> {
        let horizon = time.saturating_sub(self.options.span);
        match self.recent.insert(key, time) {
            Some(known) => Ok(known < horizon),
            None if self.spilled.is_empty() => Ok(true),
            None => Ok(!self.spilled.has(key, horizon)?),
        }
    }

    /// Removes the recent sightings that are over; if many are left, all go to a file.
    fn make_room(&mut self) -> Result<()> {
        let horizons = horizons(&self.options, &self.partitions);
        self.recent.retain(|key, time| *time >= horizons[key.partition as usize]);
        let most = self.options.recent_max();
        if self.full == most && self.recent.len() > most / 2 {
            self.spill()?;
        }
        self.full = (self.recent.len() * 2).max(SWEEP_MIN).min(most);
        Ok(())
    }

    /// Moves all recent sightings to a file.
    fn spill(&mut self) -> Result<()> {
        let horizons = horizons(&self.options, &self.partitions);
        self.spilled.drop_old(&horizons);
        let sightings: Vec<Sighting> = self.recent.drain().map(|(key, time)| Sighting { key, time }).collect();
        let filters = self.options.filters();
        let storage = self.options.memory.storage.as_mut();
        self.spilled.push(sightings, &mut IdStorage { storage, filters, horizons: &horizons })
    }

    /// Prepares the end of an epoch: drops expired partitions, moves recent sightings to a file if there are many, so
    /// that later snapshots need not repeat them, and returns the names of all files.
    ///
    /// Errors: exit status 74.
    pub fn files(&mut self) -> Result<Vec<String>> {
        self.drop_unread();
        if self.recent.len() > UNSAVED_MAX {
            self.spill()?;
        }
        Ok(self.spilled.names())
    }

    /// Returns the state as bytes; changes nothing. The files of [`Dedup::files`] belong to it.
    pub fn snapshot(&self) -> Vec<u8> {
        saved(self)
    }

    /// Restores the state that [`Dedup::snapshot`] saved.
    ///
    /// Errors: exit status 78 if it was saved with another span, 65 if it is damaged, 74 if files fail.
    pub fn restore(options: Options, snapshot: &[u8]) -> Result<Self> {
        let mut restored = Self::new(options);
        restore(&mut restored, snapshot)?;
        restored.full = restored.recent.len().max(restored.full).min(restored.options.recent_max());
        Ok(restored)
    }

    /// Returns the options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the options of an operator that is not needed any more.
    pub fn into_options(self) -> Options {
        self.options
    }
}

fn horizons(options: &Options, partitions: &[DedupPartition]) -> Vec<i64> {
    partitions.iter().map(|partition| options.horizon(partition)).collect()
}

fn index_of(partitions: &[DedupPartition]) -> Map<PartitionName, usize> {
    let name = |partition: &DedupPartition| PartitionName::new(&partition.origin, &partition.name);
    let present = partitions.iter().enumerate().filter(|(_, partition)| !partition.is_dropped());
    present.map(|(place, partition)| (name(partition), place)).collect()
}

/// Returns the state as bytes.
fn saved(dedup: &Dedup) -> Vec<u8> {
    let mut out = Writer::default();
    out.byte(VERSION);
    out.number(dedup.options.span);
    out.count(dedup.partitions.len());
    for DedupPartition { origin, name, stream_time, .. } in &dedup.partitions {
        out.text(origin);
        out.text(name);
        out.optional(*stream_time);
    }
    let mut recent: Vec<Sighting> =
        dedup.recent.iter().map(|(key, time)| Sighting { key: *key, time: *time }).collect();
    recent.sort_unstable_by_key(|sighting| sighting.key);
    let mut sightings = Vec::with_capacity(recent.len() * SIGHTING_BYTES);
    recent.into_iter().for_each(|sighting| sighting.encode(&mut sightings));
    out.bytes(&sightings);
    dedup.spilled.snapshot(&mut out);
    out.finish()
}

/// Reads a state that [`saved`] saved. Errors: exit status 78 if it was saved with another span, 65 if it is damaged,
/// 74.
fn restore(dedup: &mut Dedup, snapshot: &[u8]) -> Result<()> {
    let mut saved = Reader::new(snapshot);
    match read_span(&mut saved, dedup.options.span)? {
        VERSION => read(dedup, &mut saved)?,
        _ => read_without_files(dedup, &mut saved)?,
    }
    saved.finish()?;
    dedup.index = index_of(&dedup.partitions);
    // Two saved partitions of the same name mean that the snapshot is damaged.
    let dropped = dedup.partitions.iter().filter(|partition| partition.is_dropped()).count();
    if dedup.index.len() + dropped < dedup.partitions.len() { Err(damaged()) } else { Ok(()) }
}

/// Checks that a run with this span continues the state that [`Dedup::snapshot`] saved. Errors: exit status 78 if it
/// was saved with another span, 65 if it is damaged.
pub fn check_saved(snapshot: &[u8], span: i64) -> Result<()> {
    read_span(&mut Reader::new(snapshot), span).map(drop)
}

/// Reads the version of a state, which it returns, and the span with which it was saved.
fn read_span(saved: &mut Reader<'_>, now: i64) -> Result<u8> {
    let version = saved.byte()?;
    let differs = match version {
        VERSION => Some(saved.number()?).filter(|span| *span != now).map(|span| {
            let (then, now) = (format_duration(span), format_duration(now));
            format!("expected --dedup {then}, with which the ids were saved, found --dedup {now}")
        }),
        WITHOUT_FILES => (saved.le::<u64>()? != digest_without_files(now))
            .then(|| "expected the --dedup with which the ids were saved, found another one".to_owned()),
        version => Some(format!("snapshot of dedup: unknown version {version}")),
    };
    differs.map_or(Ok(version), |why| Err(Error::config(why)))
}

fn read(dedup: &mut Dedup, saved: &mut Reader<'_>) -> Result<()> {
    for _ in 0..saved.count()? {
        let (origin, name, stream_time) = (saved.text()?, saved.text()?, saved.optional()?);
        dedup.partitions.push(DedupPartition::new(origin, name, stream_time));
    }
    let sightings = saved.bytes()?;
    if sightings.len() % SIGHTING_BYTES != 0 {
        return Err(damaged());
    }
    for Sighting { key, time } in Sighting::decode_all(sightings) {
        let is_known = (key.partition as usize) < dedup.partitions.len();
        if !is_known || dedup.recent.insert(key, time).is_some() {
            return Err(damaged());
        }
    }
    let horizons = horizons(&dedup.options, &dedup.partitions);
    let filters = dedup.options.filters();
    let storage = dedup.options.memory.storage.as_mut();
    dedup.spilled = SpilledIds::restore(saved, &mut IdStorage { storage, filters, horizons: &horizons })?;
    Ok(())
}

fn read_without_files(dedup: &mut Dedup, saved: &mut Reader<'_>) -> Result<()> {
    // Skips the number of the next sighting, and the number of ids that were dropped because of the bound.
    let _: (u64, u64) = (saved.le()?, saved.le()?);
    for partition in 0..saved.count()? {
        let (origin, name) = (saved.text()?, saved.text()?);
        let mut stream_time = None;
        for _ in 0..saved.count()? {
            let id = saved.le::<u128>()?.to_le_bytes();
            let _number: u64 = saved.le()?;
            let time = saved.number()?;
            let key = PartitionId { partition: partition as u32, id };
            if dedup.recent.insert(key, time).is_some() {
                return Err(damaged());
            }
            stream_time = stream_time.max(Some(time));
        }
        dedup.partitions.push(DedupPartition::new(origin, name, stream_time));
    }
    Ok(())
}

fn digest_without_files(span: i64) -> u64 {
    xxh3_64(format!("dedup {span} {IDS_WITHOUT_FILES}").as_bytes())
}

#[cold]
fn damaged() -> Error {
    Error::corrupt("snapshot of dedup: damaged")
}

/// The columns that dedup reads.
struct DedupColumns<'a> {
    ids: &'a arrow::array::FixedSizeBinaryArray,
    origin: TypedDictionaryArray<'a, Int32Type, StringArray>,
    partition: TypedDictionaryArray<'a, Int32Type, StringArray>,
    event_time: &'a TimestampMicrosecondArray,
    stream_time: &'a TimestampMicrosecondArray,
}

impl<'a> DedupColumns<'a> {
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

    fn id(&self, row: usize) -> Result<[u8; 16]> {
        <[u8; 16]>::try_from(self.ids.value(row)).map_err(|_| Error::corrupt("expected an event_id of 16 bytes"))
    }
}

#[cfg(test)]
mod tests;
