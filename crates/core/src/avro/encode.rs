//! Encodes JSON text as Avro values: the inverse of [`super::decode`].
//!
//! A schema is compiled once to a table of nodes, in which fields are looked up by name, defaults are bytes, and a
//! union lists its branches for each [`ValueClass`]. A value takes one walk over its text, which must be valid JSON.
//!
//! - A missing field gets its default, else null if its type takes null.
//! - A member without a field is left out and counted; if a name occurs twice, the last value counts.
//! - A union's value goes to the nearest branch that accepts it ([`distance`]). Of equally near branches it goes to the
//!   first that keeps all of the value, else to the one that keeps most of it.
//!
//! If several branches accept containers, the choice for each (union, place) is made once and cached for the row. So
//! the time for nested records of several types is bounded by the product of both, and is not exponential in their
//! depth.

use super::binary::{write_bytes, write_long};
use super::coerce::{AvroInput, ValueClass, coerce, distance};
use super::default::DefaultEncoder;
use super::scalar::Scalar;
use super::schema::{AvroType, Field, NodeId, Schema, describe_symbols};
use crate::error::{Error, Result};
use crate::json::DEPTH_MAX;
use crate::json::predictor::{KeyPredictor, UNMARKED};
use crate::json::text::{excerpt, is_text, unescape};
use crate::json::walk::{self, ByteRange, members, predicted_members, string_content};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

/// The fault of a value that is nested too deep, for text that was not validated.
const TOO_DEEP: &str = "nested too deeply";

/// Why a value does not fit: the path and the reason.
#[derive(Debug, PartialEq, Eq)]
pub struct EncodeError {
    path: String,
    why: String,
}

impl EncodeError {
    #[cold]
    fn because(why: &str) -> Self {
        Self { path: String::new(), why: why.to_owned() }
    }

    /// Puts `name` before the path.
    pub fn within(mut self, name: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{}{dot}{}", excerpt(name), self.path);
        self
    }
}

impl std::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

type Encoded = Result<(), EncodeError>;

/// Parts of values that were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    /// Number of members without a field.
    pub members: u64,
    /// Number of times that were rounded down.
    pub digits: u64,
}

/// A value of a union.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnionValue {
    /// The index of the union's node.
    pub union: usize,
    /// The address of the value's text.
    pub text: usize,
}

/// A row under construction; its memory is used again for the next.
#[derive(Default)]
pub struct RecordBuffer {
    /// The bytes so far.
    pub out: Vec<u8>,
    /// Parts lost since [`RecordBuffer::begin`].
    pub loss: Loss,
    /// The first member that was left out in any row.
    pub left_out: Option<String>,
    /// Byte ranges of the members of the open objects in their text.
    slots: Vec<Option<ByteRange>>,
    /// Branches that ambiguous unions chose; `None` if none fits.
    chosen: BTreeMap<UnionValue, Option<usize>>,
    /// Whether this is an attempt whose error is discarded.
    quiet: bool,
    /// Number of open JSON values.
    depth: u32,
    scratch: String,
}

impl RecordBuffer {
    /// Starts a row.
    pub fn begin(&mut self) {
        self.loss = Loss::default();
        self.slots.clear();
        self.chosen.clear();
        (self.quiet, self.depth) = (false, 0);
    }

    /// Counts a member without a field.
    pub fn leave_out(&mut self, key: &str) {
        self.loss.members += 1;
        if self.left_out.is_none() && !self.quiet {
            self.left_out = Some(excerpt(&unescape(key)));
        }
    }
}

/// A schema compiled for encoding.
pub struct Encoder {
    /// One per type of the schema, in its order.
    nodes: Vec<EncoderNode>,
    root: usize,
}

enum EncoderNode {
    Scalar(Scalar),
    /// Symbols with their numbers.
    Enum(HashMap<String, i64, ahash::RandomState>),
    Array(usize),
    Map(usize),
    Union(Union),
    Record(Record),
}

struct Union {
    branches: Vec<usize>,
    /// By class of value: numbers of the branches that may accept it, the nearest first.
    orders: [Vec<usize>; ValueClass::ALL.len()],
}

/// The fields of a record.
pub struct Record {
    /// The fields, in order.
    pub fields: Vec<RecordField>,
    by_name: HashMap<String, u32, ahash::RandomState>,
    /// Predicts the keys of objects; a mark is the index of the field.
    predictor: Cell<KeyPredictor>,
}

/// A field.
#[derive(Clone)]
pub struct RecordField {
    /// Its name.
    pub name: String,
    /// Its type.
    pub node: usize,
    /// Its value if it is missing: its default, else null if its type takes null.
    pub absent: Option<Vec<u8>>,
}

impl Encoder {
    /// Compiles a schema.
    ///
    /// Errors: exit status 78 if its defaults are too large.
    pub fn try_new(schema: &Schema) -> Result<Self> {
        let mut defaults = DefaultEncoder::new(schema);
        let nodes: Result<Vec<EncoderNode>> = schema.ids().map(|id| compile(schema, id, &mut defaults)).collect();
        let mut nodes = nodes?;
        for at in 0..nodes.len() {
            if let EncoderNode::Union(union) = &nodes[at] {
                let orders = ValueClass::ALL.map(|class| order(&nodes, union, class));
                if let EncoderNode::Union(union) = &mut nodes[at] {
                    union.orders = orders;
                }
            }
        }
        Ok(Self { nodes, root: schema.root().index() })
    }

    /// Returns the outermost record; `None` if the schema is not a record.
    pub fn root(&self) -> Option<&Record> {
        self.record_at(self.root)
    }

    /// Returns the record at a node; `None` if it is another type.
    pub fn record_at(&self, at: usize) -> Option<&Record> {
        match self.nodes.get(at) {
            Some(EncoderNode::Record(record)) => Some(record),
            _ => None,
        }
    }

    /// Whether a type accepts at least some values of a class.
    pub fn may_take(&self, at: usize, class: ValueClass) -> bool {
        self.nodes.get(at).is_some_and(|node| match node {
            EncoderNode::Union(union) => !union.orders[class as usize].is_empty(),
            node => node.distance(class).is_some(),
        })
    }

    /// Describes a type for messages.
    pub fn describe(&self, at: usize) -> String {
        match &self.nodes[at] {
            EncoderNode::Scalar(scalar) => scalar.to_string(),
            EncoderNode::Enum(symbols) => {
                let mut list: Vec<_> = symbols.iter().map(|(symbol, number)| (*number, symbol.as_str())).collect();
                list.sort_unstable();
                describe_symbols(list.into_iter().map(|(_, symbol)| symbol))
            }
            EncoderNode::Array(_) => "array".to_owned(),
            EncoderNode::Map(_) => "map (an object)".to_owned(),
            EncoderNode::Record(_) => "record (an object)".to_owned(),
            EncoderNode::Union(union) => {
                let words: Vec<String> = union.branches.iter().map(|branch| self.describe(*branch)).collect();
                words.join(" or ")
            }
        }
    }

    /// Appends a JSON value.
    pub fn json(&self, buffer: &mut RecordBuffer, at: usize, text: &str) -> Encoded {
        if buffer.depth >= DEPTH_MAX {
            return Err(EncodeError::because(TOO_DEEP));
        }
        let input = parse_input(text).ok_or_else(|| EncodeError::because("the string holds a lone surrogate"))?;
        buffer.depth += 1;
        let done = self.value(buffer, at, &input);
        buffer.depth -= 1;
        done
    }

    /// Appends a value.
    pub fn value(&self, buffer: &mut RecordBuffer, at: usize, input: &AvroInput<'_>) -> Encoded {
        match (&self.nodes[at], input) {
            (EncoderNode::Scalar(scalar), _) => match coerce(scalar, input, &mut buffer.out, &mut buffer.scratch) {
                Some(exact) => {
                    buffer.loss.digits += u64::from(!exact);
                    Ok(())
                }
                None => Err(self.mismatch(buffer, at, input)),
            },
            (EncoderNode::Enum(symbols), AvroInput::String(text)) => match symbols.get(text.as_ref()) {
                Some(number) => {
                    write_long(&mut buffer.out, *number);
                    Ok(())
                }
                None => Err(self.mismatch(buffer, at, input)),
            },
            (EncoderNode::Record(record), AvroInput::Object(text)) => self.record(buffer, record, text),
            (EncoderNode::Map(values), AvroInput::Object(text)) => self.map(buffer, *values, text),
            (EncoderNode::Array(items), AvroInput::Array(text)) => self.array(buffer, *items, text),
            (EncoderNode::Union(union), _) => self.union(buffer, at, union, input),
            _ => Err(self.mismatch(buffer, at, input)),
        }
    }

    #[cold]
    fn mismatch(&self, buffer: &RecordBuffer, at: usize, input: &AvroInput<'_>) -> EncodeError {
        let why = match buffer.quiet {
            true => String::new(),
            false => format!("expected {}, found {input}", self.describe(at)),
        };
        EncodeError { path: String::new(), why }
    }

    fn record(&self, buffer: &mut RecordBuffer, record: &Record, text: &str) -> Encoded {
        let base = buffer.slots.len();
        record.find(buffer, text);
        let mut done = Ok(());
        for (slot, field) in (base..).zip(&record.fields) {
            let place = buffer.slots.get(slot).copied().flatten();
            done = match place.and_then(|ByteRange { start, end }| text.get(start..end)) {
                Some(value) => self.json(buffer, field.node, value),
                None => field.leave_empty(buffer),
            };
            if done.is_err() {
                done = done.map_err(|error| error.within(&field.name));
                break;
            }
        }
        buffer.slots.truncate(base);
        done
    }

    fn map(&self, buffer: &mut RecordBuffer, values: usize, text: &str) -> Encoded {
        let start = buffer.out.len();
        let (mut count, mut done) = (0, Ok(()));
        members(text, |key, value| {
            count += 1;
            done = match is_text(key) {
                true => {
                    write_bytes(&mut buffer.out, unescape(key).as_bytes());
                    self.json(buffer, values, value).map_err(|error| error.within(key))
                }
                false => Err(EncodeError::because("the name holds a lone surrogate").within(key)),
            };
            done.is_ok()
        });
        block(&mut buffer.out, start, count);
        done
    }

    fn array(&self, buffer: &mut RecordBuffer, items: usize, text: &str) -> Encoded {
        let start = buffer.out.len();
        let (mut count, mut done) = (0, Ok(()));
        walk::items(text, |index, item| {
            count += 1;
            done = self.json(buffer, items, item).map_err(|error| error.within(&format!("[{index}]")));
            done.is_ok()
        });
        block(&mut buffer.out, start, count);
        done
    }

    fn union(&self, buffer: &mut RecordBuffer, at: usize, union: &Union, input: &AvroInput<'_>) -> Encoded {
        let place = match input {
            AvroInput::Array(text) | AvroInput::Object(text) => {
                Some(UnionValue { union: at, text: text.as_ptr().addr() })
            }
            _ => None,
        };
        let chosen = match union.orders[input.class() as usize].as_slice() {
            [only] => Some(*only),
            order => match place.and_then(|place| buffer.chosen.get(&place)) {
                Some(known) => *known,
                None => {
                    let chosen = self.choose(buffer, union, order, input);
                    if let (Some(place), true) = (place, order.len() > 1) {
                        buffer.chosen.insert(place, chosen);
                    }
                    chosen
                }
            },
        };
        match chosen {
            Some(number) => self.branch(buffer, union, number, input),
            None => Err(self.mismatch(buffer, at, input)),
        }
    }

    /// Returns the first of these branches that keeps all of the value, else the one that keeps most of it.
    fn choose(
        &self,
        buffer: &mut RecordBuffer,
        union: &Union,
        order: &[usize],
        input: &AvroInput<'_>,
    ) -> Option<usize> {
        let (length, loss, quiet) = (buffer.out.len(), buffer.loss, std::mem::replace(&mut buffer.quiet, true));
        let mut best: Option<(Loss, usize)> = None;
        for number in order {
            let done = self.branch(buffer, union, *number, input);
            let lost = std::mem::replace(&mut buffer.loss, loss);
            buffer.out.truncate(length);
            if done.is_ok() && best.is_none_or(|(least, _)| lost < least) {
                best = Some((lost, *number));
            }
            if best.is_some_and(|(least, _)| least == loss) {
                break;
            }
        }
        buffer.quiet = quiet;
        best.map(|(_, number)| number)
    }

    fn branch(&self, buffer: &mut RecordBuffer, union: &Union, number: usize, input: &AvroInput<'_>) -> Encoded {
        write_long(&mut buffer.out, number as i64);
        self.value(buffer, union.branches[number], input)
    }
}

impl Record {
    /// Returns the index of a key's field; the key may have escapes.
    fn slot(&self, key: &str) -> u32 {
        self.by_name.get(unescape(key).as_ref()).copied().unwrap_or(UNMARKED)
    }

    /// Pushes the byte range of each field's value in an object.
    fn find(&self, buffer: &mut RecordBuffer, text: &str) {
        let base = buffer.slots.len();
        buffer.slots.resize(base + self.fields.len(), None);
        let mut predictor = self.predictor.take();
        predicted_members(
            text,
            &mut predictor,
            |key| self.slot(key),
            |member| {
                match buffer.slots.get_mut(base.saturating_add(member.mark as usize)) {
                    Some(slot) if member.mark != UNMARKED => *slot = Some(member.value_range()),
                    _ => buffer.leave_out(member.key()),
                }
                true
            },
        );
        self.predictor.set(predictor);
    }
}

impl RecordField {
    /// Appends the value of a missing field.
    pub fn leave_empty(&self, buffer: &mut RecordBuffer) -> Encoded {
        match &self.absent {
            Some(bytes) => {
                buffer.out.extend_from_slice(bytes);
                Ok(())
            }
            None => Err(EncodeError::because("missing, and it has no default")),
        }
    }
}

impl EncoderNode {
    /// Returns the distance of a class of value from the type ([`distance`]).
    fn distance(&self, class: ValueClass) -> Option<u8> {
        match (self, class) {
            (EncoderNode::Scalar(scalar), _) => distance(scalar, class),
            (EncoderNode::Enum(_), ValueClass::String | ValueClass::Special) => Some(0),
            (EncoderNode::Array(_), ValueClass::Array) | (EncoderNode::Record(_), ValueClass::Object) => Some(0),
            (EncoderNode::Map(_), ValueClass::Object) => Some(1),
            _ => None,
        }
    }
}

/// Returns the branches of a union that may accept a class of value, the nearest first.
fn order(nodes: &[EncoderNode], union: &Union, class: ValueClass) -> Vec<usize> {
    let distance = |(number, at): (usize, &usize)| Some((nodes[*at].distance(class)?, number));
    let mut order: Vec<_> = union.branches.iter().enumerate().filter_map(distance).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, number)| number).collect()
}

/// Classifies a JSON value; `None` for a string with a lone surrogate.
fn parse_input(text: &str) -> Option<AvroInput<'_>> {
    Some(match text.as_bytes().first() {
        Some(b'{') => AvroInput::Object(text),
        Some(b'[') => AvroInput::Array(text),
        Some(b'"') => {
            let raw = string_content(text).unwrap_or_default();
            AvroInput::String(is_text(raw).then(|| unescape(raw))?)
        }
        Some(b't') => AvroInput::Boolean(true),
        Some(b'f') => AvroInput::Boolean(false),
        Some(b'n') => AvroInput::Null,
        _ => AvroInput::Number(text),
    })
}

/// Makes the items since `start` one block of an array or map, and ends the array or map.
fn block(out: &mut Vec<u8>, start: usize, count: i64) {
    if count > 0 {
        let end = out.len();
        write_long(out, count);
        let head = out.len() - end;
        out[start..].rotate_right(head);
    }
    write_long(out, 0);
}

fn compile<'a>(schema: &'a Schema, id: NodeId, defaults: &mut DefaultEncoder<'a>) -> Result<EncoderNode> {
    let node = schema.node(id);
    Ok(match &node.avro_type {
        AvroType::Array(items) => EncoderNode::Array(items.index()),
        AvroType::Map(values) => EncoderNode::Map(values.index()),
        AvroType::Union(branches) => EncoderNode::Union(Union {
            branches: branches.iter().map(|branch| branch.index()).collect(),
            orders: ValueClass::ALL.map(|_| vec![]),
        }),
        AvroType::Enum { symbols, .. } => EncoderNode::Enum(symbols.iter().cloned().zip(0..).collect()),
        AvroType::Record { fields, .. } => {
            let fields =
                fields.iter().map(|field| compile_field(schema, field, defaults)).collect::<Result<Vec<_>>>()?;
            let by_name = (0..).zip(&fields).map(|(slot, field)| (field.name.clone(), slot)).collect();
            EncoderNode::Record(Record { fields, by_name, predictor: Cell::default() })
        }
        _ => EncoderNode::Scalar(Scalar::of(node).unwrap_or(Scalar::Null)),
    })
}

fn compile_field<'a>(schema: &'a Schema, field: &'a Field, defaults: &mut DefaultEncoder<'a>) -> Result<RecordField> {
    let absent = match field.default {
        Some(_) => Some(defaults.encode(field).map_err(|why| Error::config(why).at(field.name.clone()))?),
        None => null(schema, field.node),
    };
    Ok(RecordField { name: field.name.clone(), node: field.node.index(), absent })
}

/// Returns the encoding of null in a type; `None` if the type does not take null.
fn null(schema: &Schema, id: NodeId) -> Option<Vec<u8>> {
    match &schema.node(id).avro_type {
        AvroType::Null => Some(vec![]),
        AvroType::Union(branches) => {
            let number = branches.iter().position(|branch| matches!(schema.node(*branch).avro_type, AvroType::Null))?;
            let mut bytes = vec![];
            write_long(&mut bytes, number as i64);
            Some(bytes)
        }
        _ => None,
    }
}
