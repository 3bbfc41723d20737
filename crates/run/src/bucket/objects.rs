//! Objects that an address names as inputs: one, those below a prefix, or those whose keys match a pattern. Their bytes
//! are read range by range.

use super::address::BucketAddress;
use super::client::{Bucket, ObjectEntry};
use crate::client::Caller;
use crate::run::byte_stream::ByteStream;
use crate::stop::{Stop, Woken};
use evt_core::error::{Error, Result};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a range.
const BLOCK: u64 = 4 << 20;
/// Maximum bytes of a text.
const TEXT_MAX: u64 = 16 << 20;

/// What an address names.
#[derive(Clone)]
pub struct NamedObjects {
    /// The bucket.
    address: BucketAddress,
    /// A key, a prefix with a slash at its end, or a pattern.
    pattern: String,
    /// The object, once it has been found.
    pub found: Option<FoundObject>,
}

/// An object that a run reads.
#[derive(Clone, Debug)]
pub struct FoundObject {
    bucket: Arc<Bucket>,
    /// Its key, size and version.
    pub entry: ObjectEntry,
}

impl NamedObjects {
    /// Parses an address. Errors: as [`BucketAddress::parse`].
    pub fn parse(text: &str, caller: &Caller) -> Result<Self> {
        let mut address = BucketAddress::parse(text, caller)?;
        let prefix = std::mem::take(&mut address.prefix);
        let has_slash = text.split('?').next().is_some_and(|path| path.ends_with('/'));
        let pattern = if has_slash { prefix } else { prefix.trim_end_matches('/').to_owned() };
        if pattern.is_empty() {
            let message = "expected an object, a prefix that ends in /, or a pattern with *";
            return Err(Error::usage(message).at(address.to_string()));
        }
        address.bucket.clone_into(&mut address.location.path);
        Ok(Self { address, pattern, found: None })
    }

    /// Whether it may be several objects.
    pub fn is_pattern(&self) -> bool {
        self.found.is_none() && (self.pattern.ends_with('/') || self.pattern.contains('*'))
    }

    /// Returns the bucket and the key of one object; `None` if it may be several.
    pub fn into_one(self) -> Option<(BucketAddress, String)> {
        (!self.is_pattern()).then_some((self.address, self.pattern))
    }

    /// Returns the key, the prefix or the pattern.
    pub fn key(&self) -> &str {
        &self.pattern
    }

    /// Returns the bucket, and the key, the prefix or the pattern.
    pub fn into_pattern(self) -> (BucketAddress, String) {
        (self.address, self.pattern)
    }

    /// Finds the objects, in the order of their keys. Errors: those of requests.
    pub fn find(&self) -> Result<Vec<Self>> {
        let bucket = Arc::new(Bucket::try_new(self.address.clone())?);
        let entries = match self.is_pattern() {
            false => bucket.head(&self.pattern)?.into_iter().collect(),
            true => {
                let start = self.pattern.split('*').next().unwrap_or_default();
                let mut entries = bucket.entries(start)?;
                entries.retain(|entry| matches(&self.pattern, &entry.key));
                entries
            }
        };
        let found = |entry: ObjectEntry| Self {
            pattern: entry.key.clone(),
            found: Some(FoundObject { bucket: bucket.clone(), entry }),
            address: self.address.clone(),
        };
        Ok(entries.into_iter().map(found).collect())
    }
}

/// Formats it without options.
impl fmt::Display for NamedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.pattern)
    }
}

/// Whether a key begins with a prefix (a slash is at its end), or matches a pattern: `*` is any text within a part,
/// `**` also beyond it.
fn matches(pattern: &str, key: &str) -> bool {
    let Some(at) = pattern.find('*') else {
        return if pattern.ends_with('/') { key.starts_with(pattern) } else { key == pattern };
    };
    let (start, rest) = pattern.split_at(at);
    let Some(left) = key.strip_prefix(start) else { return false };
    let (rest, is_deep) = rest.strip_prefix("**").map_or((&rest[1..], false), |rest| (rest, true));
    let mut ends = left.char_indices().map(|(at, _)| at).chain([left.len()]);
    ends.by_ref().take_while(|end| is_deep || !left[..*end].contains('/')).any(|end| matches(rest, &left[end..]))
}

/// Reads an object as text.
///
/// Errors: exit status 2 if several objects are named; 78 if there is none, or if it is no text of at most 16 MiB;
/// those of requests.
pub fn text(uri: &str, caller: &Caller) -> Result<String> {
    let named = NamedObjects::parse(uri, caller)?;
    let shown = named.to_string();
    if named.is_pattern() {
        return Err(Error::usage(format!("{shown}: expected the key of one object, found those of several")));
    }
    let Some(FoundObject { bucket, entry }) = named.find()?.pop().and_then(|named| named.found) else {
        return Err(Error::config(format!("{shown}: there is no such object")));
    };
    let bytes = match entry.size {
        0 => vec![],
        size if size <= TEXT_MAX => bucket.read(&entry, 0..size)?,
        size => return Err(Error::config(format!("{shown}: expected at most 16 MiB, found {size} bytes"))),
    };
    String::from_utf8(bytes).map_err(|_| Error::config(format!("{shown}: expected UTF-8")))
}

impl FoundObject {
    /// Returns its bytes as a stream.
    pub fn stream(self) -> ObjectStream {
        ObjectStream { object: self, at: 0, block: vec![], start: 0, fault: None }
    }
}

/// The bytes of an object. Memory has one range of them.
pub struct ObjectStream {
    object: FoundObject,
    /// The bytes that were requested.
    at: u64,
    block: Vec<u8>,
    /// The first byte of `block` that was not read.
    start: usize,
    fault: Option<Error>,
}

impl ByteStream for ObjectStream {
    fn wait(&self, _stop: &Stop, _stops_at_signals: bool, _timeout: Option<Duration>) -> Result<Woken> {
        Ok(Woken::Ready)
    }

    fn file(&self) -> Option<&File> {
        None
    }

    fn size(&self) -> Option<u64> {
        Some(self.object.entry.size)
    }

    fn take_fault(&mut self) -> Option<Error> {
        self.fault.take()
    }
}

impl Read for ObjectStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let FoundObject { bucket, entry } = &self.object;
        if self.start == self.block.len() && self.at < entry.size {
            let end = entry.size.min(self.at + BLOCK);
            let read = bucket.read(entry, self.at..end);
            self.block = read.map_err(|error| {
                let seen = io::Error::other(error.to_string());
                self.fault = Some(error);
                seen
            })?;
            (self.at, self.start) = (end, 0);
        }
        let count = (self.block.len() - self.start).min(buffer.len());
        buffer[..count].copy_from_slice(&self.block[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::fake::FakeS3;

    #[test]
    fn a_pattern_is_a_key_a_prefix_or_has_stars() {
        for (pattern, key, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("a/", "a/b/c", true),
            ("a/", "ab", false),
            ("a/*.jsonl", "a/x.jsonl", true),
            ("a/*.jsonl", "a/b/x.jsonl", false),
            ("a/**.jsonl", "a/b/x.jsonl", true),
            ("day=*/x-*", "day=1/x-", true),
            ("day=*/x-*", "day=1/y-1", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("**", "a/b", true),
            ("a*/", "a1/b", true),
        ] {
            assert_eq!(matches(pattern, key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn objects_are_found_in_the_order_of_their_keys_and_read_whole() {
        let server = FakeS3::new(|_, _| None);
        let large: Vec<u8> = (0..2 * BLOCK + 5).map(|at| (at % 251) as u8).collect();
        for (key, bytes) in [("a/2", &large[..]), ("a/10", b"ten"), ("a/b/1", b""), ("c", b"c")] {
            server.state().objects.insert(key.to_owned(), bytes.to_vec());
        }
        let named = |key: &str| {
            let text = server.uri("").replace("bucket/a?", &format!("bucket/{key}?"));
            NamedObjects::parse(&text, &Caller::default()).unwrap()
        };
        let found = named("a/").find().unwrap();
        let names: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["s3://bucket/a/10", "s3://bucket/a/2", "s3://bucket/a/b/1"]);
        assert_eq!(named("a/*").find().unwrap().len(), 2);
        assert!(named("a/3").find().unwrap().is_empty() && named("d/").find().unwrap().is_empty());
        let read = |at: usize| {
            let mut bytes = vec![];
            let mut stream = found[at].found.clone().unwrap().stream();
            stream.read_to_end(&mut bytes).map(|_| bytes).map_err(|_| stream.take_fault().unwrap())
        };
        assert!(read(0).unwrap() == b"ten" && read(1).unwrap() == large && read(2).unwrap().is_empty());
        // It is shorter now.
        server.state().objects.insert("a/2".to_owned(), large[..9].to_vec());
        let error = read(1).unwrap_err();
        assert_eq!(error.kind(), evt_core::ErrorKind::Corrupt, "{error}");
    }
}
