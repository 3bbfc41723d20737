//! Names of keys, escaped so that no name or value can collide with another part of a key.
//!
//! ```text
//! metric:{NAME:HASH}:START/END        hash: one row
//! metric:{NAME:HASH}:START/END:gone   hash: the greatest version that each run has retracted
//! metric:{NAME:HASH}                  sorted set: windows of a series, START/END
//! metric:{NAME}                       sorted set: series of a metric, HASH:DIMENSIONS
//! metric:names                        sorted set: names of metrics
//! metric:progress                     hash: how far metrics are; PIPELINE:NAME, JSON
//! alert:{RULE_ID}:ALERT_ID            hash: the last row of an alert by column; as JSON in `firing` and `resolved`
//! alert:firing                        set: keys of the alerts that fire
//! alert:index                         sorted set: keys of all alerts
//! pipeline:NAME                       hash: the last epoch of a pipeline
//! ```
//!
//! The score of a member is the time after which it may be removed (milliseconds since 1970, the server's clock). NAME
//! is percent-encoded, HASH is the first 32 hexadecimal digits of the SHA-1 of the dimensions, START and END are
//! microseconds since 1970. The part in braces is the hash tag: all keys of a series are in one slot of a cluster, and
//! series are spread over all slots.

use evt_core::parse::hex::hex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_decode_str, utf8_percent_encode};
use sha1::{Digest, Sha1};
use std::borrow::Cow;

/// Hexadecimal digits of HASH.
const HASH_DIGITS: usize = 32;

/// All ASCII characters but letters, digits and the punctuation of expressions.
const ESCAPED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'_')
    .remove(b'-')
    .remove(b'.')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b',')
    .remove(b'=')
    .remove(b'<')
    .remove(b'>')
    .remove(b'+')
    .remove(b'/')
    .remove(b'!');

/// Returns `text`, percent-encoded except for letters, digits and the punctuation of expressions.
fn escaped(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, &ESCAPED)
}

/// Returns the hash of a series' dimensions.
pub fn hash(dimensions: &str) -> String {
    let digest = Sha1::digest(dimensions.as_bytes());
    hex(&digest[..HASH_DIGITS / 2])
}

/// The keys of one store, all with its prefix.
#[derive(Clone, Debug, Default)]
pub struct RedisKeys {
    /// `?prefix=`.
    pub prefix: String,
}

impl RedisKeys {
    /// Returns the key of the index of metric names.
    pub fn names(&self) -> String {
        format!("{}metric:names", self.prefix)
    }

    /// Returns the key of how far metrics are.
    pub fn progress(&self) -> String {
        format!("{}metric:progress", self.prefix)
    }

    /// Returns the field of a metric there.
    pub fn progress_field(pipeline: &str, metric: &str) -> String {
        format!("{}:{}", escaped(pipeline), escaped(metric))
    }

    /// Returns the pipeline in such a field; `None` if evt did not write it.
    pub fn pipeline_in(field: &str) -> Option<String> {
        let (pipeline, _) = field.split_once(':')?;
        percent_decode_str(pipeline).decode_utf8().ok().map(Cow::into_owned)
    }

    /// Returns the key of the index of the series of metric `name`.
    pub fn series(&self, name: &str) -> String {
        format!("{}metric:{{{}}}", self.prefix, escaped(name))
    }

    /// Returns the key of the index of the windows of series `hash` of metric `name`.
    pub fn windows(&self, name: &str, hash: &str) -> String {
        format!("{}metric:{{{}:{hash}}}", self.prefix, escaped(name))
    }

    /// Returns the key of an alert.
    pub fn alert(&self, rule_id: &str, alert_id: &str) -> String {
        format!("{}alert:{{{rule_id}}}:{alert_id}", self.prefix)
    }

    /// Returns the key of the set of the alerts that fire.
    pub fn firing(&self) -> String {
        format!("{}alert:firing", self.prefix)
    }

    /// Returns the key of the index of all alerts.
    pub fn alerts(&self) -> String {
        format!("{}alert:index", self.prefix)
    }

    /// Returns the key of the last epoch of `pipeline`.
    pub fn pipeline(&self, pipeline: &str) -> String {
        format!("{}pipeline:{}", self.prefix, escaped(pipeline))
    }
}

/// Formats a window as the last part of a key.
pub fn window(start: i64, end: i64) -> String {
    format!("{start}/{end}")
}

/// A window `[start, end)` (µs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowKey {
    /// The start.
    pub start: i64,
    /// The end.
    pub end: i64,
}

/// Parses the text that [`window`] wrote.
pub fn parse_window(text: &str) -> Option<WindowKey> {
    let (start, end) = text.split_once('/')?;
    Some(WindowKey { start: start.parse().ok()?, end: end.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_name_comes_back_and_cannot_leave_its_place(name in any::<String>()) {
            let escaped = escaped(&name).to_string();
            let plain = escaped.bytes().all(|byte| byte.is_ascii_graphic() && !b":{}\"'\\".contains(&byte));
            prop_assert!(plain, "{}", escaped);
            prop_assert_eq!(percent_decode_str(&escaped).decode_utf8().unwrap(), &*name);
            let field = RedisKeys::progress_field(&name, ":");
            prop_assert_eq!(RedisKeys::pipeline_in(&field), Some(name));
        }
    }

    #[test]
    fn keys_of_a_series_share_one_hash_tag() {
        let keys = RedisKeys { prefix: "p:".to_owned() };
        let series = keys.windows("a:b{c} d\n%", &hash("{}"));
        assert_eq!(series, "p:metric:{a%3Ab%7Bc%7D%20d%0A%25:bf21a9e8fbc5a3846fb05b4fa0859e09}");
        assert_eq!(keys.series("count(*)"), "p:metric:{count(*)}");
    }

    #[test]
    fn windows_before_1970_are_read_back() {
        for (start, end) in [(0, 1), (-7_200, -3_600), (-1, 1)] {
            assert_eq!(parse_window(&window(start, end)), Some(WindowKey { start, end }));
        }
        assert_eq!(parse_window("1-2"), None);
    }
}
