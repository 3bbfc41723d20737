//! The columns of properties that all files of a table share: each has a number, and one type for ever.

use crate::format::properties::property_field;
use crate::format::value_type::ValueType;
use arrow::datatypes::Field;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum number of columns.
const COLUMNS_MAX: usize = 256;

/// A column of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// The name of the property.
    pub name: String,
    /// The type of its values; others stay in `properties`.
    pub kind: ValueType,
    /// The number of the column.
    pub id: i32,
}

impl TableColumn {
    /// Returns the column of a file.
    pub fn field(&self) -> Field {
        // A table does not say which whole doubles were written as integers: all are read back as integers.
        let field = property_field(&self.name, self.kind.data_type(), self.kind == ValueType::Double);
        let mut metadata = field.metadata().clone();
        metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), self.id.to_string());
        field.with_metadata(metadata)
    }
}

/// The columns of a table. Clones share them.
#[derive(Clone, Debug)]
pub struct TableColumns(Arc<Mutex<SharedColumns>>);

#[derive(Debug)]
struct SharedColumns {
    /// Those that the table has, then new ones.
    all: Vec<TableColumn>,
    /// The number of those that it has.
    present: usize,
    /// The names that a new one must not have, in lower case.
    taken: HashSet<String>,
    /// The greatest number of a column in the table, and with the new ones.
    last_id: [i32; 2],
    may_add: bool,
}

impl TableColumns {
    /// Takes the columns of a table, all names in it, and the greatest number of a column. Files may add columns if
    /// `may_add`.
    pub fn new<'a>(
        columns: Vec<TableColumn>,
        names: impl Iterator<Item = &'a str>,
        last_id: i32,
        may_add: bool,
    ) -> Self {
        let (present, taken) = (columns.len(), names.map(str::to_lowercase).collect());
        Self(Arc::new(Mutex::new(SharedColumns { all: columns, present, taken, last_id: [last_id; 2], may_add })))
    }

    fn shared(&self) -> MutexGuard<'_, SharedColumns> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether files may add columns.
    pub fn may_add(&self) -> bool {
        self.shared().may_add
    }

    /// Returns all columns.
    pub fn all(&self) -> Vec<TableColumn> {
        self.shared().all.clone()
    }

    /// Returns the new columns.
    pub fn added(&self) -> Vec<TableColumn> {
        let shared = self.shared();
        shared.all[shared.present..].to_vec()
    }

    /// Notes that the table has the new columns now.
    pub fn settle(&self) {
        let mut shared = self.shared();
        shared.present = shared.all.len();
        shared.last_id[0] = shared.last_id[1];
    }

    /// Whether the table of `other`, which has no new columns, has the same columns, so that the new ones fit to it.
    pub fn fits(&self, other: &Self) -> bool {
        let (shared, other) = (self.shared(), other.shared());
        shared.all[..shared.present] == other.all[..] && shared.last_id[0] == other.last_id[0]
    }

    /// Adds columns for properties, those that most rows have first, as far as the table may have them; returns all.
    pub fn extend(&self, properties: impl Iterator<Item = (String, ValueType)>) -> Vec<TableColumn> {
        let mut shared = self.shared();
        if !shared.may_add {
            return shared.all.clone();
        }
        for (name, kind) in properties {
            // A point in a name is a path to many readers.
            if shared.all.len() < COLUMNS_MAX && !name.contains('.') && shared.taken.insert(name.to_lowercase()) {
                shared.last_id[1] += 1;
                let id = shared.last_id[1];
                shared.all.push(TableColumn { name, kind, id });
            }
        }
        shared.all.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, id: i32) -> TableColumn {
        TableColumn { name: name.to_owned(), kind: ValueType::Integer, id }
    }

    fn table(columns: Vec<TableColumn>, last_id: i32, may_add: bool) -> TableColumns {
        TableColumns::new(columns, ["event_id", "n"].into_iter(), last_id, may_add)
    }

    #[test]
    fn new_columns_get_numbers_that_no_other_has_until_the_table_has_them() {
        let columns = table(vec![column("n", 7)], 9, true);
        let names = ["N", "n", "Event_Id", "a.b", "x", "X", "y"];
        let all = columns.extend(names.into_iter().map(|name| (name.to_owned(), ValueType::Integer)));
        assert_eq!(all, [column("n", 7), column("x", 10), column("y", 11)]);
        assert_eq!(columns.added(), all[1..]);
        assert!(columns.fits(&table(vec![column("n", 7)], 9, true)));
        // Another writer has added a column.
        assert!(!columns.fits(&table(vec![column("n", 7)], 10, true)));
        columns.settle();
        assert_eq!(columns.added(), []);
        assert!(columns.fits(&table(all.clone(), 11, true)) && !columns.fits(&table(vec![column("n", 7)], 9, true)));
        let fixed = table(all.clone(), 11, false);
        assert_eq!(fixed.extend([("z".to_owned(), ValueType::Text)].into_iter()), all);
    }

    #[test]
    fn a_table_has_not_more_columns_than_readers_like() {
        let columns = table(vec![], 0, true);
        let all = columns.extend((0..300).map(|number| (format!("c{number}"), ValueType::Text)));
        assert_eq!((all.len(), all[255].id), (256, 256));
    }
}
