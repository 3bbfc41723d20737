//! When windows close: the rule that says which windows count a row.
//!
//! A row has a bound: its stream time less the out-of-orderness, or the watermark if that is later. It counts for the
//! windows that contain its event time and are open at its bound.

use crate::op::window::metric::{Shape, WindowSpan};

/// When the windows of a metric close, or when they fire.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// How long after its end a window closes (µs).
    after: i64,
    /// Whether an event at the end of a window belongs to it, so that the window is open one instant longer.
    has_end: bool,
}

impl Closing {
    /// Returns the rule of tumbling, sliding and calendar windows that close `after` µs after their end.
    pub fn of_windows(after: i64) -> Self {
        Self { after, has_end: false }
    }

    /// Returns the rule of sessions that close `after` µs after their end.
    pub fn of_sessions(after: i64) -> Self {
        Self { after, has_end: true }
    }

    /// Returns the rule of the windows of a shape that close `after` µs after their end.
    pub fn of(shape: Shape, after: i64) -> Self {
        if let Shape::Session { .. } = shape { Self::of_sessions(after) } else { Self::of_windows(after) }
    }

    /// Returns the first watermark (µs), or bound of a row, at which a window that ends at `end` is closed.
    #[inline]
    pub fn at(self, end: i64) -> i64 {
        end.saturating_add(self.after).saturating_add(i64::from(self.has_end))
    }

    /// Whether a window that ends at `end` is open at a watermark, and counts a row with this bound.
    #[inline]
    pub fn is_open(self, end: i64, bound: i64) -> bool {
        bound < self.at(end)
    }

    /// Returns the greatest end (µs) of a window that is closed at a watermark, and does not count a row with this
    /// bound.
    #[inline]
    pub fn closed_end(self, bound: i64) -> i64 {
        bound.saturating_sub(self.after).saturating_sub(i64::from(self.has_end))
    }

    /// Returns the end of the first window of `span` that counts a row with this bound; the ends are `step` apart.
    #[inline]
    pub fn first_window_open(self, span: WindowSpan, step: i64, bound: i64) -> Option<i64> {
        if self.is_open(span.first_end, bound) {
            return Some(span.first_end);
        }
        if !self.is_open(span.last_end, bound) {
            return None;
        }
        let closed = (self.closed_end(bound) - span.first_end).div_euclid(step) + 1;
        Some(span.first_end + closed * step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_row_counts_for_the_windows_that_had_not_closed_at_its_bound(
            time in -100i64..100, bound in -150i64..150, gap in 1i64..30, lateness in 0i64..20,
            (size, slide, align) in (1i64..40, 1i64..40, -5i64..5),
        ) {
            let shape = Shape::Sliding { size, slide, align };
            let (layout, closing) = (shape.layout().unwrap(), Closing::of(shape, lateness));
            let starts = (-200..200).map(|k| k * slide + align).filter(|start| (*start..start + size).contains(&time));
            let ends: Vec<i64> = starts.map(|start| start + size).collect();
            let open: Vec<i64> = ends.iter().copied().filter(|end| bound < end + lateness).collect();
            let span = layout.windows_of(time);
            let first = span.and_then(|span| closing.first_window_open(span, layout.step(), bound));
            prop_assert_eq!(first, open.first().copied());
            for end in ends {
                prop_assert_eq!(closing.is_open(end, bound), open.contains(&end));
                prop_assert_eq!(closing.closed_end(bound) < end, open.contains(&end));
            }
            // An event at the end of a session belongs to it.
            let (session, end) = (Closing::of(Shape::Session { gap }, lateness), time + gap);
            prop_assert_eq!(session.is_open(end, bound), bound <= end + lateness);
            prop_assert_eq!(session.closed_end(bound) < end, bound <= end + lateness);
        }
    }
}
