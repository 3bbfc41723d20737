//! Checks that the raw inputs of a run have different origins, and, for `--check`, the options of a source.
//!
//! An event's position is (origin, partition, offset); two raw inputs of one origin would give two events the same
//! position.

use super::options::{InputOptions, SourceOptions};
use crate::uri::Uri;
use crate::uri::readable;
use evt_core::error::{Error, Result};
use evt_core::format::{InputForm, Records, Splitter, not_utf8, row};
use evt_core::frame::Frame;
use evt_core::json::scan::is_json;
use evt_core::kind::Kind;
use evt_core::kind::event::STAMPS;
use evt_run::emit::RecordEmitter;
use evt_run::input::bytes::{Bytes, ReadOutcome};
use evt_run::input::frames::{FrameReader, Framed};
use evt_run::input::unopened::limits;
use evt_run::run::Run;
use std::collections::HashMap;
use std::rc::Rc;

/// Number of bytes in which the check looks for the first record of an input.
const FIRST_BYTES: usize = 64 << 10;

/// Checks what the options and the first records of files show: whether the flags can map records to rows, and whether
/// raw inputs have different origins. Errors: as `Source::open`.
pub fn check_unopened(inputs: &[Uri], mut options: SourceOptions, run: &Rc<Run>) -> Result<()> {
    let named_kind = options.records.kind;
    let inputs = options.prepare(inputs)?;
    RecordEmitter::new(run.clone(), options.records)?;
    check(&inputs, &options.inputs, named_kind, run)
}

/// Checks that no two raw inputs have the same origin: their events would have the same positions, and could get the
/// same ids. `kind` is the kind of all rows, if a flag names it. Errors: exit status 2.
pub(super) fn check(inputs: &[Uri], options: &InputOptions, kind: Option<Kind>, run: &Rc<Run>) -> Result<()> {
    let mut first: HashMap<String, &Uri> = HashMap::new();
    for input in inputs.iter().filter(|input| matches!(input, Uri::File(_) | Uri::Standard)) {
        let origin = options.names.origin_of(input);
        let Some(other) = first.get(&origin) else {
            first.insert(origin, input);
            continue;
        };
        if is_raw(other, options, kind, run)? && is_raw(input, options, kind, run)? {
            return Err(Error::usage(format!(
                "{other} and {input}: two raw inputs have the same origin ({origin}); read them in two runs, with \
                 --origin NAME for one of them"
            )));
        }
    }
    Ok(())
}

/// Whether an input has records without stamps, which this run stamps. True for a pipe, because its records cannot be
/// read in advance.
fn is_raw(input: &Uri, options: &InputOptions, kind: Option<Kind>, run: &Rc<Run>) -> Result<bool> {
    let Uri::File(path) = input else { return Ok(true) };
    if !std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return Ok(true);
    }
    let mut bytes = readable::open(input, run.clone(), false)?.in_encoding(options.files.text.encoding);
    if options.files.format.is_none() {
        bytes.read_head(None)?;
    }
    match options.reading().format_of(&bytes, options.files.follow)?.input {
        InputForm::None => Ok(true),
        InputForm::Frames => match FrameReader::new(bytes, run.ratio_max).read(None)? {
            Framed::Frame(Frame::Schema(schema)) => Ok(Kind::of(&schema).is_none()),
            _ => Ok(true),
        },
        InputForm::Container(open) => {
            let opened = open(bytes.whole_file()?, limits(run));
            Ok(opened.map_err(|error| error.at(bytes.name()))?.schema.is_none())
        }
        InputForm::Text(splitter) => Ok(match first_names(&mut bytes, splitter(&options.files.text))? {
            Some(names) => {
                let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
                let carries = !options.files.raw_only && STAMPS.iter().all(|stamp| names.contains(stamp));
                kind.unwrap_or_else(|| row::kind_of(&names)) == Kind::Event && !carries
            }
            None => true,
        }),
    }
}

/// Returns the field names of the first record of a text; `None` if it is not JSON.
fn first_names(bytes: &mut Bytes, mut splitter: Box<dyn Splitter>) -> Result<Option<Vec<String>>> {
    let mut head = vec![0; FIRST_BYTES];
    let mut length = 0;
    while length < head.len()
        && let ReadOutcome::Bytes(count) = bytes.read(&mut head[length..], None)?
    {
        length += count;
    }
    let mut records = Records::default();
    splitter.split(&head[..length], true, &mut records).map_err(|error| error.at(bytes.name()))?;
    let mut unread = String::new();
    let text = records.rows.first().and_then(|record| {
        let raw = || std::str::from_utf8(&head[record.raw.clone()]).map_err(|error| not_utf8(&error));
        records.json(record, raw, &mut unread)?.ok()
    });
    let names = text.filter(|text| is_json(text)).map(row::names_of);
    Ok(names.map(|names| names.into_iter().map(Into::into).collect()))
}
