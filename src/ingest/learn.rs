//! Derives properties of all records from the field names of the first one.

use crate::error::{Error, Result};
use crate::format::row;
use crate::json::scan::is_json;
use crate::kind::Kind;
use crate::kind::event::{RAW, RAW_BASE64, STAMPS};

/// The first JSON object of a run.
pub(super) struct FirstObject {
    /// The kind that has its field names.
    pub kind: Kind,
    /// Whether it has all stamps.
    has_stamps: bool,
    /// Whether it has a raw record.
    has_raw: bool,
}

impl FirstObject {
    /// Reads the field names of a text; `None` if it is no JSON object.
    pub fn read(text: &str) -> Option<Self> {
        if !text.trim_start().starts_with('{') || !is_json(text) {
            return None;
        }
        let names = row::names_of(text);
        let names: Vec<&str> = names.iter().map(|name| name.as_ref()).collect();
        Some(Self {
            kind: row::kind_of(&names),
            has_stamps: STAMPS.iter().all(|one| names.contains(one)),
            has_raw: [RAW, RAW_BASE64].iter().any(|one| names.contains(one)),
        })
    }

    /// Whether rows of a kind bring their raw records: they are rows that evt wrote.
    pub fn brings_raw(&self, kind: Kind, keeps_stamps: bool) -> bool {
        self.has_raw && (kind == Kind::Late || keeps_stamps && self.has_stamps)
    }

    /// Checks its kind, if one is expected. Errors: exit status 2 if it is another one.
    pub fn check(&self, expected: Option<Kind>, input: &str) -> Result<()> {
        let Some(expected) = expected.filter(|expected| *expected != self.kind) else { return Ok(()) };
        let (expected, found) = (expected.name(), self.kind.name());
        Err(Error::usage(format!("expected rows of kind {expected}, found rows of kind {found}")).at(input))
    }
}
