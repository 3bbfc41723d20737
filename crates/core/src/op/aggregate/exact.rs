//! Exact sums: a fixed-point accumulator over the whole range of doubles, rounded once at the result.
//!
//! A finite double is `m · 2^s` units of 2⁻¹⁰⁷⁴ with `m < 2^53` and `0 ≤ s ≤ 2045`. Limb `k` has the weight of
//! `2^(32k)` units and holds the sum of `m << (s mod 32)` of the values with `s div 32 = k` in an `i128`. A value adds
//! less than 2⁸⁴, so 2⁴³ additions fit before a carry is needed. Squares are in units of 2⁻²¹⁴⁸ and are added as two
//! halves. Only the limbs between the least and the greatest in use are kept: values of one magnitude need two.
//! Addition is of integers, so the sum is a function of the multiset.

use crate::error::Result;
use crate::op::snapshot::{Reader, put_u64};
use num_bigint::{BigInt, BigUint, Sign};

/// Weight of one unit of a sum of values, as an exponent of two.
pub(super) const UNIT: i64 = -1074;
/// Weight of one unit of a sum of squares, as an exponent of two.
pub(super) const SQUARE_UNIT: i64 = 2 * UNIT;
/// Maximum number of additions before a carry; each adds less than 2⁸⁴ to an i128.
const ADDITIONS_MAX: u64 = 1 << 42;
/// Bits between the weights of two limbs.
const LIMB_BITS: u32 = 32;
/// The highest limb that a saved form may have: that of 2⁶⁴ squares of the greatest double.
const LIMB_MAX: u64 = 160;
const MANTISSA_BITS: u32 = 52;

/// An exact sum, in units of a power of two that its owner defines.
#[derive(Clone, Debug, Default)]
pub(super) struct Exact {
    first: usize,
    limbs: Vec<i128>,
    additions: u64,
}

/// Returns the signed mantissa and the shift of a finite double.
#[inline(always)]
fn parts(value: f64) -> (i64, u32) {
    let bits = value.to_bits();
    let exponent = (bits >> MANTISSA_BITS) as u32 & 0x7ff;
    let fraction = (bits & ((1 << MANTISSA_BITS) - 1)) as i64;
    let (mantissa, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << MANTISSA_BITS, exponent - 1) };
    (if value.is_sign_negative() { -mantissa } else { mantissa }, shift)
}

impl Exact {
    /// Adds a finite value, in units of 2⁻¹⁰⁷⁴.
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        let (mantissa, shift) = parts(value);
        self.put(i128::from(mantissa), shift);
    }

    /// Adds the square of a finite value, in units of 2⁻²¹⁴⁸.
    #[inline]
    pub(super) fn add_square(&mut self, value: f64) {
        let (mantissa, shift) = parts(value);
        let square = i128::from(mantissa) * i128::from(mantissa);
        let half = MANTISSA_BITS + 1;
        self.put(square & ((1 << half) - 1), 2 * shift);
        self.put(square >> half, 2 * shift + half);
    }

    /// Adds `mantissa · 2^shift` units.
    #[inline]
    fn put(&mut self, mantissa: i128, shift: u32) {
        if mantissa == 0 {
            return;
        }
        let limb = (shift / LIMB_BITS) as usize;
        let part = mantissa << (shift % LIMB_BITS);
        self.additions += 1;
        if let Some(sum) = limb.checked_sub(self.first).and_then(|at| self.limbs.get_mut(at)) {
            *sum += part;
        } else {
            *self.limb(limb) += part;
        }
        if self.additions >= ADDITIONS_MAX {
            self.carry();
        }
    }

    /// Returns the limb with that index; adds it if it is missing.
    #[cold]
    fn limb(&mut self, limb: usize) -> &mut i128 {
        if self.limbs.is_empty() {
            self.first = limb;
        }
        if limb < self.first {
            self.limbs.splice(..0, std::iter::repeat_n(0, self.first - limb));
            self.first = limb;
        }
        let at = limb - self.first;
        if at >= self.limbs.len() {
            self.limbs.reserve_exact(at + 1 - self.limbs.len());
            self.limbs.resize(at + 1, 0);
        }
        &mut self.limbs[at]
    }

    /// Carries every limb into the next, so that each is below 2³² and counts as one addition.
    #[cold]
    fn carry(&mut self) {
        let mut carried = 0i128;
        for limb in &mut self.limbs {
            let sum = *limb + carried;
            *limb = sum & ((1 << LIMB_BITS) - 1);
            carried = sum >> LIMB_BITS;
        }
        while carried != 0 && carried != -1 {
            self.limbs.push(carried & ((1 << LIMB_BITS) - 1));
            carried >>= LIMB_BITS;
        }
        if carried == -1 {
            self.limbs.push(-1);
        }
        self.additions = 1;
    }

    /// Adds another sum.
    pub(super) fn merge(&mut self, other: &Exact) {
        if self.additions.saturating_add(other.additions) >= ADDITIONS_MAX {
            self.carry();
            let mut other = other.clone();
            other.carry();
            return self.join(&other);
        }
        self.join(other);
    }

    fn join(&mut self, other: &Exact) {
        for (at, part) in other.limbs.iter().enumerate() {
            *self.limb(other.first + at) += part;
        }
        self.additions += other.additions;
    }

    /// Returns the sum as an integer and the exponent of a power of two, in units.
    pub(super) fn total(&self) -> (BigInt, i64) {
        let mut total = BigInt::ZERO;
        for limb in self.limbs.iter().rev() {
            total = (total << LIMB_BITS) + limb;
        }
        (total, i64::from(LIMB_BITS) * self.first as i64)
    }

    /// Returns the bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.limbs.capacity() * size_of::<i128>()
    }

    /// Saves the sum: sign, limb of the lowest digit, number of digits, digits in base 2³². The form depends on the sum
    /// alone.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        let (total, shift) = self.total();
        let digits = total.iter_u32_digits().collect::<Vec<_>>();
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        let first = if digits.len() == zeros { 0 } else { shift as usize / LIMB_BITS as usize + zeros };
        out.push(u8::from(total.sign() == Sign::Minus));
        put_u64(out, first as u64);
        put_u64(out, (digits.len() - zeros) as u64);
        for digit in &digits[zeros..] {
            out.extend_from_slice(&digit.to_le_bytes());
        }
    }

    /// Restores a saved sum.
    ///
    /// Errors: exit status 65 if the bytes are not a saved sum.
    pub(super) fn load(reader: &mut Reader<'_>) -> Result<Self> {
        let negative = reader.byte()? == 1;
        let first = reader.at_most(LIMB_MAX)?;
        let count = reader.at_most(LIMB_MAX)?;
        let mut limbs = Vec::with_capacity(count);
        for _ in 0..count {
            let digit = i128::from(reader.le::<u32>()?);
            limbs.push(if negative { -digit } else { digit });
        }
        Ok(Self { first, additions: u64::from(count > 0), limbs })
    }
}

/// Computes `numerator / denominator · 2^exponent`, rounded once to the nearest double, ties to even; ±∞ beyond the
/// range.
pub(super) fn round(numerator: &BigInt, denominator: u64, exponent: i64) -> f64 {
    let magnitude = round_magnitude(numerator.magnitude(), &BigUint::from(denominator), exponent);
    if numerator.sign() == Sign::Minus { -magnitude } else { magnitude }
}

/// Computes √(numerator / denominator · 2^exponent): rounds the quotient to a double, then takes the root. The result
/// is within one unit in the last place, even if the quotient is beyond the range of doubles.
pub(super) fn root(numerator: &BigUint, denominator: &BigUint, exponent: i64) -> f64 {
    if numerator.bits() == 0 {
        return 0.0;
    }
    let magnitude = numerator.bits() as i64 - denominator.bits() as i64 + exponent;
    let half = magnitude.div_euclid(2);
    let root = round_magnitude(numerator, denominator, exponent - 2 * half).sqrt();
    scaled(root, half)
}

/// Computes `value · 2^exponent` with integers, because 2^exponent alone may be beyond the range.
fn scaled(value: f64, exponent: i64) -> f64 {
    let (numerator, shift) = parts(value);
    round_magnitude(&BigUint::from(numerator.unsigned_abs()), &BigUint::from(1u8), i64::from(shift) + UNIT + exponent)
}

fn round_magnitude(numerator: &BigUint, denominator: &BigUint, exponent: i64) -> f64 {
    if numerator.bits() == 0 {
        return 0.0;
    }
    // The quotient has 64 bits or more. Its lowest bit is sticky (set by a remainder), so no tie is decided wrongly.
    let lift = (64 + denominator.bits() as i64 - numerator.bits() as i64).max(0);
    let lifted = numerator << lift.unsigned_abs();
    let quotient = &lifted / denominator;
    let sticky = &quotient * denominator != lifted;
    let exponent = exponent - lift;
    // The weight of the double's last bit is 2^(top − 52), or 2⁻¹⁰⁷⁴ if it is subnormal.
    let top = quotient.bits() as i64 - 1 + exponent;
    let last = (top - i64::from(MANTISSA_BITS)).max(UNIT);
    let cut = last - exponent;
    let kept = &quotient >> cut.unsigned_abs();
    let rest = &quotient - (&kept << cut.unsigned_abs());
    let half = BigUint::from(1u8) << (cut - 1).unsigned_abs();
    let up = match rest.cmp(&half) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => sticky || kept.bit(0),
        std::cmp::Ordering::Less => false,
    };
    let mantissa = kept.iter_u64_digits().next().unwrap_or(0) + u64::from(up);
    compose(mantissa, last)
}

/// Computes `mantissa · 2^last`; the mantissa has at most 53 bits or is 2⁵³, and `last ≥ −1074`.
fn compose(mantissa: u64, last: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    // A mantissa without the hidden bit is subnormal. Addition instead of OR lets 2⁵³ and 2⁵² carry into the exponent.
    let exponent = (last - UNIT).unsigned_abs();
    if exponent > 2046 {
        return f64::INFINITY;
    }
    let bits = (exponent << MANTISSA_BITS) + mantissa;
    if bits >= f64::INFINITY.to_bits() { f64::INFINITY } else { f64::from_bits(bits) }
}

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
