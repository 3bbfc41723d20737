//! Repeated events: whether the row of a stored key has the same content. Other content is a conflict.

use super::cells::Cells;
use super::rows;
use super::sink::Notice;
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use evt_core::counts::counted;
use evt_core::error::{Error, Result};
use evt_core::json::number::Decimal;
use evt_core::kind::{Kind, array};
use evt_core::reconcile::content::of_json;
use evt_run::client::Location;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

/// Columns that must be equal in a repetition. The other columns belong to the run that read the event.
pub const CONTENT: [&str; 7] =
    ["source", "event_type", "user_id", "properties", "client_timestamp", "server_timestamp", "event_time"];

/// The columns that order the copies of a repeated event: the least copy of a transaction is stored where ids are
/// unique.
pub const COPY_ORDER: [&str; 4] = ["event_time", "origin", "partition", "offset"];

/// The index that makes the ids of stored events unique.
pub const UNIQUE_EVENTS: &str = "raw_events_event_id";

/// The statements that make the ids of stored events unique, with the indexes by which events of one source or type are
/// found.
pub const CREATE_UNIQUE_EVENTS: &str = "CREATE UNIQUE INDEX raw_events_event_id ON raw_events (event_id);
    CREATE INDEX raw_events_source ON raw_events (source, server_timestamp);
    CREATE INDEX raw_events_event_type ON raw_events (event_type, server_timestamp);";

/// Whether a URI asks for unique ids of events, `?key=event_id`. Errors: exit status 2 for another key.
pub fn has_event_key(location: &Location) -> Result<bool> {
    match location.option("key") {
        None => Ok(false),
        Some("event_id") => Ok(true),
        Some(other) => Err(Error::usage(format!("{location}: key: expected event_id, found '{other}'"))),
    }
}

/// Makes the error for stored events of which several have the same id, `id`.
pub fn ids_not_unique(shown: impl fmt::Display, id: &str) -> Error {
    let found = format!("expected each event_id once in raw_events, found {id} twice");
    Error::config(format!("{shown}: key=event_id: {found}; use a new database, or remove the copies"))
}

/// Whether rows of this kind have content besides their key. A dead letter's content is its payload, which is part of
/// its key.
pub fn has_content(kind: Kind) -> bool {
    matches!(kind, Kind::Event | Kind::Late)
}

/// The content of an event, for a comparison of stored rows with rows of a run.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// A digest of the columns in [`CONTENT`] other than the event time.
    digest: u64,
    event_time: i64,
    /// Whether the event time is the time of the arrival, which differs between runs.
    is_arrival: bool,
}

impl Content {
    /// Whether both contents are the same. Two event times that are times of arrival count as equal.
    pub fn is_same(&self, other: &Self) -> bool {
        let is_same_time = self.event_time == other.event_time || (self.is_arrival && other.is_arrival);
        self.digest == other.digest && is_same_time
    }
}

struct ContentColumn<'a> {
    cells: Cells<'a>,
    /// Whether its text is JSON, which has many spellings.
    is_json: bool,
}

/// The contents of the events of a batch.
pub struct Contents<'a> {
    columns: Vec<ContentColumn<'a>>,
    event_times: &'a TimestampMicrosecondArray,
    arrivals: &'a TimestampMicrosecondArray,
    digest: Xxh3,
}

impl<'a> Contents<'a> {
    /// The columns of a batch that are read.
    pub fn columns() -> impl Iterator<Item = &'static str> {
        CONTENT.into_iter().chain(["ingested_at"])
    }

    /// Prepares the rows of a batch.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self> {
        let digested = CONTENT.iter().filter(|name| **name != "event_time");
        let column = |name: &&str| {
            let cells = Cells::try_new(rows::column(batch, name)?)?;
            Ok(ContentColumn { cells, is_json: **name == *"properties" })
        };
        let columns = digested.map(column).collect::<Result<_>>()?;
        let instants = |name| Ok::<_, Error>(rows::column(batch, name)?.as_primitive::<TimestampMicrosecondType>());
        Ok(Self {
            columns,
            event_times: instants("event_time")?,
            arrivals: instants("ingested_at")?,
            digest: Xxh3::new(),
        })
    }

    /// Returns the content of a row.
    pub fn get(&mut self, row: usize) -> Result<Content> {
        self.digest.reset();
        for ContentColumn { cells, is_json } in &self.columns {
            self.digest.update(&[u8::from(cells.is_null(row))]);
            match cells {
                cells if cells.is_null(row) => {}
                Cells::Text(texts) if *is_json => self.digest.update(&of_json(texts.value(row), 0).to_le_bytes()),
                cells => rows::feed(cells, row, &mut self.digest)?,
            }
        }
        let event_time = self.event_times.value(row);
        let is_arrival = !self.arrivals.is_null(row) && self.arrivals.value(row) == event_time;
        Ok(Content { digest: self.digest.digest(), event_time, is_arrival })
    }
}

/// Returns the id and the position of an event, for messages.
pub fn event_name(batch: &RecordBatch, row: usize) -> String {
    let name = |name: &str| {
        let cells = batch.column_by_name(name).and_then(|column| Cells::try_new(column).ok());
        match cells {
            Some(Cells::Id(ids)) => Uuid::from_slice(ids.value(row)).unwrap_or_default().to_string(),
            cells => cells.and_then(|cells| cells.text(row).ok()).unwrap_or_default().to_owned(),
        }
    };
    let offsets = array::<Int64Array>(batch, "offset");
    let (origin, partition) = (name("origin"), name("partition"));
    format!("{} at {origin}/{partition}@{}", name("event_id"), offsets.map_or(0, |offsets| offsets.value(row)))
}

/// The rows of a run that differ from the stored row of their key. The stored row stays.
#[derive(Clone, Default)]
pub struct Conflicts {
    rows: u64,
    first: Option<String>,
}

impl Conflicts {
    /// Counts `rows`; `first` returns the name of one of them for messages.
    pub fn add(&mut self, rows: u64, first: impl FnOnce() -> String) {
        self.rows += rows;
        if rows > 0 && self.first.is_none() {
            self.first = Some(first());
        }
    }

    /// Returns the line for the end of the run.
    pub fn notice(&self) -> Option<Notice> {
        let first = self.first.as_ref()?;
        let text = format!(
            "conflict: {} from the stored row of the same origin, partition, offset and event_id, which \
             is kept; first {first}",
            counted(self.rows, ["row differs", "rows differ"])
        );
        Some(Notice { text, fails: true })
    }
}

/// Whether two JSON texts hold the same value, whatever their order of members and their spelling of strings and
/// numbers. [`of_json`] is tested with it. Numbers are compared as decimals, because a double cannot hold all of them.
pub fn is_same_json(left: &str, right: &str) -> bool {
    if left == right {
        return true;
    }
    let (left, right) = (left.trim_ascii(), right.trim_ascii());
    match (left.as_bytes().first(), right.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => {
            let members = |text| serde_json::from_str::<BTreeMap<String, &RawValue>>(text).ok();
            members(left).zip(members(right)).is_some_and(|(left, right)| {
                let is_there = |(name, left): (&String, &&RawValue)| {
                    right.get(name).is_some_and(|right| is_same_json(left.get(), right.get()))
                };
                left.len() == right.len() && left.iter().all(is_there)
            })
        }
        (Some(b'['), Some(b'[')) => {
            let elements = |text| serde_json::from_str::<Vec<&RawValue>>(text).ok();
            elements(left).zip(elements(right)).is_some_and(|(left, right)| {
                let mut pairs = left.iter().zip(&right);
                left.len() == right.len() && pairs.all(|(left, right)| is_same_json(left.get(), right.get()))
            })
        }
        (Some(b'"'), Some(b'"')) => {
            let text = |text| serde_json::from_str::<String>(text).ok();
            text(left).zip(text(right)).is_some_and(|(left, right)| left == right)
        }
        _ => Decimal::parse(left).zip(Decimal::parse(right)).is_some_and(|(left, right)| left == right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_conflict_is_named_and_the_line_changes_the_verdict() {
        let mut conflicts = Conflicts::default();
        conflicts.add(0, || "none".to_owned());
        assert_eq!(conflicts.notice(), None);
        conflicts.add(2, || "one".to_owned());
        conflicts.add(1, || "two".to_owned());
        let notice = conflicts.notice().unwrap();
        assert!(notice.fails && notice.text.starts_with("conflict: 3 rows") && notice.text.ends_with("first one"));
    }
}
