//! `--check`: checks whether a run could start. The check covers configuration, inputs, outputs, side outputs and
//! schemas; it reads and writes no data and creates nothing. It prints one line for each item: the fault of the item,
//! or `ready` and what opening it would do first.

use super::args::CheckpointArgs;
use super::exactly_once;
use super::prometheus::MetricsTarget;
use super::resolve::{Faults, Resolved, StageSpec, resolve};
use crate::output::OutputPlan;
use crate::output::identity::Identity;
use crate::source::objects::none;
use crate::source::{SourceOptions, check_unopened};
use crate::uri::Uri;
use crate::uri::readable;
use evt_core::counts::counted;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::kind::Kind;
use evt_core::op::validate::SubjectOf;
use evt_core::time::rounded;
use evt_http::server::{self, ServerOptions, check_address};
use evt_kafka::group::CommitMode;
use evt_kafka::input::KafkaInput;
use evt_kafka::input::check::PlannedReading;
use evt_kafka::range::ReadMode;
use evt_run::checkpoint::header::{CheckpointHeader, CheckpointOptions};
use evt_run::checkpoint::show::show;
use evt_run::checkpoint::{Checkpoint, PlannedStage, StateCheck, check_name, is_in_bucket};
use evt_run::client::Location;
use evt_run::registry::place;
use evt_run::run::Run;
use evt_run::spool;
use evt_run::spool::ack::AckPolicy;
use evt_run::thread;
use evt_store::{RowsToWrite, Store};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Time in which all servers together must answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Extra time for a client that exceeds the limit.
const GRACE: Duration = Duration::from_secs(2);
/// Kinds of faults in order of severity, permanent ones first: the first one that occurs is the exit status.
const WORST_FIRST: [ErrorKind; 10] = [
    ErrorKind::Broken,
    ErrorKind::Usage,
    ErrorKind::Config,
    ErrorKind::Corrupt,
    ErrorKind::Io,
    ErrorKind::Fenced,
    ErrorKind::Busy,
    ErrorKind::Incomplete,
    ErrorKind::InUse,
    ErrorKind::Unavailable,
];

/// The result of the check of an item: the first action of opening the item, if there is one; or its faults, which are
/// several if an address names several topics.
type CheckAnswer = std::result::Result<Option<String>, Faults>;

/// The checked items with their results, in order. The check queries servers concurrently.
pub struct CheckReport {
    run: Rc<Run>,
    found: Vec<(String, Receiver<CheckAnswer>)>,
    faults: Faults,
    /// The worst status of checks that report their faults themselves.
    reported: u8,
    /// The monotonic time at which the servers' time began.
    start: Duration,
    /// The address of `--prometheus`.
    metrics: Option<TcpListener>,
    /// The pipeline, if the tool is a stage of one.
    pipe: Option<SharedPipe>,
    /// What the stage before writes; `None` if that is not known.
    link: Option<CheckedLink>,
    /// Checks the state of the operator in a checkpoint.
    state: Option<StateCheck>,
}

/// What a check of a pipeline has found of the stages before the one that it checks.
#[derive(Default)]
pub struct CheckedPipe {
    /// What the stage before writes; `None` if that is not known.
    link: Option<CheckedLink>,
    /// The files that stages write as a whole.
    whole_files: Vec<Identity>,
}

impl CheckedPipe {
    /// Notes a file that the stage writes as a whole; returns whether an earlier stage does so too.
    fn writes_too(&mut self, file: Identity) -> bool {
        let is_written = self.whole_files.contains(&file);
        self.whole_files.push(file);
        is_written
    }
}

/// What a stage writes to the next one.
#[derive(Clone, Debug, Default)]
struct CheckedLink {
    /// Whether it writes to standard output.
    has_rows: bool,
    /// The checkpoint that the next stage joins, with the header that it would read.
    checkpoint: Option<(CheckpointOptions, CheckpointHeader)>,
}

/// A checked pipeline, which its stages share.
pub type SharedPipe = Arc<Mutex<CheckedPipe>>;

/// What a tool can do with an input.
#[derive(Clone, Copy)]
struct InputNeeds {
    /// Whether it listens for requests.
    has_listener: bool,
    /// Whether it reads events only.
    events: bool,
    /// Whether it needs no table of a store.
    lists_tables: bool,
    /// How it reads topics.
    topics: PlannedReading,
}

impl InputNeeds {
    /// Checks that the tool reads rows of `kind`. Errors: exit status 2 if not.
    fn check_kind(self, kind: Kind) -> Result<()> {
        match self.events && kind != Kind::Event {
            true => Err(Error::usage(format!("expected events, found rows of kind {kind}"))),
            false => Ok(()),
        }
    }

    /// Checks that the tool reads the rows of the table that it would choose. Errors: exit status 2 if not.
    fn check_table(self, store: &Store, location: &Location) -> Result<()> {
        match self.lists_tables && !location.options.contains_key("table") {
            true => (store.reader.tables)(location).map(|_| ()),
            false => self.check_kind(store.check_table(location)?),
        }
    }
}

impl CheckReport {
    /// Creates an empty check; the servers' time starts now.
    pub fn new(run: &Rc<Run>, pipe: Option<SharedPipe>) -> Self {
        run.stop.set_deadline(LIMIT);
        let link = pipe.as_ref().and_then(|pipe| locked(pipe).link.take());
        Self {
            run: run.clone(),
            found: vec![],
            faults: Faults::default(),
            reported: 0,
            start: run.clock.monotonic(),
            metrics: None,
            pipe,
            link,
            state: None,
        }
    }

    /// Sets the check of the state of the operator, which a stage with a checkpoint continues.
    pub fn state(&mut self, check: impl FnOnce(&[u8]) -> Result<()> + Send + 'static) {
        self.state = Some(Box::new(check));
    }

    /// Returns the value of a good result; keeps the fault of any other.
    pub fn take<T>(&mut self, found: Result<T>) -> Option<T> {
        self.faults.take(found)
    }

    /// Notes the status of a check that has reported its faults itself.
    pub fn reported(&mut self, status: u8) {
        self.reported = status;
    }

    /// Adds an item that is ready.
    pub fn ready(&mut self, name: impl std::fmt::Display) {
        self.add(name, Ok(None));
    }

    /// Adds a checked item.
    fn add(&mut self, name: impl std::fmt::Display, answer: Result<Option<String>>) {
        let (sender, known) = channel();
        // The receiver is in `found`.
        let _ = sender.send(answer.map_err(Faults::from));
        self.found.push((name.to_string(), known));
    }

    /// Queries a server in a thread of its own, which the check abandons if the server does not answer.
    fn query(&mut self, name: impl std::fmt::Display, question: impl FnOnce(&Rc<Run>) -> CheckAnswer + Send + 'static) {
        let (sender, answer) = channel();
        let run = self.run.for_thread();
        let work = move || {
            // The receiver is gone if the time is over.
            let _ = sender.send(question(&Rc::new(run)));
        };
        match thread::spawn("check", work) {
            Ok(_) => self.found.push((name.to_string(), answer)),
            Err(error) => self.add(name, Err(error)),
        }
    }

    /// Checks that the address of `--prometheus` can be bound, and keeps it bound, because the run could not give it to
    /// its other server.
    pub fn metrics(&mut self, target: Option<&str>) {
        if let Some(MetricsTarget::Address(address)) = target.map(MetricsTarget::parse) {
            let failed = |error: std::io::Error| Error::io(format!("--prometheus {address}"), &error);
            self.metrics = self.take(TcpListener::bind(&address).map_err(failed));
        }
    }

    /// Checks that the registry is available.
    pub fn schemas(&mut self, text: &str) {
        let Some(name) = self.take(place::name(text, &self.run.caller())) else { return };
        let text = text.to_owned();
        self.query(name, move |run| {
            place::check(&text, &run.caller())?;
            Ok(None)
        });
    }

    /// Checks the same, and that a directory has valid schemas for the events: of the subject that all of them have, or
    /// of every subject.
    pub fn schemas_of(&mut self, text: &str, subject: &SubjectOf) {
        self.schemas(text);
        let only = if let SubjectOf::Fixed(only) = subject { Some(only.as_str()) } else { None };
        self.take(place::check_files(text, only, &self.run.caller()));
    }

    /// Checks the inputs of a tool that has no stage.
    pub fn inputs<'a>(&mut self, texts: impl Iterator<Item = &'a OsString>) {
        for text in texts {
            let uri = Uri::of_input(text, false, &self.run.caller())
                .and_then(|uri| readable::check(&uri, false).map(|()| uri));
            if let Some(uri) = self.take(uri) {
                let topics = PlannedReading { read_mode: ReadMode::Bounded, is_shared: false, has_positions: false };
                self.input(uri, InputNeeds { has_listener: false, events: false, lists_tables: true, topics });
            }
        }
    }

    /// Checks that a checkpoint can be shown, and that no part of a kept epoch is damaged.
    pub fn checkpoint(&mut self, path: &Path) {
        let (name, in_bucket, path) = (path.display().to_string(), is_in_bucket(path), path.to_owned());
        let sound = move |run: &Run| match show(&path, run)?.is_sound {
            true => Ok(None),
            false => Err(Error::corrupt("a part of a kept epoch is damaged; evt-view without --check names it")),
        };
        // A large directory takes longer to verify than a server may take to answer.
        match in_bucket {
            true => self.query(name, move |run| Ok(sound(run)?)),
            false => {
                let answer = sound(&self.run);
                self.add(name, answer);
            }
        }
    }

    /// Checks that an input can be read: a file exists, a store accepts the connection, topics have partitions.
    ///
    /// Errors: exit status 2, 69, 74 or 78 if it cannot.
    fn input(&mut self, uri: Uri, needs: InputNeeds) {
        let name = uri.to_string();
        match uri {
            Uri::Standard => {}
            Uri::Null => self.add(name, Err(Error::usage("expected an input, found null:"))),
            Uri::File(_) => self.ready(name),
            Uri::Http(_) if !needs.has_listener => self.add(name, Err(Error::usage("a listener requires evt-ingest"))),
            Uri::Http(address) => self.add(name, check_address(&address).map(|()| None)),
            Uri::Kafka(address) => self.query(name, move |run| match KafkaInput::check(&address, needs.topics, run)? {
                faults if faults.is_empty() => Ok(None),
                faults => Err(Faults(faults)),
            }),
            Uri::Bucket(objects) => self.query(name, move |_| match &objects.find()?[..] {
                [] if !objects.is_pattern() => Err(none(&Uri::Bucket(objects)).into()),
                [_] if !objects.is_pattern() => Ok(None),
                found => Ok(Some(counted(found.len() as u64, ["object", "objects"]))),
            }),
            Uri::Store(store, location) => {
                let table = move || needs.check_table(store, &location).map(|()| None);
                // A local file is checked at once, because it cannot be unavailable like a server.
                if store.is_remote() { self.query(name, move |_| Ok(table()?)) } else { self.add(name, table()) }
            }
        }
    }

    /// Checks that an output can be written, with rows of `kind` if it is known. Standard output can always be written.
    fn output(&mut self, output: OutputPlan, rows: RowsToWrite) {
        if !output.is_standard() {
            let name = output.name.to_owned();
            self.query(name, move |run| Ok(output.check_rows(rows, run)?.first));
        }
    }

    /// Checks that the HTTP server could start: its address, tokens and certificate.
    ///
    /// Errors: exit status 2, 74 or 78 if it cannot.
    pub fn server(&mut self, options: &ServerOptions) {
        for found in server::check(options) {
            self.take(found).iter().flatten().for_each(|file| self.ready(file.display()));
        }
    }

    /// Checks that the stage fits those before it in its pipeline, and notes what it writes for the next one. Returns
    /// the checkpoint that it begins or joins, with its place there, which is `None` if its outputs are not known.
    fn neighbours(
        &mut self,
        spec: StageSpec<'_>,
        resolved: &Resolved,
        is_known: bool,
    ) -> Option<(CheckpointOptions, Option<PlannedStage>)> {
        let begun = spec.checkpoint.and_then(CheckpointArgs::options).map(|options| {
            let header = CheckpointHeader::planned(&options);
            (options, header)
        });
        let reads_pipe = resolved.inputs.iter().any(|input| matches!(input, Uri::Standard));
        let before = self.link.take().filter(|_| reads_pipe);
        if before.as_ref().is_some_and(|link| !link.has_rows) {
            self.take::<()>(Err(Error::corrupt(
                "-: expected rows, but the stage before writes none to standard output",
            )));
        }
        let joined = before.and_then(|link| link.checkpoint).filter(|_| begun.is_none());
        if joined.is_some() {
            self.take(resolved.check_joins(&self.run));
        }
        for (name, file) in resolved.whole_files(&self.run) {
            let is_written = self.pipe.as_ref().is_some_and(|pipe| locked(pipe).writes_too(file));
            self.take(if is_written { Err(in_use(name)) } else { Ok(()) });
        }
        let has_readers = resolved.plans.iter().any(OutputPlan::is_stream);
        let checkpoint = joined.or(begun).map(|(options, header)| (options, header.in_branch(spec.branch)));
        let next = checkpoint.clone().filter(|_| has_readers).map(|(options, mut header)| {
            header.stages.push(header.next_stage(self.run.console.tool()));
            (options, header)
        });
        if let Some(pipe) = self.pipe.as_ref().filter(|_| is_known) {
            let has_rows = resolved.plans.iter().any(OutputPlan::is_standard);
            locked(pipe).link = Some(CheckedLink { has_rows, checkpoint: next });
        }
        let (options, header) = checkpoint?;
        let planned = is_known.then(|| PlannedStage {
            stage: header.next_stage(self.run.console.tool()),
            before: header.stages,
            outputs: resolved.output_names(),
            has_readers: self.pipe.is_some().then_some(has_readers),
            state: self.state.take(),
        });
        Some((options, planned))
    }

    /// Checks everything that a stage would open. `options` is `None` if they are faulty and the fault is already
    /// known.
    pub fn stage(&mut self, spec: StageSpec<'_>, options: Option<SourceOptions>) {
        let follow = options.as_ref().is_some_and(|options| options.inputs.files.follow);
        let mut resolved = resolve(spec, follow, &self.run);
        let are_outputs_known = resolved.faults.0.is_empty();
        self.faults.0.append(&mut resolved.faults.0);
        let checkpoint = spec.checkpoint.and_then(CheckpointArgs::options);
        let in_epochs = checkpoint.is_some();
        let place = checkpoint.as_ref().map(|options| options.path.clone());
        let continued = self.neighbours(spec, &resolved, are_outputs_known);
        if let Some(options) = &options {
            self.take(resolved.check_ends(&options.inputs));
            self.take(options.inputs.names.check_topics(&resolved.inputs));
            // Outputs that do not fit the input are not checked further.
            let Some(fitting) = self.take(exactly_once::in_transactions(resolved, options, spec.checkpoint)) else {
                return;
            };
            resolved = fitting;
            let policy = self.take(resolved.ack_policy(&options.inputs.listener, checkpoint.is_some())).flatten();
            if let Some(server) = &options.inputs.listener.server {
                self.server(&server.server);
            }
            if let Some(AckPolicy::Spool { dir, .. }) = &policy {
                self.add(dir.display(), spool::check(dir).map(|()| None));
            }
        }
        let is_named = |options: &CheckpointOptions| check_name(&options.path, &self.run.caller()).is_ok();
        if let Some((options, planned)) = continued.filter(|(options, _)| is_named(options)) {
            self.query(options.path.display().to_string(), move |run| {
                Checkpoint::check(&options, planned, evt_store::known, run)?;
                Ok(None)
            });
        }
        // A checkpoint, or the state of evt-alert, has positions if an earlier run has made it.
        let is_new = place.is_none_or(|path| !is_in_bucket(&path) && !path.exists());
        let topics = PlannedReading {
            read_mode: options.as_ref().map_or(ReadMode::Commit, |options| options.inputs.topics.read_mode),
            is_shared: matches!(resolved.commit_mode(), CommitMode::Subscribe) && !in_epochs,
            has_positions: !is_new || options.as_ref().is_none_or(|options| options.inputs.topics.keeps_positions()),
        };
        let Resolved { inputs, plans, dlq, side, kind, .. } = resolved;
        let needs = InputNeeds {
            has_listener: options.as_ref().is_none_or(|options| options.inputs.listener.server.is_some()),
            events: spec.needs_events,
            lists_tables: spec.lists_tables && inputs.len() == 1,
            topics,
        };
        self.take(spec.args.input.kind().ok().flatten().map_or(Ok(()), |kind| needs.check_kind(kind)));
        options.map(|options| self.take(check_unopened(&inputs, options, &self.run)));
        inputs.into_iter().for_each(|input| self.input(input, needs));
        let rows = RowsToWrite { kind, in_epochs, corrects: spec.corrects };
        plans.into_iter().for_each(|output| self.output(output, rows));
        side.into_iter().for_each(|output| self.output(output, RowsToWrite { kind: spec.side_kind, ..rows }));
        dlq.into_iter().for_each(|output| self.output(output, RowsToWrite { kind: Some(Kind::Dead), ..rows }));
    }

    /// Reports the inputs, outputs and files that are ready, then the faults; returns the exit status of the worst one.
    pub fn report(mut self) -> Result<u8> {
        let mut ready = vec![];
        let silent = || Error::unavailable(format!("no response for {}", rounded(LIMIT)));
        for (name, answer) in self.found {
            let passed = self.run.clock.monotonic().saturating_sub(self.start);
            let left = (LIMIT + GRACE).saturating_sub(passed);
            match answer.recv_timeout(left).unwrap_or_else(|_| Err(silent().into())) {
                Ok(Some(first)) => ready.push((name, format!(", {first}"))),
                Ok(None) => ready.push((name, String::new())),
                Err(faults) => self.faults.0.extend(faults.0.into_iter().map(|error| error.at(&name))),
            }
        }
        // Several checks may be of one name.
        let is_faulty = |name: &str| {
            let begins =
                |fault: &Error| fault.to_string().strip_prefix(name).is_some_and(|rest| rest.starts_with(": "));
            self.faults.0.iter().any(begins)
        };
        ready.retain(|(name, _)| !is_faulty(name));
        let ready: String = ready.into_iter().map(|(name, first)| format!("{name}: ready{first}\n")).collect();
        self.run.io.print(&self.run.console.secrets.hide(&ready))?;
        // A fault found by several parts of a tool is reported once.
        let mut said = BTreeSet::new();
        for fault in self.faults.0.iter().filter(|fault| said.insert(fault.to_string())) {
            self.run.console.fail(fault);
        }
        let has = |kind: &&ErrorKind| self.faults.0.iter().any(|fault| fault.kind() == **kind);
        let worst = WORST_FIRST.iter().find(has).map(|kind| kind.exit_status());
        Ok(worst.unwrap_or(self.reported.max(u8::from(!self.faults.0.is_empty()))))
    }
}

/// Returns what is known of a pipeline. The checks of its stages follow one another, so a panic leaves no half of it.
fn locked(pipe: &SharedPipe) -> MutexGuard<'_, CheckedPipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the error of a file that an earlier stage of the pipeline replaces.
fn in_use(name: &str) -> Error {
    Error::new(ErrorKind::InUse, format!("{name}: an earlier stage writes it as a whole"))
}
