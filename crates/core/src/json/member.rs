//! Assigns members of JSON objects.

use super::text::{unescape, write_string};
use super::walk::{last_member, members};
use std::fmt::Write;

/// Returns an object with the member at `path` replaced, added at its end, or removed if `value` is `None`. Other
/// members stay as received.
pub fn with_member(object: &str, path: &[String], value: Option<&str>) -> String {
    let Some((first, rest)) = path.split_first() else { return object.to_owned() };
    let old = last_member(object, first);
    let inner = old.filter(|old| old.starts_with('{')).unwrap_or("{}");
    let new = match (rest, value) {
        ([], value) => value.map(str::to_owned),
        (_, None) if old.is_none_or(|old| !old.starts_with('{')) => old.map(str::to_owned),
        (rest, value) => Some(with_member(inner, rest, value)),
    };
    let mut out = String::with_capacity(object.len() + value.map_or(0, str::len));
    let mut add = |key: &str, value: &str| {
        out.push(if out.is_empty() { '{' } else { ',' });
        let _ = write!(out, "{key}:{value}");
    };
    let mut new = new;
    members(object, |key, value| {
        let quoted = format!("\"{key}\"");
        if unescape(key) != *first {
            add(&quoted, value);
        } else if let Some(new) = new.take() {
            add(&quoted, &new);
        }
        true
    });
    if let Some(new) = new {
        let mut key = String::new();
        write_string(&mut key, first);
        add(&key, &new);
    }
    if out.is_empty() { "{}".to_owned() } else { out + "}" }
}
