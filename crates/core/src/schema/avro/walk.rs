//! A schema compiled to checks, and the walk over JSON text that is known to be valid.
//!
//! The text is plain JSON, not Avro's tagged encoding: a union's value is written as itself. One walk serves two
//! reports: [`StopAtFirst`] stops at the first fault and allocates nothing; [`Explain`] continues, counts the faults
//! and formats the first. A record's fields may come in any order; a name that occurs twice must be valid each time.

use super::fields::{CheckedField, Fields, PresentFields, is_escaped};
use super::scalar;
use crate::avro::Scalar;
use crate::avro::coerce::uuid;
use crate::avro::encode::UnionValue;
use crate::avro::schema::{self, AvroType, NodeId, Schema, Unit, describe_symbols};
use crate::json::number::parse_special;
use crate::json::predictor::UNMARKED;
use crate::json::text::{excerpt, is_text, unescape};
use crate::json::walk::{items, members, predicted_members, string_content};
use crate::kind::rows::Cell;
use std::collections::BTreeMap;

/// A compiled schema.
pub struct Checks {
    /// One per type of the schema, in its order.
    checks: Vec<Check>,
}

/// The check of one type.
pub enum Check {
    /// A type that contains no other.
    Scalar(Scalar),
    /// One of these strings.
    Symbols(Vec<String>),
    /// An array of values of one type.
    Array(NodeId),
    /// An object of values of one type.
    Map(NodeId),
    /// An object of named fields.
    Record(Fields),
    /// A value of any of these types.
    Union(Union),
}

/// The branches of a union.
pub struct Union {
    /// The checks of its branches.
    pub(super) branches: Vec<NodeId>,
    /// Whether null is one of them.
    takes_null: bool,
    /// Whether several branches accept containers, so that a value may have to be walked once per branch.
    ambiguous: bool,
}

/// A step of a path into a record.
#[derive(Clone, Copy)]
pub enum WalkStep<'a> {
    /// Into a field or a map's entry.
    Name(&'a str),
    /// Into an array.
    Item(usize),
}

/// Receives the faults of a walk.
pub trait FaultReport {
    /// Whether the first fault ends the walk.
    const QUIET: bool;
    /// Runs a walk for its verdict only.
    fn probe(&mut self, test: impl FnOnce(&mut StopAtFirst) -> bool) -> bool;
    /// Enters a part of the value.
    fn enter(&mut self, step: WalkStep<'_>);
    /// Leaves that part.
    fn leave(&mut self);
    /// Takes a fault at the current path; returns whether to continue.
    fn fault(&mut self, why: impl FnOnce() -> String) -> bool;
}

/// Stops at the first fault. For one walk only, because it caches places in the walk's text.
#[derive(Default)]
pub struct StopAtFirst {
    /// Verdicts of ambiguous unions, so that the time for nested records of several types is bounded by the product of
    /// types and places, and is not exponential in their depth.
    verdicts: BTreeMap<UnionValue, bool>,
}

impl StopAtFirst {
    /// Prepares for another walk.
    #[inline(always)]
    pub fn begin(&mut self) {
        if !self.verdicts.is_empty() {
            self.verdicts.clear();
        }
    }
}

impl FaultReport for StopAtFirst {
    const QUIET: bool = true;

    #[inline(always)]
    fn probe(&mut self, test: impl FnOnce(&mut StopAtFirst) -> bool) -> bool {
        test(self)
    }

    #[inline(always)]
    fn enter(&mut self, _: WalkStep<'_>) {}

    #[inline(always)]
    fn leave(&mut self) {}

    #[inline(always)]
    fn fault(&mut self, _: impl FnOnce() -> String) -> bool {
        false
    }
}

/// Formats the first fault and counts the others.
#[derive(Default)]
pub struct Explain {
    path: String,
    lengths: Vec<usize>,
    first: Option<String>,
    count: usize,
}

impl Explain {
    /// Returns `PATH: WHY (and N more)`; `None` if there is no fault.
    pub fn message(self) -> Option<String> {
        let first = self.first?;
        Some(if self.count > 1 { format!("{first} (and {} more)", self.count - 1) } else { first })
    }
}

impl FaultReport for Explain {
    const QUIET: bool = false;

    fn probe(&mut self, test: impl FnOnce(&mut StopAtFirst) -> bool) -> bool {
        test(&mut StopAtFirst::default())
    }

    fn enter(&mut self, step: WalkStep<'_>) {
        self.lengths.push(self.path.len());
        match step {
            WalkStep::Item(n) => self.path.push_str(&format!("[{n}]")),
            WalkStep::Name(name) => {
                if !self.path.is_empty() {
                    self.path.push('.');
                }
                self.path.push_str(&excerpt(name));
            }
        }
    }

    fn leave(&mut self) {
        self.path.truncate(self.lengths.pop().unwrap_or(0));
    }

    fn fault(&mut self, why: impl FnOnce() -> String) -> bool {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(format!("{}: {}", self.path, why()));
        }
        true
    }
}

impl Checks {
    /// Compiles a schema; with `closed`, a member that is not a field of its record is a fault.
    pub fn new(schema: &Schema, closed: bool) -> Self {
        Self { checks: schema.ids().map(|id| compile(schema, id, closed)).collect() }
    }

    /// Returns the check at an index.
    pub fn get(&self, id: NodeId) -> &Check {
        &self.checks[id.index()]
    }

    /// Walks the value `text`, one valid JSON value without white space around it; returns false as soon as `report`
    /// stops.
    pub fn value<R: FaultReport>(&self, id: NodeId, text: &str, report: &mut R) -> bool {
        let check = self.get(id);
        match (check, text.as_bytes().first()) {
            (Check::Record(fields), Some(b'{')) => {
                self.record(fields, text, false, report, |_, report| missing(report))
            }
            (Check::Map(inner), Some(b'{')) => self.map(*inner, text, report),
            (Check::Array(item), Some(b'[')) => self.array(*item, text, report),
            (Check::Union(union), _) => {
                report.probe(|quiet| self.any(id, union, text, quiet)) || !R::QUIET && self.explain(union, text, report)
            }
            _ => is_scalar(check, text) || report.fault(|| self.mismatch(id, &found(text))),
        }
    }

    /// Walks the members of an object. If the names are known to be `distinct`, it stops after the last field. `absent`
    /// judges each required field that is missing.
    #[inline]
    pub fn record<R: FaultReport>(
        &self,
        fields: &Fields,
        text: &str,
        distinct: bool,
        report: &mut R,
        mut absent: impl FnMut(&CheckedField, &mut R) -> bool,
    ) -> bool {
        let mut present = PresentFields::new(fields.list.len());
        let mut going = true;
        let mut left = if distinct && !fields.closed { fields.list.len() } else { usize::MAX };
        // Taken out during the walk: a nested record of the same type starts with another predictor.
        let mut predictor = fields.predictor.take();
        let meaning = |key| fields.find(key).and_then(|slot| u32::try_from(slot).ok()).unwrap_or(UNMARKED);
        predicted_members(text, &mut predictor, meaning, |member| {
            if member.mark != UNMARKED {
                let slot = member.mark as usize;
                present.insert(slot);
                left -= 1;
                let field = &fields.list[slot];
                if member.plain && field.takes_text {
                    return left > 0;
                }
                report.enter(WalkStep::Name(member.key()));
                going = self.value(field.check, member.value(), report);
                report.leave();
            } else if fields.closed {
                report.enter(WalkStep::Name(member.key()));
                going = report.fault(|| "not defined in the schema".to_owned());
                report.leave();
            }
            going && left > 0
        });
        fields.predictor.set(predictor);
        if left == 0 {
            return going;
        }
        for (slot, field) in fields.list.iter().enumerate() {
            if going && field.required && !present.contains(slot) {
                report.enter(WalkStep::Name(&field.name));
                going = absent(field, report);
                report.leave();
            }
        }
        going
    }

    fn map<R: FaultReport>(&self, inner: NodeId, text: &str, report: &mut R) -> bool {
        let mut going = true;
        members(text, |key, value| {
            report.enter(WalkStep::Name(key));
            going = self.value(inner, value, report);
            report.leave();
            going
        });
        going
    }

    fn array<R: FaultReport>(&self, item: NodeId, text: &str, report: &mut R) -> bool {
        let mut going = true;
        items(text, |number, value| {
            report.enter(WalkStep::Item(number));
            going = self.value(item, value, report);
            report.leave();
            going
        });
        going
    }

    /// Whether some branch of the union at `id` accepts the value.
    fn any(&self, id: NodeId, union: &Union, text: &str, quiet: &mut StopAtFirst) -> bool {
        if text.starts_with('n') {
            return union.takes_null;
        }
        let place = UnionValue { union: id.index(), text: text.as_ptr().addr() };
        if let (true, Some(verdict)) = (union.ambiguous, quiet.verdicts.get(&place)) {
            return *verdict;
        }
        let verdict = union.branches.iter().any(|branch| self.value(*branch, text, quiet));
        if union.ambiguous {
            quiet.verdicts.insert(place, verdict);
        }
        verdict
    }

    /// Reports the faults of a value that no branch accepts. If only one branch has the value's JSON type, it is the
    /// intended one, and its faults are the better message.
    fn explain<R: FaultReport>(&self, union: &Union, text: &str, report: &mut R) -> bool {
        let mut alike = union.branches.iter().filter(|branch| self.is_alike(**branch, text));
        match (alike.next(), alike.next()) {
            (Some(branch), None) => self.value(*branch, text, report),
            _ => report.fault(|| format!("expected {}, found {}", self.expected_any(union), found(text))),
        }
    }

    fn is_alike(&self, id: NodeId, text: &str) -> bool {
        match text.as_bytes().first() {
            Some(b'{') => matches!(self.get(id), Check::Record(_) | Check::Map(_)),
            Some(b'[') => matches!(self.get(id), Check::Array(_)),
            _ => false,
        }
    }

    /// Returns a message such as `expected double, found string "x"`.
    pub fn mismatch(&self, id: NodeId, found: &str) -> String {
        format!("expected {}, found {found}", self.expected(id))
    }

    fn expected(&self, id: NodeId) -> String {
        match self.get(id) {
            Check::Scalar(Scalar::Bytes(None)) => "bytes (base64, or characters up to U+00FF)".to_owned(),
            Check::Scalar(Scalar::Bytes(Some(size))) => {
                format!("fixed (base64 of {size} bytes, or {size} characters up to U+00FF)")
            }
            Check::Scalar(scalar) => scalar.to_string(),
            Check::Symbols(symbols) => describe_symbols(symbols.iter().map(String::as_str)),
            Check::Array(_) => "array".to_owned(),
            Check::Map(_) => "map (an object)".to_owned(),
            Check::Record(_) => "record (an object)".to_owned(),
            Check::Union(union) => self.expected_any(union),
        }
    }

    fn expected_any(&self, union: &Union) -> String {
        let words: Vec<String> = union.branches.iter().map(|branch| self.expected(*branch)).collect();
        words.join(" or ")
    }
}

/// Reports a missing field.
pub fn missing<R: FaultReport>(report: &mut R) -> bool {
    report.fault(|| "missing".to_owned())
}

/// Formats the value of a column for a message.
#[cold]
pub fn shown(cell: Cell<'_>) -> String {
    match cell {
        Cell::None => "nothing".to_owned(),
        Cell::Text(text) => format!("string \"{}\"", excerpt(text)),
        Cell::Number(n) => format!("number {n}"),
        Cell::Instant(_) => "an instant".to_owned(),
        Cell::Uuid(_) => "a UUID".to_owned(),
    }
}

/// Describes a JSON value for a message.
fn found(text: &str) -> String {
    let excerpt = excerpt(text);
    match text.as_bytes().first() {
        Some(b'{') => format!("object {excerpt}"),
        Some(b'[') => format!("array {excerpt}"),
        Some(b'"') => format!("string {excerpt}"),
        Some(b'-' | b'0'..=b'9') => format!("number {excerpt}"),
        _ => excerpt,
    }
}

/// Whether a JSON scalar passes a scalar check.
#[inline]
fn is_scalar(check: &Check, text: &str) -> bool {
    match string_content(text) {
        Some(raw) if is_escaped(raw) => is_text(raw) && is_string(check, &unescape(raw)),
        Some(content) => is_string(check, content),
        None => is_bare(check, text),
    }
}

/// Whether a string with this content passes.
#[inline]
pub fn is_string(check: &Check, content: &str) -> bool {
    let scalar = match check {
        Check::Scalar(scalar) => scalar,
        Check::Symbols(symbols) => return symbols.iter().any(|symbol| symbol == content),
        _ => return false,
    };
    match scalar {
        Scalar::String => true,
        Scalar::Bytes(None) => scalar::is_bytes(content),
        Scalar::Bytes(Some(size)) => scalar::is_fixed(content, *size),
        Scalar::Duration => scalar::is_duration(content),
        Scalar::Float | Scalar::Double => parse_special(content).is_some(),
        Scalar::Decimal { precision, scale, .. } => scalar::is_decimal(content, *precision, *scale),
        Scalar::UuidText | Scalar::Uuid => uuid(content).is_some(),
        Scalar::Date => scalar::is_date(content),
        Scalar::Time(_) => scalar::is_time_of_day(content),
        Scalar::Timestamp(_) => scalar::is_instant(content),
        Scalar::LocalTimestamp(_) => scalar::is_local_time(content),
        Scalar::Null | Scalar::Boolean | Scalar::Int | Scalar::Long => false,
    }
}

/// Whether a number, `true`, `false` or `null` passes.
#[inline]
pub fn is_bare(check: &Check, text: &str) -> bool {
    let Check::Scalar(scalar) = check else { return false };
    match scalar {
        Scalar::Null => text == "null",
        Scalar::Boolean => text == "true" || text == "false",
        Scalar::Int | Scalar::Date | Scalar::Time(Unit::Millis) => scalar::is_int(text),
        Scalar::Long | Scalar::Timestamp(_) | Scalar::LocalTimestamp(_) | Scalar::Time(_) => scalar::is_long(text),
        Scalar::Float => scalar::is_float(text),
        Scalar::Double => scalar::is_double(text),
        Scalar::Decimal { precision, scale, .. } => {
            scalar::is_number(text) && scalar::is_decimal(text, *precision, *scale)
        }
        _ => false,
    }
}

/// Whether a field is required: it has no default and does not take null, because null is left out of records read from
/// Avro.
pub fn is_required(schema: &Schema, field: &schema::Field) -> bool {
    field.default.is_none() && !schema.takes_null(field.node)
}

/// Compiles a field of a record.
pub fn compile_field(schema: &Schema, field: &schema::Field) -> CheckedField {
    let takes_text = Scalar::of(schema.node(field.node)) == Some(Scalar::String);
    CheckedField { name: field.name.clone(), check: field.node, takes_text, required: is_required(schema, field) }
}

fn compile(schema: &Schema, id: NodeId, closed: bool) -> Check {
    let node = schema.node(id);
    match &node.avro_type {
        AvroType::Enum { symbols, .. } => Check::Symbols(symbols.clone()),
        AvroType::Array(item) => Check::Array(*item),
        AvroType::Map(value) => Check::Map(*value),
        AvroType::Union(branches) => {
            let container = |id: &&NodeId| {
                matches!(schema.node(**id).avro_type, AvroType::Record { .. } | AvroType::Map(_) | AvroType::Array(_))
            };
            let ambiguous = branches.iter().filter(container).count() > 1;
            Check::Union(Union { branches: branches.clone(), takes_null: schema.takes_null(id), ambiguous })
        }
        AvroType::Record { fields, .. } => {
            let fields = fields.iter().map(|field| compile_field(schema, field)).collect();
            Check::Record(Fields::new(fields, closed))
        }
        _ => Check::Scalar(Scalar::of(node).unwrap_or(Scalar::Null)),
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
