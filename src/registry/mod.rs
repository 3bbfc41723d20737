//! Schemas of events: subjects, their versions, ids and compatibility.
//!
//! A *subject* is the name of a line of schemas, one version after another; an event's subject is its type. The model
//! ([`schema`]), its parser and the rules of compatibility ([`compat`]) are pure; [`directory`] reads and writes files
//! and stands above the line with the other stores. Whoever needs schemas asks [`Schemas`], so that a registry behind
//! HTTP can stand beside the directory.

pub mod compat;
mod default;
pub mod directory;
pub mod parse;
pub mod schema;

pub use compat::{Conflict, Direction, Incompatibility, Level, check, check_level};
pub use schema::Schema;

use crate::error::Result;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Where subjects are looked up.
pub trait Schemas {
    /// The subject of that name with all its versions, or none if it has no version. Asked again it returns the same
    /// `Arc` until a version has been added, so that what was compiled for it can be kept.
    fn subject(&mut self, name: &str) -> Result<Option<Arc<Subject>>>;
}

/// A line of schemas.
#[derive(Debug)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// How strictly a new version must agree with the ones before it.
    pub level: Level,
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
