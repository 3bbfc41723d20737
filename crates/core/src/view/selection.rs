//! Selects columns of a stream, and values below them, in the order given.
//!
//! A name is a column if there is one, else a path into the object column (`properties`, a metric's `dimensions`), as
//! in expressions: `country`, `repo.name`, `labels[1].name`, `properties.country`, `"a.b"` for a name with a dot or
//! comma. A path yields a column of JSON values as received, NULL if a row has none. If a name occurs twice in an
//! object, the last value counts. `*` stands for all fields of the records, from the header of CSV or the first rows.

use crate::error::{Error, Result};
use crate::expr::{PathKey, path_text, read_paths, value_at};
use crate::json::text::unescape;
use crate::json::walk::members;
use crate::kind::event::column;
use crate::kind::{DIMENSIONS_KEY, Kind, SELECTION_KEY, array, event, holds_json, json, metric};
use crate::parse::excerpt::brief;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// The name that stands for all fields of the records.
const ALL: &str = "*";

/// A selected name: the label of the resulting column and the path to its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// The label of the column.
    pub label: String,
    /// The steps of the path.
    path: Vec<PathKey>,
}

impl Name {
    /// Returns the name of a column, or of a property without a column.
    pub fn column(name: impl Into<String>) -> Self {
        let label = name.into();
        Self { path: vec![PathKey::Member(label.clone())], label }
    }

    /// Returns the name of a property, whatever columns there are.
    fn property(name: &str) -> Self {
        let path = [PROPERTIES, name].map(|name| PathKey::Member(name.to_owned()));
        Self { label: name.to_owned(), path: path.into() }
    }

    /// Whether it stands for all fields.
    pub fn is_all(&self) -> bool {
        self.label == ALL
    }
}

/// The flag that selects, which messages name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectionFlag {
    /// The columns that are shown.
    Columns,
    /// The column that rows are sorted by.
    Sort,
}

impl SelectionFlag {
    fn name(self) -> &'static str {
        match self {
            Self::Columns => "--columns",
            Self::Sort => "--sort",
        }
    }

    /// Returns where the name has no value, for a message: in no row, or in no row that is shown.
    fn no_row(self) -> &'static str {
        match self {
            Self::Columns => "in no row shown",
            Self::Sort => "in no row",
        }
    }

    fn error(self, message: &str) -> Error {
        Error::usage(format!("{}{message}", self.name()))
    }
}

/// The source of a selected column.
enum Chosen {
    Column(usize),
    Path {
        object: usize,
        steps: Vec<PathKey>,
        /// Whether some row had the path, even with the value null.
        is_met: bool,
    },
}

/// The fields of the rows, for a selection with `*`.
struct AllProperties {
    /// The names of the selected properties.
    known: BTreeSet<String>,
    /// The names of other fields that rows have, at most [`OTHERS_MAX`].
    others: BTreeSet<String>,
}

/// Selects columns of batches of one schema.
pub struct Selection {
    flag: SelectionFlag,
    chosen: Vec<Chosen>,
    /// Each object column with selected paths.
    objects: Vec<ObjectPaths>,
    schema: SchemaRef,
    has_rows: bool,
    /// The names that some row should have.
    named: Vec<String>,
    all: Option<AllProperties>,
}

impl Selection {
    /// Resolves `names` for batches of `schema`.
    ///
    /// Errors: exit status 2 if a column does not exist or occurs twice.
    pub fn try_new(names: &[Name], schema: &Schema, flag: SelectionFlag) -> Result<Self> {
        let mut chosen = vec![];
        let mut fields: Vec<Arc<Field>> = vec![];
        let mut labels = HashSet::new();
        for name in names {
            if !labels.insert(&name.label) {
                return Err(flag.error(&format!(": duplicate column {}", brief(&name.label))));
            }
            let one = choose(&name.path, schema, flag)?;
            fields.push(match &one {
                Chosen::Column(index) if holds_json(schema.field(*index)) => json(&name.label).into(),
                Chosen::Column(index) => schema.field(*index).clone().with_name(&name.label).into(),
                Chosen::Path { .. } => json(&name.label).into(),
            });
            chosen.push(one);
        }
        let kind = Kind::of(schema).map_or("", Kind::name);
        let mut metadata = HashMap::from([(SELECTION_KEY.to_owned(), kind.to_owned())]);
        let dimensions = schema.metadata().get_key_value(DIMENSIONS_KEY);
        metadata.extend(dimensions.map(|(key, names)| (key.clone(), names.clone())));
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let objects = ObjectPaths::of(&chosen);
        Ok(Self { flag, chosen, objects, schema, has_rows: false, named: vec![], all: None })
    }

    /// Makes it warn of these names if no row has them and, with `notes_others`, of properties of rows that are not
    /// selected.
    pub fn warning(mut self, named: Vec<String>, notes_others: bool) -> Self {
        let top = |chosen: &Chosen| match chosen {
            Chosen::Path { steps, .. } => steps.first().map(|step| path_text(std::slice::from_ref(step))),
            Chosen::Column(_) => None,
        };
        self.named = named;
        let known = self.chosen.iter().filter_map(top).collect();
        self.all = notes_others.then(|| AllProperties { known, others: BTreeSet::new() });
        self
    }

    /// Returns the schema of the selected columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Returns the selected columns of a batch.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.has_rows |= batch.num_rows() > 0;
        if let (Some(AllProperties { known, others }), Some(objects)) =
            (&mut self.all, batch.column_by_name(PROPERTIES))
        {
            for object in objects.as_string_opt::<i32>().into_iter().flatten().flatten() {
                members(object, |key, _| {
                    let name = unescape(key);
                    if !known.contains(&*name) && others.len() < OTHERS_MAX && !others.contains(&*name) {
                        others.insert(name.into_owned());
                    }
                    true
                });
            }
            let is_selected = |name: &str| self.schema.fields().find(name).is_some();
            let optional = [column::USER_ID, column::CLIENT_TIMESTAMP, column::SERVER_TIMESTAMP];
            for column in optional.into_iter().filter(|column| has_values(batch, *column)) {
                if !is_selected(event::COLUMNS[column]) {
                    others.insert(event::COLUMNS[column].to_owned());
                }
            }
        }
        let own = |chosen: &Chosen| match chosen {
            Chosen::Column(index) => batch.column(*index).clone(),
            Chosen::Path { object, .. } => batch.column(*object).clone(),
        };
        let mut columns: Vec<ArrayRef> = self.chosen.iter().map(own).collect();
        for paths in &self.objects {
            paths.read(batch.column(paths.object), &mut self.chosen, &mut columns);
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Returns messages about the names, one line each: names that no row had, and fields that `*` left out.
    pub fn warnings(&self) -> Vec<String> {
        let is_missing = |chosen: &Chosen| matches!(chosen, Chosen::Path { is_met: false, .. });
        let missing = self.chosen.iter().zip(self.schema.fields()).filter(|(chosen, _)| is_missing(chosen));
        let missing = missing.map(|(_, field)| field.name().as_str());
        let missing = missing.filter(|name| self.named.iter().any(|named| named == name)).collect::<Vec<_>>();
        let mut warnings = vec![];
        if self.has_rows && !missing.is_empty() {
            let (verb, names) = if missing.len() == 1 { ("is", "name") } else { ("are", "names") };
            let (flag, no_row) = (self.flag.name(), self.flag.no_row());
            warnings.push(format!("{flag}: {} {verb} {no_row}; check the {names}", brief(missing.join(", "))));
        }
        if let Some(AllProperties { others, .. }) = self.all.as_ref().filter(|all| !all.others.is_empty()) {
            let more = if others.len() == OTHERS_MAX { ", …" } else { "" };
            let names = others.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            warnings.push(format!(
                "--columns {ALL}: no column for {names}{more}, which the first rows do not have; name all fields in --columns"
            ));
        }
        warnings
    }
}

fn choose(path: &[PathKey], schema: &Schema, flag: SelectionFlag) -> Result<Chosen> {
    let no_name = || flag.error(": expected a name");
    let Some((PathKey::Member(first), rest)) = path.split_first() else { return Err(no_name()) };
    let named = schema.index_of(first).ok().filter(|index| holds_json(schema.field(*index)));
    let object = named.or_else(|| schema.fields().iter().position(|field| holds_json(field)));
    if let (Some(object), false) = (object, rest.is_empty())
        && schema.field(object).name() == first
    {
        return Ok(Chosen::Path { object, steps: rest.to_vec(), is_met: false });
    }
    match (schema.index_of(first), object) {
        (Ok(index), _) if rest.is_empty() => Ok(Chosen::Column(index)),
        (Ok(_), _) => {
            Err(flag.error(&format!(" {}: {} is a column without members", brief(path_text(path)), brief(first))))
        }
        (Err(_), Some(object)) => Ok(Chosen::Path { object, steps: path.to_vec(), is_met: false }),
        (Err(_), None) => {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let name = path_text(path);
            Err(flag.error(&format!(" {}: unknown column; expected one of {}", brief(name), names.join(" "))))
        }
    }
}

/// The selected paths into one object column. A walk of an object finds the first members of all of them, so that its
/// time does not depend on their number.
struct ObjectPaths {
    object: usize,
    /// The paths, by their index among the selected columns.
    paths: Vec<usize>,
    /// For each member the places in `paths` of those that begin with it.
    members: HashMap<String, Vec<usize>>,
}

impl ObjectPaths {
    /// Returns the paths of each object column.
    fn of(chosen: &[Chosen]) -> Vec<Self> {
        let mut all: Vec<Self> = vec![];
        for (index, one) in chosen.iter().enumerate() {
            let Chosen::Path { object, steps, .. } = one else { continue };
            let at = all.iter().position(|paths| paths.object == *object).unwrap_or(all.len());
            if at == all.len() {
                all.push(Self { object: *object, paths: vec![], members: HashMap::new() });
            }
            let Self { paths, members, .. } = &mut all[at];
            if let Some(PathKey::Member(name)) = steps.first() {
                members.entry(name.clone()).or_default().push(paths.len());
            }
            paths.push(index);
        }
        all
    }

    /// Writes the values at the paths of `chosen`, as received, to `columns`, and notes which paths some row has.
    fn read(&self, objects: &ArrayRef, chosen: &mut [Chosen], columns: &mut [ArrayRef]) {
        let rows = objects.len();
        let Some(objects) = objects.as_string_opt::<i32>() else {
            self.paths.iter().for_each(|path| columns[*path] = Arc::new(StringArray::new_null(rows)));
            return;
        };
        let mut builders: Vec<StringBuilder> =
            self.paths.iter().map(|_| StringBuilder::with_capacity(rows, 0)).collect();
        let mut found: Vec<Option<&str>> = vec![None; self.paths.len()];
        for object in objects {
            found.fill(None);
            members(object.filter(|object| object.starts_with('{')).unwrap_or_default(), |key, value| {
                // The last of equal names counts.
                self.members.get(&*unescape(key)).into_iter().flatten().for_each(|at| found[*at] = Some(value));
                true
            });
            for ((path, found), values) in self.paths.iter().zip(&found).zip(&mut builders) {
                let Chosen::Path { steps, is_met, .. } = &mut chosen[*path] else { continue };
                let value = match steps.split_first() {
                    Some((PathKey::Member(_), rest)) => found.and_then(|first| rest.iter().try_fold(first, value_at)),
                    _ => object.and_then(|object| steps.iter().try_fold(object, value_at)),
                };
                *is_met |= value.is_some();
                values.append_option(value.filter(|value| *value != "null"));
            }
        }
        for (path, mut values) in self.paths.iter().zip(builders) {
            columns[*path] = Arc::new(values.finish());
        }
    }
}

/// Parses names such as `a,repo.name,labels[1].name,"x.y"`.
///
/// Errors: exit status 2 if a name is empty or a quote is not closed.
pub fn parse_names(text: &str) -> Result<Vec<Name>> {
    let wrong = || Error::usage(format!("--columns {}: expected names like a,repo.name,tags[1],\"x.y\"", brief(text)));
    let paths = read_paths(text).ok_or_else(wrong)?;
    Ok(paths.into_iter().map(|path| Name { label: path_text(&path), path }).collect())
}

/// Returns the columns of events that names of `--columns` select, as bits. Errors: exit status 2 for names that do not
/// parse.
pub fn event_columns(text: &str) -> Result<u32> {
    let index = |name: &Name| event::COLUMNS.iter().position(|column| *column == name.label);
    Ok(parse_names(text)?.iter().filter_map(index).fold(0, |bits, index| bits | 1 << index))
}

/// Replaces the name `*` by the fields of the records that are not named beside it. `declared` are their names, if the
/// input declares them; `first` are the first rows.
pub fn expand(names: Vec<Name>, kind: Kind, schema: &Schema, records: &FirstRecords<'_>) -> Vec<Name> {
    let own = |name: &&Name| !name.is_all();
    let named: Vec<String> = names.iter().filter(own).map(|name| name.label.clone()).collect();
    let mut expanded = vec![];
    for name in names {
        match name.is_all() {
            true => {
                let all = if kind == Kind::Event { records.fields() } else { all_columns(schema) };
                expanded.extend(all.into_iter().filter(|name| !named.contains(&name.label)));
            }
            false => expanded.push(name),
        }
    }
    expanded
}

fn all_columns(schema: &Schema) -> Vec<Name> {
    schema.fields().iter().map(|field| Name::column(field.name())).collect()
}

/// The first records of an input, which determine the columns that `*` stands for.
pub struct FirstRecords<'a> {
    /// The first rows; `None` if there are none.
    pub rows: Option<&'a RecordBatch>,
    /// The names of all fields, if the input declares them.
    pub declared: Option<&'a [String]>,
    /// A bit for each column that records fill, if they are raw.
    pub filled: Option<u32>,
}

/// The columns that producers fill, except `properties`.
const PRODUCED: [usize; 7] = [
    column::EVENT_ID,
    column::SOURCE,
    column::EVENT_TYPE,
    column::USER_ID,
    column::CLIENT_TIMESTAMP,
    column::SERVER_TIMESTAMP,
    column::EVENT_TIME,
];

/// Whether some row has a value in a column of events.
fn has_values(rows: &RecordBatch, column: usize) -> bool {
    let column = rows.column_by_name(event::COLUMNS[column]);
    column.is_some_and(|column| column.null_count() < column.len())
}

impl FirstRecords<'_> {
    /// Returns the fields of the records: as declared, else the columns of the envelope that they have, then the
    /// properties of the first rows in order of appearance.
    fn fields(&self) -> Vec<Name> {
        let mut properties: Vec<Name> = vec![];
        if let Some(rows) = self.rows {
            each_property(rows, rows.num_rows(), |name| properties.push(Name::property(name)));
        }
        // A field with the name of a column is a property, unless a producer fills the column with it.
        let is_produced = |name: &String| PRODUCED.iter().any(|column| event::COLUMNS[*column] == name);
        let find = |name: &String| match !is_produced(name) || properties.iter().any(|one| one.label == *name) {
            true => Name::property(name),
            false => Name::column(name),
        };
        if let Some(declared) = self.declared {
            return declared.iter().map(find).collect();
        }
        let is_filled = |column: &usize| match self.filled {
            Some(filled) => filled >> column & 1 == 1,
            None => self.rows.is_some_and(|rows| has_values(rows, *column)),
        };
        let columns = PRODUCED.into_iter().filter(is_filled).map(|column| Name::column(event::COLUMNS[column]));
        let columns = Vec::from_iter(columns.filter(|name| properties.iter().all(|one| one.label != name.label)));
        let mut fields = [columns, properties].concat();
        if fields.is_empty() {
            fields.push(Name::column(PROPERTIES));
        }
        fields
    }
}

/// The fields that were defaults in all records, so that the table omits them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefaultedFields {
    /// Its `source`.
    pub source: bool,
    /// Its `event_type`: the record's fields are then shown as columns of their own.
    pub event_type: bool,
}

/// Returns the columns of a kind's table on a terminal, chosen by its first rows.
pub fn default_names(kind: Kind, first: &RecordBatch, defaulted: DefaultedFields) -> Vec<Name> {
    let names: &[&str] = match kind {
        Kind::Event => return event_names(first, defaulted),
        Kind::Late => &["event_time", "source", "event_type", "user_id", "lateness_ms", "late_for", "properties"],
        Kind::Metric => &metric::COLUMNS,
        Kind::Dead => &["failed_at", "error_type", "source_topic", "offset", "error_message", "original_payload"],
        Kind::Alert => &["at", "state", "severity", "rule", "dimensions", "value", "threshold", "reason", "summary"],
    };
    names.iter().map(|name| Name::column(*name)).collect()
}

fn event_names(first: &RecordBatch, defaulted: DefaultedFields) -> Vec<Name> {
    let shown = [
        ("event_time", has_time(first)),
        ("source", !defaulted.source),
        ("event_type", !defaulted.event_type),
        ("user_id", has_values(first, column::USER_ID)),
        ("properties", !defaulted.event_type),
    ];
    let mut names: Vec<Name> = shown.iter().filter(|(_, shown)| *shown).map(|(name, _)| Name::column(*name)).collect();
    if defaulted.event_type {
        names.extend(property_names(first));
    }
    if names.is_empty() {
        names.push(Name::column("properties"));
    }
    names
}

/// Whether some row has a time of its own, not the run's clock.
pub fn has_time(events: &RecordBatch) -> bool {
    let instants = |name: &str| array::<TimestampMicrosecondArray>(events, name);
    let (Some(times), Some(ingested), Some(server)) =
        (instants("event_time"), instants("ingested_at"), instants("server_timestamp"))
    else {
        return true;
    };
    (0..events.num_rows()).any(|row| server.is_valid(row) || times.value(row) != ingested.value(row))
}

/// The column with the fields that have no column of their own.
const PROPERTIES: &str = "properties";
/// Maximum number of fields that a warning about `*` names.
const OTHERS_MAX: usize = 8;
/// Number of rows that are scanned for the properties of a table.
const NAMED_ROWS: usize = 256;
/// Maximum number of properties with a column of their own in a table.
const NAMES_MAX: usize = 64;

/// Returns the property names of the first rows, in order of appearance, without names of envelope columns.
fn property_names(first: &RecordBatch) -> Vec<Name> {
    let mut names: Vec<Name> = vec![];
    each_property(first, NAMED_ROWS, |name| {
        if names.len() < NAMES_MAX && !event::COLUMNS.contains(&name) {
            names.push(Name::property(name));
        }
    });
    names
}

/// Calls `visit` for each name of a property in the first `limit` rows, in order of appearance.
fn each_property(rows: &RecordBatch, limit: usize, mut visit: impl FnMut(&str)) {
    let mut known: HashSet<String> = HashSet::new();
    for object in array::<StringArray>(rows, PROPERTIES).into_iter().flatten().flatten().take(limit) {
        members(object, |key, _| {
            let name = unescape(key);
            if !known.contains(&*name) {
                visit(&name);
                known.insert(name.into_owned());
            }
            true
        });
    }
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
