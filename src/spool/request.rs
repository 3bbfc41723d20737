//! A request as the front door hands it over, and what it hears back before it answers.

use crate::kind::dead::Fault;

/// What came in one HTTP request, record by record, with the verdicts of the front door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it arrived (µs, UTC): the `server_timestamp` of its records.
    pub arrived_at: i64,
    /// The name of the token it was let in with; empty for whoever is anonymous.
    pub token: String,
    /// Headers that are passed on with every record (`traceparent`, `tracestate`, `x-request-id`), in lower case.
    pub headers: Vec<(String, String)>,
    /// The client's `Idempotency-Key` and a hash of the whole body.
    pub once: Option<(String, u128)>,
    /// Its records in their order.
    pub records: Vec<Record>,
}

/// One record of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its bytes as they were received: JSON text of one event, or whatever could not be read as one.
    pub payload: Vec<u8>,
    /// Its `source`, where it has one.
    pub source: String,
    /// Its `event_id`, where it names one (of no name, it gets one of its place).
    pub event_id: Option<[u8; 16]>,
    /// Why the front door refuses it: it becomes a dead letter, not an event.
    pub fault: Option<Fault>,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is kept, and will be an event.
    New,
    /// The same event was kept before: counted, not passed on.
    Duplicate,
    /// It will be a dead letter: it was refused, or its `event_id` stands for another payload already.
    Rejected(Fault),
}

/// A request that is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The offset of its first record; those that follow count on.
    pub offset: i64,
    /// What became of each record.
    pub fates: Vec<Fate>,
}

/// What is answered to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is safe as far as the keeper promises.
    Kept(Kept),
    /// Its `Idempotency-Key` was used before with the same body: the request of then and what became of it.
    Repeated(Box<Request>, Kept),
    /// Its `Idempotency-Key` was used before with another body.
    Conflict,
    /// It can never be kept: why. Nothing of it is.
    TooLarge(String),
    /// There is no room, or no way to make it safe, now: why. Nothing of it is kept.
    Unavailable(String),
}

/// Who makes requests safe before they are acknowledged: the spool, or memory where that is enough.
pub trait Keeper: Send + Sync + 'static {
    /// Takes a request and calls `done`, on any thread, once it is as safe as promised. All of it is kept or nothing.
    /// Does not wait: where too many requests are under way it answers [`Answer::Unavailable`].
    fn keep(&self, request: Request, done: Box<dyn FnOnce(Answer) + Send>);

    /// Whether there is a place for another request.
    fn has_room(&self) -> bool {
        true
    }
}
