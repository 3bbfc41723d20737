//! Writes the result rows of evt-window.

use super::top::{OmittedKeys, Order, Top};
use super::wide::Wide;
use crate::stage::operator::{Collector, Note};
use arrow::array::RecordBatch;
use evt_core::counts::counted;
use evt_core::error::Result;
use evt_core::kind::metric;
use evt_core::op::aggregate::TEXTS_MAX;
use evt_core::op::window::metric::Metric;

/// Result rows that wait to be written.
#[derive(Default)]
pub struct Results {
    rows: metric::Builder,
    /// Number of rows of windows that had already fired.
    later_panes: u64,
    /// `--top`: the keys that are written.
    top: Option<Top>,
    /// `--wide`: one row for each window and key.
    wide: Option<Wide>,
    counting: Vec<DistinctCount>,
}

/// A metric that counts distinct texts.
struct DistinctCount {
    metric: String,
    /// The number of its rows that are NULL because there were too many texts.
    null_rows: u64,
}

impl Results {
    /// Makes results without rows. With `top`, only the rows of the first keys of a window are written; with `wide`,
    /// the metrics of a window and key are written in one row.
    pub fn new(top: Option<Top>, wide: Option<Wide>, metrics: &[Metric]) -> Self {
        let counting = metrics.iter().filter(|metric| metric.call.definition().has_limit);
        let counting = counting.map(|metric| DistinctCount { metric: metric.name.clone(), null_rows: 0 }).collect();
        Self { top, wide, counting, ..Self::default() }
    }

    /// Takes a row of a window that fires.
    pub fn push(&mut self, row: &metric::Row<'_>, out: &mut dyn Collector) -> Result<()> {
        match &mut self.top {
            Some(top) => top.push(row),
            None => self.add(row, out),
        }
    }

    fn add(&mut self, row: &metric::Row<'_>, out: &mut dyn Collector) -> Result<()> {
        if row.value.is_none() && !row.retracted {
            let counted = self.counting.iter_mut().filter(|count| count.metric == row.name);
            counted.for_each(|count| count.null_rows += 1);
        }
        if let Some(wide) = &mut self.wide {
            return wide.push(row);
        }
        self.later_panes += u64::from(row.pane > 0 && !row.retracted);
        self.rows.push(row)?;
        if self.rows.is_full() { self.write_batch(out) } else { Ok(()) }
    }

    /// Writes the rows of the windows that have fired.
    pub fn write(&mut self, out: &mut dyn Collector) -> Result<()> {
        if let Some(mut top) = self.top.take() {
            let order = if self.wide.is_some() { Order::Keys } else { Order::Metrics };
            let written = top.finish(order, &mut |row| self.add(row, out));
            self.top = Some(top);
            written?;
        }
        if let Some(wide) = &mut self.wide {
            let schema = out.schema();
            return wide
                .finish(self.top.is_some(), &mut |columns| out.rows(&RecordBatch::try_new(schema.clone(), columns)?));
        }
        self.write_batch(out)
    }

    fn write_batch(&mut self, out: &mut dyn Collector) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let batch = self.rows.finish(out.schema())?;
        out.rows(&batch)
    }

    /// Returns the notes for readers of the rows, and adds them to `--stats`.
    pub fn notes(&self, out: &mut dyn Collector) -> Vec<Note> {
        let mut notes = vec![];
        let is_read_as_it_is = out.formats().iter().any(|format| !format.is_frames());
        // Stores and stages keep only the last row of a window, a file has all.
        if self.later_panes > 0 && is_read_as_it_is {
            let later = counted(self.later_panes, ["row is a later pane", "rows are later panes"]);
            notes.push(Note::Info(format!(
                "{later}; the last row of a window is its result (--emit final writes only that)"
            )));
        }
        if let Some(OmittedKeys { keys, events }) = self.top.as_ref().map(Top::left_out) {
            out.detail("left_out", serde_json::json!({ "keys": keys, "events": events }));
            if keys > 0 {
                let keys = counted(keys, ["key of a window", "keys of windows"]);
                let events = counted(events, ["event", "events"]);
                notes.push(Note::Info(format!("--top left out {keys}, with {events}")));
            }
        }
        let over = self.counting.iter().filter(|count| count.null_rows > 0);
        notes.extend(over.map(|DistinctCount { metric, null_rows }| {
            Note::Warning(format!(
                "{metric}: {} more than {TEXTS_MAX} distinct texts; \
                 approx_distinct has no maximum",
                counted(*null_rows, ["row is NULL, because it has", "rows are NULL, because they have"])
            ))
        }));
        notes
    }
}
