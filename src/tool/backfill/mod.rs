//! evt-backfill: computes windows again and corrects the rows of a store.
//!
//! ```text
//! raw records, lake, table ─► validate ─► windows ─► right cells ─┐
//! late events ─► cells that count them ───────────────────────────┼─► difference ─► steps ─► store::correct
//! stored cells of the store ──────────────────────────────────────┘
//! ```
//!
//! Only closed windows are corrected. A stored cell is retracted or lowered only if the input proves that it is wrong.
//! A run that is killed is continued by the same command.
//!
//! - `setup.rs`: what a correction reads and corrects.
//! - `bounds.rs`: the out-of-orderness of the runs that wrote the rows.
//! - `windows.rs`: the correction of windows; `operator.rs`: its operator; `late_input.rs`, `late_stream.rs`: its late
//!   events; `gaps.rs`: the records that its input no longer holds; `orphans.rs`: stored cells without a right one.

mod bounds;
mod gaps;
mod late_input;
mod late_stream;
mod operator;
mod orphans;
mod setup;
mod windows;

use crate::cli::check::CheckReport;
use crate::cli::{Tool, Unit};
use clap::Parser;
use evt_core::error::Result;
use evt_run::run::Run;
use std::rc::Rc;
use windows::{FlowArgs, WindowsArgs};

/// Correct stored windows from raw events
#[derive(Parser, Debug)]
pub struct Args {
    #[command(flatten)]
    windows: WindowsArgs,
    #[command(flatten)]
    flow: FlowArgs,
}

impl Tool for Args {
    const NAME: &'static str = "evt-backfill";
    const USUAL_FLAGS: &'static [&'static str] = &[
        "metrics",
        "since",
        "until",
        "last",
        "late-events",
        "dry-run",
        "closed-before",
        "out-of-orderness",
        "schemas",
        "rate",
        "time",
        "to",
        "dlq",
        "quiet",
    ];
    const NEGATIVE: &'static str = "The verdict is negative: --dry-run shows changes, the input has no events, late events are pending, \
        windows or sessions of late events could not be corrected, or the input had a negative verdict. Rejected and late records of the input change the exit status only with --strict.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Correct the windows of a database from the file of events that was read.",
            "evt-backfill events.jsonl -m metrics.toml --out-of-orderness all --to sqlite:metrics.db",
        ),
        (
            "Count late events in the windows that they were late for.",
            "evt-ingest -q events.jsonl --to events.frames; evt-window -q -m metrics.toml --out-of-orderness 30s --late late.jsonl --to null: events.frames; evt-backfill -q events.frames --out-of-orderness 30s --late-events late.jsonl -m metrics.toml --to sqlite:metrics.db",
        ),
        (
            "Correct an hour of one metric from a lake, in the database that the live run writes.",
            "evt-ingest -q events.jsonl --to parquet:raw; evt-backfill parquet:raw -m metrics.toml --only revenue --since 2026-01-01T00:00:00Z --until 2026-01-01T01:00:00Z --out-of-orderness 30s --to sqlite:metrics.db",
        ),
    ];

    const UNIT: Option<Unit> = Some(Unit {
        after: "evt-window.service postgresql.service",
        args: "-q 'kafka://localhost:9092/valid?format=frames' --late-events 'kafka://localhost:9092/events.late' -m /etc/evt/metrics.toml --out-of-orderness 30s --to 'postgres://evt:{file:/run/credentials/evt-backfill.service/postgres}@localhost/evt'",
        settings: "LoadCredential=postgres:/etc/evt/postgres.password\n",
        calendar: Some("*-*-* 03:30:00"),
    });

    fn waits_at_terminal(&self) -> bool {
        self.flow.stage.waits_at_terminal()
    }

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        windows::run(self.windows, self.flow, run)
    }

    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        windows::check(self.windows, self.flow, run, findings)
    }
}
