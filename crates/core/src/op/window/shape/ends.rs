//! Sets of window ends, kept as runs: a slice is in a run of consecutive windows, so that many ends take one entry.

use crate::error::{Error, Result};
use crate::op::snapshot::Reader;
use std::collections::BTreeMap;

/// More runs than this are made fewer by [`Ends::thin`].
const RUNS_MAX: usize = if cfg!(test) { 8 } else { 1 << 16 };
/// Approximate bytes of a run.
const RUN_BYTES: usize = 2 * size_of::<(i64, i64)>();

/// The window ends from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndRange {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl EndRange {
    pub(crate) const EMPTY: Self = Self { first: i64::MAX, last: i64::MIN };
    pub(crate) const ALL: Self = Self { first: i64::MIN, last: i64::MAX };

    pub(crate) fn of(end: i64) -> Self {
        Self { first: end, last: end }
    }

    /// Restores a range; if the state has none, it is [`EndRange::ALL`]. Errors: exit status 65 if it is empty.
    pub(crate) fn restore(is_there: bool, saved: &mut Reader<'_>) -> Result<Self> {
        if !is_there {
            return Ok(Self::ALL);
        }
        let ends = Self { first: saved.number()?, last: saved.number()? };
        if ends.is_empty() { Err(Error::corrupt("snapshot: expected window ends in order")) } else { Ok(ends) }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.first > self.last
    }

    pub(crate) fn contains(self, end: i64) -> bool {
        (self.first..=self.last).contains(&end)
    }

    /// Returns the distance of the first from the last.
    pub(crate) fn width(self) -> i64 {
        self.last.saturating_sub(self.first)
    }

    /// Returns the ends that are in both.
    pub(crate) fn meet(self, other: Self) -> Self {
        Self { first: self.first.max(other.first), last: self.last.min(other.last) }
    }

    /// Returns the least range that contains both.
    pub(crate) fn join(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// The number of keys of the window that ends at `end`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowKeys {
    pub(crate) end: i64,
    pub(crate) keys: usize,
}

/// A set of window ends, all in steps of one slide.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Maps the first end of each run to its last; runs neither overlap nor touch.
    runs: BTreeMap<i64, i64>,
}

impl Ends {
    /// Adds the ends from `first` to `last`.
    pub(crate) fn insert(&mut self, first: i64, last: i64, slide: i64) {
        let (mut low, mut high) = (first, last);
        while let Some((&start, &end)) = self.runs.range(..=last.saturating_add(slide)).next_back()
            && end >= first.saturating_sub(slide)
        {
            self.runs.remove(&start);
            (low, high) = (low.min(start), high.max(end));
        }
        self.runs.insert(low, high);
    }

    /// Removes one end; returns whether it was there.
    pub(crate) fn remove(&mut self, end: i64, slide: i64) -> bool {
        let Some((&first, &last)) = self.runs.range(..=end).next_back() else { return false };
        if end > last || (end - first) % slide != 0 {
            return false;
        }
        self.runs.remove(&first);
        if first < end {
            self.runs.insert(first, end - slide);
        }
        if end < last {
            self.runs.insert(end + slide, last);
        }
        true
    }

    /// Removes the ends up to `last`.
    pub(crate) fn remove_to(&mut self, last: i64, slide: i64) {
        let after = self.first_within(EndRange { first: last.saturating_add(1), last: i64::MAX }, slide);
        let run = self.runs.range(..=last).next_back().map(|(_, end)| *end);
        self.runs = after.map(|after| self.runs.split_off(&after)).unwrap_or_default();
        if let (Some(after), Some(end)) = (after, run.filter(|end| *end > last)) {
            self.runs.insert(after, end);
        }
    }

    /// Adds ends between runs until there are far fewer runs; so a sparse set takes little memory.
    pub(crate) fn thin(&mut self, slide: i64) {
        if self.runs.len() <= RUNS_MAX {
            return;
        }
        let starts = self.runs.keys().skip(1);
        let mut gaps: Vec<i64> = self.runs.values().zip(starts).map(|(last, next)| next - last).collect();
        let middle = gaps.len() / 2;
        let widest = *gaps.select_nth_unstable(middle).1;
        for (first, last) in std::mem::take(&mut self.runs) {
            self.insert(first, last, widest.max(slide));
        }
    }

    /// Returns the approximate bytes in memory.
    pub(crate) fn allocated(&self) -> usize {
        self.runs.len() * RUN_BYTES
    }

    /// Returns all ends, in ascending order.
    pub(crate) fn iter(&self, slide: i64) -> impl Iterator<Item = i64> {
        self.runs.iter().flat_map(move |(first, last)| (0..=(last - first) / slide).map(move |at| first + at * slide))
    }

    /// Returns the ends within a range, in ascending order.
    pub(crate) fn within(&self, range: EndRange, slide: i64) -> impl Iterator<Item = i64> {
        let before = self.runs.range(..range.first).next_back();
        let runs = before.into_iter().chain(self.runs.range(range.first..));
        let runs = runs.take_while(move |(first, _)| **first <= range.last);
        runs.flat_map(move |(first, last)| {
            let before = range.first.saturating_sub(*first).max(0);
            let skipped = before / slide + i64::from(before % slide > 0);
            let from = first.saturating_add(skipped.saturating_mul(slide));
            let to = range.last.min(*last);
            (0..).map(move |at| from.saturating_add(at * slide)).take_while(move |end| *end <= to)
        })
    }

    /// Returns the first end within a range.
    pub(crate) fn first_within(&self, range: EndRange, slide: i64) -> Option<i64> {
        self.within(range, slide).next()
    }

    /// Returns the first end.
    pub(crate) fn first(&self) -> Option<i64> {
        self.runs.first_key_value().map(|(first, _)| *first)
    }

    /// Returns the runs, in ascending order.
    pub(crate) fn runs(&self) -> impl ExactSizeIterator<Item = EndRange> {
        self.runs.iter().map(|(first, last)| EndRange { first: *first, last: *last })
    }

    /// Returns the number of ends.
    pub(crate) fn len(&self, slide: i64) -> usize {
        self.runs.iter().map(|(first, last)| ((last - first) / slide) as usize + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn runs_of_ends_are_a_set_of_ends(
            slide in 1i64..4, steps in prop::collection::vec((any::<bool>(), -20i64..20, 0i64..9), 0..60),
        ) {
            let (mut ends, mut naive) = (Ends::default(), BTreeSet::new());
            for (insert, first, more) in steps {
                if insert {
                    ends.insert(first * slide, (first + more) * slide, slide);
                    naive.extend((first..=first + more).map(|at| at * slide));
                } else {
                    prop_assert_eq!(ends.remove(first * slide, slide), naive.remove(&(first * slide)));
                }
                prop_assert!(ends.iter(slide).eq(naive.iter().copied()));
                prop_assert_eq!(ends.len(slide), naive.len());
            }
            for first in -25..40 {
                for last in [first - 1, first, first + 5, 100] {
                    let within: Vec<i64> = naive.iter().copied().filter(|end| (first..=last).contains(end)).collect();
                    prop_assert_eq!(ends.within(EndRange { first, last }, slide).collect::<Vec<_>>(), within);
                }
            }
            let mut thinned = Ends { runs: ends.runs.clone() };
            thinned.thin(slide);
            prop_assert!(naive.iter().all(|end| thinned.first_within(EndRange::of(*end), slide) == Some(*end)));
            prop_assert_eq!(thinned.first(), ends.first());
            prop_assert!(thinned.runs.len() <= RUNS_MAX.max(ends.runs.len() / 2 + 1));
            for last in [-30, -7, 0, 1, 2, 3, 20, 100] {
                ends.remove_to(last, slide);
                naive.retain(|end| *end > last);
                prop_assert!(ends.iter(slide).eq(naive.iter().copied()));
            }
        }
    }
}
