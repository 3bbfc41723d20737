//! The quantile of a percentile as a fraction, and the rank that it selects.

/// A quantile from 0 to 1 as a fraction of integers, so that ranks are exact: 0.29 of 100 values is rank 29, which the
/// double nearest to 0.29 would miss.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantile {
    numerator: u64,
    denominator: u128,
}

impl Quantile {
    /// Maximum number of decimals. A quantile with more is so small that it selects rank 1 of any number of values
    /// below 2⁶⁴.
    const DECIMALS_MAX: u32 = 38;

    /// Returns the shortest decimal that equals `share`: the decimal as written, if it had at most 15 digits.
    pub(super) fn of(share: f64) -> Self {
        let text = format!("{share:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let numerator = format!("{whole}{fraction}").parse().unwrap_or(0);
        let decimals = fraction.len() as i64 - exponent.parse::<i64>().unwrap_or(0);
        let decimals = u32::try_from(decimals).unwrap_or(0).min(Self::DECIMALS_MAX);
        Self { numerator, denominator: 10u128.pow(decimals) }
    }

    /// Returns the rank among `count` values, from 1.
    pub(super) fn rank(self, count: u64) -> u64 {
        let rank = (u128::from(self.numerator) * u128::from(count)).div_ceil(self.denominator);
        u64::try_from(rank).unwrap_or(count).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_that_of_the_decimal_that_was_written() {
        for (share, count, rank) in [
            (0.29, 100, 29),
            (0.07, 100, 7),
            (0.1, 3, 1),
            (0.7, 10, 7),
            (0.99, 2, 2),
            (0.99, 100, 99),
            (0.99, 101, 100),
            (0.0, 5, 1),
            (1.0, 5, 5),
            (5e-324, u64::MAX, 1),
            (1.0, u64::MAX, u64::MAX),
            (0.5, 1, 1),
            (0.123_456_789_012_345, 1_000_000_000_000_000, 123_456_789_012_345),
        ] {
            assert_eq!(Quantile::of(share).rank(count), rank, "{share} of {count}");
        }
    }
}
