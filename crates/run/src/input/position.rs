//! Where an input continues: a file, a followed name with its files, a spool.

use crate::input::content::digest::FileContent;
use crate::spool::CheckpointPosition;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;

/// Number of closed files that are kept. From them a later run recognises copies, which it skips, and finds where to
/// continue in a file that has grown.
const CLOSED_MAX: usize = 32;

/// Where an input begins or continues.
pub enum InputPosition {
    /// A file that is open, because its content was compared: its path may be that of another file by now.
    Opened(File),
    /// A followed name.
    Followed(FollowPosition),
    /// The spool of an HTTP server.
    Spool {
        /// The origin of its records.
        origin: String,
        /// Its position.
        position: CheckpointPosition,
    },
}

/// The identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    /// The number of its device.
    pub device: u64,
    /// The number of its inode. The system does not reuse it while the file is open.
    pub inode: u64,
}

impl FileId {
    /// Returns the identity of the file that has this metadata.
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The position in a followed name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowPosition {
    /// The number of lines of the partition so far, through all files.
    pub lines: i64,
    /// The open files in the order in which they took the name.
    pub open: Vec<ReadFile>,
    /// The files that were closed or truncated, each with the content that was read.
    pub closed: ClosedFiles,
    /// When one of the open files was written last, by the clock of their file system (ns since 1970).
    pub modified: i64,
}

/// How far a file is read that has or had the name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFile {
    /// Its identity. Another file may get the same identity once this file is deleted.
    pub id: FileId,
    /// When it was created (ns since 1970), if its file system records it. It distinguishes files of one identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<i64>,
    /// The content that was read; if no line was read, that of the first lines.
    pub content: FileContent,
    /// The number of its lines that were read.
    pub line: i64,
    /// The stream time (µs) of the partition when this file was begun, if there was one. It gives lines without a year
    /// their year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<i64>,
    /// Whether the file was renamed and read to its end. No line is lost if such a file is deleted.
    pub is_done: bool,
}

impl ReadFile {
    /// Whether a line of it was read.
    pub fn has_begun(&self) -> bool {
        self.line > 0
    }
}

/// The files that were closed or truncated last, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClosedFiles(VecDeque<ReadFile>);

impl ClosedFiles {
    /// Adds a file with the content that was read, unless the content is empty; removes the oldest file if there are
    /// more than [`CLOSED_MAX`].
    pub fn push(&mut self, file: ReadFile) {
        if file.content.length > 0 {
            self.0.push_back(ReadFile { is_done: true, ..file });
        }
        while self.0.len() > CLOSED_MAX {
            self.0.pop_front();
        }
    }

    /// Returns the files.
    pub fn iter(&self) -> impl Iterator<Item = &ReadFile> {
        self.0.iter()
    }
}

impl FromIterator<ReadFile> for ClosedFiles {
    fn from_iter<T: IntoIterator<Item = ReadFile>>(files: T) -> Self {
        Self(files.into_iter().collect())
    }
}
