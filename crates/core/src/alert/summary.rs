//! The summary of an alert: a template with names in braces.

use crate::error::{Error, Result};
use crate::op::window::metric::Dimension;

/// The names that the template of any rule may contain. It may also contain the dimensions of its rule.
const NAMES: [&str; 6] = ["rule", "value", "threshold", "severity", "window", "dimensions"];

/// The values that a template may name.
pub struct SummaryValues<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// The value.
    pub value: Option<f64>,
    /// The threshold.
    pub threshold: f64,
    /// The severity.
    pub severity: &'a str,
    /// Length of the window (seconds).
    pub window: i64,
    /// The dimensions as canonical JSON.
    pub dimensions: &'a str,
    /// The names of the dimensions.
    pub by: &'a [String],
    /// Their values.
    pub values: &'a [Option<String>],
}

/// Splits a template into text and names; `None` for a brace without its partner. `{{` and `}}` are braces.
fn parts(template: &str) -> Option<Vec<(bool, &str)>> {
    let (mut parts, mut rest) = (vec![], template);
    while let Some(at) = rest.find(['{', '}']) {
        parts.push((false, &rest[..at]));
        let tail = &rest[at..];
        if tail.starts_with("{{") || tail.starts_with("}}") {
            parts.push((false, &tail[..1]));
            rest = &tail[2..];
            continue;
        }
        let end = tail.find('}').filter(|_| tail.starts_with('{'))?;
        parts.push((true, tail[1..end].trim()));
        rest = &tail[end + 1..];
    }
    parts.push((false, rest));
    Some(parts)
}

/// Checks that a template names only values that its alerts have. Errors: exit status 78.
pub fn check(template: &str, by: &[String]) -> Result<()> {
    let parts = parts(template).ok_or_else(|| Error::config("summary: expected {NAME}, found a single brace"))?;
    let by = by.iter().map(|by| Dimension::name_of(by)).collect::<Result<Vec<_>>>()?;
    for (_, name) in parts.iter().filter(|(is_name, _)| *is_name) {
        if !NAMES.contains(name) && !by.iter().any(|by| by == name) {
            let known: Vec<&str> = NAMES.iter().copied().chain(by.iter().map(String::as_str)).collect();
            return Err(Error::config(format!("summary: expected one of {}, found {{{name}}}", known.join(" "))));
        }
    }
    Ok(())
}

/// Returns the summary. Without a template it is the rule, the dimensions, the value and the threshold.
pub fn render(template: &str, values: &SummaryValues<'_>) -> String {
    let template = match (template.is_empty(), values.dimensions) {
        (false, _) => template,
        (true, "{}") => "{rule}: {value} (threshold {threshold})",
        (true, _) => "{rule} {dimensions}: {value} (threshold {threshold})",
    };
    let mut out = String::new();
    for (is_name, text) in parts(template).unwrap_or_default() {
        if !is_name {
            out.push_str(text);
            continue;
        }
        let at = values.by.iter().position(|by| Dimension::name_of(by).is_ok_and(|by| by == text));
        match (at, text) {
            (Some(at), _) => out.push_str(values.values.get(at).and_then(Option::as_deref).unwrap_or("NULL")),
            (None, "rule") => out.push_str(values.rule),
            (None, "value") => out.push_str(&values.value.map_or("no value".to_owned(), short)),
            (None, "threshold") => out.push_str(&short(values.threshold)),
            (None, "severity") => out.push_str(values.severity),
            (None, "window") => out.push_str(&format!("{}s", values.window)),
            (None, _) => out.push_str(values.dimensions),
        }
    }
    out.replace(char::is_control, " ")
}

/// Returns a number with at most six significant digits, as people read it; the columns of the row have all digits.
fn short(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    // Whole numbers keep their digits.
    if value.fract() == 0.0 { value.to_string() } else { rounded.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_at_most_six_significant_digits() {
        for (value, expected) in [
            (227.801_666_198_237_83, "227.802"),
            (0.012_345_678, "0.0123457"),
            (1_234_567.0, "1234567"),
            (1_234_567.8, "1234570"),
            (-0.5, "-0.5"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn a_template_names_values_and_dimensions() {
        let by = vec!["country".to_owned()];
        let values = SummaryValues {
            rule: "errors",
            value: Some(0.25),
            threshold: 0.01,
            severity: "critical",
            window: 60,
            dimensions: r#"{"country":"DE"}"#,
            by: &by,
            values: &[Some("DE".to_owned())],
        };
        let template = "{country}: {value} > {threshold} in {window} {{x}}";
        assert!(check(template, &by).is_ok());
        assert_eq!(render(template, &values), "DE: 0.25 > 0.01 in 60s {x}");
        assert_eq!(render("", &values), r#"errors {"country":"DE"}: 0.25 (threshold 0.01)"#);
        for wrong in ["{city}", "{", "a } b", "{value"] {
            assert!(check(wrong, &by).is_err(), "{wrong}");
        }
    }
}
