//! evt-sink: rows into stores and files.

use crate::cli::args::{BranchArgs, StageArgs, TimeRangeArgs};
use crate::cli::check::CheckReport;
use crate::cli::open::{open, pass};
use crate::cli::resolve::StageSpec;
use crate::cli::{Tool, Unit};
use crate::source::SourceOptions;
use crate::stage::Stage;
use crate::uri::Uri;
use clap::Parser;
use evt_core::error::{Error, Result};
use evt_core::mapping::Provenance;
use evt_core::time::parse_duration;
use evt_run::run::Run;
use std::rc::Rc;

/// Write rows to stores and files
#[derive(Parser, Debug)]
pub struct Args {
    /// List the stores and exit
    #[arg(long, help_heading = "Output")]
    list: bool,
    /// Expire rows after this time in stores that support it (redis); ?ttl= in a URI overrides it
    #[arg(long, value_name = "DURATION", help_heading = "Output")]
    ttl: Option<String>,
    #[command(flatten)]
    range: TimeRangeArgs,
    #[command(flatten)]
    branch: BranchArgs,
    #[command(flatten)]
    stage: StageArgs,
}

impl Tool for Args {
    const NAME: &'static str = "evt-sink";
    const USUAL_FLAGS: &'static [&'static str] =
        &["to", "output-format", "ttl", "list", "dlq", "input-format", "kind", "time", "quiet", "check"];
    const NEGATIVE: &'static str = "The verdict is negative: rows were rejected without --dlq, a row conflicts with a stored row, a lake \
        or a file was not replaced, or the input had a negative verdict.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Write metrics to a database and a lake.",
            "evt-ingest events.jsonl | evt-window -m metrics.toml --late late.jsonl | evt-sink --to sqlite:metrics.db --to parquet:lake/metrics",
        ),
        ("Write dead letters to a table.", "evt-sink dead.jsonl --to sqlite:metrics.db"),
        (
            "Write metrics to Redis for a dashboard, and to Postgres to keep.",
            "evt-window -m metrics.toml --late late.jsonl events.jsonl | evt-sink --to 'redis://localhost/0?ttl=48h' --to postgres://evt@localhost/evt",
        ),
        (
            "Check that a database accepts the connection, and show pending migrations.",
            "evt-sink --check --to postgres://evt@localhost/evt",
        ),
        ("Write one Parquet file.", "evt-ingest events.jsonl | evt-sink --to events.parquet"),
    ];

    const PASSES_ROWS_ON: bool = true;

    const UNIT: Option<Unit> = Some(Unit {
        after: "evt-window.service redis.service postgresql.service",
        args: "'kafka://localhost:9092/metrics?format=frames&group=evt-sink'",
        settings: "# systemctl edit evt-sink sets another path; systemd-creds encrypt keeps the file encrypted.\n\
                   LoadCredential=postgres:/etc/evt/postgres.password\n",
        calendar: None,
    });

    fn waits_at_terminal(&self) -> bool {
        !self.list && self.stage.waits_at_terminal()
    }

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        if self.list {
            let lines = evt_store::ALL.iter().map(|store| format!("{}:  {}\n", store.scheme, store.about));
            return run.io.print(&lines.collect::<String>()).map(|()| 0);
        }
        self.stage(run)?.run()
    }

    fn check(mut self, run: &Rc<Run>, findings: &mut CheckReport) {
        findings.take(self.expire(run));
        let options = findings.take(self.source(run));
        findings.stage(self.stage_spec(), options);
    }
}

impl Args {
    /// Opens the stage.
    pub fn stage(mut self, run: &Rc<Run>) -> Result<Stage> {
        self.expire(run)?;
        open(self.stage_spec(), self.source(run)?, run, Box::new(pass))
    }

    fn stage_spec(&self) -> StageSpec<'_> {
        StageSpec { range: Some(&self.range), branch: self.branch.branch.as_deref(), ..StageSpec::new(&self.stage) }
    }

    fn source(&self, run: &Run) -> Result<SourceOptions> {
        let mut options = self.stage.source(self.stage.map.options(Provenance::Keep)?, run)?;
        options.needs.headers = true;
        Ok(options)
    }

    /// `--ttl`: adds `?ttl=` to the outputs that support it and do not set one.
    fn expire(&mut self, run: &Run) -> Result<()> {
        let Some(ttl) = &self.ttl else { return Ok(()) };
        parse_duration(ttl)?;
        let mut takes = false;
        for text in &mut self.stage.output.to {
            let Uri::Store(store, location) = Uri::parse(&*text, &run.caller())? else { continue };
            if !store.options.contains(&"ttl") {
                continue;
            }
            takes = true;
            if !location.options.contains_key("ttl") {
                Uri::add_option(text, "ttl", ttl);
            }
        }
        if takes { Ok(()) } else { Err(Error::usage("--ttl requires an output that expires rows (redis://…)")) }
    }
}
