//! Opens the inputs of a source.
//!
//! Topics and followed files are prepared at the start of the run; everything else is opened when it becomes the
//! current input.

use super::ahead::ReadAhead;
use super::bounded::KnownEnd;
use super::options::{InputOptions, StoreOrder, UnreadableReports};
use super::sort::sorted;
use crate::uri::Uri;
use crate::uri::readable;
use arrow::array::RecordBatch;
use evt_core::error::{Error, Result};
use evt_core::format::Rows;
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::time::DAY;
use evt_kafka::address::Address;
use evt_kafka::group;
use evt_kafka::input::KafkaInput;
use evt_kafka::range::ReadMode;
use evt_run::checkpoint::epoch::Batches;
use evt_run::client::Location;
use evt_run::emit::{ByteProgress, PendingInputs, RecordEmitter};
use evt_run::input::bytes::Bytes;
use evt_run::input::container::{RowInput, take_schema};
use evt_run::input::follow::watch::Watch;
use evt_run::input::spool::{ORIGIN, Shutdown, SpoolInput};
use evt_run::input::unopened::{FollowedName, UnopenedInput};
use evt_run::input::{Input, InputPosition};
use evt_run::metrics::ServerStatus;
use evt_run::run::Run;
use evt_run::spool::{self, SpoolReader, SpoolStart};
use evt_store::{ReadRequest, Store, or_error};
use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;

/// Opens inputs, each when the one before it has ended.
pub(super) struct Opener {
    run: Rc<Run>,
    pub(super) options: InputOptions,
    /// Topics that were opened to get their partitions and are not read yet, in the order of the command line.
    topics: VecDeque<Box<KafkaInput>>,
    /// Followed files with their watches, which start before the first file is read.
    watches: Vec<(PathBuf, Watch)>,
    /// The stores whose rows are read together with those of the first store; empty once the first store is open.
    joined: Vec<(&'static Store, Location)>,
    /// What is known of the end of the inputs.
    pub(super) known_end: KnownEnd,
    /// How far earlier runs have read the followed name or the spool that is opened next; for a file, the open file.
    pub(super) position: Option<InputPosition>,
}

impl Opener {
    /// Creates an opener and starts watching the files to be followed. `opened` is the first input, if it is open
    /// already.
    pub(super) fn new(inputs: &[Uri], options: InputOptions, opened: Option<File>, run: Rc<Run>) -> Result<Self> {
        let file = |uri: &Uri| if let Uri::File(path) = uri { Some(path.path.clone()) } else { None };
        let paths: Vec<PathBuf> = inputs.iter().filter_map(file).filter(|_| options.files.follow).collect();
        let watches = if paths.is_empty() { vec![] } else { Watch::start(&paths)? };
        let watches = paths.into_iter().zip(watches).collect();
        let store =
            |uri: &Uri| if let Uri::Store(store, location) = uri { Some((*store, location.clone())) } else { None };
        let is_joined = matches!(options.stores.order, StoreOrder::Joined(_));
        let joined = inputs.iter().filter_map(store).filter(|_| is_joined).collect();
        let known_end = KnownEnd::of(inputs, options.files.follow || options.continuation.is_continued, &run);
        let position = opened.map(InputPosition::Opened);
        Ok(Self { run, options, topics: VecDeque::new(), watches, joined, known_end, position })
    }

    /// Announces the partitions that are known at the start: one for each file, those of topics, and those of
    /// `--partitions`.
    pub(super) fn announce(&mut self, inputs: &[Uri], emitter: &mut RecordEmitter) -> Result<()> {
        for (number, input) in (0..).zip(inputs) {
            emitter.stamp_mut().turn_to(
                number,
                ByteProgress::default(),
                PendingInputs { pending: true, complete: false },
            );
            match input {
                Uri::Kafka(address) => {
                    self.announce_topics(address, emitter)?;
                    continue;
                }
                // The HTTP server has one partition, announced when it is opened.
                Uri::Http(_) => continue,
                _ => {}
            }
            let origin = self.options.names.origin_of(input);
            match &self.options.names.partitions {
                Some(names) => names.iter().for_each(|name| {
                    emitter.stamp_mut().announce(&origin, name);
                }),
                None if !emitter.stamp().maps_partition() => {
                    emitter.stamp_mut().announce(&origin, "0");
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Gets the partitions of the topics from the brokers. Errors: exit status 2 for `group=` with flags that map the
    /// partition.
    fn announce_topics(&mut self, address: &Address, emitter: &mut RecordEmitter) -> Result<()> {
        let Self { options, run, .. } = self;
        let keeps = match options.topics.read_mode {
            ReadMode::Checkpoint => true,
            mode => mode.is_of_stage() && address.options.group.is_some(),
        };
        if keeps && emitter.stamp().maps_partition() {
            return Err(Error::usage(format!(
                "{address}: group= and --checkpoint cannot be used with flags that map rows to other partitions, whose stream \
                 time cannot be kept"
            )));
        }
        let origin = options.names.origin.as_deref();
        let read = group::Options { tool: options.topics.clone(), origin };
        let input = KafkaInput::open(address, read, run, emitter)?;
        self.topics.push_back(Box::new(input));
        Ok(())
    }

    /// Whether topics of frames are not read yet: the partitions in their frames are not known.
    pub(super) fn has_framed_topics(&self) -> bool {
        self.topics.iter().any(|input| input.reports_partitions())
    }

    /// Opens the next input; `is_last` if none follows.
    pub(super) fn open(&mut self, uri: &Uri, is_last: bool, emitter: &mut RecordEmitter) -> Result<Box<dyn Input>> {
        match uri {
            Uri::Store(..) if self.options.files.follow => Err(Error::usage(format!(
                "{uri}: expected a file or a topic with --follow, found a store; evt-view --tail N shows the last rows \
                 of a table"
            ))),
            &Uri::Store(store, ref location) => self.rows(store, location, emitter),
            Uri::Kafka(_) => self.begin_topics(is_last),
            Uri::Http(_) => self.listen(uri, emitter),
            _ => self.bytes(uri),
        }
    }

    /// Opens a file or a pipe. A followed file may not exist yet.
    fn bytes(&mut self, uri: &Uri) -> Result<Box<dyn Input>> {
        let (options, run) = (self.options.reading(), self.run.clone());
        let stops_at_signals = options.files.raw_only || !matches!(uri, Uri::Standard);
        run.stop.set_behind_pipe(!stops_at_signals);
        let origin = self.options.names.origin_of(uri);
        let is_followed = |path: &PathBuf| matches!(uri, Uri::File(named) if named.path == *path);
        Ok(Box::new(match self.watches.iter().find(|(path, _)| is_followed(path)) {
            Some((path, watch)) => {
                let (path, watch) = (path.clone(), watch.clone());
                let position = match self.position.take() {
                    Some(InputPosition::Followed(position)) => Some(position),
                    _ => None,
                };
                let followed = FollowedName { name: uri.to_string(), path, watch, position };
                UnopenedInput::of_name(run, options, origin, followed)
            }
            None => {
                let bytes = match self.position.take() {
                    Some(InputPosition::Opened(file)) => Bytes::of_file(uri.to_string(), file, run.clone())?,
                    _ => readable::open(uri, run.clone(), stops_at_signals)?,
                };
                let bytes = bytes.in_encoding(options.files.text.encoding);
                UnopenedInput::new(run, options, origin, bytes)
            }
        }))
    }

    /// Returns the next announced topics. Errors: exit status 2 if they never end and an input follows.
    fn begin_topics(&mut self, is_last: bool) -> Result<Box<dyn Input>> {
        let input =
            self.topics.pop_front().ok_or_else(|| Error::broken("the source opens more topics than it registered"))?;
        match input.is_endless() && !is_last {
            true => Err(input.endless()),
            false => Ok(input),
        }
    }

    /// Opens the HTTP server and the spool in which it stores requests.
    fn listen(&mut self, uri: &Uri, emitter: &mut RecordEmitter) -> Result<Box<dyn Input>> {
        let Some(options) = self.options.listener.server.take() else {
            return Err(Error::usage(format!("{uri}: a listener requires evt-ingest")));
        };
        let Some(policy) = &self.options.listener.ack_policy else {
            return Err(Error::broken(format!("{uri}: no acknowledgement policy")));
        };
        let start = match (self.options.continuation.is_continued, self.position.take()) {
            (false, _) => SpoolStart::Kept,
            (true, Some(InputPosition::Spool { position, .. })) => SpoolStart::Checkpoint(Some(position)),
            (true, _) => SpoolStart::Checkpoint(None),
        };
        let (log, reader) = spool::open(policy, start, &self.run)?;
        let server = evt_http::open(*options, log, &self.run)?;
        self.run.service.ready();
        Ok(self.spool(reader, Box::new(move || server.drain_beside()), emitter))
    }

    /// Makes the input that reads a spool. It ends only at a signal, so no input can follow it.
    pub(super) fn spool(&self, reader: SpoolReader, shutdown: Shutdown, emitter: &mut RecordEmitter) -> Box<dyn Input> {
        let origin = self.options.names.origin.as_deref().unwrap_or(ORIGIN);
        Box::new(SpoolInput::new(self.run.clone(), reader, shutdown, origin, emitter))
    }

    /// Returns the rows of a store, or of all joined stores with the first one.
    fn batches(&mut self, store: &'static Store, location: &Location) -> Result<(Kind, Batches)> {
        let request = self.options.stores.request;
        if !matches!(self.options.stores.order, StoreOrder::Joined(_)) {
            return store.at_start(location, ServerStatus::default(), || by_day(store, location, request));
        }
        let mut rows: Batches = Box::new(std::iter::empty());
        for (store, location) in std::mem::take(&mut self.joined) {
            let name = Uri::Store(store, location.clone()).to_string();
            let open = || by_day(store, &location, request);
            let (kind, of_store) = store.at_start(&location, ServerStatus::default(), open)?;
            if kind != Kind::Event {
                return Err(Error::usage(format!("{name}: expected events, found rows of kind {kind}")));
            }
            rows = Box::new(rows.chain(of_store.map(move |batch| batch.map_err(|error| error.at(name.clone())))));
        }
        Ok((Kind::Event, rows))
    }

    /// Opens the rows of a store as an input.
    fn rows(
        &mut self,
        store: &'static Store,
        location: &Location,
        emitter: &mut RecordEmitter,
    ) -> Result<Box<dyn Input>> {
        let uri = Uri::Store(store, location.clone());
        let name = uri.to_string();
        let (kind, rows) = self.batches(store, location)?;
        let rows = match self.options.stores.order {
            StoreOrder::Events(_) if kind != Kind::Event => {
                return Err(Error::usage(format!("{uri}: expected events, found rows of kind {kind}")));
            }
            StoreOrder::Events(columns) | StoreOrder::Joined(columns) => sorted(rows, columns),
            StoreOrder::Time(columns) => match columns(kind) {
                Some(columns) => sorted(rows, columns),
                None => rows,
            },
            StoreOrder::Stored => rows,
        };
        let rows = match self.options.stores.unreadable.clone() {
            Some(reports) => reported(rows, kind, reports),
            None => rows,
        };
        take_schema(Some(kind.schema()), false, &name, emitter)?;
        let rows = Box::new(rows.map(|batch| batch.map(Rows::Batch)));
        let partition = emitter.stamp_mut().unnamed(&uri.origin());
        Ok(Box::new(RowInput::new(rows, name, partition, self.run.clone())))
    }
}

/// Adds each error of single rows in the batches of a store to `reports`, and returns an empty batch in its place.
fn reported(rows: Batches, kind: Kind, reports: UnreadableReports) -> Batches {
    Box::new(rows.map(move |batch| match batch {
        Err(error) if error.rows().is_some() => {
            reports.borrow_mut().push(error);
            Ok(RecordBatch::new_empty(kind.schema()))
        }
        batch => batch,
    }))
}

/// Reads a part of a store. If both ends of its span are known, the days are read in order, on as many threads as
/// requested.
fn by_day(store: &'static Store, location: &Location, request: ReadRequest) -> Result<(Kind, Batches)> {
    let Some((since, until)) = ends(store, location, request)? else { return store.rows_within(location, request) };
    let end = move |at: i64| at.div_euclid(DAY).saturating_add(1).saturating_mul(DAY).min(until);
    let starts = std::iter::successors(Some(since), move |at| Some(end(*at))).take_while(move |at| *at < until);
    let mut days = starts.map(move |at| Span { since: Some(at), until: Some(end(at)) });
    let of = move |span: Span| ReadRequest { span, threads: 1, ..request };
    if request.threads > 1 {
        let (kind, _) = store.rows_within(location, of(Span { since: Some(since), until: Some(since) }))?;
        let location = location.clone();
        let rows = ReadAhead::start(request.threads, days, move |span| store.rows_of(kind, &location, of(span)))?;
        return Ok((kind, Box::new(rows)));
    }
    let first = days.next().unwrap_or(request.span);
    let (kind, first) = store.rows_within(location, of(first))?;
    let location = location.clone();
    let others = days.flat_map(move |day| or_error(store.rows_of(kind, &location, of(day))));
    Ok((kind, Box::new(first.chain(others))))
}

/// Returns the start and the end of the span that is read (µs); `None` if one is unknown. Both are known if they are
/// requested, or if several threads shall read a store that knows its extent.
fn ends(
    store: &Store,
    location: &Location,
    ReadRequest { span, threads, .. }: ReadRequest,
) -> Result<Option<(i64, i64)>> {
    if let Span { since: Some(since), until: Some(until) } = span {
        return Ok(Some((since, until)));
    }
    let extent = store.reader.extent.filter(|_| threads > 1);
    let Some(Span { since: Some(first), until: Some(last) }) =
        extent.map(|extent| extent(location)).transpose()?.flatten()
    else {
        return Ok(None);
    };
    Ok(Some((first.max(span.since.unwrap_or(first)), last.min(span.until.unwrap_or(last)))))
}
