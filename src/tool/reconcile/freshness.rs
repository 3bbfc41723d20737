//! `--freshness`: how old the newest window of each metric of a store is, or its newest event.

use super::args::Args;
use super::read::{ReadItem, Reading};
use super::report::measured;
use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use evt_core::counts::counted;
use evt_core::error::{Error, Result};
use evt_core::kind::event::{COLUMNS, column};
use evt_core::kind::metric::MetricColumns;
use evt_core::kind::{Kind, array};
use evt_core::reconcile::measure::{RowAge, age_fault, age_rows, age_text};
use evt_core::time::SECOND;
use evt_run::run::Run;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::rc::Rc;

/// The name of events among metrics.
const EVENTS: &str = "events";

/// A row that begins so much later than the wall clock has its time from a clock that is ahead (µs).
const AHEAD: i64 = 5 * 60 * SECOND;

/// Measures the age; returns the exit status. Rows of a clock that is ahead are not counted: one of them would make all
/// later ages 0.
pub fn measure(args: &Args, text: &OsString, run: &Rc<Run>) -> Result<u8> {
    let uri = args.uri(text, run)?;
    let reading = Reading::open(&uri, args.options_of_rows()?, run, args.common.quiet)?;
    let only = &args.measure.only;
    let now = run.clock.now();
    let mut found = Newest {
        of: only.iter().map(|name| (name.clone(), None)).collect(),
        only,
        limit: now.saturating_add(AHEAD),
        ahead: 0,
    };
    let kind = reading.each(&mut |piece| {
        match piece {
            ReadItem::Rows(Kind::Metric, batch) => found.add_metrics(batch)?,
            ReadItem::Rows(Kind::Event, batch) if only.is_empty() => found.add_events(batch),
            ReadItem::Rows(Kind::Event, _) => {
                return Err(Error::usage("--only requires metrics, found events"));
            }
            ReadItem::Rows(kind, _) => return Err(unexpected(kind)),
            ReadItem::Columns(_) => {
                return Err(Error::broken("expected rows of a kind, found the columns of a file of another program"));
            }
            ReadItem::Unreadable(_) => {}
            ReadItem::UnreadableRows(error) => return Err(error),
        }
        Ok(())
    })?;
    // A table says its kind even if it has no rows.
    if let Some(kind) = kind.filter(|kind| !matches!(kind, Kind::Metric | Kind::Event)) {
        return Err(unexpected(kind).at(uri.to_string()));
    }
    let Newest { of: mut newest, ahead, .. } = found;
    if newest.is_empty() {
        newest.insert("rows".to_owned(), None);
    }
    if ahead > 0 {
        let rows = counted(ahead, ["row is", "rows are"]);
        run.console.warn(format!("{uri}: {rows} more than 5 minutes ahead of the wall clock and not counted"));
    }
    let age = |(name, newest): (String, Option<i64>)| {
        let age = newest.map(|newest| now.saturating_sub(newest).max(0));
        RowAge { name, newest, age }
    };
    let ages: Vec<RowAge> = newest.into_iter().map(age).collect();
    let fault = age_fault(&ages, args.measure.max_age);
    measured(args, fault, &|| age_text(&ages), &|| age_rows(&ages), run)
}

/// The newest instant of each metric, or of all events.
struct Newest<'a> {
    /// By the name of the metric, or [`EVENTS`]: the end of its newest window, or the newest ingested_at (µs); none
    /// without a row.
    of: BTreeMap<String, Option<i64>>,
    /// The metrics that are measured; all if empty.
    only: &'a [String],
    /// The instant (µs) after which a row is ahead, by the start of its window or by the time of its ingestion.
    limit: i64,
    ahead: u64,
}

impl Newest<'_> {
    fn add_metrics(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = MetricColumns::try_new(batch)?;
        for row in 0..batch.num_rows() {
            let name = rows.names.value(row);
            // A later revision is a correction of old windows.
            if rows.revisions.value(row) > 0 || rows.retracted.value(row) {
                continue;
            }
            if rows.starts.value(row) > self.limit {
                self.ahead += 1;
                continue;
            }
            let end = Some(rows.ends.value(row));
            match self.of.get_mut(name) {
                Some(known) => *known = (*known).max(end),
                None if self.only.is_empty() => _ = self.of.insert(name.to_owned(), end),
                None => {}
            }
        }
        Ok(())
    }

    fn add_events(&mut self, batch: &RecordBatch) {
        let newest = self.of.entry(EVENTS.to_owned()).or_default();
        let instants = array::<TimestampMicrosecondArray>(batch, COLUMNS[column::INGESTED_AT]);
        for instant in instants.into_iter().flatten().flatten() {
            if instant > self.limit {
                self.ahead += 1;
            } else {
                *newest = (*newest).max(Some(instant));
            }
        }
    }
}

fn unexpected(kind: Kind) -> Error {
    Error::usage(format!("expected metrics or events, found rows of kind {kind}"))
}
