//! The lag of a consumer group, and the age of the newest rows of a store: rows, Prometheus text, and what exceeds a
//! limit.

use super::exposition::{Sample, gauge};
use super::output::batch;
use crate::counts::counted;
use crate::error::Result;
use crate::kind::instant_type;
use crate::time::{SECOND, format_duration, format_instant};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field};
use std::sync::Arc;

/// The lag of a group in one partition of a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that the group committed; `None` if it committed none in this partition.
    pub committed: Option<i64>,
    /// The end of the partition.
    pub end: i64,
    /// Offsets that are not committed: an upper bound of the number of records; 0 if there is no record.
    pub records: i64,
    /// Now less the timestamp of the first record that is not committed (µs); 0 if there is none.
    pub behind: i64,
}

/// Returns one row for each partition.
pub fn lag_rows(lags: &[PartitionLag]) -> Result<RecordBatch> {
    let number = |name: &str, of: fn(&PartitionLag) -> Option<i64>| -> (Field, ArrayRef) {
        let values = lags.iter().map(of).collect::<Int64Array>();
        (Field::new(name, DataType::Int64, true), Arc::new(values))
    };
    let topics = lags.iter().map(|lag| Some(lag.topic.as_str())).collect::<StringArray>();
    let seconds = lags.iter().map(|lag| Some(seconds(lag.behind))).collect::<Float64Array>();
    let columns: Vec<(Field, ArrayRef)> = vec![
        (Field::new("topic", DataType::Utf8, false), Arc::new(topics)),
        number("partition", |lag| Some(i64::from(lag.partition))),
        number("committed", |lag| lag.committed),
        number("end", |lag| Some(lag.end)),
        number("records", |lag| Some(lag.records)),
        (Field::new("seconds", DataType::Float64, false), Arc::new(seconds)),
    ];
    batch(columns)
}

/// Returns the lags in the text format of Prometheus.
pub fn lag_text(lags: &[PartitionLag], group: &str) -> String {
    let samples = |of: fn(&PartitionLag) -> f64| -> Vec<Sample> {
        let sample = |lag: &PartitionLag| {
            let partition = lag.partition.to_string();
            let labels = vec![("group", group.to_owned()), ("topic", lag.topic.clone()), ("partition", partition)];
            Sample { labels, value: of(lag) }
        };
        lags.iter().map(sample).collect()
    };
    let mut out = String::new();
    gauge(&mut out, "evt_reconcile_lag_records", "Offsets that are not committed.", &samples(|lag| lag.records as f64));
    let help = "Age of the first record that is not committed.";
    gauge(&mut out, "evt_reconcile_lag_seconds", help, &samples(|lag| seconds(lag.behind)));
    out
}

/// Returns a message about the first partition whose committed offset is after its end, else about the partitions that
/// are behind by more than `limit` (µs); `None` if there are none.
pub fn lag_fault(lags: &[PartitionLag], group: &str, limit: Option<i64>) -> Option<String> {
    let beyond = |lag: &PartitionLag| lag.committed.filter(|committed| *committed > lag.end);
    if let Some((lag, committed)) = lags.iter().find_map(|lag| Some((lag, beyond(lag)?))) {
        let PartitionLag { topic, partition, end, .. } = lag;
        return Some(format!(
            "group {group} has committed offset {committed} of {topic}/{partition}, which ends at {end}: the topic was created again, \
             or records at its end are lost"
        ));
    }
    let late: Vec<_> = lags.iter().filter(|lag| limit.is_some_and(|limit| lag.behind > limit)).collect();
    let worst = late.iter().max_by_key(|lag| lag.behind)?;
    Some(format!(
        "group {group} is behind in {} of {}; {}/{}: {}, {}",
        late.len(),
        counted(lags.len() as u64, ["partition", "partitions"]),
        worst.topic,
        worst.partition,
        counted(worst.records.unsigned_abs(), ["record", "records"]),
        format_duration(worst.behind - worst.behind % SECOND),
    ))
}

/// The age of the newest row of a metric, or of the newest event.
#[derive(Clone, Debug, PartialEq)]
pub struct RowAge {
    /// The name of the metric; `events` for events.
    pub name: String,
    /// The end of its newest window, or the arrival of the newest event (µs); `None` if there is no row.
    pub newest: Option<i64>,
    /// Now less that instant (µs).
    pub age: Option<i64>,
}

/// Returns one row for each metric.
pub fn age_rows(ages: &[RowAge]) -> Result<RecordBatch> {
    let names = ages.iter().map(|age| Some(age.name.as_str())).collect::<StringArray>();
    let newest = ages.iter().map(|age| age.newest).collect::<TimestampMicrosecondArray>().with_timezone("UTC");
    let seconds = ages.iter().map(|age| age.age.map(seconds)).collect::<Float64Array>();
    batch(vec![
        (Field::new("metric", DataType::Utf8, false), Arc::new(names)),
        (Field::new("newest", instant_type(), true), Arc::new(newest)),
        (Field::new("seconds", DataType::Float64, true), Arc::new(seconds)),
    ])
}

/// Returns the ages in the text format of Prometheus.
pub fn age_text(ages: &[RowAge]) -> String {
    let sample =
        |row: &RowAge| Some(Sample { labels: vec![("metric", row.name.clone())], value: row.age.map(seconds)? });
    let samples: Vec<Sample> = ages.iter().filter_map(sample).collect();
    let mut out = String::new();
    gauge(
        &mut out,
        "evt_reconcile_age_seconds",
        "Age of the newest window of a metric, or of the newest event.",
        &samples,
    );
    out
}

/// Returns a message about the newest rows that are older than `limit` (µs) and the metrics without a row; `None` if
/// there are none.
pub fn age_fault(ages: &[RowAge], limit: Option<i64>) -> Option<String> {
    let is_old = |row: &&RowAge| row.age.is_none_or(|age| limit.is_some_and(|limit| age > limit));
    let old: Vec<String> = ages.iter().filter(is_old).map(RowAge::described).collect();
    if old.is_empty() { None } else { Some(old.join("; ")) }
}

impl RowAge {
    fn described(&self) -> String {
        match (self.newest, self.age) {
            (Some(newest), Some(age)) => {
                let age = format_duration(age - age % SECOND);
                format!("{}: {age} old, newest {}", self.name, format_instant(newest))
            }
            _ => format!("{}: no row", self.name),
        }
    }
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / SECOND as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_exceeded_by_what_is_further_behind_and_by_what_has_no_row() {
        let lag = |partition, behind| PartitionLag {
            topic: "events".into(),
            partition,
            committed: Some(3),
            end: 10,
            records: 7,
            behind: behind * SECOND,
        };
        let lags = [lag(0, 60), lag(1, 400), lag(2, 0)];
        assert_eq!(lag_fault(&lags, "g", None), None);
        assert_eq!(lag_fault(&lags, "g", Some(400 * SECOND)), None);
        let expected = "group g is behind in 2 of 3 partitions; events/1: 7 records, 6m40s";
        assert_eq!(lag_fault(&lags, "g", Some(59 * SECOND)).as_deref(), Some(expected));
        let lost = PartitionLag { committed: Some(11), ..lag(3, 0) };
        let expected = "group g has committed offset 11 of events/3, which ends at 10: the topic was created again, or records at \
                        its end are lost";
        assert_eq!(lag_fault(&[lag(0, 0), lost], "g", None).as_deref(), Some(expected));
        let age = |age: Option<i64>| RowAge { name: "m".into(), newest: age.map(|_| 0), age };
        assert_eq!(age_fault(&[age(Some(5))], Some(5)), None);
        assert_eq!(age_fault(&[age(None)], None).as_deref(), Some("m: no row"));
        let expected = "m: 1m old, newest 1970-01-01T00:00:00.000000Z";
        assert_eq!(age_fault(&[age(Some(60 * SECOND))], Some(5)).as_deref(), Some(expected));
    }
}
