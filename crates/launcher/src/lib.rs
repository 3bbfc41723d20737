//! What an executable with the name of a tool does: it executes evt, which contains all tools, in its own process.
//!
//! The arguments, the environment, the open files and the process id stay. [`LAUNCHER`] tells evt the version of its
//! launcher; evt compares it and removes the variable before its main function (`src/bin/before_main.c`).
#![deny(missing_docs)]

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The variable with the version of the launcher.
pub const LAUNCHER: &str = "EVT_LAUNCHER";

/// The exit status of an installation that is not whole; evt calls it a fault of the configuration.
const NOT_WHOLE: u8 = 78;

/// Executes evt as `tool`. Returns only if that fails.
pub fn main(tool: &str, version: &str) -> ExitCode {
    // Without /proc the path of this executable is unknown, and evt is searched in PATH.
    let evt = std::env::current_exe().map_or_else(|_| PathBuf::from("evt"), |own| own.with_file_name("evt"));
    let mut args = std::env::args_os();
    let error = Command::new(&evt).arg0(name(tool, args.next())).args(args).env(LAUNCHER, version).exec();
    let path = evt.display();
    // Nothing better can be done if stderr is gone.
    let _ = writeln!(
        std::io::stderr(),
        "{tool}: {path}: {error}; evt contains all tools and belongs beside {tool}: cargo install and cargo build make both"
    );
    ExitCode::from(NOT_WHOLE)
}

/// Returns the name under which evt is started, by which it knows the tool: the present one, unless a link has another.
fn name(tool: &str, started_as: Option<OsString>) -> OsString {
    let is_tool = |name: &OsString| Path::new(name).file_name().is_some_and(|file| file == tool);
    started_as.filter(is_tool).unwrap_or_else(|| tool.into())
}
