//! A record schema compiled for events, and the walk over the columns and properties of an event.
//!
//! A record schema describes the record that a producer sends. Its fields are mapped as the record's are: a field with
//! an envelope name is that column, every other one is a property; the fields of a record called `properties` are
//! properties too. A provenance name (`origin`, `offset`, …) is the producer's property if the event has one, because
//! ingest overwrites the column; otherwise it is the column.
//!
//! The first fault of an event is that of a column in the schema's order, else of a property in the event's order, else
//! of a missing field.

use super::fields::{CheckedField, Fields};
use super::walk::{Check, Checks, Explain, FaultReport, StopAtFirst, WalkStep};
use super::walk::{compile_field, is_required, is_string, missing, shown};
use crate::avro::schema::{AvroType, NodeId};
use crate::avro::{self, Scalar};
use crate::json::scan::{at, skip_space};
use crate::kind::event::{self, PROVENANCE, column};
use crate::kind::rows::{Cell, ColumnView, RowColumns};
use crate::schema::language::{EventCheck, EventRow};
use arrow::array::Array;
use std::collections::HashSet;

/// Maximum number of dictionary values that are checked ahead of the rows.
const CODES_MAX: usize = 256;

/// The check of events.
pub struct AvroCheck {
    pub plan: EventPlan,
    pub quiet: StopAtFirst,
}

impl EventCheck for AvroCheck {
    fn prepare(&mut self, columns: &RowColumns<'_>) {
        let plan = &mut self.plan;
        plan.doubtful = (0..plan.columns.len()).filter_map(|at| plan.doubt(at, columns)).collect();
    }

    fn accepts(&mut self, event: EventRow<'_>) -> bool {
        self.quiet.begin();
        self.plan.walk(event, &mut self.quiet)
    }

    fn fault(&self, event: EventRow<'_>) -> String {
        let mut report = Explain::default();
        self.plan.walk(event, &mut report);
        report.message().unwrap_or_default()
    }
}

/// A schema compiled for events.
pub struct EventPlan {
    checks: Checks,
    /// Fields that are columns.
    columns: Vec<ColumnField>,
    /// The columns that some row of the prepared batch may violate. If a column's type and the absence of NULL prove a
    /// check for the whole batch, it is not repeated row by row.
    doubtful: Vec<Doubtful>,
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
    check: NodeId,
    /// Whether the column must have a value: the field has no default and does not take null.
    required: bool,
}

struct Whole {
    check: NodeId,
    /// Whether an object without members passes as well: it may mean an absent field.
    optional: bool,
}

impl EventPlan {
    /// Compiles a schema; returns the reason if it is not a record, or not one that can describe an event.
    pub fn try_new(schema: &avro::Schema, closed: bool) -> Result<Self, String> {
        let AvroType::Record { fields, .. } = &schema.node(schema.root()).avro_type else {
            return Err(format!("expected a record schema, found {}", schema.describe(schema.root())));
        };
        let checks = Checks::new(schema, closed);
        let (mut columns, mut properties, mut whole) = (vec![], vec![], None);
        for field in fields {
            match (event::COLUMNS.iter().position(|name| *name == field.name), &schema.node(field.node).avro_type) {
                (Some(column::PROPERTIES), AvroType::Record { fields, .. }) if field.default.is_none() => {
                    properties.extend(fields.iter().map(|field| compile_field(schema, field)));
                }
                (Some(column::PROPERTIES), _) => {
                    whole = Some(Whole { check: field.node, optional: !is_required(schema, field) });
                }
                (Some(column), _) if !PROVENANCE.contains(&column) => {
                    columns.push(ColumnField { column, check: field.node, required: is_required(schema, field) });
                }
                _ => properties.push(compile_field(schema, field)),
            }
        }
        let mut names = HashSet::new();
        if let Some(twice) = properties.iter().find(|field| !names.insert(&field.name)) {
            return Err(format!("'{}': duplicate field, in the record and in its 'properties'", twice.name));
        }
        let properties = Fields::new(properties, closed && whole.is_none());
        Ok(Self { checks, columns, doubtful: vec![], properties, whole })
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

    fn takes_any_text(&self, id: NodeId) -> bool {
        match self.checks.get(id) {
            Check::Scalar(Scalar::String) => true,
            Check::Union(union) => union.branches.iter().any(|branch| self.takes_any_text(*branch)),
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
    fn takes(&self, id: NodeId, cell: Cell<'_>) -> bool {
        use Scalar::{Bytes, Double, Float, Int, LocalTimestamp, Long, String, Timestamp, Uuid, UuidText};
        match (self.checks.get(id), cell) {
            (Check::Union(union), cell) => union.branches.iter().any(|branch| self.takes(*branch, cell)),
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
