//! Files that an earlier run has read, known by their content: the first 4 KiB, and the last 4 KiB before the position,
//! both unpacked. The dead letters of such a file that an earlier run has written are left out: their position is a
//! line, that of rows an offset or a number, because rows may carry stamps.

use crate::emit::Dead;
use crate::error::{Error, Result};
use crate::format::unpack::Unpacked;
use crate::input::content::FromStart;
use crate::kind::dead::column;
use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use std::fs::File;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that are compared at the start of a file, and before a position.
const PART: usize = 4 << 10;

/// A file and how far it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMark {
    /// The number of its row in the state; `None` before it is stored.
    pub id: Option<i64>,
    /// The name under which it was read last.
    pub name: String,
    /// Its first bytes, unpacked; at most 4 KiB.
    pub head: Vec<u8>,
    /// XXH3 of the last 4 KiB before `length`.
    pub tail_hash: u64,
    /// The position: bytes that were read, unpacked.
    pub length: u64,
    /// The last row that was evaluated, by its offset, or by its number if its stamps are not those of this file; -1
    /// before the first one.
    pub last_offset: i64,
    /// The line of the last dead letter that was written; -1 before the first one.
    pub last_letter: i64,
}

/// A file of this run, compared with the files that earlier runs have read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// The mark of this run.
    pub mark: FileMark,
    /// The name under which the same content was read before, if it was another one.
    pub former_name: Option<String>,
    /// Whether it has no rows: it is empty, or has nothing but the header of a CSV file. It has no position.
    pub is_without_rows: bool,
    /// Whether another content was read under its name.
    pub is_rewritten: bool,
}

/// Reads an open file once and compares it with `known`. Its path may be that of another file by now.
///
/// Errors: exit status 65 if it is shorter than its position, 74 if it cannot be read.
pub fn identify(file: &File, name: &str, known: &[FileMark], ratio_max: u64) -> Result<KnownFile> {
    let found = scan(file, known, ratio_max).map_err(|error| error.at(name))?;
    let same = known
        .iter()
        .zip(&found.tails)
        .filter(|(mark, tail)| found.head.starts_with(&mark.head) && **tail == Some(mark.tail_hash));
    // Of several files that begin alike, the one that was read furthest.
    let same = same.max_by_key(|(mark, _)| (mark.length, mark.name == name)).map(|(mark, _)| mark);
    let is_without_rows = found.length == 0 || is_header(name, &found);
    if same.is_none() && !is_without_rows {
        let is_shorter = |mark: &&FileMark| {
            mark.name == name && found.length < mark.length && mark.head.starts_with(&found.head[..])
        };
        if let Some(mark) = known.iter().rev().find(is_shorter) {
            let (length, position) = (found.length, mark.length);
            return Err(Error::corrupt(format!(
                "{name}: expected at least {position} bytes, which an earlier run has read, found {length}"
            )));
        }
    }
    let mark = FileMark {
        id: same.and_then(|mark| mark.id),
        name: name.to_owned(),
        head: found.head,
        tail_hash: found.tail_hash,
        length: found.length,
        last_offset: same.map_or(-1, |mark| mark.last_offset),
        last_letter: same.map_or(-1, |mark| mark.last_letter),
    };
    let former_name = same.filter(|mark| mark.name != name).map(|mark| mark.name.clone());
    let is_rewritten = same.is_none() && known.iter().any(|mark| mark.name == name);
    Ok(KnownFile { mark, former_name, is_without_rows, is_rewritten })
}

/// Whether a file is one line of CSV.
fn is_header(name: &str, found: &Scan) -> bool {
    let plain = [".gz", ".zst"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    let is_csv = [".csv", ".tsv"].iter().any(|suffix| plain.ends_with(suffix));
    let line = found.head.iter().position(|byte| *byte == b'\n').map_or(found.length, |end| end as u64 + 1);
    is_csv && line == found.length
}

/// Returns pairs of files of one run, as indexes: the first one is the beginning of the second one, or all of it.
/// Errors: exit status 74 if a file cannot be read.
pub fn twins(files: &[(&File, &FileMark)], ratio_max: u64) -> Result<Vec<(usize, usize)>> {
    let mut found = vec![];
    for (at, (_, one)) in files.iter().enumerate() {
        for (other_at, (file, other)) in files.iter().enumerate().filter(|(other, _)| *other != at) {
            let may_begin = other.head.starts_with(&one.head)
                && (one.length < other.length || one.length == other.length && other_at < at);
            if !may_begin {
                continue;
            }
            let scan = scan(file, &[(*one).clone()], ratio_max).map_err(|error| error.at(&other.name))?;
            if scan.tails[0] == Some(one.tail_hash) {
                found.push((at, other_at));
                break;
            }
        }
    }
    Ok(found)
}

/// The result of a scan of a file: its first bytes (at most 4 KiB), its length (bytes) and the hash of its last 4 KiB,
/// all unpacked.
struct Scan {
    head: Vec<u8>,
    length: u64,
    tail_hash: u64,
    /// For each known mark the hash before its position; `None` if the file is shorter.
    tails: Vec<Option<u64>>,
}

fn scan(file: &File, known: &[FileMark], ratio_max: u64) -> Result<Scan> {
    let mut reader = Unpacked::new(FromStart::new(file), ratio_max);
    let mut order: Vec<usize> = (0..known.len()).collect();
    order.sort_by_key(|at| known[*at].length);
    let mut order = order.into_iter().peekable();
    let mut found = Scan { head: vec![], length: 0, tail_hash: 0, tails: vec![None; known.len()] };
    let (mut tail, mut buffer): (Vec<u8>, Vec<u8>) = (vec![], vec![0; 64 << 10]);
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        let mut rest = &buffer[..read];
        let room = PART - found.head.len().min(PART);
        found.head.extend_from_slice(&rest[..room.min(rest.len())]);
        while !rest.is_empty() {
            let next = order.peek().map(|at| known[*at].length.saturating_sub(found.length));
            let take = next.and_then(|next| usize::try_from(next).ok()).unwrap_or(usize::MAX).min(rest.len());
            push(&mut tail, &rest[..take]);
            found.length += take as u64;
            rest = &rest[take..];
            while let Some(at) = order.next_if(|at| known[*at].length <= found.length) {
                found.tails[at] = Some(xxh3_64(&tail));
            }
        }
    }
    found.tail_hash = xxh3_64(&tail);
    Ok(found)
}

/// Keeps the last 4 KiB.
fn push(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(&bytes[bytes.len().saturating_sub(PART)..]);
    tail.drain(..tail.len().saturating_sub(PART));
}

/// The letters of an input.
#[derive(Debug, Default)]
pub struct FileLetters {
    /// The last line with a letter of an earlier run (-1: none); `None` for an input whose position is not kept.
    known_to: Option<i64>,
    /// The last line with a letter that was passed on.
    written: Option<i64>,
    /// Number of letters that an earlier run has written.
    pub known: u64,
}

impl FileLetters {
    /// Begins behind the letters of an earlier run.
    pub fn new(known_to: i64) -> Self {
        Self { known_to: Some(known_to), ..Self::default() }
    }

    /// Returns the letters to write: those of new records.
    pub fn take(&mut self, dead: Dead) -> Result<Dead> {
        let Some(known_to) = self.known_to else { return Ok(dead) };
        let lines = dead.letters.column(column::OFFSET).as_primitive::<Int64Type>();
        let keep: Vec<bool> = lines.iter().map(|line| line.is_none_or(|line| line > known_to)).collect();
        self.written = self.written.max(lines.iter().flatten().filter(|line| *line > known_to).max());
        self.known += keep.iter().filter(|keep| !**keep).count() as u64;
        let after = dead.after.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(after, _)| *after).collect();
        Ok(Dead { letters: filter_record_batch(&dead.letters, &BooleanArray::from(keep))?, after })
    }

    /// Returns the last line with a letter that was passed on in this run.
    pub fn written(&self) -> Option<i64> {
        self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::dead::{ErrorType, Fault, Letter};
    use crate::kind::letters::Builder;
    use std::io::Write;
    use std::path::Path;

    fn file(dir: &Path, name: &str, bytes: &[u8]) -> File {
        let path = dir.join(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        File::open(path).unwrap()
    }

    #[test]
    fn a_file_is_known_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        let identify =
            |name: &str, bytes: &[u8], known: &[FileMark]| identify(&file(dir.path(), name, bytes), name, known, 1000);
        let first = identify("a", &bytes[..50_000], &[]).unwrap().mark;
        let first = FileMark { last_offset: 17, ..first };
        let known = [first.clone()];
        let grown = identify("a", &bytes, &known).unwrap();
        assert_eq!((grown.mark.last_offset, grown.former_name), (17, None));
        let renamed = identify("b", &bytes[..50_000], &known).unwrap();
        assert_eq!((renamed.mark.last_offset, renamed.former_name.as_deref()), (17, Some("a")));
        let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        gz.write_all(&bytes).unwrap();
        assert_eq!(identify("a.gz", &gz.finish().unwrap(), &known).unwrap().mark.last_offset, 17);
        let other = identify("a", &bytes[4..60_000], &known).unwrap();
        assert_eq!(other.mark.last_offset, -1, "other content under the same name");
        let mut changed = bytes.clone();
        changed[49_999] ^= 1;
        assert_eq!(identify("a", &changed, &known).unwrap().mark.last_offset, -1, "changed before the position");
        let error = identify("a", &bytes[..40_000], &known).unwrap_err();
        assert!(error.kind() == crate::ErrorKind::Corrupt, "{error}");
        assert_eq!(identify("a", b"another start", &known).unwrap().mark.last_offset, -1);
        let emptied = identify("a", b"", &known).unwrap();
        assert!(emptied.is_without_rows && emptied.mark.last_offset == -1);
        let [header, table] = [&b"source,event_type\n"[..], b"source,event_type\nweb,view\n"];
        let known = [FileMark { last_offset: 2, ..identify("a.csv", table, &[]).unwrap().mark }];
        assert!(!identify("a.csv", table, &[]).unwrap().is_without_rows);
        assert!(identify("a.csv", header, &known).unwrap().is_without_rows);
    }

    #[test]
    fn a_file_that_is_the_beginning_of_another_one_is_its_twin() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        gz.write_all(&bytes).unwrap();
        let mut other = bytes.clone();
        other[79_999] ^= 1;
        let contents = [&bytes[..], &gz.finish().unwrap(), &bytes[..50_000], &other, &bytes[4..50_000]];
        let files: Vec<_> =
            contents.iter().enumerate().map(|(at, bytes)| file(dir.path(), &at.to_string(), bytes)).collect();
        let marks: Vec<_> = files.iter().map(|file| super::identify(file, "f", &[], 1000).unwrap().mark).collect();
        let pairs: Vec<_> = files.iter().zip(&marks).collect();
        assert_eq!(twins(&pairs, 1000).unwrap(), [(1, 0), (2, 0)]);
    }

    /// Takes letters of these lines; returns the lines of those that are passed on.
    fn take(to: &mut FileLetters, of: &[i64]) -> Vec<i64> {
        let mut builder = Builder::new("evt-test", "host");
        let fault = Fault::new(ErrorType::ParseError, "no JSON");
        for line in of {
            let (payload, fault) = (b"x".as_slice(), &fault);
            let (origin, partition, offset) = ("f", "0", *line);
            let letter =
                Letter { payload, key: None, headers: None, arrived_at: None, fault, origin, partition, offset };
            builder.push(&letter, 7).unwrap();
        }
        let dead = Dead { letters: builder.finish().unwrap(), after: vec![0; of.len()] };
        let passed = to.take(dead).unwrap();
        assert_eq!(passed.after.len(), passed.letters.num_rows());
        passed.letters.column(column::OFFSET).as_primitive::<Int64Type>().iter().flatten().collect()
    }

    #[test]
    fn letters_of_an_earlier_run_are_left_out() {
        let mut letters = FileLetters::new(2);
        assert_eq!(take(&mut letters, &[1, 2]), [0i64; 0], "both are known");
        assert_eq!(letters.written(), None);
        assert_eq!(take(&mut letters, &[2, 3, 4, 6]), [3, 4, 6]);
        assert_eq!((letters.known, letters.written()), (3, Some(6)));
    }

    #[test]
    fn letters_of_an_input_without_a_position_are_passed_on() {
        let mut letters = FileLetters::default();
        assert_eq!(take(&mut letters, &[1, 2]), [1, 2]);
        assert_eq!(letters.written(), None);
    }
}
