//! Typed access to the rows of a batch of events; the types of columns are checked once.

use super::array;
use super::event::{COLUMNS, DISTINCT, column};
use crate::error::{Error, Result};
use arrow::array::{
    Array, ArrayAccessor, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TypedDictionaryArray,
};
use arrow::datatypes::Int32Type;

/// The value of a column in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// Null, or the batch has no such column.
    None,
    /// Text.
    Text(&'a str),
    /// An integer.
    Number(i64),
    /// An instant (µs).
    Instant(i64),
    /// A UUID.
    Uuid([u8; 16]),
}

/// The columns of a batch.
pub struct RowColumns<'a> {
    columns: [Option<ColumnView<'a>>; COLUMNS.len()],
    properties: &'a StringArray,
    distinct: Option<&'a BooleanArray>,
}

/// One column.
pub enum ColumnView<'a> {
    /// Text.
    Text(&'a StringArray),
    /// Text as a dictionary.
    Dictionary(TypedDictionaryArray<'a, Int32Type, StringArray>),
    /// Integers.
    Number(&'a Int64Array),
    /// Instants.
    Instant(&'a TimestampMicrosecondArray),
    /// UUIDs.
    Uuid(&'a FixedSizeBinaryArray),
}

impl<'a> RowColumns<'a> {
    /// Checks the columns of a batch.
    ///
    /// Errors: exit status 65 if it does not hold events.
    pub fn new(batch: &'a RecordBatch) -> Result<Self> {
        let mut columns = [const { None }; COLUMNS.len()];
        for (view, name) in columns.iter_mut().zip(COLUMNS) {
            *view = batch.column_by_name(name).map(|array| ColumnView::new(name, array)).transpose()?;
        }
        match columns[column::PROPERTIES] {
            Some(ColumnView::Text(properties)) => {
                let distinct = array(batch, DISTINCT);
                Ok(Self { columns, properties, distinct })
            }
            _ => Err(Error::corrupt("expected events with a text column 'properties'")),
        }
    }

    /// Returns a row's properties, a JSON object.
    #[inline]
    pub fn properties(&self, row: usize) -> &'a str {
        self.properties.value(row)
    }

    /// Whether a row's properties certainly contain no name twice ([`distinct_field`](super::event::distinct_field)).
    #[inline]
    pub fn is_distinct(&self, row: usize) -> bool {
        self.distinct.is_some_and(|distinct| distinct.value(row))
    }

    /// Returns a column by its index in [`COLUMNS`], if the batch has it.
    pub fn column(&self, column: usize) -> Option<&ColumnView<'a>> {
        self.columns.get(column)?.as_ref()
    }

    /// Returns the code of a row's value, if the column is a dictionary.
    #[inline]
    pub fn code(&self, column: usize, row: usize) -> Option<usize> {
        match self.column(column)? {
            ColumnView::Dictionary(array) if array.is_valid(row) => usize::try_from(array.keys().value(row)).ok(),
            _ => None,
        }
    }

    /// Returns the value of a column in one row.
    #[inline]
    pub fn cell(&self, column: usize, row: usize) -> Cell<'a> {
        match self.column(column) {
            Some(view) => view.cell(row),
            None => Cell::None,
        }
    }
}

impl<'a> ColumnView<'a> {
    fn new(name: &str, array: &'a ArrayRef) -> Result<Self> {
        let dictionary =
            || array.as_dictionary_opt::<Int32Type>()?.downcast_dict::<StringArray>().map(ColumnView::Dictionary);
        let found = array.as_string_opt::<i32>().map(ColumnView::Text).or_else(dictionary);
        let found = found.or_else(|| array.as_primitive_opt().map(ColumnView::Number));
        let found = found.or_else(|| array.as_primitive_opt().map(ColumnView::Instant));
        let uuid = || array.as_fixed_size_binary_opt().filter(|ids| ids.value_length() == 16).map(ColumnView::Uuid);
        let found = found.or_else(uuid);
        found.ok_or_else(|| Error::corrupt(format!("column '{name}' of events: unexpected {}", array.data_type())))
    }

    /// Whether some row is null.
    pub fn has_nulls(&self) -> bool {
        match self {
            ColumnView::Text(array) => array.null_count() > 0,
            ColumnView::Dictionary(array) => array.logical_null_count() > 0,
            ColumnView::Number(array) => array.null_count() > 0,
            ColumnView::Instant(array) => array.null_count() > 0,
            ColumnView::Uuid(array) => array.null_count() > 0,
        }
    }

    /// Returns the value of one row.
    #[inline]
    pub fn cell(&self, row: usize) -> Cell<'a> {
        match self {
            ColumnView::Text(array) if array.is_valid(row) => Cell::Text(array.value(row)),
            ColumnView::Dictionary(array) if array.is_valid(row) => Cell::Text(array.value(row)),
            ColumnView::Number(array) if array.is_valid(row) => Cell::Number(array.value(row)),
            ColumnView::Instant(array) if array.is_valid(row) => Cell::Instant(array.value(row)),
            ColumnView::Uuid(array) if array.is_valid(row) => {
                array.value(row).try_into().map_or(Cell::None, Cell::Uuid)
            }
            _ => Cell::None,
        }
    }
}
