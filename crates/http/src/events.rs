//! Serves `POST /v1/events`: reads a body, validates and stores its records, and builds the answer.

use super::answer::{OutcomeCounts, stored};
use super::body::{self, Compression, Reservation, Upload};
use super::cloud;
use super::registry_requests::{QueryError, RegistryRequests};
use super::server::token::{Denied, Token};
use super::server::{Application, Call, Reply, Route, Served, ServerState};
use super::state::Intake;
use crate::validate::split::{self, RECORDS_MAX};
use crate::validate::wrong_source;
use bytes::Bytes;
use evt_core::counts::counted;
use evt_run::registry::confluent::recall::Recall;
use evt_run::spool::request::{self, Answer, Entry, IdempotencyKey, RecordOutcome, Responder};
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, StatusCode};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use xxhash_rust::xxh3::Xxh3;

/// Maximum length of an `Idempotency-Key`.
const KEY_BYTES_MAX: usize = 255;
/// Approximate memory of a record in progress, besides its bytes.
const RECORD_BYTES: usize = 256;

/// The format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyFormat {
    /// `{"events":[…]}`, or one event.
    Json,
    /// One event a line.
    Lines,
    /// CloudEvents, binary mode: attributes in headers, data in the body.
    CloudBinary,
    /// CloudEvents, structured mode: one event as JSON.
    CloudOne,
    /// CloudEvents, batched mode: an array of events.
    CloudMany,
    /// One record in Avro after the id of its schema.
    Avro,
}

impl Application for Intake {
    const ROUTES: &'static [Route<Self>] =
        &[Route { path: "/v1/events", method: "POST", serve }, Route::HEALTH, Route::READINESS, Route::METRICS];

    fn body_max(&self) -> usize {
        self.options.limits.bytes
    }

    fn is_ready(&self) -> Result<(), &'static str> {
        Self::is_ready(self)
    }

    fn end(&self) {
        self.close_log();
    }
}

/// Serves `POST /v1/events`.
fn serve<'a>(state: &'a Arc<ServerState<Intake>>, call: Call<'a>) -> Served<'a> {
    Box::pin(async move {
        match post(state, call).await {
            Ok(reply) | Err(reply) => reply,
        }
    })
}

async fn post(state: &ServerState<Intake>, call: Call<'_>) -> Result<Reply, Reply> {
    let Call { request, trace, phase, token: name, .. } = call;
    let (parts, body) = request.into_parts();
    let token = state.authorize(&parts.headers)?;
    name.push_str(&token.name);
    let format = BodyFormat::of(&parts.headers, state.app.options.validation.registry.is_some())?;
    let compression = Compression::of(&parts.headers)?;
    let key = idempotency_key(&parts.headers)?;
    let deadline = Instant::now() + state.options.request_time;
    let (mut reservation, limits) = (state.app.memory.reserve(), state.app.options.limits);
    let upload = Upload { headers: &parts.headers, body, deadline, phase };
    let bytes = body::read(upload, limits, &mut reservation, &state.metrics).await?;
    let arrived_at = state.clock.now();
    let body = Bytes::from(body::unpack(compression, bytes, limits, &mut reservation)?);
    let key = key.map(|text| IdempotencyKey { text, body: digest(&body, &parts.headers) });
    let passed_on = trace.headers();
    let header_bytes = passed_on.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
    let pending = PendingRequest { header_bytes, token, format, headers: parts.headers, body, arrived_at };
    let records = pending.validate(state, &mut reservation, deadline).await?;
    let request = request::Request { arrived_at, token: name.clone(), headers: passed_on, key, records };
    let reply = store(state, request).await;
    drop(reservation);
    reply
}

/// A request whose records are to be validated.
struct PendingRequest {
    /// Bytes of the headers that are passed on.
    header_bytes: usize,
    token: Arc<Token>,
    format: BodyFormat,
    headers: HeaderMap,
    body: Bytes,
    arrived_at: i64,
}

impl BodyFormat {
    /// Determines the format from the headers; 415 if it is not supported.
    fn of(headers: &HeaderMap, has_registry: bool) -> Result<Self, Reply> {
        let unsupported = |why| Err(Reply::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        let has_attributes = headers.contains_key("ce-specversion");
        let mut all = headers.get_all(CONTENT_TYPE).iter();
        let value = match (all.next().map(|value| value.to_str()), all.next()) {
            (None, _) if has_attributes => return Ok(BodyFormat::CloudBinary),
            (None, _) => return Ok(BodyFormat::Json),
            (Some(Ok(value)), None) => value,
            _ => return unsupported("content-type: expected exactly one"),
        };
        let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
        let media = parts.next().unwrap_or_default();
        // A structured event may repeat its attributes in headers (HTTP binding 3.2.3).
        if has_attributes && !media.starts_with("application/cloudevents") {
            return Ok(BodyFormat::CloudBinary);
        }
        let charset =
            parts.find_map(|part| part.strip_prefix("charset=").map(|name| name.trim_matches('"').to_owned()));
        if charset.is_some_and(|name| name != "utf-8" && name != "us-ascii") {
            return unsupported("content-type: expected the charset utf-8");
        }
        match media.as_str() {
            "application/json" => Ok(BodyFormat::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(BodyFormat::Lines),
            "application/cloudevents+json" => Ok(BodyFormat::CloudOne),
            "application/cloudevents-batch+json" => Ok(BodyFormat::CloudMany),
            "application/vnd.confluent.avro" | "avro/binary" if has_registry => Ok(BodyFormat::Avro),
            "application/vnd.confluent.avro" | "avro/binary" => {
                unsupported("content-type: Avro requires a registry (--schemas http://HOST:PORT)")
            }
            _ => unsupported(
                "content-type: expected application/json application/x-ndjson application/cloudevents+json \
                 application/cloudevents-batch+json application/vnd.confluent.avro",
            ),
        }
    }

    /// Splits a body into its records.
    fn split(self, headers: &HeaderMap, body: &Bytes) -> Result<Vec<request::Record>, Reply> {
        // A CloudEvent may have no data, or any.
        if self != BodyFormat::CloudBinary {
            body::check_unpacked(body)?;
            if body.iter().all(u8::is_ascii_whitespace) {
                return Err(Reply::refusal(StatusCode::BAD_REQUEST, "the body is empty"));
            }
        }
        let records = match self {
            BodyFormat::Json => split::events(body),
            BodyFormat::Lines => split::lines(body),
            BodyFormat::Avro => vec![request::Record::new(body.clone())],
            BodyFormat::CloudBinary => vec![cloud::binary(headers, body)],
            BodyFormat::CloudOne => vec![cloud::structured(request::Record::new(body.clone()))],
            BodyFormat::CloudMany => split::elements(body).into_iter().map(cloud::structured).collect(),
        };
        if records.len() > RECORDS_MAX {
            let why = format!("the body has more than {RECORDS_MAX} events; split it");
            return Err(Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &why));
        }
        Ok(records)
    }
}

/// Returns the `Idempotency-Key`; 400 if it is repeated, too long or not ASCII.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Reply> {
    let mut all = headers.get_all("idempotency-key").iter();
    let Some(value) = all.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=KEY_BYTES_MAX).contains(&text.len()));
    match (text, all.next()) {
        (Some(text), None) => Ok(Some(text.to_owned())),
        _ => {
            let why = format!("idempotency-key: expected one of at most {KEY_BYTES_MAX} ASCII characters");
            Err(Reply::refusal(StatusCode::BAD_REQUEST, &why))
        }
    }
}

/// Hashes the content of a request: its body, and CloudEvents attributes among its headers.
fn digest(body: &[u8], headers: &HeaderMap) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(body);
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(cloud::PREFIX)) {
        hash.update(name.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(value.as_bytes());
        hash.update(&[0]);
    }
    hash.digest128()
}

impl PendingRequest {
    /// Validates the records, within the rate limits. `reservation` grows by the memory of the records, which it holds
    /// until they are stored.
    async fn validate(
        &self,
        state: &ServerState<Intake>,
        reservation: &mut Reservation,
        deadline: Instant,
    ) -> Result<Vec<request::Record>, Reply> {
        let records = self.format.split(&self.headers, &self.body)?;
        let payload: usize = records.iter().map(|record| record.payload.len()).sum();
        reservation.grow(payload.saturating_add(records.len().saturating_mul(RECORD_BYTES)))?;
        self.token.rate.take(records.len()).map_err(|denied| slow_down(denied, "of the token"))?;
        state.app.rate.take(records.len()).map_err(|denied| slow_down(denied, "of all tokens (--rate)"))?;
        let mut records = match &state.app.queries {
            None => self.validate_by(state, records, None)?,
            Some(queries) => self.validate_asking(state, records, queries, deadline).await?,
        };
        if self.format == BodyFormat::Json {
            split::tell_several(&self.body, &mut records);
        }
        check_sources(&self.token, &mut records)?;
        Ok(records)
    }

    /// Validates with the cached answers of the registry. If answers are missing, queries the registry and validates
    /// again.
    async fn validate_asking(
        &self,
        state: &ServerState<Intake>,
        mut records: Vec<request::Record>,
        queries: &RegistryRequests,
        deadline: Instant,
    ) -> Result<Vec<request::Record>, Reply> {
        let mut recall = Recall::new(queries.registry.clone());
        loop {
            let validated = self.validate_by(state, records, Some(&mut recall))?;
            let lacking = recall.lacking();
            if lacking.is_empty() {
                return Ok(validated);
            }
            for question in lacking {
                let answer = queries.query(&question, deadline).await;
                recall.learn(question, answer.map_err(|error| no_schema(state, &error))?);
            }
            records = self.format.split(&self.headers, &self.body)?;
        }
    }

    /// Validates with the schemas of a directory, or with the registry's answers in `recall`.
    fn validate_by(
        &self,
        state: &ServerState<Intake>,
        records: Vec<request::Record>,
        recall: Option<&mut Recall>,
    ) -> Result<Vec<request::Record>, Reply> {
        let mut validator =
            state.app.validator().map_err(|error| no_schema(state, &QueryError::Failed(error.into())))?;
        validator.set_headers(self.header_bytes);
        let validated = match (self.format, recall) {
            (BodyFormat::Avro, Some(recall)) => validator.validate_avro(&self.body, self.arrived_at, recall),
            (_, recall) => validator.validate(records, self.arrived_at, recall),
        };
        let records = validated.map_err(|error| no_schema(state, &QueryError::Failed(error.into())))?;
        state.app.put_back(validator);
        Ok(records)
    }
}

/// Rejects records whose source the token does not allow; 403 for the whole request if that rejects all records.
fn check_sources(token: &Token, records: &mut [request::Record]) -> Result<(), Reply> {
    let mut count = 0;
    for record in records.iter_mut().filter(|record| record.fault().is_none()) {
        if !token.allows(&record.source) {
            record.outcome = RecordOutcome::Rejected(wrong_source(&record.source, &token.name));
            count += 1;
        }
    }
    match records.first().and_then(request::Record::fault) {
        Some(fault) if count == records.len() => Err(Reply::refusal(StatusCode::FORBIDDEN, &fault.message)),
        _ => Ok(()),
    }
}

/// Refuses events beyond a rate: 429 with the time of a retry, or 413 if no wait helps.
#[cold]
fn slow_down(denied: Denied, whose: &str) -> Reply {
    match denied {
        Denied::For(wait) => Reply::later(StatusCode::TOO_MANY_REQUESTS, &format!("rate limit {whose} exceeded"), wait),
        Denied::Always(most) => {
            let most = counted(most.into(), ["event", "events"]);
            let why = format!("the rate limit {whose} allows {most} at once; split the request");
            Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &why)
        }
    }
}

/// Refuses a request because a schema cannot be loaded: 503.
#[cold]
fn no_schema(state: &ServerState<Intake>, why: &QueryError) -> Reply {
    state.notices.say("schemas", || match why {
        QueryError::Failed(error) => format!("a schema cannot be fetched: {error}"),
        QueryError::Busy => "too many requests to the schema registry are pending".to_owned(),
        QueryError::Timeout => "timeout of the schema registry".to_owned(),
    });
    Reply::unavailable("a schema cannot be fetched at the moment")
}

/// Stores a request, and builds its answer.
async fn store(state: &ServerState<Intake>, request: request::Request) -> Result<Reply, Reply> {
    let origin = &state.app.options.validation.origin;
    if request.records.is_empty() {
        return Ok(stored(&Entry { safe: 0, offset: 0, request }, origin));
    }
    let Some(log) = state.app.log() else {
        return Err(Reply::unavailable("shutting down").closing());
    };
    let (sender, receiver) = oneshot::channel();
    let events = state.app.events.clone();
    let respond = move |answer: Answer| {
        // Count here, because the client may have disconnected.
        match &answer {
            Answer::Stored(entry) => events.count(OutcomeCounts::of(&entry.request.records)),
            Answer::Repeated(entry) => events.count(OutcomeCounts::of(&entry.request.records).repeated()),
            Answer::Conflict | Answer::TooLarge(_) | Answer::Unavailable(_) => {}
        }
        let _ = sender.send(answer);
    };
    log.append(request, Responder::new(respond));
    drop(log);
    let answer = match timeout(state.options.request_time, receiver).await {
        Ok(Ok(answer)) => answer,
        _ => Answer::Unavailable("timeout while storing the request; it may be stored".to_owned()),
    };
    state.app.note_log(!matches!(answer, Answer::Unavailable(_)));
    match answer {
        Answer::Stored(entry) | Answer::Repeated(entry) => Ok(stored(&entry, origin)),
        Answer::Conflict => {
            let why = "idempotency-key: used before with another body";
            Err(Reply::refusal(StatusCode::UNPROCESSABLE_ENTITY, why))
        }
        Answer::TooLarge(why) => Err(Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &why)),
        Answer::Unavailable(why) => {
            state.notices.say("unavailable", || format!("requests are rejected: {why}"));
            Err(Reply::unavailable(&why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_decides_the_mode_of_a_cloud_event() {
        let form = |kind: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert("ce-specversion", "1.0".parse().unwrap());
            headers.extend(kind.map(|kind| (CONTENT_TYPE, kind.parse().unwrap())));
            BodyFormat::of(&headers, false).ok()
        };
        assert_eq!(form(Some("application/cloudevents+json; charset=UTF-8")), Some(BodyFormat::CloudOne));
        assert_eq!(form(Some("application/cloudevents-batch+json")), Some(BodyFormat::CloudMany));
        assert_eq!(
            [form(Some("application/json")), form(Some("image/png")), form(None)],
            [Some(BodyFormat::CloudBinary); 3]
        );
    }
}
