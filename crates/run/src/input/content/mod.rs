//! Files that earlier runs have read, known by their content up to the end of their last line: in checkpoints, behind
//! followed names, and in the state of evt-alert. A file that was renamed, compressed or has grown is the same file;
//! other content under the same name is another file.
//!
//! ```text
//! bytes that are read ─► digests of the first 64, 256, 1024, … bytes ─► FileContent ─► checkpoint
//! a file of a later run ─► its digests at the same lengths ─► the same file, or another one
//! ```
//!
//! `digest.rs`: the digests, which are made while a file is read.

pub mod digest;

use digest::{ContentDigest, FileContent};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::format::unpack::{FileFrom, Unpacked};
use std::fs::File;
use std::io::{Read, Seek};

/// Bytes of a file that are compared first.
const HEAD_BYTES: u64 = 4 << 10;
/// Bytes behind a known content in which the next line break is looked for.
const LINE_BYTES: u64 = 64 << 10;

/// A file compared with known contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentifiedFile {
    /// Its content now.
    pub content: FileContent,
    /// The index of the longest known content with which it begins.
    pub known: Option<usize>,
    /// The indexes of known contents that are longer than the file and begin like it.
    pub longer: Vec<usize>,
}

/// Reads an open file once from its start, compares it with `known`, and leaves the position of the handle as it is.
/// Takes a handle, because the path may lead to another file by now. Errors: exit status 65 if the file cannot be
/// unpacked, 74 if it cannot be read.
pub fn identify(file: &File, known: &[FileContent], ratio_max: u64) -> Result<IdentifiedFile> {
    let Scan { content, length, hashes, torn } = Scan::of(FileFrom::new(file, 0), known, ratio_max, u64::MAX)?;
    if let Some(error) = torn {
        return Err(error);
    }
    let same = known.iter().zip(hashes).enumerate();
    let same = same.filter(|(_, (content, hash))| content.length > 0 && *hash == Some(content.hash));
    let found = same.max_by_key(|(_, (content, _))| content.length).map(|(at, _)| at);
    // Compares the hashes of the longest prefix that both contents have.
    let begins = |known: &FileContent| {
        let mut both = known.prefixes.iter().zip(&content.prefixes);
        known.length > length && both.next_back().is_some_and(|(known, found)| known == found)
    };
    let longer = known.iter().enumerate().filter(|(_, known)| begins(known)).map(|(at, _)| at).collect();
    Ok(IdentifiedFile { content, known: found, longer })
}

/// The result of comparing a file with a known content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// It begins with other bytes, or the content is empty.
    Other,
    /// It begins with the content, and more lines follow.
    Longer,
    /// It has this content.
    Same,
}

/// Compares a file with each of the known contents, and reads no more of the file than the comparison needs. The handle
/// is at the start of the file before and after the call. A compressed file that a writer has not completed counts as
/// far as it can be unpacked.
///
/// Errors: exit status 74 if it cannot be read.
pub fn compare(mut file: &File, known: &[FileContent], ratio_max: u64) -> Result<Vec<Likeness>> {
    let mut scan = |known: &[FileContent], limit: u64| {
        let scanned = Scan::of(file, known, ratio_max, limit);
        file.rewind().map_err(|error| Error::io("cannot read", &error))?;
        scanned
    };
    // Most files differ in their first bytes.
    let head = scan(&[], HEAD_BYTES)?.content;
    let longest = known.iter().filter(|known| known.is_like(&head)).map(|known| known.length).max().unwrap_or(0);
    if longest == 0 {
        return Ok(vec![Likeness::Other; known.len()]);
    }
    let Scan { content, hashes, .. } = scan(known, longest + LINE_BYTES)?;
    let likeness = |(known, hash): (&FileContent, Option<u64>)| match hash {
        Some(hash) if known.length > 0 && hash == known.hash => match content.length == known.length {
            true => Likeness::Same,
            false => Likeness::Longer,
        },
        _ => Likeness::Other,
    };
    Ok(known.iter().zip(hashes).map(likeness).collect())
}

/// Returns the content of the first lines of a file, as far as it can be unpacked, and leaves the position of the
/// handle as it is. Errors: exit status 74 if it cannot be read.
pub fn first_lines(file: &File, ratio_max: u64) -> Result<FileContent> {
    Ok(Scan::of(FileFrom::new(file, 0), &[], ratio_max, HEAD_BYTES)?.content)
}

/// The content of a file as far as a scan has read it.
struct Scan {
    content: FileContent,
    /// The bytes that were read.
    length: u64,
    /// For each known content, the hash of as many bytes of the file; `None` if the scan has read fewer bytes.
    hashes: Vec<Option<u64>>,
    /// Why the file cannot be unpacked behind these bytes.
    torn: Option<Error>,
}

impl Scan {
    /// Reads at least `limit` bytes of a file, or all of it that can be unpacked. Errors: exit status 74 if it cannot
    /// be read.
    fn of(file: impl Read, known: &[FileContent], ratio_max: u64, limit: u64) -> Result<Self> {
        let mut reader = Unpacked::new(file, ratio_max);
        let mut order: Vec<usize> = (0..known.len()).collect();
        order.sort_by_key(|at| known[*at].length);
        let mut order = order.into_iter().peekable();
        let mut hashes = vec![None; known.len()];
        let mut digest = ContentDigest::default();
        let mut buffer = vec![0; limit.min(256 << 10) as usize];
        let mut torn = None;
        while digest.length() < limit {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    torn = Some(error);
                    break;
                }
                read => read?,
            };
            let mut rest = &buffer[..read];
            while let Some(at) = order.next_if(|at| known[*at].length <= digest.length() + rest.len() as u64) {
                let (now, later) = rest.split_at(known[at].length.saturating_sub(digest.length()) as usize);
                digest.push(now);
                rest = later;
                hashes[at] = Some(digest.hash()).filter(|_| known[at].length == digest.length());
            }
            digest.push(rest);
        }
        Ok(Self { content: digest.content(), length: digest.length(), hashes, torn })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Lines of 20 bytes, all different.
    fn lines(count: u32) -> Vec<u8> {
        (0..count).flat_map(|line| format!("line {line:014}\n").into_bytes()).collect()
    }

    #[test]
    fn a_file_is_known_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let identify = |bytes: &[u8], known: &[FileContent]| {
            let path = dir.path().join("file");
            File::create(&path).unwrap().write_all(bytes).unwrap();
            identify(&File::open(&path).unwrap(), known, 1000).unwrap()
        };
        let bytes = lines(40_000);
        let known = [50_000, 700_000, 100].map(|length| identify(&bytes[..length], &[]).content);
        assert_eq!(known[1].length, 700_000);
        for (length, index) in [(50_000, 0), (50_010, 0), (60_000, 0), (700_000, 1), (800_000, 1), (100, 2), (119, 2)] {
            assert_eq!(identify(&bytes[..length], &known).known, Some(index), "{length}");
        }
        for length in [80, 1_000, 40_000] {
            let found = identify(&bytes[..length], &known[..2]);
            assert_eq!((found.known, found.longer), (None, vec![0, 1]), "{length} bytes of a longer file");
        }
        let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        packed.write_all(&bytes[..700_000]).unwrap();
        assert_eq!(identify(&packed.finish().unwrap(), &known).known, Some(1));
        for at in [0, 30_000, 49_998] {
            let mut changed = bytes[..60_000].to_vec();
            changed[at] = b'x';
            assert_eq!(identify(&changed, &known[..2]).known, None, "changed at {at}");
        }
        // The writer of a torn last line repairs it.
        let torn = identify(&bytes[..50_010], &[]).content;
        assert_eq!(torn, known[0]);
        assert_eq!(identify(b"", &[FileContent::default()]).known, None, "an empty content is not a file");
        assert_eq!(identify(b"other\n", &known).longer, Vec::<usize>::new());
    }

    #[test]
    fn a_content_that_is_determined_while_a_file_is_read_is_that_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes = lines(40_000);
        for (length, piece) in [(0, 1), (19, 7), (64, 64), (100, 1), (4_096, 5), (70_010, 300), (800_000, 65_537)] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let mut digest = ContentDigest::default();
            bytes[..length].chunks(piece).for_each(|piece| digest.push(piece));
            let content = identify(&File::open(&path).unwrap(), &[], 1000).unwrap().content;
            assert_eq!(digest.content(), content, "{length} by {piece}");
            // The next run, which reads it again.
            let mut digest = ContentDigest::after(content.clone());
            bytes[..length].chunks(piece).for_each(|part| {
                let found = digest.content();
                assert_eq!((found.length, found.hash), (content.length, content.hash), "{length} by {piece}");
                digest.push(part);
            });
            assert_eq!(digest.content(), content, "{length} by {piece}");
        }
    }

    #[test]
    fn a_file_is_compared_with_contents_of_which_it_may_be_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes = lines(40_000);
        let content = |bytes: &[u8]| {
            let mut digest = ContentDigest::default();
            digest.push(bytes);
            digest.content()
        };
        let known = [&bytes[..0], &bytes[..20], &bytes[..5_000], &bytes[..700_000], &bytes[20..5_000]].map(content);
        let compare = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            compare(&File::open(&path).unwrap(), &known, 1000).unwrap()
        };
        use Likeness::{Longer, Other, Same};
        assert_eq!(compare(b""), [Other; 5]);
        assert_eq!(compare(&bytes[..20]), [Other, Same, Other, Other, Other]);
        assert_eq!(compare(&bytes[..39]), [Other, Same, Other, Other, Other], "the second line is not complete");
        assert_eq!(compare(&bytes[..6_000]), [Other, Longer, Longer, Other, Other]);
        assert_eq!(compare(&bytes[..700_020]), [Other, Longer, Longer, Longer, Other]);
        assert_eq!(compare(&bytes[20..5_000]), [Other, Other, Other, Other, Same]);
        let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        packed.write_all(&bytes[..700_000]).unwrap();
        let mut packed = packed.finish().unwrap();
        assert_eq!(compare(&packed), [Other, Longer, Longer, Same, Other]);
        // Its writer has begun another member.
        packed.extend_from_slice(&[0x1f, 0x8b, 8]);
        assert_eq!(compare(&packed), [Other, Longer, Longer, Same, Other]);
    }
}
