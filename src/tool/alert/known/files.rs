//! Files that an earlier run has read, known by their content (`input/content`). The dead letters of such a file that
//! an earlier run has written are left out: their position is a line, that of rows an offset or a number, because rows
//! may carry stamps.

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use evt_core::error::{Error, Result};
use evt_core::format::unpack::{FileFrom, Unpacked};
use evt_core::kind::PartitionName;
use evt_core::kind::dead::column;
use evt_run::emit::Dead;
use evt_run::input::content;
use evt_run::input::content::digest::FileContent;
use std::collections::BTreeMap;
use std::fs::File;

/// A file and how far it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMark {
    /// The number of its row in the state; `None` before it is stored.
    pub id: Option<i64>,
    /// The name under which it was read last.
    pub name: String,
    /// Its content when it was opened.
    pub content: FileContent,
    /// The offset of the last row that was evaluated; -1 before the first one, and if rows have other stamps than those
    /// of this file.
    pub last_offset: i64,
    /// The number of that row among the rows of the file, from 0 on; -1 before the first one.
    pub last_row: i64,
    /// The line of the last dead letter that was written; -1 before the first one.
    pub last_letter: i64,
    /// The offset of the last row that was evaluated of each partition that the rows name.
    pub last_of_partitions: BTreeMap<PartitionName, i64>,
}

impl FileMark {
    /// Returns the offsets of partitions. A state of an earlier version has the name of the file as their origin.
    fn partitions(&self) -> BTreeMap<PartitionName, i64> {
        let of = |(name, last): (&PartitionName, &i64)| {
            let origin = if name.origin == self.name { String::new() } else { name.origin.clone() };
            (PartitionName { origin, partition: name.partition.clone() }, *last)
        };
        self.last_of_partitions.iter().map(of).collect()
    }
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

/// The name of a file.
#[derive(Clone, Copy)]
pub struct FileName<'a> {
    /// The name.
    pub name: &'a str,
    /// Whether its first line is a header and no row.
    pub has_header: bool,
}

/// Reads an open file and compares it with `known`. Its path may be that of another file by now.
///
/// Errors: exit status 65 if it is shorter than its position, 74 if it cannot be read.
pub fn identify(file: &File, named: FileName<'_>, known: &[FileMark], ratio_max: u64) -> Result<KnownFile> {
    let FileName { name, has_header } = named;
    let contents: Vec<FileContent> = known.iter().map(|mark| mark.content.clone()).collect();
    let found = content::identify(file, &contents, ratio_max).map_err(|error| error.at(name))?;
    let same = found.known.map(|at| &known[at]);
    let is_without_rows = found.content.length == 0 || has_header && is_line(file, name, ratio_max)?;
    let longer = found.longer.iter().map(|at| &known[*at]).rfind(|mark| mark.name == name);
    if let Some(mark) = longer.filter(|_| same.is_none() && !is_without_rows) {
        let (length, position) = (found.content.length, mark.content.length);
        return Err(Error::corrupt(format!(
            "{name}: expected at least {position} bytes, which an earlier run has read, found {length}"
        )));
    }
    let mark = FileMark {
        id: same.and_then(|mark| mark.id),
        name: name.to_owned(),
        content: found.content,
        last_offset: same.map_or(-1, |mark| mark.last_offset),
        last_row: same.map_or(-1, |mark| mark.last_row),
        last_letter: same.map_or(-1, |mark| mark.last_letter),
        last_of_partitions: same.map_or_else(BTreeMap::new, FileMark::partitions),
    };
    let former_name = same.filter(|mark| mark.name != name).map(|mark| mark.name.clone());
    let is_rewritten = same.is_none() && known.iter().any(|mark| mark.name == name);
    Ok(KnownFile { mark, former_name, is_without_rows, is_rewritten })
}

/// Whether a file is one line.
fn is_line(file: &File, name: &str, ratio_max: u64) -> Result<bool> {
    let (mut reader, mut buffer) = (Unpacked::new(FileFrom::new(file, 0), ratio_max), vec![0; 64 << 10]);
    let mut has_line = false;
    loop {
        let read = reader.read(&mut buffer).map_err(|error| error.at(name))?;
        // A byte behind the first line break begins a row.
        let rest =
            if has_line { Some(0) } else { buffer[..read].iter().position(|byte| *byte == b'\n').map(|at| at + 1) };
        match rest {
            _ if read == 0 => return Ok(true),
            Some(rest) if rest < read => return Ok(false),
            rest => has_line |= rest.is_some(),
        }
    }
}

/// Gives each of several files of one run that continue the same mark a mark of its own: the file with the name of the
/// mark, or the first one, keeps it.
pub fn separate<'a>(files: impl Iterator<Item = &'a mut KnownFile>) {
    let mut of_mark: BTreeMap<i64, Vec<&mut KnownFile>> = BTreeMap::new();
    for file in files {
        if let Some(id) = file.mark.id {
            of_mark.entry(id).or_default().push(file);
        }
    }
    for mut files in of_mark.into_values() {
        let keeps = files.iter().position(|file| file.former_name.is_none()).unwrap_or(0);
        files.remove(keeps);
        files.into_iter().for_each(|file| file.mark.id = None);
    }
}

/// Returns pairs of files of one run, as indexes: the first one is the beginning of the second one, or all of it.
/// Errors: exit status 74 if a file cannot be read.
pub fn twins(files: &[(&File, &FileMark)], ratio_max: u64) -> Result<Vec<(usize, usize)>> {
    let mut found = vec![];
    for (at, (_, one)) in files.iter().enumerate() {
        for (other_at, (file, other)) in files.iter().enumerate().filter(|(other, _)| *other != at) {
            let (length, of_other) = (one.content.length, other.content.length);
            let is_shorter = length < of_other || length == of_other && other_at < at;
            if !is_shorter || !one.content.is_like(&other.content) {
                continue;
            }
            let known = [one.content.clone()];
            let other = content::identify(file, &known, ratio_max).map_err(|error| error.at(&other.name))?;
            if other.known.is_some() {
                found.push((at, other_at));
                break;
            }
        }
    }
    Ok(found)
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
    use evt_core::kind::dead::{ErrorType, Fault, Letter};
    use evt_core::kind::letters::Builder;
    use std::io::Write;
    use std::path::Path;

    fn file(dir: &Path, name: &str, bytes: &[u8]) -> File {
        let path = dir.join(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        File::open(path).unwrap()
    }

    /// 4,000 lines of 20 bytes, all different.
    fn lines() -> Vec<u8> {
        (0..4000).flat_map(|line| format!("line {line:014}\n").into_bytes()).collect()
    }

    #[test]
    fn a_file_is_known_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = lines();
        let identify = |name: &str, bytes: &[u8], known: &[FileMark]| {
            let named = FileName { name, has_header: name.ends_with(".csv") };
            identify(&file(dir.path(), name, bytes), named, known, 1000)
        };
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
        changed[49_998] ^= 1;
        assert_eq!(identify("a", &changed, &known).unwrap().mark.last_offset, -1, "changed before the position");
        let error = identify("a", &bytes[..40_000], &known).unwrap_err();
        assert!(error.kind() == evt_core::ErrorKind::Corrupt, "{error}");
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
        let bytes = lines();
        let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        gz.write_all(&bytes).unwrap();
        let mut other = bytes.clone();
        other[79_998] ^= 1;
        let contents = [&bytes[..], &gz.finish().unwrap(), &bytes[..50_000], &other, &bytes[4..50_000]];
        let files: Vec<_> =
            contents.iter().enumerate().map(|(at, bytes)| file(dir.path(), &at.to_string(), bytes)).collect();
        let marks: Vec<_> = files
            .iter()
            .map(|file| super::identify(file, FileName { name: "f", has_header: false }, &[], 1000).unwrap().mark)
            .collect();
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
