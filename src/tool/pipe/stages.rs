//! The stages of a pipeline: what a text names, and their threads.
//!
//! Each stage is a run of its own, with its own console, stop signal and secrets, as in a process. A link is between
//! two of them: a pipe of the system, by which a reader that leaves and a writer that fails are noticed as in a shell.

use crate::cli::check::SharedPipe;
use crate::cli::{Executable, Invocation, NumberedStage, PREFIX, ToolEnd, ToolPlace, ToolRow};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::parse::nearest::hint;
use evt_core::parse::pipeline::StageText;
use evt_run::clock::Clock;
use evt_run::run::io::Io;
use evt_run::run::link::{LinkReader, LinkWriter, StageEnds, link};
use evt_run::stop::Stop;
use evt_run::task_pool::TaskPool;
use evt_run::thread::Threads;
use std::ffi::OsString;
use std::io::Read;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// The stack of a stage, as large as that of a process usually is.
const STACK: usize = 8 << 20;

/// The stages of a pipeline.
pub struct Pipeline {
    stages: Vec<PipelineStage>,
    /// The threads that the stages share, beside one for each.
    pool: Arc<TaskPool>,
    executable: Executable,
}

/// A flag that a stage gets unless it has it itself.
#[derive(Clone, Debug)]
pub struct SharedFlag {
    /// Its name, without hyphens.
    pub name: &'static str,
    /// Its value; `None` for a switch.
    pub value: Option<String>,
}

impl SharedFlag {
    /// Whether arguments have a flag of this name.
    pub fn is_in(&self, args: &[OsString]) -> bool {
        let is_this = |arg: &OsString| {
            let rest = arg.to_str().and_then(|arg| arg.strip_prefix("--")?.strip_prefix(self.name));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        args.iter().take_while(|arg| *arg != "--").any(is_this)
    }

    /// Returns the flag as an argument.
    fn to_arg(&self) -> OsString {
        let value = self.value.as_ref().map_or_else(String::new, |value| format!("={value}"));
        format!("--{}{value}", self.name).into()
    }
}

struct PipelineStage {
    tool: &'static ToolRow,
    /// Its arguments, with the name of the tool before them.
    args: Vec<OsString>,
}

impl Pipeline {
    /// Returns the stages of a text; `shared` are flags that a stage gets unless it has them itself.
    ///
    /// Errors: of the kind `fault` if a stage is not a tool of evt.
    pub fn of(texts: Vec<StageText>, shared: &[SharedFlag], fault: ErrorKind, executable: Executable) -> Result<Self> {
        let stage = |text| PipelineStage::of(text, shared, fault, executable.tools);
        let stages = texts.into_iter().map(stage).collect::<Result<_>>()?;
        Ok(Self { stages, pool: TaskPool::new(Threads::ONE), executable })
    }

    /// Lets the stages share these threads.
    pub fn on(self, threads: Threads) -> Self {
        Self { pool: TaskPool::new(threads), ..self }
    }

    /// Returns the names of the tools.
    pub fn tools(&self) -> impl Iterator<Item = &'static str> {
        self.stages.iter().map(|stage| stage.tool.name)
    }

    /// Runs all stages; returns how each has ended. Errors: exit status 74 if the system has no pipe or thread left.
    pub fn run(&self, clock: &Clock) -> Result<Vec<ToolEnd>> {
        let mut threads = vec![];
        let started = self.start_all(clock, &mut threads);
        // If one could not be started, those before it find that it has gone.
        let ends = threads.into_iter().map(ended).collect();
        started.map(|()| ends)
    }

    /// Starts all stages.
    fn start_all(&self, clock: &Clock, threads: &mut Vec<JoinHandle<ToolEnd>>) -> Result<()> {
        // No stage misses a signal that arrives while others are started.
        let stops = Stop::all_on_signals(clock, self.stages.len())?;
        let mut stdin = None;
        for (at, stop) in stops.into_iter().enumerate() {
            let (next, stdout) = self.link_after(at)?;
            let ends = StageEnds { stdin: std::mem::replace(&mut stdin, next), stdout };
            threads.push(self.start(at, ends, stop, None)?);
        }
        Ok(())
    }

    /// Checks one stage after another, and writes what each has found; returns how each has ended.
    pub fn check(&self, clock: &Clock) -> Result<Vec<ToolEnd>> {
        let (mut ends, checked) = (vec![], SharedPipe::default());
        for at in 0..self.stages.len() {
            // What a stage could read or write decides about its formats; a check reads nothing.
            let stdin = if at > 0 { Some(link()?.0) } else { None };
            let (found, stdout) = self.link_after(at)?;
            let stop = Stop::on_signals(clock)?;
            let thread = self.start(at, StageEnds { stdin, stdout }, stop, Some(checked.clone()))?;
            found.map_or(Ok(()), |found| print(&found))?;
            ends.push(ended(thread));
        }
        Ok(ends)
    }

    /// Makes the link between a stage and the next one, if there is one.
    fn link_after(&self, at: usize) -> Result<(Option<LinkReader>, Option<LinkWriter>)> {
        let link = if at + 1 < self.stages.len() { Some(link()?) } else { None };
        Ok(link.unzip())
    }

    /// Starts a stage; `checked` is what is known of those before it, if it is only checked.
    fn start(
        &self,
        at: usize,
        ends: StageEnds,
        stop: Stop,
        checked: Option<SharedPipe>,
    ) -> Result<JoinHandle<ToolEnd>> {
        let stage = &self.stages[at];
        let (main, args, executable) = (stage.tool.main, stage.args.clone(), self.executable);
        let place = ToolPlace {
            io: Io::Stage(ends),
            stage: Some(NumberedStage { number: at + 1, stop, pool: self.pool.clone(), checked }),
        };
        let run = move || main(Invocation { args, executable, place });
        Builder::new().name(stage.tool.name.to_owned()).stack_size(STACK).spawn(run).map_err(failed)
    }
}

impl PipelineStage {
    fn of(
        StageText { words, place }: StageText,
        shared: &[SharedFlag],
        fault: ErrorKind,
        tools: &'static [ToolRow],
    ) -> Result<Self> {
        let word = |at: usize| words.get(at).map(|word| word.to_string_lossy()).unwrap_or_default();
        // evt TOOL … is evt-TOOL …
        let (name, rest) = if word(0) == "evt" { (word(1), 2) } else { (word(0), 1) };
        let is_whole = rest == 2 || name.starts_with(PREFIX);
        let Some(tool) = ToolRow::find(tools, &name).filter(|_| is_whole) else {
            let names: Vec<_> = tools.iter().filter(|tool| !tool.runs_others).map(|tool| tool.name).collect();
            let whole = if is_whole { name.to_string() } else { format!("{PREFIX}{name}") };
            let hint = hint(&whole, &names, ", ");
            return Err(place.refused(fault, format!("expected a tool of evt, found '{name}': {hint}")));
        };
        if tool.runs_others {
            let message = format!("expected a stage, found {}: its stages can be written here", tool.name);
            return Err(place.refused(fault, message));
        }
        let given: Vec<OsString> = words.iter().skip(rest).cloned().collect();
        let flags = shared.iter().filter(|flag| !flag.is_in(&given)).map(SharedFlag::to_arg);
        let args = std::iter::once(tool.name.into()).chain(flags).chain(given.iter().cloned()).collect();
        Ok(Self { tool, args })
    }
}

/// Waits for the end of a stage. A panic is a broken invariant; its message is on stderr.
fn ended(thread: JoinHandle<ToolEnd>) -> ToolEnd {
    thread.join().unwrap_or_else(|_| ToolEnd::by_error(ErrorKind::Broken))
}

/// Writes what a check has found.
fn print(found: &LinkReader) -> Result<()> {
    let mut text = String::new();
    found.open()?.read_to_string(&mut text).map_err(failed)?;
    Io::Process.print(&text)
}

fn failed(error: std::io::Error) -> Error {
    Error::io("a stage", &error)
}
