//! The positions of files in a checkpoint: what each file was when it was read, and the last record that was taken from
//! it.

use super::times::{PartitionTime, check_explode};
use crate::error::{Error, Result};
use crate::ingest::Ingest;
use crate::input::content::digest::FileContent;
use crate::input::content::{IdentifiedFile, identify};
use crate::run::Run;
use crate::store::PartitionPosition;
use crate::uri::Uri;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files whose positions are kept. The oldest are forgotten first: one of them would be read again.
const FILES_MAX: usize = 100_000;
/// Files whose positions databases get with each epoch: those that were read last.
const FILES_SHOWN: usize = 1000;
/// The least length (bytes) of a content by which a longer file of another name is known.
const RENAMED_MIN: u64 = 1 << 10;

/// How far a file is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePosition {
    /// The name under which it was read last.
    name: String,
    /// Its content when it was opened.
    content: FileContent,
    /// The offset of the last record that is in a complete batch.
    last: i64,
    /// The path of `--explode`: offsets count the elements of this array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    explode: Option<String>,
    /// The stream times of its partitions.
    partitions: Vec<PartitionTime>,
    /// The stream time (µs) of its partition before its first record, if there was one. Lines without years get theirs
    /// by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began: Option<i64>,
}

/// The positions of files, with the file that is being read.
#[derive(Default)]
pub struct FilePositions {
    files: Vec<FilePosition>,
    /// The path of `--explode` of this run.
    pub explode: Option<String>,
    /// The files of this run that were not begun yet, by their names.
    unread: BTreeMap<String, PathBuf>,
    /// The file that is being read.
    current: Option<CurrentFile>,
}

struct CurrentFile {
    input: u32,
    origin: String,
    path: PathBuf,
    /// Its bytes, packed as they are, when its content was determined.
    size: u64,
    position: FilePosition,
    /// Whether it is the last one of the positions.
    is_kept: bool,
}

impl FilePositions {
    /// Continues at the positions of `files`.
    pub fn new(files: Vec<FilePosition>) -> Self {
        Self { files, ..Self::default() }
    }

    /// Sets the inputs of this run.
    pub fn set_inputs(&mut self, inputs: &[Uri]) {
        let file = |uri: &Uri| if let Uri::File(path) = uri { Some((uri.to_string(), path.clone())) } else { None };
        self.unread = inputs.iter().filter_map(file).collect();
    }

    /// Compares a file with those that were read, before it is opened; sets up `ingest` to continue behind its
    /// position.
    ///
    /// Errors: exit status 65 if it is shorter than it was under the same name, 78 if the files were read with another
    /// `--explode`.
    pub fn begin(&mut self, uri: &Uri, input: u32, origin: &str, ingest: &mut Ingest, run: &Run) -> Result<()> {
        let Uri::File(path) = uri else { return Ok(()) };
        if !is_regular(path) {
            return Ok(());
        }
        let name = uri.to_string();
        self.unread.remove(&name);
        let explode = self.explode.clone();
        if let Some(former) = self.files.last() {
            check_explode(&name, former.explode.as_deref(), explode.as_deref())?;
        }
        let size = size_of(path);
        let IdentifiedFile { content, known, longer } = self.identified(path, run.ratio_max)?;
        let files = &mut self.files;
        // A file of another name that only begins with a few known bytes is another file.
        let known = known.filter(|at| {
            let former = &files[*at];
            former.name == name || former.content.length == content.length || former.content.length >= RENAMED_MIN
        });
        if let Some(longer) = longer.iter().map(|at| &files[*at]).find(|longer| longer.name == name && known.is_none())
        {
            let (expected, found) = (longer.content.length, content.length);
            return Err(Error::corrupt(format!(
                "{name}: expected at least {expected} bytes, which an earlier run has read, found {found}"
            )));
        }
        let mut position = FilePosition { name, content, last: i64::MIN, explode, partitions: vec![], began: None };
        // The file that was read last is the last to be forgotten.
        if let Some(former) = known.map(|at| files.remove(at)) {
            position.last = former.last;
            ingest.read.skip_to(former.last);
            ingest.read.begin(former.began);
            former.partitions.iter().for_each(|partition| partition.resume(ingest, origin));
            if former.name != position.name {
                let has_grown = former.content.length < position.content.length;
                let content = if has_grown { "with whose content it begins" } else { "which has the same content" };
                run.console.say(format!("{}: continues {}, {content}", position.name, former.name));
            }
            position.partitions = former.partitions;
        }
        let (origin, path) = (origin.to_owned(), path.clone());
        self.current = Some(CurrentFile { input, origin, path, size, position, is_kept: false });
        Ok(())
    }

    /// Compares a file with those that were read, without those that another file of this run continues.
    fn identified(&self, path: &Path, ratio_max: u64) -> Result<IdentifiedFile> {
        let mut contents: Vec<FileContent> = self.files.iter().map(|file| file.content.clone()).collect();
        loop {
            let identified = identify(path, &contents, ratio_max)?;
            match identified.known {
                Some(at) if self.is_continued(at, &identified.content, ratio_max) => {
                    contents[at] = FileContent::default();
                }
                _ => return Ok(identified),
            }
        }
    }

    /// Whether this run has still to read a known file under its own name, and `content` is longer. Then that content
    /// is another file, and its first rows are not those of the known one.
    fn is_continued(&self, known: usize, content: &FileContent, ratio_max: u64) -> bool {
        let former = &self.files[known];
        let own = self.unread.get(&former.name).filter(|own| former.content.length < content.length && is_regular(own));
        own.is_some_and(|own| {
            let own = identify(own, std::slice::from_ref(&former.content), ratio_max);
            own.is_ok_and(|own| own.known.is_some())
        })
    }

    /// Whether an earlier run has read a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    /// Ends the file that is being read, and keeps its position.
    pub fn end(&mut self, ingest: &mut Ingest) -> Result<()> {
        self.note(ingest)?;
        self.current = None;
        Ok(())
    }

    /// Keeps the position of the file that is being read. The stage has taken every record before it.
    fn note(&mut self, ingest: &mut Ingest) -> Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let Some(last) = ingest.read.complete() else { return Ok(()) };
        let size = size_of(&current.path);
        if size != current.size {
            // The file has grown since; its content must cover what was read.
            current.position.content = identify(&current.path, &[], ingest.run().ratio_max)?.content;
            current.size = size;
        }
        current.position.partitions = PartitionTime::of(ingest, current.input, &current.origin);
        current.position.last = last;
        current.position.began = ingest.read.began();
        let files = &mut self.files;
        if std::mem::replace(&mut current.is_kept, true) {
            files.pop();
        } else if files.len() >= FILES_MAX {
            files.remove(0);
        }
        files.push(current.position.clone());
        Ok(())
    }

    /// Returns the positions as they are saved.
    pub fn save(&mut self, ingest: &mut Ingest) -> Result<&[FilePosition]> {
        self.note(ingest)?;
        Ok(&self.files)
    }
}

/// Returns the positions of files as databases store them. Of two files with one name the last one counts.
pub fn partition_positions(files: &[FilePosition], pipeline: &str, watermark: Option<i64>) -> Vec<PartitionPosition> {
    let mut found = BTreeMap::new();
    for FilePosition { name, last, partitions, .. } in &files[files.len().saturating_sub(FILES_SHOWN)..] {
        let Some(offset) = last.checked_add(1).filter(|offset| *offset >= 0) else { continue };
        let watermark = match watermark {
            Some(i64::MAX) => partitions.iter().map(|partition| partition.stream_time).max(),
            other => other,
        };
        let (group, topic) = (pipeline.to_owned(), name.clone());
        found.insert(name, PartitionPosition { group, topic, partition: 0, offset, watermark });
    }
    found.into_values().collect()
}

/// Returns the length of a file; 0 if it is gone.
fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

fn is_regular(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file())
}
