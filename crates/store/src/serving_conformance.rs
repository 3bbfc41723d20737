//! The conformance test of every store that evt-serve answers with: compares its answers with a filter over all of its
//! rows.

use super::conformance::{Bench, all};
use super::sample::START;
use crate::correct::Claim;
use crate::progress::KeptProgress;
use crate::serving::{FoundWindows, ServedMetrics, StoredMetric, WindowsRequest};
use arrow::array::RecordBatch;
use evt_core::frame::MetricProgress;
use evt_core::kind::Kind;
use evt_core::kind::metric::{Builder, MetricColumns, Row};
use evt_core::kind::span::Span;
use evt_core::serve::answer::ServedWindow;
use evt_core::serve::request::{WantedValue, dimensions_of};
use evt_core::time::{DAY, HOUR, LATEST};
use std::collections::{BTreeMap, BTreeSet};

const BY_COUNTRY: &str = "by country";
const TOTAL: &str = "count(*) / 2: {x}";
const EARLY: &str = "early";

const DIMENSIONS: [&str; 4] = [
    r#"{"country":"US","device":"ios"}"#,
    r#"{"country":"DE","device":null}"#,
    r#"{"country":null,"device":"web"}"#,
    r#"{"country":"é, \"x\"","device":"ios"}"#,
];

/// The lengths of the windows of a metric; they overlap.
const SIZES: [i64; 2] = [HOUR, 30 * HOUR];

fn window(name: &'static str, start: i64, size: i64, dimensions: &'static str) -> Row<'static> {
    Row {
        name,
        start,
        end: start + size,
        dimensions,
        value: Some(1.5),
        rows: 3,
        revision: 0,
        pane: 0,
        retracted: false,
    }
}

fn batch(rows: &[Row<'_>]) -> RecordBatch {
    let mut builder = Builder::default();
    rows.iter().for_each(|row| builder.push(row).unwrap());
    builder.finish(Kind::Metric.schema()).unwrap()
}

/// Windows of three metrics: over three days, two sizes, all dimensions and values.
fn rows() -> Vec<Row<'static>> {
    let values = [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY), Some(0.1), Some(-1e300)];
    let mut rows = vec![];
    for (at, start) in (0..70).map(|hour| START + hour * HOUR).enumerate() {
        for (number, dimensions) in DIMENSIONS.into_iter().enumerate() {
            let value = values[(at + number) % values.len()];
            rows.push(Row { value, pane: (at % 3) as u32, ..window(BY_COUNTRY, start, SIZES[at % 2], dimensions) });
        }
        if at % 7 == 0 {
            rows.push(Row { rows: 1 << 40, ..window(TOTAL, start, DAY, "{}") });
        }
    }
    rows.push(window(EARLY, -DAY - 1, 1, r#"{"a\"b":"1","n":""}"#));
    rows
}

fn progress(watermark: i64) -> MetricProgress {
    MetricProgress {
        metric: BY_COUNTRY.to_owned(),
        size: Some("1h".to_owned()),
        slide: None,
        gap: None,
        lateness: "0s".to_owned(),
        out_of_orderness: Some("5s".to_owned()),
        watermark: Some(watermark),
        complete_since: None,
    }
}

/// Writes the rows in one run, which retracts one of them; says how far a metric is.
fn fill(bench: &Bench) {
    let mut sink = bench.open();
    let rows = rows();
    for rows in rows.chunks(100) {
        assert!(sink.write(Kind::Metric, &batch(rows)).unwrap().is_empty());
    }
    let gone = Row { value: None, retracted: true, ..rows[4] };
    assert!(sink.write(Kind::Metric, &batch(&[gone])).unwrap().is_empty());
    sink.note_metrics(&[progress(START + DAY)]);
    sink.finish().unwrap();
}

/// Corrects a row, and adds one.
fn revise(bench: &Bench) {
    let revised = Row { revision: 1, value: Some(42.0), rows: 9, ..rows()[0] };
    let new = window(BY_COUNTRY, START + 100 * HOUR, HOUR, DIMENSIONS[0]);
    let mut sink = bench.open_as("another", false).unwrap();
    assert!(sink.write(Kind::Metric, &batch(&[revised, new])).unwrap().is_empty());
    sink.finish().unwrap();
}

/// Every store that is filled.
fn filled() -> impl Iterator<Item = Bench> {
    all().filter(|bench| bench.store.reader.serving.is_some()).inspect(fill)
}

fn serve(bench: &Bench) -> Box<dyn ServedMetrics> {
    (bench.store.reader.serving.unwrap())(&bench.location).unwrap()
}

/// Reads all windows of a store, each with its metric.
fn stored(bench: &Bench) -> Vec<(String, ServedWindow)> {
    let mut stored = vec![];
    for batch in bench.read(Kind::Metric) {
        let columns = MetricColumns::try_new(&batch).unwrap();
        for row in (0..batch.num_rows()).filter(|row| !columns.retracted.value(*row)) {
            let window = ServedWindow {
                start: columns.starts.value(row),
                end: columns.ends.value(row),
                dimensions: columns.dimensions.value(row).into(),
                value: columns.value(row),
                rows: columns.rows.value(row),
                revision: columns.revisions.value(row),
                pane: columns.panes.value(row),
                is_final: None,
            };
            stored.push((columns.names.value(row).to_owned(), window));
        }
    }
    stored
}

/// Formats windows, sorted; NaN equals NaN.
fn texts<'a>(windows: impl IntoIterator<Item = &'a ServedWindow>) -> BTreeSet<String> {
    windows.into_iter().map(|window| format!("{window:?}")).collect()
}

fn request<'a>(metric: &'a str, dimensions: &'a BTreeMap<String, WantedValue>) -> WindowsRequest<'a> {
    WindowsRequest { metric, starts: Span::default(), last_end: LATEST, dimensions, limit: 10_000 }
}

/// Filters windows as a request asks.
fn expected(stored: &[(String, ServedWindow)], request: &WindowsRequest<'_>) -> BTreeSet<String> {
    let is_wanted = |(name, window): &&(String, ServedWindow)| {
        name == request.metric
            && request.starts.contains(window.start)
            && window.end <= request.last_end
            && WantedValue::all(request.dimensions, &dimensions_of(&window.dimensions))
    };
    texts(stored.iter().filter(is_wanted).map(|(_, window)| window))
}

fn wanted(pairs: &[(&str, WantedValue)]) -> BTreeMap<String, WantedValue> {
    pairs.iter().map(|(name, wanted)| ((*name).to_owned(), wanted.clone())).collect()
}

/// What requests want of dimensions.
fn filters() -> Vec<BTreeMap<String, WantedValue>> {
    use WantedValue::{Any, Null};
    let text = |text: &str| WantedValue::Text(text.to_owned());
    vec![
        wanted(&[]),
        wanted(&[("country", text("US"))]),
        wanted(&[("country", text("US")), ("device", text("ios"))]),
        wanted(&[("country", text("é, \"x\""))]),
        wanted(&[("country", text("null"))]),
        wanted(&[("country", Any)]),
        wanted(&[("country", Null), ("device", Any)]),
        wanted(&[("device", Null)]),
        wanted(&[("city", Null)]),
        wanted(&[("city", Any)]),
        wanted(&[("a\"b", text("1"))]),
        wanted(&[("n", text("")), ("a\"b", Any)]),
        wanted(&[("$.country", text("US"))]),
        wanted(&[("0", Any)]),
    ]
}

fn spans() -> Vec<Span> {
    let at = |since, until| Span { since, until };
    vec![
        at(None, None),
        at(Some(START + HOUR), Some(START + 30 * HOUR)),
        at(Some(START + HOUR + 1), Some(START + 30 * HOUR + 1)),
        at(Some(START + DAY), Some(START + DAY + 1)),
        at(None, Some(START)),
        at(Some(START + 69 * HOUR), None),
        at(Some(START + 200 * HOUR), None),
    ]
}

fn compare(served: &mut dyn ServedMetrics, bench: &Bench) {
    let (stored, scheme) = (stored(bench), bench.store.scheme);
    let ends = [LATEST, START + HOUR, START + HOUR - 1, START + 31 * HOUR];
    for metric in [BY_COUNTRY, TOTAL, EARLY, "missing"] {
        for (number, dimensions) in filters().into_iter().enumerate() {
            // All spans without a filter, and some with each.
            let spans = spans().into_iter().flat_map(|span| ends.map(|end| (span, end))).enumerate();
            let some = spans.filter(|(at, _)| number == 0 || *at == 0 || at % 9 == number % 9);
            for (_, (starts, last_end)) in some {
                let request = WindowsRequest { starts, last_end, ..request(metric, &dimensions) };
                let found = served.windows(&request).unwrap();
                assert!(!found.is_more, "{scheme} {request:?}");
                assert_eq!(texts(&found.windows), expected(&stored, &request), "{scheme} {request:?}");
                assert_eq!(found.windows.len(), texts(&found.windows).len(), "{scheme} {request:?}");
            }
        }
    }
}

#[test]
fn windows_are_those_that_a_filter_over_all_rows_finds() {
    for bench in filled() {
        let mut served = serve(&bench);
        assert_eq!(stored(&bench).len(), rows().len() - 1, "{}", bench.store.scheme);
        compare(&mut *served, &bench);
        // An open one sees what is written meanwhile.
        revise(&bench);
        assert_eq!(stored(&bench).len(), rows().len(), "{}", bench.store.scheme);
        compare(&mut *served, &bench);
    }
}

#[test]
fn there_are_no_more_windows_than_the_limit() {
    for bench in filled() {
        let (mut served, stored, scheme) = (serve(&bench), stored(&bench), bench.store.scheme);
        for dimensions in filters() {
            for starts in spans() {
                let request = WindowsRequest { starts, ..request(BY_COUNTRY, &dimensions) };
                let expected = expected(&stored, &request);
                for limit in [0, 1, expected.len().saturating_sub(1), expected.len(), expected.len() + 1] {
                    let found = served.windows(&WindowsRequest { limit, ..request }).unwrap();
                    let FoundWindows { windows, is_more, .. } = found;
                    assert!(windows.len() <= limit, "{scheme} {request:?} {limit}: {}", windows.len());
                    assert!(texts(&windows).is_subset(&expected), "{scheme} {request:?} {limit}");
                    assert!(is_more || texts(&windows) == expected, "{scheme} {request:?} {limit}");
                    assert!(is_more || limit >= expected.len(), "{scheme} {request:?} {limit}");
                }
            }
        }
    }
}

#[test]
fn the_standing_is_what_the_store_keeps() {
    let nothing = BTreeMap::new();
    for bench in filled() {
        let (mut served, scheme) = (serve(&bench), bench.store.scheme);
        let mut standing = |metric: &str| served.windows(&request(metric, &nothing)).unwrap().standing;
        let kept = |watermark| [KeptProgress { pipeline: "p".to_owned(), metric: progress(watermark) }];
        assert_eq!(standing(BY_COUNTRY).progress, kept(START + DAY), "{scheme}");
        assert_eq!(standing(TOTAL).progress, [KeptProgress::of_rows(TOTAL)], "{scheme}");
        assert!(standing("missing").progress.iter().all(|kept| kept.pipeline.is_empty()), "{scheme}");
        assert_eq!((standing(BY_COUNTRY).corrections, standing(BY_COUNTRY).kept_since), (vec![], None), "{scheme}");
        let mut sink = bench.open_as("another", false).unwrap();
        sink.write(Kind::Metric, &batch(&[window(BY_COUNTRY, START + 90 * HOUR, HOUR, DIMENSIONS[0])])).unwrap();
        sink.note_metrics(&[progress(START + 100 * HOUR)]);
        sink.finish().unwrap();
        assert_eq!(standing(BY_COUNTRY).progress, kept(START + 100 * HOUR), "{scheme}");
        let Some(corrections) = bench.store.corrections else { continue };
        let range = Span { since: Some(START), until: Some(START + DAY) };
        let mut correction = (corrections.open)(&bench.location, &bench.options()).unwrap();
        let text = str::to_owned;
        let claim = Claim {
            metrics: vec![text(BY_COUNTRY)],
            range,
            spec: text("s"),
            who: text("w"),
            host: text("h"),
            reason: None,
            take_over: false,
            is_late: false,
        };
        correction.claim(&claim).unwrap();
        assert_eq!((standing(BY_COUNTRY).corrections, standing(TOTAL).corrections), (vec![range], vec![]), "{scheme}");
        correction.finish(&[]).unwrap();
        assert_eq!(standing(BY_COUNTRY).corrections, [], "{scheme}");
    }
}

#[test]
fn metrics_have_names_extents_sizes_and_dimensions() {
    for bench in filled() {
        let (mut served, scheme) = (serve(&bench), bench.store.scheme);
        revise(&bench);
        let found = served.metrics().unwrap();
        let names: Vec<&str> = found.iter().map(|metric| &*metric.name).collect();
        assert_eq!(names, [BY_COUNTRY, TOTAL, EARLY], "{scheme}");
        let stored = stored(&bench);
        for StoredMetric { name, first_start, last_end, sizes, dimensions } in &found {
            let windows = || stored.iter().filter(|(of, _)| of == name).map(|(_, window)| window);
            assert_eq!(windows().map(|window| window.start).min(), Some(*first_start), "{scheme} {name}");
            assert_eq!(windows().map(|window| window.end).max(), Some(*last_end), "{scheme} {name}");
            assert_eq!(&windows().map(|window| window.end - window.start).collect::<BTreeSet<_>>(), sizes);
            let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for (name, value) in windows().flat_map(|window| dimensions_of(&window.dimensions)) {
                values.entry(name).or_default().extend(value);
            }
            let found = dimensions.iter().map(|(name, values)| (name.clone(), values.iter().cloned().collect()));
            assert_eq!(found.collect::<BTreeMap<_, BTreeSet<_>>>(), values, "{scheme} {name}");
        }
        // 69 or 70 windows each, and one more of the last; device ios has two sets of dimensions.
        assert_eq!(found[0].dimensions["device"], ["ios", "web"], "{scheme}");
    }
}

#[test]
fn a_store_that_has_nothing_yet_has_no_metrics() {
    for bench in all().filter(|bench| !bench.store.is_remote() && bench.store.scheme != "sqlite") {
        let (mut served, nothing) = (serve(&bench), BTreeMap::new());
        assert_eq!(served.metrics().unwrap(), [], "{}", bench.store.scheme);
        assert_eq!(served.windows(&request("m", &nothing)).unwrap(), FoundWindows::default());
        fill(&bench);
        assert_eq!(served.metrics().unwrap().len(), 3, "{}", bench.store.scheme);
    }
}
