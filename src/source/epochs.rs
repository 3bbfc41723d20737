//! What a source does for the epochs of a checkpoint: where they may end, and the positions of its inputs.

use super::positions::Positions;
use super::{Polled, Running, Source};
use crate::error::Result;
use crate::op::window::watermark::ContinuedInput;

impl Source {
    /// Whether the stage has taken exactly the records before [`Source::positions`], so that an epoch may end here.
    ///
    /// The incomplete batch of a file stays as it is: batches, and so the panes of windows, do not depend on the time
    /// at which epochs end. Those of topics depend on time anyway, and are queued now.
    pub fn is_at_cut(&mut self) -> Result<bool> {
        if self.running.front().is_some_and(|running| running.input.is_live()) {
            // Held records of topics are read again: the position of their partition is before them. Those of followed
            // names are not.
            if self.opener.options.files.follow {
                self.ingest.release_waited(i64::MAX)?;
            }
            self.ingest.flush()?;
            return Ok(!self.is_queued());
        }
        Ok(!self.ingest.mapper.holds_records() && !self.is_queued() && self.ingest.read.is_exact())
    }

    /// Returns the positions of the inputs for a checkpoint, and notes them for groups. The stage has taken every row
    /// before them.
    pub fn positions(&mut self) -> Result<Vec<u8>> {
        let Some(positions) = &mut self.positions else { return Ok(vec![]) };
        for Running { number, input } in self.ended.iter_mut().chain(&mut self.running) {
            input.note_epoch(&mut self.ingest);
            positions.note(*number, &mut **input, &mut self.ingest)?;
        }
        positions.to_part(&mut self.ingest)
    }

    /// Returns the inputs whose topics this run continues.
    pub fn continued_inputs(&self) -> &[ContinuedInput] {
        self.positions.as_ref().map_or(&[], Positions::continued_inputs)
    }

    /// Notes the first file of a followed name. The next input is opened before it is read, so that the files of all names
    /// are kept at once.
    pub(super) fn note_opened(&mut self) -> Result<Polled> {
        let Some(Running { number, input }) = self.running.front_mut() else { return Ok(Polled::Progress) };
        if let Some(positions) = self.positions.as_mut().filter(|_| input.takes_turns()) {
            positions.note_first(*number, input.as_mut())?;
            self.turn()?;
        }
        Ok(Polled::Progress)
    }
}
