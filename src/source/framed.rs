//! Inputs of frames: rows with their stamps and what their stream tells of its partitions, or rows of other programs as
//! text.

use super::{Current, Source};
use crate::error::{Error, Result};
use crate::format::container::Pieces;
use crate::format::{jsonl, row};
use crate::frame::{Control, Finish, Frame, How};
use crate::ingest::Item;
use crate::input::bytes::Bytes;
use crate::input::frames::{FrameInput, Framed};
use crate::kind::event::{RAW, has_raw};
use crate::kind::{Kind, event, letters};
use crate::run::Run;
use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Schema};

/// A stream being read.
pub(super) struct FramedInput {
    pub(super) input: FrameInput,
    /// The batch of another program that is being handed on; none where batches are of our kinds.
    pieces: Option<Pieces>,
    partition: u32,
}

impl Source {
    /// Reads up to the schema, which says what the rows are.
    pub(super) fn open_frames(&mut self, bytes: Bytes, origin: &str) -> Result<()> {
        let mut input = FrameInput::new(bytes, self.run.ratio_max);
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
        let schema = letters::widened_schema(&schema);
        let pieces = match own_kind(&schema) {
            None => Some(Pieces::new(self.limits().text)),
            Some(kind) => {
                self.check_columns(&schema, input.bytes().name())?;
                self.same_kind(kind)?;
                self.ingest.decide_raw(has_raw(&schema));
                self.schema = Some(schema);
                None
            }
        };
        let partition = self.partition(origin);
        self.current = Some(Current::Frames(Box::new(FramedInput { input, pieces, partition })));
        Ok(())
    }

    pub(super) fn step_frames(&mut self, mut framed: Box<FramedInput>) -> Result<()> {
        if let Some(records) = framed.pieces.as_mut().map(Pieces::next_rows).transpose()?.flatten() {
            let bytes = framed.input.bytes();
            self.take_text(&records, bytes.name(), framed.partition)?;
            self.tell(bytes.extent());
            self.current = Some(Current::Frames(framed));
            return Ok(());
        }
        match framed.input.read(Some(Run::TICK))? {
            Framed::Idle => self.send(Item::Idle),
            Framed::Frame(Frame::Batch(batch)) => match &mut framed.pieces {
                Some(pieces) => pieces.push(batch),
                None => self.push_framed(batch, &framed.input)?,
            },
            Framed::Frame(Frame::Control(control)) => self.take_control(control),
            Framed::Frame(Frame::Schema(_) | Frame::Eos) => {}
            Framed::End(finish) => return self.finish_framed(&framed, finish),
            Framed::Stopped => return self.stop(),
        }
        self.current = Some(Current::Frames(framed));
        Ok(())
    }

    /// Rows before the first control message may have been changed by another program.
    fn push_framed(&mut self, batch: RecordBatch, input: &FrameInput) -> Result<()> {
        let name = input.bytes().name();
        if !input.is_controlled() && !jsonl::is_proved(&batch) {
            let kind = Kind::of(batch.schema_ref()).map_or("", Kind::name);
            let told = format!("it says its rows are of kind {kind}, but a JSON column holds none");
            return Err(Error::corrupt(told).at(name));
        }
        self.push_batch(batch, name)
    }

    fn finish_framed(&mut self, framed: &FramedInput, finish: Finish) -> Result<()> {
        if let Finish::Ended(end) = finish {
            self.verdict = self.verdict.max(end.verdict);
            self.how = if end.how == How::Stopped { How::Stopped } else { self.how };
            if framed.pieces.is_none() {
                self.withdraw();
                return Ok(());
            }
        }
        // Rows of no kind may be from a stage of ours all the same: mapped, and proven.
        self.finish_raw(finish != Finish::Foreign)
    }

    pub(super) fn push_batch(&mut self, batch: RecordBatch, name: &str) -> Result<()> {
        let of_event = matches!(Kind::of(batch.schema_ref()), Some(Kind::Event | Kind::Late));
        if of_event && !event::has_instants_in_calendar(&batch) {
            return Err(Error::corrupt("a time lies outside the years 1 to 9999").at(name));
        }
        let is_letters = Kind::of(batch.schema_ref()) == Some(Kind::Dead);
        let batch = if is_letters { letters::widened(batch)? } else { batch };
        let batch = if of_event { self.conform(batch, name)? } else { batch };
        self.framed.taken += batch.num_rows() as u64;
        self.framed.out += batch.num_rows() as u64;
        self.send(Item::Batch(batch));
        Ok(())
    }

    /// Rows with or without their raw records, as those of the first input are.
    fn conform(&mut self, batch: RecordBatch, name: &str) -> Result<RecordBatch> {
        let at = batch.schema_ref().index_of(RAW).ok();
        let has_raw = self.ingest.decide_raw(at.is_some());
        let Some(kind) = Kind::of(batch.schema_ref()).filter(|_| has_raw != at.is_some()) else { return Ok(batch) };
        if !has_raw && !std::mem::replace(&mut self.left_raw, true) {
            self.run.console.warn(format!("{name}: its raw records are left out: the first input has none"));
        }
        let mut columns = batch.columns()[..kind.schema().fields().len()].to_vec();
        if has_raw {
            columns.push(new_null_array(&DataType::Binary, batch.num_rows()));
        }
        Ok(RecordBatch::try_new(kind.schema_with(has_raw), columns)?)
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
                    self.ingest.stamper.take_over(self.input, &partition.origin, &partition.partition);
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
        if self.ingest.stamper.withdraw(self.input) {
            self.ingest.progress(self.is_complete(), self.read);
        }
    }
}

/// The kind whose columns a stream has, or pretends to have. Another program may have left some out, added others or
/// written them as other types: such rows are read by their columns.
fn own_kind(schema: &Schema) -> Option<Kind> {
    let kind = Kind::of(schema)?;
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let added = &schema.fields()[schema.fields().len().min(kind.schema().fields().len())..];
    let has_its_columns =
        kind.leads(schema) && added.iter().all(|field| field.name() == RAW && *field.data_type() == DataType::Binary);
    (has_its_columns || row::kind_of(&names) != kind).then_some(kind)
}
