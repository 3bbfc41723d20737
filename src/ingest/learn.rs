//! The kind of the records, which the first one decides if no flag names it.

use super::Ingest;
use crate::error::{Error, Result};
use crate::format::row;
use crate::json::scan::is_json;
use crate::kind::Kind;
use crate::kind::event::{RAW, RAW_BASE64, STAMPS};
use crate::mapping::RecordMeta;

impl Ingest {
    /// Makes a first record with the field names of another kind than the one that was set an error.
    pub fn check_kind(&mut self) {
        self.checks_kind = true;
    }

    /// Whether the records are rows that evt wrote and that contain a record: these may be longer than `--max-record`.
    #[cold]
    pub(super) fn may_be_longer(&mut self, text: &str, meta: RecordMeta<'_>) -> Result<bool> {
        if self.is_unknown() {
            self.learn(text, meta)?;
        }
        Ok(self.rows.is_some() || self.brings_raw == Some(true))
    }

    /// Whether the kind is not known yet, or is not event and the columns are not known yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.kind.is_none_or(|kind| kind != Kind::Event && self.rows.is_none())
    }

    /// Decides the kind and the columns from the field names of the first JSON object. Ignores text that is no JSON object. Errors:
    /// exit status 2 if the names are those of another kind than it must be.
    pub(super) fn learn(&mut self, text: &str, meta: RecordMeta<'_>) -> Result<()> {
        if !text.trim_start().starts_with('{') || !is_json(text) {
            return Ok(());
        }
        let names = row::names_of(text);
        let names: Vec<&str> = names.iter().map(|name| name.as_ref()).collect();
        let found = row::kind_of(&names);
        let kind = self.kind.unwrap_or(found);
        if self.checks_kind && found != kind {
            let (expected, found) = (kind.name(), found.name());
            let message = format!("expected rows of kind {expected}, found rows of kind {found}");
            return Err(Error::usage(message).at(meta.input));
        }
        self.kind = Some(kind);
        let carries = kind == Kind::Late || self.mapper.keeps_stamps() && STAMPS.iter().all(|one| names.contains(one));
        let has_raw = self.decide_raw(carries && [RAW, RAW_BASE64].iter().any(|one| names.contains(one)));
        if kind != Kind::Event {
            self.rows = Some(row::Builder::with_schema(kind.schema_with(has_raw)));
        }
        Ok(())
    }

    /// Sets the kind of the records if it is not known yet; returns whether it is `kind` now.
    pub fn becomes(&mut self, kind: Kind) -> bool {
        if self.kind.is_none() && kind != Kind::Event {
            self.rows = Some(row::Builder::new(kind));
        }
        *self.kind.get_or_insert(kind) == kind
    }
}
