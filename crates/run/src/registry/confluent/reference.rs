//! References from a schema to versions of subjects.

use evt_core::error::{Error, Result};
use serde_json::Value;
use std::fmt;

/// Reads the number of a version or the id of a schema.
pub fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// A version of a subject that a schema refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The subject.
    pub subject: String,
    /// The number of the version.
    pub version: u32,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subject '{}' version {}", self.subject, self.version)
    }
}

impl Reference {
    /// Returns the references in a registry's answer about a schema.
    pub fn all(body: &Value) -> Result<Vec<Reference>> {
        let list = match body.get("references") {
            None | Some(Value::Null) => return Ok(vec![]),
            Some(list) => list.as_array(),
        };
        let reference = |value: &Value| {
            let version = number(value.get("version")?)?;
            Some(Reference { subject: value.get("subject")?.as_str()?.to_owned(), version })
        };
        let all: Option<Vec<Reference>> = list.and_then(|list| list.iter().map(reference).collect());
        all.ok_or_else(|| Error::config("expected a list of subjects and versions as references"))
    }
}
