//! The requested outputs, and the formats that follow from them.

use crate::error::{Error, Result};
use crate::format::{self, EncodeOptions, Format};
use crate::run::io::Io;
use std::path::Path;

/// How rows are written, where their URI leaves a choice.
#[derive(Clone)]
pub struct OutputSpec {
    /// `-o`, if given.
    pub format: Option<&'static Format>,
    /// What a terminal gets where no format is named.
    pub terminal_format: &'static Format,
    /// What a pipe or a file without a telling name gets.
    pub pipe_format: &'static Format,
    /// `--overwrite`.
    pub overwrite: bool,
    /// `--control`: control messages are written as lines in text.
    pub control: bool,
    /// How tables look.
    pub encode: EncodeOptions,
}

impl OutputSpec {
    /// The format of a file; exit 2 where its name promises another one than it would get.
    pub(super) fn file_format(&self, path: &Path, name: &str) -> Result<&'static Format> {
        // A pipe or a device has any name.
        let is_special = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        if let Some(wrong) = format::misnomer(path).filter(|_| !is_special) {
            return Err(Error::usage(wrong));
        }
        if let Some(format) = self.format.or_else(|| format::by_extension(name)) {
            return Ok(format);
        }
        match path.extension() {
            Some(_) if self.pipe_format.is_frames() && !is_special => {
                let written = format::ALL.iter().filter(|format| format.is_written());
                let known: Vec<String> =
                    written.flat_map(|format| format.extensions).map(|one| format!(".{one}")).collect();
                Err(Error::usage(format!("{name}: unknown extension; use -o FORMAT or one of {}", known.join(" "))))
            }
            _ => Ok(self.pipe_format),
        }
    }
}

/// The format, if it is one that is written.
pub(super) fn written(format: &'static Format) -> Result<&'static Format> {
    match format.is_written() {
        true => Ok(format),
        false => Err(Error::usage(format!("-o {}: input format only", format.name))),
    }
}

pub(super) fn standard_format(spec: &OutputSpec, io: &Io) -> Result<&'static Format> {
    io.stdout()?;
    let terminal = io.has_terminal();
    let fallback = if terminal { spec.terminal_format } else { spec.pipe_format };
    let format = written(spec.format.unwrap_or(fallback))?;
    match terminal && format.is_frames() {
        true => Err(Error::usage("frames are not written to a terminal; use -o jsonl or | evt-view")),
        false => Ok(format),
    }
}
