//! Keys of a metric: the tuples of its dimensions' values, each known by a number while some state is about it.

use ahash::AHashMap;
use arrow::array::{Array, StringArray};

/// The keys of one metric.
#[derive(Default)]
pub struct Keys {
    ids: AHashMap<Box<[u8]>, u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Keys met since the last sweep that were new then.
    fresh: Vec<u32>,
    scratch: Vec<u8>,
    bytes: usize,
}

#[derive(Default)]
struct Entry {
    key: Box<[u8]>,
    /// How many slots are about it.
    uses: u32,
}

impl Keys {
    /// The numbers of the keys of `rows` rows of the dimension columns.
    pub fn ids(&mut self, columns: &[&StringArray], rows: usize, ids: &mut Vec<u32>) {
        ids.clear();
        ids.extend((0..rows).map(|row| self.id(columns, row)));
    }

    #[inline]
    fn id(&mut self, columns: &[&StringArray], row: usize) -> u32 {
        self.scratch.clear();
        for column in columns {
            if column.is_null(row) {
                self.scratch.push(0);
            } else {
                let value = column.value(row);
                self.scratch.push(1);
                self.scratch.extend_from_slice(&(value.len() as u32).to_le_bytes());
                self.scratch.extend_from_slice(value.as_bytes());
            }
        }
        match self.ids.get(self.scratch.as_slice()) {
            Some(id) => *id,
            None => self.insert(),
        }
    }

    /// The number of a saved key.
    pub fn restore(&mut self, key: &[u8]) -> u32 {
        self.scratch.clear();
        self.scratch.extend_from_slice(key);
        match self.ids.get(key) {
            Some(id) => *id,
            None => self.insert(),
        }
    }

    #[cold]
    fn insert(&mut self) -> u32 {
        let key: Box<[u8]> = self.scratch.as_slice().into();
        self.bytes += 2 * key.len() + 64;
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.entries.push(Entry::default());
                (self.entries.len() - 1) as u32
            }
        };
        self.entries[id as usize] = Entry { key: key.clone(), uses: 0 };
        self.ids.insert(key, id);
        self.fresh.push(id);
        id
    }

    /// One more slot is about this key.
    pub fn retain(&mut self, id: u32) {
        self.entries[id as usize].uses += 1;
    }

    /// One slot fewer is about this key; the last one takes it away.
    pub fn release(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        entry.uses -= 1;
        if entry.uses == 0 {
            let key = std::mem::take(&mut entry.key);
            self.bytes -= 2 * key.len() + 64;
            self.ids.remove(&key);
            self.free.push(id);
        }
    }

    /// Takes new keys away that no slot came to be about.
    pub fn sweep(&mut self) {
        for id in std::mem::take(&mut self.fresh) {
            let unused = self.entries[id as usize].uses == 0;
            if unused && self.ids.contains_key(&self.entries[id as usize].key) {
                self.retain(id);
                self.release(id);
            }
        }
    }

    /// The key's bytes: its saved form.
    pub fn bytes_of(&self, id: u32) -> &[u8] {
        &self.entries[id as usize].key
    }

    /// The values of the key's dimensions.
    pub fn values(&self, id: u32) -> Vec<Option<&str>> {
        let mut rest = self.bytes_of(id);
        let mut values = vec![];
        while let Some((present, tail)) = rest.split_first() {
            if *present == 0 {
                values.push(None);
                rest = tail;
                continue;
            }
            let (length, tail) = tail.split_at(4);
            let length = length.iter().rev().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
            let (value, tail) = tail.split_at(length);
            values.push(Some(std::str::from_utf8(value).unwrap_or_default()));
            rest = tail;
        }
        values
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.bytes
    }
}
