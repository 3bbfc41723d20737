//! Reads and writes Arrow IPC files (Feather version 2 included). Arrow IPC streams are frames: `frame` reads them.
//!
//! A file has one dictionary per column, which all batches share, but the dictionaries of evt grow with the stream. So
//! columns that are dictionaries in a stream are plain text in a file, and the reader makes dictionaries again.
//! Batches are compressed with LZ4, like Feather files of other programs.

use super::container::{BatchPart, opened, with_types};
use super::definition::{Encoder, Format, InputForm, Limits, Opened};
use super::typed::encoder;
use crate::decompression::Ratio;
use crate::error::guarded;
use crate::error::{Error, Result};
use crate::frame::{check_batch, read_schema};
use arrow::array::{Array, RecordBatch};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{Block, CompressionType};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

/// Arrow IPC files.
pub const FORMAT: Format = Format {
    name: "arrow",
    extensions: &["arrow", "feather", "ipc"],
    magic: b"ARROW1",
    input: InputForm::Container(open),
    output: Some(|schema, options| encoder(schema, options, |schema, _| Ok(Box::new(Writer::try_new(schema)?)))),
    needs_name: true,
    takes_any_columns: true,
    ..Format::BASE
};

/// Rows of a batch in a file, if they have few bytes: another program reads one batch at a time.
const BATCH_ROWS: usize = 16_384;
/// Bytes of the rows that are gathered into a batch.
const BATCH_BYTES: usize = 16 << 20;

/// The bytes at the end of a file: the footer's length and the magic.
const TAIL: u64 = 10;

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::corrupt("the Arrow file cannot be read").because_library(error)
}

fn open(file: File, limits: Limits) -> Result<Opened> {
    let blocks = guarded(|| Blocks::open(file, limits))??;
    super::jsonl::unique_names(&blocks.schema)?;
    let part = |batch: RecordBatch| BatchPart {
        rows: batch.num_rows() as u64,
        batches: std::iter::once(Ok::<_, Error>(batch)),
    };
    let schema = blocks.schema.clone();
    Ok(opened(&schema, blocks.map(move |batch| batch.map(part)), limits))
}

/// The batches of a file, block by block. The library's own reader allocates the memory that a block declares before
/// evt could check the declaration.
struct Blocks {
    file: File,
    size: u64,
    schema: SchemaRef,
    decoder: FileDecoder,
    left: std::vec::IntoIter<Block>,
    ratio: Ratio,
}

impl Blocks {
    fn open(mut file: File, limits: Limits) -> Result<Self> {
        let size = file.metadata().map_err(|error| Error::io("cannot read", &error))?.len();
        let footer = footer(&mut file, size)?;
        let footer = arrow_ipc::root_as_footer(&footer).map_err(corrupt)?;
        let schema = footer.schema().ok_or_else(|| corrupt("the footer has no schema"))?;
        if !schema.endianness().equals_to_target_endianness() {
            return Err(corrupt("expected little-endian data, found big-endian"));
        }
        let schema = SchemaRef::new(read_schema(schema)?);
        let decoder = FileDecoder::new(schema.clone(), footer.version());
        let left: Vec<Block> = footer.recordBatches().into_iter().flatten().copied().collect();
        let ratio = Ratio::new(limits.ratio);
        let mut blocks = Self { file, size, schema, decoder, left: left.into_iter(), ratio };
        for block in footer.dictionaries().into_iter().flatten() {
            let bytes = blocks.read(block)?;
            blocks.decoder.read_dictionary(block, &bytes).map_err(corrupt)?;
        }
        Ok(blocks)
    }

    /// Reads the bytes of a block. Checks first that they are inside the file and declare no more memory than they can
    /// contain.
    fn read(&mut self, block: &Block) -> Result<Buffer> {
        let io = |error| Error::io("cannot read", &error);
        let number = |number: i64| u64::try_from(number).ok();
        let (start, head) = (number(block.offset()), number(block.metaDataLength().into()));
        let length = head.and_then(|head| head.checked_add(number(block.bodyLength())?));
        let end = start.and_then(|start| start.checked_add(length?));
        let (Some(start), Some(head), Some(length)) =
            (start, head, length.filter(|_| end.is_some_and(|end| end <= self.size)))
        else {
            return Err(corrupt("a block extends beyond the end of the file"));
        };
        let mut bytes = MutableBuffer::from_len_zeroed(usize::try_from(length).map_err(corrupt)?);
        self.file.seek(SeekFrom::Start(start)).map_err(io)?;
        self.file.read_exact(bytes.as_slice_mut()).map_err(io)?;
        let (message, body) = bytes.as_slice().split_at(usize::try_from(head).map_err(corrupt)?);
        let message = message.strip_prefix(&[0xff; 4]).unwrap_or(message);
        let message = arrow_ipc::root_as_message(message.get(4..).unwrap_or_default()).map_err(corrupt)?;
        let dictionary = message.header_as_dictionary_batch().and_then(|header| header.data());
        if let Some(batch) = message.header_as_record_batch().or(dictionary) {
            check_batch(&batch, body, &mut self.ratio)?;
        }
        Ok(bytes.into())
    }
}

impl Iterator for Blocks {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            let block = self.left.next()?;
            let batch = guarded(|| {
                let bytes = self.read(&block)?;
                self.decoder.read_record_batch(&block, &bytes).map_err(corrupt)
            });
            let batch = batch.and_then(|batch| batch);
            if let Some(batch) = batch.transpose() {
                return Some(batch);
            }
        }
    }
}

/// Reads the footer.
fn footer(file: &mut File, size: u64) -> Result<Vec<u8>> {
    let io = |error| Error::io("cannot read", &error);
    let torn = || corrupt("torn: the footer is missing");
    let mut tail = [0; TAIL as usize];
    file.seek(SeekFrom::Start(size.checked_sub(TAIL).ok_or_else(torn)?)).map_err(io)?;
    file.read_exact(&mut tail).map_err(io)?;
    let length = arrow_ipc::reader::read_footer_length(tail).map_err(|_| torn())? as u64;
    file.seek(SeekFrom::Start(size.checked_sub(TAIL + length).ok_or_else(torn)?)).map_err(io)?;
    let mut footer = vec![];
    file.take(length).read_to_end(&mut footer).map_err(io)?;
    Ok(footer)
}

/// Encodes rows as an Arrow file. Each call appends the new bytes of the file to its output.
struct Writer {
    writer: FileWriter<Vec<u8>>,
    schema: SchemaRef,
    /// Rows that are not written yet, with their number and bytes.
    rows: Vec<RecordBatch>,
    count: usize,
    bytes: usize,
}

impl Writer {
    fn try_new(schema: &SchemaRef) -> Result<Self> {
        let fields = schema.fields().iter().map(|field| match field.data_type() {
            DataType::Dictionary(_, values) => Arc::new(Field::clone(field).with_data_type(DataType::clone(values))),
            _ => field.clone(),
        });
        let schema = Arc::new(Schema { fields: fields.collect(), ..Schema::clone(schema) });
        let wrong = |error| Error::usage("these columns cannot be written as an Arrow file").because_library(error);
        let options =
            IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).map_err(wrong)?;
        let writer = FileWriter::try_new_with_options(vec![], &schema, options).map_err(wrong)?;
        Ok(Self { writer, schema, rows: vec![], count: 0, bytes: 0 })
    }

    /// Writes the gathered rows as one batch.
    fn write(&mut self) -> Result<()> {
        (self.count, self.bytes) = (0, 0);
        let rows = std::mem::take(&mut self.rows);
        Ok(self.writer.write(&concat_batches(&self.schema, &rows)?)?)
    }
}

impl Encoder for Writer {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let batch = with_types(batch, &self.schema)?;
        for column in batch.columns() {
            self.bytes += column.to_data().get_slice_memory_size()?;
        }
        self.count += batch.num_rows();
        self.rows.push(batch);
        if self.count >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.write()?;
        }
        out.append(self.writer.get_mut());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.count > 0 {
            self.write()?;
        }
        self.writer.finish()?;
        out.append(self.writer.get_mut());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::test_data::{build, encode, open as open_bytes, rows, texts};
    use crate::format::{Rows, rows_of_parts};
    use crate::kind::Kind;
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    fn events() -> RecordBatch {
        let texts = rows(Kind::Event).new_tree(&mut TestRunner::deterministic()).unwrap().current();
        build(Kind::Event, &texts)
    }

    fn file(batch: &RecordBatch, compression: Option<CompressionType>) -> Vec<u8> {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = FileWriter::try_new_with_options(vec![], &batch.schema(), options).unwrap();
        writer.write(batch).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn a_file_of_ours_gives_batches_of_its_kind_however_it_is_compressed() {
        let batch = events();
        for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
            let opened = open_bytes(&FORMAT, &file(&batch, compression)).unwrap();
            assert_eq!(opened.schema, Some(Kind::Event.schema()));
            let read: Vec<_> = rows_of_parts(opened.parts).map(|rows| rows.unwrap()).collect();
            assert!(matches!(&read[..], [Rows::Batch(read)] if *read == batch));
        }
    }

    #[test]
    fn a_file_that_evt_writes_gives_the_same_rows_of_every_kind() {
        for kind in Kind::ALL {
            let texts = rows(kind).new_tree(&mut TestRunner::deterministic()).unwrap().current();
            let batch = build(kind, &texts);
            let opened = open_bytes(&FORMAT, &encode(&FORMAT, &[batch.clone(), batch.slice(0, 1)])).unwrap();
            assert_eq!(opened.schema, Some(kind.schema()));
            let read = rows_of_parts(opened.parts).map(|rows| match rows.unwrap() {
                Rows::Batch(read) => read,
                Rows::Text(_) => panic!("{}: text", kind.name()),
            });
            let read = concat_batches(&kind.schema(), &read.collect::<Vec<_>>()).unwrap();
            let expected = concat_batches(&kind.schema(), &[batch.clone(), batch.slice(0, 1)]).unwrap();
            assert_eq!(crate::format::test_data::batch_texts(&read), crate::format::test_data::batch_texts(&expected));
        }
    }

    #[test]
    fn bytes_come_out_with_each_batch_and_batches_are_large() {
        let batch = events();
        let mut writer = Writer::try_new(&batch.schema()).unwrap();
        let (mut out, mut rows) = (vec![], 0);
        while rows < BATCH_ROWS {
            writer.encode(&batch, &mut out).unwrap();
            rows += batch.num_rows();
        }
        let before = out.len();
        writer.finish(&mut out).unwrap();
        assert!(before > 1000 && out.len() > before && writer.writer.get_ref().is_empty());
        assert_eq!(
            Blocks::open(crate::format::test_data::spool(&out), crate::format::test_data::LIMITS).unwrap().count(),
            1
        );
        assert_eq!(texts(&FORMAT, &out).unwrap().len(), rows);
    }

    #[test]
    fn a_file_that_claims_a_kind_and_holds_no_json_is_corrupt() {
        let batch = events();
        let mut columns = batch.columns().to_vec();
        columns[4] = std::sync::Arc::new(arrow::array::StringArray::from(vec!["{]"; batch.num_rows()]));
        let error = texts(&FORMAT, &file(&RecordBatch::try_new(batch.schema(), columns).unwrap(), None)).unwrap_err();
        assert!(error.to_string().contains("expected JSON in a column of kind event"), "{error}");
    }

    #[test]
    fn a_file_cut_or_changed_anywhere_is_rows_or_an_error_and_never_a_panic() {
        let whole = file(&events(), None);
        for end in 0..whole.len() {
            let error = texts(&FORMAT, &whole[..end]).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{end}: {error}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            if let Err(error) = texts(&FORMAT, &bytes) {
                assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{at}: {error}");
            }
        }
    }
}
