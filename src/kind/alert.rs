//! The kind "alert": a rule that fires or is resolved.

use super::field::{instant, optional, text};
use arrow::datatypes::{DataType, Field};

/// Columns of an alert, in order; `state` is `firing` or `resolved`.
pub const COLUMNS: [&str; 6] = ["rule", "state", "value", "window_start", "window_end", "since"];

pub(super) fn fields() -> Vec<Field> {
    vec![
        text("rule"),
        text("state"),
        optional(Field::new("value", DataType::Float64, true)),
        instant("window_start"),
        instant("window_end"),
        instant("since"),
    ]
}
