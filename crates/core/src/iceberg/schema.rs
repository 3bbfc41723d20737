//! The columns of a table.

use crate::error::{Error, Result};
use crate::format::parquet::{TableColumn, ValueType};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// The member with the documentation of a column, and that of columns of properties.
const DOC: &str = "doc";
const PROPERTY: &str = "property";
/// The types of columns of properties.
const VALUE_TYPES: [(&str, ValueType); 4] = [
    ("boolean", ValueType::Boolean),
    ("long", ValueType::Integer),
    ("double", ValueType::Double),
    ("string", ValueType::Text),
];

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its number, which stays when it is renamed.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Whether it has no NULL.
    pub required: bool,
    /// Its type: the name of a primitive one, such as `long`; an object for a list, a map or a struct.
    #[serde(rename = "type")]
    pub kind: Value,
    /// Documentation, defaults and what else other writers say of it.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A schema of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Always `struct`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its number.
    #[serde(rename = "schema-id", default)]
    pub id: i32,
    /// Its columns.
    pub fields: Vec<Column>,
    /// The identifier fields, and what else other writers say of it.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl TableSchema {
    /// Makes a schema whose columns have the numbers from 1; items of lists and maps have those after them. Returns the
    /// greatest number, too. Errors: exit status 70 for a type that no column of evt has.
    pub fn of(schema: &Schema) -> Result<(Self, i32)> {
        let mut last = i32::try_from(schema.fields().len()).map_err(|_| Error::broken("too many columns"))?;
        let mut fields = vec![];
        for (id, field) in (1..).zip(schema.fields()) {
            let kind = type_of(field.data_type(), &mut last)?;
            let (name, required) = (field.name().clone(), !field.is_nullable());
            fields.push(Column { id, name, required, kind, rest: Map::new() });
        }
        Ok((Self { kind: "struct".to_owned(), id: 0, fields, rest: Map::new() }, last))
    }

    /// Returns the column of a name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.fields.iter().find(|column| column.name == name)
    }

    /// Returns the columns of properties.
    pub fn properties(&self) -> Vec<TableColumn> {
        let property = |column: &Column| {
            let is_one = column.rest.get(DOC).and_then(Value::as_str) == Some(PROPERTY);
            let kind =
                VALUE_TYPES.into_iter().find(|(name, _)| column.kind.as_str() == Some(name)).filter(|_| is_one)?;
            Some(TableColumn { name: column.name.clone(), kind: kind.1, id: column.id })
        };
        self.fields.iter().filter_map(property).collect()
    }

    /// Returns a schema with more columns of properties, under another number.
    pub fn with_properties(&self, more: &[TableColumn], id: i32) -> Self {
        let column = |property: &TableColumn| {
            let name =
                VALUE_TYPES.into_iter().find(|(_, kind)| *kind == property.kind).map_or("string", |(name, _)| name);
            let (name, kind) = (property.name.clone(), json!(name));
            let rest = Map::from_iter([(DOC.to_owned(), json!(PROPERTY))]);
            Column { id: property.id, name, required: false, kind, rest }
        };
        let mut extended = Self { id, ..self.clone() };
        extended.fields.extend(more.iter().map(column));
        extended
    }

    /// Returns an Arrow schema whose fields have the numbers of the columns with their names, as files of the table
    /// need them. Errors: what is missing or has another type.
    pub fn numbered(&self, schema: &Schema) -> std::result::Result<SchemaRef, String> {
        let field = |field: &FieldRef| {
            let column = self.column(field.name()).ok_or_else(|| format!("there is no column '{}'", field.name()))?;
            numbered(field, column.id, &column.kind).ok_or_else(|| {
                format!("expected column '{}' of type {}, found {}", field.name(), field.data_type(), column.kind)
            })
        };
        let fields = schema.fields().iter().map(field).collect::<std::result::Result<Fields, String>>()?;
        Ok(Arc::new(Schema { fields, metadata: schema.metadata().clone() }))
    }
}

/// Returns the type of a column, whose parts get the numbers after `last`.
fn type_of(data_type: &DataType, last: &mut i32) -> Result<Value> {
    let mut next = || {
        *last += 1;
        *last
    };
    Ok(match data_type {
        DataType::List(item) => {
            let id = next();
            let element = type_of(item.data_type(), last)?;
            json!({"type": "list", "element-id": id, "element": element, "element-required": !item.is_nullable()})
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { return Err(unknown(data_type)) };
            let [key, value] = &fields[..] else { return Err(unknown(data_type)) };
            let (key_id, value_id) = (next(), next());
            let (key, of_value) = (type_of(key.data_type(), last)?, type_of(value.data_type(), last)?);
            json!({"type": "map", "key-id": key_id, "key": key, "value-id": value_id, "value": of_value,
                   "value-required": !value.is_nullable()})
        }
        other => json!(primitive(other).ok_or_else(|| unknown(other))?),
    })
}

fn unknown(data_type: &DataType) -> Error {
    Error::broken(format!("a column of type {data_type} in a table of Iceberg"))
}

/// Returns the name of a primitive type.
fn primitive(data_type: &DataType) -> Option<&'static str> {
    Some(match data_type {
        DataType::Boolean => "boolean",
        DataType::Int32 => "int",
        DataType::Int64 => "long",
        DataType::Float64 => "double",
        DataType::Date32 => "date",
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamptz",
        DataType::Utf8 | DataType::Utf8View => "string",
        DataType::Binary | DataType::BinaryView => "binary",
        DataType::FixedSizeBinary(16) => "uuid",
        DataType::Dictionary(_, values) => primitive(values)?,
        _ => return None,
    })
}

/// Returns a field with its number and those of its parts; `None` if the type is another one.
fn numbered(field: &Field, id: i32, kind: &Value) -> Option<FieldRef> {
    let part = |name: &str| Some((i32::try_from(kind[format!("{name}-id")].as_i64()?).ok()?, &kind[name]));
    let data_type = match field.data_type() {
        DataType::List(item) => {
            let (id, of_item) = part("element")?;
            DataType::List(numbered(item, id, of_item)?)
        }
        DataType::Map(entries, is_sorted) => {
            let DataType::Struct(fields) = entries.data_type() else { return None };
            let parts = fields.iter().zip(["key", "value"]).map(|(field, name)| {
                let (id, of_part) = part(name)?;
                numbered(field, id, of_part)
            });
            let pair = DataType::Struct(parts.collect::<Option<Fields>>()?);
            DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(pair)), *is_sorted)
        }
        other if kind.as_str() == primitive(other) => other.clone(),
        _ => return None,
    };
    let mut metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
    // Iceberg has UUIDs; JSON is a text.
    let is_uuid = |(_, name): &(&String, &String)| *name == "arrow.uuid";
    metadata.extend(field.metadata().iter().filter(is_uuid).map(|(key, name)| (key.clone(), name.clone())));
    Some(Arc::new(field.clone().with_data_type(data_type).with_metadata(metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use std::collections::BTreeSet;

    /// Collects the numbers of a field and of its parts.
    fn ids(field: &Field, all: &mut Vec<String>) {
        all.extend(field.metadata().get(PARQUET_FIELD_ID_META_KEY).cloned());
        match field.data_type() {
            DataType::List(item) => ids(item, all),
            DataType::Map(entries, _) => ids(entries, all),
            DataType::Struct(fields) => fields.iter().for_each(|field| ids(field, all)),
            _ => {}
        }
    }

    #[test]
    fn every_kind_has_a_schema_whose_numbers_differ() {
        for kind in Kind::ALL {
            let (schema, last) = TableSchema::of(&kind.schema()).unwrap();
            let numbered = schema.numbered(&kind.schema()).unwrap();
            let mut all = vec![];
            numbered.fields().iter().for_each(|field| ids(field, &mut all));
            let different: BTreeSet<_> = all.iter().collect();
            assert_eq!((different.len(), all.len()), (last as usize, last as usize), "{kind}");
            let text = serde_json::to_string(&schema).unwrap();
            assert_eq!(serde_json::from_str::<TableSchema>(&text).unwrap(), schema);
        }
    }

    #[test]
    fn a_column_that_is_missing_or_of_another_type_is_named() {
        let (mut schema, _) = TableSchema::of(&Kind::Event.schema()).unwrap();
        schema.fields[1].kind = json!("int");
        let said = schema.numbered(&Kind::Event.schema()).unwrap_err();
        assert_eq!(said, "expected column 'source' of type Utf8, found \"int\"");
        schema.fields.remove(1);
        assert_eq!(schema.numbered(&Kind::Event.schema()).unwrap_err(), "there is no column 'source'");
    }
}
