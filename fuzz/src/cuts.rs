//! Input cut into chunks by the input itself.

/// Chunk lengths from a seed, mostly small; never 0.
pub struct Cuts(u64);

impl Cuts {
    /// The same cuts for the same seed.
    pub fn new(seed: u8) -> Self {
        Self(u64::from(seed) + 1)
    }

    /// The next length, at most `most`, which is not 0.
    pub fn next(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let length = match self.0 % 4 {
            0 => 1,
            1 => self.0 as usize % 16 + 1,
            2 => self.0 as usize % 256 + 1,
            _ => self.0 as usize % 4096 + 1,
        };
        length.min(most)
    }
}

/// The first byte, which chooses, and the rest; none for empty input.
pub fn chosen(input: &[u8]) -> Option<(u8, &[u8])> {
    input.split_first().map(|(first, rest)| (*first, rest))
}
