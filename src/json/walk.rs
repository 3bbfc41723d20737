//! Walks over text that [`super::scan`] has proved to be JSON: no validation again, but no panic either.

use super::scan::{at, skip_space, string_end};

/// Calls `visit(key, value)` for each member of a JSON object, in order, until it returns false.
///
/// `key` is what stands between the quotes, still escaped; `value` is the value's text as received.
#[inline]
pub fn members<'a>(object: &'a str, mut visit: impl FnMut(&'a str, &'a str) -> bool) {
    let bytes = object.as_bytes();
    let mut p = skip_space(bytes, 0) + 1;
    loop {
        while matches!(at(bytes, p), b' ' | b'\t' | b'\r' | b'\n' | b',') {
            p += 1;
        }
        if at(bytes, p) != b'"' {
            return;
        }
        let Some(key) = string_end(bytes, p + 1) else { return };
        let key_start = p + 1;
        p = key.quote + 1;
        while matches!(at(bytes, p), b' ' | b'\t' | b'\r' | b'\n' | b':') {
            p += 1;
        }
        let Some(end) = proved_end(bytes, p) else { return };
        if !visit(&object[key_start..key.quote], &object[p..end]) {
            return;
        }
        p = end;
    }
}

/// Index after the proved value that starts at `p`.
#[inline(always)]
fn proved_end(bytes: &[u8], p: usize) -> Option<usize> {
    match at(bytes, p) {
        b'"' => Some(string_end(bytes, p + 1)?.quote + 1),
        b'{' | b'[' => container_end(bytes, p),
        _ => {
            let mut end = p;
            while !matches!(at(bytes, end), 0 | b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n') {
                end += 1;
            }
            Some(end)
        }
    }
}

fn container_end(bytes: &[u8], mut p: usize) -> Option<usize> {
    let mut depth = 0u32;
    loop {
        match at(bytes, p) {
            b'"' => p = string_end(bytes, p + 1)?.quote,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(p + 1);
                }
            }
            0 if p >= bytes.len() => return None,
            _ => {}
        }
        p += 1;
    }
}

/// The content of `value` between its quotes, still escaped, if it is a string.
#[inline]
pub fn string_content(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(object: &str) -> Vec<(&str, &str)> {
        let mut pairs = vec![];
        members(object, |key, value| {
            pairs.push((key, value));
            true
        });
        pairs
    }

    #[test]
    fn members_come_in_order_with_their_text_as_received() {
        let object = r#" { "a" : 1e400 , "b\n":"x\"y","c":{"d":[1,{"e":"}"}]},"f":[] ,"g":null}"#;
        let expected =
            [("a", "1e400"), (r"b\n", r#""x\"y""#), ("c", r#"{"d":[1,{"e":"}"}]}"#), ("f", "[]"), ("g", "null")];
        assert_eq!(pairs(object), expected);
        assert_eq!(pairs("{}"), []);
    }

    #[test]
    fn text_cut_short_ends_the_walk() {
        let object = r#"{"a":{"b":[1,"c"]},"d":"e"}"#;
        for end in 0..object.len() {
            pairs(&object[..end]);
        }
    }
}
