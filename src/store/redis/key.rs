//! Names of keys: what stands where, escaped so that no name or value can reach into another.
//!
//! ```text
//! metric:{NAME:HASH}:START/END        hash: one row
//! metric:{NAME:HASH}:START/END:gone   hash: the greatest version a run has taken back
//! metric:{NAME:HASH}                  sorted set: windows of a series, START/END
//! metric:{NAME}                       sorted set: series of a metric, HASH:DIMENSIONS
//! metric:names                        sorted set: names of metrics
//! pipeline:NAME                       hash: the last epoch of a pipeline
//! ```
//!
//! The score of every member is when it may go (milliseconds since 1970, the server's clock). NAME is percent-encoded,
//! HASH the first 32 hexadecimal digits of SHA-1 of the dimensions, START and END are microseconds since 1970. What
//! stands in braces is the hash tag: all keys of a series lie in one slot of a cluster, and series spread over all.

use sha1_smol::Sha1;
use std::fmt::Write;

/// Hexadecimal digits of a series' hash.
const HASH_DIGITS: usize = 32;

/// Appends `text`, percent-encoded but for letters, digits and the marks that expressions are made of.
pub fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'_' | b'-' | b'.' | b'(' | b')' | b'*' | b',' | b'=' | b'<' | b'>' | b'+' | b'/' | b'!' => {
                out.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
}

/// Undoes [`escape`]; none for what it would not have written.
#[cfg(test)]
pub fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first == b'%' {
            let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok())?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = rest.get(2..)?;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The hash of a series' dimensions.
pub fn hash(dimensions: &str) -> String {
    let mut digits = Sha1::from(dimensions).digest().to_string();
    digits.truncate(HASH_DIGITS);
    digits
}

/// Keys of one store, all behind its prefix.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// `?prefix=`.
    pub prefix: String,
}

impl Keys {
    /// Names of metrics.
    pub fn names(&self) -> String {
        format!("{}metric:names", self.prefix)
    }

    /// Series of the metric `name`.
    pub fn series(&self, name: &str) -> String {
        let mut key = format!("{}metric:{{", self.prefix);
        escape(name, &mut key);
        key.push('}');
        key
    }

    /// Windows of the series `hash` of the metric `name`.
    pub fn windows(&self, name: &str, hash: &str) -> String {
        let mut key = format!("{}metric:{{", self.prefix);
        escape(name, &mut key);
        key.push(':');
        key.push_str(hash);
        key.push('}');
        key
    }

    /// The last epoch of `pipeline`.
    pub fn pipeline(&self, pipeline: &str) -> String {
        let mut key = format!("{}pipeline:", self.prefix);
        escape(pipeline, &mut key);
        key
    }
}

/// A window as the last part of a key.
pub fn window(start: i64, end: i64) -> String {
    format!("{start}/{end}")
}

/// The window that [`window`] wrote.
pub fn parse_window(text: &str) -> Option<(i64, i64)> {
    let (start, end) = text.split_once('/')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_name_comes_back_and_cannot_leave_its_place(name in any::<String>()) {
            let mut escaped = String::new();
            escape(&name, &mut escaped);
            let plain = escaped.bytes().all(|byte| byte.is_ascii_graphic() && !b":{}\"'\\".contains(&byte));
            prop_assert!(plain, "{}", escaped);
            prop_assert_eq!(unescape(&escaped), Some(name));
        }
    }

    #[test]
    fn keys_of_a_series_share_one_hash_tag() {
        let keys = Keys { prefix: "p:".to_owned() };
        let series = keys.windows("a:b{c} d\n%", &hash("{}"));
        assert_eq!(series, "p:metric:{a%3Ab%7Bc%7D%20d%0A%25:bf21a9e8fbc5a3846fb05b4fa0859e09}");
        assert_eq!(keys.series("count(*)"), "p:metric:{count(*)}");
    }

    #[test]
    fn windows_before_1970_are_read_back() {
        for (start, end) in [(0, 1), (-7_200, -3_600), (-1, 1)] {
            assert_eq!(parse_window(&window(start, end)), Some((start, end)));
        }
        assert_eq!(parse_window("1-2"), None);
    }
}
