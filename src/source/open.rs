//! Opens the inputs of a source.

use super::{Source, SourceOptions};
use crate::error::{Error, Result};
use crate::format::Rows;
use crate::http::Server;
use crate::ingest::Ingest;
use crate::input::Input;
use crate::input::bytes::Bytes;
use crate::input::container::{RowInput, take_schema};
use crate::input::follow::watch::Watch;
use crate::input::spool::{ORIGIN, Shutdown, SpoolInput};
use crate::input::unopened::UnopenedInput;
use crate::kafka::input::{KafkaInput, endless};
use crate::kafka::range::Role;
use crate::run::Run;
use crate::spool::{self, SpoolReader};
use crate::store::{Location, Store};
use crate::uri::Uri;
use crate::uri::kafka::Address;
use std::path::PathBuf;
use std::rc::Rc;

/// Opens an input, whose turn it is.
pub(super) fn input(source: &mut Source, uri: &Uri) -> Result<Box<dyn Input>> {
    match uri {
        Uri::Store(store, location) => rows(store, location, uri, &source.run, &mut source.ingest),
        Uri::Kafka(_) => begin_topics(source),
        Uri::Http(_) => listen(source, uri),
        _ => bytes(source, uri),
    }
}

/// Opens a file or a pipe; a followed name may not exist yet.
fn bytes(source: &Source, uri: &Uri) -> Result<Box<dyn Input>> {
    let (options, run) = (source.options.reading(), source.run.clone());
    let heeds_signals = options.raw_only || !matches!(uri, Uri::Standard);
    run.stop.set_behind_pipe(!heeds_signals);
    let origin = source.options.origin_of(uri);
    let is_followed = |path: &PathBuf| matches!(uri, Uri::File(named) if named == path);
    Ok(Box::new(match source.watches.iter().find(|(path, _)| is_followed(path)) {
        Some((_, watch)) => UnopenedInput::of_watch(run, options, origin, uri.to_string(), watch.clone()),
        None => {
            let bytes = Bytes::open(uri, run.clone(), heeds_signals)?;
            UnopenedInput::new(run, options, origin, bytes)
        }
    }))
}

/// Opens the rows of a store.
fn rows(store: &Store, location: &Location, uri: &Uri, run: &Rc<Run>, ingest: &mut Ingest) -> Result<Box<dyn Input>> {
    let (kind, rows) = store.rows(location)?;
    let name = uri.to_string();
    take_schema(Some(kind.schema()), false, &name, ingest)?;
    let rows = Box::new(rows.map(|batch| batch.map(Rows::Batch)));
    let partition = ingest.partition(&uri.origin());
    Ok(Box::new(RowInput::new(rows, name, partition, run.clone())))
}

/// Asks the brokers which partitions there are.
pub(super) fn topics(
    address: &Address,
    options: &SourceOptions,
    run: &Rc<Run>,
    ingest: &mut Ingest,
) -> Result<KafkaInput> {
    let commits = matches!(options.role, Role::Works | Role::Recomputes);
    if commits && address.options.group.is_some() && ingest.is_mapped() {
        return Err(Error::usage(format!(
            "{address}: group=: a committed offset keeps the stream time of its own partition, and a flag maps rows onto others"
        )));
    }
    KafkaInput::open(address, (options.role, options.offsets), options.origin.as_deref(), run, ingest)
}

/// Begins to read topics whose brokers were asked already.
fn begin_topics(source: &mut Source) -> Result<Box<dyn Input>> {
    let input = source.topics.pop_front().ok_or_else(|| Error::broken("topics were not opened"))?;
    match input.is_endless() && !source.pending.is_empty() {
        true => Err(endless(&input.name())),
        false => Ok(input),
    }
}

/// Opens the HTTP server and the spool in which it stores requests.
fn listen(source: &mut Source, uri: &Uri) -> Result<Box<dyn Input>> {
    let Some(options) = source.options.http.take() else {
        return Err(Error::usage(format!("{uri}: only evt-ingest listens")));
    };
    let Some(promise) = &source.options.promise else {
        return Err(Error::broken(format!("{uri}: nobody says what an acknowledgement promises")));
    };
    let (keeper, reader) = spool::open(promise, &source.run)?;
    let server = Server::open(*options, keeper, &source.run)?;
    source.run.service.ready();
    Ok(spool(source, reader, Box::new(move || server.drain())))
}

/// Makes the input that reads a spool. It never ends by itself: nothing can follow it.
pub(super) fn spool(source: &mut Source, reader: SpoolReader, shutdown: Shutdown) -> Box<dyn Input> {
    let origin = source.options.origin.as_deref().unwrap_or(ORIGIN);
    Box::new(SpoolInput::new(source.run.clone(), reader, shutdown, origin, &mut source.ingest))
}

/// Begins to watch the names that are followed, before the first of them is read.
pub(super) fn watches(inputs: &[Uri], options: &SourceOptions) -> Result<Vec<(PathBuf, Watch)>> {
    let file = |uri: &Uri| if let Uri::File(path) = uri { Some(path.clone()) } else { None };
    let paths: Vec<PathBuf> = inputs.iter().filter_map(file).filter(|_| options.follow).collect();
    let watches = if paths.is_empty() { vec![] } else { Watch::start(&paths)? };
    Ok(paths.into_iter().zip(watches).collect())
}
