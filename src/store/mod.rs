//! Stores: where rows end up, and where a view reads them back.
//!
//! One contract for all, shaped for exactly-once: rows are written, [`Sink::prepare`] makes those of an epoch durable,
//! [`Sink::commit`] applies them, and can be repeated. A store whose rows are guarded keys (SQL) may apply earlier:
//! a replay converges. To add a store: one file, one row in [`ALL`].

pub mod cells;
pub mod durable;
pub mod guard;
pub mod nested;
pub mod remote;
pub mod repeat;
pub mod room;
pub mod rows;

use crate::console::Console;
use crate::counts::SinkCounts;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::dead::Fault;
use crate::metrics::Up;
use crate::secret;
use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Batches read back, one after another.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

/// What a URI of a store says after the scheme: `sqlite:PATH?OPTION=VALUE&…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The word before the colon, as it was given.
    pub scheme: String,
    /// Whether `//` stood behind it.
    pub slashes: bool,
    /// What stands between the scheme and the options.
    pub path: String,
    /// The options; an unknown one is exit 2 and names what exists.
    pub options: BTreeMap<String, String>,
}

impl Location {
    /// Refuses options that are not among `known`.
    pub fn check_options(&self, scheme: &str, known: &[&str]) -> Result<()> {
        match self.options.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) if known.is_empty() => Err(Error::usage(format!("{scheme}: takes no options, not '{name}'"))),
            Some(name) => Err(Error::usage(format!("{scheme}: unknown option '{name}': one of {}", known.join(" ")))),
        }
    }
}

/// As it was given, but for its options and a password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, if self.slashes { "//" } else { "" })?;
        let path = secret::written(&self.path);
        let (who, rest) = path.rsplit_once('@').filter(|_| self.slashes).unwrap_or(("", &path));
        match who.split_once(':') {
            Some((user, _)) => write!(f, "{}:***@{}", secret::named(user), secret::named(rest)),
            None => f.write_str(&secret::named(&path)),
        }
    }
}

/// The identity of a checkpoint's epoch: run, then number within the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch {
    /// The run that made it.
    pub run: u64,
    /// Its number in that run, from 1.
    pub number: u64,
}

/// A row the store refused, with the reason.
pub struct Refused {
    /// Index of the row in the batch that was written.
    pub row: usize,
    /// Why.
    pub fault: Fault,
}

/// One open output of one run. Dropped without [`Sink::finish`] it leaves nothing that looks whole; rows that a store
/// with guarded keys has applied already stay: they are right, and a replay converges.
pub trait Sink {
    /// Takes rows of `kind`; rows the store cannot hold come back and become dead letters. They are counted as `dead`:
    /// a tool without a dead-letter output counts them as `dropped`.
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Refused>>;

    /// Makes every row written so far safe, where the store says [`Store::acknowledges`].
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Does what is due by the clock alone, though nothing is written.
    fn tick(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes every row written so far durable under `epoch`, without a reader seeing half of them.
    fn prepare(&mut self, epoch: Epoch) -> Result<()>;

    /// Applies what was prepared for `epoch`; a second call changes nothing.
    fn commit(&mut self, epoch: Epoch) -> Result<()>;

    /// The last epoch committed here by the pipeline of this sink, if any.
    fn committed(&mut self) -> Result<Option<Epoch>>;

    /// What happened to the rows so far; the law of counts holds after every call.
    fn counts(&self) -> SinkCounts;

    /// The proven end: makes durable and visible whatever no epoch has committed.
    fn finish(self: Box<Self>) -> Result<Outcome>;

    /// The proven end of a source that was stopped before its own end: a store that replaces the rows of other runs
    /// ([`Store::replaces`]) replaces none.
    fn finish_stopped(self: Box<Self>) -> Result<Outcome> {
        self.finish()
    }
}

/// What a finished sink has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What happened to the rows.
    pub counts: SinkCounts,
    /// One line for the summary beyond the counts (files new or replaced, rows of another run replaced), if any.
    pub remark: Option<String>,
    /// Lines that are printed even where `-q` leaves the summary out.
    pub notices: Vec<Notice>,
}

/// A line about rows that a store replaced or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The line, without the name of the output.
    pub text: String,
    /// Whether it makes the verdict of the run 1.
    pub fails: bool,
}

/// Tables of a store with the number of rows in each.
pub type Tables = Vec<(String, u64)>;

/// How a sink is opened.
#[derive(Clone)]
pub struct OpenOptions {
    /// Says whether the store's server is there.
    pub up: Up,
    /// Name of the pipeline: the key of its epochs.
    pub pipeline: String,
    /// Name of this run: tells its rows from those of other runs.
    pub run: String,
    /// Whether epochs are committed here: what a store publishes early then waits for its commit.
    pub epochs: bool,
    /// The run's clock (µs), for times of writing and the age of a file.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// The tool's voice, for what a store has to say before it ends: a server that is away, and back.
    pub console: Console,
}

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
        Ok((kind, (self.read)(location, kind)?))
    }
}

/// The store whose scheme is `scheme`.
pub fn by_scheme(scheme: &str) -> Option<&'static Store> {
    ALL.iter().copied().find(|store| store.scheme == scheme || store.also.contains(&scheme))
}

mod lake;
mod postgres;
mod redis;
mod sqlite;

/// Every store: adding one is one file and one row here.
pub const ALL: &[&Store] = &[&sqlite::STORE, &postgres::STORE, &redis::STORE, &lake::STORE];

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod sample;
