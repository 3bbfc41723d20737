//! Shared by the tests of outputs: runs on simulated disks, flags, dead letters.

use super::OutputSpec;
use super::file::Overwrite;
use crate::clock::Clock;
use crate::format::{EncodeOptions, Format};
use crate::kind::dead::{ErrorType, Fault, Letter};
use crate::kind::letters::Builder;
use crate::run::Run;
use crate::run::io::{Io, Pipe};
use crate::storage::disk::Disk;
use arrow::array::RecordBatch;
use std::rc::Rc;

/// A run over this disk, at this time.
pub fn run(disk: Disk, clock: Clock) -> Rc<Run> {
    let io = Io::Simulated { stdin: Pipe::default(), stdout: Pipe::default(), disk, lag: 0 };
    Rc::new(Run { io, ..Run::unwatched("evt-test", clock) })
}

/// The flags of an output in this format, unless its name has an extension.
pub fn spec(format: &'static Format) -> OutputSpec {
    OutputSpec {
        format: None,
        terminal_format: format,
        pipe_format: format,
        is_named: true,
        quiet: true,
        is_check: false,
        overwrite: Overwrite::Off,
        control: false,
        encode: EncodeOptions::default(),
    }
}

/// Dead letters with these payloads.
pub fn letters<'a>(payloads: impl IntoIterator<Item = &'a str>) -> RecordBatch {
    let mut builder = Builder::new("evt-test", "host");
    let fault = Fault::new(ErrorType::ParseError, "a message");
    for (offset, payload) in (1..).zip(payloads) {
        let letter = Letter {
            payload: payload.as_bytes(),
            key: None,
            headers: None,
            arrived_at: None,
            fault: &fault,
            origin: "f",
            partition: "0",
            offset,
        };
        builder.push(&letter, 0).unwrap();
    }
    builder.finish().unwrap()
}
