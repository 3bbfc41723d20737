//! `/api/v1/…`: the API of Prometheus, as far as Grafana's data source needs it.

use super::app::{Allowed, State};
use super::series::{self, Purpose, SeriesRequest};
use evt_core::time::parse_instant;
use evt_http::server::Reply;
use evt_promql::encode;
use evt_promql::error::{QueryError, QueryErrorKind};
use evt_promql::evaluate::evaluate;
use evt_promql::labels::{LabelSet, NAME};
use evt_promql::plan::Query;
use evt_promql::range::{QueryRange, parse_duration, parse_seconds};
use evt_promql::series::{Selection, WindowSeries};
use hyper::StatusCode;
use hyper::header::CACHE_CONTROL;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The version of the API, which clients ask for to know what it can do.
const VERSION: &str = "2.42.0";
/// How long before the last window the values of labels are looked for if a request has no start (ms).
const LABELS_TIME: i64 = 24 * 3_600_000;

/// Evaluates a query at an instant.
pub async fn query(state: &Arc<State>, allowed: Allowed) -> Result<Reply, Reply> {
    let at = match parameter(&allowed, "time") {
        Some(text) => instant("time", text)?,
        None => state.clock.now().div_euclid(1_000),
    };
    evaluated(state, &allowed, QueryRange::instant(at), false).await
}

/// Evaluates a query over a range.
pub async fn query_range(state: &Arc<State>, allowed: Allowed) -> Result<Reply, Reply> {
    let needed = |name: &'static str| {
        let missing = || QueryError::bad_data(format!("invalid parameter \"{name}\": it is missing"));
        parameter(&allowed, name).ok_or_else(|| failed(&missing()))
    };
    let (start, end) = (instant("start", needed("start")?)?, instant("end", needed("end")?)?);
    let step = parse_duration("step", needed("step")?).map_err(|error| failed(&error))?;
    let range = QueryRange::new(start, end, step).map_err(|error| failed(&error))?;
    evaluated(state, &allowed, range, true).await
}

async fn evaluated(state: &Arc<State>, allowed: &Allowed, range: QueryRange, is_range: bool) -> Result<Reply, Reply> {
    let text = parameter(allowed, "query").unwrap_or_default();
    let query = Query::parse(text).map_err(|error| failed(&error))?;
    let selections = query.selections(&range);
    let request = SeriesRequest { state, token: &allowed.token, selections: &selections, purpose: Purpose::Query };
    let read = series::read(&request).await.map_err(|error| failed(&error))?;
    let limit = state.app.max_windows;
    // Evaluation takes milliseconds of a core, which other requests need meanwhile.
    let task = tokio::task::spawn_blocking(move || {
        let mut answer = evaluate(&query, &range, &read.series, limit)?;
        answer.warnings.extend(read.warnings);
        Ok(if is_range { encode::range(answer, &range) } else { encode::instant(&answer) })
    });
    let evaluated = task.await.unwrap_or_else(|_| Err(QueryError::execution("the evaluation has ended early")));
    evaluated.map(reply).map_err(|error| failed(&error))
}

/// Lists the series of selectors.
pub async fn series(state: &Arc<State>, allowed: Allowed) -> Result<Reply, Reply> {
    let found = matched(state, &allowed, true).await?;
    let labels = |set: &LabelSet| -> Value {
        Value::Object(set.iter().map(|label| (label.name.clone(), Value::from(label.value.as_str()))).collect())
    };
    let sets: BTreeSet<&LabelSet> = found.series.iter().map(|series| &series.labels).collect();
    let sets: Vec<Value> = sets.into_iter().map(labels).collect();
    Ok(reply(encode::data(&json!(sets), &found.warnings)))
}

/// Lists the names of labels.
pub async fn labels(state: &Arc<State>, allowed: Allowed) -> Result<Reply, Reply> {
    let found = matched(state, &allowed, false).await?;
    let names: BTreeSet<&str> =
        found.series.iter().flat_map(|series| series.labels.iter()).map(|label| label.name.as_str()).collect();
    Ok(reply(encode::data(&json!(names), &found.warnings)))
}

/// Lists the values of a label.
pub async fn label_values(state: &Arc<State>, allowed: Allowed) -> Result<Reply, Reply> {
    let has_matchers = allowed.parameters.iter().any(|(name, _)| name == "match[]");
    if allowed.name == NAME && !has_matchers {
        // Without windows to look at, all names are known.
        let names = series::names(state, &allowed.token).await.map_err(|error| failed(&error))?;
        return Ok(reply(encode::data(&json!(names), &[])));
    }
    let found = matched(state, &allowed, false).await?;
    let values: BTreeSet<&str> = found.series.iter().map(|series| series.labels.value(&allowed.name)).collect();
    let values: Vec<&str> = values.into_iter().filter(|value| !value.is_empty()).collect();
    Ok(reply(encode::data(&json!(values), &found.warnings)))
}

/// Says that every metric is a gauge.
pub async fn metadata(state: &Arc<State>, allowed: Allowed) -> Result<Reply, Reply> {
    let names = series::names(state, &allowed.token).await.map_err(|error| failed(&error))?;
    let wanted = parameter(&allowed, "metric");
    let names = names.into_iter().filter(|name| wanted.is_none_or(|wanted| wanted == name));
    let gauge = json!([{ "type": "gauge", "help": "", "unit": "" }]);
    let all: serde_json::Map<String, Value> = names.map(|name| (name, gauge.clone())).collect();
    Ok(reply(encode::data(&Value::Object(all), &[])))
}

/// Says which Prometheus the API is like.
pub async fn build_info(_: &Arc<State>, _: Allowed) -> Result<Reply, Reply> {
    let (revision, empty) = (concat!("evt-serve ", env!("CARGO_PKG_VERSION")), "");
    let info = json!({
        "version": VERSION, "revision": revision, "branch": empty, "buildUser": empty, "buildDate": empty,
        "goVersion": empty,
    });
    Ok(reply(encode::data(&info, &[])))
}

/// The series of all selectors of a request.
struct Matched {
    series: Vec<WindowSeries>,
    warnings: Vec<String>,
}

/// Reads the series that a request for labels is about: those of its selectors, or all.
async fn matched(state: &Arc<State>, allowed: &Allowed, needs_matchers: bool) -> Result<Matched, Reply> {
    let all = allowed.parameters.iter().filter(|(name, _)| name == "match[]");
    let mut texts: Vec<&str> = all.map(|(_, text)| text.as_str()).collect();
    if texts.is_empty() {
        if needs_matchers {
            return Err(failed(&QueryError::bad_data("no match[] parameter provided")));
        }
        texts.push("{__name__!=\"\"}");
    }
    let end = match parameter(allowed, "end") {
        Some(text) => instant("end", text)?,
        None => series::last_end(state).await.map_err(|error| failed(&error))?,
    };
    let start = match parameter(allowed, "start") {
        Some(text) => instant("start", text)?,
        None => end.saturating_sub(LABELS_TIME),
    };
    let mut selections: Vec<Selection> = vec![];
    for text in texts {
        let of_text = Query::parse(text).map_err(|error| failed(&error))?.selections(&QueryRange::instant(end));
        let ranged = of_text.into_iter().map(|one| Selection { range: Some(end.saturating_sub(start).max(1)), ..one });
        selections.extend(ranged);
    }
    let request = SeriesRequest { state, token: &allowed.token, selections: &selections, purpose: Purpose::Labels };
    let read = series::read(&request).await.map_err(|error| failed(&error))?;
    Ok(Matched { series: read.series.into_iter().flatten().collect(), warnings: read.warnings })
}

/// Returns the last value of a parameter.
fn parameter<'a>(allowed: &'a Allowed, name: &str) -> Option<&'a str> {
    allowed.parameters.iter().rev().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
}

/// Reads an instant: seconds, or RFC 3339; returns milliseconds.
fn instant(name: &str, text: &str) -> Result<i64, Reply> {
    let millis = parse_seconds(text).or_else(|| parse_instant(text).map(|micros| micros.div_euclid(1_000)));
    millis.ok_or_else(|| {
        let why = format!("invalid parameter \"{name}\": cannot parse \"{text}\" to a valid timestamp");
        failed(&QueryError::bad_data(why))
    })
}

fn reply(body: String) -> Reply {
    Reply::new(StatusCode::OK, body).with_header(CACHE_CONTROL, "no-cache")
}

/// Returns the response of an error, with the status that Prometheus gives it.
fn failed(error: &QueryError) -> Reply {
    let status = match error.kind() {
        QueryErrorKind::BadData => StatusCode::BAD_REQUEST,
        QueryErrorKind::Execution => StatusCode::UNPROCESSABLE_ENTITY,
        QueryErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    Reply::new(status, encode::error(error)).with_header(CACHE_CONTROL, "no-store")
}
