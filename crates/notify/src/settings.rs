//! The keys of one table of `channels.toml`: typed, with their placeholders resolved, and each fault with its line.

use evt_core::error::{Error, Result};
use evt_core::parse::nearest;
use evt_core::time::parse_duration;
use evt_run::secret::Secrets;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text of a file and its name, for positions.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    /// The name of the file.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// The secrets of the run, to which the file adds its own.
    pub secrets: &'a Secrets,
}

impl Document<'_> {
    /// Makes a fault at a place of the file: exit status 78.
    pub fn fault(&self, span: Range<usize>, message: impl Display) -> Error {
        let before = self.text.as_bytes().iter().take(span.start);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Error::config(format!("{}:{line}: {message}", self.name))
    }
}

/// One table: every key that is read is known, every other is a fault.
pub struct Settings<'a> {
    document: Document<'a>,
    /// The name of the table in messages: `channel 'oncall'`.
    place: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    known: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Settings<'a> {
    /// Begins to read the table of a channel.
    pub fn new(document: Document<'a>, span: Range<usize>, table: &'a DeTable<'a>) -> Self {
        Self { document, place: "channel".to_owned(), span, table, known: RefCell::default() }
    }

    /// Sets the name of the table in messages.
    pub fn named(self, place: String) -> Self {
        Self { place, ..self }
    }

    /// Makes a fault of a key: exit status 78.
    pub fn fault(&self, key: &str, message: impl Display) -> Error {
        let found = self.table.get_key_value(key).map(|(key, _)| key.span());
        self.document.fault(found.unwrap_or(self.span.clone()), format!("{}: {key}: {message}", self.place))
    }

    /// Returns a text with the values of its placeholders. Errors: exit status 78 if it is not a string, or a variable
    /// or file is missing.
    pub fn text(&self, key: &'static str) -> Result<Option<String>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let DeValue::String(text) = value else { return Err(self.fault(key, "expected a string")) };
        self.resolved(key, text).map(Some)
    }

    /// Returns a text that must be there. Errors: as [`Settings::text`].
    pub fn required(&self, key: &'static str) -> Result<String> {
        self.text(key)?.ok_or_else(|| self.fault(key, "missing"))
    }

    /// Returns a text that no output may show, even if the file has it literally. Errors: as [`Settings::text`].
    pub fn secret(&self, key: &'static str) -> Result<Option<String>> {
        let text = self.text(key)?;
        text.iter().for_each(|text| self.document.secrets.remember(key, text));
        match text.as_deref() {
            Some("") => Err(self.fault(key, "expected a value, found none")),
            _ => Ok(text),
        }
    }

    /// Returns a list of texts; one text is a list of one. Errors: as [`Settings::text`].
    pub fn texts(&self, key: &'static str) -> Result<Vec<String>> {
        match self.value(key) {
            None => Ok(vec![]),
            Some(DeValue::String(text)) => Ok(vec![self.resolved(key, text)?]),
            Some(DeValue::Array(values)) => {
                let text = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
                    DeValue::String(text) => self.resolved(key, text),
                    _ => Err(self.fault(key, "expected a list of strings")),
                };
                values.iter().map(text).collect()
            }
            Some(_) => Err(self.fault(key, "expected a list of strings")),
        }
    }

    /// Returns a table of texts, whose values are secrets. Errors: as [`Settings::text`].
    pub fn pairs(&self, key: &'static str) -> Result<BTreeMap<String, String>> {
        let Some(value) = self.value(key) else { return Ok(BTreeMap::new()) };
        let table = value.as_table().ok_or_else(|| self.fault(key, "expected a table of strings"))?;
        let pair = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = name.get_ref();
            let wrong = || self.fault(key, format!("{name}: expected a string"));
            let text = self.resolved(key, value.get_ref().as_str().ok_or_else(wrong)?)?;
            self.document.secrets.remember(key, &text);
            Ok((name.clone().into_owned(), text))
        };
        table.iter().map(pair).collect()
    }

    /// Returns a duration longer than 0. Errors: exit status 78.
    pub fn duration(&self, key: &'static str) -> Result<Option<Duration>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let micros = parse_duration(&text).map_err(|error| self.fault(key, error))?;
        match u64::try_from(micros) {
            Ok(micros) if micros > 0 => Ok(Some(Duration::from_micros(micros))),
            _ => Err(self.fault(key, format!("expected a duration longer than 0, found '{text}'"))),
        }
    }

    /// Ends the reading. Errors: exit status 78 if the table has a key that nothing has read.
    pub fn finish(self) -> Result<()> {
        let known = self.known.take();
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if known.contains(name) {
                continue;
            }
            let hint = nearest::hint(name, &Vec::from_iter(known), " ");
            let message = format!("{}: unknown key '{name}'; {hint}", self.place);
            return Err(self.document.fault(key.span(), message));
        }
        Ok(())
    }

    fn value(&self, key: &'static str) -> Option<&'a DeValue<'a>> {
        self.known.borrow_mut().insert(key);
        self.table.get(key).map(Spanned::get_ref)
    }

    fn resolved(&self, key: &str, text: &str) -> Result<String> {
        let secrets = self.document.secrets;
        let concealed = secrets.conceal(text).map_err(|error| self.fault(key, error))?;
        Ok(secrets.reveal(&concealed))
    }
}
