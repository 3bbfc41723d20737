//! `columns=auto`: properties of events as typed columns.
//!
//! The first rows of a file decide which properties get a column, and its type: the type of most of their values.
//! A value stays in `properties` if its column has another type, if the column could not return a value that is equal
//! to it (integers beyond 64 bits, numbers with more digits than a double has, text with a lone surrogate, `null`), or
//! if the row has its name twice. [`crate::format::properties`] reads the columns back.

use super::table_columns::{TableColumn, TableColumns};
use crate::error::Result;
use crate::format::properties::property_field;
use crate::format::value_type::{TypeCounts, ValueBuilder, ValueType};
use crate::json::predictor::{KeyPredictor, UNMARKED};
use crate::json::text::{is_text, unescape};
use crate::json::walk::predicted_members;
use crate::kind::event::{COLUMNS, RAW, RAW_BASE64, column};
use crate::kind::extended;
use arrow::array::{Array, AsArray, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Maximum number of columns: those of the properties that most rows have.
const COLUMNS_MAX: usize = 256;
/// The column that readers of a lake make of the names of its directories.
const DATE: &str = "date";

/// The column of a property.
struct ChosenColumn {
    name: String,
    kind: ValueType,
    /// The number of values that it holds.
    values: u32,
    /// Whether some of them were written as integers.
    integers: bool,
}

impl ChosenColumn {
    fn new(name: String, counts: TypeCounts) -> Option<Self> {
        let (kind, values) = counts.most()?;
        Some(Self { name, kind, values, integers: counts.has_integers() })
    }

    fn field(&self) -> Field {
        property_field(&self.name, self.kind.data_type(), self.kind == ValueType::Double && self.integers)
    }
}

/// The columns of the properties of a file.
pub struct PropertyColumns {
    /// The schema of the file.
    schema: SchemaRef,
    types: Vec<ValueType>,
    /// The index in `types` of each name.
    index: HashMap<String, u32>,
    predictor: KeyPredictor,
}

impl PropertyColumns {
    /// Chooses the columns by the first rows of a file whose schema without these columns is `schema`.
    pub fn choose(schema: &SchemaRef, sample: &[RecordBatch]) -> Self {
        let mut chosen = by_values(sample);
        let mut taken = taken(schema);
        chosen.retain(|column| taken.insert(column.name.to_lowercase()));
        chosen.truncate(COLUMNS_MAX);
        chosen.sort_by(|one, other| one.name.cmp(&other.name));
        let schema = extended(schema, chosen.iter().map(ChosenColumn::field));
        Self::of(schema, chosen.into_iter().map(|column| (column.name, column.kind)))
    }

    /// Takes the columns of a table, and adds columns by the first rows of a file if it may have more.
    pub fn of_table(schema: &SchemaRef, sample: &[RecordBatch], table: &TableColumns) -> Self {
        let taken = taken(schema);
        let found = by_values(sample).into_iter().filter(|column| !taken.contains(&column.name.to_lowercase()));
        let columns = table.extend(found.map(|column| (column.name, column.kind)));
        let schema = extended(schema, columns.iter().map(TableColumn::field));
        Self::of(schema, columns.into_iter().map(|column| (column.name, column.kind)))
    }

    fn of(schema: SchemaRef, columns: impl Iterator<Item = (String, ValueType)>) -> Self {
        let (mut types, mut index) = (vec![], HashMap::new());
        for ((name, kind), at) in columns.zip(0..) {
            types.push(kind);
            index.insert(name, at);
        }
        Self { schema, types, index, predictor: KeyPredictor::default() }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Moves the properties that have a column into it.
    pub fn split(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let objects = properties(batch);
        let mut builders: Vec<ValueBuilder> = self.types.iter().map(|kind| ValueBuilder::new(*kind)).collect();
        let mut rest = StringBuilder::with_capacity(objects.len(), 0);
        let (mut members, mut counts, mut text) = (vec![], vec![0u32; self.types.len()], String::new());
        for object in objects {
            members.clear();
            counts.fill(0);
            let index = &self.index;
            let meaning = |key| index.get(&*unescape(key)).copied().filter(|_| is_text(key)).unwrap_or(UNMARKED);
            predicted_members(object.unwrap_or_default(), &mut self.predictor, meaning, |member| {
                if let Some(count) = counts.get_mut(member.mark as usize) {
                    *count += 1;
                }
                members.push(member);
                true
            });
            text.clear();
            text.push('{');
            for member in &members {
                let place = member.mark as usize;
                let is_single = counts.get(place) == Some(&1);
                if let Some(builder) = builders.get_mut(place).filter(|_| is_single)
                    && builder.append(member.value())
                {
                    continue;
                }
                text.push_str(if text.len() == 1 { "\"" } else { ",\"" });
                text.extend([member.key(), "\":", member.value()]);
            }
            text.push('}');
            rest.append_value(&text);
            builders.iter_mut().for_each(ValueBuilder::end_row);
        }
        let mut columns = batch.columns().to_vec();
        columns[column::PROPERTIES] = Arc::new(rest.finish());
        columns.extend(builders.into_iter().map(ValueBuilder::finish));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// Returns the names that the column of a property must not have, in lower case: DuckDB and Spark find a column by its
/// name in any case.
fn taken(schema: &Schema) -> HashSet<String> {
    let mut taken: HashSet<String> = schema.fields().iter().map(|field| field.name().to_lowercase()).collect();
    taken.extend(COLUMNS.iter().chain(&[RAW, RAW_BASE64, DATE, ""]).map(|name| (*name).to_owned()));
    taken
}

/// Returns the properties of rows with the types of their columns, those with the most values first.
fn by_values(sample: &[RecordBatch]) -> Vec<ChosenColumn> {
    let mut found: BTreeMap<String, TypeCounts> = BTreeMap::new();
    let mut predictor = KeyPredictor::default();
    for object in sample.iter().flat_map(|batch| properties(batch).iter().flatten()) {
        predicted_members(
            object,
            &mut predictor,
            |_| UNMARKED,
            |member| {
                // A name that is not text stays as it is written.
                if !is_text(member.key()) {
                    return true;
                }
                let name = unescape(member.key());
                match found.get_mut(&*name) {
                    Some(counts) => counts.add(member.value()),
                    None => found.entry(name.into_owned()).or_default().add(member.value()),
                }
                true
            },
        );
    }
    let mut chosen: Vec<ChosenColumn> =
        found.into_iter().filter_map(|(name, counts)| ChosenColumn::new(name, counts)).collect();
    chosen.sort_by_key(|column| Reverse(column.values));
    chosen
}

fn properties(batch: &RecordBatch) -> &StringArray {
    batch.column(column::PROPERTIES).as_string()
}
