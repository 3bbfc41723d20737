//! The settings of a source: flags of the user, and what the tool sets.

use super::positions::Positions;
pub use super::sort::SortColumns;
use crate::error::{Error, Result};
use crate::format::elements::ElementPath;
use crate::format::{Format, TextOptions};
use crate::http;
use crate::input::Input;
use crate::input::text::OpenRecord;
use crate::input::unopened::ReadOptions;
use crate::kafka::group::CommitMode;
use crate::kafka::range::ReadMode;
use crate::kind::Kind;
use crate::mapping::{self, Projection, Provenance};
use crate::op::computed::RowRules;
use crate::spool::ack::{AckFlags, AckPolicy};
use crate::store::ReadRequest;
use crate::uri::Uri;
use crate::uri::kafka::TopicFormat;
use std::cell::RefCell;
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

/// The errors of rows of a store that cannot be read; whoever reads the source takes them.
pub type UnreadableReports = Rc<RefCell<Vec<Error>>>;

/// Settings of a source.
#[derive(Default)]
pub struct SourceOptions {
    /// The mapping flags.
    pub mapping: mapping::Options,
    /// `-f`.
    pub format: Option<&'static Format>,
    /// How text is read.
    pub text: Rc<TextOptions>,
    /// `--kind`.
    pub kind: Option<Kind>,
    /// Whether the operator may call `Collector::dead`. The letter needs the raw record, so with `--dlq` rows keep it within the
    /// stage (`KeepRaw::Within`).
    pub shows_records: bool,
    /// The columns that the stage reads if only raw records are written; the mapping may leave out the others.
    pub raw_lean: Option<Projection>,
    /// `--origin`: the origin of all records, instead of one from the input's name.
    pub origin: Option<String>,
    /// `--partitions`: the names of all partitions, if a flag maps the partition.
    pub partitions: Option<Vec<String>>,
    /// `--control`.
    pub control: bool,
    /// `--follow`.
    pub follow: bool,
    /// Whether all inputs are raw (evt-ingest). A signal then stops reading at once, even from a pipe.
    pub raw_only: bool,
    /// Whether the stage finds repeated events by their ids (`--dedup`).
    pub finds_repeats: bool,
    /// What is done to rows before they are stamped (`--let` and `--where` of evt-ingest).
    pub rules: Option<RowRules>,
    /// The positions of the inputs that earlier runs of a checkpoint have read; `None` without a checkpoint.
    pub positions: Option<Positions>,
    /// Whether the stage may join the checkpoint of the pipe that it reads.
    pub joins: bool,
    /// Whether later runs continue the inputs (`--checkpoint`).
    pub is_continued: bool,
    /// Whether no run continues them after this one (`--at-end fire`).
    pub is_last: bool,
    /// What becomes of an incomplete last record of a file, unless `is_continued` decides.
    pub open_record: OpenRecord,
    /// What is read of stores. If both ends of the span are known, they are read day by day.
    pub stored: ReadRequest,
    /// The order of the rows of stores.
    pub store_order: StoreOrder,
    /// Whether rows carry the headers of their records to outputs that can write them, and the key, headers and timestamp to
    /// dead letters.
    pub headers: bool,
    /// How the tool reads topics.
    pub read_mode: ReadMode,
    /// Where rows of a store that cannot be read are reported, which otherwise end the run (evt-reconcile).
    pub unreadable: Option<UnreadableReports>,
    /// Whether and how offsets of a consumer group are committed.
    pub commit_mode: CommitMode,
    /// Whether the tool has a clock of its own, which no partition without records delays (evt-alert).
    pub has_clock: bool,
    /// The flags for storing and acknowledging HTTP requests.
    pub ack_flags: AckFlags,
    /// What must hold an HTTP request before it is acknowledged, if an input or a flag needs it.
    pub ack_policy: Option<AckPolicy>,
    /// The options of the HTTP server, if there is one (evt-ingest).
    pub http: Option<Box<http::Options>>,
    /// The input of a tool that makes its own records (evt-gen).
    pub generated: Option<Box<dyn Input>>,
    /// Whether the source returns the rows before a failure of an input first, then the error (evt-view).
    pub salvage: bool,
    /// Whether the operator is made when the first rows are known, even if their schema is known before (evt-view).
    pub needs_rows: bool,
    /// Whether text whose first record has the field names of another kind than `kind` is an error (evt-backfill --dead).
    pub checks_kind: bool,
    /// Whether dead letters wait until the rows before them have been processed (`--head` of evt-view).
    pub holds_letters: bool,
}

/// What [`SourceOptions::prepare`] has decided.
pub(super) struct Prepared {
    /// The mapping of records.
    pub(super) mapping: mapping::Options,
    /// The kind of the rows, if it does not depend on the records.
    pub(super) kind: Option<Kind>,
    /// The positions of the inputs in a checkpoint; `None` without one.
    pub(super) positions: Option<Positions>,
    /// The inputs that have something to read.
    pub(super) inputs: Vec<Uri>,
}

impl SourceOptions {
    /// Returns the origin of the records of an input.
    pub fn origin_of(&self, input: &Uri) -> String {
        self.origin.clone().unwrap_or_else(|| input.origin())
    }

    /// Returns how the inputs are read, and which of them, as far as earlier runs of a checkpoint left records.
    pub(super) fn prepare(&mut self, inputs: &[Uri]) -> Result<Prepared> {
        let mut mapping = self.mapping.clone();
        let is_raw =
            |uri: &Uri| matches!(uri, Uri::Kafka(address) if address.options.form != Some(TopicFormat::Frames));
        if self.read_mode.is_of_stage() && inputs.iter().any(is_raw) {
            // Records of a topic get new stamps: those they carry are in order per original partition, which topics interleave.
            mapping.provenance = Provenance::Overwrite;
        }
        // evt-ingest makes events of all records, without regard to their field names.
        let kind = self.kind.or((self.raw_only || mapping.plain).then_some(Kind::Event));
        self.text = Rc::new(TextOptions { kind, ..(*self.text).clone() });
        let mut positions = self.positions.take();
        let inputs = match &mut positions {
            Some(positions) => {
                positions.set_reading(self.text.explode.as_ref().map(ElementPath::to_text), self.follow);
                positions.continued(inputs)?
            }
            None => inputs.to_vec(),
        };
        Ok(Prepared { mapping, kind, positions, inputs })
    }

    /// Returns how files and pipes are read.
    pub fn reading(&self) -> ReadOptions {
        let Self { format, raw_only, is_continued, joins, open_record, .. } = *self;
        let open_record = if is_continued && !self.is_last { OpenRecord::Leave } else { open_record };
        ReadOptions { format, text: self.text.clone(), raw_only, is_continued, open_record, joins }
    }
}
