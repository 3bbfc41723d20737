//! The spool: requests that were acknowledged, kept on disk until the outputs have their records; and what stands in
//! for it where no disk is asked for.
//!
//! The front door hands each request to a [`request::Keeper`], on any thread; the stage reads them in their order from
//! an [`inlet::Inlet`] and says how far its outputs are. [`open`] makes both ends. What a spool holds on disk is
//! said in docs/decisions/040.

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

/// How long another run is waited for that has the spool: the system takes its time with the lock of one that was killed.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How long that is nothing to speak of.
const LOCK_SILENCE: Duration = Duration::from_secs(1);
/// How often the lock is tried.
const LOCK_TRIED: Duration = Duration::from_millis(50);

/// What a stage reads of the requests that were kept.
pub type SpoolReader = Box<dyn Inlet>;

/// Both ends of what keeps requests as promised. The reading end is at its end once the keeper has been dropped by all
/// who hold it and everything it kept has been read.
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
    let (console, clock) = (run.console.clone(), run.clock);
    let voice = Voice { console, clock, bell };
    let mut writer = Writer::new(shelf.clone(), (0, voice, create));
    let start = recover::recover(&shelf, &mut writer, &run.console)?;
    let queue = Arc::new(Queue::default());
    let (entrance, exit) = (Entrance { queue: queue.clone(), dir: shelf.dir().to_owned() }, Exit(queue));
    let spawned = std::thread::Builder::new().name("spool".into()).spawn(move || writer.run(&exit.0));
    spawned.map_err(|error| Error::io("the thread that writes the spool", &error))?;
    Ok((Arc::new(entrance), Box::new(Log::new(shelf, listen, clock, start))))
}

/// The directory, once no other run has it; exit 75 where one goes on having it.
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
            run.console.say(format!("{error}: waiting until it is gone"));
        }
        run.stop.sleep(LOCK_TRIED)?;
    }
}

#[cfg(test)]
mod tests;
