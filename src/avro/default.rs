//! Checks that defaults are values of their fields' types, and limits their size.

use super::schema::{Field, NodeId, Schema, Shape};
use crate::json::DEPTH_MAX;
use serde_json::Value;
use std::collections::HashMap;

/// Returns the path and reason of the first default that is not a value of its field's type.
pub(super) fn check_all(schema: &Schema) -> Option<(String, String)> {
    let mut defaults = Defaults { schema, verdicts: HashMap::new() };
    schema.ids().find_map(|id| {
        let Shape::Record { name, fields } = &schema.node(id).shape else { return None };
        let mut bad = |field: &&Field| field.default.as_ref().is_some_and(|value| !defaults.fit(field.node, value));
        let field = fields.iter().find(|field| bad(field))?;
        let default = field.default.as_ref()?;
        let why = format!("default {default} is no {}", schema.describe(field.node));
        Some((format!("{}.{}", name.short, field.name), why))
    })
}

/// Returns the path and reason of the first default that is too large with the defaults of the fields it leaves out.
pub(super) fn measure_all(schema: &Schema) -> Option<(String, String)> {
    let defaults = Defaults { schema, verdicts: HashMap::new() };
    let mut sizes = Sizes { defaults, known: HashMap::new() };
    schema.ids().find_map(|id| {
        let Shape::Record { name, fields } = &schema.node(id).shape else { return None };
        let field = (0..fields.len()).find(|at| sizes.field((id, *at), &fields[*at], 0) > VALUES_MAX)?;
        let why =
            format!("default holds itself, or more than {VALUES_MAX} values with the defaults of what it leaves out");
        Some((format!("{}.{}", name.short, fields[field].name), why))
    })
}

impl Schema {
    /// Whether `value` is a default of the type at `id`.
    pub fn takes(&self, id: NodeId, value: &Value) -> bool {
        Defaults { schema: self, verdicts: HashMap::new() }.fit(id, value)
    }
}

/// Maximum number of values in a default: it may double with each level of records whose fields have defaults, and
/// expanding it takes as long.
const VALUES_MAX: u64 = 1 << 16;

/// Counts the values of expanded defaults.
struct Sizes<'a> {
    defaults: Defaults<'a>,
    /// By record and index of the field.
    known: HashMap<(NodeId, usize), u64>,
}

impl Sizes<'_> {
    fn field(&mut self, key: (NodeId, usize), field: &Field, depth: u32) -> u64 {
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let Some(value) = &field.default else { return 0 };
        // A default that is met again during its own expansion contains itself.
        self.known.insert(key, u64::MAX);
        let size = self.value(field.node, value, depth + 1);
        self.known.insert(key, size);
        size
    }

    fn value(&mut self, id: NodeId, value: &Value, depth: u32) -> u64 {
        if depth > DEPTH_MAX {
            return u64::MAX;
        }
        let schema = self.defaults.schema;
        match (&schema.node(id).shape, value) {
            (Shape::Array(item), Value::Array(values)) => {
                values.iter().fold(1, |sum, value| sum.saturating_add(self.value(*item, value, depth + 1)))
            }
            (Shape::Map(inner), Value::Object(values)) => {
                values.values().fold(1, |sum, value| sum.saturating_add(self.value(*inner, value, depth + 1)))
            }
            (Shape::Record { fields, .. }, Value::Object(values)) => {
                fields.iter().enumerate().fold(1, |sum, (at, field)| {
                    sum.saturating_add(match values.get(&field.name) {
                        Some(value) => self.value(field.node, value, depth + 1),
                        None => self.field((id, at), field, depth + 1),
                    })
                })
            }
            (Shape::Union(branches), value) => {
                match branches.iter().find(|branch| self.defaults.fit(**branch, value)) {
                    Some(branch) => self.value(*branch, value, depth + 1),
                    None => 0,
                }
            }
            _ => 1,
        }
    }
}

/// Checks each value against a union once: unions of records that contain unions would otherwise take two to the depth
/// of the value.
struct Defaults<'a> {
    schema: &'a Schema,
    /// By union and address of the value, which does not move in the schema.
    verdicts: HashMap<(NodeId, usize), bool>,
}

impl Defaults<'_> {
    /// Whether `value` is a default of the type at `id`; a union takes one of any branch (Avro 1.12).
    fn fit(&mut self, id: NodeId, value: &Value) -> bool {
        match (&self.schema.node(id).shape, value) {
            (Shape::Null, value) => value.is_null(),
            (Shape::Boolean, value) => value.is_boolean(),
            (Shape::Int, value) => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            (Shape::Long, value) => value.is_i64(),
            (Shape::Float | Shape::Double, value) => value.is_number(),
            (Shape::String, value) => value.is_string(),
            (Shape::Bytes, Value::String(text)) => text.chars().all(is_byte),
            (Shape::Fixed { size, .. }, Value::String(text)) => {
                text.chars().all(is_byte) && text.chars().count() as u64 == *size
            }
            (Shape::Enum { symbols, .. }, Value::String(symbol)) => symbols.contains(symbol),
            (Shape::Array(item), Value::Array(values)) => values.iter().all(|value| self.fit(*item, value)),
            (Shape::Map(inner), Value::Object(values)) => values.values().all(|value| self.fit(*inner, value)),
            (Shape::Record { fields, .. }, Value::Object(values)) => {
                fields.iter().all(|field| match values.get(&field.name) {
                    Some(value) => self.fit(field.node, value),
                    None => field.default.is_some(),
                })
            }
            (Shape::Union(branches), value) => {
                let key = (id, std::ptr::from_ref(value).addr());
                if let Some(verdict) = self.verdicts.get(&key) {
                    return *verdict;
                }
                let verdict = branches.iter().any(|branch| self.fit(*branch, value));
                self.verdicts.insert(key, verdict);
                verdict
            }
            _ => false,
        }
    }
}

/// Whether a character is a byte in Avro's JSON encoding: up to U+00FF.
fn is_byte(c: char) -> bool {
    u32::from(c) <= 0xff
}
