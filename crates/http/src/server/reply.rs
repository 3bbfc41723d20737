//! The responses to clients.

use evt_core::json::text::write_string;
use evt_run::metrics::MEDIA_TYPE;
use hyper::StatusCode;
use hyper::header::HeaderName;
use std::time::Duration;

/// `Retry-After` of a request that was refused for lack of memory, by the spool, or because a schema is missing.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A response: a status, a JSON document, and when to retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The document.
    pub body: String,
    /// Media type of the document.
    pub kind: &'static str,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// `Allow`.
    pub allow: Option<String>,
    /// Further headers.
    pub headers: Vec<(HeaderName, String)>,
    /// Whether the connection ends with it.
    pub close: bool,
}

impl Reply {
    /// Makes a response with a document.
    pub fn new(status: StatusCode, body: String) -> Self {
        let (retry_after, allow, headers) = (None, None, vec![]);
        Self { status, body, kind: "application/json", retry_after, allow, headers, close: false }
    }

    /// Makes a response of plain text.
    pub fn text(text: String) -> Self {
        Self { kind: "text/plain; charset=utf-8", ..Self::new(StatusCode::OK, text) }
    }

    /// Makes a response of rendered metrics.
    pub fn metrics(text: String) -> Self {
        Self { kind: MEDIA_TYPE, ..Self::text(text) }
    }

    /// Refuses a whole request, with the reason.
    #[cold]
    pub fn refusal(status: StatusCode, why: &str) -> Self {
        let mut body = "{\"error\":".to_owned();
        write_string(&mut body, why);
        body.push_str("}\n");
        Self::new(status, body)
    }

    /// Refuses a whole request, with the time after which a retry may succeed.
    #[cold]
    pub fn later(status: StatusCode, why: &str, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::refusal(status, why) }
    }

    /// Refuses a whole request that may succeed soon: 503.
    #[cold]
    pub fn unavailable(why: &str) -> Self {
        Self::later(StatusCode::SERVICE_UNAVAILABLE, why, RETRY_AFTER)
    }

    /// Adds a header.
    pub fn with_header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Makes the response close the connection.
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }
}
