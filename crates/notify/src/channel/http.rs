//! Requests over HTTP: every wait and every answer is bounded, and each answer is classified.
//!
//! Each request has a connection of its own: a receiver may close an idle connection at any time, and the outcome of a
//! request on such a connection would be unclear.

use super::{Attempt, Notification, one_line};
use crate::settings::Settings;
use chrono::DateTime;
use evt_core::error::Result;
use evt_core::parse::port;
use evt_core::time::SECOND;
use evt_core::time::rounded;
use evt_run::client::https;
use evt_run::clock::Clock;
use std::io::Read;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

/// Maximum bytes of an answer that are read.
const ANSWER_MAX: u64 = 64 << 10;
/// Maximum characters of an answer in a message.
const SHOWN_MAX: usize = 200;
/// The header with the idempotency key.
const KEY_HEADER: &str = "idempotency-key";

/// A receiver behind a URL.
pub struct Endpoint {
    agent: Agent,
    url: String,
    headers: HeaderMap,
    timeout: Duration,
}

impl Endpoint {
    /// Reads `url` (else `default`), `ca` and `headers` of a channel. `timeout` bounds a request as a whole.
    ///
    /// Errors: exit status 78 if the URL is missing or invalid, or the certificates cannot be read.
    pub fn read(settings: &Settings<'_>, default: Option<&str>, timeout: Duration) -> Result<Self> {
        let url = settings.text("url")?.or(default.map(str::to_owned));
        let url = url.ok_or_else(|| settings.fault("url", "missing"))?;
        let parsed: Option<Uri> = url.parse().ok();
        let is_https = match parsed.as_ref().and_then(|uri| uri.scheme_str().zip(uri.host())) {
            Some(("https", host)) if !host.is_empty() => true,
            Some(("http", host)) if !host.is_empty() => false,
            _ => return Err(settings.fault("url", "expected http://HOST[:PORT][/PATH] or https://…")),
        };
        let server = parsed.as_ref().and_then(Uri::authority).map_or("", |authority| authority.as_str());
        if !port::is_valid(server.rsplit_once('@').map_or(server, |(_, server)| server)) {
            return Err(settings.fault("url", port::WRONG));
        }
        let ca = settings.text("ca")?;
        let tls = https::tls(ca.as_deref(), is_https).map_err(|error| settings.fault("ca", error))?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            // A connection that failed has sent nothing, so the attempt is not unclear.
            .timeout_connect(Some(timeout / 2))
            .timeout_global(Some(timeout))
            .user_agent("evt-alert")
            .tls_config(tls)
            .build();
        Ok(Self { agent: config.into(), url, headers: HeaderMap::new(), timeout })
    }

    /// Adds the `headers` of a channel to each request. Errors: exit status 78 for an invalid name or value.
    pub fn with_headers(mut self, settings: &Settings<'_>) -> Result<Self> {
        for (name, value) in settings.pairs("headers")? {
            let wrong = |_| settings.fault("headers", format!("expected the name of a header, found {name}"));
            let header = HeaderName::try_from(&name).map_err(wrong)?;
            let wrong = |_| {
                settings.fault("headers", format!("{name}: the value has characters that are not allowed in a header"))
            };
            self.headers.insert(header, HeaderValue::try_from(value).map_err(wrong)?);
        }
        Ok(self)
    }

    /// Posts a JSON body with the notification's idempotency key.
    pub fn post(&self, notification: &Notification, body: String) -> Attempt {
        let mut request = Request::post(&self.url).header("content-type", "application/json");
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
        }
        let request = match request.header(KEY_HEADER, notification.key()).body(body) {
            Ok(request) => request,
            Err(error) => return Attempt::Refused(error.to_string()),
        };
        let response = match self.agent.run(request) {
            Ok(response) => response,
            Err(error) => return self.failure(error),
        };
        let ((head, body), mut bytes) = (response.into_parts(), vec![]);
        if head.status.is_success() {
            return Attempt::Sent;
        }
        // The status decides; the body only explains it.
        _ = body.into_reader().take(ANSWER_MAX).read_to_end(&mut bytes);
        classify(head.status.as_u16(), &head.headers, &bytes)
    }

    /// Classifies a failure without an answer.
    fn failure(&self, error: ureq::Error) -> Attempt {
        use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, InvalidData, NetworkUnreachable};
        use ureq::{Error, Timeout};
        match &error {
            Error::HostNotFound => Attempt::unreachable("host not found"),
            Error::ConnectionFailed | Error::Tls(_) | Error::Rustls(_) => Attempt::unreachable(error),
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                Attempt::unreachable(format!("no connection for {}", rounded(self.timeout)))
            }
            Error::Timeout(_) => Attempt::unclear(format!("no answer for {}", rounded(self.timeout))),
            Error::Io(io) => {
                let cause = io.to_string().split(" (os error").next().unwrap_or_default().to_lowercase();
                match io.kind() {
                    // A TLS handshake reports an untrusted certificate as invalid data.
                    ConnectionRefused | HostUnreachable | NetworkUnreachable | InvalidData => {
                        Attempt::unreachable(cause)
                    }
                    _ => Attempt::unclear(cause),
                }
            }
            _ => Attempt::unclear(error),
        }
    }
}

/// Classifies an answer that is not a success.
fn classify(status: u16, headers: &HeaderMap, body: &[u8]) -> Attempt {
    let text = String::from_utf8_lossy(body);
    let text = super::cut(one_line(&text).trim(), SHOWN_MAX);
    let cause = if text.is_empty() { format!("status {status}") } else { format!("status {status}: {text}") };
    match status {
        408 | 425 | 429 | 500.. => {
            let is_busy = matches!(status, 429 | 502 | 503 | 504);
            let after = if is_busy { retry_after(headers, Clock::System.now()) } else { None };
            Attempt::Failed { cause, after, is_unclear: status >= 500, is_of_receiver: is_busy }
        }
        // A redirect is not followed: another server's answer would count as this one's.
        300..400 => Attempt::Refused(format!("{cause}: redirects are not followed")),
        _ => Attempt::Refused(cause),
    }
}

/// Returns the wait that `Retry-After` states: seconds, or an HTTP date after `now` (µs).
fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    let seconds = match text.parse() {
        Ok(seconds) => seconds,
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.timestamp() - now / SECOND).max(0),
    };
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_final_or_may_succeed_later() {
        let none = HeaderMap::new();
        for status in [300, 302, 400, 401, 403, 404, 405, 409, 410, 413, 422] {
            assert!(matches!(classify(status, &none, b""), Attempt::Refused(_)), "{status}");
        }
        for (status, of_receiver) in [(408, false), (429, true), (500, false), (502, true), (503, true), (504, true)] {
            let Attempt::Failed { is_of_receiver, after: None, .. } = classify(status, &none, b"") else {
                panic!("{status}");
            };
            assert_eq!(is_of_receiver, of_receiver, "{status}");
        }
        let long = format!("no\n{}", "x".repeat(1000));
        let Attempt::Refused(cause) = classify(400, &none, long.as_bytes()) else { panic!("a refusal") };
        assert!(cause.starts_with("status 400: no xxx") && cause.chars().count() < 220, "{cause}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 784_111_767 * SECOND;
        let after = |text: &str| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static("retry-after"), text.parse().unwrap())]);
            retry_after(&headers, now)
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!((after("soon"), after("-1")), (None, None));
    }
}
