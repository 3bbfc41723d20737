//! evt-sink: rows into stores and files.

use crate::cli::Tool;
use crate::cli::args::{CommonArgs, DeadArgs, InputArgs, MapArgs, OutputArgs};
use crate::cli::stage::{Stage, Wanted, open_dead, stamped};
use crate::error::Result;
use crate::mapping::Provenance;
use crate::store;
use crate::stream::intake::Item;
use crate::stream::run::Run;
use crate::stream::source::Source;
use clap::Parser;
use std::rc::Rc;

/// Write rows to stores and files
#[derive(Parser, Debug)]
pub struct Args {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    map: MapArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// List the stores and stop
    #[arg(long, help_heading = "Output")]
    list: bool,
    #[command(flatten)]
    dead: DeadArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl Tool for Args {
    const NAME: &'static str = "evt-sink";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Metrics into a database and a lake.",
            "evt-ingest events.jsonl | evt-window -m metrics.toml | evt-sink --to sqlite:metrics.db --to parquet:lake/metrics",
        ),
        ("Dead letters into a table of their own.", "evt-sink dead.jsonl --to sqlite:metrics.db"),
        ("One Parquet file.", "evt-ingest events.jsonl | evt-sink --to events.parquet"),
    ];

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn waits_at_terminal(&self) -> bool {
        !self.list && self.input.is_standard() && self.input.input_format.is_none()
    }

    fn run(self, run: Rc<Run>) -> Result<u8> {
        if self.list {
            for store in store::ALL {
                println!("{}:  {}", store.scheme, store.about);
            }
            return Ok(0);
        }
        let mut dead = open_dead(&self.dead, &run)?;
        let options = self.input.source(&self.map, self.map.options(Provenance::Keep)?)?;
        let mut source = Source::open(&self.input.uris()?, options, run.clone())?;
        let mut next = source.next(&mut dead)?;
        let schema = stamped(&source.schema(), &run, source.is_explicit());
        let wanted = Wanted { schema, pipe_format: "frames", terminal_format: "jsonl", control: self.input.control };
        let mut stage = Stage::open((&self.common, &self.output), wanted, dead, &run)?;
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
