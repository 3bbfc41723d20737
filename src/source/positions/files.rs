//! The positions of files in a checkpoint: what each file was when it was read, and the last record that was taken from
//! it.

use super::times::{PartitionTime, check_explode};
use crate::uri::Uri;
use evt_core::error::{Error, Result};
use evt_run::checkpoint::epoch::PartitionPosition;
use evt_run::emit::RecordEmitter;
use evt_run::input::bytes;
use evt_run::input::content::digest::FileContent;
use evt_run::input::content::{IdentifiedFile, identify};
use evt_run::input::position::FileId;
use evt_run::run::Run;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

/// Maximum number of files whose positions are kept. The oldest positions are removed first; a later run reads such a
/// file again.
const FILES_MAX: usize = 100_000;
/// Maximum number of files whose positions databases get with each epoch: the files that were read last.
const FILES_SHOWN: usize = 1000;
/// The least length (bytes) of a known content that identifies a longer file of another name.
const RENAMED_MIN: u64 = 1 << 10;

/// How far a file is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePosition {
    /// The name under which it was read last.
    name: String,
    /// Its content when it was opened, or when it had grown and its position was kept.
    content: FileContent,
    /// The offset of the last record that is in a complete batch.
    last: i64,
    /// The path of `--explode`: offsets count the elements of this array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    explode: Option<String>,
    /// The stream times of its partitions.
    partitions: Vec<PartitionTime>,
    /// The stream time (µs) of its partition before its first record, if there was one. It gives lines without a year
    /// their year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began: Option<i64>,
}

/// The positions of files, with the file that is being read.
#[derive(Default)]
pub struct FilePositions {
    files: Vec<FilePosition>,
    /// The path of `--explode` of this run.
    pub explode: Option<String>,
    /// The files of this run, by their names.
    inputs: BTreeMap<String, InputFile>,
    /// The file that is being read.
    current: Option<CurrentFile>,
}

/// A file of this run.
struct InputFile {
    path: PathBuf,
    /// The file that was opened at `path`, once reading has begun: another file may have the path afterwards.
    begun: Option<BegunFile>,
}

struct BegunFile {
    id: FileId,
    /// Its content when it was read last.
    content: FileContent,
}

struct CurrentFile {
    input: u32,
    origin: String,
    /// The file itself. Its path is not looked at again: a rotation gives it to another file.
    file: File,
    /// Its size (bytes, not unpacked) when its content was determined.
    size: u64,
    position: FilePosition,
    /// Whether `position` is the last entry of [`FilePositions::files`].
    is_kept: bool,
    /// Whether the file no longer begins with the content that was read.
    is_overwritten: bool,
}

impl FilePositions {
    /// Continues at the positions of `files`.
    pub fn new(files: Vec<FilePosition>) -> Self {
        Self { files, ..Self::default() }
    }

    /// Sets the inputs of this run.
    pub fn set_inputs(&mut self, inputs: &[Uri]) {
        let file = |uri: &Uri| {
            let Uri::File(path) = uri else { return None };
            Some((uri.to_string(), InputFile { path: path.path.clone(), begun: None }))
        };
        self.inputs = inputs.iter().filter_map(file).collect();
    }

    /// Opens a file and compares it with those that were read; sets up `emitter` to continue behind its position.
    /// Returns the open file.
    ///
    /// Errors: exit status 65 if it is shorter than it was under the same name, 74 if it cannot be read, 78 if the
    /// files were read with another `--explode`.
    pub fn begin(
        &mut self,
        uri: &Uri,
        input: u32,
        origin: &str,
        emitter: &mut RecordEmitter,
        run: &Run,
    ) -> Result<Option<File>> {
        let Uri::File(path) = uri else { return Ok(None) };
        let name = uri.to_string();
        let failed = |error| Error::io(name.clone(), &error);
        let file = bytes::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Ok(Some(file));
        }
        let explode = self.explode.clone();
        if let Some(former) = self.files.last() {
            check_explode(&name, former.explode.as_deref(), explode.as_deref())?;
        }
        let id = FileId::of(&metadata);
        let IdentifiedFile { content, known, longer } =
            self.identified(&file, &name, id, run.ratio_max).map_err(|error| error.at(name.clone()))?;
        let files = &self.files;
        // A file that has shrunk does not continue another file, unless it has exactly the content of that file.
        let is_known = known.is_some_and(|at| files[at].name == name || files[at].content.length == content.length);
        if let Some(longer) = longer.iter().map(|at| &files[*at]).find(|longer| longer.name == name && !is_known) {
            let (expected, found) = (longer.content.length, content.length);
            return Err(Error::corrupt(format!(
                "{name}: expected at least {expected} bytes, which an earlier run has read, found {found}"
            )));
        }
        let begun = BegunFile { id, content: content.clone() };
        self.inputs.insert(name.clone(), InputFile { path: path.path.clone(), begun: Some(begun) });
        let mut position = FilePosition { name, content, last: i64::MIN, explode, partitions: vec![], began: None };
        if let Some(former) = known.map(|at| self.position_for(at, &position.name, run.ratio_max)) {
            position.last = former.last;
            emitter.stamp_mut().continue_after(former.last, former.began);
            former.partitions.iter().for_each(|partition| partition.resume(emitter, origin));
            if former.name != position.name {
                let has_grown = former.content.length < position.content.length;
                let content = if has_grown { "with whose content it begins" } else { "which has the same content" };
                run.console.notice(format!("{}: continues {}, {content}", position.name, former.name));
            }
            position.partitions = former.partitions;
        }
        let (origin, size) = (origin.to_owned(), metadata.len());
        let read = file.try_clone().map_err(|error| Error::io(position.name.clone(), &error))?;
        let current = CurrentFile { input, origin, file, size, position, is_kept: false, is_overwritten: false };
        self.current = Some(current);
        Ok(Some(read))
    }

    /// Compares a file with the files that were read. The known file is the one with the longest content with which
    /// this file begins; of several files with that content, the one of the same name.
    fn identified(&self, file: &File, name: &str, id: FileId, ratio_max: u64) -> Result<IdentifiedFile> {
        let mut contents: Vec<FileContent> = self.files.iter().map(|file| file.content.clone()).collect();
        loop {
            let mut identified = identify(file, &contents, ratio_max)?;
            let Some(at) = identified.known else { return Ok(identified) };
            let former = &self.files[at];
            let has_grown = former.content.length < identified.content.length;
            // The content belongs to another file of the run, although this file begins with it too.
            if has_grown && self.is_of_other(at, name, Some(id), ratio_max) {
                contents[at] = FileContent::default();
                continue;
            }
            let own = |one: &FilePosition| one.name == name && one.content == former.content;
            identified.known = self.files.iter().rposition(own).or(Some(at)).filter(|at| {
                // A file of another name that only begins with a few known bytes is another file.
                self.files[*at].name == name || !has_grown || former.content.length >= RENAMED_MIN
            });
            return Ok(identified);
        }
    }

    /// Whether the position number `at` is that of a file which this run reads under another name, and which is not the
    /// file `id`.
    fn is_of_other(&self, at: usize, name: &str, id: Option<FileId>, ratio_max: u64) -> bool {
        let former = &self.files[at];
        let Some(other) = self.inputs.get(&former.name).filter(|_| former.name != name) else { return false };
        if let Some(begun) = &other.begun {
            return Some(begun.id) != id && begun.content == former.content;
        }
        if !other.path.is_file() {
            return false;
        }
        let Ok(file) = bytes::open(&other.path) else { return false };
        let is_other = file.metadata().is_ok_and(|found| Some(FileId::of(&found)) != id);
        let identified = || identify(&file, std::slice::from_ref(&former.content), ratio_max);
        is_other && identified().is_ok_and(|identified| identified.known.is_some())
    }

    /// Takes position number `at` out of the list for a file of this name, which gets a new entry at the end. If the
    /// position is that of another file of the run, of which this file is a copy, it stays in the list.
    fn position_for(&mut self, at: usize, name: &str, ratio_max: u64) -> FilePosition {
        let id = self.inputs.get(name).and_then(|file| file.begun.as_ref()).map(|begun| begun.id);
        match self.is_of_other(at, name, id, ratio_max) {
            true => self.files[at].clone(),
            false => self.files.remove(at),
        }
    }

    /// Whether an earlier run has read a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    /// Ends the file that is being read, and keeps its position. Returns the verdict about it: 1 if lines of it may be
    /// lost.
    pub fn end(&mut self, emitter: &mut RecordEmitter) -> Result<u8> {
        self.note(emitter)?;
        Ok(self.current.take().map_or(0, |current| u8::from(current.is_overwritten)))
    }

    /// Keeps the position of the file that is being read. The stage has taken every record before it.
    fn note(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let Some(last) = emitter.stamp().complete() else { return Ok(()) };
        current.update_content(emitter.run())?;
        if let Some(begun) = self.inputs.get_mut(&current.position.name).and_then(|file| file.begun.as_mut()) {
            begun.content.clone_from(&current.position.content);
        }
        current.position.partitions = PartitionTime::of(emitter, current.input, &current.origin);
        current.position.last = last;
        current.position.began = emitter.stamp().began();
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
    pub fn save(&mut self, emitter: &mut RecordEmitter) -> Result<&[FilePosition]> {
        self.note(emitter)?;
        Ok(&self.files)
    }
}

impl CurrentFile {
    /// Determines the content anew if the file has grown, because the content must cover what was read. The content of
    /// a truncated file stays: a copy that was made before the truncation has this content, and what is written to the
    /// file afterwards is another content.
    ///
    /// Errors: exit status 74 if the file cannot be read.
    fn update_content(&mut self, run: &Run) -> Result<()> {
        let name = &self.position.name;
        let size = self.file.metadata().map_err(|error| Error::io(name.clone(), &error))?.len();
        if size <= self.size || self.is_overwritten {
            return Ok(());
        }
        let former = std::slice::from_ref(&self.position.content);
        let identified = identify(&self.file, former, run.ratio_max).map_err(|error| error.at(name.clone()))?;
        if identified.known.is_some() || former[0].length == 0 {
            (self.position.content, self.size) = (identified.content, size);
        } else {
            self.is_overwritten = true;
            run.console.warn(format!("{name}: overwritten while it was read; lines may be lost"));
        }
        Ok(())
    }
}

/// Returns the positions of files, with their latest stream times. Of two files with one name the last one counts.
pub fn partition_positions(files: &[FilePosition]) -> Vec<PartitionPosition> {
    let mut found = BTreeMap::new();
    for FilePosition { name, last, partitions, .. } in &files[files.len().saturating_sub(FILES_SHOWN)..] {
        if let Some(offset) = last.checked_add(1).filter(|offset| *offset >= 0) {
            found.insert(name, PartitionTime::position(name, offset, partitions));
        }
    }
    found.into_values().collect()
}
