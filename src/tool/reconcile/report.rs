//! Writes the results of a comparison.

use super::args::{Args, OutputForm};
use crate::output::file::Overwrite;
use crate::output::{Output, OutputPlan, OutputSpec};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use evt_core::error::{Error, Result};
use evt_core::format::{EncodeOptions, Format, jsonl, table};
use evt_core::frame::{End, EndReason};
use evt_core::reconcile::entry::ComparedRows;
use evt_core::reconcile::entry::PartitionNames;
use evt_core::reconcile::exposition;
use evt_core::reconcile::output::{self, RangeColumns};
use evt_core::reconcile::ranges::{RangeCounts, RangeSummary};
use evt_core::reconcile::verdict::{Shown, Unjudged, Verdict};
use evt_run::metrics;
use evt_run::run::{Run, report_file};
use serde_json::Value;
use std::rc::Rc;
use std::sync::Arc;

/// The end of an output.
pub const END: End = End { how: EndReason::Exhausted, rows: 0, verdict: 0 };

/// The report of a comparison.
pub struct ComparisonReport<'a> {
    args: &'a Args,
    run: &'a Rc<Run>,
    /// The names of all partitions.
    pub names: PartitionNames,
    /// The kind of rows that are compared.
    pub subject: ComparedRows,
    /// Whether rows have been removed from B or plus.
    has_expired: bool,
}

impl<'a> ComparisonReport<'a> {
    /// Makes the report.
    pub fn new(args: &'a Args, run: &'a Rc<Run>, names: PartitionNames, subject: ComparedRows) -> Self {
        Self { args, run, names, subject, has_expired: false }
    }

    /// Says whether rows have been removed from B or plus.
    pub fn with_expired(self, has_expired: bool) -> Self {
        Self { has_expired, ..self }
    }

    /// Returns the length of a bucket (µs).
    pub fn bucket(&self) -> Option<i64> {
        self.args.show.bucket
    }

    /// Opens the output for rows of faults. Errors: exit status 2 if the format has no rows.
    pub fn open(&self, schema: &SchemaRef) -> Result<Output> {
        match self.args.show.output_format {
            Some(OutputForm::Prometheus) => Err(Error::usage("-o prometheus: expected counts, found --ids")),
            _ => open(self.args, schema, self.run),
        }
    }

    /// Writes the ranges and the verdict; returns the exit status.
    pub fn finish(&self, summary: &RangeSummary, unjudged: Unjudged) -> Result<u8> {
        let RangeSummary { ranges, faults } = summary;
        let (compare, quiet) = (&self.args.compare, self.args.common.quiet);
        let shown = Shown { names: &self.names, subject: self.subject };
        let verdict = Verdict::new(faults, unjudged, compare.tolerance, shown);
        let columns = RangeColumns {
            subject: self.subject,
            bucket: self.bucket().is_some(),
            duplicate: compare.dedup,
            in_flight: compare.settle.is_some(),
            expired: self.has_expired,
        };
        let is_silent = verdict.is_right && !self.args.shows_right_results();
        if self.args.show.output_format == Some(OutputForm::Prometheus) {
            let text = exposition::comparison(ranges, &self.names, &verdict, self.run.clock.now());
            write_text(self.args, &text, self.run)?;
        } else if !self.args.show.ids && !is_silent {
            write_rows(self.args, &output::ranges(ranges, &self.names, columns)?, self.run)?;
        }
        if !verdict.is_right {
            self.run.console.deny(&verdict.line);
        } else if unjudged.is_nothing {
            self.run.console.warn(&verdict.line);
        } else if !quiet {
            self.run.console.say(&verdict.line);
        }
        let RangeCounts { a, b, plus, missing, extra, double, different, duplicate, in_flight, expired } = faults.total;
        let counts = serde_json::json!({
            "a": a, "b": b, "plus": plus, "in_flight": in_flight, "expired": expired, "duplicate": duplicate,
            "missing": missing, "extra": extra, "double": double, "different": different, "not_judged": unjudged.rows, "unreadable": unjudged.unreadable + unjudged.damaged,
        });
        end(self.args, !verdict.is_right, Some(counts), self.run)
    }
}

/// Writes `--stats`; returns the exit status, which is 1 if something is wrong.
pub fn end(args: &Args, is_wrong: bool, counts: Option<Value>, run: &Rc<Run>) -> Result<u8> {
    let verdict = u8::from(is_wrong);
    if let Some(path) = &args.common.stats {
        let stats = serde_json::json!({
            "tool": run.console.tool(),
            "pipeline": run.pipeline,
            "verdict": verdict,
            "counts": counts,
            "cpu_seconds": metrics::cpu_seconds(),
        });
        report_file::write(path, &format!("{stats}\n"))?;
    }
    Ok(verdict)
}

/// Writes a measurement, as `text` in the format of Prometheus or as `rows`, and reports its fault; returns the exit
/// status.
pub fn measured(
    args: &Args,
    fault: Option<String>,
    text: &dyn Fn() -> String,
    rows: &dyn Fn() -> Result<RecordBatch>,
    run: &Rc<Run>,
) -> Result<u8> {
    if args.show.output_format == Some(OutputForm::Prometheus) {
        write_text(args, &text(), run)?;
    } else if fault.is_some() || args.shows_right_results() {
        write_rows(args, &rows()?, run)?;
    }
    fault.iter().for_each(|fault| run.console.deny(fault));
    end(args, fault.is_some(), None, run)
}

/// Opens the output of `--to`.
fn open(args: &Args, schema: &SchemaRef, run: &Rc<Run>) -> Result<Output> {
    let color = args.common.color.is_on(run.io.has_terminal());
    let spec = OutputSpec {
        format: args.show.output_format.map(format_of),
        terminal_format: &table::FORMAT,
        pipe_format: &jsonl::FORMAT,
        is_named: true,
        quiet: true,
        is_check: false,
        overwrite: Overwrite::On,
        control: false,
        encode: EncodeOptions { width: run.io.terminal_width(), color, ..EncodeOptions::default() },
    };
    OutputPlan::try_new(&args.show.to, &spec, run)?.open(schema, run)
}

/// Writes rows to the output of `--to`.
fn write_rows(args: &Args, rows: &RecordBatch, run: &Rc<Run>) -> Result<()> {
    let mut output = open(args, &rows.schema(), run)?;
    output.write(rows)?;
    output.finish(&END).map(|_| ())
}

/// Writes a text to the output of `--to`.
fn write_text(args: &Args, text: &str, run: &Rc<Run>) -> Result<()> {
    let mut output = open(args, &Arc::new(Schema::empty()), run)?;
    output.text(text)?;
    output.finish(&END).map(|_| ())
}

/// Returns the format of rows. Text in the format of Prometheus is written as it is.
fn format_of(form: OutputForm) -> &'static Format {
    match form {
        OutputForm::Table => &table::FORMAT,
        OutputForm::Jsonl | OutputForm::Prometheus => &jsonl::FORMAT,
    }
}
