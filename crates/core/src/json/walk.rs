//! Walks over JSON that [`super::scan`] has validated: no second validation, but no panic on other text either.

use super::predictor::KeyPredictor;
use super::scan::{at, proved_string_end, skip_space};
use super::text::unescape;

/// Calls `visit(key, value)` for each member of a JSON object, in order, until it returns false.
///
/// `key` is the text between the quotes, still escaped; `value` is the value's text as received.
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
        let Some(key) = proved_string_end(bytes, p + 1) else { return };
        let key_start = p + 1;
        p = key.quote + 1;
        while matches!(at(bytes, p), b' ' | b'\t' | b'\r' | b'\n' | b':') {
            p += 1;
        }
        let Some((end, _)) = proved_end(bytes, p) else { return };
        if !visit(&object[key_start..key.quote], &object[p..end]) {
            return;
        }
        p = end;
    }
}

/// Returns the value of the last member called `name` of a JSON object.
pub fn last_member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    members(object, |key, value| {
        if unescape(key) == name {
            found = Some(value);
        }
        true
    });
    found
}

/// Calls `visit(index, value)` for each item of a JSON array, in order, until it returns false.
#[inline]
pub fn items<'a>(array: &'a str, mut visit: impl FnMut(usize, &'a str) -> bool) {
    let bytes = array.as_bytes();
    let mut p = skip_space(bytes, 1);
    for index in 0.. {
        let Some((end, _)) = proved_end(bytes, p).filter(|(end, _)| *end > p) else { return };
        if !visit(index, &array[p..end]) {
            return;
        }
        p = skip_space(bytes, end);
        if at(bytes, p) != b',' {
            return;
        }
        p = skip_space(bytes, p + 1);
    }
}

/// A range of bytes in a text.
#[derive(Clone, Copy, Debug)]
pub struct ByteRange {
    /// Its first byte.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
}

/// A member in a walk with predicted keys.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    object: &'a str,
    key: ByteRange,
    value: ByteRange,
    /// The mark that `meaning` gave the key.
    pub mark: u32,
    /// Whether the value is a string without escapes.
    pub plain: bool,
}

impl<'a> Member<'a> {
    /// Returns the text between the key's quotes, still escaped.
    #[inline(always)]
    pub fn key(&self) -> &'a str {
        &self.object[self.key.start..self.key.end]
    }

    /// Returns the value's text as received.
    #[inline(always)]
    pub fn value(&self) -> &'a str {
        &self.object[self.value.start..self.value.end]
    }

    /// Returns the byte range of the value in the text of the object.
    #[inline(always)]
    pub fn value_range(&self) -> ByteRange {
        self.value
    }
}

/// Like [`members`], for objects with mostly the same keys: `predictor` predicts the keys, and `meaning` returns the
/// mark of each new key, which is still escaped.
#[inline(always)]
pub fn predicted_members<'a>(
    object: &'a str,
    predictor: &mut KeyPredictor,
    meaning: impl Fn(&'a str) -> u32,
    mut visit: impl FnMut(Member<'a>) -> bool,
) {
    let bytes = object.as_bytes();
    let mut p = skip_space(bytes, 0) + 1;
    let mut cursor = predictor.start();
    loop {
        while matches!(at(bytes, p), b' ' | b'\t' | b'\r' | b'\n' | b',') {
            p += 1;
        }
        let (mark, key, value) = match predictor.expect(bytes, p, cursor) {
            Some(step) => {
                cursor = step.cursor;
                (step.mark, ByteRange { start: p + 1, end: step.end - 2 }, step.end)
            }
            None => {
                if at(bytes, p) != b'"' {
                    return;
                }
                let Some(end) = proved_string_end(bytes, p + 1) else { return };
                let mark = meaning(&object[p + 1..end.quote]);
                if !end.escaped && at(bytes, end.quote + 1) == b':' {
                    cursor = predictor.learn(cursor, &bytes[p..end.quote + 2], mark);
                }
                (mark, ByteRange { start: p + 1, end: end.quote }, end.quote + 1)
            }
        };
        let mut start = value;
        while matches!(at(bytes, start), b' ' | b'\t' | b'\r' | b'\n' | b':') {
            start += 1;
        }
        let Some((end, plain)) = proved_end(bytes, start) else { return };
        if !visit(Member { object, key, value: ByteRange { start, end }, mark, plain }) {
            return;
        }
        p = end;
    }
}

/// Returns the index after the valid value that starts at `p`, and whether it is a string without escapes.
#[inline(always)]
fn proved_end(bytes: &[u8], p: usize) -> Option<(usize, bool)> {
    match at(bytes, p) {
        b'"' => proved_string_end(bytes, p + 1).map(|end| (end.quote + 1, !end.escaped)),
        b'{' | b'[' => Some((container_end(bytes, p)?, false)),
        _ => {
            let mut end = p;
            while !matches!(at(bytes, end), 0 | b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n') {
                end += 1;
            }
            Some((end, false))
        }
    }
}

fn container_end(bytes: &[u8], mut p: usize) -> Option<usize> {
    let mut depth = 0u32;
    loop {
        match at(bytes, p) {
            b'"' => p = proved_string_end(bytes, p + 1)?.quote,
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

/// Returns the content of `value` between its quotes, still escaped, if it is a string.
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
    fn a_walk_with_predicted_keys_finds_the_same_members() {
        let objects = [
            r#"{"a":1,"b\u0062":"x\"y","c":"plain","d":{"a":[1,"}"]},"a":2}"#,
            r#" { "a" : 1e400 , "b\n":"x\"y","c":{"d":[1,{"e":"}"}]},"f":[] ,"g":null}"#,
            r#"{"a":1,"c":"plain","another_name_longer_than_sixteen_bytes":true,"a":2}"#,
            "{}",
        ];
        let mut predictor = KeyPredictor::default();
        for object in objects.iter().cycle().take(12) {
            let mut seen = vec![];
            predicted_members(
                object,
                &mut predictor,
                |key| key.len() as u32,
                |member| {
                    assert_eq!(member.mark as usize, member.key().len());
                    let content = string_content(member.value());
                    assert_eq!(member.plain, content.is_some_and(|content| !content.contains('\\')));
                    seen.push((member.key(), member.value()));
                    true
                },
            );
            assert_eq!(seen, pairs(object));
        }
    }

    #[test]
    fn text_cut_short_ends_the_walk() {
        let object = r#"{"a":{"b":[1,"c"]},"d":"e"}"#;
        let whole = pairs(object);
        let ends: Vec<usize> =
            whole.iter().map(|(_, value)| object.find(value).expect("it is a part") + value.len()).collect();
        for cut in 0..object.len() {
            let seen = pairs(&object[..cut]);
            let complete = ends.iter().filter(|end| **end <= cut).count();
            assert!(seen.len() >= complete, "{cut}: {seen:?}");
            // The last member may be incomplete.
            if let Some(((key, value), before)) = seen.split_last() {
                let (whole_key, whole_value) = whole[before.len()];
                assert!(whole.starts_with(before) && *key == whole_key, "{cut}: {seen:?}");
                assert!(whole_value.starts_with(value), "{cut}: {seen:?}");
            }
            let mut predictor = KeyPredictor::default();
            for (text, expected) in [(object, &whole), (&object[..cut], &seen)] {
                let mut predicted = vec![];
                predicted_members(
                    text,
                    &mut predictor,
                    |_| 0,
                    |member| {
                        predicted.push((member.key(), member.value()));
                        true
                    },
                );
                assert_eq!(predicted, *expected, "{cut}");
            }
        }
    }
}
