//! A registry that speaks Confluent's REST API, also below a base path.
//!
//! What never changes is fetched once: a schema by its id or GUID, a version by its number. What may change (the list
//! of a subject's versions, an id that nobody knew) is asked again after `refresh=`, when it is needed again. Many
//! threads may ask; one of them fetches.
//!
//! A registry that is away is waited for, with growing pauses, for `retry=`; then the run ends (69). With `down=dead`
//! nobody waits: what cannot be asked is said to be [`Lookup::Away`], and becomes a dead letter. Nothing is ever taken
//! for valid, or for unknown, because the registry did not answer.

mod cache;
mod http;
pub mod recall;

use self::cache::{Cache, held};
use self::http::{Answer, Http};
use super::percent::escaped;
use super::reference::{self, Reference};
use super::{Level, Lookup, Registration, Registry, Schema, Schemas, Subject, Version, conflicts};
use crate::console::Console;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Location;
use crate::store::remote::{Patience, Persistence, Trouble};
use crate::time::parse_duration;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use ureq::http::Method;

/// Subjects and schemas kept; beyond that they are fetched again.
const SUBJECTS_MAX: usize = 4096;
const SCHEMAS_MAX: usize = 4096;
/// Bytes of the longest subject that is asked for: Apicurio has none that is longer.
const NAME_MAX: usize = 512;
/// Schemas one schema may refer to, with theirs.
const REFERENCES_MAX: usize = 256;
/// How long a registry that did not answer is taken to be away, where nobody waits for it.
const AWAY: Duration = Duration::from_secs(5);
const EVER: Duration = Duration::MAX;

/// Options of its addresses.
pub const OPTIONS: [&str; 9] = ["ca", "connect", "down", "refresh", "retry", "subject", "timeout", "token", "topic"];

/// Where a schema is found without its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Its number.
    Id(u32),
    /// Its GUID.
    Guid([u8; 16]),
}

/// What is known of a key.
#[derive(Clone, Debug)]
pub enum Found {
    /// The schema's text, whole: what it refers to stands in it.
    Schema(Arc<str>),
    /// The registry does not know it.
    Unknown,
    /// It is there, and cannot be used, for this reason.
    Useless(Arc<str>),
    /// The registry cannot be asked, for this reason, and the run does not wait for it.
    Away(Arc<str>),
}

/// How records name the subject of their schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// `TOPIC-value`.
    Topic,
    /// The record's name.
    Record,
    /// `TOPIC-RECORD`.
    TopicRecord,
}

impl Strategy {
    /// Reads `subject=`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "topic" => Some(Self::Topic),
            "record" => Some(Self::Record),
            "topic-record" => Some(Self::TopicRecord),
            _ => None,
        }
    }

    /// The subject of a record in a topic.
    pub fn subject(self, topic: &str, record: &str) -> String {
        match self {
            Self::Topic => format!("{topic}-value"),
            Self::Record => record.to_owned(),
            Self::TopicRecord => format!("{topic}-{record}"),
        }
    }
}

/// What becomes of a question that the registry does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    /// It is asked again for as long as `retry=` says.
    Wait,
    /// What needs the answer becomes a dead letter (`down=dead`).
    Dead,
    /// The question fails at once.
    Fail,
}

/// An open registry.
pub struct Confluent {
    http: Http,
    shown: String,
    persistence: Persistence,
    console: Console,
    refresh: Duration,
    absence: Absence,
    strategy: Option<Strategy>,
    topic: Option<String>,
    /// Until when, and why, it is not asked.
    away: Mutex<Option<(Instant, Arc<str>)>>,
    subjects: Cache<String, Lookup>,
    schemas: Cache<Key, Found>,
}

/// Whether a registry may have a subject of that name. Events name what they like: what breaks a path, or what a registry refuses
/// to be asked for, is a subject that it does not have.
fn can_be_subject(name: &str) -> bool {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX && !name.contains(breaks)
}

/// The type of a schema that was answered, where it is not Avro.
fn other_type(body: &Value) -> Option<&str> {
    body.get("schemaType").and_then(Value::as_str).filter(|name| *name != "AVRO")
}

/// An answer, or why nobody waits for one.
type Asked<T> = Result<std::result::Result<T, Arc<str>>>;

impl Confluent {
    /// Reads an address; nothing is asked yet. Exit 2 for what is no address, 78 for certificates that cannot be read.
    pub fn open(location: &Location, console: &Console) -> Result<Self> {
        location.check_options("--schemas", &OPTIONS)?;
        let wrong = |name: &str, words: &str| Error::usage(format!("{location}: {name}=: {words}"));
        let option = |name: &str| location.options.get(name).map(String::as_str);
        let patience = Patience::try_new(location)?;
        let absence = match option("down") {
            None | Some("wait") => Absence::Wait,
            Some("dead") => Absence::Dead,
            Some(_) => return Err(wrong("down", "wait or dead")),
        };
        let refresh = option("refresh").map_or(Ok(crate::time::SECOND), parse_duration)?;
        let refresh = u64::try_from(refresh).map_err(|_| wrong("refresh", "a duration"))?;
        let words = || wrong("subject", "record, topic or topic-record");
        let strategy = option("subject").map(|word| Strategy::from_name(word).ok_or_else(words)).transpose()?;
        let topic = option("topic").map(str::to_owned);
        let shown = location.to_string();
        Ok(Self {
            http: Http::try_new(location, patience)?,
            persistence: Persistence::new(shown.clone(), patience, console.clone()).at_start(),
            shown,
            console: console.clone(),
            refresh: Duration::from_micros(refresh),
            absence,
            strategy,
            topic,
            away: Mutex::default(),
            subjects: Cache::new(SUBJECTS_MAX),
            schemas: Cache::new(SCHEMAS_MAX),
        })
    }

    /// The same for a caller that tries again by itself: `retry=` does not count.
    #[must_use]
    pub fn without_retry(mut self) -> Self {
        if self.absence == Absence::Wait {
            self.absence = Absence::Fail;
        }
        self
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.shown
    }

    /// Asks for nothing in particular: whether it answers, and lets us in.
    pub fn check(&self) -> Result<()> {
        let attempt = self.http.ask(Method::GET, "/subjects", None);
        match attempt.map_err(|trouble| trouble.into_error(&self.shown).at(&self.shown))? {
            answer if answer.is_good() => Ok(()),
            answer => Err(self.refused("/subjects", &answer)),
        }
    }

    /// The schema of a key.
    pub fn schema(&self, key: Key) -> Result<Found> {
        self.schemas.get(&key, |found| self.schema_good_for(found), |_| self.fetch_schema(key))
    }

    fn schema_good_for(&self, found: &Found) -> Duration {
        match found {
            Found::Schema(_) => EVER,
            Found::Unknown | Found::Useless(_) => self.refresh,
            Found::Away(_) => Duration::ZERO,
        }
    }

    fn subject_good_for(&self, found: &Lookup) -> Duration {
        if matches!(found, Lookup::Away(_)) { Duration::ZERO } else { self.refresh }
    }

    fn fetch_schema(&self, key: Key) -> Result<Found> {
        let path = match key {
            Key::Id(id) => format!("/schemas/ids/{id}"),
            Key::Guid(guid) => format!("/schemas/guids/{}", uuid::Uuid::from_bytes(guid)),
        };
        match self.get(&path)? {
            Err(cause) => Ok(Found::Away(cause)),
            Ok(None) => Ok(Found::Unknown),
            Ok(Some(body)) => match self.text(&body) {
                Ok(Ok(text)) => Ok(Found::Schema(text)),
                Ok(Err(cause)) => Ok(Found::Away(cause)),
                // A schema that is no good is the fault of the records that name it.
                Err(error) if error.kind() == ErrorKind::Config => Ok(Found::Useless(error.to_string().into())),
                Err(error) => Err(error),
            },
        }
    }

    /// The text of a schema that was answered, with what it refers to written into it.
    fn text(&self, body: &Value) -> Asked<Arc<str>> {
        let Some(text) = body.get("schema").and_then(Value::as_str) else {
            return Err(Error::config("its answer holds no schema"));
        };
        if let Some(other) = other_type(body) {
            return Err(Error::config(format!("it is of type {other}, evt reads Avro")));
        }
        let mut open = Reference::all(body)?;
        if open.is_empty() {
            return Ok(Ok(text.into()));
        }
        let mut known: BTreeMap<Reference, String> = BTreeMap::new();
        while let Some(reference) = open.pop() {
            if known.contains_key(&reference) {
                continue;
            }
            if known.len() == REFERENCES_MAX {
                return Err(Error::config(format!("it refers to more than {REFERENCES_MAX} schemas")));
            }
            let path = format!("/subjects/{}/versions/{}", escaped(&reference.subject), reference.version);
            let body = match self.get(&path)? {
                Err(cause) => return Ok(Err(cause)),
                Ok(None) => return Err(Error::config(format!("it refers to {reference}, which is not there"))),
                Ok(Some(body)) => body,
            };
            let text = body.get("schema").and_then(Value::as_str).unwrap_or_default().to_owned();
            open.extend(Reference::all(&body)?);
            known.insert(reference, text);
        }
        reference::inlined(text, known.values().map(String::as_str)).map(|text| Ok(text.into()))
    }

    /// `subject=`, if it was given.
    pub fn strategy(&self) -> Option<Strategy> {
        self.strategy
    }

    /// The subject of that very name with all its versions.
    pub fn exactly(&self, name: &str) -> Result<Lookup> {
        let good_for = |found: &Lookup| self.subject_good_for(found);
        self.subjects.get(&name.to_owned(), good_for, |known| self.fetch_subject(name, known))
    }

    fn fetch_subject(&self, name: &str, known: Option<&Lookup>) -> Result<Lookup> {
        if !can_be_subject(name) {
            return Ok(Lookup::Unknown);
        }
        let numbers = match self.get(&format!("/subjects/{}/versions", escaped(name)))? {
            Err(cause) => return Ok(Lookup::Away(cause)),
            Ok(None) => return Ok(Lookup::Unknown),
            Ok(Some(body)) => body,
        };
        let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        let numbers: Option<Vec<u32>> = numbers.as_array().and_then(|list| list.iter().map(number).collect());
        let mut numbers = numbers.ok_or_else(|| self.nonsense(&format!("versions of subject '{name}'")))?;
        numbers.sort_unstable();
        let known = if let Some(Lookup::Found(subject)) = known { Some(subject) } else { None };
        if let Some(known) = known.filter(|known| known.versions.iter().map(|v| v.number).eq(numbers.iter().copied())) {
            return Ok(Lookup::Found(known.clone()));
        }
        let mut versions = vec![];
        for number in numbers {
            match known.and_then(|known| known.version(number)) {
                Some(version) => versions.push(version.clone()),
                None => match self.fetch_version(name, number)? {
                    Err(unread) => return Ok(unread),
                    // Deleted since it was listed.
                    Ok(None) => {}
                    Ok(Some(version)) => versions.push(version),
                },
            }
        }
        if versions.is_empty() {
            return Ok(Lookup::Unknown);
        }
        Ok(Lookup::Found(Arc::new(Subject { name: name.to_owned(), versions })))
    }

    /// A version of a subject, none where it is not there; or what the lookup of the subject ends with.
    fn fetch_version(&self, name: &str, number: u32) -> Result<std::result::Result<Option<Version>, Lookup>> {
        let at = |error: Error| error.at(format!("{}: subject '{name}' version {number}", self.shown));
        let body = match self.get(&format!("/subjects/{}/versions/{number}", escaped(name)))? {
            Err(cause) => return Ok(Err(Lookup::Away(cause))),
            Ok(None) => return Ok(Ok(None)),
            Ok(Some(body)) => body,
        };
        if let Some(other) = other_type(&body) {
            let why = format!("version {number} is of type {other}, evt reads Avro");
            return Ok(Err(Lookup::Useless(why.into())));
        }
        let id = body.get("id").and_then(Value::as_i64);
        let id = id.ok_or_else(|| at(Error::config("its answer holds no id")))?;
        let text = match self.text(&body).map_err(at)? {
            Err(cause) => return Ok(Err(Lookup::Away(cause))),
            Ok(text) => text,
        };
        let schema = Arc::new(Schema::parse(&text).map_err(at)?);
        Ok(Ok(Some(Version { number, id, schema, text })))
    }

    /// What is at a path; none where nothing is.
    fn get(&self, path: &str) -> Asked<Option<Value>> {
        let answer = match self.ask(Method::GET, path, None)? {
            Err(cause) => return Ok(Err(cause)),
            Ok(answer) => answer,
        };
        match answer.status {
            // Not every registry knows GUIDs; what else is not there is said to be unknown, or the base path is wrong.
            404 if answer.names_unknown() || path.starts_with("/schemas/guids/") => Ok(Ok(None)),
            _ if answer.is_good() => Ok(Ok(Some(answer.body))),
            _ => Err(self.refused(path, &answer)),
        }
    }

    /// Asks until there is an answer, or once where nobody waits.
    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Asked<Answer> {
        let attempt = || self.http.ask(method.clone(), path, body).map_err(|trouble| self.named(trouble));
        match self.absence {
            Absence::Wait => return self.persistence.run(attempt).map(Ok),
            Absence::Fail => return attempt().map(Ok).map_err(|trouble| trouble.into_error(&self.shown)),
            Absence::Dead => {}
        }
        if let Some((_, cause)) = held(&self.away).as_ref().filter(|(until, _)| Instant::now() < *until) {
            return Ok(Err(cause.clone()));
        }
        let asked = attempt();
        let mut away = held(&self.away);
        match asked {
            Ok(answer) => {
                if away.take().is_some() {
                    self.console.say(format!("{}: is back", self.shown));
                }
                Ok(Ok(answer))
            }
            Err(Trouble::Lasting(error)) => Err(error),
            Err(Trouble::Passing(cause)) => {
                if away.is_none() {
                    let line =
                        format!("{}: {cause}: what needs it is a dead letter until it is back (?down=)", self.shown);
                    self.console.say(line);
                }
                let cause: Arc<str> = format!("{}: {cause}", self.shown).into();
                *away = Some((Instant::now() + AWAY, cause.clone()));
                Ok(Err(cause))
            }
        }
    }

    fn named(&self, trouble: Trouble) -> Trouble {
        match trouble {
            Trouble::Lasting(error) => Trouble::Lasting(error.at(&self.shown)),
            passing => passing,
        }
    }

    /// The same where somebody types: a registry that is away is an error whatever `down=` says.
    fn answered(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        self.ask(method, path, body)?.map_err(|cause| Error::new(ErrorKind::Unavailable, cause.as_ref()))
    }

    #[cold]
    fn refused(&self, path: &str, answer: &Answer) -> Error {
        Error::config(format!("{}: {path}: it answers {}", self.shown, answer.status)).because(answer.message())
    }

    #[cold]
    fn nonsense(&self, what: &str) -> Error {
        Error::config(format!("{}: its answer is no list of {what}", self.shown))
    }

    /// The version and id of a subject that has that schema.
    fn find(&self, subject: &str, text: &str) -> Result<Option<(u32, u32)>> {
        let path = format!("/subjects/{}", escaped(subject));
        let answer = self.answered(Method::POST, &path, Some(&json!({ "schema": text })))?;
        if !answer.is_good() {
            return Ok(None);
        }
        let number = |name: &str| answer.body.get(name).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        match (number("version"), number("id")) {
            (Some(version), Some(id)) => Ok(Some((version, id))),
            _ => Err(Error::config(format!("{}: its answer names no version and id", self.shown))),
        }
    }

    /// The id of a schema that is a version of the subject.
    pub fn id(&self, subject: &str, text: &str) -> Result<u32> {
        let found = self.find(subject, text)?;
        found.map(|(_, id)| id).ok_or_else(|| self.lost())
    }

    #[cold]
    fn lost(&self) -> Error {
        Error::config(format!("{}: the schema was taken and is not there", self.shown))
    }

    /// Registers a schema under the subject itself, whatever the strategy; its id if it is there then, else what the
    /// registry says.
    fn post(&self, subject: &str, text: &str) -> Result<std::result::Result<u32, String>> {
        let path = format!("/subjects/{}/versions", escaped(subject));
        let answer = self.answered(Method::POST, &path, Some(&json!({ "schema": text })))?;
        match (answer.status, answer.body.get("id").and_then(Value::as_u64).map(u32::try_from)) {
            (409, _) => Ok(Err(answer.message())),
            (_, Some(Ok(id))) if answer.is_good() => Ok(Ok(id)),
            _ => Err(self.refused(&path, &answer)),
        }
    }
}

impl Confluent {
    /// The subject of events with this name.
    fn subject_of<'a>(&self, name: &'a str) -> Result<Cow<'a, str>> {
        match self.strategy {
            None | Some(Strategy::Record) => Ok(name.into()),
            Some(Strategy::TopicRecord) if self.topic.is_none() => {
                Err(Error::usage(format!("{}: subject=topic-record needs topic=NAME here", self.shown)))
            }
            // Without `topic=` the name is the topic's: evt-validate --subject origin.
            Some(strategy) => Ok(strategy.subject(self.topic.as_deref().unwrap_or(name), name).into()),
        }
    }
}

impl Schemas for Arc<Confluent> {
    fn subject(&mut self, name: &str) -> Result<Lookup> {
        self.exactly(&self.subject_of(name)?)
    }
}

impl Registry for Arc<Confluent> {
    fn check(&mut self) -> Result<()> {
        Confluent::check(self)
    }

    fn subjects(&mut self) -> Result<Vec<String>> {
        let answer = self.answered(Method::GET, "/subjects", None)?;
        let name = |name: &Value| name.as_str().map(str::to_owned);
        let names: Option<Vec<String>> = answer.body.as_array().and_then(|names| names.iter().map(name).collect());
        let mut names = names.ok_or_else(|| self.nonsense("subjects"))?;
        names.sort_unstable();
        Ok(names)
    }

    fn level(&mut self, subject: &str) -> Result<Level> {
        for path in [format!("/config/{}?defaultToGlobal=true", escaped(subject)), "/config".to_owned()] {
            let answer = self.answered(Method::GET, &path, None)?;
            let level = answer.body.get("compatibilityLevel").and_then(Value::as_str);
            if let Some(level) = level.filter(|_| answer.is_good()) {
                let unknown = || Error::config(format!("{}: it says level '{level}' of '{subject}'", self.shown));
                return Level::from_name(level).ok_or_else(unknown);
            }
        }
        Err(Error::config(format!("{}: it says no level of '{subject}'", self.shown)))
    }

    fn register(&mut self, subject: &str, text: &str) -> Result<Registration> {
        let schema = Schema::parse(text)?;
        if let Some((version, _)) = self.find(subject, text)? {
            return Ok(Registration::Existing(version));
        }
        let posted = self.post(subject, text)?;
        self.subjects.forget(&subject.to_owned());
        if let Err(said) = posted {
            let level = self.level(subject)?;
            let found = self.fetch_subject(subject, None)?.found();
            let conflicts = found.map_or(vec![], |found| conflicts(&schema, &found.versions, level));
            return Ok(Registration::Refused { conflicts, said: Some(said) });
        }
        match self.find(subject, text)? {
            Some((version, _)) => Ok(Registration::Added(version)),
            None => Err(self.lost()),
        }
    }

    fn objections(&mut self, subject: &str, text: &str) -> Result<Option<Vec<String>>> {
        // Without a version Apicurio judges by all of them whatever the level, Confluent's by as many as the level says.
        let latest = if self.level(subject)?.is_transitive() { "" } else { "/latest" };
        let path = format!("/compatibility/subjects/{}/versions{latest}?verbose=true", escaped(subject));
        let answer = self.answered(Method::POST, &path, Some(&json!({ "schema": text })))?;
        match answer.body.get("is_compatible").and_then(Value::as_bool) {
            Some(true) => Ok(Some(vec![])),
            // There is nothing that it would have to follow.
            None if answer.status == 404 => Ok(Some(vec![])),
            Some(false) => {
                let said = answer.body.get("messages").and_then(Value::as_array);
                let said = said.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
                let mut said: Vec<String> = said.collect();
                if said.is_empty() {
                    said.push("it is not compatible (the registry says no more)".to_owned());
                }
                Ok(Some(said))
            }
            None => Err(self.refused(&path, &answer)),
        }
    }
}
