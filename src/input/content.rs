//! Files known by their content up to the end of their last line. A file that was renamed, compressed or has grown is the same file;
//! other content under the same name is another file.

use super::bytes;
use crate::error::{Error, Result};
use crate::format::unpack::Unpacked;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// The length of the first prefix whose hash is kept; each next prefix is four times as long.
const PREFIX_MIN: u64 = 64;

/// The content of a file up to a length: that of its last line break, or all of it if there is none. An incomplete last line does
/// not belong to it, because its writer may repair it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// The length (bytes, unpacked).
    pub length: u64,
    /// XXH3-64 of these bytes.
    hash: u64,
    /// XXH3-64 of the first 64, 256, 1024, … bytes, as far as the content goes: they tell a truncated file from another one.
    prefixes: Vec<u64>,
}

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

/// Reads a file once and compares it with `known`. Errors: exit status 65 if it cannot be unpacked, 74 if it cannot be read.
pub fn identify(path: &Path, known: &[FileContent], ratio_max: u64) -> Result<IdentifiedFile> {
    let file = bytes::open(path).map_err(|error| Error::io(path.display().to_string(), &error))?;
    let Scan { content, length, hashes } =
        Scan::of(file, known, ratio_max).map_err(|error| error.at(path.display().to_string()))?;
    let same = known.iter().zip(hashes).enumerate();
    let same = same.filter(|(_, (content, hash))| content.length > 0 && *hash == Some(content.hash));
    let found = same.max_by_key(|(_, (content, _))| content.length).map(|(at, _)| at);
    // The last prefix that both have decides.
    let begins = |known: &FileContent| {
        let mut both = known.prefixes.iter().zip(&content.prefixes);
        known.length > length && both.next_back().is_some_and(|(known, found)| known == found)
    };
    let longer = known.iter().enumerate().filter(|(_, known)| begins(known)).map(|(at, _)| at).collect();
    Ok(IdentifiedFile { content, known: found, longer })
}

/// What a scan found.
struct Scan {
    content: FileContent,
    /// All bytes.
    length: u64,
    /// For each known content the hash at its length; `None` if the file is shorter.
    hashes: Vec<Option<u64>>,
}

impl Scan {
    fn of(file: File, known: &[FileContent], ratio_max: u64) -> Result<Self> {
        let mut reader = Unpacked::new(file, ratio_max);
        let mut order: Vec<usize> = (0..known.len()).collect();
        order.sort_by_key(|at| known[*at].length);
        let mut order = order.into_iter().peekable();
        let mut found = Self { content: FileContent::default(), length: 0, hashes: vec![None; known.len()] };
        let (mut digest, mut prefixes, mut next_prefix) = (Xxh3::new(), vec![], PREFIX_MIN);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            let (start, end) = (found.length, found.length + read as u64);
            let line_end = memchr::memrchr(b'\n', &buffer[..read]).map(|at| start + at as u64 + 1);
            while found.length < end {
                let known_next = order.peek().map(|at| known[*at].length.max(found.length + 1));
                let line_next = line_end.filter(|line_end| *line_end > found.length);
                let stops = [Some(end), Some(next_prefix), known_next, line_next];
                let stop = stops.into_iter().flatten().min().unwrap_or(end);
                digest.update(&buffer[(found.length - start) as usize..(stop - start) as usize]);
                found.length = stop;
                while let Some(at) = order.next_if(|at| known[*at].length <= stop) {
                    found.hashes[at] = Some(digest.digest()).filter(|_| known[at].length == stop);
                }
                if stop == next_prefix {
                    prefixes.push(digest.digest());
                    next_prefix *= 4;
                }
                if Some(stop) == line_end {
                    found.content = FileContent { length: stop, hash: digest.digest(), prefixes: vec![] };
                }
            }
        }
        if found.content.length == 0 {
            found.content = FileContent { length: found.length, hash: digest.digest(), prefixes: vec![] };
        }
        found.content.prefixes = prefixes;
        Ok(found)
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
            identify(&path, known, 1000).unwrap()
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
        assert_eq!(identify(b"", &[FileContent::default()]).known, None, "an empty content is no file");
        assert_eq!(identify(b"other\n", &known).longer, Vec::<usize>::new());
    }
}
