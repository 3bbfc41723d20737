//! The ids of a request: W3C Trace Context and `X-Request-Id`.

use hyper::HeaderMap;
use hyper::header::HeaderName;
use std::hash::BuildHasher;

/// W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The client's id of its request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum length of a client's request id.
const REQUEST_ID_MAX: usize = 128;
/// Maximum length of a `tracestate` in bytes: W3C Trace Context requires every service to propagate this much.
const TRACESTATE_MAX: usize = 512;

/// Returns a number, never 0, for ids that are unique across processes with high probability.
fn random() -> u64 {
    // The standard library's only source of randomness: each new state has other keys.
    std::hash::RandomState::new().hash_one(0).max(1)
}

/// The ids of a request in logs, Kafka headers and dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`: the client's, if it is valid.
    pub parent: String,
    /// `tracestate`: the client's, if both are valid.
    state: Option<String>,
    /// `X-Request-Id`: the client's, if it is printable ASCII of at most 128 bytes.
    pub request_id: String,
}

impl Trace {
    /// Takes the ids from `headers`, and generates the missing ones.
    pub fn of(headers: &HeaderMap) -> Self {
        let only = |name: &HeaderName| {
            let mut all = headers.get_all(name).iter();
            all.next().filter(|_| all.next().is_none()).and_then(|value| value.to_str().ok())
        };
        let parent = only(&TRACEPARENT).filter(|text| is_traceparent(text)).map(str::to_owned);
        let printable = |text: &&str| {
            (1..=REQUEST_ID_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let request_id = only(&REQUEST_ID).filter(printable).map(str::to_owned);
        Self {
            state: parent.as_ref().and_then(|_| tracestate(headers)),
            parent: parent.unwrap_or_else(|| format!("00-{:016x}{:016x}-{:016x}-01", random(), random(), random())),
            request_id: request_id.unwrap_or_else(|| format!("{:016x}{:016x}", random(), random())),
        }
    }

    /// Returns the id of the trace (32 hexadecimal digits), which is the second part of a `traceparent`.
    pub fn trace_id(&self) -> &str {
        self.parent.split('-').nth(1).unwrap_or_default()
    }

    /// Returns the ids as headers that are passed on.
    pub fn headers(&self) -> Vec<(String, String)> {
        let pair = |name: &HeaderName, value: &str| (name.as_str().to_owned(), value.to_owned());
        let mut headers = vec![pair(&TRACEPARENT, &self.parent)];
        headers.extend(self.state.as_ref().map(|state| pair(&TRACESTATE, state)));
        headers.push(pair(&REQUEST_ID, &self.request_id));
        headers
    }
}

/// Joins the `tracestate` headers of a request; `None` if they are too long or not printable ASCII.
fn tracestate(headers: &HeaderMap) -> Option<String> {
    let mut state = String::new();
    for value in headers.get_all(TRACESTATE) {
        let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')))?;
        let comma = if state.is_empty() || text.is_empty() { "" } else { "," };
        if state.len() + comma.len() + text.len() > TRACESTATE_MAX {
            return None;
        }
        state.push_str(comma);
        state.push_str(text);
    }
    Some(state).filter(|state| !state.is_empty())
}

/// Whether a text is a `traceparent` of W3C Trace Context, of this version or a later one.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |part: &str, length: usize| hex(part, length) && part.bytes().any(|byte| byte != b'0');
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags, rest @ ..] = &parts[..] else { return false };
    let known = *version != "00" || rest.is_empty();
    hex(version, 2) && *version != "ff" && known && some(trace, 32) && some(parent, 16) && hex(flags, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Returns the `tracestate` that is passed on for a request with these headers.
    fn passed(parent: &str, states: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
        for state in states {
            headers.append(TRACESTATE, HeaderValue::from_str(state).unwrap());
        }
        let passed = Trace::of(&headers).headers();
        passed.into_iter().find(|(name, _)| name == "tracestate").map(|(_, value)| value)
    }

    #[test]
    fn a_tracestate_is_passed_on_beside_a_valid_traceparent_only() {
        assert_eq!(passed(PARENT, &["a=1, b=2"]).as_deref(), Some("a=1, b=2"));
        assert_eq!(passed("00-ab", &["a=1"]), None);
        assert_eq!(passed(PARENT, &[]), None);
        assert_eq!(passed(PARENT, &[""]), None);
    }

    #[test]
    fn several_are_one_and_what_is_too_long_or_no_text_is_none() {
        assert_eq!(passed(PARENT, &["a=1", "", "b=2,c=3"]).as_deref(), Some("a=1,b=2,c=3"));
        let (longest, half) = (format!("a={}", "x".repeat(510)), format!("a={}", "x".repeat(254)));
        assert_eq!(passed(PARENT, &[&longest]).as_deref(), Some(longest.as_str()));
        assert_eq!(passed(PARENT, &[&(longest + "x")]), None);
        assert_eq!(passed(PARENT, &[&half, &half]), None, "one byte too long with its comma");
        assert_eq!(passed(PARENT, &["a=1\tb"]), None);
    }
}
