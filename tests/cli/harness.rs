//! A directory for each test, commands whose failures show all their output, and data for tests.

#[path = "../support/in_ci.rs"]
mod in_ci;

pub use in_ci::in_ci;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Usual limit of a wait.
const MINUTE: Duration = Duration::from_secs(60);
/// Limit of a wait for work that takes minutes on a slow machine; less than the ten minutes for which stages wait.
pub const LONG_WAIT: Duration = Duration::from_secs(300);
/// Numbers of threads with which what is kept in `testdata` is the same.
pub const THREADS: [&str; 2] = ["1", "3"];
/// The checkout.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The directory of the binaries.
pub fn bin_dir() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_evt")).parent().expect("a binary lies in a directory").to_owned()
}

/// The tools that read rows and write rows to any output; evt-backfill writes to a store of metrics only,
/// evt-replay with a ledger.
pub fn row_tools() -> impl Iterator<Item = &'static str> {
    let reads_rows = |tool: &evt::cli::ToolRow| (tool.command)().get_arguments().any(|arg| arg.get_id() == "inputs");
    // evt-alert needs rules.
    let tools = evt::tool::ALL.iter().filter(move |tool| reads_rows(tool)).map(|tool| tool.name);
    tools.filter(|name| !["evt-alert", "evt-backfill", "evt-replay"].contains(name))
}

/// A directory of one test; removed unless the test fails.
pub struct Dir {
    path: PathBuf,
    /// Whether its files stand for a stream that continues.
    is_live: bool,
    /// `EVT_THREADS` of its commands.
    threads: Option<&'static str>,
}

impl Dir {
    /// A new, empty directory with `name` in its own.
    pub fn new(name: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("the target directory is writable");
        Self { path, is_live: false, threads: None }
    }

    /// A new directory in which windows fire while files are read, as those of a topic do: `EVT_OUT_OF_ORDERNESS=30s`.
    pub fn live(name: &str) -> Self {
        let mut dir = Self::new(name);
        dir.is_live = true;
        dir
    }

    /// Lets commands use this many threads, also for an input of a few bytes.
    pub fn with_threads(mut self, count: &'static str) -> Self {
        self.threads = Some(count);
        self
    }

    /// The path of `name` in here.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it is below the directory")).expect("writable");
        std::fs::write(path, bytes).expect("writable");
    }

    /// The bytes of a file, which must exist.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{}/{name}: {error}", self.path.display()))
    }

    /// The rows of a file of JSON lines.
    pub fn rows(&self, name: &str) -> Vec<Value> {
        rows(&self.bytes(name))
    }

    /// A command of one program.
    pub fn command(&self, program: &str, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(program_path(program));
        command.args(args).current_dir(&self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("EVT_") {
                command.env_remove(name);
            }
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(bin_dir()).chain(std::env::split_paths(&path)));
        if self.is_live {
            command.env("EVT_OUT_OF_ORDERNESS", "30s");
        }
        if let Some(threads) = self.threads {
            command.env("EVT_THREADS", threads);
        }
        command.env("PATH", path.expect("PATH had no colon in a name")).env("NO_COLOR", "1").env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs a tool to its end with nothing on standard input.
    pub fn run(&self, program: &str, args: &[impl AsRef<OsStr>]) -> Run {
        Run::of(self.command(program, args).stdin(Stdio::null()))
    }

    /// Runs a tool to its end with these bytes on standard input.
    pub fn feed(&self, program: &str, args: &[impl AsRef<OsStr>], input: &[u8]) -> Run {
        let mut command = self.command(program, args);
        let mut child = spawn(command.stdin(Stdio::piped()));
        let mut stdin = child.stdin.take().expect("it is piped");
        let output = std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input));
            child.wait_with_output().expect("it ends")
        });
        Run { told: told(&command), output }
    }

    /// Runs a line of shell, as in the README.
    pub fn shell(&self, line: &str) -> Run {
        Run::of(self.command("bash", &["-o", "pipefail", "-c", line]).stdin(Stdio::null()))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A remaining directory below target/ is harmless.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn told(command: &Command) -> String {
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    let dir = command.get_current_dir().unwrap_or(Path::new("."));
    format!("cd {}; {} {}", dir.display(), command.get_program().to_string_lossy(), args.join(" "))
}

/// A command that has ended; its `Display` shows all of its output.
pub struct Run {
    told: String,
    output: Output,
}

impl Run {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = spawn(command).wait_with_output().expect("it ends");
        Self { told: told(command), output }
    }

    /// Asserts its exit status: 128 + n for signal n, as in a shell.
    #[track_caller]
    pub fn ends_with(self, status: i32) -> Self {
        assert_eq!(self.status(), status, "{self}");
        self
    }

    /// Asserts that it succeeded.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        self.ends_with(0)
    }

    /// Its exit status.
    pub fn status(&self) -> i32 {
        status(self.output.status)
    }

    /// Standard output.
    pub fn stdout(&self) -> &[u8] {
        &self.output.stdout
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Standard output as JSON lines.
    pub fn rows(&self) -> Vec<Value> {
        rows(&self.output.stdout)
    }

    /// Standard error as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Asserts that it did not crash: no panic, no backtrace, not ended by a signal.
    #[track_caller]
    pub fn stays_calm(self) -> Self {
        let stderr = self.stderr();
        assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{self}");
        assert!(self.output.status.code().is_some_and(|code| code != 70), "{self}");
        self
    }
}

/// Returns the exit status of a process: 128 + n for signal n.
pub fn status(status: std::process::ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).expect("it has ended")
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(4000)]).into_owned();
        let (out, err) = (shown(&self.output.stdout), shown(&self.output.stderr));
        write!(f, "{}\n{}\n--- stdout\n{out}\n--- stderr\n{err}\n---", self.told, self.output.status)
    }
}

fn rows(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("JSON lines are UTF-8");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The path of third-party data. `None`, with one message, if it is missing; CI requires it.
pub fn data(name: &str) -> Option<PathBuf> {
    needed("EVT_DATA", "the third-party data").map(|dir| Path::new(&dir).join(name))
}

/// Returns the path of a program. With a path the standard library starts it by posix_spawn(3); with a name and another
/// `PATH` by fork(2), which copies the page tables of this process: gigabytes of memory of all tests.
fn program_path(program: &str) -> PathBuf {
    if program == "evt" || program.starts_with("evt-") {
        return bin_dir().join(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| program.into())
}

/// The Python that has pyarrow, duckdb, polars and fastavro (scripts/python prints it).
pub fn python() -> Option<String> {
    needed("EVT_PYTHON", "a Python with pyarrow, duckdb, polars and fastavro (scripts/python)")
}

/// Prometheus' promtool (scripts/promtool prints its path).
pub fn promtool() -> Option<String> {
    needed("EVT_PROMTOOL", "Prometheus' promtool (scripts/promtool)")
}

fn needed(variable: &str, what: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|path| Path::new(path).exists());
    if found.is_none() {
        assert!(!in_ci(), "{variable} must name {what} in CI");
        eprintln!("skipped: {variable} does not name {what}");
    }
    found
}

/// The cases of a file of JSON lines in the data.
pub fn cases(name: &str) -> Vec<Value> {
    data(name).map_or(vec![], |path| rows(&std::fs::read(path).expect("the data is complete")))
}

/// Random draws from a seed; its `Display` is the setting that repeats them.
pub struct Draws {
    seed: u64,
    drawn: u64,
}

impl Draws {
    /// Makes the draws of `EVT_SEED`, or of the fixed default seed.
    pub fn new() -> Self {
        let seed = std::env::var("EVT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        Self::of(seed)
    }

    /// The draws of a seed.
    pub fn of(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.drawn += 1;
        xxhash_rust::xxh3::xxh3_64_with_seed(&self.drawn.to_le_bytes(), self.seed) % end.max(1)
    }
}

impl fmt::Display for Draws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EVT_SEED={} draw {}", self.seed, self.drawn)
    }
}

/// Waits until a condition holds, at most a minute.
#[track_caller]
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(MINUTE, what, holds);
}

/// Waits until a condition holds, at most this long. A long wait asks less often: a condition may start processes,
/// which would take the time that others need to fulfil it.
#[track_caller]
pub fn eventually_within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "in vain: {what}");
        let pause = if start.elapsed() < Duration::from_secs(2) { 1 } else { 50 };
        std::thread::park_timeout(Duration::from_millis(pause));
    }
}

/// Stops a process by SIGSTOP and waits until no thread of it runs.
#[track_caller]
pub fn suspend(child: &Child) {
    kill_process(Pid::from_child(child), Signal::STOP).expect("it runs");
    eventually("no thread runs", || is_stopped(child));
}

/// Whether no thread of a process runs any more after SIGSTOP. A thread in a system call finishes the call before it
/// stops, so it may still take a lock.
pub fn is_stopped(child: &Child) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("a child");
    threads.map(|thread| thread.expect("a thread").path().join("status")).all(|status| {
        // A thread that is gone does not run.
        std::fs::read_to_string(status).map_or(true, |status| status.contains("\nState:\tT"))
    })
}

/// Waits, like [`eventually`], until a process has ended; returns its exit status.
#[track_caller]
pub fn ended(what: &str, process: &mut Child) -> i32 {
    ended_within(MINUTE, what, process)
}

/// Waits, like [`eventually_within`], until a process has ended; returns its exit status. Kills a process that does not
/// end, and prints its messages if its stderr is piped.
#[track_caller]
pub fn ended_within(limit: Duration, what: &str, process: &mut Child) -> i32 {
    let start = Instant::now();
    loop {
        if let Some(end) = process.try_wait().expect("it is a child") {
            return status(end);
        }
        if start.elapsed() >= limit {
            process.kill().expect("killed");
            let mut said = vec![];
            if let Some(stderr) = &mut process.stderr {
                // Its children may have the pipe open.
                rustix::io::ioctl_fionbio(&stderr, true).expect("a pipe");
                let _ = stderr.read_to_end(&mut said);
            }
            panic!("in vain: {what}: {}", String::from_utf8_lossy(&said));
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Starts a command and kills it after this time (ms); false if it ended before.
pub fn is_killed_within(command: &mut Command, millis: u64) -> bool {
    let mut run = command.spawn().expect("it starts");
    // The scheduler decides what the run has done by then; every state must do.
    let end = Instant::now() + Duration::from_millis(millis);
    while Instant::now() < end && run.try_wait().expect("it is ours").is_none() {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let is_killed = run.try_wait().expect("it is ours").is_none();
    let _ = run.kill();
    run.wait().expect("it ends");
    is_killed
}

/// Whether a process handles SIGINT and SIGTERM.
pub fn listens(process: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("Linux says so");
    let caught = u64::from_str_radix(caught.trim(), 16).expect("a set of signals");
    [Signal::INT, Signal::TERM].iter().all(|signal| caught >> (signal.as_raw() - 1) & 1 == 1)
}

/// Runs a script of `tests/oracle` with this Python; it must succeed.
#[track_caller]
pub fn ask(dir: &Dir, python: &str, script: &str, args: &[&str]) -> Run {
    let mut all = vec![format!("{ROOT}/tests/oracle/{script}")];
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    dir.run(python, &all).succeeds()
}
