//! Parses Avro schema text into a [`Schema`]: every fault has the path in the schema and the reason.
//!
//! A schema of a registry must obey every rule of the specification, because others must be able to read it. The schema
//! of a file only has to determine how bytes are read: the parser does not check its names, aliases and defaults, and
//! accepts nested unions and types that are defined twice.

use super::default;
use super::schema::{AvroType, Field, Logical, Node, NodeId, Schema, SchemaFault, TypeName, Unit};
use crate::error::{Error, Result};
use crate::json::text::excerpt;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Maximum nesting of types in a strict schema's text; JSON's is 128.
pub const DEPTH_MAX: usize = 64;
/// Maximum bytes of a strict schema's text.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Parses schema text by all rules of the specification.
///
/// Errors: exit status 78 with path and reason if it is not a valid Avro schema.
pub fn parse_schema(text: &str) -> Result<Schema> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::config(format!("schema: longer than {} KiB", TEXT_BYTES_MAX >> 10)));
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| Error::config("schema: invalid JSON").because(error))?;
    let parsed = parse(&value, true).and_then(|schema| default::check(&schema).map(|()| schema));
    parsed.map_err(|fault| Error::config(format!("schema: {fault}")))
}

/// Parses the schema text of existing data; requires only what determines how the data is read.
///
/// Errors: exit status 65 with path and reason if the text does not determine it.
pub fn parse_lenient(text: &str) -> Result<Schema> {
    let wrong = || Error::corrupt("the Avro schema cannot be read");
    let value: Value = serde_json::from_str(text).map_err(|error| wrong().because(error))?;
    parse(&value, false).map_err(|fault| wrong().because(fault))
}

fn parse(value: &Value, is_strict: bool) -> Parsed<Schema> {
    let title = value.get("name").and_then(Value::as_str).unwrap_or("(top)");
    let mut parser = Parser { nodes: vec![], names: HashMap::new(), path: vec![title.to_owned()], is_strict };
    let root = parser.schema(value, None)?;
    Ok(Schema { nodes: parser.nodes, root })
}

type Parsed<T> = std::result::Result<T, SchemaFault>;

/// The attributes of a type or a field.
type Attributes = Map<String, Value>;

struct Parser {
    nodes: Vec<Node>,
    /// Named types by full name.
    names: HashMap<String, NodeId>,
    path: Vec<String>,
    is_strict: bool,
}

impl Parser {
    fn refuse<T>(&self, why: impl Into<String>) -> Parsed<T> {
        Err(SchemaFault { path: self.path.join("."), why: why.into() })
    }

    /// Refuses an attribute that is missing or has another type or form than expected.
    fn expected<T>(&self, what: &str, found: Option<&Value>) -> Parsed<T> {
        let found = found.map_or("nothing".to_owned(), |value| excerpt(&value.to_string()));
        self.refuse(format!("expected {what}, found {found}"))
    }

    /// Refuses a strict schema that breaks a rule.
    fn rule(&self, is_kept: bool, fault: impl FnOnce() -> String) -> Parsed<()> {
        if is_kept || !self.is_strict { Ok(()) } else { self.refuse(fault()) }
    }

    fn name_rule(&self, is_kept: bool, what: &str, found: &str) -> Parsed<()> {
        self.rule(is_kept, || {
            format!(
                "expected {what} of letters, digits and _ that does not begin with a digit, found '{}'",
                excerpt(found)
            )
        })
    }

    fn within<T>(&mut self, step: &str, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.rule(self.path.len() < DEPTH_MAX, || format!("nested deeper than {DEPTH_MAX}"))?;
        self.path.push(step.to_owned());
        let parsed = parse(self)?;
        self.path.pop();
        Ok(parsed)
    }

    fn add(&mut self, avro_type: AvroType, logical: Option<Logical>) -> Parsed<NodeId> {
        let Ok(id) = u32::try_from(self.nodes.len()) else { return self.refuse("too many types") };
        self.nodes.push(Node { avro_type, logical });
        Ok(NodeId(id))
    }

    fn schema(&mut self, value: &Value, namespace: Option<&str>) -> Parsed<NodeId> {
        match value {
            Value::String(word) => self.word(word, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.object(object, namespace),
            _ => self.expected("a string, an object or an array", Some(value)),
        }
    }

    fn word(&mut self, word: &str, namespace: Option<&str>) -> Parsed<NodeId> {
        if let Some(primitive) = AvroType::primitive(word) {
            return self.add(primitive, None);
        }
        let full = qualified(word, namespace);
        let bare = || self.names.get(word).filter(|_| !self.is_strict);
        match self.names.get(&full).or_else(bare) {
            Some(id) => Ok(*id),
            None => self.refuse(format!("unknown type '{word}'")),
        }
    }

    fn object(&mut self, object: &Attributes, namespace: Option<&str>) -> Parsed<NodeId> {
        let word = match object.get("type") {
            Some(Value::String(word)) => word.as_str(),
            Some(inner) => return self.within("type", |parser| parser.schema(inner, namespace)),
            None => return self.refuse("'type' is missing"),
        };
        if let Some(logical) = object.get("logicalType") {
            self.rule(logical.is_string(), || format!("expected a string as 'logicalType', found {logical}"))?;
        }
        match word {
            "record" => self.record(object, namespace),
            "error" if !self.is_strict => self.record(object, namespace),
            "enum" => self.enumeration(object, namespace),
            "fixed" => self.fixed(object, namespace),
            "array" => self.inner(object, "items", namespace).and_then(|item| self.add(AvroType::Array(item), None)),
            "map" => self.inner(object, "values", namespace).and_then(|value| self.add(AvroType::Map(value), None)),
            word => match AvroType::primitive(word) {
                Some(primitive) => {
                    let logical = self.logical(object, &primitive);
                    self.add(primitive, logical)
                }
                None => self.word(word, namespace),
            },
        }
    }

    fn inner(&mut self, object: &Attributes, key: &str, namespace: Option<&str>) -> Parsed<NodeId> {
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
            let branch = &self.nodes[id.index()].avro_type;
            self.rule(!matches!(branch, AvroType::Union(_)), || "a union contains another union".to_owned())?;
            let name = branch.name().map_or_else(|| branch.word().to_owned(), TypeName::full);
            self.rule(seen.insert(name.clone()), || format!("a union contains {name} twice"))?;
            ids.push(id);
        }
        self.add(AvroType::Union(ids), None)
    }

    /// Registers a named type before its definition is parsed, so that the definition can refer to it.
    fn declare(&mut self, object: &Attributes, namespace: Option<&str>) -> Parsed<(NodeId, TypeName)> {
        let name = self.name(object, namespace)?;
        let full = name.full();
        self.rule(!self.names.contains_key(&full), || format!("'{full}' is defined twice"))?;
        // The placeholder has the name because a union inside the definition may refer to it.
        let id = self.add(AvroType::Record { name: name.clone(), fields: vec![] }, None)?;
        self.names.insert(full, id);
        Ok((id, name))
    }

    fn define(&mut self, id: NodeId, avro_type: AvroType, logical: Option<Logical>) -> NodeId {
        self.nodes[id.index()] = Node { avro_type, logical };
        id
    }

    fn record(&mut self, object: &Attributes, namespace: Option<&str>) -> Parsed<NodeId> {
        let (id, name) = self.declare(object, namespace)?;
        let Some(Value::Array(list)) = object.get("fields") else {
            return self.expected("an array as 'fields'", object.get("fields"));
        };
        let mut fields: Vec<Field> = vec![];
        let mut seen = HashSet::new();
        for value in list {
            let field = self.field(value, name.namespace.as_deref())?;
            if !seen.insert(field.name.clone()) {
                return self.refuse(format!("duplicate field '{}'", field.name));
            }
            fields.push(field);
        }
        Ok(self.define(id, AvroType::Record { name, fields }, None))
    }

    fn field(&mut self, value: &Value, namespace: Option<&str>) -> Parsed<Field> {
        let Value::Object(object) = value else { return self.expected("an object as field", Some(value)) };
        let Some(Value::String(name)) = object.get("name") else {
            return self.expected("a string as 'name' of a field", object.get("name"));
        };
        self.name_rule(is_name(name), "a field name", name)?;
        let Some(inner) = object.get("type") else { return self.refuse(format!("field '{name}': 'type' is missing")) };
        self.within(name, |parser| {
            let node = parser.schema(inner, namespace)?;
            let aliases = parser.aliases(object, is_name)?;
            Ok(Field { name: name.clone(), aliases, node, default: object.get("default").cloned() })
        })
    }

    fn enumeration(&mut self, object: &Attributes, namespace: Option<&str>) -> Parsed<NodeId> {
        let (id, name) = self.declare(object, namespace)?;
        let symbols = self.strings(object, "symbols")?;
        let mut seen = HashSet::new();
        for symbol in &symbols {
            self.name_rule(is_name(symbol), "a symbol", symbol)?;
            self.rule(seen.insert(symbol), || format!("duplicate symbol '{symbol}'"))?;
        }
        let default = object.get("default");
        let known = default.and_then(Value::as_str).filter(|default| symbols.iter().any(|symbol| symbol == *default));
        if self.is_strict && default.is_some() && known.is_none() {
            return self.expected("one of its symbols as default", default);
        }
        let default = known.map(str::to_owned);
        Ok(self.define(id, AvroType::Enum { name, symbols, default }, None))
    }

    fn fixed(&mut self, object: &Attributes, namespace: Option<&str>) -> Parsed<NodeId> {
        let (id, name) = self.declare(object, namespace)?;
        let Some(size) = object.get("size").and_then(Value::as_u64) else {
            return self.expected("a number of bytes as 'size'", object.get("size"));
        };
        let fixed = AvroType::Fixed { name, size };
        let logical = self.logical(object, &fixed);
        Ok(self.define(id, fixed, logical))
    }

    fn name(&self, object: &Attributes, namespace: Option<&str>) -> Parsed<TypeName> {
        let Some(Value::String(written)) = object.get("name") else {
            return self.expected("a string as 'name' of a type", object.get("name"));
        };
        let own = object.get("namespace");
        let (namespace, short) = match (written.rsplit_once('.'), own) {
            (Some((namespace, short)), _) => (Some(namespace), short),
            (None, Some(Value::String(namespace))) => {
                (Some(namespace.as_str()).filter(|name| !name.is_empty()), written.as_str())
            }
            (None, _) => {
                self.rule(own.is_none(), || {
                    format!("'{written}': expected a string as 'namespace', found another value")
                })?;
                (namespace, written.as_str())
            }
        };
        self.name_rule(is_name(short) && namespace.is_none_or(is_full_name), "a name", written)?;
        self.rule(AvroType::primitive(short).is_none(), || format!("'{short}' is the name of a primitive type"))?;
        let aliases = self.aliases(object, is_full_name)?;
        let aliases = aliases.iter().map(|alias| qualified(alias, namespace)).collect();
        Ok(TypeName { short: short.to_owned(), namespace: namespace.map(str::to_owned), aliases })
    }

    /// Returns the aliases of a type or field; a lenient schema's have no effect.
    fn aliases(&self, object: &Attributes, is_name: fn(&str) -> bool) -> Parsed<Vec<String>> {
        if !self.is_strict || !object.contains_key("aliases") {
            return Ok(vec![]);
        }
        let aliases = self.strings(object, "aliases")?;
        aliases.iter().try_for_each(|alias| self.name_rule(is_name(alias), "an alias", alias))?;
        Ok(aliases)
    }

    fn strings(&self, object: &Attributes, key: &str) -> Parsed<Vec<String>> {
        let list = object.get(key).and_then(Value::as_array);
        match list.and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect()) {
            Some(strings) => Ok(strings),
            None => self.expected(&format!("an array of strings as '{key}'"), object.get(key)),
        }
    }

    /// Returns the logical type of an object; one that does not fit its type is ignored, by the specification.
    fn logical(&self, object: &Attributes, avro_type: &AvroType) -> Option<Logical> {
        Some(match (object.get("logicalType")?.as_str()?, avro_type) {
            ("decimal", AvroType::Bytes | AvroType::Fixed { .. }) => return self.decimal(object, avro_type),
            ("uuid", AvroType::String | AvroType::Fixed { size: 16, .. }) => Logical::Uuid,
            ("date", AvroType::Int) => Logical::Date,
            ("time-millis", AvroType::Int) => Logical::Time(Unit::Millis),
            ("time-micros", AvroType::Long) => Logical::Time(Unit::Micros),
            ("timestamp-millis", AvroType::Long) => Logical::Timestamp(Unit::Millis),
            ("timestamp-micros", AvroType::Long) => Logical::Timestamp(Unit::Micros),
            ("timestamp-nanos", AvroType::Long) => Logical::Timestamp(Unit::Nanos),
            ("local-timestamp-millis", AvroType::Long) => Logical::LocalTimestamp(Unit::Millis),
            ("local-timestamp-micros", AvroType::Long) => Logical::LocalTimestamp(Unit::Micros),
            ("local-timestamp-nanos", AvroType::Long) => Logical::LocalTimestamp(Unit::Nanos),
            ("duration", AvroType::Fixed { size: 12, .. }) => Logical::Duration,
            _ => return None,
        })
    }

    /// Returns the decimal type of an object. A lenient schema needs no precision, because the bytes can be read
    /// without it.
    fn decimal(&self, object: &Attributes, avro_type: &AvroType) -> Option<Logical> {
        let number = |key: &str| object.get(key).map(|n| n.as_u64().and_then(|n| u32::try_from(n).ok()));
        let (precision, scale) = (number("precision").flatten(), number("scale").unwrap_or(Some(0))?);
        if !self.is_strict {
            return Some(Logical::Decimal { precision: precision.unwrap_or(u32::MAX), scale });
        }
        let precision = precision?;
        // n bytes in two's complement hold floor(log10(2^(8n-1) - 1)) digits.
        let fits = match avro_type {
            AvroType::Fixed { size, .. } => {
                *size > 0 && f64::from(precision) <= (8.0 * *size as f64 - 1.0) * 2f64.log10()
            }
            _ => true,
        };
        (precision >= 1 && scale <= precision && fits).then_some(Logical::Decimal { precision, scale })
    }
}

fn qualified(name: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) if !name.contains('.') => format!("{namespace}.{name}"),
        _ => name.to_owned(),
    }
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_full_name(text: &str) -> bool {
    text.split('.').all(is_name)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
