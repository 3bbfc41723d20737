//! Control lines between the records of text (`--control`): `{"$evt":{"watermark":"2030-01-01T00:00:00Z"}}`.

use evt_core::error::{Error, Result};
use evt_core::time::parse_instant;

/// Control lines that evt-view prints and that have no meaning in an input of text.
const PASSED_OVER: [&str; 3] = ["progress", "barrier", "end"];

/// A parsed control line.
pub(super) enum ControlLine {
    /// A control line that is ignored.
    PassedOver,
    /// No event before this instant (µs since 1970) follows.
    Watermark(i64),
}

/// Parses line number `line` of the input `name`; returns `None` if it is not a control line. Errors: exit status 65 if
/// it begins like a control line and is invalid.
pub(super) fn parse(text: &str, name: &str, line: i64) -> Result<Option<ControlLine>> {
    let Some(rest) = text.trim_start().strip_prefix("{\"$evt\"") else { return Ok(None) };
    let shown = || rest.chars().take(60).collect::<String>();
    let wrong = || Error::corrupt(format!("{name}:{line}: invalid control line: {{\"$evt\"{}", shown()));
    let value: serde_json::Value = serde_json::from_str(text).map_err(|_| wrong())?;
    if PASSED_OVER.iter().any(|name| value["$evt"][name].is_object()) {
        return Ok(Some(ControlLine::PassedOver));
    }
    let watermark = value["$evt"]["watermark"].as_str().and_then(parse_instant).ok_or_else(wrong)?;
    Ok(Some(ControlLine::Watermark(watermark)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::error::ErrorKind;

    #[test]
    fn only_a_watermark_is_obeyed_and_only_lines_that_begin_like_one_are_control_lines() {
        let watermark = r#" {"$evt":{"watermark":"2030-01-01T00:00:00Z"}}"#;
        let Ok(Some(ControlLine::Watermark(at))) = parse(watermark, "in", 1) else { panic!("a watermark") };
        assert_eq!(Some(at), parse_instant("2030-01-01T00:00:00Z"));
        for name in PASSED_OVER {
            let line = format!("{{\"$evt\":{{\"{name}\":{{}}}}}}");
            assert!(matches!(parse(&line, "in", 1), Ok(Some(ControlLine::PassedOver))), "{line}");
        }
        for record in ["", "{}", r#"{"a":{"$evt":1}}"#, r#"["$evt"]"#, r#"{ "$evt":{"watermark":"x"}}"#] {
            assert!(matches!(parse(record, "in", 1), Ok(None)), "{record} is a record");
        }
    }

    #[test]
    fn an_invalid_control_line_is_corrupt_input_with_its_line() {
        for line in [r#"{"$evt""#, r#"{"$evt":{}}"#, r#"{"$evt":{"watermark":"soon"}}"#, r#"{"$evt":{"barrier":1}}"#] {
            let error = parse(line, "in.jsonl", 7).err().expect("an error");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().starts_with("in.jsonl:7: "), "{error}");
        }
    }
}
