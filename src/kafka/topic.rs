//! Topics as an input of a source.

use super::input::KafkaInput;
use super::records::Framed;
use crate::error::Result;
use crate::frame::{Control, How, Progress};
use crate::ingest::{ByteProgress, Ingest};
use crate::input::{Input, InputEnd, Lag, Step};
use std::time::Duration;

impl Input for KafkaInput {
    fn step(&mut self, ingest: &mut Ingest) -> Result<Step> {
        let step = self.read(ingest)?;
        while let Some((framed, complete)) = self.framed() {
            match framed {
                Framed::Schema(schema) => {
                    ingest.take_schema(crate::kind::letters::widened_schema(&schema), &self.name())?;
                }
                Framed::Batch(batch) => ingest.batch(batch, &self.name())?,
                Framed::News(partitions) => {
                    ingest.control(Control::Progress(Progress { partitions, complete, ..Progress::default() }));
                }
                Framed::Watermark(instant) => ingest.control(Control::Watermark(instant)),
            }
        }
        match step {
            Step::End if self.is_framed() => ingest.control(Control::Progress(self.framed_end().0)),
            Step::Stopped => self.stop(ingest),
            _ => {}
        }
        Ok(step)
    }

    fn wait(&mut self, _timeout: Duration) -> Result<()> {
        Ok(())
    }

    fn progress(&self) -> ByteProgress {
        self.extent()
    }

    fn reports_partitions(&self) -> bool {
        self.is_framed()
    }

    fn end(&self) -> InputEnd {
        let verdict = if self.is_framed() { self.framed_end().1 } else { 0 };
        InputEnd { how: How::Exhausted, is_proven: true, verdict }
    }

    fn commits(&self) -> bool {
        true
    }

    fn note(&mut self, ingest: &mut Ingest) -> Result<bool> {
        self.note_positions(ingest)
    }

    fn has_noted(&self) -> bool {
        self.has_noted_positions()
    }

    fn commit(&mut self, ingest: &mut Ingest) -> Result<()> {
        self.commit_positions(ingest)
    }

    fn commit_end(&mut self, ingest: &mut Ingest) -> Result<()> {
        self.commit_last(ingest)
    }

    fn lag(&self, now: i64) -> Vec<Lag> {
        self.lags(now)
    }
}
