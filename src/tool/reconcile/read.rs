//! Reads one input from its start to its end, without an operator and without outputs.

use super::foreign::ForeignFile;
use crate::source::{self, SourceOptions, UnreadableReports};
use crate::stage::feeds::Feeds;
use crate::stage::poll::read_to_end;
use crate::stage::progress::ProgressLine;
use crate::uri::Uri;
use arrow::array::RecordBatch;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::frame::{Control, EndReason};
use evt_core::kind::Kind;
use evt_core::reconcile::foreign::ForeignRows;
use evt_kafka::range::ReadMode;
use evt_run::emit::Item;
use evt_run::run::Run;
use std::rc::Rc;

/// A part of an input.
pub enum ReadItem<'a> {
    /// Rows of a kind.
    Rows(Kind, &'a RecordBatch),
    /// Events of a file of another program, read by its columns.
    Columns(&'a ForeignRows),
    /// Dead letters of the records that this run cannot read.
    Unreadable(&'a RecordBatch),
    /// The error of rows of a store that this run cannot read.
    UnreadableRows(Error),
}

/// Returns the options that all inputs share: topics are read up to their present ends.
pub fn options() -> SourceOptions {
    let mut options = SourceOptions::default();
    options.inputs.topics.read_mode = ReadMode::Bounded;
    options
}

/// An open input. The ends of topics are fixed when it is opened.
pub struct Reading {
    feeds: Feeds,
    foreign: Option<ForeignFile>,
    uri: Uri,
    run: Rc<Run>,
    quiet: bool,
    unreadable: UnreadableReports,
}

impl Reading {
    /// Opens an input.
    pub fn open(uri: &Uri, mut options: SourceOptions, run: &Rc<Run>, quiet: bool) -> Result<Self> {
        let unreadable = UnreadableReports::default();
        options.inputs.stores.unreadable = Some(unreadable.clone());
        let feeds = source::Source::open(std::slice::from_ref(uri), options, run.clone())?.into();
        Ok(Self { feeds, foreign: None, uri: uri.clone(), run: run.clone(), quiet, unreadable })
    }

    /// Reads the file by its columns first.
    pub fn by_columns(self, foreign: Option<ForeignFile>) -> Self {
        Self { foreign, ..self }
    }

    /// Reads the input to its end; returns the kind of its rows if the input names it, even if there are none. Errors:
    /// exit status 65 if its end is torn, 2 if its rows are of different kinds; a signal is an error too.
    pub fn each(mut self, each: &mut dyn FnMut(ReadItem<'_>) -> Result<()>) -> Result<Option<Kind>> {
        let mut progress = ProgressLine::new(&self.run, self.quiet);
        if progress.is_drawn() {
            progress.expect_rows(self.expected().unwrap_or(0));
        }
        let known = match self.foreign.take() {
            None => Some(0),
            Some(foreign) => self.columns(foreign, &mut progress, each)?,
        };
        let Some(mut known) = known else { return Ok(Some(Kind::Event)) };
        let at = |error: Error| error.at(self.uri.to_string());
        let end = read_to_end(&mut self.feeds, &self.run, &mut |_, item| {
            for error in self.unreadable.take() {
                each(ReadItem::UnreadableRows(error))?;
            }
            match item {
                Some(Item::Batch(batch)) => {
                    let rest = known.min(batch.num_rows());
                    known -= rest;
                    let batch = batch.slice(rest, batch.num_rows() - rest);
                    progress.rows(batch.num_rows());
                    let kind = Kind::of(batch.schema_ref()).unwrap_or(Kind::Event);
                    each(ReadItem::Rows(kind, &batch)).map_err(at)
                }
                Some(Item::Dead(dead)) => each(ReadItem::Unreadable(&dead.letters)).map_err(at),
                Some(Item::Control(Control::Progress(shown))) => {
                    progress.progress(&shown);
                    Ok(())
                }
                Some(Item::Control(
                    Control::Watermark(_) | Control::Barrier(_) | Control::Metrics(_) | Control::End(_),
                ))
                | Some(Item::Idle | Item::End(_))
                | None => Ok(()),
            }
        })?;
        let source = self.feeds.source(0);
        match end.how {
            EndReason::Exhausted => Ok(source.has_schema().then(|| source.kind())),
            EndReason::Stopped => Err(self.stopped()),
        }
    }

    /// Reads the columns of the file as far as every row of a batch is certainly an event. Returns the number of rows
    /// after which the mapping reads on; `None` at the end of the file.
    fn columns(
        &self,
        mut foreign: ForeignFile,
        progress: &mut ProgressLine,
        each: &mut dyn FnMut(ReadItem<'_>) -> Result<()>,
    ) -> Result<Option<usize>> {
        let mut known = 0;
        loop {
            if self.run.stop.signal().is_some() {
                return Err(self.stopped());
            }
            match foreign.next_rows() {
                // The mapping says what a file without rows is.
                Some(None) => return Ok((known == 0).then_some(0)),
                None => return Ok(Some(known)),
                Some(Some(rows)) => {
                    known += rows.count();
                    progress.rows(rows.count());
                    each(ReadItem::Columns(&rows)).map_err(|error| error.at(self.uri.to_string()))?;
                }
            }
        }
    }

    fn stopped(&self) -> Error {
        Error::new(ErrorKind::Verdict, format!("{}: stopped before its end; nothing was compared", self.uri))
    }

    /// Returns the number of rows of a store, or of offsets of a topic, if it is known.
    fn expected(&self) -> Option<u64> {
        match &self.uri {
            Uri::Kafka(_) => Some(self.feeds.lag().iter().map(|lag| lag.records).sum()),
            Uri::Store(store, location) => {
                let named = location.options.get("table");
                let tables = (store.reader.tables)(location).ok()?;
                tables.into_iter().find(|(name, _)| named.is_none_or(|named| named == name)).map(|(_, rows)| rows)
            }
            _ => None,
        }
    }
}
