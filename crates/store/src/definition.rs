//! The definition of a kind of store: its row in the table of stores.

use super::correct::Corrections;
use crate::serving::OpenServing;
use crate::sink::{OpenOptions, Sink};
use crate::upkeep::Upkeep;
use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::replay::ledger::Ledger;
use evt_run::checkpoint::epoch::Batches;
use evt_run::client::Location;
use evt_run::client::outage::RetryError;
use evt_run::metrics::ServerStatus;
use std::fmt;

/// Tables beside those of rows, which the manual pages name: what evt keeps for itself.
const OWN_TABLES: [&str; 5] =
    ["checkpoint_epochs", "corrected_cells", "corrections", "late_positions", "pipeline_checkpoints"];

/// Returns the batches that `next` yields up to the end, or to the first error after which it cannot continue.
pub fn batches(mut next: impl FnMut() -> Result<Option<RecordBatch>> + 'static) -> Batches {
    let mut is_over = false;
    Box::new(std::iter::from_fn(move || {
        let batch = if is_over { Ok(None) } else { next() };
        is_over = match &batch {
            Ok(batch) => batch.is_none(),
            Err(error) => error.rows().is_none(),
        };
        batch.transpose()
    }))
}

/// Returns batches that were opened, or the error of opening them in their place.
pub fn or_error(opened: Result<Batches>) -> Batches {
    opened.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
}

/// Returns the extent of each partition of the events of a store.
pub type ReadStreamExtents = fn(&Location) -> Result<Vec<StreamExtent>>;

/// Returns a span that contains the event time of all rows; `None` if the store knows none without reading them.
pub type ReadTimeExtent = fn(&Location) -> Result<Option<Span>>;

/// Returns the instant (µs) since which a table keeps its rows; `None` if none were removed from it.
pub type ReadKeptSince = fn(&Location, Kind) -> Result<Option<i64>>;

/// Tables of a store with the number of rows in each.
pub type Tables = Vec<(String, u64)>;

/// The extent of the events of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamExtent {
    /// The origin of the partition.
    pub origin: String,
    /// Its name.
    pub partition: String,
    /// The least offset.
    pub first_offset: i64,
    /// The least stream time (µs): that of the first event.
    pub first_time: i64,
    /// The greatest stream time (µs): that of the last event.
    pub last_time: i64,
    /// The number of events.
    pub rows: u64,
}

/// A request to read rows of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadRequest {
    /// The rows.
    pub span: Span,
    /// The columns, as bits by their index in the kind's schema; others may be blank. `None`: all.
    pub columns: Option<u32>,
    /// The days of event time that are read at the same time, each by a thread; 0 and 1: one, by the calling thread.
    pub threads: usize,
}

/// The functions that read a store.
#[derive(Clone, Copy)]
pub struct StoreReader {
    /// Returns its tables with their numbers of rows.
    pub tables: fn(&Location) -> Result<Tables>,
    /// Reads the rows of one kind, in key order, as batches of the kind's schema. It may return more rows than
    /// requested.
    pub read: fn(&Location, Kind, ReadRequest) -> Result<Batches>,
    /// Returns the extent of each partition of its events, if it can hold events.
    pub stream_extents: Option<ReadStreamExtents>,
    /// Returns a span that contains the event time of all rows, if the store knows one without reading them.
    pub extent: Option<ReadTimeExtent>,
    /// Returns whether an output, given its key, has committed epochs whose rows are not visible yet. Changes nothing.
    /// `None`: rows become visible with the commit.
    pub waits: Option<fn(&Location, &str) -> Result<bool>>,
    /// Returns the instant since which the table of a kind keeps its rows. `None`: nothing removes rows by their age.
    pub kept_since: Option<ReadKeptSince>,
    /// Opens its metrics to answer evt-serve with; `None` if it has none.
    pub serving: Option<OpenServing>,
}

/// Opens the ledger of replays to read it; `None` if there is none.
pub type ReadLedger = fn(&Location) -> Result<Option<Box<dyn Ledger>>>;

/// The functions that open the metrics of a store for a correction.
#[derive(Clone, Copy)]
pub struct CorrectionStore {
    /// Opens them to correct them.
    pub open: fn(&Location, &OpenOptions) -> Result<Box<dyn Corrections>>,
    /// Opens them to compare them; creates and changes nothing.
    pub open_to_compare: fn(&Location, &OpenOptions) -> Result<Box<dyn Corrections>>,
}

/// The functions that open the ledger of replays in a store.
#[derive(Clone, Copy)]
pub struct LedgerStore {
    /// Opens it; creates it if it is missing.
    pub open: fn(&Location) -> Result<Box<dyn Ledger>>,
    /// Opens it to read it; `None` if there is none. Creates nothing.
    pub open_to_read: ReadLedger,
    /// Checks that it can be opened. Creates nothing.
    pub check: fn(&Location) -> Result<()>,
}

/// Reads the rules of evt-alert from a table; each row has a field for each column.
pub type ReadRules = fn(&Location) -> Result<Vec<serde_json::Map<String, serde_json::Value>>>;

/// When the rows of a store become visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// At the end of a run or of an epoch.
    AtEnd,
    /// At once; with a checkpoint when their epoch is complete, unless `?visible=now`.
    WithEpoch,
    /// At once; with a checkpoint too, unless `?visible=epoch`.
    AtOnce,
}

/// What the URI of a store names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A file that several outputs may write.
    File,
    /// A directory that one output writes at a time.
    Directory,
    /// A server, named by a URL.
    Server,
}

/// What a check of a store asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckScope {
    /// Whether a run could open it. The run itself finds out whether it can write rows, and retries meanwhile.
    Opening,
    /// Also whether rows could be written, for `--check`.
    Rows(RowsToWrite),
}

/// What `--check` knows of the rows that a run will write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowsToWrite {
    /// Their kind; if it is not known, rows of at least one kind must be possible.
    pub kind: Option<Kind>,
    /// Whether the run has a checkpoint, so that the store records epochs.
    pub in_epochs: bool,
    /// Whether the run corrects metrics.
    pub corrects: bool,
}

/// One kind of store.
pub struct Store {
    /// The scheme of its URIs.
    pub scheme: &'static str,
    /// Alternative schemes.
    pub also: &'static [&'static str],
    /// One line for `--list` and the man page.
    pub about: &'static str,
    /// File extensions, without the dot, with which a path without a scheme names this store.
    pub extensions: &'static [&'static str],
    /// The first bytes of such a file.
    pub magic: &'static [u8],
    /// The program that shows the tables that evt keeps for itself in it; `None` if it has none.
    pub client: Option<&'static str>,
    /// What its URIs name.
    pub medium: Medium,
    /// When its rows become visible.
    pub visibility: Visibility,
    /// Whether a URI asks to replace rows of other runs at the end, which an endless source never reaches.
    pub replaces: fn(&Location) -> bool,
    /// The options of its URIs.
    pub options: &'static [&'static str],
    /// The kinds of rows it holds.
    pub kinds: &'static [Kind],
    /// Checks that it could be opened for writing, without changing anything; returns what opening would do first.
    pub check: fn(&Location, CheckScope) -> Result<Option<String>>,
    /// Opens it for writing.
    pub open: fn(&Location, &OpenOptions) -> Result<Box<dyn Sink>>,
    /// The functions that read it.
    pub reader: StoreReader,
    /// The functions that open its metrics for a correction; `None` if they cannot be corrected.
    pub corrections: Option<CorrectionStore>,
    /// The functions that open its ledger of replays; `None` if it cannot hold one.
    pub ledger: Option<LedgerStore>,
    /// Reads rules of evt-alert from it; `None` if it cannot hold them.
    pub rules: Option<ReadRules>,
    /// The functions for its upkeep; `None` if it needs none, or does it itself.
    pub upkeep: Option<Upkeep>,
}

impl Store {
    /// Whether it is on a server.
    pub fn is_remote(&self) -> bool {
        self.medium == Medium::Server
    }

    /// Opens it with a function that tries once, as a run does at its start: if it is on a server that is unavailable,
    /// again as long as its URI allows.
    pub fn at_start<T>(&self, location: &Location, up: ServerStatus, mut open: impl FnMut() -> Result<T>) -> Result<T> {
        if !self.is_remote() {
            return open();
        }
        location.retries()?.with_metrics(up).at_start().run(|| {
            open().map_err(|error| match error.kind() {
                ErrorKind::Unavailable => {
                    RetryError::Transient(error.cause().map_or_else(|| error.to_string(), str::to_owned))
                }
                _ => RetryError::Permanent(error),
            })
        })
    }

    /// Whether rows become safe before the end of the run ([`Sink::settle`]), so that a source may commit its position.
    pub fn acknowledges(&self) -> bool {
        self.visibility != Visibility::AtEnd
    }

    /// Whether a run with a checkpoint writes rows at once rather than when their epoch is complete. Errors: exit
    /// status 2 if `?visible=` is neither `now` nor `epoch`.
    pub fn is_at_once(&self, location: &Location) -> Result<bool> {
        match location.option("visible") {
            None => Ok(self.visibility == Visibility::AtOnce),
            Some("now") => Ok(true),
            Some("epoch") => Ok(false),
            Some(other) => Err(Error::usage(format!("{location}: visible: expected now or epoch, found '{other}'"))),
        }
    }

    /// Makes the error for rows of a kind that it does not hold.
    pub fn other_kind(&self, kind: Kind, shown: impl fmt::Display) -> Error {
        let held: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        let (held, kind) = (held.join(", "), kind.name());
        Error::usage(format!("{shown}: expected rows of kind {held}, found {kind}"))
    }

    /// Reads the table that `?table=` names; returns its kind and rows.
    pub fn rows(&self, location: &Location) -> Result<(Kind, Batches)> {
        self.rows_within(location, ReadRequest::default())
    }

    /// Reads a part of the table that `?table=` names; returns its kind, too.
    pub fn rows_within(&self, location: &Location, request: ReadRequest) -> Result<(Kind, Batches)> {
        let kind = self.kind(location, || (self.reader.tables)(location))?;
        Ok((kind, self.rows_of(kind, location, request)?))
    }

    /// Checks that a run can read the table that it would choose; returns the kind of its rows.
    ///
    /// Errors: exit status 2 for an unknown table, and if one must be named; 65, 69, 74 or 78 if it cannot be read.
    pub fn check_table(&self, location: &Location) -> Result<Kind> {
        let nothing = ReadRequest { span: Span { since: Some(0), until: Some(0) }, ..ReadRequest::default() };
        let (kind, mut rows) = self.rows_within(location, nothing)?;
        // Some stores connect when the first batch is read.
        rows.next().transpose().map(|_| kind)
    }

    /// Returns the kind of the rows of the table that `?table=` names; without one, of the only table with rows.
    ///
    /// Errors: exit status 2 for an unknown table, and if one must be named.
    fn kind(&self, location: &Location, tables: impl FnOnce() -> Result<Tables>) -> Result<Kind> {
        let named = location.option("table");
        let kinds = || self.kinds.iter().map(|kind| kind.table()).collect::<Vec<_>>().join(" ");
        if let (Some(name), Some(program)) = (named.filter(|name| OWN_TABLES.contains(name)), self.client) {
            let tables = kinds();
            return Err(Error::usage(format!(
                "{location}: evt keeps table {name} for itself; {program} shows it; expected {tables}"
            )));
        }
        let kind = match named {
            Some(name) => Kind::of_table(name),
            // A lake has one kind; in a database it is the only table with rows, or the user must name it.
            None => match tables()?.as_slice() {
                [(name, _)] => Kind::of_table(name),
                tables => {
                    let mut filled = tables.iter().filter(|(_, rows)| *rows > 0);
                    match (filled.next(), filled.next()) {
                        (Some((name, _)), None) => Kind::of_table(name),
                        _ => {
                            return Err(Error::usage(format!(
                                "{location}: choose a table with ?table=NAME: {}",
                                kinds()
                            )));
                        }
                    }
                }
            },
        };
        let kind = kind.ok_or_else(|| Error::usage(format!("{location}: unknown table; expected {}", kinds())))?;
        if self.kinds.contains(&kind) { Ok(kind) } else { Err(self.other_kind(kind, location)) }
    }

    /// Returns the instant (µs) since which the table that `?table=` names, or else that of `kind`, keeps its rows, if
    /// earlier ones were removed from it. Rows whose age is not that of events have none.
    pub fn kept_since(&self, location: &Location, kind: Kind) -> Result<Option<i64>> {
        let kind = location.option("table").and_then(Kind::of_table).unwrap_or(kind);
        match (self.reader.kept_since, kind) {
            (Some(kept_since), Kind::Event | Kind::Late | Kind::Metric) => kept_since(location, kind),
            _ => Ok(None),
        }
    }

    /// Reads a part of the rows of `kind`.
    pub fn rows_of(&self, kind: Kind, location: &Location, request: ReadRequest) -> Result<Batches> {
        let (rows, span) = ((self.reader.read)(location, kind, request)?, request.span);
        if span == Span::default() {
            return Ok(rows);
        }
        let inside = move |batch: Result<RecordBatch>| -> Result<RecordBatch> {
            let batch = batch?;
            span.keep(kind, &batch).map_or_else(|| Ok(batch.clone()), |keep| Ok(filter_record_batch(&batch, &keep)?))
        };
        Ok(Box::new(rows.map(inside)))
    }
}
