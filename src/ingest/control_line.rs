//! Control lines between the records of text (`--control`).

use crate::error::{Error, Result};
use crate::time::parse_instant;

/// Control lines that evt-view shows and that say nothing of their own in text.
const PASSED_OVER: [&str; 3] = ["progress", "barrier", "end"];

/// What a control line says.
pub(super) enum ControlLine {
    /// Nothing that matters to a reader of text.
    PassedOver,
    /// No event before this instant (µs) comes any more.
    Watermark(i64),
}

/// Parses line number `line` of the input `name`; `None` if it is no control line. Errors: exit status 65 if it begins as one and
/// is none.
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
