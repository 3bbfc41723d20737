//! Writes a table for terminals: as wide as the terminal, one line per row.
//!
//! The first rows (at most 256, or 1 MiB of cells) determine the widths; later rows are written as they come, so that
//! an endless stream needs no memory. Later, wider cells widen their columns while the terminal has room. Text that
//! does not fit ends in `…`; columns for which there is no room are omitted from the right, and the header states their
//! number. Control characters, terminal escapes and characters that change the direction of text are shown as symbols
//! (`␛`), so that data never controls the terminal. Numbers are right-aligned, null is `-`, and instants omit, per
//! column, trailing digits that are zero in the first rows.

use super::cell::CellForm;
use super::definition::{EncodeOptions, Encoder, Format, NoteFormat};
use super::jsonl::{own, unique_names};
use super::metric_columns::encoder;
use crate::error::Result;
use crate::kind::is_own;
use crate::parse::printable::clean;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Tables.
pub const FORMAT: Format = Format {
    name: "table",
    extensions: &["txt"],
    output: Some(|schema, options| {
        encoder(schema, options, |schema, options| Ok(Box::new(Table::try_new(schema, options)?)))
    }),
    is_for_people: true,
    notes: Some(NoteFormat::Text),
    takes_any_columns: true,
    ..Format::BASE
};

const SAMPLE_ROWS: usize = 256;
const SAMPLE_BYTES: usize = 1 << 20;
/// A column is not made narrower than this while others are wider.
const WIDTH_MIN: usize = 6;
/// Least width of an instant. At this width only its time of day is shown, after a `…`.
const INSTANT_MIN: usize = 10;
/// If few rows determine the widths, columns of text get at least this width, if there is room.
const WIDTH_ROOMY: usize = 16;
const GAP: &str = "  ";

struct Table {
    columns: Vec<ColumnShape>,
    ours: bool,
    width: usize,
    color: bool,
    /// Cells of the first rows, row by row, until the widths are determined.
    sample: Vec<String>,
    bytes: usize,
    decided: bool,
    /// Whether widths are determined before the sample is full.
    roomy: bool,
    /// Columns that are shown.
    shown: usize,
    /// Cells of the terminal that no column uses yet.
    room: usize,
    cell: String,
}

/// One column.
struct ColumnShape {
    name: String,
    right: bool,
    instant: bool,
    /// Bytes at the end of an instant's text that the column omits.
    cut: usize,
    width: usize,
}

impl Table {
    fn try_new(schema: &Schema, options: &EncodeOptions) -> Result<Self> {
        unique_names(schema)?;
        let columns = schema.fields().iter().map(|field| ColumnShape {
            name: clean(field.name()),
            right: is_number(field.data_type()),
            instant: matches!(field.data_type(), DataType::Timestamp(..)),
            cut: 7,
            width: 0,
        });
        Ok(Self {
            columns: columns.collect(),
            ours: is_own(schema),
            width: options.width.unwrap_or(usize::MAX),
            color: options.color,
            sample: vec![],
            bytes: 0,
            decided: false,
            roomy: false,
            shown: 0,
            room: 0,
            cell: String::new(),
        })
    }

    /// Determines the widths from the sample; writes the header and the sample.
    fn decide(&mut self, out: &mut Vec<u8>) {
        self.decided = true;
        if self.columns.is_empty() {
            return;
        }
        let sample = std::mem::take(&mut self.sample);
        let count = self.columns.len();
        for (at, shape) in self.columns.iter_mut().enumerate() {
            let cells = || sample.iter().skip(at).step_by(count);
            if shape.instant {
                shape.cut = cells().map(|cell| spare_digits(cell)).min().unwrap_or(0);
            }
            let widest = cells().map(|cell| shape.shorten(cell).width()).max().unwrap_or(0);
            shape.width = widest.max(shape.name.width());
        }
        if self.columns.iter().map(|shape| shape.width + GAP.len()).sum::<usize>()
            > self.width.saturating_add(GAP.len())
        {
            self.columns.iter_mut().filter(|shape| shape.instant).for_each(ColumnShape::drop_fraction);
        }
        let total = |columns: &[ColumnShape]| columns.iter().map(|shape| shape.width).sum::<usize>();
        let wanted = total(&self.columns);
        self.shown = fit(&mut self.columns, self.width);
        let roomy = self.roomy && self.width != usize::MAX && total(&self.columns[..self.shown]) == wanted;
        self.room = spread(&mut self.columns[..self.shown], room_of(self.width, self.shown < count), roomy);
        self.write_header(out);
        for row in sample.chunks(count) {
            for (at, cell) in row.iter().take(self.shown).enumerate() {
                self.write_cell(at, cell, out);
            }
            out.push(b'\n');
        }
    }

    fn write_header(&mut self, out: &mut Vec<u8>) {
        let (start, end): (&[u8], &[u8]) = if self.color { (b"\x1b[1m", b"\x1b[0m") } else { (b"", b"") };
        out.extend_from_slice(start);
        for at in 0..self.shown {
            let name = self.columns[at].name.clone();
            self.write_cell(at, &name, out);
        }
        out.extend_from_slice(end);
        if self.shown < self.columns.len() {
            out.extend_from_slice(format!("  …+{}", self.columns.len() - self.shown).as_bytes());
        }
        out.push(b'\n');
    }

    /// Appends a cell with the gap before it; nothing follows the last one.
    fn write_cell(&mut self, at: usize, cell: &str, out: &mut Vec<u8>) {
        let last = at + 1 == self.shown;
        let shape = &mut self.columns[at];
        let text = shape.shorten(cell);
        let more = text.width().saturating_sub(shape.width).min(self.room);
        // Nothing follows the last column: it needs no width of its own.
        let width = shape.width + more;
        if !last {
            shape.width = width;
            self.room -= more;
        }
        let text = match shape.instant && text.ends_with('Z') {
            true => shorten_front(text, width),
            false => shorten(text, width),
        };
        let pad = " ".repeat(width.saturating_sub(text.width()));
        for part in [
            if at > 0 { GAP } else { "" },
            if shape.right { &pad } else { "" },
            &text,
            if shape.right || last { "" } else { &pad },
        ] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

impl ColumnShape {
    /// Returns the least width while other columns are wider.
    fn least(&self) -> usize {
        self.width.min(if self.instant { INSTANT_MIN } else { WIDTH_MIN })
    }

    /// Drops the fraction of a second from the instants of the column: fractions go first if the columns do not fit.
    fn drop_fraction(&mut self) {
        self.width = self.width.saturating_sub(7 - self.cut).max(self.name.width());
        self.cut = 7;
    }

    /// Shortens an instant by the digits that its column omits, and replaces the `T` by a space.
    fn shorten<'a>(&self, cell: &'a str) -> std::borrow::Cow<'a, str> {
        match cell.strip_suffix('Z') {
            Some(instant) if self.instant => {
                let kept = &instant[..instant.len().saturating_sub(self.cut)];
                format!("{}Z", kept.replacen('T', " ", 1)).into()
            }
            _ => cell.into(),
        }
    }
}

/// Returns the bytes of `.000000Z` that can be omitted: the point and all six digits, the last three or none.
fn spare_digits(instant: &str) -> usize {
    match instant.strip_suffix('Z') {
        Some(instant) if instant.ends_with(".000000") => 7,
        Some(instant) if instant.ends_with("000") => 3,
        Some(_) => 0,
        None => 7,
    }
}

/// Narrows the widest columns until all fit; returns how many are shown.
fn fit(columns: &mut [ColumnShape], width: usize) -> usize {
    let mut shown = columns.len();
    loop {
        let room = room_of(width, shown < columns.len());
        let visible = &mut columns[..shown];
        let gaps = GAP.len() * (shown - 1);
        let least: usize = visible.iter().map(ColumnShape::least).sum();
        if least + gaps > room && shown > 1 {
            shown -= 1;
            continue;
        }
        narrow(visible, room.saturating_sub(gaps));
        return shown;
    }
}

/// Narrows the widest columns until all take no more than `room`. Half an instant is useless: instants stay whole if
/// the others have room as well, else their time of day stays.
fn narrow(columns: &mut [ColumnShape], room: usize) {
    let instants: usize = columns.iter().filter(|shape| shape.instant).map(|shape| shape.width).sum();
    let others = columns.iter().filter(|shape| !shape.instant).map(|shape| shape.width.min(WIDTH_MIN + 2));
    if instants + others.sum::<usize>() > room {
        columns.iter_mut().filter(|shape| shape.instant).for_each(|shape| shape.width = shape.least().min(room));
    }
    let instants: usize = columns.iter().filter(|shape| shape.instant).map(|shape| shape.width).sum();
    let room = room.saturating_sub(instants);
    let mut narrowed: Vec<&mut ColumnShape> = columns.iter_mut().filter(|shape| !shape.instant).collect();
    let limit = widest_allowed(&narrowed, room);
    narrowed.iter_mut().for_each(|shape| shape.width = shape.width.min(limit));
}

/// Returns the cells for columns, less those of the header's note on hidden columns.
fn room_of(width: usize, hides: bool) -> usize {
    if hides { width.saturating_sub(8) } else { width }
}

/// Distributes some of the remaining room over the columns of text but the last, because later rows may be wider;
/// returns the rest.
fn spread(columns: &mut [ColumnShape], width: usize, roomy: bool) -> usize {
    let used = columns.iter().map(|shape| shape.width + GAP.len()).sum::<usize>() - GAP.len();
    let mut room = width.saturating_sub(used);
    let Some((_, before)) = columns.split_last_mut() else { return room };
    for shape in before.iter_mut().filter(|shape| roomy && !shape.right && !shape.instant) {
        let more = WIDTH_ROOMY.saturating_sub(shape.width).min(room);
        shape.width += more;
        room -= more;
    }
    room
}

/// Returns the largest width to which columns can be cut so that they take no more than `room`.
fn widest_allowed(columns: &[&mut ColumnShape], room: usize) -> usize {
    let total = |limit: usize| columns.iter().map(|shape| shape.width.min(limit)).sum::<usize>();
    let (mut low, mut high) = (1, columns.iter().map(|shape| shape.width).max().unwrap_or(1));
    while low < high {
        let middle = high - (high - low) / 2;
        if total(middle) <= room { low = middle } else { high = middle - 1 }
    }
    low
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || matches!(data_type, DataType::Dictionary(_, values) if values.is_numeric())
}

/// Cuts a text to `width` cells, with `…` at its end if it was longer.
pub fn shorten(text: std::borrow::Cow<'_, str>, width: usize) -> std::borrow::Cow<'_, str> {
    if text.width() <= width {
        return text;
    }
    let (mut kept, mut used) = (String::new(), 1);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept.into()
}

/// Cuts an instant to `width` cells, with `…` at its start if it was longer, because rows differ at its end.
fn shorten_front(instant: std::borrow::Cow<'_, str>, width: usize) -> std::borrow::Cow<'_, str> {
    match instant.len().checked_sub(width) {
        None | Some(0) => instant,
        // Digits and signs: a byte and a cell each.
        Some(over) => format!("…{}", instant.get(over + 1..).unwrap_or_default()).into(),
    }
}

/// Aligns lines of cells, cleaned and cut to `width`; columns whose index is in `right` are right-aligned.
pub fn aligned<const N: usize>(lines: &[[String; N]], right: &[usize], width: Option<usize>) -> String {
    let lines: Vec<[String; N]> = lines.iter().map(|line| line.each_ref().map(|cell| clean(cell))).collect();
    let widths: Vec<usize> = (0..N).map(|at| lines.iter().map(|line| line[at].width()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            let (before, after) = if right.contains(&at) { (pad.as_str(), "") } else { ("", pad.as_str()) };
            text.extend([if at > 0 { GAP } else { "" }, before, cell, after]);
        }
        out.push_str(&shorten(text.trim_end().into(), width.unwrap_or(usize::MAX)));
        out.push('\n');
    }
    out
}

impl Encoder for Table {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let columns = batch.schema_ref().fields().iter().zip(batch.columns());
        let mut columns: Vec<_> =
            columns.map(|(field, array)| own(field, array.as_ref(), self.ours, CellForm::Text)).collect();
        for row in 0..batch.num_rows() {
            let shown = if self.decided { self.shown } else { columns.len() };
            for (at, column) in columns.iter_mut().take(shown).enumerate() {
                self.cell.clear();
                if column.is_null(row) {
                    self.cell.push('-')
                } else {
                    column.write(row, &mut self.cell)
                }
                let cell = clean(&self.cell);
                if self.decided {
                    self.write_cell(at, &cell, out);
                } else {
                    self.bytes += cell.len();
                    self.sample.push(cell);
                }
            }
            if self.decided {
                out.push(b'\n');
            } else if self.sample.len() >= SAMPLE_ROWS * columns.len() || self.bytes > SAMPLE_BYTES {
                self.decide(out);
            }
        }
        Ok(())
    }

    /// Writes the buffered rows. Columns are wider than these rows require, because later rows may be longer.
    fn flush(&mut self, out: &mut Vec<u8>) {
        if !self.sample.is_empty() {
            self.roomy = true;
            self.decide(out);
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if !self.decided {
            self.decide(out);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
