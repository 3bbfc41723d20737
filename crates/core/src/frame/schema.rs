//! Arrow schemas of other programs.

use crate::error::{Result, guarded};
use arrow::datatypes::{Field, Schema};
use arrow_ipc::convert::fb_to_schema;

/// Reads a schema. The library panics on a type that it does not know, such as an integer of 128 bits.
///
/// Errors: exit status 65 with the column whose type cannot be read.
pub fn read_schema(schema: arrow_ipc::Schema<'_>) -> Result<Schema> {
    for field in schema.fields().into_iter().flatten() {
        let column = || format!("column {}", field.name().unwrap_or_default());
        guarded(|| Field::from(field)).map_err(|error| error.at(column()))?;
    }
    guarded(|| fb_to_schema(schema))
}
