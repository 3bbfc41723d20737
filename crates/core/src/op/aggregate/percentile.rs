//! approx_percentile: DDSketch (Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch", VLDB 2019)
//! with the linearly interpolated mapping.
//!
//! A bin is the sign, the exponent and the first [`STEP_BITS`] bits of the mantissa of a double: 64 bins per power of
//! two. The bin of a value is computed from these bits, without a logarithm, so it is the same on every platform. A
//! bin's bounds `a < b` differ by at most 1/64 of `a`. Its value is 2ab/(a + b), which differs by at most
//! (b − a)/(a + b) ≤ 1/129 from any value inside: less than the stated 1 %. Subnormal doubles are scaled first, so the
//! bound holds for them too. Zero, ±∞ and NaN have bins of their own, which are exact; NaN comes after ∞.
//!
//! Bins are counters, so the state is a function of the multiset. They are never collapsed: there are at most 64 per
//! power of two that occurs, and 2,098 powers of two per sign.
//!
//! The result for q is the value of the bin that contains the value of rank max(1, ⌈q·n⌉) of n, as in SQL's
//! `percentile_disc` and DuckDB's `quantile_disc`. q is the decimal as written, not the double nearest to it.

use super::definition::Definition;
use super::states::{Accumulator, ResultInputs, States, each_number};
use super::sum::SUM;
use crate::error::{Error, Result};
use crate::expr::{ValueKind, Want};
use crate::op::snapshot::{Reader, put_u64};
use arrow::array::ArrayRef;

/// `approx_percentile(x, q)`.
pub(super) const APPROX_PERCENTILE: Definition = Definition {
    name: "approx_percentile",
    usage: "approx_percentile(x, q) with q from 0 to 1",
    about: "value of rank max(1, ⌈q·n⌉) of n in ascending order, within 1 % of the exact value: DDSketch",
    args: &[Want::Kind(ValueKind::Number)],
    quantile: true,
    not_additive: Some("percentiles"),
    create: States::<Percentile>::create,
    ..SUM
};

/// Bits of the mantissa that separate bins.
const STEP_BITS: u32 = 6;
const CUT_BITS: u32 = 52 - STEP_BITS;
/// Number that is added to the leading bits of a normal double to give its bin. A subnormal double is first scaled by
/// 2^54: the least one has bin 193, and the bins of normal doubles follow those of subnormal ones without a gap. Bin 0
/// is zero.
const OFFSET: i32 = (SCALE_BITS << STEP_BITS) + 1;
/// Subnormal doubles are multiplied by 2^54, which is exact.
const SCALE_BITS: i32 = 54;
const SCALE: f64 = (1u64 << SCALE_BITS) as f64;
const INFINITE: i32 = i32::MAX - 1;
const NAN: i32 = i32::MAX;

/// The bins in ascending order, each with its number of values. Keys and counts are separate arrays, because only the
/// keys are searched.
#[derive(Debug, Default)]
struct Percentile {
    keys: Vec<i32>,
    counts: Vec<u64>,
    /// A cache by the last bits of the key: the index at which a bin with these bits was found last. The index may be
    /// outdated. Most searches end there.
    near: Vec<u16>,
}

/// Size of the cache (a power of two), and the number of bins from which the cache is worth its memory.
const NEAR: usize = 1024;
const NEAR_FROM: usize = 64;

/// If another state has less than 1/`FEW_PART` as many bins as this one, each of its bins is searched for; otherwise
/// both states are merged in one pass.
const FEW_PART: usize = 8;

/// Returns the bin of a value; bins are in the order of values.
#[inline(always)]
fn key_of(value: f64) -> i32 {
    let magnitude = value.abs();
    let key =
        if magnitude.is_normal() { (magnitude.to_bits() >> CUT_BITS) as i32 + OFFSET } else { odd_key(magnitude) };
    if value.is_sign_negative() && key != NAN { -key } else { key }
}

/// Returns the bin of a magnitude that is not a normal double.
#[cold]
fn odd_key(magnitude: f64) -> i32 {
    if magnitude.is_nan() {
        NAN
    } else if magnitude.is_infinite() {
        INFINITE
    } else if magnitude == 0.0 {
        0
    } else {
        ((magnitude * SCALE).to_bits() >> CUT_BITS) as i32 + OFFSET - (SCALE_BITS << STEP_BITS)
    }
}

/// Returns the value of a bin.
fn value_of(key: i32) -> f64 {
    match key {
        NAN => f64::NAN,
        0 => 0.0,
        INFINITE => f64::INFINITY,
        key if key < 0 => -value_of(-key),
        key => {
            // Below the first normal bin: computes with the scaled value and scales the result back, rounding once.
            let normal = OFFSET + (1 << STEP_BITS);
            let (steps, scale) = if key < normal { (SCALE_BITS << STEP_BITS, SCALE) } else { (0, 1.0) };
            let low = ((key - OFFSET + steps) as u64) << CUT_BITS;
            let (a, b) = (f64::from_bits(low), f64::from_bits(low + (1 << CUT_BITS)));
            // 2ab/(a + b), written so that nothing overflows; the last bin has no finite upper bound.
            let shown = if b.is_finite() { a * (b / (a / 2.0 + b / 2.0)) } else { a * (129.0 / 128.0) };
            shown / scale
        }
    }
}

impl Percentile {
    #[inline]
    fn push(&mut self, key: i32, count: u64) {
        let place = key as usize % NEAR;
        match self.near.get(place).map(|at| usize::from(*at)) {
            Some(at) if self.keys.get(at) == Some(&key) => self.counts[at] += count,
            _ => self.search(key, count, place),
        }
    }

    fn search(&mut self, key: i32, count: u64, place: usize) {
        let at = self.keys.partition_point(|held| *held < key);
        if self.keys.get(at) == Some(&key) {
            self.counts[at] += count;
        } else {
            self.keys.insert(at, key);
            self.counts.insert(at, count);
        }
        if self.near.is_empty() && self.keys.len() >= NEAR_FROM {
            self.near = vec![0; NEAR];
        }
        if let (Some(near), Ok(at)) = (self.near.get_mut(place), u16::try_from(at)) {
            *near = at;
        }
    }
}

impl Percentile {
    /// Adds the bins of another state in one pass through both.
    fn join(&mut self, other: &Self) {
        let mut missing = 0;
        let mut at = 0;
        for (key, count) in other.keys.iter().zip(&other.counts) {
            while self.keys.get(at).is_some_and(|held| held < key) {
                at += 1;
            }
            match self.keys.get(at) == Some(key) {
                true => self.counts[at] += count,
                false => missing += 1,
            }
        }
        if missing == 0 {
            return;
        }
        // Works from the end, so that each bin moves once.
        let (mut from, mut to) = (self.keys.len(), self.keys.len() + missing);
        self.keys.resize(to, 0);
        self.counts.resize(to, 0);
        for (key, count) in other.keys.iter().zip(&other.counts).rev() {
            while from > 0 && self.keys[from - 1] > *key {
                (from, to) = (from - 1, to - 1);
                (self.keys[to], self.counts[to]) = (self.keys[from], self.counts[from]);
            }
            if from == 0 || self.keys[from - 1] != *key {
                to -= 1;
                (self.keys[to], self.counts[to]) = (*key, *count);
            }
        }
    }
}

impl Accumulator for Percentile {
    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        each_number(states, slots, rows, args, |state, value| state.push(key_of(value), 1));
    }

    fn merge(&mut self, other: &Self) {
        if self.keys.is_empty() {
            (self.keys, self.counts) = (other.keys.clone(), other.counts.clone());
        } else if other.keys.len() * FEW_PART < self.keys.len() {
            other.keys.iter().zip(&other.counts).for_each(|(key, count)| self.push(*key, *count));
        } else {
            self.join(other);
        }
    }

    fn result(&self, asked: ResultInputs) -> Option<f64> {
        let rank = asked.quantile.rank(self.counts.iter().sum());
        let mut passed = 0u64;
        let mut reaching = self.keys.iter().zip(&self.counts).skip_while(|(_, count)| {
            passed += **count;
            passed < rank
        });
        reaching.next().map(|(key, _)| value_of(*key))
    }

    fn heap(&self) -> usize {
        self.keys.capacity() * size_of::<i32>()
            + self.counts.capacity() * size_of::<u64>()
            + self.near.capacity() * size_of::<u16>()
    }

    fn save(&self, out: &mut Vec<u8>) {
        put_u64(out, self.keys.len() as u64);
        for (key, count) in self.keys.iter().zip(&self.counts) {
            out.extend_from_slice(&key.to_le_bytes());
            put_u64(out, *count);
        }
    }

    fn load(_: u8, reader: &mut Reader<'_>) -> Result<Self> {
        let bins: u64 = reader.le()?;
        let mut state = Self::default();
        for _ in 0..bins {
            let key: i32 = reader.le()?;
            if state.keys.last().is_some_and(|last| *last >= key) {
                return Err(Error::corrupt("saved approx_percentile: bins out of order"));
            }
            state.keys.push(key);
            state.counts.push(reader.rows()?);
        }
        Ok(state)
    }
}
