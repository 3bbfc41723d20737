//! Which of the files of a followed name is read next, and when a file is closed.
//!
//! A file is begun when the one before it has been read to its end. From then on the files take turns, since writers may
//! still append to any of them. The clock is passed in.

use super::name::FileId;
use std::time::Duration;

/// How long a renamed file stays open after the last byte that came to it.
pub const QUIET: Duration = Duration::from_secs(60);

struct Turn {
    id: FileId,
    /// Whether it was read to its end once.
    ended: bool,
    /// Whether it was looked at in this round, and found at its end.
    looked: bool,
    /// Since when it is at its end.
    quiet: Option<Duration>,
}

/// The files of a name in the order in which they took it.
#[derive(Default)]
pub struct Turns {
    files: Vec<Turn>,
    cursor: usize,
}

impl Turns {
    /// One more file has the name.
    pub fn push(&mut self, id: FileId) {
        self.files.push(Turn { id, ended: false, looked: false, quiet: None });
    }

    /// The place of the file to read next; none when all are at their end, which ends a round.
    pub fn next(&mut self) -> Option<usize> {
        let begun = self.files.iter().position(|file| !file.ended).map_or(self.files.len(), |first| first + 1);
        let next = (0..begun).map(|step| (self.cursor + step) % begun).find(|at| !self.files[*at].looked);
        if next.is_none() {
            self.end_round();
        }
        next
    }

    /// Something was read from a file.
    pub fn came(&mut self, at: usize) {
        self.files[at].quiet = None;
        self.cursor = if self.files[at].ended { at + 1 } else { at };
        self.end_round();
    }

    fn end_round(&mut self) {
        self.files.iter_mut().for_each(|file| file.looked = false);
    }

    /// A file was found at its end.
    pub fn ended(&mut self, at: usize, now: Duration) {
        let file = &mut self.files[at];
        (file.ended, file.looked) = (true, true);
        file.quiet.get_or_insert(now);
    }

    /// The place of a file to be closed: one that lost the name and has been quiet for long enough, or for the longest
    /// time where one must be closed (`is_full`). The round must be over.
    pub fn to_close(&self, owner: Option<FileId>, now: Duration, is_full: bool) -> Option<usize> {
        let quiet = |at: usize| Some((self.files[at].quiet?, at));
        let others = (0..self.files.len()).filter(|at| Some(self.files[*at].id) != owner);
        let (since, at) = others.filter_map(quiet).min()?;
        (is_full || now.saturating_sub(since) >= QUIET).then_some(at)
    }

    /// A file is closed.
    pub fn remove(&mut self, at: usize) -> FileId {
        self.cursor -= usize::from(self.cursor > at);
        self.files.remove(at).id
    }
}
