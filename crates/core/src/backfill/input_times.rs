//! The event times of an input, which decide the stored cells that it can correct.

use super::cell::CellKey;
use super::instants::Instants;
use crate::kind::span::Span;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Whether a stored cell is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// It is.
    Compared,
    /// No: its window ends before the first event of the input.
    Before,
    /// No: its window begins after the last event of the input.
    After,
    /// No: the correction is not about it.
    Other,
}

/// The treatment of a stored cell without a right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphan {
    /// It is retracted.
    Retracted,
    /// It stays, because the input has no event in its window.
    WithoutEvents,
    /// It stays, because it may consist of events of the input that are late in this run.
    Late,
}

/// The late events of a slice.
#[derive(Clone, Copy, Debug)]
struct LateSlice {
    /// The first and the last one (µs).
    first: i64,
    last: i64,
    count: i64,
    /// The gap, if they are events of sessions (µs).
    gap: Option<i64>,
}

/// A part of the time of a metric: all of its events are in the same windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its start (µs).
    pub start: i64,
    /// The gap of sessions (µs), which have no slices: a part of a session as long as the gap is in one or two of
    /// these.
    pub gap: Option<i64>,
}

/// The event times of an input.
///
/// An input may be only a part of what the live run read: the file of one day, or a lake that lacks days. So it proves
/// nothing about windows without any event, unless the command names these windows or says that the input is whole.
#[derive(Clone, Debug, Default)]
pub struct InputTimes {
    events: Instants,
    /// The late events by metric and dimensions, then by the start of their slice. Events of a slice are in the same
    /// windows.
    late: HashMap<(Arc<str>, String), BTreeMap<i64, LateSlice>>,
    /// The range that the command names.
    named: Span,
    /// Whether the input holds every record that the live run read.
    is_whole: bool,
}

impl InputTimes {
    /// Begins without events; `reach` is the length of the shortest window (µs), `named` the range that the command
    /// names.
    pub fn new(reach: i64, named: Span, is_whole: bool) -> Self {
        Self { events: Instants::new(reach), late: HashMap::new(), named, is_whole }
    }

    /// Adds events.
    pub fn add(&mut self, times: &[i64]) {
        times.iter().for_each(|time| self.events.add(*time));
    }

    /// Adds a late event of a cell's metric and dimensions.
    pub fn add_late(&mut self, metric: Arc<str>, dimensions: String, slice: Slice, time: i64) {
        let slices = self.late.entry((metric, dimensions)).or_default();
        let new = LateSlice { first: time, last: time, count: 0, gap: slice.gap };
        let late = slices.entry(slice.start).or_insert(new);
        (late.first, late.last, late.count) = (late.first.min(time), late.last.max(time), late.count + 1);
    }

    /// Whether there is no event, and the input need not hold all records.
    pub fn is_empty(&self) -> bool {
        self.ends().is_none() && !self.is_whole
    }

    /// Returns the first and the last event time.
    pub fn ends(&self) -> Option<(i64, i64)> {
        self.events.ends()
    }

    /// Returns the first event time if windows that end before it are not compared.
    pub fn first_compared(&self) -> Option<i64> {
        self.ends().map(|(first, _)| first).filter(|_| !self.is_whole && self.named.since.is_none())
    }

    /// Returns whether a stored cell is compared: the input begins before its end and ends after its start, or the
    /// command names that side.
    pub fn coverage(&self, key: &CellKey) -> Coverage {
        match self.ends() {
            _ if self.is_whole => Coverage::Compared,
            None => Coverage::Other,
            Some((first, _)) if key.end <= first && self.named.since.is_none() => Coverage::Before,
            Some((_, last)) if key.start > last && self.named.until.is_none() => Coverage::After,
            Some(_) => Coverage::Compared,
        }
    }

    /// Whether some event of a cell so far is late in this run.
    pub fn has_late(&self, key: &CellKey) -> bool {
        self.late_of(key).next().is_some()
    }

    /// Returns the slices of a cell that have late events.
    fn late_of(&self, key: &CellKey) -> impl Iterator<Item = &LateSlice> {
        let of_cell =
            if self.late.is_empty() { None } else { self.late.get(&(key.metric.clone(), key.dimensions.clone())) };
        let before_end = of_cell.into_iter().flat_map(move |slices| slices.range(..key.end).rev());
        let late = before_end.map(|(_, late)| late).take_while(move |late| late.last >= key.start);
        late.filter(move |late| late.first < key.end)
    }

    /// Returns the treatment of a stored cell without a right one that counts `rows` events, once all events of its
    /// window have been added. It may consist of late events only if there are so many and, for a session, if the first
    /// one is at its start and the last one a gap before its end.
    pub fn orphan(&self, key: &CellKey, rows: i64) -> Orphan {
        let late: i64 = self.late_of(key).map(|late| late.count).sum();
        let begins = self.late_of(key).last().is_some_and(|late| late.gap.is_none() || late.first <= key.start);
        let ends = self.late_of(key).next().is_some_and(|late| late.gap.is_none_or(|gap| late.last + gap >= key.end));
        if late >= rows && begins && ends {
            return Orphan::Late;
        }
        let is_within = self.ends().is_some_and(|(first, last)| key.end > first && key.start <= last);
        let is_named = !is_within || self.named.since.is_some() && self.named.until.is_some();
        match self.is_whole || is_named || self.events.has_any(key.start, key.end) {
            true => Orphan::Retracted,
            false => Orphan::WithoutEvents,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(start: i64) -> CellKey {
        CellKey { end: start + 10, start, metric: "m".into(), dimensions: "{}".to_owned() }
    }

    fn times(since: Option<i64>, until: Option<i64>, is_whole: bool) -> InputTimes {
        let mut times = InputTimes::new(10, Span { since, until }, is_whole);
        times.add(&[45, 10, 19]);
        times
    }

    /// Returns a character for each of the cells 0, 10, …, 60: its coverage or, if it is compared, its treatment.
    fn judged(times: &InputTimes) -> String {
        let shown = |start| match (times.coverage(&key(start)), times.orphan(&key(start), 2)) {
            (Coverage::Before, _) => 'b',
            (Coverage::After, _) => 'a',
            (Coverage::Other, _) => 'o',
            (_, Orphan::Retracted) => 'r',
            (_, Orphan::WithoutEvents) => '-',
            (_, Orphan::Late) => 'l',
        };
        (0..7).map(|number| shown(number * 10)).collect()
    }

    #[test]
    fn windows_without_events_stay_unless_the_command_names_them_or_the_input_is_whole() {
        assert_eq!(judged(&times(None, None, false)), "br--raa");
        assert_eq!(judged(&times(Some(0), None, false)), "rr--raa");
        assert_eq!(judged(&times(None, Some(99), false)), "br--rrr");
        assert_eq!(judged(&times(Some(0), Some(99), false)), "rrrrrrr");
        assert_eq!(judged(&times(None, None, true)), "rrrrrrr");
        assert_eq!(judged(&InputTimes::new(10, Span { since: Some(0), until: Some(9) }, false)), "ooooooo");
    }

    #[test]
    fn a_cell_that_may_consist_of_late_events_stays_even_if_it_is_named() {
        let mut times = times(Some(0), Some(99), true);
        let mut add = |metric: &str, dimensions: &str, time: i64| {
            let slice = Slice { start: time - time % 5, gap: None };
            times.add_late(metric.into(), dimensions.to_owned(), slice, time);
        };
        [10, 19, 39, 40, 49, 50, 50].iter().for_each(|time| add("m", "{}", *time));
        [45, 45].iter().for_each(|time| add("m", r#"{"k":"1"}"#, *time));
        [65, 65].iter().for_each(|time| add("n", "{}", *time));
        // The cell 30 counts two events, and only one is late.
        assert_eq!(judged(&times), "rlrrllr");
        assert_eq!(
            [1, 2, 3].map(|rows| times.orphan(&key(30), rows)),
            [Orphan::Late, Orphan::Retracted, Orphan::Retracted]
        );
    }

    #[test]
    fn a_session_consists_of_late_events_only_if_they_are_its_first_and_its_last() {
        let mut times = InputTimes::new(10, Span::default(), true);
        let gap = Some(2);
        [47, 50, 51].iter().for_each(|time| {
            times.add_late("m".into(), "{}".to_owned(), Slice { start: time - time % 2, gap }, *time);
        });
        let session = |start: i64, end: i64| times.orphan(&CellKey { start, end, ..key(0) }, 1);
        assert_eq!([session(47, 49), session(50, 53)], [Orphan::Late; 2]);
        assert_eq!([session(46, 49), session(47, 50), session(50, 54), session(49, 53)], [Orphan::Retracted; 4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_late_events_of_windows_of_whole_slices_are_counted_exactly(
            times in prop::collection::vec(-60i64..60, 0..40), slice in 1i64..9, from in -8i64..8, length in 1i64..5,
        ) {
            let mut input = InputTimes::new(slice, Span::default(), true);
            for time in &times {
                let slice = Slice { start: time.div_euclid(slice) * slice, gap: None };
                input.add_late("m".into(), "{}".to_owned(), slice, *time);
            }
            let key = CellKey { start: from * slice, end: (from + length) * slice, ..key(0) };
            let late = times.iter().filter(|time| (key.start..key.end).contains(time)).count() as i64;
            prop_assert_eq!(input.has_late(&key), late > 0);
            for rows in 1..45 {
                prop_assert_eq!(input.orphan(&key, rows) == Orphan::Late, rows <= late, "{} late", late);
            }
        }
    }
}
