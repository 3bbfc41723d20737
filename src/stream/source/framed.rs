//! Inputs of frames: rows with their stamps, and what their stream tells of its partitions.

use super::{Current, Source};
use crate::error::{Error, Result};
use crate::format::{Records, jsonl};
use crate::frame::{Control, Finish, Frame, How};
use crate::kind::{Kind, dead as letters, event};
use crate::stream::dead::DeadLetters;
use crate::stream::frames::{FrameInput, Framed};
use crate::stream::input::Bytes;
use crate::stream::intake::Item;
use crate::stream::run::Run;
use arrow::array::RecordBatch;

impl Source {
    /// Reads up to the schema, which says what the rows are.
    pub(super) fn open_frames(&mut self, bytes: Bytes, origin: &str) -> Result<()> {
        let mut input = Box::new(FrameInput::new(bytes));
        let schema = match input.read(None)? {
            Framed::Frame(Frame::Schema(schema)) => schema,
            Framed::Stopped => {
                self.end_stopped();
                return Ok(());
            }
            _ => return Err(Error::corrupt("the stream does not start with a schema").at(input.bytes().name())),
        };
        // Whoever has begun to send frames through a pipe sends an end as well.
        let heed = self.options.raw_only || input.bytes().is_plain_file();
        input.bytes().set_heed(heed);
        self.run.stop.set_behind_pipe(!heed);
        let foreign = Kind::of(&schema).is_none();
        if let Some(kind) = Kind::of(&schema) {
            let schema = letters::widened_schema(&schema);
            self.check_columns(&schema, input.bytes().name())?;
            self.same_kind(kind)?;
            self.schema = Some(schema);
        }
        let partition = self.partition(origin);
        self.current = Some(Current::Frames { input, foreign, partition });
        Ok(())
    }

    pub(super) fn step_frames(
        &mut self,
        mut input: Box<FrameInput>,
        foreign: bool,
        partition: u32,
        dead: &mut DeadLetters,
    ) -> Result<()> {
        match input.read(Some(Run::TICK))? {
            Framed::Idle => self.send(Item::Idle),
            Framed::Frame(Frame::Batch(batch)) if foreign => {
                let mut records = Records::default();
                let first = self.intake.counts().taken + 1;
                jsonl::rows_to_json(&batch, first, &mut records)?;
                let name = input.bytes().name().to_owned();
                self.take_text(&records, &name, partition, dead)?;
                self.tell(input.bytes().extent());
            }
            Framed::Frame(Frame::Batch(batch)) => self.push_batch(batch, input.bytes().name())?,
            Framed::Frame(Frame::Control(control)) => self.take_control(control),
            Framed::Frame(Frame::Schema(_) | Frame::Eos) => {}
            Framed::End(Finish::Ended(end)) => {
                self.verdict = self.verdict.max(end.verdict);
                self.how = if end.how == How::Stopped { How::Stopped } else { self.how };
                if foreign {
                    // Rows of no kind, from a stage of ours all the same: mapped, and proven.
                    self.finish_raw(true, dead)?;
                } else {
                    self.withdraw();
                }
                return Ok(());
            }
            Framed::End(Finish::Foreign) => {
                return self.finish_raw(false, dead);
            }
            Framed::Stopped => return self.stop(dead),
        }
        self.current = Some(Current::Frames { input, foreign, partition });
        Ok(())
    }

    pub(super) fn push_batch(&mut self, batch: RecordBatch, name: &str) -> Result<()> {
        let of_event = matches!(Kind::of(batch.schema_ref()), Some(Kind::Event | Kind::Late));
        if of_event && !event::has_instants_in_calendar(&batch) {
            return Err(Error::corrupt("a time lies outside the years 1 to 9999").at(name));
        }
        let is_letters = Kind::of(batch.schema_ref()) == Some(Kind::Dead);
        let batch = if is_letters { letters::widened(batch)? } else { batch };
        self.framed.taken += batch.num_rows() as u64;
        self.framed.out += batch.num_rows() as u64;
        self.send(Item::Batch(batch));
        Ok(())
    }

    /// What a framed input says, as this source says it: only the last input completes the partitions.
    pub(super) fn take_control(&mut self, control: Control) {
        let control = match control {
            Control::End(_) => return,
            Control::Progress(mut progress) => {
                let is_known = progress.complete;
                progress.complete = is_known && self.pending.is_empty();
                for partition in &mut progress.partitions {
                    partition.input = self.input;
                    self.intake.stamper.take_over(self.input, &partition.origin, &partition.partition);
                }
                self.send(Item::Control(Control::Progress(progress)));
                if is_known {
                    self.withdraw();
                }
                return;
            }
            other => other,
        };
        self.send(Item::Control(control));
    }

    /// A stream has told of its own partitions: what was announced in their stead holds no watermark back any more.
    pub(super) fn withdraw(&mut self) {
        if self.intake.stamper.withdraw(self.input) {
            self.intake.progress(self.is_complete(), self.read);
        }
    }
}
