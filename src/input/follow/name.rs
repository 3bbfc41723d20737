//! A followed name: which file has it, which files had it, and how many were gone before they could be opened.
//!
//! The directory is passed in: nothing here reads a file or a clock.

use std::collections::VecDeque;
use std::io::Result;

/// How many files of one name are held open at most. While that many are, a further one is opened as soon as one of them
/// is closed.
pub const HELD_MAX: usize = 256;

/// What tells one file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The number of its device.
    pub device: u64,
    /// The number of its inode. It is not used again while the file is open.
    pub inode: u64,
}

/// What a directory tells of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file was made under the name.
    Created,
    /// A file was renamed to the name.
    MovedIn,
    /// The file of the name was renamed or deleted.
    Left,
}

/// The directory that holds a name.
pub trait Directory {
    /// An open file.
    type File;
    /// The file that has the name now, if one has.
    fn id(&mut self) -> Result<Option<FileId>>;
    /// Opens the file that has the name now, if one has.
    fn open(&mut self) -> Result<Option<Opened<Self::File>>>;
}

/// A file that took the name.
#[derive(Debug)]
pub struct Opened<F> {
    /// What tells it from others.
    pub id: FileId,
    /// The file itself.
    pub file: F,
}

/// A followed name.
pub struct Name<F> {
    /// The file that has the name, or had it last.
    owner: Option<FileId>,
    is_gone: bool,
    /// Files that are open: those in the queue and those that the reader holds.
    held: Vec<FileId>,
    queue: VecDeque<Opened<F>>,
    /// Files that arrived, as far as the directory told, less the files that were opened.
    unopened: i64,
    last_change: Option<Change>,
    missed: u64,
}

impl<F> Default for Name<F> {
    fn default() -> Self {
        Self {
            owner: None,
            is_gone: true,
            held: vec![],
            queue: VecDeque::new(),
            unopened: 0,
            last_change: None,
            missed: 0,
        }
    }
}

impl<F> Name<F> {
    /// Notes what the directory told of the name since the last look.
    pub fn note(&mut self, change: Change) {
        self.unopened += i64::from(change != Change::Left);
        self.last_change = Some(change);
    }

    /// Opens the file that has the name, if it is not open yet. `is_told` says whether the directory tells of every
    /// change: then a file that came and went between two looks is counted.
    pub fn look(&mut self, directory: &mut impl Directory<File = F>, is_told: bool) -> Result<()> {
        if self.held.len() >= HELD_MAX {
            return Ok(());
        }
        let mut found = directory.id()?;
        if found.is_some_and(|id| !self.held.contains(&id)) {
            let opened = directory.open()?;
            found = opened.as_ref().map(|opened| opened.id);
            if let Some(opened) = opened.filter(|opened| !self.held.contains(&opened.id)) {
                self.held.push(opened.id);
                self.queue.push_back(opened);
                self.unopened -= 1;
            } else if found.is_some() {
                self.unopened -= 1;
            }
        } else if found.is_some() && self.last_change == Some(Change::MovedIn) && self.unopened > 0 {
            // An open file was given the name again.
            self.unopened -= 1;
        }
        self.is_gone = found.is_none();
        self.owner = found.or(self.owner);
        self.last_change = None;
        self.missed += u64::try_from(self.unopened).unwrap_or(0);
        // A file may be found before the directory tells of its arrival; no more than one is.
        self.unopened = if is_told { self.unopened.clamp(-1, 0) } else { 0 };
        Ok(())
    }

    /// The next file that took the name.
    pub fn pop(&mut self) -> Option<Opened<F>> {
        self.queue.pop_front()
    }

    /// Forgets a file that the reader closes.
    pub fn close(&mut self, id: FileId) {
        self.held.retain(|held| *held != id);
    }

    /// The file that has the name, or had it last.
    pub fn owner(&self) -> Option<FileId> {
        self.owner
    }

    /// Whether no file has the name.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether no further file can be opened before one is closed.
    pub fn is_full(&self) -> bool {
        self.held.len() >= HELD_MAX
    }

    /// Files that were gone before they could be opened, since this was asked last.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }
}
