//! `GET /v1/metrics` and `GET /v1/metrics/NAME`.

use super::app::{Allowed, State, unavailable};
use super::stores::{Asked, FoundInStores};
use evt_core::parse::nearest;
use evt_core::serve::answer::MetricAnswer;
use evt_core::serve::encode::{content_type, encoded};
use evt_core::serve::request::{MetricRequest, RequestFault};
use evt_core::time::{format_duration, format_instant, parse_duration};
use evt_http::server::Reply;
use evt_store::serving::StoredMetric;
use hyper::header::{ACCEPT, CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use hyper::{HeaderMap, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// The request headers that an answer depends on.
const VARIES: &str = "Authorization, Cookie, Accept";

/// Lists the metrics.
pub async fn list(state: &Arc<State>, allowed: Allowed) -> Result<Reply, Reply> {
    if let Some((name, _)) = allowed.parameters.first() {
        return Err(refused(&RequestFault::new(name, "unknown parameter; expected none")));
    }
    let metrics = state.app.catalog.metrics(&state.app.stores).await.map_err(|none| unavailable(&none))?;
    let metric = |metric: &StoredMetric| {
        json!({
            "metric_name": metric.name, "first_window_start": format_instant(metric.first_start),
            "last_window_end": format_instant(metric.last_end), "dimensions": metric.dimensions,
            "sizes": metric.sizes.iter().map(|size| format_duration(*size)).collect::<Vec<_>>(),
        })
    };
    let shown: Vec<_> = metrics.values().filter(|one| allowed.token.shows(&one.name)).map(metric).collect();
    let reply = Reply::new(StatusCode::OK, json!({ "metrics": shown }).to_string() + "\n");
    Ok(reply.with_header(CACHE_CONTROL, "no-cache").with_header(VARY, VARIES))
}

/// Answers with the windows of a metric.
pub async fn metric(state: &Arc<State>, allowed: Allowed) -> Result<Reply, Reply> {
    let Allowed { parts, mut parameters, name, token } = allowed;
    let app = &state.app;
    let has_form = parameters.iter().any(|(name, _)| name == "format");
    if !has_form && takes_csv(&parts.headers) {
        parameters.push(("format".to_owned(), "csv".to_owned()));
    }
    let request = MetricRequest::read(&name, &parameters, state.clock.now()).map_err(|fault| refused(&fault))?;
    let known = app.catalog.metric(&app.stores, &name).await.map_err(|none| unavailable(&none))?;
    let Some(known) = known.filter(|_| token.shows(&name)) else { return Err(unknown(state, &name, &token).await) };
    let asked = Asked {
        metric: name.clone(),
        span: request.span,
        dimensions: request.dimensions.clone(),
        longest: known.sizes.last().copied().unwrap_or_default(),
        limit: app.max_windows,
    };
    let mut found = app.stores.windows(&asked).await.map_err(|none| unavailable(&none))?;
    if found.is_more {
        let why = format!("expected at most {} windows (--max-windows); use less time", app.max_windows);
        return Err(refused(&RequestFault::new("window_start", why)));
    }
    check_dimensions(&request, &known)?;
    choose_size(&request, &mut found)?;
    let FoundInStores { windows, parts: stores, watermark, corrections, missing, .. } = found;
    let mut answer = MetricAnswer { metric: name, windows, watermark, stores, corrections, missing };
    answer.sort();
    Ok(reply(&request, &answer, &parts.headers, parts.uri.query().unwrap_or_default()))
}

/// Whether a client that names no format wants CSV.
fn takes_csv(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.starts_with("text/csv"))
}

/// Returns an answer with what caches may do with it: clients repeat a request about a past that may still be
/// corrected, and get the answer again only if it has changed.
fn reply(request: &MetricRequest, answer: &MetricAnswer, headers: &HeaderMap, query: &str) -> Reply {
    let mut reply = Reply::new(StatusCode::OK, String::new()).with_header(VARY, VARIES);
    reply.kind = content_type(request.form);
    let is_known = answer.windows.iter().all(|window| window.is_final.is_some());
    if !answer.missing.is_empty() {
        reply = reply.with_header(CACHE_CONTROL, "no-store");
    } else if request.is_closed && is_known {
        let tag = format!("\"{:032x}\"", answer.digest(&format!("{query} {:?}", request.form)));
        let is_same = is_named(headers, &tag);
        reply = reply.with_header(CACHE_CONTROL, "private, max-age=0, must-revalidate").with_header(ETAG, tag);
        if is_same {
            reply.status = StatusCode::NOT_MODIFIED;
            return reply;
        }
    } else {
        reply = reply.with_header(CACHE_CONTROL, "no-cache");
    }
    reply.body = encoded(answer, request.form);
    reply
}

/// Whether `If-None-Match` names a tag.
fn is_named(headers: &HeaderMap, tag: &str) -> bool {
    let all = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = all.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

/// Refuses a request for a dimension that the metric does not have.
fn check_dimensions(request: &MetricRequest, known: &StoredMetric) -> Result<(), Reply> {
    let names: Vec<&str> = known.dimensions.keys().map(String::as_str).collect();
    match request.dimensions.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) if names.is_empty() => {
            let why = format!("unknown dimension '{name}'; the metric has none");
            Err(refused(&RequestFault::new("dimensions", why)))
        }
        Some(name) => {
            let hint = nearest::hint(name, &names, ", ");
            Err(refused(&RequestFault::new("dimensions", format!("unknown dimension '{name}'; {hint}"))))
        }
    }
}

/// Keeps the windows of the requested size. A metric of several sizes needs it.
fn choose_size(request: &MetricRequest, found: &mut FoundInStores) -> Result<(), Reply> {
    let sizes: Vec<&str> = found.sizes().into_iter().collect();
    let is_known = |size: i64| sizes.iter().any(|text| parse_duration(text).is_ok_and(|one| one == size));
    match request.size {
        None if sizes.len() > 1 => Err(refused(&RequestFault::new(
            "size",
            format!("the metric has several; expected one of {}", sizes.join(", ")),
        ))),
        Some(size) if !sizes.is_empty() && !is_known(size) => {
            Err(refused(&RequestFault::new("size", format!("expected one of {}", sizes.join(", ")))))
        }
        Some(size) => {
            found.windows.retain(|window| window.end - window.start == size);
            Ok(())
        }
        None => Ok(()),
    }
}

/// Refuses an unknown metric: 404 with the nearest name, or with all if there are few.
async fn unknown(state: &State, name: &str, token: &evt_http::server::token::Token) -> Reply {
    let metrics = match state.app.catalog.metrics(&state.app.stores).await {
        Ok(metrics) => metrics,
        Err(none) => return unavailable(&none),
    };
    let names: Vec<&str> = metrics.keys().map(String::as_str).filter(|name| token.shows(name)).collect();
    let hint = match names.len() {
        0 => "the stores have none".to_owned(),
        1..=20 => nearest::hint(name, &names, ", "),
        _ => {
            let hint = nearest::hint(name, &names, ", ");
            if hint.starts_with("did") { hint } else { "GET /v1/metrics lists them".to_owned() }
        }
    };
    Reply::refusal(StatusCode::NOT_FOUND, &format!("unknown metric '{name}'; {hint}"))
}

/// Refuses a parameter.
fn refused(fault: &RequestFault) -> Reply {
    let RequestFault { parameter, message } = fault;
    let body = json!({ "error": format!("{parameter}: {message}"), "parameter": parameter });
    Reply::new(StatusCode::UNPROCESSABLE_ENTITY, body.to_string() + "\n")
}
