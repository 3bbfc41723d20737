//! Diagnostics on stderr: one line of clean text, one JSON object or one command of GitHub's workflows each; never a
//! secret.

use crate::clock::Clock;
use crate::secret::Secrets;
use evt_core::error::Error;
use evt_core::format::unpack::SUFFIXES;
use evt_core::time::format_instant;
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Whether diagnostics have colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    #[default]
    Off,
    /// The tool's name is highlighted.
    On,
}

/// The members of every JSON line that identify the run.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// The clock that stamps lines.
    #[serde(skip)]
    pub clock: Clock,
    /// The run's id.
    pub run: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The trace of this run or of the current request (32 hexadecimal digits).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// The position of a faulty record, and the type of its fault.
#[derive(Clone, Debug, Serialize)]
pub struct Faulty<'a> {
    /// The position as text: `FILE:LINE`, `topic/partition@offset`.
    pub position: String,
    /// The file or topic.
    pub origin: &'a str,
    /// Its partition.
    pub partition: &'a str,
    /// Its line or offset.
    pub offset: i64,
    /// The type of its fault.
    pub error_type: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'a str,
    tool: &'a str,
    #[serde(flatten)]
    about: &'a About,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(flatten)]
    faulty: Option<&'a Faulty<'a>>,
    message: String,
}

/// The form of the lines.
#[derive(Clone)]
enum LineFormat {
    Text(Colour),
    Json(Arc<About>),
    /// Errors and faulty records become annotations of files: `::error file=a.jsonl,line=7::…` ("Workflow commands for
    /// GitHub Actions" in GitHub's manual). Notices stay text.
    Github,
}

/// Writes a tool's diagnostics to stderr.
#[derive(Clone)]
pub struct Console {
    tool: &'static str,
    form: LineFormat,
    /// `--quiet`: without notices.
    quiet: bool,
    progress: Arc<Mutex<Option<indicatif::ProgressBar>>>,
    /// The buffer that gets the lines instead of stderr; `None` if they go to stderr.
    captured: Option<Arc<Mutex<String>>>,
    /// The secrets of the run, which no line shows.
    pub secrets: Secrets,
}

impl Console {
    /// Creates a console for `tool`.
    pub fn new(tool: &'static str, colour: Colour) -> Self {
        let (form, secrets) = (LineFormat::Text(colour), Secrets::default());
        Self { tool, form, quiet: false, progress: Arc::default(), captured: None, secrets }
    }

    /// Keeps the lines in memory instead of writing them to stderr.
    pub fn captured(self, lines: &Arc<Mutex<String>>) -> Self {
        Self { captured: Some(lines.clone()), ..self }
    }

    /// Hides these secrets.
    pub fn hiding(self, secrets: &Secrets) -> Self {
        Self { secrets: secrets.clone(), ..self }
    }

    /// Suppresses notices if `quiet`.
    pub fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Switches it to JSON.
    pub fn as_json(self, about: About) -> Self {
        Self { form: LineFormat::Json(Arc::new(about)), ..self }
    }

    /// Switches it to the commands of GitHub's workflows.
    pub fn as_github(self) -> Self {
        Self { form: LineFormat::Github, ..self }
    }

    /// Returns the console with a trace, whose id is in every JSON line.
    pub fn with_trace(&self, trace_id: &str) -> Self {
        match &self.form {
            LineFormat::Json(about) => {
                self.clone().as_json(About { trace_id: Some(trace_id.to_owned()), ..(**about).clone() })
            }
            LineFormat::Text(_) | LineFormat::Github => self.clone(),
        }
    }

    /// Whether it writes JSON; then nothing else may be written to stderr.
    pub fn is_json(&self) -> bool {
        matches!(self.form, LineFormat::Json(_))
    }

    /// Returns the tool's name.
    pub fn tool(&self) -> &'static str {
        self.tool
    }

    /// Writes one diagnostic line, prefixed with the tool's name.
    pub fn say(&self, message: impl std::fmt::Display) {
        self.line("info", None, None, &message.to_string());
    }

    /// Writes one diagnostic line about what is as it should be; `--quiet` suppresses it.
    pub fn notice(&self, message: impl std::fmt::Display) {
        if !self.quiet {
            self.say(message);
        }
    }

    /// Writes one diagnostic line about something that was lost or refused.
    pub fn warn(&self, message: impl std::fmt::Display) {
        self.line("warn", None, None, &message.to_string());
    }

    /// Writes one line with the reason for a negative verdict.
    pub fn deny(&self, message: impl std::fmt::Display) {
        self.line("error", None, None, &message.to_string());
    }

    /// Writes one line about a faulty record.
    pub fn report(&self, faulty: &Faulty<'_>, message: &str) {
        match self.form {
            // In JSON, position and error type are members of their own.
            LineFormat::Json(_) => self.line("warn", None, Some(faulty), message),
            LineFormat::Text(_) | LineFormat::Github => {
                let text = format!("{}: {}: {message}", faulty.position, faulty.error_type);
                self.line("warn", None, Some(faulty), &text);
            }
        }
    }

    /// Writes the line of an error that ends the run.
    pub fn fail(&self, error: &Error) {
        self.line("error", error.position().map(|position| self.secrets.hide(position)), None, &error.to_string());
    }

    fn line(&self, level: &str, position: Option<String>, faulty: Option<&Faulty<'_>>, message: &str) {
        let message = clean(&self.secrets.hide(message));
        let line = match &self.form {
            LineFormat::Json(about) => {
                let time = format_instant(about.clock.now());
                let line = Line { time, level, tool: self.tool, about: about.as_ref(), position, faulty, message };
                // Texts always serialize.
                serde_json::to_string(&line).unwrap_or_default() + "\n"
            }
            LineFormat::Github => match (level, faulty) {
                // A CI job shows a rejected record at its line.
                (_, Some(faulty)) => self.command("error", Place::of_record(faulty), &message),
                ("error", None) => self.command("error", Place::of_message(&message), &message),
                ("warn", None) => self.command("warning", Place::of_message(&message), &message),
                _ => format!("{}: {message}\n", self.tool),
            },
            LineFormat::Text(Colour::Off) => format!("{}: {message}\n", self.tool),
            LineFormat::Text(Colour::On) => format!("\x1b[1m{}\x1b[0m: {message}\n", self.tool),
        };
        if let Some(lines) = &self.captured {
            return lines.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
        }
        let write = || {
            // A failure of stderr cannot be reported.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        };
        match self.progress.lock().ok().and_then(|bar| bar.clone()) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Returns a line that GitHub shows at a file, or at the job.
    fn command(&self, command: &str, place: Option<Place>, message: &str) -> String {
        let place = place.map_or_else(String::new, |Place { file, line }| {
            let file = clean(&file).replace('%', "%25").replace(':', "%3A").replace(',', "%2C");
            let line = line.map_or_else(String::new, |line| format!(",line={line}"));
            format!(" file={file}{line}")
        });
        format!("::{command}{place}::{}: {}\n", self.tool, message.replace('%', "%25"))
    }

    /// Sets the progress line that diagnostics must not overwrite.
    pub fn set_progress(&self, bar: Option<indicatif::ProgressBar>) {
        if let Ok(mut slot) = self.progress.lock() {
            *slot = bar;
        }
    }
}

/// A file, and the line that a message is about.
struct Place {
    file: String,
    line: Option<i64>,
}

impl Place {
    /// Returns the place of a record in a file, which may be compressed: the origin has no `.gz`.
    fn of_record(faulty: &Faulty<'_>) -> Option<Self> {
        let is_line = faulty.position.strip_prefix(faulty.origin).is_some_and(|rest| rest.starts_with(':'));
        if faulty.origin == "-" || !is_line {
            return None;
        }
        let name = faulty.origin.replace("%25", "%");
        let packed = SUFFIXES.iter().map(|suffix| format!("{name}{suffix}"));
        let file = packed.into_iter().find(|packed| !Path::new(&name).exists() && Path::new(packed).is_file());
        Some(Self { file: file.unwrap_or(name), line: Some(faulty.offset) })
    }

    /// Returns the place that a message begins with: `FILE:LINE: …`, `FILE: line LINE: …` or `FILE: …`.
    fn of_message(message: &str) -> Option<Self> {
        let (name, rest) = message.split_once(": ")?;
        let number = |text: &str| text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())].parse().ok();
        let (file, line) = match name.rsplit_once(':').map(|(file, line)| (file, line.parse().ok())) {
            Some((file, Some(line))) => (file, Some(line)),
            _ => (name, rest.split_once("line ").and_then(|(_, line)| number(line))),
        };
        Path::new(file).is_file().then(|| Self { file: file.to_owned(), line })
    }
}

/// Replaces control characters: outside text may contain terminal escapes and newlines, and a diagnostic is one clean
/// line.
fn clean(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
