//! Validates every event against the schema of its subject.
//!
//! ```text
//! versions of a subject ─► EventCheck, the latest version first
//!                              │
//! event ───────────────────────┴─┬─► id of the version that accepts it
//!                                └─► fault ─► dead letter
//! ```
//!
//! A subject has several versions, and not all producers use the latest. An event is valid if any version accepts it;
//! versions are tried from the latest down, and the event's schema id is the first that accepts it. If none does, the
//! fault is the first one against the latest version. The language of a version ([`crate::schema`]) decides what it
//! accepts.
//!
//! Before a row is rejected, its subject is looked up again, once per batch, so that a version registered while the
//! stream runs applies without a restart.
//!
//! Several threads may validate ranges of the rows of a batch. They find the rows that a known version accepts; the
//! others are judged in order.

use crate::error::{Error, Result};
use crate::json::text::{excerpt, unescape};
use crate::json::walk::{members, string_content};
use crate::kind::dead::{ErrorType, Fault, Rejected};
use crate::kind::event;
use crate::kind::rows::{Cell, RowColumns};
use crate::parallel::Parallelism;
use crate::schema::language::{EventCheck, EventRow};
use crate::schema::subject::{Lookup, Schemas, Subject, Version};
use arrow::array::{Int64Array, Int64Builder, RecordBatch};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Maximum number of compiled subjects; beyond it all are dropped and compiled again on use.
const SUBJECTS_MAX: usize = 4096;

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

/// Rows of a batch from which on ranges of them are validated at the same time.
const PARALLEL_ROWS: usize = if cfg!(test) { 2 } else { 256 };

/// Validates batches of events.
pub struct Validator {
    options: Options,
    known: KnownSubjects,
    parallelism: Parallelism,
    /// The known subjects of each range of rows that is validated at the same time as others.
    of_ranges: Vec<KnownSubjects>,
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
    /// How often a subject was added or removed.
    changes: u64,
    closed: bool,
}

struct Compiled {
    subject: Arc<Subject>,
    /// One per version, latest first.
    checks: Vec<VersionCheck>,
}

struct VersionCheck {
    id: i64,
    check: Box<dyn EventCheck>,
    /// The number of the batch for which it is prepared.
    batch: u64,
}

impl Validator {
    /// Creates a validator without subjects.
    pub fn new(options: Options) -> Self {
        let known = KnownSubjects { closed: options.closed, ..KnownSubjects::default() };
        Self { options, known, parallelism: Parallelism::default(), of_ranges: vec![] }
    }

    /// Validates ranges of the rows of a batch by `parallelism`.
    pub fn by(mut self, parallelism: Parallelism) -> Self {
        self.parallelism = parallelism;
        self
    }

    /// Judges every row of `batch`; `properties` must be valid JSON objects. Fails only if a schema is unavailable or
    /// is not a record, or the batch does not hold events.
    pub fn check(&mut self, batch: &RecordBatch, schemas: &mut dyn Schemas) -> Result<Verdicts> {
        let accepted = self.accepted(batch)?;
        let Self { options, known, .. } = self;
        // Once a look-up in this batch has found another version, the rows behind are judged by it.
        let changes = known.changes;
        let rows = RowColumns::new(batch)?;
        let mut schema_ids = Int64Builder::with_capacity(batch.num_rows());
        let mut faults = vec![];
        let source = SubjectSource::new(&options.subject);
        known.begin();
        for row in 0..batch.num_rows() {
            if let Some(id) = accepted.get(row).copied().flatten().filter(|_| known.changes == changes) {
                schema_ids.append_value(id);
                continue;
            }
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

    /// Returns for each row the id of a known version that accepts it; nothing if the rows are not divided.
    fn accepted(&mut self, batch: &RecordBatch) -> Result<Vec<Option<i64>>> {
        let (rows, count) = (batch.num_rows(), self.parallelism.count());
        if count == 1 || rows < PARALLEL_ROWS {
            return Ok(vec![]);
        }
        let mut of_ranges = std::mem::take(&mut self.of_ranges);
        of_ranges.resize_with(count, KnownSubjects::default);
        of_ranges.iter_mut().try_for_each(|known| known.learn(&self.known))?;
        let ends = (1..=count).map(|part| rows * part / count);
        let ranges = ends.scan(0, |start, end| Some(std::mem::replace(start, end)..end));
        let (batch, subject) = (batch.clone(), self.options.subject.clone());
        let validate = move |(mut known, range): (KnownSubjects, Range<usize>)| {
            let ids = known.accepted(&batch, &subject, range);
            (known, ids)
        };
        let mut accepted = vec![];
        for (known, ids) in self.parallelism.map(of_ranges.into_iter().zip(ranges).collect(), validate)? {
            accepted.extend(ids?);
            self.of_ranges.push(known);
        }
        Ok(accepted)
    }
}

impl KnownSubjects {
    /// Starts another batch.
    fn begin(&mut self) {
        self.asked.clear();
        self.by_code.clear();
        self.batch += 1;
    }

    /// Takes over the subjects that `other` knows.
    fn learn(&mut self, other: &Self) -> Result<()> {
        if self.changes == other.changes {
            return Ok(());
        }
        let same = |name: &str, of: &Self| of.index.get(name).map(|at| of.compiled[*at].subject.clone());
        let mut learned = Self { closed: other.closed, changes: other.changes, batch: self.batch, ..Self::default() };
        for name in other.index.keys() {
            let Some(subject) = same(name, other) else { continue };
            let compiled = match self.index.get(name) {
                Some(at) if Arc::ptr_eq(&self.compiled[*at].subject, &subject) => {
                    std::mem::take(&mut self.compiled[*at].checks)
                }
                _ => checks(&subject, other.closed)?,
            };
            learned.index.insert(name.clone(), learned.compiled.len());
            learned.compiled.push(Compiled { subject, checks: compiled });
        }
        *self = learned;
        Ok(())
    }

    /// Returns for each row of a range the id of a known version that accepts it.
    fn accepted(&mut self, batch: &RecordBatch, subject: &SubjectOf, range: Range<usize>) -> Result<Vec<Option<i64>>> {
        let rows = RowColumns::new(batch)?;
        let source = SubjectSource::new(subject);
        self.begin();
        let accepted = range.map(|row| {
            let (code, event) = (source.code(&rows, row), EventRow { columns: &rows, row });
            if let Some(id) = code.and_then(|code| self.id_by_code(code, event)) {
                return Some(id);
            }
            let name = source.subject(&rows, row)?;
            let id = self.id_of(&name, event);
            self.note_code(code, &name);
            id
        });
        Ok(accepted.collect())
    }

    /// Records the subject's index under the code of its name.
    #[inline]
    fn note_code(&mut self, code: Option<usize>, name: &str) {
        if let Some(code) = code
            && let Some(at) = self.index.get(name)
        {
            self.by_code.resize(self.by_code.len().max(code + 1), None);
            self.by_code[code] = Some(*at);
        }
    }

    /// Returns the id of the version that accepts the row, if the subject name with this code was looked up in this
    /// batch.
    #[inline]
    fn id_by_code(&mut self, code: usize, row: EventRow<'_>) -> Option<i64> {
        let at = (*self.by_code.get(code)?)?;
        self.compiled[at].id_of(row, self.batch)
    }

    /// Returns the id of the version that accepts the row, or the row's fault.
    #[inline]
    fn judge(
        &mut self,
        name: &str,
        code: Option<usize>,
        row: EventRow<'_>,
        schemas: &mut dyn Schemas,
    ) -> Result<Result<i64, Fault>> {
        let verdict = self.judge_by_name(name, row, schemas)?;
        self.note_code(code, name);
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
        self.compiled[at].id_of(row, self.batch)
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
        let checks = checks(&subject, self.closed)?;
        self.forget(name);
        self.changes += 1;
        if self.compiled.len() >= SUBJECTS_MAX {
            self.compiled.clear();
            self.index.clear();
        }
        self.index.insert(name.to_owned(), self.compiled.len());
        self.compiled.push(Compiled { subject, checks });
        Ok(true)
    }

    /// Removes a subject, and all indexes by code; returns whether it was known.
    fn forget(&mut self, name: &str) -> bool {
        self.by_code.clear();
        self.changes += 1;
        self.index.remove(name).is_some()
    }
}

/// Returns the checks of the versions of a subject, the latest one first.
fn checks(subject: &Subject, closed: bool) -> Result<Vec<VersionCheck>> {
    let compile = |version: &Version| {
        let bad = |why| Error::config(format!("subject '{}' version {}: {why}", subject.name, version.number));
        let check = version.schema.event_check(closed).map_err(bad)?;
        Ok(VersionCheck { id: version.id, check, batch: 0 })
    };
    subject.versions.iter().rev().map(compile).collect()
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
    fn id_of(&mut self, row: EventRow<'_>, batch: u64) -> Option<i64> {
        for version in &mut self.checks {
            if version.batch != batch {
                version.check.prepare(row.columns);
                version.batch = batch;
            }
            if version.check.accepts(row) {
                return Some(version.id);
            }
        }
        None
    }

    /// Returns the fault of the row against the latest version.
    #[cold]
    fn fault_of(&self, row: EventRow<'_>) -> Fault {
        let message = self.checks.first().map(|latest| latest.check.fault(row));
        Fault::new(ErrorType::SchemaValidationError, message.unwrap_or_default())
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
