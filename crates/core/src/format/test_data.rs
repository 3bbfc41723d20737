//! Shared by the tests of formats: third-party data, rows of every kind, and ways through a file.

use super::row::Builder;
use super::{Body, EncodeOptions, Format, InputForm, Limits, Opened, Records, Rows, Splitter, not_utf8, rows_of_parts};
use crate::error::Result;
use crate::json::text::write_string;
use crate::kind::Kind;
use arrow::array::RecordBatch;
use proptest::prelude::*;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;

/// Returns a file of the third-party data. Without the data prints a notice and returns `None`; under CI it fails.
pub fn data(path: &str) -> Option<PathBuf> {
    match std::env::var_os("EVT_DATA") {
        Some(root) => Some(PathBuf::from(root).join(path)),
        None if crate::in_ci::in_ci() => panic!("EVT_DATA is not set: {path} is needed"),
        None => {
            eprintln!("skipped: EVT_DATA is not set, {path} is not read");
            None
        }
    }
}

/// Reads the lines of a list of expected results.
pub fn expected(path: &str) -> Vec<serde_json::Value> {
    let Some(path) = data(path) else { return vec![] };
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the bytes of a file with `batches`.
pub fn encode(format: &Format, batches: &[RecordBatch]) -> Vec<u8> {
    let mut encoder = format.output.unwrap()(&batches[0].schema(), &EncodeOptions::default()).unwrap();
    let mut out = vec![];
    for batch in batches {
        encoder.encode(batch, &mut out).unwrap();
    }
    encoder.finish(&mut out).unwrap();
    out
}

/// Returns a file with `bytes`.
pub fn spool(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// Bounds that no test reaches by accident.
pub const LIMITS: Limits = Limits { ratio: crate::decompression::RATIO_MAX, text: 4 << 20 };

/// Opens a container.
pub fn open(format: &Format, bytes: &[u8]) -> Result<Opened> {
    match format.input {
        InputForm::Container(open) => open(spool(bytes), LIMITS),
        _ => panic!("{} is not a container", format.name),
    }
}

/// A record as the tests compare it: line, raw bytes, JSON text or the fault's message.
pub type SplitRecord = (u64, Vec<u8>, Result<String, String>);

/// Splits `input`, given in chunks that end at `cuts`.
pub fn split(splitter: &mut dyn Splitter, input: &[u8], cuts: &[usize]) -> Result<Vec<SplitRecord>> {
    let (mut seen, mut done) = (vec![], 0);
    let mut records = Records::default();
    let ends = cuts.iter().copied().filter(|cut| *cut < input.len());
    let mut ends: Vec<(usize, bool)> = ends.map(|cut| (cut, false)).collect();
    ends.push((input.len(), true));
    for (end, last) in ends {
        if end < done {
            continue;
        }
        let chunk = &input[done..end];
        records.clear();
        done += splitter.split(chunk, last, &mut records)?;
        for record in &records.rows {
            let raw = chunk[record.raw.clone()].to_vec();
            let mut unread = String::new();
            let text = || match record.body {
                Body::Raw => Ok(""),
                _ => str::from_utf8(&raw).map_err(|error| not_utf8(&error)),
            };
            let body = match (&record.body, records.json(record, text, &mut unread)) {
                (Body::Raw, _) => Ok(String::from_utf8_lossy(&raw).into_owned()),
                (_, Some(text)) => text.map(str::to_owned).map_err(|fault| fault.message),
                (Body::Document { fault, .. }, None) => {
                    Err(fault.as_ref().map_or("filtered".to_owned(), |fault| fault.message.clone()))
                }
                (_, None) => panic!("text is never cut"),
            };
            seen.push((record.line, raw, body));
        }
    }
    assert_eq!(done, input.len(), "the last call is done with everything");
    Ok(seen)
}

/// Returns the JSON texts of all records of a file; checks their numbers and order.
pub fn texts(format: &Format, bytes: &[u8]) -> Result<Vec<String>> {
    let mut texts = vec![];
    if let InputForm::Text(splitter) = format.input {
        for (_, _, body) in split(splitter(&super::TextOptions::default()).as_mut(), bytes, &[])? {
            texts.push(body.unwrap());
        }
        return Ok(texts);
    }
    for rows in rows_of_parts(open(format, bytes)?.parts) {
        match rows? {
            Rows::Batch(batch) => texts.extend(batch_texts(&batch)),
            Rows::Text(records) => {
                for record in &records.rows {
                    assert_eq!(record.line, texts.len() as u64 + 1);
                    let Body::Text(range) = &record.body else { panic!("a container has text") };
                    texts.push(records.text[range.clone()].to_owned());
                }
            }
        }
    }
    Ok(texts)
}

/// Returns the rows of a batch as JSON text.
pub fn batch_texts(batch: &RecordBatch) -> Vec<String> {
    let mut records = Records::default();
    let count = super::jsonl::rows_to_json(batch, 1, LIMITS.text, &mut records).unwrap();
    assert_eq!(count, batch.num_rows(), "the rows of a test are one piece");
    let text = |record: &super::Record| match &record.body {
        Body::Text(range) => records.text[range.clone()].to_owned(),
        other => panic!("{other:?}"),
    };
    records.rows.iter().map(text).collect()
}

/// Builds rows of a kind from their JSON texts.
pub fn build(kind: Kind, texts: &[String]) -> RecordBatch {
    let mut builder = Builder::new(kind);
    for text in texts {
        builder.push(text).unwrap_or_else(|fault| panic!("{}: {text}", fault.message));
    }
    builder.finish().unwrap()
}

/// Generates text that is hard for some format; never empty, because CSV has no empty text.
fn hard_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "[ ,\"\t\r\n\\\\a]{1,6}", "\\PC{1,6}", Just("-".to_owned()), "[\u{0}-\u{1f}]{1,3}"]
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    write_string(&mut out, text);
    out
}

fn object() -> impl Strategy<Value = String> {
    (hard_text(), hard_text(), any::<i64>())
        .prop_map(|(a, b, n)| format!("{{{}:{},\"n\":{n}.0e1}}", quoted(&a), quoted(&b)))
}

fn instant() -> impl Strategy<Value = String> {
    (crate::time::EARLIEST..=crate::time::LATEST).prop_map(|micros| quoted(&crate::time::format_instant(micros)))
}

fn uuid() -> impl Strategy<Value = String> {
    any::<u128>().prop_map(|id| quoted(&uuid::Uuid::from_u128(id).to_string()))
}

/// Generates a payload `name`: text, or base64 if it is not UTF-8.
fn payload(name: &'static str) -> impl Strategy<Value = String> {
    let bytes = prop_oneof![hard_text().prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 1..9)];
    bytes.prop_map(move |bytes| match str::from_utf8(&bytes) {
        Ok(text) => format!("\"{name}\":{}", quoted(text)),
        Err(_) => {
            let mut out = format!("\"{name}_base64\":\"");
            crate::json::base64::encode(&bytes, &mut out);
            out + "\""
        }
    })
}

fn headers() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        hard_text().prop_map(|text| quoted(&text)),
        Just("null".to_owned()),
        Just("{\"base64\":\"/w==\"}".to_owned()),
    ];
    prop::collection::vec((hard_text(), value), 0..3).prop_map(|headers| {
        let members: Vec<_> = headers.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
        format!("{{{}}}", members.join(","))
    })
}

fn number() -> impl Strategy<Value = String> {
    let special = prop_oneof![Just("\"NaN\""), Just("\"Infinity\""), Just("\"-Infinity\""), Just("-0.0")];
    prop_oneof![
        any::<i32>().prop_map(|n| format!("{n}.0")),
        any::<f64>().prop_map(finite),
        special.prop_map(str::to_owned)
    ]
}

fn finite(value: f64) -> String {
    if value.is_finite() { format!("{value:?}") } else { "0.5".to_owned() }
}

/// Generates JSON texts of rows of a kind, as `jsonl` writes them.
pub fn rows(kind: Kind) -> BoxedStrategy<Vec<String>> {
    let row = match kind {
        Kind::Metric => metric().boxed(),
        Kind::Dead => dead().boxed(),
        Kind::Event => event().prop_map(|event| format!("{{{event}}}")).boxed(),
        Kind::Late => (event(), prop::collection::vec(hard_text(), 0..3), any::<i64>(), any::<bool>())
            .prop_map(|(event, names, ms, partial)| {
                let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
                let names = names.join(",");
                format!("{{{event},\"late_for\":[{names}],\"lateness_ms\":{ms},\"partial\":{partial}}}")
            })
            .boxed(),
        Kind::Alert => alert().boxed(),
    };
    prop::collection::vec(row, 1..6).boxed()
}

fn alert() -> impl Strategy<Value = String> {
    let some = |name: &'static str| {
        prop_oneof![Just(String::new()), number().prop_map(move |number| format!("\"{name}\":{number},"))]
    };
    let names = (uuid(), uuid(), hard_text(), object(), hard_text());
    let numbers = (some("value"), some("threshold"), any::<bool>());
    (names, numbers, [instant(), instant(), instant(), instant()], object(), hard_text()).prop_map(
        |(names, (value, threshold, caught_up), [start, end, since, at], labels, summary)| {
            let (id, rule_id, rule, dimensions, severity) = names;
            let [rule, severity, summary] = [rule, severity, summary].map(|text| quoted(&text));
            format!(
                "{{\"alert_id\":{id},\"rule_id\":{rule_id},\"rule\":{rule},\"dimensions\":{dimensions},\
                 \"severity\":{severity},\"state\":\"firing\",\"reason\":\"rule gone\",{value}{threshold}\
                 \"window_start\":{start},\"window_end\":{end},\"since\":{since},\"at\":{at},\
                 \"labels\":{labels},\"summary\":{summary},\"caught_up\":{caught_up}}}"
            )
        },
    )
}

fn metric() -> impl Strategy<Value = String> {
    let value = prop_oneof![Just(String::new()), number().prop_map(|value| format!("\"value\":{value},"))];
    let names = (uuid(), hard_text(), instant(), instant(), object());
    (names, value, any::<i64>(), any::<i32>(), any::<bool>()).prop_map(|(names, value, rows, revision, retracted)| {
        let (id, name, start, end, dimensions) = names;
        let name = quoted(&name);
        format!(
            "{{\"metric_id\":{id},\"metric_name\":{name},\"window_start\":{start},\"window_end\":{end},\
             \"dimensions\":{dimensions},{value}\"rows\":{rows},\"revision\":{revision},\"pane\":0,\
             \"retracted\":{retracted}}}"
        )
    })
}

fn dead() -> impl Strategy<Value = String> {
    let some = |strategy: BoxedStrategy<String>| prop_oneof![Just(String::new()), strategy.prop_map(|text| text + ",")];
    let bytes = (
        payload("original_payload"),
        some(payload("original_key").boxed()),
        some(headers().prop_map(|headers| format!("\"headers\":{headers}")).boxed()),
        some(instant().prop_map(|at| format!("\"arrived_at\":{at}")).boxed()),
        uuid(),
    );
    (bytes, hard_text(), hard_text(), any::<i64>(), instant()).prop_map(|(bytes, message, topic, offset, at)| {
        let (payload, key, headers, arrived, id) = bytes;
        let (message, topic) = (quoted(&message), quoted(&topic));
        format!(
            "{{{payload},{key}{headers}{arrived}\"error_type\":\"ParseError\",\"error_message\":{message},\
             \"stage\":\"evt-ingest\",\"source_topic\":{topic},\"partition\":\"0\",\"offset\":{offset},\
             \"failed_at\":{at},\"producer_host\":\"h\",\"attempts\":1,\"letter_id\":{id}}}"
        )
    })
}

/// Generates the members of an event.
fn event() -> impl Strategy<Value = String> {
    let user = prop_oneof![Just(String::new()), hard_text().prop_map(|user| format!("\"user_id\":{},", quoted(&user)))];
    let schema = prop_oneof![Just(String::new()), any::<i64>().prop_map(|id| format!(",\"schema_id\":{id}"))];
    let names = (uuid(), hard_text(), hard_text(), user, object());
    (names, instant(), instant(), any::<i64>(), schema).prop_map(|(names, one, two, offset, schema)| {
        let (id, source, event_type, user, properties) = names;
        let (source, event_type) = (quoted(&source), quoted(&event_type));
        format!(
            "\"event_id\":{id},\"source\":{source},\"event_type\":{event_type},{user}\"properties\":{properties},\
             \"server_timestamp\":{one},\"ingested_at\":{two},\"event_time\":{one},\"origin\":{source},\
             \"partition\":\"0\",\"offset\":{offset},\"stream_time\":{one}{schema}"
        )
    })
}

/// A fixed type.
pub const FIXED: &str = r#"{"type":"fixed","name":"f","size":3}"#;
/// An enum.
pub const SYMBOLS: &str = r#"{"type":"enum","name":"e","symbols":["A","B"]}"#;
/// A record.
pub const POINT: &str = r#"{"type":"record","name":"p","fields":[{"name":"x","type":"int"}]}"#;

/// Returns a type with a logical type.
pub fn logical(base: &str, name: &str) -> String {
    format!(r#"{{"type":{base},"logicalType":"{name}"}}"#)
}

/// Returns a decimal of six digits, two of them after the point.
pub fn decimal(base: &str) -> String {
    format!(r#"{{{base},"logicalType":"decimal","precision":6,"scale":2}}"#)
}

/// Returns types, and a value of each as the decoder writes it.
pub fn decoded_values() -> Vec<(String, &'static str)> {
    let int = |name| logical("\"int\"", name);
    let long = |name| logical("\"long\"", name);
    let literal = [
        ("\"boolean\"", "true"),
        ("\"int\"", "-2147483648"),
        ("\"long\"", "9223372036854775807"),
        ("\"float\"", "0.1"),
        ("\"float\"", "\"-Infinity\""),
        ("\"double\"", "-1.7976931348623157e308"),
        ("\"double\"", "\"NaN\""),
        ("\"string\"", r#""é \"\\\n""#),
        ("\"bytes\"", "\"Zm9vYg==\""),
        (FIXED, "\"Zm9v\""),
        (SYMBOLS, "\"B\""),
        (r#"{"type":"fixed","name":"u","size":16,"logicalType":"uuid"}"#, "\"58aedb27-dcc1-534a-ba59-63b291b9768e\""),
        (r#"{"type":"fixed","name":"u","size":12,"logicalType":"duration"}"#, "\"P1M2DT3.004S\""),
        (r#"{"type":"array","items":["null","int"]}"#, "[1,null,3]"),
        (r#"{"type":"array","items":{"type":"array","items":"string"}}"#, r#"[[],["a","b"]]"#),
        (r#"{"type":"map","values":"long"}"#, r#"{"a":1,"b c":-1}"#),
        (POINT, r#"{"x":7}"#),
        (r#"["null","string"]"#, "\"null\""),
    ];
    let made = [
        (int("date"), "\"2024-02-29\""),
        (int("date"), "\"0000-01-01\""),
        (int("time-millis"), "\"23:59:59.999\""),
        (long("time-micros"), "\"00:00:00.000001\""),
        (long("timestamp-millis"), "\"1969-12-31T23:59:59.999000Z\""),
        (long("timestamp-micros"), "\"2024-01-15T10:00:00.123456Z\""),
        (long("timestamp-nanos"), "\"1677-09-21T00:12:43.145224192Z\""),
        (long("timestamp-nanos"), "\"2024-01-15T10:00:00.123456789Z\""),
        (long("local-timestamp-micros"), "\"2024-01-15T10:00:00.123456\""),
        (long("local-timestamp-nanos"), "\"2024-01-15T10:00:00.123456789\""),
        (decimal(r#""type":"bytes""#), "-1234.50"),
        (decimal(r#""type":"fixed","name":"d","size":5"#), "-0.01"),
        (logical("\"string\"", "uuid"), "\"58aedb27-dcc1-534a-ba59-63b291b9768e\""),
    ];
    literal.map(|(kind, value)| (kind.to_owned(), value)).into_iter().chain(made).collect()
}
