//! Bytes as hexadecimal digits.

/// Formats bytes as lower-case digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parses digits of either case; `None` for any other text.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits?;
    (digits.len() % 2 == 0).then(|| digits.chunks_exact(2).map(|pair| (pair[0] << 4) | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_return_from_their_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert!(hex(&bytes).starts_with("000102") && hex(&bytes).ends_with("fdfeff"));
        assert_eq!(unhex(&hex(&bytes)).unwrap(), bytes);
        assert_eq!(unhex("0aF").or(unhex("0g")), None);
        assert_eq!(unhex("0AfF").unwrap(), [10, 255]);
    }
}
