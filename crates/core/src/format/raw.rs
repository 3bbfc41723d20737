//! Writes records as received, byte for byte, one per line: records that passed a filter or validation, unchanged, and
//! the payloads of dead letters.

use super::definition::{Encoder, Format};
use crate::error::{Error, Result};
use crate::kind::dead::column::{ORIGINAL_LENGTH, ORIGINAL_PAYLOAD};
use crate::kind::dead::{self, Fault, Rejected};
use crate::kind::event::RAW;
use crate::kind::{Kind, array};
use arrow::array::{Array, AsArray, BinaryArray, BinaryViewArray, ByteView, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{Int64Type, Schema};

/// Raw records. The rows must have them: `evt-ingest --keep-raw`, or a stage that reads the records itself.
pub const FORMAT: Format = Format {
    name: "raw",
    output: Some(|schema, _| match column_of(schema) {
        Some(column) => Ok(Box::new(Writer { column })),
        None => Err(Error::usage("-o raw: the rows have no raw records; evt-ingest --keep-raw adds them")),
    }),
    appendable: true,
    is_raw: true,
    ..Format::BASE
};

/// Returns the column of raw records: a dead letter's is its payload.
fn column_of(schema: &Schema) -> Option<&'static str> {
    let payload = (Kind::of(schema) == Some(Kind::Dead)).then_some(dead::COLUMNS[ORIGINAL_PAYLOAD]);
    schema.index_of(RAW).ok().map(|_| RAW).or(payload)
}

struct Writer {
    column: &'static str,
}

/// Returns the dead letters that cannot be written as a line of their own, each with the reason.
pub fn unfit(letters: &RecordBatch) -> Vec<Rejected> {
    let payloads = letters.column(ORIGINAL_PAYLOAD).as_binary::<i32>();
    let lengths = letters.column(ORIGINAL_LENGTH).as_primitive::<Int64Type>();
    let why = |row: usize| match memchr::memchr(b'\n', payloads.value(row)) {
        _ if lengths.is_valid(row) => {
            let (kept, length) = (payloads.value(row).len(), lengths.value(row));
            Some(format!("-o raw: the dead letter has only {kept} of the record's {length} bytes"))
        }
        Some(at) => Some(format!("-o raw: the payload has a line break at byte {}", at + 1)),
        None => None,
    };
    let rejected = |row| Some(Rejected { row, fault: Fault::of_sink(why(row)?) });
    (0..letters.num_rows()).filter_map(rejected).collect()
}

impl Encoder for Writer {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let Some(records) = array::<BinaryArray>(batch, self.column) else {
            let Some(slices) = self.slices(batch) else { return Err(Error::broken("rows without their raw records")) };
            slices.iter().for_each(|slice| out.extend_from_slice(slice));
            return Ok(());
        };
        out.reserve(records.value_data().len() + records.len());
        for record in records.iter().flatten() {
            if self.column != RAW && memchr::memchr(b'\n', record).is_some() {
                return Err(Error::usage("-o raw: a payload contains a line break; evt-view -o raw skips it"));
            }
            out.extend_from_slice(record);
            out.push(b'\n');
        }
        Ok(())
    }

    fn slices(&mut self, batch: &RecordBatch) -> Option<Vec<Buffer>> {
        array(batch, self.column).map(lines)
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

/// Returns records with their line ends. Records that are adjacent in the read buffer, with one line end between them,
/// become one slice.
fn lines(records: &BinaryViewArray) -> Vec<Buffer> {
    let (mut slices, line_end) = (vec![], Buffer::from(b"\n"));
    let mut run: Option<RecordRun<'_>> = None;
    for (row, view) in records.views().iter().enumerate().filter(|(row, _)| records.is_valid(*row)) {
        let view = ByteView::from(*view);
        if let Some(run) = run.as_mut().filter(|run| run.goes_on(view)) {
            run.end = (view.offset + view.length) as usize;
            continue;
        }
        if let Some(run) = run.take() {
            run.push_to(&line_end, &mut slices);
        }
        // Short ones are inside their views.
        match records.data_buffers().get(view.buffer_index as usize).filter(|_| view.length > INLINE_MAX) {
            None => slices.extend([Buffer::from(records.value(row)), line_end.clone()]),
            Some(buffer) => {
                let (start, end) = (view.offset as usize, (view.offset + view.length) as usize);
                run = Some(RecordRun { number: view.buffer_index, buffer, start, end });
            }
        }
    }
    if let Some(run) = run {
        run.push_to(&line_end, &mut slices);
    }
    slices
}

/// Maximum bytes of a value inside its view (Arrow's columnar format, "Variable-size Binary View Layout").
const INLINE_MAX: u32 = 12;

/// Adjacent records in one buffer.
struct RecordRun<'a> {
    number: u32,
    buffer: &'a Buffer,
    start: usize,
    end: usize,
}

impl RecordRun<'_> {
    fn is_ended(&self) -> bool {
        self.buffer.get(self.end) == Some(&b'\n')
    }

    fn goes_on(&self, view: ByteView) -> bool {
        view.length > INLINE_MAX
            && view.buffer_index == self.number
            && view.offset as usize == self.end + 1
            && self.is_ended()
    }

    fn push_to(self, line_end: &Buffer, slices: &mut Vec<Buffer>) {
        let length = self.end - self.start;
        match self.is_ended() {
            true => slices.push(self.buffer.slice_with_length(self.start, length + 1)),
            false => slices.extend([self.buffer.slice_with_length(self.start, length), line_end.clone()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::BinaryViewBuilder;

    #[test]
    fn records_that_stand_together_are_one_slice_and_none_gets_another_end() {
        let text =
            b"the first record\nthe second record\n\nthe third record\r\nshort\nthe fourth record\nthe last record";
        let block = Buffer::from_vec(text.to_vec());
        let whole = |slices: &[Buffer]| slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>();
        let mut views = BinaryViewBuilder::new();
        views.append_value(b"a copied record");
        let number = views.append_block(block);
        let mut at = |record: &[u8]| {
            let start = text.windows(record.len()).position(|window| window == record).unwrap();
            views.try_append_view(number, start as u32, record.len() as u32).unwrap();
        };
        let records: [&[u8]; 6] = [
            b"the first record",
            b"the second record",
            b"the third record",
            b"short",
            b"the fourth record",
            b"the last record",
        ];
        records.iter().for_each(|record| at(record));
        at(records[0]);
        views.append_null();
        let array = views.finish();
        let slices = lines(&array);
        let mut wanted = b"a copied record\n".to_vec();
        records.iter().chain([&records[0]]).for_each(|record| wanted.extend([record, &b"\n"[..]].concat()));
        assert_eq!(whole(&slices), wanted);
        let counts = slices.iter().filter(|slice| slice.as_slice() != b"\n").count();
        assert_eq!(counts, 6, "{slices:?}");
        assert_eq!(whole(&lines(&array.slice(3, 2))), b"the third record\nshort\n");
    }
}
