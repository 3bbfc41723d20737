//! Names that programs give to the files of a rotated log.

use std::cmp::Reverse;

/// Suffixes of compressed files.
const PACKED: [&[u8]; 2] = [b".gz", b".zst"];
/// Suffixes without a number or a date.
const WORDS: [&[u8]; 3] = [b".old", b".bak", b"~"];
/// The most digits of a number of a generation; more are a date.
const GENERATION_DIGITS: usize = 4;

/// The age of a file by its name: the older one is less. Generations are numbered from the youngest one on, dates from the oldest one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(Reverse<u32>, Vec<u8>);

/// Returns the age of a file with the name `found`, if it is one that a rotation gives to the file `name`: a number, a date or `.old`
/// behind it or before its extension, compressed or not.
pub fn age(name: &[u8], found: &[u8]) -> Option<Age> {
    let packed = PACKED.iter().find_map(|suffix| found.strip_suffix(*suffix));
    let bare = packed.unwrap_or(found);
    if bare == name {
        return packed.map(|bare| Age(Reverse(0), bare.to_owned()));
    }
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0).unwrap_or(name.len());
    let (stem, extension) = name.split_at(dot);
    let behind = bare.strip_prefix(name).filter(|part| is_part(part));
    let within = || bare.strip_prefix(stem)?.strip_suffix(extension).filter(|part| is_part(part));
    let part = behind.or_else(within)?;
    let digits: Vec<u8> = part.iter().copied().filter(u8::is_ascii_digit).collect();
    let is_generation = digits.len() <= GENERATION_DIGITS;
    let number = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
    Some(Age(Reverse(number.filter(|_| is_generation).unwrap_or(0)), bare.to_owned()))
}

/// Whether a name is that of the compressed file `found` without its suffix.
pub fn is_unpacked(name: &[u8], found: &[u8]) -> bool {
    PACKED.iter().any(|suffix| found.strip_suffix(*suffix) == Some(name))
}

/// Whether a part of a name is a number, a date, or a word such as `.old`.
fn is_part(part: &[u8]) -> bool {
    let is_separator = |byte: &u8| b"._-".contains(byte);
    let is_of_date = |byte: &u8| byte.is_ascii_digit() || b"._-:+TZ".contains(byte);
    WORDS.contains(&part)
        || part.first().is_some_and(is_separator) && part.iter().all(is_of_date) && part.iter().any(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_rotation_are_known_by_their_names_and_no_others() {
        for found in [
            "app.log.1",
            "app.log.12.gz",
            "app.log-20260101",
            "app.log-20260101-1767225600.zst",
            "app.log.2026-01-01",
            "app.log.gz",
            "app.log.2026-01-01T10:00:00Z",
            "app-20260101.log",
            "app.1.log",
            "app.2026-01-01.3.log.gz",
            "app.log.old",
            "app.log~",
        ] {
            assert!(age(b"app.log", found.as_bytes()).is_some(), "{found}");
        }
        for found in [
            "app.log",
            "app-error.log",
            "app.log.error",
            "app.log1",
            "application.log",
            "app.log.",
            "app2.log",
            "app.log.swp",
            "b.log.1",
            "app.log.1.bz2",
            "app.log.1.part",
            "apo.1.log",
            "app.1.txt",
        ] {
            assert_eq!(age(b"app.log", found.as_bytes()), None, "{found}");
        }
        assert!(age(b"log", b"log.1").is_some() && age(b".log", b".log.1").is_some());
        assert!(is_unpacked(b"app.log.1", b"app.log.1.gz") && !is_unpacked(b"app.log", b"app.log.1.gz"));
    }

    #[test]
    fn great_numbers_and_early_dates_are_old() {
        for (old, young) in [
            ("app.log.10.gz", "app.log.9.gz"),
            ("app.log.2", "app.log.1"),
            ("app.log-20251231", "app.log-20260101"),
            ("app.log.2026-01-01_09", "app.log.2026-01-01_10.gz"),
        ] {
            assert!(age(b"app.log", old.as_bytes()) < age(b"app.log", young.as_bytes()), "{old} {young}");
        }
    }
}
