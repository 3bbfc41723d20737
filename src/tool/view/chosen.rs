//! The rows that evt-view shows: within the range of time, with computed columns, by condition, sorted, and an excerpt
//! of them.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{and, filter_record_batch};
use evt_core::error::Result;
use evt_core::expr::Filter;
use evt_core::format::raw;
use evt_core::kind::Kind;
use evt_core::kind::dead::{ErrorType, Fault, Rejected};
use evt_core::kind::span::Span;
use evt_core::op::computed::ComputedFields;
use evt_core::view::excerpt::Excerpt;
use evt_core::view::sort::Sorter;

/// Selects the rows that are shown.
pub(super) struct Chosen {
    pub(super) kind: Kind,
    pub(super) span: Span,
    pub(super) fields: ComputedFields,
    pub(super) filter: Option<Filter>,
    /// Whether payloads of dead letters are written as lines.
    pub(super) writes_letters: bool,
    pub(super) excerpt: Excerpt,
    /// Orders the rows before the excerpt is made of them (`--sort`).
    pub(super) sorter: Option<Sorter>,
}

/// The rows of a batch that evt-view examines, up to the last one that it shows.
pub(super) struct Choice {
    /// The number of examined rows.
    pub(super) rows: usize,
    /// Examined rows within the time range for which a condition cannot be evaluated, or that cannot be written.
    pub(super) faulty: Vec<Rejected>,
    /// Rows that are shown now.
    pub(super) shown: Option<RecordBatch>,
}

impl Chosen {
    /// Examines the rows of a batch.
    pub(super) fn take(&mut self, batch: &RecordBatch) -> Result<Choice> {
        let (batch, mut wrong) = self.fields.add_columns(batch)?;
        let batch = &batch;
        let all = || BooleanArray::from(vec![true; batch.num_rows()]);
        let inside = self.span.keep(self.kind, batch).unwrap_or_else(all);
        let mut keep = inside.clone();
        if let Some(filter) = &mut self.filter {
            let passed = filter.apply(batch)?;
            keep = and(&keep, &passed.keep)?;
            for (row, why) in passed.wrong {
                wrong.entry(row).or_insert(why);
            }
        }
        if !wrong.is_empty() {
            let is_right = (0..batch.num_rows()).map(|row| !wrong.contains_key(&row)).collect::<Vec<_>>();
            keep = and(&keep, &is_right.into())?;
        }
        let rejected = |(row, why)| Rejected { row, fault: Fault::new(ErrorType::AggregationError, why) };
        let mut faulty = Vec::from_iter(wrong.into_iter().map(rejected));
        if self.writes_letters {
            let mut fits = vec![true; batch.num_rows()];
            for rejected in raw::unfit(batch).into_iter().filter(|rejected| keep.value(rejected.row)) {
                fits[rejected.row] = false;
                faulty.push(rejected);
            }
            keep = and(&keep, &BooleanArray::from(fits))?;
        }
        if let Some(sorter) = &mut self.sorter {
            faulty.retain(|rejected| inside.value(rejected.row));
            sorter.push(filter_record_batch(batch, &keep)?)?;
            return Ok(Choice { rows: batch.num_rows(), faulty, shown: None });
        }
        let rows = self.excerpt.needed(&keep);
        faulty.retain(|rejected| rejected.row < rows && inside.value(rejected.row));
        let shown = self.excerpt.take(&batch.slice(0, rows), &keep.slice(0, rows))?;
        Ok(Choice { rows, faulty, shown })
    }

    /// Whether no further row is shown.
    pub(super) fn is_full(&self) -> bool {
        self.sorter.is_none() && self.excerpt.is_full()
    }

    /// Returns a line if no row had the name of `--sort`.
    pub(super) fn warning(&self) -> Option<String> {
        self.sorter.as_ref().and_then(Sorter::warning)
    }

    /// Returns the rows that have been held back.
    pub(super) fn rest(&mut self) -> Result<Vec<RecordBatch>> {
        let mut shown = vec![];
        for batch in self.sorter.take().map(|mut sorter| sorter.take()).transpose()?.unwrap_or_default() {
            let keep = BooleanArray::from(vec![true; batch.num_rows()]);
            shown.extend(self.excerpt.take(&batch, &keep)?);
        }
        shown.extend(self.excerpt.finish());
        Ok(shown)
    }
}
