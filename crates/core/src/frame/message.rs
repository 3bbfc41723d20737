//! Builds record batch messages where arrow's writer does not fit: it copies every buffer, and cannot add metadata.
//!
//! Layout: `Message.fbs` and "Encapsulated message format" of the Arrow columnar format.

use arrow::array::{Array, ArrayData, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;
use arrow_ipc::{
    FieldNode, KeyValue, KeyValueArgs, Message, MessageBuilder, MessageHeader, MetadataVersion, RecordBatchBuilder,
};
use flatbuffers::FlatBufferBuilder;

/// Schema metadata key: the stages a stream has passed, comma-separated; each appends itself.
pub const STAGES_KEY: &str = "evt.stages";
/// Schema metadata key: the name of the pipeline.
pub const PIPELINE_KEY: &str = "evt.pipeline";
/// Schema metadata key: `explicit` if watermarks come from control frames alone.
pub const WATERMARK_KEY: &str = "evt.watermarks";

/// Schema metadata key: `true` if every input of the stages so far ends by itself. It means nothing outside of a pipe.
pub const BOUNDED_KEY: &str = "evt.bounded";
/// Schema metadata key: `true` if a stage has left out rows outside of a range of time (`--since`, `--until`,
/// `--last`).
pub const RANGED_KEY: &str = "evt.ranged";

/// Maximum bytes of a message header.
pub(super) const HEADER_MAX: usize = 16 << 20;
/// Maximum bytes of a message body.
pub(super) const BODY_MAX: usize = 1 << 30;
/// The continuation marker before every message; the length of the header follows it.
pub(super) const MARK: [u8; 4] = [0xff; 4];

/// Alignment of buffers in a body, in bytes; arrow's own choice.
pub(super) const ALIGNMENT: usize = 64;

/// Buffers shorter than this (bytes) are copied together: a piece of its own costs more than the copy.
const SMALL: usize = 2 << 10;

/// A pair of a message's metadata.
pub struct Metadata<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its value.
    pub value: &'a str,
}

impl Metadata<'_> {
    /// Returns the record batch message `message` with this pair added; `None` for a message of another kind.
    pub fn added_to(&self, message: Message<'_>) -> Option<Vec<u8>> {
        let batch = message.header_as_record_batch()?;
        let nodes: Vec<_> = batch.nodes().into_iter().flatten().copied().collect();
        let buffers: Vec<_> = batch.buffers().into_iter().flatten().copied().collect();
        let sizes = Sizes { rows: batch.length(), body: message.bodyLength() };
        Some(record_batch(&nodes, &buffers, &sizes, Some(self)))
    }
}

/// Returns the mark, the padded length and the message, padded so that the body is aligned.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let total = (8 + message.len()).next_multiple_of(ALIGNMENT);
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&MARK);
    bytes.extend_from_slice(&((total - 8) as i32).to_le_bytes());
    bytes.extend_from_slice(message);
    bytes.resize(total, 0);
    bytes
}

/// Returns the frame of a batch's rows, in pieces; `None` if a column is nested, sliced or of a type whose layout is
/// not implemented here: arrow's writer encodes those.
pub fn of_rows(batch: &RecordBatch) -> Option<Vec<Buffer>> {
    if batch.num_rows() == 0 {
        return None;
    }
    let mut body = Body::default();
    for column in batch.columns() {
        body.column(&column.to_data())?;
    }
    body.flush();
    let sizes = Sizes { rows: batch.num_rows() as i64, body: body.length as i64 };
    let message = record_batch(&body.nodes, &body.buffers, &sizes, None);
    body.pieces[0] = framed(&message).into();
    Some(body.pieces)
}

struct Sizes {
    rows: i64,
    body: i64,
}

fn record_batch(
    nodes: &[FieldNode],
    buffers: &[arrow_ipc::Buffer],
    sizes: &Sizes,
    metadata: Option<&Metadata<'_>>,
) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let metadata = metadata.map(|Metadata { key, value }| {
        let (key, value) = (builder.create_string(key), builder.create_string(value));
        let pair = KeyValue::create(&mut builder, &KeyValueArgs { key: Some(key), value: Some(value) });
        builder.create_vector(&[pair])
    });
    let nodes = builder.create_vector(nodes);
    let buffers = builder.create_vector(buffers);
    let mut header = RecordBatchBuilder::new(&mut builder);
    header.add_length(sizes.rows);
    header.add_nodes(nodes);
    header.add_buffers(buffers);
    let header = header.finish();
    let mut message = MessageBuilder::new(&mut builder);
    message.add_version(MetadataVersion::V5);
    message.add_header_type(MessageHeader::RecordBatch);
    message.add_bodyLength(sizes.body);
    message.add_header(header.as_union_value());
    if let Some(metadata) = metadata {
        message.add_custom_metadata(metadata);
    }
    let root = message.finish();
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

/// The body of a record batch under construction.
struct Body {
    nodes: Vec<FieldNode>,
    buffers: Vec<arrow_ipc::Buffer>,
    /// The first is reserved for the message.
    pieces: Vec<Buffer>,
    /// Bytes after the last piece.
    small: Vec<u8>,
    length: usize,
}

impl Default for Body {
    fn default() -> Self {
        Self { nodes: vec![], buffers: vec![], pieces: vec![Buffer::default()], small: vec![], length: 0 }
    }
}

impl Body {
    fn column(&mut self, column: &ArrayData) -> Option<()> {
        let rows = column.len();
        if column.offset() != 0 {
            return None;
        }
        self.nodes.push(FieldNode::new(rows as i64, column.null_count() as i64));
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        self.buffer(nulls.map_or_else(Buffer::default, |nulls| nulls.inner().sliced()));
        let first = column.buffers().first()?;
        let width = match column.data_type() {
            DataType::Utf8 | DataType::Binary => return self.texts(rows, first, column.buffers().get(1)?),
            DataType::FixedSizeBinary(width) => usize::try_from(*width).ok()?,
            DataType::Dictionary(codes, _) => codes.primitive_width()?,
            plain => plain.primitive_width()?,
        };
        self.buffer(prefix(first, rows * width)?);
        Some(())
    }

    fn texts(&mut self, rows: usize, offsets: &Buffer, values: &Buffer) -> Option<()> {
        let ends = offsets.typed_data::<i32>().get(..=rows)?;
        let (first, last) = (ends.first()?, usize::try_from(*ends.last()?).ok()?);
        if *first != 0 {
            return None;
        }
        self.buffer(prefix(offsets, (rows + 1) * size_of::<i32>())?);
        self.buffer(prefix(values, last)?);
        Some(())
    }

    fn buffer(&mut self, bytes: Buffer) {
        let (length, padded) = (bytes.len(), bytes.len().next_multiple_of(ALIGNMENT));
        self.buffers.push(arrow_ipc::Buffer::new(self.length as i64, length as i64));
        self.length += padded;
        if length < SMALL {
            self.small.extend_from_slice(&bytes);
        } else {
            self.flush();
            self.pieces.push(bytes);
        }
        self.small.resize(self.small.len() + padded - length, 0);
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(std::mem::take(&mut self.small).into());
        }
    }
}

/// Returns the first `length` bytes.
fn prefix(buffer: &Buffer, length: usize) -> Option<Buffer> {
    (length <= buffer.len()).then(|| buffer.slice_with_length(0, length))
}
