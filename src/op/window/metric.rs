//! The resolved spec of a metric: aggregate, filter, dimensions and windows.

use crate::expr::Expr;
use crate::op::aggregate::Call;

/// The shape of a metric's windows; all durations in µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `[start, start + size)` for every start that is a multiple of `slide` plus `align`; tumbling if slide = size.
    Sliding {
        /// Length of a window.
        size: i64,
        /// Distance between two starts.
        slide: i64,
        /// The shift of all starts.
        align: i64,
    },
    /// From a first event to `gap` after the last one, where each is at most `gap` from another.
    Session {
        /// The silence that ends a session.
        gap: i64,
    },
}

/// When rows are emitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Emit {
    /// When the watermark reaches the end of a window, and again when more of its events arrive.
    #[default]
    Panes,
    /// Once, when the window's state is dropped.
    Final,
}

/// One dimension: its name in the result and its expression.
#[derive(Debug)]
pub struct Dimension {
    /// The name.
    pub name: String,
    /// The column or property path, as text.
    pub expr: Expr,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// The aggregate and its arguments.
    pub call: Call,
    /// Only rows for which this is true count.
    pub filter: Option<Expr>,
    /// Its dimensions, in the order of the spec.
    pub by: Vec<Dimension>,
    /// Its windows.
    pub shape: Shape,
    /// How long a window stays open after its end (µs).
    pub lateness: i64,
    /// The spec as text. A snapshot restores only into the same text.
    pub text: String,
}

impl Shape {
    /// Returns the windows of a row at `time`, or `None` if it is in no window (a slide greater than the size leaves
    /// gaps).
    pub fn windows_of(size: i64, slide: i64, align: i64, time: i64) -> Option<WindowSpan> {
        let last_start = (time - align).div_euclid(slide) * slide + align;
        if time >= last_start + size {
            return None;
        }
        // The first window has the least start after time − size.
        let first_start = (time - size - align).div_euclid(slide) * slide + slide + align;
        Some(WindowSpan {
            first_end: first_start + size,
            last_end: last_start + size,
            slice: last_start.max(first_start - slide + size),
        })
    }
}

/// The windows that contain a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpan {
    /// End of the first.
    pub first_end: i64,
    /// End of the last.
    pub last_end: i64,
    /// Start of the slice: all rows of a slice are in the same windows.
    pub slice: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windows_of_a_row_are_those_a_naive_search_finds() {
        for (size, slide, align) in
            [(10, 10, 0), (10, 5, 0), (7, 5, 0), (3, 10, 0), (10, 10, 5), (10, 3, -4), (1, 1, 0)]
        {
            for time in -50..50 {
                let starts: Vec<i64> = (-80..80)
                    .map(|k| k * slide + align)
                    .filter(|start| (*start..start + size).contains(&time))
                    .collect();
                let span = Shape::windows_of(size, slide, align, time);
                assert_eq!(span.map(|span| span.first_end), starts.first().map(|start| start + size));
                assert_eq!(span.map(|span| span.last_end), starts.last().map(|start| start + size));
            }
        }
    }

    #[test]
    fn a_slice_holds_the_rows_of_the_same_windows() {
        for (size, slide, align) in [(10, 10, 0), (10, 5, 0), (7, 5, 1), (10, 3, -4)] {
            let mut last: Option<WindowSpan> = None;
            for time in -50..50 {
                let span = Shape::windows_of(size, slide, align, time).unwrap();
                assert!(span.slice <= time);
                if let Some(last) = last {
                    let same = (last.first_end, last.last_end) == (span.first_end, span.last_end);
                    assert_eq!(same, last.slice == span.slice, "{size} {slide} {align} {time}");
                }
                last = Some(span);
            }
        }
    }
}
