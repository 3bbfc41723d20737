//! When an id was seen in a partition, and its form in files and snapshots.

use crate::parse::bytes::Cursor;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of an encoded sighting: the partition, the id, the stream time.
pub(crate) const SIGHTING_BYTES: usize = KEY_BYTES + 8;
const KEY_BYTES: usize = 4 + 16;

/// An id in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PartitionId {
    /// The number of the partition in the state.
    pub(crate) partition: u32,
    pub(crate) id: [u8; 16],
}

/// The last time that an id was seen, as far as its holder knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) key: PartitionId,
    /// Stream time (µs).
    pub(crate) time: i64,
}

impl PartitionId {
    fn bytes(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..4].copy_from_slice(&self.partition.to_le_bytes());
        bytes[4..].copy_from_slice(&self.id);
        bytes
    }

    /// Returns the hash by which files are sorted. It is the same in every run.
    pub(crate) fn hash(self) -> u64 {
        xxh3_64(&self.bytes())
    }
}

impl Sighting {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Cursor::new(bytes);
        Some(Self { key: PartitionId { partition: bytes.le()?, id: bytes.array()? }, time: bytes.le()? })
    }

    /// Decodes sightings that follow each other; ends before an incomplete one.
    pub(crate) fn decode_all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.chunks_exact(SIGHTING_BYTES).filter_map(Self::decode)
    }
}
