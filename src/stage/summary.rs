//! The report of a run at its end: warnings, notes, a line of counts on stderr, and the counts as JSON for `--stats`.
//!
//! The line has the counts by outcome, the dead letters by type, the result of each output, and how the input ended.

use super::feeds::Feeds;
use super::outputs::EndReport;
use super::setup::StageOptions;
use crate::output::OutputReport;
use crate::source;
use evt_core::counts::Counts;
use evt_core::error::Result;
use evt_core::frame::{End, EndReason};
use evt_core::kind::dead::ErrorType;
use evt_core::mapping::Defaults;
use evt_run::input::EndProof;
use evt_run::metrics;
use evt_run::run::{Run, report_file};
use std::collections::BTreeMap;

/// The results of a stage at its end.
pub struct Summary<'a> {
    /// The run.
    pub run: &'a Run,
    /// Counts of the records read, by outcome.
    pub counts: &'a Counts,
    /// The number of dead letters by type.
    pub dead: &'a BTreeMap<ErrorType, u64>,
    /// The end, with the exit status.
    pub end: &'a End,
    /// The report of each output.
    pub outputs: &'a [OutputReport],
    /// The sources of its rows.
    pub feeds: &'a Feeds,
    /// The operator's report.
    pub report: &'a EndReport,
}

impl Summary<'_> {
    /// Prints the report, and writes the file of `--stats`. `-q` keeps only the warnings about lost rows.
    pub fn publish(&self, options: &StageOptions) -> Result<()> {
        let console = &self.run.console;
        self.report.warnings.iter().for_each(|warning| console.warn(warning));
        if !options.quiet {
            self.report.notes.iter().for_each(|note| console.say(note));
            (!self.report.is_silent).then(|| console.say(self.line()));
        }
        let Some(path) = &options.stats else { return Ok(()) };
        report_file::write(path, &format!("{}\n", self.stats()))
    }

    /// Returns the line of counts. The operator's figures stand in place of how the rows were mapped.
    fn line(&self) -> String {
        let mut line = self.counts.to_string();
        let types: Vec<_> = self.dead.iter().map(|(error_type, n)| format!("{} {n}", error_type.name())).collect();
        if !types.is_empty() {
            line += &format!(" ({})", types.join(", "));
        }
        let figures = self.report.figures.as_deref();
        line += figures.unwrap_or_default();
        line.extend(self.outputs.iter().map(describe));
        if self.end.how == EndReason::Stopped {
            line.push_str("; stopped");
        } else if figures.is_none() && self.feeds.proof() == EndProof::Missing {
            line.push_str("; end not proven");
        }
        let is_default = |used: fn(Defaults) -> bool| self.feeds.sources().map(source::Source::defaults).any(used);
        let defaults = [("source", is_default(|of| of.source)), ("event_type", is_default(|of| of.event_type))];
        let used: Vec<_> = defaults.iter().filter(|(_, is_used)| *is_used).map(|(name, _)| *name).collect();
        if figures.is_none() && !used.is_empty() {
            line += &format!("; default {}", used.join(" and "));
        }
        line
    }

    /// Returns the report as JSON.
    fn stats(&self) -> serde_json::Value {
        let seconds = metrics::cpu_seconds();
        let millions = self.counts.taken as f64 / 1e6;
        let output = |report: &OutputReport| {
            serde_json::json!({
                "name": report.name, "rows": report.rows, "counts": report.counts, "remark": report.remark,
            })
        };
        let dead: serde_json::Map<_, _> =
            self.dead.iter().map(|(error_type, count)| (error_type.name().to_owned(), (*count).into())).collect();
        let mut stats = serde_json::Map::from_iter([
            ("tool".to_owned(), self.run.console.tool().into()),
            ("pipeline".to_owned(), serde_json::json!(self.run.pipeline)),
            ("counts".to_owned(), serde_json::json!(self.counts)),
            ("dead_by_type".to_owned(), dead.into()),
            ("end".to_owned(), serde_json::json!(self.end.how)),
            ("verdict".to_owned(), self.end.verdict.into()),
            ("outputs".to_owned(), self.outputs.iter().map(output).collect()),
            ("cpu_seconds".to_owned(), seconds.into()),
            ("cpu_seconds_per_million".to_owned(), (millions > 0.0).then(|| seconds / millions).into()),
        ]);
        let lag = self.feeds.lag();
        if !lag.is_empty() {
            stats.insert("lag".to_owned(), serde_json::json!(lag));
        }
        stats.extend(self.report.details.clone());
        stats.into()
    }
}

/// Returns the result of an output, with its name; empty if there is nothing to say.
fn describe(report: &OutputReport) -> String {
    let parts: Vec<String> = report.counts.iter().map(ToString::to_string).chain(report.remark.clone()).collect();
    if parts.is_empty() { String::new() } else { format!("; {}: {}", report.name, parts.join(", ")) }
}
