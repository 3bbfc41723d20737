//! The interface of an aggregate: its row in the table, and the states of one metric.

use crate::error::Result;
use crate::expr::{ValueKind, Want};
use arrow::array::ArrayRef;

/// The states of one metric, indexed by slot.
pub trait Aggregate: Send {
    /// Ensures that the slots `0..slots` exist; new ones are empty. Never removes one.
    fn ensure(&mut self, slots: usize);
    /// Adds row `rows[i]` of the arguments to `slots[i]`. Both have the same length, and their values are within
    /// bounds.
    fn add(&mut self, slots: &[u32], rows: &[u32], args: &[ArrayRef]);
    /// Adds the state of slot `from` to slot `into`; `from` keeps its own.
    fn merge(&mut self, into: u32, from: u32);
    /// Returns the value of a slot for a window of that length in µs (`rate` divides by it); `None` is NULL.
    fn result(&self, slot: u32, window_micros: i64) -> Option<f64>;
    /// Empties a slot.
    fn clear(&mut self, slot: u32);
    /// Returns the bytes that a slot takes.
    fn size(&self, slot: u32) -> usize;
    /// Appends the saved form of a slot, which depends only on the multiset of its values.
    fn save(&self, slot: u32, out: &mut Vec<u8>);
    /// Replaces the state of a slot by a saved one.
    ///
    /// Errors: exit status 65 if the bytes are not a saved state; the slot then keeps its state.
    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<()>;
}

/// One aggregate: its row in the table.
#[derive(Debug)]
pub struct Definition {
    /// Its name, lower case.
    pub name: &'static str,
    /// Its syntax.
    pub usage: &'static str,
    /// Its result and accuracy, for the manual.
    pub about: &'static str,
    /// Whether `*` (every row) is allowed as its argument.
    pub(super) star: bool,
    /// The types of its arguments.
    pub(super) args: &'static [Want],
    /// Minimum number of arguments; missing ones are `true`.
    pub(super) least: usize,
    /// Whether a constant from 0 to 1 follows the arguments.
    pub(super) quantile: bool,
    /// Whether three arguments that the user does not write follow the first one: the event time, the event id and the
    /// text of the first argument.
    pub(super) is_ordered: bool,
    /// Whether its result depends on the length of the window, which a window over all time does not have.
    pub needs_length: bool,
    /// What its results are called if those of several windows cannot be added up.
    pub not_additive: Option<&'static str>,
    /// Whether its result is NULL if a window and key have too many texts.
    pub has_limit: bool,
    pub(super) create: fn(quantile: f64) -> Box<dyn Aggregate>,
}

impl Definition {
    /// Returns the maximum number of arguments that are written.
    pub(super) fn most(&self) -> usize {
        if self.is_ordered { self.least } else { self.args.len() }
    }

    /// Returns a valid call over a property of numbers. The fuzz target of saved states and their snapshots use it, so
    /// that they include every aggregate.
    pub fn example(&self, number: &str) -> String {
        let argument = match self.args.first() {
            _ if self.star => "*".to_owned(),
            Some(Want::Kind(ValueKind::Bool)) => format!("{number} = 1"),
            _ => number.to_owned(),
        };
        format!("{}({argument}{})", self.name, if self.quantile { ", 0.9" } else { "" })
    }
}
