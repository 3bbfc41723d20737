//! Keys of a metric: the tuples of its dimensions' values. Each has a number while some slot refers to it.

use crate::error::{Error, Result};
use crate::expr::{Dictionary, Dimension};
use ahash::RandomState;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, StringArray};
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

/// The keys of one metric.
#[derive(Default)]
pub struct Keys {
    /// Numbers of the keys, by the hash of their values; a row finds its key without encoding it.
    ids: HashTable<u32>,
    state: RandomState,
    entries: Vec<KeyEntry>,
    free: Vec<u32>,
    /// Keys that were new since the last sweep.
    fresh: Vec<u32>,
    known: KeyTable,
    bytes: usize,
    /// The number that the next key to be restored probably has.
    next: u32,
}

/// A table of keys by the codes of dictionary dimensions.
#[derive(Default)]
struct KeyTable {
    /// The values of each dimension, by code.
    values: Vec<ArrayRef>,
    /// The key of each place (one combination of codes).
    ids: Vec<KnownKey>,
}

/// The number of a key.
#[derive(Clone, Copy)]
struct KnownKey {
    id: u32,
    /// It is valid while the [`KeyEntry`] has this generation.
    generation: u32,
}

/// Maximum places of a table: a table with more is not worth its memory (above 512 KiB).
const PLACES_MAX: usize = 1 << 16;
const UNKNOWN: KnownKey = KnownKey { id: u32::MAX, generation: 0 };

#[derive(Default)]
struct KeyEntry {
    /// For each dimension 0 if it is NULL, else 1, the length (u32, little-endian) and the text.
    key: Box<[u8]>,
    hash: u64,
    /// Number of slots that refer to it.
    uses: u32,
    /// How many keys have had this number before. An element of `KeyTable::ids` is valid only while it has the same
    /// count.
    generation: u32,
}

impl Keys {
    /// Writes the key number of each of `rows` rows with these dimensions to `ids`.
    pub fn ids(&mut self, dimensions: &[Dimension], rows: usize, ids: &mut Vec<u32>) -> Result<()> {
        ids.clear();
        let dictionary = dimensions
            .iter()
            .map(|one| if let Dimension::Dictionary(dictionary) = one { Some(dictionary) } else { None });
        if let Some(dictionary) = dictionary.collect::<Option<Vec<_>>>().filter(|dictionary| !dictionary.is_empty())
            && self.ids_of_codes(&dictionary, rows, ids)
        {
            return Ok(());
        }
        let arrays = dimensions.iter().map(Dimension::rows).collect::<Result<Vec<_>>>()?;
        let columns: Vec<&StringArray> = arrays.iter().map(|array| array.as_string()).collect();
        match *columns {
            [] => {
                let id = self.id([]);
                ids.extend((0..rows).map(|_| id));
            }
            // Most metrics have few dimensions, whose values fit into registers.
            [a] => ids.extend((0..rows).map(|row| self.id([value(a, row)]))),
            [a, b] => ids.extend((0..rows).map(|row| self.id([value(a, row), value(b, row)]))),
            _ => ids.extend((0..rows).map(|row| {
                let values: Vec<Option<&str>> = columns.iter().map(|column| value(column, row)).collect();
                self.id(values)
            })),
        }
        Ok(())
    }

    /// Like [`Keys::ids`], for dictionary dimensions: the codes of a row select a place in a table of key numbers.
    /// Returns false if that table would be too large.
    fn ids_of_codes(&mut self, dimensions: &[&Dictionary], rows: usize, ids: &mut Vec<u32>) -> bool {
        // One more place for NULL.
        let size = |dictionary: &&Dictionary| dictionary.values().len() + 1;
        let places = dimensions.iter().try_fold(1usize, |places, dictionary| places.checked_mul(size(dictionary)));
        let Some(places) = places.filter(|places| *places <= PLACES_MAX) else { return false };
        let mut known = std::mem::take(&mut self.known);
        let same = |(a, b): (&ArrayRef, &&Dictionary)| Arc::ptr_eq(a, b.values());
        if known.values.len() != dimensions.len() || !known.values.iter().zip(dimensions).all(same) {
            known.values = dimensions.iter().map(|dictionary| dictionary.values().clone()).collect();
            known.ids.clear();
            known.ids.resize(places, UNKNOWN);
        }
        ids.resize(rows, 0);
        for dictionary in dimensions {
            let (size, null) = (size(dictionary) as u32, dictionary.values().len() as u32);
            match dictionary.codes().nulls() {
                None => ids
                    .iter_mut()
                    .zip(dictionary.codes().values())
                    .for_each(|(id, code)| *id = *id * size + *code as u32),
                Some(_) => ids.iter_mut().zip(dictionary.codes()).for_each(|(id, code)| {
                    *id = *id * size + code.map_or(null, |code| code as u32);
                }),
            }
        }
        for (row, id) in ids.iter_mut().enumerate() {
            let place = *id as usize;
            let KnownKey { id: found, generation } = known.ids[place];
            *id = match self.entries.get(found as usize) {
                Some(entry) if entry.generation == generation => found,
                _ => {
                    let values: Vec<Option<&str>> = dimensions.iter().map(|dictionary| dictionary.value(row)).collect();
                    let found = self.id(values);
                    known.ids[place] = KnownKey { id: found, generation: self.entries[found as usize].generation };
                    found
                }
            };
        }
        self.known = known;
        true
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
        values.iter().for_each(|value| hash_value(&mut hasher, value.map(str::as_bytes)));
        hasher.finish()
    }

    /// Returns the number of a saved key; adds the key if it is new.
    ///
    /// Errors: exit status 65 if the bytes are not a key.
    pub fn restore(&mut self, key: &[u8]) -> Result<u32> {
        // Each saved slice has its keys in the order of their bytes, so the keys of the second metric come in the order
        // of their numbers. Trying the next number first avoids a search by hash, which would miss the CPU caches for
        // each key. An unused number has an empty key.
        if let Some(entry) = self.entries.get(self.next as usize)
            && !key.is_empty()
            && *entry.key == *key
        {
            self.next += 1;
            return Ok(self.next - 1);
        }
        let mut hasher = self.state.build_hasher();
        let mut rest = key;
        while !rest.is_empty() {
            let (value, after) = split_value(rest).ok_or_else(|| Error::corrupt("snapshot: invalid key"))?;
            hash_value(&mut hasher, value);
            rest = after;
        }
        let hash = hasher.finish();
        let id = match self.ids.find(hash, |id| *self.entries[*id as usize].key == *key) {
            Some(id) => *id,
            None => self.insert(key.into(), hash),
        };
        self.next = id + 1;
        Ok(id)
    }

    #[cold]
    fn insert(&mut self, key: Box<[u8]>, hash: u64) -> u32 {
        self.bytes += key.len() + 72;
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.entries.push(KeyEntry::default());
                (self.entries.len() - 1) as u32
            }
        };
        let entry = &mut self.entries[id as usize];
        *entry = KeyEntry { key, hash, uses: 0, generation: entry.generation };
        let entries = &self.entries;
        self.ids.insert_unique(hash, id, |id| entries[*id as usize].hash);
        self.fresh.push(id);
        id
    }

    /// Counts one more slot that refers to this key.
    pub fn retain(&mut self, id: u32) {
        self.entries[id as usize].uses += 1;
    }

    /// Counts one slot less that refers to this key; removes the key with the last one.
    pub fn release(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        entry.uses -= 1;
        if entry.uses == 0 {
            let hash = entry.hash;
            entry.generation = entry.generation.wrapping_add(1);
            self.bytes -= std::mem::take(&mut entry.key).len() + 72;
            if let Ok(known) = self.ids.find_entry(hash, |known| *known == id) {
                known.remove();
            }
            self.free.push(id);
        }
    }

    /// Removes the new keys that no slot has come to refer to.
    pub fn sweep(&mut self) {
        for id in std::mem::take(&mut self.fresh) {
            let entry = &self.entries[id as usize];
            if entry.uses == 0 && self.ids.find(entry.hash, |known| *known == id).is_some() {
                self.retain(id);
                self.release(id);
            }
        }
    }

    /// Returns the key's bytes, which are also its saved form.
    pub fn bytes_of(&self, id: u32) -> &[u8] {
        &self.entries[id as usize].key
    }

    /// Returns the bytes of each key by its number; numbers without a key have none.
    pub fn each_bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| &*entry.key)
    }

    /// Returns the values of the key's dimensions; `None` is NULL.
    pub fn values(&self, id: u32) -> Vec<Option<&str>> {
        values_of(self.bytes_of(id))
    }

    /// Returns the number of keys.
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// Returns the bytes that the keys take.
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

/// Whether a key's bytes encode these values.
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

#[inline(always)]
fn hash_value(hasher: &mut impl Hasher, value: Option<&[u8]>) {
    match value {
        Some(value) => hasher.write(value),
        None => hasher.write_u8(0),
    }
}

/// Splits a key's bytes after its first value; `None` if they are not a value.
#[inline]
fn split_value(key: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    match key.split_first()? {
        (0, rest) => Some((None, rest)),
        (1, rest) => {
            let (length, rest) = rest.split_first_chunk()?;
            let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            std::str::from_utf8(value).ok()?;
            Some((Some(value), rest))
        }
        _ => None,
    }
}

/// Decodes the values in a key's bytes, as many as can be read.
fn values_of(mut key: &[u8]) -> Vec<Option<&str>> {
    let mut values = vec![];
    while let Some((value, rest)) = split_value(key) {
        values.push(value.map(|value| std::str::from_utf8(value).unwrap_or_default()));
        key = rest;
    }
    values
}

/// Returns the bytes of the key of each of `rows` rows with these dimensions.
pub fn encode(dimensions: &[Dimension], rows: usize) -> Result<BinaryArray> {
    let arrays = dimensions.iter().map(Dimension::rows).collect::<Result<Vec<_>>>()?;
    let columns: Vec<&StringArray> = arrays.iter().map(|array| array.as_string()).collect();
    let (mut keys, mut key) = (BinaryBuilder::with_capacity(rows, rows * 16), vec![]);
    for row in 0..rows {
        key.clear();
        columns.iter().for_each(|column| push_value(&mut key, value(column, row)));
        keys.append_value(&key);
    }
    Ok(keys.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int32Array;
    use proptest::prelude::*;

    /// A dimension of letters as plain values, and the same as a dictionary; `z` is a dictionary value that is NULL.
    fn dimension(rows: &[Option<char>], letters: &str) -> (Dimension, Dimension) {
        let text = |letter: char| (letter != 'z').then(|| letter.to_string());
        let plain: StringArray = rows.iter().map(|row| row.and_then(text)).collect();
        let codes: Int32Array =
            rows.iter().map(|row| row.and_then(|row| letters.find(row)).map(|code| code as i32)).collect();
        let values: StringArray = letters.chars().map(text).collect();
        (Dimension::Rows(Arc::new(plain)), Dimension::Dictionary(Dictionary::new(codes, Arc::new(values))))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn dictionary_dimensions_have_the_keys_of_plain_ones(
            batches in prop::collection::vec(
                prop::collection::vec((prop::option::of(prop::char::ranges(vec!['a'..='d', 'z'..='z'].into())), prop::option::of(prop::char::range('a', 'c'))), 1..20),
                1..8,
            ),
            dropped in prop::collection::vec(any::<bool>(), 8),
        ) {
            let (mut plain, mut dictionary) = (Keys::default(), Keys::default());
            // Every other batch orders the dictionary's values differently.
            for ((index, rows), dropped) in batches.iter().enumerate().zip(dropped) {
                let letters = if index % 2 == 0 { "abcdz" } else { "zdcba" };
                let (first, second): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
                let (a, dictionary_a) = dimension(&first, letters);
                let (b, dictionary_b) = dimension(&second, letters);
                let (mut ids, mut dictionary_ids) = (vec![], vec![]);
                plain.ids(&[a, b], rows.len(), &mut ids).unwrap();
                dictionary.ids(&[dictionary_a, dictionary_b], rows.len(), &mut dictionary_ids).unwrap();
                for (plain_id, dictionary_id) in ids.iter().zip(&dictionary_ids) {
                    prop_assert_eq!(plain.values(*plain_id), dictionary.values(*dictionary_id));
                }
                if !dropped {
                    // Some keys stay in use; the numbers of the others are used again.
                    dictionary.retain(dictionary_ids[0]);
                }
                dictionary.sweep();
                plain.sweep();
            }
        }
    }
}
