//! The oldest timestamp that a topic keeps. Brokers soon delete a record whose timestamp is older than `retention.ms`,
//! although they have acknowledged it, and reject one that is older than `message.timestamp.before.max.ms`.

use super::limit::topic_settings;
use crate::client::Topics;
use evt_core::error::Result;

const SETTINGS: [&str; 3] = ["cleanup.policy", "retention.ms", "message.timestamp.before.max.ms"];

/// The greatest age of a record's timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// In milliseconds; `None` if timestamps may have any age, or brokers do not tell.
    age: Option<i64>,
}

impl Retention {
    /// Queries the brokers for the settings of a topic. Without their answer timestamps may have any age.
    pub fn learn(topics: &Topics, topic: usize) -> Result<Self> {
        let settings = topic_settings(topics, topic, SETTINGS)?;
        Ok(Self::new(&settings.each_ref().map(Option::as_deref)))
    }

    /// Reads the settings, in the order of [`SETTINGS`].
    fn new([policy, retention, before]: &[Option<&str>; 3]) -> Self {
        // A topic that is only compacted keeps the last record of each key, whatever its age.
        let is_deleted = policy.is_some_and(|policy| policy.contains("delete"));
        let limit = |value: Option<&str>| value?.parse::<i64>().ok().filter(|limit| *limit >= 0);
        let ages = [limit(*retention).filter(|_| is_deleted), limit(*before)];
        Self { age: ages.into_iter().flatten().min() }
    }

    /// Whether brokers keep a record with this timestamp. Both are milliseconds since 1970.
    pub fn keeps(self, timestamp: i64, now: i64) -> bool {
        self.age.is_none_or(|age| timestamp >= now.saturating_sub(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_limit_that_applies_counts() {
        let age = |settings| Retention::new(&settings).age;
        assert_eq!(age([None, None, None]), None, "brokers do not tell");
        assert_eq!(age([Some("delete"), Some("1000"), None]), Some(1000));
        assert_eq!(age([Some("delete"), Some("-1"), None]), None);
        assert_eq!(age([Some("compact"), Some("1000"), None]), None);
        assert_eq!(age([Some("compact,delete"), Some("1000"), Some("9223372036854775807")]), Some(1000));
        assert_eq!(age([Some("compact"), Some("1000"), Some("500")]), Some(500));
        assert_eq!(age([Some("delete"), Some("1000"), Some("500")]), Some(500));
    }

    #[test]
    fn a_timestamp_at_the_limit_is_kept() {
        let retention = Retention { age: Some(1000) };
        assert!(retention.keeps(4000, 5000) && !retention.keeps(3999, 5000));
        assert!(Retention::default().keeps(i64::MIN, i64::MAX));
        assert!(Retention { age: Some(i64::MAX) }.keeps(-5000, 1_700_000_000_000));
    }
}
