//! Look-ups in the cache of a registry, and the questions to the registry that remain.
//!
//! A caller that must not wait validates with a [`Recall`]. If the cache lacks something, the caller discards the
//! verdict, sends the questions to the registry, adds the answers, and validates again.

use super::{Confluent, EVER, SchemaKey, can_be_subject};
use evt_core::error::Result;
use evt_core::schema::language::SchemaText;
use evt_core::schema::subject::{Lookup, Schemas};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A request to a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question {
    /// The subject of exactly this name.
    Subject(String),
    /// The schema with this key.
    Schema(SchemaKey),
    /// Whether the registry answers.
    Check,
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub enum Recalled {
    /// The result of the subject lookup.
    Subject(Lookup),
    /// The result of the key lookup.
    Schema(Lookup<SchemaText>),
    /// The registry responds.
    Check,
}

impl Question {
    /// Asks the registry, unless the answer is cached.
    pub fn answer(&self, registry: &Confluent) -> Result<Recalled> {
        match self {
            Self::Subject(name) => registry.exactly(name).map(Recalled::Subject),
            Self::Schema(key) => registry.schema(*key).map(Recalled::Schema),
            Self::Check => registry.check().map(|()| Recalled::Check),
        }
    }
}

/// The cached answers of a registry, and those learned since. Never sends a request.
pub struct Recall {
    registry: Arc<Confluent>,
    subjects: HashMap<String, Lookup>,
    schemas: HashMap<SchemaKey, Lookup<SchemaText>>,
    lacking: BTreeSet<Question>,
    /// Subjects that may have a new version since their fetch: they can accept events, but not reject them.
    old: BTreeSet<String>,
    /// Whether a schema has refused an event.
    refused: bool,
}

impl Recall {
    /// Starts with the cached answers of this registry.
    pub fn new(registry: Arc<Confluent>) -> Self {
        Self {
            registry,
            subjects: HashMap::new(),
            schemas: HashMap::new(),
            lacking: BTreeSet::new(),
            old: BTreeSet::new(),
            refused: false,
        }
    }

    /// Adds the answer to a question; it counts even if it expires soon.
    pub fn learn(&mut self, question: Question, answer: Recalled) {
        match (question, answer) {
            (Question::Subject(name), Recalled::Subject(lookup)) => drop(self.subjects.insert(name, lookup)),
            (Question::Schema(key), Recalled::Schema(found)) => drop(self.schemas.insert(key, found)),
            _ => {}
        }
    }

    /// Records that a schema refused an event. A refusal counts only if the subject cannot have a new version.
    pub fn refused(&mut self) {
        self.refused = true;
    }

    /// Returns the questions on which verdicts since the last call depend.
    pub fn lacking(&mut self) -> Vec<Question> {
        let old = std::mem::take(&mut self.old);
        if std::mem::take(&mut self.refused) {
            self.lacking.extend(old.into_iter().map(Question::Subject));
        }
        std::mem::take(&mut self.lacking).into_iter().collect()
    }

    /// Returns the known result of looking up a key; `None` if the registry must be queried.
    pub fn schema(&mut self, key: SchemaKey) -> Option<Lookup<SchemaText>> {
        let remembered = || {
            let (found, age) = self.registry.schemas.peek(&key)?;
            (age < self.registry.good_for(&found, EVER)).then_some(found)
        };
        let known = self.schemas.get(&key).cloned().or_else(remembered);
        if known.is_none() {
            self.lacking.insert(Question::Schema(key));
        }
        known
    }
}

impl Schemas for Recall {
    fn subject(&mut self, name: &str) -> Result<Lookup> {
        let name = self.registry.subject_of(name)?;
        if let Some(answered) = self.subjects.get(name.as_ref()) {
            return Ok(answered.clone());
        }
        if !can_be_subject(&name) {
            return Ok(Lookup::Unknown);
        }
        match self.registry.subjects.peek(&name.clone().into_owned()) {
            Some((lookup, age)) if age < self.registry.good_for(&lookup, self.registry.refresh) => Ok(lookup),
            Some((Lookup::Found(subject), _)) => {
                self.old.insert(name.into_owned());
                Ok(Lookup::Found(subject))
            }
            _ => {
                self.lacking.insert(Question::Subject(name.into_owned()));
                Ok(Lookup::Unavailable("not fetched".into()))
            }
        }
    }
}
