//! What a kind of store is: the row of its table.

use super::location::Location;
use super::remote;
use super::sink::{OpenOptions, Sink};
use crate::error::{Error, Result};
use crate::kind::Kind;
use arrow::array::RecordBatch;
use std::fmt;

/// Batches read back, one after another.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

/// Tables of a store with the number of rows in each.
pub type Tables = Vec<(String, u64)>;

/// One kind of store.
pub struct Store {
    /// The word before the colon in a URI.
    pub scheme: &'static str,
    /// Other words for it.
    pub also: &'static [&'static str],
    /// One line for `--list` and the man page.
    pub about: &'static str,
    /// Whether rows are safe in it before the end of the run ([`Sink::settle`]), so that a source may say that it is done
    /// with them.
    pub acknowledges: bool,
    /// Whether a URI asks that rows of other runs are replaced at the end, which a source without an end never reaches.
    pub replaces: fn(&Location) -> bool,
    /// Options its URIs take.
    pub options: &'static [&'static str],
    /// Kinds it holds.
    pub kinds: &'static [Kind],
    /// Looks whether it could be opened for writing, without changing anything; says what opening would do first.
    pub check: fn(&Location) -> Result<Option<String>>,
    /// Opens it for writing.
    pub open: fn(&Location, &OpenOptions) -> Result<Box<dyn Sink>>,
    /// Its tables and how many rows each holds.
    pub tables: fn(&Location) -> Result<Tables>,
    /// Reads the rows of one kind, in key order, as batches of the kind's schema.
    pub read: fn(&Location, Kind) -> Result<Batches>,
}

impl Store {
    /// Whether a server holds it, named by a URL.
    pub fn is_remote(&self) -> bool {
        remote::OPTIONS.iter().all(|option| self.options.contains(option))
    }

    /// The error for rows of a kind it does not hold.
    pub fn other_kind(&self, kind: Kind, shown: impl fmt::Display) -> Error {
        let held: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        let (held, kind) = (held.join(", "), kind.name());
        Error::usage(format!("{shown}: holds rows of kind {held} only, not {kind}"))
    }

    /// The rows of the table that `?table=` names, with their kind.
    pub fn rows(&self, location: &Location) -> Result<(Kind, Batches)> {
        let named = location.options.get("table").map(String::as_str);
        let kinds = || self.kinds.iter().map(|kind| kind.table()).collect::<Vec<_>>().join(" ");
        let kind = match named {
            Some(name) => Kind::ALL.into_iter().find(|kind| kind.table() == name || kind.name() == name),
            // A lake holds one kind; a database says which of its tables is meant.
            None => match (self.tables)(location)?.as_slice() {
                [(name, _)] => Kind::ALL.into_iter().find(|kind| kind.table() == name),
                _ => return Err(Error::usage(format!("{location}: say which table: ?table=NAME: {}", kinds()))),
            },
        };
        let kind = kind.ok_or_else(|| Error::usage(format!("{location}: no such table: {}", kinds())))?;
        if !self.kinds.contains(&kind) {
            return Err(self.other_kind(kind, location));
        }
        Ok((kind, (self.read)(location, kind)?))
    }
}
