//! Reads values of one schema as those of another: Avro's schema resolution, compiled before the first byte.
//!
//! The two schemas are walked together. Each pair of types that meets becomes one node of the decoder's table: it reads
//! the writer's type and writes it as the reader's type. [`Comparison`] decides which types match, so the rules are
//! those of a registry's compatibility, and a compatible schema can be read. Mismatches that depend on the value (a
//! branch of a union, a symbol of an enum) are faults of that value.
//!
//! - Fields match by name, else by the reader's aliases; they are in the writer's order, defaults after them.
//! - A default is kept as the bytes that a writer would have written, and is decoded like them.
//! - In a reader's union, the writer's type gets the branch of its full name, else of its type, else one to which it
//!   can be promoted; the first if there are several.
//! - The reader's logical types count, the writer's do not.
//!
//! Pairs wait in a list instead of on the stack, because a chain of types may be as long as a schema's text.

use super::compat::{Comparison, Demand};
use super::schema::{self, Field, Logical, NodeId, Schema, Shape};
use super::value::{Decoder, Member, Node, Number, Source, logical_type, primitive};
use crate::error::{Error, Result};
use crate::format::avro::{write_bytes, write_long};
use crate::json::DEPTH_MAX;
use crate::json::text::write_string;
use crate::kind::Kind;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Maximum values and bytes of all defaults of a schema: defaults of records contain those of their fields, many times.
const VALUES_MAX: usize = 1 << 16;
const BYTES_MAX: usize = 1 << 20;
/// Maximum nodes of a table: all types of one schema may meet all types of the other.
const NODES_MAX: usize = 1 << 20;
/// The node of values without a counterpart in the reader's schema.
const UNPLACED: usize = 0;

impl Decoder {
    /// Compiles a decoder that reads `writer`'s values as `reader`'s; `kind` if the reader's schema is one of evt's
    /// kinds.
    ///
    /// Errors: exit status 78 with path and reason if no value of the one can be read as the other.
    pub fn resolving(writer: &Schema, reader: &Schema, kind: Option<Kind>) -> Result<Self> {
        let comparison = Comparison::new(reader, writer, Demand::Some);
        if let Some(reason) = comparison.reasons().first() {
            return Err(Error::config(reason.to_string()));
        }
        let mut compiler = Compiler {
            writer,
            reader,
            comparison,
            nodes: vec![Node::Unplaced],
            known: HashMap::new(),
            open: vec![],
            defaults: Defaults::new(reader),
        };
        let root = compiler.meet(reader.root(), writer.root());
        compiler.run().map_err(|why| Error::config(why).at(reader.title()))?;
        Ok(Self::of(compiler.nodes, root, kind))
    }
}

/// The types that a node is compiled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    /// A reader's type that reads a writer's type.
    Pair(NodeId, NodeId),
    /// A writer's type whose values are skipped.
    Writer(NodeId),
    /// A reader's type whose values are defaults.
    Reader(NodeId),
}

struct Compiler<'a> {
    writer: &'a Schema,
    reader: &'a Schema,
    comparison: Comparison<'a>,
    nodes: Vec<Node>,
    known: HashMap<Origin, usize>,
    /// Nodes that have a number but are not compiled yet.
    open: Vec<(Origin, usize)>,
    defaults: Defaults<'a>,
}

impl<'a> Compiler<'a> {
    /// Compiles every open node, and the nodes they refer to.
    fn run(&mut self) -> Result<(), &'static str> {
        while let Some((origin, at)) = self.open.pop() {
            if self.nodes.len() > NODES_MAX {
                return Err("too many of its types meet too many of the writer's");
            }
            self.nodes[at] = match origin {
                Origin::Pair(r, w) => self.pair(r, w)?,
                Origin::Writer(id) => self.alone(self.writer, id, Origin::Writer),
                Origin::Reader(id) => self.alone(self.reader, id, Origin::Reader),
            };
        }
        Ok(())
    }

    /// Returns the number of a node; adds it if it is new.
    fn at(&mut self, origin: Origin) -> usize {
        if let Some(at) = self.known.get(&origin) {
            return *at;
        }
        let at = self.nodes.len();
        self.nodes.push(Node::Open);
        self.known.insert(origin, at);
        self.open.push((origin, at));
        at
    }

    /// Returns the number of the node that reads a writer's type as a reader's type.
    fn meet(&mut self, r: NodeId, w: NodeId) -> usize {
        match self.choose(r, w) {
            Some(r) => self.at(Origin::Pair(r, w)),
            None => UNPLACED,
        }
    }

    /// Returns the reader's type itself, or the branch of its union that the writer's type gets.
    fn choose(&self, r: NodeId, w: NodeId) -> Option<NodeId> {
        let reads = |r: &NodeId| self.comparison.reads(*r, w);
        match (&self.reader.node(r).shape, &self.writer.node(w).shape) {
            (_, Shape::Union(_)) => Some(r),
            (Shape::Union(branches), writer) => {
                let distance = |r: &NodeId| distance(&self.reader.node(*r).shape, writer);
                branches.iter().copied().filter(reads).min_by_key(distance)
            }
            _ => Some(r).filter(reads),
        }
    }

    fn pair(&mut self, r: NodeId, w: NodeId) -> Result<Node, &'static str> {
        use Shape::*;
        let (reader, writer) = (self.reader.node(r), self.writer.node(w));
        Ok(match (&reader.shape, &writer.shape) {
            (_, Union(branches)) => Node::Union(branches.iter().map(|branch| self.meet(r, *branch)).collect()),
            (Array(r), Array(w)) => Node::Array(self.meet(*r, *w)),
            (Map(r), Map(w)) => Node::Map(self.meet(*r, *w)),
            (Enum { symbols: r, default, .. }, Enum { symbols: w, .. }) => {
                let known: HashSet<_> = r.iter().collect();
                let placed =
                    w.iter().map(|symbol| Some(symbol).filter(|symbol| known.contains(symbol)).or(default.as_ref()));
                Node::Enum(placed.map(|symbol| symbol.map(|symbol| json(symbol))).collect())
            }
            (Record { fields: r, .. }, Record { fields: w, .. }) => Node::Record(self.record(r, w)?),
            (Long | Float | Double, Int) => Node::Widened(Number::Int, Box::new(leaf(reader))),
            (Float | Double, Long) => Node::Widened(Number::Long, Box::new(leaf(reader))),
            (Double, Float) => Node::Widened(Number::Float, Box::new(leaf(reader))),
            // Same encoding, as strings and bytes have, too.
            _ => leaf(reader),
        })
    }

    fn record(&mut self, r: &'a [Field], w: &'a [Field]) -> Result<Vec<Member>, &'static str> {
        let written: HashMap<&str, usize> = w.iter().enumerate().map(|(at, field)| (field.name.as_str(), at)).collect();
        let mut takers: Vec<Vec<&Field>> = vec![vec![]; w.len()];
        let mut missing = vec![];
        for field in r {
            match field.find(&written) {
                Some(at) => takers[*at].push(field),
                None => missing.push(field),
            }
        }
        let mut members = vec![];
        for (field, takers) in w.iter().zip(takers) {
            if takers.is_empty() {
                members.push(Member::new(&field.name, self.at(Origin::Writer(field.node)), Source::Skipped));
            }
            for (nth, taker) in takers.into_iter().enumerate() {
                let source = if nth == 0 { Source::Next } else { Source::Again };
                members.push(Member::new(&taker.name, self.meet(taker.node, field.node), source));
            }
        }
        for field in missing {
            let bytes = self.defaults.bytes(field)?;
            members.push(Member::new(&field.name, self.at(Origin::Reader(field.node)), Source::Default(bytes)));
        }
        Ok(members)
    }

    /// Compiles the node of a single type.
    fn alone(&mut self, schema: &'a Schema, id: NodeId, origin: fn(NodeId) -> Origin) -> Node {
        let node = schema.node(id);
        match &node.shape {
            Shape::Array(items) => Node::Array(self.at(origin(*items))),
            Shape::Map(values) => Node::Map(self.at(origin(*values))),
            Shape::Union(branches) => Node::Union(branches.iter().map(|branch| self.at(origin(*branch))).collect()),
            Shape::Enum { symbols, .. } => Node::Enum(symbols.iter().map(|symbol| Some(json(symbol))).collect()),
            Shape::Record { fields, .. } => {
                let member = |field: &Field| Member::new(&field.name, self.at(origin(field.node)), Source::Next);
                Node::Record(fields.iter().map(member).collect())
            }
            _ => leaf(node),
        }
    }
}

/// Returns the distance of a writer's type from a branch of the reader's that reads it.
fn distance(reader: &Shape, writer: &Shape) -> u8 {
    match (reader.name(), writer.name()) {
        _ if reader.word() != writer.word() => 2,
        (Some(reader), Some(writer)) if reader.full() != writer.full() => 1,
        _ => 0,
    }
}

/// Compiles the node of a type that contains no other type.
fn leaf(node: &schema::Node) -> Node {
    let plain = match &node.shape {
        Shape::Fixed { size, .. } => Node::Bytes(Some(usize::try_from(*size).unwrap_or(usize::MAX))),
        shape => primitive(shape.word()).unwrap_or(Node::Null),
    };
    match node.logical {
        None => plain,
        Some(Logical::Decimal { scale, .. }) => logical_type(plain, "decimal", Some(scale.into())),
        Some(logical) => logical_type(plain, logical.name(), None),
    }
}

fn json(symbol: &str) -> String {
    let mut text = String::new();
    write_string(&mut text, symbol);
    text
}

/// Encodes defaults as a writer would have written them.
pub(super) struct Defaults<'a> {
    schema: &'a Schema,
    /// Values and bytes that are left of the maximum.
    values: usize,
    bytes: usize,
}

impl<'a> Defaults<'a> {
    pub(super) fn new(schema: &'a Schema) -> Self {
        Self { schema, values: VALUES_MAX, bytes: BYTES_MAX }
    }

    /// Encodes the default of a field that the writer does not have.
    pub(super) fn bytes(&mut self, field: &Field) -> Result<Vec<u8>, &'static str> {
        let default = field.default.as_ref().ok_or("a field that the writer has not has no default")?;
        let mut out = vec![];
        self.write(field.node, default, &mut out, 0)?;
        self.bytes = self.bytes.checked_sub(out.len()).ok_or("its defaults are longer than 1 MiB")?;
        Ok(out)
    }

    fn write(&mut self, id: NodeId, value: &Value, out: &mut Vec<u8>, depth: u32) -> Result<(), &'static str> {
        const NO_VALUE: &str = "a default is no value of its type";
        self.values = self.values.checked_sub(1).ok_or("its defaults hold more than 65,536 values")?;
        if depth > DEPTH_MAX {
            return Err("a default is nested too deep");
        }
        if out.len() > self.bytes {
            return Err("its defaults are longer than 1 MiB");
        }
        let schema = self.schema;
        match (&schema.node(id).shape, value) {
            (Shape::Null, _) => {}
            (Shape::Boolean, value) => out.push(u8::from(value.as_bool().ok_or(NO_VALUE)?)),
            (Shape::Int | Shape::Long, value) => write_long(out, value.as_i64().ok_or(NO_VALUE)?),
            (Shape::Float, value) => out.extend((value.as_f64().ok_or(NO_VALUE)? as f32).to_le_bytes()),
            (Shape::Double, value) => out.extend(value.as_f64().ok_or(NO_VALUE)?.to_le_bytes()),
            (Shape::String, Value::String(text)) => write_bytes(out, text.as_bytes()),
            (Shape::Bytes, Value::String(text)) => write_bytes(out, &latin(text).ok_or(NO_VALUE)?),
            (Shape::Fixed { .. }, Value::String(text)) => out.extend(latin(text).ok_or(NO_VALUE)?),
            (Shape::Enum { symbols, .. }, Value::String(text)) => {
                let at = symbols.iter().position(|symbol| symbol == text).ok_or(NO_VALUE)?;
                write_long(out, at as i64);
            }
            (Shape::Array(items), Value::Array(values)) => {
                let values = values.iter().map(|value| (None, value));
                self.block(*items, values.collect(), out, depth)?;
            }
            (Shape::Map(inner), Value::Object(values)) => {
                let values = values.iter().map(|(key, value)| (Some(key), value));
                self.block(*inner, values.collect(), out, depth)?;
            }
            (Shape::Record { fields, .. }, Value::Object(values)) => {
                for field in fields {
                    let value = values.get(&field.name).or(field.default.as_ref()).ok_or(NO_VALUE)?;
                    self.write(field.node, value, out, depth + 1)?;
                }
            }
            (Shape::Union(branches), value) => {
                let takes = |(_, branch): &(usize, &NodeId)| schema.takes(**branch, value);
                let (at, branch) = branches.iter().enumerate().find(takes).ok_or(NO_VALUE)?;
                write_long(out, at as i64);
                self.write(*branch, value, out, depth + 1)?;
            }
            _ => return Err(NO_VALUE),
        }
        Ok(())
    }

    /// Encodes all items of an array or a map as one block, and its end.
    fn block(
        &mut self,
        inner: NodeId,
        values: Vec<(Option<&String>, &Value)>,
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), &'static str> {
        if !values.is_empty() {
            write_long(out, values.len() as i64);
        }
        for (key, value) in values {
            if let Some(key) = key {
                write_bytes(out, key.as_bytes());
            }
            self.write(inner, value, out, depth + 1)?;
        }
        write_long(out, 0);
        Ok(())
    }
}

/// Decodes bytes from Avro's JSON encoding: characters up to U+00FF.
fn latin(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}
