//! `--patch`: assignments to the fields of JSON records.

use crate::counts::counted;
use crate::error::Result;
use crate::expr::{Expr, LeafBatch, Leaves, Node, ObservedLeaves, PathKey, Want, WrongRows, parse_assignments};
use crate::json::member::with_member;
use crate::json::text::unescape;
use crate::json::walk::{last_member, members};
use crate::kind::event::COLUMNS;
use crate::op::computed::{copied, value_to_json};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::fmt::Write;
use std::sync::Arc;

/// The object that holds the properties of an event in its own form.
const PROPERTIES: &str = "properties";

/// Assignments to fields of a record. Each expression reads the values that the record had before the first assignment.
#[derive(Debug)]
pub struct Patch {
    assignments: Vec<FieldAssignment>,
    leaves: Leaves,
    schema: SchemaRef,
    /// The names that were NULL in every record so far.
    observed: ObservedLeaves,
}

#[derive(Debug)]
struct FieldAssignment {
    /// The names that lead to the field.
    path: Vec<String>,
    /// The path of another field whose JSON value is copied as it is, if the expression is only a name.
    copied: Option<Vec<PathKey>>,
    value: Expr,
    /// Whether the expression had a value in some examined record, or could not be evaluated there.
    has_value: bool,
    /// The number of examined records in which the field had a value.
    replaced: u64,
}

impl Patch {
    /// Parses `set NAME = EXPRESSION, …` ([`crate::expr`]). Every name is a field of the record, or of its properties.
    ///
    /// Errors: exit status 78; the message has the text, the place and a remedy.
    pub fn parse(text: &str) -> Result<Self> {
        let schema = Arc::new(Schema::new(vec![Field::new(PROPERTIES, DataType::Utf8, false)]));
        let mut leaves = Leaves::new(&schema);
        let mut assignments = vec![];
        for (path, node) in parse_assignments(text)? {
            let copied = if let Node::Name(steps) = &node { Some(steps.clone()) } else { None };
            let value = Expr::of(&node, Want::Own, text, &mut leaves)?;
            assignments.push(FieldAssignment { path, copied, value, has_value: false, replaced: 0 });
        }
        let observed = ObservedLeaves::new(&leaves);
        Ok(Self { assignments, leaves, observed, schema })
    }

    /// Applies the assignments to records, which must be JSON objects. Returns each record with its fields assigned, or
    /// why its expression cannot be evaluated.
    ///
    /// A field that is assigned NULL is removed: to evt an absent field and null are equal.
    pub fn apply(&mut self, records: &[&str]) -> Result<Vec<Result<String, String>>> {
        let (objects, read) = self.read(records)?;
        let mut wrong = WrongRows::new();
        for one in self.assignments.iter().filter(|one| one.copied.is_none()) {
            for found in one.value.wrong(&read) {
                found.note(&mut wrong, |found| format!("--patch: {}", found.message()));
            }
        }
        let values = self.assignments.iter().map(|one| one.value.eval(&read)).collect::<Result<Vec<_>>>()?;
        let patched = |(row, record): (usize, &&str)| match wrong.remove(&row) {
            Some(why) => Err(why),
            None => self.patched(record, &objects[row], |at| json_of(&self.assignments[at], &values[at], row)),
        };
        Ok(records.iter().enumerate().map(patched).collect())
    }

    /// Returns records as expressions read them, and the values of the names.
    fn read(&mut self, records: &[&str]) -> Result<(Vec<String>, LeafBatch)> {
        let objects: Vec<String> = records.iter().map(|record| flattened(record)).collect();
        let array: ArrayRef = Arc::new(StringArray::from_iter_values(&objects));
        let batch = RecordBatch::try_new(self.schema.clone(), vec![array])?;
        let read = LeafBatch::read(&self.leaves, &batch)?;
        self.observed.observe(&read);
        Ok((objects, read))
    }

    /// Notes the assignments that have a value in these records, and the fields that they replace.
    pub fn examine(&mut self, records: &[&str]) -> Result<()> {
        let (objects, read) = self.read(records)?;
        for one in &mut self.assignments {
            let has_value = match &one.copied {
                Some(from) => objects.iter().any(|flat| copied(flat, from).is_some()),
                None => one.value.wrong(&read).next().is_some() || one.value.eval(&read)?.null_count() < objects.len(),
            };
            one.has_value |= has_value;
            one.replaced += objects.iter().filter(|flat| has_member(flat, strip_properties(&one.path))).count() as u64;
        }
        Ok(())
    }

    /// Whether an assignment of a name has had no value in the records that were examined, so that it may lose the
    /// value of its field.
    pub fn may_lose(&self) -> bool {
        self.assignments.iter().any(|one| !one.has_value && !one.value.paths().is_empty())
    }

    /// Returns why the patch must not be applied: an assignment would remove its field from records that were examined,
    /// and names in its expression had no value in any of them. `None` if no assignment does so.
    pub fn loss(&self) -> Option<String> {
        self.assignments.iter().filter(|one| !one.has_value && one.replaced > 0).find_map(|one| {
            let names = self.observed.unknown(&one.value).join(", ");
            let (path, lost) = (one.path.join("."), counted(one.replaced, ["letter", "letters"]));
            let why = format!(
                "--patch: {path} would lose its value in {lost}: {names} was NULL in every letter; check the name"
            );
            (!names.is_empty()).then_some(why)
        })
    }

    /// Returns a warning for each name of an expression that was NULL in every record.
    pub fn warnings(&self) -> Vec<String> {
        let of_one = |one: &FieldAssignment| self.observed.warnings("--patch", &one.value);
        self.assignments.iter().flat_map(of_one).collect()
    }

    /// Assigns the values to the fields of one record; `flat` is the record as expressions read it.
    fn patched(
        &self,
        record: &str,
        flat: &str,
        value: impl Fn(usize) -> Result<Option<String>, String>,
    ) -> Result<String, String> {
        let mut patched = record.to_owned();
        for (at, one) in self.assignments.iter().enumerate() {
            let json = match &one.copied {
                Some(from) => copied(flat, from).map(str::to_owned),
                None => value(at)?,
            };
            let path = place(&patched, &one.path);
            patched = with_member(&patched, &path, json.as_deref());
        }
        Ok(patched)
    }
}

/// Returns the value of an assignment as JSON, or why JSON has no such value.
fn json_of(one: &FieldAssignment, values: &ArrayRef, row: usize) -> Result<Option<String>, String> {
    value_to_json(one.value.kind(), values, row).map_err(|why| format!("--patch: {}: {why}", one.path.join(".")))
}

/// Returns a record as expressions read it: its fields, and those of its object `properties`.
fn flattened(record: &str) -> String {
    let Some(inner) = last_member(record, PROPERTIES).filter(|inner| inner.starts_with('{')) else {
        return record.to_owned();
    };
    let mut out = String::with_capacity(record.len());
    let mut add = |key: &str, value: &str| {
        out.push(if out.is_empty() { '{' } else { ',' });
        let _ = write!(out, "\"{key}\":{value}");
    };
    // The last of two equal names counts: the record's own field.
    members(inner, |key, value| {
        add(key, value);
        true
    });
    members(record, |key, value| {
        if unescape(key) != PROPERTIES {
            add(key, value);
        }
        true
    });
    if out.is_empty() { "{}".to_owned() } else { out + "}" }
}

/// Whether a record has a value at this path.
fn has_member(record: &str, path: &[String]) -> bool {
    let found =
        path.iter().try_fold(record, |object, name| last_member(object, name).filter(|_| object.starts_with('{')));
    found.is_some_and(|value| value != "null")
}

fn strip_properties(path: &[String]) -> &[String] {
    match path {
        [first, rest @ ..] if first == PROPERTIES && !rest.is_empty() => rest,
        path => path,
    }
}

/// Returns the path at which a field is assigned: where the record has it, else among the properties if the record has
/// such an object and the field is not a column.
fn place(record: &str, path: &[String]) -> Vec<String> {
    let inner = last_member(record, PROPERTIES).filter(|inner| inner.starts_with('{'));
    let Some(first) = path.first() else { return vec![] };
    let is_explicit = first == PROPERTIES && path.len() > 1;
    match inner {
        // The fields of a record without this object are its properties.
        None => strip_properties(path).to_vec(),
        Some(_) if is_explicit => path.to_vec(),
        Some(_) if last_member(record, first).is_some() || COLUMNS.contains(&first.as_str()) => path.to_vec(),
        Some(_) => [&[PROPERTIES.to_owned()], path].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(patch: &str, record: &str) -> Result<String, String> {
        Patch::parse(patch).unwrap().apply(&[record]).unwrap().remove(0)
    }

    #[test]
    fn fields_are_assigned_where_the_record_has_them() {
        for (patch, record, expected) in [
            ("set amount = try_cast(amount as double)", r#"{"a":1, "amount":"12.50"}"#, r#"{"a":1,"amount":12.5}"#),
            ("amount = cast(amount as double)", r#"{"amount":"12"}"#, r#"{"amount":12}"#),
            (
                "set amount = 1",
                r#"{"event_type":"x","properties":{"amount":"n","b":{}}}"#,
                r#"{"event_type":"x","properties":{"amount":1,"b":{}}}"#,
            ),
            (
                "set event_type = 'order', n = 1",
                r#"{"properties":{}}"#,
                r#"{"properties":{"n":1},"event_type":"order"}"#,
            ),
            ("set a = b, b = a", r#"{"a":[1.50],"b":{"x":"\u00e9"}}"#, r#"{"a":{"x":"\u00e9"},"b":[1.50]}"#),
            ("set a.b.c = true", r#"{"a":{"x":1}}"#, r#"{"a":{"x":1,"b":{"c":true}}}"#),
            ("set properties.a = 'x'", r#"{"a":1}"#, r#"{"a":"x"}"#),
            ("set a = null", r#"{"a":1,"b":2}"#, r#"{"b":2}"#),
            ("set a = null", r#"{"a":1}"#, "{}"),
            ("set amount = try_cast(amount as double)", r#"{"amount":"n/a"}"#, "{}"),
            ("set \"a b\" = coalesce(x, y)", r#"{"y":"z\n"}"#, r#"{"y":"z\n","a b":"z\n"}"#),
            ("set = 1", r#"{"set":0}"#, r#"{"set":1}"#),
        ] {
            assert_eq!(patched(patch, record).as_deref(), Ok(expected), "{patch}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_evaluated_is_reported_for_its_record_alone() {
        let mut patch = Patch::parse("set a = b * 2").unwrap();
        let found = patch.apply(&[r#"{"b":"x"}"#, r#"{"b":2}"#, r#"{"b":1e308}"#]).unwrap();
        assert_eq!(found[0], Err("--patch: b: expected a number, found \"x\"".to_owned()));
        assert_eq!(found[1].as_deref(), Ok(r#"{"b":2,"a":4}"#));
        assert!(found[2].as_ref().is_err_and(|why| why.contains("found inf")), "{:?}", found[2]);
    }

    #[test]
    fn a_patch_loses_values_only_if_a_name_without_a_value_removes_a_field() {
        let loss = |text: &str, records: &[&str]| {
            let mut patch = Patch::parse(text).unwrap();
            patch.examine(records).unwrap();
            (patch.may_lose(), patch.loss().is_some())
        };
        let records = [r#"{"temp":"20"}"#, r#"{"properties":{"temp":"21","x":{"y":1}}}"#];
        for (text, expected) in [
            ("set temp = tmp", (true, true)),
            ("set temp = try_cast(tmp as double)", (true, true)),
            ("set x.y = tmp", (true, true)),
            ("set properties.temp = tmp", (true, true)),
            ("set other = tmp", (true, false)),
            ("set temp = try_cast(temp as boolean)", (true, false)),
            ("set temp = try_cast(properties.temp as boolean)", (true, false)),
            ("set temp = null", (false, false)),
            ("set temp = coalesce(tmp, temp)", (false, false)),
            ("set temp = cast(temp as double)", (false, false)),
            ("set temp = case when tmp is null then 1 end", (false, false)),
            ("set temp = x", (false, false)),
        ] {
            assert_eq!(loss(text, &records), expected, "{text}");
        }
        assert_eq!(loss("set temp = tmp", &[r#"{"temp":null}"#]), (true, false));
    }

    #[test]
    fn what_is_no_assignment_is_refused_with_its_text() {
        for text in ["set", "set amount", "amount + 1", "set a = ", "set (a, b) = 1", "set a = 1; drop"] {
            let error = Patch::parse(text).unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::Config, "{text}: {error}");
        }
    }
}
