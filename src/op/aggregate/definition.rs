//! What an aggregate is: the row of its table, and the states of one metric.

use crate::error::Result;
use crate::expr::Want;
use arrow::array::ArrayRef;

/// The states of one metric, indexed by slot.
pub trait Aggregate {
    /// Makes room: the slots `0..slots` exist, new ones are empty. Never takes one away.
    fn ensure(&mut self, slots: usize);
    /// Row `rows[i]` of the arguments goes to `slots[i]`; both are of one length, and within what there is.
    fn add(&mut self, slots: &[u32], rows: &[u32], args: &[ArrayRef]);
    /// Adds the state of slot `from` to that of another slot; `from` keeps its own.
    fn merge(&mut self, into: u32, from: u32);
    /// The value of a slot for a window of that length in µs (`rate` divides by it); none is NULL.
    fn result(&self, slot: u32, window_micros: i64) -> Option<f64>;
    /// Makes a slot empty again.
    fn clear(&mut self, slot: u32);
    /// Bytes a slot holds.
    fn size(&self, slot: u32) -> usize;
    /// Appends the saved form of a slot: a function of the multiset.
    fn save(&self, slot: u32, out: &mut Vec<u8>);
    /// Replaces the state of a slot by a saved one. Exit 65 if it is none, and the slot is as before.
    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<()>;
}

/// One aggregate: its row in the table.
#[derive(Debug)]
pub struct Definition {
    /// Its name, lower case.
    pub name: &'static str,
    /// How it is called.
    pub usage: &'static str,
    /// What it gives and how exactly, for the manual.
    pub about: &'static str,
    /// Whether `*` (every row) may stand for its argument.
    pub(super) star: bool,
    /// What it asks of its arguments.
    pub(super) args: &'static [Want],
    /// How many of them must be given; the others are `true`.
    pub(super) least: usize,
    /// Whether a constant from 0 to 1 follows them.
    pub(super) quantile: bool,
    pub(super) create: fn(quantile: f64) -> Box<dyn Aggregate>,
}
