//! `--check`: whether a run could begin. Configuration, inputs, outputs, side outputs and schemas are looked at; no data
//! is read or written, nothing is made. A line for each says that it is ready, and what opening it would do first.

use crate::error::{Error, Result};
use crate::stream::http::{Options, Server};
use crate::stream::input;
use crate::stream::kafka::input::KafkaInput;
use crate::stream::output::Checked;
use crate::stream::run::Run;
use crate::stream::spool::shelf::Shelf;
use crate::stream::standard::print;
use crate::stream::uri::Uri;
use std::path::Path;
use std::rc::Rc;

/// What was found ready.
#[derive(Default)]
pub struct Findings(Vec<String>);

impl Findings {
    /// Something is ready.
    pub fn ready(&mut self, name: impl std::fmt::Display) {
        self.0.push(format!("{name}: ready\n"));
    }

    /// An input can be read: a file is there, a store lets us in, topics have partitions. Exit 2, 69, 74 or 78 where not.
    pub fn input(&mut self, uri: &Uri, run: &Rc<Run>) -> Result<()> {
        match uri {
            Uri::Standard => return Ok(()),
            Uri::Null => return Err(Error::usage("null: is no input")),
            Uri::File(_) => input::check(uri, false)?,
            Uri::Http(address) => address.check()?,
            Uri::Kafka(address) => KafkaInput::check(address, run)?,
            Uri::Store(store, location) => drop((store.tables)(location)?),
        }
        self.ready(uri);
        Ok(())
    }

    /// A front door could open: who may come to it, its tokens and its certificate. Exit 2, 74 or 78 where not.
    pub fn door(&mut self, options: &Options) -> Result<()> {
        for file in Server::check(options)? {
            self.ready(file.display());
        }
        Ok(())
    }

    /// A spool could be had: exit 74 where its directory cannot be written, 75 where another run has it.
    pub fn spool(&mut self, dir: &Path) -> Result<()> {
        Shelf::check(dir)?;
        self.ready(dir.display());
        Ok(())
    }

    /// An output was found good. Standard output always is.
    pub fn output(&mut self, checked: &Checked) {
        match checked.first() {
            _ if checked.name() == "-" => {}
            None => self.ready(checked.name()),
            Some(first) => self.0.push(format!("{}: ready, {first}\n", checked.name())),
        }
    }

    /// Says it all; exit 0.
    pub fn tell(&self) -> Result<u8> {
        print(&self.0.concat()).map(|()| 0)
    }
}
