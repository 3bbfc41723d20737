//! The column whose type makes the schema of a file unreadable.

use crate::error::{Error, guarded};
use crate::frame::read_schema;
use crate::json::base64;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ProjectionMask, parquet_to_arrow_schema_by_columns};
use parquet::file::metadata::ParquetMetaData;

/// Returns `error`, which reading the schema gave, with the column whose type cannot be read, if one is found.
pub fn at_column(error: Error, metadata: &ParquetMetaData) -> Error {
    match of_arrow(metadata) {
        Some(found) => found,
        None => match of_parquet(metadata) {
            Some(column) => error.at(format!("column {column}")),
            None => error,
        },
    }
}

/// Returns the error of the Arrow schema that other programs store beside that of Parquet.
fn of_arrow(metadata: &ParquetMetaData) -> Option<Error> {
    let mut values = metadata.file_metadata().key_value_metadata()?.iter();
    let bytes = base64::decode(values.find(|value| value.key == ARROW_SCHEMA_META_KEY)?.value.as_ref()?)?;
    let message = match bytes.strip_prefix(&[0xff; 4]) {
        Some(framed) => framed.get(4..)?,
        None => &bytes[..],
    };
    read_schema(arrow_ipc::root_as_message(message).ok()?.header_as_schema()?).err()
}

/// Returns the first column that Arrow has no type for.
fn of_parquet(metadata: &ParquetMetaData) -> Option<String> {
    let schema = metadata.file_metadata().schema_descr();
    let is_unreadable = |root: &usize| {
        let mask = ProjectionMask::roots(schema, [*root]);
        !matches!(guarded(|| parquet_to_arrow_schema_by_columns(schema, mask, None)), Ok(Ok(_)))
    };
    let columns = schema.root_schema().get_fields();
    let root = (0..columns.len()).find(is_unreadable)?;
    Some(columns[root].name().to_owned())
}
