//! evt-schema: check, register, list and show the schemas of events.

use crate::cli::Tool;
use crate::cli::args::CommonArgs;
use crate::cli::check::Findings;
use crate::error::{Error, Result};
use crate::registry::directory::{Directory, Registration};
use crate::registry::{Level, Schema, check_level};
use crate::stream::run::Run;
use crate::stream::standard::print;
use clap::{Parser, Subcommand};
use std::fmt::Write as _;
use std::io::Read;
use std::rc::Rc;

/// Check, register, list and show event schemas
#[derive(Parser, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Say whether a schema may follow others; exit 1 if not
    Check {
        /// The new schema; - is standard input
        #[arg(value_name = "NEW.avsc")]
        new: String,
        /// Schemas it follows, oldest first; none: always compatible
        #[arg(long, value_name = "OLD.avsc")]
        against: Vec<String>,
        /// How strictly they must agree: NONE, BACKWARD, FORWARD, FULL, and each of the last three with _TRANSITIVE
        #[arg(long, value_name = "LEVEL", default_value = "BACKWARD", value_parser = parse_level)]
        level: Level,
    },
    /// Add a schema to a subject if it is compatible; exit 1 if not
    Register {
        /// The new schema; - is standard input
        #[arg(value_name = "NEW.avsc")]
        new: String,
        /// The subject: the event type, unless --subject of evt-validate says otherwise
        #[arg(long, value_name = "NAME")]
        subject: String,
        /// Directory of schemas
        #[arg(long, value_name = "DIR")]
        schemas: String,
    },
    /// List subjects with their level and versions
    List {
        /// Directory of schemas
        #[arg(long, value_name = "DIR")]
        schemas: String,
    },
    /// Print a schema
    Show {
        /// The subject
        #[arg(value_name = "SUBJECT")]
        subject: String,
        /// Its version; the latest without it
        #[arg(long, value_name = "N")]
        number: Option<u32>,
        /// Directory of schemas
        #[arg(long, value_name = "DIR")]
        schemas: String,
    },
}

fn parse_level(text: &str) -> Result<Level, String> {
    Level::from_name(text).ok_or_else(|| {
        "one of NONE BACKWARD FORWARD FULL BACKWARD_TRANSITIVE FORWARD_TRANSITIVE FULL_TRANSITIVE".to_owned()
    })
}

impl Tool for Args {
    const NAME: &'static str = "evt-schema";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("May this schema follow that one?", "evt-schema check new.avsc --against old.avsc --level FULL"),
        ("Register it.", "evt-schema register new.avsc --subject click --schemas schemas"),
        ("What is there.", "evt-schema list --schemas schemas"),
    ];

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn run(self, run: Rc<Run>) -> Result<u8> {
        if self.common.check {
            return self.action.check();
        }
        match &self.action {
            Action::Check { new, against, level } => check(&run, new, against, *level),
            Action::Register { new, subject, schemas } => self.register(&run, (new, subject), schemas),
            Action::List { schemas } => list(schemas),
            Action::Show { subject, number, schemas } => show(subject, *number, schemas),
        }
    }
}

impl Action {
    /// `--check`: the schemas are there and can be read; nothing is registered.
    fn check(&self) -> Result<u8> {
        let mut findings = Findings::default();
        let files: Vec<&String> = match self {
            Action::Check { new, against, .. } => std::iter::once(new).chain(against).collect(),
            Action::Register { new, .. } => vec![new],
            Action::List { .. } | Action::Show { .. } => vec![],
        };
        for file in files.into_iter().filter(|file| *file != "-") {
            parse(file)?;
            findings.ready(file);
        }
        if let Action::Register { schemas, .. } | Action::List { schemas } | Action::Show { schemas, .. } = self {
            Directory::open(schemas)?;
            findings.ready(schemas);
        }
        findings.tell()
    }
}

impl Args {
    fn register(&self, run: &Run, (new, subject): (&str, &str), schemas: &str) -> Result<u8> {
        let text = read(new)?;
        match Directory::open(schemas)?.register(subject, &text).map_err(|error| error.at(new))? {
            Registration::Added(number) => print(&format!("{subject} {number}\n"))?,
            Registration::Existing(number) => {
                print(&format!("{subject} {number}\n"))?;
                if !self.common.quiet {
                    run.console.say(format!("{new}: is version {number} of {subject} already"));
                }
            }
            Registration::Refused(conflicts) => {
                for (number, conflict) in conflicts {
                    run.console.say(format!("{new}: {}", conflict.describe(&format!("version {number}"))));
                }
                return Ok(1);
            }
        }
        Ok(0)
    }
}

fn check(run: &Run, new: &str, against: &[String], level: Level) -> Result<u8> {
    let schema = parse(new)?;
    let history = against.iter().map(|path| parse(path)).collect::<Result<Vec<_>>>()?;
    let conflicts = check_level(&schema, &history.iter().collect::<Vec<_>>(), level);
    for conflict in &conflicts {
        run.console.say(format!("{new}: {}", conflict.describe(&against[conflict.against])));
    }
    Ok(u8::from(!conflicts.is_empty()))
}

fn list(schemas: &str) -> Result<u8> {
    let directory = Directory::open(schemas)?;
    let mut out = String::new();
    for subject in directory.subjects()? {
        let versions: Vec<String> = directory.versions(&subject)?.iter().map(u32::to_string).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{subject} {} {}", directory.level(&subject).name(), versions.join(" "));
    }
    print(&out)?;
    Ok(0)
}

fn show(subject: &str, number: Option<u32>, schemas: &str) -> Result<u8> {
    let mut directory = Directory::open(schemas)?;
    let found = match number {
        Some(number) => directory.schema(subject, number)?,
        None => directory.latest(subject)?,
    };
    let found = found.ok_or_else(|| Error::config(format!("{schemas}: there is no such version of {subject}")))?;
    print(found.text.trim_end())?;
    print("\n")?;
    Ok(0)
}

fn read(path: &str) -> Result<String> {
    let failed = |error: std::io::Error| Error::io(path, &error);
    if path != "-" {
        return std::fs::read_to_string(path).map_err(failed);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn parse(path: &str) -> Result<Schema> {
    Schema::parse(&read(path)?).map_err(|error| error.at(path))
}
