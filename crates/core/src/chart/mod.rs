//! Charts of metrics over time: collected from rows, then drawn as SVG or as text for a terminal.
//!
//! ```text
//! rows of metrics ─► collect (series) ─► scale (axes) ─┬─► svg
//!                                                      └─► braille
//! ```
//!
//! - `collect.rs`: rows to series, with bounds on memory and on the number of series.
//! - `scale.rs`: the axes: ticks and labels of times and values.
//! - `svg.rs`, `braille.rs`: the two drawings.
//!
//! A metric has a panel of its own, because its unit is its own. A point of a series is a window, at its start. A line
//! has a gap where windows are missing, so that no line is drawn through time without events.

mod braille;
mod collect;
mod scale;
mod svg;

pub use braille::text;
pub use collect::{Chart, Collected, Panel, Series};
pub use svg::svg;
