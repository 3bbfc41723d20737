//! Pages of Parquet files, looked at before the library believes them.
//!
//! A page of delta-encoded byte arrays states how many lengths it holds, and the library reserves memory for as many
//! before it reads one. A corrupt count is then no error but the end of the process. No page holds more lengths than
//! the values its header counts.

use super::footer::number;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FilePageIterator, FileReader};
use std::sync::Arc;

/// The row groups of a file whose pages are looked at.
pub(super) struct Checked(pub(super) Arc<dyn FileReader>);

impl RowGroups for Checked {
    fn num_rows(&self) -> usize {
        self.0.num_rows()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        let schema = self.0.metadata().file_metadata().schema_descr_ptr();
        let pages = FilePageIterator::new(column, self.0.clone())?;
        let descriptor = schema.column(column);
        let levels = [descriptor.max_rep_level(), descriptor.max_def_level()];
        Ok(Box::new(Pages { pages, levels }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.0.metadata().row_groups().iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        FileReader::metadata(self.0.as_ref())
    }
}

struct Pages {
    pages: FilePageIterator,
    /// The largest repetition and definition level.
    levels: [i16; 2],
}

impl Iterator for Pages {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let inner = self.pages.next()?;
        Some(inner.map(|inner| -> Box<dyn PageReader> { Box::new(Reader { inner, levels: self.levels }) }))
    }
}

impl PageIterator for Pages {}

struct Reader {
    inner: Box<dyn PageReader>,
    levels: [i16; 2],
}

impl PageReader for Reader {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page()?;
        match page.as_ref().is_none_or(|page| is_sound(page, self.levels)) {
            true => Ok(page),
            false => Err(ParquetError::General("a page holds more lengths than values".to_owned())),
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
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

/// Whether a page holds no more lengths than values.
fn is_sound(page: &Page, levels: [i16; 2]) -> bool {
    let lists = match page.encoding() {
        Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
        Encoding::DELTA_BYTE_ARRAY => 2,
        _ => return true,
    };
    let Some(mut bytes) = values(page, levels) else { return false };
    (0..lists).all(|_| lengths(&mut bytes, page.num_values().into()).is_some())
}

/// The bytes of a page after its levels.
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

/// Passes over a list of at most `most` delta-packed lengths: a header, then blocks of a least delta, a width for each
/// of its parts, and the parts as far as there are values.
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

fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(count).ok()?)?;
    *bytes = rest;
    Some(taken)
}
