//! Arrow IPC files (Feather version 2 among them), in. Streams are frames: `frame` reads them.

use super::container::Batches;
use super::{Format, Input, Opened};
use crate::error::guarded;
use crate::error::{Error, Result};
use crate::kind::Kind;
use arrow_ipc::reader::FileReader;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// Arrow IPC files.
pub const FORMAT: Format = Format {
    name: "arrow",
    extensions: &["arrow", "feather", "ipc"],
    magic: b"ARROW1",
    input: Input::Container(open),
    output: None,
    appendable: false,
};

/// What a file ends with: the footer's length and the magic.
const TAIL: u64 = 10;

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::corrupt("the Arrow file cannot be read").because(error)
}

fn open(mut file: File) -> Result<Opened> {
    guarded(|| check_blocks(&mut file))??;
    let reader = guarded(|| FileReader::try_new(BufReader::new(file), None))?.map_err(corrupt)?;
    super::jsonl::unique_names(&reader.schema())?;
    let kind = Kind::of(&reader.schema());
    Ok(Opened { kind, rows: Box::new(Batches::new(reader, kind)) })
}

/// Blocks lie inside the file: the library reserves the memory a block claims before it reads it.
fn check_blocks(file: &mut File) -> Result<()> {
    let io = |error| Error::io("cannot read", &error);
    let size = file.metadata().map_err(io)?.len();
    let torn = || corrupt("it is torn: no footer at its end");
    let mut tail = [0; TAIL as usize];
    file.seek(SeekFrom::Start(size.checked_sub(TAIL).ok_or_else(torn)?)).map_err(io)?;
    file.read_exact(&mut tail).map_err(io)?;
    let length = arrow_ipc::reader::read_footer_length(tail).map_err(|_| torn())? as u64;
    let start = size.checked_sub(TAIL + length).ok_or_else(torn)?;
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    let mut footer = vec![];
    file.take(length).read_to_end(&mut footer).map_err(io)?;
    let footer = arrow_ipc::root_as_footer(&footer).map_err(corrupt)?;
    for block in footer.dictionaries().into_iter().flatten().chain(footer.recordBatches().into_iter().flatten()) {
        let parts = [block.offset(), i64::from(block.metaDataLength()), block.bodyLength()];
        let end = parts.iter().try_fold(0u64, |sum, part| sum.checked_add(u64::try_from(*part).ok()?));
        if end.is_none_or(|end| end > size) {
            return Err(corrupt("a block lies beyond its end"));
        }
    }
    file.rewind().map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Rows;
    use crate::format::test_data::{build, open as open_bytes, rows, texts};
    use arrow::array::RecordBatch;
    use arrow_ipc::CompressionType;
    use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
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
            assert_eq!(opened.kind, Some(Kind::Event));
            let read: Vec<_> = opened.rows.map(|rows| rows.unwrap()).collect();
            assert!(matches!(&read[..], [Rows::Batch(read)] if *read == batch));
        }
    }

    #[test]
    fn a_file_that_claims_a_kind_and_holds_no_json_is_corrupt() {
        let batch = events();
        let mut columns = batch.columns().to_vec();
        columns[4] = std::sync::Arc::new(arrow::array::StringArray::from(vec!["{]"; batch.num_rows()]));
        let error = texts(&FORMAT, &file(&RecordBatch::try_new(batch.schema(), columns).unwrap(), None)).unwrap_err();
        assert!(error.to_string().contains("claims rows of kind event"), "{error}");
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
