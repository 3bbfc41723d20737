//! min and max by IEEE totalOrder: −∞ < numbers < ∞ < NaN.

use super::definition::Definition;
use super::states::{Accumulator, ResultInputs, States, each_number};
use super::sum::SUM;
use crate::error::Result;
use crate::expr::{ValueKind, Want};
use crate::op::snapshot::Reader;
use arrow::array::ArrayRef;

/// `min(x)`.
pub(super) const MIN: Definition = Definition {
    name: "min",
    usage: "min(x)",
    about: "minimum; NaN is greater than every number",
    args: &[Want::Kind(ValueKind::Number)],
    not_additive: Some("minima"),
    create: States::<Extreme<false>>::create,
    ..SUM
};

/// `max(x)`.
pub(super) const MAX: Definition = Definition {
    name: "max",
    usage: "max(x)",
    about: "maximum; NaN is greater than every number",
    not_additive: Some("maxima"),
    create: States::<Extreme<true>>::create,
    ..MIN
};

#[derive(Default)]
struct Extreme<const GREATEST: bool>(Option<f64>);

impl<const GREATEST: bool> Extreme<GREATEST> {
    #[inline(always)]
    fn push(&mut self, value: f64) {
        let held = self.0.unwrap_or(value);
        let beyond = if GREATEST { value.total_cmp(&held).is_gt() } else { value.total_cmp(&held).is_lt() };
        self.0 = Some(if beyond { value } else { held });
    }
}

impl<const GREATEST: bool> Accumulator for Extreme<GREATEST> {
    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        each_number(states, slots, rows, args, Self::push);
    }

    fn merge(&mut self, other: &Self) {
        if let Some(value) = other.0 {
            self.push(value);
        }
    }

    fn result(&self, _: ResultInputs) -> Option<f64> {
        self.0
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.0.is_some()));
        out.extend_from_slice(&self.0.unwrap_or(0.0).to_le_bytes());
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Result<Self> {
        let some = reader.flag()?;
        let value: f64 = reader.le()?;
        Ok(Self(some.then_some(value)))
    }
}
