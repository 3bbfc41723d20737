//! The content of a file, and how it is determined while the file is read.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// The length of the first prefix whose hash is kept; each next prefix is four times as long.
const PREFIX_MIN: u64 = 64;

/// The content of a file up to and including its last line break; all of its bytes if it has no line break. An
/// incomplete last line does not belong to the content, because its writer may repair the line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// The length (bytes, unpacked).
    pub length: u64,
    /// XXH3-64 of these bytes.
    pub(super) hash: u64,
    /// XXH3-64 of the first 64, 256, 1024, … bytes, as far as the content goes: they distinguish a truncated file from
    /// a different file.
    pub(super) prefixes: Vec<u64>,
}

impl FileContent {
    /// Whether one of two contents may begin with the other: the hashes of the longest prefix that both have agree.
    pub fn is_like(&self, other: &Self) -> bool {
        self.prefixes.iter().zip(&other.prefixes).next_back().is_none_or(|(one, other)| one == other)
    }
}

/// The whole lines of a file.
#[derive(Clone, Copy)]
struct Lines {
    length: u64,
    hash: u64,
}

/// Determines the content of a file while it is read.
#[derive(Clone, Default)]
pub struct ContentDigest {
    digest: Xxh3,
    /// The bytes so far.
    length: u64,
    /// The length and the hash up to the last line break; `None` if there is none yet.
    lines: Option<Lines>,
    prefixes: Vec<u64>,
    /// The content that an earlier run has determined.
    former: FileContent,
}

impl ContentDigest {
    /// Determines the content of a file that begins with `former`. [`ContentDigest::content`] is `former` until at
    /// least as much is read again.
    pub fn after(former: FileContent) -> Self {
        Self { former, ..Self::default() }
    }

    /// Adds the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len() as u64;
        let line_end = memchr::memrchr(b'\n', bytes).map(|at| self.length + at as u64 + 1);
        let mut rest = bytes;
        while !rest.is_empty() {
            let next_prefix = PREFIX_MIN.saturating_mul(1 << (2 * self.prefixes.len()));
            let line_next = line_end.filter(|line_end| *line_end > self.length);
            let stop = line_next.unwrap_or(end).min(next_prefix);
            let (now, later) = rest.split_at((stop - self.length) as usize);
            self.digest.update(now);
            (self.length, rest) = (stop, later);
            if stop == next_prefix {
                self.prefixes.push(self.digest.digest());
            }
            if Some(stop) == line_end {
                self.lines = Some(Lines { length: stop, hash: self.digest.digest() });
            }
        }
    }

    /// Returns the number of bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the hash of all bytes so far.
    pub(super) fn hash(&self) -> u64 {
        self.digest.digest()
    }

    /// Returns the content so far.
    pub fn content(&self) -> FileContent {
        let all = || Lines { length: self.length, hash: self.digest.digest() };
        let Lines { length, hash } = self.lines.unwrap_or_else(all);
        if length < self.former.length {
            return self.former.clone();
        }
        FileContent { length, hash, prefixes: self.prefixes.clone() }
    }
}
