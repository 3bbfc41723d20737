//! evt-ingest: raw records in, stamped events out.

use crate::cli::args::{CheckpointArgs, StageArgs, TimeRangeArgs};
use crate::cli::check::CheckReport;
use crate::cli::http::AckArgs;
use crate::cli::http::{HttpArgs, over_http};
use crate::cli::open::{open, pass};
use crate::cli::resolve::StageSpec;
use crate::cli::{Tool, Unit};
use crate::source::{ListenerOptions, SourceOptions};
use crate::stage::Stage;
use crate::uri::Uri;
use clap::Parser;
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_core::mapping::{KeepRaw, Provenance};
use evt_core::op::computed::RowRules;
use evt_core::op::untimed::UntimedFilter;
use evt_http::address::Address;
use evt_run::client::Caller;
use evt_run::run::Run;
use std::rc::Rc;

/// Turn raw records into events
#[derive(Parser, Debug)]
pub struct Args {
    /// Keep only events for which EXPR is true
    #[arg(long = "where", value_name = "EXPR", help_heading = "Input")]
    filter: Option<String>,
    /// Compute property NAME of each event; later ones and --where may read it (repeatable)
    #[arg(long = "let", value_name = "NAME=EXPR", help_heading = "Output")]
    fields: Vec<String>,
    /// Keep reading as files grow, through rotation and truncation
    #[arg(long, help_heading = "Input")]
    follow: bool,
    /// Add the raw record to each event, as column raw
    #[arg(long, help_heading = "Output")]
    keep_raw: bool,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    ack: AckArgs,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    #[command(flatten)]
    range: TimeRangeArgs,
    #[command(flatten)]
    stage: StageArgs,
}

impl Tool for Args {
    const NAME: &'static str = "evt-ingest";
    const USUAL_FLAGS: &'static [&'static str] = &[
        "input-format",
        "where",
        "follow",
        "field",
        "set",
        "time",
        "time-unit",
        "time-format",
        "time-zone",
        "max-future",
        "to",
        "output-format",
        "dlq",
        "tokens",
        "anonymous",
        "spool",
        "checkpoint",
        "quiet",
        "check",
    ];
    const NEGATIVE: &'static str = "The verdict is negative: records were rejected without --dlq (with --strict: any record was \
        rejected), rows, dead letters or a followed file were lost, a row conflicts with a stored row, or a \
        stopped run did not replace a file or a day.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Count requests per hour and status in an access log.",
            "evt-ingest access.log.gz -f clf | evt-window --size 1h --by status | evt-view",
        ),
        (
            "Show events whose time is in the field created_at.",
            "evt-ingest events.jsonl --time created_at | evt-view --head 5",
        ),
        ("Keep the records that fail.", "evt-ingest events.jsonl --dlq dead.jsonl --to events.parquet"),
    ];

    const PASSES_ROWS_ON: bool = true;

    const UNIT: Option<Unit> = Some(Unit {
        after: "",
        args: "'kafka://localhost:9092/raw?group=evt-ingest' --to 'kafka://localhost:9092/events?format=frames'",
        settings: "",
        calendar: None,
    });

    fn waits_at_terminal(&self) -> bool {
        self.stage.waits_at_terminal()
    }

    fn shows_metrics(&self) -> bool {
        // The inputs are parsed again for the run, which reports their faults.
        let is_server = |text| matches!(Uri::parse(text, &Caller::default()), Ok(Uri::Http(_)));
        self.stage.input.inputs.iter().any(is_server)
    }

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        self.stage(run)?.run()
    }

    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        let options = findings.take(self.source(run));
        let is_server = options.as_ref().is_some_and(|options| options.inputs.listener.server.is_some());
        if is_server {
            self.http.check(findings);
        }
        findings.stage(self.stage_spec(), options);
    }
}

impl Args {
    /// Opens the stage.
    pub fn stage(self, run: &Rc<Run>) -> Result<Stage> {
        open(self.stage_spec(), self.source(run)?, run, Box::new(pass))
    }

    fn stage_spec(&self) -> StageSpec<'_> {
        let new = StageSpec::new(&self.stage);
        let checkpoint = Some(&self.checkpoint);
        StageSpec { checkpoint, range: Some(&self.range), needs_frames_in_epochs: true, ..new }
    }

    fn source(&self, run: &Run) -> Result<SourceOptions> {
        let mut mapping = self.stage.map.options(Provenance::Overwrite)?;
        mapping.keep_raw = if self.keep_raw { KeepRaw::Column } else { KeepRaw::No };
        let rules = RowRules::try_new(&self.fields, self.filter.as_deref(), &Kind::Event.schema())?;
        let listener = self.listener(run)?;
        if listener.is_some() {
            mapping = over_http(mapping);
        }
        let server = match listener {
            Some(address) => Some(Box::new(self.http.options(&address, &self.stage.map, &mapping, run)?)),
            None => self.http.check_unused().map(|()| None)?,
        };
        let mut options = self.stage.source(mapping, run)?;
        options.records.rules = rules;
        options.records.untimed = UntimedFilter::rules(&self.fields, self.filter.as_deref());
        options.needs.headers = true;
        let files = &mut options.inputs.files;
        (files.follow, files.raw_only) = (self.follow, true);
        options.inputs.listener = ListenerOptions { server, ack_flags: self.ack.flags(), ack_policy: None };
        Ok(options)
    }

    /// Returns the address it listens at, if an HTTP server is its input.
    fn listener(&self, run: &Run) -> Result<Option<Address>> {
        let inputs = self.stage.input.uris(run)?;
        let found = inputs.iter().find_map(|uri| if let Uri::Http(address) = uri { Some(address) } else { None });
        let Some(address) = found else { return Ok(None) };
        let beside = match self.stage.input.input_format {
            _ if inputs.len() > 1 => "another input",
            _ if self.follow => "--follow",
            _ if self.stage.input.control => "--control",
            Some(_) => "--input-format",
            None => return Ok(Some(address.clone())),
        };
        Err(Error::usage(format!("{address}: a listener cannot be combined with {beside}")))
    }
}
