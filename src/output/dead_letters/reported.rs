//! The facts of a dead letter that its line on stderr shows.

use arrow::array::{Array, ArrayAccessor, ArrayRef, AsArray, RecordBatch, StringArray, TypedDictionaryArray};
use arrow::datatypes::{Int32Type, Int64Type};
use evt_core::kind::dead::{ErrorType, Letter, column};

/// The facts of a letter that its line on stderr shows.
pub(super) struct Reported<'a> {
    pub(super) error_type: ErrorType,
    pub(super) message: &'a str,
    pub(super) origin: &'a str,
    pub(super) partition: &'a str,
    /// `None` if the record has a name instead of a position.
    pub(super) offset: Option<i64>,
    pub(super) has_headers: bool,
    /// Whether the event of the letter has another outcome.
    pub(super) is_partial: bool,
}

impl<'a> Reported<'a> {
    /// `has_position` is false if the record of the letter has only a name.
    pub(super) fn of(letter: &Letter<'a>, has_position: bool) -> Self {
        Self {
            error_type: letter.fault.error_type,
            message: &letter.fault.message,
            origin: letter.origin,
            partition: letter.partition,
            offset: has_position.then_some(letter.offset),
            has_headers: letter.headers.is_some(),
            is_partial: letter.fault.is_partial(),
        }
    }
}

/// The columns of a batch of letters from which [`Reported`] is made.
pub(super) struct Reports<'a> {
    error_types: Texts<'a>,
    messages: &'a StringArray,
    origins: Texts<'a>,
    partitions: Texts<'a>,
    offsets: &'a [i64],
    headers: &'a ArrayRef,
}

type Texts<'a> = TypedDictionaryArray<'a, Int32Type, StringArray>;

impl<'a> Reports<'a> {
    pub(super) fn of(letters: &'a RecordBatch) -> Self {
        let texts = |index: usize| {
            let dictionary = letters.column(index).as_dictionary::<Int32Type>();
            dictionary.downcast_dict::<StringArray>().expect("a letter's column of texts")
        };
        Self {
            error_types: texts(column::ERROR_TYPE),
            messages: letters.column(column::ERROR_MESSAGE).as_string(),
            origins: texts(column::SOURCE_TOPIC),
            partitions: texts(column::PARTITION),
            offsets: letters.column(column::OFFSET).as_primitive::<Int64Type>().values(),
            headers: letters.column(column::HEADERS),
        }
    }

    pub(super) fn row(&self, row: usize) -> Reported<'a> {
        Reported {
            error_type: ErrorType::from_name(self.error_types.value(row)).unwrap_or(ErrorType::ParseError),
            message: self.messages.value(row),
            origin: self.origins.value(row),
            partition: self.partitions.value(row),
            offset: Some(self.offsets[row]),
            has_headers: self.headers.is_valid(row),
            // Such a letter is the outcome of its row.
            is_partial: false,
        }
    }
}
