//! Finds idle partitions, and a watermark that does not advance, in processing time.
//!
//! The monitor does not decide which rows are late. `--idle-after` excludes an idle partition from the minimum; this
//! depends on timing and is opt-in. A watermark that has not advanced for a minute is only reported, with remedies.

use crate::op::window::watermark::Watermark;
use crate::time::{MINUTE, format_duration};
use std::collections::HashMap;
use std::time::Duration;

/// Interval of checks for idle partitions.
const EVERY: Duration = Duration::from_millis(100);
/// A longer time between two looks is one in which the process did not run, or waited for an output: rows may have
/// arrived meanwhile. A stage that waits for input looks several times a second.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Time after which a watermark that does not advance is reported.
const STALLED: Duration = Duration::from_micros(MINUTE.unsigned_abs());

/// The last change of a stream time or of the watermark.
#[derive(Clone, Copy)]
struct Advance {
    /// The stream time (µs) since then.
    stream_time: Option<i64>,
    /// The monotonic time at which it was noticed.
    at: Duration,
}

/// Watches the partitions of one run. It does not read the clock: the caller passes the monotonic time.
pub struct StallMonitor {
    idle_after: Option<Duration>,
    /// The time of the last look.
    last: Duration,
    /// The time of the next look at the partitions.
    next: Duration,
    /// The last advance of each partition.
    partitions: HashMap<usize, Advance>,
    /// The last advance of the watermark.
    watermark: Advance,
    said: bool,
}

impl StallMonitor {
    /// Creates a monitor: partitions without rows for `idle_after` µs become idle; with `None` they never do.
    pub fn new(idle_after: Option<i64>, now: Duration) -> Self {
        let idle_after = idle_after.map(|limit| Duration::from_micros(limit.unsigned_abs()));
        let watermark = Advance { stream_time: None, at: now };
        Self { idle_after, last: now, next: now, partitions: HashMap::new(), watermark, said: false }
    }

    /// Records the partitions that have advanced. After a long time without a check, the time of idleness begins anew.
    pub fn observe(&mut self, watermark: &Watermark, now: Duration) {
        let is_late = now.saturating_sub(std::mem::replace(&mut self.last, now)) > PAUSE_MAX;
        if is_late {
            self.watermark.at = now;
        }
        if self.idle_after.is_none() || now < self.next && !is_late {
            return;
        }
        self.next = now + EVERY;
        for (at, stream_time) in watermark.live() {
            let advance = Advance { stream_time, at: now };
            let last = self.partitions.entry(at).or_insert(advance);
            if last.stream_time != stream_time || is_late {
                *last = advance;
            }
        }
    }

    /// Returns the numbers of the partitions that have become idle. Call it when there is nothing to read.
    pub fn idle(&mut self, watermark: &Watermark, now: Duration) -> Vec<usize> {
        let Some(limit) = self.idle_after else { return vec![] };
        self.observe(watermark, now);
        let is_idle = |&(at, stream_time): &(usize, Option<i64>)| {
            let last = self.partitions.get(&at);
            last.is_some_and(|last| last.stream_time == stream_time && now.saturating_sub(last.at) >= limit)
        };
        watermark.live().filter(is_idle).map(|(at, _)| at).collect()
    }

    /// Returns a message, once, if the watermark has not advanced for a minute.
    pub fn stalled(&mut self, watermark: &Watermark, now: Duration) -> Option<String> {
        if watermark.waits_for_end() {
            return None;
        }
        if watermark.get() != self.watermark.stream_time {
            self.watermark = Advance { stream_time: watermark.get(), at: now };
            self.said = false;
            return None;
        }
        if self.said || now.saturating_sub(self.watermark.at) < STALLED {
            return None;
        }
        self.said = true;
        let stood = format_duration(MINUTE);
        match watermark.slowest() {
            _ if !watermark.is_complete() => Some(format!(
                "no window has fired for {stood}: mapped partitions are known only at the end of the input (list \
                 them with --partitions NAME,…)"
            )),
            Some((origin, name)) => Some(format!(
                "no window has fired for {stood}: partition {name} of {origin} holds the watermark back (exclude \
                 idle partitions with --idle-after DURATION)"
            )),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{PartitionState, Progress, State};
    use crate::op::window::watermark::Options;

    fn progress_of(times: &[(&str, Option<i64>)]) -> Progress {
        let partitions = times
            .iter()
            .map(|(name, stream_time)| PartitionState {
                input: 0,
                origin: "f".into(),
                partition: (*name).into(),
                stream_time: *stream_time,
                state: State::Live,
            })
            .collect();
        Progress { partitions, complete: true, ..Progress::default() }
    }

    #[test]
    fn a_partition_that_does_not_move_becomes_idle_and_one_that_does_stays_live() {
        let options = Options { out_of_orderness: Some(0), explicit: false, new_partitions: false };
        let mut watermark = Watermark::new(options);
        let mut monitor = StallMonitor::new(Some(1_000_000), Duration::ZERO);
        let at = Duration::from_millis;
        watermark.on_progress(&progress_of(&[("a", Some(1)), ("b", Some(1))])).unwrap();
        assert!(monitor.idle(&watermark, at(0)).is_empty());
        watermark.on_progress(&progress_of(&[("a", Some(9))])).unwrap();
        assert!(monitor.idle(&watermark, at(500)).is_empty());
        let idle = monitor.idle(&watermark, at(1_200));
        assert_eq!(idle, [1]);
        watermark.set_idle(1);
        assert_eq!(watermark.get(), Some(9));
    }

    #[test]
    fn a_watermark_that_does_not_advance_for_a_minute_is_reported_once_with_the_flag_that_helps() {
        let options = Options { out_of_orderness: Some(0), explicit: false, new_partitions: false };
        for (complete, expected) in [
            (true, "partition b of f holds the watermark back (exclude idle partitions with --idle-after DURATION)"),
            (false, "mapped partitions are known only at the end of the input (list them with --partitions NAME,…)"),
        ] {
            let mut watermark = Watermark::new(options);
            let progress = Progress { complete, ..progress_of(&[("a", Some(9)), ("b", Some(1))]) };
            watermark.on_progress(&progress).unwrap();
            let mut monitor = StallMonitor::new(None, Duration::ZERO);
            let seconds = [0, 59, 60, 61, 200].map(Duration::from_secs);
            let said: Vec<String> = seconds.into_iter().filter_map(|now| monitor.stalled(&watermark, now)).collect();
            assert_eq!(said, [format!("no window has fired for 1m: {expected}")]);
        }
    }

    #[test]
    fn the_time_in_which_the_process_did_not_run_makes_no_partition_idle() {
        let options = Options { out_of_orderness: Some(0), explicit: false, new_partitions: false };
        let mut watermark = Watermark::new(options);
        let mut monitor = StallMonitor::new(Some(3_000_000), Duration::ZERO);
        let at = Duration::from_millis;
        watermark.on_progress(&progress_of(&[("a", Some(1)), ("b", Some(1))])).unwrap();
        for second in 0..=2 {
            assert!(monitor.idle(&watermark, at(second * 1_000)).is_empty());
        }
        // It was stopped for 20 minutes. One partition has rows at once, the other one a second later.
        let woken = 20 * 60_000;
        watermark.on_progress(&progress_of(&[("a", Some(9))])).unwrap();
        assert!(monitor.idle(&watermark, at(woken)).is_empty());
        assert!(monitor.idle(&watermark, at(woken + 1_000)).is_empty());
        watermark.on_progress(&progress_of(&[("b", Some(5))])).unwrap();
        // A backlog is not idleness: only a look is taken between its batches.
        for second in 2..=9 {
            monitor.observe(&watermark, at(woken + second * 1_000));
        }
        watermark.on_progress(&progress_of(&[("b", Some(7))])).unwrap();
        assert_eq!(monitor.idle(&watermark, at(woken + 9_500)), [0]);
    }

    #[test]
    fn where_all_partitions_are_idle_the_one_furthest_on_tells() {
        let options = Options { out_of_orderness: Some(0), explicit: false, new_partitions: false };
        let mut watermark = Watermark::new(options);
        watermark.on_progress(&progress_of(&[("a", Some(9)), ("b", Some(1)), ("c", None)])).unwrap();
        for (at, expected) in [None, None, Some(9)].into_iter().enumerate() {
            watermark.set_idle(at);
            assert_eq!(watermark.get(), expected);
        }
    }
}
