//! The lag of reading behind the end of a topic.

use crate::metrics::ConsumerLag;
use std::ops::Range;

/// The lag of one partition of a topic.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Lag {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Offsets not read yet. Compaction and transactions leave gaps, so this is an upper bound of the number of
    /// records.
    pub records: u64,
    /// Seconds between now and the Kafka timestamp of the last record read; 0 if all records are read, `None` before
    /// the first record.
    pub seconds: Option<f64>,
}

impl<'a> From<&'a Lag> for ConsumerLag<'a> {
    fn from(lag: &'a Lag) -> Self {
        let Lag { topic, partition, records, seconds } = lag;
        Self { topic, partition: *partition, records: *records, seconds: *seconds }
    }
}

impl Lag {
    /// Computes the lag of a partition. `unread` is the range from the next offset to the end offset, `last` the Kafka
    /// timestamp of the last record read, `now` the current time (both µs).
    pub fn new(topic: &str, partition: i32, unread: Range<i64>, last: Option<i64>, now: i64) -> Self {
        let records = u64::try_from(unread.end.saturating_sub(unread.start)).unwrap_or(0);
        let behind = |last: i64| now.saturating_sub(last).max(0) as f64 / 1e6;
        let seconds = if records == 0 { Some(0.0) } else { last.map(behind) };
        Self { topic: topic.to_owned(), partition, records, seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_to_its_end_is_not_behind_however_old_its_last_record_is() {
        let lag = |next, end, last| {
            let lag = Lag::new("t", 0, next..end, last, 5_500_000);
            (lag.records, lag.seconds)
        };
        assert_eq!(lag(7, 7, Some(1)), (0, Some(0.0)));
        assert_eq!(lag(7, 5, None), (0, Some(0.0)), "an end reported before the last record was read");
        assert_eq!(lag(3, 7, Some(4_000_000)), (4, Some(1.5)));
        assert_eq!(lag(3, 7, Some(9_000_000)), (4, Some(0.0)), "a clock that is ahead of ours");
        assert_eq!(lag(0, 7, None), (7, None));
    }
}
