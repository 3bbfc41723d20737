//! `--check`: whether a run could begin. Configuration, inputs, outputs, side outputs and schemas are looked at; no data
//! is read or written, nothing is made. Each has a line: it is ready, and what opening it would do first, or its fault.

use super::args::StageArgs;
use super::look::{Faults, Looked, Usual, check_ends, check_side, look, promise};
use crate::error::{Error, ErrorKind, Result};
use crate::http::check_address;
use crate::http::{Options, Server};
use crate::kafka::input::KafkaInput;
use crate::registry::place;
use crate::run::Run;
use crate::run::standard::print;
use crate::spool::promise::Promise;
use crate::spool::shelf::Shelf;
use crate::store::remote::rounded;
use crate::stream::output::Checked;
use crate::stream::source::SourceOptions;
use crate::uri::Uri;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long all servers together have to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// How much later a client that does not heed the limit is given up.
const GRACE: Duration = Duration::from_secs(2);
/// Kinds of faults, those first that no restart and no waiting heals: the first one found is the exit status.
const WORST_FIRST: [ErrorKind; 7] = [
    ErrorKind::Broken,
    ErrorKind::Usage,
    ErrorKind::Config,
    ErrorKind::Corrupt,
    ErrorKind::Io,
    ErrorKind::Fenced,
    ErrorKind::Unavailable,
];

/// What opening something would do first, if anything; or why it cannot be opened: an address may name several topics.
type Answer = std::result::Result<Option<String>, Faults>;

/// One line of a check.
enum Finding {
    Known(Answer),
    /// A server has been asked.
    Asked(Receiver<Answer>),
}

/// What was looked at, in order. Servers are asked at the same time.
pub struct Findings {
    run: Rc<Run>,
    found: Vec<(String, Finding)>,
    faults: Faults,
    deadline: Instant,
}

impl Findings {
    /// Nothing has been looked at yet; the time of the servers begins.
    pub fn new(run: &Rc<Run>) -> Self {
        let deadline = Instant::now() + LIMIT;
        run.stop.set_deadline(deadline);
        Self { run: run.clone(), found: vec![], faults: Faults::default(), deadline }
    }

    /// What is good; a fault is kept.
    pub fn take<T>(&mut self, found: Result<T>) -> Option<T> {
        self.faults.take(found)
    }

    /// Something is ready.
    pub fn ready(&mut self, name: impl std::fmt::Display) {
        self.know(name, Ok(None));
    }

    /// Something was looked at.
    fn know(&mut self, name: impl std::fmt::Display, answer: Result<Option<String>>) {
        self.found.push((name.to_string(), Finding::Known(answer.map_err(Faults::from))));
    }

    /// Asks a server, in a thread that is left behind where it does not answer.
    fn ask(&mut self, name: impl std::fmt::Display, question: impl FnOnce(&Rc<Run>) -> Answer + Send + 'static) {
        let (sender, answer) = channel();
        let run = self.run.for_thread();
        let work = move || {
            // Nobody waits any more where the time is over.
            let _ = sender.send(question(&Rc::new(run)));
        };
        let finding = match std::thread::Builder::new().name("check".to_owned()).spawn(work) {
            Ok(_) => Finding::Asked(answer),
            Err(error) => Finding::Known(Err(Error::io("a thread", &error).into())),
        };
        self.found.push((name.to_string(), finding));
    }

    /// Whether schemas can be asked for.
    pub fn schemas(&mut self, text: &str) {
        let Some(name) = self.take(place::name(text)) else { return };
        let text = text.to_owned();
        self.ask(name, move |run| {
            place::check(&text, &run.console)?;
            Ok(None)
        });
    }

    /// An input can be read: a file is there, a store lets us in, topics have partitions. Exit 2, 69, 74 or 78 where not.
    fn input(&mut self, uri: Uri) {
        let name = uri.to_string();
        match uri {
            Uri::Standard => {}
            Uri::Null => self.know(name, Err(Error::usage("null: is no input"))),
            Uri::File(_) => self.ready(name),
            Uri::Http(address) => self.know(name, check_address(&address).map(|()| None)),
            Uri::Kafka(address) => self.ask(name, move |run| match KafkaInput::check(&address, run)? {
                faults if faults.is_empty() => Ok(None),
                faults => Err(Faults(faults)),
            }),
            Uri::Store(store, location) => {
                let look = move || (store.tables)(&location).map(|_| None);
                // What a file of this machine takes is no outage.
                if store.is_remote() { self.ask(name, move |_| Ok(look()?)) } else { self.know(name, look()) }
            }
        }
    }

    /// An output can be written. Standard output always can.
    fn output(&mut self, output: Checked) {
        if output.name() != "-" {
            let name = output.name().to_owned();
            self.ask(name, move |run| Ok(output.ask(run)?.first().map(str::to_owned)));
        }
    }

    /// A front door could open: who may come to it, its tokens and its certificate. Exit 2, 74 or 78 where not.
    fn door(&mut self, options: &Options) {
        for found in Server::check(options) {
            self.take(found).iter().flatten().for_each(|file| self.ready(file.display()));
        }
    }

    /// Looks at all that a stage of `args` would open, and says it; the exit status. `options` are none where their
    /// fault is known; `side` is one more output, of the tool's own.
    pub fn stage(
        mut self,
        args: &StageArgs,
        usual: Usual,
        options: Option<&SourceOptions>,
        side: Option<&OsStr>,
    ) -> Result<u8> {
        let side = side.map(|side| check_side(side, &self.run)).and_then(|side| self.take(side));
        let Looked { inputs, checked, dlq, faults } = look(side.as_ref(), args, false, usual, &self.run);
        self.faults.0.extend(faults.0);
        if let Some(options) = options {
            self.take(check_ends(options, &inputs, checked.iter().chain(&dlq).chain(&side)));
            let promise = self.take(promise(options, &inputs, checked.iter().chain(&dlq))).flatten();
            if let Some(door) = &options.http {
                self.door(door);
            }
            if let Some(Promise::Spool { dir, .. }) = &promise {
                self.know(dir.display(), Shelf::check(dir).map(|()| None));
            }
        }
        inputs.into_iter().for_each(|input| self.input(input));
        checked.into_iter().chain(dlq).chain(side).for_each(|output| self.output(output));
        self.tell()
    }

    /// Says what is ready, then the faults; the exit status is that of the worst one.
    pub fn tell(mut self) -> Result<u8> {
        let mut ready = String::new();
        let last = self.deadline + GRACE;
        for (name, finding) in std::mem::take(&mut self.found) {
            let answer = match finding {
                Finding::Known(answer) => answer,
                Finding::Asked(receiver) => {
                    let left = last.saturating_duration_since(Instant::now());
                    let silent = || Error::new(ErrorKind::Unavailable, format!("no answer for {}", rounded(LIMIT)));
                    receiver.recv_timeout(left).unwrap_or_else(|_| Err(silent().into()))
                }
            };
            match answer {
                Ok(Some(first)) => ready += &format!("{name}: ready, {first}\n"),
                Ok(None) => ready += &format!("{name}: ready\n"),
                Err(faults) => self.faults.0.extend(faults.0.into_iter().map(|error| error.at(&name))),
            }
        }
        print(&ready)?;
        // What several parts of a tool look at is said once.
        let mut said = BTreeSet::new();
        for fault in self.faults.0.iter().filter(|fault| said.insert(fault.to_string())) {
            self.run.console.fail(fault);
        }
        let has = |kind: &&ErrorKind| self.faults.0.iter().any(|fault| fault.kind() == **kind);
        let worst = WORST_FIRST.iter().find(has).map(|kind| kind.exit_status());
        Ok(worst.unwrap_or(u8::from(!self.faults.0.is_empty())))
    }
}
