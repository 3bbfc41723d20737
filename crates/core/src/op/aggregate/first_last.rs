//! first and last: the value of the row with the least or greatest (event time, event id, text of the value).

use super::definition::Definition;
use super::states::{Accumulator, ResultInputs, States, each_present};
use super::sum::SUM;
use crate::error::Result;
use crate::expr::{ValueKind, Want};
use crate::op::snapshot::{Reader, Writer};
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use std::cmp::Ordering;

/// `first(x)`. The arguments after x are the event time, the event id and the text of x.
pub(super) const FIRST: Definition = Definition {
    name: "first",
    usage: "first(x)",
    about: "x of the earliest event: the one with the least event_time or, if several have it, with the least event_id",
    args: &[Want::Kind(ValueKind::Number), Want::Kind(ValueKind::Time), Want::Kind(ValueKind::Text), Want::AsText],
    is_ordered: true,
    not_additive: Some("first values"),
    create: States::<FirstOrLast<false>>::create,
    ..SUM
};

/// `last(x)`.
pub(super) const LAST: Definition = Definition {
    name: "last",
    usage: "last(x)",
    about: "x of the latest event: the one with the greatest event_time or, if several have it, with the greatest event_id",
    not_additive: Some("last values"),
    create: States::<FirstOrLast<true>>::create,
    ..FIRST
};

/// The value and the rank of the first row so far or, with `LAST`, of the last row so far.
#[derive(Default)]
struct FirstOrLast<const LAST: bool>(Option<RankedValue>);

/// The rank of a row; its fields are compared in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    time: i64,
    id: &'a str,
    text: &'a str,
}

#[derive(Clone)]
struct RankedValue {
    time: i64,
    id: String,
    text: String,
    value: f64,
}

impl RankedValue {
    fn rank(&self) -> Rank<'_> {
        Rank { time: self.time, id: &self.id, text: &self.text }
    }
}

impl<const LAST: bool> FirstOrLast<LAST> {
    /// Keeps a row instead of the kept one if its rank is less or, with `LAST`, greater. The new texts use the memory
    /// of the old ones.
    fn keep_if_beyond(&mut self, rank: Rank<'_>, value: f64) {
        let beyond = if LAST { Ordering::Greater } else { Ordering::Less };
        // The text of every NaN is the same, so its bits are too.
        let value = if value.is_nan() { f64::NAN } else { value };
        match &mut self.0 {
            Some(held) if rank.cmp(&held.rank()) != beyond => {}
            Some(held) => {
                (held.time, held.value) = (rank.time, value);
                rank.id.clone_into(&mut held.id);
                rank.text.clone_into(&mut held.text);
            }
            None => {
                let Rank { time, id, text } = rank;
                self.0 = Some(RankedValue { time, id: id.to_owned(), text: text.to_owned(), value });
            }
        }
    }
}

impl<const LAST: bool> Accumulator for FirstOrLast<LAST> {
    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        let [numbers, times, ids, texts] = args else { return };
        let (numbers, times) = (numbers.as_primitive::<Float64Type>(), times.as_primitive::<Int64Type>());
        let (ids, texts) = (ids.as_string::<i32>(), texts.as_string::<i32>());
        each_present(numbers, slots, rows, |slot, row| {
            let rank = Rank { time: times.value(row), id: ids.value(row), text: texts.value(row) };
            states[slot].keep_if_beyond(rank, numbers.value(row));
        });
    }

    fn merge(&mut self, other: &Self) {
        if let Some(held) = &other.0 {
            self.keep_if_beyond(held.rank(), held.value);
        }
    }

    fn result(&self, _: ResultInputs) -> Option<f64> {
        self.0.as_ref().map(|held| held.value)
    }

    fn heap(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.id.capacity() + held.text.capacity())
    }

    fn save(&self, out: &mut Vec<u8>) {
        let mut saved = Writer::default();
        saved.flag(self.0.is_some());
        if let Some(RankedValue { time, id, text, value }) = &self.0 {
            saved.number(*time);
            saved.text(id);
            saved.text(text);
            saved.number(value.to_bits() as i64);
        }
        out.extend(saved.finish());
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Result<Self> {
        if !reader.flag()? {
            return Ok(Self(None));
        }
        let (time, id, text, value) = (reader.number()?, reader.text()?, reader.text()?, reader.le()?);
        Ok(Self(Some(RankedValue { time, id, text, value })))
    }
}
