//! `--let NAME=EXPR`: fields that expressions compute, as properties of events or as columns. [`RowRules`] has the
//! flags that evt-ingest applies to rows before it stamps them.

use super::window::metric::split_name;
use crate::error::{Error, Result};
use crate::expr::{
    Expr, Filter, LeafBatch, Leaves, Node, ObservedLeaves, PathKey, ValueKind, Want, WrongRows, parse, value_at,
};
use crate::json::member::with_member;
use crate::json::text::write_string;
use crate::kind::event::{RAW, column};
use crate::kind::{extended, instant_type};
use crate::parse::excerpt::brief;
use crate::time::write_instant;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use std::fmt::Write;
use std::sync::Arc;

/// The column with the properties of an event.
const PROPERTIES: &str = "properties";

/// One `--let`.
#[derive(Clone, Debug)]
struct ComputedField {
    name: String,
    /// The path of a property whose JSON value is copied as it is, if the expression is only its name.
    copied: Option<Vec<PathKey>>,
    leaves: Leaves,
    value: Expr,
    observed: ObservedLeaves,
}

impl ComputedField {
    /// Parses `NAME=EXPR` for rows of `schema`. Errors: exit status 2 if NAME is missing or is the name of a column, or
    /// if EXPR is all properties; 78 if EXPR is not an expression.
    fn parse(text: &str, schema: &SchemaRef) -> Result<Self> {
        let (name, expr, node) = split(text)?;
        if name == RAW || schema.column_with_name(name).is_some() {
            return Err(Error::usage(format!("--let {name}: expected a new name, found the name of a column")));
        }
        let mut leaves = Leaves::new(schema);
        let value = Expr::of(&node, Want::Own, expr, &mut leaves)?;
        let is_column = |key: &PathKey| schema.fields().iter().any(|field| key.is_member(field.name()));
        let copied = match node {
            Node::Name(path) if path.len() == 1 && path[0].is_member(PROPERTIES) => {
                return Err(Error::usage(format!("--let {name}: expected a property, found all properties")));
            }
            Node::Name(path) if !path.first().is_some_and(|first| is_column(first) && !first.is_member(PROPERTIES)) => {
                Some(path)
            }
            _ => None,
        };
        let observed = ObservedLeaves::new(&leaves);
        Ok(Self { name: name.to_owned(), copied, leaves, value, observed })
    }

    /// Evaluates the expression. Unless its value `is_copied`, adds the rows for which it cannot be evaluated to
    /// `wrong`.
    fn values(&mut self, batch: &RecordBatch, wrong: &mut WrongRows, is_copied: bool) -> Result<ArrayRef> {
        let leaves = LeafBatch::read(&self.leaves, batch)?;
        self.observed.observe(&leaves);
        for found in self.value.wrong(&leaves).filter(|_| !is_copied) {
            found.note(wrong, |found| format!("--let {}: {}", self.name, found.advice()));
        }
        self.value.eval(&leaves)
    }

    /// Returns the column of its values.
    fn field(&self) -> Field {
        let data_type = match self.value.kind() {
            ValueKind::Number => DataType::Float64,
            ValueKind::Text => DataType::Utf8,
            ValueKind::Bool => DataType::Boolean,
            ValueKind::Time => instant_type(),
        };
        Field::new(&self.name, data_type, true)
    }

    /// Returns `batch` with the field in the properties. NULL removes the property.
    fn set_property(&mut self, batch: &RecordBatch, wrong: &mut WrongRows) -> Result<RecordBatch> {
        let values = self.values(batch, wrong, self.copied.is_some())?;
        let objects = batch.column(column::PROPERTIES).as_string::<i32>();
        let path = [self.name.clone()];
        let with_value = |(row, object): (usize, Option<&str>)| {
            let object = object.unwrap_or("{}");
            let json = match &self.copied {
                Some(from) => copied(object, from).map(str::to_owned),
                None => value_to_json(self.value.kind(), &values, row).unwrap_or_else(|why| {
                    wrong.entry(row).or_insert_with(|| format!("--let {}: {why}", self.name));
                    None
                }),
            };
            with_member(object, &path, json.as_deref())
        };
        let mut columns = batch.columns().to_vec();
        columns[column::PROPERTIES] =
            Arc::new(StringArray::from_iter_values(objects.iter().enumerate().map(with_value)));
        Ok(RecordBatch::try_new(batch.schema(), columns)?)
    }
}

/// Returns the name of `NAME=EXPR`, and the expression as text and parsed. Errors: exit status 2 if NAME is missing, 78
/// if EXPR is not an expression.
fn split(text: &str) -> Result<(&str, &str, Node)> {
    let (Some(name), expr) = split_name(text) else {
        return Err(Error::usage(format!("--let {}: expected NAME=EXPR, such as rate=bytes / 60", brief(text))));
    };
    Ok((name, expr, parse(expr)?))
}

/// Checks what does not depend on the rows: that each `--let` has a name and an expression, and that `--where` is an
/// expression. Errors: exit status 2 or 78 if not.
pub fn check_syntax(fields: &[String], filter: Option<&str>) -> Result<()> {
    fields.iter().try_for_each(|text| split(text).map(drop))?;
    filter.map_or(Ok(()), |text| parse(text).map(drop))
}

/// The fields of all `--let`, in order: each may read those before it.
#[derive(Clone, Debug)]
pub struct ComputedFields {
    fields: Vec<ComputedField>,
    /// The columns of rows with the fields as columns.
    schema: SchemaRef,
}

impl ComputedFields {
    /// Parses fields that become properties of events of `schema`.
    pub fn of_properties(texts: &[String], schema: &SchemaRef) -> Result<Self> {
        let mut fields: Vec<ComputedField> = vec![];
        for text in texts {
            let field = ComputedField::parse(text, schema)?;
            if fields.iter().any(|other| other.name == field.name) {
                return Err(Error::usage(format!("--let {}: expected different names, found it twice", field.name)));
            }
            fields.push(field);
        }
        Ok(Self { fields, schema: schema.clone() })
    }

    /// Parses fields that become columns after those of `schema`.
    pub fn of_columns(texts: &[String], schema: &SchemaRef) -> Result<Self> {
        let (mut fields, mut schema) = (vec![], schema.clone());
        for text in texts {
            let mut field = ComputedField::parse(text, &schema)?;
            field.copied = None;
            schema = extended(&schema, [field.field()]);
            fields.push(field);
        }
        Ok(Self { fields, schema })
    }

    /// Returns the columns of rows with the fields as columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Returns the names of the fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// Returns a bit for each of the first 32 columns that an expression names.
    pub fn columns(&self) -> u32 {
        self.fields.iter().fold(0, |bits, field| bits | field.leaves.columns())
    }

    /// Returns warnings about names in the expressions: those without a value in any row, and those whose integers were
    /// rounded.
    pub fn warnings(&self) -> Vec<String> {
        let of_field = |field: &ComputedField| field.observed.warnings(&format!("--let {}", field.name), &field.value);
        self.fields.iter().flat_map(of_field).collect()
    }

    /// Returns the rows with the fields as properties, and the rows for which one cannot be computed.
    pub fn with_properties(&mut self, batch: &RecordBatch) -> Result<(RecordBatch, WrongRows)> {
        let (mut rows, mut wrong) = (batch.clone(), WrongRows::new());
        for field in &mut self.fields {
            rows = field.set_property(&rows, &mut wrong)?;
        }
        Ok((rows, wrong))
    }

    /// Returns the rows with the fields as columns, and the rows for which one cannot be computed.
    pub fn add_columns(&mut self, batch: &RecordBatch) -> Result<(RecordBatch, WrongRows)> {
        let mut wrong = WrongRows::new();
        let mut rows = batch.clone();
        let before = batch.num_columns();
        for (at, field) in self.fields.iter_mut().enumerate() {
            let values = field.values(&rows, &mut wrong, false)?;
            let values: ArrayRef = match values.as_primitive_opt::<Int64Type>() {
                Some(micros) => {
                    let instants = micros.reinterpret_cast::<TimestampMicrosecondType>();
                    Arc::new(instants.with_timezone("UTC"))
                }
                None => values,
            };
            let schema = Arc::new(self.schema.project(&Vec::from_iter(0..=before + at))?);
            rows = RecordBatch::try_new(schema, rows.columns().iter().cloned().chain([values]).collect())?;
        }
        Ok((rows, wrong))
    }
}

/// The rules that evt-ingest applies to the rows of raw records before it stamps them: `--let`, then `--where`.
#[derive(Clone, Debug)]
pub struct RowRules {
    fields: ComputedFields,
    filter: Option<Filter>,
}

/// The result of the rules for a batch.
pub struct RuledRows {
    /// The properties with computed fields, if there are such fields.
    pub properties: Option<ArrayRef>,
    /// The rows that stay.
    pub keep: BooleanArray,
    /// Rows whose expression failed. `keep` is false for all of them.
    pub wrong: WrongRows,
}

impl RowRules {
    /// Parses the flags for rows of `schema`; `None` if there are none.
    pub fn try_new(fields: &[String], filter: Option<&str>, schema: &SchemaRef) -> Result<Option<Self>> {
        let has_rules = !fields.is_empty() || filter.is_some();
        let fields = ComputedFields::of_properties(fields, schema)?;
        let filter = filter.map(|text| Filter::new(text, schema)).transpose()?;
        let rules = Self { fields, filter };
        if rules.columns() & 1 << column::STREAM_TIME != 0 {
            let message = "stream_time is not known before --let and --where; name it in the next stage";
            return Err(Error::config(message));
        }
        Ok(has_rules.then_some(rules))
    }

    /// Returns a bit for each of the first 32 columns that an expression names.
    pub fn columns(&self) -> u32 {
        self.fields.columns() | self.filter.as_ref().map_or(0, Filter::columns)
    }

    /// Returns warnings about names in the expressions: those without a value in any row, and those whose integers were
    /// rounded.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.fields.warnings();
        warnings.extend(self.filter.as_ref().map_or(vec![], |filter| filter.warnings("--where")));
        warnings
    }

    /// Applies the rules to a batch.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<RuledRows> {
        let (rows, mut wrong) = self.fields.with_properties(batch)?;
        let mut keep = vec![true; rows.num_rows()];
        if let Some(filter) = &mut self.filter {
            let passed = filter.apply(&rows)?;
            keep = passed.keep.values().iter().collect();
            // A row becomes one dead letter. The fault of a field precedes that of the filter, which may read the
            // field.
            for (row, why) in passed.wrong {
                wrong.entry(row).or_insert(why);
            }
        }
        wrong.keys().for_each(|row| keep[*row] = false);
        let has_fields = self.fields.names().next().is_some();
        let properties = has_fields.then(|| rows.column(column::PROPERTIES).clone());
        Ok(RuledRows { properties, keep: keep.into(), wrong })
    }
}

/// Returns a value of an expression as JSON, or why JSON has no such value.
pub fn value_to_json(kind: ValueKind, values: &ArrayRef, row: usize) -> Result<Option<String>, String> {
    let mut out = String::new();
    if values.is_null(row) {
        return Ok(None);
    }
    match kind {
        ValueKind::Number => {
            let number = values.as_primitive::<Float64Type>().value(row);
            if !number.is_finite() {
                return Err(format!("expected a number that JSON can hold, found {number}"));
            }
            // `Display` writes no exponent, and no fraction for a whole number, so a reader that expects an integer
            // gets one.
            let _ = write!(out, "{number}");
        }
        ValueKind::Text => write_string(&mut out, values.as_string::<i32>().value(row)),
        ValueKind::Bool => out.push_str(if values.as_boolean().value(row) { "true" } else { "false" }),
        ValueKind::Time => {
            let mut instant = String::new();
            write_instant(&mut instant, values.as_primitive::<Int64Type>().value(row));
            write_string(&mut out, &instant);
        }
    }
    Ok(Some(out))
}

/// Returns the JSON text at a path in an object of properties, as received; `None` if the value is absent or null. A
/// first step `properties` is the object itself.
pub(crate) fn copied<'a>(object: &'a str, path: &[PathKey]) -> Option<&'a str> {
    let path = match path {
        [first, rest @ ..] if first.is_member(PROPERTIES) && !rest.is_empty() => rest,
        path => path,
    };
    path.iter().try_fold(object, value_at).filter(|value| *value != "null")
}
