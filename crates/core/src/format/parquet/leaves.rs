//! How the leaves of a file's schema are read.
//!
//! The library reads each leaf as the type of Arrow that its schema suggests. A type that does not hold every value is
//! replaced here: the leaf is read as bytes ([`Physical`]). Texts and bytes are read as views, and texts are checked.

use crate::format::container::{viewed, with_children};
use crate::format::physical::Physical;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, SchemaRef};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use std::sync::Arc;

/// The type that the library is told in place of the one in the file.
#[derive(Clone, Copy)]
enum Stated {
    /// That of the file.
    AsItIs,
    /// Twelve bytes.
    Bytes,
    /// Text. The library checks only leaves of this type for UTF-8, but also reads JSON as text.
    Text,
}

/// The leaves of a schema, in the order of their columns.
struct LeafTypes<'a> {
    columns: &'a SchemaDescriptor,
    /// Whether Arrow wrote the file: its intervals have a sign, and one or two of the three parts.
    is_of_arrow: bool,
    stated: Vec<Stated>,
}

/// Returns how the columns of a file are read; `known` has the types that the library suggests.
pub fn levels(known: &ArrowReaderMetadata) -> Result<FieldLevels> {
    let metadata: &ParquetMetaData = known.metadata();
    let columns = metadata.file_metadata().schema_descr();
    let mut keys = metadata.file_metadata().key_value_metadata().into_iter().flatten().map(|pair| &pair.key);
    let is_of_arrow = keys.any(|key| key == ARROW_SCHEMA_META_KEY);
    let mut leaves = LeafTypes { columns, is_of_arrow, stated: vec![] };
    let schema: &SchemaRef = known.schema();
    let fields: Fields = schema.fields().iter().map(|field| leaves.field(field)).collect();
    let root = retyped(&columns.root_schema_ptr(), &mut leaves.stated.into_iter())?;
    parquet_to_arrow_field_levels(&SchemaDescriptor::new(root), ProjectionMask::all(), Some(&fields))
}

impl LeafTypes<'_> {
    fn field(&mut self, field: &FieldRef) -> FieldRef {
        match with_children(field.data_type(), &mut |child| self.field(child)) {
            Some(kind) => Arc::new(Field::clone(field).with_data_type(kind)),
            None => Arc::new(self.leaf(field)),
        }
    }

    fn leaf(&mut self, field: &Field) -> Field {
        let column = self.columns.column(self.stated.len());
        let (converted, kind) = (column.converted_type(), field.data_type());
        let physical = match (column.physical_type(), kind) {
            (PhysicalType::INT96, DataType::Timestamp(_, Some(_))) => Some(Physical::Instant),
            (PhysicalType::INT96, _) => Some(Physical::LocalTime),
            (_, DataType::Interval(IntervalUnit::DayTime)) if !self.is_of_arrow => Some(Physical::Interval),
            (_, DataType::Binary) if converted == ConvertedType::ENUM => Some(Physical::Text),
            _ => None,
        };
        self.stated.push(match physical {
            Some(Physical::Instant | Physical::LocalTime | Physical::Interval) => Stated::Bytes,
            None if is_text(kind) && converted != ConvertedType::UTF8 => Stated::Text,
            Some(Physical::Text) | None => Stated::AsItIs,
        });
        match physical {
            Some(physical) => physical.mark(field),
            None => field.clone().with_data_type(viewed(kind)),
        }
    }
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// Returns a schema whose leaves have the types that `stated` has in their order.
fn retyped(of: &TypePtr, stated: &mut impl Iterator<Item = Stated>) -> Result<TypePtr> {
    if let Type::GroupType { basic_info, fields } = of.as_ref() {
        let mut fields = fields.iter().map(|field| retyped(field, stated)).collect::<Result<Vec<_>>>()?;
        if let [item] = &mut fields[..]
            && basic_info.converted_type() == ConvertedType::LIST
            && item.is_primitive()
        {
            *item = in_group(item)?;
        }
        return Ok(Arc::new(Type::GroupType { basic_info: basic_info.clone(), fields }));
    }
    let leaf = match stated.next() {
        Some(Stated::Bytes) => {
            Type::primitive_type_builder(of.name(), PhysicalType::FIXED_LEN_BYTE_ARRAY).with_length(12)
        }
        Some(Stated::Text) => Type::primitive_type_builder(of.name(), PhysicalType::BYTE_ARRAY)
            .with_logical_type(Some(LogicalType::String)),
        Some(Stated::AsItIs) | None => return Ok(of.clone()),
    };
    Ok(Arc::new(leaf.with_repetition(of.get_basic_info().repetition()).build()?))
}

/// Returns the repeated group of a list around its item. Older writers repeat the item itself, whose metadata the
/// library then loses. The levels of the values are the same.
fn in_group(item: &TypePtr) -> Result<TypePtr> {
    let Type::PrimitiveType { basic_info, physical_type, type_length, scale, precision } = item.as_ref() else {
        return Ok(item.clone());
    };
    let leaf = Type::primitive_type_builder(item.name(), *physical_type)
        .with_repetition(Repetition::REQUIRED)
        .with_converted_type(basic_info.converted_type())
        .with_logical_type(basic_info.logical_type_ref().cloned())
        .with_length(*type_length)
        .with_precision(*precision)
        .with_scale(*scale);
    let group = Type::group_type_builder("list").with_repetition(basic_info.repetition());
    Ok(Arc::new(group.with_fields(vec![Arc::new(leaf.build()?)]).build()?))
}

#[cfg(test)]
mod tests {
    use crate::format::parquet::FORMAT;
    use crate::format::test_data::texts;
    use parquet::basic::Type;
    use parquet::data_type::{ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int96, Int96Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;
    use std::sync::Arc;

    /// Writes one value, or two if the column is repeated.
    fn write<T: DataType>(column: &mut SerializedColumnWriter<'_>, values: [T::T; 2]) {
        let typed = column.typed::<T>();
        let leaf = typed.get_descriptor();
        let (defined, count) = (leaf.max_def_level(), if leaf.max_rep_level() > 0 { 2 } else { 1 });
        typed.write_batch(&values[..count], Some(&[defined; 2][..count]), Some(&[0, 1][..count])).unwrap();
    }

    /// A file of one row, whose columns have two values each if they are repeated.
    fn file(schema: &str) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let columns = SchemaDescriptor::new(schema.clone());
        let mut bytes = vec![];
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for leaf in columns.columns() {
            let mut column = group.next_column().unwrap().unwrap();
            let time = |day| Int96::from(vec![0, 0, day]);
            let parts = |months: u32| FixedLenByteArray::from([months, 3, 4_500].map(u32::to_le_bytes).concat());
            match leaf.physical_type() {
                Type::INT96 => write::<Int96Type>(&mut column, [time(1_721_426), time(5_373_484)]),
                Type::FIXED_LEN_BYTE_ARRAY => write::<FixedLenByteArrayType>(&mut column, [parts(14), parts(u32::MAX)]),
                _ => write::<ByteArrayType>(&mut column, ["one".into(), vec![0xff].into()]),
            }
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        bytes
    }

    #[test]
    fn leaves_of_every_nesting_are_read_as_what_they_are() {
        let (first, second) = ("\"0001-01-01T00:00:00.000000\"", "\"9999-12-31T00:00:00.000000\"");
        let (months, most) = ("\"P14M3DT4.500S\"", "\"P4294967295M3DT4.500S\"");
        let enums = "[\"one\",\"/w==\"]";
        for (fields, expected) in [
            (
                "required int96 t; required fixed_len_byte_array(12) i (INTERVAL);",
                format!(r#"{{"t":{first},"i":{months}}}"#),
            ),
            ("repeated int96 t; required binary e (ENUM);", format!(r#"{{"t":[{first},{second}],"e":"one"}}"#)),
            (
                "repeated binary e (ENUM); repeated fixed_len_byte_array(12) i (INTERVAL);",
                format!(r#"{{"e":{enums},"i":[{months},{most}]}}"#),
            ),
            (
                "optional group l (LIST) { repeated group list { optional binary element (ENUM); } } required int96 t;",
                format!(r#"{{"l":{enums},"t":{first}}}"#),
            ),
            (
                "optional group l (LIST) { repeated int96 element; } optional group s { optional int96 t; \
                 optional binary e (ENUM); }",
                format!(r#"{{"l":[{first},{second}],"s":{{"t":{first},"e":"one"}}}}"#),
            ),
            (
                "repeated group s { required binary x; required binary e (ENUM); required int96 t; }",
                format!(r#"{{"s":[{{"x":"b25l","e":"one","t":{first}}},{{"x":"/w==","e":"/w==","t":{second}}}]}}"#),
            ),
            (
                "optional group m (MAP) { repeated group key_value { required binary key (ENUM); \
                 optional int96 value; } }",
                format!(r#"{{"m":{{"one":{first},"/w==":{second}}}}}"#),
            ),
            (
                "optional group m (MAP) { repeated group key_value { required int96 key; } } required int96 t;",
                format!(r#"{{"m":[{first},{second}],"t":{first}}}"#),
            ),
        ] {
            let read = texts(&FORMAT, &file(&format!("message m {{ {fields} }}"))).unwrap();
            assert_eq!(read, [expected], "{fields}");
        }
    }
}
