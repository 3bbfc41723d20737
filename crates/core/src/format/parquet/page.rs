//! Checks the pages of Parquet files before the library reads them.
//!
//! The header of a page declares its decompressed size, for which the library allocates memory: it is compared with the
//! page's bytes in the file. A list may have any number of values that take no bytes, and a row with its lists is
//! decoded whole, so the memory of its levels and values is checked as well.
//!
//! A page of delta-encoded byte arrays declares its number of lengths, for which the library allocates memory before it
//! reads one. A corrupt count would end the process instead of being an error. No page has more lengths than the values
//! its header counts.

use super::footer::{PageHeader, number, page_header, take};
use crate::decompression::Ratio;
use crate::format::unpack::FileFrom;
use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

/// A file that several threads read, which have no common position in it.
pub struct SharedFile(pub File);

impl Length for SharedFile {
    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }
}

impl ChunkReader for SharedFile {
    type T = BufReader<FileFrom<File>>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(FileFrom::new(self.0.try_clone()?, start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// Some row groups of a file, whose pages are checked.
pub struct Checked {
    file: Arc<SharedFile>,
    metadata: Arc<ParquetMetaData>,
    groups: Range<usize>,
    ratio: Arc<Mutex<Ratio>>,
}

impl Checked {
    pub fn new(file: Arc<SharedFile>, metadata: Arc<ParquetMetaData>, groups: Range<usize>, ratio: Ratio) -> Self {
        Self { file, metadata, groups, ratio: Arc::new(Mutex::new(ratio)) }
    }

    fn groups(&self) -> &[RowGroupMetaData] {
        self.metadata.row_groups().get(self.groups.clone()).unwrap_or_default()
    }
}

/// Bytes of the repetition and the definition level of a value.
const LEVEL_BYTES: u64 = 4;
/// Bytes of the end offset of a list.
const OFFSET_BYTES: u64 = 4;

/// Returns the bytes of a decoded value of a column; a text is a view into the bytes of its page.
fn width(column: &ColumnDescriptor) -> u64 {
    match column.physical_type() {
        Type::BOOLEAN => 1,
        Type::INT32 | Type::FLOAT => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 => 12,
        Type::BYTE_ARRAY => 16,
        Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(column.type_length()).unwrap_or(0),
    }
}

/// Bytes that most page headers fit in.
const HEADER_BYTES: u64 = 512;

impl RowGroups for Checked {
    fn num_rows(&self) -> usize {
        self.groups().iter().map(|group| usize::try_from(group.num_rows()).unwrap_or(0)).sum()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        let (file, metadata, ratio) = (self.file.clone(), self.metadata.clone(), self.ratio.clone());
        Ok(Box::new(ColumnPages { file, metadata, ratio, column, groups: self.groups.clone() }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.groups().iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The pages of one column, row group by row group.
struct ColumnPages {
    file: Arc<SharedFile>,
    metadata: Arc<ParquetMetaData>,
    ratio: Arc<Mutex<Ratio>>,
    column: usize,
    groups: Range<usize>,
}

impl ColumnPages {
    fn open(&self, group: &RowGroupMetaData) -> Result<Reader> {
        let chunk = group.column(self.column);
        let descriptor = chunk.column_descr();
        let levels = [descriptor.max_rep_level(), descriptor.max_def_level()];
        let (at, length) = chunk.byte_range();
        let rows = usize::try_from(group.num_rows())?;
        let inner = SerializedPageReader::new(self.file.clone(), chunk, rows, None)?;
        let (file, ratio, width) = (self.file.clone(), self.ratio.clone(), width(descriptor));
        Ok(Reader { inner, levels, width, file, ratio, at, end: at.saturating_add(length) })
    }
}

impl Iterator for ColumnPages {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.groups.next()?;
        let reader = self.open(self.metadata.row_groups().get(group)?);
        Some(reader.map(|reader| -> Box<dyn PageReader> { Box::new(reader) }))
    }
}

impl PageIterator for ColumnPages {}

struct Reader {
    inner: SerializedPageReader<SharedFile>,
    /// The largest repetition and definition level.
    levels: [i16; 2],
    /// Bytes of a decoded value.
    width: u64,
    file: Arc<SharedFile>,
    ratio: Arc<Mutex<Ratio>>,
    /// Start of the next page, and end of the last one.
    at: u64,
    end: u64,
}

impl Reader {
    /// Reads the header of the next page and skips the page, as the library does; `None` after the last.
    fn pass(&mut self) -> Result<Option<PageHeader>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let (room, mut length) = (self.end - self.at, HEADER_BYTES);
        loop {
            let mut bytes = vec![0; usize::try_from(room.min(length))?];
            self.file.0.read_exact_at(&mut bytes, self.at)?;
            if let Some(header) = page_header(&bytes) {
                self.at = self.at.saturating_add(header.length).saturating_add(header.packed);
                return Ok(Some(header));
            }
            if length >= room {
                return Err(ParquetError::General("a page has no header".to_owned()));
            }
            length *= 8;
        }
    }

    /// Returns the bytes that the values of a page take in memory at once. Values of a column without lists are decoded
    /// for a few thousand rows at a time.
    fn decoded(&self, header: &PageHeader) -> u64 {
        let [rep_max, _] = self.levels;
        let bytes = match (header.is_dictionary, u64::try_from(rep_max).unwrap_or(0)) {
            (true, _) => self.width,
            (false, 0) => 0,
            (false, lists) => LEVEL_BYTES + OFFSET_BYTES * lists + self.width,
        };
        header.values.saturating_mul(bytes)
    }

    /// Refuses a decompression bomb before memory is allocated for it.
    fn check(&mut self) -> Result<()> {
        let Some(header) = self.pass()? else { return Ok(()) };
        let mut ratio = self.ratio.lock().map_err(|error| ParquetError::General(error.to_string()))?;
        let taken = ratio.take("a page", header.packed, header.unpacked.max(self.decoded(&header)));
        taken.map_err(|error| ParquetError::General(error.to_string()))
    }
}

impl PageReader for Reader {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.check()?;
        let page = self.inner.get_next_page()?;
        match page.as_ref().is_none_or(|page| is_sound(page, self.levels)) {
            true => Ok(page),
            false => Err(ParquetError::General("a page has more lengths than values".to_owned())),
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pass()?;
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}

impl Iterator for Reader {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}

/// Whether a page has no more lengths than values.
fn is_sound(page: &Page, levels: [i16; 2]) -> bool {
    let lists = match page.encoding() {
        Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
        Encoding::DELTA_BYTE_ARRAY => 2,
        _ => return true,
    };
    let Some(mut bytes) = values(page, levels) else { return false };
    (0..lists).all(|_| lengths(&mut bytes, page.num_values().into()).is_some())
}

/// Returns the bytes of a page after its levels.
fn values(page: &Page, [rep_max, def_max]: [i16; 2]) -> Option<&[u8]> {
    match page {
        Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } => {
            let mut bytes: &[u8] = buf;
            for (most, encoding) in [(rep_max, rep_level_encoding), (def_max, def_level_encoding)] {
                let bits = i16::BITS - most.leading_zeros();
                let length = match (most, encoding) {
                    (0, _) => 0,
                    (_, Encoding::RLE) => u64::from(u32::from_le_bytes(*take(&mut bytes, 4)?.first_chunk()?)),
                    _ => (u64::from(*num_values) * u64::from(bits)).div_ceil(8),
                };
                take(&mut bytes, length)?;
            }
            Some(bytes)
        }
        Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
            let mut bytes: &[u8] = buf;
            take(&mut bytes, u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len))?;
            Some(bytes)
        }
        Page::DictionaryPage { .. } => Some(page.buffer()),
    }
}

/// Skips a list of at most `most` delta-packed lengths: a header, then blocks of a least delta, a width for each of
/// their parts, and the parts as far as there are values.
fn lengths(bytes: &mut &[u8], most: u64) -> Option<()> {
    let (block, parts, count) = (number(bytes)?, number(bytes)?, number(bytes)?);
    number(bytes)?;
    let values = block.checked_div(parts).filter(|values| *values > 0 && count <= most)?;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        number(bytes)?;
        for width in take(bytes, parts)? {
            if left > 0 {
                take(bytes, u64::from(*width).checked_mul(values)? / 8)?;
                left = left.saturating_sub(values);
            }
        }
    }
    Some(())
}
