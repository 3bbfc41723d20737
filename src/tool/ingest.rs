//! evt-ingest: raw records in, stamped events out.

use crate::cli::Tool;
use crate::cli::args::{CommonArgs, DeadArgs, InputArgs, MapArgs, OutputArgs};
use crate::cli::stage::{Stage, Wanted, open_dead, stamped};
use crate::error::Result;
use crate::expr::Filter;
use crate::kind::Kind;
use crate::mapping::Provenance;
use crate::stream::intake::Item;
use crate::stream::run::Run;
use crate::stream::source::{Source, SourceOptions};
use clap::Parser;
use std::rc::Rc;

/// Turn records of files and pipes into events
#[derive(Parser, Debug)]
pub struct Args {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    map: MapArgs,
    /// Keep events for which this is true
    #[arg(long = "where", value_name = "EXPR", help_heading = "Input")]
    filter: Option<String>,
    /// Read on as files grow, through rotation and truncation
    #[arg(long, help_heading = "Input")]
    follow: bool,
    /// Keep the raw record beside the event
    #[arg(long, help_heading = "Output")]
    keep_raw: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    dead: DeadArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl Tool for Args {
    const NAME: &'static str = "evt-ingest";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Count requests per hour and status in an access log.",
            "evt-ingest access.log.gz -f clf | evt-window --size 1h --by status | evt-view",
        ),
        (
            "Look at events whose time is called created_at.",
            "evt-ingest events.jsonl --time created_at | evt-view --head 5",
        ),
        ("Keep what fails.", "evt-ingest events.jsonl --dlq dead.jsonl --to events.parquet"),
    ];

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn waits_at_terminal(&self) -> bool {
        self.input.is_standard() && self.input.input_format.is_none()
    }

    fn run(self, run: Rc<Run>) -> Result<u8> {
        let mut mapping = self.map.options(Provenance::Overwrite)?;
        mapping.keep_raw = self.keep_raw;
        let filter = self.filter.as_deref().map(|text| Filter::new(text, &Kind::Event.schema())).transpose()?;
        let mut dead = open_dead(&self.dead, &run)?;
        let options = self.input.source(&self.map, mapping)?;
        let options = SourceOptions { follow: self.follow, raw_only: true, filter, ..options };
        let mut source = Source::open(&self.input.uris()?, options, run.clone())?;
        // The first rows are read before anything is written: a first record without a time ends the run.
        let first = source.next(&mut dead)?;
        let schema = stamped(&source.schema(), &run, source.is_explicit());
        let control = self.input.control;
        let wanted = Wanted { schema, pipe_format: "frames", terminal_format: "jsonl", control };
        let mut stage = Stage::open((&self.common, &self.output), wanted, dead, &run)?;
        let mut next = first;
        loop {
            match next {
                Item::Batch(batch) => stage.write(&batch)?,
                Item::Control(control) => stage.control(&control)?,
                Item::End(end) => {
                    stage.counts = source.counts();
                    return stage.finish(&source, end, 0);
                }
            }
            next = source.next(&mut stage.dead)?;
        }
    }
}
