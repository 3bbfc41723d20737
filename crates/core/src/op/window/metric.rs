//! The resolved spec of a metric: aggregate, filter, dimensions and windows.

use crate::error::{Error, Result};
use crate::expr::{Expr, Leaves, Node, Want, hyphenated, parse, path_text, refused, without_blanks};
use crate::frame::MetricProgress;
use crate::op::aggregate::AggregateCall;
use crate::time::{Calendar, EARLIEST, LATEST, format_duration};

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
    /// The periods of a calendar.
    Calendar(Calendar),
    /// From the first event to `gap` after the last one; each event is at most `gap` after the one before it.
    Session {
        /// The time without an event that ends a session.
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
    /// The name in results.
    pub name: String,
    /// Its value, as text.
    pub expr: Expr,
    /// Its definition: the path, or `NAME=EXPR` without the blanks that do not matter.
    pub text: String,
}

impl Dimension {
    /// Parses `PATH` or `NAME=EXPR`. The name of a path is its text without quotes.
    ///
    /// Errors: exit status 78 if it is neither.
    pub fn parse(text: &str, leaves: &mut Leaves) -> Result<Self> {
        let (name, node) = named(text)?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(Error::config(
                "expected a name of a dimension that is not empty and has no control characters",
            ));
        }
        let (word, expr) = split_name(text);
        let text = word.map_or(expr.trim().to_owned(), |word| format!("{word}={}", without_blanks(expr)));
        Ok(Self { name, expr: Expr::of(&node, Want::AsText, expr, leaves)?, text })
    }

    /// Returns the name of the dimension that is written as `text`.
    ///
    /// Errors: exit status 78 if it is not a dimension.
    pub fn name_of(text: &str) -> Result<String> {
        Ok(named(text)?.0)
    }

    /// Parses the dimensions of a metric; each text may have several, with commas between them.
    ///
    /// Errors: exit status 78 if one is wrong, or if two have one name.
    pub fn parse_all(texts: &[String], leaves: &mut Leaves) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = vec![];
        for text in texts.iter().flat_map(|text| split_list(text)) {
            let dimension = Self::parse(text, leaves)?;
            if all.iter().any(|other| other.name == dimension.name) {
                return Err(Error::config(format!("by: duplicate dimension {}", dimension.name)));
            }
            all.push(dimension);
        }
        Ok(all)
    }
}

/// Returns the name and the expression of `PATH` or `NAME=EXPR`.
fn named(text: &str) -> Result<(String, Node)> {
    let (name, expr) = split_name(text);
    let node = parse(expr)?;
    let name = match (name, &node) {
        (Some(name), _) => name.to_owned(),
        (None, Node::Name(path)) => path_text(path),
        (None, _) => {
            let example = format!("class={}", without_blanks(expr));
            let one_name = hyphenated(&node).map_or_else(String::new, |hint| format!("; {hint}"));
            let why = format!("a dimension that is an expression needs a name, like {example}{one_name}");
            return Err(refused(expr, &why));
        }
    };
    Ok((name, node))
}

/// Splits `NAME=EXPR`, where NAME is a word; `ratio(a = 1)` has no name.
pub fn split_name(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, expr)) if is_word(name.trim()) && !expr.starts_with('=') => (Some(name.trim()), expr.trim()),
        _ => (None, text),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// Splits a text at the commas outside quotes and brackets.
pub fn split_list(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (vec![], 0, 0usize, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// The aggregate and its arguments.
    pub call: AggregateCall,
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

impl Metric {
    /// Returns how it is computed, as a store keeps it; `out_of_orderness` is that of the run.
    pub fn progress(&self, out_of_orderness: Option<String>) -> MetricProgress {
        let (size, slide, gap) = match self.shape {
            shape if shape == Shape::ALL => (Some("all".to_owned()), None, None),
            Shape::Sliding { size, slide, .. } => {
                (Some(format_duration(size)), (slide != size).then(|| format_duration(slide)), None)
            }
            Shape::Calendar(calendar) => (Some(calendar.unit.text().to_owned()), None, None),
            Shape::Session { gap } => (None, None, Some(format_duration(gap))),
        };
        MetricProgress {
            metric: self.name.clone(),
            size,
            slide,
            gap,
            lateness: format_duration(self.lateness),
            out_of_orderness,
            watermark: None,
            complete_since: None,
        }
    }
}

/// Returns the text of a metric in a snapshot ([`Metric::text`]) as a message shows it: durations are written as in a
/// spec.
pub fn shown(text: &str) -> String {
    let parsed = || {
        let (rest, lateness) = text.rsplit_once(" lateness ")?;
        let at = [" Sliding {", " Calendar(", " Session {"].iter().filter_map(|shape| rest.rfind(shape)).max()?;
        let (head, shape) = rest.split_at(at);
        let (head, by) = head.split_at(head.rfind(" by [")?);
        let by: Vec<String> = serde_json::from_str(by.trim_start_matches(" by ")).ok()?;
        let numbers = shape.split(|c: char| c != '-' && !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
        let windows = match numbers.collect::<Vec<i64>>()[..] {
            _ if shape.starts_with(" Calendar(") => "size of the calendar".to_owned(),
            [CALENDAR, ..] => "size all".to_owned(),
            [size, slide, _] if size == slide => format!("size {}", format_duration(size)),
            [size, slide, _] => format!("size {} slide {}", format_duration(size), format_duration(slide)),
            [gap] => format!("gap {}", format_duration(gap)),
            _ => return None,
        };
        let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
        let lateness: i64 = lateness.parse().ok()?;
        let lateness = if lateness == 0 { String::new() } else { format!(" lateness {}", format_duration(lateness)) };
        Some(format!("{}{by} {windows}{lateness}", head.strip_suffix(" where ").unwrap_or(head)))
    };
    parsed().unwrap_or_else(|| text.to_owned())
}

/// The length of the calendar (µs).
const CALENDAR: i64 = LATEST - EARLIEST + 1;

impl Shape {
    /// One window over the whole calendar. No stream time is beyond its end, so no row is late for it, and it fires
    /// when the input has ended.
    pub const ALL: Self = Self::Sliding { size: CALENDAR, slide: CALENDAR, align: EARLIEST };

    /// Returns the positions of its windows on the time line; `None` for sessions, which the events of a key make.
    pub fn layout(self) -> Option<Layout> {
        match self {
            Self::Sliding { size, slide, align } => Some(Layout::Even { size, slide, align }),
            Self::Calendar(calendar) => Some(Layout::Calendar(calendar)),
            Self::Session { .. } => None,
        }
    }
}

/// The positions of windows on the time line, the same for all keys; all durations in µs. The windows of a calendar are
/// tumbling: a row is in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As [`Shape::Sliding`].
    Even {
        /// Length of a window.
        size: i64,
        /// Distance between two starts.
        slide: i64,
        /// The shift of all starts.
        align: i64,
    },
    /// As [`Shape::Calendar`].
    Calendar(Calendar),
}

impl Layout {
    /// Returns the windows of a row at `time`, or `None` if it is in no window (a slide greater than the size leaves
    /// gaps).
    pub fn windows_of(self, time: i64) -> Option<WindowSpan> {
        let (size, slide, align) = match self {
            Self::Even { size, slide, align } => (size, slide, align),
            Self::Calendar(calendar) => {
                let (start, end) = calendar.period(time);
                return Some(WindowSpan { first_end: end, last_end: end, slice: start });
            }
        };
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

    /// Returns the start of the window that ends at `end`.
    pub fn start_of(self, end: i64) -> i64 {
        match self {
            Self::Even { size, .. } => end - size,
            Self::Calendar(calendar) => calendar.period(end.saturating_sub(1)).0,
        }
    }

    /// Returns the least start of the windows that end after an instant.
    pub fn first_start(self, after: i64) -> i64 {
        match self {
            Self::Even { size, .. } => after.saturating_sub(size),
            Self::Calendar(calendar) => calendar.period(after).0,
        }
    }

    /// Whether a window ends at `end`.
    pub fn has_end(self, end: i64) -> bool {
        match self {
            Self::Even { size, slide, align } => (end - size - align) % slide == 0,
            Self::Calendar(calendar) => calendar.period(end.saturating_sub(1)).1 == end,
        }
    }

    /// Returns the distance between the ends of the windows of one row. In a calendar a row is in one window only, so
    /// any distance shorter than a window is right.
    pub fn step(self) -> i64 {
        match self {
            Self::Even { slide, .. } => slide,
            Self::Calendar(_) => 1,
        }
    }

    /// Returns how much of a window (µs) is also in the next one.
    pub fn overlap(self) -> i64 {
        match self {
            Self::Even { size, slide, .. } => (size - slide).max(0),
            Self::Calendar(_) => 0,
        }
    }

    /// Whether each slice reaches from the start of a window to its first end.
    pub fn is_even(self) -> bool {
        match self {
            Self::Even { size, slide, .. } => size % slide == 0,
            Self::Calendar(_) => true,
        }
    }

    /// Returns the number of the slice that contains an instant. Slices are numbered along the time line. In a calendar
    /// each window is one slice, whose number is its start (µs).
    pub fn number(self, time: i64) -> i64 {
        match self {
            Self::Even { size, slide, align } => {
                let (slides, rest) = ((time - align).div_euclid(slide), (time - align).rem_euclid(slide));
                // The distance from a start to the window end inside its slide; 0 if ends coincide with starts.
                let edge = size % slide;
                if edge == 0 { slides } else { 2 * slides + i64::from(rest >= edge) }
            }
            Self::Calendar(calendar) => calendar.period(time).0,
        }
    }

    /// Returns the start of the slice with that number.
    pub fn slice_start(self, number: i64) -> i64 {
        match self {
            Self::Even { size, slide, align } => match size % slide {
                0 => number * slide + align,
                edge => number.div_euclid(2) * slide + align + number.rem_euclid(2) * edge,
            },
            Self::Calendar(_) => number,
        }
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

/// Returns the options that a snapshot must share, beside each metric's own text; `out_of_orderness` is `None` for all.
pub(crate) fn fingerprint(out_of_orderness: Option<i64>, explicit: bool, emit: Emit) -> String {
    let bound = out_of_orderness.map_or_else(|| "all".to_owned(), |bound| bound.to_string());
    format!("out_of_orderness {bound} explicit {explicit} emit {emit:?}")
}

/// Whether [`fingerprint`] is that of a stream with watermarks of its own.
pub(crate) fn is_explicit(fingerprint: &str) -> bool {
    fingerprint.contains(" explicit true ")
}

/// Compares the options of a snapshot with those of a run (`Window::fingerprint`). Errors: exit status 78 with those
/// that differ.
pub(crate) fn check_fingerprint(saved: &str, now: &str) -> Result<()> {
    let options = |text: &str| {
        let words: Vec<&str> = text.split(' ').collect();
        let shown = |pair: &[&str]| match *pair {
            ["out_of_orderness", bound] => {
                let bound = bound.parse().map_or_else(|_| bound.to_owned(), format_duration);
                format!("--out-of-orderness {bound}")
            }
            ["explicit", "true"] => "a stream with watermarks of its own".to_owned(),
            ["explicit", _] => "a stream without watermarks".to_owned(),
            ["emit", emit] => format!("--emit {}", emit.to_lowercase()),
            _ => pair.join(" "),
        };
        words.chunks(2).map(shown).collect::<Vec<_>>()
    };
    let differing: Vec<(String, String)> =
        options(saved).into_iter().zip(options(now)).filter(|(saved, now)| saved != now).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let (saved, now): (Vec<String>, Vec<String>) = differing.into_iter().unzip();
    let default = match saved.iter().any(|option| option.starts_with("--emit")) {
        true => " (the default is final if all outputs are CSV, TSV or tables, else panes)",
        false => "",
    };
    let (saved, now) = (saved.join(" and "), now.join(" and "));
    Err(Error::config(format!("expected {saved}, as in the checkpoint, found {now}{default}")))
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
                let span = Layout::Even { size, slide, align }.windows_of(time);
                assert_eq!(span.map(|span| span.first_end), starts.first().map(|start| start + size));
                assert_eq!(span.map(|span| span.last_end), starts.last().map(|start| start + size));
            }
        }
    }

    #[test]
    fn one_window_has_every_instant_of_the_calendar() {
        let layout = Shape::ALL.layout().unwrap();
        for time in [EARLIEST, -1, 0, 1_700_000_000_000_000, LATEST] {
            let end = LATEST + 1;
            let expected = WindowSpan { first_end: end, last_end: end, slice: EARLIEST };
            assert_eq!(layout.windows_of(time), Some(expected));
        }
    }

    #[test]
    fn a_list_is_split_outside_quotes_and_brackets() {
        for (text, parts) in [
            ("a", &["a"][..]),
            ("a, b.c ,\"d,e\"", &["a", "b.c", "\"d,e\""]),
            ("a=substr(x, 1, 2),b=tags[1],c", &["a=substr(x, 1, 2)", "b=tags[1]", "c"]),
            ("a=split_part(x, ',', 1),c='(,'", &["a=split_part(x, ',', 1)", "c='(,'"]),
            ("a=')',b", &["a=')'", "b"]),
            ("a,", &["a", ""]),
        ] {
            assert_eq!(split_list(text), parts, "{text}");
        }
    }

    #[test]
    fn a_name_before_an_expression_is_a_word_and_an_equals_sign() {
        assert_eq!(split_name("p99=approx_percentile(x, 0.99)"), (Some("p99"), "approx_percentile(x, 0.99)"));
        assert_eq!(split_name("ratio(a = 1)"), (None, "ratio(a = 1)"));
        assert_eq!(split_name("count(*)"), (None, "count(*)"));
    }

    #[test]
    fn a_slice_holds_the_rows_of_the_same_windows() {
        for (size, slide, align) in [(10, 10, 0), (10, 5, 0), (7, 5, 1), (10, 3, -4)] {
            let mut last: Option<WindowSpan> = None;
            for time in -50..50 {
                let span = Layout::Even { size, slide, align }.windows_of(time).unwrap();
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
