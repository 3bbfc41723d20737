//! Shared by the tests of outputs: runs on simulated disks, flags, dead letters.

use super::OutputSpec;
use super::file::Overwrite;
use arrow::array::RecordBatch;
use evt_core::format::{EncodeOptions, Format};
use evt_core::kind::dead::{ErrorType, Fault, Letter};
use evt_core::kind::letters::Builder;
use evt_run::clock::Clock;
use evt_run::run::Run;
use evt_run::run::io::{Io, Pipe};
use evt_run::storage::disk::Disk;
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
