//! String content: unescapes JSON strings and writes them.

use std::borrow::Cow;
use std::ops::Range;

/// Returns the content of a string, given the text between its quotes (valid JSON).
///
/// A lone surrogate, which JSON's grammar allows and UTF-8 cannot encode, becomes U+FFFD.
#[inline]
pub fn unescape(raw: &str) -> Cow<'_, str> {
    // An inline loop: names are short, and a search would be a call.
    if raw.bytes().any(|byte| byte == b'\\') { Cow::Owned(unescaped(raw)) } else { Cow::Borrowed(raw) }
}

#[cold]
fn unescaped(raw: &str) -> String {
    serde_json::from_str::<String>(&format!("\"{raw}\"")).unwrap_or_else(|_| unescape_lossy(raw))
}

/// Returns the part of a text in `range`, as indexing does. Mapping takes several per record, and indexing is a call.
#[inline(always)]
pub fn part(text: &str, range: Range<usize>) -> &str {
    text.split_at(range.end).0.split_at(range.start).1
}

/// Whether a string's content can be text: false for a lone surrogate.
pub fn is_text(raw: &str) -> bool {
    !raw.contains("\\u") || serde_json::from_str::<Cow<'_, str>>(&format!("\"{raw}\"")).is_ok()
}

/// Whether a string of a JSON text contains U+0000, which valid JSON writes only as an escape.
pub fn has_escaped_nul(json: &str) -> bool {
    const NUL: &str = "\\u0000";
    // An even number of backslashes before the escape leaves its own one.
    let is_escape = |at: usize| json.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0;
    memchr::memmem::find_iter(json.as_bytes(), NUL).any(is_escape)
}

fn unescape_lossy(raw: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            continue;
        }
        units.push(match chars.next() {
            Some('u') => {
                let hex: String = chars.by_ref().take(4).collect();
                u16::from_str_radix(&hex, 16).unwrap_or(0xfffd)
            }
            Some('b') => 8,
            Some('f') => 12,
            Some('n') => 10,
            Some('r') => 13,
            Some('t') => 9,
            Some(other) => other as u16,
            None => 0xfffd,
        });
    }
    String::from_utf16_lossy(&units)
}

/// Returns the index of the first byte that a JSON string escapes. Eight bytes are tested at once: most texts have
/// none.
fn escaped_at(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // Of the bytes below a limit the lowest one is found exactly, because a borrow only changes bytes above it.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        let found = below(word, 0x20) | is(b'"') | is(b'\\');
        if found != 0 {
            return Some(8 * at + found.trailing_zeros() as usize / 8);
        }
    }
    let is_escaped = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    rest.iter().position(is_escaped).map(|at| 8 * words.len() + at)
}

/// Appends `content` as a JSON string, escaped as in RFC 8785 (3.2.2.2): the shortest form, lower-case hex.
pub fn write_string(out: &mut String, content: &str) {
    out.push('"');
    let mut rest = content;
    while let Some(at) = escaped_at(rest.as_bytes()) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            8 => out.push_str("\\b"),
            9 => out.push_str("\\t"),
            10 => out.push_str("\\n"),
            12 => out.push_str("\\f"),
            13 => out.push_str("\\r"),
            control => out.push_str(&format!("\\u{control:04x}")),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// Returns `,"name":`, so that a member is one append; the first one omits the comma.
pub fn key(name: &str) -> String {
    let mut key = String::from(",");
    write_string(&mut key, name);
    key.push(':');
    key
}

/// Appends 16 bytes as a hyphenated lower-case uuid.
pub fn write_uuid(out: &mut String, bytes: &[u8]) {
    let Ok(id) = uuid::Uuid::from_slice(bytes) else { return };
    out.push_str(id.hyphenated().encode_lower(&mut [0; uuid::fmt::Hyphenated::LENGTH]));
}

/// Returns the start of a text that may be long or contain control characters, for messages.
pub fn excerpt(text: &str) -> String {
    clipped(text, 60)
}

/// Returns the first `max` characters of a text from outside, with `?` for each control character.
pub fn clipped(text: &str, max: usize) -> String {
    let mut out: String = text.chars().take(max).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(max).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_escaped_byte_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for length in 0..20 {
                for at in 0..length {
                    let mut bytes = vec![0x80 | byte; length];
                    bytes[at] = byte;
                    let is_escaped = |byte: &u8| *byte < 0x20 || [b'"', b'\\'].contains(byte);
                    assert_eq!(escaped_at(&bytes), bytes.iter().position(is_escaped), "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn an_escaped_nul_is_no_escaped_backslash_before_u0000() {
        for (json, has) in [
            (r#"{"a":"\u0000"}"#, true),
            (r#"{"\u0000":1}"#, true),
            (r#"["\\\u0000"]"#, true),
            (r#"["\\u0000"]"#, false),
            (r#"["\\u0000","\u0000"]"#, true),
            (r#"["\u0001","u0000"]"#, false),
        ] {
            assert_eq!(has_escaped_nul(json), has, "{json}");
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            let of_value = |text: &str| text.contains('\0');
            let found = match &value {
                serde_json::Value::Object(object) => {
                    object.iter().any(|(key, value)| of_value(key) || value.as_str().is_some_and(of_value))
                }
                value => value.as_array().unwrap().iter().any(|value| value.as_str().is_some_and(of_value)),
            };
            assert_eq!(found, has, "{json}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for content in ["", "plain", "q\"b\\s/", "\u{0}\u{1}\u{8}\t\n\u{c}\r\u{1f}", "é\u{2028}😀"] {
            let mut out = String::new();
            write_string(&mut out, content);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), content);
            assert_eq!(unescape(&out[1..out.len() - 1]), content);
        }
    }

    #[test]
    fn a_lone_surrogate_is_no_text_and_becomes_a_replacement() {
        assert!(!is_text(r"a\ud800b"));
        assert!(is_text(r"\ud83d\ude00"));
        assert_eq!(unescape(r"a\ud800\n\u00e9"), "a\u{fffd}\né");
    }
}
