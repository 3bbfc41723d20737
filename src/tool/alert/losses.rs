//! Reports of rows that a running evt-alert leaves out.

use crate::counts::{Counts, counted};
use std::time::Duration;

/// Interval of the reports.
const INTERVAL: Duration = Duration::from_secs(60);

/// The losses that were reported, so that only new ones are, at most once a minute.
#[derive(Debug, Default)]
pub struct LossReport {
    said: Option<Duration>,
    known: (u64, u64),
}

impl LossReport {
    /// Returns a line if the numbers have grown: rows behind the alert clock, and rows of groups beyond the limit. `now` is monotonic.
    pub fn line(&mut self, late: u64, refused: u64, now: Duration) -> Option<String> {
        let is_due = self.said.is_none_or(|said| now.saturating_sub(said) >= INTERVAL);
        if (late, refused) == self.known || !is_due {
            return None;
        }
        (self.said, self.known) = (Some(now), (late, refused));
        let late = (late > 0).then(|| late_rows(late));
        let verbs = ["row of a group beyond --max-groups was", "rows of groups beyond --max-groups were"];
        let refused = (refused > 0).then(|| format!("{} left out", counted(refused, verbs)));
        let parts: Vec<String> = late.into_iter().chain(refused).collect();
        Some(format!("so far {}", parts.join(", ")))
    }

    /// Whether the last line had this number of rows behind the alert clock.
    pub fn has_told(&self, late: u64) -> bool {
        self.known.0 == late
    }
}

/// Returns the line about rows behind the alert clock.
pub fn late_rows(late: u64) -> String {
    let rows = ["row behind the alert clock was", "rows behind the alert clock were"];
    format!("{} not evaluated", counted(late, rows))
}

/// Returns the line about faulty records that were lost, for a run that prints no line of counts.
pub fn dropped_records(counts: &Counts) -> String {
    let faulty = counted(counts.dropped, ["faulty record was", "faulty records were"]);
    let way_out = match counts.dropped * 2 > counts.taken {
        true => "; if the newest records come first, evt-view FILE --sort event_time --columns '*' -o jsonl sorts them",
        false => "",
    };
    format!("{faulty} not evaluated{way_out}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_losses_are_reported_once_a_minute() {
        let mut report = LossReport::default();
        let mut line = |late, refused, second| report.line(late, refused, Duration::from_secs(second));
        assert_eq!(line(0, 0, 0), None);
        assert_eq!(line(3, 0, 1).as_deref(), Some("so far 3 rows behind the alert clock were not evaluated"));
        assert_eq!(line(9, 1, 60), None);
        assert_eq!(
            line(9, 2, 61).as_deref(),
            Some(
                "so far 9 rows behind the alert clock were not evaluated, 2 rows of groups beyond --max-groups were left \
                 out"
            )
        );
        assert_eq!(line(9, 2, 500), None);
    }
}
