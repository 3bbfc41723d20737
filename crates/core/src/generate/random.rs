//! Random numbers from a seed: the same on every machine and in every version.
//!
//! The generator is SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014;
//! constants as in Sebastiano Vigna's public-domain `splitmix64.c`). It is counter-based: [`Random::at`] starts the
//! numbers of record n without computing those before it, so any record can be generated again. Distinct records of a
//! seed start at distinct states, hence no two ids are equal by construction of the mixer.
//!
//! Floats determine bytes only through `+ - * /` and rounding, which IEEE 754 defines to the last bit. The platform's
//! `ln`, `exp` and `pow` differ between machines and are not used.

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The random numbers of one record.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts the numbers of record `index` under `seed`.
    pub fn at(seed: u64, index: u64) -> Self {
        Self(mix(mix(seed.wrapping_add(GAMMA)).wrapping_add(index.wrapping_mul(GAMMA))))
    }

    /// Returns the next 64 bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// Returns a number below `bound` (0 for a bound of 0), all equally likely up to one part in 2^64 / `bound`.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        high_half(self.bits(), bound)
    }

    /// Returns a number below `bound` that is mostly small: a number up to that of another draw.
    #[inline]
    pub fn mostly_small(&mut self, bound: u64) -> u64 {
        let once = self.below(bound);
        self.below(once + 1)
    }
}

#[inline]
fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[inline]
fn high_half(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

/// Numbers 0..n with Zipf's weights 1, 1/2^s, 1/3^s …: the alias method, one draw and one look-up per number.
#[derive(Clone, Debug)]
pub struct Zipf {
    cells: Vec<AliasCell>,
}

/// A cell yields its own number for a draw below `own`, else `other`.
#[derive(Clone, Copy, Debug)]
struct AliasCell {
    own: u32,
    other: u32,
}

/// The weight of one full cell.
const FULL: u64 = 1 << 32;

impl Zipf {
    /// Builds a table for `n` numbers (at least 1) of 8 bytes each; a `skew` of 0 makes all equally likely.
    pub fn new(n: u32, skew: f64) -> Self {
        let mut weights = shares(n.max(1), skew);
        let mut cells: Vec<AliasCell> = (0..n.max(1)).map(|i| AliasCell { own: u32::MAX, other: i }).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) = (0..n.max(1)).partition(|i| weights[*i as usize] < FULL);
        while let (Some(poor), Some(rich)) = (small.pop(), large.pop()) {
            let own = weights[poor as usize];
            cells[poor as usize] = AliasCell { own: own as u32, other: rich };
            weights[rich as usize] -= FULL - own;
            if weights[rich as usize] < FULL { small.push(rich) } else { large.push(rich) }
        }
        Self { cells }
    }

    /// Returns the next number.
    #[inline]
    pub fn pick(&self, random: &mut Random) -> u32 {
        let bits = random.bits();
        let index = ((bits >> 32) * self.cells.len() as u64) >> 32;
        let cell = self.cells[index as usize];
        if (bits as u32) < cell.own { index as u32 } else { cell.other }
    }
}

/// Returns the weights of 0..n in parts of a cell; their sum is exactly n full cells.
fn shares(n: u32, skew: f64) -> Vec<u64> {
    let powers: Vec<f64> = (1..=n).map(|rank| inverse_power(f64::from(rank), skew)).collect();
    let total: f64 = powers.iter().sum();
    let scale = f64::from(n) * FULL as f64 / total;
    let mut weights: Vec<u64> = powers.iter().map(|power| (power * scale) as u64).collect();
    let rounded_off = (u64::from(n) * FULL).saturating_sub(weights.iter().sum());
    weights[0] += rounded_off;
    weights
}

/// Computes `base` to the power −`skew`, for a base of at least 1.
fn inverse_power(base: f64, skew: f64) -> f64 {
    if skew == 0.0 { 1.0 } else { exponential(-skew * logarithm(base)) }
}

/// Computes the natural logarithm of a normal number ≥ 1, by the series of artanh over a mantissa in [1, 2).
fn logarithm(x: f64) -> f64 {
    let exponent = (x.to_bits() >> 52) as i32 - 1023;
    let mantissa = f64::from_bits((x.to_bits() & ((1 << 52) - 1)) | (1023 << 52));
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let (mut term, mut sum) = (z, 0.0);
    for odd in 0..20 {
        sum += term / f64::from(2 * odd + 1);
        term *= z * z;
    }
    2.0 * sum + f64::from(exponent) * std::f64::consts::LN_2
}

/// Computes e to the power `x`, for x in −700..=0: the series over the remainder modulo ln 2, scaled by a power of two.
fn exponential(x: f64) -> f64 {
    let twos = (x / std::f64::consts::LN_2).floor().max(-1000.0);
    let rest = x - twos * std::f64::consts::LN_2;
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..20 {
        term *= rest / f64::from(n);
        sum += term;
    }
    sum * f64::from_bits(((1023 + twos as i64) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_splitmix64_as_published() {
        let mut random = Random(1_234_567);
        let known = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| random.bits()), known);
    }

    #[test]
    fn powers_agree_with_the_platform_to_fourteen_digits() {
        for base in [1.0, 2.0, 3.0, 10.0, 999.0, 1e7] {
            for skew in [0.0, 0.5, 0.8, 1.0, 1.2, 2.0, 10.0] {
                let expected = f64::powf(base, -skew);
                assert!((inverse_power(base, skew) / expected - 1.0).abs() < 1e-13, "{base}^-{skew}");
            }
        }
    }

    #[test]
    fn numbers_come_with_the_weights_of_zipf() {
        for (n, skew) in [(1, 1.0), (8, 0.0), (8, 1.0), (40, 0.8), (500, 1.5)] {
            let table = Zipf::new(n, skew);
            let mut random = Random::at(7, 0);
            let mut seen = vec![0u32; n as usize];
            let draws = 400_000;
            for _ in 0..draws {
                seen[table.pick(&mut random) as usize] += 1;
            }
            let total: f64 = (1..=n).map(|rank| f64::from(rank).powf(-skew)).sum();
            for rank in 1..=n {
                let expected = f64::from(draws) * f64::from(rank).powf(-skew) / total;
                let found = f64::from(seen[rank as usize - 1]);
                assert!(
                    (found - expected).abs() < 5.0 * expected.sqrt() + 1.0,
                    "{n} {skew} {rank}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn records_of_one_seed_begin_at_distinct_states() {
        let states: std::collections::HashSet<u64> = (0..100_000).map(|n| Random::at(7, n).0).collect();
        assert_eq!(states.len(), 100_000);
    }
}
