//! `--freshness`: how old the newest window of each metric of a store is, or its newest event.

use super::args::{Args, OutputForm};
use super::read::{ReadItem, Reading};
use super::report::{end, write_rows, write_text};
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::event::{COLUMNS, column};
use crate::kind::metric::MetricColumns;
use crate::reconcile::measure::{RowAge, age_fault, age_rows, age_text};
use crate::run::Run;
use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::rc::Rc;

/// The name of events among metrics.
const EVENTS: &str = "events";

/// Measures the age; returns the exit status.
pub fn measure(args: &Args, text: &OsString, run: &Rc<Run>) -> Result<u8> {
    let uri = args.uri(text)?;
    let reading = Reading::open(&uri, args.options_of_rows()?, run, args.common.quiet)?;
    let only = &args.measure.only;
    let mut newest: BTreeMap<String, Option<i64>> = only.iter().map(|name| (name.clone(), None)).collect();
    let kind = reading.each(&mut |piece| {
        match piece {
            ReadItem::Rows(Kind::Metric, batch) => {
                let rows = MetricColumns::try_new(batch)?;
                for row in 0..batch.num_rows() {
                    let name = rows.names.value(row);
                    // A later revision is a correction of old windows.
                    if rows.revisions.value(row) > 0 || rows.retracted.value(row) {
                        continue;
                    }
                    let end = Some(rows.ends.value(row));
                    match newest.get_mut(name) {
                        Some(known) => *known = (*known).max(end),
                        None if only.is_empty() => _ = newest.insert(name.to_owned(), end),
                        None => {}
                    }
                }
            }
            ReadItem::Rows(Kind::Event, batch) if only.is_empty() => {
                let column = batch.column_by_name(COLUMNS[column::INGESTED_AT]);
                let instants = column.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
                let last = instants.and_then(|instants| instants.iter().flatten().max());
                let known = newest.entry(EVENTS.to_owned()).or_default();
                *known = (*known).max(last);
            }
            ReadItem::Rows(Kind::Event, _) => {
                return Err(Error::usage("--only requires metrics, found events"));
            }
            ReadItem::Rows(kind, _) => return Err(unexpected(kind)),
            ReadItem::Columns(_) => return Err(Error::broken("a measured input is read by its columns")),
            ReadItem::Unreadable(_) => {}
            ReadItem::UnreadableRows(error) => return Err(error),
        }
        Ok(())
    })?;
    // A table says its kind even if it has no rows.
    if let Some(kind) = kind.filter(|kind| !matches!(kind, Kind::Metric | Kind::Event)) {
        return Err(unexpected(kind).at(uri.to_string()));
    }
    if newest.is_empty() {
        newest.insert("rows".to_owned(), None);
    }
    let now = run.clock.now();
    let age = |(name, newest): (String, Option<i64>)| {
        let age = newest.map(|newest| now.saturating_sub(newest).max(0));
        RowAge { name, newest, age }
    };
    let ages: Vec<RowAge> = newest.into_iter().map(age).collect();
    let fault = age_fault(&ages, args.measure.max_age);
    if args.show.output_format == Some(OutputForm::Prometheus) {
        write_text(args, &age_text(&ages), run)?;
    } else if fault.is_some() || args.shows_right_results() {
        write_rows(args, &age_rows(&ages)?, run)?;
    }
    if let Some(fault) = &fault {
        run.console.deny(fault);
    }
    end(args, fault.is_some(), None, run)
}

fn unexpected(kind: Kind) -> Error {
    Error::usage(format!("expected metrics or events, found rows of kind {}", kind.name()))
}
