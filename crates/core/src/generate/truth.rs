//! The expected results of generated records, by the rules of evt(7) alone. It is an oracle, so it shares no code with
//! the windows.
//!
//! It judges one record after another: a faulty record advances no stream time; a row counts for a window iff its
//! stream time − out-of-orderness < end + lateness; it is late if it is in a window and counts for none. It uses what
//! the generator reports about a record, never its bytes; a test proves that the two agree.
//!
//! Memory: one entry per window and key until the end, and the ids seen within `dedup`.

use super::{Defect, Event, ExpectedOutcome, Generated, record};
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::kind::dead::ErrorType;
use crate::time::{MINUTE, SECOND, format_duration, format_instant};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The rules by which the records are read: the flags of evt-ingest, evt-validate and evt-window.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Length of a window (µs).
    pub size: i64,
    /// Distance between two window starts (µs); `None`: `size`.
    pub slide: Option<i64>,
    /// The dimensions of a key.
    pub by: Vec<TruthDimension>,
    /// The bound subtracted from stream time (µs).
    pub out_of_orderness: i64,
    /// How long a window stays open after its end (µs).
    pub lateness: i64,
    /// The field with the event time.
    pub time: TimeField,
    /// Maximum distance of an event ahead of its `server_timestamp` (µs); `None`: any distance.
    pub max_future: Option<i64>,
    /// An id seen at most this much stream time ago (µs) in its partition is a duplicate; `None`: every row counts.
    pub dedup: Option<i64>,
    /// Whether evt-validate checks schemas of the demo.
    pub validated: bool,
    /// Whether the partition of a record is its field `shard`. Otherwise the file is one partition.
    pub sharded: bool,
    /// Whether the records are sent over HTTP: the server overwrites `server_timestamp` on arrival, and that decides
    /// how far an event is ahead. All event times are before the arrival.
    pub over_http: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            size: MINUTE,
            slide: None,
            by: vec![TruthDimension::EventType],
            out_of_orderness: 30 * SECOND,
            lateness: 0,
            time: TimeField::Server,
            max_future: None,
            dedup: None,
            validated: false,
            sharded: false,
            over_http: false,
        }
    }
}

/// A field that can be the event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeField {
    /// `server_timestamp`, the default of every tool.
    Server,
    /// `client_timestamp`, which [`ExpectedOutcome::Future`] sets ahead.
    Client,
}

/// A dimension of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TruthDimension {
    /// The column of that name.
    EventType,
    /// The column of that name.
    Source,
    /// The column `user_id`; null for anonymous events.
    User,
    /// The property of that name.
    Page,
    /// The property of that name.
    Country,
    /// The property of that name.
    Device,
}

impl TruthDimension {
    /// All dimensions.
    pub const ALL: [Self; 6] = [Self::EventType, Self::Source, Self::User, Self::Page, Self::Country, Self::Device];

    /// Returns its name in a record.
    pub fn name(self) -> &'static str {
        match self {
            Self::EventType => "event_type",
            Self::Source => "source",
            Self::User => "user_id",
            Self::Page => "page",
            Self::Country => "country",
            Self::Device => "device",
        }
    }

    fn value(self, event: &Event) -> Option<String> {
        match self {
            Self::EventType => Some(event.event_type.to_owned()),
            Self::Source => Some(event.source.to_owned()),
            Self::User => event.user.map(record::user_text),
            Self::Page => Some(record::page_text(event.page)),
            Self::Country => Some(event.country.to_owned()),
            Self::Device => Some(event.device.to_owned()),
        }
    }
}

impl std::str::FromStr for TruthDimension {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.name() == name).ok_or_else(|| {
            Error::usage(format!("expected one of {}, found '{name}'", Self::ALL.map(Self::name).join(", ")))
        })
    }
}

/// Judges records in the order of the file.
pub struct Truth {
    rules: Rules,
    /// The counts so far; the rest is filled in at the end.
    report: TruthReport,
    span: Option<Span>,
    partitions: HashMap<u32, PartitionTruth>,
    windows: HashMap<WindowGroup, u64>,
}

/// A window's start and the values of its dimensions.
type WindowGroup = (i64, Vec<Option<String>>);

/// First and last event time, and the maximum distance of a row behind its stream time (µs).
#[derive(Clone, Copy)]
struct Span {
    first: i64,
    last: i64,
    behind_max: i64,
}

#[derive(Default)]
struct PartitionTruth {
    stream_time: Option<i64>,
    /// The stream time (µs) at which each id was seen last, and all sightings in the order of time.
    seen: HashMap<u128, i64>,
    order: VecDeque<(i64, u128)>,
}

/// Maximum number of windows that contain one row.
const WINDOWS_A_ROW_MAX: i64 = 10_000;

impl Truth {
    /// Creates a truth without records.
    ///
    /// Errors: exit status 2 if a rule is out of range.
    pub fn new(rules: Rules) -> Result<Self> {
        let slide = rules.slide.unwrap_or(rules.size);
        if rules.size < 1 || slide < 1 || rules.size / slide > WINDOWS_A_ROW_MAX {
            return Err(Error::usage(format!(
                "size {} and slide {}: expected positive durations with at most {WINDOWS_A_ROW_MAX} windows per row",
                format_duration(rules.size),
                format_duration(slide)
            )));
        }
        if rules.over_http && rules.time == TimeField::Server {
            return Err(Error::usage(
                "--truth-as http: server_timestamp is the arrival over HTTP; use --time client_timestamp",
            ));
        }
        if rules.over_http && rules.max_future.is_some() {
            return Err(Error::usage("--truth-as http cannot be used with --max-future, which depends on the arrival"));
        }
        let report = TruthReport { rules: RulesText::new(&rules), ..TruthReport::default() };
        Ok(Self { rules, report, span: None, partitions: HashMap::new(), windows: HashMap::new() })
    }

    /// Judges the next record, of `bytes` bytes with its newline.
    pub fn record(&mut self, made: &Generated, bytes: u64) {
        self.report.bytes += bytes;
        self.report.counts.taken += 1;
        *self.report.made.entry(outcome_name(made.outcome)).or_default() += 1;
        let defect = match made.outcome {
            ExpectedOutcome::Defective(defect) => Some(defect),
            _ => None,
        };
        if let Some(defect) = defect {
            *self.report.defects.entry(defect.name()).or_default() += 1;
        }
        // Over HTTP the field is overwritten before it is read.
        let defect = defect.filter(|defect| !(self.rules.over_http && *defect == Defect::TimeUnreadable));
        if let Some(error_type) = self.refused_at_ingest(defect, &made.event) {
            return self.bury(error_type);
        }
        *self.report.schema_versions.entry(made.event.schema_version).or_default() += 1;
        let time = self.event_time(&made.event);
        let stream_time = self.move_stream_time(&made.event, time);
        match defect {
            Some(defect) if self.rules.validated => self.bury(defect.error_type()),
            _ if self.repeated(&made.event, stream_time) => self.report.counts.duplicate += 1,
            _ => self.count(&made.event, time, stream_time),
        }
    }

    fn event_time(&self, event: &Event) -> i64 {
        match self.rules.time {
            TimeField::Server => event.server_timestamp,
            TimeField::Client => event.client_timestamp,
        }
    }

    fn refused_at_ingest(&self, defect: Option<Defect>, event: &Event) -> Option<ErrorType> {
        match defect {
            Some(defect) if !defect.is_event() => Some(defect.error_type()),
            _ => {
                let ahead = self.event_time(event) - event.server_timestamp;
                self.rules.max_future.is_some_and(|most| ahead > most).then_some(ErrorType::FutureTimestampError)
            }
        }
    }

    fn bury(&mut self, error_type: ErrorType) {
        self.report.counts.dead += 1;
        *self.report.dead.entry(error_type.name()).or_default() += 1;
    }

    fn partition(&mut self, event: &Event) -> &mut PartitionTruth {
        self.partitions.entry(if self.rules.sharded { event.shard } else { 0 }).or_default()
    }

    fn move_stream_time(&mut self, event: &Event, time: i64) -> i64 {
        let partition = self.partition(event);
        let stream_time = partition.stream_time.map_or(time, |largest| largest.max(time));
        partition.stream_time = Some(stream_time);
        let span = self.span.unwrap_or(Span { first: time, last: time, behind_max: 0 });
        self.span = Some(Span {
            first: span.first.min(time),
            last: span.last.max(time),
            behind_max: span.behind_max.max(stream_time - time),
        });
        stream_time
    }

    /// Whether the id was seen within the span. A repeat counts as seen, too.
    fn repeated(&mut self, event: &Event, stream_time: i64) -> bool {
        let Some(within) = self.rules.dedup else { return false };
        let partition = self.partition(event);
        while let Some((seen, id)) = partition.order.pop_front_if(|(seen, _)| stream_time - *seen > within) {
            if partition.seen.get(&id) == Some(&seen) {
                partition.seen.remove(&id);
            }
        }
        partition.order.push_back((stream_time, event.event_id));
        partition.seen.insert(event.event_id, stream_time).is_some()
    }

    fn count(&mut self, event: &Event, time: i64, stream_time: i64) {
        let slide = self.rules.slide.unwrap_or(self.rules.size);
        let (mut counted, mut refused) = (0u64, 0u64);
        let mut start = time.div_euclid(slide) * slide;
        while start + self.rules.size > time {
            if stream_time - self.rules.out_of_orderness < start + self.rules.size + self.rules.lateness {
                counted += 1;
                let key = self.rules.by.iter().map(|dimension| dimension.value(event)).collect();
                *self.windows.entry((start, key)).or_default() += 1;
            } else {
                refused += 1;
            }
            start -= slide;
        }
        match (counted, refused) {
            (0, 0) => self.report.counts.filtered += 1,
            (0, _) => self.report.counts.late += 1,
            (_, refused) => {
                self.report.counts.out += 1;
                self.report.half_late += u64::from(refused > 0);
            }
        }
    }

    /// Returns the expected results of all records.
    ///
    /// Errors: exit status 70 if the outcomes do not add up.
    pub fn finish(self) -> Result<TruthReport> {
        self.report.counts.check()?;
        let mut counted: Vec<(WindowGroup, u64)> = self.windows.into_iter().collect();
        counted.sort_unstable();
        let names: Vec<&'static str> = self.rules.by.iter().map(|dimension| dimension.name()).collect();
        let windows = counted.into_iter().map(|((start, key), value)| WindowCount {
            window_start: format_instant(start),
            window_end: format_instant(start + self.rules.size),
            dimensions: names.iter().copied().zip(key).collect(),
            value,
        });
        Ok(TruthReport {
            records: self.report.counts.taken,
            event_time_first: self.span.map(|span| format_instant(span.first)),
            event_time_last: self.span.map(|span| format_instant(span.last)),
            behind_max: self.span.map(|span| format_duration(span.behind_max)),
            windows: windows.collect(),
            ..self.report
        })
    }
}

fn outcome_name(outcome: ExpectedOutcome) -> &'static str {
    match outcome {
        ExpectedOutcome::Clean => "clean",
        ExpectedOutcome::Late => "late",
        ExpectedOutcome::Duplicate => "duplicate",
        ExpectedOutcome::Future => "future",
        ExpectedOutcome::Defective(_) => "defective",
    }
}

/// The expected results, as written to a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TruthReport {
    /// Number of lines.
    pub records: u64,
    /// Number of bytes, newlines included.
    pub bytes: u64,
    /// Records by outcome.
    pub made: BTreeMap<&'static str, u64>,
    /// Faulty records by [`Defect::name`].
    pub defects: BTreeMap<&'static str, u64>,
    /// Events by the version of their schema.
    pub schema_versions: BTreeMap<u32, u64>,
    /// The least event time; `None` without events.
    pub event_time_first: Option<String>,
    /// The largest event time.
    pub event_time_last: Option<String>,
    /// Maximum distance of an event behind its stream time.
    pub behind_max: Option<String>,
    /// The rules that everything below depends on.
    pub rules: RulesText,
    /// One outcome for each record; `out` counts the rows of at least one window.
    pub counts: Counts,
    /// Dead letters by `error_type`.
    pub dead: BTreeMap<&'static str, u64>,
    /// Rows counted by only some of their windows.
    pub half_late: u64,
    /// The results of `count(*)`, by window and key.
    pub windows: Vec<WindowCount>,
}

/// Rows of one window and key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WindowCount {
    /// RFC 3339.
    pub window_start: String,
    /// RFC 3339.
    pub window_end: String,
    /// Name → value or null.
    pub dimensions: BTreeMap<&'static str, Option<String>>,
    /// Number of rows.
    pub value: u64,
}

/// [`Rules`] as text: names and durations in the syntax of the flags.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RulesText {
    size: String,
    slide: String,
    by: Vec<&'static str>,
    out_of_orderness: String,
    lateness: String,
    time: &'static str,
    max_future: Option<String>,
    dedup: Option<String>,
    validated: bool,
    sharded: bool,
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    form: Option<&'static str>,
}

impl RulesText {
    fn new(rules: &Rules) -> Self {
        Self {
            size: format_duration(rules.size),
            slide: format_duration(rules.slide.unwrap_or(rules.size)),
            by: rules.by.iter().map(|dimension| dimension.name()).collect(),
            out_of_orderness: format_duration(rules.out_of_orderness),
            lateness: format_duration(rules.lateness),
            time: match rules.time {
                TimeField::Server => "server_timestamp",
                TimeField::Client => "client_timestamp",
            },
            max_future: rules.max_future.map(format_duration),
            dedup: rules.dedup.map(format_duration),
            validated: rules.validated,
            sharded: rules.sharded,
            form: rules.over_http.then_some("http"),
        }
    }
}
