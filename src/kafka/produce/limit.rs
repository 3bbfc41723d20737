//! The size limit of a topic's records, checked before they are sent: `max.message.bytes` of the topic, or the user's
//! `message.max.bytes`.

use crate::error::Result;
use crate::format::cell::{Column, Form as CellForm};
use crate::format::jsonl::Objects;
use crate::kafka::client::{self, Context};
use crate::kafka::framing;
use crate::kind::dead::{ErrorType, Fault};
use crate::run::Run;
use crate::uri::kafka::Address;
use arrow::array::{Array, RecordBatch};
use futures_util::FutureExt;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::message::{Headers, OwnedHeaders};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bytes that cutting adds to a dead letter: the header with the original length.
pub const CUT_HEADER: usize = 64;

/// The brokers' default, used until the topic's limit is known.
const DEFAULT: usize = 1_048_588;
/// The setting of a topic, and the one of librdkafka.
const TOPIC_SETTING: &str = "max.message.bytes";
const SETTING: &str = "message.max.bytes";
/// The largest limit, in bytes: less than librdkafka's queue holds.
const MOST: usize = 60 << 20;
/// Timeout of the request for the topic's limit.
const PATIENCE: Duration = Duration::from_secs(5);
/// Poll interval of its answer.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Overhead of a batch of one record: the header of the batch, and length, attributes, timestamp and offset of the record at
/// their longest.
const AROUND_RECORD: usize = 61 + 36;
/// Lengths of a header's name and value at their longest.
const AROUND_HEADER: usize = 10;
/// Bytes that an offset, which is assigned later, may add to a row.
const OFFSET_DIGITS: usize = 20;

/// Returns the maximum size of a batch of one record, in bytes.
pub fn size(value: usize, key: usize, headers: usize) -> usize {
    AROUND_RECORD + value + key + headers
}

/// Returns the maximum size of headers in a record, in bytes.
pub fn headers_size(headers: Option<&OwnedHeaders>) -> usize {
    let one = |name: &str, value: Option<&[u8]>| AROUND_HEADER + name.len() + value.map_or(0, <[u8]>::len);
    headers.into_iter().flat_map(Headers::iter).map(|header| one(header.key, header.value)).sum()
}

/// The size limit of one output, shared with the code that checks records before they become rows.
#[derive(Clone, Debug)]
pub struct Limit {
    bytes: Arc<AtomicUsize>,
    /// The user's limit, which overrides the topic's; the brokers may then refuse records.
    said: Option<usize>,
}

impl Limit {
    /// Begins with the user's limit, or the brokers' default.
    pub fn new(address: &Address, run: &Run) -> Self {
        let settings = run.kafka.iter().chain(&address.options.settings);
        let said = settings.rev().find(|(name, _)| name == SETTING).and_then(|(_, value)| value.parse().ok());
        Self { bytes: Arc::new(AtomicUsize::new(said.unwrap_or(DEFAULT))), said }
    }

    /// Returns the largest size of a batch of one record, in bytes.
    pub fn get(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Sets the topic's limit.
    fn set(&self, topic: usize) {
        self.bytes.store(self.said.unwrap_or(topic), Ordering::Relaxed);
    }

    /// Asks the brokers for the topic's limit and applies it. Without an answer, or without permission to ask, the limit
    /// does not change.
    pub fn learn(&self, address: &Address, run: &Run, topic: &str) -> Result<Option<usize>> {
        let learned = ask(address, run, topic)?.map(|bytes| bytes.min(MOST));
        if let Some(bytes) = learned {
            self.set(bytes);
        }
        Ok(learned)
    }

    /// Returns producer settings that accept every record within this limit, in batches that the topic accepts.
    pub fn settings(&self, topic: Option<usize>) -> [(&'static str, String); 2] {
        let most = self.get().max(topic.unwrap_or(DEFAULT)).saturating_add(4096).clamp(1_000_000, MOST + 4096);
        [(SETTING, most.to_string()), ("batch.size", topic.unwrap_or(DEFAULT).clamp(1, 1_000_000).to_string())]
    }

    /// Makes the fault of a record that is too large.
    #[cold]
    pub fn fault(&self, value: usize, key: usize, headers: usize) -> Fault {
        let message = format!(
            "a record of {} bytes (value {value}, key {key}, headers {headers}) exceeds {TOPIC_SETTING} of the topic \
             ({} bytes)",
            size(value, key, headers),
            self.get()
        );
        Fault::new(ErrorType::SinkError, message)
    }
}

/// Asks for the topic's `max.message.bytes`.
fn ask(address: &Address, run: &Run, topic: &str) -> Result<Option<usize>> {
    let admin: AdminClient<Context> = client::create(&client::config(address, run, &[]), address)?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let topics = [ResourceSpecifier::Topic(topic)];
    let mut answer = pin!(admin.describe_configs(&topics, &options));
    let start = Instant::now();
    while start.elapsed() < PATIENCE && run.stop.signal().is_none() {
        if let Some(answer) = answer.as_mut().now_or_never() {
            let found = answer.ok().and_then(|topics| topics.into_iter().next()?.ok());
            return Ok(found.and_then(|topic| topic.get(TOPIC_SETTING)?.value.as_ref()?.parse().ok()));
        }
        run.stop.sleep(LOOK_EVERY)?;
    }
    Ok(None)
}

/// The size of a row as a record of a topic, and its limit.
#[derive(Clone, Debug)]
pub struct RowLimit {
    limit: Limit,
    is_framed: bool,
    key: Option<String>,
}

impl RowLimit {
    /// Measures rows as JSON, or alone in a frame if `is_framed`; `key` is the column of the key.
    pub fn new(limit: Limit, is_framed: bool, key: Option<String>) -> Self {
        Self { limit, is_framed, key }
    }

    /// Returns the limit in bytes.
    pub fn bytes(&self) -> usize {
        self.limit.get()
    }

    /// Returns the size in bytes of a batch's only row, with `headers` bytes of headers. In Avro a row is smaller than the JSON
    /// assumed here.
    pub fn size(&self, row: &RecordBatch, headers: usize) -> Result<usize> {
        if self.is_framed {
            return Ok(size(framing::rows(&row.schema(), row)?.len(), 0, 0) + OFFSET_DIGITS);
        }
        let (mut value, mut key) = (String::new(), String::new());
        Objects::try_new(row)?.write(0, &mut value);
        if let Some((at, field)) = self.key.as_ref().and_then(|name| row.schema_ref().column_with_name(name))
            && row.column(at).is_valid(0)
        {
            Column::new(field, row.column(at).as_ref(), CellForm::Text).write(0, &mut key);
        }
        Ok(size(value.len(), key.len(), headers) + OFFSET_DIGITS)
    }
}
