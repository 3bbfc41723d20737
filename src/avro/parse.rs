//! Parses Avro schema text into a [`Schema`]: every error has the path in the schema and the reason.
//!
//! Two parsers must accept a schema: this one, which knows the path and checks defaults, and apache-avro's, because
//! others must be able to read the schemas that evt accepts.

use super::default;
use super::schema::{Field, Logical, Name, Node, NodeId, Schema, Shape, Unit};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Maximum nesting of types in a schema's text.
pub const DEPTH_MAX: usize = 64;
/// Maximum bytes of a schema's text.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// The path and reason of a refusal; the path starts at the outermost type's name.
struct Refused {
    path: String,
    why: String,
}

type Parsed<T> = std::result::Result<T, Refused>;

impl Schema {
    /// Parses schema text.
    ///
    /// Errors: exit status 78 with path and reason if it is not a valid Avro schema.
    pub fn parse(text: &str) -> Result<Schema> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::config(format!("schema: longer than {} KiB", TEXT_BYTES_MAX >> 10)));
        }
        let value: Value = serde_json::from_str(text).map_err(|e| Error::config("schema: no JSON").because(e))?;
        let schema = parse(&value).map_err(|e| Error::config(format!("schema: {}: {}", e.path, e.why)))?;
        match apache_avro::Schema::parse_str(text) {
            Ok(_) => Ok(schema),
            Err(error) => Err(Error::config("schema: no valid Avro").because(error)),
        }
    }
}

fn parse(value: &Value) -> Parsed<Schema> {
    let title = value.get("name").and_then(Value::as_str).unwrap_or("(top)");
    let mut parser = Parser { nodes: vec![], names: HashMap::new(), path: vec![title.to_owned()] };
    let root = parser.schema(value, None)?;
    let schema = Schema { nodes: parser.nodes, root };
    match default::check_all(&schema).or_else(|| default::measure_all(&schema)) {
        None => Ok(schema),
        Some((path, why)) => Err(Refused { path, why }),
    }
}

struct Parser {
    nodes: Vec<Node>,
    /// Named types by full name.
    names: HashMap<String, NodeId>,
    path: Vec<String>,
}

impl Parser {
    fn refuse<T>(&self, why: impl Into<String>) -> Parsed<T> {
        Err(Refused { path: self.path.join("."), why: why.into() })
    }

    fn within<T>(&mut self, step: &str, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.path.len() >= DEPTH_MAX {
            return self.refuse(format!("nested deeper than {DEPTH_MAX}"));
        }
        self.path.push(step.to_owned());
        let parsed = parse(self)?;
        self.path.pop();
        Ok(parsed)
    }

    fn add(&mut self, shape: Shape, logical: Option<Logical>) -> Parsed<NodeId> {
        let Ok(id) = u32::try_from(self.nodes.len()) else { return self.refuse("too many types") };
        self.nodes.push(Node { shape, logical });
        Ok(NodeId(id))
    }

    fn schema(&mut self, value: &Value, namespace: Option<&str>) -> Parsed<NodeId> {
        match value {
            Value::String(word) => self.word(word, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.object(object, namespace),
            _ => self.refuse("a schema is a string, an object or an array"),
        }
    }

    fn word(&mut self, word: &str, namespace: Option<&str>) -> Parsed<NodeId> {
        if let Some(shape) = primitive(word) {
            return self.add(shape, None);
        }
        let full = match namespace {
            Some(namespace) if !word.contains('.') => format!("{namespace}.{word}"),
            _ => word.to_owned(),
        };
        match self.names.get(&full) {
            Some(id) => Ok(*id),
            None => self.refuse(format!("unknown type '{word}'")),
        }
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: Option<&str>) -> Parsed<NodeId> {
        let Some(kind) = object.get("type") else { return self.refuse("'type' is missing") };
        let Value::String(word) = kind else {
            return self.within("type", |parser| parser.schema(kind, namespace));
        };
        match word.as_str() {
            "record" => self.record(object, namespace),
            "enum" => self.enumeration(object, namespace),
            "fixed" => self.fixed(object, namespace),
            "array" => self.container(object, "items", namespace).and_then(|item| self.add(Shape::Array(item), None)),
            "map" => self.container(object, "values", namespace).and_then(|value| self.add(Shape::Map(value), None)),
            word => match primitive(word) {
                Some(shape) => {
                    let logical = logical(object, &shape);
                    self.add(shape, logical)
                }
                None => self.word(word, namespace),
            },
        }
    }

    fn container(&mut self, object: &Map<String, Value>, key: &str, namespace: Option<&str>) -> Parsed<NodeId> {
        match object.get(key) {
            Some(inner) => self.within(key, |parser| parser.schema(inner, namespace)),
            None => self.refuse(format!("'{key}' is missing")),
        }
    }

    fn union(&mut self, branches: &[Value], namespace: Option<&str>) -> Parsed<NodeId> {
        let mut ids = vec![];
        let mut seen = HashSet::new();
        for (n, branch) in branches.iter().enumerate() {
            let id = self.within(&format!("[{n}]"), |parser| parser.schema(branch, namespace))?;
            let what = match &self.nodes[id.index()].shape {
                Shape::Union(_) => return self.refuse("a union holds another union"),
                Shape::Fixed { name, .. } | Shape::Enum { name, .. } | Shape::Record { name, .. } => name.full(),
                shape => shape.word().to_owned(),
            };
            if !seen.insert(what.clone()) {
                return self.refuse(format!("a union holds {what} twice"));
            }
            ids.push(id);
        }
        self.add(Shape::Union(ids), None)
    }

    /// Registers a named type before its definition is parsed, so that the definition can refer to it.
    fn declare(&mut self, object: &Map<String, Value>, namespace: Option<&str>) -> Parsed<(NodeId, Name)> {
        let name = self.name(object, namespace)?;
        let full = name.full();
        if self.names.contains_key(&full) {
            return self.refuse(format!("'{full}' is defined twice"));
        }
        let id = self.add(Shape::Null, None)?;
        self.names.insert(full, id);
        Ok((id, name))
    }

    fn define(&mut self, id: NodeId, shape: Shape, logical: Option<Logical>) -> Parsed<NodeId> {
        self.nodes[id.index()] = Node { shape, logical };
        Ok(id)
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: Option<&str>) -> Parsed<NodeId> {
        let (id, name) = self.declare(object, namespace)?;
        let Some(Value::Array(list)) = object.get("fields") else {
            return self.refuse(format!("record {}: 'fields' must be an array", name.short));
        };
        // The placeholder has the name because a union inside may refer to the record.
        self.define(id, Shape::Record { name: name.clone(), fields: vec![] }, None)?;
        let mut fields: Vec<Field> = vec![];
        let mut seen = HashSet::new();
        for value in list {
            let field = self.field(value, name.namespace.as_deref())?;
            if !seen.insert(field.name.clone()) {
                return self.refuse(format!("field '{}' is there twice", field.name));
            }
            fields.push(field);
        }
        self.define(id, Shape::Record { name, fields }, None)
    }

    fn field(&mut self, value: &Value, namespace: Option<&str>) -> Parsed<Field> {
        let Value::Object(object) = value else { return self.refuse("a field must be an object") };
        let Some(Value::String(name)) = object.get("name") else {
            return self.refuse("a field has no 'name'");
        };
        if !is_name(name) {
            return self.refuse(format!("field '{name}': a name is letters, digits and _, no digit first"));
        }
        let Some(kind) = object.get("type") else { return self.refuse(format!("field '{name}': 'type' is missing")) };
        self.within(name, |parser| {
            let node = parser.schema(kind, namespace)?;
            let aliases = parser.strings(object, "aliases")?.unwrap_or_default();
            if let Some(bad) = aliases.iter().find(|alias| !is_name(alias)) {
                return parser.refuse(format!("alias '{bad}' is no name"));
            }
            Ok(Field { name: name.clone(), aliases, node, default: object.get("default").cloned() })
        })
    }

    fn enumeration(&mut self, object: &Map<String, Value>, namespace: Option<&str>) -> Parsed<NodeId> {
        let (id, name) = self.declare(object, namespace)?;
        let Some(symbols) = self.strings(object, "symbols")? else {
            return self.refuse(format!("enum {}: 'symbols' is missing", name.short));
        };
        let mut seen = HashSet::new();
        for symbol in &symbols {
            if !is_name(symbol) {
                return self.refuse(format!("enum {}: symbol '{symbol}' is no name", name.short));
            }
            if !seen.insert(symbol) {
                return self.refuse(format!("enum {}: symbol '{symbol}' is there twice", name.short));
            }
        }
        let default = match object.get("default") {
            None => None,
            Some(Value::String(default)) if symbols.contains(default) => Some(default.clone()),
            Some(default) => {
                return self.refuse(format!("enum {}: default {default} is not among its symbols", name.short));
            }
        };
        self.define(id, Shape::Enum { name, symbols, default }, None)
    }

    fn fixed(&mut self, object: &Map<String, Value>, namespace: Option<&str>) -> Parsed<NodeId> {
        let (id, name) = self.declare(object, namespace)?;
        let Some(size) = object.get("size").and_then(Value::as_u64) else {
            return self.refuse(format!("fixed {}: 'size' must be a number of bytes", name.short));
        };
        let shape = Shape::Fixed { name, size };
        let logical = logical(object, &shape);
        self.define(id, shape, logical)
    }

    fn name(&self, object: &Map<String, Value>, namespace: Option<&str>) -> Parsed<Name> {
        let Some(Value::String(written)) = object.get("name") else {
            return self.refuse("a record, enum or fixed has no 'name'");
        };
        let namespace = match (written.rsplit_once('.'), object.get("namespace")) {
            (Some((namespace, _)), _) => Some(namespace.to_owned()),
            (None, Some(Value::String(namespace))) => Some(namespace.clone()).filter(|name| !name.is_empty()),
            (None, Some(_)) => return self.refuse(format!("'{written}': 'namespace' must be a string")),
            (None, None) => namespace.map(str::to_owned),
        };
        let short = written.rsplit('.').next().unwrap_or(written).to_owned();
        if !is_name(&short) || !namespace.as_deref().is_none_or(is_full_name) {
            return self.refuse(format!("'{written}': a name is letters, digits and _, no digit first"));
        }
        if primitive(&short).is_some() {
            return self.refuse(format!("'{short}' is the name of a primitive type"));
        }
        let mut aliases = self.strings(object, "aliases")?.unwrap_or_default();
        for alias in &mut aliases {
            if !is_full_name(alias) {
                return self.refuse(format!("alias '{alias}' is no name"));
            }
            if let (false, Some(namespace)) = (alias.contains('.'), &namespace) {
                *alias = format!("{namespace}.{alias}");
            }
        }
        Ok(Name { short, namespace, aliases })
    }

    fn strings(&self, object: &Map<String, Value>, key: &str) -> Parsed<Option<Vec<String>>> {
        let Some(value) = object.get(key) else { return Ok(None) };
        let strings = value.as_array().and_then(|list| list.iter().map(|s| s.as_str().map(str::to_owned)).collect());
        match strings {
            Some(strings) => Ok(Some(strings)),
            None => self.refuse(format!("'{key}' must be an array of strings")),
        }
    }
}

fn primitive(word: &str) -> Option<Shape> {
    Some(match word {
        "null" => Shape::Null,
        "boolean" => Shape::Boolean,
        "int" => Shape::Int,
        "long" => Shape::Long,
        "float" => Shape::Float,
        "double" => Shape::Double,
        "bytes" => Shape::Bytes,
        "string" => Shape::String,
        _ => return None,
    })
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_full_name(text: &str) -> bool {
    text.split('.').all(is_name)
}

/// Returns the logical type of an object; one that does not fit its type is ignored, by the specification.
fn logical(object: &Map<String, Value>, shape: &Shape) -> Option<Logical> {
    let logical = match (object.get("logicalType")?.as_str()?, shape) {
        ("decimal", Shape::Bytes | Shape::Fixed { .. }) => return decimal(object, shape),
        ("uuid", Shape::String | Shape::Fixed { size: 16, .. }) => Logical::Uuid,
        ("date", Shape::Int) => Logical::Date,
        ("time-millis", Shape::Int) => Logical::Time(Unit::Millis),
        ("time-micros", Shape::Long) => Logical::Time(Unit::Micros),
        ("timestamp-millis", Shape::Long) => Logical::Timestamp(Unit::Millis),
        ("timestamp-micros", Shape::Long) => Logical::Timestamp(Unit::Micros),
        ("timestamp-nanos", Shape::Long) => Logical::Timestamp(Unit::Nanos),
        ("local-timestamp-millis", Shape::Long) => Logical::LocalTimestamp(Unit::Millis),
        ("local-timestamp-micros", Shape::Long) => Logical::LocalTimestamp(Unit::Micros),
        ("local-timestamp-nanos", Shape::Long) => Logical::LocalTimestamp(Unit::Nanos),
        ("duration", Shape::Fixed { size: 12, .. }) => Logical::Duration,
        _ => return None,
    };
    Some(logical)
}

fn decimal(object: &Map<String, Value>, shape: &Shape) -> Option<Logical> {
    let number = |key: &str| object.get(key).map(|n| n.as_u64().and_then(|n| u32::try_from(n).ok()));
    let precision = number("precision")??;
    let scale = number("scale").unwrap_or(Some(0))?;
    // n bytes in two's complement hold floor(log10(2^(8n-1) - 1)) digits.
    let fits = match shape {
        Shape::Fixed { size, .. } => *size > 0 && f64::from(precision) <= (8.0 * *size as f64 - 1.0) * 2f64.log10(),
        _ => true,
    };
    (precision >= 1 && scale <= precision && fits).then_some(Logical::Decimal { precision, scale })
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
