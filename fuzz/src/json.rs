//! JSON text: the scan's verdict is serde_json's, and the walks see what it sees.

use evt_core::json::{DEPTH_MAX, base64, scan, text, walk};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// How deep containers nest, strings passed over; only for text that is JSON.
pub fn depth(text: &str) -> u32 {
    let (mut open, mut deepest, mut inside, mut escaped) = (0u32, 0, false, false);
    for byte in text.bytes() {
        match (inside, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => inside = !inside,
            (false, b'{' | b'[') => {
                open += 1;
                deepest = deepest.max(open);
            }
            (false, b'}' | b']') => open -= 1,
            _ => {}
        }
    }
    deepest
}

/// The verdict there should be.
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok() && depth(text) <= DEPTH_MAX
}

/// Scan, walks, strings and base64 of one text.
pub fn run(input: &[u8]) {
    encoded(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let verdict = scan::is_json(text);
    assert_eq!(verdict, is_json(text), "{text:?}");
    written(text);
    if let Some(bytes) = base64::decode(text) {
        let mut again = String::new();
        base64::encode(&bytes, &mut again);
        assert_eq!(again, text, "base64 has one way to write bytes");
    }
    if !verdict {
        assert!(!scan::diagnose(text).is_empty());
        return;
    }
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if text.starts_with('{') {
        members(text);
    } else if let Some(content) = walk::string_content(text) {
        let oracle = serde_json::from_str::<String>(text);
        assert_eq!(text::is_text(content), oracle.is_ok());
        if let Ok(oracle) = oracle {
            assert_eq!(text::unescape(content), oracle);
        }
    }
}

fn members(object: &str) {
    let mut found = BTreeMap::new();
    let mut readable = true;
    walk::members(object, |key, value| {
        assert!(scan::is_json(value), "{value:?} of {object:?}");
        readable &= text::is_text(key);
        found.insert(text::unescape(key).into_owned(), value);
        true
    });
    if !readable {
        return;
    }
    let oracle: BTreeMap<String, &RawValue> = serde_json::from_str(object).expect("an object with readable names");
    let oracle: BTreeMap<String, &str> = oracle.into_iter().map(|(key, value)| (key, value.get())).collect();
    assert_eq!(found, oracle);
}

/// Any text written as a string reads back.
fn written(content: &str) {
    let mut out = String::new();
    text::write_string(&mut out, content);
    assert!(scan::is_json(&out));
    assert_eq!(text::unescape(&out[1..out.len() - 1]), content);
}

fn encoded(bytes: &[u8]) {
    let mut out = String::new();
    base64::encode(bytes, &mut out);
    assert_eq!(base64::decode(&out).as_deref(), Some(bytes));
}
