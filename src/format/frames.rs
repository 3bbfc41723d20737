//! Frames and foreign Arrow streams, which `frame` reads and writes.

use super::definition::{Format, Input};

/// The format.
pub const FORMAT: Format = Format {
    name: "frames",
    extensions: &["frames", "arrows"],
    magic: &[0xff; 4],
    input: Input::Frames,
    ..Format::BASE
};
