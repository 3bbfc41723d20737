//! Detects decompression bombs: few bytes that decompress to very many.

use crate::error::{Error, Result};

/// Default maximum of decompressed bytes per compressed byte (`--max-decompression-ratio`).
pub const RATIO_MAX: u64 = 1_000;

/// Decompressed bytes that are always allowed, whatever the ratio.
pub const ANY_RATIO_BYTES: u64 = 100 << 20;

/// Counts compressed and decompressed bytes, to detect decompression bombs.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    max: u64,
    packed: u64,
    unpacked: u64,
}

impl Ratio {
    /// Starts at 0; allows `max` decompressed bytes per compressed byte.
    pub fn new(max: u64) -> Self {
        Self { max, packed: 0, unpacked: 0 }
    }

    /// Counts a block before memory is allocated for it: neither it nor all blocks so far may be a bomb. `what` names
    /// the compressed data.
    pub fn take(&mut self, what: &str, packed: u64, unpacked: u64) -> Result<()> {
        self.packed = self.packed.saturating_add(packed);
        self.unpacked = self.unpacked.saturating_add(unpacked);
        check(what, packed, unpacked, self.max)?;
        check(what, self.packed, self.unpacked, self.max)
    }
}

/// Refuses a decompression bomb: `packed` bytes of `what` that decompress to `unpacked`.
pub fn check(what: &str, packed: u64, unpacked: u64, max: u64) -> Result<()> {
    let ratio = unpacked / packed.max(1);
    if unpacked <= ANY_RATIO_BYTES || ratio <= max {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{what} decompresses to {ratio} times its size; --max-decompression-ratio {} allows it",
        ratio.saturating_mul(2)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_a_bomb_by_itself_and_with_those_before_it() {
        let mut ratio = Ratio::new(10);
        ratio.take("a page", 1 << 30, 2 << 30).unwrap();
        ratio.take("a page", 1, ANY_RATIO_BYTES).unwrap();
        let error = ratio.take("a page", 1 << 20, ANY_RATIO_BYTES + 1).unwrap_err();
        assert!(error.to_string().starts_with("a page decompresses to 100 times its size"), "{error}");
        let mut ratio = Ratio::new(10);
        ratio.take("a page", 100, ANY_RATIO_BYTES).unwrap();
        ratio.take("a page", 100, ANY_RATIO_BYTES).unwrap_err();
    }
}
