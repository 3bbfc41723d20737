//! What a source is told.

use crate::expr::Filter;
use crate::format::Format;
use crate::http;
use crate::input::unopened::ReadOptions;
use crate::kafka::group::CommitMode;
use crate::kafka::range::ReadMode;
use crate::kind::Kind;
use crate::mapping::{self, Lean};
use crate::spool::promise::{Keeping, Promise};
use crate::uri::Uri;

/// What a source is told.
#[derive(Default)]
pub struct SourceOptions {
    /// The mapping flags.
    pub mapping: mapping::Options,
    /// `-f`.
    pub format: Option<&'static Format>,
    /// `--kind`.
    pub kind: Option<Kind>,
    /// Whether the stage may turn a row into a dead letter: it has to show its record, which then stands beside the row
    /// (`KeepRaw::Within`) where there are dead letters at all.
    pub shows_records: bool,
    /// What the mapping may leave out where nothing of a row is written but its raw record.
    pub raw_lean: Option<Lean>,
    /// `--origin`: the name of the origin instead of the input's.
    pub origin: Option<String>,
    /// `--partitions`: every partition there will be, where a flag maps them.
    pub partitions: Option<Vec<String>>,
    /// `--control`.
    pub control: bool,
    /// `--follow`.
    pub follow: bool,
    /// Whether every input is raw, so that a signal stops the reading at once (evt-ingest).
    pub raw_only: bool,
    /// Rows left out before they are stamped (`--where` of evt-ingest).
    pub filter: Option<Filter>,
    /// Whether rows go out with the headers of their records, where an output can carry them.
    pub headers: bool,
    /// How the tool reads topics.
    pub read_mode: ReadMode,
    /// Whether and how offsets of a consumer group are committed.
    pub commit_mode: CommitMode,
    /// What the flags say of keeping requests that came in over HTTP.
    pub keeping: Keeping,
    /// What an acknowledgement of such a request promises, where the flags or the inputs ask for it.
    pub promise: Option<Promise>,
    /// How the front door is set up, where there is one (evt-ingest).
    pub http: Option<Box<http::Options>>,
    /// Whether an input that breaks first gives the rows before the break (evt-view).
    pub salvage: bool,
    /// Whether letters wait until the rows before them have been looked at (`--head` of evt-view).
    pub holds_letters: bool,
}

impl SourceOptions {
    /// Returns the origin of the records of an input.
    pub fn origin_of(&self, input: &Uri) -> String {
        self.origin.clone().unwrap_or_else(|| input.origin())
    }

    /// Returns how files and pipes are read.
    pub fn reading(&self) -> ReadOptions {
        ReadOptions { format: self.format, raw_only: self.raw_only }
    }
}
