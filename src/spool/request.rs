//! The interface between the HTTP server and the spool: requests, and the answers to them.

use crate::kind::dead::Fault;

/// One HTTP request: its records, with the verdicts of the HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it arrived (µs, UTC): the `server_timestamp` of its records.
    pub arrived_at: i64,
    /// The name of its token; empty if it is anonymous.
    pub token: String,
    /// Headers that are passed on with every record (`traceparent`, `tracestate`, `x-request-id`), in lower case.
    pub headers: Vec<(String, String)>,
    /// The client's `Idempotency-Key` and a hash of the whole body.
    pub once: Option<(String, u128)>,
    /// Its records, in order.
    pub records: Vec<Record>,
}

/// One record of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its bytes as received: JSON text of one event, or bytes that could not be parsed.
    pub payload: Vec<u8>,
    /// Its `source`; empty if it has none.
    pub source: String,
    /// Its `event_id`; if absent, one is derived from the record's offset.
    pub event_id: Option<[u8; 16]>,
    /// Why it is refused, if so: it becomes a dead letter instead of an event.
    pub fault: Option<Fault>,
}

/// The fate of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordFate {
    /// It is kept and becomes an event.
    New,
    /// The same event was kept before: it is counted, and not passed on.
    Duplicate,
    /// It becomes a dead letter: it was refused, or its `event_id` was used before for another payload.
    Rejected(Fault),
}

/// A request that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The offset of its first record; the others follow consecutively.
    pub offset: i64,
    /// The fate of each record.
    pub fates: Vec<RecordFate>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is kept as safely as the promise says.
    Kept(Kept),
    /// Its `Idempotency-Key` was used before with the same body: the earlier request and its outcome.
    Repeated(Box<Request>, Kept),
    /// Its `Idempotency-Key` was used before with another body.
    Conflict,
    /// It can never be kept, for this reason. No part of it is kept.
    TooLarge(String),
    /// It cannot be kept at present, for this reason. No part of it is kept.
    Unavailable(String),
}

/// What keeps requests before they are acknowledged: the spool, or memory if that suffices.
pub trait Keeper: Send + Sync + 'static {
    /// Takes a request and calls `done`, on any thread, once it is as safe as promised. Either all of it is kept or nothing. It
    /// does not block: if too many requests are in progress it answers [`Answer::Unavailable`].
    fn keep(&self, request: Request, done: Box<dyn FnOnce(Answer) + Send>);

    /// Whether there is space for another request.
    fn has_room(&self) -> bool {
        true
    }
}
