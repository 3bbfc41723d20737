//! Values of one schema read as those of another: Avro's schema resolution, decided before the first byte.
//!
//! The two schemas are walked together, and each pair of types that meets becomes one node of the decoder's table: it
//! reads as the writer's type stands in the bytes and writes as the reader's type means it. What meets is what
//! [`Comparison`] says: both have the same rules as a registry's compatibility, so that what may follow can be read. What
//! only some values show (a branch of a union, a symbol of an enum) is their fault when they come.
//!
//! - Fields are matched by name, else by the reader's aliases; they stand in the writer's order, defaults behind them.
//! - A default is kept as the bytes that a writer would have written, and is decoded like them.
//! - Of a reader's union the writer's type gets the branch of its full name, else of its kind, else one that it can be
//!   promoted to; the first where there are several.
//! - The reader's logical types count, the writer's do not.
//!
//! Pairs wait in a list for their turn instead of on the stack: a chain of types may be as long as a schema's text.

use super::value::{Decoder, Member, Node, Number, Source, logical_type, primitive};
use super::write::{write_bytes, write_long};
use crate::error::{Error, Result};
use crate::json::DEPTH_MAX;
use crate::json::text::write_string;
use crate::kind::Kind;
use crate::registry::Schema;
use crate::registry::compat::{Comparison, Demand};
use crate::registry::schema::{self, Field, Logical, NodeId, Shape};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Values and bytes that all defaults of a schema may have: those of records hold those of their fields, many times.
const VALUES_MAX: usize = 1 << 16;
const BYTES_MAX: usize = 1 << 20;
/// Nodes of a table: types of one schema may meet all types of the other.
const NODES_MAX: usize = 1 << 20;
/// The node of what the reader has no place for.
const UNPLACED: usize = 0;

impl Decoder {
    /// Reads what `writer` wrote as `reader` has it; `kind` where the reader's schema is known to be that of our rows.
    /// 78 with path and reason where no value of the one can be read as the other.
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

/// What a node is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    /// A type of the reader's that reads one of the writer's.
    Pair(NodeId, NodeId),
    /// A type of the writer's whose values are skipped.
    Writer(NodeId),
    /// A type of the reader's whose values are defaults.
    Reader(NodeId),
}

struct Compiler<'a> {
    writer: &'a Schema,
    reader: &'a Schema,
    comparison: Comparison<'a>,
    nodes: Vec<Node>,
    known: HashMap<Origin, usize>,
    /// Nodes that are numbered and not yet made.
    open: Vec<(Origin, usize)>,
    defaults: Defaults<'a>,
}

impl<'a> Compiler<'a> {
    /// Makes every node that is open, and those they lead to.
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

    /// The number of a node.
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

    /// The number of the node that reads a type of the writer's as one of the reader's.
    fn meet(&mut self, r: NodeId, w: NodeId) -> usize {
        match self.choose(r, w) {
            Some(r) => self.at(Origin::Pair(r, w)),
            None => UNPLACED,
        }
    }

    /// The type of the reader's itself, or the branch of its union that the writer's type gets.
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
            // The same bytes: strings and bytes too.
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

    /// The node of a type by itself.
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

/// How far a type of the writer's is from a branch of the reader's that reads it.
fn distance(reader: &Shape, writer: &Shape) -> u8 {
    match (reader.name(), writer.name()) {
        _ if reader.word() != writer.word() => 2,
        (Some(reader), Some(writer)) if reader.full() != writer.full() => 1,
        _ => 0,
    }
}

/// The node of a type that holds no other.
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

/// Writes defaults as a writer would have written them.
pub(super) struct Defaults<'a> {
    schema: &'a Schema,
    /// Values and bytes that may still be written.
    values: usize,
    bytes: usize,
}

impl<'a> Defaults<'a> {
    pub(super) fn new(schema: &'a Schema) -> Self {
        Self { schema, values: VALUES_MAX, bytes: BYTES_MAX }
    }

    /// The default of a field that the writer has not.
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

    /// All items of an array or a map as one block, and its end.
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

/// Bytes as Avro writes them in JSON: characters up to U+00FF.
fn latin(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}
