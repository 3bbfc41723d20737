//! A file of sightings, sorted by the hash of their key. The hashes of blocks and the filter are also kept in memory:
//!
//! ```text
//! sightings, 28 bytes each | the hash of the first sighting of each block of 128, 8 bytes each | the filter
//! ```

use super::filter::HashFilter;
use super::sighting::{PartitionId, SIGHTING_BYTES, Sighting};
use crate::error::{Error, Result};
use crate::op::snapshot::{Reader, Writer};
use crate::op::state_storage::{NewStateFile, StateFile, StateStorage};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Sightings that a lookup reads.
const BLOCK: usize = if cfg!(test) { 3 } else { 128 };
/// Sightings that are read or written at once.
const CHUNK: usize = 16 * BLOCK;

/// A file that is never changed.
#[derive(Debug)]
pub(crate) struct SortedFile {
    file: Rc<dyn StateFile>,
    sightings: u64,
    /// The hash of the first sighting of each block.
    firsts: Vec<u64>,
    pub(crate) filter: HashFilter,
    /// The size of the filter in the file.
    filter_bytes: usize,
    /// The greatest stream time of each partition.
    newest: BTreeMap<u32, i64>,
}

impl SortedFile {
    /// Returns its number of sightings.
    pub(crate) fn len(&self) -> u64 {
        self.sightings
    }

    pub(crate) fn name(&self) -> &str {
        self.file.name()
    }

    /// Returns its bytes on disk.
    pub(crate) fn disk(&self) -> u64 {
        self.file.length()
    }

    /// Returns the bytes that it needs in memory.
    pub(crate) fn memory(&self) -> usize {
        self.filter.bytes() + self.firsts.len() * 8
    }

    /// Returns the numbers of the partitions of its sightings.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = u32> {
        self.newest.keys().copied()
    }

    /// Whether no sighting is within the horizon of its partition.
    pub(crate) fn is_over(&self, horizons: &[i64]) -> bool {
        self.newest.iter().all(|(partition, time)| *time < horizons[*partition as usize])
    }

    /// Returns the stream time (µs) of the sighting of a key; `None` if the file has none. Errors: exit status 74.
    pub(crate) fn find(&self, key: PartitionId, hash: u64) -> Result<Option<i64>> {
        if !self.filter.may_have(hash) {
            return Ok(None);
        }
        // Sightings with this hash may begin in the block before.
        let begin = self.firsts.partition_point(|first| *first < hash).saturating_sub(1);
        let end = self.firsts.partition_point(|first| *first <= hash);
        let at = |block: usize| (block * BLOCK) as u64;
        let bytes = self.read(at(begin), at(end))?;
        let found = Sighting::decode_all(&bytes).find(|sighting| sighting.key == key);
        Ok(found.map(|sighting| sighting.time))
    }

    /// Reads the sightings from number `begin` to number `end` or the last one.
    fn read(&self, begin: u64, end: u64) -> Result<Vec<u8>> {
        let at = |number: u64| number.min(self.sightings) * SIGHTING_BYTES as u64;
        if begin >= end { Ok(vec![]) } else { self.file.read(at(begin)..at(end)) }
    }

    /// Reads the sightings in their order.
    pub(crate) fn iter(&self) -> SortedReader<'_> {
        SortedReader { file: self, read: 0, chunk: vec![].into_iter() }
    }

    pub(crate) fn snapshot(&self, out: &mut Writer) {
        out.text(self.name());
        out.count(self.sightings as usize);
        out.count(self.filter_bytes);
        out.count(self.newest.len());
        for (partition, time) in &self.newest {
            out.count(*partition as usize);
            out.number(*time);
        }
    }

    /// Opens the file that [`SortedFile::snapshot`] saved, for a state with `partitions` partitions. Errors: exit
    /// status 65 if it is damaged, 74.
    pub(crate) fn restore(saved: &mut Reader<'_>, partitions: usize, storage: &mut dyn StateStorage) -> Result<Self> {
        let file = storage.open(&saved.text()?)?;
        let sightings = saved.at_most(file.length() / SIGHTING_BYTES as u64)?;
        let filter_bytes = saved.at_most(file.length())?;
        let mut newest = BTreeMap::new();
        for _ in 0..saved.count()? {
            let partition = saved.at_most((partitions as u64).saturating_sub(1))?;
            newest.insert(partition as u32, saved.number()?);
        }
        let blocks = sightings.div_ceil(BLOCK);
        let begin = (sightings * SIGHTING_BYTES) as u64;
        let expected = begin + (blocks * 8 + filter_bytes) as u64;
        if expected != file.length() || sightings == 0 || partitions == 0 {
            return Err(damaged(&*file));
        }
        let rest = file.read(begin..expected)?;
        let (firsts, filter) = rest.split_at(blocks * 8);
        let firsts = firsts.as_chunks::<8>().0.iter().map(|first| u64::from_le_bytes(*first)).collect();
        let filter = HashFilter::decode(filter).ok_or_else(|| damaged(&*file))?;
        Ok(Self { file, sightings: sightings as u64, firsts, filter, filter_bytes, newest })
    }
}

#[cold]
fn damaged(file: &dyn StateFile) -> Error {
    let message = format!("snapshot of dedup: expected a file of ids, found {} bytes", file.length());
    Error::corrupt(message).at(file.name())
}

/// Reads a file from its start.
pub(crate) struct SortedReader<'a> {
    file: &'a SortedFile,
    /// Sightings that were read.
    read: u64,
    chunk: std::vec::IntoIter<Sighting>,
}

impl SortedReader<'_> {
    /// Returns the next sighting. Errors: exit status 74.
    pub(crate) fn next(&mut self) -> Result<Option<Sighting>> {
        if self.chunk.as_slice().is_empty() && self.read < self.file.sightings {
            let end = self.read + CHUNK as u64;
            let bytes = self.file.read(self.read, end)?;
            self.read = end;
            self.chunk = Sighting::decode_all(&bytes).collect::<Vec<_>>().into_iter();
        }
        Ok(self.chunk.next())
    }
}

/// Writes a file.
pub(crate) struct SortedWriter {
    file: Box<dyn NewStateFile>,
    buffer: Vec<u8>,
    sightings: u64,
    firsts: Vec<u64>,
    filter: HashFilter,
    newest: BTreeMap<u32, i64>,
}

impl SortedWriter {
    /// Begins a file that will be searched with `filter`. Errors: exit status 74.
    pub(crate) fn begin(storage: &mut dyn StateStorage, filter: HashFilter) -> Result<Self> {
        let file = storage.create()?;
        Ok(Self { file, buffer: vec![], sightings: 0, firsts: vec![], filter, newest: BTreeMap::new() })
    }

    /// Appends a sighting, in the order of hashes. Errors: exit status 74.
    pub(crate) fn push(&mut self, sighting: Sighting, hash: u64) -> Result<()> {
        if self.sightings.is_multiple_of(BLOCK as u64) {
            self.firsts.push(hash);
        }
        self.sightings += 1;
        self.filter.add(hash);
        let newest = self.newest.entry(sighting.key.partition).or_insert(sighting.time);
        *newest = sighting.time.max(*newest);
        sighting.encode(&mut self.buffer);
        if self.buffer.len() >= CHUNK * SIGHTING_BYTES {
            self.file.write(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Ends the file. Errors: exit status 74.
    pub(crate) fn finish(self) -> Result<SortedFile> {
        let Self { mut file, mut buffer, sightings, firsts, filter, newest } = self;
        buffer.extend(firsts.iter().flat_map(|first| first.to_le_bytes()));
        buffer.extend(filter.encode());
        file.write(&buffer)?;
        Ok(SortedFile { file: file.finish()?, sightings, firsts, filter_bytes: filter.bytes(), filter, newest })
    }
}
