//! Validates every event against the schema of its subject.
//!
//! ```text
//! schemas of a subject ─► walk::compile ─► fields (columns, properties) ─► checks, the latest version first
//!                                                                              │
//! event: columns, JSON of properties ─────────────────────────────────► walk, scalar ─┬─► id of the version
//!                                                                                     └─► fault ─► dead letter
//! ```
//!
//! A record schema describes the record that a producer sends. Its fields are mapped as the record's are: a field with
//! an envelope name is that column, every other one is a property; the fields of a record called `properties` are
//! properties too. A provenance name (`origin`, `offset`, …) is the producer's property if the event has one, because
//! ingest overwrites the column; otherwise it is the column.
//!
//! A subject has several versions, and not all producers use the latest. An event is valid if any version accepts it;
//! versions are tried from the latest down, and the event's schema id is the first that accepts it. If none does, the
//! fault is the first one against the latest version: columns in the schema's order, then properties in the event's,
//! then missing fields.
//!
//! Before a row is rejected, its subject is looked up again, once per batch, so that a version registered while the
//! stream runs applies without a restart.
//!
//! `walk.rs` compiles a schema to checks and walks JSON text, `fields.rs` looks up the fields of a record, `scalar.rs`
//! checks numbers and strings. `subject.rs` has the schemas of a subject and the interface that looks them up.

pub mod fields;
pub mod scalar;
pub mod subject;
pub mod walk;

use self::fields::CheckId;
use self::fields::{CheckedField, Fields};
use self::subject::{Lookup, Schemas, Subject, Version};
use self::walk::{Check, Checks, Explain, FaultReport, StopAtFirst, WalkStep};
use self::walk::{compile_field, is_required, is_string, missing, shown};
use crate::avro::Scalar;
use crate::avro::schema::AvroType;
use crate::error::{Error, Result};
use crate::json::scan::{at, skip_space};
use crate::json::text::{excerpt, unescape};
use crate::json::walk::{members, string_content};
use crate::kind::dead::{ErrorType, Fault, Rejected};
use crate::kind::event::{self, PROVENANCE, column};
use crate::kind::rows::{Cell, ColumnView, RowColumns};
use arrow::array::{Array, Int64Array, Int64Builder, RecordBatch};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Maximum number of compiled subjects; beyond it all are dropped and compiled again on use.
const SUBJECTS_MAX: usize = 4096;
/// Maximum number of dictionary values that are checked ahead of the rows.
const CODES_MAX: usize = 256;

/// The source of the subject of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectOf {
    /// A column, or the path of a property (`kind`, `meta.type`).
    Column(String),
    /// This subject for all events.
    Fixed(String),
}

impl From<&str> for SubjectOf {
    /// Reads a flag: `=TEXT`, or a column or path.
    fn from(text: &str) -> Self {
        match text.strip_prefix('=') {
            Some(text) => Self::Fixed(text.to_owned()),
            None => Self::Column(text.to_owned()),
        }
    }
}

/// The options of a [`Validator`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The source of the subject; the column `event_type` by default.
    pub subject: SubjectOf,
    /// Whether a property unknown to the schema is a fault; false by default.
    pub closed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { subject: SubjectOf::Column("event_type".to_owned()), closed: false }
    }
}

/// The verdicts on the rows of one batch.
#[derive(Debug)]
pub struct Verdicts {
    /// One per row: the id of the version that accepts it, NULL if none does.
    pub schema_ids: Int64Array,
    /// The rows that no version accepts, in order.
    pub faults: Vec<Rejected>,
}

/// Validates batches of events.
pub struct Validator {
    options: Options,
    known: KnownSubjects,
}

/// The subjects seen so far.
#[derive(Default)]
struct KnownSubjects {
    /// The compiled subjects, and the index of each name.
    compiled: Vec<Compiled>,
    index: HashMap<String, usize, ahash::RandomState>,
    /// Indexes by the code of the name in the current batch's dictionary column, as far as looked up.
    by_code: Vec<Option<usize>>,
    /// Subjects looked up during this batch, each with the reason if none of its schemas can be used. They are not
    /// looked up again before the next batch.
    asked: HashMap<String, Option<String>, ahash::RandomState>,
    /// The number of the current batch.
    batch: u64,
    closed: bool,
    quiet: StopAtFirst,
}

struct Compiled {
    subject: Arc<Subject>,
    /// One per version, latest first.
    plans: Vec<VersionPlan>,
}

impl Validator {
    /// Creates a validator without subjects.
    pub fn new(options: Options) -> Self {
        let known = KnownSubjects { closed: options.closed, ..KnownSubjects::default() };
        Self { options, known }
    }

    /// Judges every row of `batch`; `properties` must be valid JSON objects. Fails only if a schema is unavailable or
    /// is not a record, or the batch does not hold events.
    pub fn check(&mut self, batch: &RecordBatch, schemas: &mut dyn Schemas) -> Result<Verdicts> {
        let Self { options, known } = self;
        let rows = RowColumns::new(batch)?;
        let mut schema_ids = Int64Builder::with_capacity(batch.num_rows());
        let mut faults = vec![];
        let source = SubjectSource::new(&options.subject);
        known.begin();
        for row in 0..batch.num_rows() {
            let code = source.code(&rows, row);
            let event = EventRow { columns: &rows, row };
            if let Some(id) = code.and_then(|code| known.id_by_code(code, event)) {
                schema_ids.append_value(id);
                continue;
            }
            let verdict = match source.subject(&rows, row) {
                Some(name) => known.judge(&name, code, event, schemas)?,
                None => Err(nameless(&options.subject)),
            };
            match verdict {
                Ok(id) => schema_ids.append_value(id),
                Err(fault) => {
                    schema_ids.append_null();
                    faults.push(Rejected { row, fault });
                }
            }
        }
        Ok(Verdicts { schema_ids: schema_ids.finish(), faults })
    }
}

impl KnownSubjects {
    /// Starts another batch.
    fn begin(&mut self) {
        self.asked.clear();
        self.by_code.clear();
        self.batch += 1;
    }

    /// Returns the id of the version that accepts the row, if the subject name with this code was looked up in this
    /// batch.
    #[inline]
    fn id_by_code(&mut self, code: usize, row: EventRow<'_>) -> Option<i64> {
        let at = (*self.by_code.get(code)?)?;
        self.compiled[at].id_of(row, self.batch, &mut self.quiet)
    }

    /// Returns the id of the version that accepts the row, or the row's fault. Records the subject's index under the
    /// name's code.
    #[inline]
    fn judge(
        &mut self,
        name: &str,
        code: Option<usize>,
        row: EventRow<'_>,
        schemas: &mut dyn Schemas,
    ) -> Result<Result<i64, Fault>> {
        let verdict = self.judge_by_name(name, row, schemas)?;
        if let (Some(code), Some(at)) = (code, self.index.get(name)) {
            self.by_code.resize(self.by_code.len().max(code + 1), None);
            self.by_code[code] = Some(*at);
        }
        Ok(verdict)
    }

    #[inline]
    fn judge_by_name(
        &mut self,
        name: &str,
        row: EventRow<'_>,
        schemas: &mut dyn Schemas,
    ) -> Result<Result<i64, Fault>> {
        if let Some(id) = self.id_of(name, row) {
            return Ok(Ok(id));
        }
        if self.refresh(name, schemas)?
            && let Some(id) = self.id_of(name, row)
        {
            return Ok(Ok(id));
        }
        if let Some(Some(why)) = self.asked.get(name) {
            return Ok(Err(without_schemas(name, why)));
        }
        Ok(Err(match self.index.get(name) {
            Some(at) => self.compiled[*at].fault_of(row),
            None => self.unknown_subject(name),
        }))
    }

    /// Returns the fault of a subject without a schema; it names the first subjects that are known.
    #[cold]
    fn unknown_subject(&self, name: &str) -> Fault {
        const NAMES: usize = 3;
        let mut known: Vec<&str> = self.index.keys().map(AsRef::as_ref).collect();
        known.sort_unstable();
        let others = if known.len() > NAMES { ", …" } else { "" };
        known.truncate(NAMES);
        let known = match known.first() {
            None => String::new(),
            Some(first) => {
                format!("; known: {}{others} (--subject ={first} validates all rows by this one)", known.join(", "))
            }
        };
        Fault::new(ErrorType::UnknownSchemaError, format!("no schema for subject '{}'{known}", excerpt(name)))
    }

    #[inline]
    fn id_of(&mut self, name: &str, row: EventRow<'_>) -> Option<i64> {
        let at = *self.index.get(name)?;
        self.compiled[at].id_of(row, self.batch, &mut self.quiet)
    }

    /// Looks up the subject unless it was in this batch; returns whether it changed.
    fn refresh(&mut self, name: &str, schemas: &mut dyn Schemas) -> Result<bool> {
        if self.asked.contains_key(name) {
            return Ok(false);
        }
        let found = schemas.subject(name)?;
        let why = match &found {
            Lookup::Found(_) | Lookup::Unknown => None,
            Lookup::Useless(why) => Some(format!("cannot be used: {why}")),
            Lookup::Unavailable(cause) => Some(format!("cannot be fetched: {cause}")),
        };
        self.asked.insert(name.to_owned(), why);
        let subject = match found {
            Lookup::Found(subject) => subject,
            Lookup::Unavailable(_) => return Ok(false),
            // Its compiled form stays in the list but is no longer found.
            Lookup::Unknown | Lookup::Useless(_) => return Ok(self.forget(name)),
        };
        let known = self.index.get(name).map(|at| &self.compiled[*at]);
        if known.is_some_and(|compiled| Arc::ptr_eq(&compiled.subject, &subject)) {
            return Ok(false);
        }
        let plan = |version: &Version| VersionPlan::new(&subject.name, version, self.closed);
        let plans = subject.versions.iter().rev().map(plan).collect::<Result<_>>()?;
        self.forget(name);
        if self.compiled.len() >= SUBJECTS_MAX {
            self.compiled.clear();
            self.index.clear();
        }
        self.index.insert(name.to_owned(), self.compiled.len());
        self.compiled.push(Compiled { subject, plans });
        Ok(true)
    }

    /// Removes a subject, and all indexes by code; returns whether it was known.
    fn forget(&mut self, name: &str) -> bool {
        self.by_code.clear();
        self.index.remove(name).is_some()
    }
}

/// Returns the fault of a row that no known version accepts while others cannot be looked up or used, so that no
/// verdict is possible.
#[cold]
fn without_schemas(name: &str, why: &str) -> Fault {
    let name = excerpt(name);
    Fault::new(ErrorType::UnknownSchemaError, format!("subject '{name}' {why}"))
}

#[cold]
fn nameless(of: &SubjectOf) -> Fault {
    let (name, remedy) = match of {
        SubjectOf::Column(name) => (name, format!(" (--subject ={name} is that name itself)")),
        SubjectOf::Fixed(name) => (name, String::new()),
    };
    Fault::new(ErrorType::UnknownSchemaError, format!("{name}: missing, but required as the subject{remedy}"))
}

/// The source of the subject in a row: a fixed name, the index of a column, or the path of a property.
enum SubjectSource<'a> {
    Fixed(&'a str),
    Column(usize),
    Property(&'a str),
}

impl<'a> SubjectSource<'a> {
    fn new(of: &'a SubjectOf) -> Self {
        match of {
            SubjectOf::Fixed(name) => Self::Fixed(name),
            SubjectOf::Column(name) => match event::COLUMNS.iter().position(|column| column == name) {
                Some(column) => Self::Column(column),
                None => Self::Property(name),
            },
        }
    }

    /// Returns the code of the subject's name, if it is in a dictionary column.
    #[inline]
    fn code(&self, rows: &RowColumns<'_>, row: usize) -> Option<usize> {
        match *self {
            Self::Column(column) => rows.code(column, row),
            Self::Fixed(_) | Self::Property(_) => None,
        }
    }

    /// Returns the subject of a row; `None` if the event has none.
    #[inline]
    fn subject(&self, rows: &RowColumns<'a>, row: usize) -> Option<Cow<'a, str>> {
        match *self {
            Self::Fixed(name) => Some(Cow::Borrowed(name)),
            Self::Property(path) => property(rows.properties(row), path),
            Self::Column(column) => match rows.cell(column, row) {
                Cell::Text(text) => Some(Cow::Borrowed(text)),
                _ => None,
            },
        }
    }
}

/// Returns the value at a path of names joined by dots: a string's content, else its text; `None` if it is null or
/// absent.
fn property<'a>(object: &'a str, path: &str) -> Option<Cow<'a, str>> {
    let mut value = object;
    for name in path.split('.') {
        if !value.starts_with('{') {
            return None;
        }
        let mut inner = None;
        members(value, |key, value| {
            if key == name || key.contains('\\') && unescape(key) == name {
                inner = Some(value);
            }
            inner.is_none()
        });
        value = inner?;
    }
    match string_content(value) {
        Some(content) => Some(unescape(content)),
        None => (value != "null").then_some(Cow::Borrowed(value)),
    }
}

impl Compiled {
    /// Returns the id of the latest version that accepts the row.
    #[inline]
    fn id_of(&mut self, row: EventRow<'_>, batch: u64, quiet: &mut StopAtFirst) -> Option<i64> {
        for plan in &mut self.plans {
            if plan.batch != batch {
                plan.prepare(row.columns, batch);
            }
            quiet.begin();
            if plan.walk(row, quiet) {
                return Some(plan.id);
            }
        }
        None
    }

    /// Returns the fault of the row against the latest version.
    #[cold]
    fn fault_of(&self, row: EventRow<'_>) -> Fault {
        let mut report = Explain::default();
        if let Some(plan) = self.plans.first() {
            plan.walk(row, &mut report);
        }
        Fault::new(ErrorType::SchemaValidationError, report.message().unwrap_or_default())
    }
}

/// One version, compiled for events.
struct VersionPlan {
    id: i64,
    checks: Checks,
    /// Fields that are columns.
    columns: Vec<ColumnField>,
    /// The columns that some row of the current batch may violate. If a column's type and the absence of NULL prove a
    /// check for the whole batch, it is not repeated row by row.
    doubtful: Vec<Doubtful>,
    /// The number of that batch.
    batch: u64,
    /// Fields that are properties.
    properties: Fields,
    /// A field called `properties` that is not a plain record: checked as a whole.
    whole: Option<Whole>,
}

/// A field that some row may fail, by its index among the columns, with the verdict on each value of a dictionary
/// column.
struct Doubtful {
    at: usize,
    by_code: Vec<bool>,
}

struct ColumnField {
    column: usize,
    check: CheckId,
    /// Whether the column must have a value: the field has no default and does not take null.
    required: bool,
}

struct Whole {
    check: CheckId,
    /// Whether an object without members passes as well: it may mean an absent field.
    optional: bool,
}

impl VersionPlan {
    fn new(subject: &str, version: &Version, closed: bool) -> Result<VersionPlan> {
        let schema = &version.schema;
        let bad = |why: String| Error::config(format!("subject '{subject}' version {}: {why}", version.number));
        let AvroType::Record { fields, .. } = &schema.node(schema.root()).avro_type else {
            return Err(bad(format!("expected a record schema, found {}", schema.describe(schema.root()))));
        };
        let checks = Checks::new(schema, closed);
        let (mut columns, mut properties, mut whole) = (vec![], vec![], None);
        for field in fields {
            let required = field.default.is_none();
            match (event::COLUMNS.iter().position(|name| *name == field.name), &schema.node(field.node).avro_type) {
                (Some(column::PROPERTIES), AvroType::Record { fields, .. }) if required => {
                    properties.extend(fields.iter().map(|field| compile_field(schema, field)));
                }
                (Some(column::PROPERTIES), _) => {
                    let check = checks.of(field.node);
                    whole = Some(Whole { check, optional: !required || checks.takes_null(check) });
                }
                (Some(column), _) if !PROVENANCE.contains(&column) => {
                    let check = checks.of(field.node);
                    columns.push(ColumnField { column, check, required: is_required(schema, field) });
                }
                _ => properties.push(compile_field(schema, field)),
            }
        }
        let mut names = HashSet::new();
        if let Some(twice) = properties.iter().find(|field| !names.insert(&field.name)) {
            return Err(bad(format!("'{}': duplicate field, in the record and in its 'properties'", twice.name)));
        }
        let properties = Fields::new(properties, closed && whole.is_none());
        Ok(VersionPlan { id: version.id, checks, columns, doubtful: vec![], batch: 0, properties, whole })
    }

    /// Prepares for a batch.
    fn prepare(&mut self, rows: &RowColumns<'_>, batch: u64) {
        let doubtful = (0..self.columns.len()).filter_map(|at| self.doubt(at, rows)).collect();
        (self.doubtful, self.batch) = (doubtful, batch);
    }

    /// Returns the field at `at` if it must be checked row by row; `None` if every row passes it.
    fn doubt(&self, at: usize, rows: &RowColumns<'_>) -> Option<Doubtful> {
        let field = &self.columns[at];
        if self.is_proved(field, rows) {
            return None;
        }
        let by_code = match rows.column(field.column) {
            Some(ColumnView::Dictionary(dictionary)) if dictionary.values().len() <= CODES_MAX => {
                let values = dictionary.values().iter();
                values.map(|value| value.is_some_and(|text| self.takes(field.check, Cell::Text(text)))).collect()
            }
            _ => vec![],
        };
        Some(Doubtful { at, by_code })
    }

    /// Whether every row passes the field.
    fn is_proved(&self, field: &ColumnField, rows: &RowColumns<'_>) -> bool {
        let Some(view) = rows.column(field.column) else { return !field.required };
        if field.required && view.has_nulls() {
            return false;
        }
        match view {
            ColumnView::Instant(_) => self.takes(field.check, Cell::Instant(0)),
            ColumnView::Uuid(_) => self.takes(field.check, Cell::Uuid([0; 16])),
            ColumnView::Text(_) | ColumnView::Dictionary(_) => self.takes_any_text(field.check),
            ColumnView::Number(_) => false,
        }
    }

    fn takes_any_text(&self, id: CheckId) -> bool {
        match self.checks.get(id) {
            Check::Scalar(Scalar::String) => true,
            Check::Union(union) => union.branches().iter().any(|branch| self.takes_any_text(*branch)),
            _ => false,
        }
    }

    /// Whether the row passes, as far as `report` continues the walk.
    #[inline]
    fn walk<R: FaultReport>(&self, event: EventRow<'_>, report: &mut R) -> bool {
        let EventRow { columns: rows, row } = event;
        let passes = |field: &ColumnField, report: &mut R| self.column(field, rows.cell(field.column, row), report);
        let going = match R::QUIET {
            true => self.doubtful.iter().all(|doubtful| {
                let field = &self.columns[doubtful.at];
                let code = rows.code(field.column, row);
                code.is_some_and(|code| doubtful.by_code.get(code) == Some(&true)) || passes(field, report)
            }),
            false => self.columns.iter().all(|field| passes(field, report)),
        };
        if !going {
            return false;
        }
        let (text, distinct) = (rows.properties(row), rows.is_distinct(row));
        report.enter(WalkStep::Name(event::COLUMNS[column::PROPERTIES]));
        let absent = |field: &CheckedField, report: &mut R| self.absent(field, event, report);
        let going = self.whole.as_ref().is_none_or(|whole| self.whole(whole, text, report))
            && (self.properties.is_trivial() || self.checks.record(&self.properties, text, distinct, report, absent));
        report.leave();
        going
    }

    #[inline]
    fn column<R: FaultReport>(&self, field: &ColumnField, cell: Cell<'_>, report: &mut R) -> bool {
        if self.takes(field.check, cell) || matches!(cell, Cell::None) && !field.required {
            return true;
        }
        report.enter(WalkStep::Name(event::COLUMNS[field.column]));
        let going = match cell {
            Cell::None => missing(report),
            _ => report.fault(|| self.checks.mismatch(field.check, &shown(cell))),
        };
        report.leave();
        going
    }

    /// Checks a required property that is absent: falls back on the provenance column of its name.
    #[cold]
    fn absent<R: FaultReport>(&self, field: &CheckedField, event: EventRow<'_>, report: &mut R) -> bool {
        let column = PROVENANCE.into_iter().find(|column| event::COLUMNS[*column] == field.name);
        match column.map(|column| event.columns.cell(column, event.row)) {
            None | Some(Cell::None) => missing(report),
            Some(cell) => {
                self.takes(field.check, cell) || report.fault(|| self.checks.mismatch(field.check, &shown(cell)))
            }
        }
    }

    fn whole<R: FaultReport>(&self, whole: &Whole, text: &str, report: &mut R) -> bool {
        let bytes = text.as_bytes();
        let empty = || at(bytes, skip_space(bytes, skip_space(bytes, 0) + 1)) == b'}';
        whole.optional && empty() || self.checks.value(whole.check, text.trim_ascii(), report)
    }

    /// Whether the check accepts the value of a column. An instant has been parsed from the producer's text or number,
    /// so every text and number type accepts it.
    #[inline]
    fn takes(&self, id: CheckId, cell: Cell<'_>) -> bool {
        use Scalar::{Bytes, Double, Float, Int, LocalTimestamp, Long, String, Timestamp, Uuid, UuidText};
        match (self.checks.get(id), cell) {
            (Check::Union(union), cell) => union.branches().iter().any(|branch| self.takes(*branch, cell)),
            (check, Cell::Text(content)) => is_string(check, content),
            (Check::Scalar(scalar), Cell::Instant(_)) => {
                matches!(scalar, String | Int | Long | Float | Double | Timestamp(_) | LocalTimestamp(_))
            }
            (Check::Scalar(Int), Cell::Number(n)) => i32::try_from(n).is_ok(),
            (Check::Scalar(scalar), Cell::Number(_)) => matches!(scalar, Long | Float | Double),
            (Check::Scalar(scalar), Cell::Uuid(_)) => {
                matches!(scalar, String | UuidText | Uuid | Bytes(None | Some(16)))
            }
            _ => false,
        }
    }
}

/// A row of a batch of events.
#[derive(Clone, Copy)]
struct EventRow<'a> {
    columns: &'a RowColumns<'a>,
    row: usize,
}

#[cfg(test)]
mod tests;
