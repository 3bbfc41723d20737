//! The series that a query of PromQL needs: windows of metrics, read from the stores.

use super::app::State;
use super::stores::{Asked, FoundInStores, NoStore};
use evt_core::kind::span::Span;
use evt_core::serve::answer::ServedWindow;
use evt_core::serve::request::{WantedValue, dimensions_of};
use evt_core::time::{MILLISECOND, format_duration, parse_duration};
use evt_http::server::token::Token;
use evt_promql::error::{QueryError, Result};
use evt_promql::labels::{LabelSet, NAME, label_name, label_names};
use evt_promql::series::{Selection, WindowSeries, WindowValue};
use evt_store::serving::StoredMetric;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The label of the size of windows, of metrics that have several.
const WINDOW: &str = "window";
/// The maximum number of metrics that a selector may select.
const METRICS_MAX: usize = 1_000;

/// What is to be read.
pub struct SeriesRequest<'a> {
    /// The server.
    pub state: &'a State,
    /// The token of the request, which may not see all metrics.
    pub token: &'a Token,
    /// The selections.
    pub selections: &'a [Selection],
    /// What the series are for.
    pub purpose: Purpose,
}

/// What series are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A query is evaluated over them.
    Query,
    /// Their labels are listed.
    Labels,
}

/// What was read.
pub struct ReadSeries {
    /// The series of each selection.
    pub series: Vec<Vec<WindowSeries>>,
    /// What readers of the answer should know.
    pub warnings: Vec<String>,
}

fn away(NoStore { faults }: &NoStore) -> QueryError {
    QueryError::unavailable(faults.join("; "))
}

/// Returns the names of the metrics that a token may see.
pub async fn names(state: &State, token: &Token) -> Result<Vec<String>> {
    let metrics = state.app.catalog.metrics(&state.app.stores).await.map_err(|none| away(&none))?;
    Ok(metrics.keys().filter(|name| token.shows(name)).cloned().collect())
}

/// Returns the end of the last window of all metrics (ms).
pub async fn last_end(state: &State) -> Result<i64> {
    let metrics = state.app.catalog.metrics(&state.app.stores).await.map_err(|none| away(&none))?;
    Ok(metrics.values().map(|metric| metric.last_end).max().unwrap_or_default().div_euclid(MILLISECOND))
}

/// Reads the series of all selections.
pub async fn read(request: &SeriesRequest<'_>) -> Result<ReadSeries> {
    let mut read = ReadSeries { series: vec![], warnings: vec![] };
    let (mut missing, mut left) = (BTreeSet::new(), request.state.app.max_windows);
    for selection in request.selections {
        let mut of_selection = vec![];
        for metric in selected(request, selection).await? {
            let asked = asked(request, selection, &metric, left);
            let found = request.state.app.stores.windows(&asked).await.map_err(|none| away(&none))?;
            if found.is_more {
                let most = request.state.app.max_windows;
                let why =
                    format!("the query needs more than {most} windows (--max-windows); use fewer series or less time");
                return Err(QueryError::execution(why));
            }
            left = left.saturating_sub(found.windows.len());
            missing.extend(found.missing.iter().cloned());
            match series_of(request, selection, &metric, found) {
                Ok(series) => of_selection.extend(series),
                // A pattern may match metrics that are no series.
                Err(_) if request.purpose == Purpose::Labels => {}
                Err(error) if named(selection).is_none() => read.warnings.push(format!("left out: {error}")),
                Err(error) => return Err(error),
            }
        }
        read.series.push(of_selection);
    }
    let partial = |store: String| format!("partial: {store} does not answer, windows may be missing");
    read.warnings.extend(missing.into_iter().map(partial));
    Ok(read)
}

/// Returns the only metric that a selection can have series of, if it names one.
fn named(selection: &Selection) -> Option<&str> {
    selection.matchers.iter().filter(|matcher| matcher.name() == NAME).find_map(|one| one.only_value())
}

/// Returns the metrics that a selection may have series of.
async fn selected(request: &SeriesRequest<'_>, selection: &Selection) -> Result<Vec<StoredMetric>> {
    let app = &request.state.app;
    if let Some(name) = named(selection) {
        let known = app.catalog.metric(&app.stores, name).await.map_err(|none| away(&none))?;
        let is_matched = |name: &str| selection.matchers.iter().all(|one| one.name() != NAME || one.matches(name));
        return Ok(known.into_iter().filter(|one| request.token.shows(&one.name) && is_matched(&one.name)).collect());
    }
    let metrics = app.catalog.metrics(&app.stores).await.map_err(|none| away(&none))?;
    let by_name = |name: &str| selection.matchers.iter().all(|one| one.name() != NAME || one.matches(name));
    let found = metrics.values().filter(|metric| request.token.shows(&metric.name) && by_name(&metric.name));
    let found: Vec<StoredMetric> = found.cloned().collect();
    match found.len() {
        0..=METRICS_MAX => Ok(found),
        many => {
            Err(QueryError::execution(format!("expected a selector of at most {METRICS_MAX} metrics, found {many}")))
        }
    }
}

/// Returns what is read of a metric for a selection.
fn asked(request: &SeriesRequest<'_>, selection: &Selection, metric: &StoredMetric, limit: usize) -> Asked {
    let longest = metric.sizes.last().copied().unwrap_or_default();
    let lookback = request.state.app.lookback.unwrap_or(longest).max(MILLISECOND);
    let ends = selection.ends(lookback.div_euclid(MILLISECOND));
    let micros = |millis: i64| millis.saturating_mul(MILLISECOND);
    // A label is a dimension only if one dimension has that label.
    let mut dimensions = BTreeMap::new();
    for matcher in &selection.matchers {
        let mut named = metric.dimensions.keys().filter(|name| label_name(name) == matcher.name());
        if let (Some(value), Some(name), None) = (matcher.only_value(), named.next(), named.next())
            && !value.is_empty()
        {
            dimensions.insert(name.clone(), WantedValue::Text(value.to_owned()));
        }
    }
    let span = Span {
        since: Some(micros(ends.after).saturating_sub(longest).saturating_add(1)),
        until: Some(micros(ends.to.saturating_add(1)).saturating_sub(1)),
    };
    Asked { metric: metric.name.clone(), span, dimensions, longest, limit }
}

/// Returns the series of a metric that a selection matches.
fn series_of(
    request: &SeriesRequest<'_>,
    selection: &Selection,
    metric: &StoredMetric,
    found: FoundInStores,
) -> Result<Vec<WindowSeries>> {
    let name = &metric.name;
    let shape = WindowShape::of(name, &found)?;
    let overlap = shape.overlaps.then_some("overlapping windows");
    let not_additive = request.state.app.not_additive.get(name).copied().or(overlap);
    let mut by_series: BTreeMap<(Arc<str>, Option<i64>), Vec<ServedWindow>> = BTreeMap::new();
    for window in found.windows {
        let length = shape.has_several.then(|| window.end - window.start);
        by_series.entry((window.dimensions.clone(), length)).or_default().push(window);
    }
    let mut all = vec![];
    for ((dimensions, length), windows) in by_series {
        let dimensions = dimensions_of(&dimensions);
        let labels = label_names(dimensions.keys().map(String::as_str))?;
        let values = dimensions.into_values().map(Option::unwrap_or_default);
        let size = length.map(|length| (WINDOW.to_owned(), format_duration(length)));
        let own = [(NAME.to_owned(), name.clone())].into_iter().chain(size);
        let labels = LabelSet::new(labels.into_iter().zip(values).chain(own));
        if !selection.matches(&labels) {
            continue;
        }
        let longest = windows.iter().map(|window| window.end - window.start).max().unwrap_or_default();
        let lookback = request.state.app.lookback.or(shape.slide).unwrap_or(longest);
        all.push(WindowSeries {
            labels,
            windows: values_of(windows),
            lookback: lookback.div_euclid(MILLISECOND).max(1),
            not_additive,
        });
    }
    let sizes: BTreeSet<&str> = all.iter().map(|series| series.labels.value(WINDOW)).collect();
    let names_size = selection.matchers.iter().any(|matcher| matcher.name() == WINDOW);
    if shape.has_several && sizes.len() > 1 && !names_size && request.purpose == Purpose::Query {
        let sizes: Vec<String> = sizes.iter().map(|size| format!("{WINDOW}={size:?}")).collect();
        let why = format!("{name} has windows of several sizes; select them by {}", sizes.join(" or "));
        return Err(QueryError::bad_data(why));
    }
    Ok(all)
}

/// Returns the values of windows in the order of their ends. A window without a value is none.
fn values_of(windows: Vec<ServedWindow>) -> Vec<WindowValue> {
    let value =
        |window: &ServedWindow| Some(WindowValue { end: window.end.div_euclid(MILLISECOND), value: window.value? });
    let mut values: Vec<WindowValue> = windows.iter().filter_map(value).collect();
    values.sort_by_key(|value| value.end);
    values
}

/// What the windows of a metric are like.
struct WindowShape {
    /// How far the starts of windows are from each other (µs), if it is known and always the same.
    slide: Option<i64>,
    /// Whether windows overlap.
    overlaps: bool,
    /// Whether there are windows of several sizes.
    has_several: bool,
}

impl WindowShape {
    /// Returns the shape of the windows of a metric. Errors: sessions, and windows over all time, which have no
    /// instants.
    fn of(name: &str, found: &FoundInStores) -> Result<Self> {
        let progress = || found.standings.iter().flat_map(|standing| &standing.progress).map(|kept| &kept.metric);
        if progress().any(|metric| metric.gap.is_some() || metric.size.as_deref() == Some("all")) {
            let why =
                format!("{name} has sessions or windows over all time, which are no series; GET /v1/metrics has them");
            return Err(QueryError::execution(why));
        }
        let sizes = found.sizes();
        let slides: BTreeSet<Option<&str>> =
            progress().map(|metric| metric.slide.as_deref().or(metric.size.as_deref())).collect();
        let only = if slides.len() == 1 { slides.first().copied().flatten() } else { None };
        let lengths: BTreeSet<i64> = found.windows.iter().map(|window| window.end - window.start).collect();
        Ok(Self {
            slide: only.and_then(|text| parse_duration(text).ok()),
            overlaps: progress().any(|metric| metric.slide.is_some()),
            has_several: if sizes.is_empty() { lengths.len() > 1 } else { sizes.len() > 1 },
        })
    }
}
