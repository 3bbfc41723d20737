//! Encodes JSON text as Avro values: the inverse of [`super::value`].
//!
//! A schema is compiled once to a table of nodes, in which fields are looked up by name, defaults are bytes, and a
//! union lists its branches for each [`Form`] of value. A value takes one walk over its text, which must be valid JSON.
//!
//! - A missing field gets its default, else null if its type takes null.
//! - A member without a field is left out and counted; if a name occurs twice, the last value counts.
//! - A union's value goes to the nearest branch that accepts it ([`Leaf::rank`]), the first of equals, but preferably
//!   to one that keeps all of it.
//!
//! If several branches accept containers, the choice for each (union, place) is made once and cached for the row. So
//! nested records of several types cost no more than the product of both, not two to the depth.

use super::fit::{FORMS, Form, Given, Leaf};
use super::resolve::Defaults;
use super::schema::{self, Field, Logical, NodeId, Schema, Shape};
use crate::error::{Error, Result};
use crate::format::avro::{write_bytes, write_long};
use crate::json::DEPTH_MAX;
use crate::json::guide::{Guide, UNMARKED};
use crate::json::scan::{at, skip_space, value_end};
use crate::json::text::{is_text, unescape};
use crate::json::walk::{guided, members, string_content};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

/// Longest excerpt of a value in a message, in characters.
const EXCERPT_CHARS_MAX: usize = 60;
/// The fault of a value that is nested too deep, for text that was not validated.
const TOO_DEEP: &str = "it is nested too deep";

/// Why a value does not fit: the path and the reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Misfit {
    path: String,
    why: String,
}

impl Misfit {
    #[cold]
    fn because(why: &str) -> Self {
        Self { path: String::new(), why: why.to_owned() }
    }

    /// Returns the fault of a missing value without a default.
    fn missing() -> Self {
        Self::because("missing, and it has no default")
    }

    /// Puts `name` before the path.
    pub fn within(mut self, name: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{}{dot}{}", excerpt(name), self.path);
        self
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

type Fits = Result<(), Misfit>;

/// Parts of values that were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    /// Number of members without a field.
    pub members: u64,
    /// Number of times that were rounded down.
    pub digits: u64,
}

/// A row under construction; its memory is used again for the next.
#[derive(Default)]
pub struct Run {
    /// The bytes so far.
    pub out: Vec<u8>,
    /// Parts lost since [`Run::begin`].
    pub loss: Loss,
    /// The first member that was left out in any row.
    pub left_out: Option<String>,
    /// Byte ranges of the members of the open objects in their text.
    slots: Vec<Option<(usize, usize)>>,
    /// Branches that ambiguous unions chose, by union and place; `None` if none fits.
    chosen: BTreeMap<(usize, usize), Option<usize>>,
    /// Whether this is an attempt whose error is discarded.
    quiet: bool,
    /// Number of open JSON values.
    depth: u32,
    scratch: String,
}

impl Run {
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
    nodes: Vec<Node>,
    root: usize,
}

enum Node {
    Leaf(Leaf),
    Array(usize),
    Map(usize),
    Union(Union),
    Record(Record),
}

struct Union {
    branches: Vec<usize>,
    /// By form: numbers of the branches that may accept it, the nearest first.
    orders: [Vec<usize>; FORMS.len()],
}

/// The fields of a record.
pub struct Record {
    /// The fields, in order.
    pub members: Vec<Member>,
    by_name: HashMap<String, u32, ahash::RandomState>,
    /// Predicts the keys of objects; a mark is the index of the field.
    guide: Cell<Guide>,
}

/// A field.
#[derive(Clone)]
pub struct Member {
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
        let mut defaults = Defaults::new(schema);
        let nodes: Result<Vec<Node>> = schema.ids().map(|id| compile(schema, id, &mut defaults)).collect();
        let mut nodes = nodes?;
        for at in 0..nodes.len() {
            if let Node::Union(union) = &nodes[at] {
                let orders = FORMS.map(|form| order(&nodes, union, form));
                if let Node::Union(union) = &mut nodes[at] {
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
            Some(Node::Record(record)) => Some(record),
            _ => None,
        }
    }

    /// Whether a type may accept some values of a form.
    pub fn may_take(&self, at: usize, form: Form) -> bool {
        self.nodes.get(at).is_some_and(|node| match node {
            Node::Union(union) => !union.orders[form as usize].is_empty(),
            node => node.rank(form).is_some(),
        })
    }

    /// Describes a type for messages.
    pub fn describe(&self, at: usize) -> String {
        match &self.nodes[at] {
            Node::Leaf(leaf) => leaf.describe().into_owned(),
            Node::Array(_) => "array".to_owned(),
            Node::Map(_) => "map (an object)".to_owned(),
            Node::Record(_) => "record (an object)".to_owned(),
            Node::Union(union) => {
                let words: Vec<String> = union.branches.iter().map(|branch| self.describe(*branch)).collect();
                words.join(" or ")
            }
        }
    }

    /// Appends a JSON value.
    pub fn json(&self, run: &mut Run, at: usize, text: &str) -> Fits {
        if run.depth >= DEPTH_MAX {
            return Err(Misfit::because(TOO_DEEP));
        }
        let given = given(text).ok_or_else(|| Misfit::because("the string holds a lone surrogate"))?;
        run.depth += 1;
        let done = self.value(run, at, &given);
        run.depth -= 1;
        done
    }

    /// Appends a value.
    pub fn value(&self, run: &mut Run, at: usize, given: &Given<'_>) -> Fits {
        match (&self.nodes[at], given) {
            (Node::Leaf(leaf), _) => match leaf.write(given, &mut run.out, &mut run.scratch) {
                Some(exact) => {
                    run.loss.digits += u64::from(!exact);
                    Ok(())
                }
                None => Err(self.mismatch(run, at, given)),
            },
            (Node::Record(record), Given::Object(text)) => self.record(run, record, text),
            (Node::Map(values), Given::Object(text)) => self.map(run, *values, text),
            (Node::Array(items), Given::Array(text)) => self.array(run, *items, text),
            (Node::Union(union), _) => self.union(run, (at, union), given),
            _ => Err(self.mismatch(run, at, given)),
        }
    }

    #[cold]
    fn mismatch(&self, run: &Run, at: usize, given: &Given<'_>) -> Misfit {
        let why = match run.quiet {
            true => String::new(),
            false => format!("expected {}, found {}", self.describe(at), found(given)),
        };
        Misfit { path: String::new(), why }
    }

    fn record(&self, run: &mut Run, record: &Record, text: &str) -> Fits {
        let base = run.slots.len();
        record.find(run, text);
        let mut done = Ok(());
        for (slot, member) in (base..).zip(&record.members) {
            let place = run.slots.get(slot).copied().flatten();
            done = match place.and_then(|(start, end)| text.get(start..end)) {
                Some(value) => self.json(run, member.node, value),
                None => member.leave_empty(run),
            };
            if done.is_err() {
                done = done.map_err(|misfit| misfit.within(&member.name));
                break;
            }
        }
        run.slots.truncate(base);
        done
    }

    fn map(&self, run: &mut Run, values: usize, text: &str) -> Fits {
        let start = run.out.len();
        let (mut count, mut done) = (0, Ok(()));
        members(text, |key, value| {
            count += 1;
            done = match is_text(key) {
                true => {
                    write_bytes(&mut run.out, unescape(key).as_bytes());
                    self.json(run, values, value).map_err(|misfit| misfit.within(key))
                }
                false => Err(Misfit::because("the name holds a lone surrogate").within(key)),
            };
            done.is_ok()
        });
        block(&mut run.out, start, count);
        done
    }

    fn array(&self, run: &mut Run, items: usize, text: &str) -> Fits {
        let (bytes, start) = (text.as_bytes(), run.out.len());
        let mut p = skip_space(bytes, 1);
        let mut count = 0;
        while at(bytes, p) != b']' {
            let end = value_end(bytes, p, 0).ok_or_else(|| Misfit::because(TOO_DEEP))?;
            let item = text.get(p..end).unwrap_or_default();
            self.json(run, items, item).map_err(|misfit| misfit.within(&format!("[{count}]")))?;
            count += 1;
            p = skip_space(bytes, end);
            if at(bytes, p) != b',' {
                break;
            }
            p = skip_space(bytes, p + 1);
        }
        block(&mut run.out, start, count);
        Ok(())
    }

    fn union(&self, run: &mut Run, (at, union): (usize, &Union), given: &Given<'_>) -> Fits {
        let place = match given {
            Given::Array(text) | Given::Object(text) => Some((at, text.as_ptr().addr())),
            _ => None,
        };
        let chosen = match union.orders[given.form() as usize].as_slice() {
            [only] => Some(*only),
            order => match place.and_then(|place| run.chosen.get(&place)) {
                Some(known) => *known,
                None => {
                    let chosen = self.choose(run, (union, order), given);
                    if let (Some(place), true) = (place, order.len() > 1) {
                        run.chosen.insert(place, chosen);
                    }
                    chosen
                }
            },
        };
        match chosen {
            Some(number) => self.branch(run, (union, number), given),
            None => Err(self.mismatch(run, at, given)),
        }
    }

    /// Returns the first of these branches that keeps all of the value, else the one that keeps most of it.
    fn choose(&self, run: &mut Run, (union, order): (&Union, &[usize]), given: &Given<'_>) -> Option<usize> {
        let (length, loss, quiet) = (run.out.len(), run.loss, std::mem::replace(&mut run.quiet, true));
        let mut best: Option<(Loss, usize)> = None;
        for number in order {
            let done = self.branch(run, (union, *number), given);
            let lost = std::mem::replace(&mut run.loss, loss);
            run.out.truncate(length);
            if done.is_ok() && best.is_none_or(|(least, _)| lost < least) {
                best = Some((lost, *number));
            }
            if best.is_some_and(|(least, _)| least == loss) {
                break;
            }
        }
        run.quiet = quiet;
        best.map(|(_, number)| number)
    }

    fn branch(&self, run: &mut Run, (union, number): (&Union, usize), given: &Given<'_>) -> Fits {
        write_long(&mut run.out, number as i64);
        self.value(run, union.branches[number], given)
    }
}

impl Record {
    /// Returns the index of a key's field; the key may have escapes.
    fn slot(&self, key: &str) -> u32 {
        self.by_name.get(unescape(key).as_ref()).copied().unwrap_or(UNMARKED)
    }

    /// Pushes the byte range of each field's value in an object.
    fn find(&self, run: &mut Run, text: &str) {
        let base = run.slots.len();
        run.slots.resize(base + self.members.len(), None);
        let mut guide = self.guide.take();
        guided(
            text,
            &mut guide,
            |key| self.slot(key),
            |member| {
                let start = member.value().as_ptr().addr() - text.as_ptr().addr();
                match run.slots.get_mut(base.saturating_add(member.mark as usize)) {
                    Some(slot) if member.mark != UNMARKED => *slot = Some((start, start + member.value().len())),
                    _ => run.leave_out(member.key()),
                }
                true
            },
        );
        self.guide.set(guide);
    }
}

impl Member {
    /// Appends the value of a missing field.
    pub fn leave_empty(&self, run: &mut Run) -> Fits {
        match &self.absent {
            Some(bytes) => {
                run.out.extend_from_slice(bytes);
                Ok(())
            }
            None => Err(Misfit::missing()),
        }
    }
}

impl Node {
    fn rank(&self, form: Form) -> Option<u8> {
        match (self, form) {
            (Node::Leaf(leaf), _) => leaf.rank(form),
            (Node::Array(_), Form::Array) | (Node::Record(_), Form::Object) => Some(0),
            (Node::Map(_), Form::Object) => Some(1),
            _ => None,
        }
    }
}

/// Returns the branches of a union that may accept a form, the nearest first.
fn order(nodes: &[Node], union: &Union, form: Form) -> Vec<usize> {
    let rank = |(number, at): (usize, &usize)| Some((nodes[*at].rank(form)?, number));
    let mut ranked: Vec<_> = union.branches.iter().enumerate().filter_map(rank).collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, number)| number).collect()
}

/// Classifies a JSON value; `None` for a string with a lone surrogate.
fn given(text: &str) -> Option<Given<'_>> {
    Some(match text.as_bytes().first() {
        Some(b'{') => Given::Object(text),
        Some(b'[') => Given::Array(text),
        Some(b'"') => {
            let raw = string_content(text).unwrap_or_default();
            Given::String(is_text(raw).then(|| unescape(raw))?)
        }
        Some(b't') => Given::Boolean(true),
        Some(b'f') => Given::Boolean(false),
        Some(b'n') => Given::Null,
        _ => Given::Number(text),
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

fn compile(schema: &Schema, id: NodeId, defaults: &mut Defaults<'_>) -> Result<Node> {
    let node = schema.node(id);
    Ok(match &node.shape {
        Shape::Array(items) => Node::Array(items.index()),
        Shape::Map(values) => Node::Map(values.index()),
        Shape::Union(branches) => Node::Union(Union {
            branches: branches.iter().map(|branch| branch.index()).collect(),
            orders: FORMS.map(|_| vec![]),
        }),
        Shape::Record { fields, .. } => {
            let member = |field: &Field| -> Result<Member> {
                let absent = match (&field.default, null(schema, field.node)) {
                    (Some(_), _) => {
                        Some(defaults.bytes(field).map_err(|why| Error::config(why).at(field.name.clone()))?)
                    }
                    (None, null) => null,
                };
                Ok(Member { name: field.name.clone(), node: field.node.index(), absent })
            };
            let members = fields.iter().map(member).collect::<Result<Vec<_>>>()?;
            let by_name = (0..).zip(&members).map(|(slot, member)| (member.name.clone(), slot)).collect();
            Node::Record(Record { members, by_name, guide: Cell::default() })
        }
        _ => Node::Leaf(leaf(node)),
    })
}

/// Returns the encoding of null in a type; `None` if the type does not take null.
fn null(schema: &Schema, id: NodeId) -> Option<Vec<u8>> {
    match &schema.node(id).shape {
        Shape::Null => Some(vec![]),
        Shape::Union(branches) => {
            let number = branches.iter().position(|branch| matches!(schema.node(*branch).shape, Shape::Null))?;
            let mut bytes = vec![];
            write_long(&mut bytes, number as i64);
            Some(bytes)
        }
        _ => None,
    }
}

fn leaf(node: &schema::Node) -> Leaf {
    let size = match &node.shape {
        Shape::Fixed { size, .. } => Some(*size),
        _ => None,
    };
    match (node.logical, &node.shape) {
        (Some(Logical::Decimal { precision, scale }), _) => Leaf::Decimal { size, precision, scale },
        (Some(Logical::Uuid), _) => Leaf::Uuid(size.is_some()),
        (Some(Logical::Date), _) => Leaf::Date,
        (Some(Logical::Time(unit)), _) => Leaf::Time(unit),
        (Some(Logical::Timestamp(unit)), _) => Leaf::Timestamp(unit),
        (Some(Logical::LocalTimestamp(unit)), _) => Leaf::Local(unit),
        (Some(Logical::Duration), _) => Leaf::Duration,
        (None, Shape::Boolean) => Leaf::Boolean,
        (None, Shape::Int) => Leaf::Int,
        (None, Shape::Long) => Leaf::Long,
        (None, Shape::Float) => Leaf::Float,
        (None, Shape::Double) => Leaf::Double,
        (None, Shape::String) => Leaf::String,
        (None, Shape::Bytes | Shape::Fixed { .. }) => Leaf::Bytes(size),
        (None, Shape::Enum { symbols, .. }) => Leaf::Enum(symbols.iter().cloned().zip(0..).collect()),
        (None, _) => Leaf::Null,
    }
}

/// Describes a value for messages.
fn found(given: &Given<'_>) -> String {
    match given {
        Given::Null => "null".to_owned(),
        Given::Boolean(value) => value.to_string(),
        Given::Number(text) => format!("number {}", excerpt(text)),
        Given::Whole(value) => format!("number {value}"),
        Given::String(text) => format!("string \"{}\"", excerpt(text)),
        Given::Instant(micros) => format!("instant {}", crate::time::format_instant(*micros)),
        Given::Uuid(_) => "a uuid".to_owned(),
        Given::Array(text) => format!("array {}", excerpt(text)),
        Given::Object(text) => format!("object {}", excerpt(text)),
    }
}

/// Returns the start of a text that may be long or contain control characters.
fn excerpt(text: &str) -> String {
    let mut out: String = text.chars().take(EXCERPT_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(EXCERPT_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}
