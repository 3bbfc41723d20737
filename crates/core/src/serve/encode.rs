//! Answers as JSON and CSV.

use super::answer::{MetricAnswer, ServedWindow};
use super::request::{AnswerForm, dimensions_of};
use crate::json::number::{special_word, write_number};
use crate::json::text::write_string;
use crate::time::write_instant;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

/// Returns an answer in a form.
pub fn encoded(answer: &MetricAnswer, form: AnswerForm) -> String {
    match form {
        AnswerForm::Json => json(answer),
        AnswerForm::Csv => csv(&answer.windows),
        AnswerForm::WideCsv => wide_csv(&answer.windows),
    }
}

/// Returns the content type of a form.
pub fn content_type(form: AnswerForm) -> &'static str {
    match form {
        AnswerForm::Json => "application/json",
        AnswerForm::Csv | AnswerForm::WideCsv => "text/csv; charset=utf-8",
    }
}

fn instant(micros: i64) -> String {
    let mut text = String::new();
    write_instant(&mut text, micros);
    text
}

fn json(answer: &MetricAnswer) -> String {
    let MetricAnswer { metric, windows, watermark, stores, corrections, missing } = answer;
    let mut out = String::with_capacity(256 + windows.len() * 200);
    out.push_str("{\"metric_name\":");
    write_string(&mut out, metric);
    out.push_str(",\"windows\":[");
    for (at, window) in windows.iter().enumerate() {
        out.push_str(if at > 0 { ",\n" } else { "\n" });
        write_window(&mut out, window);
    }
    out.push_str("],\n\"watermark\":");
    match watermark {
        Some(watermark) => write_quoted(&mut out, *watermark),
        None => out.push_str("null"),
    }
    let stores = stores.iter().map(|part| {
        serde_json::json!({ "store": part.store, "window_start": instant(part.since), "window_end": instant(part.until) })
    });
    // Writing to a String cannot fail.
    let _ = write!(out, ",\"stores\":{},\"corrections\":{corrections}", Value::from_iter(stores));
    if !missing.is_empty() {
        let _ = write!(out, ",\"partial\":true,\"missing_stores\":{}", serde_json::json!(missing));
    }
    out.push_str("}\n");
    out
}

fn write_quoted(out: &mut String, micros: i64) {
    out.push('"');
    write_instant(out, micros);
    out.push('"');
}

fn write_window(out: &mut String, window: &ServedWindow) {
    let ServedWindow { start, end, dimensions, value, rows, revision, is_final, .. } = window;
    out.push_str("{\"window_start\":");
    write_quoted(out, *start);
    out.push_str(",\"window_end\":");
    write_quoted(out, *end);
    out.push_str(",\"value\":");
    match value {
        None => out.push_str("null"),
        Some(value) => match special_word(*value) {
            None => write_number(out, *value),
            // JSON has no number for it.
            Some(word) => write_string(out, word),
        },
    }
    // Dimensions are JSON of evt.
    let _ = write!(out, ",\"dimensions\":{dimensions},\"rows\":{rows},\"revision\":{revision},\"final\":");
    out.push_str(match is_final {
        None => "null",
        Some(true) => "true",
        Some(false) => "false",
    });
    out.push('}');
}

/// Writes a cell of CSV.
fn cell(out: &mut String, text: &str) {
    if text.contains(['"', ',', '\n', '\r']) {
        // Writing to a String cannot fail.
        let _ = write!(out, "\"{}\"", text.replace('"', "\"\""));
    } else {
        out.push_str(text);
    }
}

fn value_text(value: Option<f64>) -> String {
    let mut text = String::new();
    if let Some(value) = value {
        write_number(&mut text, value);
    }
    text
}

/// Returns a line for each window, with a column for each dimension.
fn csv(windows: &[ServedWindow]) -> String {
    let mut by_text: BTreeMap<&str, BTreeMap<String, Option<String>>> = BTreeMap::new();
    for window in windows {
        by_text.entry(&window.dimensions).or_insert_with(|| dimensions_of(&window.dimensions));
    }
    let names: BTreeSet<&String> = by_text.values().flat_map(BTreeMap::keys).collect();
    let mut out = "window_start,window_end".to_owned();
    for name in &names {
        out.push(',');
        cell(&mut out, name);
    }
    out.push_str(",value,rows,revision,final\n");
    for window in windows {
        let _ = write!(out, "{},{}", instant(window.start), instant(window.end));
        for name in &names {
            out.push(',');
            let of_window = by_text.get(&*window.dimensions).and_then(|dimensions| dimensions.get(*name));
            cell(&mut out, of_window.and_then(Option::as_deref).unwrap_or_default());
        }
        let is_final = window.is_final.map_or(String::new(), |is_final| is_final.to_string());
        let _ = writeln!(out, ",{},{},{},{is_final}", value_text(window.value), window.rows, window.revision);
    }
    out
}

/// Returns a line for each window start and size, with a column for each set of dimensions.
fn wide_csv(windows: &[ServedWindow]) -> String {
    let sets: BTreeSet<&Arc<str>> = windows.iter().map(|window| &window.dimensions).collect();
    let mut out = "window_start,window_end".to_owned();
    for set in &sets {
        out.push(',');
        let named = dimensions_of(set).into_iter().map(|(name, value)| format!("{name}={}", value.unwrap_or_default()));
        let named: Vec<String> = named.collect();
        cell(&mut out, if named.is_empty() { "value".to_owned() } else { named.join(" ") }.as_str());
    }
    out.push('\n');
    let mut lines: BTreeMap<(i64, i64), BTreeMap<&Arc<str>, String>> = BTreeMap::new();
    for window in windows {
        let line = lines.entry((window.start, window.end)).or_default();
        line.insert(&window.dimensions, value_text(window.value));
    }
    for ((start, end), values) in lines {
        let _ = write!(out, "{},{}", instant(start), instant(end));
        for set in &sets {
            out.push(',');
            out.push_str(values.get(set).map_or("", String::as_str));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> MetricAnswer {
        let window = |start: i64, dimensions: &str, value: Option<f64>| ServedWindow {
            start: start * 60_000_000,
            end: (start + 1) * 60_000_000,
            dimensions: dimensions.into(),
            value,
            rows: 2,
            revision: 1,
            pane: 0,
            is_final: Some(start == 0),
        };
        MetricAnswer {
            metric: "m".to_owned(),
            windows: vec![
                window(0, "{\"country\":\"a,b\"}", Some(1.5)),
                window(0, "{\"country\":null}", None),
                window(1, "{\"country\":\"a,b\"}", Some(f64::NAN)),
            ],
            watermark: Some(0),
            stores: vec![],
            corrections: 0,
            missing: vec!["redis://localhost".to_owned()],
        }
    }

    #[test]
    fn a_line_of_csv_has_a_column_for_each_dimension() {
        let expected = "window_start,window_end,country,value,rows,revision,final\n\
                        1970-01-01T00:00:00.000000Z,1970-01-01T00:01:00.000000Z,\"a,b\",1.5,2,1,true\n\
                        1970-01-01T00:00:00.000000Z,1970-01-01T00:01:00.000000Z,,,2,1,true\n\
                        1970-01-01T00:01:00.000000Z,1970-01-01T00:02:00.000000Z,\"a,b\",NaN,2,1,false\n";
        assert_eq!(encoded(&answer(), AnswerForm::Csv), expected);
    }

    #[test]
    fn wide_csv_has_a_column_for_each_set_of_dimensions_and_gaps_are_empty() {
        let expected = "window_start,window_end,\"country=a,b\",country=\n\
                        1970-01-01T00:00:00.000000Z,1970-01-01T00:01:00.000000Z,1.5,\n\
                        1970-01-01T00:01:00.000000Z,1970-01-01T00:02:00.000000Z,NaN,\n";
        assert_eq!(encoded(&answer(), AnswerForm::WideCsv), expected);
    }

    #[test]
    fn json_names_missing_stores_and_has_texts_for_numbers_that_it_lacks() {
        let text: Value = serde_json::from_str(&encoded(&answer(), AnswerForm::Json)).unwrap();
        assert_eq!((&text["partial"], &text["windows"][2]["value"]), (&Value::from(true), &Value::from("NaN")));
        assert_eq!(
            (&text["windows"][1]["value"], &text["windows"][0]["dimensions"]["country"]),
            (&Value::Null, &Value::from("a,b"))
        );
        assert_eq!(text["watermark"], "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn a_correction_changes_the_digest_and_the_watermark_does_not() {
        let (one, mut other) = (answer(), answer());
        other.watermark = Some(1);
        assert_eq!(one.digest("q"), other.digest("q"));
        assert!(one.digest("q") != one.digest("r"));
        other.windows[0].revision += 1;
        assert!(one.digest("q") != other.digest("q"));
    }
}
