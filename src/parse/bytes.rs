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
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
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
        assert_eq!(Cursor::new(&[0x40, 0, 0, 0, 0, 0, 0, 0]).be::<f64>(), Some(2.0));
    }
}
