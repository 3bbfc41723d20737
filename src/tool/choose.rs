//! The executable evt, which contains all tools: the name under which it was started chooses one, or its first
//! argument.

use super::ALL;
use crate::cli::{self, Executable, Invocation, PREFIX, ToolPlace, ToolRow};
use clap::Command;
use evt_core::error::Error;
use evt_core::parse::nearest::hint;
use evt_run::console::{Colour, Console};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Runs the process of evt; `version` is what `--version` shows.
pub fn main(version: &'static str) -> ExitCode {
    let executable = Executable { version, tools: ALL };
    let invocation = |args| Invocation { args, executable, place: ToolPlace::default() };
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().and_then(|name| Path::new(name).file_name()?.to_str());
    if let Some(tool) = ALL.iter().find(|tool| Some(tool.name) == name) {
        return (tool.main)(invocation(args)).exit();
    }
    let console = Console::new("evt", Colour::Off);
    let show = |text: &str| cli::show(&console, text).exit();
    let Some(word) = args.get(1).map(|word| word.to_string_lossy().into_owned()) else { return show(&overview()) };
    // `evt help window` is `evt window --help`.
    let (word, is_help) = match (word.as_str(), args.get(2)) {
        ("help", Some(tool)) => (tool.to_string_lossy().into_owned(), true),
        _ => (word, false),
    };
    if let Some(tool) = ToolRow::find(ALL, &word) {
        let rest = args.split_off(if is_help { 3 } else { 2 });
        let flag = is_help.then(|| "--help".into());
        let args = std::iter::once(tool.name.into()).chain(rest).chain(flag).collect();
        return (tool.main)(invocation(args)).exit();
    }
    match word.as_str() {
        "help" | "-h" | "--help" => show(&overview()),
        "-V" | "--version" => show(&format!("evt {version}\n")),
        _ => cli::fail(&console, &unknown(&word)).exit(),
    }
}

/// Returns the command of evt, of which each tool is a subcommand.
pub fn command() -> Command {
    let tool = |tool: &ToolRow| {
        let name = tool.name.trim_start_matches(PREFIX);
        (tool.command)().name(name).bin_name(format!("evt {name}"))
    };
    Command::new("evt")
        .about("Framed events on stdin and stdout: all tools in one executable")
        .subcommands(ALL.iter().map(tool))
}

/// Returns what evt alone shows: a line for each tool.
fn overview() -> String {
    let about = |tool: &ToolRow| (tool.command)().get_about().map(ToString::to_string).unwrap_or_default();
    let line = |tool: &ToolRow| format!("  {:<10}  {}\n", tool.name.trim_start_matches(PREFIX), about(tool));
    let lines: String = ALL.iter().map(line).collect();
    format!(
        "evt TOOL … is evt-TOOL …:\n\n{lines}\n\
         evt help TOOL shows the flags of a tool; man evt-TOOL has examples, man 7 evt explains how tools form a pipeline.\n"
    )
}

fn unknown(word: &str) -> Error {
    let names: Vec<&str> = ALL.iter().map(|tool| tool.name.trim_start_matches(PREFIX)).collect();
    Error::usage(format!("expected a tool as the first argument, found '{word}': {}", hint(word, &names, ", ")))
}
