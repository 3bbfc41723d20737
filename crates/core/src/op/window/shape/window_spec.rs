//! The windows of a metric, except sessions: which of them count a row, and which end within a range.

use super::closing::Closing;
use super::ends::{EndRange, Ends};
use crate::error::{Error, Result};
use crate::op::window::metric::{Layout, Metric};
use crate::time::{Calendar, ZONES_VERSION, format_instant};

/// The windows and lateness of a metric.
#[derive(Clone, Copy, Debug)]
pub struct WindowSpec {
    /// Its windows.
    pub layout: Layout,
    /// How long a window stays open after its end (µs).
    pub lateness: i64,
}

impl WindowSpec {
    /// Returns the windows of a metric, unless they are sessions.
    pub fn of(metric: &Metric) -> Option<Self> {
        metric.shape.layout().map(|layout| Self { layout, lateness: metric.lateness })
    }

    /// Returns when its windows close.
    pub fn closing(self) -> Closing {
        Closing::of_windows(self.lateness)
    }

    /// Returns the ends of the windows that count a row with this event time and bound.
    pub(crate) fn ends_of(self, time: i64, bound: i64) -> Option<EndRange> {
        let span = self.layout.windows_of(time)?;
        let first = self.closing().first_window_open(span, self.layout.step(), bound)?;
        Some(EndRange { first, last: span.last_end })
    }

    /// Returns the window ends of a row or slice, `ends`, that are within a range; none if no window ends there.
    pub(crate) fn clip(self, ends: EndRange, range: EndRange) -> Option<EndRange> {
        let EndRange { mut first, mut last } = ends;
        let step = self.layout.step();
        let steps = |distance: i64| (distance / step + i64::from(distance % step > 0)) * step;
        if range.first > first {
            first = first.saturating_add(steps(range.first.saturating_sub(first).min(ends.width().saturating_add(1))));
        }
        if range.last < last {
            last = last.saturating_sub(steps(last.saturating_sub(range.last).min(ends.width().saturating_add(1))));
        }
        (first <= last).then_some(EndRange { first, last })
    }

    /// Makes a set of ends smaller, with further ends, if there are too many. Ends of a calendar are far apart.
    pub(crate) fn thin(self, ends: &mut Ends) {
        if let Layout::Even { slide, .. } = self.layout {
            ends.thin(slide);
        }
    }

    /// Returns the end of the first window that contains a slice.
    pub(super) fn first_end(self, start: i64) -> Option<i64> {
        self.layout.windows_of(start).map(|span| span.first_end)
    }

    /// Checks a saved window end.
    ///
    /// Errors: exit status 65 if no window ends there, 78 if none does in this version of the time zone database.
    pub(crate) fn check_end(self, end: i64) -> Result<()> {
        match self.layout {
            layout if layout.has_end(end) => Ok(()),
            Layout::Even { .. } => Err(Error::corrupt("snapshot: invalid window")),
            Layout::Calendar(calendar) => Err(changed(calendar, end)),
        }
    }

    /// Checks the start and the last end of a saved slice, as [`WindowSpec::check_end`] does.
    pub(super) fn check_slice(self, start: i64, last_end: i64) -> Result<()> {
        let Layout::Calendar(calendar) = self.layout else { return Ok(()) };
        if calendar.period(start) == (start, last_end) { Ok(()) } else { Err(changed(calendar, start)) }
    }
}

fn changed(calendar: Calendar, instant: i64) -> Error {
    let Calendar { unit, zone } = calendar;
    let (at, units) = (format_instant(instant), unit.plural());
    Error::config(format!(
        "snapshot: expected {units} of {zone} to begin at {at}, as when it was saved; time zone database \
         {ZONES_VERSION} has another boundary"
    ))
}
