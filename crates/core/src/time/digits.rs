//! Parts of times as their digits: pairs, dates, fractions.

use super::calendar::{days_from_civil, days_in_month};

/// Returns the number of two digits; `None` if one is not a digit.
pub(super) fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// Returns the days from 1970-01-01 to a date; `None` if it is not a date.
pub(super) fn days_of(date: &[u8; 10]) -> Option<i64> {
    let &[y3, y2, y1, y0, b'-', m1, m0, b'-', d1, d0] = date else { return None };
    let (year, month, day) = (two(y3, y2)? * 100 + two(y1, y0)?, two(m1, m0)?, two(d1, d0)?);
    let known = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    known.then(|| days_from_civil(year, month, day))
}

/// Returns the microseconds of `.ffffff…` or `,ffffff…` and the bytes after it; digits beyond the sixth are cut.
pub(super) fn fraction_of(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.' | b',', digits @ ..] = bytes else { return Some((0, bytes)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let kept = digits[..count.min(6)].iter().fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some((kept * 10i64.pow(6 - count.min(6) as u32), &digits[count..]))
}
