//! Sets of window ends, kept as runs: a slice is in a run of consecutive windows, so that many ends take one entry.

use std::collections::BTreeMap;

/// The ends of consecutive windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndRange {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl EndRange {
    pub(crate) const EMPTY: Self = Self { first: i64::MAX, last: i64::MIN };
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

    /// Returns all ends, in ascending order.
    pub(crate) fn iter(&self, slide: i64) -> impl Iterator<Item = i64> {
        self.runs.iter().flat_map(move |(first, last)| (0..=(last - first) / slide).map(move |at| first + at * slide))
    }

    /// Returns the first end.
    pub(crate) fn first(&self) -> Option<i64> {
        self.runs.first_key_value().map(|(first, _)| *first)
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
        }
    }
}
