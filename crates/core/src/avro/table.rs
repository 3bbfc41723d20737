//! The instructions of a decoder, compiled from one schema, or from a writer's and a reader's, before the first byte is
//! read.
//!
//! A table has one node for each type of a schema; a name that recurs is the same node, so recursive schemas need no
//! special case.
//!
//! For two schemas, each pair of types that meets becomes one node: it reads the writer's type and writes it as the
//! reader's type, by Avro's schema resolution. [`Comparison`] decides which types match, so the rules are those of a
//! registry's compatibility, and a compatible schema can be read. Mismatches that depend on the value (a branch of a
//! union, a symbol of an enum) are faults of that value.
//!
//! - Fields match by name, else by the reader's aliases; they are in the writer's order, defaults after them.
//! - A default is kept as the bytes that a writer would have written, and is decoded like them.
//! - In a reader's union, the writer's type gets the branch of its full name, else of its type, else one to which it
//!   can be promoted; the first if there are several.
//! - The reader's logical types count, the writer's do not.
//!
//! Pairs wait in a list instead of on the stack, because a chain of types may be as long as a schema's text.

use super::compat::{Comparison, Demand};
use super::default::DefaultEncoder;
use super::scalar::Scalar;
use super::schema::{AvroType, Field, NodeId, Schema};
use crate::error::{Error, Result};
use crate::json::text::{key, write_string};
use std::collections::{HashMap, HashSet};

/// Maximum nodes of a table: all types of one schema may meet all types of the other.
const NODES_MAX: usize = 1 << 20;
/// The node of values without a counterpart in the reader's schema.
const UNPLACED: usize = 0;

/// A table of nodes, which refer to each other by index.
pub struct Table {
    pub nodes: Vec<ReadNode>,
    pub root: usize,
}

#[derive(Clone, Debug)]
pub enum ReadNode {
    /// A value without a counterpart in the reader's schema.
    Unplaced,
    Scalar(Scalar),
    /// A number that is read as one type and written as a wider one.
    Promoted {
        from: Scalar,
        to: Scalar,
    },
    /// Text with a JSON object, in evt's own kinds.
    Json,
    /// Bytes that are written as text if they are UTF-8, in evt's own kinds.
    Payload,
    /// Symbols as JSON strings; `None` for a symbol that the reader's schema lacks.
    Enum(Vec<Option<String>>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<ReadField>),
}

#[derive(Clone, Debug)]
pub struct ReadField {
    /// `,"name":`
    pub key: String,
    /// `,"name_base64":`
    pub base64_key: String,
    pub node: usize,
    pub source: FieldSource,
}

/// The source of a field's value.
#[derive(Clone, Debug)]
pub enum FieldSource {
    /// The next bytes.
    Next,
    /// The bytes of the last field again: two fields of a reader may use the same field of the writer.
    Again,
    /// The next bytes, which are read and not written.
    Skipped,
    /// These bytes: the default of a reader's field that the writer lacks.
    Default(Vec<u8>),
}

impl ReadField {
    fn new(name: &str, node: usize, source: FieldSource) -> Self {
        Self { key: key(name), base64_key: key(&format!("{name}_base64")), node, source }
    }
}

impl Table {
    /// Compiles a schema.
    pub fn of(schema: &Schema) -> Self {
        let nodes = schema.ids().map(|id| alone(schema, id, NodeId::index)).collect();
        Self { nodes, root: schema.root().index() }
    }

    /// Compiles a table that reads `writer`'s values as `reader`'s.
    ///
    /// Errors: exit status 78 with path and reason if no value of the one can be read as the other.
    pub fn resolving(writer: &Schema, reader: &Schema) -> Result<Self> {
        let comparison = Comparison::new(reader, writer, Demand::Some);
        if let Some(reason) = comparison.reasons().first() {
            return Err(Error::config(reason.to_string()));
        }
        let mut resolution = Resolution {
            writer,
            reader,
            comparison,
            nodes: vec![ReadNode::Unplaced],
            known: HashMap::new(),
            open: vec![],
            defaults: DefaultEncoder::new(reader),
        };
        let root = resolution.meet(reader.root(), writer.root());
        resolution.run().map_err(|why| Error::config(why).at(reader.title()))?;
        Ok(Self { nodes: resolution.nodes, root })
    }

    /// Reads the columns of evt's kinds in their own forms: payloads are text if they are UTF-8, JSON columns are JSON.
    pub fn use_columns(&mut self) {
        let ReadNode::Record(fields) = &self.nodes[self.root] else { return };
        let json = ["properties", "dimensions"].map(key);
        let read = fields.iter().filter(|field| !matches!(field.source, FieldSource::Skipped));
        let columns: Vec<(usize, bool)> = read.map(|field| (field.node, json.contains(&field.key))).collect();
        columns.into_iter().for_each(|(node, holds_json)| self.use_column(node, holds_json));
    }

    fn use_column(&mut self, at: usize, holds_json: bool) {
        match self.nodes[at].clone() {
            ReadNode::Union(branches) => branches.into_iter().for_each(|branch| self.use_column(branch, holds_json)),
            ReadNode::Map(values) => self.use_column(values, false),
            ReadNode::Scalar(Scalar::Bytes(None)) => self.nodes[at] = ReadNode::Payload,
            ReadNode::Scalar(Scalar::String | Scalar::UuidText) if holds_json => self.nodes[at] = ReadNode::Json,
            _ => {}
        }
    }
}

/// Compiles the node of a single type; `at` returns the index of another type's node.
fn alone(schema: &Schema, id: NodeId, mut at: impl FnMut(NodeId) -> usize) -> ReadNode {
    let node = schema.node(id);
    match &node.avro_type {
        AvroType::Array(items) => ReadNode::Array(at(*items)),
        AvroType::Map(values) => ReadNode::Map(at(*values)),
        AvroType::Union(branches) => ReadNode::Union(branches.iter().map(|branch| at(*branch)).collect()),
        AvroType::Enum { symbols, .. } => ReadNode::Enum(symbols.iter().map(|symbol| Some(json(symbol))).collect()),
        AvroType::Record { fields, .. } => {
            let field = |field: &Field| ReadField::new(&field.name, at(field.node), FieldSource::Next);
            ReadNode::Record(fields.iter().map(field).collect())
        }
        _ => Scalar::of(node).map_or(ReadNode::Unplaced, ReadNode::Scalar),
    }
}

fn json(symbol: &str) -> String {
    let mut text = String::new();
    write_string(&mut text, symbol);
    text
}

/// The types that a node is compiled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    /// A reader's type that reads a writer's type.
    Pair { reader: NodeId, writer: NodeId },
    /// A writer's type whose values are skipped.
    Writer(NodeId),
    /// A reader's type whose values are defaults.
    Reader(NodeId),
}

/// A table under construction from two schemas.
struct Resolution<'a> {
    writer: &'a Schema,
    reader: &'a Schema,
    comparison: Comparison<'a>,
    nodes: Vec<ReadNode>,
    known: HashMap<Origin, usize>,
    /// Nodes that have an index but are not compiled yet.
    open: Vec<(Origin, usize)>,
    defaults: DefaultEncoder<'a>,
}

impl<'a> Resolution<'a> {
    /// Compiles every open node, and the nodes they refer to.
    fn run(&mut self) -> Result<(), &'static str> {
        while let Some((origin, at)) = self.open.pop() {
            if self.nodes.len() > NODES_MAX {
                return Err("the two schemas have too many pairs of types");
            }
            self.nodes[at] = match origin {
                Origin::Pair { reader, writer } => self.pair(reader, writer)?,
                Origin::Writer(id) => alone(self.writer, id, |id| self.at(Origin::Writer(id))),
                Origin::Reader(id) => alone(self.reader, id, |id| self.at(Origin::Reader(id))),
            };
        }
        Ok(())
    }

    /// Returns the index of a node; adds it if it is new.
    fn at(&mut self, origin: Origin) -> usize {
        *self.known.entry(origin).or_insert_with(|| {
            let at = self.nodes.len();
            self.nodes.push(ReadNode::Unplaced);
            self.open.push((origin, at));
            at
        })
    }

    /// Returns the index of the node that reads a writer's type as a reader's type.
    fn meet(&mut self, r: NodeId, w: NodeId) -> usize {
        match self.choose(r, w) {
            Some(reader) => self.at(Origin::Pair { reader, writer: w }),
            None => UNPLACED,
        }
    }

    /// Returns the reader's type itself, or the branch of its union that the writer's type gets.
    fn choose(&self, r: NodeId, w: NodeId) -> Option<NodeId> {
        let reads = |r: &NodeId| self.comparison.reads(*r, w);
        match (&self.reader.node(r).avro_type, &self.writer.node(w).avro_type) {
            (_, AvroType::Union(_)) => Some(r),
            (AvroType::Union(branches), writer) => {
                let distance = |r: &NodeId| distance(&self.reader.node(*r).avro_type, writer);
                branches.iter().copied().filter(reads).min_by_key(distance)
            }
            _ => Some(r).filter(reads),
        }
    }

    fn pair(&mut self, r: NodeId, w: NodeId) -> Result<ReadNode, &'static str> {
        use AvroType::*;
        let (reader, writer) = (&self.reader.node(r).avro_type, &self.writer.node(w).avro_type);
        let scalar = Scalar::of(self.reader.node(r));
        Ok(match (reader, writer, scalar) {
            (_, Union(branches), _) => ReadNode::Union(branches.iter().map(|branch| self.meet(r, *branch)).collect()),
            (Array(r), Array(w), _) => ReadNode::Array(self.meet(*r, *w)),
            (Map(r), Map(w), _) => ReadNode::Map(self.meet(*r, *w)),
            (Enum { symbols: r, default, .. }, Enum { symbols: w, .. }, _) => {
                let known: HashSet<_> = r.iter().collect();
                let placed =
                    w.iter().map(|symbol| Some(symbol).filter(|symbol| known.contains(symbol)).or(default.as_ref()));
                ReadNode::Enum(placed.map(|symbol| symbol.map(|symbol| json(symbol))).collect())
            }
            (Record { fields: r, .. }, Record { fields: w, .. }, _) => ReadNode::Record(self.record(r, w)?),
            (Long | Float | Double, Int, Some(to)) => ReadNode::Promoted { from: Scalar::Int, to },
            (Float | Double, Long, Some(to)) => ReadNode::Promoted { from: Scalar::Long, to },
            (Double, Float, Some(to)) => ReadNode::Promoted { from: Scalar::Float, to },
            // Both types have the same encoding; so do strings and bytes.
            (_, _, Some(scalar)) => ReadNode::Scalar(scalar),
            (_, _, None) => ReadNode::Unplaced,
        })
    }

    fn record(&mut self, r: &'a [Field], w: &'a [Field]) -> Result<Vec<ReadField>, &'static str> {
        let written: HashMap<&str, usize> = w.iter().enumerate().map(|(at, field)| (field.name.as_str(), at)).collect();
        let mut takers: Vec<Vec<&Field>> = vec![vec![]; w.len()];
        let mut missing = vec![];
        for field in r {
            match field.find(&written) {
                Some(at) => takers[*at].push(field),
                None => missing.push(field),
            }
        }
        let mut fields = vec![];
        for (field, takers) in w.iter().zip(takers) {
            if takers.is_empty() {
                let node = self.at(Origin::Writer(field.node));
                fields.push(ReadField::new(&field.name, node, FieldSource::Skipped));
            }
            for (nth, taker) in takers.into_iter().enumerate() {
                let source = if nth == 0 { FieldSource::Next } else { FieldSource::Again };
                fields.push(ReadField::new(&taker.name, self.meet(taker.node, field.node), source));
            }
        }
        for field in missing {
            let bytes = self.defaults.encode(field)?;
            let node = self.at(Origin::Reader(field.node));
            fields.push(ReadField::new(&field.name, node, FieldSource::Default(bytes)));
        }
        Ok(fields)
    }
}

/// Returns the distance of a writer's type from a branch of the reader's that reads it.
fn distance(reader: &AvroType, writer: &AvroType) -> u8 {
    match (reader.name(), writer.name()) {
        _ if reader.word() != writer.word() => 2,
        (Some(reader), Some(writer)) if reader.full() != writer.full() => 1,
        _ => 0,
    }
}
