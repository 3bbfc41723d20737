//! Results in the text format of Prometheus, for the textfile collector of its node exporter.

use super::entry::PartitionNames;
use super::ranges::{OffsetRange, RangeCounts};
use super::verdict::Verdict;
use crate::time::SECOND;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One sample: its labels and its value.
pub struct Sample {
    /// Names and values of labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// Makes a sample without labels.
    pub fn plain(value: f64) -> Self {
        Self { labels: vec![], value }
    }
}

/// Appends a gauge with its samples; without samples it is left out.
pub fn gauge(out: &mut String, name: &str, help: &str, samples: &[Sample]) {
    if samples.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
    for Sample { labels, value } in samples {
        let labels: Vec<String> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

/// Escapes the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Returns the results of a comparison by partition; `now` is the time of the run (µs).
pub fn comparison(ranges: &[OffsetRange], names: &PartitionNames, verdict: &Verdict, now: i64) -> String {
    let mut partitions: BTreeMap<u32, RangeCounts> = BTreeMap::new();
    ranges.iter().for_each(|range| partitions.entry(range.partition).or_default().add(&range.counts));
    let samples = |of: fn(&RangeCounts) -> u64| -> Vec<Sample> {
        let sample = |(index, counts): (&u32, &RangeCounts)| {
            let name = names.name(*index)?;
            let labels = vec![("origin", name.origin.clone()), ("partition", name.partition.clone())];
            Some(Sample { labels, value: of(counts) as f64 })
        };
        partitions.iter().filter_map(sample).collect()
    };
    let mut out = String::new();
    let mut count = |name: &str, help: &str, of| gauge(&mut out, name, help, &samples(of));
    count("evt_reconcile_a_records", "Records of A.", |counts| counts.a);
    count("evt_reconcile_b_rows", "Rows of B.", |counts| counts.b);
    count("evt_reconcile_plus_records", "Records of A that are in a side output (--plus).", |counts| counts.plus);
    count("evt_reconcile_missing_records", "Records of A that are nowhere.", |counts| counts.missing);
    count("evt_reconcile_extra_rows", "Rows of B without a record of A.", |counts| counts.extra);
    count("evt_reconcile_double_rows", "Further rows of B of one record of A.", |counts| counts.double);
    count("evt_reconcile_in_flight_records", "Records of A that arrived too recently.", |counts| counts.in_flight);
    count("evt_reconcile_expired_records", "Records of A of a time whose rows have expired in B.", |counts| {
        counts.expired
    });
    count("evt_reconcile_duplicate_records", "Records of A whose event_id is in B.", |counts| counts.duplicate);
    let right = Sample::plain(f64::from(u8::from(verdict.is_right)));
    gauge(&mut out, "evt_reconcile_right", "Whether the faults are within the tolerance.", &[right]);
    let time = Sample::plain((now / SECOND) as f64);
    gauge(&mut out, "evt_reconcile_timestamp_seconds", "When the comparison began.", &[time]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_a_gauge_without_samples_is_left_out() {
        let mut out = String::new();
        gauge(&mut out, "none", "No sample.", &[]);
        let labels = vec![("origin", "a\"b\\c\nd".to_owned()), ("partition", "0".to_owned())];
        gauge(&mut out, "x", "Some.", &[Sample { labels, value: 1.5 }, Sample::plain(2.0)]);
        let expected = "# HELP x Some.\n# TYPE x gauge\nx{origin=\"a\\\"b\\\\c\\nd\",partition=\"0\"} 1.5\nx 2\n";
        assert_eq!(out, expected);
    }
}
