//! Serves one request: checks its head, routes it, logs it, and builds the response.

use super::application::{Application, Call, Route};
use super::limits::timeouts::{HEAD_BYTES_MAX, Phase};
use super::reply::Reply;
use super::state::{Logged, ServerState};
use super::trace::{REQUEST_ID, TRACEPARENT, Trace};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use hyper::{Request, Response, StatusCode, Version};
use percent_encoding::percent_decode_str;
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

/// Serves one request, whose head `phase` knows to be complete.
pub async fn serve<A: Application>(
    state: &Arc<ServerState<A>>,
    phase: &Phase,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let start = Instant::now();
    let trace = Trace::of(request.headers());
    let line =
        (state.options.log == Logged::Requests).then(|| format!("{} {}", request.method(), request.uri().path()));
    let mut token = String::new();
    let reply = route(state, Call { request, trace: &trace, phase, token: &mut token, parameter: String::new() }).await;
    let seconds = start.elapsed().as_secs_f64();
    state.metrics.request(reply.status.as_u16());
    state.metrics.seconds.observe(seconds);
    if let Some(line) = line {
        let (status, id, parent) = (reply.status.as_u16(), &trace.request_id, &trace.parent);
        let token = if token.is_empty() { "-" } else { &token };
        state
            .console
            .with_trace(trace.trace_id())
            .say(format!("{line} {status} {seconds:.6}s token={token} request={id} trace={parent}"));
    }
    phase.end();
    Ok(response(reply, &trace))
}

/// Refuses a head that is too large, whose Host is missing, invalid or repeated (RFC 9112, 3.2), or whose transfer
/// codings are not supported.
fn check_head(request: &Request<Incoming>) -> Result<(), Reply> {
    let line = request.method().as_str().len() + request.uri().to_string().len();
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if line + headers.sum::<usize>() > HEAD_BYTES_MAX {
        let why = "the request head exceeds 64 KiB";
        return Err(Reply::refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, why).closing());
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() < Version::HTTP_11 => {}
        (Some(host), None) if is_host(host.as_bytes()) => {}
        _ => {
            let why = "host: expected exactly one HOST[:PORT]";
            return Err(Reply::refusal(StatusCode::BAD_REQUEST, why).closing());
        }
    }
    // Hyper accepts a list that ends with chunked, and decodes only the chunks (RFC 9112, 6.1).
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        let why = "transfer-encoding: expected chunked";
        return Err(Reply::refusal(StatusCode::NOT_IMPLEMENTED, why).closing());
    }
    Ok(())
}

/// Whether a Host value is empty or `uri-host [":" port]` (RFC 3986, 3.2.2). A comma, which is valid in a name, is
/// refused: intermediaries join two values with it.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(value) else { return false };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => ("", port),
            _ => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => {
            digits.is_empty() || digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }
    };
    is_port && is_name(host)
}

/// Whether a name consists of unreserved characters, delimiters other than the comma, and percent-escapes.
fn is_name(mut host: &str) -> bool {
    while let Some(byte) = host.bytes().next() {
        let length = match byte {
            b'%' if host.get(1..3).is_some_and(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit())) => 3,
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte) => 1,
            _ => return false,
        };
        host = &host[length..];
    }
    true
}

/// Routes a request by path and method.
async fn route<A: Application>(state: &Arc<ServerState<A>>, call: Call<'_>) -> Reply {
    if let Err(reply) = check_head(&call.request) {
        return reply;
    }
    if let Err(reply) = check_name(&call.request, state.options.hosts.as_deref()) {
        return reply;
    }
    let (path, method) = (call.request.uri().path(), call.request.method().as_str());
    let of_path = A::ROUTES.iter().filter(|route| route.parameter(path).is_some());
    match of_path.clone().find(|route| route.methods().any(|one| one == method)) {
        Some(route) => match percent_decode_str(route.parameter(path).unwrap_or_default()).decode_utf8() {
            Ok(parameter) => {
                let parameter = parameter.into_owned();
                (route.serve)(state, Call { parameter, ..call }).await
            }
            Err(_) => Reply::refusal(StatusCode::BAD_REQUEST, "the path: expected UTF-8"),
        },
        None => unserved::<A>(of_path.flat_map(Route::methods).collect()),
    }
}

/// Refuses a request for another host than those that the server is known by, if there are such: a page of another site
/// could have the browser of a user ask for it under a name of its own.
fn check_name(request: &Request<Incoming>, names: Option<&[String]>) -> Result<(), Reply> {
    let Some(names) = names else { return Ok(()) };
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let (name, is_address) = match host.strip_prefix('[') {
        Some(_) => (host, true),
        None => {
            let name = host.split(':').next().unwrap_or_default();
            (name, name.is_empty() || name.parse::<Ipv4Addr>().is_ok())
        }
    };
    let is_known = |known: &str| known.eq_ignore_ascii_case(name);
    if is_address || is_known("localhost") || names.iter().any(|known| is_known(known)) {
        return Ok(());
    }
    let why = "host: expected an address, localhost, or a name of --host";
    Err(Reply::refusal(StatusCode::MISDIRECTED_REQUEST, why).closing())
}

/// Refuses a request whose path has only these methods: none if there is no such path.
#[cold]
fn unserved<A: Application>(methods: Vec<&str>) -> Reply {
    if methods.is_empty() {
        let mut paths: Vec<&str> = A::ROUTES.iter().map(|route| route.path).collect();
        paths.dedup();
        let last = paths.pop().unwrap_or_default();
        let or = if paths.is_empty() { "" } else { " or " };
        return A::refusal(StatusCode::NOT_FOUND, &format!("expected {}{or}{last}", paths.join(" ")));
    }
    let methods = methods.join(", ");
    let reply = A::refusal(StatusCode::METHOD_NOT_ALLOWED, &format!("expected {methods}"));
    Reply { allow: Some(methods), ..reply }
}

/// Builds the response, with the ids of the request.
fn response(reply: Reply, trace: &Trace) -> Response<Full<Bytes>> {
    let Reply { status, body, kind, retry_after, allow, headers: further, close } = reply;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let given = [(TRACEPARENT, trace.parent.as_str()), (REQUEST_ID, trace.request_id.as_str())];
    headers.extend(given.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?))));
    if let Some(wait) = retry_after {
        // Round up to whole seconds: a later retry is harmless.
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
    }
    for (name, value) in further {
        headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
    }
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(methods) = allow.and_then(|methods| HeaderValue::try_from(methods).ok()) {
        headers.insert(ALLOW, methods);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port() {
        for host in ["", "h", "h:", "h:0", "h:65535", "[::1]", "[::1]:80", "127.0.0.1:8080", "a_b.c-d", "%41b", ":80"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        let wrong = ["h:x", "h:65536", "h:99999", "h:+1", "h:1:2", "user@h", "a,b", "a b", "a/b", "%4", "%4g", "ä"];
        for host in wrong.into_iter().chain(["::1", "[::1", "[h]", "[::1]x", "[::1]:x", "h]", "a?b", "a#b", "\"h\""]) {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
