//! Finds what holds the watermark back in processing time: idle partitions, and a watermark that does not advance.
//!
//! The monitor does not decide which rows are late. `--idle-after` excludes an idle partition from the minimum; this
//! depends on timing and is opt-in. A watermark that has not advanced for a minute is only reported, with remedies.

use crate::op::window::watermark::Watermark;
use crate::time::{MINUTE, format_duration};
use std::collections::HashMap;

/// Interval of checks for idle partitions (µs).
const EVERY: i64 = 100_000;

/// Watches the partitions of one run. It does not read the clock: the caller passes the time.
pub struct StallMonitor {
    idle_after: Option<i64>,
    /// The time of the next check for idle partitions.
    next: i64,
    /// Stream time of each partition when it last advanced, and the processing time of that.
    moved: HashMap<usize, (Option<i64>, i64)>,
    watermark: (Option<i64>, i64),
    said: bool,
}

impl StallMonitor {
    /// Creates a monitor: partitions without rows for `idle_after` µs become idle; with `None` they never do. `now` is
    /// the clock's.
    pub fn new(idle_after: Option<i64>, now: i64) -> Self {
        Self { idle_after, next: now, moved: HashMap::new(), watermark: (None, now), said: false }
    }

    /// Returns the numbers of the partitions that have become idle.
    pub fn idle(&mut self, watermark: &Watermark, now: i64) -> Vec<usize> {
        let Some(limit) = self.idle_after.filter(|_| now >= self.next) else { return vec![] };
        self.next = now + EVERY;
        let mut idle = vec![];
        for (at, stream_time) in watermark.live() {
            let (known, since) = self.moved.entry(at).or_insert((stream_time, now));
            if *known != stream_time {
                (*known, *since) = (stream_time, now);
            } else if now - *since >= limit {
                idle.push(at);
            }
        }
        idle
    }

    /// Returns a message, once, if the watermark has not advanced for a minute.
    pub fn stalled(&mut self, watermark: &Watermark, now: i64) -> Option<String> {
        if watermark.waits_for_end() {
            return None;
        }
        if watermark.get() != self.watermark.0 {
            self.watermark = (watermark.get(), now);
            self.said = false;
            return None;
        }
        if self.said || now - self.watermark.1 < MINUTE {
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

    fn told(times: &[(&str, Option<i64>)]) -> Progress {
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
        let mut monitor = StallMonitor::new(Some(1_000_000), 0);
        watermark.on_progress(&told(&[("a", Some(1)), ("b", Some(1))])).unwrap();
        assert!(monitor.idle(&watermark, 0).is_empty());
        watermark.on_progress(&told(&[("a", Some(9))])).unwrap();
        assert!(monitor.idle(&watermark, 500_000).is_empty());
        let idle = monitor.idle(&watermark, 1_200_000);
        assert_eq!(idle, [1]);
        watermark.set_idle(1);
        assert_eq!(watermark.get(), Some(9));
    }

    #[test]
    fn where_all_partitions_are_idle_the_one_furthest_on_tells() {
        let options = Options { out_of_orderness: Some(0), explicit: false, new_partitions: false };
        let mut watermark = Watermark::new(options);
        watermark.on_progress(&told(&[("a", Some(9)), ("b", Some(1)), ("c", None)])).unwrap();
        for (at, expected) in [None, None, Some(9)].into_iter().enumerate() {
            watermark.set_idle(at);
            assert_eq!(watermark.get(), expected);
        }
    }
}
