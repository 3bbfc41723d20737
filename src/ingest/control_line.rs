//! Control lines between the records of text (`--control`): `{"$evt":{"watermark":"2030-01-01T00:00:00Z"}}`.

use crate::error::{Error, Result};
use crate::time::parse_instant;

/// Control lines that evt-view prints and that have no meaning in an input of text.
const PASSED_OVER: [&str; 3] = ["progress", "barrier", "end"];

/// A parsed control line.
pub(super) enum ControlLine {
    /// A control line that is ignored.
    PassedOver,
    /// No event before this instant (µs since 1970) follows.
    Watermark(i64),
}

/// Parses line number `line` of the input `name`; returns `None` if it is no control line. Errors: exit status 65 if it begins
/// like a control line and is invalid.
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
