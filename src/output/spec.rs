//! The flags of outputs, the format that each output gets, and the options of stores.
//!
//! `-o` decides first, then the file's extension, then the default of the tool for a terminal or for pipes and files.

use crate::output::file::Overwrite;
use crate::uri::Uri;
use evt_core::error::{Error, Result};
use evt_core::format::{self, EncodeOptions, Format};
use evt_core::parse::query;
use evt_run::console::Console;
use evt_run::metrics::ServerStatus;
use evt_run::run::Run;
use evt_store::OpenOptions;
use std::path::Path;
use std::sync::Arc;

/// The flags that apply to every output of a tool.
#[derive(Clone)]
pub struct OutputSpec {
    /// `-o`, if given.
    pub format: Option<&'static Format>,
    /// The default format on a terminal.
    pub terminal_format: &'static Format,
    /// The default format of a pipe, and of a file whose extension names no format.
    pub pipe_format: &'static Format,
    /// Whether the extension of a file must name a format. A side output of another name is in `pipe_format`.
    pub is_named: bool,
    /// `--quiet`: no notice about the format of standard output.
    pub quiet: bool,
    /// `--check`, which writes text of its own to standard output: a file to which the shell redirects it names no
    /// format.
    pub is_check: bool,
    /// `--overwrite`.
    pub overwrite: Overwrite,
    /// `--control`: watermarks are written as lines in JSON text.
    pub control: bool,
    /// Options of the text formats on standard output.
    pub encode: EncodeOptions,
}

impl OutputSpec {
    /// Returns the settings of a file: it has no width, and no colours.
    pub(super) fn of_file(&self, run: &Run) -> Self {
        let property_columns = self.encode.property_columns;
        let parallelism = run.pool.parallelism();
        Self { encode: EncodeOptions { property_columns, parallelism, ..EncodeOptions::default() }, ..self.clone() }
    }

    /// Returns the format of a file. Errors: exit status 2 if the extension is misleading, or unknown where the default
    /// is frames.
    pub(super) fn file_format(&self, path: &Path, name: &str) -> Result<&'static Format> {
        // The name of a FIFO or a device does not determine a format.
        let is_special = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        if let Some(wrong) = format::misnomer(path).filter(|_| !is_special) {
            return Err(Error::usage(wrong));
        }
        if let Some(format) = self.format.or_else(|| format::by_extension(name)) {
            return Ok(format);
        }
        match path.extension() {
            Some(_) if self.is_named && !is_special => {
                let written = format::ALL.iter().filter(|format| format.is_written());
                let mut known: Vec<String> =
                    written.flat_map(|format| format.extensions).map(|one| format!(".{one}")).collect();
                known.extend([".db", ".sqlite", ".gz", ".zst"].map(str::to_owned));
                Err(Error::usage(format!("{name}: unknown extension; use -o FORMAT or one of {}", known.join(" "))))
            }
            _ => Ok(self.pipe_format),
        }
    }
}

/// Returns the format. Errors: exit status 2 if it is for input only.
pub(super) fn written(format: &'static Format) -> Result<&'static Format> {
    match format.is_written() {
        true => Ok(format),
        false => Err(Error::usage(format!("-o {}: input format only", format.name))),
    }
}

/// Returns the format of standard output: that of `-o`, else of the name of a file to which the shell has redirected
/// it. Errors: exit status 74 if it is closed, 2 if frames would go to a terminal, or if the name is that of a file
/// which only `--to` writes.
pub(super) fn standard_format(spec: &OutputSpec, run: &Run) -> Result<&'static Format> {
    let io = &run.io;
    io.stdout(&run.stop)?;
    let terminal = io.has_terminal();
    let fallback = if terminal { spec.terminal_format } else { spec.pipe_format };
    let redirected = io.stdout_file().filter(|_| spec.format.is_none() && !spec.is_check);
    let named = redirected
        .as_deref()
        .map(|path| redirected_format(path, fallback, (!spec.quiet).then_some(&run.console)))
        .transpose()?
        .flatten();
    let format = written(spec.format.or(named).unwrap_or(fallback))?;
    match terminal && format.is_frames() {
        true => Err(Error::usage("frames are not written to a terminal; use -o jsonl or | evt-view")),
        false => Ok(format),
    }
}

/// Returns the format that the name of a redirected file names, if that is frames or lines of text. A name without such
/// a format gets frames, with a notice. Errors: exit status 2 for files that evt writes with a name only.
fn redirected_format(
    path: &Path,
    fallback: &'static Format,
    notices: Option<&Console>,
) -> Result<Option<&'static Format>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let named = format::by_extension(&name);
    if format::is_compressed(&name)
        || evt_store::by_extension(path).is_some()
        || named.is_some_and(|format| format.needs_name)
    {
        return Err(Error::usage(format!("stdout is the file {name}; use --to {name} instead of > {name}")));
    }
    if let Some(format) = named.filter(|format| format.appendable || format.is_frames()) {
        return Ok(Some(format));
    }
    if let Some(console) = notices.filter(|_| fallback.is_frames()) {
        console.say(format!("stdout is the file {name}, which gets frames; -o csv writes text"));
    }
    Ok(None)
}

/// Takes the options from the name of a Parquet file, `NAME.parquet?columns=auto`. Errors: exit status 2 for another
/// option.
pub(super) fn with_file_options(uri: Uri, mut spec: OutputSpec) -> Result<(Uri, OutputSpec)> {
    let Uri::File(path) = &uri else { return Ok((uri, spec)) };
    let Some((file, _)) = path.to_str().and_then(|path| path.split_once('?')) else { return Ok((uri, spec)) };
    let format = spec.format.or_else(|| format::by_extension(file));
    if !format.is_some_and(|format| format.has_property_columns) {
        return Ok((uri, spec));
    }
    let (file, options) = query::split(path.to_str().unwrap_or_default());
    for (name, value) in options {
        match name.as_str() {
            "columns" => format::parquet::parse_columns(&value)?,
            _ => return Err(Error::usage(format!("{file}: unknown option '{name}'; expected columns"))),
        }
        spec.encode.property_columns = true;
    }
    Ok((Uri::File(file.into()), spec))
}

/// Returns the options with which a run opens a store.
pub fn open_options(run: &Run, up: ServerStatus) -> OpenOptions {
    let (pipeline, clock) = (run.pipeline.clone(), run.clock.clone());
    let (id, disk) = (run.id.clone(), run.io.disk());
    OpenOptions {
        up,
        pipeline,
        run: id,
        epochs: false,
        is_at_once: false,
        clock: Arc::new(move || clock.now()),
        disk,
        parallelism: run.pool.parallelism(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::error::ErrorKind;
    use evt_core::format::{by_extension, frames, jsonl};

    fn spec(format: Option<&'static Format>, pipe_format: &'static Format) -> OutputSpec {
        OutputSpec {
            format,
            terminal_format: pipe_format,
            pipe_format,
            is_named: true,
            is_check: false,
            quiet: true,
            overwrite: Overwrite::Off,
            control: false,
            encode: EncodeOptions::default(),
        }
    }

    #[test]
    fn the_format_of_a_file_is_that_of_the_flag_then_of_its_extension_then_the_default() {
        let csv = by_extension("a.csv").expect("a format");
        let of = |spec: &OutputSpec, name: &str| spec.file_format(Path::new(name), name).map(|format| format.name);
        let (flagged, plain) = (spec(Some(&jsonl::FORMAT), csv), spec(None, csv));
        assert_eq!(of(&flagged, "missing/out.csv").ok(), Some("jsonl"));
        assert_eq!(of(&flagged, "missing/out.rows").ok(), Some("jsonl"));
        assert_eq!(of(&plain, "missing/out.jsonl.gz").ok(), Some("jsonl"));
        assert_eq!(of(&plain, "missing/out").ok(), Some("csv"));
        let error = of(&plain, "missing/out.rows").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("unknown extension"), "{error}");
        assert_eq!(of(&OutputSpec { is_named: false, ..plain }, "missing/out.rows").ok(), Some("csv"));
        assert_eq!(of(&spec(None, csv), "/dev/null").ok(), Some("csv"), "a device");
    }

    #[test]
    fn a_redirected_file_gets_the_text_format_of_its_name_and_no_container() {
        let of = |name: &str| redirected_format(Path::new(name), &frames::FORMAT, None);
        for (name, expected) in [
            ("a.CSV", Some("csv")),
            ("a.json", Some("jsonl")),
            ("a.frames", Some("frames")),
            ("a", None),
            ("a.txt", None),
        ] {
            assert_eq!(of(name).unwrap().map(|format| format.name), expected, "{name}");
        }
        for name in ["a.parquet", "a.db", "a.jsonl.gz", "a.zst"] {
            let error = of(name).err().expect("an error");
            assert!(error.to_string().contains(&format!("use --to {name}")), "{error}");
        }
    }
}
