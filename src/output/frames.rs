//! An output of frames: their bytes to a file or another process, or messages to the next stage of this process.

use super::file::{self, Ended, Plain};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use evt_core::error::Result;
use evt_core::frame::{self, Control, End, EndReason, Passed};
use evt_run::run::Run;
use evt_run::run::link::PassingOutput;

/// A stream of frames that has begun.
pub struct FrameOutput {
    target: FrameTarget,
    has_ended: bool,
}

enum FrameTarget {
    Bytes(Box<frame::Encoder>, Plain),
    Passing(PassingOutput),
}

impl FrameOutput {
    /// Begins a stream to standard output.
    pub fn to_stdout(schema: &SchemaRef, run: &Run) -> Result<Self> {
        match run.io.passing(schema, &run.stop)? {
            Some(passing) => Ok(Self { target: FrameTarget::Passing(passing), has_ended: false }),
            None => Self::to_file(Plain::Standard(run.io.stdout(&run.stop)?), schema),
        }
    }

    /// Begins a stream to a file.
    pub fn to_file(mut file: Plain, schema: &SchemaRef) -> Result<Self> {
        let (encoder, head) = frame::Encoder::new(schema.clone());
        file.write(&[&head])?;
        Ok(Self { target: FrameTarget::Bytes(Box::new(encoder), file), has_ended: false })
    }

    /// Writes a batch; returns about the number of its bytes.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<u64> {
        match &mut self.target {
            FrameTarget::Bytes(encoder, file) => {
                let pieces = encoder.batch(batch)?;
                let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
                file.write_pieces(pieces)?;
                Ok(bytes)
            }
            FrameTarget::Passing(passing) => {
                passing.send(Passed::Batch(batch.clone())).map_err(file::unread)?;
                Ok(batch.get_array_memory_size() as u64)
            }
        }
    }

    /// Writes a control message.
    pub fn control(&mut self, message: &Control) -> Result<()> {
        match &mut self.target {
            FrameTarget::Bytes(encoder, file) => file.write_pieces(encoder.control(message)?),
            FrameTarget::Passing(passing) => passing.send(Passed::Control(message.clone())).map_err(file::unread),
        }
    }

    /// Sends the end, and keeps the stream open.
    pub fn send_end(&mut self, end: &End) -> Result<()> {
        if std::mem::replace(&mut self.has_ended, true) {
            return Ok(());
        }
        match &mut self.target {
            FrameTarget::Bytes(encoder, file) => {
                let mut pieces = encoder.control(&Control::End(End { rows: encoder.rows(), ..*end }))?;
                pieces.push(encoder.finish().into());
                file.write_pieces(pieces)
            }
            FrameTarget::Passing(passing) => {
                let last = Control::End(End { rows: passing.rows(), ..*end });
                let sent = passing.send(Passed::Control(last)).and_then(|()| passing.send(Passed::Eos));
                sent.map_err(file::unread)
            }
        }
    }

    /// Closes the stream, whose end is sent.
    pub fn finish(self, how: EndReason) -> Result<Ended> {
        match self.target {
            FrameTarget::Bytes(_, file) => file.finish(how),
            FrameTarget::Passing(_) => Ok(Ended::default()),
        }
    }
}
