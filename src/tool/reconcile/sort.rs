//! Sorts any number of entries in bounded memory: sorted runs in a temporary file, merged at the end.
//!
//! Entries that come in order, such as positions of one file or topic, make one run, which costs no comparison at the
//! merge.

use evt_core::error::{Error, Result};
use evt_core::reconcile::entry::{RowEntry, RowKey};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Entries that are held before they are written (about 29 MiB).
const ENTRIES: usize = 1 << 19;
/// Bytes of all buffers of a merge together, and of the buffer of one run at most.
const MERGE_BYTES: usize = 16 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// Takes entries in any order.
pub struct EntrySorter {
    entries: Vec<RowEntry>,
    capacity: usize,
    /// Whether the entries are in order.
    is_sorted: bool,
    /// The order of the entries while they are written.
    order: Vec<EntryKey>,
    disk: Option<SortedRuns>,
}

/// An entry in a sort: 24 bytes move instead of 56, which takes half the time.
struct EntryKey {
    key: RowKey,
    index: u32,
}

/// The runs in the temporary file.
struct SortedRuns {
    file: File,
    /// Bytes written.
    length: u64,
    runs: Vec<Range<u64>>,
    /// The last entry of the last run.
    last: Option<RowEntry>,
}

impl Default for EntrySorter {
    fn default() -> Self {
        Self::with_capacity(ENTRIES)
    }
}

impl EntrySorter {
    /// Makes a sorter that holds at most `capacity` entries in memory.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { entries: vec![], capacity: capacity.max(1), is_sorted: true, order: vec![], disk: None }
    }

    /// Adds an entry. Errors: exit status 74 if the temporary file cannot be written.
    #[inline]
    pub fn push(&mut self, entry: RowEntry) -> Result<()> {
        if self.entries.len() >= self.capacity {
            self.spill()?;
        }
        self.is_sorted = self.is_sorted && self.entries.last().is_none_or(|last| *last <= entry);
        self.entries.push(entry);
        Ok(())
    }

    /// Writes the entries in order, as a run of their own or at the end of the last one.
    fn spill(&mut self) -> Result<()> {
        let Self { entries, order, .. } = self;
        order.clear();
        if !std::mem::replace(&mut self.is_sorted, true) {
            order.extend(entries.iter().zip(0..).map(|(entry, index)| EntryKey { key: entry.key, index }));
            order.sort_unstable_by(|left, right| {
                let whole = || entries[left.index as usize].cmp(&entries[right.index as usize]);
                left.key.cmp(&right.key).then_with(whole)
            });
        }
        let entry = |at: usize| entries.get(order.get(at).map_or(at, |key| key.index as usize));
        let (Some(first), Some(last)) = (entry(0), entry(entries.len().wrapping_sub(1))) else { return Ok(()) };
        let disk = match &mut self.disk {
            Some(disk) => disk,
            none => {
                let file = tempfile::tempfile().map_err(|error| failed(&error))?;
                none.insert(SortedRuns { file, length: 0, runs: vec![], last: None })
            }
        };
        let start = disk.length;
        let mut bytes = Vec::with_capacity(BUFFER_BYTES + RowEntry::BYTES);
        for entry in (0..entries.len()).filter_map(entry) {
            bytes.extend_from_slice(&entry.encode());
            if bytes.len() >= BUFFER_BYTES {
                disk.write(&bytes)?;
                bytes.clear();
            }
        }
        disk.write(&bytes)?;
        let goes_on = disk.last.is_some_and(|last| last <= *first);
        match disk.runs.last_mut().filter(|_| goes_on) {
            Some(run) => run.end = disk.length,
            None => disk.runs.push(start..disk.length),
        }
        disk.last = Some(*last);
        entries.clear();
        Ok(())
    }

    /// Returns the entries in order. Errors: exit status 74 if the temporary file cannot be written.
    pub fn finish(mut self) -> Result<Sorted> {
        if self.disk.is_none() {
            if !self.is_sorted {
                self.entries.sort_unstable();
            }
            return Ok(Sorted::Memory(self.entries.into_iter()));
        }
        self.spill()?;
        let Some(SortedRuns { file, runs, .. }) = self.disk else { return Err(Error::broken("runs without a file")) };
        let bytes = (MERGE_BYTES / runs.len().max(1)).min(BUFFER_BYTES) / RowEntry::BYTES * RowEntry::BYTES;
        let mut readers = vec![];
        for run in runs {
            readers.push(RunReader { rest: run, buffer: vec![], at: 0, size: bytes.max(RowEntry::BYTES) });
        }
        let mut merge = Merge { file, readers, next: BinaryHeap::new() };
        for (run, reader) in merge.readers.iter_mut().enumerate() {
            merge.next.extend(reader.next(&merge.file)?.map(|entry| Reverse((entry, run))));
        }
        Ok(Sorted::Disk(merge))
    }
}

impl SortedRuns {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| failed(&error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

#[cold]
fn failed(error: &std::io::Error) -> Error {
    Error::io("the temporary file for sorting (TMPDIR)", error)
}

/// Entries in order.
pub enum Sorted {
    /// All of them fit into memory.
    Memory(std::vec::IntoIter<RowEntry>),
    /// They are on disk.
    Disk(Merge),
}

impl Sorted {
    /// Returns the next entry. Errors: exit status 74 if the temporary file cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<RowEntry>> {
        match self {
            Self::Memory(entries) => Ok(entries.next()),
            Self::Disk(merge) => merge.pop(),
        }
    }
}

/// The merge of sorted runs.
pub struct Merge {
    file: File,
    readers: Vec<RunReader>,
    /// The next entry of each run.
    next: BinaryHeap<Reverse<(RowEntry, usize)>>,
}

impl Merge {
    fn pop(&mut self) -> Result<Option<RowEntry>> {
        let Some(mut least) = self.next.peek_mut() else { return Ok(None) };
        let Reverse((entry, run)) = *least;
        match self.readers[run].next(&self.file)? {
            Some(next) => *least = Reverse((next, run)),
            None => {
                std::collections::binary_heap::PeekMut::pop(least);
            }
        }
        Ok(Some(entry))
    }
}

/// Reads one run.
struct RunReader {
    /// The bytes that are not read yet.
    rest: Range<u64>,
    buffer: Vec<u8>,
    at: usize,
    /// The size of the buffer, a multiple of an entry's.
    size: usize,
}

impl RunReader {
    #[inline]
    fn next(&mut self, file: &File) -> Result<Option<RowEntry>> {
        if self.at >= self.buffer.len() && !self.fill(file)? {
            return Ok(None);
        }
        let bytes = self.buffer[self.at..].first_chunk().ok_or_else(|| Error::broken("a run that ends in an entry"))?;
        self.at += RowEntry::BYTES;
        Ok(Some(RowEntry::decode(bytes)))
    }

    fn fill(&mut self, file: &File) -> Result<bool> {
        let left = usize::try_from(self.rest.end - self.rest.start).unwrap_or(usize::MAX);
        self.buffer.resize(left.min(self.size), 0);
        self.at = 0;
        file.read_exact_at(&mut self.buffer, self.rest.start).map_err(|error| failed(&error))?;
        self.rest.start += self.buffer.len() as u64;
        Ok(!self.buffer.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::reconcile::entry::Side;
    use proptest::prelude::*;

    fn entry(key: u64) -> RowEntry {
        RowEntry { key: [key, key ^ 7], side: Side::B, flags: 0, other: [key, 1], time: -3, content: 9 }
    }

    fn sorted(capacity: usize, keys: &[u64]) -> (Vec<RowEntry>, usize) {
        let mut sorter = EntrySorter::with_capacity(capacity);
        keys.iter().for_each(|key| sorter.push(entry(*key)).unwrap());
        let mut sorted = sorter.finish().unwrap();
        let runs = if let Sorted::Disk(merge) = &sorted { merge.readers.len() } else { 0 };
        (std::iter::from_fn(|| sorted.next_entry().unwrap()).collect(), runs)
    }

    #[test]
    fn entries_in_order_are_one_run() {
        let keys: Vec<u64> = (0..1000).collect();
        assert_eq!(sorted(64, &keys).1, 1);
        assert_eq!(sorted(64, &keys.iter().rev().copied().collect::<Vec<_>>()).1, 16);
        assert_eq!(sorted(1000, &keys).1, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_entries_come_in_order(keys in prop::collection::vec(0u64..300, 0..200), capacity in 1usize..70) {
            let mut expected: Vec<_> = keys.iter().map(|key| entry(*key)).collect();
            expected.sort_unstable();
            prop_assert_eq!(sorted(capacity, &keys).0, expected);
        }
    }
}
