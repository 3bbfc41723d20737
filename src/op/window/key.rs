//! Keys of a metric: the tuples of its dimensions' values, each known by a number while some state is about it.

use crate::error::{Error, Result};
use ahash::RandomState;
use arrow::array::{Array, StringArray};
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};

/// The keys of one metric.
#[derive(Default)]
pub struct Keys {
    /// The numbers, by the hash of their entry's values; a row finds its key without writing it down.
    ids: HashTable<u32>,
    state: RandomState,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Keys met since the last sweep that were new then.
    fresh: Vec<u32>,
    bytes: usize,
}

#[derive(Default)]
struct Entry {
    /// For each dimension 0 where it is NULL, or 1, the length (u32, little-endian) and the text.
    key: Box<[u8]>,
    hash: u64,
    /// How many slots are about it.
    uses: u32,
}

impl Keys {
    /// The numbers of the keys of `rows` rows of the dimension columns.
    pub fn ids(&mut self, columns: &[&StringArray], rows: usize, ids: &mut Vec<u32>) {
        ids.clear();
        match *columns {
            [] => {
                let id = self.id([]);
                ids.extend((0..rows).map(|_| id));
            }
            // Most metrics have few dimensions: their values fit into registers.
            [a] => ids.extend((0..rows).map(|row| self.id([value(a, row)]))),
            [a, b] => ids.extend((0..rows).map(|row| self.id([value(a, row), value(b, row)]))),
            _ => ids.extend((0..rows).map(|row| {
                let values: Vec<Option<&str>> = columns.iter().map(|column| value(column, row)).collect();
                self.id(values)
            })),
        }
    }

    #[inline(always)]
    fn id<'a>(&mut self, values: impl AsRef<[Option<&'a str>]>) -> u32 {
        let values = values.as_ref();
        let hash = self.hash(values);
        match self.ids.find(hash, |id| is_key(&self.entries[*id as usize].key, values)) {
            Some(id) => *id,
            None => {
                let mut key = vec![];
                values.iter().for_each(|value| push_value(&mut key, *value));
                self.insert(key.into(), hash)
            }
        }
    }

    #[inline(always)]
    fn hash(&self, values: &[Option<&str>]) -> u64 {
        let mut hasher = self.state.build_hasher();
        for value in values {
            match value {
                Some(value) => hasher.write(value.as_bytes()),
                None => hasher.write_u8(0),
            }
        }
        hasher.finish()
    }

    /// The number of a saved key; exit 65 if it is none.
    pub fn restore(&mut self, key: &[u8]) -> Result<u32> {
        let values = values_of(key);
        if !is_key(key, &values) {
            return Err(Error::corrupt("a snapshot holds a key that is none"));
        }
        let hash = self.hash(&values);
        Ok(match self.ids.find(hash, |id| *self.entries[*id as usize].key == *key) {
            Some(id) => *id,
            None => self.insert(key.into(), hash),
        })
    }

    #[cold]
    fn insert(&mut self, key: Box<[u8]>, hash: u64) -> u32 {
        self.bytes += key.len() + 72;
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.entries.push(Entry::default());
                (self.entries.len() - 1) as u32
            }
        };
        self.entries[id as usize] = Entry { key, hash, uses: 0 };
        let entries = &self.entries;
        self.ids.insert_unique(hash, id, |id| entries[*id as usize].hash);
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
            let hash = entry.hash;
            self.bytes -= std::mem::take(&mut entry.key).len() + 72;
            if let Ok(known) = self.ids.find_entry(hash, |known| *known == id) {
                known.remove();
            }
            self.free.push(id);
        }
    }

    /// Takes new keys away that no slot came to be about.
    pub fn sweep(&mut self) {
        for id in std::mem::take(&mut self.fresh) {
            let entry = &self.entries[id as usize];
            if entry.uses == 0 && self.ids.find(entry.hash, |known| *known == id).is_some() {
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
        values_of(self.bytes_of(id))
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

#[inline(always)]
fn value(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

fn push_value(key: &mut Vec<u8>, value: Option<&str>) {
    match value {
        None => key.push(0),
        Some(value) => {
            key.push(1);
            key.extend_from_slice(&(value.len() as u32).to_le_bytes());
            key.extend_from_slice(value.as_bytes());
        }
    }
}

/// Whether a key's bytes are those of the values.
#[inline(always)]
fn is_key(mut key: &[u8], values: &[Option<&str>]) -> bool {
    for value in values {
        let rest = match (value, key) {
            (None, [0, rest @ ..]) => Some(rest),
            (Some(value), [1, a, b, c, d, rest @ ..])
                if u32::from_le_bytes([*a, *b, *c, *d]) as usize == value.len() =>
            {
                rest.strip_prefix(value.as_bytes())
            }
            _ => None,
        };
        let Some(rest) = rest else { return false };
        key = rest;
    }
    key.is_empty()
}

/// The values a key's bytes stand for; as many as can be read.
fn values_of(mut key: &[u8]) -> Vec<Option<&str>> {
    let mut values = vec![];
    while let Some((present, rest)) = key.split_first() {
        if *present == 0 {
            values.push(None);
            key = rest;
            continue;
        }
        let Some((length, rest)) = rest.split_first_chunk() else { break };
        let Some((value, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { break };
        values.push(Some(std::str::from_utf8(value).unwrap_or_default()));
        key = rest;
    }
    values
}
