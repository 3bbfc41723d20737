//! The rows of a chunk of records, which are mapped, but not stamped; and the facts about these records that warnings,
//! progress lines and later records need.

use super::build::Unstamped;
use super::options::Options;
use super::partitions::{PartitionIndex, PartitionTable};
use crate::counts::counted;
use crate::error::Result;
use crate::time::Zone;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};

/// The partition of an input.
#[derive(Debug, Default)]
pub(super) struct InputPartition {
    /// Its number in the [`PartitionTable`].
    pub(super) number: u32,
    pub(super) origin: String,
    pub(super) name: String,
}

/// Selects the rows of a batch that stay, and returns their properties if it changes them.
pub type RowFilter<'a> = dyn FnMut(&RecordBatch) -> Result<(Option<ArrayRef>, BooleanArray)> + 'a;

/// The rows of a chunk, and the facts about its records.
pub struct MappedRows {
    pub(super) rows: Unstamped,
    pub(super) named: PartitionIndex,
    pub(super) facts: Facts,
}

impl MappedRows {
    /// Returns the facts about the records.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Stamps the rows; `None` if there are none. `rule` selects the rows before, so that only rows that leave as
    /// events advance stream time.
    pub fn stamp(
        mut self,
        partition_table: &mut PartitionTable,
        rule: Option<&mut RowFilter<'_>>,
    ) -> Result<Option<RecordBatch>> {
        if self.named.len() > 0 {
            self.rows.resolve(&partition_table.numbers(&self.named));
        }
        if let (Some(rule), false) = (rule, self.rows.is_empty()) {
            let (properties, keep) = rule(&self.rows.preview(partition_table)?)?;
            self.rows.filter(properties, &keep)?;
        }
        if self.rows.is_empty() { Ok(None) } else { self.rows.stamp(partition_table).map(Some) }
    }
}

/// The columns that records had, and the defaults that the mapper has used in some record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults {
    /// Some record had no `source`.
    pub source: bool,
    /// Some record had no `event_type`.
    pub event_type: bool,
    /// A bit for each column that some record or a flag filled; `None` without records.
    pub filled: Option<u32>,
    /// Some row has the stamps with which it was read.
    pub keeps_stamps: bool,
}

/// Whether records have times. What the records before a record have shown decides about it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecordTimes {
    /// Whether some record had a readable time.
    pub(super) timed: bool,
    /// Whether the first record had no time, so that no record needs one
    /// ([`TimeFrom::Untimed`](super::TimeFrom::Untimed)).
    pub(super) clocked: bool,
}

/// The facts about the records of a chunk, or of all chunks so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The defaults used.
    pub defaults: Defaults,
    /// The number of records without an id, whose id was derived from their position.
    pub made_ids: u64,
    /// Whether some record kept the stamps that it carries.
    pub kept_stamps: bool,
    /// Number of local times that occur twice because the clocks of the zone go back.
    pub(super) doubled: u64,
    /// Whether the first event time has no offset although `--time-zone` is not given. Set only if windows have a zone.
    pub(super) is_local: Option<bool>,
    /// Bits of the columns whose name some record has had as a property.
    pub shadowed: u32,
}

impl Facts {
    /// Adds the facts of the next chunk.
    pub fn add(&mut self, next: Self) {
        let filled =
            [self.defaults.filled, next.defaults.filled].into_iter().flatten().reduce(|one, other| one | other);
        self.defaults = Defaults {
            source: self.defaults.source | next.defaults.source,
            event_type: self.defaults.event_type | next.defaults.event_type,
            filled,
            keeps_stamps: self.defaults.keeps_stamps | next.defaults.keeps_stamps,
        };
        self.made_ids += next.made_ids;
        self.kept_stamps |= next.kept_stamps;
        self.doubled += next.doubled;
        self.is_local = self.is_local.or(next.is_local);
        self.shadowed |= next.shadowed;
    }

    /// Returns warnings: about times that the clocks of `--time-zone` show twice, about times without an offset that
    /// are read in UTC although windows have another zone and, if repeats are found by ids, about records without ids.
    pub(super) fn warnings(&self, options: &Options, finds_repeats: bool) -> Vec<String> {
        let mut warnings = vec![];
        if let Some(zone) = options.when.zone.filter(|_| self.doubled > 0) {
            let times = counted(self.doubled, ["time without an offset occurs", "times without an offset occur"]);
            warnings.push(format!(
                "{times} twice in {zone}, because clocks go back; evt uses the first of both instants, so some events count too \
                 early; write times with an offset to avoid this"
            ));
        }
        if let Some(zone) = options.window_zone.filter(|zone| *zone != Zone::UTC && self.is_local == Some(true)) {
            warnings.push(format!(
                "windows are those of {zone}, but times without an offset were read in UTC; --time-zone {zone} reads them as local times"
            ));
        }
        if finds_repeats && self.made_ids > 0 {
            let records = counted(self.made_ids, ["record has", "records have"]);
            warnings.push(format!(
                "{records} no event_id, so --dedup cannot find repeats; --field event_id=FIELD --hash-ids derives ids from FIELD"
            ));
        }
        warnings
    }
}
