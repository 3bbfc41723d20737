//! `POST /v1/events`: from a body to kept records, and the answer.

use super::answer::{Reply, Tally, Told, kept};
use super::asking::{Questions, Unanswered};
use super::body::{self, Packing, SOON, Share, Upload};
use super::cloud;
use super::limits::meter::{Meter, RateOutcome};
use super::state::Front;
use super::token::{Denied, Token};
use super::trace::Trace;
use crate::http::edge::cut::{self, Piece, TooMany};
use crate::http::edge::foreign;
use crate::registry::confluent::recall::Recall;
use crate::spool::request::{Answer, Record, Request as Kept};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{HeaderMap, Request, StatusCode};
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
enum Form {
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

/// Serves `POST /v1/events`; stores the token's name in `name` once the request is authorized, for the log.
pub async fn post(
    front: &Arc<Front>,
    trace: &Trace,
    request: Request<Incoming>,
    name: &mut String,
) -> Result<Reply, Reply> {
    let (parts, body) = request.into_parts();
    let token = authorize(front, &parts.headers)?;
    name.push_str(&token.name);
    let form = Form::of(&parts.headers, front.options.edge.registry.is_some())?;
    let packing = Packing::of(&parts.headers)?;
    let key = idempotency_key(&parts.headers)?;
    let deadline = Instant::now() + front.options.request_time;
    let (mut share, limits) = (front.room.share(), front.options.limits);
    let upload = Upload { headers: &parts.headers, body, deadline };
    let bytes = body::read(upload, limits, &mut share, &front.meter).await?;
    let arrived_at = front.clock.now();
    let bytes = body::unpack(packing, bytes, limits, &mut share)?;
    let once = key.map(|key| (key, digest(&bytes, &parts.headers)));
    let carried = trace.headers().iter().map(|(name, value)| name.len() + value.len() + 10).sum();
    let case = Case { carried, token, form, headers: parts.headers, body: bytes, arrived_at };
    let records = case.judged(front, &mut share, deadline).await?;
    let request = Kept { arrived_at, token: name.clone(), headers: trace.headers(), once, records };
    let reply = keep(front, request).await;
    drop(share);
    reply
}

/// A request whose records are to be validated.
struct Case {
    /// Bytes of the headers that are passed on.
    carried: usize,
    token: Arc<Token>,
    form: Form,
    headers: HeaderMap,
    body: Vec<u8>,
    arrived_at: i64,
}

/// Finds the token of a request; 401 if there must be one and it is missing or unknown.
fn authorize(front: &Front, headers: &HeaderMap) -> Result<Arc<Token>, Reply> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let refused = |why| Err(Reply::refusal(StatusCode::UNAUTHORIZED, why).closing());
    let Some(value) = all.next() else {
        return front.anonymous.clone().ok_or(()).or_else(|()| refused("expected authorization: Bearer TOKEN"));
    };
    let tokens = front.tokens();
    if tokens.is_empty() {
        // No tokens are configured: the header is ignored.
        return front.anonymous.clone().ok_or(()).or_else(|()| refused("no tokens are configured"));
    }
    let secret = match value.as_bytes().split_at_checked(7) {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"bearer ") && all.next().is_none() => secret,
        _ => return refused("expected authorization: Bearer TOKEN"),
    };
    tokens.find(secret.trim_ascii()).cloned().ok_or(()).or_else(|()| refused("unknown token"))
}

impl Form {
    /// Determines the format from the headers; 415 if it is not supported.
    fn of(headers: &HeaderMap, has_registry: bool) -> Result<Self, Reply> {
        let unsupported = |why| Err(Reply::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        let has_attributes = headers.contains_key("ce-specversion");
        let mut all = headers.get_all(CONTENT_TYPE).iter();
        let value = match (all.next().map(|value| value.to_str()), all.next()) {
            (None, _) if has_attributes => return Ok(Form::CloudBinary),
            (None, _) => return Ok(Form::Json),
            (Some(Ok(value)), None) => value,
            _ => return unsupported("content-type: expected exactly one"),
        };
        let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
        let media = parts.next().unwrap_or_default();
        // A structured event may repeat its attributes in headers (HTTP binding 3.2.3).
        if has_attributes && !media.starts_with("application/cloudevents") {
            return Ok(Form::CloudBinary);
        }
        let charset =
            parts.find_map(|part| part.strip_prefix("charset=").map(|name| name.trim_matches('"').to_owned()));
        if charset.is_some_and(|name| name != "utf-8" && name != "us-ascii") {
            return unsupported("content-type: expected the charset utf-8");
        }
        match media.as_str() {
            "application/json" => Ok(Form::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Form::Lines),
            "application/cloudevents+json" => Ok(Form::CloudOne),
            "application/cloudevents-batch+json" => Ok(Form::CloudMany),
            "application/vnd.confluent.avro" | "avro/binary" if has_registry => Ok(Form::Avro),
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
    fn cut<'a>(self, headers: &HeaderMap, body: &'a [u8]) -> Result<Vec<Piece<'a>>, Reply> {
        // A CloudEvent may have no data.
        if self != Form::CloudBinary && body.iter().all(u8::is_ascii_whitespace) {
            return Err(Reply::refusal(StatusCode::BAD_REQUEST, "the body is empty"));
        }
        let pieces = match self {
            Form::Json => cut::events(body),
            Form::Lines => cut::lines(body),
            Form::Avro => Ok(vec![Piece::of(body)]),
            Form::CloudBinary => Ok(vec![cloud::binary(headers, body)]),
            Form::CloudOne => Ok(vec![cloud::structured(Piece::of(body))]),
            Form::CloudMany => cut::elements(body).map(|pieces| pieces.into_iter().map(cloud::structured).collect()),
        };
        pieces.map_err(|TooMany| {
            let why = format!("the body has more than {} events; split it", cut::RECORDS_MAX);
            Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &why)
        })
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

impl Case {
    /// Validates the records, within the rate limits. The share reserves their memory until they are kept.
    async fn judged(&self, front: &Front, share: &mut Share, deadline: Instant) -> Result<Vec<Record>, Reply> {
        let pieces = self.form.cut(&self.headers, &self.body)?;
        let payload: usize = pieces.iter().map(|piece| piece.payload.len()).sum();
        share.grow(payload.saturating_add(pieces.len().saturating_mul(RECORD_BYTES)))?;
        self.token.take(pieces.len()).map_err(|denied| slow_down(denied, "of the token"))?;
        front.rate.take(pieces.len()).map_err(|denied| slow_down(denied, "of all tokens (--rate)"))?;
        let mut records = match &front.questions {
            None => self.judge(front, pieces, None)?,
            Some(questions) => self.judge_asking(front, pieces, questions, deadline).await?,
        };
        within(&self.token, &mut records)?;
        Ok(records)
    }

    /// Validates with the registry's known answers, and again after it has given the missing ones.
    async fn judge_asking<'a>(
        &'a self,
        front: &Front,
        mut pieces: Vec<Piece<'a>>,
        questions: &Questions,
        deadline: Instant,
    ) -> Result<Vec<Record>, Reply> {
        let mut recall = Recall::new(questions.registry());
        loop {
            let records = self.judge(front, pieces, Some(&mut recall))?;
            let lacking = recall.lacking();
            if lacking.is_empty() {
                return Ok(records);
            }
            for question in lacking {
                let answer = questions.ask(&question, deadline).await;
                recall.learn(question, answer.map_err(|why| unanswered(front, &why))?);
            }
            pieces = self.form.cut(&self.headers, &self.body)?;
        }
    }

    fn judge(&self, front: &Front, pieces: Vec<Piece<'_>>, recall: Option<&mut Recall>) -> Result<Vec<Record>, Reply> {
        let mut edge = front.edge().map_err(|error| unjudged(front, &error))?;
        edge.set_headers(self.carried);
        let judged = match (self.form, recall) {
            (Form::Avro, Some(recall)) => edge.judge_avro(&self.body, self.arrived_at, recall),
            (_, recall) => edge.judge(pieces, self.arrived_at, recall),
        };
        let records = judged.map_err(|error| unjudged(front, &error))?;
        front.put_back(edge);
        Ok(records)
    }
}

/// Refuses records of sources that the token is not for; 403 for the whole request if all records are.
fn within(token: &Token, records: &mut [Record]) -> Result<(), Reply> {
    let mut foreigners = 0;
    for record in records.iter_mut().filter(|record| record.fault.is_none()) {
        if !token.speaks_for(&record.source) {
            record.fault = Some(foreign(&record.source, &token.name));
            foreigners += 1;
        }
    }
    match records.first().and_then(|record| record.fault.as_ref()) {
        Some(fault) if foreigners == records.len() => Err(Reply::refusal(StatusCode::FORBIDDEN, &fault.message)),
        _ => Ok(()),
    }
}

/// Refuses events beyond a rate: 429 with the time of a retry, or 413 if no wait helps.
#[cold]
fn slow_down(denied: Denied, whose: &str) -> Reply {
    match denied {
        Denied::For(wait) => Reply::later(StatusCode::TOO_MANY_REQUESTS, &format!("rate limit {whose} exceeded"), wait),
        Denied::Always(most) => {
            let why = format!("the rate limit {whose} allows {most} events at once; split the request");
            Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &why)
        }
    }
}

/// Refuses a request because a schema cannot be loaded: 503.
#[cold]
fn unjudged(front: &Front, error: &crate::error::Error) -> Reply {
    front.notices.say("schemas", || format!("a schema cannot be fetched: {error}"));
    Reply::later(StatusCode::SERVICE_UNAVAILABLE, "a schema cannot be fetched at the moment", SOON)
}

/// Refuses a request because the registry does not answer: 503.
#[cold]
fn unanswered(front: &Front, why: &Unanswered) -> Reply {
    match why {
        Unanswered::Failed(error) => return unjudged(front, error),
        Unanswered::Busy => {
            front.notices.say("schemas", || "too many requests to the schema registry are pending".to_owned())
        }
        Unanswered::Late => front.notices.say("schemas", || "timeout of the schema registry".to_owned()),
    }
    Reply::later(StatusCode::SERVICE_UNAVAILABLE, "a schema cannot be fetched at the moment", SOON)
}

/// Has a request kept, and builds its answer.
async fn keep(front: &Front, request: Kept) -> Result<Reply, Reply> {
    if request.records.is_empty() {
        return Ok(kept(&[], &crate::spool::request::Kept { offset: 0, fates: vec![] }, ""));
    }
    let Some(keeper) = front.keeper() else {
        return Err(Reply::later(StatusCode::SERVICE_UNAVAILABLE, "shutting down", SOON).closing());
    };
    let told: Vec<Told> = request.records.iter().map(Told::of).collect();
    let (sender, receiver) = oneshot::channel();
    let meter = front.meter.clone();
    let done = move |answer: Answer| {
        // Count here, because the client may have disconnected.
        match &answer {
            Answer::Kept(kept) => count(&meter, &Tally::of(&kept.fates)),
            Answer::Repeated(_, kept) => count(&meter, &Tally::of(&kept.fates).again()),
            Answer::Conflict | Answer::TooLarge(_) | Answer::Unavailable(_) => {}
        }
        let _ = sender.send(answer);
    };
    keeper.keep(request, Box::new(done));
    drop(keeper);
    let answer = match timeout(front.options.request_time, receiver).await {
        Ok(Ok(answer)) => answer,
        _ => Answer::Unavailable("timeout while storing the request; it may be stored".to_owned()),
    };
    front.note_keeper(!matches!(answer, Answer::Unavailable(_)));
    let origin = &front.options.edge.origin;
    match answer {
        Answer::Kept(fates) => Ok(kept(&told, &fates, origin)),
        Answer::Repeated(request, fates) => {
            let told: Vec<Told> = request.records.iter().map(Told::of).collect();
            Ok(kept(&told, &fates, origin))
        }
        Answer::Conflict => {
            let why = "idempotency-key: used before with another body";
            Err(Reply::refusal(StatusCode::UNPROCESSABLE_ENTITY, why))
        }
        Answer::TooLarge(why) => Err(Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &why)),
        Answer::Unavailable(why) => {
            front.notices.say("unavailable", || format!("requests are rejected: {why}"));
            Err(Reply::later(StatusCode::SERVICE_UNAVAILABLE, &why, SOON))
        }
    }
}

fn count(meter: &Meter, tally: &Tally) {
    let &Tally { accepted, duplicate, rejected } = tally;
    for (outcome, count) in
        [(RateOutcome::Accepted, accepted), (RateOutcome::Duplicate, duplicate), (RateOutcome::Rejected, rejected)]
    {
        meter.events(outcome, count);
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
            Form::of(&headers, false).ok()
        };
        assert_eq!(form(Some("application/cloudevents+json; charset=UTF-8")), Some(Form::CloudOne));
        assert_eq!(form(Some("application/cloudevents-batch+json")), Some(Form::CloudMany));
        assert_eq!([form(Some("application/json")), form(Some("image/png")), form(None)], [Some(Form::CloudBinary); 3]);
    }
}
