//! The report of a stage at its end: warnings, notes, a line of counts on stderr, and the counts as JSON for `--stats`.
//!
//! The line has the counts by outcome, the dead letters by type, the result of each output, and how the input ended.

use super::outputs::EndReport;
use crate::clock::Clock;
use crate::counts::Counts;
use crate::frame::{End, How};
use crate::input::EndProof;
use crate::metrics;
use crate::output::OutputReport;
use crate::output::dead_letters::DeadLetters;
use crate::run::Run;
use crate::source;

/// The results of a stage at its end.
pub struct Summary<'a> {
    /// The run.
    pub run: &'a Run,
    /// The source of its rows.
    pub source: &'a source::Source,
    /// The output of faulty records.
    pub dead: &'a DeadLetters,
    /// Counts of the records read, by outcome.
    pub counts: &'a Counts,
    /// The operator's report.
    pub report: &'a EndReport,
    /// The end, with the exit status.
    pub end: &'a End,
    /// The report of each output.
    pub outputs: &'a [OutputReport],
}

impl Summary<'_> {
    /// Prints the report; `quiet` keeps only the warnings about lost rows.
    pub fn say(&self, quiet: bool) {
        let console = &self.run.console;
        self.report.warnings.iter().for_each(|warning| console.warn(warning));
        if !quiet {
            self.report.notes.iter().for_each(|note| console.say(note));
            console.say(self.line());
        }
    }

    /// Returns the line of counts.
    fn line(&self) -> String {
        let mut line = self.counts.to_string();
        if self.dead.total() > 0 {
            line.push_str(&format!(" ({})", self.dead.describe()));
        }
        for report in self.outputs {
            line.push_str(&describe(report));
        }
        if self.end.how == How::Stopped {
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
        let seconds = metrics::cpu_seconds();
        let millions = self.counts.taken as f64 / 1e6;
        let outputs: Vec<_> = self
            .outputs
            .iter()
            .map(|report| {
                serde_json::json!({
                    "name": report.name, "rows": report.rows, "counts": report.counts, "remark": report.remark,
                })
            })
            .collect();
        let dead: serde_json::Map<_, _> =
            self.dead.by_type().iter().map(|(kind, count)| (kind.name().to_owned(), (*count).into())).collect();
        let mut stats = serde_json::json!({
            "tool": self.run.console.tool(),
            "pipeline": self.run.pipeline,
            "counts": self.counts,
            "dead_by_type": dead,
            "end": self.end.how,
            "verdict": self.end.verdict,
            "outputs": outputs,
            "cpu_seconds": seconds,
            "cpu_seconds_per_million": if millions > 0.0 { Some(seconds / millions) } else { None },
        });
        if let Some(object) = stats.as_object_mut() {
            // Kafka's timestamps come from real clocks, so lag ignores --now.
            let lag = self.source.lag(Clock::System.now());
            if !lag.is_empty() {
                object.insert("lag".to_owned(), serde_json::json!(lag));
            }
            object.extend(self.report.details.clone());
        }
        stats
    }
}

/// Returns the result of an output, with its name; empty if there is nothing to say.
fn describe(report: &OutputReport) -> String {
    let parts: Vec<String> = report.counts.iter().map(ToString::to_string).chain(report.remark.clone()).collect();
    if parts.is_empty() { String::new() } else { format!("; {}: {}", report.name, parts.join(", ")) }
}
