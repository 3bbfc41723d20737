//! A chart as SVG, 800 pixels wide, light or dark as the reader prefers.
//!
//! plotters writes each colour into the attributes of its elements. A style sheet replaces these colours if the reader
//! prefers a dark background; a program that ignores style sheets shows the light chart.

use super::collect::{Chart, Panel, SERIES_MAX, Series};
use super::scale::{self, Tick, TimeSpan, ValueRange};
use crate::error::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::{Circle, Color, DrawingArea, IntoDrawingArea, IntoFont, PathElement, RGBColor, SVGBackend};
use plotters::style::TextStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::{Display, Write};

/// Width of the chart, and the margins of a plot in it (pixels).
const WIDTH: i32 = 800;
const LEFT: i32 = 64;
const RIGHT: i32 = 24;
/// Heights of the parts (pixels).
const HEAD: i32 = 16;
const TITLE: i32 = 30;
const PLOT: i32 = 240;
const TIMES: i32 = 30;
const LEGEND_LINE: i32 = 19;
const FOOT: i32 = 26;
/// Columns of the legend.
const COLUMNS: usize = 2;
/// Characters of a line of the legend, beside its value.
const LEGEND_CHARS: usize = 40;

/// A colour of both themes.
#[derive(Clone, Copy)]
struct Shade {
    light: RGBColor,
    /// As CSS.
    dark: &'static str,
}

const fn shade(red: u8, green: u8, blue: u8, dark: &'static str) -> Shade {
    Shade { light: RGBColor(red, green, blue), dark }
}

const PAPER: Shade = shade(255, 255, 255, "#0D1117");
const INK: Shade = shade(31, 35, 40, "#E6EDF3");
const FAINT: Shade = shade(89, 99, 110, "#9198A1");
const GRID: Shade = shade(222, 226, 231, "#2A313C");
/// The colours of series.
const LINES: [Shade; SERIES_MAX] = [
    shade(9, 105, 218, "#58A6FF"),
    shade(207, 80, 6, "#F0883E"),
    shade(26, 127, 55, "#56D364"),
    shade(130, 80, 223, "#BC8CFF"),
    shade(191, 57, 137, "#F778BA"),
    shade(27, 124, 131, "#39C5CF"),
    shade(154, 103, 0, "#E3B341"),
    shade(164, 14, 38, "#FF7B72"),
    shade(76, 90, 120, "#A5B4D4"),
    shade(77, 45, 0, "#D2A679"),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Returns a chart as a document.
pub fn svg(chart: &Chart) -> Result<String> {
    let heights: Vec<i32> = chart.panels.iter().map(height).collect();
    let height = HEAD + heights.iter().sum::<i32>().max(TITLE) + FOOT;
    let mut body = String::new();
    {
        let area = SVGBackend::with_string(&mut body, (WIDTH as u32, height as u32)).into_drawing_area();
        area.fill(&PAPER.light).map_err(broken)?;
        let mut top = HEAD;
        for (panel, height) in chart.panels.iter().zip(heights) {
            Drawing { area: &area, panel, times: chart.span.unwrap_or_default(), top }.draw()?;
            top += height;
        }
        let foot = match chart.span {
            Some(TimeSpan { start, end }) => format!("{} to {} UTC", scale::instant(start), scale::instant(end)),
            None => "no windows".to_owned(),
        };
        let more = match chart.left_out.as_slice() {
            [] => String::new(),
            names => format!("; left out: {}", names.join(", ")),
        };
        let foot: String = format!("{foot}{more}").chars().take(110).collect();
        write_text(&area, &foot, Label { x: LEFT, y: height - FOOT + 6, ..NOTE })?;
        area.present().map_err(broken)?;
    }
    Ok(with_style(&body))
}

fn broken<E: Display>(error: E) -> Error {
    Error::broken(format!("the chart cannot be drawn: {error}"))
}

/// Adds the style sheet of the dark chart.
fn with_style(body: &str) -> String {
    let mut dark = String::new();
    for Shade { light: RGBColor(red, green, blue), dark: color } in [PAPER, INK, FAINT, GRID].into_iter().chain(LINES) {
        let light = format!("#{red:02X}{green:02X}{blue:02X}");
        // Writing to a String cannot fail.
        let _ = writeln!(dark, "    [fill=\"{light}\"] {{ fill: {color} }} [stroke=\"{light}\"] {{ stroke: {color} }}");
    }
    let style = format!(
        "<style>\n  text {{ font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif }}\n  \
         polyline {{ stroke-linejoin: round; stroke-linecap: round }}\n  \
         @media (prefers-color-scheme: dark) {{\n{dark}  }}\n</style>\n"
    );
    match body.split_once(">\n") {
        Some((head, rest)) => format!("{head}>\n{style}{rest}\n"),
        None => body.to_owned(),
    }
}

/// Returns the height of a panel (pixels).
fn height(panel: &Panel) -> i32 {
    let lines = panel.series.len().div_ceil(COLUMNS) as i32 + i32::from(panel.note().is_some());
    TITLE + PLOT + TIMES + lines * LEGEND_LINE + 12
}

/// The place, the size (both in pixels) and the shade of a text.
#[derive(Clone, Copy)]
struct Label {
    /// The place of its left side, middle or right side: `side` says which one.
    x: i32,
    side: HPos,
    /// Its top.
    y: i32,
    size: i32,
    shade: Shade,
}

/// A small text.
const NOTE: Label = Label { x: 0, side: HPos::Left, y: 0, size: 12, shade: FAINT };

fn write_text(area: &Area<'_>, text: &str, label: Label) -> Result<()> {
    // plotters divides the size of a font by 1.24.
    let font = ("sans-serif", f64::from(label.size) * 1.24).into_font();
    let style = TextStyle::from(font).color(&label.shade.light).pos(Pos::new(label.side, VPos::Top));
    area.draw_text(text, &style, (label.x, label.y)).map_err(broken)
}

/// A panel that is drawn.
struct Drawing<'a, 'b> {
    area: &'a Area<'b>,
    panel: &'a Panel,
    times: TimeSpan,
    /// The upper edge of the panel (pixels).
    top: i32,
}

impl Drawing<'_, '_> {
    fn draw(&self) -> Result<()> {
        let Self { panel, top, .. } = self;
        write_text(self.area, &panel.title(), Label { x: LEFT, y: *top, shade: INK, size: 15, side: HPos::Left })?;
        let ticks = scale::value_ticks(scale::axis_range(panel.extent().unwrap_or(ValueRange::UNIT)), 5.0);
        let values = match ticks.as_slice() {
            [low, .., high] => ValueRange { low: low.at, high: high.at },
            _ => ValueRange::UNIT,
        };
        for Tick { at, label } in &ticks {
            let y = self.y(*at, values);
            self.line(vec![(LEFT, y), (WIDTH - RIGHT, y)], GRID, 1)?;
            write_text(self.area, label, Label { x: LEFT - 8, y: y - 6, side: HPos::Right, ..NOTE })?;
        }
        let floor = self.top + TITLE + PLOT;
        for Tick { at, label } in scale::time_ticks(self.times, 8) {
            let x = self.x(at);
            self.line(vec![(x, floor), (x, floor + 5)], FAINT, 1)?;
            write_text(self.area, &label, Label { x, y: floor + 9, side: HPos::Center, ..NOTE })?;
        }
        self.line(vec![(LEFT, floor), (WIDTH - RIGHT, floor)], FAINT, 1)?;
        // The greatest series is drawn last, above the others.
        for (series, shade) in panel.series.iter().zip(LINES).rev() {
            self.series(series, shade, values)?;
        }
        self.legend(floor + TIMES)
    }

    fn x(&self, time: i64) -> i32 {
        LEFT + (self.times.fraction(time) * f64::from(WIDTH - LEFT - RIGHT)).round() as i32
    }

    fn y(&self, value: f64, values: ValueRange) -> i32 {
        self.top + TITLE + PLOT - (values.fraction(value) * f64::from(PLOT)).round() as i32
    }

    fn line(&self, points: Vec<(i32, i32)>, shade: Shade, width: u32) -> Result<()> {
        self.area.draw(&PathElement::new(points, shade.light.stroke_width(width))).map_err(broken)
    }

    /// Draws the parts of a series; a part of one window is a dot.
    fn series(&self, series: &Series, shade: Shade, values: ValueRange) -> Result<()> {
        for part in &series.parts {
            let points: Vec<(i32, i32)> =
                part.iter().map(|point| (self.x(point.time), self.y(point.value, values))).collect();
            match points.as_slice() {
                [] => {}
                [point] => self.area.draw(&Circle::new(*point, 3, shade.light.filled())).map_err(broken)?,
                _ => self.line(points, shade, 2)?,
            }
        }
        Ok(())
    }

    fn legend(&self, top: i32) -> Result<()> {
        let (series, width) = (&self.panel.series, (WIDTH - LEFT - RIGHT) / COLUMNS as i32);
        let lines = series.len().div_ceil(COLUMNS);
        for (at, (one, shade)) in series.iter().zip(LINES).enumerate() {
            let (x, y) = (LEFT + (at / lines) as i32 * width, top + (at % lines) as i32 * LEGEND_LINE);
            self.line(vec![(x, y + 6), (x + 20, y + 6)], shade, 3)?;
            let mut name: String = one.name.chars().take(LEGEND_CHARS).collect();
            if name.len() < one.name.len() {
                name.pop();
                name.push('…');
            }
            write_text(self.area, &name, Label { x: x + 28, y, shade: INK, ..NOTE })?;
            if let Some(last) = one.last {
                let last = format!("last {}", scale::value_label(last));
                write_text(self.area, &last, Label { x: x + width - 16, y, side: HPos::Right, ..NOTE })?;
            }
        }
        let y = top + lines as i32 * LEGEND_LINE;
        let label = Label { x: LEFT, y, ..NOTE };
        self.panel.note().map_or(Ok(()), |note| write_text(self.area, &note, label))
    }
}

#[cfg(test)]
mod tests {
    use super::super::collect::tests::{collected, row};
    use super::*;

    #[test]
    fn a_chart_has_axes_a_legend_and_both_themes_and_its_text_is_escaped() {
        let rows: Vec<_> = (0..30)
            .flat_map(|hour| {
                [row("{\"k\":\"<a&b>\"}", hour, Some(hour as f64 * 900.0)), row("{\"k\":\"b\"}", hour, Some(20.0))]
            })
            .collect();
        let text = svg(&collected(&rows).finish()).unwrap();
        let wanted = [
            "<svg width=\"800\"",
            "m, windows of 1h",
            "k=&lt;a&amp;b&gt;",
            "last 26.1k",
            "30k",
            "1970-01-01 00:00 to 1970-01-02 06:00 UTC",
            "@media (prefers-color-scheme: dark)",
            "2 Jan",
        ];
        wanted.into_iter().for_each(|part| assert!(text.contains(part), "{part}: {text}"));
        assert_eq!(text.matches("stroke=\"#0969DA\" stroke-width=\"2\"").count(), 1, "{text}");
    }

    #[test]
    fn a_chart_without_windows_says_so() {
        assert!(svg(&collected(&[]).finish()).unwrap().contains("no windows"));
        assert!(svg(&collected(&[row("{}", 0, None)]).finish()).unwrap().contains("1970-01-01 00:00 to"));
    }
}
