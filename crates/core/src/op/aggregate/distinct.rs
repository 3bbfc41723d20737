//! approx_distinct: HyperLogLog with 4,096 registers.
//!
//! The top 12 bits of a text's hash (xxh3, 64 bits, seed 0; these never change) select a register. The register holds
//! the greatest rank it has seen: leading zeros of the other 52 bits, plus one. Registers are maxima, so the state is a
//! function of the set of texts. Up to [`SPARSE_MAX`] registers in use are a sorted list; more are one byte each.
//!
//! Estimator: the improved raw estimator of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches"
//! (arXiv 1702.01284, algorithm 6), which needs no bias tables and no switch of ranges. Standard error 1.04 / √4096 =
//! 1.6 % (two in three estimates are within 1.6 %, practically all within 6.5 %); far less below a few hundred.

use super::definition::Definition;
use super::states::{Accumulator, ResultInputs, States, each_present};
use super::sum::SUM;
use crate::error::{Error, Result};
use crate::expr::Want;
use crate::op::snapshot::Reader;
use arrow::array::{ArrayRef, AsArray};
use std::cmp::Ordering;
use xxhash_rust::xxh3::xxh3_64;

/// `approx_distinct(x)`.
pub(super) const APPROX_DISTINCT: Definition = Definition {
    name: "approx_distinct",
    usage: "approx_distinct(x)",
    about: "number of distinct texts of x: HyperLogLog with 4096 registers, standard error 1.6 %",
    args: &[Want::AsText],
    not_additive: Some("numbers of distinct values"),
    create: States::<Distinct>::create,
    ..SUM
};

const INDEX_BITS: u32 = 12;
const REGISTERS: usize = 1 << INDEX_BITS;
const RANK_BITS: u32 = 64 - INDEX_BITS;
/// The greatest rank: all other bits are zero.
const RANK_MAX: u8 = RANK_BITS as u8 + 1;
/// Maximum number of registers in use for which the list (4 bytes each) is shorter than all registers (1 byte each).
const SPARSE_MAX: usize = REGISTERS / 4 - 1;

enum Distinct {
    /// `register << 8 | rank`, in the order of registers, at most [`SPARSE_MAX`].
    Sparse(Vec<u32>),
    /// A rank for every register, 0 if it is not in use.
    Dense(Box<[u8]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Sparse(Vec::new())
    }
}

impl Distinct {
    #[inline]
    fn push(&mut self, text: &str) {
        let hash = xxh3_64(text.as_bytes());
        let register = (hash >> RANK_BITS) as u32;
        // The bit set below the rank bits bounds the count of zeros.
        let rank = (hash << INDEX_BITS | 1 << (INDEX_BITS - 1)).leading_zeros() as u8 + 1;
        self.raise(register, rank);
    }

    #[inline]
    fn raise(&mut self, register: u32, rank: u8) {
        match self {
            Self::Dense(ranks) => {
                let held = &mut ranks[register as usize];
                *held = rank.max(*held);
            }
            Self::Sparse(list) => {
                let entry = register << 8 | u32::from(rank);
                let at = list.partition_point(|held| held >> 8 < register);
                match list.get_mut(at) {
                    Some(held) if *held >> 8 == register => *held = entry.max(*held),
                    _ => {
                        list.insert(at, entry);
                        self.widen();
                    }
                }
            }
        }
    }

    fn widen(&mut self) {
        if let Self::Sparse(list) = self
            && list.len() > SPARSE_MAX
        {
            let mut ranks = vec![0; REGISTERS].into_boxed_slice();
            for entry in list {
                ranks[(*entry >> 8) as usize] = entry.to_le_bytes()[0];
            }
            *self = Self::Dense(ranks);
        }
    }

    /// Counts the registers by rank.
    fn histogram(&self) -> [u32; RANK_MAX as usize + 1] {
        let mut counts = [0; RANK_MAX as usize + 1];
        match self {
            Self::Sparse(list) => {
                counts[0] = (REGISTERS - list.len()) as u32;
                list.iter().for_each(|entry| counts[entry.to_le_bytes()[0] as usize] += 1);
            }
            Self::Dense(ranks) => ranks.iter().for_each(|rank| counts[*rank as usize] += 1),
        }
        counts
    }

    fn estimate(&self) -> f64 {
        let counts = self.histogram();
        let registers = REGISTERS as f64;
        let saturated = f64::from(counts[RANK_MAX as usize]);
        let mut z = registers * tau(1.0 - saturated / registers);
        for count in counts[1..RANK_MAX as usize].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += registers * sigma(f64::from(counts[0]) / registers);
        registers * registers / (2.0 * std::f64::consts::LN_2) / z
    }
}

/// Merges two lists; of two entries for a register, the greater rank stays.
fn union(first: &[u32], second: &[u32]) -> Vec<u32> {
    let mut both = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.iter().copied().peekable(), second.iter().copied().peekable());
    while let (Some(a), Some(b)) = (first.peek().copied(), second.peek().copied()) {
        both.push(match (a >> 8).cmp(&(b >> 8)) {
            Ordering::Less => a,
            Ordering::Greater => b,
            Ordering::Equal => a.max(b),
        });
        if a >> 8 <= b >> 8 {
            first.next();
        }
        if a >> 8 >= b >> 8 {
            second.next();
        }
    }
    both.extend(first);
    both.extend(second);
    both
}

/// Computes Ertl's σ: x + Σ x^(2^k) · 2^(k−1); infinite for 1 (no register in use, estimate 0).
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// Computes Ertl's τ: (1 − x − Σ (1 − x^(2^−k))² · 2^−k) / 3.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

impl Accumulator for Distinct {
    fn add(states: &mut [Self], slots: &[u32], rows: &[u32], args: &[ArrayRef]) {
        let texts = args[0].as_string::<i32>();
        each_present(texts, slots, rows, |slot, row| states[slot].push(texts.value(row)));
    }

    fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Dense(own), Self::Dense(ranks)) => {
                own.iter_mut().zip(ranks).for_each(|(own, rank)| *own = (*own).max(*rank));
            }
            (Self::Sparse(own), Self::Dense(ranks)) => {
                let own = std::mem::take(own);
                *self = Self::Dense(ranks.clone());
                own.iter().for_each(|entry| self.raise(entry >> 8, entry.to_le_bytes()[0]));
            }
            (Self::Dense(_), Self::Sparse(list)) => {
                list.iter().for_each(|entry| self.raise(entry >> 8, entry.to_le_bytes()[0]));
            }
            (Self::Sparse(own), Self::Sparse(list)) => {
                *own = union(own, list);
                self.widen();
            }
        }
    }

    fn result(&self, _: ResultInputs) -> Option<f64> {
        Some(self.estimate().round())
    }

    fn heap(&self) -> usize {
        match self {
            Self::Sparse(list) => list.capacity() * size_of::<u32>(),
            Self::Dense(ranks) => ranks.len(),
        }
    }

    fn save(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sparse(list) => list.iter().for_each(|entry| out.extend_from_slice(&entry.to_le_bytes())),
            Self::Dense(ranks) => out.extend_from_slice(ranks),
        }
    }

    /// The dense form is longer than any list, so the length distinguishes the two.
    fn load(_: u8, reader: &mut Reader<'_>) -> Result<Self> {
        let bytes = reader.rest();
        let ranked = |rank: u8| (1..=RANK_MAX).contains(&rank);
        let state = if bytes.len() == REGISTERS {
            let in_use = bytes.iter().filter(|rank| **rank > 0).count();
            let right = bytes.iter().all(|rank| *rank <= RANK_MAX) && in_use > SPARSE_MAX;
            right.then(|| Self::Dense(bytes.into()))
        } else {
            let (entries, rest) = bytes.as_chunks::<4>();
            let list: Vec<u32> = entries.iter().map(|entry| u32::from_le_bytes(*entry)).collect();
            let right = rest.is_empty()
                && list.len() <= SPARSE_MAX
                && list.is_sorted_by(|a, b| a >> 8 < b >> 8)
                && list.iter().all(|entry| ((entry >> 8) as usize) < REGISTERS && ranked(entry.to_le_bytes()[0]));
            right.then_some(Self::Sparse(list))
        };
        state.ok_or_else(|| Error::corrupt("saved approx_distinct: invalid HyperLogLog registers"))
    }
}
