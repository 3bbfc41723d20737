//! Where the records of a file that is appended to end.

use evt_core::format::Format;
use evt_core::json::scan::is_json;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes that are read at once.
const BLOCK: usize = 64 << 10;

/// The form of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordForm {
    /// Each line is a JSON object.
    #[default]
    Objects,
    /// Delimited cells, which may hold line breaks within quotes. evt writes quotes only in pairs.
    Cells {
        /// The byte between two cells.
        delimiter: u8,
        /// The number of cells in a record.
        cells: usize,
    },
}

/// A record of cells that is being read.
struct CellScan {
    delimiter: u8,
    cells: usize,
    is_quoted: bool,
}

impl CellScan {
    fn new(delimiter: u8) -> Self {
        Self { delimiter, cells: 1, is_quoted: false }
    }

    /// Reads bytes up to the end of the record. Returns their number; `None` if the record does not end there.
    fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        for at in memchr::memchr3_iter(b'"', b'\n', self.delimiter, bytes) {
            match bytes[at] {
                b'"' => self.is_quoted = !self.is_quoted,
                _ if self.is_quoted => {}
                b'\n' => return Some(at + 1),
                _ => self.cells += 1,
            }
        }
        None
    }
}

impl RecordForm {
    /// Returns the form of the records of a file with this header.
    pub fn of(format: &Format, header: &[u8]) -> Self {
        let Some(delimiter) = format.delimiter else { return Self::Objects };
        let mut scan = CellScan::new(delimiter);
        scan.read(header);
        Self::Cells { delimiter, cells: scan.cells }
    }

    /// Returns the length of the whole records in `bytes`, which begin with a record.
    pub fn whole(self, bytes: &[u8]) -> usize {
        let Self::Cells { delimiter, .. } = self else {
            return memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
        };
        let mut whole = 0;
        while let Some(length) = CellScan::new(delimiter).read(&bytes[whole..]) {
            whole += length;
        }
        whole
    }

    /// Whether a file has a whole record at `start`.
    pub fn is_whole_at(self, file: &File, start: u64) -> std::io::Result<bool> {
        match self {
            Self::Objects => {
                let mut line = vec![];
                let ends = |bytes: &[u8]| {
                    let end = memchr::memchr(b'\n', bytes);
                    line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
                    end.is_some()
                };
                read_until(file, start, ends).map(|_| is_object(&line))
            }
            Self::Cells { delimiter, cells } => {
                let mut scan = CellScan::new(delimiter);
                let has_ended = read_until(file, start, |bytes| scan.read(bytes).is_some())?;
                Ok(has_ended && scan.cells == cells)
            }
        }
    }
}

/// Reads a file from `start` until `is_end`; returns false at the end of the file.
fn read_until(file: &File, mut start: u64, mut is_end: impl FnMut(&[u8]) -> bool) -> std::io::Result<bool> {
    let mut block = vec![0; BLOCK];
    loop {
        match file.read_at(&mut block, start)? {
            0 => return Ok(false),
            read if is_end(&block[..read]) => return Ok(true),
            read => start += read as u64,
        }
    }
}

/// Whether a line is a JSON object.
pub fn is_object(line: &[u8]) -> bool {
    std::str::from_utf8(line).is_ok_and(|text| text.trim_start().starts_with('{') && is_json(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::format::csv::{CSV, TSV};
    use evt_core::format::jsonl;

    /// Returns whether a whole record is at the beginning of a file of this text.
    fn is_whole(form: RecordForm, text: &str) -> bool {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        form.is_whole_at(file.as_file(), 0).unwrap()
    }

    #[test]
    fn a_record_of_cells_is_whole_if_it_ends_and_has_as_many_cells_as_the_header() {
        let form = RecordForm::of(&CSV, b"a,\"b,c\",d\n");
        assert_eq!(form, RecordForm::Cells { delimiter: b',', cells: 3 });
        for (text, expected) in [
            ("1,2,3\n", true),
            ("1,\"x\ny,\"\"z\",3\nnext", true),
            (",,\n", true),
            ("1,2\n", false),
            ("1,21,2,3\n", false),
            ("1,2,3", false),
            ("1,\"x,3\n4,5,6\n", false),
            ("", false),
        ] {
            assert_eq!(is_whole(form, text), expected, "{text:?}");
        }
        let long = format!("1,\"{}\n\",3\n", "x".repeat(3 * BLOCK));
        assert!(is_whole(form, &long) && !is_whole(form, &long[..long.len() - 3]));
        assert_eq!(RecordForm::of(&TSV, b"a,b\tc\n"), RecordForm::Cells { delimiter: b'\t', cells: 2 });
        for (text, expected) in [("{\"a\":1}\n{", true), ("{\"a\":1}", true), ("{\"a\n", false), ("1,2,3\n", false)] {
            assert_eq!(is_whole(RecordForm::of(&jsonl::FORMAT, b""), text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_line_break_within_quotes_ends_no_record() {
        let form = RecordForm::of(&CSV, b"a,b\n");
        for (text, expected) in [("", 0), ("1,2", 0), ("1,2\n3", 4), ("1,\"x\ny\"\n3,\"z\n", 8), ("1,2\n3,4\n", 8)] {
            assert_eq!(form.whole(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(RecordForm::Objects.whole(b"{\"a\":\"\\\"\"}\n{"), 11);
    }
}
