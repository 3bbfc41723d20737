//! Numbers of bytes: `10B`, `64KiB`, `1MiB`, `10GiB`; a unit is required.

const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
/// Maximum size of a buffer.
const BUFFER_MAX: usize = 1 << 30;

/// Minimum bound of the state in memory.
const MEMORY_LEAST: usize = 8 << 20;

/// Parses a number of bytes on a disk.
pub fn parse(text: &str) -> Result<u64, String> {
    let unit = UNITS.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)));
    let (number, scale) = unit.ok_or_else(|| "expected a size with a unit: B KiB MiB GiB".to_owned())?;
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*scale))
        .ok_or_else(|| "expected a size like 64KiB".to_owned())
}

/// Parses a number of bytes in memory, up to `1GiB`.
pub fn parse_buffer(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(parse(text)?).ok();
    bytes
        .filter(|bytes| (1..=BUFFER_MAX).contains(bytes))
        .ok_or_else(|| "expected a size between 1B and 1GiB".to_owned())
}

/// Parses a bound of the state in memory, from `8MiB`.
pub fn parse_memory(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(parse(text)?).ok();
    bytes.filter(|bytes| *bytes >= MEMORY_LEAST).ok_or_else(|| "expected a size of at least 8MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_and_fits() {
        assert_eq!((parse("10B"), parse("64KiB"), parse("3GiB")), (Ok(10), Ok(64 << 10), Ok(3 << 30)));
        for text in ["", "B", "10", "10kB", "-1B", "1.5MiB", "99999999999GiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!((parse_memory("8MiB"), parse_memory("8388607B").is_err()), (Ok(8 << 20), true));
        assert_eq!(
            (parse_buffer("1GiB"), parse_buffer("2GiB").is_err(), parse_buffer("0B").is_err()),
            (Ok(1 << 30), true, true)
        );
    }
}
