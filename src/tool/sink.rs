//! evt-sink: rows into stores and files.

use crate::cli::Tool;
use crate::cli::args::{CommonArgs, StageArgs};
use crate::cli::stage::{FRAMES, Stage};
use crate::error::Result;
use crate::mapping::Provenance;
use crate::store;
use crate::stream::run::Run;
use crate::stream::standard::print;
use clap::Parser;
use std::rc::Rc;

/// Write rows to stores and files
#[derive(Parser, Debug)]
pub struct Args {
    /// List the stores and stop
    #[arg(long, help_heading = "Output")]
    list: bool,
    #[command(flatten)]
    stage: StageArgs,
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
        &self.stage.common
    }

    fn waits_at_terminal(&self) -> bool {
        !self.list && self.stage.waits_at_terminal()
    }

    fn run(self, run: Rc<Run>) -> Result<u8> {
        if self.list {
            let lines = store::ALL.iter().map(|store| format!("{}:  {}\n", store.scheme, store.about));
            return print(&lines.collect::<String>()).map(|()| 0);
        }
        let options = self.stage.source(self.stage.map.options(Provenance::Keep)?)?;
        Stage::open(&self.stage, options, FRAMES, &run)?.pass()
    }
}
