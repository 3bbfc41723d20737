//! Files known by their content: the first 4 KiB, and the last 4 KiB before a length, both unpacked. So a file that was renamed or
//! compressed is the same file, and another one under its name is not.

use super::bytes;
use crate::error::{Error, Result};
use crate::format::unpack::Unpacked;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that are compared at the start of a file, and before a length.
const PART: usize = 4 << 10;

/// The content of a file up to a length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// The length (bytes, unpacked).
    pub length: u64,
    /// XXH3-64 of the first bytes: 4 KiB, or `length`.
    head: u64,
    /// XXH3-64 of the last bytes before `length`: 4 KiB, or `length`.
    tail: u64,
}

/// A file compared with known contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentifiedFile {
    /// Its content now.
    pub content: FileContent,
    /// The index of the longest known content with which it begins.
    pub known: Option<usize>,
    /// The index of a known content that is longer than the file and begins like it.
    pub longer: Option<usize>,
}

/// Reads a file once and compares it with `known`. Errors: exit status 65 if it cannot be unpacked, 74 if it cannot be read.
pub fn identify(path: &Path, known: &[FileContent], ratio_max: u64) -> Result<IdentifiedFile> {
    let file = bytes::open(path).map_err(|error| Error::io(path.display().to_string(), &error))?;
    let scan = Scan::of(file, known, ratio_max).map_err(|error| error.at(path.display().to_string()))?;
    let begins = |content: &FileContent| {
        let head = usize::try_from(content.length).unwrap_or(PART).min(PART);
        scan.head.len() >= head && xxh3_64(&scan.head[..head]) == content.head
    };
    let same = known.iter().zip(&scan.tails).enumerate();
    let same = same.filter(|(_, (content, tail))| begins(content) && **tail == Some(content.tail));
    let found = same.max_by_key(|(_, (content, _))| content.length).map(|(at, _)| at);
    let head = xxh3_64(&scan.head);
    // A file of less than 4 KiB may be a part of anything.
    let longer = |content: &FileContent| content.length > scan.length && content.head == head;
    let longer = known.iter().position(longer).filter(|_| found.is_none());
    let content = FileContent { length: scan.length, head, tail: xxh3_64(&scan.tail) };
    Ok(IdentifiedFile { content, known: found, longer })
}

/// What a scan found.
struct Scan {
    head: Vec<u8>,
    tail: Vec<u8>,
    length: u64,
    /// For each known content the hash before its length; `None` if the file is shorter.
    tails: Vec<Option<u64>>,
}

impl Scan {
    fn of(file: File, known: &[FileContent], ratio_max: u64) -> Result<Self> {
        let mut reader = Unpacked::new(file, ratio_max);
        let mut order: Vec<usize> = (0..known.len()).collect();
        order.sort_by_key(|at| known[*at].length);
        let mut order = order.into_iter().peekable();
        let mut found = Self { head: vec![], tail: vec![], length: 0, tails: vec![None; known.len()] };
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                return Ok(found);
            }
            let mut rest = &buffer[..read];
            let room = PART - found.head.len();
            found.head.extend_from_slice(&rest[..room.min(rest.len())]);
            while !rest.is_empty() {
                let next = order.peek().map(|at| known[*at].length.saturating_sub(found.length));
                let take = next.and_then(|next| usize::try_from(next).ok()).unwrap_or(usize::MAX).min(rest.len());
                push(&mut found.tail, &rest[..take]);
                found.length += take as u64;
                rest = &rest[take..];
                while let Some(at) = order.next_if(|at| known[*at].length <= found.length) {
                    found.tails[at] = Some(xxh3_64(&found.tail));
                }
            }
        }
    }
}

/// Keeps the last 4 KiB.
fn push(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(&bytes[bytes.len().saturating_sub(PART)..]);
    tail.drain(..tail.len().saturating_sub(PART));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_known_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let identify = |bytes: &[u8], known: &[FileContent]| {
            let path = dir.path().join("file");
            File::create(&path).unwrap().write_all(bytes).unwrap();
            identify(&path, known, 1000).unwrap()
        };
        let bytes: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let (short, long) = (identify(&bytes[..50_000], &[]).content, identify(&bytes[..700_000], &[]).content);
        let tiny = identify(&bytes[..100], &[]).content;
        let known = [short, long, tiny];
        for (length, index, longer) in
            [(50_000, Some(0), None), (60_000, Some(0), None), (700_000, Some(1), None), (800_000, Some(1), None)]
        {
            let found = identify(&bytes[..length], &known);
            assert_eq!((found.known, found.longer), (index, longer), "{length}");
        }
        assert_eq!(identify(&bytes[..100], &known).known, Some(2));
        let shorter = identify(&bytes[..40_000], &known[..2]);
        assert_eq!((shorter.known, shorter.longer), (None, Some(0)));
        let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        packed.write_all(&bytes[..700_000]).unwrap();
        assert_eq!(identify(&packed.finish().unwrap(), &known).known, Some(1));
        let mut changed = bytes[..60_000].to_vec();
        changed[49_999] ^= 1;
        assert_eq!(identify(&changed, &known[..2]).known, None, "changed before the length");
        assert_eq!(identify(b"other bytes", &known).known, None);
        assert_eq!(
            identify(b"", &known),
            IdentifiedFile { content: identify(b"", &[]).content, known: None, longer: None }
        );
    }
}
