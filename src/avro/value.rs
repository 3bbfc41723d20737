//! Decodes Avro values to JSON text, straight from their bytes.
//!
//! One pass over the schema compiles a table of nodes (a name that recurs refers to its first node, so recursive
//! schemas need no special case); one pass over a record's bytes writes its JSON. Nothing in the bytes is trusted:
//! lengths, indices, depth and the size of the text are checked, so the worst input yields an error with the reason.
//!
//! The table may also be compiled for two schemas ([`super::resolve`]): it reads by the writer's and writes by the
//! reader's.
//!
//! Values are written as by [`crate::format::cell`]: nulls of a record left out, bytes base64, decimals as numbers,
//! instants RFC 3339, a union as its value. In files of evt's kinds payloads are text if they are UTF-8, and JSON
//! columns are JSON.

use crate::error::{Error, Result};
use crate::format::cell::{Form, key, write_decimal, write_float, write_float32, write_uuid};
use crate::json::text::write_string;
use crate::json::{DEPTH_MAX, base64, scan};
use crate::kind::Kind;
use crate::time::stamp::{Stamp, write_date, write_time_of_day};
use arrow::datatypes::TimeUnit;
use num_bigint::BigInt;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Maximum bytes of a record's JSON text: arrays of nulls take no input bytes.
const TEXT_MAX: usize = 64 << 20;

/// Maximum bytes of a decimal: writing its digits takes the square of their number.
const DECIMAL_MAX: usize = 4_096;

/// Why bytes do not match the schema.
pub type Fault = &'static str;

const NO_BRANCH: Fault = "a union holds a type that the reader's schema has no place for";
const NO_SYMBOL: Fault = "an enum holds a symbol that the reader's schema has not";
/// The faults of values that match their writer's schema and have no counterpart in the reader's.
pub const UNPLACED: [Fault; 2] = [NO_BRANCH, NO_SYMBOL];

/// A schema compiled for decoding.
pub struct Decoder {
    nodes: Vec<Node>,
    root: usize,
    stamp: Stamp,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A name that is not defined yet.
    Open,
    /// A value without a counterpart in the reader's schema.
    Unplaced,
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes(Option<usize>),
    String,
    Uuid,
    Date,
    Time(TimeUnit),
    Timestamp(TimeUnit),
    Decimal(Box<Node>, i32),
    Interval,
    /// A number that is read as one type and written as a wider one.
    Widened(Number, Box<Node>),
    /// Text with a JSON object, in evt's own kinds.
    Json,
    /// Bytes that are written as text if they are UTF-8, in evt's own kinds.
    Payload,
    /// Symbols as JSON strings; `None` for a symbol that the reader's schema lacks.
    Enum(Vec<Option<String>>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<Member>),
}

/// The encoding of a number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Int,
    Long,
    Float,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    /// `,"name":`
    key: String,
    /// `,"name_base64":`
    base64_key: String,
    node: usize,
    source: Source,
}

/// The source of a member's value.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The next bytes.
    Next,
    /// The bytes of the last member: two fields of a reader may use one of the writer.
    Again,
    /// The next bytes, which are read and not written.
    Skipped,
    /// These bytes: the default of a reader's field that the writer lacks.
    Default(Vec<u8>),
}

impl Member {
    pub(super) fn new(name: &str, node: usize, source: Source) -> Self {
        Self { key: key(name), base64_key: key(&format!("{name}_base64")), node, source }
    }

    fn is_named(&self, names: [&str; 2]) -> bool {
        names.iter().any(|name| self.key == key(name))
    }
}

impl Decoder {
    /// Creates a decoder from a table; `kind` if its outermost record is one of evt's.
    pub(super) fn of(mut nodes: Vec<Node>, root: usize, kind: Option<Kind>) -> Self {
        if let (Some(_), Node::Record(members)) = (kind, nodes[root].clone()) {
            for member in members.iter().filter(|member| !matches!(member.source, Source::Skipped)) {
                own(&mut nodes, member.node, member.is_named(["properties", "dimensions"]));
            }
        }
        Self { nodes, root, stamp: Stamp::default() }
    }

    /// Compiles a schema (JSON); `kind` if the file is one of evt's.
    pub fn try_new(schema: &str, kind: Option<Kind>) -> Result<Self> {
        let wrong = |why: String| Error::corrupt("the Avro schema cannot be read").because(why);
        let json: Value = serde_json::from_str(schema).map_err(|error| wrong(error.to_string()))?;
        let mut compiler = Compiler { nodes: vec![], names: HashMap::new() };
        let root = compiler.node(&json, "", 0).map_err(wrong)?;
        Ok(Self::of(compiler.nodes, root, kind))
    }

    /// Appends one value as a JSON object, a record as it is, anything else as `{"value": …}`, and removes its bytes
    /// from `input`.
    pub fn decode(&mut self, input: &mut &[u8], out: &mut String) -> Result<(), Fault> {
        let nodes = std::mem::take(&mut self.nodes);
        let mut run = Run { nodes: &nodes, stamp: &mut self.stamp, start: out.len(), skipped: 0 };
        let done = match &nodes[self.root] {
            Node::Record(members) => run.record(members, input, out, 0),
            _ => run.wrapped(self.root, input, out),
        };
        self.nodes = nodes;
        done
    }
}

struct Compiler {
    nodes: Vec<Node>,
    names: HashMap<String, usize>,
}

impl Compiler {
    fn push(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn node(&mut self, schema: &Value, namespace: &str, depth: u32) -> Result<usize, String> {
        if depth > DEPTH_MAX {
            return Err("it is nested too deep".into());
        }
        match schema {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches: Result<_, _> =
                    branches.iter().map(|branch| self.node(branch, namespace, depth + 1)).collect();
                Ok(self.push(Node::Union(branches?)))
            }
            Value::Object(schema) => self.complex(schema, namespace, depth),
            other => Err(format!("{other} is no type")),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<usize, String> {
        if let Some(primitive) = primitive(name) {
            return Ok(self.push(primitive));
        }
        let qualified = qualify(name, namespace);
        match self.names.get(&qualified).or_else(|| self.names.get(name)) {
            Some(node) => Ok(*node),
            None => Err(format!("'{name}' is no type")),
        }
    }

    fn complex(&mut self, schema: &Map<String, Value>, namespace: &str, depth: u32) -> Result<usize, String> {
        let text = |name: &str| schema.get(name).and_then(Value::as_str);
        let inner = |name: &str| schema.get(name).ok_or_else(|| format!("a type lacks '{name}'"));
        let Some(kind) = text("type") else {
            // `{"type": {"type": …}}` and `{"type": [ … ]}` are the type inside.
            return self.node(inner("type")?, namespace, depth + 1);
        };
        match kind {
            "array" => {
                let items = self.node(inner("items")?, namespace, depth + 1)?;
                Ok(self.push(Node::Array(items)))
            }
            "map" => {
                let values = self.node(inner("values")?, namespace, depth + 1)?;
                Ok(self.push(Node::Map(values)))
            }
            "record" | "error" | "enum" | "fixed" => {
                let name = text("name").ok_or("a named type lacks its 'name'")?;
                let name = qualify(name, text("namespace").unwrap_or(namespace));
                let at = self.push(Node::Open);
                self.names.insert(name.clone(), at);
                let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
                self.nodes[at] = match kind {
                    "enum" => enumeration(inner("symbols")?)?,
                    "fixed" => fixed(schema)?,
                    _ => self.record(inner("fields")?, namespace, depth)?,
                };
                Ok(at)
            }
            name => match (primitive(name), text("logicalType")) {
                (Some(primitive), Some(logical)) => Ok(self.push(logical_type(primitive, logical, scale(schema)))),
                _ => self.named(name, namespace),
            },
        }
    }

    fn record(&mut self, fields: &Value, namespace: &str, depth: u32) -> Result<Node, String> {
        let mut members: Vec<Member> = vec![];
        for field in fields.as_array().ok_or("'fields' is no array")? {
            let name = field.get("name").and_then(Value::as_str).ok_or("a field lacks its 'name'")?;
            let schema = field.get("type").ok_or_else(|| format!("field '{name}' lacks its 'type'"))?;
            let node = self.node(schema, namespace, depth + 1)?;
            let member = Member::new(name, node, Source::Next);
            if members.iter().any(|earlier| earlier.key == member.key) {
                return Err(format!("two fields are named '{name}'"));
            }
            members.push(member);
        }
        Ok(Node::Record(members))
    }
}

/// Sets the node of a column of evt's kinds to the form it has in them.
fn own(nodes: &mut [Node], at: usize, holds_json: bool) {
    match nodes[at].clone() {
        Node::Union(branches) => branches.into_iter().for_each(|branch| own(nodes, branch, holds_json)),
        Node::Map(values) => own(nodes, values, false),
        Node::Bytes(None) => nodes[at] = Node::Payload,
        Node::String if holds_json => nodes[at] = Node::Json,
        _ => {}
    }
}

fn qualify(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// Returns the primitive type of that name.
pub(super) fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int,
        "long" => Node::Long,
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes(None),
        "string" => Node::String,
        _ => return None,
    })
}

/// Applies a logical type. By the specification, an unknown one, or one on the wrong type, is ignored.
pub(super) fn logical_type(primitive: Node, logical: &str, scale: Option<u64>) -> Node {
    match (logical, primitive) {
        ("date", Node::Int) => Node::Date,
        ("time-millis", Node::Int) => Node::Time(TimeUnit::Millisecond),
        ("time-micros", Node::Long) => Node::Time(TimeUnit::Microsecond),
        ("timestamp-millis" | "local-timestamp-millis", Node::Long) => Node::Timestamp(TimeUnit::Millisecond),
        ("timestamp-micros" | "local-timestamp-micros", Node::Long) => Node::Timestamp(TimeUnit::Microsecond),
        ("timestamp-nanos" | "local-timestamp-nanos", Node::Long) => Node::Timestamp(TimeUnit::Nanosecond),
        ("decimal", node @ Node::Bytes(_)) => match scale {
            Some(scale @ 0..=10_000) => Node::Decimal(Box::new(node), scale as i32),
            _ => node,
        },
        ("duration", Node::Bytes(Some(12))) => Node::Interval,
        ("uuid", Node::Bytes(Some(16))) => Node::Uuid,
        (_, node) => node,
    }
}

fn fixed(schema: &Map<String, Value>) -> Result<Node, String> {
    let size = schema.get("size").and_then(Value::as_u64).ok_or("a fixed type lacks its 'size'")?;
    let node = Node::Bytes(Some(usize::try_from(size).map_err(|error| error.to_string())?));
    Ok(match schema.get("logicalType").and_then(Value::as_str) {
        Some(logical) => logical_type(node, logical, scale(schema)),
        None => node,
    })
}

/// Returns the scale of a decimal; `None` if it is not a number.
fn scale(schema: &Map<String, Value>) -> Option<u64> {
    schema.get("scale").map_or(Some(0), Value::as_u64)
}

/// Compiles the symbols to JSON strings.
fn enumeration(symbols: &Value) -> Result<Node, String> {
    let symbols = symbols.as_array().ok_or("'symbols' is no array")?;
    let string = |symbol: &Value| symbol.is_string().then(|| Some(symbol.to_string()));
    let strings: Option<_> = symbols.iter().map(string).collect();
    Ok(Node::Enum(strings.ok_or("a symbol is no string")?))
}

/// One record being decoded.
struct Run<'n, 's> {
    nodes: &'n [Node],
    stamp: &'s mut Stamp,
    start: usize,
    /// Bytes of text that were written and removed again.
    skipped: usize,
}

impl<'n> Run<'n, '_> {
    fn wrapped(&mut self, root: usize, input: &mut &[u8], out: &mut String) -> Result<(), Fault> {
        match self.resolve(root, input)? {
            Node::Record(members) => self.record(members, input, out, 0),
            node => {
                out.push_str("{\"value\":");
                self.value(node, input, out, 1)?;
                out.push('}');
                Ok(())
            }
        }
    }

    /// Returns the node of the next value; for a union reads the branch from the input.
    fn resolve(&self, mut at: usize, input: &mut &[u8]) -> Result<&'n Node, Fault> {
        for _ in 0..DEPTH_MAX {
            let Node::Union(branches) = &self.nodes[at] else { return Ok(&self.nodes[at]) };
            let branch = usize::try_from(long(input)?).ok().and_then(|index| branches.get(index));
            at = *branch.ok_or("a union names a branch it has not")?;
        }
        Err("unions are nested too deep")
    }

    fn record(&mut self, members: &[Member], input: &mut &[u8], out: &mut String, depth: u32) -> Result<(), Fault> {
        let mut before = *input;
        out.push('{');
        for member in members {
            match &member.source {
                Source::Next => {
                    before = *input;
                    self.member(member, input, out, depth)?;
                }
                Source::Again => self.member(member, &mut { before }, out, depth)?,
                Source::Default(bytes) => self.member(member, &mut bytes.as_slice(), out, depth)?,
                Source::Skipped => self.skip(member.node, input, out, depth)?,
            }
        }
        out.push('}');
        Ok(())
    }

    fn member(&mut self, member: &Member, input: &mut &[u8], out: &mut String, depth: u32) -> Result<(), Fault> {
        let node = self.resolve(member.node, input)?;
        let key = match node {
            Node::Null => return Ok(()),
            Node::Payload if std::str::from_utf8(bytes(&mut &**input)?).is_err() => &member.base64_key,
            _ => &member.key,
        };
        // No value ends with an opening brace.
        out.push_str(if out.ends_with('{') { &key[1..] } else { key });
        self.value(node, input, out, depth + 1)
    }

    /// Reads a value and discards it; its faults are the record's.
    fn skip(&mut self, at: usize, input: &mut &[u8], out: &mut String, depth: u32) -> Result<(), Fault> {
        let kept = out.len();
        let node = self.resolve(at, input)?;
        self.value(node, input, out, depth + 1)?;
        self.skipped += out.len() - kept;
        out.truncate(kept);
        Ok(())
    }

    fn value(&mut self, node: &'n Node, input: &mut &[u8], out: &mut String, depth: u32) -> Result<(), Fault> {
        if depth >= DEPTH_MAX {
            return Err("values are nested too deep");
        }
        if out.len() - self.start + self.skipped > TEXT_MAX {
            return Err("a record is longer than 64 MiB as text");
        }
        match node {
            Node::Record(members) => self.record(members, input, out, depth)?,
            Node::Array(items) => self.array(*items, input, out, depth)?,
            Node::Map(values) => self.map(*values, input, out, depth)?,
            Node::Enum(symbols) => {
                let symbol = usize::try_from(long(input)?).ok().and_then(|index| symbols.get(index));
                let symbol = symbol.ok_or("an enum names a symbol it has not")?;
                out.push_str(symbol.as_deref().ok_or(NO_SYMBOL)?);
            }
            Node::Timestamp(unit) => self.timestamp(long(input)?, *unit, out),
            Node::Widened(Number::Float, _) => write_float(out, float(input)?.into(), Form::Json),
            Node::Widened(number, wide) => {
                let number = if let Number::Int = number { int(input)?.into() } else { long(input)? };
                self.widened(number, wide, out);
            }
            Node::Unplaced => return Err(NO_BRANCH),
            node => scalar(node, input, out)?,
        }
        Ok(())
    }

    fn timestamp(&mut self, ticks: i64, unit: TimeUnit, out: &mut String) {
        quoted(out, |out| self.stamp.write_ticks(out, ticks, unit));
    }

    /// Writes an integer as a wider type; rounds what a float cannot represent, as in the specification.
    fn widened(&mut self, number: i64, wide: &Node, out: &mut String) {
        match wide {
            Node::Float => write_float32(out, number as f32, Form::Json),
            Node::Double => write_float(out, number as f64, Form::Json),
            Node::Timestamp(unit) => self.timestamp(number, *unit, out),
            Node::Time(unit) => quoted(out, |out| write_time_of_day(out, number, *unit)),
            _ => out.push_str(&number.to_string()),
        }
    }

    fn array(&mut self, items: usize, input: &mut &[u8], out: &mut String, depth: u32) -> Result<(), Fault> {
        let mut first = true;
        out.push('[');
        while let Some(count) = block(input)? {
            for _ in 0..count {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                let node = self.resolve(items, input)?;
                self.value(node, input, out, depth + 1)?;
            }
        }
        out.push(']');
        Ok(())
    }

    fn map(&mut self, values: usize, input: &mut &[u8], out: &mut String, depth: u32) -> Result<(), Fault> {
        let mut first = true;
        out.push('{');
        while let Some(count) = block(input)? {
            for _ in 0..count {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                write_string(out, text(input)?);
                out.push(':');
                match self.resolve(values, input)? {
                    Node::Payload if std::str::from_utf8(bytes(&mut &**input)?).is_err() => {
                        out.push_str("{\"base64\":");
                        write_base64(out, bytes(input)?);
                        out.push('}');
                    }
                    node => self.value(node, input, out, depth + 1)?,
                }
            }
        }
        out.push('}');
        Ok(())
    }
}

fn scalar(node: &Node, input: &mut &[u8], out: &mut String) -> Result<(), Fault> {
    match node {
        Node::Boolean => out.push_str(match take(input, 1)? {
            [0] => "false",
            [1] => "true",
            _ => return Err("a boolean is neither 0 nor 1"),
        }),
        Node::Int => out.push_str(&int(input)?.to_string()),
        Node::Long => out.push_str(&long(input)?.to_string()),
        Node::Float => write_float32(out, float(input)?, Form::Json),
        Node::Double => write_float(out, f64::from_le_bytes(array_of(input)?), Form::Json),
        Node::String => write_string(out, text(input)?),
        Node::Bytes(None) => write_base64(out, bytes(input)?),
        Node::Bytes(Some(size)) => write_base64(out, take(input, *size)?),
        Node::Payload => match std::str::from_utf8(bytes(&mut &**input)?) {
            Ok(_) => write_string(out, text(input)?),
            Err(_) => write_base64(out, bytes(input)?),
        },
        Node::Json => {
            let text = text(input)?;
            if !text.starts_with('{') || !scan::is_json(text) {
                return Err("a column of JSON objects holds something else");
            }
            out.push_str(text);
        }
        Node::Decimal(node, scale) => {
            let digits = match **node {
                Node::Bytes(Some(size)) => take(input, size)?,
                _ => bytes(input)?,
            };
            if digits.len() > DECIMAL_MAX {
                return Err("a decimal is longer than 4,096 bytes");
            }
            write_decimal(out, &BigInt::from_signed_bytes_be(digits).to_string(), *scale);
        }
        Node::Uuid => {
            let id = take(input, 16)?;
            quoted(out, |out| write_uuid(out, id));
        }
        Node::Date => {
            let days = int(input)?;
            quoted(out, |out| write_date(out, days.into()));
        }
        Node::Time(unit) => {
            let ticks = long(input)?;
            quoted(out, |out| write_time_of_day(out, ticks, *unit));
        }
        Node::Interval => {
            let (months, days, millis) = (unsigned(input)?, unsigned(input)?, unsigned(input)?);
            out.push_str(&format!("\"P{months}M{days}DT{}.{:03}S\"", millis / 1_000, millis % 1_000));
        }
        _ => out.push_str("null"),
    }
    Ok(())
}

fn quoted(out: &mut String, write: impl FnOnce(&mut String)) {
    out.push('"');
    write(out);
    out.push('"');
}

fn write_base64(out: &mut String, bytes: &[u8]) {
    out.push('"');
    base64::encode(bytes, out);
    out.push('"');
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], Fault> {
    let (taken, rest) = input.split_at_checked(count).ok_or("a value is cut short")?;
    *input = rest;
    Ok(taken)
}

fn array_of<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Fault> {
    take(input, N)?.try_into().map_err(|_| "a value is cut short")
}

fn unsigned(input: &mut &[u8]) -> Result<u32, Fault> {
    Ok(u32::from_le_bytes(array_of(input)?))
}

/// Reads a zigzag varint.
pub fn long(input: &mut &[u8]) -> Result<i64, Fault> {
    let mut value = 0u64;
    for place in 0..10 {
        let byte = take(input, 1)?[0];
        if place == 9 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Ok((value >> 1).cast_signed() ^ (-((value & 1).cast_signed())));
        }
    }
    Err("a number is longer than 64 bits")
}

fn int(input: &mut &[u8]) -> Result<i32, Fault> {
    i32::try_from(long(input)?).map_err(|_| "an int is longer than 32 bits")
}

fn float(input: &mut &[u8]) -> Result<f32, Fault> {
    Ok(f32::from_le_bytes(array_of(input)?))
}

/// Reads bytes after their length.
pub fn bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let length = usize::try_from(long(input)?).map_err(|_| "a length is negative")?;
    take(input, length)
}

/// Reads text after its length.
pub fn text<'a>(input: &mut &'a [u8]) -> Result<&'a str, Fault> {
    std::str::from_utf8(bytes(input)?).map_err(|_| "a string is not UTF-8")
}

/// Reads the number of items of the next block of an array or map; `None` at its end. A negative count is followed by a
/// size in bytes.
pub fn block(input: &mut &[u8]) -> Result<Option<u64>, Fault> {
    let count = long(input)?;
    if count < 0 {
        long(input)?;
    }
    Ok((count != 0).then_some(count.unsigned_abs()))
}
