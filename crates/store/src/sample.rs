//! Rows for tests of stores: every kind, every nullable column with and without a value, and text and bytes that are
//! hard to store.

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array,
    Int64Array, ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder,
    StringDictionaryBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use evt_core::kind::Kind;
use evt_core::kind::alert::{Alert, AlertReason, AlertRule, AlertState, rule_id};
use evt_core::kind::alerts;
use evt_core::kind::metric::metric_id;
use evt_core::time::{DAY, HOUR};
use std::sync::Arc;

/// 2024-01-15T00:00:00Z.
pub const START: i64 = 1_705_276_800_000_000;

/// One metric row: key number, (revision, rows), retracted.
pub type Pane = (i64, i32, i64, bool);

fn instants(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn ids(values: impl Iterator<Item = [u8; 16]>) -> ArrayRef {
    Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.map(Some), 16).unwrap())
}

fn words<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    let mut words = StringDictionaryBuilder::<Int32Type>::new();
    values.for_each(|value| words.append_value(value));
    Arc::new(words.finish())
}

fn batch(kind: Kind, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(kind.schema(), columns).unwrap()
}

/// Makes rows `from..to` of an endless sample of `kind`; the same indices give the same rows.
pub fn rows(kind: Kind, from: i64, to: i64) -> RecordBatch {
    match kind {
        Kind::Event => batch(kind, event_columns(from, to, "-", 0)),
        Kind::Late => batch(kind, late_columns(from, to)),
        Kind::Metric => metrics(&(from..to).map(|n| (n, 0, n + 1, false)).collect::<Vec<_>>()),
        Kind::Dead => batch(kind, dead_columns(from, to)),
        Kind::Alert => batch(kind, alert_columns(from, to)),
    }
}

/// Events `from..to` at lines 1, 2, … of `origin`; another `from` represents the file of another day.
pub fn events(origin: &str, from: i64, to: i64) -> RecordBatch {
    batch(Kind::Event, event_columns(from, to, origin, from))
}

/// Events spread over `days` days, in a fixed disorder.
pub fn scattered(rows: i64, days: i64) -> RecordBatch {
    let batch = events("f", 0, rows);
    let mut columns = batch.columns().to_vec();
    let times = (0..rows).map(|n| Some(START + n * 7919 % days * DAY)).collect::<TimestampMicrosecondArray>();
    columns[8] = Arc::new(times.with_timezone("UTC")) as ArrayRef;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

fn event_columns(from: i64, to: i64, origin: &str, before: i64) -> Vec<ArrayRef> {
    let numbers = || from..to;
    let time = |n: i64| START + n * HOUR / 4;
    let text = |of: fn(i64) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values((from..to).map(of))) };
    vec![
        ids(numbers().map(|n| metric_id("id", n, 0, ""))),
        text(|n| format!("source {}", n % 3)),
        text(|_| "click".to_owned()),
        Arc::new(numbers().map(|n| (n % 2 == 0).then(|| format!("ü{n}"))).collect::<StringArray>()),
        text(|n| format!(r#"{{"n":{n},"deep":{{"a":[1.000000000000000000001,null]}},"s":"\u001fé"}}"#)),
        instants(numbers().map(|n| (n % 3 == 0).then(|| time(n) - 1))),
        instants(numbers().map(|n| (n % 5 != 0).then(|| time(n)))),
        instants(numbers().map(|n| Some(time(n) + 7))),
        instants(numbers().map(|n| Some(time(n)))),
        words(numbers().map(|_| origin)),
        words(numbers().map(|n| if n % 2 == 0 { "0" } else { "one" })),
        Arc::new(Int64Array::from_iter_values(numbers().map(|n| n - before + 1))),
        instants(numbers().map(|n| Some(time(n)))),
        Arc::new(numbers().map(|n| (n % 4 == 0).then_some(n)).collect::<Int64Array>()),
    ]
}

fn late_columns(from: i64, to: i64) -> Vec<ArrayRef> {
    let mut columns = event_columns(from, to, "late.jsonl", 0);
    let item = Arc::new(Field::new("item", DataType::Utf8, false));
    let mut names = ListBuilder::new(StringBuilder::new()).with_field(item);
    for n in from..to {
        (0..n % 3).for_each(|name| names.values().append_value(format!("metric \"{name}\"")));
        names.append(true);
    }
    columns.push(Arc::new(names.finish()));
    columns.push(Arc::new(Int64Array::from_iter_values((from..to).map(|n| n * 1000))));
    columns.push(Arc::new((from..to).map(|n| Some(n % 2 == 0)).collect::<BooleanArray>()));
    columns
}

fn dead_columns(from: i64, to: i64) -> Vec<ArrayRef> {
    let numbers = || from..to;
    let payload =
        |n: i64| if n % 2 == 0 { format!("{{broken {n}").into_bytes() } else { vec![0xff, 0, (n % 251) as u8] };
    let payloads: Vec<Vec<u8>> = numbers().map(payload).collect();
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut headers = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    for n in numbers() {
        for value in [Some(&b"text"[..]), Some(&[0xfe, 1][..]), None].into_iter().take((n % 4) as usize) {
            headers.keys().append_value("trace");
            headers.values().append_option(value);
        }
        headers.append(n % 4 != 0).unwrap();
    }
    vec![
        Arc::new(BinaryArray::from_iter_values(&payloads)),
        Arc::new(numbers().map(|n| (n % 3 == 0).then_some(&b"key"[..])).collect::<BinaryArray>()),
        Arc::new(headers.finish()),
        instants(numbers().map(|n| (n % 2 == 0).then_some(START + n))),
        words(numbers().map(|n| if n % 2 == 0 { "ParseError" } else { "EnvelopeError" })),
        Arc::new(StringArray::from_iter_values(numbers().map(|n| format!("byte {n}: why")))),
        words(numbers().map(|_| "evt-ingest")),
        words(numbers().map(|_| "-")),
        words(numbers().map(|_| "0")),
        Arc::new(Int64Array::from_iter_values(numbers())),
        instants(numbers().map(|n| Some(START + n * HOUR))),
        words(numbers().map(|_| "host")),
        Arc::new(Int32Array::from_iter_values(numbers().map(|_| 1))),
        Arc::new(numbers().map(|n| (n % 5 == 0).then_some(n << 20)).collect::<Int64Array>()),
        ids(numbers().map(|n| metric_id("letter", n, 0, ""))),
        Arc::new(numbers().map(|n| (n % 3 == 0).then(|| format!("a,b {n}"))).collect::<StringArray>()),
        Arc::new(numbers().map(|n| (n % 3 == 0).then_some(n % 2 == 0)).collect::<BooleanArray>()),
    ]
}

fn alert_columns(from: i64, to: i64) -> Vec<ArrayRef> {
    let alert = |n: i64| {
        // Every third alert is still firing; the others have both rows.
        let (of_five, state) = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)][(n % 5) as usize];
        let (n, state) = (n / 5 * 3 + of_five, AlertState::ALL[state]);
        let labels = (n % 2 == 1).then(|| ("team".to_owned(), format!("a \"{n}\"")));
        Alert {
            rule: Arc::new(AlertRule {
                rule_id: rule_id(&format!("rule {}", n % 2)),
                name: format!("rule {}", n % 2),
                severity: "warning".to_owned(),
                threshold: (n % 5 != 0).then_some(n as f64),
                labels: labels.into_iter().collect(),
            }),
            dimensions: if n % 3 == 0 { "{}".to_owned() } else { format!(r#"{{"country":"{n}"}}"#) },
            state,
            reason: AlertReason::ALL[(n % 6) as usize],
            value: (n % 4 != 0).then_some(n as f64 / 3.0),
            window_start: START + n * HOUR,
            window_end: START + n * HOUR + HOUR,
            since: START + n * HOUR,
            at: START + n * HOUR + if state == AlertState::Firing { 0 } else { HOUR / 2 },
            summary: format!("value of {n}"),
            caught_up: n % 7 == 0,
        }
    };
    alerts::batch(&(from..to).map(alert).collect::<Vec<_>>()).unwrap().columns().to_vec()
}

/// Makes metric rows; their values take every form of a float.
pub fn metrics(panes: &[Pane]) -> RecordBatch {
    let start = |key: i64| START + key * DAY / 8;
    let dimensions = |key: i64| format!(r#"{{"country":"{}"}}"#, key % 3);
    let value = |&(key, _, rows, retracted): &Pane| match key % 6 {
        _ if retracted => None,
        0 => Some(f64::NAN),
        1 => None,
        2 => Some(f64::NEG_INFINITY),
        _ => Some(rows as f64 + 0.1),
    };
    let id = |key: i64| metric_id("per minute", start(key), start(key) + HOUR, &dimensions(key));
    let columns: Vec<ArrayRef> = vec![
        ids(panes.iter().map(|pane| id(pane.0))),
        Arc::new(StringArray::from_iter_values(panes.iter().map(|_| "per minute"))),
        instants(panes.iter().map(|pane| Some(start(pane.0)))),
        instants(panes.iter().map(|pane| Some(start(pane.0) + HOUR))),
        Arc::new(StringArray::from_iter_values(panes.iter().map(|pane| dimensions(pane.0)))),
        Arc::new(panes.iter().map(value).collect::<Float64Array>()),
        Arc::new(Int64Array::from_iter_values(panes.iter().map(|pane| pane.2))),
        Arc::new(Int32Array::from_iter_values(panes.iter().map(|pane| pane.1))),
        Arc::new(Int32Array::from_iter_values(panes.iter().map(|_| 0))),
        Arc::new(panes.iter().map(|pane| Some(pane.3)).collect::<BooleanArray>()),
    ];
    batch(Kind::Metric, columns)
}

/// Formats every row as text, sorted, to compare two tables.
pub fn as_text(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in batches {
        let plain: Vec<ArrayRef> = batch.columns().iter().map(without_zone).collect();
        let columns: Vec<_> = plain.iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(cells.join(" | "));
        }
    }
    lines.sort();
    lines
}

/// Returns instants as whole numbers, because the formatter does not support time zones; other columns stay.
fn without_zone(column: &ArrayRef) -> ArrayRef {
    match column.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(instants) => Arc::new(instants.reinterpret_cast::<Int64Type>()),
        None => column.clone(),
    }
}

#[test]
fn older_alerts_are_widened() {
    use evt_core::kind::older::widened;
    let columns = ["rule", "state", "value", "window_start", "window_end", "since"];
    let indices = columns.map(|name| Kind::Alert.schema().index_of(name).unwrap());
    let older = Arc::new(Kind::Alert.schema().project(&indices).unwrap());
    let rows = rows(Kind::Alert, 0, 4);
    let rows = RecordBatch::try_new(older, indices.iter().map(|at| rows.column(*at).clone()).collect()).unwrap();
    let wide = widened(rows.clone()).unwrap();
    assert_eq!((wide.num_rows(), wide.column(0).null_count()), (4, 4));
    assert_eq!(wide.column_by_name("since"), rows.column_by_name("since"));
}
