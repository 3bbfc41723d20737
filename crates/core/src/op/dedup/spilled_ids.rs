//! Sightings beyond memory: sorted files, the oldest first.
//!
//! A key may be in several files. The key was seen within the horizon iff one of the files has a sighting within it. So
//! a file is never changed, and it is dropped as a whole once all of its sightings have expired. Files of similar size
//! are merged, so that a new id is looked for in few files.

use super::filter::HashFilter;
use super::sighting::{PartitionId, Sighting};
use super::sorted_file::{SortedFile, SortedReader, SortedWriter};
use crate::error::Result;
use crate::op::snapshot::{Reader, Writer};
use crate::op::state_storage::StateStorage;
use std::collections::BTreeSet;

/// Number of files of one level at which these are merged.
const MERGED: usize = if cfg!(test) { 3 } else { 8 };
/// Files of the lowest level have fewer sightings than this times [`MERGED`].
const LEAST: u64 = if cfg!(test) { 2 } else { 1 << 14 };

/// The files.
#[derive(Debug, Default)]
pub(crate) struct SpilledIds {
    files: Vec<SortedFile>,
}

/// The storage of the files, the limit of their filters in memory, and the horizons of the partitions.
pub(crate) struct IdStorage<'a> {
    pub(crate) storage: &'a mut dyn StateStorage,
    /// Maximum bytes of all filters together.
    pub(crate) filters: usize,
    /// The horizon of each partition (µs): sightings before it do not matter.
    pub(crate) horizons: &'a [i64],
}

/// Returns the level of a file with this number of sightings.
fn level(sightings: u64) -> u32 {
    (sightings / LEAST).max(1).ilog(MERGED as u64)
}

impl SpilledIds {
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns the number of sightings.
    pub(crate) fn len(&self) -> u64 {
        self.files.iter().map(SortedFile::len).sum()
    }

    /// Returns the bytes in memory.
    pub(crate) fn memory(&self) -> usize {
        self.files.iter().map(SortedFile::memory).sum()
    }

    /// Returns the bytes on disk.
    pub(crate) fn disk(&self) -> u64 {
        self.files.iter().map(SortedFile::disk).sum()
    }

    /// Returns the names of the files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.files.iter().map(|file| file.name().to_owned()).collect()
    }

    /// Returns the numbers of the partitions whose ids are in files.
    pub(crate) fn partitions(&self) -> BTreeSet<u32> {
        self.files.iter().flat_map(SortedFile::partitions).collect()
    }

    /// Whether a key was seen at the horizon of its partition or after it. Errors: exit status 74.
    pub(crate) fn has(&self, key: PartitionId, horizon: i64) -> Result<bool> {
        let hash = key.hash();
        for file in self.files.iter().rev() {
            if file.find(key, hash)?.is_some_and(|time| time >= horizon) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Drops the files that are over.
    pub(crate) fn drop_old(&mut self, horizons: &[i64]) {
        self.files.retain(|file| !file.is_over(horizons));
    }

    /// Adds a file of these sightings, which are newer than those of all files, and merges files if there are many.
    /// Errors: exit status 74.
    pub(crate) fn push(&mut self, sightings: Vec<Sighting>, context: &mut IdStorage<'_>) -> Result<()> {
        let mut sightings: Vec<(u64, Sighting)> =
            sightings.into_iter().map(|sighting| (sighting.key.hash(), sighting)).collect();
        sightings.sort_unstable_by_key(|(hash, sighting)| (*hash, sighting.key));
        let filter = new_filter(sightings.len() as u64, context);
        let mut writer = SortedWriter::begin(context.storage, filter)?;
        sightings.iter().try_for_each(|(hash, sighting)| writer.push(*sighting, *hash))?;
        drop(sightings);
        self.files.push(writer.finish()?);
        while let Some(begin) = self.mergeable() {
            let files = self.files.split_off(begin);
            self.files.extend(merge(&files, context)?);
        }
        self.fit(context.filters);
        Ok(())
    }

    /// Returns the index of the first of the newest files that are merged next.
    fn mergeable(&self) -> Option<usize> {
        let last = level(self.files.last()?.len());
        let count = self.files.iter().rev().take_while(|file| level(file.len()) <= last).count();
        (count >= MERGED).then(|| self.files.len() - count)
    }

    /// Halves filters, the greatest first, until all have at most `limit` bytes.
    fn fit(&mut self, limit: usize) {
        while self.files.iter().map(|file| file.filter.bytes()).sum::<usize>() > limit {
            let greatest = self.files.iter_mut().max_by_key(|file| file.filter.bytes());
            if !greatest.is_some_and(|file| file.filter.halve()) {
                return;
            }
        }
    }

    pub(crate) fn snapshot(&self, out: &mut Writer) {
        out.count(self.files.len());
        self.files.iter().for_each(|file| file.snapshot(out));
    }

    /// Restores the ids that [`SpilledIds::snapshot`] saved. Errors: exit status 65 if it is damaged, 74.
    pub(crate) fn restore(saved: &mut Reader<'_>, context: &mut IdStorage<'_>) -> Result<Self> {
        let mut restored = Self::default();
        for _ in 0..saved.count()? {
            restored.files.push(SortedFile::restore(saved, context.horizons.len(), context.storage)?);
            restored.fit(context.filters);
        }
        Ok(restored)
    }
}

fn new_filter(sightings: u64, context: &IdStorage<'_>) -> HashFilter {
    // A new filter is in memory beside the others.
    HashFilter::new(sightings as usize, context.filters / 2)
}

/// Merges files into one, without sightings that do not matter; `None` if no other is left. Errors: exit status 74.
fn merge(files: &[SortedFile], context: &mut IdStorage<'_>) -> Result<Option<SortedFile>> {
    let mut readers: Vec<MergeInput<'_>> = vec![];
    for file in files {
        readers.push(MergeInput { next: None, reader: file.iter() });
    }
    readers.iter_mut().try_for_each(MergeInput::advance)?;
    let sightings = files.iter().map(SortedFile::len).sum();
    let mut writer: Option<SortedWriter> = None;
    while let Some(least) = readers.iter().filter_map(|input| input.next).map(HashedSighting::order).min() {
        let mut newest = i64::MIN;
        for input in &mut readers {
            if let Some(next) = input.next.filter(|next| next.order() == least) {
                newest = newest.max(next.sighting.time);
                input.advance()?;
            }
        }
        let (hash, key) = least;
        if newest < context.horizons[key.partition as usize] {
            continue;
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            None => {
                let filter = new_filter(sightings, context);
                writer.insert(SortedWriter::begin(context.storage, filter)?)
            }
        };
        writer.push(Sighting { key, time: newest }, hash)?;
    }
    writer.map(SortedWriter::finish).transpose()
}

/// A file that is merged, and its next sighting.
struct MergeInput<'a> {
    next: Option<HashedSighting>,
    reader: SortedReader<'a>,
}

#[derive(Clone, Copy)]
struct HashedSighting {
    hash: u64,
    sighting: Sighting,
}

impl HashedSighting {
    fn order(self) -> (u64, PartitionId) {
        (self.hash, self.sighting.key)
    }
}

impl MergeInput<'_> {
    fn advance(&mut self) -> Result<()> {
        let next = self.reader.next()?;
        self.next = next.map(|sighting| HashedSighting { hash: sighting.key.hash(), sighting });
        Ok(())
    }
}
