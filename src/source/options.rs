//! The settings of a source: flags of the user, and what the tool sets. Each part goes to the code that reads it.
//!
//! ```text
//! SourceOptions ─┬─ records ───► RecordEmitter  how records become rows
//!                ├─ needs ─────► Source, stage  what the tool needs beside the rows
//!                ├─ positions ─► Source         how far earlier runs have read
//!                ├─ generated ─► Source         the input of evt-gen
//!                └─ inputs ────► Opener ─┬─ files, continuation ─► files and pipes
//!                                        ├─ topics, stores       ─► Kafka, stores
//!                                        ├─ listener             ─► the HTTP server
//!                                        └─ names                ─► origins and partitions of all
//! ```

use super::positions::Positions;
pub use super::sort::SortColumns;
use crate::uri::Uri;
use evt_core::error::{Error, Result};
use evt_core::format::TextOptions;
use evt_core::format::elements::ElementPath;
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::mapping::{Projection, Provenance};
use evt_kafka::address::TopicFormat;
use evt_kafka::group::TopicOptions;
use evt_run::emit::RecordOptions;
use evt_run::input::Input;
use evt_run::input::unopened::{Continuation, FileOptions, ReadOptions};
use evt_run::spool::ack::{AckFlags, AckPolicy};
use evt_store::ReadRequest;
use std::cell::RefCell;
use std::fs::File;
use std::rc::Rc;

/// The order in which the rows of a store are read.
#[derive(Clone, Copy, Default)]
pub enum StoreOrder {
    /// That of the store.
    #[default]
    Stored,
    /// By columns of events; other kinds are an error.
    Events(SortColumns),
    /// The same for the rows of all stores together, which are those of the first one.
    Joined(SortColumns),
    /// By the columns that the function names for a kind; rows of other kinds as they are stored.
    Time(fn(Kind) -> Option<SortColumns>),
}

/// The errors of rows of a store that cannot be read; the reader of the source takes them.
pub type UnreadableReports = Rc<RefCell<Vec<Error>>>;

/// The options for reading stores.
#[derive(Default)]
pub struct StoreOptions {
    /// The rows and columns to read. If both ends of the span are known, stores are read day by day.
    pub request: ReadRequest,
    /// The order of the rows.
    pub order: StoreOrder,
    /// The reports of rows that cannot be read (evt-reconcile); with `None` such a row ends the run.
    pub unreadable: Option<UnreadableReports>,
}

/// The HTTP server (evt-ingest), and when it acknowledges requests.
#[derive(Default)]
pub struct ListenerOptions {
    /// The options of the server, if an input is one.
    pub server: Option<Box<evt_http::Options>>,
    /// The flags for storing and acknowledging requests.
    pub ack_flags: AckFlags,
    /// The place that must hold a request before it is acknowledged, if an input or a flag needs it.
    pub ack_policy: Option<AckPolicy>,
}

/// The names that flags give to records.
#[derive(Default)]
pub struct PartitionNames {
    /// `--origin`: the origin of all records, instead of one from the input's name.
    pub origin: Option<String>,
    /// `--partitions`: the names of all partitions, if a flag maps the partition.
    pub partitions: Option<Vec<String>>,
}

impl PartitionNames {
    /// Returns the origin of the records of an input.
    pub fn origin_of(&self, input: &Uri) -> String {
        self.origin.clone().unwrap_or_else(|| input.origin())
    }

    /// Checks that the partitions of topics have different names. Errors: exit status 2.
    pub fn check_topics(&self, inputs: &[Uri]) -> Result<()> {
        let has_several = |input: &&Uri| matches!(input, Uri::Kafka(address) if address.topics.len() > 1);
        match inputs.iter().find(has_several).filter(|_| self.origin.is_some()) {
            Some(input) => Err(Error::usage(format!(
                "{input}: --origin requires one topic, because partitions of several topics would have the same name"
            ))),
            None => Ok(()),
        }
    }
}

/// The options for opening inputs, by type of input.
#[derive(Default)]
pub struct InputOptions {
    /// Files and pipes.
    pub files: FileOptions,
    /// The relation of the run to the runs before and after it.
    pub continuation: Continuation,
    /// Topics.
    pub topics: TopicOptions,
    /// Stores.
    pub stores: StoreOptions,
    /// The HTTP server.
    pub listener: ListenerOptions,
    /// The names that flags give to the records of all inputs.
    pub names: PartitionNames,
}

impl InputOptions {
    /// Returns the options for reading files and pipes.
    pub fn reading(&self) -> ReadOptions {
        ReadOptions { files: self.files.clone(), continuation: self.continuation }
    }
}

/// The requirements of the tool on its source, beside the rows.
#[derive(Clone, Copy, Default)]
pub struct ToolNeeds {
    /// Whether the operator may make dead letters of rows. A letter needs the raw record, so with `--dlq` rows keep it
    /// within the stage (`KeepRaw::Within`).
    pub shows_records: bool,
    /// The columns that the stage reads if only raw records are written; the mapping may leave out the others.
    pub raw_columns: Option<Projection>,
    /// Whether rows carry the headers of their records to outputs that can write them, and the key, headers and
    /// timestamp to dead letters.
    pub headers: bool,
    /// Whether the stage finds repeated events by their ids (`--dedup`).
    pub finds_repeats: bool,
    /// Whether the source returns the rows before a failure of an input first, then the error (evt-view).
    pub salvage: bool,
    /// Whether the operator is made when the first rows are known, even if their schema is known before (evt-view).
    pub first_rows: bool,
    /// Whether dead letters wait until the rows before them have been processed (`--head` of evt-view).
    pub ordered_letters: bool,
    /// Whether the operator has rows only at the end of the input, or ends before it. It keeps no state, so it cannot
    /// be a stage of a pipe with a checkpoint: a restart would forget the rows of earlier epochs.
    pub whole_input: bool,
    /// Whether dead letters are written.
    pub writes_letters: bool,
    /// Whether the tool keeps a state of its own, with which a later run continues.
    pub keeps_state: bool,
}

/// Settings of a source.
#[derive(Default)]
pub struct SourceOptions {
    /// The options for mapping records to rows.
    pub records: RecordOptions,
    /// The options for opening inputs.
    pub inputs: InputOptions,
    /// `--since`, `--until` and `--last`: the times of the rows that leave the stage.
    pub range: Span,
    /// The requirements of the tool on its source, beside the rows.
    pub needs: ToolNeeds,
    /// The positions of the inputs that earlier runs of a checkpoint have read; `None` without a checkpoint.
    pub positions: Option<Positions>,
    /// The first input, if the tool has opened this file to compare it with those of earlier runs (evt-alert).
    pub opened: Option<File>,
    /// The input of a tool that makes its own records (evt-gen).
    pub generated: Option<Box<dyn Input>>,
}

impl SourceOptions {
    /// Derives the options of the inputs that depend on other options. Returns the inputs; with a checkpoint, topics
    /// start at its positions. Errors: exit status 2 if two inputs of a checkpoint read topics of the same name.
    pub(super) fn prepare(&mut self, inputs: &[Uri]) -> Result<Vec<Uri>> {
        let Self { records, inputs: opening, positions, .. } = self;
        let is_raw =
            |uri: &Uri| matches!(uri, Uri::Kafka(address) if address.options.form != Some(TopicFormat::Frames));
        if opening.topics.read_mode.is_of_stage() && inputs.iter().any(is_raw) {
            // Records of a topic get new stamps: those they carry are in order per original partition, which topics
            // interleave.
            records.mapping.provenance = Provenance::Overwrite;
        }
        let files = &mut opening.files;
        // evt-ingest makes events of all records, without regard to their field names.
        records.kind = records.kind.or((files.raw_only || records.mapping.plain).then_some(Kind::Event));
        files.text = Rc::new(TextOptions { kind: records.kind, ..(*files.text).clone() });
        match positions {
            Some(positions) => {
                positions.set_reading(files.text.explode.as_ref().map(ElementPath::to_text), files.follow);
                positions.continued(inputs)
            }
            None => Ok(inputs.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_kafka::range::ReadMode;

    fn prepared(uri: &str, change: impl FnOnce(&mut SourceOptions)) -> SourceOptions {
        let mut options = SourceOptions::default();
        change(&mut options);
        let inputs = [Uri::parse(uri, &Default::default()).unwrap()];
        assert_eq!(options.prepare(&inputs).unwrap().len(), 1);
        options
    }

    #[test]
    fn a_stage_gives_the_records_of_a_topic_new_stamps_and_a_viewer_keeps_theirs() {
        let provenance = |uri: &str, read_mode: ReadMode| {
            prepared(uri, |options| options.inputs.topics.read_mode = read_mode).records.mapping.provenance
        };
        for read_mode in [ReadMode::Commit, ReadMode::Stateful, ReadMode::Checkpoint] {
            assert_eq!(provenance("kafka://b/t", read_mode), Provenance::Overwrite);
            assert_eq!(provenance("kafka://b/t?format=frames", read_mode), Provenance::default());
            assert_eq!(provenance("in.jsonl", read_mode), Provenance::default());
        }
        for read_mode in [ReadMode::Bounded, ReadMode::Tail] {
            assert_eq!(provenance("kafka://b/t", read_mode), Provenance::default());
        }
    }

    #[test]
    fn raw_inputs_are_events_unless_a_flag_names_the_kind() {
        let kind = |change: fn(&mut SourceOptions)| {
            let options = prepared("in.jsonl", change);
            assert_eq!(options.inputs.files.text.kind, options.records.kind, "splitters know it");
            options.records.kind
        };
        assert_eq!(kind(|_| {}), None);
        assert_eq!(kind(|options| options.inputs.files.raw_only = true), Some(Kind::Event));
        assert_eq!(kind(|options| options.records.mapping.plain = true), Some(Kind::Event));
        assert_eq!(
            kind(|options| {
                options.inputs.files.raw_only = true;
                options.records.kind = Some(Kind::Late);
            }),
            Some(Kind::Late)
        );
    }

    #[test]
    fn an_origin_of_a_flag_replaces_that_of_every_input() {
        let uri = Uri::parse("dir/in.jsonl", &Default::default()).unwrap();
        let names = |origin: Option<&str>| PartitionNames { origin: origin.map(str::to_owned), partitions: None };
        assert_eq!(names(None).origin_of(&uri), uri.origin());
        assert_eq!(names(Some("shop")).origin_of(&uri), "shop");
    }
}
