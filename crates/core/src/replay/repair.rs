//! Dead letters to events: the format of their records, the patch, then the mapping of the pipeline, with the ids and
//! times that the records had.

use super::ledger::Id;
use super::patch::Patch;
use crate::error::Result;
use crate::format::{MakeSplitter, Records, TextOptions, not_utf8, one_line};
use crate::json::scan::is_json;
use crate::json::text::unescape;
use crate::json::walk::{last_member, string_content};
use crate::kind::Kind;
use crate::kind::dead::column::{
    ARRIVED_AT, FAILED_AT, LETTER_ID, OFFSET, ORIGINAL_LENGTH, ORIGINAL_PAYLOAD, PARTITION, SOURCE_TOPIC,
};
use crate::kind::dead::{ErrorType, Fault, KeptRows, Rejected};
use crate::kind::event::column::EVENT_ID;
use crate::mapping::usual_time;
use crate::mapping::{
    self, Arrival, FutureCheck, FutureVerdict, Mapped, Mapper, PartitionTable, Provenance, RecordMeta,
};
use crate::time::{format_duration, format_instant};
use arrow::array::{
    Array, ArrayAccessor, AsArray, BinaryArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TypedDictionaryArray,
};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

/// The columns of a batch of letters that a replay reads.
pub struct LetterRows<'a> {
    payloads: &'a BinaryArray,
    origins: Texts<'a>,
    partitions: Texts<'a>,
    offsets: &'a Int64Array,
    arrived: &'a TimestampMicrosecondArray,
    failed: &'a TimestampMicrosecondArray,
    lengths: &'a Int64Array,
    ids: &'a FixedSizeBinaryArray,
}

/// The position of a letter's record.
#[derive(Clone, Copy, Debug)]
pub struct LetterPosition<'a> {
    /// The origin of the record.
    pub origin: &'a str,
    /// Its partition.
    pub partition: &'a str,
    /// Its offset in the partition.
    pub offset: i64,
}

type Texts<'a> = TypedDictionaryArray<'a, Int32Type, StringArray>;

impl<'a> LetterRows<'a> {
    /// Wraps a batch of kind dead whose letters have their ids ([`crate::kind::letters::completed`]).
    pub fn new(letters: &'a RecordBatch) -> Self {
        let texts = |at: usize| {
            let dictionary = letters.column(at).as_dictionary::<Int32Type>();
            dictionary.downcast_dict::<StringArray>().expect("a letter's column of texts")
        };
        Self {
            payloads: letters.column(ORIGINAL_PAYLOAD).as_binary(),
            origins: texts(SOURCE_TOPIC),
            partitions: texts(PARTITION),
            offsets: letters.column(OFFSET).as_primitive::<Int64Type>(),
            arrived: letters.column(ARRIVED_AT).as_primitive::<TimestampMicrosecondType>(),
            failed: letters.column(FAILED_AT).as_primitive::<TimestampMicrosecondType>(),
            lengths: letters.column(ORIGINAL_LENGTH).as_primitive::<Int64Type>(),
            ids: letters.column(LETTER_ID).as_fixed_size_binary(),
        }
    }

    /// Returns the id of a letter.
    pub fn id(&self, row: usize) -> Id {
        self.ids.value(row).try_into().unwrap_or_default()
    }

    /// Whether a letter has only the beginning of its record.
    pub fn is_cut(&self, row: usize) -> bool {
        self.lengths.is_valid(row)
    }

    /// Returns when the record of a letter arrived (µs), if known.
    pub fn arrived_at(&self, row: usize) -> Option<i64> {
        self.arrived.is_valid(row).then(|| self.arrived.value(row))
    }

    /// Returns the position of a letter's record.
    pub fn position(&self, row: usize) -> LetterPosition<'a> {
        LetterPosition {
            origin: self.origins.value(row),
            partition: self.partitions.value(row),
            offset: self.offsets.value(row),
        }
    }

    /// Returns the id of the event that a letter becomes: the one that its record has, else that of the letter.
    pub fn event_id(&self, row: usize) -> Id {
        let found = std::str::from_utf8(self.payloads.value(row)).ok().filter(|text| is_json(text));
        let found = found.and_then(|text| last_member(text, "event_id")).and_then(string_content);
        let found = found.and_then(|id| Uuid::try_parse(&unescape(id)).ok());
        found.map_or_else(|| self.id(row), Uuid::into_bytes)
    }
}

/// The format of records that are not JSON.
pub struct RecordFormat {
    /// Makes the splitter of the format.
    pub make_splitter: MakeSplitter,
    /// The options of the format.
    pub options: Rc<TextOptions>,
}

impl RecordFormat {
    /// Returns a record as JSON text, or why it is none.
    fn read<'a>(&self, payload: &[u8]) -> Result<Cow<'a, str>, Fault> {
        let wrong = |message: String| Fault::new(ErrorType::ParseError, message);
        let mut records = Records::default();
        let mut splitter = (self.make_splitter)(&self.options);
        splitter.split(payload, true, &mut records).map_err(|error| wrong(error.to_string()))?;
        match records.rows.as_slice() {
            [record] => {
                let mut unread = String::new();
                let raw = || str::from_utf8(&payload[record.raw.clone()]).map_err(|error| not_utf8(&error));
                let text = records.json(record, raw, &mut unread);
                let text = text.unwrap_or_else(|| Err(wrong("expected a record with fields".to_owned())))?;
                Ok(Cow::Owned(text.to_owned()))
            }
            records => Err(wrong(format!("expected one record, found {}", records.len()))),
        }
    }
}

/// Makes events of letters.
pub struct Repair {
    records: Option<RecordFormat>,
    /// The number of records that are neither JSON nor the beginning of an object, if no format is set.
    foreign: u64,
    patch: Option<Patch>,
    mapper: Mapper,
    partition_table: PartitionTable,
    max_future: Option<i64>,
}

impl Repair {
    /// Makes events by these mapping options; records that are not JSON are read by `records`. Errors: exit status 2
    /// for a wrong option.
    pub fn new(records: Option<RecordFormat>, patch: Option<Patch>, options: mapping::Options) -> Result<Self> {
        let max_future = options.max_future;
        let mapper = Mapper::new(mapping::Options { provenance: Provenance::Keep, ..options })?;
        Ok(Self { records, foreign: 0, patch, mapper, partition_table: PartitionTable::default(), max_future })
    }

    /// Returns the number of records so far that are neither JSON nor the beginning of an object, if no format of
    /// records is set.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Returns the messages about names of the patch, one line each.
    pub fn warnings(&self) -> Vec<String> {
        self.patch.as_ref().map_or(vec![], Patch::warnings)
    }

    /// Repairs the letters in `rows`; `now` is the current time (µs). Returns the events, for each the row of its
    /// letter, and the letters that are still faulty.
    pub fn repair(&mut self, letters: &LetterRows<'_>, rows: &[usize], now: i64) -> Result<KeptRows> {
        let (mut places, mut rejected) = (vec![], vec![]);
        let mut ids: Vec<Option<Id>> = vec![];
        for (row, text) in rows.iter().copied().zip(self.patched(letters, rows)?) {
            let fault = match text {
                Ok(text) => self.map(&text, letters, row, now)?,
                Err(fault) => Some(fault),
            };
            match fault {
                Some(fault) => rejected.push(Rejected { row, fault }),
                None => {
                    let is_named = self.mapper.last().is_some_and(|last| last.is_named);
                    ids.push((!is_named).then(|| letters.id(row)));
                    places.push(row);
                }
            }
        }
        let batch = match self.mapper.finish()?.stamp(&mut self.partition_table, None)? {
            Some(events) => with_ids(&events, &ids)?,
            None => RecordBatch::new_empty(Kind::Event.schema()),
        };
        Ok(KeptRows { batch, places, rejected })
    }

    /// Returns the text of each record, or why it has none.
    fn texts<'a>(&self, letters: &LetterRows<'a>, rows: &[usize]) -> Vec<Result<Cow<'a, str>, Fault>> {
        let text = |row: &usize| match (std::str::from_utf8(letters.payloads.value(*row)), &self.records) {
            (Ok(text), Some(format)) if !is_object(text) => format.read(text.as_bytes()),
            (Ok(text), _) => one_line(text.as_bytes()),
            (Err(error), _) => {
                let message = format!("byte {}: invalid UTF-8", error.valid_up_to() + 1);
                Err(Fault::new(ErrorType::ParseError, message))
            }
        };
        rows.iter().map(text).collect()
    }

    /// Lets the patch examine the letters before any of them is repaired.
    pub fn examine(&mut self, letters: &LetterRows<'_>) -> Result<()> {
        if self.patch.is_none() {
            return Ok(());
        }
        let rows: Vec<usize> = (0..letters.ids.len()).filter(|row| !letters.is_cut(*row)).collect();
        let texts = self.texts(letters, &rows);
        let objects: Vec<&str> =
            texts.iter().flatten().map(|text| text.trim()).filter(|text| is_object(text)).collect();
        self.patch.as_mut().map_or(Ok(()), |patch| patch.examine(&objects))
    }

    /// Whether the patch may lose values ([`Patch::may_lose`]).
    pub fn may_lose(&self) -> bool {
        self.patch.as_ref().is_some_and(Patch::may_lose)
    }

    /// Returns why the patch must not be applied ([`Patch::loss`]).
    pub fn loss(&self) -> Option<String> {
        self.patch.as_ref().and_then(Patch::loss)
    }

    /// Returns the text of each record, patched, or why it has none.
    fn patched<'a>(&mut self, letters: &LetterRows<'a>, rows: &[usize]) -> Result<Vec<Result<Cow<'a, str>, Fault>>> {
        let is_foreign = |row: &&usize| {
            let text = std::str::from_utf8(letters.payloads.value(**row));
            text.is_ok_and(|text| !text.trim_start().starts_with('{') && !is_json(text))
        };
        if self.records.is_none() {
            self.foreign += rows.iter().filter(is_foreign).count() as u64;
        }
        let mut texts = self.texts(letters, rows);
        let Some(patch) = &mut self.patch else { return Ok(texts) };
        // The mapping reports a record that is not an object.
        let objects = texts.iter().enumerate().filter_map(|(at, text)| Some((at, text.as_ref().ok()?.clone())));
        let objects: Vec<(usize, Cow<'_, str>)> = objects.filter(|(_, text)| is_object(text)).collect();
        let records: Vec<&str> = objects.iter().map(|(_, text)| text.trim()).collect();
        for ((at, _), patched) in objects.iter().zip(patch.apply(&records)?) {
            texts[*at] = match patched {
                Ok(text) => Ok(Cow::Owned(text)),
                Err(why) => Err(Fault::new(ErrorType::EnvelopeError, why)),
            };
        }
        Ok(texts)
    }

    /// Maps one record to the next row of the batch under construction, or returns its fault.
    fn map(&mut self, text: &str, letters: &LetterRows<'_>, row: usize, now: i64) -> Result<Option<Fault>> {
        let LetterPosition { origin, partition, offset } = letters.position(row);
        let number = self.partition_table.partition(origin, partition);
        self.mapper.turn_to(number, (origin, partition));
        // An event that arrived when it failed the first time counts in the window of that time, or is late there.
        let arrival = letters.arrived_at(row).map(|at| Arrival { at, is_fact: true });
        let meta = RecordMeta { input: origin, partition: number, offset, key: None, headers: None, arrival };
        let raw = letters.payloads.value(row);
        let mut record = mapping::Record { text, raw, meta, now, verdict: FutureVerdict::ByArrival };
        loop {
            return Ok(match self.mapper.record(record)? {
                Mapped::Row => None,
                Mapped::Dead(fault) => Some(fault),
                Mapped::NoTime => {
                    // The run that wrote the letter may have taken it from a usual name.
                    let usual = self.mapper.seeks_time().and_then(|when| usual_time(text, when));
                    let other = usual.map_or_else(
                        || "the event has no other time".to_owned(),
                        |name| format!("no flag names another field; --time {name} reads the field {name}"),
                    );
                    let message = format!("server_timestamp: missing or null, and {other}");
                    Some(Fault::new(ErrorType::TimestampError, message))
                }
                // Without an arrival, the record arrived before it failed.
                Mapped::Pending(check) => match self.future(check, letters.failed.value(row)) {
                    Some(fault) => Some(fault),
                    None => {
                        record.verdict = FutureVerdict::Passed;
                        continue;
                    }
                },
            });
        }
    }

    /// Returns the fault of an event that is more than `--max-future` after the time at which its record failed.
    fn future(&self, check: FutureCheck, failed_at: i64) -> Option<Fault> {
        let limit = self.max_future.filter(|limit| check.event_time.saturating_sub(failed_at) > *limit)?;
        let (time, failed) = (format_instant(check.event_time), format_instant(failed_at));
        let message =
            format!("event time {time} is more than {} after the failure at {failed}", format_duration(limit));
        Some(Fault::new(ErrorType::FutureTimestampError, message))
    }
}

/// Whether a record is a JSON object. One that was replayed and failed again is, whatever it was before.
fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && is_json(text)
}

/// Returns events with the ids that are given instead of their own.
fn with_ids(events: &RecordBatch, ids: &[Option<Id>]) -> Result<RecordBatch> {
    let own = events.column(EVENT_ID).as_fixed_size_binary();
    let all = ids.iter().enumerate().map(|(row, id)| id.as_ref().map_or_else(|| own.value(row), |id| id.as_slice()));
    let mut columns = events.columns().to_vec();
    columns[EVENT_ID] = Arc::new(FixedSizeBinaryArray::try_from_iter(all)?);
    Ok(RecordBatch::try_new(events.schema(), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::dead::Letter;
    use crate::kind::event::column;
    use crate::kind::letters::Builder;
    use crate::replay::record::replayed;

    const ARRIVED: i64 = 1_767_232_800_000_000;

    fn letters(payloads: &[&str]) -> RecordBatch {
        let fault = Fault::new(ErrorType::EnvelopeError, "why");
        let mut builder = Builder::new("evt-test", "host");
        for (offset, payload) in payloads.iter().enumerate() {
            let (payload, offset) = (payload.as_bytes(), offset as i64);
            let (key, headers, arrived_at) = (None, None, Some(ARRIVED));
            let letter =
                Letter { payload, key, headers, arrived_at, fault: &fault, origin: "in", partition: "3", offset };
            builder.push(&letter, ARRIVED + 9).unwrap();
        }
        builder.finish().unwrap()
    }

    fn repaired(patch: Option<&str>, payloads: &[&str]) -> (RecordBatch, KeptRows) {
        let patch = patch.map(|text| Patch::parse(text).unwrap());
        let options = mapping::Options { max_future: Some(1_000_000), ..mapping::Options::default() };
        let mut repair = Repair::new(None, patch, options).unwrap();
        let batch = letters(payloads);
        let rows = Vec::from_iter(0..payloads.len());
        let repaired = repair.repair(&LetterRows::new(&batch), &rows, 0).unwrap();
        (batch, repaired)
    }

    #[test]
    fn an_event_has_the_id_and_the_time_of_its_record_else_those_of_its_letter() {
        let id = "00000000-0000-4000-8000-000000000001";
        let named = format!(r#"{{"event_id":"{id}","server_timestamp":"2026-01-01T00:00:00Z","a":1.50}}"#);
        let timed = r#"{"event_time":"2026-01-01T00:00:01Z"}"#;
        let (letters, repaired) = repaired(None, &[&named, r#"{"a":1}"#, timed]);
        let letters = LetterRows::new(&letters);
        let records = replayed(&repaired.batch).unwrap();
        let mut objects = crate::format::jsonl::Objects::try_new(&records).unwrap();
        let mut lines = vec![String::new(); 3];
        lines.iter_mut().enumerate().for_each(|(row, line)| objects.write(row, line));
        let with = |row: usize, rest: &str| {
            let id = Uuid::from_bytes(letters.id(row));
            format!(r#"{{"event_id":"{id}","source":"in","event_type":"event","properties":{rest}}}"#)
        };
        let first = r#""properties":{"a":1.50},"server_timestamp":"2026-01-01T00:00:00.000000Z"}"#;
        assert_eq!(lines[0], format!(r#"{{"event_id":"{id}","source":"in","event_type":"event",{first}"#));
        assert_eq!(lines[1], with(1, r#"{"a":1},"server_timestamp":"2026-01-01T02:00:00.000000Z""#));
        assert_eq!(lines[2], with(2, r#"{},"event_time":"2026-01-01T00:00:01.000000Z""#));
        assert_eq!(letters.event_id(0), Uuid::try_parse(id).unwrap().into_bytes());
        assert_eq!(letters.event_id(1), letters.id(1));
    }

    #[test]
    fn a_letter_that_is_still_faulty_has_its_new_fault() {
        let future = r#"{"event_time":"2026-01-01T02:00:05Z","n":"1"}"#;
        let (_, repaired) =
            repaired(Some("set n = cast(n as double)"), &["no", r#"{"n":"x"}"#, "[1]", r#"{"n":"2"}"#, future]);
        assert_eq!(repaired.places, [3]);
        let faults: Vec<_> = repaired.rejected.iter().map(|one| (one.row, one.fault.error_type)).collect();
        let expected = [
            (0, ErrorType::ParseError),
            (1, ErrorType::EnvelopeError),
            (2, ErrorType::EnvelopeError),
            (4, ErrorType::FutureTimestampError),
        ];
        assert_eq!(faults, expected);
        assert_eq!(repaired.batch.column(column::PROPERTIES).as_string::<i32>().value(0), r#"{"n":2}"#);
    }
}
