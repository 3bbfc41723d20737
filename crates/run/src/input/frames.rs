//! Frames from a file or a pipe: rows with their stamps, and control messages about their partitions. The input reads
//! rows of other programs as text.

use super::bytes::{Bytes, ReadMessage, ReadOutcome};
use super::{EndProof, Input, InputEnd, Step};
use crate::checkpoint::header::CHECKPOINT_KEY;
use crate::emit::{ByteProgress, Chunk, RecordEmitter};
use crate::run::Run;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use evt_core::error::{Error, Result};
use evt_core::format::container::Pieces;
use evt_core::format::{jsonl, row};
use evt_core::frame::{Control, End, EndReason, Finish, Frame};
use evt_core::kind::event::RAW;
use evt_core::kind::record_parts::is_framed;
use evt_core::kind::{Kind, older};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A reader of frames.
pub struct FrameReader {
    bytes: Bytes,
    decoder: evt_core::frame::Decoder,
}

/// The result of [`FrameReader::read`].
pub enum Framed {
    /// A frame.
    Frame(Frame),
    /// The end of the stream: proven by evt's `end` frame, or only by Arrow's marker.
    End(Finish),
    /// There is nothing to read now.
    Idle,
    /// A signal stopped the reading before the end.
    Stopped,
}

impl FrameReader {
    /// Makes a reader of `bytes`; a column may decompress to at most `ratio_max` times its size.
    pub fn new(bytes: Bytes, ratio_max: u64) -> Self {
        Self { bytes, decoder: evt_core::frame::Decoder::new(ratio_max) }
    }

    /// Reads the next frame; waits at most `timeout`, without limit if it is `None`. Errors: exit status 65 if the
    /// stream is torn.
    pub fn read(&mut self, timeout: Option<Duration>) -> Result<Framed> {
        loop {
            let message = if self.decoder.is_between() { self.bytes.read_message(timeout)? } else { None };
            let read = match message {
                None => ReadMessage::None(self.bytes.read(self.decoder.space(), timeout)?),
                Some(read) => read,
            };
            let at = |error: Error| error.at(self.bytes.name());
            let frame = match read {
                ReadMessage::Message(message) => self.decoder.pass(message),
                ReadMessage::None(ReadOutcome::Bytes(count)) => self.decoder.filled(count),
                ReadMessage::None(ReadOutcome::Idle) => return Ok(Framed::Idle),
                ReadMessage::None(ReadOutcome::End) => return self.decoder.finish().map(Framed::End).map_err(at),
                ReadMessage::None(ReadOutcome::Stopped) => return Ok(Framed::Stopped),
            };
            if let Some(frame) = frame.map_err(at)? {
                return Ok(Framed::Frame(frame));
            }
        }
    }
}

/// The origin of the rows of a stream.
enum StreamRows {
    /// The schema has not been read yet.
    Unknown,
    /// Rows of one of evt's kinds, with their stamps.
    Own,
    /// Rows of another program; holds the batch that is being converted to text.
    Foreign(Pieces),
}

/// An input of frames.
pub struct FrameInput {
    reader: FrameReader,
    run: Rc<Run>,
    origin: String,
    /// Whether a signal stops the reading at once. If not, a pipe is read to the end that the stage before this one
    /// sends.
    raw_only: bool,
    /// Whether the stage may join the checkpoint of the pipe.
    joins: bool,
    /// Whether the stream is that of a pipe with a checkpoint, whose stages end together.
    is_checkpointed: bool,
    rows: StreamRows,
    /// The partition of rows of another program.
    partition: u32,
    finish: Option<Finish>,
}

impl FrameInput {
    /// Makes an input of `bytes`; rows of other programs get `origin`. `raw_only`: a signal stops the reading at once;
    /// `joins`: the stage may join the checkpoint of the pipe.
    pub fn new(bytes: Bytes, run: Rc<Run>, origin: &str, raw_only: bool, joins: bool) -> Self {
        let reader = FrameReader::new(bytes, run.ratio_max);
        let origin = origin.to_owned();
        Self {
            reader,
            run,
            origin,
            raw_only,
            joins,
            is_checkpointed: false,
            rows: StreamRows::Unknown,
            partition: 0,
            finish: None,
        }
    }

    fn take(&mut self, frame: Frame, emitter: &mut RecordEmitter) -> Result<()> {
        match (frame, &mut self.rows) {
            (Frame::Schema(schema), StreamRows::Unknown) => self.begin(&schema, emitter),
            (_, StreamRows::Unknown) => Err(self.without_schema()),
            (Frame::Batch(batch), StreamRows::Foreign(pieces)) => {
                pieces.push(batch);
                Ok(())
            }
            (Frame::Batch(batch), StreamRows::Own) => {
                self.check_json(&batch)?;
                emitter.batch(batch, self.reader.bytes.name())
            }
            (Frame::Control(Control::End(_)) | Frame::Schema(_) | Frame::Eos, _) => Ok(()),
            (Frame::Control(control), _) => {
                self.check_barrier(&control)?;
                emitter.stamp_mut().control(control);
                Ok(())
            }
        }
    }

    /// Determines from the schema whether the rows are evt's own.
    fn begin(&mut self, schema: &SchemaRef, emitter: &mut RecordEmitter) -> Result<()> {
        let bytes = &self.reader.bytes;
        // The stage that sends the frames through a pipe stops at the signal too, and then sends the `end` frame: read
        // up to it.
        let stops_at_signals = self.raw_only || bytes.is_plain_file();
        bytes.set_stops_at_signals(stops_at_signals);
        self.run.stop.set_behind_pipe(!stops_at_signals);
        let schema = self.checkpointed(older::widened_schema(schema))?;
        let bytes = &self.reader.bytes;
        self.rows = match own_kind(&schema) {
            None => StreamRows::Foreign(Pieces::new(emitter.run().line_max())),
            Some(_) => {
                emitter.take_schema(schema, bytes.name())?;
                StreamRows::Own
            }
        };
        self.partition = emitter.stamp_mut().unnamed(&self.origin);
        Ok(())
    }

    /// Ends the input. Errors: exit status 65 if the stream is that of a pipe with a checkpoint, but has no control
    /// messages.
    fn end_at(&mut self, finish: Finish, emitter: &mut RecordEmitter) -> Result<Step> {
        if self.is_checkpointed && matches!(finish, Finish::Foreign) {
            return Err(self.dropped());
        }
        self.finish = Some(finish);
        if self.reports_partitions() {
            emitter.stamp_mut().withdraw();
        }
        Ok(Step::End)
    }

    /// Notes whether the stream is that of a pipe with a checkpoint; returns its schema. A file has only a copy of such
    /// a stream, so its schema is returned without the key of the checkpoint. Errors: exit status 2 if the tool cannot
    /// be a stage of such a pipe.
    fn checkpointed(&mut self, schema: SchemaRef) -> Result<SchemaRef> {
        let bytes = &self.reader.bytes;
        if !schema.metadata().contains_key(CHECKPOINT_KEY) {
            return Ok(schema);
        }
        if bytes.is_plain_file() {
            let mut schema = Schema::clone(&schema);
            schema.metadata.remove(CHECKPOINT_KEY);
            return Ok(Arc::new(schema));
        }
        if !self.joins {
            let why = "expected a stream without a checkpoint, or one as the only input of a tool that writes each row before the end \
                       of the input; found other inputs, evt-alert, evt-backfill or evt-reconcile, or a flag that needs the whole \
                       input (--describe, --head, --plot, --sort, --summary, --tail)";
            return Err(Error::usage(why).at(bytes.name()));
        }
        self.is_checkpointed = true;
        Ok(schema)
    }

    /// Checks that a barrier in a pipe belongs to a checkpoint; a file may be a copy of such a stream. Errors: exit
    /// status 65.
    fn check_barrier(&self, control: &Control) -> Result<()> {
        let bytes = &self.reader.bytes;
        if self.is_checkpointed || bytes.is_plain_file() || !matches!(control, Control::Barrier(_)) {
            return Ok(());
        }
        let message = "found a barrier, but no evt.checkpoint in the schema: a program between two stages has changed the schema; connect \
                       the stages directly";
        Err(Error::corrupt(message).at(bytes.name()))
    }

    /// Checks that columns of JSON hold JSON, because another program may have changed the rows. A stream that has had
    /// a control message comes from evt and is not checked. Errors: exit status 65.
    fn check_json(&self, batch: &RecordBatch) -> Result<()> {
        if self.reader.decoder.is_controlled() || jsonl::is_proved(batch) {
            return Ok(());
        }
        let kind = Kind::of(batch.schema_ref()).map_or("", Kind::name);
        let message = format!("expected JSON in a column of kind {kind}, found other text");
        Err(Error::corrupt(message).at(self.reader.bytes.name()))
    }

    /// Makes the error of a stream without control messages: no barrier would end an epoch. Exit status 65.
    #[cold]
    fn dropped(&self) -> Error {
        let message = "expected the control messages of a pipe with a checkpoint, found none: a program between two stages has dropped \
                       them; let the stage read the one before it directly";
        Error::corrupt(message).at(self.reader.bytes.name())
    }

    #[cold]
    fn without_schema(&self) -> Error {
        Error::corrupt("the stream does not start with a schema").at(self.reader.bytes.name())
    }
}

impl Input for FrameInput {
    fn step(&mut self, emitter: &mut RecordEmitter) -> Result<Step> {
        if let StreamRows::Foreign(pieces) = &mut self.rows
            && let Some(records) = pieces.next_rows()?
        {
            emitter.records(Chunk::new(records, self.reader.bytes.name().into(), self.partition))?;
            return Ok(Step::More);
        }
        match self.reader.read(Some(Duration::ZERO))? {
            Framed::Idle => Ok(Step::Idle),
            // The stage before waits until this one has completed the last epoch, and keeps the stream open.
            Framed::Frame(Frame::Eos) if self.is_checkpointed => self.end_at(self.reader.decoder.finish()?, emitter),
            Framed::Frame(frame) => self.take(frame, emitter).map(|()| Step::More),
            Framed::Stopped => Ok(Step::Stopped),
            Framed::End(_) if matches!(self.rows, StreamRows::Unknown) => Err(self.without_schema()),
            Framed::End(finish) => self.end_at(finish, emitter),
        }
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        self.reader.bytes.wait(timeout)
    }

    fn progress(&self) -> ByteProgress {
        self.reader.bytes.progress()
    }

    fn reports_partitions(&self) -> bool {
        let is_proven = matches!(self.finish, None | Some(Finish::Ended(_)));
        !matches!(self.rows, StreamRows::Foreign(_)) && is_proven
    }

    fn end(&self) -> InputEnd {
        // A stream of foreign rows can still have evt's proof of its end.
        match self.finish {
            Some(Finish::Ended(End { how, verdict, .. })) => InputEnd { how, proof: EndProof::Proven, verdict },
            Some(Finish::Foreign) => InputEnd { how: EndReason::Exhausted, proof: EndProof::Missing, verdict: 0 },
            _ => InputEnd { how: EndReason::Exhausted, proof: EndProof::Proven, verdict: 0 },
        }
    }
}

/// Returns the kind that the schema declares; `None` if the rows must be read as foreign rows, by the names of their
/// columns. That is the case without a kind, and if another program has removed, added or retyped columns and the
/// remaining names still indicate that kind.
fn own_kind(schema: &Schema) -> Option<Kind> {
    let kind = Kind::of(schema)?;
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let added = &schema.fields()[schema.fields().len().min(kind.schema().fields().len())..];
    let is_raw = |field: &Field| field.name() == RAW && *field.data_type() == DataType::Binary;
    let is_known = |field: &Field| is_raw(field) || kind == Kind::Event && is_framed(field);
    let has_its_columns = kind.leads(schema) && added.iter().all(|field| is_known(field));
    (has_its_columns || row::kind_of(&names) != kind).then_some(kind)
}
