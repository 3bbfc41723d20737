//! What the rows of a source are: one kind, and that kind's columns.

use super::Source;
use crate::error::{Error, Result};
use crate::kind::Kind;
use arrow::datatypes::SchemaRef;

impl Source {
    pub(super) fn become_kind(&mut self, kind: Option<Kind>) -> Result<()> {
        if let Some(kind) = kind {
            self.same_kind(kind)?;
            self.schema = Some(kind.schema());
        }
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
        let Some(kind) = Kind::of(schema) else { return Ok(()) };
        let wanted = kind.schema();
        let same = wanted.fields().iter().enumerate().all(|(index, field)| {
            schema.fields().get(index).is_some_and(|got| {
                let alike = got.data_type().equals_datatype(field.data_type());
                got.name() == field.name() && alike && (field.is_nullable() || !got.is_nullable())
            })
        });
        if same {
            return Ok(());
        }
        Err(Error::corrupt(format!("it says its rows are of kind {}, but has other columns", kind.name())).at(name))
    }
}
