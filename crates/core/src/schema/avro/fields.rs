//! The fields of a record: looked up by name, and the set of those present.

use crate::avro::schema::NodeId;
use crate::json::predictor::KeyPredictor;
use crate::json::text::unescape;
use std::cell::Cell;

/// One field of a record.
pub struct CheckedField {
    /// Its name.
    pub name: String,
    /// The check of its value.
    pub check: NodeId,
    /// Whether that accepts every string.
    pub takes_text: bool,
    /// Whether it is required: it has no default and does not take null.
    pub required: bool,
}

/// The fields of a record, looked up without hashing: few names have the same length.
#[derive(Default)]
pub struct Fields {
    pub list: Vec<CheckedField>,
    /// Indexes of `list` by the length of the name.
    by_length: Vec<Vec<usize>>,
    /// Length of the shortest key that may be a name with escapes: names are ASCII words, and `\u0061` is one letter.
    escaped_bytes_min: usize,
    /// Whether a member that is not a field is a fault.
    pub closed: bool,
    /// Predicts the keys; a mark is the index of the field.
    pub predictor: Cell<KeyPredictor>,
}

impl Fields {
    /// Builds the table of these fields; with `closed`, a member that is not a field is a fault.
    pub fn new(list: Vec<CheckedField>, closed: bool) -> Self {
        let longest = list.iter().map(|field| field.name.len()).max().unwrap_or(0);
        let shortest = list.iter().map(|field| field.name.len()).min().unwrap_or(0);
        let mut by_length = vec![vec![]; longest + 1];
        for (slot, field) in list.iter().enumerate() {
            by_length[field.name.len()].push(slot);
        }
        Self { list, by_length, escaped_bytes_min: shortest + 5, closed, predictor: Cell::default() }
    }

    /// Whether every object is valid, because there are no fields and other members are allowed.
    pub fn is_trivial(&self) -> bool {
        self.list.is_empty() && !self.closed
    }

    /// Returns the index of a key's field; the key may have escapes.
    #[inline]
    pub fn find(&self, key: &str) -> Option<usize> {
        let last = key.as_bytes().last();
        for slot in self.by_length.get(key.len()).map_or(&[][..], Vec::as_slice) {
            let name = &self.list[*slot].name;
            if name.as_bytes().last() == last && name == key {
                return Some(*slot);
            }
        }
        if key.len() >= self.escaped_bytes_min && is_escaped(key) { self.find_escaped(key) } else { None }
    }

    #[cold]
    fn find_escaped(&self, key: &str) -> Option<usize> {
        let key = unescape(key);
        self.list.iter().position(|field| field.name == key)
    }
}

/// The set of fields present in a record; no allocation for up to 256 fields.
pub struct PresentFields {
    few: [u64; 4],
    many: Vec<u64>,
}

impl PresentFields {
    pub fn new(fields: usize) -> Self {
        Self { few: [0; 4], many: if fields > 256 { vec![0; fields.div_ceil(64)] } else { vec![] } }
    }

    #[inline]
    fn words(&mut self) -> &mut [u64] {
        if self.many.is_empty() { &mut self.few } else { &mut self.many }
    }

    #[inline]
    pub fn insert(&mut self, slot: usize) {
        self.words()[slot / 64] |= 1 << (slot % 64);
    }

    #[inline]
    pub fn contains(&mut self, slot: usize) -> bool {
        self.words()[slot / 64] & (1 << (slot % 64)) != 0
    }
}

/// Whether there is a backslash. Without a branch per byte, because almost always there is none.
#[inline]
pub fn is_escaped(raw: &str) -> bool {
    raw.bytes().fold(false, |found, byte| found | (byte == b'\\'))
}
