//! Saved forms: a version byte, then fields in little-endian order. The reader checks every length.

use crate::error::{Error, Result};

/// The version that every saved form starts with.
pub(super) const VERSION: u8 = 1;

/// Appends an integer.
pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Reads a saved form. Its methods fail with exit status 65 if the bytes end early or are impossible.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Creates a reader after the version byte, which must be [`VERSION`].
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

    /// Reads a number of values up to 2^48, so that sums cannot overflow.
    pub(super) fn count(&mut self) -> Result<u64> {
        self.at_most(1 << 48).map(|count| count as u64)
    }

    /// Reads a length or index of at most `max`.
    pub(super) fn at_most(&mut self, max: u64) -> Result<usize> {
        match self.u64()? {
            value if value <= max => Ok(value as usize),
            value => Err(Error::corrupt(format!("saved aggregate names {value}, beyond {max}"))),
        }
    }

    /// Returns all remaining bytes.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Checks that no bytes are left.
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
