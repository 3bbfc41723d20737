//! Compares decimals with texts that the standard library writes and reads.

use super::*;
use proptest::prelude::*;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 4000,
        rng_algorithm: prop::test_runner::RngAlgorithm::ChaCha,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Writes a decimal without zeros at its end, so that decimals of equal value are equal texts.
fn text(mantissa: i128, exponent: i32) -> String {
    let (mut mantissa, mut exponent) = (mantissa, exponent);
    while mantissa % 10 == 0 && mantissa != 0 {
        (mantissa, exponent) = (mantissa / 10, exponent + 1);
    }
    if mantissa == 0 { "0".to_owned() } else { format!("{mantissa}e{exponent}") }
}

fn parsed(number: &str) -> Option<String> {
    parse(number).map(|Decimal { mantissa, exponent }| text(mantissa, exponent))
}

fn shortest_text(value: f64) -> String {
    let ShortDecimal { mantissa, exponent } = shortest(value);
    text(mantissa.into(), exponent)
}

proptest! {
    #![proptest_config(config())]

    /// The digits of the standard library's shortest text, of any double and of those that people write.
    #[test]
    fn a_double_has_the_digits_of_its_shortest_text(
        bits in any::<u64>(), mantissa in -10i64.pow(17)..10i64.pow(17), cut in 0u32..17, places in -30i32..30,
    ) {
        let written = format!("{}e{places}", mantissa / 10i64.pow(cut)).parse::<f64>().unwrap();
        for value in [f64::from_bits(bits), written, written + 0.1, written * 3.0] {
            prop_assume!(value.is_finite());
            let digits = format!("{value:e}").replace("-0e0", "0e0");
            let (whole, exponent) = digits.split_once('e').unwrap();
            let places = whole.split_once('.').map_or(0, |(_, places)| places.len() as i32);
            let mantissa = whole.replace('.', "").parse::<i128>().unwrap();
            prop_assert_eq!(shortest_text(value), text(mantissa, exponent.parse::<i32>().unwrap() - places));
        }
    }

    #[test]
    fn a_text_keeps_its_digits(
        digits in "[0-9]{1,38}", point in 0usize..38, exponent in -300i32..300, zeros in 0usize..100, negative in any::<bool>(),
    ) {
        let point = point.min(digits.len());
        let sign = if negative { "-" } else { "" };
        let number = format!("{sign}{}{}.{}{}e{exponent}", "0".repeat(zeros), &digits[..point], &digits[point..], "0".repeat(zeros));
        let mantissa = format!("{sign}{digits}").parse::<i128>().unwrap();
        prop_assert_eq!(parsed(&number), Some(text(mantissa, exponent - (digits.len() - point) as i32)));
    }
}

#[test]
fn a_text_counts_as_written_up_to_38_digits() {
    for (number, expected) in [
        ("0.10", "1e-1"),
        ("+.5", "5e-1"),
        ("5.", "5e0"),
        ("-007", "-7e0"),
        ("-0", "0"),
        ("0e999999", "0"),
        ("9007199254740993", "9007199254740993e0"),
        ("1e308", "1e308"),
        ("1.5E-7", "15e-8"),
        ("1e-400", "1e-400"),
        ("99999999999999999999999999999999999999", "99999999999999999999999999999999999999e0"),
    ] {
        assert_eq!(parsed(number).as_deref(), Some(expected), "{number}");
    }
    let long = "1".repeat(10_000);
    for number in ["999999999999999999999999999999999999999", &long, &format!("0.{long}"), "1e-401", "1e401"] {
        assert_eq!(parsed(number), None, "{number}");
    }
    for number in ["1e99999999999", "1e-99999999999", "NaN", "Infinity", "-Infinity", ""] {
        assert_eq!(parsed(number), None, "{number}");
    }
    let zeros = "0".repeat(10_000);
    assert_eq!(parsed(&format!("{zeros}1.5{zeros}")).as_deref(), Some("15e-1"));
    assert_eq!(parsed(&format!("0.{zeros}1")), None, "its digit is beyond the powers of ten");
}
