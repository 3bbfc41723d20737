//! One request to a server of S3, and what its answer means.

use super::address::S3Address;
use super::sign::{UnsignedRequest, encoded_query};
use super::xml;
use crate::client::https;
use crate::client::outage::{RetryError, Timeouts};
use evt_core::error::{Error, Result};
use evt_core::parse::hex::hex;
use evt_core::parse::query::escaped;
use evt_core::time::format_instant;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::http::{Request, Response};
use ureq::{Agent, SendBody};

/// Maximum bytes of an answer in memory.
const ANSWER_MAX: u64 = 256 << 20;
/// Bytes that are read at once.
const BLOCK: usize = 256 << 10;
/// Bytes per second that a large body needs at least.
const SLOWEST: u64 = 100 << 10;
/// Servers close idle connections after some seconds; a request on such a connection would fail.
const IDLE: Duration = Duration::from_secs(4);

/// The client of one server.
#[derive(Clone, Debug)]
pub struct S3Http {
    agent: Agent,
    address: Arc<S3Address>,
    timeouts: Timeouts,
}

/// A request.
#[derive(Clone, Debug)]
pub struct S3Request<'a> {
    /// The method.
    pub method: &'static str,
    /// The key below the prefix of the address; `None` for a request about the bucket.
    pub key: Option<&'a str>,
    /// The query.
    pub query: Vec<(&'static str, String)>,
    /// Headers, with names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: S3Body,
    /// The length of the body of the answer at most, if it may be large: bounds the wait.
    pub answer: u64,
}

/// The body of a request.
#[derive(Clone, Debug)]
pub enum S3Body {
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// A part of a file.
    Part(FilePart),
}

/// A part of a file.
#[derive(Clone, Debug)]
pub struct FilePart {
    /// The file.
    pub file: Arc<File>,
    /// Its first byte.
    pub start: u64,
    /// Its length.
    pub length: u64,
}

/// An answer that is a success, or that says that an object or a range of it is missing, or that a condition does not
/// hold.
#[derive(Debug)]
pub struct S3Answer {
    /// The status: 2xx, 404, 412 or 416.
    pub status: u16,
    /// The identity of what was written.
    pub etag: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl<'a> S3Request<'a> {
    /// Makes a request about an object, without a body.
    pub fn new(method: &'static str, key: &'a str) -> Self {
        let body = S3Body::Bytes(Arc::default());
        Self { method, key: Some(key), query: vec![], headers: vec![], body, answer: 0 }
    }
}

impl S3Body {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Part(part) => part.length,
        }
    }

    /// Returns SHA-256 of the body. The server compares it with what it received.
    fn digest(&self) -> io::Result<String> {
        let mut part = match self {
            Self::Bytes(bytes) => return Ok(hex(&Sha256::digest(bytes))),
            Self::Part(part) => part.clone(),
        };
        let (mut digest, mut buffer) = (Sha256::new(), vec![0; BLOCK]);
        loop {
            match part.read(&mut buffer)? {
                0 => return Ok(hex(&digest.finalize())),
                count => digest.update(&buffer[..count]),
            }
        }
    }

    fn into_send_body(self) -> SendBody<'static> {
        match self {
            Self::Bytes(bytes) => SendBody::from_owned_reader(io::Cursor::new(bytes)),
            Self::Part(part) => SendBody::from_owned_reader(part),
        }
    }
}

impl Read for FilePart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.length).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..most], self.start)?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was truncated"));
        }
        self.start += count as u64;
        self.length -= count as u64;
        Ok(count)
    }
}

impl S3Http {
    /// Makes the client. Errors: exit status 2 for wrong timeouts, 78 if certificates cannot be read.
    pub fn try_new(address: Arc<S3Address>) -> Result<Self> {
        let timeouts = address.location.timeouts()?;
        let ca = address.location.option("ca");
        let tls =
            https::tls(ca, address.server.starts_with("https:")).map_err(|error| error.at(address.to_string()))?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_age(IDLE)
            .accept_encoding("identity")
            .timeout_connect(Some(timeouts.connect))
            .timeout_per_read(Some(timeouts.timeout))
            .timeout_per_write(Some(timeouts.timeout))
            .timeout_recv_response(Some(timeouts.timeout))
            .user_agent("evt")
            .tls_config(tls)
            .build();
        Ok(Self { agent: config.into(), address, timeouts })
    }

    /// Sends a request once.
    pub fn send(&self, request: S3Request<'_>) -> Result<S3Answer, RetryError> {
        let bytes = request.body.length().max(request.answer);
        let limit = 2 * (self.timeouts.connect + self.timeouts.timeout) + Duration::from_secs(bytes / SLOWEST);
        let agent = self.agent.clone();
        let place = request.key.map_or_else(|| self.address.to_string(), |key| self.name(key));
        let signed = self.signed(request).map_err(|error| Error::io(&place, &error))?;
        let exchange = move || {
            let signed = signed.map(|body| body.map_or_else(SendBody::none, S3Body::into_send_body));
            let (head, body) = agent.run(signed)?.into_parts();
            let mut bytes = vec![];
            body.into_reader().take(ANSWER_MAX).read_to_end(&mut bytes)?;
            Ok(Response::from_parts(head, bytes))
        };
        let answered = https::interruptible(limit, &self.timeouts.stop, exchange)?;
        let response = answered.map_err(|error| https::trouble(error, &self.timeouts))?;
        answer(response).map_err(|trouble| trouble.at(|| place))
    }

    /// Returns the name of an object for messages.
    pub fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.address)
    }

    /// Returns a request with its signature. Only some methods have a body.
    fn signed(&self, request: S3Request<'_>) -> io::Result<Request<Option<S3Body>>> {
        let S3Request { method, key, query, headers, body, .. } = request;
        let S3Address { server, host, bucket_path, prefix, signer, .. } = &*self.address;
        let parts = key.map(|key| format!("{prefix}{key}"));
        let parts = parts.iter().flat_map(|key| key.split('/')).map(|part| format!("/{}", escaped(part)));
        let path = parts.fold(bucket_path.clone(), |path, part| path + &part);
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let (payload, length) = (body.digest()?, body.length());
        let unsigned = UnsignedRequest {
            method,
            host,
            path: &path,
            query: &query,
            headers: &headers,
            payload: &payload,
            time: &now(),
        };
        let signed = signer.sign(unsigned);
        let query = encoded_query(&query);
        let mark = if query.is_empty() { "" } else { "?" };
        let mut request = Request::builder().method(method).uri(format!("{server}{path}{mark}{query}"));
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let body = match method {
            "PUT" | "POST" => {
                request = request.header("content-length", length);
                Some(body)
            }
            _ => None,
        };
        request.body(body).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the address is not a URL"))
    }
}

/// Returns the time for a signature: `20260101T000000Z`.
fn now() -> String {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    let text = format_instant(micros).replace(['-', ':'], "");
    format!("{}Z", text.split('.').next().unwrap_or_default())
}

/// Classifies an answer.
fn answer(response: Response<Vec<u8>>) -> Result<S3Answer, RetryError> {
    let (head, body) = response.into_parts();
    let status = head.status.as_u16();
    let etag = head.headers.get("etag").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let answer = S3Answer { status, etag, body };
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    let said = String::from_utf8_lossy(&answer.body);
    let code = xml::text(&said, "Code").unwrap_or_default();
    let message = xml::text(&said, "Message").filter(|message| !message.is_empty());
    let cause = match (message, code.is_empty()) {
        (Some(message), false) => format!("status {status}: {code}: {message}"),
        (_, false) => format!("status {status}: {code}"),
        _ => format!("status {status}"),
    };
    let wrong = |what: &str| Err(Error::config(what).because(&cause).into());
    match (status, code.as_str()) {
        (404, "NoSuchBucket") => wrong("expected a bucket, found none"),
        (404 | 412 | 416, _) => Ok(answer),
        // A conflict: another request changes the same object at this moment.
        (408 | 409 | 429 | 500 | 502.., _) | (_, "RequestTimeout" | "SlowDown") => Err(RetryError::Transient(cause)),
        (401 | 403, _) => wrong("access denied"),
        _ => wrong("request refused"),
    }
}
