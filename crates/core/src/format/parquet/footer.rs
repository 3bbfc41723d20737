//! Checks the footer and the page headers of a Parquet file before the library reads them.
//!
//! They are structs in Thrift's compact form. The library allocates memory for as many elements as a list declares
//! before it reads one, so a corrupt count would end the process instead of being an error. No element takes less than
//! a byte.

use crate::parse::bytes::{self, Cursor};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Length of the footer and the magic.
const TAIL: u64 = 8;
/// Maximum nesting of values.
const DEPTH_MAX: u32 = 32;

/// Whether no list in the footer declares more elements than there are bytes for. A file without a footer is sound: the
/// library reports it.
pub fn is_sound(file: &mut File, size: u64) -> io::Result<bool> {
    let Some(tail) = size.checked_sub(TAIL) else { return Ok(true) };
    let mut end = [0; TAIL as usize];
    file.seek(SeekFrom::Start(tail))?;
    file.read_exact(&mut end)?;
    let mut end = Cursor::new(&end);
    let start = end.le::<u32>().and_then(|length| tail.checked_sub(length.into()));
    let Some(start) = start.filter(|_| end.rest() == b"PAR1") else { return Ok(true) };
    file.seek(SeekFrom::Start(start))?;
    let mut footer = vec![];
    file.take(tail - start).read_to_end(&mut footer)?;
    file.rewind()?;
    Ok(fields(&mut &footer[..], 0).is_some())
}

/// The sizes in the header of a page.
pub struct PageHeader {
    /// Bytes of the header itself.
    pub length: u64,
    /// Bytes of the page in the file.
    pub packed: u64,
    /// Bytes of the decompressed page.
    pub unpacked: u64,
    /// Number of values in the page, nulls and empty lists included.
    pub values: u64,
    /// Whether they are the values of a dictionary.
    pub is_dictionary: bool,
}

/// Parses the header of the page at the start of `bytes`; `None` if they do not contain all of it.
pub fn page_header(bytes: &[u8]) -> Option<PageHeader> {
    let (mut rest, mut field) = (bytes, 0i64);
    let [mut unpacked, mut packed, mut values] = [0; 3];
    let mut is_dictionary = false;
    while let Some(kind) = next_field(&mut rest, &mut field)? {
        match (field, kind) {
            (2, 5) => unpacked = count(&mut rest)?,
            (3, 5) => packed = count(&mut rest)?,
            // The headers of a data page, of a dictionary, and of a data page of version 2.
            (5 | 7 | 8, 12) => {
                values = value_count(&mut rest)?;
                is_dictionary = field == 7;
            }
            (_, 1 | 2) => {}
            (_, kind) => value(&mut rest, kind, 0)?,
        }
    }
    let length = (bytes.len() - rest.len()) as u64;
    Some(PageHeader { length, packed, unpacked, values, is_dictionary })
}

/// Reads the number of values, which is first in the header of each type of page.
fn value_count(bytes: &mut &[u8]) -> Option<u64> {
    let (mut field, mut values) = (0, 0);
    while let Some(kind) = next_field(bytes, &mut field)? {
        match (field, kind) {
            (1, 5) => values = count(bytes)?,
            (_, 1 | 2) => {}
            (_, kind) => value(bytes, kind, 1)?,
        }
    }
    Some(values)
}

/// Reads the type of the next field of a struct, and its number into `field`; `Some(None)` at the end of the struct.
fn next_field(bytes: &mut &[u8], field: &mut i64) -> Option<Option<u8>> {
    let head = byte(bytes)?;
    if head == 0 {
        return Some(None);
    }
    let step = i64::from(head >> 4);
    *field = if step == 0 { bytes::zigzag(bytes).ok()? } else { field.checked_add(step)? };
    Some(Some(head & 0xf))
}

/// Reads a signed number that is not negative.
fn count(bytes: &mut &[u8]) -> Option<u64> {
    u64::try_from(bytes::zigzag(bytes).ok()?).ok()
}

/// Skips the fields of a struct, up to its end.
fn fields(bytes: &mut &[u8], depth: u32) -> Option<()> {
    let mut field = 0;
    while let Some(kind) = next_field(bytes, &mut field)? {
        // A boolean field has its value in its type.
        if !matches!(kind, 1 | 2) {
            value(bytes, kind, depth)?;
        }
    }
    Some(())
}

/// Skips a value of a type.
fn value(bytes: &mut &[u8], kind: u8, depth: u32) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    match kind {
        1..=3 => take(bytes, 1).map(drop),
        4..=6 => number(bytes).map(drop),
        7 => take(bytes, 8).map(drop),
        8 => {
            let length = number(bytes)?;
            take(bytes, length).map(drop)
        }
        9 | 10 => {
            let head = byte(bytes)?;
            let count = if head >> 4 == 15 { number(bytes)? } else { u64::from(head >> 4) };
            (0..room(bytes, count)?).try_for_each(|_| value(bytes, head & 0xf, depth + 1))
        }
        11 => {
            let count = number(bytes)?;
            let kinds = if count == 0 { 0 } else { byte(bytes)? };
            (0..room(bytes, count)?).try_for_each(|_| {
                value(bytes, kinds >> 4, depth + 1)?;
                value(bytes, kinds & 0xf, depth + 1)
            })
        }
        12 => fields(bytes, depth + 1),
        13 => take(bytes, 16).map(drop),
        _ => None,
    }
}

/// Returns `count` if there are bytes for as many elements.
fn room(bytes: &[u8], count: u64) -> Option<u64> {
    (count <= bytes.len() as u64).then_some(count)
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    bytes::take(bytes, 1).map(|byte| byte[0])
}

/// Removes the first `count` bytes.
pub fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Option<&'a [u8]> {
    bytes::take(bytes, usize::try_from(count).ok()?)
}

/// Reads a number in groups of seven bits.
pub fn number(bytes: &mut &[u8]) -> Option<u64> {
    bytes::varint(bytes).ok()
}
