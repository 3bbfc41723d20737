//! Resolves the inputs and outputs of a stage before anything is opened, and checks that they fit each other.

use super::args::{CheckpointArgs, StageArgs, TimeRangeArgs};
use crate::output::dead_letters::alone;
use crate::output::file::Overwrite;
use crate::output::identity::{Identities, Identity};
use crate::output::{OutputPlan, OutputSpec, given_up};
use crate::source::{InputOptions, ListenerOptions, SourceOptions};
use crate::stage::epochs::only_input;
use crate::stage::outputs::output_names;
use crate::uri::Uri;
use crate::uri::readable;
use evt_core::error::{Error, Result};
use evt_core::format::{self, EncodeOptions, Format, jsonl, table};
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::mapping::{KeepRaw, RecordParts};
use evt_kafka::address::TopicFormat;
use evt_kafka::group::CommitMode;
use evt_kafka::range::ReadMode;
use evt_run::checkpoint::header::CheckpointOptions;
use evt_run::checkpoint::log::OutputName;
use evt_run::checkpoint::{Checkpoint, check_name};
use evt_run::run::Run;
use evt_run::run::io::Io;
use evt_run::spool::ack::AckPolicy;
use evt_run::storage::access;
use std::ffi::OsStr;
use std::path::Path;
use std::rc::Rc;

/// The formats that a tool writes by default.
#[derive(Clone, Copy)]
pub struct DefaultFormats {
    /// To a pipe, or to a file whose name implies no format.
    pub pipe: &'static Format,
    /// To a terminal.
    pub terminal: &'static Format,
    /// Whether `--control` makes the outputs write control lines.
    pub control: bool,
    /// Whether a table of metrics on a terminal leaves out the columns that tell people nothing.
    pub brief: bool,
}

/// The default of stages: frames to the next stage.
const FRAMES: DefaultFormats =
    DefaultFormats { pipe: &format::frames::FORMAT, terminal: &jsonl::FORMAT, control: true, brief: true };
/// The default of tools at the end of a pipe: JSON lines.
pub const LINES: DefaultFormats = DefaultFormats { pipe: &jsonl::FORMAT, control: false, ..FRAMES };
/// The default of tools whose rows people read: JSON lines, and a table on a terminal.
pub const TABLE: DefaultFormats = DefaultFormats { terminal: &table::FORMAT, ..LINES };

/// The inputs and outputs of a tool.
#[derive(Clone, Copy)]
pub struct StageSpec<'a> {
    /// The flags that all tools share.
    pub args: &'a StageArgs,
    /// The formats of the outputs.
    pub formats: DefaultFormats,
    /// One more output.
    pub side: Option<&'a OsStr>,
    /// The flags of a checkpoint, in tools that have them.
    pub checkpoint: Option<&'a CheckpointArgs>,
    /// The flags that select rows by time, where the stage selects and not the tool.
    pub range: Option<&'a TimeRangeArgs>,
    /// `--branch`, in tools that have it.
    pub branch: Option<&'a str>,
    /// Whether a pipe gets only frames from a run with a checkpoint.
    pub needs_frames_in_epochs: bool,
    /// The kind of the rows that the tool writes; `None` if it depends on the input.
    pub kind: Option<Kind>,
    /// The kind of the rows of `side`.
    pub side_kind: Option<Kind>,
    /// Whether the tool corrects the metrics of its output.
    pub corrects: bool,
    /// Whether the tool reads events only.
    pub needs_events: bool,
    /// Whether the tool lists the tables of a store that is the only input, if none of them is named.
    pub lists_tables: bool,
    /// Whether a flag of the tool makes the run continue earlier ones, so that its files are appended to.
    pub continues: bool,
}

impl<'a> StageSpec<'a> {
    /// Names the inputs and outputs of a tool that writes frames.
    pub fn new(args: &'a StageArgs) -> Self {
        Self {
            args,
            formats: FRAMES,
            side: None,
            checkpoint: None,
            range: None,
            branch: None,
            needs_frames_in_epochs: false,
            kind: None,
            side_kind: None,
            corrects: false,
            needs_events: false,
            lists_tables: false,
            continues: false,
        }
    }
}

/// Returns the settings of the outputs of `--to`.
fn output_spec(args: &StageArgs, formats: DefaultFormats, io: &Io) -> Result<OutputSpec> {
    let StageArgs { input, output, common, .. } = args;
    let is_terminal = io.has_terminal();
    let color = common.color.is_on(is_terminal);
    let brief = formats.brief && is_terminal && output.output_format.is_none();
    Ok(OutputSpec {
        format: output.output_format.as_deref().map(format::to_write).transpose()?,
        terminal_format: formats.terminal,
        pipe_format: formats.pipe,
        is_named: true,
        quiet: common.quiet,
        is_check: common.check,
        overwrite: match (output.overwrite, output.append) {
            (true, _) => Overwrite::On,
            (false, true) => Overwrite::Append,
            (false, false) => Overwrite::Off,
        },
        control: input.control && formats.control,
        encode: EncodeOptions { width: io.terminal_width(), brief, color, ..EncodeOptions::default() },
    })
}

/// Returns the plans of the outputs of `--to`, without opening one. All are checked before anything is read.
pub fn output_plans(args: &StageArgs, formats: DefaultFormats, run: &Run) -> Result<Vec<OutputPlan>> {
    let spec = output_spec(args, formats, &run.io)?;
    args.output.to.iter().map(|text| OutputPlan::try_new(text, &spec, run)).collect()
}

/// Returns the plan of a side output: dead letters or late events. JSON lines unless its name implies another format.
fn plan_side(text: &OsStr, run: &Run) -> Result<OutputPlan> {
    let spec = OutputSpec {
        format: None,
        terminal_format: &jsonl::FORMAT,
        pipe_format: &jsonl::FORMAT,
        is_named: false,
        quiet: true,
        is_check: false,
        overwrite: Overwrite::Unsupported,
        control: false,
        encode: EncodeOptions::default(),
    };
    OutputPlan::try_new(text, &spec, run)
}

/// Whether the environment or a configuration sets the dead-letter output, for every stage of a pipe and for later
/// readers of that output.
fn is_of_every_stage(args: &StageArgs, run: &Run) -> bool {
    run.letters == args.output.dlq
}

/// The faults of a command line, in the order in which they were found.
#[derive(Default)]
pub struct Faults(pub Vec<Error>);

impl Faults {
    /// Returns the value, or keeps the error as a fault.
    pub fn take<T>(&mut self, found: Result<T>) -> Option<T> {
        found.map_err(|error| self.0.push(error)).ok()
    }
}

impl From<Error> for Faults {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

/// The resolved inputs and outputs of a stage.
pub struct Resolved {
    /// Inputs, in the order of the command line.
    pub inputs: Vec<Uri>,
    /// The plans of the outputs, in that order.
    pub plans: Vec<OutputPlan>,
    /// The output of dead letters.
    pub dlq: Option<OutputPlan>,
    /// The side output of the tool.
    pub side: Option<OutputPlan>,
    /// The range of time whose rows the stage selects.
    pub span: Span,
    /// The kind of the rows that the tool writes, if it is known before the first row.
    pub kind: Option<Kind>,
    /// The faults of inputs, outputs and flags that could not be resolved.
    pub faults: Faults,
}

impl Resolved {
    /// Returns the resolved inputs and outputs if there is no fault, else the first fault.
    pub fn sound(mut self) -> Result<Self> {
        match self.faults.0.is_empty() {
            true => Ok(self),
            false => Err(self.faults.0.swap_remove(0)),
        }
    }

    /// Adds the faults of inputs that cannot be read again from a position, and of outputs whose rows cannot wait for
    /// an epoch.
    fn checked_for_epochs(mut self, follow: bool, needs_frames: bool, run: &Run) -> Self {
        for input in &self.inputs {
            let is_kept = match input {
                Uri::File(path) if follow => path.is_file() || !path.exists(),
                Uri::File(path) => path.is_file() || **path == *Path::new("/dev/null"),
                Uri::Kafka(_) | Uri::Http(_) | Uri::Bucket(_) => true,
                _ => false,
            };
            if !is_kept {
                let expected = "topics, regular files, followed files, objects or an HTTP server with --spool";
                let found = match input {
                    Uri::Standard => "standard input".to_owned(),
                    Uri::File(_) => "a file that cannot be read twice".to_owned(),
                    Uri::Store(..) => "a store".to_owned(),
                    other => other.to_string(),
                };
                self.faults.0.push(Error::usage(format!("{input}: --checkpoint: expected {expected}, found {found}")));
            }
        }
        for output in self.plans.iter().chain(&self.side).chain(&self.dlq) {
            self.faults.0.extend(output.check_epochs(&run.io).err());
        }
        // A program that reads text from the pipe takes part in no epoch: rows that it has not processed when it is
        // killed are lost.
        let is_text = |output: &&OutputPlan| output.is_text() && run.io.has_pipe();
        if needs_frames && self.plans.iter().any(|output| is_text(&output)) {
            self.faults.0.push(Error::usage(
                "-: --checkpoint: expected frames into a pipe (without -o), found text; name a file with --to, or end the pipe \
                 with evt-view -o FORMAT",
            ));
        }
        self
    }

    /// Finds outputs that only a run with a checkpoint writes.
    fn checked_without_epochs(mut self) -> Self {
        let outputs = self.plans.iter().chain(&self.side).chain(&self.dlq);
        let wrong = outputs.filter_map(|output| output.check_without_epochs().err());
        self.faults.0.extend(Vec::from_iter(wrong));
        self
    }

    /// Checks that the stage can join the checkpoint of the pipe that it reads. Errors: exit status 2 if it has other
    /// inputs, or if rows of an output cannot wait for an epoch.
    pub fn check_joins(&self, run: &Run) -> Result<()> {
        match self.inputs.len() {
            1 => self.outputs().chain(&self.side).try_for_each(|output| output.check_epochs(&run.io)),
            _ => Err(only_input()),
        }
    }

    /// Returns the names and identities of the files that the stage replaces at the end of a run.
    pub fn whole_files(&self, run: &Run) -> Vec<(&str, Identity)> {
        let outputs = self.outputs().chain(&self.side).filter(|output| output.is_replaced_at_end());
        outputs.filter_map(|output| Some((output.name.as_str(), output.identity(&run.io)?))).collect()
    }

    /// Returns the names of the outputs in a checkpoint.
    pub fn output_names(&self) -> Vec<OutputName> {
        output_names(&self.plans, self.side.as_ref(), self.dlq.as_ref())
    }

    /// Opens the checkpoint, and begins a run.
    pub fn begin_run(&self, options: CheckpointOptions, run: &Run) -> Result<Checkpoint> {
        let has_readers = self.plans.iter().chain(&self.side).chain(&self.dlq).any(OutputPlan::is_stream);
        if options.ends > 1 && !has_readers {
            return Err(Error::usage(format!(
                "--ends {}: expected stages behind standard output, found none",
                options.ends
            )));
        }
        Checkpoint::open(options, self.output_names(), has_readers, evt_store::known, run)
    }

    /// Lets the outputs wait for their servers without a limit, unless their URIs set one.
    pub fn without_limit(mut self) -> Self {
        self.plans = self.plans.into_iter().map(OutputPlan::without_limit).collect();
        self.dlq = self.dlq.map(OutputPlan::without_limit);
        self
    }

    /// Checks with the servers of the outputs that rows can be written.
    pub fn check_servers(mut self, run: &Rc<Run>) -> Result<Self> {
        let check = |output: OutputPlan| {
            let name = output.name.to_owned();
            output.check_server(run).map_err(|error| match run.stop.signal() {
                Some(_) => given_up(error, &name, "stopped: nothing was read or written"),
                None => error,
            })
        };
        self.side = self.side.map(check).transpose()?;
        self.plans = self.plans.into_iter().map(check).collect::<Result<_>>()?;
        self.dlq = self.dlq.map(check).transpose()?;
        Ok(self)
    }

    /// Returns the outputs of rows and of dead letters, which hold what the stage has read.
    fn outputs(&self) -> impl Iterator<Item = &OutputPlan> + Clone {
        self.plans.iter().chain(&self.dlq)
    }

    /// Returns the acknowledgement policy, if the inputs include an HTTP server or its flags are set. With a checkpoint
    /// (`has_epochs`) every output has the records of a complete epoch.
    pub fn ack_policy(&self, listener: &ListenerOptions, has_epochs: bool) -> Result<Option<AckPolicy>> {
        if !listener.ack_flags.is_given() && listener.server.is_none() {
            return Ok(None);
        }
        let pipe = self.outputs().find(|output| !output.acknowledges() && !has_epochs);
        let policy = listener.ack_flags.policy(pipe.map(|pipe| pipe.name.as_str()))?;
        if has_epochs && !matches!(policy, AckPolicy::Spool { .. }) {
            let input = self.inputs.first().map_or_else(String::new, Uri::to_string);
            let why = "--checkpoint requires --spool DIR, which keeps requests until an epoch has them";
            return Err(Error::usage(format!("{input}: {why}")));
        }
        match listener.server {
            None if !self.inputs.is_empty() => {
                Err(Error::usage("--spool, --dedup and --ack require an input http://ADDR:PORT"))
            }
            _ => Ok(Some(policy)),
        }
    }

    /// Returns whether and how offsets of a consumer group are committed.
    pub fn commit_mode(&self) -> CommitMode {
        match self.outputs().all(OutputPlan::acknowledges) {
            false => CommitMode::None,
            true if self.outputs().any(OutputPlan::is_framed) => CommitMode::Assign,
            true => CommitMode::Subscribe,
        }
    }

    /// Returns the parts of their records that rows carry. All of them if an input is a topic of such records, and
    /// either a row may become a dead letter or keeps its raw record. Only the headers if an input has headers, and
    /// either an output supports them or a filter may reject a row.
    pub fn record_parts(&self, options: &SourceOptions) -> RecordParts {
        let is_topic =
            |input: &Uri| matches!(input, Uri::Kafka(address) if address.options.form != Some(TopicFormat::Frames));
        let SourceOptions { records, needs, .. } = options;
        let has_filter = records.rules.is_some();
        let makes_letters = self.dlq.is_some() && (needs.headers || needs.shows_records);
        let keeps_raw = matches!(records.mapping.keep_raw, KeepRaw::Column | KeepRaw::FromInput);
        if (makes_letters || keeps_raw) && self.inputs.iter().any(is_topic) {
            return RecordParts::All;
        }
        let has_headers = self.inputs.iter().any(|input| is_topic(input) || matches!(input, Uri::Http(_)));
        let shows_headers = has_filter || self.plans.iter().any(OutputPlan::takes_headers);
        if needs.headers && has_headers && shows_headers { RecordParts::Headers } else { RecordParts::None }
    }

    /// Checks that inputs end if an output needs it.
    ///
    /// Errors: exit status 2 if an output replaces rows at the end of the input and an input has none.
    pub fn check_ends(&self, options: &InputOptions) -> Result<()> {
        let is_endless = |input: &&Uri| match input {
            Uri::Http(_) => true,
            Uri::File(_) => options.files.follow,
            Uri::Kafka(address) => match options.topics.read_mode {
                ReadMode::Bounded => false,
                ReadMode::Tail => true,
                ReadMode::Commit | ReadMode::Stateful | ReadMode::Checkpoint => address.options.end.is_none(),
            },
            Uri::Standard | Uri::Null | Uri::Bucket(_) | Uri::Store(..) => false,
        };
        let output = self.outputs().chain(&self.side).find(|output| output.replaces());
        match (output, self.inputs.iter().find(is_endless)) {
            (Some(output), Some(input)) => Err(Error::usage(format!(
                "{}: replaced only at the end of the input, but {input} has no end (set end= for a topic)",
                output.name
            ))),
            _ => Ok(()),
        }
    }
}

/// Resolves every input and output and checks that no two of them are the same; opens and creates nothing, and contacts
/// no server.
pub fn resolve(spec: StageSpec<'_>, follow: bool, run: &Run) -> Resolved {
    let StageSpec { args, formats, side, checkpoint, range, branch, continues, kind, side_kind, .. } = spec;
    let needs_frames_in_epochs = spec.needs_frames_in_epochs;
    let (common, mut faults) = (&args.common, Faults::default());
    let side = side.and_then(|text| faults.take(plan_side(text, run)));
    let mut spec = faults.take(output_spec(args, formats, &run.io));
    let checkpoint = checkpoint.and_then(CheckpointArgs::options);
    let has_format = args.input.input_format.is_some();
    let inputs = args.input.inputs.iter().map(|text| Uri::of_input(text, has_format, &run.caller()));
    let inputs = Vec::from_iter(inputs);
    if let Some(spec) = spec.as_mut().filter(|spec| !spec.overwrite.is_on()) {
        spec.overwrite = match checkpoint {
            Some(_) => Overwrite::Unsupported,
            None if follow || continues || inputs.iter().flatten().any(is_continued) => Overwrite::Append,
            None if spec.overwrite == Overwrite::Off && inputs.iter().flatten().any(|input| input.is_pipe(&run.io)) => {
                Overwrite::Undecided
            }
            None => spec.overwrite,
        };
    }
    let outputs = spec.iter().flat_map(|spec| args.output.to.iter().map(|text| OutputPlan::try_new(text, spec, run)));
    let plans = Vec::from_iter(outputs.filter_map(|output| faults.take(output)));
    if args.output.append {
        faults.0.extend(plans.iter().filter_map(|output| output.check_append().err()));
    }
    let letters = |text| plan_side(text, run).map(OutputPlan::for_letters).map_err(alone);
    let dlq = args.output.dlq.as_deref().map(letters);
    let dlq = dlq.and_then(|dlq| faults.take(dlq));
    let written = common.stats.iter().cloned().chain(common.prometheus_file());
    for path in written.clone() {
        faults.take(access::check_file(path.as_ref()).map_err(|error| Error::io(path, &error)));
    }
    let inputs = Vec::from_iter(inputs.into_iter().filter_map(|input| faults.take(input)));
    let mut named = Identities::inputs(&inputs, &run.io);
    let readable = |input: &Uri| faults.take(readable::check(input, follow)).is_some();
    let inputs = Vec::from_iter(inputs.into_iter().filter(readable));
    // If the input is the dead-letter output that all stages of the pipe share, this stage does not write its own dead
    // letters there.
    let dlq = dlq.filter(|dlq| !(is_of_every_stage(args, run) && named.is_input(dlq.identity(&run.io).as_ref())));
    for output in plans.iter().chain(&dlq).chain(&side) {
        let checked = named.output(&output.name, output.identity(&run.io));
        faults.take(checked.and_then(|()| output.check_empty(Overwrite::Off)));
    }
    let kind = kind.or_else(|| known_kind(args, &inputs));
    let mut takes = |output: &OutputPlan, kind: Option<Kind>| {
        kind.is_none_or(|kind| faults.take(output.check_kind(kind)).is_some())
    };
    let side = side.filter(|output| takes(output, side_kind));
    let plans = Vec::from_iter(plans.into_iter().filter(|output| takes(output, kind)));
    let dlq = dlq.filter(|output| takes(output, Some(Kind::Dead)));
    for path in written {
        faults.take(named.output(&path, Identity::of_path(path.as_ref())));
    }
    faults.take(check_branch(branch, checkpoint.is_some(), &inputs));
    if let Some(options) = &checkpoint {
        faults.take(check_name(&options.path, &run.caller()));
    }
    let span = range.map(|range| range.span(run.clock.now(), &args.map));
    let span = span.and_then(|span| faults.take(span)).unwrap_or_default();
    let resolved = Resolved { inputs, plans, dlq, side, span, kind, faults };
    match checkpoint {
        Some(_) => resolved.checked_for_epochs(follow, needs_frames_in_epochs, run),
        // The pipe may have one.
        None if matches!(resolved.inputs[..], [Uri::Standard]) => resolved,
        None => resolved.checked_without_epochs(),
    }
}

/// Whether a run continues to read an input where the run before has stopped: requests, or a topic with a group.
fn is_continued(input: &Uri) -> bool {
    match input {
        Uri::Http(_) => true,
        Uri::Kafka(address) => address.options.group.is_some(),
        Uri::Standard | Uri::File(_) | Uri::Bucket(_) | Uri::Store(..) | Uri::Null => false,
    }
}

/// Returns the kind of the rows that a tool reads, if it is known before the first row: that of `--kind`, of a table,
/// or of an HTTP server, which accepts events only.
fn known_kind(args: &StageArgs, inputs: &[Uri]) -> Option<Kind> {
    let of_input = |input: &Uri| match input {
        Uri::Http(_) => Some(Kind::Event),
        Uri::Store(_, location) => location.option("table").and_then(Kind::of_table),
        _ => None,
    };
    // A wrong name is a fault of the options.
    args.input.kind().ok().flatten().or_else(|| inputs.first().and_then(of_input))
}

/// Checks that a stage with `--branch` reads a pipe that another stage has begun.
fn check_branch(branch: Option<&str>, has_checkpoint: bool, inputs: &[Uri]) -> Result<()> {
    let reads_pipe = !has_checkpoint && matches!(inputs, [Uri::Standard]);
    match branch.filter(|_| !reads_pipe) {
        Some(branch) => Err(Error::usage(format!(
            "--branch {branch}: expected the stage behind tee(1), which reads standard input without --checkpoint"
        ))),
        None => Ok(()),
    }
}
