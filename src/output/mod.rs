//! Outputs: frames to a pipe, a format to a file, rows to a store or a topic.
//!
//! ```text
//! URI, OutputSpec ─► OutputPlan ─open─► Output ─finish─► OutputReport
//!                                      │ rows, control messages
//!                                      ├─► frames, text ─► Plain: standard output, appended file, NAME.part
//!                                      ├─► store ────────► rejected rows, at once
//!                                      └─► topic ────────► rejected rows, at once or later (Output::take_rejected)
//! ```
//!
//! An output appends to a text file: it removes an incomplete last line first, and writes each batch under one lock. It
//! writes any other file as `NAME.part`, and renames that to `NAME` at the proven end. If a signal stopped the source
//! before its end, the output does not replace an existing file: the file and the part both remain. Dropping an output
//! without [`Output::finish`] deletes its part.

pub mod dead_letters;
mod file;
pub mod identity;
mod narrow;
pub mod once;
mod spec;

use crate::clock::Clock;
use crate::console::Console;
use crate::counts::SinkCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, EncodeOptions, Format, Notes};
use crate::frame::{Control, Encoder as FrameEncoder, End, How};
use crate::kafka::produce::format::form;
use crate::kafka::produce::limit::{Limit, RowLimit};
use crate::kafka::produce::{KafkaOutput, RejectedRecord};
use crate::kind::Kind;
use crate::kind::dead::{self, Rejected};
use crate::kind::event::has_raw;
use crate::kind::headers::HeaderRows;
use crate::kind::record_parts::OutputParts;
use crate::metrics::{self, Metrics, Up};
use crate::run::Run;
use crate::store::remote::FOREVER;
use crate::store::{Location, Notice, OpenOptions, Sink, Store};
use crate::uri::Uri;
use crate::uri::kafka::{Address, Form};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use file::{Ended, Plain, is_appended};
use identity::Identity;
use narrow::NarrowEncoder;
pub use spec::OutputSpec;
use spec::{standard_format, written};
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::rc::Rc;

/// An output that was checked and is not open yet: nothing has been created or written.
///
/// The schema is known only with the first rows, perhaps after hours. The check reports an unusable output before that.
pub struct OutputPlan {
    name: String,
    place: Destination,
    spec: OutputSpec,
    first: Option<String>,
}

/// What the URI of an output names.
enum Destination {
    Null,
    Standard(&'static Format),
    File(PathBuf, &'static Format),
    Store(&'static Store, Location),
    Kafka(Box<Address>, Limit),
}

impl Destination {
    /// Whether it is on a server.
    fn is_remote(&self) -> bool {
        match self {
            Destination::Null | Destination::Standard(_) | Destination::File(..) => false,
            Destination::Store(store, _) => store.is_remote,
            Destination::Kafka(..) => true,
        }
    }

    /// Whether rows are written in frames.
    fn is_framed(&self) -> bool {
        match self {
            Destination::Standard(format) | Destination::File(_, format) => format.is_frames(),
            Destination::Kafka(address, _) => address.options.form == Some(Form::Frames),
            Destination::Null | Destination::Store(..) => false,
        }
    }
}

impl OutputPlan {
    /// Checks that the URI `text` names an output that could be written now. Contacts no server: see [`OutputPlan::ask`].
    /// Errors: exit status 2 if it is not an output, or a file that must not be replaced.
    pub fn try_new(text: impl AsRef<OsStr>, spec: &OutputSpec, run: &Run) -> Result<Self> {
        let uri = Uri::parse(text)?;
        let name = uri.to_string();
        let mut first = None;
        let place = match uri {
            Uri::Null => Destination::Null,
            Uri::Standard => Destination::Standard(standard_format(spec, &run.io)?),
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
            Uri::Store(store, location) => {
                if !store.is_remote {
                    first = (store.check)(&location)?;
                }
                Destination::Store(store, location)
            }
        };
        Ok(Self { name, place, spec: spec.clone(), first })
    }

    /// Checks with the brokers or the store's server that rows can be written now. Retries if the server is
    /// unavailable.
    pub fn ask(mut self, run: &Rc<Run>) -> Result<Self> {
        self.show_server(&run.metrics);
        match &self.place {
            Destination::Kafka(address, _) => KafkaOutput::ask(address, run)?,
            Destination::Store(store, location) if store.is_remote => self.first = (store.check)(location)?,
            _ => {}
        }
        Ok(self)
    }

    /// Retries an unavailable server without a limit, unless the URI sets one. For runs whose input is stored meanwhile.
    pub fn without_limit(mut self) -> Self {
        match &mut self.place {
            Destination::Kafka(address, _) => address.options.set_without_limit(),
            Destination::Store(store, location) if store.is_remote => {
                location.options.entry("retry".to_owned()).or_insert_with(|| FOREVER.to_owned());
            }
            _ => {}
        }
        self
    }

    /// Whether it is standard output and that is a terminal.
    pub fn is_terminal(&self) -> bool {
        matches!(self.place, Destination::Standard(_)) && std::io::stdout().is_terminal()
    }

    /// Returns its URI as the user gave it, without secrets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what opening it would do first, such as creating a table; `None` if nothing.
    pub fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// Returns its identity, to find duplicate outputs. `None` if an output may be named twice: a store holds a table for each
    /// kind of row.
    pub fn identity(&self) -> Option<Identity> {
        match &self.place {
            Destination::Null | Destination::Store(..) => None,
            Destination::Standard(_) => Some(Identity::of_output()),
            Destination::File(path, _) => Identity::of_path(path),
            Destination::Kafka(address, _) => Some(Identity::of_topic(&address.brokers, address.topics.first()?)),
        }
    }

    /// Returns the format of a file or of standard output; `None` for a store or a topic.
    pub fn format(&self) -> Option<&'static Format> {
        match &self.place {
            Destination::Standard(format) | Destination::File(_, format) => Some(format),
            Destination::Null | Destination::Store(..) | Destination::Kafka(..) => None,
        }
    }

    /// Whether its format writes raw records, so that rows need the column `raw`.
    pub fn asks_raw(&self) -> bool {
        matches!(&self.place, Destination::Standard(format) | Destination::File(_, format) if format.is_raw)
    }

    /// Whether it can write the headers of records with their rows.
    pub fn takes_headers(&self) -> bool {
        matches!(&self.place, Destination::Kafka(address, _) if address.options.form != Some(Form::Frames))
    }

    /// Whether it can make rows durable before the run ends ([`Output::settle`]), so that a source may commit its position.
    pub fn acknowledges(&self) -> bool {
        match &self.place {
            Destination::Null | Destination::Kafka(..) => true,
            Destination::Standard(_) => false,
            Destination::File(path, format) => is_appended(path, format, self.spec.overwrite),
            Destination::Store(store, _) => store.acknowledges,
        }
    }

    /// Whether it replaces the rows of other runs at the end, so that the source must be bounded.
    pub fn replaces(&self) -> bool {
        matches!(&self.place, Destination::Store(store, location) if (store.replaces)(location))
    }

    /// Whether it is a topic of frames. Its control frames describe all partitions of the source, so one run must read them all.
    pub fn is_framed(&self) -> bool {
        matches!(&self.place, Destination::Kafka(..)) && self.place.is_framed()
    }

    /// Returns the limit of the size of a row; `None` if there is none.
    pub fn row_limit(&self) -> Option<RowLimit> {
        match &self.place {
            Destination::Kafka(address, limit) => Some(RowLimit::new(address, limit)),
            _ => None,
        }
    }

    /// Sets its metrics before it is open: no row is written, and its server has not answered yet.
    pub fn show(&self, metrics: &Metrics) {
        let outcomes = match &self.place {
            Destination::Store(..) => SinkCounts::default().outcomes().map(|(outcome, _)| outcome).to_vec(),
            _ => vec!["written"],
        };
        outcomes.iter().for_each(|outcome| metrics.set(&metrics::SINK_ROWS, &[&self.name, outcome], 0.0));
        self.show_server(metrics);
    }

    /// Sets the metric of its server, if it has one, to down: the server has not answered yet.
    pub fn show_server(&self, metrics: &Metrics) {
        if self.place.is_remote() {
            Up::new(metrics, &self.name).set(false);
        }
    }

    /// Opens it for rows of `schema`. Errors: exit status 2 if a store does not hold rows of this kind.
    pub fn open(self, schema: &SchemaRef, run: &Rc<Run>) -> Result<Output> {
        let Self { name, place, spec, .. } = self;
        let up = Up::new(&run.metrics, &name);
        let is_remote = place.is_remote();
        let (parts, schema) = OutputParts::of(schema, place.is_framed());
        let schema = &schema;
        let sink = match place {
            Destination::Null => Target::Null,
            Destination::Standard(format) => {
                encoded(Plain::Standard(run.io.stdout()?), format, schema, &spec, &run.console)?
            }
            Destination::File(path, format) => {
                let file = Plain::create(path, format, spec.overwrite, run)?;
                encoded(file, format, schema, &spec, &run.console)?
            }
            Destination::Kafka(address, limit) => {
                Target::Kafka(Box::new(KafkaOutput::open(&address, limit, up.clone(), schema, run)?))
            }
            Destination::Store(store, location) => {
                let kind =
                    Kind::of(schema).ok_or_else(|| Error::usage(format!("{name}: expected rows of a known kind")))?;
                if !store.kinds.contains(&kind) {
                    return Err(store.other_kind(kind, &name));
                }
                if has_raw(schema) {
                    run.console.warn(format!("{name}: no column raw; the raw records are not stored"));
                }
                Target::Store { kind, sink: (store.open)(&location, &open_options(run, up.clone()))? }
            }
        };
        if is_remote {
            up.set(true);
        }
        Ok(Output { name, sink, rows: 0, rejected: 0, parts, metrics: run.metrics.clone(), clock: run.clock.clone() })
    }
}

/// Adds to the error of an unavailable server how many rows it did not acknowledge.
#[cold]
fn unwritten(error: Error, name: &str, rows: u64) -> Error {
    given_up(error, name, &format!("{rows} rows were not acknowledged and are not counted as written"))
}

/// Adds `outcome`, the consequence for the output `name`, to the error of an unavailable server. Returns other errors unchanged.
#[cold]
pub fn given_up(error: Error, name: &str, outcome: &str) -> Error {
    if error.kind() != ErrorKind::Unavailable {
        return error;
    }
    let cause = error.to_string();
    let cause = cause.strip_prefix(name).map_or(cause.as_str(), |rest| rest.trim_start_matches(": "));
    Error::new(ErrorKind::Unavailable, format!("{name}: {outcome}")).because(cause)
}

/// Returns the options with which a run opens a store.
pub fn open_options(run: &Run, up: Up) -> OpenOptions {
    let (pipeline, clock) = (run.pipeline.clone(), run.clock.clone());
    let (run, console, disk) = (run.id.clone(), run.console.clone(), run.io.disk());
    OpenOptions { up, pipeline, run, epochs: false, clock: std::sync::Arc::new(move || clock.now()), console, disk }
}

/// Returns the header of a file in a text format; empty if the format has none.
fn beginning(open: format::Output, schema: &SchemaRef, spec: &OutputSpec) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    open(schema, &spec.encode)?.encode(&RecordBatch::new_empty(schema.clone()), &mut bytes)?;
    Ok(bytes)
}

/// Makes the target of a file or of standard output: repairs and checks a file that is appended to. Errors: exit status 2 if it has
/// another header.
fn encoded(
    mut file: Plain,
    format: &'static Format,
    schema: &SchemaRef,
    spec: &OutputSpec,
    console: &Console,
) -> Result<Target> {
    let Some(open) = format.output else {
        let (encoder, head) = FrameEncoder::new(schema.clone());
        file.write(&[&head])?;
        return Ok(Target::Frames { encoder, file });
    };
    let mut begin = |schema: &SchemaRef| file.begin(|| beginning(open, schema, spec), format.is_json, console);
    let (mut append, mut narrow) = (false, None);
    if format.appendable {
        append = match begin(schema) {
            Err(error) if error.kind() == ErrorKind::Usage && Kind::of(schema) == Some(Kind::Dead) => {
                // An older version of evt may have written the header, with fewer columns.
                let mut begun = Err(error);
                for older in [dead::column::LETTER_ID, dead::column::ORIGINAL_LENGTH] {
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
        let missing = dead::COLUMNS[columns..].join(" and ");
        console.say(format!("{name}: the header has no {missing}; dead letters are appended without it"));
        encoder = Box::new(NarrowEncoder { encoder, columns });
    }
    let control = spec.control && format.notes == Some(Notes::Json);
    Ok(Target::Encoded { format, encoder, file, buffer: vec![], control })
}

/// One output of a run.
pub struct Output {
    name: String,
    sink: Target,
    rows: u64,
    /// Rows that the output rejected, at once or later.
    rejected: u64,
    /// Whether it writes the parts of records that are columns of the rows.
    parts: OutputParts,
    metrics: Metrics,
    clock: Clock,
}

/// Where an open output writes.
enum Target {
    Null,
    Frames { encoder: FrameEncoder, file: Plain },
    Encoded { format: &'static Format, encoder: Box<dyn format::Encoder>, file: Plain, buffer: Vec<u8>, control: bool },
    Store { kind: Kind, sink: Box<dyn Sink> },
    Kafka(Box<KafkaOutput>),
}

/// The result of an output, for the summary.
#[derive(Clone, Debug, Default)]
pub struct OutputReport {
    /// The output's URI, without secrets.
    pub name: String,
    /// Rows passed to the output, including those that it rejected.
    pub rows: u64,
    /// Counts of the rows by outcome; `None` for a file or standard output.
    pub counts: Option<SinkCounts>,
    /// `appended`, `new`, `replaced` or `not replaced` for a file; a store's own remark.
    pub remark: Option<String>,
    /// Messages that are printed even if `-q` leaves the summary out.
    pub notices: Vec<Notice>,
}

impl OutputReport {
    fn end_file(&mut self, ended: Ended) {
        self.remark = ended.remark;
        self.notices.extend(ended.notice);
    }
}

impl Output {
    /// Returns its URI as the user gave it, without secrets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a batch; returns the rows that the output rejected.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        self.rows += batch.num_rows() as u64;
        let start = self.clock.monotonic();
        let fitting = self.parts.fit(batch)?;
        let refused = self.write_rows(fitting.as_ref().unwrap_or(batch), HeaderRows::of(batch))?;
        self.metrics.blocked("output", self.clock.monotonic().saturating_sub(start));
        self.rejected += refused.len() as u64;
        Ok(refused)
    }

    /// Returns the rows that brokers have rejected since the last call, after [`Output::write`] accepted them.
    pub fn take_rejected(&mut self) -> Vec<RejectedRecord> {
        let Target::Kafka(topic) = &mut self.sink else { return vec![] };
        let rejected = topic.take_rejected();
        self.rejected += rejected.len() as u64;
        rejected
    }

    /// Waits until the brokers have acknowledged or rejected every row.
    pub fn conclude(&mut self) -> Result<()> {
        if let Target::Kafka(topic) = &mut self.sink { topic.settle() } else { Ok(()) }
    }

    /// Returns the number of rows passed to [`Output::write`] so far, without those that the output rejected.
    pub fn accepted_rows(&self) -> u64 {
        self.rows - self.rejected
    }

    /// Returns the counts of a store's rows by outcome; `None` for other outputs.
    pub fn row_counts(&self) -> Option<SinkCounts> {
        match &self.sink {
            Target::Store { sink, .. } => Some(sink.counts()),
            _ => None,
        }
    }

    fn write_rows(&mut self, batch: &RecordBatch, headers: Option<HeaderRows<'_>>) -> Result<Vec<Rejected>> {
        let name = &self.name;
        match &mut self.sink {
            Target::Null => {}
            Target::Frames { encoder, file } => {
                let pieces = encoder.batch(batch)?;
                file.write_pieces(&pieces).map_err(|error| error.at(name.clone()))?;
            }
            Target::Encoded { encoder, file, buffer, .. } => {
                let written = match encoder.slices(batch) {
                    Some(slices) => file.write(&slices),
                    None => {
                        encoder.encode(batch, buffer)?;
                        file.write(&[buffer])
                    }
                };
                buffer.clear();
                written.map_err(|error| error.at(name.clone()))?;
            }
            Target::Kafka(topic) => {
                return topic.write(batch, headers);
            }
            Target::Store { kind, sink } => {
                let before = sink.counts().taken;
                let written = sink.write(*kind, batch).map_err(|error| error.at(name.clone()));
                let refused = written.map_err(|error| {
                    let lost = (batch.num_rows() as u64).saturating_sub(sink.counts().taken - before);
                    unwritten(error, name, lost)
                })?;
                return Ok(refused);
            }
        }
        Ok(vec![])
    }

    /// Writes a control message if the output can carry it: frames, topics, and watermarks as lines of text with `--control`.
    pub fn control(&mut self, message: &Control) -> Result<()> {
        match &mut self.sink {
            Target::Frames { encoder, file } => {
                let pieces = encoder.control(message)?;
                file.write_pieces(&pieces)
            }
            Target::Kafka(topic) => topic.control(message),
            Target::Encoded { file, control: true, .. } => match message {
                Control::Watermark(instant) => {
                    let instant = crate::time::format_instant(*instant);
                    file.write(&[format!("{{\"$evt\":{{\"watermark\":\"{instant}\"}}}}\n").as_bytes()])
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Does time-driven work of a store or a topic.
    pub fn tick(&mut self) -> Result<()> {
        match &mut self.sink {
            Target::Store { sink, .. } => sink.tick().map_err(|error| error.at(self.name.clone())),
            Target::Kafka(topic) => topic.tick(),
            _ => Ok(()),
        }
    }

    /// Writes the rows that the encoder holds back, so that a waiting reader gets them.
    pub fn flush(&mut self) -> Result<()> {
        let Target::Encoded { encoder, file, buffer, .. } = &mut self.sink else { return Ok(()) };
        encoder.flush(buffer);
        let written = file.write(&[buffer]).map_err(|error| error.at(self.name.clone()));
        buffer.clear();
        written
    }

    /// Makes every row so far durable, if the output can ([`OutputPlan::acknowledges`]).
    pub fn settle(&mut self) -> Result<()> {
        self.flush()?;
        match &mut self.sink {
            Target::Encoded { file, .. } => file.settle(),
            Target::Store { sink, .. } => sink.settle().map_err(|error| error.at(self.name.clone())),
            Target::Kafka(topic) => topic.settle(),
            Target::Null | Target::Frames { .. } => Ok(()),
        }
    }

    /// Returns the format of a file or of standard output; `None` for a store, a topic or no output.
    pub fn format(&self) -> Option<&'static Format> {
        match &self.sink {
            Target::Null | Target::Store { .. } | Target::Kafka(_) => None,
            Target::Frames { .. } => Some(&format::frames::FORMAT),
            Target::Encoded { format, .. } => Some(format),
        }
    }

    /// Writes the tool's own text after the rows so far; frames, stores and topics ignore it.
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.flush()?;
        let Target::Encoded { file, .. } = &mut self.sink else { return Ok(()) };
        file.write(&[text.as_bytes()]).map_err(|error| error.at(self.name.clone()))
    }

    /// Ends the output at `end`: writes the last bytes or control message, and renames a part to its file's name.
    pub fn finish(self, end: &End) -> Result<OutputReport> {
        let mut report = OutputReport { name: self.name, rows: self.rows, ..OutputReport::default() };
        match self.sink {
            Target::Null => {}
            Target::Frames { mut encoder, mut file } => {
                let last = Control::End(End { rows: encoder.rows(), ..*end });
                let mut pieces = encoder.control(&last)?;
                pieces.push(encoder.finish().into());
                file.write_pieces(&pieces)?;
                report.end_file(file.finish(end.how)?);
            }
            Target::Encoded { mut encoder, mut file, mut buffer, .. } => {
                encoder.finish(&mut buffer)?;
                file.write(&[&buffer])?;
                report.end_file(file.finish(end.how)?);
            }
            Target::Kafka(mut topic) => {
                topic.control(&Control::End(End { rows: report.rows, ..*end }))?;
                report.counts = Some(topic.finish()?);
            }
            Target::Store { sink, .. } => {
                let outcome = match end.how {
                    How::Exhausted => sink.finish()?,
                    How::Stopped => sink.finish_stopped()?,
                };
                report.counts = Some(outcome.counts);
                report.remark = outcome.remark;
                report.notices = outcome.notices;
            }
        }
        Ok(report)
    }
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;
