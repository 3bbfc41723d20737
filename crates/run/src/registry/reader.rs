//! The reader's schema for records of topics, whatever they were written with: `reader=`.
//!
//! An id, a version of a subject, and the latest version of a topic's subject are looked up once, before the first
//! record. If records name their subject by their own name (`subject=record` or `topic-record` of the registry), the
//! latest version is looked up when a writer's schema first occurs.

use super::confluent::{Confluent, SchemaKey, Strategy};
use evt_core::error::{Error, Result};
use evt_core::schema::language::{self, Schema, SchemaText};
use evt_core::schema::subject::{Lookup, Version};
use std::borrow::Cow;
use std::sync::Arc;

/// The choice of `reader=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The schema of that id.
    Id(u32),
    /// The latest version of the subject that the registry's naming strategy (`subject=`) gives.
    Latest,
    /// This version of a subject; the latest without a number.
    Subject(String, Option<u32>),
}

impl Choice {
    /// Parses `ID`, `latest`, `SUBJECT` or `SUBJECT:VERSION`.
    pub fn parse(text: &str) -> Self {
        match (text.parse(), text.rsplit_once(':').map(|(subject, version)| (subject, version.parse()))) {
            (Ok(id), _) => Self::Id(id),
            _ if text == "latest" => Self::Latest,
            (_, Some((subject, Ok(version)))) => Self::Subject(subject.to_owned(), Some(version)),
            _ => Self::Subject(text.to_owned(), None),
        }
    }
}

/// A reader's schema.
#[derive(Clone)]
pub struct Reader {
    /// Its id, for messages.
    name: String,
    schema: Arc<dyn Schema>,
}

impl Reader {
    fn of(version: &Version) -> Self {
        Self { name: format!("schema id {}", version.id), schema: version.schema.clone() }
    }

    /// Creates a decoder for `writer`'s data; returns the reason if none of it can be read.
    pub fn decoder(&self, writer: &dyn Schema) -> Result<Box<dyn language::Decoder>, String> {
        let incompatible = |error| format!("incompatible with the reader's schema, {}: {error}", self.name);
        self.schema.decoder(writer).map_err(incompatible)
    }
}

/// The readers' schemas of some topics.
pub enum Readers {
    /// One for all.
    One(Reader),
    /// One for each topic, in their order.
    Topics(Vec<Reader>),
    /// By the names of the records in these topics.
    Records(Strategy, Vec<String>),
}

impl Readers {
    /// Looks up the schemas that can be looked up now.
    ///
    /// Errors: exit status 78 if one does not exist, 69 if the registry is unavailable.
    pub fn open(choice: &Choice, topics: &[String], registry: &Confluent) -> Result<Self> {
        match (choice, registry.strategy().unwrap_or(Strategy::Topic)) {
            (Choice::Id(id), _) => {
                let (name, schema) = (format!("schema id {id}"), by_id(registry, *id)?);
                Ok(Self::One(Reader { name, schema }))
            }
            (Choice::Subject(subject, number), _) => Ok(Self::One(Reader::of(&version(registry, subject, *number)?))),
            (Choice::Latest, strategy @ Strategy::Topic) => {
                let latest = |topic: &String| version(registry, &strategy.subject(topic, ""), None);
                let readers = topics.iter().map(|topic| Ok(Reader::of(&latest(topic)?)));
                Ok(Self::Topics(readers.collect::<Result<_>>()?))
            }
            (Choice::Latest, strategy) => Ok(Self::Records(strategy, topics.to_vec())),
        }
    }

    /// Returns a number that topics with the same readers share.
    pub fn line(&self, topic: usize) -> usize {
        match self {
            Self::One(_) | Self::Records(Strategy::Record, _) => 0,
            Self::Topics(_) | Self::Records(..) => topic,
        }
    }

    /// Returns the reader's schema for `writer`'s data in a topic, or why there is none.
    pub fn find(
        &self,
        topic: usize,
        writer: &dyn Schema,
        registry: &Confluent,
    ) -> Result<Result<Cow<'_, Reader>, String>> {
        let (strategy, topics) = match self {
            Self::One(reader) => return Ok(Ok(Cow::Borrowed(reader))),
            Self::Topics(readers) => {
                let reader = readers.get(topic).ok_or_else(|| Error::broken("a topic without its reader's schema"))?;
                return Ok(Ok(Cow::Borrowed(reader)));
            }
            Self::Records(strategy, topics) => (*strategy, topics),
        };
        let topic = topics.get(topic).map_or("", String::as_str);
        let Some(record) = writer.name() else {
            return Ok(Err("reader=latest: the schema has no name to derive its subject from".to_owned()));
        };
        let subject = strategy.subject(topic, &record);
        Ok(match registry.exactly(&subject)? {
            Lookup::Found(found) => match found.latest() {
                Some(latest) => Ok(Cow::Owned(Reader::of(latest))),
                None => Err(absent(registry, &subject)),
            },
            Lookup::Unknown => Err(absent(registry, &subject)),
            Lookup::Useless(why) => Err(format!("the reader's schema, subject '{subject}', cannot be used: {why}")),
            Lookup::Unavailable(why) => {
                Err(format!("the reader's schema, subject '{subject}', cannot be fetched: {why}"))
            }
        })
    }
}

fn absent(registry: &Confluent, subject: &str) -> String {
    format!("{}: unknown subject '{subject}'", registry.name())
}

/// Returns a version of a subject, the latest without a number.
///
/// Errors: exit status 78 if it does not exist, 69 if the registry is unavailable.
pub fn version(registry: &Confluent, subject: &str, number: Option<u32>) -> Result<Version> {
    let found = match registry.exactly(subject)? {
        Lookup::Found(found) => found,
        Lookup::Unknown => return Err(Error::config(absent(registry, subject))),
        Lookup::Useless(why) => {
            return Err(Error::config(format!("{}: subject '{subject}'", registry.name())).because(why));
        }
        Lookup::Unavailable(cause) => return Err(Error::unavailable(cause.as_ref())),
    };
    let version = match number {
        Some(number) => found.version(number),
        None => found.latest(),
    };
    let name = registry.name();
    version.cloned().ok_or_else(|| {
        Error::config(format!("{name}: subject '{subject}' has no version {}", number.unwrap_or_default()))
    })
}

/// Returns a schema by its id.
///
/// Errors: exit status 78 if it does not exist or cannot be parsed, 69 if the registry is unavailable.
pub fn by_id(registry: &Confluent, id: u32) -> Result<Arc<dyn Schema>> {
    match registry.schema(SchemaKey::Id(id))? {
        Lookup::Found(SchemaText { language, text }) => {
            (language.parse)(&text).map_err(|error| error.at(format!("schema id {id}")))
        }
        Lookup::Unknown => Err(Error::config(format!("{}: unknown schema id {id}", registry.name()))),
        Lookup::Useless(why) => Err(Error::config(format!("schema id {id}: {why}"))),
        Lookup::Unavailable(cause) => Err(Error::unavailable(cause.as_ref())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_names_is_told_from_its_form() {
        let subject = |name: &str, version| Choice::Subject(name.to_owned(), version);
        for (text, expected) in [
            ("7", Choice::Id(7)),
            ("latest", Choice::Latest),
            ("click", subject("click", None)),
            ("click:2", subject("click", Some(2))),
            ("a:b", subject("a:b", None)),
            ("a:b:3", subject("a:b", Some(3))),
            ("4294967296", subject("4294967296", None)),
        ] {
            assert_eq!(Choice::parse(text), expected, "{text}");
        }
    }
}
