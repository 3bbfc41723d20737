//! Answers and errors as Prometheus has them in JSON.

use crate::error::{QueryError, QueryErrorKind};
use crate::evaluate::answer::{AnswerSeries, AnswerValue, InstantValue, QueryAnswer};
use crate::labels::LabelSet;
use crate::range::QueryRange;
use serde_json::{Value, json};
use std::fmt::Write;

/// Returns the labels as an object.
fn metric(labels: &LabelSet) -> String {
    let labels = labels.iter().map(|label| (label.name.clone(), Value::from(label.value.as_str())));
    Value::Object(labels.collect()).to_string()
}

/// Writes `[SECONDS,"VALUE"]`.
fn sample(out: &mut String, InstantValue { at, value }: InstantValue) {
    let sign = if at < 0 { "-" } else { "" };
    // Writing to a String cannot fail.
    let _ = match (at.unsigned_abs() / 1_000, at.unsigned_abs() % 1_000) {
        (seconds, 0) => write!(out, "[{sign}{seconds},\""),
        (seconds, millis) => write!(out, "[{sign}{seconds}.{millis:03},\""),
    };
    let _ = match value {
        value if value.is_nan() => write!(out, "NaN\"]"),
        value if value.is_infinite() => write!(out, "{}Inf\"]", if value > 0.0 { '+' } else { '-' }),
        value => write!(out, "{value}\"]"),
    };
}

/// Writes a list of parts, with commas between them.
fn list<T>(out: &mut String, parts: &[T], mut write: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, part);
    }
    out.push(']');
}

/// Returns the response to a query of one instant.
pub fn instant(answer: &QueryAnswer) -> String {
    let mut out = String::new();
    let kind = match &answer.value {
        AnswerValue::Scalar(values) => {
            for value in values.iter().take(1) {
                sample(&mut out, *value);
            }
            "scalar"
        }
        AnswerValue::Series(series) => {
            list(&mut out, series, |out, AnswerSeries { labels, values }| {
                let _ = write!(out, "{{\"metric\":{},\"value\":", metric(labels));
                for value in values.iter().take(1) {
                    sample(out, *value);
                }
                out.push('}');
            });
            "vector"
        }
    };
    response(kind, &out, &answer.warnings)
}

/// Returns the response to a query of a range: a number is a series without labels there, and the series are in the
/// order of their labels.
pub fn range(answer: QueryAnswer, range: &QueryRange) -> String {
    let mut series = match answer.value {
        AnswerValue::Series(series) => series,
        AnswerValue::Scalar(values) => vec![AnswerSeries { labels: LabelSet::default(), values }],
    };
    series.sort_by(|one, other| one.labels.cmp(&other.labels));
    let mut out = String::with_capacity(series.len() * range.steps().count().min(1_000) * 24);
    list(&mut out, &series, |out, AnswerSeries { labels, values }| {
        let _ = write!(out, "{{\"metric\":{},\"values\":", metric(labels));
        list(out, values, |out, value| sample(out, *value));
        out.push('}');
    });
    response("matrix", &out, &answer.warnings)
}

fn response(kind: &str, result: &str, warnings: &[String]) -> String {
    let warnings = if warnings.is_empty() { String::new() } else { format!(",\"warnings\":{}", json!(warnings)) };
    format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":{result}}}{warnings}}}")
}

/// Returns the response with other data.
pub fn data(data: &Value, warnings: &[String]) -> String {
    match warnings {
        [] => json!({ "status": "success", "data": data }).to_string(),
        warnings => json!({ "status": "success", "data": data, "warnings": warnings }).to_string(),
    }
}

/// Returns the response of an error.
pub fn error(error: &QueryError) -> String {
    let kind = match error.kind() {
        QueryErrorKind::BadData => "bad_data",
        QueryErrorKind::Execution => "execution",
        QueryErrorKind::Unavailable => "unavailable",
    };
    json!({ "status": "error", "errorType": kind, "error": error.to_string() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_texts_and_instants_are_seconds() {
        let value = |at, value| InstantValue { at, value };
        let labels = LabelSet::new([("__name__", "m"), ("a", "\"x\"")]);
        let series = |values| AnswerValue::Series(vec![AnswerSeries { labels: labels.clone(), values }]);
        let answer = |value| QueryAnswer { value, warnings: vec![] };
        assert_eq!(
            instant(&answer(series(vec![value(1_500, 0.1)]))),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"m","a":"\"x\""},"value":[1.500,"0.1"]}]}}"#
        );
        assert_eq!(
            instant(&answer(AnswerValue::Scalar(vec![value(-500, f64::NEG_INFINITY)]))),
            r#"{"status":"success","data":{"resultType":"scalar","result":[-0.500,"-Inf"]}}"#
        );
        let warned =
            QueryAnswer { value: series(vec![value(1_000, 1e21), value(2_000, f64::NAN)]), warnings: vec!["w".into()] };
        assert_eq!(
            range(warned, &QueryRange::new(1_000, 2_000, 1_000).unwrap()),
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"m","a":"\"x\""},"values":[[1,"1000000000000000000000"],[2,"NaN"]]}]},"warnings":["w"]}"#
        );
        assert_eq!(error(&QueryError::bad_data("no")), r#"{"error":"no","errorType":"bad_data","status":"error"}"#);
    }
}
