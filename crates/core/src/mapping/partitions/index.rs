//! Numbers of partitions: of those of a run ([`PartitionTable`](super::PartitionTable)), and of those that the records
//! of a chunk name.

use crate::mapping::options::BATCH_ROWS;
use ahash::AHashMap;
use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use std::sync::Arc;

/// The first number of the partitions that records name. Numbers before it are those of a
/// [`PartitionTable`](super::PartitionTable), the others less this one are those of the index of the chunk.
pub(in crate::mapping) const NAMED: u32 = 1 << 31;

/// Beyond this number of values, each batch gets a dictionary of its own.
const DICTIONARY_MAX: usize = 4096;

/// Texts, each with a number (its code).
#[derive(Default)]
struct TextCodes {
    texts: Vec<String>,
    codes: AHashMap<String, u32>,
    array: Option<ArrayRef>,
    /// The last column built for rows that all have one code.
    alike: Option<(u32, ArrayRef)>,
}

impl TextCodes {
    fn code(&mut self, text: &str) -> u32 {
        if let Some(code) = self.codes.get(text) {
            return *code;
        }
        let code = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        self.codes.insert(text.to_owned(), code);
        (self.array, self.alike) = (None, None);
        code
    }

    /// Returns a column of `rows` rows that all have one code. Most files are one partition, so the last column is
    /// reused.
    fn alike(&mut self, code: u32, rows: usize) -> arrow::error::Result<ArrayRef> {
        if let Some((known, column)) = &self.alike
            && *known == code
            && column.len() >= rows
        {
            return Ok(column.slice(0, rows));
        }
        let column = self.column(vec![code; rows.max(BATCH_ROWS)])?;
        self.alike = Some((code, column.clone()));
        Ok(column.slice(0, rows))
    }

    /// Builds the dictionary column of `codes`. The values array stays the same, so that frames send it once.
    fn column(&mut self, codes: Vec<u32>) -> arrow::error::Result<ArrayRef> {
        if self.texts.len() > DICTIONARY_MAX {
            return self.own_column(&codes);
        }
        let texts = &self.texts;
        let values = self.array.get_or_insert_with(|| Arc::new(StringArray::from_iter_values(texts))).clone();
        let keys = Int32Array::from_iter_values(codes.into_iter().map(|code| code as i32));
        Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
    }

    /// Builds the same column with a dictionary of this batch's values only.
    fn own_column(&self, codes: &[u32]) -> arrow::error::Result<ArrayRef> {
        let mut local = AHashMap::new();
        let mut texts: Vec<&str> = vec![];
        let keys: Int32Array = codes
            .iter()
            .map(|code| {
                Some(*local.entry(*code).or_insert_with(|| {
                    texts.push(&self.texts[*code as usize]);
                    texts.len() as i32 - 1
                }))
            })
            .collect();
        Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(texts)))?))
    }
}

/// A partition, by the codes of its names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct PartitionCodes {
    group: u32,
    origin: u32,
    name: u32,
}

/// Partitions, each with a number: the partitions (origin, name) of groups. Groups are inputs, or partitions beside
/// which records name others.
#[derive(Default)]
pub(in crate::mapping) struct PartitionIndex {
    partitions: Vec<PartitionCodes>,
    numbers: AHashMap<PartitionCodes, u32>,
    origins: TextCodes,
    names: TextCodes,
}

impl PartitionIndex {
    /// Returns the number of a partition; adds the partition if it is new.
    pub(in crate::mapping) fn number(&mut self, group: u32, origin: &str, name: &str) -> u32 {
        let partition = PartitionCodes { group, origin: self.origins.code(origin), name: self.names.code(name) };
        let next = self.partitions.len() as u32;
        *self.numbers.entry(partition).or_insert_with(|| {
            self.partitions.push(partition);
            next
        })
    }

    /// Returns the number of a partition that was added before.
    pub(in crate::mapping) fn find(&self, group: u32, origin: &str, name: &str) -> Option<u32> {
        let (origin, name) = (*self.origins.codes.get(origin)?, *self.names.codes.get(name)?);
        self.numbers.get(&PartitionCodes { group, origin, name }).copied()
    }

    /// Returns the number of partitions.
    pub(in crate::mapping) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Returns the group of a partition.
    pub(in crate::mapping) fn group(&self, partition: u32) -> u32 {
        self.partitions[partition as usize].group
    }

    /// Returns the (origin, name) of a partition.
    pub(in crate::mapping) fn name(&self, partition: u32) -> (&str, &str) {
        let PartitionCodes { origin, name, .. } = self.partitions[partition as usize];
        (&self.origins.texts[origin as usize], &self.names.texts[name as usize])
    }

    /// Builds the columns `origin` and `partition` for rows of these partitions.
    pub(in crate::mapping) fn columns(&mut self, partitions: &[u32]) -> arrow::error::Result<(ArrayRef, ArrayRef)> {
        if let Some(first) = partitions.first().filter(|first| partitions.iter().all(|id| id == *first)) {
            let PartitionCodes { origin, name, .. } = self.partitions[*first as usize];
            return Ok((self.origins.alike(origin, partitions.len())?, self.names.alike(name, partitions.len())?));
        }
        let origins = partitions.iter().map(|id| self.partitions[*id as usize].origin).collect();
        let names = partitions.iter().map(|id| self.partitions[*id as usize].name).collect();
        Ok((self.origins.column(origins)?, self.names.column(names)?))
    }
}
