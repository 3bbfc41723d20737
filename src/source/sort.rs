//! What the rows of a source are: one kind, and that kind's columns.

use super::Source;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::event::has_raw;
use arrow::datatypes::SchemaRef;

impl Source {
    /// Takes the schema of the rows of a container or a store, if it is one of ours.
    pub(super) fn become_rows(&mut self, schema: Option<SchemaRef>, is_text: bool) -> Result<()> {
        let Some((kind, schema)) = schema.and_then(|schema| Some((Kind::of(&schema)?, schema))) else { return Ok(()) };
        self.same_kind(kind)?;
        // Events that are mapped anew get records anew.
        let brings_raw = has_raw(&schema) && !(is_text && self.options.raw_only);
        let has_raw = self.ingest.decide_raw(brings_raw);
        self.schema = Some(kind.schema_with(has_raw));
        Ok(())
    }

    /// All inputs of a run hold rows of one kind.
    pub(super) fn same_kind(&self, kind: Kind) -> Result<()> {
        match self.schema.as_ref().and_then(|schema| Kind::of(schema)) {
            Some(known) if known != kind => {
                let (known, kind) = (known.name(), kind.name());
                Err(Error::usage(format!("one input has rows of kind {known}, another of kind {kind}")))
            }
            _ => Ok(()),
        }
    }

    /// A stream that says it is of a kind must have that kind's columns: operators rely on it.
    pub(super) fn check_columns(&self, schema: &SchemaRef, name: &str) -> Result<()> {
        match Kind::of(schema).filter(|kind| !kind.leads(schema)) {
            None => Ok(()),
            Some(kind) => {
                let told = format!("it says its rows are of kind {}, but has other columns", kind.name());
                Err(Error::corrupt(told).at(name))
            }
        }
    }
}
