//! The report of a run at its end: warnings, notes, a line of counts on stderr, and the counts as JSON for `--stats`.
//!
//! The line has the counts by outcome, the dead letters by type, the result of each output, and how the input ended.
//! [`Totals`] are the parts that stages and evt-alert share.

use super::outputs::EndReport;
use crate::clock::Clock;
use crate::counts::Counts;
use crate::frame::{End, EndReason};
use crate::input::{EndProof, Lag};
use crate::kind::dead::ErrorType;
use crate::metrics;
use crate::output::OutputReport;
use crate::run::Run;
use crate::source;
use std::collections::BTreeMap;

/// What every run has at its end.
pub struct Totals<'a> {
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
    /// The lag of topics.
    pub lag: Vec<Lag>,
}

impl Totals<'_> {
    /// Returns the counts by outcome, and those of dead letters by type: `in 4 out 1 dead 3 (ParseError 3)`.
    pub fn counts_text(&self) -> String {
        let types: Vec<_> = self.dead.iter().map(|(error_type, n)| format!("{} {n}", error_type.name())).collect();
        if types.is_empty() { self.counts.to_string() } else { format!("{} ({})", self.counts, types.join(", ")) }
    }

    /// Returns the result of each output that has one: `; metrics.db: in 4 out 4`.
    pub fn outputs_text(&self) -> String {
        self.outputs.iter().map(describe).collect()
    }

    /// Returns the members of `--stats` that all runs have.
    pub fn stats(&self) -> serde_json::Map<String, serde_json::Value> {
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
        if !self.lag.is_empty() {
            stats.insert("lag".to_owned(), serde_json::json!(self.lag));
        }
        stats
    }
}

/// Returns the lag of topics at the end of a run. The system clock measures the lag, whatever `--now` is, because
/// Kafka's timestamps come from real clocks.
pub fn lag_of<'a>(sources: impl Iterator<Item = &'a source::Source>) -> Vec<Lag> {
    let now = Clock::System.now();
    sources.flat_map(|source| source.lag(now)).collect()
}

/// The results of a stage at its end.
pub struct Summary<'a> {
    /// What every run has.
    pub totals: Totals<'a>,
    /// The source of its rows.
    pub source: &'a source::Source,
    /// The operator's report.
    pub report: &'a EndReport,
}

impl Summary<'_> {
    /// Prints the report; `quiet` keeps only the warnings about lost rows.
    pub fn say(&self, quiet: bool) {
        let console = &self.totals.run.console;
        self.report.warnings.iter().for_each(|warning| console.warn(warning));
        if !quiet {
            self.report.notes.iter().for_each(|note| console.say(note));
            console.say(self.line());
        }
    }

    /// Returns the line of counts.
    fn line(&self) -> String {
        let mut line = self.totals.counts_text() + &self.totals.outputs_text();
        if self.totals.end.how == EndReason::Stopped {
            line.push_str("; stopped");
        } else if self.source.proof() == EndProof::Missing {
            line.push_str("; end not proven");
        }
        let defaults = self.source.defaults();
        if defaults.source || defaults.event_type {
            line.push_str("; default ");
            let names = [("source", defaults.source), ("event_type", defaults.event_type)];
            let used: Vec<_> = names.iter().filter(|(_, used)| *used).map(|(name, _)| *name).collect();
            line.push_str(&used.join(" and "));
        }
        line
    }

    /// Returns the report as JSON.
    pub fn stats(&self) -> serde_json::Value {
        let mut stats = self.totals.stats();
        stats.extend(self.report.details.clone());
        stats.into()
    }
}

/// Returns the result of an output, with its name; empty if there is nothing to say.
fn describe(report: &OutputReport) -> String {
    let parts: Vec<String> = report.counts.iter().map(ToString::to_string).chain(report.remark.clone()).collect();
    if parts.is_empty() { String::new() } else { format!("; {}: {}", report.name, parts.join(", ")) }
}
