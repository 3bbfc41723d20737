//! One request to a server, and what its answer means. object_store makes the requests and reads the answers that this
//! file passes on.

use super::parts::authority;
use crate::client::outage::{RetryError, Timeouts};
use crate::client::{Location, https};
use evt_core::error::{Error, Result};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind};
use object_store::client::{HttpRequest, HttpResponse, HttpService};
use std::error::Error as StdError;
use std::fmt;
use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use ureq::{Agent, SendBody};

/// Maximum bytes of an answer in memory.
const ANSWER_MAX: u64 = 256 << 20;
/// Bytes per second that a large body needs at least.
const SLOWEST: u64 = 100 << 10;
/// Servers close idle connections after some seconds; a request on such a connection would fail.
const IDLE: Duration = Duration::from_secs(4);
/// Where a machine or a container has the credentials of its role. Only such a machine has these servers.
const METADATA: [&str; 4] = ["169.254.169.254", "169.254.170.2", "169.254.170.23", "metadata.google.internal"];
/// How long such a server may take.
const METADATA_WAIT: Duration = Duration::from_secs(2);

/// Who answers.
#[derive(Clone, Debug)]
pub struct BucketServer {
    /// The scheme and the authority of the server of the bucket.
    pub server: String,
    /// The bucket, with the options of timeouts and certificates.
    pub location: Location,
    /// What the credentials are called in a message about missing ones.
    pub credentials: &'static str,
    /// Whether other servers have the credentials.
    pub fetches_credentials: bool,
}

/// The requests of a bucket, also those to the servers that have its credentials. Clones share connections.
#[derive(Clone, Debug)]
pub struct BucketHttp(Arc<BucketClient>);

#[derive(Debug)]
struct BucketClient {
    agent: Agent,
    /// Requests to the metadata server of a machine, which no proxy gets.
    metadata: Agent,
    server: BucketServer,
    timeouts: Timeouts,
    /// Whether a server of credentials has answered.
    had_credentials: AtomicBool,
}

/// Why a request failed, inside an error of object_store.
pub enum RequestFault {
    /// Its range begins at the end of the object or behind it.
    OutOfRange,
    /// What evt makes of the failure, until it is taken.
    Failed(Mutex<Option<RetryError>>),
}

impl HttpConnector for BucketHttp {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl HttpService for BucketHttp {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let answer = self.send(Request::from_parts(head, body));
        answer.map(|answer| answer.map(Into::into)).map_err(|fault| HttpError::new(HttpErrorKind::Unknown, fault))
    }
}

impl BucketHttp {
    /// Makes the clients; sends nothing. Errors: exit status 2 for wrong timeouts, 78 if certificates cannot be read.
    pub fn try_new(server: BucketServer) -> Result<Self> {
        let BucketServer { location, fetches_credentials, .. } = &server;
        let timeouts = location.timeouts()?;
        let is_https = server.server.starts_with("https:") || *fetches_credentials;
        let tls = https::tls(location.option("ca"), is_https).map_err(|error| error.at(location.to_string()))?;
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_idle_age(IDLE)
                .accept_encoding("identity")
                .timeout_connect(Some(timeouts.connect))
                .timeout_per_read(Some(timeouts.timeout))
                .timeout_per_write(Some(timeouts.timeout))
                .timeout_recv_response(Some(timeouts.timeout))
                .user_agent("evt")
        };
        let (agent, metadata) = (config().tls_config(tls).build().into(), config().proxy(None).build().into());
        let had_credentials = AtomicBool::new(false);
        Ok(Self(Arc::new(BucketClient { agent, metadata, server, timeouts, had_credentials })))
    }

    /// Sends a request once.
    pub fn send(&self, mut request: Request<bytes::Bytes>) -> Result<Response<bytes::Bytes>, RequestFault> {
        let BucketClient { timeouts, server, had_credentials, .. } = &*self.0;
        let Timeouts { connect, timeout, stop, .. } = timeouts;
        let is_metadata = request.uri().host().is_some_and(|host| METADATA.contains(&host));
        let is_bucket = authority(&request.uri().to_string()) == server.server;
        let is_role = !is_bucket && request.uri().path().ends_with("/security-credentials/");
        let asked = Asked { method: request.method().clone(), range: range_of(&request), is_bucket, is_role };
        let bytes = asked.range.map_or(0, |(first, last)| last - first).max(request.body().len() as u64);
        let limit = match is_metadata {
            true => METADATA_WAIT,
            false => 2 * (*connect + *timeout) + Duration::from_secs(bytes / SLOWEST),
        };
        if [Method::PUT, Method::POST].contains(request.method()) {
            let length = HeaderValue::from(request.body().len());
            request.headers_mut().entry(CONTENT_LENGTH).or_insert(length);
        }
        let agent = if is_metadata { self.0.metadata.clone() } else { self.0.agent.clone() };
        let exchange = move || {
            let sent = request.map(|body| match body.is_empty() {
                true => SendBody::none(),
                false => SendBody::from_owned_reader(Cursor::new(body)),
            });
            let (head, body) = agent.run(sent)?.into_parts();
            let mut bytes = vec![];
            body.into_reader().take(ANSWER_MAX).read_to_end(&mut bytes)?;
            Ok(Response::from_parts(head, bytes::Bytes::from(bytes)))
        };
        let received = https::interruptible(limit, stop, exchange)
            .and_then(|answered| answered.map_err(|error| https::trouble(error, timeouts)));
        let judged = match received {
            // A machine that has had credentials has this server.
            Err(_) if is_metadata && !had_credentials.load(Ordering::Relaxed) => {
                Err(self.no_credentials("no answer from the metadata server of a machine"))
            }
            Err(trouble) => Err(trouble.into()),
            Ok(answer) => asked.judge(answer),
        };
        match judged {
            Ok(answer) => {
                had_credentials.fetch_or(!is_bucket, Ordering::Relaxed);
                Ok(answer)
            }
            Err(fault) if is_bucket => Err(fault),
            Err(fault) => Err(fault.of_credentials(self)),
        }
    }

    fn no_credentials(&self, cause: &str) -> RequestFault {
        let what = self.0.server.credentials;
        Error::config(format!("expected {what}, found none")).because(cause).into()
    }
}

/// What a request asked for.
struct Asked {
    method: Method,
    /// The first and the last byte.
    range: Option<(u64, u64)>,
    /// Whether it went to the bucket.
    is_bucket: bool,
    /// Whether it asked a machine for the name of its role.
    is_role: bool,
}

/// Returns the first and the last byte of the range that a request asks for.
fn range_of(request: &Request<bytes::Bytes>) -> Option<(u64, u64)> {
    let text = request.headers().get(RANGE)?.to_str().ok()?;
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

impl Asked {
    /// Passes an answer on that object_store understands: a success, or a missing object, or a condition that does not
    /// hold.
    fn judge(&self, mut answer: Response<bytes::Bytes>) -> Result<Response<bytes::Bytes>, RequestFault> {
        let status = answer.status();
        let said = if status.is_success() && self.method != Method::POST { String::new() } else { text_of(&answer) };
        let code = element(&said, "Code").or_else(|| header(&answer, "x-ms-error-code")).unwrap_or_default();
        let message = element(&said, "Message").filter(|message| !message.is_empty());
        let number = status.as_u16();
        let cause = match (message, code.is_empty()) {
            (Some(message), false) => {
                format!("status {number}: {code}: {}", message.lines().next().unwrap_or_default())
            }
            (_, false) => format!("status {number}: {code}"),
            _ => format!("status {number}"),
        };
        let wrong = |what: &str| Err(Error::config(what).because(&cause).into());
        match (number, code.as_str()) {
            // The server of a slow request answers before it knows the outcome.
            (200..300, _) if said.contains("<Error>") => Err(RetryError::Transient(code).into()),
            (200, _) if self.range.is_some() => self.whole(answer),
            // object_store panics at a name that is no part of a URL, such as the page of a portal.
            (200, _) if self.is_role && !answer.body().iter().all(|byte| byte.is_ascii_graphic()) => {
                wrong("expected the name of a role")
            }
            (200..300, _) => {
                // Where the server names no length, the end of the body is one.
                let length = HeaderValue::from(answer.body().len());
                if self.method != Method::HEAD {
                    answer.headers_mut().entry(CONTENT_LENGTH).or_insert(length);
                }
                Ok(answer)
            }
            (404, "NoSuchBucket" | "ContainerNotFound") => wrong("expected a bucket, found none"),
            (304 | 404 | 412, _) | (409, "BlobAlreadyExists") if self.is_bucket => Ok(answer),
            (416, _) => Err(RequestFault::OutOfRange),
            // A conflict: another request changes the same object at this moment.
            (408 | 409 | 429 | 500 | 502.., _) | (_, "RequestTimeout" | "SlowDown") => {
                Err(RetryError::Transient(cause).into())
            }
            (401 | 403, _) => wrong("access denied"),
            _ => wrong("request refused"),
        }
    }

    /// A server may send a whole object if it has no byte behind the range. Then the object is the range.
    fn whole(&self, mut answer: Response<bytes::Bytes>) -> Result<Response<bytes::Bytes>, RequestFault> {
        let length = answer.body().len() as u64;
        match self.range {
            Some((0, last)) if length <= last.saturating_add(1) => {
                if length == 0 {
                    return Err(RequestFault::OutOfRange);
                }
                let range = HeaderValue::from_str(&format!("bytes 0-{}/{length}", length - 1));
                answer.headers_mut().extend(range.ok().map(|range| (CONTENT_RANGE, range)));
                answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
                *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
                Ok(answer)
            }
            _ => Err(Error::config("expected a range of the object, found all of it").into()),
        }
    }
}

fn text_of(answer: &Response<bytes::Bytes>) -> String {
    String::from_utf8_lossy(answer.body()).into_owned()
}

fn header(answer: &Response<bytes::Bytes>, name: &str) -> Option<String> {
    answer.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Returns the text of the first element with this name, which has no elements.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let text = rest.split_once('<')?.0;
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    Some(named.iter().fold(text.to_owned(), |text, (name, is)| text.replace(name, is)))
}

impl RequestFault {
    /// Makes a refusal of a server that has credentials one of the bucket's run.
    fn of_credentials(self, http: &BucketHttp) -> Self {
        match self.into_retry_error() {
            RetryError::Permanent(error) => http.no_credentials(&error.to_string()),
            transient => transient.into(),
        }
    }

    /// Returns what evt makes of it.
    pub fn into_retry_error(self) -> RetryError {
        self.take().unwrap_or_else(|| Error::config("request refused").because(self).into())
    }

    /// Returns it as an error of object_store.
    pub fn into_store_error(self) -> object_store::Error {
        object_store::Error::Generic { store: "evt", source: Box::new(self) }
    }

    fn take(&self) -> Option<RetryError> {
        match self {
            Self::OutOfRange => None,
            Self::Failed(fault) => fault.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }

    /// Finds it in an error of object_store.
    fn of(error: &object_store::Error) -> Option<&Self> {
        let mut source: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(inner) = source {
            if let Some(found) = inner.downcast_ref() {
                return Some(found);
            }
            source = inner.source();
        }
        None
    }

    /// Takes what evt makes of an error of object_store.
    pub fn taken_from(error: &object_store::Error) -> RetryError {
        let unknown = || Error::config("request failed").because(error.to_string().lines().next().unwrap_or_default());
        Self::of(error).and_then(Self::take).unwrap_or_else(|| unknown().into())
    }

    /// Whether an error of object_store says that a range begins behind the last byte of its object.
    pub fn is_out_of_range(error: &object_store::Error) -> bool {
        matches!(Self::of(error), Some(Self::OutOfRange))
    }
}

impl From<RetryError> for RequestFault {
    fn from(fault: RetryError) -> Self {
        Self::Failed(Mutex::new(Some(fault)))
    }
}

impl From<Error> for RequestFault {
    fn from(error: Error) -> Self {
        RetryError::from(error).into()
    }
}

/// Writes it without taking what evt makes of it.
impl fmt::Display for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Failed(fault) = self else { return f.write_str("the object ends before the range") };
        match &*fault.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(RetryError::Transient(cause)) => f.write_str(cause),
            Some(RetryError::Permanent(error)) => write!(f, "{error}"),
            None => f.write_str("reported"),
        }
    }
}

impl fmt::Debug for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for RequestFault {}
