//! Files that are followed in turn.

use super::{Current, Source};
use crate::error::Result;
use crate::stop::Woken;
use crate::stream::follow::LOOK_EVERY;
use crate::stream::intake::Item;
use crate::stream::raw::TextInput;
use crate::stream::uri::Uri;

impl Source {
    /// At the end of a followed file, the next one has its turn.
    pub(super) fn next_followed(&mut self, text: Box<TextInput>) -> Result<()> {
        if !self.options.follow || self.pending.is_empty() && self.followed.is_empty() {
            self.current = Some(Current::Text(text));
            return Ok(());
        }
        self.followed.push_back(text);
        if !self.pending.is_empty() {
            return self.advance();
        }
        self.take_turn();
        Ok(())
    }

    /// Goes on with the file that has waited longest, if there is one.
    fn take_turn(&mut self) {
        let files = self.followed.len() as u32;
        self.current = self.followed.pop_front().map(|mut next| {
            next.followed = files;
            // What a file is told is about itself: the progress of the one before is none of its.
            self.read = next.bytes().extent();
            Current::Text(next)
        });
        if let Some(Current::Text(next)) = &self.current {
            self.turn_to(self.intake.stamper.input_of(next.partition()));
        }
    }

    /// A file that is to be followed is not there yet: the others have their turn, then it is looked for again.
    pub(super) fn wait_for(&mut self, uri: Uri) -> Result<()> {
        if self.awaited.insert(uri.to_string()) {
            self.run.console.say(format!("{uri}: it is not there yet: waiting for it"));
        }
        self.pending.push_back((self.input, uri));
        self.take_turn();
        if self.current.is_none() && self.run.stop.sleep(LOOK_EVERY)? == Woken::Stopped {
            self.end_stopped();
        }
        self.send(Item::Idle);
        Ok(())
    }
}
