//! A blocked Bloom filter: one CPU cache line shows for most hashes that a file does not have them.

/// Words of a block. A block is one CPU cache line.
const BLOCK_WORDS: usize = 8;
/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = BLOCK_WORDS * 8;
/// Base-2 logarithm of the number of bits of a block.
const BLOCK_BITS: u32 = 9;
/// Bits that are set for a hash.
const PROBES: u32 = 6;
/// Bits for each hash at least, unless the filter would exceed its limit.
const BITS_PER_HASH: usize = 10;

/// A blocked Bloom filter of the hashes of a file.
#[derive(Clone, Debug)]
pub(crate) struct HashFilter {
    /// A power of two of blocks.
    blocks: Vec<[u64; BLOCK_WORDS]>,
}

impl HashFilter {
    /// Makes an empty filter for this number of hashes. It has at most `limit` bytes, but at least one block.
    pub(crate) fn new(hashes: usize, limit: usize) -> Self {
        let most = 1 << (limit / BLOCK_BYTES).max(1).ilog2();
        let wanted = (hashes * BITS_PER_HASH).div_ceil(1 << BLOCK_BITS).next_power_of_two();
        Self { blocks: vec![[0; BLOCK_WORDS]; wanted.min(most)] }
    }

    fn place(&self, hash: u64) -> usize {
        hash as usize & (self.blocks.len() - 1)
    }

    /// Returns the words and bits of a hash in its block.
    fn bits(hash: u64) -> impl Iterator<Item = (usize, u64)> {
        // The low bits of the hash choose the block. The upper bits of this product depend on all bits of the hash.
        let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (0..PROBES).map(move |probe| {
            let bit = (mixed >> (64 - BLOCK_BITS * (probe + 1))) as usize & ((1 << BLOCK_BITS) - 1);
            (bit / 64, 1 << (bit % 64))
        })
    }

    pub(crate) fn add(&mut self, hash: u64) {
        let place = self.place(hash);
        Self::bits(hash).for_each(|(word, bit)| self.blocks[place][word] |= bit);
    }

    /// Whether the hash may have been added; true if it was.
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        let block = &self.blocks[self.place(hash)];
        Self::bits(hash).all(|(word, bit)| block[word] & bit != 0)
    }

    /// Halves the filter, so that [`HashFilter::may_have`] is true for more hashes; returns false if the filter is one
    /// block.
    pub(crate) fn halve(&mut self) -> bool {
        let half = self.blocks.len() / 2;
        if half == 0 {
            return false;
        }
        for at in 0..half {
            let upper = self.blocks[at + half];
            self.blocks[at].iter_mut().zip(upper).for_each(|(word, other)| *word |= other);
        }
        self.blocks.truncate(half);
        self.blocks.shrink_to_fit();
        true
    }

    /// Returns its size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Decodes a filter; `None` if its size is not a power of two of blocks.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        let block = |bytes: &[u8; BLOCK_BYTES]| {
            let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
            [(); BLOCK_WORDS].map(|()| words.next().unwrap_or_default())
        };
        let is_whole = rest.is_empty() && blocks.len().is_power_of_two();
        is_whole.then(|| Self { blocks: blocks.iter().map(block).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    #[test]
    fn no_hash_is_lost_and_few_others_are_taken_for_one_at_any_size() {
        let hash = |number: u64| xxh3_64(&number.to_le_bytes());
        let mut filter = HashFilter::new(50_000, usize::MAX);
        (0..50_000).for_each(|number| filter.add(hash(number)));
        let wrong = |filter: &HashFilter| (50_000..150_000).filter(|number| filter.may_have(hash(*number))).count();
        assert!(wrong(&filter) < 2_000, "{} of 100,000", wrong(&filter));
        loop {
            let saved = HashFilter::decode(&filter.encode()).unwrap();
            assert!((0..50_000).all(|number| saved.may_have(hash(number))), "{} bytes", filter.bytes());
            if !filter.halve() {
                break;
            }
        }
        assert_eq!((filter.bytes(), HashFilter::new(50_000, 200).bytes()), (BLOCK_BYTES, 2 * BLOCK_BYTES));
        assert!(HashFilter::decode(&[0; 3 * BLOCK_BYTES]).is_none() && HashFilter::decode(&[0; 63]).is_none());
    }
}
