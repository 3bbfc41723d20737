//! Resolves references between schemas: writes each referenced type into the text where it is first used, so that one
//! text is complete.

use super::parse::parse_schema;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};

/// Returns the schema `text` with the named types of `others` written in where they are first used.
pub fn inlined(text: &str, others: &[&str]) -> Result<String> {
    let mut types = Types::default();
    for other in others {
        types.collect(&parsed(other)?, "");
    }
    let whole = types.whole(&parsed(text)?, "", 0)?;
    let text = whole.to_string();
    parse_schema(&text).map(|_| text)
}

fn parsed(text: &str) -> Result<Value> {
    let parsed: Result<Value, _> = serde_json::from_str(text);
    // A schema that is only a name need not be JSON.
    parsed.or_else(|error| match text.trim().contains(['{', '[', '"']) {
        true => Err(Error::config("schema: invalid JSON").because(error)),
        false => Ok(Value::String(text.trim().to_owned())),
    })
}

#[derive(Default)]
struct Types {
    /// Definitions by full name.
    known: BTreeMap<String, Map<String, Value>>,
    /// Names that the output already defines.
    written: HashSet<String>,
    nodes: usize,
}

/// Maximum depth of references between types, and maximum number of types in the output.
const DEPTH_MAX: u32 = 128;
const NODES_MAX: usize = 100_000;

impl Types {
    /// Collects the named types of a schema.
    fn collect(&mut self, schema: &Value, namespace: &str) {
        match schema {
            Value::Array(branches) => branches.iter().for_each(|branch| self.collect(branch, namespace)),
            Value::Object(object) => {
                let own = full_name(object, namespace);
                let namespace = own.as_deref().map_or(namespace, namespace_of);
                let inner = ["type", "items", "values"].into_iter().filter_map(|key| object.get(key));
                inner.for_each(|inner| self.collect(inner, namespace));
                for field in object.get("fields").and_then(Value::as_array).into_iter().flatten() {
                    field.get("type").into_iter().for_each(|kind| self.collect(kind, namespace));
                }
                if let Some(name) = own {
                    let mut object = object.clone();
                    rename(&mut object, &name);
                    self.known.entry(name).or_insert(object);
                }
            }
            _ => {}
        }
    }

    /// Returns the schema with the definition of each named type that it refers to, once, at its first use.
    fn whole(&mut self, schema: &Value, namespace: &str, depth: u32) -> Result<Value> {
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            return Err(Error::config("schema: the references are nested too deeply or expand to too many types"));
        }
        match schema {
            Value::String(name) => self.named(name, namespace, depth),
            Value::Array(branches) => {
                branches.iter().map(|branch| self.whole(branch, namespace, depth + 1)).collect::<Result<_>>()
            }
            Value::Object(object) => self.object(object, namespace, depth),
            other => Ok(other.clone()),
        }
    }

    fn named(&mut self, name: &str, namespace: &str, depth: u32) -> Result<Value> {
        let full = qualified(name, namespace);
        let found = [full.as_str(), name]
            .into_iter()
            .find(|name| self.written.contains(*name) || self.known.contains_key(*name));
        match found {
            Some(found) if !self.written.contains(found) => match self.known.get(found).cloned() {
                Some(object) => self.object(&object, "", depth + 1),
                None => Ok(Value::String(found.to_owned())),
            },
            Some(found) => Ok(Value::String(found.to_owned())),
            None => Ok(Value::String(name.to_owned())),
        }
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str, depth: u32) -> Result<Value> {
        let own = full_name(object, namespace);
        if let Some(name) = &own
            && !self.written.insert(name.clone())
        {
            // A type of the same name in several of the schemas is one type.
            return Ok(Value::String(name.clone()));
        }
        let namespace = own.as_deref().map_or(namespace, namespace_of);
        let mut whole = object.clone();
        if let Some(name) = &own {
            rename(&mut whole, name);
        } else if let Some(kind) = object.get("type") {
            whole.insert("type".to_owned(), self.whole(kind, namespace, depth + 1)?);
        }
        for key in ["items", "values"] {
            if let Some(inner) = object.get(key) {
                whole.insert(key.to_owned(), self.whole(inner, namespace, depth + 1)?);
            }
        }
        if let Some(Value::Array(fields)) = whole.get_mut("fields") {
            for kind in fields.iter_mut().filter_map(|field| field.get_mut("type")) {
                *kind = self.whole(kind, namespace, depth + 1)?;
            }
        }
        Ok(Value::Object(whole))
    }
}

/// Returns the full name of a record, an enum or a fixed.
fn full_name(object: &Map<String, Value>, namespace: &str) -> Option<String> {
    let kind = object.get("type")?.as_str()?;
    if !matches!(kind, "record" | "error" | "enum" | "fixed") {
        return None;
    }
    let name = object.get("name")?.as_str()?;
    Some(qualified(name, object.get("namespace").and_then(Value::as_str).unwrap_or(namespace)))
}

/// Gives a definition its full name, so that it is the same in every place.
fn rename(object: &mut Map<String, Value>, name: &str) {
    let (namespace, short) = name.rsplit_once('.').unwrap_or(("", name));
    object.insert("name".to_owned(), short.into());
    object.insert("namespace".to_owned(), namespace.into());
}

fn qualified(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn namespace_of(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(namespace, _)| namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = r#"{"type":"record","name":"Address","namespace":"com.acme","fields":[
        {"name":"zip","type":"string"},{"name":"kind","type":{"type":"enum","name":"Kind","symbols":["HOME","WORK"]}},
        {"name":"next","type":["null","Address"],"default":null}]}"#;

    #[test]
    fn a_type_is_written_out_where_it_is_first_used_and_named_after_that() {
        let user = r#"{"type":"record","name":"User","namespace":"com.acme.user","fields":[
            {"name":"home","type":"com.acme.Address"},{"name":"work","type":["null","com.acme.Address"]},
            {"name":"kinds","type":{"type":"array","items":"com.acme.Kind"}}]}"#;
        let whole = parse_schema(&inlined(user, &[ADDRESS]).unwrap()).unwrap();
        let by_hand = user.replacen("\"com.acme.Address\"", ADDRESS, 1);
        assert_eq!(whole.identity(), parse_schema(&by_hand).unwrap().identity());
    }

    #[test]
    fn a_type_without_namespace_keeps_none_wherever_it_stands() {
        let money = r#"{"type":"fixed","name":"Money","size":8}"#;
        let bill = r#"{"type":"record","name":"Bill","namespace":"x","fields":[{"name":"sum","type":"Money"}]}"#;
        let text = inlined(bill, &[money]).unwrap();
        let schema = parse_schema(&text).unwrap();
        assert!(schema.canonical_form().contains(r#""name":"Money""#), "{}", schema.canonical_form());
    }

    #[test]
    fn references_through_several_schemas_and_in_circles_end() {
        let a = r#"{"type":"record","name":"A","fields":[{"name":"b","type":["null","B"]}]}"#;
        let b = r#"{"type":"record","name":"B","fields":[{"name":"c","type":"C"}]}"#;
        let c = r#"{"type":"record","name":"C","fields":[{"name":"a","type":["null","A"]}]}"#;
        let text = inlined(r#"["null","A"]"#, &[a, b, c]).unwrap();
        assert_eq!(text.matches("\"fields\"").count(), 3);
        let error = inlined(r#"{"type":"record","name":"D","fields":[{"name":"x","type":"Gone"}]}"#, &[a]);
        assert!(error.unwrap_err().to_string().contains("unknown type 'Gone'"));
    }
}
