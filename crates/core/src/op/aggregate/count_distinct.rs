//! count_distinct: the exact number of distinct texts, up to a maximum.

use super::definition::Definition;
use super::states::{Accumulator, ResultInputs, States, each_present};
use super::sum::SUM;
use crate::error::{Error, Result};
use crate::expr::Want;
use crate::op::snapshot::{Reader, Writer};
use ahash::AHashSet;
use arrow::array::{ArrayRef, AsArray};

/// `count(distinct x)`.
pub(super) const COUNT_DISTINCT: Definition = Definition {
    name: "count_distinct",
    usage: "count_distinct(x) or count(distinct x)",
    about: "exact number of distinct texts of x; NULL above 100,000 texts in a window and key",
    args: &[Want::AsText],
    has_limit: true,
    not_additive: Some("numbers of distinct values"),
    create: States::<DistinctTexts>::create,
    ..SUM
};

/// Maximum number of distinct texts in a state. A state with more drops its texts, and its result is NULL.
pub const TEXTS_MAX: usize = 100_000;

#[derive(Default)]
struct DistinctTexts {
    texts: AHashSet<Box<str>>,
    /// Bytes of all texts.
    bytes: usize,
    /// Whether there were more than the maximum.
    is_over: bool,
}

impl DistinctTexts {
    fn push(&mut self, text: &str) {
        if self.is_over || self.texts.contains(text) {
            return;
        }
        if self.texts.len() == TEXTS_MAX {
            *self = Self { is_over: true, ..Self::default() };
            return;
        }
        self.bytes += text.len();
        self.texts.insert(text.into());
    }
}

impl Accumulator for DistinctTexts {
    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        let texts = args[0].as_string::<i32>();
        each_present(texts, slots, rows, |slot, row| states[slot].push(texts.value(row)));
    }

    fn merge(&mut self, other: &Self) {
        if other.is_over {
            *self = Self { is_over: true, ..Self::default() };
        }
        other.texts.iter().for_each(|text| self.push(text));
    }

    fn result(&self, _: ResultInputs) -> Option<f64> {
        (!self.is_over).then_some(self.texts.len() as f64)
    }

    fn heap(&self) -> usize {
        self.texts.capacity() * (size_of::<Box<str>>() + 1) + self.bytes
    }

    fn save(&self, out: &mut Vec<u8>) {
        let mut texts: Vec<&str> = self.texts.iter().map(|text| &**text).collect();
        texts.sort_unstable();
        let mut saved = Writer::default();
        saved.flag(self.is_over);
        saved.count(texts.len());
        texts.iter().for_each(|text| saved.text(text));
        out.extend(saved.finish());
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Result<Self> {
        let (is_over, count) = (reader.flag()?, reader.count()?);
        let (mut state, mut last) = (Self { is_over, ..Self::default() }, None);
        for _ in 0..count {
            let text = reader.text()?;
            if is_over || last.as_ref() >= Some(&text) || state.texts.len() == TEXTS_MAX {
                return Err(Error::corrupt("saved aggregate: expected distinct texts in ascending order"));
            }
            state.push(&text);
            last = Some(text);
        }
        Ok(state)
    }
}
