//! A panic in a thread of the pool ends a tool with 70 for every number of threads: its stream is torn, and a file does
//! not get its name. No input makes a tool panic, so a tool of this test does.

use crate::harness::Dir;
use arrow::array::RecordBatch;
use clap::Parser;
use evt::cli::args::CommonArgs;
use evt::cli::check::CheckReport;
use evt::cli::{Executable, Invocation, Tool, ToolPlace, ToolRow};
use evt::output::dead_letters::DeadLetters;
use evt::output::file::Overwrite;
use evt::output::{OutputPlan, OutputSpec};
use evt::source::{Source, SourceOptions};
use evt::stage::feeds::FeedInput;
use evt::stage::operator::{Collector, Operator};
use evt::stage::outputs::Outputs;
use evt::stage::{OperatorSetup, Stage, StageOptions, StartOperator};
use evt::uri::Uri;
use evt_core::counts::Counts;
use evt_core::error::Result;
use evt_core::format::{EncodeOptions, frames};
use evt_run::run::Run;
use evt_run::task_pool::OrderedResults;
use std::ffi::OsString;
use std::rc::Rc;

/// The variable with which this program is the pipeline that it names.
const PIPELINE: &str = "PANICS_PIPELINE";
/// The tools of a pipeline.
static TOOLS: [ToolRow; 2] = [
    ToolRow::of::<PanickingArgs>(evt::cli::main::<PanickingArgs>),
    ToolRow::of::<evt::tool::sink::Args>(evt::cli::main::<evt::tool::sink::Args>),
];

/// Writes events to standard output and to a file
#[derive(Parser)]
struct PanickingArgs {
    /// Read FILE
    input: String,
    /// Write FILE
    output: String,
    /// Panic in the task of batch N
    panics_at: u32,
    #[command(flatten)]
    _common: CommonArgs,
}

impl Tool for PanickingArgs {
    const NAME: &'static str = "evt-panicking";
    const USUAL_FLAGS: &'static [&'static str] = &[];
    const NEGATIVE: &'static str = "";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[];

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        let plan = |name: &str| OutputPlan::try_new(name, &spec(), run);
        let plans = vec![plan("-")?, plan(&self.output)?];
        let outputs = Outputs::new(run.clone(), plans, None, DeadLetters::new(run.clone(), None), true);
        let inputs = [Uri::parse(&self.input, &run.caller())?];
        let source = Source::open(&inputs, SourceOptions::default(), run.clone())?;
        let operator = InTasks { run: run.clone(), batches: 0, panics_at: self.panics_at };
        let start: StartOperator = Box::new(|info| Ok(OperatorSetup::new(operator, info.source.schema())));
        Stage::new(run.clone(), StageOptions { quiet: true, ..StageOptions::default() }, source, outputs, start).run()
    }

    fn check(self, _: &Rc<Run>, _: &mut CheckReport) {}
}

fn spec() -> OutputSpec {
    OutputSpec {
        format: Some(&frames::FORMAT),
        terminal_format: &frames::FORMAT,
        pipe_format: &frames::FORMAT,
        is_named: true,
        is_check: false,
        quiet: true,
        overwrite: Overwrite::Off,
        control: false,
        encode: EncodeOptions::default(),
    }
}

/// Passes each batch through a task of the pool.
struct InTasks {
    run: Rc<Run>,
    batches: u32,
    panics_at: u32,
}

impl Operator for InTasks {
    fn on_batch(&mut self, batch: RecordBatch, _: FeedInput, out: &mut dyn Collector) -> Result<Counts> {
        self.batches += 1;
        let (is_planted, rows) = (self.batches == self.panics_at, batch.num_rows() as u64);
        let mut results = OrderedResults::new(&self.run.pool);
        results.begin(move || {
            assert!(!is_planted, "planted");
            batch
        })?;
        while let Some(batch) = results.wait()? {
            out.rows(&batch)?;
        }
        Ok(Counts { taken: rows, out: rows, ..Counts::default() })
    }

    fn restore(self: Box<Self>, _: &[u8]) -> Result<Box<dyn Operator>> {
        Ok(self)
    }
}

#[test]
fn a_panic_in_a_task_is_70_and_a_torn_stream_and_no_file_for_every_number_of_threads() {
    if let Ok(pipeline) = std::env::var(PIPELINE) {
        let args = ["evt-pipe", &pipeline].map(OsString::from).to_vec();
        let executable = Executable { version: "0", tools: &TOOLS };
        let end = evt::cli::main::<evt::tool::pipe::Args>(Invocation { args, executable, place: ToolPlace::default() });
        std::process::exit(end.status.into());
    }
    let dir = Dir::new("panics");
    dir.shell("evt-gen --events 10k --seed 3 -q > e.jsonl").succeeds();
    let me = std::env::current_exe().expect("this test");
    let this = "panics::a_panic_in_a_task_is_70_and_a_torn_stream_and_no_file_for_every_number_of_threads";
    for threads in ["1", "2", "3"] {
        for (panics_at, status) in [(1, 70), (3, 70), (9, 0)] {
            dir.shell("rm -f copy.frames out.parquet").succeeds();
            let line =
                format!("evt-panicking e.jsonl copy.frames {panics_at} | evt-sink -q --report 0 --to out.parquet");
            let mut command = dir.command("timeout", &["60"]);
            command.arg(&me).args(["--exact", this, "--nocapture"]);
            command.env(PIPELINE, line).env("EVT_THREADS", threads);
            let run = crate::harness::Run::of(&mut command).ends_with(status);
            let has_files = ["copy.frames", "out.parquet"].map(|name| dir.path(name).exists());
            assert_eq!(has_files, [status == 0; 2], "batch {panics_at}, {threads} threads: {run}");
            let said = run.stderr();
            let is_told = said.contains("a thread has panicked") && said.contains("torn");
            assert_eq!(is_told, status == 70, "batch {panics_at}, {threads} threads: {run}");
        }
    }
}
