//! Dimensions as RFC 8785 canonical JSON objects, which are part of a metric's natural key.

use crate::json::text::write_string;

/// Appends the canonical object of `names` and their `values`; a missing value is null. Keys are in the order of their
/// UTF-16 code units, without white space. If a name occurs twice, the last value counts.
pub fn write_dimensions(names: &[&str], values: &[Option<&str>], out: &mut String) {
    let mut order: Vec<(&str, Option<&str>)> = names.iter().copied().zip(values.iter().copied()).collect();
    order.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push('{');
    for (at, (name, value)) in order.iter().enumerate() {
        if order.get(at + 1).is_some_and(|(next, _)| next == name) {
            continue;
        }
        if !out.ends_with('{') {
            out.push(',');
        }
        write_string(out, name);
        out.push(':');
        match value {
            Some(value) => write_string(out, value),
            None => out.push_str("null"),
        }
    }
    out.push('}');
}

/// Returns dimensions in the form of [`write_dimensions`], whatever the order of their names, white space and escapes;
/// `None` if `text` is not an object of strings and nulls.
pub fn canonical_dimensions(text: &str) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let mut names = Vec::with_capacity(object.len());
    let mut values = Vec::with_capacity(object.len());
    for (name, value) in &object {
        names.push(name.as_str());
        values.push(match value {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.as_str()),
            _ => return None,
        });
    }
    let mut canonical = String::with_capacity(text.len());
    write_dimensions(&names, &values, &mut canonical);
    Some(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(names: &[&str], values: &[Option<&str>]) -> String {
        let mut out = String::new();
        write_dimensions(names, values, &mut out);
        out
    }

    #[test]
    fn dimensions_are_canonical_json() {
        assert_eq!(written(&[], &[]), "{}");
        assert_eq!(written(&["b", "a"], &[Some("x\"\n"), None]), r#"{"a":null,"b":"x\"\n"}"#);
    }

    #[test]
    fn keys_are_in_the_order_of_their_utf16_code_units() {
        // RFC 8785 3.2.3: U+1F600 is D83D DE00 in UTF-16 and so precedes U+FB33, unlike in UTF-8.
        assert_eq!(
            written(&["\u{fb33}", "\u{1f600}"], &[Some("1"), Some("2")]),
            "{\"\u{1f600}\":\"2\",\"\u{fb33}\":\"1\"}"
        );
    }

    #[test]
    fn another_spelling_of_dimensions_has_the_same_canonical_form() {
        for text in [
            r#"{"b":"é\n","a":null}"#,
            r#" { "a" : null , "b" : "\u00e9\u000a" } "#,
            r#"{"b":"x","a":null,"\u0062":"é\n"}"#,
        ] {
            assert_eq!(canonical_dimensions(text).as_deref(), Some(r#"{"a":null,"b":"é\n"}"#), "{text}");
        }
        for text in [r#"{"a":1}"#, "[]", "{", r#"{"a":"\ud800"}"#] {
            assert_eq!(canonical_dimensions(text), None, "{text}");
        }
    }

    #[test]
    fn of_equal_names_the_last_counts() {
        assert_eq!(written(&["a", "a"], &[Some("1"), Some("2")]), r#"{"a":"2"}"#);
    }
}
