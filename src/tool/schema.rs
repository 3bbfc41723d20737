//! evt-schema: check, register, list and show the schemas of events.

use crate::cli::Tool;
use crate::cli::args::CommonArgs;
use crate::cli::check::CheckReport;
use crate::cli::values::parse_registry;
use clap::{Parser, Subcommand};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::schema::AVRO;
use evt_core::schema::language::Schema;
use evt_core::schema::level::{Conflict, Level, check_level};
use evt_core::schema::subject::{Lookup, Subject};
use evt_run::input::bytes;
use evt_run::metrics;
use evt_run::registry::directory::read_schema;
use evt_run::registry::{Registration, Registry, conflicts, place};
use evt_run::run::byte_stream::ByteStream;
use evt_run::run::io::Io;
use evt_run::run::{Run, report_file};
use evt_run::stop::{Stop, Woken};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Check, register, list and show event schemas
#[derive(Parser, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    common: CommonArgs,
}

#[allow(rustdoc::broken_intra_doc_links, reason = "help shows these comments as they are written")]
#[derive(Subcommand, Debug)]
enum Action {
    /// Check whether a schema is compatible with earlier ones; exit with status 1 if not
    Check {
        /// Read the new schema from this file; - is standard input
        #[arg(value_name = "NEW.avsc")]
        new: String,
        /// Compare with these schemas, oldest first
        #[arg(long, value_name = "OLD.avsc")]
        against: Vec<String>,
        /// Compare with all versions of this subject
        #[arg(long, value_name = "NAME", requires = "schemas", conflicts_with = "against")]
        subject: Option<String>,
        /// Find the subject in this directory or registry of schemas
        #[arg(long, value_name = "DIR|URL", requires = "subject", value_parser = parse_registry)]
        schemas: Option<String>,
        /// Check at this compatibility level: NONE, BACKWARD, FORWARD, FULL, or one of the last three with _TRANSITIVE
        /// [default: the level of the subject, else BACKWARD]
        #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
        level: Option<Level>,
    },
    /// Register a schema under a subject if it is compatible; exit with status 1 if not
    Register {
        /// Read the new schema from this file; - is standard input
        #[arg(value_name = "NEW.avsc")]
        new: String,
        /// Register under this subject: the event type, unless evt-validate --subject names another field
        #[arg(long, value_name = "NAME")]
        subject: String,
        /// Use this directory of schemas or registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]
        #[arg(long, value_name = "DIR|URL", value_parser = parse_registry)]
        schemas: String,
    },
    /// List subjects with their level and versions
    List {
        /// Use this directory of schemas or registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]
        #[arg(long, value_name = "DIR|URL", value_parser = parse_registry)]
        schemas: String,
    },
    /// Print a schema
    Show {
        /// Print a schema of this subject
        #[arg(value_name = "SUBJECT")]
        subject: String,
        /// Print this version [default: the latest]
        #[arg(long, value_name = "N")]
        number: Option<u32>,
        /// Use this directory of schemas or registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]
        #[arg(long, value_name = "DIR|URL", value_parser = parse_registry)]
        schemas: String,
    },
}

fn parse_level(text: &str) -> Result<Level, String> {
    Level::from_name(text).ok_or_else(|| {
        "expected one of NONE BACKWARD FORWARD FULL BACKWARD_TRANSITIVE FORWARD_TRANSITIVE FULL_TRANSITIVE".to_owned()
    })
}

impl Tool for Args {
    const NAME: &'static str = "evt-schema";
    const USUAL_FLAGS: &'static [&'static str] = &["quiet", "config"];
    const NEGATIVE: &'static str =
        "The verdict is negative: the schema is incompatible, or the registry would reject it.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Check compatibility with another schema.", "evt-schema check new.avsc --against old.avsc --level FULL"),
        ("Register it.", "evt-schema register new.avsc --subject click --schemas schemas"),
        (
            "Register it in a schema registry.",
            "evt-schema register new.avsc --subject click --schemas http://localhost:8081",
        ),
        ("List subjects and versions.", "evt-schema list --schemas schemas"),
    ];

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        let verdict = self.act(run)?;
        if let Some(path) = &self.common.stats {
            let stats = serde_json::json!({
                "tool": Self::NAME,
                "pipeline": run.pipeline,
                "verdict": verdict,
                "cpu_seconds": metrics::cpu_seconds(),
            });
            report_file::write(path, &format!("{stats}\n"))?;
        }
        Ok(verdict)
    }

    /// Checks that the schemas exist and can be read; registers nothing.
    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        let files: Vec<&String> = match &self.action {
            Action::Check { new, against, .. } => std::iter::once(new).chain(against).collect(),
            Action::Register { new, .. } => vec![new],
            Action::List { .. } | Action::Show { .. } => vec![],
        };
        for file in files.into_iter().filter(|file| *file != "-") {
            if findings.take(parse(run, file)).is_some() {
                findings.ready(file);
            }
        }
        let schemas = match &self.action {
            Action::Check { schemas, .. } => schemas.as_ref(),
            Action::Register { schemas, .. } | Action::List { schemas } | Action::Show { schemas, .. } => Some(schemas),
        };
        if let Some(schemas) = schemas {
            findings.take(place::check_plain(schemas, &run.caller()));
            if let Some(subject) = self.action.new_subject() {
                findings.take(place::check_subject(schemas, subject, &run.caller()));
            }
            findings.schemas(schemas);
        }
    }
}

impl Action {
    /// Returns the subject that a schema is to be added to, if there is one.
    fn new_subject(&self) -> Option<&str> {
        match self {
            Self::Check { subject, .. } => subject.as_deref(),
            Self::Register { subject, .. } => Some(subject),
            Self::List { .. } | Self::Show { .. } => None,
        }
    }
}

impl Args {
    /// Runs the subcommand; returns the verdict.
    fn act(&self, run: &Run) -> Result<u8> {
        let open = |schemas: &str| {
            if let Some(subject) = self.action.new_subject() {
                place::check_subject(schemas, subject, &run.caller())?;
            }
            place::open_plain(schemas, &run.caller())
        };
        match &self.action {
            Action::Check { new, subject: Some(subject), schemas: Some(schemas), level, .. } => {
                check_subject(run, new, subject, *level, open(schemas)?.as_mut())
            }
            Action::Check { new, against, level, .. } => check(run, new, against, level.unwrap_or_default()),
            Action::Register { new, subject, schemas } => self.register(run, new, subject, open(schemas)?.as_mut()),
            Action::List { schemas } => list(&run.io, open(schemas)?.as_mut()),
            Action::Show { subject, number, schemas } => {
                let name = place::name(schemas, &run.caller())?;
                show(&run.io, subject, *number, &name, open(schemas)?.as_mut())
            }
        }
    }

    fn register(&self, run: &Run, new: &str, subject: &str, registry: &mut dyn Registry) -> Result<u8> {
        let text = read(run, new)?;
        match registry.register(subject, &text).map_err(|error| error.at(new))? {
            Registration::Added(number) => run.io.print(&format!("{subject} {number}\n"))?,
            Registration::Existing(number) => {
                run.io.print(&format!("{subject} {number}\n"))?;
                if !self.common.quiet {
                    run.console.say(format!("{new}: already registered as version {number} of {subject}"));
                }
            }
            Registration::Refused { conflicts, said } => {
                deny(run, new, &text, &conflicts);
                if let Some(said) = said {
                    run.console.deny(format!("{new}: the registry rejected it (409): {said}"));
                }
                return Ok(1);
            }
        }
        Ok(0)
    }
}

fn check(run: &Run, new: &str, against: &[String], level: Level) -> Result<u8> {
    let text = read(run, new)?;
    let schema = parse_at(new, &text)?;
    let named = |path: &String| Ok((path.clone(), parse(run, path)?));
    let history = against.iter().map(named).collect::<Result<Vec<_>>>()?;
    let conflicts = check_level(schema.as_ref(), &history, level);
    deny(run, new, &text, &conflicts);
    Ok(u8::from(!conflicts.is_empty()))
}

/// Reports the conflicts of the schema `text` of the file `new`.
fn deny(run: &Run, new: &str, text: &str, conflicts: &[Conflict]) {
    for Conflict { path, message } in conflicts {
        run.console.deny(format!("{}: {message}", place(new, text, path)));
    }
}

/// Checks a schema against the registered versions: evt's verdict, and the registry's own if it has one.
fn check_subject(run: &Run, new: &str, subject: &str, level: Option<Level>, registry: &mut dyn Registry) -> Result<u8> {
    let text = read(run, new)?;
    let schema = parse_at(new, &text)?;
    let found = found(subject, registry)?;
    let versions = found.as_ref().map_or(&[][..], |found| &found.versions);
    // The registry checks by its own level, so evt queries its verdict only without `--level`.
    let (is_default, level) = (level.is_none(), level.map_or_else(|| registry.level(subject), Ok)?);
    let conflicts = conflicts(schema.as_ref(), versions, level);
    deny(run, new, &text, &conflicts);
    let objections = if is_default { registry.objections(subject, &text)? } else { None };
    for objection in objections.iter().flatten() {
        run.console.deny(format!("{new}: the registry: {objection}"));
    }
    if objections.as_ref().is_some_and(|said| said.is_empty() != conflicts.is_empty()) {
        let (ours, theirs) = if conflicts.is_empty() { ("yes", "no") } else { ("no", "yes") };
        run.console.say(format!("{new}: compatible by evt: {ours}, by the registry: {theirs}"));
    }
    Ok(u8::from(!conflicts.is_empty() || objections.is_some_and(|said| !said.is_empty())))
}

fn list(io: &Io, registry: &mut dyn Registry) -> Result<u8> {
    let mut out = String::new();
    for subject in registry.subjects()? {
        let Some(found) = found(&subject, registry)? else { continue };
        let versions: Vec<String> = found.versions.iter().map(|version| version.number.to_string()).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{subject} {} {}", registry.level(&subject)?.name(), versions.join(" "));
    }
    io.print(&out).map(|()| 0)
}

fn show(io: &Io, subject: &str, number: Option<u32>, name: &str, registry: &mut dyn Registry) -> Result<u8> {
    let unknown = |what: &str| Error::config(format!("{name}: unknown {what} {subject}"));
    let found = found(subject, registry)?.ok_or_else(|| unknown("subject"))?;
    let version = match number {
        Some(number) => found.version(number),
        None => found.latest(),
    };
    let version = version.ok_or_else(|| unknown("version of"))?;
    io.print(&format!("{}\n", version.text.trim_end())).map(|()| 0)
}

fn found(subject: &str, registry: &mut dyn Registry) -> Result<Option<Arc<Subject>>> {
    match registry.subject(subject)? {
        Lookup::Found(found) => Ok(Some(found)),
        Lookup::Unknown => Ok(None),
        Lookup::Useless(why) => Err(Error::config(format!("subject '{subject}'")).because(why)),
        Lookup::Unavailable(cause) => Err(Error::unavailable(cause.as_ref())),
    }
}

/// A file or a pipe that ends at a signal.
struct StoppedAtSignal<'a> {
    stream: Box<dyn ByteStream>,
    stop: &'a Stop,
}

impl Read for StoppedAtSignal<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.stream.wait(self.stop, true, None).map_err(std::io::Error::other)? {
            Woken::Stopped => Ok(0),
            Woken::Ready | Woken::Timeout => self.stream.read(buffer),
        }
    }
}

/// Reads a file or standard input. A run that is stopped meanwhile dies of the signal.
fn read(run: &Run, path: &str) -> Result<String> {
    let stop = &run.stop;
    let stream: std::io::Result<Box<dyn ByteStream>> = match path {
        "-" => Ok(run.io.stdin()?),
        _ => bytes::open(Path::new(path)).map(|file| Box::new(file) as Box<dyn ByteStream>),
    };
    let text = read_schema(stream.map(|stream| StoppedAtSignal { stream, stop }), path)?;
    match stop.signal() {
        Some(_) => Err(Error::new(ErrorKind::Verdict, format!("{path}: stopped before its end"))),
        None => Ok(text),
    }
}

fn parse(run: &Run, path: &str) -> Result<Arc<dyn Schema>> {
    let text = read(run, path)?;
    parse_at(path, &text)
}

/// Parses the text of a file; the error has the line of the field that it names.
fn parse_at(path: &str, text: &str) -> Result<Arc<dyn Schema>> {
    (AVRO.parse)(text).map_err(|error| {
        let message = error.to_string();
        let field = message.strip_prefix("schema: ").and_then(|rest| rest.split_once(": "));
        error.at(place(path, text, field.map_or("", |(field, _)| field)))
    })
}

/// Returns the place of a field in a schema: `FILE: line LINE`, or only the file if the text does not have the name of
/// the field exactly once.
fn place(file: &str, text: &str, path: &str) -> String {
    let name = path.trim_end_matches(['[', ']', '{', '}']).rsplit('.').next().unwrap_or_default();
    let quoted = format!("\"{name}\"");
    let mut found = text.match_indices(&quoted);
    match (found.next(), found.next()) {
        (Some((at, _)), None) => format!("{file}: line {}", 1 + text[..at].matches('\n').count()),
        _ => file.to_owned(),
    }
}
