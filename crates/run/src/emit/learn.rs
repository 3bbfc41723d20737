//! The kind and the columns of the rows: derived from flags, from the field names of the first record, or from the
//! schema of an input.

use super::batches::several_kinds;
use super::chunk::ChunkMapper;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use evt_core::error::{Error, Result};
use evt_core::format::row;
use evt_core::json::scan::is_json;
use evt_core::kind::Kind;
use evt_core::kind::event::{COLUMNS, RAW, RAW_BASE64, STAMPS};
use evt_core::mapping::{self, KeepRaw};
use evt_core::op::computed::RowRules;

/// The options for mapping records to rows.
#[derive(Default)]
pub struct RecordOptions {
    /// The mapping flags.
    pub mapping: mapping::Options,
    /// The kind of the rows (`--kind`); without one, the field names of the first record decide it.
    pub kind: Option<Kind>,
    /// The same if it is an instruction of the user: an input that declares another kind is refused.
    pub named: Option<Kind>,
    /// The kind that the field names of the first record must have, if any (evt-replay).
    pub expected: Option<Kind>,
    /// The rules that are applied to rows before they are stamped (`--let` and `--where` of evt-ingest).
    pub rules: Option<RowRules>,
    /// The rules of records without a readable time ([`UntimedFilter::rules`]).
    ///
    /// [`UntimedFilter::rules`]: evt_core::op::untimed::UntimedFilter::rules
    pub untimed: Option<RowRules>,
    /// `--control`: text may contain control lines.
    pub control: bool,
}

/// The kind and the columns of the rows of a run.
pub(super) struct RowForm {
    /// The kind; `None` until the first record decides it.
    kind: Option<Kind>,
    /// The kind that the field names of the first record must have, if any.
    expected: Option<Kind>,
    /// Whether a record has decided the kind, or has it.
    is_learned: bool,
    /// Whether the columns of rows of another kind than event are known.
    has_columns: bool,
    keep_raw: KeepRaw,
    /// Whether the inputs carry raw records, as a field or column; `None` until the first rows decide it.
    inputs_have_raw: Option<bool>,
}

impl RowForm {
    /// Creates the form of rows; `kind` is the kind that flags name, if they name one.
    pub(super) fn new(kind: Option<Kind>, expected: Option<Kind>, keep_raw: KeepRaw) -> Self {
        Self { kind, expected, is_learned: false, has_columns: false, keep_raw, inputs_have_raw: None }
    }

    /// Whether the kind is not known yet, or is not event and the columns are not known yet.
    #[inline]
    pub(super) fn is_unknown(&self) -> bool {
        match self.kind {
            None => true,
            // Whether they carry raw records.
            Some(Kind::Event) => self.inputs_have_raw.is_none(),
            Some(_) => !self.has_columns,
        }
    }

    /// Decides the kind and the columns, if they are not known yet, by the first JSON object, of the input `input`.
    /// Ignores text that is not a JSON object. Errors: exit status 2 if another kind is expected.
    #[cold]
    pub(super) fn learn(&mut self, text: &str, input: &str, mapper: &mut ChunkMapper) -> Result<()> {
        let Some(first) = Some(text).filter(|_| self.is_unknown()).and_then(FirstObject::read) else { return Ok(()) };
        if self.kind != Some(Kind::Event) {
            first.check(self.expected, input)?;
            self.is_learned = true;
        }
        let kind = *self.kind.get_or_insert(first.kind);
        let is_of_evt = mapper.events().keeps_stamps() && first.has_stamps;
        if is_of_evt {
            mapper.expect_rows_of_evt();
        }
        let has_raw = self.decide_raw(first.has_raw && (is_of_evt || kind == Kind::Late), mapper);
        if kind != Kind::Event {
            self.has_columns = true;
            mapper.build_others(kind.schema_with(has_raw));
        }
        Ok(())
    }

    /// Expects records of the kind of an input whose rows have stamps. Errors: exit status 2 if records before were of
    /// another kind.
    pub(super) fn expect(&mut self, kind: Kind) -> Result<()> {
        self.expected.get_or_insert(kind);
        match self.kind {
            Some(known) if known != kind && self.is_learned => Err(several_kinds(known, kind)),
            _ => Ok(()),
        }
    }

    /// Sets the kind if it is not known yet; returns whether the rows are of `kind` now.
    pub(super) fn becomes(&mut self, kind: Kind, mapper: &mut ChunkMapper) -> bool {
        if self.kind.is_none() && kind != Kind::Event {
            self.has_columns = true;
            mapper.build_others(kind.schema());
        }
        *self.kind.get_or_insert(kind) == kind
    }

    /// Returns whether the inputs carry raw records. The first call decides for all inputs.
    pub(super) fn decide_raw(&mut self, has_raw: bool, mapper: &mut ChunkMapper) -> bool {
        if let Some(decided) = self.inputs_have_raw {
            return decided;
        }
        if has_raw {
            self.keep_raw = KeepRaw::FromInput;
            mapper.take_raw_from_input();
        }
        *self.inputs_have_raw.insert(has_raw)
    }

    /// Returns the schema of rows that have no stamps before this run.
    pub(super) fn schema(&self, mapper: &ChunkMapper) -> SchemaRef {
        match self.kind {
            None | Some(Kind::Event) => mapper.events().written_schema(self.keep_raw),
            Some(kind) => kind.schema_with(self.inputs_have_raw == Some(true)),
        }
    }

    /// Drops the column of raw records if only the rules of the source needed it. If no input has had raw records so
    /// far, later ones have none.
    pub(super) fn written(&mut self, events: RecordBatch) -> Result<RecordBatch> {
        self.inputs_have_raw.get_or_insert(false);
        if self.keep_raw != KeepRaw::No || events.schema_ref().column_with_name(RAW).is_none() {
            return Ok(events);
        }
        let kept = (0..events.num_columns()).filter(|column| *column != COLUMNS.len());
        Ok(events.project(&kept.collect::<Vec<_>>())?)
    }
}

/// The first JSON object of a run.
struct FirstObject {
    /// The kind that has its field names.
    kind: Kind,
    /// Whether it has all stamps.
    has_stamps: bool,
    /// Whether it has a raw record.
    has_raw: bool,
}

impl FirstObject {
    /// Reads the field names of a text; `None` if it is not a JSON object.
    fn read(text: &str) -> Option<Self> {
        if !text.trim_start().starts_with('{') || !is_json(text) {
            return None;
        }
        let names = row::names_of(text);
        let names: Vec<&str> = names.iter().map(|name| name.as_ref()).collect();
        Some(Self {
            kind: row::kind_of(&names),
            has_stamps: STAMPS.iter().all(|one| names.contains(one)),
            has_raw: [RAW, RAW_BASE64].iter().any(|one| names.contains(one)),
        })
    }

    /// Checks its kind, if one is expected. Errors: exit status 2 if it is another one.
    fn check(&self, expected: Option<Kind>, input: &str) -> Result<()> {
        let Some(expected) = expected.filter(|expected| *expected != self.kind) else { return Ok(()) };
        let (expected, found) = (expected.name(), self.kind.name());
        Err(Error::usage(format!("expected rows of kind {expected}, found rows of kind {found}")).at(input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::chunk::{ChunkRecord, ChunkRows, RecordLimits};
    use crate::emit::letters::Letters;
    use evt_core::error::ErrorKind;
    use evt_core::mapping::{self, FutureVerdict, RecordMeta};

    const METRIC: &str = r#"{"metric_id":"09c4c0d2-7f8e-58af-96a5-42df8aab1690","metric_name":"n","window_start":"2030-01-01T00:00:00Z","window_end":"2030-01-01T01:00:00Z",
        "dimensions":{},"value":1,"rows":1,"revision":0,"pane":0,"retracted":false}"#;

    fn mapper() -> ChunkMapper {
        let limits = RecordLimits { record_max: 1 << 20, line_max: 1 << 22, batch_max: 1 << 11 };
        ChunkMapper::new(mapping::Options::default(), None, limits, Letters::new("evt", "host")).unwrap()
    }

    #[test]
    fn the_first_object_decides_the_kind_and_text_that_is_no_object_does_not() {
        let (mut form, mut mapper) = (RowForm::new(None, None, KeepRaw::No), mapper());
        for text in ["", "no JSON", "[1]", r#"{"a":"#] {
            form.learn(text, "in", &mut mapper).unwrap();
            assert!(form.is_unknown(), "{text}");
        }
        form.learn(r#"{"a":1}"#, "in", &mut mapper).unwrap();
        assert!(!form.is_unknown() && !mapper.builds_others(), "an event");
        form.learn(METRIC, "in", &mut mapper).unwrap();
        assert!(form.becomes(Kind::Event, &mut mapper) && !form.becomes(Kind::Metric, &mut mapper));
        assert!(!mapper.builds_others(), "the first one has decided");
    }

    #[test]
    fn rows_of_another_kind_than_event_have_its_columns_and_another_expected_kind_is_an_error() {
        let (mut form, mut mapper) = (RowForm::new(Some(Kind::Metric), None, KeepRaw::No), mapper());
        assert!(form.is_unknown(), "its columns are not known");
        form.learn(METRIC, "in", &mut mapper).unwrap();
        assert!(!form.is_unknown() && form.schema(&mapper) == Kind::Metric.schema());
        let record = ChunkRecord { text: Ok(METRIC), raw: METRIC.as_bytes(), meta: RecordMeta::of_file("in", 0) };
        mapper.record(record, 0, FutureVerdict::ByArrival).unwrap();
        let ChunkRows::Others(rows) = mapper.finish(true).unwrap().rows else { panic!("rows of kind metric") };
        assert_eq!(rows.num_rows(), 1);
        let mut form = RowForm::new(None, Some(Kind::Dead), KeepRaw::No);
        let error = form.learn(r#"{"a":1}"#, "in", &mut mapper).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Usage, "in: expected rows of kind dead, found rows of kind event")
        );
    }

    #[test]
    fn the_first_rows_decide_for_all_whether_the_inputs_carry_raw_records() {
        for first in [true, false] {
            let (mut form, mut mapper) = (RowForm::new(None, None, KeepRaw::No), mapper());
            assert_eq!([form.decide_raw(first, &mut mapper), form.decide_raw(!first, &mut mapper)], [first; 2]);
            assert_eq!(form.schema(&mapper).column_with_name(RAW).is_some(), first);
        }
    }
}
