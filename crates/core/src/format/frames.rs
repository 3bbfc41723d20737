//! Frames and foreign Arrow streams, which `frame` reads and writes.

use super::definition::{Format, InputForm};

/// The format.
pub const FORMAT: Format = Format {
    name: "frames",
    extensions: &["frames", "arrows"],
    magic: &[0xff; 4],
    input: InputForm::Frames,
    ..Format::BASE
};
