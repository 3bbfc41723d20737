//! Avro's binary encoding of numbers, bytes and blocks. No length that exceeds the input is accepted.

use crate::parse::bytes::{self, VarintFault};

/// Why bytes do not match their schema.
pub type DecodeError = &'static str;

const END: DecodeError = "unexpected end of the value";

/// Removes the first `count` bytes.
pub fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], DecodeError> {
    bytes::take(input, count).ok_or(END)
}

/// Reads a fixed number of bytes.
pub fn array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    take(input, N)?.try_into().map_err(|_| END)
}

/// Reads a zigzag varint.
pub fn long(input: &mut &[u8]) -> Result<i64, DecodeError> {
    bytes::zigzag(input).map_err(|fault| match fault {
        VarintFault::Short => END,
        VarintFault::Long => "expected a number of at most 64 bits, found a longer one",
    })
}

/// Reads a zigzag varint of 32 bits.
pub fn int(input: &mut &[u8]) -> Result<i32, DecodeError> {
    i32::try_from(long(input)?).map_err(|_| "expected an int of 32 bits, found a longer one")
}

/// Reads the index of one of `items`, of a union's branches or an enum's symbols.
pub fn item<'a, T>(input: &mut &[u8], items: &'a [T]) -> Result<Option<&'a T>, DecodeError> {
    Ok(usize::try_from(long(input)?).ok().and_then(|index| items.get(index)))
}

/// Reads bytes after their length.
pub fn bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let length = usize::try_from(long(input)?).map_err(|_| "expected a length, found a negative number")?;
    take(input, length)
}

/// Reads text after its length.
pub fn text<'a>(input: &mut &'a [u8]) -> Result<&'a str, DecodeError> {
    str::from_utf8(bytes(input)?).map_err(|_| "expected a string in UTF-8, found other bytes")
}

/// Reads the number of items of the next block of an array or map; `None` at its end. A negative count is followed by a
/// size in bytes.
pub fn block(input: &mut &[u8]) -> Result<Option<u64>, DecodeError> {
    let count = long(input)?;
    if count < 0 {
        long(input)?;
    }
    Ok((count != 0).then_some(count.unsigned_abs()))
}

/// Writes a zigzag varint.
pub fn write_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Writes bytes after their length.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}
