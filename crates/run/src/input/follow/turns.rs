//! Chooses the file of a followed name that is read next, and the time at which a file is closed.
//!
//! The input begins a file once it has read the file before it to its end, and to the length that it had when the new
//! file was seen: the bytes up to there are older than the new file. From then on it reads both in turns, because
//! writers may still append to either. A round ends once every such file is at its end, or as soon as one has new
//! bytes. The caller passes the time.

use crate::input::position::FileId;
use std::time::Duration;

/// How long a renamed file stays open after its last new byte.
pub const QUIET: Duration = Duration::from_secs(60);

/// The state of one file.
struct Turn {
    id: FileId,
    /// Whether it has been read to its end at least once, and since then to the length that it had when the next file
    /// was seen.
    ended: bool,
    /// The length (bytes) up to which the file is read before the next file begins; 0 for the newest file.
    due: u64,
    /// Whether a read in this round found the end of the file.
    at_end: bool,
    /// The time since which it has been at its end; `None` if the last read got new bytes.
    quiet: Option<Duration>,
}

/// The bytes of a file when another one took its name.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadBytes {
    /// The number of bytes that were read; `None` if it is not known, as for a compressed file.
    pub done: Option<u64>,
    /// The length of the file.
    pub length: u64,
}

/// The files of a name in the order in which they took it.
#[derive(Default)]
pub struct Turns {
    files: Vec<Turn>,
    /// The index of the file that is preferred next.
    cursor: usize,
}

impl Turns {
    /// Adds a file that took the name. `before`: the length of the newest file so far, and how many of its bytes were
    /// read. That file is read up to this length before the new file begins. The new file does not wait for its end,
    /// because a busy writer may append without a pause.
    pub fn push(&mut self, id: FileId, before: ReadBytes) {
        if let Some(newest) = self.files.last_mut() {
            newest.due = before.length;
            newest.ended &= before.done.map_or(newest.quiet.is_some(), |done| done >= before.length);
        }
        self.files.push(Turn { id, ended: false, due: 0, at_end: false, quiet: None });
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

    /// Notes that bytes were read from a file, which ends the round. `done` is the number of its bytes read so far, if
    /// it is known. The file keeps the turn until it has been at its end once, or at the length that it had when the
    /// next file was seen. After that, the next file gets the turn.
    pub fn found_bytes(&mut self, at: usize, done: Option<u64>) {
        let file = &mut self.files[at];
        file.quiet = None;
        file.ended |= file.due > 0 && done.is_some_and(|done| done >= file.due);
        self.cursor = if file.ended { at + 1 } else { at };
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

    /// Returns the index of a file to close: among the files that no longer have the name, the one that has been quiet
    /// longest. It must have been quiet for [`QUIET`], unless a file must be closed (`is_full`). Call it between rounds
    /// only.
    pub fn to_close(&self, owner: Option<FileId>, now: Duration, is_full: bool) -> Option<usize> {
        let quiet = |at: usize| Some((self.files[at].quiet?, at));
        let others = (0..self.files.len()).filter(|at| Some(self.files[*at].id) != owner);
        let (since, at) = others.filter_map(quiet).min()?;
        (is_full || now.saturating_sub(since) >= QUIET).then_some(at)
    }

    /// Whether a file was at its end when it was read last.
    pub fn is_at_end(&self, at: usize) -> bool {
        self.files[at].quiet.is_some()
    }

    /// Returns the identity of a file.
    pub fn id(&self, at: usize) -> FileId {
        self.files[at].id
    }

    /// Removes a file that is closed; returns its identity.
    pub fn remove(&mut self, at: usize) -> FileId {
        self.cursor -= usize::from(self.cursor > at);
        self.files.remove(at).id
    }
}
