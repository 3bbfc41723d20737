//! The state of a followed name: the file that has it, the open files that had it, and the number of files that were
//! gone before they could be opened.
//!
//! The caller passes the directory, so that this module accesses neither files nor a clock.

use crate::input::position::FileId;
use std::collections::VecDeque;
use std::io::Result;

/// Maximum number of open files of one name. A further file is opened only after one of them has been closed.
pub const HELD_MAX: usize = 256;

/// A change of a name in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file was created under the name.
    Created,
    /// A file was renamed to the name.
    MovedIn,
    /// The file that had the name was renamed or deleted.
    Left,
}

/// The directory that holds a name.
pub trait Directory {
    /// An open file.
    type File;
    /// Returns the file that has the name now, if there is one.
    fn id(&mut self) -> Result<Option<FileId>>;
    /// Opens the file that has the name now, if there is one.
    fn open(&mut self) -> Result<Option<Opened<Self::File>>>;
}

/// An open file that took the name.
#[derive(Debug)]
pub struct Opened<F> {
    /// Its identity.
    pub id: FileId,
    /// The file itself.
    pub file: F,
}

/// A followed name.
pub struct Name<F> {
    /// The file that has the name, or had it last.
    owner: Option<FileId>,
    /// Whether no file has the name.
    is_gone: bool,
    /// The open files: those in the queue and those that the reader has taken.
    held: Vec<FileId>,
    /// Opened files that the reader has not taken yet.
    queue: VecDeque<Opened<F>>,
    /// The number of arrivals that the directory has reported, less the number of files opened.
    unopened: i64,
    last_change: Option<Change>,
    /// Files that were gone before they could be opened.
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
    /// Notes a change that the directory reported.
    pub fn note(&mut self, change: Change) {
        self.unopened += i64::from(change != Change::Left);
        self.last_change = Some(change);
    }

    /// Opens the file that has the name, if it is not open yet. `is_notified`: the directory reports every change, so
    /// this also counts files as missed that got and lost the name between two calls.
    pub fn check(&mut self, directory: &mut impl Directory<File = F>, is_notified: bool) -> Result<()> {
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
            // A file that is still open was renamed back to the name.
            self.unopened -= 1;
        }
        self.is_gone = found.is_none();
        self.owner = found.or(self.owner);
        self.last_change = None;
        self.missed += u64::try_from(self.unopened).unwrap_or(0);
        // At most one file was opened before the directory has reported its arrival.
        self.unopened = if is_notified { self.unopened.clamp(-1, 0) } else { 0 };
        Ok(())
    }

    /// Takes the next file from the queue.
    pub fn pop(&mut self) -> Option<Opened<F>> {
        self.queue.pop_front()
    }

    /// Notes files that the reader has opened itself. Returns false, and notes none, if one of them is open already.
    pub fn hold(&mut self, ids: &[FileId]) -> bool {
        let is_new = !ids.iter().any(|id| self.held.contains(id));
        if is_new {
            self.held.extend(ids);
        }
        is_new
    }

    /// Whether a file is open.
    pub fn holds(&self, id: FileId) -> bool {
        self.held.contains(&id)
    }

    /// Returns the open files.
    pub fn held(&self) -> &[FileId] {
        &self.held
    }

    /// Removes a file that the reader closes.
    pub fn close(&mut self, id: FileId) {
        self.held.retain(|held| *held != id);
    }

    /// Returns the file that has the name, or had it last.
    pub fn owner(&self) -> Option<FileId> {
        self.owner
    }

    /// Whether no file has the name.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether [`HELD_MAX`] files are open, so that no further one is opened.
    pub fn is_full(&self) -> bool {
        self.held.len() >= HELD_MAX
    }

    /// Returns the number of files that were gone before they could be opened, since the last call.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }
}
