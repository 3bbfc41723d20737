//! evt-pipe: the stages of a pipeline as threads of one process.
//!
//! ```text
//! text ─► words of each stage ─► tool, arguments ─► threads, a pipe between two ─► statuses ─► exit status, --stats
//! ```
//!
//! - `stages.rs`: what a text names, and its threads.
//! - `status.rs`: the exit status of a pipeline.

mod stages;
mod status;

use self::stages::{Pipeline, SharedFlag};
use crate::cli::args::CommonArgs;
use crate::cli::check::CheckReport;
use crate::cli::values::parse_positive;
use crate::cli::{Executable, Tool, ToolEnd};
use clap::builder::PossibleValue;
use clap::{Parser, ValueEnum};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::parse::pipeline::{PipelineReading, parse};
use evt_run::metrics;
use evt_run::run::{Run, report_file};
use evt_run::thread::Threads;
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

/// Run the stages of a pipeline in one process
#[derive(Parser)]
pub struct Args {
    /// Run this pipeline, written as for a shell: 'evt-ingest … | evt-window … | evt-sink …'
    #[arg(value_name = "PIPELINE", required_unless_present = "file")]
    pub pipeline_text: Option<String>,
    /// Read the pipeline from FILE
    #[arg(short, long, value_name = "FILE", conflicts_with = "pipeline_text")]
    pub file: Option<PathBuf>,
    /// Use N threads for the records of all stages together [default: the cores, at most 16]
    #[arg(long, value_name = "N", value_parser = parse_positive::<u8>)]
    pub threads: Option<u8>,
    /// The flags of all tools, of which the stages get most.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The flags of the stages that do not have them: those that the command line gives to the pipeline.
    #[arg(skip)]
    shared: Vec<SharedFlag>,
    /// What contains the tools.
    #[arg(skip)]
    executable: Executable,
}

impl Tool for Args {
    const NAME: &'static str = "evt-pipe";
    const USUAL_FLAGS: &'static [&'static str] = &["file", "check", "stats", "config", "log-format", "quiet"];
    const NEGATIVE: &'static str = "The verdict of a stage is negative, and no later stage has failed.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Compute metrics of events in one process.",
            "evt pipe 'evt-ingest events.jsonl | evt-window -m metrics.toml | evt-view -o table'",
        ),
        (
            "Read the pipeline from a file, and verify that all stages could start.",
            "printf '%s\\n' '# metrics of events' 'evt-ingest events.jsonl |' '  evt-window -m metrics.toml |' \
             '  evt-sink --to sqlite:metrics.db' > metrics.evt; evt pipe --check -f metrics.evt",
        ),
        (
            "Pass a value that may have blanks: it stays one word.",
            "INPUT=events.jsonl evt pipe 'evt-ingest $INPUT | evt-view --head 3 -o jsonl'",
        ),
    ];

    const RUNS_OTHERS: bool = true;

    fn take_invocation(&mut self, args: &[OsString], executable: Executable) {
        // A stage reads the environment and the file of --config itself, which may have other values for it.
        self.shared = self.flags().into_iter().filter(|flag| flag.value.is_none() || flag.is_in(args)).collect();
        self.executable = executable;
    }

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        let pipeline = self.pipeline()?;
        let ends = pipeline.run(&run.clock)?;
        let decisive = status::decisive(&ends);
        let status = decisive.map_or(0, |end| end.status);
        if let Some(path) = &self.common.stats {
            report_file::write(path, &format!("{}\n", stats(&pipeline, &ends, status, run)))?;
        }
        match decisive.and_then(|end| end.error) {
            // The reader of the last stage: this process ends in the same way.
            Some(kind @ ErrorKind::ReaderGone) => Err(Error::new(kind, "stdout")),
            _ => Ok(status),
        }
    }

    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        let checked = self.pipeline().and_then(|pipeline| pipeline.check(&run.clock));
        if let Some(ends) = findings.take(checked) {
            findings.reported(status::last_fault(&ends));
        }
    }
}

impl Args {
    /// Returns the stages that the text names. Errors: exit status 2, or 78 if the text is in a file; 78 for a variable
    /// that is not set.
    fn pipeline(&self) -> Result<Pipeline> {
        let threads = Threads::new(self.threads.map(usize::from));
        let stages_of = |text: &str, fault: ErrorKind| {
            let stages = parse(text, PipelineReading { variable: &|name| std::env::var_os(name), fault })?;
            Pipeline::of(stages, &self.shared, fault, self.executable).map(|pipeline| pipeline.on(threads))
        };
        match &self.file {
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|error| Error::config_file(name.clone(), &error))?;
                stages_of(&text, ErrorKind::Config).map_err(|error| error.at(name))
            }
            None => stages_of(self.pipeline_text.as_deref().unwrap_or_default(), ErrorKind::Usage),
        }
    }

    /// Returns the flags that are of use to every stage.
    fn flags(&self) -> Vec<SharedFlag> {
        let CommonArgs { quiet, now, pipeline, check, config, log_format, color, .. } = &self.common;
        let switches = [("quiet", *quiet), ("check", *check)].into_iter().filter(|(_, is_on)| *is_on);
        let switches = switches.map(|(name, _)| SharedFlag { name, value: None });
        let word = |value: Option<PossibleValue>| value.map(|value| value.get_name().to_owned());
        let values = [
            ("now", now.clone()),
            ("pipeline", Some(pipeline.clone())),
            ("config", config.clone()),
            ("log-format", word(log_format.to_possible_value())),
            ("color", word(color.to_possible_value())),
        ];
        let values = values.into_iter().filter(|(_, value)| value.is_some());
        switches.chain(values.map(|(name, value)| SharedFlag { name, value })).collect()
    }
}

/// Returns the report as JSON: the status of each stage, as a shell knows it.
fn stats(pipeline: &Pipeline, ends: &[ToolEnd], status: u8, run: &Run) -> serde_json::Value {
    let stage = |(tool, end): (&str, &ToolEnd)| serde_json::json!({ "tool": tool, "status": end.status });
    let stages: serde_json::Value = pipeline.tools().zip(ends).map(stage).collect();
    serde_json::json!({
        "tool": run.console.tool(),
        "pipeline": run.pipeline,
        "status": status,
        "stages": stages,
        "cpu_seconds": metrics::cpu_seconds(),
    })
}
