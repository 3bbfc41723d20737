//! Which store answers for which windows.
//!
//! Stores stand in the order of preference. A window is answered by the first one that keeps it (`?span=`, by the end
//! of the window), that is complete for it (by its start), and behind which no store has corrected it. A window that
//! this store does not have is missing: no other store is asked, so that a gap stays a gap.

use crate::kind::span::Span;

/// What is known of a store for a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingStore {
    /// How long after their end it keeps windows (µs); `None`: for ever.
    pub keeps: Option<i64>,
    /// The start since which its windows have all events (µs); `None`: all have.
    pub complete_since: Option<i64>,
    /// The corrections in the stores behind it.
    pub corrected: Vec<CorrectedRange>,
}

/// Windows that a correction may have changed, added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrectedRange {
    /// The range of the correction.
    pub range: Span,
    /// It has changed no window that ended after this instant (µs).
    pub last_end: i64,
}

impl CorrectedRange {
    fn covers(self, start: i64, end: i64) -> bool {
        end <= self.last_end && self.range.overlaps(Span { since: Some(start), until: Some(end) })
    }

    /// Returns the instant before which all its windows begin (µs).
    fn starts_before(self) -> i64 {
        self.range.until.map_or(self.last_end, |until| until.min(self.last_end))
    }
}

/// The stores for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingPlan {
    stores: Vec<ServingStore>,
    /// The instant of the request (µs).
    now: i64,
}

impl ServingPlan {
    /// Makes the plan of a request at an instant (µs), for stores in the order of preference.
    pub fn new(stores: Vec<ServingStore>, now: i64) -> Self {
        Self { stores, now }
    }

    /// Returns the number of stores.
    pub fn len(&self) -> usize {
        self.stores.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.stores.is_empty()
    }

    /// Returns the index of the store that answers for a window; `None` if no store has it whole.
    pub fn store_of(&self, start: i64, end: i64) -> Option<usize> {
        self.stores.iter().position(|store| self.has(store, start, end))
    }

    fn has(&self, store: &ServingStore, start: i64, end: i64) -> bool {
        let is_kept = store.keeps.is_none_or(|keeps| end > self.now.saturating_sub(keeps));
        let is_complete = store.complete_since.is_none_or(|since| start >= since);
        is_kept && is_complete && !store.corrected.iter().any(|correction| correction.covers(start, end))
    }

    /// Returns the starts of the windows that a store may answer for, of those in a span whose length is at most
    /// `longest` (µs); `None` if it answers for none.
    pub fn span_of(&self, index: usize, span: Span, longest: i64) -> Option<Span> {
        let store = self.stores.get(index)?;
        let kept = store.keeps.map(|keeps| self.now.saturating_sub(keeps).saturating_sub(longest));
        let since = span.since.max(kept).max(store.complete_since);
        let mut until = span.until;
        for earlier in &self.stores[..index] {
            // A window that begins here or later is that of the earlier store.
            let kept = earlier.keeps.map(|keeps| self.now.saturating_sub(keeps));
            let corrected = earlier.corrected.iter().map(|correction| correction.starts_before()).max();
            let begins = kept.max(earlier.complete_since).max(corrected)?;
            until = Some(until.map_or(begins, |until| until.min(begins)));
        }
        let found = Span { since, until };
        (!found.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_store_that_keeps_a_window_whole_answers() {
        let hot = ServingStore { keeps: Some(48), complete_since: Some(60), corrected: vec![] };
        let cold = ServingStore::default();
        let plan = ServingPlan::new(vec![hot.clone(), cold], 100);
        // Kept, and complete.
        assert_eq!(plan.store_of(60, 70), Some(0));
        // It begins before the hot store was complete.
        assert_eq!(plan.store_of(59, 69), Some(1));
        assert_eq!(plan.store_of(40, 52), Some(1));
        assert_eq!(ServingPlan::new(vec![hot], 100).store_of(40, 52), None);
        let span = Span { since: Some(0), until: Some(100) };
        assert_eq!(plan.span_of(0, span, 10), Some(Span { since: Some(60), until: Some(100) }));
        assert_eq!(plan.span_of(1, span, 10), Some(Span { since: Some(0), until: Some(60) }));
    }

    #[test]
    fn the_store_that_has_corrected_a_window_answers_for_it() {
        let correction = CorrectedRange { range: Span { since: Some(50), until: Some(70) }, last_end: 65 };
        let hot = ServingStore { corrected: vec![correction], ..ServingStore::default() };
        let plan = ServingPlan::new(vec![hot, ServingStore::default()], 100);
        let windows = [(39, 49), (45, 55), (55, 65), (56, 66), (70, 80)];
        assert_eq!(windows.map(|(start, end)| plan.store_of(start, end)), [0, 1, 1, 0, 0].map(Some));
        assert_eq!(plan.span_of(1, Span::default(), 10), Some(Span { since: None, until: Some(65) }));
    }

    #[test]
    fn nothing_is_read_behind_a_store_that_has_all() {
        let plan = ServingPlan::new(vec![ServingStore::default(), ServingStore::default()], 100);
        assert_eq!(plan.span_of(1, Span::default(), 10), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_window_is_in_the_span_of_the_store_that_answers_for_it(
            stores in prop::collection::vec(
                (prop::option::of(0..90i64), prop::option::of(0..110i64), prop::option::of((0..100i64, 1..50i64, 0..120i64))),
                1..4,
            ),
            (start, length, since, until) in (0..120i64, 1..20i64, 0..60i64, 60..140i64),
        ) {
            let stores = stores.into_iter().map(|(keeps, complete_since, corrected)| {
                let range = corrected.map(|(since, length, last_end)| CorrectedRange {
                    range: Span { since: Some(since), until: Some(since + length) },
                    last_end,
                });
                ServingStore { keeps, complete_since, corrected: range.into_iter().collect() }
            });
            let plan = ServingPlan::new(stores.collect(), 100);
            let span = Span { since: Some(since), until: Some(until) };
            if span.holds(start, start + length) && let Some(index) = plan.store_of(start, start + length) {
                let read = plan.span_of(index, span, 20);
                prop_assert!(read.is_some_and(|read| read.contains(start)), "{plan:?} {read:?}");
            }
        }
    }
}
