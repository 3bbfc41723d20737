//! A chart as text: a line of braille dots for each series, as wide as the terminal.

use super::collect::{Chart, ChartPoint, Panel, Series};
use super::scale::{self, Tick, TimeSpan, ValueRange};
use plotters::prelude::{Circle, Color, IntoDrawingArea, PathElement};
use plotters::style::BLACK;
use plotters_backend::{BackendColor, BackendCoord, DrawingBackend, DrawingErrorKind};
use std::convert::Infallible;
use unicode_width::UnicodeWidthStr;

/// Width of the labels of values (cells).
const GUTTER: usize = 9;
/// The least and the greatest width of a line (cells).
const WIDTH_MIN: usize = 20;
const WIDTH_MAX: usize = 200;
/// Width where none is known.
const WIDTH_PIPE: usize = 80;
/// Lines of text of a series.
const LINES: usize = 2;
/// Lines of text of a series in a panel with at most [`FEW`] series.
const LINES_OF_FEW: usize = 4;
/// The greatest number of series that get more lines.
const FEW: usize = 3;

/// Dots: a cell of text has two in width and four in height.
struct Dots {
    /// Cells in a line.
    width: usize,
    /// Lines of cells.
    height: usize,
    /// The dots of each cell as Unicode numbers them.
    bits: Vec<u8>,
}

/// Draws into dots.
struct Braille<'a>(&'a mut Dots);

impl DrawingBackend for Braille<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (2 * self.0.width as u32, 4 * self.0.height as u32)
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Result<(), DrawingErrorKind<Infallible>> {
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return Ok(()) };
        let Dots { width, height, .. } = *self.0;
        // A line at an angle is drawn as pairs of paler pixels; the darker one of a pair is the dot.
        if color.alpha >= 0.5 && x < 2 * width && y < 4 * height {
            self.0.bits[y / 4 * width + x / 2] |= BITS[y % 4][x % 2];
        }
        Ok(())
    }
}

impl Dots {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, bits: vec![0; width * height] }
    }

    /// Draws a series between the ends of both axes.
    fn draw(&mut self, series: &Series, times: TimeSpan, values: ValueRange) {
        let (width, height) = (2 * self.width, 4 * self.height);
        let place = |point: &ChartPoint| {
            let x = (times.fraction(point.time) * (width - 1) as f64).round() as i32;
            let up = values.fraction(point.value);
            (x, (height - 1) as i32 - (up * (height - 1) as f64).round() as i32)
        };
        let area = Braille(self).into_drawing_area();
        for part in &series.parts {
            let points: Vec<(i32, i32)> = part.iter().map(place).collect();
            // Drawing into memory cannot fail.
            let _ = match points.as_slice() {
                [point] => area.draw(&Circle::new(*point, 0, BLACK.filled())),
                _ => area.draw(&PathElement::new(points, BLACK.stroke_width(1))),
            };
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let line = |bits: &[u8]| bits.iter().filter_map(|bits| char::from_u32(0x2800 + u32::from(*bits))).collect();
        self.bits.chunks(self.width).map(line)
    }
}

/// Returns a chart as lines of text, for a terminal of this width (cells).
pub fn text(chart: &Chart, width: Option<usize>) -> String {
    let Some(span) = chart.span else { return "no windows to draw\n".to_owned() };
    let width = width.unwrap_or(WIDTH_PIPE).saturating_sub(GUTTER + 2).clamp(WIDTH_MIN, WIDTH_MAX);
    let mut out = String::new();
    for panel in &chart.panels {
        draw_panel(panel, span, width, &mut out);
    }
    let (start, end) = (scale::instant(span.start), scale::instant(span.end));
    out.push_str(&format!("{start} to {end} UTC\n"));
    if !chart.left_out.is_empty() {
        out.push_str(&format!("metrics left out: {}\n", chart.left_out.join(", ")));
    }
    out
}

fn draw_panel(panel: &Panel, span: TimeSpan, width: usize, out: &mut String) {
    out.push_str(&format!("{}\n", panel.title()));
    let lines = if panel.series.len() <= FEW { LINES_OF_FEW } else { LINES };
    for series in &panel.series {
        let label = |value: Option<f64>| value.map_or("NULL".to_owned(), scale::value_label);
        let (least, greatest) = (series.extremes.map(|all| all.low), series.extremes.map(|all| all.high));
        let numbers = format!("min {}  max {}  last {}", label(least), label(greatest), label(series.last));
        let room = (GUTTER + 2 + width).saturating_sub(series.name.width() + numbers.width()).max(2);
        out.push_str(&format!("{}{}{numbers}\n", series.name, " ".repeat(room)));
        let axis = scale::axis_range(series.extent.unwrap_or(ValueRange::UNIT));
        let mut dots = Dots::new(width, lines);
        dots.draw(series, span, axis);
        for (at, line) in dots.lines().enumerate() {
            let value = match at {
                0 => scale::value_label(axis.high),
                at if at + 1 == lines => scale::value_label(axis.low),
                _ => String::new(),
            };
            out.push_str(&format!("{value:>GUTTER$} ┤{}\n", line.trim_end_matches('\u{2800}')));
        }
    }
    out.push_str(&times(span, width));
    if let Some(note) = panel.note() {
        out.push_str(&format!("{note}\n"));
    }
    out.push('\n');
}

/// Returns the line with the labels of times, those for which there is room.
fn times(span: TimeSpan, width: usize) -> String {
    let mut line = " ".repeat(GUTTER + 2);
    for Tick { at, label } in scale::time_ticks(span, (width / 12).max(2) as i64) {
        let place = GUTTER + 2 + (span.fraction(at) * (width - 1) as f64).round() as usize;
        // The last character of a label is in the line; a blank is between two labels.
        let begin = place.saturating_sub(label.width() / 2).min(GUTTER + 2 + width - label.width().min(width));
        if begin > line.width() || line.trim().is_empty() && begin >= line.width() {
            line.push_str(&" ".repeat(begin - line.width()));
            line.push_str(&label);
        }
    }
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::super::collect::tests::{collected, row};
    use super::*;

    #[test]
    fn each_series_is_a_line_of_dots_with_its_numbers_between_labelled_axes() {
        let rows: Vec<_> = (0..24)
            .flat_map(|hour| {
                let up = row("{\"k\":\"up\"}", hour, Some(hour as f64 * 10.0));
                [up, row("{\"k\":\"once\"}", hour, (hour == 12).then_some(5.0))]
            })
            .collect();
        let text = text(&collected(&rows).finish(), Some(60));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "m, windows of 1h");
        assert!(lines[1].starts_with("k=up ") && lines[1].ends_with("min 0  max 230  last 230"), "{text}");
        assert!(lines[2].starts_with("      230 ┤") && lines[5].starts_with("        0 ┤"), "{text}");
        let dots = |line: &str| line.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count();
        assert!(lines[2..6].iter().all(|line| (10..20).contains(&dots(line))), "{text}");
        assert_eq!(lines[7..11].iter().map(|line| dots(line)).sum::<usize>(), 1, "{text}");
        assert!(
            lines[11].contains("12:00") && lines[13].contains("1970-01-01 00:00 to 1970-01-02 00:00 UTC"),
            "{text}"
        );
        assert!(lines.iter().all(|line| line.width() <= 60), "{text}");
    }

    #[test]
    fn any_width_and_number_of_windows_can_be_drawn() {
        for width in [None, Some(1), Some(30), Some(1_000)] {
            assert_eq!(text(&collected(&[]).finish(), width), "no windows to draw\n");
            for rows in [vec![row("{}", 0, None)], vec![row("{}", 0, Some(-3.0))], vec![row("{}", 0, Some(1e300))]] {
                assert!(text(&collected(&rows).finish(), width).contains("1970-01-01"));
            }
        }
    }
}
