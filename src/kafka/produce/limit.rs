//! How large a record of a topic may be, judged before it is sent: the topic's `max.message.bytes`, or what the user says.

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

/// Bytes that a letter gets when it is cut: the header that says so.
pub const CUT_HEADER: usize = 64;

/// The brokers' default, which holds until the topic's is known.
const DEFAULT: usize = 1_048_588;
/// The setting of a topic, and ours.
const TOPIC_SETTING: &str = "max.message.bytes";
const SETTING: &str = "message.max.bytes";
/// What librdkafka's queue has room for.
const MOST: usize = 60 << 20;
/// How long the brokers' answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A batch of one record: the head of the batch, and lengths, attributes, timestamp and offset of the record at their longest.
const AROUND_RECORD: usize = 61 + 36;
/// The lengths of a header's name and value at their longest.
const AROUND_HEADER: usize = 10;
/// What an offset that is known later may add to a row.
const OFFSET_DIGITS: usize = 20;

/// Bytes that a batch of one record takes at most.
pub fn size(value: usize, key: usize, headers: usize) -> usize {
    AROUND_RECORD + value + key + headers
}

/// Bytes of headers in a record.
pub fn headers_size(headers: Option<&OwnedHeaders>) -> usize {
    let one = |name: &str, value: Option<&[u8]>| AROUND_HEADER + name.len() + value.map_or(0, <[u8]>::len);
    headers.into_iter().flat_map(Headers::iter).map(|header| one(header.key, header.value)).sum()
}

/// The limit of one output, shared with those who judge records before they are rows.
#[derive(Clone, Debug)]
pub struct Limit {
    bytes: Arc<AtomicUsize>,
    /// What the user says, whatever the topic's is: brokers then judge for themselves.
    said: Option<usize>,
}

impl Limit {
    /// The limit of `address` before any broker was asked.
    pub fn new(address: &Address, run: &Run) -> Self {
        let settings = run.kafka.iter().chain(&address.options.settings);
        let said = settings.rev().find(|(name, _)| name == SETTING).and_then(|(_, value)| value.parse().ok());
        Self { bytes: Arc::new(AtomicUsize::new(said.unwrap_or(DEFAULT))), said }
    }

    /// Bytes of a batch of one record that are not too many.
    pub fn get(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes what the topic's limit is.
    fn set(&self, topic: usize) {
        self.bytes.store(self.said.unwrap_or(topic), Ordering::Relaxed);
    }

    /// Asks the brokers for the topic's limit. Where they do not say, because they are away or we may not ask, the limit stays.
    pub fn learn(&self, address: &Address, run: &Run, topic: &str) -> Result<Option<usize>> {
        let learned = ask(address, run, topic)?.map(|bytes| bytes.min(MOST));
        if let Some(bytes) = learned {
            self.set(bytes);
        }
        Ok(learned)
    }

    /// Settings of a producer that sends whatever this limit lets through, in batches that the topic takes.
    pub fn settings(&self, topic: Option<usize>) -> [(&'static str, String); 2] {
        let most = self.get().max(topic.unwrap_or(DEFAULT)).saturating_add(4096).clamp(1_000_000, MOST + 4096);
        [(SETTING, most.to_string()), ("batch.size", topic.unwrap_or(DEFAULT).clamp(1, 1_000_000).to_string())]
    }

    /// Why a record that is too large is.
    #[cold]
    pub fn fault(&self, value: usize, key: usize, headers: usize) -> Fault {
        let message = format!(
            "a record of {} bytes (value {value}, key {key}, headers {headers}) is more than the topic's {TOPIC_SETTING} \
             allows ({} bytes)",
            size(value, key, headers),
            self.get()
        );
        Fault::new(ErrorType::SinkError, message)
    }
}

/// The topic's `max.message.bytes`.
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

/// What a row comes to as a record of a topic.
#[derive(Clone, Debug)]
pub struct RowLimit {
    limit: Limit,
    is_framed: bool,
    key: Option<String>,
}

impl RowLimit {
    /// Rows under `limit`, alone in a frame or as JSON; the column that makes the key.
    pub fn new(limit: Limit, is_framed: bool, key: Option<String>) -> Self {
        Self { limit, is_framed, key }
    }

    /// The limit in bytes.
    pub fn bytes(&self) -> usize {
        self.limit.get()
    }

    /// Bytes that the one row of a batch takes with so many bytes of headers. A row in Avro takes less than in JSON.
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
