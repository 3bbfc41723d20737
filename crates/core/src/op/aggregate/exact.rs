//! Exact sums of decimals: a fixed-point accumulator over the whole range of doubles, rounded once at the result.
//!
//! Limb `k` has the weight of 10^(9k − 2151) and holds the sum of the parts of that weight in an `i128`. A decimal of
//! at most 18 digits is one part: its mantissa times 1 to 10⁸. A part is less than 2⁹⁰, so 2³⁶ additions fit before a
//! carry is needed. Squares are the products of the digits in base 10⁹. Only the limbs between the least and the
//! greatest in use are kept: values of one magnitude need one. Addition is of integers, so the sum is a function of the
//! multiset.

use super::decimal::{Decimal, ShortDecimal};
use crate::error::{Error, Result};
use crate::op::snapshot::{Reader, put_u64};
use num_bigint::{BigInt, BigUint, Sign};

/// A unit of a sum of doubles, as saved by version 1, is 2 to the power of minus this; of squares twice that.
pub(super) const BINARY_UNIT: u64 = 1074;
/// The power of ten of limb 0. Sums of squares of version 1 have 2148 decimals.
const LOWEST: i32 = -2151;
/// Maximum number of additions before a carry; each adds less than 2⁹⁰ to an i128.
const ADDITIONS_MAX: u64 = 1 << 36;
/// Decimal digits between the weights of two limbs.
const LIMB_DIGITS: i32 = 9;
/// The ratio of the weights of two limbs.
const BASE: u64 = 1_000_000_000;
/// The highest limb that a saved form may have: beyond that of 2⁶⁴ squares of the greatest double.
const LIMB_MAX: u64 = 320;
/// The same of version 1, whose limbs have 32 bits.
const BINARY_LIMB_MAX: u64 = 160;
const BINARY_LIMB_BITS: u64 = 32;
const MANTISSA_BITS: u32 = 52;
/// The power of two of the last bit of a subnormal double.
const SUBNORMAL: i64 = -1074;
/// Every integer up to it is a double.
const INTEGER_MAX: u64 = 1 << 53;
/// A part of a long decimal: more digits do not fit a part.
const PART: i128 = 1_000_000_000_000_000_000;

/// An exact sum.
#[derive(Clone, Debug, Default)]
pub(super) struct Exact {
    first: usize,
    limbs: Vec<i128>,
    additions: u64,
}

/// The decimal `mantissa · 10^exponent`, of any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) mantissa: BigInt,
    pub(super) exponent: i32,
}

impl Total {
    /// Returns the mantissa for a lower power of ten.
    pub(super) fn at(&self, exponent: i32) -> BigInt {
        &self.mantissa * ten_to(self.exponent - exponent)
    }
}

/// Returns a power of ten; 1 if it is negative.
fn ten_to(exponent: i32) -> BigInt {
    BigInt::from(10u8).pow(u32::try_from(exponent).unwrap_or(0))
}

impl Exact {
    /// Adds a value.
    #[inline]
    pub(super) fn add(&mut self, ShortDecimal { mantissa, exponent }: ShortDecimal) {
        self.put(mantissa, exponent);
    }

    /// Adds the square of a value.
    #[inline]
    pub(super) fn add_square(&mut self, ShortDecimal { mantissa, exponent }: ShortDecimal) {
        let size = mantissa.unsigned_abs();
        if size < BASE {
            return self.put((size * size) as i64, 2 * exponent);
        }
        self.add_products(&[size % BASE, size / BASE % BASE, size / BASE / BASE], 2 * exponent);
    }

    /// Adds a value of up to 38 digits.
    pub(super) fn add_long(&mut self, Decimal { mantissa: mut rest, mut exponent }: Decimal) {
        while rest != 0 {
            self.put((rest % PART) as i64, exponent);
            (rest, exponent) = (rest / PART, exponent + 2 * LIMB_DIGITS);
        }
    }

    /// Adds the square of a value of up to 38 digits.
    pub(super) fn add_long_square(&mut self, Decimal { mantissa, exponent }: Decimal) {
        let (mut rest, base) = (mantissa.unsigned_abs(), u128::from(BASE));
        let digits = [(); 5].map(|()| {
            let digit = rest % base;
            rest /= base;
            digit as u64
        });
        self.add_products(&digits, 2 * exponent);
    }

    /// Adds the square of a number with these digits in base 10⁹, the lowest first.
    fn add_products(&mut self, digits: &[u64], exponent: i32) {
        for (at, digit) in (0..).zip(digits) {
            for (other_at, other) in (0..).zip(digits) {
                self.put((digit * other) as i64, exponent + LIMB_DIGITS * (at + other_at));
            }
        }
    }

    /// Adds `mantissa · 10^exponent`.
    #[inline]
    fn put(&mut self, mantissa: i64, exponent: i32) {
        const TENS: [i64; LIMB_DIGITS as usize] =
            [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
        if mantissa == 0 {
            return;
        }
        let place = (exponent - LOWEST) as u32;
        let (limb, rest) = ((place / LIMB_DIGITS as u32) as usize, (place % LIMB_DIGITS as u32) as usize);
        let part = i128::from(mantissa) * i128::from(TENS[rest]);
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

    /// Carries every limb into the next, so that each is below 10⁹ and counts as one addition. The highest is −1 if the
    /// sum is negative.
    #[cold]
    fn carry(&mut self) {
        let (mut carried, base) = (0i128, i128::from(BASE));
        for limb in &mut self.limbs {
            let sum = *limb + carried;
            *limb = sum.rem_euclid(base);
            carried = sum.div_euclid(base);
        }
        while carried != 0 && carried != -1 {
            self.limbs.push(carried.rem_euclid(base));
            carried = carried.div_euclid(base);
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

    /// Returns the sum.
    pub(super) fn total(&self) -> Total {
        let mut mantissa = BigInt::ZERO;
        for limb in self.limbs.iter().rev() {
            mantissa = mantissa * BASE + limb;
        }
        Total { mantissa, exponent: self.exponent() }
    }

    /// Returns the power of ten of the lowest limb.
    fn exponent(&self) -> i32 {
        LIMB_DIGITS * self.first as i32 + LOWEST
    }

    /// Returns the sum divided by a number, rounded once to the nearest double, ties to even; ±∞ beyond the range.
    pub(super) fn divided(&self, divisor: u64) -> f64 {
        if let Some(short) = self.divided_short(divisor) {
            return short;
        }
        let Total { mantissa, exponent } = self.total();
        let divisor = BigInt::from(divisor) * ten_to(-exponent);
        round(&(mantissa * ten_to(exponent)), divisor.magnitude())
    }

    /// The same, if both operands of a division are doubles.
    fn divided_short(&self, divisor: u64) -> Option<f64> {
        let mut total = 0i128;
        for limb in self.limbs.iter().rev() {
            total = total.checked_mul(i128::from(BASE))?.checked_add(*limb)?;
        }
        if total == 0 {
            return Some(0.0);
        }
        let mut places = u32::try_from(-self.exponent()).ok()?;
        while total % 10 == 0 && places > 0 {
            (total, places) = (total / 10, places - 1);
        }
        let divisor = divisor.checked_mul(10u64.checked_pow(places)?)?;
        let is_exact = total.unsigned_abs() <= u128::from(INTEGER_MAX) && divisor <= INTEGER_MAX;
        is_exact.then(|| total as f64 / divisor as f64)
    }

    /// Returns the bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.limbs.capacity() * size_of::<i128>()
    }

    /// Saves the sum: sign, limb of the lowest digit, number of digits, digits in base 10⁹. The form depends on the sum
    /// alone.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        let mut sum = self.clone();
        sum.carry();
        let is_negative = sum.limbs.last().is_some_and(|limb| *limb < 0);
        if is_negative {
            sum.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            sum.carry();
        }
        let end = sum.limbs.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        let zeros = sum.limbs[..end].iter().take_while(|digit| **digit == 0).count();
        let first = if end == 0 { 0 } else { sum.first + zeros };
        out.push(u8::from(is_negative));
        put_u64(out, first as u64);
        put_u64(out, (end - zeros) as u64);
        for digit in &sum.limbs[zeros..end] {
            out.extend_from_slice(&(*digit as u32).to_le_bytes());
        }
    }

    /// Restores a saved sum.
    ///
    /// Errors: exit status 65 if the bytes are not a saved sum.
    pub(super) fn load(reader: &mut Reader<'_>) -> Result<Self> {
        let (is_negative, first, digits) = digits(reader, LIMB_MAX)?;
        if digits.iter().any(|digit| u64::from(*digit) >= BASE) {
            return Err(Error::corrupt("saved sum: expected digits below 10^9"));
        }
        let signed = |digit: u32| if is_negative { -i128::from(digit) } else { i128::from(digit) };
        let limbs = digits.into_iter().map(signed).collect::<Vec<_>>();
        Ok(Self { first, additions: u64::from(!limbs.is_empty()), limbs })
    }

    /// Restores a sum of doubles that was saved with version 1, in units of 2^−`unit`.
    ///
    /// Errors: exit status 65 if the bytes are not such a sum.
    pub(super) fn load_binary(reader: &mut Reader<'_>, unit: u64) -> Result<Self> {
        let (is_negative, first, digits) = digits(reader, BINARY_LIMB_MAX)?;
        let sum = BigUint::new(digits) << (BINARY_LIMB_BITS * first as u64);
        let twos = sum.trailing_zeros().unwrap_or(0).min(unit);
        // m · 2^−n is m · 5^n · 10^−n.
        let places = unit - twos;
        let mut rest = (sum >> twos) * BigUint::from(5u8).pow(places as u32);
        let place = (-LOWEST) as u64 - places;
        rest *= BigUint::from(10u8).pow((place % LIMB_DIGITS as u64) as u32);
        let mut limbs = vec![];
        while rest != BigUint::ZERO {
            let digit = i128::from((&rest % BASE).iter_u64_digits().next().unwrap_or(0));
            limbs.push(if is_negative { -digit } else { digit });
            rest /= BASE;
        }
        let first = (place / LIMB_DIGITS as u64) as usize;
        Ok(Self { first, additions: u64::from(!limbs.is_empty()), limbs })
    }
}

/// Reads the sign, the limb of the lowest digit and the digits of a saved sum.
fn digits(reader: &mut Reader<'_>, max: u64) -> Result<(bool, usize, Vec<u32>)> {
    let is_negative = reader.byte()? == 1;
    let first = reader.at_most(max)?;
    let count = reader.at_most(max)?;
    Ok((is_negative, first, (0..count).map(|_| reader.le::<u32>()).collect::<Result<_>>()?))
}

/// Computes `numerator / denominator`, rounded once to the nearest double, ties to even; ±∞ beyond the range.
pub(super) fn round(numerator: &BigInt, denominator: &BigUint) -> f64 {
    let magnitude = Quotient::of(numerator.magnitude(), denominator, 64).nearest();
    if numerator.sign() == Sign::Minus { -magnitude } else { magnitude }
}

/// Computes √(numerator / denominator · 10^exponent), rounded once to the nearest double, ties to even.
pub(super) fn root(numerator: &BigInt, denominator: &BigInt, exponent: i32) -> f64 {
    let numerator = numerator * ten_to(exponent);
    let denominator = denominator * ten_to(-exponent);
    let Quotient { whole, exponent, has_rest } = Quotient::of(numerator.magnitude(), denominator.magnitude(), 128);
    let root = whole.sqrt();
    let has_rest = has_rest || &root * &root != whole;
    Quotient { whole: root, exponent: exponent / 2, has_rest }.nearest()
}

/// A number from `whole · 2^exponent` up to, without it, `(whole + 1) · 2^exponent`.
struct Quotient {
    whole: BigUint,
    exponent: i64,
    /// Whether it is more than the least.
    has_rest: bool,
}

impl Quotient {
    /// Divides two numbers. The quotient has at least `bits` bits, an even number of them behind the point, or is 0.
    fn of(numerator: &BigUint, denominator: &BigUint, bits: i64) -> Self {
        let lift = (bits + denominator.bits() as i64 - numerator.bits() as i64).max(0);
        let lift = lift + lift % 2;
        let lifted = numerator << lift.unsigned_abs();
        let whole = &lifted / denominator;
        let has_rest = &whole * denominator != lifted;
        Self { whole, exponent: -lift, has_rest }
    }

    /// Returns the nearest double, ties to even. It has 64 bits or more, so the rest only decides a tie.
    fn nearest(&self) -> f64 {
        let Self { whole, exponent, has_rest } = self;
        if *whole == BigUint::ZERO {
            return 0.0;
        }
        // The weight of the double's last bit is 2^(top − 52), or 2⁻¹⁰⁷⁴ if it is subnormal.
        let top = whole.bits() as i64 - 1 + exponent;
        let last = (top - i64::from(MANTISSA_BITS)).max(SUBNORMAL);
        let cut = last - exponent;
        let kept = whole >> cut.unsigned_abs();
        let rest = whole - (&kept << cut.unsigned_abs());
        let half = BigUint::from(1u8) << (cut - 1).unsigned_abs();
        let up = match rest.cmp(&half) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => *has_rest || kept.bit(0),
            std::cmp::Ordering::Less => false,
        };
        let mantissa = kept.iter_u64_digits().next().unwrap_or(0) + u64::from(up);
        compose(mantissa, last)
    }
}

/// Computes `mantissa · 2^last`; the mantissa has at most 53 bits or is 2⁵³, and `last ≥ −1074`.
fn compose(mantissa: u64, last: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    // A mantissa without the hidden bit is subnormal. Addition instead of OR lets 2⁵³ and 2⁵² carry into the exponent.
    let exponent = (last - SUBNORMAL).unsigned_abs();
    if exponent > 2046 {
        return f64::INFINITY;
    }
    let bits = (exponent << MANTISSA_BITS) + mantissa;
    if bits >= f64::INFINITY.to_bits() { f64::INFINITY } else { f64::from_bits(bits) }
}

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
