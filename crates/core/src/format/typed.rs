//! Types for the JSON values of selected columns in formats whose columns have types (Parquet, Arrow).
//!
//! A column of evt-view `--columns` has the JSON values of a property. The first rows of a file decide its type: the
//! narrowest that holds all their values, else it stays JSON. A later value that the type cannot hold ends the run,
//! because the file has no other place for it.

use super::definition::{EncodeOptions, Encoder, MakeEncoder};
use super::first_rows::FirstRows;
use super::value_type::{TypeCounts, ValueBuilder, ValueType};
use crate::error::{Error, Result};
use crate::kind::{SELECTION_KEY, is_json};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::sync::Arc;

/// Makes the encoder of `open`, with types for the JSON values of a selection.
pub fn encoder(schema: &SchemaRef, options: &EncodeOptions, open: MakeEncoder) -> Result<Box<dyn Encoder>> {
    let is_selection = schema.metadata().contains_key(SELECTION_KEY);
    if !is_selection || !schema.fields().iter().any(|field| is_json(field)) {
        return open(schema, options);
    }
    // Whether these columns can be written is known before the first rows.
    open(schema, options)?;
    let state = State::Sampling(FirstRows::default());
    Ok(Box::new(Typed { schema: schema.clone(), options: options.clone(), open, state }))
}

struct Typed {
    schema: SchemaRef,
    options: EncodeOptions,
    open: MakeEncoder,
    state: State,
}

enum State {
    /// Rows wait until there are enough of them.
    Sampling(FirstRows),
    Writing {
        columns: TypedColumns,
        encoder: Box<dyn Encoder>,
    },
}

impl Typed {
    /// Decides about the types, if that is still to be done, and writes the rows that waited.
    fn decide(&mut self, out: &mut Vec<u8>) -> Result<&mut Box<dyn Encoder>> {
        if let State::Sampling(sample) = &mut self.state {
            let sample = std::mem::take(sample);
            let columns = TypedColumns::choose(&self.schema, &sample.deciding());
            let mut encoder = (self.open)(&columns.schema, &self.options)?;
            for batch in sample.into_rows() {
                encoder.encode(&columns.apply(&batch)?, out)?;
            }
            self.state = State::Writing { columns, encoder };
        }
        match &mut self.state {
            State::Writing { encoder, .. } => Ok(encoder),
            State::Sampling(_) => Err(Error::broken("types that are decided")),
        }
    }
}

impl Encoder for Typed {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        match &mut self.state {
            State::Writing { columns, encoder } => encoder.encode(&columns.apply(batch)?, out),
            State::Sampling(sample) => match sample.push(batch) {
                true => self.decide(out).map(|_| ()),
                false => Ok(()),
            },
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.decide(out)?.finish(out)
    }
}

/// The columns of a selection with their types.
struct TypedColumns {
    schema: SchemaRef,
    /// The type of each column; `None` if it stays as it is.
    types: Vec<Option<ValueType>>,
}

impl TypedColumns {
    fn choose(schema: &SchemaRef, rows: &[RecordBatch]) -> Self {
        let type_of = |(at, field): (usize, &Arc<Field>)| {
            let mut counts = TypeCounts::default();
            let mut values = 0;
            for value in rows.iter().filter(|_| is_json(field)).flat_map(|batch| texts(batch.column(at))).flatten() {
                counts.add(value);
                values += 1;
            }
            counts.most().filter(|(_, held)| *held == values).map(|(kind, _)| kind)
        };
        let types: Vec<Option<ValueType>> = schema.fields().iter().enumerate().map(type_of).collect();
        let field = |(field, kind): (&Arc<Field>, &Option<ValueType>)| match kind {
            Some(kind) => Arc::new(Field::new(field.name(), kind.data_type(), true)),
            None => field.clone(),
        };
        let fields = schema.fields().iter().zip(&types).map(field).collect();
        Self { schema: Arc::new(Schema { fields, ..Schema::clone(schema) }), types }
    }

    /// Returns rows with typed columns. Errors: exit status 65 if a value has another type.
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![];
        for ((array, kind), field) in batch.columns().iter().zip(&self.types).zip(self.schema.fields()) {
            let Some(kind) = kind else {
                columns.push(array.clone());
                continue;
            };
            let mut builder = ValueBuilder::new(*kind);
            for value in texts(array) {
                if let Some(value) = value.filter(|value| !builder.append(value)) {
                    let (name, expected, found) =
                        (field.name(), kind.name(), value.chars().take(40).collect::<String>());
                    return Err(Error::corrupt(format!(
                        "column {name}: expected {expected}, like the first rows of the file, found {found}; a column of \
                         --let NAME='cast({name} as text)' holds all values"
                    )));
                }
                builder.end_row();
            }
            columns.push(builder.finish());
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

fn texts(array: &ArrayRef) -> impl Iterator<Item = Option<&str>> {
    array.as_string_opt::<i32>().into_iter().flat_map(StringArray::iter)
}
