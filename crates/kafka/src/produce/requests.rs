//! The requests of a transactional producer. Each is repeated until brokers answer.

use super::offsets::{self, GroupOffsets};
use super::producer::TopicProducer;
use crate::client;
use evt_core::error::{Error, Result};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::Producer;
use std::sync::Arc;
use std::time::Duration;

/// Timeout of one attempt to abort a transaction, and the number of attempts before they are reported.
const ABORT_TIMEOUT: Duration = Duration::from_millis(200);
const ABORT_ATTEMPTS: u32 = 5;
/// How long to try to abort the transaction of a run that ends with an error. Readers then need not wait for its
/// timeout.
pub const LAST_ABORT: Duration = Duration::from_secs(5);

/// Ends the transaction of an earlier producer with the same id and fences it.
pub fn init(producer: &TopicProducer) -> Result<()> {
    request(producer, |timeout| producer.client.init_transactions(timeout))
}

/// Begins a transaction; then its records are queued.
pub fn begin(producer: &TopicProducer) -> Result<()> {
    request(producer, |_| producer.client.begin_transaction())
}

/// Commits the open transaction with the offsets of a group; returns the cause if it must be aborted instead.
pub fn commit(producer: &TopicProducer, offsets: GroupOffsets) -> Result<Option<KafkaError>> {
    // A commit waits for the records, too, but ends after a fixed time even if brokers acknowledge them meanwhile.
    producer.flush()?;
    match send_offsets(producer, &Arc::new(offsets))? {
        Some(cause) => Ok(Some(cause)),
        None => step(producer, |timeout| producer.client.commit_transaction(timeout)).map(Result::err),
    }
}

/// Adds offsets to the open transaction; returns the cause if it must be aborted instead.
fn send_offsets(producer: &TopicProducer, offsets: &Arc<GroupOffsets>) -> Result<Option<KafkaError>> {
    let answer = step(producer, |timeout| match offsets::send(producer, offsets, timeout) {
        Ok(answer) => answer.map(Ok),
        // A request that has not returned cannot be repeated.
        Err(error) => Ok(Err(error)),
    })?;
    answer.map_or_else(|cause| Ok(Some(cause)), |sent| sent.map(|()| None))
}

/// Repeats a request of an open transaction until brokers answer. Returns the cause if the transaction must be aborted.
fn step<T>(producer: &TopicProducer, attempt: impl Fn(Duration) -> KafkaResult<T>) -> Result<KafkaResult<T>> {
    request(producer, |timeout| match attempt(timeout) {
        Err(KafkaError::Transaction(cause)) if cause.txn_requires_abort() => Ok(Err(KafkaError::Transaction(cause))),
        other => other.map(Ok),
    })
}

/// Repeats a request until brokers answer.
fn request<T>(producer: &TopicProducer, attempt: impl Fn(Duration) -> KafkaResult<T>) -> Result<T> {
    let limit = producer.topics.address.options.wait.limit(true);
    let answer = producer.request(limit, |timeout| match attempt(timeout) {
        // A repetition does not help after a fatal error.
        Err(KafkaError::Transaction(cause)) if cause.is_fatal() => Ok(Err(KafkaError::Transaction(cause))),
        other => other.map(Ok),
    });
    fatal(producer).map_or(answer, Err)?.map_err(|cause| failed(producer, &cause))
}

/// Returns the error of a producer that cannot continue.
pub fn fatal(producer: &TopicProducer) -> Option<Error> {
    let (code, _) = producer.client.client().fatal_error()?;
    Some(failed(producer, &KafkaError::Global(code)))
}

/// Makes the error of a transaction that cannot be committed.
#[cold]
pub fn failed(producer: &TopicProducer, error: &KafkaError) -> Error {
    match error.rdkafka_error_code() {
        Some(code) if client::is_fenced(code) => producer.fenced(),
        _ => client::failed(&producer.topics.address, "the transaction failed", error),
    }
}

/// Aborts the open transaction.
pub fn abort(producer: &TopicProducer, limit: Option<Duration>) -> Result<()> {
    for _ in 0..ABORT_ATTEMPTS {
        if producer.client.abort_transaction(ABORT_TIMEOUT).is_ok() {
            return Ok(());
        }
        // Takes the failures of the records, because an abort waits until they have been taken.
        producer.drain();
    }
    producer.request(limit, |timeout| producer.client.abort_transaction(timeout.min(ABORT_TIMEOUT)))
}
