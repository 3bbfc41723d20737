//! Saved forms: a version byte, then fields in little-endian order; read back with every length checked.

use crate::error::{Error, Result};

/// The version every saved form starts with.
pub(super) const VERSION: u8 = 1;

/// Appends an integer.
pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Reads a saved form; each step is exit 65 where the bytes end or cannot be.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// After the version byte, which must be ours.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Self { rest }),
            Some((version, _)) => Err(Error::corrupt(format!("saved aggregate of version {version}, not {VERSION}"))),
            None => Err(short()),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// How many values something stands for: few enough to be added up.
    pub(super) fn count(&mut self) -> Result<u64> {
        self.at_most(1 << 48).map(|count| count as u64)
    }

    /// A length or index of at most `max`.
    pub(super) fn at_most(&mut self, max: u64) -> Result<usize> {
        match self.u64()? {
            value if value <= max => Ok(value as usize),
            value => Err(Error::corrupt(format!("saved aggregate names {value}, beyond {max}"))),
        }
    }

    /// Whatever is left; nothing is left after it.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// All must have been read.
    pub(super) fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Error::corrupt(format!("saved aggregate with {} bytes too many", self.rest.len())))
    }
}

#[cold]
fn short() -> Error {
    Error::corrupt("saved aggregate is cut short")
}
