//! The entry of a row: fixed-size, so that any number of entries can be sorted on disk.

use crate::kind::PartitionName;
use ahash::AHashMap;

/// A key of 128 bits: an event_id, or a position.
pub type RowKey = [u64; 2];

/// The side of a comparison that an entry belongs to. Among entries of one key, those of plus come first and units
/// last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// A record of a side output (`--plus`): a dead letter, a late row or a duplicate.
    Plus,
    /// A row of B.
    B,
    /// A unit: a record of A.
    A,
}

/// The kind of rows that are compared, which decides the names of columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComparedRows {
    /// Events by partition and offset.
    #[default]
    Events,
    /// Metrics by name, dimensions and start of the window.
    Metrics,
}

impl ComparedRows {
    /// Returns the names of the two columns that identify a partition of events, or a series of metrics.
    pub fn names(self) -> [&'static str; 2] {
        match self {
            Self::Events => ["origin", "partition"],
            Self::Metrics => ["metric_name", "dimensions"],
        }
    }
}

/// The flag of a unit that arrived so recently that B need not have it yet.
pub const IN_FLIGHT: u8 = 1;
/// The flag of a unit whose position is in plus.
pub const IN_PLUS: u8 = 2;
/// The flag of a record of plus that is not in B: a letter of a record that was rejected, or a duplicate.
pub const NOT_IN_B: u8 = 4;

/// One row of A, B or plus. Entries are ordered by key, side and flags, so that of several units of one key those
/// without flags are matched first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowEntry {
    /// The key that rows are matched by: the position or the event_id.
    pub key: RowKey,
    /// The side of the row.
    pub side: Side,
    /// Facts about a unit: [`IN_FLIGHT`], [`IN_PLUS`]; about a record of plus: [`NOT_IN_B`]; the outcome of a finding.
    pub flags: u8,
    /// The event_id if the key is a position, else the position.
    pub other: RowKey,
    /// The event time (µs), or [`RowEntry::NO_TIME`].
    pub time: i64,
    /// The hash of the content; 0 if contents are not compared.
    pub content: u64,
}

impl RowEntry {
    /// The time of a record that has none, such as one that cannot be read.
    pub const NO_TIME: i64 = i64::MIN;
    /// The length of an encoded entry (bytes).
    pub const BYTES: usize = 50;

    /// Returns the event time (µs), if the record has one.
    pub fn time(&self) -> Option<i64> {
        (self.time != Self::NO_TIME).then_some(self.time)
    }

    /// Returns the entry with its two keys exchanged.
    pub fn turned(self) -> Self {
        Self { key: self.other, other: self.key, ..self }
    }

    /// Returns the bytes of the entry.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.key[0], self.key[1], self.other[0], self.other[1], self.time.cast_unsigned(), self.content];
        for (target, word) in bytes.chunks_exact_mut(8).zip(words) {
            target.copy_from_slice(&word.to_le_bytes());
        }
        (bytes[48], bytes[49]) = (self.side as u8, self.flags);
        bytes
    }

    /// Returns the entry that [`RowEntry::encode`] wrote.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
            u64::from_le_bytes(word)
        };
        let side = match bytes[48] {
            0 => Side::Plus,
            1 => Side::B,
            _ => Side::A,
        };
        Self {
            key: [word(0), word(1)],
            side,
            flags: bytes[49],
            other: [word(2), word(3)],
            time: word(4).cast_signed(),
            content: word(5),
        }
    }
}

/// A position: the index of a partition in [`PartitionNames`], and an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowPosition {
    /// The index of the partition.
    pub partition: u32,
    /// The offset, or the line of a file.
    pub offset: i64,
}

impl RowPosition {
    /// Returns the position as a key whose order is that of partitions and offsets.
    pub fn key(self) -> RowKey {
        [u64::from(self.partition), self.offset.cast_unsigned() ^ 1 << 63]
    }

    /// Returns the position of such a key.
    pub fn of_key([partition, offset]: RowKey) -> Self {
        Self { partition: u32::try_from(partition).unwrap_or(u32::MAX), offset: (offset ^ 1 << 63).cast_signed() }
    }
}

/// Returns the key of a UUID.
pub fn id_key(id: [u8; 16]) -> RowKey {
    let id = u128::from_be_bytes(id);
    [(id >> 64) as u64, id as u64]
}

/// Returns the UUID of its key.
pub fn id_of_key([high, low]: RowKey) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// The names of all partitions of a run, numbered as they appear.
#[derive(Debug, Default)]
pub struct PartitionNames {
    names: Vec<PartitionName>,
    index: AHashMap<PartitionName, u32>,
}

impl PartitionNames {
    /// Returns the index of a partition; adds it if it is new.
    pub fn index(&mut self, origin: &str, partition: &str) -> u32 {
        let name = PartitionName::new(origin, partition);
        if let Some(index) = self.index.get(&name) {
            return *index;
        }
        let index = self.names.len() as u32;
        self.names.push(name.clone());
        self.index.insert(name, index);
        index
    }

    /// Returns the index of a partition if it is known, else that of `other` of its origin.
    pub fn known_or(&mut self, origin: &str, partition: &str, other: &str) -> u32 {
        let name = PartitionName::new(origin, partition);
        self.index.get(&name).copied().unwrap_or_else(|| self.index(origin, other))
    }

    /// Returns the name of a partition by its index.
    pub fn name(&self, index: u32) -> Option<&PartitionName> {
        self.names.get(index as usize)
    }

    /// Returns the number of partitions.
    pub fn count(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn an_entry_comes_back_and_keys_keep_the_order_of_positions(
            words in any::<[u64; 5]>(), time in any::<i64>(), flags in any::<u8>(),
            left in any::<(u32, i64)>(), right in any::<(u32, i64)>(),
        ) {
            for side in [Side::Plus, Side::B, Side::A] {
                let entry =
                    RowEntry { key: [words[0], words[1]], side, flags, other: [words[2], words[3]], time, content: words[4] };
                prop_assert_eq!(RowEntry::decode(&entry.encode()), entry);
            }
            let [left, right] = [left, right].map(|(partition, offset)| RowPosition { partition, offset });
            prop_assert_eq!(RowPosition::of_key(left.key()), left);
            prop_assert_eq!(left.cmp(&right), left.key().cmp(&right.key()));
            let id = u128::from(words[0]) << 64 | u128::from(words[1]);
            prop_assert_eq!(id_of_key(id_key(id.to_be_bytes())), id.to_be_bytes());
        }
    }

    #[test]
    fn a_partition_has_one_index() {
        let mut names = PartitionNames::default();
        assert_eq!([names.index("a", "0"), names.index("a", "1"), names.index("a", "0")], [0, 1, 0]);
        assert_eq!((names.count(), names.name(1).map(|name| name.partition.as_str())), (2, Some("1")));
        assert!(names.name(2).is_none());
    }
}
