//! What librdkafka tells of itself every few seconds: whether a broker is there, which partitions the topics have and where
//! they end. Kept short, because it is parsed while records wait.

use rdkafka::statistics::{Partition, Statistics};
use std::collections::BTreeMap;

/// The last word of librdkafka on its brokers and partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Whether any broker is connected.
    pub is_up: bool,
    /// One behind the last offset that may be read, by topic and partition; none where nothing has been fetched yet.
    pub ends: BTreeMap<String, BTreeMap<i32, Option<i64>>>,
}

impl Told {
    /// What `statistics` say.
    pub fn of(statistics: &Statistics) -> Self {
        let ends = statistics.topics.iter().map(|(topic, told)| {
            // Negative numbers are queues of librdkafka's own.
            let real = told.partitions.iter().filter(|(number, told)| **number >= 0 && !told.unknown);
            (topic.clone(), real.map(|(number, told)| (*number, end(told))).collect())
        });
        Self { is_up: statistics.brokers.values().any(|broker| broker.state == "UP"), ends: ends.collect() }
    }
}

/// Records behind the last stable offset are of transactions that are open: they are not there yet.
fn end(told: &Partition) -> Option<i64> {
    [told.ls_offset, told.hi_offset].into_iter().find(|offset| *offset >= 0)
}

/// How far reading is behind in one partition.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Lag {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Offsets not read yet: an upper bound of the records where compaction or transactions left gaps.
    pub records: u64,
    /// Seconds between now and the time that Kafka keeps for the record read last: zero where all are read, none before the
    /// first record of this run.
    pub seconds: Option<f64>,
}

impl Lag {
    /// Of a partition that is read up to `next` and ends at `end`; `last` is the time of the record read last, `now` the
    /// time (µs both).
    pub fn new((topic, partition): (&str, i32), (next, end): (i64, i64), (last, now): (Option<i64>, i64)) -> Self {
        let records = u64::try_from(end.saturating_sub(next)).unwrap_or(0);
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
            let lag = Lag::new(("t", 0), (next, end), (last, 5_500_000));
            (lag.records, lag.seconds)
        };
        assert_eq!(lag(7, 7, Some(1)), (0, Some(0.0)));
        assert_eq!(lag(7, 5, None), (0, Some(0.0)), "an end that was told before the last record was read");
        assert_eq!(lag(3, 7, Some(4_000_000)), (4, Some(1.5)));
        assert_eq!(lag(3, 7, Some(9_000_000)), (4, Some(0.0)), "a clock that is ahead of ours");
        assert_eq!(lag(0, 7, None), (7, None));
    }
}
