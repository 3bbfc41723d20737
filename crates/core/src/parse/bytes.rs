//! A cursor over bytes of a fixed layout: entries of the spool, saved states, messages of brokers.

/// Reads fields one after another; its methods return `None` if too few bytes are left.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Creates a cursor at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns the bytes that have not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        take(&mut self.rest, count)
    }

    /// Reads a number of variable length.
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        varint(&mut self.rest).ok()
    }

    /// Reads a number of variable length that may be negative.
    #[inline]
    pub fn zigzag(&mut self) -> Option<i64> {
        zigzag(&mut self.rest).ok()
    }

    /// Reads the next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    /// Reads a little-endian number.
    #[inline]
    pub fn le<T: Number>(&mut self) -> Option<T> {
        T::read_le(self)
    }

    /// Reads a big-endian number.
    #[inline]
    pub fn be<T: Number>(&mut self) -> Option<T> {
        T::read_be(self)
    }
}

/// Why bytes are not a number of variable length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarintFault {
    /// Too few bytes are left.
    Short,
    /// The number has more than 64 bits.
    Long,
}

/// Removes the first `count` bytes; `None` if too few are left.
#[inline]
pub fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// Removes a number in groups of seven bits, the least significant group first.
#[inline]
pub fn varint(bytes: &mut &[u8]) -> Result<u64, VarintFault> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate() {
        if at > 9 || at == 9 && *byte > 1 {
            return Err(VarintFault::Long);
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return Ok(value);
        }
    }
    Err(VarintFault::Short)
}

/// Removes a number of variable length that is negative if its last bit is set (zigzag).
#[inline]
pub fn zigzag(bytes: &mut &[u8]) -> Result<i64, VarintFault> {
    let value = varint(bytes)?;
    Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
}

/// A number of fixed width.
pub trait Number: Sized {
    /// Reads its bytes, the least significant one first.
    fn read_le(cursor: &mut Cursor<'_>) -> Option<Self>;
    /// Reads its bytes, the most significant one first.
    fn read_be(cursor: &mut Cursor<'_>) -> Option<Self>;
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Number for $number {
            #[inline]
            fn read_le(cursor: &mut Cursor<'_>) -> Option<Self> {
                cursor.array().map(<$number>::from_le_bytes)
            }

            #[inline]
            fn read_be(cursor: &mut Cursor<'_>) -> Option<Self> {
                cursor.array().map(<$number>::from_be_bytes)
            }
        }
    )*};
}

numbers!(u8 i8 i16 u32 i32 u64 i64 u128 f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order_and_never_beyond_the_end() {
        let bytes = [1, 2, 0, 0, 0, 0, 0, 0, 3, b'x', b'y'];
        let mut cursor = Cursor::new(&bytes);
        assert_eq!((cursor.le::<u8>(), cursor.le::<u32>(), cursor.be::<i32>()), (Some(1), Some(2), Some(3)));
        assert_eq!((cursor.le::<u32>(), cursor.array::<3>(), cursor.take(3)), (None, None, None));
        assert_eq!((cursor.rest(), cursor.take(2), cursor.rest()), (&b"xy"[..], Some(&b"xy"[..]), &[][..]));
        let one = |mut bytes: &[u8]| (varint(&mut bytes), bytes.len());
        assert_eq!(one(&[0xac, 2, 7]), (Ok(300), 1));
        assert_eq!(one(&[0x80]), (Err(VarintFault::Short), 1));
        let most = [[0xff; 9].as_slice(), &[1]].concat();
        assert_eq!(one(&most), (Ok(u64::MAX), 0));
        let more = [[0xff; 9].as_slice(), &[2]].concat();
        assert_eq!(one(&more), (Err(VarintFault::Long), 10));
        assert_eq!([&[1][..], &[2], &most].map(|mut bytes| zigzag(&mut bytes)), [Ok(-1), Ok(1), Ok(i64::MIN)]);
        assert_eq!(Cursor::new(&[0x40, 0, 0, 0, 0, 0, 0, 0]).be::<f64>(), Some(2.0));
    }
}
