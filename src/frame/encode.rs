//! Batches and control messages to bytes.

use super::{Control, MARK};
use crate::error::{Error, Result};
use arrow::array::{ArrayRef, AsArray, DictionaryArray, RecordBatch, new_empty_array};
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_ipc::{KeyValue, KeyValueArgs, MessageBuilder, MessageHeader, RecordBatchBuilder, root_as_message};
use flatbuffers::FlatBufferBuilder;
use std::sync::Arc;

/// Makes the bytes of one stream. Each call returns pieces to be written in order, in one write if possible.
pub struct Encoder {
    schema: SchemaRef,
    generator: IpcDataGenerator,
    tracker: DictionaryTracker,
    options: IpcWriteOptions,
    last: Option<RecordBatch>,
    rows: u64,
}

impl Encoder {
    /// A stream of `schema`, and its first bytes.
    pub fn new(schema: SchemaRef) -> (Self, Vec<u8>) {
        let options = IpcWriteOptions::default();
        let mut tracker = DictionaryTracker::new(false);
        let generator = IpcDataGenerator::default();
        let encoded = generator.schema_to_bytes_with_dictionary_tracker(&schema, &mut tracker, &options);
        let encoder = Self { schema, generator, tracker, options, last: None, rows: 0 };
        (encoder, head(&encoded.ipc_message))
    }

    /// Rows encoded so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The frames of a batch: dictionaries that changed, then the rows.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
        self.rows += batch.num_rows() as u64;
        let (dictionaries, rows) =
            self.generator.encode(batch, &mut self.tracker, &self.options, &mut Default::default())?;
        let mut pieces = Vec::with_capacity(2 * dictionaries.len() + 2);
        for dictionary in dictionaries {
            pieces.push(head(&dictionary.ipc_message));
            pieces.push(dictionary.arrow_data);
        }
        pieces.push(head(&rows.ipc_message));
        pieces.push(rows.arrow_data);
        self.last = Some(emptied(batch)?);
        Ok(pieces)
    }

    /// The frame of a control message: a batch without rows.
    ///
    /// It is cut from the last batch, because an empty one of its own would replace every dictionary by an empty one
    /// and have all of them sent again.
    pub fn control(&mut self, control: &Control) -> Result<Vec<Vec<u8>>> {
        let empty = self.last.clone().unwrap_or_else(|| RecordBatch::new_empty(self.schema.clone()));
        let (dictionaries, rows) =
            self.generator.encode(&empty, &mut self.tracker, &self.options, &mut Default::default())?;
        let mut pieces = Vec::with_capacity(2 * dictionaries.len() + 2);
        for dictionary in dictionaries {
            pieces.push(head(&dictionary.ipc_message));
            pieces.push(dictionary.arrow_data);
        }
        let (key, value) = control.to_metadata()?;
        pieces.push(head(&with_metadata(&rows.ipc_message, key, &value)?));
        pieces.push(rows.arrow_data);
        Ok(pieces)
    }

    /// Arrow's end-of-stream marker; written only when the end is proven.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = MARK.to_vec();
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }
}

/// No rows of the batch, with its dictionaries, and without a hold on the memory of its rows.
fn emptied(batch: &RecordBatch) -> Result<RecordBatch> {
    let empty = |column: &ArrayRef| -> Result<ArrayRef> {
        match (column.data_type(), column.as_dictionary_opt::<Int32Type>()) {
            (_, Some(codes)) => {
                Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(Vec::<i32>::new().into(), codes.values().clone())?))
            }
            (DataType::Dictionary(..), None) => Ok(column.slice(0, 0)),
            (plain, None) => Ok(new_empty_array(plain)),
        }
    };
    let columns = batch.columns().iter().map(empty).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// The mark, the padded length and the message, padded so that the body is aligned to 64 bytes.
fn head(message: &[u8]) -> Vec<u8> {
    let total = (8 + message.len()).next_multiple_of(64);
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&MARK);
    bytes.extend_from_slice(&((total - 8) as i32).to_le_bytes());
    bytes.extend_from_slice(message);
    bytes.resize(total, 0);
    bytes
}

/// The record batch message `message` with one metadata pair added; arrow's writer has no way to add any.
fn with_metadata(message: &[u8], key: &str, value: &str) -> Result<Vec<u8>> {
    let broken = |why: &str| Error::broken("control frame").because(why);
    let message = root_as_message(message).map_err(|error| broken(&error.to_string()))?;
    let batch = message.header_as_record_batch().ok_or_else(|| broken("no record batch"))?;
    let mut builder = FlatBufferBuilder::new();
    let key = builder.create_string(key);
    let value = builder.create_string(value);
    let pair = KeyValue::create(&mut builder, &KeyValueArgs { key: Some(key), value: Some(value) });
    let metadata = builder.create_vector(&[pair]);
    let nodes: Vec<_> = batch.nodes().into_iter().flatten().copied().collect();
    let nodes = builder.create_vector(&nodes);
    let buffers: Vec<_> = batch.buffers().into_iter().flatten().copied().collect();
    let buffers = builder.create_vector(&buffers);
    let mut header = RecordBatchBuilder::new(&mut builder);
    header.add_length(batch.length());
    header.add_nodes(nodes);
    header.add_buffers(buffers);
    let header = header.finish();
    let mut out = MessageBuilder::new(&mut builder);
    out.add_version(message.version());
    out.add_header_type(MessageHeader::RecordBatch);
    out.add_bodyLength(message.bodyLength());
    out.add_header(header.as_union_value());
    out.add_custom_metadata(metadata);
    let root = out.finish();
    builder.finish(root, None);
    Ok(builder.finished_data().to_vec())
}
