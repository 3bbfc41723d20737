//! The trait of tools (flags and work), and the rows of the table of tools.

use super::check::{CheckReport, SharedPipe};
use clap::{Arg, ArgAction, Command, Parser};
use evt_core::error::{ErrorKind, Result};
use evt_core::time::ZONES_VERSION;
use evt_run::run::Run;
use evt_run::run::io::Io;
use evt_run::stop::Stop;
use evt_run::task_pool::TaskPool;
use signal_hook::consts::SIGPIPE;
use std::ffi::OsString;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

/// What names of tools begin with.
pub const PREFIX: &str = "evt-";

/// A tool: its flags, and what it does.
pub trait Tool: Parser {
    /// The tool's name, `evt-…`.
    const NAME: &'static str;
    /// The flags that `-h` and the SYNOPSIS of the man page show, by their long names; `--help` shows all.
    const USUAL_FLAGS: &'static [&'static str];
    /// The meaning of exit status 1, for EXIT STATUS of the man page.
    const NEGATIVE: &'static str;
    /// EXAMPLES of the man page; each line is tested.
    const EXAMPLES: &'static [(&'static str, &'static str)];
    /// Its systemd unit, if it runs as a service.
    const UNIT: Option<Unit> = None;

    /// Whether it keeps nothing of the rows of a topic that it passes on: it copies their headers, can commit them and
    /// the offsets of its group in one transaction (`exactly_once=true`), and several processes can share the group.
    const PASSES_ROWS_ON: bool = false;

    /// Whether it runs other tools, as evt-pipe does.
    const RUNS_OTHERS: bool = false;

    /// The flags that its actions (subcommands) take too; all of them if `None`.
    const ACTION_FLAGS: Option<&'static [&'static str]> = None;

    /// Gives a tool that runs others its own arguments and the executable.
    fn take_invocation(&mut self, _args: &[OsString], _executable: Executable) {}

    /// Whether the tool would wait for input typed at a terminal.
    fn waits_at_terminal(&self) -> bool {
        false
    }

    /// Whether it shows its metrics itself, even without `--prometheus`.
    fn shows_metrics(&self) -> bool {
        false
    }

    /// Runs the tool; returns the exit status, or the error that ended the run.
    fn run(self, run: &Rc<Run>) -> Result<u8>;

    /// `--check`: adds to `findings` what a run would open, and the faults of the flags.
    fn check(self, run: &Rc<Run>, findings: &mut CheckReport);
}

/// The parts of `systemd/evt-NAME.service` that differ between tools; `systemd/unit.template` has the rest.
#[derive(Clone, Copy)]
pub struct Unit {
    /// The units that start before it.
    pub after: &'static str,
    /// The arguments of the tool.
    pub args: &'static str,
    /// Further lines of its section `[Service]`.
    pub settings: &'static str,
    /// When a timer starts it (`OnCalendar=`); `None`: it runs all the time.
    pub calendar: Option<&'static str>,
}

/// How the process of a tool was started.
pub struct Invocation {
    /// The arguments, with the name of the tool before them.
    pub args: Vec<OsString>,
    /// What contains it.
    pub executable: Executable,
    /// Where it runs.
    pub place: ToolPlace,
}

/// The executable evt.
#[derive(Clone, Copy, Default)]
pub struct Executable {
    /// What `--version` shows.
    pub version: &'static str,
    /// The table of tools.
    pub tools: &'static [ToolRow],
}

/// Where a tool runs: in a process of its own, the default, or in a thread of evt-pipe.
#[derive(Default)]
pub struct ToolPlace {
    /// Its standard input and output.
    pub io: Io,
    /// What it is in a pipeline, if evt-pipe runs it.
    pub stage: Option<NumberedStage>,
}

/// A stage of evt-pipe.
pub struct NumberedStage {
    /// Its number in the pipeline, from 1.
    pub number: usize,
    /// Its stop signal.
    pub stop: Stop,
    /// The threads that the stages share.
    pub pool: Arc<TaskPool>,
    /// What `--check` has found of the pipeline.
    pub checked: Option<SharedPipe>,
}

/// How a tool has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolEnd {
    /// The exit status; 128 + n for signal n.
    pub status: u8,
    /// The kind of the error that has ended it, if one has.
    pub error: Option<ErrorKind>,
    /// The signal that the parent shall see.
    signal: Option<i32>,
}

impl ToolEnd {
    /// The end with an exit status.
    pub fn with(status: u8) -> Self {
        Self { status, error: None, signal: None }
    }

    /// The end by a signal.
    pub(super) fn by_signal(signal: i32) -> Self {
        Self { signal: Some(signal), ..Self::with(128u8.saturating_add(u8::try_from(signal).unwrap_or(0))) }
    }

    /// The end by an error of this kind. A stage whose reader has left holds undelivered events, so it must not appear
    /// successful even if the parent ignores SIGPIPE.
    pub fn by_error(kind: ErrorKind) -> Self {
        let end = if kind == ErrorKind::ReaderGone { Self::by_signal(SIGPIPE) } else { Self::with(kind.exit_status()) };
        Self { error: Some(kind), ..end }
    }

    /// Ends this process.
    pub fn exit(self) -> ExitCode {
        if let Some(signal) = self.signal {
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
        ExitCode::from(self.status)
    }
}

/// A row of the table of tools (`tool::ALL`).
pub struct ToolRow {
    /// The tool's name, `evt-…`.
    pub name: &'static str,
    /// The flags that `-h` and the SYNOPSIS show, by their long names.
    pub usual_flags: &'static [&'static str],
    /// The meaning of exit status 1.
    pub negative: &'static str,
    /// EXAMPLES of the man page.
    pub examples: &'static [(&'static str, &'static str)],
    /// Its systemd unit, if it runs as a service.
    pub unit: Option<Unit>,
    /// Whether it passes rows of topics on, and keeps nothing ([`Tool::PASSES_ROWS_ON`]).
    pub passes_rows_on: bool,
    /// Whether it runs other tools ([`Tool::RUNS_OTHERS`]).
    pub runs_others: bool,
    /// Makes its command.
    pub command: fn() -> Command,
    /// Runs it from start to end.
    pub main: fn(Invocation) -> ToolEnd,
}

impl ToolRow {
    /// Returns the tool of a word: its name, with or without its beginning.
    pub fn find(tools: &'static [ToolRow], word: &str) -> Option<&'static ToolRow> {
        tools.iter().find(|tool| tool.name == word || tool.name.strip_prefix(PREFIX) == Some(word))
    }

    /// Makes the row of a tool, which `main` runs from start to end.
    pub const fn of<T: Tool>(main: fn(Invocation) -> ToolEnd) -> Self {
        Self {
            name: T::NAME,
            usual_flags: T::USUAL_FLAGS,
            negative: T::NEGATIVE,
            examples: T::EXAMPLES,
            unit: T::UNIT,
            passes_rows_on: T::PASSES_ROWS_ON,
            runs_others: T::RUNS_OTHERS,
            command: command::<T>,
            main,
        }
    }
}

/// Returns the command of a tool, every flag with its environment variable; a flag overrides `EVT_FLAG`. `-h` shows the
/// flags that are most used.
pub fn command<T: Tool>() -> Command {
    let with_variable = |arg: Arg| match arg.get_long().map(variable) {
        Some(variable) => arg.env(variable).hide_env(true),
        None => arg,
    };
    let is_usual = |arg: &Arg| arg.get_long().is_none_or(|long| T::USUAL_FLAGS.contains(&long));
    let with_place = |arg: Arg| match is_usual(&arg) {
        true => arg,
        false => arg.hide_short_help(true),
    };
    let command = T::command().name(T::NAME).bin_name(T::NAME).version(env!("CARGO_PKG_VERSION"));
    let command = command
        .after_help(format!("--help shows all flags; man {} has examples.", T::NAME))
        .after_long_help(format!("man {} has examples.", T::NAME));
    // Such flags may precede or follow the subcommand.
    let has_actions = command.has_subcommands();
    let is_of_actions = |long: &str| T::ACTION_FLAGS.is_none_or(|flags| flags.contains(&long));
    let everywhere = |arg: Arg| match arg.get_long().is_some_and(|long| has_actions && is_of_actions(long)) {
        true => arg.global(true),
        false => arg,
    };
    command
        .mut_args(|arg| with_place(everywhere(repeatable(with_variable(arg)))))
        .mut_subcommands(|action| action.mut_args(|arg| repeatable(with_variable(arg))))
}

/// Lets a switch occur more than once, as `-q -q` in a script that adds flags: it says the same each time. A flag
/// with a value may not, because two values may differ.
fn repeatable(arg: Arg) -> Arg {
    match arg.get_action() {
        ArgAction::SetTrue => {
            let id = arg.get_id().clone();
            arg.overrides_with(id)
        }
        _ => arg,
    }
}

/// Sets what `--version` shows: the version, and that of the data that results depend on.
pub(super) fn versioned(command: Command, version: &'static str) -> Command {
    command.version(version).long_version(format!("{version}\ntime zone database {}", ZONES_VERSION))
}

/// Returns the environment variable of a flag.
pub(super) fn variable(long: &str) -> String {
    format!("EVT_{}", long.to_uppercase().replace('-', "_"))
}
