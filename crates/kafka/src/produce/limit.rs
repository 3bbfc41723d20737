//! The limits of a topic, which records must meet before they are sent: a size of at most `max.message.bytes` of the
//! topic or the user's `message.max.bytes`, and a key, if the topic is compacted.

use super::format::{KeyColumn, default_key};
use crate::address::{Address, TopicFormat};
use crate::client::record::{ProducerRecord, size};
use crate::client::{self, Context, Topics};
use crate::framing;
use arrow::array::RecordBatch;
use evt_core::error::{Error, Result};
use evt_core::format::jsonl::Objects;
use evt_core::kind::Kind;
use evt_core::kind::dead::Fault;
use evt_run::run::Run;
use futures_util::FutureExt;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use std::pin::pin;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The brokers' default, used until the topic's limit is known.
const DEFAULT: usize = 1_048_588;
/// The setting that says whether a topic is compacted.
const POLICY: &str = "cleanup.policy";
/// The setting of a topic, and the one of librdkafka.
const TOPIC_SETTING: &str = "max.message.bytes";
const SETTING: &str = "message.max.bytes";
/// librdkafka's setting of the size of a batch.
const BATCH: &str = "batch.size";
/// The largest limit, in bytes: less than librdkafka's queue holds.
const MOST: usize = 60 << 20;
/// Timeout of the request for the topic's limit.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Poll interval of its answer.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Bytes that an offset, which is assigned later, may add to a row.
const OFFSET_DIGITS: usize = 20;

/// The limits of one output. The size limit is shared with the code that checks records before they become rows.
#[derive(Clone, Debug)]
pub struct Limit {
    bytes: Arc<AtomicUsize>,
    /// The topic's limit, if it is known.
    topic: Option<usize>,
    /// The user's limit, which overrides the topic's; the brokers may then reject records.
    setting: Option<usize>,
    /// Whether the topic rejects records without a key, because it keeps the last record of each key.
    needs_key: bool,
}

impl Limit {
    /// Begins with the user's limit, or the brokers' default.
    pub fn new(address: &Address, run: &Run) -> Self {
        let setting = client::setting(address, run, SETTING).and_then(|value| value.parse().ok());
        Self { bytes: Arc::new(AtomicUsize::new(setting.unwrap_or(DEFAULT))), topic: None, setting, needs_key: false }
    }

    /// Returns the largest size of a batch of one record, in bytes.
    pub fn get(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Queries the brokers for the limits of the topic and applies them; returns whether the size limit changed. The
    /// limits stay as they are if brokers do not answer or deny the query.
    pub fn learn(&mut self, topics: &Topics) -> Result<bool> {
        let [bytes, policy] = topic_settings(topics, 0, [TOPIC_SETTING, POLICY])?;
        self.needs_key = policy.map_or(self.needs_key, |policy| is_compacted(&policy));
        let found = bytes.and_then(|value| value.parse::<usize>().ok());
        let limit = found.map(|bytes| bytes.min(MOST)).or(self.topic);
        if let Some(bytes) = limit {
            self.bytes.store(self.setting.unwrap_or(bytes), Ordering::Relaxed);
        }
        Ok(std::mem::replace(&mut self.topic, limit) != limit)
    }

    /// Returns producer settings that accept every record within this limit, in batches that the topic accepts.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        Self::settings_of_all(slice::from_ref(self))
    }

    /// Returns producer settings that accept every record within some of these limits, in batches that every topic
    /// accepts.
    pub fn settings_of_all(limits: &[Self]) -> Vec<(&'static str, String)> {
        let most = limits.iter().map(Self::most).max().unwrap_or(DEFAULT);
        let batch = limits.iter().map(Self::batch).min().unwrap_or(DEFAULT);
        vec![(SETTING, most.to_string()), (BATCH, batch.to_string())]
    }

    /// Returns the size of a message that a producer must accept.
    fn most(&self) -> usize {
        self.get().max(self.topic.unwrap_or(DEFAULT)).saturating_add(4096).clamp(1_000_000, MOST + 4096)
    }

    /// Returns the size of a batch that the topic accepts.
    fn batch(&self) -> usize {
        self.topic.unwrap_or(DEFAULT).clamp(1, 1_000_000)
    }

    /// Lowers the limit to that of the topic, even if the user's limit is larger.
    pub fn apply_topic_limit(&mut self) {
        let topic = self.topic.unwrap_or(usize::MAX);
        self.setting = self.setting.map(|setting| setting.min(topic));
        self.bytes.fetch_min(topic, Ordering::Relaxed);
    }

    /// Notes that brokers rejected a record of this size that was alone in its batch.
    pub fn lower_below(&mut self, size: usize) {
        let most = size.saturating_sub(1);
        self.setting = Some(self.setting.map_or(most, |setting| setting.min(most)));
        self.bytes.fetch_min(most, Ordering::Relaxed);
    }

    /// Notes that brokers rejected a record without a key that was alone in its batch.
    pub fn require_key(&mut self) {
        self.needs_key = true;
    }

    /// Checks that the topic accepts records with these options. Errors: exit status 78 if it is compacted and they
    /// have no key, or are dead letters.
    pub fn check_format(&self, address: &Address, is_dead: bool) -> Result<()> {
        match unfit_for_compaction(address, is_dead).filter(|_| self.needs_key) {
            Some(why) => Err(compacted(address, why)),
            None => Ok(()),
        }
    }

    /// Whether the topic rejects the record because it has no key.
    pub fn lacks_key(&self, record: &ProducerRecord<'_>) -> bool {
        self.needs_key && record.key.is_none()
    }

    /// Returns the fault of a record that the topic does not accept.
    pub fn rejection(&self, record: &ProducerRecord<'_>) -> Option<Fault> {
        if record.size() > self.get() {
            return Some(self.fault(record));
        }
        self.lacks_key(record).then(|| invalid(record))
    }

    /// Returns by how many bytes to cut a record of this size that brokers rejected.
    pub fn excess(&self, size: usize) -> usize {
        size - self.topic.filter(|topic| *topic < size).unwrap_or(size / 2)
    }

    /// Makes the fault of a record that is too large.
    #[cold]
    pub fn fault(&self, record: &ProducerRecord<'_>) -> Fault {
        let message = format!(
            "a record of {} bytes (value {}, key {}, headers {}) exceeds {TOPIC_SETTING} of the topic ({} bytes)",
            record.size(),
            record.value.len(),
            record.key_size(),
            record.headers_size(),
            self.get()
        );
        Fault::of_sink(message)
    }
}

/// Whether a topic with this `cleanup.policy` keeps the last record of each key, and rejects records without a key.
fn is_compacted(policy: &str) -> bool {
    policy.contains("compact")
}

/// Returns why records with these options do not fit a compacted topic; `None` if they do.
fn unfit_for_compaction(address: &Address, is_dead: bool) -> Option<&'static str> {
    let options = &address.options;
    match (options.form, options.key.as_deref()) {
        (Some(TopicFormat::Frames), _) => {
            Some("it rejects records without a key, and those of format=frames have none")
        }
        _ if is_dead => Some("it keeps only the last dead letter of each key, and rejects those without a key"),
        (_, Some("none")) => Some("it rejects records without a key, and key=none gives them none"),
        _ => None,
    }
}

/// Makes the error of a compacted topic that records of an output do not fit.
#[cold]
fn compacted(address: &Address, why: &str) -> Error {
    Error::config(format!("{address}: expected a topic with cleanup.policy=delete, found one that is compacted"))
        .because(why)
}

/// Checks that the topic of an output is not compacted if its records do not fit such a topic. Errors: exit status 78.
pub fn check_policy(topics: &Topics, is_dead: bool) -> Result<()> {
    let Some(why) = unfit_for_compaction(&topics.address, is_dead) else { return Ok(()) };
    let [policy] = topic_settings(topics, 0, [POLICY])?;
    match policy {
        Some(policy) if is_compacted(&policy) => Err(compacted(&topics.address, why)),
        _ => Ok(()),
    }
}

/// Makes the fault of a record that the topic, or its brokers, find invalid.
#[cold]
pub fn invalid(record: &ProducerRecord<'_>) -> Fault {
    let message = match record.key {
        None => "the topic rejects a record without a key (cleanup.policy=compact)",
        Some(_) => "brokers rejected the record as invalid",
    };
    Fault::of_sink(message)
}

/// Queries brokers for settings of a topic, in the order of `names`; `None` if they do not answer or deny the query.
pub fn topic_settings<const N: usize>(topics: &Topics, topic: usize, names: [&str; N]) -> Result<[Option<String>; N]> {
    settings_of(topics, &topics.create(&[])?, ResourceSpecifier::Topic(topics.name(topic)), names)
}

/// Checks that brokers accept a setting of librdkafka (ms), as far as they tell: `limits` are the names of the brokers'
/// own settings with the least and the greatest value. Errors: exit status 78.
pub fn check_limits(topics: &Topics, setting: &str, limits: [&str; 2]) -> Result<()> {
    let Topics { address, run } = topics;
    let Some(value) = client::setting(address, run, setting).and_then(|value| value.parse::<i64>().ok()) else {
        return Ok(());
    };
    let admin: AdminClient<Context> = topics.create(&[])?;
    let Ok(metadata) = admin.inner().fetch_metadata(Some(topics.name(0)), REQUEST_TIMEOUT) else { return Ok(()) };
    let Some(broker) = metadata.brokers().first() else { return Ok(()) };
    let known = settings_of(topics, &admin, ResourceSpecifier::Broker(broker.id()), limits)?;
    let [least, most] = known.map(|limit| limit?.parse::<i64>().ok());
    let wrong = |what: &str, name: &str, limit: i64| {
        Err(Error::config(format!("{address}: {setting}={value}: expected at {what} {limit}, {name} of the brokers")))
    };
    match (least, most) {
        (Some(least), _) if value < least => wrong("least", limits[0], least),
        (_, Some(most)) if value > most => wrong("most", limits[1], most),
        _ => Ok(()),
    }
}

/// Queries brokers for settings of a topic or a broker, in the order of `names`; `None` if they do not answer or deny
/// the query.
fn settings_of<const N: usize>(
    topics: &Topics,
    admin: &AdminClient<Context>,
    resource: ResourceSpecifier<'_>,
    names: [&str; N],
) -> Result<[Option<String>; N]> {
    let run = &topics.run;
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let resources = [resource];
    let mut answer = pin!(admin.describe_configs(&resources, &options));
    let end = run.clock.monotonic() + REQUEST_TIMEOUT;
    while run.clock.monotonic() < end && run.stop.signal().is_none() {
        if let Some(answer) = answer.as_mut().now_or_never() {
            let found = answer.ok().and_then(|topics| topics.into_iter().next()?.ok());
            return Ok(names.map(|name| found.as_ref()?.get(name)?.value.clone()));
        }
        run.stop.sleep(POLL_INTERVAL)?;
    }
    Ok([const { None }; N])
}

/// The size of a row as a record of a topic, and its limit.
#[derive(Clone, Debug)]
pub struct RowLimit {
    limit: Limit,
    is_framed: bool,
    /// The column of the key.
    key: Option<String>,
}

impl RowLimit {
    /// Measures events as JSON, or alone in a frame, by the options of a topic.
    pub fn new(address: &Address, limit: &Limit) -> Self {
        let key = address.options.key.as_deref().unwrap_or_else(|| default_key(Some(Kind::Event)));
        let key = Some(key.to_owned()).filter(|key| key != "none");
        Self { limit: limit.clone(), is_framed: address.options.form == Some(TopicFormat::Frames), key }
    }

    /// Returns the limit in bytes.
    pub fn bytes(&self) -> usize {
        self.limit.get()
    }

    /// Returns the size in bytes of a batch's only row, with `headers` bytes of headers. In Avro a row is smaller than
    /// the JSON assumed here.
    pub fn size(&self, row: &RecordBatch, headers: usize) -> Result<usize> {
        if self.is_framed {
            return Ok(size(framing::rows(&row.schema(), row)?.len(), 0, 0) + OFFSET_DIGITS);
        }
        let mut value = String::new();
        Objects::try_new(row)?.write(0, &mut value);
        let column = self.key.as_ref().and_then(|name| row.schema_ref().index_of(name).ok());
        let key = KeyColumn::new(row, column).get(0).map_or(0, <[u8]>::len);
        Ok(size(value.len(), key, headers) + OFFSET_DIGITS)
    }
}
