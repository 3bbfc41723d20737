//! The command line: the main wrapper, shared flags, messages, signals, exit statuses, the summary.

pub mod args;
pub mod http;
pub mod keep;
pub mod progress;
pub mod stage;

use crate::clock::Clock;
use crate::console::{Colour, Console};
use crate::error::{Error, ErrorKind, Result};
use crate::stream::kafka::address::parse_settings;
use crate::stream::run::{Report, Run};
use crate::stream::standard;
use crate::stream::stop::Stop;
use args::CommonArgs;
use clap::{Command, CommandFactory, FromArgMatches, Parser};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::rc::Rc;

/// A tool: its flags, and what it does.
pub trait Tool: Parser + CommandFactory + FromArgMatches {
    /// The tool's name, `evt-…`.
    const NAME: &'static str;
    /// EXAMPLES of the man page; each line is tested.
    const EXAMPLES: &'static [(&'static str, &'static str)];

    /// The flags every tool has.
    fn common(&self) -> &CommonArgs;

    /// Whether the tool would wait at a terminal for input nobody meant to type.
    fn waits_at_terminal(&self) -> bool {
        false
    }

    /// Does the work; the exit status, or the error that ended it.
    fn run(self, run: Rc<Run>) -> Result<u8>;
}

/// The command of a tool, every flag with its environment variable: a flag beats `EVT_FLAG`.
pub fn command<T: Tool>() -> Command {
    T::command().name(T::NAME).bin_name(T::NAME).version(env!("CARGO_PKG_VERSION")).mut_args(|arg| {
        match arg.get_long() {
            Some(long) if !matches!(long, "help" | "version") => {
                let variable = format!("EVT_{}", long.to_uppercase().replace('-', "_"));
                arg.env(variable).hide_env(true)
            }
            _ => arg,
        }
    })
}

/// The whole life of a tool's process.
pub fn main<T: Tool>() -> ExitCode {
    let matches = match command::<T>().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(T::NAME, &error),
    };
    let tool = match T::from_arg_matches(&matches) {
        Ok(tool) => tool,
        Err(error) => return usage(T::NAME, &error),
    };
    if tool.waits_at_terminal() && std::io::stdin().is_terminal() {
        // Nothing better can be done where stderr is gone.
        let _ = command::<T>().write_help(&mut std::io::stderr());
        return ExitCode::from(ErrorKind::Usage.exit_status());
    }
    let run = match start(T::NAME, tool.common()) {
        Ok(run) => Rc::new(run),
        Err(error) => return fail(T::NAME, &error),
    };
    let result = tool.run(run.clone());
    run.console.set_progress(None);
    end(&run, result)
}

/// Says what ended the run, and how a shell shall see it.
fn end(run: &Run, result: Result<u8>) -> ExitCode {
    let status = match result {
        Ok(status) => status,
        Err(error) if error.kind() == ErrorKind::ReaderGone => {
            // A stage whose reader left holds undelivered events: it must not look done, whatever the parent ignored.
            let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
            ErrorKind::ReaderGone.exit_status()
        }
        Err(error) => {
            run.console.fail(&error);
            error.kind().exit_status()
        }
    };
    if let Some(signal) = run.stop.signal() {
        // So that the parent sees the signal; it wins over any verdict.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
        return ExitCode::from(128u8.saturating_add(u8::try_from(signal).unwrap_or(0)));
    }
    ExitCode::from(status)
}

fn start(tool: &'static str, common: &CommonArgs) -> Result<Run> {
    let colour = match common.color.is_on(std::io::stderr().is_terminal()) {
        true => Colour::On,
        false => Colour::Off,
    };
    let clock = match &common.now {
        Some(text) => Clock::Fixed(args::parse_instant_or_now(text, Clock::System.now())?),
        None => Clock::System,
    };
    Ok(Run {
        console: Console::new(tool, colour),
        clock,
        stop: Stop::on_signals()?,
        report: common.report.unwrap_or(Report::First(10)),
        pipeline: common.pipeline.clone(),
        id: run_id(clock),
        record_max: common.max_record,
        ratio_max: common.max_ratio,
        kafka: common.kafka_config.as_deref().map_or(Ok(vec![]), kafka_settings)?,
    })
}

fn kafka_settings(path: &str) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
    parse_settings(&text).map_err(|error| error.at(path))
}

/// When the run began and its process: different for any two runs, and readable.
fn run_id(clock: Clock) -> String {
    format!("{}-{}", crate::time::format_instant(clock.now()), std::process::id())
}

/// clap's message as ours: one line; help and version are no errors.
fn usage(tool: &'static str, error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind as Clap;
    if matches!(error.kind(), Clap::DisplayHelp | Clap::DisplayVersion) {
        return match error.print().map_err(|e| Error::io("stdout", &e)).and(standard::output()) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => fail(tool, &error),
        };
    }
    let text = error.render().to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let told = lines.iter().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let told: Vec<&str> = told.map(|line| line.strip_prefix("error: ").unwrap_or(line)).collect();
    fail(tool, &Error::usage(format!("{} (see {tool} --help)", told.join(" "))))
}

/// An error before there is a run.
fn fail(tool: &'static str, error: &Error) -> ExitCode {
    Console::new(tool, Colour::Off).fail(error);
    ExitCode::from(error.kind().exit_status())
}
