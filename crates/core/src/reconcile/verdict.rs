//! The verdict of a comparison, and the line on stderr that states it.

use super::entry::{ComparedRows, PartitionNames};
use super::ranges::{FaultSummary, OffsetRange, RangeCounts};
use crate::counts::counted;
use crate::time::format_instant;

/// Rows that do not take part in the verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unjudged {
    /// Rows of B outside of A's extent.
    pub rows: u64,
    /// Records of B that cannot be read.
    pub unreadable: u64,
    /// Rows of A or B in a store that cannot be read. They count as faults. Their records may count as missing, too.
    pub damaged: u64,
    /// Whether A has no record although B has rows, so that nothing is proven.
    pub is_nothing: bool,
}

/// Names for messages: of the partitions and of the rows that are compared.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The names of the partitions.
    pub names: &'a PartitionNames,
    /// The kind of rows that are compared.
    pub subject: ComparedRows,
}

/// A verdict: whether A is in B, and the line that says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the faults are within the tolerance.
    pub is_right: bool,
    /// The line.
    pub line: String,
}

impl Verdict {
    /// Makes the verdict. `tolerance` is the share of units that may be wrong.
    pub fn new(faults: &FaultSummary, unjudged: Unjudged, tolerance: f64, shown: Shown<'_>) -> Self {
        let total = &faults.total;
        let what = match shown.subject {
            ComparedRows::Metrics => ["result", "results"],
            ComparedRows::Events => ["record", "records"],
        };
        let all = counted(total.a, what);
        let wrong = total.faults();
        let faulty = wrong.max(unjudged.damaged);
        let is_right = faulty == 0 || faulty as f64 <= tolerance * total.a as f64;
        let mut parts = vec![];
        if wrong == 0 {
            let all = if total.a == 1 { format!("{all} is") } else { format!("all {all} are") };
            parts.push(match unjudged.is_nothing {
                true => format!("A has no {}, so nothing is proven", what[1]),
                false => format!("{all} accounted for{}", outcomes(total)),
            });
        } else {
            parts.push(format!("{} of {all}{}", described(total), outcomes(total)));
            let named = faults.first.iter().map(|range| located(range, shown)).collect::<Vec<_>>();
            parts.push(named.join("; "));
            let further = faults.ranges - faults.first.len() as u64;
            if further > 0 {
                parts.push(counted(further, ["further range", "further ranges"]));
            }
            if is_right {
                parts.push("within the tolerance".to_owned());
            }
        }
        if unjudged.rows > 0 {
            let verbs = ["row of B outside of A's range was", "rows of B outside of A's range were"];
            parts.push(format!("{} not judged", counted(unjudged.rows, verbs)));
        }
        if unjudged.damaged > 0 {
            parts.push(format!("{} cannot be read", counted(unjudged.damaged, ["stored row", "stored rows"])));
        }
        if unjudged.unreadable > 0 {
            let unreadable = counted(unjudged.unreadable, ["record", "records"]);
            parts.push(format!("{unreadable} of B cannot be read"));
        }
        Self { is_right, line: parts.join("; ") }
    }
}

/// Returns the outcomes that are not faults.
fn outcomes(total: &RangeCounts) -> String {
    let in_b = total.b - total.extra - total.double;
    let found = [
        (in_b, "in B"),
        (total.plus, "in plus"),
        (total.duplicate, "duplicate"),
        (total.in_flight, "in flight"),
        (total.expired, "expired"),
    ];
    let found: Vec<String> =
        found.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if found.is_empty() { String::new() } else { format!(" ({})", found.join(", ")) }
}

/// Returns the faults of counts: `5 missing, 2 extra`.
fn described(counts: &RangeCounts) -> String {
    let faults = [
        (counts.missing, "missing"),
        (counts.extra, "extra"),
        (counts.double, "double"),
        (counts.different, "different"),
    ];
    let faults = faults.iter().filter(|(count, _)| *count > 0);
    faults.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// Returns the place and the number of the faults of a range, with their time:
/// `events/3@1200 to 1699: 500 missing since …`.
fn located(range: &OffsetRange, shown: Shown<'_>) -> String {
    let name = shown.names.name(range.partition);
    let (origin, partition) = name.map_or(("?", "?"), |name| (name.origin.as_str(), name.partition.as_str()));
    let is_one = range.from == range.to;
    let faults = described(&range.counts);
    match shown.subject {
        ComparedRows::Events => {
            let offsets = if is_one { range.from.to_string() } else { format!("{} to {}", range.from, range.to) };
            let since = range.since.map_or(String::new(), |since| format!(" since {}", format_instant(since)));
            format!("{origin}/{partition}@{offsets}: {faults}{since}")
        }
        ComparedRows::Metrics => {
            let until = if is_one { String::new() } else { format!(" to {}", format_instant(range.to)) };
            format!("{origin} {partition} {}{until}: {faults}", format_instant(range.from))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(missing: u64) -> (FaultSummary, PartitionNames) {
        let mut names = PartitionNames::default();
        names.index("events", "3");
        let mut faults = FaultSummary::default();
        let counts = RangeCounts { a: 1000 - missing, b: 990 - missing, plus: 10, ..RangeCounts::default() };
        let sound = OffsetRange { partition: 0, bucket: None, from: 0, to: 1999, since: None, until: None, counts };
        faults.add(&sound);
        if missing > 0 {
            let counts = RangeCounts { a: missing, missing, ..RangeCounts::default() };
            faults.add(&OffsetRange { from: 1200, to: 1204, since: Some(0), counts, ..sound });
        }
        (faults, names)
    }

    #[test]
    fn the_line_names_what_is_missing_where_and_since_when() {
        let line = |missing, tolerance| {
            let (faults, names) = faults(missing);
            let verdict = Verdict::new(
                &faults,
                Unjudged::default(),
                tolerance,
                Shown { names: &names, subject: ComparedRows::Events },
            );
            (verdict.is_right, verdict.line)
        };
        assert_eq!(line(0, 0.0), (true, "all 1000 records are accounted for (990 in B, 10 in plus)".to_owned()));
        let expected = "5 missing of 1000 records (985 in B, 10 in plus); events/3@1200 to 1204: 5 missing since \
                        1970-01-01T00:00:00.000000Z";
        assert_eq!(line(5, 0.0), (false, expected.to_owned()));
        assert_eq!(line(5, 0.005), (true, format!("{expected}; within the tolerance")));
        assert!(!line(5, 0.0049).0);
    }
}
