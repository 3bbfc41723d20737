//! evt-reconcile: whether every record of A is in B or in a side output.
//!
//! ```text
//! A, B, --plus ─► read ─► entries ─► sort (memory, then disk) ─► join ─► Judge ─► report: ranges, ids, verdict
//! --lag: committed offsets and ends ─► lag ─┐
//! --freshness: newest rows of a store ──────┴─► report
//! ```
//!
//! The ends of the topics of A are fixed before B is read, so rows that arrive meanwhile are not missing. Nothing is
//! written besides the results.
//!
//! - `args.rs`: the flags.
//! - `read.rs`: reads one input from its start to its end; `foreign.rs` reads files of other programs by their columns.
//! - `compare.rs`: reads A, B and the side outputs; `join.rs`: joins their entries; `sort.rs`: sorts them, on disk if
//!   they are many.
//! - `lag.rs`: how far a consumer group is behind; `freshness.rs`: how old the newest rows of a store are.
//! - `report.rs`: writes the results.

mod args;
mod compare;
mod foreign;
mod freshness;
mod join;
mod lag;
mod read;
mod report;
mod sort;

pub use self::args::Args;

use crate::cli::check::CheckReport;
use crate::cli::{Tool, Unit};
use crate::uri::Uri;
use evt_core::error::Result;
use evt_run::run::Run;
use std::rc::Rc;

impl Tool for Args {
    const NAME: &'static str = "evt-reconcile";
    const USUAL_FLAGS: &'static [&'static str] = &[
        "plus",
        "by",
        "dedup",
        "ids",
        "bucket",
        "settle",
        "tolerance",
        "since",
        "until",
        "last",
        "lag",
        "max-lag",
        "freshness",
        "max-age",
        "input-format",
        "time",
        "output-format",
        "quiet",
    ];
    const NEGATIVE: &'static str = "The verdict is negative: a record is missing, extra, double or different beyond --tolerance, a group \
        lags more than --max-lag or has committed nothing, or rows are missing or older than --max-age.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Prove that every record is in the database or among the dead letters.",
            "evt-reconcile events.jsonl 'sqlite:metrics.db?table=raw_events' --plus dead.jsonl",
        ),
        (
            "List the events that are missing, extra, double or different.",
            "evt-reconcile events.jsonl valid.parquet --ids -o jsonl",
        ),
        (
            "Count by hour of event time, and accept up to 1 % of faults.",
            "evt-reconcile events.jsonl valid.parquet --bucket 1h --tolerance 1% -o table",
        ),
        (
            "Compare the results in two stores.",
            "evt-reconcile expected.jsonl 'sqlite:metrics.db?table=aggregated_metrics'",
        ),
        (
            "From cron: report metrics whose newest window is older than three minutes; exit status 1.",
            "evt-reconcile -q --freshness 'sqlite:metrics.db?table=aggregated_metrics' --max-age 3m",
        ),
    ];

    const UNIT: Option<Unit> = Some(Unit {
        after: "evt-validate.service",
        args: "-q 'kafka://localhost:9092/raw' 'kafka://localhost:9092/valid?format=frames' --plus 'kafka://localhost:9092/events.dlq' --last 2h --settle 10m",
        settings: "",
        calendar: Some("hourly"),
    });

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        self.checks(run).into_iter().collect::<Result<()>>()?;
        if let Some(uri) = &self.measure.lag {
            return lag::measure(&self, uri, run);
        }
        if let Some(uri) = &self.measure.freshness {
            return freshness::measure(&self, uri, run);
        }
        compare::compare(&self, run)
    }

    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        self.checks(run).into_iter().for_each(|found| _ = findings.take(found));
        findings.take(self.range(run.clock.now()));
        findings.take(self.options_of_a(&Uri::Null));
        findings.inputs(self.inputs());
    }
}
