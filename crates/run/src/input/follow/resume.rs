//! Finds the files of a followed name again that an earlier run has read, and those that had the name since then.
//!
//! A file that was read is known by its content, first of all the one with the identity that it had: the name may
//! belong to another file now, and a rotation may have copied or compressed it. A file that had the name meanwhile is
//! known by its name (`rotated.rs`) and by having been written after all that the earlier run knew.

use super::name::Opened;
use super::rotated::{Age, FollowedNames, is_packed, is_unpacked};
use super::watch::Watch;
use crate::input::bytes;
use crate::input::content::digest::FileContent;
use crate::input::content::{Likeness, compare};
use crate::input::position::{ClosedFiles, FileId, FollowPosition, ReadFile};
use crate::run::Run;
use crate::storage::disk::failed;
use evt_core::error::{Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Maximum number of searches of the directory, if files are renamed during each of them.
const TRIES: usize = 20;
/// The least length (bytes) of a content that identifies a longer file of another identity as a copy. Shorter contents
/// do not, because logs may begin with the same lines.
const COPY_MIN: u64 = 1 << 10;

/// The files with which a run continues a followed name.
#[derive(Default)]
pub struct Resumption {
    /// The files in the order in which they are read.
    pub files: VecDeque<ResumedFile>,
    /// The number of lines of the partition before them.
    pub lines: i64,
    /// The files that stay closed, each with the content that was read.
    pub closed: ClosedFiles,
    /// The number of files that were not found, so that records may be lost.
    pub missed: u64,
}

/// A file that a run continues or begins.
pub struct ResumedFile {
    /// Its identity.
    pub id: FileId,
    /// The file, at its start.
    pub file: File,
    /// The position to which an earlier run has read it; `None` for a file that the run begins.
    pub former: Option<ReadFile>,
}

/// The relation of a file in the directory to the files of the position; an index is one of [`Search::files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileMatch {
    /// The file itself.
    Itself(usize),
    /// A copy of it, or another file with its content.
    Copy(usize),
    /// A file that may be a copy: it begins with the content, but the content is shorter than [`COPY_MIN`].
    Alike(usize),
    Unknown,
}

/// Whether a file has taken the name since the position was saved, by its name and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum New {
    Yes,
    /// It was created after the files of the position, but its other times do not show that it was written after them.
    Perhaps,
    No,
}

/// A file in the directory.
#[derive(PartialEq, Eq)]
struct DirectoryEntry {
    path: PathBuf,
    id: FileId,
    age: Option<Age>,
}

/// A file that may be read.
struct Candidate {
    path: PathBuf,
    id: FileId,
    file: File,
    known: FileMatch,
    /// For each of [`Search::files`], whether it begins with the content of that file.
    likeness: Vec<Likeness>,
    /// Whether it has more lines than the known content with which it begins; true if it begins with none.
    has_more: bool,
    /// Whether the watch has opened it, because it has the name.
    is_named: bool,
    /// Whether it has taken the name since the position was saved, if it is unknown.
    is_new: New,
    modified: i64,
    /// When it was created, else when it was written last.
    began: i64,
    age: Option<Age>,
}

impl Candidate {
    /// Returns the file: one that the run continues at `former`, or begins.
    fn resumed(self, former: Option<&ReadFile>) -> ResumedFile {
        ResumedFile { id: self.id, file: self.file, former: former.cloned() }
    }
}

/// The position whose files are looked for.
struct Search<'a> {
    name: &'a str,
    path: &'a Path,
    position: &'a FollowPosition,
    /// The files that were closed; from index `opened` on, the files that were open.
    files: Vec<&'a ReadFile>,
    opened: usize,
    /// Their contents.
    contents: Vec<FileContent>,
    run: &'a Run,
}

/// Finds the files at and after a position, and takes over those that the watch has opened. Reports files that are
/// continued under another name, and those that are gone.
///
/// Errors: exit status 74 if a file cannot be read, or if files are renamed all the time.
pub fn resume(name: &str, path: &Path, position: FollowPosition, watch: &Watch, run: &Run) -> Result<Resumption> {
    let files: Vec<&ReadFile> = position.closed.iter().chain(&position.open).collect();
    let contents = files.iter().map(|file| file.content.clone()).collect();
    let opened = files.len() - position.open.len();
    let search = Search { name, path, position: &position, files, opened, contents, run };
    let mut named: Vec<Candidate> = vec![];
    for _ in 0..TRIES {
        let opened: Vec<Opened<File>> = watch.with(|watched| std::iter::from_fn(|| watched.name.pop()).collect());
        for Opened { id, file } in opened {
            named.push(search.candidate(DirectoryEntry { path: path.to_owned(), id, age: None }, file, true)?);
        }
        let entries = search.list(watch)?;
        let Some(others) = search.open(&entries)? else { continue };
        let (files, ids) = (others.iter().map(|other| other.id).collect::<Vec<_>>(), search.list(watch)?);
        if ids != entries || !watch.with(|watched| watched.name.hold(&files)) {
            continue;
        }
        return Ok(search.choose(named, others, watch));
    }
    Err(Error::new(ErrorKind::Io, "files were renamed while the directory was read").at(name))
}

impl Search<'_> {
    /// Returns the files in the directory of the name, and in that of the target of a link, that were read or have the
    /// name of a rotation, and that the watch has not opened. Errors: exit status 74 if a directory cannot be listed.
    fn list(&self, watch: &Watch) -> Result<Vec<DirectoryEntry>> {
        let name_of = |path: &Path| path.file_name().unwrap_or_default().as_bytes().to_owned();
        let (name, own) = (name_of(self.path), directory_of(self.path));
        let target = self.path.canonicalize().ok();
        // The name may be a link to the newest file in another directory.
        let linked = target.as_deref().map(directory_of);
        let linked = linked.filter(|linked| own.canonicalize().is_ok_and(|own| own != *linked));
        let target = target.map(|target| name_of(&target)).filter(|target| *target != name);
        let others = watch.others(|other| (other.path.clone(), other.name.held().to_vec()));
        let mut entries = vec![];
        for directory in std::iter::once(own).chain(linked) {
            let failed = |error: std::io::Error| {
                let what = "cannot list the directory, in which files that had the name are looked for";
                Error::io(format!("{}: {}: {what}", self.name, directory.display()), &error)
            };
            let found = match directory.read_dir() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                found => found.map_err(failed)?,
            };
            let real = directory.canonicalize().map_err(failed)?;
            let is_here = |of: PathBuf| of == directory || of.canonicalize().is_ok_and(|of| of == real);
            let others_here = others.iter().filter(|(other, _)| is_here(directory_of(other)));
            let others_here = others_here.map(|(other, _)| name_of(other)).collect();
            let names = FollowedNames { name: name.clone(), target: target.clone(), others: others_here };
            for entry in found {
                let entry = entry.map_err(failed)?;
                let Some(metadata) = entry.metadata().ok().filter(Metadata::is_file) else { continue };
                let (path, id) = (entry.path(), FileId::of(&metadata));
                let is_of_other = others.iter().any(|(_, held)| held.contains(&id));
                let age = names.age(entry.file_name().as_bytes()).filter(|_| !is_of_other);
                let is_known = self.files.iter().any(|file| file.id == id);
                if (is_known || age.is_some()) && !watch.with(|watched| watched.name.holds(id)) {
                    entries.push(DirectoryEntry { path, id, age });
                }
            }
        }
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        // Keeps one entry of a file that has several names.
        let mut seen = vec![];
        entries.retain(|entry| {
            !seen.contains(&entry.id) && {
                seen.push(entry.id);
                true
            }
        });
        Ok(entries)
    }

    /// Opens the files that may be read; `None` if a file was renamed or deleted after it was listed.
    fn open(&self, entries: &[DirectoryEntry]) -> Result<Option<Vec<Candidate>>> {
        let mut opened = vec![];
        for DirectoryEntry { path, id, age } in entries {
            // Skips a compressed file beside its original: the compression is in progress.
            let name = |path: &Path| path.file_name().unwrap_or_default().as_bytes().to_owned();
            if entries.iter().any(|other| is_unpacked(&name(&other.path), &name(path))) {
                continue;
            }
            let file = match bytes::open(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(_) if !self.may_be_read(path, *id) => continue,
                file => file.map_err(failed(path))?,
            };
            let metadata = file.metadata().map_err(failed(path))?;
            if FileId::of(&metadata) != *id {
                return Ok(None);
            }
            let entry = DirectoryEntry { path: path.clone(), id: *id, age: age.clone() };
            let candidate = self.candidate(entry, file, false)?;
            let is_wanted = match candidate.known {
                FileMatch::Itself(at) | FileMatch::Copy(at) => at >= self.opened || candidate.has_more,
                FileMatch::Alike(_) | FileMatch::Unknown => candidate.is_new != New::No,
            };
            if is_wanted {
                opened.push(candidate);
            }
        }
        Ok(Some(opened))
    }

    /// Whether a file that cannot be opened may be one that is to be read.
    fn may_be_read(&self, path: &Path, id: FileId) -> bool {
        let is_new = || std::fs::metadata(path).is_ok_and(|metadata| self.is_new(path, &metadata) != New::No);
        self.files.iter().any(|file| file.id == id) || is_new()
    }

    /// Whether an unknown file with a name of a rotation has taken the followed name since the position was saved.
    fn is_new(&self, path: &Path, metadata: &Metadata) -> New {
        let is_packed = is_packed(path.file_name().unwrap_or_default().as_bytes());
        let (modified, is_written_later) = (modified(metadata), modified(metadata) >= self.position.modified);
        let newest = self.position.open.iter().filter_map(|file| file.born).max();
        match born(metadata).zip(newest) {
            _ if self.position.open.is_empty() => New::No,
            None if is_written_later => New::Yes,
            None => New::No,
            // A file that takes the name is created after the file that had the name before.
            Some((born, newest)) if born < newest => New::No,
            Some(_) if is_written_later => New::Yes,
            // Another file of the position may have been written after the last line of this one.
            Some((_, newest)) if modified >= newest => {
                if is_packed {
                    New::Perhaps
                } else {
                    New::Yes
                }
            }
            // A compressed file keeps the time of its original, so this file was written before the newest file was
            // created.
            Some(_) => {
                if is_packed {
                    New::No
                } else {
                    New::Perhaps
                }
            }
        }
    }

    /// Compares a file with what was read.
    fn candidate(&self, entry: DirectoryEntry, file: File, is_named: bool) -> Result<Candidate> {
        let shown = || entry.path.display().to_string();
        let metadata = file.metadata().map_err(|error| Error::io(shown(), &error))?;
        let likeness = compare(&file, &self.contents, self.run.ratio_max).map_err(|error| error.at(shown()))?;
        let known = self.known(entry.id, born(&metadata), &likeness);
        let has_more = match known {
            FileMatch::Itself(at) | FileMatch::Copy(at) | FileMatch::Alike(at) => likeness[at] == Likeness::Longer,
            FileMatch::Unknown => true,
        };
        let DirectoryEntry { path, id, age } = entry;
        let is_new = if age.is_some() { self.is_new(&path, &metadata) } else { New::No };
        Ok(Candidate {
            path,
            id,
            file,
            known,
            likeness,
            has_more,
            is_named,
            is_new,
            modified: modified(&metadata),
            began: born(&metadata).unwrap_or_else(|| modified(&metadata)),
            age,
        })
    }

    fn known(&self, id: FileId, born: Option<i64>, likeness: &[Likeness]) -> FileMatch {
        // The system may give the identity of a deleted file to another file, so the time of creation and the content
        // must agree too. Of a truncated file, which has several entries, only the last entry counts.
        let is_same = |file: &&ReadFile| file.id == id && (file.born == born || file.born.is_none() || born.is_none());
        let begins = |at: &usize| likeness[*at] != Likeness::Other || self.files[*at].content.length == 0;
        if let Some(at) = self.files.iter().rposition(is_same).filter(begins) {
            return FileMatch::Itself(at);
        }
        let copied = self.contents.iter().zip(likeness).enumerate();
        let copied = copied.filter(|(_, (_, likeness))| **likeness != Likeness::Other);
        match copied.max_by_key(|(_, (content, _))| content.length) {
            Some((at, (content, likeness))) if *likeness == Likeness::Same || content.length >= COPY_MIN => {
                FileMatch::Copy(at)
            }
            Some((at, _)) if at >= self.opened && self.files[at].line > 0 => FileMatch::Alike(at),
            _ => FileMatch::Unknown,
        }
    }

    /// Returns the index of the candidate that is file number `at` of the position.
    fn find(&self, at: usize, candidates: &[Candidate]) -> Option<usize> {
        let (former, is_open) = (self.files[at], at >= self.opened);
        let is = |known: FileMatch| {
            candidates.iter().position(|candidate| candidate.known == known && (is_open || !candidate.is_named))
        };
        // A file of which no line was read may be any new candidate, unless the candidate does not begin with its first
        // lines.
        let is_other = |other: &Candidate| former.content.length > 0 && other.likeness[at] == Likeness::Other;
        let is_unread = |other: &Candidate| former.line == 0 && other.known == FileMatch::Unknown && !is_other(other);
        let is_alike = |other: &Candidate| {
            !other.is_named && other.is_new == New::Yes && (other.known == FileMatch::Alike(at) || is_unread(other))
        };
        let alike = || candidates.iter().position(is_alike).filter(|_| is_open);
        is(FileMatch::Itself(at)).or_else(|| is(FileMatch::Copy(at))).or_else(alike)
    }

    /// Returns the files to be read, in the order in which they are read: files that have grown since they were closed
    /// come first. Closes the other files.
    fn choose(&self, named: Vec<Candidate>, others: Vec<Candidate>, watch: &Watch) -> Resumption {
        let mut rest = others;
        rest.sort_by(|one, other| (one.modified, &one.age).cmp(&(other.modified, &other.age)));
        rest.extend(named);
        let (mut files, mut missed, mut is_current) = (VecDeque::new(), 0, false);
        let mut is_read_on = vec![false; self.files.len()];
        let say = |text: String| self.run.console.say(format!("{}: {text}", self.name));
        let notice = |text: String| self.run.console.notice(format!("{}: {text}", self.name));
        for (at, former) in self.files.iter().enumerate() {
            let Some(found) = self.find(at, &rest) else {
                if !former.is_done {
                    missed += 1;
                    say(match former.line {
                        0 => "a file of which no line was read is gone; records may be lost".to_owned(),
                        line => format!("the file that was read up to line {line} is gone; records may be lost"),
                    });
                }
                continue;
            };
            let found = rest.remove(found);
            if found.is_named {
                let is_sure = former.content.length > 0 || former.born.is_some();
                is_current |= at + 1 == self.files.len() && is_sure;
            } else {
                let path = found.path.display();
                notice(match former.line {
                    0 => format!("reading {path}, of which no line was read"),
                    line => format!("reading {path} on from line {}", line + 1),
                });
            }
            is_read_on[at] = true;
            files.push_back(found.resumed(Some(former)));
        }
        let (named, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|candidate| candidate.is_named);
        // If the last file of the position still has the name, no other file had the name meanwhile.
        let is_unknown = |other: &Candidate| matches!(other.known, FileMatch::Unknown | FileMatch::Alike(_));
        // Unless lines that no run has read were copied from it before it was truncated.
        let is_empty = self.files.last().is_some_and(|last| last.content.length == 0);
        let may_be_copy = |other: &Candidate| is_empty && other.began > self.position.modified;
        for other in others {
            let is_new =
                if is_unknown(&other) && (!is_current || may_be_copy(&other)) { other.is_new } else { New::No };
            let path = other.path.display();
            match is_new {
                New::Yes => notice(format!("reading {path}, which had the name meanwhile")),
                New::Perhaps => say(format!("{path} is not read: its times do not show whether it had the name")),
                New::No => {}
            }
            match is_new {
                // Before the file that still has the name.
                New::Yes => files.insert(files.len() - usize::from(is_current), other.resumed(None)),
                New::Perhaps | New::No => watch.with(|watched| watched.name.close(other.id)),
            }
        }
        for file in named {
            // A closed file may have got the name again.
            let at = if let FileMatch::Itself(at) | FileMatch::Copy(at) = file.known { Some(at) } else { None };
            let former = at.filter(|at| !std::mem::replace(&mut is_read_on[*at], true)).map(|at| self.files[at]);
            files.push_back(file.resumed(former));
        }
        let closed = self.files[..self.opened].iter().zip(is_read_on).filter(|(_, is_read_on)| !is_read_on);
        let closed = closed.map(|(file, _)| (*file).clone()).collect();
        Resumption { files, missed, lines: self.position.lines, closed }
    }
}

/// Returns the directory of a path.
fn directory_of(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Returns when a file was created (ns since 1970), if its file system records it.
pub fn born(metadata: &Metadata) -> Option<i64> {
    let since = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()
}

/// Returns when a file was written last (ns since 1970).
pub fn modified(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}
