//! Schemas of events: subjects, their versions, ids and compatibility.
//!
//! A *subject* is the name of a line of schemas, one version after another; an event's subject is its type. The model
//! ([`schema`]), its parser and the rules of compatibility ([`compat`]) are pure; [`directory`] reads and writes files,
//! [`confluent`] asks a server, and [`wire`] reads the Avro whose schemas it has: they stand above the line with the
//! stores. Who validates asks [`Schemas`]; who keeps schemas asks [`Registry`], whatever it is ([`place::open`]).

pub mod compat;
pub mod confluent;
mod default;
pub mod directory;
pub mod parse;
pub mod percent;
pub mod place;
pub mod reader;
mod reference;
pub mod rows;
pub mod schema;
pub mod wire;

pub use compat::{Conflict, Direction, Incompatibility, Level, check, check_level};
pub use schema::Schema;

use crate::error::Result;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Where subjects are looked up.
pub trait Schemas {
    /// The subject of that name with all its versions. Asked again it returns the same `Arc` until a version has been
    /// added, so that what was compiled for it can be kept.
    fn subject(&mut self, name: &str) -> Result<Lookup>;
}

/// What is known of a name.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// It is a subject.
    Found(Arc<Subject>),
    /// It has no version.
    Unknown,
    /// It is a subject whose schemas evt cannot use, for this reason.
    Useless(Arc<str>),
    /// The registry cannot be asked, for this reason, and the run does not wait for it.
    Away(Arc<str>),
}

impl Lookup {
    /// The subject, if it was found.
    pub fn found(self) -> Option<Arc<Subject>> {
        match self {
            Self::Found(subject) => Some(subject),
            Self::Unknown | Self::Useless(_) | Self::Away(_) => None,
        }
    }
}

/// Where schemas are kept.
pub trait Registry: Schemas {
    /// Whether it can be asked now; nothing is waited for.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    /// The subjects there are, by name.
    fn subjects(&mut self) -> Result<Vec<String>>;

    /// The level of a subject, which need not exist yet.
    fn level(&mut self, subject: &str) -> Result<Level>;

    /// Adds `text` as the next version of `subject`, if its level allows it. 78 if the text is no valid schema.
    fn register(&mut self, subject: &str, text: &str) -> Result<Registration>;

    /// What the registry itself has against `text` as the next version of `subject`; none where it has no opinion of
    /// its own.
    fn objections(&mut self, _subject: &str, _text: &str) -> Result<Option<Vec<String>>> {
        Ok(None)
    }
}

/// What came of a registration.
#[derive(Debug)]
pub enum Registration {
    /// It is a new version, this one.
    Added(u32),
    /// It is the same as this version; nothing was written.
    Existing(u32),
    /// It may not follow the versions there are; nothing was written.
    Refused {
        /// What evt has against it, each with the number of the version it meets.
        conflicts: Vec<(u32, Conflict)>,
        /// What the registry said, where it is one that speaks for itself.
        said: Option<String>,
    },
}

/// What `versions` have against a schema that would follow them, each conflict with the number of the version it meets.
pub fn conflicts(schema: &Schema, versions: &[Version], level: Level) -> Vec<(u32, Conflict)> {
    let history: Vec<&Schema> = versions.iter().map(|version| version.schema.as_ref()).collect();
    let numbered = |conflict: Conflict| Some((versions.get(conflict.against)?.number, conflict));
    check_level(schema, &history, level).into_iter().filter_map(numbered).collect()
}

/// A line of schemas.
#[derive(Debug)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Its versions, oldest first; never empty.
    pub versions: Vec<Version>,
}

/// One schema of a subject; never changed once it is there.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its number, from 1; numbers may have gaps.
    pub number: u32,
    /// The number in the column `schema_id`.
    pub id: i64,
    /// The schema.
    pub schema: Arc<Schema>,
    /// Its text as registered.
    pub text: Arc<str>,
}

impl Subject {
    /// The version with that number.
    pub fn version(&self, number: u32) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The version registered last.
    pub fn latest(&self) -> Option<&Version> {
        self.versions.last()
    }
}

/// The schema id of a version of a directory registry: the low 31 bits of XXH3-64 over `SUBJECT NUL NUMBER`.
///
/// A function of the two names alone: it is the same on every machine and needs no file that hands out numbers. It fits
/// the four bytes of the Confluent wire format and every reader's integers. Among 1,000 schemas two share an id with a
/// chance of 1 in 4,300; rows are still told apart by their subject.
pub fn schema_id(subject: &str, number: u32) -> i64 {
    let key = format!("{subject}\0{number}");
    i64::from((xxh3_64(key.as_bytes()) & 0x7fff_ffff) as u32)
}
