//! Decides which file of a followed name is read next, and when a file is closed.
//!
//! The input begins a file once it has read the file before it to its end. From then on it reads both in turns, because
//! writers may still append to either. A round ends once every such file is at its end, or as soon as one has new bytes.
//! The caller passes the time.

use super::name::FileId;
use std::time::Duration;

/// How long a renamed file stays open after its last new byte.
pub const QUIET: Duration = Duration::from_secs(60);

/// The state of one file.
struct Turn {
    id: FileId,
    /// Whether it has been read to its end at least once.
    ended: bool,
    /// Whether it was found at its end in this round.
    at_end: bool,
    /// Since when it has been at its end; `None` if it had new bytes at the last read.
    quiet: Option<Duration>,
}

/// The files of a name in the order in which they took it.
#[derive(Default)]
pub struct Turns {
    files: Vec<Turn>,
    /// The index of the file that is preferred next.
    cursor: usize,
}

impl Turns {
    /// Adds a file that took the name.
    pub fn push(&mut self, id: FileId) {
        self.files.push(Turn { id, ended: false, at_end: false, quiet: None });
    }

    /// Returns the index of the file to read next; `None` if all are at their end, which ends the round.
    pub fn next(&mut self) -> Option<usize> {
        let begun = self.files.iter().position(|file| !file.ended).map_or(self.files.len(), |first| first + 1);
        let next = (0..begun).map(|step| (self.cursor + step) % begun).find(|at| !self.files[*at].at_end);
        if next.is_none() {
            self.end_round();
        }
        next
    }

    /// Notes that bytes were read from a file, which ends the round. The file keeps the turn until it has been at its end once;
    /// after that, the next file gets the turn.
    pub fn found_bytes(&mut self, at: usize) {
        self.files[at].quiet = None;
        self.cursor = if self.files[at].ended { at + 1 } else { at };
        self.end_round();
    }

    fn end_round(&mut self) {
        self.files.iter_mut().for_each(|file| file.at_end = false);
    }

    /// Notes that a file was found at its end.
    pub fn ended(&mut self, at: usize, now: Duration) {
        let file = &mut self.files[at];
        (file.ended, file.at_end) = (true, true);
        file.quiet.get_or_insert(now);
    }

    /// Returns the index of a file to close: among the files that no longer have the name, the one that has been quiet longest.
    /// It must have been quiet for [`QUIET`], unless a file must be closed (`is_full`). Call it between rounds only.
    pub fn to_close(&self, owner: Option<FileId>, now: Duration, is_full: bool) -> Option<usize> {
        let quiet = |at: usize| Some((self.files[at].quiet?, at));
        let others = (0..self.files.len()).filter(|at| Some(self.files[*at].id) != owner);
        let (since, at) = others.filter_map(quiet).min()?;
        (is_full || now.saturating_sub(since) >= QUIET).then_some(at)
    }

    /// Removes a file that is closed; returns its identity.
    pub fn remove(&mut self, at: usize) -> FileId {
        self.cursor -= usize::from(self.cursor > at);
        self.files.remove(at).id
    }
}
