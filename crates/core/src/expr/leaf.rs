//! The leaves of all expressions of one spec: each distinct pair of a column or path and a required type, once.
//!
//! One walk per row over the properties serves all leaves: the names that they read form a small tree ([`PathStep`]),
//! level by level as the names nest.

use super::node::{PathKey, path_text};
use super::value::{TextCache, ValueKind};
use crate::error::Result;
use arrow::datatypes::{DataType, SchemaRef};
use std::sync::Arc;

/// Columns with a JSON object of the values that have no column of their own: an event's properties, a metric's
/// dimensions.
const OBJECTS: [&str; 2] = ["properties", "dimensions"];

/// The type that a leaf requires of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeafType {
    /// A value of this type. A value of another type is wrong, or NULL if the leaf is lenient (`try_cast`).
    Kind { kind: ValueKind, lenient: bool },
    /// Only whether there is a value.
    Presence,
}

/// The source of a leaf's value: a column, or a path in the object column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Index of a column, and its own type.
    Column(usize, ValueKind),
    /// Index of a path into the object column, and its steps; the first is a member.
    Path(usize, Vec<PathKey>),
}

/// One value per row that some expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) source: Source,
    pub(crate) leaf_type: LeafType,
    /// The name as first written.
    pub(super) name: String,
}

/// A name or position at one level of the object, with the steps inside its value. At the top level all steps are
/// names.
#[derive(Clone, Debug)]
pub(super) struct PathStep {
    pub(super) key: PathKey,
    pub(super) path: Option<usize>,
    pub(super) below: Vec<PathStep>,
}

/// The leaves of all expressions of one spec, over streams of one schema.
#[derive(Clone, Debug)]
pub struct Leaves {
    schema: SchemaRef,
    object: Option<usize>,
    pub(super) leaves: Vec<Arc<Leaf>>,
    pub(super) steps: Vec<PathStep>,
    pub(super) paths: usize,
    /// The leaves that some expression reads as decimals.
    decimals: Vec<usize>,
    pub(super) made: TextCache,
}

/// Returns the type of values of a column; `None` for lists and maps.
fn kind_of(data_type: &DataType) -> Option<ValueKind> {
    match data_type {
        DataType::Utf8 | DataType::Binary | DataType::FixedSizeBinary(16) => Some(ValueKind::Text),
        DataType::Dictionary(_, value) => kind_of(value),
        DataType::Timestamp(..) => Some(ValueKind::Time),
        DataType::Float64 | DataType::Int64 | DataType::Int32 => Some(ValueKind::Number),
        DataType::Boolean => Some(ValueKind::Bool),
        _ => None,
    }
}

/// The columns and properties that leaves read only as text: a bit for each of the first 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextBits {
    /// The columns.
    pub columns: u32,
    /// The properties, in the order of [`Leaves::properties`].
    pub properties: u32,
}

impl PathStep {
    /// Returns the name of a member; an element has none.
    pub(super) fn name(&self) -> &str {
        if let PathKey::Member(name) = &self.key { name } else { "" }
    }
}

impl Leaves {
    /// Creates an empty set; `columns` is the schema of the batches to come.
    pub fn new(columns: &SchemaRef) -> Self {
        let object = OBJECTS.iter().find_map(|name| columns.index_of(name).ok());
        Self {
            schema: columns.clone(),
            object,
            leaves: vec![],
            steps: vec![],
            paths: 0,
            decimals: vec![],
            made: TextCache::default(),
        }
    }

    /// Whether no expression reads anything.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Describes a leaf in one line: its name, whether it is a column or a property, and the required type.
    pub(super) fn describe(&self, leaf: usize) -> String {
        let leaf = &self.leaves[leaf];
        let place = match &leaf.source {
            Source::Column(..) => "column",
            Source::Path(..) => "property",
        };
        let asked = match leaf.leaf_type {
            LeafType::Presence => "only whether it is NULL".to_owned(),
            LeafType::Kind { kind, lenient: false } => format!("as {}", kind.name()),
            LeafType::Kind { kind, lenient: true } => format!("as {}, NULL if the cast fails", kind.name()),
        };
        format!("{}: {place}, {asked}", leaf.name)
    }

    /// Returns a bit for each of the first 32 columns that a leaf reads.
    pub fn columns(&self) -> u32 {
        let bit = |leaf: &Arc<Leaf>| match leaf.source {
            Source::Column(column, _) => u32::try_from(column).ok().and_then(|column| 1u32.checked_shl(column)),
            Source::Path(..) => None,
        };
        self.leaves.iter().filter_map(bit).fold(0, |bits, bit| bits | bit)
    }

    /// Returns the names of the properties that are read, at the top level.
    pub fn properties(&self) -> Vec<String> {
        self.steps.iter().map(|step| step.name().to_owned()).collect()
    }

    /// Returns the columns and properties that are read as text. Those with few values are best built as dictionaries.
    pub fn texts(&self) -> TextBits {
        let bit = |index: usize| u32::try_from(index).ok().and_then(|index| 1u32.checked_shl(index)).unwrap_or(0);
        let is_text =
            |leaf: &Arc<Leaf>| !matches!(leaf.leaf_type, LeafType::Kind { kind, .. } if kind != ValueKind::Text);
        let (mut columns, mut others) = (0, 0);
        let mut properties = 0;
        for leaf in &self.leaves {
            match &leaf.source {
                Source::Column(column, _) if is_text(leaf) => columns |= bit(*column),
                Source::Column(column, _) => others |= bit(*column),
                Source::Path(..) => {}
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            let of_step = |leaf: &&Arc<Leaf>| matches!(&leaf.source, Source::Path(path, _) if Some(*path) == step.path);
            if step.below.is_empty() && self.leaves.iter().filter(of_step).all(is_text) {
                properties |= bit(index);
            }
        }
        TextBits { columns: columns & !others, properties }
    }

    /// Returns the index of the object column, if the stream has one.
    pub(super) fn object(&self) -> Option<usize> {
        self.object
    }

    /// Resolves a name to a column or path, or returns why it is neither.
    pub(super) fn resolve(&self, steps: &[PathKey]) -> Result<ResolvedName, String> {
        let (Some(PathKey::Member(first)), rest) = (steps.first(), steps.get(1..).unwrap_or(&[])) else {
            return Err("a name without parts".to_owned());
        };
        let object = self.object.map(|column| self.schema.field(column).name());
        match rest.first() {
            Some(PathKey::Member(_)) if object == Some(first) => return Ok(ResolvedName::Path(rest.to_vec())),
            Some(PathKey::Element(_)) if object == Some(first) => {
                return Err(format!("{first} is an object, not an array"));
            }
            _ => {}
        }
        match self.schema.index_of(first) {
            Ok(column) if rest.is_empty() => {
                let data_type = self.schema.field(column).data_type();
                let kind = kind_of(data_type).ok_or(format!("{first} is a list, which expressions cannot read"))?;
                Ok(ResolvedName::Column(column, kind))
            }
            Ok(_) => Err(match object {
                Some(object) => {
                    format!("{first} is a column without members; use {object}.{}", path_text(steps))
                }
                None => format!("{first} is a column without members"),
            }),
            Err(_) if object.is_some() => Ok(ResolvedName::Path(steps.to_vec())),
            Err(_) => Err(format!("unknown column {}; expected one of {}", path_text(steps), self.column_names())),
        }
    }

    fn column_names(&self) -> String {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the index of the leaf that reads `place` with this type; adds it if it is new.
    pub(super) fn leaf(&mut self, place: ResolvedName, leaf_type: LeafType, name: &str) -> usize {
        let source = match place {
            ResolvedName::Column(column, kind) => Source::Column(column, kind),
            ResolvedName::Path(steps) => Source::Path(self.path(&steps), steps),
        };
        match self.leaves.iter().position(|leaf| leaf.source == source && leaf.leaf_type == leaf_type) {
            Some(index) => index,
            None => {
                self.leaves.push(Arc::new(Leaf { source, leaf_type, name: name.to_owned() }));
                self.leaves.len() - 1
            }
        }
    }

    /// Returns the leaf with an index.
    pub(crate) fn get(&self, leaf: usize) -> &Leaf {
        &self.leaves[leaf]
    }

    /// Makes batches keep the decimals of a leaf.
    pub(super) fn keep_decimals(&mut self, leaf: usize) {
        self.decimals.push(leaf);
    }

    /// Whether batches keep the decimals of a leaf.
    pub(super) fn has_decimals(&self, leaf: usize) -> bool {
        self.decimals.contains(&leaf)
    }

    fn path(&mut self, path: &[PathKey]) -> usize {
        path_in(&mut self.steps, path, &mut self.paths)
    }
}

/// Returns the index of `path` below `steps`; adds it if it is new.
fn path_in(steps: &mut Vec<PathStep>, path: &[PathKey], count: &mut usize) -> usize {
    let Some((key, rest)) = path.split_first() else { return *count };
    let at = steps.iter().position(|step| step.key == *key).unwrap_or_else(|| {
        steps.push(PathStep { key: key.clone(), path: None, below: vec![] });
        steps.len() - 1
    });
    let step = &mut steps[at];
    if !rest.is_empty() {
        return path_in(&mut step.below, rest, count);
    }
    *step.path.get_or_insert_with(|| {
        *count += 1;
        *count - 1
    })
}

/// The column or the path to which a name resolves.
#[derive(Clone, Debug)]
pub(super) enum ResolvedName {
    /// Index of a column, and its type.
    Column(usize, ValueKind),
    /// A path into the object column.
    Path(Vec<PathKey>),
}
