//! The spool: keeps acknowledged requests on disk until the outputs have their records; or in memory without `--spool`.
//!
//! ```text
//! HTTP server ─► Keeper::keep ─► queue ─► writer ─► segments (DIR/*.log) ─► Inlet::next ─► stage ─► outputs
//!                answer ◄──────────────── after fdatasync                       │
//!                position, removal of segments ◄── Inlet::settle ◄──────────────┘
//! ```
//!
//! The HTTP server passes each request to a [`request::Keeper`], on any thread; the stage reads them in order from an
//! [`inlet::Inlet`] and reports the position up to which its outputs are safe. [`open`] makes both ends. docs/decisions/040
//! describes the files.
//!
//! [`request`] holds the types of both ends, [`promise`] what an acknowledgement promises. On disk: `queue` is the bounded
//! queue to the `writer`, which judges duplicates by `known`; [`entry`] and `segment` are the formats of entries and files,
//! [`shelf`] is the directory, `recover` reads it at the start, and [`inlet`] is the reading end. `memory` replaces all of
//! these without a disk.

pub mod entry;
pub mod inlet;
mod known;
mod memory;
pub mod promise;
mod queue;
mod recover;
pub mod request;
mod segment;
pub mod shelf;
mod writer;

use crate::error::{Error, ErrorKind, Result};
use crate::run::Run;
use inlet::{Inlet, Log};
use promise::Promise;
use queue::{Bell, Entrance, Exit, Queue};
use request::Keeper;
use shelf::{Bounds, Shelf};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use writer::{Create, Voice, Writer};

/// How long to wait for another run's lock: the system may release the lock of a killed process late.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How long to wait before reporting it.
const LOCK_SILENCE: Duration = Duration::from_secs(1);
/// Interval between attempts to lock.
const LOCK_TRIED: Duration = Duration::from_millis(50);

/// The reading end of a spool.
pub type SpoolReader = Box<dyn Inlet>;

/// Opens both ends of the spool that `promise` needs. The reading end ends once every reference to the keeper is dropped and
/// everything it kept has been read. Errors: exit status 75 if another run has the spool, 65 if the spool is damaged.
pub fn open(promise: &Promise, run: &Run) -> Result<(Arc<dyn Keeper>, SpoolReader)> {
    match promise {
        Promise::Spool { dir, bounds } => on_disk(dir, *bounds, run, writer::create),
        Promise::Output | Promise::Memory => {
            let (keeper, inlet) = memory::open(run.clock.now(), *promise == Promise::Output)?;
            Ok((Arc::new(keeper), Box::new(inlet)))
        }
    }
}

fn on_disk(dir: &Path, bounds: Bounds, run: &Run, create: Create) -> Result<(Arc<dyn Keeper>, SpoolReader)> {
    let shelf = Arc::new(claim(dir, bounds, run)?);
    let (bell, listen) = Bell::new().map_err(|error| Error::io("a pair of sockets", &error))?;
    let (console, clock) = (run.console.clone(), run.clock.clone());
    let voice = Voice { console, clock: clock.clone(), bell };
    let mut writer = Writer::new(shelf.clone(), 0, voice, create);
    let start = recover::recover(&shelf, &mut writer, &run.console)?;
    let queue = Arc::new(Queue::default());
    let (entrance, exit) = (Entrance { queue: queue.clone(), dir: shelf.dir().to_owned() }, Exit(queue));
    let spawned = std::thread::Builder::new().name("spool".into()).spawn(move || writer.run(&exit.0));
    spawned.map_err(|error| Error::io("the thread that writes the spool", &error))?;
    Ok((Arc::new(entrance), Box::new(Log::new(shelf, listen, clock, start))))
}

/// Locks the directory. Errors: exit status 75 if another run keeps the lock.
fn claim(dir: &Path, bounds: Bounds, run: &Run) -> Result<Shelf> {
    let (start, mut said) = (Instant::now(), false);
    loop {
        let error = match Shelf::open(dir, bounds, &run.metrics) {
            Err(error) if error.kind() == ErrorKind::Fenced => error,
            opened => return opened,
        };
        if start.elapsed() >= LOCK_WAIT || run.stop.signal().is_some() {
            return Err(error);
        }
        if start.elapsed() >= LOCK_SILENCE && !std::mem::replace(&mut said, true) {
            run.console.say(format!("{error}; waiting for the lock"));
        }
        run.stop.sleep(LOCK_TRIED)?;
    }
}

#[cfg(test)]
mod tests;
