//! The hint in the error about a misspelled name: the nearest known name, or all known names.

use strsim::levenshtein;

/// Maximum number of edits between a name and the known name that is proposed for it. It is also at most half the
/// length of the name, rounded up.
pub const EDITS_MAX: usize = 3;

/// Returns the hint for an unknown name: the nearest of the known ones, or all of them.
pub fn hint(name: &str, known: &[&str], separator: &str) -> String {
    match known.iter().min_by_key(|known| levenshtein(name, known)) {
        Some(nearest) if levenshtein(name, nearest) <= EDITS_MAX.min(name.len().div_ceil(2)) => {
            format!("did you mean {nearest}?")
        }
        _ => format!("expected one of {}", known.join(separator)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_within_three_edits_is_proposed() {
        let known = ["interval", "url", "user"];
        assert_eq!(hint("intervall", &known, " "), "did you mean interval?");
        assert_eq!(hint("usr", &known, " "), "did you mean user?");
        assert_eq!(hint("something", &known, ", "), "expected one of interval, url, user");
        assert_eq!(hint("zz", &known, " "), "expected one of interval url user");
        assert_eq!(hint("x", &[], " "), "expected one of ");
    }
}
