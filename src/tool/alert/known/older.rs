//! Files in the state of an older version, which knew a file by its first 4 KiB, and by the last 4 KiB before its
//! position.

use super::files::FileMark;
use evt_core::error::Result;
use evt_core::format::unpack::{FileFrom, Unpacked};
use evt_run::input::content::digest::{ContentDigest, FileContent};
use std::collections::BTreeMap;
use std::fs::File;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that were compared before a position.
const TAIL: usize = 4 << 10;

/// A file that an older version has read.
pub struct OlderMark {
    /// The name under which it was read.
    pub name: String,
    /// Its first bytes.
    pub head: Vec<u8>,
    /// XXH3 of the last 4 KiB before `length`.
    pub tail_hash: u64,
    /// The position: bytes that were read, unpacked.
    pub length: u64,
    /// The last row that was evaluated: its offset, or its number if its stamps are not those of the file.
    pub last: i64,
    /// The line of the last dead letter that was written.
    pub last_letter: i64,
}

impl OlderMark {
    /// Returns the mark as it is now; its content is empty, and so that of no file, if `file` is another file. Errors:
    /// exit status 65 if the file cannot be unpacked, 74 if it cannot be read.
    pub fn compared(&self, file: &File, ratio_max: u64) -> Result<FileMark> {
        let (mut reader, mut buffer) = (Unpacked::new(FileFrom::new(file, 0), ratio_max), vec![0; 64 << 10]);
        let (mut content, mut head, mut tail) = (ContentDigest::default(), vec![], vec![]);
        while content.length() < self.length {
            let read = reader.read(&mut buffer)? as u64;
            if read == 0 {
                break;
            }
            let bytes = &buffer[..read.min(self.length - content.length()) as usize];
            content.push(bytes);
            head.extend_from_slice(&bytes[..bytes.len().min(self.head.len() - head.len())]);
            tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
            tail.drain(..tail.len().saturating_sub(TAIL));
        }
        let is_same = content.length() == self.length && head == self.head && xxh3_64(&tail) == self.tail_hash;
        Ok(FileMark {
            id: None,
            name: self.name.clone(),
            content: if is_same { content.content() } else { FileContent::default() },
            last_offset: self.last,
            last_row: self.last,
            last_letter: self.last_letter,
            last_of_partitions: BTreeMap::new(),
        })
    }
}
