//! The destination of an output, and how it is opened.

use crate::output::epochs::{EpochPlan, EpochTarget, ObjectFile};
use crate::output::file::Plain;
use crate::output::file::object::ObjectPart;
use crate::output::frames::FrameOutput;
use crate::output::open::OpenTarget;
use crate::output::spec::{OutputSpec, open_options};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::format::{self, EncodeOptions, Format, NoteFormat};
use evt_core::kind::{Kind, dead};
use evt_kafka::address::{Address, TopicFormat};
use evt_kafka::client::Topics;
use evt_kafka::produce::KafkaOutput;
use evt_kafka::produce::epochs::EpochTopic;
use evt_kafka::produce::limit::Limit;
use evt_kafka::produce::shared::SharedProducer;
use evt_run::bucket::new_object::{EpochObjects, NewObject};
use evt_run::client::Location;
use evt_run::console::Console;
use evt_run::metrics::ServerStatus;
use evt_run::run::Run;
use evt_run::storage::disk::Disk;
use evt_store::{OpenOptions, Store};
use std::path::PathBuf;
use std::rc::Rc;

/// The destination that the URI of an output names.
pub(super) enum Destination {
    Null,
    Standard(&'static Format),
    File(PathBuf, &'static Format),
    Object(Box<NewObject>, &'static Format),
    /// One object for each epoch.
    Objects(Box<EpochObjects>, &'static Format),
    Store(&'static Store, Location),
    Kafka(Box<Address>, Limit),
}

impl Destination {
    /// Whether the destination is on a server.
    pub fn is_remote(&self) -> bool {
        match self {
            Destination::Null | Destination::Standard(_) | Destination::File(..) => false,
            Destination::Store(store, _) => store.is_remote(),
            Destination::Kafka(..) | Destination::Object(..) | Destination::Objects(..) => true,
        }
    }

    /// Whether rows are written in frames.
    pub fn is_framed(&self) -> bool {
        match self {
            Destination::Standard(format) | Destination::File(_, format) | Destination::Object(_, format) => {
                format.is_frames()
            }
            Destination::Kafka(address, _) => address.options.form == Some(TopicFormat::Frames),
            Destination::Null | Destination::Objects(..) | Destination::Store(..) => false,
        }
    }

    /// Returns the kind of the rows of a store; `None` for another output. Errors: exit status 2 if the store does not
    /// hold rows of this kind.
    pub fn kind_of(&self, schema: &SchemaRef, name: &str) -> Result<Option<Kind>> {
        let Destination::Store(store, _) = self else { return Ok(None) };
        let kind = Kind::of(schema).ok_or_else(|| Error::usage(format!("{name}: expected rows of a known kind")))?;
        if store.kinds.contains(&kind) { Ok(Some(kind)) } else { Err(store.other_kind(kind, name)) }
    }

    /// Opens the destination for rows that it gets at once. The records of a topic are in the transactions of
    /// `producer`, if there is one.
    pub fn open(
        self,
        producer: Option<&SharedProducer>,
        spec: &OutputSpec,
        rows: OpenRows,
        run: &Rc<Run>,
    ) -> Result<OpenTarget> {
        let OpenRows { schema, kind, up, disk } = rows;
        match self {
            Destination::Null => Ok(OpenTarget::Null),
            Destination::Standard(format) if format.is_frames() => {
                FrameOutput::to_stdout(&schema, run).map(OpenTarget::Frames)
            }
            Destination::Standard(format) => {
                encoded(Plain::Standard(run.io.stdout(&run.stop)?), format, &schema, spec, &run.console)
            }
            Destination::File(path, format) => {
                let file = Plain::create(path, format, spec.overwrite, &disk, run)?;
                encoded(file, format, &schema, &spec.of_file(run), &run.console)
            }
            Destination::Object(object, format) => {
                let file = Plain::Object(ObjectPart::create(*object, spec.overwrite, &disk, run)?);
                encoded(file, format, &schema, &spec.of_file(run), &run.console)
            }
            Destination::Objects(..) => {
                let message = "expected the key of one object, or --checkpoint in the first stage of the pipe";
                Err(Error::usage(message))
            }
            Destination::Kafka(address, limit) => {
                let topic = KafkaOutput::open(producer, &Topics::new(&address, run), limit, up, &schema)?;
                Ok(OpenTarget::Kafka(Box::new(topic)))
            }
            Destination::Store(store, location) => {
                let sink = (store.open)(&location, &OpenOptions { disk, ..open_options(run, up) })?;
                let kind = kind.ok_or_else(|| Error::broken("a store without a kind of rows"))?;
                Ok(OpenTarget::Store { kind, sink })
            }
        }
    }

    /// Opens the destination, in the thread of the output, for the rows of complete epochs.
    pub fn open_in_epochs(
        self,
        spec: &OutputSpec,
        rows: OpenRows,
        plan: &EpochPlan,
        run: &Rc<Run>,
    ) -> Result<EpochTarget> {
        match self {
            Destination::Kafka(address, limit) => {
                let topics = Topics::new(&address, run);
                let topic = EpochTopic::open(&topics, limit, rows.up, &rows.schema, &plan.key())?;
                Ok(EpochTarget::Topic(Box::new(topic)))
            }
            Destination::Store(store, location) => {
                let is_at_once = store.is_at_once(&location)?;
                let options = OpenOptions {
                    pipeline: plan.key(),
                    run: plan.run(),
                    epochs: true,
                    is_at_once,
                    disk: rows.disk,
                    ..open_options(run, rows.up)
                };
                let kind = rows.kind.ok_or_else(|| Error::broken("a store without a kind of rows"))?;
                Ok(EpochTarget::Store { kind, sink: (store.open)(&location, &options)?, is_at_once })
            }
            Destination::Objects(objects, format) => {
                let make = format.output.ok_or_else(|| Error::broken("objects of frames"))?;
                let encode = spec.of_file(run).encode;
                Ok(EpochTarget::Objects(Box::new(ObjectFile {
                    objects: *objects,
                    format,
                    make,
                    encode,
                    schema: rows.schema,
                    disk: rows.disk,
                    run: run.clone(),
                })))
            }
            other => {
                let disk = rows.disk.clone();
                match other.open(None, spec, rows, run)? {
                    OpenTarget::Encoded { format, encoder, file, .. } => {
                        Ok(EpochTarget::text(format, encoder, file, plan, disk))
                    }
                    _ => Err(Error::broken("an output of frames in an epoch")),
                }
            }
        }
    }
}

/// The schema and the kind of the rows for which an output is opened, the metric of its server, and its disk.
pub(super) struct OpenRows {
    pub schema: SchemaRef,
    /// The kind of the rows of a store.
    pub kind: Option<Kind>,
    pub up: ServerStatus,
    pub disk: Disk,
}

/// Encodes only the first `columns` columns, for a file whose header an older version of evt wrote with no others.
struct NarrowEncoder {
    encoder: Box<dyn format::Encoder>,
    columns: usize,
}

impl format::Encoder for NarrowEncoder {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        self.encoder.encode(&batch.project(&Vec::from_iter(0..self.columns))?, out)
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        self.encoder.flush(out);
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.encoder.finish(out)
    }
}

/// Returns the header of a file in a text format; empty if the format has none.
fn beginning(open: format::MakeEncoder, schema: &SchemaRef, spec: &OutputSpec) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    open(schema, &spec.encode)?.encode(&RecordBatch::new_empty(schema.clone()), &mut bytes)?;
    Ok(bytes)
}

/// Makes the target of a file or of standard output: repairs and checks a file that is appended to. Errors: exit status
/// 2 if it has another header.
fn encoded(
    mut file: Plain,
    format: &'static Format,
    schema: &SchemaRef,
    spec: &OutputSpec,
    console: &Console,
) -> Result<OpenTarget> {
    let Some(open) = format.output else { return FrameOutput::to_file(file, schema).map(OpenTarget::Frames) };
    let mut begin = |schema: &SchemaRef| file.begin(|| beginning(open, schema, spec), format.is_json, console);
    let (mut append, mut narrow) = (false, None);
    if format.appendable {
        append = match begin(schema) {
            Err(error) if error.kind() == ErrorKind::Usage && Kind::of(schema) == Some(Kind::Dead) => {
                // An older version of evt may have written the header, with fewer columns.
                let mut begun = Err(error);
                for older in [dead::column::METRICS, dead::column::LETTER_ID, dead::column::ORIGINAL_LENGTH] {
                    if let Ok(append) = begin(&SchemaRef::new(schema.project(&Vec::from_iter(0..older))?)) {
                        (narrow, begun) = (Some(older), Ok(append));
                        break;
                    }
                }
                begun?
            }
            begun => begun?,
        };
    }
    let mut encoder = open(schema, &EncodeOptions { append, ..spec.encode.clone() })?;
    if let Some(columns) = narrow {
        let name = file.name();
        let missing = dead::COLUMNS[columns..].join(", ");
        console.say(format!("{name}: the header has no {missing}; dead letters are appended without it"));
        encoder = Box::new(NarrowEncoder { encoder, columns });
    }
    let control = spec.control && format.notes == Some(NoteFormat::Json);
    Ok(OpenTarget::Encoded { format, encoder, file, buffer: vec![], control })
}
