//! The setup of a correction: the order of its input, the cells that it corrects, and its options.

use super::bounds::{KnownBounds, LateRules};
use super::late_input::LateInput;
use crate::output::open_options;
use crate::source::SortColumns;
use crate::tool::pace::Pace;
use crate::uri::Uri;
use evt_core::backfill::{InputTimes, LateCell, LateCells, Scope};
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::time::{SECOND, format_instant};
use evt_run::client::Location;
use evt_run::metrics::ServerStatus;
use evt_run::run::Run;
use evt_store::correct::Corrections;
use evt_store::{Store, StreamExtent};
use std::ffi::OsString;
use std::rc::Rc;

/// The order of the rows of the inputs.
pub(super) enum InputOrder {
    /// The order of their streams: the watermark follows from the rows.
    Streams {
        /// Whether every window is closed at the end.
        ends: bool,
        /// `--all-records`.
        is_whole: bool,
    },
    /// The order of stores.
    Stores {
        /// The watermark at which windows are closed (µs); `None`: the stores are empty.
        closed: Option<i64>,
        /// The partition that determines `closed`.
        held_by: Option<String>,
        /// The order of their rows.
        rows: StoreRows,
        /// The columns by which the rows of all stores are sorted; `None`: those of the only one are read as they are
        /// stored.
        sort: Option<SortColumns>,
        /// The rows to read, for the progress line.
        work: Work,
        /// The partitions; none with `--all-records`.
        extents: Vec<StreamExtent>,
    },
}

/// The order of the rows of stores, which lets windows fire before the last row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreRows {
    /// The days of event time, one after another.
    Days,
    /// By stream time, and within a partition by offset.
    Streams,
}

/// The rows to read from stores: the range of their times, and their number. The part that is done follows from the
/// time of the first row of a batch or, if the batch is empty, from the number of rows read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// The least and the greatest time of the rows in the range (µs).
    first: i64,
    last: i64,
    /// The number of rows of the stores.
    rows: u64,
}

/// How far the rows to read are read: in seconds of their times, or in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DoneWork {
    /// What is read.
    pub done: u64,
    /// All that is to be read; never 0.
    pub whole: u64,
}

impl Work {
    /// Returns the rows to read from the partitions of stores, with the times inside a span.
    pub fn of(extents: &[StreamExtent], span: Span) -> Self {
        let first = extents.iter().map(|extent| extent.first_time).min().unwrap_or(0);
        let last = extents.iter().map(|extent| extent.last_time).max().unwrap_or(0);
        let rows = extents.iter().map(|extent| extent.rows).sum();
        Self { first: first.max(span.since.unwrap_or(first)), last: last.min(span.until.unwrap_or(last)), rows }
    }

    /// Returns how much is done before a batch, in seconds of the times of rows. If `times`, those of the batch, is
    /// empty, it is in rows, of which `read` are read.
    pub fn part(&self, times: &[i64], read: u64) -> DoneWork {
        let seconds = |to: i64| u64::try_from(to.saturating_sub(self.first) / SECOND).unwrap_or(0);
        let (done, whole) = match times.first() {
            Some(first) => (seconds(*first), seconds(self.last)),
            None => (read, self.rows),
        };
        DoneWork { done: done.min(whole), whole: whole.max(1) }
    }
}

/// The rows of the input.
pub(super) struct InputRows {
    /// The events that are read.
    pub span: Span,
    /// Their order.
    pub order: InputOrder,
    /// Their event times, which decide the stored cells that they cover.
    pub times: InputTimes,
    /// What is done with rows whose events are late.
    pub late_rules: LateRules,
}

/// The setup of a correction.
pub(super) struct Setup {
    /// The cells.
    pub scope: Scope,
    /// The rows of the input.
    pub input: InputRows,
    /// The store.
    pub corrections: Box<dyn Corrections>,
    /// The cells that count late events.
    pub late: LateCells,
    /// Whether only these are corrected.
    pub only_late: bool,
    /// The stream of late events.
    pub late_input: Option<LateInput>,
    /// `--without-late`.
    pub removes_late: bool,
    /// The cells that no longer count late events, without those of sessions.
    pub without_late: Vec<LateCell>,
    /// The watermark up to which an earlier run has made the cells right (µs).
    pub progress: Option<i64>,
    /// `--dry-run`.
    pub dry_run: bool,
    /// `--rate`.
    pub pace: Pace,
    /// The run.
    pub run: Rc<Run>,
}

impl Setup {
    /// Whether the windows of a stream wait for its end, because late events are counted or taken out, or
    /// may have been counted.
    pub fn waits_for_late(&self) -> bool {
        !self.late.is_empty() || !self.without_late.is_empty() || self.input.late_rules.known != KnownBounds::All
    }
}

/// The store that is corrected.
pub(super) struct TargetStore {
    store: &'static Store,
    location: Location,
}

impl TargetStore {
    /// Returns the store of `--to`. Errors: exit status 2 if it is no store whose metrics can be corrected.
    pub fn of(to: &[OsString], run: &Run) -> Result<Self> {
        let [to] = to else {
            return Err(Error::usage("expected one --to: a correction has one store"));
        };
        match Uri::of_output(to, &run.caller())? {
            Uri::Store(store, location) if store.corrections.is_some() => Ok(Self { store, location }),
            other => Err(Error::usage(format!(
                "--to: expected a store whose metrics can be corrected (sqlite:, postgres:, parquet:), found {other}"
            ))),
        }
    }

    /// Opens its metrics; with `dry_run` to compare them only.
    pub fn open(&self, dry_run: bool, run: &Run) -> Result<Box<dyn Corrections>> {
        let Some(corrections) = self.store.corrections else {
            return Err(Error::broken("a store without corrections"));
        };
        match dry_run {
            true => {
                let options = open_options(run, ServerStatus::default());
                let open = || (corrections.open_to_compare)(&self.location, &options);
                self.store.at_start(&self.location, ServerStatus::default(), open)
            }
            false => {
                let up = ServerStatus::new(&run.metrics, &self.location.to_string());
                (corrections.open)(&self.location, &open_options(run, up))
            }
        }
    }
}

/// What an input or the store that is corrected has kept: rows from before an instant were removed for their age.
pub(super) struct KeptRows {
    /// The instant (µs).
    since: i64,
    /// Its name.
    keeper: String,
}

impl KeptRows {
    /// Returns the latest instant of the inputs and the store; `None` if no rows were removed.
    pub fn of(inputs: &[Uri], target: &TargetStore) -> Result<Option<Self>> {
        let mut latest: Option<Self> = None;
        let events = inputs.iter().filter_map(|uri| match uri {
            Uri::Store(store, location) => Some((*store, location, Kind::Event)),
            _ => None,
        });
        for (store, location, kind) in events.chain([(target.store, &target.location, Kind::Metric)]) {
            let since = store.kept_since(location, kind)?;
            if let Some(since) = since.filter(|since| latest.as_ref().is_none_or(|latest| latest.since < *since)) {
                latest = Some(Self { since, keeper: location.to_string() });
            }
        }
        Ok(latest)
    }

    /// Leaves the windows that begin earlier out of a scope; returns the line that says so. Errors: exit status 2 if
    /// the range of the scope begins earlier.
    pub fn limit(self, scope: &mut Scope) -> Result<String> {
        let Self { since, keeper } = self;
        scope.kept_since = Some(since);
        let since_then = format!("{keeper} keeps rows since {}", format_instant(since));
        match scope.range.since.filter(|asked| *asked < since) {
            Some(asked) => Err(Error::usage(format!(
                "{since_then}, earlier ones have expired; expected a range that begins then or later, found {}",
                format_instant(asked)
            ))),
            None => Ok(format!("{since_then}; windows that begin earlier are not corrected")),
        }
    }
}
