//! Finds idle partitions, and a watermark that does not advance, in processing time.
//!
//! The monitor does not decide which rows are late. `--idle-after` excludes an idle partition from the minimum; this
//! depends on timing and is opt-in. Time in which no row of a partition could arrive is not idleness. A watermark that
//! has not advanced for a minute is only reported, with remedies.

use evt_core::op::window::watermark::Watermark;
use evt_core::time::{MINUTE, format_duration};
use evt_run::input::UnreadPartition;
use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

/// Interval of checks for idle partitions.
const EVERY: Duration = Duration::from_millis(100);
/// Maximum time between two checks in which the process runs. If more time passes, the process did not run or waited
/// for an output, and rows may have arrived meanwhile. A stage that waits for input checks several times a second.
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
    /// The time of the last check.
    last: Duration,
    /// The time of the next check of the partitions.
    next: Duration,
    /// The last advance of each partition.
    partitions: HashMap<usize, Advance>,
    /// The time of the next check for partitions that are not read up to now.
    next_unread: Duration,
    /// For each partition that is not read up to now, the time up to which its rows have arrived.
    read_until: HashMap<usize, Duration>,
    /// The last advance of the watermark.
    watermark: Advance,
    reported: bool,
}

impl StallMonitor {
    /// Creates a monitor: partitions without rows for `idle_after` µs become idle; with `None` they never do.
    pub fn new(idle_after: Option<i64>, now: Duration) -> Self {
        let idle_after = idle_after.map(|limit| Duration::from_micros(limit.unsigned_abs()));
        let watermark = Advance { stream_time: None, at: now };
        Self {
            idle_after,
            last: now,
            next: now,
            partitions: HashMap::new(),
            next_unread: now,
            read_until: HashMap::new(),
            watermark,
            reported: false,
        }
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

    /// Returns the numbers of the partitions that have become idle. Call it when there is nothing to read; `unread`
    /// returns the partitions of which rows may be missing.
    pub fn idle(
        &mut self,
        watermark: &Watermark,
        unread: &dyn Fn() -> Vec<UnreadPartition>,
        now: Duration,
    ) -> Vec<usize> {
        let Some(limit) = self.idle_after else { return vec![] };
        self.observe(watermark, now);
        if now >= self.next_unread {
            self.next_unread = now + EVERY;
            self.note_unread(watermark, &unread(), now);
        }
        let is_idle = |&(at, stream_time): &(usize, Option<i64>)| {
            let until = self.read_until.get(&at).copied().unwrap_or(now);
            let last = self.partitions.get(&at).filter(|last| last.stream_time == stream_time);
            last.is_some_and(|last| until.saturating_sub(last.at) >= limit)
        };
        watermark.live().filter(is_idle).map(|(at, _)| at).collect()
    }

    /// Notes up to when the rows of partitions have been read. The time of idleness begins anew for one that is not
    /// read, and after a time without answers.
    fn note_unread(&mut self, watermark: &Watermark, unread: &[UnreadPartition], now: Duration) {
        self.read_until.clear();
        for UnreadPartition { input, name, answered } in unread {
            let Range { start, end } = answered.clone().unwrap_or(now..now);
            for at in watermark.live_of(*input, name.as_ref()) {
                self.read_until.insert(at, end);
                if let Some(last) = self.partitions.get_mut(&at) {
                    last.at = last.at.max(start);
                }
            }
        }
    }

    /// Returns a message, once, if the watermark has not advanced for a minute.
    pub fn stalled(&mut self, watermark: &Watermark, now: Duration) -> Option<String> {
        if watermark.waits_for_end() {
            return None;
        }
        if watermark.get() != self.watermark.stream_time {
            self.watermark = Advance { stream_time: watermark.get(), at: now };
            self.reported = false;
            return None;
        }
        if self.reported || now.saturating_sub(self.watermark.at) < STALLED {
            return None;
        }
        self.reported = true;
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
    use evt_core::frame::{PartitionState, Progress, State};
    use evt_core::kind::PartitionName;
    use evt_core::op::window::watermark::Options;

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
        assert!(monitor.idle(&watermark, &Vec::new, at(0)).is_empty());
        watermark.on_progress(&progress_of(&[("a", Some(9))])).unwrap();
        assert!(monitor.idle(&watermark, &Vec::new, at(500)).is_empty());
        let idle = monitor.idle(&watermark, &Vec::new, at(1_200));
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
            let reported: Vec<String> =
                seconds.into_iter().filter_map(|now| monitor.stalled(&watermark, now)).collect();
            assert_eq!(reported, [format!("no window has fired for 1m: {expected}")]);
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
            assert!(monitor.idle(&watermark, &Vec::new, at(second * 1_000)).is_empty());
        }
        // It was stopped for 20 minutes. One partition has rows at once, the other one a second later.
        let woken = 20 * 60_000;
        watermark.on_progress(&progress_of(&[("a", Some(9))])).unwrap();
        assert!(monitor.idle(&watermark, &Vec::new, at(woken)).is_empty());
        assert!(monitor.idle(&watermark, &Vec::new, at(woken + 1_000)).is_empty());
        watermark.on_progress(&progress_of(&[("b", Some(5))])).unwrap();
        // A backlog is not idleness: only a look is taken between its batches.
        for second in 2..=9 {
            monitor.observe(&watermark, at(woken + second * 1_000));
        }
        watermark.on_progress(&progress_of(&[("b", Some(7))])).unwrap();
        assert_eq!(monitor.idle(&watermark, &Vec::new, at(woken + 9_500)), [0]);
    }

    #[test]
    fn the_time_in_which_a_partition_is_not_read_or_its_broker_does_not_answer_makes_it_not_idle() {
        let options = Options { out_of_orderness: Some(0), explicit: false, new_partitions: false };
        let at = Duration::from_millis;
        let unread = |name: Option<&str>, answered: Option<Range<u64>>| UnreadPartition {
            input: 0,
            name: name.map(|name| PartitionName::new("f", name)),
            answered: answered.map(|span| at(span.start)..at(span.end)),
        };
        // When partition b becomes idle (ms), whose broker answers as this function says.
        let idle_at = |answers: &dyn Fn(u64) -> Option<UnreadPartition>| {
            let mut watermark = Watermark::new(options);
            watermark.on_progress(&progress_of(&[("a", Some(9)), ("b", Some(1))])).unwrap();
            let mut monitor = StallMonitor::new(Some(1_000_000), Duration::ZERO);
            (0..10_000).step_by(200).find(|now| {
                let answers = || answers(*now).into_iter().collect();
                monitor.idle(&watermark, &answers, at(*now)).contains(&1)
            })
        };
        assert_eq!(idle_at(&|_| None), Some(1_000));
        let opened = |now: u64| (now < 3_000).then(|| unread(None, None));
        assert_eq!(idle_at(&opened), Some(3_800), "a second after the last look at which it was not read");
        let of_other = |now: u64| (now < 3_000).then(|| unread(Some("a"), None));
        assert_eq!(idle_at(&of_other), Some(1_000));
        // The broker is away from 600 ms to 5 s; its last answer reported that there was no row up to 600 ms.
        let away = |now: u64| Some(unread(Some("b"), Some(if now < 5_000 { 0..now.min(600) } else { 5_000..now })));
        assert_eq!(idle_at(&away), Some(6_000));
        let late_answers = |now: u64| Some(unread(Some("b"), Some(0..now.saturating_sub(400))));
        assert_eq!(idle_at(&late_answers), Some(1_400));
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
