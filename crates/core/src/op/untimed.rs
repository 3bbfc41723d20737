//! Records without a readable time, of which `--where` may need none.

use super::computed::RowRules;
use crate::error::Result;
use crate::kind::Kind;
use crate::kind::event::{COLUMNS, column};
use crate::mapping::{self, FutureVerdict, Mapped, Mapper, PartitionTable, ReadColumns, RecordParts, TimeFrom};
use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{Field, Schema};
use std::sync::Arc;

/// Columns of times that a record without a readable one may have.
const TIMES: [usize; 2] = [column::CLIENT_TIMESTAMP, column::SERVER_TIMESTAMP];
/// The text in such a column; expressions see NULL.
const ANY: &str = "1970-01-01T00:00:00Z";

/// Maps records without a readable time and finds those for which `--where` is false. Each is a batch of one row,
/// because the next record may be a letter, and letters keep their order.
pub struct UntimedFilter {
    /// `--let`, and the negation of `--where`: a row stays if `--where` is certainly false.
    rules: RowRules,
    /// Reads all but the event time.
    without_event_time: TimelessMapper,
    /// Reads no time, because one of the columns cannot be read.
    without_times: TimelessMapper,
    partition_table: PartitionTable,
}

/// A mapper for records whose event time is unknown.
struct TimelessMapper {
    mapper: Mapper,
    /// The columns that have no value.
    blank: Vec<usize>,
}

impl UntimedFilter {
    /// Parses the flags; `None` without `--where`, if the expressions are none of events, or if they name a time, which
    /// is unknown: `coalesce` and `is null` would take it for missing.
    pub fn rules(fields: &[String], filter: Option<&str>) -> Option<RowRules> {
        let negation = format!("not (\n{}\n)", filter?);
        let rules = RowRules::try_new(fields, Some(&negation), &Kind::Event.schema()).ok()??;
        let times = TIMES.iter().fold(1 << column::EVENT_TIME, |bits, time| bits | 1 << time);
        (rules.columns() & times == 0).then_some(rules)
    }

    /// Creates the filter of records that are mapped with these options. Errors: exit status 2, as [`Mapper::new`].
    pub fn new(options: &mapping::Options, rules: RowRules) -> Result<Self> {
        let options = mapping::Options {
            time: TimeFrom::Arrival,
            min_time: Some(i64::MIN),
            max_future: None,
            keep_raw: mapping::KeepRaw::No,
            parts: RecordParts::None,
            window_zone: None,
            reads: ReadColumns::default(),
            ..options.clone()
        };
        let mut blank = options.clone();
        let is_time = |name: &String| TIMES.iter().any(|column| COLUMNS[*column] == name);
        blank.fields.retain(|(name, _)| !is_time(name));
        blank.sets.retain(|(name, _)| !is_time(name));
        blank.sets.extend(TIMES.map(|column| (COLUMNS[column].to_owned(), ANY.to_owned())));
        Ok(Self {
            rules,
            without_event_time: TimelessMapper::new(options, vec![column::EVENT_TIME])?,
            without_times: TimelessMapper::new(blank, [&[column::EVENT_TIME][..], &TIMES].concat())?,
            partition_table: PartitionTable::default(),
        })
    }

    /// Creates the same filter for another thread.
    pub fn another(&self) -> Result<Self> {
        Ok(Self {
            rules: self.rules.clone(),
            without_event_time: self.without_event_time.another()?,
            without_times: self.without_times.another()?,
            partition_table: PartitionTable::default(),
        })
    }

    /// Whether `--where` is false for a record of this partition; neither NULL nor a failure is.
    pub fn excludes(&mut self, record: &mapping::Record<'_>, (origin, name): (&str, &str)) -> Result<bool> {
        let partition = self.partition_table.partition(origin, name);
        for mapper in [&mut self.without_event_time, &mut self.without_times] {
            mapper.mapper.turn_to(partition, (origin, name));
            if let Some(row) = mapper.row(record, &mut self.partition_table)? {
                return Ok(self.rules.apply(&row)?.keep.value(0));
            }
        }
        Ok(false)
    }
}

impl TimelessMapper {
    fn new(options: mapping::Options, blank: Vec<usize>) -> Result<Self> {
        Ok(Self { mapper: Mapper::new(options)?, blank })
    }

    fn another(&self) -> Result<Self> {
        Ok(Self { mapper: self.mapper.another()?, blank: self.blank.clone() })
    }

    /// Returns the row of a record; `None` if it has another fault.
    fn row(
        &mut self,
        record: &mapping::Record<'_>,
        partition_table: &mut PartitionTable,
    ) -> Result<Option<RecordBatch>> {
        let &mapping::Record { text, raw, meta, now, .. } = record;
        if !matches!(
            self.mapper.record(mapping::Record { text, raw, meta, now, verdict: FutureVerdict::Passed })?,
            Mapped::Row
        ) {
            return Ok(None);
        }
        let Some(row) = self.mapper.finish()?.stamp(partition_table, None)? else { return Ok(None) };
        let (mut fields, mut columns) = (row.schema().fields().to_vec(), row.columns().to_vec());
        for column in &self.blank {
            columns[*column] = new_null_array(fields[*column].data_type(), 1);
            fields[*column] = Arc::new(Field::clone(&fields[*column]).with_nullable(true));
        }
        Ok(Some(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?))
    }
}
