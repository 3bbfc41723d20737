//! The interface between the HTTP server and the spool: requests, and the answers to them.

use bytes::Bytes;
use evt_core::kind::dead::Fault;
use std::sync::Arc;

/// One HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it arrived (µs, UTC): the `server_timestamp` of its records.
    pub arrived_at: i64,
    /// The name of its token; empty if it is anonymous.
    pub token: String,
    /// Headers that are passed on with every record (`traceparent`, `tracestate`, `x-request-id`), in lower case.
    pub headers: Vec<(String, String)>,
    /// Its `Idempotency-Key`.
    pub key: Option<IdempotencyKey>,
    /// Its records, in order.
    pub records: Vec<Record>,
}

/// The `Idempotency-Key` of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The value of the header.
    pub text: String,
    /// A hash of the whole body.
    pub body: u128,
}

/// One record of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its bytes as received: JSON text of one event, or bytes that could not be parsed.
    pub payload: Bytes,
    /// Its `source`, UTF-8 text; empty if it has none. Records share buffers, so that a record allocates nothing.
    pub source: Bytes,
    /// Its `event_id`; if absent, one is derived from the record's offset.
    pub event_id: Option<[u8; 16]>,
    /// Its outcome: the HTTP server rejects records, and the spool finds duplicates.
    pub outcome: RecordOutcome,
}

/// The outcome of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordOutcome {
    /// It becomes an event.
    New,
    /// The same event was stored before: it is counted, and not passed on.
    Duplicate,
    /// It becomes a dead letter: it is invalid, or its `event_id` was used before for another payload.
    Rejected(Fault),
}

impl Record {
    /// Makes a new record without a source and an id.
    pub fn new(payload: Bytes) -> Self {
        Self { payload, source: Bytes::new(), event_id: None, outcome: RecordOutcome::New }
    }

    /// Makes a rejected record.
    #[cold]
    pub fn rejected(payload: Bytes, fault: Fault) -> Self {
        Self { outcome: RecordOutcome::Rejected(fault), ..Self::new(payload) }
    }

    /// Returns why it is rejected, if it is.
    pub fn fault(&self) -> Option<&Fault> {
        if let RecordOutcome::Rejected(fault) = &self.outcome { Some(fault) } else { None }
    }
}

/// A stored request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The byte of its segment up to which everything was durable when the entry was written; 0 in memory.
    pub safe: u64,
    /// The offset of its first record; the others follow consecutively.
    pub offset: i64,
    /// The request, with the final outcomes of its records.
    pub request: Request,
}

impl Entry {
    /// Returns the offset after its last record.
    pub fn end(&self) -> i64 {
        // The cast is exact: a request has fewer than 2^32 records.
        self.offset + self.request.records.len() as i64
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is stored as the acknowledgement policy requires.
    Stored(Arc<Entry>),
    /// Its `Idempotency-Key` was used before with the same body, by this request.
    Repeated(Arc<Entry>),
    /// Its `Idempotency-Key` was used before with another body.
    Conflict,
    /// It can never be stored, for this reason. No part of it is stored.
    TooLarge(String),
    /// It cannot be stored at present, for this reason. No part of it is stored.
    Unavailable(String),
}

/// Sends the answer to a request, from any thread. If it is dropped without an answer, the answer is `shutting down`.
pub struct Responder(Option<Box<dyn FnOnce(Answer) + Send>>);

impl Responder {
    /// Makes a responder that calls `send`.
    pub fn new(send: impl FnOnce(Answer) + Send + 'static) -> Self {
        Self(Some(Box::new(send)))
    }

    /// Sends the answer.
    pub fn answer(mut self, answer: Answer) {
        if let Some(send) = self.0.take() {
            send(answer);
        }
    }

    /// Answers that the request cannot be stored now.
    pub fn refuse(self, why: impl Into<String>) {
        self.answer(Answer::Unavailable(why.into()));
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(send) = self.0.take() {
            send(Answer::Unavailable("shutting down".into()));
        }
    }
}

/// The writing end of a spool: stores requests before they are acknowledged.
pub trait RequestLog: Send + Sync + 'static {
    /// Stores a request, and answers once it is stored as the acknowledgement policy requires. It stores all records of
    /// the request or none. It does not block: if too many requests are in progress, it answers
    /// [`Answer::Unavailable`].
    fn append(&self, request: Request, responder: Responder);

    /// Whether there is space for another request.
    fn has_space(&self) -> bool {
        true
    }
}
