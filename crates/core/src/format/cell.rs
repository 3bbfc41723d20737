//! Formats one value of an Arrow array as text, alike in JSON lines, CSV, tables and JSON text of foreign rows.
//!
//! Types that JSON lacks are text: instants are RFC 3339 with `Z` (six digits, nine if nanoseconds need them; an
//! instant without a zone is taken as UTC), dates `2024-01-15`, times of day `10:00:00.000000`, durations and intervals
//! ISO 8601 (`PT1.500S`, `P1M2DT0S`), uuids hyphenated, other binary base64, NaN and infinities `NaN`, `Infinity`,
//! `-Infinity`. In CSV and tables whole numbers have no fraction. Decimals are JSON numbers with every digit. A null
//! field of a struct is left out; a null item of a list or value of a map is `null`. A union is its value.
//!
//! Everything about a column is resolved once per batch: a row costs one call per cell.

use super::physical::{Int96, Physical, write_interval, write_parts};
use crate::json::base64;
use crate::json::number::{self, write_decimal};
use crate::json::text::{key, write_string, write_uuid};
use crate::time::instant::write_date;
use crate::time::stamp::{Stamp, write_seconds, write_time_of_day};
use arrow::array::{
    AnyDictionaryArray, Array, ArrayRef, ArrowPrimitiveType, AsArray, GenericListViewArray, Int64Array, MapArray,
    OffsetSizeTrait, RunArray, UnionArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, RunEndIndexType, TimeUnit,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use std::fmt::{Debug, Display, LowerExp, Write};

/// The form of a top-level value: JSON, where strings have quotes and escapes, or bare text (CSV, tables). A value
/// inside a container is always JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellForm {
    /// A JSON value.
    Json,
    /// The bare content.
    Text,
    /// A JSON value that may be truncated anywhere after this many bytes, because a record must be shorter.
    Cut(usize),
}

impl CellForm {
    /// Returns the form of values inside containers.
    fn within(self) -> Self {
        if self == CellForm::Text { CellForm::Json } else { self }
    }

    /// Returns the bytes after which a value may be cut.
    pub(super) fn max(self) -> usize {
        if let CellForm::Cut(max) = self { max } else { usize::MAX }
    }

    /// Returns the part of a text that is written.
    pub(super) fn head(self, text: &str) -> &str {
        if text.len() <= self.max() { text } else { &text[..text.ceil_char_boundary(self.max())] }
    }

    /// Returns the part of bytes that is written.
    pub(super) fn head_of(self, bytes: &[u8]) -> &[u8] {
        &bytes[..bytes.len().min(self.max())]
    }
}

/// Maximum bytes of a dictionary's formatted values that are kept while its rows are written.
const RENDERED_MAX: usize = 64 << 10;

type Writer<'a> = Box<dyn FnMut(usize, &mut String) + 'a>;

/// One column of a batch, prepared for writing cell by cell.
pub struct Column<'a> {
    nulls: Option<NullBuffer>,
    write: Writer<'a>,
}

impl<'a> Column<'a> {
    /// Prepares the values of `array`; `field` says whether binary is uuids, or values of [`Physical`].
    pub fn new(field: &Field, array: &'a dyn Array, form: CellForm) -> Self {
        Self { nulls: nulls(array), write: writer(field, array, form) }
    }

    /// Creates a column written by `write`, null where `array` is.
    pub fn with(array: &'a dyn Array, write: impl FnMut(usize, &mut String) + 'a) -> Self {
        Self { nulls: nulls(array), write: Box::new(write) }
    }

    /// Whether the value is null.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends the value, which must not be null.
    #[inline]
    pub fn write(&mut self, row: usize, out: &mut String) {
        (self.write)(row, out);
    }

    /// Appends the value or the word `null`.
    fn write_or_null(&mut self, row: usize, out: &mut String) {
        if self.is_null(row) { out.push_str("null") } else { self.write(row, out) }
    }
}

/// Returns which values are null, if any are.
fn nulls(array: &dyn Array) -> Option<NullBuffer> {
    array.logical_nulls().filter(|nulls| nulls.null_count() > 0)
}

fn writer<'a>(field: &Field, array: &'a dyn Array, form: CellForm) -> Writer<'a> {
    match array.data_type() {
        DataType::Null => Box::new(|_, out| out.push_str("null")),
        DataType::Boolean => {
            let values = array.as_boolean();
            Box::new(move |row, out| out.push_str(if values.value(row) { "true" } else { "false" }))
        }
        DataType::Int8 => integer::<Int8Type>(array),
        DataType::Int16 => integer::<Int16Type>(array),
        DataType::Int32 => integer::<Int32Type>(array),
        DataType::Int64 => integer::<Int64Type>(array),
        DataType::UInt8 => integer::<UInt8Type>(array),
        DataType::UInt16 => integer::<UInt16Type>(array),
        DataType::UInt32 => integer::<UInt32Type>(array),
        DataType::UInt64 => integer::<UInt64Type>(array),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => float(array, form),
        DataType::Decimal32(..) => decimal::<Decimal32Type>(array),
        DataType::Decimal64(..) => decimal::<Decimal64Type>(array),
        DataType::Decimal128(..) => decimal::<Decimal128Type>(array),
        DataType::Decimal256(..) => decimal::<Decimal256Type>(array),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => string(array, form),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            bytes(field, array, form)
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => list(item, array, form.within()),
        DataType::Struct(_) => object(array, form.within()),
        DataType::Map(..) => map(array.as_map(), form.within()),
        DataType::Union(..) => union(array, form),
        DataType::Dictionary(..) => dictionary(field, array, form),
        DataType::RunEndEncoded(ends, values) => match ends.data_type() {
            DataType::Int16 => run::<Int16Type>(values, array, form),
            DataType::Int32 => run::<Int32Type>(values, array, form),
            _ => run::<Int64Type>(values, array, form),
        },
        _ => quoted(form, time(array)),
    }
}

/// Quotes values in JSON that need no escapes.
fn quoted<'a>(form: CellForm, mut write: Writer<'a>) -> Writer<'a> {
    match form {
        CellForm::Text => write,
        CellForm::Json | CellForm::Cut(_) => Box::new(move |row, out| {
            out.push('"');
            write(row, out);
            out.push('"');
        }),
    }
}

fn integer<T: ArrowPrimitiveType<Native: Display>>(array: &dyn Array) -> Writer<'_> {
    let values = array.as_primitive::<T>().values();
    Box::new(move |row, out| {
        let _ = write!(out, "{}", values[row]);
    })
}

fn decimal<T: DecimalType + ArrowPrimitiveType<Native: Display>>(array: &dyn Array) -> Writer<'_> {
    let values = array.as_primitive::<T>();
    let scale = values.scale();
    Box::new(move |row, out| write_decimal(out, &values.value(row).to_string(), scale.into()))
}

fn float(array: &dyn Array, form: CellForm) -> Writer<'_> {
    if let Some(values) = array.as_primitive_opt::<Float64Type>() {
        return Box::new(move |row, out| write_float(out, values.value(row), form));
    }
    if let Some(values) = array.as_primitive_opt::<Float32Type>() {
        return Box::new(move |row, out| write_float(out, values.value(row), form));
    }
    let values = array.as_primitive::<Float16Type>();
    Box::new(move |row, out| write_float(out, values.value(row).to_f32(), form))
}

/// Appends a number; in bare text whole numbers have no fraction, and NaN and infinities are words without quotes.
fn write_float<T: Into<f64> + Debug + Display + LowerExp + Copy>(out: &mut String, value: T, form: CellForm) {
    match number::special_word(value.into()) {
        Some(word) if form == CellForm::Text => out.push_str(word),
        None if form == CellForm::Text => number::write_number(out, value),
        _ => number::write_float(out, value),
    }
}

fn string(array: &dyn Array, form: CellForm) -> Writer<'_> {
    fn of<'a>(value: impl Fn(usize) -> &'a str + 'a, form: CellForm) -> Writer<'a> {
        match form {
            CellForm::Json => Box::new(move |row, out| write_string(out, value(row))),
            CellForm::Text => Box::new(move |row, out| out.push_str(value(row))),
            CellForm::Cut(_) => Box::new(move |row, out| write_string(out, form.head(value(row)))),
        }
    }
    if let Some(values) = array.as_string_opt::<i32>() {
        return of(|row| values.value(row), form);
    }
    match texts(array) {
        Some(text) => of(text, form),
        None => Box::new(|_, _| {}),
    }
}

/// Returns access to the texts of an array of any text type, which may be the values of a dictionary.
pub fn texts<'a>(array: &'a dyn Array) -> Option<Box<dyn Fn(usize) -> &'a str + 'a>> {
    if let Some(values) = array.as_string_opt::<i32>() {
        return Some(Box::new(|row| values.value(row)));
    }
    if let Some(values) = array.as_string_opt::<i64>() {
        return Some(Box::new(|row| values.value(row)));
    }
    if let Some(values) = array.as_string_view_opt() {
        return Some(Box::new(|row| values.value(row)));
    }
    let dictionary = array.as_any_dictionary_opt()?;
    let (codes, text) = (codes(dictionary), texts(dictionary.values().as_ref())?);
    Some(Box::new(move |row| text(codes[row])))
}

/// Returns access to the bytes of an array of any binary type.
pub(super) fn binaries<'a>(array: &'a dyn Array) -> Option<Box<dyn Fn(usize) -> &'a [u8] + 'a>> {
    if let Some(values) = array.as_binary_opt::<i32>() {
        return Some(Box::new(|row| values.value(row)));
    }
    if let Some(values) = array.as_binary_opt::<i64>() {
        return Some(Box::new(|row| values.value(row)));
    }
    if let Some(values) = array.as_fixed_size_binary_opt() {
        return Some(Box::new(|row| values.value(row)));
    }
    let values = array.as_binary_view_opt()?;
    Some(Box::new(|row| values.value(row)))
}

/// Whether values of a field are uuids.
pub fn is_uuid(field: &Field) -> bool {
    *field.data_type() == DataType::FixedSizeBinary(16)
        && field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid")
}

fn bytes<'a>(field: &Field, array: &'a dyn Array, form: CellForm) -> Writer<'a> {
    let Some(value) = binaries(array) else { return Box::new(|_, _| {}) };
    let mut stamp = Stamp::default();
    let write: Writer<'a> = match Physical::of(field) {
        Some(Physical::Text) => return Box::new(move |row, out| write_bytes(value(row), form, out)),
        Some(Physical::Interval) => Box::new(move |row, out| write_parts(out, value(row))),
        Some(kind @ (Physical::LocalTime | Physical::Instant)) => Box::new(move |row, out| {
            if let Some(time) = Int96::new(value(row)) {
                time.write(&mut stamp, out);
            }
            if kind == Physical::LocalTime {
                out.pop();
            }
        }),
        None if is_uuid(field) => Box::new(move |row, out| write_uuid(out, value(row))),
        None => Box::new(move |row, out| base64::encode(form.head_of(value(row)), out)),
    };
    quoted(form, write)
}

/// Writes bytes as text if they are UTF-8, else as base64.
pub(super) fn write_bytes(bytes: &[u8], form: CellForm, out: &mut String) {
    match (str::from_utf8(bytes), form) {
        (Ok(text), CellForm::Text) => out.push_str(text),
        (Ok(text), _) => write_string(out, form.head(text)),
        (Err(_), CellForm::Text) => base64::encode(bytes, out),
        (Err(_), _) => write_base64(bytes, form, out),
    }
}

/// Writes bytes as base64, a JSON string.
pub fn write_base64(bytes: &[u8], form: CellForm, out: &mut String) {
    out.push('"');
    base64::encode(form.head_of(bytes), out);
    out.push('"');
}

/// Returns the writer of instants, dates, times of day, durations and intervals.
fn time(array: &dyn Array) -> Writer<'_> {
    match array.data_type() {
        DataType::Timestamp(unit, zone) => {
            let (mut stamp, ticks, unit, is_local) = (Stamp::default(), ticks(array), *unit, zone.is_none());
            Box::new(move |row, out| {
                // A timestamp without a zone is a local time, so `--time-zone` decides its instant.
                if is_local {
                    stamp.write_local(out, ticks.value(row), unit);
                } else {
                    stamp.write_ticks(out, ticks.value(row), unit);
                }
            })
        }
        DataType::Date32 => {
            let values = array.as_primitive::<Date32Type>();
            Box::new(move |row, out| write_date(out, values.value(row).into()))
        }
        DataType::Date64 => {
            let values = array.as_primitive::<Date64Type>();
            Box::new(move |row, out| write_date(out, values.value(row).div_euclid(86_400_000)))
        }
        DataType::Time32(unit) | DataType::Time64(unit) => {
            let (ticks, unit) = (ticks(array), *unit);
            Box::new(move |row, out| write_time_of_day(out, ticks.value(row), unit))
        }
        DataType::Duration(unit) => {
            let (ticks, unit) = (ticks(array), *unit);
            Box::new(move |row, out| {
                out.push_str("PT");
                write_seconds(out, ticks.value(row), unit);
                out.push('S');
            })
        }
        DataType::Interval(unit) => interval(array, *unit),
        _ => Box::new(|_, _| {}),
    }
}

/// Returns the values of a time type as 64-bit ticks of its unit, whatever its width.
fn ticks(array: &dyn Array) -> Int64Array {
    let ticks = cast(array, &DataType::Int64);
    ticks.map_or_else(|_| Int64Array::new_null(array.len()), |ticks| ticks.as_primitive().clone())
}

fn interval(array: &dyn Array, unit: IntervalUnit) -> Writer<'_> {
    match unit {
        IntervalUnit::YearMonth => {
            let values = array.as_primitive::<IntervalYearMonthType>();
            Box::new(move |row, out| write_interval(out, [values.value(row).into(), 0], 0, TimeUnit::Second))
        }
        IntervalUnit::DayTime => {
            let values = array.as_primitive::<IntervalDayTimeType>();
            Box::new(move |row, out| {
                let value = values.value(row);
                write_interval(out, [0, value.days.into()], value.milliseconds.into(), TimeUnit::Millisecond);
            })
        }
        IntervalUnit::MonthDayNano => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>();
            Box::new(move |row, out| {
                let value = values.value(row);
                let days = [value.months.into(), value.days.into()];
                write_interval(out, days, value.nanoseconds, TimeUnit::Nanosecond);
            })
        }
    }
}

fn list<'a>(field: &Field, array: &'a dyn Array, form: CellForm) -> Writer<'a> {
    let item = |values: &'a ArrayRef| Column::new(field, values.as_ref(), form);
    if let Some(list) = array.as_list_opt::<i32>() {
        return items(item(list.values()), |row| span(list.value_offsets(), row), form);
    }
    if let Some(list) = array.as_list_opt::<i64>() {
        return items(item(list.values()), |row| span(list.value_offsets(), row), form);
    }
    if let Some(list) = array.as_fixed_size_list_opt() {
        let length = list.value_length().as_usize();
        return items(item(list.values()), move |row| (row * length, (row + 1) * length), form);
    }
    if let Some(list) = array.as_list_view_opt::<i32>() {
        return items(item(list.values()), |row| view(list, row), form);
    }
    let list = array.as_list_view::<i64>();
    items(item(list.values()), |row| view(list, row), form)
}

fn span<O: OffsetSizeTrait>(offsets: &[O], row: usize) -> (usize, usize) {
    (offsets[row].as_usize(), offsets[row + 1].as_usize())
}

fn view<O: OffsetSizeTrait>(list: &GenericListViewArray<O>, row: usize) -> (usize, usize) {
    let start = list.offsets()[row].as_usize();
    (start, start + list.sizes()[row].as_usize())
}

/// Returns the writer of a JSON array of the items in the range of each row.
fn items<'a>(mut item: Column<'a>, range: impl Fn(usize) -> (usize, usize) + 'a, form: CellForm) -> Writer<'a> {
    Box::new(move |row, out| {
        let ((start, end), before) = (range(row), out.len());
        out.push('[');
        for at in start..end {
            if at > start {
                out.push(',');
            }
            item.write_or_null(at, out);
            if out.len() - before > form.max() {
                break;
            }
        }
        out.push(']');
    })
}

fn object(array: &dyn Array, form: CellForm) -> Writer<'_> {
    let array = array.as_struct();
    let mut members: Vec<(String, Column)> = vec![];
    for (field, values) in array.fields().iter().zip(array.columns()) {
        members.push((key(field.name()), Column::new(field, values.as_ref(), form)));
    }
    Box::new(move |row, out| {
        let before = out.len();
        out.push('{');
        let mut first = true;
        for (key, column) in &mut members {
            if !column.is_null(row) && out.len() - before <= form.max() {
                out.push_str(if first { &key[1..] } else { key });
                column.write(row, out);
                first = false;
            }
        }
        out.push('}');
    })
}

fn map(array: &MapArray, form: CellForm) -> Writer<'_> {
    let (keys, values) = (array.keys().as_ref(), array.values().as_ref());
    let (key, item) = array.entries_fields();
    // A name is a string, whatever the type of the keys.
    let (text, mut name) = (texts(keys), Column::new(key, keys, CellForm::Text));
    let mut value = Column::new(item, values, form);
    let mut scratch = String::new();
    Box::new(move |row, out| {
        let ((start, end), before) = (span(array.value_offsets(), row), out.len());
        out.push('{');
        for at in start..end {
            if at > start {
                out.push(',');
            }
            match &text {
                Some(text) => write_string(out, form.head(text(at))),
                None => {
                    scratch.clear();
                    name.write_or_null(at, &mut scratch);
                    write_string(out, &scratch);
                }
            }
            out.push(':');
            value.write_or_null(at, out);
            if out.len() - before > form.max() {
                break;
            }
        }
        out.push('}');
    })
}

fn union(array: &dyn Array, form: CellForm) -> Writer<'_> {
    let Some(array) = array.as_any().downcast_ref::<UnionArray>() else { return Box::new(|_, _| {}) };
    let DataType::Union(fields, _) = array.data_type() else { return Box::new(|_, _| {}) };
    let mut children: Vec<(i8, Column)> = vec![];
    for (id, field) in fields.iter() {
        children.push((id, Column::new(field, array.child(id).as_ref(), form)));
    }
    Box::new(move |row, out| {
        let id = array.type_id(row);
        if let Some((_, child)) = children.iter_mut().find(|(each, _)| *each == id) {
            child.write_or_null(array.value_offset(row), out);
        }
    })
}

/// Returns the writer of a dictionary. Formats each value once if that is less work than formatting each row, and
/// little text.
fn dictionary<'a>(field: &Field, array: &'a dyn Array, form: CellForm) -> Writer<'a> {
    let array = array.as_any_dictionary();
    let values = array.values();
    if values.is_empty() {
        return Box::new(|_, _| {});
    }
    let codes = codes(array);
    let field = field.clone().with_data_type(values.data_type().clone());
    let mut column = Column::new(&field, values.as_ref(), form);
    let is_less = values.len() <= array.keys().len();
    match is_less.then(|| rendered(&mut column, values.len())).flatten() {
        Some((text, ends)) => Box::new(move |row, out| out.push_str(&text[ends[codes[row]]..ends[codes[row] + 1]])),
        None => Box::new(move |row, out| column.write_or_null(codes[row], out)),
    }
}

/// Formats all values; returns the text and the end of each, or `None` if the text is too long.
fn rendered(column: &mut Column<'_>, count: usize) -> Option<(String, Vec<usize>)> {
    let (mut text, mut ends) = (String::new(), vec![0]);
    for at in 0..count {
        column.write_or_null(at, &mut text);
        ends.push(text.len());
        if text.len() > RENDERED_MAX {
            return None;
        }
    }
    Some((text, ends))
}

/// Returns the indices of the values of a dictionary's rows; one of a null is any.
fn codes(array: &dyn AnyDictionaryArray) -> Vec<usize> {
    if array.values().is_empty() { vec![] } else { array.normalized_keys() }
}

fn run<'a, T: RunEndIndexType>(field: &Field, array: &'a dyn Array, form: CellForm) -> Writer<'a> {
    let Some(array) = array.as_any().downcast_ref::<RunArray<T>>() else { return Box::new(|_, _| {}) };
    let mut column = Column::new(field, array.values().as_ref(), form);
    Box::new(move |row, out| column.write_or_null(array.get_physical_index(row), out))
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
