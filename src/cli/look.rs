//! Resolves the inputs and outputs of a stage before anything is opened, and checks that they fit each other.

use super::args::StageArgs;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, EncodeOptions, Format, jsonl};
use crate::input::bytes as input;
use crate::kafka::group::CommitMode;
use crate::kafka::range::ReadMode;
use crate::output::identity::{Identity, Named};
use crate::output::{Checked, OutputSpec, given_up};
use crate::run::Run;
use crate::source::SourceOptions;
use crate::spool::promise::Promise;
use crate::stage::progress::terminal_width;
use crate::store::room;
use crate::uri::Uri;
use crate::uri::kafka::Form;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::rc::Rc;

/// The formats that a tool writes by default.
#[derive(Clone, Copy)]
pub struct Usual {
    /// To a pipe, or to a file whose name implies no format.
    pub pipe: &'static Format,
    /// To a terminal.
    pub terminal: &'static Format,
    /// Whether `--control` makes the outputs write control lines.
    pub control: bool,
}

/// The default of stages: frames to the next stage.
pub const FRAMES: Usual = Usual { pipe: &format::frames::FORMAT, terminal: &jsonl::FORMAT, control: true };

/// Returns how the outputs of `--to` are written.
fn output_spec(args: &StageArgs, usual: Usual) -> Result<OutputSpec> {
    let StageArgs { input, output, common, .. } = args;
    let color = common.color.is_on(std::io::stdout().is_terminal());
    Ok(OutputSpec {
        format: output.output_format.as_deref().map(format::by_name).transpose()?,
        terminal_format: usual.terminal,
        pipe_format: usual.pipe,
        overwrite: output.overwrite,
        control: input.control && usual.control,
        encode: EncodeOptions { width: terminal_width(), color, ..EncodeOptions::default() },
    })
}

/// Checks the outputs of `--to` without opening them; all are checked before anything is read.
pub fn check_outputs(args: &StageArgs, usual: Usual, run: &Run) -> Result<Vec<Checked>> {
    let spec = output_spec(args, usual)?;
    args.output.to.iter().map(|text| Checked::try_new(text, &spec, run)).collect()
}

/// Checks a side output: dead letters or late events. JSON lines unless its name implies another format.
pub fn check_side(text: &OsStr, run: &Run) -> Result<Checked> {
    let spec = OutputSpec {
        format: None,
        terminal_format: &jsonl::FORMAT,
        pipe_format: &jsonl::FORMAT,
        overwrite: false,
        control: false,
        encode: EncodeOptions::default(),
    };
    Checked::try_new(text, &spec, run)
}

/// Returns what the acknowledgement of a request guarantees, if the inputs include an HTTP server or its flags are set.
pub fn promise<'a>(
    options: &SourceOptions,
    inputs: &[Uri],
    mut outputs: impl Iterator<Item = &'a Checked>,
) -> Result<Option<Promise>> {
    if !options.keeping.is_given() && options.http.is_none() {
        return Ok(None);
    }
    let pipe = outputs.find(|output| !output.acknowledges());
    let promise = options.keeping.promise(pipe.map(Checked::name))?;
    match options.http {
        None if !inputs.is_empty() => Err(Error::usage("--spool, --dedup and --ack require an input http://ADDR:PORT")),
        _ => Ok(Some(promise)),
    }
}

/// Returns whether and how offsets of a consumer group are committed if rows go to these outputs.
pub fn commit_mode<'a>(mut outputs: impl Iterator<Item = &'a Checked> + Clone) -> CommitMode {
    match outputs.clone().all(Checked::acknowledges) {
        false => CommitMode::None,
        true if outputs.any(Checked::is_framed) => CommitMode::Assign,
        true => CommitMode::Subscribe,
    }
}

/// Whether rows carry the headers of their records: an input has headers, and either an output supports them or a
/// filter may make a dead letter of a row, which shows them.
pub fn brings_headers(inputs: &[Uri], outputs: &[Checked], filters: bool) -> bool {
    let has_some = |input: &Uri| match input {
        Uri::Http(_) => true,
        Uri::Kafka(address) => address.options.form != Some(Form::Frames),
        _ => false,
    };
    inputs.iter().any(has_some) && (filters || outputs.iter().any(Checked::takes_headers))
}

/// Checks that inputs end if an output needs it.
///
/// Errors: exit status 2 if an output replaces rows at the end of the input and an input has none.
pub fn check_ends<'a>(
    options: &SourceOptions,
    inputs: &[Uri],
    mut outputs: impl Iterator<Item = &'a Checked>,
) -> Result<()> {
    let is_endless = |input: &&Uri| match input {
        Uri::Http(_) => true,
        Uri::File(_) => options.follow,
        Uri::Kafka(address) => match options.read_mode {
            ReadMode::Bounded => false,
            ReadMode::Tail => true,
            ReadMode::Commit | ReadMode::Stateful => address.options.end.is_none(),
        },
        Uri::Standard | Uri::Null | Uri::Store(..) => false,
    };
    match (outputs.find(|output| output.replaces()), inputs.iter().find(is_endless)) {
        (Some(output), Some(input)) => Err(Error::usage(format!(
            "{}: replaced only at the end of the input, but {input} has no end (set end= for a topic)",
            output.name()
        ))),
        _ => Ok(()),
    }
}

/// Whether the environment or a configuration sets the dead-letter output, for every stage of a pipe and for whatever
/// reads it afterwards.
pub fn is_of_every_stage(args: &StageArgs, run: &Run) -> bool {
    run.letters == args.output.dlq
}

/// Adds a remedy to the error if two stages of a pipe write one container.
pub fn alone(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Fenced => error.because("stages can share a dead-letter output only as JSONL, CSV or SQLite"),
        _ => error,
    }
}

/// The faults of a command line, in the order in which they were found.
#[derive(Default)]
pub struct Faults(pub Vec<Error>);

impl Faults {
    /// Returns a good value; keeps a fault.
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
pub struct Looked {
    /// Inputs, in the order of the command line.
    pub inputs: Vec<Uri>,
    /// Outputs, in that order.
    pub checked: Vec<Checked>,
    /// The output of dead letters.
    pub dlq: Option<Checked>,
    /// The faults of the others.
    pub faults: Faults,
}

impl Looked {
    /// Returns it if there is no fault, else the first fault.
    pub fn sound(mut self) -> Result<Self> {
        match self.faults.0.is_empty() {
            true => Ok(self),
            false => Err(self.faults.0.swap_remove(0)),
        }
    }

    /// Removes the default limit of the wait for servers of outputs.
    pub fn without_limit(mut self) -> Self {
        self.checked = self.checked.into_iter().map(Checked::without_limit).collect();
        self.dlq = self.dlq.map(Checked::without_limit);
        self
    }

    /// Asks the servers of the outputs.
    pub fn ask(mut self, run: &Rc<Run>) -> Result<Self> {
        let ask = |output: Checked| {
            let name = output.name().to_owned();
            output.ask(run).map_err(|error| match run.stop.signal() {
                Some(_) => given_up(error, &name, "stopped: nothing was read or written"),
                None => error,
            })
        };
        self.checked = self.checked.into_iter().map(ask).collect::<Result<_>>()?;
        self.dlq = self.dlq.map(ask).transpose()?;
        Ok(self)
    }
}

/// Resolves every input and output and checks that no two of them are one; opens and creates nothing, and asks no
/// server.
pub fn look(side: Option<&Checked>, args: &StageArgs, follow: bool, usual: Usual, run: &Run) -> Looked {
    let (common, mut faults) = (&args.common, Faults::default());
    let spec = faults.take(output_spec(args, usual));
    let outputs = spec.iter().flat_map(|spec| args.output.to.iter().map(|text| Checked::try_new(text, spec, run)));
    let checked = Vec::from_iter(outputs.filter_map(|output| faults.take(output)));
    let dlq = args.output.dlq.as_deref().map(|text| check_side(text, run).map_err(alone));
    let dlq = dlq.and_then(|dlq| faults.take(dlq));
    let written = common.stats.iter().cloned().chain(common.prometheus_file());
    for path in written.clone() {
        faults.take(room::for_file(path.as_ref()).map_err(|error| Error::io(path, &error)));
    }
    let inputs = args.input.inputs.iter().filter_map(|text| faults.take(Uri::parse(text)));
    let inputs = Vec::from_iter(inputs);
    let mut named = Named::inputs(&inputs);
    let readable = |input: &Uri| faults.take(input::check(input, follow)).is_some();
    let inputs = Vec::from_iter(inputs.into_iter().filter(readable));
    // If dead letters are the input, a dead-letter output shared by the pipe is not used for this stage's own.
    let dlq = dlq.filter(|dlq| !(is_of_every_stage(args, run) && named.is_input(dlq.identity().as_ref())));
    for output in checked.iter().chain(&dlq).chain(side) {
        faults.take(named.output(output.name(), output.identity()));
    }
    for path in written {
        faults.take(named.output(&path, Identity::of_path(path.as_ref())));
    }
    Looked { inputs, checked, dlq, faults }
}
