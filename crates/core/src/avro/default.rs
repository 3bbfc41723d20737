//! Defaults of fields: whether they are values of their types, and their bytes.

use super::binary::{write_bytes, write_long};
use super::schema::{AvroType, Field, NodeId, Schema, SchemaFault};
use crate::json::DEPTH_MAX;
use crate::json::text::excerpt;
use serde_json::Value;
use std::collections::HashMap;

/// Maximum values and bytes of all defaults of a schema: the size of a default may double with each level of records
/// whose fields have defaults, and so does the time to expand it.
const VALUES_MAX: usize = 1 << 16;
const BYTES_MAX: usize = 1 << 20;
const TOO_MANY: &str = "the schema's defaults contain more than 65,536 values";
const TOO_LONG: &str = "the schema's defaults are longer than 1 MiB";

/// Checks that each default is a value of its field's type, and that all defaults together are small enough. Fields
/// that a default omits count with their own defaults.
pub fn check(schema: &Schema) -> Result<(), SchemaFault> {
    let mut encoder = DefaultEncoder::new(schema);
    for id in schema.ids() {
        let AvroType::Record { name, fields } = &schema.node(id).avro_type else { continue };
        for field in fields {
            let Some(value) = &field.default else { continue };
            let checked = match encoder.is_value(field.node, value) {
                true => encoder.encode(field).map(|_| ()).map_err(str::to_owned),
                false => {
                    let found = excerpt(&value.to_string());
                    Err(format!("expected a default of type {}, found {found}", schema.describe(field.node)))
                }
            };
            checked.map_err(|why| SchemaFault { path: format!("{}.{}", name.short, field.name), why })?;
        }
    }
    Ok(())
}

/// Encodes defaults as a writer would have written them.
pub struct DefaultEncoder<'a> {
    schema: &'a Schema,
    /// Whether a value is valid for a union, by union and address of the value, which does not move in the schema. Each
    /// pair is checked once; otherwise unions of records that contain unions would take time exponential in the depth
    /// of the value.
    verdicts: HashMap<(NodeId, usize), bool>,
    /// Values and bytes that are left of the maximum.
    values: usize,
    bytes: usize,
}

impl<'a> DefaultEncoder<'a> {
    pub fn new(schema: &'a Schema) -> Self {
        Self { schema, verdicts: HashMap::new(), values: VALUES_MAX, bytes: BYTES_MAX }
    }

    /// Encodes the default of a field that the writer does not have.
    pub fn encode(&mut self, field: &'a Field) -> Result<Vec<u8>, &'static str> {
        let default = field.default.as_ref().ok_or("a field that the writer does not have has no default")?;
        let mut out = vec![];
        self.write(field.node, default, &mut out, 0)?;
        self.bytes = self.bytes.checked_sub(out.len()).ok_or(TOO_LONG)?;
        Ok(out)
    }

    /// Whether `value` is a valid default of the type at `id`. The default of a union may be one of any branch (Avro
    /// 1.12).
    fn is_value(&mut self, id: NodeId, value: &Value) -> bool {
        match (&self.schema.node(id).avro_type, value) {
            (AvroType::Null, value) => value.is_null(),
            (AvroType::Boolean, value) => value.is_boolean(),
            (AvroType::Int, value) => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            (AvroType::Long, value) => value.is_i64(),
            (AvroType::Float | AvroType::Double, value) => value.is_number(),
            (AvroType::String, value) => value.is_string(),
            (AvroType::Bytes, Value::String(text)) => latin(text).is_some(),
            (AvroType::Fixed { size, .. }, Value::String(text)) => {
                latin(text).is_some_and(|bytes| bytes.len() as u64 == *size)
            }
            (AvroType::Enum { symbols, .. }, Value::String(symbol)) => symbols.contains(symbol),
            (AvroType::Array(item), Value::Array(values)) => values.iter().all(|value| self.is_value(*item, value)),
            (AvroType::Map(inner), Value::Object(values)) => values.values().all(|value| self.is_value(*inner, value)),
            (AvroType::Record { fields, .. }, Value::Object(values)) => {
                fields.iter().all(|field| match values.get(&field.name) {
                    Some(value) => self.is_value(field.node, value),
                    None => field.default.is_some(),
                })
            }
            (AvroType::Union(branches), value) => {
                let key = (id, std::ptr::from_ref(value).addr());
                if let Some(verdict) = self.verdicts.get(&key) {
                    return *verdict;
                }
                let verdict = branches.iter().any(|branch| self.is_value(*branch, value));
                self.verdicts.insert(key, verdict);
                verdict
            }
            _ => false,
        }
    }

    fn write(&mut self, id: NodeId, value: &Value, out: &mut Vec<u8>, depth: u32) -> Result<(), &'static str> {
        const NO_VALUE: &str = "a default does not match its type";
        self.values = self.values.checked_sub(1).ok_or(TOO_MANY)?;
        if depth > DEPTH_MAX {
            return Err("the default contains itself, or is nested deeper than 128");
        }
        if out.len() > self.bytes {
            return Err(TOO_LONG);
        }
        match (&self.schema.node(id).avro_type, value) {
            (AvroType::Null, _) => {}
            (AvroType::Boolean, value) => out.push(u8::from(value.as_bool().ok_or(NO_VALUE)?)),
            (AvroType::Int | AvroType::Long, value) => write_long(out, value.as_i64().ok_or(NO_VALUE)?),
            (AvroType::Float, value) => out.extend((value.as_f64().ok_or(NO_VALUE)? as f32).to_le_bytes()),
            (AvroType::Double, value) => out.extend(value.as_f64().ok_or(NO_VALUE)?.to_le_bytes()),
            (AvroType::String, Value::String(text)) => write_bytes(out, text.as_bytes()),
            (AvroType::Bytes, Value::String(text)) => write_bytes(out, &latin(text).ok_or(NO_VALUE)?),
            (AvroType::Fixed { .. }, Value::String(text)) => out.extend(latin(text).ok_or(NO_VALUE)?),
            (AvroType::Enum { symbols, .. }, Value::String(text)) => {
                let at = symbols.iter().position(|symbol| symbol == text).ok_or(NO_VALUE)?;
                write_long(out, at as i64);
            }
            (AvroType::Array(items), Value::Array(values)) => {
                write_block_start(out, values.len());
                values.iter().try_for_each(|value| self.write(*items, value, out, depth + 1))?;
                write_long(out, 0);
            }
            (AvroType::Map(inner), Value::Object(values)) => {
                write_block_start(out, values.len());
                for (key, value) in values {
                    write_bytes(out, key.as_bytes());
                    self.write(*inner, value, out, depth + 1)?;
                }
                write_long(out, 0);
            }
            (AvroType::Record { fields, .. }, Value::Object(values)) => {
                for field in fields {
                    let value = values.get(&field.name).or(field.default.as_ref()).ok_or(NO_VALUE)?;
                    self.write(field.node, value, out, depth + 1)?;
                }
            }
            (AvroType::Union(branches), value) => {
                let at = branches.iter().position(|branch| self.is_value(*branch, value)).ok_or(NO_VALUE)?;
                write_long(out, at as i64);
                self.write(branches[at], value, out, depth + 1)?;
            }
            _ => return Err(NO_VALUE),
        }
        Ok(())
    }
}

/// Writes the number of items of an array's or map's only block; an empty one has none.
fn write_block_start(out: &mut Vec<u8>, count: usize) {
    if count > 0 {
        write_long(out, count as i64);
    }
}

/// Decodes bytes from Avro's JSON encoding: characters up to U+00FF.
fn latin(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}
