//! A registry with Confluent's REST API, also below a base path.
//!
//! Immutable data is fetched once: a schema by its id or GUID, a version by its number. Mutable data (the list of a
//! subject's versions, an unknown id) is fetched again on use after `refresh=`. Many threads may request the same; one
//! of them fetches.
//!
//! If the registry is unavailable, requests are retried with growing pauses for `retry=`; then the run ends (exit
//! status 69). With `down=dead` there is no retry: a lookup that cannot be answered is [`Lookup::Unavailable`], and its
//! record becomes a dead letter. Nothing counts as valid or as unknown because the registry did not answer.
//!
//! ```text
//! question ─► cache ─┬─► known
//!                    └─► one thread ─► http (retry=, down=) ─► answer ─► cache ─► all that wait
//! ```
//!
//! `http.rs` sends requests, `cache.rs` caches the results, `recall.rs` serves callers that may not wait,
//! `reference.rs` reads the references of a schema.

mod cache;
mod http;
pub mod recall;
mod reference;

use self::cache::{Cache, locked};
use self::http::{Http, RegistryResponse};
use self::reference::{Reference, number};
use super::{Registration, Registry, conflicts};
use crate::client::Location;
use crate::client::outage::{RetryError, RetryPolicy};
use crate::console::Console;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::parse::query::escaped;
use evt_core::schema::language::{Language, SchemaText};
use evt_core::schema::level::Level;
use evt_core::schema::subject::{Lookup, Schemas, Subject, Version};
use evt_core::schema::{self, AVRO};
use evt_core::time::parse_duration;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Maximum subjects and schemas in the caches; beyond that they are fetched again.
const SUBJECTS_MAX: usize = 4096;
const SCHEMAS_MAX: usize = 4096;
/// Maximum bytes of a subject name: Apicurio has no longer ones.
const NAME_MAX: usize = 512;
/// Maximum number of schemas that one schema refers to, directly and indirectly.
const REFERENCES_MAX: usize = 256;
/// How long no request is sent after one without an answer, with `down=dead`.
const PAUSE: Duration = Duration::from_secs(5);
const EVER: Duration = Duration::MAX;

/// Options of its addresses.
pub const OPTIONS: [&str; 9] = ["ca", "connect", "down", "refresh", "retry", "subject", "timeout", "token", "topic"];

/// The key of a schema without its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaKey {
    /// Its number.
    Id(u32),
    /// Its GUID.
    Guid([u8; 16]),
}

/// The rule that derives the subject of a schema from the topic and the name of the record.
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

    /// Returns the subject of a record in a topic.
    pub fn subject(self, topic: &str, record: &str) -> String {
        match self {
            Self::Topic => format!("{topic}-value"),
            Self::Record => record.to_owned(),
            Self::TopicRecord => format!("{topic}-{record}"),
        }
    }
}

/// The reaction to a registry that does not answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    /// The request is retried for as long as `retry=` says.
    Wait,
    /// The record that needs the answer becomes a dead letter (`down=dead`).
    Dead,
    /// The request fails at once.
    Fail,
}

/// A version of a subject in the registry.
struct RegisteredVersion {
    /// Its number, from 1.
    number: u32,
    /// The id of its schema.
    id: u32,
}

/// An open registry.
pub struct Confluent {
    http: Http,
    shown: String,
    retries: RetryPolicy,
    console: Console,
    refresh: Duration,
    absence: Absence,
    strategy: Option<Strategy>,
    topic: Option<String>,
    /// Until when no requests are sent, and why.
    outage: Mutex<Option<Outage>>,
    subjects: Cache<String, Lookup>,
    schemas: Cache<SchemaKey, Lookup<SchemaText>>,
}

/// Whether a registry may have a subject of that name. The names come from events: one that breaks a path, or that
/// registries refuse, is a subject that does not exist.
pub fn can_be_subject(name: &str) -> bool {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX && !name.contains(breaks)
}

/// Returns the language of a fetched schema, or why evt does not read it.
fn language(body: &Value) -> Result<&'static Language, String> {
    let Some(name) = body.get("schemaType").and_then(Value::as_str) else { return Ok(AVRO) };
    let known = schema::ALL.into_iter().find(|language| language.name == name);
    known.ok_or_else(|| format!("expected an Avro schema, found type {name}"))
}

/// An answer; [`RetryError::Transient`] if the registry is unavailable and the run does not wait for it.
type RegistryResult<T> = Result<T, RetryError>;

/// A registry that did not respond.
struct Outage {
    /// No request is sent before this time.
    until: Instant,
    cause: String,
}

/// Returns the result of a lookup in an unavailable registry, or the failure.
fn or_unavailable<T>(trouble: RetryError) -> Result<Lookup<T>> {
    match trouble {
        RetryError::Transient(cause) => Ok(Lookup::Unavailable(cause.into())),
        RetryError::Permanent(error) => Err(error),
    }
}

impl Confluent {
    /// Opens the registry at an address without a request.
    ///
    /// Errors: exit status 2 for an invalid address, 78 for certificates that cannot be read.
    pub fn open(location: &Location) -> Result<Self> {
        location.check_options("--schemas", &OPTIONS)?;
        let wrong = |name: &str, words: &str| Error::usage(format!("{location}: {name}=: {words}"));
        let option = |name: &str| location.option(name);
        let absence = match option("down") {
            None | Some("wait") => Absence::Wait,
            Some("dead") => Absence::Dead,
            Some(_) => return Err(wrong("down", "expected wait or dead")),
        };
        let refresh = option("refresh").map_or(Ok(evt_core::time::SECOND), parse_duration)?;
        let refresh = u64::try_from(refresh).map_err(|_| wrong("refresh", "expected a duration"))?;
        let words = || wrong("subject", "expected record, topic or topic-record");
        let strategy = option("subject").map(|word| Strategy::from_name(word).ok_or_else(words)).transpose()?;
        let topic = option("topic").map(str::to_owned);
        let shown = location.to_string();
        Ok(Self {
            http: Http::try_new(location)?,
            retries: location.retries()?.at_start(),
            shown,
            console: location.caller.console.clone(),
            refresh: Duration::from_micros(refresh),
            absence,
            strategy,
            topic,
            outage: Mutex::default(),
            subjects: Cache::new(SUBJECTS_MAX),
            schemas: Cache::new(SCHEMAS_MAX),
        })
    }

    /// Disables `retry=`, for callers that retry themselves.
    #[must_use]
    pub fn without_retry(mut self) -> Self {
        if self.absence == Absence::Wait {
            self.absence = Absence::Fail;
        }
        self
    }

    /// Returns its name, for messages.
    pub fn name(&self) -> &str {
        &self.shown
    }

    /// Checks that it answers and accepts the credentials; waits as long as `retry=` says.
    pub fn check(&self) -> Result<()> {
        let attempt = || self.http.send("/subjects", None);
        let answer = match self.absence {
            Absence::Wait => self.retries.run(attempt),
            Absence::Fail | Absence::Dead => attempt().map_err(|trouble| trouble.into_error(&self.shown)),
        };
        match answer.map_err(|error| error.at(&self.shown))? {
            answer if answer.is_good() => Ok(()),
            answer => Err(self.refused("/subjects", &answer)),
        }
    }

    /// Waits until it answers, as long as `retry=` says; does nothing if the address says that nothing waits for it.
    pub fn wait(&self) -> Result<()> {
        if self.absence != Absence::Wait {
            return Ok(());
        }
        self.answered("/subjects", None).map(|_| ())
    }

    /// Looks up the schema of a key.
    pub fn schema(&self, key: SchemaKey) -> Result<Lookup<SchemaText>> {
        self.schemas.get(&key, |found| self.good_for(found, EVER), |_| self.fetch_schema(key))
    }

    /// Returns how long the result of a lookup is kept; `found` if it found something.
    fn good_for<T>(&self, result: &Lookup<T>, found: Duration) -> Duration {
        match result {
            Lookup::Found(_) => found,
            Lookup::Unknown | Lookup::Useless(_) => self.refresh,
            Lookup::Unavailable(_) => Duration::ZERO,
        }
    }

    fn fetch_schema(&self, key: SchemaKey) -> Result<Lookup<SchemaText>> {
        let path = match key {
            SchemaKey::Id(id) => format!("/schemas/ids/{id}"),
            SchemaKey::Guid(guid) => format!("/schemas/guids/{}", uuid::Uuid::from_bytes(guid)),
        };
        let text = match self.get(&path) {
            Ok(Some(body)) => self.text(&body),
            Ok(None) => return Ok(Lookup::Unknown),
            Err(trouble) => return or_unavailable(trouble),
        };
        match text {
            Ok(text) => Ok(Lookup::Found(text)),
            // An unusable schema is the fault of the records that refer to it.
            Err(RetryError::Permanent(error)) if error.kind() == ErrorKind::Config => {
                Ok(Lookup::Useless(error.to_string().into()))
            }
            Err(trouble) => or_unavailable(trouble),
        }
    }

    /// Returns the text of a fetched schema, with its references written in.
    fn text(&self, body: &Value) -> RegistryResult<SchemaText> {
        let text = body.get("schema").and_then(Value::as_str);
        let text = text.ok_or_else(|| Error::config("the response has no schema"))?;
        let language = language(body).map_err(Error::config)?;
        let mut open = Reference::all(body)?;
        if open.is_empty() {
            return Ok(SchemaText { language, text: text.into() });
        }
        let mut known: BTreeMap<Reference, String> = BTreeMap::new();
        while let Some(reference) = open.pop() {
            if known.contains_key(&reference) {
                continue;
            }
            if known.len() == REFERENCES_MAX {
                return Err(Error::config(format!("more than {REFERENCES_MAX} references")).into());
            }
            let path = format!("/subjects/{}/versions/{}", escaped(&reference.subject), reference.version);
            let body = self.get(&path)?.ok_or_else(|| Error::config(format!("missing reference {reference}")))?;
            let text = body.get("schema").and_then(Value::as_str).unwrap_or_default().to_owned();
            open.extend(Reference::all(&body)?);
            known.insert(reference, text);
        }
        let others: Vec<&str> = known.values().map(String::as_str).collect();
        Ok(SchemaText { language, text: (language.inline)(text, &others)?.into() })
    }

    /// Returns `subject=`, if set.
    pub fn strategy(&self) -> Option<Strategy> {
        self.strategy
    }

    /// Looks up the subject of exactly this name with all its versions.
    pub fn exactly(&self, name: &str) -> Result<Lookup> {
        let good_for = |found: &Lookup| self.good_for(found, self.refresh);
        self.subjects.get(&name.to_owned(), good_for, |known| self.fetch_subject(name, known))
    }

    fn fetch_subject(&self, name: &str, known: Option<&Lookup>) -> Result<Lookup> {
        if !can_be_subject(name) {
            return Ok(Lookup::Unknown);
        }
        self.versions(name, known).or_else(or_unavailable)
    }

    fn versions(&self, name: &str, known: Option<&Lookup>) -> RegistryResult<Lookup> {
        let path = format!("/subjects/{}/versions", escaped(name));
        let Some(numbers) = self.get(&path)? else { return Ok(Lookup::Unknown) };
        let numbers: Option<Vec<u32>> = numbers.as_array().and_then(|list| list.iter().map(number).collect());
        let mut numbers = numbers.ok_or_else(|| self.nonsense(&format!("versions of subject '{name}'")))?;
        numbers.sort_unstable();
        let known = if let Some(Lookup::Found(subject)) = known { Some(subject) } else { None };
        if let Some(known) = known.filter(|known| known.has_versions(&numbers)) {
            return Ok(Lookup::Found(known.clone()));
        }
        let mut versions = vec![];
        for number in numbers {
            if let Some(version) = known.and_then(|known| known.version(number)) {
                versions.push(version.clone());
                continue;
            }
            // A version may have been deleted since it was listed.
            let Some(body) = self.get(&format!("{path}/{number}"))? else { continue };
            if let Err(why) = language(&body) {
                return Ok(Lookup::Useless(format!("version {number}: {why}").into()));
            }
            let place = || format!("{}: subject '{name}' version {number}", self.shown);
            match self.version(number, &body).map_err(|trouble| trouble.at(place))? {
                Ok(version) => versions.push(version),
                // No later request helps, so its records are refused as those of a schema that is not Avro.
                Err(fault) => return Ok(Lookup::Useless(format!("version {number}: {fault}").into())),
            }
        }
        if versions.is_empty() {
            return Ok(Lookup::Unknown);
        }
        Ok(Lookup::Found(Arc::new(Subject { name: name.to_owned(), versions })))
    }

    /// Reads a fetched version of a subject, or why its schema cannot be parsed.
    fn version(&self, number: u32, body: &Value) -> RegistryResult<Result<Version, Error>> {
        let id = body.get("id").and_then(Value::as_i64);
        let id = id.ok_or_else(|| Error::config("the response has no id"))?;
        let SchemaText { language, text } = self.text(body)?;
        Ok((language.parse)(&text).map(|schema| Version { number, id, schema, text }))
    }

    /// Fetches the JSON at a path; `None` if there is nothing.
    fn get(&self, path: &str) -> RegistryResult<Option<Value>> {
        let answer = self.request(path, None)?;
        match answer.status {
            // Not every registry supports GUIDs. Any other 404 must have an error code, or the base path is wrong.
            404 if answer.names_unknown() || path.starts_with("/schemas/guids/") => Ok(None),
            _ if answer.is_good() => Ok(Some(answer.body)),
            _ => Err(self.refused(path, &answer).into()),
        }
    }

    /// Sends a request ([`Http::send`]), with retries as `retry=` and `down=` say.
    fn request(&self, path: &str, schema: Option<&str>) -> RegistryResult<RegistryResponse> {
        let named = |trouble: RetryError| trouble.at(|| self.shown.clone());
        let attempt = || self.http.send(path, schema).map_err(named);
        match self.absence {
            Absence::Wait => return Ok(self.retries.run(attempt)?),
            Absence::Fail => return Ok(attempt().map_err(|trouble| trouble.into_error(&self.shown))?),
            Absence::Dead => {}
        }
        if let Some(Outage { cause, .. }) = locked(&self.outage).as_ref().filter(|outage| Instant::now() < outage.until)
        {
            return Err(RetryError::Transient(cause.clone()));
        }
        let answer = attempt();
        let mut outage = locked(&self.outage);
        match answer {
            Ok(answer) => {
                if outage.take().is_some() {
                    self.console.say(format!("{}: available again", self.shown));
                }
                Ok(answer)
            }
            Err(RetryError::Permanent(error)) => Err(error.into()),
            Err(RetryError::Transient(cause)) => {
                if outage.is_none() {
                    let line = format!("{}: {cause}: events that need it become dead letters (?down=)", self.shown);
                    self.console.say(line);
                }
                let cause = format!("{}: {cause}", self.shown);
                *outage = Some(Outage { until: Instant::now() + PAUSE, cause: cause.clone() });
                Err(RetryError::Transient(cause))
            }
        }
    }

    /// Sends a request for a command: an unavailable registry is an error whatever `down=` says.
    fn answered(&self, path: &str, schema: Option<&str>) -> Result<RegistryResponse> {
        self.request(path, schema).map_err(|trouble| match trouble {
            RetryError::Transient(cause) => Error::unavailable(cause),
            RetryError::Permanent(error) => error,
        })
    }

    #[cold]
    fn refused(&self, path: &str, answer: &RegistryResponse) -> Error {
        Error::config(format!("{}: {path}: status {}", self.shown, answer.status)).because(answer.message())
    }

    #[cold]
    fn nonsense(&self, what: &str) -> Error {
        Error::config(format!("{}: expected a list of {what} in the response", self.shown))
    }

    /// Finds the version of a subject that has a schema.
    fn find(&self, subject: &str, text: &str) -> Result<Option<RegisteredVersion>> {
        let path = format!("/subjects/{}", escaped(subject));
        let answer = self.answered(&path, Some(text))?;
        if !answer.is_good() {
            return Ok(None);
        }
        match (answer.number("version"), answer.number("id")) {
            (Some(number), Some(id)) => Ok(Some(RegisteredVersion { number, id })),
            _ => Err(Error::config(format!("{}: the response has no version and id", self.shown))),
        }
    }

    /// Returns the id of a schema that is a version of the subject.
    pub fn id(&self, subject: &str, text: &str) -> Result<u32> {
        let found = self.find(subject, text)?;
        found.map(|found| found.id).ok_or_else(|| self.lost())
    }

    #[cold]
    fn lost(&self) -> Error {
        Error::config(format!("{}: the registry accepted the schema but does not return it", self.shown))
    }

    /// Registers a schema under exactly this subject, whatever the strategy; returns its id, or the registry's refusal.
    fn post(&self, subject: &str, text: &str) -> Result<Result<u32, String>> {
        let path = format!("/subjects/{}/versions", escaped(subject));
        let answer = self.answered(&path, Some(text))?;
        match (answer.status, answer.number("id")) {
            (409, _) => Ok(Err(answer.message())),
            (_, Some(id)) if answer.is_good() => Ok(Ok(id)),
            _ => Err(self.refused(&path, &answer)),
        }
    }

    /// Returns the subject of events with this name.
    fn subject_of<'a>(&self, name: &'a str) -> Result<Cow<'a, str>> {
        match self.strategy {
            None | Some(Strategy::Record) => Ok(name.into()),
            Some(Strategy::TopicRecord) if self.topic.is_none() => {
                Err(Error::usage(format!("{}: subject=topic-record requires topic=NAME here", self.shown)))
            }
            // Without `topic=` the name is the topic: evt-validate --subject origin.
            Some(strategy) => Ok(strategy.subject(self.topic.as_deref().unwrap_or(name), name).into()),
        }
    }
}

impl Schemas for &Confluent {
    fn subject(&mut self, name: &str) -> Result<Lookup> {
        self.exactly(&self.subject_of(name)?)
    }
}

impl Registry for Arc<Confluent> {
    fn check(&mut self) -> Result<()> {
        Confluent::check(self)
    }

    fn subjects(&mut self) -> Result<Vec<String>> {
        let answer = self.answered("/subjects", None)?;
        let name = |name: &Value| name.as_str().map(str::to_owned);
        let names: Option<Vec<String>> = answer.body.as_array().and_then(|names| names.iter().map(name).collect());
        let mut names = names.ok_or_else(|| self.nonsense("subjects"))?;
        names.sort_unstable();
        Ok(names)
    }

    fn level(&mut self, subject: &str) -> Result<Level> {
        for path in [format!("/config/{}?defaultToGlobal=true", escaped(subject)), "/config".to_owned()] {
            let answer = self.answered(&path, None)?;
            let level = answer.body.get("compatibilityLevel").and_then(Value::as_str);
            if let Some(level) = level.filter(|_| answer.is_good()) {
                let unknown = || Error::config(format!("{}: unknown level '{level}' of '{subject}'", self.shown));
                return Level::from_name(level).ok_or_else(unknown);
            }
        }
        Err(Error::config(format!("{}: the response has no compatibility level of subject '{subject}'", self.shown)))
    }

    fn register(&mut self, subject: &str, text: &str) -> Result<Registration> {
        let schema = (AVRO.parse)(text)?;
        if let Some(found) = self.find(subject, text)? {
            return Ok(Registration::Existing(found.number));
        }
        let posted = self.post(subject, text)?;
        self.subjects.forget(&subject.to_owned());
        if let Err(said) = posted {
            let level = self.level(subject)?;
            let found = self.fetch_subject(subject, None)?.found();
            let conflicts = found.map_or(vec![], |found| conflicts(schema.as_ref(), &found.versions, level));
            return Ok(Registration::Refused { conflicts, said: Some(said) });
        }
        match self.find(subject, text)? {
            Some(found) => Ok(Registration::Added(found.number)),
            None => Err(self.lost()),
        }
    }

    fn objections(&mut self, subject: &str, text: &str) -> Result<Option<Vec<String>>> {
        // Without a version in the path, Apicurio checks against all versions whatever the level, Confluent's registry
        // against as many as the level says.
        let latest = if self.level(subject)?.is_transitive() { "" } else { "/latest" };
        let path = format!("/compatibility/subjects/{}/versions{latest}?verbose=true", escaped(subject));
        let answer = self.answered(&path, Some(text))?;
        match answer.body.get("is_compatible").and_then(Value::as_bool) {
            Some(true) => Ok(Some(vec![])),
            // There is no version that it must follow.
            None if answer.status == 404 => Ok(Some(vec![])),
            Some(false) => {
                let said = answer.body.get("messages").and_then(Value::as_array).into_iter().flatten();
                let mut said: Vec<String> = said.filter_map(Value::as_str).map(str::to_owned).collect();
                if said.is_empty() {
                    said.push("not compatible (the registry gives no reason)".to_owned());
                }
                Ok(Some(said))
            }
            None => Err(self.refused(&path, &answer)),
        }
    }
}
