//! Inputs that are read in turn: names that are followed, and pipes beside them.

use super::{Current, Source, Watch};
use crate::error::{Error, Result};
use crate::ingest::Item;
use crate::input::Step;
use crate::input::bytes::Bytes;
use crate::input::follow::watch::LOOK_EVERY;
use crate::input::follow::{FileId, Follow, Reading};
use crate::input::text::TextInput;
use crate::stop::Woken;
use crate::uri::Uri;
use std::path::PathBuf;

/// A name that is followed and the first file that had it.
pub(super) struct First {
    pub(super) watch: Watch,
    pub(super) id: FileId,
    pub(super) bytes: Bytes,
}

/// Begins to read text; what is no regular file is at its end where its writers close it.
pub(super) fn begin(bytes: Bytes, named: Option<(Watch, FileId)>, reading: Reading) -> Current {
    match named {
        Some((watch, id)) if bytes.is_regular() => Current::Followed(Box::new(Follow::new(watch, id, bytes, reading))),
        _ => Current::Text(Box::new(TextInput::new(bytes, ((reading.splitter)(), reading.json), reading.partition))),
    }
}

impl Source {
    /// Begins to watch the names that are to be followed, before the first of them is read.
    pub(super) fn watch_names(&mut self) -> Result<()> {
        if !self.options.follow {
            return Ok(());
        }
        let file = |uri: &Uri| if let Uri::File(path) = uri { Some(path.clone()) } else { None };
        let paths: Vec<PathBuf> = self.pending.iter().filter_map(|(_, uri)| file(uri)).collect();
        if !paths.is_empty() {
            let watches = Watch::start(&paths)?;
            self.watches = paths.into_iter().zip(watches).collect();
        }
        Ok(())
    }

    /// The watch of a name that is followed.
    pub(super) fn watch(&self, uri: &Uri) -> Option<Watch> {
        let Uri::File(path) = uri else { return None };
        self.watches.iter().find(|(watched, _)| watched == path).map(|(_, watch)| watch.clone())
    }

    /// The first file of a name, if one has had it.
    pub(super) fn first_file(&self, watch: Watch, uri: &Uri) -> Result<Option<First>> {
        let (opened, refusal) = watch.with(|watched| (watched.name.pop(), watched.refusal.take()));
        if let Some(refusal) = refusal {
            return Err(Error::io(uri.to_string(), &refusal));
        }
        let Some(opened) = opened else { return Ok(None) };
        let bytes = Bytes::of_file(uri.to_string(), opened.file, self.run.clone())?;
        Ok(Some(First { watch, id: opened.id, bytes }))
    }

    /// Reads from the files of a name once. Names take turns, so that a busy one does not hold the others up.
    pub(super) fn step_followed(&mut self, mut follow: Box<Follow>) -> Result<()> {
        let step = follow.step(&mut self.ingest, &self.run)?;
        if follow.has_missed() {
            self.verdict = self.verdict.max(1);
        }
        match step {
            Step::More => {
                self.idle = 0;
                self.tell(follow.bytes().extent());
                self.take_turns(Current::Followed(follow))
            }
            Step::Stopped => self.stop(),
            Step::Idle | Step::End => {
                self.idle += 1;
                if self.rest_when_all_did()? {
                    return self.stop();
                }
                self.take_turns(Current::Followed(follow))
            }
        }
    }

    /// Puts an input behind those that wait, and goes on with the next one.
    pub(super) fn take_turns(&mut self, input: Current) -> Result<()> {
        if !self.options.follow || self.is_last() {
            self.current = Some(input);
            return Ok(());
        }
        // The rows of a batch are of one input.
        self.ingest.flush()?;
        self.turns.push_back((self.input, input));
        if !self.pending.is_empty() {
            return self.advance();
        }
        self.next_turn();
        Ok(())
    }

    /// Goes on with the input that has waited longest, if there is one.
    pub(super) fn next_turn(&mut self) {
        let Some((number, input)) = self.turns.pop_front() else { return };
        self.turn_to(number);
        self.current = Some(input);
        // Progress is told of one input; that of the one before is none of its.
        self.read = self.extent();
    }

    /// A file that is to be followed is not there yet: the others have their turn, then it is looked for again.
    pub(super) fn wait_for(&mut self, uri: Uri) -> Result<()> {
        if self.awaited.insert(uri.to_string()) {
            self.run.console.say(format!("{uri}: it is not there yet: waiting for it"));
        }
        self.idle += 1;
        self.pending.push_back((self.input, uri));
        self.next_turn();
        if self.current.is_none() {
            self.rest()?;
        }
        Ok(())
    }

    /// Waits a moment when no input in turn had anything.
    fn rest_when_all_did(&mut self) -> Result<bool> {
        if self.idle <= self.turns.len() + self.pending.len() {
            return Ok(false);
        }
        self.ingest.rest()?;
        self.rest()
    }

    /// Waits a moment; true where a signal asks to stop.
    fn rest(&mut self) -> Result<bool> {
        self.idle = 0;
        self.send(Item::Idle);
        let is_stopped = self.run.stop.sleep(LOOK_EVERY)? == Woken::Stopped;
        if is_stopped {
            self.end_stopped();
        }
        Ok(is_stopped)
    }
}
