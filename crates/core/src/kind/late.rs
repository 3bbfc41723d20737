//! The kind "late": an event and the metrics it is late for.

use super::event;
use arrow::datatypes::{DataType, Field};
use std::sync::Arc;

/// Index of `late_for`: names of the metrics the event is late for.
pub const LATE_FOR: usize = event::COLUMNS.len();

/// The columns after those of the event are `late_for`; `lateness_ms`, stream time minus event time in milliseconds;
/// and `partial`, whether some window of some metric counted the event.
pub(super) fn fields() -> Vec<Field> {
    let mut fields = event::fields();
    let item = Arc::new(Field::new("item", DataType::Utf8, false));
    fields.push(Field::new("late_for", DataType::List(item), false));
    fields.push(Field::new("lateness_ms", DataType::Int64, false));
    fields.push(Field::new("partial", DataType::Boolean, false));
    fields
}
