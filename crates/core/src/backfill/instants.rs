//! Sets of instants that answer whether a window holds one.

use std::collections::BTreeMap;

/// Instants (µs), kept as runs of neighbours that are at most `reach` apart. The answers about windows of at least this
/// length are exact, although only the ends of each run are kept: no such window fits between two neighbours.
#[derive(Clone, Debug, Default)]
pub struct Instants {
    reach: i64,
    /// The last instant of each run by its first one.
    runs: BTreeMap<i64, i64>,
}

impl Instants {
    /// Begins without instants; `reach` is the length of the shortest window (µs).
    pub fn new(reach: i64) -> Self {
        Self { reach, runs: BTreeMap::new() }
    }

    /// Adds an instant.
    pub fn add(&mut self, time: i64) {
        let (mut first, mut last) = (time, time);
        if let Some((start, end)) = self.runs.range(..=time).next_back() {
            if time <= *end {
                return;
            }
            if time.saturating_sub(*end) <= self.reach {
                first = *start;
            }
        }
        if let Some((start, end)) = self.runs.range(time..).next().map(|(start, end)| (*start, *end))
            && start.saturating_sub(time) <= self.reach
        {
            last = end;
            self.runs.remove(&start);
        }
        self.runs.insert(first, last);
    }

    /// Whether a window from `start` up to, but not including, `end` holds an instant.
    pub fn has_any(&self, start: i64, end: i64) -> bool {
        self.runs.range(..end).next_back().is_some_and(|(_, last)| *last >= start)
    }

    /// Returns the first and the last instant.
    pub fn ends(&self) -> Option<(i64, i64)> {
        Some((*self.runs.first_key_value()?.0, *self.runs.last_key_value()?.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_answers_are_those_of_a_list(
            times in prop::collection::vec(-60i64..60, 0..24), reach in 1i64..9, longer in 0i64..4,
        ) {
            let mut instants = Instants::new(reach);
            times.iter().for_each(|time| instants.add(*time));
            for start in -70..70 {
                let end = start + reach + longer;
                let expected = times.iter().any(|time| (start..end).contains(time));
                prop_assert_eq!(instants.has_any(start, end), expected, "{} to {}: {:?}", start, end, instants);
            }
            prop_assert_eq!(instants.ends(), times.iter().min().copied().zip(times.iter().max().copied()));
        }
    }
}
