//! Finds names that a column and a property share. In an expression such a name is the column, but its author may have
//! meant the property.

use super::array;
use super::event::{COLUMNS, column};
use crate::json::walk::last_member;
use arrow::array::{Array, RecordBatch, StringArray};
use memchr::memmem;

/// Finds properties with the name of a column that expressions use.
#[derive(Debug, Default)]
pub struct Shadows {
    /// Bits of the columns without a warning so far.
    wanted: u32,
}

impl Shadows {
    /// Watches the names of the columns in the bits `named`.
    pub fn new(named: u32) -> Self {
        Self { wanted: named & ((1 << COLUMNS.len()) - 1) & !(1 << column::PROPERTIES) }
    }

    /// Returns warnings for names that some property has (`found`, as bits of their columns): one per name and run.
    pub fn warnings(&mut self, found: u32) -> impl Iterator<Item = String> + use<> {
        let shadowed = self.wanted & found;
        self.wanted &= !shadowed;
        (0..COLUMNS.len()).filter(move |index| shadowed >> index & 1 == 1).map(|index| {
            let name = COLUMNS[index];
            format!("{name} is the column of the event; use properties.{name} for the property of that name")
        })
    }

    /// Returns the bits of the watched columns whose name some property of a batch has.
    pub fn found(&self, batch: &RecordBatch) -> u32 {
        if self.wanted == 0 {
            return 0;
        }
        let Some(properties) = array::<StringArray>(batch, COLUMNS[column::PROPERTIES]) else { return 0 };
        let wanted = (0..COLUMNS.len()).filter(|index| self.wanted >> index & 1 == 1);
        wanted.filter(|index| some_has(properties, COLUMNS[*index])).fold(0, |bits, index| bits | 1 << index)
    }
}

/// Whether some of these objects has a member called `name`. Most batches do not contain that text at all: all rows are
/// searched at once, and an object is walked only if its text contains the name. A name with escapes is not found.
fn some_has(objects: &StringArray, name: &str) -> bool {
    let (Some(first), Some(last)) = (objects.value_offsets().first(), objects.value_offsets().last()) else {
        return false;
    };
    let (mut at, end) = (*first as usize, *last as usize);
    let quoted = format!("\"{name}\"");
    let finder = memmem::Finder::new(&quoted);
    while let Some(found) = finder.find(&objects.value_data()[at..end]) {
        let place = at + found;
        let row = objects.value_offsets().partition_point(|start| *start as usize <= place).saturating_sub(1);
        if objects.is_valid(row) && last_member(objects.value(row), name).is_some() {
            return true;
        }
        at = objects.value_offsets()[row + 1] as usize;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn found(rows: &[&str]) -> u32 {
        let column = StringArray::from_iter_values(rows);
        let batch = RecordBatch::try_from_iter([("properties", Arc::new(column) as _)]).unwrap();
        let whole = Shadows::new(u32::MAX).found(&batch);
        let sliced = Shadows::new(u32::MAX).found(&batch.slice(1, rows.len() - 1));
        assert_eq!(sliced & !whole, 0);
        sliced
    }

    #[test]
    fn a_property_is_met_only_at_the_top_of_an_object_and_only_as_a_name() {
        let offset = 1 << column::OFFSET;
        assert_eq!(found(&["{}", r#"{"a":1,"offset":2}"#, "{}"]), offset);
        assert_eq!(found(&[r#"{"offset":1}"#, r#"{"a":"offset"}"#, r#"{"b":{"offset":1}}"#, r#"{"offsets":1}"#]), 0);
        assert_eq!(found(&["{}", r#"{"a":"\"offset\""}"#, r#"{"o":"offset","offset":1}"#]), offset);
    }

    #[test]
    fn a_name_is_warned_of_once_and_only_where_it_was_asked_for() {
        let mut shadows = Shadows::new(1 << column::OFFSET | 1 << column::PROPERTIES);
        assert_eq!(shadows.warnings(1 << column::ORIGIN | 1 << column::PROPERTIES).count(), 0);
        assert_eq!(shadows.warnings(u32::MAX).count(), 1);
        assert_eq!(shadows.warnings(u32::MAX).count(), 0);
    }
}
