//! Encodes batches and control messages to bytes.

use super::control::Control;
use super::decode::Passed;
use super::message::{ALIGNMENT, HEADER_MAX, MARK, Metadata, framed, of_rows};
use crate::error::{Error, Result};
use arrow::array::{Array, ArrayData, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow_ipc::root_as_message;
use arrow_ipc::writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteOptions};

/// Encodes one stream. Each call returns pieces to be written in order, in one write if possible.
pub struct Encoder {
    schema: SchemaRef,
    generator: IpcDataGenerator,
    tracker: DictionaryTracker,
    options: IpcWriteOptions,
    /// A batch without rows as arrow writes it: the carrier of control messages.
    empty: Option<EncodedData>,
    /// The dictionaries sent last, if all of them are known.
    words: Vec<ArrayData>,
    rows: u64,
}

impl Encoder {
    /// Starts a stream of `schema`; returns the encoder and the first bytes.
    pub fn new(schema: SchemaRef) -> (Self, Vec<u8>) {
        let options = IpcWriteOptions::default();
        let mut tracker = DictionaryTracker::new(false);
        let generator = IpcDataGenerator::default();
        let encoded = generator.schema_to_bytes_with_dictionary_tracker(&schema, &mut tracker, &options);
        let encoder = Self { schema, generator, tracker, options, empty: None, words: vec![], rows: 0 };
        (encoder, framed(&encoded.ipc_message))
    }

    /// Returns the number of rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Encodes a batch: dictionaries that changed, then the rows. Large buffers are shared with the batch.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<Buffer>> {
        self.rows += batch.num_rows() as u64;
        let mut pieces = self.dictionaries(batch)?;
        match of_rows(batch) {
            Some(rows) => pieces.extend(rows),
            None => {
                let (_, rows) = self.encode(batch)?;
                pieces.push(framed(&rows.ipc_message).into());
                pieces.push(rows.arrow_data.into());
            }
        }
        Ok(pieces)
    }

    /// Encodes a message that was passed on without its bytes.
    pub fn passed(&mut self, message: &Passed) -> Result<Vec<Buffer>> {
        match message {
            Passed::Batch(batch) => self.batch(batch),
            Passed::Control(control) => self.control(control),
            Passed::Eos => Ok(vec![self.finish().into()]),
        }
    }

    /// Encodes a control message as batches without rows. Progress of many partitions takes several.
    pub fn control(&mut self, control: &Control) -> Result<Vec<Buffer>> {
        let Control::Progress(progress) = control else { return self.message(control) };
        let mut pieces = vec![];
        for part in progress.parts() {
            pieces.extend(self.message(&Control::Progress(part))?);
        }
        Ok(pieces)
    }

    fn message(&mut self, control: &Control) -> Result<Vec<Buffer>> {
        let mut pieces = match &self.empty {
            Some(_) => vec![],
            None => self.dictionaries(&RecordBatch::new_empty(self.schema.clone()))?,
        };
        let empty = self.empty.as_ref().ok_or_else(|| Error::broken("a control frame before its schema"))?;
        let (key, value) = control.to_metadata()?;
        let broken = |why: &str| Error::broken("control frame").because(why);
        let message = root_as_message(&empty.ipc_message).map_err(|error| broken(&error.to_string()))?;
        let metadata = Metadata { key, value: &value };
        let message = metadata.added_to(message).ok_or_else(|| broken("no record batch"))?;
        if message.len() > HEADER_MAX - ALIGNMENT {
            return Err(Error::config("the name of a partition is too long for a frame"));
        }
        pieces.push(framed(&message).into());
        pieces.push(Buffer::from(&empty.arrow_data[..]));
        Ok(pieces)
    }

    /// Encodes the batch's dictionaries that changed.
    ///
    /// Arrow encodes the batch without its rows to find them. The resulting empty batch carries control messages from
    /// here on: an empty batch of the schema alone would replace every dictionary by an empty one, and all would be
    /// sent again.
    fn dictionaries(&mut self, batch: &RecordBatch) -> Result<Vec<Buffer>> {
        // Mostly they are the same arrays as in the last batch, so their addresses are compared, not their contents.
        let values = |column: &ArrayRef| Some(column.as_any_dictionary_opt()?.values().to_data());
        let words: Vec<ArrayData> = batch.columns().iter().filter_map(values).collect();
        let is_flat = !batch.columns().iter().any(|column| column.data_type().is_nested());
        let is_same = |(new, old): (&ArrayData, &ArrayData)| new.ptr_eq(old);
        if is_flat && self.empty.is_some() && words.iter().zip(&self.words).all(is_same) {
            return Ok(vec![]);
        }
        let (dictionaries, empty) = self.encode(&batch.slice(0, 0))?;
        self.empty = Some(empty);
        self.words = words;
        let pieces = dictionaries.into_iter().flat_map(|it| [framed(&it.ipc_message).into(), it.arrow_data.into()]);
        Ok(pieces.collect())
    }

    fn encode(&mut self, batch: &RecordBatch) -> Result<(Vec<EncodedData>, EncodedData)> {
        Ok(self.generator.encode(batch, &mut self.tracker, &self.options, &mut Default::default())?)
    }

    /// Returns Arrow's end-of-stream marker; write it only if the end is proven.
    pub fn finish(&self) -> Vec<u8> {
        let mut bytes = MARK.to_vec();
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }
}
