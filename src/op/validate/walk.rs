//! A schema compiled to checks, and the walk over JSON text that is known to be valid.
//!
//! The text is plain JSON, not Avro's tagged encoding: a union's value is written as itself. One walk serves two
//! reports: [`Quiet`] stops at the first fault and allocates nothing; [`Explain`] continues, counts the faults and
//! formats the first. A record's fields may come in any order; a name that occurs twice must be valid each time.

use super::fields::{CheckId, Field, Fields, Met, is_escaped};
use super::scalar;
use crate::avro::schema::{AvroType, Logical, NodeId, Schema};
use crate::json::guide::UNMARKED;
use crate::json::number::parse_special;
use crate::json::scan::{at, skip_space, value_end};
use crate::json::text::{is_text, unescape};
use crate::json::walk::{guided, members, string_content};
use std::collections::BTreeMap;

/// Longest excerpt of a value in a message, in characters.
const EXCERPT_CHARS_MAX: usize = 60;
/// Maximum number of enum symbols in a message.
const SYMBOLS_MAX: usize = 8;

/// A compiled schema.
pub struct Checks {
    /// One per type of the schema, in its order.
    checks: Vec<Check>,
}

/// The check of one type.
pub enum Check {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// An integer of 32 bits.
    Int,
    /// An integer of 64 bits.
    Long,
    /// A number within the range of a float.
    Float,
    /// A number within the range of a double.
    Double,
    /// A string.
    Text,
    /// A string whose characters encode bytes.
    Bytes,
    /// A string that encodes this many bytes.
    Fixed(u64),
    /// Months, days and milliseconds.
    Duration,
    /// A decimal number, as a number or in a string: precision, scale.
    Decimal(u32, u32),
    /// A UUID in a string.
    Uuid,
    /// An ISO date, or days.
    Date,
    /// A time of day, or a number.
    TimeOfDay(bool),
    /// An RFC 3339 instant, or a number.
    Timestamp,
    /// A date and time without a zone, or a number.
    LocalTimestamp,
    /// One of these strings.
    Symbols(Vec<String>),
    /// An array of values of one type.
    Array(CheckId),
    /// An object of values of one type.
    Map(CheckId),
    /// An object of named fields.
    Record(Fields),
    /// A value of any of these types.
    Union(Union),
}

/// The branches of a union.
pub struct Union {
    branches: Vec<CheckId>,
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
    fn probe(&mut self, ask: impl FnOnce(&mut Quiet) -> bool) -> bool;
    /// Enters a part of the value.
    fn enter(&mut self, step: WalkStep<'_>);
    /// Leaves that part.
    fn leave(&mut self);
    /// Takes a fault at the current path; returns whether to continue.
    fn fault(&mut self, why: impl FnOnce() -> String) -> bool;
}

/// Stops at the first fault. For one walk only, because it caches places in the walk's text.
#[derive(Default)]
pub struct Quiet {
    /// Verdicts of ambiguous unions, so that nested records of several types cost no more than the product of types and
    /// places, not two to the depth.
    verdicts: BTreeMap<(usize, usize), bool>,
}

impl Quiet {
    /// Prepares for another walk.
    #[inline(always)]
    pub fn begin(&mut self) {
        if !self.verdicts.is_empty() {
            self.verdicts.clear();
        }
    }
}

impl FaultReport for Quiet {
    const QUIET: bool = true;

    #[inline(always)]
    fn probe(&mut self, ask: impl FnOnce(&mut Quiet) -> bool) -> bool {
        ask(self)
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

    fn probe(&mut self, ask: impl FnOnce(&mut Quiet) -> bool) -> bool {
        ask(&mut Quiet::default())
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

/// Returns the start of a text that may be long or contain control characters.
pub fn excerpt(text: &str) -> String {
    let mut out: String = text.chars().take(EXCERPT_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(EXCERPT_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

impl Union {
    /// Returns the checks of its branches.
    pub fn branches(&self) -> &[CheckId] {
        &self.branches
    }
}

impl Checks {
    /// Compiles a schema; with `closed`, a member that is not a field of its record is a fault.
    pub fn new(schema: &Schema, closed: bool) -> Self {
        Self { checks: schema.ids().map(|id| compile(schema, id, closed)).collect() }
    }

    /// Returns the check of a type of the schema.
    pub fn of(&self, id: NodeId) -> CheckId {
        CheckId(id.index())
    }

    /// Returns the check at an index.
    pub fn get(&self, id: CheckId) -> &Check {
        &self.checks[id.0]
    }

    /// Whether the check at `id` takes null.
    pub fn takes_null(&self, id: CheckId) -> bool {
        match self.get(id) {
            Check::Null => true,
            Check::Union(union) => union.takes_null,
            _ => false,
        }
    }

    /// Walks the value `text`, one valid JSON value without white space around it; returns false as soon as `report`
    /// stops.
    pub fn value<R: FaultReport>(&self, id: CheckId, text: &str, report: &mut R) -> bool {
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
        mut absent: impl FnMut(&Field, &mut R) -> bool,
    ) -> bool {
        let mut met = Met::new(fields.list.len());
        let mut going = true;
        let mut left = if distinct && !fields.closed { fields.list.len() } else { usize::MAX };
        // Taken out during the walk: a nested record of the same type starts with another guide.
        let mut guide = fields.guide.take();
        let meaning = |key| fields.find(key).and_then(|slot| u32::try_from(slot).ok()).unwrap_or(UNMARKED);
        guided(text, &mut guide, meaning, |member| {
            if member.mark != UNMARKED {
                let slot = member.mark as usize;
                met.insert(slot);
                left -= 1;
                let check = fields.list[slot].check;
                if member.plain && matches!(self.get(check), Check::Text) {
                    return left > 0;
                }
                report.enter(WalkStep::Name(member.key()));
                going = self.value(check, member.value(), report);
                report.leave();
            } else if fields.closed {
                report.enter(WalkStep::Name(member.key()));
                going = report.fault(|| "not defined in the schema".to_owned());
                report.leave();
            }
            going && left > 0
        });
        fields.guide.set(guide);
        if left == 0 {
            return going;
        }
        for (slot, field) in fields.list.iter().enumerate() {
            if going && field.required && !met.contains(slot) {
                report.enter(WalkStep::Name(&field.name));
                going = absent(field, report);
                report.leave();
            }
        }
        going
    }

    fn map<R: FaultReport>(&self, inner: CheckId, text: &str, report: &mut R) -> bool {
        let mut going = true;
        members(text, |key, value| {
            report.enter(WalkStep::Name(key));
            going = self.value(inner, value, report);
            report.leave();
            going
        });
        going
    }

    fn array<R: FaultReport>(&self, item: CheckId, text: &str, report: &mut R) -> bool {
        let bytes = text.as_bytes();
        let mut p = skip_space(bytes, 1);
        for n in 0.. {
            let Some(end) = value_end(bytes, p, 0) else { break };
            report.enter(WalkStep::Item(n));
            let going = text.get(p..end).is_none_or(|value| self.value(item, value, report));
            report.leave();
            if !going {
                return false;
            }
            p = skip_space(bytes, end);
            if at(bytes, p) != b',' {
                break;
            }
            p = skip_space(bytes, p + 1);
        }
        true
    }

    /// Whether some branch of the union at `id` accepts the value.
    fn any(&self, id: CheckId, union: &Union, text: &str, quiet: &mut Quiet) -> bool {
        if text.starts_with('n') {
            return union.takes_null;
        }
        let place = (id.0, text.as_ptr().addr());
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

    fn is_alike(&self, id: CheckId, text: &str) -> bool {
        match text.as_bytes().first() {
            Some(b'{') => matches!(self.get(id), Check::Record(_) | Check::Map(_)),
            Some(b'[') => matches!(self.get(id), Check::Array(_)),
            _ => false,
        }
    }

    /// Returns a message such as `expected double, found string "x"`.
    pub fn mismatch(&self, id: CheckId, found: &str) -> String {
        format!("expected {}, found {found}", self.expected(id))
    }

    fn expected(&self, id: CheckId) -> String {
        let word = match self.get(id) {
            Check::Null => "null",
            Check::Boolean => "boolean",
            Check::Int => "int (32 bits)",
            Check::Long => "long (64 bits)",
            Check::Float => "float",
            Check::Double => "double",
            Check::Text => "string",
            Check::Bytes => "bytes (base64, or characters up to U+00FF)",
            Check::Fixed(size) => {
                return format!("fixed (base64 of {size} bytes, or {size} characters up to U+00FF)");
            }
            Check::Duration => "duration (PnMnDTn.nnnS)",
            Check::Decimal(precision, scale) => return format!("decimal({precision}, {scale})"),
            Check::Uuid => "uuid",
            Check::Date => "date (YYYY-MM-DD or days since 1970)",
            Check::TimeOfDay(_) => "time (HH:MM:SS or a whole number)",
            Check::Timestamp => "timestamp (RFC 3339 or a whole number)",
            Check::LocalTimestamp => "local timestamp (RFC 3339 or a whole number)",
            Check::Symbols(symbols) => return expected_symbols(symbols),
            Check::Array(_) => "array",
            Check::Map(_) => "map (an object)",
            Check::Record(_) => "record (an object)",
            Check::Union(union) => return self.expected_any(union),
        };
        word.to_owned()
    }

    fn expected_any(&self, union: &Union) -> String {
        let words: Vec<String> = union.branches.iter().map(|branch| self.expected(*branch)).collect();
        words.join(" or ")
    }
}

fn expected_symbols(symbols: &[String]) -> String {
    let named = symbols.iter().take(SYMBOLS_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match symbols.len().saturating_sub(SYMBOLS_MAX) {
        0 => format!("one of {named}"),
        more => format!("one of {named} and {more} more"),
    }
}

/// Reports a missing field.
pub fn missing<R: FaultReport>(report: &mut R) -> bool {
    report.fault(|| "missing".to_owned())
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
    match check {
        Check::Text => true,
        Check::Symbols(symbols) => symbols.iter().any(|symbol| symbol == content),
        Check::Bytes => scalar::is_bytes(content),
        Check::Fixed(size) => scalar::is_fixed(content, *size),
        Check::Duration => scalar::is_duration(content),
        Check::Float | Check::Double => parse_special(content).is_some(),
        Check::Decimal(precision, scale) => scalar::is_decimal(content, *precision, *scale),
        Check::Uuid => scalar::is_uuid(content),
        Check::Date => scalar::is_date(content),
        Check::TimeOfDay(_) => scalar::is_time_of_day(content),
        Check::Timestamp => scalar::is_instant(content),
        Check::LocalTimestamp => scalar::is_local_time(content),
        _ => false,
    }
}

/// Whether a number, `true`, `false` or `null` passes.
#[inline]
pub fn is_bare(check: &Check, text: &str) -> bool {
    match check {
        Check::Null => text == "null",
        Check::Boolean => text == "true" || text == "false",
        Check::Int | Check::Date | Check::TimeOfDay(false) => scalar::is_int(text),
        Check::Long | Check::Timestamp | Check::LocalTimestamp | Check::TimeOfDay(true) => scalar::is_long(text),
        Check::Float => scalar::is_float(text),
        Check::Double => scalar::is_double(text),
        Check::Decimal(precision, scale) => scalar::is_number(text) && scalar::is_decimal(text, *precision, *scale),
        _ => false,
    }
}

/// Whether a field is required: it has no default and does not take null, because null is left out of records read from
/// Avro.
pub fn is_required(schema: &Schema, field: &crate::avro::schema::Field) -> bool {
    let is_null = |id: &NodeId| matches!(schema.node(*id).avro_type, AvroType::Null);
    let takes_null = match &schema.node(field.node).avro_type {
        AvroType::Union(branches) => branches.iter().any(is_null),
        _ => is_null(&field.node),
    };
    field.default.is_none() && !takes_null
}

fn compile(schema: &Schema, id: NodeId, closed: bool) -> Check {
    let node = schema.node(id);
    if let Some(logical) = node.logical {
        return match logical {
            Logical::Decimal { precision, scale } => Check::Decimal(precision, scale),
            Logical::Uuid => Check::Uuid,
            Logical::Date => Check::Date,
            Logical::Time(_) => Check::TimeOfDay(matches!(node.avro_type, AvroType::Long)),
            Logical::Timestamp(_) => Check::Timestamp,
            Logical::LocalTimestamp(_) => Check::LocalTimestamp,
            Logical::Duration => Check::Duration,
        };
    }
    let check = |id: &NodeId| CheckId(id.index());
    match &node.avro_type {
        AvroType::Null => Check::Null,
        AvroType::Boolean => Check::Boolean,
        AvroType::Int => Check::Int,
        AvroType::Long => Check::Long,
        AvroType::Float => Check::Float,
        AvroType::Double => Check::Double,
        AvroType::Bytes => Check::Bytes,
        AvroType::String => Check::Text,
        AvroType::Fixed { size, .. } => Check::Fixed(*size),
        AvroType::Enum { symbols, .. } => Check::Symbols(symbols.clone()),
        AvroType::Array(item) => Check::Array(check(item)),
        AvroType::Map(value) => Check::Map(check(value)),
        AvroType::Union(branches) => {
            let container = |id: &&NodeId| {
                matches!(schema.node(**id).avro_type, AvroType::Record { .. } | AvroType::Map(_) | AvroType::Array(_))
            };
            let ambiguous = branches.iter().filter(container).count() > 1;
            let takes_null = branches.iter().any(|id| matches!(schema.node(*id).avro_type, AvroType::Null));
            Check::Union(Union { branches: branches.iter().map(check).collect(), takes_null, ambiguous })
        }
        AvroType::Record { fields, .. } => {
            let field = |field: &crate::avro::schema::Field| Field {
                name: field.name.clone(),
                check: check(&field.node),
                required: is_required(schema, field),
            };
            Check::Record(Fields::new(fields.iter().map(field).collect(), closed))
        }
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
