//! `?mode=replace`: which days a run may replace.
//!
//! A day is replaced as a whole, so a run that read a part of its rows would lose the rest. Before anything is replaced, each
//! day is compared with what the run brings: it may not hold fewer rows than before, nor may it have held rows of an origin
//! that the run has not read. Kinds without an origin are judged by their keys. `shrink=ok` allows both.
//!
//! Of the files that are there only the columns that are compared are read, a batch at a time.

use crate::error::{Error, ErrorKind, Result};
use crate::format::jsonl::Objects;
use crate::kind::Kind;
use crate::store::lake::metric::KEYS;
use crate::store::lake::read::Day;
use crate::store::rows;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Schema};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// What a run has read, as far as days are judged by it.
#[derive(Default)]
pub struct Brought {
    origins: HashSet<String>,
    /// Digests of the keys of rows, for kinds without an origin.
    keys: HashSet<u128>,
}

/// A day that a run may not replace.
#[derive(Debug, PartialEq, Eq)]
pub struct Loss {
    day: String,
    rows_before: u64,
    rows_after: u64,
    /// The first origin or key of the day that the run does not bring.
    foreign: Option<String>,
}

/// The column that says where the rows of a kind come from.
fn origin_column(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Event | Kind::Late => Some("origin"),
        Kind::Dead => Some("source_topic"),
        Kind::Metric | Kind::Alert => None,
    }
}

impl Brought {
    /// Takes note of rows of the run.
    pub fn take(&mut self, kind: Kind, batch: &RecordBatch) -> Result<()> {
        match origin_column(kind) {
            Some(column) => Origins::of(rows::column(batch, column)?)?.each(|origin| {
                if !self.origins.contains(origin) {
                    self.origins.insert(origin.to_owned());
                }
            }),
            None => self.keys.extend(rows::each_key(kind, batch)?),
        }
        if self.keys.len() > KEYS {
            let message =
                format!("parquet: more than {KEYS} keys in one run with mode=replace: it has to hold them all");
            return Err(Error::new(ErrorKind::Io, message));
        }
        Ok(())
    }

    /// Takes note of an origin that the source has read, whether or not it brings rows.
    pub fn take_origin(&mut self, origin: &str) {
        if !self.origins.contains(origin) {
            self.origins.insert(origin.to_owned());
        }
    }

    /// What a day would lose if the run replaced it by `rows_after` rows.
    pub fn judge(&self, kind: Kind, day: &Day, rows_after: u64) -> Result<Option<Loss>> {
        let rows_before = day.rows()?;
        let columns = match origin_column(kind) {
            Some(column) => vec![column],
            None => rows::key_columns(kind).to_vec(),
        };
        let mut foreign = None;
        for batch in day.columns(kind, &columns)? {
            foreign = self.foreign(kind, &batch?)?;
            if foreign.is_some() {
                break;
            }
        }
        let loses = rows_after < rows_before || foreign.is_some();
        Ok(loses.then(|| Loss { day: day.name().to_owned(), rows_before, rows_after, foreign }))
    }

    /// The first origin or key of a batch that the run does not bring.
    fn foreign(&self, kind: Kind, batch: &RecordBatch) -> Result<Option<String>> {
        if let Some(column) = origin_column(kind) {
            let mut first = None;
            Origins::of(rows::column(batch, column)?)?.each(|origin| {
                if first.is_none() && !self.origins.contains(origin) {
                    first = Some(format!("rows of {origin}"));
                }
            });
            return Ok(first);
        }
        let foreign = rows::each_key(kind, batch)?.into_iter().position(|key| !self.keys.contains(&key));
        let Some(row) = foreign else { return Ok(None) };
        let mut text = "the row ".to_owned();
        // Some columns of a file are of no kind; as columns of one their JSON is no text.
        let schema = Schema::new_with_metadata(batch.schema().fields().clone(), kind.schema().metadata().clone());
        Objects::try_new(&batch.clone().with_schema(Arc::new(schema))?)?.write(row, &mut text);
        Ok(Some(text))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { day, rows_before, rows_after, foreign } = self;
        write!(f, "nothing was replaced: {day} holds {rows_before} rows and would hold {rows_after}")?;
        if let Some(foreign) = foreign {
            write!(f, "; it holds {foreign}, which this run does not bring")?;
        }
        f.write_str(" (shrink=ok replaces it all the same)")
    }
}

/// The origins of the rows of a batch.
enum Origins<'a> {
    Coded(&'a [i32], &'a ArrayRef),
    Plain(&'a ArrayRef),
}

impl<'a> Origins<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self> {
        match column.as_dictionary_opt::<Int32Type>() {
            Some(coded) if coded.values().as_string_opt::<i32>().is_some() => {
                Ok(Self::Coded(coded.keys().values(), coded.values()))
            }
            None if column.as_string_opt::<i32>().is_some() => Ok(Self::Plain(column)),
            _ => Err(Error::broken("a column of origins is no text")),
        }
    }

    /// Calls `see` for each origin, once for each value of a dictionary that a row has.
    fn each(&self, mut see: impl FnMut(&str)) {
        match self {
            Self::Plain(column) => column.as_string::<i32>().iter().flatten().for_each(see),
            Self::Coded(keys, values) => {
                let values = values.as_string::<i32>();
                let mut is_used = vec![false; values.len()];
                for key in *keys {
                    // A null has a key as well, which may be any number.
                    if let Some(used) = usize::try_from(*key).ok().and_then(|key| is_used.get_mut(key)) {
                        *used = true;
                    }
                }
                (0..values.len()).filter(|value| is_used[*value]).for_each(|value| see(values.value(value)));
            }
        }
    }
}
