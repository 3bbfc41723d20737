//! Registries: where the schemas of [`evt_core::schema::subject`] are kept, in a directory or on a server.
//!
//! Validators look up subjects through [`Schemas`]; tools that manage schemas use [`Registry`], whatever is behind it
//! ([`place::open`]).
//!
//! ```text
//! --schemas DIR  ─► directory ─┐
//! --schemas http ─► confluent ─┴─► Schemas (subject → versions) ─► op::validate
//! record of a topic: magic, id ─► wire ─► reader ─► JSON text;  rows ─► rows ─► payloads with a schema id
//! ```
//!
//! A version, once registered, never changes, so a lookup of it is cached for the run. A server that does not respond
//! makes the caller wait or, with `down=dead`, makes dead letters; its silence never means that a schema is unknown.
//!
//! - `directory.rs`: a registry in files; `confluent/`: a registry server; `place.rs`: opens the one that `--schemas`
//!   names.
//! - `wire.rs`, `reader.rs`: decode the records of topics; `rows.rs`: encodes rows for topics.

pub mod confluent;
pub mod directory;
pub mod place;
pub mod reader;
pub mod rows;
pub mod wire;

use evt_core::error::Result;
use evt_core::schema::language::Schema;
use evt_core::schema::level::{Conflict, Level, check_level};
use evt_core::schema::subject::{Schemas, Version};

/// A store of schemas.
pub trait Registry: Schemas {
    /// Checks that it is available now, without waiting.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    /// Lists the subjects by name.
    fn subjects(&mut self) -> Result<Vec<String>>;

    /// Returns the level of a subject, which need not exist yet.
    fn level(&mut self, subject: &str) -> Result<Level>;

    /// Adds `text` as the next version of `subject`, if its level allows it.
    ///
    /// Errors: exit status 78 if the text is not a valid schema.
    fn register(&mut self, subject: &str, text: &str) -> Result<Registration>;

    /// Returns the registry's own objections to `text` as the next version of `subject`; `None` if it makes no check of
    /// its own.
    fn objections(&mut self, _subject: &str, _text: &str) -> Result<Option<Vec<String>>> {
        Ok(None)
    }
}

/// The result of a registration.
#[derive(Debug)]
pub enum Registration {
    /// It is a new version, with this number.
    Added(u32),
    /// It is the same as this version; nothing was written.
    Existing(u32),
    /// It may not follow the existing versions; nothing was written.
    Refused {
        /// The conflicts that evt found.
        conflicts: Vec<Conflict>,
        /// The registry's own refusal, if it makes a check.
        said: Option<String>,
    },
}

/// Returns the conflicts of `versions` with a schema that would follow them.
pub fn conflicts(schema: &dyn Schema, versions: &[Version], level: Level) -> Vec<Conflict> {
    let named = |version: &Version| (format!("version {}", version.number), version.schema.clone());
    check_level(schema, &versions.iter().map(named).collect::<Vec<_>>(), level)
}
