//! Which format an input has.

use super::Source;
use crate::error::Result;
use crate::format::{self, Format};
use crate::input::bytes::Bytes;

impl Source {
    /// What an input is: as told, by its first bytes, by its name, else JSON lines.
    pub(super) fn detect(&self, bytes: &mut Bytes) -> Result<&'static Format> {
        let jsonl = format::by_name("jsonl");
        if let Some(format) = self.options.format {
            return Ok(format);
        }
        let head = bytes.head()?;
        if let Some(format) = format::by_magic(&head) {
            return Ok(format);
        }
        // The name of a format that is only written says nothing about an input.
        let named = format::by_extension(bytes.name());
        if let Some(format) = named.filter(|format| !matches!(format.input, format::Input::None)) {
            return Ok(format);
        }
        if let Some(format) = format::by_part_of_magic(&head).map_err(|error| error.at(bytes.name()))? {
            return Ok(format);
        }
        if head.is_empty() && !self.options.raw_only {
            return format::by_name("frames");
        }
        jsonl
    }
}
