//! An output that is checked before anything is read, and opened when the schema of its rows is known.
//!
//! `destination.rs`: where its rows go, and how that is opened.

mod destination;

use self::destination::{Destination, OpenRows};
use super::epochs::{EpochOutput, EpochPlan};
use super::file::object;
use super::file::{Overwrite, Plain, check_empty, is_appended, is_regular};
use super::identity::{self, Identity};
use super::open::{OpenTarget, Output};
use super::spec::{OutputSpec, standard_format, with_file_options, written};
use crate::uri::Uri;
use arrow::datatypes::SchemaRef;
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result};
use evt_core::format::{self, Format};
use evt_core::kind::event::has_raw;
use evt_core::kind::record_parts::OutputParts;
use evt_core::kind::{Kind, SESSIONS_KEY, metrics_of};
use evt_kafka::address::{Address, TopicFormat};
use evt_kafka::produce::KafkaOutput;
use evt_kafka::produce::format::form;
use evt_kafka::produce::limit::{Limit, RowLimit};
use evt_kafka::produce::shared::SharedProducer;
use evt_run::bucket::new_object::{EpochObjects, NewObject};
use evt_run::bucket::objects::NamedObjects;
use evt_run::client::outage::FOREVER;
use evt_run::metrics::{self, Metrics, ServerStatus};
use evt_run::run::Run;
use evt_run::run::io::Io;
use evt_store::{CheckScope, Medium, RowsToWrite};
use std::ffi::OsStr;
use std::path::Path;
use std::rc::Rc;

/// Why `exactly_once=true` is rejected in a tool that cannot commit its rows and the offsets of its input in one
/// transaction.
pub const NO_TRANSACTIONS: &str =
    "expected evt-ingest, evt-validate or evt-sink, found a tool that does not commit offsets with its rows";

/// An output that was checked and is not open yet: nothing has been created or written.
///
/// The schema is known only with the first rows, perhaps after hours. The check reports an unusable output before that.
pub struct OutputPlan {
    /// Its URI as the user gave it, without secrets.
    pub name: String,
    destination: Destination,
    spec: OutputSpec,
    /// The first step of opening it, such as creating a table, for `--check`; `None` if there is none.
    pub first: Option<String>,
    epochs: Option<EpochPlan>,
    /// Whether the records of all outputs are in the transactions of the input.
    in_transactions: bool,
    /// Whether it is for dead letters.
    is_dead: bool,
}

impl OutputPlan {
    /// Checks that the URI `text` names an output that could be written now. Contacts no server: see
    /// [`OutputPlan::check_server`]. Errors: exit status 2 if it is not an output, or a file that must not be replaced.
    pub fn try_new(text: impl AsRef<OsStr>, spec: &OutputSpec, run: &Run) -> Result<Self> {
        let uri = Uri::of_output(text, &run.caller())?;
        let (uri, spec) = with_file_options(uri, spec.clone())?;
        let name = uri.to_string();
        let mut first = None;
        let destination = match uri {
            Uri::Null => Destination::Null,
            Uri::Standard => Destination::Standard(standard_format(&spec, run)?),
            Uri::File(path) => {
                let format = written(spec.file_format(&path, &name)?)?;
                let path = identity::target(&path);
                Plain::check(&path, format, spec.overwrite)?;
                Destination::File(path, format)
            }
            Uri::Kafka(mut address) => {
                address.options.form = Some(form(&address, spec.format)?);
                KafkaOutput::check(&address)?;
                let limit = Limit::new(&address, run);
                Destination::Kafka(address, limit)
            }
            Uri::Http(_) => {
                return Err(Error::usage(format!("{name}: an input of evt-ingest, not an output")));
            }
            Uri::Bucket(named) if named.is_pattern() => {
                let (objects, format) = epoch_objects(*named, &spec, &name)?;
                Destination::Objects(Box::new(objects), format)
            }
            Uri::Bucket(named) => {
                let object = NewObject::of(*named)?;
                let format = written(spec.file_format(Path::new(&object.key), &object.key)?)?;
                Destination::Object(Box::new(object), format)
            }
            Uri::Store(store, location) => {
                store.is_at_once(&location)?;
                if !store.is_remote() {
                    first = (store.check)(&location, CheckScope::Opening)?;
                }
                Destination::Store(store, location)
            }
        };
        Ok(Self { name, destination, spec, first, epochs: None, in_transactions: false, is_dead: false })
    }

    /// Checks with the brokers or the store's server that rows can be written now. Retries if the server is
    /// unavailable.
    pub fn check_server(self, run: &Rc<Run>) -> Result<Self> {
        self.check_within(CheckScope::Opening, run)
    }

    /// Checks the same for `--check`, and what a run learns from its first rows: whether a store takes the rows,
    /// if the kind is known.
    pub fn check_rows(self, rows: RowsToWrite, run: &Rc<Run>) -> Result<Self> {
        let kind = if self.is_dead { Some(Kind::Dead) } else { rows.kind };
        self.check_within(CheckScope::Rows(RowsToWrite { kind, ..rows }), run)
    }

    fn check_within(mut self, scope: CheckScope, run: &Rc<Run>) -> Result<Self> {
        self.check_transactions()?;
        self.init_server(&run.metrics);
        match &self.destination {
            Destination::Kafka(address, _) => {
                if scope == CheckScope::Opening {
                    KafkaOutput::wait_for_registry(address, run)?;
                }
                KafkaOutput::check_server(address, self.is_dead, run)?;
            }
            Destination::Object(object, _) => object::check(object, self.spec.overwrite)?,
            Destination::Objects(objects, _) => objects.check()?,
            // A store in files has been checked already, but for its rows.
            Destination::Store(store, location) if store.is_remote() || scope != CheckScope::Opening => {
                let check = || (store.check)(location, scope);
                self.first = match scope {
                    CheckScope::Opening => {
                        store.at_start(location, ServerStatus::new(&run.metrics, &self.name), check)?
                    }
                    // `--check` says how things are now.
                    CheckScope::Rows(_) => check()?,
                };
            }
            _ => {}
        }
        Ok(self)
    }

    /// Checks that the output takes rows of `kind`, as far as its URI shows it. Errors: exit status 2 if not.
    pub fn check_kind(&self, kind: Kind) -> Result<()> {
        match &self.destination {
            Destination::Store(store, _) if !store.kinds.contains(&kind) => Err(store.other_kind(kind, &self.name)),
            Destination::Standard(format)
            | Destination::File(_, format)
            | Destination::Object(_, format)
            | Destination::Objects(_, format)
                if format.is_chart && kind != Kind::Metric =>
            {
                Err(format::svg::other_rows(kind.name()).at(&self.name))
            }
            _ => Ok(()),
        }
    }

    /// Returns the path of a file, and whether rows can be added to it; `None` for another output.
    fn file(&self) -> Option<(&Path, bool)> {
        let Destination::File(path, format) = &self.destination else { return None };
        Some((path, is_appended(path, format, false)))
    }

    /// Whether it is a file that is replaced as a whole at the end of a run, so that one stage at a time can write it.
    pub fn is_replaced_at_end(&self) -> bool {
        self.file().is_some_and(|(path, adds)| !adds && is_regular(path))
    }

    /// Checks that its file has no rows, if this is how it is treated: the run would write all of them again. Errors:
    /// exit status 2 if it has.
    pub fn check_empty(&self, overwrite: Overwrite) -> Result<()> {
        let file = self.file().filter(|(_, adds)| *adds && self.spec.overwrite == overwrite);
        file.map_or(Ok(()), |(path, _)| check_empty(path))
    }

    /// Checks that `--append` can add rows. Errors: exit status 2 for a file that is complete only at the end of a run.
    pub fn check_append(&self) -> Result<()> {
        let why = "--append: expected JSON lines, CSV or another text, found a file that is written as a whole";
        let refuse = |_| Err(Error::usage(format!("{}: {why}", self.name)));
        if matches!(self.destination, Destination::Object(..) | Destination::Objects(..)) {
            return refuse((Path::new(""), false));
        }
        self.file().filter(|(_, adds)| !adds).map_or(Ok(()), refuse)
    }

    /// Declares that the output is for dead letters.
    pub fn for_letters(self) -> Self {
        Self { is_dead: true, ..self }
    }

    /// Lets its records be in the transactions of the input.
    pub fn in_transactions(self) -> Self {
        Self { in_transactions: true, ..self }
    }

    /// Whether its URI has `exactly_once=true`.
    pub fn is_exactly_once(&self) -> bool {
        self.topic().is_some_and(|address| address.exactly_once)
    }

    /// Checks that the tool commits transactions if the URI asks for them. Errors: exit status 2.
    fn check_transactions(&self) -> Result<()> {
        match self.is_exactly_once() && !self.in_transactions {
            true => Err(Error::usage(format!("{}: exactly_once=true: {NO_TRANSACTIONS}", self.name))),
            false => Ok(()),
        }
    }

    /// Returns the address of a topic; `None` for another output.
    pub fn topic(&self) -> Option<&Address> {
        if let Destination::Kafka(address, _) = &self.destination { Some(address) } else { None }
    }

    /// Whether its rows are dropped.
    pub fn is_null(&self) -> bool {
        matches!(self.destination, Destination::Null)
    }

    /// Retries an unavailable server without a limit, unless the URI sets one. For runs whose input is stored
    /// meanwhile.
    pub fn without_limit(mut self) -> Self {
        match &mut self.destination {
            Destination::Kafka(address, _) => address.options.set_without_limit(),
            Destination::Store(store, location) if store.is_remote() => {
                location.options.entry("retry".to_owned()).or_insert_with(|| FOREVER.to_owned());
            }
            _ => {}
        }
        self
    }

    /// Checks that its rows can wait for their epoch and be written once. Errors: exit status 2 if not.
    pub fn check_epochs(&self, io: &Io) -> Result<()> {
        let why = match &self.destination {
            Destination::Store(store, location) if (store.replaces)(location) => {
                "expected mode=append, found mode=replace, which tracks the files of one run only"
            }
            Destination::Null | Destination::Store(..) => return Ok(()),
            Destination::Kafka(address, _) if address.options.form == Some(TopicFormat::Frames) => {
                "expected format=json or format=avro, found format=frames"
            }
            Destination::Kafka(..) => return Ok(()),
            Destination::Standard(format) if format.is_frames() && io.has_pipe() => return Ok(()),
            Destination::Standard(format) if format.is_frames() => "expected a pipe to the next stage, found none",
            Destination::File(_, format) if format.is_frames() => "expected text or a store, found a file of frames",
            Destination::File(path, format) if !is_appended(path, format, self.spec.overwrite.is_on()) => {
                "expected a file that is appended to, found one that is replaced at the end of a run"
            }
            Destination::Object(..) => {
                "expected a prefix that ends in /, whose objects are the epochs, found one object"
            }
            Destination::Standard(format) if !format.appendable => {
                "expected JSON lines or CSV, found a format that is complete only at the end of a run"
            }
            _ if self.spec.control => "--control cannot be used",
            Destination::Standard(_) | Destination::File(..) | Destination::Objects(..) => return Ok(()),
        };
        Err(Error::usage(format!("{}: --checkpoint: {why}", self.name)))
    }

    /// Checks that a run without a checkpoint can write it. Errors: exit status 2 for objects of epochs.
    pub fn check_without_epochs(&self) -> Result<()> {
        match self.destination {
            Destination::Objects(..) => Err(Error::usage(format!(
                "{}: expected the key of one object, or --checkpoint, found those of the epochs of a checkpoint",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    /// Lets the rows of the output wait in a checkpoint until their epoch is complete. Rows for a later stage of the
    /// pipe do not wait, because that stage has the same epochs.
    pub fn in_epochs(mut self, plan: EpochPlan) -> Self {
        self.spec.overwrite = Overwrite::Unsupported;
        self.epochs = Some(plan).filter(|_| !self.is_stream());
        self
    }

    /// Whether the output passes frames on to a later stage of the pipe.
    pub fn is_stream(&self) -> bool {
        matches!(&self.destination, Destination::Standard(format) if format.is_frames())
    }

    /// Whether the output is standard output in a text format.
    pub fn is_text(&self) -> bool {
        matches!(&self.destination, Destination::Standard(format) if !format.is_frames())
    }

    /// Whether it is standard output.
    pub fn is_standard(&self) -> bool {
        matches!(self.destination, Destination::Standard(_))
    }

    /// Returns its identity, to find duplicate outputs. `None` if an output may be named twice: a database holds a
    /// table for each kind of row.
    pub fn identity(&self, io: &Io) -> Option<Identity> {
        match &self.destination {
            Destination::Store(store, location) if store.medium == Medium::Directory => {
                Identity::of_directory(Path::new(&location.path))
            }
            Destination::Null | Destination::Store(..) => None,
            Destination::Standard(_) => Some(Identity::of_output(io)),
            Destination::File(path, _) => Identity::of_path(path),
            Destination::Object(object, _) => Some(Identity::of_object(&object.to_string())),
            // The name of an object has that of its output.
            Destination::Objects(..) => None,
            Destination::Kafka(address, _) => Some(Identity::of_topic(&address.brokers, address.topics.first()?)),
        }
    }

    /// Returns the format of a file or of standard output; `None` for a store or a topic.
    pub fn format(&self) -> Option<&'static Format> {
        match &self.destination {
            Destination::Standard(format)
            | Destination::File(_, format)
            | Destination::Object(_, format)
            | Destination::Objects(_, format) => Some(format),
            Destination::Null | Destination::Store(..) | Destination::Kafka(..) => None,
        }
    }

    /// Whether the output takes rows of any columns: a file or standard output in another format than frames, whose
    /// readers expect a kind.
    pub fn takes_any_columns(&self) -> bool {
        match &self.destination {
            Destination::Standard(format)
            | Destination::File(_, format)
            | Destination::Object(_, format)
            | Destination::Objects(_, format) => format.takes_any_columns,
            Destination::Null => true,
            Destination::Store(..) | Destination::Kafka(..) => false,
        }
    }

    /// Whether its format writes raw records, so that rows need the column `raw`.
    pub fn needs_raw(&self) -> bool {
        self.format().is_some_and(|format| format.is_raw)
    }

    /// Whether the output can write the headers of records with their rows.
    pub fn takes_headers(&self) -> bool {
        matches!(&self.destination, Destination::Kafka(address, _) if address.options.form != Some(TopicFormat::Frames))
    }

    /// Whether the output can make rows durable before the run ends ([`Output::settle`]), so that a source may commit
    /// its position.
    pub fn acknowledges(&self) -> bool {
        match &self.destination {
            Destination::Null | Destination::Kafka(..) => true,
            Destination::Standard(_) | Destination::Object(..) | Destination::Objects(..) => false,
            Destination::File(path, format) => is_appended(path, format, self.spec.overwrite.is_on()),
            Destination::Store(store, _) => store.acknowledges(),
        }
    }

    /// Whether the output replaces the rows of other runs at the end of the run, so that the source must be bounded.
    pub fn replaces(&self) -> bool {
        matches!(&self.destination, Destination::Store(store, location) if (store.replaces)(location))
    }

    /// Whether the output is a topic of frames. Its control frames describe all partitions of the source, so one run
    /// must read all partitions.
    pub fn is_framed(&self) -> bool {
        matches!(&self.destination, Destination::Kafka(..)) && self.destination.is_framed()
    }

    /// Returns the limit of the size of a row; `None` if there is none.
    pub fn row_limit(&self) -> Option<RowLimit> {
        match &self.destination {
            Destination::Kafka(address, limit) => Some(RowLimit::new(address, limit)),
            _ => None,
        }
    }

    /// Sets the metrics of the output before it is open: no row is written, and its server has not answered yet.
    pub fn init_metrics(&self, metrics: &Metrics) {
        let outcomes = match &self.destination {
            Destination::Store(..) => SinkCounts::default().outcomes().map(|(outcome, _)| outcome).to_vec(),
            _ => vec!["written"],
        };
        outcomes.iter().for_each(|outcome| metrics.set(&metrics::SINK_ROWS, &[&self.name, outcome], 0.0));
        self.init_server(metrics);
    }

    /// Sets the metric of its server, if it has one, to down: the server has not answered yet.
    pub fn init_server(&self, metrics: &Metrics) {
        if self.destination.is_remote() {
            ServerStatus::new(metrics, &self.name).set(false);
        }
    }

    /// Opens the output for rows of `schema`. Errors: exit status 2 if a store does not hold rows of this kind.
    pub fn open(self, schema: &SchemaRef, run: &Rc<Run>) -> Result<Output> {
        self.check_transactions()?;
        self.open_in(None, schema, run)
    }

    /// Opens the output as [`OutputPlan::open`] does. With `producer`, the records of a topic belong to the
    /// transactions of the producer.
    pub fn open_in(self, producer: Option<&SharedProducer>, schema: &SchemaRef, run: &Rc<Run>) -> Result<Output> {
        // A file that is replaced at the end is removed if the run fails, and so are the new files of a lake.
        let keeps_rows = self.acknowledges() || self.is_standard();
        let Self { name, destination, spec, epochs, is_dead, .. } = self;
        // A dead letter holds a whole record, which may be one that nobody has checked.
        let disk = if is_dead { run.io.disk().private() } else { run.io.disk() };
        let is_remote = destination.is_remote();
        let (parts, schema) = OutputParts::of(schema, destination.is_framed());
        let kind = destination.kind_of(&schema, &name)?;
        if kind.is_some() && has_raw(&schema) {
            run.console.warn(format!("{name}: no column raw; the raw records are not stored"));
        }
        let up = ServerStatus::new(&run.metrics, &name);
        let sink = match epochs.filter(|_| !matches!(destination, Destination::Null)) {
            None => destination.open(producer, &spec, OpenRows { schema, kind, up: up.clone(), disk }, run)?,
            Some(plan) => {
                let (sessions, shown) = (metrics_of(&schema, SESSIONS_KEY), name.clone());
                let rows = OpenRows { schema, kind, up: up.clone(), disk };
                let open = move |run: &Rc<Run>, plan: &EpochPlan| {
                    let mut target = destination.open_in_epochs(&spec, rows, plan, run)?;
                    target.check_committed(plan, &shown).map(|()| target)
                };
                OpenTarget::Epochs(Box::new(EpochOutput::open(plan, sessions, run, open)?))
            }
        };
        if is_remote {
            up.set(true);
        }
        Ok(Output::new(name, sink, parts, keeps_rows, run))
    }
}

/// Returns the objects of epochs that a prefix or a pattern names, and their format: that of `-o` or of the pattern,
/// else JSON lines.
fn epoch_objects(named: NamedObjects, spec: &OutputSpec, name: &str) -> Result<(EpochObjects, &'static Format)> {
    let key = named.key().to_owned();
    let format = match key.ends_with('/') {
        true => spec.format.unwrap_or(&format::jsonl::FORMAT),
        false => spec.file_format(Path::new(&key), &key)?,
    };
    let extension = format.extensions.first().filter(|_| !format.is_frames()).ok_or_else(|| {
        Error::usage(format!("{name}: expected -o jsonl, csv, parquet or avro, found -o {}", format.name))
    })?;
    Ok((EpochObjects::of(named, extension)?, written(format)?))
}

#[cfg(test)]
mod tests;
