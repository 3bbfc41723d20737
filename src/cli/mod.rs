//! The command line: the main wrapper, shared flags, messages, signals, exit statuses, the summary.
//!
//! [`main`] runs a tool's process from start to end: it reads settings and flags, starts the run (`Run`), calls
//! [`Tool::run`] and turns the result into an exit status. A tool that reads and writes rows drives a
//! [`Stage`](crate::stage::Stage).
//!
//! ```text
//! arguments, EVT_… variables, --config ─► Args ─► resolve (what each input and output is)
//!     ─┬─► check: --check reports every fault
//!      └─► open ─► Stage ─► exit status
//! ```
//!
//! A fault of the command line is exit status 2, before any output is created. A run that rejects its first record
//! creates no output, either.
//!
//! - `tool.rs`: the trait, and a row of the table of tools.
//! - `args.rs`, `http.rs`: shared flags; `values.rs`: their values; `config.rs`: flags in a file; `usage.rs`: messages
//!   of clap.
//! - `resolve.rs`: resolves inputs and outputs; `check.rs`: `--check`; `open.rs`: opens a stage.
//! - `exactly_once.rs`: whether a stage can commit its records and the offsets of its input in one transaction.
//! - `prometheus.rs`: metrics over HTTP or in a file.

pub mod args;
pub mod check;
pub mod config;
mod exactly_once;
pub mod http;
pub mod open;
pub mod prometheus;
pub mod resolve;
mod tool;
mod usage;
pub mod values;

use args::{CommonArgs, LogFormat, RecordArgs};
use check::{CheckReport, SharedPipe};
use clap::FromArgMatches;
use config::Config;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::mapping::BATCH_ROWS;
use evt_core::time::parse_flag_instant;
use evt_kafka::address::parse_settings;
use evt_run::clock::Clock;
use evt_run::console::{About, Colour, Console};
use evt_run::metrics::Metrics;
use evt_run::run::io::Io;
use evt_run::run::{Report, Run};
use evt_run::secret::Secrets;
use evt_run::service::Service;
use evt_run::stop::Stop;
use evt_run::task_pool::TaskPool;
use evt_run::thread::Threads;
use prometheus::{Exporter, MetricsTarget};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::rc::Rc;
use std::sync::Mutex;
pub use tool::{Executable, Invocation, NumberedStage, PREFIX, Tool, ToolEnd, ToolPlace, ToolRow, Unit, command};
use tool::{variable, versioned};
pub use usage::advised_flags;
use usage::sentence;

/// Returns the value of a flag on the command line or in the environment that is needed before clap runs: the format of
/// messages, and the settings file.
fn early(args: &[OsString], long: &str) -> Option<String> {
    let (alone, joined) = (format!("--{long}"), format!("--{long}="));
    let mut args = args.iter().take_while(|arg| *arg != "--");
    while let Some(arg) = args.next() {
        match arg.to_str().and_then(|arg| arg.strip_prefix(&joined)) {
            // If it is not UTF-8, the command line is refused later.
            _ if *arg == *alone => return args.next()?.to_str().map(str::to_owned),
            Some(value) => return Some(value.to_owned()),
            None => {}
        }
    }
    std::env::var(variable(long)).ok()
}

/// Runs a tool from start to end: in a process, or as a stage in a thread.
pub fn main<T: Tool>(Invocation { args, executable, place }: Invocation) -> ToolEnd {
    let Executable { version, tools } = executable;
    let early = |long| early(&args, long);
    // Messages may show arguments before they are known to be URIs, or where none is expected.
    let variables = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"EVT_"));
    let texts = args.iter().cloned().chain(variables.map(|(_, value)| value));
    let mut console = Console::new(T::NAME, Colour::Off);
    texts.for_each(|text| console.secrets.remember_password(&text.to_string_lossy()));
    console = match early("log-format").as_deref() {
        Some("json") => {
            let pipeline = early("pipeline").unwrap_or_else(|| "evt".to_owned());
            console.as_json(about(Clock::System, pipeline, &place))
        }
        Some("github") => console.as_github(),
        _ => console,
    };
    let config = early("config")
        .map_or_else(|| Ok(Config::default()), |path| Config::read(&path, T::NAME, tools, &console.secrets));
    let (command, config) =
        match config.and_then(|config| Ok((config.apply(versioned(command::<T>(), version))?, config))) {
            Ok(applied) => applied,
            Err(error) => return fail(&console, &error),
        };
    let mut shown = command.clone();
    let parsed = command.try_get_matches_from(&args);
    let parsed = parsed.and_then(|found| {
        let (common, records) = (CommonArgs::from_arg_matches(&found)?, RecordArgs::of(&found)?);
        Ok((T::from_arg_matches(&found)?, common, records))
    });
    let (mut tool, common, records) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            shown.build();
            return usage(&console, &error, &shown, tools, &place.io);
        }
    };
    if tool.waits_at_terminal() && !common.check && place.io.has_terminal_for_input() {
        // Nothing better can be done if stderr is gone.
        let _ = shown.write_help(&mut std::io::stderr());
        return ToolEnd::by_error(ErrorKind::Usage);
    }
    tool.take_invocation(&args, executable);
    let pipe = place.stage.as_ref().and_then(|stage| stage.checked.clone());
    let letters = std::env::var_os(variable("dlq"));
    let letters = letters.or_else(|| config.text("dlq").map(OsString::from));
    let catalogs = config.into_catalogs();
    let (run, exporter) = match start(&console, &common, &records, tool.shows_metrics(), place) {
        Ok((run, exporter)) => (Rc::new(Run { letters, catalogs, ..run }), exporter),
        Err(error) => return fail(&console, &error),
    };
    let result = if common.check { check(tool, common.prometheus.as_deref(), pipe, &run) } else { tool.run(&run) };
    run.console.set_progress(None);
    let shown = exporter.finish();
    end(&run, result.and_then(|status| shown.map(|()| status)))
}

/// `--check`: returns the exit status of the worst fault.
fn check<T: Tool>(tool: T, metrics: Option<&str>, pipe: Option<SharedPipe>, run: &Rc<Run>) -> Result<u8> {
    let mut findings = CheckReport::new(run, pipe);
    findings.metrics(metrics);
    tool.check(run, &mut findings);
    findings.report()
}

/// Reports the error of a run, if any, and returns how the tool has ended: by SIGPIPE if the reader is gone, and by the
/// signal that stopped the run unless the run has failed with exit status 70 or 74.
fn end(run: &Run, result: Result<u8>) -> ToolEnd {
    let ended = match result {
        Ok(status) => ToolEnd::with(status),
        Err(error) => {
            if error.kind() != ErrorKind::ReaderGone {
                run.console.fail(&error);
            }
            ToolEnd::by_error(error.kind())
        }
    };
    // A failed write has precedence over a signal: a run that received a signal and then failed has not stopped
    // properly.
    let has_precedence = [ErrorKind::Io, ErrorKind::Broken, ErrorKind::ReaderGone].map(ErrorKind::exit_status);
    match run.stop.signal() {
        // The parent sees the signal, which has precedence over any verdict.
        Some(signal) if !has_precedence.contains(&ended.status) => ToolEnd::by_signal(signal),
        _ => ended,
    }
}

/// Starts the run and the export of its metrics; `early` is the console of the messages before it.
fn start(
    early: &Console,
    common: &CommonArgs,
    records: &RecordArgs,
    shows_metrics: bool,
    place: ToolPlace,
) -> Result<(Run, Exporter)> {
    let colour = match common.color.is_on(std::io::stderr().is_terminal()) {
        true => Colour::On,
        false => Colour::Off,
    };
    let clock = match &common.now {
        Some(text) => Clock::Fixed(parse_flag_instant(text, Clock::System.now(), None)?),
        None => Clock::System,
    };
    // The monotonic clock starts at its first call.
    clock.monotonic();
    let tool = early.tool();
    let mut console = Console::new(tool, colour).quiet(common.quiet).hiding(&early.secrets);
    let about = about(clock.clone(), common.pipeline.clone(), &place);
    let id = about.run.clone();
    match common.log_format {
        LogFormat::Text => {}
        LogFormat::Github => console = console.as_github(),
        LogFormat::Json => {
            console = console.as_json(about);
            if place.stage.is_none() {
                report_panics(&console);
            }
        }
    }
    let target = common.prometheus.as_deref().filter(|_| !common.check).map(MetricsTarget::parse);
    let metrics = if target.is_some() || shows_metrics { Metrics::new(tool) } else { Metrics::default() };
    let service = match &place.stage {
        Some(stage) if stage.number > 1 => Service::none(),
        _ => Service::of_environment(),
    };
    let (stop, pool) = match place.stage {
        Some(NumberedStage { stop, pool, .. }) => (stop, pool),
        None => (Stop::on_signals(&clock)?, TaskPool::new(Threads::new(records.threads.map(usize::from)))),
    };
    let run = Run {
        console,
        io: place.io,
        stop,
        clock,
        report: records.report.unwrap_or(Report::First(10)),
        pipeline: common.pipeline.clone(),
        id,
        record_max: records.max_record,
        pool,
        batch_max: BATCH_ROWS,
        ratio_max: records.max_decompression_ratio,
        ahead_max: Run::AHEAD_MAX,
        kafka: records.kafka_config.as_deref().map_or(Ok(vec![]), |path| kafka_settings(path, &early.secrets))?,
        outages: Default::default(),
        metrics,
        service,
        letters: None,
        catalogs: Default::default(),
    };
    let exporter = target.map_or(Ok(Exporter::None), |target| Exporter::start(&target, &run))?;
    Ok((run, exporter))
}

fn kafka_settings(path: &str, secrets: &Secrets) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::config_file(path, &error))?;
    let settings = secrets.conceal(&text).and_then(|text| parse_settings(&text)).map_err(|error| error.at(path))?;
    Ok(settings.into_iter().map(|(name, value)| (name, secrets.reveal(&value))).collect())
}

/// Returns the members of every JSON line of this run. The run's id is its start and its process id, with the number of
/// a stage of evt-pipe: readable, and different for any two runs.
fn about(clock: Clock, pipeline: String, place: &ToolPlace) -> About {
    let number = place.stage.as_ref().map_or_else(String::new, |stage| format!("-{}", stage.number));
    let run = format!("{}-{}{number}", evt_core::time::format_instant(clock.now()), std::process::id());
    // The format of W3C's traceparent: version-trace-parent-flags.
    let trace = std::env::var("TRACEPARENT").ok().and_then(|text| text.split('-').nth(1).map(str::to_owned));
    let is_id = |id: &String| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    About { clock, run, pipeline, trace_id: trace.filter(is_id) }
}

/// Reports panics as a line like all others.
fn report_panics(console: &Console) {
    let console = Mutex::new(console.clone());
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(console) = console.lock() {
            console.fail(&Error::broken(panic.to_string().replace('\n', " ")));
        }
    }));
}

/// Reports clap's message in evt's form, one line; help and version are not errors.
fn usage(console: &Console, error: &clap::Error, command: &clap::Command, tools: &[ToolRow], io: &Io) -> ToolEnd {
    use clap::error::ErrorKind as Clap;
    if matches!(error.kind(), Clap::DisplayHelp | Clap::DisplayVersion) {
        return match io {
            // With colours on a terminal.
            Io::Process => {
                let printed = error.print().map_err(|error| Error::io("stdout", &error));
                shown(console, printed.and_then(|()| io.print("")))
            }
            _ => shown(console, io.print(&error.render().to_string())),
        };
    }
    fail(console, &Error::usage(format!("{} (see {} --help)", sentence(error, command, tools), console.tool())))
}

/// Writes a text to stdout, such as help.
pub fn show(console: &Console, text: &str) -> ToolEnd {
    shown(console, Io::Process.print(text))
}

/// Returns how a tool ends after text was written to stdout.
fn shown(console: &Console, written: Result<()>) -> ToolEnd {
    match written {
        Ok(()) => ToolEnd::with(0),
        Err(error) if error.kind() == ErrorKind::ReaderGone => ToolEnd::by_error(error.kind()),
        Err(error) => fail(console, &error),
    }
}

/// Reports an error that occurs before the run starts.
pub fn fail(console: &Console, error: &Error) -> ToolEnd {
    console.fail(error);
    ToolEnd::by_error(error.kind())
}
